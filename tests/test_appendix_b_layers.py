"""Appendix B's layers on random shapes: values and every gradient against PyTorch's layers and
finite differences.
"""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from appendix_b.attention import AttentionHead, MultiHeadAttention, TransformerBlock
from appendix_b.convolution import Conv2d, MaxPool2d
from appendix_b.finite_differences import numerical_gradient
from appendix_b.gpt import GPT, GPTConfig
from appendix_b.layers import (
    GELU,
    BatchNorm,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    Linear,
    ReLU,
    Tanh,
)
from appendix_b.nn import Module, Sequential
from appendix_b.recurrent import LSTM, RNN
from appendix_b.tensor import Tensor
from ch03_gpt import GPTConfig as TorchGPTConfig
from ch03_gpt import GPTModel

SIZES = st.integers(1, 4)
SEEDS = st.integers(0, 10_000)
QKV = ("W_query", "W_key", "W_value")


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def in_float64(module: Module) -> Module:
    """The same layer in float64 with new random parameters: initial zeros and ones could hide errors."""
    rng = generator(1)
    for one in module.parameters():
        one.data = rng.normal(size=one.shape)
    return module


def same(name: str) -> Callable:
    return lambda p: p[name]


def transposed(name: str) -> Callable:
    return lambda p: p[name].T


def check(
    module: Module,
    theirs: nn.Module,
    weights: dict[str, Callable],
    x: np.ndarray,
    first: Callable = lambda out: out,
) -> None:
    """Outputs and all gradients equal those of a PyTorch layer, and the gradients also those of
    finite differences.

    `weights` maps each of PyTorch's parameter names to a function of our parameters; `first` selects
    the part of the output that is compared.
    """
    theirs = theirs.double()
    leaves = {
        name: torch.tensor(one.data, requires_grad=True)
        for name, one in module.named_parameters().items()
    }
    made = {name: function(leaves) for name, function in weights.items()}
    other = torch.tensor(x, requires_grad=x.dtype.kind == "f")
    expected = first(torch.func.functional_call(theirs, made, (other,)))
    mine = Tensor(x, requires_grad=True) if x.dtype.kind == "f" else x
    out = first(module(mine))
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-9, atol=1e-11)
    pattern = generator(2).normal(size=out.shape)
    out.backward(pattern)
    expected.backward(torch.tensor(pattern))
    if x.dtype.kind == "f":
        np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=1e-7, atol=1e-10)
    for name, one in module.named_parameters().items():
        np.testing.assert_allclose(
            one.grad, leaves[name].grad.numpy(), rtol=1e-7, atol=1e-10, err_msg=name
        )
    check_numerically(module, x, mine, pattern, first)


def check_numerically(
    module: Module, x: np.ndarray, mine: Tensor | np.ndarray, pattern: np.ndarray, first
) -> None:
    for name, one in module.named_parameters().items():
        kept = one.data

        def loss(moved: np.ndarray, one=one) -> float:
            one.data = moved
            return float(
                (first(module(Tensor(x) if x.dtype.kind == "f" else x)).data * pattern).sum()
            )

        np.testing.assert_allclose(
            one.grad, numerical_gradient(loss, kept), rtol=2e-4, atol=1e-6, err_msg=name
        )
        one.data = kept
    if isinstance(mine, Tensor):
        found = numerical_gradient(
            lambda moved: float((first(module(Tensor(moved))).data * pattern).sum()), x
        )
        np.testing.assert_allclose(mine.grad, found, rtol=2e-4, atol=1e-6)


@settings(max_examples=10)
@given(B=SIZES, T=SIZES, inputs=SIZES, outputs=SIZES, bias=st.booleans(), seed=SEEDS)
def test_linear(B, T, inputs, outputs, bias, seed):
    layer = in_float64(Linear(inputs, outputs, generator(), bias))
    names = {"weight": transposed("weight")} | ({"bias": same("bias")} if bias else {})
    check(
        layer, nn.Linear(inputs, outputs, bias), names, generator(seed).normal(size=(B, T, inputs))
    )


