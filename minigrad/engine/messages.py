"""What the engine refuses, and what it says: what came, what was wanted, and what to do about it."""

from __future__ import annotations

import linecache
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.engine.node import Args, Function, Kwargs, Node

OURS = tuple(f"{path}{os.sep}" for path in (Path(__file__).parents[1], Path(np.__file__).parent))
KINDS = (np.linalg.LinAlgError, np.exceptions.AxisError, IndexError, ValueError, TypeError)

elsewhere: dict[str, str] = {}  # keywords that NumPy's functions have in other libraries, and what to write for them
TEXTS = {
    "elsewhere": "{name} has no {came}=: write {instead}.",
    "matmul": "The last axis of the first must be as long as the second-last, or only, one of the second: try .T of "
    "one.",
    "broadcast": "Axes are aligned from the last and must be equal or 1: insert one with x[:, None] or reshape.",
    "no floats": "{name} of a tensor that requires a gradient gave an answer of dtype {dtype}, and gradients are of "
    "numbers: return an array of those, or detach() the tensor first.",
    "not real": "backward() starts at a real number, and this one is {dtype}: take np.real(t) or np.abs(t) first, or "
    "say backward(gradient).",
    "out": "{name} cannot write a Tensor into out=: an array keeps no history. Leave out= away and bind the result to "
    "a name (for `a += t`, write `a = a + t`).",
    "initial": "{name} takes a plain number as initial=, not a Tensor: combine the answer with it, as in np.sum(x) + "
    "initial or np.maximum(np.max(x), initial).",
    "options": "{name} of a Tensor does not take {options}=: where= would leave elements undefined, and the rest is "
    "about memory. To choose elements, write np.where(condition, f(x), y).",
    "unknown": "{name} has no derivative in minigrad yet. One line adds it, with one rule for each argument: "
    "minigrad.primitive(lambda g, ans, x: ...)({name}), where the rule turns the gradient g of the answer ans into "
    "that of x. For its values alone, pass t.detach().data.",
    "masked": "a masked array cannot meet a Tensor, which has no mask: fill it with masked.filled(value), and choose "
    "elements with np.where(mask, a, b) or a sum with where=.",
    "matrix": "np.matrix multiplies unlike other arrays, and unlike Tensors: make it one of them by np.asarray(m), and "
    "write m @ t for a product of matrices.",
    "no numbers": "a Tensor holds numbers, and this is {dtype}: convert it, as with np.asarray(values, dtype=float).",
    "not floating": "only floating tensors can require a gradient, and this one is {dtype}: convert it first, for "
    "instance with Tensor(np.asarray(values, dtype=float), requires_grad=True).",
    "no leaf": "the result of {name} cannot {what}, only leaves (inputs, parameters) can: make a Tensor, or detach().",
    "other form": "{what} of {came} does not fit a tensor of {form}: reshape or convert it, or make a new Tensor.",
    "in place": "a Tensor cannot be changed in place, since the graph still needs its numbers. Make a new one: t = "
    "minigrad.put(t, index, value), or np.where(condition, value, t).",
    "truth": "a tensor of shape {shape} is not true or false: say np.any(t), np.all(t), or np.where(condition, a, b).",
    "history": "turning a Tensor that requires a gradient into {what} would lose its history in silence: write "
    "t.detach() or t.item() where it may. To keep it: np.stack for several tensors, array @ t for array.dot(t), "
    "np.exp(t) for math.exp(t), z = minigrad.put(z, i, t) for z[i] = t, masked.filled(value) for a masked array.",
    "copied": "only leaf tensors can be copied (plt.plot does) or pickled, without their history: use t.detach().",
    "flag": "requires_grad is True or False, and not {came!r}: for another dtype, write Tensor(np.asarray(values, "
    "dtype)).",
    "no gradient": "{what}() of a tensor that requires no gradient: nothing it was made of requires one, or it was "
    "made inside no_grad() or detached. Give the inputs requires_grad=True.",
    "no number": "backward() starts at a single number, and this tensor has shape {shape}: reduce it first (loss = "
    "y.sum()), or say backward(gradient) with an array of that shape.",
    "freed": "this graph has been walked by backward() before, and was freed then. To walk it twice, say "
    "backward(retain_graph=True) the first time; to train, compute the loss anew in every step.",
    "changed": "the {dtype}{shape} tensor that {name} used has been changed since then (by an optimizer step, "
    "load_state_dict or an assignment to .data): call backward() before that, or compute the loss again after it.",
    "no rule": "{name} has {count} rules, so none for its argument {position}: add one, or None for a zero derivative.",
    "no shape": "rule {position} of {name} returned a gradient of shape {came} for an argument of shape {shape}, with "
    "an answer of shape {answer}: return the argument's shape, or what broadcasting (np.broadcast_to) made of it.",
    "no gradient came": "rule {position} of {name} returned {came}, and gradients are numbers (None as rule is zero).",
    "generator": "{name} is a generator function: between two yields, what is switched for it would stay switched for "
    "its caller. Write a `with` block inside it that ends before the next yield.",
}


