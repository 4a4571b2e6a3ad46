"""What users may rely on: whose memory moves, who decides about other types, what rules may return, and sums."""

import contextlib
import copy
import operator
import pickle
import warnings
from collections.abc import Callable
from operator import getitem
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.engine import Rules, vjps


def leaf(data: Any = (1.0, 2.0, 3.0), dtype: Any = None) -> mg.Tensor:
    return mg.Tensor(np.array(data, dtype), requires_grad=True)


# ------------------------------------------------------------------------------------------------------- retain_grad


def test_retain_grad() -> None:
    x = leaf()
    y = x * 2
    z = y * y
    y.retain_grad()
    x.retain_grad()  # of a leaf, it changes nothing
    np.sum(z).backward(retain_graph=True)
    np.testing.assert_array_equal(y.grad, [4, 8, 12])
    np.testing.assert_array_equal(x.grad, [8, 16, 24])
    assert z.grad is None
    kept = y.grad
    np.sum(z).backward()
    np.testing.assert_array_equal(y.grad, [8, 16, 24])
    np.testing.assert_array_equal(kept, [4, 8, 12])


def test_retain_grad_of_the_root_and_of_what_is_used_twice() -> None:
    x = leaf(3.0)
    y = x * 2
    y.retain_grad()
    z = y * x + y
    z.retain_grad()
    z.backward()
    assert (y.grad, z.grad, x.grad) == (4, 1, 14)
    with pytest.raises(RuntimeError, match="requires no gradient"):
        mg.Tensor(1.0).retain_grad()


# --------------------------------------------------------------------------------------------------------- in place

IN_PLACE = [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow]
MORE_IN_PLACE = [*IN_PLACE, operator.ifloordiv, operator.imod]
name_of = lambda function: function.__name__


@pytest.mark.parametrize("act", MORE_IN_PLACE, ids=name_of)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("other", [2, 1.5, np.array([0.5, 1, 2]), mg.Tensor([1.0, 2, 3]), [1.0, 2.0, 3.0]], ids=str)
def test_in_place_operators_move_a_leaf_while_nothing_is_recorded(act: Any, dtype: Any, other: Any) -> None:
    x, numbers = leaf(dtype=dtype), np.array([1, 2, 3], dtype)
    memory, view = x.data, x.detach()
    with mg.no_grad():
        moved = act(x, other)
    act(numbers, np.asarray(other, dtype))
    assert moved is x
    assert x.data is memory
    assert (x.requires_grad, x.dtype) == (True, dtype)
    np.testing.assert_allclose(x.data, numbers, rtol=1e-6)
    np.testing.assert_array_equal(view.data, x.data)
    np.sum(x).backward()
    np.testing.assert_array_equal(x.grad, np.ones(3))


