"""What a network looks at when it reads a digit: the gradient by the pixels, and not by the weights.

Evidence: a pixel times the slope of the winning score by it, less the average of all scores. Red pixels speak for the
digit that the network has read, blue ones against it.

Nudge: the smallest change of the pixels that makes the network read another digit, which people hardly see. Each step
goes to where the nearest other score would draw level if scores were linear (DeepFool: Moosavi-Dezfooli et al., 2016,
arXiv:1511.04599), and pixels stay between white and black.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad import nn

HERE = Path(__file__).resolve().parent


def trained(digits: mg.data.Digits, epochs: int, seed: int) -> nn.Sequential:
    """A network that reads digits."""
    rng = np.random.default_rng(seed)
    first, second, last = nn.Linear(784, 100, rng=rng), nn.Linear(100, 50, rng=rng), nn.Linear(50, 10, rng=rng)
    model = nn.Sequential(first, nn.relu, second, nn.relu, last)
    adam = mg.optim.Adam(model.parameters(), lr=0.003)
    mg.fit(model, nn.cross_entropy, adam, digits, epochs=epochs, batch_size=100, seed=seed, progress=False)
    return model


def evidence(model: Any, images: NDArray[Any]) -> NDArray[Any]:
    """What each pixel adds to the score of the digit that is read, beyond what it adds to all scores."""
    rows, read = np.arange(len(images)), mg.predict(model, images).argmax(axis=1)

    def lead(x: Any) -> Any:
        scores = model(x)
        return np.sum(scores[rows, read] - np.mean(scores, axis=1))

    return images * mg.grad(lead)(images)


def smallest_nudge(model: Any, images: NDArray[Any], steps: int = 50) -> NDArray[Any]:
    """The change of each image after which another digit is read."""
    rows, read, x = np.arange(len(images)), mg.predict(model, images).argmax(axis=1), images.copy()
    for _ in range(steps):
        scores = mg.predict(model, x)
        going = scores.argmax(axis=1) == read
        if not going.any():
            break
        slopes = np.stack([mg.grad(lambda x, k=k: np.sum(model(x)[:, k]))(x) for k in range(10)], axis=1)
        slopes -= slopes[rows, read][:, None]
        leads, lengths = scores[rows, read][:, None] - scores, np.linalg.norm(slopes, axis=2) + 1e-9
        distances = leads / lengths
        distances[rows, read] = np.inf
        nearest = distances.argmin(axis=1)
        steps_there = 1.02 * (leads[rows, nearest] + 1e-3) / lengths[rows, nearest] ** 2
        x += np.where(going, steps_there, 0)[:, None] * slopes[rows, nearest]
        x = np.clip(x, 0, 1)
    return x - images


def main(*, epochs: int = 10, seed: int = 0, pictures: Path = HERE / "pictures") -> float:
    """Train, nudge 200 held-out digits that are read rightly, draw; returns the median nudge in parts of the image."""
    digits, (images, labels) = mg.data.load_mnist(HERE / "data" / "mnist_5k.npz")
    model = trained(digits, epochs, seed)
    right = np.flatnonzero(mg.predict(model, images).argmax(axis=1) == labels)[:200]
    if not len(right):
        raise SystemExit("the network reads no digit rightly yet: give it more epochs")
    images, labels = images[right], labels[right]
    nudges = smallest_nudge(model, images)
    noise = np.random.default_rng(seed).normal(size=nudges.shape).astype(np.float32)
    noise *= (np.linalg.norm(nudges, axis=1) / np.linalg.norm(noise, axis=1))[:, None]
    changed, by_noise = (np.mean(mg.predict(model, images + x).argmax(axis=1) != labels) for x in (nudges, noise))
    size = float(np.median(np.linalg.norm(nudges, axis=1) / np.linalg.norm(images, axis=1)))
    print(f"a nudge by {size:.0%} of the image's length changes {changed:.0%} of {len(right)} right verdicts")
    print(f"random noise of the same size changes {by_noise:.0%} of them")
    print(draw(model, images, labels, nudges, pictures / "saliency.png"))
    return size


def draw(model: Any, images: NDArray[Any], labels: NDArray[Any], nudges: NDArray[Any], path: Path) -> str:
    """One digit of each kind: itself, the evidence in it, the nudge, and both together."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "no picture: it needs matplotlib (pip install matplotlib)"
    chosen = [np.flatnonzero(labels == digit)[0] for digit in range(10) if digit in labels]
    images, nudges = images[chosen], nudges[chosen]
    before, after = (mg.predict(model, x).argmax(axis=1) for x in (images, images + nudges))
    rows = [
        ("digit", images, "gray_r", 1, [f"read as {digit}" for digit in before]),
        ("evidence: red for,\nblue against", evidence(model, images), "RdBu_r", 0, [""] * len(chosen)),
        ("smallest nudge", nudges, "RdBu_r", 0, [""] * len(chosen)),
        ("digit and nudge", images + nudges, "gray_r", 1, [f"read as {digit}" for digit in after]),
    ]
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    for axes_of_row, (title, pictures, colours, greatest, captions) in zip(
        figure.subplots(4, len(chosen), squeeze=False), rows, strict=True
    ):
        for axes, picture, caption in zip(axes_of_row, pictures, captions, strict=True):
            limit = greatest or np.abs(picture).max() + 1e-9
            axes.imshow(picture.reshape(28, 28), cmap=colours, vmin=0 if greatest else -limit, vmax=limit)
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(caption, fontsize=9, color="#D55E00" if title.endswith("and nudge") else "#444444")
        axes_of_row[0].set_ylabel(title, fontsize=9)
    figure.suptitle("What a network sees in ten held-out digits, and how little makes it see another one", fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return f"picture: {path}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, help="of training on 4,000 digits; default: %(default)s")
    parser.add_argument("--seed", type=int, help="of first weights, order of digits and noise; default: %(default)s")
    parser.add_argument("--pictures", type=Path, help="the folder to draw into; default: pictures, beside this file")
    parser.set_defaults(**main.__kwdefaults__)
    main(**vars(parser.parse_args()))
