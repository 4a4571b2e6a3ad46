"""Slopes of large and tiny numbers: as many digits as the number itself gives, in both tails and to second order.

The right values are computed by sixty decimal digits, from the formulas of calculus. An error of half a unit in the
last place of `x` changes f'(x) by x * f''(x) * eps / 2, and this much is nobody's fault; beyond that, a few eps are
allowed.
"""

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn

D, Number = Decimal, Decimal
LN2 = D(2).ln(Context(prec=60))


def sigma(x: Number) -> Number:
    return 1 / (1 + (-x).exp())


def sech(x: Number) -> Number:
    return 2 / (x.exp() + (-x).exp())


def tanh(x: Number) -> Number:
    if abs(x) < D("1e-12"):
        return x - x**3 / 3
    return (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())


def of_logistic(x: Number) -> tuple[Number, Number]:
    slope = sigma(x) * sigma(-x)
    return slope, -slope * tanh(x / 2)


TAILS = [1e-30, 1e-10, 1e-4, 0.3, 2.0, 9.0, 15.0, 18.0, 40.0, 85.0, 300.0, 700.0]
NEAR_0 = [1e-30, 1e-20, 1e-8, 1e-4, 0.3]
NEAR_1 = [*NEAR_0, 0.9, 0.99, 1 - 2.0**-12, 1 - 2.0**-23]
WIDE = [*NEAR_0, 3.0, 1e4, 1e10, 1e12, 1e18, 1e22, 1e30, 1e100, 1e153, 1e200, 1e300]

# Read as a table: the columns are aligned by hand.
# fmt: off
SLOPES: dict[str, tuple[Callable[[Any], Any], Callable[[Number], tuple[Number, Number]], list[float]]] = {
    "np.tanh":     (np.tanh,                      lambda x: (sech(x)**2, -2 * tanh(x) * sech(x)**2),         TAILS),
    "tanh":        (nn.tanh,                      lambda x: (sech(x)**2, -2 * tanh(x) * sech(x)**2),         TAILS),
    "sigmoid":     (nn.sigmoid,                   of_logistic,                                               TAILS),
    "softplus":    (nn.softplus,                  lambda x: (sigma(x), sigma(x) * sigma(-x)),                TAILS),
    "logaddexp":   (lambda x: np.logaddexp(x, 1), lambda x: (sigma(x - 1), sigma(x - 1) * sigma(1 - x)),     TAILS),
    "logaddexp2":  (lambda x: np.logaddexp2(0, x),
                    lambda x: (sigma(x * LN2), sigma(x * LN2) * sigma(-x * LN2) * LN2),                      TAILS),
    "log-loss, 1": (lambda x: nn.log_loss_with_logits(x, np.ones(np.shape(x)), "sum"),
                    lambda x: (-sigma(-x), sigma(x) * sigma(-x)),                                            TAILS),
    "log-loss, 0": (lambda x: nn.log_loss_with_logits(x, np.zeros(np.shape(x)), "sum"),
                    lambda x: (sigma(x), sigma(x) * sigma(-x)),                                              TAILS),
    "expm1":       (np.expm1,                     lambda x: (x.exp(), x.exp()),                              TAILS),
    "arcsin":      (np.arcsin,                    lambda x: (1 / (1 - x*x).sqrt(), x / (1 - x*x).sqrt()**3), NEAR_1),
    "arccos":      (np.arccos,                    lambda x: (-1 / (1 - x*x).sqrt(), -x / (1 - x*x).sqrt()**3), NEAR_1),
    "arctanh":     (np.arctanh,                   lambda x: (1 / (1 - x*x), 2 * x / (1 - x*x)**2),           NEAR_1),
    "arctan":      (np.arctan,                    lambda x: (1 / (1 + x*x), -2 * x / (1 + x*x)**2),          WIDE),
    "arcsinh":     (np.arcsinh,                   lambda x: (1 / (1 + x*x).sqrt(), -x / (1 + x*x).sqrt()**3), WIDE),
    "hypot":       (lambda x: np.hypot(x, 1),     lambda x: (x / (1 + x*x).sqrt(), 1 / (1 + x*x).sqrt()**3), WIDE),
    "arctan2":     (lambda x: np.arctan2(x, 1),   lambda x: (1 / (1 + x*x), -2 * x / (1 + x*x)**2),          WIDE),
    "reciprocal":  (np.reciprocal,                lambda x: (-1 / (x*x), 2 / x**3),                          WIDE),
    "exp2":        (np.exp2,                      lambda x: (LN2 * (x * LN2).exp(), LN2**2 * (x * LN2).exp()),
                                                  [-1e3, -120.0, 1e-9, 1.0, 127.4, 127.9, 1000.0, 1023.9]),
}
# fmt: on


