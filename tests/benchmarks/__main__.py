"""Run the workers one after the other, in interleaved rounds, and print what they measured as Markdown."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from .contenders import CONTENDERS, PRODUCTS
from .functions import CHAIN_SIZES, EVALUATORS, LOGISTIC_SIZE, NO_SIMULATION, SIMULATION_SIZE, THREADED
from .layers import CONTENDERS as LAYER_CONTENDERS
from .layers import LAYERS
from .networks import NETWORKS, check_agreement

ROOT = Path(__file__).parents[2]
POOLS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NPROC"]  # XLA's last
IMPORT = "import time, numpy; start = time.perf_counter(); import minigrad; print(time.perf_counter() - start)"

SMALLEST, NIELSEN, LARGEST, WIDEST = "2-3-1@4", "784-30-10@10", "784-100-50-10@128", "784-512-512-10@128"
CHAIN, SIMULATION = "chain@1000000", f"simulation@{SIMULATION_SIZE}"
STEP, PURE = "compiled step", "compiled step, pure"
TARGETS = [  # what takes at most so many times as long as a rival, on so many threads
    (SMALLEST, "minigrad", "PyTorch", 0.40, 1),
    (LARGEST, "minigrad", "NumPy", 1.25, 1),
    *((network, "minigrad", "MyGrad", 1.00, 1) for network in NETWORKS),
    (SMALLEST, STEP, "NumPy", 1.30, 1),
    (SMALLEST, STEP, "PyTorch", 0.18, 1),
    (SMALLEST, PURE, "NumPy", 0.77, 1),
    (SMALLEST, PURE, "JAX jit", 0.85, 1),
    (SMALLEST, PURE, "PyTorch", 0.10, 1),
    (f"{SMALLEST} Adam", STEP, "NumPy", 0.70, 1),
    (f"{SMALLEST} Adam", PURE, "NumPy", 0.40, 1),
    (f"{SMALLEST} Adam", PURE, "JAX jit", 0.60, 1),
    (NIELSEN, STEP, "NumPy", 1.27, 1),
    (NIELSEN, PURE, "NumPy", 0.83, 1),
    (NIELSEN, PURE, "JAX jit", 0.40, 1),
    (LARGEST, STEP, "NumPy", 1.05, 1),
    (LARGEST, PURE, "NumPy", 0.95, 1),
    (LARGEST, PURE, "JAX jit", 0.85, 1),
    (LARGEST, PURE, "PyTorch", 0.65, 1),
    (LARGEST, PURE, PRODUCTS, 1.15, 1),
    (WIDEST, PURE, "PyTorch", 1.10, 1),
    (WIDEST, PURE, "JAX jit", 1.10, 1),
    (SIMULATION, "compiled", "minigrad", 0.32, 1),
    (SIMULATION, "compiled, pure", "minigrad", 0.15, 1),
    (CHAIN, "compiled", "PyTorch", 0.70, 2),
    (CHAIN, "compiled", "JAX jit", 0.70, 2),
    ("LeNet@64", "minigrad", "PyTorch", 1.2, 1),
    ("LeNet@64", STEP, "PyTorch", 1.1, 1),
    ("conv 3x3 16-32@64", "minigrad", "PyTorch", 2.0, 1),
    ("conv 3x3 16-32 stride 2@64", "minigrad", "PyTorch", 2.0, 1),
    ("GRU 128, 64 steps@32", "minigrad", "PyTorch", 1.6, 1),
    ("GRU 128, 64 steps@32", STEP, "PyTorch", 1.1, 1),
    ("attention 64, 4 heads@16", STEP, "PyTorch", 1.4, 1),
]
MEASUREMENTS = [*NETWORKS, *LAYERS, "chain", "logistic", "simulation", "costs"]

Job = tuple[str, str, int]  # problem, contender, threads
Times = dict[Job, float]  # seconds per step of training, or per value and gradient


def python(*arguments: str, threads: int = 1, **environment: str) -> str:
    """What a fresh interpreter prints, run from the top of the repository on so many threads."""
    limits = {
        **dict.fromkeys(POOLS, str(threads)),
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} "
        f"intra_op_parallelism_threads={threads}",
        "JAX_PLATFORMS": "cpu",
    }
    command, environment = [sys.executable, *arguments], {**os.environ, **limits, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout


def worker(*arguments: str, threads: int = 1) -> Any:
    return json.loads(python("-m", "tests.benchmarks.worker", *arguments, threads=threads))


def import_cost(repeats: int) -> float:
    """The median of `repeats` imports in processes of their own, after one that compiles the bytecode."""
    with TemporaryDirectory() as cache:
        bytecode = {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        return median([float(python("-c", IMPORT, **bytecode)) for _ in range(1 + repeats)][1:])


def time_all(jobs: list[Job], rounds: int, seconds: float) -> tuple[Times, float]:
    """Medians over rounds, each of which measures everything once, and how much slower the worst was than its median.

    Interleaved, the contenders share the moods of the machine.
    """
    times = defaultdict(list)
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr)
        for problem in dict.fromkeys(problem for problem, *_ in jobs):
            answers: dict[str, list[float]] = {}
            for job in jobs:
                if job[0] == problem:
                    _, contender, threads = job
                    found = worker("time", contender, problem, str(threads), str(seconds), threads=threads)
                    times[job].append(found["seconds"])
                    if found["answers"]:
                        answers[f"{contender} on {threads}"] = found["answers"]
            for what, numbers in zip(["the value", "the gradient"], zip(*answers.values(), strict=True), strict=False):
                check_agreement(f"{what} of {problem}", dict(zip(answers, numbers, strict=True)))
    medians = {job: median(values) for job, values in times.items()}
    return medians, max((max(values) / medians[job] for job, values in times.items()), default=1)


def jobs_of(measurements: list[str], chain_sizes: list[int], logistic_size: int) -> list[Job]:
    """What is to be timed: networks on one thread, functions on one and on two."""
    networks = [network for network in measurements if network in NETWORKS]
    layers = [name for name in measurements if name in LAYERS]
    functions = [f"chain@{size}" for size in chain_sizes] if "chain" in measurements else []
    functions += [f"logistic@{logistic_size}"] if "logistic" in measurements else []
    loops = [SIMULATION] if "simulation" in measurements else []
    return [
        *((n, name, 1) for n in networks for name, c in CONTENDERS.items() if c.installed() and c.runs(n)),
        *((n, PRODUCTS, 1) for n in networks if not NETWORKS[n].adam),
        *((n, name, 1) for n in layers for name in LAYER_CONTENDERS if CONTENDERS[name].installed()),
        *((f, name, 1) for f in functions for name, c in EVALUATORS.items() if c.installed()),
        *((f, name, 2) for f in functions for name, c in EVALUATORS.items() if c.installed() and name in THREADED),
        *((f, name, 1) for f in loops for name, c in EVALUATORS.items() if c.installed() and name not in NO_SIMULATION),
    ]


# ------------------------------------------------------------------------------------------------------ the report


def markdown(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def time_table(
    times: Times, title: str, contenders: list[str], problems: dict[str, tuple[str, int]], rival: str = "NumPy"
) -> str:
    """Times in µs, a problem and a number of threads a row, and in brackets how many times a rival's on one thread."""
    rows = []
    for label, (problem, threads) in problems.items():
        by_rival = times.get((problem, rival, 1), math.nan)
        found = [times.get((problem, contender, threads)) for contender in contenders]
        rows.append([label, *(f"{time * 1e6:,.0f} ({time / by_rival:.2f})" if time else "-" for time in found)])
    return markdown([title, *contenders], rows)


