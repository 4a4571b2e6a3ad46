"""Modes: what is shown to them, what they turn off, and that they end."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.engine import (
    Mode,
    Tensor,
    array_of,
    call,
    call_other,
    composites,
    grad_of,
    is_recording,
    mode,
    name_of,
    number_of,
    on,
    outside,
)


class Recorder(Mode):
    """Lists what it is shown: functions by name, and `walk`, `look`, `read ...` and `write ...`.

    Of a composite it shows the calls inside, too, if it `follows`.
    """

    def __init__(self, follows: bool = False) -> None:
        self.shown: list[str] = []
        self.follows = follows

    def call(self, go_on: Any, function: Any, args: Any, kwargs: Any) -> Any:
        self.shown.append(name_of(function).removeprefix("np."))
        if self.follows and go_on is call_other and function in composites:
            return composites[function](*args, **kwargs)
        return super().call(go_on, function, args, kwargs)

    def walk(self, *walk: Any) -> Any:
        self.shown.append("walk")
        return super().walk(*walk)

    def look(self, go_on: Any, tensor: Any) -> Any:
        self.shown.append("look")
        return super().look(go_on, tensor)

    def read(self, go_on: Any, tensor: Any) -> Any:
        self.shown.append({array_of: "read data", grad_of: "read grad", number_of: "read number"}[go_on])
        return super().read(go_on, tensor)

    def write(self, go_on: Any, *what: Any) -> Any:
        self.shown.append(f"write {go_on.__name__.removeprefix('set_')}")
        return super().write(go_on, *what)


def shown(f: Callable[[], Any], follows: bool = False) -> list[str]:
    """What a recorder is shown while a function runs."""
    recorder = Recorder(follows)
    with on(recorder):
        f()
    return recorder.shown


@pytest.fixture(autouse=True)
def none_left() -> Any:
    yield
    assert mode() is None
    assert is_recording()


class Scene:
    """Tensors to do things with: `x` and `m` require a gradient, `c` and `i` do not."""

    def __init__(self) -> None:
        self.x, self.m = Tensor(np.array([1.0, 2.0, 3.0]), True), Tensor(np.ones((2, 3)), True)
        self.c, self.i = Tensor(np.array([1.0, 2.0, 3.0])), Tensor(np.array([0, 1]))

    def moved(self) -> None:
        """`x -= 1` and the like, while nothing is recorded."""
        with mg.no_grad():
            self.x -= 1.0
            self.m *= 2.0

    def frozen(self) -> None:
        """What requires a gradient is changed twice; the second time nothing is."""
        for _ in range(2):
            self.x.requires_grad = False
            self.c.requires_grad = True

    def retained(self) -> Any:
        y = self.x * 2
        y.retain_grad()
        np.sum(y * self.c).backward()
        return y.grad

    def bound(self) -> None:
        """The same while calls are recorded: other tensors have the names."""
        self.x -= 1.0
        self.m *= 2.0


OPERATORS = ["add", "negative", "multiply", "divide", "remainder", "subtract"]
BACKWARD = ["walk", "write deposit"]  # of all gradients at once, however many leaves there are
MADE = ["read data"] * 3  # when an optimizer is made: the two parameters, and the vector of which they become parts
SHOWN: dict[str, tuple[Callable[[Scene], Any], list[str]]] = {
    # calls
    "operators": (lambda s: -(s.x + 1) * 2 / s.c - s.x % 2, OPERATORS),
    "reflected operators": (lambda s: 1 - (2 / s.x), ["divide", "subtract"]),
    "powers": (lambda s: (s.x**2, s.x**3, 2**s.x), ["square", "power", "power"]),
    "matmul": (lambda s: s.m @ s.c, ["matmul"]),
    "divmod": (lambda s: divmod(s.x, 2.0), ["floor_divide", "remainder"]),
    "a ufunc": (lambda s: np.exp(s.x), ["exp"]),
    "a ufunc of a constant tensor": (lambda s: np.exp(s.c), ["exp"]),
    "a function": (lambda s: np.concatenate([s.x, s.c]), ["concatenate"]),
    "a method": (lambda s: s.x.reshape(3, 1).T.astype(np.float32), ["reshape", "transpose", "astype"]),
    "composites": (lambda s: (np.mean(s.x), np.std(s.m, axis=0), np.outer(s.x, s.c)), ["mean", "std", "outer"]),
    "np.where": (lambda s: np.where([True, False, True], s.x, 0), ["where"]),
    "linalg": (lambda s: np.linalg.norm(s.x), ["linalg.norm"]),
    "constants": (lambda s: (s.x > 1, np.argmax(s.x), np.shape(s.x)), ["greater", "argmax", "shape"]),
    "getitem": (lambda s: (s.x[0], s.m[:, 1]), ["getitem", "getitem"]),
    "a tensor as an index": (lambda s: s.x[s.i], ["unrecorded", "getitem"]),
    "iteration": (lambda s: list(s.x), ["getitem"] * 3),
    "put": (lambda s: mg.put(s.x, 0, 5.0), ["put"]),
    "activations": (lambda s: (nn.tanh(s.x), nn.sigmoid(s.x), nn.relu(s.x)), ["tanh", "sigmoid", "relu"]),
    "a module": (lambda s: nn.Tanh()(s.x), ["tanh"]),
    "a loss": (lambda s: nn.mse_loss(s.x, s.c), ["mse_loss"]),
    "detach": (lambda s: s.x.detach(), ["unrecorded"]),
    "a checkpoint": (lambda s: mg.checkpoint(lambda x: np.sin(x) * 2)(s.x), ["checkpointed"]),
    "a sample": (lambda s: mg.sample(np.random.default_rng(0).random, 2), ["sampled"]),
    "arrays": (lambda s: (nn.tanh(np.ones(2)), np.ones(2) * 2), []),
    "shapes": (lambda s: (s.x.shape, len(s.x), s.x.ndim, s.x.requires_grad, hash(s.x)), []),
    # walks
    "backward": (lambda s: np.sum(s.x).backward(), ["sum", *BACKWARD]),
    "backward to two": (lambda s: np.sum(s.x * s.m).backward(), ["multiply", "sum", *BACKWARD]),
    "a retained gradient": (lambda s: s.retained(), ["multiply", "multiply", "sum", *BACKWARD, "read grad"]),
    "backward of a retained graph": (
        *(lambda s: [loss.backward(retain_graph=True) for loss in [np.sum(s.x)] * 2],),
        ["sum", *BACKWARD * 2],
    ),
    "grad": (
        lambda s: mg.grad(lambda a: np.sum(a * a))(np.ones(2)),
        ["argument", "multiply", "sum", "unrecorded", "walk"],
    ),
    # looks
    "item": (lambda s: s.c[0].item(), ["getitem", "look"]),
    "float": (lambda s: float(s.c[0]), ["getitem", "look"]),
    "int": (lambda s: int(s.c[0]), ["getitem", "look"]),
    "bool": (lambda s: bool(s.c[0]), ["getitem", "look"]),
    "an index of a list": (lambda s: [1, 2][Tensor(1)], ["look"]),
    "np.asarray": (lambda s: np.asarray(s.c), ["look"]),
    "tolist": (lambda s: s.x.tolist(), ["look"]),
    "the values of an iteration": (lambda s: [x.item() for x in s.x], ["getitem", "look"] * 3),
    "print": (lambda s: print(s.x), ["look"]),
    "repr": (lambda s: repr(s.c), ["look"]),
    "format": (lambda s: f"{s.c[0]:.2f}", ["getitem", "look"]),
    "in": (lambda s: 1.0 in s.c, ["look"]),
    "copy": (lambda s: copy.deepcopy(s.x), ["look", "read grad"]),
    "pickle": (lambda s: pickle.dumps(s.x), ["look", "read grad"]),
    # reads and writes
    "read data": (lambda s: s.x.data, ["read data"]),
    "read grad": (lambda s: s.x.grad, ["read grad"]),
    "write data": (lambda s: setattr(s.x, "data", [1, 2, 3]), ["write data"]),
    "write grad": (lambda s: setattr(s.x, "grad", np.ones(3)), ["write grad"]),
    "write no grad": (lambda s: setattr(s.x, "grad", None), ["write grad"]),
    "zero_grad": (lambda s: s.x.zero_grad(), ["write clear"]),
    "zero_grad of a module": (lambda s: nn.Linear(2, 1, rng=0).zero_grad(), ["write clear"]),
    "requires_grad": (lambda s: s.frozen(), ["write requires_grad"] * 2),
    "a new parameter": (lambda s: Tensor(np.ones(2), requires_grad=True), []),
    "in place, recorded": (lambda s: s.bound(), ["subtract", "multiply"]),
    "in place, not recorded": (lambda s: s.moved(), ["subtract", "write numbers", "multiply", "write numbers"]),
    "optimizer.zero_grad": (lambda s: mg.optim.SGD([s.x, s.m]).zero_grad(), [*MADE, "write clear"]),
    "optimizer.step": (lambda s: mg.optim.SGD([s.x, s.m]).step(), [*MADE, "moved_by"]),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown(name: str) -> None:
    act, expected = SHOWN[name]
    assert shown(lambda: act(Scene())) == expected


# A step is a composite: it reads and writes the numbers of the optimizer, then what is moved by the gradients.
MOVED = ["moved_by", "read number", "read number", "write numbers"]
FOLLOWED: dict[str, tuple[Callable[[Scene], Any], list[str]]] = {
    "np.mean": (lambda s: np.mean(s.x), ["mean", "sum", "divide"]),
    "np.clip": (lambda s: np.clip(s.x, 0, 1), ["clip", "maximum", "minimum"]),
    "a loss": (lambda s: nn.mse_loss(s.x, s.c), ["mse_loss", "subtract", "square", "mean", "sum", "divide"]),
    "a checkpoint": (
        *(lambda s: mg.checkpoint(lambda x: np.sin(x) * 2)(s.x),),
        ["checkpointed", "sin", "multiply", "unrecorded"],
    ),
    "optimizer.step": (
        *(lambda s: mg.optim.SGD([s.x, s.m]).step(),),
        [*MADE, *MOVED, "read data", "read grad", "read grad", "write numbers"],
    ),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_is_shown_of_composites_that_are_followed(name: str) -> None:
    act, expected = FOLLOWED[name]
    assert shown(lambda: act(Scene()), follows=True) == expected


@pytest.mark.parametrize("name", {**SHOWN, **FOLLOWED})
@pytest.mark.parametrize("follows", [False, True])
def test_a_mode_that_changes_nothing(name: str, follows: bool) -> None:
    """Answers, parameters and gradients are those without the mode."""
    scenes = [Scene(), Scene()]
    act, _ = SHOWN[name] if name in SHOWN else FOLLOWED[name]
    answers = [act(scenes[0])]
    with on(Recorder(follows)), on(Mode()):
        answers.append(act(scenes[1]))
    if name not in ("shapes", "pickle"):  # in which there are hashes of objects, and code
        assert repr(answers[0]) == repr(answers[1])
    for tensor in ("x", "m", "c"):
        one, other = (getattr(scene, tensor) for scene in scenes)
        np.testing.assert_array_equal(one.data, other.data)
        assert one.requires_grad == other.requires_grad
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            np.testing.assert_array_equal(one.grad, other.grad)


# ------------------------------------------------------------------------------------------------- a step of training


def training(optimizer: Callable[..., Any]) -> tuple[Any, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(3, 4, rng=rng), nn.Tanh(), nn.Linear(4, 1, rng=rng))
    moves = optimizer(model.parameters())

    def step() -> None:
        moves.zero_grad()
        loss = nn.mse_loss(model(np.ones((2, 3), np.float32)), np.ones((2, 1), np.float32))
        loss.backward()
        moves.step()

    return model, step


STEP = ["write clear", "inner", "add", "tanh", "inner", "add", "mse_loss", *BACKWARD, "moved_by"]


@pytest.mark.parametrize("optimizer", [mg.optim.SGD, mg.optim.Adam], ids=lambda kind: kind.__name__)
def test_a_step_of_training_looks_the_same_each_time(optimizer: Any) -> None:
    _, step = training(optimizer)
    assert [shown(step) for _ in range(3)] == [STEP] * 3
    followed = [shown(step, follows=True) for _ in range(3)]
    assert followed[1:] == followed[:-1]
    events = iter(followed[0])
    assert all(name in events for name in STEP), "not all of them, or in another order"
    moved = followed[0][followed[0].index("moved_by") :]
    assert moved[: len(MOVED)] == MOVED
    assert moved.count("read grad") == 4
    assert moved.count("write numbers") == {mg.optim.SGD: 2, mg.optim.Adam: 4}[optimizer]  # steps, p, and two moments


def test_a_step_moves_the_same_with_and_without_a_mode() -> None:
    (one, step), (other, same_step) = training(mg.optim.Adam), training(mg.optim.Adam)
    for _ in range(3):
        step()
        shown(same_step, follows=True)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        np.testing.assert_array_equal(a.grad, b.grad)


# --------------------------------------------------------------------------------------------- off, nested, and ended


def test_outside_turns_one_mode_off() -> None:
    inner, outer, x = Recorder(), Recorder(), Scene().x
    with on(outer):
        outside(lambda: x + 1)
        assert (outer.shown, mode()) == ([], outer)
        with on(inner):
            outside(lambda: x * 2)
            assert (inner.shown, outer.shown, mode()) == ([], ["multiply"], inner)
            outside(outside, lambda: x * 3)
            assert (inner.shown, outer.shown, mode()) == ([], ["multiply"], inner)
        with on(outer):  # once more, inside itself
            outside(lambda: (x - 3, None)[1])
            assert outer.shown.pop() == "subtract"
    outside(lambda: x * 4)
    assert outer.shown == ["multiply"]


def test_outside_turns_the_mode_on_again_after_an_error() -> None:
    recorder = Recorder()

    def fails() -> None:
        assert mode() is None
        raise KeyError

    with on(recorder):
        with pytest.raises(KeyError):
            outside(fails)
        assert mode() is recorder


def test_modes_stack() -> None:
    """The inner mode is shown a call first, and what it lets pass goes to the one around it."""
    order: list[str] = []

    class Named(Mode):
        def __init__(self, name: str) -> None:
            self.name = name

        def call(self, go_on: Any, function: Any, args: Any, kwargs: Any) -> Any:
            order.append(f"{self.name} {name_of(function)}")
            answer = outside(go_on, function, args, kwargs)
            order.append(f"{self.name} has it")
            return answer

    x = Scene().x
    with on(Named("a")), on(Named("b")):
        np.sin(x)
    assert order == ["b np.sin", "a np.sin", "a has it", "b has it"]


def test_an_answer_of_a_mode_is_the_answer() -> None:
    class Doubles(Mode):
        def call(self, go_on: Any, function: Any, args: Any, kwargs: Any) -> Any:
            return outside(lambda: call(function, args, kwargs) * 2)

        def look(self, go_on: Any, tensor: Any) -> Any:
            return np.array([7.0])

        def read(self, go_on: Any, tensor: Any) -> Any:
            return "read"

        def write(self, go_on: Any, *what: Any) -> None:
            """Nothing is written."""

    x = Tensor([3.0], requires_grad=True)
    with on(Doubles()):
        assert x.item() == 7
        assert x.data == x.grad == "read"
        x.data = [5.0]
        y = x + 1
    np.testing.assert_array_equal(x.data, [3])
    np.testing.assert_array_equal(y.data, [8])


class Fails(Mode):
    """Fails at whatever it is shown."""

    def call(self, *_: Any) -> Any:
        raise KeyError

    walk = look = read = write = call  # type: ignore[assignment]


@pytest.mark.parametrize("name", [name for name, (_, names) in SHOWN.items() if names])
def test_an_error_in_a_mode_leaves_none_on(name: str) -> None:
    with pytest.raises(KeyError), on(Fails()):
        SHOWN[name][0](Scene())
    assert mode() is None
    recorder = Recorder()
    with on(recorder):
        with pytest.raises(KeyError), on(Fails()):
            SHOWN[name][0](Scene())
        assert mode() is recorder


def test_an_error_of_numpy_leaves_none_on() -> None:
    with pytest.raises(ValueError, match="broadcast"), on(Recorder()):
        Scene().x + np.ones(4)
    assert mode() is None


def test_a_mode_is_forgotten_after_its_block() -> None:
    recorder, x = Recorder(), Scene().x
    with on(recorder):
        np.sum(x * 2).backward()
    forgotten = weakref.ref(recorder)
    del recorder
    x * 2  # which notices that the block is over
    gc.collect()
    assert forgotten() is None


def test_a_debug_block_in_a_compiled_function_has_no_numbers_to_judge() -> None:
    def looks(x: Any) -> Any:
        with mg.debug():
            return x * np.sum(x).item()

    def walks(x: Any) -> Any:
        with mg.debug():
            w = mg.Tensor(np.ones(2), requires_grad=True)
            np.sum(w * x).backward()
            return w.grad * 1

    for function in (looks, walks):
        with pytest.raises(TypeError, match="stood for others while a compiled function ran, and has no numbers"):
            mg.compile(function)(np.array([1.0, 2.0]))


def test_looking_for_a_nan_warns_of_nothing() -> None:
    x = mg.Tensor(np.ones(2), requires_grad=True)
    x[0].backward(np.array(1e200))
    np.testing.assert_array_equal(x.grad, [1e200, 0])
