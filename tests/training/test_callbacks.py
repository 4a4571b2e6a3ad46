"""Callbacks: their order, stopping early, and checkpoints through breaks and damage of every kind."""

import contextlib
import functools
import io
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from examples import (
    HELD_OUT,
    OPTIMIZERS,
    STEPS,
    Events,
    Recipe,
    X,
    bits,
    ctrl_c,
    failing_after,
    fit,
    mean_error,
    network,
    sgd,
)
from hypothesis import given
from hypothesis import strategies as st
from profiles import scale, some

import minigrad as mg
from minigrad import nn, optim
from minigrad.files import generator_text
from minigrad.state import named_generators
from minigrad.training import Training


def test_callbacks_are_called_in_order_and_see_the_training():
    def see(training: Training) -> None:
        events.append("function")
        trainings.append(training)

    events, trainings, model = Events(), [], network()
    optimizer = sgd(model)
    history = fit(model, optimizer, callbacks=iter([events, see]))
    assert events == ["start 0", "epoch 1", "function", "epoch 2", "function", "finish 2"]
    training = trainings[0]
    assert all(other is training for other in trainings)
    assert (training.model, training.optimizer, training.history) == (model, optimizer, history)
    assert training.history is history


def test_only_what_has_started_finishes():
    before, behind = Events(), Events()
    with pytest.raises(ValueError, match="EarlyStopping watches"):
        fit(network(), callbacks=[before, mg.EarlyStopping("val_loss"), behind])
    assert (before, behind) == (["start 0", "finish 0"], [])


def test_early_stopping_restores_the_best_weights_after_an_error():
    model, seen, scores = network(), [], iter([1.0] * STEPS + [2.0] * STEPS)
    with pytest.raises(RuntimeError, match="no more"):
        fit(
            model,
            loss=failing_after(2 * STEPS + 1),
            epochs=5,
            metrics={"score": lambda prediction, y: next(scores, 3.0)},
            callbacks=[mg.EarlyStopping("score", mode="min"), lambda training: seen.append(bits(model))],
        )
    assert bits(model) == seen[0] != seen[1]


def test_a_checkpoint_comes_after_the_other_callbacks(tmp_path):
    path = tmp_path / "checkpoint.npz"
    fit(network(), epochs=1, callbacks=[mg.Checkpoint(path)])
    events = Events()
    fit(network(), epochs=3, callbacks=[mg.Checkpoint(path), events])
    assert events == ["start 0", "epoch 2", "epoch 3", "finish 3"]


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_callback_can_end_the_training(epoch):
    events = Events()

    def stop(training: Training) -> None:
        training.stopped = training.epoch == epoch

    history = fit(network(), epochs=5, callbacks=[stop, events])
    assert len(history["loss"]) == epoch
    assert events == ["start 0", *(f"epoch {i + 1}" for i in range(epoch)), f"finish {epoch}"]


def expected_stop(scores: list[float], patience: int, mode: str) -> tuple[int, int | None]:
    """The number of epochs, and the best of them (the first of equals; none where all are nan)."""
    better = (lambda a, b: a < b) if mode == "min" else (lambda a, b: a > b)
    best = None
    for epoch, score in enumerate(scores, 1):
        if not math.isnan(score) and (best is None or better(score, scores[best - 1])):
            best = epoch
        if epoch - (best or 0) >= patience:
            return epoch, best
    return len(scores), best


score_lists = st.lists(st.sampled_from([-1.5, 0.0, 0.5, 2.0, 3.0]) | st.just(math.nan), min_size=1, max_size=8)


@given(score_lists, st.integers(1, 4), st.sampled_from(["min", "max"]), st.booleans())
def test_early_stopping_stops_after_its_patience_and_restores_the_best(scores, patience, mode, used):
    weights: list[str] = []
    model, stop = network(), mg.EarlyStopping("score", patience, mode)
    if used:  # nothing is left of an earlier training
        fit(network(1), metrics={"score": lambda prediction, y: -9.0 if mode == "min" else 9.0}, callbacks=[stop])
    values = iter(scores)
    history = fit(
        model,
        optim.Adam(model.parameters(), lr=0.1),
        epochs=len(scores),
        batch_size=None,
        metrics={"score": lambda prediction, y: next(values)},
        callbacks=[stop, lambda training: weights.append(bits(training.model))],
    )
    epochs, best = expected_stop(scores, patience, mode)
    np.testing.assert_equal(history["score"], scores[:epochs])
    assert bits(model) == weights[(best or epochs) - 1], "parameters and running means"


