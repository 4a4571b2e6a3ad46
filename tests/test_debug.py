"""`mg.debug()`: what it finds, what it says, what it leaves alone, and for whom it is on."""

import asyncio
import copy
import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from profiles import some

import minigrad as mg
from minigrad.nn import mse_loss, softmax


def leaf(data: Any = (1.0, 2.0, 3.0)) -> mg.Tensor:
    return mg.Tensor(np.array(data), requires_grad=True)


pytestmark = pytest.mark.usefixtures("scratch_primitive")  # the table is as before after each test


def operation(rule: Callable[..., Any], *args: Any, **kwargs: Any) -> mg.Tensor:
    """The answer of a new primitive, the sum of its first argument, that has one rule for all."""

    def total(x: Any, *others: Any, **options: Any) -> Any:
        return np.sum(x)

    return mg.primitive(rule, rule)(total)(*args, **kwargs)


def changed(call: Callable[[Any, Any], mg.Tensor], array: Any, write: Any = 0) -> Callable[[], None]:
    """A backward pass whose forward pass used an array that was written to in between."""

    def act() -> None:
        given = copy.copy(array)
        answer = call(leaf(), given)
        given[() if np.ndim(given) == 0 else 0] = write
        answer.backward(np.ones(answer.shape))

    return act


def answer_changed(then: Callable[[mg.Tensor], mg.Tensor]) -> None:
    middle = np.exp(leaf())
    answer = then(middle)
    middle.data[1] = 0
    answer.backward(np.ones(answer.shape))


def assigned(g: Any, ans: Any, x: Any, y: Any = None, **options: Any) -> Any:
    """A rule that writes to the first array that is not one of its usual arguments."""
    (options["scale"] if options else y[0] if isinstance(y, list) else y)[...] = 0
    return np.full(x.shape, g)


def doubled(g: Any, ans: Any, x: Any) -> Any:
    g *= 2
    return np.full(x.shape, g)


def shifted(g: Any, ans: Any, x: Any) -> Any:
    x += 1
    return x


