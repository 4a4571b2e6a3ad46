"""What a training shows while it runs: a bar in a terminal, lines for its epochs, or nothing."""

import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from minigrad.training.history import Training


class Silent:
    """Reports nothing; the base class of those that do."""

    def note(self, text: str) -> None:
        """Something is to be said."""

    def step(self, samples: int, averages: Mapping[str, float]) -> None:
        """A step is done; `averages` are those of the epoch so far."""

    def epoch(self, training: Training, last: bool) -> None:
        """An epoch is done."""

    def close(self) -> None:
        """The training has ended, in whatever way."""


class Lines(Silent):
    """A line for each epoch, or for each so many that there are some fifty in all."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.every = math.ceil(epochs / 50)
        self.samples, self.start = 0, time.perf_counter()

    def note(self, text: str) -> None:
        print(text, flush=hasattr(sys.stdout, "flush"))

    def step(self, samples: int, averages: Mapping[str, float]) -> None:
        self.samples += samples

    def epoch(self, training: Training, last: bool) -> None:
        if training.epoch % self.every == 0 or last:
            rate = self.samples / max(time.perf_counter() - self.start, 1e-9)
            numbers = "  ".join(f"{name} {values[-1]:.4f}" for name, values in training.history.items())
            epoch = f"{training.epoch:>{len(str(self.epochs))}}/{self.epochs}"
            self.note(f"epoch {epoch}  {numbers}  {rate:,.0f} samples/s")
            self.samples, self.start = 0, time.perf_counter()


class Bar(Lines):
    """A tqdm bar over all samples of all epochs, with the means of the epoch so far, below the lines.

    Where nobody knows how many samples there are, it counts them, and has no end.
    """

    def __init__(self, tqdm: Any, done: int, epochs: int, samples: int) -> None:
        super().__init__(epochs)
        counts = {"total": epochs * samples or None, "initial": done * samples, "unit": " samples", "unit_scale": True}
        self.bar = tqdm(desc=f"epoch {min(done + 1, epochs)}/{epochs}", file=sys.stdout, **counts)
        self.shown = 0.0

    def note(self, text: str) -> None:
        self.bar.write(text, file=sys.stdout)

    def step(self, samples: int, averages: Mapping[str, float]) -> None:
        super().step(samples, averages)
        self.bar.update(samples)
        if time.perf_counter() - self.shown > 0.1:
            self.shown = time.perf_counter()
            self.show(averages)

    def epoch(self, training: Training, last: bool) -> None:
        self.bar.set_description_str(f"epoch {training.epoch + (not last)}/{self.epochs}", refresh=False)
        self.show({name: values[-1] for name, values in training.history.items() if not name.startswith("val_")})
        super().epoch(training, last)

    def show(self, numbers: Mapping[str, float]) -> None:
        self.bar.set_postfix_str(", ".join(f"{name} {number:.4f}" for name, number in numbers.items()))

    def close(self) -> None:
        self.bar.close()


def reporter(progress: bool, done: int, epochs: int, samples: int) -> Silent:
    """A bar where one can be shown, else lines; `samples` in an epoch are 0 where nobody knows how many there are."""
    if not progress:
        return Silent()
    bar = bar_class()
    return Bar(bar, done, epochs, samples) if bar else Lines(epochs)


def bar_class() -> Any:
    """tqdm's class of bars, where it is installed and the output is a terminal that has a width; else None."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
    except AttributeError:  # the output is None, or something that only writes
        return None
    except OSError:
        columns = None  # nobody can tell
    if columns == 0:  # the terminal does not say, and tqdm would show nothing
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm
