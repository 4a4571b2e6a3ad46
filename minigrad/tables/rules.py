"""The table of derivatives: one line per NumPy function, one rule per argument.

Vocabulary, the same in every line:

    g           gradient of the answer, in its shape
    ans         the answer
    x, y, z     arguments; what else the function takes is named as NumPy names it
    zero        the derivative is zero wherever it exists

A rule returns the gradient of its argument before broadcasting and promotion are undone, which the engine does. It is
written in NumPy, so that it can be differentiated in turn, never writes to what it is given, and at a kink chooses the
subgradient of least norm; where maxima tie, they share.

The gradient of a real number L with respect to z = x + iy is dL/dx - i dL/dy, as in HIPS autograd and JAX; PyTorch has
its conjugate. So a rule such as `g * np.cos(z)` is right for complex numbers as it stands: where f is holomorphic, it
passes on g * f'(z), and `grad(lambda z: np.real(f(z)))` is f'. What steps downhill moves by the conjugate.

To add a function, write its line here and its row into tests/test_rules.py, which fails until there is one.
"""

import inspect
import math
from operator import getitem
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from minigrad.engine import (  # isort: skip
    Choice, Node, Product, Selection, as_array, constant, quietly, shortcuts, unbroadcast, vjps,
)  # fmt: skip
from minigrad.tables.primitive import primitive

zero = None
LN2, LN10 = math.log(2), math.log(10)

# The columns of the tables are kept aligned by hand, since that is how one reads a table.
# fmt: off

# ------------------------------------------------------------------------------------ functions of one element

vjps[np.positive]   = lambda g, ans, x: g,
vjps[np.negative]   = lambda g, ans, x: -g,
vjps[np.absolute]   = lambda g, ans, x: g * heading(x, ans),
vjps[np.real]       = lambda g, ans, x: g,
vjps[np.imag]       = lambda g, ans, x: g * -1j,
vjps[np.conjugate]  = lambda g, ans, x: np.conjugate(g),
vjps[np.fabs]       = lambda g, ans, x: g * np.sign(x),
vjps[np.square]     = lambda g, ans, x: g * (x + x),
vjps[np.sqrt]       = lambda g, ans, x: g / (ans + ans),
vjps[np.cbrt]       = lambda g, ans, x: g / (3 * ans * ans),
vjps[np.reciprocal] = lambda g, ans, x: -g * ans * ans,

vjps[np.exp]        = lambda g, ans, x: g * ans,
vjps[np.exp2]       = lambda g, ans, x: g * (ans * LN2),  # g * ans could overflow
vjps[np.expm1]      = lambda g, ans, x: g * np.exp(x),  # ans + 1 would lose the tail
vjps[np.log]        = lambda g, ans, x: g / x,
vjps[np.log2]       = lambda g, ans, x: g / (x * LN2),
vjps[np.log10]      = lambda g, ans, x: g / (x * LN10),
vjps[np.log1p]      = lambda g, ans, x: g / (1 + x),

vjps[np.sin]        = lambda g, ans, x: g * np.cos(x),
vjps[np.cos]        = lambda g, ans, x: -g * np.sin(x),
vjps[np.tan]        = lambda g, ans, x: g * (1 + ans * ans),
vjps[np.arcsin]     = lambda g, ans, x: g / np.sqrt(one_minus_square(x)),
vjps[np.arccos]     = lambda g, ans, x: -g / np.sqrt(one_minus_square(x)),
vjps[np.arctan]     = lambda g, ans, x: g * arctan_slope(x),
vjps[np.sinh]       = lambda g, ans, x: g * np.cosh(x),
vjps[np.cosh]       = lambda g, ans, x: g * np.sinh(x),
vjps[np.tanh]       = lambda g, ans, x: g * sech_squared(x),  # (1 - ans) * (1 + ans) would lose the tails
vjps[np.arcsinh]    = lambda g, ans, x: g / (np.hypot(1, x) if x.dtype.kind != "c" else np.sqrt(x * x - -1)),
vjps[np.arccosh]    = lambda g, ans, x: g / (np.sqrt(x - 1) * np.sqrt(x - -1)),  # x + 1 would lose the side of a cut
vjps[np.arctanh]    = lambda g, ans, x: g / one_minus_square(x),
vjps[np.deg2rad]    = lambda g, ans, x: g * (math.pi / 180),
vjps[np.radians]    = lambda g, ans, x: g * (math.pi / 180),
vjps[np.rad2deg]    = lambda g, ans, x: g * (180 / math.pi),
vjps[np.degrees]    = lambda g, ans, x: g * (180 / math.pi),
vjps[np.sinc]       = lambda g, ans, x: g * sinc_slope(x, order=1),