def test_training_can_go_on_from_the_restored_weights():
    model = network()
    optimizer = sgd(model)
    scores = iter([1.0, 0.5, 0.7])
    fit(
        model,
        optimizer,
        epochs=3,
        metrics={"score": lambda prediction, y: next(scores)},
        batch_size=None,
        callbacks=[stop := mg.EarlyStopping("score", 2, "min")],
    )
    kept = stop.state_dict()["weights/0.weight"].copy()
    before = model[0].weight.data.copy()
    assert np.array_equal(before, kept)
    fit(model, optimizer)
    assert not np.array_equal(model[0].weight.data, before)
    assert np.array_equal(stop.state_dict()["weights/0.weight"], kept)


@pytest.mark.parametrize(
    ("monitor", "options", "measured"),
    [("val_loss", {}, "loss"), ("val_accuracy", {"metrics": [mg.accuracy]}, "loss, accuracy")],
)
def test_early_stopping_knows_what_is_measured(monitor, options, measured):
    model = network()
    before = bits(model)
    with pytest.raises(ValueError, match=f"EarlyStopping watches '{monitor}', and fit measures {measured}$"):
        fit(model, callbacks=[mg.EarlyStopping(monitor)], **options)
    assert bits(model) == before, "it says so before the first step"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mg.EarlyStopping(mode="least"), 'got mode=\'least\'; wanted "min" or "max"'),
        (
            lambda: mg.EarlyStopping("val_score"),
            r"EarlyStopping\('val_score'\) got mode=None; wanted \"min\" or \"max\"",
        ),
        (lambda: mg.EarlyStopping(patience=0), "patience=0: it must be at least 1"),
        (lambda: mg.Checkpoint("checkpoint.npz", every=0), "every=0: it must be at least 1"),
    ],
)
def test_options_of_callbacks(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ----------------------------------------------------------------------------------------------- checkpoints


EPOCHS = 6


@given(
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    every=st.integers(1, 4),
    order=st.integers(0, 5),
    patience=st.integers(1, 4),
    breaks=st.lists(
        st.tuples(st.sampled_from(["epochs", "error", "ctrl-c", "killed"]), st.integers(0, EPOCHS * STEPS)), max_size=3
    ),
    same=st.booleans(),
)
def test_a_training_resumed_ends_like_one_without_a_break(optimizer, every, order, patience, breaks, same):
    whole = Recipe(None, optimizer, patience=patience)
    history = whole.run(EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        part = Recipe(path, optimizer, every, order, patience)
        for seed, (kind, steps) in enumerate(breaks, 1):
            if kind == "epochs":
                part.run(steps // STEPS)
            elif kind == "ctrl-c":
                part.run(EPOCHS, failing_after(steps, ctrl_c))
            else:  # the second Ctrl-C, and an error
                failure = None if kind == "error" else lambda: (ctrl_c(), ctrl_c())
                with contextlib.suppress(RuntimeError, KeyboardInterrupt):
                    part.run(EPOCHS, failing_after(steps, failure))
            if not same and path.exists():  # without a file the seeds count, and they must be the first ones
                part = Recipe(path, optimizer, every, order, patience, seed)
            elif not path.exists():
                part = Recipe(path, optimizer, every, order, patience)
        assert part.run(EPOCHS) == history
        assert part.bits() == whole.bits()
        assert os.listdir(folder) in ([], ["checkpoint"])  # noqa: PTH208


def test_a_killed_process_is_resumed_by_a_fresh_one(tmp_path):
    def python(*lines: str) -> tuple[int, str, str]:
        code = "\n".join(["import os, sys", "import examples as t", "path = t.Path(sys.argv[1])", *lines])
        command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "checkpoint.npz")]
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    assert python("t.Recipe(path, patience=9).run(5, t.failing_after(10, lambda: os._exit(7)))") == (7, "", "")
    resumed = python("part = t.Recipe(path, patience=9, seed=1)", "print(part.run(5), part.events[1:], part.bits())")
    whole = Recipe(None, patience=9)
    history = whole.run(5)
    assert resumed == (0, f"{history} {['epoch 4', 'epoch 5', 'finish 5']} {whole.bits()}\n", "")


@pytest.mark.parametrize(("every", "kept"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (3, [3, 5]), (7, [5])])
def test_every_so_many_epochs(every, kept, tmp_path):
    path = tmp_path / "checkpoint.npz"
    epochs: list[int] = []

    def look(training: Training) -> None:  # what the file holds when the next epoch has ended
        if path.exists() and (epoch := int(np.load(path)["epoch"])) not in epochs:
            epochs.append(epoch)

    fit(network(), epochs=5, callbacks=[mg.Checkpoint(str(path), every), look])
    if path.exists():
        look(Training(None, None, None))
    assert epochs == kept


def test_a_training_that_stopped_stays_stopped(tmp_path):
    path = tmp_path / "checkpoint.npz"
    stop = lambda training: setattr(training, "stopped", training.epoch == 2)
    history = fit(network(), epochs=9, callbacks=[mg.Checkpoint(path, every=5), stop])
    model = network(1)
    assert fit(model, loss=failing_after(0), epochs=9, callbacks=[mg.Checkpoint(path, every=5), stop]) == history


def test_a_longer_training_goes_on_from_the_last_weights_and_not_the_best(tmp_path):
    def run(path: Path | None, *epochs: int) -> str:
        for n in epochs:
            training = Recipe(path, patience=99)
            history = training.run(n)
        return str(history) + training.bits()

    assert run(tmp_path / "checkpoint.npz", 3, 5, 12) == run(None, 12)


def test_a_plain_function_and_what_the_optimizer_moves_are_kept(tmp_path):
    def made(value: float) -> tuple[Any, mg.Tensor, optim.Optimizer, list[Any]]:
        w = mg.Tensor(np.full((2, 1), value, np.float32), True)
        callbacks = [mg.EarlyStopping("score", 9, "min"), mg.Checkpoint(tmp_path / "checkpoint.npz")]
        return lambda x: np.tanh(x @ w), w, optim.Adam([w], lr=0.1), callbacks

    model, w, optimizer, callbacks = made(1.0)
    scores, seen = iter([3.0, 1.0, 2.0]), []
    callbacks.append(lambda training: seen.append(w.data.copy()))
    fit(model, optimizer, metrics={"score": lambda p, y: next(scores)}, epochs=3, batch_size=None, callbacks=callbacks)
    assert np.array_equal(w.data, seen[1]), "the best"
    model, w, optimizer, callbacks = made(5.0)
    fit(model, optimizer, metrics={"score": mean_error}, epochs=3, batch_size=None, callbacks=callbacks[1:])
    assert np.array_equal(w.data, seen[2]), "the last"


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_every_kind_of_generator_is_kept(kind, tmp_path):
    def run(path: Path | None, *epochs: int) -> str:
        for n in epochs:
            model = network(dropout=0.5)
            model[2].rng = np.random.Generator(getattr(np.random, kind)(n))
            if n == epochs[0]:
                model[2].rng = np.random.Generator(getattr(np.random, kind)(9))
            fit(model, epochs=n, callbacks=[mg.Checkpoint(path)] if path else [])
        return bits(model)

    assert run(tmp_path / "checkpoint.npz", 1, 3) == run(None, 3)


class Norm:
    """A layer that is no Module: it keeps running statistics in arrays."""

    def __init__(self) -> None:
        self.mean, self.steps = np.zeros(4), np.zeros((), int)

    def __call__(self, x: Any) -> Any:
        self.mean = 0.9 * self.mean + 0.1 * np.mean(nn_data(x), axis=0)
        self.steps = self.steps + 1
        return x - self.mean.astype(np.float32)


def nn_data(x: Any) -> Any:
    return x.detach().data if isinstance(x, mg.Tensor) else x


class Everything(nn.Module):
    """All that a model may keep: statistics, generators of every kind, and what it leaves behind for a reader."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.first, self.last, self.norm = nn.Linear(2, 4, rng=rng), nn.Linear(4, 1, rng=rng), Norm()
        self.scale, self.total = {"of": [np.ones(4, np.float32)]}, mg.Tensor(np.zeros(4))
        self._rngs = (rng, np.random.RandomState(seed), Random(seed), np.random.PCG64(seed))
        self.out = None

    def forward(self, x: Any) -> Any:
        self.hidden = hidden = np.tanh(self.first(x)) * self.scale["of"][0]
        if self.training:
            generator, legacy, python, bits = self._rngs
            noise = generator.normal() + legacy.normal() + python.gauss(0, 1) + bits.random_raw() / 2**64
            hidden = hidden * np.float32(1 + noise / 10)
            self.scale["of"][0] = (0.9 * self.scale["of"][0] + 0.1 * np.abs(nn_data(hidden)).mean(0)).astype(np.float32)
            self.total.data = self.total.data + nn_data(hidden).sum(axis=0)
        self.out = self.last(self.norm(hidden))
        return self.out


@pytest.mark.parametrize("broken", [1, 2, 3])
@pytest.mark.parametrize("wrapped", [False, True])
def test_all_that_a_model_keeps_is_kept(broken, wrapped, tmp_path):
    def run(path: Path | None, *epochs: int) -> tuple[str, Any]:
        for seed, n in enumerate(epochs):
            model: Any = Everything(seed if n != epochs[0] else 9)
            model = nn.Sequential(np.abs, model) if wrapped else model
            callbacks = [mg.EarlyStopping(patience=9), *([mg.Checkpoint(path)] if path else [])]
            history = fit(model, optim.Adam(model, lr=0.05), epochs=n, validation=HELD_OUT, callbacks=callbacks)
        return str(history) + bits(model), [*named_generators(model).values()]

    resumed, generators = run(tmp_path / "checkpoint.npz", broken, 4)
    whole, wanted = run(None, 4)
    assert resumed == whole
    draws = [lambda g: g.random(), lambda g: g.normal(), lambda g: g.gauss(0, 1), lambda g: g.random_raw()]
    for draw, one, other in zip(draws, generators, wanted, strict=True):
        assert draw(one) == draw(other)


def test_early_stopping_passes_over_what_a_layer_leaves_behind():
    model, scores, seen = Everything(0), iter([2.0, 1.0, 3.0]), []
    look = lambda training: seen.append(model.state_dict())
    stop = mg.EarlyStopping("score", 9, "min")
    fit(
        model,
        epochs=3,
        batch_size=None,
        metrics={"score": lambda p, y: next(scores)},
        callbacks=[stop, look, lambda training: mg.predict(model, X[:5])],
    )
    assert list(model.state_dict()) == [
        "first.weight", "first.bias", "last.weight", "last.bias", "norm.mean", "norm.steps", "scale.of.0", "total",
    ]  # fmt: skip
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, seen[1][name])


def test_the_state_of_the_optimizer_finds_its_parameters_by_name(tmp_path):
    def run(*orders: Any) -> str:
        for epochs, order in enumerate(orders, 1):
            model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Tanh(), nn.Linear(2, 2, rng=1))
            optimizer = optim.Adam(order(model.parameters()), lr=0.1)
            fit(model, optimizer, data=(X, X), epochs=epochs, callbacks=[mg.Checkpoint(path)])
        return bits(model)

    path = tmp_path / "one.npz"
    forwards = run(list, list)
    path = tmp_path / "other.npz"
    assert run(list, reversed) == forwards


def test_a_schedule_goes_on_where_it_was_and_the_rate_is_given_back(tmp_path):
    asked, schedule = [], lambda step: asked.append(step) or 0.1 / (1 + step)
    model = network()
    optimizer = sgd(model, lr=0.3)
    fit(model, optimizer, epochs=1)  # which counts for the optimizer, and not for the schedule
    for epochs in (2, 3, 3):
        fit(model, optimizer, epochs=epochs, schedule=schedule, callbacks=[mg.Checkpoint(tmp_path / "checkpoint.npz")])
        assert optimizer.lr == 0.3
    assert asked == list(range(3 * STEPS))
    with pytest.raises(RuntimeError, match="no more"):
        fit(model, optimizer, failing_after(1), schedule=schedule)
    assert optimizer.lr == 0.3


def test_the_rates_of_a_schedule_are_not_kept(tmp_path):
    """Else a training that goes on without one would stay at the last."""
    rates = []
    for schedule in (lambda step: 0.0, None):
        model = network()
        optimizer = sgd(model, lr=0.3)
        look = failing_after(0, lambda it=optimizer: rates.append(it.lr))
        callbacks = [mg.Checkpoint(tmp_path / "checkpoint.npz")]
        fit(model, optimizer, look, epochs=3 if schedule is None else 2, schedule=schedule, callbacks=callbacks)
    assert rates == [0.0, 0.3]
    assert optimizer.lr == 0.3


@pytest.mark.parametrize(("rate", "used"), [(0.1, 0.025), (0.7, 0.7)])
def test_a_rate_that_the_user_has_changed_holds(rate, used, tmp_path):
    """And one that a callback has changed is kept."""
    rates = []

    def halve(training: Training) -> None:
        training.optimizer.lr /= 2

    for epochs, lr in ((2, 0.1), (3, rate)):
        model = network()
        optimizer = sgd(model, lr=lr)
        look = failing_after(2 * STEPS if epochs == 2 else 0, lambda it=optimizer: rates.append(it.lr))
        fit(model, optimizer, look, epochs=epochs, callbacks=[halve, mg.Checkpoint(tmp_path / "checkpoint.npz")])
    assert rates == [used]


@pytest.mark.parametrize("name", ["missing/checkpoint.npz", "file/checkpoint.npz"])
def test_a_folder_that_is_not_there_is_missed_at_once(name, tmp_path):
    (tmp_path / "file").write_text("")
    model = network()
    before = bits(model)
    with pytest.raises(FileNotFoundError, match=r"no folder .* for the checkpoint checkpoint.npz: make it"):
        fit(model, callbacks=[mg.Checkpoint(tmp_path / name)])
    assert bits(model) == before


def test_the_best_of_what_is_measured_here_is_known():
    modes = {"loss": "min", "val_loss": "min", "accuracy": "max", "val_accuracy": "max"}
    assert {name: mg.EarlyStopping(name).mode for name in modes} == modes
    assert mg.EarlyStopping().mode == "min"
    assert mg.EarlyStopping("val_accuracy", mode="min").mode == "min"
    model, scores, seen = network(), iter([0.5, 0.9, 0.7]), []
    stop, look = mg.EarlyStopping("accuracy", 9), lambda training: seen.append(bits(model))
    fit(model, epochs=3, batch_size=None, metrics={"accuracy": lambda p, y: next(scores)}, callbacks=[stop, look])
    assert bits(model) == seen[1]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("function", [(np.lib.format, "write_array"), (os, "fsync"), (Path, "replace")])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(function, error, old, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.npz"
    if old:
        fit(network(), epochs=1, callbacks=[mg.Checkpoint(path)])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert len(before) == old

    calls = itertools.count()
    original = getattr(*function)

    def fail(*args: Any, **kwargs: Any) -> None:
        if next(calls) == 3 or function[1] != "write_array":  # with the first arrays written
            raise error
        original(*args, **kwargs)

    monkeypatch.setattr(*function, fail)
    with pytest.raises(type(error)):
        fit(network(), epochs=2, callbacks=[mg.Checkpoint(path)])
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def checkpoint(folder: Path, epochs: int = 2, **options: Any) -> bytes:
    Recipe(folder / "made.npz", **options).run(epochs)
    return (folder / "made.npz").read_bytes()


def refuses(content: bytes | Path) -> bool:
    """Whether the file is refused, and then nothing is changed; else it must be the checkpoint that it was."""
    with tempfile.TemporaryDirectory() as folder:
        path = content if isinstance(content, Path) else Path(folder) / "checkpoint.npz"
        if isinstance(content, bytes):
            path.write_bytes(content)
        part = Recipe(path, seed=3)
        before = bits(part.model, part.optimizer)
        try:
            part.run(2, failing_after(0))
        except ValueError as refusal:
            error = str(refusal)
        else:
            whole = Recipe(None)
            whole.run(2)
            assert part.bits() == whole.bits()
            return False
        assert "is not a checkpoint of this training (remove it, or name another file)" in error
        assert bits(part.model, part.optimizer) == before
        assert part.stop.state_dict() == {"best": math.inf, "waited": 0}
        assert isinstance(content, Path) or path.read_bytes() == content
        return True


@functools.cache
def good_checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return checkpoint(Path(folder))


def test_a_good_checkpoint_is_taken():
    assert not refuses(good_checkpoint())


@given(data=st.data())
def test_a_damaged_checkpoint_changes_nothing(data):
    good = good_checkpoint()
    start = data.draw(st.integers(0, len(good) - 1))
    stop = data.draw(st.sampled_from([start, start + 1, len(good)]))
    refuses(good[:start] + data.draw(st.binary(max_size=3)) + good[stop:])


@pytest.mark.parametrize("content", [b"", b"PK\5\6" + bytes(18), b"\x93NUMPY", b"weights, honestly"])
def test_a_file_of_another_kind_changes_nothing(content):
    assert refuses(content)


def test_a_folder_is_no_checkpoint(tmp_path):
    assert refuses(tmp_path)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code from a checkpoint has run')",)


JUNK = {
    "missing": None,
    "text": "junk",
    "number": -1,
    "complex": 1j,
    "empty": [],
    "vector": [1.0, 2.0, 3.0],
    "matrix": np.zeros((2, 2)),
    "generator": '{"bit_generator": "PCG64"}',
    "half a generator": '{"bit_generator": "PCG64", "state": {"state": 1, "inc": 3}, "has_uint32": 1e99}',
    "another generator": '{"bit_generator": "MT19937"}',
    "nested": "[" * 10_000,
    "hostile": np.array(Hostile(), object),
}


@pytest.mark.parametrize("kind", JUNK)
def test_a_foreign_array_in_a_checkpoint_changes_nothing(kind):
    arrays = dict(np.load(io.BytesIO(good_checkpoint())))
    junk, tried = np.asarray(JUNK[kind]), 0
    for name in some([*arrays], 6, [*JUNK].index(kind)):
        array = arrays[name]
        a_number_too = junk.shape == array.shape and {junk.dtype.kind, array.dtype.kind} <= {*"if"}
        if a_number_too and (name == "callbacks/0/best" or array.shape):
            continue  # it cannot be told from a right one
        changed = {other: array for other, array in arrays.items() if other != name}
        if kind != "missing":
            changed[name] = junk
        file = io.BytesIO()
        np.savez(file, **changed)
        assert refuses(file.getvalue()), name
        tried += 1
    assert tried > scale(1, 10)


def at_place(number: int) -> str:
    generator = np.random.Generator(np.random.MT19937(0))
    state = json.loads(generator_text(generator))
    state["state"]["pos"] = number
    return json.dumps(state)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epoch", -1, "for each of -1 epochs"),
        ("epoch", 2.0, "epoch is float64"),
        ("epoch", True, "epoch is bool"),
        ("stopped", 0, "stopped is int64|stopped is int32"),
        ("optimizer/lr", -0.1, "lr=-0.1: it must be at least 0"),
        ("optimizer/lr", math.nan, "lr=nan: it must be at least 0, and finite"),
        ("optimizer/lr", math.inf, "lr=inf: it must be at least 0, and finite"),
        ("optimizer/steps", -9, "steps=-9: it must be at least 0"),
        ("optimizer/steps", 2.5, "this state does not fit Adam"),
        ("optimizer/steps", math.nan, "this state does not fit Adam"),
        ("callbacks/0/best", math.nan, "since its best, nan"),
        ("callbacks/0/waited", -1, "cannot have waited -1 epochs"),
        ("callbacks/0/waited", 1.5, "waited is float64"),
        ("callbacks/0/weights/0.weight", np.zeros((2, 4)), r"fit EarlyStopping:\n  misshapen: 0.weight is \(2, 4\)"),
        ("callbacks/0/weights/other", np.zeros(2), r"fit EarlyStopping:\n  unexpected: other$"),
        ("callbacks/0/weights/0.weight", np.full((4, 2), "a"), r"fit EarlyStopping:\n  not a real number: 0.weight"),
        ("history/loss", np.zeros(3), "its history has not one loss for each of 2 epochs"),
        ("history/other", np.zeros(2), "unexpected: history/other"),
        ("rng/7", at_place(0), "unexpected: rng/7"),
        ("rng/2.rng", at_place(10**6), "is not a state of the generator MT19937"),
        ("rng", at_place(3), "is not a state of the generator PCG64"),
        ("junk", 3, "unexpected: junk"),
        ("../junk", 3, "unexpected: ../junk"),
    ],
)
def test_a_number_that_cannot_be_right_in_a_checkpoint_changes_nothing(name, value, message, tmp_path):
    def training() -> Recipe:
        recipe = Recipe(tmp_path / "checkpoint.npz", patience=9)
        recipe.model[2].rng = np.random.Generator(np.random.MT19937(0))
        return recipe

    training().run(2)
    arrays = dict(np.load(tmp_path / "checkpoint.npz"))
    assert name in arrays or "other" in name or "junk" in name or name == "rng/7"
    np.savez(tmp_path / "checkpoint.npz", **(arrays | {name: np.asarray(value)}))
    part = training()
    before = bits(part.model, part.optimizer)
    with pytest.raises(ValueError, match=f"is not a checkpoint of this training .*{message}"):
        part.run(3, failing_after(0))
    assert bits(part.model, part.optimizer) == before


@pytest.mark.parametrize(
    "name", ["junk", "tensors/0.weight", "callbacks/0/memory", "callbacks/7/memory", "history/loss"]
)
def test_a_packed_checkpoint_is_refused_before_it_is_unpacked(name, tmp_path):
    path = tmp_path / "checkpoint.npz"
    Recipe(path).run(2)
    np.savez_compressed(path, **(dict(np.load(path)) | {name: np.zeros((16, 2**17))}))
    part = Recipe(path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="is not a checkpoint of this training"):
            part.run(3)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


def test_an_interrupt_while_a_checkpoint_is_taken_leaves_everything_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.npz"
    Recipe(path).run(2)
    part = Recipe(path, seed=1)
    before = bits(part.model, part.optimizer)

    def interrupt(self: Any, state: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(mg.EarlyStopping, "load_state_dict", interrupt)
    with pytest.raises(KeyboardInterrupt):
        part.run(3)
    assert bits(part.model, part.optimizer) == before


@pytest.mark.parametrize(
    "options",
    [{"optimizer": "sgd"}, {"optimizer": "momentum"}, {"optimizer": "rmsprop"}],
    ids=lambda options: options["optimizer"],
)
def test_the_checkpoint_of_another_optimizer_is_refused(options, tmp_path):
    assert refuses(checkpoint(tmp_path, **options))


@pytest.mark.parametrize(
    "change",
    [
        {"model": nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Dropout(0.5), nn.Linear(3, 1))},
        {"model": nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))},
        {"metrics": {"error": mean_error}},
        {"validation": None, "callbacks": []},
        {"callbacks": []},
    ],
    ids=["shapes", "layers", "metrics", "validation", "callbacks"],
)
def test_the_checkpoint_of_another_training_is_refused(change, tmp_path):
    path = tmp_path / "checkpoint.npz"
    options = {
        "model": network(dropout=0.5),
        "metrics": [mean_error],
        "validation": HELD_OUT,
        "callbacks": [mg.EarlyStopping()],
    } | change
    callbacks = [*options.pop("callbacks"), mg.Checkpoint(path)]
    model = options.pop("model")
    fit(model, optim.Adam(model.parameters(), lr=0.01), callbacks=callbacks, **options)
    assert refuses(path.read_bytes())


def test_callbacks_say_what_they_are() -> None:
    assert repr(mg.EarlyStopping("val_accuracy", mode="max")) == "EarlyStopping('val_accuracy', patience=5, mode='max')"
    assert repr(mg.Checkpoint("run.npz", every=2)) == "Checkpoint('run.npz', every=2)"
