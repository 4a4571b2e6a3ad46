"""What a compiled function writes is what eager writes: whole steps of a training, statistics, data, gradients."""

import contextlib
import copy
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from profiles import some
from surroundings import Thing, assert_close, tensor
from test_compile import X, network

import minigrad as mg
from minigrad import nn

# ------------------------------------------------------------------------------------------------------- whole steps

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda ps: mg.optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: mg.optim.SGD(ps, lr=0.1, momentum=0.9),
    "Nesterov": lambda ps: mg.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
    "SGD with decay": lambda ps: mg.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.01),
    "RMSprop": lambda ps: mg.optim.RMSprop(ps, lr=0.01),
    "RMSprop with decay": lambda ps: mg.optim.RMSprop(ps, lr=0.01, weight_decay=0.01),
    "Adam": lambda ps: mg.optim.Adam(ps, lr=0.01),
    "Adam with decay": lambda ps: mg.optim.Adam(ps, lr=0.01, weight_decay=0.01),
    "AdamW": lambda ps: mg.optim.AdamW(ps, lr=0.01),
}


class Training:
    """A model and what trains it; `step` is the function to be compiled."""

    def __init__(self, optimizer: Callable[[Any], Any], step: Callable[..., Any], dtype: Any = np.float64) -> None:
        rng = np.random.default_rng(0)
        self.model = nn.Sequential(
            nn.Linear(3, 4, rng=rng, dtype=dtype), nn.Tanh(), nn.Linear(4, 2, rng=rng, dtype=dtype)
        )
        self.parameters = self.model.parameters()
        self.optimizer = optimizer(self.parameters)
        self.mean, self.count = mg.Tensor(np.zeros(3, dtype)), mg.Tensor(np.zeros((), dtype))
        self.calls = 0
        self.step = functools.partial(step, self)

    def loss(self, x: Any, y: Any) -> Any:
        return nn.mse_loss(self.model(x), y)

    def state(self) -> list[Any]:
        return [
            *(p.data.copy() for p in self.parameters),
            *(None if p.grad is None else p.grad.copy() for p in self.parameters),
            *(value for value in self.optimizer.state_dict().values()),
            self.mean.data.copy(),
            self.count.data.copy(),
        ]


def whole(t: Training, x: Any, y: Any) -> Any:
    t.optimizer.zero_grad()
    loss = t.loss(x, y)
    loss.backward()
    t.optimizer.step()
    return loss


def clipped(t: Training, x: Any, y: Any) -> Any:
    t.optimizer.zero_grad()
    loss = t.loss(x, y)
    loss.backward()
    mg.optim.clip_grad_norm(t.parameters, 0.05)
    t.optimizer.step()
    return loss


def with_the_norm(t: Training, x: Any, y: Any) -> Any:
    t.optimizer.zero_grad()
    t.loss(x, y).backward()
    norm = mg.optim.clip_grad_norm(t.parameters, 0.05)
    t.optimizer.step()
    return norm


def zeroed_last(t: Training, x: Any, y: Any) -> Any:
    loss = t.loss(x, y)
    loss.backward()
    t.optimizer.step()
    t.optimizer.zero_grad()
    return loss


def without_zero_grad(t: Training, x: Any, y: Any) -> Any:
    loss = t.loss(x, y)
    loss.backward()
    t.optimizer.step()
    return loss


def two_steps(t: Training, x: Any, y: Any) -> Any:
    first = whole(t, x, y)
    return first + whole(t, x + 1, y)


def two_steps_of_one_batch(t: Training, x: Any, y: Any) -> Any:
    return whole(t, x, y), whole(t, x, y)


def loss_afterwards(t: Training, x: Any, y: Any) -> Any:
    whole(t, x, y)
    return t.loss(x, y)


def accumulated_inside(t: Training, x: Any, y: Any) -> Any:
    t.optimizer.zero_grad()
    losses = [t.loss(x[i::2], y[i::2]) / 2 for i in range(2)]
    for loss in losses:
        loss.backward()
    t.optimizer.step()
    return losses


def accumulated_over_calls(t: Training, x: Any, y: Any) -> Any:
    if t.calls % 3 == 0:
        t.optimizer.zero_grad()
    loss = t.loss(x, y) / 3
    loss.backward()
    if t.calls % 3 == 2:
        t.optimizer.step()
    t.calls += 1
    return loss


def backward_alone(t: Training, x: Any, y: Any) -> Any:
    loss = t.loss(x, y)
    loss.backward()
    return loss


def weights_clipped(t: Training, x: Any, y: Any) -> Any:
    loss = whole(t, x, y)
    for p in t.parameters:
        p.data = np.clip(p.data, -0.4, 0.4)
    return loss


def gradients_changed(t: Training, x: Any, y: Any) -> Any:
    t.optimizer.zero_grad()
    loss = t.loss(x, y)
    loss.backward()
    for p in t.parameters:
        p.grad = np.sign(p.grad) * 0.1
    t.optimizer.step()
    return loss


def gradients_given(t: Training, x: Any, y: Any) -> Any:
    for p in t.parameters:
        p.grad = np.cos(p.data) * np.mean(x)
    t.optimizer.step()
    return x * 2


