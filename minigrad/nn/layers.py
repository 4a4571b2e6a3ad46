"""Layers: modules that keep weights or options, and modules around the activations."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minigrad.engine import Tensor, as_array
from minigrad.nn import activations, init
from minigrad.nn.module import Module, flag, note_output
from minigrad.sample import Rng, generator, sample


class Linear(Module):
    """The affine map x @ weight.T + bias, from (..., in_features) to (..., out_features).

    `weight` has shape (out_features, in_features) and `bias` (out_features,), as in PyTorch, and they are drawn as
    there: uniform within 1 / sqrt(in_features), by `rng`, a generator or a seed, in `dtype`. Raises ValueError for an
    input of another width.

    >>> layer = Linear(2, 3, rng=0)
    >>> layer(np.ones((5, 2), np.float32)).shape
    (5, 3)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, rng: Rng = None, dtype: DTypeLike = np.float32
    ) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(f"Linear({in_features}, {out_features}): both numbers of features must be positive")
        rng = generator(rng)  # the same for weight and bias
        bound = 1 / math.sqrt(in_features)
        self.in_features, self.out_features = in_features, out_features
        bias = flag("bias", bias)
        self.weight = Tensor(init.uniform((out_features, in_features), -bound, bound, rng=rng, dtype=dtype), True)
        self.bias = Tensor(init.uniform((out_features,), -bound, bound, rng=rng, dtype=dtype), True) if bias else None

    def forward(self, x: Any) -> Tensor:
        x = as_array(x)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"{self!r} got an input of shape {x.shape}: its last axis must be {self.in_features} long. Flatten "
                "images first, and give a single sample as x[None]."
            )
        product: Tensor = np.inner(x, self.weight)  # x @ weight.T in one call
        return product if self.bias is None else product + self.bias

    def __repr__(self) -> str:
        bias = ", bias=False" if self.bias is None else ""
        return f"Linear({self.in_features}, {self.out_features}{bias})"


class Sequential(Module, list[Callable[..., Any]]):
    """A list of layers, each called with what the one before it returned; any function of one argument is a layer.

    >>> model = Sequential(Linear(2, 3), np.tanh, Linear(3, 1))
    >>> model(np.ones((5, 2))).shape
    (5, 1)
    >>> model
    Sequential(
      (0): Linear(2, 3)
      (1): tanh
      (2): Linear(3, 1)
    )
    """

    def __init__(self, *layers: Callable[..., Any]) -> None:
        for layer in layers:
            if not callable(layer):
                raise TypeError(f"Sequential takes layers and functions, one after the other, not {layer!r}")
        super().__init__(layers)

    __hash__ = object.__hash__  # type: ignore[assignment]  # lists have no hash

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return Sequential(*part) if isinstance(index, slice) else part

    def forward(self, x: Any) -> Any:
        for layer in self:
            x = layer(x)
            if not isinstance(layer, Module):
                note_output(layer, x)
        return x


class Flatten(Module):
    """All axes but the first made one: from (n, ...) to (n, features).

    >>> Flatten()(np.ones((5, 28, 28))).shape
    (5, 784)
    """

    def forward(self, x: Any) -> Any:
        x = as_array(x)
        return x.reshape((x.shape[0], math.prod(x.shape[1:])))


class Dropout(Module):
    """In training, zeros with probability `p` and the rest divided by 1 - p; in evaluation, the input itself.

    Srivastava et al., JMLR 2014. `rng` draws anew at each call.

    >>> Dropout(0.5, rng=0)(np.ones(6))
    array([2., 2., 2., 0., 0., 0.])
    """

    def __init__(self, p: float = 0.5, *, rng: Rng = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout({p}): the probability of a zero must be at least 0 and below 1")
        self.p = p
        self.rng = generator(rng)

    def forward(self, x: Any) -> Any:
        if not self.training or self.p == 0:
            return x
        keep = sample(self.rng.random, x.shape, np.float32) >= self.p
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(float)
        return x * (keep / dtype.type(1 - self.p))


class LeakyReLU(Module):
    """`minigrad.nn.leaky_relu` as a layer."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        return activations.leaky_relu(x, self.negative_slope)


class Softmax(Module):
    """`minigrad.nn.softmax` as a layer."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return activations.softmax(x, self.axis)


def _layer(name: str, activation: Callable[..., Any]) -> type[Module]:
    """A class of modules that call an activation without options."""
    about = f"`minigrad.nn.{activation.__name__}` as a layer."
    return type(name, (Module,), {"__doc__": about, "__module__": __name__, "forward": staticmethod(activation)})


Tanh = _layer("Tanh", activations.tanh)
Sigmoid = _layer("Sigmoid", activations.sigmoid)
ReLU = _layer("ReLU", activations.relu)
Softplus = _layer("Softplus", activations.softplus)
GELU = _layer("GELU", activations.gelu)
