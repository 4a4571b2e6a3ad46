"""Every public name is documented: where it is listed, what its docstring says, and what that refers to."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import minigrad as mg

pytest.importorskip("hypothesis")  # the strategies of mg.testing need it

# What has no example of its own, and why.
NO_EXAMPLE = {
    "average": "it needs MPI, which few have; demos/howto.md has an example",
    "load_mnist": "it reads a file of digits, which the package does not bring; demos/howto.md reads one",
    "shard": "it needs MPI, which few have; demos/howto.md has an example",
}


def rooms(module: ModuleType = mg) -> Iterator[ModuleType]:
    """The public modules."""
    yield module
    for name in module.__all__:
        if inspect.ismodule(part := getattr(module, name)):
            yield from rooms(part)


def documented() -> Iterator[tuple[str, Any]]:
    """All public functions and classes, once, by the shortest name that they have."""
    seen: set[int] = set()
    for room in rooms():
        for name in room.__all__:
            item = getattr(room, name)
            ours = (inspect.isclass(item) or inspect.isroutine(item)) and item.__module__.startswith("minigrad.")
            if ours and id(item) not in seen:
                seen.add(id(item))
                yield f"{room.__name__}.{name}", item


ROOMS = {room.__name__: room for room in rooms()}
DOCUMENTED = dict(documented())


def text_of(item: Any) -> str:
    """What is said of a thing: by itself and what it refers to, the classes it derives from, and its module."""
    parts = [*(item.__mro__[:-1] if inspect.isclass(item) else [item]), *referred(item)]
    home = inspect.getmodule(item)
    return "\n".join(filter(None, [*map(inspect.getdoc, parts), home and home.__doc__]))


def referred(item: Any) -> list[Any]:
    """The functions and classes that a docstring names in full."""
    names = re.findall(r"`(minigrad\.[\w.]+)`", inspect.getdoc(item) or "")
    return [DOCUMENTED[name] for name in names if name in DOCUMENTED]


def parameters_of(item: Any) -> list[str]:
    """The names of what one may give a function, or a class."""
    try:
        parameters = inspect.signature(item).parameters.values()
    except ValueError:  # classes of C
        return []
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


# ----------------------------------------------------------------------------------------------------------- listings


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_shows_its_public_names_alone(name: str) -> None:
    room = ROOMS[name]
    assert room.__doc__
    assert dir(room) == sorted(room.__all__)
    assert len(set(room.__all__)) == len(room.__all__)
    assert [each for each in room.__all__ if each.startswith("_")] == []


def test_help_of_the_package_is_a_table_of_contents() -> None:
    words = re.findall(r"\w+", mg.__doc__ or "")
    assert [name for name in mg.__all__ if name not in words] == []


def test_a_tensor_shows_nothing_that_it_does_not_have() -> None:
    t = mg.Tensor([[1.0]])
    assert [name for name in dir(t) if not hasattr(t, name)] == []
    assert {"reshape", "grad", "backward"} <= set(dir(t))


# --------------------------------------------------------------------------------------------------------- docstrings


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_docstring_starts_with_a_sentence(name: str) -> None:
    doc = inspect.getdoc(DOCUMENTED[name]) or ""
    assert re.match(r"\S[^\n]*(\n[^\n]+)?[.:](\s|$)", doc), "one plain sentence of one or two lines comes first"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_docstring_names_all_parameters(name: str) -> None:
    item = DOCUMENTED[name]
    if not inspect.isclass(item) or "__init__" in vars(item):
        words = set(re.findall(r"\w+", text_of(item)))
        assert [parameter for parameter in parameters_of(item) if parameter not in words] == []


def test_a_class_of_modules_shows_the_parameters_of_its_constructor() -> None:
    assert parameters_of(mg.nn.Linear) == ["in_features", "out_features", "bias", "rng", "dtype"]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_docstring_has_an_example_or_refers_to_one(name: str) -> None:
    item = DOCUMENTED[name]
    if inspect.isclass(item) and issubclass(item, BaseException):
        return
    shown = any(">>> " in (inspect.getdoc(part) or "") for part in (item, *referred(item)))
    assert shown != (name.rpartition(".")[2] in NO_EXAMPLE)


# --------------------------------------------------------------------------------------------------------- references

HERE = Path(__file__).parent.parent
START = {"minigrad": mg, "mg": mg, "np": np, "nn": mg.nn, "optim": mg.optim}
REFERENCE = re.compile(rf"`@?((?:{'|'.join(START)})(?:\.\w+)+)")


def docstrings() -> Iterator[tuple[str, str]]:
    """All public docstrings, those of methods, too, and what is written beside the package."""
    yield from ((name, room.__doc__ or "") for name, room in ROOMS.items())
    for name, item in DOCUMENTED.items():
        yield name, inspect.getdoc(item) or ""
        for part in vars(item) if inspect.isclass(item) else ():
            if not part.startswith("_"):
                yield f"{name}.{part}", inspect.getdoc(inspect.getattr_static(item, part)) or ""
    yield "README.md", (HERE / "README.md").read_text(encoding="utf-8")
    text = (HERE / "demos" / "howto.md").read_text(encoding="utf-8")
    yield "howto.md", re.sub(r"^\|.*\|(.*)\|$", r"\1", text, flags=re.MULTILINE)  # of its table, what is written here


def leads_somewhere(path: str) -> bool:
    start, *names = path.split(".")
    thing = START[start]
    for name in names:
        if not hasattr(thing, name):
            return False
        thing = getattr(thing, name)
    return True


def test_references_lead_somewhere() -> None:
    found = [(where, path) for where, text in docstrings() for path in REFERENCE.findall(text)]
    assert len(found) > 30
    assert [(where, path) for where, path in found if not leads_somewhere(path)] == []


@pytest.mark.parametrize("path", ["mg.grads", "minigrad.nn.Liner", "np.tensor", "nn.Linear.weigh"])
def test_a_broken_reference_is_seen(path: str) -> None:
    assert REFERENCE.findall(f"see `{path}`, `@{path}(x)`") == [path, path]
    assert not leads_somewhere(path)