vjps[np.sign]       = zero,
vjps[np.spacing]    = zero,
vjps[np.floor]      = zero,
vjps[np.ceil]       = zero,
vjps[np.trunc]      = zero,
vjps[np.rint]       = zero,
vjps[np.round]      = zero,

# ----------------------------------------------------------------------------------- functions of two elements

vjps[np.add]          = lambda g, ans, x, y: g,                     lambda g, ans, x, y: g
vjps[np.subtract]     = lambda g, ans, x, y: g,                     lambda g, ans, x, y: -g
vjps[np.multiply]     = lambda g, ans, x, y: g * y,                 lambda g, ans, x, y: g * x
vjps[np.divide]       = lambda g, ans, x, y: g / y,                 lambda g, ans, x, y: -(g / y) * ans
vjps[np.power]        = lambda g, ans, x, y: g * slope(x, y),       lambda g, ans, x, y: g * growth(ans, x, y)
vjps[np.float_power]  = lambda g, ans, x, y: g * slope(x, y),       lambda g, ans, x, y: g * growth(ans, x, y)
vjps[np.remainder]    = lambda g, ans, x, y: g,                     lambda g, ans, x, y: -g * np.floor_divide(x, y)
vjps[np.fmod]         = lambda g, ans, x, y: g,                     lambda g, ans, x, y: -g * np.trunc(x / y)
vjps[np.floor_divide] = zero,                                       zero
vjps[np.heaviside]    = zero,                                       lambda g, ans, x, y: g * (x == 0)
vjps[np.copysign]     = lambda g, ans, x, y: g * sides(x, y),       zero
vjps[np.hypot]        = lambda g, ans, x, y: g * cosine(x, as_array(y), ans), \
                        lambda g, ans, x, y: g * cosine(y, as_array(x), ans)
vjps[np.arctan2]      = lambda g, ans, x, y: g * turn(y, x),        lambda g, ans, x, y: -g * turn(x, y)
vjps[np.logaddexp]    = lambda g, ans, x, y: g * logistic(ahead(x, y)), \
                        lambda g, ans, x, y: g * logistic(ahead(y, x))
vjps[np.logaddexp2]   = lambda g, ans, x, y: g * logistic(LN2 * ahead(x, y)), \
                        lambda g, ans, x, y: g * logistic(LN2 * ahead(y, x))
vjps[np.ldexp]        = lambda g, ans, x, y: np.ldexp(g, y),        zero
vjps[np.nextafter]    = lambda g, ans, x, y: g,                     zero

# ----------------------------------------------------------------------------------------------------- products

vjps[np.matmul]       = Product(lambda g, ans, x, y: rows(g, x, y),  lambda g, ans, x, y: columns(g, x, y))
vjps[np.inner]        = Product(lambda g, ans, x, y: np.dot(g, y),   lambda g, ans, x, y: np.dot(g.T, x))  # matrices
vjps[np.convolve]     = lambda g, ans, x, y: np.convolve(g, y[::-1], "valid"), \
                        lambda g, ans, x, y: np.convolve(g, x[::-1], "valid")  # always in the mode "full"
vjps[np.prod]         = lambda g, ans, x, *a, **k: spread(g, x, *a, **k) * others(x, *a, **k),

# -------------------------- selections, which move or add up numbers, and choices, which leave some of them out, too

vjps[np.maximum]      = Choice(joint=lambda g, ans, x, y: shares(g, x > y, x < y))
vjps[np.minimum]      = Choice(joint=lambda g, ans, x, y: shares(g, x < y, x > y))
vjps[np.fmax]         = Choice(lambda g, ans, x, y: lead(g, x, y, x > y, x < y), \
                               lambda g, ans, x, y: lead(g, y, x, x < y, x > y))
