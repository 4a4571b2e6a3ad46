"""What several ranks do together: the tests of minigrad.distributed run this program under mpirun, and name the scenes.

A scene is a function that asserts; every rank runs it. Those that begin with `fault_` do not come to an end.
"""

import functools
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.distributed import average, checksum, ranks, shard
from minigrad.state import state_dict

warnings.simplefilter("error")
WORLD = ranks()
RANK, SIZE, COMM = WORLD.rank, WORLD.size, WORLD.communicator
FOLDER = Path(sys.argv[1])

ROWS, BATCH = 23, 10  # the last batch has three samples: fewer than four ranks
_rng = np.random.default_rng(5)
X = _rng.normal(size=(ROWS, 3))
Y = (X[:, :1] * X[:, 1:2] > 0).astype(float)
HELD_OUT = X[:5] + 0.1, Y[:5]


def network(seed: int = 0, dtype: Any = np.float64, middle: Any = (), dropout: float = 0.0) -> nn.Sequential:
    rng = np.random.default_rng(seed)
    chance = [nn.Dropout(dropout, rng=rng)] if dropout else []
    first, last = nn.Linear(3, 6, rng=rng, dtype=dtype), nn.Linear(6, 1, rng=rng, dtype=dtype)
    return nn.Sequential(first, nn.tanh, *middle, *chance, last)


def fit(model: Any, optimizer: Any = None, distributed: Any = True, loss: Any = nn.mse_loss, **options: Any) -> Any:
    options = {"epochs": 2, "batch_size": BATCH, "seed": 7, "progress": False, "data": (X, Y)} | options
    optimizer = optimizer or optim.SGD(model.parameters(), lr=0.1)
    return mg.fit(model, loss, optimizer, options.pop("data"), distributed=distributed, **options)


def flat(model: Any) -> Any:
    return np.concatenate([array.ravel() for array in state_dict(model).values()])


def on_all(value: Any) -> bool:
    """Whether all ranks have the same array, bit for bit."""
    return len(set(COMM.allgather(checksum(np.asarray(value))))) == 1


def worst(prediction: Any, y: Any) -> float:
    return float(np.max(np.abs(prediction - y)))  # no mean: that of a batch does not follow from those of its shares


def mean_error(prediction: Any, y: Any) -> float:
    return float(np.mean(np.abs(prediction - y)))


OPTIMIZERS = {
    "sgd": lambda model: optim.SGD(model.parameters(), lr=0.1),
    "momentum": lambda model: optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "rmsprop": lambda model: optim.RMSprop(model.parameters(), lr=0.01),
    "adam": lambda model: optim.Adam([{"params": model[0].parameters(), "lr": 0.1}, *model[-1].parameters()], lr=0.02),
    "adamw": lambda model: optim.AdamW(model.parameters(), lr=0.02),
}


def trains_as_one_does() -> None:
    """To within some rounding errors of a double; what is measured, too."""
    schedule = optim.one_cycle_schedule(max_lr=0.1, steps=6)
    ways = [{}, {"clip_grad_norm": 0.05}, {"schedule": schedule}, {"batch_size": None}, {"batch_size": 1}]
    for name, make in OPTIMIZERS.items():
        for i, way in enumerate(ways if name == "adam" else ways[:2]):
            for compile in (True,) if i else (False, True, "pure"):
                found = []
                for distributed in (False, True):
                    model = network()
                    options = {"compile": compile, "validation": HELD_OUT, "metrics": [worst], **way}
                    history = fit(model, make(model), distributed, **options)
                    found.append((flat(model), np.array([*history.values()])))
                for alone, shared in zip(*found, strict=True):
                    np.testing.assert_allclose(shared, alone, rtol=1e-11, atol=1e-13, err_msg=f"{name} {way} {compile}")
                assert on_all(found[1][0])
                assert on_all(found[1][1])


