"""NumPy functions spelled with those that have rules, and those that have no derivative at all.

A composite takes NumPy's arguments, some of them Tensors, and needs no rule. To add one, write the function in NumPy
and say which NumPy function it spells.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from minigrad.rules import join, put
from minigrad.tensor import Tensor, call, composites, constants


def composite(*functions):
    """Register the decorated function as the spelling of NumPy's `functions`."""

    def register(spelling):
        composites.update(dict.fromkeys(functions, spelling))
        return spelling

    return register


def _array(x):
    """What NumPy takes `x` for: lists and numbers become arrays."""
    return x if isinstance(x, Tensor) else np.asarray(x)


@composite(np.where)
def where(condition, *branches):
    condition = _array(condition)
    return call(np.where, (condition, *branches)) if branches else np.nonzero(condition)


@composite(np.concatenate)
def concatenate(arrays, axis=0, dtype=None):
    arrays = [_array(array) for array in arrays]
    arrays = [np.ravel(array) for array in arrays] if axis is None else arrays
    answer = call(join, arrays, {"axis": axis or 0})
    return answer if dtype is None else answer.astype(dtype)


@composite(np.stack)
def stack(arrays, axis=0, dtype=None):
    return np.concatenate([np.expand_dims(array, axis) for array in arrays], axis, dtype=dtype)


@composite(np.split)
def split(x, indices_or_sections, axis=0):
    return _pieces(x, np.split(np.arange(x.shape[axis]), indices_or_sections), axis)


@composite(np.array_split)
def array_split(x, indices_or_sections, axis=0):
    return _pieces(x, np.array_split(np.arange(x.shape[axis]), indices_or_sections), axis)


def _pieces(x, pieces, axis):
    before = (slice(None),) * normalize_axis_index(axis, x.ndim)
    indices = [(*before, slice(piece[0], piece[-1] + 1) if piece.size else slice(0)) for piece in pieces]
    return [x[index] for index in indices]


@composite(np.mean)
def mean(x, axis=None, dtype=None, out=None, keepdims=False, where=True):
    if x.dtype == np.float16 and dtype is None:  # as NumPy does, since sums overflow
        return mean(x.astype(np.float32), axis, None, None, keepdims, where).astype(np.float16)
    options = {} if where is True else {"where": where}
    return call(np.sum, (x, axis, dtype, None, keepdims), options) / _count(x, axis, where, keepdims)


def _count(x, axis, where, keepdims):
    """How many elements go into each element of a reduction: a Python integer when it is the same everywhere."""
    if where is not True:
        return np.sum(np.broadcast_to(where, x.shape), axis=axis, dtype=x.dtype, keepdims=keepdims)
    return x.size if axis is None else math.prod(x.shape[i] for i in normalize_axis_tuple(axis, x.ndim))


@composite(np.var)
def var(x, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=True, mean=None, correction=None):
    if x.dtype == np.float16 and dtype is None:
        return var(x.astype(np.float32), axis, None, None, ddof, keepdims, where=where, mean=mean).astype(np.float16)
    ddof = ddof if correction is None else correction
    center = np.mean(x, axis=axis, dtype=dtype, keepdims=True, where=where) if mean is None else mean
    squares = np.sum(np.square(x - center), axis=axis, dtype=dtype, keepdims=keepdims, where=where)
    freedom = _count(x, axis, where, keepdims) - ddof
    return squares / (max(freedom, 0) if isinstance(freedom, (int, float)) else np.maximum(freedom, 0))


@composite(np.std)
def std(x, *args, **kwargs):
    variance = np.var(x, *args, **kwargs)
    return np.sqrt(np.where(variance == 0, 0, variance))  # so that the gradient is 0, not 0 / 0, where all are equal


@composite(np.clip)
def clip(x, a_min=None, a_max=None, out=None, *, min=None, max=None):
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


@composite(np.dot)
def dot(x, y):
    x, y = _array(x), _array(y)
    if x.ndim == 0 or y.ndim == 0:
        return np.multiply(x, y)
    if y.ndim <= 2:
        return np.matmul(x, y)
    columns = np.moveaxis(y, -2, 0)  # the sum goes over the last axis of x and the second-last of y
    product = np.matmul(x, np.reshape(columns, (len(columns), math.prod(columns.shape[1:]))))
    return np.reshape(product, (*x.shape[:-1], *columns.shape[1:]))


