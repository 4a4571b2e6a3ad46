"""Convolutions and pooling: against loops written straight from their definitions, and against PyTorch."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import scale

import minigrad as mg
from minigrad import nn
from minigrad.nn import convolution
from minigrad.testing import check_grads

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
TRANSPOSES = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}
POOLS = {
    "max": {1: nn.MaxPool1d, 2: nn.MaxPool2d},
    "avg": {1: nn.AvgPool1d, 2: nn.AvgPool2d},
}
ADAPTIVE = {
    "max": {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d},
    "avg": {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d},
}


# -------------------------------------------------------------------------------------------- loops from definitions


def places(counts: Any, sizes: Any, strides: Any, dilations: Any) -> Iterator[tuple[Any, Any, Any]]:
    """All places of a window, all places in it, and the element that is there."""
    for at in itertools.product(*map(range, counts)):
        for k in itertools.product(*map(range, sizes)):
            yield at, k, tuple(i * s + j * d for i, j, s, d in zip(at, k, strides, dilations, strict=True))


def framed(x: np.ndarray, frame: Any, value: float = 0.0) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), *frame), constant_values=value)


def counts_of(lengths: Any, sizes: Any, strides: Any, dilations: Any) -> list[int]:
    zipped = zip(lengths, sizes, strides, dilations, strict=True)
    return [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zipped]


def convolution_by_loops(x: Any, weight: Any, bias: Any, strides: Any, frame: Any, dilations: Any, groups: int) -> Any:
    x, sizes = framed(x, frame), weight.shape[2:]
    counts, inputs, outputs = counts_of(x.shape[2:], sizes, strides, dilations), weight.shape[1], len(weight) // groups
    answer = np.zeros((len(x), len(weight), *counts))
    for n, o, c in itertools.product(range(len(x)), range(len(weight)), range(inputs)):
        for at, k, element in places(counts, sizes, strides, dilations):
            answer[(n, o, *at)] += x[(n, o // outputs * inputs + c, *element)] * weight[(o, c, *k)]
    return answer + np.reshape(0 if bias is None else bias, (-1,) + (1,) * len(sizes))


def transpose_by_loops(
    x: Any, weight: Any, bias: Any, strides: Any, padding: Any, more: Any, dilations: Any, groups: int
) -> Any:
    sizes, outputs, inputs = weight.shape[2:], weight.shape[1], len(weight) // groups
    zipped = zip(x.shape[2:], sizes, strides, dilations, padding, more, strict=True)
    lengths = [(n - 1) * s + (k - 1) * d + 1 - 2 * p + m for n, k, s, d, p, m in zipped]
    answer = np.zeros((len(x), outputs * groups, *lengths))
    for n, c, o in itertools.product(range(len(x)), range(len(weight)), range(outputs)):
        for at, k, element in places(x.shape[2:], sizes, strides, dilations):
            to = tuple(i - p for i, p in zip(element, padding, strict=True))
            if all(0 <= i < length for i, length in zip(to, lengths, strict=True)):
                answer[(n, c // inputs * outputs + o, *to)] += x[(n, c, *at)] * weight[(c, o, *k)]
    return answer + np.reshape(0 if bias is None else bias, (-1,) + (1,) * len(sizes))


def pool_by_loops(kind: str, x: Any, sizes: Any, strides: Any, frame: Any, dilations: Any) -> Any:
    x = framed(x, frame, -math.inf if kind == "max" else 0.0)
    counts = counts_of(x.shape[2:], sizes, strides, dilations)
    answer = np.full((*x.shape[:2], *counts), -math.inf if kind == "max" else 0.0)
    for n, c in np.ndindex(*x.shape[:2]):
        for at, _, element in places(counts, sizes, strides, dilations):
            seen, old = x[(n, c, *element)], answer[(n, c, *at)]
            answer[(n, c, *at)] = max(old, seen) if kind == "max" else old + seen / math.prod(sizes)
    return answer


# --------------------------------------------------------------------------------------------------- what is drawn


def tuples(draw: st.DrawFn, axes: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(low, high)) for _ in range(axes))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Any, np.ndarray, dict[str, Any]]:
    """A layer, an input that is large enough for it, and its options."""
    axes, groups, seed = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 1, 2])), draw(st.integers(0, 99))
    options: dict[str, Any] = {
        "kernel_size": tuples(draw, axes, 1, 3),
        "stride": tuples(draw, axes, 1, 3),
        "padding": draw(st.sampled_from(["valid", tuples(draw, axes, 0, 2)])),
        "dilation": tuples(draw, axes, 1, 2),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    if draw(st.booleans()):
        options |= {"stride": (1,) * axes, "padding": "same"}
    spans = [(k - 1) * d + 1 for k, d in zip(options["kernel_size"], options["dilation"], strict=True)]
    pads = (0,) * axes if isinstance(options["padding"], str) else options["padding"]
    lengths = [max(1, span - 2 * pad) + draw(st.integers(0, 3)) for span, pad in zip(spans, pads, strict=True)]
    if options["padding"] == "same":
        lengths = [draw(st.integers(1, 4)) for _ in spans]
    channels = [groups * draw(st.integers(1, 2)) for _ in range(2)]
    rng = np.random.default_rng(seed)
    layer = CONVOLUTIONS[axes](*channels, **options, rng=rng, dtype=np.float64)
    return layer, rng.normal(size=(draw(st.integers(0, 2)), channels[0], *lengths)), options


def frame_of(options: dict[str, Any]) -> list[tuple[int, int]]:
    if options["padding"] == "valid":
        return [(0, 0)] * len(options["kernel_size"])
    if options["padding"] != "same":
        return [(n, n) for n in options["padding"]]
    totals = [(k - 1) * d for k, d in zip(options["kernel_size"], options["dilation"], strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def numbers(t: Any) -> Any:
    return None if t is None else t.data


def by_weights(layer: Any) -> Any:
    """The layer as a function of what it is given and of its weights."""

    def f(x: Any, *weights: Any) -> Any:
        names = [name for name in ("weight", "bias") if getattr(layer, name) is not None]
        held = [getattr(layer, name) for name in names]
        for name, weight in zip(names, weights, strict=True):
            setattr(layer, name, weight)
        try:
            return layer(x)
        finally:
            for name, weight in zip(names, held, strict=True):
                setattr(layer, name, weight)

    return f


@pytest.fixture(params=[2**19, 1], ids=["at once", "row by row"])
def cached(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "CACHED", request.param)


# ------------------------------------------------------------------------------------------------------ convolutions


@settings(max_examples=scale(12, 200))
@given(convolutions(), st.sampled_from([2**19, 1]))
def test_convolutions_are_what_loops_compute(case: Any, cached: int) -> None:
    layer, x, options = case
    expected = convolution_by_loops(
        x, layer.weight.data, numbers(layer.bias), options["stride"], frame_of(options), options["dilation"],
        options["groups"],
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "CACHED", cached)
        for given_x in (x, mg.Tensor(x), np.asfortranarray(x)):
            found = layer(given_x)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found.data, expected, atol=1e-12)


@settings(max_examples=scale(3, 60))
@given(convolutions(), st.sampled_from([2**19, 1]))
def test_convolutions_have_right_derivatives(case: Any, cached: int) -> None:
    layer, x, _ = case
    weights = [p.data for p in layer.parameters()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "CACHED", cached)
        check_grads(by_weights(layer), [x, *weights], order=1)
        check_grads(lambda *args: np.square(by_weights(layer)(*args)), [x, *weights], order=scale(1, 2))


@settings(max_examples=scale(8, 150))
@given(st.data())
def test_transposed_convolutions_are_what_loops_compute(data: st.DataObject) -> None:
    draw, axes = data.draw, data.draw(st.sampled_from([1, 2]))
    sizes, strides, dilations, pads = (tuples(draw, axes, low, 3) for low in (1, 1, 1, 0))
    more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True))
    groups, n = draw(st.sampled_from([1, 2])), draw(st.integers(0, 2))
    zipped = zip(sizes, strides, dilations, pads, more, strict=True)
    least = [max(1, math.ceil((2 * p + 1 - m - (k - 1) * d - 1) / s) + 1) for k, s, d, p, m in zipped]
    lengths = [low + draw(st.integers(0, 2)) for low in least]
    rng = np.random.default_rng(0)
    layer = TRANSPOSES[axes](
        2 * groups, groups, sizes, strides, pads, more, groups, draw(st.booleans()), dilations, rng=rng, dtype=float
    )
    x = rng.normal(size=(n, 2 * groups, *lengths))
    expected = transpose_by_loops(
        x, layer.weight.data, numbers(layer.bias), strides, pads, more, dilations, groups
    )  # fmt: skip
    found = layer(mg.Tensor(x))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.data, expected, atol=1e-12)
    if draw(st.booleans()):
        check_grads(by_weights(layer), [x, *(p.data for p in layer.parameters())], order=1)


def test_a_transposed_convolution_is_the_adjoint_of_a_convolution() -> None:
    rng = np.random.default_rng(0)
    forth = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, bias=False, rng=rng, dtype=np.float64)
    back = nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, groups=2, bias=False, dtype=np.float64)
    back.weight.data = forth.weight.data
    x = rng.normal(size=(2, 2, 7, 5))
    y = rng.normal(size=(2, 4, 4, 3))
    assert np.sum(forth(x).data * y) == pytest.approx(float(np.sum(x * back(y).data)))
    back.weight.requires_grad = False
    check_grads(lambda y: np.square(back(y)), [y[:1, :, :2, :2]], order=2)


@pytest.mark.usefixtures("cached")
def test_second_derivatives_of_a_convolution() -> None:
    rng = np.random.default_rng(0)
    layer = nn.Conv2d(2, 2, (2, 1), stride=(1, 2), padding=1, dilation=(2, 1), rng=rng, dtype=np.float64)
    arrays = [rng.normal(size=(1, 2, 3, 2)), *(p.data for p in layer.parameters())]
    check_grads(lambda *args: np.tanh(by_weights(layer)(*args)), arrays, order=2)


def test_one_pixel_and_no_pixel() -> None:
    x = np.full((2, 1, 1, 1), 3.0)
    layer = nn.Conv2d(1, 1, 1, dtype=np.float64)
    np.testing.assert_allclose(layer(x).data, 3 * layer.weight.data + layer.bias.data.reshape(1, 1, 1, 1) + 0 * x)
    assert nn.Conv2d(1, 4, 3, padding=1)(x.astype(np.float32)).shape == (2, 4, 1, 1)
    with pytest.raises(ValueError, match=r"images of \(0, 1\), and with the padding they are smaller than its window"):
        layer(np.zeros((2, 1, 0, 1)))


def test_what_convolutions_hand_on_lies_as_they_like_it() -> None:
    """The batch is last in memory, behind a convolution and behind functions of elements and pools after it."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3))
    x = mg.Tensor(np.ones((8, 1, 12, 12), np.float32), requires_grad=True)
    outputs = []
    for layer in model:
        x = layer(x)
        x.retain_grad()
        outputs.append(x)
        assert np.moveaxis(x.data, 0, -1).flags.c_contiguous, layer
    np.sum(np.square(x)).backward()
    for layer, x in zip(model, outputs, strict=True):  # and so do the gradients
        assert np.moveaxis(x.grad, 0, -1).flags.c_contiguous, layer
        assert x.dtype == x.grad.dtype == np.float32


