"""A run of a compiled function on stand-ins: it is compared with the records of other runs, and recorded if it differs.

While all events equal those of a record, nothing is computed: the function is given the very stand-ins of the record,
so that most arguments can be compared by identity. At the first event that differs, `recording` takes over, and goes on
from there. Whatever array appears stands in the slot of the one that was there when it was recorded.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence, Set
from itertools import islice
from types import BuiltinMethodType, MethodType
from typing import Any

import numpy as np

from minigrad.compiler.record import SHAPES, Record, TraceError, is_abstract, of_shapes, same_numbers, stand_in
from minigrad.compiler.recording import NOT_MET, Recorder

from minigrad.engine import (  # isort: skip
    NO_KWARGS, Function, Tensor, array_of, call_other, composites, ever_switched, grad_of, is_recording, mapped,
    outside, set_requires_grad, shortcuts, time_of, users_line,
)  # fmt: skip
from minigrad.sample import sampled
from minigrad.trees import leaves

SIMPLE = {bool, int, float, complex, str, bytes, type(None)}


class Run(Recorder):
    """A run for arguments with the leaves `flat`; it follows `first`, and then any of the `records`."""

    def __init__(self, records: Sequence[Record], first: Record, flat: Sequence[Any], strict: bool = False) -> None:
        super().__init__(records, first, flat)
        self.strict = strict  # whether it may not differ
        self.quick, self.switch = first.quick, ever_switched()
        self.own: set[Tensor] = set()  # tensors of the record that stand for themselves in the event that is compared
        self.rebound = False  # whether leaves of the record have others in their place

    def call(self, go_on: Function, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        try:
            expected, wanted, count, options, on, result = self.quick[self.i]
        except IndexError:
            return self.follow(go_on, function, args, kwargs)
        same = expected is function and on is self.on and ever_switched() is self.switch
        if same and len(args) == count and (not (kwargs or options) or is_same(kwargs, options)):
            for a, b in zip(args, wanted):  # noqa: B905 - strict takes longer
                if a is not b and not is_same(a, b):
                    break
            else:
                self.i += 1
                return result
        return self.follow(go_on, function, args, kwargs)

    def walk(self, go_on: Function, root: Any, gradient: Any, *how: Any) -> Any:
        if type(gradient) is np.ndarray and gradient.shape == () and gradient == 1:
            gradient = None  # a constant of the program
        return self.call(go_on, go_on, (root, gradient, *how), NO_KWARGS)

    def read(self, go_on: Function, tensor: Tensor) -> Any:
        return self.call(go_on, go_on, (tensor,), NO_KWARGS)

    def write(self, go_on: Function, *what: Any) -> Any:
        return self.call(go_on, go_on, what, NO_KWARGS)

    def is_array(self, tensor: Tensor) -> bool:
        return is_abstract(tensor) and bool(array_of(tensor).is_array)

    def follow(self, asked: Function, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Compare what is asked for with the records, or record it."""
        if self.depth:
            return self.perform(asked, function, args, kwargs)
        if function in SHAPES:
            return of_shapes(function, args, kwargs)
        self.switch, self.on, drawn = ever_switched(), is_recording(), None
        if function is sampled and not self.strict:
            drawn = outside(functools.partial(args[0], **mapped(self.known, kwargs)), *mapped(self.known, args[1:]))
            if not isinstance(drawn, (np.ndarray, np.generic, float)):
                return drawn  # which is compared where it is used, like all that is no array
        if asked is call_other and function in composites and any(map(is_users, leaves([args, kwargs]))):
            return shortcuts.get(function, composites[function])(*args, **kwargs)  # it is the user's code that counts
        if not self.is_new:
            for record in (self.record, *self.records):
                if self.is_on(record) and self.matches(record, function, args, kwargs, drawn):
                    self.record, self.quick = record, [] if self.rebound else record.quick
                    self.i += 1
                    if function is set_requires_grad:
                        outside(function, *args)
                    return self.answered(record.events[self.i - 1].result, record.escaped)
            if self.strict:
                raise broken_promise("a call")
            self.begin_recording()
        return self.answered(self.recorded(asked, function, args, kwargs, drawn))

    def begin_recording(self) -> None:
        super().begin_recording()
        self.quick = []

    def answered(self, result: Any, only: Set[Tensor] | None = None) -> Any:
        if isinstance(result, Exception):
            raise result.with_traceback(None)
        return self.given(result, only)

    def given(self, result: Any, only: Set[Tensor] | None = None) -> Any:
        """What the function is given for a result: other stand-ins, for some `only`, and leaves of this run."""
        if isinstance(result, list):
            return [self.given(x, only) for x in result]
        if isinstance(result, dict) and self.maps:
            back = {b: a for a, b in self.maps.items()}
            return {back.get(leaf, leaf): self.given(x, only) for leaf, x in result.items()}
        if not is_abstract(result) or (only is not None and result not in only):
            return result
        of = (result.function, result.args, result.kwargs)
        clone = stand_in(result, self.is_array(result), of=of, tracked=result.tracked if result.requires_grad else None)
        self.maps[clone] = result
        return clone

    def nodes(self, leaves: list[Any]) -> list[Any]:
        """The stand-ins of the record among what the function has returned."""
        return [self.maps.get(x, x) if isinstance(x, Tensor) else x for x in leaves] if self.maps else leaves

    # ------------------------------------------------------------------------------------------- what is the same

    def is_on(self, record: Record) -> bool:
        """Whether this run is one of the record so far, which has more events."""
        there = len(record.events) > self.i
        return there and (not self.i or record.events[self.i - 1] is self.record.events[self.i - 1])

    def matches(self, record: Record, function: Function, args: Any, kwargs: Any, drawn: Any) -> bool:
        event = record.events[self.i]
        if event.function != function or event.recording is not self.on:
            return False
        before, self.own = (self.bound.copy(), self.met.copy(), self.maps.copy()), set()
        if function is sampled:
            right = self.strict or self.binds(record, event.result, drawn)
        else:
            right = self.same(record, tuple(args), event.args) and self.same(record, kwargs, event.kwargs)
            right = right and all(self.holds(record, *fact) for fact in event.facts)
        if not right:
            self.bound, self.met, self.maps = before
        return right

    def holds(self, record: Record, what: Function, tensor: Tensor, value: Any) -> bool:
        if what is grad_of:
            return (grad_of(record.real(tensor, self.flat, self.bound)) is None) is value
        return same_numbers(record.numbers(tensor, self.flat, self.bound), value)

    def same(self, record: Record, a: Any, b: Any) -> bool:
        """Whether what is handed over is what it was in the record, or stands in its place."""
        if type(b) in SIMPLE:
            return a is b or (type(a) is type(b) and repr(a) == repr(b))
        if isinstance(b, Tensor):
            if isinstance(a, Tensor) and self.maps.get(a) is b:
                return True
            if a is b and record.kind(b) not in ("array", "number"):
                is_free = b not in self.bound or record.kind(b) == "draw"
                self.own.add(b)
                return is_free and b not in self.maps and b not in record.escaped
            return b in record.inputs and self.binds(record, b, a)
        if type(a) is not type(b):
            return False
        if isinstance(a, (list, tuple)):
            return len(a) == len(b) and all(self.same(record, x, y) for x, y in zip(a, b, strict=True))
        if isinstance(a, dict):
            a = {self.maps.get(key, key) if isinstance(key, Tensor) else key: x for key, x in a.items()}
            return a.keys() == b.keys() and all(self.same(record, x, b[key]) for key, x in a.items())
        if isinstance(a, frozenset):
            return bool({self.maps.get(x, x) for x in a} == b)
        if isinstance(a, slice):
            return self.same(record, [a.start, a.stop, a.step], [b.start, b.stop, b.step])
        if isinstance(a, (np.generic, np.dtype)):
            return a is b or repr(a) == repr(b)
        return a is b or (isinstance(a, (MethodType, BuiltinMethodType, range)) and a == b)

    def binds(self, record: Record, slot: Tensor, a: Any) -> bool:
        """Whether something may stand in a slot of the record; then it does so in all of this run."""
        kind = record.kind(slot)
        if record.values[slot].is_number:
            right = type(a) in (int, float) and np.dtype(type(a)) == slot.dtype and kind in ("number", "draw")
            return right and same_numbers(self.bound.setdefault(slot, a), a)
        if (getattr(a, "shape", None), getattr(a, "dtype", None)) != (slot.shape, slot.dtype):
            return False
        if isinstance(a, Tensor):
            return kind == "tensor" and self.binds_leaf(record, slot, a)
        if kind not in ("array", "draw") or not isinstance(a, (np.ndarray, np.generic)):
            return False
        known, its_slot = self.met.get(id(a), NOT_MET)
        if known is not None and same_numbers(a, self.bound[its_slot]):
            return its_slot is slot
        if slot in self.bound or (kind == "array" and not isinstance(a, (np.ndarray, np.floating))):
            return False
        self.met[id(a)], self.bound[slot] = (a, slot), self.protected(a)
        return True

    def binds_leaf(self, record: Record, slot: Tensor, a: Tensor) -> bool:
        """Another leaf may stand for one of the record; if it requires a gradient, only if it was made in this run."""
        if a in self.maps or a.function is not None or a in record.values or slot in self.bound or slot in self.own:
            return False
        if self.i and any(leaf is slot for leaf in islice(record.inputs, record.events[self.i - 1].counts[1])):
            return False  # it was met before, where it stood for itself
        if a.requires_grad is not slot.requires_grad or (a.requires_grad and time_of(a) < self.begin):
            return False
        self.bound[slot], self.maps[a], self.rebound = a, slot, True
        return True


def is_same(a: Any, b: Any) -> bool:
    """Whether two things are the same object, integer, or structure of such, which is quickly told."""
    kind = type(a)
    if a is b or kind is not type(b):
        return a is b
    if kind is tuple or kind is list:
        return len(a) == len(b) and all(map(is_same, a, b))
    if kind is slice:  # of what is no tensor, as in `Recorder.slot`
        return (
            type(a.start) is type(b.start) and type(a.stop) is type(b.stop) and type(a.step) is type(b.step) and a == b
        )
    if kind is dict:
        return a.keys() == b.keys() and all(map(is_same, a.values(), map(b.get, a)))
    return kind is int and a == b


def is_users(x: Any) -> bool:
    """Whether it may be a function of the user's, which does something else in each run."""
    return callable(x) and not isinstance(x, (type, np.ufunc, Tensor))


def broken_promise(what: str) -> TraceError:
    return TraceError(
        f"in {users_line()}, {what} differs from what was traced of a function that was compiled with pure=True, of "
        "which only the numbers in arguments, Tensors and arrays may change: leave pure=True away."
    )
