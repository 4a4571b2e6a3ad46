"""Compiled functions follow the eager ones through all that they close over, or refuse to be compiled."""

import collections
import copy
import functools
import gc
import itertools
import os
import pickle
import random
import re
import runpy
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import profiles
import pytest
import test_compiler as checks
from test_compiler import LABELS, X, Y, network, weighted

import minigrad as mg
from minigrad import nn
from minigrad.compiler.trace import TraceError
from minigrad.trees import leaves

# ------------------------------------------------------------------------------------------- what users close over


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


# ------------------------------------------------------------------------------------------- what is read afresh
# Each row: how a thing is made, the function of x that uses it, and how it changes then.

Row = tuple[Any, ...]
use_factor = lambda t: lambda x: x * t.factor
to_three = sets(factor=3.0)
VARIABLES: dict[str, Row] = {
    "a float": (lambda: Variable(2.0), lambda v: v.f, lambda v: v.set(3.0), lambda v: v.set(2.0)),
    "an int": (lambda: Variable(2), lambda v: v.f, lambda v: v.set(3)),
    "an array": (lambda: Variable(np.ones(3)), lambda v: v.f, lambda v: v.set(np.array([1.0, 2.0, 3.0]))),
    "an array of another shape": (lambda: Variable(np.ones(3)), lambda v: v.f, lambda v: v.set(np.ones((2, 3)))),
    "a Tensor": (lambda: Variable(tensor(2.0)), lambda v: v.f, lambda v: v.set(tensor([1.0, 2.0, 3.0]))),
    "a Tensor for a float": (lambda: Variable(2.0), lambda v: v.f, lambda v: v.set(tensor(2.0)), lambda v: v.set(2.0)),
    "a function": (lambda: Variable(np.sin), lambda v: v.f, lambda v: v.set(np.cos), lambda v: v.set(lambda x: x * 2)),
    "an object": (lambda: Variable(Thing()), lambda v: v.f, lambda v: v.set(Thing(factor=2.0))),
    "a global": (lambda: module(factor=2.0), lambda m: m.scaled, to_three),
    "an attribute of a Python module": (lambda: module(factor=2.0), use_factor, to_three),
}
ATTRIBUTES: dict[str, Row] = {
    "a float": (lambda: Thing(factor=2.0), use_factor, to_three, sets(factor=2.0)),
    "a bool": (lambda: Thing(on=True), lambda t: lambda x: x * 2 if t.on else x, sets(on=False)),
    "a str": (lambda: Thing(kind="sin"), lambda t: lambda x: np.sin(x) if t.kind == "sin" else x, sets(kind="no")),
    "None": (lambda: Thing(bias=None), lambda t: lambda x: x if t.bias is None else x + t.bias, sets(bias=2.0)),
    "a tuple": (lambda: Thing(axes=(0,)), lambda t: lambda x: np.sum(x[None] * [[1], [2]], t.axes), sets(axes=(1,))),
    "the sign of zero": (lambda: Thing(sign=0.0), lambda t: lambda x: np.copysign(x, t.sign), sets(sign=-0.0)),
    "True for 1": (lambda: Thing(k=1), lambda t: lambda x: x * 2 if isinstance(t.k, bool) else x, sets(k=True)),
    "an array": (lambda: Thing(factor=np.ones(3)), use_factor, sets(factor=np.array([1.0, 2.0, 3.0]))),
    "a Tensor": (lambda: Thing(factor=tensor(2.0)), use_factor, sets(factor=tensor(3.0)), to_three),
    "an object": (lambda: Thing(part=Thing()), lambda t: lambda x: x * t.part.factor, sets(part=Thing(factor=2.0))),
    "one of a part": (lambda: Thing(part=Thing()), lambda t: lambda x: t.part.scaled(x), lambda t: to_three(t.part)),
    "one in a slot": (lambda: Slots(2.0), use_factor, to_three),
    "one of a class": (lambda: local(factor=2.0), use_factor, lambda t: to_three(type(t))),
    "one of a class method": (lambda: local(factor=2.0), lambda t: t.by_class, lambda t: to_three(type(t))),
    "one that hides another": (Thing, use_factor, to_three, lambda t: delattr(t, "factor")),
    "one of a function": (lambda: marked(factor=2.0), use_factor, to_three),
    "one of a property": (lambda: Thing(factor=2.0), lambda t: lambda x: x * t.double, to_three),
    "one of a method that is named": (lambda: Thing(factor=2.0), lambda t: lambda x: t.scaled(x), to_three),
    "one of a method that is replaced": (
        *(lambda: local(factor=2.0), lambda t: lambda x: t.scaled(x)),
        lambda t: setattr(type(t), "scaled", lambda self, x: x - self.factor),
    ),
    "one of a bound method": (lambda: Thing(factor=2.0), lambda t: t.scaled, to_three),
    "one of an inherited method": (lambda: Inherited(factor=2.0), lambda t: t.scaled, to_three),
    "one of what is called": (lambda: Thing(factor=2.0), lambda t: lambda x: t(x) + 1, to_three),
    "one of what is compiled": (lambda: Thing(factor=2.0), lambda t: t, to_three),
    "one of a helper": (lambda: Thing(factor=2.0), lambda t: (lambda g: lambda x: g(x) + 1)(use_factor(t)), to_three),
    "one of a wrapper": (lambda: Thing(factor=2.0), lambda t: wrapping(np.sin, t), to_three),
    "one of what is wrapped": (lambda: Thing(factor=2.0), lambda t: wrapping(t.scaled, Thing()), to_three),
    "one of a function inside": (
        *(lambda: Thing(factor=2.0), lambda t: lambda x: sum((lambda y: y * t.factor)(x) for _ in range(2))),
        to_three,
    ),
    "one of a compiled function": (
        *(lambda: Thing(factor=2.0), lambda t: (lambda g: lambda x: g(x) + 1)(mg.compile(use_factor(t)))),
        to_three,
    ),
    "one of a checkpoint": (lambda: Thing(factor=2.0), lambda t: mg.checkpoint(use_factor(t)), to_three),
    "one in a partial": (lambda: Thing(factor=2.0), lambda t: functools.partial(Thing.scaled, t), to_three),
    "one in a default": (lambda: Thing(factor=2.0), lambda t: lambda x, t=t: x * t.factor, to_three),
}
CONTAINERS: dict[str, Row] = {
    "a list": (lambda: [2.0, 1.0], lambda s: lambda x: x * s[0], lambda s: s.__setitem__(0, 3.0)),
    "its length": (lambda: [np.sin], lambda s: lambda x: functools.reduce(lambda y, f: f(y), s, x), lambda s: s.pop()),
    "a dict": (lambda: {"a": 2.0}, lambda d: lambda x: x * d["a"], lambda d: d.update(a=3.0)),
    "a key": (lambda: {"a": 0}, lambda d: lambda x: x * 2 if "a" in d else x, lambda d: d.pop("a")),
    "a set": (lambda: {"a"}, lambda s: lambda x: x * 2 if "a" in s else x, lambda s: s.clear()),
    "what lies deep": (
        *(lambda: {"a": [1.0, ({"b": 2.0}, 0)]}, lambda d: lambda x: x * d["a"][1][0]["b"]),
        lambda d: d["a"][1][0].update(b=3.0),
    ),
    "Tensors": (lambda: [tensor(2.0)], lambda s: lambda x: x * s[0], lambda s: s.__setitem__(0, tensor(3.0))),
    "objects": (
        *(lambda: [Thing(), Thing()], lambda s: lambda x: x * sum(t.factor for t in s)),
        lambda s: to_three(s[1]),
    ),
    "one's own, by index": (lambda: Bag(2.0), lambda b: lambda x: x * b[0], lambda b: b.items.__setitem__(0, 3.0)),
    "one's own, in a loop": (lambda: Bag(2.0), lambda b: lambda x: x * sum(b), lambda b: b.items.append(3.0)),
    "one's own, by `in`": (lambda: Bag(2), lambda b: lambda x: x * 2 if 2 in b else x, lambda b: b.items.pop()),
}
MODULES: dict[str, Row] = {
    "a float": (lambda: Scaled(2.0), lambda m: m, to_three),
    "a mode": (lambda: Scaled(2.0), lambda m: m, lambda m: m.eval(), lambda m: m.train(), sets(training=False)),
    "a mode of a part": (lambda: nn.Sequential(Scaled(2.0), np.tanh), lambda m: m, lambda m: m.eval()),
    "a layer that is replaced": (
        *(lambda: nn.Sequential(Scaled(2.0), np.tanh), lambda m: m),
        *(lambda m: m.__setitem__(1, np.sin), lambda m: m.__setitem__(0, Scaled(3.0))),
    ),
    "a layer that is added": (lambda: nn.Sequential(Scaled(2.0)), lambda m: lambda x: m(x), lambda m: m.append(np.sin)),
    "a layer that is an object": (lambda: nn.Sequential(Thing()), lambda m: m, lambda m: to_three(m[0])),
    "a slope": (lambda: nn.LeakyReLU(), lambda m: lambda x: m(x) + 1, sets(negative_slope=0.5)),
    "no bias": (lambda: nn.Linear(3, 2, rng=np.random.default_rng(0), dtype=float), lambda m: m, sets(bias=None)),
    "a parameter that is replaced": (lambda: Scaled(2.0), lambda m: m, sets(weight=tensor([3.0, 2.0, 1.0]))),
    "a parameter that is frozen": (
        *(lambda: Scaled(2.0), lambda m: m),
        *(lambda m: sets(requires_grad=False)(m.weight), lambda m: sets(requires_grad=True)(m.weight)),
    ),
    "numbers of a parameter": (lambda: Scaled(2.0), lambda m: m, lambda m: sets(data=[3.0, 2.0, 1.0])(m.weight)),
}
FACTORS = lambda: Thing(factor=np.ones(3))
ONES, OTHERS = lambda: np.ones(3), writes([1.0, -2.0, 3.0])
MASK, BACKWARDS = lambda: np.array([True, False, True]), lambda: np.array([2, 1, 0])
IN_PLACE: dict[str, Row] = {
    "a mask": (MASK, lambda m: lambda x: np.where(m, x, 0), writes([False, True, True])),
    "a mask of a sum": (MASK, lambda m: lambda x: np.sum(x, where=m), writes(True)),
    "a mask that picks": (MASK, lambda m: lambda x: x[m] * 2, writes([False, True, False])),
    "an index": (BACKWARDS, lambda i: lambda x: x[i] * [1, 2, 3], writes([0, 1, 1])),
    "an index of np.take": (BACKWARDS, lambda i: lambda x: np.take(x, i) * [1, 2, 3], writes([0, 1, 1])),
    "an index of mg.put": (lambda: np.array([0]), lambda i: lambda x: mg.put(x, i, 5.0), writes(2)),
    "a single index": (lambda: np.array(1), lambda i: lambda x: x[i], writes(2)),
    "an end of a slice": (lambda: np.array(1), lambda n: lambda x: x[: int(n)], writes(3)),
    "a shape": (
        *(lambda: np.array([1, 3]), lambda s: lambda x: np.sum(np.reshape(x, tuple(s)), 0) ** 2),
        writes([3, 1]),
    ),
    "a factor": (ONES, lambda a: lambda x: x * a, OTHERS),
    "a bound": (ONES, lambda a: lambda x: np.maximum(x, a), OTHERS),
    "an exponent": (ONES, lambda a: lambda x: np.exp(x) ** a, OTHERS),
    "a matrix": (lambda: np.ones((2, 3)), lambda a: lambda x: a @ x, OTHERS),
    "what is joined": (ONES, lambda a: lambda x: np.concatenate([x, a]) ** 2, OTHERS),
    "a view": (lambda: np.ones((2, 3)), lambda a: (lambda row: lambda x: x * row)(a[1]), OTHERS),
    "a view that is made inside": (lambda: np.ones((3, 3)), lambda a: lambda x: x * a.T[1], writes([[1], [2], [3]])),
    "a view for plain NumPy": (lambda: np.ones((2, 3)), lambda a: (lambda row: lambda x: x * row.sum())(a[1]), OTHERS),
    "a sum with a number": (ONES, lambda a: lambda x: x * (a + 1), OTHERS),
    "a float of a sum": (ONES, lambda a: lambda x: x * float(a.sum()), OTHERS),
    "a sum": (ONES, lambda a: lambda x: x * a.sum(), OTHERS),
    "a norm": (ONES, lambda a: lambda x: x * np.linalg.norm(a), OTHERS),
    "an element": (ONES, lambda a: lambda x: x * a[1], OTHERS),
    "a list of elements": (ONES, lambda a: lambda x: x * a.tolist()[1], OTHERS),
    "a branch": (ONES, lambda a: lambda x: x * 2 if a[1] > 0 else x, OTHERS),
    "a loop": (ONES, lambda a: lambda x: sum(x * v for v in a), OTHERS),
    "a large one": (lambda: np.ones(1000), lambda a: lambda x: x * np.sum(a * 2), writes(2.0)),
    "a single number": (lambda: np.array(2.0), lambda a: lambda x: x * a, writes(3.0)),
    "a single number and another": (lambda: np.array(2.0), lambda a: lambda x: x * (a + 1), writes(3.0)),
    "a single number as a float": (lambda: np.array(2.0), lambda a: lambda x: x * float(a), writes(3.0)),
    "a single number as an item": (lambda: np.array(2.0), lambda a: lambda x: x * a.item(), writes(3.0)),
    "one in a list": (lambda: [np.ones(3)], lambda s: lambda x: x * (s[0] + 1), lambda s: OTHERS(s[0])),
    "one in a dict": (lambda: {"a": np.ones(3)}, lambda d: lambda x: x * d["a"].sum(), lambda d: OTHERS(d["a"])),
    "one in an object": (FACTORS, lambda t: t.scaled, lambda t: OTHERS(t.factor)),
    "one of a property": (FACTORS, lambda t: lambda x: x * t.double, lambda t: OTHERS(t.factor)),
    "one in a class": (lambda: local(factor=np.ones(3)), use_factor, lambda t: OTHERS(t.factor)),
    "a global": (lambda: module(factor=np.ones(3)), lambda m: m.scaled, lambda m: OTHERS(m.factor)),
    "one in a partial": (ONES, lambda a: functools.partial(np.multiply, a), OTHERS),
    "one in a partial, by keyword": (ONES, lambda a: functools.partial(lambda x, a: x * a.sum(), a=a), OTHERS),
    "a default": (ONES, lambda a: lambda x, a=a: x * a, OTHERS),
    "a default for plain NumPy": (ONES, lambda a: lambda x, a=a: x * a.sum(), OTHERS),
    "a default of a keyword": (ONES, lambda a: lambda x, *, a=a: x * (a + 1), OTHERS),
    "one of a helper": (ONES, lambda a: (lambda g: lambda x: x * g())(lambda: a.sum()), OTHERS),
    "a Tensor that is not tracked": (
        lambda: mg.Tensor(np.ones(3)),
        lambda t: lambda x: x * t,
        lambda t: OTHERS(t.data),
    ),
}
AFRESH = {
    f"{place}: {name}": row
    for place, rows in {
        "variable": VARIABLES,
        "attribute": ATTRIBUTES,
        "container": CONTAINERS,
        "module": MODULES,
        "in place": IN_PLACE,
    }.items()
    for name, row in rows.items()
}


