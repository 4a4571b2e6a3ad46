"""Compile: a function of Tensors as the straight-line NumPy program that an expert would have written by hand.

    trace       run the function once, and its backward pass with it; everything is recorded (`minigrad.trace`)
    graph       the calls, sorted as they were made: constants folded, common calls shared, identities applied, and
                nothing in it that nothing depends on (`minigrad.graph`)
    source      the plan of the buffers, and the program as Python source, a call a line (`minigrad.source`)
    Program     the source at work, for one signature: shapes, dtypes, modes
    Compiled    what the user holds: it looks up the program for the arguments, or traces anew

A compiled call is one call in the graph of whoever uses it. Its program knows the way back; for higher derivatives, and
where a nan may have come from a branch that was not chosen, the function itself is run again (`tensor.replayed`).
"""

from __future__ import annotations

import builtins
import functools
import inspect
import operator
import os
import warnings
from collections.abc import Mapping, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from minigrad import export
from minigrad.graph import Graph
from minigrad.nn.module import walk
from minigrad.source import Parts, source_of
from minigrad.tensor import (
    Array,
    Function,
    Tensor,
    backpropagate,
    call,
    history,
    is_recording,
    observed,
    recording,
    replayed,
    watcher,
)
from minigrad.trace import Trace, current, drawing_again, numbers
from minigrad.transforms import _flatten

# ----------------------------------------------------------------------------------------------------- the program


