"""Programs that are saved as modules run on NumPy alone, and do what the compiled function did."""

import functools
import hashlib
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_compile as checks
from surroundings import Thing, assert_close, tensor
from test_compile import LABELS, X, network
from test_writes import BATCHES, OPTIMIZERS, Training, by_hand, statistics, whole

import minigrad as mg
from minigrad import nn


def saved_rows() -> dict[str, tuple[Any, list[Any]]]:
    model, scale, mask = network(3, 4, 2).eval(), np.arange(3.0), np.array([True, False, True])
    table = np.linspace(0, 1, 300).reshape(100, 3)
    return {
        "labels": (lambda x, labels: nn.cross_entropy(model(x), labels), [X, LABELS]),
        "labels by sample": (lambda x, labels: nn.cross_entropy(model(x), labels, "none"), [X, LABELS]),
        "an array and a mask": (lambda x: np.where(mask, x * scale, 0), [X]),
        "an array for plain NumPy": (lambda x: x * float(scale.sum()) + (scale + 1), [X]),
        "an index": (lambda x, i: (x * scale)[i], [X, LABELS]),
        "a large array": (lambda x: np.sum(x @ table.T, axis=-1) * mask.sum(), [X]),
        "an attribute": (functools.partial(Thing.scaled, Thing(factor=scale)), [X]),
    }


@pytest.mark.parametrize("name", saved_rows())
def test_a_saved_program_runs_on_numpy_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SAVED", saved_rows())
    checks.test_a_saved_program_runs_on_numpy_alone(name, tmp_path)


def test_a_saved_program_has_the_arrays_of_the_last_call(tmp_path: Path) -> None:
    scale, mask, p = np.ones(3), np.array([True, False, True]), tensor(np.ones(3))
    compiled = mg.compile(lambda x: np.where(mask, x * scale * p + scale.sum(), 0))
    for number in (1, 2):
        scale[...], mask[...], p.data = number, [number == 1, True, True], np.full(3, number)
        expected = compiled(X).data
    compiled.save(tmp_path / "net.py")
    scale[...], mask[...], p.data = 3, False, np.zeros(3)
    np.testing.assert_array_equal(runpy.run_path(str(tmp_path / "net.py"))["predict"](X), expected)


def test_a_saved_gradient_warns_of_nan(tmp_path: Path) -> None:
    compiled = mg.compile(mg.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0))))
    np.testing.assert_array_equal(compiled(x := np.array([0.0, 4.0])), [0, 0.25])
    compiled.save(tmp_path / "slope.py")
    predict = runpy.run_path(str(tmp_path / "slope.py"))["predict"]
    np.testing.assert_array_equal(predict(x + 1), compiled(x + 1))
    with pytest.warns(UserWarning, match="a gradient is nan"):
        predict(x)


def test_what_a_saved_program_would_leave_out_is_refused(tmp_path: Path) -> None:
    constants = mg.compile(lambda x: {"y": x * 2, "n": 3})
    constants(np.ones(2))
    with pytest.raises(ValueError, match="returns constants"):
        constants.save(tmp_path / "net.py")
    joined = mg.compile(lambda x: (x * 2, x * 3))
    joined(x := tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="no_grad"):
        joined.save(tmp_path / "net.py")
    with mg.no_grad():
        joined(x)
    joined.save(tmp_path / "net.py")
    np.testing.assert_array_equal(runpy.run_path(str(tmp_path / "net.py"))["predict"](x.data), [[2, 4], [3, 6]])


# -------------------------------------------------------------------------------------------------------- whole steps


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_step_trains_on_numpy_alone(name: str, pure: bool, tmp_path: Path) -> None:
    eager, twin = Training(OPTIMIZERS[name], whole), Training(OPTIMIZERS[name], whole)
    compiled = mg.compile(twin.step, pure=pure)
    for x, y in BATCHES[:3]:
        compiled(x, y)
        eager.step(mg.Tensor(x), mg.Tensor(y))
    compiled.save(tmp_path / "net.py")
    net = runpy.run_path(str(tmp_path / "net.py"))
    before = twin.state()
    for x, y in BATCHES[3:]:
        assert_close(np.asarray(net["step"](x, y)), eager.step(mg.Tensor(x), mg.Tensor(y)).data, 1e-9)
    assert_close(twin.state(), before, 0)


