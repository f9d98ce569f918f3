"""Quantized layers: bounds on the error, the fast kernels equal the readable layers, packing is
lossless.
"""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ch03_gpt import GPTConfig, GPTModel, generate, pick_precision
from ch07_practice import load_model
from ch07_practice.decoding import fast_linear
from ch07_practice.decoding.fast_linear import (
    LAYER_CLASSES,
    FastInt4Linear,
    IntegerInt8Linear,
    PackedLinear,
    WeightOnlyInt8Linear,
)
from ch07_practice.decoding.quantization import (
    INPUT_LEVELS,
    KINDS,
    DynamicInt8Linear,
    Int4Linear,
    Int8LayerCache,
    Int8Linear,
    dequantize_int4,
    n_bytes,
    quantize,
    quantize_int4,
    quantize_int8,
)
from ch07_practice.load_model import to_weight_format

CONFIG = GPTConfig(
    vocab_size=65,
    context_length=48,
    emb_dim=64,
    n_heads=4,
    n_layers=2,
    qkv_bias=True,
    tie_embeddings=True,
)
LLAMA = replace(
    CONFIG,
    position="rope",
    norm="rmsnorm",
    ffn="swiglu",
    bias=False,
    n_kv_heads=2,
    ffn_dim=96,
    tie_embeddings=False,
)


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_rounding_is_off_by_half_a_step_at_most(seed, size):
    """Oracle: the definition of rounding to the nearest."""
    x = size * torch.randn(5, 64, generator=torch.Generator().manual_seed(seed))
    integers, scales = quantize_int8(x)
    assert ((integers * scales - x).abs() <= scales / 2 * (1 + 1e-4)).all()
    assert integers.abs().max() == 127
    integers, scales, zeros = quantize_int4(x)
    error = (dequantize_int4(integers, scales, zeros) - x).abs().unflatten(1, (2, 32))
    assert (error <= scales.unsqueeze(-1) / 2 * (1 + 1e-3)).all()
    assert integers.min() >= 0
    assert integers.max() <= 15


def test_four_bits_hold_what_has_sixteen_values():
    """Oracle: the numbers themselves: a row of sixteen equally spaced values comes back exactly."""
    x = torch.arange(32).remainder(16).float().repeat(3, 1) * 0.5 - 2
    torch.testing.assert_close(dequantize_int4(*quantize_int4(x)), x)
    layer = nn.Linear(32, 3)
    layer.weight.data.copy_(x)
    torch.testing.assert_close(Int4Linear(layer).weight(), x)


SHAPES = [(1, 1, 64), (2, 5, 64), (7, 64)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("readable", "fast"), [(Int8Linear, WeightOnlyInt8Linear), (Int4Linear, FastInt4Linear)]
)
@pytest.mark.parametrize("outputs", [65, 48])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_fast_kernels_equal_the_readable_layers(readable, fast, shape, outputs, bias, dtype):
    """Oracle: the readable layer in float64, to what bfloat16's 8 bits leave of the result."""
    torch.manual_seed(0)
    linear = nn.Linear(64, outputs, bias=bias).to(dtype)
    x = torch.randn(shape).to(dtype)
    exact = readable(linear).double()
    expected = exact(x.double())
    found = fast(linear)(x)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    scale = (x.double().abs() @ exact.weight().double().abs().T).clamp(min=1)
    assert ((found.double() - expected).abs() / scale).max() < 2**-7


needs_fbgemm = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines,
    reason="this build of PyTorch has no FBGEMM (x86 only)",
)


