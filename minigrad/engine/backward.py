"""The walk back: from the youngest call to the oldest, every argument receives what the table says."""

from __future__ import annotations

import functools
from collections.abc import Callable, Set
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from minigrad.engine.messages import as_array, changed, freed, said
from minigrad.engine.node import Args, Kwargs, Node, time_of, vjps
from minigrad.engine.switch import quietly, set_recording


class Graph(NamedTuple):
    """What a walk goes through: calls, the oldest first, to the leaves; or to targets, which `only` are wanted then."""

    calls: list[Any]
    leaves: list[Any]
    only: bool


class Call(NamedTuple):
    """A call as its rules are shown it: `values` and `ans` are arrays, or Tensors where the walk is recorded."""

    node: Node
    args: Args
    values: Args
    kwargs: Kwargs
    ans: Any


def history(root: Node, targets: Set[Node] = frozenset()) -> Graph:
    """All calls behind `root`, and the leaves; given targets, these and the calls between them and `root`.

    Raises RuntimeError where the graph was freed, or an argument has been changed since it was used.
    """
    oldest = min(map(time_of, targets), default=-1)  # what is older than all targets depends on none
    found, calls, leaves = {root}, list[Any](), list[Any]()
    (leaves if root.function is None or root in targets else calls).append(root)
    for node in calls:  # which grows on the way
        args, time = node.args, node._time
        if args is None:
            raise freed()
        for argument in args:
            if isinstance(argument, Node) and (argument._time > time or (argument.args and argument.function is None)):
                owners: Any = argument.args if argument.function is None else ()  # what it is a view of
                if max(map(time_of, (argument, *owners))) > time:
                    raise changed(node.function, argument)
        for position in node.tracked:
            argument = args[position]
            if argument not in found and argument._time >= oldest:
                found.add(argument)
                (leaves if argument.function is None or argument in targets else calls).append(argument)
    calls.sort(key=time_of)
    if targets:
        found = set(targets)
        for node in calls:
            if any(node.args[position] in found for position in node.tracked):
                found.add(node)
        calls, leaves = [node for node in calls if node in found], [node for node in leaves if node in targets]
    return Graph(calls, leaves, bool(targets))


def _walk(
    graph: Graph, root: Node, gradient: Any, recorded: bool = False, free: bool = False, step: Any = None
) -> dict[Node, Any]:
    """Pass the gradient of `root` back through the calls to the leaves; `graph.calls` is emptied.

    Returns their gradients, and those of answers that retain theirs: arrays that nobody else has, or Tensors where the
    walk is `recorded`. `free` takes the graph apart on the way. Where there is a `step`, rules are applied by it, as
    `step(call, position, rule, g)`; the position of a joint rule is None.
    """
    set_recording(recorded)
    (calls, leaves, only), gradients, kept = graph, {root: gradient}, dict[Node, Any]()
    wanted = {*calls, *leaves} if only else None  # None: every tracked argument receives its part
    owned = dict[Node, bool]()  # whether their gradient is an array that nobody else has
    while calls:
        node = calls.pop()
        g, rules = gradients.pop(node, None), vjps[node.function]
        owned.pop(node, None)  # it may be the last to hold the arrays of the node
        args, kwargs = node.args, node.kwargs
        values, ans = (args, node) if recorded else (node._values, node._array)
        if free:
            node.args = node._values = None
        if g is None:
            continue
        if node._retains and not recorded:
            kept[node] = np.array(g)
        joint, add, is_new = rules.joint, rules.add, rules.new
        call: Any = step and Call(node, args, values, kwargs, ans)
        if joint:
            rules = step(call, None, joint, g) if step else joint(g, ans, *values, **kwargs)
        for position in node.tracked:
            argument = args[position]
            if wanted is not None and argument not in wanted:
                continue
            if add and owned.get(argument) and not (recorded or step):
                add(gradients[argument], g, *values)
                continue
            if position >= len(rules):
                raise NotImplementedError(said("no rule", node.function, count=len(rules), position=position))
            if (rule := rules[position]) is None:
                continue
            if joint or step:
                part = rule if joint else step(call, position, rule, g)
            else:
                part = rule(g, ans, *values, **kwargs) if kwargs else rule(g, ans, *values)
            array, is_own = argument._array, is_new or add is not None
            if getattr(part, "shape", None) != array.shape or part.dtype != array.dtype:
                part, is_own = fit(part, argument, node, position), array.ndim > 0  # 0-d, it may be no array
            if argument in gradients:
                part, is_own = gradients[argument] + part, array.ndim > 0
            gradients[argument], owned[argument] = part, is_own
    for leaf in leaves:
        g, array = gradients.get(leaf), leaf._array
        if g is None or not (recorded or (owned.get(leaf) and g.dtype == array.dtype)):
            g = np.zeros_like(array) if g is None else np.array(g, array.dtype)
        kept[leaf] = g
    return kept


walk: Callable[..., dict[Node, Any]] = functools.partial(quietly, _walk)  # an inf or nan shows in gradients


def fit(g: Any, argument: Node, answer: Node, position: int) -> Any:
    """Undo broadcasting and promotion: the gradient `g` gets the shape and the dtype of its argument.

    This happens here alone. An axis is summed away only where the answer has it, too: else the rule is wrong.
    """
    g, shape, dtype, full = as_array(g), argument._array.shape, argument._array.dtype, answer._array.shape
    if g.dtype.kind not in "biufc":
        came = g.item() if g.dtype == object and not g.ndim else g.dtype
        raise TypeError(said("no gradient came", answer.function, position=position, came=came))
    if g.dtype.kind == "c" != dtype.kind:  # a real argument has no imaginary part to change
        g = np.real(g)
    if g.shape == full != shape == full[1:]:  # (n, k) for (k,), as for every bias
        g = total(g, (0,))
    elif g.shape != shape:
        axes = zip_longest(g.shape[::-1], shape[::-1], full[::-1][: g.ndim], fillvalue=1)
        if g.ndim < len(shape) or any(n != m and (m != 1 or n != of_answer) for n, m, of_answer in axes):
            given = {"position": position, "came": g.shape, "shape": shape, "answer": full}
            raise ValueError(said("no shape", answer.function, **given))
        g = unbroadcast(g, shape)
    return g if g.dtype == dtype else g.astype(dtype)


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """The sum of `g` over the axes that broadcasting has added to `shape`, or stretched."""
    added = g.ndim - len(shape)
    g = total(g, tuple(i for i in range(g.ndim) if i < added or g.shape[i] != shape[i - added]))
    return g if g.shape == shape else np.reshape(g, shape)


def total(g: Any, axes: tuple[int, ...]) -> Any:
    """The sum along some axes; of many rows a product is faster, and rounds less."""
    if axes == (0,) and type(g) is np.ndarray and g.size > 4096 and g.dtype.char in "fd":
        return np.dot(np.ones(len(g), g.dtype), g.reshape(len(g), -1)).reshape(g.shape[1:])
    dtype = np.float32 if g.dtype == np.float16 else None  # half precision is too short to count to 2049
    return np.add.reduce(g, axis=axes, dtype=dtype)
