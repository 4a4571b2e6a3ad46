"""The training loop against loops written out by hand, and against breaks of every kind."""

import dataclasses
import itertools
import math
import signal
import tempfile
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import (
    BATCH,
    HELD_OUT,
    OPTIMIZERS,
    ROWS,
    STEPS,
    Events,
    X,
    Y,
    bits,
    by_hand,
    ctrl_c,
    failing_after,
    fit,
    mean_error,
    network,
    right,
    sgd,
)
from hypothesis import given
from hypothesis import strategies as st
from profiles import some

import minigrad as mg
from minigrad import nn, optim
from minigrad.compiler.program import Program
from minigrad.compiler.record import TraceError
from minigrad.training import Training
from minigrad.trees import flatten

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
                metrics=[right],
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
    sizes, made = [], Program.__init__
    monkeypatch.setattr(
        Program, "__init__", lambda self, f, run, *rest: (sizes.append(len(run.flat[0])), made(self, f, run, *rest))[1]
    )
    model = network()[:2]
    loss = lambda prediction, y: nn.mse_loss(prediction.mean(axis=1, keepdims=True), y)
    fit(model, sgd(model), loss, epochs=5, compile=True)
    assert sizes == [BATCH, ROWS % BATCH]


def test_a_compiled_training_sees_what_a_callback_does_to_the_model():
    trained = []
    for compile in (False, True):
        first, _, _, last = network()
        model = nn.Sequential(nn.Dropout(0.5, rng=np.random.default_rng(0)), first, np.tanh, last)
        change = lambda training, model=model: model[0].train(training.epoch % 2 == 0)
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
    with pytest.raises(TraceError, match=r"examples\.py:\d+, `values = "):  # Centre does
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
        def update(self, *args: Any) -> Any:
            rates.append(self.lr)
            return super().update(*args)

    asked: list[int] = []
    rates: list[float] = []

    def schedule(step: int) -> float:
        asked.append(step)
        return 0.1 / (1 + step)

    model = network()
    optimizer = Rates(model.parameters(), lr=7.0)
    for _ in range(2):  # the second training begins anew
        fit(model, optimizer, schedule=schedule)
        assert optimizer.lr == 7.0
    assert asked == list(range(2 * STEPS)) * 2
    assert rates == [0.1 / (1 + step) for step in asked]


@pytest.mark.parametrize("compile", [False, True, "pure"])
@pytest.mark.parametrize("max_norm", [0.0, 0.05, 100.0])
def test_gradients_are_clipped_as_by_hand(max_norm, compile):
    def made() -> tuple[Any, Any]:
        first, _, _, last = network()
        model = nn.Sequential(first, np.tanh, last)
        return model, OPTIMIZERS["momentum"](model)

    (ours, optimizer), (theirs, other), (free, unbound) = made(), made(), made()
    fit(ours, optimizer, epochs=2, batch_size=None, clip_grad_norm=max_norm, compile=compile)
    fit(free, unbound, epochs=2, batch_size=None)
    order = np.random.default_rng(0)
    for _ in range(2):
        rows = order.permutation(ROWS)
        other.zero_grad()
        nn.mse_loss(theirs(X[rows]), Y[rows]).backward()
        optim.clip_grad_norm(theirs, max_norm)
        other.step()
    for p, q, r in zip(ours.parameters(), theirs.parameters(), free.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-5, atol=1e-7)
        assert np.array_equal(p.data, r.data) == (max_norm > 1)


Pair = namedtuple("Pair", "left right")


@dataclasses.dataclass
class Answer:
    left: Any
    right: Any


FORMS: dict[str, Any] = {
    "tuple": lambda left, right: (left, right),
    "named tuple": Pair,
    "dict": lambda left, right: {"left": left, "right": right},
    "nested": lambda left, right: {"both": (left, {"last": right})},
}
ANSWERS = FORMS | {"list": lambda left, right: [left, right], "dataclass": Answer}


class Branches(nn.Module):
    """Two inputs and two outputs, in any form."""

    def __init__(self, form: Any = FORMS["tuple"]) -> None:
        rng = np.random.default_rng(0)
        self.first, self.second, self.form = nn.Linear(2, 3, rng=rng), nn.Linear(3, 1, rng=rng), form

    def forward(self, x: Any) -> Any:
        left, right = flatten(x)[0]
        hidden = np.tanh(self.first(left))
        return self.form(self.second(hidden) + right, hidden)


