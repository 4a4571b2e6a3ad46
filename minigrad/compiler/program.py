"""A program: the source for a record, the arrays that it is given in each call, and what is made of its answers."""

from __future__ import annotations

import builtins
import operator
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.compiler.record import Event, Origin, TraceError, is_abstract, same_numbers
from minigrad.compiler.recording import READS
from minigrad.compiler.replay import Run
from minigrad.compiler.source import ProgramValues, Source

from minigrad.engine import (  # isort: skip
    NO_KWARGS, Array, Function, Tensor, answered, array_of, call, call_other, clear, grad_of, history, mapped,
    may_choose, now, number_of, on, quiet_context, quietly, recording, requires_grad_of, set_data, set_grads,
    set_requires_grad, touch, walk_twice,
)  # fmt: skip
from minigrad.sample import sampled
from minigrad.transforms import Answer, Recomputation, argument, recomputable, recomputed, split, variable
from minigrad.trees import leaves, named

OF_TENSORS = ("tensor", "gradient", "number of")  # inputs that are tensors, or are read from them
MOST_IDLE = 8  # workspaces that are kept


class Program:
    """What a function does for one signature of its arguments, as a NumPy program.

    `run` has recorded it, until it has returned something with the leaves `out`.
    """

    build: Callable[[Sequence[Any]], Any]  # the structure of the answer, of its leaves

    def __init__(self, f: Function, run: Run, names: dict[int, str], out: Sequence[Any], threads: int) -> None:
        self.name, self.record, self.out = getattr(f, "__name__", "program"), run.record, list(out)
        self.reference = weakref.ref(self)
        self.pool: list[Any] = []  # workspaces that nobody uses, each with the context that it is used in
        self.seen, state, inputs = run.seen, self.record.state, self.record.inputs
        for leaf in self.out:
            self.refuse_stand_ins(leaf)
        self.silent, self.nan_flags = None in state[quietly], list(state[np.isnan])
        self.handed_on = [k for k, x in enumerate(out) if isinstance(x, Tensor) and x in inputs]
        self.computed = [k for k, x in enumerate(out) if self.is_computed(x)]
        self.tracked = [k for k in self.computed if out[k].requires_grad and out[k] not in state[history]]
        others = [k for k in self.computed if k not in self.tracked]
        kinds = [freed_answer if out[k].requires_grad else as_it_is if run.is_array(out[k]) else Tensor for k in others]
        self.others = list(zip(others, kinds, strict=True))
        self.cleared = [leaf for leaf, g in state[grad_of].items() if g is None and not self.is_computed(leaf)]
        self.given = [(x, g) for x, g in state[grad_of].items() if g is not None and not self.is_computed(x)]
        shared = {leaf: self.sharing(run, leaf) for leaf in state[array_of]}
        lies_in: Any = lambda x, others: any(array_of(run.real(x)).base is array_of(run.real(t)) for t in others)
        self.rebound = [
            (x, new) for x, new in state[array_of].items() if x in state[set_data] and not lies_in(x, shared[x])
        ]
        moved = {leaf for leaf, _ in self.rebound}
        in_place = [leaf for leaf in state[array_of] if leaf not in moved]
        run.depth, run.start, run.effects = 1, now(), []
        # A leaf that others lie in is written as a whole, with what was written to them.
        self.writes = [(x, run.current(x)) for x in in_place if not lies_in(x, in_place)]
        self.shared = {leaf: shared[leaf] for leaf, _ in self.writes}
        aliased = [x for leaf, others in self.shared.items() if others for x in (leaf, *others)]
        self.aliased, self.their_memory = aliased, [array_of(run.real(x)) for x in aliased]
        self.has_effects = bool(self.writes or self.rebound or self.given or self.cleared)
        self.were_cleared = [fact[1:] for event in self.record.events for fact in event.facts if fact[0] is grad_of]
        seeds, slopes = self.backward_pass(run)
        self.prepare(run, names, seeds, slopes, threads)

    def is_computed(self, x: Any) -> bool:
        return is_abstract(x) and x not in self.record.inputs

    def gives(self, leaves: Sequence[Any]) -> bool:
        """Whether these are the tensors that it returns; anything else is handed on as it is."""
        for a, b in zip(leaves, self.out, strict=False):
            if a is not b and isinstance(b, Tensor):
                return False
        return len(leaves) == len(self.out)

    def refuse_stand_ins(self, leaf: Any) -> None:
        """Raise where an object is returned that holds what has no numbers."""
        if not isinstance(leaf, (Tensor, np.ndarray)) and any(is_abstract(part) for _, part in named(leaf)):
            raise TraceError(
                f"{self.name} returns {type(leaf).__name__} objects with tensors, which a program cannot make anew: "
                "return arrays and numbers, and dicts, lists, tuples and dataclasses of them."
            )

    def sharing(self, run: Run, leaf: Tensor) -> list[Tensor]:
        """The other tensors whose memory may overlap with that of a leaf."""
        known = [t if s.kind == "tensor" else s.of for t, s in self.record.inputs.items() if s.kind in OF_TENSORS]
        known += [t for t in self.record.state[grad_of] if not is_abstract(t)]
        array = array_of(run.real(leaf))
        return [t for t in dict.fromkeys(known) if t is not leaf and np.may_share_memory(array_of(run.real(t)), array)]

    def backward_pass(self, run: Run) -> tuple[list[Tensor], dict[Tensor, Tensor]]:
        """Trace the backward pass: the gradient of the answer, unless it is taken for 1, and those of all inputs."""
        self.seed_is_one, self.chooses = False, False
        self.broken: Exception | None = None
        self.total: Any = None
        with on(run):
            answer = Answer([self.out[k] for k in self.tracked])
            self.kinds, self.total = answer.kinds, answer.total
            root: Any = answer.total
            if root is None:
                return [], {}
            found, stack = {root}, [root]
            while stack:
                node = stack.pop()
                new = set(filter(tracks, node.args or ())) - found
                found |= new
                stack += new
            ends = [x for x in found if run.leaf(x) in self.record.inputs]
            targets = frozenset(map(run.leaf, ends))
            try:
                run.check(history(root).calls)
            except RuntimeError as error:  # the way back was cut when an argument was written to: it is said there
                self.broken = error
                return [], dict.fromkeys(targets, run.plain(root))
            if not targets:
                return [], {}
            self.chooses = may_choose(history(root, frozenset(map(run.current, targets))))
            # The gradient of a single number is mostly 1, and so is a constant of the program; the gradients are
            # multiplied by any other in the end. In half precision they could underflow, so there it is an input.
            self.seed_is_one = root.shape == () and root.dtype.kind == "f" and all(x.dtype.itemsize > 2 for x in found)
            one = np.ones(root.shape, root.dtype)
            with recording(True):
                g = Tensor(one) if self.seed_is_one else run.appears(one, Origin("seed"))
                slopes = run.walks(walk_twice, root, g, targets, False, False)
        return [] if self.seed_is_one else [g], slopes

    def prepare(self, run: Run, names: dict[int, str], seeds: Any, slopes: Any, threads: int) -> None:
        """Write the source, and keep what is needed to run it."""
        graph, values, inputs = self.record.graph, self.record.values, self.record.inputs
        answers = [self.total] if self.tracked else []
        answers += [*(self.out[k] for k, _ in self.others), *(x for _, x in (*self.rebound, *self.given))]
        outputs, gradients = list(map(run.value, answers)), {t: run.value(g) for t, g in slopes.items()}
        writes = [(values[new], values[leaf]) for leaf, new in self.writes]
        forward = graph.needed([*outputs, *self.nan_flags, *(new for new, _ in writes)])
        backward = [value for value in graph.needed(gradients.values()) if value not in {*forward}]
        used = {x for value in (*forward, *backward) for x in value.operands} | {*outputs, *gradients.values()}
        used.update(value for pair in writes for value in pair)
        used.update(values[target] for target in gradients)  # of which some may be written to before they are read
        of_kind: Any = lambda *kinds: [t for t, s in inputs.items() if s.kind in kinds and values[t] in used]
        arguments = [t for t, source in inputs.items() if source.kind == "argument"]
        self.tensors, numbers = of_kind("tensor"), of_kind("number of")
        self.slots = of_kind("gradient", "array", "number", "draw")
        self.counted = [inputs[t].of for t in numbers]  # tensors whose numbers are given as Python has them
        self.inputs = [*arguments, *self.tensors, *numbers, *self.slots]
        self.positions = [inputs[t].of for t in arguments]
        self.watched = [t for t, source in inputs.items() if source.kind == "tensor"]
        toggles = [event.args for event in reversed(self.record.events) if event.function is set_requires_grad]
        at_first = {leaf: not on for leaf, on in toggles}
        self.requires_grad = [at_first.get(t, t.requires_grad) for t in self.watched]
        self.targets = [t for t in self.inputs if t in gradients]
        things = [*(run.flat[i] for i in self.positions), *self.tensors, *self.counted, *map(run.original, self.slots)]
        usual = ["x"] * len(arguments) + ["given"] * len(self.tensors) + ["number"] * len(numbers)
        self.draws = {t: inputs[t].of for t in self.slots if inputs[t].kind == "draw"}
        usual += ["drawn" if t in self.draws else "given" for t in self.slots]
        loose = {values[t] for t in self.inputs if inputs[t].kind not in ("tensor", "number of", "number")}  # anywhere
        self.values = ProgramValues(
            inputs=[values[t] for t in self.inputs],
            names=[names.get(id(thing), name) for thing, name in zip(things, usual, strict=True)],
            forward=forward,
            outputs=outputs,
            flags=self.nan_flags,
            writes=writes,
            shared={
                values[x]: loose.union(values[t] for t in (x, *ts) if t in values) for x, ts in self.shared.items()
            },
            seeds=[values[seed] for seed in seeds],
            backward=backward,
            gradients=[gradients[t] for t in self.targets],
            targets=[values[t] for t in self.targets],
        )
        source = Source(self.name, self.values, len(self.positions), threads)
        self.source, self.globals, self.names = source.text, source.given, source.names
        namespace = dict(self.globals)
        exec(builtins.compile(self.source, f"<{self.name}>", "exec"), namespace)
        self.workspace, self.forward = namespace["workspace"], namespace["forward"]
        self.backward: Any = namespace.get("backward")  # or None, where nothing is tracked
        self.remember(run)
        touched = dict.fromkeys(x for leaf, others in self.shared.items() for x in (leaf, *others))
        pairs = [leaf for leaf, _ in self.rebound], [leaf for leaf, _ in self.given]
        self.leaves: list[list[Tensor]] = [*pairs, self.cleared, self.targets, [*touched]]
        self.are_own = not any(self.record.kind(t) == "argument" for group in self.leaves for t in group)

    def remember(self, run: Run) -> None:
        """Keep what stood in the slots, for pure and saved programs: arrays whose numbers may change."""
        there = {t: run.original(t) for t in self.slots if t in run.bound}
        self.constants = {t: run.bound[t] if x is None else x for t, x in there.items()}

    def flags_fit(self) -> bool:
        """Whether the same tensors require a gradient as when it was recorded."""
        return self.requires_grad == list(map(requires_grad_of, self.watched))

    def fits(self, flat: Sequence[Any]) -> bool:
        """Whether it is right without a look at the function: see `compile` for what a pure one promises."""
        for tensor, was_none in self.were_cleared:
            if (grad_of(self.record.real(tensor, flat, {})) is None) is not was_none:
                return False
        for tensor, seen in self.seen.items():
            if not same_numbers(self.record.numbers(tensor, flat, self.constants), seen):
                return False
        return self.flags_fit() and all(map(operator.is_, map(array_of, self.aliased), self.their_memory))

    def drawn(self) -> dict[Tensor, Any]:
        """What a pure program finds in its slots: arrays and numbers of the trace, and what is drawn anew."""
        if not self.draws:
            return self.constants
        return {**self.constants, **{t: draw(*args, **kwargs) for t, (draw, args, kwargs) in self.draws.items()}}

    def __call__(
        self, flat: Sequence[Any], given: Sequence[Any], bound: dict[Tensor, Any], out: list[Any]
    ) -> list[Any]:
        """The leaves of the answer, where `out` holds those that need not be computed."""
        tensors, counted, changing = self.tensors, self.counted, self.leaves
        if not self.are_own or (bound and any(isinstance(x, Tensor) for x in bound.values())):
            of_this_call = lambda ts: [self.record.real(t, flat, bound) for t in ts]
            tensors, counted, *changing = map(of_this_call, (tensors, counted, *changing))
        inputs = [array_of(x) if isinstance(x, Tensor) else x for x in [given[i] for i in self.positions]]
        inputs += map(array_of, tensors)
        inputs += map(number_of, counted)
        if self.slots:
            inputs += [self.record.numbers(t, flat, bound) for t in self.slots]
        workspace = self.pool.pop() if self.pool else (quiet_context().run if self.silent else called, self.workspace())
        answers = workspace[0](self.forward, workspace[1], *inputs)
        if answers is None or self.tracked:
            execution = Execution(self, flat, inputs, bound, workspace, answers and answers[1], changing[3])
            if answers is None:
                return execution.eagerly(out)
        else:
            self.release(workspace)
        found, ends = answers[0], [bool(self.tracked), bool(self.tracked) + len(self.others)]
        self.write(changing, found[ends[1] :])
        if self.tracked:
            total = recomputable(execution, np.asarray(found[0]))
            for i, part in zip(self.tracked, split(total, self.kinds), strict=True):
                out[i] = part
        for (i, wrapped), array in zip(self.others, found[ends[0] : ends[1]], strict=True):
            out[i] = wrapped(array)
        return out

    def write(self, leaves: Sequence[Sequence[Tensor]], arrays: Sequence[Array]) -> None:
        """Give leaves other memory and other gradients, and say which were written to in place."""
        rebound, changed, cleared, _, touched = leaves
        for leaf, array in zip(rebound, arrays, strict=False):
            set_data(leaf, array)
        if changed or cleared or touched:
            set_grads(changed, arrays[len(rebound) :])
            clear(cleared)
            touch(touched)

    def release(self, workspace: Any) -> None:
        if len(self.pool) < MOST_IDLE:
            self.pool.append(workspace)