@settings(max_examples=10)
@given(
    B=SIZES,
    inputs=st.integers(1, 2),
    outputs=st.integers(1, 3),
    size=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    extra=st.integers(0, 3),
    seed=SEEDS,
)
def test_conv2d(B, inputs, outputs, size, stride, padding, extra, seed):
    layer = in_float64(Conv2d(inputs, outputs, size, generator(), stride, padding))
    x = generator(seed).normal(size=(B, inputs, size + extra, size + 1))
    check(
        layer,
        nn.Conv2d(inputs, outputs, size, stride, padding),
        {"weight": same("weight"), "bias": same("bias")},
        x,
    )


@settings(max_examples=10)
@given(
    B=SIZES,
    C=SIZES,
    size=st.integers(1, 3),
    height=st.integers(3, 7),
    width=st.integers(3, 7),
    seed=SEEDS,
)
def test_max_pool_flatten_and_activations(B, C, size, height, width, seed):
    """A convolution in front supplies the parameters whose gradients are compared."""
    x = generator(seed).normal(size=(B, C, height, width))
    pairs = [
        (
            Sequential(Conv2d(C, 2, 1, generator()), one, Flatten()),
            nn.Sequential(nn.Conv2d(C, 2, 1), other, nn.Flatten()),
        )
        for one, other in (
            (MaxPool2d(size), nn.MaxPool2d(size)),
            (ReLU(), nn.ReLU()),
            (GELU(), nn.GELU("tanh")),
            (Tanh(), nn.Tanh()),
        )
    ]
    for ours, theirs in pairs[:1] if seed % 4 else pairs:
        names = {"0.weight": same("layers.0.weight"), "0.bias": same("layers.0.bias")}
        check(in_float64(ours), theirs, names, x)


@settings(max_examples=10)
@given(B=st.integers(2, 4), C=SIZES, side=st.sampled_from([(), (2, 3)]), seed=SEEDS)
def test_batch_norm(B, C, side, seed):
    """In training and in evaluation; the running averages equal PyTorch's, too."""
    layer = in_float64(BatchNorm(C))
    theirs = nn.BatchNorm2d(C) if side else nn.BatchNorm1d(C)
    names = {"weight": same("scale"), "bias": same("shift")}
    x = generator(seed).normal(size=(B, C, *side))
    check(layer, theirs, names, x)
    fresh = in_float64(BatchNorm(C))
    fresh.running_mean, fresh.running_var = np.zeros(C), np.ones(C)  # float64
    fresh(Tensor(x))
    theirs = type(theirs)(C).double()
    theirs(torch.tensor(x))
    np.testing.assert_allclose(fresh.running_mean, theirs.running_mean.numpy())
    np.testing.assert_allclose(fresh.running_var, theirs.running_var.numpy())
    check(fresh.eval(), theirs.eval(), names, x)


@settings(max_examples=5)
@given(B=SIZES, C=st.integers(2, 4), seed=SEEDS)
def test_layer_norm(B, C, seed):
    check(
        in_float64(LayerNorm(C)),
        nn.LayerNorm(C),
        {"weight": same("scale"), "bias": same("shift")},
        generator(seed).normal(size=(B, C)),
    )


@settings(max_examples=5)
@given(B=SIZES, T=SIZES, rows=SIZES, width=SIZES, seed=SEEDS)
def test_embedding(B, T, rows, width, seed):
    check(
        in_float64(Embedding(rows, width, generator())),
        nn.Embedding(rows, width),
        {"weight": same("weight")},
        generator(seed).integers(0, rows, (B, T)),
    )


RECURRENT = {
    "weight_ih_l0": transposed("weight_ih"),
    "weight_hh_l0": transposed("weight_hh"),
    "bias_ih_l0": same("bias"),
    "bias_hh_l0": lambda p: 0 * p["bias"],
}


@settings(max_examples=8)
@given(B=SIZES, T=SIZES, inputs=SIZES, width=SIZES, seed=SEEDS)
def test_rnn(B, T, inputs, width, seed):
    check(
        in_float64(RNN(inputs, width, generator())),
        nn.RNN(inputs, width, batch_first=True),
        RECURRENT,
        generator(seed).normal(size=(B, T, inputs)),
        first=lambda out: out[0],
    )