def both(prediction: Any, y: Any) -> Any:
    (left, right), (wanted, zeros) = flatten(prediction)[0], flatten(y)[0]
    assert isinstance(left, mg.Tensor), "also in evaluation"
    return nn.mse_loss(left, wanted) + 0.1 * np.mean(np.square(right - zeros))


@pytest.mark.parametrize(
    ("form", "answer", "compile"), some([*itertools.product(FORMS, ANSWERS, [False, True, "pure"])], 5)
)
def test_several_inputs_and_outputs_are_as_one(form, answer, compile):
    form, answer = FORMS[form], ANSWERS[answer]

    def count(prediction: Any, y: Any) -> float:
        assert type(prediction) is type(answer(0, 0))
        assert type(y) is type(form(0, 0))
        arrays = flatten(prediction)[0] + flatten(y)[0]
        assert [type(array) for array in arrays] == [np.ndarray] * 4
        return len({len(array) for array in arrays})

    model, alone = Branches(answer), Branches()
    x, y = form(X, Y / 10), form(Y, np.zeros((ROWS, 3), np.float32))
    history = fit(model, loss=both, data=(x, y), validation=(x, y), metrics=[count], compile=compile)
    wide = np.concatenate([X, Y / 10, Y], axis=1)  # the same as arrays
    loss = lambda prediction, y: both(prediction, (y, np.zeros((len(y), 3), np.float32)))
    wanted = fit(lambda x: alone((x[:, :2], x[:, 2:3])), sgd(alone), loss, (wide, Y))
    np.testing.assert_allclose(history["loss"], wanted["loss"], rtol=1e-5)
    assert history["count"] == history["val_count"] == [1.0, 1.0]
    prediction = mg.predict(model, x, batch_size=5)
    assert type(prediction) is type(answer(0, 0))
    assert [array.shape for array in flatten(prediction)[0]] == [(ROWS, 1), (ROWS, 3)]
    numbers = mg.evaluate(model, both, (x, y), batch_size=3)
    assert numbers["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)


def test_all_of_a_training_follows_from_one_number():
    def trained(number: int) -> str:
        rng = np.random.default_rng(number)
        layers = nn.Linear(2, 4, rng=rng), nn.Tanh(), nn.Dropout(0.5, rng=rng), nn.Linear(4, 1, rng=rng)
        model = nn.Sequential(*layers)
        x_train, x_test, y_train, y_test = mg.data.train_test_split(X, Y, rng=rng)
        optimizer = optim.Adam(model)
        history = fit(model, optimizer, data=(x_train, y_train), validation=(x_test, y_test), seed=rng)
        return str(history) + bits(model, optimizer) + str(rng.random())

    assert trained(0) == trained(0)
    assert trained(1) == trained(1) != trained(0)


# ------------------------------------------------------------------------------------ metrics and validation


class Bias:
    def __call__(self, prediction: Any, y: Any) -> Any:
        return np.mean(prediction - y)


@pytest.mark.parametrize("validation", [None, HELD_OUT])
@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        ((), ["loss"]),
        ([right], ["loss", "right"]),
        ((mean_error, Bias()), ["loss", "mean_error", "Bias"]),
        ({"error": mean_error, "right": right}, ["loss", "error", "right"]),
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
    def check(training: Training) -> None:
        x, y = HELD_OUT
        prediction = (
            np.tanh(x @ training.model[0].weight.data.T + training.model[0].bias.data) - training.model[2].mean.data
        )
        prediction = prediction @ training.model[3].weight.data.T + training.model[3].bias.data
        wanted = {"val_loss": np.mean((prediction - y) ** 2), "val_mean_error": np.mean(np.abs(prediction - y))}
        for name, number in wanted.items():
            assert training.history[name][-1] == pytest.approx(number, rel=1e-5)
            checked.append(name)
        assert mg.evaluate(training.model, nn.mse_loss, HELD_OUT) == {"loss": training.history["val_loss"][-1]}

    checked: list[str] = []
    with_, without = network(), network()
    fit(with_, epochs=3, validation=HELD_OUT, metrics=[mean_error], callbacks=[check])
    assert len(checked) == 6
    fit(without, epochs=3)
    assert bits(with_) == bits(without), "looking does not change the training"


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


@pytest.mark.parametrize("batch_size", [None, 1, 4, 5, 10, ROWS])
@pytest.mark.parametrize("rows", [0, 1, ROWS])
def test_a_row_that_was_squeezed_away_comes_back(batch_size, rows):
    x = X[:rows]
    model = lambda x: (np.squeeze(x[:, :1]), {"wide": np.squeeze(x[:, None])}, x)
    thin, wide, plain = mg.predict(model, x, batch_size)[0], *[mg.predict(model, x, batch_size)[1]["wide"]], x
    np.testing.assert_array_equal(thin, x[:, 0])
    np.testing.assert_array_equal(wide, plain)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: x.mean(axis=0), r"an array of shape \(2,\) for 4 samples: wanted as many rows"),
        (lambda x: x.T, r"shape \(2, 4\) for 4 samples"),
        (lambda x: (x, np.mean(x)), r"shape \(\) for 4 samples"),
    ],
)
def test_predictions_have_a_row_for_each_sample(model, message):
    with pytest.raises(ValueError, match=message):
        mg.predict(model, X, batch_size=4)


