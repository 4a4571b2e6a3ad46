"""What a compiled function cannot do for the user raises, with the user's line and the way out, and changes nothing."""

import collections
import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from surroundings import Thing, assert_close, tensor
from test_compile import network

import minigrad as mg
from minigrad import nn
from minigrad.compiler.record import TraceError

LINE = r"test_refusals\.py:\d+, `(?!compiled\()"  # and not the line of the call
WAY_OUT = "outside|uncompiled|instead|return|argument|before|after|detach|np.where"

# ------------------------------------------------------------------------------------- looking at computed numbers

LOOKS: dict[str, Callable[[Any], Any]] = {
    "if": lambda x: x if np.sum(x) > 0 else -x,
    "while": lambda x: [x for _ in iter(lambda: bool(np.sum(x) > 3), False)],
    "and": lambda x: np.sum(x) and x,
    "not": lambda x: x * (not np.sum(x)),
    "max of Python": lambda x: max(np.sum(x), np.sum(x * 2)),
    "sorted": lambda x: sorted([np.sum(x), np.sum(x * 2)]),
    "in": lambda x: x * (1.0 in x * 2),
    "assert": lambda x: x * 2 if np.all(x > 0) else None,
    "float": lambda x: x * float(np.sum(x)),
    "int": lambda x: x * int(np.sum(x)),
    "bool": lambda x: x * bool(np.sum(x)),
    "round": lambda x: x * round(float(np.sum(x))),
    "item": lambda x: x * np.sum(x).item(),
    "tolist": lambda x: x * sum((x * 2).tolist()),
    "math": lambda x: x * math.sqrt(np.sum(x)),
    "a format": lambda x: x * float(f"{np.sum(x):.3f}"),
    "data of what is computed": lambda x: x * (x * 2).data,
    "np.asarray of what is computed": lambda x: x * np.asarray(x * 2),
    "np.array of what is computed": lambda x: x * np.array(x * 2),
    "a list of numbers": lambda x: x * np.array([float(k) for k in x * 2]),
    "an index": lambda x: [1.0, 2.0, 3.0, 4.0][np.argmax(x * 2)] * x,
    "a range": lambda x: sum(x for _ in range(np.argmax(x * 2))),
    "an end of a slice": lambda x: x[: np.argmax(x * 2)],
    "a shape": lambda x: np.zeros(int(np.argmax(x * 2))) * x,
    "a mask that picks": lambda x: x[x * 2 > 0],
    "np.nonzero": lambda x: x[np.nonzero(x * 2)],
    "a dict": lambda x: {0: x, 1: -x}[int(np.argmax(x * 2))],
    "the numbers of an argument": lambda x: x if x[0] > 0 else -x,
    "the item of an argument": lambda x: x * x[0].item(),
    "a gradient": lambda x: x * np.sum(mg.grad(lambda y: np.sum(y**3))(x)).item(),
}


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("name", LOOKS)
def test_looking_at_computed_numbers_is_refused(name: str, pure: bool) -> None:
    compiled = mg.compile(LOOKS[name], pure=pure)
    for _ in range(2):
        with pytest.raises(TraceError, match=LINE) as caught:
            compiled(mg.Tensor(np.ones(3)))
        assert re.search(WAY_OUT, str(caught.value))
    assert not compiled.traces
    assert f"{np.sum(tensor(np.ones(3))):.1f}" == "3.0"


GIVEN_NUMBERS: dict[str, tuple[Callable[..., Any], Callable[[float], Any]]] = {
    "a Tensor": (lambda x, t: x if t > 0 else -x, mg.Tensor),
    "a float of a Tensor": (lambda x, t: x * float(t), mg.Tensor),
    "a NumPy number": (lambda x, k: x if k > 0 else -x, np.float64),
    "a float of a NumPy number": (lambda x, k: x * float(k), np.float64),
    "an array": (lambda x, m: x if m[0] > 0 else -x, lambda k: np.full(3, k)),
    "a float of an array": (lambda x, m: x * float(m.sum()), lambda k: np.full(3, k)),
}