vjps[np.fmin]         = Choice(lambda g, ans, x, y: lead(g, x, y, x < y, x > y), \
                               lambda g, ans, x, y: lead(g, y, x, x > y, x < y))
vjps[np.where]        = Choice(zero, \
                               lambda g, ans, condition, x, y: g * (condition != 0), \
                               lambda g, ans, condition, x, y: g * (condition == 0))
vjps[np.max]          = Choice(lambda g, ans, x, *a, **k: spread_ties(g, ans, x, *a, **k))
vjps[np.min]          = Choice(lambda g, ans, x, *a, **k: spread_ties(g, ans, x, *a, **k))
vjps[np.sort]         = Choice(lambda g, ans, x, axis=-1, **k: unsorted(g, ans, x, axis))
vjps[np.partition]    = Choice(lambda g, ans, x, kth, axis=-1, **k: unsorted(g, ans, x, axis))
vjps[getitem]         = Choice(lambda g, ans, x, index: at_index(g, x, index), \
                               add=lambda total, g, x, index: add_at(total, index, g), places=True)
vjps[np.fmax.reduce]  = Choice(lambda g, ans, x, axis=0, **k: spread_ties(g, ans, x, axis, **k))
vjps[np.fmin.reduce]  = Choice(lambda g, ans, x, axis=0, **k: spread_ties(g, ans, x, axis, **k))
for ufunc in (np.maximum, np.minimum, np.fmax, np.fmin):
    vjps[ufunc.accumulate] = Choice(lambda g, ans, x, axis=0, **k: since_reached(g, ans, x, axis))

vjps[np.sum]          = Selection(lambda g, ans, x, *a, **k: spread(g, x, *a, **k))
vjps[np.cumsum]       = Selection(lambda g, ans, x, axis=None, dtype=None: cumsum_from_behind(g, axis).reshape(x.shape))
vjps[np.ndarray.astype] = Selection(lambda g, ans, x, dtype: g)
vjps[np.copy]         = Selection(lambda g, ans, x, *a, **k: g)
vjps[np.broadcast_to] = Selection(lambda g, ans, x, *a, **k: g)
vjps[np.reshape]      = Selection(lambda g, ans, x, shape, order="C", **k: np.reshape(g, x.shape, order))
vjps[np.squeeze]      = Selection(lambda g, ans, x, *a, **k: g.reshape(x.shape))
vjps[np.expand_dims]  = Selection(lambda g, ans, x, *a, **k: g.reshape(x.shape))
vjps[np.transpose]    = Selection(lambda g, ans, x, axes=None: np.transpose(g, undoing(axes, x)))
vjps[np.swapaxes]     = Selection(lambda g, ans, x, axis1, axis2: np.swapaxes(g, axis1, axis2))
vjps[np.moveaxis]     = Selection(lambda g, ans, x, source, destination: np.moveaxis(g, destination, source))
vjps[np.flip]         = Selection(lambda g, ans, x, axis=None: np.flip(g, axis))
vjps[np.roll]         = Selection(lambda g, ans, x, shift, axis=None: np.roll(g, np.negative(shift), axis), places=True)
vjps[np.rot90]        = Selection(lambda g, ans, x, k=1, axes=(0, 1): np.rot90(g, -k, axes))
vjps[np.repeat]       = Selection(lambda g, ans, x, repeats, axis=None: unrepeated(g, x, repeats, axis), places=True)
vjps[np.diag]         = Choice(lambda g, ans, x, k=0: on_diagonal(g, x.shape, k, 0, 1) if x.ndim == 2 else \
                               np.copy(np.diagonal(g, k)), places=True)
vjps[np.diagonal]     = Choice(lambda g, ans, x, offset=0, axis1=0, axis2=1: \
                               on_diagonal(g, x.shape, offset, axis1, axis2), places=True)
