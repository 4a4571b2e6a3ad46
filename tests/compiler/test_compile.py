"""Compiled functions give what eager ones give, whatever they are made of."""

import copy
import gc
import html
import itertools
import random
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import profiles
import pytest
from cases import arguments, in_every_dtype
from hypothesis import given, settings
from test_composites import cases as composite_cases
from test_linalg import cases as linalg_cases
from test_linalg import spellings
from test_rules import cases, elementwise

import minigrad as mg
from minigrad import nn
from minigrad.compiler import plan, source
from minigrad.compiler.record import TraceError
from minigrad.engine import name_of
from minigrad.testing import programs
from minigrad.trees import leaves

every_case = {**cases, **linalg_cases, **composite_cases, **spellings}


def weighted(f: Callable[..., Any]) -> Callable[..., Any]:
    """A number that depends on all that a function returns, in a way that is different for each."""

    def total(*args: Any) -> Any:
        answers = f(*args)
        answers = answers if isinstance(answers, (list, tuple)) else [answers]
        flat = [np.ravel(a) for a in answers]
        flat = [np.real(a) + np.imag(a) / 3 if np.iscomplexobj(a) else a for a in flat]
        parts = [a @ np.cos(np.arange(np.size(a))) for a in flat]
        return sum(parts[1:], parts[0])

    return total


def run(f: Callable[..., Any], args: list[Any]) -> tuple[np.ndarray, list[np.ndarray]]:
    tensors = [mg.Tensor(a, requires_grad=True) for a in args]
    answer = f(*tensors)
    answer.backward()
    return answer.data, [t.grad for t in tensors]


def assert_same(f: Callable[..., Any], args: list[Any], rounding: float = 16) -> None:
    """Value and gradients of a compiled function equal the eager ones, in the first call and in the next.

    They may differ by some roundings of the coarsest dtype that takes part, since sums are done in another order.
    """
    eps = max((np.finfo(a.dtype).eps for a in args if a.dtype.kind == "f"), default=0)
    compiled = mg.compile(f)
    with np.errstate(all="ignore"):
        for scale in (1, 1.01):
            given = [np.asarray(a * scale, a.dtype) for a in args]
            (value, gradients), (expected, wanted) = run(compiled, given), run(f, given)
            try:
                for a, b in zip([value, *gradients], [expected, *wanted], strict=True):
                    assert_equal_but_for_rounding(a, b, rounding * eps)
            except AssertionError:
                print(compiled.source)
                raise


def assert_equal_but_for_rounding(a: np.ndarray | None, b: np.ndarray | None, tolerance: float) -> None:
    if a is None or b is None:
        assert a is b
        return
    assert a.dtype == b.dtype
    tolerance = max(tolerance, 16 * np.finfo(b.dtype).eps)
    scale = np.max(np.abs(b), initial=1)  # of the numbers that are added up
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)


SHAPED_BY_NUMBERS = {np.linalg.lstsq, np.piecewise, np.trim_zeros, np.polymul, np.real_if_close}


@pytest.mark.parametrize("function", every_case, ids=name_of)
def test_every_row_of_the_tables(function: Callable[..., Any]) -> None:
    cases_of_it = every_case[function]
    for number, case in enumerate(profiles.scale(cases_of_it[:1], cases_of_it)):
        double_and_single = list(itertools.islice(in_every_dtype(arguments(case, 0)), 2))
        for args in profiles.scale(double_and_single[number % 2 :][:1], double_and_single):
            if function in SHAPED_BY_NUMBERS:
                with pytest.raises(TraceError, match=r"other numbers|np\.linalg\.pinv\(a\) @ b"):
                    mg.compile(case.function)(*map(mg.Tensor, args))
            else:
                try:
                    assert_same(weighted(case.function), args)
                except TypeError as error:  # order="A", which is refused, and has a test of its own
                    assert "goes by the memory of an array" in str(error)  # noqa: PT017


