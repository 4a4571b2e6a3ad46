"""The training loop, written once: epochs, steps, metrics and validation; and what the trained model predicts."""

import operator
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Literal

import numpy as np

from minigrad import optim
from minigrad.compiler import compile as compiled
from minigrad.data.batches import joined
from minigrad.distributed import Ranks
from minigrad.distributed import ranks as ranks_of
from minigrad.engine import Array, Function, Tensor, constant, no_grad, numbers_of
from minigrad.names import keywords_here
from minigrad.nn.losses import check_numbers
from minigrad.nn.module import in_mode
from minigrad.optim import Optimizer, Schedule
from minigrad.sample import Rng, generator
from minigrad.state import named_generators, named_parameters
from minigrad.training.callbacks import Checkpoint, started
from minigrad.training.history import History, Training
from minigrad.training.progress import Silent, reporter
from minigrad.training.source import Source, Stream, ahead, shapes_of, source
from minigrad.training.together import begin, compare, take_over, together
from minigrad.trees import flatten

from minigrad.training.checks import (  # isort: skip
    Metric, Metrics, check_generators, check_options, check_parts, functions_in, named_metrics, one_number,
)  # fmt: skip


@keywords_here
def fit(
    model: Function,
    loss: Function,
    optimizer: Optimizer,
    data: tuple[Any, Any] | Stream,
    *,
    epochs: int,
    batch_size: int | None = 32,
    validation: tuple[Any, Any] | Stream | None = None,
    metrics: Metrics = (),
    schedule: Schedule | None = None,
    callbacks: Iterable[Callable[[Training], Any]] = (),
    clip_grad_norm: float | None = None,
    seed: Rng = None,
    progress: bool = True,
    compile: bool | Literal["pure"] = False,
    prefetch: bool = False,
    distributed: Any = False,
) -> History:
    """Train `model` on `data`, a pair of arrays (x, y) or a stream of such pairs, and return the History.

    `loss(prediction, y)` gives a single number. x and y are arrays with a row for each sample, or tuples or dicts of
    such arrays, which model and loss get as they are. `batch_size=1` is one step per sample, None one step per epoch.
    `metrics` are functions (prediction, y) -> number, by name or in a list; "val_" stands before the names of what is
    measured on `validation`. `schedule` gives the learning rate before each step, from the number of steps of this
    training; afterwards the optimizer has that which it had. `callbacks` are called with the `Training` after each
    epoch, and their methods `start` and `finish`, if any, at both ends; all that have started finish, also after an
    error. Ctrl-C stops after the step, a second one at once. `clip_grad_norm` is the largest norm that the gradients
    may have together, see `minigrad.optim.clip_grad_norm`.

    Data may be larger than memory: as `np.memmap` arrays, which are read and shuffled in blocks (see
    `minigrad.data.batches`); as a list of `.npz` files with arrays x and y, which are the blocks then; and as a stream,
    which gives batches (x, y) anew each time that it is iterated or called, such as a function that returns an
    iterator. Its batches are taken as they come, of whatever sizes, and an epoch is all that it gives. With `prefetch`,
    a thread makes the next two batches while a step runs. That pays for batches that take long to make, where a core is
    free; each is to be an array of its own then, and drawn from no generator that the model draws from, too.

    With `compile=True` a whole step runs as one program: the loss, the walk back and the update. With "pure", model and
    loss are not even looked at again, but for batches of other sizes; see `minigrad.compile` for what that asks.

    With `distributed=True`, or a communicator of mpi4py's, all ranks that mpirun has started train together, each on a
    share of each batch. Rank 0 alone calls metrics and callbacks; all return its History. See `minigrad.distributed`.

    The numbers of the training data are averages over the steps of the epoch, in training mode. Raises
    FloatingPointError at a loss of nan or inf, before the step, and at such a parameter, at the end of the epoch.

    Samples are shuffled in every epoch, by `seed`, which may be a generator. The same model and data then give the same
    weights, bit for bit. So that all of a training follows from one number, the first weights too, let one generator
    draw everything:

    >>> from minigrad import nn
    >>> def trained(number):
    ...     rng = np.random.default_rng(number)
    ...     layers = nn.Linear(2, 3, rng=rng), np.tanh, nn.Dropout(0.1, rng=rng), nn.Linear(3, 1, rng=rng)
    ...     model, (x, y) = nn.Sequential(*layers), rng.normal(size=(2, 8, 1))
    ...     optimizer = optim.Adam(model)
    ...     fit(model, nn.mse_loss, optimizer, (x @ [[1, 2]], y), epochs=3, seed=rng, progress=False)
    ...     return model(np.ones((1, 2))).item()
    >>> trained(1) == trained(1) != trained(2)
    True
    """
    ranks = ranks_of(distributed)
    check_parts(model, loss, optimizer, epochs, schedule)
    check_options(progress, compile, prefetch, clip_grad_norm)
    given = source("data", data, batch_size)
    held_out = None if validation is None else source("validation", validation, 256)
    metrics = named_metrics(metrics)
    callbacks = functions_in("callbacks", callbacks, "functions of the Training in a list")
    names = ["loss", *metrics]
    history = History({name: [] for name in names + [f"val_{name}" for name in names if validation is not None]})
    ordered = sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))  # last, to keep what others did
    ordered, metrics = (ordered, metrics) if ranks.rank == 0 else ([], {})
    training = Training(model, optimizer, generator(seed, "seed"), history, ordered, epochs, optimizer.lr, schedule)
    streams = {"data": given.stream, "validation": None if held_out is None else held_out.stream}
    training.streams = {name: stream for name, stream in streams.items() if stream is not None}
    is_drawn_ahead = prefetch and given.stream is not None
    check_generators(model, {"seed": training.rng, "data": given.stream} if is_drawn_ahead else {})

    step = _step(model, loss, optimizer, clip_grad_norm, compile, ranks)
    with (
        together(training, ranks), started(training), in_mode(model, training=True), _interruptible() as interrupts,
        ExitStack() as stack,
    ):  # fmt: skip
        arrays = flatten(given.whole)[0]
        held = ([], None) if held_out is None else (flatten(held_out.whole)[0], held_out.samples)
        begin(
            training, ranks, {"data": arrays, "validation data": held[0]}, samples=given.samples,
            samples_of_validation=held[1], epochs=epochs, batch_size=batch_size, measured=[*history],
        )  # fmt: skip
        stops, checked = interrupts if ranks.size == 1 else [], ranks.size == 1
        report = reporter(progress and ranks.rank == 0, training.epoch, epochs, given.samples)
        try:
            for note in training.notes:
                report.note(note)
            while training.epoch < epochs and not training.stopped and not stops:
                parts = given.batches(training.rng, ranks.shard if arrays else None)
                parts = stack.enter_context(closing(ahead(parts) if prefetch else parts))
                ranks.set_apart(named_generators(training.trained()).values())
                shares = parts if arrays else ranks.shares(parts)
                shares = shares if checked else _with_mean_checked(model, loss, shares, ranks)
                checked = True
                steps = ranks.whole(_steps(training, step, shares), len(names) > 1, interrupts, stops)
                measured = _epoch(steps, metrics, report, stops)
                if not optimizer.is_finite():
                    raise _not_finite(training, f"a parameter became nan or inf in epoch {training.epoch + 1}", ())
                if stops and next(shares, None) is not None:
                    break
                compare(training, ranks)
                if held_out is not None:
                    numbers = _evaluated(ranks.predictor(model), loss, held_out, metrics, 256 * ranks.size, ranks)
                    measured |= {f"val_{name}": number for name, number in numbers.items()}
                for name, number in measured.items():
                    training.history[name].append(number)
                training.epoch += 1
                for callback in training.callbacks:
                    callback(training)
                take_over(training, ranks)
                report.epoch(training, last=training.stopped or training.epoch == epochs)
        finally:
            report.close()
            if schedule is not None:
                optimizer.lr = training.lr
    return training.history


