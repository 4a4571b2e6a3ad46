"""What goes wrong without an error: arrays changed behind the engine's back, the first nan or inf, rules that write."""

from __future__ import annotations

import linecache
import os
import reprlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import tensor
from minigrad.tensor import Array, Function, Switch, Tensor, mapped, name_of, numbers_of, vjps
from minigrad.trees import leaves

_ROOMS = tuple(f"{Path(path).parent}{os.sep}" for path in (__file__, np.__file__))


def debug(function: Function | None = None) -> Any:
    """Find mistakes, in a `with` block or, as a decorator, in a function; for this thread and async task only.

    Each is an error that names the operation and the line of your code that called it:

    - RuntimeError when backward() comes to an array, also one in an index or a keyword, that was written to since the
      call that used it, or to a rule that writes to what it is given;
    - FloatingPointError at the first nan or inf in the answer of a call, recorded or not, or in a gradient. Of what
      was put in, an inf may go on as an inf, and a nan may not. In the forward pass, np.errstate says where one is
      meant, as it does to NumPy: invalid="ignore" a nan, divide="ignore" or over="ignore" an inf. In the backward
      pass, what does not get through to a gradient at its end, since np.where or the like did not choose it, does not
      count.

    The arrays of calls outside of the block are not known. Inside, everything is several times slower.

    >>> x = Tensor([0.0, 1.0], requires_grad=True)
    >>> with debug():  # doctest: +ELLIPSIS
    ...     np.sum(np.sqrt(x)).backward()
    Traceback (most recent call last):
    FloatingPointError: the rule of np.sqrt(float64[2]) for its argument 0 made the first inf, at index (0,), ...
    """
    tensor.watched = True
    on = Switch(tensor._watcher, Watcher())
    return on if function is None else on(function)


class Remembered(tuple[Any, ...]):
    """The arguments of a call that was watched, what all its arrays were like, and the line of the caller."""

    prints: list[int]
    line: str


