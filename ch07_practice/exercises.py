"""Exercises of chapter 7. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k ch07

The first hint stands in the docstring, a second one behind `hint("name")`; answers are in
solutions.py.
"""

from torch import Tensor

from ch01_text.practice import hints

hint = hints(
    {
        "continuous_steps": (
            "Keep a list of when each row gets free, `rows` zeros at first; heapq.heapreplace(free,"
            " free[0] + length) gives the next text to the earliest. The last to get free is the"
            " answer."
        ),
        "keep_and_replace": (
            "torch.minimum(p / q, 1) has no zero to divide by here; (p - q).clamp(min=0) becomes "
            "probabilities when divided by its sum."
        ),
        "tokens_per_round": (
            "At least i tokens come out where the first i - 1 guesses are kept: that has the"
            " probability rate ** (i - 1). Add it up for i = 1 ... k + 1."
        ),
        "through_int8": (
            "scale = x.abs().amax(dim=-1, keepdim=True) / 127, and (x / scale).round() * scale"
            " comes back."
        ),
        "allowed_tokens": (
            "moves.get((state, letter)) is None where the automaton stops; once it has stopped, no"
            " later letter brings it back."
        ),
        "bm25_term": (
            "Write the length as length / mean_length first: a text of the usual length has the"
            " factor 1 there, and its term is idf * times / (times + k1)."
        ),
        "hit_at_k": "`right in row[:k]` for each row; the mean of booleans is a share.",
        "pick_choice": (
            "max(range(len(choices)), key=...) gives a number; len(choice.encode()) counts bytes."
        ),
        "wilson": (
            "Both ends solve (hits / n - p) ** 2 == z ** 2 * p * (1 - p) / n for p: a quadratic"
            " equation."
        ),
        "latency": "Sort; the place is math.ceil(percent / 100 * n) - 1, and 0 at least.",
        "join_stream": (
            'Split at "\\n\\n", keep what begins with "data: ", stop at [DONE], json.loads the'
            " rest; choices may be empty, and a delta may lack content."
        ),
    }
)


def continuous_steps(lengths: list[int], rows: int) -> int:
    """How many steps an engine of so many rows needs for texts of these lengths, one token a step
    for each row in use. A text waits until a row gets free, and takes it in the next step; texts
    come in their order. Hint: when does each row get free?
    """
    raise NotImplementedError


def keep_and_replace(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Speculative decoding. The model's probabilities and the guesser's, (V,) float each, q > 0
    everywhere, p not equal to q -> (V,) the probability of keeping each token if it is guessed, and
    (V,) the probabilities of the token that is written where the guess is not kept. Hint: what the
    guesser says too often is kept less often.
    """
    raise NotImplementedError


def tokens_per_round(rate: float, k: int) -> float:
    """Speculative decoding. Each of k guesses is kept with the probability `rate`, if all before it
    were; the model adds one token of its own. How many tokens does a round write on average? Hint:
    with k = 1 it is 1 + rate.
    """
    raise NotImplementedError


def through_int8(x: Tensor) -> Tensor:
    """Weights (O, n), no row all zero -> (O, n), what a layer computes with once they have been
    int8 numbers with one scale a row. The largest of a row, by size, becomes 127 or -127. Hint: the
    error is half a scale at most.
    """
    raise NotImplementedError


def allowed_tokens(moves: dict[tuple[int, str], int], state: int, tokens: list[str]) -> list[bool]:
    """Constrained decoding. An automaton's moves, (state, letter) -> state, where it stands, and
    the texts of a vocabulary's tokens -> whether the automaton can read each token to its end.
    Hint: one letter after the other.
    """
    raise NotImplementedError


def bm25_term(times: int, length: int, mean_length: float, n_texts: int, n_with: int) -> float:
    """What one word of a query adds to a text's BM25 score: idf * times / (times + k1 * (1 - b + b
    * length / mean_length)), where k1 = 1.5, b = 0.75, idf = log(1 + (n_texts - n_with + 0.5) /
    (n_with + 0.5)). `times`: how often the word is in the text; `n_with`: in how many of the texts
    it is. Hint: math.log is the natural logarithm.
    """
    raise NotImplementedError


def hit_at_k(ranked: list[list[int]], right: list[int], k: int) -> float:
    """For each query the numbers of the texts that were found, the best first, and the right one ->
    the share of queries whose right text is among the first k. Hint: zip the two lists.
    """
    raise NotImplementedError


def pick_choice(log_p: list[float], choices: list[str]) -> int:
    """Multiple choice. The log-probability of each choice -> the number of the one with the highest
    log-probability per byte (UTF-8), the first among equals. Hint: dividing a negative number by
    more brings it closer to 0.
    """
    raise NotImplementedError


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """(low, high) of a share of successes by Wilson's method: the shares p from which the measured
    one is z standard deviations away, each by its own p. Hint: it is not hits / n plus and minus
    the same.
    """
    raise NotImplementedError


def latency(seconds: list[float], percent: float) -> float:
    """The smallest of the measured times that at least so many percent of the answers did not
    exceed. Hint: p50 of four times is the second smallest.
    """
    raise NotImplementedError


def join_stream(body: str) -> str:
    """What a server of OpenAI's kind sent as a stream for one chat answer -> the answer. Events end
    with an empty line; "data: {...}" has the next piece at choices[0].delta.content, if it has one;
    "data: [DONE]" is the last. Lines that begin with ":" are comments. Hint: an event may have no
    choices, as the one that counts tokens.
    """
    raise NotImplementedError
