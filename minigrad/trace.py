"""Recording a function as a program: every call of it, tracked or not, and nothing that holds for one run only.

While a function is traced its numbers are real, but they may not be looked at: whatever depended on them would be
frozen into the program. So `if t > 0`, `float(t)` and `t.data` raise, and comparisons and index functions are calls
like the others. Shapes and dtypes may be looked at.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import getitem
from typing import Any, NoReturn

import numpy as np

from minigrad.debug import users_line
from minigrad.tensor import (
    Function,
    Tensor,
    _observer,
    _watcher,
    as_tensor,
    choices,
    constants,
    explained,
    is_recording,
    mapped,
    name_of,
    observer,
    vjps,
)
from minigrad.trees import leaves

# What is known from shapes and dtypes alone, and so is a constant of the program.
SHAPES = {
    *(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.common_type, np.min_scalar_type),
    *(np.zeros_like, np.ones_like, np.empty_like, np.iscomplexobj, np.isrealobj),
    *(np.diag_indices_from, np.tril_indices_from, np.triu_indices_from, np.einsum_path),
    *(np.shares_memory, np.may_share_memory),
}
LOOKS = {np.nonzero, np.flatnonzero, np.argwhere, np.array_repr, np.array_str, np.array2string}

_draws: ContextVar[Iterator[Any] | None] = ContextVar("draws", default=None)


class TraceError(TypeError):
    """A function that is compiled looked at numbers, so that the program would be right for these alone."""


class Trace:
    """The observer of one run of a function, whose calls hang together by `(function, args, kwargs)` as ever.

    The arrays that it meets stand as Tensors in the calls, so that they are read afresh in every run of the program,
    on the way back too. Those of them that are looked at are `frozen`: the program is for their numbers alone.
    """

    def __init__(self, known: Iterable[Any] = (), generators: Iterable[tuple[str, Any]] = ()) -> None:
        self.begin = Tensor(0.0)._time
        self.known = {id(owner_of(array)) for array in known}  # arrays that the function finds outside of itself
        self.mixed = False  # whether it meets arrays or numbers of NumPy that were made of others, maybe of these
        self.arrays: set[Tensor] = set()  # Tensors that stand for plain arrays
        self.given: dict[int, Tensor] = {}  # those of them that are no arguments, by the id of the array
        self.numbers: dict[int, Any] = {}  # what they were
        self.frozen: dict[Tensor, None] = {}
        self.walking = self.chose = False  # whether rules are at work, and whether there were choices
        self.wrong: list[Tensor] = []  # whether there is a nan in a gradient that it computes
        self.draws: list[Tensor] = []
        modules = [(name, sys.modules[name]) for name in ("random", "numpy.random") if name in sys.modules]
        self.generators = {generator: name for name, generator in [*modules, *generators]}
        self.before = {generator: state_of(generator) for generator in self.generators}
        self.after: dict[Any, Any] = {}  # the states of those that were drawn from by `draw`

    def variable(self, array: Any, requires_grad: bool, is_array: bool) -> Tensor:
        """A Tensor that stands for an input."""
        tensor = Tensor(array)
        tensor._requires_grad, tensor._time = requires_grad, self.begin
        if is_array:
            self.arrays.add(tensor)
        return tensor

    def standing(self, x: Any) -> Any:
        """The Tensor that stands for an array; what only the rules know is a constant."""
        if isinstance(x, np.ndarray):
            if id(x) not in self.given:
                self.given[id(x)] = Tensor(x) if self.walking else self.variable(x, False, True)
                self.numbers[id(x)] = copy_of(x)
                self.mixed = self.mixed or (not self.walking and id(owner_of(x)) not in self.known)
            return self.given[id(x)]
        self.mixed = self.mixed or (not self.walking and isinstance(x, np.generic))
        return x

    def walk(self, function: Function, *args: Any, **kwargs: Any) -> dict[Tensor, Any]:
        """Walk back through what was recorded, which is recorded, too."""
        outside, self.walking = self.walking, True
        try:
            answers: dict[Tensor, Any] = function(*args, **kwargs)
            self.wrong += [
                self.call(np.any, (self.call(np.isnan, (g,), {}),), {}) for g in map(as_tensor, answers.values())
            ]
        finally:
            self.walking = outside
        return answers

    def met(self) -> list[Any]:
        """The arrays that are read afresh."""
        return [tensor._data for tensor in self.given.values() if tensor in self.arrays]

    def traced(self, tensor: Tensor) -> bool:
        """Whether its numbers may differ from run to run: those of inputs, parameters, and what is made of them do."""
        return tensor.function is not None or tensor._time <= self.begin

    def is_input(self, tensor: Tensor) -> bool:
        """Whether it was there before, and so is read afresh in every run."""
        return tensor._time <= self.begin

    def belongs(self, thing: Any) -> bool:
        """Whether a thing is a Tensor that has to do with this run alone."""
        return isinstance(thing, Tensor) and thing._time >= self.begin and self.traced(thing)

    def call(self, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run a function of the tables, and record it when it has to do with what is traced."""
        if function in SHAPES:
            return function(*numbers(args), **numbers(kwargs))
        args, kwargs = mapped(self.standing, tuple(args)), mapped(self.standing, kwargs)
        values, options = numbers(args), numbers(kwargs)
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        of_inputs = list(filter(self.traced, tensors))
        masks = [tensor for tensor in tensors[1:] if tensor.dtype == bool] if function is getitem else []
        for tensor in tensors if function in LOOKS else masks:
            self.read(tensor, f"calls {name_of(function)}, which returns as many numbers as it finds")
        if function in LOOKS:
            return function(*values, **options)
        try:
            answer = function(*values, **options) if function is not draw else self.drawn(*values, **options)
        except (TypeError, ValueError, IndexError) as error:
            raise explained(error, function, args) from error
        result = Tensor(answer)
        tracked = function in vjps and is_recording() and any(tensor._requires_grad for tensor in tensors)
        if function is draw:
            self.draws.append(result)
        self.chose = self.chose or function in choices or "where" in kwargs
        if of_inputs or tracked or function is draw:
            result._requires_grad = tracked and result.dtype.kind == "f"
            result.function, result.args, result.kwargs, result._arrays = function, args, kwargs, values
            if function in constants or self.arrays.issuperset(of_inputs):
                self.arrays.add(result)
        return result

    def detached(self, tensor: Tensor) -> Tensor:
        """The same numbers without their history: a call like any other, but for the gradient."""
        answer: Tensor = self.call(np.positive, (tensor,), {}) if tensor.dtype != bool else tensor
        answer._requires_grad = False
        return answer

    def read(self, tensor: Tensor, how: str = "") -> None:
        """Somebody wants to look at numbers, which only arrays that are no arguments allow."""
        if not self.traced(tensor):
            return
        found, stack = {tensor}, [tensor]
        while stack:
            node = stack.pop()
            if self.is_input(node):
                if self.given.get(id(node._data)) is not node:
                    self.refuse(how or f"looks at the numbers of a {tensor.dtype}{list(tensor.shape)} tensor")
                self.frozen[node] = None
            if node.function is draw:
                self.refuse(how or "looks at random numbers")
            for leaf in () if self.is_input(node) else leaves((node.args, node.kwargs)):
                if isinstance(leaf, Tensor) and leaf not in found:
                    found.add(leaf)
                    stack.append(leaf)

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
        if undisturbed:  # else it is found out in the end
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
            array = self.given[key]._data
            if not same_numbers(array, numbers):
                raise TraceError(
                    f"the function writes to a {array.dtype}{list(array.shape)} array after it was used with a Tensor, "
                    "and a program reads it once: make a new array instead."
                )
        for generator, before in self.before.items():
            if not same(found[generator], self.after.get(generator, before)):
                raise TraceError(
                    f"the function draws from {self.generators.get(generator, 'a generator')!r}, which a program would "
                    "not do again: say mg.draw(rng.random, shape) for rng.random(shape), or give it the random numbers "
                    "as an argument."
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


def current() -> Trace | None:
    """The trace that is under way in this thread and async task."""
    watching = observer()
    return watching if isinstance(watching, Trace) else None


def apart() -> bool:
    """Whether calls are traced or debugged here, or done again with the same draws, so that programs must not run."""
    return (_observer.get() or _watcher.get()) is not None or _draws.get() is not None


def draw(function: Function, *args: Any, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)` for what differs each time, such as `rng.random`: a program calls it anew, too.

    A layer that says `draw(self.rng.random, x.shape)` for `self.rng.random(x.shape)` can be compiled. When a compiled
    function is run again, for higher derivatives, it is given the same numbers.

    >>> draw(np.random.default_rng(0).integers, 10, size=3)
    array([8, 6, 5])
    """
    if trace := current():
        return trace.call(draw, (function, *args), kwargs)
    again = _draws.get()
    return function(*args, **kwargs) if again is None else next(again)


@contextmanager
def drawing_again(draws: Iterable[Any]) -> Iterator[None]:
    """Let `draw` return these, one after the other."""
    token = _draws.set(iter(draws))
    try:
        yield
    finally:
        _draws.reset(token)


def numbers(value: Any) -> Any:
    """The same structure of arguments with arrays for Tensors."""
    return mapped(lambda x: x._data if isinstance(x, Tensor) else x, value)
