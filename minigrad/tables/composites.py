"""NumPy's mathematics, spelled with functions that have rules.

A composite takes NumPy's arguments, some of them Tensors, and needs no rule. To add one, write the function in NumPy
and say which NumPy function it spells.
"""

import functools
import math
import reprlib
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from minigrad.engine import (  # isort: skip
    Function, Tensor, any_mode, as_array, as_tensor, call, call_other, composites, constant, elsewhere, looked_at,
    name_of, numbers_of, vjps,
)  # fmt: skip
from minigrad.tables.rules import axes_of, below, flipped, kept, lines_along, put_add, root, wide


def composite(*functions):
    """Register the decorated function as the spelling of NumPy's `functions`; None stands for one it does not have."""

    def register(spelling):
        composites.update(dict.fromkeys(filter(None, functions), spelling))
        return spelling

    return register


def composition(function: Function) -> Function:
    """Let modes see a function that is made of others, and depends on its arguments alone, as one call."""
    composites[function] = function

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if kwargs and (came := elsewhere.keys() & kwargs):
            raise TypeError(f"{name_of(function)} has no {min(came)}=: write {elsewhere[min(came)]}.")
        if any_mode() is not None:
            for argument in args:
                if isinstance(argument, Tensor):
                    return call_other(function, args, kwargs)
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError) as error:
            name, x = name_of(function), args[0] if args else 0.0
            if not str(error).startswith(name) and (as_array(x).dtype.kind not in "biufc" or type(x) in (list, tuple)):
                raise TypeError(f"{name} got {reprlib.repr(x)}; wanted numbers: an array, or a Tensor.") from error
            raise

    return wrapper


@composite(np.where)
def where(condition, *branches):
    condition = as_array(condition)
    return call(np.where, (condition, *branches)) if branches else np.nonzero(condition)


@composite(np.mean)
def mean(x, axis=None, dtype=None, out=None, keepdims=False, where=True):
    if x.dtype == np.float16 and dtype is None:  # as NumPy does, since sums overflow
        return mean(x.astype(np.float32), axis, None, None, keepdims, where).astype(np.float16)
    if axis is None and dtype is None and where is True and not keepdims:
        return call(np.sum, (x,)) / x.size
    options = {} if where is True else {"where": where}
    return call(np.sum, (x, axis, dtype, None, keepdims), options) / _count(x, axis, where, keepdims)


def _count(x, axis, where, keepdims):
    """How many elements go into each element of a reduction: a Python integer when it is the same everywhere."""
    if where is not True:
        return np.sum(np.broadcast_to(where, x.shape), axis=axis, dtype=wide(x.dtype), keepdims=keepdims)
    return math.prod(x.shape[i] for i in axes_of(x, axis))


@composite(np.var)
def var(x, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=True, mean=None, correction=None):
    if x.dtype == np.float16 and dtype is None:
        return var(x.astype(np.float32), axis, None, None, ddof, keepdims, where=where, mean=mean).astype(np.float16)
    ddof = ddof if correction is None else correction
    center = np.mean(x, axis=axis, dtype=dtype, keepdims=True, where=where) if mean is None else mean
    squares = squared(x - center)
    freedom = _count(squares, axis, where, keepdims) - ddof
    total = np.sum(squares, axis=axis, dtype=dtype, keepdims=keepdims, where=where)
    return total / (max(freedom, 0) if isinstance(freedom, (int, float)) else np.maximum(freedom, 0))


composites[np.std] = lambda x, *args, **kwargs: root(np.var(x, *args, **kwargs), p=2)


@composite(np.clip)
def clip(x, a_min=None, a_max=None, out=None, *, min=None, max=None):
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    equal = np.equal(low, high) if low is not None and high is not None else False
    if isinstance(equal, Tensor) or np.any(equal):
        x = np.where(equal & ~np.isnan(x), low, x)  # between equal bounds nothing depends on x
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


@composite(np.dot)
def dot(x, y):
    x, y = as_array(x), as_array(y)
    if x.ndim == 0 or y.ndim == 0:
        return np.multiply(x, y)
    if y.ndim <= 2:
        return np.matmul(x, y)
    return np.tensordot(x, y, (-1, -2))


