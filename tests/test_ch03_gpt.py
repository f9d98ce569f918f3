"""The model against torch, transformers, published sizes, a FLOP counter, and itself."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch02_attention import KVCache, attention_reference
from ch03_gpt import (
    GELU,
    GPT_CONFIG_124M,
    PRESETS,
    FeedForward,
    GPTConfig,
    GPTModel,
    LayerNorm,
    ShortConvolution,
    SwiGLU,
    TransformerBlock,
    cache_bytes_per_token,
    capability,
    flops_per_token,
    pick_precision,
    preset_config,
)
from ch03_gpt.layers import gelu_reference, layer_norm_reference

ROOT = Path(__file__).parent.parent
TINY = GPTConfig(vocab_size=50, context_length=16, emb_dim=24, n_heads=4, n_layers=2)
LLAMA = replace(
    TINY, position="rope", norm="rmsnorm", ffn="swiglu", bias=False, n_kv_heads=2, ffn_dim=40
)
QWEN3 = replace(LLAMA, norm_eps=1e-6, qk_norm=True, tie_embeddings=True)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@given(st.floats(-40, 40, width=16))
def test_gelu_in_bfloat16_is_as_close_as_bfloat16_allows(value):
    """Oracle: the tanh formula in float64, to half a bfloat16 step, plus what separates the two
    formulas.
    """
    x = torch.tensor([value], dtype=torch.bfloat16)
    expected = gelu_reference(x.double())
    assert (GELU()(x).double() - expected).abs() <= 2**-8 * expected.abs() + 6e-4


def test_the_two_gelu_formulas_differ_by_less_than_the_docstring_says():
    x = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    assert (F.gelu(x) - gelu_reference(x)).abs().max() < 5e-4


@pytest.mark.parametrize(
    "config",
    [TINY, LLAMA, QWEN3, replace(QWEN3, n_kv_heads=None, conv_kernel=3)],
    ids=["gpt2", "llama", "qwen3", "story"],
)
def test_gradients_in_bfloat16_point_where_those_in_float32_do(config):
    """Oracle: the same model in float32; every fast path for bfloat16 on a CPU is in between."""
    model, ids = GPTModel(config), torch.randint(0, 50, (8, 16))
    gradients = []
    for dtype in ("float32", "bfloat16"):
        model.zero_grad()
        with pick_precision(torch.device("cpu"), dtype).autocast():
            logits = model(ids[:, :-1])
        assert logits.dtype == getattr(torch, dtype)
        F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten()).backward()
        assert all(p.grad.dtype == torch.float32 for p in model.parameters())
        gradients.append([p.grad.clone().flatten() for p in model.parameters()])
    for exact, close in zip(*gradients, strict=True):
        assert F.cosine_similarity(exact, close, dim=0) > 0.995
        assert close.norm().item() == pytest.approx(exact.norm().item(), rel=0.03)


def test_layers_equal_torch_and_their_references():
    """Oracles: torch's layers and the formulas spelled out."""
    x = torch.randn(3, 5, 24)
    norm = LayerNorm(24)
    for parameter in (norm.scale, norm.shift):
        torch.nn.init.normal_(parameter)
    expected = F.layer_norm(x, (24,), norm.scale, norm.shift)
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(layer_norm_reference(x, norm.scale, norm.shift), expected)
    torch.testing.assert_close(GELU()(x), torch.nn.GELU(approximate="tanh")(x))
    torch.testing.assert_close(gelu_reference(x), GELU()(x))


def test_swiglu_equals_transformers():
    """Oracle: transformers' LlamaMLP with the same weights."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    ours = SwiGLU(LLAMA)
    theirs = LlamaMLP(LlamaConfig(hidden_size=24, intermediate_size=40, num_attention_heads=4))
    gate, up = ours.gate_up.weight.chunk(2)
    theirs.load_state_dict(
        {"gate_proj.weight": gate, "up_proj.weight": up, "down_proj.weight": ours.down.weight}
    )
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    "config", [TINY, LLAMA, replace(QWEN3, conv_kernel=3)], ids=["gpt2", "llama", "story"]
)
def test_block_gradients_against_finite_differences(config):
    """Oracle: torch.autograd.gradcheck in float64."""
    block = TransformerBlock(
        replace(config, emb_dim=4, n_heads=2, n_kv_heads=None, ffn_dim=6)
    ).double()
    assert torch.autograd.gradcheck(
        block, torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    )


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("gpt2-124m", 124_439_808),
        ("gpt2-355m", 354_823_168),
        ("gpt2-774m", 774_030_080),
        ("gpt2-1558m", 1_557_611_200),
        ("llama2-7b", 6_738_415_616),
        ("mistral-7b", 7_241_732_096),
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen3-1.7b", 1_720_574_976),
    ],
)
def test_parameter_counts_equal_the_published_ones(name, published):
    with torch.device("meta"):
        assert GPTModel(PRESETS[name]).n_parameters() == published


@pytest.mark.parametrize("name", PRESETS)
def test_matrices_of_presets_divide_into_groups_of_quantized_weights(name):
    """Oracle: chapter 7's groups of 32 inputs."""
    assert (PRESETS[name].emb_dim % 32, PRESETS[name].hidden_dim % 32) == (0, 0)


