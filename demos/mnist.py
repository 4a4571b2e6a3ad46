"""Teach a network to read handwritten digits, and draw what it has learned.

recipes:
  default            784-100-50-10, relu, cross-entropy, Adam in one cycle, images shifted at random by up to a pixel
  tanh-mse           784-100-50-10, tanh everywhere, squared error, 1,000 digits, one step for each at rate 0.1
  minibatch-sigmoid  784-30-10, sigmoid, N(0, 1) weights, half the squared error, batches of 10 at rate 3
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

# Matrices as small as these gain nothing from more threads, and lose much on a busy machine. NumPy looks only once.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad import nn
from minigrad.data import Digits, load_mnist, one_hot

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

HERE = Path(__file__).resolve().parent
BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#666666"  # distinct to every kind of colour vision


# ----------------------------------------------------------------------------------------------------- recipes
# A recipe says what mg.fit is to train, on what and how.


class Shift(nn.Module):
    """In training, each image moved at random by up to `pixels` either way; in evaluation, the images themselves."""

    def __init__(self, pixels: int, rng: np.random.Generator) -> None:
        self.pixels, self.rng = pixels, rng

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        if not self.training:
            return x
        n, p = len(x), self.pixels
        padded = np.pad(x.reshape(n, 28, 28), ((0, 0), (p, p), (p, p)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (28, 28), axis=(1, 2))
        down, right = mg.sample(self.rng.integers, 0, 2 * p, size=(2, n), endpoint=True)
        return windows[np.arange(n), down, right].reshape(n, 784)


def default(train: Digits, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    """The common sense of today, on a small scale."""
    hidden = nn.Sequential(nn.Linear(784, 100, rng=rng), nn.relu, nn.Dropout(0.1, rng=rng), nn.Linear(100, 50, rng=rng))
    model = nn.Sequential(Shift(1, rng), *hidden, nn.relu, nn.Linear(50, 10, rng=rng))
    return {
        "model": model,
        "loss": nn.cross_entropy,
        "optimizer": mg.optim.Adam(model.parameters()),
        "schedule": mg.optim.one_cycle_schedule(0.005, steps=max(1, epochs) * math.ceil(len(train[0]) / 100)),
        "batch_size": 100,
        "data": train,
    }


def tanh_mse(train: Digits, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    """The first network of many tutorials: a bounded answer for each class, and a step after each digit."""
    layers = [nn.Linear(784, 100, rng=rng), nn.Linear(100, 50, rng=rng), nn.Linear(50, 10, rng=rng)]
    model = nn.Sequential(*(part for layer in layers for part in (layer, nn.tanh)))
    return {
        "model": model,
        "loss": lambda answer, labels: nn.mse_loss(answer, one_hot(labels, 10)),
        "optimizer": mg.optim.SGD(model.parameters(), lr=0.1),
        "batch_size": 1,
        "data": (train[0][:1000], train[1][:1000]),
    }


def minibatch_sigmoid(train: Digits, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    """The first network of Michael Nielsen's book, "Neural Networks and Deep Learning"."""
    model = nn.Sequential(nn.Linear(784, 30), nn.sigmoid, nn.Linear(30, 10), nn.sigmoid)
    for parameter in model.parameters():
        parameter.data = nn.init.normal(parameter.shape, 0, 1, rng=rng)
    return {
        "model": model,
        "loss": lambda answer, labels: nn.mse_loss(answer, one_hot(labels, 10), "sum") / (2 * len(labels)),
        "optimizer": mg.optim.SGD(model.parameters(), lr=3.0),
        "batch_size": 10,
        "data": train,
    }


RECIPES = {"default": (default, 30), "tanh-mse": (tanh_mse, 35), "minibatch-sigmoid": (minibatch_sigmoid, 30)}


# ---------------------------------------------------------------------------------------------------- pictures


