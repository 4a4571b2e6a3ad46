"""The arguments of a training: what is wrong with them is said before the first step."""

import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from minigrad.engine import Array
from minigrad.nn.state import parameters
from minigrad.optim import Optimizer

Metric: TypeAlias = Callable[[Array, Array], Any]
Metrics: TypeAlias = Mapping[str, Metric] | Iterable[Metric]


def check_parts(model: Any, loss: Any, optimizer: Any, epochs: Any, schedule: Any) -> None:
    """Raise for what would fail later, or train nothing."""
    if not isinstance(epochs, (int, np.integer)) or epochs < 0:
        raise ValueError(f"got epochs={epochs!r}; wanted an integer of at least 0.")
    _check("model", model, callable(model), "a module, or any function of x")
    _check("loss", loss, callable(loss), "a function (prediction, y) that gives one number, such as nn.mse_loss")
    its_form = "an optimizer, such as optim.Adam(model.parameters())"
    _check("optimizer", optimizer, isinstance(optimizer, Optimizer), its_form)
    its_form = "a function from the number of steps done to the learning rate (a constant one is for the optimizer)"
    _check("schedule", schedule, schedule is None or callable(schedule), its_form)
    ours = parameters(model)  # none in a plain function, which does not show those that it uses
    if ours and set(ours).isdisjoint(parameters(optimizer)):
        raise ValueError(
            "the optimizer moves no parameter of the model, so the model would learn nothing: make the optimizer of "
            "model.parameters(). If it is to move others, give the model as a function, lambda x: model(x)."
        )


def _check(name: str, value: Any, right: bool, wanted: str) -> None:
    """Raise TypeError for an argument that is not right."""
    if not right:
        raise TypeError(f"got {name}={textwrap.shorten(repr(value), 80, placeholder='...')}; wanted {wanted}.")


def functions_in(name: str, values: Any, wanted: str) -> list[Any]:
    """The functions of a list, or of anything else that a `for` loop takes, as a list."""
    listed = isinstance(values, Iterable) and not callable(values)
    functions = list(values) if listed else []
    _check(name, values, listed and all(map(callable, functions)), wanted)
    return functions


def named_metrics(metrics: Metrics) -> dict[str, Metric]:
    """The metrics by name; those of a list have the names of their functions, or of their classes."""
    values = metrics.values() if isinstance(metrics, Mapping) else metrics
    functions = functions_in("metrics", values, "functions (prediction, y) in a list, or by name in a dict")
    names = metrics if isinstance(metrics, Mapping) else [getattr(f, "__name__", type(f).__name__) for f in functions]
    named = dict(zip(names, functions, strict=True))
    if len({"loss", *named}) <= len(functions):
        raise ValueError(f'metrics need names of their own, not "loss", and got {", ".join(names)}: give a dict')
    return named


def samples_in(name: str, data: tuple[Any, Any]) -> tuple[Array, Array]:
    """The samples and targets of a pair, as arrays of one length."""
    is_pair = isinstance(data, (tuple, list)) and len(data) == 2
    _check(name, data, is_pair, "a pair of arrays (x, y)")
    x, y = map(np.asarray, data)
    samples, targets = (len(array) if array.ndim else 0 for array in (x, y))
    if samples != targets or not samples:
        raise ValueError(f"{name}: got {samples} samples and {targets} targets; wanted as many, and at least one")
    return x, y
