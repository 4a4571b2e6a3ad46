"""What must hold for hours and at any size: many threads and tasks, steady memory, hostile shapes."""

import asyncio
import gc
import itertools
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from benchmarks import worker
from profiles import scale

import minigrad as mg
from minigrad import nn


def leaf(data: Any) -> mg.Tensor:
    return mg.Tensor(np.array(data), requires_grad=True)


# ------------------------------------------------------------------------------------------------- threads and tasks

X = np.linspace(-1, 1, 24).reshape(8, 3)


def training(seed: int, steps: int = 60) -> Iterator[float]:
    """The losses of a small network, step by step; between their halves, others may run."""
    rng = np.random.default_rng(seed)
    model = nn.Sequential(nn.Linear(3, 5, rng=rng, dtype=float), nn.Tanh(), nn.Linear(5, 3, rng=rng, dtype=float))
    optimizer = mg.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.mse_loss(model(X), np.where(X > 0, X, 0.1 * X))
        yield loss.item()
        loss.backward()
        optimizer.step()


def inference(rounds: int) -> Iterator[bool]:
    """Whether anything was recorded inside no_grad()."""
    weight = leaf(X)
    for _ in range(rounds):
        with mg.no_grad():
            yield (X.T @ weight).requires_grad


ONE_AFTER_THE_OTHER = [list(training(seed)) for seed in range(8)]


def test_threads_train_as_if_alone() -> None:
    with ThreadPoolExecutor(16) as pool:
        idle = [pool.submit(lambda: list(inference(300))) for _ in range(8)]
        busy = [pool.submit(lambda seed=seed: list(training(seed))) for seed in range(8)]
        assert [future.result() for future in busy] == ONE_AFTER_THE_OTHER
        assert not any(itertools.chain(*(future.result() for future in idle)))


def test_tasks_train_as_if_alone() -> None:
    async def to_its_end(steps: Iterator[Any]) -> list[Any]:
        answers = []
        for answer in steps:
            await asyncio.sleep(0)
            answers.append(answer)
        return answers

    async def main() -> list[list[Any]]:
        idle = [to_its_end(inference(100)) for _ in range(8)]
        busy = [to_its_end(training(seed)) for seed in range(8)]
        return list(await asyncio.gather(*itertools.chain(*zip(idle, busy, strict=True))))

    answers = asyncio.run(main())
    assert answers[1::2] == ONE_AFTER_THE_OTHER
    assert not any(itertools.chain(*answers[::2]))


# ------------------------------------------------------------------------------------------------------------ memory


def test_many_steps_of_training_leave_nothing_behind() -> None:
    x, y = np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[1.0], [0.0]])
    model = nn.Sequential(nn.Linear(2, 2, dtype=float), np.tanh, nn.Linear(2, 1, dtype=float))
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    average = 0.0

    def steps(number: int) -> None:
        nonlocal average
        for _ in range(number):
            optimizer.zero_grad()
            loss = nn.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            average = 0.9 * average + 0.1 * loss.item()

    gc.disable()
    try:
        counts, bytes_in_use = [], []
        for number in (500, scale(1_500, 8_500)):
            steps(number)
            counts.append(len(gc.get_objects()))
        tracemalloc.start()
        for _ in range(2):
            steps(500)
            bytes_in_use.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        gc.enable()
    assert counts[1] - counts[0] < 20
    assert bytes_in_use[1] - bytes_in_use[0] < 4_000


@pytest.mark.parametrize("frozen", [False, True], ids=["no_grad", "frozen"])
def test_inference_remembers_nothing(frozen: bool) -> None:
    layers = [nn.Linear(4, 4) for _ in range(3)]
    for parameter in itertools.chain(*(layer.parameters() for layer in layers)):
        parameter.requires_grad = not frozen
    seen = []
    state: Any = mg.Tensor(np.ones((1, 4), np.float32))
    with nullcontext() if frozen else mg.no_grad():
        for _ in range(100):
            for layer in layers:
                seen.append(weakref.ref(state))
                state = nn.tanh(layer(state))
    assert [ref() for ref in seen] == [None] * 300
    assert not state.requires_grad


def test_a_step_needs_at_most_half_as_much_again_as_hand_written_numpy() -> None:
    def peak(contender: str) -> int:
        try:
            return int(worker.memory(contender, "784-100-50-10@128")["bytes"])
        finally:
            tracemalloc.stop()

    assert peak("minigrad") < 1.5 * peak("NumPy")


# ------------------------------------------------------------------------------------------------------ hostile sizes

EMPTY = (0, 3)
functions_of_nothing: dict[str, Callable[[Any], Any]] = {
    "sum": np.sum,
    "sum along": lambda x: np.sum(x, 0),
    "prod": np.prod,
    "mean along": lambda x: np.mean(x, 1),
    "max along": lambda x: np.max(x, 1),
    "max with an initial value": lambda x: np.max(x, initial=0.0),
    "cumsum": lambda x: np.cumsum(x, 1),
    "norm": np.linalg.norm,
    "matmul": lambda x: x @ np.ones((3, 2)),
    "matmul over nothing": lambda x: x.T @ x,
    "inner": lambda x: np.inner(x, x),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "inverses of none": lambda x: np.linalg.inv(np.reshape(x, (0, 3, 3))),
    "column": lambda x: x[:, 1],
    "rows": lambda x: x[np.zeros(0, int)],
    "columns": lambda x: x[:, [0, 0]],
    "mask": lambda x: x[np.zeros(EMPTY, bool)],
    "put": lambda x: mg.put(x, np.zeros(0, int), 1.0),
    "take": lambda x: np.take(x, [1, 1], 1),
    "sort": lambda x: np.sort(x, 0),
    "where": lambda x: np.where(x > 0, x, 0),
    "concatenate": lambda x: np.concatenate([x, x]),
    "reshape": lambda x: x.reshape(3, 0, 5),
    "pad": lambda x: np.pad(x, 1),
    "softmax": nn.softmax,
}


