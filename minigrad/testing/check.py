"""Gradients compared with differences, and all that else can be wrong with a function and its rules."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minigrad.tensor import Array
from minigrad.transforms import grad, vjp

Function: TypeAlias = Callable[..., Any]
Generator: TypeAlias = np.random.Generator

SMALL = 64  # so many numbers, of an argument or a Jacobian, are checked one by one; more of them in random directions
DIRECTIONS = 8
ATTEMPTS = 200  # to find a smaller input that fails
# Tried in turn until the differences settle. The factor keeps them from fitting a kink between round numbers just so.
STEPS = (13 * 2.0**-12, 13 * 2.0**-17, 13 * 2.0**-22)
SETTLED, USABLE = 1e-7, 1e-4  # how well differences should agree with each other, and how well they must
CLOSE = 1e-5  # how far a derivative may be from the differences, beside what is known of their errors
KINKED = 1e-4  # how far the slopes to the left and to the right may be apart
EPS, TINY = float(np.finfo(np.float64).eps), float(np.finfo(np.float64).tiny)


def check_grads(f: Function, args: Sequence[Any], order: int = 2, seed: int = 0, shrink: bool = True) -> None:
    """Compare the gradients of `f` at `args` with central differences, up to derivatives of the given order.

    Every floating argument is differentiated; what is not floating is passed on. The answer may have any shape. The
    gradients must also have the shape and dtype of their arguments and memory of their own, and nothing may write to
    the arguments. Raises AssertionError that names the argument, the index and both numbers, or says that there is
    nothing to compare with because `f` has a kink or no derivative there. It ends with the smallest input found that
    fails in the same way, unless `shrink` is false.

    Small Jacobians are compared number by number, large ones in random directions. The differences are taken in double
    precision, whatever the dtype of the arguments. `seed` chooses the directions, and the weights of the answers.

    >>> check_grads(lambda x, y: np.sin(x) * y, [np.array([0.5, -2.0]), np.array([[1.5], [2.5]])])
    >>> from minigrad import primitive
    >>> cube = primitive(lambda g, ans, x: g * 2 * x**2)(lambda x: x**3)
    >>> check_grads(cube, [np.array([2.0, 1.0])])
    Traceback (most recent call last):
    AssertionError: derivative 1 of argument 0 at index (0,), in output (0,), is 8, and central differences give 12
    The smallest input found that fails like this:
        check_grads(f, [np.array([1.])])
        derivative 1 of argument 0 at index (0,), in output (0,), is 2, and central differences give 3
    >>> check_grads(np.abs, [0.0])
    Traceback (most recent call last):
    AssertionError: argument 0 at index () stands on a kink of f: the slope is -1 to the left and 1 to the right
    """
    __tracebackhide__ = True  # pytest shows the line of the test, and the message
    args = list(args)
    failure = _failure(f, args, order, seed)
    if failure is None:
        return
    message = failure.message
    if shrink:
        smaller, its_failure = _smallest(lambda candidate: _failure(f, candidate, failure.order, seed), args, failure)
        if its_failure is not failure:
            message += (
                "\nThe smallest input found that fails like this:"
                f"\n    check_grads(f, [{', '.join(map(source, smaller))}])\n    {its_failure.message}"
            )
    raise AssertionError(message)


class _Failure(NamedTuple):
    kind: str
    order: int
    argument: int
    message: str


def _failure(f: Function, args: Sequence[Any], order: int, seed: int) -> _Failure | None:
    """The first thing that is wrong, or None."""
    __tracebackhide__ = True
    arrays = [read_only(a) if isinstance(a, (float, np.ndarray, np.generic)) else a for a in args]
    floating = [i for i, a in enumerate(arrays) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    if not floating:
        raise ValueError(f"none of the {len(arrays)} arguments is a floating array, so there is no gradient to check")
    rng = np.random.default_rng(seed)
    weights = _weights(rng, np.shape(f(*arrays)))
    function = f
    for n in range(1, order + 1):
        with_floats = functools.partial(_called, function, arrays, floating)
        _, pullback = vjp(with_floats, *[arrays[i] for i in floating])
        gradients = pullback(read_only(weights))
        failure = _check_form(gradients, arrays, floating, n) or _check_numbers(
            function, weights, pullback, gradients, arrays, floating, n, rng
        )
        if failure:
            return failure
        scalar = functools.partial(_weighted, weights, function)
        directions = [_weights(rng, g.shape) for g in gradients]
        if sum(g.size for g in gradients) == 1:  # then show the derivative itself
            directions[0][...] = 1
        if weights.size == 1:
            directions = [v / weights for v in directions]
        function = _along(directions, grad(scalar, tuple(floating)))
        weights = _weights(rng, ())
    return None


def read_only(value: Any) -> Array:
    array = np.array(value)
    array.flags.writeable = False
    return array


def _called(function: Function, arrays: list[Any], floating: list[int], *floats: Any) -> Any:
    """The function of all arguments, as a function of the floating ones."""
    arguments = list(arrays)
    for i, value in zip(floating, floats, strict=True):
        arguments[i] = value
    return function(*arguments)


def _weights(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Random numbers of either sign and similar size, with so few digits that every dtype holds them exactly."""
    return np.asarray(rng.integers(65, 128, shape) * rng.choice([-1, 1], shape) / 64)