@pytest.mark.parametrize("step", [by_hand, statistics])
def test_a_saved_step_assigns_data_on_numpy_alone(step: Any, tmp_path: Path) -> None:
    eager, twin = Training(OPTIMIZERS["momentum"], step), Training(OPTIMIZERS["momentum"], step)
    compiled = mg.compile(twin.step)
    for x, y in BATCHES[:2]:
        compiled(x, y)
        eager.step(mg.Tensor(x), mg.Tensor(y))
    compiled.save(tmp_path / "net.py")
    net = runpy.run_path(str(tmp_path / "net.py"))
    for x, y in BATCHES[2:]:
        assert_close(np.asarray(net["step"](x, y)), eager.step(mg.Tensor(x), mg.Tensor(y)).data, 1e-9)


def test_a_saved_step_needs_no_minigrad(tmp_path: Path) -> None:
    training = Training(OPTIMIZERS["Adam"], whole)
    compiled = mg.compile(training.step)
    compiled(*BATCHES[0])
    compiled.save(tmp_path / "net.py")
    assert "minigrad" not in (tmp_path / "net.py").read_text().partition('"""')[2].partition('"""')[2]
    for array, name in zip(BATCHES[1], "xy", strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    command = [sys.executable, "-I", "net.py", "x.npy", "y.npy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert_close(float(done.stdout), compiled(*BATCHES[1]).item(), 1e-6)


# ------------------------------------------------------------------------------------------------------ what is saved


def test_the_program_for_given_arguments_is_saved(tmp_path: Path) -> None:
    compiled = mg.compile(lambda x: np.sum(x**2, axis=-1) * 2)
    for x in (np.ones(3), np.ones((2, 3)), np.ones((4, 3))):
        compiled(x)
    compiled.save(tmp_path / "last.py")
    compiled.save(tmp_path / "first.py", np.zeros(3))
    for name, x in (("last", np.ones((4, 3))), ("first", np.ones(3))):
        predict = runpy.run_path(str(tmp_path / f"{name}.py"))["predict"]
        np.testing.assert_array_equal(predict(x), compiled(x))
        with pytest.raises(ValueError, match="for an input of shape"):
            predict(np.ones((5, 5)))
    with pytest.raises(ValueError, match="call the function with them first"):
        compiled.save(tmp_path / "none.py", np.zeros(7))
    assert not (tmp_path / "none.py").exists()


@pytest.mark.parametrize("by_name", [False, True])
def test_arguments_by_name_choose_the_program(by_name: bool, tmp_path: Path) -> None:
    compiled = mg.compile(lambda x, k: x * k)
    given = lambda k: ((np.ones(3),), {"k": k}) if by_name else ((np.ones(3), k), {})
    for args, kwargs in map(given, (2, 3)):
        compiled(*args, **kwargs)
    args, kwargs = given(2)
    compiled.save(tmp_path / "net.py", *args, **kwargs)
    np.testing.assert_array_equal(runpy.run_path(str(tmp_path / "net.py"))["predict"](np.ones(3)), [2, 2, 2])


def test_a_program_for_integers_does_not_truncate(tmp_path: Path) -> None:
    compiled = mg.compile(lambda x: x * 2)
    compiled(np.arange(3))
    compiled.save(tmp_path / "net.py")
    predict = runpy.run_path(str(tmp_path / "net.py"))["predict"]
    np.testing.assert_array_equal(predict(np.arange(3, dtype=np.int32)), [0, 2, 4])
    with pytest.raises(TypeError, match="float64"):
        predict(np.array([0.5, 1.5, 2.5]))


def test_weights_of_another_program_are_not_read(tmp_path: Path) -> None:
    p = tensor(np.ones(3))
    compiled = mg.compile(lambda x: x * p)
    compiled(np.ones(3))
    compiled.save(tmp_path / "net.py")
    weights = (tmp_path / "net.npz").read_bytes()
    p.data = np.zeros(3)
    compiled.save(tmp_path / "other.py")
    (tmp_path / "net.npz").write_bytes((tmp_path / "other.npz").read_bytes())
    with pytest.raises(ValueError, match="not those that were written with it"):
        runpy.run_path(str(tmp_path / "net.py"))
    (tmp_path / "net.npz").write_bytes(weights)
    np.testing.assert_array_equal(runpy.run_path(str(tmp_path / "net.py"))["predict"](np.ones(3)), 1)


def test_weights_of_one_shape_are_told_apart(tmp_path: Path) -> None:
    p, q = tensor([1.0, 2.0]), tensor([3.0, 4.0])
    compiled = mg.compile(lambda x: x * p + q * 2)
    compiled(np.ones(2))
    compiled.save(tmp_path / "net.py")
    np.testing.assert_array_equal(runpy.run_path(str(tmp_path / "net.py"))["predict"](np.ones(2)), [7, 10])


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    p = tensor(np.ones(3))
    compiled = mg.compile(lambda x: x * p)
    compiled(np.ones(3))
    compiled.save(tmp_path / "net.py")
    before = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    random = mg.compile(lambda x: x * mg.sample(np.random.default_rng(0).random, 3))
    random(np.ones(3))
    with pytest.raises(ValueError, match="random numbers"):
        random.save(tmp_path / "net.py")
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()} == before
    with pytest.raises(ValueError, match="Python module"):
        compiled.save(tmp_path / "net.txt")
    with pytest.raises(RuntimeError, match="no program yet"):
        mg.compile(lambda x: x).save(tmp_path / "net.py")


def test_several_answers_are_a_tuple(tmp_path: Path) -> None:
    compiled = mg.compile(lambda x: (x * 2, np.sum(x)))
    compiled(np.ones(3))
    compiled.save(tmp_path / "net.py")
    answers = runpy.run_path(str(tmp_path / "net.py"))["predict"](np.arange(3.0))
    assert isinstance(answers, tuple)
    assert_close([np.asarray(a) for a in answers], [np.array([0.0, 2.0, 4.0]), np.asarray(3.0)])


def test_the_weights_that_are_saved_are_those_of_now(tmp_path: Path) -> None:
    model = network(3, 2)
    compiled = mg.compile(lambda x: model(x))
    compiled(X)
    for parameter in model.parameters():
        parameter.data = parameter.data * 2
    compiled.save(tmp_path / "net.py")
    np.testing.assert_array_equal(runpy.run_path(str(tmp_path / "net.py"))["predict"](X), compiled(X).data)


@mg.primitive(lambda g, ans, x: g * 3)
def step(x: Any) -> Any:
    return x * 3


def test_names_of_the_module_are_not_taken_by_functions_of_the_program(tmp_path: Path) -> None:
    p = mg.Tensor([1.0, 2.0])

    def f(x: Any) -> Any:
        p.data = step(x)
        return np.sum(step(x) + 1)

    compiled = mg.compile(f)
    x = mg.Tensor([0.5, 1.5])
    compiled(x)
    compiled.save(tmp_path / "net.py")
    module = runpy.run_path(str(tmp_path / "net.py"))
    assert module["step"](x.data) == f(x).item()
    np.testing.assert_array_equal(next(iter(module["weights"].values())), p.data)


def test_a_link_is_followed_by_both_files(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "net.py", tmp_path / "there" / "target.py"
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("links are not allowed here")
    compiled = mg.compile(lambda x: np.tanh(x) * np.arange(100.0))
    compiled(np.ones(100))
    compiled.save(link)
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["net.py", "target.npz", "target.py", "there"]
