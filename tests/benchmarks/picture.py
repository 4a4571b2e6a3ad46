"""The times as a picture: bars for the networks, lines for the chain over its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .contenders import CONTENDERS, PRODUCTS
from .functions import EVALUATORS
from .networks import NETWORKS

GREY = "#999999"
COLOURS = {  # a library has a hue, and what it compiles the darker one
    "NumPy": "#000000",
    "NumPy, out=": "#666666",
    "minigrad": "#F4A582",
    "compiled loss": "#E8873F",
    "compiled step": "#D55E00",
    "compiled step, pure": "#8F3F00",
    "compiled": "#D55E00",
    "compiled, pure": "#8F3F00",
    "PyTorch": "#92C5DE",
    "torch.compile": "#0072B2",
    "JAX jit": "#009E73",
    "JAX jit, left on the device": "#7FCEB9",
    "autograd": "#E6C619",
    "MyGrad": "#CC79A7",
    "micrograd": "#8C6BB1",
}
assert COLOURS.keys() == CONTENDERS.keys() | EVALUATORS.keys(), "a contender without a colour"


def picture(times: Mapping[tuple[str, str, int], float]) -> Any:
    """A matplotlib Figure: above, how many times NumPy's a step takes; below, the time of the chain per element."""
    from matplotlib.figure import Figure

    problems = list(dict.fromkeys(problem for problem, *_ in times))
    networks = [problem for problem in problems if problem in NETWORKS]
    chains = [problem for problem in problems if problem.startswith("chain")]
    draws = [(bars, networks), (lines, chains)]
    draws = [(draw, some) for draw, some in draws if some]
    figure = Figure(figsize=(10, 4.2 * max(1, len(draws))), layout="constrained")
    for i, (draw, some) in enumerate(draws):
        draw(figure.add_subplot(len(draws), 1, i + 1), times, some)
    return figure


def bars(axes: Any, times: Mapping[tuple[str, str, int], float], networks: list[str]) -> None:
    contenders = [name for name in COLOURS if name != "NumPy" and any((n, name, 1) in times for n in networks)]
    width = 0.85 / len(contenders)
    for k, name in enumerate(contenders):
        some = [(i, times[n, name, 1] / times[n, "NumPy", 1]) for i, n in enumerate(networks) if (n, name, 1) in times]
        places = [i + (k - (len(contenders) - 1) / 2) * width for i, _ in some]
        heights = [ratio for _, ratio in some]
        axes.bar(places, [h - 1 for h in heights], width, bottom=1, color=COLOURS[name], label=name)
    limits = [(i, times[n, PRODUCTS, 1] / times[n, "NumPy", 1]) for i, n in enumerate(networks) if not NETWORKS[n].adam]
    for i, limit in limits:
        label = "matrix products alone" if i == limits[0][0] else None
        axes.hlines(limit, i - 0.45, i + 0.45, GREY, linestyles="dashed", label=label)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(range(len(networks)), [network.replace("@", "\n@") for network in networks])
    axes.set_title("One training step: time over that of hand-written NumPy, one thread", loc="left")
    finish(axes)


def lines(axes: Any, times: Mapping[tuple[str, str, int], float], chains: list[str]) -> None:
    sizes = {chain: int(chain.split("@")[1]) for chain in chains}
    for name, colour in COLOURS.items():
        for threads, style in (1, "-"), (2, "--"):
            some = [(size, times[c, name, threads]) for c, size in sizes.items() if (c, name, threads) in times]
            label = f"{name}, 2 threads" if threads > 1 else name
            if some:
                places, heights = zip(*((size, time / size * 1e9) for size, time in some), strict=True)
                axes.plot(places, heights, style, marker="o", markersize=3, color=colour, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("elements")
    axes.set_title("sum(sin(x) * exp(-x * x) + tanh(x)), value and gradient: ns per element", loc="left")
    finish(axes)


def finish(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
