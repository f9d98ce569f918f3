"""Solutions to the exercises of chapter 3: one way of many."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from ch03_gpt import GPTConfig, GPTModel, TransformerBlock


def resize_vocabulary(model: GPTModel, n_vocab: int) -> GPTModel:
    """Only the two tables depend on the vocabulary; with the mean row a new token is average."""
    state = model.state_dict()
    for name in ("tok_emb.weight", "out_head.weight"):
        rows = state[name]
        state[name] = torch.cat(
            (rows, rows.mean(dim=0, keepdim=True).expand(n_vocab - len(rows), -1))
        )
    grown = GPTModel(replace(model.config, vocab_size=n_vocab))
    grown.load_state_dict(state)
    return grown


def fold_norm(scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Scaling the input's features equals scaling the matrix's columns; the shift is a bias."""
    return weight * scale, weight @ shift + bias


def gelu_slope(x: Tensor) -> Tensor:
    """It tends to 0 on the left and to 1 on the right, as ReLU's slope; in between it is smooth,
    and slightly negative for some negative x.
    """
    below = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    bell = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    return below + x * bell


def post_norm_block(block: TransformerBlock, x: Tensor) -> Tensor:
    """Here the residual stream itself is normalised, so every path from top to bottom passes norms:
    harder to train when it is deep, which is why GPT-2 moved the norm (Xiong et al. 2020).
    """
    x = block.norm1(x + block.att(x))
    return block.norm2(x + block.ff(x))


def parameter_count(config: GPTConfig) -> int:
    """Matrices grow with C^2, vectors with C, tables with V or T."""
    C, hidden, kv = config.emb_dim, config.hidden_dim, config.kv_heads * config.head_dim
    widened = 2 * hidden if config.ffn == "swiglu" else hidden
    norm = C * (2 if config.norm == "layernorm" and config.bias else 1)
    attention = C * (C + 2 * kv) + (C + 2 * kv) * config.qkv_bias + C * C + C * config.bias
    feed_forward = C * widened + hidden * C + (widened + C) * config.bias
    qk_norm = 2 * config.head_dim * config.qk_norm
    conv = max(config.conv_kernel - 1, 0) * C
    block = attention + feed_forward + 2 * norm + qk_norm + conv
    tables = config.vocab_size * C * (1 if config.tie_embeddings else 2)
    positions = config.context_length * C * (config.position == "learned")
    return tables + positions + config.n_layers * block + norm


def attended_pairs(T: int, window: int | None = None) -> int:
    """A triangle, then a band: without a window the work grows with T squared, with one in
    proportion to T.
    """
    window = min(window or T, T)
    return window * (window + 1) // 2 + (T - window) * window


def cache_tokens(config: GPTConfig, gib: float, bytes_per_number: int = 2) -> int:
    """Fewer key/value heads and fewer bytes help in proportion; fewer query heads do not help."""
    per_token = 2 * config.n_layers * config.kv_heads * config.head_dim * bytes_per_number
    return int(gib * 2**30 // per_token)


def gumbel_draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """With Gumbel noise added, logit i is the largest with probability softmax_i, so argmax samples
    from the softmax.
    """
    return (logits - torch.log(-torch.log(uniform))).argmax(dim=-1)


def temperature_for(logits: Tensor, entropy: float) -> float:
    """Temperatures span orders of magnitude, so the interval is halved in the logarithm."""
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = math.sqrt(low * high)
        log_p = (logits.cpu().double() / middle).log_softmax(dim=0)
        if -(log_p.exp() * log_p).sum() < entropy:
            low = middle
        else:
            high = middle
    return middle


def write_with_cache(model: GPTModel, ids: Tensor, max_new_tokens: int) -> Tensor:
    """The cache holds what earlier tokens contribute to the next ones, so each is fed once."""
    cache, newest = model.make_cache(1), ids
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            newest = model(newest, cache)[:, -1].argmax(dim=-1, keepdim=True)
            ids = torch.cat((ids, newest), dim=1)
    return ids


def swiglu_width(emb_dim: int, multiple: int = 32) -> int:
    """Hardware likes multiples; Llama 2 rounds 8/3 of 4,096 up to a multiple of 256, which is
    11,008.
    """
    return -(-8 * emb_dim // (3 * multiple)) * multiple