THREE = np.array([1.0, 2.0, 3.0])
findings = [  # what, how, the error, words of the message, the source line that it names
    # arrays changed between the forward and the backward pass
    ("argument", changed(lambda x, a: x * a, THREE), RuntimeError,
     ["argument 1 of np.multiply(float64[3], float64[3]) was written to", "Write to a copy"], "x * a, THREE"),
    ("first argument", changed(lambda x, a: a / x, THREE), RuntimeError, ["argument 0 of np.divide("], "a / x, THREE"),
    ("0-d", changed(lambda x, a: x * a, np.array(2.0)), RuntimeError, ["argument 1 of np.multiply(float64[3], flo"],
     "x * a, np.array(2.0)"),
    ("memory of a leaf", changed(lambda x, a: np.square(mg.Tensor(a, requires_grad=True)), THREE), RuntimeError,
     ["argument 0 of np.square(float64[3])"], "np.square(mg."),
    ("view with gaps", changed(lambda x, a: x * a[::2], np.ones(6)), RuntimeError, ["argument 1"], "a[::2]"),
    ("read-only view", changed(lambda x, a: x * np.broadcast_to(a, 3), np.ones(1)), RuntimeError, ["argument 1"], "x"),
    ("index", changed(lambda x, a: x[a], np.array([1, 2])), RuntimeError, ["argument 1 of getitem("], "x[a], np"),
    ("list", changed(lambda x, a: mg.put(x, a, 5.0), [1, 2]), RuntimeError, ["argument 1 of put("], "mg.put(x, a"),
    ("index in a tuple", changed(lambda x, a: x[None, a], np.array([1, 2])), RuntimeError, ["argument 1"], "x[None"),
    ("condition", changed(lambda x, a: np.where(a, x, 0), THREE > 0), RuntimeError, ["argument 0 of np.where("], "np."),
    ("keyword", changed(lambda x, a: np.sum(x, where=a), THREE > 0), RuntimeError, ["argument where= of np.sum("], "n"),
    ("nan in its place", changed(lambda x, a: x * a, THREE, np.nan), RuntimeError, ["argument 1"], "THREE, np.nan"),
    ("answer", lambda: answer_changed(lambda y: y), RuntimeError, ["the answer of np.exp(float64[3])"], "middle = "),
    ("answer that was used", lambda: answer_changed(lambda y: y * 2), RuntimeError, ["argument 0 of np.multiply("],
     "answer_changed(lambda y: y * 2)"),
    ("log", lambda: np.log(leaf([1.0, 0.0])), FloatingPointError,
     ["np.log(float64[2]) made the first inf, at index (1,)"], "np.log(leaf([1"),
    ("sqrt", lambda: np.sqrt(leaf([[1.0, 4.0], [-1.0, np.e]])), FloatingPointError,
     ["np.sqrt(float64[2, 2]) made the first nan, at index (1, 0)"], "np.sqrt(leaf([["),
    ("0-d overflow", lambda: np.exp(leaf(1000.0)), FloatingPointError, ["the first inf, at index ()"], "np.exp(leaf(1"),
    ("within a layer", lambda: softmax(leaf([-np.inf, -np.inf])), FloatingPointError,
     ["np.divide(float64[2], float64[1]) made the first nan, at index (0,)"], "softmax(leaf("),
    ("within NumPy", lambda: np.polynomial.polynomial.polyval(leaf(1e200), [1.0, 2.0, 3.0, 4.0]), FloatingPointError,
     ["np.multiply(float64[], float64[]) made the first inf"], "np.polynomial."),
    ("not tracked", lambda: np.log(mg.Tensor(0.0)), FloatingPointError, ["np.log(float64[])"], "np.log(mg.Tensor"),
    ("not recorded", lambda: mg.no_grad(lambda: np.log(leaf(0.0)))(), FloatingPointError, ["np.log("], "not recorded"),
    ("nan that came in", lambda: leaf([1.0, np.nan]) * 2, FloatingPointError,
     ["np.multiply(float64[2], 2) passed on a nan that argument 0 holds, at index (1,)"], "leaf([1.0, np.nan]) * 2"),
    ("inf that became nan", lambda: leaf(np.inf) - np.inf, FloatingPointError, ["np.subtract(float64[], inf) made the"],
     "leaf(np.inf) -"),
    # and of the backward pass
    ("slope of sqrt", lambda: np.sum(np.sqrt(leaf([1.0, 0.0]))).backward(), FloatingPointError,
     ["the rule of np.sqrt(float64[2]) for its argument 0 made the first inf, at index (1,)"], "np.sum(np.sqrt(leaf("),
    ("slope behind a checkpoint", lambda: np.sum(np.sqrt(mg.checkpoint(lambda x: x * 2)(leaf([1.0, 0.0])))).backward(),
     FloatingPointError, ["the rule of np.sqrt(float64[2])"], "np.sum(np.sqrt(mg.checkpoint"),
    ("chosen slope", lambda: np.where(True, np.sqrt(leaf(0.0)), 0).backward(), FloatingPointError,
     ["the rule of np.sqrt(float64[])"], "np.where(True, np.sqrt"),
    ("slope inside grad", lambda: mg.grad(lambda x: np.sqrt(x))(0.0), FloatingPointError, ["np.sqrt"], "mg.grad("),
    ("second slope", lambda: mg.grad(mg.grad(lambda x: x**1.5))(0.0), FloatingPointError, ["made the first"], "x**1"),
    ("rule that makes nan", lambda: operation(lambda g, ans, x, y: np.nan * y, 1.0, leaf()).backward(),
     FloatingPointError, ["the rule of total(1.0, float64[3]) for its argument 1 made the first nan"], "mg.primitive("),
    ("sum of two", lambda: (lambda x: x * 1e308 + x * 1e308)(leaf(0.0)).backward(), FloatingPointError,
     ["the rule of np.multiply(float64[], 1e+308) for its argument 0 made the first inf"], "x * 1e308 +"),
    ("given", lambda: (leaf() * 2).backward([0, np.nan, 0]), FloatingPointError,
     ["passed on a nan that the gradient that it was given holds, at index (1,)"], "(leaf() * 2).backward"),
    # rules that write
    ("rule writes to g", lambda: operation(doubled, leaf()).backward(), RuntimeError,
     ["the rule of total(float64[3]) for its argument 0 writes to an array", "g = g * 2"], "mg.primitive("),
    ("rule writes to x", lambda: operation(shifted, leaf()).backward(), RuntimeError, ["argument 0 w"], "mg.primitive"),
    ("rule writes to y", lambda: operation(assigned, leaf(), np.ones(3)).backward(), RuntimeError, ["writes"],
     "mg.primitive("),
    ("rule writes to a list", lambda: operation(assigned, leaf(), [np.ones(3)]).backward(), RuntimeError, ["writes"],
     "mg.primitive("),
    ("rule writes to a keyword", lambda: operation(assigned, leaf(), scale=np.ones(3)).backward(), RuntimeError,
     ["argument 0 writes"], "mg.primitive("),
]  # fmt: skip