def measured(f: Callable[..., Any], thing: Any) -> list[Any]:
    """The number that `f` gives for x, and its gradients by x and by the parameters in a thing."""
    x, parameters = tensor([0.5, -1.5, 2.5]), nn.parameters(thing)
    for parameter in parameters:
        parameter.grad = None
    answer = f(x)
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


def penalized(f: Callable[..., Any]) -> Callable[..., Any]:
    """A loss with a gradient in it."""
    both = mg.value_and_grad(weighted(f))

    def loss(x: Any) -> Any:
        value, gradient = both(x)
        return value + np.sum(gradient**2)

    return loss


WAYS: dict[str, tuple[Any, Any]] = {  # what is made of a function before it is compiled, and what afterwards
    "alone": (lambda f: f, weighted),
    "in a loss": (weighted, lambda f: f),
    "in a gradient": (penalized, lambda f: f),
}


def programs(compiled: Any) -> list[Any]:
    return [program for group in compiled.programs.values() for program in group]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", AFRESH)
def test_what_it_closes_over_is_read_afresh(name: str, way: str) -> None:
    (make, use, *changes), (inside, outside) = AFRESH[name], WAYS[way]
    thing = make()
    f = inside(use(thing))
    eager, compiled, before = outside(f), outside(mg.compile(f)), None
    for change in (lambda thing: None, *changes):
        change(thing)
        wanted = measured(eager, thing)
        assert repr(wanted) != repr(before), "this change changes nothing"
        before = wanted
        for _ in range(2):
            assert_close(measured(compiled, thing), wanted)


