"""Compile: a function of Tensors as the straight-line NumPy program that an expert would have written by hand.

    trace       run the function once, and its backward pass with it; everything is recorded (`minigrad.trace`)
    Graph       the calls, sorted as they were made; built with constants folded, common calls shared and identities
                applied, and without what nothing depends on
    Plan        which memory every array goes into: buffers that are made once, and used again when their array is dead
    Writer      the program as Python source, a call a line
    Program     the source at work, for one signature: shapes, dtypes, modes
    Compiled    what the user holds: it looks up the program for the arguments, or traces anew

A compiled call is one call in the graph of whoever uses it. Its program knows the way back; for higher derivatives, and
where a nan may have come from a branch that was not chosen, the function itself is run again (`tensor.replayed`).
"""

from __future__ import annotations

import builtins
import functools
import inspect
import itertools
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from keyword import iskeyword
from operator import getitem
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from minigrad import export
from minigrad.nn.module import walk
from minigrad.rules import join
from minigrad.tensor import (
    Array,
    Function,
    Tensor,
    backpropagate,
    call,
    history,
    is_recording,
    name_of,
    observed,
    recording,
    replayed,
    watcher,
)
from minigrad.trace import Trace, current, draw, drawing_again, leaves, numbers
from minigrad.transforms import _flatten

# ------------------------------------------------------------------------------------------------------- the graph


class Value:
    """An array of the program: an input, a constant, or what a call makes of others."""

    __slots__ = ("args", "data", "dtype", "function", "kwargs", "name", "shape")

    def __init__(self, like: Any, function: Function | None = None, args: Any = (), kwargs: Any = None) -> None:
        self.shape, self.dtype = like.shape, like.dtype
        self.function, self.args, self.kwargs = function, args, kwargs or {}
        self.data: Array | None = None  # of a constant
        self.name = ""

    def operands(self) -> list[Value]:
        """The values that it is made of."""
        return [leaf for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Value)]


