"""The plan of a program: which calls are done together in blocks, and which memory every answer goes into.

Buffers are made once for each workspace, and used again when their array is dead. A value lies in memory of its own, or
in that of an argument: whether a function returns a view may depend on strides, so all but those that are known to make
something new are taken for views.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from minigrad.compiler.graph import PUT_ADD, REDUCTIONS, Value
from minigrad.tables.rules import concatenate

METHODS = {method for method, _ in REDUCTIONS.values()}
# Where an `out` has steps in memory, NumPy 2.4 finds wrong negatives, and 2.0 to 2.5 wrong answers of all the others.
WRONG_WITH_OUT = {np.negative, np.isfinite, np.isinf, np.isnan, np.signbit}
NEW = {np.where, np.matmul, np.inner, np.dot, np.vdot, concatenate, PUT_ADD, *METHODS}


def is_new(value: Value) -> bool:
    """Whether the value never shares memory with what it is made of."""
    return isinstance(value.function, np.ufunc) or value.function in NEW


def is_view(value: Value) -> bool:
    """Whether the value is a number, or another view of what it is made of: nothing can go wrong with it."""
    return value.is_number or value.function in (np.reshape, np.transpose, np.ravel, np.swapaxes)


def takes_out(value: Value) -> bool:
    """Whether the call can be told where to write its answer, which does not pay for a single number.

    Maxima and minima cannot: NumPy 2.0 finds wrong ones of arrays with negative strides when there is an `out`.
    """
    if value.shape == ():
        return False
    if value.function in (np.matmul, np.inner):
        return all(len(np.shape(x)) == 2 and getattr(x, "dtype", None) == value.dtype for x in value.args)
    if isinstance(value.function, np.ufunc):
        return is_elementwise(value) and value.function not in WRONG_WITH_OUT
    if value.function is PUT_ADD:
        return (value.args[0].shape, value.args[0].dtype) == (value.shape, value.dtype)
    return value.function in (np.dot, np.add.reduce, np.multiply.reduce)


def is_elementwise(value: Value) -> bool:
    """Whether the call is one of a ufunc that makes one array, element by element."""
    return in_place(value) and value.function.nout == 1 and not value.kwargs  # type: ignore[union-attr]


def in_place(value: Value) -> bool:
    """Whether the call may write over an operand: element by element it reads before it writes."""
    return isinstance(value.function, np.ufunc) and not value.function.signature


def may_replace(value: Value, x: Value, owners: Mapping[Value, set[Value]]) -> bool:
    """Whether the call may write over the memory of `x`, which nothing else needs."""
    if value.function is PUT_ADD:  # it reads what it adds after it has begun to write
        return not any(x in owners.get(other, {other}) for other in value.operands[1:])
    return in_place(value)


def kind_of(value: Value) -> tuple[tuple[int, ...], np.dtype[Any], tuple[int, ...]]:
    """What a buffer for the value has to be: of a shape, a dtype and an order of memory, that of C for products."""
    keeps = in_place(value) or value.function is PUT_ADD or value.function in METHODS
    return value.shape, value.dtype, value.order if keeps else tuple(range(len(value.shape)))


class Block:
    """Calls that work element by element on large arrays, done for some rows after the other, so that what is passed
    between them stays in the cache; and sums of the answers."""

    def __init__(self, first: Value) -> None:
        self.values, self.sums = [first], list[Value]()
        self.shape, self.axis = first.shape, first.order[0]  # along which the rows are cut

    def takes(self, value: Value) -> bool:
        """Take in the next call, if it belongs here."""
        alike = value.shape == self.shape and value.order == self.values[0].order
        if is_large(value) and alike and not set(value.operands) & set(self.sums):
            self.values.append(value)
        elif is_total(value) and value.args[0] in self.values:
            self.sums.append(value)
        else:
            return False
        return True

    @property
    def operands(self) -> list[Value]:
        """The values from outside that it works with."""
        inside = {*self.values, *self.sums}
        return [x for value in (*self.values, *self.sums) for x in value.operands if x not in inside]


def is_total(value: Value) -> bool:
    """Whether the call is a sum over all axes."""
    return value.function == np.add.reduce and value.kwargs == {"axis": None}


def is_large(value: Value) -> bool:
    """Whether the call works element by element on more than fits the cache, and so is worth a block."""
    works = is_elementwise(value) or (value.function is np.where and len(value.args) == 3)
    return works and math.prod(value.shape) >= LARGE and value.shape[value.order[0]] > 1


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
        if block and set(value.operands) & {*block.values, *block.sums}:
            close()
            block = None
        if block is None and is_large(value):
            block = Block(value)
        else:
            steps.append(value)
    close()
    return steps


class Rows(NamedTuple):
    """Where a part of a value lies, along an axis."""

    whole: Value
    axis: int
    start: int
    stop: int


def joined(whole: Value) -> Iterator[tuple[Value, Rows]]:
    """What is joined in a value, with its place."""
    axis, start = whole.kwargs["axis"] % len(whole.shape), 0
    for x in whole.args:
        yield x, Rows(whole, axis, start, start := start + x.shape[axis])


def parts_of(
    steps: Sequence[Value | Block], leaving: Set[Value], given: Collection[Value], may_leave: bool = False
) -> dict[Value, Rows]:
    """What need not be copied when it is joined with others, since it is made there, with its place.

    Beside such a value stands the reshaped one that is joined, which nothing else needs. What has a place that is
    `given` is made in that. What leaves the program is made elsewhere, but where all parts do and `may_leave`, as the
    gradients of a step of training do: they hold no more memory together than each for itself.
    """
    uses = Counter(x for step in steps for x in step.operands)
    made = {x for x in steps if isinstance(x, Value) and takes_out(x) and x.function is not PUT_ADD and lies_as_in_c(x)}
    parts: dict[Value, Rows] = {}
    for whole in steps:
        if not isinstance(whole, Value) or whole.function is not concatenate or not math.prod(whole.shape):
            continue
        found = list[tuple[Value, Value, Rows]]()
        for x, rows in joined(whole) if lies_as_in_c(whole) and whole not in leaving else ():
            reshaped = x.function is np.reshape and x.kwargs in ({}, {"order": "C"}) and uses[x] == 1
            part = x.args[0] if reshaped and x not in leaving else x
            fits = part in made and part.dtype == whole.dtype and part.shape[: rows.axis] == x.shape[: rows.axis]
            if fits and (not rows.axis or in_place(part)) and part not in given:  # products are written without gaps
                found.append((part, x, rows))
        leave = {part for part, _, rows in found if part in leaving and not rows.axis}
        for part, x, rows in found:
            if part not in parts and (part not in leaving or (may_leave and len(leave) == len(whole.args))):
                parts[part] = parts[x] = rows
    return parts


def lies_as_in_c(value: Value) -> bool:
    """Whether its axes lie in memory in their order."""
    return value.order == tuple(range(len(value.shape)))


class Plan:
    """Where every call writes its answer: the names of buffers, and what these are.

    `steps` are in order; `kept` are values that leave the program, in memory of their own unless it is `given`, and so
    are `parts` of others.
    """

    def __init__(
        self, steps: Sequence[Value | Block], kept: Iterable[Value], given: Mapping[Value, str] = MappingProxyType({}),
        letter: str = "b", parts: Mapping[Value, Rows] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.buffers: dict[str, tuple[tuple[int, ...], Any, tuple[int, ...]]] = {}
        self.place, self.parts = dict(given), parts
        self.kept = leaving = set(kept)
        owners: dict[Value, set[Value]] = {}  # in whose memory a value may lie, if not in its own
        last: dict[Value, int] = {}
        for i, step in enumerate(steps):
            used = set().union(*(owners.get(x, {x}) for x in step.operands))
            for value in results(step):
                owners[value] = {value} if is_new(value) else used
                last[value] = i
            last.update(dict.fromkeys(used, i))
        for value in leaving:
            last.update(dict.fromkeys([value, *owners.get(value, ())], len(steps)))
        order = {value: i for i, value in enumerate(owners)}
        free: dict[Any, list[str]] = {}
        for i, step in enumerate(steps):
            used = set().union(*(owners.get(x, {x}) for x in step.operands))
            dying = sorted((x for x in used if x in self.place and last[x] == i), key=order.__getitem__)
            for value in results(step):
                kind = kind_of(value)
                is_call = step is value
                if value in leaving or value in parts or (not takes_out(value) if is_call else last[value] == i):
                    continue  # the last one is inside of a block
                here = [x for x in dying if is_call and kind_of(x) == kind and may_replace(value, x, owners)]
                if here:
                    dying.remove(here[0])
                    self.place[value] = self.place[here[0]]
                elif free.get(kind):
                    self.place[value] = free[kind].pop()
                else:
                    self.place[value] = name = f"{letter}{len(self.buffers)}"
                    self.buffers[name] = kind
                if last[value] == i:
                    dying.append(value)
            for x in dying:
                free.setdefault(kind_of(x), []).append(self.place[x])


def results(step: Value | Block) -> list[Value]:
    return step.values if isinstance(step, Block) else [step]
