"""Reading the MNIST digits from the kinds of files that they come in.

Files are untrusted: they are checked before memory is set aside for them, nothing in them is run, and a bad one gets
one error: which file, what came, what was wanted, what to do next.
"""

import gzip
import hashlib
import io
import math
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from minigrad.data.batches import stratified
from minigrad.files import load_arrays

Digits = tuple[NDArray[np.float32], NDArray[np.int64]]
Part = tuple[NDArray[Any], NDArray[Any]]  # images and labels as a file has them, checked

MAX_DIGITS = 100_000  # in all arrays together; MNIST has 70,000
MAX_BYTES = MAX_DIGITS * 784 * 4  # of a file, unpacked: that many digits in float32
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

    Of MNIST and Fashion-MNIST the checksums are known: a folder with some files of one and an equally long one that
    differs from it is refused. Raises FileNotFoundError, or DataFileError (a ValueError) for a damaged file or more
    than `MAX_DIGITS` digits.
    """
    path = Path(path)
    try:
        train, test = _read(path)
        count = sum(len(labels) for _, labels in train + test)
        if count > MAX_DIGITS:
            _refuse(path, f"holds {count:,} digits", f"at most {MAX_DIGITS:,}")
        return _digits(train), _digits(test)
    except (DataFileError, FileNotFoundError):
        raise
    except Exception as error:  # gzip, zlib and zipfile each have their own, and a bad file can raise any
        came = f"{error!s:.300}"
        came = came if came.startswith(str(path)) else f"{path}: cannot be read ({type(error).__name__}: {came})"
        raise DataFileError(f"{came}. {_NEXT}") from None


def open_idx(path: str | PathLike[str]) -> "np.memmap[Any, np.dtype[np.uint8]]":
    """Open the IDX file of bytes at `path`, such as those of MNIST, as a `np.memmap`: only what is used of it is read.

    Images are uint8 from 0 to 255 of shape `(n, 28, 28)`, labels uint8 of shape `(n,)`. A pair of these is data for
    `minigrad.fit`, and the model divides by 255. Raises DataFileError for a file that is damaged, or of another kind,
    and for one that is packed (`.gz`).
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(4 + 4 * 8)
    if head.startswith(b"\x1f\x8b"):
        raise DataFileError(f"{path} is packed, and only a file as it is can be mapped: unpack it, as gunzip does.")
    if not head.startswith(b"\0\0\x08") or len(head) < 4 or len(head) < 4 + 4 * head[3]:
        _refuse(path, f"starts with bytes {head[:4].hex(' ')}", "00 00 08, the number of axes and their lengths (IDX)")
    header, size = 4 + 4 * head[3], path.stat().st_size
    shape = tuple(np.frombuffer(head[4:header], ">u4").tolist())
    if not shape or not math.prod(shape) or size != header + math.prod(shape):
        _refuse(path, f"holds {size - header:,} bytes", f"those of its shape {shape}, and at least one")
    return np.memmap(path, np.uint8, "r", header, shape)


def _read(path: Path) -> tuple[list[Part], list[Part]]:
    """The parts that the training and the test digits are in."""
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; wanted MNIST as {_FORMS}. Check the path.")
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    return _from_npz(path) if zipped else _from_pickle(path)


def _refuse(source: object, came: str, wanted: str) -> NoReturn:
    raise DataFileError(f"{source}: {came}; wanted {wanted}. {_NEXT}")


def _open(path: Path) -> io.BufferedReader | gzip.GzipFile:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"  # browsers unpack files and keep the .gz, so the name proves nothing
    return gzip.open(path) if packed else path.open("rb")


def _check_announced(dtype: np.dtype[Any], shape: tuple[int, ...], source: str) -> int:
    """The number of bytes of an array that a header announces, if it may be one of digits or labels."""
    size = dtype.itemsize * math.prod(shape)
    fits = len(shape) > 0 and 1 <= shape[0] <= MAX_DIGITS and shape[1:] in ((), (784,), (28, 28)) and size <= MAX_BYTES
    if not fits or dtype.kind not in "uif":
        _refuse(source, f"announces {dtype} of shape {shape}", f"numbers for at most {MAX_DIGITS:,} digits of 28 x 28")
    return size


