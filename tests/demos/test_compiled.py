import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from profiles import scale, thorough_only

import minigrad as mg
from minigrad import nn
from minigrad.compiler.program import Program

DIGITS = Path(__file__).parents[2] / "demos" / "data" / "mnist_5k.npz"
COMPILED = Path(__file__).parents[2] / "demos" / "compiled.py"


@pytest.mark.parametrize("seed", range(scale(1, 3)))
def test_both_programs_do_the_same_step_and_learn(demo, capsys, seed):
    assert 0 <= demo("compiled").main(steps=2000, seed=seed) <= 3e-7  # a few roundings of float32
    lines = capsys.readouterr().out.splitlines()
    assert [float(line.split()[-1]) for line in lines[-5:-1]] == pytest.approx([0, 1, 1, 0], abs=0.1)
    assert lines[-1].startswith("steps per second: eager ")
    for function in (
        "tanh_prime(a",
        "mse_prime(wanted",
        "backward_propagation(",
        "gradient_descent(",
        "forward(buffers",
    ):
        assert sum(line.startswith(f"def {function}") for line in lines) == 1


def test_the_derivatives_by_hand_are_those_of_central_differences(demo):
    module = demo("compiled")
    parameters = [p.data.astype(float) for p in module.network(0).parameters()]

    def error() -> float:
        w1, b1, w2, b2 = parameters
        return np.mean((np.tanh(np.tanh(module.X @ w1.T + b1) @ w2.T + b2) - module.Y) ** 2)

    for p, g in zip(parameters, module.backward_propagation(parameters, module.X, module.Y), strict=True):
        assert p.shape == g.shape
        for index in np.ndindex(p.shape):
            errors = []
            for change in (1e-5, -2e-5):
                p[index] += change
                errors.append(error())
            p[index] += 1e-5
            assert (errors[0] - errors[1]) / 2e-5 == pytest.approx(g[index], rel=1e-6)


def test_each_way_does_the_same_steps(demo):
    module = demo("compiled")
    ways = {way: module.stepping(way, seed=0, rate=0.5) for way in module.WAYS}
    for _ in range(20):
        for _, step in ways.values():
            step(module.X, module.Y)
    first, *others = [[p.data for p in model.parameters()] for model, _ in ways.values()]
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert all(ways[way][1].traces == 1 for way in ("compiled", "pure"))


def test_the_program_updates_the_parameters(demo):
    module = demo("compiled")
    model, step = module.stepping("pure", seed=0, rate=0.5)
    step(module.X, module.Y)
    before = [p.data.copy() for p in model.parameters()]
    step(module.X, module.Y)
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_allclose(p.data, old - np.float32(0.5) * p.grad, rtol=1e-6)


def test_runs_from_the_command_line_in_any_folder(tmp_path):
    command = [sys.executable, "-W", "error", COMPILED, "--steps", "20", "--rate", "0.3", "--seed", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "steps per second" in done.stdout


@thorough_only
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mnist", {"epochs": 1, "progress": False}),
        *scale([], [("mnist", {"epochs": 1, "progress": False, "recipe": "minibatch-sigmoid"})]),
        *scale([], [("xor", {"epochs": 500})]),
        ("xor", {"epochs": scale(50, 500), "loss": "log"}),
        ("ten_points", {}),
        ("custom_model", {"epochs": 50}),
        ("backprop_by_hand", {}),
    ],
)
def test_every_demo_comes_to_the_same_with_programs(demo, name, options, tmp_path, monkeypatch):
    options = {**options, "pictures": tmp_path}
    if name == "mnist":
        train, held_out = mg.data.load_mnist(DIGITS)
        some = {"train": (train, scale(500, None)), "test": (held_out, scale(100, None))}
        pixels = {f"x_{part}": np.round(x[:n] * 255).astype(np.uint8) for part, ((x, _), n) in some.items()}
        labels = {f"y_{part}": y[:n] for part, ((_, y), n) in some.items()}
        np.savez(tmp_path / "some.npz", **{name: x.reshape(-1, 28, 28) for name, x in pixels.items()}, **labels)
        options["data"] = tmp_path / "some.npz"
    expected = demo(name).main(**options)
    made, init = [], Program.__init__
    monkeypatch.setattr(Program, "__init__", lambda self, *args: (made.append(self), init(self, *args))[1])
    fit, grad, compiled = mg.fit, mg.grad, {}
    once = lambda f: compiled.setdefault(f, mg.compile(f))
    monkeypatch.setattr(mg, "fit", lambda *args, **options: fit(*args, **{**options, "compile": True}))
    monkeypatch.setattr(mg, "grad", lambda f: mg.compile(grad(f)))
    for function in ("mse_loss", "sigmoid"):
        monkeypatch.setattr(nn, function, once(getattr(nn, function)))
    module = demo(name)
    for function in ("model", "loss"):
        if callable(getattr(module, function, None)):
            monkeypatch.setattr(module, function, once(getattr(module, function)))
    assert module.main(**options) == pytest.approx(expected, rel=1e-3, abs=1e-15)
    assert made
