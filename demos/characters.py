"""A language model of characters: it reads the docstrings of Python's standard library, and writes some of its own.

--model recurrent   a gated recurrent unit over the characters before
--model attention   two transformer blocks, of which each character sees those before it

Its bits per character on text that it has not read stand beside those of counting what came after the five characters
before, mixed with what came after four, three and so on (Witten and Bell, IEEE Trans. Inf. Theory 1991).
"""

import argparse
import ast
import math
import os
import sysconfig
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices gain nothing from more; NumPy looks only once

import numpy as np

import minigrad as mg
from minigrad import nn

LENGTH, BATCH = 32, 64  # characters of a sequence, and sequences of a step
SYMBOLS = "\n" + "".join(map(chr, range(32, 127)))


def docstrings(characters: int) -> str:
    """The docstrings of the modules of the standard library, in the order of their names, as much as is asked for."""
    text, paths = "", sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    while len(text) < characters and paths:
        for node in ast.walk(ast.parse(paths.pop(0).read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (found := ast.get_docstring(node)):
                text += "".join(c for c in found if c in SYMBOLS) + "\n\n"
    return text[:characters]


def codes(text: str) -> Any:
    return np.array([SYMBOLS.index(c) for c in text])


class Recurrent(nn.Module):
    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.embedding, self.output = nn.Embedding(len(SYMBOLS), size, rng=rng), nn.Linear(size, len(SYMBOLS), rng=rng)
        self.memory = nn.GRU(size, size, batch_first=True, rng=rng)

    def forward(self, x: Any) -> Any:
        return self.output(self.memory(self.embedding(x))[0])


class Attention(nn.Module):
    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.embedding, self.places = (nn.Embedding(n, size, rng=rng) for n in (len(SYMBOLS), LENGTH))
        self.blocks = [nn.TransformerBlock(size, 4, 2 * size, rng=rng) for _ in range(2)]
        self.output = nn.Linear(size, len(SYMBOLS), rng=rng)

    def forward(self, x: Any) -> Any:
        x = self.embedding(x) + self.places(np.arange(x.shape[1]))
        for block in self.blocks:
            x = block(x, is_causal=True)
        return self.output(x)


def bits_by_counting(read: str, unseen: str, order: int = 5) -> float:
    """Bits per character of `unseen`, by counts of what came after up to `order` characters in `read`."""
    chance, places = np.full(len(unseen) - order, 1 / len(SYMBOLS)), range(order, len(unseen))
    for n in range(order + 1):
        after, before = (Counter(read[i : i + m] for i in range(len(read) - n)) for m in (n + 1, n))
        kinds = Counter(text[:-1] for text in after)  # how many different characters came after each
        texts = [unseen[i - n : i + 1] for i in places]
        hits, seen, new = np.array([(after[text], before[text[:-1]], kinds[text[:-1]]) for text in texts]).T
        chance = np.where(seen > 0, (hits + new * chance) / np.maximum(seen + new, 1), chance)
    return float(-np.mean(np.log2(chance)))


def bits(model: nn.Module, unseen: str) -> float:
    """Bits per character of `unseen`, cut into sequences, by what the model expects."""
    rows = codes(unseen[: len(unseen) // (LENGTH + 1) * (LENGTH + 1)]).reshape(-1, LENGTH + 1)
    expected = mg.predict(model, rows[:, :-1]).reshape(-1, len(SYMBOLS))
    return float(nn.cross_entropy(expected, rows[:, 1:].ravel())) / math.log(2)


def written(model: nn.Module, text: str, count: int, rng: np.random.Generator, warmth: float = 0.7) -> str:
    """Go on after `text`, a character at a time, each drawn from what the model expects."""
    for _ in range(count):
        chances = nn.softmax(mg.predict(model, codes(text[-LENGTH:])[None])[0, -1].astype(float) / warmth)
        text += SYMBOLS[rng.choice(len(SYMBOLS), p=chances)]
    return text


def main(*, model: str = "recurrent", steps: int = 2000, seed: int = 0, characters: int = 600_000) -> float:
    """Train, print samples on the way, and return the bits per character of text that was not read."""
    rng, start, text = np.random.default_rng(seed), time.perf_counter(), docstrings(characters)
    read, unseen, numbers = text[: -len(text) // 20], text[-len(text) // 20 :], codes(text)
    print(f"{len(read):,} characters read; by counting, {bits_by_counting(read, unseen):.2f} bits for each other one")
    network: nn.Module = Recurrent(128, rng) if model == "recurrent" else Attention(96, rng)
    optimizer, schedule = mg.optim.AdamW(network.parameters()), mg.optim.one_cycle_schedule(0.004, steps, rise=0.1)

    @mg.compile
    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        nn.cross_entropy(np.reshape(network(x), (-1, len(SYMBOLS))), np.reshape(y, -1)).backward()
        mg.optim.clip_grad_norm(optimizer.parameters, 1.0)
        optimizer.step()

    for number in range(1, steps + 1):
        x = numbers[rng.integers(0, len(read) - LENGTH, (BATCH, 1)) + np.arange(LENGTH + 1)]
        optimizer.lr = schedule(number - 1)
        step(x[:, :-1], x[:, 1:])
        if number % max(1, steps // 5) == 0:
            error, line = bits(network, unseen), written(network, "Return the ", 70, rng).replace("\n", " / ")
            print(f"step {number:5}, {time.perf_counter() - start:3.0f} s: {error:.2f} bits. {line}", flush=True)
    return bits(network, unseen)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["recurrent", "attention"], help="default: %(default)s")
    parser.add_argument("--steps", type=int, help=f"each on {BATCH} sequences of {LENGTH}; default: %(default)s")
    parser.add_argument("--seed", type=int, help="of first weights, sequences and samples; default: %(default)s")
    parser.set_defaults(**main.__kwdefaults__)
    options = parser.parse_args()
    if options.steps < 1 or options.seed < 0:
        parser.error(f"got steps={options.steps} and seed={options.seed}; wanted at least 1, and at least 0")
    main(**vars(options))
