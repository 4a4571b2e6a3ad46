"""A compiled function gives what the function itself would give, whatever has changed around it."""

import abc
import collections
import contextlib
import contextvars
import functools
import itertools
import math
import os
import random
import sys
import time
import types
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import profiles
import pytest
from surroundings import (
    Bag,
    Inherited,
    Row,
    Scaled,
    Slots,
    Thing,
    Variable,
    assert_close,
    local,
    marked,
    measured,
    module,
    sets,
    side_by_side,
    tensor,
    wrapping,
    writes,
)  # fmt: skip
from test_compile import network, weighted

import minigrad as mg
from minigrad import nn
from minigrad.compiler.record import TraceError

# -------------------------------------------------------------------------------------- what a function closes over
# Each row: how a thing is made, the function of x that uses it, and how it changes then.

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

# ------------------------------------------------------------------------------------- what no list of names reveals


class Plain(nn.Module):
    """A layer whose bias may come later."""

    bias: Any = None

    def __init__(self) -> None:
        self.weight = tensor([1.0, 2.0, 3.0])
        self.drop0, self.drop1 = Scaled(2.0), Scaled(3.0)
        self.calls = 0

    def forward(self, x: Any) -> Any:
        x = x * self.weight
        return x if self.bias is None else x + self.bias

    def by_name(self, x: Any) -> Any:
        for i in range(2):
            x = getattr(self, f"drop{i}")(x)
        return x


class Descriptor:
    def __get__(self, thing: Any, kind: Any) -> Any:
        return vars(thing)["hidden"] * 2


class Described:
    factor = Descriptor()

    def __init__(self) -> None:
        self.hidden = 1.0


class Made(type):
    """A class of classes, with an attribute that all of them have."""

    factor = 2.0


@dataclass(frozen=True)
class Frozen:
    factor: float = 2.0
    axes: tuple[int, ...] = (0,)


class Named(NamedTuple):
    factor: float = 2.0


def singleton() -> Any:
    """A function behind a cache, whose answer is always the same object."""

    @functools.lru_cache
    def settings() -> Any:
        return SimpleNamespace(factor=2.0, weight=np.ones(3))

    return settings


def dispatched() -> Any:
    return functools.singledispatch(lambda x: x * 2)


def with_cell() -> Any:
    factor = 2.0
    return lambda x: x * factor


def with_global(**names: Any) -> Any:
    return lambda: module(**names)


def shifted(layer: Any, x: Any) -> Any:
    return x - layer.weight


