"""Compile: a function of Tensors as the straight-line NumPy program that an expert would have written by hand.

    scope            what the function finds outside of itself, and whether that has changed
    trace            runs the function once, and its backward pass with it; everything is recorded
    graph            the recorded calls that are needed: constants folded, equal calls shared, identities applied
    plan             which calls are done together in blocks, and which memory every answer goes into
    source           the program as Python source, a call a line
    export           the program as a module that needs NumPy alone
    Specialization   the program for one signature: shapes, dtypes, values of arguments that are no arrays
    Compiled         what the user holds: it looks up the program for the arguments, or traces anew

A compiled call is one call in the graph of whoever uses it. Its program computes first derivatives. For higher ones,
and where a nan may have come from a branch that was not chosen, the function itself is run again; see
`transforms.Recomputation`.
"""

from __future__ import annotations

import builtins
import enum
import functools
import inspect
import itertools
import operator
import os
import warnings
from collections.abc import Sequence
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from minigrad.compiler import export
from minigrad.compiler.graph import Graph
from minigrad.compiler.scope import CONSTANTS, Scope
from minigrad.compiler.source import ProgramValues, source_of
from minigrad.compiler.trace import Trace, TraceError, copy_of, same_numbers

from minigrad.engine import (  # isort: skip
    Array, Function, Tensor, array_of, arrays_in, as_tensor, backpropagate, is_recording, mode, name_of, on,
    quietly, recording, time_of,
)  # fmt: skip
from minigrad.nn.module import Module
from minigrad.sample import Samples
from minigrad.transforms import Answer, Recomputation, recomputable, split
from minigrad.trees import flatten, named

# ----------------------------------------------------------------------------------------------------- the program


class Eager(Answer):
    """What the function itself returns for some leaves of its arguments."""

    def __init__(self, f: Function, flat: Sequence[Any], rebuild: Function) -> None:
        self.arguments = args, kwargs = rebuild(flat)
        answer = f(*args, **kwargs)
        self.alone = isinstance(answer, Tensor)
        super().__init__(answer)


