"""A training in progress: who takes part in it, how far it has come, and what it has measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.optim import Optimizer, Schedule


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
class Training:
    """A training in progress, as callbacks see it: `epoch` counts finished epochs; set `stopped` to end it now.

    `lr` is the learning rate that the optimizer had at its start, `steps` counts the steps, from which the `schedule`
    tells that of the next one, and `notes` are shown before the first epoch.
    """

    model: Any
    optimizer: Optimizer
    rng: np.random.Generator
    history: History = field(default_factory=History)
    callbacks: list[Callable[[Training], Any]] = field(default_factory=list)
    epochs: int = 0
    lr: float = 0.0
    schedule: Schedule | None = None
    epoch: int = 0
    steps: int = 0
    stopped: bool = False
    notes: list[str] = field(default_factory=list)

    def trained(self) -> dict[str, Any]:
        """What training changes: the model, and what else the optimizer moves (the parameters of a plain function)."""
        return {"": self.model, "optimizer": {"parameters": self.optimizer.parameters}}  # "" adds nothing to names
