"""Ten labelled points in the plane, told apart by three networks: written out by neurons, by arrays, and by layers.

The first is a 2-2-2 network of single numbers, to see that there is nothing else inside. The second, 2-3-2, does the
same with matrices. The third leaves the loop to `fit`. All have one output for each class; the larger one decides.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor, nn

CLASS_0 = [(2.7810836, 2.550537003), (1.465489372, 2.362125076), (3.396561688, 4.400293529)]
CLASS_0 += [(1.38807019, 1.850220317), (3.06407232, 3.005305973)]
CLASS_1 = [(7.627531214, 2.759262235), (5.332441248, 2.088626775), (6.922596716, 1.77106367)]
CLASS_1 += [(8.675418651, -0.242068655), (7.673756466, 3.508563011)]
POINTS = np.array([*CLASS_0, *CLASS_1])
LABELS = np.repeat([0, 1], 5)
ONE_HOT = mg.data.one_hot(LABELS, 2)

Model = Callable[[Any], Any]  # from points (n, 2) to the outputs for the two classes (n, 2)


def by_neurons(rng: np.random.Generator, rate: float = 0.5, epochs: int = 40) -> Model:
    """A 2-2-2 network in which every weight and every output is a number of its own."""

    def number() -> Tensor:
        return Tensor(rng.uniform(-0.7, 0.7), requires_grad=True)

    def forward(x1: Any, x2: Any) -> tuple[Any, Any]:
        h1 = nn.sigmoid(w[0] * x1 + w[1] * x2 + w[2])
        h2 = nn.sigmoid(w[3] * x1 + w[4] * x2 + w[5])
        o1 = nn.sigmoid(w[6] * h1 + w[7] * h2 + w[8])
        o2 = nn.sigmoid(w[9] * h1 + w[10] * h2 + w[11])
        return o1, o2

    w = [number() for _ in range(12)]
    for _ in range(epochs):
        for i in rng.permutation(len(POINTS)):
            o1, o2 = forward(*POINTS[i])
            error = ((o1 - ONE_HOT[i, 0]) ** 2 + (o2 - ONE_HOT[i, 1]) ** 2) / 2
            error.backward()
            with mg.no_grad():
                for weight in w:
                    weight -= rate * weight.grad  # which moves it
                    weight.zero_grad()
    return lambda points: np.stack(forward(points[:, 0], points[:, 1]), axis=1)  # arrays pass through it just as well


def by_arrays(rng: np.random.Generator, rate: float = 0.5, epochs: int = 40) -> Model:
    """A 2-3-2 network of two matrices and two vectors, and the loop that trains it."""
    w1, b1, w2, b2 = (Tensor(rng.uniform(-0.7, 0.7, shape), requires_grad=True) for shape in [(2, 3), 3, (3, 2), 2])
    optimizer = mg.optim.SGD([w1, b1, w2, b2], lr=rate)

    def forward(x: Any) -> Any:
        return nn.sigmoid(nn.sigmoid(x @ w1 + b1) @ w2 + b2)

    for _ in range(epochs):
        for i in rng.permutation(len(POINTS)):
            optimizer.zero_grad()
            nn.mse_loss(forward(POINTS[i]), ONE_HOT[i]).backward()
            optimizer.step()
    return forward


def by_fit(rng: np.random.Generator, rate: float = 0.05, epochs: int = 200) -> Model:
    """Three sigmoid units and two linear ones from the shelf, trained by `fit` with Adam."""
    model = nn.Sequential(nn.Linear(2, 3, rng=rng), nn.Sigmoid(), nn.Linear(3, 2, rng=rng))
    print(model.summary((2,)), end="\n\n")
    adam = mg.optim.Adam(model.parameters(), lr=rate)
    history = mg.fit(
        model, nn.mse_loss, adam, (POINTS, ONE_HOT), epochs=epochs, metrics=[mg.accuracy], seed=0, progress=False
    )
    for epoch in sorted({1, *range(50, epochs + 1, 50), epochs}):
        print(f"epoch {epoch:3}  " + "  ".join(f"{name} {numbers[epoch - 1]:.4f}" for name, numbers in history.items()))
    return model


def main(*, seed: int = 0, pictures: Path = Path(__file__).parent / "pictures") -> int:
    """Train all three, print and draw what they say, and return the smallest number of right answers."""
    if seed < 0:
        raise ValueError(f"got seed={seed}; wanted a number of at least 0")
    ways = {"neuron by neuron": by_neurons, "as arrays": by_arrays, "by fit": by_fit}
    models = {name: train(np.random.default_rng(seed)) for name, train in ways.items()}
    right = {name: int(np.sum(mg.predict(model, POINTS).argmax(axis=1) == LABELS)) for name, model in models.items()}
    print()
    for name, number in right.items():
        print(f"{name:<18}{number} of {len(POINTS)} right")
    draw(models, right, pictures / "ten-points.png")
    return min(right.values())


def draw(models: dict[str, Model], right: dict[str, int], path: Path) -> None:
    """The plane as each model divides it: the shade is the difference between its two outputs."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("For the picture: pip install matplotlib")
        return
    x, y = np.meshgrid(np.linspace(0, 10, 201), np.linspace(-1.5, 5.5, 141))
    grid = np.stack([x, y], axis=-1).reshape(-1, 2)

    figure = Figure(figsize=(12, 3.9), layout="constrained")
    panels = figure.subplots(1, len(models), sharey=True)
    for axes, (name, model) in zip(panels, models.items(), strict=True):
        outputs = mg.predict(model, grid)
        lean = (outputs[:, 1] - outputs[:, 0]).reshape(x.shape)
        shades = axes.contourf(x, y, lean, np.linspace(-1, 1, 41), cmap="RdBu_r", extend="both")
        axes.contour(x, y, lean, [0], colors="black", linewidths=1.5, linestyles="--")
        axes.scatter(*POINTS.T, s=150, color="white", edgecolor="black", zorder=3)
        for point, label in zip(POINTS, LABELS, strict=True):
            axes.annotate(f"{label}", point, ha="center", va="center_baseline", fontsize=9, zorder=4)
        axes.set(title=f"{name}: {right[name]} of {len(POINTS)}", xlabel="$x_1$", xticks=range(0, 10, 2))
    panels[0].set(ylabel="$x_2$")
    figure.colorbar(shades, ax=panels, label="output for 1 - output for 0", ticks=[-1, 0, 1], pad=0.01)

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="of first weights and order of samples; default: %(default)s")
    parser.add_argument("--pictures", type=Path, help="the folder to draw into; default: pictures, beside this file")
    parser.set_defaults(**main.__kwdefaults__)
    try:
        main(**vars(parser.parse_args()))
    except ValueError as problem:
        parser.error(str(problem))
