"""The tools let right gradients pass, at every scale, and catch wrong ones; strategies draw what they say."""

import ast
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import is_of_scipy
from hypothesis import find, given, settings
from hypothesis import strategies as st
from profiles import scale, some

import minigrad as mg
from minigrad.engine import name_of, vjps
from minigrad.testing import (
    Program,
    arrays_for,
    assert_rule,
    broadcastable,
    check_grads,
    indices,
    programs,
    tensors,
)
from minigrad.testing.check import _weights, source
from minigrad.testing.program import index_source
from minigrad.testing.strategies import DOMAINS


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.5, 2.0, shape)


@pytest.fixture
def wrong(scratch_primitive: Callable[..., Any]) -> Callable[..., Any]:
    """A function given a wrong rule for the time of a test."""
    return lambda function, *rules: scratch_primitive(*rules)(lambda *args: function(*args))


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


@pytest.mark.parametrize("left", [1e-2, 1e-4, 1e-6])
def test_right_gradients_pass_where_their_sum_cancels(left: float) -> None:
    weights = _weights(np.random.default_rng(0), (3,))  # of the outputs, with the seed 0
    x = np.array([1.1, 0.7, 0.0])
    x[2] = -(weights @ x) / weights[2] * (1 + left)
    check_grads(np.multiply, [x.astype(np.float32), np.float32(2)])


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (np.tanh, [np.float32(4.0)]),
        (np.tanh, [np.float32([-1.2815107, -3.9982264])]),
        (lambda x: 1e4 * np.tanh(1e3 * x), [np.float32(-5e-3)]),
        (np.hypot, [np.float32([3.8393934, 0.33740169]), np.float32([-3.4525623, -2.309008])]),
    ],
)
def test_right_gradients_pass_where_their_own_rounding_is_large(f: Callable[..., Any], args: list[Any]) -> None:
    check_grads(f, args)


@pytest.mark.parametrize("f", [np.tanh, np.arctan, np.sin, lambda x: 1 / (1 + x * x)])
@pytest.mark.parametrize("x", [1e-7, 2.0**-20])
def test_right_gradients_pass_near_zero_on_a_small_scale(f: Callable[..., Any], x: float) -> None:
    check_grads(lambda x: f(x / 1e-6), [x * 1e-6])


@pytest.mark.parametrize("x", [4.0, 6.0, -5.3])
def test_rounding_hides_no_wrong_rule(wrong: Callable[..., Any], x: float) -> None:
    tanh = wrong(np.tanh, lambda g, ans, x: 1.001 * g * (1 - ans * ans))
    only_single = wrong(np.tanh, lambda g, ans, x: g * (1 - ans * ans) * (1.01 if ans.dtype == np.float32 else 1))
    for function in (tanh, only_single):
        with pytest.raises(AssertionError, match=r"derivative [12] of argument 0"):
            check_grads(function, [np.float32(x)])


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


