"""Exercises of chapter 3. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k ch03

The first hint is in the docstring, a second one behind `hint("name")`; the answers are in
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
            " + C wide. QK-norm has two vectors of head_dim, a convolution conv_kernel - 1 of C."
        ),
        "attended_pairs": (
            "Without a window 1 + 2 + ... + T. With one, the first `window` tokens grow like that,"
            " and each of the others attends to exactly `window`."
        ),
        "cache_tokens": (
            "Two vectors (key, value) of kv_heads * head_dim numbers in each layer; // rounds down."
        ),
        "gumbel_draw": (
            "-log(-log(u)) is a draw from the Gumbel distribution; argmax over the last axis."
        ),
        "temperature_for": (
            "Halve an interval such as 0.001 ... 1000 some sixty times: if the entropy at its"
            " geometric middle is too small, continue with the upper half."
        ),
        "write_with_cache": (
            "cache = model.make_cache(1). Feed the prompt first, afterwards only the newest token;"
            " feed nothing after the last one has been chosen."
        ),
        "swiglu_width": (
            "ceil(8 C / (3 multiple)) * multiple; -(-a // b) is the ceiling of a / b in whole"
            " numbers."
        ),
    }
)


def resize_vocabulary(model: GPTModel, n_vocab: int) -> GPTModel:
    """A model, a larger vocabulary -> a new model that gives the old tokens the same ids and the
    same logits.

    The rows of the new tokens start as the mean of the old rows, in the embedding and in the head.
    Everything else is the same; a tied head stays tied. Hint: which tensors of the model have V
    rows?
    """
    raise NotImplementedError


def fold_norm(scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """LayerNorm's scale and shift (C,), the linear layer after it, weight (out, C) and bias (out,)
    -> the weight and bias of one linear layer with the same result after a norm without scale and
    shift.

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
    (Vaswani et al.): the norm follows each addition, instead of preceding each layer. Hint: two
    lines, as in `TransformerBlock.forward`.
    """
    raise NotImplementedError


def parameter_count(config: GPTConfig) -> int:
    """The number of parameters of a model of this shape, by arithmetic alone, for every switch. A
    tied head counts once. Hint: section 6 of the notebook does it for GPT-2; `config.hidden_dim`,
    `config.kv_heads` and `config.head_dim` help with the rest.
    """
    raise NotImplementedError


def attended_pairs(T: int, window: int | None = None) -> int:
    """Number of pairs (query, key) in causal attention over T tokens, each of which attends to
    itself and to those before it, at most `window` in all. T may be a million, so do not build the
    mask. Hint: token number t, counted from 1, attends to min(t, window).
    """
    raise NotImplementedError


def cache_tokens(config: GPTConfig, gib: float, bytes_per_number: int = 2) -> int:
    """Number of whole tokens whose keys and values fit into `gib` GiB of memory (1 GiB = 2**30
    bytes), over all texts together. Hint: the query heads are not in the cache.
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
    entropy grows with temperature.
    """
    raise NotImplementedError


def write_with_cache(model: GPTModel, ids: Tensor, max_new_tokens: int) -> Tensor:
    """(1, T) ids -> (1, T + max_new_tokens): greedy decoding that feeds each token to the model
    exactly once, without `generate` and its relatives. Hint: `model(ids, cache)` takes only the ids
    that the cache does not hold yet.
    """
    raise NotImplementedError


def swiglu_width(emb_dim: int, multiple: int = 32) -> int:
    """The smallest multiple of `multiple` that is at least 8/3 emb_dim: the inner width at which
    SwiGLU's three matrices have as many weights as GELU's two with 4 emb_dim. Use integers, so that
    nothing is rounded. Hint: where does 8/3 come from? 3 C h = 8 C^2.
    """
    raise NotImplementedError
