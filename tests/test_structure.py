"""The plan of the house: who imports whom, and where derivatives may live."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "minigrad"
ENGINE = ["tensor", "trees", "files", "debug", "trace", "scope", "rules", "composites", "moves", "constants", "linalg"]
ORDER = [
    *ENGINE,
    "transforms",
    "graph",
    "plan",
    "source",
    "nn",
    "export",
    "compiler",
    "optim",
    "data",
    "training",
    "testing",
    "draw",
]
EXTRAS = ["matplotlib", "tqdm", "hypothesis", "pytest", "_pytest"]
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def room(path: Path) -> str:
    """The module, or folder of modules, that a source belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The full names of all modules, or things in them, that a source imports, also inside its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import: write it in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def run(code: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(path: Path) -> None:
    here = room(path)
    allowed = {*ORDER[: ORDER.index(here)], *([here] if path.parent != PACKAGE else [])}
    for name in imports(path):
        if name.split(".")[0] == "minigrad":
            assert name.count("."), f"{path.name} imports the whole package"
            assert name.split(".")[1] in allowed, f"{here} comes before {name} in the order, and may not import it"


def test_the_engine_imports_only_numpy_and_the_standard_library() -> None:
    roots = {name.split(".")[0] for name in imports(PACKAGE / "tensor.py")}
    assert roots <= {"numpy", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", [p for p in SOURCES if room(p) == "nn"], ids=lambda path: path.name)
def test_no_source_under_nn_speaks_of_derivatives(path: Path) -> None:
    names = {node.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)}
    attributes = {n.attr for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Attribute)}
    imported = {name.split(".")[-1] for name in imports(path)}
    assert not {"vjps", "primitive"} & (names | attributes | imported)


def test_importing_nn_registers_no_rule() -> None:
    engine = "import minigrad.composites; from minigrad.tensor import vjps; before = dict(vjps); "
    assert run(f"{engine} import minigrad.nn; print(before == vjps)") == "True"


ROOMS = ["minigrad", *(f"minigrad.{room}" for room in ORDER)]


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
    if name != "minigrad" and room(PACKAGE / name.split(".")[1]) not in {room(path) for path in SOURCES}:
        pytest.skip("not there yet")
    assert not set(EXTRAS) & new_modules()[name]