@pytest.mark.parametrize(("act", "kind", "words", "source"), [pytest.param(*row[1:], id=row[0]) for row in findings])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_found(act: Callable[[], Any], kind: type[Exception], words: list[str], source: str) -> None:
    act()  # without the block, in silence
    with mg.debug(), pytest.raises(kind) as caught:
        act()
    message = str(caught.value)
    for word in words:
        assert word in message
    assert source in message.partition("test_debug.py:")[2]
    act()


# ---------------------------------------------------------------------------------------------- what is no mistake


def meant(point: float, **settings: Any) -> mg.Tensor:
    x = leaf([point, 4.0])
    with np.errstate(**settings):
        return np.sum(np.where(x.data > 0, np.log(x), 0))


def masked_attention() -> mg.Tensor:
    return softmax(np.where([True, False, True], leaf(), -np.inf))[0]


harmless = {
    "the slope of what was not chosen": lambda: np.sum(np.where([False, True], np.sqrt(leaf([0.0, 4.0])), 0)),
    "the slope of what was left out before": lambda: np.sqrt(np.where([False, True], leaf([0.0, 4.0]), 0))[1],
    "the norm of zeros": lambda: np.sum(np.linalg.norm(leaf(np.zeros((2, 3))), axis=1)),
    "an inf that is meant": lambda: meant(0.0, divide="ignore"),
    "a nan that is meant": lambda: meant(-1.0, invalid="ignore"),
    "an inf that goes on": masked_attention,
    "nan that is left out": lambda: np.nansum(leaf([1.0, np.nan, 2.0])),
    "a large number of tanh": lambda: np.sum(mg.nn.tanh(leaf([1e308, -1e308, 1.0]))),
    "integers": lambda: np.sum(leaf()[np.array([0, 0])] * np.arange(2)),
    "nothing": lambda: np.sum(leaf(np.zeros((0, 3))) @ np.ones((3, 2))),
}


@pytest.mark.parametrize("f", harmless.values(), ids=harmless)
def test_what_is_no_mistake(f: Callable[[], mg.Tensor]) -> None:
    with mg.debug():
        answer = f()
        answer.backward(retain_graph=True)
        answer.backward()
        with pytest.raises(RuntimeError, match="retain_graph=True"):
            answer.backward()


def test_a_parameter_that_was_moved_has_its_own_message() -> None:
    w = leaf()
    with mg.debug():
        loss = np.sum(w * 2)
        w.data -= 1
        with pytest.raises(RuntimeError, match="by an optimizer step"):
            loss.backward()


def test_calls_from_outside_of_the_block() -> None:
    x, scale = leaf([0.0, 1.0]), np.ones(2)
    y = np.sum(np.sqrt(x * scale))
    scale += 1
    with mg.debug(), pytest.raises(FloatingPointError, match=r"np\.sqrt.* in a line outside of mg\.debug\(\)"):
        y.backward()