@composite(np.inner)
def inner(x, y):
    x, y = as_array(x), as_array(y)
    if x.ndim == 2 == y.ndim:
        return call(np.inner, (x, y))
    if x.ndim == 0 or y.ndim == 0:
        return np.multiply(x, y)
    (*before, m), (*behind, n) = x.shape, y.shape
    product = np.inner(np.reshape(x, (math.prod(before), m)), np.reshape(y, (math.prod(behind), n)))
    return np.reshape(product, (*before, *behind))


# --------------------------------------------------------------------------------------------- sums and averages


composites[np.ptp] = lambda x, *args, **kwargs: np.max(x, *args, **kwargs) - np.min(x, *args, **kwargs)


@composite(np.average)
def average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    a = as_array(a)
    if weights is None:
        answer = np.mean(a, axis=axis, keepdims=keepdims)
        total = np.full(answer.shape, _count(a, axis, True, keepdims), answer.dtype)
        return (answer, total) if returned else answer
    weights = as_array(weights)
    if weights.shape != a.shape:  # they belong to the axes that are averaged
        axes = axes_of(a, axis)
        weights = np.transpose(weights, np.argsort(axes))
        weights = np.reshape(weights, [n if i in axes else 1 for i, n in enumerate(a.shape)])
    dtype = np.result_type(a.dtype, weights.dtype)
    total = np.sum(np.broadcast_to(weights, a.shape), axis=axis, dtype=dtype, keepdims=keepdims)
    answer = np.sum(a * weights, axis=axis, keepdims=keepdims) / total
    return (answer, total) if returned else answer


def _cumulative(function, initial, x, /, *, axis=None, dtype=None, out=None, include_initial=False):
    if axis is None and x.ndim != 1:
        raise ValueError("an array of several axes has no order of its own: say axis=")
    axis = axis or 0
    answer = function(x, axis, dtype)
    if not include_initial:
        return answer
    return np.concatenate([initial(kept(x, axis), answer.dtype), answer], axis)


composite(getattr(np, "cumulative_sum", None))(functools.partial(_cumulative, np.cumsum, np.zeros))
composite(getattr(np, "cumulative_prod", None))(functools.partial(_cumulative, np.cumprod, np.ones))


@composite(np.bincount)
def bincount(x, weights=None, minlength=0):
    counts = np.bincount(looked_at(x), minlength=minlength)
    if np.iscomplexobj(weights):
        raise TypeError("np.bincount takes real weights: count the real and imaginary parts apart")
    return counts if weights is None else put_add(np.zeros(len(counts)), looked_at(x), weights)


@composite(np.cov)
def cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    m = _rows_of(m, rowvar)
    m = m if y is None else np.concatenate([m, _rows_of(y, rowvar)])
    m = m.astype(np.result_type(m.dtype, np.float64) if dtype is None else dtype)
    weights, ddof = None, (int(not bias) if ddof is None else ddof)
    for some in (fweights, aweights):
        weights = some if weights is None else weights if some is None else weights * some
    m = m - np.average(m, axis=1, weights=weights, keepdims=True)
    if weights is None:
        return np.squeeze(m @ adjoint(m) / (m.shape[1] - ddof))
    total = np.sum(weights)
    freedom = total - (ddof if aweights is None else ddof * np.sum(weights * aweights) / total)
    return np.squeeze((m * weights) @ adjoint(m) / freedom)


def conjugate(x):
    """The complex conjugate, for which real numbers need no call."""
    return np.conjugate(x) if x.dtype.kind == "c" else x


def adjoint(x):
    """The matrix, or stack of matrices, transposed, and conjugate."""
    return flipped(conjugate(x))


def squared(x):
    """The square of the size of each number."""
    return np.square(x) if x.dtype.kind != "c" else np.square(np.real(x)) + np.square(np.imag(x))


def _rows_of(x, rowvar):
    rows = np.atleast_2d(x)
    return rows if rowvar or np.ndim(x) < 2 else rows.T


@composite(np.corrcoef)
def corrcoef(x, y=None, rowvar=True, *, dtype=None):
    c = np.cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviation = np.sqrt(np.real(np.diagonal(c)))
    c = c / deviation[:, None] / deviation[None, :]
    return np.clip(c, -1, 1) if c.dtype.kind != "c" else np.clip(np.real(c), -1, 1) + 1j * np.clip(np.imag(c), -1, 1)


# ---------------------------------------------------------------------------- leaving out what is not a number


def _numbers(x, where, filler=0):
    """The array with a filler for every nan, and which elements are numbers."""
    x = as_array(x)
    present = ~np.isnan(x)
    return np.where(present, x, filler), present if where is True else present & where


