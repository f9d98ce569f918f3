"""Exercises of chapter 6. Replace each `raise`, then run

    pytest tests/test_exercises.py --mine -k ch06

The first hint is in the docstring, a second one behind `hint("name")`; answers are in
solutions.py.
"""

from torch import Tensor

from ch01_text.practice import hints

hint = hints(
    {
        "loss_mask": (
            "Walk through the ids with one variable, speaking: assistant_id sets it, end_id resets"
            " it. Record it before you change it, and drop the first entry."
        ),
        "padded_targets": (
            "If len(ids) == length there is one pad_id and no -100: [*ids[1:], pad_id, ...]."
        ),
        "pack_lengths": (
            "Place the longest first: short ones still fit into the gaps that are left."
        ),
        "plain_question": (
            "A question is a capital, then anything without . ? : or a comma, then a question mark."
            " re.findall finds all of them; drop those that address you. The wordings of a form"
            " share one word."
        ),
        "bradley_terry": (
            "-log sigmoid(x) = log(1 + exp(-x)): torch.nn.functional has logsigmoid, and softplus."
        ),
        "dpo_gradient_weight": (
            "The derivative of -log sigmoid(x) is sigmoid(x) - 1 = -sigmoid(-x), x being beta *"
            " margin."
        ),
        "gae": (
            "A[t] = delta[t] + gamma * lam * A[t + 1]: after the last token both A and the value"
            " are 0."
        ),
        "group_relative": (
            "keepdim=True lets a row's mean (P, 1) be subtracted from the row; add 1e-4 to the"
            " deviation."
        ),
        "clipped_objective": (
            "torch.minimum of ratio * A and of the clipped ratio * A: where the ratio has moved the"
            " wrong way the minimum is the unclipped one, which pulls it back."
        ),
        "kl_estimate_better": (
            "With r = q / p, the mean of r - 1 under p is 0: a multiple of it may be added to -log"
            " r. Which one makes it never negative? Plot -log r and 1 - r against r."
        ),
        "pass_at_n": (
            "math.comb(wrong, n) of math.comb(sampled, n) choices contain no right answer; comb is"
            " 0 if wrong < n."
        ),
        "self_consistency": (
            "response.strip().splitlines()[-1], then collections.Counter: most_common keeps equally"
            " frequent ones in the order in which they came."
        ),
    }
)


def loss_mask(ids: list[int], assistant_id: int, end_id: int) -> list[bool]:
    """T ids of a conversation -> T - 1 booleans, one per target: is ids[t + 1] learned?

    The assistant's words are learned, and the `end_id` of each of its messages, but not the
    `assistant_id` that begins them; other messages end with `end_id`, too. Hint: a target is one
    token later than its input.
    """
    raise NotImplementedError


def padded_targets(ids: list[int], length: int, pad_id: int = 50_256) -> list[int]:
    """The book's targets of one text in a batch whose longest text has `length` ids: the ids from
    the second on, one `pad_id` as the end, then -100 up to `length`. No id of the text is `pad_id`.
    Hint: why is one of them kept?
    """
    raise NotImplementedError


def pack_lengths(lengths: list[int], room: int) -> list[list[int]]:
    """Lengths of n conversations, none above `room` -> rows: lists of the numbers 0 ... n - 1, each
    in exactly one row, and no row longer than `room`.

    At least sum(lengths) / room rows are needed. Starting a new row whenever the next conversation
    does not fit takes far more; stay within 5 %. Hint: the order matters more than the choice of
    row.
    """
    raise NotImplementedError


def plain_question(request: str) -> tuple[str, str]:
    """A user's request below a story -> the question alone, and the form asked for: "word",
    "sentence" or "json", or "phrase" if none is. Get more than 98 % of requests right, also in
    wordings not listed here.

    "Can you help me? Where is Nora? Use JSON." -> ("Where is Nora?", "json"); "I wonder: Who has
    the book?" -> ("Who has the book?", "phrase"). Other wordings: "Here is my question. ...", "...
    Tell me, please.", "One word only.", "Say it in a sentence.", "JSON only, please.", "... Do you
    know?". No question has a colon, a comma or a full stop inside. Hint: do not list wordings; what
    do all questions have in common?
    """
    raise NotImplementedError


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Scores (B,) of chosen and of rejected responses -> the mean of -log sigmoid(chosen -
    rejected), a scalar.

    Scores may be hundreds apart in either direction. Hint: what is log(sigmoid(-200.0)) in float32?
    """
    raise NotImplementedError


def dpo_gradient_weight(
    chosen_logratios: Tensor, rejected_logratios: Tensor, beta: float
) -> Tensor:
    """log(pi / pi_ref) of chosen and rejected responses, both (B,) -> weights (B,) between 0 and 1.

    The derivative of DPO's loss with respect to `chosen_logratios` is -beta times the weight: a
    pair that is ranked correctly by far weighs almost nothing, one that is ranked wrongly almost 1.
    Hint: differentiate -log sigmoid(beta * margin).
    """
    raise NotImplementedError


def gae(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """Rewards and values (T,) of the tokens of a response -> advantages (T,).

    A[t] is the sum over l = 0, 1, ... of (gamma lam)^l delta[t + l], where delta[t] = r[t] + gamma
    V[t + 1] - V[t] (Schulman et al. 2016, equation 16), and all is 0 after the last token. Hint:
    one loop from the last token to the first is enough.
    """
    raise NotImplementedError


def group_relative(rewards: Tensor) -> Tensor:
    """Rewards (P, G) of G responses to each of P prompts -> advantages (P, G): the distance from
    the prompt's mean, in standard deviations (with G - 1) of the prompt's rewards. 0, not NaN, if
    all G are equal. Hint: dim=1.
    """
    raise NotImplementedError


def clipped_objective(ratio: Tensor, advantages: Tensor, epsilon: float = 0.2) -> Tensor:
    """Probability now over probability when sampled (n,), advantages (n,) -> PPO's objective (n,),
    to be maximized: the ratio times the advantage, but never more than with the ratio clipped to 1
    +- epsilon (Schulman et al. 2017, equation 7). Hint: try ratios 1.5 and 0.5 with advantages 1
    and -1 by hand first.
    """
    raise NotImplementedError


def kl_estimate_better(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Log-probabilities (n,) of tokens sampled from p, under p and under q -> an estimate (n,) of
    KL(p || q) from each token alone.

    log_p - log_q has the right mean, but is often negative and varies widely. Find a better one:
    the same mean, never negative, and a standard deviation less than half as large whenever p and q
    are close. Hint: add something with mean 0 that is large where log_p - log_q is small.
    """
    raise NotImplementedError


def pass_at_n(sampled: int, right: int, n: int) -> float:
    """`right` of `sampled` answers are right: the probability that n of them, drawn without
    replacement, contain at least one right one (Chen et al. 2021, section 2.1); n <= sampled. Hint:
    count the choices with none.
    """
    raise NotImplementedError


def self_consistency(responses: list[str]) -> str:
    """Responses of one or several lines -> their most frequent last line, stripped; of equally
    frequent ones the first. Hint: the lines before the last may differ.
    """
    raise NotImplementedError
