"""Batches of arrays that lie in files: which rows are in them, in what order, and how much is in memory."""

import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import batches
from minigrad.data.batches import mapping_of


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # as Windows keeps files that are mapped
        yield Path(name)


def memmap(folder: Path, array: np.ndarray, mode: Any = "r") -> Any:
    path = folder / f"{len([*folder.iterdir()])}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode=mode)


@pytest.fixture(scope="module")
def numbers(folder: Path) -> Any:
    return memmap(folder, np.arange(400, dtype=np.int32).reshape(200, 2))


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[pytest.MonkeyPatch]:
    """Blocks of 4 rows, and windows of 5 blocks, for rows of 16 bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["minigrad.data.batches"], "BLOCK", 64)
        patch.setattr(sys.modules["minigrad.data.batches"], "WINDOW", 320)
        yield patch


@given(st.integers(0, 200), st.none() | st.integers(1, 220), st.none() | st.integers(0, 2**32), st.booleans())
def test_batches_of_a_memmap_partition_its_rows(numbers, rows, batch_size, seed, drop_last):
    x, y = numbers[:rows], np.arange(rows)
    options = {"batch_size": batch_size, "drop_last": drop_last}
    pieces = list(batches(x, y, rng=seed, **options))
    assert [len(piece[0]) for piece in pieces] == [len(piece) for (piece,) in batches(y, **options)]
    assert all(type(array) is np.ndarray and array.flags.writeable for piece in pieces for array in piece)
    for images, labels in pieces:
        np.testing.assert_array_equal(images[:, 0] // 2, labels)  # rows stay together
    seen = [int(label) for _, labels in pieces for label in labels]
    assert len(set(seen)) == len(seen)
    assert drop_last or len(seen) == rows
    assert seed is not None or seen == list(range(len(seen)))
    again = batches(x, y, rng=seed, **options)
    assert seed is None or seen == [int(label) for _, labels in again for label in labels]


def order(numbers: Any, rows: int, batch_size: int, rng: Any) -> list[int]:
    """The rows in the order in which they come, of 16 bytes each: 4 in a block, 20 in a window."""
    pieces = batches(numbers[:rows], np.zeros(rows), batch_size=batch_size, rng=rng)
    return [row for x, _ in pieces for row in (x[:, 0] // 2).tolist()]


@given(st.integers(1, 50), st.integers(1, 4), st.integers(0, 2**32))
def test_a_memmap_is_shuffled_by_blocks_and_within_windows_of_them(numbers, blocks, batch_size, seed):
    seen = order(numbers, 4 * blocks, batch_size, seed)
    windows: dict[int, int] = {}
    for row in seen:  # fewer rows are left over than there are in a block, so that each shows up with its window
        windows.setdefault(row // 4, len(windows) // 5)
    for window in range(blocks // 5):
        rows = 20 * (window + 1)
        come = [windows[row // 4] for row in seen[: rows - rows % batch_size]]
        assert max(come) <= window, "no more than the rows of these windows have been read"


def test_blocks_and_rows_come_in_another_order_every_time(numbers):
    rng = np.random.default_rng(0)
    orders = [order(numbers, 200, 4, rng) for _ in range(10)]
    for seen in orders:
        blocks = [row // 4 for row in seen]
        first = [set(blocks[start : start + 20]) for start in range(0, 200, 20)]
        assert [len(blocks) for blocks in first] == [5] * 10, "20 rows of 5 blocks"
        assert sum(max(blocks) - min(blocks) > 10 for blocks in first) > 5, "from all over the file"
        assert sum(a == b for a, b in itertools.pairwise(blocks)) < 70, "in no order"
    assert len(set(map(tuple, orders))) == 10
    again = np.random.default_rng(0)
    assert orders == [order(numbers, 200, 4, again) for _ in range(10)]


def test_the_order_is_that_of_the_seed_whoever_draws_from_the_generator_meanwhile(numbers):
    rng, seen = np.random.default_rng(0), []
    for (x,) in batches(numbers, batch_size=4, rng=rng):
        seen += (x[:, 0] // 2).tolist()
        rng.random()
    alone = batches(numbers, batch_size=4, rng=np.random.default_rng(0))
    assert seen == [row for (x,) in alone for row in (x[:, 0] // 2).tolist()]


def test_blocks_that_make_one_window_come_in_any_order(numbers):
    orders = Counter(
        tuple((piece[:, 0] // 2).tolist())
        for seed in range(600)
        for piece, _ in batches(numbers[:3], np.zeros(3), batch_size=3, rng=seed)
    )
    assert len(orders) == 6
    assert all(50 < count < 150 for count in orders.values()), "five standard deviations"


def test_what_is_mapped(folder):
    x = memmap(folder, np.arange(12.0).reshape(6, 2))
    for array in (x, x[2:], x.T, x[::-2], np.asarray(x), np.asarray(x)[1:], x.view(np.int64), x.reshape(3, 4)):
        assert mapping_of(array).filename == x.filename
    for array in (np.array(x), x.copy(), x[[0, 1]], x + 1, np.zeros(3), np.zeros(3)[1:]):
        assert mapping_of(array) is None


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_what_was_written_to_a_memmap_stays(folder, mode):
    x = memmap(folder, np.zeros((100, 2)), mode)
    if mode != "r":
        x[7] = 1.0
    wanted = np.array(x)
    for _ in range(2):
        seen = np.concatenate([piece for (piece,) in batches(x, batch_size=3)])
        np.testing.assert_array_equal(seen, wanted)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells in /proc what is in memory")
def test_a_memmap_that_was_read_takes_no_memory(folder, monkeypatch):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for name in ("BLOCK", "WINDOW"):
        monkeypatch.setattr(sys.modules["minigrad.data.batches"], name, 2**20)
    x = memmap(folder, np.ones((2**22, 4), np.float32))
    before = resident()
    for (piece,) in batches(x, batch_size=2**15, rng=0):
        assert piece.mean() == 1
    assert resident() - before < x.nbytes / 4
