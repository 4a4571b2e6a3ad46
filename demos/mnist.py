"""Teach a network to read handwritten digits, and draw what it has learned.

recipes:
  default            cross-entropy, images shifted at random, a rate that rises and falls once; the network is
                     --model dense: 784-100-50-10, relu, Adam
                     --model conv: two convolutions of 5x5, 16 and 32 channels, each with pooling, batch
                     normalisation and relu, then 10 outputs; AdamW
  tanh-mse           784-100-50-10, tanh everywhere, squared error, 1,000 digits, one step for each at rate 0.1
  conv-tanh-mse      the same, but for the network: one filter of 3x3, then 676-100-10
  minibatch-sigmoid  784-30-10, sigmoid, N(0, 1) weights, half the squared error, batches of 10 at rate 3

Given Fashion-MNIST as --data, it tells clothes apart, in the pictures, too: --model dense without shifts, which are too
much for it, and --model conv with half of the images mirrored.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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


class Classes(NamedTuple):
    """What there is to tell apart: the word for it in file names and in sentences, and the name of each label."""

    short: str
    noun: str
    names: list[str]


DIGITS = Classes("mnist", "digits", list("0123456789"))
CLOTHES = Classes(
    "fashion",
    "clothes",
    ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"],
)


def classes_of(train: Digits) -> Classes:
    """Those of Fashion-MNIST if the labels begin as there, else digits."""
    return CLOTHES if train[1][:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5] else DIGITS


# ----------------------------------------------------------------------------------------------------- recipes
# A recipe says what mg.fit is to train, on what and how.


class Augment(nn.Module):
    """In training, each image moved at random by up to `pixels` either way, and half of them mirrored if asked for.

    In evaluation, the images themselves.
    """

    def __init__(self, pixels: int, rng: np.random.Generator, mirror: bool = False) -> None:
        self.pixels, self.rng, self.mirror = pixels, rng, mirror

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        if not self.training:
            return x
        n, p = len(x), self.pixels
        padded = np.pad(x.reshape(n, 28, 28), ((0, 0), (p, p), (p, p)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (28, 28), axis=(1, 2))
        down, right = mg.sample(self.rng.integers, 0, 2 * p, size=(2, n), endpoint=True)
        moved = windows[np.arange(n), down, right]
        if self.mirror:
            moved = np.where(mg.sample(self.rng.random, (n, 1, 1)) < 0.5, moved[:, :, ::-1], moved)
        return moved.reshape(n, 784)


def as_images(x: Any) -> Any:
    """One channel of 28 x 28 pixels, as convolutions take it."""
    return np.reshape(x, (-1, 1, 28, 28))


def dense(train: Digits, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    """The common sense of today, on a small scale."""
    hidden = nn.Sequential(nn.Linear(784, 100, rng=rng), nn.relu, nn.Dropout(0.1, rng=rng), nn.Linear(100, 50, rng=rng))
    augment = [] if classes_of(train) is CLOTHES else [Augment(1, rng)]
    model = nn.Sequential(*augment, *hidden, nn.relu, nn.Linear(50, 10, rng=rng))
    return in_one_cycle(model, mg.optim.Adam(model.parameters()), train, epochs, max_lr=0.005)


def conv(train: Digits, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Filters that look for the same everywhere, after LeNet (LeCun and others, 1998), with batch normalisation."""
    clothes = classes_of(train) is CLOTHES
    first = nn.Conv2d(1, 16, 5, rng=rng), nn.MaxPool2d(2), nn.BatchNorm2d(16), nn.relu  # 16 images of 12 x 12
    second = nn.Conv2d(16, 32, 5, rng=rng), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.relu  # 32 of 4 x 4
    augment = Augment(1 if clothes else 2, rng, mirror=clothes)
    model = nn.Sequential(augment, as_images, *first, *second, nn.Flatten(), nn.Linear(512, 10, rng=rng))
    return in_one_cycle(model, mg.optim.AdamW(model.parameters()), train, epochs, max_lr=0.004, rise=0.2)


def in_one_cycle(model: Any, optimizer: Any, train: Digits, epochs: int, **cycle: float) -> dict[str, Any]:
    """Batches of 100 by a rate that rises and falls once."""
    return {
        "model": model,
        "loss": nn.cross_entropy,
        "optimizer": optimizer,
        "schedule": mg.optim.one_cycle_schedule(steps=max(1, epochs) * math.ceil(len(train[0]) / 100), **cycle),
        "batch_size": 100,
        "data": train,
    }