@composite(np.nanmean)
def nanmean(x, axis=None, dtype=None, out=None, keepdims=False, *, where=True):
    x, where = _numbers(x, where)
    return np.mean(x, axis=axis, dtype=dtype, keepdims=keepdims, where=where)


@composite(np.nanvar)
def nanvar(x, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=True, mean=None, correction=None):
    x, where = _numbers(x, where)
    options = {"axis": axis, "dtype": dtype, "ddof": ddof if correction is None else correction, "keepdims": keepdims}
    return np.var(x, where=where, **options, **({} if mean is None else {"mean": mean}))


# fmt: off
composites[np.nansum]     = lambda x, *args, **kwargs: np.sum(_numbers(x, True)[0], *args, **kwargs)
composites[np.nanprod]    = lambda x, *args, **kwargs: np.prod(_numbers(x, True, 1)[0], *args, **kwargs)
composites[np.nancumsum]  = lambda x, axis=None, dtype=None, out=None: np.cumsum(_numbers(x, True)[0], axis, dtype)
composites[np.nancumprod] = lambda x, axis=None, dtype=None, out=None: np.cumprod(_numbers(x, True, 1)[0], axis, dtype)
composites[np.nanstd]     = lambda x, *args, **kwargs: root(np.nanvar(x, *args, **kwargs), p=2)
composites[np.nanmax]     = lambda x, axis=None, out=None, keepdims=False, **options: \
                            np.fmax.reduce(x, axis=axis, keepdims=keepdims, **options)
composites[np.nanmin]     = lambda x, axis=None, out=None, keepdims=False, **options: \
                            np.fmin.reduce(x, axis=axis, keepdims=keepdims, **options)
# fmt: on


@composite(np.nan_to_num)
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    x = as_array(x)
    if x.dtype.kind == "c":
        real, imag = (np.nan_to_num(part, copy, nan, posinf, neginf) for part in (np.real(x), np.imag(x)))
        return real + 1j * imag
    if x.dtype.kind != "f":
        return np.copy(x)
    largest = np.finfo(x.dtype).max
    x = np.where(np.isnan(x), nan, x)
    x = np.where(np.isposinf(x), largest if posinf is None else posinf, x)
    return np.where(np.isneginf(x), -largest if neginf is None else neginf, x)


# ------------------------------------------------------------------------------------------------------ quantiles


def _quantile(
    function, skip_nan, a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False, weights=None
):
    if isinstance(q, Tensor):
        raise NotImplementedError(f"np.{function.__name__} of a Tensor takes a q of plain numbers")
    a = as_array(a)
    axis = axis if axis is None else normalize_axis_tuple(axis, a.ndim)
    unsorted, put_back = lines_along(a, axis)
    lines = np.sort(unsorted)
    dtype, q = function(np.ones(1, a.dtype), q, method=method).dtype, np.asarray(q)
    if not lines.shape[-1]:  # of no numbers it is nan, as their mean is
        mean = np.mean(a, axis, keepdims=keepdims)
        return np.broadcast_to(mean, (*q.shape, *mean.shape))
    if weights is None:
        positions = _positions_when_sorted(lines, function, q, method, skip_nan)
    else:
        choose = getattr(np, f"nan{function.__name__}") if skip_nan else function
        choose = functools.partial(choose, q=q, axis=axis, method=method)
        positions = _weighted_positions(unsorted, weights, put_back, choose)
    low = np.floor(positions).astype(int)
    share = (positions - low).astype(dtype)
    *shape, n = lines.shape
    rows = np.arange(math.prod(shape)).reshape(shape) * n
    flat = np.ravel(lines)
    lower, upper = flat[rows + low], flat[rows + np.ceil(positions).astype(int)]
    same = (share == 0) | (upper == lower)  # infinities have no difference
    gap = np.where(same, 0, upper) - np.where(same, 0, lower)
    answer = np.where(share < 0.5, lower + gap * share, upper - gap * (1 - share)).astype(dtype)
    return np.reshape(answer, (*q.shape, *kept(a, axis))) if keepdims else answer


@constant
def _positions_when_sorted(lines, function, q, method, skip_nan):
    """Between which of the sorted numbers the quantiles lie: nan is sorted to the end."""
    # How NumPy interpolates is seen from what it makes of 0, 1, 2, ...
    n = lines.shape[-1]
    counts = np.count_nonzero(~np.isnan(lines), axis=-1)
    positions = np.full((*q.shape, *lines.shape[:-1]), n - 1.0)
    for count in {*np.ravel(counts).tolist()} - ({0} if skip_nan else {*range(n)}):
        positions[..., counts == count] = function(np.arange(float(count)), q, method=method)[..., None]
    return positions