class Graph:
    """Values by the Tensors that were traced; what can be said more simply is never made."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.values: dict[Tensor, Value] = {}
        self.inputs: list[Tensor] = []
        self.order: list[Value] = []
        self.known: dict[Any, Value] = {}

    def add(self, roots: Iterable[Tensor]) -> list[Value]:
        """The values of some Tensors, with all that they are made of."""
        roots = list(roots)
        found, stack = set(roots), list(roots)
        while stack:
            tensor = stack.pop()
            for leaf in leaves((tensor.args, tensor.kwargs)):
                if isinstance(leaf, Tensor) and leaf not in found and leaf not in self.values:
                    found.add(leaf)
                    stack.append(leaf)
        for tensor in sorted(found, key=lambda tensor: tensor._time):
            if tensor not in self.values:
                self.values[tensor] = self.value_of(tensor)
        return [self.values[root] for root in roots]

    def value_of(self, tensor: Tensor) -> Value:
        if tensor.function is None:
            if not self.trace.traced(tensor):
                return self.constant(tensor._data)
            self.inputs.append(tensor)
            return Value(tensor)
        return self.make(tensor, tensor.function, self.inside(tensor.args), self.inside(tensor.kwargs))

    def inside(self, value: Any) -> Any:
        """The same structure of arguments with values for Tensors."""
        if isinstance(value, Tensor):
            return self.values[value]
        if isinstance(value, (list, tuple)):
            return type(value)(map(self.inside, value))
        return {key: self.inside(item) for key, item in value.items()} if isinstance(value, dict) else value

    def constant(self, data: Array) -> Value:
        key = (data.shape, data.dtype.str, data.tobytes()) if data.size <= SMALL else id(data)
        if key not in self.known:
            self.known[key] = value = Value(data)
            value.data = data
        return self.known[key]

    def make(self, like: Any, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Value:
        """The value of a call: a simpler one that is equal, one that is there, a constant, or a new one."""
        value = Value(like, function, args, kwargs)
        if function is draw:
            self.order.append(value)
            return value
        if isinstance(function, np.ufunc) and not function.signature:
            value = without_broadcasts(value)
        for identity in identities.get(function, ()):
            simpler = identity(self, value)
            if isinstance(simpler, Value) and simpler.shape == value.shape and simpler.dtype == value.dtype:
                return simpler
        operands = value.operands()
        if all(operand.data is not None for operand in operands) and math.prod(value.shape) <= SMALL:
            plain = _replaced((value.args, value.kwargs), lambda operand: operand.data)
            with np.errstate(all="ignore"):
                return self.constant(np.asarray(function(*plain[0], **plain[1])))
        key = (function, _key(value.args), _key(value.kwargs))
        if key not in self.known:
            self.known[key] = value
            self.order.append(value)
        return self.known[key]

    def needed(self, results: Iterable[Value]) -> list[Value]:
        """The calls that these values are made of, in order."""
        found, stack = set(results), list(results)
        while stack:
            for operand in stack.pop().operands():
                if operand not in found:
                    found.add(operand)
                    stack.append(operand)
        return [value for value in self.order if value in found]


SMALL = 64  # elements of a constant that is compared, and folded, by its numbers


def _replaced(value: Any, change: Callable[[Value], Any]) -> Any:
    """The same structure of arguments with something else for each value."""
    if isinstance(value, Value):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(item, change) for item in value)
    return {key: _replaced(item, change) for key, item in value.items()} if isinstance(value, dict) else value


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


@identity(np.positive, np.copy, np.ndarray.astype, np.reshape, np.broadcast_to, np.squeeze, np.expand_dims)
def of_the_same_shape(graph: Graph, value: Value) -> Any:
    return value.args[0]


@identity(np.negative)
def twice_negative(graph: Graph, value: Value) -> Any:
    x = value.args[0]
    return x.args[0] if _made_by(x, np.negative) else None


@identity(np.transpose)
def twice_transposed(graph: Graph, value: Value) -> Any:
    x = value.args[0]
    reversing = all(len(y.args) == 1 or y.args[1] is None for y in (x, value)) if _made_by(x, np.transpose) else False
    return x.args[0] if reversing else None


@identity(np.multiply, np.divide)
def times_one(graph: Graph, value: Value) -> Any:
    x, y = value.args
    return x if _number(y) == 1 else y if _number(x) == 1 and value.function is np.multiply else None


@identity(np.add, np.subtract)
def plus_zero(graph: Graph, value: Value) -> Any:
    x, y = value.args
    return x if _number(y) == 0 else y if _number(x) == 0 and value.function is np.add else None


@identity(np.add)
def twice(graph: Graph, value: Value) -> Any:
    x, y = value.args
    return graph.make(value, np.multiply, (x, 2.0), {}) if x is y and x.dtype.kind == "f" else None


@identity(np.multiply)
def two_factors(graph: Graph, value: Value) -> Any:
    """a * (b * x) is (a * b) * x, to the last bit where one of them is a power of two."""
    for factor, product in (value.args, value.args[::-1]):
        if _number(factor) is not None and _made_by(product, np.multiply):
            for other, x in (product.args, product.args[::-1]):
                a, b = _number(factor), _number(other)
                if b is not None and 0.5 in (abs(math.frexp(a)[0]), abs(math.frexp(b)[0])) and isinstance(x, Value):
                    scale = np.asarray(a, value.dtype) * np.asarray(b, value.dtype)
                    return graph.make(value, np.multiply, (x, graph.constant(np.asarray(scale))), {})
    return None


def _made_by(x: Any, function: Function) -> bool:
    return isinstance(x, Value) and x.function is function


def _number(x: Any) -> Any:
    """The number, of a number or of a constant that is the same number everywhere; else None."""
    if isinstance(x, Value) and x.data is not None and x.data.size and x.dtype.kind in "iuf":
        first = x.data.flat[0]
        return first.item() if np.all(x.data == first) else None
    return x if type(x) in (int, float) else None


def without_broadcasts(value: Value) -> Value:
    """The same call of a ufunc on operands that it broadcasts itself."""
    args = list(value.args)
    for i, x in enumerate(args):
        if _made_by(x, np.broadcast_to):
            shorter = [*args[:i], x.args[0], *args[i + 1 :]]
            if np.broadcast_shapes(*map(np.shape, shorter)) == value.shape:
                args = shorter
    return Value(value, value.function, tuple(args), value.kwargs)


# -------------------------------------------------------------------------------------------------------- the plan
# A value lies in memory of its own, or in that of an argument. Whether a function returns a view may depend on strides,
# so all but those that are known to make something new are taken for views.

NEW = {np.sum, np.where, np.matmul, np.inner, np.max, np.min, np.prod, np.concatenate}


def is_new(value: Value) -> bool:
    """Whether the value never shares memory with what it is made of."""
    return isinstance(value.function, np.ufunc) or value.function in NEW


def takes_out(value: Value) -> bool:
    """Whether the call can be told where to write its answer."""
    if value.function in (np.matmul, np.inner):
        return all(len(np.shape(x)) == 2 and getattr(x, "dtype", None) == value.dtype for x in value.args)
    if value.function is np.sum:
        return not value.kwargs and value.args[0].dtype == value.dtype
    ufunc = value.function
    return isinstance(ufunc, np.ufunc) and ufunc.nout == 1 and not ufunc.signature and not value.kwargs


class Plan:
    """Which buffer every call writes to. `calls` are in order; `kept` are values that leave the program."""

    def __init__(self, calls: Sequence[Value], kept: Iterable[Value]) -> None:
        self.buffers: list[tuple[tuple[int, ...], Any]] = []
        self.place: dict[Value, int] = {}
        leaving = set(kept)
        owners: dict[Value, set[Value]] = {}  # in whose memory a value may lie
        last: dict[Value, int] = {}
        for i, value in enumerate(calls):
            used = set().union(*(owners.get(x, {x}) for x in value.operands()))
            owners[value] = {value} if is_new(value) else {value} | used
            last.update(dict.fromkeys(used | {value}, i))
        for value in leaving:
            last.update(dict.fromkeys(owners.get(value, ()), len(calls)))
        free: dict[Any, list[int]] = {}
        for i, value in enumerate(calls):
            kind = value.shape, value.dtype
            used = set().union(*(owners.get(x, {x}) for x in value.operands()))
            dying = [x for x in calls[:i] if x in used and x in self.place and last[x] == i]
            if takes_out(value) and value not in leaving:
                here = [x for x in dying if (x.shape, x.dtype) == kind] if in_place(value) else []
                if here:
                    dying.remove(here[0])
                    self.place[value] = self.place[here[0]]
                elif free.get(kind):
                    self.place[value] = free[kind].pop()
                else:
                    self.place[value] = len(self.buffers)
                    self.buffers.append(kind)
                if last[value] == i:
                    dying.append(value)
            for x in dying:
                free.setdefault((x.shape, x.dtype), []).append(self.place[x])


def in_place(value: Value) -> bool:
    """Whether the call may write over an operand: element by element it reads before it writes."""
    return isinstance(value.function, np.ufunc) and not value.function.signature


# ------------------------------------------------------------------------------------------------------ the source


class Writer:
    """The lines of a program, and what its global names stand for."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.taken: set[str] = {"np", "buffers", "saved", "workspace", "forward", "backward"}
        self.names: dict[Any, tuple[str, Any]] = {}  # of functions and constants, by what is the same one

    def new_name(self, wish: str) -> str:
        """A name like the one that is wished for, which nothing has yet."""
        wish = re.sub(r"\W+", "_", wish).strip("_") or "f"
        wish = f"_{wish}" if wish[0].isdigit() or iskeyword(wish) or re.fullmatch(r"[bt]\d+", wish) else wish
        name = next(name for i in itertools.count() if (name := f"{wish}_{i}" if i else wish) not in self.taken)
        self.taken.add(name)
        return name

    def named(self, thing: Any, wish: str, key: Any = None) -> str:
        """The global name of a function or a constant."""
        key = key or (thing if callable(thing) else id(thing))
        if key not in self.names:
            self.names[key] = self.new_name(wish), thing
        return self.names[key][0]

    def function(self, function: Function) -> str:
        return self.named(function, name_of(function).removeprefix("np."))

    def constant(self, data: Array) -> str:
        return self.named(data, "c", (data.shape, data.dtype, data.tobytes()) if data.size <= SMALL else None)

    def text(self, value: Any) -> str:
        """An argument as one would write it."""
        if isinstance(value, Value):
            return value.name if value.data is None else self.constant(value.data)
        if isinstance(value, tuple):
            return _tuple(map(self.text, value))
        if isinstance(value, list):
            return f"[{', '.join(map(self.text, value))}]"
        if isinstance(value, slice):
            return f"slice({self.text(value.start)}, {self.text(value.stop)}, {self.text(value.step)})"
        if isinstance(value, np.dtype):
            return f'np.dtype("{value}")'
        if isinstance(value, np.generic) and np.isfinite(value):
            return repr(value)
        if isinstance(value, type):
            return value.__name__ if value.__module__ == "builtins" else f"np.{value.__name__}"
        if value is ...:
            return "..."
        if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
            return repr(value)
        return self.function(value) if callable(value) else self.named(value, "given")

    def line(self, value: Value) -> str:
        """The line that computes a value."""
        value.name = value.name or self.new_name(f"v{len(self.taken)}")
        where = f"b{self.plan.place[value]}" if value in self.plan.place else None
        return f"{value.name} = {self.call(value, where)}".ljust(60) + f"  # {value.dtype} {value.shape}"

    def call(self, value: Value, out: str | None) -> str:
        function, args, kwargs = value.function, value.args, dict(value.kwargs)
        assert function is not None
        texts = list(map(self.text, args))
        if function is getitem:
            index = texts[1][1:-1].rstrip(",") if isinstance(args[1], tuple) and len(args[1]) == 1 else texts[1]
            return f"{texts[0]}[{index}]"
        if function is draw:
            return (
                f"{self.named(args[0], 'draw')}({_arguments(texts[1:], {k: self.text(x) for k, x in kwargs.items()})})"
            )
        if function is np.transpose and not kwargs and (len(args) == 1 or args[1] is None):
            return f"{texts[0]}.T"
        if function in (np.reshape, np.ndarray.astype) and not kwargs and len(args) == 2:
            return f"{texts[0]}.{function.__name__}({texts[1]})"
        if function in (np.matmul, np.inner) and all(len(np.shape(x)) == 2 for x in args):
            function, texts[1] = np.dot, texts[1] + ("" if function is np.matmul else ".T")
        elif function is np.sum and takes_out(value):
            names = ("axis", "dtype", "out", "keepdims")
            given = {name: x for name, x in zip(names, args[1:], strict=False) if x is not None and x is not False}
            function, texts, kwargs = np.add.reduce, texts[:1], {"axis": None, **given}
        elif function is join:
            function, texts = np.concatenate, [f"[{', '.join(texts)}]"]
        elif isinstance(function, np.ufunc) and function is not np.ldexp:
            dtype = np.result_type(
                *(getattr(x, "dtype", x) for x in args)
            )  # of numbers, too: as arrays they are faster
            texts = [
                self.constant(np.asarray(x, dtype)) if type(x) in (int, float) else text
                for x, text in zip(args, texts, strict=True)
            ]
        options = {key: self.text(item) for key, item in kwargs.items()} | ({"out": out} if out else {})
        return f"{self.function(function)}({_arguments(texts, options)})"

    def head(self) -> tuple[list[str], dict[str, Any]]:
        """The lines that define the global names, and those that cannot be defined by a line."""
        imports, lines, given = [], ["import numpy as np"], {}
        for key, (name, thing) in self.names.items():
            path = name_of(thing).removeprefix("np.") if callable(thing) else ""
            if isinstance(key, tuple) and thing.size and np.isfinite(thing).all():  # a small constant
                lines.append(f'{name} = np.array({thing.tolist()}, "{thing.dtype}")')
            elif path and _of_numpy(path) == thing:
                if path == name:
                    imports.append(name)
                else:
                    lines.append(f"{name} = np.{path}")
            else:
                given[name] = thing
        lines[1:1] = [f"from numpy import {', '.join(sorted(imports))}"] if imports else []
        return lines, given


