"""Optimizers against the published algorithms; the flat buffers under them; schedules and clipping."""

import inspect
import math
from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.optim.optimizers import CHUNK

from minigrad.optim import (  # isort: skip
    SGD, Adam, AdamW, Optimizer, RMSprop, clip_grad_norm, cosine_schedule, exponential_schedule, one_cycle_schedule,
    step_schedule, warmup_schedule,
)  # fmt: skip

SHAPES = [(3, 2), (), (4,), (1, 2, 2), (0, 3)]


def parameters(dtype: Any = np.float64, seed: int = 0) -> list[mg.Tensor]:
    rng = np.random.default_rng(seed)
    return [mg.Tensor(np.asarray(rng.normal(size=shape)).astype(dtype), requires_grad=True) for shape in SHAPES]


def loss(ps: list[Any]) -> Any:
    """A bent valley whose gradients differ in size and sign; convex, so that rounding errors do not grow."""
    return sum(np.sum(np.square(p - i) * (i + 1) + 0.2 * np.sin(3 * p)) for i, p in enumerate(ps))


def gradients(ps: list[np.ndarray]) -> list[np.ndarray]:
    return [2 * (p - i) * (i + 1) + 0.6 * np.cos(3 * p) for i, p in enumerate(ps)]


# -------------------------------------------------------------------------------------- the algorithms, written plainly


def plain_sgd(p: Any, g: Any, s: dict[str, Any], t: int, lr: float, momentum: float = 0, **_: Any) -> Any:
    s["v"] = momentum * s.get("v", 0) + g
    return p - lr * s["v"]


def plain_nesterov(p: Any, g: Any, s: dict[str, Any], t: int, lr: float, momentum: float, **_: Any) -> Any:
    s["v"] = momentum * s.get("v", 0) + g
    return p - lr * (g + momentum * s["v"])


def plain_rmsprop(
    p: Any, g: Any, s: dict[str, Any], t: int, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8, **_: Any
) -> Any:
    s["s"] = alpha * s.get("s", 0) + (1 - alpha) * g**2
    return p - lr * g / (np.sqrt(s["s"]) + eps)


def plain_adam(
    p: Any,
    g: Any,
    s: dict[str, Any],
    t: int,
    lr: float = 0.001,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    **_: Any,
) -> Any:
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    m_hat, v_hat = s["m"] / (1 - betas[0] ** t), s["v"] / (1 - betas[1] ** t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps)


def with_decay(plain: Callable[..., Any]) -> Callable[..., Any]:
    return lambda p, g, s, t, weight_decay, **options: plain(p, g + weight_decay * p, s, t, **options)


def plain_adamw(
    p: Any, g: Any, s: dict[str, Any], t: int, lr: float = 0.001, weight_decay: float = 0.01, **o: Any
) -> Any:
    return plain_adam(p, g, s, t, lr, **o) - lr * weight_decay * p


