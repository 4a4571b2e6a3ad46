"""Activations, spelled in NumPy: arrays for arrays, and for Tensors Tensors, whose derivatives come from the graph."""

import math
from typing import Any

import numpy as np

from minigrad.engine import numbers_of
from minigrad.tables.composites import composition
from minigrad.tables.rules import below, logistic


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
    return np.where(x <= 0, 0, x)


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
