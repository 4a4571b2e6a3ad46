"""What nobody chose contributes exactly nothing: `np.where(x > 0, np.sqrt(x), 0)` has the slope 0 at 0, not 0 * inf.

A gradient that holds a nan is computed again, with masks. A mask is true where an answer was chosen by every np.where,
maximum, index ... that it went through; what was not chosen has a gradient of 0, and 0 times an infinite derivative
must be 0. A zero that is a number, not a choice, does no such thing: its nan is real and stays.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence, Set
from typing import Any

import numpy as np

from minigrad.engine.backward import Call, Graph, fit, history, walk

from minigrad.engine.node import (  # isort: skip
    Array, Function, Node, Product, Selection, arrays_in, function_of, kwargs_of, vjps,
)  # fmt: skip
from minigrad.engine.switch import quietly, through


def backpropagate(
    root: Node, gradient: Any, targets: Set[Node] = frozenset(), recorded: bool = False, free: bool = False
) -> dict[Node, Any]:
    """The gradients of `root` with respect to the targets, or to all leaves that it was made of when there are none.

    `gradient` is the gradient of root itself. Plain arrays are shown to the rules, and arrays that nobody else has come
    out; when it is `recorded`, the rules are shown Tensors, record their own calls, and Tensors come out. `free` takes
    the graph apart.
    """
    return through("walk", walk_twice, root, gradient, targets, recorded, free)  # type: ignore[no-any-return]


def walk_twice(root: Node, gradient: Any, targets: Set[Node], recorded: bool, free: bool) -> dict[Node, Any]:
    """Walk back, and once more with masks where a gradient holds a nan and there were choices."""
    if not (targets or recorded) and (answers := at_once(root, gradient, free)):
        return answers
    graph = history(root, targets)
    if not may_choose(graph):
        return walk(graph, root, gradient, recorded, free)
    calls, answers = list(graph.calls), {}
    if not recorded:  # what is masked now must be masked in the next derivative, too
        answers = walk(graph, root, gradient)
    if recorded or quietly(any, map(has_nan, answers.values())):
        answers = walk(graph._replace(calls=list(calls)), root, gradient, recorded, step=Masks(root))
    if free:
        for node in calls:
            node.args = node._values = None
    return answers


def at_once(root: Any, gradient: Any, free: bool) -> dict[Node, Any] | None:
    """The gradients of a graph of one call with a joint rule, such as that of a checkpoint, without a walk."""
    rules, args = vjps.get(root.function), root.args or ()
    if rules is None or rules.joint is None or not rules.new or not len({*args}) == len(args) == len(root.tracked):
        return None
    if root._retains or any(leaf.function is not None or leaf.args or leaf._time > root._time for leaf in args):
        return None
    parts = quietly(lambda: rules.joint(gradient, root._array, *root._values, **root.kwargs))
    if any(part is None for part in parts):
        return None
    if root.kwargs.get("may_choose") and quietly(any, map(has_nan, parts)):
        return None
    if free:
        root.args = root._values = None
    return dict(zip(args, parts, strict=True))


def may_choose(graph: Graph) -> bool:
    """Whether some of the calls may leave numbers out."""
    if not vjps.choices.isdisjoint(map(function_of, graph.calls)):
        return True
    return any("where" in k or k.get("may_choose") for k in filter(None, map(kwargs_of, graph.calls)))


def has_nan(g: Any) -> bool:
    flat = (g._array if isinstance(g, Node) else g).ravel("K")
    return math.isnan(np.dot(flat, flat))  # squares cannot cancel: nan comes from nan alone


class Masks:
    """How rules are applied in a walk with masks: to those elements of an answer that were chosen."""

    def __init__(self, root: Node) -> None:
        self.masks: dict[Node, Any] = {root: np.ones(root._array.shape, bool)}

    def __call__(self, call: Call, position: int | None, rule: Function, g: Any) -> Any:
        mask = self.masks[call.node]
        if position is not None:
            part, mask = chosen(call, rule, mask, g)
            self.receive(call, position, mask)
            return part
        if masked := getattr(rule, "masked", None):
            return masked(g, call.ans, mask, self, **call.kwargs)
        parts = list(rule(g, call.ans, *call.values, **call.kwargs))
        for i, part in enumerate(parts):
            if part is not None:
                one = lambda *args, i=i, **kwargs: rule(*args, **kwargs)[i]
                parts[i], chosen_here = chosen(call, one, mask, g)
                self.receive(call, i, chosen_here)
        return parts

    def receive(self, call: Call, position: int, mask: Array) -> None:
        argument = call.args[position]
        if isinstance(argument, Node):
            mask = fit(mask.astype(argument._array.dtype), argument, call.node, position) > 0
            self.masks[argument] = self.masks[argument] | mask if argument in self.masks else mask


def chosen(call: Call, rule: Function, mask: Array, g: Any) -> tuple[Any, Any]:
    """What an argument receives from the elements of the answer that `mask` chooses, and where it receives anything."""
    function: Any = call.node.function
    values, kwargs, ans = call.values, call.kwargs, call.ans
    part = rule(g, ans, *values, **kwargs)
    arrays, answer, rules = arrays_in(values), arrays_in(ans), vjps[function]
    if isinstance(rules, Selection):
        mask = rule(mask.astype(answer.dtype), answer, *arrays, **kwargs) != 0
    elif isinstance(rules, Product):
        # Each element of part is a sum. It is taken without the factors that are not finite, unless one of them
        # meets an element that was chosen. With ones for all factors, the rule counts who meets whom.
        seed = mask.astype(answer.dtype)
        wild = [~np.isfinite(array) for array in arrays]
        calm = rule(g, ans, *(np.where(w, 0, value) for w, value in zip(wild, values, strict=True)), **kwargs)
        met = rule(seed, answer, *(w.astype(answer.dtype) for w in wild), **kwargs)
        mask = rule(seed, answer, *map(np.ones_like, arrays), **kwargs) != 0
        part = np.where(met != 0, part, calm)
    elif not isinstance(function, np.ufunc) or function.signature:
        trial = not mask.all()
        mask = connected(rule, mask, answer, arrays, kwargs, part.shape) if trial else np.ones(part.shape, bool)
    return part if mask.all() else np.where(mask, part, 0), mask


def connected(
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

    seed = mask.astype(ans.dtype)
    zero, other = np.zeros((2, *shape), bool)
    for scale in (0, 0.3, 1, 3, -1):
        with contextlib.suppress(Exception):  # a rule may refuse numbers that the function never gives
            part = rule(drawn(seed, 0), drawn(ans, scale), *(drawn(value, scale) for value in values), **kwargs)
            zero |= part == 0
            other |= np.isfinite(part) & (part != 0)
    return np.asarray(mask.any() & (other | ~zero))
