"""One measurement in a process of its own: `python -m tests.benchmarks.worker step minigrad 2-3-1@4` prints JSON."""

from __future__ import annotations

import json
import sys
import tracemalloc
from statistics import median
from time import perf_counter
from typing import Any

from .contenders import CONTENDERS
from .networks import problem


def loss_after(contender: str, network: str, steps: int = 10) -> float:
    """The loss that a contender computes in its last of so many steps, after the updates of all others."""
    step = CONTENDERS[contender].build(*problem(network))
    for _ in range(steps - 1):
        step()
    return float(step().item())


def step(contender: str, network: str, seconds: str) -> dict[str, Any]:
    """The time of a training step: the median over blocks of steps, each block long enough for the clock."""
    one_step = CONTENDERS[contender].build(*problem(network))

    def block(steps: int) -> float:
        start = perf_counter()
        for _ in range(steps):
            loss = one_step()
        loss.item()  # waits for libraries that compute in the background
        return (perf_counter() - start) / steps

    block(10)
    steps, times, end = max(1, round(0.01 / block(10))), [], perf_counter() + float(seconds)
    while len(times) < 3 or perf_counter() < end:
        times.append(block(steps))
    return {"seconds": median(times), "loss": loss_after(contender, network)}


def memory(contender: str, network: str) -> dict[str, Any]:
    """The bytes alive at the peak of a training step: parameters, gradients and all else, but not the data."""
    loss_after(contender, network)  # whatever is imported and cached on the way is not counted
    layers, x, y = problem(network)
    tracemalloc.start()
    one_step = CONTENDERS[contender].build([(w.copy(), b.copy()) for w, b in layers], x, y)
    one_step()
    tracemalloc.reset_peak()
    one_step()
    return {"bytes": tracemalloc.get_traced_memory()[1]}


def operation(length: int = 1000, repeats: int = 51) -> dict[str, Any]:
    """The time per recorded operation on 0-d arrays, in a chain of products and sums that all need gradients."""
    from minigrad import Tensor

    a, b, x = (Tensor(value, requires_grad=True) for value in (0.999, 0.001, 0.5))
    forward, backward = [], []
    for _ in range(repeats):
        start, y = perf_counter(), x
        for _ in range(length // 2):
            y = y * a + b
        middle = perf_counter()
        y.backward()
        forward.append((middle - start) / length)
        backward.append((perf_counter() - middle) / length)
    return {"forward": median(forward), "backward": median(backward)}


if __name__ == "__main__":
    measurement, *arguments = sys.argv[1:]
    print(json.dumps({"step": step, "memory": memory, "operation": operation}[measurement](*arguments)))
