"""`check_grads` lets right gradients pass, at every scale, and catches wrong ones."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.tensor import vjps
from minigrad.testing import check_grads


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.5, 2.0, shape)


@pytest.fixture
def wrong() -> Iterator[Callable[..., Any]]:
    """A function given a wrong rule for the time of a test."""
    before = dict(vjps)
    yield lambda function, *rules: mg.primitive(*rules)(lambda *args: function(*args))
    vjps.clear()
    vjps.update(before)


# ------------------------------------------------------------------------------------------- right gradients pass

right = [
    ("product", lambda x, y: x * y, [numbers(3), numbers(2, 1)]),
    ("the same array twice", lambda x, y: x / y, [numbers(3)] * 2),
    ("network", lambda x, w: np.tanh(x @ w), [numbers(5, 4), numbers(4, 2)]),
    ("large", lambda x, w: np.tanh(x @ w), [numbers(30, 40), numbers(40, 2) / 40]),
    ("Python float", lambda x: x**3, [2.0]),
    ("other arguments", lambda n, x, names: x**n * len(names), [3, numbers(3), ["a", "b"]]),
    ("integer arrays", lambda x, n: x**n, [numbers(3), np.arange(3)]),
    ("constant", lambda x: np.ones(3), [numbers(3)]),
    ("linear", lambda x: 3 * x + 2, [numbers(3)]),
    ("steps", np.floor, [numbers(3)]),
    ("zero size", lambda x: x * x, [np.zeros((0, 3))]),
    ("at zero", lambda x: np.sin(x) + x**2, [np.zeros(3)]),
    ("tiny and huge", np.log, [np.array([1e-100, 1e-8, 1.5, 1e8, 1e100])]),
    ("huge and periodic", np.sin, [np.array([1e5, -1e4])]),
    ("tiny beside one", lambda x: np.exp(x) + 1, [np.array([1e-12, 1e-300])]),
    ("far from zero", lambda x: np.log(x + 100_000), [numbers(3)]),
    ("large answer", lambda x: 1e10 + np.exp(x), [numbers(3)]),
    ("small answer", lambda x: 1e-30 * np.exp(x), [numbers(3)]),
    ("near a pole", lambda x: 1 / (x - 1), [np.array([1.001, 0.99])]),
    ("near a kink", lambda x: np.abs(x - 1), [np.array([1.001, 0.9999])]),
    ("differences that cancel", lambda x: np.exp(x) / np.sum(np.exp(x)), [numbers(4)]),
]


@pytest.mark.parametrize(("f", "args"), [pytest.param(*row[1:], id=row[0]) for row in right])
def test_right_gradients_pass(f: Callable[..., Any], args: list[Any]) -> None:
    check_grads(f, args)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble])
@pytest.mark.parametrize("f", [np.tanh, np.exp, lambda x: x**3, lambda x: np.sum(np.exp(x)), lambda x: x / np.sum(x)])
def test_right_gradients_pass_in_every_precision(f: Callable[..., Any], dtype: Any) -> None:
    check_grads(f, [numbers(2, 3).astype(dtype)])


@given(st.integers(0, 2**32), st.sampled_from([1e-6, 1e-3, 1.0, 1e3]))
def test_right_gradients_pass_at_random_points_and_scales(seed: int, scale: float) -> None:
    x, y = np.random.default_rng(seed).normal(size=(2, 3)) * scale
    check_grads(lambda x, y: np.sin(x / scale) * y + x * np.exp(y / scale), [x, y], seed=seed)


def test_third_derivatives() -> None:
    check_grads(lambda x: np.sin(x) * np.exp(x), [numbers(2)], order=3)


# ----------------------------------------------------------------------------------------------- wrong ones do not


def test_one_in_a_thousand_is_caught(wrong: Callable[..., Any]) -> None:
    sine = wrong(np.sin, lambda g, ans, x: 1.001 * g * np.cos(x))
    for x in (numbers(3), numbers(3).astype(np.float32), numbers(20, 20), np.array(1e-12), np.array(1e5), 0.0):
        with pytest.raises(AssertionError, match="derivative 1 of argument 0"):
            check_grads(sine, [x])


def test_the_message_names_argument_index_and_both_numbers(wrong: Callable[..., Any]) -> None:
    times = wrong(np.multiply, lambda g, ans, x, y: g * y, lambda g, ans, x, y: g * x * (np.arange(4) != 2))
    message = (
        r"derivative 1 of argument 1 at index \(2,\), in output \(2,\), is -?0, and central differences give \d\.\d+"
    )
    with pytest.raises(AssertionError, match=message):
        check_grads(times, [numbers(4), numbers(4)])


def test_every_argument_is_checked(wrong: Callable[..., Any]) -> None:
    for n in range(3):
        rules = [lambda g, ans, *xs, k=k: g * np.cos(xs[k]) * (1.01 if k == n else 1) for k in range(3)]  # noqa: B023
        with pytest.raises(AssertionError, match=f"argument {n} "):
            check_grads(wrong(lambda x, y, z: np.sin(x) + np.sin(y) + np.sin(z), *rules), [numbers(2)] * 3)


def test_a_wrong_second_derivative_is_caught(wrong: Callable[..., Any]) -> None:
    def rule(g: Any, ans: Any, x: Any) -> Any:
        return g * np.cos(x.detach().data if isinstance(x, mg.Tensor) else x)

    check_grads(wrong(np.sin, rule), [numbers(3)], order=1)
    with pytest.raises(AssertionError, match=r"derivative 2 of argument 0 at index \(0,\) is 0"):
        check_grads(wrong(np.sin, rule), [numbers(3)])


def test_a_lost_gradient_is_caught() -> None:
    with pytest.raises(AssertionError, match="is 0, and central differences give"):
        check_grads(lambda x: np.sin(x.detach().data if isinstance(x, mg.Tensor) else x), [numbers(3)])


def test_a_nan_is_caught(wrong: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="is nan"):
        check_grads(wrong(np.sin, lambda g, ans, x: g * np.nan), [numbers(3)])


def test_an_error_in_one_element_of_many_is_caught(wrong: Callable[..., Any]) -> None:
    one = np.arange(400).reshape(20, 20) == 123
    with pytest.raises(AssertionError, match=r"at index \(6, 3\)"):
        check_grads(wrong(np.sin, lambda g, ans, x: g * np.cos(x) * np.where(one, 1.1, 1)), [numbers(20, 20)])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("f", "x"),
    [(np.floor, 2.0), (np.sqrt, 0.0), (lambda x: np.where(x > 1, np.sin(x), 0), 1.0), (lambda x: 1 / x, 0.0)],
)
def test_where_there_is_no_derivative_it_says_so(f: Callable[..., Any], x: float) -> None:
    with pytest.raises(AssertionError, match="a kink, a jump or the edge of the domain"):
        check_grads(f, [x], order=1)


def test_writing_to_an_argument_is_caught(wrong: Callable[..., Any]) -> None:
    def rule(g: Any, ans: Any, x: Any) -> Any:
        x *= 2
        return g * np.cos(x)

    x = numbers(3)
    with pytest.raises(ValueError, match="read-only"):
        check_grads(wrong(np.sin, rule), [x])
    np.testing.assert_array_equal(x, numbers(3))


def test_gradients_of_another_form_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = np.ones(3)
    faults = {
        r"argument 0 is float32\[3\], and the argument itself float64\[3\]": (np.ones(3, np.float32), np.ones(3)),
        r"argument 1 is float64\[\], and the argument itself float64\[3\]": (np.ones(3), np.ones(())),
        "argument 1 shares memory with the gradient of argument 0": (shared, shared[::-1]),
    }
    for message, gradients in faults.items():
        monkeypatch.setattr("minigrad.testing.check.vjp", lambda *_, gradients=gradients: (0, lambda g: gradients))
        with pytest.raises(AssertionError, match=message):
            check_grads(lambda x, y: np.sum(x + y), [numbers(3), numbers(3)])
    monkeypatch.setattr("minigrad.testing.check.vjp", lambda f, x: (0, lambda g: (x,)))
    with pytest.raises(AssertionError, match="shares memory with argument 0"):
        check_grads(np.sum, [numbers(3)])


def test_nothing_to_check() -> None:
    with pytest.raises(ValueError, match="none of the 2 arguments is a floating array"):
        check_grads(lambda n, k: n, [3, np.arange(3)])


@pytest.mark.parametrize("seed", [0, 1])
def test_it_does_the_same_every_time(seed: int) -> None:
    def points() -> list[Any]:
        seen = []

        def f(x: Any) -> Any:
            seen.append(getattr(x, "data", x).tolist())
            return np.sin(x)

        check_grads(f, [numbers(9, 9)], seed=seed)
        return seen

    assert points() == points()