def trains_as_one_does_in_other_dtypes() -> None:
    """Half precision is summed in single precision; complex numbers are two real ones."""
    for dtype, close in ((np.float32, 2e-6), (np.float16, 4e-3), (np.complex64, 2e-6)):
        found = []
        for distributed in (False, True):
            first, last = network(1, np.float32), mg.Tensor(np.full(3, 0.1, dtype), requires_grad=True)
            model = lambda x, first=first, last=last: first(x) + np.real(x * last).sum(axis=1, keepdims=True)
            optimizer = optim.SGD([*first.parameters(), last], lr=0.05)
            x, y = X.astype(np.float32), Y.astype(np.float32)
            fit(model, optimizer, distributed, data=(x, y), compile=dtype is np.float32)
            assert last.dtype == dtype
            found.append(np.concatenate([flat(first), last.data]))
        np.testing.assert_allclose(found[1], found[0], rtol=close, atol=close)
        assert on_all(found[1])


def is_equal_bit_for_bit_after_every_step() -> None:
    for compile in (False, True):
        model = network(RANK, dropout=0.3)  # the first weights are those of rank 0
        weights = []

        def schedule(step: int, model: Any = model, weights: Any = weights) -> float:  # is called before each step
            weights.append(flat(model))
            return 0.1 / (1 + step)

        fit(model, schedule=schedule, compile=compile, seed=RANK)
        assert len(weights) == 6
        assert all(map(on_all, weights))
        np.testing.assert_array_equal(weights[0], flat(network(0, dropout=0.3)))