ARGUMENTS: dict[str, Row] = {
    "an attribute": (lambda: Thing(factor=2.0), lambda t, x: x * t.factor, to_three),
    "an attribute of a part": (lambda: Thing(part=Thing()), lambda t, x: t.part.scaled(x), lambda t: to_three(t.part)),
    "a compiled method": (lambda: Thing(factor=2.0), Thing.scaled, to_three),
    "what is called": (lambda: Thing(factor=2.0), lambda t, x: t(x), to_three),
    "a model": (lambda: Scaled(2.0), lambda m, x: m(x), to_three, lambda m: m.eval()),
    "an array in place": (
        lambda: Thing(factor=np.ones(3)),
        lambda t, x: x * t.factor.sum(),
        lambda t: OTHERS(t.factor),
    ),
    "a Tensor": (lambda: Thing(factor=tensor(2.0)), Thing.scaled, sets(factor=tensor(3.0))),
    "a list": (lambda: [2.0, 1.0], lambda s, x: x * s[0], lambda s: s.__setitem__(0, 3.0)),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_objects_that_it_is_given_are_read_afresh(name: str) -> None:
    make, f, *changes = ARGUMENTS[name]
    compiled, things = mg.compile(f), [make(), make()]
    for change in (lambda thing: None, *changes):
        change(things[0])
        for thing in (*things, *things):
            found, wanted = (measured(lambda x, g=g, thing=thing: weighted(g)(thing, x), thing) for g in (compiled, f))
            assert_close(found, wanted)


@pytest.mark.parametrize("p", [[0.5, 0.25, 0.75], [0.5, 0.0, 0.5]])
def test_the_share_of_a_dropout_is_read_afresh(p: list[float]) -> None:
    def drawn(wrap: Callable[..., Any]) -> list[Any]:
        layer = nn.Dropout(p[0], rng=np.random.default_rng(1))
        f, answers = wrap(lambda x: np.sum(layer(x) ** 2)), []
        for layer.p in p:
            for _ in range(3):
                x = tensor(np.ones(50))
                f(x).backward()
                answers.append(x.grad)
        return answers

    assert_close(drawn(mg.compile), drawn(lambda f: f))


# ------------------------------------------------------------------------------------------ what is not traced anew


def stepped(model: Any) -> None:
    """One step of an optimizer."""
    optimizer = mg.optim.SGD(nn.parameters(model), lr=0.1)
    for parameter in nn.parameters(model):
        parameter.grad = np.ones(parameter.shape)
    optimizer.step()
    optimizer.zero_grad()


SAME: dict[str, Row] = {
    "an attribute that is not named": (
        *(lambda: Thing(model=network(3, 2), steps=0), lambda t: lambda x: t.model(x)),
        *(sets(steps=1), sets(steps=2, other=[1])),
    ),
    "a global that is not named": (lambda: module(factor=2.0), lambda m: m.scaled, sets(steps=1)),
    "an equal float": (lambda: Thing(factor=2.5), use_factor, lambda t: sets(factor=t.factor + 0.0)(t)),
    "an equal variable": (lambda: Variable(2.5), lambda v: v.f, lambda v: v.set(v.value + 0.0)),
    "an equal global": (lambda: module(factor=2.5), lambda m: m.scaled, lambda m: sets(factor=m.factor + 0.0)(m)),
    "an equal str": (
        *(lambda: Thing(kind="sin!"), lambda t: lambda x: np.sin(x) if t.kind == "sin!" else x),
        lambda t: sets(kind="".join(list(t.kind)))(t),
    ),
    "nan": (lambda: Thing(k=np.nan), lambda t: lambda x: x * 2 if t.k != t.k else x, lambda t: sets(k=t.k + 0.0)(t)),
    "an array for plain NumPy": (
        *(lambda: np.array([1.0, np.nan]), lambda a: lambda x: x * np.nansum(a)),
        writes([1.0, np.nan]),
    ),
    "steps": (lambda: network(3, 2), lambda m: m, stepped, stepped),
    "a state": (
        *(lambda: network(3, 2), lambda m: lambda x: m(x)),
        lambda m: m.load_state_dict({name: array + 1 for name, array in m.state_dict().items()}),
    ),
    "data": (lambda: network(3, 2), lambda m: m, lambda m: sets(data=np.ones((2, 3)))(m[0].weight)),
    "data in place": (lambda: network(3, 2), lambda m: m, lambda m: writes(1)(m[0].weight.data)),
    "gradients": (lambda: network(3, 2), lambda m: m, lambda m: sets(grad=np.ones(2))(m[0].bias)),
}


@pytest.mark.parametrize("name", SAME)
def test_it_is_not_traced_anew_for(name: str) -> None:
    make, use, *changes = SAME[name]
    thing = make()
    compiled = mg.compile(use(thing))
    f, eager = weighted(compiled), weighted(use(thing))
    for _ in range(2):
        measured(f, thing)
    made = programs(compiled)
    assert made
    for change in changes:
        change(thing)
        assert_close(measured(f, thing), measured(eager, thing), 1e-6)
        assert programs(compiled) == made


def test_modes_that_were_there_before_are_not_traced_anew() -> None:
    model = nn.Sequential(Scaled(2.0), np.tanh)
    compiled = mg.compile(lambda x: np.sum(model(x)))
    for _ in range(3):
        for mode in (True, False):
            model.train(mode)
            assert_close(measured(compiled, model), measured(lambda x: np.sum(model(x)), model))
    assert len(programs(compiled)) == 2


# ------------------------------------------------------------------------------------------------ what is refused

GENERATOR = lambda: np.random.default_rng(0)
DROPOUT = lambda: nn.Dropout(0.5, rng=GENERATOR())


def training(model: Any) -> Callable[..., Any]:
    """A whole step of a training."""
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = np.sum(model(x))
        loss.backward()
        optimizer.step()
        return x * 2

    return step


def counting() -> Callable[..., Any]:
    counter = 0

    def f(x: Any) -> Any:
        nonlocal counter
        counter += 1
        return x * 2

    return f


def with_gradient() -> mg.Tensor:
    made = tensor(np.ones(3))
    made.grad = np.ones(3)
    return made


LINE = r"test_scope\.py:\d+, `(?!compiled\()"  # and not the line of the call
REFUSED: dict[str, tuple[Any, Any, str]] = {  # how a thing is made, a function that uses it, and what names it
    "a number in a text": (lambda: None, lambda _: lambda x: x * float(f"{np.sum(x):.3f}"), LINE),
    "a gradient of a parameter": (with_gradient, lambda p: lambda x: x * p.grad, LINE),
    "a gradient of an input": (lambda: None, lambda _: lambda x: x if x.grad is None else x * 2, LINE),
    "a walk back": (lambda: tensor(np.ones(3)), lambda p: lambda x: (np.sum(x * p).backward(), x * 2)[1], LINE),
    "a step of a training": (lambda: Scaled(2.0), training, LINE),
    "an assignment to data": (
        *(lambda: tensor(np.ones(3)), lambda p: lambda x: (setattr(p, "data", np.ones(3)), x * p)[1]),
        LINE,
    ),
    "a generator": (GENERATOR, lambda rng: lambda x: x * rng.random(), "rng"),
    "a generator of an object": (lambda: Thing(rng=GENERATOR()), lambda t: lambda x: x * t.rng.normal(size=3), "rng"),
    "a generator of a helper": (GENERATOR, lambda rng: (lambda g: lambda x: x * g())(lambda: rng.random(3)), "rng"),
    "a generator before a layer": (DROPOUT, lambda d: lambda x: d.rng.random() * d(x), "rng"),
    "a generator after a layer": (DROPOUT, lambda d: lambda x: d(x) * d.rng.random(), "rng"),
    "numbers of np.random": (
        *(lambda: None, lambda _: lambda x: x * np.random.standard_normal(3)),  # noqa: NPY002
        r"(np|numpy)\.random",
    ),
    "numbers of random": (lambda: None, lambda _: lambda x: x * random.random(), r"'random'|random\.random"),
    "a Python generator": (lambda: (k for k in range(99)), lambda stream: lambda x: x * next(stream), "stream"),
    "a loop over a Python generator": (
        *(lambda: (k for k in range(99)), lambda stream: lambda x: x * sum(itertools.islice(stream, 2))),
        "stream",
    ),
    "a count": (itertools.count, lambda stream: lambda x: x * next(stream), "stream"),
    "a count of an object": (lambda: Thing(stream=itertools.count()), lambda t: lambda x: x * next(t.stream), "stream"),
    "an iterator": (lambda: iter(range(99)), lambda stream: lambda x: x * next(stream), "stream"),
    "an attribute that counts": (lambda: Thing(tally=0), lambda t: t.counted, "tally"),
    "an attribute that counts, of a layer": (lambda: Thing(tally=0), lambda t: lambda x: t.counted(x) + 1, "tally"),
    "an attribute that keeps a Tensor": (lambda: Thing(latest=None), lambda t: t.remembered, "latest"),
    "an attribute that is new": (Thing, lambda t: lambda x: t.remembered(x) + 1, "latest"),
    "a list that grows": (lambda: [], lambda log: lambda x: (log.append(1), x * 2)[1], "log"),
    "a list that keeps Tensors": (lambda: [], lambda log: lambda x: (log.append(x * 3), x * 2)[1], "log"),
    "a list of an object": (lambda: Thing(log=[]), lambda t: lambda x: (t.log.append(1), x * 2)[1], "log"),
    "a dict": (lambda: {"n": 0}, lambda table: lambda x: (table.update(n=table["n"] + 1), x * 2)[1], "table"),
    "a set": (set, lambda visited: lambda x: (visited.add(len(visited)), x * 2)[1], "visited"),
    "an array": (lambda: np.ones(3), lambda scale: lambda x: x * np.add(scale, 1, out=scale), "scale"),
    "an array that is not used": (
        *(lambda: np.ones(3), lambda scale: lambda x: (np.add(scale, 1, out=scale), x * 2)[1]),
        "scale",
    ),
    "a nonlocal variable": (lambda: None, lambda _: counting(), "counter"),
    "a global variable": (lambda: module(tally=0), lambda m: m.counted, "tally"),
}
WAY_OUT = "outside|uncompiled|instead|return|argument|before|after"


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_for_one_run_is_refused(name: str) -> None:
    make, use, variable = REFUSED[name]
    f = use(make())
    compiled = mg.compile(f)
    for _ in range(2):
        with pytest.raises(TraceError, match=rf"{LINE}|(?<!\w)({variable})(?!\w)") as caught:
            compiled(tensor(np.ones(3)))
        assert re.search(WAY_OUT, str(caught.value))
    assert not programs(compiled)
    x = tensor(np.ones(3))
    np.sum(f(x)).backward()
    assert x.grad is not None
    x.grad = None
    assert f"{np.sum(x):.1f}" == "3.0"


ALLOWED: dict[str, Callable[..., Any]] = {
    "a list of its own": lambda x: (parts := [x], parts.append(x * 2), np.concatenate(parts))[2],
    "a dict of its own": lambda x: (parts := {}, parts.update(a=x * 3), parts["a"])[2],
    "an object of its own": lambda x: Thing(tally=0).counted(x),
    "an iterator of its own": lambda x: x * next(iter([3.0])),
    "a count of its own": lambda x: (count := itertools.count(2), x * next(count) * next(count))[1],
    "a generator of its own": lambda x: x * np.random.default_rng(0).random(3),
    "an array of its own": lambda x: (a := np.ones(3), np.add(a, 1, out=a), x * a)[2],
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_made_inside_may_change(name: str) -> None:
    compiled = mg.compile(ALLOWED[name])
    for _ in range(3):
        assert_close(measured(weighted(compiled), None), measured(weighted(ALLOWED[name]), None))


TEXTS = {"str": str, "repr": repr, "f-string": lambda t: f"{t}", "list": lambda t: str([t])}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("whose", ["its own", "a parameter"])
def test_a_text_of_a_tensor_shows_what_is_known(
    text: Callable[..., str], whose: str, capsys: pytest.CaptureFixture[str]
) -> None:
    p = tensor(np.full((2, 3), 7.25))
    f = lambda x: (print(text(x * 3 if whose == "its own" else p)), np.sum(x * p))[1]
    compiled = mg.compile(f)
    for _ in range(2):
        x = tensor(np.full((2, 3), 7.25))
        compiled(x).backward()
        np.testing.assert_array_equal(x.grad, p.data)
    printed = capsys.readouterr().out
    assert "float64" in printed
    assert "2, 3" in printed
    assert not re.search(r"\d\.", printed)
    f(x)
    assert re.search(r"\d\.", capsys.readouterr().out)


# ------------------------------------------------------------------------------------------------- several answers


class Runs:
    """How often something was run, counted so that the code does not show it: the name is a text."""

    name = "count"

    def __init__(self) -> None:
        self.count = 0

    def more(self) -> None:
        setattr(self, self.name, getattr(self, self.name) + 1)


OUTPUTS: dict[str, Callable[..., Any]] = {
    "a tuple": lambda p: lambda x, y: (np.sin(x) * p, np.exp(x * y)),
    "a list": lambda p: lambda x, y: [x**2 @ y, np.sum(np.cos(x) * p)],
    "a dict": lambda p: lambda x, y: {"loss": np.sum(np.tanh(x * y) ** 2), "parts": {"a": x**3, "b": [p * y]}},
    "several numbers": lambda p: lambda x, y: (np.sum(x**2 * y), np.mean(np.sin(x) * p), np.max(x * y)),
    "several shapes": lambda p: lambda x, y: (np.sum(x**2, 0), np.sum(x**3, 1), x.T * x[0, 0], x[None, 1:] * p),
    "several dtypes": lambda p: lambda x, y: (np.sin(x).astype(np.float32), x * y, np.sum(p * x**2).astype(np.float32)),
    "others and constants": lambda p: lambda x, y: (np.argmax(x), x**2 * p, x > 0, 3.0, None, "word", np.sin(y)),
    "one of the other": lambda p: lambda x, y: (z := np.exp(x), z * y, (z * p).T),
    "views of one another": lambda p: lambda x, y: (z := np.sin(x) * p, z.T, z[0]),
    "one twice": lambda p: lambda x, y: [z := np.sin(x) * y, p * 2, z],
    "an input and a parameter": lambda p: lambda x, y: (x, p, x**2 * y),
    "of other inputs": lambda p: lambda x, y: (np.sin(x), np.cos(y), p**2),
}


def tracked(answer: Any) -> list[mg.Tensor]:
    return [leaf for leaf in leaves(answer) if isinstance(leaf, mg.Tensor) and leaf.requires_grad]


def total(answers: list[Any]) -> Any:
    return weighted(lambda: [np.sin(answer) for answer in answers])()


def twice(answers: list[Any]) -> None:
    both = total(answers)
    both.backward(retain_graph=True)
    both.backward()


def apart(answers: list[Any]) -> None:
    for answer in answers:
        total([answer]).backward(retain_graph=True)


ONCE: dict[str, Callable[..., Any]] = {
    "all": lambda answers: total(answers).backward(),
    "the first": lambda answers: total(answers[:1]).backward(),
    "the last": lambda answers: total(answers[-1:]).backward(),
}
WALKS = {**ONCE, "all twice": twice, "each apart": apart}


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("name", OUTPUTS)
def test_gradients_of_several_answers(name: str, walk: str) -> None:
    runs, p = Runs(), tensor([1.0, 2.0, 3.0])
    f = OUTPUTS[name](p)
    compiled = mg.compile(lambda x, y: (runs.more(), f(x, y))[1])
    counts = []
    for step in range(4):
        found, wanted = [], []
        for g, kept in ((compiled, found), (f, wanted)):
            given = tensor(np.arange(6.0).reshape(2, 3) / 5 + step), tensor([0.5, -1.0, 2.0]), p
            p.grad = None
            answer = g(*given[:2])
            WALKS[walk](tracked(answer))
            kept += [(x.data, x.requires_grad) if isinstance(x, mg.Tensor) else x for x in leaves(answer)]
            kept += [np.zeros(t.shape) if t.grad is None else t.grad for t in given]
        assert_close(found, wanted, 1e-6)
        counts.append(runs.count)
    if walk in ONCE:
        assert counts[0] > 0
        assert counts[1:] == counts[1:2] * 3, "it was run again"


def test_the_gradient_is_zero_where_an_answer_depends_on_something_else() -> None:
    x, y, p, q = (tensor([0.5, 1.5]) for _ in range(4))
    compiled = mg.compile(lambda x, y: (np.sum(x * p), np.sum(y * q)))
    compiled(x, y)[0].backward()
    for one, other in ((x, p), (p, x)):
        np.testing.assert_array_equal(one.grad, other.data)
    for one in (y, q):
        np.testing.assert_array_equal(one.grad, 0)


@pytest.mark.parametrize("name", OUTPUTS)
def test_second_derivatives_of_several_answers(name: str) -> None:
    f = OUTPUTS[name](tensor([1.0, 2.0, 3.0]))
    x, y = np.arange(6.0).reshape(2, 3) / 5, np.array([0.5, -1.0, 2.0])
    slope = lambda g: mg.grad(lambda x, y: total(tracked(g(x, y))))
    second = lambda g: mg.grad(lambda x: np.sum(np.sin(slope(g)(x, y))))
    compiled = mg.compile(f)
    for _ in range(2):
        assert_close(second(compiled)(x), second(f)(x), 1e-5)
        x = x + 0.5


# ---------------------------------------------------------------------------------------------------------- models


def dropping() -> nn.Sequential:
    model = network(3, 4, 2)
    model.insert(2, nn.Dropout(0.5, rng=np.random.default_rng(1)))
    return model


def ids(tensors: list[mg.Tensor]) -> list[int]:
    return [id(tensor) for tensor in tensors]


def test_a_compiled_model_has_the_tensors_of_the_model() -> None:
    model = dropping()
    compiled = mg.compile(model)
    for _ in range(2):
        assert ids(nn.parameters(compiled)) == ids(compiled.parameters()) == ids(model.parameters())
        named = [(name, id(p)) for name, p in model.named_parameters()]
        assert [(name, id(p)) for name, p in nn.named_parameters(compiled)] == named
        assert [(name, id(p)) for name, p in compiled.named_parameters()] == named
        for state in (nn.state.state_dict(compiled), compiled.state_dict()):
            assert list(state) == list(model.state_dict()) == ["0.weight", "0.bias", "3.weight", "3.bias"]
            assert_close(state, model.state_dict())
        np.sum(compiled(X)).backward()
    compiled.load_state_dict({name: array + 1 for name, array in state.items()})
    assert_close(model.state_dict(), {name: array + 1 for name, array in state.items()})
    nn.state.load_state_dict(compiled, state)
    assert_close(model.state_dict(), state)


def test_a_compiled_model_changes_the_mode_of_the_model() -> None:
    model, twin = dropping(), dropping()
    compiled = mg.compile(model)
    for _ in range(2):
        for mode in ("eval", "train"):
            assert_close(getattr(compiled, mode)()(X).data, getattr(twin, mode)()(X).data, 1e-6)
            assert [layer.training for layer in model if isinstance(layer, nn.Module)] == [mode == "train"] * 5
            assert_close(compiled(X).data, twin(X).data, 1e-6)


def test_a_compiled_model_is_a_layer() -> None:
    model, twin = dropping(), dropping()
    outer, plain = nn.Sequential(mg.compile(model), np.tanh), nn.Sequential(twin, np.tanh)
    for mode in ("eval", "train", "eval"):
        assert_close(getattr(outer, mode)()(X).data, getattr(plain, mode)()(X).data, 1e-6)
        assert model.training == model[2].training == (mode == "train")
        assert list(outer.state_dict()) == list(plain.state_dict())
        assert ids(outer.parameters()) == ids(model.parameters())


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("as_layer", [False, True])
def test_compiled_models_are_trained(compile: bool, as_layer: bool) -> None:
    def trained(wrap: Callable[..., Any], compile: bool) -> list[Any]:
        model = wrap(dropping())
        model = nn.Sequential(model, np.tanh) if as_layer else model
        optimizer = mg.optim.Adam(model.parameters(), lr=0.05)
        options: dict[str, Any] = {"epochs": 3, "batch_size": 3, "seed": 0, "progress": False, "validation": (X, Y)}
        history = mg.fit(model, nn.mse_loss, optimizer, (X, Y), compile=compile, **options)
        return [history, model.state_dict(), mg.predict(model, X), mg.evaluate(model, nn.mse_loss, (X, Y))]

    assert_close(trained(mg.compile, compile), trained(lambda model: model, False), 1e-4)


# --------------------------------------------------------------------------------------------------------- training


def passes(model: Any, loss: Any, optimizer: Any = None, steps: int = 3) -> None:
    """Some steps as one writes them, or, without an optimizer, gradients that add up."""
    for _ in range(steps):
        if optimizer:
            optimizer.zero_grad()
        loss(X, Y).backward()
        if optimizer:
            optimizer.step()


def with_more_afterwards(model: Any, loss: Any) -> None:
    passes(model, loss, mg.optim.Adam(model.parameters(), lr=0.1))
    passes(model, loss, steps=2)


def without_zero_grad(model: Any, loss: Any) -> None:
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        loss(X, Y).backward()
        optimizer.step()


def with_one_optimizer_after_the_other(model: Any, loss: Any) -> None:
    passes(model, loss, mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    passes(model, loss, mg.optim.Adam(model[2].parameters(), lr=0.1))
    passes(model, loss, mg.optim.SGD(model.parameters(), lr=0.1))


def with_two_optimizers(model: Any, loss: Any) -> None:
    optimizers = [mg.optim.Adam(model[i].parameters(), lr=0.1) for i in (0, 2)]
    for _ in range(3):
        for optimizer in optimizers:
            passes(model, loss, optimizer, steps=1)


def scaled_afterwards(model: Any, loss: Any) -> None:
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    for scale in (1, 0.5, 0.5, 1, 3):
        optimizer.zero_grad()
        (loss(X, Y) * scale + 1).backward()
        optimizer.step()


def in_parts(model: Any, loss: Any) -> None:
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        for x, y in zip(np.split(X, 4), np.split(Y, 4), strict=True):
            (loss(x, y) / 4).backward()
        mg.optim.clip_grad_norm(model.parameters(), 0.1)
        optimizer.step()


def with_the_sum_of_two(model: Any, loss: Any) -> None:
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (loss(X, Y) + loss(X + 1, Y) * 2).backward()
        optimizer.step()


SCRIPTS = [
    *(passes, with_more_afterwards, without_zero_grad, with_one_optimizer_after_the_other, with_two_optimizers),
    *(scaled_afterwards, in_parts, with_the_sum_of_two),
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_training_goes_as_without_a_program(script: Callable[..., None]) -> None:
    def trained(wrap: Callable[..., Any]) -> list[Any]:
        model = network(3, 4, 2)
        script(model, wrap(lambda x, y: nn.mse_loss(model(x), y)))
        return [(parameter.data, parameter.grad) for parameter in model.parameters()]

    assert_close(trained(mg.compile), trained(lambda f: f), 1e-5)


# ---------------------------------------------------------------------------------------------------------- hazards


def test_functions_that_call_themselves() -> None:
    def plain(x: Any, depth: int) -> Any:
        return x if depth == 0 else np.sin(plain(x, depth - 1) * x)

    @mg.compile
    def inside(x: Any, depth: int) -> Any:
        return x if depth == 0 else np.sin(inside(x, depth - 1) * x)

    for compiled in (mg.compile(plain), inside):
        for depth in (3, 0, 5, 3):
            found, wanted = (measured(lambda x, f=f, n=depth: weighted(f)(x, n), None) for f in (compiled, plain))
            assert_close(found, wanted)


def test_one_tensor_in_several_places() -> None:
    p = tensor([0.5, 1.5])
    f = lambda x, y: np.sum(x**2 * np.sin(y) * p)
    compiled, other = mg.compile(f), tensor([2.0, 3.0])
    for args in ((other, other), (p, other), (other, p), (p, p), (other, other)):
        grads = []
        for g in (compiled, f):
            p.grad = other.grad = None
            g(*args).backward()
            grads.append([p.grad, other.grad])
        assert_close(*grads)


def test_gradients_do_not_share_memory() -> None:
    p, q, x = (tensor(np.ones((2, 3))) for _ in range(3))
    compiled = mg.compile(lambda x: np.sum(p + q + x) + np.sum(p.T @ np.ones((2, 1))))
    compiled(x).backward()
    first = [t.grad for t in (p, q, x)]
    for a, b in itertools.combinations(first, 2):
        assert not np.shares_memory(a, b)
    for t in (p, q, x):
        t.grad = None
    first[0] += 5
    (compiled(x) * 3).backward()
    for kept, grad, number in zip(first, (p.grad, q.grad, x.grad), (7, 1, 1), strict=True):
        np.testing.assert_array_equal(kept, np.full((2, 3), number))
        np.testing.assert_array_equal(grad, np.full((2, 3), 6 if grad is p.grad else 3))


def test_a_parameter_that_is_only_transposed() -> None:
    p = tensor(np.arange(6.0).reshape(2, 3))
    f = lambda x: np.sum(np.tanh(x @ p.T) @ p.T.T)
    compiled = mg.compile(f)
    for x in (np.eye(3), np.ones((2, 3))):
        grads = []
        for g in (compiled, f):
            p.grad = None
            g(x).backward()
            grads.append(p.grad)
        assert_close(*grads)


B = np.linspace(-1, 1, 24).reshape(4, 6)
LAYOUTS: dict[str, Any] = {
    "Fortran order": np.asfortranarray(B),
    "strides": np.repeat(np.repeat(B, 2, 0), 3, 1)[::2, ::3],
    "backwards": B[::-1, ::-1].copy()[::-1, ::-1],
    "one row, broadcast": np.broadcast_to(B[0], (4, 6)),
    "not aligned": np.frombuffer(b"0" + B.tobytes(), offset=1).reshape(4, 6),
    "big endian": B.astype(">f8"),
    "float16": B.astype(np.float16),
    "float16, strides": np.repeat(B.astype(np.float16), 2, 0)[::2],
    "float32, big endian": B.astype(">f4"),
}


@pytest.mark.parametrize("role", ["input", "parameter", "array"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, role: str) -> None:
    def number(x: Any) -> Any:
        flat = np.ravel(np.sin(x)) * np.arange(24) / 20
        return np.sum(flat) + np.sum(np.reshape(x, (6, 4)).T ** 2) + np.sum(x[::2, 1:] * (x.T[1:, 1::2] * 2).T)

    laid_out = LAYOUTS[name]
    plain = np.array(laid_out / 2, laid_out.dtype, order="C")
    p, thing = tensor(plain), Thing()
    f = {"input": number, "parameter": lambda x: number(p) * np.sum(x), "array": lambda x: number(x * thing.factor)}[
        role
    ]
    compiled = mg.compile(f)
    for given in (plain, laid_out, plain, laid_out):
        p.data, thing.factor = given, given
        results = []
        for g in (compiled, f):
            p.grad, x = None, tensor(given if role == "input" else plain)
            answer = g(x)
            answer.backward()
            results.append([answer.data, x.grad, p.grad])
        assert_close(*results, {2: 0.05, 4: 1e-5, 8: 1e-12}[plain.itemsize])


def test_an_error_while_it_is_traced_does_no_harm() -> None:
    thing = Thing(broken=True)

    def f(x: Any) -> Any:
        y = np.sum(np.sin(x))
        if thing.broken:
            raise KeyError("broken")
        return y

    compiled = mg.compile(f)
    for thing.broken in (True, False, True, False):
        if thing.broken:
            with pytest.raises(KeyError, match="broken"):
                compiled(tensor(np.ones(3)))
            assert tensor(2.0).item() == 2
        else:
            assert_close(measured(compiled, None), measured(f, None))


def test_an_error_while_it_runs_does_no_harm() -> None:
    p = tensor(np.ones(2))
    f = lambda x, labels: nn.cross_entropy(np.outer(x, p), labels)
    compiled = mg.compile(f)
    for labels in ([0, 1, 1], [0, 1, 2], [1, 1, 0], [-1, 0, 0], [0, 0, 0]):
        given = np.array(labels)
        if set(labels) <= {0, 1}:
            found, wanted = (measured(lambda x, g=g, given=given: g(x, given), p) for g in (compiled, f))
            assert_close(found, wanted)
        else:
            with pytest.raises(ValueError, match="labels from"):
                compiled(tensor(np.ones(3)), given)
        late = compiled(tensor(np.ones(3)), np.zeros(3, int))
        p.data = p.data + 1
        with pytest.raises(RuntimeError, match="has been changed"):
            late.backward()


@pytest.mark.parametrize("kind", ["iter", "generator", "map"])
def test_an_iterator_is_used_up_or_refused(kind: str) -> None:
    made: Any = {"iter": iter, "generator": lambda s: (k for k in s), "map": lambda s: map(float, s)}[kind]
    f = lambda x, numbers: np.sum(sum((x * k for k in numbers), x))
    compiled = mg.compile(f)
    for numbers in ([2.0, 3.0], [4.0, 5.0], [6.0]):
        given = made(numbers), made(numbers)
        for _ in range(2):  # there is nothing left in it then
            try:
                found = measured(lambda x, given=given: compiled(x, given[0]), None)
            except TraceError:
                break
            assert_close(found, measured(lambda x, given=given: f(x, given[1]), None))


def test_threads_trace_and_run_at_once() -> None:
    p, scale = tensor(np.linspace(0, 1, 8)), np.arange(8.0)
    f = lambda x: np.sum(np.tanh(x * p) ** 2 * scale)
    compiled = mg.compile(f)

    def work(n: int, g: Callable[..., Any]) -> list[Any]:
        x = np.linspace(-1, 1, 8 * n).reshape(n, 8)
        return [mg.value_and_grad(g)(x + i) for i in range(10)]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda n: work(n, compiled), [1, 2, 3, 1, 2, 3]))
    for n, found in zip([1, 2, 3, 1, 2, 3], together, strict=True):
        assert_close(found, work(n, f))


def test_calls_that_wait_for_their_backward_keep_no_memory_afterwards() -> None:
    model = network(3, 4, 2)
    eager = lambda x: nn.mse_loss(model(x), Y)
    compiled = mg.compile(eager)

    def train(f: Callable[..., Any], rounds: int, together: int) -> int:
        for _ in range(rounds):
            losses = [f(X) for _ in range(together)]
            for loss in losses[::2]:  # the others are never walked back
                loss.backward()
        del losses, loss
        return tracemalloc.get_traced_memory()[0]

    gc.disable()
    tracemalloc.start()
    try:
        [tuple(range(n)) for n in range(1, 20) for _ in range(2000)]  # Python keeps so many for the next ones
        train(eager, 1, 1000)
        before = train(compiled, 1100, 1)
        assert (
            train(compiled, profiles.scale(3, 20), 1000) - before < 100_000
        )  # a thousand workspaces are more than 4 MB
    finally:
        tracemalloc.stop()
        gc.enable()


# ------------------------------------------------------------------------------------------------------------ saved


def saved_rows() -> dict[str, tuple[Any, list[Any]]]:
    model, scale, mask = network(3, 4, 2).eval(), np.arange(3.0), np.array([True, False, True])
    table = np.linspace(0, 1, 300).reshape(100, 3)
    return {
        "labels": (lambda x, labels: nn.cross_entropy(model(x), labels), [X, LABELS]),
        "labels by sample": (lambda x, labels: nn.cross_entropy(model(x), labels, "none"), [X, LABELS]),
        "an array and a mask": (lambda x: np.where(mask, x * scale, 0), [X]),
        "an array for plain NumPy": (lambda x: x * float(scale.sum()) + (scale + 1), [X]),
        "an index": (lambda x, i: (x * scale)[i], [X, LABELS]),
        "a large array": (lambda x: np.sum(x @ table.T, axis=-1) * mask.sum(), [X]),
        "an attribute": (functools.partial(Thing.scaled, Thing(factor=scale)), [X]),
    }


@pytest.mark.parametrize("name", saved_rows())
def test_a_saved_program_runs_on_numpy_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checks.SAVED, name, saved_rows()[name])
    checks.test_a_saved_program_runs_on_numpy_alone(name, tmp_path)


def test_a_saved_program_has_the_arrays_of_the_last_call(tmp_path: Path) -> None:
    scale, mask, p = np.ones(3), np.array([True, False, True]), tensor(np.ones(3))
    compiled = mg.compile(lambda x: np.where(mask, x * scale * p + scale.sum(), 0))
    for number in (1, 2):
        scale[...], mask[...], p.data = number, [number == 1, True, True], np.full(3, number)
        expected = compiled(X).data
    compiled.save(tmp_path / "net.py")
    scale[...], mask[...], p.data = 3, False, np.zeros(3)
    np.testing.assert_array_equal(runpy.run_path(str(tmp_path / "net.py"))["predict"](X), expected)


# ------------------------------------------------------------------------------------------- what is easily overlooked


def with_numbers_of(m: np.ndarray) -> dict[str, Callable[[Any], Any]]:
    """Functions that use an array with Tensors and by plain NumPy, too."""
    return {
        "a sum": lambda x: np.sum(x * m) / m.sum(),
        "a branch": lambda x: np.sum(x * m) if m[0] > 0 else -np.sum(x * m),
        "a sum with a number": lambda x: np.sum(x * m + x * (m + 1)),
        "a float": lambda x: np.sum(x * m) * float(m[0]),
        "after a gradient": lambda x: np.sum(mg.grad(lambda x: np.sum(x**3))(x) * m),
    }


@pytest.mark.parametrize("name", with_numbers_of(np.ones(3)))
def test_arrays_that_are_used_in_two_ways(name: str) -> None:
    m = np.ones(3)
    f = with_numbers_of(m)[name]
    compiled = mg.compile(f)
    for change in ([1.0, 1.0, 1.0], [2.0, 1.0, 1.0], [-1.0, 3.0, 5.0]):
        m[...] = change
        x, y = tensor([1.0, 2.0, 3.0]), tensor([1.0, 2.0, 3.0])
        compiled(x).backward()
        f(y).backward()
        assert_close(compiled(x).data, f(x).data)
        assert_close(x.grad, y.grad)


def test_an_array_that_is_written_between_two_uses_is_refused() -> None:
    def f(x: Any) -> Any:
        m, total = np.zeros(3), 0.0
        for i in range(3):
            m[i] = 1
            total = total + np.sum(x * m)
        return total

    with pytest.raises(TraceError, match="writes to a float64"):
        mg.compile(f)(np.ones(3))


async def asynchronous(x: Any) -> Any:
    return x * 2


UNKNOWN: dict[str, Callable[[Any], Any]] = {
    "a namespace": lambda x: SimpleNamespace(y=x * 2),
    "a closure": lambda x: lambda: x * 2,
    "a deque": lambda x: collections.deque([x * 2]),
    "values of a dict": lambda x: {"a": x * 2}.values(),
    "a map": lambda x: map(np.sin, [x]),
    "a generator": lambda x: (x * i for i in range(2)),
    "a coroutine": asynchronous,
}


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_made_anew_is_not_returned(name: str) -> None:
    with pytest.raises(TraceError, match="cannot make anew"):
        mg.compile(UNKNOWN[name])(np.ones(2))


def test_arrays_that_are_always_the_same_are_the_callers() -> None:
    kept = np.ones(2)
    compiled = mg.compile(lambda x: (x * 2, np.zeros(3), kept))
    compiled(np.ones(2))[1][...] = 9
    assert_close(compiled(np.ones(2))[1], np.zeros(3))
    assert compiled(np.ones(2))[2] is kept


def test_a_loss_in_half_precision_that_is_scaled_afterwards() -> None:
    f = lambda x: np.sum(x.astype(np.float32) * 1e-3 * 1e-3 * 1e-3)
    grads = []
    for g in (f, mg.compile(f)):
        x = mg.Tensor(np.ones(2, np.float16), requires_grad=True)
        (g(x) * 2**16).backward()
        grads.append(x.grad)
    np.testing.assert_array_equal(*grads)


def test_a_nan_that_was_not_chosen_and_does_not_show() -> None:
    slope = mg.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))
    f = lambda x: np.where(slope(x) >= 0, 1.0, -1.0)
    np.testing.assert_array_equal(mg.compile(f)(np.array([0.0, 1.0])), [1, 1])


