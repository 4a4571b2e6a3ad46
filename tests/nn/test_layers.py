"""Layers: the affine map, dropout, flattening and sequences."""

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

import minigrad as mg
from minigrad import nn
from minigrad.testing import check_grads

seeds = st.integers(0, 2**32)


# ------------------------------------------------------------------------------------------------------------ Linear


@given(
    nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    st.integers(1, 5),
    st.integers(1, 5),
    st.booleans(),
)
def test_linear_is_an_affine_map(batch: tuple[int, ...], n: int, m: int, bias: bool) -> None:
    rng = np.random.default_rng(0)
    layer = nn.Linear(n, m, bias, rng=rng, dtype=np.float64)
    x = rng.normal(size=(*batch, n))
    expected = np.einsum("...i,oi->...o", x, layer.weight.data) + (layer.bias.data if layer.bias is not None else 0)
    found = layer(x)
    assert found.shape == (*batch, m)
    np.testing.assert_allclose(found.data, expected, atol=1e-13)
    np.testing.assert_array_equal(layer(mg.Tensor(x)).data, found.data)


def test_linear_has_right_derivatives() -> None:
    rng = np.random.default_rng(0)

    def f(x: Any, weight: Any, bias: Any) -> Any:
        layer = nn.Linear(3, 2)
        layer.weight, layer.bias = weight, bias
        return np.tanh(layer(x))

    check_grads(f, [rng.normal(size=(4, 3)), rng.normal(size=(2, 3)), rng.normal(size=2)], order=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear_parameters(dtype: Any) -> None:
    layer = nn.Linear(300, 200, rng=np.random.default_rng(0), dtype=dtype)
    assert [(name, p.shape, p.dtype) for name, p in layer.named_parameters()] == [
        ("weight", (200, 300), dtype),
        ("bias", (200,), dtype),
    ]
    bound = 1 / math.sqrt(300)
    for p in layer.parameters():
        assert np.max(np.abs(p.data)) <= bound * (1 + 1e-6)
        assert np.max(np.abs(p.data)) > 0.95 * bound
        assert abs(np.mean(p.data)) < 5 * bound / math.sqrt(3 * p.size)
    assert len(nn.Linear(3, 2, bias=False).parameters()) == 1
    assert nn.Linear(3, 2).weight.dtype == np.float32


def test_linear_is_drawn_by_its_generator() -> None:
    draw = lambda seed: nn.Linear(3, 2, rng=np.random.default_rng(seed)).state_dict()
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(draw(1)[name], draw(1)[name])
        assert not np.array_equal(draw(1)[name], draw(2)[name])
    assert not np.array_equal(nn.Linear(3, 2).weight.data, nn.Linear(3, 2).weight.data)


def test_linear_keeps_float32() -> None:
    layer = nn.Linear(3, 2)
    x = mg.Tensor(np.ones((4, 3), np.float32), requires_grad=True)
    y = layer(x)
    np.sum(y).backward()
    assert y.dtype == x.grad.dtype == layer.weight.grad.dtype == layer.bias.grad.dtype == np.float32


@pytest.mark.parametrize("layers", [[], [nn.Flatten()]])
def test_models_take_nested_lists(layers: list[Any]) -> None:
    model = nn.Sequential(*layers, nn.Linear(2, 3))
    x = [[1.0, 2.0], [3.0, 4.0]]
    np.testing.assert_array_equal(model(x).data, model(np.array(x)).data)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4), (3, 2), (3, 0)])
def test_linear_says_what_shape_it_wants(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"Linear\(3, 2\) got an input of shape .* its last axis must be 3 long"
    ) as raised:
        nn.Linear(3, 2)(np.ones(shape))
    assert str(shape) in str(raised.value)


@pytest.mark.parametrize("features", [(0, 2), (2, 0), (-1, 2)])
def test_linear_needs_features(features: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"Linear got (in|out)_features=-?\d: it must be at least 1"):
        nn.Linear(*features)


# -------------------------------------------------------------------------------------------------------- Sequential


def test_sequential_calls_its_layers_in_order() -> None:
    model = nn.Sequential(lambda x: x + 1, np.sqrt, nn.Flatten())
    np.testing.assert_array_equal(model(np.full((2, 2, 1), 3.0)), np.full((2, 2), 2.0))
    x = np.ones(3)
    assert nn.Sequential()(x) is x