def tracks(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def as_it_is(x: Any) -> Any:
    return x


def called(function: Function, *args: Any) -> Any:
    return function(*args)


def freed_answer(array: Array) -> Tensor:
    """An answer whose graph was walked back and freed."""
    freed: Any = None
    return answered(recomputed, freed, NO_KWARGS, np.asarray(array), (), ())


class Execution(Recomputation):
    """One run of a program: the way back through it, once, and what is needed to make the recorded calls again."""

    __slots__ = ("arrays", "bound", "flat", "inputs", "program", "saved", "workspace")

    exact = False  # programs round otherwise

    def __init__(
        self, program: Program, flat: Any, arrays: Any, bound: Any, workspace: Any, saved: Any, inputs: Any
    ) -> None:
        self.program, self.flat, self.arrays, self.bound = program, flat, arrays, bound
        self.workspace, self.saved, self.inputs = workspace, saved, inputs

    def __del__(self) -> None:
        if getattr(self, "saved", None) is not None:  # nor was it interrupted while it was made
            self.program.release(self.workspace)

    @property
    def may_choose(self) -> bool:  # type: ignore[override]
        return self.program.chooses

    def eagerly(self, out: list[Any]) -> list[Any]:
        """Do what was recorded without the program, which cannot tell what was not chosen."""
        found = self.interpreted(writes=True)
        for k in self.program.computed:
            out[k] = found[self.program.out[k]]
        return out

    def interpreted(self, writes: bool) -> dict[Any, Any]:
        """Make the recorded calls again, and `writes` too: what all the stand-ins stand for."""
        record, found = self.program.record, dict[Any, Any]()
        for slot, array in zip(self.program.inputs, self.arrays, strict=True):
            leaf = record.real(slot, self.flat, self.bound)
            as_it_was = isinstance(leaf, Tensor) and not is_abstract(leaf)
            if as_it_was and not leaf.requires_grad and array is not array_of(leaf):
                leaf = Tensor(array)
            found[slot] = leaf if as_it_was else array

        def filled(x: Any) -> Any:
            if isinstance(x, dict):
                return {filled(key): filled(value) for key, value in x.items()}
            if isinstance(x, frozenset):
                return frozenset(map(filled, x))
            return found.get(x, record.real(x, self.flat, self.bound)) if isinstance(x, Tensor) else x

        written: dict[Any, Any] = {}  # what leaves would hold, where nothing is written
        for event in record.events:
            changes = {(what, leaf): x for what, leaf, x in event.effects if what in READS}
            read = written.get((event.function, event.args[0]), event) if event.function in READS else event
            if event.function in (sampled, set_requires_grad) or (changes and not writes):
                written |= changes
            elif read is not event:
                found.update(() if read is None else [(event.result, found[read])])
            else:
                args, kwargs = mapped(filled, tuple(map(filled, event.args))), mapped(filled, event.kwargs)
                with recording(event.recording):
                    result = made_again(event, args, kwargs, filled)
                pairs = zip(leaves(event.result), leaves(result), strict=False)
                found.update((stand_in, x) for stand_in, x in pairs if isinstance(stand_in, Tensor))
        return found

    def __call__(self) -> Any:
        """The tracked answers once more, as one Tensor with its history."""
        found = self.interpreted(writes=False)
        return np.positive(Answer([found[self.program.out[k]] for k in self.program.tracked]).total)

    def gradients(self, g: Array) -> list[Array] | None:
        """The gradients of the tensors of the call; once, since what the forward pass has left is written over."""
        program, saved = self.program, self.saved
        if program.broken is not None:
            raise program.broken
        if saved is None:
            return None
        self.saved = None
        into = [np.empty(target.shape, target.dtype) for target in program.values.targets]
        if into:
            quietly(program.backward, self.workspace[1], saved, *([] if program.seed_is_one else [g]), *into)
        program.release(self.workspace)
        if program.seed_is_one and g.item() != 1:
            for part in into:
                part *= g.astype(part.dtype)
        return into


def made_again(event: Event, args: Any, kwargs: Any, filled: Function) -> Any:
    """What an event gives for what its stand-ins stand for."""
    if event.function is argument:
        return variable(args[0])
    if event.asked in (call, call_other):
        return event.asked(event.function, args, kwargs)
    if event.function is not walk_twice:
        return event.function(*args)
    root, g, targets, recorded, _ = args
    answers = walk_twice(root, g, targets, recorded, False)
    return {leaf: answers[filled(leaf)] for leaf in event.result}
