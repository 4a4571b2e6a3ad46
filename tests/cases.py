"""Rows of the tables of cases, and the one check that goes with them.

A case is a function of arrays and, for each of them, a shape and the domain that its numbers are drawn from. A domain
is a tuple of intervals: between them lie the kinks, jumps and poles.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from profiles import scale, some

import minigrad as mg
from minigrad.engine import name_of
from minigrad.testing import check_grads
from minigrad.testing.rule import check_call

REAL = ((-3.0, -0.3), (0.3, 3.0))
POSITIVE = ((0.3, 3.0),)
UNIT = ((-0.9, -0.1), (0.1, 0.9))
BETWEEN_INTEGERS = ((-2.7, -2.55), (-0.45, -0.3), (0.3, 0.45), (1.55, 1.7))  # and apart from halves, where rint jumps

Domain = tuple[tuple[float, float], ...]
Shape = tuple[int, ...]


def is_of_scipy(function: Any) -> bool:
    """Whether the tables know a function for the sake of SciPy, if any test has met it; see tests/of_scipy."""
    module = str(getattr(function, "__module__", ""))
    return name_of(function).startswith("scipy.") or module.startswith(("scipy.", "minigrad.scipy."))


class Case(NamedTuple):
    function: Callable[..., Any]
    shapes: Sequence[Shape]
    domains: Sequence[Domain]


def case(function: Callable[..., Any], *shapes: Shape, domain: Domain = REAL, **keywords: Any) -> Case:
    """A case whose arguments all come from one domain, with the keywords filled in."""
    return Case(lambda *arrays: function(*arrays, **keywords), shapes, [domain] * len(shapes))


def rows_of(function: Any, cases: Mapping[Any, Sequence[Case]], every: int) -> Iterator[tuple[int, Case]]:
    """The rows of a function, with numbers; a quick run has every so many, beginning elsewhere for each function."""
    number = list(cases).index(function)
    return enumerate(some(cases[function], every, number), number)


def draw(rng: np.random.Generator, shape: Shape, domain: Domain) -> np.ndarray:
    """Random numbers from all intervals of the domain."""
    low, high = np.transpose(domain)
    interval = rng.integers(len(domain), size=shape)
    return np.asarray(rng.uniform(low[interval], high[interval]))


def arguments(case: Case, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [draw(rng, shape, domain) for shape, domain in zip(case.shapes, case.domains, strict=True)]


def in_every_dtype(args: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """All double, all single, and each in turn single among doubles."""
    yield args
    yield [a.astype(np.float32) for a in args]
    for i in range(len(args) if len(args) > 1 else 0):
        yield [a.astype(np.float32) if i == k else a for k, a in enumerate(args)]


def check(case: Case, exact: bool, seed: int = 0, number: int = 0) -> None:
    """Compare values with NumPy's, first and second derivatives with differences, and `backward` with `grad`.

    A quick run takes second derivatives in one direction only, and in every other row; every third row is tried in one
    more form beside double. Which rows they are, and which form, goes by the number.
    """
    double, *others = in_every_dtype(arguments(case, seed))
    some = [others[number // 3 % len(others)]] if number % 3 == 0 else []
    for n, args in enumerate([double, *scale(some, others)]):
        check_call(case.function, args, order=scale(1, 2) if n == 0 else 1, rounding=0 if exact else 8)
    if scale(number % 2 == 0, True):
        check_second(case.function, double)


def check_second(function: Callable[..., Any], args: list[np.ndarray]) -> None:
    """Compare second derivatives in a random direction with differences of the first ones in another."""
    rng = np.random.default_rng(len(args))
    some = lambda shape: np.asarray(rng.uniform(0.5, 1, shape) * rng.choice([-1, 1], shape))
    weights, ways, directions = some(np.shape(function(*args))), *([some(a.shape) for a in args] for _ in range(2))
    gradients = mg.grad(lambda *xs: np.real(np.sum(weights * function(*xs))), tuple(range(len(args))))

    def slope(t: Any) -> Any:
        found = gradients(*(x + t * way for x, way in zip(args, ways, strict=True)))
        return sum(np.sum(v * g) for v, g in zip(directions, found, strict=True))

    check_grads(slope, [np.array(0.0)], order=1, shrink=False)