def test_a_random_layer_in_a_compiled_function_in_another() -> None:
    drop = nn.Dropout(0.5, rng=np.random.default_rng(0))
    inner = mg.compile(lambda x: drop(x))
    total = mg.compile(lambda x: np.sum(inner(x) ** 3))(x := tensor(np.ones(8)))
    total.backward(retain_graph=True)
    once = x.grad.copy()
    total.backward()
    np.testing.assert_array_equal(x.grad, 2 * once)


REACHED: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], None]]] = {
    "by getattr": (lambda: Thing(factor=2.0), lambda t: lambda x: x * getattr(t, "factor"), to_three),  # noqa: B009
    "by vars": (lambda: Thing(factor=2.0), lambda t: lambda x: x * vars(t)["factor"], to_three),
    "in a deque": (lambda: collections.deque([2.0]), lambda d: lambda x: x * d[0], lambda d: d.__setitem__(0, 3.0)),
    "in a UserDict": (
        *(lambda: collections.UserDict(a=2.0), lambda d: lambda x: x * d["a"]),
        lambda d: d.__setitem__("a", 3.0),
    ),
    "in a partial": (
        *(lambda: functools.partial(lambda x, k: x * k, k=2.0), lambda f: lambda x: f(x)),
        lambda f: f.keywords.update(k=3.0),
    ),
    "behind many numbers": (
        *(lambda: Thing(factor=2.0, many=list(range(20_000))), lambda t: lambda x: x * t.factor + t.many[3]),
        to_three,
    ),
    "among parameters": (
        *(lambda: nn.Linear(1, 1, dtype=float), lambda m: lambda x: x + sum(np.sum(p) for p in nn.parameters(m))),
        lambda m: sets(weight=tensor([[5.0]]))(m),
    ),
    "thawed": (
        *(lambda: nn.Linear(1, 1, dtype=float), lambda m: lambda x: x + sum(np.sum(p) for p in nn.parameters(m))),
        lambda m: sets(requires_grad=False)(m.weight),
    ),
}


