"""What the engine says when something is wrong: what came, what was wanted, and what to do about it."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from minigrad.engine.node import Function, Node

_OURS = tuple(f"{path}{os.sep}" for path in (Path(__file__).parents[1], Path(np.__file__).parent))


def name_of(function: Any) -> str:
    """The name by which a reader knows a function: `np.sin`, `np.add.reduce`, `getitem`."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, np.ufunc):
        return f"np.{owner.__name__}.{function.__name__}"
    name, module = getattr(function, "__name__", None) or repr(function), getattr(function, "__module__", None) or ""
    if isinstance(function, np.ufunc) or module == "numpy":
        return f"np.{name}"
    return f"np.{module[6:]}.{name}" if module.startswith("numpy.") else name


def users_line() -> str:
    """The innermost line of code that is neither this package's nor NumPy's, as `path:number` and its text."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    path, number = frame.f_code.co_filename, frame.f_lineno
    source = linecache.getline(path, number).strip()
    return f"{path}:{number}" + (f", `{source}`" if source else "")


def explained(error: Exception, function: Function, args: Sequence[Any]) -> Exception:
    """NumPy's complaint, with the shapes that it was given and the usual way out."""
    is_array = lambda a: isinstance(a, (Node, np.ndarray))
    given = [f"{type(a).__name__.lower()} {a.dtype}{list(a.shape)}" if is_array(a) else repr(a) for a in args]
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
    return kind(f"{name_of(function)}({', '.join(given)}): {error}.{hint}")


# ------------------------------------------------------------------------------------------------------- of calls

not_real = lambda function, dtype: TypeError(
    f"{name_of(function)} of a tensor that requires a gradient gave an answer of dtype {dtype}, and gradients are of "
    "real numbers: return an array of those, keep real and imaginary parts apart, or detach() the tensor first."
)
complex_given = lambda function: TypeError(
    f"{name_of(function)} takes Tensors of real numbers; of complex ones, pass t.data"
)
out_given = lambda function: TypeError(
    f"{name_of(function)} cannot write a Tensor into out=: an array keeps no history. Leave out= away and bind the "
    "result to a name (for `a += t`, write `a = a + t`)."
)
initial_given = lambda function: TypeError(
    f"{name_of(function)} takes a plain number as initial=, not a Tensor: combine the answer with it, as in "
    "np.sum(x) + initial or np.maximum(np.max(x), initial)."
)
options_given = lambda function, names: TypeError(
    f"{name_of(function)} of a Tensor does not take {', '.join(names)}=: where= would leave elements undefined, and "
    "the rest is about memory. To choose elements, write np.where(condition, f(x), y)."
)
unknown = lambda function: NotImplementedError(
    f"{name_of(function)} has no derivative in minigrad yet. One line adds it, with one rule for each argument: "
    f"minigrad.primitive(lambda g, ans, x: ...)({name_of(function)}), where the rule turns the gradient g of the "
    "answer ans into that of x. For its values alone, pass t.detach().data."
)

# ------------------------------------------------------------------------------------------------- of walks and rules

freed = lambda: RuntimeError(
    "this graph has been walked by backward() before, and was freed then. To walk it twice, say "
    "backward(retain_graph=True) the first time; to train, compute the loss anew in every step."
)
changed = lambda function, argument: RuntimeError(
    f"the {argument.dtype}{list(argument.shape)} tensor that {name_of(function)} used has been changed since then (by "
    "an optimizer step, load_state_dict or an assignment to .data), so the gradient would be wrong. Call backward() "
    "before the change, or compute the loss again after it."
)
misshapen = lambda function, position, came, wanted, answer: ValueError(
    f"rule {position} of {name_of(function)} returned a gradient of shape {came} for an argument of shape {wanted}, "
    f"with an answer of shape {answer}. A rule returns the argument's shape, or what broadcasting made of it; "
    "np.broadcast_to may help."
)
not_real_gradient = lambda function, position, g: TypeError(
    f"rule {position} of {name_of(function)} returned {'None' if g.dtype == object else 'complex numbers'}, and "
    "gradients are real. (A rule that is None stands for a derivative of zero.)"
)


def no_rule(node: Node, count: int, position: int) -> NoReturn:
    raise NotImplementedError(
        f"{name_of(node.function)} has {count} rules, so none for its argument {position}, which needs a gradient. Add "
        "one, or None if the derivative is zero."
    )
