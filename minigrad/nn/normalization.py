"""Layers that shift and scale what they are given to a mean of 0 and a variance of 1.

`eps` is added to the variance. Without `affine`, or `elementwise_affine`, there are no weight and bias, and without
`bias` no bias; their `dtype` is float32 by default.
"""

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from minigrad.engine import Tensor, as_array, numbers_of
from minigrad.nn.module import Module, flag


def standardized(x: Any, axes: tuple[int, ...], eps: float, centering: bool = True) -> tuple[Any, Any, Any]:
    """The mean and the mean square beside it of an array along some axes, and what is left of it without them."""
    mean = np.mean(x, axis=axes, keepdims=True) if centering else None
    centered = x if mean is None else x - mean
    var = np.mean(np.square(centered), axis=axes, keepdims=True)
    return mean, var, centered / np.sqrt(var + eps)


class _Affine(Module):
    """What the layers here share: a weight and a bias, which are ones and zeros at first, or None."""

    def begin(self, shape: tuple[int, ...], weight: bool, bias: bool, dtype: DTypeLike) -> None:
        self.weight = Tensor(np.ones(shape, dtype), True) if flag("affine", weight) else None
        self.bias = Tensor(np.zeros(shape, dtype), True) if flag("bias", bias) else None

    def scaled(self, x: Any, axes: int = 0) -> Any:
        """`x * weight + bias`, with so many axes behind those of the weight."""
        behind = (1,) * axes
        x = x if self.weight is None else x * np.reshape(self.weight, self.weight.shape + behind)
        return x if self.bias is None else x + np.reshape(self.bias, self.bias.shape + behind)


class BatchNorm(_Affine):
    """Every channel shifted and scaled to mean 0 and variance 1 over the batch, times `weight`, plus `bias`.

    Ioffe and Szegedy, ICML 2015 (arXiv:1502.03167). In evaluation, running_mean and running_var take the place of
    the batch's. At every call in training, they move by the share `momentum` of the way (None: they are the mean of all
    batches so far); they are part of the state. A batch without samples changes nothing, and one with a single number
    for each channel raises ValueError in training. Without `track_running_stats`, all is done as in training.

    >>> BatchNorm1d(2)(np.array([[0.0, 1.0], [2.0, 5.0]])).data.round(2)
    array([[-1., -1.],
           [ 1.,  1.]])
    """

    ranks: ClassVar[dict[int, str]]

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, *, dtype: DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.begin((num_features,), affine, affine, dtype)
        kept: Any = Tensor(np.zeros(num_features, dtype)), Tensor(np.ones(num_features, dtype)), Tensor(0)
        kept = kept if flag("track_running_stats", track_running_stats) else (None,) * 3
        self.running_mean, self.running_var, self.num_batches_tracked = kept

    def forward(self, x: Any) -> Any:
        x = as_array(x)
        wanted = " or ".join(f"(n, {self.num_features}{behind})" for behind in self.ranks.values())
        self.expect(x, x.ndim in self.ranks and x.shape[1] == self.num_features, wanted)
        count, behind = x.size // self.num_features, (1,) * (x.ndim - 2)
        if self.running_mean is not None and (not self.training or not count):
            mean, var = (np.reshape(held, (-1, *behind)) for held in (self.running_mean, self.running_var))
            return self.scaled((x - mean) / np.sqrt(var + self.eps), len(behind))
        if count == 1 and self.training:
            raise ValueError(f"{self!r} got one number for each channel, {x.shape}, of which the variance is unknown")
        mean, var, normalized = standardized(x, (0, *range(2, x.ndim)), self.eps)
        if self.running_mean is not None:
            self.num_batches_tracked.data = self.num_batches_tracked.data + 1
            share = 1 / self.num_batches_tracked.data if self.momentum is None else self.momentum
            for held, new in ((self.running_mean, mean), (self.running_var, var * (count / (count - 1)))):
                held.data = (1 - share) * held.data + share * np.reshape(numbers_of(new), held.shape)
        return self.scaled(normalized, len(behind))


class BatchNorm1d(BatchNorm):
    __doc__ = f"{BatchNorm.__doc__}\n    Arrays are (n, num_features) or (n, num_features, length).\n    "
    ranks = {2: "", 3: ", length"}  # noqa: RUF012


class BatchNorm2d(BatchNorm):
    __doc__ = f"{BatchNorm.__doc__}\n    Arrays are (n, num_features, height, width).\n    "
    ranks = {4: ", height, width"}  # noqa: RUF012


class GroupNorm(_Affine):
    """Groups of channels shifted and scaled to mean 0 and variance 1 in every sample, times `weight`, plus `bias`.

    Wu and He, ECCV 2018 (arXiv:1803.08494). Arrays are (n, num_channels, ...), in `num_groups` groups; there
    is a weight for each channel.

    >>> GroupNorm(1, 2)(np.array([[0.0, 2.0]])).data.round(2)
    array([[-1.,  1.]])
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *,
        dtype: DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm({num_groups}, {num_channels}): groups are to divide the number of channels")
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.begin((num_channels,), affine, affine, dtype)

    def forward(self, x: Any) -> Any:
        x = as_array(x)
        self.expect(x, x.shape[1:2] == (self.num_channels,), f"(n, {self.num_channels}, ...)")
        groups = np.reshape(x, (len(x), self.num_groups, self.num_channels // self.num_groups, *x.shape[2:]))
        groups = standardized(groups, tuple(range(2, groups.ndim)), self.eps)[-1]
        return self.scaled(np.reshape(groups, x.shape), x.ndim - 2)


class LayerNorm(_Affine):
    """Every sample shifted and scaled to mean 0 and variance 1 over its last axes, times `weight`, plus `bias`.

    Ba, Kiros and Hinton, 2016 (arXiv:1607.06450). `normalized_shape` is that of these axes, of weight and of bias.

    >>> LayerNorm(2)(np.array([[0.0, 2.0]])).data.round(2)
    array([[-1.,  1.]])
    """

    centering: ClassVar[bool] = True

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float | None = 1e-5, elementwise_affine: bool = True,
        bias: bool = True, *, dtype: DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        if not math.prod(shape) or not shape:
            raise ValueError(f"{type(self).__name__} takes the lengths of the last axes, not {normalized_shape!r}")
        self.normalized_shape, self.eps = shape, eps
        self.begin(shape, flag("elementwise_affine", elementwise_affine), elementwise_affine and bias, dtype)

    def forward(self, x: Any) -> Any:
        x = as_array(x)
        shape, count = self.normalized_shape, len(self.normalized_shape)
        self.expect(x, x.shape[-count:] == shape, f"(..., {', '.join(map(str, shape))})")
        eps = float(np.finfo(x.dtype).eps) if self.eps is None else self.eps
        return self.scaled(standardized(x, tuple(range(-count, 0)), eps, self.centering)[-1])


class RMSNorm(LayerNorm):
    """Every sample divided by its root mean square over its last axes, times `weight` (Zhang and Sennrich, 2019).

    `eps` is by default that of the dtype of the input; for the rest, see `minigrad.nn.LayerNorm`.
    """

    centering = False

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float | None = None, elementwise_affine: bool = True,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(normalized_shape, eps, elementwise_affine, False, **options)
