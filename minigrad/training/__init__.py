"""The training of models: the loop, the callbacks that it calls, and what it measures and shows."""

from minigrad.training.callbacks import Checkpoint, EarlyStopping
from minigrad.training.checks import Metric, Metrics
from minigrad.training.fit import accuracy, evaluate, fit, predict
from minigrad.training.history import History, Training
from minigrad.training.progress import Bar, Lines, Silent, bar_class
from minigrad.training.watch import Watch, watch

__all__ = [
    "Bar", "Checkpoint", "EarlyStopping", "History", "Lines", "Metric", "Metrics", "Silent", "Training",
    "Watch", "accuracy", "bar_class", "evaluate", "fit", "predict", "watch",
]  # fmt: skip
