"""With pure=True a function runs only to be traced, and the program uses the numbers as they are at each call."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from surroundings import Row, Scaled, Thing, assert_close, local, measured, module, sets, tensor, writes
from test_compile import network, weighted

import minigrad as mg
from minigrad import nn
from minigrad.compiler.record import TraceError

# ------------------------------------------------------------------------------------------- only numbers change

NUMBERS: dict[str, Row] = {
    "data of a parameter": (lambda: Scaled(2.0), lambda m: m, lambda m: sets(data=[3.0, 2.0, 1.0])(m.weight)),
    "data in place": (lambda: Scaled(2.0), lambda m: m, lambda m: writes(5.0)(m.weight.data)),
    "a Tensor that is not tracked": (
        *(lambda: mg.Tensor(np.ones(3)), lambda t: lambda x: x * t),
        *(sets(data=[1.0, 2.0, 3.0]), lambda t: writes(7.0)(t.data)),
    ),
    "an array in place": (lambda: np.ones(3), lambda a: lambda x: x * a, writes([1.0, 2.0, 3.0])),
    "an array of a list": (lambda: [np.ones(3)], lambda s: lambda x: x * s[0], lambda s: writes(2.0)(s[0])),
    "an array of an object": (lambda: Thing(factor=np.ones(3)), lambda t: t.scaled, lambda t: writes(2.0)(t.factor)),
    "an array of a class": (lambda: local(factor=np.ones(3)), lambda t: t.scaled, lambda t: writes(2.0)(t.factor)),
    "a global array": (lambda: module(factor=np.ones(3)), lambda m: m.scaled, lambda m: writes(2.0)(m.factor)),
    "a large array": (lambda: np.ones((3, 4000)), lambda a: lambda x: x @ a / 100, writes(2.0)),
    "a view": (lambda: np.ones((2, 3)), lambda a: (lambda row: lambda x: x * row)(a[1]), writes(2.0)),
    "a mask": (lambda: np.array([True, False, True]), lambda m: lambda x: np.where(m, x, 0), writes(True)),
    "an index": (lambda: np.array([2, 1, 0]), lambda i: lambda x: x[i] * [1, 2, 3], writes([0, 1, 1])),
    "a single number": (lambda: np.array(2.0), lambda a: lambda x: x * a, writes(3.0)),
    "an array in two ways": (lambda: np.ones(3), lambda a: lambda x: x * a + np.sin(x) / a, writes([1.0, 2.0, 3.0])),
    "a state": (
        *(lambda: network(3, 2), lambda m: lambda x: m(x)),
        lambda m: m.load_state_dict({name: array + 1 for name, array in m.state_dict().items()}),
    ),
    "gradients": (lambda: network(3, 2), lambda m: m, lambda m: sets(grad=np.ones(2))(m[0].bias)),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_may_change(name: str) -> None:
    make, use, *changes = NUMBERS[name]
    thing, runs = make(), Thing(count=0)
    f = use(thing)
    compiled = mg.compile(lambda x: (sets(count=runs.count + 1)(runs), f(x))[1], pure=True)
    for change in (lambda thing: None, *changes):
        change(thing)
        for _ in range(2):
            wanted = measured(weighted(f), thing)
            assert_close(measured(weighted(compiled), thing), wanted, 1e-6)
    assert compiled.traces == runs.count == 1


def test_parameters_of_which_only_gradients_are_read_are_noticed() -> None:
    """A program that moves a vector whose parts they are would miss what was assigned to them."""
    p, q = (mg.Tensor(np.zeros(3), requires_grad=True) for _ in range(2))
    step = mg.compile(mg.optim.SGD([p, q], lr=1.0).step, pure=True)
    for i in range(4):
        p.grad, q.grad = np.ones(3), np.ones(3)
        loss = np.sum(p * q)
        step()
        np.testing.assert_array_equal(p.data, [9.0 * i - 1] * 3)
        with pytest.raises(RuntimeError, match="changed"):
            loss.backward()
        if i < 3:
            p.data = p.data + 10.0


FORMS: dict[str, Row] = {  # what a program knows to be different without a run
    "a parameter that is frozen": (
        *(lambda: Scaled(2.0), lambda m: m),
        *(lambda m: sets(requires_grad=False)(m.weight), lambda m: sets(requires_grad=True)(m.weight)),
    ),
    "a number that the function has looked at": (
        *(lambda: mg.Tensor(2.0), lambda t: lambda x: x * float(t) if float(t) > 0 else -x),
        *(sets(data=3.0), sets(data=2.0), sets(data=-1.0)),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_a_program_depends_on_besides_is_traced_anew(name: str) -> None:
    make, use, *changes = FORMS[name]
    thing = make()
    f = use(thing)
    compiled = mg.compile(f, pure=True)
    for change in (lambda thing: None, *changes):
        change(thing)
        for _ in range(2):
            assert_close(measured(weighted(compiled), thing), measured(weighted(f), thing))
    assert compiled.traces == {"a parameter that is frozen": 2, "a number that the function has looked at": 3}[name]


def test_shapes_dtypes_and_modes_are_told_apart() -> None:
    compiled = mg.compile(lambda x: np.sum(x**2), pure=True)
    for x in (np.ones(3), np.ones(4), np.ones((2, 3)), np.ones(3, np.float32), np.ones(3)):
        assert compiled(x) == x.size
        assert isinstance(compiled(mg.Tensor(x)), mg.Tensor)
        assert compiled(tensor(x.astype(float))).requires_grad
        with mg.no_grad():
            assert not compiled(tensor(x.astype(float))).requires_grad


def test_arguments_that_are_no_arrays_are_told_apart() -> None:
    compiled = mg.compile(lambda x, k, kind="sin": getattr(np, kind)(x) * k, pure=True)
    for k, kind in itertools.product((1, 1.0, True, 2, -0.0, 0.0), ("sin", "cos")):
        np.testing.assert_array_equal(compiled(np.ones(2), k, kind=kind), getattr(np, kind)(np.ones(2)) * k)


def test_structures_of_arguments_are_told_apart() -> None:
    compiled = mg.compile(lambda x: x["a"] * 2 if isinstance(x, dict) else -x[0], pure=True)
    for _ in range(2):
        np.testing.assert_array_equal(compiled([np.ones(2)]), -1)
        np.testing.assert_array_equal(compiled({"a": np.ones(2)}), 2)


def test_a_pure_function_does_not_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    log: list[int] = []
    compiled = mg.compile(lambda x: (print("traced"), log.append(1), x * 2)[-1], pure=True)
    for i in range(4):
        np.testing.assert_array_equal(compiled(np.full(2, i)), np.full(2, 2 * i))
    assert capsys.readouterr().out == "traced\n"
    assert log == [1]


# ---------------------------------------------------------------------------------------------------- random numbers

DRAWN: dict[str, tuple[Callable[[], Any], Callable[[Any, Any], Any]]] = {
    "an array": (lambda: np.random.default_rng(0), lambda rng, x: x * mg.sample(rng.random, 3)),
    "two": (
        *(lambda: np.random.default_rng(0),),
        lambda rng, x: x * mg.sample(rng.random, 3) + mg.sample(rng.standard_normal, size=3),
    ),
    "integers that pick": (lambda: np.random.default_rng(0), lambda rng, x: x[mg.sample(rng.integers, 3, size=5)] * 2),
    "a number": (lambda: np.random.default_rng(0), lambda rng, x: x * mg.sample(rng.random)),
    "a dropout": (lambda: nn.Dropout(0.5, rng=np.random.default_rng(0)), lambda layer, x: layer(x)),
    "two dropouts of one generator": (
        lambda: (lambda rng: nn.Sequential(nn.Dropout(0.5, rng=rng), np.tanh, nn.Dropout(0.2, rng=rng)))(
            np.random.default_rng(0)
        ),
        lambda model, x: model(x),
    ),
}


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("name", DRAWN)
def test_samples_are_drawn_anew_as_in_eager(name: str, pure: bool) -> None:
    make, f = DRAWN[name]
    things = make(), make()
    compiled = mg.compile(lambda x: f(things[0], x), pure=pure)
    found = []
    for _ in range(5):
        found.append(measured(weighted(compiled), None))
        assert_close(found[-1], measured(weighted(lambda x: f(things[1], x)), None))
    assert compiled.traces == 1
    assert len(set(map(repr, found))) > 1


def test_the_gradient_of_a_pure_dropout_is_that_of_its_own_draw() -> None:
    layer = nn.Dropout(0.5, rng=np.random.default_rng(0))
    compiled = mg.compile(lambda x: layer(x), pure=True)
    x = tensor(np.ones(50))
    answers = [compiled(x) for _ in range(3)]
    for answer in answers:
        x.grad = None
        np.sum(answer).backward()
        np.testing.assert_array_equal(x.grad, answer.data)


# --------------------------------------------------------------------------------------------------- broken promises

BROKEN: dict[str, Row] = {
    "a float": (lambda: Thing(factor=2.0), lambda t: lambda x: np.sin(x) * t.factor, sets(factor=3.0)),
    "a function": (lambda: Thing(f=np.sin), lambda t: lambda x: t.f(x * 2), sets(f=np.cos)),
    "a mode": (lambda: Scaled(2.0), lambda m: lambda x: m(x), lambda m: m.eval()),
    "an option": (lambda: Thing(axis=0), lambda t: lambda x: np.sum(x[None] * [[1], [2]], axis=t.axis), sets(axis=1)),
    "a call more": (lambda: Thing(n=1), lambda t: lambda x: sum(np.sin(x) for _ in range(t.n)), sets(n=3)),
    "a call less": (lambda: Thing(n=3), lambda t: lambda x: sum(np.sin(x) for _ in range(t.n)), sets(n=1)),
    "a layer": (
        *(lambda: nn.Sequential(Scaled(2.0), np.tanh), lambda m: lambda x: m(x)),
        lambda m: m.__setitem__(1, np.sin),
    ),
    "a bias that comes": (
        lambda: Thing(b=None),
        lambda t: lambda x: x * 2 if t.b is None else x * 2 + t.b,
        sets(b=1.0),
    ),
    "a shape": (lambda: Thing(b=np.ones(3)), lambda t: lambda x: x * t.b, sets(b=np.ones((2, 3)))),
    "what is returned": (
        *(lambda: Thing(first=True), lambda t: lambda x: (y := np.sin(x), z := np.cos(x), y if t.first else z)[2]),
        sets(first=False),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_raises_under_debug(name: str) -> None:
    make, use, change = BROKEN[name]
    thing = make()
    compiled = mg.compile(use(thing), pure=True)
    x = mg.Tensor([0.5, -1.5, 2.5])
    before = compiled(x).data
    with mg.debug():
        np.testing.assert_allclose(compiled(x).data, before)
    change(thing)
    np.testing.assert_array_equal(compiled(x).data, before)  # as was promised
    with mg.debug(), pytest.raises(TraceError, match="pure=True") as caught:
        compiled(x)
    assert re.search(r"(test_pure|surroundings)\.py:\d+", str(caught.value))
    at_the_end = name in ("a call less", "what is returned")
    assert f"{'the end, or the answer,' if at_the_end else 'a call'} differs" in str(caught.value)


def test_a_kept_promise_is_silent_under_debug() -> None:
    rng = np.random.default_rng(0)
    layer, p, scale = nn.Dropout(0.5, rng=rng), tensor(np.ones(3)), np.ones(3)
    compiled = mg.compile(lambda x: np.sum(layer(x * p * scale) + mg.sample(rng.random, 3)), pure=True)
    for i in range(3):
        p.data, scale[...] = np.full(3, i), i
        compiled(np.ones(3))
        with mg.debug():
            compiled(np.ones(3))
    assert compiled.traces == 1


def test_a_pure_function_in_another_is_part_of_it() -> None:
    thing = Thing(factor=2.0)
    inner = mg.compile(lambda x: np.sin(x) * thing.factor, pure=True)
    outer = mg.compile(lambda x: inner(x) + 1)
    for thing.factor in (2.0, 3.0):
        np.testing.assert_array_equal(outer(np.ones(3)), np.sin(np.ones(3)) * thing.factor + 1)


def test_pure_programs_are_checkpointed_and_differentiated_twice() -> None:
    p = tensor([1.0, 2.0, 3.0])
    f = lambda x: np.sum(np.sin(x * p) ** 2)
    compiled = mg.compile(f, pure=True)
    for x in (np.ones(3), np.arange(3.0)):
        assert_close(
            mg.grad(lambda x: np.sum(mg.grad(compiled)(x) ** 2))(x), mg.grad(lambda x: np.sum(mg.grad(f)(x) ** 2))(x)
        )
        assert_close(mg.grad(mg.checkpoint(compiled))(x), mg.grad(f)(x))