def _step(model: Function, loss: Function, optimizer: Optimizer, clip: Any, compile: Any, ranks: Ranks) -> Function:
    """The step on a batch, or on a share of it, as one would write it by hand; or as a program."""

    def walk(x: Any, y: Any) -> tuple[Any, Any]:
        optimizer.zero_grad()
        prediction = model(x)
        value = loss(prediction, y)
        if not isinstance(value, Tensor) or value.size != 1:
            what = f"{type(value).__name__} of shape {np.shape(value)}"
            raise TypeError(f'the loss returned {what}; wanted a Tensor of one number: reduce it (reduction="mean").')
        checked = _finite(value)
        value.backward()
        found, rebuild = flatten(prediction)
        return rebuild([numbers_of(leaf) for leaf in found]), checked

    def move() -> None:
        if clip is not None:
            optim.clip_grad_norm(optimizer.parameters, clip)
        optimizer.step()

    def step(x: Any, y: Any) -> tuple[Any, Any]:
        told = walk(x, y)
        move()
        return told

    pure = compile == "pure"
    if ranks.size == 1:
        return compiled(step, pure=pure) if compile else step
    if compile:  # the move is never pure: it is to find what was assigned to parameters, which it does not read
        return ranks.step(compiled(walk, pure=pure), compiled(move), optimizer)
    return ranks.step(walk, move, optimizer)