# ------------------------------------------------------------------------------------------------ the same gradients

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5], [0.0, 1.0, 3.0]])
functions = {
    "a network": lambda x: mse_loss(mg.nn.tanh(x @ X), X),
    "choices": lambda x: np.sum(np.maximum(x, 0.1) * np.where(x > 1, x, x**2)) + np.max(x) * np.sort(x, 0)[1, 1],
    "composites": lambda x: np.std(x) + np.linalg.norm(x) + np.sum(np.cov(x)) + np.median(x * x),
    "linear algebra": lambda x: np.linalg.det(x) + np.sum(np.linalg.inv(x + 5 * np.eye(3))),
    "checkpoint": lambda x: np.sum(mg.checkpoint(lambda x, y: np.sin(x) * np.exp(y))(x, x.T)),
    "grad in grad": lambda x: np.sum(mg.grad(lambda x: np.sum(np.sin(x) * x))(x) ** 2),
    "many arrays": lambda x: np.sum(np.stack([x * i for i in range(40)]) ** 2),
}
transforms = {
    "grad": mg.grad,
    "grad of grad": lambda f: mg.grad(lambda x: np.sum(np.square(mg.grad(f)(x)))),
    "hvp": lambda f: lambda x: mg.hvp(f)(x, np.ones_like(x)),
    "jvp": lambda f: lambda x: mg.jvp(f, (x,), (np.ones_like(x),))[1],
    "jacobian": mg.jacobian,
}


@pytest.mark.parametrize(("f", "transform"), some([*itertools.product(functions, transforms)], 3))
def test_gradients_are_the_same(f: str, transform: str) -> None:
    made = lambda: transforms[transform](functions[f])(X)
    expected = made()
    with mg.debug():
        np.testing.assert_allclose(made(), expected, rtol=1e-14)


def test_training_is_the_same() -> None:
    def trained() -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        model = mg.nn.Sequential(mg.nn.Linear(3, 4, rng=rng), mg.nn.ReLU(), mg.nn.Linear(4, 3, rng=rng))
        optimizer = mg.optim.Adam(model.parameters(), lr=0.1)
        mg.fit(model, mse_loss, optimizer, (X, X), epochs=3, batch_size=2, seed=0, progress=False)
        return [parameter.data.copy() for parameter in model.parameters()]

    expected = trained()
    for found, number in zip(mg.debug(trained)(), expected, strict=True):
        np.testing.assert_array_equal(found, number)


# ------------------------------------------------------------------------------------------------ for whom it is on


def watched() -> bool:
    """Whether mistakes are found here and now."""
    x = leaf([0.0])
    try:
        with np.errstate(invalid="warn"):
            np.sqrt(x).backward([1.0])
    except FloatingPointError:
        return True
    return False


def test_it_is_on_in_its_block_and_no_longer() -> None:
    block = mg.debug()
    for _ in range(2):
        assert not watched()
        with block:
            assert watched()
            with mg.no_grad(), block:
                assert not (leaf() * 2).requires_grad
            with mg.no_grad():
                assert not (leaf() * 2).requires_grad
            assert watched()
        with mg.no_grad(), mg.debug():
            assert mg.grad(np.sin)(0.0) == 1
            assert not (leaf() * 2).requires_grad
    with pytest.raises(KeyError), block:
        raise KeyError
    assert not watched()


def test_it_decorates_functions() -> None:
    async def later() -> bool:
        await asyncio.sleep(0)
        return watched()

    assert mg.debug(watched)()
    assert mg.debug()(watched)()
    assert asyncio.run(mg.debug(later)())
    assert not asyncio.run(later())
    assert not watched()


def test_it_is_for_one_thread_and_task() -> None:
    seen: list[Any] = []

    async def main() -> None:
        async def inside() -> None:
            with mg.debug():
                await asyncio.sleep(0)
                seen.append(watched())

        async def outside() -> None:
            await asyncio.sleep(0)
            seen.append(watched())

        await asyncio.gather(inside(), outside())

    asyncio.run(main())
    with mg.debug():
        thread = threading.Thread(target=lambda: seen.append(watched()))
        thread.start()
        thread.join()
    assert seen == [True, False, False]