@settings(max_examples=6)
@given(B=SIZES, T=SIZES, inputs=SIZES, width=st.integers(1, 3), seed=SEEDS)
def test_lstm(B, T, inputs, width, seed):
    check(
        in_float64(LSTM(inputs, width, generator())),
        nn.LSTM(inputs, width, batch_first=True),
        RECURRENT,
        generator(seed).normal(size=(B, T, inputs)),
        first=lambda out: out[0],
    )


@pytest.mark.parametrize("cell", [RNN, LSTM])
def test_reading_in_two_parts_is_reading_once(cell):
    layer, x = in_float64(cell(3, 4, generator())), generator(5).normal(size=(2, 6, 3))
    whole, _ = layer(Tensor(x))
    first, state = layer(Tensor(x[:, :4]))
    second, _ = layer(Tensor(x[:, 4:]), state)
    np.testing.assert_allclose(np.concatenate([first.data, second.data], axis=1), whole.data)


class OneHead(nn.Module):
    def __init__(self, width: int, head_width: int):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, head_width, bias=False) for _ in range(3))

    def forward(self, x):
        return F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x), is_causal=True)


@settings(max_examples=8)
@given(B=SIZES, T=SIZES, width=SIZES, head_width=SIZES, seed=SEEDS)
def test_attention_head(B, T, width, head_width, seed):
    names = {
        "q.weight": transposed("W_query.weight"),
        "k.weight": transposed("W_key.weight"),
        "v.weight": transposed("W_value.weight"),
    }
    check(
        in_float64(AttentionHead(width, head_width, generator())),
        OneHead(width, head_width),
        names,
        generator(seed).normal(size=(B, T, width)),
    )


class TheirBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            width,
            heads,
            4 * width,
            0.0,
            lambda x: F.gelu(x, approximate="tanh"),
            batch_first=True,
            norm_first=True,
        )

    def forward(self, x):
        return self.layer(
            x, nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        )


@settings(max_examples=4)
@given(
    B=st.integers(1, 2), T=SIZES, heads=st.integers(1, 2), head_width=st.integers(1, 2), seed=SEEDS
)
def test_transformer_block(B, T, heads, head_width, seed):
    width = heads * head_width
    names = {
        "self_attn.in_proj_weight": lambda p: torch.cat(
            [p[f"att.{name}.weight"].T for name in QKV]
        ),
        "self_attn.in_proj_bias": lambda p: 0 * p["att.out_proj.bias"].repeat(3),
        "self_attn.out_proj.weight": transposed("att.out_proj.weight"),
        "self_attn.out_proj.bias": same("att.out_proj.bias"),
    }
    for i in (1, 2):
        names |= {
            f"norm{i}.weight": same(f"norm{i}.scale"),
            f"norm{i}.bias": same(f"norm{i}.shift"),
            f"linear{i}.weight": transposed(f"ff.layers.{2 * i - 2}.weight"),
            f"linear{i}.bias": same(f"ff.layers.{2 * i - 2}.bias"),
        }
    check(
        in_float64(TransformerBlock(width, heads, generator())),
        TheirBlock(width, heads),
        {f"layer.{name}": made for name, made in names.items()},
        generator(seed).normal(size=(B, T, width)),
    )


def weights_for_chapter_3(model: GPT) -> dict[str, torch.Tensor]:
    """Our state under the names of chapter 3's GPTModel, matrices transposed."""
    p = {name: torch.tensor(array) for name, array in model.state_dict().items()}
    found = {
        "tok_emb.weight": p["tok_emb.weight"],
        "out_head.weight": p["tok_emb.weight"],
        "pos_emb.weight": p["pos_emb.weight"],
        "final_norm.scale": p["final_norm.scale"],
        "final_norm.shift": p["final_norm.shift"],
    }
    for i in range(model.config.n_layers):
        block = f"trf_blocks.{i}."
        qkv = [p[f"{block}att.{name}.weight"].T for name in QKV]
        found[block + "att.qkv.weight"] = torch.cat(qkv)
        for linear in ("att.out_proj", "ff.layers.0", "ff.layers.2"):
            found[f"{block}{linear}.weight"] = p[f"{block}{linear}.weight"].T
            found[f"{block}{linear}.bias"] = p[f"{block}{linear}.bias"]
        for name in ("norm1.scale", "norm1.shift", "norm2.scale", "norm2.shift"):
            found[block + name] = p[block + name]
    return found