@pytest.mark.parametrize("name", REACHED)
def test_what_is_reached_by_another_way(name: str) -> None:
    make, use, change = REACHED[name]
    thing = make()
    f = use(thing)
    compiled = mg.compile(f)
    x = mg.Tensor([1.0, 2.0])
    assert_close(compiled(x).data, f(x).data)
    change(thing)
    assert_close(compiled(x).data, f(x).data)


def test_too_many_things_are_refused() -> None:
    many = [Thing() for _ in range(10_001)]
    with pytest.raises(TraceError, match="more than 10,000 things"):
        mg.compile(lambda x: x * many[0].factor)(np.ones(2))


def test_what_a_rule_reads_is_watched() -> None:
    thing = Thing(factor=1.0)

    @mg.primitive(lambda g, ans, x: -thing.factor * g)
    def reverse(x: Any) -> Any:
        return x * 1

    compiled = mg.compile(lambda x: np.sum(reverse(x)))
    for factor in (1.0, 0.5):
        thing.factor = factor
        compiled(x := tensor([1.0, 2.0])).backward()
        assert_close(x.grad, np.full(2, -factor))


def test_a_result_that_is_closed_over() -> None:
    p = tensor([1.0, 2.0, 3.0])
    h = p * 2
    compiled = mg.compile(lambda x: np.sum(x * h))
    compiled(np.ones(3)).backward(retain_graph=True)
    assert_close(p.grad, np.full(3, 2.0))
    p.data = np.zeros(3)
    assert compiled(np.ones(3)).item() == 12


