"""Arrays by name in a file, which is written whole or not at all, and read without running anything in it.

A file that is read is not trusted: what it announces is compared with what is wanted before memory is set aside. It is
a `.npz` file, or safetensors where its name ends so; those have no checksums, and are the business of that package.
"""

import glob
import json
import math
import os
import stat
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import numpy as np

from minigrad.engine import Array

# fmt: off
SAFETENSORS = {  # what that format calls dtypes
    "BOOL": "?", "F16": "f2", "F32": "f4", "F64": "f8", "C64": "c8",
    "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8", "U8": "u1", "U16": "u2", "U32": "u4", "U64": "u8",
}
# fmt: on
ABANDONED = 3600  # seconds after which a temporary file that nobody has written to is a killed process's


@contextmanager
def written_whole(path: str | Path) -> Iterator[BinaryIO]:
    """A file to be written beside `path`, which it replaces in the end, so that none is ever half written.

    Its mode stays what it was, and a link stays: what it points to is replaced. Raises OSError where anything but a
    file that may be written stands in the way. What a killed process left beside the file goes when it is an hour old.
    """
    path = Path(path)
    try:
        old = path.stat()
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise OSError(f"{path} is a folder, a pipe or a device, and no file: save under another name")
    if old is not None and not os.access(path, os.W_OK):
        raise PermissionError(f"{path} is read-only: make it writable, or save under another name")
    path = path.resolve()
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.touch(0o666 if old is None else stat.S_IMODE(old.st_mode), exist_ok=False)  # never more open than it
        if old is not None:
            temporary.chmod(stat.S_IMODE(old.st_mode))
        _sweep(path, temporary.stat().st_mtime - ABANDONED)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)  # the one that its user knows
        raise


def _sweep(path: Path, before: float) -> None:
    """Remove the temporary files of `path` that were last written before a time, on the clock of its folder."""
    for entry in path.parent.glob(glob.escape(path.name) + "." + "[0-9a-f]" * 8 + ".tmp"):
        with suppress(OSError):  # it may be gone, or not be ours
            if entry.stat().st_mtime < before:
                entry.unlink()


def save_arrays(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name, whole or not at all."""
    if is_safetensors(path):
        packed = _packed(arrays)
        with written_whole(path) as file:
            file.write(packed)
        return
    # np.savez could not do it, as its own parameters, such as `file`, cannot be names of arrays.
    with written_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            if info.filename != f"{name}.npy":
                raise ValueError(f"an array in a file cannot be named {name!r}: it would be read as {info.filename!r}")
            with archive.open(info, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), version=(1, 0), allow_pickle=False)


def is_safetensors(path: str | Path) -> bool:
    """Whether a file is of that format, by its name."""
    return Path(path).suffix.lower() == ".safetensors"


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        hint = 'pip install "minigrad[interchange]", or use a .npz file'
        raise ImportError(f"files of the format safetensors need the package of that name: {hint}") from error
    return safetensors


def _packed(arrays: Mapping[str, Any]) -> bytes:
    """The contents of a file of safetensors."""
    package, known = _safetensors(), {np.dtype(code) for code in SAFETENSORS.values()}
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in plain.items():
        if array.dtype.newbyteorder("=") not in known:
            raise ValueError(f"{name} is of dtype {array.dtype}, which safetensors do not have: save to a .npz file")
        if name == "__metadata__" or not name.isprintable():
            raise ValueError(f"an array in safetensors cannot be named {name!r}")
    return package.numpy.save(plain)  # type: ignore[no-any-return]


def load_arrays(path: str | Path, wanted: Callable[[dict[str, Array]], Iterable[str]]) -> dict[str, Array]:
    """The arrays of a file by name: those that are `wanted`.

    Before any are read, `wanted` is shown them all by name, as arrays of the announced shapes and dtypes that take no
    memory. It returns the names of those to be read, or raises. Raises ValueError for a file that is damaged, or that
    holds anything else than plain arrays, each under a name of its own.
    """
    path = Path(path)
    with ExitStack() as stack:
        with _damage(path):
            announced, read = (_in_safetensors if is_safetensors(path) else _in_npz)(path, stack)
        names = list(wanted(announced))
        with _damage(path):
            return {name: read(name) for name in names}


def _in_npz(path: Path, stack: ExitStack) -> tuple[dict[str, Array], Callable[[str], Array]]:
    """What a file announces, and the function that reads an array; it is open until the stack ends."""
    # np.load would not do: it does not check the checksum of an array that it has not read to the end, nor any size.
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 22))
        end = file.read()
    if not end.startswith(b"PK\5\6") or not end.endswith(b"\0\0"):
        raise ValueError("it is none, or something stands behind its end")
    archive = stack.enter_context(zipfile.ZipFile(path))
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    announced = {name: _member(archive, info, whole=False) for name, info in members.items()}
    if len(members) < len(archive.infolist()):
        raise ValueError("two arrays in it have one name")
    return announced, lambda name: _member(archive, members[name], whole=True)


def _in_safetensors(path: Path, stack: ExitStack) -> tuple[dict[str, Array], Callable[[str], Array]]:
    """The same for a file of safetensors, whose header the package checks when it is opened."""
    file = stack.enter_context(_safetensors().safe_open(path, framework="np"))
    return {name: _header(name, file.get_slice(name)) for name in file.keys()}, file.get_tensor  # noqa: SIM118


def _header(name: str, part: Any) -> Array:
    if (code := part.get_dtype()) not in SAFETENSORS:
        raise ValueError(f"{name} is of dtype {code}, which NumPy does not have: save it as F32 there")
    return np.broadcast_to(np.zeros((), SAFETENSORS[code]), part.get_shape())


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn an error of any kind, as zipfile raises nearly anything for a damaged file, into one that names the file."""
    try:
        yield
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:
        text = str(error) or type(error).__name__
        kind = "safetensors" if is_safetensors(path) else ".npz"
        raise ValueError(f"{path} is not a readable {kind} file of plain arrays: {text:.200}") from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, whole: bool) -> Array:
    """An array in a file; unless it is wanted `whole`, one without memory that is as its header announces."""
    if not info.filename.endswith(".npy"):
        raise ValueError(f"it holds {info.filename[:60]!r}, and wanted are arrays in .npy format alone")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others unpack without bounds
        raise ValueError(f"{info.filename} is packed by method {info.compress_type}; only plain and deflated are read")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):  # the others have longer headers, of dtypes that save_arrays does not write
            raise ValueError(f"{info.filename} is .npy format {version}, and (1, 0) is wanted")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds Python objects, and only plain arrays are read")
        size = dtype.itemsize * math.prod(shape)
        if min(shape, default=0) < 0 or stream.tell() + size != info.file_size:
            raise ValueError(f"{info.filename} announces {dtype} of shape {shape}, but not in {info.file_size} bytes")
        data = stream.read(size) if whole else b""  # with a bound, and to the end, where its checksum is
    if not whole:
        return np.broadcast_to(np.zeros((), dtype), shape)
    if len(data) < size:
        raise ValueError(f"{info.filename} ends after {len(data):,} of {size:,} bytes")
    array: Array = np.ndarray(shape, dtype, data, order="F" if fortran else "C").copy("K")
    return array