vjps[np.trace]        = Choice(lambda g, ans, x, offset=0, axis1=0, axis2=1, dtype=None: on_diagonal( \
                               g[..., None] * np.ones_like(np.diagonal(x, offset, axis1, axis2)), \
                               x.shape, offset, axis1, axis2), places=True)
vjps[sliding_window_view] = Selection(lambda g, ans, x, *a, **k: of_windows(g, x, *a, **k))

# fmt: on
# ------------------------------------------------------------------------------------- helpers of the rules


def heading(x, length):
    """The sign of a real number, and the mirrored direction of a complex one; 0 at 0."""
    if x.dtype.kind != "c":
        return np.sign(x)
    real, imag = np.real(x), np.imag(x)
    return cosine(real, imag, length) - 1j * cosine(imag, real, length)


def slope(x, y):
    """d(x**y)/dx = y * x**(y - 1), and 0 for the constant x**0 at x = 0."""
    return np.where((x == 0) & (y == 0), 0, y * x ** (y - 1))


def growth(ans, x, y):
    """d(x**y)/dy = x**y * log(x), and 0 for the constant 0**y, also at y = 0."""
    return np.where((x == 0) & (y >= 0), 0, ans * np.log(x))


def sides(x, y):
    """d copysign(x, y) / dx: 1 where the sign stays, -1 where it turns, 0 at x = 0."""
    return np.sign(x) * np.copysign(1, y)


def turn(y, x):
    """y / (x**2 + y**2), without squares that overflow; 0 at the origin, where the angle has no direction to grow."""
    length = np.hypot(x, y)
    return np.where(length == 0, 0, y / length / length)


def ahead(x, y):
    """x - y, and 0 between equal infinities. Through the answer of logaddexp, the lead would lose its digits."""
    return np.where(np.isinf(x) & (x == y), 0, x - y)


def shares(g, wins, loses):
    """The gradients of both arguments: of that which wins, all; half where neither does, as they tie or one is nan."""
    lead = wins.astype(np.int8) - loses.astype(np.int8)  # small integers are quick to count with
    part = (lead.astype(g.dtype) + 1) * 0.5  # also of an infinite gradient, from which no part can be taken away
    return g * part, g * (1 - part)


def lead(g, x, y, wins, loses):
    """The share of x in the greater (or smaller) of two, of which a nan is neither."""
    return shares(g, wins | (np.isnan(x) < np.isnan(y)), loses | (np.isnan(x) > np.isnan(y)))[0]


def axes_of(x, axis):
    """The axes that a function works along, counted from the front: all of them for None, and none of a number."""
    return tuple(range(x.ndim)) if axis is None or not x.ndim else normalize_axis_tuple(axis, x.ndim)


def kept(x, axis):
    """The shape of `x` with length 1 on the reduced axes: what a reduction with keepdims=True returns."""
    axes = axes_of(x, axis)
    return tuple(1 if i in axes else n for i, n in enumerate(x.shape))


def lines_along(x, axis):
    """The array with some axes made one, the last; and the function that brings such lines into its shape again."""
    axes = axes_of(x, axis)
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(x, axes, last)
    lines = np.reshape(moved, (*moved.shape[: x.ndim - len(axes)], math.prod(moved.shape[x.ndim - len(axes) :])))
    return lines, lambda lines: np.moveaxis(np.reshape(lines, moved.shape), last, axes)


def at_index(g, x, index):
    """The gradient of `x` where only what stands at an index receives some."""
    if not isinstance(x, np.ndarray):  # the call is recorded
        return put_add(np.broadcast_to(np.zeros((), x.dtype), x.shape), index, g)
    answer = np.zeros_like(x)
    add_at(answer, index, g)
    return answer


def spread(g, x, axis=None, dtype=None, out=None, keepdims=False, initial=0, where=True):
    """Give every element of a sum the gradient of the sum."""
    if g.ndim == 0 and x.size < 10_000 and not isinstance(g, Node):
        number, g = g, np.empty_like(x, g.dtype)  # a view of one number is slow to make and to go through
        g.fill(number)
    else:
        g = np.broadcast_to(g.reshape(kept(x, axis)) if g.ndim else g, x.shape)
    return g if where is True else np.where(where, g, 0)


