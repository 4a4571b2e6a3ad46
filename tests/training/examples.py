"""Small trainings: data, models and optimizers, the loop written out by hand, and what happens on the way."""

import hashlib
import itertools
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.state import state_dict
from minigrad.training import Training
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


def right(prediction: Any, y: Any) -> float:
    """The accuracy of numbers that may be any."""
    return mg.accuracy(prediction, y, threshold=0.5)


def mean_error(prediction: Any, y: Any) -> Any:
    return np.mean(np.abs(prediction - y))


class Events(list[str]):
    """A callback that notes what it is called with."""

    def start(self, training: Training) -> None:
        self.append(f"start {training.epoch}")

    def __call__(self, training: Training) -> None:
        assert len(training.history["loss"]) == training.epoch
        self.append(f"epoch {training.epoch}")

    def finish(self, training: Training) -> None:
        self.append(f"finish {training.epoch}")


def failing_after(steps: int, failure: Callable[[], Any] | None = None) -> Callable[..., Any]:
    """The squared error, which fails, or does what it is told, at the step after so many."""
    count = itertools.count()

    def loss(prediction: Any, y: Any) -> Any:
        if prediction.requires_grad and next(count) == steps:
            if failure is None:
                raise RuntimeError("no more")
            failure()
        return nn.mse_loss(prediction, y)

    return loss


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


class Recipe:
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
