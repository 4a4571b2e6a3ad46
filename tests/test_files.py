"""Arrays in files: they come back bit for bit, no failure leaves half of a file behind, and no file does harm."""

import contextlib
import io
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from profiles import scale

from minigrad.files import SAFETENSORS, generator_text, load_arrays, save_arrays, set_generator, written_whole

AWKWARD_NAMES = st.sampled_from(["file", "allow_pickle", "args", "a.b.0", "a/b", "ä ö", "0", "with space"])
ARRAYS = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.bool_]).flatmap(
    lambda dtype: nps.arrays(dtype, nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(arrays=st.dictionaries(AWKWARD_NAMES, ARRAYS))
def test_arrays_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("arrays") / "arrays.npz"
    save_arrays(path, arrays)
    found = load_arrays(path, list)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        assert found[name].flags.writeable
        assert found[name].tobytes() == array.tobytes()
    with np.load(path, allow_pickle=False) as file:
        assert file.files == list(arrays)


def test_what_is_announced_is_zero_and_takes_no_memory(tmp_path: Path) -> None:
    save_arrays(tmp_path / "arrays.npz", {"w": np.full(2**17, 1e300), "n": np.arange(3)})
    used = [np.full((), 1e300) for _ in range(1000)]  # memory that the next small arrays get
    del used
    tracemalloc.start()
    try:
        load_arrays(tmp_path / "arrays.npz", lambda found: [] if not any(map(np.any, found.values())) else ["w"])
        assert tracemalloc.get_traced_memory()[1] < 5e5
    finally:
        tracemalloc.stop()


class Unsavable:
    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("bad", "error"),
    [(np.array([object()]), ValueError), (Unsavable(), KeyboardInterrupt)],
    ids=["objects", "interrupt"],
)
def test_a_failing_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, bad: Any, error: type[BaseException]
) -> None:
    path = tmp_path / "model.npz"
    save_arrays(path, {"w": np.arange(3)})
    before = path.read_bytes()
    with pytest.raises(error):
        save_arrays(path, {"w": np.arange(1000), "x": bad})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a\0b", "\0"])
def test_a_name_that_would_not_come_back_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be named"):
        save_arrays(tmp_path / "model.npz", {name: np.ones(2)})
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------ what is in the way

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has neither modes nor links for everyone")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o664])
def test_the_mode_of_a_file_stays(mode: int, tmp_path: Path) -> None:
    path, seen = tmp_path / "model.npz", []
    path.touch()
    path.chmod(mode)
    with written_whole(path) as file:
        seen += [stat.S_IMODE(other.stat().st_mode) for other in tmp_path.iterdir()]
        file.write(b"new")
    assert seen == [mode, mode], "the file in the making is never more open than the old one"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


@posix
def test_a_file_in_the_making_is_not_more_open_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen, chmod = tmp_path / "model.npz", [], Path.chmod
    path.touch()
    path.chmod(0o600)
    monkeypatch.setattr(Path, "chmod", lambda self, mode: (seen.append(self.stat().st_mode), chmod(self, mode)))
    save_arrays(path, {"w": np.ones(2)})
    assert seen == [path.stat().st_mode]


@posix
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    save_arrays(tmp_path / "model.npz", {"w": np.ones(2)})
    assert (tmp_path / "model.npz").stat().st_mode == (tmp_path / "other").stat().st_mode