def test_predictions_that_overlap_do_not_disturb_each_other():
    ready, model = threading.Barrier(2), None

    def wait(x: Any) -> Any:
        if not model.training:
            ready.wait(10)  # both are in the middle
        return x

    model = nn.Sequential(nn.Dropout(0.5, rng=0), wait, nn.Dropout(0.5, rng=0))
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(mg.predict(model, X, None))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [np.array_equal(answer, X) for answer in answers] == [True, True]
    assert model.training
    assert model[0].training


def test_training_and_prediction_may_overlap():
    model, seen = network(dropout=0.5), []

    def predict(training: Training) -> None:
        thread = threading.Thread(target=lambda: seen.append(mg.predict(model, X)))
        thread.start()
        thread.join()
        assert model[1].training

    fit(model, epochs=2, callbacks=[predict])
    assert np.array_equal(seen[-1], mg.predict(model, X))


def test_a_plain_function_is_evaluated_without_dropout_too():
    model = network(dropout=0.5)
    np.testing.assert_array_equal(mg.predict(lambda x: model(x), X), mg.predict(model, X))
    history = fit(lambda x: model(x), sgd(model), validation=HELD_OUT)
    assert history["val_loss"][-1] == mg.evaluate(model, nn.mse_loss, HELD_OUT)["loss"]
    assert model[1].training


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
        (np.abs(SCORES[2:, 0] / 3), [1, 1], 0.5),
        (SCORES[2:3, :1], [[0]], 1.0),
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


def test_accuracy_takes_sequences_and_other_thresholds():
    logits = np.array([-2.0, 0.1, 0.4, 3.0])
    assert mg.accuracy(logits, np.array([0, 1, 1, 1]), threshold=0) == 1
    assert mg.accuracy(logits, [0, 1, 1, 1], threshold=0.3) == 0.75
    words = np.random.default_rng(0).normal(size=(2, 3, 4))
    labels = words.argmax(axis=-1)
    labels[0, 0] = (labels[0, 0] + 1) % 4
    assert mg.accuracy(mg.Tensor(words, requires_grad=True), mg.Tensor(labels)) == pytest.approx(5 / 6)
    above = np.nextafter(np.float32(1), np.float32(2))
    assert mg.accuracy(np.array([above, -1e-8], np.float32), np.array([1.0, 0.0])) == 1


@pytest.mark.parametrize("prediction", [[[math.nan, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, math.nan]]])
def test_accuracy_of_nan_is_nan(prediction):
    assert math.isnan(mg.accuracy(np.array(prediction), np.array([0, 1])))
    assert math.isnan(mg.accuracy(np.array(prediction)[:, 1], np.array([math.nan, 1])))
    assert math.isnan(mg.accuracy(np.eye(2), np.array(prediction)))


