"""The training of models: the loop, the callbacks that it calls, and what it measures and shows."""

from minigrad.names import door
from minigrad.training.callbacks import Checkpoint, EarlyStopping, Watch, watch
from minigrad.training.checks import Metric, Metrics
from minigrad.training.fit import accuracy, evaluate, fit, predict
from minigrad.training.history import History, Training
from minigrad.training.source import Stream

__all__ = [
    "Checkpoint", "EarlyStopping", "History", "Metric", "Metrics", "Stream", "Training", "Watch", "accuracy",
    "evaluate", "fit", "predict", "watch",
]  # fmt: skip

door(__name__)
