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

from minigrad.compiler.graph import OPERATORS, PUT_ADD, Value, constant_key, is_transpose, is_uniform

from minigrad.compiler.plan import (  # isort: skip
    METHODS, ROUND, THREADED, Block, Plan, Rows, grouped, in_place, is_new, is_view, joined, kind_of, parts_of, results,
    takes_out,
)  # fmt: skip
from minigrad.engine import Array, Function, name_of
from minigrad.tables.rules import add_at, concatenate


class Writer:
    """The lines of a program, and what its global names stand for."""

    plan: Plan

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.taken = {"np", "min", "range", "buffers", "saved", "workspace", "forward", "backward"}
        # Of the module that it may be saved as.
        self.taken |= {"hashlib", "io", "sys", "warnings", "Path", "file", "weights", "predict", "step"}
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
        if step.function is concatenate and any(rows.whole is step for rows in self.plan.parts.values()):
            copied = (
                (x, rows) for x, rows in joined(step) if self.plan.parts.get(x) != rows and rows.stop > rows.start
            )
            return [f"{self.rows(rows)} = {self.text(x)}" for x, rows in copied]
        if step in self.plan.parts:
            return [] if step.function is np.reshape else self.part(step, self.plan.parts[step])
        call = self.call(step, self.plan.place.get(step))
        return [commented(call if step in self.plan.place else f"{self.name(step)} = {call}", step)]

    def part(self, value: Value, rows: Rows) -> list[str]:
        """The lines that make a value as a part of another one, whose memory is made before its first part."""
        whole, axis, start, stop = rows
        before = [] if whole in self.local else [f"{self.name(whole)} = {empty(*kind_of(whole))}"]
        shape = (*whole.shape[:axis], stop - start, *whole.shape[axis + 1 :])
        in_shape = "" if value.shape == shape else f".reshape({value.shape})"  # a view, see `parts_of`
        name, there = self.name(value), self.rows(rows)
        return [*before, f"{name} = {there}{in_shape}", commented(self.call(value, name), value)]

    def rows(self, rows: Rows) -> str:
        return f"{self.name(rows.whole)}[{':, ' * rows.axis}{rows.start}:{rows.stop}]"

    def block(self, block: Block) -> list[str]:
        """A loop over some rows at a time."""
        length, size = block.shape[block.axis], math.prod(block.shape)
        rows, threads = max(1, ROUND * length // size), self.threads if size * len(block.values) >= THREADED else 1
        whole = [value for value in block.values if value in self.plan.place or value in self.plan.kept]
        made = [value for value in whole if value not in self.plan.place]
        before = [commented(f"{self.name(x)} = {empty(*kind_of(x))}", x) for x in made]
        parts = [self.new_name(f"{self.name(total)}_parts") for total in block.sums]
        for name, total in zip(parts, block.sums, strict=True):
            before.append(f'{name} = np.empty({-(-length // rows)}, "{total.dtype}")')
        inside = Plan([*block.values, *block.sums], [*whole, *block.sums], letter="r")
        outer, body, memory = dict(self.local), [f"j = min(i + {rows}, {length})"], []
        self.local.update(inside.place)
        axes = {x: block.axis + len(x.shape) - len(block.shape) for x in (*whole, *block.operands)}
        cut = {x: axis for x, axis in axes.items() if axis >= 0 and x.shape[axis] == length}
        for x, text in zip(cut, list(map(self.text, cut)), strict=True):
            self.local[x] = self.new_name(f"{text}_rows")
            body.append(f"{self.local[x]} = {text}[{':, ' * cut[x]}i:j]")
        for name, (shape, dtype, order) in inside.buffers.items():
            shape = (*shape[: block.axis], rows, *shape[block.axis + 1 :])
            memory.append(f"all_{name} = {empty(shape, dtype, order)}")
            body.append(f"{name} = all_{name}[{':, ' * block.axis}: j - i]")
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
        work = [f"def {chunk}(starts):", *indented([*memory, "for i in starts:", *indented(body)])]
        return [*before, *work, run, *after]

    def call(self, value: Value, out: str | None) -> str:
        """The call that makes a value, which is written to `out` where that is a name."""
        function, args, kwargs = value.function, value.args, dict(value.kwargs)
        assert function is not None
        texts = list(map(self.text, args))
        if function is getitem:
            return f"{texts[0]}[{self.index(args[1])}]"
        if text := self.of_numbers(value, texts):
            return text
        if function is np.reshape and kwargs == {"order": "C"}:
            kwargs = {}
        if function in (np.reshape, np.ndarray.astype) and not kwargs and len(args) == 2:
            return f"{texts[0]}.{function.__name__}({texts[1]})"
        if function is PUT_ADD and texts[0] == out and is_basic(args[1]):
            return f"{out}[{self.index(args[1])}] += {texts[2]}"
        if function is np.dot or (function in (np.matmul, np.inner) and all(len(np.shape(x)) == 2 for x in args)):
            texts[1] += ".T" if function is np.inner else ""
            given = f"{texts[1]}, {out}" if out else texts[1]
            return f"{texts[0]}.dot({given})"  # the method is called more quickly
        if function is concatenate:
            function, texts = np.concatenate, [f"[{', '.join(texts)}]"]
        elif isinstance(function, np.ufunc) and function is not np.ldexp:
            texts = [self.operand(x, args) for x in args]
        elif function is PUT_ADD and out:
            function = put_add_into
        options = {key: self.text(item) for key, item in kwargs.items()}
        if out and function in {*METHODS, np.maximum, np.minimum}:  # which take it by keyword alone
            options["out"] = out
        elif out:
            texts.append(out)
        return f"{self.function(function)}({arguments(texts, options)})"

    def of_numbers(self, value: Value, texts: Sequence[str]) -> str:
        """A call of numbers, on which Python's operators work more quickly than functions of arrays."""
        function: Any = value.function
        sign = OPERATORS.get(function, ("",))[0]
        if value.is_number:
            texts = [f"({text})" if text.startswith("-") else text for text in texts]
            return f"({f' {sign} '.join(texts)})" if sign else f"{self.function(function)}({', '.join(texts)}).item()"
        return f" {sign} ".join(map(self.scalar, value.args)) if sign and are_scalars(value) else ""

    def scalar(self, x: Any) -> str:
        is_constant = isinstance(x, Value) and x.data is not None and np.isfinite(x.data)
        return repr(x.data.item()) if is_constant else self.text(x)

    def operand(self, x: Any, args: Sequence[Any]) -> str:
        """An operand of a ufunc; a number of Python's is the array that would be made of it, which is faster."""
        fitting = as_operand(x, args) if type(x) in (int, float) else None
        return self.text(x) if fitting is None else self.constant(fitting)

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


def are_scalars(value: Value) -> bool:
    """Whether the call is one of numbers of its dtype, beside which those of Python have no dtype of their own."""
    dtypes = {x.dtype for x in value.operands if not x.is_number}
    plain = value.shape == () and not value.kwargs and value.function is not np.power
    return plain and dtypes == {value.dtype} and value.dtype.char in "fd"


def as_operand(number: float, args: Sequence[Any]) -> Array | None:
    """A number of Python's as the array that a ufunc makes of it, or None where it makes none."""
    try:
        return np.asarray(number, np.result_type(*(np.empty((), x.dtype) if isinstance(x, Value) else x for x in args)))
    except OverflowError:  # labels != -1, of unsigned labels
        return None


def of_numpy(path: str) -> Any:
    """What NumPy has under a name such as `linalg.inv`, or None."""
    thing: Any = np
    for part in path.split("."):
        thing = getattr(thing, part, None)
    return thing


def commented(line: str, value: Value) -> str:
    return f"{line:<60}  # {value.dtype} {value.shape}"


def empty(shape: Sequence[int], dtype: Any, order: Sequence[int]) -> str:
    """A new array with its axes in an order of memory."""
    back = tuple(map(order.index, range(len(order))))
    text = f'np.empty({tuple(shape[axis] for axis in order)}, "{dtype}")'
    return text if order == tuple(range(len(order))) else f"{text}.transpose({back})"


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
    flags: Sequence[Value]  # nan if a gradient is
    writes: Sequence[tuple[Value, Value]]  # values, and the inputs into whose memory they go in the end
    shared: dict[Value, set[Value]]  # of these inputs: all that may lie in the same memory
    seeds: Sequence[Value]
    backward: Sequence[Value]
    gradients: Sequence[Value]
    targets: Sequence[Value]  # the inputs that the gradients belong to


class Source:
    """The source of a program that is called by a name with so many arguments, the first inputs.

    `given` is what those of its global names stand for that it does not define, `names` are those of its inputs.
    """

    def __init__(self, name: str, values: ProgramValues, count: int, threads: int) -> None:
        self.values, self.writer = values, Writer(threads)
        wishes = [*values.names, *["g"] * len(values.seeds)]
        for value, wish in zip([*values.inputs, *values.seeds], wishes, strict=True):
            self.writer.local[value] = self.writer.new_name(wish)
        self.names = list(map(self.writer.name, values.inputs))
        self.destinations = [self.writer.new_name(f"d_{self.writer.name(target)}") for target in values.targets]
        numbers = [value for value in values.forward if value.is_number]  # which nothing else can delay
        self.forward = grouped([*numbers, *(value for value in values.forward if not value.is_number)])
        self.backward = grouped(values.backward)
        self.handed: set[Value] = set()  # values in memory that is given away
        self.direct: dict[Value, str] = {}  # values that are written where they belong by the call that makes them
        for value, place in zip(values.gradients, self.destinations, strict=True):
            if value in values.backward and is_new(value) and takes_out(value):
                self.direct.setdefault(value, place)
        self.safe = first_write(self.forward, values.flags)
        leaving = [*values.outputs, *values.flags, *(value for value, _ in values.writes)]
        for value, memory in values.writes:
            if value not in self.direct and may_write(value, values.shared[memory], self.forward, self.safe, leaving):
                self.direct[value] = self.writer.name(memory)
        leaving += values.gradients
        parts = parts_of(self.forward, {*leaving}, self.direct, may_leave=not values.gradients)
        parts |= parts_of(self.backward, {*leaving}, self.direct)
        plan = self.writer.plan = Plan([*self.forward, *self.backward], leaving, self.direct, parts=parts)
        self.writer.local.update(plan.place)
        self.unpacked = [f"{as_tuple(plan.buffers)} = buffers"] if plan.buffers else []
        body = [*self.forward_lines(), *(self.backward_lines() if values.gradients else [])]
        made = [f"{empty(*kind)},".ljust(40) + f"  # {name}" for name, kind in plan.buffers.items()]
        space = ["def workspace():", *indented(["return (", *indented(made), ")"] if made else ["return ()"])]
        head, self.given = self.writer.head()
        comments = [f"# {given} is given: {described(thing)}" for given, thing in self.given.items()]
        title = f'"""{name}({", ".join(self.names[:count])})"""'
        self.text = "\n".join([title, "", *head, *comments, "", "", *space, "", "", *body, ""])

    def lines(self, steps: Iterable[Value | Block]) -> list[str]:
        return [line for step in steps for line in self.writer.lines(step)]

    def forward_lines(self) -> list[str]:
        """The function that computes the outputs, and then writes to the memory of inputs."""
        values, writer = self.values, self.writer
        first, last = self.lines(self.forward[: self.safe]), self.lines(self.forward[self.safe :])
        if values.flags:
            first += [
                f"if {writer.function(np.isnan)}({' + '.join(map(writer.text, values.flags))}):",
                "    return None",
            ]
        self.saved = self.saved_names()
        first += [f"{old} = np.array({name})" for name, old in self.saved.items() if name != old]
        outputs = list(map(self.owned, values.outputs))
        late = [(x, writer.name(memory)) for x, memory in values.writes if self.direct.get(x) != writer.name(memory)]
        arrays = [(writer.text(x), place) for x, place in late if x.shape]
        if arrays:  # what they read may be written to by another
            named = [writer.new_name("answer") for _ in outputs] + [writer.new_name("new") for _ in arrays]
            texts = outputs + [self.owned(x) for x, _ in late if x.shape]
            last += [f"{name} = {text}" for name, text in zip(named, texts, strict=True)]
            copyto, outputs = writer.function(np.copyto), named[: len(outputs)]
            last += [f"{copyto}({place}, {x})" for (_, place), x in zip(arrays, named[len(outputs) :], strict=True)]
        last += [f"{place}[()] = {writer.text(x)}" for x, place in late if not x.shape]
        comments = [f"# {name}: {x.dtype} {x.shape}" for x, name in zip(values.inputs, self.names, strict=True)]
        answer = f"return {as_tuple(outputs)}, {as_tuple(self.saved.values())}"
        return [
            f"def forward({', '.join(['buffers', *self.names])}):",
            *indented([*comments, *self.unpacked, *first, *last, answer]),
        ]

    def saved_names(self) -> dict[str, str]:
        """What the backward pass needs that lies in no buffer: its names there, and in the forward pass."""
        values, saved = self.values, dict[str, str]()
        lost = lying_in(set[Value]().union(*(values.shared[memory] for _, memory in values.writes)), self.forward)
        there = {*values.inputs, *values.forward}
        used = [operand for value in values.backward for operand in value.operands]
        for value in [*used, *values.gradients]:
            while is_transpose(value):
                value = value.args[0]
            if value in there and value not in self.writer.plan.place:
                name = self.writer.name(value)
                saved.setdefault(name, self.writer.new_name(f"old_{name}") if value in lost else name)
        return saved

    def owned(self, value: Value) -> str:
        """A value in memory that is nobody else's: a copy, where it might be."""
        own = is_new(value) and value.function is not None and value not in self.handed and value not in self.direct
        self.handed.add(value)
        text = self.writer.text(value)
        return text if own or value.is_number else f"np.array({text})"

    def backward_lines(self) -> list[str]:
        """The function that writes the gradients to where they are wanted."""
        lines, writer = self.lines(self.backward), self.writer
        for value, place in zip(self.values.gradients, self.destinations, strict=True):
            if self.direct.get(value) != place:
                lines.append(f"{writer.function(np.copyto)}({place}, {writer.text(value)})")
        given = ["buffers", "saved", *map(writer.name, self.values.seeds), *self.destinations]
        unpacked = [f"{as_tuple(self.saved)} = saved"] if self.saved else []
        return ["", "", f"def backward({', '.join(given)}):", *indented([*self.unpacked, *unpacked, *lines])]


def first_write(steps: Sequence[Value | Block], flags: Sequence[Value]) -> int:
    """The position from which on memory may be written to: what may raise, and what counts as a flag, comes before."""
    position = 0
    for i, step in enumerate(steps):
        made = results(step) + (step.sums if isinstance(step, Block) else [])
        if any(value in flags or may_raise(value) for value in made):
            position = i + 1
    return position


def may_raise(value: Value) -> bool:
    """Whether the call may refuse the numbers that it is given, such as an index beyond the end."""
    if value.function is PUT_ADD:
        return not is_basic(value.args[1])
    to_a_power = value.function is np.power and value.dtype.kind in "iu"
    return to_a_power or not (is_new(value) or is_view(value))


def lying_in(inputs: set[Value], steps: Iterable[Value | Block]) -> set[Value]:
    """The values that may lie in the memory of some inputs, with these."""
    found = set(inputs)
    for step in steps if inputs else ():
        if not found.isdisjoint(step.operands):
            found.update(value for value in results(step) if not is_new(value))
    return found


def may_write(
    value: Value, inputs: set[Value], steps: Sequence[Value | Block], safe: int, leaving: Iterable[Value]
) -> bool:
    """Whether the call that makes a value may write it into memory of these inputs, which nobody reads afterwards."""
    there = lying_in(inputs, steps)
    at = next((i for i, step in enumerate(steps) if value in results(step)), -1)
    if at < safe or not (is_new(value) and takes_out(value)) or not there.isdisjoint(leaving):
        return False
    if any(not there.isdisjoint(step.operands) for step in steps[at + 1 :]):
        return False
    read = there.intersection(steps[at].operands)
    return not read or (in_place(value) and all(x.shape == value.shape for x in read))


def described(thing: Any) -> str:
    return f"{thing.dtype} {thing.shape}" if isinstance(thing, np.ndarray) else repr(thing)


def is_basic(index: Any) -> bool:
    """Whether an index is made of integers, slices, an ellipsis and None alone, and so names no element twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is ... or isinstance(part, (int, np.integer, slice)) for part in parts)


def put_add_into(x: Any, index: Any, value: Any, out: Any) -> None:
    """Add a value at an index to `x`, in the memory of `out`, which may be that of x."""
    if out is not x:
        out[...] = x
    add_at(out, index, value)  # type: ignore[no-untyped-call]


def in_threads(work: Function, starts: Iterable[int], threads: int) -> None:
    """Let so many threads work at once on the starts of parts, each taking the next one when it is done."""
    shared = iter(starts)
    with ThreadPoolExecutor(threads) as pool:
        for thread in [pool.submit(copy_context().run, work, shared) for _ in range(threads)]:
            thread.result()
