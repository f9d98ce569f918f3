"""Exercises of chapter 7. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k ch07

Each docstring gives a first hint, `hint("name")` a second one; the answers are in solutions.py.
"""

from torch import Tensor

from ch01_text.practice import hints

hint = hints(
    {
        "continuous_steps": (
            "Keep a list of the step at which each row becomes free, `max_num_seqs` zeros at first;"
            " heapq.heapreplace(free, free[0] + length) gives the next text to the row that is free"
            " first. The largest entry is the answer."
        ),
        "accept_and_resample": (
            "(p / q).clamp(max=1) never divides by zero here; (p - q).clamp(min=0) becomes a"
            " distribution when divided by its sum."
        ),
        "tokens_per_round": (
            "A round yields at least i tokens if the first i - 1 proposals are accepted, which has"
            " probability rate ** (i - 1). Sum it over i = 1 ... k + 1."
        ),
        "int8_round_trip": (
            "scale = x.abs().amax(dim=-1, keepdim=True) / 127; the result is"
            " (x / scale).round() * scale."
        ),
        "allowed_tokens": (
            "moves.get((state, letter)) is None if the automaton cannot read the letter; it never"
            " recovers from that."
        ),
        "bm25_term": (
            "Start with a text of the mean length: its length factor is 1, and its term is"
            " idf * times / (times + k1)."
        ),
        "hit_at_k": "Compute `right in row[:k]` for each row; the mean of booleans is the share.",
        "pick_choice": (
            "max(range(len(choices)), key=...) gives an index; len(choice.encode()) counts bytes."
        ),
        "wilson": (
            "Both ends solve (hits / n - p) ** 2 == z ** 2 * p * (1 - p) / n, a quadratic equation"
            " in p."
        ),
        "latency": "Sort; the index is math.ceil(percent / 100 * n) - 1, and at least 0.",
        "join_stream": (
            'Split at "\\n\\n", keep the parts that begin with "data: ", stop at [DONE], and parse'
            " the rest with json.loads; choices may be empty, and a delta may lack content."
        ),
    }
)


def continuous_steps(lengths: list[int], max_num_seqs: int) -> int:
    """How many steps an engine with `max_num_seqs` rows needs for texts of these lengths. Each step
    adds one token to every running text. A text takes the first free row in the next step; texts
    start in their order. Hint: when does each row become free?
    """
    raise NotImplementedError


def accept_and_resample(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Speculative decoding. The distributions of model and drafter, (V,) float each, q > 0
    everywhere, p different from q -> (V,) the probability that each token is accepted if it is
    proposed, and (V,) the distribution of the token that replaces a rejected one. Hint: what the
    drafter proposes too often is accepted less often.
    """
    raise NotImplementedError


def tokens_per_round(rate: float, k: int) -> float:
    """Speculative decoding. Each of k proposals is accepted with probability `rate` if all before
    it were; the model adds one token of its own. How many tokens does a round yield on average?
    Hint: with k = 1 it is 1 + rate.
    """
    raise NotImplementedError


def int8_round_trip(x: Tensor) -> Tensor:
    """Weights (O, n), no row all zero -> (O, n), the weights after quantization to int8 with one
    scale per row, and back. The entry of largest magnitude in each row becomes 127 or -127. Hint:
    the error is at most half a scale.
    """
    raise NotImplementedError


def allowed_tokens(moves: dict[tuple[int, str], int], state: int, tokens: list[str]) -> list[bool]:
    """Constrained decoding. An automaton's moves, (state, letter) -> state, its current state, and
    the texts of a vocabulary's tokens -> whether the automaton can read each token to its end.
    Hint: one letter after the other.
    """
    raise NotImplementedError


def bm25_term(times: int, length: int, mean_length: float, n_texts: int, n_with: int) -> float:
    """What one word of a query adds to a text's BM25 score: idf * times / (times + k1 * (1 - b + b
    * length / mean_length)), where k1 = 1.5, b = 0.75, idf = log(1 + (n_texts - n_with + 0.5) /
    (n_with + 0.5)). `times` is how often the word occurs in the text, `n_with` the number of texts
    that contain it. Hint: math.log is the natural logarithm.
    """
    raise NotImplementedError


def hit_at_k(ranked: list[list[int]], right: list[int], k: int) -> float:
    """For each query, the indices of the texts found, best first, and the index of the right text
    -> the share of queries whose right text is among the first k. Hint: zip the two lists.
    """
    raise NotImplementedError


def pick_choice(log_p: list[float], choices: list[str]) -> int:
    """Multiple choice. The log-probability of each choice -> the index of the choice with the
    highest log-probability per UTF-8 byte, the first of equals. Hint: a negative number divided by
    a larger one is closer to 0.
    """
    raise NotImplementedError


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval (low, high) for a share of successes: its ends are the shares p from which
    the measured share is z standard deviations away, where p itself determines the standard
    deviation. Hint: the interval is not symmetric about hits / n.
    """
    raise NotImplementedError


def latency(seconds: list[float], percent: float) -> float:
    """The smallest measured time such that at least `percent` per cent of the answers took no
    longer. Hint: p50 of four times is the second smallest.
    """
    raise NotImplementedError


def join_stream(body: str) -> str:
    """The body of a streamed chat completion in OpenAI's format -> the answer. Events end with an
    empty line; "data: {...}" has the next piece at choices[0].delta.content, if it has one;
    "data: [DONE]" is the last. Lines that begin with ":" are comments. Hint: an event may have no
    choices, such as the one that reports usage.
    """
    raise NotImplementedError
