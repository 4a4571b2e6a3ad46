"""Programs give what eager calls give: several answers, models, trainings, layouts, threads, memory."""

import gc
import itertools
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import profiles
import pytest
from surroundings import Thing, assert_close, measured, tensor
from test_compile import X, Y, network, weighted

import minigrad as mg
from minigrad import nn
from minigrad.compiler.program import Execution
from minigrad.state import load_state_dict, state_dict
from minigrad.trees import leaves

# ------------------------------------------------------------------------------------------------- several answers


OUTPUTS: dict[str, Callable[..., Any]] = {
    "a tuple": lambda p: lambda x, y: (np.sin(x) * p, np.exp(x * y)),
    "a list": lambda p: lambda x, y: [x**2 @ y, np.sum(np.cos(x) * p)],
    "a dict": lambda p: lambda x, y: {"loss": np.sum(np.tanh(x * y) ** 2), "parts": {"a": x**3, "b": [p * y]}},
    "several numbers": lambda p: lambda x, y: (np.sum(x**2 * y), np.mean(np.sin(x) * p), np.max(x * y)),
    "several shapes": lambda p: lambda x, y: (np.sum(x**2, 0), np.sum(x**3, 1), x.T * x[0, 0], x[None, 1:] * p),
    "several dtypes": lambda p: lambda x, y: (np.sin(x).astype(np.float32), x * y, np.sum(p * x**2).astype(np.float32)),
    "others and constants": lambda p: lambda x, y: (np.argmax(x), x**2 * p, x > 0, 3.0, None, "word", np.sin(y)),
    "one of the other": lambda p: lambda x, y: (z := np.exp(x), z * y, (z * p).T),
    "views of one another": lambda p: lambda x, y: (z := np.sin(x) * p, z.T, z[0]),
    "one twice": lambda p: lambda x, y: [z := np.sin(x) * y, p * 2, z],
    "an input and a parameter": lambda p: lambda x, y: (x, p, x**2 * y),
    "of other inputs": lambda p: lambda x, y: (np.sin(x), np.cos(y), p**2),
}


def tracked(answer: Any) -> list[mg.Tensor]:
    return [leaf for leaf in leaves(answer) if isinstance(leaf, mg.Tensor) and leaf.requires_grad]


def total(answers: list[Any]) -> Any:
    return weighted(lambda: [np.sin(answer) for answer in answers])()


def twice(answers: list[Any]) -> None:
    both = total(answers)
    both.backward(retain_graph=True)
    both.backward()


def apart(answers: list[Any]) -> None:
    for answer in answers:
        total([answer]).backward(retain_graph=True)


ONCE: dict[str, Callable[..., Any]] = {
    "all": lambda answers: total(answers).backward(),
    "the first": lambda answers: total(answers[:1]).backward(),
    "the last": lambda answers: total(answers[-1:]).backward(),
}
WALKS = {**ONCE, "all twice": twice, "each apart": apart}