def test_a_convolution_needs_little_memory() -> None:
    import tracemalloc

    layer = nn.Conv2d(16, 32, 3)
    x = mg.Tensor(np.ones((64, 16, 28, 28), np.float32), requires_grad=True)
    tracemalloc.start()
    with mg.no_grad():
        layer(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        peak < 20e6
    )  # the answer has 5.5 MB and is put together of parts, and a matrix of all windows would have 25 MB


WRONG = [
    (lambda: nn.Conv2d(1, 2, 3)(np.ones((4, 28, 28))), r"Conv2d\(.* \(4, 28, 28\), and \(n, 1, height, width\)"),
    (lambda: nn.Conv2d(3, 2, 3)(np.ones((4, 1, 28, 28))), r"\(4, 1, 28, 28\), and \(n, 3, height, width\) was"),
    (lambda: nn.Conv1d(3, 2, 3)(np.ones((4, 3))), r"shape \(4, 3\), and \(n, 3, length\) was wanted"),
    (lambda: nn.Conv2d(1, 2, 5)(np.ones((4, 1, 4, 9))), r"images of \(4, 9\).*smaller than its window, \(5, 5\)"),
    (lambda: nn.MaxPool2d(3)(np.ones((4, 1, 2, 9))), r"MaxPool2d\(.* \(2, 9\).*smaller than its window, \(3, 3\)"),
    (lambda: nn.AvgPool2d(2)(np.ones((4, 9))), r"shape \(4, 9\), and \(n, channels, height, width\) was wanted"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), "Conv2d: 2 groups do not divide 3 and 4"),
    (lambda: nn.Conv2d(0, 4, 3), "Conv2d got in_channels=0: it must be at least 1"),
    (lambda: nn.Conv2d(1, 4, 0), "kernel_size=0: give an integer from 1 on, or 2 of them"),
    (lambda: nn.Conv2d(1, 4, (3, 3, 3)), r"kernel_size=\(3, 3, 3\): give an integer from 1 on, or 2 of them"),
    (lambda: nn.Conv2d(1, 4, 3, stride=1.5), "stride=1.5: give an integer"),
    (lambda: nn.Conv2d(1, 4, 3, padding=-1), "padding=-1: give an integer from 0 on"),
    (lambda: nn.Conv2d(1, 4, 3, padding="full"), 'takes padding="same"'),
    (lambda: nn.Conv2d(1, 4, 3, 2, padding="same"), 'takes padding="same" \\(with a stride of 1\\)'),
    (lambda: nn.ConvTranspose2d(1, 4, 3, output_padding=1), "output_padding=1 is to be smaller than the stride"),
    (lambda: nn.ConvTranspose2d(1, 4, 3, padding=2)(np.ones((1, 1, 2, 2))), r"leaves nothing of images of \(2, 2\)"),
    (lambda: nn.MaxPool2d(2, padding=2), "a padding of at most half of the window, not 2"),
    (lambda: nn.AdaptiveAvgPool2d(3)(np.ones((1, 1, 9, 7))), r"\(9, 7\), which are to be multiples of \(3, 3\)"),
]  # fmt: skip


