"""NumPy functions that move, repeat, drop or choose numbers without changing them."""

from functools import partial
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from minigrad.engine import (  # isort: skip
    Tensor, as_array, as_tensor, call, composites, constant, looked_at, mapped, numbers_of,
)  # fmt: skip
from minigrad.tables import rules
from minigrad.tables.composites import composite
from minigrad.tables.rules import axes_of, put

# --------------------------------------------------------------------------------------------- joined and split


@composite(np.concatenate)
def concatenate(arrays, axis=0, dtype=None):
    arrays = [as_array(array) for array in arrays]
    arrays = [np.ravel(array) for array in arrays] if axis is None else arrays
    answer = call(rules.concatenate, arrays, {"axis": axis or 0})
    return answer if dtype is None else answer.astype(dtype)


def _pieces(function, x, sections, axis):
    before = (slice(None),) * normalize_axis_index(axis, x.ndim)
    pieces = function(np.arange(x.shape[axis]), looked_at(sections))
    indices = [(*before, slice(piece[0], piece[-1] + 1) if piece.size else slice(0)) for piece in pieces]
    return [x[index] for index in indices]


@composite(np.hstack)
def hstack(arrays, *, dtype=None, casting="same_kind"):
    arrays = [np.atleast_1d(array) for array in arrays]
    return np.concatenate(arrays, 0 if arrays and arrays[0].ndim == 1 else 1, dtype=dtype)


@composite(np.block)
def block(arrays):
    """Blocks are numbered as they come, and NumPy's own function puts the numbers together."""
    blocks = []

    def collect(block):
        blocks.append(block)
        return len(blocks) - 1

    places = mapped(collect, arrays)
    return rearranged(lambda *numbers: np.block(mapped(numbers.__getitem__, places)), *blocks)


# fmt: off
composites[np.stack]        = lambda arrays, axis=0, dtype=None: \
                              np.concatenate([np.expand_dims(x, axis) for x in arrays], axis, dtype=dtype)
composites[np.vstack]       = lambda arrays, *, dtype=None, casting="same_kind": \
                              np.concatenate([np.atleast_2d(x) for x in arrays], 0, dtype=dtype)
composites[np.dstack]       = lambda arrays: np.concatenate([np.atleast_3d(x) for x in arrays], 2)
composites[np.column_stack] = lambda arrays: \
                              np.concatenate([np.atleast_2d(x).T if np.ndim(x) < 2 else x for x in arrays], 1)
composites[np.append]       = lambda arr, values, axis=None: np.concatenate([arr, values], axis)

composites[np.split]        = lambda x, indices_or_sections, axis=0: _pieces(np.split, x, indices_or_sections, axis)
composites[np.array_split]  = lambda x, indices_or_sections, axis=0: \
                              _pieces(np.array_split, x, indices_or_sections, axis)
composites[np.hsplit]       = lambda x, indices_or_sections: np.split(x, indices_or_sections, int(x.ndim > 1))
composites[np.vsplit]       = lambda x, indices_or_sections: np.split(x, indices_or_sections, 0)
composites[np.dsplit]       = lambda x, indices_or_sections: np.split(x, indices_or_sections, 2)
# fmt: on
composite(getattr(np, "unstack", None))(lambda x, /, *, axis=0: tuple(np.moveaxis(x, axis, 0)))


# ------------------------------------------------------------------------------------------------ other shapes


@composite(np.repeat)
def repeat(x, repeats, axis=None):
    if isinstance(repeats, (int, np.integer)) and x.ndim:
        return call(np.repeat, (x, int(repeats), axis))
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


@composite(np.reshape)
def reshape(x, shape, order="C", **options):
    """In the order of the memory of `x` where that is asked for, which is not that of its gradient."""
    if order == "A":
        flags = _memory(x, order).flags
        order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
    return call(np.reshape, (x, shape), {"order": order, **options} if options or order != "C" else {})


@composite(np.ravel)
def ravel(x, order="C"):
    if order == "K":  # along the axes as they lie in memory
        steps = [abs(step) for step in _memory(x, order).strides]
        x, order = np.transpose(x, np.argsort([-step for step in steps], kind="stable")), "C"
    return np.reshape(x, x.size, order=order)


