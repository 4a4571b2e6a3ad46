"""Exclusive or, the smallest problem that needs a hidden layer: a 2-3-1 network learns it by gradient descent.

--loss mse   tanh on both layers and the squared error, one step per sample
--loss log   tanh, then sigmoid, and the cross-entropy summed over the four points, one step for all of them

Linear draws the first weights, uniform within 1/sqrt(inputs). The learning rate is 0.1.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

import minigrad as mg
from minigrad import nn

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
Y = np.array([[0], [1], [1], [0]], np.float32)

# loss: (last activation, cost, its name, batch size, epochs)
RECIPES: dict[str, tuple[Any, Any, str, int | None, int]] = {
    "mse": (nn.Tanh, nn.mse_loss, "mean squared error", 1, 1000),
    "log": (nn.Sigmoid, partial(nn.log_loss, reduction="sum"), "cross-entropy, sum of four", None, 1500),
}


def main(
    *,
    loss: str = "mse",
    epochs: int | None = None,
    seed: int = 0,
    pictures: Path = Path(__file__).parent / "pictures",
    compile: bool | Literal["pure"] = False,
) -> float:
    """Train, print the four predictions, draw, and return the error or cost of the last epoch."""
    if seed < 0 or (epochs or 0) < 0:
        raise ValueError(f"got seed={seed} and epochs={epochs}; wanted numbers of at least 0")
    activation, cost, name, batch_size, usual_epochs = RECIPES[loss]
    epochs = usual_epochs if epochs is None else epochs
    rng = np.random.default_rng(seed)
    model = nn.Sequential(nn.Linear(2, 3, rng=rng), nn.Tanh(), nn.Linear(3, 1, rng=rng), activation())
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)

    history = mg.fit(
        model,
        cost,
        optimizer,
        (X, Y),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        progress=False,
        compile=compile,
    )

    if not history["loss"]:
        raise SystemExit("stopped before the end of the first epoch: there is nothing to show")
    for (a, b), wanted, got in zip(X, Y, mg.predict(model, X), strict=True):
        print(f"{a:.0f} xor {b:.0f} = {wanted.item():.0f}    predicted {got.item():7.4f}")
    final = history["loss"][-1]
    print(f"{name} after {len(history['loss']):,} epochs: {final:.2g}")
    draw(model, history["loss"], name, pictures / f"xor-{loss}.png")
    return final


def draw(model: nn.Sequential, costs: list[float], name: str, path: Path) -> None:
    """The cost as it falls, and beside it what the network says of every point around the four."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("For the picture: pip install matplotlib")
        return
    side = np.linspace(-0.4, 1.4, 181, dtype=np.float32)
    a, b = np.meshgrid(side, side)
    surface = mg.predict(model, np.stack([a, b], axis=-1).reshape(-1, 2)).reshape(a.shape)

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(range(1, len(costs) + 1), costs, color="#33415c", linewidth=2)
    left.set(title="The cost falls", xlabel="epoch", ylabel=name, xlim=(0, len(costs)))
    left.grid(alpha=0.25)
    left.spines[["top", "right"]].set_visible(False)

    shades = right.contourf(a, b, surface, np.linspace(0, 1, 41), cmap="RdBu_r", extend="both")
    right.contour(a, b, surface, [0.5], colors="black", linewidths=1.5, linestyles="--")
    for (x, y), wanted in zip(X, Y, strict=True):
        right.scatter(x, y, s=420, color="white", edgecolor="black", linewidth=1.5, zorder=3)
        right.annotate(f"{wanted.item():.0f}", (x, y), ha="center", va="center", fontsize=13, zorder=4)
    right.set(title="What the network learned", xlabel="a", ylabel="b", aspect="equal", xticks=[0, 1], yticks=[0, 1])
    figure.colorbar(shades, ax=right, label="output for a xor b", ticks=[0, 0.5, 1])

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", choices=RECIPES, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, help="default: 1000 for mse, 1500 for log")
    parser.add_argument("--seed", type=int, help="of first weights and order of samples; default: %(default)s")
    parser.add_argument("--pictures", type=Path, help="the folder to draw into; default: pictures, beside this file")
    parser.add_argument(
        "--compile", nargs="?", const=True, choices=["pure"], help="train by a program; pure: by nothing else"
    )
    parser.set_defaults(**main.__kwdefaults__)
    try:
        main(**vars(parser.parse_args()))
    except ValueError as problem:
        parser.error(str(problem))