def test_changes_between_forward_and_backward() -> None:
    s, x = mg.Tensor(2.0), tensor([1.0, 2.0])
    y = mg.compile(lambda x: np.sum(s * x**3))(x)
    y.backward(retain_graph=True)
    s.data = 5.0
    with pytest.raises(RuntimeError, match="s has been changed"):
        y.backward()
    p, q = tensor([1.0, 2.0]), tensor([3.0, 4.0])
    y = mg.compile(lambda: np.sum(p * q))()
    p.requires_grad = False  # which changes nothing for the call that was made
    y.backward()
    np.testing.assert_array_equal(p.grad, q.data)
    assert_close(q.grad, p.data)


@dataclass
class Doubling(nn.Module):
    factor: float

    def forward(self, x: Any) -> Any:
        return x * self.factor if self.training else x


@dataclass
class Counted:
    x: Any
    ndim: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.ndim = self.x.ndim


def test_arguments_keep_their_kind() -> None:
    call = mg.compile(lambda m, x: m(x))
    doubling = Doubling(2.0)
    assert_close(call(doubling, np.ones(2)), np.full(2, 2.0))
    doubling.eval()
    assert_close(call(doubling, np.ones(2)), np.ones(2))
    assert_close(call(nn.Sequential(np.sin, np.cos), np.zeros(2)), np.ones(2))
    assert_close(mg.compile(lambda b: b.x * b.ndim)(Counted(np.ones(2))), np.ones(2))
    ordered = collections.OrderedDict(a=np.ones(2))
    assert isinstance(mg.grad(lambda d: np.sum(next(reversed(d.values()))))(ordered), collections.OrderedDict)


