"""Neural networks as compositions: no derivative lives here.

Where to look: `layers` has short ones, `convolution` (with pooling), `normalization`, `recurrent` and `attention` the
others; `activations` and `losses` are functions, and classes around them; all are made of `module`, `state`, `init`.

What has a class of its own in PyTorch is often none here: a parameter is a Tensor that requires a gradient, a list or a
dict of modules is a list or a dict, and a buffer is an array, or a Tensor that requires no gradient. Weights have the
names and shapes that they have there, and go to and fro, by `state_dict` or a file of safetensors.
"""

import functools

from minigrad.engine import Tensor
from minigrad.names import door
from minigrad.nn import init

from minigrad.nn.activations import (  # isort: skip
    ELU, GELU, SELU, Hardtanh, LeakyReLU, Mish, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh, elu, gelu, hardtanh,
    leaky_relu, log_softmax, mish, relu, selu, sigmoid, silu, softmax, softplus, tanh,
)  # fmt: skip
from minigrad.nn.attention import MultiheadAttention, TransformerBlock

from minigrad.nn.convolution import (  # isort: skip
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AvgPool1d, AvgPool2d, Conv1d, Conv2d,
    ConvTranspose1d, ConvTranspose2d, MaxPool1d, MaxPool2d,
)  # fmt: skip
from minigrad.nn.layers import Dropout, Embedding, Flatten, Linear, PReLU, Residual, Sequential

from minigrad.nn.losses import (  # isort: skip
    BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, KLDivLoss, L1Loss, MSELoss, NLLLoss, cross_entropy,
    huber_loss, kl_div, l1_loss, log_loss, log_loss_with_logits, mse_loss, nll_loss,
)  # fmt: skip
from minigrad.nn.module import Module
from minigrad.nn.normalization import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from minigrad.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from minigrad.state import named_parameters, parameters

Parameter, Buffer = functools.partial(Tensor, requires_grad=True), Tensor
ModuleList, ModuleDict = list, dict

__all__ = [
    "ELU", "GELU", "GRU", "LSTM", "RNN", "SELU", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d", "AvgPool1d", "AvgPool2d", "BCELoss", "BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d",
    "Buffer", "Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d", "CrossEntropyLoss", "Dropout", "Embedding",
    "Flatten", "GRUCell", "GroupNorm", "Hardtanh", "HuberLoss", "KLDivLoss", "L1Loss", "LSTMCell", "LayerNorm",
    "LeakyReLU", "Linear", "MSELoss", "MaxPool1d", "MaxPool2d", "Mish", "Module", "ModuleDict", "ModuleList",
    "MultiheadAttention", "NLLLoss", "PReLU", "Parameter", "RMSNorm", "RNNCell", "ReLU", "Residual", "Sequential",
    "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh", "TransformerBlock", "cross_entropy", "elu", "gelu",
    "hardtanh", "huber_loss", "init", "kl_div", "l1_loss", "leaky_relu", "log_loss", "log_loss_with_logits",
    "log_softmax", "mish", "mse_loss", "named_parameters", "nll_loss", "parameters", "relu", "selu", "sigmoid",
    "silu", "softmax", "softplus", "tanh",
]  # fmt: skip

door(__name__)
