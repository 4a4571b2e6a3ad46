"""Normalizations: against their definitions and PyTorch; and running statistics, eager and as programs."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import scale, some

import minigrad as mg
from minigrad import nn, optim
from minigrad.testing import check_grads


def normal(x: np.ndarray, axes: tuple[int, ...], eps: float = 1e-5) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def by_group(x: np.ndarray, groups: int) -> np.ndarray:
    answer = np.empty_like(x)
    for n in range(len(x)):
        for part in np.split(np.arange(x.shape[1]), groups):
            answer[n, part] = normal(x[n, part], tuple(range(x.ndim - 1)))
    return answer


LAYERS: list[tuple[Callable[[], Any], tuple[int, ...], Callable[[np.ndarray], np.ndarray]]] = [
    (lambda: nn.BatchNorm1d(3, dtype=np.float64), (4, 3), lambda x: normal(x, (0,))),
    (lambda: nn.BatchNorm1d(3, dtype=np.float64), (4, 3, 2), lambda x: normal(x, (0, 2))),
    (lambda: nn.BatchNorm2d(3, 0.1, dtype=np.float64), (2, 3, 2, 2), lambda x: normal(x, (0, 2, 3), 0.1)),
    (lambda: nn.GroupNorm(2, 4, dtype=np.float64), (2, 4, 3), lambda x: by_group(x, 2)),
    (lambda: nn.GroupNorm(1, 4, dtype=np.float64), (2, 4, 2, 2), lambda x: by_group(x, 1)),
    (lambda: nn.GroupNorm(4, 4, dtype=np.float64), (2, 4, 3), lambda x: by_group(x, 4)),
    (lambda: nn.LayerNorm(3, dtype=np.float64), (2, 4, 3), lambda x: normal(x, (-1,))),
    (lambda: nn.LayerNorm((4, 3), dtype=np.float64), (2, 4, 3), lambda x: normal(x, (-2, -1))),
    (
        lambda: nn.RMSNorm(3, 0.1, dtype=np.float64),
        (2, 4, 3),
        lambda x: x / np.sqrt(np.mean(x * x, -1, keepdims=True) + 0.1),
    ),
]
layers = pytest.mark.parametrize(("make", "shape", "formula"), LAYERS, ids=lambda value: "")


def spread(layer: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The weight and the bias of a layer along the axes that they belong to."""
    weight, bias = layer.weight.data, 0 if layer.bias is None else layer.bias.data
    if isinstance(layer, nn.LayerNorm):
        return y * weight + bias
    shape = (-1,) + (1,) * (x.ndim - 2)
    return y * weight.reshape(shape) + bias.reshape(shape)


@layers
@pytest.mark.parametrize("order", ["C", "F"])
def test_normalizations_follow_their_formulas(make: Any, shape: Any, formula: Any, order: Any) -> None:
    rng, layer = np.random.default_rng(0), make()
    x = rng.normal(2, 3, shape).copy(order)
    np.testing.assert_allclose(layer(x).data, formula(x), atol=1e-12)
    for parameter in layer.parameters():
        parameter.data = rng.normal(size=parameter.shape)
    np.testing.assert_allclose(layer(x).data, spread(layer, x, formula(x)), atol=1e-12)


@layers
def test_normalizations_have_right_derivatives(make: Any, shape: Any, formula: Any) -> None:
    rng, layer = np.random.default_rng(0), make()
    names = [name for name, _ in layer.named_parameters()]

    def f(x: Any, *weights: Any) -> Any:
        for name, weight in zip(names, weights, strict=True):
            setattr(layer, name, weight)
        return np.square(layer(x))

    check_grads(f, [rng.normal(size=shape), *(rng.normal(size=p.shape) for p in layer.parameters())], scale(1, 2))


@layers
def test_normalizations_keep_float32_and_take_no_samples(make: Any, shape: Any, formula: Any) -> None:
    layer = make()
    for p in layer.parameters():
        p.requires_grad = False
    empty = np.zeros((0, *shape[1:]))
    before = layer.state_dict()
    assert layer(empty).shape == empty.shape
    assert all(np.array_equal(before[name], array) for name, array in layer.state_dict().items())
    layer = type(layer)(*((2, 4) if isinstance(layer, nn.GroupNorm) else (shape[1] if "Batch" in repr(layer) else 3,)))
    x = mg.Tensor(np.ones(shape, np.float32), requires_grad=True)
    y = layer(x)
    np.sum(y).backward()
    assert y.dtype == x.grad.dtype == layer.weight.grad.dtype == np.float32
    assert all(array.dtype == np.float32 for name, array in layer.state_dict().items() if "num" not in name)


