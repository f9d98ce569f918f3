"""What to do with a preferred and a rejected response: five loss functions of their
log-probabilities.

DPO: Rafailov et al. 2023, equation 7. IPO: Azar et al. 2023, equation 17. SimPO: Meng et al. 2024,
equation 6. ORPO: Hong et al. 2024, equations 6 and 7. KTO: Ethayarajh et al. 2024, equations 7 and
8.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class PairLogProbs:
    """Sums of log-probabilities (B,) of the chosen and the rejected responses, from the policy that
    learns and from the reference that does not, and their lengths in tokens (B,).
    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor

    @property
    def chosen_gain(self) -> Tensor:
        """By how much the policy finds the chosen response likelier than the reference does."""
        return self.chosen - self.reference_chosen

    @property
    def rejected_gain(self) -> Tensor:
        return self.rejected - self.reference_rejected

    @property
    def margin(self) -> Tensor:
        """Gain of the chosen over the rejected one; a pair is ranked rightly where it is
        positive.
        """
        return self.chosen_gain - self.rejected_gain


def dpo(pairs: PairLogProbs, beta: float = 0.1) -> Tensor:
    """(B,) losses: -log sigmoid(beta margin); log 2 where the policy is the reference."""
    return -F.logsigmoid(beta * pairs.margin)


def ipo(pairs: PairLogProbs, beta: float = 0.1) -> Tensor:
    """(B,) losses: the squared distance of the margin, a token on average as in its authors' later
    experiments, from 1 / (2 beta), so that it does not grow without end.
    """
    margin = pairs.chosen_gain / pairs.chosen_lengths - pairs.rejected_gain / pairs.rejected_lengths
    return (margin - 1 / (2 * beta)) ** 2


def simpo(pairs: PairLogProbs, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """(B,) losses without a reference: log-probability a token, ahead by gamma."""
    margin = pairs.chosen / pairs.chosen_lengths - pairs.rejected / pairs.rejected_lengths
    return -F.logsigmoid(beta * margin - gamma)


def log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)). What rounds to certain counts as almost certain: its odds have no finite
    gradient.
    """
    log_p = log_p.clamp(max=-1e-7)
    return log_p - torch.log(-torch.expm1(log_p))


def orpo(pairs: PairLogProbs, beta: float = 0.1) -> Tensor:
    """(B,) losses without a reference: the chosen response is learned as in instruction tuning, and
    its odds are to exceed the rejected one's.
    """
    log_p, log_q = pairs.chosen / pairs.chosen_lengths, pairs.rejected / pairs.rejected_lengths
    return -log_p - beta * F.logsigmoid(log_odds(log_p) - log_odds(log_q))


def kto(pairs: PairLogProbs, beta: float = 0.1) -> Tensor:
    """(B,) losses that judge each response by itself, against how far the policy has moved on the
    whole. That is estimated by the mean gain in the batch, where the paper pairs each prompt with
    another's response at the cost of a pass more, and not differentiated.
    """
    gains = torch.cat((pairs.chosen_gain, pairs.rejected_gain))
    moved = gains.mean().clamp(min=0).detach()
    liked = 1 - torch.sigmoid(beta * (pairs.chosen_gain - moved))
    disliked = 1 - torch.sigmoid(beta * (moved - pairs.rejected_gain))
    return (liked + disliked) / 2


PREFERENCE_LOSSES: dict[str, Callable[..., Tensor]] = {
    "dpo": dpo,
    "ipo": ipo,
    "simpo": simpo,
    "orpo": orpo,
    "kto": kto,
}