def _of_numpy(path: str) -> Any:
    """What NumPy has under a name such as `linalg.inv`, or None."""
    thing: Any = np
    for part in path.split("."):
        thing = getattr(thing, part, None)
    return thing


def _tuple(texts: Iterable[str]) -> str:
    return "(" + "".join(f"{text}, " for text in texts).rstrip(" ") + ")"


def _arguments(texts: Iterable[str], options: dict[str, str]) -> str:
    return ", ".join([*texts, *(f"{key}={text}" for key, text in options.items())])


def _indented(lines: Iterable[str]) -> list[str]:
    return ["    " + line for line in lines]


class Parts(NamedTuple):
    """The values of a program, in order."""

    inputs: Sequence[Value]
    forward: Sequence[Value]
    outputs: Sequence[Value]
    draws: Sequence[Value]
    seeds: Sequence[Value]
    backward: Sequence[Value]
    gradients: Sequence[Value]


def source_of(title: str, parts: Parts) -> tuple[str, dict[str, Any]]:
    """The source of a program, and what those of its global names stand for that it does not define."""
    plan = Plan([*parts.forward, *parts.backward], [*parts.outputs, *parts.draws, *parts.gradients])
    writer = Writer(plan)
    for value in (*parts.inputs, *parts.seeds, *parts.gradients):
        value.name = writer.new_name(value.name) if value.name and value.data is None else ""
    first, second = ([writer.line(value) for value in calls] for calls in (parts.forward, parts.backward))
    before = {*parts.inputs, *parts.forward}
    used = [x for value in (*parts.backward, *parts.gradients) for x in (*value.operands(), value)]
    saved = [value.name for value in dict.fromkeys(used) if value in before]
    handed: set[Value] = set()

    def leaving(value: Value) -> str:
        """The value, or a copy where its memory is not the caller's alone."""
        own = value.function is not None and is_new(value) and value not in handed
        handed.add(value)
        return writer.text(value) if own else f"np.array({writer.text(value)})"

    buffers = [f"b{i}" for i in range(len(plan.buffers))]
    unpacked = [f"{_tuple(buffers)} = buffers"] if buffers else []
    answer = _tuple(map(leaving, parts.outputs)), _tuple(map(writer.text, parts.draws)), _tuple(saved)
    body = [f"def forward({_arguments(['buffers', *(value.name for value in parts.inputs)], {})}):"]
    body += _indented([*unpacked, *first, f"return {', '.join(answer)}"])
    if parts.gradients:
        unpacked += [f"{_tuple(saved)} = saved"] if saved else []
        answers = _tuple(map(leaving, parts.gradients))
        body += ["", "", f"def backward({_arguments(['buffers', 'saved', *(seed.name for seed in parts.seeds)], {})}):"]
        body += _indented([*unpacked, *second, f"return {answers}"])
    made = _indented(
        f'np.empty({shape}, "{dtype}"),'.ljust(40) + f"  # b{i}" for i, (shape, dtype) in enumerate(plan.buffers)
    )
    memory = ["def workspace():", *_indented(["return (", *made, ")"])]
    head, given = writer.head()
    comments = [f"# {name} is given: {_described(thing)}" for name, thing in given.items()]
    lines = [f'"""{title}"""', "", *head, *comments, "", "", *memory, "", "", *body]
    return "\n".join(lines) + "\n", given