def test_values_that_are_equal_are_one_signature() -> None:
    compiled = mg.compile(lambda x, part: x[part] * 2)
    for _ in range(20):
        compiled(np.ones(4), slice(0, 2))
    assert len(programs(compiled)) == 1


@pytest.mark.filterwarnings("ignore:.*was traced")
def test_programs_for_things_that_are_gone_are_forgotten() -> None:
    compiled = mg.compile(lambda x, thing: x * thing.factor)
    for _ in range(300):
        compiled(np.ones(2), Thing())
    assert len(programs(compiled)) <= 256


def test_compiled_functions_are_copied_without_their_programs() -> None:
    model = mg.compile(nn.Sequential(nn.Linear(2, 2, rng=np.random.default_rng(0))))
    x = np.ones((1, 2), np.float32)
    expected = model(x).data
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copied(x).data, expected)
        assert not {*map(id, copied.parameters())} & {*map(id, model.parameters())}


def test_an_answer_that_nothing_depends_on_is_walked_back() -> None:
    y = mg.compile(lambda a: mg.grad(lambda z: np.sum(z**3))(a))(mg.Tensor([1.0, 2.0]))
    np.sum(y).backward()
    assert_close(y.data, np.array([3.0, 12.0]))


UNSTEADY: dict[str, Callable[[Any], Any]] = {
    "an unseeded generator": lambda x: x * np.random.default_rng().random(2),
    "an unseeded generator of Python": lambda x: x * random.Random().random(),
    "the clock": lambda x: x * time.perf_counter(),
    "bytes of the system": lambda x: x * os.urandom(8)[0] / (1 + os.urandom(8)[1]),
}


