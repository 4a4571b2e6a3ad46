"""Attention: against loops written from its formula, its masks, and against PyTorch."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import scale
from test_activations import softmax

import minigrad as mg
from minigrad import nn
from minigrad.testing import check_grads


def by_loops(layer: Any, query: Any, key: Any, value: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (n, queries, embed_dim) and weights (n, heads, queries, keys); `mask[i, head]` is added to the scores."""
    e, heads = layer.embed_dim, layer.num_heads
    d, n, queries, keys = e // heads, *query.shape[:2], key.shape[1]
    weight = layer.in_proj_weight.data.reshape(3, e, e)
    bias = np.zeros((3, e)) if layer.in_proj_bias is None else layer.in_proj_bias.data.reshape(3, e)
    seen, weights = np.zeros((n, queries, e)), np.zeros((n, heads, queries, keys))
    for i in range(n):
        q, k, v = (x[i] @ w.T + b for x, w, b in zip((query, key, value), weight, bias, strict=True))
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            weights[i, head] = softmax(q[:, part] @ k[:, part].T / math.sqrt(d) + mask[i, head])
            seen[i, :, part] = weights[i, head] @ v[:, part]
    bias = 0 if layer.out_proj.bias is None else layer.out_proj.bias.data
    return seen @ layer.out_proj.weight.data.T + bias, weights


@settings(max_examples=scale(10, 200))
@given(st.data())
def test_attention_is_what_loops_compute(data: st.DataObject) -> None:
    draw, rng = data.draw, np.random.default_rng(data.draw(st.integers(0, 99)))
    heads, d, n, queries = (draw(st.integers(low, 3)) for low in (1, 1, 0, 1))
    same, batch_first, causal = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    keys = queries if same else draw(st.integers(1, 3))
    layer = nn.MultiheadAttention(
        heads * d, heads, bias=draw(st.booleans()), batch_first=batch_first, rng=rng, dtype=np.float64
    )
    for p in layer.parameters():
        p.data = rng.normal(size=p.shape)
    query, key, value = (rng.normal(size=(n, length, heads * d)) for length in (queries, keys, keys))
    options: dict[str, Any] = {"is_causal": causal}
    full = np.zeros((n, heads, queries, keys))
    if causal:
        full += np.where(np.tri(queries, keys, dtype=bool), 0, -np.inf)
    if draw(st.booleans()):
        hidden = rng.random((n, keys)) < 0.5
        hidden[:, 0] = False  # so that every query sees something
        options["key_padding_mask"] = hidden if draw(st.booleans()) else np.where(hidden, -np.inf, 0.0)
        full = full + np.where(hidden, -np.inf, 0)[:, None, None]
    if draw(st.booleans()):
        shape = draw(st.sampled_from([(queries, keys), (n * heads, queries, keys)]))
        options["attn_mask"] = rng.normal(size=shape)
        full = full + options["attn_mask"].reshape(shape if len(shape) == 2 else full.shape)
    inputs = (query,) * 3 if same else (query, key, value)
    expected, weights = by_loops(layer, *inputs, full)
    passed = [x if batch_first else x.swapaxes(0, 1) for x in inputs]
    passed = [passed[0]] * 3 if same else passed
    out, found = layer(*passed, **options, average_attn_weights=False)
    assert out.shape == passed[0].shape
    np.testing.assert_allclose(out.data if batch_first else out.data.swapaxes(0, 1), expected, atol=1e-11)
    np.testing.assert_allclose(found.data, weights, atol=1e-12)
    np.testing.assert_allclose(layer(*passed, **options)[1].data, weights.mean(1), atol=1e-12)
    again, none = layer(*map(mg.Tensor, passed), **options, need_weights=False)
    np.testing.assert_allclose(again.data, out.data, atol=1e-12)
    assert none is None