@pytest.mark.parametrize(
    ("prediction", "target", "options", "error", "message"),
    [
        ([0.7, 0.2], [1, -1], {}, ValueError, "targets from -1 to 1: of two classes, 0 or 1"),
        ([0.7, 0.2], [0.5, 1.0], {}, ValueError, r"targets from 0.5 to 1.0"),
        ([0.7, 0.2], [1, 2], {"threshold": 0}, ValueError, "targets from 1 to 2"),
        (
            [3.0, -2.0],
            [1, 0],
            {},
            ValueError,
            "predictions from -2.0 to 3.0, no probabilities.*threshold=0 for logits",
        ),
        ([1.001, 0.2], [1, 0], {}, ValueError, "no probabilities"),
        (SCORES, [0, 1, 2, 3], {}, ValueError, "labels from 0 to 3: wanted 0 to 2"),
        (SCORES, [0, 1, 2, -1], {}, ValueError, "labels from -1 to 2: wanted 0 to 2"),
        (SCORES, [0, 1, 2, 1.5], {}, ValueError, r"labels from 0.0 to 2.0: wanted 0 to 2"),
        (SCORES, [0, 1, 2, 2], {"threshold": 0.5}, ValueError, "threshold=0.5 for 3 classes, where the largest"),
        ([0.7, 0.2], ["a", "b"], {}, TypeError, "values of dtype <U1: it takes numbers"),
        (SCORES, ["a"] * 4, {}, TypeError, "values of dtype <U1"),
        (SCORES, [None] * 4, {}, TypeError, "values of dtype object"),
        (SCORES[:0], [], {}, ValueError, "at least one"),
    ],
)
def test_accuracy_refuses_what_it_cannot_tell(prediction, target, options, error, message):
    with pytest.raises(error, match=message):
        mg.accuracy(np.array(prediction), np.array(target), **options)


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
        callbacks=[mg.EarlyStopping("score", mode="min"), lambda training: seen.append(bits(model))],
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
    before = f", as the loss was for {step} steps: try a smaller learning rate than 0.02, or clip_grad_norm; else"
    message = f"the loss became {value} in {where}; all parameters are finite"
    message += f"{before if step else ':'} look at the data and the loss"
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
    def damage(training: Training) -> None:
        for layer in broken:
            training.model[layer].weight.data[0, 0] = value

    with pytest.raises(
        FloatingPointError, match=rf"epoch 2, step 1; the parameter {named} is not finite: try a smaller"
    ):
        fit(network(), callbacks=[damage])


def test_the_error_finds_the_parameters_of_a_plain_function():
    w = mg.Tensor(np.ones((2, 1), np.float32), True)
    with pytest.raises(FloatingPointError, match=r"step 1; the parameter optimizer.* is not finite"):
        fit(lambda x: x @ w, optim.SGD([w]), callbacks=[lambda training: w.data.fill(math.nan)])


def test_steps_that_diverge_end_in_the_error():
    model = nn.Linear(2, 1, rng=np.random.default_rng(0))
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError, match="the loss became"):
        fit(model, sgd(model, lr=10.0), epochs=500)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_the_last_step_breaks_is_an_error_too(value, compile):
    w, seen = mg.Tensor(np.ones((2, 1), np.float32), True), []
    slope = iter([0.0] * (2 * STEPS - 1) + [value])

    class Breaks(optim.Optimizer):
        def update(self, p: Any, g: Any) -> Any:
            return p + np.float32(next(slope)) * g

    where = "a parameter became nan or inf in epoch 2; the parameter optimizer.* is not finite: try a smaller"
    with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError, match=where):
        fit(lambda x: x @ w, Breaks([w], lr=1.0), callbacks=[lambda training: seen.append(training.epoch)], epochs=2)
    assert seen == [1], "before a callback keeps it"


def test_a_gradient_that_is_nan_while_the_loss_is_not():
    model = network()
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"0.weight is not finite"):
        fit(model, loss=lambda prediction, y: np.mean(np.sqrt(np.abs(prediction * 0))), epochs=1, batch_size=None)


def test_data_that_are_not_finite_are_named():
    x = X.copy()
    x[3, 1] = math.nan
    with pytest.raises(
        FloatingPointError, match=r"the loss became nan .*; the data of this step hold nan or inf: clean them"
    ):
        fit(network()[:1], loss=lambda prediction, y: np.mean(prediction), data=(x, Y))


@pytest.mark.parametrize(
    ("rate", "error"),
    [(-0.1, ValueError), (math.nan, ValueError), (math.inf, ValueError), (None, TypeError), ("0.1", TypeError)],
)
def test_a_schedule_gives_learning_rates(rate, error):
    model, optimizer = network(), None
    optimizer = sgd(model, lr=0.25)
    with pytest.raises(error, match=rf"the schedule gave {rate!r} for step 4: .*lr="):
        fit(model, optimizer, schedule=lambda step: 0.1 if step < 4 else rate)
    assert optimizer.lr == 0.25
    assert optimizer.steps == 4