def _read_array(
    read: Callable[[int], bytes], dtype: np.dtype[Any], shape: tuple[int, ...], source: str, fortran: bool = False
) -> NDArray[Any]:
    """Read an array as its header announces it, checked before memory is set aside, with nothing behind it."""
    size = _check_announced(dtype, shape, source)
    data = read(size + 1)  # one byte more than announced, to see whether something stands behind
    if len(data) != size:
        _refuse(source, f"holds {'more' if len(data) > size else len(data)} bytes", f"the {size} its header announces")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _part(images: NDArray[Any], labels: NDArray[Any], source: str) -> Part:
    """Check images and labels against each other, whatever file they came from."""
    if images.shape[1:] not in ((784,), (28, 28)) or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        _refuse(source, f"images are {images.dtype} of shape {images.shape}", "uint8 or float of shape (n, 784)")
    if labels.ndim != 1 or labels.dtype.kind == "f":
        _refuse(source, f"labels are {labels.dtype} of shape {labels.shape}", "integers of shape (n,)")
    if len(images) != len(labels):
        _refuse(source, f"{len(images)} images and {len(labels)} labels", "one label for each image")
    if labels.min() < 0 or labels.max() > 9:
        _refuse(source, f"labels run from {labels.min()} to {labels.max()}", "0 to 9")
    if not (images.min() >= 0 and images.max() <= _brightest(images)):  # a NaN makes both comparisons false
        _refuse(source, f"pixels run from {images.min()} to {images.max()}", "0 to 1")
    return images, labels


def _brightest(images: NDArray[Any]) -> int:
    return 255 if images.dtype == np.uint8 and images.max() > 1 else 1  # some files hold ink as 0 or 1


def _digits(parts: list[Part]) -> Digits:
    """Join the parts in one form, without a copy besides."""
    labels = np.concatenate([labels for _, labels in parts], dtype=np.int64, casting="unsafe")
    pixels = np.empty((len(labels), 784), np.float32)
    start = 0
    for images, _ in parts:
        out = pixels[start : start + len(images)]
        np.divide(images.reshape(-1, 784), _brightest(images), out, dtype=np.float32, casting="unsafe")
        start += len(images)
    return pixels, labels


