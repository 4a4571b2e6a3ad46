"""What is on or off in a `with` block, for this thread and async task only: recording, and modes.

A value that a block gives to a context variable is in force while the lock of the block is held. `with` takes the lock
and releases it by code of C, which no interrupt can cut in two; and where an exception strikes between the end of a
block and its exit, the lock is gone, since nobody but the `with` statement has it. So no interrupt leaves a switch
behind, and blocks that end in another order than they began, as those of generators may, do no harm.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from _thread import allocate_lock
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, NamedTuple

import numpy as np


class Setting(NamedTuple):
    """What a block gives to a variable, and what is there without it."""

    value: Any
    lock: Callable[[], Any]  # a weak reference
    outer: Setting | None


def setting(variable: ContextVar[Setting | None]) -> Setting | None:
    """The setting of the innermost block that has begun and not ended, or None."""
    found = variable.get()
    while found is not None and ((lock := found.lock()) is None or not lock.locked()):
        if lock is None and found is variable.get():
            variable.set(found.outer)
        found = found.outer
    return found


class Lookup:
    """A method that a `with` statement looks up in a switch, which gets code of C, and an ExitStack in the class."""

    def __init__(self, by_with: Callable[[Any], Any], by_class: Callable[..., Any]) -> None:
        self.by_with, self.by_class = by_with, by_class

    def __get__(self, switch: Any, kind: type) -> Any:
        return self.by_class if switch is None else self.by_with(switch)


class Switch:
    """Gives a variable a value in a `with` block or a decorated function.

    It remembers nothing itself, so one switch serves many blocks: one after the other, nested, and in many threads.
    """

    def __init__(self, variable: ContextVar[Setting | None], value: Any) -> None:
        self.variable, self.value = variable, value

    def _begin(self) -> Any:
        setting(self.variable)  # forgets blocks that have ended
        lock = allocate_lock()
        self.variable.set(Setting(self.value, weakref.ref(lock), self.variable.get()))
        return lock.__enter__

    def _end(self) -> Any:  # `with` looks for it before it takes the lock
        found: Any = self.variable.get()
        while (lock := found.lock()) is None or lock.locked():
            found = found.outer
        return lock.__exit__

    def _begin_by_hand(self) -> None:
        lock = allocate_lock()
        lock.acquire()
        self.variable.set(Setting(self.value, lambda: lock, self.variable.get()))

    def _end_by_hand(self, *error: object) -> None:
        found: Any = setting(self.variable)
        found.lock().release()
        self.variable.set(found.outer)

    __enter__, __exit__ = Lookup(_begin, _begin_by_hand), Lookup(_end, _end_by_hand)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise TypeError(f"what is decorated is a function, not {function!r}: for a few lines, write a `with` block")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__name__} is a generator function: between two yields, what is switched for it would stay "
                "switched for its caller. Write a `with` block inside it that ends before the next yield."
            )

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                return await function(*args, **kwargs)

        return async_wrapper if inspect.iscoroutinefunction(function) else wrapper


def isolated(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function in a copy of the context: what it gives to variables is forgotten when it ends."""
    return copy_context().run(function, *args, **kwargs)


# ------------------------------------------------------------------------------------- recording, and NumPy's warnings

_recording: ContextVar[Setting | None] = ContextVar("recording", default=None)
ever_switched = _recording.get  # None where it surely was not, which is quick to ask
_held = allocate_lock()
_held.acquire()
_OFF = Setting(False, weakref.ref(_held), None)  # for the whole of an isolated call


def is_recording() -> bool:
    """Whether calls with tensors that require a gradient are recorded, in this thread and async task."""
    found = setting(_recording)
    return found is None or bool(found.value)


def recording(on: bool) -> Switch:
    return Switch(_recording, on)


def no_grad(function: Callable[..., Any] | None = None) -> Any:
    """Stop recording, in a `with` block or, as a decorator, in a function; for this thread and async task only.

    >>> from minigrad import Tensor
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> with no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    off = recording(False)
    return off if function is None else off(function)


def set_recording(on: bool) -> None:
    """Switch recording on or off for the rest of an isolated call."""
    _recording.set(None if on else _OFF)


_silent = Context()
_silent.run(np.seterr, all="ignore")
[(_warnings, _none)] = _silent.items()  # the variable that np.errstate sets, which takes ten times as long


def silence_warnings() -> None:
    """Let NumPy warn of no nan and inf for the rest of an isolated call."""
    _warnings.set(_none)


def quietly(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of arrays without warnings of nan and inf."""
    return isolated(_quiet, function, args)


def _quiet(function: Callable[..., Any], args: Any) -> Any:
    _warnings.set(_none)
    return function(*args)


_inside: ContextVar[Setting | None] = ContextVar("inside", default=None)


def is_inside() -> bool:
    """Whether a function runs here that a transform differentiates, so that the transforms in it give Tensors."""
    found = setting(_inside)
    return found is not None and bool(found.value)


def inside_of(transform: bool) -> Switch:
    return Switch(_inside, transform)


# ------------------------------------------------------------------------------------------------------------- modes


class Mode:
    """What stands between user code and the engine in the blocks of `on(mode)`. This one changes nothing.

    Each method is given `go_on`, the function of the engine that was asked for, and its arguments. `outside`
    does that with the modes around this one on, and this one off. All else that a method does comes to the mode again:
    of `composites[function](*args)`, it is shown the calls inside.
    """

    def call(self, go_on: Callable[..., Any], function: Any, args: Any, kwargs: Any) -> Any:
        """Make a call: `go_on` is `call`, or for composites and constants `call_other`."""
        return outside(go_on, function, args, kwargs)

    def walk(self, go_on: Callable[..., Any], *walk: Any) -> Any:
        """Walk back; see `branches.backpropagate`."""
        return outside(through, "walk", go_on, *walk)

    def look(self, go_on: Callable[..., Any], tensor: Any) -> Any:
        """The array of a tensor, for somebody who wants to see its numbers."""
        return outside(through, "look", go_on, tensor)

    def read(self, go_on: Callable[..., Any], tensor: Any) -> Any:
        """What stands in an attribute: `go_on` is `array_of` for `.data`, or `grad_of`."""
        return outside(through, "read", go_on, tensor)

    def write(self, go_on: Callable[..., Any], leaf: Any, value: Any) -> Any:
        """Give a leaf other numbers or another gradient: `go_on` is `set_data`, `set_numbers`, or `set_grad`."""
        return outside(through, "write", go_on, leaf, value)

    def is_array(self, tensor: Any) -> bool:
        """Whether a tensor stands for an array, so that transforms give arrays for it."""
        return False


_modes: ContextVar[Setting | None] = ContextVar("modes", default=None)
any_mode = _modes.get  # None where there is surely none, which is quick to ask


def mode() -> Mode | None:
    """The innermost mode of this thread and async task."""
    found = setting(_modes)
    return None if found is None else found.value


def on(mode: Mode) -> Switch:
    """Let a mode be on, inside of those that are."""
    return Switch(_modes, mode)


def through(method: str, go_on: Callable[..., Any], *args: Any) -> Any:
    """Let the innermost mode do it, where there is one."""
    here = mode()
    return go_on(*args) if here is None else getattr(here, method)(go_on, *args)


def outside(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function with the innermost mode off."""
    return isolated(_without, function, args)


def _without(function: Callable[..., Any], args: Any) -> Any:
    found = setting(_modes)
    _modes.set(found and found.outer)
    return function(*args)
