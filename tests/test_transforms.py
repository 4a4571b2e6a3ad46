"""`grad` and `value_and_grad`: what comes in and out, nesting, and the answers to what cannot be differentiated."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.testing import check_grads


def polynomial(x: Any, y: Any = 2.0, *, power: int = 3) -> Any:
    return np.sum(x**power * y)


X, Y = np.array([1.0, -2.0]), np.array([3.0, 5.0])
BY_X, BY_Y = 3 * X**2 * Y, X**3


@pytest.mark.parametrize(
    ("argnums", "expected"),
    [(0, BY_X), (1, BY_Y), (-1, BY_Y), (-2, BY_X), ((0,), (BY_X,)), ((0, 1), (BY_X, BY_Y)), ((1, 0), (BY_Y, BY_X)),
     ((-1, 0), (BY_Y, BY_X)), ((), ())],
)  # fmt: skip
def test_argnums(argnums: Any, expected: Any) -> None:
    value, gradient = mg.value_and_grad(polynomial, argnums)(X, Y)
    assert value == polynomial(X, Y)
    assert isinstance(gradient, tuple) == isinstance(argnums, tuple)
    np.testing.assert_array_equal(gradient, expected)
    np.testing.assert_array_equal(mg.grad(polynomial, argnums)(X, Y), expected)


@pytest.mark.parametrize("argnums", [2, -3, (0, 2)])
def test_argnums_beyond_the_arguments(argnums: Any) -> None:
    with pytest.raises(TypeError, match=r"argnums=.* called with 2 positional arguments"):
        mg.grad(polynomial, argnums)(X, Y)


def test_keyword_arguments_pass_through() -> None:
    np.testing.assert_array_equal(mg.grad(polynomial)(X, power=2), 4 * X)
    np.testing.assert_array_equal(mg.grad(polynomial)(X, y=Y), BY_X)


@pytest.mark.parametrize(
    "x", [2.0, np.float64(2), np.float32(2), np.array(2.0), np.array([2.0, 3.0], np.float32), [2.0, 3.0]]
)
def test_arrays_in_arrays_out(x: Any) -> None:
    value, gradient = mg.value_and_grad(lambda x: np.sum(x**2))(x)
    assert type(value) is type(gradient) is np.ndarray
    assert value.shape == ()
    assert gradient.shape == np.shape(x)
    assert gradient.dtype == value.dtype == np.asarray(x).dtype
    np.testing.assert_array_equal(gradient, 2 * np.asarray(x))
    gradient[...] = 0  # it is the caller's own


def test_tensor_in_tensor_out() -> None:
    x = mg.Tensor(X, requires_grad=True)
    value, gradient = mg.value_and_grad(lambda x: np.sum(x**3))(x)
    assert isinstance(value, mg.Tensor)
    assert isinstance(gradient, mg.Tensor)
    np.sum(gradient).backward()
    np.testing.assert_array_equal(x.grad, 6 * X)


def test_tensor_that_needs_no_gradient_in_tensor_out() -> None:
    gradient = mg.grad(lambda x: np.sum(x**3))(mg.Tensor(X))
    assert isinstance(gradient, mg.Tensor)
    np.testing.assert_array_equal(gradient.data, 3 * X**2)


def test_a_tensor_keeps_its_own_grad() -> None:
    x = mg.Tensor(X, requires_grad=True)
    mg.grad(lambda x: np.sum(x**3))(x)
    assert x.grad is None


def test_gradients_share_no_memory() -> None:
    first, second = mg.grad(lambda x, y: np.sum(x + y), (0, 1))(X, Y)
    first += 1
    np.testing.assert_array_equal(second, [1, 1])


def test_arguments_used_twice_are_two_arguments() -> None:
    np.testing.assert_array_equal(mg.grad(lambda x, y: np.sum(x * y), (0, 1))(X, X), [X, X])
    x = mg.Tensor(X, requires_grad=True)
    by_x, by_y = mg.grad(lambda x, y: np.sum(x**2 * y), (0, 1))(x, x)
    np.testing.assert_array_equal(by_x.data, 2 * X**2)
    np.testing.assert_array_equal(by_y.data, X**2)


# ---------------------------------------------------------------------------------------------------------- nesting


@pytest.mark.parametrize("order", range(11))
def test_derivatives_of_high_order(order: int) -> None:
    f: Any = lambda x: np.exp(2 * x) + np.sin(x) + x**4
    expected = [np.sin(0.3), np.cos(0.3), -np.sin(0.3), -np.cos(0.3)][order % 4] + 2.0**order * np.exp(0.6)
    expected += math.perm(4, order) * 0.3 ** (4 - order) if order <= 4 else 0
    for _ in range(order):
        f = mg.grad(f)
    np.testing.assert_allclose(f(0.3), expected, rtol=1e-13)


@given(st.integers(0, 9), st.lists(st.integers(-3, 3), min_size=1, max_size=10))
def test_derivatives_of_polynomials_are_exact(order: int, coefficients: list[int]) -> None:
    f: Any = lambda x: sum(c * x**n for n, c in enumerate(coefficients)) + 0 * x
    expected = sum(c * math.perm(n, order) * 2 ** (n - order) for n, c in enumerate(coefficients) if n >= order)
    for _ in range(order):
        f = mg.grad(f)
    assert f(2.0) == expected


def test_levels_are_not_confused() -> None:
    """The classic: d/dx (x * d/dy (x + y)) is 1, not 2."""
    assert mg.grad(lambda x: x * mg.grad(lambda y: x + y)(1.0))(1.0) == 1
    assert mg.grad(lambda x: x * mg.grad(lambda y: x * y**2)(3.0))(2.0) == 2 * 2 * 2 * 3
    assert mg.grad(lambda x: mg.grad(lambda y: mg.grad(lambda z: x * y**2 * z**3)(2.0))(3.0))(5.0) == 2 * 3 * 3 * 4
    assert mg.grad(lambda x: mg.grad(lambda y: x * y)(x))(5.0) == 1
    assert mg.grad(lambda x: x * mg.grad(lambda x: x**2)(x))(3.0) == 4 * 3


def test_inner_function_closes_over_the_outer_variable() -> None:
    """The inner function is called with arrays only, and depends on the outer variable all the same."""

    def outer(w: Any) -> Any:
        slope = mg.grad(lambda x: np.sum(np.sin(w * x)))(X)  # w cos(w x)
        assert type(slope) is type(w)
        return np.sum(slope**2)

    check_grads(outer, [np.array([0.3, -0.7])])


def test_a_gradient_step_can_be_differentiated() -> None:
    def after_two_steps(rate: Any) -> Any:
        w = np.array([2.0, -1.0])
        for _ in range(2):
            w = w - rate * mg.grad(lambda w: np.sum(w**4))(w)
        return np.sum(w**2)

    check_grads(after_two_steps, [0.01])


def test_hessian_of_a_quadratic_form() -> None:
    a = np.arange(9.0).reshape(3, 3)
    slope = mg.grad(lambda x: x @ a @ x)
    rows = [mg.grad(lambda x, i=i: slope(x)[i])(np.ones(3)) for i in range(3)]
    np.testing.assert_array_equal(rows, a + a.T)


def test_it_takes_part_in_backward() -> None:
    w = mg.Tensor(3.0, requires_grad=True)
    mg.grad(lambda x: w * x**2)(mg.Tensor(5.0)).backward()
    assert w.grad == 10


def test_differentiates_inside_no_grad() -> None:
    with mg.no_grad():
        np.testing.assert_array_equal(mg.grad(lambda x: np.sum(x**2))(X), 2 * X)
        assert mg.grad(mg.grad(lambda x: x**3))(2.0) == 12
    assert mg.grad(lambda x: x * mg.no_grad()(lambda x: x**2)(x))(3.0) == 9


# ------------------------------------------------------------------------------------- what cannot be differentiated


@pytest.mark.parametrize(
    "f", [lambda x: 5.0, lambda x: np.float32(5), lambda x: np.sum(np.sign(x)), lambda x: np.argmax(x),
          lambda x: np.sum(x > 0), lambda x: np.sum(x.detach()), lambda x: mg.Tensor(1.0, requires_grad=True) ** 2]
)  # fmt: skip
def test_functions_that_do_not_depend_on_the_argument(f: Any) -> None:
    gradient = mg.grad(f)(X)
    np.testing.assert_array_equal(gradient, [0, 0])
    assert gradient.dtype == X.dtype


def test_the_identity() -> None:
    x = np.array(2.0)
    value, gradient = mg.value_and_grad(lambda x: x)(x)
    assert (value, gradient) == (2, 1)
    assert not np.shares_memory(value, x)


@pytest.mark.parametrize("f", [lambda x: x, lambda x: x[:1], lambda x: np.ones(3)])
def test_functions_that_return_an_array(f: Any) -> None:
    with pytest.raises(TypeError, match=r"returns a single number.*array of shape \(\d,\).*np\.sum"):
        mg.grad(f)(X)


@pytest.mark.parametrize("x", [3, True, np.arange(3), 1j, np.ones(3, complex)])
def test_arguments_that_are_not_floating(x: Any) -> None:
    with pytest.raises(TypeError, match="only floating tensors can require a gradient"):
        mg.grad(lambda x: np.sum(x))(x)


def test_other_arguments_may_be_anything() -> None:
    f = lambda x, n, text, table: np.sum(x) * n * len(text) * table["w"]
    np.testing.assert_array_equal(mg.grad(f)(X, 2, "abc", {"w": 5}), [30, 30])


def test_an_error_inside_leaves_no_trace() -> None:
    def fails(x: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        mg.grad(fails)(X)
    assert type(mg.grad(lambda x: x**2)(1.0)) is np.ndarray


def test_it_is_still_called_by_its_name() -> None:
    assert mg.grad(polynomial).__name__ == "polynomial"
    assert mg.value_and_grad(np.sin)(0.0) == (0, 1)
