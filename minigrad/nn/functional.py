"""Activations and losses, spelled in NumPy: their derivatives come from the graph.

All take arrays or Tensors, and give arrays for arrays.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np

from minigrad.tensor import as_array, constant, numbers_of
from minigrad.trace import current

Reduction: TypeAlias = Literal["mean", "sum", "none"]


# ------------------------------------------------------------------------------------------------- activations


def tanh(x: Any) -> Any:
    """The hyperbolic tangent, (exp(2x) - 1) / (exp(2x) + 1), within 4 ulp for every finite `x`.

    A compiled program calls it by NumPy's name for it, whose derivative (1 - tanh) * (1 + tanh) is off by a rounding of
    1 where it is small itself; the composition's own is right in the tails, too.

    >>> tanh(np.array([-1000.0, 0.0, 0.5]))
    array([-1.        ,  0.        ,  0.46211716])
    """
    if current():
        return np.tanh(x)
    side = _side(x)
    with np.errstate(over="ignore"):  # the double of the largest numbers is infinite, and that is as good
        t = np.expm1(x * (side + side))
    return t * side / (t + 2)


def sigmoid(x: Any) -> Any:
    """The logistic function, 1 / (1 + exp(-x)), within 4 ulp for every finite `x`.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    side = _side(x)
    z = np.exp(x * side)
    return z / (1 + z) * side + (1 - side) / 2


def _side(x: Any) -> Any:
    """-1 where `x` is positive and 1 where it is negative: `x * _side(x)` is -|x|, so exp cannot overflow.

    It is a constant, and at 0 either sign will do: what is built on it is smooth there.
    """
    return -np.copysign(1, numbers_of(x))


def relu(x: Any) -> Any:
    """`x` where it is positive, else 0; the derivative at 0 is 0.

    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return np.where(x <= 0, 0, x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """`x` where it is positive, else `negative_slope * x` (Maas et al., 2013)."""
    return np.where(x > 0, x, negative_slope * x)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), a smooth relu, without overflow.

    >>> softplus(np.array([-1000.0, 0.0, 1000.0]))
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """
    return np.logaddexp(0, x)