def _inner(weights: Array, x: Any) -> Any:
    return np.sum(weights.astype(x.dtype) * x)


def _weighted(weights: Array, function: Function, *xs: Any) -> Any:
    return _inner(weights, function(*xs))


def _along(directions: list[Array], gradients: Function) -> Function:
    """The derivative in a direction, as a function of the same arguments."""
    return lambda *xs: sum(_inner(v, g) for v, g in zip(directions, gradients(*xs), strict=True))


def _check_form(gradients: Sequence[Array], arrays: list[Any], floating: list[int], n: int) -> _Failure | None:
    """Compare shapes and dtypes, and see that the gradients share no memory."""
    for k, (i, g) in enumerate(zip(floating, gradients, strict=True)):
        if (g.shape, g.dtype) != (arrays[i].shape, arrays[i].dtype):
            return _Failure(
                "form",
                n,
                i,
                f"the gradient of argument {i} is {g.dtype}{list(g.shape)}, and the argument itself "
                f"{arrays[i].dtype}{list(arrays[i].shape)}",
            )
        others = [(f"argument {j}", a) for j, a in enumerate(arrays) if isinstance(a, np.ndarray)]
        others += [(f"the gradient of argument {floating[j]}", gradients[j]) for j in range(k)]
        for name, other in others:
            if np.may_share_memory(g, other):
                return _Failure("memory", n, i, f"the gradient of argument {i} shares memory with {name}")
    return None


def _check_numbers(
    function: Function,
    weights: Array,
    pullback: Function,
    gradients: Sequence[Array],
    arrays: list[Any],
    floating: list[int],
    n: int,
    rng: Generator,
) -> _Failure | None:
    """Compare the gradients of a function with its differences: of each output where they are few, and of their sum."""
    points = [a.astype(np.float64) if i in floating else a for i, a in enumerate(arrays)]
    outputs = []
    if weights.size * max(arrays[i].size for i in floating) <= SMALL or weights.ndim == 0:
        ones = np.eye(weights.size).reshape(weights.shape * 2) * weights  # weighted, since a rule might square its g
        for number, index in enumerate(np.ndindex(weights.shape)):
            name = f", in output {index}," if index else ""
            outputs.append(_Output(name, weights, read_only(ones[index]), pullback(read_only(ones[index])), number))
    if weights.size != 1:
        outputs.append(_Output("", weights, read_only(weights), gradients))
    for k, i in enumerate(floating):
        precision = np.finfo(arrays[i].dtype)
        for direction, scales in _directions(points[i], rng):
            line = _Line(function, arrays, points, floating, i, direction)
            for output in outputs:
                problem = output.compare(line, k, scales, precision)
                while problem and np.count_nonzero(line.direction) > 1:  # the half that is wrong, down to one element
                    for half in _halves(line.direction):
                        shorter = _Line(function, arrays, points, floating, i, half)
                        if found := output.compare(shorter, k, scales, precision):
                            line, problem = shorter, found
                            break
                    else:
                        break
                if problem:
                    kind, text = problem
                    places = [tuple(place) for place in np.argwhere(line.direction).tolist()]
                    place = f"at index {places[0]}" if len(places) == 1 else f"in a direction of {len(places)} elements"
                    of = f"derivative {n - 1} of f" if n > 1 else "f"
                    message = (
                        f"argument {i} {place} stands on a kink of {of}: {text}"
                        if kind == "kink"
                        else f"derivative {n} of argument {i} {place}{output.name} is {text}"
                    )
                    return _Failure(kind, n, i, message)
    return None