def test_sequential_takes_plain_functions() -> None:
    model = nn.Sequential(nn.Linear(2, 3), np.tanh)
    x = np.ones((4, 2), np.float32)
    np.testing.assert_array_equal(model(x).data, np.tanh(model[0](x).data))


def test_sequential_is_a_list() -> None:
    first, last = nn.Linear(2, 3), nn.Linear(3, 1)
    model = nn.Sequential(first, np.tanh)
    model.append(last)
    assert isinstance(model, list)
    assert len(model) == 3
    assert model[0] is first
    assert model[-1] is last
    assert list(model) == [first, np.tanh, last]
    assert model(np.ones((5, 2))).shape == (5, 1)
    model[1] = nn.ReLU()
    assert repr(model[1]) == "ReLU()"
    model.insert(0, nn.Flatten())
    assert len(model.parameters()) == 4
    del model[-1]
    assert len(model.parameters()) == 2
    assert {model: "models can be keys"}[model]


def test_a_slice_of_a_sequential_is_one_that_shares_its_layers() -> None:
    model = nn.Sequential(nn.Linear(2, 3), np.tanh, nn.Linear(3, 1))
    body = model[:-1]
    assert type(body) is nn.Sequential
    assert body[0] is model[0]
    assert body(np.ones((5, 2))).shape == (5, 3)
    assert model[::2].parameters() == model.parameters()


@pytest.mark.parametrize("layer", [3, "tanh", None, [nn.Tanh()], np.ones(2)])
def test_sequential_takes_only_what_can_be_called(layer: Any) -> None:
    with pytest.raises(TypeError, match="Sequential takes layers and functions, one after the other, not"):
        nn.Sequential(nn.Tanh(), layer)


# ---------------------------------------------------------------------------------------------------------- Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_keeps_the_mean(p: float, dtype: Any) -> None:
    n = 100_000
    y = nn.Dropout(p, rng=np.random.default_rng(0))(np.ones(n, dtype))
    assert y.dtype == dtype
    assert set(np.unique(y)) == {0, dtype(1) / dtype(1 - p)}
    deviation = math.sqrt(p * (1 - p) / n)
    assert abs(np.mean(y == 0) - p) < 5 * deviation
    assert abs(np.mean(y) - 1) < 5 * deviation / (1 - p)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float16])
def test_dropout_of_any_numbers(dtype: Any) -> None:
    x = np.full(1000, 200).astype(dtype)
    y = nn.Dropout(0.1, rng=np.random.default_rng(0))(x)
    assert y.dtype == (np.float16 if dtype is np.float16 else np.float64)
    np.testing.assert_allclose(np.unique(y), [0, x[0] / 0.9], rtol=1e-3)


def test_dropout_passes_the_gradient_of_what_it_kept() -> None:
    x = mg.Tensor(np.ones((20, 5), np.float32), requires_grad=True)
    y = nn.Dropout(0.5, rng=np.random.default_rng(0))(x)
    np.sum(y).backward()
    np.testing.assert_array_equal(x.grad, y.data)
    assert x.grad.dtype == np.float32
    assert 0 < np.mean(y.data == 0) < 1


def test_dropout_is_the_input_itself_in_evaluation() -> None:
    x = np.ones(5)
    assert nn.Dropout(0.5).eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    model = nn.Sequential(nn.Dropout(0.5), nn.Flatten()).eval()
    np.testing.assert_array_equal(model(np.ones((2, 3))), np.ones((2, 3)))


def test_dropout_is_drawn_by_its_generator() -> None:
    draw = lambda seed: nn.Dropout(0.5, rng=np.random.default_rng(seed))(np.ones(100))
    np.testing.assert_array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))
    layer = nn.Dropout(0.5, rng=np.random.default_rng(1))
    assert not np.array_equal(layer(np.ones(100)), layer(np.ones(100)))
    np.testing.assert_array_equal(layer(np.ones((0, 3))), np.ones((0, 3)))


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, math.nan])
def test_dropout_needs_a_probability(p: float) -> None:
    with pytest.raises(ValueError, match="the probability of a zero must be at least 0 and below 1"):
        nn.Dropout(p)


# ---------------------------------------------------------------------------------------------------------- Flatten


