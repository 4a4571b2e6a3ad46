"""Several ranks train as one does, and end together; the scenes are in ranks_at_work.py, which mpirun runs."""

import importlib.util
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.data.batches import batches, joined
from minigrad.distributed import Ranks, ranks
from minigrad.files import generator_text, load_arrays

PROGRAM = Path(__file__).with_name("ranks_at_work.py")
MPIRUN = shutil.which("mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
needs_mpi = pytest.mark.skipif(
    MPIRUN is None or importlib.util.find_spec("mpi4py") is None,
    reason="needs MPI: pip install mpi4py mpich",
)
SCENES = [
    "trains_as_one_does", "trains_as_one_does_in_other_dtypes", "is_equal_bit_for_bit_after_every_step",
    "draws_on_each_rank_something_else", "shuffles_alike", "averages_running_statistics",
    "stops_early_with_the_best_weights", "takes_over_what_callbacks_change", "resumes", "takes_structures",
    "trains_on_streams", "stops_on_ctrl_c_after_the_same_step", "averages_in_a_loop_of_ones_own", "refuses_to_average",
    "warns_of_too_many_threads",
]  # fmt: skip
FAULTS = {
    "raise": ("rank 1 of 2 ends all of them", "RuntimeError: no more of this"),
    "kill": (),
    "exit": ("rank 1 of 2 ends all of them", "SystemExit: 0"),
    "nan": ("rank 1 of 2 ends all of them", "FloatingPointError: the loss became nan in epoch 3, step 1"),
    "metric": ("rank 0 of 2 ends all of them", "ZeroDivisionError: a metric of rank 0"),
    "differ": ("RuntimeError: rank 1 differs from rank 0 in tensors/2.bias", "after epoch 1"),
    "data": ("RuntimeError: rank 1 differs from rank 0 in array 0 of the data: give all ranks the same data",),
    "validation": ("RuntimeError: rank 1 differs from rank 0 in array 0 of the validation data: give all ranks the",),
    "stream": ("RuntimeError: rank 1 differs from rank 0 in array 0 of batch 3, array 1 of batch 3: give all ranks",),
    "sum": ("ValueError: the loss is ", "so it is a sum, and ranks take means over the shares"),
    "sum_of_a_stream": ("ValueError: the loss is ", "so it is a sum, and ranks take means over the shares"),
    "model": ("RuntimeError: rank 1 differs from rank 0 in names, shapes and dtypes of parameters",),
    "optimizer": ("RuntimeError: rank 1 differs from rank 0 in class of the optimizer",),
    "ended_before": ("rank 1 of 2 ends all of them", "RuntimeError: the program has ended on this rank"),
    "ended_between": ("rank 0 of 2 ends all of them", "RuntimeError: the program has ended on this rank"),
    "outside": ("rank 1 of 2 ends all of them", "FileNotFoundError: this machine has no such file"),
}


def run(number: int, program: Path, *arguments: str, threads: int = 1) -> tuple[int, str]:
    """How so many ranks of a program end, and what they have printed."""
    its = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(PROGRAM.parents[1])}
    open_mpi = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    open_mpi |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    command = [str(MPIRUN), "-n", str(number), sys.executable, str(program), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        command, env=environment | its | open_mpi, timeout=300, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout


@needs_mpi
@pytest.mark.parametrize("number", [2, 4])
def test_ranks_train_as_one_does(number: int, tmp_path: Path) -> None:
    code, text = run(number, PROGRAM, str(tmp_path), *SCENES)
    assert code == 0, text
    assert [line.removeprefix("done: ") for line in text.splitlines() if line.startswith("done: ")] == SCENES


@needs_mpi
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_on_one_rank_ends_all(fault: str, tmp_path: Path) -> None:
    code, text = run(2, PROGRAM, str(tmp_path), f"fault_{fault}")
    assert time.time() - (tmp_path / "started").stat().st_mtime < 10
    assert code != 0
    for words in FAULTS[fault]:
        assert words in text
    if fault in ("raise", "kill", "exit", "nan"):
        kept = load_arrays(tmp_path / "fault.npz", lambda announced: announced)
        assert kept["epoch"] == 2


@needs_mpi
def test_the_program_of_the_howto_runs(tmp_path: Path) -> None:
    section = (PROGRAM.parents[1] / "demos" / "howto.md").read_text(encoding="utf-8").partition("## Train on many")[2]
    blocks = re.findall(r"^```python\n(.*?)^```$", section.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    (tmp_path / "train.py").write_text("\n".join(blocks), encoding="utf-8")
    code, text = run(2, tmp_path / "train.py", threads=64)
    assert code == 0, text
    assert re.search(r"train\.py:\d+: RuntimeWarning: 2 ranks with 128 threads", text)  # where fit is called
    assert "2 ranks share each batch" in text
    assert [line for line in text.splitlines() if line.startswith("epoch 5/5")]
    assert float(re.search(r"\{'loss': (.*)\}", text)[1]) < 0.05  # type: ignore[index]


@needs_mpi
def test_the_demo_draws_once(tmp_path: Path) -> None:
    demo = PROGRAM.parents[1] / "demos" / "mnist.py"
    code, text = run(2, demo, "--distributed", "--epochs", "1", "--pictures", str(tmp_path), "--no-progress")
    assert code == 0, text
    assert re.search(r"default, 2 ranks \((\d+) MB of gradients from each\): 1 epochs in", text)[1] == "13"  # type: ignore[index]
    assert text.count("held-out digits: ") == 1


def test_all_scenes_are_played() -> None:
    text = PROGRAM.read_text(encoding="utf-8")
    assert {*re.findall(r"^def (\w+)\(\) -> None:", text, re.MULTILINE)} == {*SCENES, *(f"fault_{x}" for x in FAULTS)}


# ---------------------------------------------------------------------------------------------------------- without MPI


def rank_of(rank: int, size: int, communicator: Any = None) -> Ranks:
    made = Ranks()
    made.rank, made.size, made.communicator = rank, size, communicator
    return made


@given(st.integers(0, 50), st.integers(1, 9))
def test_shares_make_up_the_batch(n: int, size: int) -> None:
    shares = [rank_of(rank, size).shard(n) for rank in range(size)]
    assert [i for share in shares for i in range(n)[share]] == list(range(n))
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) <= 1
    assert lengths[0] == max(lengths)


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_shares_of_batches(rows: int, batch_size: int, size: int, shuffled: bool) -> None:
    x = np.arange(rows)
    rng = 3 if shuffled else None
    whole = [part for (part,) in batches(x, batch_size=batch_size, rng=rng)]
    shares = [[*batches(x, batch_size=batch_size, rng=rng, share=rank_of(k, size).shard)] for k in range(size)]
    for part, *parts in zip(whole, *shares, strict=True):
        assert np.concatenate([share for (share,) in parts]).tolist() == part.tolist()


def test_answers_are_joined_by_rows() -> None:
    parts = [({"a": np.ones((2, 3)), "b": [mg.Tensor([1.0, 2.0])]}, 2), (None, 0), ({"a": np.ones(3), "b": [3.0]}, 1)]
    whole = joined((answer, n) for answer, n in parts)
    assert whole["a"].shape == (3, 3)
    assert whole["b"][0].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"an array of shape \(3,\) for 2 samples: wanted as many rows"):
        joined([(np.ones(3), 2)])