def draw(folder: Path, history: mg.History, model: nn.Sequential, held_out: Digits, answers: NDArray[Any]) -> str:
    """Draw the four pictures into a folder, and say where they are."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "no pictures: they need matplotlib (pip install matplotlib)"
    names = ["mnist-learning.png", "mnist-digits.png", "mnist-confusion.png", "mnist-weights.png"]
    sizes = [(7.5, 4.9), (7.5, 7.9), (5.2, 5.2), (7.5, 6.7)]
    learning, digits, confusion, weights = figures = [Figure(size, layout="constrained") for size in sizes]
    above, below = learning.subfigures(2, 1, height_ratios=[1.25, 1])
    draw_curves(above, history)
    draw_digits(below, held_out, answers, rows=2)
    draw_digits(digits, held_out, answers, rows=8)
    draw_confusion(confusion, held_out[1], answers)
    draw_weights(weights, model)
    for name, figure in zip(names, figures, strict=True):
        figure.savefig(folder / name, dpi=120)
    return f"pictures: {', '.join(names)} in {folder}"


def draw_curves(figure: FigureBase, history: mg.History) -> None:
    """Loss and accuracy in each epoch."""
    epochs = range(1, len(history["loss"]) + 1)
    for axes, name in zip(figure.subplots(1, 2), ["loss", "accuracy"], strict=True):
        held_out = history[f"val_{name}"]
        label = f"held-out digits, {held_out[-1]:.3f} at the end"
        axes.plot(epochs, history[name], ".--", color=BLUE, ms=4, lw=1.2, label="training digits")
        axes.plot(epochs, held_out, ".-", color=VERMILLION, ms=4, lw=1.5, label=label)
        axes.set_xlabel("epoch", fontsize=9)
        axes.locator_params(axis="x", integer=True)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
        axes.set_title(name.capitalize(), fontsize=11)


def draw_digits(figure: FigureBase, held_out: Digits, answers: NDArray[Any], rows: int, columns: int = 10) -> None:
    """Held-out digits with their answers; up to a quarter of them are wrong ones, framed and with the truth."""
    from matplotlib.patches import Rectangle

    images, truth = held_out
    wrong, right = np.flatnonzero(answers != truth), np.flatnonzero(answers == truth)
    wrong_here = wrong[: rows * columns // 4]
    chosen = np.concatenate([wrong_here, right])[: rows * columns]
    axes = figure.subplots()
    sheet = np.zeros((rows * 44, columns * 34))
    for place, i in enumerate(np.random.default_rng(0).permutation(chosen)):
        y, x = place // columns * 44, place % columns * 34
        sheet[y + 2 : y + 30, x + 3 : x + 31] = images[i].reshape(28, 28)
        caption, colour, weight = f"{answers[i]} ✓", GREY, "normal"
        if answers[i] != truth[i]:
            caption, colour, weight = f"{answers[i]} ✗ is {truth[i]}", VERMILLION, "bold"
            axes.add_patch(Rectangle((x + 1, y), 31, 42, fill=False, color=colour, lw=1.5))
        axes.text(x + 17, y + 36, caption, color=colour, weight=weight, fontsize=8, ha="center", va="center")
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
    axes.set_axis_off()
    count = f"{len(wrong):,} of {len(truth):,} wrong, {len(wrong_here)} of them here"
    axes.set_title(f"What the network reads in held-out digits: {count}", fontsize=11)


def draw_confusion(figure: FigureBase, truth: NDArray[Any], answers: NDArray[Any]) -> None:
    """How often each digit was read as each other one."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (truth, answers), 1)
    right = np.eye(10, dtype=bool)
    axes = figure.subplots()
    axes.imshow(np.where(right, 0.25, np.nan), cmap="Blues", vmin=0, vmax=1)
    axes.imshow(np.where(right, np.nan, counts), cmap="Oranges", vmin=0, vmax=1.5 * max(counts[~right].max(), 1))
    for (i, j), count in np.ndenumerate(counts):
        weight = "bold" if i == j else "normal"
        axes.text(j, i, f"{count:,}" if count else "·", weight=weight, fontsize=9, ha="center", va="center")
    axes.set(xticks=range(10), yticks=range(10), xlabel="read as", ylabel="is")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{np.trace(counts):,} of {len(truth):,} held-out digits are on the diagonal", fontsize=11)


