"""Schedules: functions from the number of steps done to the learning rate of the next step. They have no state.

`fit` counts the steps from its own first one, and gives the optimizer back the learning rate that it had. In a loop of
your own, say `optimizer.lr = schedule(optimizer.steps)` before each step.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias

from minigrad.optim.checks import at_least_one, at_least_zero, fraction

Schedule: TypeAlias = Callable[[int], float]
"""A function from the number of steps done to the learning rate of the next one."""
P = ParamSpec("P")


class Shown:
    """A schedule that says how it was made."""

    def __init__(self, make: Callable[..., Schedule], args: Any, kwargs: Any) -> None:
        given = inspect.signature(make).bind(*args, **kwargs).arguments
        self.schedule = make(*args, **kwargs)
        self.text = f"{make.__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def __call__(self, step: int) -> float:
        return self.schedule(step)

    def __repr__(self) -> str:
        return self.text


def shown(make: Callable[P, Schedule]) -> Callable[P, Schedule]:
    """Let the schedules that a function makes say how they were made."""
    return functools.wraps(make)(lambda *args, **kwargs: Shown(make, args, kwargs))


@shown
def step_schedule(lr: float, every: int, gamma: float = 0.1) -> Schedule:
    """`lr`, multiplied by `gamma` after each `every` steps.

    >>> [step_schedule(1.0, every=2, gamma=0.5)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    at_least_zero(lr=lr, gamma=gamma)
    at_least_one(every=every)
    return lambda step: lr * gamma ** (step // every)


@shown
def exponential_schedule(lr: float, gamma: float) -> Schedule:
    """`lr`, multiplied by `gamma` after every step.

    >>> [exponential_schedule(1.0, gamma=0.5)(step) for step in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """
    at_least_zero(lr=lr, gamma=gamma)
    return lambda step: lr * gamma**step


@shown
def cosine_schedule(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """From `lr` to `final` in `steps` steps, along half a cosine (Loshchilov and Hutter, ICLR 2017), then constant.

    >>> [cosine_schedule(1.0, steps=2)(step) for step in range(4)]
    [1.0, 0.5, 0.0, 0.0]
    """
    at_least_zero(lr=lr, final=final)
    at_least_one(steps=steps)
    return lambda step: _cosine(lr, final, min(step / steps, 1))


@shown
def warmup_schedule(steps: int, then: Schedule | float) -> Schedule:
    """Linearly up to the first learning rate of `then` in `steps` steps (Goyal et al., 2017), and on with it then.

    >>> [warmup_schedule(2, then=1.0)(step) for step in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """
    at_least_zero(steps=steps, **({} if callable(then) else {"then": then}))
    after = then if callable(then) else lambda step: then
    return lambda step: after(0) * (step + 1) / steps if step < steps else after(step - steps)


@shown
def one_cycle_schedule(
    max_lr: float, steps: int, rise: float = 0.3, start_factor: float = 25.0, final_factor: float = 1e4
) -> Schedule:
    """Up to `max_lr` in the share `rise` of all `steps`, then down, each along half a cosine (Smith and Topin, 2018).

    It starts at max_lr / start_factor and ends, at the last step, at that divided by `final_factor`.

    >>> schedule = one_cycle_schedule(1.0, steps=10)
    >>> [round(schedule(step), 5) for step in (0, 2, 9)]
    [0.04, 1.0, 0.0]
    """
    at_least_zero(max_lr=max_lr, start_factor=start_factor, final_factor=final_factor)
    at_least_one(steps=steps)
    fraction(rise=rise)
    start = max_lr / start_factor
    peak = rise * steps - 1

    def schedule(step: int) -> float:
        if step <= peak:
            return _cosine(start, max_lr, step / peak if peak else 1)
        return _cosine(max_lr, start / final_factor, min((step - peak) / (steps - 1 - peak), 1))

    return schedule


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
