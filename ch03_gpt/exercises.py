"""Exercises of chapter 3. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k ch03

The first hint stands in the docstring, a second one behind `hint("name")`; answers are in
solutions.py.
"""

from torch import Tensor

from ch01_text.practice import hints
from ch03_gpt import GPTConfig, GPTModel, TransformerBlock

hint = hints(
    {
        "resize_vocabulary": (
            "dataclasses.replace(model.config, vocab_size=...) builds the larger one. Change the"
            " two tables in model.state_dict() with torch.cat before you load it; all else fits as"
            " it is."
        ),
        "fold_norm": (
            "W (scale * n + shift) + b = (W * scale) n + (W shift + b): W * scale multiplies W's"
            " columns."
        ),
        "gelu_slope": (
            "GELU is x P(x), so its slope is P(x) + x p(x): torch.erf for P, an exponential for its"
            " density p."
        ),
        "post_norm_block": (
            "First x = block.norm1(x + block.att(x)); the second line has the same form."
        ),
        "parameter_count": (
            "Write down the shape of each matrix of one block, then of its vectors: LayerNorm has"
            " one vector without bias and two with it, RMSNorm one. SwiGLU's bias is 2 x hidden_dim"
            " + C wide."
        ),
        "attended_pairs": (
            "Without a window 1 + 2 + ... + T. With one, the first `window` tokens grow like that,"
            " and each of the others sees exactly `window`."
        ),
        "cache_tokens": (
            "Two vectors (key, value) of kv_heads * head_dim numbers in each layer; // rounds down."
        ),
        "gumbel_draw": (
            "-log(-log(u)) is a draw from the Gumbel distribution; argmax over the last axis."
        ),
        "temperature_for": (
            "Halve an interval such as 0.001 ... 1000 some sixty times: is the entropy in its"
            " middle (the geometric one) too small, go on with the upper half."
        ),
        "write_with_cache": (
            "cache = model.make_cache(1). What is fed first is the prompt, afterwards only the"
            " newest token; nothing is fed after the last one has been chosen."
        ),
        "swiglu_width": (
            "ceil(8 C / (3 multiple)) * multiple; -(-a // b) is the ceiling of a / b in whole"
            " numbers."
        ),
    }
)


def resize_vocabulary(model: GPTModel, n_vocab: int) -> GPTModel:
    """A model, a larger vocabulary -> a new model whose first tokens are the old ones, with the
    same logits for them.

    The rows of the new tokens begin as the mean of the old rows, in the embedding and in the head.
    Everything else is the same; a tied head stays tied. Hint: which tensors of the model have V
    rows?
    """
    raise NotImplementedError


def fold_norm(scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """LayerNorm's scale and shift (C,), the linear layer behind it, weight (out, C) and bias (out,)
    -> the weight and bias of one linear layer that does the same behind a norm that has neither
    scale nor shift.

    Servers do this to save work. Hint: write the linear layer with the norm's last step inside it.
    """
    raise NotImplementedError


def gelu_slope(x: Tensor) -> Tensor:
    """(...,) -> (...,): the derivative of the exact GELU, x times the probability that a standard
    normal number is below x. Without autograd. Hint: the product rule; the derivative of that
    probability is the bell curve.
    """
    raise NotImplementedError


def post_norm_block(block: TransformerBlock, x: Tensor) -> Tensor:
    """(B, T, C) -> (B, T, C): what the block's four layers would compute in the order of 2017
    (Vaswani et al.): the norm stands behind each addition, not in front of each layer. Hint: two
    lines, as in `TransformerBlock.forward`.
    """
    raise NotImplementedError


def parameter_count(config: GPTConfig) -> int:
    """The number of parameters of a model of this shape, by arithmetic alone, for every switch but
    `token_shift` (0 here). A tied head counts once. Hint: section 6 of the notebook does it for
    GPT-2; `config.hidden_dim`, `config.kv_heads` and `config.head_dim` help with the rest.
    """
    raise NotImplementedError


def attended_pairs(T: int, window: int | None = None) -> int:
    """How many pairs (token, token that it looks at) a causal text of T tokens has, where each
    token looks at itself and those before it, at most `window` in all. T may be a million, so do
    not build the mask. Hint: token number t, counted from 1, sees min(t, window).
    """
    raise NotImplementedError


def cache_tokens(config: GPTConfig, gib: float, bytes_per_number: int = 2) -> int:
    """How many whole tokens of keys and values fit into `gib` GiB of memory (1 GiB = 2**30 bytes),
    over all texts together. Hint: the query heads are not in the cache.
    """
    raise NotImplementedError


def gumbel_draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """Logits (V,), uniform random numbers in (0, 1) (n, V) -> n tokens (n,), distributed as
    softmax(logits), without computing a softmax: add -log(-log(u)) to the logits and take the
    largest (the Gumbel-max trick). Hint: the noise differs for each token of each draw.
    """
    raise NotImplementedError


def temperature_for(logits: Tensor, entropy: float) -> float:
    """Logits (V,), all different, and an entropy in nats, above 0 and below log V -> the
    temperature at which softmax(logits / temperature) has this entropy, to a thousandth. Hint:
    entropy only grows with temperature.
    """
    raise NotImplementedError


def write_with_cache(model: GPTModel, ids: Tensor, max_new_tokens: int) -> Tensor:
    """(1, T) ids -> (1, T + max_new_tokens): greedy writing that feeds each token to the model
    exactly once, without `generate` and its relatives. Hint: `model(ids, cache)` reads what the
    cache does not hold yet.
    """
    raise NotImplementedError


def swiglu_width(emb_dim: int, multiple: int = 8) -> int:
    """The smallest multiple of `multiple` that is at least 8/3 emb_dim: the inner width at which
    SwiGLU's three matrices have as many weights as GELU's two with 4 emb_dim. In whole numbers, so
    that no rounding goes wrong. Hint: where does 8/3 come from? 3 C h = 8 C^2.
    """
    raise NotImplementedError
