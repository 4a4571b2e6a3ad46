"""Every rule of the table: its first and second derivatives; and the test itself is tested."""

import itertools
from collections.abc import Callable, Iterator
from operator import getitem
from typing import Any

import numpy as np
import pytest
from cases import (
    BETWEEN_INTEGERS,
    POSITIVE,
    REAL,
    UNIT,
    Case,
    arguments,
    case,
    check,
    check_second,
    draw,
    is_of_scipy,
    rows_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.lib.stride_tricks import sliding_window_view
from profiles import scale, some
from test_fourier import cases as fourier_cases
from test_linalg import primitives as linalg_cases

import minigrad as mg
from minigrad.engine import name_of, vjps
from minigrad.tables.linalg import beside, least_squares
from minigrad.tables.rules import (
    arctan_slope,
    below,
    concatenate,
    cosine,
    logistic,
    on_diagonal,
    one_minus_square,
    positive_part,
    root,
    root_slope,
    sech_squared,
    sinc_slope,
    unwindowed,
    windows,
)
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

WINDOWS = [((5,), {"sizes": (2,), "axes": (0,)}), ((0, 3), {"sizes": (3,), "axes": (1,)}),
           ((7, 2), {"sizes": (2,), "axes": (0,), "steps": (2,), "dilations": (3,)}),
           ((2, 5, 6), {"sizes": (3, 2), "axes": (1, 2), "steps": (1, 3), "dilations": (2, 1)})]

of_arrays = {
    np.round: [case(np.round, (2, 3), domain=BETWEEN_INTEGERS)],
    np.real: [case(lambda x, y: np.real(np.exp(x + 1j * y)), *shapes) for shapes in [((), ()), ((2, 3), (3,))]],
    np.imag: [case(lambda x, y: np.imag(np.exp(x + 1j * y)), *shapes) for shapes in [((), ()), ((2, 3), (3,))]],
    np.conjugate: [case(lambda x, y: np.conjugate(x + 1j * y) * (x - 2j), (2, 3), (3,)), case(np.conj, ())],
    np.sinc: [case(np.sinc, shape, domain=domain) for shape in [(), (2, 3), (0, 3)] for domain in [REAL, WIDE]],
    sinc_slope.__wrapped__: [case(sinc_slope, (5,), domain=WIDE, order=n) for n in [1, 2, 7]],
    **{f.__wrapped__: [case(f, shape, domain=domain) for shape in [(), (2, 3), (0, 3)]] for f, domain in
       [(sech_squared, REAL), (logistic, REAL), (arctan_slope, REAL), (one_minus_square, UNIT),
        (positive_part, REAL)]},
    cosine.__wrapped__: [case(lambda x, y: cosine(x, y, np.hypot(x, y)), *shapes)
                         for shapes in [((), ()), ((3,), (3,)), ((2, 1), (3,))]],
    **{f.__wrapped__: [case(f, shape, domain=POSITIVE, p=p) for p in [2, 3, 1.5] for shape in [(), (3,)]]
       for f in [root, root_slope]},
    below.__wrapped__: [Case(below, shapes, [UNIT, ((1.0, 3.0),)]) for shapes in [((), ()), ((2, 3), (2, 1))]],
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
    sliding_window_view: [case(sliding_window_view, (5,), window_shape=2),
                          case(sliding_window_view, (3, 4), window_shape=(2, 3)),
                          case(sliding_window_view, (2, 4, 3), window_shape=(2, 2), axis=(1, 2)),
                          case(sliding_window_view, (5, 2), window_shape=(2, 2), axis=(0, 0))],
    windows.__wrapped__: [case(windows, shape, **k) for shape, k in WINDOWS],
    unwindowed.__wrapped__: [case(unwindowed, windows(np.zeros(shape), **k).shape, shape=shape, **k)
                             for shape, k in WINDOWS],
    np.flip: [case(np.flip, (2, 3)), case(np.flip, (2, 3), axis=-1), case(np.flip, (2, 3, 2), axis=(0, 2)),
              case(np.flip, ())],
    np.roll: [case(np.roll, (2, 3), **k)
              for k in [{"shift": 2}, {"shift": -1, "axis": 1}, {"shift": (1, 2), "axis": (0, 1)}, {"shift": [4]}]]
           + [case(np.roll, (0, 3), shift=1)],
    np.repeat: [case(lambda x, k=k: np.repeat(x, *k), (2, 3))
                for k in [(2,), (2, 0), (3, -1), (0, 1), (np.int32(3), 1)]]
             + [case(np.repeat, (0, 3), repeats=2, axis=1)],
    np.rot90: [case(np.rot90, (2, 3), **k) for k in [{}, {"k": 2}, {"k": 0}, {"k": -1, "axes": (1, 0)}]]
            + [case(np.rot90, (2, 0, 3), axes=(0, -1))],
    np.diag: [case(np.diag, shape, k=k) for shape in [(3,), (3, 4), (0,)] for k in [0, 1, -2]],
    np.trace: [case(np.trace, (3, 4)), case(np.trace, (2, 3, 4), offset=-1, axis1=2, axis2=0),
               case(np.trace, (2, 2), dtype=float), case(lambda x: np.trace(x, 1, 2, 0), (2, 3, 4))],
    np.diagonal: [case(np.diagonal, (3, 4)), case(np.diagonal, (2, 3, 4), offset=1, axis1=-1, axis2=1),
                  case(lambda x: np.diagonal(x, -1), (4, 2)), case(np.diagonal, (2, 3), offset=5),
                  case(lambda x: x.diagonal(), (0, 3))],
    on_diagonal.__wrapped__: [case(lambda x: on_diagonal(x, (3, 3), 1, 0, 1), (2,)),
                              case(lambda x: on_diagonal(x, (4, 2, 3), -1, -1, 0), (2, 2))],
    np.broadcast_to: [case(lambda x: np.broadcast_to(x, (2, 3)), shape) for shape in [(2, 3), (3,), (2, 1), (1, 1), ()]]
                   + [case(lambda x: np.broadcast_to(x, (0, 3)), (1, 3))],
    getitem: [case(lambda x, index=index: x[index], (2, 3)) for index in INDICES]
           + [case(lambda x, index=index: x[index], ()) for index in [(), None, ..., True, (None, ...)]],
    mg.put_add.__wrapped__: [case(lambda x, v, index=index: mg.put_add(x, index, v), (2, 3), shape)
                             for index, shape in PUTS],
    mg.put.__wrapped__: [case(lambda x, v, index=index: mg.put(x, index, v), (2, 3), shape) for index, shape in PUTS],
    concatenate: [case(lambda *arrays, axis=axis: np.concatenate(arrays, axis), *shapes)
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
    **{function: rows for function, rows in fourier_cases.items() if function in vjps},
}
for function, additional in more.items():
    cases[function] += additional


def test_every_rule_has_a_row() -> None:
    elsewhere = ("test_", "demos_", "__main__", "minigrad.transforms")
    others = {f for f in vjps if str(getattr(f, "__module__", "")).startswith(elsewhere)}
    assert {*cases, *linalg_cases} == {f for f in vjps if not is_of_scipy(f)} - others


@pytest.mark.parametrize("function", cases, ids=name_of)
def test_rule(function: Callable[..., Any]) -> None:
    for number, row in rows_of(function, cases, 6):
        check(row, exact=True, number=number)
        # Where the function is linear, only this runs what its rules record.
        square, args = lambda *xs, f=row.function: np.square(f(*xs)), arguments(row, seed=0)
        check_second(square, args)
        if scale(False, True):
            check_grads(square, args, shrink=False)


@pytest.mark.parametrize("ufunc", elementwise, ids=name_of)
@settings(max_examples=scale(2, 40))
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_elementwise_rules_broadcast(ufunc: np.ufunc, data: st.DataObject, seed: int) -> None:
    domains = elementwise[ufunc]
    shapes = data.draw(nps.mutually_broadcastable_shapes(num_shapes=len(domains), min_side=0, max_dims=3, max_side=3))
    check(Case(ufunc, shapes.input_shapes, domains), exact=True, seed=seed)


# ------------------------------------------------------------------------------------------- the test itself is tested


def rules_of(function: Callable[..., Any]) -> list[Any]:
    """A rule for each of the first three arguments, also where one rule is theirs together."""
    joint = getattr(vjps[function], "joint", None)
    one = lambda i: lambda *args, **kwargs: joint(*args, **kwargs)[i]
    return [one(i) for i in range(3)] if joint else [*vjps[function][:3]]


def corruptions(function: Callable[..., Any]) -> Iterator[tuple[str, dict[int, Any]]]:
    """Wrong rules, by position, for each rule of the function."""
    special = {np.where: (1, 2), np.ldexp: (0,), on_diagonal.__wrapped__: (0,), mg.put.__wrapped__: (0, 2),
               mg.put_add.__wrapped__: (0, 2), concatenate: (0, 1, 2),
               np.einsum: (1, 2), least_squares: (0, 1), cosine.__wrapped__: (0, 1),
               beside.__wrapped__: ()}  # of which the derivative is zero, or else unknown  # fmt: skip
    positions = special[function] if function in special else range(len(vjps[function]))  # those of floating arguments
    rules = rules_of(function)
    for i in positions:
        rule = rules[i]
        if rule is None:
            yield f"rule {i} not zero", {i: lambda g, *args, **kwargs: g}
            continue
        yield f"rule {i} times 1.001", {i: lambda *args, rule=rule, **kwargs: 1.001 * rule(*args, **kwargs)}
        yield f"rule {i} with the other sign", {i: lambda *args, rule=rule, **kwargs: -rule(*args, **kwargs)}
        yield f"rule {i} zero", {i: lambda *args, rule=rule, **kwargs: 0 * rule(*args, **kwargs)}
        yield f"rule {i} missing", {i: None}
    if len(positions) > 1 and function not in (np.add, np.floor_divide):  # whose rules are the same
        i, j = positions[:2]
        yield f"rules {i} and {j} exchanged", {i: rules[j], j: rules[i]}


def test_every_wrong_rule_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigrad.testing.check.ATTEMPTS", 0)  # what is caught need not be made smaller
    caught, survivors = 0, []
    for number, (function, rows) in enumerate([*cases.items(), *linalg_cases.items()]):
        wrongs = list(corruptions(function))
        one = [wrong for i, wrong in enumerate(wrongs) if i == number % len(wrongs)]
        for name, wrong in scale(one, wrongs):
            right = rules_of(function)
            with monkeypatch.context() as patch:
                patch.setitem(vjps, function, tuple(wrong.get(i, rule) for i, rule in enumerate(right)))
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


# ------------------------------------------------------------------------------------ zeros as factors and exponents


ZEROS = [[0], [1, 4], [0, 1, 2, 5], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(("zeros", "keywords"), some([*itertools.product(ZEROS, KEYWORDS)], 5))
def test_prod_with_zeros(zeros: Any, keywords: dict[str, Any]) -> None:
    x = np.arange(1.0, 7)
    x[zeros] = 0
    check_grads(lambda x: np.prod(x, **keywords), [x.reshape(2, 3)])


def test_the_exponent_zero_has_neighbours() -> None:
    check_grads(np.power, [np.array([2.0, 0.5]), np.zeros(2)])  # the mixed derivative is 1 / x there


def test_the_gradient_of_a_slice_lies_as_the_array_does() -> None:
    x = mg.Tensor(np.ones((3, 4, 5)).transpose(2, 0, 1), requires_grad=True)
    y = x * 1
    y.retain_grad()
    (np.sum(y[:, ::2]) + np.sum(y[:, 1:])).backward()
    np.testing.assert_array_equal(y.grad[0], [[1] * 4, [1] * 4, [2] * 4])
    assert y.grad.strides == y.data.strides


def test_where_an_index_repeats_all_values_are_added() -> None:
    rng = np.random.default_rng(0)
    for rows, count in [(3, 200), (200, 3)]:  # few places and many values, and the other way round
        for order in "CF":
            x, value = np.zeros((rows, 4), order=order), rng.normal(size=(count, 4))
            index, expected = rng.integers(-rows, rows, count), np.zeros((rows, 4))
            for i, v in zip(index, value, strict=True):
                expected[i] += v
            np.testing.assert_allclose(mg.put_add(x, index, value), expected, atol=1e-12)


@pytest.mark.parametrize("length", [1024, 1300, 1536, 4000])
def test_products_of_long_rows_are_done_in_parts(length: int) -> None:
    rng = np.random.default_rng(length)
    x, y, g = (rng.standard_normal(shape) for shape in ((20, 45), (45, length), (20, length)))
    np.testing.assert_allclose(mg.grad(lambda x: np.sum(x @ y * g))(x), g @ y.T, rtol=1e-11, atol=1e-11)
    second = mg.grad(lambda g: np.sum(mg.grad(lambda x: np.sum(x @ y * g))(x) * x))
    np.testing.assert_allclose(second(g), x @ y, rtol=1e-11, atol=1e-11)
