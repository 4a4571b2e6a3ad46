"""Recording: what a function asks for is done with real numbers behind the stand-ins, and becomes values of a graph.

Composites are taken apart, walks back are shown stand-ins, what is written to leaves is noted for the program to do.
Numbers that are yet to be computed may not be looked at; those that are there before the program runs may.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from operator import getitem
from typing import Any, NoReturn, cast

import numpy as np

from minigrad.compiler.graph import Value, computed

from minigrad.compiler.record import (  # isort: skip
    SHAPES, Abstract, Event, Record, Origin, TraceError, is_abstract, of_shapes, same_numbers, stand_in,
)  # fmt: skip

from minigrad.engine import (  # isort: skip
    NO_KWARGS, Function, Mode, Tensor, array_of, as_tensor, call, call_other, changed, clear, composites, deposit,
    explained, freed, given_or_one, grad_of, history, is_recording, mapped, may_choose, name_of, now, number_of,
    outside, quietly, retains, set_data, set_grad, set_requires_grad, shortcuts, time_of, unrecorded, users_line,
    constants, vjps, walk, walk_twice, warnings_now,
)  # fmt: skip
from minigrad.sample import sampled
from minigrad.tables.rules import concatenate
from minigrad.transforms import argument
from minigrad.trees import leaves

LOOKS = {np.nonzero, np.flatnonzero, np.argwhere, np.array_repr, np.array_str, np.array2string}
READS: set[Any] = {array_of, grad_of, number_of}
NOT_MET: Any = (None, None)
LARGE = 2**12  # elements of an array that is locked until the program has run; of a smaller one, a copy is used


class Recorder(Mode):
    """Records a run for arguments with the leaves `flat`, from where `begin_recording` is called."""

    def __init__(self, records: Sequence[Record], record: Record, flat: Sequence[Any]) -> None:
        self.records, self.record, self.flat = records, record, [*flat]
        self.i, self.depth = 0, 0  # events so far; inside of how many the run is
        self.on, self.warnings, self.begin = is_recording(), warnings_now(), now()
        self.bound: dict[Tensor, Any] = {}  # the arrays, numbers and leaves of this run, by their stand-ins
        self.met: dict[int, tuple[Any, Tensor]] = {}  # arrays that appeared, with their stand-ins, by id
        self.maps: dict[Tensor, Tensor] = {}  # tensors of this run -> those of the record that they stand for
        self.seen: dict[Tensor, Any] = {}  # numbers that the function has looked at itself
        self.locked: list[Any] = []
        self.is_new, self.followed = False, record  # whether it records, and what it has followed until then
        self.numbers: dict[Value, Any] = {}

    def begin_recording(self) -> None:
        """What came before is as it was recorded; its numbers are computed."""
        self.followed, self.record, self.is_new = self.record, Record(self.record, self.i), True
        for tensor in self.record.inputs:
            self.numbers[self.record.values[tensor]] = self.array_of(tensor)
        for value in self.record.graph.order:
            self.number(value)

    def recorded(self, asked: Function, function: Function, args: Any, kwargs: Any, drawn: Any = None) -> Any:
        """Do what is asked for, and remember it as an event."""
        self.facts: dict[tuple[Function, Tensor], Any] = {}
        self.effects: list[tuple[Function, Any, Any]] = []
        self.start, record = now(), self.record
        if function is sampled:
            how = args[0], mapped(self.known, args[1:]), mapped(self.known, kwargs)
            result: Any = self.appears(drawn, Origin("draw", how))
            args, kwargs = (), NO_KWARGS
        else:
            if function is deposit:  # of what the last event, a walk, has returned: the very dict is compared quickly
                args = (record.events[-1].result,)
            else:
                args = tuple(map(self.slot, args, self.are_numbers(function, args)))
            kwargs = mapped(self.slot, kwargs)
            try:
                result = self.performed(asked, function, args, kwargs)
            except TraceError:
                raise
            except Exception as error:  # which the function may expect
                result = error
        facts = tuple((*key, value) for key, value in self.facts.items())
        counts = len(record.graph.order), len(record.inputs), len(record.values)
        record.add(Event(function, args, kwargs, result, asked, self.on, facts, self.effects, counts))
        self.i += 1
        return result

    def performed(self, asked: Function, function: Function, args: Any, kwargs: Any) -> Any:
        """Do it with stand-ins; or, where a composite wants arrays, with the arrays of this run, as constants."""
        self.depth += 1
        try:
            return self.perform(asked, function, args, kwargs)
        except (TypeError, ValueError, NotImplementedError):
            slots = [x for x in leaves([args, kwargs]) if self.record.kind(x) in ("array", "number")]
            if not slots:
                raise
            self.facts.update(((array_of, slot), copy.copy(self.bound[slot])) for slot in slots)
            plain = lambda x: self.bound[x] if self.record.kind(x) in ("array", "number") else x
            return self.perform(asked, function, mapped(plain, args), mapped(plain, kwargs))
        finally:
            self.depth -= 1

    # ------------------------------------------------------------------------------------------------ what appears

    def appears(self, array: Any, source: Origin) -> Tensor:
        """A new stand-in for an array or a number."""
        slot = self.record.stands_for(array, source)
        self.numbers[self.record.values[slot]] = array
        if source.kind in ("array", "number", "draw"):
            self.bound[slot] = array
        return slot

    def slot(self, x: Any, is_number: bool = False) -> Any:
        """What stands for something that the function hands over."""
        if isinstance(x, tuple):
            items = tuple(map(self.slot, x))
            return x if all(a is b for a, b in zip(items, x, strict=True)) else type(x)(items)
        if isinstance(x, (list, dict)):
            return mapped(self.slot, x)
        if isinstance(x, slice):
            return slice(*map(self.known, (x.start, x.stop, x.step)))
        if isinstance(x, frozenset):
            return frozenset(map(self.slot, x)) if x else x
        if isinstance(x, Tensor):
            if x in self.record.escaped and x not in self.maps:
                array_of(x).refuse()
            if x not in self.maps and isinstance(self.bound.get(x), Tensor):  # another leaf stands in its place
                self.maps[x] = slot = self.record.add_input(Tensor(array_of(x)), Origin("tensor"))
                self.bound[slot], self.numbers[self.record.values[slot]] = x, array_of(x)
            return self.maps.get(x, x)
        if is_number:
            return self.appears(x, Origin("number"))
        if isinstance(x, (np.ndarray, np.floating)) and x.dtype.kind in "biufc":
            known, slot = self.met.get(id(x), NOT_MET)
            if known is None or not same_numbers(x, self.bound[slot]):
                slot = self.appears(self.protected(x), Origin("array"))
                self.met[id(x)] = x, slot
            return slot
        return x

    def are_numbers(self, function: Function, args: Sequence[Any]) -> list[bool]:
        """Which arguments are numbers that programs read anew: of ufuncs, those that were other ones before."""
        kinds = (float, int) if isinstance(function, np.ufunc) or function is set_data else (float,)
        there = [record for record in (self.followed, *self.records) if len(record.events) > self.i]
        events = [(record, record.events[self.i]) for record in there]
        others = [(r, e.args) for r, e in events if e.function is function and len(e.args) == len(args)]
        was_other: Any = lambda i, x: any(
            r.kind(w[i]) == "number" or (type(w[i]) is type(x) and not same_numbers(w[i], x)) for r, w in others
        )
        return [type(x) in kinds and (function is set_data or was_other(i, x)) for i, x in enumerate(args)]

    def protected(self, array: Any) -> Any:
        """An array as it is now, though it may be written to before the program runs."""
        if isinstance(array, np.generic) or array.size < LARGE:
            return np.array(array)
        if array.flags.writeable:
            array.flags.writeable = False
            self.locked.append(array)
        return array

    def unlock(self) -> list[int]:
        """Let large arrays be written to again; the sizes of those that were locked."""
        sizes = [array.size for array in self.locked]
        for array in self.locked:
            array.flags.writeable = True
        self.locked = []
        return sizes

    def real(self, leaf: Tensor) -> Any:
        return self.record.real(leaf, self.flat, self.bound)

    def array_of(self, tensor: Tensor) -> Any:
        return self.record.numbers(tensor, self.flat, self.bound)

    def original(self, slot: Tensor) -> Any:
        """The array that has appeared for a slot, before it was copied."""
        return next((array for array, its_slot in self.met.values() if its_slot is slot), None)

    # --------------------------------------------------------------------------------------------- looks at numbers

    def look(self, go_on: Function, tensor: Tensor) -> Any:
        return np.asarray(self.known(tensor))

    def known(self, x: Any, how: str = "") -> Any:
        """The numbers of a tensor, if they are there before the program runs; else that is refused."""
        if not isinstance(x, Tensor):
            return x
        x = self.latest(number_of, self.maps.get(x, x))
        value = self.record.values.get(x)
        if value is not None and (value.is_number or not value.varies):
            return self.number(value) if self.is_new else self.number_now(value)
        if is_abstract(x):  # an input, or an alias of one
            if value is None:
                array_of(x).refuse()
            x = next((t for t in self.record.inputs if self.record.values[t] is value), x)
        kind = self.record.kind(x) or ("" if is_abstract(x) else "tensor")
        is_tensor = kind == "argument" and isinstance(self.real(x), Tensor)
        if kind not in ("argument", "tensor", "array") or is_tensor or self.latest(array_of, x) is not x:
            self.refuse(how or f"looks at the numbers of a {x.dtype}{list(x.shape)} tensor")
        array = self.array_of(x)
        if self.depth:
            self.value(x)
            self.facts[array_of, x] = np.array(array)
        else:
            self.seen[x] = np.array(array)
            if kind == "argument":
                self.flat[self.record.inputs[x].of] = self.protected(array)
        return array

    def latest(self, what: Function, leaf: Tensor) -> Tensor:
        """What the run has written to a leaf by now, or the leaf itself."""
        effects = [effect for event in self.record.events[: self.i] for effect in event.effects]
        return next((new for kind, of_which, new in reversed(effects) if kind is what and of_which is leaf), leaf)

    def number_now(self, value: Value) -> Any:
        """A number of Python's, which is known before the program runs."""
        inputs = {self.record.values[t]: t for t in self.record.inputs} if value.function is None else {}
        if value.data is not None:
            return value.data
        return self.array_of(inputs[value]) if value in inputs else computed(value, self.number_now)

    def refuse(self, what: str) -> NoReturn:
        """Raise an error that names the user's own line."""
        raise TraceError(
            f"{users_line()}, {what}, and a compiled function must be right for other numbers, too: choose between "
            "values with np.where(condition, a, b), and from a table with np.take(table, i), take numbers outside of "
            "it, or leave it uncompiled."
        )

    # --------------------------------------------------------------------------------------------------------- calls

    def perform(self, asked: Function, function: Function, args: Any, kwargs: Any) -> Any:
        """Do what is asked for, of which all calls go into the graph."""
        if asked is call_other and function in composites:
            answer = shortcuts.get(function, composites[function])(*args, **kwargs)
            given = isinstance(answer, Tensor) and any(answer is x for x in args)
            return np.copy(answer) if given else answer  # stand-ins stand for one thing each
        if asked in (call, call_other):
            return self.made(function, args, kwargs)
        performed: Any = PERFORMED.get(function, Recorder.writes)
        return performed(self, function, *args)

    def made(self, function: Function, args: Any, kwargs: Any = NO_KWARGS, tracks: bool = True) -> Any:
        """The answer of a call of the tables, as a value of the graph."""
        if function is unrecorded:
            return self.plain(self.current(args[0]))
        if function in SHAPES:
            return of_shapes(function, args, kwargs)
        if function is sampled:
            self.refuse("draws random numbers inside of a function that minigrad has in its tables")
        args = mapped(self.current, tuple(args))
        tensors = [leaf for leaf in leaves([args, kwargs]) if isinstance(leaf, Tensor)]
        how = f"calls {name_of(function)}, which returns as many numbers as it finds"
        look = functools.partial(self.known, how=how)
        if function in LOOKS:
            return function(*mapped(look, args), **mapped(look, kwargs))
        for tensor in tensors[1:] if function is getitem else ():
            if tensor.dtype == bool:
                look(tensor)
        values, options = mapped(self.operand, args), mapped(self.operand, kwargs)
        try:
            answer = quietly(self.answer_of, function, values, options)
        except (TypeError, ValueError, IndexError) as error:
            raise explained(error, function, args) from error
        if warnings_now() is not self.warnings:
            self.note(quietly, None, True)
        varying = [tensor for tensor in tensors if self.value(tensor).varies]
        is_array = function in constants or all(is_abstract(x) and array_of(x).is_array for x in varying)
        if isinstance(answer, (tuple, list)):
            return self.parted(function, values, options, answer, is_array)
        tracked = function is argument or any(tensor.requires_grad for tensor in tensors)
        tracked = tracks and tracked and function in vjps and is_recording() and answer.dtype.kind in "fc"
        if function in shortcuts and function in vjps:  # what it is spelled with can be done among other calls
            value = self.value(
                shortcuts[function](*(self.plain(x) if isinstance(x, Tensor) else x for x in args), **kwargs)
            )
        else:
            value = self.record.graph.make(answer, function, values, options)
        if not (value.varies or tracked):
            return Tensor(answer)
        positions = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad]
        of = (function, args, kwargs) if tracked else ()
        return self.stands_for(value, answer, is_array, of=of, tracked=positions if tracked else None)

    def stands_for(self, value: Value, number: Any, is_array: bool = True, **what: Any) -> Tensor:
        """A new stand-in for a value of the graph, which is a number in this run."""
        if value.data is None:
            self.numbers.setdefault(value, number)
        result = stand_in(value, is_array, **what)
        self.record.values[result] = value
        return result

    def parted(self, function: Function, values: Any, options: Any, answer: Any, is_array: bool) -> list[Any]:
        """The parts of an answer that is a tuple or a list, with None for None."""
        graph = self.record.graph
        all_parts = graph.make(np.empty((), object), function, values, options)
        self.numbers[all_parts] = answer
        arrays = [None if part is None else np.asarray(part) for part in answer]
        parts = [None if x is None else graph.make(x, getitem, (all_parts, i), {}) for i, x in enumerate(arrays)]
        return [x and self.stands_for(x, array, is_array) for x, array in zip(parts, arrays, strict=True)]

    def answer_of(self, function: Function, values: Any, options: Any) -> Any:
        """What a call gives in this run: an array, or a number where it was given nothing but numbers."""
        are_numbers = all(isinstance(x, (int, float)) or getattr(x, "is_number", False) for x in values)
        if are_numbers and not options and isinstance(function, np.ufunc):
            number = computed(Value(0.0, function, values), self.number)
            return np.asarray(number) if isinstance(number, bool) else number
        answer = outside(computed, Value(np.empty(0), function, values, options), self.number)
        return answer if isinstance(answer, (tuple, list)) else np.asarray(answer)

    def number(self, value: Value) -> Any:
        """The array or number that a value is in this run."""
        if value.data is not None:
            return value.data
        if value not in self.numbers:
            self.numbers[value] = quietly(computed, value, self.number)
        return self.numbers[value]

    def operand(self, x: Any) -> Any:
        """What stands in the graph for an argument of a call."""
        if isinstance(x, Tensor):
            return self.value(x)
        return self.record.graph.constant(x) if isinstance(x, np.ndarray) else x

    def value(self, tensor: Tensor) -> Value:
        """The value of a tensor: one that has appeared from outside is an input, one that a rule made a constant."""
        values = self.record.values
        if tensor not in values:
            form = array_of(tensor)
            if isinstance(form, Abstract):
                form.refuse()
            if self.depth and time_of(tensor) > self.start and tensor.function is None:
                values[tensor] = self.record.graph.constant(form)
            else:
                self.record.add_input(tensor, Origin("tensor"))
                self.numbers[values[tensor]] = self.array_of(tensor)
        return values[tensor]

    # ------------------------------------------------------------------------------------------------------- leaves

    def note(self, what: Function, of_which: Any, value: Any) -> None:
        """Remember what is different from now on."""
        self.effects.append((what, of_which, value))
        self.record.note(self.effects[-1:])

    def plain(self, tensor: Any) -> Tensor:
        """The same numbers without their history."""
        value = self.value(tensor)
        if not value.varies:
            return Tensor(self.number(value))
        return self.stands_for(value, self.number(value))

    def version(self, leaf: Tensor, numbers: Tensor) -> Tensor:
        """What stands for a leaf that was given other numbers."""
        value = self.value(numbers)
        tracked = () if leaf.requires_grad else None
        return self.stands_for(value, self.number(value), is_array=False, leaf=leaf, tracked=tracked)

    def leaf(self, tensor: Tensor) -> Tensor:
        """The leaf that a version of it stands for."""
        found = array_of(tensor).leaf if is_abstract(tensor) else None
        return tensor if found is None else found

    def current(self, x: Any) -> Any:
        """What stands for a leaf in calls: the numbers that it or its memory has at this point of the run."""
        if not isinstance(x, Tensor):
            return x
        x, versions, written = self.maps.get(x, x), self.record.state[stand_in], self.record.state[array_of]
        if x.function is not None or (is_abstract(x) and x not in self.record.inputs) or not self.value(x).varies:
            return x
        latest = next(reversed(written.values()), None)
        last, known = versions.get(x, (None, None))
        if known is None:
            known = x if is_abstract(x) else self.version(x, x)
        elif last is latest:
            return known
        array = self.array_of(x) if written else x
        for leaf, version in written.items():
            if leaf is x:
                known = version
            elif self.is_moved(leaf, array) and (place := overlap(array, array_of(self.real(leaf)))) is not None:
                known = self.version(x, self.patched(self.plain(known), self.plain(version), *place))
        self.note(stand_in, x, (latest, known))
        return known

    def is_moved(self, leaf: Tensor, array: Any) -> bool:
        """Whether what was written to a leaf counts for the memory that it was in, as it does for optimizers."""
        return leaf not in self.record.state[set_data] or array_of(self.real(leaf)).base is array

    def patched(self, old: Tensor, new: Tensor, lies_inside: bool, start: int) -> Tensor:
        """The numbers of a tensor, into whose memory those of another were written."""
        plainly = functools.partial(self.made, tracks=False)
        flat, given = plainly(np.ravel, (old,)), plainly(np.ravel, (new,))
        if lies_inside:
            flat = plainly(getitem, (given, slice(start, start + old.size)))
        else:
            rest = [plainly(getitem, (flat, part)) for part in (slice(0, start), slice(start + new.size, None))]
            flat = plainly(concatenate, (rest[0], given, rest[1]), {"axis": 0})
        return plainly(np.reshape, (flat, old.shape))  # type: ignore[no-any-return]

    def gradient(self, leaf: Tensor) -> Any:
        """The gradient of a leaf at this point of the run, or None."""
        if leaf in self.record.state[grad_of]:
            return self.record.state[grad_of][leaf]
        before = grad_of(self.real(leaf))
        self.facts[grad_of, leaf] = before is None
        return None if before is None else self.input_from(before, Origin("gradient", leaf))

    def input_from(self, numbers: Any, source: Origin) -> Tensor:
        """The input from a source, which is there already or new."""
        for tensor, its_source in self.record.inputs.items():
            if its_source.kind == source.kind and its_source.of is source.of:
                return tensor
        return self.appears(numbers, source)

    def reads(self, what: Function, tensor: Tensor) -> Any:
        """What stands in an attribute of a leaf."""
        tensor = self.maps.get(tensor, tensor)
        if what is grad_of:
            g = self.gradient(tensor)
            return None if g is None else self.plain(g)
        if is_abstract(tensor) and tensor not in self.record.inputs:
            self.refuse(f"looks at the numbers of a {tensor.dtype}{list(tensor.shape)} tensor")
        if what is array_of:
            return self.plain(self.current(tensor))
        number = self.record.state[what].get(tensor)
        return self.input_from(number_of(self.real(tensor)), Origin("number of", tensor)) if number is None else number

    def writes(self, what: Function, leaf: Tensor, value: Any) -> None:
        """Give a leaf other numbers or another gradient."""
        leaf = self.maps.get(leaf, leaf)
        if what is set_requires_grad:
            outside(what, self.real(leaf), value)
            return None
        if what is set_grad and value is None:
            return self.note(grad_of, leaf, None)
        x = self.plain(self.current(value) if isinstance(value, Tensor) else Tensor(np.asarray(value)))
        if x.shape != leaf.shape or (leaf.function is not None and what is not set_grad):
            outside(what, leaf, np.empty(x.shape, leaf.dtype))  # which raises
        fitting = x if x.dtype == leaf.dtype else self.made(np.ndarray.astype, (x, leaf.dtype), tracks=False)
        if what is set_grad:
            return self.note(grad_of, leaf, fitting)
        self.value(leaf)
        if what is set_data:
            self.note(set_data, leaf, True)
        if self.value(x).is_number:
            self.note(number_of, leaf, x)
        return self.note(array_of, leaf, self.version(leaf, fitting))

    def adds(self, what: Function, gradients: dict[Tensor, Any]) -> None:
        """Add to the gradients of leaves."""
        for leaf, g in gradients.items():
            before = self.gradient(leaf)
            self.note(grad_of, leaf, g if before is None else self.made(np.add, (before, g)))

    def clears(self, what: Function, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            self.note(grad_of, self.maps.get(tensor, tensor), None)

    # --------------------------------------------------------------------------------------------------- walks back

    def walks(
        self, what: Function, root: Tensor, gradient: Any, targets: Any, recorded: bool, free: bool
    ) -> dict[Tensor, Any]:
        """Walk back through what was recorded, which is recorded, too; see `branches.backpropagate`."""
        root = self.current(root)
        graph = history(root, frozenset(map(self.current, targets)))
        self.check(graph.calls)
        kept = {node: None for x, node in self.maps.items() if x.function and retains(x) and not recorded}

        def step(call: Any, position: int | None, rule: Function, g: Any) -> Any:
            if call.node in kept:
                kept[call.node] = g
            if not recorded and is_users_rule(rule):  # it may read what changes from run to run
                return self.made(rule, (g, call.ans, *call.values), call.kwargs, tracks=False)
            return rule(g, call.ans, *call.values, **call.kwargs)

        chooses, calls = may_choose(graph), list(graph.calls)
        answers = walk(graph, root, as_tensor(given_or_one(gradient, root)), recorded=True, step=step)
        answers |= {node: g for node, g in kept.items() if g is not None}
        for node in calls if free else ():
            self.note(history, node, True)
        self.note(quietly, None, True)
        for g in answers.values() if chooses else ():
            flat = self.made(np.ravel, (g,), tracks=False)
            square = self.value(self.made(np.vdot, (flat, flat), tracks=False))
            if square.varies:
                self.note(np.isnan, square, True)
        return {
            self.leaf(cast(Tensor, x)): as_tensor(g) if recorded else self.plain(as_tensor(g))
            for x, g in answers.items()
        }

    def check(self, calls: Iterable[Any]) -> None:
        """Raise where a graph was freed in this run, or an argument was written to since it was used."""
        for node in filter(is_abstract, calls):
            if node in self.record.state[history]:
                raise cast(Any, freed)()
            for x in node.args:
                if isinstance(x, Tensor) and self.current(self.leaf(x)) is not x:
                    raise cast(Any, changed)(node.function, x)


def is_users_rule(rule: Function) -> bool:
    return getattr(rule, "__module__", "").partition(".")[0] != "minigrad"


def overlap(x: Any, y: Any) -> tuple[bool, int] | None:
    """Where the memory of an array lies in that of another: whether `x` lies in `y`, and from which element on."""
    if isinstance(x, Abstract) or isinstance(y, Abstract) or not np.may_share_memory(x, y):
        return None
    offset, rest = divmod(x.__array_interface__["data"][0] - y.__array_interface__["data"][0], x.itemsize)
    fits = not rest and x.dtype == y.dtype and x.flags.c_contiguous and y.flags.c_contiguous
    if fits and 0 <= offset <= y.size - x.size:
        return True, offset
    if fits and 0 <= -offset <= x.size - y.size:
        return False, -offset
    raise TraceError("two tensors share memory in a way that a program cannot follow: write to a copy of one.")


PERFORMED: dict[Function, Callable[..., Any]] = {  # and all else writes
    walk_twice: Recorder.walks, deposit: Recorder.adds, clear: Recorder.clears,
    **dict.fromkeys(READS, Recorder.reads),
}  # fmt: skip
