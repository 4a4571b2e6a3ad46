"""Losses: how far predictions are from targets, spelled in NumPy like the activations.

`prediction` and `target` have equal shapes, but for `cross_entropy`. The reduction "mean" averages over all elements,
"sum" adds them up, and "none" keeps their shape. What cannot be right raises: words for numbers, probabilities and
soft targets outside of [0, 1] by more than rounding, labels out of range. A nan passes through.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from minigrad.engine import as_array, constant, numbers_of, quietly
from minigrad.nn.activations import log_softmax, softplus
from minigrad.nn.module import as_module, flag
from minigrad.tables.composites import composition
from minigrad.tables.rules import wide

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
    prediction, target = prediction + excess(prediction), _soft_target("log_loss", target)
    losses = -(target * _floored_log(prediction)) - (1 - target) * _floored_log(1 - prediction)
    return _reduced(losses, reduction)


def _floored_log(p: Any, floor: float = 1e-12) -> Any:
    """log(max(p, floor)) with the derivative 1 / max(p, floor); a negative `p` gives nan, as in np.log."""
    numbers = numbers_of(p)
    floor = max(floor, float(np.finfo(np.result_type(numbers, np.float16)).tiny))  # float16 has no 1e-12
    missing = np.where((numbers >= 0) & (numbers < floor), floor - numbers, 0)
    return np.log(p + missing)


@composition
def log_loss_with_logits(logits: Any, target: Any, reduction: Reduction = "mean", pos_weight: Any = None) -> Any:
    """The binary cross-entropy of sigmoid(logits), without overflow or loss of accuracy.

    `pos_weight` is a factor for the part of the positive targets.

    >>> log_loss_with_logits(np.array([-1000.0, 50.0]), np.array([1.0, 1.0]), "none")
    array([1.00000000e+03, 1.92874985e-22])
    """
    logits, target = _equal_shapes("log_loss_with_logits", logits, target)
    target = _soft_target("log_loss_with_logits", target)
    positive = target if pos_weight is None else target * as_array(pos_weight)
    if positive.shape != target.shape:
        raise ValueError(f"pos_weight has shape {np.shape(pos_weight)}, which does not go with targets {target.shape}")
    return _reduced(_times(positive, softplus(-logits)) + _times(1 - target, softplus(logits)), reduction)


def _times(weight: Any, loss: Any) -> Any:
    """The product, and 0 where a weight of 0 meets an infinite loss."""
    return weight * np.where((weight == 0) & ~np.isfinite(loss), 0, loss)


@composition
def kl_div(prediction: Any, target: Any, reduction: Any = "mean", log_target: bool = False) -> Any:
    """The Kullback-Leibler divergence, target * (log(target) - prediction), of logarithms of probabilities.

    `prediction` holds them, and `target` probabilities, or with `log_target` logarithms. "batchmean" divides the sum by
    the number of samples, which is the divergence as mathematics has it, and "mean" by all elements, as in PyTorch.

    >>> kl_div(np.log([0.5, 0.5]), np.array([0.5, 0.5]))
    np.float64(0.0)
    """
    prediction, target = _equal_shapes("kl_div", prediction, target)
    if flag("log_target", log_target):
        weight, logarithms = np.exp(target), target
    else:
        weight = _soft_target("kl_div", target)
        logarithms = np.log(np.where(target > 0, target, 1))
    losses = _times(weight, quietly(np.subtract, logarithms, prediction))
    return np.sum(losses) / len(losses) if reduction == "batchmean" else _reduced(losses, reduction)


@composition
def nll_loss(
    log_probabilities: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, ignore_index: Any = None
) -> Any:
    """The negative of the log probability of each label, for shapes (..., classes) and (...).

    `weight` (classes,) are factors for the classes, and "mean" is the sum of losses divided by that of their weights.
    Labels that are `ignore_index` count as nothing. (PyTorch has the classes on the second axis, and ignores -100.)
    `log_probabilities` are such as those of `minigrad.nn.log_softmax`, and `target` holds the labels.

    >>> nll_loss(np.log([[0.5, 0.5]]), np.array([0])).round(4)
    np.float64(0.6931)
    """
    scores, target = _arrays("nll_loss", log_probabilities, target)
    return _of_labels("nll_loss", scores, target, reduction, weight, ignore_index, 0.0)


@composition
def cross_entropy(
    logits: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, ignore_index: Any = None,
    label_smoothing: float = 0.0,
) -> Any:  # fmt: skip
    """The cross-entropy of softmax(logits) along the last axis.

    `logits` has shape (..., classes). `target` holds either integer labels, in shape (...), or probabilities (one-hot
    or soft), in the shape of logits. "mean" averages over the samples. `weight` and `ignore_index` are as in nll_loss;
    `label_smoothing` is the share of the target that all classes have evenly (Szegedy et al., 2016, arXiv:1512.00567).

    >>> cross_entropy(np.array([[0.0, 0.0], [0.0, 1000.0]]), np.array([0, 0]), "none")
    array([6.93147181e-01, 1.00000000e+03])
    """
    logits, target = _arrays("cross_entropy", logits, target)
    if logits.ndim == 0 or logits.shape[-1] == 1:
        raise ValueError(
            f"cross_entropy got logits of shape {logits.shape}: the last axis has a number for each class, and of a "
            "single class the loss is always 0. For one number for yes or no, use log_loss_with_logits."
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy got label_smoothing={label_smoothing}: it is a share, from 0 to 1")
    log_probabilities = log_softmax(logits)
    if target.shape != logits.shape:
        return _of_labels("cross_entropy", log_probabilities, target, reduction, weight, ignore_index, label_smoothing)
    if ignore_index is not None:
        raise ValueError(f"cross_entropy got ignore_index={ignore_index}, which is for labels, and probabilities")
    target = _soft_target("cross_entropy", target)
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing / logits.shape[-1]
    target = target if weight is None else target * _of_classes("cross_entropy", weight, logits.shape[-1])
    return _reduced(-np.sum(_times(target, log_probabilities), axis=-1), reduction)


def _of_classes(name: str, weight: Any, classes: int) -> Any:
    weight = as_array(weight)
    if weight.shape != (classes,):
        raise ValueError(f"{name} got a weight of shape {weight.shape} for {classes} classes")
    return weight


def _of_labels(
    name: str, scores: Any, target: Any, reduction: Reduction, weight: Any, ignore: int | None, smoothing: float
) -> Any:
    """The loss of log probabilities for labels."""
    if scores.ndim == 0 or target.shape != scores.shape[:-1] or target.dtype.kind not in "iu":
        raise ValueError(
            f"{name} of logits of shape {scores.shape} got a target of shape {target.shape} and dtype {target.dtype}: "
            f"give integer labels of shape {scores.shape[:-1]}, or probabilities of shape {scores.shape}."
        )
    given, classes = numbers_of(target), scores.shape[-1]
    labels = in_range(given, stop=classes, what=f"{name} got labels", of="classes", ignore=ignore)
    chosen = (*np.indices(labels.shape, sparse=True), labels)
    if weight is not None:
        weight = _of_classes(name, weight, classes)
        scores = _times(weight, scores)
    losses = -scores[chosen]
    if smoothing:
        losses = _times(1 - smoothing, losses) - smoothing / classes * np.sum(scores, axis=-1)
    if weight is None and ignore is None:
        return _reduced(losses, reduction)
    kept = True if ignore is None else given != ignore
    losses = np.where(kept, losses, 0)
    if reduction != "mean":
        return _reduced(losses, reduction)
    carried = wide(losses.dtype)
    counts = np.where(kept, np.ones(labels.shape, carried) if weight is None else weight[labels], 0)
    return (np.sum(losses, dtype=carried) / np.sum(counts, dtype=carried)).astype(losses.dtype)


@constant  # which makes it a call that modes see, so that they check the labels of every batch
def in_range(labels: Any, *, stop: int, what: str, of: str, ignore: int | None = None) -> Any:
    """Integers from 0 to stop - 1, as they are, with 0 for those to `ignore`; others raise ValueError."""
    labels = labels if ignore is None else np.where(labels == ignore, 0, labels)
    if labels.size and (labels.min() < 0 or labels.max() >= stop):
        raise ValueError(f"{what} from {labels.min()} to {labels.max()} for {stop} {of}")
    return labels


def _soft_target(name: str, target: Any) -> Any:
    checked = in_unit_interval(target, what=f"{name} got targets")
    return target if getattr(target, "requires_grad", False) else checked  # so that a compiled loss checks it, too


@constant
def in_unit_interval(numbers: Any, *, what: str) -> Any:
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
def excess(probabilities: Any) -> Any:
    """What rounding has put beyond 0 or 1, to be added; zero almost everywhere."""
    if _is_inside(probabilities):
        return np.zeros(probabilities.shape, probabilities.dtype)
    in_unit_interval(probabilities, what="log_loss got probabilities (for logits there is log_loss_with_logits)")
    return np.clip(probabilities, 0, 1) - probabilities


def check_numbers(name: str, arrays: Sequence[Any], kinds: str = "biufc") -> None:
    """Raise TypeError for arrays of anything but numbers, of some kinds."""
    for array in arrays:
        if array.dtype.kind not in kinds:
            hint = "it takes numbers. Words become labels by np.unique(words, return_inverse=True)."
            raise TypeError(f"{name} got values of dtype {array.dtype}: {hint}")


def _arrays(name: str, prediction: Any, target: Any) -> list[Any]:
    arrays = [as_array(prediction), as_array(target)]
    check_numbers(name, arrays)
    if arrays[0].dtype.kind in "biu":
        arrays[0] = arrays[0].astype(np.float64)  # differences of small integers would wrap round
    return arrays


def _equal_shapes(name: str, prediction: Any, target: Any) -> list[Any]:
    prediction, target = _arrays(name, prediction, target)
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


MSELoss, L1Loss = as_module("MSELoss", mse_loss, 2), as_module("L1Loss", l1_loss, 2)
HuberLoss, KLDivLoss = as_module("HuberLoss", huber_loss, 2), as_module("KLDivLoss", kl_div, 2)
BCELoss, BCEWithLogitsLoss = as_module("BCELoss", log_loss, 2), as_module("BCEWithLogitsLoss", log_loss_with_logits, 2)
CrossEntropyLoss, NLLLoss = as_module("CrossEntropyLoss", cross_entropy, 2), as_module("NLLLoss", nll_loss, 2)