@pytest.mark.parametrize(("do", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_fit_is_named(do: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        do()


# ------------------------------------------------------------------------------------------------------------- pools


@settings(max_examples=scale(12, 200))
@given(st.data())
def test_pools_are_what_loops_compute(data: st.DataObject) -> None:
    draw, axes, kind = data.draw, data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from(["max", "avg"]))
    sizes, strides = tuples(draw, axes, 1, 4), tuples(draw, axes, 1, 3)
    pads = tuple(draw(st.integers(0, size // 2)) for size in sizes)
    dilations = tuples(draw, axes, 1, 2) if kind == "max" else (1,) * axes
    options = {"dilation": dilations} if kind == "max" else {}
    layer = POOLS[kind][axes](sizes, None if strides == sizes else strides, pads, **options)
    spans = [(k - 1) * d + 1 for k, d in zip(sizes, dilations, strict=True)]
    lengths = [max(1, span - 2 * pad) + draw(st.integers(0, 3)) for span, pad in zip(spans, pads, strict=True)]
    n, seed = draw(st.integers(0, 2)), draw(st.integers(0, 99))
    shape = (n, 2, *lengths)
    x = np.random.default_rng(seed).permutation(math.prod(shape)).reshape(shape) / 7.0  # no two are equal
    expected = pool_by_loops(kind, x, sizes, strides, [(p, p) for p in pads], dilations)
    for given_x in (x, mg.Tensor(x)):
        found = layer(given_x)
        found = found.data if isinstance(found, mg.Tensor) else found
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-12)
    if draw(st.booleans()) and np.all(np.isfinite(expected)):  # a window of padding alone has -inf
        check_grads(lambda x: np.square(layer(x)), [x], order=1)


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_second_derivatives_of_pools(kind: str) -> None:
    x = np.random.default_rng(0).permutation(24).reshape(1, 1, 6, 4) / 7.0
    check_grads(lambda x: np.tanh(POOLS[kind][2]((3, 2), 2)(x)), [x[:, :, : scale(4, 6)]], order=2)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_adaptive_pools_and_global_ones(kind: str, axes: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 4)[: axes + 2])
    reduce = np.max if kind == "max" else np.mean
    every = tuple(range(2, axes + 2))
    np.testing.assert_allclose(ADAPTIVE[kind][axes](1)(x), reduce(x, axis=every, keepdims=True))
    found = ADAPTIVE[kind][axes]((3, 2)[:axes])(x)
    np.testing.assert_allclose(found, POOLS[kind][axes](2)(x))
    check_grads(ADAPTIVE[kind][axes](1), [x], order=1)


def test_ties_share_the_gradient_of_a_maximum() -> None:
    x = mg.Tensor(np.zeros((1, 1, 4, 4)), requires_grad=True)
    np.sum(nn.MaxPool2d(2)(x)).backward()
    np.testing.assert_array_equal(x.grad, np.full((1, 1, 4, 4), 0.25))


def test_a_padding_is_never_the_largest_and_nan_is_seen() -> None:
    x = np.full((1, 1, 2, 2), -5.0)
    np.testing.assert_array_equal(nn.MaxPool2d(2, 1, 1)(x), np.full((1, 1, 3, 3), -5.0))
    x[0, 0, 1, 1] = np.nan
    assert np.isnan(nn.MaxPool2d(2)(x)).all()
    assert np.isnan(nn.AvgPool2d(2)(x)).all()


# ------------------------------------------------------------------------------------------------------------ PyTorch


def pairs() -> Iterator[tuple[str, dict[str, Any], tuple[int, ...]]]:
    """Layers of the same name and options there and here, and a shape that they take."""
    for kernel, stride, padding in itertools.product([3, (2, 3)], [1, (2, 1)], [0, (1, 0), "same", "valid"]):
        options = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": (1, 2), "groups": 2}
        if padding != "same" or stride == 1:
            yield "Conv2d", {"in_channels": 4, "out_channels": 2, **options}, (2, 4, 6, 7)
    yield "Conv1d", {"in_channels": 3, "out_channels": 2, "kernel_size": 3, "bias": False}, (2, 3, 7)
    options = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 2, "output_padding": 1, "groups": 2}
    yield "ConvTranspose2d", {**options, "padding": 1}, (2, 4, 3, 4)
    yield "ConvTranspose1d", {**options, "dilation": 2}, (2, 4, 3)
    yield "MaxPool2d", {"kernel_size": (3, 2), "stride": 1, "padding": 1, "dilation": (1, 2)}, (2, 3, 5, 6)
    yield "MaxPool1d", {"kernel_size": 2}, (2, 3, 5)
    yield "AvgPool2d", {"kernel_size": (3, 2), "stride": 2, "padding": 1}, (2, 3, 5, 6)
    yield "AdaptiveAvgPool2d", {"output_size": (2, 3)}, (2, 3, 4, 6)
    yield "AdaptiveMaxPool2d", {"output_size": 1}, (2, 3, 4, 6)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_the_same_numbers_as_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    for name, options, shape in pairs():
        with_weights = {"dtype": np.float64, "rng": rng} if "Conv" in name else {}
        layer = getattr(nn, name)(**options, **with_weights)
        other = getattr(torch.nn, name)(**options, **({"dtype": torch.float64} if with_weights else {}))
        state = layer.state_dict()
        assert {key: array.shape for key, array in state.items()} == {
            k: (*t.shape,) for k, t in other.state_dict().items()
        }
        other.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
        x = rng.permutation(math.prod(shape)).reshape(shape) / 50.0
        mine, theirs = mg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, z = layer(mine), other(theirs)
        np.testing.assert_allclose(y.data, z.detach().numpy(), atol=1e-12, err_msg=name)
        g = rng.normal(size=y.shape)
        y.backward(g)
        z.backward(torch.tensor(g))
        np.testing.assert_allclose(mine.grad, theirs.grad.numpy(), atol=1e-12, err_msg=name)
        for key, parameter in layer.named_parameters():
            np.testing.assert_allclose(
                parameter.grad, dict(other.named_parameters())[key].grad.numpy(), atol=1e-11, err_msg=f"{name} {key}"
            )


def test_convolutions_are_drawn_as_in_pytorch() -> None:
    for layer, fan_in in [(nn.Conv2d(8, 16, 3, groups=2), 4 * 9), (nn.ConvTranspose2d(8, 16, 3, groups=2), 8 * 9)]:
        bound = 1 / math.sqrt(fan_in)
        for p in layer.parameters():
            assert 0.6 * bound < np.max(np.abs(p.data)) <= bound
        assert layer.weight.dtype == np.float32