@pytest.mark.parametrize(
    ("f", "args", "message"),
    [
        (np.abs, [np.array([1.0, 0.0])], r"^argument 0 at index \(1,\) .* f: the slope is -1 to the left and 1 to the"),
        (
            np.abs,
            [0.0],
            r"^argument 0 at index \(\) stands on a kink of f: the slope is -1 to the left and 1 to the right$",
        ),
        (
            lambda x: np.maximum(x, 0),
            [np.float32([[1, 0]])],
            r"^argument 0 at index \(0, 1\) .* 0 to the left and 1 to",
        ),
        (np.maximum, [np.array([1.0, 2.0]), np.array([3.0, 2.0])], r"^argument 0 at index \(1,\) stands on a kink"),
        (
            lambda n, x: n * np.max(x),
            [3, np.array([1.0, 2.0, 2.0])],
            r"^argument 1 at index \(1,\) .* 0 to .* 3 to the",
        ),
        (lambda x: np.sqrt(np.sum(x**2)), [np.zeros(2)], r"^argument 0 at index \(0,\) .* -1 to the left and 1 to"),
        (lambda x: np.sum(np.abs(x)), [np.arange(100.0) - 50], r"^argument 0 at index \(50,\) stands on a kink"),
        (lambda x: np.where(x > 0, 1.01 * x, x), [0.0], "kink of f: the slope is 1 to the left and 1.01 to the right"),
        (lambda x: x + x * np.abs(x), [0.0], "kink of derivative 1 of f: the slope is -2 to the left and 2 to the"),
    ],
)
def test_a_kink_is_called_one(f: Callable[..., Any], args: list[Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_grads(f, args)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_bends_are_not_kinks(scale: float) -> None:
    check_grads(lambda x: np.logaddexp(0, 1e4 * x / scale), [np.array([0.0, 1e-4, -1e-3]) * scale])


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


@pytest.mark.parametrize(
    "x", [mg.Tensor([0.5, 2.0], requires_grad=True), mg.Tensor([0.5]), np.float64(0.5), np.float32(0.5), 0.5], ids=repr
)
def test_tensors_and_numbers_are_arguments_too(wrong: Callable[..., Any], scratch_primitive: Any, x: Any) -> None:
    right = scratch_primitive(lambda g, ans, x: g * np.cos(x))(lambda x: np.sin(x))
    twice = wrong(lambda x: np.sin(x), lambda g, ans, x: g * 2 * np.cos(x))
    check_grads(right, [x])
    assert_rule(right, x)
    with pytest.raises(AssertionError, match="derivative 1 of argument 0"):
        check_grads(twice, [x])
    twice = scratch_primitive(lambda g, ans, x: g * 2 * np.cos(x))(lambda x: np.sin(x))
    with pytest.raises(AssertionError, match="derivative 1 of argument 0"):
        assert_rule(twice, x)
    check_grads(lambda x, n: np.take(x, n) ** 2, [x, mg.Tensor([0, 0])])
    assert getattr(x, "grad", None) is None


@given(tensors())
def test_strategies_and_checks_fit_together(x: mg.Tensor) -> None:
    check_grads(lambda x: np.sin(x) * 2, [x], order=1)


@pytest.mark.parametrize("args", [0.5, np.ones(2), mg.Tensor([1.0, 2.0]), {"x": 1.0}], ids=repr)
def test_arguments_come_in_a_list(args: Any) -> None:
    with pytest.raises(TypeError, match=r"check_grads takes a list of arguments, check_grads\(f, \[x\]\)"):
        check_grads(np.sin, args)


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


# ------------------------------------------------------------------------------------------------- smaller inputs


def pasted(text: str) -> list[Any]:
    """The arguments of the call that a message shows."""
    call = next(line for line in text.splitlines() if line.strip().startswith("check_grads("))
    return eval(call.strip().removeprefix("check_grads(f, ").removesuffix(")"), {"np": np})


def test_a_failing_input_shrinks_to_what_can_be_pasted(wrong: Callable[..., Any]) -> None:
    times = wrong(np.multiply, lambda g, ans, x, y: g * y, lambda g, ans, x, y: 2 * g * x)
    with pytest.raises(AssertionError, match="The smallest input found") as caught:
        check_grads(lambda n, x, y: times(n * x, y), [3, numbers(2, 3, 2), numbers(3, 1).astype(np.float32)])
    n, x, y = pasted(str(caught.value))
    assert (n, x.tolist(), y.tolist(), y.dtype) == (3, [[[1]]], [[1]], np.float32)


def test_a_failing_product_keeps_shapes_that_fit(wrong: Callable[..., Any]) -> None:
    wrong_rule = lambda g, ans, x, y: 1.5 * np.matmul(g, np.swapaxes(y, -1, -2))
    with pytest.raises(AssertionError) as caught:
        check_grads(wrong(np.matmul, wrong_rule, vjps[np.matmul][1]), [numbers(4, 3), numbers(3, 5)])
    assert [x.tolist() for x in pasted(str(caught.value))] == [[[1]], [[1]]]


def test_what_matters_stays_in_the_smaller_input(wrong: Callable[..., Any]) -> None:
    rule = lambda g, ans, x: g * np.where(x > 1.7, 2, np.cos(x))
    with pytest.raises(AssertionError) as caught:
        check_grads(wrong(np.sin, rule), [np.array([[1.0, 1.83, 0.7], [0.1, 0.2, 0.3]])])
    assert [x.tolist() for x in pasted(str(caught.value))] == [[[2]]]


def test_the_original_stands_alone_where_nothing_is_simpler_or_wanted(wrong: Callable[..., Any]) -> None:
    sine = wrong(np.sin, lambda g, ans, x: g)
    for x, shrink in ((np.array([1.0]), True), (numbers(3), False)):
        with pytest.raises(AssertionError, match=r"give 0\.\d+$|give -?\d\.\d+$"):
            check_grads(sine, [x], shrink=shrink)


@given(st.data())
def test_sources_can_be_pasted(data: st.DataObject) -> None:
    shape = data.draw(broadcastable(1))[0]
    for dtype in (np.float64, np.float32, np.int64, np.bool_):
        x = np.asarray(data.draw(arrays_for(np.sin, [shape]))[0]).astype(dtype)
        again = eval(source(x), {"np": np})
        assert (again.shape, again.dtype) == (x.shape, x.dtype)
        np.testing.assert_array_equal(again, x)


# ------------------------------------------------------------------------------------------- rules of one's own


right_rules = [
    ((lambda g, ans, x: g * 3 * x * x,), lambda x: x**3, [numbers(2, 3)]),
    ((lambda g, ans, x: g * 3 * x * x,), lambda x: x**3, [1.5]),
    ((lambda g, ans, x, y: g * y, lambda g, ans, x, y: g * x), lambda x, y: x * y, [numbers(3), numbers(2, 1)]),
    ((lambda g, ans, x, n: g * n * x ** (n - 1), None), lambda x, n: x**n, [numbers(3), 3]),
    ((lambda g, ans, x: g * np.ones_like(x),), lambda x: x.sum(), [numbers(2, 3)]),
    (
        (lambda g, ans, x: g[..., None] * np.exp(x - ans[..., None]),),
        lambda x: np.log(np.exp(x).sum(-1)),
        [numbers(2, 3)],
    ),
    ((lambda g, ans, x, y: g * y, lambda g, ans, x, y: g * x), lambda x, y: np.inner(x, y), [numbers(3), numbers(3)]),
    ((lambda g, ans, x: np.flip(g),), lambda x: np.flip(x), [numbers(4)]),
    ((None,), np.floor, [numbers(3)]),
]


@pytest.mark.parametrize(("rules", "function", "args"), some(right_rules, 3))
def test_right_rules_pass(wrong: Callable[..., Any], rules: Any, function: Callable[..., Any], args: list[Any]) -> None:
    assert_rule(mg.primitive(*rules)(function), *args)


def writes(*numbers: Any) -> Any:
    """The first array, changed in place."""
    numbers[0][...] *= 2
    return numbers[0]


wrong_rules = {
    "scaled": ((lambda g, ans, x: 1.001 * g * np.cos(x),), lambda x: np.sin(x), "derivative 1 of argument 0"),
    "wrong argument": (
        (lambda g, ans, x, y: g * x, lambda g, ans, x, y: g * y),
        lambda x, y: x * y,
        "derivative 1 of argument 0",
    ),
    "second argument": (
        (lambda g, ans, x, y: g * y, lambda g, ans, x, y: g * y),
        lambda x, y: x * y,
        "derivative 1 of argument 1",
    ),
    "None": ((lambda g, ans, x, y: g * y, None), lambda x, y: x * y, "derivative 1 of argument 1 .* is -?0, "),
    "missing": ((lambda g, ans, x, y: g * y,), lambda x, y: x * y, "has 1 rules, so none for its argument 1"),
    "dtype lost": ((lambda g, ans, x: 2 * g,), lambda x: x * np.float64(2), "float64 for float32"),
    "input written": ((lambda g, ans, x: g * np.cos(x),), lambda x: np.sin(writes(x)), "read-only"),
    "input written by the rule": ((lambda g, ans, x: g * writes(x),), lambda x: x * x, "read-only"),
    "answer written": ((lambda g, ans, x: g * writes(ans) / 2,), lambda x: np.exp(x), "read-only"),
    "gradient written": ((lambda g, ans, x: writes(g),), lambda x: 2 * x, "read-only"),
    "kink": ((lambda g, ans, x: g * np.sign(x - x),), lambda x: np.abs(x - x[..., :1] * 0 - 1), "derivative 1|kink"),
    "second derivative only": (
        (lambda g, ans, x: g * np.cos(x.detach().data if isinstance(x, mg.Tensor) else x),),
        lambda x: np.sin(x),
        "derivative 2 of argument 0",
    ),
    "second derivative of a linear function": (
        (lambda g, ans, x: 2 * (g.detach().data if isinstance(g, mg.Tensor) else g),),
        lambda x: 2 * x,
        "derivative 2",
    ),
    "not linear": ((lambda g, ans, x: g * g * np.cos(x),), lambda x: np.sin(x), "derivative 1 of argument 0"),
    "broadcasting": (
        (lambda g, ans, x, y: g * y, lambda g, ans, x, y: (g * x).sum() * np.ones_like(y) if g.ndim > 1 else g * x),
        lambda x, y: x * y,
        "derivative 1 of argument 1",
    ),
    "empty": ((lambda g, ans, x: g * np.cos(x) + 0 * x[0],), lambda x: np.sin(x), "index"),
    "lost": ((lambda g, ans, x: 0 * g,), lambda x: np.sin(x), "derivative 1 of argument 0"),
}


@pytest.mark.parametrize("name", wrong_rules)
def test_planted_bugs_are_found(wrong: Callable[..., Any], name: str) -> None:
    rules, function, message = wrong_rules[name]
    args = [numbers(3), numbers(3) + 1][: len(inspect.signature(function).parameters)]
    with pytest.raises(AssertionError, match=message):
        assert_rule(mg.primitive(*rules)(function), *args)


def test_a_gradient_that_is_lost_on_the_way_is_found(wrong: Callable[..., Any]) -> None:
    sine = mg.primitive(lambda g, ans, x: g * np.cos(x))(np.sin)
    sine.__wrapped__ = np.sin
    np_sine = lambda x: sine(x.data if isinstance(x, mg.Tensor) else x)
    np_sine.__wrapped__ = np.sin
    with pytest.raises(AssertionError, match="shown Tensors it returns ndarray"):
        assert_rule(np_sine, numbers(3))


def test_assert_rule_wants_a_rule_and_arguments(wrong: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"<lambda> has no rule: decorate it with @minigrad\.primitive"):
        assert_rule(lambda x: x, numbers(3))
    with pytest.raises(TypeError, match="needs arguments"):
        assert_rule(wrong(np.sin, lambda g, ans, x: g), 3)


@pytest.mark.parametrize("ufunc", some([np.sin, np.divide, np.logaddexp, np.hypot], 2), ids=name_of)
def test_assert_rule_takes_functions_of_numpy(ufunc: np.ufunc) -> None:
    assert_rule(ufunc, *[numbers(2, 3)] * ufunc.nin)


# ------------------------------------------------------------------------------------------------------ strategies

ufuncs = [f for f in vjps if isinstance(f, np.ufunc) and f is not np.ldexp and not is_of_scipy(f)]  # takes integers


functions = [*ufuncs, np.max, np.min, np.prod, np.sum, np.std]


@pytest.mark.parametrize(
    ("function", "dtype"),
    [(f, dtype) for i, f in enumerate(functions) for dtype in some([np.float64, np.float32], 2, i)],
    ids=name_of,
)
@settings(max_examples=scale(2, 20))
@given(data=st.data())
def test_right_gradients_pass_everywhere_in_the_domain(function: Any, dtype: Any, data: st.DataObject) -> None:
    args = data.draw(arrays_for(function, dtype=dtype))
    assert {a.dtype for a in args} == {np.dtype(dtype)}
    flat = function is np.std and args[0].size == 1  # there it has no second derivative
    check_grads(function, args, order=2 if dtype is np.float64 and not flat else 1)


@given(st.sampled_from(list(DOMAINS)), st.data())
def test_arrays_lie_in_the_domain_and_have_the_shapes_asked_for(function: Any, data: st.DataObject) -> None:
    shapes = [(2, 3), (3,)][: len(DOMAINS[function])]
    args = data.draw(arrays_for(function, shapes))
    assert [a.shape for a in args] == shapes
    for a, domain in zip(args, DOMAINS[function], strict=True):
        assert all(any(low <= x <= high for low, high in domain) for x in a.flat)


@settings(max_examples=2 * settings().max_examples)
@given(
    st.sampled_from([np.sin, np.exp, np.tanh, np.arctan, np.cosh, lambda x: x**3, lambda x: 1 / (1 + x * x)]),
    st.sampled_from([10.0**n for n in range(-6, 7)]),
    st.sampled_from([10.0**n for n in range(-6, 7)]),
    arrays_for(np.sin),
    st.sampled_from([np.float64, np.float32]),
)
def test_right_gradients_pass_at_every_scale(f: Any, scale: float, factor: float, args: Any, dtype: Any) -> None:
    check_grads(lambda x: factor * f(x / scale), [(args[0] * scale).astype(dtype)], order=2)


@given(st.integers(1, 4).flatmap(broadcastable))
def test_broadcastable_shapes_broadcast(shapes: Any) -> None:
    np.broadcast_shapes(*shapes)


@given(tensors(), tensors(shape=(2, 0), dtype=np.float32, requires_grad=False))
def test_tensors(x: mg.Tensor, y: mg.Tensor) -> None:
    assert x.requires_grad
    assert x.dtype == np.float64
    assert (y.requires_grad, y.shape, y.dtype) == (False, (2, 0), np.float32)


@given(broadcastable(1), st.data())
def test_indices_can_be_pasted(shapes: Any, data: st.DataObject) -> None:
    index = data.draw(indices(shapes[0]))
    x = np.arange(np.prod(shapes[0], dtype=int)).reshape(shapes[0])
    np.testing.assert_array_equal(eval(f"x[{index_source(index)}]", {"np": np, "x": x}), x[index])


def test_without_hypothesis_a_sentence_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from minigrad.testing import check_grads\n"
        "try: from minigrad.testing import programs\n"
        "except ImportError as error: print(error)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "programs needs Hypothesis: python -m pip install hypothesis" in printed


def test_other_names_are_not_there() -> None:
    import minigrad.testing

    assert {"programs", "check_grads"} <= set(dir(minigrad.testing))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = minigrad.testing.nothing


# -------------------------------------------------------------------------------------------------- random programs


@settings(max_examples=2 * settings().max_examples)
@given(programs())
def test_programs_against_differences(program: Program) -> None:
    check_grads(program, program.args)


@settings(max_examples=4 * settings().max_examples)
@given(programs())
def test_programs_against_other_spellings(program: Program) -> None:
    """Values, gradients and second derivatives of the same program written in two ways."""
    answers = []
    for function in (program, program.respelled()):
        total = lambda *xs, f=function: np.sum(np.sin(f(*xs)))
        everything = tuple(range(len(program.args)))
        slope = lambda *xs, total=total: sum(np.sum(g * g) for g in mg.grad(total, everything)(*xs))  # noqa: B023
        value, first = mg.value_and_grad(total, everything)(*program.args)
        tensors = [mg.Tensor(a, requires_grad=True) for a in program.args]
        total(*tensors).backward()
        for tensor, gradient in zip(tensors, first, strict=True):
            np.testing.assert_array_equal(np.zeros_like(gradient) if tensor.grad is None else tensor.grad, gradient)
        answers.append([function(*program.args), value, *first, *mg.grad(slope, everything)(*program.args)])
    for one, other in zip(*answers, strict=True):
        size = np.max(np.abs(one), initial=1)
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-9 * size)


@given(programs(dtype=np.float32, lines=4))
def test_programs_can_be_pasted(program: Program) -> None:
    namespace: dict[str, Any] = {"np": np}
    exec(repr(program), namespace)
    np.testing.assert_array_equal(namespace["program"](*namespace["args"]), program(*program.args))
    assert [a.dtype for a in namespace["args"]] == [np.float32] * len(program.args)
    names = {node.id for node in ast.walk(ast.parse(program.source)) if isinstance(node, ast.Name)}
    assert names >= set(inspect.signature(program.function).parameters), "an argument is not used"


FAILING = [(np.tanh, "np.tanh"), (np.multiply, " * "), (np.sum, "np.sum")]


@pytest.mark.parametrize(("function", "name"), FAILING[: scale(1, 3)])
def test_a_failing_program_shrinks_to_few_lines(
    function: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(program: Program) -> bool:
        try:
            check_grads(program, program.args, order=1, shrink=False)
        except AssertionError:
            return True
        return False

    rules = [lambda *args, rule=rule, **kwargs: 1.1 * rule(*args, **kwargs) for rule in vjps[function]]
    monkeypatch.setitem(vjps, function, rules)
    program = find(programs(), fails, settings=settings(max_examples=1000, database=None, derandomize=True))
    assert len(str(program).splitlines()) <= 4, program
    assert name in str(program) or "@" in str(program)


def test_pytest_shows_the_test_and_the_message(tmp_path: Any) -> None:
    test = tmp_path / "test_sine.py"
    test.write_text(
        "import minigrad as mg, numpy as np\n"
        "from minigrad.testing import assert_rule\n"
        "sine = mg.primitive(lambda g, ans, x: g * np.sin(x))(lambda x: np.sin(x))\n"
        "def test_sine():\n"
        "    assert_rule(sine, np.array([1.0]))\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(test)]
    without_plugins = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # which take longer to load than it
    printed = subprocess.run(command, capture_output=True, text=True, env=without_plugins).stdout
    assert "AssertionError: <lambda>(np.array([1.])): derivative 1 of argument 0" in printed
    assert "check.py" not in printed
    assert "def check_grads" not in printed