def test_a_product_of_matrices_moves_a_leaf_in_place() -> None:
    x, turn = leaf([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    y = x
    with mg.no_grad():
        y @= turn
    assert y is x
    np.testing.assert_array_equal(x.data, [[2, 1], [4, 3]])


@pytest.mark.parametrize("act", MORE_IN_PLACE, ids=name_of)
def test_elsewhere_in_place_operators_bind_a_new_tensor(act: Any) -> None:
    for x, block in (
        (leaf(), contextlib.nullcontext()),
        (mg.Tensor(np.ones(3)), mg.no_grad()),
        (leaf() * 1, mg.no_grad()),
    ):
        before, numbers = x.data, x.data.copy()
        with block:
            y = act(x, 3.0)
        assert y is not x
        assert x.data is before
        np.testing.assert_array_equal(x.data, numbers)
        assert not np.shares_memory(x.data, y.data)


@pytest.mark.parametrize("act", IN_PLACE, ids=name_of)
def test_a_leaf_keeps_its_shape_and_its_numbers_where_they_do_not_fit(act: Any) -> None:
    x = leaf()
    with mg.no_grad():
        with pytest.raises(ValueError, match="data of shape"):
            act(x, np.ones((2, 3)))
        with pytest.raises(TypeError):
            act(x, "a")
    np.testing.assert_array_equal(x.data, [1, 2, 3])


def test_a_move_after_the_forward_pass_is_noticed() -> None:
    x = leaf()
    loss = np.sum(x * x)
    with mg.no_grad():
        x -= 1.0
    with pytest.raises(RuntimeError, match="has been changed"):
        loss.backward()


def moves(x: Any) -> Any:
    x -= x.max()
    x *= 2.0
    x /= 3.0
    x += 1.0
    return np.sum(x * x)


def moves_unrecorded(x: Any) -> Any:
    loss = np.sum(x * x)
    with mg.no_grad():
        y = x
        y -= y.max()
        y *= 2.0
        y **= 2
    return loss


TRANSFORMS: dict[str, Callable[[Any, Any], Any]] = {
    "grad": lambda f, x: mg.grad(f)(x),
    "value_and_grad": lambda f, x: mg.value_and_grad(f)(x),
    "grad of grad": lambda f, x: mg.grad(lambda a: np.sum(mg.grad(f)(a)))(x),
    "vjp": lambda f, x: mg.vjp(f, x)[1](1.0),
    "jvp": lambda f, x: mg.jvp(f, (x,), (np.ones(3),)),
    "hvp": lambda f, x: mg.hvp(f)(x, np.ones(3)),
    "hessian": lambda f, x: mg.hessian(f)(x),
    "jacobian": lambda f, x: mg.jacobian(f)(x),
    "a structure": lambda f, x: mg.grad(lambda tree: f(tree["x"][0]))({"x": [x]}),
    "grad of a checkpoint": lambda f, x: mg.grad(mg.checkpoint(f))(x),
}


@pytest.mark.parametrize("f", [moves, moves_unrecorded])
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("outer", [contextlib.nullcontext, mg.no_grad])
@pytest.mark.parametrize("make", [np.array, mg.Tensor, leaf], ids=["array", "tensor", "leaf"])
def test_arguments_of_transforms_are_never_moved(f: Any, name: str, outer: Any, make: Any) -> None:
    x = make([1.0, 2.0, 4.0])
    with outer():
        TRANSFORMS[name](f, x)
    np.testing.assert_array_equal(x if isinstance(x, np.ndarray) else x.data, [1, 2, 4])


def test_gradients_through_in_place_operators() -> None:
    x = np.array([1.0, 2.0, 4.0])
    y = (x - 4) * 2 / 3 + 1
    slopes = 4 / 3 * y
    slopes[2] -= slopes.sum()
    np.testing.assert_allclose(mg.grad(moves)(x), slopes, rtol=1e-14)
    np.testing.assert_array_equal(mg.grad(moves_unrecorded)(x), 2 * x)


# -------------------------------------------------------------------------------------------- what requires a gradient


def test_what_requires_a_gradient_is_decided_when_a_call_is_made() -> None:
    frozen, thawed = leaf([1.0, 2.0]), mg.Tensor(np.array([3.0, 4.0]))
    loss = np.sum(frozen * thawed)
    frozen.requires_grad, thawed.requires_grad = False, True
    loss.backward()
    np.testing.assert_array_equal(frozen.grad, [3, 4])
    assert thawed.grad is None
    again = np.sum(frozen * thawed)
    again.backward()
    np.testing.assert_array_equal(frozen.grad, [3, 4])
    np.testing.assert_array_equal(thawed.grad, [1, 2])


def test_all_that_is_frozen_makes_answers_that_require_nothing() -> None:
    x = leaf()
    x.requires_grad = False
    y = x * 2
    x.requires_grad = True
    assert not y.requires_grad
    with pytest.raises(RuntimeError, match="requires no gradient"):
        np.sum(y).backward()


def test_freezing_between_two_uses() -> None:
    x = leaf(3.0)
    y = x * 2
    x.requires_grad = False
    z = y + x * 5
    x.requires_grad = True
    (z + x * 7).backward()
    assert x.grad == 9


# ----------------------------------------------------------------------------------------- gradients that are kept

ACTS: dict[str, Callable[[list[mg.Tensor]], Any]] = {
    "backward": lambda ps: loss_of(ps).backward(),
    "backward twice": lambda ps: [loss_of(ps).backward() for _ in range(2)],
    "backward again": lambda ps: (loss := loss_of(ps)).backward(retain_graph=True) or loss.backward(),
    "backward of one": lambda ps: np.sum(ps[0]).backward(),
    "a walk that is recorded": lambda ps: mg.grad(lambda x: loss_of([x, *ps[1:]]))(ps[0]),
    "clip_grad_norm": lambda ps: mg.optim.clip_grad_norm(ps, 1e-3),
    "zero_grad": lambda ps: mg.optim.SGD(ps).zero_grad(),
    "zero_grad of one": lambda ps: ps[0].zero_grad(),
    "SGD": lambda ps: mg.optim.SGD(ps, momentum=0.9, weight_decay=0.1, nesterov=True).step(),
    "Adam": lambda ps: mg.optim.Adam(ps, weight_decay=0.1).step(),
    "RMSprop": lambda ps: mg.optim.RMSprop(ps).step(),
    "an assignment": lambda ps: setattr(ps[0], "grad", np.zeros(3)),
    "a move": lambda ps: moved(ps),
}


def loss_of(ps: list[mg.Tensor]) -> Any:
    return np.sum(np.tanh(sum(p * p for p in ps))) + np.sum(ps[0]) + np.sum(ps[1][0])


def moved(ps: list[mg.Tensor]) -> None:
    with mg.no_grad():
        for p in ps:
            p -= p.grad if p.grad is not None else 0.0


@given(st.lists(st.sampled_from(sorted(ACTS)), min_size=1, max_size=6))
def test_a_gradient_that_somebody_keeps_is_never_overwritten(names: list[str]) -> None:
    parameters = [leaf(), leaf([0.5, -1.0, 2.0]), leaf([0.1, 0.2, 0.3])]
    loss_of(parameters).backward()
    kept = [(p.grad, p.grad.copy()) for p in parameters]
    for name in names:
        ACTS[name](parameters)
        for before, numbers in kept:
            np.testing.assert_array_equal(before, numbers, err_msg=name)
        kept += [(p.grad, p.grad.copy()) for p in parameters if p.grad is not None]


def test_gradients_share_no_memory() -> None:
    a, b, given_gradient = leaf(), leaf(), np.ones(3)
    c = a + b
    c.retain_grad()
    (c + 0).backward(given_gradient)
    arrays = [a.grad, b.grad, c.grad, given_gradient, a.data, b.data, c.data]
    for i, one in enumerate(arrays):
        assert not any(np.shares_memory(one, other) for other in arrays[:i])


def test_a_second_backward_says_what_to_do() -> None:
    x = leaf()
    loss = np.sum(x * x)
    loss.backward()
    before = x.grad.copy()
    with pytest.raises(RuntimeError, match=r"retain_graph=True.*every step"):
        loss.backward()
    np.testing.assert_array_equal(x.grad, before)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), lambda x: copy.deepcopy([x, x])[1]],
    ids=["copy", "deepcopy", "pickle", "deepcopy of a list"],
)  # fmt: skip
def test_copies_keep_the_gradient(copied: Any) -> None:
    x = leaf()
    assert copied(x).grad is None
    np.sum(x * x).backward()
    y = copied(x)
    np.testing.assert_array_equal(y.grad, [2, 4, 6])
    assert (y.requires_grad, y.grad.dtype) == (True, x.dtype)
    np.sum(y * y).backward()
    np.testing.assert_array_equal(y.grad, [4, 8, 12])
    np.testing.assert_array_equal(x.grad, [2, 4, 6])
    x.requires_grad = False
    assert not copied(x).requires_grad


