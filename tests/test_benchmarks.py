"""The benchmarks compare equals: all contenders start from the same numbers, and a wrong gradient would be noticed."""

import numpy as np
import pytest
from benchmarks import contenders
from benchmarks.networks import NETWORKS, RATE, check_agreement, problem
from benchmarks.worker import loss_after


@pytest.mark.parametrize("network", NETWORKS)
def test_minigrad_computes_what_hand_written_numpy_computes(network: str) -> None:
    check_agreement(network, {contender: loss_after(contender, network) for contender in ("NumPy", "minigrad")})


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_wrong_by_one_percent_are_noticed(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"right": loss_after("NumPy", network)}
    monkeypatch.setattr(contenders, "RATE", 1.01 * RATE)
    losses["wrong"] = loss_after("NumPy", network)
    with pytest.raises(ValueError, match="disagree about the loss"):
        check_agreement(network, losses)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_contender_gets_its_own_copy_of_the_same_float32_numbers(network: str) -> None:
    numbers = [[*(array for pair in layers for array in pair), x, y] for layers, x, y in map(problem, [network] * 2)]
    for a, b in zip(*numbers, strict=True):
        assert a.dtype == b.dtype == np.float32
        assert not np.shares_memory(a, b)
        np.testing.assert_array_equal(a, b)
