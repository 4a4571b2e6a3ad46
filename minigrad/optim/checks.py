"""Checks of the numbers that optimizers and schedules are given."""

import math


def at_least_zero(**options: float) -> None:
    for name, value in options.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value}: it must be at least 0, and finite")


def fraction(**options: float) -> None:
    for name, value in options.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value}: it must be at least 0 and below 1")


def at_least_one(**options: int) -> None:
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"{name}={value}: it must be at least 1")
