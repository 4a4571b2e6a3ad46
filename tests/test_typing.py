"""What type checkers say of a user's script: nothing where it is right, and the mistake where it is wrong."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("mypy") is None, reason="needs mypy: python -m pip install mypy")

RIGHT = """
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim, training


class Net(nn.Module):
    def __init__(self, hidden: int) -> None:
        rng = np.random.default_rng(0)
        self.body = nn.Sequential(nn.Linear(2, hidden, rng=rng), nn.tanh, nn.Linear(hidden, 1, rng=rng))
        self.scale = mg.Tensor(1.0, requires_grad=True)

    def forward(self, x: Any) -> mg.Tensor:
        return self.body(x) * self.scale


def misfit(p: Any, x: Any, y: Any) -> Any:
    return ((p[0] * x + p[1] - y) ** 2).sum()


def train(path: Path) -> float:
    x = np.ones((8, 2), np.float32)
    y = x.sum(axis=1, keepdims=True)
    model = Net(3)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
    history = mg.fit(model, nn.mse_loss, optimizer, (x, y), epochs=1, progress=False, callbacks=[mg.Checkpoint(path)])
    stream: training.Stream = lambda: iter([(x, y)])
    numbers = mg.evaluate(model, nn.mse_loss, stream)
    return history["loss"][-1] + numbers["loss"]


def energy(x: Any) -> Any:
    return np.sum(np.cosh(x))


def derivatives() -> float:
    w = mg.Tensor([1.0, 2.0], requires_grad=True)
    z: mg.Tensor = 2.0 * w - (w @ w) / 3 + w.reshape(2).T
    energy(z).backward()
    assert w.grad is not None and w.grad.shape == (2,)
    x = np.ones(3)
    value, gradient = mg.value_and_grad(misfit)(np.array([1.0, 2.0]), x=x, y=x)
    mg.grad(lambda p: mg.grad(misfit)(p, x, x)[0])(np.array([1.0, 2.0]))
    kept: float = mg.checkpoint(float)("1.0")
    with mg.no_grad():
        return float(value + gradient.sum() + w.sum().item()) + kept
"""

WRONG = """
import numpy as np
import minigrad as mg

def f(x: object, y: object) -> mg.Tensor:
    return mg.Tensor(1.0)

t = f(1, 2)
mg.grad(f)(1.0)  # too few arguments
mg.value_and_grad(f)(1.0, z=2.0)  # unexpected keyword argument
t.mean().backwards()  # has no attribute
t.numpy()  # has no attribute
mg.nn.Liner(2, 3)  # has no attribute
mg.optim.adam  # has no attribute
mg.fits  # has no attribute
mg.nn.Linear(2, 3)(t).foo  # has no attribute
np.mean(t).backward()  # has no attribute
(np.ones(2) * t).backward()  # has no attribute
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, str]]:
    """What mypy says of both scripts, by file and line."""
    folder = tmp_path_factory.mktemp("scripts")
    scripts = {"right.py": RIGHT, "wrong.py": WRONG}
    for name, script in scripts.items():
        (folder / name).write_text(script, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", *scripts]
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert not done.stderr
    found: dict[str, dict[int, str]] = {name: {} for name in scripts}
    for line in done.stdout.splitlines():
        name, number, message = line.split(":", 2)
        found[name][int(number)] = message
    return found


def test_nothing_is_said_of_a_script_that_is_right(said: dict[str, dict[int, str]], tmp_path: Path) -> None:
    assert said["right.py"] == {}
    names: dict[str, object] = {}
    exec(compile(RIGHT, "right.py", "exec"), names)  # and it runs
    assert names["train"](tmp_path / "run.npz") >= 0  # type: ignore[operator]
    assert names["derivatives"]()  # type: ignore[operator]


def test_mistakes_are_found(said: dict[str, dict[int, str]]) -> None:
    wanted = {i: line.partition("#")[2].strip() for i, line in enumerate(WRONG.splitlines(), 1) if "#" in line}
    assert said["wrong.py"].keys() == wanted.keys()
    for number, message in wanted.items():
        assert message in said["wrong.py"][number].lower()
