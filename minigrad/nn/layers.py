"""Layers of a few lines each: modules that keep weights or options.

`rng`, a generator or a seed, draws the weights, and `dtype` is theirs.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minigrad.engine import Tensor, as_array, numbers_of
from minigrad.nn import init
from minigrad.nn.losses import in_range
from minigrad.nn.module import Module, positive
from minigrad.sample import Rng, generator, sample
from minigrad.summary import in_progress


def affine(x: Any, weight: Any, bias: Any) -> Tensor:
    """x @ weight.T, plus the bias if there is one."""
    product: Tensor = np.inner(x, weight)
    return product if bias is None else product + bias


class Linear(Module):
    """The affine map x @ weight.T + bias, from (..., in_features) to (..., out_features).

    `weight` has shape (out_features, in_features) and `bias` (out_features,), as in PyTorch, and they are drawn as
    there: uniform within 1 / sqrt(in_features). Raises ValueError for an input of another width.

    >>> layer = Linear(2, 3, rng=0)
    >>> layer(np.ones((5, 2), np.float32)).shape
    (5, 3)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, rng: Rng = None, dtype: DTypeLike = np.float32
    ) -> None:
        positive(self, in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight, self.bias = init.weight_and_bias((out_features, in_features), out_features, bias, rng, dtype)

    def forward(self, x: Any) -> Tensor:
        x = as_array(x)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"{self!r} got an input of shape {x.shape}: its last axis must be {self.in_features} long. Flatten "
                "images first, and give a single sample as x[None]."
            )
        return affine(x, self.weight, self.bias)

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
        notes = in_progress()  # of a summary, which takes any function for a layer
        for layer in self:
            x = layer(x) if notes is None or isinstance(layer, Module) else notes.taken(layer, layer, x)
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


class Residual(Module):
    """What some layers make of `x`, each of what the one before has returned, plus `x` (He et al., CVPR 2016).

    >>> Residual(np.negative)(np.ones(2))
    array([0., 0.])
    """

    def __init__(self, *layers: Callable[..., Any]) -> None:
        self.layers = Sequential(*layers)

    def forward(self, x: Any) -> Any:
        change = self.layers(x)
        if np.shape(change) != np.shape(x):
            raise ValueError(f"{self!r} made {np.shape(change)} of {np.shape(x)}, and the two are to be added")
        return x + change


class Embedding(Module):
    """A vector for each of the integers from 0 to num_embeddings - 1: rows of `weight`, which are normal at first.

    Indices of any shape (...) give (..., embedding_dim). (Of PyTorch's options, there are only these two.)

    >>> Embedding(10, 3, rng=0)(np.array([[1, 2]])).shape
    (1, 2, 3)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, rng: Rng = None, dtype: DTypeLike = np.float32
    ) -> None:
        positive(self, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Tensor(init.normal((num_embeddings, embedding_dim), 0, 1, rng=rng, dtype=dtype), True)

    def forward(self, x: Any) -> Any:
        x = as_array(x)
        if x.dtype.kind not in "iu":
            raise TypeError(f"{self!r} takes integers, not {x.dtype}: convert them, for instance with x.astype(int)")
        return self.weight[in_range(numbers_of(x), stop=self.num_embeddings, what="Embedding got indices", of="rows")]


class PReLU(Module):
    """`x` where it is positive, else weight * x, where one weight, or one for each channel, on axis 1, is learned.

    He et al., ICCV 2015 (arXiv:1502.01852). There are `num_parameters` weights; `init` is what they are at first.

    >>> PReLU()(np.array([-4.0, 2.0])).data
    array([-1.,  2.])
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, dtype: DTypeLike = np.float32) -> None:
        self.num_parameters = num_parameters
        self.weight = Tensor(np.full(num_parameters, init, dtype), True)

    def forward(self, x: Any) -> Any:
        x = as_array(x)
        self.expect(x, self.num_parameters in (1, *x.shape[1:2]), f"(n, {self.num_parameters}, ...)")
        weight = self.weight if x.ndim <= 2 else np.reshape(self.weight, (-1,) + (1,) * (x.ndim - 2))
        return np.where(x > 0, x, weight * x)
