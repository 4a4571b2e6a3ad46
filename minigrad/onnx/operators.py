"""What functions of NumPy are in ONNX: tables of operators, and of what is spelled with others.

A rule is given a `Writer`, which writes an operator where one is called, as in `o.Add(x, y)`, and then what the call
was given: arrays, and numbers that may follow the batch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minigrad.compiler.graph import is_uniform
from minigrad.data.batches import rows_of_labels
from minigrad.engine import Function
from minigrad.nn.losses import excess, in_range, in_unit_interval
from minigrad.tables.rearrangements import normalized_indices
from minigrad.tables.rules import axes_of, concatenate, put, put_add, unwindowed, windows
from minigrad.transforms import argument

FIRST, LAST = -(2**63), 2**63 - 1  # beyond the ends of any axis


class Unfollowed(ValueError):
    """Something does not grow by as much with each sample of the batch."""


class Size(NamedTuple):
    """A number that follows the batch: `each` times the number of samples, and the `rest`."""

    each: Any
    rest: Any


def for_samples(x: Any, n: int) -> Any:
    """Numbers, and tuples of them, for `n` samples."""
    if isinstance(x, Size):
        return x.each * n + x.rest
    return tuple(for_samples(each, n) for each in x) if isinstance(x, (tuple, list)) else x


@dataclass(frozen=True, eq=False)
class FileArray:
    """An array in the file; `data` is what a constant is for the sizes, which gets a name where it is used."""

    name: str
    shape: tuple[Any, ...]
    dtype: np.dtype[Any]
    data: Any = None

    @property
    def ndim(self) -> int:
        return len(self.shape)


def hold_one_number(arrays: Sequence[Any]) -> bool:
    """Whether all elements of all arrays are one number."""
    return all(map(is_uniform, arrays)) and len({array.flat[0].tobytes() for array in arrays}) == 1


def computed_in(dtype: Any) -> Any:
    """The dtype in which numbers are computed, since operators do not know all integers."""
    return np.dtype(np.int64) if dtype.kind in "bu" or dtype in (np.int8, np.int16) else dtype


def as_computed(rule: Function) -> Function:
    """The same rule, for numbers of all dtypes: `o.dtype` is the one in which they are computed."""

    def spelled(o: Any, *args: Any, **kwargs: Any) -> Any:
        o.dtype = computed_in(o.answer.dtype)
        found = rule(o, *args, **kwargs)
        return found if o.dtype == o.answer.dtype else o.cast(found, o.answer.dtype)

    return spelled


# --------------------------------------------------------------------------------------- functions of elements, spelled


def is_below_zero(o: Any, x: Any) -> Any:
    """Where there is a minus, also before a zero."""
    return o.Less(o.Where(o.Equal(x, 0), o.Reciprocal(x), x), 0)


def remainder(o: Any, x: Any, y: Any) -> Any:
    if o.dtype.kind != "f":
        return o.Mod(x, y)
    rest = o.Mod(x, y, fmod=1)
    return o.Where(o.And(o.Not(o.Equal(rest, 0)), o.Xor(o.Less(rest, 0), o.Less(y, 0))), o.Add(rest, y), rest)


def floor_divide(o: Any, x: Any, y: Any) -> Any:
    ratio = o.Div(o.Sub(x, remainder(o, x, y)), y)
    return o.Round(ratio) if o.dtype.kind == "f" else ratio


def ratio_of(o: Any, x: Any, y: Any) -> Any:
    """x / y of two numbers that are not negative, 0 for zeros, and 1 for infinities."""
    return o.Where(o.Equal(x, y), o.Sign(x), o.Div(x, y))


def hypot(o: Any, x: Any, y: Any) -> Any:
    """The larger one times sqrt(1 + ratio**2), without a square that overflows."""
    small, large = o.Min(o.Abs(x), o.Abs(y)), o.Max(o.Abs(x), o.Abs(y))
    ratio, is_infinite = ratio_of(o, small, large), o.Or(o.IsInf(x), o.IsInf(y))
    return o.Where(is_infinite, math.inf, o.Mul(large, o.Sqrt(o.Add(o.Mul(ratio, ratio), 1))))


def arctan2(o: Any, y: Any, x: Any) -> Any:
    """The angle in the first quadrant, which the signs bring into the right one."""
    angle = o.Atan(ratio_of(o, o.Abs(y), o.Abs(x)))
    angle = o.Where(is_below_zero(o, x), o.Sub(math.pi, angle), angle)
    return o.Where(is_below_zero(o, y), o.Neg(angle), angle)


def logaddexp(o: Any, x: Any, y: Any, unit: float = 1.0) -> Any:
    gap = o.Where(o.Equal(x, y), 0, o.Abs(o.Sub(x, y)))  # equal infinities have no difference
    return o.Add(o.Max(x, y), o.Div(log1p(o, o.Exp(o.Mul(gap, -unit))), unit))


def log1p(o: Any, x: Any) -> Any:
    """The log of u = 1 + x, times x / (u - 1), where what u has lost cancels (Goldberg, 1991, theorem 4)."""
    u = o.Add(x, 1)
    back = o.Sub(u, 1)
    ratio = o.Where(o.Equal(back, x), 1, o.Div(x, back))
    return o.Where(o.Equal(u, 1), x, o.Mul(o.Log(u), ratio))


def sinc(o: Any, x: Any) -> Any:
    angle = o.Mul(o.Where(o.Equal(x, 0), 1e-20, x), math.pi)
    return o.Div(o.Sin(angle), angle)


# ------------------------------------------------------------------------------------------ other functions, spelled


def reshaped(o: Any, x: Any, shape: Any, order: str = "C") -> Any:
    """In another shape, in which one number that follows the batch need not be computed."""
    if order == "F":
        return o.Transpose(reshaped(o, o.Transpose(x), shape[::-1]))
    is_followed = [isinstance(n, Size) for n in shape]
    if sum(is_followed) == 1 and 0 not in shape:
        shape = [-1 if followed else n for n, followed in zip(shape, is_followed, strict=True)]
    return o.Reshape(x, shape, allowzero=int(0 in shape))


def axes_moved(function: Function, o: Any, x: Any, *how: Any, **options: Any) -> Any:
    """What the function makes of a shape of the numbers of axes says how they move."""
    return o.Transpose(x, perm=function(np.empty(tuple(range(x.ndim))), *how, **options).shape)


def elements_moved(function: Function, o: Any, x: Any, *how: Any, **options: Any) -> Any:
    """What the function makes of the places of elements says where they come from."""
    places = o.made(lambda shape: function(np.arange(math.prod(shape)).reshape(shape), *how, **options), x.shape)
    return o.Gather(o.Reshape(x, [-1]), places)


def repeated(o: Any, x: Any, repeats: int, axis: Any) -> Any:
    place = x.ndim if axis is None else axis % x.ndim + 1
    copies = o.Expand(o.Unsqueeze(x, [place]), [*x.shape[:place], repeats, *x.shape[place:]])
    return reshaped(o, copies, o.answer.shape)


def all_windows(o: Any, x: Any, sizes: Any, axes: Any, steps: Any = None, dilations: Any = None) -> Any:
    """Along each axis, the places of its windows; behind all axes, the elements of the windows."""
    ones, found = (1,) * len(axes), x
    before: Any = lambda axis: sum(other < axis for other in axes)
    starts: Any = lambda n, size, step, dilation: np.arange(0, n - (size - 1) * dilation, step)[:, None]
    places: Any = lambda n, size, step, dilation: starts(n, size, step, dilation) + dilation * np.arange(size)
    for axis, *how in sorted(zip(axes, sizes, steps or ones, dilations or ones, strict=True), reverse=True):
        found = o.Gather(found, o.made(places, x.shape[axis], *how), axis=axis)
    order = [axis + before(axis) for axis in range(x.ndim)]
    return o.Transpose(found, perm=[*order, *(axis + before(axis) + 1 for axis in axes)])


def indexed(o: Any, x: Any, index: Any) -> Any:
    """`x[index]`: first slices, then new axes, then numbers and arrays of places."""
    parts: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        part = o.fixed([np.asarray(part)] * len(o.sizes)) if isinstance(part, (list, tuple, bool)) else part
        is_mask = isinstance(part, FileArray) and part.dtype == np.bool_
        if is_mask and (part.data is None or not part.ndim):
            raise NotImplementedError("a mask chooses as many elements as it happens to: choose with np.where")
        parts += map(o.fixed, zip(*map(np.nonzero, part.data), strict=True)) if is_mask else [part]
    dots = next((i for i, part in enumerate(parts) if part is ...), len(parts))
    parts[dots : dots + 1] = [slice(None)] * (x.ndim - sum(part is not None and part is not ... for part in parts))
    old = [part for part in parts if part is not None]
    cuts = [(axis, *ends(part)) for axis, part in enumerate(old) if isinstance(part, slice)]
    if cuts := [cut for cut in cuts if cut[1:] != (0, LAST, 1)]:
        axes, starts, stops, steps = zip(*cuts, strict=True)
        x = o.Slice(x, starts, stops, axes, steps)
    if new := [i for i, part in enumerate(parts) if part is None]:
        x = o.Unsqueeze(x, new)
    chosen = [i for i, part in enumerate(parts) if part is not None and not isinstance(part, slice)]
    if len(chosen) <= 1 or not any(isinstance(parts[i], FileArray) for i in chosen):
        for i in reversed(chosen):
            x = o.Gather(x, o.cast(parts[i], np.int64), axis=i)
        return x
    shapes = [parts[i].shape if isinstance(parts[i], FileArray) else () for i in chosen]
    joint = [np.broadcast_shapes(*(for_samples(shape, n) for shape in shapes)) for n in o.sizes]
    shape, others = [*map(o.follow, zip(*joint, strict=True))], [i for i in range(len(parts)) if i not in chosen]
    places = [o.Unsqueeze(o.Expand(o.cast(parts[i], np.int64), shape), [-1]) for i in chosen]
    x = o.GatherND(o.Transpose(x, perm=[*chosen, *others]), o.Concat(*places, axis=-1))
    first = chosen[0] if chosen[-1] - chosen[0] < len(chosen) else 0  # where they stand if they are side by side
    order = [*range(len(shape), len(shape) + len(others))]
    return o.Transpose(x, perm=[*order[:first], *range(len(shape)), *order[first:]])


def ends(part: slice) -> tuple[Any, Any, Any]:
    """The start, stop and step of a slice."""
    step = 1 if part.step is None else part.step
    start, stop = (0, LAST) if step > 0 else (LAST, FIRST)
    return start if part.start is None else part.start, stop if part.stop is None else part.stop, step


def put_in(o: Any, x: Any, index: Any, value: Any, reduction: str = "none") -> Any:
    """Numbers at places."""
    if reduction == "none" and (padding := padded(o, x, index, value)):
        return padding
    places = indexed(o, o.places(x.shape), index)
    return scattered(o, x, places, o.Expand(o.cast(value, x.dtype), o.Shape(places)), reduction)


def padded(o: Any, x: Any, index: Any, value: Any) -> Any:
    """What is put into slices of a constant that is one number around them; None where it is not so."""
    is_cut = isinstance(index, tuple) and all(isinstance(part, slice) and part.step is None for part in index)
    if not is_cut or len(index) != x.ndim or x.data is None or not isinstance(value, FileArray):
        return None
    around, widths = [], []
    for array, n in zip(x.data, o.sizes, strict=True):
        parts = [slice(*for_samples((part.start, part.stop), n)) for part in index]
        cuts = [part.indices(m)[:2] for part, m in zip(parts, array.shape, strict=True)]
        is_around = np.ones(array.shape, bool)
        is_around[tuple(slice(*cut) for cut in cuts)] = False
        around.append(array[is_around])
        widths.append([start for start, _ in cuts] + [m - stop for m, (_, stop) in zip(array.shape, cuts, strict=True)])
        if for_samples(value.shape, n) != tuple(stop - start for start, stop in cuts):
            return None
    widths = list(map(o.follow, zip(*widths, strict=True)))
    return o.Pad(o.cast(value, x.dtype), widths, around[0].flat[0]) if hold_one_number(around) else None


def scattered(o: Any, x: Any, places: Any, values: Any, reduction: str = "none") -> Any:
    """Numbers at places in memory, in zeros unless there is an `x`."""
    x = o.Expand(0, o.answer.shape) if x is None else x
    flat = [o.Reshape(each, [-1]) for each in (x, places, values)]
    return reshaped(o, o.ScatterElements(*flat, axis=0, reduction=reduction), o.answer.shape)


def in_line(o: Any, x: Any, axis: Any) -> tuple[Any, Any, int]:
    """An array, its length along an axis, and the axis: without one, of all numbers in a line."""
    if axis is not None:
        return x, x.shape[axis], axis
    return o.Reshape(x, [-1]), o.follow(math.prod(for_samples(x.shape, n)) for n in o.sizes), 0


def ordered(o: Any, x: Any, axis: Any = -1, **options: Any) -> Any:
    """Sorted numbers, and where they come from."""
    x, n, axis = in_line(o, in_dtype(o, x, computed_in(x.dtype)), axis)
    return o.TopK(x, [n], axis=axis, largest=0, outputs=2)


def place_of(o: Any, operator: str, x: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    x, _, axis = in_line(o, in_dtype(o, x, computed_in(x.dtype)), axis)
    return reshaped(o, getattr(o, operator)(x, axis=axis), o.answer.shape)


def added_up(o: Any, x: Any, axis: Any = None, dtype: Any = None) -> Any:
    x, _, axis = in_line(o, x, axis)
    return o.CumSum(o.Cast(x, to=o.kind(o.dtype)), o.number(axis, np.int64))


def counted_before(o: Any, x: Any, values: Any, side: str = "left") -> Any:
    dtype = np.result_type(x.dtype, getattr(values, "dtype", values))
    compare = o.Less if side == "left" else o.LessOrEqual
    is_before = compare(o.cast(x, dtype), o.Unsqueeze(o.cast(values, dtype), [-1]))
    return o.ReduceSum(o.cast(is_before, np.int64), [-1], keepdims=0)


def convolved(o: Any, x: Any, y: Any) -> Any:
    """The product of all numbers with all numbers, in a product of matrices whose rows are windows."""
    padded = o.Pad(o.cast(x, o.dtype), [o.follow(for_samples(y.shape[0], n) - 1 for n in o.sizes)] * 2, 0)
    windows = o.made(lambda n, m: np.arange(n)[:, None] + np.arange(m)[::-1], o.answer.shape[0], y.shape[0])
    return o.MatMul(o.Gather(padded, windows), o.cast(y, o.dtype))


@as_computed
def reduced(o: Any, function: Function, operator: str, combine: str, start: Any, *args: Any, **kwargs: Any) -> Any:
    """A reduction, with all the options of NumPy's; `start` is what changes nothing."""
    given = inspect.signature(function).bind(*args, **kwargs).arguments
    given = {name: value for name, value in given.items() if type(value).__name__ != "_NoValueType"}
    x, initial, where = given["a"], given.get("initial"), given.get("where", True)
    found = o.cast(x, o.answer.dtype)
    found = found if o.dtype == o.answer.dtype else o.cast(found, o.dtype)
    if where is not True:
        found = o.Where(o.cast(where, bool), found, initial if start is None else start)
    if axes := axes_of(x, given.get("axis")):
        found = getattr(o, operator)(found, axes, keepdims=int(bool(given.get("keepdims"))))
    return found if initial is None else getattr(o, combine)(found, initial)