def spread_ties(g, ans, x, axis=None, out=None, keepdims=False, initial=None, where=True):
    """Give the largest (or smallest) elements even shares of the gradient of the maximum (or minimum); of nan, all."""
    shape = kept(x, axis)
    ans = ans.reshape(shape)
    hits = same(x, ans) & where
    counts = np.sum(hits, axis=axis, keepdims=True)
    counts = counts if initial is None else counts + (ans == initial)  # which is a candidate like the others
    return evenly(g.reshape(shape), counts) * hits


def evenly(g, counts):
    """The gradient divided by how many there are; half precision cannot count beyond 65,504."""
    return g / np.maximum(counts, 1).astype(wide(g.dtype))


def wide(dtype: Any) -> Any:
    """The dtype in which numbers of this one are counted and added up."""
    return np.result_type(dtype, np.float32)


def same(x, ans):
    """Where an element may be the answer. If that is nan, all may: where it came from is unknown, and it must stay."""
    return (x == ans) | np.isnan(ans)


def others(x, axis=None, dtype=None, out=None, keepdims=False, initial=1, where=True):
    """The product of all other elements, for every element; without a division, so that it is right with zeros."""
    lines, put_back = lines_along(x if where is True else np.where(where, x, 1), axis)
    one = np.ones((*lines.shape[:-1], min(1, lines.shape[-1])), lines.dtype)
    before = np.cumprod(np.concatenate([one, lines[..., :-1]], -1), -1)
    behind = np.cumprod(np.concatenate([one, lines[..., :0:-1]], -1), -1)[..., ::-1]
    return put_back(initial * before * behind)


def since_reached(g, ans, x, axis):
    """Give the elements that reach a running maximum (or minimum) the gradients of all its copies; equal ones share."""
    g, ans, x = (np.moveaxis(a, axis, -1) for a in (g, ans, x))
    n = x.shape[-1]
    places = np.arange(n)
    begins = np.concatenate([np.ones((*x.shape[:-1], min(n, 1)), bool), ans[..., 1:] != ans[..., :-1]], -1)
    first = np.maximum.accumulate(np.where(begins, places, 0), -1)
    ends = np.concatenate([begins[..., 1:], begins[..., :1]], -1)
    last = np.minimum.accumulate(np.where(ends, places, n - 1)[..., ::-1], -1)[..., ::-1]
    hits = same(x, ans)
    count = np.cumsum(hits, -1)
    count = count - np.take_along_axis(count - hits, first, -1)
    parts = evenly(g, count)
    behind = cumsum_from_behind(parts, -1)
    beyond = np.take_along_axis(behind - parts, last, -1)
    return np.moveaxis((behind - beyond) * hits, -1, axis)


def unsorted(g, ans, x, axis):
    """Give the gradients of sorted numbers to where the numbers came from; equal ones share evenly."""
    sources, targets = ranks(x, axis), ranks(ans, -1 if axis is None else axis)
    total = put_add(np.zeros(x.size, wide(g.dtype)), np.ravel(targets), np.ravel(g))
    return evenly(total, how_often(sources, x.size))[sources]


@constant
def how_often(numbers, length):
    return np.bincount(np.ravel(numbers), minlength=length)


@constant
def ranks(x, axis):
    """A whole number for every number of an array: the same for equal ones in the same line, in the order of size."""
    lines = np.moveaxis(x, axis, -1) if axis is not None else np.reshape(x, (1, x.size))
    offsets = np.arange(math.prod(lines.shape[:-1])).reshape(*lines.shape[:-1], 1) * lines.shape[-1]
    order = np.argsort(lines, -1)
    ordered = np.reshape(lines, x.size)[order + offsets]
    numbers, answer = np.zeros(lines.shape, int), np.zeros(lines.shape, int)
    numbers[..., 1:] = np.cumsum(ordered[..., 1:] != ordered[..., :-1], -1)
    np.put_along_axis(answer, order, numbers + offsets, -1)
    return np.moveaxis(answer, -1, axis) if axis is not None else np.reshape(answer, x.shape)


def cumsum_from_behind(g, axis):
    axis = -1 if axis is None else axis
    return np.flip(np.cumsum(np.flip(g, axis), axis, wide(g.dtype)), axis)