# ------------------------------------------------------------------------------------------- numbers that do not fit

UNFIT: dict[str, Any] = {
    "None": [None, 1.0, 2.0],
    "text": ["1", "2", "3"],
    "dates": np.zeros(3, "M8[s]"),
    "complex numbers": np.ones(3) * 1j,
    "objects": np.array([1, 2, 3], object),
    "records": np.zeros(3, [("x", float)]),
}
PUTS: dict[str, Callable[[mg.Tensor, Any], Any]] = {
    "data": lambda x, value: setattr(x, "data", value),
    "grad": lambda x, value: setattr(x, "grad", value),
    "backward": lambda x, value: (x * 2).backward(value),
}


@pytest.mark.parametrize("put", PUTS)
@pytest.mark.parametrize("value", UNFIT)
def test_what_is_no_real_number_is_not_taken_for_one(put: str, value: str) -> None:
    x = leaf()
    with pytest.raises(ValueError, match=r"does not fit a tensor of shape \(3,\) and dtype float64"):
        PUTS[put](x, UNFIT[value])
    np.testing.assert_array_equal(x.data, [1, 2, 3])
    assert x.grad is None


@pytest.mark.parametrize(
    ("dtype", "value", "fits"),
    [
        (np.float32, np.array([1, 2]), True), (np.float64, np.array([True, False]), True),
        (np.float16, np.array([1.5, 2.5]), True), (np.int64, np.array([True, False]), True),
        (np.int8, [1, 2], True), (np.int64, [2.87, 1.0], False), (bool, [1, 0], False), (bool, [True, False], True),
        (np.complex128, [1.5, 2.5], True), (np.int64, [1j, 2j], False),
    ],
)  # fmt: skip
def test_assigned_numbers_lose_nothing_but_digits(dtype: Any, value: Any, fits: bool) -> None:
    x = mg.Tensor(np.zeros(2, dtype))
    if fits:
        x.data = value
        np.testing.assert_array_equal(x.data, value)
    else:
        with pytest.raises(ValueError, match="does not fit"):
            x.data = value
        np.testing.assert_array_equal(x.data, np.zeros(2))
    assert x.data.dtype == dtype


@pytest.mark.parametrize("on", [np.float32, "float32", "no", None, 2, 2.0, [True]], ids=repr)
def test_requires_grad_is_true_or_false(on: Any) -> None:
    with pytest.raises(TypeError, match=r"requires_grad is True or False.*np\.asarray\(values, dtype\)"):
        mg.Tensor([1.0, 2.0], on)
    x = mg.Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match="requires_grad is True or False"):
        x.requires_grad = on
    assert not x.requires_grad


