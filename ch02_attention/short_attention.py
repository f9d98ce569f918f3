"""Causal attention for short texts in bfloat16 on a CPU, from the fused projection to the context
vectors.

PyTorch's fused kernel never holds the T x T weights, but its backward pass is slow on a CPU. For a
few hundred tokens it is faster to write them out, and to spell the backward pass out too: one copy
brings the heads of queries, keys and values together, norms and rotations happen in place, and
every product is one batched matrix product. `attention_reference`, `apply_rope` and `F.rms_norm`
are the readable references.
"""

import math

import torch
from torch import Tensor

SHORT = 512  # tokens up to which this is faster than the fused kernel
NORM_EPS = 1e-6  # added to the mean square that queries and keys are divided by


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turn (..., T, D) in place by the angles whose cosines and sines are (T, D / 2), in x's
    dtype.
    """
    first, second = x.chunk(2, dim=-1)
    before = first.clone()
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(before, sin)


def _normalize(x: Tensor) -> Tensor:
    """Divide (..., T, D) in place by the root mean square; returns what it was multiplied by
    (..., T, 1).
    """
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1]
    factor = torch.rsqrt(mean_square + NORM_EPS)
    x.mul_(factor)
    return factor


def _normalize_backward(gradient: Tensor, normed: Tensor, factor: Tensor) -> None:
    """Turn the gradient of what `_normalize` made into that of what it got, in place. Rotated or
    not: that changes no length.
    """
    along = (gradient * normed).mean(dim=-1, keepdim=True)
    gradient.addcmul_(normed, along, value=-1).mul_(factor)


class _ShortCausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, qkv: Tensor, n_heads: int, cos: Tensor | None, sin: Tensor | None, normed: bool
    ) -> Tensor:
        B, T, width = qkv.shape
        D = width // 3 // n_heads
        heads = qkv.view(B, T, 3, n_heads, D).permute(2, 0, 3, 1, 4).contiguous()  # (3, B, H, T, D)
        factor = _normalize(heads[:2]) if normed else None
        if cos is not None:
            _rotate(heads[:2], cos, sin)
        queries, keys, values = heads.view(3, B * n_heads, T, D)
        future = torch.full((T, T), float("-inf"), dtype=qkv.dtype, device=qkv.device).triu_(1)
        # (B H, T, T)
        scores = torch.baddbmm(future, queries, keys.transpose(1, 2), alpha=1 / math.sqrt(D))
        weights = torch.ops.aten._softmax(scores, -1, False)
        context = torch.bmm(weights, values).view(B, n_heads, T, D)
        ctx.save_for_backward(heads, weights, cos, sin, factor)
        return context.transpose(1, 2).reshape(B, T, n_heads * D)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        heads, weights, cos, sin, factor = ctx.saved_tensors
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
        if factor is not None:
            _normalize_backward(gradient[:2], heads[:2], factor)
        if cos is not None:
            _rotate(gradient[:2], cos, -sin)
        return gradient.permute(1, 3, 0, 2, 4).reshape(B, T, 3 * H * D), None, None, None, None


def short_causal_attention(
    qkv: Tensor,
    n_heads: int,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    normed: bool = False,
) -> Tensor:
    """Queries, keys and values side by side (B, T, 3 C) -> context vectors (B, T, C).

    `cos`, `sin`: `rope_table`'s, (T, D) each, to rotate queries and keys by. `normed`: divide them
    by their root mean square before.
    """
    if cos is not None:
        half = cos.shape[-1] // 2
        cos, sin = cos[:, :half].to(qkv.dtype), sin[:, :half].to(qkv.dtype)
    with torch.autocast(qkv.device.type, enabled=False):
        return _ShortCausalAttention.apply(qkv, n_heads, cos, sin, normed)