CLASSES: dict[str, Row] = {
    "a bias that its class said was None": (Plain, lambda m: m, sets(bias=2.0), sets(bias=tensor([1.0, 0.0, 2.0]))),
    "an attribute of the class that comes later": (
        *(lambda: local(), lambda t: lambda x: x * getattr(t, "gain", 1.0)),
        lambda t: setattr(type(t), "gain", 3.0),
    ),
    "an attribute of the class that goes": (
        *(lambda: local(gain=3.0), lambda t: lambda x: x * getattr(t, "gain", 1.0)),
        lambda t: delattr(type(t), "gain"),
    ),
    "a forward that is patched": (Plain, lambda m: lambda x: m(x), lambda m: sets(forward=lambda x: x * 5)(m)),
    "a forward that is patched to be bound": (
        *(Plain, lambda m: lambda x: m(x)),
        lambda m: sets(forward=types.MethodType(shifted, m))(m),
    ),
    "a forward of the class that is patched": (
        *(lambda: type("Local", (Plain,), {})(), lambda m: lambda x: m(x)),
        lambda m: setattr(type(m), "forward", shifted),
    ),
    "layers that are found by a text": (
        *(Plain, lambda m: m.by_name),
        *(lambda m: m.eval(), lambda m: m.train(), lambda m: m.drop1.eval()),
    ),
    "the class of an object": (lambda: Thing(factor=2.0), lambda t: lambda x: t.scaled(x), sets(__class__=Inherited)),
    "the bases of a class": (
        *(lambda: type("Local", (type("Base", (Thing,), {"factor": 2.0}),), {})(), use_factor),
        lambda t: setattr(type(t), "__bases__", (type("Other", (Thing,), {"factor": 3.0}),)),
    ),
    "a class of classes": (lambda: Made("Local", (), {}), use_factor, lambda c: setattr(c, "factor", 3.0)),
    "a descriptor": (Described, use_factor, sets(hidden=3.0)),
    "a property that is replaced": (
        *(lambda: local(), lambda t: lambda x: x * t.double),
        lambda t: setattr(type(t), "double", property(lambda self: 5.0)),
    ),
    "__getattr__": (
        *(lambda: local(things={"k": 2.0}, __getattr__=lambda s, n: s.things[n]), lambda t: lambda x: x * t.k),
        lambda t: t.things.update(k=3.0),
    ),
    "a subclass that is registered": (
        *(lambda: type("Base", (abc.ABC,), {}), lambda c: lambda x: x * 2 if isinstance(1.5, c) else x),
        lambda c: c.register(float),
    ),
    "a dataclass that is replaced": (
        *(lambda: Thing(options=Frozen()), lambda t: lambda x: np.sum(x[None] * [[1], [2]], t.options.axes)),
        lambda t: sets(options=replace(t.options, axes=(1,)))(t),
    ),
    "a named tuple that is replaced": (
        *(lambda: Thing(options=Named()), lambda t: lambda x: x * t.options.factor),
        lambda t: sets(options=t.options._replace(factor=3.0))(t),
    ),
}
GLOBALS: dict[str, Row] = {
    "a function that is defined anew": (
        *(with_global(factor=2.0), lambda m: lambda x: m.scaled(x)),
        lambda m: exec("def scaled(x): return x - factor", vars(m)),
    ),
    "a helper of a global function": (
        lambda: (m := module(), exec("def g(x): return x * 2\ndef f(x): return g(x) + 1", vars(m)), m)[-1],
        lambda m: m.f,
        lambda m: exec("def g(x): return x * 3", vars(m)),
    ),
    "a module that is loaded anew": (
        lambda: (
            m := module(),
            exec("class Net:\n    k = 2.0\n    def __call__(self, x): return x * self.k", vars(m)),
            m,
        )[-1],
        lambda m: lambda x: m.Net()(x),
        lambda m: exec("class Net:\n    k = 3.0\n    def __call__(self, x): return x + self.k", vars(m)),
    ),
    "one that hides a builtin": (
        lambda: (m := module(), exec("def f(x): return x * sum([1, 2])", vars(m)), m)[-1],
        lambda m: m.f,
        lambda m: sets(sum=len)(m),
    ),
    "one that is found by globals()": (
        lambda: (m := module(a=2.0), exec("def f(x): return x * globals()['a']", vars(m)), m)[-1],
        lambda m: m.f,
        sets(a=3.0),
    ),
    "one that is evaluated": (
        lambda: (m := module(a=2.0), exec("def f(x): return x * eval('a')", vars(m)), m)[-1],
        lambda m: m.f,
        sets(a=3.0),
    ),
    "an attribute of an imported module": (
        *(lambda: None, lambda _: lambda x: x * getattr(sys.modules["surroundings"], "gain", 1.0)),
        lambda _: setattr(sys.modules["surroundings"], "gain", 3.0),
        lambda _: vars(sys.modules["surroundings"]).pop("gain", None),
    ),
    "the environment": (
        *(lambda: None, lambda _: lambda x: x * float(os.environ.get("MINIGRAD_TEST_GAIN", "1"))),
        lambda _: os.environ.update(MINIGRAD_TEST_GAIN="3"),
        lambda _: os.environ.pop("MINIGRAD_TEST_GAIN", None),
    ),
    "a variable of the context": (
        *(lambda: contextvars.ContextVar("gain", default=2.0), lambda v: lambda x: x * v.get()),
        lambda v: v.set(3.0),
    ),
    "a cell": (with_cell, lambda f: f, lambda f: setattr(f.__closure__[0], "cell_contents", 3.0)),
    "the defaults of a function": (
        *(lambda: lambda x, k=2.0: x * k, lambda f: f),
        lambda f: setattr(f, "__defaults__", (3.0,)),
    ),
    "the defaults of a keyword": (
        *(lambda: lambda x, *, k=2.0: x * k, lambda f: f),
        lambda f: f.__kwdefaults__.update(k=3.0),
    ),
    "the code of a function": (
        *(lambda: lambda x: x * 2, lambda f: f),
        lambda f: setattr(f, "__code__", (lambda x: x - 2).__code__),
    ),
    "a singleton behind a cache": (
        *(singleton, lambda get: lambda x: x * get().factor),
        *(lambda get: to_three(get()), lambda get: sets(factor=tensor(2.0))(get())),
    ),
    "an array of a singleton": (
        *(singleton, lambda get: lambda x: x * get().weight / math.sqrt(get().weight[1])),
        lambda get: writes([1.0, 2.0, 3.0])(get().weight),
    ),
    "a function that is chosen by the type": (
        *(dispatched, lambda f: f),
        lambda f: f.register(mg.Tensor, lambda x: x * 3),
    ),
    "a weak reference": (
        *(
            lambda: (t := Thing(factor=2.0), t.__dict__.update(ref=weakref.ref(t)), t)[-1],
            lambda t: lambda x: x * t.ref().factor,
        ),
        to_three,
    ),
}
DEEP: dict[str, Row] = {
    "lists in a list": (
        *(
            lambda: [[0, 1], [2]],
            lambda groups: lambda x: np.concatenate([np.sum(x[g], keepdims=True) ** 2 for g in groups]),
        ),
        lambda groups: groups.__setitem__(slice(None), [[0], [1, 2]]),
    ),
    "lists in a list, in place": (
        *(
            lambda: [[0, 1], [2]],
            lambda groups: lambda x: np.concatenate([np.sum(x[g], keepdims=True) ** 2 for g in groups]),
        ),
        lambda groups: groups[1].insert(0, groups[0].pop()),
    ),
    "the order of a dict": (
        *(lambda: {"a": np.sin, "b": np.exp}, lambda d: lambda x: functools.reduce(lambda y, f: f(y), d.values(), x)),
        lambda d: d.update(a=d.pop("a")),
    ),
    "a deque that turns": (
        *(lambda: collections.deque([2.0, 3.0]), lambda d: lambda x: x * d[0]),
        *(lambda d: d.rotate(), lambda d: d.rotate()),
    ),
    "a ChainMap": (
        *(lambda: collections.ChainMap({}, {"a": 2.0}), lambda d: lambda x: x * d["a"]),
        lambda d: d.maps.insert(0, {"a": 3.0}),
    ),
    "a UserDict": (
        *(lambda: collections.UserDict(a=2.0), lambda d: lambda x: x * d["a"]),
        lambda d: d.__setitem__("a", 3.0),
    ),
    "an array of objects": (
        *(lambda: np.array([2.0, Thing(factor=1.0)], object), lambda a: lambda x: x * a[0] * a[1].factor),
        *(lambda a: a.__setitem__(0, 3.0), lambda a: to_three(a[1])),
    ),
    "the names of a namespace": (
        *(
            lambda: SimpleNamespace(layers=["tanh"]),
            lambda s: lambda x: functools.reduce(lambda y, n: getattr(np, n)(y), s.layers, x),
        ),
        lambda s: s.layers.append("sin"),
    ),
    "20,000 numbers": (
        *(lambda: Thing(many=[1.0] * 20_000), lambda t: lambda x: x * t.many[3]),
        lambda t: t.many.__setitem__(3, 2.0),
    ),
    "vars": (lambda: Thing(factor=2.0), lambda t: lambda x: x * vars(t)["factor"], to_three),
    "the keywords of a partial": (
        *(lambda: functools.partial(lambda x, k: x * k, k=2.0), lambda f: lambda x: f(x)),
        lambda f: f.keywords.update(k=3.0),
    ),
    "parameters that are searched": (
        *(
            lambda: nn.Linear(1, 1, rng=np.random.default_rng(0), dtype=float),
            lambda m: lambda x: x + sum(np.sum(p) for p in nn.parameters(m)),
        ),
        *(lambda m: sets(weight=tensor([[5.0]]))(m), lambda m: sets(requires_grad=False)(m.weight)),
    ),
}
TENSORS: dict[str, Row] = {
    "an array beside its use in plain Python": (
        *(lambda: np.array([4.0, 1.0, 1.0]), lambda w: lambda x: x * w / math.sqrt(w[0])),
        *(writes([9.0, 1.0, 2.0]), writes([16.0, 2.0, 2.0])),
    ),
    "an array before its use in plain Python": (
        *(lambda: np.array([4.0, 1.0, 1.0]), lambda w: lambda x: x / math.sqrt(w[0]) * w),
        *(writes([9.0, 1.0, 2.0]), writes([16.0, 2.0, 2.0])),
    ),
    "the dtype of an array": (
        lambda: Variable(np.ones(3)),
        lambda v: v.f,
        lambda v: v.set(np.arange(3, dtype=np.float32)),
    ),
    "an array of integers": (lambda: Variable(np.ones(3)), lambda v: v.f, lambda v: v.set(np.arange(3))),
    "integers of another size": (
        *(lambda: Variable(np.arange(3, dtype=np.int8)), lambda v: v.f),
        lambda v: v.set(np.arange(3, dtype=np.int64) * 1000),
    ),
    "the byte order of an array": (
        *(lambda: Variable(np.ones(3)), lambda v: v.f),
        lambda v: v.set(np.arange(3.0).astype(">f8")),
    ),
    "an array for a float": (lambda: Variable(2.0), lambda v: v.f, lambda v: v.set(np.array(3.0)), lambda v: v.set(4)),
    "a NumPy number": (lambda: Variable(np.float64(2.0)), lambda v: v.f, lambda v: v.set(np.float64(3.0))),
    "a NumPy integer": (lambda: Variable(np.int64(2)), lambda v: v.f, lambda v: v.set(np.int64(3))),
    "a NumPy bool": (lambda: Variable(np.bool_(True)), lambda v: v.f, lambda v: v.set(np.bool_(False))),
    "a part of an array": (
        *(lambda: np.arange(6.0), lambda a: lambda x: x * a[: len(a) // 2]),
        writes([3.0, 4.0, 5.0, 0.0, 0.0, 0.0]),
    ),
    "parameters that are other objects": (
        *(lambda: Scaled(2.0), lambda m: m),
        *(sets(weight=tensor([4.0, 5.0, 6.0])), sets(weight=tensor([7.0, 5.0, 6.0]))),
    ),
    "a parameter of another dtype": (
        *(lambda: Scaled(2.0), lambda m: m),
        lambda m: sets(weight=mg.Tensor(np.ones(3, np.float32), requires_grad=True))(m),
    ),
    "a parameter of another shape": (lambda: Scaled(2.0), lambda m: m, sets(weight=tensor([[1.0], [2.0]]))),
    "an array for a parameter": (lambda: Scaled(2.0), lambda m: m, sets(weight=np.array([3.0, 2.0, 1.0]))),
    "two layers that change places": (
        *(lambda: nn.Sequential(Scaled(2.0), np.tanh, Scaled(3.0)), lambda m: m),
        lambda m: (first := m[0], m.__setitem__(0, m[2]), m.__setitem__(2, first)),
    ),
    "a parameter that two layers share": (
        *(lambda: nn.Sequential(Scaled(2.0), np.tanh, Scaled(3.0)), lambda m: m),
        *(lambda m: sets(weight=m[0].weight)(m[2]), lambda m: sets(weight=tensor([3.0, 1.0, 1.0]))(m[2])),
    ),
    "an array that is used twice": (
        *(lambda: Thing(a=np.ones(3), b=np.arange(3.0)), lambda t: lambda x: x * t.a + np.sin(x) * t.b),
        *(lambda t: sets(b=t.a)(t), lambda t: sets(b=t.a * 2)(t)),
    ),
    "a mode without gradients": (
        *(
            lambda: Thing(grad=True),
            lambda t: lambda x: x * 2 + without(np.sin, x) if not t.grad else x * 2 + np.sin(x),
        ),
        *(sets(grad=False), sets(grad=True)),
    ),
    "a call that needs no gradient": (
        *(lambda: Thing(stop=False), lambda t: lambda x: x * (np.sin(x).detach() if t.stop else np.sin(x))),
        *(sets(stop=True), sets(stop=False)),
    ),
    "a parameter that thaws in the middle": (
        *(lambda: nn.Sequential(Scaled(2.0), Scaled(3.0)), lambda m: m),
        *(lambda m: sets(requires_grad=False)(m[0].weight), lambda m: sets(requires_grad=False)(m[1].weight)),
        lambda m: sets(requires_grad=True)(m[0].weight),
    ),
    "a number of the data of a Tensor": (
        *(lambda: mg.Tensor([2.0, 1.0, 1.0]), lambda t: lambda x: x * t.data),
        *(lambda t: sets(data=[3.0, 1.0, 1.0])(t), lambda t: writes(4.0)(t.data)),
    ),
}


def without(f: Callable[..., Any], x: Any) -> Any:
    with mg.no_grad():
        return f(x)


@contextlib.contextmanager
def timed() -> Any:
    tic = time.perf_counter
    start = tic()
    yield
    assert tic() >= start


def generated() -> Any:
    """A Python generator of factors."""
    for k in itertools.count(1):
        yield float(k)


class Counting:
    """A tally that others read."""

    def __init__(self) -> None:
        self.n, self.log, self.rng = 0, [], np.random.default_rng(0)
        self.random, self.stream, self.cycle = random.Random(0), generated(), itertools.cycle([1.0, 2.0])
        self.seen: dict[Any, Any] = {}
        self.history = np.zeros(3)
        self.layer = nn.Dropout(0.5, rng=np.random.default_rng(1))

    def counted(self, x: Any) -> Any:
        self.n += 1
        return x * self.n

    def logged(self, x: Any) -> Any:
        self.log.append(len(self.log))
        return x * sum(self.log)

    def every_other(self, x: Any) -> Any:
        self.n += 1
        return np.sin(x) if self.n % 2 else x * 2

    def remembered(self, x: Any) -> Any:
        y = x * self.seen.setdefault(x.shape, len(self.seen) + 1)
        self.seen["last"] = self.n
        return y

    def timed(self, x: Any) -> Any:
        with timed():
            return x * 2

    def moved(self, x: Any) -> Any:
        self.history += 1
        return x * self.history

    def mixed(self, x: Any) -> Any:
        y = self.layer(x) * self.layer.rng.random()
        return self.layer(y) * self.rng.normal(size=3)

    def retried(self, x: Any) -> Any:
        try:
            return x * self.seen["gain"]
        except KeyError:
            self.seen["gain"] = 2.0
            return x


EFFECTS: dict[str, Row] = {  # the function itself changes what it uses, in each call
    "a counter": (Counting, lambda c: c.counted),
    "a list that grows": (Counting, lambda c: c.logged),
    "every other call": (Counting, lambda c: c.every_other),
    "a dict that remembers shapes": (Counting, lambda c: c.remembered),
    "a clock": (Counting, lambda c: c.timed),
    "an array that is moved before its use": (Counting, lambda c: c.moved),
    "numbers of a generator": (Counting, lambda c: lambda x: x * c.rng.random()),
    "arrays of a generator": (Counting, lambda c: lambda x: x * c.rng.normal(size=3) + c.rng.random(3)),
    "integers of a generator": (Counting, lambda c: lambda x: x[c.rng.permutation(3)] * [1, 2, 3]),
    "a branch by a generator": (Counting, lambda c: lambda x: x * 2 if c.rng.random() < 0.5 else np.sin(x)),
    "numbers of random": (Counting, lambda c: lambda x: x * c.random.random()),
    "a choice of random": (Counting, lambda c: lambda x: c.random.choice([np.sin, np.cos])(x)),
    "a Python generator": (Counting, lambda c: lambda x: x * next(c.stream)),
    "a loop over a Python generator": (Counting, lambda c: lambda x: sum(x * k for k in itertools.islice(c.stream, 3))),
    "a cycle": (Counting, lambda c: lambda x: x * next(c.cycle)),
    "a dropout and its generator": (Counting, lambda c: c.mixed),
    "an error that is caught": (Counting, lambda c: c.retried),
    "a nonlocal variable": (lambda: Variable(1.0), lambda v: lambda x: (v.set(v.value + 1), v.f(x))[1]),
    "a global variable": (lambda: module(tally=0), lambda m: lambda x: m.counted(x) * m.tally),
    "a set": (set, lambda s: lambda x: (s.add(len(s)), x * len(s))[1]),
    "samples": (Counting, lambda c: lambda x: x * mg.sample(c.rng.random, 3) + mg.sample(c.rng.random)),
    "samples and numbers of one generator": (
        *(Counting, lambda c: lambda x: x * mg.sample(c.rng.random, 3) * c.rng.random() * mg.sample(c.rng.normal)),
    ),
    "an attribute that keeps what is given": (
        *(lambda: Thing(latest=None), lambda t: lambda x: (x * 2 if t.latest is None else x * 3, sets(latest=1)(t))[0]),
    ),
}
AFRESH = {
    f"{place}: {name}": row
    for place, table in {
        "variable": VARIABLES,
        "attribute": ATTRIBUTES,
        "container": CONTAINERS,
        "module": MODULES,
        "in place": IN_PLACE,
        "class": CLASSES,
        "global": GLOBALS,
        "deep": DEEP,
        "tensor": TENSORS,
    }.items()
    for name, row in table.items()
}


def penalized(f: Callable[..., Any]) -> Callable[..., Any]:
    """A loss with a gradient in it."""
    both = mg.value_and_grad(weighted(f))

    def loss(x: Any) -> Any:
        value, gradient = both(x)
        return value + np.sum(gradient**2)

    return loss


WAYS: dict[str, Callable[..., Any]] = {  # what is made of a function before it is compiled
    "alone": lambda f: f,
    "in a gradient": penalized,
}


@pytest.mark.parametrize("way", profiles.scale(["in a gradient"], list(WAYS)))
@pytest.mark.parametrize("name", AFRESH)
def test_what_it_closes_over_is_read_afresh(name: str, way: str) -> None:
    make, use, *changes = AFRESH[name]
    _, found = side_by_side((make, lambda thing: WAYS[way](use(thing)), *changes))
    assert all(repr(a) != repr(b) for a, b in itertools.pairwise(found[::2])), "this change changes nothing"


@pytest.mark.parametrize(
    ("name", "way"), [(name, way) for i, name in enumerate(EFFECTS) for way in profiles.some([*WAYS], 2, i)]
)
@pytest.mark.filterwarnings("ignore:.*was traced")
def test_what_it_does_besides_happens_once_a_call(name: str, way: str) -> None:
    make, use = EFFECTS[name]
    side_by_side((make, lambda thing: WAYS[way](use(thing))), calls=5)


ITS_OWN: dict[str, Callable[..., Any]] = {
    "a list": lambda x: (parts := [x], parts.append(x * 2), np.concatenate(parts))[2],
    "a dict": lambda x: (parts := {}, parts.update(a=x * 3), parts["a"])[2],
    "an object": lambda x: Thing(tally=0).counted(x),
    "an iterator": lambda x: x * next(iter([3.0])),
    "a count": lambda x: (count := itertools.count(2), x * next(count) * next(count))[1],
    "a generator": lambda x: x * np.random.default_rng(0).random(3),
    "an array": lambda x: (a := np.ones(3), np.add(a, 1, out=a), x * a)[2],
    "a model": lambda x: Scaled(3.0)(x),
}


@pytest.mark.parametrize("name", ITS_OWN)
def test_what_is_made_inside_may_change(name: str) -> None:
    compiled = mg.compile(ITS_OWN[name])
    for _ in range(3):
        assert_close(measured(weighted(compiled), None), measured(weighted(ITS_OWN[name]), None))
    assert compiled.traces == 1


UNSTEADY: dict[str, Callable[[Any], Any]] = {
    "an unseeded generator": lambda x: x * np.random.default_rng().random(2),
    "an unseeded generator of Python": lambda x: x * random.Random().random(),
    "numbers of random": lambda x: x * random.random(),
    "numbers of np.random": lambda x: x * np.random.standard_normal(2),  # noqa: NPY002
    "the clock": lambda x: x * time.perf_counter(),
    "bytes of the system": lambda x: x * int.from_bytes(os.urandom(4), "big"),
}


@pytest.mark.parametrize("name", UNSTEADY)
def test_what_is_different_each_time_is_so_in_each_call(name: str) -> None:
    compiled = mg.compile(UNSTEADY[name])
    answers = [tuple(compiled(np.ones(2))) for _ in range(6)]
    assert len(set(answers)) == 6
    assert compiled.traces <= 3


# --------------------------------------------------------------------------------- arrays that are overwritten later


def between_two_uses(x: Any, m: Any, use: Callable[..., Any]) -> Any:
    y = x * use(m)
    m += 1
    return y + np.sin(x) * use(m)


def an_element(x: Any, m: Any, use: Callable[..., Any]) -> Any:
    m[0] = 1.5
    y = x * use(m)
    m[-1] = -1
    return y * 2


def a_loop(x: Any, m: Any, use: Callable[..., Any]) -> Any:
    total = 0.0
    for i in range(3):
        m[i] = i + 2
        total = total + x * use(m)
    return total


def an_out(x: Any, m: Any, use: Callable[..., Any]) -> Any:
    y = x / use(m)
    np.multiply(m, 2, out=m)
    return y


def a_view_of_its_own(x: Any, m: Any, use: Callable[..., Any]) -> Any:
    row = m[:]
    y = x * use(row)
    m[1] = 7
    return y * use(row)


def a_keyword(x: Any, m: Any, use: Callable[..., Any]) -> Any:
    mask = m > 1
    y = np.sum(x, where=use(mask)) * x
    mask[:] = True
    return y + np.sum(x, where=use(mask))


OVERWRITTEN: dict[str, Callable[..., Any]] = {
    "between two uses": between_two_uses,
    "an element": an_element,
    "in a loop": a_loop,
    "as an out": an_out,
    "by a view of its own": a_view_of_its_own,
    "in a keyword": a_keyword,
    "an array of its own": lambda x, m, use: between_two_uses(x, np.zeros(3), use),
    "an array of its own, in a loop": lambda x, m, use: a_loop(x, np.zeros(3), use),
    "one that appears as a copy": lambda x, m, use: between_two_uses(x, m.copy(), use),
}


@pytest.mark.parametrize("name", OVERWRITTEN)
def test_an_array_that_is_overwritten_counts_as_it_was(name: str) -> None:
    f, arrays = OVERWRITTEN[name], [np.arange(1.0, 4.0) for _ in range(2)]
    eager = lambda x: f(x, arrays[0], np.copy)  # without which the gradient is that of the array as it is afterwards
    compiled = mg.compile(lambda x: f(x, arrays[1], lambda m: m))
    for _ in range(4):
        assert_close(measured(weighted(compiled), None), measured(weighted(eager), None))
        np.testing.assert_array_equal(*arrays)


@pytest.mark.parametrize("name", OVERWRITTEN)
def test_an_array_that_is_overwritten_is_no_reason_to_trace_anew(name: str) -> None:
    m = np.arange(1.0, 4.0)
    compiled = mg.compile(lambda x: OVERWRITTEN[name](x, m, lambda m: m))
    for _ in range(4):
        compiled(np.ones(3))
    assert compiled.traces <= 2


@pytest.mark.parametrize("pure", [False, True])
def test_a_large_array_is_locked_until_the_program_has_run(pure: bool) -> None:
    m, late = np.ones(10_000), Thing(writes=False)

    def f(x: Any) -> Any:
        y = np.sum(x * m)
        if late.writes:
            m[0] = 5
        return y

    compiled = mg.compile(f, pure=pure)
    x = tensor(np.ones(10_000))
    for late.writes in (False, True, False, True):
        if late.writes and not pure:
            with pytest.raises((TraceError, ValueError), match=r"[a-z ]{20,}"):
                compiled(x)
        else:
            assert compiled(x).item() == 10_000
        assert m.flags.writeable
        assert m[0] == 1
    m[0], late.writes = 2, False
    assert compiled(x).item() == 10_001


def test_a_write_to_a_locked_array_says_what_to_do() -> None:
    m = np.ones(10_000)
    compiled = mg.compile(lambda x: (np.sum(x * m), m.fill(5))[0])
    for _ in range(2):
        with pytest.raises(TraceError, match="copy") as caught:
            compiled(np.ones(10_000))
        assert "test_contract.py" in str(caught.value)
    assert m.flags.writeable
    np.testing.assert_array_equal(m, 1)


def test_an_array_that_was_read_only_stays_so() -> None:
    m = np.ones(10_000)
    m.flags.writeable = False
    compiled = mg.compile(lambda x: np.sum(x * m))
    for _ in range(2):
        assert compiled(np.ones(10_000)) == 10_000
        assert not m.flags.writeable


def test_an_error_unlocks_what_was_locked() -> None:
    m = np.ones(10_000)

    def f(x: Any) -> Any:
        y = np.sum(x * m)
        raise KeyError(y.shape)

    for _ in range(2):
        with pytest.raises(KeyError):
            mg.compile(f)(np.ones(10_000))
        m += 1


# ------------------------------------------------------------------------------------------- how often it is traced


class Fresh:
    """Data that changes at each step."""

    def __init__(self) -> None:
        self.i, self.model = 0, network(3, 2)
        self.next()
        self.p, self.scale = tensor([1.0, 2.0, 3.0]), 1.0

    def next(self) -> None:
        rng = np.random.default_rng(self.i)
        self.i += 1
        self.batch, self.large = rng.random(3), rng.random((3, 2000))
        self.labels, self.mask = rng.integers(0, 3, 3), rng.random(3) < 0.5
        self.tensor, self.table = mg.Tensor(rng.random(3)), {"a": [rng.random(3)], "b": (rng.random(3),)}
        self.rows = [rng.random(3) for _ in range(3)]
        self.scale = float(rng.random())


def tried(x: Any) -> Any:
    try:
        return x @ np.ones((5, 5))
    except ValueError:
        return x * 2


def stepped(model: Any) -> None:
    """One step of an optimizer."""
    optimizer = mg.optim.SGD(nn.parameters(model), lr=0.1)
    for parameter in nn.parameters(model):
        parameter.grad = np.ones(parameter.shape)
    optimizer.step()
    optimizer.zero_grad()


anew = (lambda thing: thing.next(),) * 4
KEPT: dict[str, Row] = {  # what changes nothing that a program depends on
    "a new batch": (Fresh, lambda d: lambda x: x * d.batch, *anew),
    "a large new batch": (Fresh, lambda d: lambda x: x @ d.large, *anew),
    "a new mask": (Fresh, lambda d: lambda x: np.where(d.mask, x, 0), *anew),
    "new labels": (Fresh, lambda d: lambda x: np.sum(x[d.labels] * d.batch), *anew),
    "a new Tensor": (Fresh, lambda d: lambda x: x * d.tensor, *anew),
    "new arrays in lists": (Fresh, lambda d: lambda x: x * d.table["a"][0] + d.table["b"][0], *anew),
    "new arrays in a loop": (Fresh, lambda d: lambda x: sum(x * row for row in d.rows), *anew),
    "a view that is made inside": (Fresh, lambda d: lambda x: x * d.large[:, 3], *anew),
    "an array that is made inside": (Fresh, lambda d: lambda x: x * (d.batch + 1) * d.batch.sum(), *anew),
    "a new batch with a parameter": (Fresh, lambda d: lambda x: x * d.batch * d.p, *anew),
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
    "an equal tuple": (lambda: Thing(axes=(0,)), lambda t: lambda x: np.sum(x, t.axes), lambda t: sets(axes=(0,))(t)),
    "an equal slice": (lambda: Thing(n=2), lambda t: lambda x: x[: t.n] * x[0], lambda t: sets(n=int("2"))(t)),
    "an equal list": (lambda: [0, 2], lambda s: lambda x: x[list(s)], lambda s: s.__setitem__(slice(None), [0, 2])),
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
    "numbers of a generator": (Counting, lambda c: lambda x: x * c.rng.random(3), *[lambda c: None] * 3),
    "a dropout": (lambda: nn.Dropout(0.5, rng=np.random.default_rng(0)), lambda d: d, *[lambda d: None] * 3),
    "a counter that does not count": (Counting, lambda c: lambda x: (c.counted(1), x * 2)[1], *[lambda c: None] * 3),
    "a list that is made anew": (Fresh, lambda d: lambda x: np.concatenate([x, d.batch]), *anew),
    "a lambda that is made anew": (Fresh, lambda d: lambda x: (lambda y: y * d.batch)(x), *anew),
    "an error that is caught inside": (Fresh, lambda d: lambda x: tried(x), *anew),
    "a requirement that is set inside": (
        *(lambda: Scaled(2.0), lambda m: lambda x: (setattr(m.weight, "requires_grad", True), m(x))[1]),
        *[lambda m: None] * 3,
    ),
    "a gradient inside": (Fresh, lambda d: lambda x: mg.grad(lambda y: np.sum(y**3 * d.batch))(x), *anew),
    "a checkpoint inside": (Fresh, lambda d: lambda x: mg.checkpoint(lambda y: np.sin(y) * d.batch)(x), *anew),
}


@pytest.mark.parametrize("name", KEPT)
def test_it_is_not_traced_anew_for(name: str) -> None:
    make, use, *changes = KEPT[name]
    compiled, _ = side_by_side((make, use, *changes), tolerance=1e-6)
    assert compiled.traces == 1


NUMBERS: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "a factor": lambda d: lambda x: x * d.scale,
    "a factor on the left": lambda d: lambda x: d.scale * x,
    "a term": lambda d: lambda x: x + d.scale,
    "a divisor": lambda d: lambda x: x / (d.scale + 1),
    "an exponent": lambda d: lambda x: np.exp(x) ** d.scale,
    "two": lambda d: lambda x: x * d.scale + d.scale**2,
    "a bound": lambda d: lambda x: np.maximum(x, d.scale),
    "a NumPy number": lambda d: lambda x: x * np.float64(d.scale),
    "a number of an array": lambda d: lambda x: x * d.batch[1] + float(d.batch.sum()),
    "one of a method": lambda d: lambda x: np.multiply(x, d.scale).sum(),
    "an integer": lambda d: lambda x: x * d.i,
    "six in a row": lambda d: lambda x: functools.reduce(lambda y, i: np.sin(y * (d.scale + i)), range(6), x),
    "bounds of np.clip": lambda d: lambda x: np.clip(x, -d.scale, d.scale),
    "a choice of np.where": lambda d: lambda x: np.where(x > 0, x, d.scale),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_change_at_each_call_are_soon_read_anew(name: str) -> None:
    compiled, _ = side_by_side((Fresh, NUMBERS[name], *anew, *anew))
    assert compiled.traces <= 3


def test_modes_that_were_there_before_are_not_traced_anew() -> None:
    model = nn.Sequential(Scaled(2.0), np.tanh)
    compiled = mg.compile(lambda x: np.sum(model(x)))
    for _ in range(3):
        for mode in (True, False):
            model.train(mode)
            assert_close(measured(compiled, model), measured(lambda x: np.sum(model(x)), model))
    assert compiled.traces == 2


def test_ways_that_alternate_are_kept() -> None:
    ways = [np.sin, np.cos, np.tanh, np.exp]
    chosen = Thing(way=np.sin)
    compiled = mg.compile(lambda x: np.sum(chosen.way(x * 2) + 1))
    for chosen.way in ways * 5:
        assert_close(measured(compiled, None), measured(compiled.f, None))
    assert compiled.traces == len(ways)


@pytest.mark.filterwarnings("ignore:.*was traced")
def test_a_bounded_number_of_programs_is_kept() -> None:
    thing = Thing(kind=0)
    compiled = mg.compile(lambda x: np.sum(np.reshape(x, (1,) * thing.kind + (3,))) * 2)
    for thing.kind in range(20):
        x = tensor(np.ones(3))
        compiled(x)
    assert compiled.traces == 20
    assert sum(len(family.programs) for family in compiled.families.values()) <= 16


def test_a_bounded_number_of_signatures_is_kept() -> None:
    compiled = mg.compile(lambda x, k: x * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(260):
            compiled(np.ones(2), k)
    assert len(compiled.families) <= 256


@pytest.mark.parametrize("kind", [np.array, mg.Tensor])
def test_things_that_were_one_are_one_or_traced_anew(kind: Callable[[Any], Any]) -> None:
    one, other = kind(np.arange(3.0)), kind(np.ones(3))
    thing = Thing(a=one, b=one)
    compiled = mg.compile(lambda x: x * thing.a + np.sin(x) * thing.b)
    x = mg.Tensor([0.5, 1.5, 2.5])
    for thing.a, thing.b in [(one, one), (other, other), (other, one), (one, other), (other, one), (one, one)]:
        assert_close(compiled(x).data, compiled.f(x).data)
    assert compiled.traces <= 3


def test_a_number_that_a_composite_looks_at_is_compared() -> None:
    places = np.array([0.25, 0.5])
    compiled = mg.compile(lambda x: np.quantile(x, places) * 2)
    for numbers in ([0.25, 0.5], [0.75, 0.1], [0.25, 0.5]):
        places[...] = numbers
        assert_close(compiled(x := np.array([1.0, 2.0, 7.0, 5.0])), np.quantile(x, places) * 2)


def test_what_did_not_fit_one_way_may_fit_another() -> None:
    mask, thing = np.array([True, False, True]), Thing(b=np.ones(3))
    compiled = mg.compile(lambda x: np.where(mask, x, thing.b) * 2)
    for thing.b in [np.ones(3), np.zeros(1)] * 4:
        assert_close(compiled(np.ones(3) * 3), np.where(mask, 3, thing.b) * 2.0)
    assert compiled.traces == 2


def test_what_is_equal_after_a_difference_belongs_to_the_new_program() -> None:
    thing = Thing(f=np.sin)
    compiled = mg.compile(lambda x: thing.f(x) * np.exp(x))
    for thing.f in (np.sin, np.cos, np.sin, np.cos):
        assert_close(compiled(np.ones(3)), thing.f(np.ones(3)) * np.exp(np.ones(3)))
    assert compiled.traces == 2


def test_values_that_are_equal_are_one_signature() -> None:
    compiled = mg.compile(lambda x, part: x[part] * 2)
    for _ in range(20):
        compiled(np.ones(4), slice(0, 2))
    assert compiled.traces == 1


@pytest.mark.filterwarnings("ignore:.*was traced")
def test_programs_for_things_that_are_gone_are_forgotten() -> None:
    compiled = mg.compile(lambda x, thing: x * thing.factor)
    for _ in range(300):
        compiled(np.ones(2), Thing())
    assert len(compiled.families) <= 256


# -------------------------------------------------------------------------------------------------------- arguments

ARGUMENTS: dict[str, Row] = {
    "an attribute": (lambda: Thing(factor=2.0), lambda t, x: x * t.factor, to_three),
    "an attribute of a part": (lambda: Thing(part=Thing()), lambda t, x: t.part.scaled(x), lambda t: to_three(t.part)),
    "a compiled method": (lambda: Thing(factor=2.0), Thing.scaled, to_three),
    "what is called": (lambda: Thing(factor=2.0), lambda t, x: t(x), to_three),
    "a model": (lambda: Scaled(2.0), lambda m, x: m(x), to_three, lambda m: m.eval()),
    "an argument of the name model": (
        *(lambda: Scaled(2.0), lambda model, x: model(x)),
        *(to_three, lambda m: m.eval(), sets(weight=tensor([5.0, 1.0, 1.0]))),
    ),
    "a class": (lambda: type("Local", (Thing,), {"factor": 2.0}), lambda c, x: c().scaled(x), to_three),
    "a function": (lambda: marked(factor=2.0), lambda f, x: x * f.factor, to_three),
    "an array in place": (
        lambda: Thing(factor=np.ones(3)),
        lambda t, x: x * t.factor.sum(),
        lambda t: OTHERS(t.factor),
    ),
    "a Tensor": (lambda: Thing(factor=tensor(2.0)), Thing.scaled, sets(factor=tensor(3.0))),
    "a list": (lambda: [2.0, 1.0], lambda s, x: x * s[0], lambda s: s.__setitem__(0, 3.0)),
    "a list that grows": (lambda: [2.0, 1.0], lambda s, x: x * len(s), lambda s: s.append(3.0)),
    "a dict": (lambda: {"a": 2.0}, lambda d, x: x * sum(d.values()), lambda d: d.update(b=3.0)),
    "lists in a list": (
        *(lambda: [[0, 1], [2]], lambda groups, x: np.concatenate([np.sum(x[g], keepdims=True) ** 2 for g in groups])),
        lambda groups: groups.__setitem__(slice(None), [[0], [1, 2]]),
    ),
    "a set": (lambda: {1}, lambda s, x: x * len(s), lambda s: s.add(2)),
    "a deque": (lambda: collections.deque([2.0]), lambda s, x: x * s[0], lambda s: s.__setitem__(0, 3.0)),
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


GIVEN: dict[str, tuple[Callable[..., Any], list[tuple[Any, ...]]]] = {  # a function, and arguments of several calls
    "shapes and dtypes": (
        lambda x: np.sum(x**2),
        [
            (np.ones(3),),
            (np.ones((2, 3)),),
            (np.ones(3, np.float32),),
            (np.ones(3),),
            (np.float64(2),),
            (np.arange(3),),
        ],
    ),
    "np.asarray of an array": (lambda x: np.asarray(x) * 2, [(np.ones(3),), (np.arange(3.0),)]),
    "a float of a number": (lambda x, k: x * float(k), [(np.ones(3), 2), (np.ones(3), 2.5), (np.ones(3), True)]),
    "a float of a NumPy number": (
        *(lambda x, k: x * float(k),),
        [(np.ones(3), np.float64(2)), (np.ones(3), np.float64(3)), (np.ones(3), np.float32(3))],
    ),
    "an int of a NumPy number": (
        *(lambda x, k: x[: int(k)],),
        [(np.ones(3), np.int64(2)), (np.ones(3), np.int64(1)), (np.ones(3), np.int32(1))],
    ),
    "a range of a NumPy number": (
        *(lambda x, k: sum(x * i for i in range(k)),),
        [(np.ones(3), np.int64(2)), (np.ones(3), np.int64(4))],
    ),
    "bools": (
        lambda x, on: x * 2 if on else x,
        [(np.ones(3), True), (np.ones(3), False), (np.ones(3), np.bool_(False))],
    ),
    "texts": (lambda x, kind: getattr(np, kind)(x), [(np.ones(3), "sin"), (np.ones(3), "cos"), (np.ones(3), "sin")]),
    "None": (
        lambda x, y=None: x if y is None else x * y,
        [(np.ones(3),), (np.ones(3), None), (np.ones(3), np.ones(3))],
    ),
    "the sign of zero": (np.copysign, [(np.ones(3), 0.0), (np.ones(3), -0.0)]),
    "True and 1": (lambda x, k: x * 2 if k is True else x, [(np.ones(3), 1), (np.ones(3), True), (np.ones(3), 1.0)]),
    "uint8 and negative numbers": (
        lambda labels: np.where(labels != -1, 1.0, 0.0),
        [(np.array([0, 255], np.uint8),), (np.array([0, -1]),), (np.array([1, 2], np.uint8),)],
    ),
    "integers beyond the dtype": (
        lambda x: x < 2**40,
        [(np.array([1, 2], np.int8),), (np.array([2**41, 2]),), (np.array([2**30, 2], np.int32),)],
    ),
    "big endian": (lambda x: np.sin(x) * 2, [(np.arange(3.0).astype(">f8"),), (np.arange(3.0),)]),
    "nothing": (lambda x: np.sin(x) * 2, [(np.ones((0, 3)),), (np.ones(0),), (np.ones((2, 3)),)]),
    "a sum of nothing": (lambda x: np.sum(x * 2, 0) + 1, [(np.ones((0, 3)),), (np.ones((2, 3)),)]),
    "Python numbers alone": (lambda a, b: np.sin(a) * b, [(1.0, 2.0), (2.0, 2.0), (2, 3)]),
    "no arguments": (lambda: np.sum(np.ones(3)) * 2, [(), ()]),
    "lists of arrays": (lambda xs: sum(x * 2 for x in xs), [([np.ones(2)],), ([np.ones(2), np.ones(2)],)]),
    "dicts of arrays": (lambda d: d["a"] * 2, [({"a": np.ones(2)},), ({"a": np.ones(3), "b": np.ones(2)},)]),
    "one array twice": (lambda x, y: x * y, [(a := np.arange(3.0), a), (np.ones(3), a), (a, np.ones(3))]),
    "complex numbers": (lambda x: x * 2, [(np.ones(2) * 1j,), (np.arange(2) * (1 + 1j),)]),
    "texts in an array": (lambda x, names: x * len(names), [(np.ones(2), ["a"]), (np.ones(2), ["a", "b"])]),
}


@pytest.mark.parametrize("name", GIVEN)
def test_arguments_of_all_kinds(name: str) -> None:
    f, calls = GIVEN[name]
    compiled = mg.compile(f)
    for args in (*calls, *calls):
        found, wanted = compiled(*args), f(*args)
        assert type(found) is type(wanted) or np.ndim(wanted) == 0
        found, wanted = np.asarray(found), np.asarray(wanted)
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_a_memory_map_is_an_array(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", np.arange(6.0))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    compiled = mg.compile(lambda x: np.sum(x * mapped))
    assert compiled(mapped) == compiled(np.arange(6.0)) == 55


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


def test_what_is_printed_is_printed_at_each_call(capsys: pytest.CaptureFixture[str]) -> None:
    compiled = mg.compile(lambda x: (print("a call"), x * 2)[1])
    for _ in range(3):
        compiled(np.ones(2))
    assert capsys.readouterr().out == "a call\n" * 3


@pytest.mark.parametrize("grad", [False, True])
def test_a_mode_around_the_call_counts(grad: bool) -> None:
    p = tensor(np.ones(3))
    compiled = mg.compile(lambda x: np.sum(x * p))
    for mode in (grad, not grad, grad):
        with contextlib.nullcontext() if mode else mg.no_grad():
            answer = compiled(np.ones(3))
        assert isinstance(answer, mg.Tensor)
        assert answer.requires_grad is mode
    assert compiled.traces == 2


def test_requires_grad_that_the_function_toggles() -> None:
    def made() -> tuple[Any, Any]:
        model, state = nn.Sequential(Scaled(2.0), Scaled(3.0)), Thing(n=0)

        def f(x: Any) -> Any:
            state.n += 1
            model[0].weight.requires_grad = state.n % 3 != 0
            return model(x)

        return f, model

    (f, model), (g, twin) = made(), made()
    compiled = mg.compile(f)
    for _ in range(7):
        assert_close(measured(weighted(compiled), model), measured(weighted(g), twin))
        assert model[0].weight.requires_grad is twin[0].weight.requires_grad


def test_functions_around_that_are_compiled_themselves() -> None:
    thing = Thing(factor=2.0)
    inner = mg.compile(lambda x: np.sin(x) * thing.factor)
    outer = mg.compile(lambda x: inner(x) + inner(x * 2))
    eager = lambda x: inner.f(x) + inner.f(x * 2)
    for thing.factor in (2.0, 3.0, 2.0):
        assert_close(measured(weighted(outer), None), measured(weighted(eager), None))
    assert inner.traces == 0


def test_what_a_rule_reads_is_that_of_its_call() -> None:
    thing = Thing(factor=1.0)

    @mg.primitive(lambda g, ans, x: -thing.factor * g)
    def reverse(x: Any) -> Any:
        return x * 1

    compiled = mg.compile(lambda x: np.sum(reverse(x)))
    for factor in (1.0, 0.5):
        thing.factor = factor
        compiled(x := tensor([1.0, 2.0])).backward()
        assert_close(x.grad, np.full(2, -factor))


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


TWICE = {
    "in two calls": lambda s, x: x * s[0] - s[1],
    "in one call": lambda s, x: x * np.stack(s),
    "as two arguments": lambda s, x: np.where(x > 0, *s),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_tensor_that_was_met_once_stands_for_itself(name: str) -> None:
    tensors = [mg.Tensor(np.ones(2))] * 2
    compiled = mg.compile(lambda x: TWICE[name](tensors, x))
    for second in (tensors[0], mg.Tensor(np.zeros(2)), mg.Tensor(np.full(2, 3.0)), tensors[0]):
        tensors[1] = second
        for x in (np.ones(2), -np.ones(2)):
            np.testing.assert_array_equal(compiled(x), TWICE[name](tensors, x))


def test_an_argument_that_is_returned_is_that_of_the_call() -> None:
    compiled = mg.compile(lambda x: (x, x * 2), pure=True)
    for x in (np.zeros(2), np.ones(2), mg.Tensor(np.ones(2)), mg.Tensor(np.zeros(2))):
        assert compiled(x)[0] is x
