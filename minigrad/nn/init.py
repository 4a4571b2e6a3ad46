"""Initial weights: each function draws an array of the given shape from the distribution whose name it bears.

The fans of a weight of shape (out, in) are fan_in = in and fan_out = out. `rng` is a `numpy.random.Generator`, a
seed, or None, for one that is seeded by the operating system. To use an initialiser, assign what it returns:
`layer.weight.data = nn.init.xavier_uniform(layer.weight.shape)`. All take the `shape` first and give an array of that
shape and of a `dtype`, float32 by default. Those by fans raise ValueError for a shape of fewer than two axes.
"""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from minigrad.engine import Array, Tensor
from minigrad.names import door
from minigrad.nn.module import flag
from minigrad.sample import Rng, generator

__all__ = ["kaiming_normal", "kaiming_uniform", "normal", "uniform", "xavier_normal", "xavier_uniform"]

Shape: TypeAlias = tuple[int, ...]

SQRT2 = math.sqrt(2)  # the gain of ReLU


def uniform(shape: Shape, low: float, high: float, *, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """Uniform between `low` and `high`.

    >>> uniform((2, 3), -1, 1, rng=0).shape
    (2, 3)
    """
    return generator(rng).uniform(low, high, shape).astype(dtype)


def normal(shape: Shape, mean: float, std: float, *, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """Normal with the given `mean` and standard deviation `std`.

    >>> normal((2, 3), 0, 1, rng=np.random.default_rng(0)).dtype
    dtype('float32')
    """
    return generator(rng).normal(mean, std, shape).astype(dtype)


def xavier_uniform(shape: Shape, gain: float = 1.0, *, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """Uniform with variance gain^2 * 2 / (fan_in + fan_out), for tanh and sigmoid (Glorot and Bengio, AISTATS 2010).

    >>> bool(np.all(abs(xavier_uniform((2, 4))) <= 1))
    True
    """
    bound = gain * math.sqrt(6 / sum(_fans(shape)))
    return uniform(shape, -bound, bound, rng=rng, dtype=dtype)


def xavier_normal(shape: Shape, gain: float = 1.0, *, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """Normal with variance gain^2 * 2 / (fan_in + fan_out) (Glorot and Bengio, AISTATS 2010).

    >>> xavier_normal((500, 500), rng=np.random.default_rng(0)).std().round(3)  # sqrt(2 / 1000)
    np.float32(0.045)
    """
    return normal(shape, 0.0, gain * math.sqrt(2 / sum(_fans(shape))), rng=rng, dtype=dtype)


def kaiming_uniform(shape: Shape, gain: float = SQRT2, *, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """Uniform with variance gain^2 / fan_in; the gain sqrt(2) is that of ReLU (He et al., ICCV 2015).

    >>> bool(np.all(abs(kaiming_uniform((2, 6))) <= 1))
    True
    """
    bound = gain * math.sqrt(3 / _fans(shape)[0])
    return uniform(shape, -bound, bound, rng=rng, dtype=dtype)


def kaiming_normal(shape: Shape, gain: float = SQRT2, *, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """Normal with variance gain^2 / fan_in; the gain sqrt(2) is that of ReLU (He et al., ICCV 2015).

    >>> kaiming_normal((500, 500), rng=np.random.default_rng(0)).std().round(3)  # sqrt(2 / 500)
    np.float32(0.063)
    """
    return normal(shape, 0.0, gain / math.sqrt(_fans(shape)[0]), rng=rng, dtype=dtype)


def weight_and_bias(shape: Shape, outputs: int, bias: bool, rng: Rng, dtype: DTypeLike) -> tuple[Any, Any]:
    """A weight, and a bias for each of the outputs, or None, uniform within 1 / sqrt(fan_in), as PyTorch draws them."""
    rng, bias = generator(rng), flag("bias", bias)  # one generator for both
    bound = 1 / math.sqrt(_fans(shape)[0])
    weight = Tensor(uniform(shape, -bound, bound, rng=rng, dtype=dtype), True)
    return weight, Tensor(uniform((outputs,), -bound, bound, rng=rng, dtype=dtype), True) if bias else None


def _fans(shape: Shape) -> tuple[int, int]:
    if len(shape) < 2:
        raise ValueError(f"a weight of shape {shape} has no fan_in and fan_out: they need the two axes (out, in)")
    return math.prod(shape[1:]) or 1, shape[0] * math.prod(shape[2:]) or 1


door(__name__)
