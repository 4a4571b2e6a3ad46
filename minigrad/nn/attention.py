"""Attention, and the blocks that are built of it.

`bias` is whether linear maps have one, and `dropout` the share of weights that are dropped in training; `rng` draws,
and `dtype` is that of the parameters.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from minigrad.engine import Tensor, as_array
from minigrad.nn import init
from minigrad.nn.activations import relu, softmax
from minigrad.nn.layers import Dropout, Linear, affine
from minigrad.nn.module import Module, flag
from minigrad.nn.normalization import LayerNorm
from minigrad.sample import Rng, generator


class MultiheadAttention(Module):
    """softmax(query @ key.T / sqrt(features)) @ value, in `num_heads` heads with linear maps of their own.

    Vaswani et al., NeurIPS 2017 (arXiv:1706.03762).
    Arrays are (length, n, embed_dim), or (n, length, embed_dim) with `batch_first`; it returns the output and the
    weights, (n, queries, keys), their mean over the heads, or None without `need_weights`. Masks are as in PyTorch:
    `key_padding_mask` (n, keys) and `attn_mask` (queries, keys) or (n * num_heads, queries, keys) are True where
    nothing is seen, or are added to the scores. `is_causal` hides what comes after each query, and needs no mask. A
    query that sees nothing gets nan. (Of PyTorch's options, add_bias_kv, add_zero_attn, kdim and vdim are not here.)

    >>> attention, x = MultiheadAttention(4, 2, rng=0), np.ones((5, 3, 4), np.float32)
    >>> [each.shape for each in attention(x, x, x)]
    [(5, 3, 4), (3, 5, 5)]
    """

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...  # a pair

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, batch_first: bool = False, *,
        rng: Rng = None, dtype: DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention({embed_dim}, {num_heads}): heads are to divide the features")
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, flag("batch_first", batch_first)
        rng, shape = generator(rng), (3 * embed_dim, embed_dim)
        self.in_proj_weight = Tensor(init.xavier_uniform(shape, rng=rng, dtype=dtype), True)
        self.in_proj_bias = Tensor(np.zeros(3 * embed_dim, dtype), True) if flag("bias", bias) else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, rng=rng, dtype=dtype)
        if self.out_proj.bias is not None:
            self.out_proj.bias.data = np.zeros(embed_dim, dtype)
        self.dropout = Dropout(dropout, rng=rng)

    def forward(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, need_weights: bool = True,
        attn_mask: Any = None, average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Any, Any]:  # fmt: skip
        size = self.num_heads, self.embed_dim // self.num_heads
        parts = [np.reshape(part, (*part.shape[:2], *size)) for part in self.projected(query, key, value)]
        heads = [np.transpose(part, (0, 2, 1, 3)) for part in parts]
        (n, _, queries, _), keys = heads[0].shape, heads[1].shape[2]
        full = n, self.num_heads, queries, keys
        masks = [~np.tri(queries, keys, dtype=bool)] if flag("is_causal", is_causal) else []
        of_scores: dict[Any, Any] = {full[2:]: full[2:], (n * self.num_heads, *full[2:]): full}
        for mask, shapes in ((key_padding_mask, {(n, keys): (n, 1, 1, keys)}), (attn_mask, of_scores)):
            if mask is not None:
                mask = as_array(mask)
                if mask.shape not in shapes:
                    wanted = " or ".join(map(str, shapes))
                    raise ValueError(f"{self!r} got a mask of shape {mask.shape}, and {wanted} was wanted.")
                masks.append(np.reshape(mask, shapes[mask.shape]))
        scores = (heads[0] / math.sqrt(size[1])) @ np.swapaxes(heads[1], 2, 3)
        for mask in masks:
            scores = np.where(mask, -np.inf, scores) if mask.dtype == bool else scores + mask
        weights = self.dropout(softmax(scores))
        answer: Any = weights @ heads[2]
        answer = self.out_proj(np.reshape(np.transpose(answer, (0, 2, 1, 3)), (n, queries, self.embed_dim)))
        answer = answer if self.batch_first else np.swapaxes(answer, 0, 1)
        if not flag("need_weights", need_weights):
            return answer, None
        return answer, np.mean(weights, axis=1) if flag("average_attn_weights", average_attn_weights) else weights

    def projected(self, *inputs: Any) -> list[Any]:
        """Queries, keys and values, (n, length, embed_dim), by one product where all are made of the same."""
        arrays = [as_array(x) for x in inputs]
        if any(x.ndim != 3 or x.shape[-1] != self.embed_dim for x in arrays) or arrays[1].shape != arrays[2].shape:
            axes, came = "n, length" if self.batch_first else "length, n", ", ".join(str(x.shape) for x in arrays)
            raise ValueError(
                f"{self!r} got inputs of shapes {came}, and ({axes}, {self.embed_dim}) was wanted, of one length for "
                "keys and values."
            )
        x, *others = arrays if self.batch_first else [np.swapaxes(x, 0, 1) for x in arrays]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if inputs[0] is inputs[1] is inputs[2]:
            return np.split(affine(x, weight, bias), 3, axis=-1)
        biases = [None] * 3 if bias is None else np.split(bias, 3)
        return [affine(*each) for each in zip((x, *others), np.split(weight, 3), biases, strict=True)]


class TransformerBlock(Module):
    """A pre-norm block: x + attention(norm1(x)), then that plus two linear layers of norm2 of it (Xiong et al., 2020).

    Arrays are (n, length, d_model), or (length, n, d_model) without `batch_first`; `dim_feedforward` is by default four
    times d_model. The parameters are named as those of PyTorch's TransformerEncoderLayer with norm_first=True. There
    are `nhead` heads, an `activation` between the linear layers, and `layer_norm_eps` is the eps of the norms.

    >>> TransformerBlock(4, 2, rng=0)(np.ones((3, 5, 4), np.float32)).shape
    (3, 5, 4)
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int | None = None, dropout: float = 0.0,
        activation: Callable[[Any], Any] = relu, layer_norm_eps: float = 1e-5, batch_first: bool = True, *,
        rng: Rng = None, dtype: DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        rng = generator(rng)
        wide = 4 * d_model if dim_feedforward is None else dim_feedforward
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, rng=rng, dtype=dtype)
        self.linear1 = Linear(d_model, wide, rng=rng, dtype=dtype)
        self.linear2 = Linear(wide, d_model, rng=rng, dtype=dtype)
        self.norm1, self.norm2 = (LayerNorm(d_model, layer_norm_eps, dtype=dtype) for _ in range(2))
        self.activation, self.dropout = activation, Dropout(dropout, rng=rng)

    def forward(self, x: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Any:
        inner = self.norm1(x)
        seen, _ = self.self_attn(inner, inner, inner, src_key_padding_mask, False, src_mask, is_causal=is_causal)
        x = x + self.dropout(seen)
        wide = self.dropout(self.activation(self.linear1(self.norm2(x))))
        return x + self.dropout(self.linear2(wide))