def in_dtype(o: Any, x: Any, dtype: Any) -> FileArray:
    return FileArray(o.cast(x, dtype), x.shape, np.dtype(dtype))


def on_diagonal(n: int, k: int) -> Any:
    return np.flatnonzero(np.diag(np.ones(n), k))


def summed_diagonal(o: Any, x: Any, *where: Any, **options: Any) -> Any:
    diagonal = elements_moved(np.diagonal, o, x, *where[:3], **options)
    return o.ReduceSum(o.Cast(diagonal, to=o.kind(o.dtype)), [-1], keepdims=0)


def rounded(o: Any, x: Any, decimals: int = 0) -> Any:
    if x.dtype.kind in "iu" and decimals >= 0:
        return x
    return o.Div(o.Round(o.Mul(x, 10.0**decimals)), 10.0**decimals)


def one_hot(o: Any, labels: Any, *, classes: int, dtype: Any) -> Any:
    numbers = o.fixed([np.arange(classes)] * len(o.sizes))
    return o.cast(str(o.Equal(o.Unsqueeze(o.cast(labels, np.int64), [-1]), numbers)), dtype)


def within(o: Any, indices: Any, n: Any, mode: str) -> Any:
    if mode == "raise":
        return indices
    return o.Mod(indices, n) if mode == "wrap" else o.Max(o.Min(indices, o.Sub(n, 1)), 0)


