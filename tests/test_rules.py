"""Every rule of the table: its first and second derivatives, at its kinks and edges; and the test itself is tested."""

from collections.abc import Callable, Iterator
from operator import getitem
from typing import Any

import numpy as np
import pytest
from cases import BETWEEN_INTEGERS, POSITIVE, REAL, UNIT, Case, arguments, case, check, draw
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from test_linalg import primitives as linalg_cases

import minigrad as mg
from minigrad.linalg import least_squares
from minigrad.rules import join, sinc_slope
from minigrad.tensor import name_of, vjps
from minigrad.testing import check_grads, indices

# ---------------------------------------------------------------------------------- the table: where each rule is tried

NEAR_ONE = ((-1.02, -0.98), (0.98, 1.02))
WIDE = ((-9.0, -3.0), (-1e-3, 1e-3), (3.0, 9.0))
HALVES = ((-2.6, -2.4), (-0.6, -0.4), (0.4, 0.6), (2.4, 2.6))

# The columns are aligned by hand, as in the table of rules.
# fmt: off
elementwise = {
    np.positive: [REAL],                    np.negative: [REAL],                   np.absolute: [REAL],
    np.fabs: [REAL],                        np.square: [REAL],                     np.sqrt: [POSITIVE],
    np.cbrt: [REAL],                        np.reciprocal: [REAL],                 np.exp: [REAL],
    np.exp2: [REAL],                        np.expm1: [REAL],                      np.log: [POSITIVE],
    np.log2: [POSITIVE],                    np.log10: [POSITIVE],                  np.log1p: [((-0.8, -0.1), (0.1, 3))],
    np.sin: [REAL],                         np.cos: [REAL],                        np.tan: [((-1.2, -0.1), (0.1, 1.2))],
    np.arcsin: [UNIT],                      np.arccos: [UNIT],                     np.arctan: [REAL],
    np.sinh: [REAL],                        np.cosh: [REAL],                       np.tanh: [REAL],
    np.arcsinh: [REAL],                     np.arccosh: [((1.3, 3),)],             np.arctanh: [UNIT],
    np.deg2rad: [REAL],                     np.radians: [REAL],                    np.rad2deg: [REAL],
    np.degrees: [REAL],                     np.sign: [REAL],                       np.floor: [BETWEEN_INTEGERS],
    np.ceil: [BETWEEN_INTEGERS],            np.trunc: [BETWEEN_INTEGERS],          np.rint: [BETWEEN_INTEGERS],
    np.spacing: [((1.1, 1.9), (2.1, 3.9))],

    np.add: [REAL, REAL],                   np.subtract: [REAL, REAL],             np.multiply: [REAL, REAL],
    np.divide: [REAL, REAL],                np.power: [POSITIVE, REAL],            np.float_power: [POSITIVE, REAL],
    np.remainder: [HALVES, NEAR_ONE],       np.fmod: [HALVES, NEAR_ONE],           np.floor_divide: [HALVES, NEAR_ONE],
    np.heaviside: [REAL, REAL],             np.copysign: [REAL, REAL],             np.hypot: [REAL, REAL],
    np.arctan2: [REAL, REAL],               np.logaddexp: [REAL, REAL],            np.logaddexp2: [REAL, REAL],
    np.maximum: [REAL, REAL],               np.minimum: [REAL, REAL],              np.fmax: [REAL, REAL],
    np.fmin: [REAL, REAL],                  np.nextafter: [REAL, REAL],
}

MASK = np.array([[True, False, True], [False, False, True]])
KEYWORDS = [{}, {"axis": 0}, {"axis": -1}, {"axis": (0, -1)}, {"axis": (), "keepdims": True}, {"axis": None},
            {"keepdims": True}, {"axis": (1,), "keepdims": True}, {"dtype": np.float64}, {"axis": 1, "initial": 2.0},
            {"where": MASK}, {"where": MASK[0], "axis": 0, "keepdims": True}, {"where": MASK, "initial": -5.0}]
