"""Compile: a function of Tensors as the straight-line NumPy program that an expert would have written by hand.

Compiled   what the user holds: it runs the function on stand-ins, and then a program
family     the programs that there are for one signature of the arguments
replay     what the function asks of the engine is compared with the records of earlier runs
recording  what is new is recorded: as events (see record), and as a graph of all that is computed
graph      constants are folded, equal calls shared, identities applied
plan       which calls are done together in blocks, and which memory every answer goes into
source     the program as Python source, a call a line
program    the program at work: the arrays that it is given, and what is made of its answers
export     the program as a module that needs NumPy alone
"""

from __future__ import annotations

import functools
import html
import inspect
import operator
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from types import MethodType
from typing import Any

from minigrad.compiler import export
from minigrad.compiler.family import Family, Running, Same, arranged, positional
from minigrad.compiler.graph import Graph
from minigrad.compiler.program import Program
from minigrad.compiler.record import TraceError
from minigrad.compiler.replay import Run, broken_promise
from minigrad.engine import Function, Tensor, mode, name_of, on
from minigrad.trees import flatten, named

MANY, FAMILIES = 16, 256  # programs that are worth a warning, and signatures that are kept


def line_of(error: BaseException) -> str:
    """The line of the user's code that an error comes from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    return f"{frames[-1].filename}:{frames[-1].lineno}, `{frames[-1].line}`" if frames else "the function"


class Compiled:
    """A function that runs as a NumPy program; see `compile`."""

    def __init__(self, f: Function, threads: int, pure: bool) -> None:
        its: dict[str, Any] = {name: getattr(f, name) for name in functools.WRAPPER_ASSIGNMENTS if hasattr(f, name)}
        vars(self).update(its, __wrapped__=f, f=f, threads=threads, pure=pure, lock=threading.RLock())
        vars(self).update(families={}, last=lambda: None, traces=0)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        here = mode()
        if here and (isinstance(here, Run) or not self.pure):
            return self.f(*args, **kwargs)  # part of a larger program, or under examination
        flat, rebuild, key = arranged(args, kwargs)
        family = self.families.get(key)
        if family is None:
            family = self.family(key, flat)
        if self.pure and here:  # which shall see the calls, once they are known to be the same
            if family.programs:
                run, out = self.follow(family, flat, rebuild, strict=True)
                if family.program_of(run, run.nodes(flatten(out)[0])) is None:
                    raise broken_promise("the end, or the answer,")
            return self.f(*args, **kwargs)
        for program in family.programs if self.pure else ():
            if program.fits(flat):
                vars(self)["last"] = program.reference
                return program.build(self.run(program, flat, flat, program.drawn(), [*program.out]))
        return self.replayed(family, flat, rebuild)

    def family(self, key: Any, flat: Sequence[Any]) -> Family:
        """A new family, in place of the oldest where there are many."""
        while len(self.families) >= FAMILIES:
            self.families.pop(next(iter(self.families)))
        for x in key:
            if isinstance(x, Same):
                x.forgets(self.families, key)
        self.families[key] = family = Family(flat)
        return family

    def follow(self, family: Family, flat: Sequence[Any], rebuild: Function, strict: bool = False) -> tuple[Run, Any]:
        """Run the function on stand-ins: what it has done, and what it has returned."""
        records = [program.record for program in family.programs if program.flags_fit()]
        run = Run(records, records[0] if records else family.start, flat, strict)
        args, kwargs = family.given, {}
        if rebuild is not positional:
            filled = list(flat)
            for i, stand_in in zip(family.positions, family.given, strict=True):
                filled[i] = stand_in
            args, kwargs = rebuild(filled)
        try:
            with on(run):
                out = self.f(*args, **kwargs)
            mode()  # which forgets the block that has ended, and so the run
            if rebuild is not positional:
                self.unchanged(args, kwargs, filled)
            return run, out
        except BaseException as error:
            sizes = run.unlock()
            if isinstance(error, ValueError) and sizes and "read-only" in str(error):
                raise TraceError(
                    f"{line_of(error)}, writes to an array after it was used with a Tensor, and it may be one of those "
                    f"of {sizes} elements, which are locked until the program has run: write to a copy."
                ) from error
            raise

    def replayed(self, family: Family, flat: Sequence[Any], rebuild: Function) -> Any:
        """Run the function on stand-ins, and then a program for what it has done."""
        running = Running()
        family.begin(running)
        answer, program = self.answer(family, flat, rebuild)
        family.end(program)
        return answer

    def answer(self, family: Family, flat: Sequence[Any], rebuild: Function) -> tuple[Any, Program]:
        run, out = self.follow(family, flat, rebuild)
        try:
            leaves, build = flatten(out)
            leaves = run.nodes(leaves)
            program = family.program_of(run, leaves)
            if program is None:
                program = self.traced(run, flat, rebuild, leaves)
                program.build, family.held = build, {}
            family.first(program)
            if program.slots:
                program.remember(run)
            vars(self)["last"] = program.reference
            return build(self.run(program, flat, run.flat, run.bound, leaves)), program
        finally:
            run.unlock()

    def run(self, program: Program, flat: Sequence[Any], given: Any, bound: dict[Tensor, Any], out: list[Any]) -> Any:
        for k in program.handed_on:
            out[k] = program.record.real(out[k], flat, bound)
        if not program.has_effects:
            return program(flat, given, bound, out)
        with self.lock:  # so that the step of another thread is done before or after
            return program(flat, given, bound, out)

    def traced(self, run: Run, flat: Sequence[Any], rebuild: Function, out: Any) -> Program:
        """A new program for what a run has done."""
        if not run.is_new:
            run.begin_recording()
        if sum(len(other.programs) for other in self.families.values()) == MANY:
            warnings.warn(
                f"{name_of(self.f)} was traced {MANY} times, for so many shapes, dtypes, and values of what is no "
                "array, or ways to go: each costs milliseconds. Give numbers as arrays, and batches of one size.",
                stacklevel=4,
            )
        vars(self)["traces"] += 1
        return Program(self.f, run, self.names(rebuild, flat), out, self.threads)

    def unchanged(self, args: Any, kwargs: Any, filled: Sequence[Any]) -> None:
        """Raise where the function has changed a list or dict that it was given, since it is given copies."""
        left, _ = flatten((args, kwargs))
        if len(left) != len(filled) or not all(map(operator.is_, left, filled)):
            raise TraceError(
                f"{name_of(self.f)} changes a list or dict that it is given, and a program is given a copy: return "
                "what is to change, or change it outside of the function."
            )

    def names(self, rebuild: Function, flat: Sequence[Any]) -> dict[int, str]:
        """Names for readers, of arguments and of what the function closes over, by the id of the thing."""
        args, kwargs = rebuild(flat)
        try:
            given = inspect.signature(getattr(self.f, "forward", self.f)).bind(*args, **kwargs).arguments
        except (TypeError, ValueError):  # NumPy's functions do not all tell
            given = {f"x{i}": x for i, x in enumerate(args)} | kwargs
        around = self.f
        if inspect.isfunction(around):
            variables = inspect.getclosurevars(around)
            around = {**variables.globals, **variables.nonlocals}
        return {id(part): name for where in (around, given) for name, part in named(where)}

    # ------------------------------------------------------------------------------- what a function has, and more

    def __reduce__(self) -> Any:
        name = getattr(self, "__qualname__", "")
        found: Any = sys.modules.get(getattr(self, "__module__", ""))
        for part in name.split("."):
            found = getattr(found, part, None)
        # One that stands where its name says is found there again; a copy of another makes programs of its own.
        return name if found is self else (Compiled, (self.f, self.threads, self.pure))

    def __repr__(self) -> str:
        return f"compile({self.f!r}{', pure=True' if self.pure else ''})"

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        if owner is None:
            return self
        return MethodType(self, owner)

    def __getattr__(self, name: str) -> Any:
        """What a model has, such as `parameters`, has the compiled one."""
        if name == "f":  # before there is one
            raise AttributeError(name)
        return getattr(self.f, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.f, name, value)

    @property
    def source(self) -> str:
        """The program that ran last."""
        return self.newest().source

    def newest(self) -> Program:
        """The program that ran last; a RuntimeError before the first call."""
        program: Program | None = self.last()
        if program is None:
            raise RuntimeError("there is no program yet: it is made at the first call, for the shapes that it sees")
        return program

    def _repr_html_(self) -> str:
        source = "not called yet" if self.last() is None else self.source
        return f"<details><summary>compiled {name_of(self.f)}</summary><pre>{html.escape(source)}</pre></details>"

    def save(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Write a program as a module `path`, which runs on NumPy alone; the weights go beside it.

        It is that for such arguments, or the one that ran last. With `net.py` comes `net.npz`; `python net.py x.npy`
        prints the answer, `net.predict(x)` returns it, several as a tuple. A program that writes, such as a step of
        training, is `net.step(x)` instead, and changes `net.weights`. Raises ValueError for a program that draws random
        numbers, that returns constants, or that calls functions which cannot be written down. Where a gradient is nan,
        a saved program warns that minigrad may know better, and a step raises FloatingPointError.
        """
        program = self.newest()
        if args or kwargs:
            family = self.families.get(arranged(args, kwargs)[2])
            if family is None or not family.programs:
                raise ValueError("there is no program for such arguments yet: call the function with them first")
            program = family.programs[0]
        export.save(path, program)


