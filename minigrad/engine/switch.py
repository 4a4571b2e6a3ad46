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
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from minigrad.engine.messages import said


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
    """Gives a variable a value in a `with` block or a decorated function; for this thread and async task only.

    It remembers nothing itself, so one switch serves many blocks: one after the other, nested, and in many threads.
    `no_grad` is one, which stops recording:

    >>> from minigrad import Tensor
    >>> with no_grad():
    ...     (Tensor(1.0, requires_grad=True) * 2).requires_grad
    False
    """

    def __init__(self, variable: ContextVar[Setting | None], value: Any) -> None:
        self.variable, self.value = variable, value

    def _begin(self, reference: Callable[[Any], Any] = weakref.ref) -> Any:
        setting(self.variable)  # forgets blocks that have ended
        lock = allocate_lock()
        self.variable.set(Setting(self.value, reference(lock), self.variable.get()))
        return lock.__enter__

    def _end(self) -> Any:  # `with` looks for it before it takes the lock
        found: Any = self.variable.get()
        while (lock := found.lock()) is None or lock.locked():
            found = found.outer
        return lock.__exit__

    def _end_by_hand(self, *error: object) -> None:
        found: Any = setting(self.variable)
        if found is None or isinstance(found.lock, weakref.ref):
            raise RuntimeError("__exit__() ends what __enter__() began, and the innermost block is of another kind")
        found.lock().release()
        self.variable.set(found.outer)

    __enter__ = Lookup(_begin, lambda switch: switch._begin(lambda lock: lambda: lock)())
    __exit__ = Lookup(_end, _end_by_hand)

    def __call__(self, function: Callable[..., Any] | None = None) -> Any:
        if function is None:
            return self
        if not callable(function):
            raise TypeError(f"what is decorated is a function, not {function!r}: for a few lines, write a `with` block")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(said("generator", function))

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                return await function(*args, **kwargs)

        return functools.wraps(function)(async_wrapper if inspect.iscoroutinefunction(function) else wrapper)


def by_hand(switch: Switch) -> Switch:
    """The same switch, whose `__enter__` and `__exit__` may be called without a `with` statement, too."""
    # `with` looks them up in the class, and passes over what the object itself has.
    vars(switch).update({name: functools.partial(getattr(Switch, name), switch) for name in ("__enter__", "__exit__")})
    return switch


def having(variable: ContextVar[Any], value: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function in a copy of the context, where a variable has a value: what is set there ends with it."""
    context = copy_context()
    context.run(variable.set, value)
    return context.run(function, *args, **kwargs)


_recording: ContextVar[Setting | None] = ContextVar("recording", default=None)
_inside: ContextVar[Setting | None] = ContextVar("inside", default=None)
_modes: ContextVar[Setting | None] = ContextVar("modes", default=None)

recording: Callable[[bool], Switch] = {on: Switch(_recording, on) for on in (False, True)}.__getitem__
no_grad = by_hand(recording(False))
ever_switched = _recording.get  # None where it surely was not, which is quick to ask
_OFF = Setting(False, lambda: SimpleNamespace(locked=lambda: True), None)  # which never ends
is_recording: Callable[[], bool] = lambda: (found := setting(_recording)) is None or found.value
set_recording: Callable[[bool], Any] = lambda on: _recording.set(None if on else _OFF)  # to the end of the context

differentiating = Switch(_inside, True)  # a function, in which transforms give Tensors
is_inside: Callable[[], bool] = lambda: setting(_inside) is not None
alone = functools.partial(having, _inside, None)  # calls a function as if it were not inside

_silent = Context()
_silent.run(np.seterr, all="ignore")
[(_warnings, _none)] = _silent.items()  # the variable that np.errstate sets, which takes ten times as long
warnings_now = functools.partial(_warnings.get, None)  # the very object, which a `with np.errstate` block replaces
quiet_context = _silent.copy  # makes a context in which NumPy warns of nothing, and which knows no switch of others
quietly = functools.partial(having, _warnings, _none)  # calls a function of arrays without warnings of nan and inf

on = functools.partial(Switch, _modes)  # of a mode, inside of those that are on
any_mode = _modes.get  # None where there is surely none, which is quick to ask


def mode() -> Mode | None:
    """The innermost mode of this thread and async task."""
    found = _modes.get()
    if found is not None and ((lock := found.lock()) is None or not lock.locked()):
        found = setting(_modes)
    return None if found is None else found.value


def through(method: str, go_on: Callable[..., Any], *args: Any) -> Any:
    """Let the innermost mode do it, where there is one."""
    here = mode()
    return go_on(*args) if here is None else getattr(here, method)(go_on, *args)


def outside(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function with the innermost mode off."""
    found = setting(_modes)
    return having(_modes, found and found.outer, function, *args)


def _handed_on(method: str) -> Callable[..., Any]:
    return lambda mode, go_on, *args: outside(through, method, go_on, *args)


class Mode:
    """What stands between user code and the engine in the blocks of `on(mode)`. This one changes nothing.

    A method is given `go_on`, the function of the engine that was asked for, and its arguments:

        call     make a call: `go_on` is `call`, or for composites and constants `call_other`
        walk     walk back; see `branches.backpropagate`
        look     the array of a tensor, for somebody who wants to see its numbers
        read     what stands in an attribute: `go_on` is `array_of` for `.data`, `grad_of` or `number_of`
        write    change leaves: `go_on` is `clear`, `deposit`, or one of `set_data`, `set_numbers`, `set_grad`, ...

    `outside` does that with the modes around this one on, and this one off. All else that a method does comes to the
    mode again: of `composites[function](*args)`, it is shown the calls inside.
    """

    walk, look, read, write = map(_handed_on, ("walk", "look", "read", "write"))

    def call(self, go_on: Callable[..., Any], function: Any, args: Any, kwargs: Any) -> Any:
        return outside(go_on, function, args, kwargs)

    def is_array(self, tensor: Any) -> bool:
        """Whether a tensor stands for an array, so that transforms give arrays for it."""
        return False