@pytest.mark.parametrize("on", [True, 1, np.True_])
def test_requires_grad_may_come_from_numpy(on: Any) -> None:
    x = mg.Tensor([1.0, 2.0], on)
    assert x.requires_grad is True
    x.requires_grad = not on
    assert x.requires_grad is False
    x.requires_grad = on
    assert x.requires_grad is True


# --------------------------------------------------------------------------------------------------------- primitives


def test_a_joint_rule(scratch_primitive: Any) -> None:
    calls = []

    def slopes(g: Any, ans: Any, x: Any, y: Any) -> Any:
        calls.append(1)
        return g * 2 * x * y, g * x * x

    f = scratch_primitive(joint=slopes)(lambda x, y: x * x * y)
    x, y = leaf([1.0, 2.0]), leaf([[3.0], [4.0]])
    np.sum(f(x, y)).backward()
    np.testing.assert_array_equal(x.grad, [14, 28])  # the sum over what broadcasting added
    np.testing.assert_array_equal(y.grad, [[5], [5]])
    assert calls == [1]
    np.testing.assert_array_equal(mg.grad(lambda a: f(a, 3.0))(2.0), 12)
    np.testing.assert_array_equal(mg.grad(lambda a: f(3.0, a))(2.0), 9)
    np.testing.assert_array_equal(mg.grad(mg.grad(lambda a: f(a, 3.0)))(2.0), 6)
    np.testing.assert_array_equal(mg.grad(mg.grad(f), 1)(2.0, 3.0), 4)
    np.testing.assert_array_equal(mg.hessian(lambda v: f(v[0], v[1]))(np.array([2.0, 3.0])), [[6, 4], [4, 0]])


def test_a_joint_rule_that_gives_none_to_one_argument(scratch_primitive: Any) -> None:
    f = scratch_primitive(joint=lambda g, ans, x, n, y: (g * n * x ** (n - 1), None, g))(lambda x, n, y: x**n + y)
    x, n, y = leaf(2.0), leaf(3.0), leaf(5.0)
    f(x, n, y).backward()
    assert (x.grad, y.grad) == (12, 1)
    assert n.grad is None or n.grad == 0
    assert mg.grad(f, 1)(2.0, 3.0, 5.0) == 0
    assert mg.grad(mg.grad(f))(2.0, 3.0, 5.0) == 12


@pytest.mark.parametrize("joint", [False, True])
def test_what_np_where_does_not_choose_contributes_nothing(scratch_primitive: Any, joint: bool) -> None:
    by_x, by_y = lambda g, ans, x, y: g * y / (2 * np.sqrt(x)), lambda g, ans, x, y: g * np.sqrt(x)
    both = lambda g, ans, x, y: (by_x(g, ans, x, y), by_y(g, ans, x, y))
    f = (scratch_primitive(joint=both) if joint else scratch_primitive(by_x, by_y))(lambda x, y: np.sqrt(x) * y)
    total = lambda x, y: np.sum(np.where(np.array([False, True]), f(x, y), 0.0))
    by = mg.grad(total, (0, 1))(np.array([0.0, 4.0]), np.array([3.0, 3.0]))
    np.testing.assert_array_equal(by, [[0, 0.75], [0, 2]])
    second = mg.grad(lambda x: np.sum(mg.grad(total)(x, np.array([3.0, 3.0]))))(np.array([0.0, 4.0]))
    np.testing.assert_array_equal(second, [0, -3 / 32])


WRONG_RULES: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (lambda g, ans, x: None, TypeError, r"rule 0 of wrong returned None"),
    "rows": (lambda g, ans, x: np.ones((5, 3)) * g, ValueError, r"rule 0 of wrong returned .*\(5, 3\).*\(3,\)"),
    "another length": (lambda g, ans, x: np.ones(4), ValueError, r"rule 0 of wrong returned .*\(4,\).*\(3,\)"),
    "a column": (lambda g, ans, x: g[:, None], ValueError, r"rule 0 of wrong returned .*\(3, 1\).*\(3,\)"),
    "a text": (lambda g, ans, x: "a", TypeError, "rule 0 of wrong returned <U1"),
    "dates": (lambda g, ans, x: np.zeros(3, "M8[s]"), TypeError, "rule 0 of wrong returned datetime64"),
    "records": (lambda g, ans, x: np.zeros(3, [("a", float)]), TypeError, "rule 0 of wrong returned"),
    "a dict": (lambda g, ans, x: {"x": g}, TypeError, "rule 0 of wrong returned {'x'"),
    "a generator": (lambda g, ans, x: (part for part in g), TypeError, "rule 0 of wrong returned <generator"),
    "NotImplemented": (lambda g, ans, x: NotImplemented, TypeError, "rule 0 of wrong returned NotImplemented"),
    "a masked array": (lambda g, ans, x: np.ma.ones(3), TypeError, "has no mask"),
    "a matrix": (lambda g, ans, x: matrix(np.ones((1, 3))), TypeError, "np.matrix multiplies unlike"),
}


