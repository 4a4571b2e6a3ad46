"""Checks of the numbers that optimizers, schedules and callbacks are given."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def _from_zero(limit: float, wanted: str, options: Mapping[str, Any]) -> None:
    """Raise TypeError for what is no single real number, and ValueError for what is below 0, or not below the limit."""
    for name, value in options.items():
        is_scalar = getattr(value, "ndim", None) == 0 and value.dtype.kind in "iuf"
        if isinstance(value, bool) or not (isinstance(value, (int, float)) or is_scalar):
            hint = ", which fit(schedule=...) asks for one before each step" if callable(value) else ""
            raise TypeError(f"got {name}={value!r}{hint}; wanted a number.")
        if not 0 <= value < limit:
            raise ValueError(f"{name}={value}: it must be at least 0{wanted}")


def at_least_zero(**options: Any) -> None:
    _from_zero(math.inf, ", and finite", options)


def fraction(**options: Any) -> None:
    _from_zero(1, " and below 1", options)


def at_least_one(**options: Any) -> None:
    for name, value in options.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise TypeError(f"got {name}={value!r}; wanted an integer of at least 1.")
        if value < 1:
            raise ValueError(f"{name}={value}: it must be at least 1")
