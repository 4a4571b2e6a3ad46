"""Arrays in files: they come back bit for bit, and no failure leaves half of a file behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from minigrad.files import load_arrays, save_arrays

AWKWARD_NAMES = st.sampled_from(["file", "allow_pickle", "args", "a.b.0", "a/b", "ä ö", "0", "with space"])
ARRAYS = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.bool_]).flatmap(
    lambda dtype: nps.arrays(dtype, nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(arrays=st.dictionaries(AWKWARD_NAMES, ARRAYS))
def test_arrays_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("arrays") / "arrays.npz"
    save_arrays(path, arrays)
    found = load_arrays(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        assert found[name].tobytes() == array.tobytes()
    with np.load(path, allow_pickle=False) as file:
        assert file.files == list(arrays)


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
            found = load_arrays(path)
        except ValueError as error:
            assert "is not a readable .npz file" in str(error)  # noqa: PT017
        else:
            for name in found.keys() & arrays.keys():
                assert found[name].dtype == arrays[name].dtype
                np.testing.assert_array_equal(found[name], arrays[name])