# The columns of the tables are kept aligned by hand, since that is how one reads a table.
# fmt: off

# Functions of elements: the operator of ONNX, or what it is spelled with. Operands, and numbers, are of the dtype in
# which NumPy computes.
ELEMENTS: dict[Any, Any] = {
    # operators
    np.positive: "Identity",        np.negative: "Neg",             np.absolute: "Abs",             np.fabs: "Abs",
    np.floor: "Floor",              np.ceil: "Ceil",                np.rint: "Round",               np.sign: "Sign",
    np.exp: "Exp",                  np.log: "Log",                  np.sqrt: "Sqrt",                np.sin: "Sin",
    np.cos: "Cos",                  np.tan: "Tan",                  np.arcsin: "Asin",              np.arccos: "Acos",
    np.arctan: "Atan",              np.sinh: "Sinh",                np.cosh: "Cosh",                np.tanh: "Tanh",
    np.arcsinh: "Asinh",            np.arccosh: "Acosh",            np.arctanh: "Atanh",            np.power: "Pow",
    np.add: "Add",                  np.subtract: "Sub",             np.multiply: "Mul",             np.divide: "Div",
    np.maximum: "Max",              np.minimum: "Min",              np.float_power: "Pow",
    np.bitwise_and: "BitwiseAnd",   np.bitwise_or: "BitwiseOr",     np.bitwise_xor: "BitwiseXor",
    np.reciprocal: "Reciprocal",    "scipy.special.erf": "Erf",     "scipy.special.expit": "Sigmoid",
    # spelled
    np.trunc:        lambda o, x: o.Mul(o.Sign(x), o.Floor(o.Abs(x))),
    np.square:       lambda o, x: o.Mul(x, x),
    np.cbrt:         lambda o, x: o.Mul(o.Sign(x), o.Pow(o.Abs(x), 1 / 3)),
    np.exp2:         lambda o, x: o.Pow(2, x),
    np.expm1:        lambda o, x: o.Mul(o.Tanh(o.Mul(x, 0.5)), o.Add(o.Exp(x), 1)),  # exp(x) - 1 would lose digits
    np.log2:         lambda o, x: o.Div(o.Log(x), math.log(2)),
    np.log10:        lambda o, x: o.Div(o.Log(x), math.log(10)),
    np.log1p:        log1p,
    **dict.fromkeys((np.deg2rad, np.radians), lambda o, x: o.Mul(x, math.pi / 180)),
    **dict.fromkeys((np.rad2deg, np.degrees), lambda o, x: o.Mul(x, 180 / math.pi)),
    np.invert:       lambda o, x: o.Equal(x, 0) if o.answer.dtype == bool else o.BitwiseNot(x),
    np.fmax:         lambda o, x, y: o.Where(o.IsNaN(x), y, o.Where(o.IsNaN(y), x, o.Max(x, y))),
    np.fmin:         lambda o, x, y: o.Where(o.IsNaN(x), y, o.Where(o.IsNaN(y), x, o.Min(x, y))),
    np.remainder:    remainder,
    np.fmod:         lambda o, x, y: o.Mod(x, y, fmod=1),
    np.floor_divide: floor_divide,
    np.heaviside:    lambda o, x, y: o.Where(o.Equal(x, 0), y, o.Max(o.Sign(x), 0)),
    np.copysign:     lambda o, x, y: o.Mul(o.Abs(x), o.Where(is_below_zero(o, y), -1, 1)),
    np.hypot:        hypot,
    np.arctan2:      arctan2,
    np.logaddexp:    logaddexp,
    np.logaddexp2:   lambda o, x, y: logaddexp(o, x, y, math.log(2)),
    np.ldexp:        lambda o, x, y: o.Mul(x, o.Pow(2, o.cast(y, o.dtype))),
}

