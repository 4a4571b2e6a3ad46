"""One measurement in a process of its own: `... worker time minigrad 2-3-1@4 1 0.1` prints JSON."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from . import layers
from .contenders import CONTENDERS, PRODUCTS, products
from .functions import EVALUATORS, arrays, loss_in
from .layers import LAYERS
from .networks import NETWORKS, problem


def answer_of(contender: str, name: str, threads: int = 1) -> tuple[Callable[[], Any], list[float]]:
    """What a contender is to be timed at, and what it computes.

    That is the loss of the tenth step of training, after the updates of all others; or the value of a function and the
    length of its gradient.
    """
    if name in NETWORKS or name in LAYERS:
        step = layers.start(contender, name) if name in LAYERS else CONTENDERS[contender].start(name)
        losses = [step() for _ in range(10)]
        return step, [float(losses[-1].item())]
    evaluate = EVALUATORS[contender].build(name, arrays(name), threads)
    value, gradient = evaluate()
    return evaluate, [float(value.item()), float(np.linalg.norm(np.asarray(gradient)))]


def seconds_per_call(f: Callable[[], Any], seconds: float) -> float:
    """The median over blocks of calls, each block long enough for the clock; `f` has been called before."""

    def block(calls: int) -> float:
        start = perf_counter()
        for _ in range(calls):
            answer = f()
        (answer[0] if isinstance(answer, tuple) else answer).item()  # waits for what is computed in the background
        return (perf_counter() - start) / calls

    calls, times, end = max(1, round(0.01 / block(1))), [], perf_counter() + seconds
    while len(times) < 3 or perf_counter() < end:
        times.append(block(calls))
    return median(times)


def time(contender: str, name: str, threads: str, seconds: str) -> dict[str, Any]:
    """The time of a training step of a network, or of the value and gradient of a function, and what came of it."""
    if contender == PRODUCTS:
        f, answers = products(*problem(name)), []
        f()
    else:
        f, answers = answer_of(contender, name, int(threads))
    return {"seconds": seconds_per_call(f, float(seconds)), "answers": answers}


def trace(network: str) -> dict[str, Any]:
    """How much longer the first step of a compiled network takes than a later one."""
    CONTENDERS["minigrad"].start(network)()  # whatever is imported on the way is not counted
    step, times = CONTENDERS["compiled step"].start(network), []
    for _ in range(10):
        start = perf_counter()
        step()
        times.append(perf_counter() - start)
    return {"seconds": times[0] - median(times[1:])}


def first(name: str) -> dict[str, Any]:
    """How long the first compiled step of layers takes, with all that it is made of."""
    step = layers.start("compiled step", name)
    start = perf_counter()
    step().item()
    return {"seconds": perf_counter() - start}


def growth(*lengths: str) -> dict[str, Any]:
    """How long it takes to trace and compile loops of such lengths, value and gradient, per recorded call."""
    import minigrad as mg

    def first_call(steps: int) -> float:
        euler = mg.compile(mg.value_and_grad(loss_in(np, f"simulation@{steps}")))
        start = perf_counter()
        euler(*arrays("simulation@1"))
        return (perf_counter() - start) / len(euler.newest().record.events)

    first_call(10)
    return {"seconds": [first_call(int(length)) for length in lengths]}


def batches(network: str, steps: int = 20) -> dict[str, Any]:
    """How many programs a step makes that finds a new batch of the same shape in a global variable each time."""
    global batch
    import minigrad as mg
    from minigrad import nn

    (w, b), *_ = problem(network)[0]
    linear = nn.Linear(*w.shape)
    optimizer = mg.optim.SGD(linear.parameters(), lr=0.1)
    rng = np.random.default_rng(0)

    @mg.compile
    def step() -> Any:
        optimizer.zero_grad()
        x, y = batch
        loss = nn.mse_loss(linear(x), y)
        loss.backward()
        optimizer.step()
        return loss

    losses = set()
    for _ in range(steps):
        batch = rng.random((128, len(w)), np.float32), rng.random((128, len(b)), np.float32)
        losses.add(step().item())
    return {"programs": step.traces, "losses": len(losses)}


def memory(contender: str, network: str) -> dict[str, Any]:
    """The bytes alive at the peak of a training step: parameters, gradients and all else, but not the data."""
    answer_of(contender, network)  # whatever is imported and cached on the way is not counted
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
    choices = [time, trace, first, growth, batches, memory, operation]
    measurements: dict[str, Callable[..., Any]] = {f.__name__: f for f in choices}
    print(json.dumps(measurements[measurement](*arguments)))
