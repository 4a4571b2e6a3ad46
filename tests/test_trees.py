"""Taking structures apart, and giving names to all that an object holds."""

import functools
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest

from minigrad.trees import Whole, flatten, leaves, named

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
