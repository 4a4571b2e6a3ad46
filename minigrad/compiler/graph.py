"""The graph of a program: what is equal is one value, and what can be said more simply is said so.

Values are made while a function is recorded, call by call, by `Graph.make`, where all that simplifies happens:
identities are applied, constants folded, and calls that are there already used again. What nothing depends on is never
asked for.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from minigrad.engine import Array, Function, mapped
from minigrad.tables.rules import put_add
from minigrad.transforms import argument
from minigrad.trees import leaves


class Value:
    """An array of the program: an input, a constant, or what a call makes of others.

    Or a number of Python's, `is_number`, which takes no part in the promotion of dtypes.
    """

    __slots__ = ("args", "data", "dtype", "function", "is_number", "kwargs", "operands", "order", "shape", "varies")

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: tuple[int, ...]  # its axes, from the one with the longest steps in memory to the one with the shortest
    varies: bool  # whether it depends on an input

    def __init__(self, like: Any, function: Function | None = None, args: Any = (), kwargs: Any = None) -> None:
        self.is_number = isinstance(like, (int, float)) or getattr(like, "is_number", False)
        self.shape, self.dtype = ((), np.dtype(type(like))) if type(like) in (int, float) else (like.shape, like.dtype)
        self.order = getattr(like, "order", tuple(range(len(self.shape))))  # as in C, where there is no memory
        if isinstance(like, np.ndarray) and not like.flags.c_contiguous:
            self.order = tuple(sorted(self.order, key=lambda axis: -like.strides[axis]))
        self.function, self.args, self.kwargs = function, args, kwargs or {}
        self.data: Array | None = None  # of a constant
        self.operands = [leaf for leaf in leaves((args, self.kwargs)) if isinstance(leaf, Value)]
        self.varies = function is None or any(operand.varies for operand in self.operands)


class Graph:
    """Values in the order in which they were made; what can be said more simply is never made."""

    def __init__(self, start: Sequence[Value] = ()) -> None:
        self.order = list(start)
        self.known: dict[Any, Value] = {key_of(value): value for value in start}

    def constant(self, data: Array, whole: bool = False) -> Value:
        """The value of an array that is always the same; of one number, broadcast, unless it is needed `whole`."""
        if data.size > SMALL and not whole and is_uniform(data):
            return self.make(data, np.broadcast_to, (self.constant(np.array(data.flat[0])), data.shape), {})
        key = constant_key(data) or id(data)
        if key not in self.known:
            self.known[key] = value = Value(data)
            value.data, value.varies = data, False
        return self.known[key]

    def make(self, like: Any, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Value:
        """The value of a call: a simpler one that is equal, one that is there, a constant, or a new one."""
        value = Value(like, function, args, kwargs)
        if not value.is_number:
            if function in REDUCTIONS:
                value = as_method(value)
            if isinstance(function, np.ufunc) and not function.signature:
                value = without_broadcasts(value)
            for identity in identities.get(function, ()):
                simpler = identity(self, value)
                if isinstance(simpler, Value) and same_kind(simpler, value):
                    return simpler
        if all(operand.data is not None for operand in value.operands) and math.prod(value.shape) <= SMALL:
            with np.errstate(all="ignore"):
                return self.constant(np.asarray(computed(value, lambda operand: operand.data)))
        key = key_of(value)
        if key not in self.known:
            self.known[key] = value
            self.order.append(value)
        return self.known[key]

    def needed(self, results: Iterable[Value]) -> list[Value]:
        """The calls that these values are made of, in order."""
        found, stack = set(results), list(results)
        while stack:
            for operand in stack.pop().operands:
                if operand not in found:
                    found.add(operand)
                    stack.append(operand)
        return [value for value in self.order if value in found]


def same_kind(a: Value, b: Value) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and not a.is_number


# What Python's operators do with numbers.
OPERATORS: dict[Any, tuple[str, Function]] = {
    np.add: ("+", operator.add), np.subtract: ("-", operator.sub), np.multiply: ("*", operator.mul),
    np.divide: ("/", operator.truediv), np.power: ("**", operator.pow),
}  # fmt: skip


def computed(value: Any, number: Callable[[Value], Any]) -> Any:
    """What a call gives for the numbers of its operands."""
    args, kwargs = mapped(lambda x: number(x) if isinstance(x, Value) else x, (tuple(value.args), value.kwargs))
    if not value.is_number:
        return value.function(*args, **kwargs)
    if value.function in OPERATORS:
        return OPERATORS[value.function][1](*args)
    return value.function(*args).item()


PUT_ADD = inspect.unwrap(put_add)
SMALL = 64  # elements of a constant that is compared, and folded, by its numbers
SHORT = 2**12  # elements of a sum that is a product of vectors


def is_uniform(data: Array) -> bool:
    """Whether all elements are one number, to the last bit."""
    if not data.size or data.dtype.kind not in "biufc":
        return False
    if not any(data.strides):
        return True
    unit = min(data.itemsize & -data.itemsize, 8)  # bytes of the words that are compared
    words = data.reshape(-1).view(f"u{unit}").reshape(data.size, -1)
    return all(bool((column == column[0]).all()) for column in words.T)


def constant_key(data: Array) -> tuple[Any, ...] | None:
    """What tells a constant from others that are not equal, or None where there are too many numbers to compare."""
    if data.size > SMALL and not is_uniform(data):
        return None
    return data.shape, data.dtype.str, data.ravel()[:SMALL].tobytes()


def key_of(value: Value) -> Any:
    """What tells a call from others that are not equal."""
    return value.function, _key(value.args), _key(value.kwargs)


def _key(value: Any) -> Any:
    """Something that is equal for arguments that are equal, for what they are or by what they hold."""
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(_key, value))
    if isinstance(value, dict):
        return tuple((key, _key(item)) for key, item in sorted(value.items()))
    if isinstance(value, slice):
        return slice, _key((value.start, value.stop, value.step))
    if value is None or isinstance(value, (bool, int, float, str, np.generic, np.dtype)):
        return type(value), repr(value)
    return id(value)


# ------------------------------------------------------------------------------------------------------ identities
# Each is shown a value before it is made, and returns one that is equal and simpler, or None. What it returns counts
# only where shape and dtype are the same.

identities: dict[Function, list[Callable[[Graph, Value], Value | None]]] = {}


def identity(*functions: Function) -> Callable[[Any], Any]:
    def register(rule: Any) -> Any:
        for function in functions:
            identities.setdefault(function, []).append(rule)
        return rule

    return register


@identity(argument, np.positive, np.copy, np.ndarray.astype, np.reshape, np.broadcast_to, np.squeeze, np.expand_dims)
def of_the_same_shape(graph: Graph, value: Value) -> Any:
    return value.args[0]


@identity(np.negative)
def twice_negative(graph: Graph, value: Value) -> Any:
    x = value.args[0]
    return x.args[0] if _made_by(x, np.negative) else None


@identity(np.transpose)
def twice_transposed(graph: Graph, value: Value) -> Any:
    x = value.args[0]
    return x.args[0] if is_transpose(value) and is_transpose(x) else None


@identity(np.multiply, np.divide)
def times_one(graph: Graph, value: Value) -> Any:
    x, y = value.args
    return x if _number(y) == 1 else y if _number(x) == 1 and value.function is np.multiply else None


@identity(np.multiply)
def times_reciprocal(graph: Graph, value: Value) -> Any:
    """x * (1 / y) is x / y, but for rounding, and for what lies between them and overflows."""
    for x, y in (value.args, value.args[::-1]):
        inverse = _made_by(y, np.divide) and _number(y.args[0]) == 1 and isinstance(y.args[1], Value)
        if inverse and same_kind(y, y.args[1]) and y.dtype == value.dtype and y.dtype.char in "fd":
            return graph.make(value, np.divide, (x, y.args[1]), {})
    return None


@identity(np.add, np.subtract)
def plus_zero(graph: Graph, value: Value) -> Any:
    """x + 0 is x, but for the sign of a zero."""
    x, y = value.args
    return x if _number(y) == 0 else y if _number(x) == 0 and value.function is np.add else None


@identity(np.add)
def twice(graph: Graph, value: Value) -> Any:
    x, y = value.args
    return graph.make(value, np.multiply, (x, 2.0), {}) if x is y and x.dtype.kind == "f" else None


@identity(np.add)
def plus_negative(graph: Graph, value: Value) -> Any:
    for x, y in (value.args, value.args[::-1]):
        if positive := _negated(graph, y):
            return graph.make(value, np.subtract, (x, positive), {})
    return None


@identity(np.add)
def plus_put(graph: Graph, value: Value) -> Any:
    """What is added to zeros with something put among them is put there at once: so parts of a sum share memory."""
    for x, y in (value.args, value.args[::-1]):
        if _made_by(y, PUT_ADD) and _number(y.args[0]) == 0 and isinstance(x, Value) and same_kind(x, y):
            return graph.make(value, PUT_ADD, (x, *y.args[1:]), {})
    return None


@identity(np.subtract)
def minus_negative(graph: Graph, value: Value) -> Any:
    x, y = value.args
    return graph.make(value, np.add, (x, positive), {}) if (positive := _negated(graph, y)) else None


def _negated(graph: Graph, value: Any) -> Value | None:
    """What `value` is the negative of, where it is a negative, or a product or quotient with one."""
    if not isinstance(value, Value) or value.dtype.kind != "f":
        return None
    if value.function is np.negative:
        return value.args[0]  # type: ignore[no-any-return]
    if value.function in (np.multiply, np.divide):
        for i, x in enumerate(value.args):
            if _made_by(x, np.negative):
                factors = (*value.args[:i], x.args[0], *value.args[i + 1 :])
                return graph.make(value, value.function, factors, {})
    return None


@identity(np.multiply)
def two_factors(graph: Graph, value: Value) -> Any:
    """a * (b * x) is (a * b) * x, to the last bit where one of them is a power of two."""
    for factor, product in (value.args, value.args[::-1]):
        if _number(factor) is not None and _made_by(product, np.multiply) and product.dtype == value.dtype:
            for other, x in (product.args, product.args[::-1]):
                a, b = _number(factor), _number(other)
                powers = b is not None and 0.5 in (abs(math.frexp(a)[0]), abs(math.frexp(b)[0]))
                if powers and isinstance(x, Value) and x.dtype.kind == "f":
                    limit = float(np.finfo(value.dtype).max) ** 0.5
                    if not 1 / limit < abs(a * b) < limit:  # what lies between may be too large or too small
                        return None
                    scale = np.asarray(a, value.dtype) * np.asarray(b, value.dtype)
                    return graph.make(value, np.multiply, (x, graph.constant(np.asarray(scale))), {})
    return None


@identity(np.sum)
def sum_of_copies(graph: Graph, value: Value) -> Any:
    """A sum over the axes along which a value was broadcast is so many times that value."""
    x, axis = value.args[0], value.kwargs.get("axis", ())
    if set(value.kwargs) != {"axis"} or not _made_by(x, np.broadcast_to) or x.dtype.kind != "f":
        return None
    y, axes = x.args[0], range(len(x.shape)) if axis is None else normalize_axis_tuple(axis, len(x.shape))
    before = (1,) * (len(x.shape) - len(y.shape)) + y.shape
    if any(before[i] != (1 if i in axes else n) for i, n in enumerate(x.shape)):
        return None
    count = math.prod(x.shape[i] for i in axes)
    once = graph.make(value, np.reshape, (y, value.shape), {})
    return graph.make(value, np.multiply, (once, float(count)), {}) if count else None


@identity(np.sum)
def sum_of_products(graph: Graph, value: Value) -> Any:
    """Column sums are a row of ones times the matrix, and a sum of products is one of two vectors: BLAS is faster."""
    x, axis = value.args[0], value.kwargs.get("axis", ())
    if set(value.kwargs) != {"axis"} or x.dtype.char not in "fd" or x.dtype != value.dtype:
        return None
    if axis in (0, (0,)) and len(x.shape) == 2 and 0 < x.shape[0] <= SHORT:
        return graph.make(value, np.dot, (graph.constant(np.ones(x.shape[0], x.dtype), whole=True), x), {})
    if axis is None and math.prod(x.shape) <= SHORT and x.function in (np.square, np.multiply):
        y, z = x.args * 2 if x.function is np.square else x.args
        if all(isinstance(part, Value) and (part.shape, part.dtype) == (x.shape, x.dtype) for part in (y, z)):
            return graph.make(value, np.vdot, (y, z), {})
    return None


def _made_by(x: Any, function: Function) -> bool:
    return isinstance(x, Value) and x.function is function


def is_transpose(x: Any) -> bool:
    """Whether it is all axes of another value reversed, which is written x.T where it is used."""
    return _made_by(x, np.transpose) and not x.kwargs and (len(x.args) == 1 or x.args[1] is None)


def _number(x: Any) -> Any:
    """The number, of a number or of a constant that is the same number everywhere; else None."""
    x = x.args[0] if _made_by(x, np.broadcast_to) else x
    if isinstance(x, Value) and x.data is not None and x.data.size and x.dtype.kind in "iuf":
        first = x.data.flat[0]
        return first.item() if np.all(x.data == first) else None
    return x if type(x) in (int, float) else None


_NO_VALUE = inspect.signature(np.max).parameters["initial"].default
_SUMS = ("axis", "dtype", "out", "keepdims", "initial", "where")
_EXTREMES = ("axis", "out", "keepdims", "initial", "where")
REDUCTIONS: dict[Any, tuple[Function, tuple[str, ...]]] = {
    np.sum: (np.add.reduce, _SUMS),
    np.prod: (np.multiply.reduce, _SUMS),
    np.max: (np.maximum.reduce, _EXTREMES),
    np.min: (np.minimum.reduce, _EXTREMES),
}
_DEFAULTS = {"dtype": None, "out": None, "keepdims": False, "initial": _NO_VALUE, "where": True}


def as_method(value: Value) -> Value:
    """A reduction as the method of a ufunc that it is, with the options that are not as usual."""
    method, names = REDUCTIONS[value.function]
    options = {"axis": None, **dict(zip(names, value.args[1:], strict=False)), **value.kwargs}
    options = {name: x for name, x in options.items() if name not in _DEFAULTS or x is not _DEFAULTS[name]}
    return Value(value, method, value.args[:1], options)


def without_broadcasts(value: Value) -> Value:
    """The same call of a ufunc on operands that it broadcasts itself."""
    for i, x in enumerate(value.args):
        if _made_by(x, np.broadcast_to):
            args = (*value.args[:i], x.args[0], *value.args[i + 1 :])
            if np.broadcast_shapes(*map(np.shape, args)) == value.shape:
                value = Value(value, value.function, args, value.kwargs)
    return value
