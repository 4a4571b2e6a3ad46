"""One training step of networks of larger layers, by minigrad and by PyTorch, with one program for both.

Layers have the same names and arguments there and here, and so have their weights. A step computes a loss, its
gradients and the update of plain gradient descent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Step = Callable[[], Any]
CONTENDERS = ["PyTorch", "minigrad", "compiled step", "compiled step, pure"]


def lenet(nn: Any) -> Any:
    convolutions = [nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(256, 10))


def two_convolutions(nn: Any, stride: int) -> Any:
    return nn.Sequential(nn.Conv2d(1, 16, 1), nn.Conv2d(16, 32, 3, stride))


LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "LeNet@64": (lenet, (64, 1, 28, 28)),
    "conv 3x3 16-32@64": (lambda nn: two_convolutions(nn, 1), (64, 1, 28, 28)),
    "conv 3x3 16-32 stride 2@64": (lambda nn: two_convolutions(nn, 2), (64, 1, 28, 28)),
    "GRU 128, 64 steps@32": (lambda nn: nn.GRU(128, 128), (64, 32, 128)),
    "attention 64, 4 heads@16": (lambda nn: nn.MultiheadAttention(64, 4, batch_first=True), (16, 64, 64)),
}


def output_of(name: str, model: Any, x: Any) -> Any:
    if name.startswith("attention"):
        return model(x, x, x, need_weights=False)[0]
    return model(x)[0] if name.startswith("GRU") else model(x)


def start(contender: str, name: str) -> Step:
    """A step of training, which returns the loss, for the same weights and data in every process."""
    import minigrad as mg

    rng = np.random.default_rng(0)
    build, shape = LAYERS[name]
    model, nn, optim, array = build(mg.nn), mg.nn, mg.optim, np.asarray
    state = {key: rng.uniform(-0.1, 0.1, w.shape).astype(np.float32) for key, w in model.state_dict().items()}
    if contender == "PyTorch":
        import torch

        nn, optim, array = torch.nn, torch.optim, torch.tensor
        model, state = build(nn), {key: torch.tensor(w) for key, w in state.items()}
    model.load_state_dict(state)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    x, labels = array(rng.random(shape, np.float32)), array(rng.integers(0, 10, shape[0]))
    cross_entropy = nn.CrossEntropyLoss()

    def step(x: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        y = output_of(name, model, x)
        loss = cross_entropy(y, labels) if name.startswith("LeNet") else (y * y).mean()
        loss.backward()
        optimizer.step()
        return loss

    if contender.startswith("compiled"):
        step = mg.compile(step, threads=1, pure=contender.endswith("pure"))
    return lambda: step(x, labels)