def _memory(x, order):
    array = numbers_of(x)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"order={order!r} goes by the memory of an array, and here is none yet: say order='C' or 'F'")
    return array


def _with_more_axes(function, *arrays):
    """What a function that only inserts axes makes of one array or several: what it makes of a shape says it all."""
    answers = [np.reshape(x, function(np.broadcast_to(0, np.shape(x))).shape) for x in arrays]
    return answers[0] if len(answers) == 1 else tuple(answers)


@composite(np.meshgrid)
def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    grids = [np.reshape(x, [-1 if i == k else 1 for k in range(len(xi))]) for i, x in enumerate(xi)]
    if indexing == "xy" and len(xi) > 1:
        grids = [np.swapaxes(grid, 0, 1) for grid in grids]
    return tuple(grids if sparse else np.broadcast_arrays(*grids))


# fmt: off
composites[np.atleast_1d]       = partial(_with_more_axes, np.atleast_1d)
composites[np.atleast_2d]       = partial(_with_more_axes, np.atleast_2d)
composites[np.atleast_3d]       = partial(_with_more_axes, np.atleast_3d)

composites[np.fliplr]           = lambda x: np.flip(x, 1)
composites[np.flipud]           = lambda x: np.flip(x, 0)
composites[np.matrix_transpose] = lambda x, /: np.swapaxes(x, -1, -2)
composites[np.astype]           = lambda x, dtype, /, *, copy=True, device=None: x.astype(dtype)
composites[np.broadcast_arrays] = lambda *arrays, subok=False: \
                                  tuple(np.broadcast_to(x, np.broadcast_shapes(*map(np.shape, arrays))) for x in arrays)
composites[np.full_like]        = lambda x, fill_value, dtype=None, order="K", subok=True, shape=None: \
                                  np.broadcast_to(fill_value, np.shape(x) if shape is None else shape) \
                                  .astype(x.dtype if dtype is None else dtype)
composites[np.ix_]              = lambda *args: tuple(np.meshgrid(*args, sparse=True, indexing="ij"))
# fmt: on

# ------------------------------------------------------------------------------------------------- other places


def rearranged(function, *arrays):
    """What `function` makes of arrays whose numbers it moves, repeats, drops, or fills up with zeros."""
    # It is shown the whole numbers 1, 2, 3, ..., and where it puts them says where everything comes from.
    sources = [as_array(x) for x in arrays]
    ends = np.cumsum([1, *(x.size for x in sources)])[1:]
    numbers = [np.arange(end - x.size, end).reshape(x.shape) for x, end in zip(sources, ends, strict=True)]
    zero = np.zeros(1, np.result_type(*(x.dtype for x in sources)))
    source = np.concatenate([zero, *map(np.ravel, sources)])
    places = function(*numbers)
    return [source[place] for place in places] if isinstance(places, (list, tuple)) else source[places]


def _rearranging(function):
    return lambda x, *args, **kwargs: rearranged(lambda x: function(x, *looked_at(args), **looked_at(kwargs)), x)


# fmt: off
composites[np.rollaxis]        = lambda x, axis, start=0: \
                                 np.transpose(x, np.rollaxis(np.empty(tuple(range(x.ndim))), axis, start).shape)
composites[np.delete]          = _rearranging(np.delete)
composites[np.resize]          = _rearranging(np.resize)
composites[np.diagflat]        = lambda v, k=0: np.diag(np.ravel(v), k)
# fmt: on


@composite(np.insert)
def insert(arr, obj, values, axis=None):
    arr = as_array(arr)
    values = as_array(values).astype(arr.dtype)
    return rearranged(lambda arr, values: np.insert(arr, looked_at(obj), values, axis), arr, values)


@composite(np.take)
def take(x, indices, axis=None, out=None, mode="raise"):
    x, axis = (np.ravel(x), 0) if axis is None else (x, normalize_axis_index(axis, x.ndim))
    return as_tensor(x)[(slice(None),) * axis + (normalized_indices(indices, x.shape[axis], mode),)]


