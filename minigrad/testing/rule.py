"""Everything that our own rules go through, in one call for yours."""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from minigrad.engine import Tensor, name_of, vjps
from minigrad.testing.check import Derivative, check_grads, is_floating, plain, read_only, source


def assert_rule(
    function: Callable[..., Any], *args: Any, elementwise: bool | None = None, order: int = 2, **kwargs: Any
) -> None:
    """Test a function made with `minigrad.primitive`, and its rules, around the arguments given.

    Shown Tensors, the function must do what it does shown arrays, and keep float32; its gradients must agree with
    differences up to the given order, and `backward` with `grad`; nothing may write to an argument, an answer or a
    gradient. A function that works element by element is tried with all ways of broadcasting, and every function with
    0-d and empty arrays, if it takes them. Whether it is `elementwise` is found out, unless you say so. Raises
    AssertionError that names the arguments that fail.

    >>> from minigrad import primitive
    >>> @primitive(lambda g, ans, x: g * 3 * x * x)
    ... def cube(x):
    ...     return x**3
    >>> assert_rule(cube, np.array([-2.0, 0.5, 3.0]))
    >>> @primitive(lambda g, ans, x: g * 2)
    ... def twice(x):
    ...     return x * np.float64(2)
    >>> assert_rule(twice, 1.5)
    Traceback (most recent call last):
    AssertionError: twice(np.array(1.5, np.float32)): it returns float64 for float32: are its constants Python numbers?
    """
    __tracebackhide__ = True
    if inspect.unwrap(function) not in vjps:
        raise TypeError(
            f"assert_rule tests what minigrad.primitive made, and {name_of(function)} has no rule: decorate it with "
            "@minigrad.primitive(lambda g, ans, x: ...), or test a composition with check_grads."
        )
    arrays = list(map(plain, args))
    if not any(map(is_floating, arrays)):
        raise TypeError("assert_rule needs arguments to test the rule at, a floating array at least")
    called = functools.partial(function, **kwargs)
    for variant in itertools.chain([arrays], _others(called, arrays, elementwise)):
        single = [a.astype("F" if a.dtype.kind == "c" else "f") if is_floating(a) else a for a in variant]
        for given in (variant, single):
            try:
                if given is single and (dtype := np.asarray(called(*given)).dtype).char not in "fF":
                    raise AssertionError(f"it returns {dtype} for float32: are its constants Python numbers?")
                check_call(called, given, order if given is variant else 1)
                if given is arrays:  # where the function is linear, only this runs what its rules record
                    check_grads(lambda *xs: np.square(called(*xs)), given, order)
            except (AssertionError, ValueError, IndexError, NotImplementedError) as error:
                call = ", ".join([*map(source, given), *(f"{key}={value!r}" for key, value in kwargs.items())])
                cause = None if isinstance(error, AssertionError) else error  # which shows the line that raised it
                raise AssertionError(f"{name_of(function)}({call}): {error}") from cause


def check_call(function: Callable[..., Any], args: list[Any], order: int = 2, rounding: float = 0) -> None:
    """Compare a function of Tensors with itself on arrays, its gradients with differences, and `backward` with `grad`.

    `rounding` is by how much, relative to the precision, the values may differ: those of a composition do.
    """
    __tracebackhide__ = True
    arrays = [read_only(a) if isinstance(a, np.ndarray) else a for a in args]
    floating = [i for i, a in enumerate(arrays) if is_floating(a)]
    expected = np.asarray(function(*arrays))
    tensors: list[Any] = [Tensor(a, requires_grad=True) if i in floating else a for i, a in enumerate(arrays)]
    answer = function(*tensors)
    if not isinstance(answer, Tensor):
        raise AssertionError(f"shown Tensors it returns {type(answer).__name__}, so the gradient is lost")
    found, wanted = (f"{x.dtype}{list(x.shape)}" for x in (answer, expected))
    if found != wanted:
        raise AssertionError(f"shown Tensors it returns {found}, and shown arrays {wanted}")
    eps = rounding * float(np.finfo(expected.dtype).eps)
    np.testing.assert_allclose(answer.data, expected, rtol=eps, atol=eps)
    if answer.function is not None:
        answer.data.flags.writeable = False  # the rules are shown it
        weights = np.random.default_rng(0).integers(1, 9, answer.shape).astype(answer.dtype)
        answer.backward(read_only(weights))
    else:
        weights = np.zeros(answer.shape, answer.dtype)
    check_grads(function, args, order)
    pullback = Derivative(function, 1, arrays, floating).pullback(arrays)
    for i, gradient in zip(floating, pullback(weights), strict=True):
        g = np.zeros_like(gradient) if tensors[i].grad is None else tensors[i].grad  # None: nothing depends on it
        np.testing.assert_array_equal(g, gradient, f"backward() and grad differ for argument {i}")
        if g.dtype != arrays[i].dtype:
            raise AssertionError(f"the gradient of argument {i} is {g.dtype}, and it is {arrays[i].dtype}")


def _others(function: Callable[..., Any], args: list[Any], elementwise: bool | None) -> Iterator[list[Any]]:
    """More arguments, made of the same numbers: with axes of length 1, left out and empty; and single numbers."""
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    if elementwise or (elementwise is None and _works_by_element(function, args)):
        numbers = [np.ravel(a) for a in np.broadcast_arrays(*arrays)]
        for shapes in [((), ()), ((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (3,)), ((1, 0), (3, 1))]:
            for turned in (shapes, shapes[::-1]):
                yield _replaced(args, (np.resize(x, shape) for x, shape in zip(numbers, itertools.cycle(turned))))
        return
    lengths = sorted({n for a in arrays for n in a.shape})
    variants = [[np.asarray(a[(0,) * a.ndim]) if a.size else a for a in arrays]]
    for n, part in itertools.product(lengths, (slice(0), slice(1))):  # of every axis of length n, this part
        variants.append([a[tuple(part if m == n else slice(None) for m in a.shape)] for a in arrays])
    for variant in (_replaced(args, variant) for variant in variants):
        try:
            answer = function(*variant)
        except Exception:  # it does not take them
            continue
        if np.all(np.isfinite(answer)):
            yield variant


def _works_by_element(function: Callable[..., Any], args: list[Any]) -> bool:
    """Whether every element of the answer is made of the elements in its place: not of a sum, nor a neighbour."""
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    try:
        full = [np.resize(a, (2, *a.shape)) for a in np.broadcast_arrays(*arrays)]  # two of each, if there is only one
        answer = np.asarray(function(*_replaced(args, full)))
        if answer.shape != full[0].shape:
            return False
        alone = [function(*_replaced(args, (a[i] for a in full))) for i in np.ndindex(answer.shape)]
        return np.allclose(answer.ravel(), np.ravel(alone), rtol=1e-12, atol=0, equal_nan=True)
    except Exception:  # it does not take single numbers
        return False


def _replaced(args: list[Any], arrays: Iterable[Any]) -> list[Any]:
    """The arguments with other arrays in the places of those among them."""
    others = iter(arrays)
    return [next(others) if isinstance(a, np.ndarray) else a for a in args]
