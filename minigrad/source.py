"""A program as Python source: which memory every array goes into, and the lines.

Buffers are made once for each workspace, and used again when their array is dead. A value lies in memory of its own, or
in that of an argument: whether a function returns a view may depend on strides, so all but those that are known to make
something new are taken for views.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from keyword import iskeyword
from operator import getitem
from typing import Any, NamedTuple

import numpy as np

from minigrad.graph import REDUCTIONS, SMALL, Value
from minigrad.rules import join
from minigrad.tensor import Array, Function, name_of
from minigrad.trace import draw

# -------------------------------------------------------------------------------------------------------- the plan

METHODS = {method for method, _ in REDUCTIONS.values()}
NEW = {np.where, np.matmul, np.inner, join, *METHODS}


def is_new(value: Value) -> bool:
    """Whether the value never shares memory with what it is made of."""
    return isinstance(value.function, np.ufunc) or value.function in NEW


def takes_out(value: Value) -> bool:
    """Whether the call can be told where to write its answer."""
    if value.function in (np.matmul, np.inner):
        return all(len(np.shape(x)) == 2 and getattr(x, "dtype", None) == value.dtype for x in value.args)
    ufunc = value.function
    if isinstance(ufunc, np.ufunc):
        return ufunc.nout == 1 and not ufunc.signature and not value.kwargs
    return ufunc in METHODS


def in_place(value: Value) -> bool:
    """Whether the call may write over an operand: element by element it reads before it writes."""
    return isinstance(value.function, np.ufunc) and not value.function.signature


class Block:
    """Calls that work element by element on large arrays, done for some rows after the other, so that what is passed
    between them stays in the cache; and sums of the answers."""

    def __init__(self, first: Value) -> None:
        self.values, self.sums = [first], list[Value]()
        self.shape = first.shape

    def takes(self, value: Value) -> bool:
        """Take in the next call, if it belongs here."""
        if is_large(value) and value.shape == self.shape and not set(value.operands()) & set(self.sums):
            self.values.append(value)
        elif is_total(value) and value.args[0] in self.values:
            self.sums.append(value)
        else:
            return False
        return True

    def operands(self) -> list[Value]:
        """The values from outside that it works with."""
        inside = {*self.values, *self.sums}
        return [x for value in (*self.values, *self.sums) for x in value.operands() if x not in inside]


def is_total(value: Value) -> bool:
    """Whether the call is a sum over all axes."""
    return value.function == np.add.reduce and value.kwargs == {"axis": None}


def is_large(value: Value) -> bool:
    """Whether the call is one of a ufunc on more than fits the cache, and so worth a block."""
    return in_place(value) and takes_out(value) and value.shape[:1] > (1,) and math.prod(value.shape) >= LARGE


LARGE, ROUND = 2**17, 2**14  # elements of an array that is worth a block, and of the part that is done in one go
THREADED = 2**20  # elements that are computed in all, of a block that is worth threads


def grouped(calls: Iterable[Value]) -> list[Value | Block]:
    """The calls in order, those that can be done together in blocks; what does not need a block goes before it."""
    steps: list[Value | Block] = []
    block: Block | None = None

    def close() -> None:
        if block:
            steps.extend([block] if len(block.values) + len(block.sums) > 1 else block.values)

    for value in calls:
        if block and block.takes(value):
            continue
        if block and set(value.operands()) & {*block.values, *block.sums}:
            close()
            block = None
        if block is None and is_large(value):
            block = Block(value)
        else:
            steps.append(value)
    close()
    return steps


class Plan:
    """Which buffer every call writes to. `steps` are in order; `kept` are values that leave the program."""

    def __init__(self, steps: Sequence[Value | Block], kept: Iterable[Value]) -> None:
        self.buffers: list[tuple[tuple[int, ...], Any]] = []
        self.place: dict[Value, int] = {}
        leaving = set(kept)
        owners: dict[Value, set[Value]] = {}  # in whose memory a value may lie
        last: dict[Value, int] = {}
        for i, step in enumerate(steps):
            used = set().union(*(owners.get(x, {x}) for x in step.operands()))
            for value in _results(step):
                owners[value] = {value} if is_new(value) else {value} | used
                last[value] = i
            last.update(dict.fromkeys(used, i))
        for value in leaving:
            last.update(dict.fromkeys(owners.get(value, ()), len(steps)))
        order = {value: i for i, value in enumerate(owners)}
        free: dict[Any, list[int]] = {}
        for i, step in enumerate(steps):
            used = set().union(*(owners.get(x, {x}) for x in step.operands()))
            dying = sorted((x for x in used if x in self.place and last[x] == i), key=order.__getitem__)
            for value in _results(step):
                kind = value.shape, value.dtype
                if not takes_out(value) or value in leaving or (isinstance(step, Block) and last[value] == i):
                    continue
                here = [x for x in dying if (x.shape, x.dtype) == kind] if step is value and in_place(value) else []
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


def _results(step: Value | Block) -> list[Value]:
    return step.values if isinstance(step, Block) else [step]


def in_chunks(work: Function, length: int, threads: int) -> list[Any]:
    """What work(start, stop) returns for parts of a range, added up; the parts are done at once, on so many threads."""
    ends = [length * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(copy_context().run, work, start, stop) for start, stop in itertools.pairwise(ends[1:])]
        first = work(0, ends[1])
    return [sum(part) for part in zip(first, *(part.result() for part in parts), strict=True)]


# ------------------------------------------------------------------------------------------------------ the source


class Writer:
    """The lines of a program, and what its global names stand for."""

    def __init__(self, plan: Plan, needed: set[Value], threads: int) -> None:
        self.plan, self.needed, self.threads = plan, needed, threads
        self.parts: dict[int, str] = {}  # of arrays in a block, by the id of the whole one
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
        if id(value) in self.parts:
            return self.parts[id(value)]
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

    def name(self, value: Value) -> str:
        value.name = value.name or self.new_name(f"v{len(self.taken)}")
        return value.name

    def lines(self, step: Value | Block) -> list[str]:
        """The lines that compute a value, or all in a block."""
        if isinstance(step, Block):
            return self.block(step)
        where = f"b{self.plan.place[step]}" if step in self.plan.place else None
        return [f"{self.name(step)} = {self.call(step, where)}".ljust(60) + f"  # {step.dtype} {step.shape}"]

    def block(self, block: Block) -> list[str]:
        """A loop over some rows at a time."""
        length, rest = block.shape[0], math.prod(block.shape[1:])
        rows, threads = max(1, ROUND // rest), self.threads if rest * length * len(block.values) >= THREADED else 1
        whole = [value for value in block.values if value in self.plan.place or value in self.needed]
        inside = Plan([*block.values, *block.sums], [*whole, *block.sums])
        before, body, local = [], [], [self.new_name("part") for _ in inside.buffers]
        for value in whole:
            made = f'np.empty({value.shape}, "{value.dtype}")' if value in self.needed else f"b{self.plan.place[value]}"
            before.append(f"{self.name(value)} = {made}".ljust(60) + f"  # {value.dtype} {value.shape}")
        passed = {*block.values} - {*whole}
        operands = [x for value in block.values for x in value.args if not (isinstance(x, Value) and x in passed)]
        for x in [*whole, *operands]:
            shape = np.shape(x)
            if shape[:1] == (length,) and len(shape) == len(block.shape) and id(x) not in self.parts:
                text = self.text(x)
                self.parts[id(x)] = self.new_name(f"{text}_part")
                body.append(f"{self.parts[id(x)]} = {text}[i:j]")
        for value in block.values:
            if value in whole:
                body.append(self.call(value, self.parts[id(value)]))
            else:
                body.append(f"{self.name(value)} = {self.call(value, f'{local[inside.place[value]]}[: j - i]')}")
        totals = [self.name(value) for value in block.sums]
        for value in block.sums:
            body.append(f"{value.name} += {self.function(np.add.reduce)}({self.text(value.args[0])}, axis=None)")
        self.parts.clear()
        shapes = [((rows, *shape[1:]), dtype) for shape, dtype in inside.buffers]
        chunk = [f'{name} = np.empty({shape}, "{dtype}")' for name, (shape, dtype) in zip(local, shapes, strict=True)]
        chunk += [f"{name} = 0" for name in totals]
        chunk += [f"for i in range(start, stop, {rows}):", *_indented([f"j = min(i + {rows}, stop)", *body])]
        name = self.new_name("chunk")
        run = f"{name}(0, {length})" if threads == 1 else f"{self.function(in_chunks)}({name}, {length}, {threads})"
        after = [f"{_tuple(totals)} = {run}" if totals else run]
        return [*before, f"def {name}(start, stop):", *_indented([*chunk, f"return {_tuple(totals)}"]), *after]

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


def source_of(title: str, parts: Parts, threads: int = 1) -> tuple[str, dict[str, Any]]:
    """The source of a program, and what those of its global names stand for that it does not define."""
    leaving = {*parts.outputs, *parts.draws, *parts.gradients}
    forward, backward = grouped(parts.forward), grouped(parts.backward)
    writer = Writer(Plan([*forward, *backward], leaving), leaving, threads)
    for value in (*parts.inputs, *parts.seeds, *parts.gradients):
        value.name = writer.new_name(value.name) if value.name and value.data is None else ""
    first, second = ([line for step in steps for line in writer.lines(step)] for steps in (forward, backward))
    before = {*parts.inputs, *parts.forward}
    used = [x for value in (*parts.backward, *parts.gradients) for x in (*value.operands(), value)]
    saved = [value.name for value in dict.fromkeys(used) if value in before]
    handed: set[Value] = set()

    def handing(value: Value) -> str:
        """The value, or a copy where its memory is not the caller's alone."""
        own = value.function is not None and is_new(value) and value not in handed
        handed.add(value)
        return writer.text(value) if own else f"np.array({writer.text(value)})"

    buffers = [f"b{i}" for i in range(len(writer.plan.buffers))]
    unpacked = [f"{_tuple(buffers)} = buffers"] if buffers else []
    answer = _tuple(map(handing, parts.outputs)), _tuple(map(writer.text, parts.draws)), _tuple(saved)
    body = [f"def forward({_arguments(['buffers', *(value.name for value in parts.inputs)], {})}):"]
    body += _indented([*unpacked, *first, f"return {', '.join(answer)}"])
    if parts.gradients:
        unpacked += [f"{_tuple(saved)} = saved"] if saved else []
        answers = _tuple(map(handing, parts.gradients))
        body += ["", "", f"def backward({_arguments(['buffers', 'saved', *(seed.name for seed in parts.seeds)], {})}):"]
        body += _indented([*unpacked, *second, f"return {answers}"])
    made = _indented(
        f'np.empty({shape}, "{dtype}"),'.ljust(40) + f"  # b{i}" for i, (shape, dtype) in enumerate(writer.plan.buffers)
    )
    memory = ["def workspace():", *_indented(["return (", *made, ")"] if made else ["return ()"])]
    head, given = writer.head()
    comments = [f"# {name} is given: {_described(thing)}" for name, thing in given.items()]
    lines = [f'"""{title}"""', "", *head, *comments, "", "", *memory, "", "", *body]
    return "\n".join(lines) + "\n", given


def _described(thing: Any) -> str:
    return f"{thing.dtype} {thing.shape}" if isinstance(thing, np.ndarray) else repr(thing)
