"""A model that no layer provides, as plain functions and a dict of parameters: it learns the quantiles of a noisy wave.

It has a skip connection, an activation x * sigmoid(beta * x) that learns its own beta, and a loss of its own.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg

QUANTILES = np.array([0.1, 0.5, 0.9])


def swish(x: Any, beta: Any) -> Any:
    return x / (1 + np.exp(-beta * x))


def model(p: dict[str, Any], x: Any) -> Any:
    h = swish(x @ p["first"] + p["shift"], p["beta"][0])
    h = h + swish(h @ p["second"], p["beta"][1])  # the skip connection
    return h @ p["last"] + p["level"]


def loss(prediction: Any, y: Any) -> Any:
    """Least when the share QUANTILES[i] of all y lies below prediction[:, i]."""
    above = y - prediction
    return np.mean(np.maximum(QUANTILES * above, (QUANTILES - 1) * above))


def main(*, epochs: int = 600, seed: int = 0, pictures: Path = Path(__file__).parent / "pictures") -> float:
    """Fit 500 points, draw, and return how far the median is from the true wave (root mean square)."""
    if seed < 0 or epochs < 0:
        raise ValueError(f"got seed={seed} and epochs={epochs}; wanted numbers of at least 0")
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-3, 3, (500, 1)), axis=0)
    wave = np.sin(2 * x) + x / 3
    y = wave + (x + 4) / 20 * rng.normal(size=x.shape)  # the noise grows from left to right

    shapes = {"first": (1, 16), "shift": 16, "second": (16, 16), "last": (16, 3), "level": 3}
    p = {name: mg.Tensor(rng.normal(0, 0.5, shape), requires_grad=True) for name, shape in shapes.items()}
    p["beta"] = mg.Tensor(np.ones((2, 16)), requires_grad=True)
    adam = mg.optim.Adam(mg.nn.parameters(p), lr=0.02)
    for _ in range(epochs):
        adam.zero_grad()
        loss(model(p, x), y).backward()
        adam.step()

    low, median, high = model(p, x).data.T
    error = float(np.sqrt(np.mean((median - wave[:, 0]) ** 2)))
    inside = np.mean((low < y[:, 0]) & (y[:, 0] < high))
    print(f"the median is {error:.3f} off the true wave; {inside:.0%} of the points lie in the 80% band")
    print(f"beta, 1 at first, now lies between {p['beta'].data.min():.2f} and {p['beta'].data.max():.2f}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("For the picture: pip install matplotlib")
        return error
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(title="A custom model, fitted to 500 points", xlabel="x", ylabel="y")
    axes.plot(x, y, ".", color="#8d99ae", markersize=4, label="data")
    axes.fill_between(x[:, 0], low, high, color="#ef8354", alpha=0.35, linewidth=0, label="learned band of 80%")
    axes.plot(x, median, color="#d1495b", linewidth=2.5, label="learned median")
    axes.plot(x, wave, "--", color="#2d3142", linewidth=1.2, label="true wave")
    axes.legend(frameon=False)
    pictures.mkdir(parents=True, exist_ok=True)
    figure.savefig(pictures / "custom-model.png", dpi=120)
    print(f"picture: {pictures / 'custom-model.png'}")
    return error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, help="steps on all points; default: %(default)s")
    parser.add_argument("--seed", type=int, help="of the data and the first parameters; default: %(default)s")
    parser.add_argument("--pictures", type=Path, help="the folder to draw into; default: pictures, beside this file")
    parser.set_defaults(**main.__kwdefaults__)
    try:
        main(**vars(parser.parse_args()))
    except ValueError as problem:
        parser.error(str(problem))