@constant
def _weighted_positions(unsorted, weights, put_back, choose):
    """Which of the sorted numbers a quantile with weights chooses: shown their ranks, it says so."""
    ranks = np.where(np.isnan(unsorted), np.nan, np.argsort(np.argsort(unsorted)))
    chosen = choose(put_back(ranks), weights=weights)
    return np.where(np.isnan(chosen), unsorted.shape[-1] - 1.0, chosen)  # nan is sorted to the end


# fmt: off
composites[np.quantile]      = functools.partial(_quantile, np.quantile, False)
composites[np.percentile]    = functools.partial(_quantile, np.percentile, False)
composites[np.nanquantile]   = functools.partial(_quantile, np.quantile, True)
composites[np.nanpercentile] = functools.partial(_quantile, np.percentile, True)
composites[np.median]        = lambda a, axis=None, out=None, overwrite_input=False, keepdims=False: \
                               np.quantile(a, 0.5, axis=axis, keepdims=keepdims)
composites[np.nanmedian]     = lambda a, axis=None, out=None, overwrite_input=False, keepdims=False: \
                               np.nanquantile(a, 0.5, axis=axis, keepdims=keepdims)
# fmt: on

# ------------------------------------------------------------------------------- differences and interpolation


@composite(np.diff)
def diff(a, n=1, axis=-1, prepend=None, append=None):
    a = as_array(a)
    before = (slice(None),) * normalize_axis_index(axis, a.ndim)
    behind, ahead = (*before, slice(1, None)), (*before, slice(None, -1))
    edge = [1 if i == len(before) else m for i, m in enumerate(a.shape)]
    ends = [x if x is None or np.ndim(x) else np.broadcast_to(x, edge) for x in (prepend, append)]
    if prepend is not None or append is not None:
        a = np.concatenate([x for x in (ends[0], a, ends[1]) if x is not None], axis)
    for _ in range(n):
        a = a[behind] - a[ahead]
    return a


@composite(np.ediff1d)
def ediff1d(ary, to_end=None, to_begin=None):
    differences = np.diff(np.ravel(ary))
    ends = [[] if x is None else [np.ravel(x).astype(differences.dtype)] for x in (to_begin, to_end)]
    return np.concatenate([*ends[0], differences, *ends[1]])


@composite(np.trapezoid)
def trapezoid(y, x=None, dx=1.0, axis=-1):
    y = np.moveaxis(as_array(y), axis, -1)
    if x is not None:
        dx = np.diff(x) if np.ndim(x) == 1 else np.moveaxis(np.diff(x, axis=axis), axis, -1)
    return np.sum(dx * (y[..., 1:] + y[..., :-1]) / 2, axis=-1)


@composite(np.gradient)
def gradient(f, *varargs, axis=None, edge_order=1):
    f = as_array(f) if as_array(f).dtype.kind in "fc" else as_array(f).astype(float)
    axes = range(f.ndim) if axis is None else normalize_axis_tuple(axis, f.ndim)
    steps = varargs or (1.0,)
    steps = steps * len(axes) if len(steps) == 1 and np.ndim(steps[0]) == 0 else steps
    if len(steps) != len(axes):
        raise TypeError(f"np.gradient along {len(axes)} axes needs as many spacings, or one number, not {len(steps)}")
    slopes = tuple(_slopes(f, step, i, edge_order) for step, i in zip(steps, axes, strict=True))
    return slopes[0] if len(slopes) == 1 else slopes


def _slopes(f, step, axis, edge_order):
    """The slope of the parabola through three neighbours; at the ends of the line or the parabola there."""
    f = np.moveaxis(f, axis, -1)
    if f.shape[-1] <= edge_order:
        raise ValueError(f"np.gradient with edge_order={edge_order} needs {edge_order + 1} elements along axis {axis}")
    steps = np.diff(step) if np.ndim(step) else step * np.ones(f.shape[-1] - 1, f.dtype)
    chords = np.diff(f) / steps
    left, right = steps[:-1], steps[1:]
    inside = (right * chords[..., :-1] + left * chords[..., 1:]) / (left + right)
    first, last = chords[..., :1], chords[..., -1:]
    if edge_order == 2:
        first = first + (first - chords[..., 1:2]) * (steps[0] / (steps[0] + steps[1]))
        last = last + (last - chords[..., -2:-1]) * (steps[-1] / (steps[-1] + steps[-2]))
    return np.moveaxis(np.concatenate([first, inside, last], -1), -1, axis).astype(f.dtype)