class Specialization:
    """A function at work for one signature of its arguments, of which `flat` are the leaves."""

    def __init__(self, f: Function, flat: Sequence[Any], rebuild: Function, threads: int) -> None:
        self.f, self.rebuild, self.seed_is_one = f, rebuild, False
        self.pool: list[Any] = []  # workspaces that nobody uses
        self.positions = [i for i, x in enumerate(flat) if isinstance(x, ARRAYS)]
        self.tensors = [k for k, i in enumerate(self.positions) if isinstance(flat[i], Tensor)]
        names = argument_names(f, *rebuild(flat))
        words = [names.get(id(flat[i]), "x") for i in self.positions]
        others = {names.get(id(x), "x"): x for x in flat if not isinstance(x, ARRAYS)}
        self.scope = Scope({"" if isinstance(f, FunctionType) else "model": f, **others})
        trace, variables, answer = self.trace(flat)
        wrong = list(trace.wrong)
        seeds, slopes = self.backward_pass(trace, answer.total)
        self.chooses = trace.chose
        # Walks back warn of no nan and inf, and neither does code that asks NumPy not to.
        self.silent = bool(wrong) or self.scope.silent
        self.may_need_masks = trace.chose and bool(wrong)  # whether a nan may have come from what was not chosen
        self.keep(answer, trace)

        graph = Graph(trace)
        graph.add([*variables, *seeds])
        outputs = graph.add([*([answer.total] if self.tracked else []), *(answer.leaves[k] for k in self.others)])
        nan_flags = graph.add(wrong) if self.may_need_masks else []
        self.nan_flags = len(nan_flags)
        draws, gradients = graph.add(trace.draws), dict(zip(slopes, graph.add(slopes.values()), strict=True))
        self.closed = [tensor for tensor in graph.inputs if tensor not in {*variables, *seeds}]
        self.watched = list({**dict.fromkeys(self.closed), **dict.fromkeys(self.scope.tensors)})
        self.requires_grad = [tensor.requires_grad for tensor in self.watched]
        if self.scope.reads_numbers or trace.saw_derived_arrays:  # plain NumPy may have used any of the arrays
            arrays = [array for _, array in self.scope.arrays]
        else:
            arrays = self.scope.arrays_without(trace.arrays_read())
        self.frozen = [(x, copy_of(x)) for x in [*arrays, *map(array_of, trace.frozen)]]
        self.from_flat = [i for i, x in zip(self.positions, variables, strict=True) if x in gradients]
        self.from_closed = [tensor for tensor in self.closed if tensor in gradients]
        targets = [x for x in (*variables, *self.closed) if x in gradients]
        forward = graph.needed([*outputs, *nan_flags, *draws])
        before = set(forward)
        self.values = ProgramValues(
            inputs=[graph.values[x] for x in (*variables, *self.closed)],
            names=[*words, *map(self.scope.name_of, self.closed)],
            forward=forward,
            outputs=[*outputs, *nan_flags],
            draws=draws,
            seeds=[graph.values[seed] for seed in seeds],
            backward=[value for value in graph.needed(gradients.values()) if value not in before],
            gradients=[gradients[x] for x in targets],
            targets=[graph.values[x] for x in targets],
        )
        name = getattr(f, "__name__", "program")
        self.source, self.given, self.names = source_of(name, self.values, len(words), threads)
        namespace = dict(self.given)
        exec(builtins.compile(self.source, f"<{name}>", "exec"), namespace)
        self.workspace, self.forward = namespace["workspace"], namespace["forward"]
        self.backward: Any = namespace.get("backward")  # or None, where nothing is tracked

    def trace(self, flat: Sequence[Any], once_more: bool = True) -> tuple[Trace, list[Tensor], Eager]:
        """Run the function; once more if it changes what it finds, as one that fills a cache does the first time."""
        copies = self.scope.numbers()
        trace, variables, answer = self.trace_once(flat)
        changed = self.scope.changed() or self.scope.written(copies)
        if changed and once_more and not any(map(trace.belongs, self.scope.now())):
            self.scope.remember()
            return self.trace(flat, once_more=False)
        if changed:
            raise TraceError(
                f"{name_of(self.f)} changes {changed}, which a program would not do again: return what is to change, "
                "change it outside of the function, or leave that uncompiled."
            )
        return trace, variables, answer

    def trace_once(self, flat: Sequence[Any]) -> tuple[Trace, list[Tensor], Eager]:
        """Run the function on Tensors that stand for the arrays among its arguments."""
        if iterators := self.scope.iterators:
            raise TraceError(
                f"{name_of(self.f)} finds the iterator {iterators[0]}, and a program takes nothing from it: "
                "give the function what comes next as an argument."
            )
        trace = Trace([array for _, array in self.scope.arrays], self.scope.generators)
        filled = list(flat)
        for i in self.positions:
            is_tensor = isinstance(flat[i], Tensor)
            filled[i] = trace.variable(arrays_in(flat[i]), is_tensor and flat[i].requires_grad, not is_tensor)
        with trace, on(trace):
            answer = quietly(Eager, self.f, filled, self.rebuild)
        left, _ = flatten(answer.arguments, whole=(Module,))
        if len(left) != len(filled) or not all(map(operator.is_, left, filled)):
            raise TraceError(
                f"{name_of(self.f)} changes a list or dict that it is given, and a program is given a copy: return "
                "what is to change, or change it outside of the function."
            )
        return trace, [filled[i] for i in self.positions], answer

    def keep(self, answer: Eager, trace: Trace) -> None:
        """Remember what is needed to put the answer together from what the program computes."""
        for x in answer.leaves:
            if not isinstance(x, (*CONSTANTS, *ARRAYS, *LASTING)) and id(x) not in self.scope.seen:
                raise TraceError(
                    f"{name_of(self.f)} returns {type(x).__name__} objects, which a program cannot make anew: return "
                    "arrays and numbers, and dicts, lists, tuples and dataclasses of them."
                )
        self.leaves = [None if isinstance(x, Tensor) else x for x in answer.leaves]  # those that are not computed
        made = [isinstance(x, np.ndarray) and id(x) not in self.scope.seen for x in answer.leaves]
        self.copied = [k for k, is_made in enumerate(made) if is_made]  # of arrays that are always the same
        self.build, self.tracked = answer.rebuild, answer.tracked
        self.alone = answer.alone and bool(answer.tracked)
        self.kinds = answer.kinds
        self.others = [k for k, x in enumerate(answer.leaves) if isinstance(x, Tensor) and k not in self.tracked]
        self.are_arrays = [answer.leaves[k] in trace.arrays for k in self.others]

    def backward_pass(self, trace: Trace, root: Tensor | None) -> tuple[list[Tensor], dict[Tensor, Tensor]]:
        """Trace the backward pass: the gradient of the root, unless it is taken for 1, and those of all inputs."""
        if root is None:
            return [], {}
        found, stack = {root: None}, [root]
        while stack:
            node = stack.pop()
            for x in () if trace.is_input(node) else node.args or ():
                if isinstance(x, Tensor) and x.requires_grad and x not in found:
                    found[x] = None
                    stack.append(x)
        targets = list(filter(trace.is_input, found))
        if not targets:
            return [], {}
        # The gradient of a single number is mostly 1, and so is a constant of the program; the gradients are multiplied
        # by any other in the end. In half precision they could underflow before that, so there it is an input.
        self.seed_is_one = root.shape == () and all(x.dtype.itemsize > 2 for x in found)
        one = np.ones(root.shape, root.dtype)
        with on(trace), recording(True), np.errstate(all="ignore"):
            g = Tensor(one) if self.seed_is_one else trace.variable(one, False, True)
            slopes = backpropagate(root, g, frozenset(targets), recorded=True)
        return [] if self.seed_is_one else [g], {target: as_tensor(slopes[target]) for target in targets}

    def equals(self, other: Specialization) -> bool:
        """Whether it is the same program, with the same constants and arrays."""
        numbers = [
            [np.asarray(x) for x in (*p.given.values(), *map(array_of, p.closed)) if not callable(x)]
            for p in (self, other)
        ]
        return self.source == other.source and all(map(same_numbers, *numbers))

    def fits(self) -> bool:
        """Whether it is right as things are: what the function closes over, and which parameters are frozen."""
        return (
            self.requires_grad == [tensor.requires_grad for tensor in self.watched]
            and not (self.frozen and not all(itertools.starmap(same_numbers, self.frozen)))
            and not self.scope.changed()
        )

    def __call__(self, flat: Sequence[Any]) -> Any:
        try:
            buffers = self.pool.pop()
        except IndexError:
            buffers = self.workspace()
        arrays = [flat[i] for i in self.positions]
        for i in self.tensors:
            arrays[i] = array_of(arrays[i])
        arrays += map(array_of, self.closed)
        outputs, draws, saved = (
            quietly(self.forward, buffers, *arrays) if self.silent else self.forward(buffers, *arrays)
        )
        run = Execution(self, flat, draws, buffers, saved)
        if self.may_need_masks and any(outputs[-self.nan_flags :]):
            answer = run.eager()
            return answer.rebuild(answer.leaves)  # with masks, where a branch was not chosen
        leaves = list(self.leaves)
        if self.tracked:
            run.inputs = [*[flat[i] for i in self.from_flat], *self.from_closed]
            total = recomputable(run, np.asarray(outputs[0]))
            run.time = time_of(total)
            if self.alone:
                return total
            for k, part in zip(self.tracked, split(total, self.kinds), strict=True):
                leaves[k] = part
        for k in self.copied:
            leaves[k] = np.array(leaves[k])
        rest = outputs[bool(self.tracked) : len(outputs) - self.nan_flags]
        for k, output, is_array in zip(self.others, rest, self.are_arrays, strict=True):
            leaves[k] = output if is_array else Tensor(output)
        return self.build(leaves)

    def release(self, buffers: Any) -> None:
        if len(self.pool) < MOST_IDLE:
            self.pool.append(buffers)


