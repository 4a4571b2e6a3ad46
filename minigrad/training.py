"""The training loop, written once: epochs, metrics, validation, progress, early stopping, checkpoints.

Nothing here is magic. One step of `fit` is what one would write by hand:

    optimizer.zero_grad()
    value = loss(model(x), y)
    value.backward()
    optimizer.step()
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from minigrad.compiler import compile as compiled
from minigrad.data import batches
from minigrad.files import load_arrays, save_arrays
from minigrad.nn.module import in_mode
from minigrad.nn.state import load_state_dict, named_parameters, parameters, state_dict
from minigrad.optim import Optimizer, Schedule, at_least_one
from minigrad.tensor import Array, Tensor, no_grad, numbers_of
from minigrad.trees import named

Metric: TypeAlias = Callable[[Array, Array], Any]
Metrics: TypeAlias = Mapping[str, Metric] | Iterable[Metric]


class History(dict[str, list[float]]):
    """What training measured: a list by name, with one number for each finished epoch."""

    def plot(self, path: str | Path) -> None:
        """Draw the curves into a picture, the losses on the left and everything else on the right."""
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("History.plot draws with matplotlib: pip install matplotlib") from error
        panels = [[name for name in self if "loss" in name], [name for name in self if "loss" not in name]]
        panels = [names for names in panels if names]
        figure = Figure(figsize=(5 * max(len(panels), 1), 3.6), layout="constrained")
        for i, names in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), i + 1, xlabel="epoch")
            for name in names:
                axes.plot(range(1, len(self[name]) + 1), self[name], label=name)
            axes.grid(alpha=0.3)
            axes.legend()
        figure.savefig(path, dpi=120)


@dataclass
class Run:
    """A training in progress, as callbacks see it: `epoch` counts finished epochs; set `stopped` to end it now."""

    model: Any
    optimizer: Optimizer
    rng: np.random.Generator
    history: History = field(default_factory=History)
    callbacks: list[Callable[[Run], Any]] = field(default_factory=list)
    epoch: int = 0
    stopped: bool = False


def fit(
    model: Callable[..., Any],
    loss: Callable[..., Any],
    optimizer: Optimizer,
    data: tuple[Any, Any],
    *,
    epochs: int,
    batch_size: int | None = 32,
    validation: tuple[Any, Any] | None = None,
    metrics: Metrics = (),
    schedule: Schedule | None = None,
    callbacks: Iterable[Callable[[Run], Any]] = (),
    seed: int | None = None,
    progress: bool = True,
    compile: bool = False,
) -> History:
    """Train `model` on `data`, a pair of arrays (x, y), and return the History.

    `loss(prediction, y)` gives a single number. `batch_size=1` is one step per sample, None one step per epoch; samples
    are shuffled in every epoch, by `seed`. `metrics` are functions (prediction, y) -> number, by name or in a list;
    "val_" stands before the names of what is measured on `validation`. `schedule` gives the learning rate before each
    step. `callbacks` are called with the `Run` after each epoch; where they have methods `start(run)` and
    `finish(run)`, these are called too, and all that have started finish, also after an error. Ctrl-C stops after the
    current step, and a second one at once.

    With `compile=True` the model and the loss of a step run as one program, which is made anew for a last, smaller
    batch; see `minigrad.compiler.compile` for what they may not do then.

    The numbers of the training data are averages over the steps of the epoch, in training mode. The same seed, model
    and data give the same weights, bit for bit. Raises FloatingPointError, before the step, at a loss that is nan or
    infinite.
    """
    _check_parts(model, loss, optimizer, epochs, schedule)
    x, y = _samples("data", data)
    validation = None if validation is None else _samples("validation", validation)
    metrics = _named(metrics)
    callbacks = _functions("callbacks", callbacks, "functions of the Run in a list")
    names = ["loss", *metrics]
    history = History({name: [] for name in names + [f"val_{name}" for name in names if validation is not None]})
    ordered = sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))  # it keeps the others' state
    run = Run(model, optimizer, np.random.default_rng(seed), history, ordered)

    def forward(x: Array, y: Array) -> tuple[Any, Any]:
        prediction = model(x)
        return numbers_of(prediction), loss(prediction, y)

    forward = compiled(forward) if compile else forward
    with _started(run), in_mode(model, training=True), _interruptible() as interrupts:
        report = _reporter(progress, run.epoch, epochs, len(x))
        try:
            while run.epoch < epochs and not run.stopped and not interrupts:
                sums = dict.fromkeys(names, 0.0)
                done = 0
                parts = batches(x, y, batch_size=batch_size, rng=run.rng)
                for prediction, y_batch, value in _steps(run, forward, parts, schedule):
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
                    run.history[name].append(number)
                run.epoch += 1
                for callback in run.callbacks:
                    callback(run)
                report.epoch(run, last=run.stopped or run.epoch == epochs)
        finally:
            report.close()
    return run.history


def _steps(
    run: Run, forward: Callable[..., Any], parts: Iterable[tuple[Array, ...]], schedule: Schedule | None
) -> Iterator[tuple[Array, Array, float]]:
    """Do one step for each part of the data, and tell what was predicted, what was right, and the loss."""
    for step, (x, y) in enumerate(parts, 1):
        run.optimizer.zero_grad()
        prediction, value = forward(x, y)
        if not isinstance(value, Tensor) or value.size != 1:
            raise TypeError(
                f"the loss returned {type(value).__name__} of shape {np.shape(value)}: fit needs one "
                'number, as a Tensor. Reduce it (reduction="mean"), and leave it a Tensor.'
            )
        if not math.isfinite(value.item()):
            raise _not_finite(value.item(), run, step)
        value.backward()
        if schedule is not None:
            run.optimizer.lr = schedule(run.optimizer.steps)
        run.optimizer.step()
        yield numbers_of(prediction), y, value.item()


def predict(model: Callable[..., Any], x: Any, batch_size: int | None = 256) -> Array:
    """The predictions of `model` for all samples `x` as one array, in evaluation mode and without recording."""
    with in_mode(model, training=False), no_grad():
        parts = [numbers_of(model(part)) for (part,) in batches(x, batch_size=batch_size)]
        return np.concatenate(parts) if parts else numbers_of(model(np.asarray(x)))


def evaluate(
    model: Callable[..., Any],
    loss: Callable[..., Any],
    data: tuple[Any, Any],
    *,
    metrics: Metrics = (),
    batch_size: int | None = 256,
) -> dict[str, float]:
    """The loss and the metrics of `model` on `data`, a pair of arrays (x, y), by name."""
    x, y = _samples("data", data)
    prediction = predict(model, x, batch_size)
    functions: dict[str, Callable[..., Any]] = {"loss": loss, **_named(metrics)}
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


# --------------------------------------------------------------------------------------------------- callbacks


class EarlyStopping:
    """Stop when a number of the history has not become smaller for `patience` epochs, and restore the best weights.

    With `mode="max"` larger is better. The best weights are restored too where the epochs run out or Ctrl-C ends them.
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 5, mode: str = "min") -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'mode is "min" or "max", not {mode!r}')
        at_least_one(patience=patience)
        self.monitor, self.patience, self.mode = monitor, patience, mode

    def start(self, run: Run) -> None:
        if self.monitor not in run.history:
            raise ValueError(f"EarlyStopping watches {self.monitor!r}, and fit measures {', '.join(run.history)}")
        self.best, self.waited = math.inf, 0
        self.weights: dict[str, Array] = {}

    def __call__(self, run: Run) -> None:
        number = run.history[self.monitor][-1] * (1 if self.mode == "min" else -1)
        if number < self.best:
            self.best, self.waited = number, 0
            self.weights = state_dict(_trained(run))
        else:
            self.waited += 1
            run.stopped = run.stopped or self.waited >= self.patience

    def finish(self, run: Run) -> None:
        if self.weights:
            load_state_dict(_trained(run), self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, **{f"weights/{k}": v for k, v in self.weights.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited = float(state["best"]), int(state["waited"])
        self.weights = _below("weights/", state)


class Checkpoint:
    """Keep the whole training in a `.npz` file after each `every` epochs, and go on from it where the file exists.

    The file holds the weights, the optimizer, the generators (of the shuffling and of layers such as Dropout), the
    history and the other callbacks: the training ends with the very weights that it would have had without the break.
    It is replaced at once and whole. Plain arrays only; nothing in it is unpickled. Wherever it stands in the list, it
    comes after the other callbacks: they start as if anew, and are then given the state that they had.
    """

    def __init__(self, path: str | Path, every: int = 1) -> None:
        at_least_one(every=every)
        self.path, self.every = Path(path), every

    def __call__(self, run: Run) -> None:
        if run.epoch % self.every == 0 or run.stopped:
            save_arrays(self.path, _snapshot(run))

    def start(self, run: Run) -> None:
        if self.path.exists():
            before = _snapshot(run)
            try:
                _restore(run, load_arrays(self.path))
            except Exception as error:  # whatever the file may hold
                _restore(run, before)
                raise ValueError(
                    f"{self.path} is not a checkpoint of this training (remove it, or name another file): {error}"
                ) from error


def _snapshot(run: Run) -> dict[str, Any]:
    """All that the rest of a training depends on, as arrays by name."""
    arrays: dict[str, Any] = {"epoch": run.epoch, "stopped": run.stopped}
    arrays |= {f"tensors/{name}": array for name, array in state_dict(_trained(run)).items()}
    arrays |= {f"history/{name}": numbers for name, numbers in run.history.items()}
    for prefix, part in _stateful(run).items():
        arrays |= {prefix + name: value for name, value in part.state_dict().items()}
    for name, generator in _generators(run).items():
        arrays[name] = json.dumps(generator.bit_generator.state, default=lambda array: array.tolist())
    return {name: np.asarray(value) for name, value in arrays.items()}


def _restore(run: Run, arrays: Mapping[str, Array]) -> None:
    load_state_dict(_trained(run), _below("tensors/", arrays))
    for prefix, part in _stateful(run).items():
        part.load_state_dict(_below(prefix, arrays))
    for name, generator in _generators(run).items():
        generator.bit_generator.state = json.loads(str(arrays[name]))
    run.epoch, run.stopped = int(arrays["epoch"]), bool(arrays["stopped"])
    history = {name: [float(number) for number in numbers] for name, numbers in _below("history/", arrays).items()}
    for name in run.history:
        if len(history.get(name, ())) != run.epoch:
            raise ValueError(f"its history has not one {name} for each of {run.epoch} epochs")
    run.history.update(history)


def _trained(run: Run) -> dict[str, Any]:
    """What training changes: the model, and what else the optimizer moves (the parameters of a plain function)."""
    return {"": run.model, "optimizer": run.optimizer}  # "" so that the names are those of the model


def _stateful(run: Run) -> dict[str, Any]:
    parts = {f"callbacks/{i}/": part for i, part in enumerate(run.callbacks) if hasattr(part, "state_dict")}
    return {"optimizer/": run.optimizer, **parts}


def _generators(run: Run) -> dict[str, np.random.Generator]:
    """The generator of the shuffling, and those that the model owns."""
    owned = {f"rng/{name}": item for name, item in named(_trained(run)) if isinstance(item, np.random.Generator)}
    return {"rng": run.rng, **owned}


def _below(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


# ---------------------------------------------------------------------------------------------------- progress


class Silent:
    """Reports nothing; also the base of those who do."""

    def step(self, samples: int, averages: Mapping[str, float]) -> None:
        """A step is done; `averages` are those of the epoch so far."""

    def epoch(self, run: Run, last: bool) -> None:
        """An epoch is done."""

    def close(self) -> None:
        """The training has ended, in whatever way."""


class Lines(Silent):
    """Some fifty plain lines, for files and pipes."""

    def __init__(self, epochs: int, samples: int) -> None:
        self.epochs, self.samples = epochs, samples
        self.every = math.ceil(epochs / 50)
        self.since, self.start = 0, time.perf_counter()

    def epoch(self, run: Run, last: bool) -> None:
        self.since += 1
        if run.epoch % self.every == 0 or last:
            seconds = max(time.perf_counter() - self.start, 1e-9)
            rate = self.since * self.samples / seconds
            numbers = "  ".join(f"{name} {values[-1]:.4f}" for name, values in run.history.items())
            epoch = f"{run.epoch:>{len(str(self.epochs))}}/{self.epochs}"
            print(f"epoch {epoch}  {numbers}  {rate:,.0f} samples/s", flush=True)
            self.since, self.start = 0, time.perf_counter()


class Bar(Silent):
    """A tqdm bar over all samples of all epochs."""

    def __init__(self, tqdm: Any, done: int, epochs: int, samples: int) -> None:
        counts = {"total": epochs * samples, "initial": done * samples, "unit": " samples", "unit_scale": True}
        self.bar = tqdm(desc=f"epoch {min(done + 1, epochs)}/{epochs}", file=sys.stdout, **counts)
        self.epochs = epochs
        self.shown = 0.0
        self.measured: dict[str, float] = {}

    def step(self, samples: int, averages: Mapping[str, float]) -> None:
        self.bar.update(samples)
        if time.perf_counter() - self.shown > 0.1:
            self.shown = time.perf_counter()
            self.show({**self.measured, **averages})

    def epoch(self, run: Run, last: bool) -> None:
        self.measured = {name: values[-1] for name, values in run.history.items()}
        self.bar.set_description_str(f"epoch {run.epoch + (not last)}/{self.epochs}", refresh=False)
        self.show(self.measured)

    def show(self, numbers: Mapping[str, float]) -> None:
        self.bar.set_postfix_str(", ".join(f"{name} {number:.4f}" for name, number in numbers.items()))

    def close(self) -> None:
        self.bar.close()


def _reporter(progress: bool, done: int, epochs: int, samples: int) -> Silent:
    """A bar where one can be shown, else lines."""
    if not progress:
        return Silent()
    bar = bar_class()
    return Bar(bar, done, epochs, samples) if bar else Lines(epochs, samples)


def bar_class() -> Any:
    """tqdm's class of bars, where it is installed and the output is a terminal that has a width; else None."""
    if not sys.stdout.isatty() or _columns() == 0:
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm


def _columns() -> int | None:
    """How wide the terminal is: 0 where it does not say, and tqdm would show nothing; None where nobody can tell."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except OSError:
        return None


# ----------------------------------------------------------------------------------------------------- helpers


@contextmanager
def _started(run: Run) -> Iterator[None]:
    """Start the callbacks, and finish those that have started, however the block ends."""
    started = []
    try:
        for callback in run.callbacks:
            getattr(callback, "start", _nothing)(run)
            started.append(callback)
        yield
    finally:
        for callback in started:
            getattr(callback, "finish", _nothing)(run)


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
        yield interrupts  # signals reach the main thread alone, and somebody else's handler is left in place
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _not_finite(value: float, run: Run, step: int) -> FloatingPointError:
    bad = next((name for name, p in named_parameters(_trained(run)) if not np.isfinite(p.data).all()), None)
    reason = (
        f"the parameter {bad} is not finite: try a smaller learning rate, or clip_grad_norm"
        if bad
        else "all parameters are finite: look at the data and the loss"
    )
    return FloatingPointError(f"the loss became {value} in epoch {run.epoch + 1}, step {step}; {reason}.")


def _check_parts(model: Any, loss: Any, optimizer: Any, epochs: Any, schedule: Any) -> None:
    """Raise for what would fail later, or train nothing."""
    if not isinstance(epochs, (int, np.integer)) or epochs < 0:
        raise ValueError(f"got epochs={epochs!r}; wanted an integer of at least 0.")
    _check(
        model=(model, callable(model), "a module, or any function of x"),
        loss=(loss, callable(loss), "a function (prediction, y) that gives one number, such as nn.mse_loss"),
        optimizer=(optimizer, isinstance(optimizer, Optimizer), "an optimizer, such as optim.Adam(model.parameters())"),
        schedule=(
            schedule,
            schedule is None or callable(schedule),
            "a function from the number of steps done to the learning rate; one that is constant goes to the optimizer",
        ),
    )
    ours = parameters(model)  # none in a plain function, which keeps them where nobody sees them
    if ours and set(ours).isdisjoint(parameters(optimizer)):
        raise ValueError(
            "the optimizer moves no parameter of the model, so the model would learn nothing: make the optimizer of "
            "model.parameters(). If it is to move others, give the model as a function, lambda x: model(x)."
        )


def _check(**arguments: tuple[Any, bool, str]) -> None:
    """Raise TypeError for the first argument that is not right: of each, what came, whether it is, what was wanted."""
    for name, (value, right, wanted) in arguments.items():
        if not right:
            raise TypeError(f"got {name}={textwrap.shorten(repr(value), 80, placeholder='...')}; wanted {wanted}.")


def _functions(name: str, values: Any, wanted: str) -> list[Any]:
    """The functions of a list, or of anything else that can be gone through, as a list."""
    listed = isinstance(values, Iterable) and not callable(values)
    functions = list(values) if listed else []
    _check(**{name: (values, listed and all(map(callable, functions)), wanted)})
    return functions


def _named(metrics: Metrics) -> dict[str, Metric]:
    values = metrics.values() if isinstance(metrics, Mapping) else metrics
    functions = _functions("metrics", values, "functions (prediction, y) in a list, or by name in a dict")
    names = metrics if isinstance(metrics, Mapping) else [getattr(f, "__name__", type(f).__name__) for f in functions]
    named = dict(zip(names, functions, strict=True))
    if len({"loss", *named}) <= len(functions):
        raise ValueError(
            f'metrics need names of their own, other than "loss", and got {", ".join(names)}: give them in a dict'
        )
    return named


def _samples(name: str, data: tuple[Any, Any]) -> tuple[Array, Array]:
    is_pair = isinstance(data, (tuple, list)) and len(data) == 2
    _check(**{name: (data, is_pair, "a pair of arrays (x, y)")})
    x, y = map(np.asarray, data)
    samples, targets = (len(array) if array.ndim else 0 for array in (x, y))
    if samples != targets or not samples:
        raise ValueError(
            f"{name}: got {samples} samples and {targets} targets; there must be as many, and at least one"
        )
    return x, y


def _nothing(run: Run) -> None:
    pass
