"""Dropout against its definition, binomial statistics, autograd, and PyTorch's attention."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ch02_attention import (
    AttentionOptions,
    Dropout,
    MultiHeadAttention,
    attention_reference,
    causal_mask,
    cpu_attention,
)
from ch02_attention.cpu_attention import attention_with_dropout
from ch02_attention.dropout import LEVELS, dropout, keep_mask


@given(st.floats(0.01, 0.99), st.integers(1, 9), st.integers(1, 9))
def test_a_number_is_dropped_or_scaled_up(rate, rows, columns):
    """Oracle: the definition, at the nearest rate of 16 bits; the gradient is the same mask."""
    torch.manual_seed(0)
    x = torch.full((rows, columns), 2.0, requires_grad=True)
    y = dropout(x, rate)
    y.sum().backward()
    kept = 1 / (1 - round(rate * LEVELS) / LEVELS)
    assert torch.all((y == 0) | ((y - 2 * kept).abs() < 1e-4 * kept))
    torch.testing.assert_close(x.grad, y.detach() / 2)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_asked_for_and_at_random_places(rate):
    """Oracle: the binomial distribution: of all numbers, and of pairs of neighbours at every
    distance up to four, which come from one random integer.
    """
    torch.manual_seed(0)
    n = 400_000
    dropped = (keep_mask(torch.Size([n]), rate, torch.float32) == 0).numpy()
    assert stats.binomtest(int(dropped.sum()), n, rate).pvalue > 1e-4
    for distance in range(1, 5):
        both = int((dropped[:-distance] & dropped[distance:])[:: 2 * distance].sum())
        assert (
            stats.binomtest(both, len(dropped[: -distance : 2 * distance]), rate**2).pvalue > 1e-4
        )
    for lane in range(4):  # the four numbers of an integer
        assert stats.binomtest(int(dropped[lane::4].sum()), n // 4, rate).pvalue > 1e-4


def test_nothing_is_dropped_in_evaluation_and_everything_at_rate_one():
    layer, x = Dropout(0.5), torch.randn(4, 8)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(4, 8))


def test_the_global_seed_decides():
    """Oracle: the same seed twice; the next draw differs."""
    x = torch.ones(1000)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_that_drops_nothing_is_attention(kv_heads):
    """Oracle: `attention_reference` with the key and value heads repeated."""
    queries, keys, values = torch.randn(2, 4, 6, 8), *torch.randn(2, 2, kv_heads, 6, 8)
    repeated = [x.repeat_interleave(4 // kv_heads, dim=1) for x in (keys, values)]
    expected, _ = attention_reference(queries, *repeated)
    torch.testing.assert_close(
        attention_with_dropout(queries, keys, values, causal_mask(6, 6), 0.0), expected
    )


@pytest.mark.parametrize(
    "options", [{}, {"num_kv_heads": 2}, {"window": 3}], ids=["full", "grouped", "window"]
)
def test_the_layer_drops_weights_and_keeps_the_mean(options, monkeypatch):
    """Oracle: the mean over many masks is the layer without dropout; the future stays hidden."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(16, 16, 8, 0.3, 4, options=AttentionOptions(**options))
    x = torch.randn(1, 8, 16)
    calls = []
    monkeypatch.setattr(
        cpu_attention,
        "attention_with_dropout",
        lambda *args: calls.append(1) or attention_with_dropout(*args),
    )
    with torch.no_grad():
        many = layer(x.expand(20_000, 8, 16))
        expected = layer.eval()(x)
    assert calls
    error = 5 * many.std(dim=0) / 20_000**0.5
    assert torch.all((many.mean(dim=0) - expected[0]).abs() < error + 1e-4)
    assert torch.all(many[:, 0].std(dim=0) > 0)