@posix
@pytest.mark.parametrize("links", [1, 3])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_points_to_is_replaced(links: int, there: bool, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "model.npz"
    target.parent.mkdir()
    if there:
        target.write_bytes(b"old")
    path = target
    for number in range(links):
        path, old = tmp_path / f"{number}.npz", path
        path.symlink_to(old)
    save_arrays(path, {"w": np.arange(3)})
    assert all((tmp_path / f"{number}.npz").is_symlink() for number in range(links))
    assert not target.is_symlink()
    assert list(target.parent.iterdir()) == [target]
    np.testing.assert_array_equal(load_arrays(path, list)["w"], np.arange(3))


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_read_only(path: Path) -> None:
    path.write_bytes(b"precious")
    path.chmod(0o444)
    if os.access(path, os.W_OK):
        pytest.skip("this user may write to everything")


@posix
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.mkdir, "is a folder, a pipe or a device"),
        (lambda path: os.mkfifo(path), "is a folder, a pipe or a device"),
        (lambda path: path.symlink_to("/dev/null"), "is a folder, a pipe or a device"),
        (make_loop, "[Ss]ymbolic links"),
        (make_read_only, "is read-only: make it writable"),
    ],
    ids=["folder", "pipe", "device", "loop", "read-only"],
)
def test_only_a_file_is_replaced(make: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    make(path)
    before = path.lstat()
    with pytest.raises(OSError, match=message):
        save_arrays(path, {"w": np.ones(2)})
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_mtime) == (before.st_ino, before.st_mode, before.st_mtime)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["nowhere/model.npz", "a" * 300 + ".npz"])
def test_an_error_names_the_file_that_its_user_knows(name: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"model|aaa") as raised:
        save_arrays(tmp_path / name, {"w": np.ones(2)})
    assert raised.value.filename == str(tmp_path / name)
    assert not list(tmp_path.iterdir())


@posix
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    save_arrays(tmp_path / "model.npz", {"w": np.arange(3)})
    before = (tmp_path / "model.npz").read_bytes()
    code = (
        "import resource, signal, numpy as np; from minigrad.files import save_arrays\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: save_arrays('model.npz', {'w': np.ones(10**6)})\n"
        "except OSError as error: print(type(error).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "OSError\n", "")
    assert (tmp_path / "model.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


# ----------------------------------------------------------------------------------------- killed and at the same time


def test_what_a_killed_process_left_goes_when_it_is_old_and_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "model[1].npz"
    names = {
        "model[1].npz.0123abcd.tmp": True,  # ours, and old
        "model[1].npz.89abcdef.tmp": False,  # ours, and somebody may be writing it
        "model1.npz.0123abcd.tmp": False,  # of other files
        "other.npz.0123abcd.tmp": False,
        "model[1].npz.notes.tmp": False,  # its user's
        "model[1].npz.tmp": False,
        "notebook.tmp": False,
    }
    for name in names:
        (tmp_path / name).write_bytes(b"half")
        if name != "model[1].npz.89abcdef.tmp":
            os.utime(tmp_path / name, (0, (tmp_path / name).stat().st_mtime - 4000))
    save_arrays(path, {"w": np.ones(2)})
    assert {file.name for file in tmp_path.iterdir()} == {
        path.name,
        *(name for name, goes in names.items() if not goes),
    }


@posix
def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from minigrad.files import save_arrays\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1; save_arrays('model.npz', {'a': np.full(20_000, n), 'b': np.full(20_000, n)}); print(n, flush=True)"
    )
    path = tmp_path / "model.npz"
    rng = np.random.default_rng(0)
    for _ in range(scale(2, 30)):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()  # it has saved once
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        last = [1, *map(int, process.stdout.read().split())][-1]
        process.wait()
        process.stdout.close()
        found = load_arrays(path, list)
        assert {*found["a"], *found["b"]} <= {last, last + 1}
        assert len({*found["a"], *found["b"]}) == 1
    for left in tmp_path.glob("*.tmp"):
        os.utime(left, (0, left.stat().st_mtime - 4000))
    save_arrays(path, {"w": np.ones(2)})
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_writers_at_the_same_time_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(10):
                save_arrays(path, {"a": np.full(5000, number), "b": np.full(5000, number)})
                found = load_arrays(path, list)
                assert len({*found["a"], *found["b"]}) == 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert list(tmp_path.iterdir()) == [path]


# --------------------------------------------------------------------------------------------------------- safetensors


def safe(header: Any, content: bytes = bytes(8)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def entry(dtype: str = "F32", shape: Any = (2,), start: int = 0, stop: int = 8) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


SAFE = safe({"w": entry()})
WRONG_SAFE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", ""),
    "text": (b"weights, honestly" * 9, ""),
    "cut in the numbers": (SAFE[:-1], ""),
    "cut in the header": (SAFE[:20], ""),
    "with something behind": (SAFE + b"junk", ""),
    "an archive": (b"PK\3\4" + bytes(100), ""),
    "a pickle": (b"cos\nsystem\n(S'exit'\ntR.", ""),
    "a header of another length": (struct.pack("<Q", 2**60) + SAFE[8:], ""),
    "no JSON": (safe(b"{'w': 1}"), ""),
    "a list": (safe([1, 2]), ""),
    "no text": (safe(b"\xff\xfe{}"), ""),
    "too many numbers": (safe({"w": entry(shape=(10**15,), stop=4 * 10**15)}), ""),
    "too few numbers": (safe({"w": entry(shape=(1,))}), ""),
    "sizes that overflow": (safe({"w": entry(shape=(2**63, 2**63))}), ""),
    "a negative size": (safe({"w": entry(shape=(-2,))}), ""),
    "a size that is no integer": (safe({"w": entry(shape=(2.5,))}), ""),
    "offsets before the start": (safe({"w": entry(start=-8, stop=0)}), ""),
    "two in one place": (safe({"w": entry(), "v": entry()}), ""),
    "a gap": (safe({"w": entry(start=8, stop=16)}, bytes(16)), ""),
    "bfloat16": (safe({"w": entry("BF16", (4,))}), "w is of dtype BF16, which NumPy does not have: save it as F32"),
    "float8": (safe({"w": entry("F8_E4M3", (8,))}), "w is of dtype F8_E4M3, which NumPy does not have"),
    "an unknown dtype": (safe({"w": entry("F32X")}), ""),
}


@pytest.fixture
def safetensors() -> Any:
    return pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")


@pytest.mark.parametrize("name", WRONG_SAFE)
def test_wrong_safetensors_give_one_clear_error(name: str, safetensors: Any, tmp_path: Path) -> None:
    path, (content, message) = tmp_path / "w.safetensors", WRONG_SAFE[name]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"w\.safetensors is not a readable safetensors file of .*: {message}"):
        load_arrays(path, list)
    path.write_bytes(SAFE)
    assert load_arrays(path, list)["w"].shape == (2,), "the table is of mistakes in a file that is right"


