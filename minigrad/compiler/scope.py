"""What a function finds outside of itself, and whether that is still what it was.

A program that was written for a function is right as long as everything its code looks up is the same: variables of
enclosing functions and modules, attributes of objects and classes, items of lists and dicts. Only what the code names
is looked at, so that a counter which somebody else keeps in the same object is no change.
"""

from __future__ import annotations

import dis
import functools
import io
import os
import random
import sys
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from operator import is_
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from minigrad.compiler.trace import TraceError, copy_of, owner_of, same_numbers
from minigrad.engine import Array, Tensor, array_of, vjps

INSTALLED = (str(Path(os.__file__).parent), "site-packages", "dist-packages")  # where libraries lie
CONSTANTS = (bool, int, float, complex, str, bytes, np.generic, type(None))  # equal when their numbers are
WRITING = {"__init__", "__new__", "__repr__", "__str__", "__eq__", "__hash__", "__setattr__", "__setitem__"}
CONTAINERS = (Mapping, Sequence, Set, ValuesView, ItemsView)
WHOLE = {"vars", "__dict__", "asdict", "astuple", "attrgetter", "parameters", "named_parameters", "state_dict"}
NUMBER_READERS = {"float", "int", "bool", "complex", "item", "tolist"}
NONDETERMINISTIC = {"random", "default_rng", "RandomState", "Random", "urandom", "time", "perf_counter", "now", "uuid4"}
LIMIT = 10_000  # things that a function may reach


