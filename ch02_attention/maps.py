"""Attention maps: which token attends to which, head by head."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ch02_attention.attention import MultiHeadAttention, attention_reference
from ch02_attention.mask import CacheLayout


@torch.no_grad()
def attention_maps(layer: MultiHeadAttention, x: Tensor) -> Tensor:
    """(B, T, d_in) -> the layer's attention weights (B, H, T, T), float32; each row sums to one."""
    layout = CacheLayout.contiguous(0, x.shape[1])
    queries, keys, values = layer.split_heads(layer.qkv(x), layout)
    keys = keys.repeat_interleave(layer.num_heads // layer.num_kv_heads, dim=1)
    values = values.repeat_interleave(layer.num_heads // layer.num_kv_heads, dim=1)
    return attention_reference(queries, keys, values, window=layer.window)[1].float()


def draw_attention(weights: Tensor, tokens: list[str], title: str = "") -> Figure:
    """Weights (H, T, T) of one text and its T tokens -> a figure with one map per head.

    ValueError if the numbers of tokens and weights differ.
    """
    H, T, _ = weights.shape
    if len(tokens) != T:
        raise ValueError(f"{len(tokens)} tokens for weights over {T}")
    columns = min(H, 4)
    rows = -(-H // columns)
    side = min(4.5, max(2.6, 0.26 * T))
    figure = Figure(figsize=(side * columns + 0.8, side * rows + 0.9), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for head, axes in enumerate(panels):
        if head >= H:
            axes.set_visible(False)
            continue
        image = axes.imshow(weights[head].cpu().numpy(), vmin=0, vmax=1, cmap="Blues")
        axes.set_title(f"head {head}", fontsize=10)
        axes.set_xticks(range(T), tokens, rotation=90, fontsize=8)
        axes.set_yticks(range(T), tokens if head % columns == 0 else [], fontsize=8)
    figure.supxlabel("key: attended to", fontsize=9)
    figure.supylabel("query: attends", fontsize=9)
    figure.colorbar(image, ax=panels, shrink=0.7, label="weight")
    figure.suptitle(title, fontsize=11)
    return figure
