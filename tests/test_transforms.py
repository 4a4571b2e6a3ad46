"""`grad` and `value_and_grad`: what comes in and out, nesting, and the answers to what cannot be differentiated."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

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


@pytest.mark.parametrize("x", [2.0, np.float64(2), np.float32(2), np.array(2.0), np.array([2.0, 3.0], np.float32)])
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


def test_the_gradient_by_a_tensor_that_needs_none_can_be_differentiated_by_others() -> None:
    """As the penalty on a gradient with respect to data is, by weights that the function closes over."""
    w = mg.Tensor(Y, requires_grad=True)
    gradient = mg.grad(lambda x: np.sum(w * x**2))(mg.Tensor(X))
    np.sum(gradient**2).backward()
    np.testing.assert_array_equal(w.grad, 8 * Y * X**2)


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
    "f", [lambda x: 5.0, lambda x: np.float32(5), lambda x: np.sum(np.sign(x)), lambda x: 5,
          lambda x: np.sum(x.detach()), lambda x: mg.Tensor(1.0, requires_grad=True) ** 2]
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


@pytest.mark.parametrize("f", [lambda x: x, lambda x: x[:0], lambda x: np.ones(3)])
def test_functions_that_return_an_array(f: Any) -> None:
    with pytest.raises(TypeError, match=r"returns a single real number.*of shape \(\d,\).*np\.sum"):
        mg.grad(f)(X)


@pytest.mark.parametrize("x", [3, True, np.arange(3)])
def test_arguments_that_are_not_floating(x: Any) -> None:
    with pytest.raises(TypeError, match="only floating arguments have derivatives"):
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


@pytest.mark.parametrize("f", [np.argmax, lambda x: np.sum(x > 0)])
def test_answers_that_have_no_derivative(f: Any) -> None:
    with pytest.raises(TypeError, match="only floating answers have derivatives, and this function returned"):
        mg.grad(f)(X)


# ----------------------------------------------------------------------------------------------------- structures


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass
class Layer:
    weight: Any
    bias: Any


STRUCTURES = [
    {"w": X, "b": 2.0},
    [X, 2.0],
    (X, 2.0),
    Pair(X, 2.0),
    Layer(X, 2.0),
    {"layers": [Layer(X, (1.0, 2.0)), Pair(X, [])], "none": None},
]


def leaves_of(tree: Any) -> list[Any]:
    if isinstance(tree, Layer):
        tree = vars(tree)
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        return [leaf for part in tree for leaf in leaves_of(part)]
    return [] if tree is None else [tree]


@pytest.mark.parametrize("tree", STRUCTURES, ids=lambda tree: type(tree).__name__)
def test_gradients_come_in_the_structure_of_the_argument(tree: Any) -> None:
    f = lambda tree: sum(np.sum(leaf**2) for leaf in leaves_of(tree))
    gradient = mg.grad(f)(tree)
    assert type(gradient) is type(tree)
    for leaf, g in zip(leaves_of(tree), leaves_of(gradient), strict=True):
        np.testing.assert_array_equal(g, 2 * np.asarray(leaf))
    assert str(gradient).replace("array", "") != str(tree)
    (pulled,) = mg.vjp(f, tree)[1](np.array(2.0))
    for leaf, g in zip(leaves_of(tree), leaves_of(pulled), strict=True):
        np.testing.assert_array_equal(g, 4 * np.asarray(leaf))


def test_what_stands_beside_the_answer_is_handed_on() -> None:
    f = lambda x: (np.sum(x**2), {"twice": 2 * x, "name": "f"})
    (value, aux), gradient = mg.value_and_grad(f, has_aux=True)(X)
    assert value == 5
    np.testing.assert_array_equal(gradient, 2 * X)
    assert (type(aux["twice"]), aux["twice"].tolist(), aux["name"]) == (np.ndarray, [2, -4], "f")
    gradient, aux = mg.grad(f, has_aux=True)(X)
    np.testing.assert_array_equal(gradient, 2 * X)
    assert aux["name"] == "f"


# ---------------------------------------------------------------------------------------------- maps and matrices


def field(x: Any, y: Any) -> Any:
    """From (2,) and () to (3,)."""
    return np.stack([np.sin(x[0]) * y, x[0] * x[1] * y**2, np.exp(x[1])])


def field_jacobians(x: Any, y: Any) -> tuple[Any, Any]:
    by_x = [[np.cos(x[0]) * y, 0], [x[1] * y**2, x[0] * y**2], [0, np.exp(x[1])]]
    return np.array(by_x), np.array([np.sin(x[0]), 2 * x[0] * x[1] * y, 0])


numbers = st.floats(-2, 2, width=32)


@given(st.tuples(numbers, numbers), numbers, st.tuples(numbers, numbers, numbers), st.tuples(numbers, numbers), numbers)
def test_vjp_jvp_and_jacobian_agree_with_the_matrix(x: Any, y: Any, g: Any, dx: Any, dy: Any) -> None:
    x, y, g, dx, dy = (np.array(value, np.float64) for value in (x, y, g, dx, dy))
    by_x, by_y = field_jacobians(x, y)
    out, pullback = mg.vjp(field, x, y)
    np.testing.assert_array_equal(out, field(x, y))
    for _ in range(2):  # it may be called again
        for found, expected in zip(pullback(g), (g @ by_x, g @ by_y), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-12)
    out, moved = mg.jvp(field, (x, y), (dx, dy))
    np.testing.assert_array_equal(out, field(x, y))
    np.testing.assert_allclose(moved, by_x @ dx + by_y * dy, atol=1e-12)
    for found, expected in zip(mg.jacobian(field, (0, 1))(x, y), (by_x, by_y), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_hessian_and_hessian_times_vector() -> None:
    f = lambda x, k=1: np.sum(x**3) * x[0] ** k
    x = np.array([1.0, 2.0])
    expected = np.array([[12.0, 12.0], [12.0, 12.0]])
    np.testing.assert_allclose(mg.hessian(f)(x), expected)
    np.testing.assert_allclose(mg.hessian(f)(x, k=0), np.diag(6 * x))
    v = np.array([1.0, -3.0])
    np.testing.assert_allclose(mg.hvp(f)(x, v), expected @ v)
    np.testing.assert_allclose(mg.hvp(f)(x, v, k=0), 6 * x * v)
    assert mg.jacobian(lambda a: a @ a)(np.ones((2, 3, 3))).shape == (2, 3, 3, 2, 3, 3)
    assert mg.jacobian(lambda a: a[:0])(x).shape == (0, 2)


def test_elementwise_grad() -> None:
    np.testing.assert_allclose(mg.elementwise_grad(np.sin)(X), np.cos(X))
    np.testing.assert_allclose(mg.elementwise_grad(mg.elementwise_grad(np.sin))(X), -np.sin(X))


TRANSFORMS: dict[str, Callable[..., Any]] = {
    "grad": lambda f: mg.grad(f),
    "jacobian": lambda f: mg.jacobian(f),
    "elementwise_grad": lambda f: mg.elementwise_grad(f),
    "jvp": lambda f: lambda x: mg.jvp(f, (x,), (1.0,))[1],
    "vjp": lambda f: lambda x: mg.vjp(f, x)[1](np.array(1.0))[0],
    "hvp": lambda f: lambda x: mg.hvp(lambda x: (f(x) * x) / 2)(x, 1.0) - x / 2 * TWICE(f)(x),
    "checkpoint": lambda f: mg.grad(mg.checkpoint(f)),
}
TWICE = lambda f: mg.grad(mg.grad(f))


@pytest.mark.parametrize("first", TRANSFORMS)
@pytest.mark.parametrize("second", TRANSFORMS)
def test_they_nest_in_every_combination(first: str, second: str) -> None:
    f = lambda x: np.sin(2 * x) * x  # each transform gives the first derivative in its own way
    nested = TRANSFORMS[second](TRANSFORMS[first](f))
    x = 0.7
    np.testing.assert_allclose(nested(x), 4 * np.cos(2 * x) - 4 * np.sin(2 * x) * x, rtol=1e-9)


def test_the_levels_are_not_confused() -> None:
    """Siskind and Pearlmutter, 2005: d/dx (x * d/dy (x + y)) is 1, and so is the derivative forward."""
    assert mg.grad(lambda x: x * mg.grad(lambda y: x + y)(1.0))(1.0) == 1
    assert mg.jvp(lambda x: x * mg.jvp(lambda y: x + y, (1.0,), (1.0,))[1], (1.0,), (1.0,))[1] == 1
    assert mg.grad(lambda x: mg.jvp(lambda y: x * y**2, (3.0,), (1.0,))[1])(2.0) == 6


def test_a_pullback_refuses_a_gradient_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"answer of shape \(2,\) got a gradient of shape \(3,\)"):
        mg.vjp(lambda x: x, X)[1](np.ones(3))


def test_tangents_are_shaped_like_the_primals() -> None:
    for f in (lambda: mg.jvp(np.sum, (X,), (np.ones(3),)), lambda: mg.hvp(np.sum)(X, np.ones(3))):
        with pytest.raises(ValueError, match=r"shaped like the primals, \[\(2,\)\], and these have .* \[\(3,\)\]"):
            f()


P = {"a": np.array([1.0, 2.0]), "b": [3.0, (np.array(4.0), None)]}
V_OF_P = {"b": [0.5, (np.array(-1.0), None)], "a": np.array([2.0, 1.0])}  # in another order


def of_a_structure(p: Any) -> Any:
    return np.sum(p["a"] ** 2) * p["b"][0] + p["b"][1][0] * p["a"][0] ** 3


def test_tangents_are_matched_by_their_keys() -> None:
    assert mg.jvp(lambda d: 10 * d["a"] + d["b"], ({"a": 1.0, "b": 2.0},), ({"b": 1.0, "a": 0.0},))[1] == 1
    moved = lambda t: {
        "a": P["a"] + t * V_OF_P["a"],
        "b": [3.0 + t * 0.5, (4.0 - t, None)],
    }
    along = lambda t: of_a_structure(moved(t))
    assert mg.jvp(of_a_structure, (P,), (V_OF_P,))[1] == mg.grad(along)(0.0)
    product = mg.hvp(of_a_structure)(P, V_OF_P)
    assert list(product) == ["a", "b"]
    np.testing.assert_allclose(
        np.dot(product["a"], V_OF_P["a"]) + product["b"][0] * 0.5 - product["b"][1][0], mg.grad(mg.grad(along))(0.0)
    )


WRONG_TANGENTS: dict[str, Any] = {
    "other keys": (
        {"a": V_OF_P["a"], "c": V_OF_P["b"]},
        ValueError,
        "is a dict of 'a', 'c', where a dict of",
    ),
    "a key too few": ({"a": V_OF_P["a"]}, ValueError, "is a dict of 'a', where a dict of 'a', 'b' is wanted"),
    "a tuple for a list": (
        {**V_OF_P, "b": (0.5, (-1.0, None))},
        ValueError,
        r"\['b'\] is a tuple of 0, 1, where a list",
    ),
    "other nesting": ({**V_OF_P, "b": [(0.5, None), -1.0]}, ValueError, r"\['b'\]\[0\] is a tuple.*where a float"),
    "a number for None": (
        {**V_OF_P, "b": [0.5, (-1.0, 1.0)]},
        ValueError,
        r"\['b'\]\[1\]\[1\] is a float, where a NoneType",
    ),
    "None for a number": (
        {**V_OF_P, "b": [None, (-1.0, None)]},
        ValueError,
        r"\['b'\]\[0\] is a NoneType, where a float",
    ),
    "an array for all": (np.ones(4), ValueError, "is a ndarray, where a dict"),
    "another shape": ({**V_OF_P, "a": np.ones(3)}, ValueError, r"shaped like the primals.*\(3,\)"),
    "complex numbers": ({**V_OF_P, "a": np.ones(2) * 1j}, TypeError, "and not of dtype complex128"),
    "a text": ({**V_OF_P, "b": ["a", (-1.0, None)]}, TypeError, "and not of dtype <U1"),
    "a masked array": ({**V_OF_P, "a": np.ma.ones(2)}, TypeError, "has no mask"),
}


@pytest.mark.parametrize("name", WRONG_TANGENTS)
def test_tangents_have_the_structure_of_the_primals(name: str) -> None:
    tangents, kind, words = WRONG_TANGENTS[name]
    for act in (lambda: mg.jvp(of_a_structure, (P,), (tangents,)), lambda: mg.hvp(of_a_structure)(P, tangents)):
        with pytest.raises(kind, match=words):
            act()


def test_hvp_is_called_as_hessian_is() -> None:
    f = lambda x, y: np.sum(np.sin(x) * y**2)
    x, y, v, w = np.array([0.3, 0.5]), np.array([1.0, -2.0]), np.array([1.0, 3.0]), np.array([-1.0, 0.5])
    for n, vector in enumerate((v, w)):
        np.testing.assert_allclose(mg.hvp(f, n)(x, y, vector), mg.hessian(f, n)(x, y) @ vector, rtol=1e-12)
    by_x, by_y = mg.hvp(f, (0, 1))(x, y, (v, w))
    both = mg.hessian(lambda z: f(z[:2], z[2:]))(np.concatenate([x, y]))
    np.testing.assert_allclose(np.concatenate([by_x, by_y]), both @ np.concatenate([v, w]), rtol=1e-12)
    assert mg.hvp(f).__name__ == mg.hessian(f).__name__


@pytest.mark.parametrize(
    "g", [None, "1", 1j, {"a": 1.0}, np.datetime64(1, "s"), np.ma.masked_array(1.0, True)], ids=repr
)
def test_a_pullback_takes_real_numbers(g: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"does not fit|has no mask"):
        mg.vjp(np.sin, 1.0)[1](g)


# ------------------------------------------------------------------------------------------- clear errors, one number

A_FUNCTION = "a function is differentiated, and not 3"
STRUCTURE = "<lambda> returned a {}, and derivatives are those of one array.*np.stack.*has_aux"
WRONG_CALLS: dict[str, Any] = {
    **{f"{f.__name__} of a number": (lambda f=f: f(3), A_FUNCTION) for f in (
        mg.grad, mg.value_and_grad, mg.elementwise_grad, mg.jacobian, mg.hessian, mg.hvp, mg.checkpoint)},
    "vjp of a number": (lambda: mg.vjp(3, 1.0), A_FUNCTION),
    "jvp of a number": (lambda: mg.jvp(3, (1.0,), (1.0,)), A_FUNCTION),
    "grad of an answer": (lambda: mg.grad(mg.Tensor(1.0)), "a function is differentiated.*x.backward()"),
    "grad(f, x)": (lambda: mg.grad(np.sin, X), r"argnums is the position.*grad\(f\)\(x\)"),
    "grad(f, 1.0)": (lambda: mg.grad(np.sin, 1.0), "argnums is the position"),
    "grad(f, [0, 1])": (lambda: mg.grad(np.multiply, [0, 1]), r"argnums is the position .*tuple.* not \[0, 1\]"),
    "grad(f, 'x')": (lambda: mg.grad(np.sin, "x"), "argnums is the position"),
    "grad(f, True)": (lambda: mg.grad(np.sin, True), "argnums is the position"),
    "jvp of numbers": (lambda: mg.jvp(np.sin, 1.0, 1.0), r"as tuples, jvp\(f, \(x,\), \(v,\)\).* float and float"),
    "jvp of arrays": (lambda: mg.jvp(np.sin, X, X), "as tuples.*ndarray and ndarray"),
    "jvp of dicts": (lambda: mg.jvp(of_a_structure, P, P), "as tuples.*dict and dict"),
    "jvp of a tuple and a number": (lambda: mg.jvp(np.sin, (1.0,), 1.0), "as tuples.*tuple and float"),
    "hvp(f, x, v)": (lambda: mg.hvp(np.sum, X, X), r"as hessian is, hvp\(f\)\(x, v\)"),
    "hvp(f, (x,), (v,))": (lambda: mg.hvp(np.sum, (X,), (X,)), r"as hessian is, hvp\(f\)\(x, v\)"),
    "hvp(f)(x)": (lambda: mg.hvp(np.sum)(X), r"and then the vector, as in hvp\(f\)\(x, v\)"),
    "hessian of a dict": (lambda: mg.hessian(of_a_structure)(P), "by one array.*hvp"),
    "hessian of two": (lambda: mg.hessian(np.dot, (0, 1))(X, X), "by one array.*hvp"),
    "has_aux without a pair": (lambda: mg.grad(np.sum, has_aux=True)(X), r"returns a pair, \(number, rest\)"),
    "has_aux with three": (lambda: mg.grad(lambda x: (x, x, x), has_aux=True)(1.0), "returns a pair"),
    "vjp, a tuple": (lambda: mg.vjp(lambda x: (x, x * 2), 1.0), STRUCTURE.format("tuple")),
    "jvp, a list": (lambda: mg.jvp(lambda x: [x, x * 2], (1.0,), (1.0,)), STRUCTURE.format("list")),
    "jacobian, a dict": (lambda: mg.jacobian(lambda x: {"a": x})(X), STRUCTURE.format("dict")),
    "jacobian, plain numbers": (lambda: mg.jacobian(lambda x: [1.0, 2.0])(X), STRUCTURE.format("list")),
    "grad, a list of one": (lambda: mg.grad(lambda x: [x])(1.0), STRUCTURE.format("list")),
    "hessian, a tuple": (lambda: mg.hessian(lambda x: (np.sum(x), 1))(X), STRUCTURE.format("tuple")),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_transforms_called_otherwise_than_they_are(name: str) -> None:
    act, words = WRONG_CALLS[name]
    with pytest.raises(TypeError, match=words):
        act()


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("wrapped", [lambda f: f, mg.checkpoint, mg.compile], ids=["eager", "checkpoint", "compile"])
def test_an_answer_of_one_element_is_one_number(shape: Any, wrapped: Any) -> None:
    f = wrapped(lambda x: np.reshape(np.sum(x**3), shape))
    np.testing.assert_allclose(mg.grad(f)(X), 3 * X**2)
    value, gradient = mg.value_and_grad(f)(X)
    assert (np.shape(value), np.shape(gradient)) == (shape, X.shape)
    np.testing.assert_allclose(value, np.full(shape, np.sum(X**3)))
    np.testing.assert_allclose(mg.hessian(f)(X), np.diag(6 * X))
    np.testing.assert_allclose(mg.hvp(f)(X, np.ones(2)), 6 * X)
    np.testing.assert_allclose(mg.grad(lambda x: np.reshape(mg.grad(f)(x)[0], shape))(X), [6 * X[0], 0])
    ((value, aux), gradient) = mg.value_and_grad(lambda x: (f(x), x[0]), has_aux=True)(X)
    assert (np.shape(value), aux) == (shape, X[0])
    np.testing.assert_allclose(mg.compile(mg.grad(f))(X), 3 * X**2)


# ----------------------------------------------------------------------------------------------------- checkpoint


def test_checkpoint_computes_again() -> None:
    calls = []

    def f(x: Any, *, power: int) -> Any:
        calls.append(x)
        return np.sum(np.sin(x**power) * SCALE)

    SCALE = mg.Tensor([2.0, 3.0], requires_grad=True)  # closed over
    x = mg.Tensor(X, requires_grad=True)
    y = mg.checkpoint(f)(x * 1.0, power=2)
    assert len(calls) == 1
    assert len(y.args) == 2  # the argument and what was closed over, and nothing of what lies between
    y.backward()
    assert len(calls) == 2
    np.testing.assert_allclose(x.grad, np.cos(X**2) * 2 * X * SCALE.data)
    np.testing.assert_allclose(SCALE.grad, np.sin(X**2))


def test_a_checkpoint_that_answers_otherwise_the_second_time_is_refused() -> None:
    x, a = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True), np.ones(3)
    y = mg.checkpoint(lambda x: x * a)(x)
    a[1] = 2
    with pytest.raises(RuntimeError, match="another answer when it was run again") as caught:
        np.sum(y).backward()
    assert "mg.checkpoint(lambda x: x * a)(x)" in str(caught.value)
    assert x.grad is None


def test_a_checkpoint_draws_the_same_again() -> None:
    rng = np.random.default_rng(0)
    noisy = mg.checkpoint(lambda x: np.sin(x) * mg.sample(rng.random, x.shape))
    x = mg.Tensor(np.array([0.5, 1.0]), requires_grad=True)
    y = noisy(x)
    drawn = y.data / np.sin(x.data)
    np.sum(y).backward()
    np.testing.assert_allclose(x.grad, np.cos(x.data) * drawn)


def test_a_checkpoint_may_return_any_structure() -> None:
    w = mg.Tensor(np.array([2.0, 3.0], np.float32), requires_grad=True)

    def f(x: Any) -> Any:
        return {"sine": np.sin(x), "rest": (w * 2.0, [np.sum(x), 5])}

    def total(f: Any) -> Any:
        def total_of(x: Any) -> Any:
            answer = f(x)
            return np.sum(answer["sine"]) * np.sum(answer["rest"][0]) + answer["rest"][1][0] ** answer["rest"][1][1]

        return total_of

    x = np.array([0.3, 0.4])
    for order in (lambda f: mg.grad(f), mg.hessian):
        np.testing.assert_allclose(order(total(mg.checkpoint(f)))(x), order(total(f))(x), rtol=1e-12)
    total(mg.checkpoint(f))(x).backward()
    np.testing.assert_allclose(w.grad, 2 * np.sum(np.sin(x)), rtol=1e-6)


def test_checkpoint_of_checkpoints_and_of_arrays() -> None:
    inner = mg.checkpoint(lambda x: np.sin(x) * x)
    outer = mg.checkpoint(lambda p: np.sum(inner(p["x"]) * inner(p["y"])))
    check_grads(lambda x, y: outer({"x": x, "y": y}), [X, np.array([0.5, 1.5])], order=2)
    assert type(outer({"x": X, "y": X})) is np.float64


def test_a_tenth_derivative() -> None:
    f: Callable[..., Any] = lambda x: np.sin(x) * np.exp(x)
    for _ in range(10):
        f = mg.grad(f)
    np.testing.assert_allclose(f(0.3), 2**5 * np.exp(0.3) * np.sin(0.3 + 10 * np.pi / 4), rtol=1e-12)


@pytest.mark.parametrize("nothing", [None, "a", True])
def test_a_function_without_an_answer(nothing: Any) -> None:
    with pytest.raises(TypeError, match=f"returned {nothing!r}: does it return its answer"):
        mg.grad(lambda x: nothing)(1.0)


# ----------------------------------------------------------------------------------------- what closes over what

V = np.array([0.3, 0.4, 0.5])


def test_jvp_is_differentiated_by_its_tangents() -> None:
    along = lambda s: np.sum(mg.jvp(np.sin, (V,), (s * V,))[1])
    np.testing.assert_allclose(mg.grad(along)(2.0), np.sum(np.cos(V) * V))
    matrix = mg.jacobian(lambda v: mg.jvp(lambda x: x**2, (V,), (v,))[1])(V)
    np.testing.assert_allclose(matrix, np.diag(2 * V))
    assert isinstance(mg.jvp(np.sin, (V,), (mg.Tensor(V),))[1], mg.Tensor)


FIXED = {
    "an array": lambda v: mg.grad(lambda x: np.sum(x**2 * v))(V),
    "a number": lambda v: mg.grad(lambda x: x * x * np.sum(v))(2.0),
    "zeros like an argument": lambda v: mg.grad(lambda d: np.sum((v + d) ** 2))(np.zeros_like(v)),
    "one of two": lambda v: mg.grad(lambda a, b: np.sum(a * b), (0, 1))(v, V)[0],
    "a pullback": lambda v: mg.vjp(np.sin, V)[1](v)[0],
    "jvp": lambda v: mg.jvp(np.sin, (V,), (v,))[1],
}


@pytest.mark.parametrize("f", FIXED.values(), ids=FIXED)
def test_derivatives_at_what_is_no_argument_are_compiled(f: Any) -> None:
    for x in (V, V + 1):
        found, expected = mg.compile(f)(x), f(x)
        np.testing.assert_allclose(found, expected)
        assert type(found) is np.ndarray or np.isscalar(found)


def test_samples_may_be_written_to() -> None:
    rng = np.random.default_rng(1)

    def masked(x: Any) -> Any:
        mask = mg.sample(rng.random, 3)
        mask *= 2
        return np.sum(x * mask)

    x = mg.Tensor(V, requires_grad=True)
    y = mg.compile(masked)(x)
    drawn = y.item()
    for _ in range(3):
        x.grad = None
        y.backward(retain_graph=True)
        assert np.sum(x.grad * V) == pytest.approx(drawn)
    mg.checkpoint(masked)(x).backward()


def test_freezing_afterwards_changes_nothing_for_a_checkpoint() -> None:
    x, w = (mg.Tensor(V.copy(), requires_grad=True) for _ in range(2))
    y = mg.checkpoint(lambda x: np.sum(x * w))(x)
    w.requires_grad = False
    y.backward()
    np.testing.assert_array_equal(w.grad, V)
    assert not w.requires_grad


@pytest.mark.parametrize("wrapped", [mg.checkpoint, mg.compile])
def test_one_call_that_knows_its_gradients_is_like_any_other(wrapped: Any) -> None:
    y = wrapped(lambda x: np.sum(x**2))(mg.Tensor([1.0, 2.0], requires_grad=True))
    y.retain_grad()
    y.backward()
    assert y.grad == 1
    p = mg.Tensor(V.copy(), requires_grad=True)
    view = p.detach()
    view.requires_grad = True
    y = wrapped(lambda a: np.sum(a**3))(view)
    with mg.no_grad():
        p *= 10.0
    with pytest.raises(RuntimeError, match="has been changed"):
        y.backward()


def test_a_primitive_may_use_transforms_on_what_it_closes_over() -> None:
    w = mg.Tensor(np.ones(3), requires_grad=True)
    slope = mg.primitive(lambda g, ans, a: g * 2 * w)(lambda a: mg.grad(lambda z: np.sum(z**2 * w))(a))
    np.testing.assert_array_equal(mg.grad(lambda a: np.sum(slope(a)))(V), [2, 2, 2])
