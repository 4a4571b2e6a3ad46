"""What goes wrong without an error: arrays changed behind the engine's back, the first nan or inf, rules that write."""

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minigrad.engine import (  # isort: skip
    Array, Call, Function, Masks, Mode, Node, Tensor, array_of, arrays_in, by_hand, call_other, composites,
    given_or_one, history, mapped, may_choose, mode, name_of, on, outside, users_line, walk,
)  # fmt: skip
from minigrad.trees import leaves

Index: TypeAlias = tuple[int, ...]


class Remembered(tuple[Any, ...]):
    """The arguments of a call that was watched, what all its arrays were like, and the line of the caller."""

    prints: list[int]
    line: str


class Debug(Mode):
    """Find mistakes, in a `with` block or, as a decorator, in a function; for this thread and async task only.

    Each is an error that names the operation and the line of your code that called it:

    - RuntimeError when backward() comes to an array, also one in an index or a keyword, that was written to since the
      call that used it, or to a rule that writes to what it is given;
    - FloatingPointError at the first nan or inf in the answer of a call, recorded or not, or in a gradient. Of what
      was put in, an inf may go on as an inf, and a nan may not. In the forward pass, np.errstate says where one is
      meant, as it does to NumPy: invalid="ignore" a nan, divide="ignore" or over="ignore" an inf. In the backward
      pass, what does not reach a gradient at its end, since np.where or the like did not choose it, does not count.

    The arrays of calls outside of the block are not known. Inside, everything is several times slower.

    >>> x = Tensor([0.0, 1.0], requires_grad=True)
    >>> with debug():  # doctest: +ELLIPSIS
    ...     np.sum(np.sqrt(x)).backward()
    Traceback (most recent call last):
    FloatingPointError: the rule of np.sqrt(float64[2]) for its argument 0 made the first inf, at index (0,), ...
    """

    def call(self, go_on: Function, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Judge the answer of a call, and remember the call if the graph does."""
        if go_on is call_other and function in composites:  # the calls that it is spelled with are judged
            return composites[function](*args, **kwargs)
        answer = outside(go_on, function, args, kwargs)
        if not isinstance(answer, Tensor):  # of a constant
            return answer
        if not _is_finite(answer):
            inputs = dict(_parts(args, kwargs))
            found = _first_wrong(array_of(answer), inputs)
            if found and not _meant(found[0]):
                raise _not_finite(_written(function, args), *found, inputs, users_line())
        if answer.function is not None:
            answer.args = remembered = Remembered(args)
            remembered.prints = list(map(_print, (*args, *kwargs.values(), answer)))
            remembered.line = users_line()
        return answer

    def walk(self, go_on: Function, root: Node, gradient: Any, targets: Any, recorded: bool, free: bool) -> Any:
        """Walk back with masks, as without debug, and raise if a nan or inf reaches the gradient of a target."""
        if outside(mode):  # which has its own way to walk
            return super().walk(go_on, root, gradient, targets, recorded, free)
        graph, gradient = history(root, targets), given_or_one(gradient, root)
        applied = lambda call, position, rule, g: rule(g, call.ans, *call.values, **call.kwargs)
        rules = Judged(Masks(root) if may_choose(graph) else applied)
        answers = walk(graph, root, gradient, recorded, free, rules)
        for target, g in answers.items():
            if error := rules.wrong.get(target) or rules.overflowed(target, g):
                raise error
        return answers


debug = by_hand(on(Debug()))
debug.__doc__ = Debug.__doc__


class Judged:
    """How rules are applied in a walk that is watched: they are shown arrays that they cannot write to."""

    def __init__(self, inner: Function) -> None:
        self.inner = inner
        self.latest: Node | None = None  # the call that is walked through
        self.wrong: dict[Node, FloatingPointError] = {}  # whence the nan and inf in the gradients of tensors
        self.last: dict[Node, tuple[Call, int, Any]] = {}  # who gave a tensor a part of its gradient last

    def __call__(self, call: Call, position: int | None, rule: Function, g: Any) -> Any:
        if call.node is not self.latest:
            self.latest = call.node
            self.unchanged(call)
            if call.node not in self.wrong and (error := self.overflowed(call.node, g)):
                self.wrong[call.node] = error
        part = self.inner(call, position, _guarded(rule, call, position), g)
        for i, its_part in [(position, part)] if position is not None else enumerate(part):
            if isinstance(call.args[i], Node) and its_part is not None:
                self.received(call, i, its_part, g)
        return part

    def unchanged(self, call: Call) -> None:
        """What rules are shown is as it was at the call."""
        if isinstance(call.args, Remembered):
            prints = list(map(_print, (*call.args, *call.kwargs.values(), call.ans)))
            if prints != call.args.prints:
                parts = [what for what, _ in _parts(call.args, call.kwargs)] + ["the answer"]
                what = next(what for what, a, b in zip(parts, prints, call.args.prints, strict=True) if a != b)
                raise RuntimeError(
                    f"{what} of {_written(call.node.function, call.args)} was written to since the call in "
                    f"{call.args.line}, so the gradient would be wrong. Write to a copy of the array, or call "
                    "backward() before."
                )

    def received(self, call: Call, position: int, part: Any, g: Any) -> None:
        """Judge what an argument of a call receives. A later call may still leave out what is wrong."""
        argument, origin = call.args[position], self.wrong.get(call.node)
        self.last[argument] = call, position, g
        if not _is_finite(part) and (error := _wrong(part, call, position, {} if origin else _inputs(call, g))):
            self.wrong.setdefault(argument, origin or error)

    def overflowed(self, node: Node, g: Any) -> FloatingPointError | None:
        """What is wrong with the sum of what a tensor has received, while no part of it is."""
        if node not in self.last or _is_finite(g):
            return None
        call, position, given = self.last[node]
        return _wrong(g, call, position, _inputs(call, given))


def _inputs(call: Call, g: Any) -> dict[str, Any]:
    return {"the gradient that it was given": g, "the answer": call.ans, **dict(_parts(call.args, call.kwargs))}


def _wrong(g: Any, call: Call, position: int, inputs: Mapping[str, Any]) -> FloatingPointError | None:
    """What is wrong with a gradient that the rule of a call has made of these inputs."""
    found = _first_wrong(np.asarray(arrays_in(g)), inputs)
    return _not_finite(_rule_of(call, position), *found, inputs, _line_of(call.args)) if found else None


def _guarded(rule: Function, call: Call, position: int | None) -> Function:
    """A rule that is shown read-only views."""

    def guarded(*values: Any, **kwargs: Any) -> Any:
        try:
            return rule(*map(_read_only, values), **_read_only(kwargs))
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise RuntimeError(
                f"{_rule_of(call, position)} writes to an array that it was shown ({error}), and others read it, too. "
                f"Let it make a new one: g = g * 2, not g *= 2. The call is in {_line_of(call.args)}."
            ) from error

    return guarded


def _meant(kind: str) -> bool:
    """Whether np.errstate says that a nan or inf is no surprise."""
    settings = np.geterr()
    return "ignore" in ([settings["invalid"]] if kind == "nan" else [settings["divide"], settings["over"]])


def _not_finite(who: str, kind: str, index: Index, inputs: Mapping[str, Any], line: str) -> FloatingPointError:
    whence = next((what for what, value in inputs.items() if any(np.isnan(x).any() for x in _floats(value))), None)
    did = f"passed on a nan that {whence} holds" if whence else f"made the first {kind}"
    return FloatingPointError(f"{who} {did}, at index {index}, in {line}.")


def _is_finite(x: Any) -> bool:
    array = np.asarray(arrays_in(x))
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def _first_wrong(array: Array, inputs: Mapping[str, Any]) -> tuple[str, Index] | None:
    """The kind and the index of the first nan or, if no input holds an inf that goes on, of the first inf."""
    kind, wrong = "nan", np.isnan(array)
    if not wrong.any():
        if any(np.isinf(given).any() for given in _floats(inputs)):
            return None
        kind, wrong = "inf", np.isinf(array)
    return kind, tuple(map(int, np.argwhere(wrong)[0]))


# ------------------------------------------------------------------------------------------------ calls and arrays


def _parts(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All that a call was given, each with a name for readers."""
    yield from ((f"argument {position}", value) for position, value in enumerate(args))
    yield from ((f"argument {name}=", value) for name, value in kwargs.items())


def _arrays(value: Any) -> Iterator[Array]:
    """The arrays and numbers in a structure of arguments."""
    for leaf in leaves(value):
        if isinstance(leaf, Tensor):
            yield array_of(leaf)
        elif isinstance(leaf, (np.ndarray, np.generic, int, float, complex)):
            yield np.asarray(leaf)


def _floats(value: Any) -> Iterator[Array]:
    return (array for array in _arrays(value) if array.dtype.kind in "fc")


def _print(value: Any) -> int:
    """A number that tells, as surely as 64 bits can, whether any array in a structure has changed."""
    return hash(tuple(array.tobytes() for array in _arrays(value)))


def _read_only(value: Any) -> Any:
    """The same structure with views for arrays."""
    return mapped(lambda x: as_strided(x, writeable=False) if isinstance(x, np.ndarray) else x, value)


# ------------------------------------------------------------------------------------------------- names and lines


def _written(function: Function | None, args: Sequence[Any]) -> str:
    """A call as one would write it, with dtypes and shapes for arrays: np.add(float64[3], 2)."""
    given = (f"{a.dtype}{list(a.shape)}" if isinstance(a, (Tensor, np.ndarray)) else reprlib.repr(a) for a in args)
    return f"{name_of(function)}({', '.join(given)})"


def _rule_of(call: Call, position: int | None) -> str:
    which = "" if position is None else f" for its argument {position}"
    return f"the rule of {_written(call.node.function, call.args)}{which}"


def _line_of(args: Sequence[Any]) -> str:
    return args.line if isinstance(args, Remembered) else "a line outside of mg.debug()"