def matrix(x: Any) -> Any:
    """A matrix of NumPy, which warns of itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asmatrix(x)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize(
    ("joint", "name"),
    [(joint, name) for joint in (False, True) for name in WRONG_RULES if not (joint and name == "None")],  # its zero
)
def test_a_rule_that_returns_what_it_may_not(scratch_primitive: Any, name: str, joint: bool, recorded: bool) -> None:
    rule, kind, words = WRONG_RULES[name]

    def wrong(x: Any) -> Any:
        return x * 2

    f = (scratch_primitive(joint=lambda *a: (rule(*a),)) if joint else scratch_primitive(rule))(wrong)
    x = leaf()
    with pytest.raises(kind, match=words):
        mg.grad(lambda a: np.sum(f(a)))(x) if recorded else np.sum(f(x)).backward()
    assert x.grad is None


WRONG_JOINTS: dict[str, Any] = {
    "None": lambda g, ans, x, y: None,
    "a number": lambda g, ans, x, y: 3.0,
    "an array": lambda g, ans, x, y: np.ones((2, 3)),
    "too few": lambda g, ans, x, y: [g * y],
    "too many": lambda g, ans, x, y: (g * y, g * x, g),
    "a generator": lambda g, ans, x, y: (part for part in (g * y, g * x)),
    "a dict": lambda g, ans, x, y: {0: g * y, 1: g * x},
    "a set": lambda g, ans, x, y: {1.0, 2.0},
}


@pytest.mark.parametrize("name", WRONG_JOINTS)
@pytest.mark.parametrize("value", [2.0, [1.0, 2.0, 3.0]], ids=["0-d", "1-d"])
def test_a_joint_rule_that_returns_no_tuple_of_gradients(scratch_primitive: Any, name: str, value: Any) -> None:
    f = scratch_primitive(joint=WRONG_JOINTS[name])(lambda x, y: x * y)
    x, y = leaf(value), leaf(value)
    for act in (lambda: np.sum(f(x, y)).backward(), lambda: mg.grad(lambda a: np.sum(f(a, a * 2)))(x.data)):
        with pytest.raises(TypeError, match=r"joint rule of <lambda> returned .* it returns a tuple of 2"):
            act()
    with pytest.raises(TypeError, match=r"joint rule of <lambda> returned .* it returns a tuple of 2"):
        f(x, y).backward(np.ones_like(x.data))  # a graph of one call, which is not walked
    assert x.grad is y.grad is None


@pytest.mark.parametrize("answer", [None, "a", {"x": 1.0}, np.zeros(2, "M8[s]")], ids=repr)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_a_primitive_that_returns_no_numbers(scratch_primitive: Any, answer: Any, requires_grad: bool) -> None:
    f = scratch_primitive(lambda g, ans, x: g)(lambda x: answer)
    with pytest.raises(TypeError, match=r"a Tensor holds numbers|gradients are of numbers"):
        f(mg.Tensor(1.0, requires_grad))


def test_a_primitive_that_uses_grad_in_its_body(scratch_primitive: Any) -> None:
    """Newton's method for y with y * y = a; its derivative is that of the equation, by mg.grad as well."""
    equation = lambda y, a: y * y - a

    def implicit(g: Any, ans: Any, a: Any) -> Any:
        by_y, by_a = mg.elementwise_grad(equation)(ans, a), mg.elementwise_grad(equation, 1)(ans, a)
        return -g * by_a / by_y

    @scratch_primitive(implicit)
    def root(a: Any) -> Any:
        y = np.ones_like(a)
        for _ in range(30):
            y = y - equation(y, a) / mg.elementwise_grad(equation)(y, a)
            assert type(y) is np.ndarray or np.ndim(y) == 0
        return y

    a = np.array([1.0, 4.0, 9.0])
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12)
    close(root(a), np.sqrt(a))
    close(mg.elementwise_grad(root)(a), 0.5 / np.sqrt(a))
    close(mg.elementwise_grad(mg.elementwise_grad(root))(a), -0.25 * a**-1.5)
    close(mg.grad(lambda x: mg.grad(lambda y: np.sum(root(x * y)))(2.0))(2.0), 1 / 8)
    close(mg.jacobian(root)(a), np.diag(0.5 / np.sqrt(a)))
    x = leaf(a)
    np.sum(root(x) ** 2).backward()
    close(x.grad, np.ones(3))
    with mg.no_grad():
        close(root(mg.Tensor(a)).data, np.sqrt(a))


# --------------------------------------------------------------------------------------------------------- other types

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul, operator.mod]
MASKED = np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False])


