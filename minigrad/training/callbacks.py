"""Callbacks, which are called after each epoch: stopping in time, watching, and keeping a training in a file.

A callback is any function of the Training; its methods `start` and `finish`, if any, are called at both ends of it.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.engine import Array, no_grad, numbers_of
from minigrad.files import generator_text, is_safetensors, load_arrays, save_arrays, set_generator
from minigrad.nn.module import in_mode
from minigrad.optim.checks import at_least_one, at_least_zero

from minigrad.state import (  # isort: skip
    fitting_arrays, load_state_dict, named_generators, named_parameters, named_state, state_dict,
)  # fmt: skip
from minigrad.summary import outputs_noted
from minigrad.training.history import Training, drawn


@contextmanager
def started(training: Training) -> Iterator[None]:
    """Start the callbacks, and finish those that have started, however the block ends."""
    nothing = lambda training: None
    begun = []
    try:
        for callback in training.callbacks:
            getattr(callback, "start", nothing)(training)
            begun.append(callback)
        yield
    finally:
        for callback in begun:
            getattr(callback, "finish", nothing)(training)


class EarlyStopping:
    """Stop when a number of the history has not become better for `patience` epochs, and restore the best weights.

    Smaller is better with the mode "min", and larger with "max". Of a loss and of an accuracy it is known which, and of
    other numbers it is to be said. The best weights are restored too where the epochs run out or Ctrl-C ends them.
    `monitor` is the name of that number, as "loss" or, where `fit` is given validation data, "val_loss".

    >>> EarlyStopping("loss", patience=3)
    EarlyStopping('loss', patience=3, mode='min')
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 5, mode: str | None = None) -> None:
        known = {"loss": "min", "accuracy": "max"}
        mode = known.get(monitor.removeprefix("val_")) if mode is None else mode
        if mode not in ("min", "max"):
            raise ValueError(f'EarlyStopping({monitor!r}) got mode={mode!r}; wanted "min" or "max": which is better?')
        at_least_one(patience=patience)
        self.monitor, self.patience, self.mode = monitor, patience, mode

    def __repr__(self) -> str:
        return f"EarlyStopping({self.monitor!r}, patience={self.patience}, mode={self.mode!r})"

    def start(self, training: Training) -> None:
        if self.monitor not in training.history:
            raise ValueError(f"EarlyStopping watches {self.monitor!r}, and fit measures {', '.join(training.history)}")
        self.best, self.waited = math.inf, 0
        self.weights: dict[str, Array] = {}
        self.wanted = named_state(training.trained())

    def __call__(self, training: Training) -> None:
        number = training.history[self.monitor][-1] * (1 if self.mode == "min" else -1)
        if number < self.best:
            self.best, self.waited = number, 0
            self.weights = state_dict(training.trained())
        else:
            self.waited += 1
            training.stopped = training.stopped or self.waited >= self.patience

    def finish(self, training: Training) -> None:
        if self.weights:
            load_state_dict(training.trained(), self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, **{f"weights/{k}": v for k, v in self.weights.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, or raise and change nothing."""
        best, waited, weights = _number(state, "best", "f"), _number(state, "waited", "i"), below("weights/", state)
        if math.isnan(best) or waited < 0:
            raise ValueError(f"EarlyStopping cannot have waited {waited} epochs since its best, {best}")
        weights = fitting_arrays(self, self.wanted, weights, True) if weights else {}
        self.best, self.waited, self.weights = best, waited, weights


def _number(arrays: Mapping[str, Any], name: str, kind: str) -> Any:
    """A number of a state, which is of a kind: b for True or False, i for an integer, f for any."""
    array = np.asarray(arrays[name])
    if array.shape or array.dtype.kind != kind:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, and wanted is one number of kind {kind!r}")
    return array.item()


class Watch:
    """A callback that notes after each epoch how large weights, gradients and, for the samples `x`, activations are.

    What is noted is the root mean square, so that layers of different sizes can be compared: gradients that vanish or
    explode show as curves that part, layer by layer. `.norms` holds, for "weight", "gradient" and "activation", a list
    by name with one number for each epoch; `.plot()` draws them.

    >>> from minigrad import fit, nn, optim
    >>> model, x = nn.Sequential(nn.Linear(1, 1), nn.tanh), np.ones((4, 1), np.float32)
    >>> sgd, watched = optim.SGD(model.parameters(), lr=0.1), watch(x)
    >>> history = fit(model, nn.mse_loss, sgd, (x, x), epochs=3, progress=False, callbacks=[watched])
    >>> [(what, *curves) for what, curves in watched.norms.items()]
    [('weight', '0.weight', '0.bias'), ('gradient', '0.weight', '0.bias'), ('activation', '0 Linear(1, 1)', '1 tanh')]
    """

    def __init__(self, x: Any = None) -> None:
        self.x, self.norms = x, dict[str, dict[str, list[float]]]()

    def __call__(self, training: Training) -> None:
        for name, parameter in named_parameters(training.trained()):
            self.note("weight", name, parameter.data)
            if parameter.requires_grad:
                self.note("gradient", name, np.nan if parameter.grad is None else parameter.grad)
        if self.x is None:
            return
        with in_mode(training.model, training=False), no_grad(), outputs_noted() as notes:
            training.model(self.x)
        before = None
        for i, (layer, output, _) in enumerate(notes.rows):
            if output is not before:  # a layer around others gives what the last of them gave
                name = getattr(layer, "__name__", None) or repr(layer).partition("(\n")[0]
                self.note("activation", f"{i} {name}", numbers_of(output))
            before = output

    def note(self, what: str, name: str, array: Any) -> None:
        """Note how large the numbers of an array are."""
        norm = float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
        self.norms.setdefault(what, {}).setdefault(name, []).append(norm)

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw a panel for each kind of norms, into a picture if there is a path; returns the figure."""
        titles = {"weight": "Weights", "gradient": "Gradients of the last step", "activation": "Activations"}
        panels = {titles[what]: curves for what, curves in self.norms.items()}
        return drawn(panels, "watch", path, y="root mean square", log=True)

    def state_dict(self) -> dict[str, Any]:
        return {f"{what}/{name}": norms for what, curves in self.norms.items() for name, norms in curves.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.norms = {}
        for key, norms in state.items():
            what, _, name = key.partition("/")
            self.norms.setdefault(what, {})[name] = np.asarray(norms).tolist()


watch = Watch  # which reads as what it does, in a list of callbacks


class Checkpoint:
    """Keep the whole training in a `.npz` file after each `every` epochs, and go on from it where the file exists.

    The file at `path` holds the weights, the optimizer, the generators (of the shuffling and of layers such as
    Dropout), the history and the other callbacks: the training ends with the very weights that it would have had
    without the break. It is also written after the last epoch. It is replaced at once and whole, holds plain arrays
    only, and is read without running anything in it. Wherever it stands in the list, it comes after the other
    callbacks: they start anew, and then get back their state in the file. Another learning rate than the training began
    with holds from then on.

    Of data that are a stream, it holds the generators that are attributes, and the `state_dict()` if there is one. It
    does not look into a function: let that draw from the very generator that `fit` is given as its `seed`.

    >>> Checkpoint("run.npz", every=5)
    Checkpoint('run.npz', every=5)
    """

    def __init__(self, path: str | Path, every: int = 1) -> None:
        at_least_one(every=every)
        if is_safetensors(path):
            raise ValueError(f"{path}: a checkpoint keeps more than safetensors hold, such as generators: name a .npz")
        self.path, self.every = Path(path), every

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, every={self.every})"

    def __call__(self, training: Training) -> None:
        if training.epoch % self.every == 0 or training.epoch == training.epochs or training.stopped:
            save_arrays(self.path, snapshot(training))

    def start(self, training: Training) -> None:
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"no folder {self.path.parent} for the checkpoint {self.path.name}: make it")
        if self.path.exists():
            before, size = snapshot(training), self.path.stat().st_size
            try:
                restore(training, load_arrays(self.path, lambda found: _wanted(found, before, training, size)))
            except BaseException as error:  # of any kind, as the file may hold anything
                restore(training, before)
                if not isinstance(error, Exception):
                    raise
                name = f"{self.path} is not a checkpoint of this training (remove it, or name another file)"
                raise ValueError(f"{name}: {error}") from error
            done = f"after epoch {training.epoch} of {training.epochs}"
            over = training.stopped or training.epoch >= training.epochs
            how = f"the training ended {done}: nothing is left to do" if over else f"the training goes on {done}"
            training.notes.append(f"{self.path}: {how}")


def snapshot(training: Training) -> dict[str, Any]:
    """All that the rest of a training depends on, as arrays by name."""
    arrays: dict[str, Any] = {name: getattr(training, name) for name in ("epoch", "steps", "lr", "stopped")}
    arrays |= {f"tensors/{name}": array for name, array in state_dict(training.trained()).items()}
    arrays |= {f"history/{name}": numbers for name, numbers in training.history.items()}
    arrays |= {f"optimizer/{name}": value for name, value in training.optimizer.state_dict(_names(training)).items()}
    if training.schedule is not None:  # whose rates are no state
        arrays["optimizer/lr"] = training.lr
    for prefix, part in _stateful(training).items():
        arrays |= {prefix + name: value for name, value in part.state_dict().items()}
    for name, generator in _generators(training).items():
        arrays[name] = generator_text(generator)
    return {name: np.asarray(value) for name, value in arrays.items()}


def _wanted(found: Mapping[str, Array], before: Mapping[str, Array], training: Training, size: int) -> list[str]:
    """The names of what is to be read of the arrays that a file of some size announces, or ValueError."""
    loose = ("tensors/", "optimizer/", "callbacks/", "streams/")  # what has them checks their names
    missing = [name for name in before if name not in found and not name.startswith(loose)]
    others = [name for name in found if name not in before and not name.startswith(loose)]
    if missing or others:
        raise ValueError(f"missing: {', '.join(missing) or 'nothing'}; unexpected: {', '.join(others) or 'nothing'}")
    if sum(array.nbytes for array in found.values()) > size:  # a checkpoint is written as it is
        raise ValueError(f"it unpacks to more than its {size:,} bytes")
    ours = tuple(_stateful(training))
    return [name for name in found if not name.startswith(("callbacks/", "streams/")) or name.startswith(ours)]


def restore(training: Training, arrays: Mapping[str, Array]) -> None:
    """Bring a training to where it was when the `snapshot` was taken, or raise."""
    load_state_dict(training.trained(), below("tensors/", arrays))
    training.optimizer.load_state_dict(below("optimizer/", arrays), _names(training))
    for prefix, part in _stateful(training).items():
        part.load_state_dict(below(prefix, arrays))
    for name, generator in _generators(training).items():
        set_generator(generator, str(arrays[name]))
    lr, steps = _number(arrays, "lr", "f"), _number(arrays, "steps", "i")
    at_least_zero(lr=lr, steps=steps)
    if training.lr != lr:
        training.optimizer.lr = training.lr
        training.notes.append(f"the learning rate is {training.lr:g}, and was {lr:g} in the checkpoint")
    training.steps = steps
    training.epoch, training.stopped = _number(arrays, "epoch", "i"), _number(arrays, "stopped", "b")
    history = {name: [float(number) for number in numbers] for name, numbers in below("history/", arrays).items()}
    for name in training.history:
        if len(history.get(name, ())) != training.epoch:
            raise ValueError(f"its history has not one {name} for each of {training.epoch} epochs")
    training.history.update(history)


def _stateful(training: Training) -> dict[str, Any]:
    """The callbacks and streams that have a state, by the prefix of the names in the file."""
    parts = {f"callbacks/{i}/": part for i, part in enumerate(training.callbacks)}
    parts |= {f"streams/{name}/": stream for name, stream in training.streams.items()}
    return {prefix: part for prefix, part in parts.items() if hasattr(part, "state_dict")}


def _names(training: Training) -> list[str]:
    """The names of what the optimizer moves, by which its state finds its parameters again."""
    names = {id(parameter): name for name, parameter in named_state(training.trained()).items()}
    return [names[id(parameter)] for parameter in training.optimizer.parameters]


def _generators(training: Training) -> dict[str, Any]:
    """The generator of the shuffling, and those that the model and streams own."""
    owned = {f"rng/{name}": generator for name, generator in named_generators(training.trained()).items()}
    of_streams = {f"rng/streams/{name}": generator for name, generator in named_generators(training.streams).items()}
    return {"rng": training.rng, **owned, **of_streams}


def below(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays whose names start with a prefix, by what follows in the name."""
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