@composite(np.interp)
def interp(x, xp, fp, left=None, right=None, period=None):
    x, xp, fp = (as_tensor(a).astype(complex if a is fp and np.iscomplexobj(fp) else float) for a in (x, xp, fp))
    if period is not None:
        x, xp = x % period, xp % period
        order = np.argsort(xp)
        xp, fp = xp[order], fp[order]
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
        left = right = None
    flat = as_tensor(np.zeros(1))
    slopes = np.concatenate([flat, np.diff(fp) / np.diff(xp), flat])
    place = np.searchsorted(xp, x, side="right")
    start = np.maximum(place - 1, 0)
    before, behind = slopes[start], slopes[place]
    flatter = np.where(np.abs(before) < np.abs(behind), before, behind)
    least = np.where(np.real(before * conjugate(behind)) <= 0, 0, flatter)
    answer = fp[start] + np.where(x == xp[start], least, behind) * (x - xp[start])  # the least slope at a kink
    answer = answer if left is None else np.where(x < xp[0], left, answer)
    return answer if right is None else np.where(x > xp[-1], right, answer)


_jumps = constant(lambda p, discont, axis, period: np.unwrap(p, discont, axis, period=period) - p)
composites[np.unwrap] = lambda p, discont=None, axis=-1, *, period=2 * math.pi: p + _jumps(p, discont, axis, period)


@composite(np.convolve)
def convolve(a, v, mode="full"):
    a, v = np.atleast_1d(a), np.atleast_1d(v)
    answer = call(np.convolve, (a, v))
    short, long = sorted([a.size, v.size])
    if mode == "same":
        return answer[(short - 1) // 2 : (short - 1) // 2 + long]
    return answer[short - 1 : long] if mode == "valid" else answer


@composite(np.correlate)
def correlate(a, v, mode="valid"):
    a, v = np.atleast_1d(a), np.atleast_1d(v)
    v = conjugate(v)
    if a.size < v.size and mode == "same":  # NumPy turns the shorter one round, and with it the middle
        return np.convolve(a[::-1], v, mode)[::-1]
    return np.convolve(a, v[::-1], mode)


# --------------------------------------------------------------------------------------------------------- spacing


@composite(np.linspace)
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0, *, device=None):
    kind, parts = np.result_type(start, stop, 1.0), num - 1 if endpoint else num
    start, stop = as_array(start).astype(kind), as_array(stop).astype(kind)
    share = (np.arange(num) / max(parts, 1)).astype(kind).reshape(num, *[1] * max(start.ndim, stop.ndim))
    answer = np.moveaxis(start * (1 - share) + stop * share, 0, axis)
    answer = answer if dtype is None else answer.astype(dtype)
    return (answer, (stop - start) / parts) if retstep else answer


@composite(np.logspace)
def logspace(start, stop, num=50, endpoint=True, base=10.0, dtype=None, axis=0):
    answer = np.power(base, np.linspace(start, stop, num, endpoint, axis=axis))
    return answer if dtype is None else answer.astype(dtype)


@composite(np.geomspace)
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    kind = np.result_type(start, stop, np.float64)
    start, stop = as_array(start).astype(kind), as_array(stop).astype(kind)
    answer = np.exp(np.linspace(np.log(start / np.sign(start)), np.log(stop / np.sign(start)), num, endpoint))
    answer = np.moveaxis(answer * np.sign(start), 0, axis)
    return answer if dtype is None else answer.astype(dtype)


# ----------------------------------------------------------------------------------------------------- polynomials


@composite(np.polyval)
def polyval(p, x):
    x = as_array(x)
    answer = np.zeros(x.shape, x.dtype)
    for coefficient in as_array(p):
        answer = answer * x + coefficient
    return answer


def _same_length(p, q):
    p, q = np.atleast_1d(p), np.atleast_1d(q)
    return [np.pad(x, (max(p.size, q.size) - x.size, 0)) for x in (p, q)]