# SHA-256 of the IDX files, unpacked: training images and labels, test images and labels.
_KNOWN = {
    "MNIST": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "Fashion-MNIST": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
_KNOWN_LENGTHS = [60_000, 60_000, 10_000, 10_000]
_FILES = [("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1)]  # with their dimensions


def _from_folder(folder: Path) -> tuple[list[Part], list[Part]]:
    names = [[f"{kind}{mark}idx{n}-ubyte{end}" for mark in "-." for end in ("", ".gz")] for kind, n in _FILES]
    paths = [[folder / name for name in forms if (folder / name).is_file()] for forms in names]
    missing = [forms[0] for forms, found in zip(names, paths, strict=True) if not found]
    if missing:
        there = sorted(entry.name for entry in folder.iterdir()) or ["nothing"]
        raise FileNotFoundError(
            f"{folder}: missing {', '.join(missing)} (.idx for -idx, or .gz behind, will do); found "
            f"{', '.join(there[:12])}{', ...' * (len(there) > 12)}. Pass the folder that holds the four IDX files."
        )
    arrays = [_read_idx(found[0], *kind) for found, kind in zip(paths, _FILES, strict=True)]
    if list(map(len, arrays)) == _KNOWN_LENGTHS:
        _compare_with_known(folder, arrays)
    parts = [_part(arrays[i], arrays[i + 1], f"{folder}, {part}") for i, part in ((0, "train"), (2, "t10k"))]
    return parts[:1], parts[1:]


def _compare_with_known(folder: Path, arrays: list[NDArray[Any]]) -> None:
    """Refuse files of which some are those of a known data set, and others are not."""
    digests = [hashlib.sha256(_idx_header(array.shape) + array.tobytes()).hexdigest() for array in arrays]
    for name, known in _KNOWN.items():
        differing = [kind for (kind, _), a, b in zip(_FILES, digests, known, strict=True) if a != b]
        if 0 < len(differing) < len(known):
            its_files = f"the files of {name}, as the others are; files changed on purpose can be loaded as an .npz"
            _refuse(folder, f"{' and '.join(differing)} differ from those of {name} by their SHA-256", its_files)


def _idx_header(shape: tuple[int, ...]) -> bytes:
    """Two zeros, 8 for unsigned bytes, the number of dimensions, and these."""
    return bytes((0, 0, 8, len(shape))) + np.array(shape, ">u4").tobytes()


def _read_idx(path: Path, kind: str, dimensions: int) -> NDArray[Any]:
    with _open(path) as stream:
        magic = _idx_header((0,) * dimensions)[:4]
        start = stream.read(4)
        if start != magic:
            _refuse(path, f"starts with bytes {start.hex(' ')}", f"{magic.hex(' ')} ({kind} in IDX)")
        shape = np.frombuffer(stream.read(4 * dimensions), ">u4").tolist()
        return _read_array(stream.read, np.dtype(np.uint8), tuple(shape), str(path))


def _from_npz(path: Path) -> tuple[list[Part], list[Part]]:
    def wanted(found: dict[str, NDArray[Any]]) -> Iterable[str]:
        forms = ("x_train", "y_train", "x_test", "y_test"), ("images", "labels")
        kinds: tuple[str, ...] = next((kinds for kinds in forms if found.keys() >= set(kinds)), ())
        if not kinds:
            names = ", ".join(sorted(found))[:100]
            _refuse(path, f"holds arrays named {names}", "x_train, y_train, x_test, y_test, or images, labels")
        total = sum(_check_announced(found[kind].dtype, found[kind].shape, f"{path}, array {kind}") for kind in kinds)
        if total > MAX_BYTES:
            _refuse(path, f"announces {total:,} bytes", f"at most {MAX_BYTES:,}")
        return kinds

    arrays = [*load_arrays(path, wanted).items()]  # images and labels by turns
    parts = [_part(x, y, f"{path}, {a}, {b}") for (a, x), (b, y) in zip(arrays[::2], arrays[1::2], strict=True)]
    if len(parts) == 2:
        return parts[:1], parts[1:]
    x, y = parts[0]
    test = stratified(y, len(y) // 5)
    return [(x[~test], y[~test])], [(x[test], y[test])]


# A pickle is a program. One that holds digits needs to stack numbers, strings and tuples, and to call what makes NumPy
# arrays. The steps below do that much, and there are no others. Even those calls are not done: a _Call notes the
# function and its arguments, and _pickled_array reads the array out of these.

_PICKLE_STEPS = 1_000  # the digits take about 150
_PICKLE_NAMES = re.compile(  # _frombuffer comes in protocol 5, and encode where Python 3 writes bytes for Python 2
    rb"numpy (ndarray|dtype)|numpy\._?core\.(multiarray _reconstruct|numeric _frombuffer)|_codecs encode"
)
_MARK = object()


@dataclass
class _Call:
    name: bytes
    args: object = None
    state: object = None


class _Pickle:
    """Runs a pickle of digits, in which text is Latin-1 and becomes bytes, as everything in NumPy's arrays may."""

    def __init__(self, stream: io.BufferedReader | gzip.GzipFile) -> None:
        self.stream, self.left = stream, MAX_BYTES
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for step in range(_PICKLE_STEPS):
            code = self.read(1)
            if code == b".":
                return self.pop(1)[0]
            if code not in _STEPS:
                raise ValueError(f"step {step + 1} of the pickle is {code!r}, which arrays of digits do not need")
            self.stack += _STEPS[code](self)
        raise ValueError(f"the pickle has more than {_PICKLE_STEPS:,} steps, and arrays of digits need about 150")

    def read(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes")
        self.left -= count
        data = self.stream.read(count)
        if len(data) < count:
            raise ValueError(f"it ends where {count:,} bytes are announced, after {len(data):,} of them")
        return data

    def line(self, count: int = 200) -> bytes:  # a name or a number, unless told otherwise
        line = self.stream.readline(min(count, self.left))
        self.left -= len(line)
        if not line.endswith(b"\n"):
            raise ValueError("a line in it is too long, or not ended")
        return line[:-1]

    def number(self, form: str) -> int:
        number: int = struct.unpack(form, self.read(struct.calcsize(form)))[0]
        return number

    def skip(self, form: str) -> list[Any]:
        self.number(form)
        return []

    def counted(self, form: str) -> bytes:
        return self.read(self.number(form))

    def pop(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise ValueError("a step of the pickle needs more than there is")
        things = tuple(self.stack[-count:])
        del self.stack[-count:]
        return things

    def pop_to_mark(self) -> tuple[Any, ...]:
        things = self.pop(self.stack[::-1].index(_MARK))
        self.stack.pop()
        return things

    def keep(self, key: int) -> list[Any]:
        self.memo[key] = self.stack[-1]
        return []

    def name(self, module: bytes, name: bytes) -> list[Any]:
        if not _PICKLE_NAMES.fullmatch(module + b" " + name):
            raise ValueError(f"it asks for {(module + b'.' + name)[:100].decode('latin1')}; only arrays are admitted")
        return [_Call(name)]

    def call(self, function: Any, args: Any) -> list[Any]:
        if not isinstance(function, _Call):
            raise TypeError("it calls what is no function")
        return [_Call(function.name, args)]

    def build(self, made: Any, state: Any) -> list[Any]:
        if not isinstance(made, _Call):
            raise TypeError("it sets the state of what has none")
        made.state = state  # in place, as it may be in the memo
        return [made]


def _latin(data: bytes, encoding: str) -> bytes:
    """Text as Latin-1. Other text is refused before it is decoded, as that would take four times the memory."""
    if re.search(rb"[\xc4-\xff]" if encoding == "utf-8" else rb"\\(?!u00)", data):
        raise ValueError("it holds text that is not Latin-1")
    return data if data.isascii() and encoding == "utf-8" else data.decode(encoding).encode("latin-1")


# fmt: off
_STEPS: dict[bytes, Callable[[_Pickle], list[Any]]] = {
    b"\x80": lambda p: p.skip("B"),                     # the protocol
    b"\x95": lambda p: p.skip("<Q"),                    # a frame, which only says how much to read at a time
    b"(":    lambda p: [_MARK],
    b")":    lambda p: [()],
    b"t":    lambda p: [p.pop_to_mark()],
    b"\x85": lambda p: [p.pop(1)],
    b"\x86": lambda p: [p.pop(2)],
    b"\x87": lambda p: [p.pop(3)],
    b"N":    lambda p: [None],
    b"\x88": lambda p: [True],
    b"\x89": lambda p: [False],
    b"I":    lambda p: [int(p.line())],
    b"L":    lambda p: [int(p.line().rstrip(b"L"))],
    b"K":    lambda p: [p.number("B")],
    b"M":    lambda p: [p.number("<H")],
    b"J":    lambda p: [p.number("<i")],
    b"\x8a": lambda p: [int.from_bytes(p.counted("B"), "little", signed=True)],
    b"U":    lambda p: [p.counted("B")],                 # strings of Python 2, and bytes
    b"T":    lambda p: [p.counted("<I")],
    b"C":    lambda p: [p.counted("B")],
    b"B":    lambda p: [p.counted("<I")],
    b"\x96": lambda p: [p.counted("<Q")],
    b"\x8c": lambda p: [_latin(p.counted("B"), "utf-8")],
    b"X":    lambda p: [_latin(p.counted("<I"), "utf-8")],
    b"V":    lambda p: [_latin(p.line(MAX_BYTES), "raw-unicode-escape")],
    b"g":    lambda p: [p.memo[int(p.line())]],
    b"h":    lambda p: [p.memo[p.number("B")]],
    b"p":    lambda p: p.keep(int(p.line())),
    b"q":    lambda p: p.keep(p.number("B")),
    b"\x94": lambda p: p.keep(len(p.memo)),
    b"c":    lambda p: p.name(p.line(), p.line()),
    b"\x93": lambda p: p.name(*p.pop(2)),
    b"R":    lambda p: p.call(*p.pop(2)),
    b"b":    lambda p: p.build(*p.pop(2)),
}
# fmt: on


def _from_pickle(path: Path) -> tuple[list[Part], list[Part]]:
    with _open(path) as stream:
        start = stream.peek(1)[:1]
        if start not in (b"\x80", b"("):  # a protocol number or a tuple: anything else is not worth unpacking
            _refuse(path, f"starts with byte {start.hex()}" if start else "is empty", _FORMS)
        tree = _Pickle(stream).run()
        if stream.read(1):
            _refuse(path, "goes on after the end of the pickle", "nothing there")
    if not isinstance(tree, tuple) or len(tree) != 3:
        _refuse(path, "is a pickle of something else", "three pairs: training, validation and test digits")
    parts = [_pickled_part(pair, f"{path}, pair {number}") for number, pair in enumerate(tree, 1)]
    return parts[:2], parts[2:]


def _pickled_part(node: object, source: str) -> Part:
    if not isinstance(node, tuple) or len(node) != 2:
        _refuse(source, "is something else", "a pair of images and labels")
    images, labels = (_pickled_array(node[i], f"{source}, {kind}") for i, kind in enumerate(("images", "labels")))
    return _part(images, labels, source)


def _pickled_array(node: object, source: str) -> NDArray[Any]:
    match node:
        case _Call(b"_frombuffer", (data, dtype, shape, order)):  # of protocol 5; others fill an empty array
            node = _Call(b"_reconstruct", (), (1, shape, dtype, order == b"F", data))
    match node:
        case _Call(
            b"_reconstruct",
            _,
            (_, tuple(shape), _Call(b"dtype", (bytes(code), *_), (_, bytes(order), *_)), fortran, data),
        ) if re.fullmatch(b"[<>=|][uif][1248]", order + code) and all(type(length) is int for length in shape):
            match data:
                case _Call(b"encode", (bytes(text), *_)):
                    data = text
            if isinstance(data, bytes):
                dtype = np.dtype((order + code).decode())
                return _read_array(io.BytesIO(data).read, dtype, shape, source, bool(fortran))
    _refuse(source, "is something else", "a pickled NumPy array of numbers")