@settings(max_examples=profiles.scale(25, 1000))
@given(programs())
def test_random_programs(program: Any) -> None:
    assert_same(weighted(program), program.args)


def tiny_blocks(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test with arrays of three elements done in blocks, and all blocks on threads."""
    return mock.patch.object(plan, "LARGE", 2)(mock.patch.multiple(source, ROUND=3, THREADED=0)(test))


@tiny_blocks
@settings(max_examples=profiles.scale(25, 1000))
@given(programs())
def test_random_programs_in_blocks(program: Any) -> None:
    assert_same(weighted(program), program.args)


@tiny_blocks
@pytest.mark.parametrize("function", profiles.some(list(elementwise), 6), ids=name_of)
def test_elementwise_functions_in_blocks(function: Callable[..., Any]) -> None:
    for case in cases[function]:
        assert_same(weighted(lambda *args, case=case: case.function(*args) * 2), arguments(case, 0))


@pytest.mark.parametrize("threads", profiles.scale([2], [1, 2, 3]))
@pytest.mark.parametrize("shape", [(2**17 + 3,), (3, 2**16), (2**17, 2)])
def test_blocks_and_threads(shape: tuple[int, ...], threads: int) -> None:
    x, y = RNG.standard_normal(shape), RNG.standard_normal(shape[-1:])
    f = lambda x, y: np.sum(np.sin(x) * np.exp(-x * y) + np.tanh(x) / 2) + np.sum(np.cos(x) * y, axis=0).mean()
    both = mg.compile(mg.value_and_grad(f, (0, 1)), threads=threads)
    for scale in (1.0, 1.5):
        (value, (dx, dy)), (expected, (wx, wy)) = both(x * scale, y), mg.value_and_grad(f, (0, 1))(x * scale, y)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(dx, wx, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(dy, wy, rtol=1e-9, atol=1e-9)
    assert ("in_threads" in both.source) == (threads > 1)
    apart = mg.compile(f, threads=threads)
    tensors = [mg.Tensor(a, requires_grad=True) for a in (x, y)]
    apart(*tensors).backward()
    np.testing.assert_allclose(tensors[0].grad, mg.grad(f)(x, y), rtol=1e-13, atol=1e-13)


def test_threads_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        mg.compile(np.sin, threads=0)


# ------------------------------------------------------------------------------------------------------ in practice


def network(*sizes: int, seed: int = 0) -> nn.Sequential:
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        *(layer for n, m in itertools.pairwise(sizes) for layer in (nn.Linear(n, m, rng=rng), nn.Tanh()))
    )


def gradients(tensors: list[mg.Tensor]) -> list[Any]:
    found = [tensor.grad for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
    return found


RNG = np.random.default_rng(0)
X, Y = RNG.random((8, 3), np.float32), RNG.random((8, 2), np.float32)
LABELS = RNG.integers(0, 2, 8)
RNG_TABLE = RNG.random((3, 100), np.float32)
LOSSES = {
    "mse": lambda model: lambda x: nn.mse_loss(model(x), Y),
    "l1": lambda model: lambda x: nn.l1_loss(model(x), Y),
    "huber": lambda model: lambda x: nn.huber_loss(model(x), Y),
    "log": lambda model: lambda x: nn.log_loss(nn.sigmoid(model(x)), Y),
    "logits": lambda model: lambda x: nn.log_loss_with_logits(model(x), Y),
    "labels": lambda model: lambda x: nn.cross_entropy(model(x), LABELS),
    "soft": lambda model: lambda x: nn.cross_entropy(model(x), nn.softmax(Y)),
    **{
        activation.__name__: lambda model, activation=activation: lambda x: np.mean(activation(model(x)) * Y)
        for activation in (nn.relu, nn.leaky_relu, nn.softplus, nn.gelu, nn.softmax, nn.log_softmax, nn.sigmoid)
    },
}


@pytest.mark.parametrize("name", LOSSES)
def test_layers_and_losses(name: str) -> None:
    model = network(3, 4, 2)
    loss = LOSSES[name](model)
    compiled = mg.compile(loss)
    for x in (X, X + 1):
        expected = loss(x)
        expected.backward()
        wanted = gradients(model.parameters())
        answer = compiled(x)
        answer.backward()
        np.testing.assert_allclose(answer.data, expected.data, rtol=1e-6)
        for a, b in zip(gradients(model.parameters()), wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh_is_that_of_numpy_in_a_program(dtype: Any) -> None:
    x = np.linspace(-30, 30, 2001, dtype=dtype)
    both = lambda f: mg.vjp(f, x)
    (value, pull), (expected, wanted) = both(compiled := mg.compile(nn.tanh)), both(nn.tanh)
    assert "tanh(x)" in compiled.source
    np.testing.assert_array_max_ulp(value, expected, 8)  # each is within 4 of the right one
    slopes = pull(np.ones_like(x))[0], wanted(np.ones_like(x))[0]
    np.testing.assert_allclose(*slopes, rtol=0, atol=4 * np.finfo(dtype).eps)  # 1 - value is as wrong as the value


def test_parameters_are_read_afresh() -> None:
    model = network(3, 2)
    compiled = mg.compile(lambda x: np.sum(model(x)))
    compiled(X)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.5)
    compiled(X).backward()
    optimizer.step()
    np.testing.assert_array_equal(compiled(X).data, np.sum(model(X)).data)
    model[0].weight.data = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(compiled(X).data, np.sum(model(X)).data)


def test_arrays_that_are_closed_over_are_read_afresh() -> None:
    scale = np.ones(3)
    compiled = mg.compile(lambda x: x * scale)
    np.testing.assert_array_equal(compiled(np.ones(3)), [1, 1, 1])
    scale[1] = 5
    np.testing.assert_array_equal(compiled(np.ones(3)), [1, 5, 1])


def test_variables_that_are_closed_over_are_read_afresh() -> None:
    scale, factor = np.ones(3), 2.0
    compiled = mg.compile(lambda x: x * scale * factor)
    np.testing.assert_array_equal(compiled(np.ones(3)), [2, 2, 2])
    scale = np.full(3, 4.0)
    np.testing.assert_array_equal(compiled(np.ones(3)), [8, 8, 8])
    factor = 0.5
    np.testing.assert_array_equal(compiled(np.ones(3)), [2, 2, 2])


def test_a_parameter_changed_before_backward_raises() -> None:
    model = network(3, 2)
    total = mg.compile(lambda x: np.sum(model(x)))(X)
    model[0].weight.data = model[0].weight.data + 1
    with pytest.raises(RuntimeError, match="has been changed"):
        total.backward()


def test_arrays_in_arrays_out() -> None:
    answer = mg.compile(lambda x: np.sin(x) + 1)(np.zeros(2))
    assert type(answer) is np.ndarray
    value, gradient = mg.compile(mg.value_and_grad(lambda x: np.sum(x**2)))(np.array([1.0, 2.0]))
    assert type(gradient) is np.ndarray
    assert value == 5
    np.testing.assert_array_equal(gradient, [2, 4])


def test_it_composes_with_what_is_not_compiled() -> None:
    inner = mg.compile(lambda x: np.sin(x) * x)
    x = np.array([0.5, 1.5])
    f = lambda g: lambda x: np.sum(np.exp(g(x * 2)) / 3)
    plain = lambda x: np.sin(x) * x
    np.testing.assert_allclose(mg.grad(f(inner))(x), mg.grad(f(plain))(x), rtol=1e-14)
    np.testing.assert_allclose(mg.hessian(f(inner))(x), mg.hessian(f(plain))(x), rtol=1e-13)
    np.testing.assert_allclose(mg.compile(f(inner))(x), f(plain)(x), rtol=1e-14)
    np.testing.assert_allclose(mg.grad(mg.checkpoint(f(inner)))(x), mg.grad(f(plain))(x), rtol=1e-14)
    third = mg.grad(mg.grad(mg.grad(mg.compile(np.sin))))
    np.testing.assert_allclose(third(0.3), -np.cos(0.3))
    with mg.no_grad():
        assert not inner(mg.Tensor(x, requires_grad=True)).requires_grad


class Scale:
    def __init__(self, factor: float) -> None:
        self.factor = mg.Tensor(factor, requires_grad=True)

    @mg.compile
    def __call__(self, x: Any) -> Any:
        return x * self.factor


def test_things_that_are_no_arrays_are_told_apart() -> None:
    compiled = mg.compile(lambda scale, x: scale.factor * x)
    for factor in (1.0, 2.0, 3.0):
        assert compiled(Scale(factor), 5.0 * np.ones(())).item() == 5 * factor
        assert Scale(factor)(np.ones(())).item() == factor
    sign = mg.compile(lambda x, k: np.copysign(x, k))
    assert [sign(np.ones(()), k).item() for k in (0.0, -0.0)] == [1, -1]


def test_what_has_no_derivative_comes_out_as_an_array() -> None:
    p = mg.Tensor([1.0, -1.0], requires_grad=True)
    above, place = mg.compile(lambda x: (x * p > 0, np.argmax(x * p)))(np.ones(2))
    assert not isinstance(above, mg.Tensor)
    np.testing.assert_array_equal(above, [True, False])
    assert place == 0


def test_scales_that_are_not_joined() -> None:
    compiled = mg.compile(lambda x: 2.0**1000 * (2.0**1000 * x))
    assert compiled(np.zeros(())) == 0
    assert mg.compile(lambda x: (x * 3) * 0.5)(np.int8([100])).tolist() == ((np.int8([100]) * 3) * 0.5).tolist()


def test_a_loss_that_is_scaled_afterwards() -> None:
    compiled = mg.compile(lambda x: np.sum(x**3))
    for factor in (2.0, 2.0, 1.0, 5.0):
        x = mg.Tensor([1.0, 2.0], requires_grad=True)
        (compiled(x) * factor).backward()
        np.testing.assert_array_equal(x.grad, factor * np.array([3.0, 12.0]))


def test_dropout_draws_what_eager_draws() -> None:
    def drops(compiled: bool) -> list[np.ndarray]:
        layer = nn.Dropout(0.5, rng=np.random.default_rng(1))
        f = mg.compile(layer) if compiled else layer
        first = [f(X) for _ in range(3)]
        layer.eval()
        second = f(X)
        layer.train()
        return [*first, second, f(X)]

    for a, b in zip(drops(True), drops(False), strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_of_dropout_belong_to_its_own_draw() -> None:
    layer = nn.Dropout(0.5, rng=np.random.default_rng(1))
    compiled = mg.compile(lambda x: np.sum(layer(x) ** 2))
    for retain in (False, True, False):
        x = mg.Tensor(np.ones(50), requires_grad=True)
        total = compiled(x)
        total.backward(retain_graph=retain)
        assert np.isclose(np.sum(x.grad) / 2, total.item())
        if retain:
            total.backward()
            assert np.isclose(np.sum(x.grad) / 4, total.item())


def test_frozen_parameters_are_part_of_the_signature() -> None:
    model = network(3, 2)
    compiled = mg.compile(lambda x: np.sum(model(x)))
    compiled(X).backward()
    gradients(model.parameters())
    weight, bias = model[0].weight, model[0].bias
    weight.requires_grad = False
    compiled(X).backward()
    assert weight.grad is None
    assert bias.grad is not None


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x if x > 0 else -x,
        lambda x: x * float(x),
        lambda x: x * np.asarray(x),
        lambda x: x * x.item(),
        lambda x: x * int(x),
        lambda x: np.arange(3)[x.astype(int)],
        lambda x: x.reshape(1)[x.reshape(1) > 0],
        lambda x: x * x.tolist(),
        lambda x: x * len(np.nonzero(x)),
    ],
)
def test_looking_at_numbers_is_refused(look: Callable[..., Any]) -> None:
    with pytest.raises(TraceError, match=r"test_compile\.py:\d+, `lambda x: .*other numbers, too"):
        mg.compile(look)(mg.Tensor(1.0))


def test_a_branch_that_was_not_chosen_contributes_nothing() -> None:
    f = lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(mg.compile(mg.grad(f))(np.array([0.0, 4.0])), [0, 0.25])
        x = mg.Tensor([0.0, 4.0], requires_grad=True)
        mg.compile(f)(x).backward()
    np.testing.assert_array_equal(x.grad, [0, 0.25])


# ---------------------------------------------------------------------------------------------------------- hazards

A = np.array([[1.0, 2.0], [3.0, 4.0]])
HAZARDS = {
    "one array twice": (lambda x, y: np.sum(x * y + x), [A, A]),
    "an output that is an input": (lambda x: x, [A]),
    "an output that is a view": (lambda x: x.T, [A]),
    "views of one another": (lambda x: [y := np.sin(x), y.T, y[0]], [A]),
    "an output twice": (lambda x: [y := np.exp(x), y], [A]),
    "an input that is not used": (lambda x, y: np.sum(x), [A, A]),
    "nothing in it": (lambda x: np.sum(x), [np.zeros((0, 3))]),
    "no axes": (lambda x: np.sin(x) * x, [np.array(2.0)]),
    "strides": (lambda x: np.sum(np.sin(x).reshape(4) * np.arange(4)), [np.arange(16.0).reshape(4, 4)[::2, 1::2]]),
    "Fortran order": (lambda x: np.sum(np.ravel(x * 2) * np.arange(4) @ np.ones(4)), [np.asfortranarray(A)]),
    "big endian": (lambda x: np.sum(np.sin(x) @ x), [A.astype(">f8")]),
    "float16": (lambda x, y: np.sum(x * y), [A.astype(np.float16), A.astype(np.float32)]),
    "a transpose that is added": (lambda x: np.sum((np.sin(x) + np.sin(x).T) ** 2 * x), [A]),
    "a transpose of what dies": (lambda x: (y := np.exp(x)) * (y * 2).T - y, [A]),
    "a constant": (lambda x: [np.sum(x), 3.0, None], [A]),
    "a structure": (lambda x: {"a": np.sum(x), "b": (x * 2, [x])}, [A]),
    "a broadcast that is summed": (lambda x: np.sum(np.broadcast_to(np.sum(x, 0), (3, 2)) * x[0]), [A]),
    "an integer power": (lambda x: np.sum(x**3 + 2**x), [A]),
}


@pytest.mark.parametrize("name", HAZARDS)
def test_hazards(name: str) -> None:
    f, args = HAZARDS[name]
    compiled = mg.compile(f)
    for _ in range(2):
        for array in args:
            array.flags.writeable = False
        kept = compiled(*args)
        frozen = copy.deepcopy(kept)
        compiled(*[np.asarray(a * 2, a.dtype) for a in args])
        assert repr(kept) == repr(frozen) == repr(f(*args))
    total = lambda *args: weighted(lambda *args: [x for x in leaves(f(*args)) if isinstance(x, mg.Tensor)])(*args)
    assert_same(total, args)


def test_integers_go_in() -> None:
    table = mg.Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    compiled = mg.compile(lambda places: np.sum(table[places] ** 2))
    for places in (np.array([0, 2, 2]), np.array([1, 1, 0])):
        compiled(places).backward()
        (gradient,) = gradients([table])
        np.testing.assert_array_equal(gradient, 2 * table.data * np.bincount(places, minlength=3)[:, None])


def test_two_forwards_before_the_first_backward() -> None:
    compiled = mg.compile(lambda x: np.sum(np.exp(np.sin(x))))
    x, y = (mg.Tensor(np.full(3, v), requires_grad=True) for v in (0.5, 1.5))
    first, second = compiled(x), compiled(y)
    first.backward()
    second.backward()
    for t in (x, y):
        np.testing.assert_allclose(t.grad, np.cos(t.data) * np.exp(np.sin(t.data)))


def test_an_error_midway_does_no_harm() -> None:
    compiled = mg.compile(lambda x: np.linalg.inv(np.exp(x) - 1))
    good = compiled(A)
    with pytest.raises(np.linalg.LinAlgError):
        compiled(np.zeros((2, 2)))
    np.testing.assert_array_equal(compiled(A), good)


def test_threads_share_a_compiled_function() -> None:
    compiled = mg.compile(lambda x: np.sum(np.tanh(x @ np.ones((50, 50))) ** 2))

    def work(seed: int) -> np.ndarray:
        x = mg.Tensor(np.random.default_rng(seed).random((50, 50)), requires_grad=True)
        for _ in range(20):
            x.grad = None
            compiled(x).backward()
        return x.grad

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, range(8)))
    for seed, gradient in enumerate(together):
        np.testing.assert_array_equal(gradient, work(seed))


def test_many_shapes_are_worth_a_warning_once() -> None:
    compiled = mg.compile(lambda x: np.sum(x))
    for n in range(16):
        compiled(np.ones(n))
    with pytest.warns(UserWarning, match="traced 16 times"):
        compiled(np.ones(16))
    for n in range(17, 40):
        compiled(np.ones(n))


# ------------------------------------------------------------------------------------------------------ the source


def test_a_notebook_shows_the_source() -> None:
    f = mg.compile(lambda x: np.where(x < 1, x, 2 * x))
    assert "not called yet" in f._repr_html_()
    f(np.ones(3))
    assert html.escape(f.source) in f._repr_html_()
    model = mg.compile(nn.Sequential(nn.Linear(2, 1)))
    model(np.ones((1, 2), np.float32))
    assert "workspace" in model._repr_html_()


def test_the_source_speaks_of_arguments_and_parameters() -> None:
    model = network(3, 2)

    def loss(images: Any, wanted: Any) -> Any:
        return nn.mse_loss(model(images), wanted)

    compiled = mg.compile(loss)
    with pytest.raises(RuntimeError, match="no program yet"):
        compiled.source  # noqa: B018
    compiled(X, Y).backward()
    source = compiled.source
    assert source.startswith('"""loss(images, wanted)"""')
    assert "def forward(buffers, images, wanted, model_0_weight, model_0_bias):" in source
    assert re.search(r"    images\.dot\(model_0_weight\.T, b0\) +# float32 \(8, 2\)\n", source)
    assert "def backward(buffers, saved, d_model_0_weight, d_model_0_bias):" in source
    namespace: dict[str, Any] = {}
    exec(source, namespace)  # it is complete: nothing in it needs minigrad
    outputs, _ = namespace["forward"](namespace["workspace"](), X, Y, *(p.data for p in model.parameters()))
    np.testing.assert_array_equal(outputs[0], loss(X, Y).data)


SAVED = {
    "a network": (network(3, 4, 2).eval(), [X]),
    "several answers": (lambda x: (np.sin(x), x @ np.ones((3, 3), np.float32)), [X]),
    "functions of minigrad": (lambda x, i: np.linalg.qr(x).R[i] + mg.put(np.sort(x), 0, np.median(x))[i], [X, LABELS]),
    "a large constant": (lambda x: x @ RNG_TABLE, [X]),
    "threads": (lambda x: np.sum(np.sin(x) * np.exp(-x * x) + np.tanh(x)), [np.linspace(-2, 2, 2**18 + 1)]),
    "a gradient": (mg.value_and_grad(lambda x: np.sum(nn.relu(x) * x)), [X]),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_program_runs_on_numpy_alone(name: str, tmp_path: Path) -> None:
    f, args = SAVED[name]
    compiled = mg.compile(f)
    expected = compiled(*args)
    compiled.save(tmp_path / "net.py")
    paths = [tmp_path / f"{i}.npy" for i in range(len(args))]
    for path, array in zip(paths, args, strict=True):
        np.save(path, array)
    expected = expected.data if isinstance(expected, mg.Tensor) else expected
    if name in profiles.some([*SAVED], 3):
        script = "import runpy, sys; sys.modules['minigrad'] = None; del sys.argv[0]; "
        script += "runpy.run_path(sys.argv[0], run_name='__main__')"
        command = [sys.executable, "-c", script, str(tmp_path / "net.py"), *map(str, paths)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert printed.strip() == str(expected)
    module = runpy.run_path(str(tmp_path / "net.py"))
    np.testing.assert_equal(module["predict"](*args), expected)
    with pytest.raises(ValueError, match="got one of shape"):
        module["predict"](*(np.ones((1, *a.shape), a.dtype) for a in args))


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    dropout = mg.compile(nn.Dropout(0.5, rng=np.random.default_rng(0)))
    dropout(X)
    with pytest.raises(ValueError, match="evaluation mode"):
        dropout.save(tmp_path / "net.py")
    sine = mg.compile(np.sin)
    sine(X)
    with pytest.raises(ValueError, match=r"such as net\.py"):
        sine.save(tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow() -> None:
    model = network(3, 4, 2)
    compiled = mg.compile(lambda x: nn.mse_loss(model(x), Y))

    def train(steps: int) -> int:
        for _ in range(steps):
            compiled(X).backward()
            compiled(X)  # never walked back
        return sys.getallocatedblocks()

    gc.disable()
    try:
        before = train(1100)  # after a thousand calls Python 3.10 gives code a cache
        assert train(profiles.scale(2000, 50_000)) - before < 100
    finally:
        gc.enable()


def test_a_compiled_function_says_what_it_is() -> None:
    assert repr(mg.compile(nn.Linear(2, 1, rng=0))) == "compile(Linear(2, 1))"
    assert repr(mg.compile(np.sin, pure=True)) == f"compile({np.sin!r}, pure=True)"


DRAWS: dict[str, tuple[Callable[[], None], Callable[[], float]]] = {
    "np.random": (lambda: np.random.seed(5), lambda: np.random.random()),  # noqa: NPY002 - that is what is tested
    "random": (lambda: random.seed(5), lambda: random.random()),
    "a generator": (lambda: GENERATOR.bit_generator.__setstate__(STATE), lambda: GENERATOR.random()),
}
GENERATOR = np.random.default_rng(5)
STATE = GENERATOR.bit_generator.__getstate__()


@pytest.mark.parametrize("name", DRAWS)
def test_other_threads_may_draw_while_a_function_is_compiled(name: str) -> None:
    """What they draw is what they would have drawn, and nothing that they do is taken for the function's own."""
    seed, draw = DRAWS[name]
    seed()
    drawn, done = list[float](), threading.Event()

    def go_on_drawing() -> None:
        while not done.is_set():
            drawn.append(draw())

    thread = threading.Thread(target=go_on_drawing)
    thread.start()
    try:
        for n in (1, 2, 3):
            f = mg.compile(lambda x: np.sum(np.sin(x) * x))
            for x in (np.ones(n), np.ones(n) * 2, np.ones(n + 1)):
                np.testing.assert_allclose(f(x), np.sum(np.sin(x) * x))
            assert f.traces == 2
    finally:
        done.set()
        thread.join()
    seed()
    assert drawn == [draw() for _ in drawn]
