"""Where mathematics leaves a choice: the derivatives at kinks and edges, of what was not chosen, and of errors.

The conventions, each of which is a part of the tables:

    at a kink                   the subgradient of least norm
    equal candidates            share evenly; so do all candidates, when the answer is nan
    a pole, the edge of a       what the formula gives in floating-point numbers: inf, or nan where it has
    domain, a jump              no sign; the derivative of the piece that the point belongs to
    what was not chosen         contributes exactly 0, whatever its own derivative is
    what was chosen             shows its inf or nan
    second derivatives          those of the piece or share that the first one came from; where there are none, as at
                                the kink of a length, nan or inf
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from profiles import some

import minigrad as mg
from minigrad import nn

half, pi, nan, inf = 0.5, np.pi, np.nan, np.inf
sqrt, log, where = np.sqrt, np.log, np.where

# These are read as tables, so their columns are aligned by hand.
# fmt: off
of_one_number = [  # what, function, points, its first derivative there, its second
    # ------------------------------------------------------------------------------------------------ kinks and jumps
    ("abs",             np.abs,                         [-2.0, 0.0, -0.0, 3.0], [-1, 0, 0, 1],        [0, 0, 0, 0]),
    ("fabs",            np.fabs,                        [-2.0, 0.0, 3.0],       [-1, 0, 1],           [0, 0, 0]),
    ("x abs(x)",        lambda x: x * np.abs(x),        [-2.0, 0.0, 3.0],       [4, 0, 6],            [-2, 0, 2]),
    ("relu",            nn.relu,                        [-2.0, 0.0, -0.0, 3.0], [0, 0, 0, 1],         [0, 0, 0, 0]),
    ("leaky_relu",      nn.leaky_relu,                  [-2.0, 0.0, -0.0, 3.0], [0.01, 0.01, 0.01, 1], [0, 0, 0, 0]),
    ("maximum",         lambda x: np.maximum(x, 1),     [0.0, 1.0, 2.0],        [0, half, 1],         [0, 0, 0]),
    ("minimum",         lambda x: np.minimum(1, x),     [0.0, 1.0, 2.0],        [1, half, 0],         [0, 0, 0]),
    ("maximum(x, x)",   lambda x: np.maximum(x, x),     [0.0, 1.0],             [1, 1],               [0, 0]),
    ("maximum, squared", lambda x: np.maximum(x, 1)**2, [0.0, 1.0, 2.0],        [0, 1, 4],            [0, half, 2]),
    ("fmax",            lambda x: np.fmax(x, 1),        [0.0, 1.0, 2.0, nan],   [0, half, 1, 0],      [0, 0, 0, 0]),
    ("fmin",            lambda x: np.fmin(nan, x),      [0.0, nan],             [1, half],            [0, 0]),
    ("clip",            lambda x: np.clip(x, 0, 1),     [-1.0, 0.0, 1.0, 2.0],  [0, half, half, 0],   [0, 0, 0, 0]),
    ("clip from below", lambda x: np.clip(x, 0, None),  [-1.0, 0.0, 1.0],       [0, half, 1],         [0, 0, 0]),
    ("clip to a point", lambda x: np.clip(x, 1, 1),     [0.0, 1.0, 2.0, nan],   [0, 0, 0, half / 2],  [0, 0, 0, 0]),
    ("clip, crossed",   lambda x: np.clip(x, 2, 1),     [0.0, 1.0, 2.0, 3.0],   [0, 0, 0, 0],         [0, 0, 0, 0]),
    ("sign",            np.sign,                        [-2.0, 0.0, 3.0],       [0, 0, 0],            [0, 0, 0]),
    ("floor",           np.floor,                       [-1.0, 0.0, 2.0],       [0, 0, 0],            [0, 0, 0]),
    ("ceil",            np.ceil,                        [-1.0, 0.0, 2.0],       [0, 0, 0],            [0, 0, 0]),
    ("trunc",           np.trunc,                       [-1.0, 0.0, 2.0],       [0, 0, 0],            [0, 0, 0]),
    ("rint",            np.rint,                        [-0.5, 0.5, 1.0],       [0, 0, 0],            [0, 0, 0]),
    ("modf",            lambda x: np.modf(x)[0],        [-1.0, 0.0, 2.0],       [1, 1, 1],            [0, 0, 0]),
    ("remainder",       lambda x: np.remainder(x, 2),   [-2.0, 0.0, 4.0],       [1, 1, 1],            [0, 0, 0]),
    ("remainder by x",  lambda x: np.remainder(4, x),   [-2.0, 2.0],            [2, -2],              [0, 0]),
    ("fmod by x",       lambda x: np.fmod(-4, x),       [2.0],                  [2],                  [0]),
    ("copysign",        lambda x: np.copysign(x, 1),    [-2.0, 0.0, -0.0, 3.0], [-1, 0, 0, 1],        [0, 0, 0, 0]),
    ("its sign",        lambda x: np.copysign(2, x),    [-2.0, 0.0, -0.0],      [0, 0, 0],            [0, 0, 0]),
    ("heaviside",       lambda x: np.heaviside(x, 0.5), [-1.0, 0.0, 1.0],       [0, 0, 0],            [0, 0, 0]),
    ("interp",          lambda x: np.interp(x, [0, 1, 2, 3, 4], [0, 1, 3, 4, 2]),
                                                        [0.0, 1.0, 2.0, 3.0, 4.0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]),
    # --------------------------------------------------------------------------------------- edges, poles and 0 / 0
    ("sqrt",            np.sqrt,                        [0.0, 4.0],             [inf, 1/4],           [-inf, -1/32]),
    ("cbrt",            np.cbrt,                        [0.0, 8.0],             [inf, 1/12],          [nan, -1/144]),
    ("log",             np.log,                         [0.0, 2.0],             [inf, 1/2],           [-inf, -1/4]),
    ("log1p",           np.log1p,                       [-1.0, 1.0],            [inf, 1/2],           [-inf, -1/4]),
    ("arcsin",          np.arcsin,                      [-1.0, 0.0, 1.0],       [inf, 1, inf],        [-inf, 0, inf]),
    ("1 / x",           np.reciprocal,                  [0.0, 2.0],             [-inf, -1/4],         [inf, 1/4]),
    ("sinc",            np.sinc,                        [0.0, -0.0, 1.0],       [0, 0, -1],   [-pi**2/3, -pi**2/3, 2]),
    ("x**0",            lambda x: x**0,                 [-1.0, 0.0, 2.0],       [0, 0, 0],            [0, 0, 0]),
    ("x**0.0",          lambda x: np.power(x, 0.0),     [-1.0, 0.0, 2.0],       [0, 0, 0],            [0, 0, 0]),
    ("x**0.5",          lambda x: np.power(x, 0.5),     [0.0, 4.0],             [inf, 1/4],           [-inf, -1/32]),
    ("x**1",            lambda x: x**1,                 [-1.0, 0.0, 2.0],       [1, 1, 1],            [0, 0, 0]),
    ("x**1.5",          lambda x: x**1.5,               [0.0, 4.0],             [0, 3],               [inf, 3/8]),
    ("x**2",            lambda x: np.power(x, 2),       [-1.0, 0.0, 2.0],       [-2, 0, 4],           [2, 2, 2]),
    ("x**3",            lambda x: x**3,                 [-1.0, 0.0, 2.0],       [3, 0, 12],           [-6, 0, 12]),
    ("x**-1",           lambda x: x**-1,                [-1.0, 0.0, 2.0],       [-1, -inf, -1/4],     [-2, inf, 1/4]),
    ("0**x",            lambda x: np.power(0.0, x),     [0.0, half, 1.0, 2.0],  [0, 0, 0, 0],         [0, 0, 0, 0]),
    ("float_power",     lambda x: np.float_power(x, 2), [-1.0, 0.0],            [-2, 0],              [2, 2]),
    ("float_power, 0",  lambda x: np.float_power(x, 0), [-1.0, 0.0],            [0, 0],               [0, 0]),
    ("0 float_power x", lambda x: np.float_power(0, x), [0.0, 1.0],             [0, 0],               [0, 0]),
    ("hypot",           lambda x: np.hypot(x, 0.0),     [-2.0, 0.0],            [-1, 0],              [0, nan]),
    ("arctan2(x, 0)",   lambda x: np.arctan2(x, 0.0),   [-2.0, 0.0, 4.0],       [0, 0, 0],            [0, 0, 0]),
    ("arctan2(0, x)",   lambda x: np.arctan2(0.0, x),   [-2.0, 0.0, 4.0],       [0, 0, 0],            [0, 0, 0]),
    ("logaddexp",       lambda x: np.logaddexp(x, -inf), [-inf, 0.0, inf],      [half, 1, 1],         [0, 0, 0]),
    ("at infinity",     lambda x: np.logaddexp(0, x),   [-inf, inf],            [0, 1],               [0, 0]),
    ("beside it",       lambda x: np.logaddexp(inf, x), [-inf, 0.0, inf],       [0, 0, half],         [0, 0, 0]),
    ("logaddexp2",      lambda x: np.logaddexp2(x, -inf), [-inf, 0.0, inf],     [half, 1, 1],         [0, 0, 0]),
    # --------------------------------------------------- not chosen: exactly 0, though its own derivative is inf or nan
    ("where sqrt",      lambda x: where(x > 0, sqrt(x), 0),             [-1.0, 0.0, 4.0],  [0, 0, 1/4],  [0, 0, -1/32]),
    ("other way",       lambda x: where(x <= 0, 0, sqrt(x)),            [-1.0, 0.0, 4.0],  [0, 0, 1/4],  [0, 0, -1/32]),
    ("scaled",          lambda x: 3 * where(x > 0, 2 * sqrt(x), x),     [0.0, 4.0],        [3, 6/4],     [0, -6/32]),
    ("where log",       lambda x: where(x > 0, log(x), 0),              [-1.0, 0.0, 2.0],  [0, 0, 1/2],  [0, 0, -1/4]),
    ("x log x",         lambda x: where(x > 0, x * log(x), 0),          [-1.0, 0.0, 1.0],  [0, 0, 1],    [0, 0, 1]),
    ("sin(x) / x",      lambda x: where(x != 0, np.sin(x) / x, 1),      [0.0, pi],         [0, -1/pi],   [0, 2/pi**2]),
    ("where 1 / x",     lambda x: where(x != 0, 1 / x, 0),              [0.0, 2.0],        [0, -1/4],    [0, 1/4]),
    ("divide",          lambda x: where(x != 0, np.divide(x, x), 1),    [0.0, 2.0],        [0, 0],       [0, 0]),
    ("power",           lambda x: where(x > 0, x**0.5, 0),              [-1.0, 0.0, 4.0],  [0, 0, 1/4],  [0, 0, -1/32]),
    ("power 1.5",       lambda x: where(x > 0, x**1.5, 0),              [-1.0, 0.0, 4.0],  [0, 0, 3],    [0, 0, 3/8]),
    ("where log1p",     lambda x: where(x > -1, np.log1p(x), 0),        [-2.0, -1.0, 1.0], [0, 0, 1/2],  [0, 0, -1/4]),
    ("arccos",          lambda x: where(np.abs(x) < 1, np.arccos(x), 0), [-1.0, 0.0, 2.0], [0, -1, 0],   [0, 0, 0]),
    ("nested",          lambda x: where(x > 0, where(x > 1, sqrt(x - 1), 0), x),
                                                                        [0.0, 1.0, 5.0],   [1, 0, 1/4],  [0, 0, -1/32]),
    ("twice",           lambda x: where(x > 0, sqrt(where(x > 0, x, 0)), 0),
                                                                        [-1.0, 0.0, 4.0],  [0, 0, 1/4],  [0, 0, -1/32]),
    ("both branches",   lambda x: where(x > 0, sqrt(x), sqrt(-x)),      [-4.0, 4.0],      [-1/4, 1/4], [-1/32, -1/32]),
    ("sqrt of maximum", lambda x: sqrt(np.maximum(x, 0)),               [-1.0, 4.0],       [0, 1/4],     [0, -1/32]),
    ("sqrt of clip",    lambda x: sqrt(np.clip(x, 0, 9)),               [-1.0, 4.0, 10.0], [0, 1/4, 0],  [0, -1/32, 0]),
    ("sqrt of relu",    lambda x: sqrt(nn.relu(x)),                     [-1.0, 0.0, 4.0],  [0, 0, 1/4],  [0, 0, -1/32]),
    ("max of sqrt",     lambda x: np.maximum(sqrt(x), 1),               [0.0, 4.0],        [0, 1/4],     [0, -1/32]),
    ("shared",          lambda x: where(x > 0, sqrt(x), 0) + x * x,     [0.0, 4.0],        [0, 33/4],    [2, 63/32]),
    # ----------------------------------------------------------------------- chosen: an inf or nan that is real stays
    ("sqrt, squared",   lambda x: sqrt(x) ** 2,                         [0.0, 4.0],        [nan, 1],     [nan, 0]),
    ("where, chosen",   lambda x: where(x < 0, sqrt(x), 0),             [-1.0, 4.0],       [nan, 0],     [nan, 0]),
    ("chosen, too",     lambda x: where(x < 9, log(x) ** 2, 0),         [-1.0, 1.0],       [nan, 0],     [nan, 2]),
    ("an edge, chosen", lambda x: where(x >= 0, sqrt(x), 0),            [-1.0, 0.0],       [0, inf],     [0, -inf]),
    ("outside",         lambda x: where(x < 9, x, 0) + sqrt(x) ** 2,    [0.0, 4.0],        [nan, 2],     [nan, 0]),
    ("beside masked",   lambda x: where(x > 0, sqrt(x), 0) + sqrt(x - 1) ** 2,
                                                                        [0.0, 4.0],        [nan, 5/4],   [nan, -1/32]),
    ("sqrt of a larger", lambda x: sqrt(np.maximum(-1, x)),             [0.0, 4.0],        [inf, 1/4],   [-inf, -1/32]),
    ("half chosen",     lambda x: sqrt(np.maximum(x, 0)),               [0.0],             [inf],        [-inf]),
    ("both branches, 0", lambda x: where(x >= 0, sqrt(x), sqrt(-x)),    [-4.0, 0.0],       [-1/4, inf],  [-1/32, -inf]),
    ("of nan",          lambda x: np.maximum(sqrt(x), 0),               [-1.0, 4.0],       [nan, 1/4],   [nan, -1/32]),
    ("least of nan",    lambda x: np.minimum(1, sqrt(x)),               [-1.0, 4.0],       [nan, 0],     [nan, 0]),
    ("clip of nan",     lambda x: np.clip(sqrt(x), 0, 9),               [-1.0, 4.0],       [nan, 1/4],   [nan, -1/32]),
    ("relu of nan",     lambda x: nn.relu(sqrt(x)),                     [-1.0, 4.0],       [nan, 1/4],   [nan, -1/32]),
    ("gelu of nan",     lambda x: nn.gelu(sqrt(x)),                     [-1.0],            [nan],        [nan]),
    ("abs of nan",      lambda x: np.abs(sqrt(x)),                      [-1.0, 4.0],       [nan, 1/4],   [nan, -1/32]),
    ("times nan",       lambda x: np.maximum(x, 1) * nan,               [0.0, 2.0],        [0, nan],     [0, 0]),
    ("times zero",      lambda x: 0 * sqrt(x),                          [0.0, 4.0],        [nan, 0],     [nan, 0]),
    # ------- zero times infinity, of two calls of which each is right: nan, though another spelling gives what is right
    ("sigmoid by hand", lambda x: 1 / (1 + np.exp(-x)),                 [-1000.0, 0.0],    [nan, 1/4],   [nan, 0]),
    ("nn.sigmoid",      nn.sigmoid,                                     [-1000.0, 0.0],    [0, 1/4],     [0, 0]),
    ("sqrt of 0 x",     lambda x: sqrt(0 * x),                          [4.0],             [nan],        [nan]),
    ("0 sqrt of x",     lambda x: sqrt(0) * sqrt(x),                    [4.0],             [0],          [0]),
    ("cos of arccos",   lambda x: np.cos(np.arccos(x)),                 [1.0],             [nan],        [nan]),
]

SCORES, WEIGHTS = [1.0, 5.0, 1.0], np.array([1.0, 2.0, 5.0])
SOME, NONE = np.array([True, False, True]), np.zeros(3, bool)
APART = np.array([[1, 0, -1], [0, 0, 0], [-1, 0, 1]])
THIRDS = np.eye(3) / 3 - 1 / 9  # the Hessian of the logarithm of a sum of three equal powers
LENGTH = [[0.128, -0.096], [-0.096, 0.072]]  # the Hessian of the length of [3, 4]


def beside_nan(block: Any, order: Any = range(4)) -> np.ndarray:
    """The Hessian of lengths of two vectors of two numbers, in some order, where that of the first is 0.

    Rows come from zeros that are numbers, no choices, times the nan of the first vector.
    """
    hessian = np.zeros((4, 4))
    hessian[:, :2], hessian[2:, 2:] = nan, block
    return hessian[np.ix_(order, order)]


def masked(x: Any, mask: Any) -> Any:
    return where(mask, x, -inf)


of_several = [  # what, function, arguments, the gradient of all their numbers (of the sum of the answer), the Hessian
    # ------------------------------------------------------------------------------------------- ties, which share
    ("maximum",          np.maximum,                            (1, 1),             [half, half],       0),
    ("maximum of nan",   np.maximum,                            (nan, 1),           [half, half],       0),
    ("minimum",          np.minimum,                            (1, 1),             [half, half],       0),
    ("fmax",             np.fmax,                               (1, 1),             [half, half],       0),
    ("fmin of nan",      np.fmin,                               (nan, 1),           [0, 1],             0),
    ("max",              np.max,                                ([2, 1, 2, 2],),    [1/3, 0, 1/3, 1/3], 0),
    ("min",              np.min,                                ([2, 1, 1, 2],),    [0, half, half, 0], 0),
    ("max, squared",     lambda x: np.max(x) ** 2,              ([2, 1, 2],),       [2, 0, 2],
                                                                                    half * np.abs(APART)),
    ("max, axis 0",      lambda x: np.max(x, axis=0),           ([[1, 1], [1, 2]],), [half, 0, half, 1], 0),
    ("min, axis 1",      lambda x: np.min(x, axis=1, keepdims=True),
                                                                ([[1, 1], [1, 2]],), [half, half, 1, 0], 0),
    ("max where",        lambda x: np.max(x, where=x < 2, initial=0),
                                                                ([1, 2, 1],),       [half, 0, half],    0),
    ("max initial",      lambda x: np.max(x, initial=5),        ([1, 2],),          [0, 0],             0),
    ("max of nan",       np.max,                                ([2, nan],),        [half, half],       0),
    ("fmax.reduce",      np.fmax.reduce,                        ([2, 1, 2, nan],),  [half, 0, half, 0], 0),
    ("nanmin",           np.nanmin,                             ([2, 1, 1, nan],),  [0, half, half, 0], 0),
    ("ptp",              np.ptp,                                ([1, 1, 2, 2],),    [-half, -half, half, half], 0),
    ("accumulate",       lambda x: np.maximum.accumulate(x) * 12.0 ** np.arange(4),
                                                                ([1, 1, 0, 1],),    [655, 654, 0, 576], 0),
    ("sort",             lambda x: np.sort(x) * np.arange(4.0), ([2, 1, 2, 0],),    [2.5, 1, 2.5, 0],   0),
    ("partition",        lambda x: np.partition(x, 2)[2:],      ([2, 1, 2, 0],),    [1, 0, 1, 0],       0),
    ("median",           np.median,                             ([2, 1, 2, 2, 5],), [1/3, 0, 1/3, 1/3, 0], 0),
    ("between ties",     np.median,                             ([1, 1, 2, 2],),    [1/4, 1/4, 1/4, 1/4], 0),
    ("quantile",         lambda x: np.quantile(x, 1/4),         ([1, 1, 2, 3, 3],), [half, half, 0, 0, 0], 0),
    ("clip",             np.clip,                               (1, 1, 2),          [half, half, 0],    0),
    ("clip to a point",  np.clip,                               (1, 1, 1),          [0, half, half],    0),
    ("max and initial",  lambda x: np.max(x, initial=2),        ([1, 2, 2],),       [0, 1/3, 1/3],      0),
    ("minimum.reduce",   lambda x: np.minimum.reduce(x, initial=1),
                                                                ([1, 2],),          [half, 0],          0),
    *[(f"{name} at {x:g}", lambda x, fold=fold: fold(x)[..., -1],
                                                                ([x, x, x],),       [1/3, 1/3, 1/3],    slope * THIRDS)
      for x in [-inf, -1e30, -1e7, 1e7, 1e30, inf]
      for name, fold, slope in [("logaddexp", lambda x: np.logaddexp.reduce(x, keepdims=True), 1),
                                ("logaddexp2", lambda x: np.logaddexp2.reduce(x, keepdims=True), log(2)),
                                ("of all so far", np.logaddexp.accumulate, 1)]],
    ("weighted",         lambda x: np.quantile(x, half, weights=[1, 1, 2, 1], method="inverted_cdf"),
                                                                ([1, 2, 2, 5],),    [0, half, half, 0], 0),
    # ---------------------------------------------------------------------------------------------- lengths at zero
    ("norm",             np.linalg.norm,                        ([0, 0],),          [0, 0],             nan),
    ("norm, squared",    lambda x: np.linalg.norm(x) ** 2,      ([0, 0],),          [0, 0],             nan),
    ("norm on an axis",  np.linalg.norm,                        ([0, 2],),          [0, 1],
                                                                                    [[half, 0], [0, 0]]),
    ("norm 1",           lambda x: np.linalg.norm(x, 1),        ([0, -2],),         [0, -1],            0),
    ("norm 3",           lambda x: np.linalg.norm(x, 3),        ([0, -2],),         [0, -1],            0),
    ("norm 1/2",         lambda x: np.linalg.norm(x, 1/2),      ([0, -2],),         [0, -1],            0),
    ("norm -1",          lambda x: np.linalg.norm(x, -1),       ([0, -2],),         [0, 0],             0),
    ("norm inf",         lambda x: np.linalg.norm(x, inf),      ([0, 2, -2],),      [0, half, -half],   0),
    ("norm inf of 0",    lambda x: np.linalg.norm(x, inf),      ([0, 0],),          [0, 0],             0),
    ("norm -inf",        lambda x: np.linalg.norm(x, -inf),     ([0, 2],),          [0, 0],             0),
    ("norm, axis",       lambda x: np.linalg.norm(x, axis=1),   ([[0, 0], [3, 4]],), [0, 0, 0.6, 0.8],
                                                                                    beside_nan(LENGTH)),
    ("norm, keepdims",   lambda x: np.linalg.norm(x, axis=0, keepdims=True),
                                                                ([[0, 3], [0, 4]],), [0, 0.6, 0, 0.8],
                                                                                    beside_nan(LENGTH, [0, 2, 1, 3])),
    *[(f"matrix norm {p}", lambda x, p=p: np.linalg.norm(x, p), (np.zeros((2, 2)),), [0, 0, 0, 0], bend)
      for bend, some in [(0, [1, -1, inf, -inf]), (nan, ["fro", "nuc", 2, -2])] for p in some],
    ("norm 1, squared",  lambda x: np.linalg.norm(x, 1) ** 2,   ([0, 0],),          [0, 0],             0),
    ("norm 3/2",         lambda x: np.linalg.norm(x, 3/2),      ([0, 0],),          [0, 0],             nan),
    ("norm 3, cubed",    lambda x: np.linalg.norm(x, 3) ** 3,   ([0, 0],),          [0, 0],             nan),
    ("nuclear, squared", lambda x: np.linalg.norm(x, "nuc")**2, ([[0, 0]],),        [0, 0],             nan),
    ("chosen hypot",     lambda x: np.max(np.hypot(x, 0.0)),    ([0, 0],),          [0, 0],             nan),
    ("hypot, squared",   lambda x, y: np.hypot(x, y) ** 2,      (0, 0),             [0, 0],             nan),
    ("std, squared",     lambda x: np.std(x) ** 2,              ([3, 3],),          [0, 0],             nan),
    ("nanstd, squared",  lambda x: np.nanstd(x) ** 2,           ([3, 3, nan],),     [0, 0, 0],
                                                                                    [[nan, nan, 0]] * 3),
    ("hypot",            np.hypot,                              (0, 0),             [0, 0],             nan),
    ("hypot on an axis", np.hypot,                              (0, 2),             [0, 1],
                                                                                    [[half, 0], [0, 0]]),
    ("hypot.reduce",     np.hypot.reduce,                       ([0, 0, 0],),       [0, 0, 0],          nan),
    ("arctan2",          np.arctan2,                            (0, 0),             [0, 0],             0),
    ("arctan2 at the cut", np.arctan2,                          (0, -1),            [-1, 0],
                                                                                    [[0, -1], [-1, 0]]),
    ("std",              np.std,                                ([3, 3, 3],),       [0, 0, 0],          nan),
    ("std, axis",        lambda x: np.std(x, axis=1),           ([[3, 3], [2, 4]],), [0, 0, -half, half],
                                                                                    beside_nan(np.zeros((2, 2)))),
    ("std, ddof",        lambda x: np.std(x, ddof=1),           ([3, 3],),          [0, 0],             nan),
    ("std of one",       np.std,                                ([3],),             [0],                nan),
    ("var",              np.var,                                ([3, 3],),          [0, 0],
                                                                                    [[half, -half], [-half, half]]),
    # --------------------------------------------------------------------------------------------- products and powers
    ("prod, one 0",      np.prod,                               ([0, 2, 3],),       [6, 0, 0],
                                                                                    [[0, 3, 2], [3, 0, 0], [2, 0, 0]]),
    ("prod, two 0",      np.prod,                               ([0, 0, 3],),       [0, 0, 0],
                                                                                    [[0, 3, 0], [3, 0, 0], [0, 0, 0]]),
    ("prod, three 0",    np.prod,                               ([0, 0, 0],),       [0, 0, 0],          0),
    ("cumprod",          np.cumprod,                            ([0, 0, 2],),       [1, 0, 0],
                                                                                    [[0, 3, 0], [3, 0, 0], [0, 0, 0]]),
    ("0**0",             np.power,                              (0, 0),             [0, 0],             0),
    ("0**1.5",           np.power,                              (0, 1.5),           [0, 0],
                                                                                    [[inf, 0], [0, 0]]),
    ("0**2",             np.power,                              (0, 2),             [0, 0],
                                                                                    [[2, 0], [0, 0]]),
    ("0**3",             np.float_power,                        (0, 3),             [0, 0],             0),
    ("2**0",             np.power,                              (2, 0),             [0, log(2)],
                                                                                    [[0, half], [half, log(2)**2]]),
    ("(-2)**2",          np.power,                              (-2, 2),            [-4, nan],
                                                                                    [[2, nan], [nan, nan]]),
    ("x**[0, 1, 2]",     lambda x: x ** np.arange(3.0),         ([0, 0, 0],),       [0, 1, 0],
                                                                                    np.diag([0, 0, 2])),
    ("heaviside",        np.heaviside,                          (0, 3),             [0, 1],             0),
    ("copysign",         np.copysign,                           (2, -0.0),          [-1, 0],            0),
    # --------------------------------------------------- not chosen: exactly 0, though its own derivative is inf or nan
    ("max of sqrt",      lambda x: np.max(sqrt(x)),             ([0, 4],),          [0, 1/4],
                                                                                    np.diag([0, -1/32])),
    ("sum where",        lambda x: np.sum(sqrt(x), where=x > 0),
                                                                ([0, 4],),          [0, 1/4],
                                                                                    np.diag([0, -1/32])),
    ("mean where",       lambda x: np.mean(sqrt(x), where=x > 0),
                                                                ([0, 4],),          [0, 1/4],
                                                                                    np.diag([0, -1/32])),
    ("index",            lambda x: sqrt(x)[1:],                 ([0, 4],),          [0, 1/4],
                                                                                    np.diag([0, -1/32])),
    ("boolean index",    lambda x: sqrt(x)[x > 0],              ([0, 4],),          [0, 1/4],
                                                                                    np.diag([0, -1/32])),
    ("put",              lambda x: mg.put(sqrt(x), 0, 1.0),     ([0, 4],),          [0, 1/4],
                                                                                    np.diag([0, -1/32])),
    ("x / y",            lambda x, y: where(y != 0, x / y, 0),  (1, 0),             [0, 0],             0),
    ("entropy",          lambda p: -np.sum(where(p > 0, p * log(p), 0)),
                                                                ([0, 1],),          [0, -1],
                                                                                    np.diag([0, -1])),
    ("softmax",          lambda x: nn.softmax(masked(x, SOME)) * WEIGHTS,
                                                                (SCORES,),          [-1, 0, 1],         0),
    ("softmax of none",  lambda x: nn.softmax(masked(x, NONE)), (SCORES,),          [0, 0, 0],          0),
    ("some or none",     lambda x: nn.softmax(masked(x, [SOME, NONE])) * WEIGHTS,
                                                                ([SCORES, SCORES],), [-1, 0, 1, 0, 0, 0], 0),
    ("log_softmax",      lambda x: where(SOME, nn.log_softmax(masked(x, SOME)), 0) * WEIGHTS,
                                                                (SCORES,),          [-2, 0, 2],         -1.5 * APART),
    ("by cross-entropy", lambda x: nn.cross_entropy(masked(x, SOME), 0),
                                                                (SCORES,),          [-half, 0, half],   1/4 * APART),
    ("logaddexp",        lambda x: np.logaddexp.reduce(masked(x, SOME)),
                                                                (SCORES,),          [half, 0, half],    1/4 * APART),
    # ----------------------------------------------------------------------- chosen: an inf or nan that is real stays
    ("max of sqrt of -1", lambda x: np.max(sqrt(x)),            ([-1, 4],),         [nan, 1/8],
                                                                                    [[nan, 0], [nan, -1/64]]),
    ("running max of it", lambda x: np.maximum.accumulate(sqrt(x)),
                                                                ([-1, 4],),         [nan, 1/4],
                                                                                    [[nan, 0], [nan, -1/32]]),
    ("norm inf of it",   lambda x: np.linalg.norm(sqrt(x), inf),
                                                                ([-1, 4],),         [nan, 1/8],
                                                                                    [[nan, 0], [nan, -1/64]]),
    ("median of it",     lambda x: np.median(sqrt(x)),          ([-1, 4, 9],),      [nan, 0, 0],
                                                                                    [[nan, 0, 0]] * 3),
    ("softmax of inf x", lambda x: nn.softmax(x * [4, -inf]) * [1, 2],
                                                                (1,),               [nan],              nan),
    ("softmax of it",    lambda x: nn.softmax(sqrt(x)) * [1, 2],
                                                                ([-1, 4],),         [nan, nan],         nan),
]
# fmt: on


def one_by_one(f: Callable[[Any], Any], x: np.ndarray) -> tuple[Any, Any]:
    """The derivatives of a function that works element by element, by `grad` and by `backward`, which must agree."""
    total = lambda x: np.sum(f(x))
    slope = lambda x: np.sum(mg.grad(total)(x))
    answers = []
    for function in (total, slope):
        tensor = mg.Tensor(x, requires_grad=True)
        with np.errstate(all="ignore"):  # what is not chosen is computed, too, and NumPy warns of that
            answers.append(mg.grad(function)(x))
            loss = function(tensor)
        if loss.requires_grad:  # else the first derivative is a constant
            loss.backward()
            np.testing.assert_array_equal(tensor.grad, answers[-1])
    return answers[0], answers[1]


def gradient_and_hessian(f: Callable[..., Any], args: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All derivatives of the sum of the answer, by transforms and by `backward`, which must agree."""
    total = lambda *args: np.sum(f(*args))
    tensors = [mg.Tensor(x, requires_grad=True) for x in args]
    slopes = [mg.grad(total, i) for i in range(len(args))]

    def collected(value: mg.Tensor, seed: Any) -> np.ndarray:
        for t in tensors:
            t.zero_grad()
        if value.requires_grad:
            value.backward(seed, retain_graph=True)
        return np.concatenate([np.ravel(np.zeros(t.shape) if t.grad is None else t.grad) for t in tensors])

    with np.errstate(all="ignore"):
        gradient = np.concatenate([np.ravel(slope(*args)) for slope in slopes])
        blocks = [[mg.jacobian(slope, i)(*args) for i in range(len(args))] for slope in slopes]
        value, outputs = total(*tensors), [slope(*tensors) for slope in slopes]
    rows = [[np.reshape(b, (x.size, -1)) for b in row] for row, x in zip(blocks, args, strict=True)]
    hessian = np.concatenate([np.concatenate(row, 1) for row in rows])
    np.testing.assert_array_equal(collected(value, np.ones(())), gradient)
    seeds = [(out, np.reshape(one, out.shape)) for out in outputs for one in np.eye(out.size)]
    np.testing.assert_array_equal([collected(out, seed) for out, seed in seeds], hessian)
    return gradient, hessian


