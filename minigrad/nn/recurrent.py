"""Recurrent layers: cells, which make one step, and sequences of steps in several layers.

A kind of cell is said once, in `step`. What does not depend on the state is computed for all steps together.
`bias` is whether there are biases; `rng` draws the weights, and `dtype` is theirs. A state that is given is `hx`.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from minigrad.engine import Tensor, as_array
from minigrad.nn import init
from minigrad.nn.activations import relu
from minigrad.nn.layers import affine
from minigrad.nn.module import Module, flag, positive
from minigrad.sample import Rng, generator

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def gate(x: Any) -> Any:
    """The logistic function by np.tanh: a number between 0 and 1 whose absolute error is that of rounding."""
    return np.tanh(x * 0.5) * 0.5 + 0.5


class Recurrent(Module):
    """What recurrent layers share; all weights are drawn uniformly within 1 / sqrt(hidden_size), as in PyTorch."""

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    suffix: ClassVar[str] = "_l{}"  # of the names of the weights of a layer
    step: Callable[..., tuple[Any, ...]]  # the next state, arrays of (n, hidden_size), of which the first is the output

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...  # a pair

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False, *,
        rng: Rng = None, dtype: DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        positive(self, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers, self.batch_first, bias = num_layers, flag("batch_first", batch_first), flag("bias", bias)
        rng, bound, rows = generator(rng), 1 / math.sqrt(hidden_size), self.gates * hidden_size
        for layer in range(num_layers):
            shapes = (rows, hidden_size if layer else input_size), (rows, hidden_size), (rows,), (rows,)
            for name, shape in list(zip(NAMES, shapes, strict=True))[: 4 if bias else 2]:
                weight = Tensor(init.uniform(shape, -bound, bound, rng=rng, dtype=dtype), True)
                setattr(self, name + self.suffix.format(layer), weight)

    def forward(self, x: Any, hx: Any = None) -> Any:
        x, wanted = as_array(x), f"({'n, steps' if self.batch_first else 'steps, n'}, {self.input_size})"
        self.expect(x, x.ndim == 3 and x.shape[-1] == self.input_size, wanted)
        x = np.swapaxes(x, 0, 1) if self.batch_first else x
        self.expect(x, len(x) > 0, "at least one step")
        state, last = self.first(hx, (self.num_layers, x.shape[1], self.hidden_size), x.dtype), []
        for layer in range(self.num_layers):
            hidden, end = self.run(layer, x, tuple(part[layer] for part in state))
            last.append(end)
            x = np.reshape(np.concatenate(hidden), (*x.shape[:2], self.hidden_size))
        final = tuple(np.stack(parts) for parts in zip(*last, strict=True))
        return np.swapaxes(x, 0, 1) if self.batch_first else x, final if self.states > 1 else final[0]

    def run(self, layer: int, x: Any, state: Any) -> tuple[list[Any], Any]:
        """The outputs of a layer at all steps of x (steps, n, features), and its last state."""
        weight, recurrent, *biases = (getattr(self, name + self.suffix.format(layer), None) for name in NAMES)
        (pieces, bias), hidden = self.given(x, weight, *biases), []
        for i in range(len(x)):
            state = self.step([piece[i] for piece in pieces], state, recurrent, bias)
            hidden.append(state[0])
        return hidden, state

    def given(self, x: Any, weight: Any, bias: Any, recurrent_bias: Any) -> tuple[list[Any], Any]:
        """What the input gives to the gates at all steps, in the pieces that `step` takes, and what bias is left."""
        return [affine(x, weight, bias if bias is None else bias + recurrent_bias)], None

    def first(self, state: Any, shape: tuple[int, ...], dtype: Any) -> tuple[Any, ...]:
        """The state that was given, which is checked, or zeros."""
        if state is None:
            return (np.zeros(shape, dtype),) * self.states
        state = tuple(state) if self.states > 1 else (state,)
        if (shapes := [np.shape(part) for part in state]) != (wanted := [shape] * self.states):
            raise ValueError(f"{self!r} got a state of shapes {shapes}, and {wanted} was wanted.")
        return tuple(map(as_array, state))


class Cell(Recurrent):
    """One step: it takes and returns a state (n, hidden_size), or a pair of them, which is zeros by default."""

    suffix = ""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, **options: Any) -> None:
        super().__init__(input_size, hidden_size, 1, bias, **options)

    def forward(self, x: Any, hx: Any = None) -> Any:
        x = as_array(x)
        self.expect(x, x.shape[1:] == (self.input_size,), f"(n, {self.input_size})")
        state = self.run(0, x[None], self.first(hx, (len(x), self.hidden_size), x.dtype))[1]
        return state if self.states > 1 else state[0]


class RNN(Recurrent):
    """Layers of RNNCell, each run over the outputs of the one below.

    x (steps, n, input_size), or (n, steps, input_size) with `batch_first`, and the first states (num_layers, n,
    hidden_size), by default zeros, give the outputs of the last layer at all steps, and the last states of all layers.
    Weights are named as in PyTorch, weight_ih_l0 and so on; of its options, dropout, bidirectional and proj_size are
    not here. `nonlinearity` is "tanh" or "relu".

    >>> outputs, last = RNN(2, 3, num_layers=2, rng=0)(np.ones((5, 4, 2)))
    >>> outputs.shape, last.shape
    ((5, 4, 3), (2, 4, 3))
    """

    def __init__(self, *sizes: Any, nonlinearity: str = "tanh", **options: Any) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f'{type(self).__name__} got nonlinearity={nonlinearity!r}: it is "tanh" or "relu"')
        super().__init__(*sizes, **options)
        self.nonlinearity = nonlinearity

    def step(self, given: list[Any], state: Any, weight: Any, bias: Any) -> tuple[Any, ...]:
        total = given[0] + np.inner(state[0], weight)
        return (np.tanh(total) if self.nonlinearity == "tanh" else relu(total),)


class GRU(Recurrent):
    """Layers of GRUCell; shapes, names and options are those of `minigrad.nn.RNN`."""

    gates = 3

    def given(self, x: Any, weight: Any, bias: Any, recurrent_bias: Any) -> tuple[list[Any], Any]:
        n = 2 * self.hidden_size
        if bias is not None:  # that of the last third is multiplied by a gate first
            bias = bias + np.concatenate([recurrent_bias[:n], np.zeros(self.hidden_size, bias.dtype)])
        given = affine(x, weight, bias)
        return [given[..., :n], given[..., n:]], bias if bias is None else recurrent_bias[n:]

    def step(self, given: list[Any], state: Any, weight: Any, bias: Any) -> tuple[Any, ...]:
        (h,), n = state, self.hidden_size
        product = np.inner(h, weight)
        gates, own = gate(given[0] + product[:, : 2 * n]), product[:, 2 * n :]
        new = np.tanh(given[1] + gates[:, :n] * (own if bias is None else own + bias))
        return (new + gates[:, n:] * (h - new),)


class LSTM(Recurrent):
    """Layers of LSTMCell; shapes, names and options are those of `minigrad.nn.RNN`, but a state is a pair (h, c)."""

    gates, states = 4, 2

    def step(self, given: list[Any], state: Any, weight: Any, bias: Any) -> tuple[Any, ...]:
        (h, c), n = state, self.hidden_size
        total = given[0] + np.inner(h, weight)
        gates, out = gate(total[:, : 2 * n]), gate(total[:, 3 * n :])
        c = gates[:, n:] * c + gates[:, :n] * np.tanh(total[:, 2 * n : 3 * n])
        return out * np.tanh(c), c


class RNNCell(Cell, RNN):
    """h' = tanh(weight_ih x + bias_ih + weight_hh h + bias_hh), or relu of it, for x (n, input_size) (Elman, 1990).

    >>> RNNCell(2, 3, rng=0)(np.ones((4, 2))).shape
    (4, 3)
    """


class GRUCell(Cell, GRU):
    """A gated recurrent unit (Cho et al., 2014, arXiv:1406.1078), in PyTorch's form, for x (n, input_size).

    r, z = sigmoid(two thirds of weight_ih x + bias_ih + weight_hh h + bias_hh), h' = (1 - z) * n + z * h
    n = tanh(the last third, in which what comes of h, with its bias, is multiplied by r)

    >>> GRUCell(2, 3, rng=0)(np.ones((4, 2))).shape
    (4, 3)
    """


class LSTMCell(Cell, LSTM):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997) with a forget gate, for x (n, input_size).

    i, f, g, o = quarters of weight_ih x + bias_ih + weight_hh h + bias_hh
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g), h' = sigmoid(o) * tanh(c')

    >>> h, c = LSTMCell(2, 3, rng=0)(np.ones((4, 2)))
    >>> h.shape, c.shape
    ((4, 3), (4, 3))
    """
