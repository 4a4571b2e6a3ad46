"""What the README says is true: its blocks run and give what they say, its links lead somewhere, and it is short."""

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.engine import vjps

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CHECKED = re.compile(r"  # (None|True|False|\(.+\)|\w[\w.]*\(.*?\)|array\(.*?\))(?:: .*)?$")


def run(block: str, names: dict[str, Any]) -> int:
    """Run a block as it stands, and compare expressions with what the comment behind them says; returns how many."""
    lines, compared = block.splitlines(), 0
    for statement in ast.parse(block).body:
        said = CHECKED.search(lines[(statement.end_lineno or 0) - 1])
        if isinstance(statement, ast.Expr) and said:
            value = eval(compile(ast.Expression(statement.value), "README.md", "eval"), names)
            assert repr(value) == said[1], ast.unparse(statement)
            compared += 1
        else:
            exec(compile(ast.Module([statement], []), "README.md", "exec"), names)
    return compared


def test_blocks_give_what_they_say() -> None:
    known, names, compared = set(vjps), dict[str, Any](), 0
    try:
        for block in BLOCKS:
            compared += run(block, names)
    finally:
        for function in set(vjps) - known:  # the README's own
            del vjps[function]
    assert compared == 7


def test_a_false_comment_is_seen() -> None:
    assert run("x = np.ones(2)\nx * 2  # array([2., 2.]): twice", {"np": np}) == 1
    for wrong in ("x * 2  # array([2., 3.])", "x.shape == 3  # True", "x.shape  # (3,)"):
        with pytest.raises(AssertionError):
            run(wrong, {"np": np, "x": np.ones(2)})


@pytest.mark.parametrize("name", ["fit", "value_and_grad", "no_grad", "Adam", "compile", "debug", "howto"])
def test_it_names_what_everybody_needs(name: str) -> None:
    assert re.search(rf"\b{name}\b", README)


def test_links_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_the_list_of_faults_names_tests_that_are_there() -> None:
    folder = ROOT / "tests"
    sources = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}
    known = {name for source in sources.values() for name in re.findall(r"def (test_\w+)", source)}
    named = set(re.findall(r"\btest_\w+", (folder / "faults.md").read_text(encoding="utf-8")))
    assert len(named) > 100
    assert named - known - {path.stem for path in sources} == set()
