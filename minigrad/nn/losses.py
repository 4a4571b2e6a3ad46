"""Losses: how far predictions are from targets, spelled in NumPy like the activations.

`prediction` and `target` have equal shapes, but for `cross_entropy`. The reduction "mean" averages over all elements,
"sum" adds them up, and "none" keeps their shape. What cannot be right raises: words for numbers, probabilities and
soft targets outside of [0, 1] by more than rounding, labels out of range. A nan passes through.
"""

import math
from typing import Any, Literal, TypeAlias

import numpy as np

from minigrad.engine import as_array, constant, numbers_of
from minigrad.nn.activations import log_softmax, softplus
from minigrad.tables.composites import composition

Reduction: TypeAlias = Literal["mean", "sum", "none"]


@composition
def mse_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """The squared error, (prediction - target)^2.

    >>> mse_loss(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    np.float64(2.5)
    """
    prediction, target = _equal_shapes("mse_loss", prediction, target)
    return _reduced((prediction - target) ** 2, reduction)


@composition
def l1_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """The absolute error, |prediction - target|.

    >>> l1_loss(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    np.float64(1.5)
    """
    prediction, target = _equal_shapes("l1_loss", prediction, target)
    return _reduced(np.absolute(prediction - target), reduction)


@composition
def huber_loss(prediction: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0) -> Any:
    """Half the squared error up to `delta`, and from there on its tangent (Huber, 1964).

    >>> huber_loss(np.array([0.5, 3.0]), np.zeros(2), "none")
    array([0.125, 2.5  ])
    """
    if not 0 < delta < math.inf:
        raise ValueError(f"huber_loss got delta={delta}: it must be above 0, and finite")
    prediction, target = _equal_shapes("huber_loss", prediction, target)
    difference = prediction - target
    error = np.absolute(difference)
    near = np.where(error <= delta, difference, 0)  # the square of a far error, which is not used, could overflow
    return _reduced(np.where(error <= delta, np.square(near) / 2, delta * (error - delta / 2)), reduction)


@composition
def log_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """The binary cross-entropy of probabilities, -target * log(prediction) - (1 - target) * log(1 - prediction).

    A probability below 1e-12 counts as 1e-12, in the logarithm and in its derivative 1/p alike: a certain and wrong
    prediction costs 27.6 with a slope of 1e12, a certain and right one costs nothing with a slope of 1. (PyTorch bounds
    the slope in this way too, and the logarithm by -100.) From logits, `log_loss_with_logits` has no such bound.

    >>> log_loss(np.array([0.5, 1.0, 0.0]), np.array([1.0, 1.0, 1.0]), "none").round(4)
    array([ 0.6931,  0.    , 27.631 ])
    """
    prediction, target = _equal_shapes("log_loss", prediction, target)
    prediction, target = prediction + _excess(prediction), _soft_target("log_loss", target)
    losses = -(target * _floored_log(prediction)) - (1 - target) * _floored_log(1 - prediction)
    return _reduced(losses, reduction)


def _floored_log(p: Any, floor: float = 1e-12) -> Any:
    """log(max(p, floor)) with the derivative 1 / max(p, floor); a negative `p` gives nan, as in np.log."""
    numbers = numbers_of(p)
    floor = max(floor, float(np.finfo(np.result_type(numbers, np.float16)).tiny))  # float16 has no 1e-12
    missing = np.where((numbers >= 0) & (numbers < floor), floor - numbers, 0)
    return np.log(p + missing)