def gelu(x: Any) -> Any:
    """The Gaussian error linear unit in its tanh form, x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).

    Hendrycks and Gimpel, 2016 (arXiv:1606.08415); within 5e-4 of x times the normal distribution function. Below -20 it
    is flat, and above 20 it is `x`, to any precision: what is cubed lies between.
    """
    above = np.maximum(x, -20.0)
    u = np.minimum(above, 20.0)
    return above * sigmoid(math.sqrt(8 / math.pi) * (u + 0.044715 * u * u * u))


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along `axis`, without overflow.

    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    z = np.exp(x - _peak(x, axis))
    return z / np.sum(z, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of softmax along `axis`, accurate also where softmax underflows.

    >>> log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    shifted = x - _peak(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _peak(x: Any, axis: int) -> Any:
    """The maximum along `axis`, as a constant: softmax does not depend on what is subtracted."""
    return np.max(numbers_of(x), axis=axis, keepdims=True) * 1.0  # integers would wrap


# ------------------------------------------------------------------------------------------------------ losses
# `prediction` and `target` have equal shapes; "mean" averages over all elements, "none" keeps their shape.


def mse_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """The squared error, (prediction - target)^2.

    >>> mse_loss(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    np.float64(2.5)
    """
    prediction, target = _equal_shapes("mse_loss", prediction, target)
    return _reduced(np.square(prediction - target), reduction)


def l1_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """The absolute error, |prediction - target|."""
    prediction, target = _equal_shapes("l1_loss", prediction, target)
    return _reduced(np.absolute(prediction - target), reduction)


def huber_loss(prediction: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0) -> Any:
    """Half the squared error up to `delta`, and from there on its tangent (Huber, 1964).

    >>> huber_loss(np.array([0.5, 3.0]), np.zeros(2), "none")
    array([0.125, 2.5  ])
    """
    prediction, target = _equal_shapes("huber_loss", prediction, target)
    difference = prediction - target
    error = np.absolute(difference)
    near = np.where(error <= delta, difference, 0)  # squared in its place, so that far errors do not overflow
    return _reduced(np.where(error <= delta, np.square(near) / 2, delta * (error - delta / 2)), reduction)


def log_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """The binary cross-entropy of probabilities, -target * log(prediction) - (1 - target) * log(1 - prediction).

    A probability below 1e-12 counts as 1e-12, in the logarithm and in its derivative 1/p alike: a certain and wrong
    prediction costs 27.6 with a slope of 1e12, a certain and right one costs nothing with a slope of 1. (PyTorch bounds
    the slope in this way too, and the logarithm by -100.) From logits, `log_loss_with_logits` has no such bound.

    >>> log_loss(np.array([0.5, 1.0, 0.0]), np.array([1.0, 1.0, 1.0]), "none").round(4)
    array([ 0.6931,  0.    , 27.631 ])
    """
    prediction, target = _equal_shapes("log_loss", prediction, target)
    losses = -(target * _floored_log(prediction)) - (1 - target) * _floored_log(1 - prediction)
    return _reduced(losses, reduction)


def _floored_log(p: Any, floor: float = 1e-12) -> Any:
    """log(max(p, floor)) with the derivative 1 / max(p, floor); a negative `p` gives nan, as in np.log."""
    constant = numbers_of(p)
    floor = max(floor, float(np.finfo(np.result_type(constant, np.float16)).tiny))  # which float16 does not reach
    missing = np.where((constant >= 0) & (constant < floor), floor - constant, 0)
    return np.log(p + missing)


def log_loss_with_logits(logits: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """The binary cross-entropy of sigmoid(logits), without overflow or loss of accuracy.

    >>> log_loss_with_logits(np.array([-1000.0, 50.0]), np.array([1.0, 1.0]), "none")
    array([1.00000000e+03, 1.92874985e-22])
    """
    logits, target = _equal_shapes("log_loss_with_logits", logits, target)
    return _reduced(target * softplus(-logits) + (1 - target) * softplus(logits), reduction)


def cross_entropy(logits: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """The cross-entropy of softmax(logits) along the last axis.

    `logits` has shape (..., classes). `target` holds either integer labels, in shape (...), or probabilities (one-hot
    or soft), in the shape of logits. "mean" averages over the samples.

    >>> cross_entropy(np.array([[0.0, 0.0], [0.0, 1000.0]]), np.array([0, 0]), "none")
    array([6.93147181e-01, 1.00000000e+03])
    """
    logits, target = as_array(logits), as_array(target)
    log_probabilities = log_softmax(logits)
    if target.shape == logits.shape:
        return _reduced(-np.sum(target * log_probabilities, axis=-1), reduction)
    if target.shape != logits.shape[:-1] or target.dtype.kind not in "iu":
        raise ValueError(
            f"cross_entropy of logits of shape {logits.shape} got a target of shape {target.shape} and dtype "
            f"{target.dtype}: give integer labels of shape {logits.shape[:-1]}, or probabilities of shape "
            f"{logits.shape}."
        )
    labels = _labels(numbers_of(target), classes=logits.shape[-1])
    chosen = (*np.indices(labels.shape, sparse=True), labels)
    return _reduced(-log_probabilities[chosen], reduction)


@constant  # so that a compiled function checks them, too, each time anew
def _labels(labels: Any, *, classes: int) -> Any:
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"cross_entropy got labels from {labels.min()} to {labels.max()} for {classes} classes")
    return labels


def _equal_shapes(name: str, prediction: Any, target: Any) -> list[Any]:
    prediction, target = as_array(prediction), as_array(target)
    if prediction.shape != target.shape:
        raise ValueError(
            f"{name} got a prediction of shape {prediction.shape} and a target of shape {target.shape}: they must be "
            "equal, since broadcasting them would compare every prediction with every target. Reshape one of them."
        )
    return [prediction, target]


def _reduced(losses: Any, reduction: Reduction) -> Any:
    if reduction == "mean":
        return np.mean(losses)
    if reduction == "sum":
        return np.sum(losses)
    if reduction == "none":
        return losses
    raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')