@pytest.mark.parametrize(("name", "walk"), profiles.some([*itertools.product(OUTPUTS, WALKS)], 2))
def test_gradients_of_several_answers(name: str, walk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    again, interpreted = [], Execution.interpreted
    counted = lambda *args, **kwargs: (again.append(1), interpreted(*args, **kwargs))[1]
    monkeypatch.setattr(Execution, "interpreted", counted)
    p = tensor([1.0, 2.0, 3.0])
    f = OUTPUTS[name](p)
    compiled = mg.compile(f)
    for step in range(4):
        found, wanted = [], []
        for g, kept in ((compiled, found), (f, wanted)):
            given = tensor(np.arange(6.0).reshape(2, 3) / 5 + step), tensor([0.5, -1.0, 2.0]), p
            p.grad = None
            answer = g(*given[:2])
            WALKS[walk](tracked(answer))
            kept += [(x.data, x.requires_grad) if isinstance(x, mg.Tensor) else x for x in leaves(answer)]
            kept += [np.zeros(t.shape) if t.grad is None else t.grad for t in given]
        assert_close(found, wanted, 1e-6)
    assert compiled.traces == 1
    assert not (again and walk in ONCE), "the calls were made again"


def test_the_gradient_is_zero_where_an_answer_depends_on_something_else() -> None:
    x, y, p, q = (tensor([0.5, 1.5]) for _ in range(4))
    compiled = mg.compile(lambda x, y: (np.sum(x * p), np.sum(y * q)))
    compiled(x, y)[0].backward()
    for one, other in ((x, p), (p, x)):
        np.testing.assert_array_equal(one.grad, other.data)
    for one in (y, q):
        np.testing.assert_array_equal(one.grad, 0)


@pytest.mark.parametrize("name", OUTPUTS)
def test_second_derivatives_of_several_answers(name: str) -> None:
    f = OUTPUTS[name](tensor([1.0, 2.0, 3.0]))
    x, y = np.arange(6.0).reshape(2, 3) / 5, np.array([0.5, -1.0, 2.0])
    slope = lambda g: mg.grad(lambda x, y: total(tracked(g(x, y))))
    second = lambda g: mg.grad(lambda x: np.sum(np.sin(slope(g)(x, y))))
    compiled = mg.compile(f)
    for _ in range(2):
        assert_close(second(compiled)(x), second(f)(x), 1e-5)
        x = x + 0.5


# ---------------------------------------------------------------------------------------------------------- models


def dropping() -> nn.Sequential:
    model = network(3, 4, 2)
    model.insert(2, nn.Dropout(0.5, rng=np.random.default_rng(1)))
    return model


def ids(tensors: list[mg.Tensor]) -> list[int]:
    return [id(tensor) for tensor in tensors]


def test_a_compiled_model_has_the_tensors_of_the_model() -> None:
    model = dropping()
    compiled = mg.compile(model)
    for _ in range(2):
        assert ids(nn.parameters(compiled)) == ids(compiled.parameters()) == ids(model.parameters())
        named = [(name, id(p)) for name, p in model.named_parameters()]
        assert [(name, id(p)) for name, p in nn.named_parameters(compiled)] == named
        assert [(name, id(p)) for name, p in compiled.named_parameters()] == named
        for state in (state_dict(compiled), compiled.state_dict()):
            assert list(state) == list(model.state_dict()) == ["0.weight", "0.bias", "3.weight", "3.bias"]
            assert_close(state, model.state_dict())
        np.sum(compiled(X)).backward()
    compiled.load_state_dict({name: array + 1 for name, array in state.items()})
    assert_close(model.state_dict(), {name: array + 1 for name, array in state.items()})
    load_state_dict(compiled, state)
    assert_close(model.state_dict(), state)


def test_a_compiled_model_changes_the_mode_of_the_model() -> None:
    model, twin = dropping(), dropping()
    compiled = mg.compile(model)
    for _ in range(2):
        for mode in ("eval", "train"):
            assert_close(getattr(compiled, mode)()(X).data, getattr(twin, mode)()(X).data, 1e-6)
            assert [layer.training for layer in model if isinstance(layer, nn.Module)] == [mode == "train"] * 5
            assert_close(compiled(X).data, twin(X).data, 1e-6)


def test_a_compiled_model_is_a_layer() -> None:
    model, twin = dropping(), dropping()
    outer, plain = nn.Sequential(mg.compile(model), np.tanh), nn.Sequential(twin, np.tanh)
    for mode in ("eval", "train", "eval"):
        assert_close(getattr(outer, mode)()(X).data, getattr(plain, mode)()(X).data, 1e-6)
        assert model.training == model[2].training == (mode == "train")
        assert list(outer.state_dict()) == list(plain.state_dict())
        assert ids(outer.parameters()) == ids(model.parameters())


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("as_layer", [False, True])
def test_compiled_models_are_trained(compile: bool, as_layer: bool) -> None:
    def trained(wrap: Callable[..., Any], compile: bool) -> list[Any]:
        model = wrap(dropping())
        model = nn.Sequential(model, np.tanh) if as_layer else model
        optimizer = mg.optim.Adam(model.parameters(), lr=0.05)
        options: dict[str, Any] = {"epochs": 3, "batch_size": 3, "seed": 0, "progress": False, "validation": (X, Y)}
        history = mg.fit(model, nn.mse_loss, optimizer, (X, Y), compile=compile, **options)
        return [history, model.state_dict(), mg.predict(model, X), mg.evaluate(model, nn.mse_loss, (X, Y))]

    assert_close(trained(mg.compile, compile), trained(lambda model: model, False), 1e-4)


# --------------------------------------------------------------------------------------------------------- training


def passes(model: Any, loss: Any, optimizer: Any = None, steps: int = 3) -> None:
    """Some steps as one writes them, or, without an optimizer, gradients that add up."""
    for _ in range(steps):
        if optimizer:
            optimizer.zero_grad()
        loss(X, Y).backward()
        if optimizer:
            optimizer.step()


def with_more_afterwards(model: Any, loss: Any) -> None:
    passes(model, loss, mg.optim.Adam(model.parameters(), lr=0.1))
    passes(model, loss, steps=2)


def without_zero_grad(model: Any, loss: Any) -> None:
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        loss(X, Y).backward()
        optimizer.step()


def with_one_optimizer_after_the_other(model: Any, loss: Any) -> None:
    passes(model, loss, mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    passes(model, loss, mg.optim.Adam(model[2].parameters(), lr=0.1))
    passes(model, loss, mg.optim.SGD(model.parameters(), lr=0.1))


def with_two_optimizers(model: Any, loss: Any) -> None:
    optimizers = [mg.optim.Adam(model[i].parameters(), lr=0.1) for i in (0, 2)]
    for _ in range(3):
        for optimizer in optimizers:
            passes(model, loss, optimizer, steps=1)


def scaled_afterwards(model: Any, loss: Any) -> None:
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    for scale in (1, 0.5, 0.5, 1, 3):
        optimizer.zero_grad()
        (loss(X, Y) * scale + 1).backward()
        optimizer.step()


def in_parts(model: Any, loss: Any) -> None:
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        for x, y in zip(np.split(X, 4), np.split(Y, 4), strict=True):
            (loss(x, y) / 4).backward()
        mg.optim.clip_grad_norm(model.parameters(), 0.1)
        optimizer.step()


def with_the_sum_of_two(model: Any, loss: Any) -> None:
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (loss(X, Y) + loss(X + 1, Y) * 2).backward()
        optimizer.step()


SCRIPTS = [
    *(passes, with_more_afterwards, without_zero_grad, with_one_optimizer_after_the_other, with_two_optimizers),
    *(scaled_afterwards, in_parts, with_the_sum_of_two),
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_training_goes_as_without_a_program(script: Callable[..., None]) -> None:
    def trained(wrap: Callable[..., Any]) -> list[Any]:
        model = network(3, 4, 2)
        script(model, wrap(lambda x, y: nn.mse_loss(model(x), y)))
        return [(parameter.data, parameter.grad) for parameter in model.parameters()]

    assert_close(trained(mg.compile), trained(lambda f: f), 1e-5)


# ---------------------------------------------------------------------------------------------------------- hazards


def test_functions_that_call_themselves() -> None:
    def plain(x: Any, depth: int) -> Any:
        return x if depth == 0 else np.sin(plain(x, depth - 1) * x)

    @mg.compile
    def inside(x: Any, depth: int) -> Any:
        return x if depth == 0 else np.sin(inside(x, depth - 1) * x)

    for compiled in (mg.compile(plain), inside):
        for depth in (3, 0, 5, 3):
            found, wanted = (measured(lambda x, f=f, n=depth: weighted(f)(x, n), None) for f in (compiled, plain))
            assert_close(found, wanted)


def test_one_tensor_in_several_places() -> None:
    p = tensor([0.5, 1.5])
    f = lambda x, y: np.sum(x**2 * np.sin(y) * p)
    compiled, other = mg.compile(f), tensor([2.0, 3.0])
    for args in ((other, other), (p, other), (other, p), (p, p), (other, other)):
        grads = []
        for g in (compiled, f):
            p.grad = other.grad = None
            g(*args).backward()
            grads.append([p.grad, other.grad])
        assert_close(*grads)


def test_gradients_do_not_share_memory() -> None:
    p, q, x = (tensor(np.ones((2, 3))) for _ in range(3))
    compiled = mg.compile(lambda x: np.sum(p + q + x) + np.sum(p.T @ np.ones((2, 1))))
    compiled(x).backward()
    first = [t.grad for t in (p, q, x)]
    for a, b in itertools.combinations(first, 2):
        assert not np.shares_memory(a, b)
    for t in (p, q, x):
        t.grad = None
    first[0] += 5
    (compiled(x) * 3).backward()
    for kept, grad, number in zip(first, (p.grad, q.grad, x.grad), (7, 1, 1), strict=True):
        np.testing.assert_array_equal(kept, np.full((2, 3), number))
        np.testing.assert_array_equal(grad, np.full((2, 3), 6 if grad is p.grad else 3))


def test_a_parameter_that_is_only_transposed() -> None:
    p = tensor(np.arange(6.0).reshape(2, 3))
    f = lambda x: np.sum(np.tanh(x @ p.T) @ p.T.T)
    compiled = mg.compile(f)
    for x in (np.eye(3), np.ones((2, 3))):
        grads = []
        for g in (compiled, f):
            p.grad = None
            g(x).backward()
            grads.append(p.grad)
        assert_close(*grads)


B = np.linspace(-1, 1, 24).reshape(4, 6)
LAYOUTS: dict[str, Any] = {
    "Fortran order": np.asfortranarray(B),
    "strides": np.repeat(np.repeat(B, 2, 0), 3, 1)[::2, ::3],
    "backwards": B[::-1, ::-1].copy()[::-1, ::-1],
    "one row, broadcast": np.broadcast_to(B[0], (4, 6)),
    "not aligned": np.frombuffer(b"0" + B.tobytes(), offset=1).reshape(4, 6),
    "big endian": B.astype(">f8"),
    "float16": B.astype(np.float16),
    "float16, strides": np.repeat(B.astype(np.float16), 2, 0)[::2],
    "float32, big endian": B.astype(">f4"),
}


@pytest.mark.parametrize("role", ["input", "parameter", "array"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, role: str) -> None:
    def number(x: Any) -> Any:
        flat = np.ravel(np.sin(x)) * np.arange(24) / 20
        return np.sum(flat) + np.sum(np.reshape(x, (6, 4)).T ** 2) + np.sum(x[::2, 1:] * (x.T[1:, 1::2] * 2).T)

    laid_out = LAYOUTS[name]
    plain = np.array(laid_out / 2, laid_out.dtype, order="C")
    p, thing = tensor(plain), Thing()
    f = {"input": number, "parameter": lambda x: number(p) * np.sum(x), "array": lambda x: number(x * thing.factor)}[
        role
    ]
    compiled = mg.compile(f)
    for given in (plain, laid_out, plain, laid_out):
        p.data, thing.factor = given, given
        results = []
        for g in (compiled, f):
            p.grad, x = None, tensor(given if role == "input" else plain)
            answer = g(x)
            answer.backward()
            results.append([answer.data, x.grad, p.grad])
        assert_close(*results, {2: 0.05, 4: 1e-5, 8: 1e-12}[plain.itemsize])


def test_threads_trace_and_run_at_once() -> None:
    p, scale = tensor(np.linspace(0, 1, 8)), np.arange(8.0)
    f = lambda x: np.sum(np.tanh(x * p) ** 2 * scale)
    compiled = mg.compile(f)

    def work(n: int, g: Callable[..., Any]) -> list[Any]:
        x = np.linspace(-1, 1, 8 * n).reshape(n, 8)
        return [mg.value_and_grad(g)(x + i) for i in range(10)]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda n: work(n, compiled), [1, 2, 3, 1, 2, 3]))
    for n, found in zip([1, 2, 3, 1, 2, 3], together, strict=True):
        assert_close(found, work(n, f))


def test_calls_that_wait_for_their_backward_keep_no_memory_afterwards() -> None:
    model = network(3, 4, 2)
    eager = lambda x: nn.mse_loss(model(x), Y)
    compiled = mg.compile(eager)

    def train(f: Callable[..., Any], rounds: int, together: int) -> int:
        for _ in range(rounds):
            losses = [f(X) for _ in range(together)]
            for loss in losses[::2]:  # the others are never walked back
                loss.backward()
        del losses, loss
        return tracemalloc.get_traced_memory()[0]

    gc.disable()
    tracemalloc.start()
    try:
        [tuple(range(n)) for n in range(1, 20) for _ in range(2000)]  # Python keeps so many for the next ones
        many = profiles.scale(300, 1000)  # so many workspaces are more than 1 MB
        train(eager, 1, many)
        before = train(compiled, 1100, 1)
        assert train(compiled, profiles.scale(2, 20), many) - before < 100_000
    finally:
        tracemalloc.stop()
        gc.enable()


def test_arrays_that_are_always_the_same_are_the_callers() -> None:
    kept = np.ones(2)
    compiled = mg.compile(lambda x: (x * 2, np.zeros(3), kept))
    compiled(np.ones(2))[1][...] = 9
    assert_close(compiled(np.ones(2))[1], np.zeros(3))
    assert compiled(np.ones(2))[2] is kept


def test_a_loss_in_half_precision_that_is_scaled_afterwards() -> None:
    f = lambda x: np.sum(x.astype(np.float32) * 1e-3 * 1e-3 * 1e-3)
    grads = []
    for g in (f, mg.compile(f)):
        x = mg.Tensor(np.ones(2, np.float16), requires_grad=True)
        (g(x) * 2**16).backward()
        grads.append(x.grad)
    np.testing.assert_array_equal(*grads)


def test_a_nan_that_was_not_chosen_and_does_not_show() -> None:
    slope = mg.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))
    f = lambda x: np.where(slope(x) >= 0, 1.0, -1.0)
    np.testing.assert_array_equal(mg.compile(f)(np.array([0.0, 1.0])), [1, 1])


