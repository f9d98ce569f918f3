"""GPT-2 in the layout of nanoGPT (Karpathy 2022): fused queries, keys and values, PyTorch's
attention, plain layers, all logits at once. A reference for the training benchmark that needs no
package.

With the weights of our GPT-2-shaped model it computes the same, except for GELU: nanoGPT uses the
exact form, which differs from GPT-2's approximation by less than 0.0005 and is faster on a CPU.
Left out: dropout and generation, which the benchmark does not use.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_gpt import GPTConfig, GPTModel


class Attention(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.emb_dim, 3 * config.emb_dim)
        self.out_proj = nn.Linear(config.emb_dim, config.emb_dim)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_heads, -1).transpose(1, 2)
            for part in self.qkv(x).split(C, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, D)
        return self.out_proj(y.transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        C = config.emb_dim
        self.norm1, self.att, self.norm2 = nn.LayerNorm(C), Attention(config), nn.LayerNorm(C)
        self.ff = nn.Sequential(nn.Linear(C, 4 * C), nn.GELU(), nn.Linear(4 * C, C))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.att(self.norm1(x))
        return x + self.ff(self.norm2(x))


class NanoGPT(nn.Module):
    """(B, T) ids -> (B, T, V) logits; the head shares the token embedding."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.tok_emb = nn.Embedding(config.vocab_size, config.emb_dim)
        self.pos_emb = nn.Embedding(config.context_length, config.emb_dim)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.n_layers)))
        self.final_norm = nn.LayerNorm(config.emb_dim)
        self.out_head = nn.Linear(config.emb_dim, config.vocab_size, bias=False)
        self.out_head.weight = self.tok_emb.weight

    def forward(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.tok_emb(ids) + self.pos_emb(positions)  # (B, T, C)
        return self.out_head(self.final_norm(self.blocks(x)))


def nano_gpt(model: GPTModel) -> NanoGPT:
    """`model`'s weights in a NanoGPT; ValueError if it has parts that NanoGPT lacks."""
    theirs, tensors = NanoGPT(model.config), {}
    for name, tensor in model.state_dict().items():
        name = name.replace("trf_blocks.", "blocks.").replace("ff.layers.", "ff.")
        if "norm" in name:
            name = name.replace(".scale", ".weight").replace(".shift", ".bias")
        tensors[name] = tensor
    try:
        theirs.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            "nanoGPT's layout has GPT-2's parts only (learned positions, LayerNorm, GELU, biases, a"
            f" tied head); this model has others: {error}"
        ) from error
    return theirs