@composition
def log_loss_with_logits(logits: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """The binary cross-entropy of sigmoid(logits), without overflow or loss of accuracy.

    >>> log_loss_with_logits(np.array([-1000.0, 50.0]), np.array([1.0, 1.0]), "none")
    array([1.00000000e+03, 1.92874985e-22])
    """
    logits, target = _equal_shapes("log_loss_with_logits", logits, target)
    target = _soft_target("log_loss_with_logits", target)
    return _reduced(_times(target, softplus(-logits)) + _times(1 - target, softplus(logits)), reduction)


def _times(weight: Any, loss: Any) -> Any:
    """The product, and 0 where a weight of 0 meets an infinite loss."""
    return weight * np.where(weight == 0, 0, loss)


@composition
def cross_entropy(logits: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """The cross-entropy of softmax(logits) along the last axis.

    `logits` has shape (..., classes). `target` holds either integer labels, in shape (...), or probabilities (one-hot
    or soft), in the shape of logits. "mean" averages over the samples.

    >>> cross_entropy(np.array([[0.0, 0.0], [0.0, 1000.0]]), np.array([0, 0]), "none")
    array([6.93147181e-01, 1.00000000e+03])
    """
    logits, target = _arrays("cross_entropy", logits, target)
    if logits.ndim == 0 or logits.shape[-1] == 1:
        raise ValueError(
            f"cross_entropy got logits of shape {logits.shape}: the last axis has a number for each class, and of a "
            "single class the loss is always 0. For one number for yes or no, use log_loss_with_logits."
        )
    if target.shape == logits.shape:
        target = _soft_target("cross_entropy", target)
        return _reduced(-np.sum(_times(target, log_softmax(logits)), axis=-1), reduction)
    if target.shape != logits.shape[:-1] or target.dtype.kind not in "iu":
        raise ValueError(
            f"cross_entropy of logits of shape {logits.shape} got a target of shape {target.shape} and dtype "
            f"{target.dtype}: give integer labels of shape {logits.shape[:-1]}, or probabilities of shape "
            f"{logits.shape}."
        )
    labels = _labels(numbers_of(target), classes=logits.shape[-1])
    chosen = (*np.indices(labels.shape, sparse=True), labels)
    return _reduced(-log_softmax(logits)[chosen], reduction)


@constant  # which makes it a call of compiled programs, so that they check the labels of every batch
def _labels(labels: Any, *, classes: int) -> Any:
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"cross_entropy got labels from {labels.min()} to {labels.max()} for {classes} classes")
    return labels


def _soft_target(name: str, target: Any) -> Any:
    checked = _in_unit_interval(target, what=f"{name} got targets")
    return target if getattr(target, "requires_grad", False) else checked  # so that a compiled loss checks it, too


@constant
def _in_unit_interval(numbers: Any, *, what: str) -> Any:
    if _is_inside(numbers):
        return numbers
    low, high = np.fmin.reduce(numbers, axis=None), np.fmax.reduce(numbers, axis=None)
    rounding = 16 * np.finfo(numbers.dtype).eps if numbers.dtype.kind == "f" else 0
    if low < -rounding or high > 1 + rounding:
        raise ValueError(f"{what} from {low} to {high}: they must lie in [0, 1].")
    return numbers


def _is_inside(numbers: Any) -> bool:
    """Whether all lie in [0, 1]; no nan does."""
    least, most = np.minimum.reduce, np.maximum.reduce
    return bool(most(numbers, axis=None, initial=1) == 1 and least(numbers, axis=None, initial=0) == 0)


@constant
def _excess(probabilities: Any) -> Any:
    """What rounding has put beyond 0 or 1, to be added; zero almost everywhere."""
    if _is_inside(probabilities):
        return np.zeros(probabilities.shape, probabilities.dtype)
    _in_unit_interval(probabilities, what="log_loss got probabilities (for logits there is log_loss_with_logits)")
    return np.clip(probabilities, 0, 1) - probabilities


def _arrays(name: str, prediction: Any, target: Any) -> list[Any]:
    arrays = [as_array(prediction), as_array(target)]
    for array in arrays:
        if array.dtype.kind not in "biufc":
            raise TypeError(
                f"{name} got values of dtype {array.dtype}: it takes numbers. Words become labels by "
                "np.unique(words, return_inverse=True)."
            )
    return arrays


def _equal_shapes(name: str, prediction: Any, target: Any) -> list[Any]:
    prediction, target = _arrays(name, prediction, target)
    if prediction.shape != target.shape:
        raise ValueError(
            f"{name} got a prediction of shape {prediction.shape} and a target of shape {target.shape}: they must be "
            "equal, since broadcasting them would compare every prediction with every target. Reshape one of them."
        )
    if prediction.dtype.kind in "biu":
        prediction = prediction.astype(np.float64)  # differences of small integers would wrap round
    return [prediction, target]


def _reduced(losses: Any, reduction: Reduction) -> Any:
    if reduction == "mean":
        return np.mean(losses)
    if reduction == "sum":
        return np.sum(losses)
    if reduction == "none":
        return losses
    raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')
