"""What a model costs: floating-point operations and bytes, counted from its config.

A multiply-add counts as two operations. Training costs three times the forward pass: the backward
pass computes a gradient for the inputs and one for the weights of every matrix product (Kaplan et
al. 2020, section 2.1).
"""

import time

import torch

from ch03_gpt.config import GPTConfig


def matrix_parameters(config: GPTConfig) -> int:
    """Weights that every token is multiplied by: the blocks' matrices and the output head."""
    C, D = config.emb_dim, config.head_dim
    attention = C * (C + 2 * config.kv_heads * D) + C * C
    feed_forward = (3 if config.ffn == "swiglu" else 2) * C * config.hidden_dim
    return config.n_layers * (attention + feed_forward) + C * config.vocab_size


def flops_per_token(config: GPTConfig, length: int | None = None) -> int:
    """Forward-pass operations per token, averaged over a causal sequence of `length` tokens.

    Two per matrix weight, and four per layer, width and token attended to (scores and weighted
    sum); a token attends to half of the sequence on average. Default length: the context.
    """
    T = length or config.context_length
    attended = (T + 1) / 2 if config.window is None else min((T + 1) / 2, config.window)
    return round(2 * matrix_parameters(config) + 4 * config.n_layers * config.emb_dim * attended)


def cache_bytes_per_token(config: GPTConfig, bytes_per_number: int = 2) -> int:
    """Bytes that the key/value cache grows by with each token (bfloat16 by default); a short
    convolution keeps its inputs, too.
    """
    conv_inputs = config.emb_dim if config.conv_kernel else 0
    per_layer = 2 * config.kv_heads * config.head_dim + conv_inputs
    return config.n_layers * per_layer * bytes_per_number


def matmul_peak(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """Best measured FLOP/s of a square matrix product on this device: the denominator of MFU."""
    if device.type != "cpu":
        size *= 8
    a = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(12):
        started = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best