class Watcher:
    """Whom the engine tells of its calls, and of its walks."""

    def called(self, answer: Tensor, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Judge the answer of a call, and remember the call if the graph does."""
        inputs = dict(_parts(args, kwargs))
        found = _first_wrong(answer._data, inputs)
        if found and not _meant(found[0]):
            raise _not_finite(_written(function, args), *found, inputs, users_line())
        if answer.function is not None:
            answer.args = remembered = Remembered(args)
            remembered.prints = [_print(value) for value in (*inputs.values(), answer)]
            remembered.line = users_line()

    def walk(self) -> Walk:
        return Walk()


class Walk:
    """Whom the engine asks for rules in a walk back, and tells what they gave."""

    def __init__(self) -> None:
        self.origins: dict[Tensor, FloatingPointError] = {}  # of the nan and inf in the gradients of tensors

    def rules(self, node: Tensor, args: Sequence[Any]) -> Sequence[Function | None]:
        """The rules of a call, shown arrays that they cannot write to; what they are shown is as it was at the call."""
        if isinstance(args, Remembered):
            parts = {**dict(_parts(args, node.kwargs)), "the answer": node}
            for (what, value), before in zip(parts.items(), args.prints, strict=True):
                if _print(value) != before:
                    raise RuntimeError(
                        f"{what} of {_written(node.function, args)} was written to since the call in {args.line}, so "
                        "the gradient would be wrong. Write to a copy of the array, or call backward() before."
                    )
        return _Watched(node, args)

    def replayed(self, node: Tensor, value: Tensor, args: Sequence[Any]) -> None:
        """Compare what a checkpointed function gave at first with what it gives now, which stands for it from here."""
        if _print(value) != _print(node):
            raise RuntimeError(
                f"the checkpointed function called in {_line_of(args)} gave another answer when it was run again, so "
                "the gradient would be wrong: an array that it reads was written to, or it is random. Give it the "
                "random numbers as an argument."
            )
        if node in self.origins:
            self.origins[value] = self.origins[node]

    def received(
        self, argument: Tensor, gradient: Any, node: Tensor, args: Sequence[Any], position: int, g: Any
    ) -> None:
        """Judge the gradient that an argument of a call has by now. A later call may still leave out what is wrong."""
        inputs = {"the gradient that it was given": g, "the answer": node, **dict(_parts(args, node.kwargs))}
        origin = self.origins.get(node)
        found = _first_wrong(numbers_of(gradient), {} if origin else inputs)
        if found:
            error = origin or _not_finite(_rule_of(node, args, position), *found, inputs, _line_of(args))
            self.origins.setdefault(argument, error)

    def ended(self, answers: Iterable[Tensor]) -> None:
        """Fail if what is wrong has come through to a target."""
        for target in answers:
            if target in self.origins:
                raise self.origins[target]


class _Watched(Sequence[Any]):
    """The rules of a call, each of which is shown read-only views."""

    def __init__(self, node: Tensor, args: Sequence[Any]) -> None:
        self.node, self.args, self.own = node, args, vjps[node.function or tensor.call]

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, position: Any) -> Any:
        rule = self.own[position]

        def watched(*values: Any, **kwargs: Any) -> Any:
            try:
                return rule(*map(_read_only, values), **_read_only(kwargs))
            except ValueError as error:
                if "read-only" not in str(error):
                    raise
                raise RuntimeError(
                    f"{_rule_of(self.node, self.args, position)} writes to an array that it was shown ({error}), and "
                    f"others read it, too. Let it make a new one: g = g * 2, not g *= 2. The call is in "
                    f"{_line_of(self.args)}."
                ) from error

        return rule and watched


def _meant(kind: str) -> bool:
    """Whether np.errstate says that a nan or inf is no surprise."""
    settings = np.geterr()
    return "ignore" in ([settings["invalid"]] if kind == "nan" else [settings["divide"], settings["over"]])


def _not_finite(
    who: str, kind: str, index: tuple[int, ...], inputs: Mapping[str, Any], line: str
) -> FloatingPointError:
    for what, value in inputs.items():
        if any(np.isnan(array).any() for array in _floats(value)):
            return FloatingPointError(f"{who} passed on a nan that {what} holds, at index {index}, in {line}.")
    return FloatingPointError(f"{who} made the first {kind}, at index {index}, in {line}.")


def _first_wrong(array: Array, inputs: Mapping[str, Any]) -> tuple[str, tuple[int, ...]] | None:
    """The kind and the index of the first nan or, if no input holds an inf that goes on, of the first inf."""
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return None
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
            yield leaf._data
        elif isinstance(leaf, (np.ndarray, np.generic, int, float, complex)):
            yield np.asarray(leaf)


def _floats(value: Any) -> Iterator[Array]:
    return (array for array in _arrays(value) if array.dtype.kind in "fc")


def _print(value: Any) -> int:
    """A number that tells, as surely as 64 bits can, whether any array in a structure has changed."""
    return hash(tuple(array.tobytes() for array in _arrays(value)))


def _read_only(value: Any) -> Any:
    """The same structure with views for arrays."""

    def view(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            x = x.view()
            x.flags.writeable = False
        return x

    return mapped(view, value)


# ------------------------------------------------------------------------------------------------- names and lines


def _written(function: Function | None, args: Sequence[Any]) -> str:
    """A call as one would write it, with dtypes and shapes for arrays: np.add(float64[3], 2)."""
    given = (f"{a.dtype}{list(a.shape)}" if isinstance(a, (Tensor, np.ndarray)) else reprlib.repr(a) for a in args)
    return f"{name_of(function or tensor.call)}({', '.join(given)})"


def _rule_of(node: Tensor, args: Sequence[Any], position: int) -> str:
    return f"the rule of {_written(node.function, args)} for its argument {position}"


def _line_of(args: Sequence[Any]) -> str:
    return args.line if isinstance(args, Remembered) else "a line outside of mg.debug()"


def users_line() -> str:
    """The innermost line of code that is neither ours nor NumPy's."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(_ROOMS):
        frame = frame.f_back
    path, number = frame.f_code.co_filename, frame.f_lineno
    source = linecache.getline(path, number).strip()
    return f"{path}:{number}" + (f", `{source}`" if source else "")
