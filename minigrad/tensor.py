"""The engine: arrays that remember the call that made them, and the walk back through those calls.

It knows no calculus. Which functions have derivatives, and what they are, stands in tables that are empty here and
filled by `minigrad.rules` and the modules after it:

    vjps         function -> one rule per argument: `rule(g, ans, *args, **kwargs)` is what the argument receives
                 when the answer `ans` receives the gradient `g`; None where the derivative is zero
    composites   function -> the same function spelled with others that are in the tables; looked up first, and may
                 `call` a rule of its own for the form that has one (np.where, np.inner)
    constants    functions with no derivative to speak of (comparisons, shapes, arg-functions): plain arrays come out
    refusals     functions that have none for a reason, with that reason
    selections   functions of `vjps` that pick or add up numbers without changing them
    products     functions of `vjps` that add up products of elements, one factor from each argument
    choices      those selections that leave numbers out: without one in a graph, no branch of it was left out

The graph has one invariant: a call is younger than its arguments. Every tensor carries the time at which its numbers
were written, so sorting by time is a topological sort, and an argument younger than the call that used it has been
changed since then.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextvars import Context, ContextVar
from operator import attrgetter, getitem
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array: TypeAlias = NDArray[Any]
Function: TypeAlias = Callable[..., Any]

Rules: TypeAlias = Sequence[Function | None]

vjps: dict[Function, Rules] = {}
composites: dict[Function, Function] = {}
constants: set[Function] = set()
refusals: dict[Function, str] = {}
selections: set[Function] = set()
choices: set[Function] = set()
products: set[Function] = set()

# glibc gives memory back to the system in every training step, and page faults then cost as much as the arithmetic. It
# learns from one large block that is freed to keep what it has (mallopt(3), M_MMAP_THRESHOLD); others do not mind.
np.empty(2**24, np.uint8)

_now = itertools.count().__next__
_recording: ContextVar[bool] = ContextVar("recording", default=True)
_watcher: ContextVar[Any] = ContextVar("watcher", default=None)
_observer: ContextVar[Any] = ContextVar("observer", default=None)
watched = False  # whether there was ever one of these: the calls of those who never debug or compile need not ask
_NO_KWARGS: dict[str, Any] = {}

_outer: ContextVar[Any] = ContextVar("outer", default=None)  # (variable, value before, those outside of it)


class Switch:
    """A variable that has a value in a `with` block or a decorated function; for this thread and async task only.

    It remembers nothing itself, so one switch serves many blocks: one after the other, nested, and in many threads.
    """

    def __init__(self, variable: ContextVar[Any], value: Any) -> None:
        self.variable, self.value = variable, value

    def __enter__(self) -> None:
        _outer.set((self.variable, self.variable.get(), _outer.get()))
        self.variable.set(self.value)

    def __exit__(self, *error: object) -> None:
        variable, before, outer = _outer.get()
        variable.set(before)
        _outer.set(outer)

    def __call__(self, function: Function) -> Function:
        if not callable(function):
            raise TypeError(f"what is decorated is a function, not {function!r}: for a few lines, write a `with` block")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{name_of(function)} is a generator function: between two yields, what is switched for it would stay "
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


def recording(on: bool) -> Switch:
    return Switch(_recording, on)


def is_recording() -> bool:
    """Whether calls with tracked Tensors are recorded, in this thread and async task."""
    return _recording.get()


def observed(observer: Any) -> Switch:
    """Leave every call to `observer.call(function, args, kwargs)`, of constants too.

    It is told by `observer.read(tensor)` before anybody looks at the numbers of a Tensor.
    """
    global watched
    watched = True
    return Switch(_observer, observer)


def watcher() -> Any:
    """The watcher of this thread and async task, or None; see `minigrad.debug`."""
    return _watcher.get() if watched else None


def observer() -> Any:
    """The observer of this thread and async task, or None."""
    return _observer.get() if watched else None


_quiet = Context()
_quiet.run(np.seterr, all="ignore")


def quietly(function: Function, *args: Any, **kwargs: Any) -> Any:
    """Call a function of arrays without warnings of nan and inf, and in a context of its own.

    np.errstate takes ten times as long.
    """
    return _quiet.copy().run(function, *args, **kwargs)


def no_grad(function: Function | None = None) -> Any:
    """Stop recording, in a `with` block or, as a decorator, in a function; for this thread and async task only.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> with no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    off = recording(False)
    return off if function is None else off(function)


# ---------------------------------------------------------------------------------------------------- forward