EXTREMES = [k for k in KEYWORDS if "dtype" not in k and ("where" not in k or "initial" in k)]
RANKS = [((3,), (2, 3), (2, 2, 3), (2, 1, 2, 3)), ((3,), (3, 2), (1, 3, 2), (1, 2, 3, 2))]
INDICES = [1, -1, slice(None), slice(None, None, -2), None, ..., (..., 0), (0, slice(1, 3)), (slice(1), None, -1),
           [0, 1, 0], np.array([[1, 1], [0, 1]]), ([0, 1, 0], [2, 2, 2]), (slice(None), [2, 0, 2]),
           ([1, 1], slice(None), None), MASK, MASK[:, 0], (slice(None), MASK[0]), (1, [0, 0]), (), True, np.int64(1)]
PUTS = [(0, (3,)), ((slice(None), 1), (2,)), (MASK, (3,)), ([1, 1, 0], (3, 3)), ([1, 1, 0], ()),
        ((..., [0, 2, 0]), (2, 3)), (([0, 1, 0], [2, 2, 2]), (3,)), ((0, None, slice(2)), (1, 2))]

of_arrays = {
    np.round: [case(np.round, (2, 3), domain=BETWEEN_INTEGERS)],
    np.sinc: [case(np.sinc, shape, domain=domain) for shape in [(), (2, 3), (0, 3)] for domain in [REAL, WIDE]],
    sinc_slope.__wrapped__: [case(sinc_slope, (5,), domain=WIDE, order=n) for n in [1, 2, 7]],
    np.ldexp: [case(lambda x: np.ldexp(x, [0, -3, 2]), shape) for shape in [(), (3,), (2, 1)]],
    np.convolve: [case(np.convolve, *shapes) for shapes in [((4,), (3,)), ((2,), (5,)), ((1,), (1,)), ((3,), (3,))]],
    np.matmul: [case(np.matmul, x, y) for x in RANKS[0] for y in RANKS[1]]
             + [case(np.matmul, *shapes) for shapes in [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)),
                                                        ((2, 1, 2, 3), (3, 3, 2)), ((3, 1, 2), (2,)), ((0,), (0,))]],
    np.inner: [case(np.inner, *shapes) for shapes in [((2, 3), (4, 3)), ((0, 3), (2, 3)), ((2, 0), (3, 0))]],
    np.prod: [case(np.prod, (2, 3), **k) for k in KEYWORDS] + [case(np.prod, (2, 2, 3), axis=(0, 2)),
              case(np.prod, (0, 3), axis=0), case(np.prod, ()), case(np.prod, (2, 0), axis=-1)],
    np.where: [case(lambda x, y: np.where(MASK, x, y), *shapes)
               for shapes in [((2, 3), (2, 3)), ((3,), (2, 1)), ((), ())]],
    np.sum: [case(np.sum, (2, 3), **k) for k in KEYWORDS] + [case(np.sum, (2, 2, 3), axis=(0, 2)), case(np.sum, ()),
             case(np.sum, (0, 3), axis=0)],
    np.max: [case(np.max, (2, 3), **k) for k in EXTREMES] + [case(np.max, (2, 2, 3), axis=(0, 2)), case(np.max, ()),
             case(np.max, (0, 3), axis=1)],
    np.min: [case(np.min, (2, 3), **k) for k in EXTREMES] + [case(np.min, (2, 2, 3), axis=(0, 2)), case(np.min, ()),
             case(np.min, (0, 3), axis=1)],
    np.fmax.reduce: [case(np.fmax.reduce, (2, 3), **k) for k in EXTREMES] + [case(np.fmax.reduce, (0, 3), axis=1)],
    np.fmin.reduce: [case(np.fmin.reduce, (2, 3), **k) for k in EXTREMES] + [case(np.fmin.reduce, (0, 3), axis=1)],
    **{ufunc.accumulate: [case(ufunc.accumulate, (2, 5), **k) for k in [{}, {"axis": 1}, {"axis": -1}]]
                       + [case(ufunc.accumulate, (7,)), case(ufunc.accumulate, (0, 3), axis=1)]
       for ufunc in [np.maximum, np.minimum, np.fmax, np.fmin]},
    np.sort: [case(np.sort, (2, 5), **k) for k in [{}, {"axis": 0}, {"axis": -2}, {"axis": None}, {"kind": "stable"}]]
           + [case(np.sort, (2, 3, 2), axis=1), case(np.sort, (3, 0)), case(np.sort, (0, 3))],
    np.partition: [case(np.partition, (2, 6), kth=2), case(np.partition, (6, 2), kth=(1, 4), axis=0),
                   case(np.partition, (2, 3), kth=1, axis=None)],
    np.copy: [case(np.copy, (2, 3)), case(np.copy, (), order="F"), case(np.copy, (0, 3))],
    np.cumsum: [case(np.cumsum, (2, 3), **k) for k in [{}, {"axis": 0}, {"axis": -1}, {"dtype": np.float64}]]
             + [case(np.cumsum, ()), case(np.cumsum, (0, 3), axis=1)],
    np.ndarray.astype: [case(lambda x: x.astype(np.float64), shape) for shape in [(2, 3), (), (0, 3)]],
    np.reshape: [case(lambda x: np.reshape(x, (3, -1)), (2, 3)), case(lambda x: x.reshape(6), (2, 3)),
                 case(lambda x: x.reshape(1, 3, 2), (2, 3)), case(lambda x: np.reshape(x, (3, 2), order="F"), (2, 3)),
                 case(lambda x: np.reshape(x, (0, 5)), (0, 3)), case(lambda x: np.reshape(x, (1, 1)), ())],
    np.squeeze: [case(np.squeeze, (1, 3, 1), **k) for k in [{}, {"axis": 0}, {"axis": -1}, {"axis": (0, 2)}]],
    np.expand_dims: [case(np.expand_dims, (2, 3), axis=axis) for axis in [0, 1, -1, (0, -1)]],
    np.transpose: [case(np.transpose, (2, 3, 4)), case(np.transpose, (2, 3, 4), axes=(2, 0, 1)), case(np.transpose, ()),
                   case(np.transpose, (2, 3, 4), axes=(-1, 0, -2)), case(lambda x: x.transpose(1, 0), (2, 3)),
                   case(lambda x: np.square(np.transpose(x, (1, 0))), (2, 3)),
                   case(lambda x: x.T, (2, 3)), case(np.transpose, (0, 3))],
    np.swapaxes: [case(lambda x: np.swapaxes(x, 0, -1), (2, 3, 4)), case(lambda x: x.swapaxes(1, 1), (2, 3))],
    np.moveaxis: [case(lambda x: np.moveaxis(x, 0, -1), (2, 3, 4)),
                  case(lambda x: np.moveaxis(x, (0, 1), (-1, 0)), (2, 3, 4))],
    np.flip: [case(np.flip, (2, 3)), case(np.flip, (2, 3), axis=-1), case(np.flip, (2, 3, 2), axis=(0, 2)),
              case(np.flip, ())],
    np.broadcast_to: [case(lambda x: np.broadcast_to(x, (2, 3)), shape) for shape in [(2, 3), (3,), (2, 1), (1, 1), ()]]
                   + [case(lambda x: np.broadcast_to(x, (0, 3)), (1, 3))],
    getitem: [case(lambda x, index=index: x[index], (2, 3)) for index in INDICES]
           + [case(lambda x, index=index: x[index], ()) for index in [(), None, ..., True, (None, ...)]],
    mg.put_add.__wrapped__: [case(lambda x, v, index=index: mg.put_add(x, index, v), (2, 3), shape)
                             for index, shape in PUTS],
    mg.put.__wrapped__: [case(lambda x, v, index=index: mg.put(x, index, v), (2, 3), shape) for index, shape in PUTS],
    join: [case(lambda *arrays, axis=axis: np.concatenate(arrays, axis), *shapes)
           for axis, shapes in [(0, [(2, 3), (1, 3)]), (-1, [(2, 1), (2, 0), (2, 2)]), (1, [(2, 1, 2)]),
                                (None, [(2, 3), ()])]],
}

