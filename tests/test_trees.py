"""Taking structures apart, and giving names to all that an object holds."""

import functools
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.trees import Whole, aligned, flatten, leaves, named

Pair = namedtuple("Pair", "left right")


@dataclass(frozen=True)
class Checked:
    """It cannot be made by its constructor, which is not called again."""

    part: Any

    def __post_init__(self) -> None:
        assert self.part == 1


@pytest.mark.parametrize(
    ("tree", "wanted"),
    [
        (1, 10),
        ([1, [2, ()]], [10, [20, ()]]),
        (Pair(1, (2, None)), Pair(10, (20, None))),
        ({"a": 1, 3: {"b": 2}}, {"a": 10, 3: {"b": 20}}),
        (OrderedDict(b=1, a=2), OrderedDict(b=10, a=20)),
        (MappingProxyType({"a": 1}), 10),
        (Checked, 10),
    ],
    ids=repr,
)
def test_structures_are_built_again_with_other_leaves(tree: Any, wanted: Any) -> None:
    found, rebuild = flatten(tree)
    other = rebuild([10, 20][: len(found)])
    assert (type(other), other) == (type(wanted), wanted)


@dataclass
class Point:
    x: Any
    y: Any


@dataclass
class Vector:
    y: Any
    x: Any


ALIGNED: list[tuple[Any, Any, Any]] = [  # a structure, another one, and its leaves in the order of the first, or words
    (1, 4, [4]),
    ([1, (2, 3)], [4, (5, 6)], [4, 5, 6]),
    ({"a": 1, "b": 2}, {"b": 5, "a": 4}, [4, 5]),
    ({"a": {"c": 1, "d": 2}, "b": [3]}, {"b": [6], "a": {"d": 5, "c": 4}}, [4, 5, 6]),
    (OrderedDict(a=1, b=2), OrderedDict(b=5, a=4), [4, 5]),
    (Point(1, [2]), Point(4, [5]), [4, 5]),
    (Pair(1, None), Pair(4, None), [4]),
    ({"a": 1, "b": 2}, {"a": 4, "c": 5}, "whole is a dict of 'a', 'c', where a dict of 'a', 'b' is wanted"),
    ({"a": 1, "b": 2}, {"a": 4}, "whole is a dict of 'a', where a dict of 'a', 'b'"),
    ([1, 2], (4, 5), "whole is a tuple of 0, 1, where a list of 0, 1"),
    ([1, 2], [4, 5, 6], "whole is a list of 0, 1, 2, where a list of 0, 1"),
    ([1, 2], {0: 4, 1: 5}, "whole is a dict of 0, 1, where a list of 0, 1"),
    ({"a": [1, 2]}, {"a": (4, 5)}, r"whole\['a'\] is a tuple of 0, 1, where a list of 0, 1"),
    ([[1], 2], [4, [5]], r"whole\[0\] is a int, where a list of 0"),
    ([1, 2], 4, "whole is a int, where a list of 0, 1"),
    (1, [4], "whole is a list of 0, where a int"),
    ([1, None], [4, 5], r"whole\[1\] is a int, where a NoneType"),
    ([1, 2], [4, None], r"whole\[1\] is a NoneType, where a int"),
    (Pair(1, 2), (4, 5), "whole is a tuple of 0, 1, where a Pair"),
    (OrderedDict(a=1), {"a": 4}, "whole is a dict of 'a', where a OrderedDict"),
    (Point(1, 2), Vector(4, 5), "whole is a Vector of 'y', 'x', where a Point of 'x', 'y'"),
    ({1: 1}, {"1": 4}, "whole is a dict of '1', where a dict of 1"),
]


@pytest.mark.parametrize(("tree", "other", "wanted"), ALIGNED, ids=repr)
def test_leaves_are_matched_by_their_keys_in_the_same_structure(tree: Any, other: Any, wanted: Any) -> None:
    if isinstance(wanted, list):
        assert aligned(tree, other) == wanted
    else:
        with pytest.raises(ValueError, match=wanted):
            aligned(tree, other, "whole")


TREES = st.recursive(
    st.integers() | st.none(),
    lambda parts: (
        st.lists(parts, max_size=3) | st.tuples(parts, parts) | st.dictionaries(st.sampled_from("abcd"), parts)
    ),
    max_leaves=8,
)


def turned_round(tree: Any) -> Any:
    """The same structure, with the items of dicts in the other order."""
    if isinstance(tree, dict):
        return {key: turned_round(tree[key]) for key in reversed(tree)}
    return type(tree)(map(turned_round, tree)) if isinstance(tree, (list, tuple)) else tree


@given(TREES)
def test_the_order_of_keys_does_not_matter(tree: Any) -> None:
    assert aligned(tree, turned_round(tree)) == flatten(tree)[0]
    assert aligned(turned_round(tree), tree) == flatten(turned_round(tree))[0]


def test_a_dataclass_is_built_without_its_constructor() -> None:
    found, rebuild = flatten(tree := Checked(1))
    assert (found, rebuild([2]).part, tree.part) == ([1], 2, 1)


def test_things_to_be_left_whole_are_leaves() -> None:
    class Layers(Whole, list[int]):
        """A list that is one thing."""

    layers = Layers([1, 2])
    found, rebuild = flatten([layers, {"a": 3}])
    assert found[0] is layers
    assert found[1] == 3
    assert rebuild(found)[0] is layers


def test_a_structure_is_built_as_it_was_when_it_was_taken_apart() -> None:
    tree = {"a": [1]}
    _, rebuild = flatten(tree)
    tree["a"].append(2)
    tree["b"] = [3]
    assert rebuild([4]) == {"a": [4]}


def test_arguments_are_looked_for_in_lists_tuples_and_dicts_alone() -> None:
    assert list(leaves(([1, (2,)], {"a": None, "b": Checked(1)}))) == [1, 2, None, Checked(1)]


def test_named_yields_everything_once_the_object_itself_first() -> None:
    shared = [1.5]
    found = list(named({"a": shared, "b": (shared, "end")}))
    assert [name for name, _ in found] == ["", "a", "a.0", "b", "b.1"]


def test_functions_that_hold_something_are_looked_into() -> None:
    found = dict(named(functools.partial(Checked(1).__eq__, 2, other=3)))
    assert [*found] == ["", "func", "func.self", "func.self.part", "0", "other"]
