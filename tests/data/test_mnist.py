"""Reading MNIST from honest, damaged and hostile files."""

import gzip
import hashlib
import io
import itertools
import os
import pickle
import re
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

from minigrad.data import DataFileError, load_mnist, mnist, open_idx

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


def test_idx_files_are_opened_as_memmaps(tmp_path: Path) -> None:
    write_folder(tmp_path)
    images, labels = (open_idx(str(tmp_path / f"train-{name}-ubyte")) for name in ("images-idx3", "labels-idx1"))
    assert type(images) is type(labels) is np.memmap
    assert images.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES.reshape(-1, 28, 28))
    np.testing.assert_array_equal(labels, LABELS)
    with pytest.raises(ValueError, match="read-only"):
        labels[0] = 1


GOOD = idx(LABELS)
NOT_MAPPED = {
    "packed": (gzip.compress(GOOD), "is packed, and only a file as it is can be mapped: unpack it"),
    "empty": (b"", "starts with bytes ; wanted 00 00 08, the number of axes"),
    "ends in its magic": (GOOD[:3], "starts with bytes 00 00 08; wanted"),
    "ends in its head": (GOOD[:7], "starts with bytes 00 00 08 01; wanted"),
    "floats": (b"\0\0\x0d" + GOOD[3:], "starts with bytes 00 00 0d 01; wanted 00 00 08"),
    "too many axes": (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"\0", "starts with bytes 00 00 08 ff; wanted"),
    "too short": (GOOD[:-1], r"holds 19 bytes; wanted those of its shape \(20,\), and at least one"),
    "too long": (GOOD + b"\0", r"holds 21 bytes; wanted those of its shape \(20,\)"),
    "no labels": (idx(LABELS[:0]), r"holds 0 bytes; wanted those of its shape \(0,\), and at least one"),
    "no axes": (b"\0\0\x08\0" + b"\0", r"holds 1 bytes; wanted those of its shape \(\)"),
    "huge": (b"\0\0\x08\x03" + b"\xff" * 12, r"holds 0 bytes; wanted those of its shape \(4294967295, 4294967295"),
}


