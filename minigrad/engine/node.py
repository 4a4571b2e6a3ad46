"""A node of the graph, an array plus the call that made it; and the tables that say what a call may be.

    vjps         function -> its rules
    composites   function -> the same, spelled with others; looked up first; may `call` a form with rules (np.where)
    constants    functions without a derivative (comparisons, shapes, indices): plain arrays come out
    refusals     functions that have none for a reason, with that reason
    shortcuts    function -> one that gives the same up to rounding, and suits programs
    latecomers   functions that are called where a function stands in none of these, and may add to them

The graph has one invariant: a call is younger than its arguments. Every node carries the time at which its numbers were
written, so sorting by time is a topological sort, and an argument younger than the call that used it has been changed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Function: TypeAlias = Callable[..., Any]
Args: TypeAlias = Sequence[Any]
Kwargs: TypeAlias = dict[str, Any]


class Rules(tuple["Function | None", ...]):
    """A rule for each argument, `rule(g, ans, *args, **kwargs)`, which says what the argument receives when the answer
    `ans` receives the gradient `g`, or None, for zero; or one `joint` rule, which says what all of them receive.

    `add(total, g, *args)` does in place what `total += rule(g, ans, *args)` does, where that is quicker. A joint rule
    with a method `masked(g, ans, mask, masks, **kwargs)` knows how to walk with masks; see `branches`. The `kind` is

        "product"      of a sum of products with one factor from each argument; so are the gradients: new arrays
        "selection"    where elements of the answer are sums of elements of the argument, without weights
        "choice"       of a selection that leaves some elements of the argument out
    Rules that do nothing but to put the numbers of the gradient, or sums, somewhere into new memory say `places`.
    """

    def __new__(cls, *rules: Any, joint: Any = None, add: Any = None, kind: str = "", places: bool = False) -> Any:
        self: Any = super().__new__(cls, rules)
        self.joint, self.add, self.kind, self.places = joint, add, kind, places
        self.new = places or kind == "product"  # whether what they return is memory that nobody else has
        return self


Product, Selection, Choice = (functools.partial(Rules, kind=kind) for kind in ("product", "selection", "choice"))


class Table(dict[Function, Any]):
    """Rules by their function, where a tuple becomes Rules; and which functions are choices."""

    choices: ClassVar[set[Function]] = set()

    def __setitem__(self, function: Function, rules: Sequence[Function | None]) -> None:
        super().__setitem__(function, rules if isinstance(rules, Rules) else Rules(*rules))
        (self.choices.add if self[function].kind == "choice" else self.choices.discard)(function)


vjps = Table()
composites: dict[Function, Function] = {}
constants: set[Function] = set()
refusals: dict[Function, str] = {}
shortcuts: dict[Function, Function] = {}
latecomers: list[Callable[[], Any]] = []

now = itertools.count().__next__
NO_KWARGS: Kwargs = {}

# glibc gives freed memory back to the system, and the page faults of getting it again cost as much as the arithmetic of
# a training step. Once a large block was freed, it keeps what is freed after that (mallopt(3), M_MMAP_THRESHOLD).
np.empty(2**24, np.uint8)


class Node:
    """An array, its gradient, and the call that made it: `function(*args, **kwargs)`; a leaf has no function."""

    __slots__ = (
        "__weakref__", "_array", "_grad", "_requires_grad", "_retains", "_time", "_values",
        "args", "function", "kwargs", "tracked",
    )  # fmt: skip

    kind: ClassVar[type[Node]]  # what the answers of calls are: Tensors
    _array: Array
    _time: int  # when the numbers were written
    _requires_grad: bool
    _grad: Array | None
    _retains: bool  # whether backward() puts the gradient into `_grad`; of a frozen leaf, True as before
    function: Function | None
    args: Args | None  # of a call: None once freed; of a leaf: the leaves whose memory it shares
    kwargs: Kwargs
    tracked: Sequence[int]  # the positions of those arguments that required a gradient when the call was made
    _values: Args | None  # of a call: `args` with arrays for nodes, as its function was given them


array_of, time_of, requires_grad_of, retains = map(attrgetter, ("_array", "_time", "_requires_grad", "_retains"))
function_of, kwargs_of, grad_of = map(attrgetter, ("function", "kwargs", "_grad"))
number_of: Function = lambda leaf: leaf._array.item()  # as Python has it, which takes part in no promotion
has_node: Function = lambda values: True in [isinstance(value, Node) for value in values]  # twice as fast as any()
given_or_one: Function = lambda g, root: np.array(1, root._array.dtype, ndmin=root._array.ndim) if g is None else g


def mapped(change: Function, value: Any) -> Any:
    """The same structure of lists, tuples and dicts, with what `change` makes of all else."""
    if isinstance(value, (list, tuple)):
        return type(value)([mapped(change, item) for item in value])
    return {key: mapped(change, item) for key, item in value.items()} if isinstance(value, dict) else change(value)


def arrays_in(value: Any, of: Function = array_of) -> Any:
    """The same structure with arrays for nodes."""
    return mapped(lambda x: of(x) if isinstance(x, Node) else x, value)
