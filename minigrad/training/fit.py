"""The training loop, written once: epochs, steps, metrics and validation; and what the trained model predicts."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from minigrad.compiler import compile as compiled
from minigrad.data import batches
from minigrad.engine import Array, Function, Tensor, constant, no_grad, numbers_of
from minigrad.nn.module import in_mode
from minigrad.nn.state import named_parameters
from minigrad.optim import Optimizer, Schedule
from minigrad.training.callbacks import Checkpoint, started
from minigrad.training.checks import Metrics, check_parts, functions_in, named_metrics, samples_in
from minigrad.training.history import History, Training
from minigrad.training.progress import reporter


def fit(
    model: Function,
    loss: Function,
    optimizer: Optimizer,
    data: tuple[Any, Any],
    *,
    epochs: int,
    batch_size: int | None = 32,
    validation: tuple[Any, Any] | None = None,
    metrics: Metrics = (),
    schedule: Schedule | None = None,
    callbacks: Iterable[Callable[[Training], Any]] = (),
    seed: int | None = None,
    progress: bool = True,
    compile: bool | Literal["pure"] = False,
) -> History:
    """Train `model` on `data`, a pair of arrays (x, y), and return the History.

    `loss(prediction, y)` gives a single number. `batch_size=1` is one step per sample, None one step per epoch; samples
    are shuffled in every epoch, by `seed`. `metrics` are functions (prediction, y) -> number, by name or in a list;
    "val_" stands before the names of what is measured on `validation`. `schedule` gives the learning rate before each
    step. `callbacks` are called with the `Training` after each epoch, and their methods `start` and `finish`, if any,
    at both ends; all that have started finish, also after an error. Ctrl-C stops after the step, a second one at once.

    With `compile=True` a whole step runs as one program: the loss, the walk back and the update. With "pure", model and
    loss are not even looked at again, but for a last, smaller batch; see `minigrad.compile` for what that asks.

    The numbers of the training data are averages over the steps of the epoch, in training mode. The same seed, model
    and data give the same weights, bit for bit. Raises FloatingPointError, before the step, at a loss of nan or inf.
    """
    check_parts(model, loss, optimizer, epochs, schedule)
    x, y = samples_in("data", data)
    validation = None if validation is None else samples_in("validation", validation)
    metrics = named_metrics(metrics)
    callbacks = functions_in("callbacks", callbacks, "functions of the Training in a list")
    names = ["loss", *metrics]
    history = History({name: [] for name in names + [f"val_{name}" for name in names if validation is not None]})
    ordered = sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))  # last, to keep what others did
    training = Training(model, optimizer, np.random.default_rng(seed), history, ordered)

    def step(x: Array, y: Array) -> tuple[Any, Any]:  # as one would write it by hand
        optimizer.zero_grad()
        prediction = model(x)
        value = loss(prediction, y)
        if not isinstance(value, Tensor) or value.size != 1:
            raise TypeError(
                f"the loss returned {type(value).__name__} of shape {np.shape(value)}: fit needs one "
                'number, as a Tensor. Reduce it (reduction="mean"), and leave it a Tensor.'
            )
        checked = _finite(value)
        value.backward()
        optimizer.step()
        return numbers_of(prediction), checked

    step = compiled(step, pure=compile == "pure") if compile else step
    with started(training), in_mode(model, training=True), _interruptible() as interrupts:
        report = reporter(progress, training.epoch, epochs, len(x))
        try:
            while training.epoch < epochs and not training.stopped and not interrupts:
                sums = dict.fromkeys(names, 0.0)
                done = 0
                parts = batches(x, y, batch_size=batch_size, rng=training.rng)
                for prediction, y_batch, value in _steps(training, step, parts, schedule):
                    sums["loss"] += value * len(y_batch)
                    for name, metric in metrics.items():
                        sums[name] += float(numbers_of(metric(prediction, y_batch))) * len(y_batch)
                    done += len(y_batch)
                    report.step(len(y_batch), {name: total / done for name, total in sums.items()})
                    if interrupts:
                        break
                if done < len(x):
                    break
                measured = {name: total / done for name, total in sums.items()}
                if validation is not None:
                    held_out = evaluate(model, loss, validation, metrics=metrics)
                    measured |= {f"val_{name}": number for name, number in held_out.items()}
                for name, number in measured.items():
                    training.history[name].append(number)
                training.epoch += 1
                for callback in training.callbacks:
                    callback(training)
                report.epoch(training, last=training.stopped or training.epoch == epochs)
        finally:
            report.close()
    return training.history


@constant  # and so a call of compiled steps, which raise before they have written anything
def _finite(value: Array) -> Array:
    """The same number; raises FloatingPointError for nan and inf."""
    if not np.isfinite(value).all():
        raise FloatingPointError(value.item())
    return value


def _steps(training: Training, step: Function, parts: Iterable[Any], schedule: Schedule | None) -> Iterator[Any]:
    """Do one step for each part of the data, and tell what was predicted, what was right, and the loss."""
    for number, (x, y) in enumerate(parts, 1):
        if schedule is not None:
            training.optimizer.lr = schedule(training.optimizer.steps)
        try:
            prediction, value = step(x, y)
        except FloatingPointError as error:
            if not isinstance(error.args[0], float):  # somebody else's
                raise
            raise _not_finite(error.args[0], training, number) from None
        yield prediction, y, float(value)


def _not_finite(value: float, training: Training, step: int) -> FloatingPointError:
    bad = next((name for name, p in named_parameters(training.trained()) if not np.isfinite(p.data).all()), None)
    reason = f"the parameter {bad} is not finite: try a smaller learning rate, or clip_grad_norm"
    if bad is None:
        reason = "all parameters are finite: look at the data and the loss"
    return FloatingPointError(f"the loss became {value} in epoch {training.epoch + 1}, step {step}; {reason}.")


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Collect Ctrl-C in a list while the block runs, so that it can end in its own time; a second one raises."""
    interrupts: list[int] = []

    def note(number: int, frame: Any) -> None:
        if interrupts:
            raise KeyboardInterrupt
        interrupts.append(number)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts  # only the main thread gets signals, and a handler of the user's stays in place
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def predict(model: Function, x: Any, batch_size: int | None = 256) -> Array:
    """The predictions of `model` for all samples `x` as one array, in evaluation mode and without recording."""
    with in_mode(model, training=False), no_grad():
        parts = [numbers_of(model(part)) for (part,) in batches(x, batch_size=batch_size)]
        return np.concatenate(parts) if parts else numbers_of(model(np.asarray(x)))


