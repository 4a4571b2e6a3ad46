"""Every composite agrees with the NumPy function that it spells, in value and in derivative."""

import itertools
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import BETWEEN_INTEGERS, POSITIVE, REAL, Case, arguments, case, check, is_of_scipy, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from profiles import some
from test_fourier import cases as fourier_cases
from test_linalg import spellings as linalg_cases
from test_rules import elementwise

import minigrad as mg
from minigrad.engine import apply, composites, constants, name_of, refusals, vjps
from minigrad.testing import check_grads

# ------------------------------------------------------------------------------------------------- the table of cases

MASK = np.array([[True, False, True], [True, True, True]])
KEYWORDS = [
    {},
    {"axis": 0},
    {"axis": -1},
    {"axis": (0, -1)},
    {"axis": None, "keepdims": True},
    {"axis": 1, "keepdims": True},
]
MOMENTS = [
    *KEYWORDS,
    {"dtype": np.float64},
    {"where": MASK},
    {"where": MASK, "axis": 1},
    {"where": MASK[0], "keepdims": True},
]
SPREADS = [*MOMENTS, {"ddof": 1}, {"ddof": 2, "axis": 1}, {"ddof": 0.5}, {"correction": 1}, {"ddof": 1, "where": MASK}]
REDUCED = [{}, {"axis": 1}, {"axis": None}, {"axis": (0, 1), "keepdims": True}, {"axis": -1, "initial": 2.0}]
LOW, HIGH = ((-1.1, -0.9),), ((0.9, 1.1),)
DOTTED = [((), (3,), (2, 3), (2, 2, 3), (2, 1, 2, 3)), ((), (3,), (3, 2), (2, 3, 2), (2, 2, 3, 1))]


def weighted(pieces: Any, axis: int = 0) -> Any:
    """The pieces put together again, each with a weight of its own."""
    return np.concatenate([(i + 1) * piece for i, piece in enumerate(pieces)], axis)


