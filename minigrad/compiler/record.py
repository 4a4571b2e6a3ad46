"""What a function asked of the engine in one run, and the graph of all that it computes.

A compiled function runs on stand-ins: Tensors that have a shape and a dtype, and no numbers. An `Event` is what it
asks for: an outermost call, a walk back, a read or a write of a leaf. A `Record` holds the events of a run, with the
stand-ins that were handed out for their results.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np

from minigrad.compiler.graph import Graph, Value

from minigrad.engine import (  # isort: skip
    NO_KWARGS, Function, Tensor, answered, array_of, grad_of, mapped, number_of, set_requires_grad, users_line,
)  # fmt: skip
from minigrad.sample import sampled
from minigrad.trees import leaves

# What is known from shapes and dtypes alone.
SHAPES = {
    *(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.common_type, np.min_scalar_type),
    *(np.zeros_like, np.ones_like, np.empty_like, np.iscomplexobj, np.isrealobj),
    *(np.diag_indices_from, np.tril_indices_from, np.triu_indices_from, np.einsum_path),
    *(np.shares_memory, np.may_share_memory),
}


class TraceError(TypeError):
    """A compiled function did what a program cannot do for it, such as to look at numbers yet to be computed."""


class Abstract:
    """The form of an array that has no numbers; of a stand-in, what it stands for."""

    base = None

    def __init__(self, shape: tuple[int, ...], dtype: Any, is_array: bool = False, leaf: Tensor | None = None) -> None:
        self.shape, self.dtype, self.ndim, self.size = shape, dtype, len(shape), math.prod(shape)
        self.is_array = is_array  # whether for a plain array, and not for a Tensor
        self.leaf = leaf  # that it stands for, once other numbers were written to it

    def __len__(self) -> int:
        return len(whole(self))

    def refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TraceError(
            f"{users_line()}: this {self.dtype}{list(self.shape)} tensor stood for others while a compiled function "
            "ran, and has no numbers now: return it from the function, or keep what it stands for by an assignment to "
            "the `.data` of a Tensor, as in self.mean.data = mean."
        )

    __array__ = __array_ufunc__ = __bool__ = __float__ = __int__ = __index__ = __getitem__ = __iter__ = refuse
    __contains__ = __copy__ = __deepcopy__ = __reduce__ = refuse
    # What code for arrays of any library asks first; numbers are handed on later, if at all.
    __array_namespace__, __dlpack_device__ = np.empty(0).__array_namespace__, np.empty(0).__dlpack_device__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self.refuse()

    def __array_function__(self, function: Function, types: Any, args: Any, kwargs: Any) -> Any:
        return of_shapes(function, args, kwargs) if function in SHAPES else self.refuse()


def whole(x: Any) -> Any:
    """An array of the same form."""
    x = array_of(x) if isinstance(x, Tensor) else x
    return np.broadcast_to(np.zeros((), x.dtype), x.shape) if isinstance(x, Abstract) else x


def of_shapes(function: Function, args: Any, kwargs: Any) -> Any:
    return function(*mapped(whole, args), **mapped(whole, kwargs))


def is_abstract(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and isinstance(array_of(tensor), Abstract)


def stand_in(like: Any, is_array: bool = True, leaf: Tensor | None = None, of: Any = (), tracked: Any = None) -> Tensor:
    """A Tensor without numbers: a leaf, or the answer of a call `of` (function, args, kwargs)."""
    form: Any = Abstract(like.shape, like.dtype, is_array, leaf)
    function, args, kwargs = cast(Any, of or (None, (), NO_KWARGS))
    return answered(function, args, kwargs, form, tracked or (), args, tracked is not None)


def same_numbers(a: Any, b: Any) -> bool:
    return a is b or (np.shape(a) == np.shape(b) and np.asarray(a).tobytes() == np.asarray(b).tobytes())


class Event(NamedTuple):
    """What was asked for: a call; or by a function of the engine, to walk back, or to read or write leaves."""

    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    asked: Function  # of a call: `call` or `call_other`
    recording: bool
    facts: tuple[tuple[Function, Tensor, Any], ...]  # what it depends on: numbers, or whether there was a gradient
    effects: Sequence[tuple[Function, Any, Any]]  # what is different afterwards, see `Record.state`
    counts: tuple[int, int, int]  # of calls in the graph, inputs and values, afterwards


class Origin(NamedTuple):
    """Where an input of the program comes from."""

    kind: str  # argument; tensor, and gradient or number of one; array, number, draw, which appear anew in each run
    of: Any = None  # the position of the argument, the tensor, or the call that draws


class Record:
    """The events of a run, of which each can be compared with that of a later run; see `Run`.

    It goes on from `count` events of the record `start`, or from nothing.
    """

    def __init__(self, start: Record | None = None, count: int = 0) -> None:
        self.events: list[Event] = start.events[:count] if start else []
        self.quick: list[Any] = start.quick[:count] if start else []  # the events as `Run.call` compares them
        self.arguments: list[Tensor] = start.arguments if start else []
        self.escaped: set[Tensor] = start.escaped if start else set()  # stand-ins that a function has kept
        made, met, known = self.events[-1].counts if self.events else (0, *[len(self.arguments)] * 2)
        self.graph: Graph = type(start.graph)(start.graph.order[:made]) if start else Graph()
        self.inputs: dict[Tensor, Origin] = dict(islice(start.inputs.items(), met)) if start else {}
        self.values: dict[Tensor, Value] = dict(islice(start.values.items(), known)) if start else {}
        # What is different by now: array_of, grad_of and number_of of leaves are Tensors or None; set_data has leaves
        # that get other memory, stand_in what stands for leaves in calls, history calls that were freed, isnan values
        # that are nan if a gradient is; quietly says that NumPy shall not warn.
        self.state: defaultdict[Function, dict[Any, Any]] = defaultdict(dict)
        self.note(effect for event in self.events for effect in event.effects)

    def note(self, effects: Iterable[tuple[Function, Any, Any]]) -> None:
        for what, of_which, value in effects:
            self.state[what].pop(of_which, None)  # so that what was written last comes last
            self.state[what][of_which] = value

    def add(self, event: Event) -> None:
        plain = not (event.facts or isinstance(event.result, (list, Exception)))
        quick = plain and event.function not in (sampled, set_requires_grad)
        quick = quick and not any(self.kind(x) in ("array", "number") for x in leaves([event.args, event.kwargs]))
        self.events.append(event)
        function, args, kwargs, result, _, recording, *_ = event
        self.quick.append((function if quick else None, args, len(args), kwargs, recording, result))

    def kind(self, x: Any) -> str:
        return self.inputs[x].kind if isinstance(x, Tensor) and x in self.inputs else ""

    def results(self) -> list[Tensor]:
        """All stand-ins that the function is given."""
        return list(dict.fromkeys(filter(is_abstract, leaves([event.result for event in self.events]))))

    def let_go(self, tensor: Tensor) -> None:
        """From now on, give the function a new stand-in in each run, since it has kept this one."""
        self.escaped.add(tensor)
        for i, event in enumerate(self.events):
            if any(x is tensor for x in leaves([event.result, event.args, event.kwargs])):
                self.quick[i] = (None, *self.quick[i][1:])

    def add_input(self, tensor: Tensor, source: Origin, like: Any = None) -> Tensor:
        self.inputs[tensor], self.values[tensor] = source, Value(tensor if like is None else like)
        return tensor

    def stands_for(self, array: Any, source: Origin, tracked: Any = None, is_array: bool = True) -> Tensor:
        """A new stand-in, an input, for an array or a number of Python's."""
        tensor = stand_in(np.asarray(array), is_array, tracked=tracked)
        return self.add_input(tensor, source, array if type(array) in (int, float) else None)

    def real(self, leaf: Tensor, flat: Sequence[Any], bound: dict[Tensor, Any]) -> Any:
        """What a leaf stands for in a call: its arguments have the leaves `flat`, `bound` is what else has appeared."""
        origin = self.inputs.get(leaf)
        return flat[origin.of] if origin and origin.kind == "argument" else bound.get(leaf, leaf)

    def numbers(self, tensor: Tensor, flat: Sequence[Any], bound: dict[Tensor, Any]) -> Any:
        """The array or number that an input is in a call."""
        origin = self.inputs.get(tensor)
        if origin and origin.kind in ("gradient", "number of"):
            return (grad_of if origin.kind == "gradient" else number_of)(self.real(origin.of, flat, bound))
        found = self.real(tensor, flat, bound)
        return array_of(found) if isinstance(found, Tensor) else found