@pytest.mark.parametrize("name", UNSTEADY)
def test_what_is_different_each_time_is_refused(name: str) -> None:
    with pytest.raises(TraceError, match="another program when it is traced again"):
        mg.compile(UNSTEADY[name])(np.ones(2))


def test_a_seeded_generator_is_the_same_each_time() -> None:
    compiled = mg.compile(lambda x: x * np.random.default_rng(0).random(2))
    np.testing.assert_array_equal(compiled(np.ones(2)), compiled(np.ones(2)))


def test_lists_and_dicts_that_are_given_may_not_change() -> None:
    for f, given in ((lambda x, log: (log.append(1), x)[1], []), (lambda x, d: (d.update(y=x), x)[1], {})):
        with pytest.raises(TraceError, match="changes a list or dict"):
            mg.compile(f)(np.ones(2), given)


def test_warnings_that_are_suppressed_inside_stay_so() -> None:
    def f(x: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.where(x > 0, np.log(x), 0.0)

    compiled = mg.compile(f)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(np.array([0.0, 1.0])), [0, 0])
    others = mg.compile(lambda x: np.log(nn.tanh(x)))
    others(np.ones(1))
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        others(np.zeros(1))


def test_attributes_that_a_class_makes_up() -> None:
    class Box:
        def __init__(self) -> None:
            self.things = {"k": 2.0}

        def __getattr__(self, name: str) -> Any:
            return self.things[name]

    box = Box()
    compiled = mg.compile(lambda x: x * box.k)
    np.testing.assert_array_equal(compiled(np.ones(2)), [2, 2])
    box.things["k"] = 3.0
    np.testing.assert_array_equal(compiled(np.ones(2)), [3, 3])


def test_a_saved_gradient_warns_of_nan(tmp_path: Path) -> None:
    compiled = mg.compile(mg.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0))))
    np.testing.assert_array_equal(compiled(x := np.array([0.0, 4.0])), [0, 0.25])
    compiled.save(tmp_path / "slope.py")
    predict = runpy.run_path(str(tmp_path / "slope.py"))["predict"]
    np.testing.assert_array_equal(predict(x + 1), compiled(x + 1))
    with pytest.warns(UserWarning, match="a gradient is nan"):
        predict(x)


def test_what_a_saved_program_would_leave_out_is_refused(tmp_path: Path) -> None:
    constants = mg.compile(lambda x: {"y": x * 2, "n": 3})
    constants(np.ones(2))
    with pytest.raises(ValueError, match="returns constants"):
        constants.save(tmp_path / "net.py")
    joined = mg.compile(lambda x: (x * 2, x * 3))
    joined(x := tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="no_grad"):
        joined.save(tmp_path / "net.py")
    with mg.no_grad():
        joined(x)
    joined.save(tmp_path / "net.py")
    np.testing.assert_array_equal(runpy.run_path(str(tmp_path / "net.py"))["predict"](x.data), [[2, 4], [3, 6]])


def test_a_refused_function_leaves_its_generator_alone() -> None:
    rng, drop = np.random.default_rng(0), nn.Dropout(0.5, rng=np.random.default_rng(1))
    before = [generator.bit_generator.state for generator in (rng, drop.rng)]

    def f(x: Any) -> Any:
        m = np.ones(2)
        y = drop(x) * m * mg.sample(rng.random, 2)
        m[0] = 2
        return y * m

    with pytest.raises(TraceError, match="writes to a float64"):
        mg.compile(f)(np.ones(2))
    assert [generator.bit_generator.state for generator in (rng, drop.rng)] == before