@given(st.data())
def test_safetensors_that_are_cut_or_changed_do_no_harm(tmp_path_factory: Any, data: st.DataObject) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path_factory.mktemp("arrays") / "w.safetensors"
    save_arrays(path, {"w": np.ones((2, 3)), "ä": np.array(3), "v": np.zeros((0, 2), np.float32)})
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content = content[:at] if data.draw(st.booleans()) else content[:at] + b"%c" % content[at - 1] + content[at + 1 :]
    path.write_bytes(content)
    try:
        found = load_arrays(path, list)
    except ValueError as error:
        assert "w.safetensors is not a readable safetensors file" in str(error)  # noqa: PT017
    else:
        assert sum(array.nbytes for array in found.values()) <= 56


@given(arrays=st.dictionaries(AWKWARD_NAMES, ARRAYS))
def test_arrays_come_back_from_safetensors(tmp_path_factory: Any, arrays: dict[str, np.ndarray]) -> None:
    package = pytest.importorskip("safetensors.numpy")
    path = tmp_path_factory.mktemp("arrays") / "arrays.SafeTensors"
    save_arrays(path, {name: np.asarray(array, order="F") for name, array in arrays.items()})
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208
    for found in (load_arrays(path, list), package.load_file(path)):
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
            assert found[name].flags.writeable
            assert found[name].tobytes() == array.tobytes()


