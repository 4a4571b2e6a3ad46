"""What compiled functions close over and are given in these tests, and how they are compared with eager ones."""

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from test_compile import weighted

import minigrad as mg
from minigrad import nn
from minigrad.trees import leaves

Row = tuple[Any, ...]  # how a thing is made, the function of x that uses it, and how it changes then


def tensor(data: Any) -> mg.Tensor:
    return mg.Tensor(data, requires_grad=True)


class Thing:
    """An object of a class of one's own."""

    factor = 1.0

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    @property
    def double(self) -> Any:
        return 2 * self.factor

    @classmethod
    def by_class(cls, x: Any) -> Any:
        return x * cls.factor

    def scaled(self, x: Any) -> Any:
        return x * self.factor

    def __call__(self, x: Any) -> Any:
        return np.sin(x) * self.factor

    def counted(self, x: Any) -> Any:
        self.tally += 1
        return x * 2

    def remembered(self, x: Any) -> Any:
        self.latest = x * 2
        return self.latest


class Inherited(Thing):
    def scaled(self, x: Any) -> Any:
        return super().scaled(x) / 2


class Slots:
    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor


class Bag:
    """A container of one's own."""

    def __init__(self, *items: Any) -> None:
        self.items = list(items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __contains__(self, item: Any) -> bool:
        return item in self.items


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        self.factor, self.weight = factor, tensor([1.0, 2.0, 3.0])

    def forward(self, x: Any) -> Any:
        return x * self.weight * (self.factor if self.training else 1)


class Variable:
    """A variable outside of the function `f`, which `set` assigns anew."""

    def __init__(self, value: Any) -> None:
        def assign(new: Any) -> None:
            nonlocal value
            value = self.value = new

        self.value, self.set = value, assign
        self.f = lambda x: value(x) if callable(value) else x * value


def module(**names: Any) -> ModuleType:
    """A Python module with these global names, and functions that use them."""
    made = ModuleType("settings")
    vars(made).update(names)
    exec("def scaled(x): return x * factor\n", vars(made))
    exec("def counted(x):\n    global tally\n    tally += 1\n    return x * 2\n", vars(made))
    return made


def marked(**attributes: Any) -> Any:
    """A function with attributes."""
    function = lambda: None
    vars(function).update(attributes)
    return function


def wrapping(function: Any, thing: Any) -> Any:
    """A function around another, which uses something that the other does not."""

    @functools.wraps(function)
    def wrapper(x: Any) -> Any:
        return function(x) * thing.factor

    return wrapper


def local(**attributes: Any) -> Any:
    """An object of a class of which there is no other, with attributes of the class."""
    return type("Local", (Thing,), attributes)()


def sets(**attributes: Any) -> Callable[[Any], None]:
    def change(thing: Any) -> None:
        for name, value in attributes.items():
            setattr(thing, name, value)

    return change


def writes(numbers: Any) -> Callable[[Any], None]:
    def change(array: Any) -> None:
        array[...] = numbers

    return change


def measured(f: Callable[..., Any], thing: Any) -> list[Any]:
    """The number that `f` gives for x, and its gradients by x and by the parameters in a thing."""
    x, parameters = tensor([0.5, -1.5, 2.5]), nn.parameters(thing)
    for parameter in parameters:
        parameter.grad = None
    answer = f(x)
    if answer.requires_grad:
        answer.backward()
    return [answer.item(), x.grad, *(parameter.grad for parameter in parameters)]


def assert_close(found: Any, wanted: Any, tolerance: float = 1e-12) -> None:
    for a, b in zip(leaves(found), leaves(wanted), strict=True):
        if b is None or isinstance(b, str):
            assert type(a) is type(b)
            assert a == b
        else:
            assert np.shape(a) == np.shape(b)
            assert np.asarray(a).dtype.newbyteorder("=") == np.asarray(b).dtype.newbyteorder("=")
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def side_by_side(row: Row, calls: int = 2, tolerance: float = 1e-12) -> tuple[Any, list[Any]]:
    """Call a function of a row and a compiled twin after each change, and compare; the twin, and what it gave."""
    make, use, *changes = row
    things = make(), make()
    eager, compiled = use(things[0]), mg.compile(use(things[1]))
    found = []
    for change in (lambda thing: None, *changes):
        for thing in things:
            change(thing)
        for _ in range(calls):
            wanted = measured(weighted(eager), things[0])
            found.append(measured(weighted(compiled), things[1]))
            assert_close(found[-1], wanted, tolerance)
    return compiled, found