def by_hand(t: Training, x: Any, y: Any) -> Any:
    for p in t.parameters:
        p.grad = None
    loss = t.loss(x, y)
    loss.backward()
    for p in t.parameters:
        p.data = p.data - 0.1 * p.grad
    return loss


def by_hand_in_place(t: Training, x: Any, y: Any) -> Any:
    for p in t.parameters:
        p.grad = None
    loss = t.loss(x, y)
    loss.backward()
    for p in t.parameters:
        p.data -= 0.1 * p.grad
    return loss


def with_a_gradient_function(t: Training, x: Any, y: Any) -> Any:
    loss = t.loss(x, y)
    loss.backward()
    slope = mg.grad(lambda w: np.sum(w**2))(t.parameters[0])
    t.parameters[0].data = t.parameters[0].data - 0.01 * slope.detach()
    return loss


def statistics(t: Training, x: Any, y: Any) -> Any:
    mean = np.mean(x, 0)
    t.mean.data = 0.9 * t.mean.data + 0.1 * mean
    t.count.data = t.count.data + 1
    return whole(t, x - t.mean.data, y)


def rate_inside(t: Training, x: Any, y: Any) -> Any:
    t.optimizer.lr = mg.optim.cosine_schedule(0.1, steps=20)(t.calls)
    t.calls += 1
    return whole(t, x, y)


def rate_of_the_steps(t: Training, x: Any, y: Any) -> Any:
    t.calls += 1
    t.optimizer.lr = 0.1 / t.calls
    loss = whole(t, x, y)
    t.optimizer.lr = 0.05
    return loss


def frozen_at_times(t: Training, x: Any, y: Any) -> Any:
    t.calls += 1
    with mg.no_grad() if t.calls % 3 == 0 else contextlib.nullcontext():
        loss = t.loss(x, y)
    if loss.requires_grad:
        t.optimizer.zero_grad()
        loss.backward()
        t.optimizer.step()
    return loss


def returns_parameters(t: Training, x: Any, y: Any) -> Any:
    loss = whole(t, x, y)
    return loss, np.sum(t.parameters[0].data), [p.grad for p in t.parameters]


def moving_average(t: Training, x: Any, y: Any) -> Any:
    loss = whole(t, x, y)
    t.mean.data = 0.9 * t.mean.data + 0.1 * t.parameters[0].data[0]
    return loss


def other_loss_before(t: Training, x: Any, y: Any) -> Any:
    held_out = t.loss(x + 1, y)
    whole(t, x, y)
    return held_out


def steps_that_are_read(t: Training, x: Any, y: Any) -> Any:
    whole(t, x, y)
    return t.optimizer.steps * np.sum(x) + t.optimizer.lr


def decayed_inside(t: Training, x: Any, y: Any) -> Any:
    loss = whole(t, x, y)
    t.optimizer.lr *= 0.9
    return loss


def scheduled_by_steps(t: Training, x: Any, y: Any) -> Any:
    t.optimizer.lr = mg.optim.cosine_schedule(0.1, steps=20)(t.optimizer.steps)
    return whole(t, x, y)


def penalty(t: Training, x: Any, y: Any) -> Any:
    t.optimizer.zero_grad()
    loss = t.loss(x, y) + 0.01 * sum(np.sum(p**2) for p in t.parameters)
    loss.backward()
    t.optimizer.step()
    return loss


STEPS: list[Callable[..., Any]] = [
    *(whole, clipped, with_the_norm, zeroed_last, without_zero_grad, two_steps, two_steps_of_one_batch),
    *(loss_afterwards, accumulated_inside, accumulated_over_calls, backward_alone, weights_clipped, gradients_changed),
    *(gradients_given, by_hand, by_hand_in_place, with_a_gradient_function, statistics, rate_inside),
    *(other_loss_before, steps_that_are_read, decayed_inside, scheduled_by_steps),
    *(rate_of_the_steps, frozen_at_times, returns_parameters, moving_average, penalty),
]
TABLE = {step.__name__: step for step in STEPS}
BATCHES = [
    (np.random.default_rng(i).normal(size=(6, 3)), np.random.default_rng(i + 50).normal(size=(6, 2))) for i in range(9)
]


def follow(
    optimizer: Callable[[Any], Any],
    step: Callable[..., Any],
    pure: bool = False,
    between: Any = None,
    wrap: Any = mg.Tensor,
) -> Any:
    """Train a model by a compiled step and its twin by the same step, and compare after each."""
    eager, twin = Training(optimizer, step), Training(optimizer, step)
    compiled = mg.compile(twin.step, pure=pure)
    for i, (x, y) in enumerate(BATCHES):
        if between:
            for training in (eager, twin):
                between(training, i)
        given = wrap(x), wrap(y)
        found, wanted = compiled(*given), eager.step(mg.Tensor(x), mg.Tensor(y))
        assert_close(plain(found), plain(wanted), 1e-9)
        assert_close(twin.state(), eager.state(), 1e-9)
    return compiled