@pytest.mark.parametrize("act", OPERATORS, ids=name_of)
def test_masked_arrays_are_refused_on_either_side(act: Any) -> None:
    with pytest.raises(TypeError, match=r"has no mask.*masked\.filled\(value\)"):
        act(leaf(), MASKED)
    with pytest.raises(TypeError):
        act(MASKED, leaf())
    with pytest.raises(TypeError, match=r"has no mask.*masked\.filled\(value\)"):
        act(leaf(), np.ma.masked)


UFUNCS = [np.add, np.multiply, np.divide, np.power, np.maximum, np.hypot, np.arctan2, np.matmul, np.greater]


@pytest.mark.parametrize("ufunc", UFUNCS, ids=name_of)
def test_masked_arrays_are_refused_by_ufuncs(ufunc: Any) -> None:
    for args in ((leaf(), MASKED), (MASKED, leaf()), (mg.Tensor(np.ones(3)), MASKED)):
        with pytest.raises(TypeError, match=r"has no mask.*masked\.filled\(value\)"):
            ufunc(*args)


EVERYWHERE: dict[str, Callable[[Any], Any]] = {  # where an array may come from users
    "Tensor": lambda m: mg.Tensor(m),
    "Tensor of a list": lambda m: mg.Tensor([[1.0, 2.0, 3.0], m]),
    "data": lambda m: setattr(leaf(), "data", m),
    "grad": lambda m: setattr(leaf(), "grad", m),
    "backward": lambda m: (leaf() * 2).backward(m),
    "an index": lambda m: leaf()[m > 1],
    "a list": lambda m: leaf() * [m],
    "np.concatenate": lambda m: np.concatenate([leaf(), m]),
    "np.where": lambda m: np.where(m > 1, leaf(), 0.0),
    "np.einsum": lambda m: np.einsum("i,i", leaf(), m),
    "np.dot": lambda m: np.dot(m, leaf()),
    "where=": lambda m: np.sum(leaf(), where=m > 1),
    "weights=": lambda m: np.average(leaf(), weights=m),
    "grad of": lambda m: mg.grad(lambda x: np.sum(x**2))(m),
    "vjp": lambda m: mg.vjp(lambda x: x**2, np.ones(3))[1](m),
    "jvp": lambda m: mg.jvp(lambda x: x**2, (np.ones(3),), (m,)),
    "mse_loss": lambda m: nn.mse_loss(leaf(), m),
    "l1_loss": lambda m: nn.l1_loss(m, leaf()),
    "huber_loss": lambda m: nn.huber_loss(leaf(), m),
    "cross_entropy": lambda m: nn.cross_entropy(leaf(np.eye(3)), m.astype(int) - 1),
    "a layer": lambda m: nn.Linear(3, 2, rng=0)(m),
    "checkpoint": lambda m: mg.checkpoint(lambda a, b: a * b)(leaf(), m),
}


@pytest.mark.parametrize("place", EVERYWHERE)
def test_masked_arrays_are_refused_everywhere(place: str) -> None:
    with pytest.raises(TypeError, match=r"has no mask.*masked\.filled\(value\)"):
        EVERYWHERE[place](MASKED)


MATRICES: dict[str, Callable[[Any, mg.Tensor], Any]] = {
    **{act.__name__: act for act in OPERATORS if act is not operator.pow},  # which matrix itself refuses
    **{f"{act.__name__}, reflected": lambda m, x, act=act: act(x, m) for act in OPERATORS},
    "np.multiply": np.multiply,
    "np.dot": np.dot,
    "np.concatenate": lambda m, x: np.concatenate([m, x]),
    "Tensor": lambda m, x: mg.Tensor(m),
    "data": lambda m, x: setattr(x, "data", m),
    "grad of": lambda m, x: mg.grad(lambda a: np.sum(a * a))(m),
    "mse_loss": lambda m, x: nn.mse_loss(x, m),
    "a layer": lambda m, x: nn.Linear(2, 1, rng=0)(m),
}