class Scope:
    """All that a function finds, each thing with a name like `model.0.weight`; it starts with some `roots`."""

    def __init__(self, roots: Mapping[str, Any]) -> None:
        self.names: list[str] = []  # of variables
        self.looks: list[Callable[[], Any]] = []  # how to look at each
        self.containers: list[tuple[str, Any]] = []  # lists and the like, of which every item counts
        self.tensors: dict[Tensor, str] = {}
        self.arrays: list[tuple[str, Array]] = []
        self.generators: list[tuple[str, Any]] = []  # of random numbers
        self.iterators: list[str] = []
        self.code_names, self.stored = {"forward", "__wrapped__"}, set[str]()
        self.reads_numbers = False  # whether the code may look at numbers of arrays, or branch
        self.nondeterministic = False  # whether the code names clocks or sources of random numbers
        self.silent = False  # whether the code may ask NumPy for other warnings
        self.namespaces: list[tuple[str, Namespace]] = []
        self.watched: set[Any] = set()
        self.seen: dict[int, Any] = {}
        self.queue = list(roots.items())
        while self.queue:
            for name, thing in self.queue:  # which grows on the way
                if not isinstance(thing, CONSTANTS) and id(thing) not in self.seen:
                    self.seen[id(thing)] = thing
                    self.visit(name, thing)
                if len(self.seen) > LIMIT:
                    raise TraceError(
                        f"the function finds more than {LIMIT:,} things ({name} is one), too many to see whether one "
                        "of them changes: give it what it needs as arguments."
                    )
            self.queue = []
            for prefix, space in self.namespaces:
                for key in space.keys(self.code_names, self.stored):
                    self.watch(f"{prefix}{key}", (id(space), key), space.look(key))
        self.remember()

    def watch(self, name: str, key: Any, look: Callable[[], Any]) -> None:
        """Look at a variable now and later."""
        if key in self.watched:
            return
        self.watched.add(key)
        thing = look()
        if isinstance(thing, ModuleType) and is_library(thing):
            return
        self.names.append(name)
        self.looks.append(look)
        self.queue.append((name, thing))

    def visit(self, name: str, thing: Any) -> None:
        """Find out what a thing leads to."""
        prefix = f"{name}." if name else ""
        if isinstance(thing, Tensor):
            self.tensors[thing] = name
        elif isinstance(thing, np.ndarray) and thing.dtype.kind != "O":
            self.arrays.append((name, thing))
        elif isinstance(thing, FunctionType):
            self.function(prefix, thing)
        elif isinstance(thing, (staticmethod, classmethod, MethodType)):
            self.queue += [(name, thing.__func__), (name, getattr(thing, "__self__", None))]
        elif isinstance(thing, property):
            self.queue.append((name, thing.fget))
        elif isinstance(thing, functools.partial):
            self.queue += [(name, thing.func), (name, thing.args), (name, thing.keywords)]
        elif isinstance(thing, (ModuleType, type)):
            self.queue += [("", base) for base in getattr(thing, "__bases__", ())]
            if not is_library(thing):
                self.namespaces.append((prefix, Namespace(thing)))
            elif isinstance(thing, type):  # for the names of attributes in the code of layers
                self.queue += [("", vars(thing)[key]) for key in ("forward", "__call__") if key in vars(thing)]
        elif isinstance(thing, random.SystemRandom) or (
            isinstance(thing, Iterator) and not isinstance(thing, io.IOBase)
        ):
            self.iterators.append(name)
        elif isinstance(thing, random.Random) or hasattr(type(thing), "_bit_generator"):
            self.generators.append((name, thing))
        else:
            self.object(name, prefix, thing)

    def function(self, prefix: str, function: FunctionType) -> None:
        code, given = function.__code__, function.__defaults__ or ()
        names, stored, branches = names_of(code)
        self.code_names |= names
        self.stored |= stored
        self.queue += [("", rule) for rule in vjps.get(function, ()) if rule is not None]
        for key, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            self.watch(key, id(cell), functools.partial(getattr, cell, "cell_contents", None))
        self.queue += zip(code.co_varnames[code.co_argcount - len(given) :], given, strict=False)
        self.queue += (function.__kwdefaults__ or {}).items()
        if not is_library(function.__globals__.get("__name__", "")):
            self.reads_numbers = self.reads_numbers or branches or not names.isdisjoint(NUMBER_READERS)
            self.nondeterministic = self.nondeterministic or not names.isdisjoint(NONDETERMINISTIC)
            self.silent = self.silent or "errstate" in names
            self.namespaces.append(("", Namespace(function.__globals__, names)))
            self.namespaces.append((prefix, Namespace(function)))

    def object(self, name: str, prefix: str, thing: Any) -> None:
        if "__wrapped__" in (own := attributes_of(thing)):  # a function that was compiled, for one
            self.queue.append((name, own["__wrapped__"]))
            return
        if isinstance(thing, Mapping):
            self.containers.append((name, thing.values()))
        if isinstance(thing, CONTAINERS):
            self.containers.append((name, thing))
            items = thing.items() if isinstance(thing, Mapping) else enumerate(thing)
            self.queue += [(f"{prefix}{key}", item) for key, item in items]
        self.queue.append((name, type(thing)))
        if isinstance(thing, BuiltinFunctionType):
            self.queue.append((name, thing.__self__))
        self.namespaces.append((prefix, Namespace(thing)))

    def remember(self) -> None:
        """From now on, what is found now is what it was."""
        self.then, self.items_then = self.now(), [list(items) for _, items in self.containers]

    def now(self) -> list[Any]:
        """What is found at this moment."""
        now = [look() for look in self.looks]
        for _, items in self.containers:
            now += items
        return now

    def changed(self) -> str | None:
        """The name of a variable that is not what it was, or None."""
        now, then = self.now(), self.then
        if len(now) == len(then) and all(map(is_, now, then)):
            return None
        for name, a, b in zip(self.names, now, then, strict=False):
            if not are_equal(a, b):
                return name
        for (name, items), before in zip(self.containers, self.items_then, strict=True):
            if len(items) != len(before) or not all(map(are_equal, items, before)):
                return name
        self.remember()
        return None

    def numbers(self) -> list[Array]:
        """A copy of all arrays."""
        return [copy_of(array) for _, array in self.arrays]

    def written(self, before: list[Array]) -> str | None:
        """The name of an array whose numbers are not what they were before, or None."""
        pairs = zip(self.arrays, before, strict=True)
        return next((name for (name, array), numbers in pairs if not same_numbers(array, numbers)), None)

    def name_of(self, tensor: Tensor) -> str:
        """The name of a Tensor, or of the array that it stands for or is a view of."""
        owner = owner_of(array_of(tensor))
        names = (name for name, array in self.arrays if owner_of(array) is owner)
        return self.tensors.get(tensor) or next(names, "given")

    def arrays_without(self, read: Iterable[Array]) -> list[Array]:
        """The arrays that share no memory with those that the program reads."""
        owners = {id(owner_of(array)) for array in read}
        return [array for _, array in self.arrays if id(owner_of(array)) not in owners]