@needs_fbgemm
@pytest.mark.parametrize("shape", [*SHAPES, (3, 2, 768)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
def test_the_integer_kernel_equals_the_readable_sums(shape, bias, size):
    """Oracle: `DynamicInt8Linear`, whose sums of integers are exact; also for inputs and weights at
    their largest, where a kernel that adds up pairs in 16 bits would overflow, and for rows of
    zeros.
    """
    torch.manual_seed(0)
    linear = nn.Linear(shape[-1], 40, bias=bias)
    linear.weight.data[:4] = linear.weight.data[:4].sign()
    x = size * torch.randn(shape)
    x.view(-1, shape[-1])[0] = size * x.view(-1, shape[-1])[0].sign()
    x.view(-1, shape[-1])[-1] = 0.0
    expected = DynamicInt8Linear(linear)(x)
    torch.testing.assert_close(IntegerInt8Linear(linear)(x), expected, rtol=1e-5, atol=1e-5 * size)


@needs_fbgemm
def test_a_row_is_rounded_alone():
    """Oracle: the row by itself; a neighbour a thousand times as large must not take its digits."""
    torch.manual_seed(0)
    layer = IntegerInt8Linear(nn.Linear(64, 40))
    rows = torch.randn(2, 1, 64) * torch.tensor([1.0, 1000.0]).view(2, 1, 1)
    torch.testing.assert_close(layer(rows)[:1], layer(rows[:1]))


@pytest.mark.parametrize("outputs", [65, 48])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_weights_multiply_as_before(outputs, bias):
    """Oracle: the layer that was packed, for one row, several and a prompt."""
    torch.manual_seed(0)
    linear = nn.Linear(64, outputs, bias=bias)
    packed = PackedLinear(linear)
    with torch.inference_mode():
        for shape in [*SHAPES, (3, 100, 64)]:
            x = torch.randn(shape)
            torch.testing.assert_close(packed(x), linear(x))


@pytest.mark.parametrize("weights", ["float32", "int8", "int4"])
@pytest.mark.parametrize("wins", [True, False])
def test_a_model_for_decoding_says_what_the_trained_one_says(monkeypatch, weights, wins):
    """Oracle: the trained model; whichever kernels win, and from a model in float32."""
    monkeypatch.setattr(
        fast_linear, "is_faster", lambda candidate, plain: candidate() is not None and wins
    )
    fast_linear.fastest_layer.cache_clear()
    fast_linear.packing_pays.cache_clear()
    torch.manual_seed(0)
    model = GPTModel(CONFIG).eval()
    ids = torch.randint(0, 65, (2, 20))
    monkeypatch.setattr(
        load_model, "pick_precision", lambda device, dtype="auto": pick_precision(device, "float32")
    )
    ready = to_weight_format(copy.deepcopy(model), weights, torch.device("cpu"))
    kinds = {type(layer) for layer in ready.modules()} & {
        nn.Linear,
        PackedLinear,
        *sum(LAYER_CLASSES.values(), ()),
    }
    assert kinds == {
        {
            ("float32", False): nn.Linear,
            ("float32", True): PackedLinear,
            ("int8", False): Int8Linear,
            ("int8", True): IntegerInt8Linear,
            ("int4", False): Int4Linear,
            ("int4", True): FastInt4Linear,
        }[weights, wins]
    }
    with torch.inference_mode():
        expected, found = model(ids), ready(ids)
    assert found.dtype == torch.float32
    assert (found - expected).std() / expected.std() < {
        "float32": 1e-5,
        "int8": 0.05,
        "int4": 0.25,
    }[weights]
    fast_linear.fastest_layer.cache_clear()
    fast_linear.packing_pays.cache_clear()


def test_a_kernel_that_does_not_exist_is_never_chosen(monkeypatch):
    """Oracle: the readable layer; a build of PyTorch without the operators raises when they are
    called.
    """

    def missing(self, linear):
        raise NotImplementedError("Could not run this operator")  # a RuntimeError, as PyTorch's own

    for layer in (PackedLinear, WeightOnlyInt8Linear, IntegerInt8Linear, FastInt4Linear):
        monkeypatch.setattr(layer, "__init__", missing)
    for function in (fast_linear.fastest_layer, fast_linear.packing_pays):
        function.cache_clear()
    assert fast_linear.fastest_layer("int8", 64, 64, torch.float32) is Int8Linear
    assert fast_linear.fastest_layer("int4", 64, 64, torch.float32) is Int4Linear
    assert not fast_linear.packing_pays(64, 64, torch.float32)
    for function in (fast_linear.fastest_layer, fast_linear.packing_pays):
        function.cache_clear()


@pytest.mark.parametrize(
    ("ratio", "words"), [(0.5, "run 2.0 times as fast"), (2.0, "save memory only")]
)
def test_whether_fewer_bits_are_faster_is_said(monkeypatch, ratio, words):
    """Oracle: the ratio that was measured."""
    times = iter([1.0, ratio])
    monkeypatch.setattr(fast_linear, "seconds", lambda work: next(times))
    assert words in fast_linear.speed_note("int8", CONFIG, torch.float32)


def test_integers_times_integers_are_the_dequantized_product():
    """Oracle: inputs and weights rounded the same way, multiplied in float64."""
    torch.manual_seed(0)
    linear = nn.Linear(64, 40)
    x = torch.randn(3, 5, 64)
    layer = DynamicInt8Linear(linear)
    integers, scales = quantize_int8(x, INPUT_LEVELS)
    expected = (integers * scales).double() @ layer.weight().double().T + linear.bias.double()
    torch.testing.assert_close(layer(x), expected.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_gradients_reach_the_inputs(kind):
    """Oracle: autograd through the dequantized weights."""
    torch.manual_seed(0)
    layer = KINDS[kind](nn.Linear(64, 8))
    x = torch.randn(3, 64, requires_grad=True)
    layer(x).square().sum().backward()
    weight = layer.weight()
    expected = 2 * (x.detach() @ weight.T + layer.bias) @ weight
    torch.testing.assert_close(x.grad, expected)
    assert all(not parameter.requires_grad for parameter in layer.parameters())


@pytest.mark.parametrize("config", [CONFIG, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_quantized_model_says_nearly_the_same(config, kind):
    """Oracle: the model itself: its logits, relative to their spread."""
    torch.manual_seed(0)
    model = GPTModel(config).to(torch.bfloat16)
    before = copy.deepcopy(model.state_dict())
    ids = torch.randint(0, 65, (2, 20))
    with torch.inference_mode():
        expected, found = model(ids).float(), quantize(model, kind)(ids).float()
    assert (found - expected).std() / expected.std() < (0.25 if "int4" in kind else 0.03)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_fewer_bits_take_fewer_bytes():
    """Oracle: counting. A matrix of n bfloat16 numbers takes 2 n bytes, n in int8, n / 2 in int4,
    plus its scales.
    """
    config = replace(
        CONFIG,
        emb_dim=128,
        n_heads=4,
        vocab_size=64,
        bias=False,
        qkv_bias=False,
        tie_embeddings=False,
    )
    model = GPTModel(config).to(torch.bfloat16)
    matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    n, rows = sum(w.numel() for w in matrices), sum(len(w) for w in matrices)
    rest = n_bytes(model) - 2 * n
    assert n_bytes(quantize(model, "int8")) == rest + n + 2 * rows
    assert n_bytes(quantize(model, "int4")) == rest + n // 2 + 2 * 2 * n // 32


@pytest.mark.parametrize("config", [CONFIG, replace(LLAMA, window=8)], ids=["gpt2", "window"])
def test_a_cache_in_eight_bits_changes_little(config):
    """Oracle: the cache in full, over a text that is read in pieces by rows of unequal length."""
    torch.manual_seed(0)
    model = GPTModel(config).eval()
    caches = [model.make_cache(2), model.make_cache(2, layer_class=Int8LayerCache)]
    with torch.inference_mode():
        for counts in ([5, 9], [7, 1], [1, 1]):
            ids = torch.randint(0, 65, (2, max(counts)))
            states = [
                model.hidden_states(ids, cache, counts)[torch.arange(2), torch.tensor(counts) - 1]
                for cache in caches
            ]
    assert (states[0] - states[1]).abs().max() < 0.05 * states[0].abs().max()
    sizes = [
        sum(t.numel() * t.element_size() for layer in cache.layers for t in layer.tensors.values())
        for cache in caches
    ]
    assert sizes[1] < sizes[0] * 0.35


def test_quantized_models_write():
    """Oracle: the same model without a cache."""
    torch.manual_seed(0)
    model = GPTModel(LLAMA).to(torch.bfloat16)
    ids = torch.randint(0, 65, (2, 4))
    small = quantize(model, "int8")
    assert torch.equal(generate(small, ids, 20), generate(small, ids, 20, use_cache=False))


def test_what_cannot_be_quantized_is_refused():
    with pytest.raises(ValueError, match="groups of 32 do not divide the 48 inputs"):
        Int4Linear(nn.Linear(48, 8))
    with pytest.raises(ValueError, match="unknown kind of weights 'int3'; choose one of int8"):
        quantize(GPTModel(CONFIG), "int3")
