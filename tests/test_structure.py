"""The plan of the house: who knows whom, where derivatives may live, and how much of everything there may be."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

PACKAGE = Path(__file__).parent.parent / "minigrad"
SOURCES = sorted(PACKAGE.rglob("*.py"))
EXTRAS = [
    "matplotlib", "tqdm", "pygraphviz", "scipy", "sklearn", "safetensors", "onnx", "mpi4py", "hypothesis", "pytest",
    "_pytest",
]  # fmt: skip

# The stairs, from the ground up. A room is a module, or a folder of modules. It knows the rooms on the steps below its
# own, and none on its own step.
STAIRS = [
    ["engine"],
    ["tables"],
    ["trees", "files", "names", "pictures"],
    ["sample", "transforms", "debug", "state"],
    ["summary"],
    ["nn", "optim", "data", "testing"],
    ["compiler"],
    ["distributed"],
    ["training"],
    ["drawing", "onnx", "scipy", "sklearn"],
]

# These know less than they might.
KNOWN_TO = {
    "compiler": ["engine", "tables", "trees", "files", "sample", "transforms"],
    "testing": ["engine", "tables", "names", "transforms"],
}

# These know more: (room, what it imports, why it may).
EXCEPTIONS = [
    ("transforms", "minigrad.sample", "a checkpointed function that is run again is given the same samples"),
]


def room(path: Path) -> str:
    """The module, or folder of modules, that a source belongs to; the front door has no name."""
    return "" if path == PACKAGE / "__init__.py" else path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def within(*rooms: str) -> list[Path]:
    """The sources of some rooms."""
    return [path for path in SOURCES if room(path) in rooms]


def shown(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree(path)))


def imports(path: Path) -> Iterator[str]:
    """The full names of all modules, or things in them, that a source imports, also inside its functions."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import: write it in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def run(code: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


# ------------------------------------------------------------------------------------------------------ who knows whom


def excepted(here: str, name: str) -> list[tuple[str, str, str]]:
    return [row for row in EXCEPTIONS if row[0] == here and f"{name}.".startswith(f"{row[1]}.")]


def known_to(here: str) -> set[str]:
    """The rooms that a room may import from, without exceptions."""
    step = next(i for i, rooms in enumerate(STAIRS) if here in rooms)
    below = {other for rooms in STAIRS[:step] for other in rooms}
    assert below >= set(KNOWN_TO.get(here, ())), f"what {here} may know is not below it"
    return {here, *KNOWN_TO.get(here, below)}


def test_every_room_stands_on_the_stairs() -> None:
    assert {room(path) for path in SOURCES} - {other for rooms in STAIRS for other in rooms} == {""}


@pytest.mark.parametrize("path", [path for path in SOURCES if room(path)], ids=shown)
def test_imports_run_down_the_stairs(path: Path) -> None:
    here = room(path)
    for name in imports(path):
        if name.split(".")[0] == "minigrad":
            assert name.count("."), f"{path.name} imports the whole package"
            known = name.split(".")[1] in known_to(here) or excepted(here, name)
            assert known, f"{here} may not import {name}, which is not below it"