def tables(times: Times) -> list[str]:
    networks = {problem: (problem, 1) for problem, *_ in times if problem in NETWORKS}
    functions = {
        f"{problem}, {threads} thread{'s' * (threads > 1)}": (problem, threads)
        for problem, _, threads in times
        if problem not in NETWORKS and problem not in LAYERS
    }
    layers = {problem: (problem, 1) for problem, *_ in times if problem in LAYERS}
    found = []
    if networks:
        text = "One training step in µs, on one thread, and in brackets how many times that of hand-written NumPy.\n"
        text += "The compiled columns are minigrad's: of the loss alone, and of the whole step, replaying or pure.\n"
        text += f"`{PRODUCTS}` are the matrix products of the step alone; float32.\n\n"
        found.append(text + time_table(times, "layers@batch", [*CONTENDERS, PRODUCTS], networks))
    if layers:
        text = "One training step in µs, on one thread, and in brackets how many times that of PyTorch; float32.\n\n"
        found.append(text + time_table(times, "layers@batch", LAYER_CONTENDERS, layers, "PyTorch"))
    if functions:
        text = "Value and gradient in µs, and in brackets how many times hand-written NumPy's on one thread; float64.\n"
        text += "The chain is `sum(sin(x) * exp(-x * x) + tanh(x))`; the logistic regression has 20 features;\n"
        text += "the simulation is a Python loop of Euler steps for three numbers.\n\n"
        found.append(text + time_table(times, "function@size", list(EVALUATORS), functions))
    return found


