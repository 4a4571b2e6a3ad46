"""The training loop against loops written out by hand, and against breaks of every kind."""

import contextlib
import functools
import hashlib
import io
import itertools
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim, training
from minigrad.compiler import Program
from minigrad.nn.state import state_dict
from minigrad.trace import TraceError
from minigrad.training import Run
from minigrad.trees import named

ROWS, BATCH, STEPS = 11, 4, 3  # three steps in an epoch, the last of three rows
_rng = np.random.default_rng(5)
X = _rng.normal(size=(ROWS, 2)).astype(np.float32)
Y = (X[:, :1] * X[:, 1:] > 0).astype(np.float32)
HELD_OUT = X[::-2] + np.float32(0.1), Y[::-2]


class Centre(nn.Module):
    """Subtracts a running mean: state that training changes and that is no parameter."""

    def __init__(self, features: int) -> None:
        self.mean = mg.Tensor(np.zeros(features, np.float32))

    def forward(self, x: Any) -> Any:
        if self.training:
            values = x.data if isinstance(x, mg.Tensor) else x
            self.mean.data = (0.9 * self.mean.data + 0.1 * values.mean(axis=0)).astype(np.float32)
        return x - self.mean.data


def network(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    rng = np.random.default_rng(seed)
    layers = [nn.Linear(2, 4, rng=rng), nn.Tanh(), Centre(4), nn.Linear(4, 1, rng=rng)]
    return nn.Sequential(*layers[:2], nn.Dropout(dropout, rng=rng), *layers[2:]) if dropout else nn.Sequential(*layers)


def sgd(model: Any, lr: float = 0.1) -> optim.SGD:
    return optim.SGD(nn.parameters(model), lr=lr)


def fit(model: Any, optimizer: Any = None, loss: Any = nn.mse_loss, data: Any = None, **options: Any) -> mg.History:
    """`mg.fit` with what most tests have in common."""
    options = {"epochs": 2, "batch_size": BATCH, "seed": 0, "progress": False} | options
    return mg.fit(model, loss, optimizer or sgd(model), data or (X, Y), **options)


def by_hand(model: Any, optimizer: Any, loss: Any, epochs: int, batch_size: int, seed: int, steps: float = math.inf):
    """The loop of the tutorials; `steps` ends it early. Returns the losses of the finished epochs."""
    rng, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        order, total = rng.permutation(len(X)), 0.0
        for start in range(0, len(X), batch_size):
            if optimizer.steps == steps:
                return losses
            rows = order[start : start + batch_size]
            optimizer.zero_grad()
            value = loss(model(X[rows]), Y[rows])
            value.backward()
            optimizer.step()
            total += value.item() * len(rows)
        losses.append(total / len(X))
    return losses


def bits(*objects: Any) -> str:
    """A fingerprint of all tensors, generators and remembered vectors in the objects."""
    digest = hashlib.sha256()
    for item in objects:
        arrays = state_dict(item) | (item.state_dict() if hasattr(item, "state_dict") else {})
        for name, value in sorted(arrays.items()):
            digest.update(name.encode() + np.asarray(value).tobytes())
        for name, part in named(item):
            if isinstance(part, np.random.Generator):
                digest.update(f"{name} {part.bit_generator.state}".encode())
    return digest.hexdigest()


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": sgd,
    "momentum": lambda model: optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda model: optim.RMSprop(model.parameters(), lr=0.01),
    "adam": lambda model: optim.Adam(model.parameters(), lr=0.02),
    "adamw": lambda model: optim.AdamW(model.parameters(), lr=0.02),
}


