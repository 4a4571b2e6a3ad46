"""Reverse-mode autodiff for NumPy that you can read in one sitting."""

from minigrad import composites as composites  # it and rules fill the tables of the engine
from minigrad import data, nn, optim
from minigrad.rules import put, put_add
from minigrad.tensor import Tensor, no_grad, primitive, vjps
from minigrad.training import Checkpoint, EarlyStopping, History, accuracy, evaluate, fit, predict
from minigrad.transforms import grad, value_and_grad

__all__ = [
    "Checkpoint",
    "EarlyStopping",
    "History",
    "Tensor",
    "accuracy",
    "data",
    "evaluate",
    "fit",
    "grad",
    "nn",
    "no_grad",
    "optim",
    "predict",
    "primitive",
    "put",
    "put_add",
    "value_and_grad",
    "vjps",
]
__version__ = "0.1.0"
