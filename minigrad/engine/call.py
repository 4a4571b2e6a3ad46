"""How a call is made: NumPy hands it over, the tables say what it may be, and the answer remembers it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.engine.messages import as_array, explained, known_here, name_of, said
from minigrad.engine.switch import any_mode, ever_switched, is_recording, mode

from minigrad.engine.node import (  # isort: skip
    NO_KWARGS, Args, Array, Function, Kwargs, Node, arrays_in, composites, constants, latecomers, now, refusals, vjps,
)  # fmt: skip

if TYPE_CHECKING:
    from minigrad.engine.tensor import Tensor

_new = object.__new__
NUMBERS = "biufc"  # the kinds of dtypes that a Tensor may have


def call(function: Function, args: Args, kwargs: Kwargs = NO_KWARGS) -> Tensor:
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
        raise explained(error, function, args) from error
    result: Any = _new(Node.kind)
    if type(answer) is not np.ndarray:
        answer = np.asarray(answer) if isinstance(answer, np.generic) else as_array(answer)
    result._array = answer
    result._grad, result._retains, result._time = None, False, now()
    if tracked and answer.dtype.kind not in "biu" and (ever_switched() is None or is_recording()):
        if answer.dtype.kind not in "fc":
            raise TypeError(said("no floats", function, dtype=answer.dtype))
        result.function, result.args, result.kwargs = function, args, kwargs
        result._requires_grad, result.tracked, result._values = True, tracked, values
    else:
        if answer.dtype.kind not in NUMBERS:
            raise TypeError(said("no numbers", dtype=answer.dtype))
        result.function, result.kwargs = None, NO_KWARGS
        result.args = () if answer.base is None else owners(args, answer)
        result._requires_grad, result.tracked, result._values = False, (), ()
    return result  # type: ignore[no-any-return]


def answered(
    function: Any, args: Args, kwargs: Kwargs, answer: Any, tracked: Args, values: Args, requires_grad: bool = True
) -> Tensor:
    """A Tensor for an answer that is known already; it remembers the call as if `call` had made it."""
    result: Any = _new(Node.kind)
    result._array, result._grad, result._retains, result._time = answer, None, False, now()
    result.function, result.args, result.kwargs = function, args, kwargs
    result._requires_grad, result.tracked, result._values = requires_grad, tracked, values
    return result  # type: ignore[no-any-return]


def owners(args: Args, array: Array) -> tuple[Node, ...]:
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


def call_other(function: Function, args: Args, kwargs: Kwargs = NO_KWARGS) -> Any:
    """Run a composite as it is spelled, or a constant on the arrays inside its arguments: an array comes out."""
    if any_mode() is not None and (here := mode()):
        return here.call(call_other, function, args, kwargs)
    if function in composites:
        return composites[function](*args, **kwargs)
    return function(*arrays_in(args), **arrays_in(kwargs))


def apply(function: Function, args: Args, kwargs: Kwargs = NO_KWARGS) -> Any:
    """Find a function in the tables and run it as NumPy's users call it, on arguments with Tensors among them."""
    if kwargs:
        args, kwargs = _checked(function, args, known_here(function, kwargs))
    if function in composites:
        return call_other(function, args, kwargs)
    if function in vjps:
        return call(function, args, kwargs)
    if function in constants:
        return call_other(function, args, kwargs)
    if function in refusals:
        raise TypeError(f"{name_of(function)} {refusals[function]}.")
    if any(add() for add in latecomers) and any(function in table for table in (composites, vjps, refusals)):
        return apply(function, args, kwargs)
    raise NotImplementedError(said("unknown", function))


def _checked(function: Function, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    """The arguments of a call in the form that rules expect, with Tensors by position alone."""
    if kwargs.get("out") is not None:
        raise TypeError(said("out", function))
    if isinstance(kwargs.get("where"), (Node, np.ma.MaskedArray)):
        kwargs = {**kwargs, "where": numbers_of(kwargs["where"])}
    if isinstance(kwargs.get("initial"), Node) and function in vjps:
        raise TypeError(said("initial", function))
    if isinstance(function, np.ufunc) and function not in constants and not function.signature:
        if others := [name for name in kwargs if name not in ("dtype", "out")]:
            raise TypeError(said("options", function, options=", ".join(others)))
        if (dtype := kwargs.get("dtype")) is not None:
            astype = np.ndarray.astype
            args = [call(astype, (a, dtype)) if isinstance(a, Node) else np.asarray(a, dtype) for a in args]
        return args, NO_KWARGS
    if hasattr(function, "__wrapped__") and any(isinstance(value, Node) for value in kwargs.values()):
        bound = inspect.signature(function).bind(*args, **kwargs)
        return bound.args, bound.kwargs
    return args, kwargs


def unrecorded(x: Any) -> Any:
    """The same numbers: a constant, so that modes are shown where a history ends."""
    return x


constants.add(unrecorded)


def numbers_of(x: Any) -> Any:
    """What NumPy takes `x` for, without the history of a Tensor: an array, unless a mode gives something else."""
    if not isinstance(x, Node):
        return as_array(x)
    return call_other(unrecorded, (x,)) if any_mode() else x._array
