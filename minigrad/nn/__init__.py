"""Neural networks as compositions: no derivative lives here."""

from typing import TYPE_CHECKING

from minigrad.nn import init
from minigrad.nn.activations import gelu, leaky_relu, log_softmax, relu, sigmoid, softmax, softplus, tanh

from minigrad.nn.layers import (  # isort: skip
    GELU, Dropout, Flatten, LeakyReLU, Linear, ReLU, Sequential, Sigmoid, Softmax, Softplus, Tanh,
)  # fmt: skip
from minigrad.names import door
from minigrad.nn.losses import cross_entropy, huber_loss, l1_loss, log_loss, log_loss_with_logits, mse_loss
from minigrad.nn.module import Module
from minigrad.nn.state import named_parameters, parameters

__all__ = [
    "GELU", "Dropout", "Flatten", "LeakyReLU", "Linear", "Module", "ReLU", "Sequential", "Sigmoid", "Softmax",
    "Softplus", "Tanh", "cross_entropy", "gelu", "huber_loss", "init", "l1_loss", "leaky_relu", "log_loss",
    "log_loss_with_logits", "log_softmax", "mse_loss", "named_parameters", "parameters", "relu", "sigmoid",
    "softmax", "softplus", "tanh",
]  # fmt: skip

if not TYPE_CHECKING:  # to a type checker, it would say that every name exists
    __getattr__, __dir__ = door(__name__)
