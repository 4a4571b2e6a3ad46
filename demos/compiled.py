"""The XOR network as a program: what `mg.compile` writes beside what the tutorials derive by hand.

By hand means: a network 2-3-1 with tanh and the mean squared error, whose derivatives, tanh_prime and mse_prime, are
worked out on paper and passed back layer by layer, and an update of every parameter. The program is written by the
machine, from the step of training that one writes with minigrad: the model, the loss, backward() and the optimizer.

eager      the step itself
compiled   the program, and at each call the step on stand-ins, to see whether it is still the same
pure       the program alone
"""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
Y = np.array([[0], [1], [1], [0]], np.float32)
WAYS = ["eager", "by hand", "compiled", "pure"]


def tanh_prime(a: Any) -> Any:
    """The derivative of a = tanh(z), by a."""
    return 1 - a**2


def mse_prime(wanted: Any, got: Any) -> Any:
    """The derivative of mean((got - wanted)**2), by got."""
    return 2 * (got - wanted) / got.size


def backward_propagation(parameters: list[Any], x: Any, y: Any) -> list[Any]:
    """The gradients of the mean squared error by weight 1, bias 1, weight 2 and bias 2."""
    w1, b1, w2, b2 = parameters
    a1 = np.tanh(x @ w1.T + b1)  # forward, layer by layer
    a2 = np.tanh(a1 @ w2.T + b2)
    dz2 = mse_prime(y, a2) * tanh_prime(a2)  # backward: what each layer receives, and what it passes on
    dz1 = dz2 @ w2 * tanh_prime(a1)
    return [dz1.T @ x, dz1.sum(axis=0), dz2.T @ a1, dz2.sum(axis=0)]


def gradient_descent(parameters: list[Any], x: Any, y: Any, rate: float) -> None:
    """One step: every parameter moves against its gradient."""
    for p, gradient in zip(parameters, backward_propagation(parameters, x, y), strict=True):
        p -= rate * gradient


def network(seed: int) -> nn.Sequential:
    """The layers; `nn.Tanh` is a composition, which a program calls by NumPy's name for it."""
    rng = np.random.default_rng(seed)
    return nn.Sequential(nn.Linear(2, 3, rng=rng), nn.Tanh(), nn.Linear(3, 1, rng=rng), nn.Tanh())


def stepping(way: str, seed: int, rate: float) -> tuple[nn.Sequential, Callable[[Any, Any], Any]]:
    """A model, and what does one step of gradient descent on it: by hand, eager, compiled, or compiled and pure."""
    model = network(seed)
    if way == "by hand":
        parameters = [p.data for p in model.parameters()]
        return model, lambda x, y: gradient_descent(parameters, x, y, rate)
    optimizer = mg.optim.SGD(model.parameters(), lr=rate)

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        nn.mse_loss(model(x), y).backward()
        optimizer.step()

    return model, step if way == "eager" else mg.compile(step, pure=way == "pure")


def speed(step: Callable[[Any, Any], Any], steps: int) -> float:
    """Steps per second."""
    start = time.perf_counter()
    for _ in range(steps):
        step(X, Y)
    return steps / max(time.perf_counter() - start, 1e-9)


def largest_difference(seed: int, rate: float) -> float:
    """Between the parameters after a step by hand and after one of the program, which is printed beside the hand's."""
    (by_hand, step_by_hand), (compiled, step) = (stepping(way, seed, rate) for way in ("by hand", "compiled"))
    step_by_hand(X, Y)
    step(X, Y)
    print("by hand\n=======\n")
    for function in (tanh_prime, mse_prime, backward_propagation, gradient_descent):
        print(inspect.getsource(function))
    print(f"compiled\n========\n\n{step.source}")
    pairs = zip(by_hand.parameters(), compiled.parameters(), strict=True)
    return max(float(np.max(np.abs(p.data - q.data))) for p, q in pairs)


def main(*, steps: int = 3000, rate: float = 0.5, seed: int = 0) -> float:
    """Print both programs, train in each way, and return the largest difference between the first steps of the two."""
    if seed < 0 or steps < 1:
        raise ValueError(f"got seed={seed} and steps={steps}; wanted at least 0, and at least 1")
    largest = largest_difference(seed, rate)
    print(f"the largest difference between their parameters after a step: {largest:.1g}\n")
    speeds = {}
    for way in WAYS:
        model, step = stepping(way, seed, rate)
        speeds[way] = speed(step, steps)
    for (a, b), wanted, got in zip(X, Y, mg.predict(model, X), strict=True):  # of the last, the pure one
        print(f"{a:.0f} xor {b:.0f} = {wanted.item():.0f}    predicted {got.item():7.4f}")
    print("steps per second: " + ", ".join(f"{way} {number:,.0f}" for way, number in speeds.items()))
    return largest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="of gradient descent, in each way; default: %(default)s")
    parser.add_argument("--rate", type=float, help="the learning rate; default: %(default)s")
    parser.add_argument("--seed", type=int, help="of the first weights; default: %(default)s")
    parser.set_defaults(**main.__kwdefaults__)
    try:
        main(**vars(parser.parse_args()))
    except ValueError as problem:
        parser.error(str(problem))
