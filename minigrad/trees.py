"""What things are made of: one walker for structures of arrays, and for all that an object holds.

A structure nests lists, tuples, dicts and dataclasses; it can be taken apart and built again (`flatten`). Any other
object can only be looked into (`named`), by its attributes.
"""

import copy
import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from itertools import islice
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from minigrad.engine import Tensor

PLAIN = {type(None), bool, int, float, str, frozenset}  # which hold nothing, as is quick to see


class Sealed:
    """What is nobody's business: `parts` finds nothing in it."""


def items(thing: Any) -> list[tuple[Any, Any]]:
    """What a list, tuple, deque, mapping or array holds, with the keys."""
    if isinstance(thing, np.ndarray):
        return [*enumerate(thing.flat)]
    return [*thing.items()] if isinstance(thing, Mapping) else [*enumerate(thing)]


def parts(thing: Any) -> list[tuple[Any, Any]]:
    """All that a thing is directly made of, with the keys: its items, and then its attributes.

    Functions, classes and (Python) modules are not looked into, but for those functions that hold something: bound
    methods and `functools.partial`.
    """
    if type(thing) in PLAIN or isinstance(thing, (Tensor, FunctionType, ModuleType, type, Sealed)):
        return []
    if isinstance(thing, MethodType):
        return [("self", thing.__self__)]
    if isinstance(thing, functools.partial):
        return [("func", thing.func), *items(thing.args), *items(thing.keywords)]
    slots = [slot for kind in type(thing).__mro__ for slot in vars(kind).get("__slots__", ()) if hasattr(thing, slot)]
    attributes = [*getattr(thing, "__dict__", {}).items(), *((slot, getattr(thing, slot)) for slot in slots)]
    holds_items = isinstance(thing, (list, tuple, deque, Mapping))
    holds_objects = isinstance(thing, np.ndarray) and thing.dtype.kind == "O"
    return [*items(thing), *attributes] if holds_items or holds_objects else attributes


def unwrapped(part: Any) -> Any:
    """The layer that a compiled one stands for, which adds nothing to the names; anything else as it is."""
    is_wrapper = "__wrapped__" in getattr(part, "__dict__", ()) and not isinstance(part, FunctionType)
    return part.__wrapped__ if is_wrapper else part


def named(thing: Any) -> Iterator[tuple[str, Any]]:
    """Everything that a thing is made of, itself first, each part once, with a name like `layers.0.weight`.

    >>> [name for name, _ in named({"a": [1.5], "b": "text"})]
    ['', 'a', 'a.0', 'b']
    """
    seen: set[int] = set()
    stack = [("", thing)]
    while stack:
        name, part = stack.pop()
        part = unwrapped(part)
        if id(part) not in seen:
            seen.add(id(part))
            yield name, part
            stack += [(f"{name}.{key}" if name else str(key), inner) for key, inner in reversed(parts(part))]


def part_named(thing: Any, name: str) -> Any:
    """The part that has a name, also where `named` gives it another, since it has several; None if there is none.

    >>> part_named({"a": [1.5, 2.5]}, "a.1")
    2.5
    """
    stack = [(thing, name)]
    while stack:
        whole, rest = stack.pop()
        for key, part in parts(unwrapped(whole)):
            if rest == str(key):
                return unwrapped(part)
            if not str(key) or rest.startswith(f"{key}."):
                stack.append((part, rest[len(str(key)) + 1 :] if str(key) else rest))
    return None


def put_part(thing: Any, key: Any, part: Any) -> None:
    """Let a thing hold another part where `parts` has a key; in a tuple, nothing can be put."""
    has_items = isinstance(thing, (list, deque)) and isinstance(key, int)
    if isinstance(thing, np.ndarray):
        thing[np.unravel_index(key, thing.shape)] = part
    elif has_items or (isinstance(thing, MutableMapping) and key in thing):
        thing[key] = part
    else:
        object.__setattr__(thing, key, part)  # also where it is a frozen dataclass


def leaves(arguments: Any) -> Iterator[Any]:
    """What is not a list, tuple or dict among the arguments of a call, in which only these three are looked into."""
    if isinstance(arguments, (list, tuple, dict)):
        for part in arguments.values() if isinstance(arguments, dict) else arguments:
            yield from leaves(part)
    else:
        yield arguments


class Whole:
    """What is one thing with an identity of its own, also where it is a list or a dataclass, as a model may be."""


def branches(tree: Any) -> list[tuple[Any, Any]] | None:
    """What a structure is directly made of, with the keys; None for a leaf."""
    if tree is None:
        return []
    if isinstance(tree, (list, tuple, dict)) and not isinstance(tree, Whole):
        return items(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, (type, Whole)):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    return None


def aligned(tree: Any, other: Any, name: str = "") -> list[Any]:
    """The leaves of `other` in the order of those of `tree`: its types, keys and nesting must be the same.

    Raises ValueError that names the place where they are not, after the `name` of the whole.

    >>> aligned({"a": 1, "b": [2, 3]}, {"b": [5, 6], "a": 4})
    [4, 5, 6]
    """
    found, others = branches(tree), branches(other)
    if found is None and others is None:
        return [other]
    parts, wanted = dict(others or ()), dict(found or ())
    if type(tree) is not type(other) or parts.keys() != wanted.keys():
        came, want = (
            type(x).__name__ + (f" of {', '.join(map(repr, its))}" if its else "")
            for x, its in ((other, parts), (tree, wanted))
        )
        raise ValueError(f"{name or 'the structure'} is a {came}, where a {want} is wanted: give it the same structure")
    return [leaf for key, part in wanted.items() for leaf in aligned(part, parts[key], f"{name}[{key!r}]")]


def flatten(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The leaves of a structure, and the function that builds the same structure with other leaves.

    None has no leaves, and what is `Whole` is a leaf.

    >>> found, rebuild = flatten({"a": 1.5, "b": (2.5, None)})
    >>> found, rebuild([3, 4])
    ([1.5, 2.5], {'a': 3, 'b': (4, None)})
    """
    if (parts := branches(tree)) is None:
        return [tree], lambda leaves: leaves[0]
    flat = [(key, *flatten(part)) for key, part in parts]

    def rebuild(leaves: Sequence[Any]) -> Any:
        rest = iter(leaves)
        return refilled(tree, {key: build(list(islice(rest, len(found)))) for key, found, build in flat})

    return [leaf for _, found, _ in flat for leaf in found], rebuild


def refilled(tree: Any, branches: dict[Any, Any]) -> Any:
    """A list, tuple, dict or dataclass of the same type with other branches; None has none."""
    if tree is None or type(tree) is dict:
        return None if tree is None else branches
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*branches.values())
    if isinstance(tree, (list, tuple)):
        return type(tree)([*branches.values()])
    other = copy.copy(tree)  # without a call of its constructor, which may check what it is given
    if isinstance(tree, dict):
        other.update(branches)
    else:
        for name, value in branches.items():
            object.__setattr__(other, name, value)  # also where the dataclass is frozen
    return other
