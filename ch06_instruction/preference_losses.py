"""Preference losses: what to minimize, given a chosen and a rejected response to one prompt.

    h(y) = log pi(y) - log pi_ref(y)      margin = h(chosen) - h(rejected)
    DPO    -log sigmoid(beta margin)                             (Rafailov et al. 2023, eq. 7)
    IPO    (per-token margin - 1 / (2 beta))^2                   (Azar et al. 2023, eq. 17)
    SimPO  -log sigmoid(beta (p(chosen) - p(rejected)) - gamma)  (Meng et al. 2024, eq. 6)
    ORPO   -p(chosen) - beta log sigmoid(log odds ratio)         (Hong et al. 2024, eqs. 6 and 7)
    KTO    mean of 1 - sigmoid(beta (h(chosen) - z)) and 1 - sigmoid(beta (z - h(rejected)))
                                                                 (Ethayarajh et al. 2024, eq. 8)

log pi is `chosen_logps` and `rejected_logps`, log pi_ref `ref_chosen_logps` and
`ref_rejected_logps`, h `chosen_logratios` and `rejected_logratios`; p is the mean log-probability
of a token, and z an estimate of KL(pi || pi_ref).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class PairLogProbs:
    """Log-probabilities (B,) of chosen and rejected responses under the policy and the frozen
    reference, and the lengths (B,) of the responses in tokens.
    """

    chosen_logps: Tensor
    rejected_logps: Tensor
    ref_chosen_logps: Tensor
    ref_rejected_logps: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor

    @property
    def chosen_logratios(self) -> Tensor:
        """log(pi / pi_ref) of the chosen responses; times beta, DPO's implicit reward."""
        return self.chosen_logps - self.ref_chosen_logps

    @property
    def rejected_logratios(self) -> Tensor:
        """log(pi / pi_ref) of the rejected responses."""
        return self.rejected_logps - self.ref_rejected_logps

    @property
    def margin(self) -> Tensor:
        """Positive where the policy ranks the pair correctly, relative to the reference."""
        return self.chosen_logratios - self.rejected_logratios


def dpo(pairs: PairLogProbs, beta: float = 0.1) -> Tensor:
    """(B,) losses; log 2 when the policy equals the reference."""
    # logsigmoid, because sigmoid rounds to 0 where the margin is very negative, and its log would
    # be infinite. The gradient shrinks with a growing margin but never becomes 0.
    return -F.logsigmoid(beta * pairs.margin)


def ipo(pairs: PairLogProbs, beta: float = 0.1) -> Tensor:
    """(B,) losses with a finite target for the margin, unlike DPO's.

    Means over tokens, where the paper has sums, follow the authors' code.
    """
    chosen = pairs.chosen_logratios / pairs.chosen_lengths
    rejected = pairs.rejected_logratios / pairs.rejected_lengths
    # A smaller beta asks for a larger margin. Beyond it the loss rises again, which keeps the
    # policy near the reference.
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def simpo(pairs: PairLogProbs, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """(B,) losses without a reference; gamma is the margin to reach."""
    chosen = pairs.chosen_logps / pairs.chosen_lengths
    rejected = pairs.rejected_logps / pairs.rejected_lengths
    # Means over tokens, or else a longer response would lose by its length alone: every token adds
    # a negative log-probability.
    return -F.logsigmoid(beta * (chosen - rejected) - gamma)


def log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)), with p kept just below 1, where the gradient would be infinite."""
    log_p = log_p.clamp(max=-1e-7)
    # log(1 - p) as log(-expm1(log p)), because 1 - exp(log p) loses its digits where p is near 1
    return log_p - torch.log(-torch.expm1(log_p))


def orpo(pairs: PairLogProbs, beta: float = 0.1) -> Tensor:
    """(B,) losses without a reference: SFT on the chosen response plus an odds-ratio term."""
    chosen = pairs.chosen_logps / pairs.chosen_lengths
    rejected = pairs.rejected_logps / pairs.rejected_lengths
    # exp(chosen) is the geometric mean of the tokens' probabilities, so that odds of long and short
    # responses can be compared.
    return -chosen - beta * F.logsigmoid(log_odds(chosen) - log_odds(rejected))


def kto(pairs: PairLogProbs, beta: float = 0.1) -> Tensor:
    """(B,) losses that score each response separately, not the pair.

    Each response is compared with the batch's mean log-ratio, a detached estimate of
    KL(policy || reference). The paper estimates it on mismatched prompts instead, which costs
    another forward pass.
    """
    logratios = torch.cat((pairs.chosen_logratios, pairs.rejected_logratios))
    # A KL divergence is never negative, but its estimate can be. It is the point of reference, not
    # something to learn, hence detached.
    kl = logratios.mean().clamp(min=0).detach()
    chosen = 1 - torch.sigmoid(beta * (pairs.chosen_logratios - kl))
    rejected = 1 - torch.sigmoid(beta * (kl - pairs.rejected_logratios))
    return (chosen + rejected) / 2  # (B,)


PREFERENCE_LOSSES: dict[str, Callable[..., Tensor]] = {
    "dpo": dpo,
    "ipo": ipo,
    "simpo": simpo,
    "orpo": orpo,
    "kto": kto,
}