def of_windows(g, x, window_shape, axis=None, **kwargs):
    """What every element receives from all windows that it is in, by the arguments of sliding_window_view."""
    sizes = tuple(window_shape) if np.iterable(window_shape) else (window_shape,)
    axes = range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim, allow_duplicate=True)
    return unwindowed(g, shape=x.shape, sizes=sizes, axes=tuple(axes))


def unrepeated(g, x, repeats, axis):
    """Add up what the copies of an element receive, which lie side by side."""
    place = x.ndim if axis is None else axis % x.ndim + 1
    return np.sum(np.reshape(g, (*x.shape[:place], repeats, *x.shape[place:])), place)


def undoing(axes, x):
    """The axes that undo a transposition by `axes`."""
    return None if axes is None else tuple(np.argsort([axis % x.ndim for axis in axes]))


def rows(g, x, y):
    """The gradient of x in x @ y: g @ y.T, with the axes that matmul drops and adds for vectors."""
    if y.ndim == 1:
        return g[..., None] * y
    if x.ndim == 1:
        return (y @ g[..., None])[..., 0]
    if g.ndim == 2 == y.ndim and y.shape[1] >= 1024:  # long rows
        outputs, length, part = len(g) * len(y), y.shape[1], 512
        if min(len(g), len(y)) > 1 and outputs * part <= 1e6 < outputs * length:
            return in_parts(g, y, part)
        if len(g) < len(y) <= length // 4:
            return (y @ g.T).T  # of long rows, a product with more rows than columns is faster
    return g @ flipped(y)


def in_parts(g, y, part):
    """g @ y.T as the sum of products of so many columns; up to 10^6 multiplications, OpenBLAS needs no copies."""
    end = g.shape[1] // part * part
    stacks = [np.reshape(x[:, :end], (len(x), -1, part)) for x in (g, y)]
    total = np.sum(np.transpose(stacks[0], (1, 0, 2)) @ np.transpose(stacks[1], (1, 2, 0)), 0)
    return total if end == g.shape[1] else total + g[:, end:] @ y[:, end:].T


def columns(g, x, y):
    """The gradient of y in x @ y: x.T @ g, in one product when all of x meets the same y."""
    if x.ndim == 1:
        return x[:, None] * g[..., None, :] if y.ndim > 1 else g * x
    if y.ndim == 1:
        return (g[..., None, :] @ x)[..., 0, :]
    if x.ndim > 2 and y.ndim == 2:
        n = math.prod(x.shape[:-1])
        x, g = x.reshape(n, x.shape[-1]), g.reshape(n, g.shape[-1])
    one_row = x.shape[:-1] == (1,) and g.ndim == 2  # of which np.dot is five times as fast
    return np.dot(x.T, g) if one_row else flipped(x) @ g


def flipped(x):
    """The matrix, or stack of matrices, transposed."""
    return x.T if x.ndim == 2 else np.swapaxes(x, -1, -2)


# ------------------------------------------------------------- primitives that NumPy has under no name of its own


def _repeats(index):
    """Whether an index may name the same element twice: those by integer arrays, or what becomes one, may."""
    parts = [part for part in (index if isinstance(index, tuple) else (index,)) if not isinstance(part, (int, slice))]
    return any(np.ndim(part) > 0 and np.asarray(part).dtype.kind in "iu" for part in parts)


def add_at(total, index, value):
    """Add `value` to an array at `index`, as often as the index repeats."""
    if not _repeats(index):
        total[index] += value
        return
    if total.dtype == np.float16:  # which cannot count beyond 2048
        sums = total.astype(np.float32)
        add_at(sums, index, value)
        total[...] = sums
        return
    value = np.broadcast_to(value, total[index].shape)  # np.add.at can read beyond the end of a shorter one
    if 8 * value.size <= total.size and max(total.ndim, value.ndim) <= 32:
        np.add.at(total, index, value)
        return
    places = np.arange(total.size).reshape(total.shape)[index]  # with one axis, it is five times as fast, ...
    flat = total.reshape(-1)
    np.add.at(flat, places.ravel(), value.ravel())  # ... and with more than 32, it crashes
    total[...] = flat.reshape(total.shape)  # which may have been a copy


