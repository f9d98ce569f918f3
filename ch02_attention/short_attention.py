"""Causal attention for short texts in bfloat16 on a CPU, from the fused projection to the context vectors.

PyTorch's fused kernel never holds the T x T weights, but its backward pass is slow on a CPU. For a few hundred
tokens it is faster to write them out, and to spell the backward pass out too: one copy brings the heads of
queries, keys and values together, rotations happen in place, and every product is one batched matrix product.
`attention_reference` and `apply_rope` are the readable references.
"""

import math

import torch
from torch import Tensor

SHORT = 512  # tokens up to which this is faster than the fused kernel


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turn (..., T, D) in place by the angles whose cosines and sines are (T, D / 2), in x's dtype."""
    first, second = x.chunk(2, dim=-1)
    before = first.clone()
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(before, sin)


class _ShortCausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv: Tensor, n_heads: int, cos: Tensor | None, sin: Tensor | None) -> Tensor:
        B, T, width = qkv.shape
        D = width // 3 // n_heads
        heads = qkv.view(B, T, 3, n_heads, D).permute(2, 0, 3, 1, 4).contiguous()  # (3, B, H, T, D)
        if cos is not None:
            _rotate(heads[:2], cos, sin)
        queries, keys, values = heads.view(3, B * n_heads, T, D)
        future = torch.full((T, T), float("-inf"), dtype=qkv.dtype, device=qkv.device).triu_(1)
        scores = torch.baddbmm(future, queries, keys.transpose(1, 2), alpha=1 / math.sqrt(D))  # (B H, T, T)
        weights = torch.ops.aten._softmax(scores, -1, False)
        context = torch.bmm(weights, values).view(B, n_heads, T, D)
        ctx.save_for_backward(heads, weights, cos, sin)
        return context.transpose(1, 2).reshape(B, T, n_heads * D)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        heads, weights, cos, sin = ctx.saved_tensors
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
        gradient[:2].mul_(1 / math.sqrt(D))
        if cos is not None:
            _rotate(gradient[:2], cos, -sin)
        return gradient.permute(1, 3, 0, 2, 4).reshape(B, T, 3 * H * D), None, None, None


def short_causal_attention(qkv: Tensor, n_heads: int, cos: Tensor | None = None, sin: Tensor | None = None) -> Tensor:
    """Queries, keys and values side by side (B, T, 3 C) -> context vectors (B, T, C).

    `cos`, `sin`: `rope_table`'s, (T, D) each, to rotate queries and keys by.
    """
    if cos is not None:
        half = cos.shape[-1] // 2
        cos, sin = cos[:, :half].to(qkv.dtype), sin[:, :half].to(qkv.dtype)
    with torch.autocast(qkv.device.type, enabled=False):
        return _ShortCausalAttention.apply(qkv, n_heads, cos, sin)
