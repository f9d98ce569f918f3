"""Attention against torch, transformers, the plain-Python rung, finite differences and itself."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch02_attention import (
    AttentionOptions,
    CacheLayout,
    CausalAttention,
    KVCache,
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    RMSNorm,
    SelfAttention_v1,
    SelfAttention_v2,
    apply_rope,
    attention,
    attention_lists,
    attention_maps,
    attention_reference,
    causal_mask,
    copy_heads,
    copy_matrices,
    draw_attention,
    pick_device,
    rms_norm_reference,
    rope_reference,
    rope_table,
)
from ch02_attention.cpu_attention import MAX_T, bf16_attention
from ch02_attention.ladder import project_lists

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_reference_equals_torchs_attention():
    """Oracle: F.scaled_dot_product_attention."""
    q, k, v = torch.randn(3, 2, 4, 9, 8)
    torch.testing.assert_close(
        attention_reference(q, k, v)[0], F.scaled_dot_product_attention(q, k, v, is_causal=True)
    )
    torch.testing.assert_close(
        attention_reference(q, k, v, causal=False)[0], F.scaled_dot_product_attention(q, k, v)
    )


@given(st.integers(1, 6), st.integers(0, 5), st.one_of(st.none(), st.integers(1, 8)))
def test_mask_equals_its_definition(T, past, window):
    """Oracle: a loop over query and key positions."""
    S = T + past
    mask = causal_mask(T, S, window)
    for i in range(T):
        for j in range(S):
            position = past + i
            assert mask[i, j] == (j <= position and (window is None or position - j < window))


def test_every_rung_equals_the_next():
    """Oracle: plain Python on lists of floats, then each rung for the next."""
    x = torch.randn(7, 12)
    v1 = SelfAttention_v1(12, 6)
    v2 = SelfAttention_v2(12, 6)
    causal = CausalAttention(12, 6, 7, 0.0)
    copy_matrices(v1, v2)
    copy_matrices(v1, causal)
    q, k, v = (project_lists(x.tolist(), w.tolist()) for w in (v1.W_query, v1.W_key, v1.W_value))
    torch.testing.assert_close(torch.tensor(attention_lists(q, k, v)[0]), v1(x))
    torch.testing.assert_close(v1(x), v2(x))
    torch.testing.assert_close(
        torch.tensor(attention_lists(q, k, v, causal=True)[0]), causal(x.unsqueeze(0))[0]
    )


@pytest.mark.parametrize("bias", [False, True])
def test_wrapper_equals_the_fused_layer(bias):
    """Oracle: separate heads side by side."""
    wrapper = MultiHeadAttentionWrapper(12, 4, 9, 0.0, 3, bias)
    fused = MultiHeadAttention(12, 12, 9, 0.0, 3, bias)
    copy_heads(wrapper, fused)
    x = torch.randn(2, 9, 12)
    torch.testing.assert_close(wrapper(x), fused(x))
    torch.testing.assert_close(wrapper(x[:, :4]), fused(x[:, :4]))


def test_fused_layer_equals_torchs_multihead_attention():
    """Oracle: torch.nn.MultiheadAttention with copied weights."""
    ours = MultiHeadAttention(16, 16, 10, 0.0, 4, qkv_bias=True)
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.out_proj.weight)
        theirs.out_proj.bias.copy_(ours.out_proj.bias)
    x = torch.randn(3, 10, 16)
    expected, weights = theirs(x, x, x, attn_mask=~causal_mask(10, 10), average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected)
    torch.testing.assert_close(attention_maps(ours, x), weights)


def test_rms_norm_equals_torch_and_its_reference():
    """Oracles: torch's kernel and the formula spelled out."""
    x, norm = torch.randn(3, 5, 24), RMSNorm(24)
    torch.nn.init.normal_(norm.scale)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (24,), norm.scale, 1e-5))
    torch.testing.assert_close(rms_norm_reference(x, norm.scale), norm(x))
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def random_layer(rotated: bool, normed: bool) -> MultiHeadAttention:
    """In float64, with random scales of the norms."""
    base = 10_000.0 if rotated else None
    options = AttentionOptions(rope_base=base, qk_norm=normed, norm_eps=0.01)
    layer = MultiHeadAttention(24, 24, MAX_T, 0.0, 3, options=options)
    if normed:
        torch.nn.init.normal_(layer.q_norm.scale)
        torch.nn.init.normal_(layer.k_norm.scale)
    return layer.double()


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("normed", [False, True])
def test_bf16_attention_equals_the_reference_with_gradients(rotated, normed):
    """Oracle: attention_reference on the layer's own heads, in float64: values, gradients of the
    projections and of the norms' scales.
    """
    layer = random_layer(rotated, normed)
    qkv = torch.randn(2, 11, 3 * 24, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 11, 24, dtype=torch.float64)
    heads = layer.split_heads(qkv, CacheLayout.contiguous(0, 11))
    slow = attention_reference(*heads)[0].transpose(1, 2).reshape(2, 11, 24)
    fast = bf16_attention(layer, qkv)
    torch.testing.assert_close(fast, slow)
    inputs = [qkv, *((layer.q_norm.scale, layer.k_norm.scale) if normed else ())]
    for found, expected in zip(
        *(torch.autograd.grad(result, inputs, upstream) for result in (fast, slow)), strict=True
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("normed", [False, True])
def test_bf16_attention_passes_gradcheck(normed):
    """Oracle: finite differences."""
    qkv = torch.randn(1, 5, 3 * 24, dtype=torch.float64, requires_grad=True)
    layer = random_layer(True, normed)
    assert torch.autograd.gradcheck(lambda x: bf16_attention(layer, x), qkv)


@pytest.mark.parametrize("T", [MAX_T, MAX_T + 1])
def test_the_layer_takes_the_bf16_kernel_only_for_short_texts(T, monkeypatch):
    """Oracle: float32; the kernel runs up to its limit."""
    calls = []
    monkeypatch.setattr(
        attention, "bf16_attention", lambda *args: calls.append(1) or bf16_attention(*args)
    )
    options = AttentionOptions(rope_base=10_000.0)
    layer = MultiHeadAttention(32, 32, MAX_T + 1, 0.0, 2, options=options)
    x = torch.randn(1, T, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = layer(x)
    assert len(calls) == (T <= MAX_T)
    torch.testing.assert_close(result.float(), layer(x), atol=0.02, rtol=0.05)


def test_bfloat16_layer_is_close_to_float32():
    """Oracle: the float32 result; bfloat16 has 8 bits of precision."""
    options = AttentionOptions(rope_base=10_000.0)
    layer, x = MultiHeadAttention(64, 64, 32, 0.0, 2, options=options), torch.randn(2, 32, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close = layer(x)
    assert close.dtype == torch.bfloat16
    torch.testing.assert_close(close.float(), layer(x), atol=0.02, rtol=0.05)


def test_grouped_heads_equal_repeated_heads():
    """Oracle: a full layer whose key and value weights are repeated for each group."""
    grouped = MultiHeadAttention(
        16, 16, 8, 0.0, 4, options=AttentionOptions(num_kv_heads=2, rope_base=100.0)
    )
    full = MultiHeadAttention(16, 16, 8, 0.0, 4, options=AttentionOptions(rope_base=100.0))
    q, k, v = grouped.qkv.weight.split((16, 8, 8))
    repeated = [w.view(2, 4, 16).repeat_interleave(2, dim=0).reshape(16, 16) for w in (k, v)]
    full.load_state_dict(grouped.state_dict() | {"qkv.weight": torch.cat((q, *repeated))})
    x = torch.randn(2, 8, 16)
    torch.testing.assert_close(grouped(x), full(x))
    torch.testing.assert_close(attention_maps(grouped, x), attention_maps(full, x))


LAYERS = st.fixed_dictionaries(
    {
        "num_kv_heads": st.sampled_from([None, 1, 2]),
        "rope_base": st.sampled_from([None, 10_000.0]),
        "window": st.sampled_from([None, 1, 3, 30]),
        "qk_norm": st.booleans(),
    }
)


@pytest.mark.parametrize("T", [7, MAX_T + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_untrained_qk_norm_gives_every_query_and_key_the_same_length(T, dtype):
    """Oracle: the formula in float32 from the layer's own projection; however large the weights, no
    score exceeds sqrt(D) while the scales are 1.
    """
    options = AttentionOptions(num_kv_heads=2, qk_norm=True)
    layer = MultiHeadAttention(16, 16, MAX_T + 1, 0.0, 2, options=options)
    x = torch.randn(1, T, 16)
    torch.nn.init.normal_(layer.qkv.weight)
    queries, keys, values = (
        part.view(1, T, 2, 8).transpose(1, 2) for part in layer.qkv(x).split(16, dim=2)
    )
    unit = [part / part.square().mean(dim=3, keepdim=True).sqrt() for part in (queries, keys)]
    context, weights = attention_reference(*unit, values)  # (1, 2, T, 8), (1, 2, T, T)
    expected = layer.out_proj(context.transpose(1, 2).flatten(2))
    close = {"atol": 1e-5, "rtol": 1e-4} if dtype is torch.float32 else {"atol": 0.1, "rtol": 0.05}
    torch.testing.assert_close(layer.to(dtype)(x.to(dtype)).float(), expected, **close)
    torch.testing.assert_close(attention_maps(layer.float(), x), weights, atol=0.03, rtol=0.05)
    assert (unit[0] @ unit[1].transpose(2, 3) / 8**0.5).abs().max() <= 8**0.5 + 1e-4


@settings(max_examples=40, deadline=None)
@given(LAYERS, st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_cached_equals_uncached_however_it_is_cut(options, chunks):
    """Oracle: the same layer on the whole text at once."""
    torch.manual_seed(1)
    layer = MultiHeadAttention(16, 16, 30, 0.0, 4, options=AttentionOptions(**options))
    x = torch.randn(2, sum(chunks), 16)
    cache = KVCache(2, 1, layer.num_kv_heads, 30, 4, window=options["window"], chunk=6)
    parts = []
    for part in x.split(chunks, dim=1):
        cache.prepare(part.shape[1])
        parts.append(layer(part, cache.layers[0]))
    assert cache.cache_seqlens.tolist() == [sum(chunks)] * 2
    torch.testing.assert_close(torch.cat(parts, dim=1), layer(x), atol=1e-5, rtol=1e-4)


def test_autocast_does_not_round_the_cache(monkeypatch):
    """Attention over a float32 cache is computed in float32; without a cache, in autocast's dtype."""
    seen, fused = [], F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *args, **options: seen.append(fused(*args, **options)) or seen[-1],
    )
    options = AttentionOptions(num_kv_heads=2)
    layer, x = MultiHeadAttention(16, 16, 30, 0.0, 4, options=options), torch.randn(2, 3, 16)
    cache = KVCache(2, 1, 2, 30, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cache.prepare(3)
        cached, plain = layer(x, cache.layers[0]), layer(x)
    assert [context.dtype for context in seen] == [torch.float32, torch.bfloat16]
    assert cached.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(cached, plain, atol=0.02, rtol=0.05)


def test_padding_never_touches_what_a_full_row_holds():
    """Oracle: the keys that were written. Row 0 is full, and idle while row 1 goes on."""
    cache = KVCache(2, 1, 1, 4, 2)
    keys = torch.randn(2, 1, 4, 2)
    cache.prepare(4, [4, 1])
    cache.layers[0].append(keys, keys)
    cache.prepare(1, [0, 1])
    found, _ = cache.layers[0].append(*torch.randn(2, 2, 1, 1, 2))
    assert torch.equal(found[0], keys[0])
    assert torch.equal(found[1, :, 0], keys[1, :, 0])
    assert cache.cache_seqlens.tolist() == [4, 2]


@settings(max_examples=30, deadline=None)
@given(LAYERS, st.integers(0, 9))
def test_the_future_cannot_change_the_past(options, changed):
    """Oracle: self-consistency; beyond the window the past does not matter either."""
    layer = MultiHeadAttention(16, 16, 10, 0.0, 4, options=AttentionOptions(**options))
    x = torch.randn(1, 10, 16)
    y = x.clone()
    y[:, changed] += 10.0
    difference = (layer(x) - layer(y)).abs().amax(dim=(0, 2))
    assert torch.all(difference[:changed] == 0)
    assert difference[changed] > 0
    if options["window"]:
        assert torch.all(difference[changed + options["window"] :] == 0)


@pytest.mark.parametrize(
    "layer",
    [
        SelfAttention_v1(3, 4),
        SelfAttention_v2(3, 4),
        CausalAttention(3, 4, 5, 0.0),
        MultiHeadAttentionWrapper(3, 2, 5, 0.0, 2),
        MultiHeadAttention(
            3, 4, 5, 0.0, 2, options=AttentionOptions(num_kv_heads=1, rope_base=10.0)
        ),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_gradients_against_finite_differences(layer):
    """Oracle: torch.autograd.gradcheck in float64, for the input and every weight."""
    layer = layer.double()
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *weights):
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *layer.parameters()))


def test_rope_equals_transformers_and_complex_numbers():
    """Oracles: transformers' Llama rotation, and multiplication by complex numbers."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    x = torch.randn(2, 3, 12, 16)
    cos, sin = rope_table(12, 16)
    config = LlamaConfig(
        hidden_size=48, num_attention_heads=3, head_dim=16, max_position_embeddings=12
    )
    theirs = LlamaRotaryEmbedding(config)(x, torch.arange(12).unsqueeze(0))
    torch.testing.assert_close(apply_rope(x, cos, sin), apply_rotary_pos_emb(x, x, *theirs)[0])
    torch.testing.assert_close(
        apply_rope(x, cos, sin), rope_reference(x, torch.arange(12)), atol=1e-5, rtol=1e-4
    )


def test_rope_scores_depend_on_the_distance_only_and_keep_lengths():
    """Oracle: the paper's two properties (Su et al. 2021, section 3)."""
    q, k = torch.randn(2, 1, 1, 1, 8)
    cos, sin = rope_table(20, 8)
    rotated_q = apply_rope(q.expand(1, 1, 20, 8), cos, sin)[0, 0]
    rotated_k = apply_rope(k.expand(1, 1, 20, 8), cos, sin)[0, 0]
    scores = rotated_q @ rotated_k.T
    for distance in (-3, 0, 5):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rotated_q.norm(dim=-1), q.norm().expand(20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_only_while_training(dtype):
    """Oracle: self-consistency; in training two passes differ."""
    layer, x = MultiHeadAttention(16, 16, 8, 0.5, 2).to(dtype), torch.randn(1, 8, 16, dtype=dtype)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_attention_maps_are_causal_distributions_and_can_be_drawn():
    """Oracle: rows sum to one, nothing above the diagonal; the figure has one panel per head."""
    weights = attention_maps(MultiHeadAttention(16, 16, 6, 0.0, 2), torch.randn(1, 6, 16))[0]
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 6))
    assert torch.all(weights.triu(1) == 0)
    figure = draw_attention(weights, list("abcdef"))
    assert sum(axes.get_title().startswith("head") for axes in figure.axes) == 2
    with pytest.raises(ValueError, match="3 tokens for weights over 6"):
        draw_attention(weights, list("abc"))


def test_bad_shapes_are_refused_with_both_numbers():
    for d_out, options, words in (
        (10, {}, "num_heads=4 does not divide d_out=10"),
        (16, {"num_kv_heads": 3}, "num_kv_heads=3 does not divide num_heads=4"),
        (12, {"rope_base": 10.0}, "must be even, not 3"),
        (16, {"window": 0}, "window must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            MultiHeadAttention(8, d_out, 8, 0.0, num_heads=4, options=AttentionOptions(**options))
    with pytest.raises(ValueError, match="9 tokens exceed the context length 8"):
        MultiHeadAttention(8, 8, 8, 0.0, 2)(torch.randn(1, 9, 8))
    with pytest.raises(ValueError, match="holds 4 tokens, 5"):
        KVCache(1, 1, 1, 4, 8).prepare(5)
    with pytest.raises(ValueError, match="takes 3 tokens at once, not 4"):
        KVCache(1, 1, 1, 40, 8, window=2, chunk=3).prepare(4)
    ring = KVCache(1, 1, 1, 40, 8, window=2, chunk=3)
    for _ in range(4):
        ring.prepare(3)
    ring.truncate(9)
    with pytest.raises(ValueError, match="a ring of 5 slots can forget 3 tokens, not 4"):
        ring.truncate(5)


def test_device_policy():
    """Oracle: torch's own checks for each device."""
    best = (
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else "cpu"
    )
    assert pick_device().type == best
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="there is no device 'tpu' here"):
        pick_device("tpu")


@pytest.mark.slow
def test_main_leaves_complete_metrics_and_refuses_bad_texts(tmp_path):
    command = [sys.executable, "ch02_attention/main.py", "--run", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    metrics = json.loads((tmp_path / "ch02_attention" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["max_abs_diff"] < 1e-5
    assert metrics["speedup_at_1024"] > 0
    plots = {path.name for path in (tmp_path / "ch02_attention").glob("*.png")}
    assert plots == {"attention_maps.png", "time_and_memory.png"}
    for text in ("one", "word " * 41):
        result = subprocess.run(
            [*command[:2], "--text", text, "--run", str(tmp_path / "no")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode != 0
        assert result.stderr.startswith("error: the text has")
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "no").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu():
    options = AttentionOptions(num_kv_heads=2, rope_base=10_000.0)
    layer = MultiHeadAttention(32, 32, 16, 0.0, 4, options=options)
    x = torch.randn(2, 16, 32)
    expected = layer(x)
    torch.testing.assert_close(layer.cuda()(x.cuda()).cpu(), expected, atol=1e-4, rtol=1e-4)
    assert math.isfinite(float(expected.sum()))