def compile(f: Function, *, threads: int | None = None, pure: bool = False) -> Compiled:
    """`f` as a NumPy program, forward and backward and all that it writes, which gives what `f` itself would give.

    At each call `f` runs on stand-ins, Tensors that have shapes and dtypes and no numbers; an array among the arguments
    arrives as one, too. While its calls equal those of an earlier run, the program for that run does the arithmetic;
    where they differ, a new one is made, at some milliseconds. So what `f` finds around it may change at any time, and
    what it does besides (print, count, draw random numbers) it does. Arrays and Tensors that appear are read anew.

    What `f` writes to the `.data` and `.grad` of leaves is done once all is computed, so a step of training is one
    program: zero_grad, the loss, backward(), and optimizer.step(). A step that raises has written nothing. An array
    that `f` overwrites after it was used with a Tensor is copied when it is met, and locked if it is large; a write by
    a view that is older than the call would be missed, which mg.debug() finds. TraceError is raised where `f` looks at
    numbers that are yet to be computed, as in `if t > 0`, and at those of stand-ins that an earlier call has left.

    With `pure=True`, `f` runs only to be traced: the promise is that between calls only the numbers in arguments,
    Tensors and arrays change, and what is drawn by `minigrad.sample`. In mg.debug() that is checked.

    Long chains of functions of elements, on arrays that do not fit the cache, run block by block, on so many `threads`
    (all of the machine, unless given) when that pays. `.source` is the program that ran last, `.save(path)` writes it
    as a module; all else, such as `.parameters()`, is that of `f`.

    >>> import numpy as np
    >>> from minigrad import Tensor
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
    if threads is not None and operator.index(threads) < 1:
        raise ValueError(f"compile needs at least one thread, not threads={threads}")
    if isinstance(f, Compiled):
        return f if f.pure == pure else Compiled(f.f, threads or f.threads, pure)
    return Compiled(f, threads or os.cpu_count() or 1, pure)


def trace(f: Function, args: Sequence[Any], graph: Graph) -> tuple[Run, Any, dict[int, str]]:
    """One run of `f` on stand-ins for others to read: with all calls in `graph`, the answer, and names by the id."""
    compiled, (flat, rebuild, _) = compile(f), arranged(args, {})
    family = Family(flat)
    family.start.graph = graph
    run, out = compiled.follow(family, flat, rebuild)
    run.unlock()
    if not run.is_new:
        run.begin_recording()
    return run, out, compiled.names(rebuild, flat)