KINDS = {
    "PCG64": lambda: np.random.default_rng(1),
    "MT19937": lambda: np.random.Generator(np.random.MT19937(1)),
    "Philox": lambda: np.random.Generator(np.random.Philox(1)),
    "SFC64": lambda: np.random.SFC64(1),
    "RandomState": lambda: np.random.RandomState(1),
    "Python": lambda: random.Random(1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_generators_part_ways_reproducibly(kind: str) -> None:
    states = []
    for rank in (0, 1, 2, 1):
        generator = KINDS[kind]()
        rank_of(rank, 3).set_apart([generator])
        states.append(generator_text(generator))
    assert states[0] == generator_text(KINDS[kind]())
    assert states[1] == states[3]
    assert len({*states}) == 3
    later = KINDS[kind]()
    getattr(later, "random_raw", getattr(later, "random", None))()
    rank_of(1, 3).set_apart([later])
    assert generator_text(later) != states[1]  # it depends on the state


@pytest.mark.parametrize("n", [-1, 2.5, np.ones(3)])
def test_a_share_is_of_a_number_of_samples(n: Any) -> None:
    with pytest.raises(ValueError, match=r"shard got n=.*; wanted the number of samples in the batch"):
        rank_of(0, 2).shard(n)


@pytest.mark.parametrize(
    ("told", "warned"),
    [
        ([({0, 1}, 1), ({0, 1}, 1)], False),
        ([({0, 1}, 2), ({0, 1}, 2)], True),
        ([({0}, 1), ({1}, 1)], False),  # bound to a core each
        ([({0, 1}, 1)] * 4, False),  # more ranks than cores: threads have no part in it
        ([({0, 1}, 2)] * 4, True),
    ],
)
def test_too_many_threads(told: Any, warned: bool) -> None:
    class Communicator:
        def allgather(self, mine: Any) -> Any:
            return [*((platform.node(), *each) for each in told), ("elsewhere", {0}, 99)]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rank_of(0, len(told), Communicator()).check_threads()
    beginning = f"{len(told)} ranks with {sum(n for _, n in told)} threads"
    assert len(caught) == warned
    assert all(str(each.message).startswith(beginning) for each in caught)


def without_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mpi4py", "mpi4py.MPI"):
        monkeypatch.setitem(sys.modules, name, None)
    mg.distributed._mpi.cache_clear()


def test_without_mpi_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without_mpi(monkeypatch)
    model = nn.Linear(1, 1)
    optimizer = mg.optim.SGD(model)
    for ask in (
        lambda: mg.fit(model, nn.mse_loss, optimizer, (np.ones((2, 1)), np.ones((2, 1))), epochs=1, distributed=True),
        lambda: mg.distributed.average(optimizer),
        lambda: mg.distributed.shard(3),
    ):
        with pytest.raises(
            ImportError, match=r"pip install mpi4py mpich.*mpirun -n 4 python train.py.*as root OpenMPI"
        ):
            ask()
    assert ranks(False).size == 1


@pytest.mark.parametrize("wrong", ["yes", 4, None, object()], ids=["text", "number", "none", "object"])
def test_what_is_no_communicator_is_refused(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    without_mpi(monkeypatch)
    with pytest.raises(TypeError, match="wanted True, False, or an intracommunicator"):
        ranks(wrong)


def test_fit_asks_for_no_mpi_unless_told() -> None:
    code = "import sys, numpy as np, minigrad as mg; m = mg.nn.Linear(1, 1); x = np.ones((2, 1)); o = mg.optim.SGD(m); "
    code += "mg.fit(m, mg.nn.mse_loss, o, (x, x), epochs=1, progress=False); print('mpi4py' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