said = lambda key, function=None, **given: TEXTS[key].format(name=name_of(function), **given)
freed = lambda: RuntimeError(said("freed"))
changed = lambda function, x: RuntimeError(said("changed", function, dtype=x.dtype, shape=list(x.shape)))


def explained(error: Exception, function: Function, args: Args) -> Exception:
    """NumPy's complaint, with the shapes that it was given and the usual way out."""
    is_array = lambda a: isinstance(a, (Node, np.ndarray))
    given = [f"{type(a).__name__.lower()} {a.dtype}{list(a.shape)}" if is_array(a) else repr(a) for a in args]
    key = "matmul" if function is np.matmul else "broadcast" if "broadcast" in str(error) else ""
    kind = next(kind for kind in KINDS if isinstance(error, kind))
    return kind(f"{name_of(function)}({', '.join(given)}): {error}.{key and ' ' + TEXTS[key]}")


def known_here(function: Function, kwargs: Kwargs) -> Kwargs:
    """The keywords of a call, unless one is what other libraries have for one of NumPy's: then a TypeError."""
    if (came := next(iter(elsewhere.keys() & kwargs), None)) and name_of(function).startswith("np."):
        raise TypeError(said("elsewhere", function, came=came, instead=elsewhere[came]))
    return kwargs


def refuse(kind: type) -> Any:
    """Raise for types of arrays that would lose in silence what they mean: masks, and products by `*`."""
    if issubclass(kind, np.ndarray) and issubclass(kind, (np.ma.MaskedArray, np.matrix)):
        raise TypeError(TEXTS["masked" if issubclass(kind, np.ma.MaskedArray) else "matrix"])


def as_array(x: Any) -> Any:
    """A Tensor as it is, and all else as an array; refused is what would lose in silence what it means."""
    if type(x) is np.ndarray or isinstance(x, Node):
        return x
    refuse(type(x))
    if isinstance(x, (list, tuple)):
        any(map(refuse, {*map(type, x)}))
    return np.asarray(x)


def name_of(function: Any) -> str:
    """The name by which a reader knows a function: `np.sin`, `np.add.reduce`, `getitem`."""
    if isinstance(owner := getattr(function, "__self__", None), np.ufunc):
        return f"{name_of(owner)}.{function.__name__}"
    name, module = getattr(function, "__name__", None) or repr(function), getattr(function, "__module__", None) or ""
    if isinstance(function, np.ufunc):  # they do not all tell where they are from, so see who has them
        if getattr(np, name, None) is function:
            return f"np.{name}"
        there = [place for place, its in [*sys.modules.items()] if getattr(its, "__dict__", {}).get(name) is function]
        homes = [place.partition("._")[0] for place in there if "._" in place]  # scipy.special of scipy.special._ufuncs
        homes = [place for place in homes if place in there] or [place for place in there if "._" not in f".{place}"]
        return f"{min(homes, key=len)}.{name}" if homes else name
    return f"np{module[5:]}.{name}" if module.partition(".")[0] == "numpy" else name


def users_line() -> str:
    """The innermost line of code that is neither this package's nor NumPy's, as `path:number` and its text."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(OURS):
        frame = frame.f_back
    path, number = frame.f_code.co_filename, frame.f_lineno
    source = linecache.getline(path, number).strip()
    return f"{path}:{number}" + (f", `{source}`" if source else "")