def _described(thing: Any) -> str:
    return f"{thing.dtype} {thing.shape}" if isinstance(thing, np.ndarray) else repr(thing)


# ----------------------------------------------------------------------------------------------------- the program


class Program:
    """A function at work for one signature of its arguments `flat`, of which those at `positions` are inputs."""

    def __init__(
        self, f: Function, flat: Sequence[Any], rebuild: Function, positions: list[int], names: list[str], unit: bool
    ) -> None:
        self.positions, self.unit = positions, unit
        self.outgrown = False  # it has met a gradient of its answer that is not 1, which it takes for granted
        self.tensors = [i for i in positions if isinstance(flat[i], Tensor)]
        trace, filled = Trace(), list(flat)
        for i in positions:
            tracked = isinstance(flat[i], Tensor) and flat[i]._requires_grad
            filled[i] = trace.variable(numbers(flat[i]), tracked, not isinstance(flat[i], Tensor))
        variables = [filled[i] for i in positions]
        args, kwargs = rebuild(filled)
        with observed(trace), np.errstate(all="ignore"):
            answers, self.rebuild = _flatten(f(*args, **kwargs))
        self.answers = [None if isinstance(x, Tensor) else x for x in answers]  # those that are not computed
        self.places = [k for k, x in enumerate(answers) if isinstance(x, Tensor)]
        outputs = [x for x in answers if isinstance(x, Tensor)]
        self.kinds = [x not in trace.arrays for x in outputs]
        self.chooses = trace.chose
        self.doubtful = trace.walked and trace.chose  # whether a nan in an answer may be one that was not chosen
        targets = [_tracked_leaves(trace, output) for output in outputs]
        seeds, gradients = self.walk(trace, outputs, targets)
        trace.restore()

        graph = Graph(trace)
        results = graph.add([*variables, *seeds, *outputs, *trace.draws, *gradients])
        self.closed = [tensor for tensor in graph.inputs if tensor not in {*variables, *seeds}]
        self.flags, self.modes = [tensor._requires_grad for tensor in self.closed], trace.modes
        inputs = [graph.values[tensor] for tensor in (*variables, *self.closed)]
        results = results[len(variables) + len(seeds) :]
        n, m = len(outputs), len(outputs) + len(trace.draws)
        forward = graph.needed(results[:m])
        backward = [value for value in graph.needed(results[m:]) if value not in set(forward)]
        given = [graph.values[seed] for seed in seeds]
        outside = _closed_over(f) or {"model": lambda: f}
        self.variables = [(look, look()) for look in outside.values()]
        parts = walk({name: value for name, (_, value) in zip(outside, self.variables, strict=True)})
        known = {part: name for name, part in parts if isinstance(part, Tensor)}
        words = [*names, *(known.get(tensor, "p") for tensor in self.closed)]
        for value, word in zip([*inputs, *given], [*words, "g"], strict=False):
            value.name = word
        self.parts = Parts(inputs, forward, results[:n], results[n:m], given, backward, results[m:])
        title = f"{getattr(f, '__name__', 'program')}({', '.join(words[: len(names)])})"
        self.source, self.given = source_of(title, self.parts)
        namespace = dict(self.given)
        exec(builtins.compile(self.source, f"<{title}>", "exec"), namespace)
        self.workspace, self.forward = namespace["workspace"], namespace["forward"]
        self.backward: Any = namespace.get("backward")  # or None, where nothing is tracked
        self.pool: list[Any] = []
        places = {tensor: i for i, tensor in enumerate([*(filled[i] for i in self.tensors), *self.closed])}
        self.targets = [[places[target] for target in some] for some in targets]

    def walk(
        self, trace: Trace, outputs: list[Tensor], targets: list[list[Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The way back, where one output is tracked: its gradient, when that is an input, and those of its targets."""
        tracked = [k for k, some in enumerate(targets) if some]
        if len(tracked) != 1:
            return [], []
        root, leaves = outputs[tracked[0]], targets[tracked[0]]
        self.unit = self.unit and root.shape == ()
        one = np.ones(root.shape, root.dtype)
        with observed(trace), recording(True), np.errstate(all="ignore"):
            g = Tensor(one) if self.unit else trace.variable(one, False, True)
            answers = backpropagate(root, g, frozenset(leaves), record=True)
        gradients = [answers[leaf] for leaf in leaves]
        return [] if self.unit else [g], [x if isinstance(x, Tensor) else Tensor(x) for x in gradients]

    def fits(self) -> bool:
        """Whether it is right as things are: what the function closes over, which parameters are frozen, and modes."""
        return (
            not self.outgrown
            and self.flags == [tensor._requires_grad for tensor in self.closed]
            and all(module._training == mode for module, mode in self.modes)
            and all(look() is value for look, value in self.variables)
        )

    def __call__(self, f: Function, flat: Sequence[Any], rebuild: Function) -> Any:
        given = [flat[i] for i in self.positions]
        try:
            buffers = self.pool.pop()
        except IndexError:
            buffers = self.workspace()
        arrays = [x._data if isinstance(x, Tensor) else x for x in given]
        outputs, draws, saved = self.forward(buffers, *arrays, *[tensor._data for tensor in self.closed])
        run = Run(self, f, flat, rebuild, draws, buffers, saved)
        if self.doubtful and any(np.isnan(output).any() for output in outputs):
            return run.eager()  # with masks, where a branch was not chosen
        answers = list(self.answers)
        for k, output, targets, kind in zip(self.places, outputs, self.targets, self.kinds, strict=True):
            if targets:
                tensors = [*(flat[i] for i in self.tensors), *self.closed]
                again, pull = functools.partial(run.again, k, targets), run.pull if self.backward else None
                way_back = {"run": again, "answer": output, "pull": pull, "chooses": self.chooses}
                answers[k] = call(replayed, [tensors[i] for i in targets], way_back)
            else:
                answers[k] = Tensor(output) if kind else output
        return self.rebuild(answers)


class Run:
    """One run of a program: the way back through it, once, and what is needed to run the function itself."""

    __slots__ = ("buffers", "draws", "f", "flat", "program", "rebuild", "saved")

    def __init__(self, program: Program, *rest: Any) -> None:
        self.program = program
        self.f, self.flat, self.rebuild, self.draws, self.buffers, self.saved = rest

    def eager(self, tensors: Mapping[int, Tensor] | None = None) -> Any:
        """What the function itself gives, with the same random numbers; with other tensors in some places."""
        flat = list(self.flat)
        for k, i in enumerate(self.program.tensors):
            flat[i] = (tensors or {}).get(k, flat[i])
        args, kwargs = self.rebuild(flat)
        with drawing_again(self.draws):
            return self.f(*args, **kwargs)

    def again(self, k: int, places: Sequence[int], *tensors: Tensor) -> Any:
        """The answer number `k` of the function itself, of these tensors."""
        return np.positive(_flatten(self.eager(dict(zip(places, tensors, strict=True))))[0][k])

    def pull(self, g: Array) -> list[Any] | None:
        """The gradients of the tensors of the call, or None where the program does not know them.

        It writes over what the forward pass has left, so it works once.
        """
        program = self.program
        if program.unit and g.item() != 1:
            program.outgrown = True
            return None
        if self.saved is None:
            return None
        saved, self.saved = self.saved, None
        gradients: list[Any] = program.backward(self.buffers, saved, *(() if program.unit else (g,)))
        program.pool.append(self.buffers)
        return gradients

    def __del__(self) -> None:
        if self.saved is not None:
            self.program.pool.append(self.buffers)


def _tracked_leaves(trace: Trace, output: Tensor) -> list[Tensor]:
    """The inputs and parameters that an output has a gradient for."""
    nodes = history(output) if output._requires_grad else []
    return [node for node in nodes if node.function is None and trace.traced(node)]


def _argument_names(f: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[int, str]:
    """The names of all arguments, by the id of what was given: `x`, or `batch.images` of a dict."""
    try:
        given = inspect.signature(getattr(f, "forward", f)).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # NumPy's functions do not all tell
        given = {f"x{i}": x for i, x in enumerate(args)} | kwargs
    return {id(item): name for name, item in walk(given)}


def _closed_over(f: Function) -> dict[str, Function]:
    """The variables that a function, or one that it closes over, finds outside of itself: how to look at each."""
    variables: dict[str, Function] = {}
    stack, seen = [inspect.unwrap(f)], set()
    while stack:
        function = stack.pop()
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)
        code, scope = function.__code__, function.__globals__
        found = {name: functools.partial(scope.get, name) for name in code.co_names if name in scope}
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            found[name] = functools.partial(getattr, cell, "cell_contents", None)
        for name, look in found.items():
            variables.setdefault(name, look)
            stack.append(look())
    return {name: look for name, look in variables.items() if not isinstance(look(), (FunctionType, ModuleType, type))}


# --------------------------------------------------------------------------------------------------- what users hold


class Compiled:
    """A function that runs as a NumPy program; see `compile`."""

    def __init__(self, f: Function) -> None:
        functools.update_wrapper(self, f)
        self.f, self.name = f, getattr(f, "__name__", "program")
        self.programs: dict[Any, list[Program]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current() or watcher():  # part of a larger program, or under examination
            return self.f(*args, **kwargs)
        if kwargs or not all(type(x) in _ARRAYS for x in args):
            flat, rebuild = _flatten((args, kwargs))
            structure: Any = _structure((args, kwargs))
        else:
            flat, rebuild, structure = list(args), _positional, None
        key = (structure, is_recording(), *map(_signature, flat))
        programs = self.programs.get(key)
        if programs is None:
            programs = self.programs[key] = []
        for program in programs:
            if program.fits():
                break
        else:
            program = self.traced(programs, flat, rebuild)
        return program(self.f, flat, rebuild)

    def traced(self, programs: list[Program], flat: Sequence[Any], rebuild: Function) -> Program:
        unit = not any(program.outgrown for program in programs)
        count = sum(map(len, self.programs.values()))
        if count == MANY:
            warnings.warn(
                f"{self.name} was traced {count} times, for so many shapes, dtypes, modes and values of arguments "
                "that are no arrays: each costs milliseconds. Give numbers as arrays, and batches of one size.",
                stacklevel=3,
            )
        positions = [i for i, x in enumerate(flat) if isinstance(x, (np.ndarray, np.generic, Tensor))]
        names = _argument_names(self.f, *rebuild(flat))
        program = Program(self.f, flat, rebuild, positions, [names.get(id(flat[i]), "x") for i in positions], unit)
        programs[:] = [old for old in programs if not old.outgrown] + [program]
        return program

    @property
    def source(self) -> str:
        """The program that was made last."""
        return self.newest().source

    def newest(self) -> Program:
        """The program that was made last; a RuntimeError before the first call."""
        programs = [program for group in self.programs.values() for program in group]
        if not programs:
            raise RuntimeError("there is no program yet: it is made at the first call, for the shapes that it sees")
        return programs[-1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program that was made last as a module `path`, which runs on NumPy alone; the weights go beside it.

        With `net.py` comes `net.npz`. `python net.py input.npy` prints the answer, `net.predict(x)` returns it; the
        shapes and dtypes are those of the call that was traced. Raises ValueError for a program that draws random
        numbers, or that calls functions which cannot be written down.
        """
        program = self.newest()
        inputs, parameters = (
            program.parts.inputs[: len(program.positions)],
            program.parts.inputs[len(program.positions) :],
        )
        export.save(
            path,
            program.source,
            program.given,
            [(value.name, value.shape, value.dtype) for value in inputs],
            {value.name: tensor._data for value, tensor in zip(parameters, program.closed, strict=True)},
        )


MANY = 16  # programs of one function that are worth a warning
_ARRAYS = {np.ndarray, Tensor}


def _positional(leaves: Sequence[Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    return leaves, {}


def _signature(x: Any) -> Any:
    """What a program depends on in a leaf of the arguments."""
    if type(x) is Tensor:
        return x._data.shape, x._data.dtype, x._requires_grad
    if isinstance(x, (np.ndarray, np.generic)):
        return x.shape, x.dtype
    if isinstance(x, (bool, int, float, str)):
        return type(x), x
    return id(x)


def _structure(tree: Any) -> Any:
    flat, _ = _flatten(tree)
    return repr(_flatten(tree)[1](["*"] * len(flat)))


def compile(f: Function) -> Compiled:
    """`f` as a NumPy program that is traced once for each signature, and replayed; the gradient too.

    The signature is the shapes and dtypes of arrays, which Tensors require a gradient, the values of all other
    arguments, the modes of modules, and what `f` closes over. Parameters, and other Tensors and arrays that meet a
    Tensor, are read afresh at each call; plain Python, and NumPy on plain arrays alone, runs once, while tracing.
    Values and gradients are those of `f`; up to rounding, where calls were simplified. Raises TraceError where `f`
    looks at numbers, as in `if t > 0`. `.source` is the program, `.save(path)` writes it as a module.

    >>> area = compile(lambda x: np.sum(x**2) * 3)
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> area(x).backward()
    >>> x.grad
    array([ 6., 12.])
    >>> "multiply(x, c" in area.source
    True
    """
    if not callable(f):
        raise TypeError(f"compile takes a function, or a model, and not {f!r}")
    return f if isinstance(f, Compiled) else Compiled(f)
