"""Recording a function as a program: every call of it, tracked or not, and nothing that holds for one run only.

While a function is traced its numbers are real, but they may not be looked at: whatever depended on them would be
frozen into the program. So `if t > 0`, `float(t)` and `t.data` raise, and comparisons and index functions are calls
like the others. Shapes and dtypes may be looked at.
"""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Iterable, Sequence
from operator import getitem
from typing import Any, NoReturn

import numpy as np

from minigrad.engine import (  # isort: skip
    Choice, Function, Mode, Tensor, answered, array_of, arrays_in, as_tensor, call_other, composites, constants,
    explained, history, is_recording, mapped, name_of, outside, set_data, set_grad, shortcuts, time_of,
    unrecorded, users_line, vjps, walk,
)  # fmt: skip
from minigrad.sample import sampled
from minigrad.transforms import argument
from minigrad.trees import leaves

# What is known from shapes and dtypes alone, and so is a constant of the program.
SHAPES = {
    *(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.common_type, np.min_scalar_type),
    *(np.zeros_like, np.ones_like, np.empty_like, np.iscomplexobj, np.isrealobj),
    *(np.diag_indices_from, np.tril_indices_from, np.triu_indices_from, np.einsum_path),
    *(np.shares_memory, np.may_share_memory),
}
LOOKS = {np.nonzero, np.flatnonzero, np.argwhere, np.array_repr, np.array_str, np.array2string}


class TraceError(TypeError):
    """A function that is compiled looked at numbers, so that the program would be right for these alone."""