class _Line:
    """The values of a function along a line through a point, each computed once, and its gradients there."""

    def __init__(
        self, function: Function, arrays: list[Any], points: list[Any], floating: list[int], i: int, direction: Array
    ) -> None:
        before, x, behind = points[:i], points[i], points[i + 1 :]
        value = lambda t: np.ravel(np.asarray(function(*before, x + t * direction, *behind), np.float64))
        self.direction, self.value = direction, functools.cache(value)
        self.function, self.arrays, self.points, self.floating, self.i = function, arrays, points, floating, i

    def gradient(self, cotangent: Array, t: float, double: bool) -> Array:
        """That of the argument, in its own precision or in double, where the line leads in its own precision."""
        i, floating = self.i, self.floating
        place = (self.points[i] + t * self.direction).astype(self.arrays[i].dtype)
        args = list(self.points if double else self.arrays)
        args[i] = read_only(place.astype(args[i].dtype))
        _, pullback = vjp(functools.partial(_called, self.function, args, floating), *[args[j] for j in floating])
        return np.asarray(pullback(cotangent)[floating.index(i)], np.float64)


class _Output(NamedTuple):
    """One number of an answer, or all of them made one by weights, and its gradients."""

    name: str
    weights: Array
    cotangent: Array
    gradients: Sequence[Array]
    place: int | None = None

    def compare(self, line: _Line, k: int, scales: tuple[float, float], precision: Any) -> tuple[str, str] | None:
        """What is wrong with gradient number `k` along a line, or None."""
        place, flat, unit = self.place, self.weights.ravel(), 1.0
        number: Callable[[float], float] = functools.cache(lambda t: float(flat @ line.value(t)))
        if place is not None:  # its weight is divided out again, to show the derivative itself
            number, unit = lambda t: line.value(t).item(place), float(flat[place])
        products = self.gradients[k].astype(np.float64) / unit * line.direction
        found, magnitude = float(products.sum()), float(np.abs(products).sum())
        summed = magnitude
        if place is None:  # what the outputs contribute may cancel, and its rounding does not
            step = STEPS[0] * scales[0]
            with np.errstate(all="ignore"):  # it may lead out of the domain
                parts = flat * (line.value(step) - line.value(-step)) / (2 * step)
            summed = max(magnitude, float(np.abs(parts).sum(where=np.isfinite(parts))))
        again = lambda t, double: float((line.gradient(self.cotangent, t, double) / unit * line.direction).sum())
        return _judge(number, again, found, magnitude, summed, precision, scales)


def _directions(x: Array, rng: Generator) -> Iterator[tuple[Array, tuple[float, float]]]:
    """Where to go from a point, with the relative and the absolute length of a step."""
    sizes = np.where(x == 0, np.max(np.abs(x), initial=0) or 1, np.abs(x))  # a zero counts as large as its neighbours
    if x.size <= SMALL:
        for index in np.ndindex(x.shape):
            direction = np.zeros(x.shape)
            direction[index] = 1
            yield direction, (sizes[index], 1)
    else:
        for _ in range(DIRECTIONS):
            yield _weights(rng, x.shape) * sizes, (1, 1 / np.max(sizes))