# Beyond the domains above: negative bases with whole exponents, and heaviside where its second argument counts.
more = {
    np.power: [case(lambda x, n=n: x**n, (2, 3)) for n in [3, -1, -2, 1.0, 4.0, np.array([0, 1, 5.0])]]
            + [case(lambda x: 2**x, (2, 3)), case(lambda x: x**0.5, (2, 3), domain=POSITIVE)],
    np.float_power: [case(lambda x: np.float_power(x, 3), (2, 3))],
    np.heaviside: [case(lambda y: np.heaviside(np.array([-1.0, 0.0, 1.0]), y), (2, 3))],
    np.divide: [case(lambda x: 1 / x, (3,)), case(lambda x: x / 2, (3,)), case(lambda x: x / x, (3,))],
    np.multiply: [case(lambda x: x * x, (3,)), case(lambda x: 2 * x * np.arange(3), (3,))],
}
# fmt: on

ONE = [((),), ((3,),), ((2, 3),), ((0, 3),)]
TWO = [((), ()), ((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (3,)), ((3,), (1,)), ((1, 0), (3, 1))]

cases: dict[Callable[..., Any], list[Case]] = {
    **{f: [Case(f, s, domains) for s in (ONE if len(domains) == 1 else TWO)] for f, domains in elementwise.items()},
    **of_arrays,
}
for function, additional in more.items():
    cases[function] += additional


def test_every_rule_has_a_row() -> None:
    assert {*cases, *linalg_cases} == set(vjps)


@pytest.mark.parametrize("function", cases, ids=name_of)
def test_rule(function: Callable[..., Any]) -> None:
    for row in cases[function]:
        check(row, exact=True)
        # Where the function is linear, only this runs what its rules record.
        check_grads(lambda *xs, f=row.function: np.square(f(*xs)), arguments(row, seed=0), shrink=False)


@pytest.mark.parametrize("ufunc", elementwise, ids=name_of)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_elementwise_rules_broadcast(ufunc: np.ufunc, data: st.DataObject, seed: int) -> None:
    domains = elementwise[ufunc]
    shapes = data.draw(nps.mutually_broadcastable_shapes(num_shapes=len(domains), min_side=0, max_dims=3, max_side=3))
    check(Case(ufunc, shapes.input_shapes, domains), exact=True, seed=seed)


# ------------------------------------------------------------------------------------------- the test itself is tested


def corruptions(function: Callable[..., Any]) -> Iterator[tuple[str, dict[int, Any]]]:
    """Wrong rules, by position, for each rule of the function."""
    special = {np.where: (1, 2), np.ldexp: (0,), mg.put.__wrapped__: (0, 2),
               mg.put_add.__wrapped__: (0, 2), join: (0, 1, 2),
               np.einsum: (1, 2), least_squares: (0, 1)}  # fmt: skip
    positions = special[function] if function in special else range(len(vjps[function]))  # those of floating arguments
    for i in positions:
        rule = vjps[function][i]
        if rule is None:
            yield f"rule {i} not zero", {i: lambda g, *args, **kwargs: g}
            continue
        yield f"rule {i} times 1.001", {i: lambda *args, rule=rule, **kwargs: 1.001 * rule(*args, **kwargs)}
        yield f"rule {i} with the other sign", {i: lambda *args, rule=rule, **kwargs: -rule(*args, **kwargs)}
        yield f"rule {i} zero", {i: lambda *args, rule=rule, **kwargs: 0 * rule(*args, **kwargs)}
        yield f"rule {i} missing", {i: None}
    if len(positions) > 1 and function not in (np.add, np.floor_divide):  # whose rules are the same
        i, j = positions[:2]
        yield f"rules {i} and {j} exchanged", {i: vjps[function][j], j: vjps[function][i]}


def test_every_wrong_rule_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    caught, survivors = 0, []
    for function, rows in [*cases.items(), *linalg_cases.items()]:
        for name, wrong in corruptions(function):
            right = vjps[function]
            with monkeypatch.context() as patch:
                patch.setitem(vjps, function, [wrong.get(i, right[i]) for i in range(min(len(right), 3))])
                try:
                    for row in rows:
                        check(row, exact=function in cases)
                except (AssertionError, ValueError, IndexError):
                    caught += 1
                else:
                    survivors.append(f"{name_of(function)}: {name}")
    print(f"{caught} of {caught + len(survivors)} wrong rules caught")
    assert not survivors


# -------------------------------------------------------------------------------------------------- every form of index


shapes = nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


@settings(max_examples=5 * settings().max_examples)
@given(shapes, st.data())
def test_getitem_with_every_index(shape: tuple[int, ...], data: st.DataObject) -> None:
    """Small integers make it exact: the gradient counts how often each number was chosen."""
    index = data.draw(indices(shape))
    x = 1.0 + np.arange(np.prod(shape, dtype=int)).reshape(shape)
    numbers = np.asarray((x - 1)[index]).astype(int)
    weights = np.arange(numbers.size).reshape(numbers.shape) - 3.0
    expected = np.bincount(numbers.ravel(), weights.ravel(), minlength=x.size).reshape(shape)
    f = lambda x: np.sum(weights * np.square(x[index]))
    np.testing.assert_array_equal(mg.grad(f)(x), 2 * x * expected)
    np.testing.assert_array_equal(mg.grad(lambda x: np.sum(mg.grad(f)(x)))(x), 2 * expected)


@given(shapes, st.data())
def test_put_and_put_add_with_every_index(shape: tuple[int, ...], data: st.DataObject) -> None:
    index = data.draw(indices(shape))
    rng = np.random.default_rng(0)
    x = draw(rng, shape, REAL)
    part = x[index].shape
    value = draw(rng, data.draw(st.sampled_from([part, part[1:], ()])), REAL)

    expected = x.copy()
    expected[index] = value
    np.testing.assert_array_equal(mg.put(x, index, value), expected)
    np.testing.assert_array_equal(mg.put(mg.Tensor(x), index, value).data, expected)
    check_grads(lambda x, value: mg.put(x, index, value), [x, value])

    expected = x.flatten()
    places = np.asarray(np.arange(x.size).reshape(shape)[index])
    for place, number in zip(places.flat, np.broadcast_to(value, part).flat, strict=True):
        expected[place] += number
    expected = expected.reshape(shape)
    np.testing.assert_allclose(mg.put_add(x, index, value), expected, rtol=1e-15)
    check_grads(lambda x, value: mg.put_add(x, index, value), [x, value])


def test_put_keeps_the_original_and_its_dtype() -> None:
    x = np.zeros(3, np.float32)
    assert mg.put(x, 0, 5.0).dtype == mg.put_add(x, 0, 5.0).dtype == np.float32
    np.testing.assert_array_equal(x, 0)


# --------------------------------------------------------------------------------- kinks: the subgradient of least norm


def first_and_second(f: Callable[[Any], Any], x: Any) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives of a function of single elements, by `grad` and by `backward`, which must agree."""
    x = np.array(x)
    total = lambda x: np.sum(f(x))
    total_slope = lambda x: np.sum(mg.grad(total)(x))
    answers = []
    with np.errstate(all="ignore"):  # the forward pass computes the branches that are not chosen, too
        for function in (total, total_slope):
            answers.append(mg.grad(function)(x))
            tensor = mg.Tensor(x, requires_grad=True)
            loss = function(tensor)
            if loss.requires_grad:  # else the first derivative is a constant
                loss.backward()
                np.testing.assert_array_equal(tensor.grad, answers[-1])
    return answers[0], answers[1]


half, pi, nan, inf = 0.5, np.pi, np.nan, np.inf

# These are read as tables, so their columns are aligned by hand.
# fmt: off
kinks = [  # what, function, points, its first derivative, its second
    ("absolute",      np.absolute,                   [-2.0, 0.0, -0.0, 3.0],  [-1, 0, 0, 1],           [0, 0, 0, 0]),
    ("fabs",          np.fabs,                       [-2.0, 0.0, 3.0],        [-1, 0, 1],              [0, 0, 0]),
    ("sign",          np.sign,                       [-2.0, 0.0, 3.0],        [0, 0, 0],               [0, 0, 0]),
    ("maximum",       lambda x: np.maximum(x, 1),    [0.0, 1.0, 2.0],         [0, half, 1],            [0, 0, 0]),
    ("minimum",       lambda x: np.minimum(1, x),    [0.0, 1.0, 2.0],         [1, half, 0],            [0, 0, 0]),
    ("both sides",    lambda x: np.maximum(x, x),    [0.0, 1.0],              [1, 1],                  [0, 0]),
    ("max",           np.max,                        [2.0, 1.0, 2.0, 2.0],    [1/3, 0, 1/3, 1/3],      [0, 0, 0, 0]),
    ("min",           np.min,                        [2.0, 1.0, 1.0, 2.0],    [0, half, half, 0],      [0, 0, 0, 0]),
    ("max where",     lambda x: np.max(x, where=x < 2, initial=0),
                                                     [1.0, 2.0, 1.0],         [half, 0, half],         [0, 0, 0]),
    ("max initial",   lambda x: np.max(x, initial=5), [1.0, 2.0],             [0, 0],                  [0, 0]),
    ("clip",          lambda x: np.clip(x, 0, 1),    [-1.0, 0.0, 1.0, 2.0],   [0, half, half, 0],      [0, 0, 0, 0]),
    ("x**0",          lambda x: x**0,                [-1.0, 0.0, 2.0],        [0, 0, 0],               [0, 0, 0]),
    ("x**0.0",        lambda x: np.power(x, 0.0),    [-1.0, 0.0, 2.0],        [0, 0, 0],               [0, 0, 0]),
    ("x**1",          lambda x: x**1,                [-1.0, 0.0, 2.0],        [1, 1, 1],               [0, 0, 0]),
    ("x**2",          lambda x: np.power(x, 2),      [-1.0, 0.0, 2.0],        [-2, 0, 4],              [2, 2, 2]),
    ("x**3",          lambda x: x**3,                [-1.0, 0.0, 2.0],        [3, 0, 12],              [-6, 0, 12]),
    ("x**-1",         lambda x: x**-1,               [-1.0, 2.0],             [-1, -1/4],              [-2, 1/4]),
    ("x**[0, 1, 2]",  lambda x: x ** np.arange(3.0), [0.0, 0.0, 0.0],         [0, 1, 0],               [0, 0, 2]),
    ("0**y",          lambda y: np.power(0.0, y),    [0.0, 1.0, 2.0],         [0, 0, 0],               [0, 0, 0]),
    ("float_power",   lambda x: np.float_power(x, 2), [-1.0, 0.0],            [-2, 0],                 [2, 2]),
    ("hypot",         lambda x: np.hypot(x, 0.0),    [-2.0, 0.0],             [-1, 0],                 [0, 0]),
    ("std",           np.std,                        [3.0, 3.0, 3.0],         [0, 0, 0],               [0, 0, 0]),
    ("std, axis",     lambda x: np.std(x, axis=1),   [[3.0, 3.0], [2.0, 4.0]], [[0, 0], [-half, half]], [[0, 0]] * 2),
    ("fmax",          lambda x: np.fmax(x, 1),       [0.0, 1.0, 2.0, nan],    [0, half, 1, 0],         [0, 0, 0, 0]),
    ("fmin",          lambda x: np.fmin(nan, x),     [0.0, nan],              [1, half],               [0, 0]),
    ("fmax.reduce",   np.fmax.reduce,                [2.0, 1.0, 2.0, nan],    [half, 0, half, 0],      [0, 0, 0, 0]),
    ("accumulate",    lambda x: np.maximum.accumulate(x) * 12.0 ** np.arange(4),
                                                     [1.0, 1.0, 0.0, 1.0],    [655, 654, 0, 576],      [0, 0, 0, 0]),
    ("arctan2(x, 0)", lambda x: np.arctan2(x, 0.0),  [-2.0, 0.0, 4.0],        [0, 0, 0],               [0, 0, 0]),
    ("arctan2(0, x)", lambda x: np.arctan2(0.0, x),  [-2.0, 0.0, 4.0],        [0, 0, 0],               [0, 0, 0]),
    ("arctan2, far",  lambda x: np.arctan2(x, 1e200), [1e200],                [half / 1e200],          [0]),
    ("logaddexp",     lambda x: np.logaddexp(x, -inf), [-inf, 0.0, inf],      [half, 1, 1],            [0, 0, 0]),
    ("at infinity",   lambda x: np.logaddexp(0, x),  [-inf, inf],             [0, 1],                  [0, 0]),
    ("beside it",     lambda x: np.logaddexp(inf, x), [-inf, 0.0, inf],       [0, 0, half],            [0, 0, 0]),
    ("logaddexp2",    lambda x: np.logaddexp2(x, -inf), [-inf, 0.0, inf],     [half, 1, 1],            [0, 0, 0]),
    ("sinc",          np.sinc,                       [0.0, 1.0],              [0, -1],                 [-pi**2 / 3, 2]),
    ("sort",          lambda x: np.sort(x) * np.arange(4.0),
                                                     [2.0, 1.0, 2.0, 0.0],    [2.5, 1, 2.5, 0],        [0, 0, 0, 0]),
    ("partition",     lambda x: np.partition(x, 2)[2:], [2.0, 1.0, 2.0, 0.0], [1, 0, 1, 0],            [0, 0, 0, 0]),
    ("sqrt",          np.sqrt,                       [0.0, 4.0],              [inf, 1/4],              [-inf, -1/32]),
    ("cbrt",          np.cbrt,                       [0.0, 8.0],              [inf, 1/12],             [nan, -1/144]),
    ("log",           np.log,                        [0.0, 2.0],              [inf, 1/2],              [-inf, -1/4]),
]

masked = [  # the same, for functions with a branch that is not chosen and whose derivative is inf or nan
    ("sqrt",       lambda x: np.where(x > 0, np.sqrt(x), 0),            [-1.0, 0.0, 4.0],  [0, 0, 1/4],  [0, 0, -1/32]),
    ("other way",  lambda x: np.where(x <= 0, 0, np.sqrt(x)),           [-1.0, 0.0, 4.0],  [0, 0, 1/4],  [0, 0, -1/32]),
    ("scaled",     lambda x: 3 * np.where(x > 0, 2 * np.sqrt(x), x),    [0.0, 4.0],        [3, 6/4],     [0, -6/32]),
    ("log",        lambda x: np.where(x > 0, np.log(x), 0),             [-1.0, 0.0, 2.0],  [0, 0, 1/2],  [0, 0, -1/4]),
    ("x log x",    lambda x: np.where(x > 0, x * np.log(x), 0),         [-1.0, 0.0, 1.0],  [0, 0, 1],    [0, 0, 1]),
    ("sin(x) / x", lambda x: np.where(x != 0, np.sin(x) / x, 1),        [0.0, pi],         [0, -1/pi],   [0, 2/pi**2]),
    ("1 / x",      lambda x: np.where(x != 0, 1 / x, 0),                [0.0, 2.0],        [0, -1/4],    [0, 1/4]),
    ("power",      lambda x: np.where(x > 0, x**0.5, 0),                [-1.0, 0.0, 4.0],  [0, 0, 1/4],  [0, 0, -1/32]),
    ("x**1.5",     lambda x: np.where(x > 0, x**1.5, 0),                [-1.0, 0.0, 4.0],  [0, 0, 3],    [0, 0, 3/8]),
    ("log1p",      lambda x: np.where(x > -1, np.log1p(x), 0),          [-2.0, -1.0, 1.0], [0, 0, 1/2],  [0, 0, -1/4]),
    ("arccos",     lambda x: np.where(np.abs(x) < 1, np.arccos(x), 0),  [-1.0, 0.0, 2.0],  [0, -1, 0],   [0, 0, 0]),
    ("nested",     lambda x: np.where(x > 0, np.where(x > 1, np.sqrt(x - 1), 0), x),
                                                                        [0.0, 1.0, 5.0],   [1, 0, 1/4],  [0, 0, -1/32]),
    ("twice",      lambda x: np.where(x > 0, np.sqrt(np.where(x > 0, x, 0)), 0),
                                                                        [-1.0, 0.0, 4.0],  [0, 0, 1/4],  [0, 0, -1/32]),
    ("maximum",    lambda x: np.sqrt(np.maximum(x, 0)),                 [-1.0, 4.0],       [0, 1/4],     [0, -1/32]),
    ("of maximum", lambda x: np.maximum(np.sqrt(x), 1),                 [0.0, 4.0],        [0, 1/4],     [0, -1/32]),
    ("clip",       lambda x: np.sqrt(np.clip(x, 0, 9)),                 [-1.0, 4.0, 10.0], [0, 1/4, 0],  [0, -1/32, 0]),
    ("max",        lambda x: np.max(np.sqrt(x)),                        [0.0, 4.0],        [0, 1/4],     [0, -1/32]),
    ("sum where",  lambda x: np.sum(np.sqrt(x), where=x > 0),           [0.0, 4.0],        [0, 1/4],     [0, -1/32]),
    ("mean where", lambda x: np.mean(np.sqrt(x), where=x > 0),          [0.0, 4.0],        [0, 1/4],     [0, -1/32]),
    ("index",      lambda x: np.sqrt(x)[1:],                            [0.0, 4.0],        [0, 1/4],     [0, -1/32]),
    ("boolean",    lambda x: np.sqrt(x)[x.data > 0 if isinstance(x, mg.Tensor) else x > 0],
                                                                        [0.0, 4.0],        [0, 1/4],     [0, -1/32]),
    ("put",        lambda x: mg.put(np.sqrt(x), 0, 1.0),                [0.0, 4.0],        [0, 1/4],     [0, -1/32]),
    ("shared",     lambda x: np.where(x > 0, np.sqrt(x), 0) + x * x,    [0.0, 4.0],        [0, 33/4],    [2, 63/32]),
]

real = [  # where nan is the right answer and must not be hidden
    ("sqrt, squared",  lambda x: np.sqrt(x) ** 2,                                 [0.0, 4.0],   [nan, 1]),
    ("chosen",         lambda x: np.where(x < 0, np.sqrt(x), 0),                  [-1.0, 4.0],  [nan, 0]),
    ("chosen, too",    lambda x: np.where(x < 9, np.log(x) ** 2, 0),              [-1.0, 1.0],  [nan, 0]),
    ("outside",        lambda x: np.where(x < 9, x, 0) + np.sqrt(x) ** 2,         [0.0, 4.0],   [nan, 2]),
    ("beside masked",  lambda x: np.where(x > 0, np.sqrt(x), 0) + np.sqrt(x - 4) ** 2, [0.0, 4.0, 8.0],
     [nan, nan, 1 + 1/np.sqrt(32)]),
    ("maximum",        lambda x: np.maximum(x, 1) * nan,                          [0.0, 2.0],   [0, nan]),
    ("times zero",     lambda x: 0 * np.sqrt(x),                                  [0.0, 4.0],   [nan, 0]),
    ("infinity",       lambda x: np.where(x >= 0, np.sqrt(x), 0),                 [-1.0, 0.0, 4.0], [0, inf, 1/4]),
]
# fmt: on


@pytest.mark.parametrize(("f", "x", "slope", "curvature"), [pytest.param(*row[1:], id=row[0]) for row in kinks])
def test_kink(f: Callable[[Any], Any], x: Any, slope: Any, curvature: Any) -> None:
    first, second = first_and_second(f, x)
    np.testing.assert_allclose(first, slope, rtol=1e-15)
    np.testing.assert_allclose(second, curvature, rtol=1e-15)


@pytest.mark.parametrize(("f", "x", "slope", "curvature"), [pytest.param(*row[1:], id=row[0]) for row in masked])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_masked_branch(f: Callable[[Any], Any], x: Any, slope: Any, curvature: Any, dtype: Any) -> None:
    first, second = first_and_second(f, np.array(x, dtype))
    tolerance = 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(first, slope, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(second, curvature, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("f", "x", "slope"), [pytest.param(*row[1:], id=row[0]) for row in real])
def test_real_nan_stays(f: Callable[[Any], Any], x: Any, slope: Any) -> None:
    np.testing.assert_allclose(first_and_second(f, x)[0], slope, rtol=1e-15)


@pytest.mark.parametrize("keywords", KEYWORDS)
@pytest.mark.parametrize("zeros", [[0], [1, 4], [0, 1, 2, 5], range(6)])
def test_prod_with_zeros(zeros: Any, keywords: dict[str, Any]) -> None:
    x = np.arange(1.0, 7)
    x[list(zeros)] = 0
    check_grads(lambda x: np.prod(x, **keywords), [x.reshape(2, 3)])


def test_the_exponent_zero_has_neighbours() -> None:
    check_grads(np.power, [np.array([2.0, 0.5]), np.zeros(2)])  # the mixed derivative is 1 / x there


def test_hypot_of_zeros() -> None:
    np.testing.assert_array_equal(mg.grad(np.hypot, (0, 1))(0.0, 0.0), [0, 0])


@pytest.mark.parametrize("reduction", [np.max, np.min])
@given(nps.arrays(np.float64, nps.array_shapes(max_dims=3, max_side=4), elements=st.integers(-2, 2)), st.data())
def test_ties_share_evenly(reduction: Callable[..., Any], x: np.ndarray, data: st.DataObject) -> None:
    axis = data.draw(st.one_of(st.none(), nps.valid_tuple_axes(x.ndim)))
    hits = x == reduction(x, axis=axis, keepdims=True)
    expected = hits / np.sum(hits, axis=axis, keepdims=True)
    np.testing.assert_array_equal(mg.grad(lambda x: np.sum(reduction(x, axis=axis)))(x), expected)