ALGORITHMS: list[tuple[type[Optimizer], Callable[..., Any], dict[str, Any]]] = [
    (SGD, plain_sgd, {"lr": 0.02}),
    (SGD, plain_sgd, {"lr": 0.02, "momentum": 0.9}),
    (SGD, plain_nesterov, {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    (SGD, with_decay(plain_sgd), {"lr": 0.02, "weight_decay": 0.1}),
    (SGD, with_decay(plain_nesterov), {"lr": 0.02, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    (RMSprop, plain_rmsprop, {}),
    (RMSprop, plain_rmsprop, {"lr": 0.005, "alpha": 0.5, "eps": 0.1}),
    (RMSprop, with_decay(plain_rmsprop), {"weight_decay": 0.1}),
    (Adam, plain_adam, {}),
    (Adam, plain_adam, {"lr": 0.005, "betas": (0.5, 0.75), "eps": 0.1}),
    (Adam, with_decay(plain_adam), {"weight_decay": 0.1}),
    (AdamW, plain_adamw, {}),
    (AdamW, plain_adamw, {"lr": 0.005, "betas": (0.5, 0.75), "eps": 0.1, "weight_decay": 0.3}),
]
OPTIMIZERS: list[Callable[..., Optimizer]] = [
    SGD,
    lambda ps, lr=0.01, **o: SGD(ps, lr, momentum=0.9, **o),
    lambda ps, lr=0.01, **o: SGD(ps, lr, momentum=0.9, nesterov=True, **o),
    RMSprop,
    Adam,
    AdamW,
]
every_optimizer = pytest.mark.parametrize(
    "make", OPTIMIZERS, ids=["SGD", "momentum", "Nesterov", "RMSprop", "Adam", "AdamW"]
)


def train(ps: list[mg.Tensor], optimizer: Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss(ps).backward()
        optimizer.step()


@pytest.mark.parametrize(("kind", "plain", "options"), ALGORITHMS)
def test_a_hundred_steps_equal_the_published_algorithm(kind: Any, plain: Any, options: dict[str, Any]) -> None:
    ps = parameters()
    expected = [p.data.copy() for p in ps]
    states: list[dict[str, Any]] = [{} for _ in ps]
    optimizer = kind(ps, **options)
    named = {name: value for name, value in options.items() if name != "nesterov"}
    if kind is SGD:
        named.setdefault("lr", 0.01)
    for t in range(1, 101):
        train(ps, optimizer, 1)
        expected = [plain(p, g, s, t, **named) for p, g, s in zip(expected, gradients(expected), states, strict=True)]
        for p, e in zip(ps, expected, strict=True):
            np.testing.assert_allclose(p.data, e, rtol=1e-12, atol=1e-12)
    assert optimizer.steps == 100


def test_defaults_are_as_documented() -> None:
    defaults = {
        kind: {k: v.default for k, v in inspect.signature(kind).parameters.items() if k != "parameters"}
        for kind in (SGD, RMSprop, Adam, AdamW)
    }
    assert defaults[SGD] == {"lr": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    assert defaults[RMSprop] == {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0}
    assert defaults[Adam] == {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    assert defaults[AdamW] == {**defaults[Adam], "weight_decay": 0.01}


@pytest.mark.parametrize(("kind", "plain", "options"), ALGORITHMS)
def test_the_same_steps_as_pytorch(kind: Any, plain: Any, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    ours = parameters()
    theirs = [torch.tensor(p.data, requires_grad=True) for p in ours]
    mine, other = kind(ours, **options), getattr(torch.optim, kind.__name__)(theirs, **options)
    for _ in range(30):
        train(ours, mine, 1)
        other.zero_grad()
        sum(((p - i) ** 2 * (i + 1) + 0.2 * torch.sin(3 * p)).sum() for i, p in enumerate(theirs)).backward()
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-10, atol=1e-12)


@every_optimizer
def test_optimizers_find_the_bottom_of_a_bowl(make: Any) -> None:
    p = mg.Tensor([3.0, -2.0], requires_grad=True)
    optimizer = make([p], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        np.sum(np.square(p - 1)).backward()
        optimizer.step()
    np.testing.assert_allclose(p.data, 1, atol=0.06)


# ---------------------------------------------------------------------------------------------------- flat buffers


@every_optimizer
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_small_parameters_become_views_of_one_vector(make: Any, dtype: Any) -> None:
    ps = parameters(dtype)
    before = [p.data.copy() for p in ps]
    optimizer = make(ps)
    (flat,) = optimizer.flats
    assert flat.data.dtype == dtype
    assert flat.data.shape == (sum(p.size for p in ps),)
    for p, array in zip(ps, before, strict=True):
        np.testing.assert_array_equal(p.data, array)
    for _ in range(3):
        train(ps, optimizer, 1)
        for p in ps:
            assert p.data.dtype == p.grad.dtype == dtype
            assert np.shares_memory(p.data, flat.data) == (p.size > 0)
    np.testing.assert_array_equal(flat.data, np.concatenate([p.data.ravel() for p in ps]))


@every_optimizer
def test_large_parameters_move_by_the_same_formula(make: Any) -> None:
    large = mg.Tensor(np.linspace(-1, 1, 2 * CHUNK + 5), requires_grad=True)
    small = mg.Tensor(large.data[CHUNK - 3 : CHUNK + 3].copy(), requires_grad=True)
    optimizer = make([small, large])
    assert [flat.data.size for flat in optimizer.flats] == [6, 2 * CHUNK + 5]
    for _ in range(3):
        optimizer.zero_grad()
        (np.sum(large**3) + np.sum(small**3)).backward()
        optimizer.step()
    np.testing.assert_array_equal(large.data[CHUNK - 3 : CHUNK + 3], small.data)


@every_optimizer
def test_a_gradient_that_somebody_keeps_is_never_overwritten(make: Any) -> None:
    ps = parameters()
    optimizer = make(ps)
    kept: list[tuple[Any, Any]] = []
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(2):
            loss(ps).backward()
            kept += [(p.grad, p.grad.copy()) for p in ps]
        kept += [(p.grad, p.grad.copy()) for p in ps]
        clip_grad_norm(ps, 0.1)
        optimizer.step()
    for array, copy in kept:
        np.testing.assert_array_equal(array, copy)


@every_optimizer
def test_mixed_dtypes_have_a_buffer_each(make: Any) -> None:
    singles, doubles = parameters(np.float32, 1), parameters(np.float64, 2)
    mixed = [p for pair in zip(singles, doubles, strict=True) for p in pair]
    optimizer = make(mixed)
    assert [flat.data.dtype for flat in optimizer.flats] == [np.float32, np.float64]
    alone = [parameters(np.float32, 1), parameters(np.float64, 2)]
    for ps in alone:
        train(ps, make(ps), 5)
    for _ in range(5):
        optimizer.zero_grad()
        (loss(singles) + loss(doubles)).backward()
        optimizer.step()
    for p, q in zip([*singles, *doubles], [*alone[0], *alone[1]], strict=True):
        assert p.dtype == p.grad.dtype == q.dtype
        np.testing.assert_array_equal(p.data, q.data)


class Counting(SGD):
    """SGD that counts the calls of its algorithm."""

    calls = 0

    def update(self, *args: Any) -> Any:
        self.calls += 1
        return super().update(*args)


@pytest.mark.parametrize("layers", [1, 10, 100])
def test_a_step_is_one_update_however_many_layers(layers: int) -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(layers)))
    optimizer = Counting(model.parameters())
    optimizer.step()
    assert optimizer.calls == 1
    model.append(nn.Linear(2, 2, dtype=np.float64))
    optimizer = Counting(model.parameters())
    optimizer.step()
    assert optimizer.calls == 2


def reassign_data(ps: list[mg.Tensor], model: Any) -> None:
    ps[0].data = ps[0].data * 0.5


def assign_data_in_place(ps: list[mg.Tensor], model: Any) -> None:
    ps[0].data[...] *= 0.5


def load_state(ps: list[mg.Tensor], model: Any) -> None:
    state = model.state_dict()
    model.load_state_dict({**state, "0": state["0"] * 0.5})


@every_optimizer
@pytest.mark.parametrize("change", [reassign_data, assign_data_in_place, load_state])
def test_data_changed_between_steps_counts(make: Any, change: Any) -> None:
    class Model(nn.Module):
        def __init__(self, ps: list[mg.Tensor]) -> None:
            vars(self).update({str(i): p for i, p in enumerate(ps)})

    ps, qs = parameters(), parameters()
    ours, theirs = make(ps), make(qs)
    for _ in range(3):
        train(ps, ours, 2)
        change(ps, Model(ps))
        train(qs, theirs, 2)
        qs[0].data[...] *= 0.5
    train(ps, ours, 1)
    train(qs, theirs, 1)
    for p, q in zip(ps, qs, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
        assert np.shares_memory(p.data, ours.flats[0].data) == (p.size > 0)


@every_optimizer
def test_gradients_changed_between_backward_and_step_count(make: Any) -> None:
    ps, qs = parameters(), parameters()
    ours, theirs = make(ps), make(qs)
    for _ in range(3):
        for p in ps:
            p.zero_grad()
        loss(ps).backward()
        ps[0].grad = 2 * ps[0].grad
        ps[2].zero_grad()
        ours.step()
        theirs.zero_grad()
        loss(qs).backward()
        qs[0].grad *= 2
        qs[2].grad[...] = 0
        theirs.step()
    for p, q in zip(ps, qs, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@every_optimizer
def test_gradients_accumulate_until_they_are_cleared(make: Any) -> None:
    ps = parameters()
    optimizer = make(ps)
    once = gradients([p.data for p in ps])
    loss(ps).backward()
    loss(ps).backward()
    for p, g in zip(ps, once, strict=True):
        np.testing.assert_allclose(p.grad, 2 * g, rtol=1e-13)
    optimizer.zero_grad()
    assert all(p.grad is None for p in ps)


def test_gradients_from_before_the_optimizer_count() -> None:
    p = mg.Tensor([1.0, 2.0], requires_grad=True)
    np.sum(p * 3).backward()
    SGD([p], lr=1.0).step()
    np.testing.assert_array_equal(p.data, [-2, -1])


def test_a_parameter_without_a_gradient_stays() -> None:
    p, q = mg.Tensor([1.0], requires_grad=True), mg.Tensor([1.0], requires_grad=True)
    for make in OPTIMIZERS[:-1]:
        np.sum(p * 3).backward()
        optimizer = make([p, q], lr=0.1)
        optimizer.step()
        assert q.data == 1
        optimizer.zero_grad()
    assert p.data < 1


def test_two_optimizers_can_share_parameters() -> None:
    ps, expected = parameters(), [p.data.copy() for p in parameters()]
    first, second = SGD(ps, lr=0.01), SGD(ps[::-1], lr=0.02)
    for _ in range(4):
        for optimizer, lr in ((first, 0.01), (second, 0.02)):
            train(ps, optimizer, 1)
            expected = [p - lr * g for p, g in zip(expected, gradients(expected), strict=True)]
    for p, e in zip(ps, expected, strict=True):
        np.testing.assert_allclose(p.data, e, rtol=1e-12)


def test_optimizers_of_different_parts_leave_each_other_alone() -> None:
    ps = parameters()
    before = [p.data.copy() for p in ps]
    first, second = SGD(ps[:2], lr=0.01), SGD(ps[2:], lr=0.01)
    loss(ps).backward()
    first.step()
    assert not np.array_equal(ps[0].data, before[0])
    np.testing.assert_array_equal(ps[2].data, before[2])
    second.step()
    assert not np.array_equal(ps[2].data, before[2])


def test_duplicates_count_once() -> None:
    ps, qs = parameters(), parameters()
    optimizer = SGD([*ps, *ps], lr=0.01)
    train(ps, optimizer, 3)
    assert optimizer.flats[0].data.size == sum(p.size for p in ps)
    train(qs, SGD(iter(qs), lr=0.01), 3)
    for p, q in zip(ps, qs, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@every_optimizer
def test_a_step_between_forward_and_backward_is_noticed(make: Any) -> None:
    ps = parameters()
    optimizer = make(ps)
    train(ps, optimizer, 1)
    value = loss(ps)
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"has been changed since then \(by an optimizer step"):
        value.backward()


@pytest.mark.parametrize("compiled", [False, True])
@every_optimizer
def test_half_precision_moves_as_single_does(make: Any, compiled: bool) -> None:
    """Neither eps nor small squares become 0, and what is remembered is not rounded to half precision."""
    moved = []
    for dtype in (np.float16, np.float32):
        p = mg.Tensor(np.array([1.0, 2.0, 0.5, 8.0], dtype), requires_grad=True)
        optimizer, g = make([p], lr=0.25), np.array([0, 1e-5, 1e-3, 2], np.float16).astype(dtype)

        def step(p: Any = p, optimizer: Any = optimizer, g: Any = g) -> Any:
            optimizer.zero_grad()
            loss = np.sum(p * g)
            loss.backward()
            optimizer.step()
            return loss

        step = mg.compile(step) if compiled else step
        for _ in range(4):
            step()
        assert (p.dtype, p.data.dtype) == (dtype, dtype)
        moved.append(p.data.astype(float))
    np.testing.assert_allclose(*moved, rtol=4e-3)


@every_optimizer
def test_a_diverging_step_is_silent_and_shows(make: Any) -> None:
    p = mg.Tensor(np.array([1e38, 1.0, 1.0], np.float32), requires_grad=True)
    optimizer = make([p], lr=1e38, weight_decay=0.1)
    p.grad = np.array([np.inf, -3e38, 1.0], np.float32)
    optimizer.step()
    optimizer.step()
    assert not np.all(np.isfinite(p.data))


# ------------------------------------------------------------------------------------------------------------ errors


@every_optimizer
def test_optimizers_need_parameters(make: Any) -> None:
    with pytest.raises(ValueError, match=r"got no parameters: give it tensors, such as model.parameters\(\)"):
        make([])


def frozen(*shape: int) -> mg.Tensor:
    parameter = mg.Tensor(np.ones(shape), requires_grad=True)
    parameter.requires_grad = False
    return parameter


@every_optimizer
def test_frozen_parameters_are_passed_over_and_changes_of_mind_are_noticed(make: Any) -> None:
    still, moves = frozen(2), mg.Tensor(np.ones(3), requires_grad=True)
    forms = ([still, moves], [("a", still), ("b", moves)], {"a": still, "b": moves}, [{"params": [still, moves]}])
    for parameters in forms:
        optimizer = make(parameters)
        assert optimizer.parameters == [moves]
        assert not any("a" in name for name in optimizer.state_dict())
        moves.grad = np.ones(3)
        before = moves.data.copy()
        optimizer.step()
        optimizer.zero_grad()
        assert np.all(moves.data < before)
        assert np.all(still.data == 1)
        for parameter, now, how in ((still, True, "thawed"), (moves, False, "frozen")):
            parameter.requires_grad = now
            for each in (optimizer, deepcopy(optimizer)):
                with pytest.raises(RuntimeError, match=rf"of shape .* was {how} after this optimizer was made"):
                    each.step()
            parameter.requires_grad = not now
    with pytest.raises(ValueError, match="got no parameters: all of them are frozen"):
        make([still])
    assert optim.clip_grad_norm([still, moves], 1.0) == 0


LEAF = mg.Tensor([1.0], requires_grad=True)


@every_optimizer
@pytest.mark.parametrize("wrong", [LEAF * 2, mg.Tensor([1.0]), np.ones(2), 3, "weight"], ids=lambda x: type(x).__name__)
def test_optimizers_take_only_leaves(make: Any, wrong: Any) -> None:
    before = LEAF.data
    with pytest.raises(TypeError, match="takes leaf tensors that require a gradient, or a model of them, not"):
        make([LEAF, wrong])
    assert LEAF.data is before


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in (SGD, RMSprop, Adam, AdamW) for name in ("lr", "weight_decay")]
    + [(SGD, "momentum"), (RMSprop, "alpha"), (RMSprop, "eps"), (Adam, "eps"), (Adam, "beta1"), (AdamW, "beta2")],
)
def test_options_out_of_range_are_refused(kind: Any, name: str, value: float) -> None:
    options: dict[str, Any] = {"beta1": {"betas": (value, 0.9)}, "beta2": {"betas": (0.9, value)}}.get(
        name, {name: value}
    )
    with pytest.raises(ValueError, match=f"{name}=.*: it must be at least 0"):
        kind([LEAF], **options)


@pytest.mark.parametrize(("kind", "options"), [(RMSprop, {"alpha": 1.0}), (Adam, {"betas": (1.0, 0.9)})])
def test_averages_that_forget_nothing_are_refused(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="it must be at least 0 and below 1"):
        kind([LEAF], **options)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match=r"give one, such as momentum=0\.9"):
        SGD([LEAF], nesterov=True)


@pytest.mark.parametrize("wrong", ["0.1", None, [0.1], (0.1,), np.array([0.1]), 1j, True, cosine_schedule(0.1, 3)])
@pytest.mark.parametrize(
    "use",
    [
        lambda x: SGD([LEAF], lr=x),
        lambda x: Adam([LEAF], lr=0.1, weight_decay=x),
        lambda x: SGD([LEAF], momentum=x),
        lambda x: RMSprop([LEAF], alpha=x),
        lambda x: Adam([LEAF], betas=(x, 0.9)),
        lambda x: setattr(SGD([LEAF]), "lr", x),
        lambda x: clip_grad_norm([LEAF], x),
        lambda x: step_schedule(x, 3),
        lambda x: exponential_schedule(0.1, x),
        lambda x: cosine_schedule(0.1, 3, x),
        lambda x: one_cycle_schedule(x, 10),
        lambda x: warmup_schedule(x, 0.1),
    ],
)  # fmt: skip
def test_a_number_is_wanted_and_nothing_else(use: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"got \w+=.*; wanted a number"):
        use(wrong)


def test_a_schedule_for_a_rate_is_told_where_to_go() -> None:
    with pytest.raises(TypeError, match=r"got lr=.*, which fit\(schedule=\.\.\.\) asks for one before each step"):
        SGD([LEAF], lr=cosine_schedule(0.1, 3))


@pytest.mark.parametrize("number", [1, np.float32(0.5), np.array(0.5), mg.Tensor(0.5)], ids=lambda x: type(x).__name__)
def test_any_real_number_will_do(number: Any) -> None:
    optimizer = SGD([LEAF], lr=number)
    assert optimizer.lr == float(number)
    optimizer.lr = number
    assert optimizer.lr == float(number)


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_a_rate_out_of_range_is_refused_whenever_it_is_set(value: float) -> None:
    optimizer = SGD([LEAF], lr=0.5)
    with pytest.raises(ValueError, match=r"lr=.*: it must be at least 0, and finite"):
        optimizer.lr = value
    assert optimizer.lr == 0.5


@pytest.mark.parametrize("betas", [0.9, (0.9,), (0.9, 0.99, 0.999), None, "ab"])
def test_there_are_two_betas(betas: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"betas=.*; wanted two numbers, such as|got beta1='a'"):
        Adam([LEAF], betas=betas)


@pytest.mark.parametrize("make", [step_schedule, cosine_schedule, one_cycle_schedule])
@pytest.mark.parametrize(("count", "error"), [(2.5, TypeError), ("3", TypeError), (0, ValueError), (-1, ValueError)])
def test_steps_are_counted(make: Any, count: Any, error: Any) -> None:
    with pytest.raises(error, match=r"(every|steps)=.*(wanted an integer of|it must be) at least 1"):
        make(0.1, count)


@pytest.mark.parametrize(
    "make",
    [
        lambda lr: step_schedule(lr, 2),
        lambda lr: exponential_schedule(lr, 0.5),
        lambda lr: exponential_schedule(0.1, lr),
        lambda lr: cosine_schedule(lr, 2),
        lambda lr: cosine_schedule(0.1, 2, lr),
        lambda lr: warmup_schedule(2, lr),
        lambda lr: one_cycle_schedule(lr, 4),
    ],
)
@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf])
def test_no_schedule_is_made_that_goes_below_zero(make: Any, wrong: float) -> None:
    with pytest.raises(ValueError, match="it must be at least 0, and finite"):
        make(wrong)


def test_nesterov_is_true_or_false() -> None:
    with pytest.raises(TypeError, match="got nesterov='no'; wanted True or False"):
        SGD([LEAF], momentum=0.9, nesterov="no")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- what is to be moved


def model_of(w: mg.Tensor, b: mg.Tensor) -> nn.Module:
    model = nn.Sequential(np.tanh)
    model.w, model.inner = w, {"b": b, "frozen": mg.Tensor(1.0)}  # type: ignore[attr-defined]
    return model


FORMS: dict[str, Any] = {
    "a list": lambda w, b: [w, b],
    "a generator": lambda w, b: (each for each in (w, b)),
    "twice": lambda w, b: [w, b, w],
    "a model": model_of,
    "its parameters": lambda w, b: model_of(w, b).parameters(),
    "named ones": lambda w, b: model_of(w, b).named_parameters(),
    "a dict": lambda w, b: {"w": w, "inner": {"b": b}},
    "an object": lambda w, b: SimpleNamespace(w=w, inner=SimpleNamespace(b=b)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_parameters_may_be_given_in_any_form(form: Any) -> None:
    w, b = with_gradients([3.0], [0.0, 4.0])
    assert clip_grad_norm(form(w, b), 1.0) == 5
    np.testing.assert_allclose(np.concatenate([w.grad, b.grad]), [0.6, 0, 0.8])
    optimizer = SGD(form(w, b), lr=1.0, momentum=0.9)
    assert optimizer.parameters == [w, b]
    names = ["0", "1"] if form in list(FORMS.values())[:3] or form is FORMS["its parameters"] else ["w", "inner.b"]
    assert list(optimizer.state_dict()) == ["lr", "steps", *(f"velocity.{name}" for name in names)]
    optimizer.step()
    np.testing.assert_allclose(np.concatenate([w.data, b.data]), [-0.6, 0, -0.8])


def test_named_parameters_count_once_and_have_names_of_their_own() -> None:
    w, b = with_gradients([3.0], [4.0])
    assert SGD([("w", w), ("b", b), ("again", w)]).names == ["w", "b"]
    with pytest.raises(ValueError, match="two parameters have one name, of w, w"):
        SGD([("w", w), ("w", b)])


def test_a_tensor_alone_is_meant_itself() -> None:
    (w,) = with_gradients([3.0, 4.0])
    assert clip_grad_norm(w, 1.0) == 5
    np.testing.assert_allclose(w.grad, [0.6, 0.8])
    SGD(w, lr=1.0).step()
    np.testing.assert_allclose(w.data, [-0.6, -0.8])


@pytest.mark.parametrize("nothing", [[], {}, (), nn.Sequential(np.tanh), iter([])], ids=lambda x: type(x).__name__)
def test_nothing_is_not_clipped_in_silence(nothing: Any) -> None:
    with pytest.raises(TypeError, match="clip_grad_norm takes a model, a tensor, or tensors, and found none in"):
        clip_grad_norm(nothing, 1.0)
    with pytest.raises(TypeError, match="found none in"):
        clip_grad_norm([nn.Linear(2, 2)], 1.0)


# ------------------------------------------------------------------------------------------------------------- state


def test_a_state_finds_its_parameters_by_their_names() -> None:
    class Pair(nn.Module):
        def __init__(self, *names: str) -> None:
            for name in names:
                setattr(self, name, mg.Tensor(np.zeros(2), requires_grad=True))

    ours, theirs = Pair("a", "b"), Pair("b", "a")
    optimizer, other = Adam(ours), Adam(theirs)
    for p, g in ((ours.a, 1.0), (ours.b, 5.0)):
        p.grad = np.full(2, g)
    optimizer.step()
    other.load_state_dict(optimizer.state_dict())
    assert other.state_dict()["m.a"] == pytest.approx(0.1)
    assert other.state_dict()["m.b"] == pytest.approx(0.5)
    names = ["first", "second"]
    renamed = optimizer.state_dict(names)
    assert list(renamed) == ["lr", "steps", "m.first", "m.second", "v.first", "v.second"]
    Adam([ours.a, ours.b]).load_state_dict(renamed, names)
    with pytest.raises(ValueError, match=r"missing: m\.0"):
        Adam([ours.a, ours.b]).load_state_dict(renamed)


@every_optimizer
@given(before=st.integers(0, 5), after=st.integers(1, 5))
def test_a_restored_optimizer_goes_on_bit_for_bit(make: Any, before: int, after: int) -> None:
    ps = [*parameters(np.float32, 1), *parameters(np.float64, 2)]
    optimizer = make(ps, lr=0.02)
    train(ps, optimizer, before)
    optimizer.lr = 0.03
    state, numbers = optimizer.state_dict(), [p.data.copy() for p in ps]
    kept = {name: np.array(value) for name, value in state.items()}
    train(ps, optimizer, after)
    for name, value in state.items():
        np.testing.assert_array_equal(value, kept[name])  # it was a copy
    qs = [mg.Tensor(array, requires_grad=True) for array in numbers]
    resumed = make(qs, lr=0.5)
    resumed.load_state_dict(kept)
    assert (resumed.lr, resumed.steps) == (0.03, before)
    train(qs, resumed, after)
    for p, q in zip(ps, qs, strict=True):
        assert p.data.tobytes() == q.data.tobytes()


def without_m(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != "m.0"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_m, "missing: m.0"),
        (lambda s: {**s, "velocity.0": s["m.0"]}, "unexpected: velocity.0"),
        (lambda s: {**s, "v.0": s["v.0"][1:]}, r"misshapen: v.0 is \(.+\), and \(.+\) was wanted"),
        (lambda s: {**s, "lr": [0.1]}, r"misshapen: lr is \(1,\)"),
        (lambda s: {**s, "lr": "fast"}, "not a real number: lr"),
        (lambda s: {**s, "steps": 2.5}, "not of dtype int64: steps"),
        (lambda s: {**s, "v.0": s["v.0"].astype(complex)}, "not a real number: v.0"),
        (lambda s: {**s, "v.0": s["v.0"].astype(str)}, "not a real number: v.0"),
        (lambda s: {**s, "v.0": s["v.0"].astype(object)}, "not a real number: v.0"),
        (lambda s: {}, "missing: lr\n  missing: steps\n  missing: m.0\n"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(spoil: Any, message: str) -> None:
    ps = parameters()
    optimizer = Adam(ps, lr=0.5)
    train(ps, optimizer, 2)
    before = optimizer.state_dict()
    other = Adam(parameters(seed=1))
    train(other.flats[0].parameters, other, 3)
    with pytest.raises(ValueError, match=message) as raised:
        optimizer.load_state_dict(spoil(other.state_dict()))
    assert str(raised.value).startswith("this state does not fit Adam:\n")
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": np.nan}, "lr=nan: it must be at least 0, and finite"),
        ({"lr": np.inf}, "lr=inf: it must be at least 0, and finite"),
        ({"lr": -0.1}, "lr=-0.1: it must be at least 0"),
        ({"steps": -9}, "steps=-9: it must be at least 0"),
        ({"steps": np.nan}, "not of dtype int64: steps"),
        ({"steps": 2.5}, "not of dtype int64: steps"),
    ],
)
def test_numbers_that_cannot_be_right_change_nothing(changed: dict[str, Any], message: str) -> None:
    optimizer = Adam(parameters())
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict({**before, "m.0": before["m.0"] + 1, **changed})
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_steps_may_come_as_a_whole_float() -> None:
    optimizer = Adam(parameters())
    optimizer.load_state_dict({**optimizer.state_dict(), "steps": 3.0, "lr": 1})
    assert (optimizer.steps, optimizer.lr) == (3, 1.0)
    assert type(optimizer.steps) is int
    assert type(optimizer.lr) is float


def test_the_state_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="this state does not fit Adam"):
        Adam(parameters()).load_state_dict(SGD(parameters(), momentum=0.9).state_dict())


# ---------------------------------------------------------------------------------------------------------- clipping


def with_gradients(*arrays: Any, dtype: Any = np.float64) -> list[mg.Tensor]:
    tensors = [mg.Tensor(np.zeros(np.shape(a), dtype), requires_grad=True) for a in arrays]
    for tensor, array in zip(tensors, arrays, strict=True):
        tensor.grad = np.array(array, dtype)
    return tensors


@given(st.integers(0, 2**32), st.floats(0, 10), st.sampled_from([np.float64, np.float32]))
def test_clipping_scales_to_the_norm(seed: int, max_norm: float, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    ps = with_gradients(*(rng.normal(size=shape) for shape in SHAPES), dtype=dtype)
    before = [p.grad.copy() for p in ps]
    norm = math.sqrt(sum(float(np.sum(g.astype(float) ** 2)) for g in before))
    tolerance = 100 * float(np.finfo(dtype).eps)
    assert clip_grad_norm(iter(ps), max_norm) == pytest.approx(norm, rel=tolerance)
    for p, g in zip(ps, before, strict=True):
        assert p.grad.dtype == dtype
        if norm <= max_norm:
            np.testing.assert_array_equal(p.grad, g)
        else:
            np.testing.assert_allclose(p.grad, g * (max_norm / norm), rtol=tolerance)


def test_clipping_bounds_the_step() -> None:
    ps = parameters()
    optimizer = SGD(ps, lr=1.0)
    before = [p.data.copy() for p in ps]
    loss(ps).backward()
    clip_grad_norm(ps, 0.01)
    optimizer.step()
    moved = [np.linalg.norm(p.data - b) for p, b in zip(ps, before, strict=True)]
    assert np.linalg.norm(moved) == pytest.approx(0.01)


def test_clipping_passes_over_missing_gradients() -> None:
    ps = [*with_gradients([3.0], [4.0]), mg.Tensor([1.0], requires_grad=True)]
    assert clip_grad_norm(ps, 1.0) == 5
    assert ps[2].grad is None
    assert clip_grad_norm(ps[2:], 1.0) == 0


def test_clipping_zero_gradients_and_to_zero() -> None:
    (p,) = with_gradients([0.0, 0.0])
    assert clip_grad_norm([p], 1.0) == clip_grad_norm([p], 0.0) == 0
    (p,) = with_gradients([1.0, 2.0])
    clip_grad_norm([p], 0.0)
    np.testing.assert_array_equal(p.grad, 0)


def test_clipping_counts_duplicates_once() -> None:
    (p,) = with_gradients([3.0, 4.0])
    assert clip_grad_norm([p, p], 1.0) == 5
    np.testing.assert_allclose(p.grad, [0.6, 0.8])


def test_clipping_takes_exploding_float32_gradients() -> None:
    (p,) = with_gradients([3e30, 4e30], dtype=np.float32)
    assert clip_grad_norm([p], 1.0) == pytest.approx(5e30)
    np.testing.assert_allclose(p.grad, [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize(("bad", "norm"), [(math.inf, math.inf), (-math.inf, math.inf), (math.nan, math.nan)])
def test_clipping_leaves_gradients_that_are_not_finite_alone(bad: float, norm: float) -> None:
    ps = with_gradients([1.0, bad], [2.0])
    np.testing.assert_equal(clip_grad_norm(ps, 0.5), norm)
    np.testing.assert_array_equal(ps[0].grad, [1.0, bad])
    np.testing.assert_array_equal(ps[1].grad, [2.0])


@pytest.mark.parametrize("max_norm", [-1.0, math.nan, math.inf])
def test_clipping_needs_a_norm(max_norm: float) -> None:
    with pytest.raises(ValueError, match=r"max_norm=.*: it must be at least 0, and finite"):
        clip_grad_norm([], max_norm)


# --------------------------------------------------------------------------------------------------------- schedules

rates = st.floats(1e-4, 10)
counts = st.integers(1, 50)


def about(value: float, scale: float = 1.0) -> Any:
    return pytest.approx(value, rel=1e-12, abs=1e-14 * scale)


@given(rates, counts, st.floats(0.1, 1), st.integers(0, 200))
def test_step_schedule(lr: float, every: int, gamma: float, step: int) -> None:
    assert optim.step_schedule(lr, every, gamma)(step) == about(lr * gamma ** math.floor(step / every), lr)
    assert optim.step_schedule(lr, every)(every) == about(lr / 10)


@given(rates, st.floats(0.5, 1), st.integers(0, 200))
def test_exponential_schedule(lr: float, gamma: float, step: int) -> None:
    expected = lr
    for _ in range(step):
        expected *= gamma
    assert optim.exponential_schedule(lr, gamma)(step) == about(expected, lr)


@given(rates, counts, st.floats(0, 1), st.integers(0, 200))
def test_cosine_schedule(lr: float, steps: int, final: float, step: int) -> None:
    schedule = optim.cosine_schedule(lr, steps, final)
    done = min(step, steps) / steps
    assert schedule(step) == about(final + 0.5 * (lr - final) * (1 + math.cos(math.pi * done)), lr)
    assert schedule(0) == about(lr)
    assert schedule(steps) == schedule(steps + 7) == about(final)


@given(counts, rates, st.integers(0, 100))
def test_warmup_schedule(steps: int, lr: float, step: int) -> None:
    assert optim.warmup_schedule(steps, lr)(step) == about(lr * min(1, (step + 1) / steps))
    then = optim.exponential_schedule(lr, 0.9)
    expected = lr * (step + 1) / steps if step < steps else lr * 0.9 ** (step - steps)
    assert optim.warmup_schedule(steps, then)(step) == about(expected, lr)


def one_cycle(max_lr: float, steps: int, rise: float, start: float, final: float, step: int) -> float:
    """PyTorch's OneCycleLR with two phases and cosines."""
    initial = max_lr / start
    lowest = initial / final
    up, down = rise * steps - 1, steps - 1
    anneal = lambda a, b, share: b + (a - b) / 2 * (1 + math.cos(math.pi * share))
    return anneal(initial, max_lr, step / up) if step <= up else anneal(max_lr, lowest, (step - up) / (down - up))


@given(rates, st.integers(10, 60), st.floats(0.15, 0.9), st.floats(2, 50), st.floats(2, 1e5), st.data())
def test_one_cycle_schedule(
    lr: float, steps: int, rise: float, start: float, final: float, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, steps - 1))
    schedule = optim.one_cycle_schedule(lr, steps, rise, start, final)
    assert schedule(step) == about(one_cycle(lr, steps, rise, start, final, step), lr)
    assert schedule(0) == about(lr / start)
    assert schedule(steps - 1) == schedule(steps + 3) == about(lr / start / final, lr)
    assert max(map(schedule, range(steps))) <= lr * (1 + 1e-12)


def test_one_cycle_rises_to_its_peak_and_falls() -> None:
    schedule = optim.one_cycle_schedule(1.0, steps=100)
    values = [schedule(step) for step in range(100)]
    assert values[29] == 1
    assert np.all(np.diff(values[:30]) > 0)
    assert np.all(np.diff(values[29:]) < 0)
    assert values[0] == about(1 / 25)
    assert values[-1] == about(1 / 25 / 1e4)


def test_one_cycle_of_a_single_step_up() -> None:
    assert optim.one_cycle_schedule(1.0, steps=10, rise=0.1)(0) == 1


def test_schedules_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    lr_scheduler = torch.optim.lr_scheduler
    make = lambda: torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    for ours, theirs, steps in [
        (optim.step_schedule(0.5, 7, 0.3), lambda o: lr_scheduler.StepLR(o, 7, 0.3), 40),
        (optim.exponential_schedule(0.5, 0.9), lambda o: lr_scheduler.ExponentialLR(o, 0.9), 40),
        (optim.cosine_schedule(0.5, 30, 0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 30, 0.1), 30),
        (optim.one_cycle_schedule(0.5, 40), lambda o: lr_scheduler.OneCycleLR(o, 0.5, 40), 40),
        (optim.one_cycle_schedule(0.5, 33, 0.4, 10, 100),
         lambda o: lr_scheduler.OneCycleLR(o, 0.5, 33, pct_start=0.4, div_factor=10, final_div_factor=100), 33),
    ]:  # fmt: skip
        optimizer = make()
        scheduler = theirs(optimizer)
        for step in range(steps):
            assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
            optimizer.step()
            if step < steps - 1:
                scheduler.step()


def test_a_schedule_drives_an_optimizer() -> None:
    p = mg.Tensor([1.0], requires_grad=True)
    optimizer, schedule = SGD([p]), optim.step_schedule(1.0, every=1, gamma=0.5)
    for _ in range(3):
        optimizer.lr = schedule(optimizer.steps)
        optimizer.zero_grad()
        np.sum(p).backward()
        optimizer.step()
    assert p.data == 1 - 1 - 0.5 - 0.25


class HeavyBall(Optimizer):
    slots = ("before",)

    def update(self, p: Any, g: Any, before: Any) -> Any:
        return p - self.lr * g, p


def test_an_update_may_return_what_it_was_given_in_another_place() -> None:
    p = mg.Tensor(np.ones(2), requires_grad=True)
    optimizer = HeavyBall([p], lr=0.5)
    p.grad = np.ones(2)
    optimizer.step()
    np.testing.assert_array_equal(p.data, [0.5, 0.5])
    np.testing.assert_array_equal(optimizer.state_dict()["before.0"], [1, 1])


@pytest.mark.parametrize("answer", [lambda p, g: np.sum(p), lambda p, g: (p, p), lambda p, g: p / {}])
def test_an_update_that_goes_wrong_raises_and_counts_no_step(answer: Any) -> None:
    p = mg.Tensor(np.ones(2), requires_grad=True)
    optimizer = type("Wrong", (Optimizer,), {"update": lambda self, p, g: answer(p, g)})([p], lr=0.5)
    p.grad = np.ones(2)
    with pytest.raises((TypeError, ValueError)):
        optimizer.step()
    assert optimizer.steps == 0
    np.testing.assert_array_equal(p.data, [1, 1])


# ------------------------------------------------------------------------------------------------------------- reprs


def test_optimizers_and_schedules_say_what_they_are() -> None:
    parameters = [mg.Tensor([n, 2.0], requires_grad=True) for n in (1.0, 3.0)]
    shown = {
        SGD(parameters, 0.1, momentum=0.9): "SGD(2 parameters, lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)",
        Adam(parameters): "Adam(2 parameters, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)",
        optim.cosine_schedule(1.0, steps=5): "cosine_schedule(lr=1.0, steps=5)",
        optim.step_schedule(1.0, every=2): "step_schedule(lr=1.0, every=2)",
        optim.exponential_schedule(1.0, 0.5): "exponential_schedule(lr=1.0, gamma=0.5)",
        optim.one_cycle_schedule(1.0, 10, rise=0.5): "one_cycle_schedule(max_lr=1.0, steps=10, rise=0.5)",
        optim.warmup_schedule(2, optim.cosine_schedule(1.0, 5)):
            "warmup_schedule(steps=2, then=cosine_schedule(lr=1.0, steps=5))",
    }  # fmt: skip
    for thing, text in shown.items():
        assert repr(thing) == text
    optimizer = next(iter(shown))
    optimizer.lr = 0.5
    assert "lr=0.5" in repr(optimizer)
    assert optim.cosine_schedule.__doc__


# ------------------------------------------------------------------------------------------------ groups of parameters


def pair(dtype: Any = np.float64) -> list[mg.Tensor]:
    rng = np.random.default_rng(0)
    return [mg.Tensor(rng.normal(size=shape).astype(dtype), requires_grad=True) for shape in [(3, 2), (4,)]]


MAKERS: list[Any] = [
    lambda p, **k: optim.SGD(p, **k),
    lambda p, **k: optim.SGD(p, momentum=0.9, nesterov=True, **k),
    lambda p, **k: optim.RMSprop(p, **k),
    lambda p, **k: optim.Adam(p, **k),
    lambda p, **k: optim.AdamW(p, **k),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("form", ["eager", "compiled", "pure"])
def test_a_group_moves_as_under_an_optimizer_of_its_own(make: Any, form: str) -> None:
    a, b = pair()
    c, d = pair()
    together = make([{"params": [a], "lr": 0.03, "weight_decay": 0.2}, {"params": b}], lr=0.01, weight_decay=0.1)
    apart = [make([c], lr=0.03, weight_decay=0.2), make([d], lr=0.01, weight_decay=0.1)]

    def step() -> Any:
        together.zero_grad()
        loss = np.sum(np.sin(a) * 2) + np.sum(b**3)
        loss.backward()
        together.step()
        return loss

    run = step if form == "eager" else mg.compile(step, pure=form == "pure")
    for i in range(4):
        if i == 2:  # as by a schedule: all rates are halved
            together.lr, apart[0].lr, apart[1].lr = 0.005, 0.015, 0.005
        run()
        for p in (c, d):
            p.zero_grad()
        (np.sum(np.sin(c) * 2) + np.sum(d**3)).backward()
        for optimizer in apart:
            optimizer.step()
    np.testing.assert_allclose(a.data, c.data, rtol=1e-12)
    np.testing.assert_allclose(b.data, d.data, rtol=1e-12)


def test_groups_are_kept_by_copies_and_states() -> None:
    a, b = pair()
    optimizer = optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b]}], lr=0.5)
    other = deepcopy(optimizer)
    other.load_state_dict(optimizer.state_dict())
    for p in other.parameters:
        np.sum(p).backward()
    other.step()
    np.testing.assert_allclose(other.parameters[0].data, a.data - 1.0)
    np.testing.assert_allclose(other.parameters[1].data, b.data - 0.5)
    assert [p is q for p, q in zip(optimizer.parameters, (a, b), strict=True)] == [True, True]


def test_a_group_is_whatever_optimizers_take() -> None:
    model, (a, b) = mg.nn.Sequential(mg.nn.Linear(2, 2, rng=0), mg.nn.Linear(2, 1, rng=0)), pair()
    groups = [{"params": model[0]}, {"params": model[1].named_parameters(), "lr": 1.0}, {"params": a}, b]
    optimizer = optim.SGD(iter(groups), lr=0.5, momentum=0.9)
    assert optimizer.names == ["0.weight", "0.bias", "1.weight", "1.bias", "2.0", "3.0"]
    assert optimizer.state_dict().keys() == {"lr", "steps", *(f"velocity.{name}" for name in optimizer.names)}
    alone = optim.SGD({"params": [a, a], "lr": 1.0}, lr=0.5)
    np.sum(a).backward()
    before = a.data.copy()
    alone.step()
    np.testing.assert_allclose(a.data, before - 1.0)


def test_a_zero_in_a_group_is_a_zero() -> None:
    a, b = pair()
    optimizer = optim.SGD([{"params": [a], "weight_decay": 0.0}, {"params": b, "lr": 0.0}], lr=0.5, weight_decay=0.1)
    before = a.data.copy(), b.data.copy()
    optimizer.step()
    np.testing.assert_array_equal(a.data, before[0])
    np.testing.assert_array_equal(b.data, before[1])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (lambda a, b: [{"params": a, "momentum": 0.9}], r"lr or weight_decay; .*\['params', 'momentum'\]"),
        (lambda a, b: [{"lr": 0.9}], r"this one has \['lr'\]"),
        (lambda a, b: [{"params": [a, b]}, {"params": b}], r"the parameter of shape \(4,\) is in two groups"),
        (lambda a, b: [{"params": a, "lr": -1.0}], "lr=-1.0: it must be at least 0"),
        (lambda a, b: [{"params": []}], "got no parameters"),
    ],
)  # fmt: skip
def test_groups_that_cannot_be_meant_are_refused(groups: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optim.SGD(groups(*pair()), lr=0.1)
