"""Activations, spelled in NumPy: arrays for arrays, and for Tensors Tensors, whose derivatives come from the graph."""

import math
from typing import Any

import numpy as np

from minigrad.engine import numbers_of
from minigrad.nn.module import as_module
from minigrad.tables.composites import composition
from minigrad.tables.rules import below, logistic, positive_part


@composition
def tanh(x: Any) -> Any:
    """The hyperbolic tangent, (exp(2x) - 1) / (exp(2x) + 1), within 4 ulp for every finite `x`.

    >>> tanh(np.array([-1000.0, 0.0, 0.5]))
    array([-1.        ,  0.        ,  0.46211716])
    """
    return np.tanh(x)


@composition
def sigmoid(x: Any) -> Any:
    """The logistic function, 1 / (1 + exp(-x)), within 4 ulp for every finite `x`.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return logistic(x)


@composition
def relu(x: Any) -> Any:
    """`x` where it is positive, else 0; the derivative at 0 is 0.

    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return positive_part(x)


@composition
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """`x` where it is positive, else `negative_slope * x` (Maas et al., 2013).

    >>> leaky_relu(np.array([-1.0, 2.0]))
    array([-0.01,  2.  ])
    """
    return np.where(x > 0, x, negative_slope * x)


@composition
def softplus(x: Any) -> Any:
    """log(1 + exp(x)), a smooth relu, without overflow.

    >>> softplus(np.array([-1000.0, 0.0, 1000.0]))
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """
    return np.logaddexp(0, x)


@composition
def gelu(x: Any) -> Any:
    """The Gaussian error linear unit in its tanh form, x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).

    Hendrycks and Gimpel, 2016 (arXiv:1606.08415); within 5e-4 of x times the normal distribution function. Below -20 it
    is 0 and above 20 it is `x`, to any precision, so only numbers between these are cubed, and none overflows.

    >>> gelu(np.array([-1000.0, 0.0, 1.0])).round(4)
    array([-0.    ,  0.    ,  0.8412])
    """
    above = np.maximum(x, -20.0)
    u = np.minimum(above, 20.0)
    return above * sigmoid(math.sqrt(8 / math.pi) * (u + 0.044715 * u * u * u))


@composition
def elu(x: Any, alpha: float = 1.0) -> Any:
    """`x` where it is positive, else alpha * (exp(x) - 1) (Clevert et al., ICLR 2016, arXiv:1511.07289).

    >>> elu(np.array([-1000.0, 2.0]))
    array([-1.,  2.])
    """
    return np.where(x > 0, x, alpha * np.expm1(np.where(x > 0, 0, x)))


@composition
def selu(x: Any) -> Any:
    """The elu of `x` with scales that keep a mean of 0 and a variance of 1 (Klambauer et al., 2017, arXiv:1706.02515).

    >>> selu(np.array([-1000.0, 1.0])).round(4)
    array([-1.7581,  1.0507])
    """
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


@composition
def silu(x: Any) -> Any:
    """x * sigmoid(x), also called swish (Elfwing et al., 2017, arXiv:1702.03118).

    >>> silu(np.array([-1000.0, 0.0, 1000.0]))
    array([  -0.,    0., 1000.])
    """
    above = np.maximum(x, -750.0)  # as in gelu: beyond 750, to any precision, it is 0 or `x`
    return above * sigmoid(np.minimum(above, 750.0))


@composition
def mish(x: Any) -> Any:
    """x * tanh(softplus(x)) (Misra, 2019, arXiv:1908.08681).

    >>> mish(np.array([-1000.0, 0.0, 1000.0]))
    array([  -0.,    0., 1000.])
    """
    above = np.maximum(x, -750.0)  # see silu
    return above * tanh(softplus(np.minimum(above, 750.0)))


@composition
def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """`x` between the two bounds, else the nearer one; the derivative at a bound is 0.

    `min_val` and `max_val` are the bounds.

    >>> hardtanh(np.array([-2.0, 0.5, 2.0]))
    array([-1. ,  0.5,  1. ])
    """
    return np.where(x <= min_val, min_val, np.where(x >= max_val, max_val, x))


@composition
def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along `axis`, without overflow.

    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    if _is_half(x):
        return softmax(x.astype(np.float32), axis).astype(np.float16)
    z = np.exp(_over_peak(x, axis))
    return z / np.sum(z, axis=axis, keepdims=True)


@composition
def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of the softmax of `x` along `axis`, accurate also where softmax underflows.

    >>> log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    if _is_half(x):
        return log_softmax(x.astype(np.float32), axis).astype(np.float16)
    shifted = _over_peak(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _is_half(x: Any) -> bool:
    """Whether sums over `x` would overflow, or count no further than 2048."""
    return getattr(x, "dtype", None) == np.float16


def _over_peak(x: Any, axis: int) -> Any:
    """How far `x` is below its maximum along `axis`, which has no history: softmax does not depend on it."""
    numbers = numbers_of(x)
    lowest = float(np.finfo(np.result_type(numbers, np.float16)).min)  # where all are -inf, nothing is at the peak
    return below(x, np.maximum(np.max(numbers, axis=axis, keepdims=True), lowest))


Tanh, Sigmoid, ReLU = as_module("Tanh", tanh), as_module("Sigmoid", sigmoid), as_module("ReLU", relu)
LeakyReLU, Softplus = as_module("LeakyReLU", leaky_relu), as_module("Softplus", softplus)
GELU, ELU, SELU = as_module("GELU", gelu), as_module("ELU", elu), as_module("SELU", selu)
SiLU, Mish = as_module("SiLU", silu), as_module("Mish", mish)
Hardtanh, Softmax = as_module("Hardtanh", hardtanh), as_module("Softmax", softmax)