def _with_mean_checked(model: Function, loss: Function, shares: Iterator[Any], ranks: Ranks) -> Iterator[Any]:
    """The same shares; raises for a loss that is a sum over the samples, of which ranks would take the mean."""
    for number, (tree, columns) in enumerate(shares):
        if not number and not ranks.rank:  # which has a sample of each batch
            build = flatten(tree)[1]
            once, twice = (build([np.concatenate([column[:2]] * n) for column in columns]) for n in (1, 2))
            value, other = (evaluate(model, loss, data)["loss"] for data in (once, twice))
            if value and np.isclose(other, 2 * value, rtol=1e-3, atol=0):
                raise ValueError(
                    f"the loss is {value:g} for some samples and {other:g} where each is there twice, so it is a sum, "
                    'and ranks take means over the shares of a batch: divide by the samples (reduction="mean").'
                )
        yield tree, columns


@constant  # and so a call of compiled steps, which raise before they have written anything
def _finite(value: Array) -> Array:
    """The same number; raises FloatingPointError for nan and inf."""
    if not np.isfinite(value).all():
        raise FloatingPointError(value.item())
    return value


def _steps(training: Training, step: Function, parts: Iterable[Any]) -> Iterator[Any]:
    """Do one step for each part of the data, and tell what was predicted, what was right, the loss, and of how many."""
    for number, ((x, y), arrays) in enumerate(parts, 1):
        if training.schedule is not None:
            rate = training.schedule(training.steps)
            try:
                training.optimizer.lr = rate
            except (TypeError, ValueError) as error:
                raise type(error)(f"the schedule gave {rate!r} for step {training.steps}: {error}") from None
        try:
            prediction, value = step(x, y)
        except FloatingPointError as error:
            if not isinstance(error.args[0], float):  # somebody else's
                raise
            what = f"the loss became {error.args[0]} in epoch {training.epoch + 1}, step {number}"
            raise _not_finite(training, what, arrays) from None
        except Exception as error:
            _note(error, f"in epoch {training.epoch + 1}, step {number}, for arrays of {shapes_of(arrays)}")
            raise
        training.steps += 1
        yield prediction, y, float(value), len(arrays[0])


def _note(error: Exception, note: str) -> None:
    getattr(error, "add_note", lambda note: None)(note)  # Python 3.10 has none


def _epoch(steps: Iterator[Any], metrics: Mapping[str, Metric], report: Silent, stops: list[int]) -> dict[str, float]:
    """Do the steps, and tell the means over their samples of what was measured."""
    sums, done = dict.fromkeys(["loss", *metrics], 0.0), 0
    for prediction, y, value, samples in steps:
        sums["loss"] += value * samples
        for name, metric in metrics.items():
            sums[name] += one_number(f"the metric {name!r}", metric(prediction, y)) * samples
        done += samples
        means = {name: total / done for name, total in sums.items()}
        report.step(samples, means)
        if stops:
            break
    return means


def _not_finite(training: Training, what: str, data: Iterable[Array]) -> FloatingPointError:
    """What to say of a loss or a parameter that is not finite, and of where it comes from."""
    remedy = f"try a smaller learning rate than {training.optimizer.lr:g}, or clip_grad_norm"
    look = "look at the data and the loss"
    bad = next((name for name, p in named_parameters(training.trained()) if not np.isfinite(p.data).all()), None)
    if bad is not None:
        reason = f"the parameter {bad} is not finite: {remedy}"
    elif not all(np.isfinite(array).all() for array in data if array.dtype.kind in "fc"):
        reason = "the data of this step hold nan or inf: clean them"
    elif training.steps:
        reason = f"all parameters are finite, as the loss was for {training.steps} steps: {remedy}; else {look}"
    else:
        reason = f"all parameters are finite: {look}"
    return FloatingPointError(f"{what}; {reason}.")


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


@keywords_here
def predict(model: Function, x: Any, batch_size: int | None = 256) -> Any:
    """The predictions of `model` for all samples `x` as one array, in evaluation mode and without recording.

    x may be a tuple or dict of arrays, a memmap, or a stream as in `fit`, of which each batch is x alone. Where the
    model returns a tuple or dict, so do the predictions. Each of their arrays has a row for each sample, also where the
    model has squeezed the only row of a batch away. The model is called with `batch_size` samples at a time.

    >>> predict(lambda x: x * 2, np.array([[1.0], [2.0]])).tolist()
    [[2.0], [4.0]]
    """
    given = source("x", x, batch_size, pairs=False)
    whole = flatten(given.whole)[0]
    no_rows = given.whole is not None and all(column.shape[:1] == (0,) for column in whole)
    with in_mode(model, training=False), no_grad():
        return joined(_answers(model, [(given.whole, whole)] if no_rows else given.batches(None)))


def _answers(model: Function, parts: Iterable[Any]) -> Iterator[tuple[Any, int]]:
    for part, arrays in parts:
        try:
            answer = model(part)
        except Exception as error:
            _note(error, f"in evaluation mode, for arrays of {shapes_of(arrays)}")
            raise
        yield answer, len(arrays[0])


