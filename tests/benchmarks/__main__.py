"""Run the workers one after the other, in interleaved rounds, and print what they measured as Markdown."""

from __future__ import annotations

import argparse
import json
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

from .contenders import CONTENDERS
from .networks import NETWORKS, check_agreement

ROOT = Path(__file__).parents[2]
ONE_THREAD = {
    **dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"], "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "NPROC": "1",  # the size of XLA's other pool of threads
    "JAX_PLATFORMS": "cpu",
}
IMPORT = "import time, numpy; start = time.perf_counter(); import minigrad; print(time.perf_counter() - start)"

LARGEST = "784-100-50-10@128"
TARGETS = [  # minigrad's step takes at most so many times the rival's
    ("2-3-1@4", "PyTorch", 0.40),
    (LARGEST, "NumPy", 1.25),
    *((network, "MyGrad", 1.00) for network in NETWORKS),
]

Times = dict[tuple[str, str], float]  # (network, contender) -> seconds per step


def python(*arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints, run from the top of the repository on one thread."""
    command, environment = [sys.executable, *arguments], {**os.environ, **ONE_THREAD, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout


def worker(*arguments: str) -> Any:
    return json.loads(python("-m", "tests.benchmarks.worker", *arguments))


def import_cost(repeats: int) -> float:
    """The median of `repeats` imports in processes of their own, after one that compiles the bytecode."""
    with TemporaryDirectory() as cache:
        bytecode = {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        return median([float(python("-c", IMPORT, **bytecode)) for _ in range(1 + repeats)][1:])


def time_steps(networks: list[str], contenders: list[str], rounds: int, seconds: float) -> tuple[Times, float]:
    """Medians over rounds, each of which measures everything once, and how much slower the worst was than its median.

    Interleaved, the contenders share the moods of the machine.
    """
    times = defaultdict(list)
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr)
        for network in networks:
            losses = {}
            for contender in contenders:
                if CONTENDERS[contender].runs(network):
                    answer = worker("step", contender, network, str(seconds))
                    times[network, contender].append(answer["seconds"])
                    losses[contender] = answer["loss"]
            check_agreement(network, losses)
    medians = {key: median(values) for key, values in times.items()}
    return medians, max(max(values) / medians[key] for key, values in times.items())


def markdown(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def step_table(times: Times, networks: list[str], contenders: list[str]) -> str:
    rows = []
    for network in networks:
        by_hand = times[network, "NumPy"]
        found = [times.get((network, contender)) for contender in contenders]
        row = [network, *(f"{time * 1e6:,.0f} ({time / by_hand:.2f})" if time else "-" for time in found)]
        if "PyTorch" in contenders:
            row.append(f"{times[network, 'minigrad'] / times[network, 'PyTorch']:.2f}")
        rows.append(row)
    last = ["minigrad / PyTorch"] if "PyTorch" in contenders else []
    return markdown(["layers@batch", *contenders, *last], rows)


def target_table(times: Times, operation: float, extra_import: float) -> str:
    outcomes = [
        (f"{network}: at most {limit:.2f} of {rival}", times[network, "minigrad"] / times[network, rival], limit, "")
        for network, rival, limit in TARGETS
        if (network, rival) in times
    ]
    outcomes.append(("recorded operation, forward and backward: below 5 µs", operation * 1e6, 5, " µs"))
    outcomes.append(("`import minigrad` on top of `import numpy`: below 20 ms", extra_import * 1e3, 20, " ms"))
    rows = [[what, f"{x:.2f}{unit}", "met" if x <= limit else "missed"] for what, x, limit, unit in outcomes]
    return markdown(["target", "measured", ""], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Time minigrad and its peers.")
    parser.add_argument("--rounds", type=int, default=9, help="how often everything is measured (default: 9)")
    parser.add_argument("--quick", action="store_true", help="one short round: a rough idea")
    parser.add_argument("--only", metavar="NETWORK", nargs="+", choices=NETWORKS, help=f"any of {', '.join(NETWORKS)}")
    options = parser.parse_args()
    rounds, seconds = (1, 0.05) if options.quick else (options.rounds, 0.15)
    networks = options.only or list(NETWORKS)
    contenders = [name for name, contender in CONTENDERS.items() if contender.installed()]
    versions = [f"{name} {version(CONTENDERS[name].module)}" for name in contenders if name != "minigrad"]

    sys.stdout.reconfigure(encoding="utf-8")  # also where it is a file on Windows
    times, worst = time_steps(networks, contenders, rounds, seconds)
    operations = [worker("operation") for _ in range(rounds)]
    forward, backward = (median(answer[part] for answer in operations) for part in ("forward", "backward"))
    extra_import = import_cost(repeats=5)
    peak, by_hand = (worker("memory", contender, LARGEST)["bytes"] for contender in ("minigrad", "NumPy"))

    print("One training step in µs, on one thread, and in brackets how many times that of hand-written NumPy.")
    print(f"Python {platform.python_version()} on {platform.machine()}, {', '.join(versions)}.\n")
    print(step_table(times, networks, contenders))
    print(f"\nMedians of {rounds} interleaved rounds; the worst measurement took {worst:.1f} times its median.")
    print(f"A recorded operation on 0-d arrays: {forward * 1e6:.2f} µs forward, {backward * 1e6:.2f} µs backward.")
    print(
        f"Memory at the peak of a step of {LARGEST}: {peak / 1e6:.2f} MB, {peak / by_hand:.2f} of hand-written NumPy.\n"
    )
    print(target_table(times, forward + backward, extra_import))


if __name__ == "__main__":
    main()
