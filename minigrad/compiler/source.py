"""A program as Python source: the lines, and what the names in them stand for."""

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

from minigrad.compiler.graph import Value, constant_key, is_uniform
from minigrad.compiler.plan import METHODS, ROUND, THREADED, Block, Plan, grouped, is_new, is_transpose, takes_out
from minigrad.engine import Array, Function, name_of
from minigrad.sample import sampled
from minigrad.tables.rules import concatenate


class Writer:
    """The lines of a program, and what its global names stand for."""

    plan: Plan

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.taken = {"np", "min", "range", "buffers", "saved", "workspace", "forward", "backward"}
        self.taken |= {"sys", "warnings", "Path", "file", "weights", "predict"}  # of the module that it may be saved as
        self.local: dict[Value, str] = {}  # the names of values
        self.globals: dict[Any, tuple[str, Any]] = {}  # of functions and constants, by what is the same one
        self.count = itertools.count()

    def new_name(self, wish: str) -> str:
        """A name like the one that is wished for, which nothing has yet."""
        wish = re.sub(r"\W+", "_", wish).strip("_") or "f"
        wish = f"_{wish}" if wish[0].isdigit() or iskeyword(wish) or re.fullmatch(r"[btr]\d+", wish) else wish
        name = next(name for i in itertools.count() if (name := f"{wish}_{i}" if i else wish) not in self.taken)
        self.taken.add(name)
        return name

    def named(self, thing: Any, wish: str, key: Any = None) -> str:
        """The global name of a function or a constant."""
        key = key or (thing if callable(thing) else id(thing))
        if key not in self.globals:
            self.globals[key] = self.new_name(wish), thing
        return self.globals[key][0]

    def function(self, function: Function) -> str:
        return self.named(function, name_of(function).removeprefix("np."))

    def constant(self, data: Array) -> str:
        return self.named(data, "c", constant_key(data))

    def text(self, value: Any) -> str:
        """An argument as one would write it."""
        if isinstance(value, Value):
            if value in self.local:
                return self.local[value]
            if is_transpose(value):
                return f"{self.text(value.args[0])}.T"
            return self.name(value) if value.data is None else self.constant(value.data)
        if isinstance(value, tuple):
            return as_tuple(map(self.text, value))
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

    def index(self, index: Any) -> str:
        """What stands between brackets."""
        if not isinstance(index, tuple):
            return self.slice(index)
        return ", ".join(map(self.slice, index)) + "," * (len(index) == 1) if index else "()"

    def slice(self, part: Any) -> str:
        if not isinstance(part, slice):
            return self.text(part)
        return ":".join("" if x is None else self.text(x) for x in (part.start, part.stop, part.step)).removesuffix(":")

    def name(self, value: Value) -> str:
        if value not in self.local:
            self.local[value] = f"t{next(self.count)}"
        return self.local[value]

    def lines(self, step: Value | Block) -> list[str]:
        """The lines that compute a value, or all in a block."""
        if isinstance(step, Block):
            return self.block(step)
        if is_transpose(step):
            return []
        call = self.call(step, self.plan.place.get(step))
        return [commented(call if step in self.plan.place else f"{self.name(step)} = {call}", step)]

    def block(self, block: Block) -> list[str]:
        """A loop over some rows at a time."""
        length, rest = block.shape[0], math.prod(block.shape[1:])
        rows, threads = max(1, ROUND // rest), self.threads if rest * length * len(block.values) >= THREADED else 1
        whole = [value for value in block.values if value in self.plan.place or value in self.plan.kept]
        made = [value for value in whole if value not in self.plan.place]
        before = [commented(f'{self.name(x)} = np.empty({x.shape}, "{x.dtype}")', x) for x in made]
        parts = [self.new_name(f"{self.name(total)}_parts") for total in block.sums]
        for name, total in zip(parts, block.sums, strict=True):
            before.append(f'{name} = np.empty({-(-length // rows)}, "{total.dtype}")')
        inside = Plan([*block.values, *block.sums], [*whole, *block.sums], letter="r")
        outer, body, memory = dict(self.local), [f"j = min(i + {rows}, {length})"], []
        self.local.update(inside.place)
        cut = [x for x in dict.fromkeys([*whole, *block.operands()]) if x.shape[:1] == (length,)]
        cut = [x for x in cut if len(x.shape) == len(block.shape)]
        for x, text in zip(cut, list(map(self.text, cut)), strict=True):
            self.local[x] = self.new_name(f"{text}_rows")
            body.append(f"{self.local[x]} = {text}[i:j]")
        for name, (shape, dtype) in inside.buffers.items():
            memory.append(f'all_{name} = np.empty({(rows, *shape[1:])}, "{dtype}")')
            body.append(f"{name} = all_{name}[: j - i]")
        for value in block.values:
            call = self.call(value, self.local[value] if takes_out(value) else None)
            if takes_out(value):
                body.append(call)
            elif value in whole:
                body.append(f"{self.local[value]}[...] = {call}")
            else:
                body.append(f"{self.name(value)} = {call}")
        reduce = self.function(np.add.reduce)
        for name, total in zip(parts, block.sums, strict=True):
            body.append(f"{name}[i // {rows}] = {reduce}({self.text(total.args[0])}, axis=None)")
        self.local = outer
        chunk, starts = self.new_name("chunk"), f"range(0, {length}, {rows})"
        run = f"{chunk}({starts})" if threads == 1 else f"{self.function(in_threads)}({chunk}, {starts}, {threads})"
        after = [f"{self.name(x)} = {reduce}({name})" for name, x in zip(parts, block.sums, strict=True)]
        return [
            *before,
            f"def {chunk}(starts):",
            *indented([*memory, "for i in starts:", *indented(body)]),
            run,
            *after,
        ]

    def call(self, value: Value, out: str | None) -> str:
        """The call that makes a value, which is written to `out` where that is a name."""
        function, args, kwargs = value.function, value.args, dict(value.kwargs)
        assert function is not None
        texts = list(map(self.text, args))
        if function is getitem:
            return f"{texts[0]}[{self.index(args[1])}]"
        if function is sampled:
            options = {key: self.text(x) for key, x in kwargs.items()}
            return f"{self.named(args[0], 'draw')}({arguments(texts[1:], options)})"
        if function in (np.reshape, np.ndarray.astype) and not kwargs and len(args) == 2:
            return f"{texts[0]}.{function.__name__}({texts[1]})"
        if function in (np.matmul, np.inner) and all(len(np.shape(x)) == 2 for x in args):
            texts[1] += "" if function is np.matmul else ".T"
            function = np.dot
        elif function is concatenate:
            function, texts = np.concatenate, [f"[{', '.join(texts)}]"]
        elif isinstance(function, np.ufunc) and function is not np.ldexp:
            dtype = np.result_type(*(getattr(x, "dtype", x) for x in args))
            for i, x in enumerate(args):
                if type(x) in (int, float):  # arrays are faster than numbers
                    texts[i] = self.constant(np.asarray(x, dtype))
        options = {key: self.text(item) for key, item in kwargs.items()}
        if out and function in {*METHODS, np.maximum, np.minimum}:  # which take it by keyword alone
            options["out"] = out
        elif out:
            texts.append(out)
        return f"{self.function(function)}({arguments(texts, options)})"

    def head(self) -> tuple[list[str], dict[str, Any]]:
        """The lines that define the global names, and those that cannot be defined by a line."""
        imports, lines, given = [], ["import numpy as np"], {}
        for key, (name, thing) in self.globals.items():
            path = name_of(thing).removeprefix("np.") if callable(thing) else ""
            if isinstance(key, tuple) and thing.size and np.isfinite(thing).all():  # a small constant
                full = thing.ndim and is_uniform(thing)
                how = f"full({thing.shape}, {thing.flat[0].item()}," if full else f"array({thing.tolist()},"
                lines.append(f'{name} = np.{how} "{thing.dtype}")')
            elif path and of_numpy(path) == thing:
                if path == name:
                    imports.append(name)
                else:
                    lines.append(f"{name} = np.{path}")
            else:
                given[name] = thing
        lines[1:1] = [f"from numpy import {', '.join(sorted(imports))}"] if imports else []
        return lines, given


def of_numpy(path: str) -> Any:
    """What NumPy has under a name such as `linalg.inv`, or None."""
    thing: Any = np
    for part in path.split("."):
        thing = getattr(thing, part, None)
    return thing


def commented(line: str, value: Value) -> str:
    return f"{line:<60}  # {value.dtype} {value.shape}"


def as_tuple(texts: Iterable[str]) -> str:
    items = list(texts)
    return f"({', '.join(items)}{',' * (len(items) == 1)})"


def arguments(texts: Iterable[str], options: dict[str, str]) -> str:
    return ", ".join([*texts, *(f"{key}={text}" for key, text in options.items())])


def indented(lines: Iterable[str]) -> list[str]:
    return ["    " + line for line in lines]


class ProgramValues(NamedTuple):
    """The values of a program, in order."""

    inputs: Sequence[Value]
    names: Sequence[str]  # which the inputs shall have
    forward: Sequence[Value]
    outputs: Sequence[Value]
    draws: Sequence[Value]
    seeds: Sequence[Value]
    backward: Sequence[Value]
    gradients: Sequence[Value]
    targets: Sequence[Value]  # the inputs that the gradients belong to


def source_of(name: str, values: ProgramValues, count: int, threads: int) -> tuple[str, dict[str, Any], list[str]]:
    """The source of a program that is called by a name with so many arguments, the first inputs.

    Also, what those of its global names stand for that it does not define, and the names of its inputs.
    """
    writer = Writer(threads)
    for value, wish in zip([*values.inputs, *values.seeds], [*values.names, *["g"] * len(values.seeds)], strict=True):
        writer.local[value] = writer.new_name(wish)
    inputs = list(map(writer.name, values.inputs))
    destinations = [writer.new_name(f"d_{writer.name(target)}") for target in values.targets]
    direct: dict[Value, str] = {}  # gradients that are written where they belong by the call that makes them
    before, after = {*values.inputs, *values.forward}, {*values.backward}
    for value, place in zip(values.gradients, destinations, strict=True):
        if value in after and is_new(value) and takes_out(value):
            direct.setdefault(value, place)
    forward, backward = grouped(values.forward), grouped(values.backward)
    plan = writer.plan = Plan([*forward, *backward], [*values.outputs, *values.draws, *values.gradients], direct)
    writer.local.update(plan.place)
    first, second = ([line for step in steps for line in writer.lines(step)] for steps in (forward, backward))
    for value, place in zip(values.gradients, destinations, strict=True):
        if direct.get(value) != place:
            second.append(f"{writer.function(np.copyto)}({place}, {writer.text(value)})")
    saved: dict[str, None] = {}  # the names of what lies in no buffer
    used = [operand for value in values.backward for operand in value.operands()]
    for value in [*used, *values.gradients]:
        while is_transpose(value):
            value = value.args[0]
        if value in before and value not in plan.place:
            saved[writer.name(value)] = None
    handed: set[Value] = set()

    def handing(value: Value) -> str:
        """The value, or a copy where its memory is not the caller's alone."""
        own = value.function is not None and is_new(value) and value not in handed
        handed.add(value)
        return writer.text(value) if own else f"np.array({writer.text(value)})"

    answer = as_tuple(map(handing, values.outputs)), as_tuple(map(writer.text, values.draws)), as_tuple(saved)
    buffers = [f"{as_tuple(plan.buffers)} = buffers"] if plan.buffers else []
    body = [f"def forward({', '.join(['buffers', *inputs])}):"]
    body += indented(
        f"# {name}: {value.dtype} {value.shape}" for value, name in zip(values.inputs, inputs, strict=True)
    )
    body += indented([*buffers, *first, f"return {', '.join(answer)}"])
    if values.gradients:
        given = ["buffers", "saved", *map(writer.name, values.seeds), *destinations]
        unpacked = [f"{as_tuple(saved)} = saved"] if saved else []
        body += ["", "", f"def backward({', '.join(given)}):", *indented([*buffers, *unpacked, *second])]
    made = [f'np.empty({shape}, "{kind}"),'.ljust(40) + f"  # {b}" for b, (shape, kind) in plan.buffers.items()]
    memory = ["def workspace():", *indented(["return (", *indented(made), ")"] if made else ["return ()"])]
    head, unknown = writer.head()
    comments = [f"# {given} is given: {described(thing)}" for given, thing in unknown.items()]
    lines = [f'"""{name}({", ".join(inputs[:count])})"""', "", *head, *comments, "", "", *memory, "", "", *body]
    return "\n".join(lines) + "\n", unknown, inputs


def described(thing: Any) -> str:
    return f"{thing.dtype} {thing.shape}" if isinstance(thing, np.ndarray) else repr(thing)


def in_threads(work: Function, starts: Iterable[int], threads: int) -> None:
    """Let so many threads work at once on the starts of parts, each taking the next one when it is done."""
    shared = iter(starts)
    with ThreadPoolExecutor(threads) as pool:
        for thread in [pool.submit(copy_context().run, work, shared) for _ in range(threads)]:
            thread.result()
