"""What a training goes through, epoch by epoch: arrays in memory or in files, or batches that come in a stream."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minigrad.data.batches import batches, batches_of_blocks, mapping_of, rows_of
from minigrad.engine import Array
from minigrad.files import load_arrays
from minigrad.training.checks import arrays_in
from minigrad.trees import aligned, flatten

Stream: TypeAlias = Iterable[Any] | Callable[[], Iterable[Any]]
"""What gives batches, anew each time that it is iterated or called; or a list of `.npz` files."""

Parts: TypeAlias = Generator[tuple[Any, Sequence[Array]], None, None]
PAIR = "a pair of arrays (x, y)"


class Source(NamedTuple):
    """Data to go through again and again.

    `batches(rng, share)` gives, for each batch, what it holds (x alone, or x and y) and the arrays in that: of arrays
    the `share` of each, if there is one. `whole` holds all of it where it is in memory, `samples` tells how many there
    are, or 0 where that is not known, and `stream` is the user's, if it is one.
    """

    batches: Callable[..., Parts]
    whole: Any = None
    samples: int = 0
    stream: Any = None


def source(name: str, data: Any, batch_size: int | None, pairs: bool = True) -> Source:
    """The source that some data are: of batches that are pairs x and y, or x alone."""
    if isinstance(data, Iterator):
        rows_of(name, data)  # which says what to give instead
    if isinstance(data, (list, tuple)) and data and all(map(_is_file, data)):
        read = _reader(name, "xy" if pairs else "x")
        parts = partial(batches_of_blocks, data, read, batch_size)
        return Source(lambda rng, share=None: ((part if pairs else part[0], part) for part in parts(rng)))
    if _is_stream(data):
        return Source(lambda rng, share=None: _checked(name, data, pairs), stream=data)
    wanted = f"{PAIR}, a list of .npz files, or what gives batches, such as lambda: [(x, y), ...]"
    tree = _pair(name, data, wanted) if pairs else arrays_in(name, data)
    columns, build = flatten(tree)
    parts = partial(batches, *columns, batch_size=batch_size)
    whole = tree if all(mapping_of(column) is None or not column.size for column in columns) else None
    its = lambda rng, share=None: ((build(part), part) for part in parts(rng=rng, share=share))
    return Source(its, whole, len(columns[0]) if pairs else 0)


def ahead(parts: Parts) -> Parts:
    """The same parts, of which a thread makes up to two in advance; what it raises is raised here, and it ends here."""
    made: SimpleQueue[Any] = SimpleQueue()
    free, stopped, end, errors = Semaphore(2), Event(), object(), list[BaseException]()

    def make() -> None:
        try:
            while free.acquire() and not stopped.is_set():
                made.put(next(parts, end))
        except BaseException as error:
            errors.append(error)
            made.put(end)

    thread = Thread(target=copy_context().run, args=(make,), daemon=True)
    thread.start()
    try:
        while (part := made.get()) is not end:
            free.release()
            yield part
        if errors:
            raise errors[0]
    finally:
        stopped.set()
        free.release()
        thread.join()


def _is_stream(data: Any) -> bool:
    is_array = isinstance(data, (Sequence, Mapping)) or hasattr(data, "__array__") or hasattr(data, "toarray")
    return not is_array and (isinstance(data, Iterable) or callable(data))


def _is_file(item: Any) -> bool:
    return isinstance(item, os.PathLike) or (isinstance(item, str) and item.endswith(".npz"))


def _checked(name: str, stream: Any, pairs: bool) -> Parts:
    """The batches of a stream as arrays; raises where one is of a wrong form, or of another than the first."""
    given, first = stream if isinstance(stream, Iterable) else stream(), None
    if not isinstance(given, Iterable):
        raise TypeError(f"{name} was called and gave {given!r}; wanted an iterator of batches.")
    for number, batch in enumerate(given, 1):
        where = f"{name}: batch {number}"
        tree = _pair(where, batch) if pairs else arrays_in(where, batch)
        arrays, build = flatten(tree)
        _check_rows(where, arrays)
        axes = build([array.ndim for array in arrays])
        first = axes if first is None else first
        if aligned(first, axes, where) != flatten(first)[0]:
            raise ValueError(f"{where} holds arrays of {shapes_of(arrays)}; wanted {first} axes, as in batch 1.")
        yield tree, arrays
    if first is None:
        raise ValueError(f"{name} gave no batches; wanted some in each epoch: a function makes an iterator each time")


def _pair(where: str, data: Any, wanted: str = PAIR) -> tuple[Any, Any]:
    """The samples and targets of a pair, each an array, or a tuple or dict of arrays; all have as many rows."""
    if not (isinstance(data, (tuple, list)) and len(data) == 2):
        shapes = shapes_of(flatten(data)[0])
        raise TypeError(f"{where} is one {type(data).__name__} of {shapes:.100}; wanted {wanted}.")
    x, y = (arrays_in(f"{where}: {letter}", part) for letter, part in zip("xy", data, strict=True))
    hint = "; several inputs or targets go into a tuple or a dict" if list in map(type, data) else ""
    _check_rows(where, flatten((x, y))[0], hint)
    return x, y


def _check_rows(where: str, arrays: Sequence[Array], hint: str = "") -> None:
    lengths = {array.shape[:1] for array in arrays}
    if len(lengths) > 1 or lengths & {(), (0,)}:
        shapes = shapes_of(arrays)
        raise ValueError(f"{where} holds arrays of {shapes}; wanted as many rows in each, and at least one{hint}.")


def shapes_of(arrays: Sequence[Array]) -> str:
    return f"shape {' and '.join(str(np.shape(array)) for array in arrays)}"


def _reader(name: str, letters: str) -> Callable[[Any], Sequence[Array]]:
    """The function that reads the arrays of a file, which are to be of the kinds that the first one has."""
    first: dict[str, Any] = {}

    def read(path: Any) -> Sequence[Array]:
        def wanted(found: dict[str, Array]) -> Iterable[str]:
            if not found.keys() >= {*letters}:
                its = ", ".join(found) or "nothing"
                raise ValueError(f"{name}: {path} holds arrays named {its:.100}; wanted {' and '.join(letters)}.")
            return letters

        arrays = [*load_arrays(path, wanted).values()]
        _check_rows(f"{name}: {path}", arrays)
        kinds = [(str(array.dtype), *array.shape[1:]) for array in arrays]
        if first.setdefault("kinds", kinds) != kinds:
            raise ValueError(f"{name}: {path} holds rows of {kinds}; wanted {first['kinds']}, as in {first['path']}.")
        first.setdefault("path", path)
        return arrays

    return read