@primitive(lambda g, ans, x, index, y: g, None, lambda g, ans, x, index, y: unbroadcast(g[index], np.shape(y)))
def put_add(x, index, value):
    """A copy of `x` in which `value` was added at `index`, and as often as the index repeats.

    >>> put_add(np.zeros(3), [0, 0, 2], 1.0)
    array([2., 0., 1.])
    """
    answer = np.array(x)
    add_at(answer, index, value)
    return answer


@primitive(
    lambda g, ans, x, index, y: put(g, index, 0),
    None,
    lambda g, ans, x, index, y: unbroadcast(g[index] * _lasting(x.shape, index), np.shape(y)),
)
def put(x, index, value):
    """A copy of `x` in which `value` stands at `index`; where the index repeats, the last value counts.

    >>> put(np.zeros(3), [0, 2], [5.0, 7.0])
    array([5., 0., 7.])
    """
    answer = np.array(x)
    answer[index] = value
    return answer


def _lasting(shape, index):
    """Which of the values that are put at `index` are not overwritten by a later one."""
    if not _repeats(index):
        return 1
    owner = np.zeros(shape, int)
    numbers = np.arange(owner[index].size).reshape(owner[index].shape)
    owner[index] = numbers
    return owner[index] == numbers


def spelled(*rules):
    """A primitive that is written in NumPy, so that the calls that it makes can be done in its place."""

    def register(function):
        shortcuts[function] = function
        return primitive(*rules)(function)

    return register


@spelled(lambda g, ans, x: -2 * g * ans * np.tanh(x))
def sech_squared(x):
    """The slope of tanh. Its own rule never meets the difference of numbers that are nearly equal, or overflows."""
    if x.dtype.kind == "c":
        z = np.exp(-2 * np.copysign(1, np.real(x)) * x)
        return 4 * z / np.square(1 + z)
    c = np.cosh(x)
    return 1 / (c * c)