@composite(np.inner)
def inner(x, y):
    x, y = _array(x), _array(y)
    if x.ndim == 2 == y.ndim:
        return call(np.inner, (x, y))
    if x.ndim == 0 or y.ndim == 0:
        return np.multiply(x, y)
    (*before, m), (*behind, n) = x.shape, y.shape
    product = np.inner(np.reshape(x, (math.prod(before), m)), np.reshape(y, (math.prod(behind), n)))
    return np.reshape(product, (*before, *behind))


@composite(np.ravel)
def ravel(x, order="C"):
    return np.reshape(x, x.size, order=order)


@composite(np.repeat)
def repeat(x, repeats, axis=None):
    x, axis = (np.ravel(x), 0) if axis is None else (x, normalize_axis_index(axis, x.ndim))
    return x[(slice(None),) * axis + (np.repeat(np.arange(x.shape[axis]), repeats),)]


@composite(np.tile)
def tile(x, reps):
    reps = tuple(np.atleast_1d(reps))
    shape = (1,) * (len(reps) - x.ndim) + x.shape
    reps = (1,) * (x.ndim - len(reps)) + reps
    pairs = np.reshape(x, [length for n in shape for length in (1, n)])
    pairs = np.broadcast_to(pairs, [length for n, rep in zip(shape, reps, strict=True) for length in (rep, n)])
    return np.reshape(pairs, [rep * n for n, rep in zip(shape, reps, strict=True)])


@composite(np.pad)
def pad(x, pad_width, mode="constant", *, constant_values=0, reflect_type="even"):
    if mode == "constant":
        inside = np.pad(np.ones(x.shape, bool), pad_width)
        frame = np.pad(np.zeros(x.shape, x.dtype), pad_width, constant_values=constant_values)
        return put(frame, inside, np.ravel(x))
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise NotImplementedError(
            f"np.pad of a Tensor knows the modes constant, edge, reflect, symmetric and wrap, not {mode!r}"
        )
    if reflect_type != "even":
        raise NotImplementedError(f"np.pad of a Tensor knows reflect_type='even' only, not {reflect_type!r}")
    numbers = np.pad(np.arange(x.size).reshape(x.shape), pad_width, mode)
    return np.reshape(x, x.size)[numbers]


@composite(np.full_like)
def full_like(x, fill_value, dtype=None, order="K", subok=True, shape=None):
    answer = np.broadcast_to(fill_value, np.shape(x) if shape is None else shape)
    return answer.astype(x.dtype if dtype is None else dtype)


composites[np.divmod] = lambda x, y: (np.floor_divide(x, y), np.remainder(x, y))
composites[np.modf] = lambda x: (x - np.trunc(x), np.trunc(x))
composites[np.conjugate] = np.positive
composites[np.add.accumulate] = lambda x, axis=0, dtype=None: np.cumsum(x, axis, dtype)
composites[np.add.reduce] = lambda x, axis=0, **k: np.sum(x, axis, **k)
composites[np.multiply.reduce] = lambda x, axis=0, **k: np.prod(x, axis, **k)
composites[np.maximum.reduce] = lambda x, axis=0, **k: np.max(x, axis, **k)
composites[np.minimum.reduce] = lambda x, axis=0, **k: np.min(x, axis, **k)


@composite(np.cumprod)
def cumprod(x, axis=None, dtype=None):
    """By doubling, in log2(n) products, each of which has a derivative also where factors are zero."""
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    x = np.moveaxis(x if dtype is None else x.astype(dtype), axis, -1)
    step = 1
    while step < x.shape[-1]:
        x = np.concatenate([x[..., :step], x[..., step:] * x[..., :-step]], -1)
        step *= 2
    return np.moveaxis(x, -1, axis)


constants.update(
    {
        *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
        *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
        *(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.left_shift, np.right_shift),
        *(np.isnan, np.isinf, np.isfinite, np.isneginf, np.isposinf, np.signbit, np.isclose, np.allclose),
        *(np.argmax, np.argmin, np.argsort, np.nonzero, np.flatnonzero, np.count_nonzero, np.argwhere, np.searchsorted),
        *(np.any, np.all, np.array_equal, np.array_equiv, np.iscomplexobj, np.isrealobj),
        *(np.shape, np.ndim, np.size, np.result_type, np.zeros_like, np.ones_like, np.empty_like),
        *(np.array_repr, np.array_str, np.array2string, np.shares_memory, np.may_share_memory),
    }
)
