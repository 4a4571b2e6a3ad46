"""Strategies for Hypothesis: shapes that broadcast, every form of index, and arguments in the domain of a function."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.typing import DTypeLike

from minigrad.engine import Array, Tensor, vjps

Shape: TypeAlias = tuple[int, ...]
Domain: TypeAlias = tuple[tuple[float, float], ...]  # intervals: between them lie the kinks, jumps and poles

ANYWHERE: Domain = ((-4.0, 4.0),)
POSITIVE: Domain = ((0.25, 4.0),)
NONZERO: Domain = ((-4.0, -0.25), (0.25, 4.0))
INSIDE: Domain = ((-0.875, 0.875),)
LOWER_HALVES: Domain = tuple((n + 0.0625, n + 0.4375) for n in (0, -1, 1, -2, 2, -3))
UPPER_HALVES: Domain = tuple((n + 0.5625, n + 0.9375) for n in (0, -1, 1, -2, 2, -3))
HALVES: Domain = ((0.4, 0.6), (-0.6, -0.4), (2.4, 2.6), (-2.6, -2.4))
NEAR_ONE: Domain = ((0.98, 1.02), (-1.02, -0.98))

# One domain for each argument. What is not here is smooth anywhere, or taken for it.
# fmt: off
DOMAINS: dict[Callable[..., Any], tuple[Domain, ...]] = {
    **dict.fromkeys([np.sqrt, np.log, np.log2, np.log10],                                 (POSITIVE,)),
    **dict.fromkeys([np.absolute, np.fabs, np.sign, np.cbrt, np.reciprocal],              (NONZERO,)),
    **dict.fromkeys([np.arcsin, np.arccos, np.arctanh],                                   (INSIDE,)),
    **dict.fromkeys([np.floor, np.ceil, np.trunc, np.rint, np.round],                     (LOWER_HALVES,)),
    **dict.fromkeys([np.hypot, np.arctan2, np.copysign, np.heaviside],                    (NONZERO, NONZERO)),
    **dict.fromkeys([np.power, np.float_power],                                           (POSITIVE, ANYWHERE)),
    **dict.fromkeys([np.remainder, np.fmod, np.floor_divide],                             (HALVES, NEAR_ONE)),
    **dict.fromkeys([np.maximum, np.minimum, np.fmax, np.fmin],                 (LOWER_HALVES, UPPER_HALVES)),
    np.divide: (ANYWHERE, NONZERO),
    np.log1p: (((-0.875, 4.0),),),
    np.arccosh: (((1.25, 4.0),),),
    np.tan: (((-1.25, 1.25),),),
    np.spacing: (((1.125, 1.875),),),
}
# fmt: on
DISTINCT = {np.max, np.min, np.ptp, np.median, np.sort, np.std}  # these have kinks where two elements are equal


def broadcastable(n: int, max_dims: int = 3, max_side: int = 3) -> st.SearchStrategy[tuple[Shape, ...]]:
    """`n` shapes that broadcast together, also 0-d and empty ones, of up to `max_dims` axes as long as `max_side`.

    >>> from hypothesis import given
    >>> @given(broadcastable(2))
    ... def test_addition(shapes):
    ...     x, y = map(np.zeros, shapes)
    ...     assert (x + y).shape == (y + x).shape
    >>> test_addition()
    """
    shapes = nps.mutually_broadcastable_shapes(num_shapes=n, min_side=0, max_dims=max_dims, max_side=max_side)
    return shapes.map(lambda found: found.input_shapes)


def arrays_for(
    function: Callable[..., Any], shapes: Sequence[Shape] | None = None, dtype: DTypeLike = np.float64
) -> st.SearchStrategy[tuple[Array, ...]]:
    """Arguments for a function, one array each, from where it has derivatives: positive for `np.log`, in (-1, 1) for
    `np.arcsin`, no divisor near zero. Without `shapes`, those of a ufunc broadcast. All are of `dtype`.

    >>> from hypothesis import given
    >>> @given(arrays_for(np.log))
    ... def test_log(args):
    ...     assert np.all(np.isfinite(np.log(*args)))
    >>> test_log()
    """
    kind = np.dtype(dtype)

    def array(shape: Shape, domain: Domain) -> st.SearchStrategy[Array]:
        if function in DISTINCT:
            return nps.arrays(kind, shape, elements=st.integers(-32, 32).map(lambda n: n / 8), unique=True)
        return nps.arrays(kind, shape, elements=_numbers(domain, kind), fill=st.nothing())

    def arrays(shapes: Sequence[Shape]) -> st.SearchStrategy[tuple[Array, ...]]:
        domains = itertools.chain(DOMAINS.get(function, ()), itertools.repeat(ANYWHERE))
        return st.tuples(*map(array, shapes, domains))

    if shapes is not None:
        return arrays(shapes)
    if isinstance(function, np.ufunc) and function.signature:
        some = nps.mutually_broadcastable_shapes(signature=function.signature, min_side=0, max_dims=1, max_side=3)
        return some.map(lambda found: found.input_shapes).flatmap(arrays)
    if isinstance(function, np.ufunc):
        return broadcastable(function.nin).flatmap(arrays)
    count = len(DOMAINS.get(function, vjps.get(function, [0])))
    return nps.array_shapes(max_dims=2, max_side=3).map(lambda shape: (shape,) * count).flatmap(arrays)


def _numbers(domain: Domain, dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    if dtype.kind == "c":  # both parts from the domain
        part = _numbers(domain, np.empty(0, dtype).real.dtype)
        return st.builds(complex, part, part)
    width: Any = min(dtype.itemsize * 8, 64)
    ends = [[float(dtype.type(end)) for end in interval] for interval in domain]
    return st.one_of([st.floats(low, high, width=width, allow_subnormal=False) for low, high in ends])


@st.composite
def tensors(
    draw: st.DrawFn, shape: Shape | st.SearchStrategy[Shape] | None = None, dtype: DTypeLike = np.float64,
    elements: st.SearchStrategy[Any] | None = None, requires_grad: bool = True,
) -> Tensor:  # fmt: skip
    """Tensors, of any small shape if none is given, with moderate numbers unless `elements` are given.

    They are of `dtype` and, unless told otherwise, leaves with `requires_grad`.

    >>> from hypothesis import given
    >>> @given(tensors(shape=(3,)))
    ... def test_sum(x):
    ...     x.sum().backward()
    ...     assert x.grad.tolist() == [1, 1, 1]
    >>> test_sum()
    """
    shape = nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3) if shape is None else shape
    kind = np.dtype(dtype)
    elements = _numbers(ANYWHERE, kind) if elements is None else elements
    return Tensor(draw(nps.arrays(kind, shape, elements=elements)), requires_grad)


@st.composite
def indices(draw: st.DrawFn, shape: Shape) -> Any:
    """Any index that NumPy takes for the shape: integers, slices, None, ellipsis, booleans, integer arrays, mixtures.

    >>> from hypothesis import given
    >>> @given(indices((2, 3)))
    ... def test_index(index):
    ...     x = np.ones((2, 3))
    ...     assert Tensor(x)[index].shape == x[index].shape
    >>> test_index()
    """
    if draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(nps.arrays(bool, shape), st.booleans()))
    count = draw(st.integers(0, 3))  # of the elements that each of the index arrays names
    grid = draw(st.sampled_from([(), (1,), (2,)]))  # the axis that they have in front, for integers only
    parts: list[Any] = []
    for length in shape:
        forms: list[st.SearchStrategy[Any]] = [st.slices(length)]
        if length:
            numbers = st.integers(-length, length - 1)
            lists = st.lists(numbers, min_size=count, max_size=count)
            forms += [numbers, lists, lists.map(tuple), nps.arrays(np.int64, (*grid, count), elements=numbers)]
        if count <= length:
            chosen: st.SearchStrategy[Any] = st.permutations([True] * count + [False] * (length - count))
            forms += [chosen, chosen.map(lambda x: np.array(x, bool))]
        parts.append(draw(st.one_of(forms)))
    if draw(st.booleans()):  # fewer parts than axes, or an ellipsis in place of some
        left = draw(st.integers(0, len(parts)))
        right = draw(st.integers(left, len(parts)))
        parts = parts[:left] if draw(st.booleans()) else [*parts[:left], ..., *parts[right:]]
    for _ in range(draw(st.integers(0, 2))):
        parts.insert(draw(st.integers(0, len(parts))), None)
    alone = len(parts) == 1 and not isinstance(parts[0], tuple) and draw(st.booleans())
    return parts[0] if alone else tuple(parts)