def test_the_books_dictionary_builds_the_books_model():
    """Oracle: the book's count, 163,009,536 without weight tying."""
    with torch.device("meta"):
        model = GPTModel(GPT_CONFIG_124M)
    assert model.n_parameters() == 163_009_536
    small = GPTModel({**GPT_CONFIG_124M, "vocab_size": 9, "emb_dim": 12, "n_layers": 1})
    assert small(torch.zeros(1, 2).long()).shape == (1, 2, 9)
    assert FeedForward(GPT_CONFIG_124M)(torch.zeros(1, 1, 768)).shape == (1, 1, 768)


def llama_weights(model: GPTModel) -> dict:
    """Our weights under the names of transformers' Llama, Mistral, Qwen2 and Qwen3."""
    c = model.config
    kv = c.kv_heads * c.head_dim
    weights = {
        "model.embed_tokens.weight": model.tok_emb.weight,
        "model.norm.weight": model.final_norm.scale,
        "lm_head.weight": model.out_head.weight,
    }
    for i, block in enumerate(model.trf_blocks):
        p = f"model.layers.{i}."
        for kind in ("weight", "bias") if c.qkv_bias else ("weight",):
            q, k, v = getattr(block.att.qkv, kind).split((c.emb_dim, kv, kv))
            weights |= {
                f"{p}self_attn.{name}_proj.{kind}": part
                for name, part in zip("qkv", (q, k, v), strict=True)
            }
        if c.qk_norm:
            weights |= {
                p + "self_attn.q_norm.weight": block.att.q_norm.scale,
                p + "self_attn.k_norm.weight": block.att.k_norm.scale,
            }
        gate, up = block.ff.gate_up.weight.chunk(2)
        weights |= {
            p + "self_attn.o_proj.weight": block.att.out_proj.weight,
            p + "mlp.gate_proj.weight": gate,
            p + "mlp.up_proj.weight": up,
            p + "mlp.down_proj.weight": block.ff.down.weight,
            p + "input_layernorm.weight": block.norm1.scale,
            p + "post_attention_layernorm.weight": block.norm2.scale,
        }
    return weights


FAMILIES = {
    "Llama": LLAMA,
    "Mistral": replace(LLAMA, window=5),
    "Qwen2": replace(LLAMA, qkv_bias=True),
    "Qwen3": replace(QWEN3, norm_eps=1e-3),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_shaped_models_equal_transformers(family):
    """Oracle: transformers' model of the family, random weights copied over, in float64."""
    import transformers

    config = FAMILIES[family]
    ours = GPTModel(config).double().eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    shape = dict(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
        rms_norm_eps=config.norm_eps,
        rope_theta=10_000.0,
        tie_word_embeddings=config.tie_embeddings,
        attn_implementation="eager",
        head_dim=6,
    )
    if family == "Mistral":
        shape["sliding_window"] = 5
    theirs = getattr(transformers, family + "ForCausalLM")(
        getattr(transformers, family + "Config")(**shape)
    )
    theirs = theirs.double().eval()
    result = theirs.load_state_dict(llama_weights(ours), strict=False)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    ids = torch.randint(0, 50, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "config", [TINY, LLAMA, replace(LLAMA, window=3), replace(QWEN3, conv_kernel=4)]
)
def test_the_future_cannot_change_the_past(config):
    """Oracle: self-consistency."""
    model = GPTModel(config).eval()
    ids = torch.randint(0, 50, (1, 12))
    changed = ids.clone()
    changed[0, 7] = (changed[0, 7] + 1) % 50
    assert torch.equal(model(ids)[:, :7], model(changed)[:, :7])
    assert not torch.equal(model(ids)[:, 7], model(changed)[:, 7])


def test_an_untrained_model_knows_nothing():
    """Oracle: the loss of a uniform guess, log V."""
    model = GPTModel(replace(TINY, vocab_size=1000))
    ids = torch.randint(0, 1000, (4, 17))
    loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - math.log(1000)) < 0.1


