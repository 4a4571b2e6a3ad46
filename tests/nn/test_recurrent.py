"""Recurrent layers: against loops written from their formulas, and against PyTorch."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import scale

import minigrad as mg
from minigrad import nn
from minigrad.testing import check_grads


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def rnn(x: Any, state: Any, w: Any, u: Any, b: Any, c: Any) -> tuple[np.ndarray, ...]:
    return (np.tanh(w @ x + b + u @ state[0] + c),)


def relu_rnn(x: Any, state: Any, w: Any, u: Any, b: Any, c: Any) -> tuple[np.ndarray, ...]:
    return (np.maximum(w @ x + b + u @ state[0] + c, 0),)


def gru(x: Any, state: Any, w: Any, u: Any, b: Any, c: Any) -> tuple[np.ndarray, ...]:
    (h,) = state
    r, z, n = np.split(w @ x + b, 3)
    s, y, m = np.split(u @ h + c, 3)
    r, z = sigmoid(r + s), sigmoid(z + y)
    return ((1 - z) * np.tanh(n + r * m) + z * h,)


def lstm(x: Any, state: Any, w: Any, u: Any, b: Any, c: Any) -> tuple[np.ndarray, ...]:
    h, cell = state
    i, f, g, o = np.split(w @ x + b + u @ h + c, 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(cell), cell


KINDS: dict[str, tuple[Any, Any, dict[str, Any], Callable[..., Any], int]] = {
    "RNN": (nn.RNN, nn.RNNCell, {}, rnn, 1),
    "RNN relu": (nn.RNN, nn.RNNCell, {"nonlinearity": "relu"}, relu_rnn, 1),
    "GRU": (nn.GRU, nn.GRUCell, {}, gru, 1),
    "LSTM": (nn.LSTM, nn.LSTMCell, {}, lstm, 2),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def weights_of(layer: Any, suffix: str) -> list[np.ndarray]:
    found = [getattr(layer, name + suffix, None) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return [np.zeros(len(found[0].data)) if weight is None else weight.data for weight in found]


def by_loops(step: Any, states: int, layer: Any, x: np.ndarray, first: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """The outputs, (steps, n, hidden_size), and the last states, of one sample, step and layer after the other."""
    last = [np.empty((layer.num_layers, x.shape[1], layer.hidden_size)) for _ in range(states)]
    for k in range(layer.num_layers):
        out = np.empty((*x.shape[:2], layer.hidden_size))
        for n in range(x.shape[1]):
            state = tuple(part[k, n] for part in first)
            for t in range(len(x)):
                state = step(x[t, n], state, *weights_of(layer, f"_l{k}"))
                out[t, n] = state[0]
            for part, value in zip(last, state, strict=True):
                part[k, n] = value
        x = out
    return x, last


def arrays(result: Any) -> list[np.ndarray]:
    parts = result if isinstance(result, tuple) else (result,)
    return [part.data if isinstance(part, mg.Tensor) else part for part in parts]


@kinds
@settings(max_examples=scale(3, 50))
@given(
    st.integers(1, 4), st.integers(0, 3), st.integers(1, 3), st.booleans(), st.booleans(), st.booleans(),
    st.integers(1, 3),
)  # fmt: skip
def test_sequences_are_what_loops_compute(
    kind: str, steps: int, n: int, layers: int, bias: bool, batch_first: bool, given_state: bool, features: int
) -> None:
    cls, _, options, step, states = KINDS[kind]
    rng = np.random.default_rng(0)
    layer = cls(features, 2, layers, bias=bias, batch_first=batch_first, rng=rng, dtype=np.float64, **options)
    x = rng.normal(size=(steps, n, features))
    first = [rng.normal(size=(layers, n, 2)) if given_state else np.zeros((layers, n, 2)) for _ in range(states)]
    expected, last = by_loops(step, states, layer, x, first)
    passed = ((tuple(first) if states > 1 else first[0]),) if given_state else ()
    for wrap in (np.asarray, mg.Tensor):
        out, end = layer(wrap(np.swapaxes(x, 0, 1) if batch_first else x), *passed)
        assert out.shape == ((n, steps, 2) if batch_first else (steps, n, 2))
        np.testing.assert_allclose(np.swapaxes(out.data, 0, 1) if batch_first else out.data, expected, atol=1e-12)
        for found, wanted in zip(arrays(end), last, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-12)


@kinds
def test_cells_make_one_step(kind: str) -> None:
    cls, cell_cls, options, _, states = KINDS[kind]
    rng = np.random.default_rng(0)
    layer = cls(3, 2, rng=rng, dtype=np.float64, **options)
    cell = cell_cls(3, 2, dtype=np.float64, **options)
    cell.load_state_dict({name.removesuffix("_l0"): array for name, array in layer.state_dict().items()})
    x, state = rng.normal(size=(4, 5, 3)), None
    for t in range(4):
        state = cell(x[t], state)
        for found, wanted in zip(arrays(state), arrays(layer(x[: t + 1])[1]), strict=True):
            np.testing.assert_allclose(found, wanted[0], atol=1e-13)
    assert (len(state) if states > 1 else state.shape) == (2 if states > 1 else (5, 2))


@kinds
@pytest.mark.parametrize("bias", [True, False])
def test_recurrent_layers_have_right_derivatives(kind: str, bias: bool) -> None:
    cls, _, options, _, states = KINDS[kind]
    rng = np.random.default_rng(1)
    layer = cls(2, 2, 2 if bias else 1, bias=bias, rng=rng, dtype=np.float64, **options)
    names = [name for name, _ in layer.named_parameters()]
    first = [rng.normal(size=(layer.num_layers, 1, 2)) for _ in range(states)]

    def f(x: Any, *rest: Any) -> Any:
        for name, weight in zip(names, rest[states:], strict=True):
            setattr(layer, name, weight)
        out, end = layer(x, rest[:states] if states > 1 else rest[0])
        return np.concatenate([np.ravel(out), *map(np.ravel, end if states > 1 else [end])])

    given_arrays = [rng.normal(size=(2, 1, 2)), *first, *(p.data for p in layer.parameters())]
    check_grads(f, given_arrays, order=1 if bias or "relu" in kind else scale(1, 2))


@kinds
def test_sizes_names_and_dtypes_are_pytorchs(kind: str) -> None:
    cls, cell, options, _, _ = KINDS[kind]
    layer = cls(300, 200, 2, **options)
    gates = {"R": 1, "G": 3, "L": 4}[kind[0]] * 200
    shapes = {"weight_ih": (gates, 300), "weight_hh": (gates, 200), "bias_ih": (gates,), "bias_hh": (gates,)}
    upper = {**shapes, "weight_ih": (gates, 200)}
    expected = {f"{name}_l{k}": shape for k, each in enumerate((shapes, upper)) for name, shape in each.items()}
    assert {name: p.shape for name, p in layer.named_parameters()} == expected
    assert {name: p.shape for name, p in cell(300, 200, **options).named_parameters()} == shapes
    for p in layer.parameters():
        assert p.dtype == np.float32
        assert 0.9 / math.sqrt(200) < np.max(np.abs(p.data)) <= 1 / math.sqrt(200) * (1 + 1e-6)
    x = mg.Tensor(np.ones((2, 3, 300), np.float32), requires_grad=True)
    out, _ = layer(x)
    np.sum(out).backward()
    assert out.dtype == x.grad.dtype == layer.weight_hh_l1.grad.dtype == np.float32


WRONG = [
    (lambda: nn.GRU(3, 2)(np.ones((4, 3))), r"GRU\(.* shape \(4, 3\), and \(steps, n, 3\) was wanted"),
    (lambda: nn.GRU(3, 2, batch_first=True)(np.ones((4, 3))), r"and \(n, steps, 3\) was wanted"),
    (lambda: nn.RNN(3, 2)(np.ones((5, 4, 2))), r"shape \(5, 4, 2\), and \(steps, n, 3\) was wanted"),
    (lambda: nn.GRUCell(3, 2)(np.ones((5, 4, 3))), r"GRUCell\(.* and \(n, 3\) was wanted"),
    (lambda: nn.GRU(3, 2)(np.ones((0, 4, 3))), r"shape \(0, 4, 3\), and at least one step was wanted"),
    (lambda: nn.GRU(3, 2)(np.ones((5, 4, 3)), np.ones((4, 2))), r"shapes \[\(4, 2\)\], and \[\(1, 4, 2\)\]"),
    (lambda: nn.LSTM(3, 2)(np.ones((5, 4, 3)), (np.ones((1, 4, 2)),)), r"\], and \[\(1, 4, 2\), \(1, 4, 2\)\]"),
    (lambda: nn.LSTMCell(3, 2)(np.ones((4, 3)), np.ones((2, 4, 3))), r"\], and \[\(4, 2\), \(4, 2\)\]"),
    (lambda: nn.RNN(3, 2, nonlinearity="sigmoid"), 'nonlinearity=\'sigmoid\': it is "tanh" or "relu"'),
    (lambda: nn.LSTM(3, 0), "LSTM got hidden_size=0: it must be at least 1"),
    (lambda: nn.LSTM(3, 2, 0), "LSTM got num_layers=0: it must be at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("do", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_fit_is_named(do: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        do()


@kinds
def test_compiled_and_eager_agree(kind: str) -> None:
    cls, _, options, _, _ = KINDS[kind]
    layer = cls(3, 4, rng=np.random.default_rng(0), dtype=np.float64, **options)
    x = np.random.default_rng(1).normal(size=(5, 2, 3))

    def gradients(f: Any) -> list[np.ndarray]:
        layer.zero_grad()
        np.sum(np.square(f(x)[0])).backward()
        return [p.grad for p in layer.parameters()]

    for eager, compiled in zip(gradients(layer), gradients(mg.compile(layer)), strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-9, atol=1e-12)


@kinds
def test_the_same_numbers_as_pytorch(kind: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    cls, cell, options, _, states = KINDS[kind]
    rng = np.random.default_rng(0)
    for ours, shape, args in [(cls, (4, 3, 2), (2, 5, 2)), (cell, (3, 2), (2, 5))]:
        layer = ours(*args, rng=rng, dtype=np.float64, **options)
        other = getattr(torch.nn, ours.__name__)(*args, dtype=torch.float64, **options)
        other.load_state_dict({key: torch.tensor(array) for key, array in layer.state_dict().items()})
        x, first = rng.normal(size=shape), rng.normal(size=(2, 3, 5) if ours is cls else (3, 5))
        mine, theirs = mg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        state = (first, first) if states > 1 else first
        their_state = (torch.tensor(first),) * 2 if states > 1 else torch.tensor(first)
        y, z = layer(mine, state), other(theirs, their_state)
        y, z = (y[0], z[0]) if isinstance(y, tuple) else (y, z)
        np.testing.assert_allclose(y.data, z.detach().numpy(), atol=1e-12)
        g = rng.normal(size=y.shape)
        y.backward(g)
        z.backward(torch.tensor(g))
        np.testing.assert_allclose(mine.grad, theirs.grad.numpy(), atol=1e-12)
        for key, parameter in layer.named_parameters():
            np.testing.assert_allclose(parameter.grad, dict(other.named_parameters())[key].grad.numpy(), atol=1e-11)