class Trace(Mode):
    """The mode in which a function is run once: all its calls are recorded in the graph, also those not tracked.

    Tensors stand for the arrays that the function uses, so that the program reads them anew in every run, in its
    backward pass, too. An array whose numbers are looked at is `frozen`: the program is right for these numbers alone.
    """

    def __init__(self, known: Iterable[Any] = (), generators: Iterable[tuple[str, Any]] = ()) -> None:
        self.begin = time_of(Tensor(0.0))
        self.inputs: set[Tensor] = set()  # Tensors that stand for what was there before
        self.known = {id(owner_of(array)) for array in known}  # the arrays that the function finds outside of itself
        # Whether it meets arrays or numbers that plain NumPy has made, maybe of arrays in `known`.
        self.saw_derived_arrays = False
        self.arrays: set[Tensor] = set()  # Tensors that stand for plain arrays
        self.given: dict[int, Tensor] = {}  # those of them that are no arguments, by the id of the array
        self.numbers: dict[int, Any] = {}  # copies of these arrays, to see whether they are written to
        self.frozen: dict[Tensor, None] = {}  # those whose numbers were looked at
        self.walking = False  # whether rules run, in a walk back
        self.chose = False  # whether there were choices: calls that leave numbers out, such as np.where
        self.wrong: list[Tensor] = []  # for each gradient that it computes, whether there is a nan in it
        self.draws: list[Tensor] = []
        modules = [(name, sys.modules[name]) for name in ("random", "numpy.random") if name in sys.modules]
        self.generators = {generator: name for name, generator in [*modules, *generators]}
        self.before = {generator: state_of(generator) for generator in self.generators}
        self.after: dict[Any, Any] = {}  # the states of those that were drawn from by `sample`

    def variable(self, array: Any, requires_grad: bool, is_array: bool) -> Tensor:
        """A Tensor that stands for an input."""
        tensor = Tensor(array, requires_grad)
        self.inputs.add(tensor)
        if is_array:
            self.arrays.add(tensor)
        return tensor

    def standing(self, x: Any) -> Any:
        """The Tensor that stands for an array, which is an input of the program; one that a rule made is a constant."""
        if isinstance(x, np.ndarray):
            if id(x) not in self.given:
                self.given[id(x)] = Tensor(x) if self.walking else self.variable(x, False, True)
                self.numbers[id(x)] = copy_of(x)
                self.saw_derived_arrays |= not self.walking and id(owner_of(x)) not in self.known
            return self.given[id(x)]
        self.saw_derived_arrays |= not self.walking and isinstance(x, np.generic)
        return x

    def walk(self, go_on: Function, root: Any, gradient: Any, targets: Any, recorded: bool, free: bool) -> Any:
        """Walk back through what was recorded, which is recorded, too."""
        before, self.walking = self.walking, True
        try:
            answers = walk(history(root, targets), root, as_tensor(gradient), recorded=True)
            self.wrong += [
                self.record(np.any, (self.record(np.isnan, (g,), {}),), {}) for g in map(as_tensor, answers.values())
            ]
        finally:
            self.walking = before
        return answers

    def arrays_read(self) -> list[Any]:
        """The arrays that are read anew in every run of the program."""
        return [array_of(tensor) for tensor in self.given.values() if tensor in self.arrays]

    def traced(self, tensor: Tensor) -> bool:
        """Whether its numbers may differ from run to run: those of inputs, parameters, and what is made of them do."""
        return tensor.function is not None or self.is_input(tensor)

    def is_input(self, tensor: Tensor) -> bool:
        """Whether it was there before, and so is read afresh in every run."""
        return tensor in self.inputs or time_of(tensor) <= self.begin

    def belongs(self, thing: Any) -> bool:
        """Whether a thing is a Tensor that was made while the function was traced, of what may differ next time."""
        return isinstance(thing, Tensor) and time_of(thing) >= self.begin and self.traced(thing)

    def call(self, go_on: Function, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Record a call; of a composite, the calls that it is spelled with, or the one that is as good."""
        if go_on is call_other and function in composites:
            return shortcuts.get(function, composites[function])(*args, **kwargs)
        return self.record(function, args, kwargs)

    def record(self, function: Function, args: Sequence[Any], kwargs: dict[str, Any], tracks: bool = True) -> Any:
        """Run a function of the tables, and record it when it has to do with what is traced."""
        if function is unrecorded:  # a copy that passes no gradient on; booleans have none anyway
            return self.record(np.positive, args, {}, False) if args[0].dtype != bool else args[0]
        if function in SHAPES:
            return function(*arrays_in(args), **arrays_in(kwargs))
        args, kwargs = mapped(self.standing, tuple(args)), mapped(self.standing, kwargs)
        values, options = arrays_in(args), arrays_in(kwargs)
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        of_inputs = list(filter(self.traced, tensors))
        masks = [tensor for tensor in tensors[1:] if tensor.dtype == bool] if function is getitem else []
        for tensor in tensors if function in LOOKS else masks:
            self.looked_at(tensor, f"calls {name_of(function)}, which returns as many numbers as it finds")
        if function in LOOKS:
            return function(*values, **options)
        body = self.drawn if function is sampled else function
        try:
            answer = outside(functools.partial(body, **options), *values)
        except (TypeError, ValueError, IndexError) as error:
            raise explained(error, function, args) from error
        tracked = function is argument or any(tensor.requires_grad for tensor in tensors)
        tracked = tracks and tracked and function in vjps and is_recording()
        self.chose = self.chose or isinstance(vjps.get(function), Choice) or "where" in kwargs
        if not (of_inputs or tracked or function is sampled):
            return Tensor(answer)
        array = np.asarray(answer)
        positions = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad] if tracked else []
        result = answered(function, args, kwargs, array, positions, values, tracked and array.dtype.kind == "f")
        if function is sampled:
            self.draws.append(result)
        if function in constants or self.arrays.issuperset(of_inputs):
            self.arrays.add(result)
        return result

    def look(self, go_on: Function, tensor: Tensor) -> Any:
        return self.looked_at(tensor)

    def looked_at(self, tensor: Tensor, how: str = "") -> Any:
        """The numbers of a tensor: only those that are the same in every run, and those of arrays, may be looked at.

        The program is for these numbers of the arrays alone then, of which it is made sure in every run.
        """
        if not self.traced(tensor):
            return array_of(tensor)
        found, stack = {tensor}, [tensor]
        while stack:
            node = stack.pop()
            if self.is_input(node):
                if self.given.get(id(array_of(node))) is not node:
                    self.refuse(how or f"looks at the numbers of a {tensor.dtype}{list(tensor.shape)} tensor")
                self.frozen[node] = None
            if node.function is sampled:
                self.refuse(how or "looks at random numbers")
            for leaf in () if self.is_input(node) else leaves((node.args, node.kwargs)):
                if isinstance(leaf, Tensor) and leaf not in found:
                    found.add(leaf)
                    stack.append(leaf)
        return array_of(tensor)

    def read(self, go_on: Function, tensor: Tensor) -> Any:
        self.looked_at(tensor)
        return outside(go_on, tensor)

    def write(self, go_on: Function, leaf: Tensor, value: Any) -> None:
        what = f"of a {leaf.dtype}{list(leaf.shape)} tensor"
        if go_on is set_grad:
            self.refuse(f"changes the gradient {what}, as backward() does, which would be done once and never again")
        self.refuse(f"assigns to the data {what}" if go_on is set_data else f"changes the numbers {what} in place")

    def is_array(self, tensor: Tensor) -> bool:
        return tensor in self.arrays

    def refuse(self, what: str) -> NoReturn:
        """Raise an error that names the user's own line."""
        raise TraceError(
            f"{users_line()}, {what}, and a compiled function must be right for other numbers, too: choose between "
            "values with np.where(condition, a, b), and from a table with np.take(table, i), take numbers outside of "
            "it, or leave it uncompiled."
        )

    def drawn(self, function: Function, *args: Any, **kwargs: Any) -> Any:
        """What a method of a generator of random numbers draws."""
        generator = getattr(function, "__self__", None)
        if generator is None:
            return function(*args, **kwargs)
        now = state_of(generator)
        undisturbed = same(now, self.after.get(generator, self.before.setdefault(generator, now)))
        answer = function(*args, **kwargs)
        if undisturbed:  # otherwise somebody drew without `sample`, which `__exit__` reports
            self.after[generator] = state_of(generator)
        return answer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: object, traceback: object) -> None:
        """Put the generators back to where they were, as the first run of the program draws first; then complain."""
        found = {generator: state_of(generator) for generator in self.before}
        for generator, before in self.before.items():
            put_back(generator, before)
        if kind is not None:
            return
        for key, numbers in self.numbers.items():
            array = array_of(self.given[key])
            if not same_numbers(array, numbers):
                raise TraceError(
                    f"the function writes to a {array.dtype}{list(array.shape)} array after it was used with a Tensor, "
                    "and a program reads it once: make a new array instead."
                )
        for generator, before in self.before.items():
            if not same(found[generator], self.after.get(generator, before)):
                raise TraceError(
                    f"the function draws from {self.generators.get(generator, 'a generator')!r}, which a program would "
                    "not do again: say mg.sample(rng.random, shape) for rng.random(shape), or give it the random "
                    "numbers as an argument."
                )


def owner_of(array: Any) -> Any:
    """The array whose memory it is."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def copy_of(array: Any) -> Any:
    """A copy, to see later whether the array was written to; nobody can write to one that is read-only."""
    return array.copy() if array.flags.writeable or owner_of(array).flags.writeable else array


def same_numbers(a: Any, b: Any) -> bool:
    return a is b or np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def state_of(generator: Any) -> Any:
    """The state of a generator of random numbers, of NumPy's or Python's, or of a module that has one."""
    if hasattr(generator, "get_state"):
        return generator.get_state(legacy=False)
    return generator.getstate() if hasattr(generator, "getstate") else generator.bit_generator.state


def put_back(generator: Any, state: Any) -> None:
    if hasattr(generator, "set_state"):
        generator.set_state(state)
    elif hasattr(generator, "setstate"):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state


def same(state: Any, other: Any) -> bool:
    return pickle.dumps(state) == pickle.dumps(other)