def call(function: Function, args: Sequence[Any], kwargs: dict[str, Any] = _NO_KWARGS) -> Tensor:
    """Run a function of the table `vjps` on the arrays inside `args`; the answer remembers the call."""
    if watched and (watching := _observer.get()):
        return watching.call(function, args, kwargs)  # type: ignore[no-any-return]
    tracked = False
    arrays = []
    for argument in args:
        if isinstance(argument, Tensor):
            tracked = tracked or argument._requires_grad
            argument = argument._data
        arrays.append(argument)
    try:
        answer = function(*arrays, **kwargs) if kwargs else function(*arrays)  # ** of nothing takes as long as a sum
    except (TypeError, ValueError, IndexError) as error:
        raise explained(error, function, args) from error
    result = _new(Tensor)
    result._data = answer = answer if type(answer) is np.ndarray else np.asarray(answer)
    result._grad = None
    if tracked and _recording.get() and (kind := answer.dtype.kind) not in "biu":
        if kind != "f":
            raise TypeError(
                f"{name_of(function)} of a tensor that requires a gradient gave an answer of dtype {answer.dtype}, and "
                "gradients are of real numbers: return an array of those, keep real and imaginary parts apart, or "
                "detach() the tensor first."
            )
        result._requires_grad = True
        result.function, result.args, result.kwargs, result._arrays = function, args, kwargs, arrays
    else:
        result._requires_grad = False
        result.function, result.args, result.kwargs, result._arrays = None, (), _NO_KWARGS, ()
        if answer.base is not None:
            result.args = _owners(args, answer)
    result._time = _now()
    if watched and (watching := _watcher.get()):
        watching.called(result, function, args, kwargs)
    return result


def recorded(function: Function, args: Sequence[Any], kwargs: dict[str, Any], answer: Array) -> Tensor:
    """The answer of a call that was made already, with its history."""
    result = _new(Tensor)
    result._data, result._grad, result._requires_grad, result._time = answer, None, True, _now()
    result.function, result.args, result.kwargs, result._arrays = function, args, kwargs, ()
    if watched and (watching := _watcher.get()):
        watching.called(result, function, args, kwargs)
    return result


def _owners(tensors: Sequence[Any], array: Array) -> tuple[Tensor, ...]:
    """The leaves that require a gradient and whose memory an array shares: should they change, so does it."""
    found: list[Tensor] = []
    stack = [tensor for tensor in tensors if isinstance(tensor, Tensor)]
    while stack:
        tensor = stack.pop()
        if np.may_share_memory(tensor._data, array):
            if tensor._requires_grad and tensor.function is None:
                found.append(tensor)
            stack += [argument for argument in tensor.args or () if isinstance(argument, Tensor)]
    return tuple(found)


def apply(function: Function, args: Sequence[Any], kwargs: dict[str, Any] = _NO_KWARGS) -> Any:
    """Find a NumPy function in the tables and run it on arguments among which there are Tensors."""
    if kwargs:
        if kwargs.get("out") is not None:
            raise TypeError(
                f"{name_of(function)} cannot write a Tensor into out=: an array keeps no history. "
                "Leave out= away and bind the result to a name (for `a += t`, write `a = a + t`)."
            )
        if isinstance(kwargs.get("where"), Tensor) and not observer():
            kwargs = {**kwargs, "where": kwargs["where"]._data}
        if isinstance(kwargs.get("initial"), Tensor) and function in vjps:
            raise TypeError(
                f"{name_of(function)} takes a plain number as initial=, not a Tensor: combine the answer with it, as "
                "in np.sum(x) + initial or np.maximum(np.max(x), initial)."
            )
        if isinstance(function, np.ufunc) and function not in constants and not function.signature:
            args, kwargs = _converted(function, args, **kwargs), _NO_KWARGS
        if hasattr(function, "__wrapped__") and any(isinstance(value, Tensor) for value in kwargs.values()):
            bound = inspect.signature(function).bind(*args, **kwargs)
            args, kwargs = bound.args, bound.kwargs
    if function in composites:
        for argument in args:
            if isinstance(argument, Tensor) and argument._data.dtype.kind == "c":
                raise TypeError(f"{name_of(function)} takes Tensors of real numbers; of complex ones, pass t.data")
        return composites[function](*args, **kwargs)
    if function in vjps:
        return call(function, args, kwargs)
    if function in constants:
        watching = observer()
        return watching.call(function, args, kwargs) if watching else function(*plain(args), **plain(kwargs))
    if function in refusals:
        raise TypeError(f"{name_of(function)} {refusals[function]}.")
    raise NotImplementedError(
        f"{name_of(function)} has no derivative in minigrad yet. One line adds it, with one rule for each argument: "
        f"minigrad.primitive(lambda g, ans, x: ...)({name_of(function)}), where the rule turns the gradient g of the "
        "answer ans into that of x. For its values alone, pass t.detach().data."
    )


def _converted(
    ufunc: np.ufunc, args: Sequence[Any], dtype: Any = None, out: None = None, **others: Any
) -> Sequence[Any]:
    """The arguments of a ufunc in the `dtype` that was asked for; its other options have no meaning for Tensors."""
    if others:
        raise TypeError(
            f"{name_of(ufunc)} of a Tensor does not take {', '.join(others)}=: where= would leave elements undefined, "
            "and the rest is about memory. To choose elements, write np.where(condition, f(x), y)."
        )
    if dtype is None:
        return args
    return [a.astype(dtype) if isinstance(a, Tensor) else np.asarray(a, dtype) for a in args]