# Those whose answers are true or false.
TESTS: dict[Any, Any] = {
    np.equal: "Equal",              np.less: "Less",                np.less_equal: "LessOrEqual",
    np.isnan: "IsNaN",              np.greater: "Greater",          np.greater_equal: "GreaterOrEqual",
    np.isinf: "IsInf",              np.logical_not: "Not",          np.logical_and: "And",
    np.logical_or: "Or",            np.logical_xor: "Xor",
    np.not_equal: lambda o, x, y: o.Not(o.Equal(x, y)),
    np.isfinite:  lambda o, x: o.Less(o.Abs(x), math.inf),
    np.signbit:   is_below_zero,
}

# All others. `o.answer` has the shape and the dtype of the answer, and numbers are of this dtype.
RULES: dict[Any, Any] = {
    # the same numbers
    **dict.fromkeys((argument, np.copy, in_unit_interval), lambda o, x, *a, **k: x),
    np.ndarray.astype: lambda o, x, *a, **k: o.cast(x, o.dtype),
    in_range:          lambda o, x, ignore=None, **k: x if ignore is None else o.Where(o.Equal(x, ignore), 0, x),
    excess:            lambda o, x: o.Sub(o.Min(o.Max(x, 0), 1), x),
    # in another form
    np.reshape:        lambda o, x, shape, order="C", **k: reshaped(o, x, o.answer.shape, order),
    **dict.fromkeys((np.squeeze, np.expand_dims), lambda o, x, *a, **k: reshaped(o, x, o.answer.shape)),
    **{f: partial(axes_moved, f) for f in (np.transpose, np.swapaxes, np.moveaxis)},
    **{f: partial(elements_moved, f) for f in (np.flip, np.roll, np.rot90, np.diagonal, sliding_window_view)},
    windows:           all_windows,
    np.broadcast_to:   lambda o, x, *a, **k: o.Expand(o.cast(x, o.dtype), o.answer.shape),
    np.repeat:         repeated,
    concatenate:       lambda o, *arrays, axis: o.Concat(*(o.cast(x, o.dtype) for x in arrays), axis=axis),
    # chosen, put and ordered
    getitem:           indexed,
    np.where:          as_computed(lambda o, c, x, y: o.Where(o.cast(c, bool), o.cast(x, o.dtype), o.cast(y, o.dtype))),
    put:               put_in,
    put_add:           lambda o, x, index, value: put_in(o, x, index, value, "add"),
    unwindowed:        lambda o, x, shape, **k: scattered(o, None, all_windows(o, o.places(shape), **k), x, "add"),
    np.diag:           lambda o, x, k=0: scattered(o, None, o.made(on_diagonal, x.shape[0], k), x),
    np.sort:           as_computed(lambda o, *a, **k: ordered(o, *a, **k)[0]),
    np.argsort:        lambda o, *a, **k: ordered(o, *a, **k)[1],
    np.argmax:         lambda o, *a, **k: place_of(o, "ArgMax", *a, **k),
    np.argmin:         lambda o, *a, **k: place_of(o, "ArgMin", *a, **k),
    np.searchsorted:   counted_before,
    normalized_indices: within,
    rows_of_labels:    one_hot,
    # products and sums
    np.matmul:         as_computed(lambda o, x, y: o.MatMul(o.cast(x, o.dtype), o.cast(y, o.dtype))),
    np.inner:          as_computed(lambda o, x, y: o.MatMul(o.cast(x, o.dtype), o.Transpose(o.cast(y, o.dtype)))),
    np.einsum:         as_computed(lambda o, how, *xs, **k: o.Einsum(*(o.cast(x, o.dtype) for x in xs), equation=how)),
    np.convolve:       as_computed(convolved),
    np.linalg.det:     lambda o, x: o.Det(x),
    np.sum:            lambda o, *a, **k: reduced(o, np.sum, "ReduceSum", "Add", 0, *a, **k),
    np.prod:           lambda o, *a, **k: reduced(o, np.prod, "ReduceProd", "Mul", 1, *a, **k),
    np.max:            lambda o, *a, **k: reduced(o, np.max, "ReduceMax", "Max", None, *a, **k),
    np.min:            lambda o, *a, **k: reduced(o, np.min, "ReduceMin", "Min", None, *a, **k),
    np.trace:          as_computed(lambda o, x, *a, dtype=None, **k: summed_diagonal(o, x, *a, **k)),
    np.any:            lambda o, *a, **k: reduced(o, np.any, "ReduceMax", "Max", 0, *a, **k),
    np.all:            lambda o, *a, **k: reduced(o, np.all, "ReduceMin", "Min", 1, *a, **k),
    np.count_nonzero:  lambda o, x, *a, **k: reduced(o, np.sum, "ReduceSum", "Add", 0, in_dtype(o, x, bool), *a, **k),
    np.cumsum:         as_computed(added_up),
    np.round:          rounded,
    np.sinc:           sinc,
    np.isposinf:       lambda o, x: o.IsInf(x, detect_negative=0),
    np.isneginf:       lambda o, x: o.IsInf(x, detect_positive=0),
}

checks = excess, in_range, in_unit_interval, normalized_indices, rows_of_labels
for function in (*checks, put, put_add, unwindowed, windows):
    RULES[inspect.unwrap(function)] = RULES.pop(function)  # as a trace has it
# fmt: on