class Noted(nn.Module):
    """Keeps what it was shown in training."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def forward(self, x: Any) -> Any:
        if self.training:
            self.seen.append(np.array(x.data if isinstance(x, mg.Tensor) else x))
        return x


def draws_on_each_rank_something_else() -> None:
    """Also where one generator draws all; what rank 0 draws depends on the seed alone."""
    before = []
    for _ in range(2):
        rng, noted = np.random.default_rng(3), Noted()
        model = nn.Sequential(nn.Dropout(0.5, rng=rng), noted, nn.Linear(3, 1, rng=rng))
        fit(model, data=(np.ones((8 * SIZE, 3)), np.ones((8 * SIZE, 1))), batch_size=None, seed=rng)
        masks = COMM.allgather(np.stack(noted.seen))
        assert all((a != b).any() for i, a in enumerate(masks) for b in masks[:i])
        assert (masks[0][0] != masks[0][1]).any()
        assert on_all(rng.random())  # in the end, all are where rank 0 is
        before.append(masks)
    np.testing.assert_array_equal(*before)


def shuffles_alike() -> None:
    """Every sample is seen once in an epoch, by one of the ranks, in the order in which one rank alone sees them."""
    seen = []
    for distributed in (False, True):
        noted = Noted()
        fit(nn.Sequential(noted, *network()), distributed=distributed)
        seen.append(noted.seen)
    steps = [np.concatenate(each) for each in zip(*COMM.allgather([[*x] for x in seen[1]]), strict=False) if each]
    if SIZE == 2:  # whose ranks have a share in each step
        np.testing.assert_array_equal(np.concatenate(steps), np.concatenate(seen[0]))
    shares = np.concatenate(COMM.allgather(np.concatenate(seen[1])))
    np.testing.assert_array_equal(np.sort(shares, axis=0), np.sort(np.concatenate(seen[0]), axis=0))


def averages_running_statistics() -> None:
    norm, notes = nn.BatchNorm1d(3), []
    model = nn.Sequential(norm, nn.Linear(3, 1, rng=0))
    fit(model, epochs=1, batch_size=None, callbacks=[lambda training: notes.extend(training.notes)])
    x = X[np.random.default_rng(7).permutation(ROWS)]
    means = COMM.allgather(0.1 * x[shard(ROWS)].mean(axis=0))
    np.testing.assert_allclose(norm.running_mean.data, np.mean(means, axis=0), rtol=1e-5)
    assert norm.num_batches_tracked.data == 1
    assert on_all(flat(norm))
    names = "0.running_mean, 0.running_var, 0.num_batches_tracked"
    note = f"{SIZE} ranks share each batch; {names} are averaged at the end of each epoch"
    assert notes == ([note] if RANK == 0 else [])


def stops_early_with_the_best_weights() -> None:
    found = []
    for distributed in (False, True):
        model = network()
        history = fit(
            model, optim.SGD(model.parameters(), lr=2.5), distributed, epochs=30, validation=HELD_OUT,
            callbacks=[mg.EarlyStopping(patience=2)],
        )  # fmt: skip
        assert 2 < len(history["loss"]) < 30
        found.append((flat(model), history["loss"]))
    assert len(found[0][1]) == len(found[1][1])
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-9)
    assert on_all(found[1][0])


def takes_over_what_callbacks_change() -> None:
    calls = []

    class Halved:
        def start(self, training: Any) -> None:
            calls.append("start")
            model[0].weight.data = model[0].weight.data * 0.5

        def __call__(self, training: Any) -> None:
            calls.append("call")
            model[0].weight.data = model[0].weight.data * 0.5
            training.optimizer.lr = 0.03
            training.stopped = training.epoch == 3

        def finish(self, training: Any) -> None:
            calls.append("finish")
            model[0].bias.data = np.ones(6)

    model = network()
    optimizer = optim.Adam(model.parameters())
    history = fit(model, optimizer, epochs=9, callbacks=[Halved()])
    assert on_all(flat(model))
    assert optimizer.lr == 0.03
    assert len(history["loss"]) == 3
    assert (model[0].bias.data == 1).all()
    assert calls == (["start", "call", "call", "call", "finish"] if RANK == 0 else [])


def resumes() -> None:
    """A checkpoint on as many ranks bit for bit, and on another number as one that has never stopped, by rounding."""

    def trained(epochs: int, name: str, ranks: Any, dropout: float = 0.0) -> Any:
        model = network(dropout=dropout)
        checkpoint = mg.Checkpoint(FOLDER / f"{name}-{SIZE}.npz")
        history = fit(model, optim.Adam(model), ranks, epochs=epochs, callbacks=[checkpoint], compile=True)
        assert len(history["loss"]) == epochs
        return np.concatenate([flat(model), history["loss"]])

    trained(2, "same", True, 0.3)
    np.testing.assert_array_equal(trained(4, "same", True, 0.3), trained(4, "straight", True, 0.3))
    alone = network()
    fit(alone, optim.Adam(alone), False, epochs=6)
    half = COMM.Split(RANK * 2 // SIZE)
    trained(2, "other", True)
    if RANK * 2 < SIZE:  # a communicator of one's own
        trained(4, "other", half)
    COMM.Barrier()
    np.testing.assert_allclose(trained(6, "other", True)[: flat(alone).size], flat(alone), rtol=1e-8)


def stops_on_ctrl_c_after_the_same_step() -> None:
    def interrupting(prediction: Any, y: Any, count: list[int]) -> Any:
        count.append(1)
        if len(count) == 8 and RANK == SIZE - 1:
            signal.raise_signal(signal.SIGINT)
        return nn.mse_loss(prediction, y)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    model = network()
    optimizer = optim.Adam(model)
    history = fit(model, optimizer, loss=functools.partial(interrupting, count=[]), epochs=50)
    assert 1 < len(history["loss"]) < 50
    assert on_all(len(history["loss"]))
    assert on_all(flat(model))
    assert on_all(optimizer.steps)


def takes_structures() -> None:
    """Several inputs and targets, in dicts and tuples, and predictions of which a share may be squeezed to a number."""

    def model(x: Any) -> Any:
        return {"sum": np.squeeze(x["a"] @ weight + x["b"] @ weight), "first": x["a"][:, 0] * weight[0, 0]}

    def loss(prediction: Any, y: Any) -> Any:
        return np.mean((np.reshape(prediction["sum"], (-1,)) - y[0]) ** 2) + np.mean((prediction["first"] - y[1]) ** 2)

    def measure(prediction: Any, y: Any) -> float:
        return float(np.max(prediction["sum"]) + np.max(prediction["first"]) + len(y[0]) + np.max(y[1]))

    found = []
    for distributed in (False, True):
        weight = mg.Tensor(np.full((3, 1), 0.1), requires_grad=True)
        data = {"a": X, "b": X[::-1]}, (Y[:, 0], X[:, 1])
        held_out = {"a": X[:5], "b": X[:5]}, (Y[:5, 0], X[:5, 1])
        history = fit(
            model, optim.SGD([weight], 0.05), distributed, loss, data=data, metrics=[measure], validation=held_out
        )
        found.append([*weight.data.ravel(), *history["measure"], *history["val_measure"]])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)


def trains_on_streams() -> None:
    """Batches of any source are shared, by rows, and so are those that are held out."""

    class Drawn:
        def __init__(self) -> None:
            self.rng = np.random.default_rng(3 + RANK)  # that of rank 0 is taken over

        def __iter__(self) -> Any:
            for size in (5, 1, 8):
                x = self.rng.normal(size=(size, 3))
                yield x, x[:, :1]

    if RANK == 0:
        for i in range(3):
            np.savez(FOLDER / f"part-{i}.npz", x=X[i::3], y=Y[i::3])
        for name, array in {"x": X, "y": Y}.items():
            np.save(FOLDER / f"{name}.npy", array)
    COMM.Barrier()
    mapped = tuple(np.load(FOLDER / f"{name}.npy", mmap_mode="r") for name in "xy")
    files = [FOLDER / f"part-{i}.npz" for i in range(3)]
    for data in (Drawn, lambda: mapped, lambda: files, lambda: lambda: ((X[i : i + 5], Y[i : i + 5]) for i in (0, 9))):
        for options in ({}, {"prefetch": True, "compile": True}):
            found = []
            for distributed in (False, True):
                if RANK and not distributed:
                    continue
                model, given = network(), data()
                history = fit(model, None, distributed, data=given, validation=given, metrics=[mean_error], **options)
                found.append([*flat(model), *np.ravel([*history.values()])])
            if RANK == 0:
                np.testing.assert_allclose(found[1], found[0], rtol=1e-11, atol=1e-13)
            assert on_all(found[-1])
            COMM.Barrier()


def averages_in_a_loop_of_ones_own() -> None:
    found = []
    for together in (False, True):
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        for start in range(0, ROWS, BATCH):
            x, y = X[start : start + BATCH], Y[start : start + BATCH]
            part = shard(len(x)) if together else slice(None)
            optimizer.zero_grad()
            if len(x[part]):
                nn.mse_loss(model(x[part]), y[part]).backward()
            if together:
                average(optimizer, samples=len(x[part]))
            optimizer.step()
        found.append(flat(model))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
    assert on_all(found[1])
    optimizer.zero_grad()
    model[0].weight.grad = np.full((6, 3), float(RANK))
    kept = model[0].weight.grad
    average(optimizer)
    assert (model[0].weight.grad == (SIZE - 1) / 2).all()
    assert (kept == RANK).all()  # an array that somebody keeps is not overwritten
    kept = model[0].weight.grad
    average(optimizer)
    assert kept is not model[0].weight.grad


def message_of(kind: type[Exception], call: Any, *args: Any) -> str:
    """What an error says that a call is to raise."""
    try:
        call(*args)
    except kind as error:
        return str(error)
    return "nothing was raised"


def refuses_to_average() -> None:
    """Weights that differ, gradients of no samples, a model, and a call from inside of a program."""
    said = message_of(RuntimeError, average, optim.SGD(network(RANK).parameters()))
    assert said.startswith("rank 1 differs from rank 0 in parameter 0, "), said
    assert said.endswith("begin with the same weights on all ranks, as from one seed."), said
    model = network()
    optimizer = optim.SGD(model.parameters())
    assert message_of(ValueError, average, optimizer, 0).startswith("average got samples=0 from all ranks")
    assert message_of(TypeError, average, model).startswith("average got a Sequential; wanted the optimizer")

    @mg.compile
    def step(x: Any) -> None:
        np.sum(model(x)).backward()
        average(optimizer)

    said = message_of(TypeError, step, X)
    assert "between two compiled functions" in said, said


def warns_of_too_many_threads() -> None:
    os.environ["OMP_NUM_THREADS"] = "64"
    os.environ.pop("OPENBLAS_NUM_THREADS", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with WORLD:
            pass
    os.environ["OMP_NUM_THREADS"] = "1"
    found = [str(each.message) for each in caught]
    assert len(found) == (RANK == 0)
    assert not found or f"{SIZE} ranks with {64 * SIZE} threads" in found[0]


# ------------------------------------------------------------------------------------------------------------- faults


def train_until(failure: Any, step: int = 7, rank: int = 1, **options: Any) -> None:
    """Train until one rank fails, or for ever."""
    count = []

    def loss(prediction: Any, y: Any) -> Any:
        count.append(1)
        value = nn.mse_loss(prediction, y)
        return failure(value) if len(count) == step and rank == RANK else value

    checkpoint = mg.Checkpoint(FOLDER / "fault.npz")
    fit(options.pop("model", network()), loss=loss, epochs=10**6, callbacks=[checkpoint], **options)


def fault_raise() -> None:
    def failure(value: Any) -> Any:
        raise RuntimeError("no more of this")

    try:
        train_until(failure)
    except RuntimeError:  # what one rank would get over, the others would wait for
        time.sleep(60)


def fault_kill() -> None:
    train_until(lambda value: os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM)))


def fault_exit() -> None:
    train_until(lambda value: sys.exit(0))


def fault_nan() -> None:
    train_until(lambda value: value * np.nan)


def fault_metric() -> None:
    def failure(prediction: Any, y: Any) -> Any:
        raise ZeroDivisionError("a metric of rank 0")

    train_until(None, step=-1, metrics=[failure])


def fault_differ() -> None:
    class Astray(nn.Module):
        def forward(self, x: Any) -> Any:
            if self.training and RANK == 1:
                self.bias.data = self.bias.data + 1e-7
            return x + self.bias

    astray = Astray()
    astray.bias = mg.Tensor(np.zeros(6), requires_grad=True)
    train_until(None, step=-1, model=network(middle=[astray]))


def fault_data() -> None:
    train_until(None, step=-1, data=(X + RANK, Y))


def fault_validation() -> None:
    train_until(None, step=-1, validation=(HELD_OUT[0] + RANK, HELD_OUT[1]))


def fault_stream() -> None:
    train_until(None, step=-1, data=lambda: ((X[:4], Y[:4]) for _ in range(3 - RANK)))


def fault_sum() -> None:
    fit(network(), loss=lambda prediction, y: nn.mse_loss(prediction, y, reduction="sum"))


def fault_model() -> None:
    train_until(None, step=-1, model=network() if RANK else network(middle=[nn.Linear(6, 6)]))


def fault_sum_of_a_stream() -> None:
    loss = lambda prediction, y: nn.mse_loss(prediction, y, reduction="sum")
    fit(network(), loss=loss, data=lambda: (batch for batch in [(X, Y), (X[:1], Y[:1])]))


def fault_optimizer() -> None:
    fit(model := network(), [optim.SGD, optim.Adam][RANK](model.parameters(), lr=0.1))


def fault_ended_before() -> None:
    if RANK == 1:
        sys.exit(0)
    fit(network())


def fault_ended_between() -> None:
    optimizer = optim.SGD(network().parameters(), lr=0.1)
    for step in range(3):
        if RANK == 0 and step == 2:
            sys.exit(0)
        average(optimizer)


def fault_outside() -> None:
    if RANK == 1:
        raise FileNotFoundError("this machine has no such file")
    fit(network())


if __name__ == "__main__":
    (FOLDER / "started").touch()
    for scene in sys.argv[2:]:
        globals()[scene]()
        COMM.Barrier()
        if RANK == 0:
            print("done:", scene, flush=True)