def test_flops_against_torchs_counter():
    """Oracle: FlopCounterMode. It sees no fused attention on a CPU, so the scores are counted on
    the reference; those fill the T x T square, of which causality needs T (T + 1) / 2.
    """
    from torch.utils.flop_counter import FlopCounterMode

    T = 16
    for config in (TINY, LLAMA):
        with FlopCounterMode(display=False) as matrices:
            GPTModel(config)(torch.zeros(1, T, dtype=torch.long))
        with FlopCounterMode(display=False) as square:
            attention_reference(*torch.randn(3, config.n_heads, T, config.head_dim))
        scores = config.n_layers * square.get_total_flops() * (T + 1) / (2 * T)
        assert T * flops_per_token(config) == matrices.get_total_flops() + scores


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(n_heads=5), "n_heads=5 does not divide emb_dim=24"),
        (dict(n_kv_heads=3), "n_kv_heads=3 does not divide"),
        (dict(vocab_size=0), "vocab_size must be"),
        (dict(position="sine"), "position must be one of learned, rope"),
        (dict(drop_rate=1.0), "drop_rate"),
        (dict(position="rope", n_heads=8), "must be even"),
        (dict(conv_kernel=-1), "conv_kernel must be 0 .off. or a whole number of at least 2"),
        (dict(conv_kernel=1), "conv_kernel must be 0"),
    ],
)
def test_config_refuses_nonsense(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(TINY, **changes)


@pytest.mark.parametrize("kernel", [2, 7])
def test_short_convolution_equals_torchs_depthwise_convolution(kernel):
    """Oracle: F.conv1d with a group per channel, padded on the left, plus the residual; values and
    gradients.
    """
    conv = ShortConvolution(5, kernel)
    torch.nn.init.normal_(conv.weight)
    x, upstream = torch.randn(3, 9, 5, requires_grad=True), torch.randn(3, 9, 5)
    taps = torch.cat((conv.weight, torch.zeros(1, 5)))  # the present token is the residual
    padded = F.pad(x.transpose(1, 2), (kernel - 1, 0))
    expected = x + F.conv1d(padded, taps.T.unsqueeze(1), groups=5).transpose(1, 2)
    torch.testing.assert_close(conv(x), expected)
    for found, gradient in zip(
        *(torch.autograd.grad(y, (x, conv.weight), upstream) for y in (conv(x), expected)),
        strict=True,
    ):
        torch.testing.assert_close(found, gradient)


def test_convolution_feeds_attention_and_leaves_the_residual_stream_alone():
    """Oracle: the block spelled out; a block without attention's output passes nothing of other
    tokens on.
    """
    model = GPTModel(replace(TINY, conv_kernel=3))
    block, x = model.trf_blocks[1], torch.randn(2, 6, TINY.emb_dim)
    middle = x + block.att(block.conv(block.norm1(x)))
    torch.testing.assert_close(block(x), middle + block.ff(block.norm2(middle)))
    for parameter in block.att.out_proj.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(block(x)[:, 3:4], block(x[:, 3:4]))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([2, 4, 7]),
    st.sampled_from([None, 1, 3]),
    st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=12),
    st.integers(0, 2),
)
def test_cached_convolution_equals_the_full_one_for_unequal_rows(kernel, window, steps, guessed):
    """Oracle: each row alone and uncached. In every step each row gets another number of tokens,
    after all have got tokens that are then forgotten; with a window, the slots are a ring.
    """
    torch.manual_seed(0)
    config = replace(QWEN3, conv_kernel=kernel, window=window, context_length=64)
    model = GPTModel(config).eval()
    cache = KVCache(3, 2, 2, 64, 6, window=window, chunk=8)
    cache.add_state("conv", config.emb_dim)
    texts, lengths = torch.randint(0, 50, (3, 64)), np.zeros(3, dtype=int)
    with torch.no_grad():
        for counts in steps:
            if guessed:
                model.hidden_states(torch.randint(0, 50, (3, guessed)), cache)
                cache.truncate(lengths)
            ids = torch.stack([text[n : n + 3] for text, n in zip(texts, lengths, strict=True)])
            hidden = model.hidden_states(ids, cache, counts)
            for row, n in enumerate(counts):
                start, end = lengths[row], lengths[row] + n
                if n:
                    alone = model.hidden_states(texts[row : row + 1, :end])[0, start:]
                    torch.testing.assert_close(hidden[row, :n], alone, atol=1e-4, rtol=1e-4)
            lengths += counts


@pytest.mark.parametrize("config", [TINY, LLAMA, replace(LLAMA, conv_kernel=4)])
def test_cache_bytes_are_those_of_the_cache(config):
    """Oracle: what the tensors of a longer cache take more than those of a shorter one."""
    model = GPTModel(config)
    short, long = (
        sum(tensor.nbytes for layer in cache.layers for tensor in layer.tensors.values())
        for cache in (model.make_cache(1, n) for n in (4, 14))
    )
    assert long - short == 10 * cache_bytes_per_token(config, bytes_per_number=4)