# The largest numbers at places in the state of a generator that NumPy takes without a look; at the first two, the ends
# of the buffers of MT19937 and Philox, it reads memory.
_LAST = {"pos": 624, "buffer_pos": 4, "has_uint32": 1, "has_gauss": 1}


def generator_text(generator: Any) -> str:
    """The state of a random generator, of any kind of NumPy's or Python's, as text."""
    return json.dumps(_state_of(generator)[0](), default=lambda array: array.tolist())


def _state_of(generator: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """The functions that tell the state of a generator, and that set it."""
    if isinstance(generator, Random):
        return generator.getstate, lambda state: generator.setstate((state[0], tuple(state[1]), state[2]))
    if isinstance(generator, np.random.RandomState):
        return partial(generator.get_state, legacy=False), generator.set_state
    bits = getattr(generator, "bit_generator", generator)
    return lambda: bits.state, partial(setattr, bits, "state")


def set_generator(generator: Any, text: str) -> None:
    """Bring a generator to the state that `generator_text` wrote down for one of its kind, or raise ValueError."""
    before, kind = generator_text(generator), type(getattr(generator, "bit_generator", generator)).__name__
    set_state = _state_of(generator)[1]
    try:
        state, known = json.loads(text), json.loads(before)
        if not _alike(state, known):
            raise ValueError("it is of another form, or points outside of its numbers")
        set_state(state)
        if json.loads(generator_text(generator)) != state:
            raise ValueError("some of its numbers are too large")
    except Exception as error:
        set_state(json.loads(before))
        raise ValueError(f"{text[:60]!r}... is not a state of the generator {kind}: {error}") from error


def _alike(given: Any, known: Any, key: str = "") -> bool:
    """Whether a state has the form of a known one, and no number in it points outside of the others."""
    if isinstance(known, dict):
        same_keys = isinstance(given, dict) and given.keys() == known.keys()
        return same_keys and all(_alike(given[key], known[key], key) for key in known)
    if isinstance(known, list):
        if not isinstance(given, list) or len(given) != len(known) or not all(map(_alike, given, known)):
            return False
        return len(given) < 624 or any(given[:624])  # MT19937 of zeros draws zeros for ever, and normals take as long
    if isinstance(known, int):
        if type(given) is not int or not 0 <= given <= _LAST.get(key, 2**128 - 1):
            return False
        return key != "inc" or given % 2 == 1  # with another, PCG64 can draw the same number for ever
    if known is None or isinstance(known, float):  # a normal number that was drawn beforehand
        return given is None or (isinstance(given, float) and math.isfinite(given))
    return bool(given == known)
