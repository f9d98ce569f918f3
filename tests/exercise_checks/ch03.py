"""Chapter 3's checks: oracles are torch's own layers and autograd, scipy, and the shipped
modules.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import entropy as entropy_of
from torch import nn
from torch.nn import functional as F

from ch02_attention import causal_mask
from ch03_gpt import (
    PRESETS,
    GPTConfig,
    GPTModel,
    TransformerBlock,
    cache_bytes_per_token,
    generate_text_simple,
)
from exercise_checks.expect import expect, expect_same

TINY = GPTConfig(vocab_size=20, context_length=16, emb_dim=24, n_heads=4, n_layers=2, qkv_bias=True)
LLAMA = replace(TINY, norm="rmsnorm", ffn="swiglu", position="rope", n_kv_heads=2, bias=False)


def resize_vocabulary(function: Callable) -> None:
    for tied in (False, True):
        torch.manual_seed(0)
        config = replace(TINY, tie_embeddings=tied)
        model, ids = GPTModel(config).eval(), torch.randint(0, 20, (2, 7))
        expected, grown = model(ids), function(model, 24)
        what = f"20 tokens grown to 24, {'tied' if tied else 'not tied'}"
        expect_same(f"{what}: what comes back", type(grown).__name__, "GPTModel")
        expect_same(f"{what}: its config", grown.config, replace(config, vocab_size=24))
        grown.eval()
        expect(
            f"{what}: logits of the old tokens", grown(ids)[..., :20].detach(), expected.detach()
        )
        for table in ("tok_emb", "out_head"):
            mean = getattr(model, table).weight.detach().mean(dim=0)
            expect(
                f"{what}: the new rows of {table}",
                getattr(grown, table).weight[20:].detach(),
                mean.expand(4, -1),
            )
        expect_same(f"{what}: is it tied", grown.out_head.weight is grown.tok_emb.weight, tied)


def fold_norm(function: Callable) -> None:
    torch.manual_seed(0)
    scale = torch.randn(5)
    shift = torch.randn(5)
    weight = torch.randn(3, 5)
    bias = torch.randn(3)
    x = torch.randn(8, 5)
    what = "C = 5, a linear layer 5 -> 3 behind the norm"
    folded = function(scale, shift, weight, bias)
    expect_same(
        f"{what}: shapes",
        [tuple(part.shape) for part in folded] if isinstance(folded, tuple) else folded,
        [(3, 5), (3,)],
    )
    expect(
        f"{what}: its outputs",
        F.linear(F.layer_norm(x, (5,)), *folded),
        F.linear(F.layer_norm(x, (5,), scale, shift), weight, bias),
        1e-4,
    )


def gelu_slope(function: Callable) -> None:
    x = torch.linspace(-6, 6, 49, requires_grad=True)
    F.gelu(x).sum().backward()
    expect("49 numbers from -6 to 6", function(x.detach()), x.grad)


def post_norm_block(function: Callable) -> None:
    torch.manual_seed(0)
    block, x = TransformerBlock(TINY).eval(), torch.randn(2, 6, 24)
    theirs = nn.TransformerEncoderLayer(
        24,
        4,
        96,
        dropout=0.0,
        activation=lambda x: F.gelu(x, approximate="tanh"),
        batch_first=True,
        norm_first=False,
    )
    ours = [
        *block.att.qkv.parameters(),
        *block.att.out_proj.parameters(),
        *block.ff.parameters(),
        *block.norm1.parameters(),
        *block.norm2.parameters(),
    ]
    with torch.no_grad():
        for parameter, values in zip(theirs.parameters(), ours, strict=True):
            parameter.copy_(nn.init.normal_(values, std=0.3))
    expected = theirs(x, src_mask=nn.Transformer.generate_square_subsequent_mask(6), is_causal=True)
    got = function(block, x)
    expect(
        "a block of width 24, x (2, 6, 24)",
        got.detach() if isinstance(got, torch.Tensor) else got,
        expected.detach(),
        1e-4,
    )


def parameter_count(function: Callable) -> None:
    for config in (
        TINY,
        LLAMA,
        replace(TINY, ffn="swiglu"),
        replace(TINY, bias=False, qkv_bias=False, n_kv_heads=1),
        *PRESETS.values(),
    ):
        with torch.device("meta"):
            expected = GPTModel(config).n_parameters()
        expect_same(f"{config}", function(config), expected)


def attended_pairs(function: Callable) -> None:
    for T, window in ((1, None), (9, None), (9, 1), (9, 4), (9, 9), (9, 30)):
        expect_same(
            f"T {T}, window {window}", function(T, window), int(causal_mask(T, T, window).sum())
        )
    expect_same(
        "T 1,000,000, window 4,096",
        function(1_000_000, 4096),
        int(np.minimum(np.arange(1, 1_000_001), 4096).sum()),
    )


def cache_tokens(function: Callable) -> None:
    for name, gib, size in (
        ("gpt2-124m", 1.0, 2),
        ("mistral-7b", 2.5, 2),
        ("llama2-7b", 8, 1),
        ("gpt2-124m", 0.01, 4),
    ):
        expected = int(gib * 2**30 / cache_bytes_per_token(PRESETS[name], size))
        expect_same(
            f"{name}, {gib} GiB, {size} bytes a number",
            function(PRESETS[name], gib, size),
            expected,
        )


def gumbel_draw(function: Callable) -> None:
    logits = torch.tensor([1.0, 0.0, 2.0, -1.0])
    what = "logits [1, 0, 2, -1]"
    expect(
        f"{what}, the same noise for all tokens",
        function(logits, torch.full((3, 4), 0.4)),
        [2, 2, 2],
    )
    uniform = torch.rand(50_000, 4, generator=torch.Generator().manual_seed(0))
    shares = np.bincount(np.asarray(function(logits, uniform)), minlength=4) / 50_000
    expect(f"{what}, shares of 50,000 draws", shares, logits.softmax(dim=0), 0.01)


def temperature_for(function: Callable) -> None:
    logits = torch.tensor([2.0, 1.0, 0.5, -1.0, -3.0])
    for wanted in (0.2, 1.0, 1.5):
        expected = brentq(
            lambda t, wanted=wanted: entropy_of(softmax(logits.double().numpy() / t)) - wanted,
            0.05,
            500,
        )
        expect(
            f"logits {logits.tolist()}, entropy {wanted}", function(logits, wanted), expected, 1e-3
        )


def write_with_cache(function: Callable) -> None:
    torch.manual_seed(0)
    model, ids, fed = GPTModel(LLAMA).eval(), torch.randint(0, 20, (1, 4)), []
    expected = generate_text_simple(model, ids, 8, context_size=16)
    handle = model.trf_blocks[0].register_forward_pre_hook(
        lambda block, inputs: fed.append(inputs[0].shape[1])
    )
    try:
        expect("a prompt of 4 tokens, 8 new ones: ids", function(model, ids.clone(), 8), expected)
    finally:
        handle.remove()
    expect_same(
        "a prompt of 4 tokens, 8 new ones: tokens fed, step by step", fed, [4, 1, 1, 1, 1, 1, 1, 1]
    )


def swiglu_width(function: Callable) -> None:
    for emb_dim in (24, 64, 100, 192, 768, 4096):
        expect_same(
            f"emb_dim {emb_dim}",
            function(emb_dim),
            replace(TINY, emb_dim=emb_dim, ffn="swiglu").hidden_dim,
        )
    expect_same(
        "emb_dim 4096, multiple 256 (Llama 2)", function(4096, 256), PRESETS["llama2-7b"].hidden_dim
    )


CHECKS = [
    resize_vocabulary,
    fold_norm,
    gelu_slope,
    post_norm_block,
    parameter_count,
    attended_pairs,
    cache_tokens,
    gumbel_draw,
    temperature_for,
    write_with_cache,
    swiglu_width,
]