class Namespace:
    """The names that a thing holds, and may yet get in place of those that its class or base classes hold."""

    def __init__(self, owner: Any, only: set[str] | None = None) -> None:
        self.owner, self.only = owner, only
        self.own = owner if isinstance(owner, dict) else attributes_of(owner)
        self.kind = owner if isinstance(owner, type) else type(owner)
        slots = (slot for kind in self.kind.__mro__ for slot in vars(kind).get("__slots__", ()))
        self.slots = set() if isinstance(owner, (type, dict)) else {*slots}

    def look(self, name: str) -> Callable[[], Any]:
        """What finds out what is under a name, None where nothing is."""
        if name in self.slots:
            return functools.partial(getattr, self.owner, name, None)
        return functools.partial(self.own.get, name)

    def keys(self, names: set[str], stored: set[str]) -> list[str]:
        """Those of the names of code that may be looked up here, and those that code stores."""
        if self.only is not None:
            names, stored = self.only, stored & self.only
        elif not names.isdisjoint(WHOLE) and not isinstance(self.owner, type):
            names = names | self.own.keys() | self.slots
        if isinstance(self.owner, type):
            special = {key for key, value in self.own.items() if key[:2] == "__" and isinstance(value, FunctionType)}
            return [key for key in names | special - WRITING if hasattr(self.owner, key)]
        found = [key for key in names if key in self.own or key in self.slots]
        inherited = [] if isinstance(self.owner, dict) else [key for key in names if is_variable(self.kind, key)]
        return [*found, *inherited, *stored]


def attributes_of(thing: Any) -> Any:
    """What an object keeps in its own dict, whatever its class makes of attributes."""
    try:
        return object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}


def is_variable(kind: type, name: str) -> bool:
    """Whether a class has a number or the like under a name, which its objects may have, too."""
    default = getattr(kind, name, None) if name[:2] != "__" else None
    return default is not None and not callable(default) and not hasattr(default, "__get__")


def are_equal(a: Any, b: Any) -> bool:
    """Whether two things are one, or the same number or text, as which 0.0 and -0.0, or 1 and True, are not."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(are_equal, a, b))
    return a is b or (type(a) is type(b) and isinstance(a, CONSTANTS) and repr(a) == repr(b))


def is_library(thing: Any) -> bool:
    """Whether it is Python's, of this package, or of an installed one, whose own variables are left to themselves."""
    if not isinstance(thing, str):
        thing = thing.__name__ if isinstance(thing, ModuleType) else str(thing.__module__)
    root = thing.partition(".")[0]
    file = getattr(sys.modules.get(root), "__file__", None)
    return root == "minigrad" or (
        any(place in file for place in INSTALLED) if file else root in sys.stdlib_module_names
    )


def names_of(code: CodeType) -> tuple[set[str], set[str], bool]:
    """The global names and attributes that a function may mean, those that it stores, and whether it branches.

    Texts count, too, since they may be given to getattr; and so do the functions in it.
    """
    found, stored, branches = set(code.co_names), set[str](), False
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("STORE_ATTR", "STORE_GLOBAL"):
            stored.add(instruction.argval)
        branches = branches or ("JUMP" in instruction.opname and "IF" in instruction.opname)
    for constant in code.co_consts:
        if isinstance(constant, str) and constant.isidentifier():
            found.add(constant)
        elif isinstance(constant, tuple):
            found.update(text for text in constant if isinstance(text, str))
        elif isinstance(constant, CodeType):
            names, more, branching = names_of(constant)
            found |= names
            stored |= more
            branches = branches or branching
    return found, stored, branches