# ---------------------------------------------------------------------------------------------- running statistics


@given(st.integers(1, 4), st.sampled_from([0.1, 0.5, 1.0, None]))
def test_running_statistics_follow_the_batches(batches: int, momentum: float | None) -> None:
    rng, layer = np.random.default_rng(0), nn.BatchNorm2d(2, momentum=momentum, dtype=np.float64)
    mean, var = np.zeros(2), np.ones(2)
    for i in range(batches):
        x = rng.normal(3, 2, (4, 2, 3, 3))
        layer(x)
        share = 1 / (i + 1) if momentum is None else momentum
        mean = (1 - share) * mean + share * x.mean((0, 2, 3))
        var = (1 - share) * var + share * x.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_mean.data, mean)
    np.testing.assert_allclose(layer.running_var.data, var)
    assert layer.num_batches_tracked.item() == batches
    before = layer.state_dict()
    x = rng.normal(size=(1, 2, 1, 1))
    expected = (x - mean.reshape(2, 1, 1)) / np.sqrt(var.reshape(2, 1, 1) + 1e-5)
    np.testing.assert_allclose(layer.eval()(x).data, expected)
    assert all(np.array_equal(before[name], array) for name, array in layer.state_dict().items())


def test_statistics_are_state_and_no_parameters() -> None:
    layer = nn.BatchNorm1d(2)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert [*layer.state_dict()] == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    layer(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
    other = nn.BatchNorm1d(2)
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other.running_mean.data, layer.running_mean.data)
    same = copy.deepcopy(layer)
    same(np.zeros((2, 2), np.float32))
    assert layer.num_batches_tracked.item() == 1
    bare = nn.BatchNorm1d(2, affine=False, track_running_stats=False)
    assert not bare.state_dict()
    np.testing.assert_allclose(bare.eval()(np.array([[1.0], [3.0]]) * [1, 1]), [[-1, -1], [1, 1]], atol=1e-4)


def test_statistics_have_no_history() -> None:
    layer = nn.BatchNorm1d(2)
    x = mg.Tensor(np.ones((3, 2), np.float32), requires_grad=True)
    layer(x)
    assert layer.running_mean.function is None
    assert not layer.running_mean.requires_grad


WRONG = [
    (lambda: nn.BatchNorm2d(3)(np.ones((2, 3, 4))), r"BatchNorm2d\(.* shape \(2, 3, 4\), and \(n, 3, height, width\)"),
    (lambda: nn.BatchNorm1d(3)(np.ones((2, 4))), r"shape \(2, 4\), and \(n, 3\) or \(n, 3, length\) was wanted"),
    (
        lambda: nn.BatchNorm1d(3)(np.ones((1, 3))),
        r"one number for each channel, \(1, 3\), of which the variance is unk",
    ),
    (lambda: nn.GroupNorm(2, 4)(np.ones((2, 3))), r"shape \(2, 3\), and \(n, 4, \.\.\.\) was wanted"),
    (lambda: nn.GroupNorm(3, 4), "groups are to divide the number of channels"),
    (lambda: nn.LayerNorm((2, 3))(np.ones((4, 3))), r"shape \(4, 3\), and \(\.\.\., 2, 3\) was wanted"),
    (lambda: nn.LayerNorm(3)(np.ones((4, 2))), r"shape \(4, 2\), and \(\.\.\., 3\) was wanted"),
    (lambda: nn.LayerNorm(()), "LayerNorm takes the lengths of the last axes"),
    (lambda: nn.RMSNorm(0), "RMSNorm takes the lengths of the last axes"),
]