def primitive(*rules: Function | None) -> Callable[[Function], Function]:
    """Give an array function its derivative: one rule per argument, `rule(g, ans, *args, **kwargs)`.

    `g` is the gradient of the answer `ans` and has its shape; the rule returns the gradient of its argument, in the
    shape of the argument or of anything that broadcasting made of it. None stands for a derivative of zero. Written in
    NumPy, a rule can itself be differentiated. The function takes its arrays by position, everything else by keyword.
    Make each primitive once, not anew in every call: the table keeps it for good.

    >>> @primitive(lambda g, ans, x: g * 3 * x**2)
    ... def cube(x):
    ...     return x**3
    >>> x = Tensor(2.0, requires_grad=True)
    >>> cube(x).backward()
    >>> x.grad
    array(12.)
    """
    for rule in rules:
        if rule is not None and not callable(rule):
            raise TypeError(f"a rule is a function (g, ans, *args) or None for a zero derivative, not {rule!r}")
        if rule is not None and not _takes(rule, 3):
            raise TypeError(
                "a rule is called with the gradient of the answer, the answer and all arguments, (g, ans, x, ...), and "
                f"this one takes {inspect.signature(rule)}"
            )
    if not rules:
        raise TypeError("primitive needs one rule for each array argument: @primitive(lambda g, ans, x: ...)")

    def register(function: Function) -> Function:
        if not callable(function):
            raise TypeError("primitive takes the rules first: @primitive(lambda g, ans, x: ...) above the function")

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for key, value in kwargs.items():
                if isinstance(value, Tensor):
                    raise TypeError(f"{name_of(function)} got the Tensor {key}= by keyword: pass it by position")
            shown_tensors = any(isinstance(argument, Tensor) for argument in args)
            return call(function, args, kwargs) if shown_tensors else function(*args, **kwargs)

        vjps[function] = rules
        return wrapper

    return register


def _takes(function: Function, count: int) -> bool:
    """Whether a function can be called with so many arguments by position."""
    try:
        inspect.signature(function).bind_partial(*range(count))
    except TypeError:
        return False
    except ValueError:  # NumPy's own do not all tell
        pass
    return True