def costs(rounds: int) -> tuple[str, list[tuple[str, float, float, str]]]:
    """Costs that are minigrad's own, in sentences, and the outcomes of the targets that are set for them."""
    operations = [worker("operation") for _ in range(rounds)]
    forward, backward = (median(answer[part] for answer in operations) for part in ("forward", "backward"))
    trace = median(worker("trace", LARGEST)["seconds"] for _ in range(rounds))
    gru = median(worker("first", "GRU 128, 64 steps@32")["seconds"] for _ in range(rounds))
    lengths = [100, 1000, 4000]
    per_call = [median(found) for found in zip(*(growth(lengths) for _ in range(rounds)), strict=True)]
    programs = worker("batches", LARGEST)["programs"]
    by_hand, eager, compiled = (worker("memory", name, LARGEST)["bytes"] for name in ("NumPy", "minigrad", PURE))
    extra_import = import_cost(repeats=5)
    text = f"""\
A recorded operation on 0-d arrays: {forward * 1e6:.2f} µs forward, {backward * 1e6:.2f} µs backward.
The first compiled step of {LARGEST}: {trace * 1e3:.1f} ms more than a later one.
Tracing and compiling loops of {", ".join(map(str, lengths))} Euler steps, value and gradient: \
{", ".join(f"{seconds * 1e6:.0f}" for seconds in per_call)} µs for each recorded call.
Memory at the peak of a step of {LARGEST}: {eager / 1e6:.2f} MB, {eager / by_hand:.2f} of hand-written NumPy; \
compiled, {compiled / 1e6:.2f} MB, {compiled / by_hand:.2f}."""
    return text, [
        ("recorded operation, forward and backward: below 5 µs", (forward + backward) * 1e6, 5, " µs"),
        ("`import minigrad` on top of `import numpy`: below 20 ms", extra_import * 1e3, 20, " ms"),
        (f"{LARGEST}: traced and compiled in less than 20 ms", trace * 1e3, 20, " ms"),
        ("GRU 128, 64 steps@32: the first compiled step within 1 s", gru, 1, " s"),
        ("traced and compiled: at most 150 µs for each recorded call", max(per_call) * 1e6, 150, " µs"),
        (
            "traced and compiled in linear time: a long loop at most 1.3 of a short one",
            per_call[-1] / per_call[0],
            1.3,
            "",
        ),
        ("a new batch from a global in each of 20 steps: one program", programs, 1, ""),
        (f"{LARGEST}, compiled: at most the memory of NumPy", compiled / by_hand, 1, ""),
    ]


def growth(lengths: list[int]) -> list[float]:
    found: list[float] = worker("growth", *map(str, lengths))["seconds"]
    return found


def targets(times: Times, outcomes: list[tuple[str, float, float, str]]) -> list[list[str]]:
    """Rows of what was to be reached, what was, and whether that is enough."""
    steps = [
        (f"{problem}, {name}: at most {x:.2f} of {rival}", times[problem, name, n] / times[problem, rival, n], x, "")
        for problem, name, rival, x, n in TARGETS
        if {(problem, name, n), (problem, rival, n)} <= times.keys()
    ]
    outcomes = [*steps, *outcomes]
    return [[what, f"{x:.2f}{unit}", "met" if x <= limit else "missed"] for what, x, limit, unit in outcomes]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Time minigrad and its peers.")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one short round, and small functions: a rough idea")
    parser.add_argument("--plot", metavar="PATH", help="draw a picture of the times, too; needs matplotlib")
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", choices=MEASUREMENTS, help=f"any of {', '.join(MEASUREMENTS)}"
    )
    options = parser.parse_args(arguments)
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot draws with matplotlib, which is not installed: python -m pip install matplotlib")
    measurements = options.only or MEASUREMENTS
    rounds, seconds = (1, 0.05) if options.quick else (options.rounds, 0.15)
    sizes = ([1000, 10_000], 10_000) if options.quick else (CHAIN_SIZES, LOGISTIC_SIZE)
    modules = {c.module for c in CONTENDERS.values() if c.installed()} - {"minigrad"}

    sys.stdout.reconfigure(encoding="utf-8")  # also where it is a file on Windows
    times, worst = time_all(jobs_of(measurements, *sizes), rounds, seconds)
    outcomes = []
    versions = ", ".join(f"{module} {version(module)}" for module in sorted(modules))
    print(f"Python {platform.python_version()} on {platform.machine()}, {versions}.", end="\n\n")
    for table in tables(times):
        print(table, end="\n\n")
    if times:
        print(f"Medians of {rounds} interleaved rounds; the worst measurement took {worst:.1f} times its median.\n")
    if "costs" in measurements:
        text, outcomes = costs(rounds)
        print(text, end="\n\n")
    if reached := targets(times, outcomes):
        print(markdown(["target", "measured", ""], reached))
    if options.plot:
        from .picture import picture

        picture(times).savefig(options.plot)


if __name__ == "__main__":
    main()
