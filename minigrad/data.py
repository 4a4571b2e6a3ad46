"""Data for training: the MNIST digits, one-hot labels, splits and mini-batches.

Arrays come in as NumPy and go out as NumPy. Files are untrusted: they are checked before memory is set aside for
them, nothing in them is run, and a bad one gets one error: which file, what came, what was wanted, what to do next.
"""

import gzip
import io
import math
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from minigrad.tensor import Tensor, constant

Digits = tuple[NDArray[np.float32], NDArray[np.int64]]

MAX_DIGITS = 100_000  # in one array; MNIST trains on 60,000
MAX_BYTES = MAX_DIGITS * 784 * 4  # in one array, or in one unpacked pickle: that many digits in float32
_FORMS = "a folder of four IDX files, Keras' mnist.npz, an .npz with images and labels, or mnist.pkl.gz"
_NEXT = "Fetch a fresh copy, or see help(load_mnist) for the files it reads."


class DataFileError(ValueError):
    """A data file is damaged, hostile or of another kind."""


def load_mnist(path: str | PathLike[str]) -> tuple[Digits, Digits]:
    """Read the MNIST digits as `(x_train, y_train), (x_test, y_test)`.

    Images are float32 in [0, 1] of shape `(n, 784)`, labels int64 of shape `(n,)`. `path` is one of

    - a folder with the four IDX files (`train-images-idx3-ubyte` or `train-images.idx3-ubyte` ..., `.gz` or not);
    - the `mnist.npz` of Keras (`x_train`, `y_train`, `x_test`, `y_test`);
    - an `.npz` with `images` and `labels` alone: in each class every fifth digit is for testing, the others for
      training, both in the order of the file (5,000 digits, 500 of each class: 4,000 and 1,000);
    - `mnist.pkl.gz` with its training, validation and test pairs: training and validation are joined in this order.

    Raises `FileNotFoundError` for a missing file and `DataFileError` (a `ValueError`) for one that is damaged or holds
    more than `MAX_DIGITS` in an array.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _from_folder(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; wanted MNIST as {_FORMS}. Check the path.")
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        return _from_npz(path) if zipped else _from_pickle(path)
    except (DataFileError, FileNotFoundError):
        raise
    except Exception as error:  # gzip, zlib, zipfile and pickle each have their own, and a bad file can raise any
        raise DataFileError(f"{path}: cannot be read ({type(error).__name__}: {error!s:.200}). {_NEXT}") from None


def _refuse(source: object, came: str, wanted: str) -> NoReturn:
    raise DataFileError(f"{source}: {came}; wanted {wanted}. {_NEXT}")


def _open(path: Path) -> io.BufferedReader | gzip.GzipFile:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"  # browsers unpack files and keep the .gz, so the name proves nothing
    return gzip.open(path) if packed else path.open("rb")


def _read_array(
    read: Callable[[int], bytes], dtype: np.dtype[Any], shape: tuple[int, ...], source: str, fortran: bool = False
) -> NDArray[Any]:
    """Read the array that a header announced and that must end its stream: announced sizes are checked first."""
    size = dtype.itemsize * math.prod(shape)
    fits = len(shape) > 0 and 1 <= shape[0] <= MAX_DIGITS and shape[1:] in ((), (784,), (28, 28)) and size <= MAX_BYTES
    if not fits or dtype.kind not in "uif":
        _refuse(source, f"announces {dtype} of shape {shape}", f"numbers for at most {MAX_DIGITS:,} digits of 28 x 28")
    data = read(size + 1)  # one more than announced, to see that nothing trails
    if len(data) != size:
        _refuse(source, f"holds {'more' if len(data) > size else len(data)} bytes", f"the {size} its header announces")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _digits(images: NDArray[Any], labels: NDArray[Any], source: str) -> Digits:
    """Check images and labels against each other, whatever file they came from, and bring them to one form."""
    if images.shape[1:] not in ((784,), (28, 28)) or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        _refuse(source, f"images are {images.dtype} of shape {images.shape}", "uint8 or float of shape (n, 784)")
    if labels.ndim != 1 or labels.dtype.kind == "f":
        _refuse(source, f"labels are {labels.dtype} of shape {labels.shape}", "integers of shape (n,)")
    if len(images) != len(labels):
        _refuse(source, f"{len(images)} images and {len(labels)} labels", "one label for each image")
    if labels.min() < 0 or labels.max() > 9:
        _refuse(source, f"labels run from {labels.min()} to {labels.max()}", "0 to 9")
    brightest = 255 if images.dtype == np.uint8 else 1
    if not (images.min() >= 0 and images.max() <= brightest):  # "not within", because NaN is on neither side
        _refuse(source, f"pixels run from {images.min()} to {images.max()}", "0 to 1")
    pixels = images.reshape(-1, 784).astype(np.float32)
    pixels /= brightest
    return pixels, labels.astype(np.int64)


def _from_folder(folder: Path) -> tuple[Digits, Digits]:
    def part(name: str) -> Digits:
        return _digits(_read_idx(folder, name, "images", 3), _read_idx(folder, name, "labels", 1), f"{folder}, {name}")

    return part("train"), part("t10k")


def _read_idx(folder: Path, part: str, kind: str, dimensions: int) -> NDArray[Any]:
    names = [f"{part}-{kind}{mark}idx{dimensions}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder}: none of {', '.join(names)}. Pass the folder that holds the four IDX files.")
    with _open(path) as stream:
        magic = bytes((0, 0, 8, dimensions))  # two zeros, 8 for unsigned bytes, the number of dimensions
        start = stream.read(4)
        if start != magic:
            _refuse(path, f"starts with bytes {start.hex(' ')}", f"{magic.hex(' ')} ({part} {kind} in IDX)")
        shape = np.frombuffer(stream.read(4 * dimensions), ">u4").tolist()
        return _read_array(stream.read, np.dtype(np.uint8), tuple(shape), str(path))


def _from_npz(path: Path) -> tuple[Digits, Digits]:
    with zipfile.ZipFile(path) as archive:

        def pair(images: str, labels: str) -> Digits:
            return _digits(
                _read_npy(archive, images, path), _read_npy(archive, labels, path), f"{path}, {images}, {labels}"
            )

        names = set(archive.namelist())
        if {"x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"} <= names:
            return pair("x_train", "y_train"), pair("x_test", "y_test")
        if not {"images.npy", "labels.npy"} <= names:
            _refuse(path, f"holds {len(names)} other arrays", "x_train, y_train, x_test, y_test, or images, labels")
        x, y = pair("images", "labels")
    test = _stratified(y, len(y) // 5)
    return (x[~test], y[~test]), (x[test], y[test])


def _read_npy(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    member, source = archive.getinfo(f"{name}.npy"), f"{path}, array {name}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others unpack without bounds
        _refuse(source, f"is packed by method {member.compress_type}", "plain or deflated, as np.savez writes")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            _refuse(source, f"is .npy format {version}", "(1, 0)")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        return _read_array(stream.read, dtype, shape, source, fortran)


# A pickle is a program. Ours may only stack numbers, strings and tuples and name what makes NumPy arrays, and even that
# is never called: a _Recorder keeps what it would be called with, and _pickled_array reads an array out of it.

_PICKLE_STEPS = 1_000  # the digits take about 150
_PICKLE_OPCODES = re.compile(  # none that hashes (nested tuples can take for ever) or sets memory aside
    "PROTO|FRAME|STOP|MARK|(EMPTY_)?TUPLE[123]?|NONE|NEW(TRUE|FALSE)|INT|BININT[12]?|LONG1?|(SHORT_)?BINSTRING|UNICODE"
    "|(SHORT_)?BINUNICODE|(SHORT_)?BINBYTES|BYTEARRAY8|(BIN)?(GET|PUT)|MEMOIZE|(STACK_)?GLOBAL|REDUCE|BUILD"
)
_PICKLE_NAMES = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),  # in protocol 5
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),  # how Python 3 writes bytes for Python 2
}


class _Program(io.BytesIO):
    def readline(self, size: int | None = -1) -> bytes:
        if self.getbuffer()[self.tell() - 1] == ord("V"):  # text, as protocol 0 writes it: the pixels
            return super().readline()
        return super().readline(200)  # a name or a number: pickletools parses and prints what it finds in a line


@dataclass
class _Recorder:
    name: str
    args: tuple[object, ...] = ()
    state: object = None

    def __call__(self, *args: object) -> "_Recorder":
        return _Recorder(self.name, args)

    def __setstate__(self, state: object) -> None:
        self.state = state


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Recorder:
        if (module, name) not in _PICKLE_NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only NumPy arrays are admitted")
        return _Recorder(name)


def _from_pickle(path: Path) -> tuple[Digits, Digits]:
    with _open(path) as stream:
        start = stream.peek(1)[:1]
        if start not in (b"\x80", b"("):  # a protocol number or a tuple: anything else is not worth unpacking
            _refuse(path, f"starts with byte {start.hex()}" if start else "is empty", _FORMS)
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        _refuse(path, f"unpacks to more than {MAX_BYTES:,} bytes", "fewer")
    program = _Program(data)
    for step, (opcode, argument, position) in enumerate(pickletools.genops(program)):  # lists the opcodes and runs none
        far = opcode.name == "PUT" and (argument or 0) > _PICKLE_STEPS  # the memo would grow up to there
        if step == _PICKLE_STEPS or far or not _PICKLE_OPCODES.fullmatch(opcode.name):
            _refuse(path, f"is a pickle that does more at byte {position} ({opcode.name})", "tuples of NumPy arrays")
    program.seek(0)
    tree = _ArrayUnpickler(program, encoding="latin1").load()  # in Python 2, bytes were strings
    if program.read(1):
        _refuse(path, "goes on after the end of the pickle", "nothing there")
    if not isinstance(tree, tuple) or len(tree) != 3:
        _refuse(path, "is a pickle of something else", "three pairs: training, validation and test digits")
    train, valid, test = (_pickled_digits(pair, f"{path}, pair {number}") for number, pair in enumerate(tree, 1))
    return (np.concatenate([train[0], valid[0]]), np.concatenate([train[1], valid[1]])), test


def _pickled_digits(node: object, source: str) -> Digits:
    match node:
        case (images, labels):
            return _digits(
                _pickled_array(images, f"{source}, images"), _pickled_array(labels, f"{source}, labels"), source
            )
    _refuse(source, "is something else", "a pair of images and labels")


def _pickled_array(node: object, source: str) -> NDArray[Any]:
    match node:
        case _Recorder("_frombuffer", (data, dtype, shape, order)):  # protocol 5; the others make first and fill then
            node = _Recorder("_reconstruct", (), (1, shape, dtype, order == "F", data))
    match node:
        case _Recorder(
            "_reconstruct",
            _,
            (_, tuple(shape), _Recorder("dtype", (str(code), *_), (_, str(order), *_)), fortran, data),
        ) if re.fullmatch("[<>=|][uif][1248]", order + code) and all(type(length) is int for length in shape):
            match data:
                case str(text) | _Recorder("encode", (str(text), *_)):
                    data = text.encode("latin1")
            if isinstance(data, (bytes, bytearray)):
                return _read_array(io.BytesIO(data).read, np.dtype(order + code), shape, source, bool(fortran))
    _refuse(source, "is something else", "a pickled NumPy array of numbers")


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
    rows: NDArray[Any] = _one_hot(labels, classes=classes, dtype=dtype)
    return rows


@constant  # so that a compiled function can take labels, too
def _one_hot(labels: NDArray[Any], *, classes: int | None, dtype: DTypeLike) -> NDArray[Any]:
    if labels.size == 0 and classes is None:
        raise ValueError("one_hot got no labels; wanted at least one to count the classes. Pass classes=.")
    if labels.size and labels.dtype.kind not in "ui":
        raise TypeError(f"one_hot got {labels.dtype} labels; wanted integers. Convert with labels.astype(int).")
    if labels.size and labels.min() < 0:
        raise ValueError(
            f"one_hot got labels from {labels.min()} to {labels.max()}; wanted none below 0. Renumber them."
        )
    if classes is None:
        classes = int(labels.max()) + 1
    if labels.size and labels.max() >= classes:
        raise ValueError(
            f"one_hot got labels from {labels.min()} to {labels.max()}; wanted 0 to {classes - 1}. "
            "Renumber the labels, or pass a larger classes=."
        )
    rows = np.zeros((*labels.shape, classes), dtype)
    np.put_along_axis(rows, labels.astype(np.intp)[..., np.newaxis], 1, axis=-1)
    return rows


def batches(
    *arrays: ArrayLike, batch_size: int | None, rng: np.random.Generator | None = None, drop_last: bool = False
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Go through arrays of equal length in batches: tuples with `batch_size` rows of each.

    `batch_size=None` makes one batch of everything. An `rng` shuffles the rows, anew for each call; without one they
    come in order, as views. The last batch may be smaller, and `drop_last` leaves it out. No rows make no batches.
    Raises `ValueError` at the call for unequal lengths or a batch size below 1.

    >>> [(x.tolist(), y.tolist()) for x, y in batches([1, 2, 3], [4, 5, 6], batch_size=2)]
    [([1, 2], [4, 5]), ([3], [6])]
    """
    columns, rows = _aligned("batches", arrays, rng)
    size = max(rows, 1) if batch_size is None else batch_size
    if not isinstance(size, (int, np.integer)) or size < 1:
        raise ValueError(
            f"batches got batch_size={batch_size!r}; wanted an integer of at least 1, or None for one batch."
        )
    order = None if rng is None else rng.permutation(rows)
    stop = rows - rows % size if drop_last else rows
    takes = (slice(start, start + size) for start in range(0, stop, size))
    return (tuple(column[take if order is None else order[take]] for column in columns) for take in takes)