def constant(function: Function) -> Function:
    """Let an array function that has no derivative take Tensors, and give arrays for them.

    >>> order = constant(lambda x: np.argsort(x))
    >>> order(Tensor([3.0, 1.0, 2.0]))
    array([1, 2, 0])
    """
    constants.add(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        shown_tensors = any(isinstance(argument, Tensor) for argument in (*args, *kwargs.values()))
        return apply(function, args, kwargs) if shown_tensors else function(*args, **kwargs)

    return wrapper


def name_of(function: Function) -> str:
    """The name by which a reader knows a function: `np.sin`, `np.add.reduce`, `getitem`."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, np.ufunc):
        return f"np.{owner.__name__}.{function.__name__}"
    name = getattr(function, "__name__", None) or repr(function)
    module = getattr(function, "__module__", None) or ""
    if isinstance(function, np.ufunc) or module == "numpy":
        return f"np.{name}"
    return f"np.{module[6:]}.{name}" if module.startswith("numpy.") else name


def explained(error: Exception, function: Function, args: Sequence[Any]) -> Exception:
    """NumPy's complaint, with the shapes that it was given and the usual way out."""
    given = ", ".join(
        f"{type(a).__name__.lower()} {a.dtype}{list(a.shape)}" if isinstance(a, (Tensor, np.ndarray)) else repr(a)
        for a in args
    )
    hint = ""
    if function is np.matmul:
        hint = (
            " The last axis of the first must be as long as the second-last (or only) axis of the second: "
            "transpose one with .T or reshape it."
        )
    elif "broadcast" in str(error):
        hint = " Axes are aligned from the last and must be equal or 1: insert one with x[:, None] or reshape."
    kinds = (np.linalg.LinAlgError, np.exceptions.AxisError, IndexError, ValueError, TypeError)
    kind = next(kind for kind in kinds if isinstance(error, kind))
    return kind(f"{name_of(function)}({given}): {error}.{hint}")


def as_array(x: Any) -> Any:
    """What NumPy takes `x` for: lists and numbers become arrays, and a Tensor stays one."""
    return x if isinstance(x, Tensor) else np.asarray(x)


def as_tensor(x: Any) -> Tensor:
    """A Tensor, which takes Tensors as indices, while an array does not."""
    return x if isinstance(x, Tensor) else Tensor(x)


def numbers_of(x: Any) -> Any:
    """What NumPy takes `x` for, without the history of a Tensor."""
    if isinstance(x, Tensor):
        return x.detach() if observer() else x._data
    return np.asarray(x)


def mapped(change: Function, value: Any) -> Any:
    """The same structure of lists, tuples and dicts, with what `change` makes of all else."""
    if isinstance(value, (list, tuple)):
        return type(value)([mapped(change, item) for item in value])
    return {key: mapped(change, item) for key, item in value.items()} if isinstance(value, dict) else change(value)


def plain(value: Any) -> Any:
    """The same structure of arguments with arrays for Tensors."""
    return mapped(lambda x: x.data if isinstance(x, Tensor) else x, value)


def touch(leaves: Sequence[Tensor]) -> None:
    """Say that the numbers of these leaves were changed in place, just now."""
    time = _now()
    for leaf in leaves:
        leaf._time = time


# --------------------------------------------------------------------------------------------------- backward


def history(root: Tensor, targets: Set[Tensor] = frozenset()) -> list[Tensor]:
    """The tracked tensors that `root` was made of, the oldest first; given targets, those that depend on one.

    Raises RuntimeError where the graph was freed, or an argument has been changed since it was used.
    """
    oldest = min(map(_time_of, targets), default=-1)
    found, nodes = {root}, [root]
    for node in nodes:  # which grows on the way
        if node.args is None:
            raise RuntimeError(
                "this graph has been walked by backward() before, and was freed then. To walk it twice, say "
                "backward(retain_graph=True) the first time; to train, compute the loss anew in every step."
            )
        for argument in () if node in targets else node.args:
            if isinstance(argument, Tensor):
                if argument._time > node._time:
                    raise _changed(node.function, argument)
                if not argument._requires_grad:
                    for owner in argument.args or ():  # of a view that remembers nothing else
                        if isinstance(owner, Tensor) and owner._time > node._time:
                            raise _changed(node.function, owner)
                elif argument not in found and argument._time >= oldest:
                    found.add(argument)
                    nodes.append(argument)
    nodes.sort(key=_time_of)
    if targets:
        found = set(targets)
        for node in nodes:
            if any(isinstance(argument, Tensor) and argument in found for argument in node.args or ()):
                found.add(node)
        nodes = [node for node in nodes if node in found]
    return nodes


def backpropagate(
    root: Tensor, gradient: Any, targets: Set[Tensor] = frozenset(), record: bool = False, free: bool = False
) -> dict[Tensor, Any]:
    """The gradients of `root` with respect to the targets, or to all leaves that it was made of when there are none.

    `gradient` is the gradient of root itself. Plain arrays are shown to the rules and come out; with `record` the rules
    are shown Tensors, record their own calls, and Tensors come out. `free` takes the graph apart.

    When a gradient holds a nan, the walk is done again with masks, so that what a branch contributes that was not
    chosen is exactly 0 (see `_guarded`); a nan that is real stays.
    """
    nodes = history(root, targets)
    if watching := observer():
        walked: dict[Tensor, Any] = watching.walk(_walk, nodes, root, as_tensor(gradient), targets, record=True)
        return walked
    chose = not choices.isdisjoint(map(_function_of, nodes)) or any("where" in k for k in map(_kwargs_of, nodes) if k)
    again = list(nodes) if chose and any(map(_chooses, nodes)) else []
    # What is masked now must be masked in the next derivative, too; and a watcher is shown no nan that will not stay.
    masked = again and (record or watcher())
    answers = {} if masked else _walk(nodes, root, gradient, targets, record, free=free and not again)
    if masked or (again and any(map(has_nan, answers.values()))):
        answers = _walk(list(again), root, gradient, targets, record, masks={root: np.ones(root.shape, bool)})
    if free:
        for node in again:
            node.args = node._arrays = None if node.function else ()
    return answers


def _chooses(node: Tensor) -> bool:
    """Whether a call may leave some numbers out."""
    if node.function is replayed:
        return bool(getattr(node.kwargs["run"], "chooses", True))
    return node.function in choices or "where" in node.kwargs


def _walk(
    nodes: list[Tensor],
    root: Tensor,
    gradient: Any,
    targets: Set[Tensor],
    record: bool,
    free: bool = False,
    masks: dict[Tensor, Any] | None = None,
) -> dict[Tensor, Any]:
    """Pass the gradient from the youngest of `nodes`, which are used up, to the targets and leaves among them."""
    wanted = set(nodes) if targets else None  # None: all that are tracked
    gradients: dict[Tensor, Any] = {root: gradient}
    answers: dict[Tensor, Any] = {}
    watching = watcher()
    watching = watching and watching.walk()
    with np.errstate(all="ignore"), recording(record):  # an inf or nan shows in the gradient, as it should
        while nodes:
            node = nodes.pop()
            g = gradients.pop(node, None)
            if node.function is None or node in targets:
                answers[node] = np.zeros_like(node._data) if g is None else g
                continue
            function, args, kwargs = node.function, node.args or (), node.kwargs
            values = args if record else node._arrays or ()
            if free:
                node.args = node._arrays = None
            if g is None:
                continue
            if function is replayed:
                run = kwargs["run"]
                parts = run.pull(g) if hasattr(run, "pull") and masks is None and not record else None
                for argument, part in zip(args, parts or (), strict=False):
                    if part is not None and (wanted is None or argument in wanted):
                        gradients[argument] = gradients[argument] + part if argument in gradients else part
                if parts is not None:
                    continue
                value, inside = _replay(run, args)
                if watching:
                    watching.replayed(node, value, args)
                nodes += inside
                gradients[value] = g
                if wanted is not None:
                    wanted.update(inside)
                if masks is not None:
                    masks[value] = masks[node]
                continue
            ans = node if record else node._data
            rules = watching.rules(node, args) if watching else vjps[function]
            for position, argument in enumerate(args):
                if not isinstance(argument, Tensor) or not argument._requires_grad:
                    continue
                if wanted is not None and argument not in wanted:
                    continue
                try:
                    rule = rules[position]
                except IndexError:
                    raise NotImplementedError(
                        f"{name_of(function)} has {len(rules)} rules, so none for its argument {position}, which needs "
                        "a gradient. Add one, or None if the derivative is zero."
                    ) from None
                if rule is None:
                    continue
                if masks is None:
                    part = rule(g, ans, *values, **kwargs) if kwargs else rule(g, ans, *values)
                else:
                    part, mask = _guarded(function, rule, masks[node], g, ans, values, kwargs)
                    mask = _fit(mask.astype(argument.dtype), argument, function, position) > 0
                    masks[argument] = masks[argument] | mask if argument in masks else mask
                array = argument._data
                if getattr(part, "shape", None) != array.shape or part.dtype != array.dtype:
                    part = _fit(part, argument, function, position)
                gradients[argument] = gradients[argument] + part if argument in gradients else part
                if watching:
                    watching.received(argument, gradients[argument], node, args, position, g)
    if watching:
        watching.ended(answers)
    return answers


def replayed(*args: Any, run: Function) -> Any:
    """`run(*args)`, of which only the arguments are remembered: the walk runs it again.

    `run` records all that it does with the tracked Tensors among `args`, and works with no others that are tracked. It
    may know more: `run.pull(g)` returns the gradients of `args` without running anything again, or None;
    `run.deposit(answer)` adds them to the `.grad` of args that are leaves, or returns False; `run.chooses` says whether
    there may be branches in it that are not chosen.
    """
    return run(*args)


choices.add(replayed)  # for all that the graph shows


def _replay(run: Function, args: Sequence[Any]) -> tuple[Tensor, list[Tensor]]:
    """The answer of a replayed call, with its history from `args` on, the oldest first."""
    with recording(True):
        value = run(*args)
    begin = frozenset(a for a in args if isinstance(a, Tensor) and a._requires_grad)
    return value, [node for node in history(value, begin) if node not in begin]


def _fit(g: Any, argument: Tensor, function: Function, position: int) -> Any:
    """Undo broadcasting and promotion: the gradient `g` gets the shape and the dtype of its argument.

    This is the one place where that happens; rules never do it.
    """
    g, shape, dtype = as_array(g), argument._data.shape, argument._data.dtype
    if g.dtype.kind == "c":
        raise TypeError(f"rule {position} of {name_of(function)} returned complex numbers, and gradients are real")
    added = g.ndim - len(shape)
    if added < 0 or (
        g.shape[added:] != shape and any(m != n != 1 for m, n in zip(g.shape[added:], shape, strict=True))
    ):
        raise ValueError(
            f"rule {position} of {name_of(function)} returned a gradient of shape {g.shape} for an argument of shape "
            f"{shape}. A rule returns the argument's shape, or what broadcasting made of it; np.broadcast_to may help."
        )
    if added:
        g = np.add.reduce(g, axis=tuple(range(added)) if added > 1 else 0)
    if g.shape != shape:
        stretched = tuple(i for i, n in enumerate(shape) if n != g.shape[i])
        g = np.add.reduce(g, axis=stretched, keepdims=True)
    return g if g.dtype == dtype else g.astype(dtype)


def _guarded(
    function: Function, rule: Function, mask: Array, g: Any, ans: Any, values: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Any, Any]:
    """What an argument receives from those elements of the answer that were chosen, and where it receives anything.

    `mask` is true where the answer was chosen by every `np.where`, maximum, index ... that it went through. What was
    not chosen has a gradient of 0, and 0 times an infinite derivative must be 0. A zero that is a number, not a choice,
    does no such thing: its nan is real and stays.
    """
    part = rule(g, ans, *values, **kwargs)
    arrays, answer = plain(values), plain(ans)
    if function in selections:
        mask = rule(mask.astype(answer.dtype), answer, *arrays, **kwargs) != 0
    elif function in products:
        # Each element of part is a sum. It is taken without the factors that are not finite, unless one of them
        # meets an element that was chosen. With ones for all factors, the rule counts who meets whom.
        chosen = mask.astype(answer.dtype)
        wild = [~np.isfinite(array) for array in arrays]
        calm = rule(g, ans, *(np.where(w, 0, value) for w, value in zip(wild, values, strict=True)), **kwargs)
        met = rule(chosen, answer, *(w.astype(answer.dtype) for w in wild), **kwargs)
        mask = rule(chosen, answer, *map(np.ones_like, arrays), **kwargs) != 0
        part = np.where(met != 0, part, calm)
    elif not isinstance(function, np.ufunc) or function.signature:
        trial = not mask.all()
        mask = _reached(rule, mask, answer, arrays, kwargs, part.shape) if trial else np.ones(part.shape, bool)
    return part if mask.all() else np.where(mask, part, 0), mask


def _reached(
    rule: Function, mask: Array, ans: Array, values: Sequence[Any], kwargs: dict[str, Any], shape: tuple[int, ...]
) -> Array:
    """Where an argument of this shape receives anything from those elements of the answer that `mask` chooses.

    It is found by trial: the rule is shown its numbers a little changed, then others drawn at random, small and large
    and of both signs. Where it returns zero and never another number, nothing connects the two; in doubt, all does.
    """
    rng = np.random.default_rng(0)

    def drawn(array: Any, scale: float) -> Any:
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            return array
        factors = np.asarray(rng.uniform(1, 2, array.shape), array.dtype)
        return factors * scale if scale else factors * array

    chosen = mask.astype(ans.dtype)
    zero, other = np.zeros((2, *shape), bool)
    for scale in (0, 0.3, 1, 3, -1):
        with contextlib.suppress(Exception):  # a rule may refuse numbers that the function never gives
            part = rule(drawn(chosen, 0), drawn(ans, scale), *(drawn(value, scale) for value in values), **kwargs)
            zero |= part == 0
            other |= np.isfinite(part) & (part != 0)
    return np.asarray(mask.any() & (other | ~zero))


def has_nan(g: Any) -> bool:
    flat = (g._data if isinstance(g, Tensor) else g).ravel("K")
    return math.isnan(np.dot(flat, flat))  # squares cannot cancel: nan comes from nan alone


def _changed(function: Function | None, argument: Tensor) -> RuntimeError:
    return RuntimeError(
        f"the {argument.dtype}{list(argument.shape)} tensor that {name_of(function or call)} used has been changed "
        "since then (by an optimizer step, load_state_dict or an assignment to .data), so the gradient would be "
        "wrong. Call backward() before the change, or compute the loss again after it."
    )


# ----------------------------------------------------------------------------------------------------- Tensor


def _operator(function: Function) -> Callable[..., Tensor]:
    return lambda self, other: call(function, (self, np.asarray(other) if isinstance(other, (list, tuple)) else other))


def _reflected(function: Function) -> Callable[..., Tensor]:
    return lambda self, other: call(function, (np.asarray(other) if isinstance(other, (list, tuple)) else other, self))


def _method(function: Function) -> Callable[..., Any]:
    return functools.wraps(function)(lambda self, *args, **kwargs: apply(function, (self, *args), kwargs))


_power = _operator(np.power)
_POWERS: Mapping[Any, Function] = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal}  # as ndarray.__pow__ does


