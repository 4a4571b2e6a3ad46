"""The fixture `demo`: demo("xor") is the module demos/xor.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

DEMOS = Path(__file__).parents[2] / "demos"


@pytest.fixture
def demo(monkeypatch):
    def load(name):
        spec = importlib.util.spec_from_file_location(f"demos_{name}", DEMOS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load
