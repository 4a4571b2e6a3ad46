"""One way to say where random numbers come from: a seed, a generator, or None."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.data import batches, train_test_split
from minigrad.sample import generator

ROWS = np.arange(20)
DRAWS: dict[str, Callable[[Any], Any]] = {
    "Linear": lambda rng: nn.Linear(2, 3, rng=rng).weight.data,
    "Dropout": lambda rng: nn.Dropout(0.5, rng=rng)(np.ones(64)),
    "Embedding": lambda rng: nn.Embedding(2, 3, rng=rng).weight.data,
    "Conv1d": lambda rng: nn.Conv1d(1, 2, 3, rng=rng).weight.data,
    "ConvTranspose2d": lambda rng: nn.ConvTranspose2d(1, 2, 3, rng=rng).weight.data,
    "LSTM": lambda rng: nn.LSTM(2, 3, rng=rng).weight_ih_l0.data,
    "GRUCell": lambda rng: nn.GRUCell(2, 3, rng=rng).weight_ih.data,
    "MultiheadAttention": lambda rng: nn.MultiheadAttention(2, 1, rng=rng).in_proj_weight.data,
    "TransformerBlock": lambda rng: nn.TransformerBlock(2, 1, rng=rng).linear1.weight.data,
    "uniform": lambda rng: nn.init.uniform((3, 4), 0, 1, rng=rng),
    "normal": lambda rng: nn.init.normal((3, 4), 0, 1, rng=rng),
    "xavier_uniform": lambda rng: nn.init.xavier_uniform((3, 4), rng=rng),
    "xavier_normal": lambda rng: nn.init.xavier_normal((3, 4), rng=rng),
    "kaiming_uniform": lambda rng: nn.init.kaiming_uniform((3, 4), rng=rng),
    "kaiming_normal": lambda rng: nn.init.kaiming_normal((3, 4), rng=rng),
    "batches": lambda rng: next(batches(ROWS, batch_size=20, rng=rng))[0],
    "train_test_split": lambda rng: train_test_split(ROWS, rng=rng)[0],
    "fit": lambda rng: trained(rng),
}


def trained(seed: Any) -> Any:
    model = nn.Linear(1, 1, rng=0)
    x = ROWS[:, None] / np.float32(20)
    mg.fit(
        model, nn.mse_loss, mg.optim.SGD(model), (x, np.sin(7 * x)), epochs=1, batch_size=3, seed=seed, progress=False
    )
    return model.weight.data


every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


@every_draw
@pytest.mark.parametrize("seed", [0, 42, np.int64(7), 2**70])
def test_a_seed_is_a_generator_with_it(draw: Any, seed: Any) -> None:
    np.testing.assert_array_equal(draw(seed), draw(np.random.default_rng(seed)))
    np.testing.assert_array_equal(draw(seed), draw(seed))


@every_draw
def test_a_generator_goes_on_and_none_is_another_each_time(draw: Any) -> None:
    rng = np.random.default_rng(0)
    assert not np.array_equal(draw(rng), draw(rng))
    if draw is not DRAWS["batches"]:  # for which None is to leave the rows in order
        assert not np.array_equal(draw(None), draw(None))


@every_draw
@pytest.mark.parametrize("wrong", [-1, True, 1.0, "0", [1], np.random.RandomState(0), np.random.PCG64(0), np.random])
def test_all_else_is_one_error(draw: Any, wrong: Any) -> None:
    name = "seed" if draw is DRAWS["fit"] else "rng"
    wanted = (
        rf"got {name}=.*; wanted a seed \(an integer of at least 0\), a generator such as np.random.default_rng\(0\)"
    )
    with pytest.raises((TypeError, ValueError), match=wanted):
        draw(wrong)


def test_the_generator_is_the_very_one() -> None:
    rng = np.random.default_rng(0)
    assert generator(rng) is rng
    assert nn.Dropout(rng=rng).rng is rng