def _halves(direction: Array) -> Iterator[Array]:
    places = np.flatnonzero(direction)
    for part in (places[: len(places) // 2], places[len(places) // 2 :]):
        half = np.zeros(direction.shape)
        half.flat[part] = direction.flat[part]
        yield half


def _judge(
    line: Callable[[float], float],
    again: Callable[[float, bool], float],
    found: float,
    magnitude: float,
    summed: float,
    precision: Any,
    scales: tuple[float, float],
) -> tuple[str, str] | None:
    """Compare a derivative with differences along a line: the kind of failure and what to say, or None.

    `magnitude` is the sum of the sizes of its elements, and `summed` that of all numbers that were added up to them.
    `again` is the derivative elsewhere on the line, in its own precision or in double.
    """
    with np.errstate(all="ignore"):  # a step may lead out of the domain
        unit = 128 * summed + 8 * abs(line(0)) / scales[0]
        rounding = float(precision.eps) * unit + 64 * float(precision.smallest_subnormal) + TINY
        steps = [step * scale for scale in scales for step in STEPS]
        problem = _verdict(line, found, magnitude, rounding, steps)
        # What cancels inside is rounded by more than can be told from outside: then double precision must agree with
        # the differences, and the derivative with double precision but for the noise that it has around here.
        if problem and problem[0] == "wrong" and precision.eps > EPS:
            exact = again(0, True)
            right = _verdict(line, exact, magnitude, EPS * unit + TINY, steps) is None
            if right and abs(found - exact) <= rounding + _noise(again, scales[0]):
                return None
        if problem:  # or the function lives on a smaller scale than its argument: at zero, nothing tells of it
            for finer in (2.0**-10, 2.0**-20, 2.0**-30):
                steps = [step * scale * finer for scale in scales for step in STEPS]
                error = _slope(line, steps, magnitude)[1]
                if error <= CLOSE * magnitude and not _verdict(line, found, magnitude, rounding, steps):
                    return None
    return problem


def _noise(again: Callable[[float, bool], float], scale: float) -> float:
    """How differently a derivative is rounded at neighbouring points; what is wrong everywhere is no noise."""
    places = [scale * k * 2.0**-12 for k in range(-8, 9)]
    errors = np.array([again(t, False) - again(t, True) for t in places])
    return 2 * float(np.ptp(errors[np.isfinite(errors)])) if np.any(np.isfinite(errors)) else 0.0


def _verdict(
    line: Callable[[float], float], found: float, magnitude: float, rounding: float, steps: list[float]
) -> tuple[str, str] | None:
    expected, error, step = _slope(line, steps, magnitude)
    if not math.isfinite(error):
        return "rough", (
            f"{found:.10g}, and central differences come to nothing there: is it a kink, a jump or the edge of the "
            "domain?"
        )
    left, right = _sides(line, step, magnitude)
    if left != right:
        return "kink", f"the slope is {left:.6g} to the left and {right:.6g} to the right"
    if not abs(found - expected) <= CLOSE * abs(expected) + rounding + 4 * error:
        return "wrong", f"{found:.10g}, and central differences give {expected:.10g}"
    return None


def _slope(line: Callable[[float], float], steps: Sequence[float], magnitude: float) -> tuple[float, float, float]:
    """The derivative of `line` at 0, how far it may be off, and the step: central differences extrapolated to step 0.

    The error is infinite where the differences do not settle down to USABLE, relative to `magnitude`.
    """
    best, best_error, best_step = math.nan, math.inf, math.nan
    for step in steps:
        values = [line(k * step) for k in (1, -1, 2, -2, 4, -4)]
        near, middle, far = ((values[i] - values[i + 1]) / (2 * k * step) for i, k in ((0, 1), (2, 2), (4, 4)))
        once, before = (4 * near - middle) / 3, (4 * middle - far) / 3
        twice = (16 * once - before) / 15
        rounding = (8 * EPS * max(map(abs, values)) + TINY) / step
        error = abs(twice - once) + rounding
        if error < best_error and error <= USABLE * max(abs(twice), magnitude) + 2 * rounding < math.inf:
            best, best_error, best_step = twice, error, step
        if error <= SETTLED * max(abs(twice), magnitude):
            break
    return best, best_error, best_step


def _sides(line: Callable[[float], float], step: float, magnitude: float) -> tuple[float, float]:
    """The slopes of `line` to the left and to the right of 0 if they plainly differ, else zeros.

    They differ also where the line bends sharply; but then they come closer with a smaller step, and at a kink they do
    not.
    """
    gaps = []
    for h in (step, step / 32):
        slopes, errors = [], 0.0
        for side in (-h, h):
            values = [line(k * side) for k in (0, 1, 2, 4)]
            near, middle, far = ((values[i] - values[0]) / (k * side) for i, k in ((1, 1), (2, 2), (3, 4)))
            once, before = 2 * near - middle, 2 * middle - far
            slopes.append((4 * once - before) / 3)
            errors += abs(slopes[-1] - once) + (16 * EPS * max(map(abs, values)) + TINY) / h
        left, right = slopes
        gaps.append(right - left)
        if not abs(right - left) > KINKED * max(abs(left), abs(right), magnitude) + 4 * errors:
            return 0.0, 0.0
    return (left, right) if abs(gaps[1] - gaps[0]) <= 0.1 * abs(gaps[0]) else (0.0, 0.0)


# ---------------------------------------------------------------------------------------------- smaller inputs


def _smallest(
    check: Callable[[list[Any]], _Failure | None], args: list[Any], failure: _Failure
) -> tuple[list[Any], _Failure]:
    """The simplest arguments found that fail in the same way, by taking simplifications as long as there are any."""
    candidates = _simpler(args)
    for _ in range(ATTEMPTS):
        candidate = next(candidates, None)
        if candidate is None:
            break
        try:
            with np.errstate(all="ignore"):
                found = check(candidate)
        except Exception:  # the function does not take these arguments
            continue
        if found and found[:3] == failure[:3]:
            args, failure, candidates = candidate, found, _simpler(candidate)
    return args, failure


def _simpler(args: list[Any]) -> Iterator[list[Any]]:
    """Arguments with fewer elements, then with rounder numbers."""
    shapes = [a.shape if isinstance(a, np.ndarray) else () for a in args]
    axes = [(i, k - len(shape), n) for i, shape in enumerate(shapes) for k, n in enumerate(shape) if n > 1]
    together = [[axis for axis in axes if axis[2] == n] for n in sorted({n for *_, n in axes}, reverse=True)]
    aligned = [[axis for axis in axes if axis[1:] == place] for place in sorted({axis[1:] for axis in axes})]
    for group in [*together, *aligned, *([axis] for axis in axes)]:
        n = group[0][2]
        for part in (slice(n // 2), slice(n // 2, n)):
            smaller = list(args)
            for i, k, _ in group:
                smaller[i] = smaller[i][(..., part) + (slice(None),) * (-k - 1)]
            yield smaller
    for i, a in enumerate(args):
        x = np.asarray(a)
        if x.dtype.kind != "f":
            continue
        for rounder in (np.ones_like(x), *(np.round(x, digits) for digits in range(4))):
            short = np.frompyfunc(lambda number: (number != 1, len(f"{number:.17g}")), 1, 1)
            for index in [..., *np.ndindex(x.shape)] if 1 < x.size <= 8 else [...]:
                y = x.copy()
                y[index] = rounder[index]
                if np.all(short(y) <= short(x)) and np.any(y != x):
                    yield [*args[:i], y, *args[i + 1 :]]


def source(value: Any) -> str:
    """What to paste to have the value again."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return repr(value)
    text = np.array2string(np.asarray(value), separator=", ", threshold=100, floatmode="unique").replace("\n", " ")
    while "  " in text:
        text = text.replace("  ", " ")
    implied = value.size and value.dtype in (np.float64, np.int64, np.bool_)
    if not value.size:
        text = f"np.zeros({value.shape}"
    return f"{text if not value.size else f'np.array({text}'}{'' if implied else f', np.{value.dtype.name}'})"
