"""What nobody chose contributes exactly nothing: `np.where(x > 0, np.sqrt(x), 0)` has the slope 0 at 0, not 0 * inf.

A gradient that holds a nan is computed again, with masks. A mask is true where an answer was chosen by every np.where,
maximum, index ... that it went through; what was not chosen has a gradient of 0, and 0 times an infinite derivative
must be 0. A zero that is a number, not a choice, does no such thing: its nan is real and stays.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Set
from typing import Any

import numpy as np

from minigrad.engine.backward import Call, Graph, fit, history, walk
from minigrad.engine.node import Array, Function, Node, arrays_in, function_of, given_or_one, kwargs_of, vjps
from minigrad.engine.switch import quietly, through


def backpropagate(
    root: Node, gradient: Any = None, targets: Set[Node] = frozenset(), recorded: bool = False, free: bool = False
) -> dict[Node, Any]:
    """The gradients of `root` with respect to the targets, or to all leaves that it was made of when there are none.

    `gradient` is that of root itself, by default 1. Rules are shown arrays, and arrays that nobody else has come out;
    or when it is `recorded`, Tensors, and record their own calls. `free` takes the graph apart.
    """
    return through("walk", walk_twice, root, gradient, targets, recorded, free)  # type: ignore[no-any-return]


def walk_twice(root: Node, gradient: Any, targets: Set[Node], recorded: bool, free: bool) -> dict[Node, Any]:
    """Walk back, and once more with masks where a gradient holds a nan and there were choices."""
    gradient = given_or_one(gradient, root)
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
    rules, args = vjps.get(root.function), root.args
    if args is None or rules is None or rules.joint is None or not rules.new or root._retains:
        return None
    distinct = len({*args}) == len(args) == len(root.tracked)
    if not distinct or any(leaf.function is not None or leaf.args or leaf._time > root._time for leaf in args):
        return None
    parts = quietly(lambda: rules.joint(gradient, root._array, *root._values, **root.kwargs))
    if any(part is None for part in parts) or (root.kwargs.get("may_choose") and quietly(any, map(has_nan, parts))):
        return None
    if free:
        root.args = root._values = None
    return dict(zip(args, parts, strict=True))


def may_choose(graph: Graph) -> bool:
    """Whether some of the calls may leave out numbers that have slopes."""
    calls = list(itertools.dropwhile(lambda node: vjps[node.function].places, graph.calls))
    options = filter(None, map(kwargs_of, calls))
    chosen_by_function = not vjps.choices.isdisjoint(map(function_of, calls))
    return chosen_by_function or any("where" in k or k.get("may_choose") for k in options)


def has_nan(g: Any) -> bool:
    flat = (g._array if isinstance(g, Node) else g).ravel("K")
    return math.isnan(np.vdot(flat, flat).real)  # squares cannot cancel: nan comes from nan alone


class Masks:
    """How rules are applied in a walk with masks: to those elements of an answer that were chosen."""

    def __init__(self, root: Node) -> None:
        self.masks: dict[Node, Any] = {root: np.ones(root._array.shape, bool)}

    def __call__(self, call: Call, position: int | None, rule: Function, g: Any) -> Any:
        if position is None:
            if masked := getattr(rule, "masked", None):
                return masked(g, call.ans, self.masks[call.node], self, **call.kwargs)
            return [
                part if part is None else self(call, i, lambda *args, i=i, **kwargs: rule(*args, **kwargs)[i], g)
                for i, part in enumerate(rule(g, call.ans, *call.values, **call.kwargs))
            ]
        argument = call.args[position]
        part, mask = chosen(call, rule, self.masks[call.node], g)
        if isinstance(argument, Node):
            mask = fit(mask.astype(argument._array.dtype), argument, call.node, position) > 0
            self.masks[argument] = self.masks[argument] | mask if argument in self.masks else mask
        return part


def chosen(call: Call, rule: Function, mask: Array, g: Any) -> tuple[Any, Any]:
    """What an argument receives from the elements of the answer that `mask` chooses, and where it receives anything."""
    function: Any = call.node.function
    values, kwargs, ans = call.values, call.kwargs, call.ans
    part = rule(g, ans, *values, **kwargs)
    arrays, answer, kind = arrays_in(values), arrays_in(ans), vjps[function].kind
    seed = mask.astype(answer.dtype)
    if kind in ("selection", "choice"):
        mask = rule(seed, answer, *arrays, **kwargs) != 0
    elif kind == "product":
        # Each element of part is a sum. It is taken without the factors that are not finite, unless one of them
        # meets an element that was chosen. With ones for all factors, the rule counts who meets whom.
        wild = [~np.isfinite(array) for array in arrays]
        calm = rule(g, ans, *(np.where(w, 0, value) for w, value in zip(wild, values, strict=True)), **kwargs)
        met = rule(seed, answer, *(w.astype(answer.dtype) for w in wild), **kwargs)
        mask = rule(seed, answer, *map(np.ones_like, arrays), **kwargs) != 0
        part = np.where(met != 0, part, calm)
    elif not isinstance(function, np.ufunc) or function.signature:
        trial = not mask.all()
        mask = connected(rule, seed, answer, arrays, kwargs, part.shape) if trial else np.ones(part.shape, bool)
    return part if mask.all() else np.where(mask, part, 0), mask


def connected(rule: Function, seed: Array, ans: Array, values: Any, kwargs: Any, shape: tuple[int, ...]) -> Array:
    """Where an argument of this shape receives anything from those elements of the answer that are 1 in `seed`, not 0.

    It is found by trial: the rule is shown its numbers a little changed, then others drawn at random, small and large
    and of both signs. Where it returns zero and never another number, nothing connects the two; in doubt, all does.
    """
    rng = np.random.default_rng(0)

    def drawn(array: Any, scale: float) -> Any:
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fc":
            return array
        factors = np.asarray(rng.uniform(1, 2, array.shape), array.dtype)
        return factors * scale if scale else factors * array

    zero, other = np.zeros((2, *shape), bool)
    for scale in (0, 0.3, 1, 3, -1):
        with contextlib.suppress(Exception):  # a rule may refuse numbers that the function never gives
            part = rule(drawn(seed, 0), drawn(ans, scale), *(drawn(value, scale) for value in values), **kwargs)
            zero |= part == 0
            other |= np.isfinite(part) & (part != 0)
    return np.asarray(seed.any() & (other | ~zero))
