"""Tools that test gradients: of minigrad's own rules, and of your functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from minigrad.tensor import Array
from minigrad.transforms import grad

Scalar: TypeAlias = Callable[..., Any]
Generator: TypeAlias = np.random.Generator

SMALL = 64  # arrays of up to so many numbers are checked in each of them, larger ones in random directions
DIRECTIONS = 8
# Tried in turn until the differences settle. The factor keeps them from fitting a kink between round numbers just so.
STEPS = (13 * 2.0**-12, 13 * 2.0**-17, 13 * 2.0**-22)
SETTLED, USABLE = 1e-7, 1e-4  # how well differences should agree with each other, and how well they must
EPS = float(np.finfo(np.float64).eps)


def check_grads(f: Callable[..., Any], args: Sequence[Any], order: int = 2, seed: int = 0) -> None:
    """Compare the gradients of `f` at `args` with central differences, up to derivatives of the given order.

    Every floating argument is differentiated; what is not floating is passed on. The answer may have any shape. The
    gradients must also have the shape and dtype of their arguments and memory of their own, and nothing may write to
    the arguments. Raises AssertionError that names the argument, the index and both numbers, or says that there is
    nothing to compare with because `f` is not smooth there.

    The differences are taken in double precision, whatever the dtype of the arguments. `seed` chooses the weights that
    make one number of an answer of many, and the directions in which large arguments are moved.

    >>> check_grads(lambda x, y: np.sin(x) * y, [np.array([0.5, -2.0]), np.array([[1.5], [2.5]])])
    >>> from minigrad import primitive
    >>> cube = primitive(lambda g, ans, x: g * 2 * x**2)(lambda x: x**3)
    >>> check_grads(cube, [np.array([1.0, 2.0])])
    Traceback (most recent call last):
    AssertionError: derivative 1 of argument 0 at index (0,) is 3.6875, and central differences give 5.53125
    """
    arrays = [_read_only(a) if isinstance(a, (float, np.ndarray, np.generic)) else a for a in args]
    floating = tuple(i for i, a in enumerate(arrays) if isinstance(a, np.ndarray) and a.dtype.kind == "f")
    if not floating:
        raise ValueError(f"none of the {len(arrays)} arguments is a floating array, so there is no gradient to check")
    rng = np.random.default_rng(seed)
    weights = _weights(rng, np.shape(f(*arrays)))
    scalar: Scalar = lambda *xs: _inner(weights, f(*xs))
    for n in range(1, order + 1):
        gradients = grad(scalar, floating)(*arrays)
        _check_form(gradients, arrays, floating)
        _check_numbers(scalar, gradients, arrays, floating, f"derivative {n} of argument", rng)
        scalar = _along([_weights(rng, g.shape) for g in gradients], grad(scalar, floating))


def _read_only(value: Any) -> Array:
    array = np.array(value)
    array.flags.writeable = False
    return array


def _weights(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Random numbers of either sign and similar size, with so few digits that every dtype holds them exactly."""
    return np.asarray(rng.integers(64, 128, shape) * rng.choice([-1, 1], shape) / 64)


def _inner(weights: Array, x: Any) -> Any:
    return np.sum(weights.astype(x.dtype) * x)


def _along(directions: list[Array], gradients: Callable[..., Any]) -> Scalar:
    """The derivative in a direction, as a function of the same arguments."""
    return lambda *xs: sum(_inner(v, g) for v, g in zip(directions, gradients(*xs), strict=True))


def _check_form(gradients: Sequence[Array], arrays: list[Any], floating: tuple[int, ...]) -> None:
    """Compare shapes and dtypes, and see that the gradients share no memory."""
    for k, (i, g) in enumerate(zip(floating, gradients, strict=True)):
        if (g.shape, g.dtype) != (arrays[i].shape, arrays[i].dtype):
            raise AssertionError(
                f"the gradient of argument {i} is {g.dtype}{list(g.shape)}, and the argument itself "
                f"{arrays[i].dtype}{list(arrays[i].shape)}"
            )
        others = [(f"argument {j}", a) for j, a in enumerate(arrays) if isinstance(a, np.ndarray)]
        others += [(f"the gradient of argument {floating[j]}", gradients[j]) for j in range(k)]
        for name, other in others:
            if np.may_share_memory(g, other):
                raise AssertionError(f"the gradient of argument {i} shares memory with {name}")


def _check_numbers(
    scalar: Scalar, gradients: Sequence[Array], arrays: list[Any], floating: tuple[int, ...], name: str, rng: Generator
) -> None:
    """Compare a gradient with differences of `scalar`."""
    points = [a.astype(np.float64) if i in floating else a for i, a in enumerate(arrays)]
    for i, g in zip(floating, gradients, strict=True):
        x, precision = points[i], float(np.finfo(g.dtype).eps)
        for place, direction, scales in _directions(x, rng):

            def line(t: float, i: int = i, direction: Array = direction) -> float:
                return float(scalar(*points[:i], points[i] + t * direction, *points[i + 1 :]))

            found = float(np.sum(g * direction, dtype=np.float64))
            magnitude = float(np.sum(np.abs(g * direction), dtype=np.float64))
            with np.errstate(all="ignore"):  # a step may lead out of the domain
                expected, error = _slope(line, [step * scale for scale in scales for step in STEPS], magnitude)
                rounding = precision * (128 * magnitude + 8 * abs(line(0)) / scales[0])
            if not math.isfinite(error):
                raise AssertionError(
                    f"{name} {i} {place} is {found:.10g}, and central differences come to nothing there: is it a kink, "
                    "a jump or the edge of the domain?"
                )
            if not abs(found - expected) <= 1e-5 * abs(expected) + rounding + 4 * error:
                raise AssertionError(
                    f"{name} {i} {place} is {found:.10g}, and central differences give {expected:.10g}"
                )


def _directions(x: Array, rng: Generator) -> Iterator[tuple[str, Array, tuple[float, float]]]:
    """Where to go from a point, with the relative and the absolute length of a step."""
    sizes = np.where(x == 0, 1, np.abs(x))
    if x.size <= SMALL:
        for index in np.ndindex(x.shape):
            direction = np.zeros(x.shape)
            direction[index] = 1
            yield f"at index {index}", direction, (sizes[index], 1)
    else:
        for k in range(DIRECTIONS):
            yield f"in random direction {k}", _weights(rng, x.shape) * sizes, (1, 1 / np.max(sizes))


def _slope(line: Callable[[float], float], steps: Sequence[float], magnitude: float) -> tuple[float, float]:
    """The derivative of `line` at 0 and how far it may be off, by central differences extrapolated to step 0.

    The error is infinite where the differences do not settle down to USABLE, relative to `magnitude`.
    """
    best, best_error = math.nan, math.inf
    for step in steps:
        values = [line(k * step) for k in (1, -1, 2, -2, 4, -4)]
        near, middle, far = ((values[i] - values[i + 1]) / (2 * k * step) for i, k in ((0, 1), (2, 2), (4, 4)))
        once, before = (4 * near - middle) / 3, (4 * middle - far) / 3
        twice = (16 * once - before) / 15
        rounding = 8 * EPS * max(map(abs, values)) / step
        error = abs(twice - once) + rounding
        if error < best_error and error <= USABLE * max(abs(twice), magnitude) + 2 * rounding < math.inf:
            best, best_error = twice, error
        if error <= SETTLED * max(abs(twice), magnitude):
            break
    return best, best_error