@pytest.mark.parametrize("f", functions_of_nothing.values(), ids=functions_of_nothing)
def test_arrays_of_no_elements(f: Callable[[Any], Any]) -> None:
    x = leaf(np.zeros(EMPTY))
    answer = f(x)
    np.testing.assert_array_equal(answer.data, f(np.zeros(EMPTY)))
    np.sum(answer).backward()
    assert x.grad.shape == EMPTY


functions_of_many_axes: dict[str, Callable[[Any], Any]] = {
    "sum": np.sum,
    "sum along the first": lambda x: np.sum(x, 0),
    "max along two": lambda x: np.max(x, (0, -1)),
    "cumsum": lambda x: np.cumsum(x, -1),
    "transpose": lambda x: x.T * 2,
    "moveaxis": lambda x: np.moveaxis(x, 0, -1),
    "reshape": lambda x: x.reshape(2) ** 2,
    "broadcast": lambda x: x + np.ones((2, *x.shape[1:])),
    "matmul": lambda x: x @ np.ones((2, 3)),
    "one element": lambda x: x[..., 0],
    "elements twice": lambda x: x[..., [1, 1]],
    "an index of as many axes": lambda x: np.squeeze(x)[np.zeros(x.shape, int)],
    "concatenate": lambda x: np.concatenate([x, x]),
    "tanh": nn.tanh,
}


@pytest.mark.parametrize("axes", [32, 64])
@pytest.mark.parametrize("f", functions_of_many_axes.values(), ids=functions_of_many_axes)
def test_arrays_of_many_axes(f: Callable[[Any], Any], axes: int) -> None:
    """They give what arrays of four axes give."""
    numbers = np.array([0.5, 2.0])
    few, many = leaf(numbers.reshape(1, 1, 1, 2)), leaf(numbers.reshape((1,) * (axes - 1) + (2,)))
    for x in (few, many):
        np.sum(np.square(f(x))).backward()
    assert f(many).shape == np.shape(f(many.data))
    np.testing.assert_array_equal(f(many).data.ravel(), f(few).data.ravel())
    np.testing.assert_array_equal(many.grad.ravel(), few.grad.ravel())


def seconds(act: Callable[[int], None], n: int) -> float:
    """The time of this process alone, without what the garbage collector does about all the tests before."""
    gc.disable()
    start = time.process_time()
    try:
        act(n)
        return time.process_time() - start
    finally:
        gc.enable()


def sum_of_uses(n: int) -> None:
    x = leaf(1.0)
    total = x
    for _ in range(n):
        total = total + x
    total.backward()
    assert x.grad == n + 1


def joined(join: Callable[..., Any], n: int) -> None:
    parts = [leaf([float(i)]) for i in range(n)]
    np.sum(join(parts) ** 2).backward()
    assert all(part.grad == 2 * i for i, part in enumerate(parts))


@pytest.mark.parametrize(
    ("act", "n"),
    [
        (sum_of_uses, scale(30_000, 100_000)),
        (lambda n: joined(np.concatenate, n), 10_000),
        (lambda n: joined(np.stack, n), 10_000),
    ],
    ids=["uses", "concatenate", "stack"],
)
def test_time_grows_with_the_number_of_arguments_and_not_with_its_square(act: Callable[[int], None], n: int) -> None:
    assert seconds(act, n) < 20 * seconds(act, n // 10) + 0.5  # the last is for the moods of the machine


@pytest.mark.parametrize("dtypes", ["bBe", "bBf", "eef", "ede"])
def test_joining_many_arrays_promotes_as_numpy_does(dtypes: str) -> None:
    arrays = [np.arange(i % 3, dtype=np.dtype(dtype)) for dtype in dtypes for i in range(40)]
    expected = np.concatenate(arrays)
    answer = np.concatenate([*arrays[:-1], leaf(arrays[-1])])
    assert answer.dtype == expected.dtype
    np.testing.assert_array_equal(answer.data, expected)


RECORDS = np.zeros(2, [("x", float)])


@pytest.mark.parametrize("array", [RECORDS, np.array([None, 1.0]), np.array(["a", "b"]), np.array([1, 2], "M8[D]")])
@pytest.mark.parametrize(
    "act",
    [mg.Tensor, mg.grad(np.sum), lambda a: leaf([1.0, 2.0]) * a, lambda a: np.where([True, False], leaf([1.0, 2.0]), a),
     lambda a: np.concatenate([leaf([1.0]), a]), lambda a: leaf([1.0, 2.0]).astype(a.dtype)],
    ids=["Tensor", "grad", "multiply", "where", "concatenate", "astype"],
)  # fmt: skip
def test_arrays_of_anything_but_numbers_are_refused(act: Callable[[Any], Any], array: Any) -> None:
    with pytest.raises(TypeError, match=r" [a-z]+ [a-z]+ .*\.$"):
        act(array)