def draw_weights(figure: FigureBase, model: nn.Sequential) -> None:
    """The weights of each unit in the first layer as an image."""
    weight = next(layer for layer in model if isinstance(layer, nn.Linear)).weight.data
    columns = math.ceil(math.sqrt(len(weight)))
    rows = math.ceil(len(weight) / columns)
    tiles = np.full((rows * columns, 30, 30), np.nan)
    tiles[: len(weight), 1:-1, 1:-1] = weight.reshape(-1, 28, 28)
    sheet = tiles.reshape(rows, columns, 30, 30).swapaxes(1, 2).reshape(rows * 30, columns * 30)
    limit = np.quantile(np.abs(weight), 0.995)
    axes = figure.subplots()
    image = axes.imshow(sheet, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(f"Ink here excites (red) or calms (blue) the {len(weight)} units of the first layer", fontsize=11)
    figure.colorbar(image, ax=axes, shrink=0.6, label="weight")


# -------------------------------------------------------------------------------------------------------- main


def main(
    *,
    data: str | Path | None = None,
    recipe: str = "default",
    epochs: int | None = None,
    seed: int = 0,
    pictures: str | Path = HERE / "pictures",
    progress: bool = True,
    compile: bool | Literal["pure"] = False,
) -> float:
    """Train and draw; returns the held-out accuracy, or for tanh-mse the mean error of the last epoch."""
    if seed < 0 or (epochs or 0) < 0:
        raise ValueError(f"got seed={seed} and epochs={epochs}; wanted numbers of at least 0")
    train, held_out = load_mnist(HERE / "data" / "mnist_5k.npz" if data is None else data)
    folder = Path(pictures).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    prepare, usual_epochs = RECIPES[recipe]
    epochs = usual_epochs if epochs is None else epochs
    choices = prepare(train, epochs, np.random.default_rng(seed))
    start = time.perf_counter()
    history = mg.fit(
        **choices,
        epochs=epochs,
        validation=held_out,
        metrics=[mg.accuracy],
        seed=seed,
        progress=progress,
        compile=compile,
    )
    seconds = time.perf_counter() - start
    if not history.get("loss"):
        raise SystemExit("stopped before the end of the first epoch: there is nothing to show")
    outputs = mg.predict(choices["model"], held_out[0])
    answers, accuracy = outputs.argmax(axis=1), mg.accuracy(outputs, held_out[1])
    error = history["loss"][-1]
    how = f"{recipe}, compiled" if compile else recipe
    print(f"{how}: {len(history['loss'])} epochs in {seconds:.1f} s, mean loss of the last one {error:.4f}")
    print(f"held-out digits: {accuracy:.1%} of {len(answers):,} right")
    print(draw(folder, history, choices["model"], held_out, answers))
    return error if recipe == "tanh-mse" else accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="MNIST: a folder of the four IDX files, mnist.npz of Keras, or mnist.pkl.gz; default: 5,000 of its digits",
    )
    parser.add_argument("--recipe", choices=RECIPES, help="what to train, and how; default: %(default)s")
    parser.add_argument(
        "--epochs", type=int, help="how often to go through the digits; default: 30, and 35 for tanh-mse"
    )
    parser.add_argument("--seed", type=int, help="of first weights and order of digits; default: %(default)s")
    parser.add_argument("--pictures", metavar="FOLDER", help="where to draw; default: pictures, beside this file")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, help="whether to show the training")
    parser.add_argument(
        "--compile", nargs="?", const=True, choices=["pure"], help="train by a program; pure: by nothing else"
    )
    parser.set_defaults(**main.__kwdefaults__)
    try:
        main(**vars(parser.parse_args()))
    except (mg.data.DataFileError, FileNotFoundError, ValueError) as problem:
        parser.error(str(problem))