def test_the_tiny_gpt_is_chapter_3s_model():
    """Oracle: GPTModel with the same weights, its logits and its gradient of the token
    embedding.
    """
    config = GPTConfig(vocab_size=11, context_length=9, emb_dim=8, n_heads=2, n_layers=2)
    model = in_float64(GPT(config, generator()))
    theirs = GPTModel(TorchGPTConfig(**asdict(config), tie_embeddings=True)).double()
    theirs.load_state_dict(weights_for_chapter_3(model))
    ids = generator(3).integers(0, 11, (3, 9))
    logits, expected = model(ids), theirs(torch.tensor(ids))
    np.testing.assert_allclose(logits.data, expected.detach().numpy(), rtol=1e-9, atol=1e-11)
    pattern = generator(4).normal(size=logits.shape)
    logits.backward(pattern)
    expected.backward(torch.tensor(pattern))
    np.testing.assert_allclose(
        model.tok_emb.weight.grad, theirs.tok_emb.weight.grad.numpy(), rtol=1e-8, atol=1e-10
    )
    with pytest.raises(ValueError, match="10 tokens exceed the context length 9"):
        model(np.zeros((1, 10), dtype=int))


def test_the_future_cannot_change_the_past():
    model = GPT(GPTConfig(7, context_length=8, emb_dim=8, n_heads=2, n_layers=2), generator())
    ids = generator(1).integers(0, 7, (2, 8))
    changed = ids.copy()
    changed[:, 5:] = (changed[:, 5:] + 1) % 7
    before, after = model(ids).data, model(changed).data
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(axis=-1).all()


def test_dropout_keeps_the_expected_value_and_rests_in_evaluation():
    """Oracle: the binomial distribution of 200,000 draws, within five standard deviations."""
    layer = Dropout(0.3, generator())
    x = Tensor(np.ones(200_000, dtype=np.float32), requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert abs((out.data == 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 200_000)
    np.testing.assert_allclose(out.data[out.data > 0], 1 / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(x.grad, out.data)
    assert layer.eval()(x) is x
    with pytest.raises(ValueError, match=r"in \[0, 1\), not 1"):
        Dropout(1, generator())


def test_state_finds_every_layer_and_refuses_another_models():
    model = Sequential(
        Conv2d(1, 2, 3, generator()), BatchNorm(2), Flatten(), Linear(8, 3, generator())
    )
    state = model.state_dict()
    assert set(state) == {
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.scale",
        "layers.1.shift",
        "layers.1.running_mean",
        "layers.1.running_var",
        "layers.3.weight",
        "layers.3.bias",
    }
    assert model.n_parameters() == 2 * 9 + 2 + 2 + 2 + 24 + 3
    other = Sequential(
        Conv2d(1, 2, 3, generator(9)), BatchNorm(2), Flatten(), Linear(8, 3, generator(9))
    )
    x = Tensor(generator(1).normal(size=(4, 1, 4, 4)))
    model(x)  # moves the running averages
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.eval()(x).data, model.eval()(x).data)
    with pytest.raises(ValueError, match=r"missing \['layers.3.bias'\], unknown \['more'\]"):
        other.load_state_dict(
            {("more" if name == "layers.3.bias" else name): array for name, array in state.items()}
        )
    with pytest.raises(
        ValueError, match=r"layers.3.bias has shape \(4,\) in the state, \(3,\) in the model"
    ):
        other.load_state_dict(state | {"layers.3.bias": np.zeros(4)})


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match="a window of 3 does not fit into 2 x 5"):
        Conv2d(1, 1, 3, generator())(Tensor(np.ones((1, 1, 2, 5))))
    with pytest.raises(ValueError, match="a window of 4 does not fit into 3 x 5"):
        MaxPool2d(4)(Tensor(np.ones((1, 1, 3, 5))))
    with pytest.raises(ValueError, match="3 heads do not divide the width 8"):
        MultiHeadAttention(8, 3, generator())
    with pytest.raises(ValueError, match="at least 2 values per channel"):
        BatchNorm(2)(Tensor(np.ones((1, 2))))