class Execution(Recomputation):
    """One run of a program: the way back through it, once, and what is needed to run the function itself."""

    __slots__ = ("buffers", "draws", "flat", "inputs", "program", "saved", "time")

    exact = False  # programs round otherwise

    def __init__(self, program: Specialization, flat: Sequence[Any], draws: Any, buffers: Any, saved: Any) -> None:
        self.program, self.flat, self.draws, self.buffers, self.saved = program, flat, draws, buffers, saved
        self.time = 0  # of the answer

    def __del__(self) -> None:
        if getattr(self, "saved", None) is not None:  # nor was it interrupted while it was made
            self.program.release(self.buffers)

    @property
    def may_choose(self) -> bool:  # type: ignore[override]
        return self.program.chooses

    def eager(self) -> Eager:
        """What the function itself gives, with the same random numbers."""
        with on(Samples(self.draws)):
            return Eager(self.program.f, self.flat, self.program.rebuild)

    def __call__(self) -> Any:
        """The tracked answers of the function itself, as one Tensor with its history."""
        late = (x for x in self.program.closed if time_of(x) > self.time)
        if changed := self.program.scope.changed() or next(map(self.program.scope.name_of, late), None):
            raise RuntimeError(
                f"{changed} has been changed since {name_of(self.program.f)} was called, and to differentiate that "
                "twice it is run again: take derivatives before the change, or call the function again after it."
            )
        return np.positive(self.eager().total)

    def gradients(self, g: Array) -> list[Array] | None:
        """The gradients of the tensors of the call, or None where the program does not know them (any more)."""
        into = [np.empty(target.shape, target.dtype) for target in self.program.values.targets]
        if not self.run_backward(g, into):
            return None
        if self.program.seed_is_one and g.item() != 1:
            for part in into:
                part *= g.astype(part.dtype)
        return into

    def run_backward(self, g: Array, into: list[Array]) -> bool:
        """Write the gradients into arrays; only once, since what the forward pass has left is written over."""
        program, saved = self.program, self.saved
        if saved is None:
            return False
        self.saved = None
        if not into:
            return True
        if not program.seed_is_one:
            into = [g, *into]
        quietly(program.backward, self.buffers, saved, *into)
        program.release(self.buffers)
        return True


