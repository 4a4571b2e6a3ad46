"""The networks that are trained, the numbers that all contenders start from, and the check that they agree."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]
Layers = list[tuple[Array, Array]]  # weights (in, out) and biases (out,), one pair per layer

RATE = 0.1  # of gradient descent; Adam has a hundredth of it


class Network(NamedTuple):
    sizes: tuple[int, ...]
    batch: int
    adam: bool = False  # and otherwise plain gradient descent


NETWORKS = {
    "2-3-1@4": Network((2, 3, 1), 4),
    "784-30-10@10": Network((784, 30, 10), 10),
    "784-100-50-10@1": Network((784, 100, 50, 10), 1),
    "784-100-50-10@128": Network((784, 100, 50, 10), 128),
}
NETWORKS |= {f"{name} Adam": network._replace(adam=True) for name, network in NETWORKS.items()}
NETWORKS["784-512-512-10@128"] = Network((784, 512, 512, 10), 128)


def problem(name: str) -> tuple[Layers, Array, Array]:
    """Fresh float32 layers, inputs and targets for a network, the same ones in every process.

    A network of two inputs learns XOR; the others see noise in [0, 1) for images and one-hot targets.
    """
    sizes, batch, _ = NETWORKS[name]
    rng = np.random.default_rng(0)
    layers = []
    for n, m in itertools.pairwise(sizes):
        w = rng.standard_normal((n, m), np.float32) / np.float32(np.sqrt(n))
        layers.append((w, rng.standard_normal(m, np.float32) / 10))
    if sizes[0] == 2:
        x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
        return layers, x, np.array([[0], [1], [1], [0]], np.float32)
    x = rng.random((batch, sizes[0]), np.float32)
    return layers, x, np.eye(sizes[-1], dtype=np.float32)[rng.integers(0, sizes[-1], batch)]


def check_agreement(name: str, answers: Mapping[str, float], tolerance: float = 1e-4) -> None:
    """Raise unless all contenders have come to the same number: a faster wrong answer is no result."""
    reference = float(np.median(list(answers.values())))
    if not np.allclose(list(answers.values()), reference, rtol=tolerance, atol=0):
        figures = ", ".join(f"{contender} {answer:.7g}" for contender, answer in answers.items())
        raise ValueError(f"the contenders disagree about {name}: {figures}")