@pytest.mark.parametrize("name", GIVEN_NUMBERS)
def test_looking_at_the_numbers_of_arguments_is_refused_or_right(name: str) -> None:
    f, make = GIVEN_NUMBERS[name]
    compiled = mg.compile(f)
    for number in (1.0, -1.0, 1.0):
        refused = ""
        try:
            assert_close(compiled(np.ones(3), make(number)), np.asarray(f(np.ones(3), make(number))))
        except TraceError as error:
            refused = str(error)
        assert not refused or re.search(LINE, refused)


def test_looking_at_what_was_written_is_refused() -> None:
    s, p = mg.Tensor(1.0), mg.Tensor([1.0, 2.0])

    def assigned(x: Any) -> Any:
        s.data = np.sum(x)
        return x * float(s)

    def in_part(x: Any) -> Any:
        p.data = p.data * x
        return x * np.asarray(p)[0]

    for f in (assigned, in_part):
        compiled = mg.compile(f)
        for _ in range(2):
            with pytest.raises(TraceError, match=LINE):
                compiled(mg.Tensor(np.ones(2)))
    assert s.item() == 1
    np.testing.assert_array_equal(p.data, [1, 2])


# --------------------------------------------------------------------------------------------------- what is read


def test_numbers_of_leaves_are_read_as_stand_ins() -> None:
    p = tensor([1.0, 2.0, 3.0])
    f = lambda x: np.sum(x * p.data * p)
    compiled = mg.compile(f)
    for numbers in ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]):
        p.data = numbers
        grads = []
        for g in (f, compiled):
            p.grad = None
            g(np.ones(3)).backward()
            grads.append(p.grad)
        assert_close(*grads)
    assert compiled.traces == 1


