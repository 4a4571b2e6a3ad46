"""What a program depends on in the arguments of a call, and the programs that there are for such arguments."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.compiler.program import Program
from minigrad.compiler.record import Origin, Record
from minigrad.compiler.replay import Run
from minigrad.engine import Tensor, array_of, is_recording
from minigrad.trees import flatten

MOST = 8  # programs that are kept
ARRAYS = (np.ndarray, np.generic, Tensor)
SIMPLE = {np.ndarray, Tensor}


def arranged(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], Callable[..., Any], Any]:
    """The leaves of the arguments, the function that builds these again, and what a program depends on in them."""
    if not kwargs and SIMPLE.issuperset(map(type, args)):
        return args, positional, (is_recording(), *map(signature, args))
    flat, rebuild = flatten((args, kwargs))
    return flat, rebuild, (repr(rebuild(["*"] * len(flat))), is_recording(), *map(signature, flat))


def positional(leaves: Sequence[Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    return leaves, {}


def signature(x: Any) -> Any:
    """What a program depends on in a leaf of the arguments."""
    if type(x) is np.ndarray:
        return x.shape, x.dtype
    if type(x) is Tensor:
        return x.shape, x.dtype, x.requires_grad
    if isinstance(x, ARRAYS):
        if not isinstance(x, (np.generic, np.memmap)):
            raise TypeError(f"a program knows no {type(x).__name__}: give it np.asarray(x), or fill a masked array.")
        return x.shape, x.dtype, isinstance(x, np.generic)
    if isinstance(x, (int, float, complex, str, bytes, type(None), slice, range)):
        return type(x), repr(x)  # which tells 0.0 from -0.0
    return Same(x)


class Same:
    """A thing that is equal to itself alone, as long as it lives."""

    def __init__(self, thing: Any) -> None:
        self.id = id(thing)
        try:
            self.thing: Any = weakref.ref(thing)
        except TypeError:  # it is kept then, so that no other gets its id
            self.thing = lambda: thing

    def forgets(self, families: dict[Any, Any], key: Any) -> None:
        """Forget a family once the thing is gone."""
        if isinstance(self.thing, weakref.ref):
            self.thing = weakref.ref(self.thing(), lambda _: families.pop(key, None))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Same) and self.id == other.id and other.thing() is self.thing())

    def __hash__(self) -> int:
        return self.id


class Running:
    """A call that runs."""

    __slots__ = ("__weakref__",)


class Family:
    """The programs of a function for one signature of its arguments, the one that ran last first."""

    def __init__(self, flat: Sequence[Any]) -> None:
        self.start, self.programs = Record(), list[Program]()
        self.calls: set[weakref.ref[Running]] = set()  # that run, each until it is gone, however it ends
        self.held: dict[Program, tuple[list[Tensor], list[int]]] = {}  # stand-ins, and how many references there are
        self.positions = [i for i, x in enumerate(flat) if isinstance(x, ARRAYS)]
        for i in self.positions:
            x = flat[i]
            is_tensor = isinstance(x, Tensor)
            array = array_of(x) if is_tensor else np.asarray(x)
            tracked = () if is_tensor and x.requires_grad else None
            self.start.arguments.append(self.start.stands_for(array, Origin("argument", i), tracked, not is_tensor))
        self.given = tuple(self.start.arguments)

    def program_of(self, run: Run, leaves: Sequence[Any]) -> Program | None:
        """The program for what a run has done until it returned some leaves, if there is one."""
        if not run.is_new:
            last = run.record.events[run.i - 1] if run.i else None
            for program in self.programs:
                events = program.record.events
                if len(events) == run.i and (last is None or events[-1] is last) and program.gives(leaves):
                    return program
        return None

    def begin(self, running: Running) -> None:
        """A call begins. Where no other runs, nobody but the records has references to the stand-ins."""
        self.calls.add(weakref.ref(running, self.calls.discard))
        if len(self.calls) == 1 and not self.held:
            for program in self.programs:
                results = program.record.results()
                self.held[program] = results, list(map(sys.getrefcount, results))

    def end(self, program: Program) -> None:
        """A call ends: what it still has references to, the function has kept."""
        if program in self.held and len(self.calls) == 1:
            results, counts = self.held[program]
            now = list(map(sys.getrefcount, results))  # at once, since a loop has references of its own
            kept = [x for x, n, m in zip(results, now, counts, strict=True) if n > m] if now != counts else []
            for tensor in kept:
                for other in self.programs:
                    other.record.let_go(tensor)
            self.held = {} if kept else self.held

    def first(self, program: Program) -> None:
        """Let a program be the one that ran last."""
        if not self.programs or self.programs[0] is not program:
            self.programs = [program, *(p for p in self.programs if p is not program)][:MOST]
