"""Rotary position embedding: rotate queries and keys by an angle that grows with the position, so
that their scores depend on the distance only (Su et al. 2021, RoFormer).

Pairs are (i, i + D/2), as in Llama's released code; the paper pairs neighbours (2i, 2i + 1).
"""

import torch
from torch import Tensor


def rope_table(
    context_length: int, head_dim: int, base: float = 10_000.0, device=None
) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, float32 (T, D), of every position's angle at every frequency."""
    if head_dim % 2:
        raise ValueError(f"RoPE rotates pairs, so the head width must be even, not {head_dim}")
    # (D/2,), in radians per token: from 1 for the first pair, which tells neighbours apart, to
    # nearly 1 / base for the last, which tells distant parts of a text apart
    frequencies = base ** (
        -torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    )
    # (T, D/2)
    angles = torch.outer(
        torch.arange(context_length, device=device, dtype=torch.float32), frequencies
    )
    angles = torch.cat((angles, angles), dim=-1)  # (T, D)
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(B, H, T, D), cosines and sines (T, D) -> (B, H, T, D) rotated, in x's dtype."""
    first, second = x.chunk(2, dim=-1)
    rotated = torch.cat((-second, first), dim=-1)  # by 90 degrees
    # (first cos - second sin, second cos + first sin), in the tables' float32
    return (x * cos + rotated * sin).to(x.dtype)


def rope_reference(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """The same through complex numbers: (B, H, T, D), positions (T,) -> (B, H, T, D), float32."""
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half, dtype=torch.float32) / half)
    rotations = torch.polar(
        torch.ones(len(positions), half), torch.outer(positions.float(), frequencies)
    )
    pairs = torch.complex(x[..., :half].float(), x[..., half:].float()) * rotations
    return torch.cat((pairs.real, pairs.imag), dim=-1)