TEXTS = {"str": str, "repr": repr, "f-string": lambda t: f"{t}", "list": lambda t: str([t])}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_of_what_is_computed_shows_what_is_known(
    text: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    f = lambda x: (print(text(x * 3)), np.sum(x * 2))[1]
    compiled = mg.compile(f)
    for _ in range(2):
        compiled(x := tensor(np.full((2, 3), 7.25))).backward()
        np.testing.assert_array_equal(x.grad, 2)
    printed = capsys.readouterr().out
    assert printed.count("float64") == 2
    assert "2, 3" in printed
    assert not re.search(r"\d\.", printed)
    f(x)
    assert re.search(r"\d\.", capsys.readouterr().out)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_of_a_parameter_is_its_numbers_or_what_is_known(
    text: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    p = tensor(np.full((2, 3), 7.25))
    compiled = mg.compile(lambda x: (print(text(p)), np.sum(x * p))[1])
    for number in (7.25, 8.5):
        p.data = np.full((2, 3), number)
        assert compiled(np.ones((2, 3))).item() == 6 * number
        printed = capsys.readouterr().out
        assert str(number) in printed or not re.search(r"\d\.", printed)


# ------------------------------------------------------------------------------------------- stand-ins that are left


class Keeper:
    """Keeps what comes up in a call in places of all kinds."""

    def __init__(self) -> None:
        self.latest: Any = None
        self.log: list[Any] = []
        self.table: dict[str, Any] = {}

    def attribute(self, x: Any) -> Any:
        self.latest = np.tanh(x * 2)
        return self.latest * 3

    def argument(self, x: Any) -> Any:
        self.latest = x
        return x * 3

    def detached(self, x: Any) -> Any:
        self.latest = (x * 2).detach()
        return x * 3

    def logged(self, x: Any) -> Any:
        self.log.append(np.sum(x))
        self.latest = self.log[-1]
        return x * 3

    def tabled(self, x: Any) -> Any:
        self.table["x"] = {"deep": [x * 2]}
        self.latest = self.table["x"]["deep"][0]
        return x * 3

    def closure(self, x: Any) -> Any:
        y = x * 2
        self.latest = (lambda: y).__closure__[0].cell_contents  # type: ignore[index]
        return x * 3

    def a_gradient(self, x: Any) -> Any:
        self.latest = mg.grad(lambda y: np.sum(y**2))(x)
        return x * 3


KEEPERS = [name for name in vars(Keeper) if not name.startswith("_")]
USES: dict[str, Callable[[Any], Any]] = {
    "its data": lambda t: t.data.sum(),
    "a float": lambda t: float(np.sum(t)),
    "an array": lambda t: np.asarray(t) + 1,
    "an item": lambda t: t.item() if t.ndim == 0 else t[0].item(),
    "arithmetic": lambda t: (t * 2).data + 1,
    "a comparison": lambda t: bool(np.all(t > 0)),
    "a list": lambda t: np.ravel(t).tolist(),
    "a walk back": lambda t: np.sum(t * tensor(1.0)).backward(),
    "a format": lambda t: f"{np.sum(t):.3f}",
    "a copy": lambda t: np.array(t) + 1,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("keeper", KEEPERS)
def test_a_stand_in_that_is_left_raises_when_it_is_looked_at(keeper: str, use: str) -> None:
    kept = Keeper()
    compiled = mg.compile(getattr(kept, keeper))
    for _ in range(2):
        assert_close(compiled(np.ones(3)), np.full(3, 3.0) if keeper != "attribute" else np.full(3, 3 * np.tanh(2.0)))
        with pytest.raises(TypeError, match=r"stood for others.*return it"):
            USES[use](kept.latest)


@pytest.mark.parametrize("keeper", KEEPERS)
def test_a_stand_in_that_is_left_raises_in_a_later_call(keeper: str) -> None:
    kept = Keeper()
    mg.compile(getattr(kept, keeper))(np.ones(3))
    later, itself = mg.compile(lambda x: x * kept.latest), mg.compile(lambda x: x * 2)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"stood for others.*return it"):
            later(np.ones(3))
        with pytest.raises(TypeError, match=r"stood for others.*return it"):
            itself(kept.latest)


def test_a_stand_in_that_is_left_raises_in_a_later_call_of_the_same_function() -> None:
    kept = Thing(hidden=None)

    def f(x: Any) -> Any:
        y = x * 2 if kept.hidden is None else x * 2 + kept.hidden
        kept.hidden = np.sin(y)
        return y

    compiled = mg.compile(f)
    compiled(np.ones(3))
    for _ in range(3):
        with pytest.raises(TypeError, match=r"stood for others.*return it"):
            compiled(np.ones(3))


def test_a_stand_in_that_is_left_does_not_stand_for_that_of_a_later_call() -> None:
    kept = Thing(y=None, on=False)

    def f(x: Any) -> Any:
        y = x * 2
        z = y + (y if kept.y is None else kept.y)
        if kept.on:
            kept.y = y
        return z

    compiled = mg.compile(f)
    for kept.on in (False, False, True):
        np.testing.assert_array_equal(compiled(np.ones(3)), 4)
    for _ in range(3):
        with pytest.raises(TypeError, match=r"stood for others.*return it"):
            compiled(np.zeros(3))
    kept.y = None
    np.testing.assert_array_equal(compiled(np.ones(3)), 4)


def test_a_hidden_state_that_is_kept_in_its_data_is_carried_on() -> None:
    def made() -> tuple[Any, Any]:
        hidden = mg.Tensor(np.zeros(3))

        def f(x: Any) -> Any:
            y = np.tanh(x + hidden)
            hidden.data = y.detach()
            return y * 2

        return f, hidden

    (f, hidden), (g, twin) = made(), made()
    compiled = mg.compile(f)
    for step in range(4):
        assert_close(compiled(np.ones(3) * step), np.asarray(g(mg.Tensor(np.ones(3) * step)).data))
        assert_close(hidden.data, twin.data)
    assert compiled.traces == 1


# ---------------------------------------------------------------------------------------------------- arguments

UNFIT: dict[str, Callable[[], Any]] = {
    "a masked array": lambda: np.ma.masked_array([1.0, 2.0], [True, False]),
    "a matrix": lambda: np.ones((2, 2)).view(np.matrix),
    "records": lambda: np.ones(2, [("a", float)]).view(np.recarray),
    "a class of one's own": lambda: np.ones(2).view(type("Mine", (np.ndarray,), {})),
    "a Tensor of one's own": lambda: type("Mine", (mg.Tensor,), {})([1.0, 2.0]),
}


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("where", ["alone", "in a list", "by name"])
@pytest.mark.parametrize("name", UNFIT)
def test_arrays_with_rules_of_their_own_are_refused(name: str, where: str, pure: bool) -> None:
    x = UNFIT[name]()
    compiled = mg.compile(lambda x: (x[0] if isinstance(x, list) else x) * 2, pure=pure)
    with pytest.raises(TypeError, match=r"np\.asarray|masked|subclass"):
        compiled(**{"x": x}) if where == "by name" else compiled([x] if where == "in a list" else x)


CHANGES: dict[str, tuple[Callable[..., Any], Callable[[], Any]]] = {
    "append": (lambda x, log: (log.append(x), x)[1], list),
    "append a constant": (lambda x, log: (log.append(1), x)[1], list),
    "pop": (lambda x, log: x * log.pop(), lambda: [1.0, 2.0]),
    "an item": (lambda x, log: (log.__setitem__(0, 5.0), x)[1], lambda: [1.0]),
    "an array in place of another": (lambda x, log: (log.__setitem__(0, x), x)[1], lambda: [np.zeros(3)]),
    "the order": (lambda x, log: (log.reverse(), x)[1], lambda: [np.zeros(3), np.ones(3)]),
    "clear": (lambda x, log: (log.clear(), x)[1], lambda: [np.zeros(3)]),
    "update": (lambda x, d: (d.update(y=x), x)[1], dict),
    "a dict in a list": (lambda x, s: (s[0].update(y=x), x)[1], lambda: [{}]),
    "a list in a dict": (lambda x, d: (d["log"].append(x), x)[1], lambda: {"log": []}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_lists_and_dicts_that_are_given_may_not_change(name: str) -> None:
    f, make = CHANGES[name]
    compiled, given = mg.compile(f), make()
    before = repr(given)
    for _ in range(2):
        with pytest.raises(TraceError, match="changes a list or dict"):
            compiled(np.ones(3), given)
        assert repr(given) == before


def test_an_array_that_is_given_may_not_be_written_to() -> None:
    given = np.ones(3)

    def f(x: Any) -> Any:
        x[0] = 5
        return x * 2

    for _ in range(2):
        with pytest.raises((TraceError, TypeError)):
            mg.compile(f)(given)
    np.testing.assert_array_equal(given, 1)


# ------------------------------------------------------------------------------------------------- what is returned


async def asynchronous(x: Any) -> Any:
    return x * 2


UNKNOWN: dict[str, Callable[[Any], Any]] = {
    "a namespace": lambda x: SimpleNamespace(y=x * 2),
    "a closure": lambda x: (y := x * 2, lambda: y)[1],
    "a deque": lambda x: collections.deque([x * 2]),
    "values of a dict": lambda x: {"a": x * 2}.values(),
    "a map": lambda x: map(np.sin, [x]),
    "a generator": lambda x: (x * i for i in range(2)),
    "a coroutine": asynchronous,
    "an object": lambda x: Thing(y=x * 2),
    "a set": lambda x: {x * 2},
}


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_made_anew_is_refused_or_raises_when_it_is_looked_at(name: str) -> None:
    def numbers() -> float:
        answer = mg.compile(UNKNOWN[name])(np.ones(2))
        for part in getattr(answer, "__dict__", {}).values():
            answer = [part]
        return float(sum(np.sum(part) for part in ([answer()] if callable(answer) else answer)))

    with pytest.raises((TraceError, TypeError)):
        numbers()


@pytest.mark.parametrize("pure", [False, True])
def test_an_object_with_a_tensor_is_refused_at_once(pure: bool) -> None:
    compiled = mg.compile(lambda x: Thing(y=x * 2), pure=pure)
    for _ in range(2):
        with pytest.raises(TraceError, match="return arrays and numbers"):
            compiled(np.ones(2))


# ------------------------------------------------------------------------------------------ a refusal changes nothing


def whole_step(model: Any, optimizer: Any, spoil: Callable[[Any], Any]) -> Callable[..., Any]:
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = np.sum(model(x) ** 2)
        loss.backward()
        optimizer.step()
        spoil(loss)
        return loss

    return step


SPOILS: dict[str, tuple[Callable[[Any], Any], type[Exception]]] = {
    "a look": (lambda loss: bool(loss > 0), TraceError),
    "an error": (lambda loss: {}["missing"], KeyError),
    "a wrong call": (lambda loss: loss @ np.ones((2, 2)), ValueError),
    "an interruption": (lambda loss: (_ for _ in ()).throw(KeyboardInterrupt), KeyboardInterrupt),
}


@pytest.mark.parametrize("when", ["at first", "later"])
@pytest.mark.parametrize("name", SPOILS)
def test_a_step_that_raises_midway_has_written_nothing(name: str, when: str) -> None:
    spoil, kind = SPOILS[name]
    model, spoiled = network(3, 4, 2), Thing(on=when == "at first")
    optimizer = mg.optim.Adam(model.parameters(), lr=0.1)
    compiled = mg.compile(whole_step(model, optimizer, lambda loss: spoil(loss) if spoiled.on else None))
    x = np.ones((2, 3), np.float32)
    if when == "later":
        compiled(x)
        spoiled.on = True
    state = lambda: [
        *(p.data.copy() for p in model.parameters()),
        *(None if p.grad is None else p.grad.copy() for p in model.parameters()),
        *optimizer.state_dict().values(),
    ]
    before = state()
    for _ in range(2):
        with pytest.raises(kind):
            compiled(x)
        assert_close(state(), before, 0)
    spoiled.on = False
    compiled(x)
    assert any(repr(a) != repr(b) for a, b in zip(state(), before, strict=True))


def test_a_refusal_leaves_statistics_and_arrays_as_they_were() -> None:
    mean, array, p = mg.Tensor(np.zeros(3)), np.ones(3), tensor(np.ones(3))

    def f(x: Any) -> Any:
        mean.data = mean.data * 0.9 + x * 0.1
        p.grad = np.ones(3)
        y = np.sum(x * array * p)
        return y if y > 0 else -y

    for _ in range(2):
        with pytest.raises(TraceError, match=LINE):
            mg.compile(f)(np.ones(3))
        np.testing.assert_array_equal(mean.data, 0)
        np.testing.assert_array_equal(p.data, 1)
        np.testing.assert_array_equal(array, 1)
        assert p.grad is None


def test_an_error_while_it_is_traced_does_no_harm() -> None:
    thing = Thing(broken=True)

    def f(x: Any) -> Any:
        y = np.sum(np.sin(x))
        if thing.broken:
            raise KeyError("broken")
        return y

    compiled = mg.compile(f)
    for thing.broken in (True, False, True, False):
        if thing.broken:
            with pytest.raises(KeyError, match="broken"):
                compiled(tensor(np.ones(3)))
            assert tensor(2.0).item() == 2
        else:
            assert_close(compiled(np.ones(3)), np.sum(np.sin(np.ones(3))))
    assert compiled.traces == 1


def test_an_error_while_it_runs_does_no_harm() -> None:
    p = tensor(np.ones(2))
    f = lambda x, labels: nn.cross_entropy(np.outer(x, p), labels)
    compiled = mg.compile(f)
    for labels in ([0, 1, 1], [0, 1, 2], [1, 1, 0], [-1, 0, 0], [0, 0, 0]):
        given = np.array(labels)
        if set(labels) <= {0, 1}:
            assert_close(compiled(tensor(np.ones(3)), given).item(), f(tensor(np.ones(3)), given).item())
        else:
            with pytest.raises(ValueError, match="labels from"):
                compiled(tensor(np.ones(3)), given)
        late = compiled(tensor(np.ones(3)), np.zeros(3, int))
        p.data = p.data + 1
        with pytest.raises(RuntimeError, match="has been changed"):
            late.backward()


@pytest.mark.parametrize("kind", ["iter", "generator", "map"])
def test_an_iterator_that_is_given_is_used_up_or_refused(kind: str) -> None:
    made: Any = {"iter": iter, "generator": lambda s: (k for k in s), "map": lambda s: map(float, s)}[kind]
    f = lambda x, numbers: np.sum(sum((x * k for k in numbers), x))
    compiled = mg.compile(f)
    for numbers in ([2.0, 3.0], [4.0, 5.0], [6.0]):
        given = made(numbers), made(numbers)
        for _ in range(2):  # there is nothing left in it then
            try:
                found = compiled(np.ones(3), given[0])
            except TraceError:
                break
            assert_close(found, f(np.ones(3), given[1]))
