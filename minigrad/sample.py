"""Random numbers that are drawn by name, so that a function that is run again is given the same ones."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from minigrad.engine import Mode, call_other, composites, constants, outside

Rng: TypeAlias = "np.random.Generator | int | None"  # a string, since NumPy loads its generators only when used


def generator(rng: Rng, name: str = "rng") -> "np.random.Generator":
    """The generator that an argument `rng` stands for: itself, a new one with that seed, or for None one of any seed.

    All that draws takes its `rng` so. A seed gives the same numbers again wherever it is given: to draw different ones
    in many places, all of them reproducible, make one generator and hand it to each.

    >>> generator(0).integers(10, size=3)
    array([8, 6, 5])
    """
    if isinstance(rng, np.random.Generator):
        return rng
    is_seed = isinstance(rng, (int, np.integer)) and not isinstance(rng, bool) and rng >= 0
    if rng is not None and not is_seed:
        error = ValueError if isinstance(rng, (int, np.integer)) else TypeError
        wanted = "a seed (an integer of at least 0), a generator such as np.random.default_rng(0), or None"
        raise error(f"got {name}={rng!r}; wanted {wanted}.")
    return np.random.default_rng(rng)


def sample(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `function(*args, **kwargs)`, which gives something else each time, such as `rng.random`.

    A layer that says `sample(self.rng.random, x.shape)` for `self.rng.random(x.shape)` can be compiled: the compiled
    layer draws anew at each call, too. Where a function is run again to be differentiated, by `minigrad.checkpoint` or
    for higher derivatives of a compiled function, it is given the same numbers.

    >>> import numpy as np
    >>> sample(np.random.default_rng(0).integers, 10, size=3)
    array([8, 6, 5])
    """
    return call_other(sampled, (function, *args), kwargs)


def sampled(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The call that modes are shown for a sample."""
    return function(*args, **kwargs)


constants.add(sampled)


class Samples(Mode):
    """Keeps what is drawn in the list `drawn`; or, where it is given such a list, gives the same again."""

    def __init__(self, drawn: Sequence[Any] | None = None) -> None:
        self.drawn: list[Any] = []
        self.again = None if drawn is None else iter(drawn)

    def call(self, go_on: Callable[..., Any], function: Any, args: Any, kwargs: Any) -> Any:
        if go_on is call_other and function in composites:  # samples may be drawn in it
            return composites[function](*args, **kwargs)
        if function is sampled and self.again is not None:
            for drawn in self.again:
                return copy.copy(drawn)  # which may be written to
            raise RuntimeError("a function that is run again draws more samples than at first: it must do the same.")
        answer = outside(go_on, function, args, kwargs)
        if function is sampled:
            self.drawn.append(copy.copy(answer))
        return answer
