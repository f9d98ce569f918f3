"""Attention kernels: `causal_attention` chooses the fastest one for a device and dtype.

PyTorch's fused kernel never stores the T x T weights, and does best nearly everywhere. On a CPU two
cases are faster with the weights written out: dropout, for which no fused kernel exists, and the
training of short texts in bfloat16, where `bf16_attention` also takes over the steps from the
projection to the heads. `attention_reference`, `apply_rope` and `rms_norm_reference` are the
readable references.
"""

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ch02_attention.dropout import dropout
from ch02_attention.mask import CacheLayout, causal_mask

if TYPE_CHECKING:
    from ch02_attention.attention import MultiHeadAttention

MAX_T = 512  # tokens up to which bf16_attention is faster than the fused kernel


def attention_with_dropout(
    queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None, rate: float
) -> Tensor:
    """(B, H, T, D), (B, H_kv, S, D) twice -> (B, H, T, D): attention that drops its weights with
    probability `rate`.

    `allowed`: (T, S) booleans, True where a query attends to a key; None: everywhere.
    """
    groups = queries.shape[1] // keys.shape[1]
    if groups > 1:
        keys, values = (x.repeat_interleave(groups, dim=1) for x in (keys, values))
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])  # (B, H, T, S)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    return dropout(scores.softmax(dim=-1), rate) @ values


def causal_attention(
    queries: Tensor, keys: Tensor, values: Tensor, layout: CacheLayout, rate: float = 0.0
) -> Tensor:
    """(B, H, T, D), (B, H_kv, S, D) twice -> (B, H, T, D): attention under the layout's mask, with
    dropout of its weights at `rate`; in the dtype of the keys.
    """
    queries = queries.to(keys.dtype)
    device = queries.device.type
    autocast = torch.is_autocast_enabled(device)
    # The heads have their dtype by now. Autocast would round a float32 cache anew for every token.
    with torch.autocast(device, enabled=False) if autocast else nullcontext():
        if rate and device == "cpu":
            T, S = queries.shape[2], keys.shape[2]
            allowed = causal_mask(T, S) if layout.is_causal else layout.attn_mask
            return attention_with_dropout(queries, keys, values, allowed, rate)
        return F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=layout.attn_mask,
            dropout_p=rate,
            is_causal=layout.is_causal,
            enable_gqa=keys.shape[1] < queries.shape[1],
        )


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Apply RoPE to (..., T, D) in place; `cos` and `sin` (T, D / 2) have x's dtype."""
    first, second = x.chunk(2, dim=-1)
    unrotated = first.clone()
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(unrotated, sin)


def _normalize(x: Tensor, eps: float) -> Tensor:
    """Divide (..., T, D) by its root mean square, in place; return the factors (..., T, 1)."""
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1]
    factor = torch.rsqrt(mean_square + eps)
    x.mul_(factor)
    return factor


def _normalize_backward(gradient: Tensor, normed: Tensor, factor: Tensor) -> None:
    """Backpropagate through `_normalize`, in place."""
    along = (gradient * normed).mean(dim=-1, keepdim=True)
    gradient.addcmul_(normed, along, value=-1).mul_(factor)


class _BF16Attention(torch.autograd.Function):
    """One copy brings the heads of queries, keys and values together, norms and rotations happen in
    place, every product is one batched matrix product, and the backward pass does the same.
    """

    @staticmethod
    def forward(
        ctx,
        qkv: Tensor,
        n_heads: int,
        cos: Tensor | None,
        sin: Tensor | None,
        scales: Tensor | None,
        eps: float | None,
    ) -> Tensor:
        B, T, width = qkv.shape
        D = width // 3 // n_heads
        heads = qkv.view(B, T, 3, n_heads, D).permute(2, 0, 3, 1, 4).contiguous()  # (3, B, H, T, D)
        factor = normed = None
        if scales is not None and eps is not None:
            factor = _normalize(heads[:2], eps)
            normed = heads[:2].clone()
            heads[:2].mul_(scales)
        if cos is not None and sin is not None:
            _rotate(heads[:2], cos, sin)
        queries, keys, values = heads.view(3, B * n_heads, T, D)
        future = torch.full((T, T), float("-inf"), dtype=qkv.dtype, device=qkv.device).triu_(1)
        # (B H, T, T)
        scores = torch.baddbmm(future, queries, keys.transpose(1, 2), alpha=1 / math.sqrt(D))
        weights = torch.ops.aten._softmax(scores, -1, False)
        context = torch.bmm(weights, values).view(B, n_heads, T, D)
        ctx.save_for_backward(heads, weights, cos, sin, scales, normed, factor)
        return context.transpose(1, 2).reshape(B, T, n_heads * D)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        heads, weights, cos, sin, scales, normed, factor = ctx.saved_tensors
        _, B, H, T, D = heads.shape
        queries, keys, values = heads.view(3, B * H, T, D)
        upstream = upstream.view(B, T, H, D).transpose(1, 2).reshape(B * H, T, D)
        gradient = torch.empty_like(heads)
        d_queries, d_keys, d_values = gradient.view(3, B * H, T, D)
        torch.bmm(weights.transpose(1, 2), upstream, out=d_values)
        d_weights = torch.bmm(upstream, values.transpose(1, 2))  # (B H, T, T)
        d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        torch.bmm(d_scores, keys, out=d_queries)
        torch.bmm(d_scores.transpose(1, 2), queries, out=d_keys)
        d_qk, d_scales = gradient[:2].mul_(1 / math.sqrt(D)), None
        if cos is not None:
            _rotate(d_qk, cos, -sin)
        if scales is not None:
            d_scales = (d_qk * normed).sum(dim=(1, 2, 3), keepdim=True, dtype=scales.dtype)
            _normalize_backward(d_qk.mul_(scales), normed, factor)
        d_qkv = gradient.permute(1, 3, 0, 2, 4).reshape(B, T, 3 * H * D)
        return d_qkv, None, None, None, d_scales, None


def takes_bf16_attention(layer: "MultiHeadAttention", qkv: Tensor, layout: CacheLayout) -> bool:
    """Whether `bf16_attention` is faster for this `MultiHeadAttention` and these projections."""
    return (
        qkv.dtype == torch.bfloat16
        and qkv.device.type == "cpu"
        and layout.is_causal
        and layout.S <= MAX_T
        and layer.num_kv_heads == layer.num_heads
        and not (layer.training and layer.dropout)
    )


def bf16_attention(layer: "MultiHeadAttention", qkv: Tensor) -> Tensor:
    """Projections (B, T, 3 C) of a `MultiHeadAttention` -> context vectors (B, T, C), causal."""
    T, half = qkv.shape[1], layer.head_dim // 2
    cos = sin = scales = eps = None
    if layer.rotates:  # both halves of a table are equal
        cos, sin = (table[:T, :half].to(qkv.dtype) for table in (layer.cos, layer.sin))
    if layer.q_norm is not None and layer.k_norm is not None:
        scales = torch.stack((layer.q_norm.scale, layer.k_norm.scale)).view(2, 1, 1, 1, -1)
        eps = layer.q_norm.eps
    with torch.autocast(qkv.device.type, enabled=False):
        return _BF16Attention.apply(qkv, layer.num_heads, cos, sin, scales, eps)
