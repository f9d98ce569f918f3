"""Exercises of chapter 2. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k ch02

The first hint is in the docstring, a second one behind `hint("name")`; the answers are in
solutions.py.
"""

from torch import Tensor

from ch01_text.practice import hints

hint = hints(
    {
        "stable_softmax": (
            "exp(s - largest) is at most 1; the factor exp(-largest) cancels in the division."
            " Divide by the temperature first."
        ),
        "softmax_gradient": "(weights * upstream).sum(dim=-1, keepdim=True) is the second term.",
        "attend": (
            "keys.transpose(-2, -1) turns (..., S, D) into (..., D, S); softmax over dim=-1, the"
            " keys."
        ),
        "causal_weights": (
            "torch.ones(T, T).triu(diagonal=1) marks the future; masked_fill takes booleans and"
            " -inf."
        ),
        "split_heads": (
            "x.view(B, T, n_heads, D) first, then swap the axes 1 and 2. view(B, n_heads, T, D) at"
            " once has the right shape and the wrong numbers."
        ),
        "count_weights": (
            "Queries take d_in * d_out, keys and values d_in * (kv_heads * head width) each; the"
            " output projection is d_out * d_out with d_out biases."
        ),
        "online_softmax": (
            "When the largest score grows from m to m2, everything summed so far shrinks by exp(m -"
            " m2); start with m = -inf, for exp(-inf) = 0."
        ),
        "cache_bytes": (
            "Keys and values: a factor 2. A window holds min(n_tokens, window). Query heads do not"
            " matter."
        ),
        "rotate": (
            "first, second = x.chunk(2, dim=-1); then torch.cat((first * cos - second * sin, ...),"
            " dim=-1); cos and sin are (T, D / 2)."
        ),
        "repeat_kv": (
            "torch.repeat_interleave repeats each entry in place; Tensor.repeat repeats the whole,"
            " which pairs heads wrongly."
        ),
        "reach": "One layer: min(window, n_tokens). Each further one adds window - 1.",
        "last_mention_score": (
            "Two loops over positions are fine: for t, the largest s < t with ids[s] == ids[t]."
            " Collect weights[:, t, s] and take their mean."
        ),
    }
)


def stable_softmax(scores: list[float], temperature: float = 1.0) -> list[float]:
    """Scores, divided by the temperature -> positive numbers that sum to one, in plain Python, for
    scores of any size. Hint: adding a constant to all scores does not change the result.
    """
    raise NotImplementedError


def softmax_gradient(weights: Tensor, upstream: Tensor) -> Tensor:
    """Softmax's result (..., S) and the loss's gradient at it (..., S) -> the gradient at the
    scores (..., S), without autograd. Hint: a score raises its own weight and lowers all others:
    w_j (g_j - sum_k w_k g_k).
    """
    raise NotImplementedError


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Queries (..., T, D), keys (..., S, D), values (..., S, E) -> context (..., T, E): scaled
    dot-product attention without a mask. Hint: two matrix products and a softmax.
    """
    raise NotImplementedError


def causal_weights(scores: Tensor) -> Tensor:
    """Scores (..., T, T) -> weights (..., T, T) that sum to one over the present and earlier tokens
    and are 0 for later ones. Hint: e to the minus infinity is 0.
    """
    raise NotImplementedError


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """(B, T, C) -> (B, H, T, D) with D = C / H: head h takes the channels h D ... (h + 1) D - 1 of
    every token. Hint: a view alone is not enough.
    """
    raise NotImplementedError


def count_weights(d_in: int, d_out: int, n_heads: int, n_kv_heads: int, qkv_bias: bool) -> int:
    """Number of parameters of `MultiHeadAttention`. Its output projection has biases; the others
    have them if `qkv_bias`. Hint: n_heads determines how wide a key is.
    """
    raise NotImplementedError


def online_softmax(blocks: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Blocks of (scores (n,), values (n, D)) -> sum of softmax(all scores) times values (D,),
    processing one block at a time. Scores may be in the thousands. Hint: keep the largest score so
    far, the sum of exponentials, and the weighted sum of values.
    """
    raise NotImplementedError


def cache_bytes(
    n_texts: int,
    n_layers: int,
    n_kv_heads: int,
    head_dim: int,
    n_tokens: int,
    bytes_each: int = 2,
    window: int | None = None,
) -> int:
    """Bytes of the keys and values kept while `n_texts` texts of `n_tokens` tokens are generated;
    with a sliding window only the last `window` tokens are kept. Hint: which of these factors does
    not depend on the length?
    """
    raise NotImplementedError


def rotate(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """RoPE: (B, H, T, D) and positions (T,) -> (B, H, T, D). Channels i and i + D / 2 are
    rotated together, by the angle position * base ** (-2 i / D). Hint: (a, b) becomes (a cos - b
    sin, a sin + b cos).
    """
    raise NotImplementedError


def repeat_kv(keys: Tensor, n_heads: int) -> Tensor:
    """Keys (or values) of grouped-query attention (B, H_kv, S, D) -> (B, H, S, D): the first H /
    H_kv query heads use the first key head, and so on. Hint: neighbours share.
    """
    raise NotImplementedError


def reach(n_layers: int, window: int, n_tokens: int) -> int:
    """Number of tokens, of `n_tokens`, that can influence the last one, itself included, after
    `n_layers` layers of sliding-window attention. Hint: draw two layers with a window of 3.
    """
    raise NotImplementedError


def last_mention_score(weights: Tensor, ids: list[int]) -> Tensor:
    """Attention weights of one text (H, T, T) and its ids -> (H,): how much each head attends to
    the last mention of the same token.

    If the token at t occurred before, take the weight from t to the latest earlier position of it;
    the score is the mean over all such t, and 0 if no token occurs twice. Hint: a token is not its
    own last mention.
    """
    raise NotImplementedError
