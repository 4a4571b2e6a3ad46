"""demos/characters.py reads docstrings, learns, writes, and compares itself with counting."""

import re
from pathlib import Path

import numpy as np
import pytest
from profiles import scale, thorough_only

ROOT = Path(__file__).parents[2]
MODELS = ["recurrent", "attention"]


@pytest.fixture
def characters(demo):
    return demo("characters")


def test_it_is_short():
    assert len((ROOT / "demos" / "characters.py").read_text(encoding="utf-8").splitlines()) < 130


@thorough_only
@pytest.mark.parametrize("model", MODELS)
def test_it_learns_and_writes_on_the_way(characters, capsys, model):
    steps, size, bound = scale((60, 40_000, 3.9), (300, 200_000, 3.5))
    bits = characters.main(model=model, steps=steps, characters=size)
    assert bits <= bound
    first, *lines = capsys.readouterr().out.splitlines()
    assert re.match(r"[\d,]+ characters read; by counting, \d\.\d\d bits for each other one", first)
    found = [re.match(r"step +(\d+), +\d+ s: (\d\.\d\d) bits\. Return the .{30,}", line) for line in lines]
    assert [int(each[1]) for each in found] == [steps // 5 * i for i in range(1, 6)]
    assert float(found[0][2]) > float(found[-1][2]) == pytest.approx(bits, abs=0.006)


@pytest.mark.parametrize("model", MODELS)
def test_no_character_sees_a_later_one(characters, model):
    rng = np.random.default_rng(0)
    network = characters.Recurrent(8, rng) if model == "recurrent" else characters.Attention(8, rng)
    x = rng.integers(0, 96, (2, 10))
    changed = x.copy()
    changed[:, 6:] = (changed[:, 6:] + 1) % 96
    before, after = network(x).data, network(changed).data
    assert before[:, :6] == pytest.approx(after[:, :6], abs=1e-5)
    assert not np.allclose(before[:, 6:], after[:, 6:])


def test_counting_gives_probabilities(characters):
    read = characters.docstrings(scale(1000, 3000))
    for start in scale(["th", "~~~~~~"], ["", "th", "Return the ", "~~~~~~"]):
        texts = [start[-2:].rjust(2) + c for c in characters.SYMBOLS]
        chances = [2 ** -characters.bits_by_counting(read, text, order=2) for text in texts]
        assert sum(chances) == pytest.approx(1)


def test_counting_is_that_of_witten_and_bell(characters):
    # after "a", b came twice and c once; a, b and c came 3, 2 and 1 times among 6, and each of 96 is likely at first
    one = (2 + 3 * 1 / 96) / (6 + 3)
    assert 2 ** -characters.bits_by_counting("abacab", "ab", order=1) == pytest.approx((2 + 2 * one) / (3 + 2))
    assert characters.bits_by_counting("", "ab", order=1) == pytest.approx(np.log2(96))


def test_a_model_that_expects_nothing_needs_the_bits_of_the_alphabet(characters):
    def model(x):
        return np.zeros((*x.shape, 96), np.float32)

    assert characters.bits(model, "a" * 100) == pytest.approx(np.log2(96))
    assert len(characters.written(model, "ab", 5, np.random.default_rng(0))) == 7


def test_docstrings_are_those_of_the_standard_library(characters):
    text = characters.docstrings(20_000)
    assert len(text) == 20_000
    assert set(text) <= set(characters.SYMBOLS)
    assert text == characters.docstrings(30_000)[:20_000]


def test_its_options_are_explained(start):
    code, text, err = start("characters", "--help")
    assert (code, err) == (0, "")
    assert all(f"--model {model}" in text for model in MODELS)
    assert "default: 2000" in text
