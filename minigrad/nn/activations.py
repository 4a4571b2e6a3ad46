"""Activations, spelled in NumPy: arrays for arrays, and for Tensors Tensors, whose derivatives come from the graph."""

import functools
import math
import operator
from typing import Any

import numpy as np

from minigrad.engine import numbers_of, quietly
from minigrad.tables.composites import composition


@functools.partial(composition, shortcut=np.tanh)
def tanh(x: Any) -> Any:
    """The hyperbolic tangent, (exp(2x) - 1) / (exp(2x) + 1), within 4 ulp for every finite `x`.

    The derivative of np.tanh, (1 - tanh) * (1 + tanh), loses its digits in the tails, where tanh is rounded to a number
    near 1; the derivative of this composition keeps them.

    >>> tanh(np.array([-1000.0, 0.0, 0.5]))
    array([-1.        ,  0.        ,  0.46211716])
    """
    side = _side(x)
    t = np.expm1(quietly(operator.mul, x, side + side))  # the double of a very large number is infinite, and as good
    return t * side / (t + 2)


@composition
def sigmoid(x: Any) -> Any:
    """The logistic function, 1 / (1 + exp(-x)), within 4 ulp for every finite `x`.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    side = _side(x)
    z = np.exp(x * side)
    return z / (1 + z) * side + (1 - side) / 2


def _side(x: Any) -> Any:
    """-1 where `x` is positive and 1 where it is negative: `x * _side(x)` is -|x|, so exp cannot overflow."""
    # It has no derivative of its own. At 0 either sign will do, since what is built on it is smooth there.
    return -np.copysign(1, numbers_of(x))


@composition
def relu(x: Any) -> Any:
    """`x` where it is positive, else 0; the derivative at 0 is 0.

    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return np.where(x <= 0, 0, x)


@composition
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """`x` where it is positive, else `negative_slope * x` (Maas et al., 2013)."""
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
    z = np.exp(x - _peak(x, axis))
    return z / np.sum(z, axis=axis, keepdims=True)


@composition
def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of softmax along `axis`, accurate also where softmax underflows.

    >>> log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    shifted = x - _peak(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _peak(x: Any, axis: int) -> Any:
    """The maximum along `axis`, without its history: softmax does not depend on what is subtracted from all of `x`."""
    return np.max(numbers_of(x), axis=axis, keepdims=True) * 1.0  # a float, as the difference of integers can wrap
