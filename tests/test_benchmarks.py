"""The benchmarks compare equals: all contenders start from the same numbers, and a wrong gradient would be noticed."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks import __main__ as command
from benchmarks import contenders, layers
from benchmarks.__main__ import main
from benchmarks.functions import EVALUATORS, NO_SIMULATION, arrays
from benchmarks.layers import LAYERS
from benchmarks.networks import NETWORKS, RATE, check_agreement, problem
from benchmarks.worker import answer_of, batches
from profiles import scale, some

BY_NUMPY = ["NumPy", "NumPy, out=", "minigrad"]
STEPS, CALLS = ["compiled loss", "compiled step", "compiled step, pure"], ["compiled", "compiled, pure"]
FUNCTIONS = ["chain@1000", "logistic@1000", "simulation@30"]


def is_written(contender: str, problem: str) -> bool:
    return not problem.startswith("simulation") or contender not in NO_SIMULATION


@pytest.mark.parametrize("name", some([*NETWORKS, *FUNCTIONS], 2))
def test_minigrad_computes_what_hand_written_numpy_computes(name: str) -> None:
    contenders = [*BY_NUMPY, *(STEPS if name in NETWORKS else CALLS)]
    answers = {one: answer_of(one, name)[1] for one in contenders if is_written(one, name)}
    for numbers in zip(*answers.values(), strict=True):
        check_agreement(name, dict(zip(answers, numbers, strict=True)))


@pytest.mark.parametrize("name", scale([*LAYERS][:1], [*LAYERS]))
def test_minigrad_computes_what_pytorch_computes(name: str) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    contenders = scale(["PyTorch", "minigrad"], layers.CONTENDERS)
    check_agreement(name, {one: answer_of(one, name)[1][0] for one in contenders}, tolerance=1e-3)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("contender", [*BY_NUMPY, *CALLS])
def test_gradients_of_functions_are_equal_number_by_number(contender: str, name: str) -> None:
    if not is_written(contender, name):
        pytest.skip("this is not written by hand")
    gradients = [EVALUATORS[one].build(name, arrays(name), 1)()[1] for one in ("NumPy", contender)]
    np.testing.assert_allclose(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_wrong_by_one_percent_are_noticed(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"right": answer_of("NumPy", network)[1][0]}
    monkeypatch.setattr(contenders, "RATE", 1.01 * RATE)
    losses["wrong"] = answer_of("NumPy", network)[1][0]
    with pytest.raises(ValueError, match="disagree about"):
        check_agreement(network, losses)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_contender_gets_its_own_copy_of_the_same_float32_numbers(network: str) -> None:
    numbers = [[*(array for pair in layers for array in pair), x, y] for layers, x, y in map(problem, [network] * 2)]
    for a, b in zip(*numbers, strict=True):
        assert a.dtype == b.dtype == np.float32
        assert not np.shares_memory(a, b)
        np.testing.assert_array_equal(a, b)


def test_a_new_batch_from_a_global_is_no_new_program() -> None:
    found = batches("2-3-1@4", steps=5)
    assert found == {"programs": 1, "losses": 5}


def test_the_command_prints_tables_and_draws_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    names = scale(["NumPy", "compiled step, pure"], list(contenders.CONTENDERS))  # a process each
    monkeypatch.setattr(command, "CONTENDERS", {name: contenders.CONTENDERS[name] for name in names})
    path = tmp_path / "times.png"
    main(["--quick", "--only", "2-3-1@4", "--plot", str(path)])
    assert "| 2-3-1@4 | " in capsys.readouterr().out
    assert path.read_bytes().startswith(b"\x89PNG")