def tanh_mse(train: Digits, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    """The first network of many tutorials: a bounded answer for each class, and a step after each digit."""
    layers = [nn.Linear(784, 100, rng=rng), nn.Linear(100, 50, rng=rng), nn.Linear(50, 10, rng=rng)]
    return sample_by_sample(nn.Sequential(*(part for layer in layers for part in (layer, nn.tanh))), train)


def conv_tanh_mse(train: Digits, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    """The second one of many tutorials: the same with a single filter in front."""
    convolution, linear = nn.Conv2d(1, 1, 3, rng=rng), nn.Linear(26 * 26, 100, rng=rng)
    layers = convolution, nn.tanh, nn.Flatten(), linear, nn.tanh, nn.Linear(100, 10, rng=rng), nn.tanh
    return sample_by_sample(nn.Sequential(as_images, *layers), train)


def sample_by_sample(model: Any, train: Digits) -> dict[str, Any]:
    """The squared error of 1,000 digits, a step for each."""
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


MODELS = {"dense": (dense, 30), "conv": (conv, 20)}  # of the default recipe, each with its usual number of epochs
RECIPES = {
    "default": MODELS["dense"],
    "tanh-mse": (tanh_mse, 35),
    "conv-tanh-mse": (conv_tanh_mse, 35),
    "minibatch-sigmoid": (minibatch_sigmoid, 30),
}


# ---------------------------------------------------------------------------------------------------- pictures


def draw(
    folder: Path, history: mg.History, model: nn.Sequential, held_out: Digits, outputs: NDArray[Any], classes: Classes
) -> str:
    """Draw the five pictures into a folder, and say where they are."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "no pictures: they need matplotlib (pip install matplotlib)"
    figures: dict[str, Figure] = {}

    def page(name: str, width: float, height: float) -> Figure:
        return figures.setdefault(name, Figure((width, height), layout="constrained"))

    above, below = page("learning", 7.5, 4.9).subfigures(2, 1, height_ratios=[1.25, 1])
    draw_curves(above, history, classes)
    draw_some(below, held_out, outputs, classes, rows=2)
    draw_some(page(classes.noun, 7.5, 7.9), held_out, outputs, classes, rows=8)
    draw_mistakes(page("mistakes", 7.5, 4.3), held_out, outputs, classes)
    draw_confusion(page("confusion", 5.2, 5.2), held_out[1], outputs.argmax(axis=1), classes)
    first = next(layer for layer in model if isinstance(layer, (nn.Linear, nn.Conv2d)))
    if isinstance(first, nn.Linear):
        draw_weights(page("weights", 7.5, 6.7), first.weight.data)
    else:
        draw_filters(page("filters", 7.5, 8.2 if len(first.weight) > 1 else 4.2), first, held_out)
    names = [f"{classes.short}-{name}.png" for name in figures]
    for name, figure in zip(names, figures.values(), strict=True):
        figure.savefig(folder / name, dpi=120)
    return f"pictures: {', '.join(names)} in {folder}"


def draw_curves(figure: FigureBase, history: mg.History, classes: Classes) -> None:
    """Loss and accuracy in each epoch."""
    epochs = range(1, len(history["loss"]) + 1)
    for axes, name in zip(figure.subplots(1, 2), ["loss", "accuracy"], strict=True):
        held_out = history[f"val_{name}"]
        label = f"held-out {classes.noun}, {held_out[-1]:.3f} at the end"
        axes.plot(epochs, history[name], ".--", color=BLUE, ms=4, lw=1.2, label=f"training {classes.noun}")
        axes.plot(epochs, held_out, ".-", color=VERMILLION, ms=4, lw=1.5, label=label)
        axes.set_xlabel("epoch", fontsize=9)
        axes.locator_params(axis="x", integer=True)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
        axes.set_title(name.capitalize(), fontsize=11)


def draw_some(
    figure: FigureBase, held_out: Digits, outputs: NDArray[Any], classes: Classes, rows: int, columns: int = 10
) -> None:
    """Held-out images with their answers; up to a quarter of them are wrong ones."""
    truth, answers = held_out[1], outputs.argmax(axis=1)
    wrong, right = np.flatnonzero(answers != truth), np.flatnonzero(answers == truth)
    wrong_here = wrong[: rows * columns // 4]
    chosen = np.concatenate([wrong_here, right])[: rows * columns]
    title = f"Held-out {classes.noun}: {len(wrong):,} of {len(truth):,} are wrong; {len(wrong_here)} of "
    title += f"these {len(chosen)} tiles are"
    draw_tiles(figure, held_out, answers, np.random.default_rng(0).permutation(chosen), classes, rows, columns, title)


def draw_mistakes(figure: FigureBase, held_out: Digits, outputs: NDArray[Any], classes: Classes, rows: int = 4) -> None:
    """The images whose right answers were furthest below another one, or least above it."""
    truth, answers = held_out[1], outputs.argmax(axis=1)
    is_right = np.arange(outputs.shape[1]) == truth[:, None]
    margin = outputs[is_right] - np.where(is_right, -np.inf, outputs).max(axis=1)
    worst = np.argsort(margin, kind="stable")[: rows * 10]
    wrong, shown = np.sum(answers != truth), np.sum(answers[worst] != truth[worst])
    title = f"The worst {shown} of {wrong:,} mistakes among {len(truth):,} {classes.noun}, worst first"
    if shown == wrong:
        title = f"All {wrong:,} mistakes among {len(truth):,} {classes.noun}, worst first, and what was nearly one"
    draw_tiles(figure, held_out, answers, worst, classes, rows, 10, title)


def draw_tiles(
    figure: FigureBase, held_out: Digits, answers: NDArray[Any], chosen: NDArray[Any], classes: Classes,
    rows: int, columns: int, title: str,
) -> None:  # fmt: skip
    """The chosen images with what they were taken for; wrong ones are framed, and the truth stands there, too."""
    from matplotlib.patches import Rectangle

    images, truth = held_out
    short = max(map(len, classes.names)) == 1
    height, size, space = (44, 8, " ") if short else (46, 6, "\n")
    axes = figure.subplots()
    sheet = np.zeros((rows * height, columns * 34))
    for place, i in enumerate(chosen):
        y, x = place // columns * height, place % columns * 34
        sheet[y + 2 : y + 30, x + 3 : x + 31] = images[i].reshape(28, 28)
        caption, colour, weight = f"{classes.names[answers[i]]} ✓", GREY, "normal"
        if answers[i] != truth[i]:
            caption, weight = f"{classes.names[answers[i]]} ✗{space}is {classes.names[truth[i]]}", "bold"
            colour = VERMILLION
            axes.add_patch(Rectangle((x + 1, y), 31, height - 2, fill=False, color=colour, lw=1.5))
        middle = y + (height + 28) / 2
        axes.text(x + 17, middle, caption, color=colour, weight=weight, fontsize=size, ha="center", va="center")
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
    axes.set_axis_off()
    axes.set_title(title, fontsize=11)


def draw_confusion(figure: FigureBase, truth: NDArray[Any], answers: NDArray[Any], classes: Classes = DIGITS) -> None:
    """How often each class was taken for each other one."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (truth, answers), 1)
    right = np.eye(10, dtype=bool)
    axes = figure.subplots()
    axes.imshow(np.where(right, 0.25, np.nan), cmap="Blues", vmin=0, vmax=1)
    axes.imshow(np.where(right, np.nan, counts), cmap="Oranges", vmin=0, vmax=1.5 * max(counts[~right].max(), 1))
    for (i, j), count in np.ndenumerate(counts):
        weight = "bold" if i == j else "normal"
        axes.text(j, i, f"{count:,}" if count else "·", weight=weight, fontsize=9, ha="center", va="center")
    axes.set_xticks(range(10), classes.names, rotation=0 if classes is DIGITS else 90)
    axes.set_yticks(range(10), classes.names)
    axes.set(xlabel="taken for", ylabel="is")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{np.trace(counts):,} of {len(truth):,} held-out {classes.noun} are on the diagonal", fontsize=11)


def draw_weights(figure: FigureBase, weight: NDArray[Any]) -> None:
    """The weights of each unit in the first layer as an image."""
    columns = math.ceil(math.sqrt(len(weight)))
    rows = math.ceil(len(weight) / columns)
    tiles = np.full((rows * columns, 30, 30), np.nan)
    tiles[: len(weight), 1:-1, 1:-1] = weight.reshape(-1, 28, 28)
    sheet = tiles.reshape(rows, columns, 30, 30).swapaxes(1, 2).reshape(rows * 30, columns * 30)
    limit = np.quantile(np.abs(weight), 0.995)
    axes = figure.subplots()
    image = axes.imshow(sheet, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(
        f"Dark pixels here excite (red) or calm (blue) the {len(weight)} units of the first layer", fontsize=11
    )
    figure.colorbar(image, ax=axes, shrink=0.6, label="weight")


def draw_filters(figure: FigureBase, layer: Any, held_out: Digits) -> None:
    """The filters of the first layer, each beside its answers, without the bias, to the images above them."""
    images = as_images(held_out[0][[np.flatnonzero(held_out[1] == label)[0] for label in np.unique(held_out[1])[:3]]])
    filters, answers = layer.weight.data[:, 0], mg.predict(layer, images) - layer.bias.data.reshape(-1, 1, 1)
    columns, width = min(2, len(filters)), 1 + len(images)
    ink = np.full(((1 + math.ceil(len(filters) / columns)) * 32, columns * width * 32), np.nan)
    colours = ink.copy()

    def put(sheet: NDArray[Any], row: int, column: int, picture: NDArray[Any]) -> None:  # in a cell of 32 x 32
        start = (32 - len(picture)) // 2
        y, x = row * 32 + start, column * 32 + start
        sheet[y : y + len(picture), x : x + len(picture)] = picture

    for i, pattern in enumerate(filters):
        row, left = 1 + i // columns, i % columns * width
        put(colours, row, left, np.kron(pattern / np.abs(filters).max(), np.ones((28 // len(pattern),) * 2)))
        for j, image in enumerate(images, 1):
            put(ink, 0, left + j, image[0])
            put(colours, row, left + j, answers[j - 1, i] / np.abs(answers).max())
    axes = figure.subplots()
    axes.imshow(ink, cmap="gray_r", interpolation="nearest")
    axes.imshow(colours, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title("Filters of the first layer and their answers: red is positive, blue negative", fontsize=11)


# -------------------------------------------------------------------------------------------------------- main


def main(
    *,
    data: str | Path | None = None,
    recipe: str = "default",
    model: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    pictures: str | Path = HERE / "pictures",
    progress: bool = True,
    compile: bool | Literal["pure"] | None = None,
    distributed: bool = False,
) -> float:
    """Train and draw; returns the held-out accuracy, or for squared errors of tanh the mean of the last epoch."""
    ranks = mg.distributed.ranks(distributed)
    if model is not None and recipe != "default":
        raise ValueError(f"the recipe {recipe} has a network of its own: --model goes with the default one")
    if seed < 0 or (epochs or 0) < 0:
        raise ValueError(f"got seed={seed} and epochs={epochs}; wanted numbers of at least 0")
    train, held_out = load_mnist(HERE / "data" / "mnist_5k.npz" if data is None else data)
    prepare, usual_epochs = RECIPES[recipe] if model is None else MODELS[model]
    classes = classes_of(train)
    folder = Path(pictures).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    epochs = usual_epochs if epochs is None else epochs
    compile = model == "conv" if compile is None else compile
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
        distributed=ranks,
    )
    seconds = time.perf_counter() - start
    if not history.get("loss"):
        raise SystemExit("stopped before the end of the first epoch: there is nothing to show")
    outputs = mg.predict(choices["model"], held_out[0])
    accuracy, error = mg.accuracy(outputs, held_out[1]), history["loss"][-1]
    how = ", ".join([recipe, *([model] if model else []), *(["compiled"] if compile else [])])
    if ranks.size > 1:
        how += f", {ranks.size} ranks ({ranks.sent / 1e6:,.0f} MB of gradients from each)"
    if ranks.rank == 0:
        print(f"{how}: {len(history['loss'])} epochs in {seconds:.1f} s")
        print(
            f"mean loss of the last one {error:.4f}; held-out {classes.noun}: {accuracy:.1%} of {len(outputs):,} right"
        )
        print(draw(folder, history, choices["model"], held_out, outputs, classes))
    return error if recipe.endswith("tanh-mse") else accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="MNIST or Fashion-MNIST: a folder of the four IDX files, mnist.npz of Keras, or mnist.pkl.gz; "
        "default: 5,000 digits of MNIST",
    )
    parser.add_argument("--recipe", choices=RECIPES, help="what to train, and how; default: %(default)s")
    parser.add_argument("--model", choices=MODELS, help="the network of the default recipe; default: dense")
    parser.add_argument(
        "--epochs",
        type=int,
        help="how often to go through the digits; default: 30, 35 for tanh-mse and conv-tanh-mse, 20 for --model conv",
    )
    parser.add_argument("--seed", type=int, help="of first weights and order of digits; default: %(default)s")
    parser.add_argument("--pictures", metavar="FOLDER", help="where to draw; default: pictures, beside this file")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, help="whether to show the training")
    parser.add_argument(
        "--compile",
        nargs="?",
        const=True,
        choices=["pure"],
        help="train by a program, as --model conv does; pure: by nothing else",
    )
    parser.add_argument("--distributed", action="store_true", help="train on all ranks that mpirun has started")
    parser.set_defaults(**main.__kwdefaults__)
    try:
        main(**vars(parser.parse_args()))
    except (mg.data.DataFileError, FileNotFoundError, ImportError, ValueError) as problem:
        parser.error(str(problem))
