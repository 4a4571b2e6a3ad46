"""Reading MNIST from honest, damaged and hostile files."""

import gzip
import io
import itertools
import os
import pickle
import struct
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import scale

from minigrad import data
from minigrad.data import DataFileError, load_mnist

SHIPPED = Path(__file__).parents[2] / "demos" / "data" / "mnist_5k.npz"

LABELS = np.arange(20, dtype=np.uint8) % 10
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 784), np.uint8)
TEST_IMAGES, TEST_LABELS = IMAGES[::-4], LABELS[::-4]
FLOATS, TEST_FLOATS = IMAGES / np.float32(255), TEST_IMAGES / np.float32(255)

# ------------------------------------------------------------------------------------------------ honest files


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_folder(folder: Path, dot: bool = False, packed: bool = False, **changed: bytes) -> Path:
    """Write the four IDX files; a keyword such as `train_images` replaces the bytes of one."""
    contents = {
        "train_images": idx(IMAGES.reshape(-1, 28, 28)),
        "train_labels": idx(LABELS),
        "t10k_images": idx(TEST_IMAGES.reshape(-1, 28, 28)),
        "t10k_labels": idx(TEST_LABELS),
    }
    for name, content in (contents | changed).items():
        stem = name.replace("_", "-") + ("." if dot else "-") + ("idx3" if "images" in name else "idx1") + "-ubyte"
        if packed:
            (folder / f"{stem}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / stem).write_bytes(content)
    return folder


def write_npz(folder: Path, save: Callable[..., None] = np.savez, **arrays: np.ndarray) -> Path:
    save(folder / "digits.npz", **arrays)
    return folder / "digits.npz"


def write_keras(folder: Path, **changed: np.ndarray) -> Path:
    arrays = {"x_train": IMAGES.reshape(-1, 28, 28), "y_train": LABELS}
    arrays |= {"x_test": TEST_IMAGES.reshape(-1, 28, 28), "y_test": TEST_LABELS}
    return write_npz(folder, **(arrays | changed))


def python2_pickle(node: Any) -> bytes:
    """Write tuples of arrays as Python 2 did: protocol 2, bytes as strings."""

    def write(node: Any) -> bytes:
        if isinstance(node, tuple):
            return b"(" + b"".join(map(write, node)) + b"t"
        if isinstance(node, int):
            return b"J" + struct.pack("<i", node)
        array, code = node, node.dtype.str[1:].encode()
        state = b"K\x01" + write(array.shape) + b"cnumpy\ndtype\nU" + bytes([len(code)]) + code + b"K\x00K\x01\x87R"
        state += b"(K\x03U\x01" + (b"|" if array.itemsize == 1 else b"<") + b"NNN" + write(-1) + write(-1) + b"K\x00tb"
        state += b"\x89T" + struct.pack("<i", array.nbytes) + array.tobytes()
        return b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(" + state + b"tb"

    return b"\x80\x02" + write(node) + b"."


def three_pairs() -> tuple[Any, ...]:
    labels = LABELS.astype(np.int64)
    return (FLOATS[:15], labels[:15]), (FLOATS[15:], labels[15:]), (TEST_FLOATS, TEST_LABELS.astype(np.int64))


def read_only_pairs() -> tuple[Any, ...]:
    pairs = three_pairs()
    for array in itertools.chain(*pairs):
        array.flags.writeable = False
    return pairs


def write_book(folder: Path, content: bytes | None = None, packed: bool = True) -> Path:
    content = python2_pickle(three_pairs()) if content is None else content
    (folder / "mnist.pkl.gz").write_bytes(gzip.compress(content) if packed else content)
    return folder / "mnist.pkl.gz"


def changed_bytes(old: bytes, new: bytes) -> bytes:
    content = python2_pickle(three_pairs())
    assert old in content
    return content.replace(old, new, 1)


HONEST: dict[str, Callable[[Path], Path]] = {
    "idx": write_folder,
    "idx, dotted": lambda folder: write_folder(folder, dot=True),
    "idx, packed": lambda folder: write_folder(folder, packed=True),
    "idx, dotted and packed": lambda folder: write_folder(folder, dot=True, packed=True),
    "keras": write_keras,
    "keras, column-major": lambda folder: write_keras(folder, x_train=np.asfortranarray(IMAGES.reshape(-1, 28, 28))),
    "keras, float64": lambda folder: write_keras(folder, x_train=IMAGES / 255),
    "keras, big-endian": lambda folder: write_keras(folder, x_train=FLOATS.astype(">f4"), y_train=LABELS.astype(">i8")),
    "book": write_book,
    "book, shape of longs": lambda folder: write_book(folder, changed_bytes(b"J\x0f\0\0\0", b"\x8a\1\x0f")),
    "book, unpacked": lambda folder: write_book(folder, packed=False),
    **{
        f"book, protocol {protocol}": lambda folder, protocol=protocol: write_book(
            folder, pickle.dumps(three_pairs(), protocol)
        )
        for protocol in range(6)
    },
    "book, column-major": lambda folder: write_book(
        folder, pickle.dumps(tuple((np.asfortranarray(x), y) for x, y in three_pairs()), 5)
    ),
    "book, read-only": lambda folder: write_book(folder, pickle.dumps(read_only_pairs(), 5)),
}


def check_form(loaded: Any) -> None:
    (x_train, y_train), (x_test, y_test) = loaded
    for x, y in ((x_train, y_train), (x_test, y_test)):
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert x.shape == (len(y), 784)
        assert y.shape == (len(x),)
        assert x.flags.writeable
        assert y.flags.writeable
        assert not len(x) or (x.min() >= 0 and x.max() <= 1 and y.min() >= 0 and y.max() <= 9)


@pytest.mark.parametrize("name", HONEST)
def test_every_form_loads_the_same_digits(name: str, tmp_path: Path) -> None:
    loaded = load_mnist(HONEST[name](tmp_path))
    check_form(loaded)
    (x_train, y_train), (x_test, y_test) = loaded
    np.testing.assert_array_equal(x_train, FLOATS)
    np.testing.assert_array_equal(y_train, LABELS)
    np.testing.assert_array_equal(x_test, TEST_FLOATS)
    np.testing.assert_array_equal(y_test, TEST_LABELS)


def test_path_may_be_a_string(tmp_path: Path) -> None:
    check_form(load_mnist(str(write_folder(tmp_path))))


def test_unpacked_file_that_kept_its_gz(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").rename(tmp_path / "train-images-idx3-ubyte.gz")
    check_form(load_mnist(tmp_path))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(-1, 784), (-1, 28, 28)])
def test_images_and_labels_split_every_fifth_of_each_class(
    save: Callable[..., None], shape: tuple[int, ...], tmp_path: Path
) -> None:
    labels = np.repeat(np.arange(3, dtype=np.uint8), 10)
    images = np.arange(30, dtype=np.uint8)[:, None].repeat(784, axis=1)  # each image tells its row
    (x_train, y_train), (x_test, y_test) = load_mnist(
        write_npz(tmp_path, save, images=images.reshape(shape), labels=labels)
    )
    assert (x_test[:, 0] * 255).round().tolist() == [4, 9, 14, 19, 24, 29]
    assert (x_train[:, 0] * 255).round().tolist() == [row for row in range(30) if row % 5 != 4]
    assert y_test.tolist() == [0, 0, 1, 1, 2, 2]
    assert y_train.tolist() == [0] * 8 + [1] * 8 + [2] * 8


def test_shipped_digits() -> None:
    loaded = load_mnist(SHIPPED)
    check_form(loaded)
    (x_train, y_train), (x_test, y_test) = loaded
    assert np.bincount(y_train).tolist() == [400] * 10
    assert np.bincount(y_test).tolist() == [100] * 10
    assert y_train[:20].tolist() == [*range(10)] * 2
    assert x_train.max() == x_test.max() == 1
    assert 0.1 < x_train.mean() < 0.16  # MNIST: 0.1307
    assert len(np.unique(np.concatenate([x_train, x_test]), axis=0)) == 5000
    # They are digits, and the labels are theirs: the nearest class mean is right far more often than one in ten.
    means = np.stack([x_train[y_train == digit].mean(axis=0) for digit in range(10)])
    nearest = ((x_test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == y_test).mean() > 0.75


# ------------------------------------------------------------------------------ missing, damaged and hostile files


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", "no such file; wanted MNIST as a folder of four IDX files"),
        (lambda folder: folder, "none of train-images-idx3-ubyte, train-images-idx3-ubyte.gz, train-images.idx3"),
    ],
)
def test_missing_files(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        load_mnist(make(tmp_path))


def test_one_of_four_is_missing(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="none of t10k-labels-idx1-ubyte"):
        load_mnist(tmp_path)


def npy(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + content


def write_zip(folder: Path, images: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = "images.npy") -> Path:
    labels = io.BytesIO()
    np.save(labels, LABELS)
    with zipfile.ZipFile(folder / "digits.npz", "w", method) as archive:
        archive.writestr(name, images)
        archive.writestr("labels.npy", labels.getvalue())
    return folder / "digits.npz"


def header(shape: str = "(20, 784)", descr: str = "'|u1'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


def changed_pairs(pair: int, item: int, value: Any, protocol: int = 4) -> bytes:
    pairs = [list(each) for each in three_pairs()]
    pairs[pair][item] = value
    return pickle.dumps(tuple(map(tuple, pairs)), protocol)


class Runs:
    """A pickle that would make a directory when loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


class Lives:
    """A pickle of an instance."""


IMAGE_CUBE = idx(IMAGES.reshape(-1, 28, 28))
ONE_NAN = np.where(np.arange(784) == 7, np.nan, FLOATS).astype(np.float32)
LAUGHS = b"\x80\x02Nq\0" + b"h\0\x86q\0" * 300 + b"."  # each step pairs the last tuple with itself: 2**300 leaves

BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    # IDX
    "idx empty": (lambda f: write_folder(f, train_images=b""), "starts with bytes ; wanted 00 00 08 03"),
    "idx not images": (lambda f: write_folder(f, train_images=idx(LABELS)), "bytes 00 00 08 01; wanted 00 00 08 03"),
    "idx not labels": (lambda f: write_folder(f, t10k_labels=IMAGE_CUBE), "t10k-labels.*03; wanted 00 00 08 01"),
    "idx of floats": (lambda f: write_folder(f, train_images=b"\0\0\x0d\3" + IMAGE_CUBE[4:]), "bytes 00 00 0d 03"),
    "idx cut": (lambda f: write_folder(f, train_images=IMAGE_CUBE[:-1]), "15679 bytes; wanted the 15680 its header"),
    "idx cut in its header": (
        lambda f: write_folder(f, train_images=IMAGE_CUBE[:9]),
        "cannot be read .ValueError: buffer size",
    ),
    "idx without shape": (lambda f: write_folder(f, train_images=IMAGE_CUBE[:4]), r"announces uint8 of shape \(\)"),
    "idx trailing": (lambda f: write_folder(f, train_labels=idx(LABELS) + b"\0"), "holds more bytes; wanted the 20 "),
    "idx trailing, packed": (
        lambda f: write_folder(f, packed=True, train_labels=idx(LABELS) + b"\0"),
        "holds more bytes",
    ),
    "idx of no images": (lambda f: write_folder(f, train_images=idx(IMAGES[:0].reshape(0, 28, 28))), r"\(0, 28, 28\)"),
    "idx of huge count": (
        lambda f: write_folder(f, train_images=b"\0\0\x08\3" + b"\xff" * 12),
        "at most 100,000 digits of 28 x 28",
    ),
    "idx of other size": (lambda f: write_folder(f, train_images=idx(np.zeros((20, 8, 8), np.uint8))), r"\(20, 8, 8\)"),
    "idx of swapped parts": (lambda f: write_folder(f, train_labels=idx(TEST_LABELS)), "20 images and 5 labels"),
    "idx label above 9": (lambda f: write_folder(f, train_labels=idx(LABELS + 1)), "labels run from 1 to 10; wanted 0"),
    "idx gzip cut": (
        lambda f: cut(write_folder(f, packed=True), "train-images-idx3-ubyte.gz", 20),
        "cannot be read .EOFError",
    ),
    # .npz
    "npz cut": (lambda f: cut(write_keras(f).parent, "digits.npz", 30) / "digits.npz", "cannot be read .BadZipFile"),
    "npz of other names": (lambda f: write_npz(f, x=IMAGES, y=LABELS), "2 other arrays; wanted x_train, y_train"),
    "npz without labels": (lambda f: write_npz(f, images=IMAGES), "1 other arrays"),
    "npz of objects": (lambda f: write_npz(f, images=IMAGES, labels=LABELS.astype(object)), "labels: announces object"),
    "npz of strings": (lambda f: write_npz(f, images=IMAGES, labels=LABELS.astype(str)), "announces <U"),
    "npz of records": (lambda f: write_npz(f, images=IMAGES.view([("a", "u1")]), labels=LABELS), "announces .*'a'"),
    "npz of complex": (lambda f: write_npz(f, images=IMAGES.astype(complex), labels=LABELS), "announces complex128"),
    "npz of int images": (lambda f: write_npz(f, images=IMAGES.astype(int), labels=LABELS), "images are int64 of"),
    "npz of float labels": (lambda f: write_npz(f, images=IMAGES, labels=LABELS / 1), "labels are float64 of"),
    "npz of one-hot labels": (lambda f: write_npz(f, images=IMAGES, labels=np.eye(10)[LABELS]), r"of shape \(20, 10\)"),
    "npz of label images": (lambda f: write_npz(f, images=IMAGES, labels=IMAGES), r"labels are uint8 of shape \(20, "),
    "npz swapped": (lambda f: write_npz(f, images=LABELS, labels=IMAGES), r"images are uint8 of shape \(20,\)"),
    "npz of a scalar": (lambda f: write_npz(f, images=IMAGES, labels=np.uint8(1)), r"announces uint8 of shape \(\)"),
    "npz of unequal parts": (lambda f: write_keras(f, y_train=TEST_LABELS), "20 images and 5 labels; wanted one"),
    "npz label below 0": (lambda f: write_keras(f, y_train=LABELS.astype(int) - 1), "labels run from -1 to 8"),
    "npz label huge": (lambda f: write_keras(f, y_train=LABELS + np.uint64(2**63)), "labels run from 9223372036854"),
    "npz pixel above 1": (
        lambda f: write_keras(f, x_train=FLOATS * 2),
        "pixels run from 0.0 to 2.0; wanted 0 to 1",
    ),
    "npz pixel below 0": (lambda f: write_keras(f, x_test=TEST_FLOATS - 1), "pixels run from -1.0 to 0.0"),
    "npz pixel is nan": (lambda f: write_keras(f, x_train=ONE_NAN), "pixels run from nan to nan"),
    "npz pixel is inf": (lambda f: write_keras(f, x_train=np.where(FLOATS == 1, np.inf, FLOATS)), "from 0.0 to inf"),
    "npz pixel is a signalling nan": (
        lambda f: write_keras(f, x_train=np.full((20, 784), 0x7F800001, np.uint32).view(np.float32)),
        "pixels run from nan to nan",
    ),
    "npz of huge shape": (lambda f: write_zip(f, npy(header("(10**12, 784)"))), "cannot be read"),
    "npz of huge count": (lambda f: write_zip(f, npy(header(f"({10**12}, 784)"))), r"announces uint8 of shape \(10000"),
    "npz of too many bytes": (
        lambda f: write_zip(f, npy(header("(100000, 784)", "'<f8'"))),
        "announces float64 of shape",
    ),
    "npz of huge dtype": (lambda f: write_zip(f, npy(header(descr=f"'|S{2**31 - 1}'"))), "announces .S2147483647"),
    "npz of negative shape": (lambda f: write_zip(f, npy(header("(-20, 784)"))), r"of shape \(-20, 784\)"),
    "npz that calls": (lambda f: write_zip(f, npy(header("print('no')"))), "cannot be read"),
    "npz nested": (lambda f: write_zip(f, npy(header("(" * 5000))), "cannot be read"),
    "npz with less": (
        lambda f: write_zip(f, npy(header(), IMAGES.tobytes()[:-1])),
        "holds 15679 bytes; wanted the 15680",
    ),
    "npz with more": (lambda f: write_zip(f, npy(header(), IMAGES.tobytes() + b"\0")), "holds more bytes"),
    "npz of version 2": (lambda f: write_zip(f, npy(header(), version=b"\2\0")), r"is .npy format \(2, 0\)"),
    "npz without magic": (lambda f: write_zip(f, b"PICKLE" * 20), "cannot be read .ValueError: the magic string"),
    "npz member empty": (lambda f: write_zip(f, b""), "cannot be read"),
    "npz packed by bzip2": (lambda f: write_zip(f, b"", zipfile.ZIP_BZIP2), "packed by method 12; wanted plain"),
    # pickle
    "book empty": (lambda f: write_book(f, b"", packed=False), "is empty; wanted a folder of four IDX files"),
    "book empty, packed": (lambda f: write_book(f, b""), "is empty"),
    "book is text": (lambda f: write_book(f, b"<html>"), "starts with byte 3c; wanted a folder"),
    "book is one IDX file": (lambda f: write_book(f, IMAGE_CUBE), "starts with byte 00; wanted a folder of four IDX"),
    "book cut": (lambda f: write_book(f, python2_pickle(three_pairs())[:-5000]), "cannot be read .ValueError"),
    "book gzip cut": (lambda f: cut(write_book(f).parent, "mnist.pkl.gz", 20) / "mnist.pkl.gz", "read .EOFError"),
    "book trailing": (lambda f: write_book(f, python2_pickle(three_pairs()) + b"x"), "goes on after the end"),
    "book runs": (lambda f: write_book(f, pickle.dumps(Runs(str(f / "ran")), 2)), r"asks for (posix|nt)\.mkdir"),
    "book runs by stack": (lambda f: write_book(f, pickle.dumps(Runs(str(f / "ran")), 4)), r"asks for (posix|nt)\.mk"),
    "book runs by name": (
        lambda f: write_book(f, b"\x80\x02(X\4\0\0\0echoios\nsystem\n."),
        "does more at byte 12 .INST",
    ),
    "book runs within": (lambda f: write_book(f, changed_pairs(1, 0, Runs(str(f / "ran")))), r"asks for (posix|nt)\."),
    "book of instance": (lambda f: write_book(f, pickle.dumps(Lives(), 2)), "does more at byte .*NEWOBJ"),
    "book of dotted name": (
        lambda f: write_book(f, b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93."),
        "asks for numpy.ndarray.dump",
    ),
    "book of extension": (lambda f: write_book(f, b"\x80\x02\x82\x01."), "does more at byte 2 .EXT1"),
    "book of persistent id": (lambda f: write_book(f, b"\x80\x02NQ."), "does more at byte 3 .BINPERSID"),
    "book of dict": (lambda f: write_book(f, pickle.dumps({1: 2}, 2)), "does more at byte 2 .EMPTY_DICT"),
    "book of None": (lambda f: write_book(f, b"\x80\x02N."), "a pickle of something else; wanted three pairs"),
    "book of two pairs": (lambda f: write_book(f, pickle.dumps(three_pairs()[:2], 2)), "wanted three pairs"),
    "book of arrays": (lambda f: write_book(f, pickle.dumps((IMAGES, IMAGES, IMAGES), 2)), "pair 1: is something else"),
    "book of numbers": (
        lambda f: write_book(f, b"\x80\x02" + b"K\1K\2\x86" * 3 + b"\x87."),
        "pair 1, images: is something",
    ),
    "book of tuples": (lambda f: write_book(f, changed_pairs(2, 1, (1, 2))), "pair 3, labels: is something else"),
    "book of objects": (
        lambda f: write_book(f, changed_pairs(0, 1, LABELS.astype(object))),
        "does more at byte .*EMPTY_LIST",
    ),
    "book dtype O": (lambda f: write_book(f, changed_bytes(b"U\2f4", b"U\2O8")), "pair 1, images: is something else"),
    "book dtype of code": (lambda f: write_book(f, changed_bytes(b"U\2f4", b"U\6f4, f4")), "images: is something else"),
    "book dtype wide": (
        lambda f: write_book(f, changed_bytes(b"U\2f4", b"U\2f8")),
        "pair 1, images: holds 47040 bytes",
    ),
    "book shape huge": (
        lambda f: write_book(f, changed_bytes(b"J\x0f\0\0\0J\x10\3", b"J\xff\xff\xff\x7fJ\x10\3")),
        r"pair 1, images: announces float32 of shape \(2147483647, 784\)",
    ),
    "book shape of arrays": (
        lambda f: write_book(f, changed_bytes(b"(J\x0f\0\0\0J\x10\3\0\0", b"(cnumpy\ndtype\nJ\x10\3\0\0")),
        "pair 1, images: is something else",
    ),
    "book data None": (
        lambda f: write_book(
            f, changed_bytes(b"\x89T" + struct.pack("<i", 15 * 784 * 4) + FLOATS[:15].tobytes(), b"\x89N")
        ),
        "pair 1, images: is something else",
    ),
    "book state set on a string": (lambda f: write_book(f, b"\x80\x02U\1aK\1b."), "cannot be read .UnpicklingError"),
    "book calls a string": (lambda f: write_book(f, b"\x80\x02U\1a)R."), "cannot be read .TypeError"),
    "book labels above 9": (lambda f: write_book(f, changed_pairs(0, 1, LABELS[:15] + 1)), "pair 1: labels run from 1"),
    "book pixel is nan": (lambda f: write_book(f, changed_pairs(1, 0, ONE_NAN[15:])), "pair 2: pixels run from nan"),
    "book without memory": (lambda f: write_book(f, b"\x80\x02Nr\xff\xff\xff\x7f."), "at byte 3 .LONG_BINPUT"),
    "book without memory for a memo": (lambda f: write_book(f, b"(Np1001\n."), "does more at byte 2 .PUT"),
    "book without memory for bytes": (
        lambda f: write_book(f, b"\x80\x05\x96" + struct.pack("<q", 2**40) + b"abc."),
        "cannot be read .ValueError: expected 1099511627776 bytes in a bytearray8, but only 4 remain",
    ),
    "book runs in protocol 0": (
        lambda f: write_book(f, pickle.dumps((Runs(str(f / "ran")),), 0)),
        r"asks for (posix|nt)",
    ),
    "book runs in protocol 5": (
        lambda f: write_book(f, changed_pairs(1, 0, Runs(str(f / "ran")), 5)),
        r"asks for (posix|nt)",
    ),
    "book of a long line of protocol 0": (
        lambda f: write_book(f, b"(L" + b"7" * 10**7 + b"L\n."),
        "cannot be read .ValueError: no newline found",
    ),
    "book endless": (lambda f: write_book(f, b"\x80\x02" + b"(" * 10**6), "does more at byte 1001 .MARK"),
    "book of laughs": (lambda f: write_book(f, LAUGHS), "is a pickle of something else"),
    "book of a long line": (
        lambda f: write_book(f, b"\x80\x02I" + b"7" * 10**7 + b"\n."),
        "cannot be read .ValueError: no newline found",
    ),
    "book of a long name": (
        lambda f: write_book(f, b"\x80\x04X\x80\x96\x98\0" + b"7" * 10**7 + b"U\1a\x93."),
        "cannot be read .UnpicklingError: it asks for 7777",
    ),
}


def cut(folder: Path, name: str, count: int) -> Path:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-count])
    return folder


@pytest.mark.parametrize("name", BAD)
def test_bad_file_gets_one_error(name: str, tmp_path: Path) -> None:
    make, message = BAD[name]
    path = make(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(DataFileError, match=message) as caught:
            load_mnist(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < len(str(path)) + 800
    assert caught.value.__cause__ is None
    assert "Fetch a fresh copy, or see help(load_mnist)" in str(caught.value)
    assert peak < 1.2 * data.MAX_BYTES  # what a pickle may read at most, asked for at once
    assert not (tmp_path / "ran").exists()


def zeros_packed(start: bytes, gigabytes: int = 1) -> bytes:
    """Gzip members follow each other, so one of 16 MiB makes any number of them."""
    return gzip.compress(start) + gzip.compress(bytes(2**24)) * (64 * gigabytes)


def idx_bomb(folder: Path) -> Path:
    write_folder(folder, packed=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(zeros_packed(IMAGE_CUBE))
    return folder


def npz_bomb(folder: Path) -> Path:
    path = folder / "digits.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("labels.npy", npy(header("(20,)"), LABELS.tobytes()))
        with archive.open("images.npy", "w") as member:
            member.write(npy(header()))
            for _ in range(20):
                member.write(bytes(2**24))
    return path


@pytest.mark.parametrize(
    ("make", "message", "megabytes"),
    [
        (idx_bomb, "holds more bytes", 2),
        (npz_bomb, "images: holds more bytes", 2),
        (lambda folder: write_book(folder, zeros_packed(b""), packed=False), "starts with byte 00", 2),
        (
            lambda folder: write_book(folder, zeros_packed(b"\x80\x02T\xff\xff\xff\x7f"), packed=False),
            "unpacks to more than 313,600,000 bytes",
            2.2 * data.MAX_BYTES / 1e6,
        ),
    ],
)
def test_bomb_is_refused_in_bounded_memory(
    make: Callable[[Path], Path], message: str, megabytes: float, tmp_path: Path
) -> None:
    path = make(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(DataFileError, match=message):
            load_mnist(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * 1e6


corruptions = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "append", "insert"]),
        st.one_of(st.integers(0, 300), st.integers(-400, -1), st.integers(0, 2**17)),
        st.one_of(st.binary(min_size=1, max_size=1), st.binary(min_size=1, max_size=8)),
    ),
    min_size=1,
    max_size=3,
)


def corrupt(content: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for action, position, new in changes:
        at = position % (len(content) + 1)
        if action == "set":
            content = content[:at] + new + content[at + len(new) :]
        elif action == "cut":
            content = content[:at]
        elif action == "append":
            content += new
        else:
            content = content[:at] + new + content[at:]
    return content


CORRUPTIBLE = [
    ("idx", "train-images-idx3-ubyte"),
    ("idx", "t10k-labels-idx1-ubyte"),
    ("idx, packed", "train-labels-idx1-ubyte.gz"),
    ("keras", "digits.npz"),
    ("keras, float64", "digits.npz"),
    ("book", "mnist.pkl.gz"),
    ("book, unpacked", "mnist.pkl.gz"),
]


@pytest.mark.parametrize(("form", "name"), CORRUPTIBLE)
@settings(deadline=None, max_examples=scale(20, 200))
@given(changes=corruptions)
def test_corruption_loads_sane_digits_or_gets_the_error(
    form: str, name: str, changes: list[tuple[str, int, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = HONEST[form](Path(folder))
        file = Path(folder) / name
        file.write_bytes(corrupt(file.read_bytes(), changes))
        try:
            loaded = load_mnist(path)
        except DataFileError as error:
            assert str(Path(folder)) in str(error)  # noqa: PT017 - either outcome is right
        else:
            check_form(loaded)


@settings(deadline=None, max_examples=scale(60, 600))
@given(changes=corruptions, protocol=st.sampled_from([0, 2, 5]))
def test_corrupted_pickle_loads_sane_digits_or_gets_the_error(
    changes: list[tuple[str, int, bytes]], protocol: int
) -> None:
    """Small digits put the changes among the opcodes instead of the pixels, under a sound gzip checksum."""
    pair = FLOATS[:1], LABELS[:1].astype(np.int64)
    with tempfile.TemporaryDirectory() as folder:
        path = write_book(Path(folder), corrupt(pickle.dumps((pair,) * 3, protocol), changes))
        try:
            loaded = load_mnist(path)
        except DataFileError:
            return
        check_form(loaded)
