"""Recording a function as a program: every call of it, tracked or not, and nothing that holds for one run only.

While a function is traced its numbers are real, but they may not be looked at: whatever depended on them would be
frozen into the program. So `if t > 0`, `float(t)` and `t.data` raise, and comparisons and index functions are calls
like the others. Shapes and dtypes may be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import getitem
from typing import Any, NoReturn

import numpy as np

from minigrad.debug import users_line
from minigrad.tensor import Function, Tensor, choices, constants, explained, is_recording, name_of, observer, vjps

# What is known from shapes and dtypes alone, and so is a constant of the program.
SHAPES = {
    *(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.common_type, np.min_scalar_type),
    *(np.zeros_like, np.ones_like, np.empty_like, np.iscomplexobj, np.isrealobj),
    *(np.diag_indices_from, np.tril_indices_from, np.triu_indices_from, np.einsum_path),
    *(np.array_repr, np.array_str, np.array2string, np.shares_memory, np.may_share_memory),
}
LENGTHS = {np.nonzero, np.flatnonzero, np.argwhere}  # how many numbers they return depends on numbers

_draws: ContextVar[Iterator[Any] | None] = ContextVar("draws", default=None)


class TraceError(TypeError):
    """A function that is compiled looked at numbers, so that the program would be right for these alone."""


class Trace:
    """The observer of one run of a function, whose calls hang together by `(function, args, kwargs)` as ever."""

    def __init__(self) -> None:
        self.begin = Tensor(0.0)._time
        self.arrays: set[Tensor] = set()  # Tensors that stand for plain arrays
        self.modes: list[tuple[Any, bool]] = []  # modules whose mode was looked at, and what it was
        self.walked = self.chose = False  # whether it has gradients in it, and choices
        self.draws: list[Tensor] = []
        self.states: dict[Any, Any] = {}  # of the generators before they were drawn from

    def variable(self, array: Any, requires_grad: bool, is_array: bool) -> Tensor:
        """A Tensor that stands for an input."""
        tensor = Tensor(array)
        tensor._requires_grad, tensor._time = requires_grad, self.begin
        if is_array:
            self.arrays.add(tensor)
        return tensor

    def traced(self, tensor: Tensor) -> bool:
        """Whether its numbers may differ from run to run: those of inputs, parameters, and what is made of them do."""
        return tensor.function is not None or tensor._time <= self.begin

    def call(self, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run a function of the tables, and record it when it has to do with what is traced."""
        values, options = numbers(args), numbers(kwargs)
        if function in SHAPES:
            return function(*values, **options)
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        of_inputs = list(filter(self.traced, tensors))
        if function in LENGTHS or (function is getitem and any(t.dtype == bool for t in tensors[1:])):
            if of_inputs:
                self.refuse(f"calls {name_of(function)}, which returns as many numbers as it finds")
            return function(*values, **options)
        if function is draw and (bits := getattr(getattr(args[0], "__self__", None), "bit_generator", None)):
            self.states.setdefault(bits, bits.state)
        try:
            answer = function(*values, **options) if function is not draw else args[0](*values[1:], **options)
        except (TypeError, ValueError, IndexError) as error:
            raise explained(error, function, args) from error
        result = Tensor(answer)
        tracked = function in vjps and is_recording() and any(tensor._requires_grad for tensor in tensors)
        if function is draw:
            self.draws.append(result)
        self.chose = self.chose or function in choices or "where" in kwargs
        if of_inputs or tracked or function is draw:
            result._requires_grad = tracked and result.dtype.kind == "f"
            result.function, result.args, result.kwargs, result._arrays = function, tuple(args), kwargs, values
            if function in constants or self.arrays.issuperset(of_inputs):
                self.arrays.add(result)
        return result

    def detached(self, tensor: Tensor) -> Tensor:
        """The same numbers without their history: a call like any other, but for the gradient."""
        answer: Tensor = self.call(np.positive, (tensor,), {}) if tensor.dtype != bool else tensor
        answer._requires_grad = False
        return answer

    def read(self, tensor: Tensor) -> None:
        """Somebody wants to look at numbers."""
        if self.traced(tensor):
            self.refuse(f"looks at the numbers of a {tensor.dtype}{list(tensor.shape)} tensor")

    def refuse(self, what: str) -> NoReturn:
        """Raise an error that names the user's own line."""
        raise TraceError(
            f"{users_line()}, {what}, and a compiled function must be right for other numbers, too: choose between "
            "values with np.where(condition, a, b), take numbers outside of it, or leave it uncompiled."
        )

    def restore(self) -> None:
        """Put the random generators back to where they were: the first run of the program draws first."""
        for bits, state in self.states.items():
            bits.state = state

    def looked_at(self, module: Any, mode: bool) -> None:
        """A module's mode was looked at, so that the program is for this mode alone."""
        self.modes.append((module, mode))


def current() -> Trace | None:
    """The trace that is under way in this thread and async task."""
    watching = observer()
    return watching if isinstance(watching, Trace) else None


def draw(function: Function, *args: Any, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)` for what differs each time, such as `rng.random`: a program calls it anew, too."""
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
    if isinstance(value, Tensor):
        return value._data
    if isinstance(value, (list, tuple)):
        return type(value)(map(numbers, value))
    return {key: numbers(item) for key, item in value.items()} if isinstance(value, dict) else value


def leaves(value: Any) -> Iterator[Any]:
    """What nested lists, tuples and dicts hold."""
    if isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value