def test_every_dtype_of_safetensors_in_any_byte_order_and_layout(safetensors: Any, tmp_path: Path) -> None:
    path, rng = tmp_path / "arrays.safetensors", np.random.default_rng(0)
    for code in SAFETENSORS.values():
        array = rng.integers(0, 9, (2, 3, 4)).astype(code)
        save_arrays(path, {"a": array, "b": array.astype(np.dtype(code).newbyteorder(">")), "c": array.T[::-2]})
        found = load_arrays(path, lambda announced: announced)
        assert {each.dtype for each in found.values()} == {np.dtype(code)}
        np.testing.assert_array_equal(found["b"], array)
        np.testing.assert_array_equal(found["c"], array.T[::-2])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"w": np.ones(2, complex)}, "w is of dtype complex128, which safetensors do not have: save to a .npz file"),
        ({"w": np.array("text")}, "w is of dtype <U4"),
        ({"w": np.array([None])}, "w is of dtype object"),
        ({"__metadata__": np.ones(2)}, "cannot be named '__metadata__'"),
        ({"a\0": np.ones(2)}, "cannot be named 'a"),
        ({"\ud800": np.ones(2)}, "cannot be named"),
    ],
)
def test_what_safetensors_do_not_hold(arrays: Any, message: str, safetensors: Any, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_arrays(path, {"w": np.arange(3)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        save_arrays(path, {"v": np.arange(1000), **arrays})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_what_is_not_wanted_of_safetensors_is_not_read(safetensors: Any, tmp_path: Path) -> None:
    path, size = tmp_path / "w.safetensors", 2**34
    with path.open("wb") as file:  # 16 GB that take no room
        file.write(safe({"w": entry(), "v": entry(shape=(size // 4,), start=8, stop=size + 8)}))
        file.truncate(file.tell() + size)
    assert list(load_arrays(path, lambda found: [name for name, array in found.items() if array.size < 9])) == ["w"]


def test_safetensors_are_read_where_that_package_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.safetensors").write_bytes(SAFE)
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    for do in (lambda path: load_arrays(path, list), lambda path: save_arrays(path, {"w": np.ones(2)})):
        with pytest.raises(
            ImportError, match=r'need the package of that name: pip install "minigrad\[interchange\]", or'
        ):
            do(tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == SAFE


# ------------------------------------------------------------------------------------------- damaged and hostile files


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array))
    return file.getvalue()


def with_header(header: str, content: bytes = bytes(64), version: bytes = b"\1\0") -> bytes:
    return (
        b"\x93NUMPY"
        + version
        + struct.pack("<H" if version == b"\1\0" else "<I", len(header))
        + header.encode()
        + content
    )


def header(shape: str = "(8,)", descr: str = "'<f8'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


def packed(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method, compresslevel=1) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def twice() -> bytes:
    return packed(("w.npy", npy(1.0)), ("v.npy", npy(2.0)), method=0).replace(b"v.npy", b"w.npy")


def lying(announced: int) -> bytes:
    """The array has another size than its header and the directory say."""
    start = with_header(header(f"({announced},)", "'|u1'"), b"")
    content = packed(("w.npy", start + bytes(2**20)))
    real, size = (struct.pack("<I", len(start) + count) for count in (2**20, announced))
    assert content.count(real) == 2
    return content.replace(real, size)


GOOD = packed(("w.npy", npy(np.arange(6.0))), method=0)
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is none"),
    "short": (b"PK\5\6", "it is none"),
    "text": (b"weights, honestly" * 9, "it is none"),
    "cut": (GOOD[:-1], "it is none"),
    "with something behind": (GOOD + b"junk", "something stands behind its end"),
    "with a comment": (GOOD[:-2] + b"\4\0junk", "something stands behind its end"),
    "twice the name": (twice(), "two arrays in it have one name"),
    "a folder in it": (packed(("w/", b"")), "holds 'w/'"),
    "another name": (packed(("w.txt", b"hello")), "holds 'w.txt'"),
    "a pickle": (packed(("w.pkl", b"cos\nsystem\n(S'exit'\ntR.")), "holds 'w.pkl'"),
    "not an array": (packed(("w.npy", b"PICKLE" * 9)), "magic string"),
    "bzip2": (packed(("w.npy", npy(1.0)), method=zipfile.ZIP_BZIP2), "packed by method 12"),
    "lzma": (packed(("w.npy", npy(1.0)), method=zipfile.ZIP_LZMA), "packed by method 14"),
    "objects": (packed(("w.npy", with_header(header(descr="'|O'")))), "holds Python objects"),
    "objects in records": (
        packed(("w.npy", with_header(header(descr="[('a', '<f4'), ('b', '|O')]")))),
        "Python objects",
    ),
    "huge": (packed(("w.npy", with_header(header(f"({2**40},)")))), "announces float64 of shape"),
    "beyond any size": (packed(("w.npy", with_header(header(f"({2**62}, {2**62})")))), "announces float64"),
    "digits": (packed(("w.npy", with_header(header(f"({'9' * 4000},)")))), "announces float64"),
    "negative": (packed(("w.npy", with_header(header("(-8,)")))), "announces float64 of shape"),
    "negative twice": (packed(("w.npy", with_header(header("(-2, -4)")))), "announces float64 of shape"),
    "a long text": (packed(("w.npy", with_header(header("(0,)", f"'|S{2**31 - 1}'")))), "w.npy announces"),
    "less": (packed(("w.npy", with_header(header(), bytes(63)))), "announces float64 of shape .8,., but not in"),
    "more": (packed(("w.npy", with_header(header(), bytes(65)))), "announces float64 of shape .8,., but not in"),
    "less than its directory says": (lying(2**21), r"w.npy ends after 1,048,576 of"),
    "more than its directory says": (lying(2**10), "CRC"),
    "a call": (packed(("w.npy", with_header(header("print('no')")))), "malformed node"),
    "a power": (packed(("w.npy", with_header(header("(9**9**9,)")))), "malformed node"),
    "nested": (packed(("w.npy", with_header("(" * 9000))), "not a readable"),
    "signs": (packed(("w.npy", with_header("-" * 9000 + "1"))), "not a readable"),
    "a long header": (packed(("w.npy", with_header(header() + " " * 30_000))), "header|Header"),
    "an endless header": (packed(("w.npy", b"\x93NUMPY\2\0" + b"\xff" * 4 + bytes(2**24))), r"format .2, 0."),
    "of the future": (packed(("w.npy", with_header(header(), version=b"\3\0"))), r"format .3, 0."),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_get_one_error_and_no_memory(kind: str, tmp_path: Path) -> None:
    content, message = HOSTILE[kind]
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as raised:
            load_arrays(path, list)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(raised.value).startswith(f"{path} is not a readable .npz file of plain arrays: ")
    assert len(str(raised.value)) < len(str(path)) + 300
    assert peak < 5e6


def test_what_is_wanted_is_asked_for_before_anything_is_read(tmp_path: Path) -> None:
    """The file unpacks to 16 MB that nobody asked for, and asking for it takes no memory."""
    path = tmp_path / "model.npz"
    path.write_bytes(packed(("w.npy", npy(np.arange(6.0))), ("bomb.npy", npy(np.zeros((2, 2**20))))))
    seen: dict[str, Any] = {}

    def wanted(found: dict[str, np.ndarray]) -> list[str]:
        seen.update({name: (array.shape, array.dtype, array.nbytes) for name, array in found.items()})
        return ["w"]

    def refuse(found: dict[str, np.ndarray]) -> list[str]:
        raise LookupError("a bomb")

    tracemalloc.start()
    try:
        found = load_arrays(path, wanted)
        with pytest.raises(LookupError, match="a bomb"):
            load_arrays(path, refuse)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6
    assert seen == {"w": ((6,), np.dtype(float), 48), "bomb": ((2, 2**20), np.dtype(float), 2**24)}
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], np.arange(6.0))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_numpy_are_read(save: Callable[..., None], tmp_path: Path) -> None:
    arrays = {
        "w": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "text": np.array("a"),
    }
    arrays |= {"none": np.zeros((0, 3)), "bare": np.zeros(2, "V0"), "records": np.zeros(2, "f4, i8")}
    save(tmp_path / "arrays.npz", **arrays)
    found = load_arrays(tmp_path / "arrays.npz", list)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(found[name], array)


@given(st.data())
def test_damaged_files_are_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damaged") / "model.npz"
    arrays = {"w": np.arange(6.0).reshape(2, 3), "b": np.ones(3, np.float32)}
    save_arrays(path, arrays)
    content = path.read_bytes()
    spots = st.tuples(st.integers(0, len(content) - 1), st.integers(1, 255))
    for spot in data.draw(st.lists(spots, min_size=10, max_size=30)):
        damaged = bytearray(content)
        damaged[spot[0]] ^= spot[1]
        path.write_bytes(damaged)
        try:
            found = load_arrays(path, list)
        except ValueError as error:
            assert "is not a readable .npz file" in str(error)  # noqa: PT017
        else:
            for name in found.keys() & arrays.keys():
                assert found[name].dtype == arrays[name].dtype
                np.testing.assert_array_equal(found[name], arrays[name])


# ------------------------------------------------------------------------------------------- states of generators

KINDS = ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64", "RandomState", "Random", "bare MT19937"]


def made(kind: str, seed: int = 0) -> Any:
    if kind == "Random":
        return Random(seed)
    name = kind.rpartition(" ")[2]
    generator = getattr(np.random, name)(seed)
    return generator if kind in ("RandomState", "bare MT19937") else np.random.Generator(generator)


def draw(generator: Any, count: int) -> list[float]:
    if isinstance(generator, Random):
        return [generator.gauss(0, 1) for _ in range(count)]
    if isinstance(generator, np.random.BitGenerator):
        return [float(number) for number in generator.random_raw(count)]
    if isinstance(generator, np.random.Generator):
        generator.integers(0, 9, count, dtype=np.uint32)  # an odd number leaves half of a 64-bit number behind
    return [float(number) for number in generator.normal(size=count)]


@pytest.mark.parametrize("kind", KINDS)
def test_generators_come_back(kind: str) -> None:
    generator, other = made(kind), made(kind, 1)
    for count in range(5):
        draw(generator, count)
        set_generator(other, generator_text(generator))
        assert draw(other, 701) == draw(generator, 701)


def places(state: Any) -> list[list[Any]]:
    """The ways to all that is in a state."""
    inner = state.items() if isinstance(state, dict) else enumerate(state[:3]) if isinstance(state, list) else ()
    return [[], *([key, *rest] for key, part in inner for rest in places(part))]


@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_no_state_crashes_a_generator_or_is_taken_for_another(kind: str, data: st.DataObject) -> None:
    generator = made(kind)
    state = json.loads(generator_text(generator))
    draw(generator, 3)
    before = generator_text(generator)
    way = data.draw(st.sampled_from(places(state)[1:]))
    values: Any = [
        -1,
        -(10**6),
        0,
        1,
        2,
        3,
        4,
        5,
        623,
        624,
        625,
        10**6,
        2**31 - 1,
        2**31,
        2**32,
        2**64,
        2**128,
        2**2000,
    ]
    values += [1.0, float("nan"), True, None, "MT19937", [], {}, [0] * 624, {"key": [0], "pos": 0}]
    place = state
    for key in way[:-1]:
        place = place[key]
    if data.draw(st.booleans()):
        place[way[-1]] = data.draw(st.sampled_from(values))
    elif isinstance(place, dict):
        del place[way[-1]]
    else:
        place.append(0)
    try:
        set_generator(generator, json.dumps(state))
    except ValueError:
        assert generator_text(generator) == before
    else:
        assert json.loads(generator_text(generator)) == state
    draw(generator, 1501)


@pytest.mark.parametrize(
    ("kind", "way", "value"),
    [
        ("MT19937", ("state", "pos"), 625),
        ("MT19937", ("state", "pos"), -1),
        ("MT19937", ("state", "pos"), 10**6),
        ("Philox", ("buffer_pos",), 5),
        ("Philox", ("buffer_pos",), -(10**7)),
        ("PCG64", ("has_uint32",), 2),
        ("PCG64", ("state", "inc"), 2**128),
        ("PCG64", ("state", "inc"), 0),
        ("MT19937", ("state", "key"), [0] * 624),
        ("RandomState", ("state", "key"), [0] * 624),
        ("SFC64", ("uinteger",), -1),
        ("RandomState", ("state", "pos"), 10**6),
        ("bare MT19937", ("state", "pos"), 10**6),
        ("Random", (1, 624), 10**6),
        ("Random", (1, 2), 2**32),
        ("Random", (0,), 2),
        ("MT19937", ("state", "key", 623), 2**32),
        ("Philox", ("uinteger",), 2**32),
    ],
)
def test_states_that_crash_or_hang_are_refused(kind: str, way: tuple[Any, ...], value: Any) -> None:
    generator, other = made(kind), made(kind)
    state = json.loads(generator_text(generator))
    assert draw(generator, 3) == draw(other, 3)
    place = state
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = value
    with pytest.raises(ValueError, match=f"is not a state of the generator {kind.split()[-1]}: "):
        set_generator(generator, json.dumps(state))
    assert draw(generator, 701) == draw(other, 701)


@pytest.mark.parametrize("text", ["", "[" * 10_000, "null", "3", '"PCG64"', "{}", '{"bit_generator": "PCG64"}'])
def test_other_texts_are_no_states(text: str) -> None:
    generator = made("PCG64")
    with pytest.raises(ValueError, match="is not a state of the generator PCG64"):
        set_generator(generator, text)
    assert draw(generator, 3) == draw(made("PCG64"), 3)
