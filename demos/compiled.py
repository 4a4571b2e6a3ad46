"""The XOR network as a program: what `mg.compile` writes beside what the tutorials derive by hand.

By hand means: a network 2-3-1 with tanh and the mean squared error, whose derivatives, tanh_prime and mse_prime, are
worked out on paper and passed back layer by layer. The program is written by the machine, from the model and the loss.
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


def network(seed: int) -> nn.Sequential:
    """The layers; `nn.Tanh` is a composition, which a program calls by NumPy's name for it."""
    rng = np.random.default_rng(seed)
    return nn.Sequential(nn.Linear(2, 3, rng=rng), nn.Tanh(), nn.Linear(3, 1, rng=rng), nn.Tanh())


def loss_of(model: nn.Sequential) -> Callable[..., Any]:
    def loss(x: Any, y: Any) -> Any:
        return nn.mse_loss(model(x), y)

    return loss


def stepping(way: str, seed: int, rate: float) -> tuple[nn.Sequential, Callable[[], None]]:
    """A model, and what does one step of gradient descent on it: by hand, eager or compiled."""
    model = network(seed)
    if way == "by hand":
        parameters = [p.data for p in model.parameters()]

        def step() -> None:
            for p, g in zip(parameters, backward_propagation(parameters, X, Y), strict=True):
                p -= rate * g

    else:
        loss = mg.compile(loss_of(model)) if way == "compiled" else loss_of(model)
        optimizer = mg.optim.SGD(model.parameters(), lr=rate)

        def step() -> None:
            optimizer.zero_grad()
            loss(X, Y).backward()
            optimizer.step()

    return model, step


def speed(step: Callable[[], None], steps: int) -> float:
    """Steps per second."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return steps / max(time.perf_counter() - start, 1e-9)


def largest_difference(seed: int) -> float:
    """Between the gradients by hand and those of the compiled program, which is printed beside the hand's."""
    model = network(seed)
    loss = mg.compile(loss_of(model))
    loss(X, Y).backward()
    by_hand = backward_propagation([p.data for p in model.parameters()], X, Y)
    pairs = zip(model.parameters(), by_hand, strict=True)
    print("by hand\n=======\n")
    for function in (tanh_prime, mse_prime, backward_propagation):
        print(inspect.getsource(function))
    print(f"compiled\n========\n\n{loss.source}")
    return max(float(np.max(np.abs(p.grad - g))) for p, g in pairs)


def main(*, steps: int = 3000, rate: float = 0.5, seed: int = 0) -> float:
    """Print both programs, train by each, and return the largest difference between their gradients."""
    largest = largest_difference(seed)
    print(f"the largest difference between their gradients: {largest:.1g}\n")
    speeds = {}
    for way in ("eager", "by hand", "compiled"):
        model, step = stepping(way, seed, rate)
        speeds[way] = speed(step, steps)
    for (a, b), wanted, got in zip(X, Y, mg.predict(model, X), strict=True):  # of the last, the compiled one
        print(f"{a:.0f} xor {b:.0f} = {wanted.item():.0f}    predicted {got.item():7.4f}")
    print("steps per second: " + ", ".join(f"{way} {number:,.0f}" for way, number in speeds.items()))
    return largest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="of gradient descent, in each way; default: %(default)s")
    parser.add_argument("--rate", type=float, help="the learning rate; default: %(default)s")
    parser.add_argument("--seed", type=int, help="of the first weights; default: %(default)s")
    parser.set_defaults(**main.__kwdefaults__)
    main(**vars(parser.parse_args()))