@pytest.mark.parametrize("place", MATRICES)
def test_matrices_are_refused_everywhere(place: str) -> None:
    """Of np.matrix, * is the product of matrices, and of its elements where a Tensor is the other side."""
    with pytest.raises(TypeError, match=r"np\.matrix multiplies unlike.*np\.asarray\(m\).*m @ t"):
        MATRICES[place](matrix([[1.0, 2.0], [3.0, 4.0]]), leaf([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize("value", [MASKED, matrix(np.ones((1, 3)))], ids=["masked", "matrix"])
def test_primitives_take_neither_masked_arrays_nor_matrices(scratch_primitive: Any, value: Any) -> None:
    f = scratch_primitive(lambda g, ans, x, y: g * y, None)(lambda x, y: np.sum(x * y))
    with pytest.raises(TypeError, match=r"has no mask|np\.matrix multiplies unlike"):
        f(leaf(), value)
    assert f(3.0, value) == 3 * np.sum(value)  # among arrays it is none of our business


def test_a_masked_array_moves_no_parameter() -> None:
    x = leaf()
    with mg.no_grad(), pytest.raises(TypeError, match="has no mask"):
        x -= MASKED
    np.testing.assert_array_equal(x.data, [1, 2, 3])


class Quantity(np.lib.mixins.NDArrayOperatorsMixin):
    """A type that decides itself what ufuncs and functions make of it."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return "a quantity", ufunc.__name__, [type(x).__name__ for x in inputs]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return "a quantity", function.__name__


class Torch:
    """Like a tensor of PyTorch: without NumPy's protocol."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError

    def __radd__(self, other: Any) -> Any:
        return "torch's", type(other).__name__

    __rsub__ = __rmul__ = __rtruediv__ = __rpow__ = __rmatmul__ = __rmod__ = __radd__


UFUNC_OF = dict(
    zip(OPERATORS, [np.add, np.subtract, np.multiply, np.divide, np.power, np.matmul, np.remainder], strict=True)
)


@pytest.mark.parametrize("x", [leaf(), mg.Tensor(np.ones(3)), leaf() * 2], ids=["leaf", "tensor", "answer"])
@pytest.mark.parametrize("act", OPERATORS, ids=name_of)
def test_other_types_decide(act: Any, x: mg.Tensor) -> None:
    name = UFUNC_OF[act].__name__
    for f in (act, UFUNC_OF[act]):
        assert f(x, Quantity()) == ("a quantity", name, ["Tensor", "Quantity"])
        assert f(Quantity(), x) == ("a quantity", name, ["Quantity", "Tensor"])
    assert getattr(mg.Tensor, f"__{act.__name__}__")(x, Torch()) is NotImplemented
    assert act(x, Torch()) == ("torch's", "Tensor")
    with pytest.raises(TypeError):
        act(Torch(), x)
    assert np.concatenate([x, Quantity()]) == ("a quantity", "concatenate")  # type: ignore[list-item]
    assert np.where(Quantity(), x, 0) == ("a quantity", "where")  # type: ignore[call-overload]


class Labelled(np.lib.mixins.NDArrayOperatorsMixin):
    """A type that wraps any array, as that of xarray does, and wraps what ufuncs make of it."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        inputs = tuple(x.array if isinstance(x, Labelled) else x for x in inputs)
        return Labelled(getattr(ufunc, method)(*inputs, **kwargs))


@pytest.mark.parametrize("act", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow], ids=name_of)
@pytest.mark.parametrize("reflected", [False, True])
def test_a_type_that_wraps_arrays_wraps_a_tensor_with_its_history(act: Any, reflected: bool) -> None:
    x, other = leaf(), np.array([2.0, 0.5, 1.5])
    args = (Labelled(other), x) if reflected else (x, Labelled(other))
    answer = act(*args)
    assert type(answer) is Labelled
    assert type(answer.array) is mg.Tensor
    np.sum(answer.array).backward()
    expected = mg.grad(lambda a: np.sum(act(other, a) if reflected else act(a, other)))(x.data)
    np.testing.assert_array_equal(x.grad, expected)


@pytest.mark.parametrize("act", IN_PLACE, ids=name_of)
def test_other_types_decide_in_place(act: Any) -> None:
    x = leaf()
    with mg.no_grad():
        if act is not operator.ipow:
            assert act(x, Torch()) == ("torch's", "Tensor")
        assert act(x, Quantity())[0] == "a quantity"
    np.testing.assert_array_equal(x.data, [1, 2, 3])


# -------------------------------------------------------------------------------------------- many slices of one array


def indices(data: st.DataObject, shape: tuple[int, ...]) -> Any:
    """An index of any kind: a number, a slice, fancy with repeats, a mask, a pair, or all."""
    n = shape[0]
    number = st.integers(-n, n - 1)
    kinds = [
        number,
        st.builds(lambda a, b: slice(min(a, b), max(a, b) + 1), st.integers(0, n - 1), st.integers(0, n - 1)),
        st.lists(number, min_size=1, max_size=6).map(np.array),
        st.lists(st.booleans(), min_size=n, max_size=n).map(lambda bits: np.array(bits, bool)),
        st.just(...),
        st.just((slice(None, None, -1), None)),
        *([st.tuples(number, st.integers(0, shape[1] - 1))] if len(shape) > 1 else []),
    ]
    return data.draw(st.one_of(kinds))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=name_of)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), data=st.data())
def test_gradients_of_many_slices(dtype: Any, shape: tuple[int, ...], data: st.DataObject) -> None:
    """Small integers, so that all sums are exact in any order."""
    x, expected, loss = leaf(np.ones(shape), dtype), np.zeros(shape), mg.Tensor(np.array(0, dtype))
    for _ in range(data.draw(st.integers(1, 8))):
        factor = data.draw(st.integers(-3, 3))
        kind = data.draw(st.sampled_from(["slice", "slice", "slice", "slice of it all", "all", "slice of a slice"]))
        if kind == "all":
            loss = loss + np.sum(x * dtype(factor))
            expected += factor
            continue
        index = indices(data, shape)
        part = np.zeros(shape)
        if kind == "slice of a slice":
            rows = slice(0, data.draw(st.integers(1, shape[0])))
            loss = loss + np.sum(x[rows][..., :1] * dtype(factor))
            part[rows][..., :1] = factor
        else:
            base = x * dtype(1) if kind == "slice of it all" else x
            loss = loss + np.sum(base[index] * dtype(factor))
            np.add.at(part, index, factor)
        expected += part
    loss.backward()
    assert x.grad.dtype == dtype
    np.testing.assert_array_equal(x.grad, expected)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("kind", ["numbers", "slices", "fancy", "with another use"])
def test_many_slices_take_linear_time(monkeypatch: pytest.MonkeyPatch, ndim: int, kind: str) -> None:
    """An array of the size of the whole is made once, or a few times, and not for every slice."""
    rules, whole, part = vjps[getitem], [], []
    rule, add = rules[0], rules.add

    def counted(*args: Any) -> Any:
        whole.append(1)
        return rule(*args)

    def counted_add(*args: Any) -> Any:
        part.append(1)
        return add(*args)

    counting = type(rules)(counted, add=counted_add)
    assert isinstance(counting, Rules)
    monkeypatch.setitem(vjps, getitem, counting)
    n = 60
    x = leaf(np.ones((n, 3, 2)[:ndim]))
    index = {"slices": lambda t: slice(t, t + 2), "fancy": lambda t: np.array([t, t, 0])}.get(kind, lambda t: t)
    parts = [np.sum(x[index(t)] * (t + 1.0)) for t in range(n)]
    if kind == "with another use":
        parts.insert(n // 2, np.sum(x * 2.0))
    sum(parts, mg.Tensor(0.0)).backward()
    expected = np.zeros(x.shape)
    for t in range(n):
        np.add.at(expected, index(t), t + 1.0)
    np.testing.assert_array_equal(x.grad, expected + 2 * (kind == "with another use"))
    assert len(whole) <= 2
    assert len(whole) + len(part) == n


def test_slices_are_added_to_no_gradient_that_somebody_else_has() -> None:
    """x and z receive the same array from their sum, and then x receives more."""
    x, z = leaf(), leaf()
    part = x[0] * 5.0
    y = x + z
    y.retain_grad()
    given_gradient = np.array([1.0, 2.0, 3.0])
    first, second = np.sum(y * given_gradient) + part, x[1] * 2.0
    first.backward(retain_graph=True)
    (first + second).backward()
    np.testing.assert_array_equal(x.grad, [12, 6, 6])
    np.testing.assert_array_equal(z.grad, [2, 4, 6])
    np.testing.assert_array_equal(y.grad, [2, 4, 6])
    x.zero_grad()
    z.zero_grad()
    part = np.broadcast_to(x[0], 3)
    (x + z + part).backward(given_gradient)
    np.testing.assert_array_equal(x.grad, [7, 2, 3])
    np.testing.assert_array_equal(z.grad, given_gradient)
    np.testing.assert_array_equal(given_gradient, [1, 2, 3])


# ------------------------------------------------------------------------------------------------------- long sums


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1,), (), (5_000, 1)], ids=str)
@pytest.mark.parametrize("recorded", [False, True])
def test_half_precision_counts_beyond_2048(shape: tuple[int, ...], recorded: bool) -> None:
    """np.sum of 5,000 ones in float16, one by one, is 2048."""
    f = lambda b: np.sum((b + np.zeros((5_000, 3), np.float16)).astype(np.float32))
    b = np.zeros(shape, np.float16)
    g = mg.grad(f)(mg.Tensor(b) if recorded else b)
    assert g.dtype == np.float16
    np.testing.assert_array_equal(np.asarray(g), np.broadcast_to(15_000 / max(b.size, 1), shape))


@pytest.mark.parametrize("shape", [(1,), (), (1, 1)], ids=str)
def test_sums_of_a_million_rows(shape: tuple[int, ...]) -> None:
    rows = np.random.default_rng(0).uniform(0, 1, (1_000_000, 1)).astype(np.float32)
    b = leaf(np.zeros(shape), np.float32)
    (b + np.zeros_like(rows)).backward(rows)
    assert b.grad.shape == shape
    np.testing.assert_allclose(b.grad, np.full(shape, rows.sum(dtype=np.float64)), rtol=1e-6)


def test_the_bias_of_a_layer_gets_the_sum_of_all_rows() -> None:
    layer = nn.Linear(2, 3, rng=np.random.default_rng(0))
    np.sum(layer(np.ones((3_000, 2), np.float32))).backward()
    np.testing.assert_array_equal(layer.bias.grad, [3_000] * 3)
