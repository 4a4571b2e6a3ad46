"""Reading the MNIST digits from the kinds of files that they come in.

Files are untrusted: they are checked before memory is set aside for them, nothing in them is run, and a bad one gets
one error: which file, what came, what was wanted, what to do next.
"""

import gzip
import io
import math
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from minigrad.data.batches import stratified

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

    Raises FileNotFoundError, or DataFileError (a ValueError) for a damaged file or more than `MAX_DIGITS` in an array.
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
    """Read an array as its header announces it, checked before memory is set aside, with nothing behind it."""
    size = dtype.itemsize * math.prod(shape)
    fits = len(shape) > 0 and 1 <= shape[0] <= MAX_DIGITS and shape[1:] in ((), (784,), (28, 28)) and size <= MAX_BYTES
    if not fits or dtype.kind not in "uif":
        _refuse(source, f"announces {dtype} of shape {shape}", f"numbers for at most {MAX_DIGITS:,} digits of 28 x 28")
    data = read(size + 1)  # one byte more than announced, to see whether something stands behind
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
    if not (images.min() >= 0 and images.max() <= brightest):  # a NaN makes both comparisons false
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

        def pair(*kinds: str) -> Digits:
            images, labels = (_read_npy(archive, kind, path) for kind in kinds)
            return _digits(images, labels, f"{path}, {', '.join(kinds)}")

        names = set(archive.namelist())
        if {"x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"} <= names:
            return pair("x_train", "y_train"), pair("x_test", "y_test")
        if not {"images.npy", "labels.npy"} <= names:
            _refuse(path, f"holds {len(names)} other arrays", "x_train, y_train, x_test, y_test, or images, labels")
        x, y = pair("images", "labels")
    test = stratified(y, len(y) // 5)
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


# A pickle is a program. One that holds digits needs to stack numbers, strings and tuples, and to call what makes NumPy
# arrays; all else is refused. Even those calls are not done: a _Recorder notes the function and its arguments, and
# _pickled_array reads the array out of these.

_PICKLE_STEPS = 1_000  # the digits take about 150
_PICKLE_OPCODES = re.compile(  # none that sets memory aside, or hashes: the hash of nested tuples can take for ever
    "PROTO|FRAME|STOP|MARK|(EMPTY_)?TUPLE[123]?|NONE|NEW(TRUE|FALSE)|INT|BININT[12]?|LONG1?|(SHORT_)?BINSTRING|UNICODE"
    "|(SHORT_)?BINUNICODE|(SHORT_)?BINBYTES|BYTEARRAY8|(BIN)?(GET|PUT)|MEMOIZE|(STACK_)?GLOBAL|REDUCE|BUILD"
)
_PICKLE_NAMES = re.compile(  # _frombuffer comes in protocol 5, and encode where Python 3 writes bytes for Python 2
    r"numpy (ndarray|dtype)|numpy\._?core\.(multiarray _reconstruct|numeric _frombuffer)|_codecs encode"
)


class _PickleStream(io.BytesIO):
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
        if not _PICKLE_NAMES.fullmatch(f"{module} {name}"):
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
    pickled = _PickleStream(data)
    for step, (opcode, argument, position) in enumerate(pickletools.genops(pickled)):  # which runs nothing
        far = opcode.name == "PUT" and (argument or 0) > _PICKLE_STEPS  # unpickling would make a memo of that size
        if step == _PICKLE_STEPS or far or not _PICKLE_OPCODES.fullmatch(opcode.name):
            _refuse(path, f"is a pickle that does more at byte {position} ({opcode.name})", "tuples of NumPy arrays")
    pickled.seek(0)
    tree = _ArrayUnpickler(pickled, encoding="latin1").load()  # in Python 2, bytes were strings
    if pickled.read(1):
        _refuse(path, "goes on after the end of the pickle", "nothing there")
    if not isinstance(tree, tuple) or len(tree) != 3:
        _refuse(path, "is a pickle of something else", "three pairs: training, validation and test digits")
    train, valid, test = (_pickled_digits(pair, f"{path}, pair {number}") for number, pair in enumerate(tree, 1))
    return (np.concatenate([train[0], valid[0]]), np.concatenate([train[1], valid[1]])), test


def _pickled_digits(node: object, source: str) -> Digits:
    if not isinstance(node, tuple) or len(node) != 2:
        _refuse(source, "is something else", "a pair of images and labels")
    images, labels = (_pickled_array(node[i], f"{source}, {kind}") for i, kind in enumerate(("images", "labels")))
    return _digits(images, labels, source)


def _pickled_array(node: object, source: str) -> NDArray[Any]:
    match node:
        case _Recorder("_frombuffer", (data, dtype, shape, order)):  # of protocol 5; others fill an empty array
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