def test_attention_has_right_derivatives() -> None:
    rng = np.random.default_rng(0)
    layer = nn.MultiheadAttention(2, 2, rng=rng, dtype=np.float64)
    weights = [rng.normal(size=p.shape) for p in layer.parameters()]

    def f(x: Any, y: Any, *given_weights: Any) -> Any:
        layer.in_proj_weight, layer.in_proj_bias, layer.out_proj.weight, layer.out_proj.bias = given_weights
        return layer(x, x, x, is_causal=True)[0] + layer(x, y, y)[0]

    check_grads(f, [rng.normal(size=(2, 1, 2)), rng.normal(size=(3, 1, 2)), *weights], order=scale(1, 2))
    x, y = rng.normal(size=(2, 1, 2)), rng.normal(size=(3, 1, 2))
    check_grads(lambda x: f(x, y, *weights), [x], order=2)


def test_the_future_is_hidden() -> None:
    rng = np.random.default_rng(0)
    block = nn.TransformerBlock(4, 2, rng=rng, dtype=np.float64)
    x = mg.Tensor(rng.normal(size=(1, 5, 4)), requires_grad=True)
    np.sum(block(x, is_causal=True)[:, :3]).backward()
    assert np.all(x.grad[:, 3:] == 0)
    assert np.all(x.grad[:, :3] != 0)
    np.testing.assert_allclose(block(x, is_causal=True).data, block(x, ~np.tri(5, dtype=bool)).data, atol=1e-13)


def test_what_a_padding_mask_hides_has_no_gradient() -> None:
    rng = np.random.default_rng(0)
    layer = nn.MultiheadAttention(4, 2, batch_first=True, rng=rng, dtype=np.float64)
    x = mg.Tensor(rng.normal(size=(2, 3, 4)), requires_grad=True)
    hidden = np.array([[False, False, True], [False, True, True]])
    key = mg.Tensor(x.data.copy(), requires_grad=True)
    np.sum(np.square(layer(x, key, key, key_padding_mask=hidden)[0])).backward()
    assert np.all(key.grad[hidden] == 0)
    assert np.all(key.grad[~hidden] != 0)


def test_a_query_that_sees_nothing_is_nan() -> None:
    layer = nn.MultiheadAttention(2, 1, batch_first=True)
    x = np.ones((2, 3, 2), np.float32)
    with np.errstate(invalid="ignore"):
        out, _ = layer(x, x, x, key_padding_mask=np.array([[True] * 3, [False] * 3]))
    assert np.isnan(out.data[0]).all()
    assert np.isfinite(out.data[1]).all()


def test_a_transformer_block_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    block = nn.TransformerBlock(4, 2, 6, activation=nn.gelu, rng=rng, dtype=np.float64)
    x = rng.normal(size=(2, 3, 4))
    inner = block.norm1(x)
    y = x + block.self_attn(inner, inner, inner)[0]
    expected = y + block.linear2(nn.gelu(block.linear1(block.norm2(y))))
    np.testing.assert_allclose(block(x).data, expected.data, atol=1e-13)
    flipped = nn.TransformerBlock(4, 2, 6, activation=nn.gelu, batch_first=False, dtype=np.float64)
    flipped.load_state_dict(block.state_dict())
    np.testing.assert_allclose(flipped(x.swapaxes(0, 1)).data.swapaxes(0, 1), block(x).data, atol=1e-13)
    assert nn.TransformerBlock(4, 2).linear1.out_features == 16


def test_dropout_is_for_training() -> None:
    x = np.ones((2, 3, 4), np.float32)
    block = nn.TransformerBlock(4, 2, dropout=0.5, rng=np.random.default_rng(0))
    assert not np.array_equal(block(x).data, block(x).data)
    block.eval()
    np.testing.assert_array_equal(block(x).data, block(x).data)


