"""Exercises of chapter 6. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k ch06

The first hint stands in the docstring, a second one behind `hint("name")`; answers are in
solutions.py.
"""

from torch import Tensor

from ch01_text.practice import hints

hint = hints(
    {
        "loss_mask": (
            "Walk through the ids with one variable, speaking: assistant_id sets it, end_id resets"
            " it. Note it down before you change it, and drop the first entry."
        ),
        "padded_targets": (
            "Nothing of -100 and only one pad where len(ids) == length: [*ids[1:], pad_id, ...]."
        ),
        "pack_lengths": (
            "Place the longest first: what is short still fits into the gaps that are left at the"
            " end."
        ),
        "plain_question": (
            "A question: a capital, then anything but the ends of other parts (. ? : ,), then a"
            " question mark; re.findall finds them all, and one is not to you. The wordings of a"
            " form share one word."
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
            "torch.minimum of ratio * A and of the held ratio * A: where the ratio has gone the"
            " wrong way, that is the one not held, so that it is pulled back."
        ),
        "kl_estimate_better": (
            "With r = q / p, the mean of r - 1 under p is 0: a multiple of it may be added to -log"
            " r. Which one makes it never negative? Draw -log r and 1 - r against r."
        ),
        "pass_at_n": (
            "math.comb(wrong, n) of math.comb(drawn, n) choices hold no right answer; comb is 0"
            " where wrong < n."
        ),
        "self_consistency": (
            "response.strip().splitlines()[-1], then collections.Counter: most_common keeps the"
            " order in which equally frequent ones came."
        ),
    }
)


def loss_mask(ids: list[int], assistant_id: int, end_id: int) -> list[bool]:
    """T ids of a conversation -> T - 1 booleans, one a target: is ids[t + 1] learned?

    Learned is what the assistant says and the `end_id` of each of its messages, but not the token
    `assistant_id` that begins them; other messages end with `end_id`, too. Hint: a target is a
    token later than its input.
    """
    raise NotImplementedError


def padded_targets(ids: list[int], length: int, pad_id: int = 50_256) -> list[int]:
    """The book's targets of one text, none of whose ids is `pad_id`, in a batch whose longest text
    has `length` ids: the ids from the second on, one `pad_id` as the end, and -100 up to `length`.
    Hint: why is one of them kept?
    """
    raise NotImplementedError


def pack_lengths(lengths: list[int], room: int) -> list[list[int]]:
    """Lengths of n conversations, none above `room` -> rows: lists of the numbers 0 ... n - 1, each
    in exactly one row, and no row longer than `room`.

    At least sum(lengths) / room rows are needed; a new row whenever the next one does not fit makes
    far more. Make it at most 5 % more. Hint: the order matters more than the choice of row.
    """
    raise NotImplementedError


def plain_question(request: str) -> tuple[str, str]:
    """What a user says below a story -> the question alone, and the form asked for: "word",
    "sentence" or "json", and "phrase" where nothing is said about it. Make it right on more than 98
    % of requests in wordings not listed here.

    "Can you help me? Where is Nora? Use JSON." -> ("Where is Nora?", "json"); "I wonder: Who has
    the book?" -> ("Who has the book?", "phrase"). Other wordings: "Here is my question. ...", "...
    Tell me, please.", "One word only.", "Say it in a sentence.", "JSON only, please.", "Please,
    ...", "... Do you know?". No question has a colon, a comma or a full stop inside. Hint: do not
    list wordings; what do all questions have in common?
    """
    raise NotImplementedError


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Scores (B,) of preferred and of rejected responses -> the mean of -log sigmoid(chosen -
    rejected), a scalar.

    Scores may be hundreds apart either way. Hint: what is log(sigmoid(-200.0)) in float32?
    """
    raise NotImplementedError


def dpo_gradient_weight(chosen_gain: Tensor, rejected_gain: Tensor, beta: float) -> Tensor:
    """By how much the policy finds the chosen and the rejected responses likelier than the
    reference does, both (B,) -> weights (B,) between 0 and 1.

    The derivative of DPO's loss with respect to `chosen_gain` is -beta times the weight: what is
    ranked rightly by far weighs almost nothing, what is ranked wrongly almost 1. Hint: derive -log
    sigmoid(beta * margin).
    """
    raise NotImplementedError


def gae(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """Rewards and values (T,) of the tokens of a response, nothing after the last -> advantages
    (T,).

    A[t] is the sum over l = 0, 1, ... of (gamma lam)^l delta[t + l], where delta[t] = r[t] + gamma
    V[t + 1] - V[t] (Schulman et al. 2016, equation 16). Hint: from the last token to the first, one
    loop is enough.
    """
    raise NotImplementedError


def group_relative(rewards: Tensor) -> Tensor:
    """Rewards (P, G) of G responses to each of P prompts -> advantages (P, G): how far each is
    above its prompt's mean, in standard deviations (with G - 1) of the prompt's. 0, and not NaN,
    where all G are as good. Hint: dim=1.
    """
    raise NotImplementedError


def clipped_objective(ratio: Tensor, advantages: Tensor, clip: float = 0.2) -> Tensor:
    """Probability now over probability when drawn (n,), advantages (n,) -> PPO's objective (n,), to
    be made large: the ratio times the advantage, but never more than with the ratio held within 1
    +- clip (Schulman et al. 2017, equation 7). Hint: try ratio 1.5 and 0.5 with advantage 1 and -1
    by hand first.
    """
    raise NotImplementedError


def kl_estimate_better(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Log-probabilities (n,) of tokens drawn from p, under p and under q -> an estimate of KL(p ||
    q) from each token by itself (n,).

    log_p - log_q has the right mean, but it is often negative, and it spreads widely. Make it
    better: the same mean, never negative, and a standard deviation less than half as large wherever
    p and q are close. Hint: add something whose mean is 0 and that is large where log_p - log_q is
    small.
    """
    raise NotImplementedError


def pass_at_n(drawn: int, right: int, n: int) -> float:
    """`right` of `drawn` answers are right: the probability that n of them, chosen at random
    without putting any back, hold at least one right one (Chen et al. 2021, section 2.1); n <=
    drawn. Hint: count the choices with none.
    """
    raise NotImplementedError


def self_consistency(responses: list[str]) -> str:
    """Responses of one or several lines -> the last line that most of them have, without spaces
    around it; of equally frequent ones, that which came first. Hint: what comes before the last
    line may differ.
    """
    raise NotImplementedError