@pytest.mark.parametrize(
    ("f", "points", "slopes", "curvatures", "dtype"),
    [
        pytest.param(*row[1:], dtype, id=f"{row[0]}-{dtype.__name__}")
        for i, row in enumerate(of_one_number)
        for dtype in some([np.float64, np.float32], 2, i)
    ],
)
def test_of_one_number(f: Callable[[Any], Any], points: Any, slopes: Any, curvatures: Any, dtype: Any) -> None:
    x, tolerance = np.array(points, dtype), 8 * float(np.finfo(dtype).eps)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(f(mg.Tensor(x)).data, f(x))
    for i in [..., *range(len(x))]:  # all at once, and each alone
        for found, expected in zip(one_by_one(f, x[i]), (slopes, curvatures), strict=True):
            np.testing.assert_allclose(found, np.array(expected)[i], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("f", "args", "slopes", "curvatures"), [pytest.param(*row[1:], id=row[0]) for row in of_several]
)
def test_of_several(f: Callable[..., Any], args: Any, slopes: Any, curvatures: Any) -> None:
    arrays = [np.array(x, float) for x in args]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(f(*map(mg.Tensor, arrays)).data, f(*arrays))
    for found, expected in zip(gradient_and_hessian(f, arrays), (slopes, curvatures), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("reduction", [np.max, np.min])
@given(nps.arrays(np.float64, nps.array_shapes(max_dims=3, max_side=4), elements=st.integers(-2, 2)), st.data())
def test_ties_share_evenly(reduction: Callable[..., Any], x: np.ndarray, data: st.DataObject) -> None:
    axis = data.draw(st.one_of(st.none(), nps.valid_tuple_axes(x.ndim)))
    hits = x == reduction(x, axis=axis, keepdims=True)
    expected = hits / np.sum(hits, axis=axis, keepdims=True)
    np.testing.assert_array_equal(mg.grad(lambda x: np.sum(reduction(x, axis=axis)))(x), expected)