class Program:
    """A function at work for one signature of its arguments `flat`, of which those at `positions` are inputs."""

    def __init__(
        self,
        f: Function,
        flat: Sequence[Any],
        rebuild: Function,
        positions: list[int],
        names: list[str],
        unit: bool,
        threads: int,
    ) -> None:
        self.positions, self.unit = positions, unit
        self.outgrown = False  # it has met a gradient of its answer that is not 1, which it takes for granted
        self.tensors = [i for i in positions if isinstance(flat[i], Tensor)]
        trace, filled = Trace(), list(flat)
        for i in positions:
            tracked = isinstance(flat[i], Tensor) and flat[i]._requires_grad
            filled[i] = trace.variable(numbers(flat[i]), tracked, not isinstance(flat[i], Tensor))
        variables = [filled[i] for i in positions]
        args, kwargs = rebuild(filled)
        with observed(trace), np.errstate(all="ignore"):
            answers, self.rebuild = _flatten(f(*args, **kwargs))
        self.answers = [None if isinstance(x, Tensor) else x for x in answers]  # those that are not computed
        self.places = [k for k, x in enumerate(answers) if isinstance(x, Tensor)]
        outputs = [x for x in answers if isinstance(x, Tensor)]
        self.kinds = [x not in trace.arrays for x in outputs]
        self.chooses = trace.chose
        self.doubtful = trace.walked and trace.chose  # whether a nan in an answer may be one that was not chosen
        targets = [_tracked_leaves(trace, output) for output in outputs]
        seeds, gradients = self.walk(trace, outputs, targets)
        trace.restore()

        graph = Graph(trace)
        results = graph.add([*variables, *seeds, *outputs, *trace.draws, *gradients])
        self.closed = [tensor for tensor in graph.inputs if tensor not in {*variables, *seeds}]
        self.flags, self.modes = [tensor._requires_grad for tensor in self.closed], trace.modes
        inputs = [graph.values[tensor] for tensor in (*variables, *self.closed)]
        results = results[len(variables) + len(seeds) :]
        n, m = len(outputs), len(outputs) + len(trace.draws)
        forward = graph.needed(results[:m])
        before = set(forward)
        backward = [value for value in graph.needed(results[m:]) if value not in before]
        given = [graph.values[seed] for seed in seeds]
        outside = _closed_over(f) or {"model": lambda: f}
        self.variables = [(look, look()) for look in outside.values()]
        parts = walk({name: value for name, (_, value) in zip(outside, self.variables, strict=True)})
        known = {part: name for name, part in parts if isinstance(part, Tensor)}
        words = [*names, *(known.get(tensor, "p") for tensor in self.closed)]
        for value, word in zip([*inputs, *given], [*words, "g"], strict=False):
            value.name = word
        self.parts = Parts(inputs, forward, results[:n], results[n:m], given, backward, results[m:])
        title = f"{getattr(f, '__name__', 'program')}({', '.join(words[: len(names)])})"
        self.source, self.given = source_of(title, self.parts, threads)
        namespace = dict(self.given)
        exec(builtins.compile(self.source, f"<{title}>", "exec"), namespace)
        self.workspace, self.forward = namespace["workspace"], namespace["forward"]
        self.backward: Any = namespace.get("backward")  # or None, where nothing is tracked
        self.pool: list[Any] = []
        places = {tensor: i for i, tensor in enumerate([*(filled[i] for i in self.tensors), *self.closed])}
        self.targets = [[places[target] for target in some] for some in targets]

    def walk(
        self, trace: Trace, outputs: list[Tensor], targets: list[list[Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The way back, where one output is tracked: its gradient, when that is an input, and those of its targets."""
        tracked = [k for k, some in enumerate(targets) if some]
        if len(tracked) != 1:
            return [], []
        root, leaves = outputs[tracked[0]], targets[tracked[0]]
        self.unit = self.unit and root.shape == ()
        one = np.ones(root.shape, root.dtype)
        with observed(trace), recording(True), np.errstate(all="ignore"):
            g = Tensor(one) if self.unit else trace.variable(one, False, True)
            answers = backpropagate(root, g, frozenset(leaves), record=True)
        gradients = [answers[leaf] for leaf in leaves]
        return [] if self.unit else [g], [x if isinstance(x, Tensor) else Tensor(x) for x in gradients]

    def fits(self) -> bool:
        """Whether it is right as things are: what the function closes over, which parameters are frozen, and modes."""
        return (
            not self.outgrown
            and self.flags == [tensor._requires_grad for tensor in self.closed]
            and all(module._training == mode for module, mode in self.modes)
            and all(look() is value for look, value in self.variables)
        )

    def __call__(self, f: Function, flat: Sequence[Any], rebuild: Function) -> Any:
        given = [flat[i] for i in self.positions]
        try:
            buffers = self.pool.pop()
        except IndexError:
            buffers = self.workspace()
        arrays = [x._data if isinstance(x, Tensor) else x for x in given]
        outputs, draws, saved = self.forward(buffers, *arrays, *[tensor._data for tensor in self.closed])
        run = Run(self, f, flat, rebuild, draws, buffers, saved)
        if self.doubtful and any(np.isnan(output).any() for output in outputs):
            return run.eager()  # with masks, where a branch was not chosen
        answers = list(self.answers)
        for k, output, targets, kind in zip(self.places, outputs, self.targets, self.kinds, strict=True):
            if targets:
                tensors = [*(flat[i] for i in self.tensors), *self.closed]
                again, pull = functools.partial(run.again, k, targets), run.pull if self.backward else None
                way_back = {"run": again, "answer": output, "pull": pull, "chooses": self.chooses}
                answers[k] = call(replayed, [tensors[i] for i in targets], way_back)
            else:
                answers[k] = Tensor(output) if kind else output
        return self.rebuild(answers)


class Run:
    """One run of a program: the way back through it, once, and what is needed to run the function itself."""

    __slots__ = ("buffers", "draws", "f", "flat", "program", "rebuild", "saved")

    def __init__(self, program: Program, *rest: Any) -> None:
        self.program = program
        self.f, self.flat, self.rebuild, self.draws, self.buffers, self.saved = rest

    def eager(self, tensors: Mapping[int, Tensor] | None = None) -> Any:
        """What the function itself gives, with the same random numbers; with other tensors in some places."""
        flat = list(self.flat)
        for k, i in enumerate(self.program.tensors):
            flat[i] = (tensors or {}).get(k, flat[i])
        args, kwargs = self.rebuild(flat)
        with drawing_again(self.draws):
            return self.f(*args, **kwargs)

    def again(self, k: int, places: Sequence[int], *tensors: Tensor) -> Any:
        """The answer number `k` of the function itself, of these tensors."""
        return np.positive(_flatten(self.eager(dict(zip(places, tensors, strict=True))))[0][k])

    def pull(self, g: Array) -> list[Any] | None:
        """The gradients of the tensors of the call, or None where the program does not know them.

        It writes over what the forward pass has left, so it works once.
        """
        program = self.program
        if program.unit and g.item() != 1:
            program.outgrown = True
            return None
        if self.saved is None:
            return None
        saved, self.saved = self.saved, None
        gradients: list[Any] = program.backward(self.buffers, saved, *(() if program.unit else (g,)))
        program.pool.append(self.buffers)
        return gradients

    def __del__(self) -> None:
        if self.saved is not None:
            self.program.pool.append(self.buffers)


def _tracked_leaves(trace: Trace, output: Tensor) -> list[Tensor]:
    """The inputs and parameters that an output has a gradient for."""
    nodes = history(output) if output._requires_grad else []
    return [node for node in nodes if node.function is None and trace.traced(node)]


def _argument_names(f: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[int, str]:
    """The names of all arguments, by the id of what was given: `x`, or `batch.images` of a dict."""
    try:
        given = inspect.signature(getattr(f, "forward", f)).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # NumPy's functions do not all tell
        given = {f"x{i}": x for i, x in enumerate(args)} | kwargs
    return {id(item): name for name, item in walk(given)}


def _closed_over(f: Function) -> dict[str, Function]:
    """The variables that a function, or one that it closes over, finds outside of itself: how to look at each."""
    variables: dict[str, Function] = {}
    stack, seen = [inspect.unwrap(f)], set()
    while stack:
        function = stack.pop()
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)
        code, scope = function.__code__, function.__globals__
        found = {name: functools.partial(scope.get, name) for name in code.co_names if name in scope}
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            found[name] = functools.partial(getattr, cell, "cell_contents", None)
        for name, look in found.items():
            variables.setdefault(name, look)
            stack.append(look())
    return {name: look for name, look in variables.items() if not isinstance(look(), (FunctionType, ModuleType, type))}


# --------------------------------------------------------------------------------------------------- what users hold


class Compiled:
    """A function that runs as a NumPy program; see `compile`."""

    def __init__(self, f: Function, threads: int) -> None:
        functools.update_wrapper(self, f)
        self.threads = threads
        self.f, self.name = f, getattr(f, "__name__", "program")
        self.programs: dict[Any, list[Program]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current() or watcher():  # part of a larger program, or under examination
            return self.f(*args, **kwargs)
        if kwargs or not all(type(x) in _ARRAYS for x in args):
            flat, rebuild = _flatten((args, kwargs))
            structure: Any = _structure((args, kwargs))
        else:
            flat, rebuild, structure = list(args), _positional, None
        key = (structure, is_recording(), *map(_signature, flat))
        programs = self.programs.get(key)
        if programs is None:
            programs = self.programs[key] = []
        for program in programs:
            if program.fits():
                break
        else:
            program = self.traced(programs, flat, rebuild)
        return program(self.f, flat, rebuild)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else MethodType(self, owner)

    def traced(self, programs: list[Program], flat: Sequence[Any], rebuild: Function) -> Program:
        unit = not any(program.outgrown for program in programs)
        count = sum(map(len, self.programs.values()))
        if count == MANY:
            warnings.warn(
                f"{self.name} was traced {count} times, for so many shapes, dtypes, modes and values of arguments "
                "that are no arrays: each costs milliseconds. Give numbers as arrays, and batches of one size.",
                stacklevel=3,
            )
        positions = [i for i, x in enumerate(flat) if isinstance(x, (np.ndarray, np.generic, Tensor))]
        names = _argument_names(self.f, *rebuild(flat))
        program = Program(
            self.f, flat, rebuild, positions, [names.get(id(flat[i]), "x") for i in positions], unit, self.threads
        )
        programs[:] = [old for old in programs if not old.outgrown] + [program]
        return program

    @property
    def source(self) -> str:
        """The program that was made last."""
        return self.newest().source

    def newest(self) -> Program:
        """The program that was made last; a RuntimeError before the first call."""
        programs = [program for group in self.programs.values() for program in group]
        if not programs:
            raise RuntimeError("there is no program yet: it is made at the first call, for the shapes that it sees")
        return programs[-1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program that was made last as a module `path`, which runs on NumPy alone; the weights go beside it.

        With `net.py` comes `net.npz`. `python net.py input.npy` prints the answer, `net.predict(x)` returns it; the
        shapes and dtypes are those of the call that was traced. Raises ValueError for a program that draws random
        numbers, or that calls functions which cannot be written down.
        """
        program = self.newest()
        inputs, parameters = (
            program.parts.inputs[: len(program.positions)],
            program.parts.inputs[len(program.positions) :],
        )
        export.save(
            path,
            program.source,
            program.given,
            [(value.name, value.shape, value.dtype) for value in inputs],
            {value.name: tensor._data for value, tensor in zip(parameters, program.closed, strict=True)},
        )


MANY = 16  # programs of one function that are worth a warning
_ARRAYS = {np.ndarray, Tensor}


def _positional(leaves: Sequence[Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    return leaves, {}


def _signature(x: Any) -> Any:
    """What a program depends on in a leaf of the arguments."""
    if type(x) is Tensor:
        return x._data.shape, x._data.dtype, x._requires_grad
    if isinstance(x, (np.ndarray, np.generic)):
        return x.shape, x.dtype
    if isinstance(x, (bool, int, float, str)):
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


def _structure(tree: Any) -> Any:
    flat, _ = _flatten(tree)
    return repr(_flatten(tree)[1](["*"] * len(flat)))


def compile(f: Function, *, threads: int | None = None) -> Compiled:
    """`f` as a NumPy program that is traced once for each signature, and replayed; the gradient too.

    The signature is the shapes and dtypes of arrays, which Tensors require a gradient, the values of all other
    arguments, the modes of modules, and what `f` closes over. Parameters, and other Tensors and arrays that meet a
    Tensor, are read afresh at each call; plain Python, and NumPy on plain arrays alone, runs once, while tracing.
    Values and gradients are those of `f`; up to rounding, where calls were simplified. Raises TraceError where `f`
    looks at numbers, as in `if t > 0`. Long chains of functions of elements, on arrays that do not fit the cache, run
    block by block, on so many `threads` (all of the machine, unless given) when that pays. `.source` is the program,
    `.save(path)` writes it as a module.

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