def plain(answer: Any) -> list[Any]:
    """The arrays of an answer."""
    answer = answer if isinstance(answer, (tuple, list)) else [answer]
    return [
        part
        for x in answer
        for part in (plain(x) if isinstance(x, (tuple, list)) else [x.data if isinstance(x, mg.Tensor) else x])
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_whole_step_of_every_optimizer(name: str) -> None:
    assert follow(OPTIMIZERS[name], whole).traces == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_whole_pure_step_of_every_optimizer(name: str) -> None:
    assert follow(OPTIMIZERS[name], whole, pure=True).traces == 1


@pytest.mark.parametrize(
    ("name", "optimizer"), [(name, one) for i, name in enumerate(TABLE) for one in some(["momentum", "Adam"], 2, i)]
)
def test_steps_of_all_kinds(name: str, optimizer: str) -> None:
    follow(OPTIMIZERS[optimizer], TABLE[name])


@pytest.mark.parametrize("name", some([*TABLE], 2))
def test_steps_of_all_kinds_that_are_given_arrays(name: str) -> None:
    follow(OPTIMIZERS["SGD"], TABLE[name], wrap=np.array)


TRACED: dict[str, int] = {
    **dict.fromkeys(TABLE, 1),
    "accumulated_over_calls": 4,
    "without_zero_grad": 2,
    "with_a_gradient_function": 2,
    "steps_that_are_read": 2,
    "backward_alone": 2,
    "rate_inside": 3,
    "rate_of_the_steps": 3,
    "frozen_at_times": 2,
}


@pytest.mark.parametrize("name", some([*TABLE], 2, 1))
def test_steps_are_traced_once_and_not_at_each_call(name: str) -> None:
    training = Training(OPTIMIZERS["Adam"], TABLE[name])
    compiled = mg.compile(training.step)
    for x, y in BATCHES:
        compiled(mg.Tensor(x), mg.Tensor(y))
    assert compiled.traces <= TRACED[name]


BETWEEN: dict[str, Callable[[Training, int], Any]] = {
    "a rate that is set": lambda t, i: setattr(t.optimizer, "lr", 0.1 / (i + 1)),
    "a schedule": lambda t, i: setattr(t.optimizer, "lr", mg.optim.warmup_schedule(4, 0.1)(t.optimizer.steps)),
    "a state that is loaded": lambda t, i: t.optimizer.load_state_dict(t.optimizer.state_dict()),
    "a model that is loaded": lambda t, i: t.model.load_state_dict(
        {k: v * 0.9 for k, v in t.model.state_dict().items()}
    ),
    "gradients that are cleared": lambda t, i: t.optimizer.zero_grad(),
    "gradients that are given": lambda t, i: [setattr(p, "grad", np.ones(p.shape)) for p in t.parameters],
    "data that is assigned": lambda t, i: setattr(t.parameters[0], "data", t.parameters[0].data + i),
    "data that is written to": lambda t, i: np.multiply(t.parameters[0].data, 0.9, out=t.parameters[0].data),
    "eager steps between": lambda t, i: t.step(*map(mg.Tensor, BATCHES[0])),
    "a decay that changes": lambda t, i: setattr(t.optimizer, "weight_decay", i / 100),
}


@pytest.mark.parametrize(
    ("name", "pure"), [(name, pure) for i, name in enumerate(BETWEEN) for pure in some([False, True], 2, i)]
)
def test_what_is_done_between_steps_counts(name: str, pure: bool) -> None:
    if pure and name == "a decay that changes":
        pytest.skip("a pure step holds for the numbers in arguments, Tensors and arrays alone")
    follow(OPTIMIZERS["Adam"], without_zero_grad if "gradients" in name else whole, pure=pure, between=BETWEEN[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_hundred_steps_stay_close_to_eager(dtype: Any) -> None:
    eager, twin = (Training(OPTIMIZERS["Adam"], whole, dtype) for _ in range(2))
    compiled = mg.compile(twin.step)
    for i in range(100):
        x, y = (a.astype(dtype) for a in BATCHES[i % len(BATCHES)])
        eager.optimizer.lr = twin.optimizer.lr = 0.01 / (1 + i)
        compiled(x, y)
        eager.step(mg.Tensor(x), mg.Tensor(y))
    assert compiled.traces == 1
    for a, b in zip(twin.parameters, eager.parameters, strict=True):
        np.testing.assert_allclose(a.data, b.data, atol=1000 * np.finfo(dtype).eps)


# ------------------------------------------------------------------------------------------------------- statistics


class BatchNorm(nn.Module):
    """Batch normalisation as in the textbook (Ioffe and Szegedy, 2015)."""

    def __init__(self, n: int, momentum: float = 0.1) -> None:
        self.gamma, self.beta, self.momentum = tensor(np.ones(n)), tensor(np.zeros(n)), momentum
        self.mean, self.variance = mg.Tensor(np.zeros(n)), mg.Tensor(np.ones(n))

    def forward(self, x: Any) -> Any:
        if self.training:
            mean = np.mean(x, axis=0)
            variance = np.mean((x - mean) ** 2, axis=0)
            self.mean.data = (1 - self.momentum) * self.mean.data + self.momentum * mean.detach()
            self.variance.data = (1 - self.momentum) * self.variance.data + self.momentum * variance.detach()
        else:
            mean, variance = self.mean, self.variance
        return (x - mean) / np.sqrt(variance + 1e-5) * self.gamma + self.beta


GIVEN: dict[str, Callable[[Any], Any]] = {"Tensors": mg.Tensor, "arrays": np.array}


@pytest.mark.parametrize("given", GIVEN)
def test_batch_normalisation_is_trained(given: str) -> None:
    def made() -> tuple[Any, Any, Any]:
        rng = np.random.default_rng(0)
        model = nn.Sequential(
            nn.Linear(3, 4, rng=rng, dtype=float), BatchNorm(4), np.tanh, nn.Linear(4, 2, rng=rng, dtype=float)
        )
        optimizer = mg.optim.SGD(model.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = nn.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return model, step, model[1]

    (model, step, layer), (twin, other, its) = made(), made()
    compiled, predict = mg.compile(step), mg.compile(lambda x: model(x))
    wrap = GIVEN[given]
    for x, y in BATCHES:
        assert_close(compiled(wrap(x), wrap(y)).item(), other(mg.Tensor(x), mg.Tensor(y)).item(), 1e-9)
        assert_close([layer.mean.data, layer.variance.data], [its.mean.data, its.variance.data], 1e-9)
        model.eval()
        twin.eval()
        assert_close(predict(x).data, twin(mg.Tensor(x)).data, 1e-9)
        model.train()
        twin.train()
    assert compiled.traces == predict.traces == 1


# ---------------------------------------------------------------------------------------------- data and gradients

Leaf = Callable[[mg.Tensor, Any], Any]


def read_after_write(p: mg.Tensor, x: Any) -> Any:
    p.data = p.data * 2 + 1
    return x * p.data, x * p


def written_twice(p: mg.Tensor, x: Any) -> Any:
    p.data = p.data + 1
    p.data = p.data * x
    return p.data + 0


def used_before_and_after(p: mg.Tensor, x: Any) -> Any:
    y = x * p.data
    p.data = p.data + 1
    return y + x * p.data


def swapped_with_itself(p: mg.Tensor, x: Any) -> Any:
    p.data = p.data[::-1]
    return x * p.data


def a_gradient_that_is_set(p: mg.Tensor, x: Any) -> Any:
    p.grad = x * 3
    return p.grad * 2


def a_gradient_that_is_doubled(p: mg.Tensor, x: Any) -> Any:
    p.grad = x if p.grad is None else p.grad + x
    return x * 1


def a_gradient_that_is_cleared(p: mg.Tensor, x: Any) -> Any:
    p.grad = None
    np.sum(p * x).backward()
    kept = p.grad
    p.grad = None
    return kept * 2


def gradients_that_add_up(p: mg.Tensor, x: Any) -> Any:
    np.sum(p * x).backward()
    np.sum(p**2 * x).backward()
    return x * p.grad


def a_constant(p: mg.Tensor, x: Any) -> Any:
    p.data = np.arange(3.0)
    return x * p.data


def a_list_of_numbers(p: mg.Tensor, x: Any) -> Any:
    p.data = [1.0, 2.0, 5.0]
    return x * p.data


def what_is_given(p: mg.Tensor, x: Any) -> Any:
    p.data = x
    return x * 2


def what_is_given_and_then_changed(p: mg.Tensor, x: Any) -> Any:
    p.data = x
    p.data = p.data + 1
    return x * 2 + p.data


def after_backward(p: mg.Tensor, x: Any) -> Any:
    loss = np.sum(np.sin(p) * x)
    loss.backward()
    p.data = p.data - p.grad
    return loss


def with_an_unused_input(p: mg.Tensor, x: Any) -> Any:
    p.data = p.data + 1
    return 3.0


def after_a_use_that_nobody_walks_back(p: mg.Tensor, x: Any) -> Any:
    kept = np.sum(np.sin(p) * x)
    p.data = p.data * 0.5
    return kept


def written_and_restored(p: mg.Tensor, x: Any) -> Any:
    before = p.data
    p.data = p.data * 2
    y = x * p
    p.data = before
    return y


def in_another_dtype(p: mg.Tensor, x: Any) -> Any:
    p.data = (p.data * x).astype(np.float32)
    return x * p.data


def walked_after_a_write(p: mg.Tensor, x: Any) -> Any:
    p.data = p.data * 0.5
    np.sum(np.sin(p) * x).backward()
    return p.grad * 2


def nothing_returned(p: mg.Tensor, x: Any) -> Any:
    p.data = p.data + x


WRITES: dict[str, Leaf] = {
    f.__name__: f
    for f in [
        *(read_after_write, written_twice, used_before_and_after, swapped_with_itself, a_gradient_that_is_set),
        *(a_gradient_that_is_doubled, a_gradient_that_is_cleared, gradients_that_add_up, a_constant, a_list_of_numbers),
        *(what_is_given, what_is_given_and_then_changed, after_backward, with_an_unused_input, in_another_dtype),
        *(nothing_returned, walked_after_a_write, after_a_use_that_nobody_walks_back, written_and_restored),
    ]
}


def written(name: str, wrap: Callable[[Any], Any], pure: bool) -> None:
    p, q = (tensor([0.5, 1.5, -1.0]) for _ in range(2))
    compiled = mg.compile(lambda x: WRITES[name](p, x), pure=pure)
    for i in range(4):
        x = np.array([1.0, 2.0, 3.0]) + i
        mine = wrap(x)
        found, wanted = compiled(mine), WRITES[name](q, mg.Tensor(x))
        assert_close(plain(found), plain(wanted))
        assert_close([p.data, p.grad], [q.data, q.grad])
        assert p.requires_grad
        kept = p.data.copy()
        if isinstance(mine, np.ndarray):
            mine += 100  # which is the caller's
            np.testing.assert_array_equal(p.data, kept)
    assert compiled.traces <= 2


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_to_a_leaf(name: str, pure: bool) -> None:
    written(name, mg.Tensor, pure)


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_to_a_leaf_from_an_array(name: str, pure: bool) -> None:
    written(name, np.array, pure)


def test_what_was_used_may_be_written_to_where_nobody_walks_back() -> None:
    p, q = (tensor([1.0, 2.0]) for _ in range(2))

    def f(p: Any, x: Any) -> Any:
        y = np.sum(x * p)
        p.data = p.data * 0.5
        return y

    compiled = mg.compile(lambda x: f(p, x))
    for _ in range(3):
        assert_close(compiled(tensor([1.0, 3.0])).item(), f(q, tensor([1.0, 3.0])).item())
        assert_close(p.data, q.data)


def test_requirements_that_a_function_sets_are_traced_few_times() -> None:
    p, thing = tensor([1.0, 2.0]), Thing(n=0)

    def f(x: Any) -> Any:
        thing.n += 1
        p.requires_grad = thing.n % 2 == 0
        return np.sum(x * p)

    compiled = mg.compile(f)
    for _ in range(8):
        compiled(tensor([1.0, 3.0]))
    assert compiled.traces <= 3


def test_two_leaves_that_change_places() -> None:
    p, q = mg.Tensor([1.0, 2.0]), mg.Tensor([3.0, 4.0])

    def f(x: Any) -> Any:
        p.data, q.data = q.data, p.data
        return x * p.data

    compiled = mg.compile(f)
    for wanted in ([3.0, 4.0], [1.0, 2.0], [3.0, 4.0]):
        np.testing.assert_array_equal(compiled(mg.Tensor(np.ones(2))).data, wanted)
        np.testing.assert_array_equal(p.data, wanted)
        assert not np.shares_memory(p.data, q.data)


def test_an_argument_that_is_a_leaf_may_be_written_to() -> None:
    def f(p: Any, x: Any) -> Any:
        p.data = p.data + x
        return p * 2

    compiled = mg.compile(f)
    for p in (mg.Tensor([1.0, 2.0]), mg.Tensor([3.0, 4.0])):
        before = p.data.copy()
        np.testing.assert_array_equal(compiled(p, np.ones(2)).data, 2 * (before + 1))
        np.testing.assert_array_equal(p.data, before + 1)


def test_data_of_another_shape_is_refused_as_in_eager() -> None:
    p = mg.Tensor([1.0, 2.0])

    def f(x: Any) -> Any:
        p.data = np.ones(3)
        return x * 2

    for g in (f, mg.compile(f)):
        with pytest.raises(ValueError, match="shape"):
            g(np.ones(3))
        np.testing.assert_array_equal(p.data, [1, 2])


def test_a_write_is_seen_by_the_check_of_versions() -> None:
    p = tensor([1.0, 2.0])
    late = np.sum(p**2)

    def f(x: Any) -> Any:
        p.data = p.data + x
        return x * 2

    mg.compile(f)(mg.Tensor(np.ones(2)))
    with pytest.raises(RuntimeError, match="has been changed"):
        late.backward()
    training = Training(OPTIMIZERS["SGD"], whole)
    late = training.loss(mg.Tensor(BATCHES[0][0]), mg.Tensor(BATCHES[0][1]))
    mg.compile(training.step)(*BATCHES[0])
    with pytest.raises(RuntimeError, match="has been changed"):
        late.backward()


def test_gradients_of_whole_steps_are_the_users() -> None:
    training = Training(OPTIMIZERS["SGD"], whole)
    compiled = mg.compile(training.step)
    compiled(*BATCHES[0])
    kept = [p.grad for p in training.parameters]
    copies = copy.deepcopy(kept)
    compiled(*BATCHES[1])
    assert_close(kept, copies, 0)
    assert all(not np.shares_memory(a, p.grad) for a, p in zip(kept, training.parameters, strict=True))


def test_the_answer_of_a_whole_step_keeps_no_graph() -> None:
    eager, twin = (Training(OPTIMIZERS["SGD"], whole) for _ in range(2))
    answers = eager.step(*map(mg.Tensor, BATCHES[0])), mg.compile(twin.step)(*BATCHES[0])
    for loss in answers:
        with pytest.raises(RuntimeError) as caught:
            loss.backward()
        assert "retain_graph" in str(caught.value) or "freed" in str(caught.value)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_training_resumes_from_a_checkpoint_bit_for_bit(optimizer: str) -> None:
    first, second = (Training(OPTIMIZERS[optimizer], whole) for _ in range(2))
    steps = mg.compile(first.step), mg.compile(second.step)
    for x, y in BATCHES[:4]:
        steps[0](x, y)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    for x, y in BATCHES[4:]:
        for step in steps:
            step(x, y)
    assert_close([p.data for p in first.parameters], [p.data for p in second.parameters], 0)


def test_two_models_that_take_turns() -> None:
    def made() -> tuple[Any, list[Any]]:
        models = [network(3, 2, seed=0), network(2, 3, seed=1)]
        optimizers = [mg.optim.SGD(model.parameters(), lr=0.1) for model in models]

        def step(x: Any) -> Any:
            losses = []
            for i in range(2):
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss = np.mean((models[1](models[0](x)) - x) ** 2) * (1 - 2 * i)
                loss.backward()
                optimizers[i].step()
                losses.append(loss)
            return losses

        return step, [p for model in models for p in model.parameters()]

    (step, parameters), (other, wanted) = made(), made()
    compiled = mg.compile(step)
    for i in range(4):
        x = (X + i).astype(np.float32)
        assert_close(plain(compiled(mg.Tensor(x))), plain(other(mg.Tensor(x))), 1e-5)
        assert_close([p.data for p in parameters], [p.data for p in wanted], 1e-5)
    assert compiled.traces == 1


@pytest.mark.parametrize("pure", [False, True])
def test_threads_that_call_one_step_do_each_call_whole(pure: bool) -> None:
    count, p = mg.Tensor(0.0), tensor(np.zeros(100))

    def step(x: Any) -> Any:
        count.data = count.data + 1
        p.grad = None
        np.sum(p * x).backward()
        p.data = p.data + p.grad
        return count.data + 0

    compiled = mg.compile(step, pure=pure)
    x = mg.Tensor(np.ones(100))
    compiled(x)
    start = threading.Barrier(4)

    def work(_: int) -> list[float]:
        start.wait()
        return [compiled(x).item() for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        together = [number for numbers in pool.map(work, range(4)) for number in numbers]
    assert sorted(together) == list(range(2, 202))
    assert count.data == 201
    np.testing.assert_array_equal(p.data, 201)


def slow_step(also: Callable[[Any, Any], Any]) -> tuple[mg.Tensor, Callable[[Any], Any]]:
    """A count, and a step that takes its time to count its calls, and does something else, too."""
    count = mg.Tensor(0.0)
    slow = mg.primitive(lambda g, ans, x: g)(lambda x: (time.sleep(0.001), np.array(x))[1])

    def step(x: Any) -> Any:
        count.data = slow(count) + 1
        also(slow, x)
        return x * 1

    return count, step


def check_ten_calls_by_two_threads(count: mg.Tensor, compiled: Any) -> None:
    compiled(np.ones(3))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: [compiled(np.ones(3)) for _ in range(5)], range(2)))
    assert count.data == 11


@pytest.mark.parametrize("pure", [False, True])
def test_threads_do_not_meet_where_leaves_get_other_memory(pure: bool) -> None:
    count, step = slow_step(lambda slow, x: None)
    check_ten_calls_by_two_threads(count, mg.compile(step, pure=pure))


def test_threads_do_not_meet_between_a_read_and_a_write() -> None:
    p = tensor(np.zeros(3))

    def also(slow: Any, x: Any) -> None:
        with mg.no_grad():
            p.__iadd__(slow(p) + x - p)

    count, step = slow_step(also)
    check_ten_calls_by_two_threads(count, mg.compile(step, pure=True))


def test_a_step_is_not_written_where_the_program_raises() -> None:
    training = Training(OPTIMIZERS["SGD"], lambda t, x, labels: labelled(t, x, labels))
    compiled = mg.compile(training.step)
    x = BATCHES[0][0]
    compiled(x, np.zeros(6, int))
    before = training.state()
    with pytest.raises(ValueError, match="labels from"):
        compiled(x, np.full(6, 7))
    assert_close(training.state(), before, 0)
    compiled(x, np.ones(6, int))


def labelled(t: Training, x: Any, labels: Any) -> Any:
    t.optimizer.zero_grad()
    loss = nn.cross_entropy(t.model(x), labels)
    loss.backward()
    t.optimizer.step()
    return loss


@pytest.mark.parametrize("name", ["whole", "statistics", "by_hand"])
def test_a_step_under_debug_is_that_of_eager(name: str) -> None:
    eager, twin = (Training(OPTIMIZERS["Adam"], TABLE[name]) for _ in range(2))
    compiled = mg.compile(twin.step)
    for i, (x, y) in enumerate(BATCHES[:4]):
        if i % 2:
            with mg.debug():
                compiled(mg.Tensor(x), mg.Tensor(y))
        else:
            compiled(mg.Tensor(x), mg.Tensor(y))
        eager.step(mg.Tensor(x), mg.Tensor(y))
        assert_close(twin.state(), eager.state(), 1e-9)


# ------------------------------------------------------------------------------------------------- shared memory


def clipped_between(t: Training, x: Any, y: Any) -> Any:
    first = whole(t, x, y)
    for p in t.parameters:
        p.data = np.clip(p.data, -0.4, 0.4)
    return first + whole(t, x, y)


def shrunk_between(t: Training, x: Any, y: Any) -> Any:
    first = whole(t, x, y)
    with mg.no_grad():
        for p in t.parameters:
            p *= 0.9
    return first + whole(t, x, y)


@pytest.mark.parametrize("step", [clipped_between, shrunk_between])
def test_parameters_that_are_written_between_two_steps(step: Callable[..., Any]) -> None:
    follow(OPTIMIZERS["Adam"], step)


def assigned(whole: mg.Tensor, part: mg.Tensor, x: Any) -> Any:
    whole.data = whole.data * 2 + x
    return part.data * 3


def moved(whole: mg.Tensor, part: mg.Tensor, x: Any) -> Any:
    before = part * x[:3]
    with mg.no_grad():
        whole *= 2
        whole += x
    return before, part * 3, whole + 1


def both_moved(whole: mg.Tensor, part: mg.Tensor, x: Any) -> Any:
    with mg.no_grad():
        whole *= x
        late = part * 1
        whole -= np.sum(part)
    return late, part + 0


def reversed_in_place(whole: mg.Tensor, part: mg.Tensor, x: Any) -> Any:
    with mg.no_grad():
        whole -= whole[::-1] * 2
    return part * x[:3]


def kept_as_it_was(whole: mg.Tensor, part: mg.Tensor, x: Any) -> Any:
    kept = whole * 1
    with mg.no_grad():
        whole += x
    return kept * 3, part * x[:3]


def a_part_kept_as_it_was(whole: mg.Tensor, part: mg.Tensor, x: Any) -> Any:
    kept = part * 1
    with mg.no_grad():
        whole += x
    return kept * 3


IN_PLACE = [
    assigned,
    *(moved, both_moved, reversed_in_place, kept_as_it_was, a_part_kept_as_it_was),
]


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("f", IN_PLACE)
def test_leaves_that_share_memory(f: Callable[..., Any], pure: bool) -> None:
    def made() -> tuple[Any, Any, Any]:
        array = np.arange(6.0) + 1
        return array, tensor(array), mg.Tensor(array[2:5])

    (array, *mine), (twin, *its) = made(), made()
    assert np.shares_memory(mine[0].data, array)
    compiled = mg.compile(lambda x: f(*mine, x), pure=pure)
    for i in range(4):
        x = np.arange(6.0) + i
        assert_close(plain(compiled(mg.Tensor(x))), plain(f(*its, mg.Tensor(x))))
        assert_close([array, *(t.data for t in mine)], [twin, *(t.data for t in its)])


def test_leaves_that_change_places_in_place() -> None:
    p, q = tensor([1.0, 2.0]), tensor([3.0, 4.0])
    memory = p.data, q.data

    def f(x: Any) -> Any:
        with mg.no_grad():
            kept = p * 1
            p_new, q_new = q - p, kept - q
            exchanged = p, q
            for leaf, new in zip(exchanged, (p_new, q_new), strict=True):
                leaf += new
        return x * 1

    compiled = mg.compile(f)
    for wanted in ([3.0, 4.0], [1.0, 2.0], [3.0, 4.0]):
        compiled(np.ones(2))
        np.testing.assert_array_equal(p.data, wanted)
        np.testing.assert_array_equal(q.data, [4 - wanted[0], 6 - wanted[1]])
    assert p.data is memory[0]
    assert q.data is memory[1]


@pytest.mark.parametrize("way", ["assigned", "in place"])
def test_data_goes_where_eager_puts_it(way: str) -> None:
    p = tensor([1.0, 2.0])

    def f(x: Any) -> Any:
        if way == "assigned":
            p.data = p.data + x
        else:
            with mg.no_grad():
                p.__iadd__(x)
        return x * 1

    compiled = mg.compile(f)
    for i in range(3):
        before, numbers = p.data, p.data.copy()
        compiled(np.ones(2))
        assert (p.data is before) == (way == "in place")
        np.testing.assert_array_equal(before, numbers + (way == "in place"))
        np.testing.assert_array_equal(p.data, [2.0 + i, 3.0 + i])


def test_a_loss_that_moves_its_own_parameter_is_not_walked_back() -> None:
    p, q = tensor([1.0, 2.0]), tensor([3.0, 4.0])

    def f(x: Any) -> Any:
        loss = np.sum(np.sin(x * p) * q)
        with mg.no_grad():
            p.__imul__(2)
        return loss

    compiled = mg.compile(f)
    for i in range(3):
        numbers = p.data.copy()
        loss = compiled(tensor([0.5, 1.5 + i]))
        np.testing.assert_array_equal(p.data, 2 * numbers)
        with pytest.raises(RuntimeError, match="has been changed since then"):
            loss.backward()


@pytest.mark.parametrize("pure", [False, True])
def test_a_write_in_place_is_not_done_where_the_program_raises(pure: bool) -> None:
    p, matrix = tensor(np.ones(2)), mg.Tensor(np.eye(2))

    def f() -> Any:
        with mg.no_grad():
            p.__iadd__(1)
        return np.linalg.inv(matrix)

    compiled = mg.compile(f, pure=pure)
    compiled()
    matrix.data = np.zeros((2, 2))
    with pytest.raises(np.linalg.LinAlgError):
        compiled()
    np.testing.assert_array_equal(p.data, 2)
    matrix.data = 2 * np.eye(2)
    assert_close(compiled().data, np.eye(2) / 2)
    np.testing.assert_array_equal(p.data, 3)


RAISING: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {  # what is computed of numbers, right ones and wrong ones
    "an index beyond the end": (lambda i: mg.put_add(np.ones(3), i, 1.0), [0, 2], [0, 3]),
    "an integer to a negative power": (lambda i: np.power(2, i), [0, 2], [0, -1]),
}


@pytest.mark.parametrize("name", RAISING)
def test_a_write_in_place_comes_after_what_refuses_numbers(name: str) -> None:
    f, right, wrong = RAISING[name]
    p, numbers = tensor(np.ones(2)), mg.Tensor(np.array(right))

    def step() -> Any:
        with mg.no_grad():
            p.__iadd__(1)
        return f(numbers)

    compiled = mg.compile(step)
    compiled()
    numbers.data = np.array(wrong)
    with pytest.raises((IndexError, ValueError)):
        compiled()
    np.testing.assert_array_equal(p.data, 2)


def test_a_number_that_cannot_be_computed_raises_before_anything_is_written() -> None:
    p, q = tensor(np.ones(2)), tensor(np.ones(2))
    optimizer = mg.optim.SGD([q], lr=1.0)

    def f() -> Any:
        rate = optimizer.lr * 0.75
        with mg.no_grad():
            p.__iadd__(1)
        return q * rate**-400

    compiled = mg.compile(f, pure=True)
    compiled()
    optimizer.lr = 0.01
    with pytest.raises(OverflowError):
        compiled()
    np.testing.assert_array_equal(p.data, 2)


@pytest.mark.parametrize("pure", [False, True])
def test_a_gradient_that_was_there_is_cleared(pure: bool) -> None:
    p = tensor(np.ones(2))
    compiled = mg.compile(lambda x: (setattr(p, "grad", None), x * 2)[1], pure=pure)
    for _ in range(3):
        p.grad = np.ones(2)
        compiled(np.ones(2))
        assert p.grad is None


# ---------------------------------------------------------------------------------------------- walks that raise


def test_a_graph_is_walked_once_inside() -> None:
    p = tensor([1.0, 2.0])

    def f(x: Any) -> Any:
        loss = np.sum(p * x)
        loss.backward()
        loss.backward()
        return loss

    for g in (f, mg.compile(f)):
        with pytest.raises(RuntimeError, match="walked by backward"):
            g(mg.Tensor(np.ones(2)))


def test_a_walk_after_a_write_inside_raises_as_in_eager() -> None:
    p = tensor([1.0, 2.0])

    def f(x: Any) -> Any:
        loss = np.sum(np.sin(p) * x)
        p.data = p.data * 2
        loss.backward()
        return loss

    for g in (f, mg.compile(f)):
        p.data = np.ones(2)
        with pytest.raises(RuntimeError, match="has been changed"):
            g(mg.Tensor(np.ones(2)))
        assert p.grad is None


def test_gradients_that_are_retained_inside() -> None:
    def f(p: Any, x: Any) -> Any:
        y = p * x
        y.retain_grad()
        np.sum(y**3).backward()
        return y.grad * 2

    p, q = tensor([1.0, 2.0]), tensor([1.0, 2.0])
    compiled = mg.compile(lambda x: f(p, x))
    for i in range(3):
        x = np.array([1.0, 2.0]) + i
        assert_close(plain(compiled(mg.Tensor(x))), plain(f(q, mg.Tensor(x))))
        assert_close(p.grad, q.grad)


@pytest.mark.parametrize("tracked", [False, True])
def test_a_leaf_that_is_used_after_it_was_written_has_a_gradient(tracked: bool) -> None:
    def made() -> tuple[Any, Any]:
        p = tensor([0.1, 0.2])

        def f(x: Any) -> Any:
            p.data = p.data * 0.5 + 0.25
            return np.sum(np.tanh(x * p))

        return p, f

    (p, f), (q, g) = made(), made()
    mg.compile(f)(mg.Tensor([1.0, 2.0], requires_grad=tracked)).backward()
    g(mg.Tensor([1.0, 2.0], requires_grad=tracked)).backward()
    assert_close(p.grad, q.grad)


def test_an_answer_beside_a_step_is_walked_twice() -> None:
    def made() -> tuple[Any, ...]:
        p, q = tensor([1.0, 2.0]), tensor([3.0, 4.0])
        optimizer = mg.optim.SGD([q], lr=0.1)

        def f(x: Any) -> Any:
            beside = np.sum((p * x) ** 3)
            optimizer.zero_grad()
            np.sum(q * p * x).backward()
            optimizer.step()
            return beside

        return p, q, f

    (p, q, f), (s, t, g) = made(), made()
    for h in (mg.compile(f), g):
        answer = h(tensor([1.0, 1.0]))
        answer.backward(retain_graph=True)
        answer.backward()
    assert_close([p.grad, q.data, q.grad], [s.grad, t.data, t.grad])


@pytest.mark.parametrize("by", ["an optimizer", "hand"])
def test_a_step_whose_gradient_is_nan_is_written_as_in_eager(by: str) -> None:
    def made() -> tuple[Any, Any, Any]:
        p = tensor([4.0, 0.0])
        optimizer = mg.optim.SGD([p], lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = np.sum(np.where(p > 0, np.sqrt(p), 0.0) * x)
            loss.backward()
            if by == "hand":
                p.data = p.data - 0.1 * p.grad
            else:
                optimizer.step()
            return loss

        return p, step, optimizer

    (p, step, _), (q, other, _) = made(), made()
    compiled = mg.compile(step)
    with np.errstate(all="ignore"):
        for _ in range(3):
            x = mg.Tensor([1.0, 1.0])
            assert_close(compiled(x).data, other(x).data)
            assert_close([p.data, p.grad], [q.data, q.grad])