REDUCTIONS = [*MOMENTS, {"initial": 2.0, "where": MASK}]
ALONG = [{}, {"axis": 0}, {"axis": -1}, {"dtype": np.float64}]
FOLDS = [*KEYWORDS, {"where": True}, {"where": np.array([[True], [False], [True], [True], [False]]), "initial": 0.5}]
METHODS = [
    "inverted_cdf",
    "averaged_inverted_cdf",
    "closest_observation",
    "interpolated_inverted_cdf",
    "hazen",
    "weibull",
]
METHODS += ["linear", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest"]
SHAPES = [(), (3,), (2, 3), (2, 1, 3), (0,)]
PAIRS = [((4,), (3,)), ((5,), (2,)), ((2,), (5,)), ((3,), (4,)), ((3,), (3,)), ((1,), (4,))]
OUTER = [((2,), (3,)), ((), (2,)), ((2, 1), (2,))]


def with_nan(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of an array in which one number is not one."""
    return lambda x, **keywords: function(np.where(NOT_A_NUMBER, np.nan, x), **keywords)


NOT_A_NUMBER = np.array([[False, True, False], [False, False, False]])


# The columns are aligned by hand, as in the table of rules.
# fmt: off
cases: dict[Callable[..., Any], list[Case]] = {
    np.where: [case(lambda x, y: np.where([[True], [False]], x, y), (3,), (2, 1))],
    np.reshape: [case(lambda x, order=order: np.reshape(x, (3, -1), order), (2, 3)) for order in "CFA"],
    np.concatenate: [case(lambda x, y: np.concatenate([x, y]), (2, 3), (1, 3)),
                     case(lambda x: np.concatenate(x), (2, 3)),
                     case(lambda x, y: np.concatenate((x, y, x), axis=-1), (2, 3), (2, 0)),
                     case(lambda x, y: np.concatenate([x, y], axis=None), (2, 3), ()),
                     case(lambda x: np.concatenate([np.ones((1, 3)), x]), (2, 3)),
                     case(lambda x: np.concatenate([x, x], dtype=np.float64), (2, 3))],
    np.stack: [case(lambda x, y, axis=axis: np.stack([x, y], axis), (2, 3), (2, 3)) for axis in [0, 1, 2, -1, -3]]
            + [case(lambda x, y: np.stack([x, y, np.float32(1)]), (), ()), case(lambda x: np.stack(x, axis=1), (2, 3))],
    np.split: [case(lambda x, n=n, axis=axis: weighted(np.split(x, n, axis), axis), (4, 6))
               for n, axis in [(2, 0), (3, -1), ([1], 0), ([1, 3, 3, 9], 1), ([], 0)]],
    np.array_split: [case(lambda x, n=n, axis=axis: weighted(np.array_split(x, n, axis), axis), (4, 6))
                     for n, axis in [(3, 0), (4, -1), ([2, 5], 1), (6, 0)]],
    np.mean: [case(np.mean, (2, 3), **k) for k in MOMENTS] + [case(np.mean, (2, 2, 3), axis=(0, 2)), case(np.mean, ()),
              case(np.mean, (0, 3), axis=1)],
    np.var: [case(np.var, (2, 3), **k) for k in SPREADS] + [case(np.var, (2, 2, 3), axis=(0, 2)),
             case(lambda x: np.var(x, mean=np.mean(x)), (2, 3)), case(np.var, (0, 3), axis=1)],
    np.std: [case(np.std, (2, 3), **k) for k in SPREADS] + [case(np.std, (2, 2, 3), axis=(0, 2)),
             case(lambda x: np.std(x, axis=0, mean=np.mean(x, axis=0, keepdims=True)), (2, 3)),
             case(np.std, (0, 3), axis=1)],
    np.clip: [case(lambda x, k=k: np.clip(x, *k), (2, 3)) for k in [(-1, 1), (None, 1.0), (-1, None), ([-1, 0, 1], 2)]]
           + [Case(np.clip, [(2, 3), (3,), (2, 1)], [REAL, LOW, HIGH]), case(lambda x: x.clip(-1, 1), (2, 3)),
              case(np.clip, (2, 3), a_min=-1, a_max=1),
              case(lambda x: np.clip(np.float32(1), x, 2 * x), (3,), domain=POSITIVE)],
    np.dot: [case(np.dot, x, y) for x in DOTTED[0] for y in DOTTED[1]] + [case(np.dot, (0, 3), (3, 2)),
             case(np.dot, (2, 0), (2, 0, 3)), case(lambda x: x.dot(x.T), (2, 3))],
    np.inner: [case(np.inner, x, y) for x in [(), (3,), (2, 3), (2, 2, 3)] for y in [(), (3,), (4, 3), (2, 1, 3)]],
    np.ravel: [case(np.ravel, (2, 3)), case(np.ravel, (2, 3), order="F"), case(np.ravel, ()),
               case(lambda x: x.flatten(), (2, 0))],
    np.repeat: [case(lambda x, k=k: np.repeat(x, *k), (2, 3))
                for k in [(2,), (2, 0), (3, -1), ([1, 0, 2], 1), (np.array([2, 1]), 0), (0, 1), ([1, 2, 0, 1, 0, 3],)]],
    np.tile: [case(np.tile, (2, 3), reps=reps) for reps in [2, (2, 1), (1, 2), (2, 1, 3), (0, 1), ()]]
           + [case(np.tile, (), reps=(2, 3)), case(np.tile, (2, 1, 2), reps=(2,))],
    np.pad: [case(lambda x, width=width, mode=mode: np.pad(x, width, mode), (2, 3))
             for mode in ["constant", "edge", "reflect", "symmetric", "wrap"]
             for width in [1, (2, 0), ((0, 1), (4, 2)), 0]]
          + [case(np.pad, (2, 3), pad_width=1, constant_values=7.0), case(np.pad, (), pad_width=0),
             *[case(lambda x, value: np.pad(x, ((1, 2), (0, 1)), constant_values=value), (2, 3), shape)
               for shape in [(), (2,), (2, 2)]],
             case(np.pad, (2,), pad_width=(1, 2), constant_values=(3, 4)), case(np.pad, (0, 2), pad_width=1)],
    np.full_like: [case(np.full_like, (2, 3), ()), case(np.full_like, (2, 3), (3,)), case(np.full_like, (2,),
                   (), shape=(4,))],
    np.divmod: [Case(lambda x, y, i=i: np.divmod(x, y)[i], [(2, 3), (3,)], [BETWEEN_INTEGERS, ((-1.02, -0.98),
                (0.98, 1.02))])
                for i in range(2)],
    np.modf: [case(lambda x, i=i: np.modf(x)[i], (2, 3), domain=BETWEEN_INTEGERS) for i in range(2)],
    np.add.accumulate: [case(np.add.accumulate, (2, 3)), case(np.add.accumulate, (2, 3), axis=-1)],
    np.add.reduce: [case(np.add.reduce, (2, 3), **k) for k in REDUCED],
    np.multiply.reduce: [case(np.multiply.reduce, (2, 3), **k) for k in REDUCED],
    np.maximum.reduce: [case(np.maximum.reduce, (2, 3), **k) for k in REDUCED],
    np.minimum.reduce: [case(np.minimum.reduce, (2, 3), **k) for k in REDUCED],

    # ----------------------------------------------------------------------------------- numbers in other places
    np.vstack: [case(lambda x, y: np.vstack([x, y]), (2, 3), (3,)), case(lambda x: np.vstack((1, x)), ())],
    np.hstack: [case(lambda x, y: np.hstack([x, y]), (2, 3), (2, 1)),
                case(lambda x, y: np.hstack([x, y, [1, 2]]), (), (3,))],
    np.dstack: [case(lambda x, y: np.dstack([x, y]), (2, 3), (2, 3, 2)), case(lambda x: np.dstack([x, x]), (3,))],
    np.column_stack: [case(lambda x, y: np.column_stack([x, y]), (2, 3), (2,)),
                      case(lambda x: np.column_stack([x, x]), ())],
    np.append: [case(np.append, (2, 3), (4,)), case(np.append, (2, 3), (1, 3), axis=0),
                case(lambda x: np.append(x, 1), ())],
    np.block: [case(lambda x, y: np.block([[x, np.ones((2, 1))], [y, 2 * y[:, :1]]]), (2, 2), (1, 2)),
               case(lambda x: np.block([x, 1, x]), (3,)), case(np.block, (2, 3))],
    np.hsplit: [case(lambda x: weighted(np.hsplit(x, 2), -1), shape) for shape in [(4,), (3, 4)]],
    np.vsplit: [case(lambda x: weighted(np.vsplit(x, [1])), (4, 3))],
    np.dsplit: [case(lambda x: weighted(np.dsplit(x, 3), 2), (2, 1, 3))],
    np.atleast_1d: [case(np.atleast_1d, shape) for shape in SHAPES]
                  + [case(lambda x, y: np.atleast_1d(x, y)[0], (), (2,))],
    np.atleast_2d: [case(np.atleast_2d, shape) for shape in SHAPES],
    np.atleast_3d: [case(np.atleast_3d, shape) for shape in SHAPES],
    np.broadcast_arrays: [case(lambda x, y, i=i: np.broadcast_arrays(x, y)[i], (2, 1), (3,)) for i in range(2)],
    np.meshgrid: [case(lambda x, y, z, i=i, k=k: np.meshgrid(x, y, z, **k)[i], (2,), (3,), ())
                  for i in range(3) for k in [{}, {"indexing": "ij"}, {"sparse": True}]],
    np.ix_: [case(lambda x, y, i=i: np.ix_(x, y)[i], (2,), (3,)) for i in range(2)],
    np.fliplr: [case(np.fliplr, (2, 3))],
    np.flipud: [case(np.flipud, (2, 3))],
    np.matrix_transpose: [case(np.matrix_transpose, (2, 3)), case(np.matrix_transpose, (2, 3, 4))],
    np.real: [case(np.real, (2, 3)), case(lambda x: x.real, ())],
    np.imag: [case(lambda x, y: (np.sin(x) + 1j * y).imag, (2, 3), (3,))],
    np.sign: [case(np.sign, (2, 3)), case(lambda x, y: np.sign(x + 1j * y), (2, 3), (3,))],
    np.angle: [case(lambda x, y, deg=deg: np.angle(x + 1j * y, deg), (2, 3), (3,)) for deg in [False, True]],
    np.real_if_close: [case(np.real_if_close, (2, 3)), case(lambda x, y: np.real_if_close(x + 1j * y), (2, 3), (3,))],
    np.rollaxis: [case(np.rollaxis, (2, 3, 4), **k)
                  for k in [{"axis": 1}, {"axis": -1, "start": 1}, {"axis": 0, "start": 3}]],
    np.delete: [case(np.delete, (3, 4), obj=obj, axis=axis) for obj in [1, [0, -1], slice(None, None, 2)]
                for axis in [0, 1, None]],
    np.insert: [case(np.insert, (2, 3), obj=1, values=5.0, axis=1),
                case(lambda x, y: np.insert(x, [0, 2], y), (2, 3), (2,)),
                case(lambda x, y: np.insert(x, slice(0, 2), y, axis=0), (2, 3), (3,))],
    np.resize: [case(np.resize, (2, 3), new_shape=shape) for shape in [(2, 2), (4, 3), 7, (0, 2)]]
             + [case(np.resize, (0,), new_shape=(2,))],
    np.take: [case(np.take, (2, 3), indices=i, **k)
              for i, k in [(1, {}), ([[5, 0], [0, 2]], {}), ([2, -1], {"axis": 1}),
              ([4, -5], {"axis": 0, "mode": "wrap"}), ([4, -5], {"axis": -1, "mode": "clip"})]],
    np.take_along_axis: [case(np.take_along_axis, (2, 3), indices=np.array([[0, 2, 2, 1], [1, 0, 0, 0]]), axis=1),
                         case(np.take_along_axis, (2, 3), indices=np.array([5, 0, 5]), axis=None)],
    np.compress: [case(lambda x, axis=axis: np.compress([True, False, True], x, axis), (3, 4))
                  for axis in [None, 0, -1]],
    np.extract: [case(lambda x: np.extract(MASK, x), (2, 3))],
    np.choose: [case(lambda x, y: np.choose([[0, 1, 1], [1, 0, 0]], [x, y]), (2, 3), (3,)),
                case(lambda x: np.choose([0, 3, -1], x, mode="wrap"), (2, 3)),
                case(lambda x, y: np.choose([0, 3, -1], (x, y), mode="clip"), (), (3,))],
    np.select: [case(lambda x, y: np.select([[True, False, False], [True, True, False]], [x, y], 7), (2, 3), (3,)),
                case(lambda x, y: np.select([np.array([True, False])], [x], y), (2,), ())],
    np.piecewise: [case(lambda x: np.piecewise(x, [x < 0, x > 1], [np.square, lambda x: 3 * x, np.exp]), (2, 3)),
                   case(lambda x: np.piecewise(x, [x < 0], [2.0, np.sin]), (3,)),
                   case(lambda x: np.piecewise(x, x < 0, [np.exp, np.sin]), ())],
    np.diagflat: [case(np.diagflat, shape, k=k) for shape in [(), (2, 2)] for k in [0, -1]],
    np.tril: [case(np.tril, shape, k=k) for shape in [(3,), (3, 4), (2, 2, 3)] for k in [0, 1, -1]],
    np.triu: [case(np.triu, shape, k=k) for shape in [(3,), (3, 4), (2, 2, 3)] for k in [0, 1, -1]],
    np.trim_zeros: [case(lambda x, k=k: np.trim_zeros(x * [0, 1, 0, 1, 0, 0], k), (6,)) for k in ["fb", "f", "B"]]
                 + [case(lambda x: np.trim_zeros(0 * x), (3,))],

    # ------------------------------------------------------------------------------- sums, averages and quantiles
    np.cumprod: [case(np.cumprod, (2, 3), **k) for k in ALONG] + [case(np.cumprod, (7,)),
                 case(np.cumprod, (0, 3), axis=1),
                 case(np.cumprod, ())],
    np.ptp: [case(np.ptp, (2, 3), **k) for k in KEYWORDS],
    np.average: [case(np.average, (2, 3), **k) for k in KEYWORDS]
              + [Case(lambda x, w: np.average(x, weights=w), [(2, 3), (2, 3)], [REAL, POSITIVE]),
                 Case(lambda x, w: np.average(x, axis=-1, weights=w), [(2, 3), (3,)], [REAL, POSITIVE]),
                 Case(lambda x, w: np.average(x, 0, w, keepdims=True), [(2, 3), (2,)], [REAL, POSITIVE]),
                 Case(lambda x, w: np.average(x, 0, w, returned=True)[1], [(2, 3), (2,)], [REAL, POSITIVE])],
    np.bincount: [case(lambda w: np.bincount([1, 0, 1], w, minlength=4), (3,))],
    np.cov: [case(np.cov, (2, 4)), case(np.cov, (4,)), case(np.cov, (2, 4), rowvar=False),
             case(np.cov, (2, 4), bias=True),
             case(np.cov, (2, 4), ddof=2), case(np.cov, (4,), (4,)), case(np.cov, (2, 4), (1, 4)),
             case(np.cov, (2, 4), fweights=np.array([1, 2, 1, 3]), aweights=np.array([1.0, 0.5, 2, 1]))],
    np.corrcoef: [case(np.corrcoef, (3, 4)), case(np.corrcoef, (4,), (4,)), case(np.corrcoef, (4, 2), rowvar=False)],
    np.nansum: [case(with_nan(np.nansum), (2, 3), **k) for k in REDUCTIONS],
    np.nanprod: [case(with_nan(np.nanprod), (2, 3), **k) for k in REDUCTIONS],
    np.nanmean: [case(with_nan(np.nanmean), (2, 3), **k) for k in MOMENTS],
    np.nanvar: [case(with_nan(np.nanvar), (2, 3), **k) for k in MOMENTS if "dtype" not in k],
    np.nanstd: [case(with_nan(np.nanstd), (2, 3), **k) for k in [*KEYWORDS, {"ddof": 1}] if k.get("axis") != 0],
    np.nanmax: [case(with_nan(np.nanmax), (2, 3), **k) for k in [*KEYWORDS, {"where": MASK, "initial": -9.0}]],
    np.nanmin: [case(with_nan(np.nanmin), (2, 3), **k) for k in [*KEYWORDS, {"where": MASK, "initial": 9.0}]],
    np.nancumsum: [case(with_nan(np.nancumsum), (2, 3), **k) for k in ALONG],
    np.nancumprod: [case(with_nan(np.nancumprod), (2, 3), **k) for k in ALONG],
    np.nan_to_num: [case(with_nan(np.nan_to_num), (2, 3)), case(with_nan(np.nan_to_num), (2, 3), nan=2.0),
                    case(lambda x: np.nan_to_num(x / [1.0, 1, np.nan], posinf=1.0, neginf=-1.0), (2, 3))],
    np.quantile: [case(np.quantile, (2, 5), q=q, **k) for q in [0.3, 0.0, 1, np.array([[0.1, 0.5], [0.9, 0.2]])]
                  for k in [{}, {"axis": 1}, {"axis": (0, 1), "keepdims": True}, {"axis": 0, "keepdims": True}]]
               + [case(np.quantile, (2, 4), q=[0.15, 0.5], axis=1, method=method) for method in METHODS]
               + [case(np.quantile, shape, q=[0.2, 0.6], axis=axis, method="inverted_cdf", keepdims=True,
                       weights=1.0 + np.arange(np.prod(weights)).reshape(weights))
                  for shape, axis, weights in [((5,), None, (5,)), ((3, 4), 1, (4,)), ((3, 4), 0, (3, 4)),
                                               ((2, 3, 2), (2, 0), (2, 2))]],
    np.percentile: [case(np.percentile, (2, 5), q=q, axis=1) for q in [30, 50.0, [10, 85]]],
    np.nanquantile: [case(with_nan(np.nanquantile), (2, 3), q=0.3, **k) for k in KEYWORDS]
                  + [case(with_nan(np.nanquantile), (2, 3), q=0.3, axis=axis, method="inverted_cdf",
                          weights=np.array([[1, 4, 2], [3, 1, 1]])) for axis in [None, 1]],
    np.nanpercentile: [case(with_nan(np.nanpercentile), (2, 3), q=[30, 60], **k) for k in KEYWORDS],
    np.median: [case(np.median, (2, 3), **k) for k in KEYWORDS] + [case(np.median, (4,)), case(np.median, ())],
    np.nanmedian: [case(with_nan(np.nanmedian), (2, 3), **k) for k in KEYWORDS],

    # ---------------------------------------------------------------------------- differences and interpolation
    np.diff: [case(np.diff, (3, 4), **k) for k in [{}, {"n": 2}, {"axis": 0}, {"n": 0}, {"n": 5}, {"prepend": 1.0},
                                                   {"axis": 0, "append": np.ones((2, 4))}]]
           + [case(lambda x, y: np.diff(x, append=y), (2, 3), (2, 1))],
    np.ediff1d: [case(np.ediff1d, (2, 3)), case(lambda x, y: np.ediff1d(x, to_begin=y, to_end=[1, 2]), (3,), (2,))],
    np.trapezoid: [case(np.trapezoid, (3, 4), **k) for k in [{}, {"dx": 0.5}, {"axis": 0}, {"x": [1, 2.0, 4, 5]}]]
                + [case(np.trapezoid, (4,), (4,)), case(np.trapezoid, (3, 2), (3, 2), axis=0)],
    np.gradient: [case(np.gradient, (5,)), case(np.gradient, (5,), edge_order=2), case(np.gradient, (2, 4), axis=-1),
                  case(lambda x: np.gradient(x, 0.5, [1.0, 2, 4, 5])[1], (3, 4)),
                  case(lambda x: np.gradient(x, 2.0, edge_order=2)[0], (3, 4)),
                  case(lambda x: np.gradient(x, [1.0, 2, 4, 5], axis=1, edge_order=2), (3, 4))],
    np.interp: [case(np.interp, (2, 3), xp=[-2.0, 0.1, 1, 2], fp=[1.0, 3, -1, 2], **k)
                for k in [{}, {"left": 0.0, "right": 5}, {"period": 5.5}]]
             + [Case(lambda x, h, y: np.interp(x, np.cumsum(h), y), [(6,), (4,), (4,)], [((0.1, 6.0),), POSITIVE,
             REAL])],
    np.unwrap: [case(lambda x: np.unwrap(4 * x), (2, 5)), case(np.unwrap, (4, 2), axis=0, period=1.5)],
    np.convolve: [case(np.convolve, *shapes, mode=mode) for mode in ["full", "same", "valid"] for shapes in PAIRS]
               + [case(lambda x: np.convolve(x, [1.0, 2.0]), (3,))],
    np.correlate: [case(np.correlate, *shapes, mode=mode) for mode in ["full", "same", "valid"] for shapes in PAIRS],
    np.linspace: [case(lambda x, y, k=k: np.linspace(x, y, **k), *shapes) for shapes in [((), ()), ((2,), (3, 1))]
                  for k in [{}, {"num": 4, "axis": -1}, {"num": 3, "endpoint": False}, {"num": 1}]]
               + [case(lambda x: np.linspace(0, x, 4, retstep=True)[1], ())],
    np.logspace: [case(np.logspace, (), (2,), num=4), case(lambda x: np.logspace(x, 1, 3, base=2), ())],
    np.geomspace: [case(np.geomspace, (), (2,), num=4, domain=POSITIVE),
                   case(np.geomspace, (), (), num=3, domain=((-3.0, -1.0),))],
    np.polyval: [case(np.polyval, (4,), (2, 3)), case(lambda x: np.polyval([1, 2, 3], x), (3,))],
    np.polyadd: [case(np.polyadd, (4,), (2,)), case(lambda x: np.polyadd([1, 2], x), (3,))],
    np.polysub: [case(np.polysub, (2,), (4,))],
    np.polymul: [case(np.polymul, (2,), (4,)), case(lambda x: np.polymul([0, 1, 2], x), (3,))],
    np.polyder: [case(np.polyder, (4,)), case(np.polyder, (4,), m=2)],
    np.polyint: [case(np.polyint, (4,)), case(np.polyint, (4,), m=2, k=[1.0, 2.0]), case(np.polyint, (2,), k=3.0)],
    np.vander: [case(np.vander, (3,)), case(np.vander, (3,), N=2), case(np.vander, (2,), N=4, increasing=True)],
    np.apply_along_axis: [case(lambda x, f=f, axis=axis: np.apply_along_axis(f, axis, x), (2, 3, 2))
                          for axis in [0, 1, -1] for f in [np.sum, np.cumsum, lambda x: x[:, None] * x]],
    np.apply_over_axes: [case(lambda x, axes=axes: np.apply_over_axes(np.sum, x, axes), (2, 3, 2))
                         for axes in [0, (0, -1)]],

    # ---------------------------------------------------------------------------------- ufuncs and their methods
    np.frexp: [case(lambda x: np.frexp(x)[0], (2, 3), domain=((-0.9, -0.6), (1.1, 1.9)))],
    np.fix: [case(np.fix, (2, 3), domain=BETWEEN_INTEGERS)],
    np.around: [case(np.around, (2, 3), domain=BETWEEN_INTEGERS)],
    np.amax: [case(np.amax, (2, 3), **k) for k in KEYWORDS],
    np.amin: [case(np.amin, (2, 3), **k) for k in KEYWORDS],
    np.vecdot: [case(np.vecdot, *shapes)
                for shapes in [((3,), (3,)), ((2, 3), (3,)), ((2, 1, 3), (4, 3)), ((2, 0), (0,))]]
             + [case(np.vecdot, (2, 3), (2, 3), axis=0), case(np.vecdot, (3,), (3, 2), axis=0)],
    np.logaddexp.reduce: [case(np.logaddexp.reduce, (5, 3), **k) for k in FOLDS],
    np.logaddexp2.reduce: [case(np.logaddexp2.reduce, (5, 3), **k) for k in FOLDS],
    np.hypot.reduce: [case(np.hypot.reduce, (5, 3), **k) for k in FOLDS],
    np.logaddexp.accumulate: [case(np.logaddexp.accumulate, (5, 3), **k) for k in [{}, {"axis": 1}]],
    np.logaddexp2.accumulate: [case(np.logaddexp2.accumulate, (5, 3), **k) for k in [{}, {"axis": 1}]],
    np.hypot.accumulate: [case(np.hypot.accumulate, (5, 3), **k) for k in [{}, {"axis": 1}]],
    np.multiply.accumulate: [case(np.multiply.accumulate, (5, 3), **k) for k in [{}, {"axis": 1}]],
    **{ufunc.outer: [Case(ufunc.outer, shapes, domains) for shapes in OUTER]
       for ufunc, domains in elementwise.items() if len(domains) == 2},
    np.ldexp.outer: [case(lambda x: np.ldexp.outer(x, [1, -2]), (3,))],
}
# fmt: on


# fmt: off
sometimes: dict[str, list[Case]] = {  # what not every NumPy has
    "astype": [case(lambda x: np.astype(x, np.float64), (2, 3))],
    "unstack": [case(lambda x, axis=axis: weighted(np.unstack(x, axis=axis)), (2, 3)) for axis in [0, -1]],
    "cumulative_sum": [case(lambda x, k=k: np.cumulative_sum(x, axis=1, **k), (2, 3))
                       for k in [{}, {"include_initial": True}]],
    "cumulative_prod": [case(lambda x, k=k: np.cumulative_prod(x, axis=0, **k), (2, 3))
                        for k in [{}, {"include_initial": True}]],
    "matvec": [case(lambda x, y: np.matvec(x, y), *shapes)
               for shapes in [((2, 3), (3,)), ((4, 2, 3), (3,)), ((2, 3), (4, 3))]],
    "vecmat": [case(lambda x, y: np.vecmat(x, y), *shapes)
               for shapes in [((2,), (2, 3)), ((4, 2), (2, 3)), ((2,), (4, 2, 3))]],
}
# fmt: on
cases |= {getattr(np, name): rows for name, rows in sometimes.items() if hasattr(np, name)}
cases |= {function: rows for function, rows in fourier_cases.items() if function in composites}


def test_every_composite_has_a_row() -> None:
    of_minigrad = {
        f for f in composites if str(getattr(f, "__module__", "")).startswith("minigrad.")
    }  # nn and transforms
    assert {*cases, *linalg_cases} == {f for f in composites if not is_of_scipy(f)} - of_minigrad


def test_no_function_is_in_two_tables() -> None:
    assert not set(composites) & constants
    assert not set(vjps) & constants
    some_forms_only = {
        np.where,
        np.reshape,
        np.repeat,
        np.inner,
        np.convolve,
        np.linalg.solve,
        np.linalg.pinv,
        np.linalg.cholesky,
        np.real,
        np.imag,
        np.sign,
    }  # have rules
    assert {f for f in {*vjps} & {*composites} if not is_of_scipy(f)} == some_forms_only


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated")
@pytest.mark.parametrize("function", cases, ids=name_of)
def test_composite(function: Callable[..., Any]) -> None:
    for number, row in rows_of(function, cases, 7):
        check(row, exact=False, number=number)


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated")
@pytest.mark.parametrize("function", cases, ids=name_of)
def test_composite_of_arrays_that_need_no_gradient(function: Callable[..., Any]) -> None:
    for row in cases[function]:
        answer = row.function(*map(mg.Tensor, arguments(row, seed=0)))
        assert not answer.requires_grad


# --------------------------------------------------------------------------------------------------- for all arguments


@pytest.mark.parametrize("function", [np.sum, np.prod, np.max, np.min, np.mean, np.var, np.std], ids=name_of)
@given(nps.array_shapes(max_dims=4, max_side=3), st.data(), st.booleans(), st.randoms(use_true_random=False))
def test_reductions_along_all_axes(
    function: Callable[..., Any], shape: tuple[int, ...], data: st.DataObject, keepdims: bool, random: Any
) -> None:
    axis = data.draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1), nps.valid_tuple_axes(len(shape))))
    numbers = [n / 7 for n in range(1, np.prod(shape) + 1)]  # apart from each other, so that no maximum is a tie
    random.shuffle(numbers)
    x = np.reshape(numbers, shape)
    f = lambda x: function(x, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(f(mg.Tensor(x)).data, f(x), rtol=1e-13, atol=1e-15)
    check_grads(f, [x], order=1)


@st.composite
def moves(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[str, Callable[[Any], Any]]:
    """A function that only moves, repeats or drops the numbers of an array of this shape, and how it reads."""
    n = len(shape)
    axis = st.integers(-n, n - 1)
    axes = draw(st.permutations(range(n)))
    places = draw(st.permutations(range(n)))
    count = draw(st.integers(0, n))
    signs = draw(st.lists(st.sampled_from([0, n]), min_size=n, max_size=n))
    mixed = [a - sign for a, sign in zip(axes, signs, strict=True)]  # some of them counted from behind
    small = st.integers(0, 2)
    calls = [
        ("np.transpose(x)", {}),
        ("np.transpose(x, axes)", {"axes": mixed}),
        ("np.moveaxis(x, source, destination)", {"source": mixed[:count], "destination": places[:count]}),
        ("np.flip(x, axes)", {"axes": tuple(mixed[:count])}),
        (
            "np.reshape(x, shape, order=order)",
            {"shape": [shape[i] for i in axes], "order": draw(st.sampled_from("CF"))},
        ),
        ("np.ravel(x, order)", {"order": draw(st.sampled_from("CF"))}),
        ("np.squeeze(x)", {}),
        ("np.squeeze(x, axes)", {"axes": tuple(i for i in mixed[:count] if shape[i] == 1)}),
        ("np.expand_dims(x, axes)", {"axes": tuple(sorted(axes[:count]))}),
        ("np.broadcast_to(x, shape)", {"shape": [*draw(st.lists(small, max_size=2)), *shape]}),
        ("np.repeat(x, n)", {"n": draw(small)}),
        ("np.tile(x, reps)", {"reps": draw(st.lists(small, max_size=n + 2))}),
    ]
    if n:
        pads = [draw(st.tuples(small, small)) for _ in shape]
        calls += [
            ("np.swapaxes(x, i, j)", {"i": draw(axis), "j": draw(axis)}),
            ("np.flip(x, i)", {"i": draw(axis)}),
            ("np.repeat(x, n, i)", {"n": draw(small), "i": draw(axis)}),
            ("np.concatenate([x, x], i)", {"i": draw(axis)}),
            ("np.stack([x, x], i)", {"i": draw(axis)}),
            ("np.array_split(x, n, i)[0]", {"n": draw(st.integers(1, 4)), "i": draw(axis)}),
        ]
        if all(shape):
            mode = draw(st.sampled_from(["edge", "reflect", "symmetric", "wrap"]))
            calls.append(("np.pad(x, pads, mode)", {"pads": pads, "mode": mode}))
    code, names = draw(st.sampled_from(calls))
    return f"{code} with {names}", lambda x: eval(code, {"np": np, **names, "x": x})


@settings(max_examples=5 * settings().max_examples)
@given(nps.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3), st.data())
def test_gradients_go_back_to_where_the_numbers_came_from(shape: tuple[int, ...], data: st.DataObject) -> None:
    """Numbers that name their places say exactly what the gradient is."""
    _, move = data.draw(moves(shape))
    x = np.arange(np.prod(shape, dtype=float)).reshape(shape)
    moved = move(x)
    weights = np.arange(moved.size).reshape(moved.shape) - 3.0
    expected = np.bincount(moved.ravel().astype(int), weights.ravel(), minlength=x.size).reshape(shape)
    np.testing.assert_array_equal(move(mg.Tensor(x)).data, moved)
    np.testing.assert_array_equal(mg.grad(lambda x: np.sum(weights * move(x)))(x), expected)


# ------------------------------------------------------------------------------------------- what the table cannot say


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": lambda x: x,
    "F": lambda x: np.transpose(x.transpose(2, 1, 0) + 0, (2, 1, 0)),
    "turned": lambda x: x.transpose(1, 2, 0),
    "a part": lambda x: x[:, 1:, ::2],
    "backwards": lambda x: x[::-1],
    "a line": lambda x: x[0, 0, :],
}
FLATTENED: dict[str, Callable[[Any, Any], Any]] = {
    "np.ravel": lambda x, order: np.ravel(x, order),
    "ravel": lambda x, order: x.ravel(order=order),
    "flatten": lambda x, order: x.flatten(order),
    "np.reshape": lambda x, order: np.reshape(x, x.size, order=order),
    "reshape": lambda x, order: x.reshape((x.size,), order=order),
    "np.copy": lambda x, order: np.copy(x, order),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FLATTENED)
@pytest.mark.parametrize("order", ["C", "F", "A", "K"])
def test_the_order_of_memory(name: str, order: str, layout: str) -> None:
    """Numbers are weighted by where they come to lie, and the gradient is made in another order of memory."""
    x = np.random.default_rng(0).permutation(np.arange(24.0)).reshape(2, 3, 4)
    f = lambda x: FLATTENED[name](LAYOUTS[layout](x), order)
    if order == "K" and "reshape" in name:
        with pytest.raises(ValueError, match="order 'K' is not permitted"):
            f(mg.Tensor(x))
        return
    expected = f(x)
    np.testing.assert_array_equal(f(mg.Tensor(x)).data, expected)
    weights = 1 + np.arange(expected.size).reshape(expected.shape)
    places = np.zeros(24)
    places[np.ravel(expected).astype(int)] = np.ravel(weights)
    expected = places[x.astype(int)]  # as x holds the numbers of its places
    squares = lambda x: np.sum((f(x) ** 2).T * np.asfortranarray(weights).T)
    np.testing.assert_array_equal(mg.grad(squares)(x), 2 * x * expected)
    np.testing.assert_array_equal(mg.grad(lambda x: np.sum(mg.grad(squares)(x)))(x), 2 * expected)


@pytest.mark.parametrize("order", ["A", "K"])
def test_programs_have_memory_of_their_own(order: str) -> None:
    with pytest.raises(TypeError, match=f"order='{order}' goes by the memory"):
        mg.compile(lambda x: np.ravel(x.T, order))(np.ones((2, 3)))


FOLDED = [np.array([-3.0]), np.array([[-3.0], [2.0]]), np.array([[-3.0, 2.0, 0.5]]), np.array([-3.0, 2.0, 0.5, 1.5]),
          np.array([[-3.0, 2.0, 0.5], [1.0, 2.5, 3.0]]), np.zeros((2, 0)), np.array(-2.0)]  # fmt: skip
HOW = [{}, {"axis": -1}, {"axis": ()}, {"axis": None}, {"axis": (0,)}, {"axis": (0, -1)}, {"keepdims": True},
       {"initial": 2.25}, {"axis": (), "initial": 2.25}, {"initial": 1.5, "where": "positive"}]  # fmt: skip
UFUNCS = {id(function): function for function in vars(np).values() if isinstance(function, np.ufunc)}.values()
FOLDS_OF_ALL = [
    getattr(ufunc, method)
    for ufunc in UFUNCS
    for method in ("reduce", "accumulate")
    if (ufunc.nin, ufunc.nout, ufunc.signature) == (2, 1, None)
]


@pytest.mark.parametrize("fold", FOLDS_OF_ALL, ids=name_of)
def test_every_ufunc_folds_as_numpy_does_or_says_that_it_does_not(fold: Callable[..., Any]) -> None:
    known, differentiable = fold in composites or fold in vjps or fold in constants, []
    for x, how in itertools.product(FOLDED, HOW if fold.__name__ == "reduce" else [{}, {"axis": -1}]):
        k = {**how, "where": x > 0} if "where" in how else how
        try:
            with np.errstate(all="ignore"):
                expected = fold(x, **k)
        except (TypeError, ValueError):
            continue
        if not known:
            with pytest.raises((NotImplementedError, TypeError), match=fold.__name__):
                fold(mg.Tensor(x), **k)
            continue
        found = fold(mg.Tensor(x), **k)
        found = getattr(found, "data", found)
        assert np.shape(found) == np.shape(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-14, err_msg=f"{x} {k}")
        if fold in composites or fold in vjps:
            differentiable.append((x, k))
    for x, k in some(differentiable, 3, FOLDS_OF_ALL.index(fold)):
        check_grads(lambda x, k=k: fold(x, **k), [x], order=1)


def test_half_precision_means_do_not_overflow() -> None:
    x = mg.Tensor(np.full(4, 60000, np.float16))
    for function, expected in ((np.mean, x.data[0]), (np.var, 0), (np.std, 0)):
        assert (function(x).data, function(x).dtype) == (expected, np.float16)


def test_degrees_of_freedom_that_are_none() -> None:
    """As NumPy does: a warning, and nan or inf."""
    for count in (1, 2):
        x = np.arange(count) + 0.5
        with pytest.warns(RuntimeWarning):
            expected = np.var(x, ddof=2)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(np.var(mg.Tensor(x), ddof=2).data, expected)


def test_gradient_with_spacing_that_has_one() -> None:
    check_grads(lambda x, h: np.gradient(x, np.cumsum(h), edge_order=2), [np.arange(4.0) ** 2, np.arange(1.0, 5)])
    check_grads(lambda h: np.gradient(np.arange(4) ** 2, h), [np.array(0.5)])


def test_quantiles_of_infinities_and_nans() -> None:
    x = np.array([[np.inf, np.inf, 1, np.inf], [np.nan, 1, 2, 3], [-np.inf, 1, 2, 3]])
    np.testing.assert_array_equal(np.median(mg.Tensor(x), axis=1).data, [np.inf, np.nan, 1.5])
    np.testing.assert_array_equal(np.nanmedian(mg.Tensor(x), axis=1).data, [np.inf, 2, 1.5])
    weighted = np.quantile(mg.Tensor(x), 0.5, axis=1, weights=np.ones(4), method="inverted_cdf")
    np.testing.assert_array_equal(weighted.data, [np.inf, np.nan, 1])
    with pytest.raises(NotImplementedError, match="takes a q of plain numbers"):
        np.quantile(x, mg.Tensor(0.5))


@pytest.mark.parametrize("function", [np.median, np.nanmedian])
@pytest.mark.parametrize(("shape", "axis"), [((0,), None), ((0, 3), 0), ((2, 0), 1), ((0, 3), 1), ((0, 3), None)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_the_median_of_nothing_is_nan_as_in_numpy(function: Any, shape: Any, axis: Any, keepdims: bool) -> None:
    x = mg.Tensor(np.zeros(shape, np.float32), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, expected = function(x, axis=axis, keepdims=keepdims), function(x.data, axis=axis, keepdims=keepdims)
        np.sum(found).backward()
        assert np.shape(np.quantile(x, [0.2, 0.5], axis=axis)) == (2, *np.shape(function(x.data, axis=axis)))
    np.testing.assert_array_equal(found.data, expected)
    assert (found.shape, found.dtype, x.grad.shape) == (expected.shape, np.float32, shape)


def test_arguments_that_are_tensors_of_integers_or_booleans() -> None:
    x = mg.Tensor([1.0, 2.0, 4.0], requires_grad=True)
    places, places_two = mg.Tensor(np.array([2, 0])), mg.Tensor(np.array([0, 1, 1]))
    for answer, expected in (
        (np.take(x, places), [4, 1]),
        (np.delete(x, places), [2]),
        (np.take_along_axis(x, places, 0), [4, 1]),
        (np.bincount(places_two, x), [1, 6]),
        (np.sum(x, where=mg.Tensor(x > 1)), 6),
        (np.mean(x, where=mg.Tensor(x > 1)), 3),
    ):
        assert answer.requires_grad
        np.testing.assert_array_equal(answer.data, expected)


def test_arguments_go_by_the_names_that_numpy_gives_them() -> None:
    x = mg.Tensor([3.0, 1.0, 2.0], requires_grad=True)
    np.testing.assert_array_equal(np.mean(a=x).data, 2)
    np.testing.assert_array_equal(np.roll(a=x, shift=1).data, [2, 3, 1])
    np.testing.assert_array_equal(np.average([1.0, 2, 4], weights=x).data, 13 / 6)


def test_whole_numbers_stay_what_they_are() -> None:
    x = mg.Tensor(np.arange(3))
    assert np.nan_to_num(x).dtype == x.dtype
    assert np.gradient(x).dtype == float


def test_where_of_a_condition_alone_gives_its_places() -> None:
    rows, columns = np.where(mg.Tensor(np.eye(2)))
    np.testing.assert_array_equal([rows, columns], [[0, 1], [0, 1]])


@pytest.mark.parametrize("zeros", [[0], [2], [1, 2], [0, 3], range(4)])
def test_cumprod_with_zeros(zeros: Any) -> None:
    x = np.array([2.0, -3.0, 5.0, 7.0])
    x[list(zeros)] = 0
    check_grads(np.cumprod, [x])


@pytest.mark.parametrize("widths", [{0: 1}, {-1: (1, 2), 0: 2}, 1, (1, 2), ((1, 2),), ((1,), (2,)), ((1, 0), (0, 2))])
def test_pad_takes_widths_in_every_form(widths: Any) -> None:
    x = np.arange(6.0).reshape(2, 3) + 1
    try:
        expected = np.pad(x, widths, constant_values=7)
    except TypeError:
        pytest.skip("this NumPy takes no widths by axis")
    np.testing.assert_array_equal(np.pad(mg.Tensor(x), widths, constant_values=7).data, expected)
    check_grads(lambda x: np.pad(x, widths), [x])


@pytest.mark.parametrize("mode", ["mean", "linear_ramp", "maximum", "empty"])
def test_pad_refuses_other_modes(mode: str) -> None:
    with pytest.raises(NotImplementedError, match=f"constant, edge, reflect, symmetric and wrap, not '{mode}'"):
        np.pad(mg.Tensor(np.ones(3)), 1, mode)


@pytest.mark.parametrize("mode", ["reflect", "symmetric"])
def test_pad_never_takes_an_odd_reflection_for_an_even_one(mode: str) -> None:
    x = np.array([1.0, 5.0, 7.0])
    with pytest.raises((NotImplementedError, TypeError), match="reflect_type"):
        np.pad(mg.Tensor(x), 1, mode, reflect_type="odd")
    np.testing.assert_array_equal(np.pad(mg.Tensor(x), 1, mode, reflect_type="even").data, np.pad(x, 1, mode))


X, BITS, PLACES = np.array([3.0, 0.0, 1.0]), np.array([3, 0, 1]), np.array([True, False, True])

# fmt: off
seen = {  # the arguments of constants that take other than one or two arrays of numbers
    **dict.fromkeys([np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.left_shift, np.right_shift, np.gcd, np.lcm],
                    (BITS, BITS)),
    **dict.fromkeys([np.invert, np.bitwise_count], (BITS,)),
    **dict.fromkeys([np.logical_and.outer, np.logical_or.outer, np.logical_xor.outer], (PLACES, X)),
    **dict.fromkeys([np.logical_and.reduce, np.logical_or.reduce, np.logical_xor.reduce], (X,)),
    **dict.fromkeys([np.logical_and.accumulate, np.logical_or.accumulate, np.logical_xor.accumulate], (X,)),
    **dict.fromkeys([np.argmax, np.argmin, np.argsort, np.nonzero, np.flatnonzero, np.count_nonzero, np.argwhere],
    (X,)),
    **dict.fromkeys([np.any, np.all, np.iscomplexobj, np.isrealobj, np.shape, np.ndim, np.size], (X,)),
    **dict.fromkeys([np.zeros_like, np.ones_like, np.empty_like, np.array_repr, np.array_str, np.array2string], (X,)),
    **dict.fromkeys([np.nanargmax, np.nanargmin, np.isreal, np.iscomplex, np.common_type], (X,)),
    **dict.fromkeys([np.diag_indices_from, np.tril_indices_from, np.triu_indices_from], (np.eye(2),)),
    np.isnat: (np.array(["NaT"], "M8[D]"),), np.min_scalar_type: (X,), np.can_cast: (BITS.dtype, float),
    np.digitize: (X, [0.5, 2]), np.lexsort: ((X, BITS),), np.argpartition: (X, 1), np.einsum_path: ("i,i", X, X),
    np.unravel_index: (BITS, (2, 2)), np.ravel_multi_index: ((BITS, BITS), (4, 4)), np.packbits: (BITS,),
    np.unpackbits: (BITS.astype(np.uint8),),
}
# fmt: on


def shown(value: Any) -> Any:
    """The same argument with Tensors for arrays of numbers."""
    if isinstance(value, tuple):
        return tuple(map(shown, value))
    return mg.Tensor(value) if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" else value


of_numpy = [f for f in constants if "minigrad" not in str(getattr(f, "__module__", ""))]


@pytest.mark.parametrize("function", sorted(of_numpy, key=name_of), ids=name_of)
def test_constants_see_arrays(function: Callable[..., Any]) -> None:
    """A function without derivative answers as NumPy does, with no Tensor in the answer."""
    args = seen.get(function) or (X, X)[: function.nin if isinstance(function, np.ufunc) else 2]
    answer = function(*map(shown, args))
    assert not isinstance(answer, mg.Tensor)
    if function is np.empty_like:
        assert (answer.shape, answer.dtype) == (X.shape, X.dtype)
    else:
        np.testing.assert_equal(answer, function(*args))


@pytest.mark.parametrize("function", sorted(refusals, key=name_of), ids=name_of)
def test_refusals_say_why(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=re.escape(refusals[function])):
        apply(function, (mg.Tensor(X, requires_grad=True),))


def test_functions_that_change_arrays_never_see_a_tensor() -> None:
    x = mg.Tensor(X, requires_grad=True)
    for change in (
        lambda: np.put(x, 0, 1),
        lambda: np.copyto(X, x),
        lambda: np.add.at(X, 0, x),
        lambda: np.add.at(x, 0, 1),
    ):
        with pytest.raises(TypeError, match=r"minigrad\.put"):
            change()