@given(nps.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
def test_flatten_keeps_the_first_axis(shape: tuple[int, ...]) -> None:
    x = np.arange(math.prod(shape)).reshape(shape)
    for found in (nn.Flatten()(x), nn.Flatten()(mg.Tensor(x)).data):
        assert found.shape == (shape[0], math.prod(shape[1:]))
        np.testing.assert_array_equal(found.ravel(), x.ravel())


def test_a_batch_of_nothing_goes_through_a_model() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.GELU(), nn.Dropout(), nn.Linear(4, 2), nn.Softmax())
    y = model(np.zeros((0, 2, 3), np.float32))
    assert y.shape == (0, 2)
    np.sum(y).backward()
    assert all(np.all(p.grad == 0) for p in model.parameters())


# ------------------------------------------------------------------------------------------- activations as layers


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (nn.Tanh(), nn.tanh),
        (nn.Sigmoid(), nn.sigmoid),
        (nn.ReLU(), nn.relu),
        (nn.LeakyReLU(), nn.leaky_relu),
        (nn.LeakyReLU(0.2), lambda x: nn.leaky_relu(x, 0.2)),
        (nn.Softplus(), nn.softplus),
        (nn.GELU(), nn.gelu),
        (nn.ELU(0.5), lambda x: nn.elu(x, 0.5)),
        (nn.SELU(), nn.selu),
        (nn.SiLU(), nn.silu),
        (nn.Mish(), nn.mish),
        (nn.Hardtanh(-2.0, 3.0), lambda x: nn.hardtanh(x, -2.0, 3.0)),
        (nn.Softmax(), nn.softmax),
        (nn.Softmax(axis=0), lambda x: nn.softmax(x, 0)),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Module) else "",
)
@given(seed=seeds)
def test_activation_layers_are_their_functions(layer: Any, function: Any, seed: int) -> None:
    x = np.random.default_rng(seed).normal(0, 5, (3, 4))
    np.testing.assert_array_equal(layer(x), function(x))
    assert isinstance(layer(mg.Tensor(x)), mg.Tensor)
    assert layer.parameters() == []


# ------------------------------------------------------------------------------------- Residual, Embedding and PReLU


def test_residual_adds_its_input() -> None:
    layer = nn.Residual(nn.Linear(3, 4, dtype=np.float64), np.tanh, nn.Linear(4, 3, dtype=np.float64))
    x = np.random.default_rng(0).normal(size=(2, 3))
    np.testing.assert_array_equal(layer(x).data, x + layer.layers(x).data)
    assert next(name for name, _ in layer.named_parameters()) == "layers.0.weight"
    with pytest.raises(ValueError, match=r"(?s)Residual\(.*made \(2, 4\) of \(2, 3\), and the two are to be added"):
        nn.Residual(nn.Linear(3, 4))(x)


@given(nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), st.sampled_from([np.int64, np.uint8]))
def test_embedding_takes_rows_and_gives_them_their_gradients(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    layer = nn.Embedding(5, 3, rng=rng, dtype=np.float64)
    indices = np.asarray(rng.integers(5, size=shape)).astype(dtype)
    out, g = layer(indices), rng.normal(size=(*shape, 3))
    np.testing.assert_array_equal(out.data, layer.weight.data[indices])
    out.backward(g)
    expected = np.zeros((5, 3))
    for place in np.ndindex(*shape):
        expected[indices[place]] += g[place]
    np.testing.assert_allclose(layer.weight.grad, expected, atol=1e-14)


def test_embedding_has_right_derivatives_and_refuses_other_indices() -> None:
    layer, indices = nn.Embedding(4, 2), np.array([[0, 3], [3, 1]])

    def f(weight: Any) -> Any:
        layer.weight = weight
        return np.square(layer(indices))

    check_grads(f, [np.random.default_rng(0).normal(size=(4, 2))], order=2)
    layer = nn.Embedding(4, 2)
    for wrong in ([-1, 2], [0, 4]):
        for form in (layer, mg.compile(layer)):
            with pytest.raises(ValueError, match=f"Embedding got indices from {min(wrong)} to {max(wrong)} for 4 rows"):
                form(np.array(wrong))
    with pytest.raises(TypeError, match=r"Embedding\(4, 2\) takes integers, not float64"):
        layer(np.array([1.0]))
    with pytest.raises(ValueError, match="Embedding got embedding_dim=0: it must be at least 1"):
        nn.Embedding(4, 0)
    assert abs(np.std(nn.Embedding(300, 100).weight.data) - 1) < 0.02


def test_prelu_learns_its_slopes() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 1, (2, 3, 2)) * rng.choice([-1, 1], (2, 3, 2))
    one, each = nn.PReLU(dtype=np.float64), nn.PReLU(3, init=0.5, dtype=np.float64)
    np.testing.assert_allclose(one(x).data, np.where(x > 0, x, 0.25 * x))
    each.weight.data = np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(each(x).data, np.where(x > 0, x, np.array([[0.1], [0.2], [0.3]]) * x))
    np.testing.assert_allclose(each(x[..., 0]).data, np.where(x > 0, x, np.array([[0.1], [0.2], [0.3]]) * x)[..., 0])

    def f(x: Any, weight: Any) -> Any:
        each.weight = weight
        return each(x)

    check_grads(f, [x, np.array([0.1, -0.2, 0.3])], order=2)
    with pytest.raises(ValueError, match=r"PReLU\(.*shape \(2, 4\), and \(n, 3, \.\.\.\) was wanted"):
        nn.PReLU(3)(np.ones((2, 4)))