@pytest.mark.parametrize("row", EXCEPTIONS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_every_exception_is_still_needed(row: tuple[str, str, str]) -> None:
    here, name, reason = row
    assert reason
    assert name.split(".")[1] not in known_to(here)
    used = [each for path in within(here) for each in imports(path) if row in excepted(here, each)]
    assert used, f"{here} does not import {name} any more: take the row out"


def test_the_engine_imports_only_numpy_and_the_standard_library() -> None:
    names = {name for path in within("engine") for name in imports(path) if not name.startswith("minigrad.engine.")}
    assert {name.split(".")[0] for name in names} <= {"numpy", *sys.stdlib_module_names}


ROOMS = ["minigrad", *(f"minigrad.{room}" for rooms in STAIRS for room in rooms if room != "sklearn")]


@functools.cache
def new_modules() -> dict[str, set[str]]:
    """What is imported anew with each of our modules, in one fresh Python after the other: all of it is looked at."""
    there = {room(path) for path in SOURCES}
    names = [name for name in ROOMS if name == "minigrad" or name.split(".")[1] in there]
    code = (
        f"import importlib, sys\nfor name in {names}:\n    before = set(sys.modules); importlib.import_module(name)\n"
    )
    code += "    print(name, *sorted(set(sys.modules) - before))"
    return {name: set(new) for name, *new in map(str.split, run(code).splitlines())}


@pytest.mark.parametrize("name", ROOMS)
def test_importing_imports_no_optional_package(name: str) -> None:
    if name != "minigrad" and not within(name.split(".")[1]):
        pytest.skip("not there yet")
    assert not set(EXTRAS) & new_modules()[name]


# -------------------------------------------------------------------------------------------------------- private names

# Underscores that are not ours: Python's own way of saying that a public name is in the way, NumPy's, or a notebook's.
FOREIGN = {"_asdict", "_fields", "_replace", "_getframe", "_bit_generator", "_repr_png_", "_exit"}
BY_NAME = {"getattr", "setattr", "hasattr", "delattr", "attrgetter", "methodcaller", "__getattribute__", "__setattr__"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


@functools.cache
def defined(path: Path) -> frozenset[str]:
    """The names that a source gives to things: of functions, classes, variables, slots, and attributes of `self`."""
    return frozenset(_defined(path))


def _defined(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.Assign) and "__slots__" in map(ast.unparse, node.targets):
            yield from (part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant))


def attributes(path: Path) -> Iterator[tuple[str, int]]:
    """The attributes that a source speaks of, with their lines; also `attrgetter("_array.shape")` and the like."""
    for node in nodes(path):
        if isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield from ((name, node.lineno) for name in argument.value.split("."))


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_private_names_stay_in_their_room(path: Path) -> None:
    own = {name for other in within(room(path)) for name in defined(other)} | FOREIGN
    strange = [f"line {line}: {name}" for name, line in attributes(path) if is_private(name) and name not in own]
    for name in imports(path):
        first, *rest = name.split(".")
        if first == "minigrad" and rest[:1] != [room(path)]:
            strange += [name for part in rest if is_private(part)]
    assert not strange, "a name with an underscore belongs to another room: make it public there, or do without"


# ------------------------------------------------------------------------------------------ what is not spoken of where

# Compiler and debugger are built on what stands below them, which works, and reads, as if they were not there.
ABOVE = re.compile(r"compil\w*|debug\w*|trac(e|es|ed|er|ers|ing)", re.IGNORECASE)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
NOT_MEANT = re.compile(
    r"\bhttps?://\S+|\bnp\.(linalg\.)?trace\b|\btraces? of (a |the |its )?(square )?matri\w+|\bre\.compile\b"
)


def spoken(path: Path) -> Iterator[tuple[str, int]]:
    """All names and strings of a source, docstrings too, with their lines; without methods that ndarray has as well."""
    methods = {
        id(part)
        for kind in nodes(path)
        if isinstance(kind, ast.ClassDef)
        for statement in kind.body
        for part in ([statement] if isinstance(statement, ast.FunctionDef) else ast.walk(statement))
        if hasattr(np.ndarray, getattr(part, "name", getattr(part, "id", "")))
    }
    for node in nodes(path):
        if id(node) in methods:
            continue
        if isinstance(node, ast.Attribute):
            yield (node.attr if NOT_MEANT.sub("", ast.unparse(node)) else ""), node.lineno
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None) or "", *(f"{a.name} {a.asname or ''}" for a in node.names)]
            yield " ".join(names), node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield NOT_MEANT.sub("", node.value), node.lineno
        else:
            name = getattr(node, "name", None) or getattr(node, "id", None) or getattr(node, "arg", None)
            if isinstance(name, str):
                yield name, node.lineno