composites[np.polyadd] = lambda a1, a2: np.add(*_same_length(a1, a2))
composites[np.polysub] = lambda a1, a2: np.subtract(*_same_length(a1, a2))
composites[np.polymul] = lambda a1, a2: np.convolve(np.trim_zeros(as_array(a1), "f"), np.trim_zeros(as_array(a2), "f"))


@composite(np.polyder)
def polyder(p, m=1):
    for _ in range(m):
        p = p[:-1] * np.arange(p.size - 1, 0, -1)
    return p


@composite(np.polyint)
def polyint(p, m=1, k=None):
    constants = np.broadcast_to(0.0 if k is None else k, (m,))
    for i in range(m):
        p = np.concatenate([p / np.arange(p.size, 0, -1), constants[i : i + 1]])
    return p


@composite(np.vander)
def vander(x, N=None, increasing=False):
    powers = np.arange(x.size if N is None else N)
    return x[:, None] ** (powers if increasing else powers[::-1])


# ----------------------------------------------------------------------------------------- functions of functions


@composite(np.apply_along_axis)
def apply_along_axis(func1d, axis, arr, *args, **kwargs):
    axis = normalize_axis_index(axis, arr.ndim)
    lines = np.moveaxis(arr, axis, -1)
    shape = lines.shape[:-1]
    answers = np.stack([as_array(func1d(lines[i], *args, **kwargs)) for i in np.ndindex(*shape)])
    lengths = answers.shape[1:]
    answers = np.reshape(answers, (*shape, *lengths))
    return np.moveaxis(answers, range(len(shape), answers.ndim), range(axis, axis + len(lengths)))


@composite(np.apply_over_axes)
def apply_over_axes(func, a, axes):
    for axis in np.ravel(axes):
        answer = func(a, axis % a.ndim)
        a = answer if answer.ndim == a.ndim else np.expand_dims(answer, axis % a.ndim)
    return a


# ----------------------------------------------------------------------------------------- ufuncs and their methods

_exponent = constant(lambda x: np.frexp(x)[1])

# fmt: off
composites[np.real]             = lambda x: call(np.real, (x,)) if x.dtype.kind == "c" else np.copy(x)
composites[np.imag]             = lambda x: call(np.imag, (x,)) if x.dtype.kind == "c" else np.zeros_like(x)
composites[np.angle]            = lambda z, deg=False: np.arctan2(np.imag(z), np.real(z)) * (180 / np.pi if deg else 1)
composites[np.real_if_close]    = lambda x, tol=100: \
                                  np.copy(x) if np.iscomplexobj(np.real_if_close(looked_at(x), tol)) else np.real(x)
composites[np.sign]             = lambda x: \
                                  x / np.where(x == 0, 1, np.abs(x)) if x.dtype.kind == "c" else call(np.sign, (x,))
composites[np.divmod]           = lambda x, y: (np.floor_divide(x, y), np.remainder(x, y))
composites[np.modf]             = lambda x: (x - np.trunc(x), np.trunc(x))
composites[np.frexp]            = lambda x: (np.ldexp(x, -_exponent(x)), _exponent(x))
composites[np.fix]              = lambda x, out=None: np.trunc(x)
composites[np.around]           = lambda x, decimals=0, out=None: np.round(x, decimals)
composites[np.amax]             = lambda x, *args, **kwargs: np.max(x, *args, **kwargs)
composites[np.amin]             = lambda x, *args, **kwargs: np.min(x, *args, **kwargs)
composites[np.add.reduce]       = lambda x, axis=0, **k: np.sum(x, axis, **k)
composites[np.multiply.reduce]  = lambda x, axis=0, **k: np.prod(x, axis, **k)
composites[np.maximum.reduce]   = lambda x, axis=0, **k: np.max(x, axis, **k)
composites[np.minimum.reduce]   = lambda x, axis=0, **k: np.min(x, axis, **k)
composites[np.add.accumulate]   = lambda x, axis=0, dtype=None: np.cumsum(x, axis, dtype)
composites[np.cumprod]          = lambda x, axis=None, dtype=None: _doubled(np.multiply, x, axis, dtype)
# fmt: on

composite(getattr(np, "matvec", None))(lambda x, y: np.squeeze(x @ np.expand_dims(y, -1), -1))
composite(getattr(np, "vecmat", None))(lambda x, y: np.squeeze(conjugate(np.expand_dims(x, -2)) @ y, -2))