@pytest.mark.parametrize(("do", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_fit_is_named(do: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        do()


# ------------------------------------------------------------------------------------------------------ as programs


def network() -> Any:
    how = {"rng": np.random.default_rng(0), "dtype": np.float64}
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False, **how), nn.BatchNorm2d(3, dtype=np.float64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(27, 4, bias=False, **how), nn.BatchNorm1d(4, momentum=None, dtype=np.float64),
        nn.Linear(4, 2, **how),
    )  # fmt: skip


def once(model: Any, optimizer: Any, wrap: Any) -> Callable[[Any, Any], Any]:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return wrap(step)  # type: ignore[no-any-return]


def accumulating(model: Any, optimizer: Any, wrap: Any) -> Callable[[Any, Any], Any]:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        for part in (slice(0, 3), slice(3, 8)):
            loss = nn.cross_entropy(model(x[part]), y[part])
            loss.backward()
        optimizer.step()
        return loss

    return wrap(step)  # type: ignore[no-any-return]


def two_passes(model: Any, optimizer: Any, wrap: Any) -> Callable[[Any, Any], Any]:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y) + nn.mse_loss(model(x * 2 + 1), model(x * 3))
        loss.backward()
        optimizer.step()
        return loss

    return wrap(step)  # type: ignore[no-any-return]


def accumulating_over_calls(model: Any, optimizer: Any, wrap: Any) -> Callable[[Any, Any], Any]:
    def backward(x: Any, y: Any) -> Any:
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        return loss

    backward = wrap(backward)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        losses = [backward(x[part], y[part]) for part in (slice(0, 3), slice(3, 6), slice(6, 8))]
        optimizer.step()
        return losses[-1]

    return step


FORMS = [once, accumulating, accumulating_over_calls, two_passes]


@pytest.mark.parametrize(("form", "pure"), some([*itertools.product(FORMS, [False, True])], 3))
def test_running_statistics_of_whole_compiled_steps_equal_eager_ones(form: Any, pure: bool) -> None:
    rng, states = np.random.default_rng(1), []
    batches = [(rng.normal(size=(8, 1, 8, 8)), rng.integers(2, size=8)) for _ in range(3)]
    for wrap in (lambda step: step, lambda step: mg.compile(step, pure=pure)):
        model = network()
        step = form(model, optim.Adam(model.parameters(), lr=0.01), wrap)
        losses = [step(x, y).item() for x, y in batches]
        before = model.state_dict()
        with mg.no_grad():
            model.eval()
            out = mg.compile(model)(batches[0][0]) if wrap(len) is not len else model(batches[0][0])
        assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())
        states.append({**before, "losses": np.array(losses), "out": out.data})
    for name, array in states[0].items():
        np.testing.assert_allclose(states[1][name], array, rtol=1e-8, atol=1e-10, err_msg=name)
    passes = {once: 1, accumulating: 2, accumulating_over_calls: 3, two_passes: 3}
    assert states[0]["1.num_batches_tracked"] == 3 * passes[form]


@pytest.mark.parametrize("passes", [1, 2])
def test_running_statistics_under_fit_equal_eager_ones(passes: int) -> None:
    rng, states = np.random.default_rng(1), []
    data = rng.normal(size=(20, 1, 8, 8)), rng.integers(2, size=20)
    for compiled in (False, True, "pure"):
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.05)
        twice = lambda x, model=model: model(x) + model(2 * x + 1)
        options: Any = {"epochs": 2, "batch_size": 8, "seed": 0, "progress": False, "compile": compiled}
        mg.fit(model if passes == 1 else twice, nn.cross_entropy, optimizer, data, **options)
        states.append(model.state_dict())
    for state in states[1:]:
        for name, array in states[0].items():
            np.testing.assert_allclose(state[name], array, rtol=1e-8, atol=1e-10, err_msg=name)
    assert states[0]["1.num_batches_tracked"] == 6 * passes


def test_the_same_numbers_as_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    for name, args, shape in [
        ("BatchNorm1d", (3,), (4, 3)),
        ("BatchNorm1d", (3, 1e-3, 0.3), (4, 3, 5)),
        ("BatchNorm2d", (3, 1e-5, None), (4, 3, 2, 2)),
        ("GroupNorm", (2, 4), (3, 4, 2)),
        ("LayerNorm", ((4, 2),), (3, 4, 2)),
        ("RMSNorm", (4,), (3, 4)),
    ]:
        layer, other = getattr(nn, name)(*args, dtype=np.float64), getattr(torch.nn, name)(*args, dtype=torch.float64)
        for parameter in layer.parameters():
            parameter.data = rng.normal(size=parameter.shape)
        other.load_state_dict({key: torch.tensor(array) for key, array in layer.state_dict().items()})
        for _ in range(2):
            x = rng.normal(1, 2, shape)
            mine, theirs = mg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
            y, z = layer(mine), other(theirs)
            np.testing.assert_allclose(y.data, z.detach().numpy(), atol=1e-12, err_msg=name)
            g = rng.normal(size=shape)
            y.backward(g)
            z.backward(torch.tensor(g))
            np.testing.assert_allclose(mine.grad, theirs.grad.numpy(), atol=1e-12, err_msg=name)
        for key, tensor in other.state_dict().items():
            np.testing.assert_allclose(layer.state_dict()[key], tensor.numpy(), atol=1e-12, err_msg=f"{name} {key}")
        np.testing.assert_allclose(layer.eval()(x).data, other.eval()(torch.tensor(x)).detach().numpy(), atol=1e-12)