def test_a_random_layer_in_a_compiled_function_in_another() -> None:
    drop = nn.Dropout(0.5, rng=np.random.default_rng(0))
    inner = mg.compile(lambda x: drop(x))
    total = mg.compile(lambda x: np.sum(inner(x) ** 3))(x := tensor(np.ones(8)))
    total.backward(retain_graph=True)
    once = x.grad.copy()
    total.backward()
    np.testing.assert_array_equal(x.grad, 2 * once)


def test_a_result_that_is_closed_over() -> None:
    p = tensor([1.0, 2.0, 3.0])
    h = p * 2
    compiled = mg.compile(lambda x: np.sum(x * h))
    compiled(np.ones(3)).backward(retain_graph=True)
    assert_close(p.grad, np.full(3, 2.0))
    p.data = np.zeros(3)
    assert compiled(np.ones(3)).item() == 12


def test_changes_between_forward_and_backward() -> None:
    s, x = mg.Tensor(2.0), tensor([1.0, 2.0])
    y = mg.compile(lambda x: np.sum(s * x**3))(x)
    y.backward(retain_graph=True)
    s.data, x.grad = 5.0, None
    y.backward()
    assert_close(x.grad, 6 * x.data**2)  # eager raises, since it has kept the Tensor, and not its numbers
    p, q = tensor([1.0, 2.0]), tensor([3.0, 4.0])
    y = mg.compile(lambda: np.sum(p * q))()
    p.requires_grad = False  # which changes nothing for the call that was made
    y.backward()
    np.testing.assert_array_equal(p.grad, q.data)
    assert_close(q.grad, p.data)


def test_an_answer_that_nothing_depends_on_is_walked_back() -> None:
    y = mg.compile(lambda a: mg.grad(lambda z: np.sum(z**3))(a))(mg.Tensor([1.0, 2.0]))
    np.sum(y).backward()
    assert_close(y.data, np.array([3.0, 12.0]))