def _doubled(ufunc, x, axis=0, dtype=None):
    """Accumulate by doubling, in log2(n) calls, each of which has a derivative also where factors are zero."""
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    x = np.moveaxis(x if dtype is None else x.astype(dtype), axis, -1)
    step = 1
    while step < x.shape[-1]:
        x = np.concatenate([x[..., :step], ufunc(x[..., step:], x[..., :-step])], -1)
        step *= 2
    return np.moveaxis(x, -1, axis)


def _in_lines(identity, least, x, axis, dtype, initial, where):
    """What a reduction goes through, along the first axis: after its start, if it has one, or fewer than the least."""
    x = x if dtype is None else x.astype(dtype)
    x = x if where is True else np.where(where, x, identity)
    x = np.moveaxis(lines_along(x, axis)[0], -1, 0)
    if initial is not None or len(x) < least:
        edge = np.broadcast_to(identity if initial is None else initial, (1, *x.shape[1:]))
        x = np.concatenate([edge.astype(x.dtype), x])
    return x


@composite(np.hypot.reduce)
def reduced_length(x, axis=0, dtype=None, out=None, keepdims=False, initial=None, where=True):
    """By halves, in log2(n) calls, and of a single number from 0, since a length has no sign."""
    lines = _in_lines(0, 2, x, axis, dtype, initial, where)
    while len(lines) > 1:
        half = len(lines) // 2
        lines = np.concatenate([np.hypot(lines[:half], lines[half : 2 * half]), lines[2 * half :]])
    return np.reshape(lines[0], kept(x, axis)) if keepdims else lines[0]


def _check_real(x):
    if x.dtype.kind == "c":
        raise TypeError("np.logaddexp takes real numbers: of complex ones write np.log(np.sum(np.exp(x)))")


def _log_of_sum(exp, log, x, axis=0, dtype=None, out=None, keepdims=False, initial=None, where=True):
    """Over the largest number, so that all that are added keep their digits, and equal ones share evenly."""
    _check_real(x)
    lines = _in_lines(-np.inf, 1, x, axis, dtype, initial, where)
    peak = np.max(numbers_of(lines), axis=0)
    answer = peak + log(np.sum(exp(below(lines, peak)), axis=0))
    return np.reshape(answer, kept(x, axis)) if keepdims else answer


def _logs_of_sums(exp, log, x, axis=0, dtype=None):
    """By doubling, of sums over the largest number so far."""
    _check_real(x)
    x = np.moveaxis(x if dtype is None else x.astype(dtype), axis, -1)
    peak = numbers_of(x)
    total, step = exp(below(x, peak)), 1
    while step < x.shape[-1]:
        new = np.maximum(peak[..., step:], peak[..., :-step])
        before, here = exp(below(peak[..., :-step], new)), exp(below(peak[..., step:], new))
        total = np.concatenate([total[..., :step], total[..., step:] * here + total[..., :-step] * before], -1)
        peak = np.concatenate([peak[..., :step], new], -1)
        step *= 2
    return np.moveaxis(peak + log(total), -1, axis)


@composite(np.vecdot, np.linalg.vecdot)
def vecdot(x, y, axis=-1, dtype=None, keepdims=False):
    x, y = (np.moveaxis(as_array(a), axis, -1) for a in (x, y))
    answer = np.sum(conjugate(x) * y, -1, dtype, keepdims=keepdims)
    return np.moveaxis(answer, -1, axis) if keepdims else answer


# fmt: off
composites[np.multiply.accumulate]   = functools.partial(_doubled, np.multiply)
composites[np.hypot.accumulate]      = functools.partial(_doubled, np.hypot)
composites[np.logaddexp.reduce]      = functools.partial(_log_of_sum, np.exp, np.log)
composites[np.logaddexp2.reduce]     = functools.partial(_log_of_sum, np.exp2, np.log2)
composites[np.logaddexp.accumulate]  = functools.partial(_logs_of_sums, np.exp, np.log)
composites[np.logaddexp2.accumulate] = functools.partial(_logs_of_sums, np.exp2, np.log2)
# fmt: on


def _outer(ufunc, x, y, dtype=None):
    x = np.reshape(x, (*np.shape(x), *[1] * np.ndim(y)))
    return ufunc(x, y) if dtype is None else ufunc(x, y, dtype=dtype)


BINARY = [function for function in vjps if isinstance(function, np.ufunc) and function.nin == 2]
composites.update({ufunc.outer: functools.partial(_outer, ufunc) for ufunc in BINARY if not ufunc.signature})