@spelled(lambda g, ans, x: g * sech_squared(x / 2) / 4)
def logistic(x):
    """1 / (1 + exp(-x)) without overflow.

    >>> logistic(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    z = np.exp(np.copysign(x, -1))
    return np.maximum(z, np.greater_equal(x, 0)) / (1 + z)


@spelled(lambda g, ans, x: g * (ans != 0))
def positive_part(x):
    """The larger one of x and 0. Its derivative at 0 is 0, where that of maximum is a half."""
    return np.maximum(x, 0)


@spelled(lambda g, ans, x: -2 * g * x * ans * ans)
def arctan_slope(x):
    """1 / (1 + x**2). Its own rule has no power of x that overflows before the derivative is 0."""
    return 1 / (1 + x * x)


@spelled(lambda g, ans, x: -2 * g * x)
def one_minus_square(x):
    """(1 - x) * (1 + x), which keeps its digits near 1, with a derivative that keeps them near 0."""
    return (1 - x) * (1 + x) if x.dtype.kind != "c" else -(x - 1) * (x - -1)  # 1 - x would lose the side of a cut


@spelled(
    lambda g, ans, x, y, length: g * (y / length) * (y / length) / length,
    lambda g, ans, x, y, length: -g * (x / length) * (y / length) / length,
    None,
)
def cosine(x, y, length):
    """x / length for the `length` of (x, y), which goes with them; 0 at the origin, where only it has a derivative."""
    return np.where(length == 0, 0, x / length)


@spelled(lambda g, ans, total, p: g * root_slope(total, p=p))
def root(total, *, p):
    """The p-th root of a sum of powers; at 0, a kink, its derivative is 0, and that of its derivative is nan."""
    return np.sqrt(total) if p == 2 else total ** (1 / p)


@spelled(lambda g, ans, total, p: g * (1 / p - 1) * ans / total)
def root_slope(total, *, p):
    return np.where(total == 0, 0, total ** (1 / p) / total / p)


@spelled(lambda g, ans, x, peak: g, lambda g, ans, x, peak: -g)
def below(x, peak):
    """x - peak for a peak that is not lower, and 0 between equal infinities.

    >>> below(np.array([1.0, np.inf]), np.inf)
    array([-inf,   0.])
    """
    return np.fmin(quietly(np.subtract, x, peak), np.where(np.isnan(peak), peak, 0))


@primitive(lambda g, ans, x, **options: unwindowed(g, shape=x.shape, **options))
def windows(x, *, sizes, axes, steps=None, dilations=None):
    """A view of all windows of an array: their places stand on its own `axes`, and the `sizes` of windows come last.

    From one place to the next it is `steps` elements, and `dilations` from one element of a window to the next.

    >>> windows(np.arange(8), sizes=(3,), axes=(0,), steps=(2,), dilations=(2,))
    array([[0, 2, 4],
           [2, 4, 6]])
    """
    ones, shape, strides = (1,) * len(axes), list(x.shape), list(x.strides)
    for axis, size, dilation in zip(axes, sizes, dilations or ones, strict=True):
        shape[axis] -= (size - 1) * dilation
        strides.append(x.strides[axis] * dilation)
    for axis, step in zip(axes, steps or ones, strict=True):
        shape[axis] = (shape[axis] - 1) // step + 1
        strides[axis] *= step
    return as_strided(x, (*shape, *sizes), strides)


@primitive(lambda g, ans, x, shape, **options: windows(g, **options))
def unwindowed(x, *, shape, **options):
    """What every element of an array of this `shape` receives from all windows that it is in: their sum.

    >>> unwindowed(np.ones((3, 2)), shape=(4,), sizes=(2,), axes=(0,))
    array([1., 2., 2., 1.])
    """
    answer = np.zeros(shape, wide(x.dtype))
    parts = inspect.unwrap(windows)(answer, **options)
    for place in np.ndindex(*options["sizes"]):  # in the same place of all windows, no element comes twice
        here = ..., *place
        part = parts[here]
        part += x[here]
    return answer.astype(x.dtype, copy=False)


@primitive(lambda g, ans, x, order: g * sinc_slope(x, order=order + 1))
def sinc_slope(x, order):
    """The derivative of sinc of any order, by its power series near 0 and by recursion elsewhere.

    >>> sinc_slope(np.array([0.0, 1.0]), order=1)
    array([ 0., -1.])
    """
    angle = math.pi * np.asarray(x, np.result_type(x, float))
    near = np.abs(angle) < order + 2
    small, large = np.where(near, angle, 0), np.where(near, 1, angle)
    series, recursion = 0.0, np.sin(large) / large
    for k in range((order + 1) // 2, order + 30):
        series += (-1) ** k * small ** (2 * k - order) / ((2 * k + 1) * math.factorial(2 * k - order))
    for k in range(1, order + 1):
        recursion = (np.sin(large + k * math.pi / 2) - k * recursion) / large
    return np.asarray(math.pi**order * np.where(near, series, recursion), x.dtype)


@primitive(lambda g, ans, x, shape=None, *places: np.diagonal(g, *places or (0, -2, -1)))
def on_diagonal(x, shape=None, offset=0, axis1=-2, axis2=-1):
    """Zeros of a shape, or in square matrices, with `x` on the diagonals in two of the axes."""
    answer = np.zeros(shape or (*x.shape, x.shape[-1]), x.dtype)
    diagonal = np.diagonal(answer, offset, axis1, axis2)
    diagonal.flags.writeable = True
    diagonal[...] = x
    return answer


def concatenate(*arrays, axis):
    return np.concatenate(arrays, axis)


def divided(g, arrays, axis):
    """The parts of the gradient that belong to the arrays that were joined."""
    return np.split(g, np.cumsum([array.shape[axis] for array in arrays[:-1]], dtype=int), axis)


vjps[concatenate] = Selection(joint=lambda g, ans, *arrays, axis: divided(g, arrays, axis))
for function in map(inspect.unwrap, (put, positive_part)):
    vjps[function] = Choice(*vjps[function])
for function in map(inspect.unwrap, (put_add, windows, unwindowed, on_diagonal)):
    vjps[function] = Selection(*vjps[function])
