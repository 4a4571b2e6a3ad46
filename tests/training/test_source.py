"""Data that are larger than memory: memmaps, files and streams train as arrays do, and go on where they were."""

import functools
import itertools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import BATCH, ROWS, STEPS, X, Y, bits, ctrl_c, failing_after, fit, mean_error, network, right, sgd
from profiles import some, thorough_only

import minigrad as mg
from minigrad import nn
from minigrad.data import batches

PAIRS = [(X[:5], Y[:5]), (X[5:6], Y[5:6]), (X[6:], Y[6:])]  # batches of five, one, and five


class Stream:
    """Batches in random order, from a generator of its own."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[Any]:
        return batches(X, Y, batch_size=BATCH, rng=self.rng)


class Positions:
    """Goes on in each epoch where it was, which it tells itself."""

    def __init__(self) -> None:
        self.position = 0

    def __iter__(self) -> Iterator[Any]:
        for _ in range(2):
            yield X[self.position : self.position + 3], Y[self.position : self.position + 3]
            self.position = (self.position + 3) % 9

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Any) -> None:
        self.position = int(state["position"])


def mapped(folder: Path, mode: Any = "r") -> tuple[Any, Any]:
    arrays = []
    for name, array in (("x", X), ("y", Y)):
        if not (folder / f"{name}.npy").exists():
            np.save(folder / f"{name}.npy", array)
        arrays.append(np.load(folder / f"{name}.npy", mmap_mode=mode))
    return arrays[0], arrays[1]


def files(folder: Path, pairs: Any = PAIRS) -> list[Path]:
    paths = [folder / f"{i}.npz" for i in range(len(pairs))]
    for path, (x, y) in zip(paths, pairs, strict=True):
        if not path.exists():
            np.savez(path, x=x, y=y)
    return paths


# ------------------------------------------------------------------------------------------ the same as arrays

STREAMS: dict[str, Callable[[], Any]] = {
    "iterable": Stream,
    "function": lambda: (lambda rng: lambda: batches(X, Y, batch_size=BATCH, rng=rng))(np.random.default_rng(0)),
    "function of lists": lambda: (lambda stream: lambda: [[x, y] for x, y in stream])(Stream()),
    "class": lambda: (lambda rng: type("Anew", (), {"__iter__": lambda self: iter(Stream(rng))}))(
        np.random.default_rng(0)
    ),
    "partial": lambda: functools.partial(batches, X, Y, batch_size=BATCH, rng=np.random.default_rng(0)),
    "method": lambda: Stream().__iter__,
}


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_trains_as_the_arrays_do_that_it_is_cut_of(kind, prefetch):
    ours, theirs = network(dropout=0.5), network(dropout=0.5)
    options = {"epochs": 3, "metrics": [mean_error]}
    history = fit(ours, data=STREAMS[kind](), seed=None, prefetch=prefetch, **options)
    assert history == fit(theirs, seed=0, **options)
    assert bits(ours) == bits(theirs)


SOURCES: dict[str, Callable[[Path], Any]] = {
    "arrays": lambda folder: (X, Y),
    "memmaps": mapped,
    "memmap and array": lambda folder: (mapped(folder)[0], Y),
    "views of memmaps": lambda folder: tuple(np.asarray(array)[:] for array in mapped(folder)),
    "files": files,
    "names of files": lambda folder: tuple(map(str, files(folder))),
    "stream": lambda folder: lambda: iter(PAIRS),
}


@pytest.mark.parametrize("batch_size", [None, 1, 4, ROWS, 99])
@pytest.mark.parametrize("kind", SOURCES)
def test_all_kinds_of_data_are_evaluated_and_predicted_alike(kind, batch_size, tmp_path):
    model, data = network(), SOURCES[kind](tmp_path)
    numbers = mg.evaluate(model, nn.mse_loss, data, metrics=[mean_error, right], batch_size=batch_size)
    assert numbers == pytest.approx(mg.evaluate(model, nn.mse_loss, (X, Y), metrics=[mean_error, right]), rel=1e-5)
    x = (lambda: (x for x, _ in data())) if kind == "stream" else data if "files" in kind else data[0]
    prediction = mg.predict(model, x, batch_size=batch_size)
    assert type(prediction) is np.ndarray
    np.testing.assert_allclose(prediction, mg.predict(model, X), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("arrays", [ROWS]),
        ("memmaps", [4, 4, 3]),
        ("memmap and array", [4, 4, 3]),
        ("files", [4, 4, 3]),
        ("stream", [5, 1, 5]),
    ],
)
def test_no_more_than_a_batch_is_evaluated_at_a_time_of_what_is_not_in_memory(kind, sizes, tmp_path):
    def metric(prediction: Any, y: Any) -> float:
        assert type(y) is np.ndarray
        assert len(prediction) == len(y)
        seen.append(len(y))
        return 1.0

    seen: list[int] = []
    mg.evaluate(network(), nn.mse_loss, SOURCES[kind](tmp_path), metrics=[metric], batch_size=4)
    assert seen == sizes


@pytest.mark.parametrize(("compile", "prefetch"), [(False, True), (True, False), ("pure", True)])
@pytest.mark.parametrize("kind", SOURCES)
def test_every_epoch_goes_once_through_all_samples(kind, prefetch, compile, tmp_path):
    def loss(prediction: Any, y: Any) -> Any:
        return np.mean(prediction * 0) + np.mean(y)

    model = network()[:2]
    options = {"data": SOURCES[kind](tmp_path), "prefetch": prefetch, "compile": compile}
    history = fit(model, sgd(model), loss, validation=options["data"], **options)
    for numbers in history.values():
        assert numbers == pytest.approx([Y.mean()] * 2), "each batch has the weight of its samples"


def test_batches_hold_several_inputs_and_outputs():
    def halves() -> Iterator[Any]:
        for x, y in PAIRS:
            yield {"left": x[:, :1], "right": x[:, 1:]}, (y, [0] * len(y))

    model, alone = network(), network()
    whole = lambda x: model(np.concatenate([x["left"], x["right"]], axis=1))
    history = fit(whole, sgd(model), lambda p, y: nn.mse_loss(p, y[0]), halves, validation=halves)
    assert history == fit(alone, data=lambda: PAIRS, validation=lambda: PAIRS)
    inputs = lambda: ({"left": x[:, :1], "right": x[:, 1:]} for x, _ in PAIRS)
    np.testing.assert_allclose(mg.predict(whole, inputs), mg.predict(model, X), rtol=1e-5)


def test_epochs_of_a_stream_may_differ_in_length():
    epochs = itertools.count(1)
    history = fit(
        network(),
        loss=lambda prediction, y: np.mean(prediction * 0) + np.mean(y),
        data=lambda: [(X[:k], np.arange(k) * 1.0) for k in (1, next(epochs))],
        epochs=3,
    )
    assert history["loss"] == pytest.approx([0.0, 1 / 3, 3 / 4])  # (0 + 0) / 2, (0 + 0 + 1) / 3, (0 + 0 + 1 + 2) / 4


# ------------------------------------------------------------------------------------------ what is no source


def once() -> Iterator[Any]:
    yield from PAIRS


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "generator": (once(), TypeError, "data got <generator .*gives its rows once.* hand over the function that makes"),
    "iterator": (iter(PAIRS), TypeError, "data got <list_iterator .*hand over the function"),
    "nothing at all": (lambda: None, TypeError, "data was called and gave None; wanted an iterator of batches"),
    "nothing": (lambda: [], ValueError, "data gave no batches; wanted some in each epoch"),
    "a list of batches": (
        PAIRS,
        TypeError,
        "data is one list of .*; wanted a pair of arrays.*, or what gives batches, such as lambda",
    ),
    "x alone": (lambda: [X], TypeError, r"data: batch 1 is one ndarray of shape \(11, 2\); wanted a pair of arrays"),
    "x in two rows": (lambda: [X[:2]], TypeError, r"batch 1 is one ndarray of shape \(2, 2\); wanted a pair"),
    "three": (
        lambda: [(X, Y, Y)],
        TypeError,
        r"batch 1 is one tuple of shape \(11, 2\) and \(11, 1\) and \(11, 1\); wanted",
    ),
    "dict": (lambda: [{"x": X, "y": Y}], TypeError, r"batch 1 is one dict of shape \(11, 2\) and \(11, 1\); wanted a"),
    "lengths": (
        lambda: [*PAIRS, (X[:2], Y)],
        ValueError,
        r"batch 4 holds arrays of shape \(2, 2\) and \(11, 1\); wanted as many rows in each, and at least one",
    ),
    "no rows": (lambda: [(X, Y), (X[:0], Y[:0])], ValueError, r"batch 2 holds arrays of shape \(0, 2\) and \(0, 1\)"),
    "numbers": (lambda: [(1.0, 2.0)], ValueError, r"batch 1 holds arrays of shape \(\) and \(\)"),
    "axes": (
        lambda: [(X, Y), (X, Y[:, 0])],
        ValueError,
        r"batch 2 holds arrays of shape \(11, 2\) and \(11,\); wanted \(2, 2\) axes, as in batch 1",
    ),
    "structure": (lambda: [(X, Y), ((X,), Y)], ValueError, r"batch 2\[0\] is a tuple.*; give it|batch 2.*structure"),
    "objects": (lambda: [(X.astype(object), Y)], TypeError, "batch 1: x got ndarray of objects; wanted numbers"),
    "ragged": (lambda: [(X, [[1], [1, 2]])], ValueError, "batch 1: y got rows of unequal lengths"),
}


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("kind", BAD)
def test_streams_that_are_none_name_the_batch_its_shape_and_what_was_wanted(kind, prefetch):
    data, error, message = BAD[kind]
    model = network()
    model.forward = lambda x: nn.Sequential.forward(model, x[0] if isinstance(x, tuple) else x)
    with pytest.raises(error, match=message):
        fit(model, data=data, prefetch=prefetch)
    with pytest.raises(error, match=message):
        mg.evaluate(model, nn.mse_loss, data)
    with pytest.raises(error, match=message.replace("data", "validation")):
        fit(model, validation=data)


@pytest.mark.parametrize(
    ("stream", "error", "message"),
    [
        (lambda: [X, (X, Y)], ValueError, "x: batch 2 is a tuple.*same structure"),
        (lambda: [X, X[:0]], ValueError, r"x: batch 2 holds arrays of shape \(0, 2\); wanted"),
        (lambda: [X, (X[:1], Y)], ValueError, r"x: batch 2 holds arrays of shape \(1, 2\) and \(11, 1\)"),
        (lambda: [], ValueError, "x gave no batches"),
        ((x for x, _ in PAIRS), TypeError, "x got <generator .* hand over the function"),
    ],
)
def test_batches_of_x_that_are_none(stream, error, message):
    with pytest.raises(error, match=message):
        mg.predict(network(), stream)


def test_a_function_that_gives_the_same_iterator_again_is_found_out():
    shared = once()
    with pytest.raises(ValueError, match=r"data gave no batches; .* a function makes an iterator each time"):
        fit(network(), data=lambda: shared)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors have no notes before Python 3.11")
def test_what_the_model_says_of_a_batch_has_a_note_of_which_one():
    with pytest.raises(ValueError) as error:  # noqa: PT011 - it is matmul's
        fit(network(), data=lambda: [(X, Y), (X[:, :1], Y)])
    assert error.value.__notes__ == ["in epoch 1, step 2, for arrays of shape (11, 1) and (11, 1)"]
    with pytest.raises(ValueError) as error:  # noqa: PT011 - of pairs where x alone is wanted
        mg.predict(network(), lambda: iter(PAIRS))
    (note,) = error.value.__notes__
    assert re.fullmatch(r"in evaluation mode, for arrays of shape \(\d+, 2\) and \(\d+, 1\)", note)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "z": Y}, "holds arrays named x, z; wanted x and y"),
        ({"x": X[:-1], "y": Y}, r"holds arrays of shape \(10, 2\) and \(11, 1\); wanted as many rows"),
        ({"x": X[:0], "y": Y[:0]}, r"holds arrays of shape \(0, 2\) and"),
        ({"x": X.astype(float), "y": Y}, r"holds rows of .*float64.*; wanted .*float32.*, as in .*0\.npz"),
        ({"x": X[:, :1], "y": Y}, r"holds rows of \[\('float32', 1\), .*; wanted \[\('float32', 2\), .*, as in"),
    ],
)
def test_files_that_do_not_fit(arrays, message, tmp_path):
    paths = [*files(tmp_path), tmp_path / "bad.npz"]
    np.savez(paths[-1], **arrays)
    with pytest.raises(ValueError, match=rf"data: .*bad\.npz {message}"):
        mg.evaluate(network(), nn.mse_loss, paths)


@pytest.mark.parametrize("data", [("x.npy", "y.npy"), [Path("x.npy"), Y], ({"a": X, "b": "x.npy"}, Y)])
def test_a_path_in_the_place_of_an_array_is_to_be_opened(data):
    for call in (lambda: fit(network(), data=data), lambda: mg.evaluate(network(), nn.mse_loss, data)):
        with pytest.raises(
            TypeError, match=r"got the path .*x\.npy.*; wanted an array: open it, as np\.load\(path, mmap_"
        ):
            call()


def test_a_memmap_without_rows_is_predicted_as_an_array_is(tmp_path):
    x = mapped(tmp_path)[0][:0]
    assert mg.predict(network(), x).shape == (0, 1)
    with pytest.raises(ValueError, match=r"data holds arrays of shape \(0, 2\) and \(11, 1\); wanted"):
        fit(network(), data=(x, Y))


def test_files_that_cannot_be_read(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ValueError, match=r"x\.npy is not a readable \.npz file"):
        fit(network(), data=[tmp_path / "x.npy"])
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        fit(network(), data=[tmp_path / "none.npz"])


# ---------------------------------------------------------------------------------------- going on where it was

RESUMED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "memmaps": lambda folder: {"data": mapped(folder), "seed": 3},
    "files": lambda folder: {"data": files(folder), "seed": 3},
    "stream with a generator": lambda folder: {"data": Stream(3)},
    "stream with a state": lambda folder: {"data": Positions()},
    "partial": lambda folder: {"data": functools.partial(batches, X, Y, batch_size=2, rng=np.random.default_rng(3))},
    "function": lambda folder: (lambda rng: {"data": lambda: batches(X, Y, batch_size=2, rng=rng), "seed": rng})(
        np.random.default_rng(3)
    ),
    "validation": lambda folder: {"seed": 3, "validation": Stream(3), "metrics": {"last": lambda p, y: y[0, 0]}},
}


@pytest.mark.parametrize(
    ("kind", "broken", "prefetch"),
    [(kind, *how) for i, kind in enumerate(RESUMED) for how in some([(1, False), (2, True)], 2, i)],
)
def test_a_training_goes_on_bit_for_bit(kind, broken, prefetch, tmp_path):
    def trained(name: str, *stages: int) -> tuple[Any, str]:
        for epochs in stages:  # each in a fresh process, as it were
            model, callbacks = network(dropout=0.5), [mg.Checkpoint(tmp_path / name)]
            options = {"epochs": epochs, "callbacks": callbacks, "batch_size": BATCH, "prefetch": prefetch}
            history = fit(model, **options, **RESUMED[kind](tmp_path))
        return history, bits(model)

    assert trained("resumed", broken, 4) == trained("whole", 4)


# ------------------------------------------------------------------------------------------------ prefetching


@pytest.mark.parametrize("place", ["seed", "data.rng"])
def test_batches_made_ahead_are_not_drawn_from_a_generator_of_the_model(place):
    stream = Stream()
    data, seed = (stream, 0) if place == "data.rng" else (lambda: PAIRS, stream.rng)
    model = nn.Sequential(nn.Linear(2, 1, rng=0), nn.Dropout(0.5, rng=stream.rng))
    before = bits(model)
    with pytest.raises(ValueError, match=rf"the generator 1\.rng of the model is that of {place}, and with prefetch"):
        fit(model, data=data, seed=seed, prefetch=True)
    assert bits(model) == before
    fit(model, data=data, seed=seed)
    fit(model, data=(X, Y), seed=stream.rng, prefetch=True)  # of which the order is drawn before


class Watched:
    """Batches of a stream, with the names of the threads that they are made in; tells when it is closed."""

    def __init__(self, failing: int = 99) -> None:
        self.failing, self.threads, self.made, self.closed = failing, set[str](), 0, 0

    def __call__(self) -> Iterator[Any]:
        try:
            for i in itertools.islice(itertools.count(), 20):
                self.threads.add(threading.current_thread().name)
                if i == self.failing:
                    raise KeyError("the disk is gone")
                self.made += 1
                yield X, Y
        finally:
            self.closed += 1


@pytest.fixture
def no_thread_stays() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert threading.enumerate() == before


@pytest.mark.usefixtures("no_thread_stays")
@pytest.mark.parametrize("ends", ["end", "step", "stream", "ctrl_c", "two", "callback", "metric"])
def test_the_thread_ends_however_the_training_does(ends):
    fails = lambda *args: 1 / 0
    data, interrupt = Watched(failing=3 if ends == "stream" else 99), ctrl_c
    options, error = {"data": data, "epochs": 1, "prefetch": True}, None
    if ends == "step":
        options["loss"], error = failing_after(4), RuntimeError
    elif ends == "stream":
        error = KeyError
    elif ends == "ctrl_c":
        options["loss"] = failing_after(4, interrupt)
    elif ends == "two":
        options["loss"], error = failing_after(4, lambda: (ctrl_c(), ctrl_c())), KeyboardInterrupt
    elif ends == "callback":
        options["callbacks"], error = [fails], ZeroDivisionError
    elif ends == "metric":
        options["metrics"], error = [fails], ZeroDivisionError
    if error is None:
        fit(network(), **options)
    else:
        with pytest.raises(error) as caught:
            fit(network(), **options)
        assert threading.active_count() == len(threading.enumerate()), "while the error is still held"
        assert ends != "stream" or caught.traceback[-1].name == "__call__", "which shows the line of the stream"
    assert data.closed == 1
    assert data.made <= {"step": 8, "stream": 3, "ctrl_c": 9, "two": 8, "metric": 4}.get(ends, 20), "not far ahead"
    assert threading.current_thread().name not in data.threads


@pytest.mark.usefixtures("no_thread_stays")
def test_what_is_made_ahead_is_made_as_here():
    seen = []

    def data() -> Iterator[Any]:
        for _ in range(STEPS):
            seen.append((model.training, model[0].training))
            yield X, Y

    model = network(dropout=0.5)
    model.training = model[0].training = False
    fit(model, data=data, epochs=1, prefetch=True)
    assert seen == [(True, True)] * STEPS, "the modes of fit hold in the thread, too"
    assert not model.training


# ---------------------------------------------------------------------------------- more than memory, at last

LARGE = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
import minigrad as mg
from minigrad import nn

path, checkpoint, epochs = sys.argv[1:]
x = np.load(path, mmap_mode="r")
y = np.arange(len(x), dtype=np.float32)[:, np.newaxis] % 3
model = nn.Sequential(nn.Linear(x.shape[1], 4, rng=0), nn.tanh, nn.Dropout(0.1, rng=1), nn.Linear(4, 1, rng=2))
optimizer = mg.optim.Adam(model.parameters())
history = mg.fit(
    *(model, nn.mse_loss, optimizer, (x, y)), epochs=int(epochs), batch_size=500, seed=0, compile=True, progress=False,
    callbacks=[mg.Checkpoint(checkpoint)], validation=(x[-20_000:], y[-20_000:]),
)
weights = b"".join(p.data.tobytes() for p in model.parameters())
try:  # what getrusage tells of a process on Linux begins with the peak of the one that has started it
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**10
except FileNotFoundError:
    try:
        import resource
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    except ImportError:  # Windows does not tell
        peak = 0
print(json.dumps([hashlib.sha256(weights).hexdigest(), history["loss"], history["val_loss"], peak]))
"""


@thorough_only
def test_two_gigabytes_train_within_300_megabytes_and_go_on_bit_for_bit(tmp_path):
    def trained(name: str, epochs: int) -> list[Any]:
        command = [sys.executable, "-c", LARGE, str(path), str(tmp_path / name), str(epochs)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        *numbers, peak = json.loads(printed)
        assert peak < 300, "MB"
        return numbers

    path, rows = tmp_path / "x.npy", 2**18  # of 2,048 numbers
    try:
        some = np.random.default_rng(0).normal(size=(2**10, 2048)).astype(np.float32)
        with path.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 2048)}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, rows, len(some)):
                (some + np.float32(start / rows)).tofile(file)
        assert path.stat().st_size > 2**31
        whole = trained("whole", 2)
        trained("resumed", 1)
        assert trained("resumed", 2) == whole
    finally:
        path.unlink(missing_ok=True)