def argument_names(f: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[int, str]:
    """The names of all arguments, by the id of what was given: `x`, or `batch.images` of a dict."""
    try:
        given = inspect.signature(getattr(f, "forward", f)).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # NumPy's functions do not all tell
        given = {f"x{i}": x for i, x in enumerate(args)} | kwargs
    return {id(item): name for name, item in named(given)}


# --------------------------------------------------------------------------------------------------- what users hold


class Compiled:
    """A function that runs as a NumPy program; see `compile`."""

    def __init__(self, f: Function, threads: int) -> None:
        functools.update_wrapper(self, f, updated=())
        self.f, self.threads = f, threads
        self.programs: dict[Any, list[Specialization]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if mode():  # part of a larger program, or under examination
            return self.f(*args, **kwargs)
        key: Any = (is_recording(), *map(signature, args))
        flat: Sequence[Any] = args
        rebuild: Function = positional
        if kwargs or (key not in self.programs and not all(type(x) in SIMPLE for x in args)):
            flat, rebuild = flatten((args, kwargs), whole=(Module,))
            key = (structure_of(rebuild, len(flat)), is_recording(), *map(signature, flat))
        for program in self.programs.get(key, ()):
            if program.fits():
                return program(flat)
        return self.traced(key, flat, rebuild)(flat)

    def __reduce__(self) -> Any:
        return Compiled, (self.f, self.threads)  # a copy makes programs of its own

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else MethodType(self, owner)

    def __getattr__(self, name: str) -> Any:
        """What a model has, such as `parameters`, has the compiled one."""
        if name == "f":  # before there is one
            raise AttributeError(name)
        return getattr(self.f, name)

    def traced(self, key: Any, flat: Sequence[Any], rebuild: Function) -> Specialization:
        """A new program, in place of those that are of no more use."""
        programs = self.programs.setdefault(key, [])
        count = sum(map(len, self.programs.values()))
        if count == MANY:
            warnings.warn(
                f"{name_of(self.f)} was traced {count} times, for so many shapes, dtypes, modes and values of "
                "arguments that are no arrays, or of what it closes over: each costs milliseconds. Give numbers as "
                "arrays, and batches of one size.",
                stacklevel=3,
            )
        program = Specialization(self.f, flat, rebuild, self.threads)
        if program.scope.nondeterministic and not program.equals(Specialization(self.f, flat, rebuild, self.threads)):
            raise TraceError(
                f"{name_of(self.f)} is another program when it is traced again: it draws random numbers, or reads a "
                "clock. Say mg.sample(rng.random, shape) for rng.random(shape), with a generator that was made outside "
                "of it, or give it the numbers as an argument."
            )
        programs[:] = [*programs[-MANY:], program]
        while len(self.programs) > MOST:
            self.programs.pop(next(iter(self.programs)))
        return program

    @property
    def source(self) -> str:
        """The program that was made last."""
        return self.newest().source

    def newest(self) -> Specialization:
        """The program that was made last; a RuntimeError before the first call."""
        programs = [program for group in self.programs.values() for program in group]
        if not programs:
            raise RuntimeError("there is no program yet: it is made at the first call, for the shapes that it sees")
        return programs[-1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program that was made last as a module `path`, which runs on NumPy alone; the weights go beside it.

        With `net.py` comes `net.npz`. `python net.py input.npy` prints the answer, `net.predict(x)` returns it, several
        as a tuple; the shapes and dtypes are those of the call that was traced. Raises ValueError for a program that
        draws random numbers, that returns constants, or that calls functions which cannot be written down. Where a
        gradient is nan, a saved program warns that minigrad may know better.
        """
        program = self.newest()
        if len(program.tracked) > 1:
            raise ValueError(
                "the program joins several answers, to walk back through them: call it in mg.no_grad() first"
            )
        if any(x is not None for x in program.leaves):
            raise ValueError("the program returns constants, too, which a saved one would not: return what it computes")
        if program.values.draws:
            raise ValueError("a program that draws random numbers is not saved: put random layers in evaluation mode")
        export.save(path, program)


LASTING = (type, np.ufunc, np.dtype, slice, range, enum.Enum)  # what may be returned as it is
MANY, MOST, MOST_IDLE = 16, 256, 8  # programs of one function: worth a warning, and at most; workspaces that are kept
ARRAYS = (np.ndarray, np.generic, Tensor)
SIMPLE = {np.ndarray, Tensor}


def positional(leaves: Sequence[Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    return leaves, {}


def structure_of(rebuild: Function, count: int) -> str:
    return repr(rebuild(["*"] * count))


def signature(x: Any) -> Any:
    """What a program depends on in a leaf of the arguments."""
    if type(x) is np.ndarray:
        return x.shape, x.dtype
    if type(x) is Tensor:
        return x.shape, x.dtype, x.requires_grad
    if isinstance(x, ARRAYS):
        return x.shape, x.dtype
    if isinstance(x, (*CONSTANTS, slice, range)):
        return type(x), repr(x)  # which tells 0.0 from -0.0
    return Same(x)


class Same:
    """A thing that is equal to itself alone, kept so that no other gets its id."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


def compile(f: Function, *, threads: int | None = None) -> Compiled:
    """`f` as a NumPy program, forward and backward, that is traced once for each signature and replayed.

    A signature is the shapes and dtypes of arrays, which Tensors require a gradient, and the values of all other
    arguments. Values and gradients are those of `f`, up to rounding where calls were simplified; one walk back gives
    the gradients of all answers, zeros where they do not depend on a tensor.

    Parameters, and all arrays that `f` finds outside of itself, are read afresh at each call. The rest of what its code
    names (variables, attributes, items of lists and dicts, modes of layers, arrays for plain NumPy) is compared, and
    traced anew once it has changed; what installed packages keep to themselves is not, nor context variables and the
    environment. TraceError is raised where `f` looks at numbers, as in `if t > 0`, and where it does what a program
    would not do again: change what it finds or is given, use up an iterator, or draw random numbers by another way than
    `minigrad.sample`. While it is traced, arrays arrive as Tensors.

    Long chains of functions of elements, on arrays that do not fit the cache, run block by block, on so many `threads`
    (all of the machine, unless given) when that pays. `.source` is the program, `.save(path)` writes it as a module;
    all else, such as `.parameters()`, is that of `f`.

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
    return f if isinstance(f, Compiled) else Compiled(f, threads or os.cpu_count() or 1)
