"""The arguments of a training: what is wrong with them is said before the first step."""

import os
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from minigrad.data.batches import rows_of
from minigrad.engine import numbers_of
from minigrad.optim import Optimizer
from minigrad.optim.checks import at_least_zero
from minigrad.state import named_generators, parameters
from minigrad.trees import items, refilled

Metric: TypeAlias = Callable[[Any, Any], Any]
"""A function (prediction, y) of arrays that returns one number."""
Metrics: TypeAlias = Mapping[str, Metric] | Iterable[Metric]
"""Metrics by name; of those in a list, the names are those of the functions."""


def check_parts(model: Any, loss: Any, optimizer: Any, epochs: Any, schedule: Any) -> None:
    """Raise for what would fail later, or train nothing."""
    if not isinstance(epochs, (int, np.integer)) or isinstance(epochs, bool) or epochs < 0:
        raise ValueError(f"got epochs={epochs!r}; wanted an integer of at least 0.")
    _check("model", model, callable(model), "a module, or any function of x")
    _check("loss", loss, callable(loss), "a function (prediction, y) that gives one number, such as nn.mse_loss")
    its_form = "an optimizer, such as optim.Adam(model.parameters())"
    _check("optimizer", optimizer, isinstance(optimizer, Optimizer), its_form)
    its_form = "a function from the number of steps done to the learning rate (a constant one is for the optimizer)"
    _check("schedule", schedule, schedule is None or callable(schedule), its_form)
    ours = {each for each in parameters(model) if each.requires_grad}  # none in a plain function, which hides its own
    if ours and ours.isdisjoint(parameters(optimizer)):
        raise ValueError(
            "the optimizer moves no parameter of the model, so the model would learn nothing: make the optimizer of "
            "model.parameters(). If it is to move others, give the model as a function, lambda x: model(x)."
        )


def check_options(progress: Any, compile: Any, prefetch: Any, clip_grad_norm: Any) -> None:
    """Raise for options that would be taken for others."""
    for name, value in {"progress": progress, "prefetch": prefetch}.items():
        _check(name, value, isinstance(value, (bool, np.bool_)), "True or False")
    is_way = isinstance(compile, (bool, np.bool_)) or (isinstance(compile, str) and compile == "pure")
    _check("compile", compile, is_way, 'True, False or "pure"')
    if clip_grad_norm is not None:
        at_least_zero(clip_grad_norm=clip_grad_norm)


def check_generators(model: Any, ahead: Any) -> None:
    """Raise for a generator of the model that batches may be drawn from meanwhile, in whatever order it happens."""
    drawn = {id(generator): name for name, generator in named_generators(ahead).items()}
    for name, generator in named_generators(model).items():
        if id(generator) in drawn:
            raise ValueError(
                f"the generator {name} of the model is that of {drawn[id(generator)]}, and with prefetch=True nobody "
                "knows who draws first: give one of them another, such as rng.spawn(1)[0]."
            )


def _check(name: str, value: Any, right: bool, wanted: str) -> None:
    """Raise TypeError for an argument that is not right."""
    if isinstance(value, type):
        raise TypeError(f"got {name}={value.__name__}, which is a class; wanted {wanted}: make one, with its options.")
    if not right:
        raise TypeError(f"got {name}={textwrap.shorten(repr(value), 80, placeholder='...')}; wanted {wanted}.")


def functions_in(name: str, values: Any, wanted: str) -> list[Any]:
    """The functions of a list, or of anything else that a `for` loop takes, as a list."""
    listed = isinstance(values, Iterable) and not callable(values)
    functions = list(values) if listed else []
    _check(name, values, listed and all(map(callable, functions)), wanted)
    for function in functions:
        _check(f"one of {name}", function, True, wanted)
    return functions


def named_metrics(metrics: Metrics) -> dict[str, Metric]:
    """The metrics by name; those of a list have the names of their functions, or of their classes."""
    values = metrics.values() if isinstance(metrics, Mapping) else metrics
    functions = functions_in("metrics", values, "functions (prediction, y) in a list, or by name in a dict")
    names = metrics if isinstance(metrics, Mapping) else [getattr(f, "__name__", type(f).__name__) for f in functions]
    named = dict(zip(names, functions, strict=True))
    if len({"loss", *named}) <= len(functions) or any(not isinstance(n, str) or n.startswith("val_") for n in named):
        taken = 'not "loss", nor one with "val_" before it, which are taken'
        raise ValueError(f"metrics need names of their own, {taken}, and got {', '.join(map(str, names))}: give a dict")
    return named


def one_number(what: str, value: Any) -> float:
    """What a loss or a metric has returned, as a number."""
    array = numbers_of(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise TypeError(f"{what} returned {type(value).__name__} of shape {array.shape}; wanted one number. Reduce it.")
    return float(array.item())


def arrays_in(name: str, data: Any) -> Any:
    """Data as an array, or as a tuple or dict of arrays, where there are several."""
    if isinstance(data, (tuple, dict)) and data:
        return refilled(data, {key: arrays_in(f"{name}[{key!r}]", part) for key, part in items(data)})
    if isinstance(data, (str, os.PathLike)):
        wanted = 'wanted an array: open it, as np.load(path, mmap_mode="r")'
        raise TypeError(f"{name} got the path {str(data)!r}; {wanted}.")
    array = rows_of(name, data)
    if array.dtype.kind == "O":
        raise TypeError(f"{name} got {type(data).__name__} of objects; wanted numbers. Convert with astype.")
    return array
