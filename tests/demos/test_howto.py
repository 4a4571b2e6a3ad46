"""The answers of the how-to are true: each section runs as it stands."""

import doctest
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from minigrad.engine import vjps

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "demos" / "howto.md").read_text(encoding="utf-8")
HEAD, *SECTIONS = re.split(r"^## ", TEXT, flags=re.MULTILINE)
NEEDS = {"Needs SciPy": "scipy", "Needs the package onnx": "onnxruntime"}


def session_of(text: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def test_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    known, names = set(vjps), dict[str, Any]()
    try:
        for section in [HEAD, *SECTIONS]:
            if any(need in section and importlib.util.find_spec(name) is None for need, name in NEEDS.items()):
                continue
            title = section.partition("\n")[0]
            session = doctest.DocTestParser().get_doctest(session_of(section), names, title, "demos/howto.md", 0)
            assert doctest.DocTestRunner().run(session, clear_globs=False).failed == 0, title
            names = session.globs  # which go on in the next section
    finally:
        for function in set(vjps) - known:
            del vjps[function]


def test_there_are_twenty() -> None:
    assert len(SECTIONS) >= 20