def derivatives(f: Callable[[Any], Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    first = mg.grad(lambda x: np.sum(f(x)))
    return first, mg.grad(lambda x: np.sum(first(x)))


def check_at(name: str, numbers: list[float], dtype: Any, change: Callable[[Any], Any] = lambda f: f) -> None:
    f, exact, _ = SLOPES[name]
    limits = np.finfo(dtype)
    smallest, largest = float(limits.smallest_normal), float(limits.max)
    x = np.array([number for number in numbers if smallest <= abs(number) <= largest], dtype)
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = 60, -(10**6), 10**6
        right = [exact(D(float(number))) for number in x]
        nearby = [exact(D(float(number)) * (1 + D("1e-25"))) for number in x]
        for order, derivative in enumerate(derivatives(f)):
            with np.errstate(all="ignore"):  # values overflow where slopes do not
                found = change(derivative)(x)
            for number, answer, these, others in zip(x, found, right, nearby, strict=True):
                value, other = these[order], others[order]
                if not smallest <= abs(float(value)) <= largest:
                    continue
                condition = abs((other - value) / value / D("1e-25"))
                error = float(abs(D(float(answer)) - value) / abs(value)) if np.isfinite(answer) else math.inf
                assert error <= (16 + 2 * float(condition)) * limits.eps, f"{name}, order {order + 1}, at {number}"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", SLOPES)
def test_slopes_keep_their_digits(name: str, dtype: Any) -> None:
    points = SLOPES[name][2]
    check_at(name, [*points, *(-x for x in points if x > 0)], dtype)


@pytest.mark.parametrize("name", ["np.tanh", "softplus", "arcsin", "arctan", "hypot"])
def test_slopes_of_programs_keep_their_digits(name: str) -> None:
    points = SLOPES[name][2]
    check_at(name, [*points, *(-x for x in points)], np.float64, mg.compile)


@pytest.mark.parametrize("name", ["np.tanh", "sigmoid", "softplus", "logaddexp2"])
@given(st.lists(st.floats(-700, 700, width=32), min_size=1, max_size=20))
def test_slopes_keep_their_digits_everywhere(name: str, numbers: list[float]) -> None:
    check_at(name, numbers, np.float64)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [1e3, 1e7, 1e30, np.inf])
@pytest.mark.parametrize("ufunc", [np.logaddexp, np.logaddexp2])
def test_equal_numbers_share_at_every_size(ufunc: Any, size: float, dtype: Any) -> None:
    for x in (dtype(size), dtype(-size)):
        np.testing.assert_array_equal(mg.grad(ufunc, (0, 1))(x, x), [0.5, 0.5])
        for n in (1, 2, 3, 7):
            for fold in (ufunc.reduce, lambda x: ufunc.accumulate(x)[-1]):
                np.testing.assert_allclose(
                    mg.grad(fold)(np.full(n, x)), np.full(n, 1 / n), rtol=4 * np.finfo(dtype).eps
                )


def test_shares_that_the_sum_cannot_tell_apart() -> None:
    x = np.array([1e7, 1e7 + 1, 1e7 - 3, -1e9], np.float32)
    shares = np.exp(x.astype(np.float64) - 1e7)
    for fold in (np.logaddexp.reduce, lambda x: np.logaddexp.accumulate(x)[-1]):
        np.testing.assert_allclose(mg.grad(fold)(x), shares / np.sum(shares), rtol=1e-6)


def test_a_gradient_that_is_not_1_does_not_overflow_on_the_way() -> None:
    assert mg.vjp(np.exp2, 1023.99)[1](1.4)[0] == pytest.approx(1.4 * math.log(2) * 2.0**1023.99, rel=1e-12)


# ------------------------------------------------------------------------------------------------------ half precision

half = np.float16
MANY = 70_000  # 2048 is as far as half precision counts, and 65,504 is its largest number

# fmt: off
IN_HALF: dict[str, tuple[Callable[[Any], Any], int, float]] = {  # function, length of its argument of ones, any slope
    "max":           (np.max,                                                  MANY,  1 / MANY),
    "min":           (lambda x: np.min(x.reshape(-1, 2), 0)[0] + np.min(x.reshape(-1, 2), 0)[1], MANY, 2 / MANY),
    "fmax.reduce":   (np.fmax.reduce,                                          MANY,  1 / MANY),
    "sort":          (lambda x: np.mean(np.sort(x)),                           MANY,  1 / MANY),
    "partition":     (lambda x: np.mean(np.partition(x, 3)),                   MANY,  1 / MANY),
    "median":        (np.median,                                               MANY,  1 / MANY),
    "last maximum":  (lambda x: np.maximum.accumulate(x)[-1],                  MANY,  1 / MANY),
    "mean":          (np.mean,                                                 MANY,  1 / MANY),
    "a row":         (lambda x: np.sum(np.ones((5000, 3), half) * x),          3,     5000),
    "a number":      (lambda x: np.sum(np.ones((50, 100), half) * x),          1,     5000),
    "stretched":     (lambda x: np.sum(np.broadcast_to(x, (40_000, 1))),       1,     40_000),
    "an index":      (lambda x: np.sum(x[np.zeros(5000, int)]),                1,     5000),
    "two indices":   (lambda x: np.sum(x[[0] * 5000]) + np.sum(x[[0] * 5000]), 1,     10_000),
    "repeat":        (lambda x: np.sum(np.repeat(x, 5000)),                    2,     5000),
    "take":          (lambda x: np.sum(np.take(x, [1, 0] * 5000)),             2,     5000),
    "tile":          (lambda x: np.sum(np.tile(x, 5000)),                      2,     5000),
    "put_add":       (lambda x: mg.put_add(np.zeros(1, half), [0] * 5000, x)[0], 5000, 1),
    "a product":     (lambda x: np.sum(np.ones((5000, 1), half) @ x[None]),    2,     5000),
}
# fmt: on


@pytest.mark.parametrize("name", IN_HALF)
def test_sums_and_counts_are_carried_in_single_precision(name: str) -> None:
    f, n, expected = IN_HALF[name]
    gradient = mg.grad(f)(np.ones(n, half))
    assert gradient.dtype == half
    np.testing.assert_allclose(gradient, np.full(n, expected), rtol=1e-3, atol=1e-7)


def test_running_sums_in_half_precision() -> None:
    n = 2500
    np.testing.assert_allclose(mg.grad(lambda x: np.cumsum(x)[-1])(np.ones(n, half)), np.ones(n))
    np.testing.assert_allclose(mg.grad(lambda x: np.sum(np.cumsum(x)))(np.zeros(n, half)), n - np.arange(n), rtol=1e-3)
    windows = mg.grad(lambda x: np.sum(np.lib.stride_tricks.sliding_window_view(x, n)))(np.zeros(2 * n, half))
    np.testing.assert_allclose(windows[n], n, rtol=1e-3)
    copies = mg.grad(lambda x: np.sum(np.maximum.accumulate(x)))(np.ones(n, half))
    np.testing.assert_allclose(np.sum(copies.astype(float)), n, rtol=1e-3)
    assert mg.put_add(np.zeros(1, half), [0] * 5000, half(1)) == 5000


@pytest.mark.parametrize("f", [nn.softmax, lambda x: np.exp(nn.log_softmax(x)), nn.log_softmax])
def test_softmax_of_many_classes_in_half_precision(f: Any) -> None:
    x = np.zeros(MANY, half)
    single = x.astype(np.float32)
    np.testing.assert_allclose(f(x), f(single).astype(half), rtol=2e-3, atol=1e-7)
    found, expected = (mg.grad(lambda x: f(x)[0])(x) for x in (x, single))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-7)
    assert (f(x).dtype, f(mg.Tensor(x)).dtype, found.dtype) == (half, half, half)
    assert nn.cross_entropy(x[None], np.array([3])) == pytest.approx(math.log(MANY), rel=1e-3)
