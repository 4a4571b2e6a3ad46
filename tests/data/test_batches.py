"""Labels, batches and splits."""

import math
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import batches, one_hot, train_test_split


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
def test_one_hot_dtype(dtype: type) -> None:
    rows = one_hot(np.array([2, 0], np.uint8), 4, dtype=dtype)
    assert rows.dtype == dtype
    assert rows.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


@given(st.lists(st.integers(0, 30), min_size=1), st.integers(0, 3), st.sampled_from([np.uint8, np.int64, ">i4"]))
def test_argmax_inverts_one_hot(labels: list[int], more: int, dtype: Any) -> None:
    array = np.array(labels, dtype)
    for classes in (None, max(labels) + 1 + more):
        rows = one_hot(array, classes)
        assert rows.shape == (len(labels), classes or max(labels) + 1)
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows.argmax(axis=-1), labels)
        np.testing.assert_array_equal(rows.sum(axis=-1), 1)
        np.testing.assert_array_equal(one_hot(array[:, None], classes), rows[:, None])


def test_one_hot_of_a_scalar_and_of_nothing() -> None:
    assert one_hot(1, 3).tolist() == [0, 1, 0]
    assert one_hot([], 3).shape == (0, 3)
    assert one_hot(np.zeros((2, 0), int), 3).shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("labels", "classes", "error", "message"),
    [
        ([0, -1], None, ValueError, "labels from -1 to 0; wanted none below 0. Renumber them"),
        ([-1], None, ValueError, "labels from -1 to -1; wanted none below 0"),
        ([-1], 3, ValueError, "labels from -1 to -1; wanted none below 0"),
        ([0, 3], 3, ValueError, "labels from 0 to 3; wanted 0 to 2. Renumber the labels, or pass a larger classes="),
        ([2**63], 3, ValueError, "to 9223372036854775808"),
        ([0.0, 1.0], None, TypeError, "float64 labels; wanted integers. Convert with"),
        ([True], None, TypeError, "bool labels"),
        (["1"], None, TypeError, "<U1 labels"),
        ([], None, ValueError, "no labels; .* Pass classes="),
    ],
)
def test_one_hot_refuses(labels: Any, classes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        one_hot(labels, classes)


seeds = st.one_of(st.none(), st.integers(0, 2**32 - 1))


def generator(seed: int | None) -> np.random.Generator | None:
    return None if seed is None else np.random.default_rng(seed)


@given(st.integers(0, 50), st.one_of(st.none(), st.integers(1, 60)), seeds, st.booleans())
def test_batches_partition_the_rows(rows: int, batch_size: int | None, seed: int | None, drop_last: bool) -> None:
    x, y = np.arange(2 * rows).reshape(rows, 2), [str(row) for row in range(rows)]
    size = batch_size or max(rows, 1)
    pieces = list(batches(x, y, batch_size=batch_size, rng=generator(seed), drop_last=drop_last))
    lengths = [len(piece[0]) for piece in pieces]
    assert lengths == [size] * (rows // size) + ([rows % size] if rows % size and not drop_last else [])
    seen = [int(label) for _, labels in pieces for label in labels]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(rows))
    assert drop_last or len(seen) == rows
    assert seed is not None or seen == list(range(len(seen)))
    for images, labels in pieces:
        np.testing.assert_array_equal(images[:, 0] // 2, labels.astype(int))  # rows stay together


def test_batches_of_one_array_are_tuples_and_views() -> None:
    x = np.arange(5)
    pieces = list(batches(x, batch_size=2))
    assert all(isinstance(piece, tuple) and len(piece) == 1 for piece in pieces)
    assert all(np.shares_memory(piece[0], x) for piece in pieces)


def test_batches_shuffle_anew_for_each_call_and_repeat_with_the_seed() -> None:
    def epochs(rng: np.random.Generator) -> list[list[int]]:
        return [next(batches(np.arange(50), batch_size=None, rng=rng))[0].tolist() for _ in range(2)]

    first, second = epochs(np.random.default_rng(0))
    assert first != second != sorted(second)
    assert [first, second] == epochs(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        (([1, 2], [1]), {"batch_size": 1}, ValueError, r"lengths \[2, 1\]; wanted one or more of the same length"),
        ((), {"batch_size": 1}, ValueError, r"lengths \[\]"),
        ((3, [1]), {"batch_size": 1}, ValueError, r"lengths \[None, 1\]"),
        (([1],), {"batch_size": 0}, ValueError, "batch_size=0; wanted an integer of at least 1, or None"),
        (([1],), {"batch_size": -2}, ValueError, "batch_size=-2"),
        (([1],), {"batch_size": 2.0}, ValueError, r"batch_size=2\.0"),
        (([1],), {"batch_size": 1, "rng": "0"}, TypeError, "rng='0'; wanted a seed"),
    ],
)
def test_batches_refuses_at_the_call(arrays: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        batches(*arrays, **options)


@st.composite
def splits(draw: Any) -> tuple[list[int], float]:
    labels = draw(st.lists(st.integers(-2, 3), min_size=2, max_size=60))
    count = draw(st.integers(1, len(labels) - 1))
    fraction = draw(st.floats(0.01, 1 - 1 / len(labels)))
    return labels, draw(st.sampled_from([count, fraction]))


@given(splits(), seeds, st.booleans())
def test_split_is_a_stratified_partition(split: tuple[list[int], float], seed: int | None, stratified: bool) -> None:
    labels, test_size = split
    rows, y = np.arange(len(labels)), np.array(labels)
    stratify = labels if stratified else None
    parts = train_test_split(rows, y, test_size=test_size, rng=generator(seed), stratify=stratify)
    x_train, x_test, y_train, y_test = parts
    assert len(x_test) == (test_size if isinstance(test_size, int) else math.ceil(test_size * len(labels)))
    assert sorted([*x_train, *x_test]) == rows.tolist()
    np.testing.assert_array_equal(y[x_train], y_train)
    np.testing.assert_array_equal(y[x_test], y_test)
    if stratified:
        in_test = Counter(y_test.tolist())
        for label, count in Counter(labels).items():
            assert abs(in_test[label] - count * len(x_test) / len(labels)) < 1


def test_split_is_uniform() -> None:
    """Each row is as likely as any other to be a test row, with and without labels."""
    labels = np.array([0] * 7 + [1] * 3)
    rng = np.random.default_rng(0)
    for stratify in (None, labels):
        hits = np.zeros(10)
        for _ in range(2000):
            hits[train_test_split(np.arange(10), test_size=5, rng=rng, stratify=stratify)[1]] += 1
        groups = [np.arange(10)] if stratify is None else [np.arange(7), np.arange(7, 10)]
        for group in groups:
            np.testing.assert_allclose(hits[group], hits[group].mean(), atol=130)  # six standard deviations


def test_split_mixes_the_rows_and_repeats_with_the_seed() -> None:
    def split(seed: int | None) -> list[list[int]]:
        parts = train_test_split(np.arange(100), rng=generator(seed), stratify=np.arange(100) // 25)
        return [part.tolist() for part in parts]

    assert split(0) == split(0) != split(1)
    assert split(None) != split(None)
    assert all(part != sorted(part) for part in split(0))


def test_split_leaves_the_global_generator_alone() -> None:
    before = pickle.dumps(np.random.get_state())  # noqa: NPY002 - the state that must not move
    train_test_split(np.arange(10))
    next(batches(np.arange(10), batch_size=None))
    assert pickle.dumps(np.random.get_state()) == before  # noqa: NPY002


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        (([1, 2], [1]), {}, ValueError, r"train_test_split got arrays of lengths \[2, 1\]"),
        (([1, 2],), {"stratify": [1]}, ValueError, r"lengths \[2, 1\]"),
        (([1, 2],), {"stratify": [[1], [2]]}, ValueError, r"stratify of shape \(2, 1\); wanted one label per row"),
        ((), {}, ValueError, r"lengths \[\]"),
        (([],), {}, ValueError, "test_size=0.25 for 0 rows"),
        (([1],), {}, ValueError, "test_size=0.25 for 1 rows; wanted at least one row on each side"),
        (([1, 2],), {"test_size": 2}, ValueError, "test_size=2 for 2 rows"),
        (([1, 2],), {"test_size": 0}, ValueError, "test_size=0 "),
        (([1, 2],), {"test_size": 0.0}, ValueError, "Pass a fraction between 0 and 1, or a smaller count"),
        (([1, 2],), {"test_size": 1.0}, ValueError, r"test_size=1\.0"),
        (([1, 2],), {"test_size": -0.5}, ValueError, r"test_size=-0\.5"),
        (([1, 2],), {"rng": -7}, ValueError, "rng=-7; wanted a seed"),
    ],
)
def test_split_refuses(arrays: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        train_test_split(*arrays, **options)