@keywords_here
def evaluate(
    model: Function, loss: Function, data: tuple[Any, Any] | Stream, *, metrics: Metrics = (),
    batch_size: int | None = 256,
) -> dict[str, float]:  # fmt: skip
    """The loss and the metrics of `model` on `data`, a pair of arrays (x, y), by name; see `fit` and `predict`.

    As in training, the loss is given Tensors for predictions, and the metrics are given arrays; `batch_size` is as in
    `predict`. Of memmaps and streams (see `fit`) the numbers are means of those of the batches, each weighted by its
    samples: that is the same for means over samples, as an accuracy is, and not for others, such as a largest error.

    >>> evaluate(lambda x: x, lambda prediction, y: np.mean((prediction - y) ** 2), (np.ones((4, 1)), np.zeros((4, 1))))
    {'loss': 1.0}
    """
    return _evaluated(model, loss, source("data", data, batch_size), named_metrics(metrics), batch_size, Ranks())


def _evaluated(
    model: Function, loss: Function, given: Source, metrics: Mapping[str, Metric], batch_size: int | None, ranks: Ranks
) -> dict[str, float]:
    """What `evaluate` returns: the numbers of data that are in memory, or the means of those of batches."""
    is_whole = given.whole is not None
    counts, numbers = [], {name: list[float]() for name in ["loss", *metrics]}
    with in_mode(model, training=False), no_grad():
        whole = [(given.whole, flatten(given.whole)[0])]
        for (x, y), arrays in whole if is_whole else ranks.same(given.batches(None)):
            counts.append(len(arrays[0]))
            prediction = predict(model, x, batch_size if is_whole else None)
            found, rebuild = flatten(prediction)
            value = loss(rebuild([Tensor(array) for array in found]), y)
            numbers["loss"].append(one_number("the loss", value))
            for name, metric in metrics.items():
                numbers[name].append(one_number(f"the metric {name!r}", metric(prediction, y)))
    shares = [count / sum(counts) for count in counts]
    return {name: sum(map(operator.mul, shares, values)) for name, values in numbers.items()}


def accuracy(prediction: Any, target: Any, threshold: float | None = None) -> float:
    """The share of right answers: the class of the largest number, or the side of `threshold` a single number is on.

    `prediction` has shape (..., classes) and `target` either (...), with integer labels, or for (n, classes) the same
    shape, one-hot; or both have one shape, such as (n,) or (n, 1), and the target is 0 or 1. The predictions are
    probabilities then, and the threshold is 0.5, unless one is given: for logits, that is 0. Where anything is nan, so
    is the accuracy.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    prediction, target = numbers_of(prediction), numbers_of(target)
    check_numbers("accuracy", (prediction, target), "biuf")
    wide = prediction.ndim > 1 and prediction.shape[-1] > 1 and target.ndim < prediction.ndim
    wide = wide or (prediction.ndim == 2 and prediction.shape[1] > 1)
    shapes = [prediction.shape[:-1] if wide else prediction.shape, *([prediction.shape] if wide else [])]
    if target.shape not in shapes or not target.size:
        forms = f"{shapes[0]} (labels) or {prediction.shape} (one-hot)" if wide else f"{shapes[0]}"
        raise ValueError(
            f"accuracy cannot compare predictions of shape {prediction.shape} with a target of shape {target.shape}: "
            f"it wants a target of shape {forms}, and at least one. Reshape one of them."
        )
    if np.isnan(prediction).any() or np.isnan(target).any():
        return float("nan")
    if wide:
        right = target.argmax(axis=-1) if target.shape == prediction.shape else target
        return float(np.mean(prediction.argmax(axis=-1) == _labels(right, prediction.shape[-1], threshold)))
    if not np.isin(target, (0, 1)).all():
        raise ValueError(f"accuracy got targets from {target.min()} to {target.max()}: of two classes, 0 or 1 wanted")
    low, high = prediction.min(), prediction.max()
    rounding = 16 * np.finfo(np.result_type(prediction, np.float16)).eps
    if threshold is None and (low < -rounding or high > 1 + rounding):
        raise ValueError(f"accuracy got predictions from {low} to {high}, no probabilities: say threshold=0 for logits")
    return float(np.mean((prediction > (0.5 if threshold is None else threshold)) == target))


def _labels(labels: Array, classes: int, threshold: float | None) -> Array:
    if threshold is not None:
        raise ValueError(f"accuracy got threshold={threshold} for {classes} classes, where the largest number decides")
    if labels.min() < 0 or labels.max() >= classes or (labels != np.floor(labels)).any():
        raise ValueError(f"accuracy got labels from {labels.min()} to {labels.max()}: wanted 0 to {classes - 1}")
    return labels