class Cleared:
    """The memory for a gradient that was cleared. It holds anything, and is filled with zeros when somebody looks."""

    __slots__ = ("array",)

    def __init__(self, array: Array) -> None:
        self.array = array


class Tensor:
    """An array plus the call that made it.

    `data` is anything `np.asarray` understands (it is not copied); it must be floating to require a gradient. Every
    NumPy function that has a rule takes Tensors and returns them, and so do the operators and methods of arrays.
    Comparisons give plain boolean arrays.

    >>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> loss = np.sum(x**2)
    >>> loss.backward()
    >>> x.grad
    array([2., 4., 6.])
    """

    __slots__ = ("__weakref__", "_arrays", "_data", "_grad", "_requires_grad", "_time", "args", "function", "kwargs")

    _arrays: Sequence[Any] | None  # what stands in `args`, with arrays for Tensors
    _data: Array
    _grad: Array | Cleared | None
    _requires_grad: bool
    _time: int
    function: Function | None
    args: Sequence[Any] | None
    kwargs: dict[str, Any]

    def __init__(self, data: ArrayLike | Tensor, requires_grad: bool = False) -> None:
        self._data = np.asarray(data)
        if self._data.dtype.kind not in "biufc":
            raise TypeError(
                f"a Tensor holds numbers, and this is an array of dtype {self._data.dtype}: convert it first, for "
                "instance with np.asarray(values, dtype=float)."
            )
        self._grad = None
        self.function, self.args, self.kwargs, self._arrays = None, (), _NO_KWARGS, ()
        self._time = _now()
        self._requires_grad = False
        if requires_grad:
            self.requires_grad = True

    # -------------------------------------------------------------------------------------------- attributes

    @property
    def data(self) -> Array:
        """The array. Assigning replaces it, in the same shape and dtype."""
        return self._read() if watched else self._data

    @data.setter
    def data(self, value: ArrayLike) -> None:
        if self.function is not None:
            raise RuntimeError(
                f"the result of {name_of(self.function)} cannot be given other data: only leaves (inputs and "
                "parameters) can. Make a new Tensor, or detach() this one first."
            )
        if watching := observer():
            watching.refuse(f"assigns to the data of a {self.dtype}{list(self.shape)} tensor")
        array = np.asarray(value, dtype=self._data.dtype)
        if array.shape != self._data.shape:
            raise ValueError(
                f"data of shape {array.shape} cannot replace data of shape {self._data.shape}: a tensor keeps its "
                "shape and dtype. Make a new Tensor, or reshape the array."
            )
        self._data = array
        self._time = _now()

    def _read(self) -> Array:
        """The array, for those who look at its numbers."""
        if watching := observer():
            watching.read(self)
        return self._data

    @property
    def grad(self) -> Array | None:
        """The sum of the gradients of all backward() calls since it was cleared, or None."""
        if watched and (watching := observer()):
            watching.read(self)
        if type(self._grad) is Cleared:
            self._grad = self._grad.array
            self._grad.fill(0)
        return self._grad  # type: ignore[return-value]

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if value is not None:
            value = np.asarray(value, dtype=self._data.dtype)
            if value.shape != self._data.shape:
                raise ValueError(f"a gradient of shape {value.shape} does not fit a tensor of shape {self._data.shape}")
        self._grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether calls with this tensor are recorded. Assigning freezes a leaf, or thaws it."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        if self.function is not None:
            raise RuntimeError(
                f"the result of {name_of(self.function)} requires a gradient because its arguments do: call detach() "
                "for the same numbers without their history."
            )
        if on and self._data.dtype.kind != "f":
            raise TypeError(
                f"only floating tensors can require a gradient, and this one is {self._data.dtype}: convert it first, "
                "for instance with Tensor(np.asarray(values, dtype=float), requires_grad=True)."
            )
        self._requires_grad = bool(on)

    # These are called everywhere: attrgetters are fast, and the annotations are what a type checker sees.
    shape: tuple[int, ...] = property(attrgetter("_data.shape"))  # type: ignore[assignment]
    ndim: int = property(attrgetter("_data.ndim"))  # type: ignore[assignment]
    size: int = property(attrgetter("_data.size"))  # type: ignore[assignment]
    dtype: np.dtype[Any] = property(attrgetter("_data.dtype"))  # type: ignore[assignment]

    @property
    def T(self) -> Tensor:
        """The tensor with its axes in reverse order."""
        return call(np.transpose, (self,))

    @property
    def mT(self) -> Tensor:
        """The matrix, or each of a stack of them, transposed."""
        return call(np.swapaxes, (self, -1, -2))

    def item(self) -> Any:
        """The only element as a Python number."""
        return self._read().item()

    def detach(self) -> Tensor:
        """A Tensor on the same memory that requires no gradient and remembers nothing."""
        if watching := observer():
            return watching.detached(self)  # type: ignore[no-any-return]
        tensor = Tensor(self._data)
        tensor.args = _owners([self], self._data)
        return tensor

    def backward(self, gradient: ArrayLike | None = None, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf it was made of, then free the graph.

        `gradient` is the gradient of this tensor itself, in its shape; a tensor of one element needs none.
        `retain_graph=True` keeps the graph for another backward(). Raises RuntimeError where the tensor requires no
        gradient, the graph was freed or an argument has been changed since the forward pass; no `.grad` changes then.
        """
        if watched and (watching := observer()):
            watching.refuse("calls backward(), which would be done once and never again; return the loss instead")
        if not self._requires_grad:
            raise RuntimeError(
                "backward() of a tensor that requires no gradient: nothing it was made of requires one, or it was made "
                "inside no_grad() or detached. Give the inputs requires_grad=True."
            )
        if gradient is None:
            run: Any = self.kwargs["run"] if self.function is replayed and self.args else None
            if hasattr(run, "deposit") and run.deposit(self):
                self.args = self.args if retain_graph else None
                return
            if self._data.size != 1:
                raise ValueError(
                    f"backward() starts at a single number, and this tensor has shape {self.shape}: reduce it first "
                    "(loss = y.sum()), or say backward(gradient) with an array of that shape."
                )
            gradient = np.array(1, self._data.dtype, ndmin=self._data.ndim)
        gradient = np.asarray(gradient, dtype=self._data.dtype)
        if gradient.shape != self._data.shape:
            raise ValueError(f"a gradient of shape {gradient.shape} was given for a tensor of shape {self.shape}.")
        for leaf, g in backpropagate(self, gradient, free=not retain_graph).items():
            old: Any = leaf._grad
            if old is None:
                leaf._grad = np.array(g, leaf._data.dtype)  # a copy: rules may hand the same array to several arguments
            elif type(old) is Cleared:
                np.copyto(old.array, g)
                leaf._grad = old.array
            else:
                np.add(old, g, out=old)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self._grad = None

    # --------------------------------------------------------------------------------------- NumPy's protocols

    __array_priority__ = 1000.0  # NumPy's scalars then hand over to __rmul__ and the like without the way by a ufunc

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if len(inputs) > 1:
            inputs = tuple([np.asarray(x) if isinstance(x, (list, tuple)) else x for x in inputs])
        return apply(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function: Function, types: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        return apply(function, args, kwargs)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self._requires_grad:
            self._refuse("an array")
        return np.array(self._read(), dtype=dtype, copy=copy)

    def _refuse(self, kind: str) -> NoReturn:
        raise TypeError(
            f"turning a Tensor that requires a gradient into {kind} would lose its history in silence. To say that it "
            "may, write t.detach() or t.item(); to keep it, use np.stack for several tensors, and NumPy functions or "
            "operators in place of array methods (array @ t for array.dot(t))."
        )

    # --------------------------------------------------------------------------------- Python's, in its order

    def __repr__(self) -> str:
        if watching := observer():
            return f"Tensor({self.dtype}{list(self.shape)}, {'traced' if watching.traced(self) else 'constant'})"
        numbers = np.array2string(self._data, separator=", ", prefix="Tensor(", suffix=")")
        dtype = "" if self._data.dtype in (np.float64, np.int64, np.bool_) else f", dtype={self._data.dtype}"
        if self.function is not None:
            return f"Tensor({numbers}{dtype}, from {name_of(self.function)})"
        return f"Tensor({numbers}{dtype}{', requires_grad=True' if self._requires_grad else ''})"

    def __reduce__(self) -> Any:
        if self.function is not None:
            raise TypeError("only leaf tensors can be copied or pickled, without their history: use t.detach()")
        return Tensor, (self._read(), self._requires_grad)

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ValueError(
                f"a tensor of shape {self.shape} is neither true nor false: say np.any(t) or np.all(t), or, to choose "
                "element by element, np.where(condition, a, b)."
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item()) if not self._requires_grad else self._refuse("a float")

    def __int__(self) -> int:
        return int(self.item()) if not self._requires_grad else self._refuse("an int")

    def __index__(self) -> int:
        return self._read().__index__()

    def __format__(self, specification: str) -> str:
        return format(self.item(), specification) if specification else str(self)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        if not self._data.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self._data)))

    def __contains__(self, value: Any) -> bool:
        return value in self._read()

    def __getitem__(self, index: Any) -> Tensor:
        return call(getitem, (self, index if observer() else plain(index)))

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(
            "a Tensor cannot be changed in place, since the graph still needs its numbers. Make a new one: "
            "t = minigrad.put(t, index, value), or np.where(condition, value, t)."
        )

    __hash__ = object.__hash__

    __add__, __radd__ = _operator(np.add), _reflected(np.add)
    __sub__, __rsub__ = _operator(np.subtract), _reflected(np.subtract)
    __mul__, __rmul__ = _operator(np.multiply), _reflected(np.multiply)
    __truediv__, __rtruediv__ = _operator(np.divide), _reflected(np.divide)
    __floordiv__, __rfloordiv__ = _operator(np.floor_divide), _reflected(np.floor_divide)
    __mod__, __rmod__ = _operator(np.remainder), _reflected(np.remainder)
    __matmul__, __rmatmul__ = _operator(np.matmul), _reflected(np.matmul)
    __rpow__ = _reflected(np.power)

    def __pow__(self, other: Any) -> Tensor:
        if type(other) in (int, float) and other in _POWERS and self._data.dtype.kind == "f":
            return call(_POWERS[other], (self,))
        return _power(self, other)

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    __and__, __rand__ = _method(np.bitwise_and), _method(np.bitwise_and)
    __or__, __ror__ = _method(np.bitwise_or), _method(np.bitwise_or)
    __xor__, __rxor__ = _method(np.bitwise_xor), _method(np.bitwise_xor)
    __lshift__, __rshift__ = _method(np.left_shift), _method(np.right_shift)
    __invert__ = _method(np.invert)

    __neg__ = _method(np.negative)
    __pos__ = _method(np.positive)
    __abs__ = _method(np.absolute)

    __eq__ = _method(np.equal)
    __ne__ = _method(np.not_equal)
    __lt__ = _method(np.less)
    __le__ = _method(np.less_equal)
    __gt__ = _method(np.greater)
    __ge__ = _method(np.greater_equal)

    # -------------------------------------------------------------------------------------- methods of ndarray

    sum, mean, var, std = _method(np.sum), _method(np.mean), _method(np.var), _method(np.std)
    max, min, prod, trace = _method(np.max), _method(np.min), _method(np.prod), _method(np.trace)
    cumsum, cumprod, diagonal, copy = _method(np.cumsum), _method(np.cumprod), _method(np.diagonal), _method(np.copy)
    take, choose, searchsorted = _method(np.take), _method(np.choose), _method(np.searchsorted)
    ravel, squeeze, swapaxes = _method(np.ravel), _method(np.squeeze), _method(np.swapaxes)
    flatten, repeat, clip, dot = _method(np.ravel), _method(np.repeat), _method(np.clip), _method(np.dot)
    argmax, argmin, argsort = _method(np.argmax), _method(np.argmin), _method(np.argsort)
    any, all, nonzero, round = _method(np.any), _method(np.all), _method(np.nonzero), _method(np.round)

    def reshape(self, *shape: Any, **options: Any) -> Tensor:
        """The same numbers in another shape, given as integers or as one tuple."""
        return call(np.reshape, (self, shape[0] if len(shape) == 1 else shape), options)

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order, given as integers or as one tuple; reversed when there is none."""
        return call(np.transpose, (self, (axes[0] if len(axes) == 1 else axes) or None))

    def tolist(self) -> Any:
        """The numbers as nested lists, without their history."""
        return self._read().tolist()

    def astype(self, dtype: DTypeLike, *, copy: bool = True) -> Tensor:
        """The same numbers in another dtype; `copy` is accepted for the sake of code for arrays."""
        return call(np.ndarray.astype, (self, dtype))


_new = Tensor.__new__
_time_of, _function_of, _kwargs_of = attrgetter("_time"), attrgetter("function"), attrgetter("kwargs")