def test_convolution_starts_with_a_distinct_sign_code_for_each_offset():
    """Multiplying once more by its sign gives the input back, to the bit; offsets and layers
    differ; the seed decides, and `reset_parameters` draws anew.
    """
    torch.manual_seed(3)
    model = GPTModel(replace(TINY, conv_kernel=4))
    weights = [block.conv.weight.clone() for block in model.trf_blocks]
    x = torch.randn(4, TINY.emb_dim)
    for weight in weights:
        for sign in weight:
            assert torch.equal(sign * (sign * x), x)
    assert len({tuple(sign.tolist()) for weight in weights for sign in weight}) == 3 * TINY.n_layers
    model.reset_parameters()
    assert not torch.equal(model.trf_blocks[1].conv.weight, weights[1])
    torch.manual_seed(3)
    again = GPTModel(replace(TINY, conv_kernel=4))
    assert torch.equal(again.trf_blocks[1].conv.weight, weights[1])


@pytest.mark.parametrize("position", ["learned", "rope"])
def test_no_row_of_a_cache_outgrows_the_context(position):
    """Also where the cache has room for more; padding is no token."""
    config = replace(TINY, position=position)
    model = GPTModel(config).eval()
    cache = KVCache(2, config.n_layers, config.kv_heads, 30, config.head_dim)
    ids = torch.zeros(2, 16, dtype=torch.long)
    model.hidden_states(ids, cache, counts=[15, 10])
    model.hidden_states(ids[:, :1], cache, counts=[1, 0])
    with pytest.raises(ValueError, match="17 tokens exceed the context length 16"):
        model.hidden_states(ids[:, :1], cache, counts=[1, 1])


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="gpt2-124m"):
        preset_config("gpt5")
    with pytest.raises(ValueError, match="unknown config keys width; known: vocab_size"):
        GPTModel({"width": 3})
    with pytest.raises(ValueError, match="17 tokens exceed the context length 16"):
        GPTModel(TINY)(torch.zeros(1, 17, dtype=torch.long))
    with pytest.raises(ValueError, match="choose auto, float32 or bfloat16"):
        pick_precision(torch.device("cpu"), "float16")


@pytest.mark.parametrize(
    ("ratio", "dtype", "words"),
    [
        (
            4.0,
            torch.bfloat16,
            (
                "computing in bfloat16 on cpu (its matrix products run 4.0 times as fast as"
                " float32's here)"
            ),
        ),
        (
            0.1,
            torch.float32,
            "computing in float32 on cpu (bfloat16 matrix products take 10.0 times as long here)",
        ),
        (1.05, torch.float32, "computing in float32"),  # within the noise: the plain one
    ],
)
def test_the_faster_format_is_taken_and_reported(monkeypatch, ratio, dtype, words):
    """Oracle: the ratio that was measured, whatever the processor calls itself."""
    monkeypatch.setattr(capability, "bfloat16_speedup", lambda device_type: ratio)
    precision = pick_precision(torch.device("cpu"))
    assert precision.dtype == dtype
    assert words in str(precision)
    assert (
        str(pick_precision(torch.device("cpu"), "float32"))
        == "computing in float32 on cpu (as asked)"
    )


def test_a_fast_path_must_win_clearly_and_exist(monkeypatch):
    """Oracle: a clock that the work itself turns."""
    now = [0.0]
    monkeypatch.setattr(capability.time, "perf_counter", lambda: now[0])

    def takes(seconds: float):
        def work() -> torch.Tensor:
            now[0] += seconds
            return torch.zeros(1)

        return work

    def missing() -> torch.Tensor:
        raise NotImplementedError("no such kernel")

    assert capability.is_faster(takes(1.0), takes(2.0))
    assert not capability.is_faster(takes(1.0), takes(1.05))
    assert not capability.is_faster(takes(2.0), takes(1.0))
    assert not capability.is_faster(missing, takes(1.0))


def test_the_processor_is_probed_in_one_module():
    """Oracle: the source. A check elsewhere would choose a path that nobody has measured."""
    questions = re.compile(r"_is_amx|_is_avx|is_bf16_supported|/proc/cpuinfo.*flags|get_cpu_info")
    files = [path for folder in ROOT.glob("*_*/") for path in folder.rglob("*.py")]
    assert files
    asking = [path.name for path in files if questions.search(path.read_text(encoding="utf-8"))]
    assert set(asking) <= {"capability.py"}


@pytest.mark.slow
def test_main_leaves_complete_metrics(tmp_path):
    command = [sys.executable, "ch03_gpt/main.py", "--preset", "tiny", "--run", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    metrics = json.loads((tmp_path / "ch03_gpt" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["n_params"] == 139_648
    assert min(metrics[name] for name in ("flops_per_token", "tokens_per_s", "cached_speedup")) > 0
    result = subprocess.run(
        [*command[:2], "--preset", "gpt9", "--run", str(tmp_path / "no")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert result.stderr.startswith("error: unknown preset 'gpt9'")
    assert not (tmp_path / "no").exists()
