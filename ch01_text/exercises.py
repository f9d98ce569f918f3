"""Exercises of chapter 1. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k ch01

The docstring gives a first hint, `hint("name")` a second one; answers are in solutions.py.
"""

import numpy as np
from torch import Tensor

from ch01_text.practice import hints

hint = hints(
    {
        "split_words": (
            're.findall with alternatives: "--" first, then one mark out of [...], then [^...]+ for'
            ' a run of anything that is neither space nor mark. The run must not swallow a "--".'
        ),
        "unknown_share": "Make a set of the training words once; the mean of booleans is a share.",
        "cut_utf8": (
            "Bytes 128 to 191 only ever continue a character (byte & 0b1100_0000 == 0b1000_0000):"
            " while the byte *after* the cut is one of these, cut one earlier."
        ),
        "most_frequent_pair": (
            "itertools.pairwise(word) gives a word's pairs, a Counter adds up `times`; the smallest"
            " of (-count, pair) is the answer."
        ),
        "encode_with_merges": (
            "For each merge, walk from left to right and build a new list; where two neighbours are"
            " the pair, append their union and skip both."
        ),
        "bits_per_token": (
            "Counter(ids).values() / len(ids) are the p of the formula; numpy has log2."
        ),
        "document_numbers": (
            "np.cumsum of (ids == eot_id) counts the ends up to and including each position."
        ),
        "count_windows": (
            "The first window needs context_length + 1 tokens; each further one needs `stride`"
            " more."
        ),
        "times_predicted": (
            "The targets of window i are the tokens i * stride + 1 up to and including i * stride +"
            " context_length."
        ),
        "embedding_gradient": (
            "Tensor.index_add_ adds rows into rows, repeated indices included; or multiply with the"
            " transposed one-hot matrix."
        ),
        "fixed_positions": (
            "torch.outer(positions, 10_000 ** (-2 k / C)) is (T, C / 2); assign its sine to [:,"
            " 0::2] and its cosine to [:, 1::2]."
        ),
        "locate": (
            'np.searchsorted(np.cumsum(sizes), place, side="right") is the number of shards that'
            " end before it."
        ),
    }
)


def split_words(text: str) -> list[str]:
    """A text -> its words and punctuation marks, without white space, as the book's first tokenizer
    splits it.

    Each of , . : ; ? _ ! " ( ) ' is a piece of its own, and so is "--". Any other run without white
    space is one piece ("well-read" is one). Hint: re.findall with three alternatives.
    """
    raise NotImplementedError


def unknown_share(training: list[str], new: list[str]) -> float:
    """Words of a training text, words of a new text -> the share of the new text's words, counting
    every occurrence, that the training text does not have. Hint: looking a word up in a list is
    slow.
    """
    raise NotImplementedError


def cut_utf8(data: bytes, n: int) -> bytes:
    """UTF-8 text -> its longest prefix of at most n bytes that does not end inside a character.
    Hint: which bytes can never begin a character?
    """
    raise NotImplementedError


def most_frequent_pair(words: dict[tuple[str, ...], int]) -> tuple[str, str]:
    """Words, split into tokens, and how often each occurs -> the most frequent pair of adjacent
    tokens; in a tie, the first in the order of Python's tuples. Hint: a word that occurs five times
    counts five times.
    """
    raise NotImplementedError


def encode_with_merges(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """A word, merges in the order in which they were learned -> the word's tokens. Hint: apply each
    merge everywhere in the word, from left to right, before the next one.
    """
    raise NotImplementedError


def bits_per_token(ids: list[int]) -> float:
    """The entropy of the ids: -sum p log2 p over the different ids, with p an id's share of `ids`.
    Divided by the characters per token it gives bits per character, which compares tokenizers
    fairly. Hint: four equally frequent ids carry 2 bits each.
    """
    raise NotImplementedError


def document_numbers(ids: np.ndarray, eot_id: int) -> np.ndarray:
    """Ids (n,) of documents that end with `eot_id` -> (n,) integers: the number, from 0, of the
    document that each token belongs to; `eot_id` belongs to the document that it ends. Hint: count
    ends, without a loop.
    """
    raise NotImplementedError


def count_windows(n_tokens: int, context_length: int, stride: int) -> int:
    """How many windows of `context_length` inputs, each with a next token, begin at 0, stride,
    2 stride, ...? Zero if the text is too short for one. Hint: try 4, 5 and 6 tokens with windows
    of 4 by hand.
    """
    raise NotImplementedError


def times_predicted(n_tokens: int, context_length: int, stride: int) -> np.ndarray:
    """(n_tokens,) integers: in how many windows is each token a target? Hint: the targets of a
    window are its inputs, shifted by one.
    """
    raise NotImplementedError


def embedding_gradient(ids: Tensor, upstream: Tensor, n_vocab: int) -> Tensor:
    """Ids (T,), int64, and the loss's gradient at their embeddings (T, C) -> its gradient at the
    table (n_vocab, C).
    Hint: table[ids] = upstream is wrong if an id occurs twice.
    """
    raise NotImplementedError


def fixed_positions(context_length: int, width: int) -> Tensor:
    """Sinusoidal position embeddings, without parameters (Vaswani et al. 2017, section 3.5):
    float32 (T, C), C even. At position t and for k = 0 ... C / 2 - 1, column 2 k is
    sin(t / 10000^(2 k / C)) and column 2 k + 1 is its cosine. Hint: no loop is needed.
    """
    raise NotImplementedError


def locate(place: int, sizes: list[int]) -> tuple[int, int]:
    """The position of a token in a data set, and the number of tokens in each of its shards ->
    (shard, position in the shard), both from 0. A shard may be empty. Hint: cumulative sums.
    """
    raise NotImplementedError
