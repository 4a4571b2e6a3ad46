"""A training in progress: who takes part in it, how far it has come, and what it has measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.optim import Optimizer, Schedule
from minigrad.pictures import table


class History(dict[str, list[float]]):
    """What training measured: a list by name, with one number for each finished epoch.

    >>> History({"loss": [2.0, 1.0], "val_loss": [3.0, 2.0]})["loss"][-1]
    1.0
    """

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw the curves, the losses on the left and everything else on the right, into a picture if there is a path.

        Returns the figure, which a notebook shows.
        """
        losses = [name for name in self if "loss" in name]
        panels = {"Loss": losses, "Metrics": [name for name in self if name not in losses]}
        curves = {title: {name: self[name] for name in names} for title, names in panels.items() if names}
        return drawn(curves, "History.plot", path)

    def _repr_html_(self) -> str:
        rows = [(name, *f"{values[0]:.4g} {values[-1]:.4g} {min(values):.4g} {max(values):.4g}".split())
                for name, values in self.items() if values]  # fmt: skip
        return table([(f"{len(next(iter(self.values()), []))} epochs", "first", "last", "least", "greatest"), *rows])


def drawn(
    panels: Mapping[str, Mapping[str, Sequence[float]]], who: str, path: Any, y: str = "", log: bool = False
) -> Any:
    """A figure with a panel of curves over the epochs for each title, which has been saved if there is a path."""
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"{who} draws with matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(5 * max(len(panels), 1), 3.6), layout="constrained")
    for i, (title, curves) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), i, title=title, xlabel="epoch", ylabel=y or title.lower())
        many = len(curves) > 4  # those of layers, from the first to the last
        if many:
            axes.set_prop_cycle(color=colormaps["viridis"](np.linspace(0, 0.95, len(curves))))
        for name, values in curves.items():
            axes.plot(range(1, len(values) + 1), values, ".-" if len(values) < 20 else "-", label=name)
        axes.locator_params(axis="x", integer=True)
        if log and any(value > 0 for values in curves.values() for value in values):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if many else {}
        axes.legend(fontsize="small", **beside)
    if path is not None:
        figure.savefig(path, dpi=120)

    def shown() -> bytes:
        figure.savefig(file := BytesIO(), dpi=80, format="png")
        return file.getvalue()

    setattr(figure, "_repr_png_", shown)  # noqa: B010 - so that notebooks show it, with pyplot or without
    return figure


@dataclass
class Training:
    """A training in progress, as callbacks see it: `epoch` counts finished epochs; set `stopped` to end it now.

    `lr` is the learning rate that the optimizer had at its start, `steps` counts the steps, from which the `schedule`
    tells that of the next one, and `notes` are shown before the first epoch. `model` and `optimizer` are those that
    `fit` was given, `rng` draws the order of the samples, and `history` has all numbers so far. `streams` are those
    that were given as data, by name.

    >>> def stop_when_good(training):  # a callback
    ...     training.stopped = training.history["loss"][-1] < 0.1
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
    streams: dict[str, Any] = field(default_factory=dict)

    def trained(self) -> dict[str, Any]:
        """What training changes: the model, and what else the optimizer moves (the parameters of a plain function)."""
        return {"": self.model, "optimizer": {"parameters": self.optimizer.parameters}}  # "" adds nothing to names