@pytest.mark.parametrize("path", within("engine", "tables", "nn", "optim"), ids=shown)
def test_nothing_below_speaks_of_the_compiler_or_the_debugger(path: Path) -> None:
    mentions = [
        f"line {line}: {word}" for text, line in spoken(path) for word in WORD.findall(text) if ABOVE.fullmatch(word)
    ]
    assert not mentions


@pytest.mark.parametrize("path", within("nn"), ids=shown)
def test_no_source_under_nn_speaks_of_derivatives(path: Path) -> None:
    names = {node.id for node in nodes(path) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in nodes(path) if isinstance(node, ast.Attribute)}
    imported = {name.split(".")[-1] for name in imports(path)}
    assert not {"vjps", "primitive"} & (names | attributes | imported)


def test_importing_nn_registers_no_rule() -> None:
    tables = "import minigrad.tables; from minigrad.engine import vjps; before = dict(vjps); "
    assert run(f"{tables} import minigrad.nn; print(before == vjps)") == "True"


# ----------------------------------------------------------------------------------------------------------- how much

CORE = [PACKAGE / "engine" / name for name in ("node.py", "call.py", "backward.py")]
BRANCHES = 12
MORE_BRANCHES = {
    "engine/backward.py:history": 16,
    "engine/backward.py:_walk": 16,
}  # each is one loop, kept in one place


def lines(paths: Iterable[Path]) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The functions of a source, methods and inner ones too, with file and name."""
    for node in nodes(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{shown(path)}:{node.name}", node


def complexity(node: ast.AST) -> int:
    """The cyclomatic complexity after McCabe, counted as ruff's C901 does: 1 for a function, and 1 for each branch.

    Branches are if, elif, for, while, except, the else of a try, and case, but for one that takes everything.
    """
    counted = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.FunctionDef, ast.AsyncFunctionDef)
    count = int(isinstance(node, (*counted, ast.match_case)))
    count += isinstance(node, ast.Try) and bool(node.orelse)
    if isinstance(node, ast.Match):
        last = node.cases[-1]
        count -= last.guard is None and isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None
    statements = (ast.stmt, ast.ExceptHandler, ast.match_case)
    return count + sum(complexity(child) for child in ast.iter_child_nodes(node) if isinstance(child, statements))


def test_the_core_can_be_read_in_one_sitting() -> None:
    assert lines(CORE) <= 420


def test_the_walk_fits_on_a_page() -> None:
    walk = dict(functions(PACKAGE / "engine" / "backward.py"))["engine/backward.py:_walk"]
    assert walk.end_lineno - walk.lineno + 1 <= 60  # type: ignore[operator]


def test_the_engine_is_small() -> None:
    assert lines(within("engine")) <= 1_300


def test_pictures_are_small() -> None:
    assert lines(within("drawing")) <= 350


def test_the_package_is_small() -> None:
    assert lines(SOURCES) <= 16_000


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_no_function_branches_much(path: Path) -> None:
    found = [(name, complexity(node)) for name, node in functions(path)]
    assert [(name, count) for name, count in found if count > MORE_BRANCHES.get(name, BRANCHES)] == []


def test_branches_are_counted_as_by_ruff() -> None:
    source = """
def f(x):                       # 1
    if x and x > 1 or not x:    # 2
        pass
    elif x == 2:                # 3
        pass
    else:
        for i in x:             # 4
            while i:            # 5
                pass
        else:
            pass
    try:
        with x:
            pass
    except ValueError:          # 6
        pass
    except TypeError:           # 7
        pass
    else:                       # 8
        pass
    finally:
        pass
    match x:
        case 1:                 # 9
            pass
        case _:
            pass
    def g():                    # 10
        return [i for i in x if i] if x else lambda: 0
"""
    assert complexity(ast.parse(source).body[0]) == 10