def train_test_split(
    *arrays: ArrayLike,
    test_size: float = 0.25,
    rng: np.random.Generator | None = None,
    stratify: ArrayLike | None = None,
) -> list[NDArray[Any]]:
    """Split arrays of equal length at random: `x_train, x_test, y_train, y_test = train_test_split(x, y)`.

    `test_size` is a number of rows (int) or a fraction of them (float, rounded up). With labels in `stratify`, each
    class gives its share to the test, rounded down or up. Without an `rng` every call splits differently.
    Raises `ValueError` for unequal lengths, or if either side would be empty.

    >>> x_train, x_test = train_test_split(np.arange(8), rng=np.random.default_rng(0))
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
    order = (np.random.default_rng() if rng is None else rng).permutation(rows)
    labels = np.zeros(rows) if stratify is None else columns.pop()[order]  # one class of all rows is no constraint
    if labels.ndim != 1:
        raise ValueError(
            f"train_test_split got stratify of shape {labels.shape}; wanted one label per row, shape (n,)."
        )
    test = _stratified(labels, int(test_rows))
    return [column[order[side]] for column in columns for side in (~test, test)]


def _stratified(labels: NDArray[Any], test_rows: int) -> NDArray[np.bool_]:
    """Mark `test_rows` of the rows, spread evenly over the rows sorted by label."""
    steps = np.arange(len(labels) + 1) * test_rows // len(labels)
    marks = np.empty(len(labels), np.bool_)
    marks[np.argsort(labels, kind="stable")] = np.diff(steps) > 0
    return marks


def _aligned(
    caller: str, arrays: tuple[ArrayLike, ...], rng: np.random.Generator | None
) -> tuple[list[NDArray[Any]], int]:
    columns = [np.asarray(array) for array in arrays]
    lengths = [len(column) if column.ndim else None for column in columns]
    if len(set(lengths)) != 1 or lengths[0] is None:
        raise ValueError(f"{caller} got arrays of lengths {lengths}; wanted one or more of the same length.")
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"{caller} got rng={rng!r}; wanted a generator. Pass np.random.default_rng(seed).")
    return columns, lengths[0]