@pytest.mark.parametrize("name", NOT_MAPPED)
def test_files_that_cannot_be_opened_as_memmaps(name: str, tmp_path: Path) -> None:
    content, message = NOT_MAPPED[name]
    path = tmp_path / "labels.gz"  # the name proves nothing
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=rf"labels\.gz:? {message}"):
        open_idx(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_ink_that_is_0_or_1_already_stays_so(dtype: Any, tmp_path: Path) -> None:
    ink = IMAGES > 127
    (x_train, _), (x_test, _) = load_mnist(write_npz(tmp_path, np.savez, images=ink.astype(dtype), labels=LABELS))
    assert x_train.dtype == x_test.dtype == np.float32
    np.testing.assert_array_equal(np.sort(np.concatenate([x_train, x_test]), axis=None), np.sort(ink, axis=None))


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
        (lambda folder: folder, r"missing train-images-idx3-ubyte, .*t10k-labels-idx1-ubyte \(.*; found nothing. Pass"),
    ],
)
def test_missing_files(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        load_mnist(make(tmp_path))


def test_one_of_four_is_missing(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"missing t10k-labels-idx1-ubyte .*; found t10k-images-idx3-ubyte, train-images"
    ):
        load_mnist(tmp_path)


def test_a_folder_says_what_is_in_it(tmp_path: Path) -> None:
    for name in ["raw", *(f"{number:02}" for number in range(20))]:
        (tmp_path / name).mkdir()
    with pytest.raises(FileNotFoundError, match=r"found 00, 01, .*, 10, 11, \.\.\.\. Pass the folder") as raised:
        load_mnist(tmp_path)
    assert all(f"{part}-{kind}-ubyte" in str(raised.value) for part in ("train", "t10k") for kind in ("labels-idx1",))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("changed", [*itertools.product([0, 1], repeat=4)])
def test_files_that_differ_from_a_known_data_set(
    changed: tuple[int, ...], packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some that are known beside some that are not are a mixture, or damaged; others are another data set."""
    cubes = [idx(IMAGES.reshape(-1, 28, 28)), idx(LABELS), idx(TEST_IMAGES.reshape(-1, 28, 28)), idx(TEST_LABELS)]
    digests = tuple(hashlib.sha256(cube).hexdigest() for cube in cubes)
    monkeypatch.setattr(mnist, "_KNOWN", {"Other": ("", "", "", ""), "Known": digests})
    monkeypatch.setattr(mnist, "_KNOWN_LENGTHS", [len(IMAGES), len(LABELS), len(TEST_IMAGES), len(TEST_LABELS)])
    kinds = ["train-images", "train-labels", "t10k-images", "t10k-labels"]
    files = {
        kind.replace("-", "_"): cube[:-1] + bytes([cube[-1] ^ bit])
        for kind, cube, bit in zip(kinds, cubes, changed, strict=True)
    }
    write_folder(tmp_path, packed=packed, **files)
    if sum(changed) in (0, 4):
        check_form(load_mnist(tmp_path))
        return
    differing = " and ".join(kind for kind, bit in zip(kinds, changed, strict=True) if bit)
    with pytest.raises(DataFileError, match=f"{differing} differ from those of Known by their SHA-256"):
        load_mnist(tmp_path)


def test_a_part_of_a_known_data_set_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "_KNOWN", {"Known": (hashlib.sha256(IMAGE_CUBE).hexdigest(), "", "", "")})
    check_form(load_mnist(write_folder(tmp_path)))


def test_the_known_digests_are_digests() -> None:
    digests = [digest for known in mnist._KNOWN.values() for digest in known]
    assert len({*digests}) == len(digests) == 8
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


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

LAUGHS_AS_KEY = LAUGHS[:2] + b"}" + LAUGHS[2:-1] + b"Ns."


def hidden(steps: Any) -> bytes:
    """Steps that Python's own unpickler does, and that are part of a string where one reads from start to end.

    The first string overruns its frame by 6 of its 11 bytes. The unpickler drops what is in the frame, takes all 11
    from behind it, the head of the second string among them, and goes on with what is in the second string.
    """
    steps = steps if isinstance(steps, bytes) else pickle.dumps(steps, 2)
    frame = b"T" + struct.pack("<I", 11) + b"start"
    second = b"T" + struct.pack("<I", len(steps)) + steps
    return b"\x80\x04\x95" + struct.pack("<Q", len(frame)) + frame + b"middle" + second + b"."


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
    "npz cut": (lambda f: cut(write_keras(f).parent, "digits.npz", 30) / "digits.npz", "stands behind its end"),
    "npz of other names": (
        lambda f: write_npz(f, x=IMAGES, y=LABELS),
        "holds arrays named x, y; wanted x_train, y_train",
    ),
    "npz without labels": (lambda f: write_npz(f, images=IMAGES), "holds arrays named images; wanted"),
    "npz of objects": (
        lambda f: write_npz(f, images=IMAGES, labels=LABELS.astype(object)),
        "labels.npy holds Python objects",
    ),
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
    "npz of huge shape": (lambda f: write_zip(f, npy(header("(10**12, 784)"))), "malformed node"),
    "npz of huge count": (lambda f: write_zip(f, npy(header(f"({10**12}, 784)"))), r"announces uint8 of shape \(10000"),
    "npz of too many bytes": (
        lambda f: write_zip(f, npy(header("(100000, 784)", "'<f8'"))),
        "announces float64 of shape",
    ),
    "npz of huge dtype": (lambda f: write_zip(f, npy(header(descr=f"'|S{2**31 - 1}'"))), "announces .S2147483647"),
    "npz of negative shape": (lambda f: write_zip(f, npy(header("(-20, 784)"))), r"of shape \(-20, 784\)"),
    "npz that calls": (lambda f: write_zip(f, npy(header("print('no')"))), "malformed node"),
    "npz nested": (lambda f: write_zip(f, npy(header("(" * 5000))), "is not a readable .npz file"),
    "npz with less": (
        lambda f: write_zip(f, npy(header(), IMAGES.tobytes()[:-1])),
        r"images.npy announces uint8 of shape \(20, 784\), but not in",
    ),
    "npz with more": (
        lambda f: write_zip(f, npy(header(), IMAGES.tobytes() + b"\0")),
        r"images.npy announces uint8 of shape \(20, 784\), but not in",
    ),
    "npz of version 2": (lambda f: write_zip(f, npy(header(), version=b"\2\0")), r"is .npy format \(2, 0\)"),
    "npz without magic": (lambda f: write_zip(f, b"PICKLE" * 20), "the magic string is not correct"),
    "npz member empty": (lambda f: write_zip(f, b""), "images.npy|EOF: reading magic string"),
    "npz packed by bzip2": (
        lambda f: write_zip(f, b"", zipfile.ZIP_BZIP2),
        "packed by method 12; only plain and deflated",
    ),
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
        "step 4 of the pickle is b'i', which",
    ),
    "book runs within": (lambda f: write_book(f, changed_pairs(1, 0, Runs(str(f / "ran")))), r"asks for (posix|nt)\."),
    "book of instance": (lambda f: write_book(f, pickle.dumps(Lives(), 2)), r"asks for .*\.Lives; only arrays"),
    "book of dotted name": (
        lambda f: write_book(f, b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93."),
        "asks for numpy.ndarray.dump",
    ),
    "book of extension": (lambda f: write_book(f, b"\x80\x02\x82\x01."), "step 2 of the pickle is .*x82"),
    "book of persistent id": (lambda f: write_book(f, b"\x80\x02NQ."), "step 3 of the pickle is b'Q'"),
    "book of dict": (lambda f: write_book(f, pickle.dumps({1: 2}, 2)), "step 2 of the pickle is b'}'"),
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
        r"step .* of the pickle is b'\]'",
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
    "book state set on a string": (lambda f: write_book(f, b"\x80\x02U\1aK\1b."), "sets the state of what has none"),
    "book calls a string": (lambda f: write_book(f, b"\x80\x02U\1a)R."), "calls what is no function"),
    "book labels above 9": (lambda f: write_book(f, changed_pairs(0, 1, LABELS[:15] + 1)), "pair 1: labels run from 1"),
    "book pixel is nan": (lambda f: write_book(f, changed_pairs(1, 0, ONE_NAN[15:])), "pair 2: pixels run from nan"),
    "book without memory": (lambda f: write_book(f, b"\x80\x02Nr\xff\xff\xff\x7f."), "step 3 of the pickle is b'r'"),
    "book without memory for a memo": (lambda f: write_book(f, b"(Np1001\n."), "is a pickle of something else"),
    "book without memory for bytes": (
        lambda f: write_book(f, b"\x80\x05\x96" + struct.pack("<q", 2**40) + b"abc."),
        "unpacks to more than 313,600,000 bytes",
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
        "a line in it is too long",
    ),
    "book endless": (lambda f: write_book(f, b"\x80\x02" + b"(" * 10**6), "more than 1,000 steps"),
    "book of laughs": (lambda f: write_book(f, LAUGHS), "is a pickle of something else"),
    "book that hides steps behind a frame": (
        lambda f: write_book(f, hidden(Runs(str(f / "ran")))),
        "of something else",
    ),
    "book that hides laughs behind a frame": (lambda f: write_book(f, hidden(LAUGHS_AS_KEY)), "of something else"),
    "book of laughs as a key": (lambda f: write_book(f, LAUGHS_AS_KEY), "of the pickle is b'}', which"),
    "book of wide text": (lambda f: write_book(f, b"\x80\x02X\4\0\0\0" + "\U0001f600".encode() + b"."), "not Latin-1"),
    "book of wide text in protocol 0": (lambda f: write_book(f, b"(V\\U0001f600\n."), "not Latin-1"),
    "book of a broken text": (lambda f: write_book(f, b"\x80\x02X\1\0\0\0\xc3."), "cannot be read .UnicodeDecodeError"),
    "book of too few things": (lambda f: write_book(f, b"\x80\x02)\x86."), "needs more than there is"),
    "book without a mark": (lambda f: write_book(f, b"\x80\x02)t."), "cannot be read .ValueError"),
    "book of a memory of nothing": (lambda f: write_book(f, b"\x80\x02h\5."), "cannot be read .KeyError"),
    "book without end": (lambda f: write_book(f, b"\x80\x02)"), "it ends where 1 bytes are announced, after 0"),
    "book of a long line": (
        lambda f: write_book(f, b"\x80\x02I" + b"7" * 10**7 + b"\n."),
        "a line in it is too long",
    ),
    "book of a long name": (
        lambda f: write_book(f, b"\x80\x04X\x80\x96\x98\0" + b"7" * 10**7 + b"U\1a\x93."),
        "asks for 7777",
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
    assert peak < 1e8
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("length", [0, 1, 100, 2**40, 2**64 - 1])
def test_the_length_of_a_frame_changes_nothing(length: int, tmp_path: Path) -> None:
    content = pickle.dumps(three_pairs(), 4)
    assert content[2:3] == b"\x95"
    (x_train, _), _ = load_mnist(write_book(tmp_path, content[:3] + struct.pack("<Q", length) + content[11:]))
    np.testing.assert_array_equal(x_train, FLOATS)


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
    ("make", "message"),
    [
        (idx_bomb, "holds more bytes"),
        (npz_bomb, r"images.npy announces uint8 of shape \(20, 784\), but not in"),
        (lambda folder: write_book(folder, zeros_packed(b""), packed=False), "starts with byte 00"),
        (
            lambda folder: write_book(folder, zeros_packed(b"\x80\x02T\xff\xff\xff\x7f"), packed=False),
            "unpacks to more than 313,600,000 bytes",
        ),
    ],
)
def test_bomb_is_refused_in_bounded_memory(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    error, peak = refused(make(tmp_path))
    assert re.search(message, error)
    assert peak < 2e6


def refused(path: Path) -> tuple[str, int]:
    """The error that a file gets, or none where it is taken, and the memory that this takes."""
    tracemalloc.start()
    try:
        load_mnist(path)
    except DataFileError as error:
        return str(error), tracemalloc.get_traced_memory()[1]
    else:
        return "", tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


BLACK, NONE = np.zeros((1000, 784), np.uint8), np.zeros(1000, np.uint8)
BYTES = 1000 * 784 * 4  # of the files below, unpacked, at most

LARGE: dict[str, Callable[[Path], Path]] = {
    "idx": lambda f: write_folder(f, train_images=idx(BLACK.reshape(-1, 28, 28)), train_labels=idx(NONE)),
    "keras": lambda f: write_npz(f, np.savez_compressed, x_train=BLACK, y_train=NONE, x_test=BLACK, y_test=NONE),
    "images": lambda f: write_npz(f, np.savez_compressed, images=BLACK[:999], labels=NONE[:999]),
    "images in float64": lambda f: write_npz(f, np.savez_compressed, images=BLACK[:499] / 1.0, labels=NONE[:499]),
    "too many in float64": lambda f: write_npz(f, np.savez_compressed, images=BLACK / 1.0, labels=NONE),
    "with a bomb beside": lambda f: write_npz(
        f, np.savez_compressed, images=BLACK, labels=NONE, unwanted=np.zeros((100, 784), "S1000")
    ),
    **{
        f"book in {dtype}, protocol {protocol}": lambda f, dtype=dtype, protocol=protocol: write_book(
            f, pickle.dumps(((BLACK[:330].astype(dtype), NONE[:330].astype(np.int64)),) * 3, protocol)
        )
        for dtype in ("u1", "f4", "f8")
        for protocol in (0, 2, 4)
    },
    "book three times the same": lambda f: write_book(f, pickle.dumps(((BLACK, NONE),) * 3, 4)),
    "book of text": lambda f: write_book(f, b"\x80\x02X" + struct.pack("<I", BYTES - 9) + b"a" * (BYTES - 9) + b"."),
    "book of Latin-1": lambda f: write_book(
        f, b"\x80\x02X" + struct.pack("<I", BYTES - 8) + "\xe9".encode() + b"a" * (BYTES - 10) + b"."
    ),
    "book of wide text": lambda f: write_book(
        f, b"\x80\x02X" + struct.pack("<I", BYTES - 9) + "\U0001f600".encode() + b"a" * (BYTES - 13) + b"."
    ),
    "book of lines": lambda f: write_book(f, b"(" + (b"V" + b"a" * (BYTES // 4) + b"\n") * 40 + b"."),
    "book of one line": lambda f: write_book(f, b"(V" + b"a" * (BYTES - 9) + b"\n."),
    "book of texts": lambda f: write_book(f, b"\x80\x04" + (b"X\0\0\1\0" + b"a" * 2**16 + b"\x94h\0") * 300 + b"."),
    "book of names": lambda f: write_book(f, b"\x80\x04" + b"X\0\0\x20\0" + b"a" * 2**21 + b"\x94h\0\x93."),
    "book of codes": lambda f: write_book(f, changed_bytes(b"U\2f4", b"T\0\0\x20\0" + b"f" * 2**21)),
}


@pytest.mark.parametrize("name", LARGE)
def test_no_file_takes_more_memory_than_a_few_times_its_bound(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound, of 100,000 digits, is 1,000 here."""
    monkeypatch.setattr(mnist, "MAX_DIGITS", 1000)
    monkeypatch.setattr(mnist, "MAX_BYTES", BYTES)
    path = LARGE[name](tmp_path)
    _, peak = refused(path)
    assert peak < 3.3 * BYTES


def test_bytes_are_counted_in_all_arrays_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "MAX_BYTES", BYTES)
    images, labels = BLACK[:400] / 1.0, NONE[:400]
    error, _ = refused(write_npz(tmp_path, x_train=images, y_train=labels, x_test=images, y_test=labels))
    assert "announces 5,018,400 bytes; wanted at most 3,136,000" in error


@pytest.mark.parametrize("name", ["idx", "keras", "book three times the same"])
def test_digits_are_counted_in_all_parts_together(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "MAX_DIGITS", 1000)
    monkeypatch.setattr(mnist, "MAX_BYTES", BYTES)
    error, _ = refused(LARGE[name](tmp_path))
    assert re.search(r"holds [1-3],00[05] digits; wanted at most 1,000", error)


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
@settings(deadline=None, max_examples=scale(10, 200))
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


@settings(deadline=None, max_examples=scale(30, 600))
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


steps = st.sampled_from([*mnist._STEPS]) | st.binary(min_size=1, max_size=1)
arguments = st.sampled_from(
    [b"", b"\0", b"\1a", b"\2f4", b"\0\0\0\0", b"\1\0\0\0a", b"0\n", b"numpy\nndarray\n", b"\xff" * 8]
)


@settings(deadline=None, max_examples=scale(50, 3000))
@given(program=st.lists(st.tuples(steps, arguments), max_size=12))
def test_no_program_does_anything_else_than_to_fail(program: list[tuple[bytes, bytes]]) -> None:
    content = b"\x80\x02" + b"".join(itertools.chain(*program)) + b"."
    with tempfile.TemporaryDirectory() as folder:
        error, peak = refused(write_book(Path(folder), content))
    assert error
    assert peak < 1.1 * mnist.MAX_BYTES  # a string may announce as much, and is set aside at once