def test_the_familiar_names() -> None:
    class Familiar(nn.Module):
        def __init__(self) -> None:
            self.scale, self.steps = nn.Parameter(np.ones(2)), nn.Buffer(np.zeros(3))
            self.layers = nn.ModuleList([nn.Linear(2, 2)])
            self.heads = nn.ModuleDict({"a": nn.Linear(2, 1)})

    model = Familiar()
    names = ["scale", "layers.0.weight", "layers.0.bias", "heads.a.weight", "heads.a.bias"]
    assert [name for name, _ in model.named_parameters()] == names
    assert [*model.state_dict()] == ["scale", "steps", *names[1:]]


LAYERS: list[tuple[Any, tuple[int, ...], Any]] = [
    (lambda rng: nn.Conv1d(2, 3, 2, rng=rng), (4, 2, 5), None),
    (lambda rng: nn.Conv2d(2, 4, 3, padding="same", groups=2, rng=rng), (4, 2, 5, 3), None),
    (lambda rng: nn.ConvTranspose2d(2, 3, 3, 2, rng=rng), (4, 2, 3, 3), None),
    (lambda rng: nn.Sequential(nn.Conv2d(1, 2, 3, rng=rng), nn.MaxPool2d(2), nn.AvgPool2d(2)), (4, 1, 6, 6), None),
    (lambda rng: nn.Sequential(nn.AvgPool1d(2), nn.BatchNorm1d(3)), (4, 3, 4), None),
    (lambda rng: nn.Sequential(nn.GroupNorm(2, 4), nn.LayerNorm(3), nn.RMSNorm(3), nn.PReLU(4)), (2, 4, 3), None),
    (lambda rng: nn.Embedding(5, 3, rng=rng), (4, 2), 5),
    (lambda rng: nn.GRU(3, 2, 2, rng=rng), (4, 2, 3), None),
    (lambda rng: nn.LSTMCell(3, 2, rng=rng), (4, 3), None),
    (lambda rng: nn.TransformerBlock(4, 2, activation=nn.silu, rng=rng), (2, 3, 4), None),
    (lambda rng: nn.Residual(nn.Linear(3, 3, rng=rng), nn.Mish()), (2, 3), None),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "classes"), LAYERS, ids=lambda value: "")
def test_layers_are_compiled_saved_loaded_copied_and_summed_up(
    make: Any, shape: tuple[int, ...], classes: int | None, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    layer, other = make(np.random.default_rng(1)), make(np.random.default_rng(2))
    x = rng.normal(size=shape).astype(np.float32) if classes is None else rng.integers(classes, size=shape)

    def run(f: Any, model: Any) -> list[np.ndarray]:
        """The first output, and the gradients of a loss."""
        model.zero_grad()
        out = f(x)
        while isinstance(out, tuple):
            out = out[0]
        np.sum(np.square(out)).backward()
        return [out.data, *(p.grad for p in model.parameters())]

    for mode in (layer.train, layer.eval):
        mode()
        expected = run(layer, layer)
        for found, wanted in zip(run(mg.compile(layer), layer), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    layer.save(tmp_path / "layer.npz")
    other.eval().load(tmp_path / "layer.npz")
    for model in (
        other,
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(other)) if "silu" not in repr(other) else other,
    ):
        for found, wanted in zip(run(model, model), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert "total" in layer.summary(x)
