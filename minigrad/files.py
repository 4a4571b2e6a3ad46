"""Arrays by name in a `.npz` file, which is written whole or not at all, and read without running anything in it."""

import io
import os
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minigrad.engine import Array


@contextmanager
def written_whole(path: str | Path) -> Iterator[BinaryIO]:
    """A file to be written beside `path`, which it replaces in the end, so that none is ever half written."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_arrays(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name, whole or not at all."""
    # np.savez could not do it, as its own parameters, such as `file`, cannot be names of arrays.
    with written_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def load_arrays(path: str | Path) -> dict[str, Array]:
    """The arrays of a file by name. Raises ValueError for a file that is damaged, or that holds other things."""
    # np.load would not do, as it does not check the checksum of an array that it has not read to the end.
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {name.removesuffix(".npy"): io.BytesIO(archive.read(name)) for name in archive.namelist()}
        return {name: np.lib.format.read_array(entry, allow_pickle=False) for name, entry in entries.items()}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile raises nearly anything for a damaged file
        raise ValueError(f"{path} is not a readable .npz file of plain arrays: {error}") from error