def evaluate(
    model: Function, loss: Function, data: tuple[Any, Any], *, metrics: Metrics = (), batch_size: int | None = 256
) -> dict[str, float]:
    """The loss and the metrics of `model` on `data`, a pair of arrays (x, y), by name."""
    x, y = samples_in("data", data)
    prediction = predict(model, x, batch_size)
    functions: dict[str, Function] = {"loss": loss, **named_metrics(metrics)}
    return {name: float(numbers_of(function(prediction, y))) for name, function in functions.items()}


def accuracy(prediction: Array, target: Array) -> float:
    """The share of right answers: the class of the largest number, or the side of 0.5 that a single number is on.

    `prediction` has shape (n, classes) and `target` either (n,), with integer labels, or the same shape, one-hot; or
    both have shape (n,) or (n, 1) and the target is 0 or 1.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    wide = prediction.ndim == 2 and prediction.shape[1] > 1
    chosen = prediction.argmax(axis=1) if wide else prediction > 0.5
    right = target.argmax(axis=1) if wide and target.shape == prediction.shape else target
    if chosen.shape != right.shape:
        forms = f"{chosen.shape} (labels) or {prediction.shape} (one-hot)" if wide else f"{chosen.shape}"
        raise ValueError(
            f"accuracy cannot compare predictions of shape {prediction.shape} with a target of shape {target.shape}: "
            f"it wants a target of shape {forms}. Reshape one of them."
        )
    return float(np.mean(chosen == right))
