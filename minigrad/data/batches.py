"""Arrays made ready for training: one-hot labels, mini-batches, and a part held out for testing."""

import math
import mmap
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from minigrad.engine import Tensor, constant, numbers_of
from minigrad.sample import Rng, generator
from minigrad.trees import flatten

BLOCK, WINDOW = 2**20, 2**25  # bytes that are read at a time, and that are shuffled at a time


def one_hot(labels: ArrayLike | Tensor, classes: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Turn integer labels of any shape into rows that are 1 at the label and 0 elsewhere.

    The result has the shape `(*labels.shape, classes)`; `classes` is the largest label + 1 unless given. Raises
    `TypeError` for labels that are not integers and `ValueError` for those outside `0 ... classes - 1`.

    >>> one_hot([1, 0, 2])
    array([[0., 1., 0.],
           [1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    if classes is None or not isinstance(labels, Tensor):
        labels = np.asarray(labels)
    rows: NDArray[Any] = rows_of_labels(labels, classes=classes, dtype=dtype)
    return rows


@constant  # which makes it a call of compiled programs: labels may be among their arguments
def rows_of_labels(labels: NDArray[Any], *, classes: int | None, dtype: DTypeLike) -> NDArray[Any]:
    if labels.size == 0 and classes is None:
        raise ValueError("one_hot got no labels; wanted at least one to count the classes. Pass classes=.")
    if labels.size and labels.dtype.kind not in "ui":
        raise TypeError(f"one_hot got {labels.dtype} labels; wanted integers. Convert with labels.astype(int).")
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, -1)
    if low < 0:
        raise ValueError(f"one_hot got labels from {low} to {high}; wanted none below 0. Renumber them.")
    classes = high + 1 if classes is None else classes
    if high >= classes:
        wanted = f"wanted 0 to {classes - 1}. Renumber the labels, or pass a larger classes=."
        raise ValueError(f"one_hot got labels from {low} to {high}; {wanted}")
    rows = np.zeros((*labels.shape, classes), dtype)
    np.put_along_axis(rows, labels.astype(np.intp)[..., np.newaxis], 1, axis=-1)
    return rows


def batches(
    *arrays: ArrayLike, batch_size: int | None, rng: Rng = None, drop_last: bool = False,
    share: Callable[[int], slice] | None = None,
) -> Iterator[tuple[NDArray[Any], ...]]:  # fmt: skip
    """Go through arrays of equal length in batches: tuples with `batch_size` rows of each.

    `batch_size=None` makes one batch of everything. An `rng` shuffles the rows, anew for each call; without one they
    come in order, as views. The last batch may be smaller, and `drop_last` leaves it out. No rows make no batches.
    Raises `ValueError` at the call for unequal lengths or a batch size below 1.

    Of a batch of n rows, `share(n)` are given, if only some are wanted, as in `minigrad.distributed`.

    Where an array lies in a file, as `np.memmap` has it, the file is read in blocks of 1 MB, and batches are copies. An
    `rng` then puts the blocks in random order, and shuffles the rows of so many at a time as make a window of 32 MB,
    with those that were left over from the window before. So up to 32 MB come in any order, as from memory; of more,
    the rows of one block come within one window. Blocks and windows count the bytes of all arrays together.

    >>> [(x.tolist(), y.tolist()) for x, y in batches([1, 2, 3], [4, 5, 6], batch_size=2)]
    [([1, 2], [4, 5]), ([3], [6])]
    """
    columns, rows = _aligned("batches", arrays, rng)
    size = _size(batch_size, max(rows, 1))
    if any(mapping_of(column) is not None for column in columns):
        length = max(1, BLOCK // max(1, sum(column[:1].nbytes for column in columns)))
        read = lambda start: [column[start : start + length] for column in columns]
        parts = batches_of_blocks(range(0, rows, length), read, size, rng)
        parts = (part for part in parts if len(part[0]) == size) if drop_last else parts
        return parts if share is None else (tuple(column[share(len(column))] for column in part) for part in parts)
    order = None if rng is None else generator(rng).permutation(rows)
    stop = rows - rows % size if drop_last else rows
    spans = (range(rows)[start : start + size] for start in range(0, stop, size))
    shares = (span if share is None else span[share(len(span))] for span in spans)
    takes = (slice(span.start, span.stop) for span in shares)
    return (tuple(column[take if order is None else order[take]] for column in columns) for take in takes)


def _size(batch_size: int | None, everything: int) -> int:
    if batch_size is not None and (not isinstance(batch_size, (int, np.integer)) or batch_size < 1):
        raise ValueError(f"batches got batch_size={batch_size!r}; wanted an integer of at least 1, or None for all.")
    return everything if batch_size is None else int(batch_size)


def batches_of_blocks(
    blocks: Sequence[Any], read: Callable[[Any], Sequence[NDArray[Any]]], batch_size: int | None, rng: Rng
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Go through blocks of rows in batches, as `batches` does; each block is read when its turn comes.

    Of the `rng` one number is drawn, at the call, so that the order is the same whoever else draws from it meanwhile.
    """
    size = _size(batch_size, sys.maxsize)
    own = None if rng is None else np.random.default_rng(generator(rng).integers(2**63))
    order = range(len(blocks)) if own is None else own.permutation(len(blocks)).tolist()
    return _windows((read(blocks[i]) for i in order), size, own)


def _windows(blocks: Iterator[Sequence[NDArray[Any]]], size: int, rng: Any) -> Iterator[tuple[NDArray[Any], ...]]:
    """Batches from as many blocks at a time as make a window and a batch; rows that are left over go into the next."""
    rest: list[Sequence[NDArray[Any]]] = []
    while window := [*_window(blocks, size)]:
        columns = [np.concatenate(parts) for parts in zip(*rest, *window, strict=True)]
        for part in window[0]:
            _release(part)
        del window, part  # so that there is only one copy
        rows = len(columns[0])
        places = np.arange(rows) if rng is None else rng.permutation(rows)
        stop = rows - rows % size
        for start in range(0, stop, size):
            yield tuple(column[places[start : start + size]] for column in columns)
        rest = [[column[places[stop:]] for column in columns]]
        del columns
    if rest and len(rest[0][0]):
        yield tuple(rest[0])


def _window(blocks: Iterator[Sequence[NDArray[Any]]], size: int) -> Iterator[Sequence[NDArray[Any]]]:
    rows = read = 0
    for block in blocks:
        yield block
        rows += len(block[0])
        read += sum(part.nbytes for part in block)
        if read >= WINDOW and rows >= size:
            return


def mapping_of(array: NDArray[Any]) -> Any:
    """The array that maps the file which an array is a part of, as memmaps are; None for what is in memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array if isinstance(array.base, mmap.mmap) else None


def _release(array: NDArray[Any]) -> None:
    """Give the memory back into which the system has read a file, which would else count as that of the process."""
    mapping = mapping_of(array)
    is_as_the_file = getattr(mapping, "mode", "c") != "c"  # from a copy on write, what was written would be lost
    if is_as_the_file and hasattr(mmap, "MADV_DONTNEED"):
        mapping.base.madvise(mmap.MADV_DONTNEED)


def joined(parts: Iterable[tuple[Any, int]]) -> Any:
    """What a model has returned for batches of so many samples, as for one; where it is None, it was not called.

    It may be an array, or a structure of arrays. Each has a row for each sample, also where the model has squeezed the
    only row of a batch away.
    """
    found = [([_rows(leaf, samples) for leaf in leaves], build)
             for answer, samples in parts if answer is not None for leaves, build in [flatten(answer)]]  # fmt: skip
    answers = [np.concatenate(rows) for rows in zip(*(rows for rows, _ in found), strict=True)]
    return found[0][1](answers) if found else None


def _rows(answer: Any, samples: int) -> NDArray[Any]:
    array: NDArray[Any] = numbers_of(answer)
    if array.shape[:1] == (samples,):
        return array
    if samples != 1:
        raise ValueError(f"the model gave an array of shape {array.shape} for {samples} samples: wanted as many rows")
    return array[np.newaxis]


def train_test_split(
    *arrays: ArrayLike, test_size: float = 0.25, rng: Rng = None, stratify: ArrayLike | None = None
) -> list[NDArray[Any]]:
    """Split arrays of equal length at random: `x_train, x_test, y_train, y_test = train_test_split(x, y)`.

    `test_size` is a number of rows (int) or a fraction of them (float, rounded up). With labels in `stratify`, each
    class gives its share to the test, rounded down or up. Without an `rng` every call splits differently.
    Raises `ValueError` for unequal lengths, or if either side would be empty.

    >>> x_train, x_test = train_test_split(np.arange(8), rng=0)
    >>> len(x_train), len(x_test)
    (6, 2)
    """
    columns, rows = _aligned("train_test_split", arrays if stratify is None else (*arrays, stratify), rng)
    test_rows = test_size if isinstance(test_size, (int, np.integer)) else math.ceil(test_size * rows)
    if not 0 < test_rows < rows:
        raise ValueError(
            f"train_test_split got test_size={test_size!r} for {rows} rows; wanted at least one row on each side. "
            "Pass a fraction between 0 and 1, or a smaller count."
        )
    order = generator(rng).permutation(rows)
    labels = np.zeros(rows) if stratify is None else columns.pop()[order]  # without labels, all rows are of one class
    if labels.ndim != 1:
        raise ValueError(f"train_test_split got stratify of shape {labels.shape}; wanted one label per row: (n,).")
    test = stratified(labels, int(test_rows))
    return [column[order[side]] for column in columns for side in (~test, test)]


def stratified(labels: NDArray[Any], test_rows: int) -> NDArray[np.bool_]:
    """Mark `test_rows` of the rows for testing, spread evenly over the rows sorted by label."""
    steps = np.arange(len(labels) + 1) * test_rows // len(labels)
    marks = np.empty(len(labels), np.bool_)
    marks[np.argsort(labels, kind="stable")] = np.diff(steps) > 0
    return marks


def _aligned(caller: str, arrays: tuple[ArrayLike, ...], rng: Rng) -> tuple[list[NDArray[Any]], int]:
    columns = [rows_of(caller, array) for array in arrays]
    lengths = [len(column) if column.ndim else None for column in columns]
    if len(set(lengths)) != 1 or lengths[0] is None:
        raise ValueError(f"{caller} got arrays of lengths {lengths}; wanted one or more of the same length.")
    return columns, lengths[0]


def rows_of(owner: str, data: Any) -> NDArray[Any]:
    """Data as an array of rows; raises for what NumPy would take for something else, in silence or with riddles."""
    if isinstance(data, Iterator):
        raise TypeError(
            f"{owner} got {data!r}, which gives its rows once: make an array of it, np.stack([*rows]), "
            "or where it gives batches, hand over the function that makes it anew, without a call of it."
        )
    if hasattr(data, "toarray"):
        raise TypeError(f"{owner} got a sparse {type(data).__name__}: make an array of it, by its method toarray().")
    if isinstance(data, np.ma.MaskedArray):
        raise TypeError(f"{owner} got a masked array, whose mask would be lost: fill it, with data.filled(value).")
    try:
        return np.asarray(data)
    except ValueError as error:
        raise ValueError(f"{owner} got rows of unequal lengths, which make no array: {error}") from error