@pytest.fixture(scope="module", autouse=True)
def usual_ctrl_c() -> Iterator[None]:
    """Python's own handler, which is missing where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# ------------------------------------------------------------------------------------------------- the loop


@given(
    st.sampled_from(sorted(OPTIMIZERS)),
    st.sampled_from([0.0, 0.5]),
    st.integers(0, 4),
    st.integers(1, ROWS + 2),
    st.integers(0, 2**32),
)
def test_fit_is_the_loop_written_by_hand_bit_for_bit(name, dropout, epochs, batch_size, seed):
    ours, theirs = network(dropout=dropout), network(dropout=dropout)
    optimizers = OPTIMIZERS[name](ours), OPTIMIZERS[name](theirs)
    history = fit(ours, optimizers[0], epochs=epochs, batch_size=batch_size, seed=seed)
    assert history == {"loss": by_hand(theirs, optimizers[1], nn.mse_loss, epochs, batch_size, seed)}
    assert bits(ours, optimizers[0]) == bits(theirs, optimizers[1])


@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    dropout=st.sampled_from([0.0, 0.5]),
    batch_size=st.sampled_from([None, 1, BATCH, ROWS + 2]),
    broken=st.integers(0, 4),
    seed=st.integers(0, 2**32),
)
def test_a_compiled_training_is_the_eager_one_but_for_rounding(name, dropout, batch_size, broken, seed):
    def made(compile: bool, folder: str, *stages: int) -> tuple[Any, str]:
        for epochs in stages:  # each in a fresh process, as it were
            rng = np.random.default_rng(seed)
            first, second = nn.Linear(2, 4, rng=rng), nn.Linear(4, 1, rng=rng)
            model = nn.Sequential(first, np.tanh, nn.Dropout(dropout, rng=rng), second)  # a program calls it, too
            optimizer = OPTIMIZERS[name](model)
            history = fit(
                model,
                optimizer,
                epochs=epochs,
                batch_size=batch_size,
                validation=HELD_OUT,
                metrics=[mg.accuracy],
                callbacks=[stop := mg.EarlyStopping(patience=2), mg.Checkpoint(Path(folder) / "run")],
                seed=seed,
                compile=compile,
            )
        return history, bits(model, optimizer, stop)

    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        resumed, whole = made(True, one, broken, 5), made(True, other, 5)
    assert resumed == whole
    with tempfile.TemporaryDirectory() as folder:
        eager, _ = made(False, folder, 5)
    count = min(len(eager["loss"]), len(whole[0]["loss"]))  # where it stops may hang on a last bit
    if "rms" in name or "adam" in name:  # which divide by what may be a rounding
        count = min(count, 1)
    np.testing.assert_allclose(whole[0]["loss"][:count], eager["loss"][:count], rtol=1e-4)


def test_a_compiled_training_makes_a_program_for_each_size_of_batch(monkeypatch):
    sizes, trace = [], Program.trace_once
    monkeypatch.setattr(Program, "trace_once", lambda self, flat: (sizes.append(len(flat[0])), trace(self, flat))[1])
    model = network()[:2]
    loss = lambda prediction, y: nn.mse_loss(prediction.mean(axis=1, keepdims=True), y)
    fit(model, sgd(model), loss, epochs=5, compile=True)
    assert sizes == [BATCH, ROWS % BATCH]


def test_a_compiled_training_sees_what_a_callback_does_to_the_model():
    trained = []
    for compile in (False, True):
        first, _, _, last = network()
        model = nn.Sequential(nn.Dropout(0.5, rng=np.random.default_rng(0)), first, np.tanh, last)
        change = lambda run, model=model: model[0].train(run.epoch % 2 == 0)
        fit(model, epochs=4, callbacks=[change], compile=compile)
        trained.append(bits(model))
    assert trained[0] == trained[1]


def test_a_compiled_training_checks_the_labels_of_every_batch():
    labels, trained = Y[:, 0].astype(int), []
    for compile in (False, True):
        model = nn.Linear(2, 2, rng=np.random.default_rng(0))
        history = fit(model, loss=nn.cross_entropy, data=(X, labels), epochs=3, metrics=[mg.accuracy], compile=compile)
        trained.append((history, bits(model)))
        with pytest.raises(ValueError, match="labels from 0 to 2 for 2 classes"):
            fit(model, loss=nn.cross_entropy, data=(X, np.where(np.arange(ROWS) < 9, 0, 2)), compile=compile)
    assert trained[0] == trained[1]


def test_a_compiled_training_refuses_a_model_that_looks_at_numbers():
    with pytest.raises(TraceError, match=r"test_training\.py:\d+, `values = "):  # Centre does
        fit(network(), compile=True)


def test_a_plain_function_is_a_model():
    def made() -> tuple[Any, optim.SGD]:
        w, b = mg.Tensor(np.ones((2, 1), np.float32), True), mg.Tensor(np.zeros(1, np.float32), True)
        return lambda x: np.tanh(x @ w + b), optim.SGD([w, b], lr=0.1)

    (ours, optimizer), (theirs, other) = made(), made()
    history = fit(ours, optimizer, epochs=3)
    assert history["loss"] == by_hand(theirs, other, nn.mse_loss, 3, BATCH, 0)
    assert history["loss"][-1] < history["loss"][0]
    assert bits(optimizer) == bits(other)


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * ROWS), (None, [ROWS]), (4, [4, 4, 3]), (99, [ROWS])])
def test_every_epoch_goes_once_through_all_samples_in_batches(batch_size, sizes):
    seen: list[np.ndarray] = []

    def loss(prediction: Any, y: Any) -> Any:
        seen.append(y)
        return np.mean(prediction * 0) + np.mean(y)

    numbers = np.arange(ROWS, dtype=np.float64)
    for epoch in range(2):
        history = fit(network(), loss=loss, data=(X, numbers), epochs=2, batch_size=batch_size)
        assert [len(y) for y in seen] == sizes * 2
        first, second = np.split(np.concatenate(seen), 2)
        assert sorted(first) == sorted(second) == numbers.tolist()
        assert not np.array_equal(first, second), "every epoch is shuffled anew"
        assert history["loss"] == pytest.approx([numbers.mean()] * 2), f"the last batch has its weight, {epoch}"
        seen.clear()


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_the_seed_decides(seed, other):
    def trained(seed: int) -> str:
        model = network(dropout=0.5)
        return bits(model) + str(fit(model, batch_size=1, seed=seed))

    assert trained(seed) == trained(seed)
    assert (trained(seed) == trained(other)) == (seed == other)


def test_without_a_seed_every_training_is_another():
    models = network(), network()
    for model in models:
        fit(model, seed=None, batch_size=1)
    assert bits(models[0]) != bits(models[1])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[1:], "got 11 samples and 10 targets"),
        (X[:0], Y[:0], "got 0 samples and 0 targets"),
        (X[:0], Y, "got 0 samples and 11 targets"),
        (X, 1.0, "got 11 samples and 0 targets"),
    ],
)
def test_data_that_do_not_fit_together(x, y, message):
    model = network()
    before = bits(model)
    with pytest.raises(ValueError, match=f"data: {message}"):
        fit(model, data=(x, y))
    with pytest.raises(ValueError, match=f"validation: {message}"):
        fit(model, validation=(x, y))
    with pytest.raises(ValueError, match=f"data: {message}"):
        mg.evaluate(model, nn.mse_loss, (x, y))
    assert bits(model) == before


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"model": X}, TypeError, "model=array.*; wanted a module, or any function of x"),
        (
            {"loss": sgd(network())},
            TypeError,
            r"loss=<.*SGD.*; wanted a function \(prediction, y\) that gives one number",
        ),
        ({"optimizer": nn.mse_loss}, TypeError, "optimizer=<function mse_loss.*; wanted an optimizer, such as"),
        ({"data": X}, TypeError, r"data=array.*; wanted a pair of arrays \(x, y\)"),
        ({"data": X[:2]}, TypeError, "data=array.*; wanted a pair"),
        ({"data": (X, Y, X)}, TypeError, "data=.*; wanted a pair"),
        ({"validation": X}, TypeError, "validation=array.*; wanted a pair"),
        ({"metrics": mg.accuracy}, TypeError, r"metrics=<.*accuracy.*; wanted functions \(prediction, y\) in a list"),
        ({"metrics": "accuracy"}, TypeError, "metrics='accuracy'; wanted functions"),
        ({"metrics": nn.Sequential()}, TypeError, "metrics=Sequential.*; wanted functions"),
        ({"metrics": {"score": 1.0}}, TypeError, "metrics=dict_values.*; wanted functions"),
        ({"schedule": 0.1}, TypeError, "schedule=0.1; wanted a function from the number of steps"),
        ({"callbacks": print}, TypeError, "callbacks=<built-in function print>; wanted functions of the Run in a list"),
        (
            {"callbacks": mg.EarlyStopping("loss")},
            TypeError,
            "callbacks=<.*EarlyStopping.*; wanted functions of the Run",
        ),
        ({"callbacks": [1]}, TypeError, r"callbacks=\[1\]; wanted functions of the Run"),
        ({"epochs": -1}, ValueError, "epochs=-1; wanted an integer of at least 0"),
        ({"epochs": 2.5}, ValueError, "epochs=2.5; wanted an integer of at least 0"),
        ({"batch_size": 0}, ValueError, "batch_size=0; wanted an integer of at least 1, or None"),
        ({"batch_size": -1}, ValueError, "batch_size=-1; wanted an integer of at least 1, or None"),
        ({"batch_size": 2.5}, ValueError, "batch_size=2.5; wanted an integer of at least 1, or None"),
        ({"optimizer": sgd(network())}, ValueError, "moves no parameter of the model.*make the optimizer of model.par"),
    ],
)
def test_arguments_that_are_none(wrong, error, message):
    model = network()
    before = bits(model)
    arguments = {"model": model, "loss": nn.mse_loss, "optimizer": sgd(model), "data": (X, Y), "epochs": 1} | wrong
    with pytest.raises(error, match=message):
        mg.fit(**arguments, progress=False)
    assert bits(model) == before


def test_an_optimizer_may_move_a_part_of_the_model_or_what_a_function_keeps():
    model, factor = network(), mg.Tensor(np.ones(1, np.float32), True)
    fit(model, sgd([model[0], factor]))
    fit(lambda x: model(x) * factor, sgd([factor]))
    assert factor.data != 1


def test_no_epochs_change_nothing():
    model, events = network(), Events()
    before = bits(model)
    assert fit(model, epochs=0, validation=HELD_OUT, callbacks=[events]) == {"loss": [], "val_loss": []}
    assert events == ["start 0", "finish 0"]
    assert bits(model) == before


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_gets_its_mode_back(fails):
    class Seen(nn.Module):
        def forward(self, x: Any) -> Any:
            modes.append(self.training)
            if fails and len(modes) == STEPS + 1:
                raise RuntimeError("the layer failed")
            return x

    modes: list[bool] = []
    model = nn.Sequential(Seen(), nn.Linear(2, 1, rng=np.random.default_rng(0)))
    model[0].training = False
    if fails:
        with pytest.raises(RuntimeError, match="the layer failed"):
            fit(model, epochs=1, validation=HELD_OUT)
    else:
        fit(model, epochs=1, validation=HELD_OUT)
    assert modes == [True] * STEPS + [False], "training mode for the steps, evaluation mode for the validation"
    assert (model.training, model[0].training, model[1].training) == (True, False, True)


def test_the_schedule_gives_the_rate_of_every_step():
    class Rates(optim.SGD):
        def update(self, *args: Any, **memory: Any) -> None:
            rates.append(self.lr)
            super().update(*args, **memory)

    asked: list[int] = []
    rates: list[float] = []

    def schedule(step: int) -> float:
        asked.append(step)
        return 0.1 / (1 + step)

    model = network()
    optimizer = Rates(model.parameters(), lr=7.0)
    for _ in range(2):  # the second training goes on counting
        fit(model, optimizer, schedule=schedule)
    assert asked == list(range(4 * STEPS))
    assert rates == [0.1 / (1 + step) for step in asked]


# ------------------------------------------------------------------------------------ metrics and validation


def mean_error(prediction: Any, y: Any) -> Any:
    return np.mean(np.abs(prediction - y))


class Bias:
    def __call__(self, prediction: Any, y: Any) -> Any:
        return np.mean(prediction - y)


@pytest.mark.parametrize("validation", [None, HELD_OUT])
@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        ((), ["loss"]),
        ([mg.accuracy], ["loss", "accuracy"]),
        ((mean_error, Bias()), ["loss", "mean_error", "Bias"]),
        ({"error": mean_error, "right": mg.accuracy}, ["loss", "error", "right"]),
    ],
)
def test_the_history_has_a_list_by_name_with_a_number_per_epoch(metrics, names, validation):
    history = fit(network(), epochs=3, metrics=metrics, validation=validation)
    assert list(history) == names + [f"val_{name}" for name in names if validation]
    assert all(len(numbers) == 3 and all(type(n) is float for n in numbers) for numbers in history.values())


@given(st.integers(1, ROWS + 1))
def test_training_numbers_are_means_over_all_samples(batch_size):
    model = network()
    model[2].mean.data = np.ones(4, np.float32)
    model[2].forward = lambda x: x - 1.0  # nothing in it changes
    history = fit(model, sgd(model, lr=0.0), metrics=[mean_error, Bias()], batch_size=batch_size)
    prediction = mg.predict(model, X)
    wanted = {
        "loss": np.mean((prediction - Y) ** 2),
        "mean_error": np.mean(np.abs(prediction - Y)),
        "Bias": np.mean(prediction - Y),
    }
    for name, number in wanted.items():
        assert history[name] == pytest.approx([number, number], rel=1e-5), name


def test_validation_is_what_the_weights_of_the_epoch_give():
    def check(run: Run) -> None:
        x, y = HELD_OUT
        prediction = np.tanh(x @ run.model[0].weight.data.T + run.model[0].bias.data) - run.model[2].mean.data
        prediction = prediction @ run.model[3].weight.data.T + run.model[3].bias.data
        wanted = {"val_loss": np.mean((prediction - y) ** 2), "val_mean_error": np.mean(np.abs(prediction - y))}
        for name, number in wanted.items():
            assert run.history[name][-1] == pytest.approx(number, rel=1e-5)
            checked.append(name)
        assert mg.evaluate(run.model, nn.mse_loss, HELD_OUT) == {"loss": run.history["val_loss"][-1]}

    checked: list[str] = []
    with_, without = network(), network()
    fit(with_, epochs=3, validation=HELD_OUT, metrics=[mean_error], callbacks=[check])
    assert len(checked) == 6
    fit(without, epochs=3)
    assert bits(with_) == bits(without), "looking does not change the training"


@pytest.mark.parametrize(
    "metrics",
    [[lambda p, y: 0.0, lambda p, y: 1.0], [mean_error, mean_error], {"loss": mean_error}],
    ids=["lambdas", "twice", "loss"],
)
def test_metrics_need_names_of_their_own(metrics):
    with pytest.raises(ValueError, match="metrics need names of their own"):
        fit(network(), metrics=metrics)
    with pytest.raises(ValueError, match="metrics need names of their own"):
        mg.evaluate(network(), nn.mse_loss, (X, Y), metrics=metrics)


def test_a_loss_and_a_metric_may_use_the_parameters():
    model = network()
    weight = model[0].weight

    def loss(prediction: Any, y: Any) -> Any:
        return nn.mse_loss(prediction, y) + 0.1 * np.sum(weight**2)

    def norm(prediction: Any, y: Any) -> Any:
        return np.linalg.norm(weight.data) * np.sum(weight) / np.sum(weight)

    history = fit(model, loss=loss, metrics=[norm], validation=HELD_OUT, epochs=1)
    wanted = mg.evaluate(model, nn.mse_loss, HELD_OUT)["loss"] + 0.1 * np.sum(weight.data**2)
    assert history["val_loss"] == pytest.approx([wanted])
    assert history["val_norm"] == pytest.approx([np.linalg.norm(weight.data)])


# -------------------------------------------------------------------------------------- predict and evaluate


@given(st.integers(0, 20), st.none() | st.integers(1, 25), st.integers(0, 2**32))
def test_predictions_do_not_depend_on_the_batch(rows, batch_size, seed):
    model = network(seed, dropout=0.5)
    x = np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)
    before, model[1].training = bits(model), False
    prediction = mg.predict(model, x, batch_size)
    assert type(prediction) is np.ndarray
    assert (prediction.shape, prediction.dtype) == ((rows, 1), np.float32)
    assert (model.training, model[1].training, model[2].training) == (True, False, True), "modes are put back"
    hidden = np.tanh(x.astype(np.float64) @ model[0].weight.data.T + model[0].bias.data)
    np.testing.assert_allclose(prediction, hidden @ model[4].weight.data.T + model[4].bias.data, rtol=1e-4, atol=1e-5)
    for i in range(rows):
        np.testing.assert_allclose(mg.predict(model, x[i : i + 1])[0], prediction[i], rtol=1e-5, atol=1e-6)
    assert bits(model) == before, "nothing is learned, and no random number drawn"


def test_predict_records_nothing_and_asks_for_batches_of_the_size():
    class Look(nn.Module):
        def forward(self, x: Any) -> Any:
            seen.append((len(x), self.training, (x @ weight).requires_grad))
            if len(seen) == 5:
                raise RuntimeError("the layer failed")
            return x @ weight

    seen: list[tuple[int, bool, bool]] = []
    weight = mg.Tensor(np.ones((2, 1), np.float32), True)
    model = Look()
    mg.predict(model, X.tolist(), batch_size=4)
    assert seen == [(4, False, False), (4, False, False), (3, False, False)]
    mg.predict(model, X, batch_size=None)
    assert seen[3:] == [(ROWS, False, False)]
    with pytest.raises(RuntimeError, match="the layer failed"):
        mg.predict(model, X)
    assert model.training
    assert (X @ weight).requires_grad, "recording is on again"


@given(st.none() | st.integers(1, ROWS + 1))
def test_evaluate_is_the_loss_and_the_metrics_of_the_predictions(batch_size):
    model = network()
    numbers = mg.evaluate(model, nn.mse_loss, (X, Y), metrics=[mean_error], batch_size=batch_size)
    prediction = mg.predict(model, X)
    assert list(numbers) == ["loss", "mean_error"]
    assert all(type(number) is float for number in numbers.values())
    assert numbers["loss"] == pytest.approx(np.mean((prediction - Y) ** 2), rel=1e-5)
    assert numbers["mean_error"] == pytest.approx(np.mean(np.abs(prediction - Y)), rel=1e-5)
    named = mg.evaluate(model, nn.mse_loss, (X.tolist(), Y.tolist()), metrics={"mine": mean_error})
    assert named == pytest.approx({"loss": numbers["loss"], "mine": numbers["mean_error"]})


SCORES = np.array([[0.1, 0.9, 0.3], [2.0, -1.0, 0.0], [0.2, 0.3, 0.4], [-3.0, -2.0, -1.0]])


@pytest.mark.parametrize(
    ("prediction", "target", "share"),
    [
        (SCORES, [1, 0, 2, 2], 1.0),
        (SCORES, [1, 1, 2, 0], 0.5),
        (SCORES, np.eye(3)[[1, 0, 0, 2]], 0.75),
        (SCORES[:, :2], [0, 1, 0, 0], 0.0),
        (SCORES[:, 0], [0, 1, 1, 0], 0.75),
        (SCORES[:, :1], [[0], [1], [0], [0]], 1.0),
        (np.array([0.5, np.nextafter(0.5, 1)]), [0, 1], 1.0),
        (np.array([0.4, 0.6]), [False, True], 1.0),
        (np.array([0.4, 0.6]), [1.0, 0.0], 0.0),
    ],
)
def test_accuracy(prediction, target, share):
    assert mg.accuracy(prediction, np.array(target)) == share


@pytest.mark.parametrize(
    ("prediction", "target"),
    [((4, 3), (5,)), ((4, 3), (4, 2)), ((4, 3), (4, 1)), ((4, 1), (4,)), ((4,), (4, 1)), ((4,), (1,)), ((4,), ())],
)
def test_accuracy_never_broadcasts(prediction, target):
    with pytest.raises(ValueError, match="accuracy cannot compare predictions of shape"):
        mg.accuracy(np.zeros(prediction), np.zeros(target))


# -------------------------------------------------------------------------------------------------- progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(*args: Any, **options: Any) -> tuple[mg.History, str]:
    """The history of a training, and what a terminal showed of it."""
    with contextlib.redirect_stdout(Terminal()) as terminal:
        return fit(*args, **{"progress": True} | options), terminal.getvalue()


def test_a_terminal_shows_a_bar(capsys):
    pytest.importorskip("tqdm")
    history, shown = on_a_terminal(network(), epochs=3, metrics=[mean_error], validation=HELD_OUT)
    first, last = shown.split("\r")[1], shown.split("\r")[-1]
    assert "epoch 1/3:   0%" in first
    assert "0.00/33.0" in first
    assert "epoch 3/3: 100%" in last
    assert "33.0/33.0" in last
    assert "samples/s" in last
    assert ", ".join(f"{name} {numbers[-1]:.4f}" for name, numbers in history.items()) in last
    assert last.endswith("\n")
    assert capsys.readouterr() == ("", "")


def test_the_bar_shows_the_means_of_the_epoch_so_far(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(training.time, "perf_counter", itertools.count(1).__next__)  # long steps
    values = iter([1.0, 2.0, 3.0, 7.0, 4.0, 5.0, 6.0, 8.0])
    metrics = {"score": lambda prediction, y: next(values)}
    _, shown = on_a_terminal(network(), metrics=metrics, validation=HELD_OUT)
    parts = [part for part in shown.split("\r") if "score " in part]
    assert [part for part in parts if "score 4.5000" in part and "val_score 7.0000" in part], "and the last validation"
    scores = [part.split(", score ")[1][:6] for part in parts]
    wanted = [1.0, 1.5, (4 * 1 + 4 * 2 + 3 * 3) / 11, 4.0, 4.5, (4 * 4 + 4 * 5 + 3 * 6) / 11]
    assert list(dict.fromkeys(scores)) == [f"{number:.4f}" for number in wanted]


def test_the_bar_goes_on_where_the_checkpoint_was_and_is_closed_by_an_error(tmp_path):
    pytest.importorskip("tqdm")
    callbacks = [mg.Checkpoint(tmp_path / "checkpoint.npz")]
    fit(network(), callbacks=callbacks)
    with contextlib.redirect_stdout(Terminal()) as terminal, pytest.raises(RuntimeError, match="no more") as error:
        fit(network(), loss=failing_after(1), epochs=4, callbacks=callbacks, progress=True)
    shown = terminal.getvalue()
    assert error.traceback, "which keeps the bar from closing itself when it is freed"
    assert "epoch 3/4:  50%" in shown
    assert "22.0/44.0" in shown
    assert shown.endswith("\n")
    _, shown = on_a_terminal(network(), callbacks=callbacks)
    assert "epoch 2/2: 100%" in shown


@pytest.mark.parametrize("epochs", [1, 2, 49, 50, 51, 99, 101, 150, 1000])
def test_elsewhere_there_are_some_fifty_plain_lines(epochs, capsys):
    model = network()
    history = fit(model, data=(X[:1], Y[:1]), epochs=epochs, metrics=[mean_error], progress=True)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert min(epochs, 25) <= len(lines) <= 51
    assert err == ""
    for line in lines:
        epoch = int(line.removeprefix("epoch").split("/")[0])
        numbers = "  ".join(f"{name} {values[epoch - 1]:.4f}" for name, values in history.items())
        assert line.startswith(f"epoch {epoch:>{len(str(epochs))}}/{epochs}  {numbers}  ")
        assert line.endswith(" samples/s")
    assert f"{epochs}/{epochs}" in lines[-1], "the last epoch is there"


def test_an_early_end_has_its_line(capsys):
    fit(network(), epochs=500, callbacks=[lambda run: setattr(run, "stopped", run.epoch == 13)], progress=True)
    assert [line.split("/")[0] for line in capsys.readouterr().out.splitlines()] == ["epoch  10", "epoch  13"]


def test_the_rate_is_samples_by_seconds(monkeypatch, capsys):
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(training, "time", clock)

    steps = itertools.count()

    def slow(prediction: Any, y: Any) -> Any:
        clock.now += 0.001 if next(steps) < 75 * ROWS else 0.002
        return nn.mse_loss(prediction, y)

    fit(network(), loss=slow, batch_size=1, epochs=150, progress=True)
    rates = [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()]
    assert rates == ["1,000 samples/s"] * 25 + ["500 samples/s"] * 25


def test_lines_where_tqdm_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    _, shown = on_a_terminal(network())
    assert [line[:9] for line in shown.splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_lines_where_the_terminal_has_no_width(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(Terminal, "fileno", lambda self: 1)
    monkeypatch.setattr(os, "get_terminal_size", lambda number: os.terminal_size((0, 0)))
    _, shown = on_a_terminal(network())
    assert [line[:9] for line in shown.splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_no_progress_no_output(capsys):
    _, shown = on_a_terminal(network(), validation=HELD_OUT, progress=False)
    assert shown == ""
    fit(network(), validation=HELD_OUT)
    assert capsys.readouterr() == ("", "")


# --------------------------------------------------------------------------------------------------- history


def test_the_picture_shows_every_number(tmp_path, monkeypatch):
    figures = pytest.importorskip("matplotlib.figure")
    shown: list[Any] = []
    save = figures.Figure.savefig
    monkeypatch.setattr(figures.Figure, "savefig", lambda self, *a, **k: (shown.append(self), save(self, *a, **k)))
    history = mg.History(loss=[3.0, 2.0], val_loss=[4.0, 5.0], accuracy=[0.1, 0.2])
    history.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    panels = [{line.get_label(): list(line.get_ydata()) for line in axes.lines} for axes in shown[0].axes]
    assert panels == [{"loss": [3.0, 2.0], "val_loss": [4.0, 5.0]}, {"accuracy": [0.1, 0.2]}]
    assert all(list(line.get_xdata()) == [1, 2] for axes in shown[0].axes for line in axes.lines)


@pytest.mark.parametrize("history", [{}, {"loss": []}, {"loss": [1.0]}, {"accuracy": [1.0]}, {"loss": [math.nan, 1.0]}])
def test_every_history_has_a_picture(history, tmp_path):
    pytest.importorskip("matplotlib")
    mg.History(history).plot(str(tmp_path / "curves.svg"))
    assert "<svg" in (tmp_path / "curves.svg").read_text(encoding="utf-8")


def test_without_matplotlib_the_history_says_what_to_install(tmp_path, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"History\.plot draws with matplotlib: pip install matplotlib"):
        mg.History(loss=[1.0]).plot(tmp_path / "curves.png")


# ------------------------------------------------------------------------------------------------- callbacks


class Events(list[str]):
    """A callback that notes what it is called with."""

    def start(self, run: Run) -> None:
        self.append(f"start {run.epoch}")

    def __call__(self, run: Run) -> None:
        assert len(run.history["loss"]) == run.epoch
        self.append(f"epoch {run.epoch}")

    def finish(self, run: Run) -> None:
        self.append(f"finish {run.epoch}")


def test_callbacks_are_called_in_order_and_see_the_run():
    def see(run: Run) -> None:
        events.append("function")
        runs.append(run)

    events, runs, model = Events(), [], network()
    optimizer = sgd(model)
    history = fit(model, optimizer, callbacks=iter([events, see]))
    assert events == ["start 0", "epoch 1", "function", "epoch 2", "function", "finish 2"]
    run = runs[0]
    assert all(other is run for other in runs)
    assert (run.model, run.optimizer, run.history) == (model, optimizer, history)
    assert run.history is history


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
            callbacks=[mg.EarlyStopping("score"), lambda run: seen.append(bits(model))],
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

    def stop(run: Run) -> None:
        run.stopped = run.epoch == epoch

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
        callbacks=[stop, lambda run: weights.append(bits(run.model))],
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
        callbacks=[stop := mg.EarlyStopping("score", 2)],
    )
    kept = stop.state_dict()["weights/0.weight"].copy()
    before = model[0].weight.data.copy()
    assert np.array_equal(before, kept)
    fit(model, optimizer)
    assert not np.array_equal(model[0].weight.data, before)
    assert np.array_equal(stop.state_dict()["weights/0.weight"], kept)


@pytest.mark.parametrize(
    ("monitor", "options", "measured"),
    [("val_loss", {}, "loss"), ("acuracy", {"metrics": [mg.accuracy]}, "loss, accuracy")],
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
        (lambda: mg.EarlyStopping(mode="least"), "mode is"),
        (lambda: mg.EarlyStopping(patience=0), "patience=0: it must be at least 1"),
        (lambda: mg.Checkpoint("checkpoint.npz", every=0), "every=0: it must be at least 1"),
    ],
)
def test_options_of_callbacks(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ----------------------------------------------------------------------------------------------- checkpoints


def failing_after(steps: int, failure: Callable[[], Any] | None = None) -> Callable[..., Any]:
    """The squared error, which fails, or does what it is told, at the step after so many."""
    count = itertools.count()

    def loss(prediction: Any, y: Any) -> Any:
        if isinstance(prediction, mg.Tensor) and next(count) == steps:
            if failure is None:
                raise RuntimeError("no more")
            failure()
        return nn.mse_loss(prediction, y)

    return loss


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


class Training:
    """All that a training is made of, anew: two of the same options go the same way."""

    def __init__(
        self,
        path: Path | None,
        optimizer: str = "adam",
        every: int = 1,
        order: int = 0,
        patience: int = 2,
        seed: int = 0,
    ) -> None:
        self.model = network(seed, dropout=0.5)
        self.optimizer = OPTIMIZERS[optimizer](self.model)
        self.stop = mg.EarlyStopping("val_loss", patience)
        self.events = Events()
        callbacks = [self.stop, self.events, *([mg.Checkpoint(path, every)] if path else [])]
        self.callbacks = list(itertools.permutations(callbacks))[order]
        self.seed = seed

    def run(self, epochs: int, loss: Any = nn.mse_loss) -> mg.History:
        return fit(
            self.model,
            self.optimizer,
            loss,
            epochs=epochs,
            seed=self.seed,
            validation=HELD_OUT,
            metrics=[mean_error],
            schedule=optim.warmup_schedule(4, optim.cosine_schedule(0.05, 30)),
            callbacks=self.callbacks,
        )

    def bits(self) -> str:
        return bits(self.model, self.optimizer, self.stop)


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
    whole = Training(None, optimizer, patience=patience)
    history = whole.run(EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        part = Training(path, optimizer, every, order, patience)
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
                part = Training(path, optimizer, every, order, patience, seed)
            elif not path.exists():
                part = Training(path, optimizer, every, order, patience)
        assert part.run(EPOCHS) == history
        assert part.bits() == whole.bits()
        assert os.listdir(folder) in ([], ["checkpoint"])  # noqa: PTH208


def test_a_killed_process_is_resumed_by_a_fresh_one(tmp_path):
    def python(*lines: str) -> tuple[int, str, str]:
        code = "\n".join(["import os, sys", "import test_training as t", "path = t.Path(sys.argv[1])", *lines])
        command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "checkpoint.npz")]
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    assert python("t.Training(path, patience=9).run(5, t.failing_after(10, lambda: os._exit(7)))") == (7, "", "")
    resumed = python("part = t.Training(path, patience=9, seed=1)", "print(part.run(5), part.events[1:], part.bits())")
    whole = Training(None, patience=9)
    history = whole.run(5)
    assert resumed == (0, f"{history} {['epoch 4', 'epoch 5', 'finish 5']} {whole.bits()}\n", "")


@pytest.mark.parametrize(("every", "kept"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4]), (3, [3]), (7, [])])
def test_every_so_many_epochs(every, kept, tmp_path):
    path = tmp_path / "checkpoint.npz"
    epochs: list[int] = []

    def look(run: Run) -> None:  # what the file holds when the next epoch has ended
        if path.exists() and (epoch := int(np.load(path)["epoch"])) not in epochs:
            epochs.append(epoch)

    fit(network(), epochs=5, callbacks=[mg.Checkpoint(str(path), every), look])
    if path.exists():
        look(Run(None, None, None))
    assert epochs == kept


def test_a_training_that_stopped_stays_stopped(tmp_path):
    path = tmp_path / "checkpoint.npz"
    stop = lambda run: setattr(run, "stopped", run.epoch == 2)
    history = fit(network(), epochs=9, callbacks=[mg.Checkpoint(path, every=5), stop])
    model = network(1)
    assert fit(model, loss=failing_after(0), epochs=9, callbacks=[mg.Checkpoint(path, every=5), stop]) == history


def test_a_longer_training_goes_on_from_the_last_weights_and_not_the_best(tmp_path):
    def run(path: Path | None, *epochs: int) -> str:
        for n in epochs:
            training = Training(path, patience=99)
            history = training.run(n)
        return str(history) + training.bits()

    assert run(tmp_path / "checkpoint.npz", 3, 5, 12) == run(None, 12)


def test_a_plain_function_and_what_the_optimizer_moves_are_kept(tmp_path):
    def made(value: float) -> tuple[Any, mg.Tensor, optim.Optimizer, list[Any]]:
        w = mg.Tensor(np.full((2, 1), value, np.float32), True)
        callbacks = [mg.EarlyStopping("score", 9), mg.Checkpoint(tmp_path / "checkpoint.npz")]
        return lambda x: np.tanh(x @ w), w, optim.Adam([w], lr=0.1), callbacks

    model, w, optimizer, callbacks = made(1.0)
    scores, seen = iter([3.0, 1.0, 2.0]), []
    callbacks.append(lambda run: seen.append(w.data.copy()))
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
    Training(folder / "made.npz", **options).run(epochs)
    return (folder / "made.npz").read_bytes()


def refuses(content: bytes | Path) -> bool:
    """Whether the file is refused, and then nothing is changed; else it must be the checkpoint that it was."""
    with tempfile.TemporaryDirectory() as folder:
        path = content if isinstance(content, Path) else Path(folder) / "checkpoint.npz"
        if isinstance(content, bytes):
            path.write_bytes(content)
        part = Training(path, seed=3)
        before = bits(part.model, part.optimizer)
        try:
            part.run(2, failing_after(0))
        except ValueError as refusal:
            error = str(refusal)
        else:
            whole = Training(None)
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
    for name, array in arrays.items():
        a_number_too = name != "epoch" and junk.shape == array.shape and {junk.dtype.kind, array.dtype.kind} <= {*"if"}
        if a_number_too or name == "stopped" or "weights/" in name:
            continue  # it cannot be told from a right one
        changed = {other: array for other, array in arrays.items() if other != name}
        if kind != "missing":
            changed[name] = junk
        file = io.BytesIO()
        np.savez(file, **changed)
        assert refuses(file.getvalue()), name
        tried += 1
    assert tried > 10


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


# ----------------------------------------------------------------------------------------- Ctrl-C and not finite


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6])
def test_ctrl_c_stops_after_the_current_step(steps):
    ours, theirs, events = network(), network(), Events()
    optimizers = OPTIMIZERS["adam"](ours), OPTIMIZERS["adam"](theirs)
    history = fit(ours, optimizers[0], failing_after(steps - 1, ctrl_c), epochs=3, callbacks=[events])
    assert optimizers[0].steps == steps
    assert history == {"loss": by_hand(theirs, optimizers[1], nn.mse_loss, 3, BATCH, 0, steps)}
    assert bits(ours, optimizers[0]) == bits(theirs, optimizers[1])
    assert len(history["loss"]) == steps // STEPS
    assert events[-1] == f"finish {steps // STEPS}"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert ours.training


def test_ctrl_c_ends_early_stopping_with_the_best_weights():
    scores, seen, model = iter([1.0] * STEPS + [2.0] * 99), [], network()
    history = fit(
        model,
        loss=failing_after(2 * STEPS, ctrl_c),
        epochs=5,
        metrics={"score": lambda prediction, y: next(scores)},
        callbacks=[mg.EarlyStopping("score"), lambda run: seen.append(bits(model))],
    )
    assert history["score"] == [1.0, 2.0]
    assert bits(model) == seen[0] != seen[1]


def test_ctrl_c_in_the_validation_lets_the_epoch_end():
    def metric(prediction: Any, y: Any) -> float:
        if len(y) == len(HELD_OUT[1]):
            ctrl_c()
        return 1.0

    assert fit(network(), epochs=5, metrics=[metric], validation=HELD_OUT)["val_metric"] == [1.0]


def test_a_second_ctrl_c_is_at_once():
    model, events = network(), Events()
    optimizer = sgd(model)
    with pytest.raises(KeyboardInterrupt):
        fit(model, optimizer, failing_after(4, lambda: (ctrl_c(), ctrl_c())), callbacks=[events])
    assert optimizer.steps == 4
    assert events == ["start 0", "epoch 1", "finish 1"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()


def test_an_error_gives_ctrl_c_back_and_finishes_the_callbacks():
    events = Events()
    with pytest.raises(RuntimeError, match="no more"):
        fit(network(), loss=failing_after(4), callbacks=[events])
    assert events == ["start 0", "epoch 1", "finish 1"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_somebody_else_stays():
    calls: list[int] = []
    handler = lambda number, frame: calls.append(number)
    before = signal.signal(signal.SIGINT, handler)
    try:
        history = fit(network(), loss=failing_after(1, ctrl_c))
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [signal.SIGINT]
    assert len(history["loss"]) == 2


def test_another_thread_trains_without_touching_signals(monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *args: pytest.fail("a thread must not set handlers"))
    results: list[mg.History] = []
    thread = threading.Thread(target=lambda: results.append(fit(network())))
    thread.start()
    thread.join()
    monkeypatch.undo()
    assert results == [fit(network())]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("step", "where"), [(0, "epoch 1, step 1"), (2, "epoch 1, step 3"), (4, "epoch 2, step 2")])
def test_a_loss_that_is_not_finite_is_an_error_before_the_step(value, step, where):
    ours, theirs, factor = network(), network(), [1.0]
    optimizers = OPTIMIZERS["adam"](ours), OPTIMIZERS["adam"](theirs)
    finite = failing_after(step, lambda: factor.append(value))
    loss = lambda prediction, y: finite(prediction, y) * factor[-1]
    message = f"the loss became {value} in {where}; all parameters are finite: look at the data and the loss"
    with pytest.raises(FloatingPointError, match=f"^{message}"):
        fit(ours, optimizers[0], loss)
    by_hand(theirs, optimizers[1], nn.mse_loss, 2, BATCH, 0, step)
    assert [p.data.tobytes() for p in ours.parameters()] == [p.data.tobytes() for p in theirs.parameters()]
    assert bits(optimizers[0]) == bits(optimizers[1])
    assert ours.training
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("broken", "named"), [([3], "3.weight"), ([0, 3], "0.weight")])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_error_names_the_first_parameter_that_is_not_finite(broken, named, value):
    def damage(run: Run) -> None:
        for layer in broken:
            run.model[layer].weight.data[0, 0] = value

    with pytest.raises(
        FloatingPointError, match=rf"epoch 2, step 1; the parameter {named} is not finite: try a smaller"
    ):
        fit(network(), callbacks=[damage])


def test_the_error_finds_the_parameters_of_a_plain_function():
    w = mg.Tensor(np.ones((2, 1), np.float32), True)
    with pytest.raises(FloatingPointError, match=r"step 1; the parameter optimizer.* is not finite"):
        fit(lambda x: x @ w, optim.SGD([w]), callbacks=[lambda run: w.data.fill(math.nan)])


def test_steps_that_diverge_end_in_the_error():
    model = nn.Linear(2, 1, rng=np.random.default_rng(0))
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError, match="the loss became"):
        fit(model, sgd(model, lr=10.0), epochs=500)
