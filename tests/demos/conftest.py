"""Fixtures: demo("xor") is the module demos/xor.py, and start("xor", "--help") its command."""

import contextlib
import importlib.util
import runpy
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

DEMOS = Path(__file__).parents[2] / "demos"


def load(patch, name):
    spec = importlib.util.spec_from_file_location(f"demos_{name}", DEMOS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def demo(monkeypatch):
    return partial(load, monkeypatch)


@pytest.fixture
def no_matplotlib(monkeypatch):
    """For trainings whose pictures are drawn in other tests."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


@pytest.fixture
def start(monkeypatch, capsys):
    """start("xor", "--help") is what becomes of `python xor.py --help`, in this process: code, output and errors."""

    def start(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(DEMOS / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return start


@pytest.fixture(scope="module")
def playground():
    """The module demos/playground.py, once for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        yield load(patch, "playground")


@pytest.fixture(scope="module")
def running(playground):
    """running(digits) is a block with a playground that serves, on a free port."""

    @contextlib.contextmanager
    def running(digits, epochs=1):
        with playground.Playground(0, 0, playground.Reader(digits, 0, epochs)) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()

    return running