def test_compiled_and_eager_agree() -> None:
    rng = np.random.default_rng(0)
    block = nn.TransformerBlock(4, 2, rng=rng, dtype=np.float64)
    x, hidden = rng.normal(size=(2, 3, 4)), np.array([[False, False, True], [False, False, False]])

    def loss(x: Any, hidden: Any) -> Any:
        return np.sum(np.square(block(x, src_key_padding_mask=hidden, is_causal=True)))

    def gradients(f: Any) -> list[np.ndarray]:
        block.zero_grad()
        f(x, hidden).backward()
        return [p.grad for p in block.parameters()]

    for eager, compiled in zip(gradients(loss), gradients(mg.compile(loss)), strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-8, atol=1e-11)


X = np.ones((2, 3, 4))
MHA = nn.MultiheadAttention(4, 2, batch_first=True)
WRONG = [
    (lambda: nn.MultiheadAttention(4, 3), "heads are to divide the features"),
    (lambda: MHA(X[0], X[0], X[0]), r"inputs of shapes \(3, 4\), \(3, 4\), \(3, 4\), and \(n, length, 4\) was wanted"),
    (lambda: nn.MultiheadAttention(2, 2)(X, X, X), r"\(2, 3, 4\), and \(length, n, 2\) was wanted"),
    (lambda: MHA(X, X, X[:, :2]), r"\(2, 2, 4\), and \(n, length, 4\) was wanted, of one length for keys"),
    (lambda: MHA(X, X, X, np.ones((3, 2), bool)), r"a mask of shape \(3, 2\), and \(2, 3\) was wanted"),
    (lambda: MHA(X, X, X, attn_mask=np.ones((3, 2))), r"shape \(3, 2\), and \(3, 3\) or \(4, 3, 3\) was wanted"),
]  # fmt: skip


@pytest.mark.parametrize(("do", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_fit_is_named(do: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        do()


def test_weights_are_drawn_as_in_pytorch() -> None:
    layer = nn.MultiheadAttention(64, 4)
    assert np.max(np.abs(layer.in_proj_weight.data)) == pytest.approx(math.sqrt(6 / 256), rel=1e-2)
    assert np.max(np.abs(layer.out_proj.weight.data)) == pytest.approx(1 / 8, rel=1e-2)
    assert not layer.in_proj_bias.data.any()
    assert not layer.out_proj.bias.data.any()


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_the_same_numbers_as_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    x, hidden, mask = rng.normal(size=(2, 3, 4)), np.array([[False, False, True]] * 2), rng.normal(size=(3, 3))
    causal = ~np.tri(3, dtype=bool)
    layer = nn.MultiheadAttention(4, 2, batch_first=True, rng=rng, dtype=np.float64)
    other = torch.nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    block = nn.TransformerBlock(4, 2, 8, rng=rng, dtype=np.float64)
    theirs = torch.nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True, norm_first=True, dtype=torch.float64)
    for ours, its, call in [
        (layer, other, lambda f, x, a, b, c: f(x, x, x, key_padding_mask=a)[0]),
        (layer, other, lambda f, x, a, b, c: f(x, x, x, attn_mask=b)[0]),
        (layer, other, lambda f, x, a, b, c: f(x, x * 2, x * 3, attn_mask=c, need_weights=False)[0]),
        (block, theirs, lambda f, x, a, b, c: f(x, c, a)),
    ]:
        state = ours.state_dict()
        assert {key: array.shape for key, array in state.items()} == {
            k: (*t.shape,) for k, t in its.state_dict().items()
        }
        its.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
        ours.zero_grad()
        its.zero_grad()
        mine, its_x = mg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, z = call(ours, mine, hidden, mask, causal), call(its, its_x, *map(torch.tensor, (hidden, mask, causal)))
        np.testing.assert_allclose(y.data, z.detach().numpy(), atol=1e-12)
        g = rng.normal(size=y.shape)
        y.backward(g)
        z.backward(torch.tensor(g))
        np.testing.assert_allclose(mine.grad, its_x.grad.numpy(), atol=1e-12)
        for key, parameter in ours.named_parameters():
            np.testing.assert_allclose(parameter.grad, dict(its.named_parameters())[key].grad.numpy(), atol=1e-11)