@constant
def normalized_indices(indices, n, mode):
    """Indices from 0 to n - 1."""
    return np.take(np.arange(n), indices, mode=mode)


@composite(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    x, axis = (np.ravel(arr), 0) if axis is None else (as_array(arr), normalize_axis_index(axis, arr.ndim))
    if np.ndim(indices) != x.ndim:
        raise ValueError(f"np.take_along_axis needs as many axes in its indices, {np.ndim(indices)}, as in {x.shape}")
    index: list[Any] = [*np.indices(x.shape, sparse=True)]
    index[axis] = indices
    return as_tensor(x)[tuple(index)]


composites[np.compress] = lambda condition, a, axis=None, out=None: np.take(a, np.flatnonzero(condition), axis)
composites[np.extract] = lambda condition, arr: np.take(arr, np.flatnonzero(condition))


@composite(np.choose)
def choose(a, choices, out=None, mode="raise"):
    *choices, a = np.broadcast_arrays(*choices, a)
    index = normalized_indices(a, len(choices), mode), *np.indices(a.shape, sparse=True)
    return as_tensor(np.stack(choices))[index]


@composite(np.select)
def select(condlist, choicelist, default=0):
    answer = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        answer = np.where(condition, choice, answer)
    return answer


@composite(np.piecewise)
def piecewise(x, condlist, funclist, *args, **kw):
    """Every function sees only the numbers of its own piece; a later piece counts where two overlap."""
    conditions = np.asarray(looked_at(condlist), bool)
    if conditions.ndim == 0 or (conditions.ndim == 1 and x.ndim != 0):
        conditions = conditions[None]
    if len(funclist) == len(conditions) + 1:  # the last one is for all the rest
        conditions = np.concatenate([conditions, ~np.any(conditions, axis=0, keepdims=True)])
    answer = np.zeros(x.shape, x.dtype)
    for condition, function in zip(conditions, funclist, strict=True):
        answer = put(answer, condition, function(x[condition], *args, **kw) if callable(function) else function)
    return answer


def _lower(m, k):
    return np.tri(m.shape[-2] if m.ndim > 1 else m.shape[-1], m.shape[-1], k, bool)


composites[np.tril] = lambda m, k=0: np.where(_lower(m, k), m, 0)
composites[np.triu] = lambda m, k=0: np.where(_lower(m, k - 1), 0, m)


@composite(np.trim_zeros)
def trim_zeros(filt, trim="fb", axis=None):
    places = np.argwhere(filt)
    index = [slice(None)] * filt.ndim
    for i in axes_of(filt, axis):
        start = (places[:, i].min() if len(places) else 0) if "f" in trim.lower() else 0
        stop = (places[:, i].max() + 1 if len(places) else 0) if "b" in trim.lower() else filt.shape[i]
        index[i] = slice(start, stop) if len(places) else slice(0)
    return filt[tuple(index)]


@composite(np.pad)
def pad(x, pad_width, mode="constant", *, constant_values=0, reflect_type="even"):
    if mode == "constant" and isinstance(constant_values, Tensor):
        values = np.broadcast_to(constant_values.astype(x.dtype), (x.ndim, 2))
        return rearranged(lambda x, values: np.pad(x, pad_width, constant_values=values), x, values)
    if mode == "constant":
        frame = np.pad(np.zeros(x.shape, x.dtype), pad_width, constant_values=constant_values)
        if isinstance(pad_width, dict):
            pad_width = [pad_width.get(axis, pad_width.get(axis - x.ndim, 0)) for axis in range(x.ndim)]
            pad_width = [np.broadcast_to(widths, 2) for widths in pad_width]
        starts = np.broadcast_to(pad_width, (x.ndim, 2))[:, 0].tolist()
        return put(frame, tuple(map(slice, starts, np.add(starts, x.shape).tolist())), x)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise NotImplementedError(f"np.pad of a Tensor knows constant, edge, reflect, symmetric and wrap, not {mode!r}")
    if reflect_type != "even":
        raise NotImplementedError(f"np.pad of a Tensor knows reflect_type='even' only, not {reflect_type!r}")
    return rearranged(lambda x: np.pad(x, pad_width, mode), x)
