"""How a call is made: NumPy hands it over, the tables say what it may be, and the answer remembers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.engine import messages

from minigrad.engine.node import (  # isort: skip
    NO_KWARGS, Array, Function, Node, arrays_in, composites, constants, now, refusals, vjps,
)  # fmt: skip
from minigrad.engine.switch import any_mode, ever_switched, is_recording, mode

if TYPE_CHECKING:
    from minigrad.engine.tensor import Tensor

_new = object.__new__


def call(function: Function, args: Sequence[Any], kwargs: dict[str, Any] = NO_KWARGS) -> Tensor:
    """Run a function of the table `vjps` on `args`, with arrays for Tensors; the answer remembers the call."""
    if any_mode() is not None and (here := mode()):
        return here.call(call, function, args, kwargs)  # type: ignore[no-any-return]
    values, tracked, position = [], [], 0
    for argument in args:
        if isinstance(argument, Node):
            if argument._requires_grad:
                tracked.append(position)
            argument = argument._array
        values.append(argument)
        position += 1  # noqa: SIM113 - enumerate takes twice as long
    try:
        answer = function(*values, **kwargs) if kwargs else function(*values)  # an empty ** costs as much as a sum
    except (TypeError, ValueError, IndexError) as error:
        raise messages.explained(error, function, args) from error
    result: Any = _new(Node.kind)
    result._array = answer = answer if type(answer) is np.ndarray else np.asarray(answer)
    result._grad = None
    result._retains = False
    if tracked and answer.dtype.kind not in "biu" and (ever_switched() is None or is_recording()):
        if answer.dtype.kind != "f":
            raise messages.not_real(function, answer.dtype)
        result._requires_grad = True
        result.function, result.args = function, args
        result.kwargs, result._values = kwargs, values
        result.tracked = tracked
    else:
        result._requires_grad = False
        result.function, result.kwargs, result.tracked, result._values = None, NO_KWARGS, (), ()
        result.args = () if answer.base is None else owners(args, answer)
    result._time = now()
    return result  # type: ignore[no-any-return]


def answered(
    function: Function,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    answer: Array,
    tracked: Sequence[int],
    values: Sequence[Any],
    requires_grad: bool = True,
) -> Tensor:
    """A Tensor for an answer that is known already; it remembers the call as if `call` had made it."""
    result: Any = _new(Node.kind)
    result._array, result._grad, result._retains, result._requires_grad = answer, None, False, requires_grad
    result.function, result.args, result.kwargs = function, args, kwargs
    result.tracked, result._values = tracked, values
    result._time = now()
    return result  # type: ignore[no-any-return]


def owners(args: Sequence[Any], array: Array) -> tuple[Node, ...]:
    """The leaves that require a gradient and whose memory an array shares: should they change, so does it."""
    found: list[Node] = []
    stack = [argument for argument in args if isinstance(argument, Node)]
    while stack:
        node = stack.pop()
        if np.may_share_memory(node._array, array):
            if node._requires_grad and node.function is None:
                found.append(node)
            stack += [argument for argument in node.args or () if isinstance(argument, Node)]
    return tuple(found)


def call_other(function: Function, args: Sequence[Any], kwargs: dict[str, Any] = NO_KWARGS) -> Any:
    """Run a composite as it is spelled, or a constant on the arrays inside its arguments: an array comes out."""
    if any_mode() is not None and (here := mode()):
        return here.call(call_other, function, args, kwargs)
    if function in composites:
        return composites[function](*args, **kwargs)
    return function(*arrays_in(args), **arrays_in(kwargs))


def apply(function: Function, args: Sequence[Any], kwargs: dict[str, Any] = NO_KWARGS) -> Any:
    """Find a function in the tables and run it on arguments with Tensors among them, of which none is a keyword."""
    if function in composites:
        for argument in args:
            if isinstance(argument, Node) and argument._array.dtype.kind == "c":
                raise messages.complex_given(function)
        return call_other(function, args, kwargs)
    if function in vjps:
        return call(function, args, kwargs)
    if function in constants:
        return call_other(function, args, kwargs)
    if function in refusals:
        raise TypeError(f"{messages.name_of(function)} {refusals[function]}.")
    raise messages.unknown(function)


def numbers_of(x: Any) -> Any:
    """What NumPy takes `x` for, without the history of a Tensor: an array, unless a mode gives something else."""
    if not isinstance(x, Node):
        return np.asarray(x)
    return call_other(unrecorded, (x,)) if any_mode() else x._array


def unrecorded(x: Any) -> Any:
    """The same numbers."""
    return x


constants.add(unrecorded)
