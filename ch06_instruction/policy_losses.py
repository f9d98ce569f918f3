"""The losses of PPO (Schulman et al. 2017); GRPO uses the first.

    policy   L_t = -min(rho_t A_t, clip(rho_t, 1 - epsilon, 1 + epsilon) A_t)
             rho_t = pi(y_t) / pi_old(y_t)                        (equation 7)
    value    L_t = max((V_t - R_t)^2, (V_old + clip(V_t - V_old, -epsilon, epsilon) - R_t)^2) / 2

log pi is `log_probs`, log pi_old `old_log_probs`, from when the tokens were sampled; A is
`advantages`, V `values`, V_old `old_values` and R `returns`.
"""

import torch
from torch import Tensor


def clipped_surrogate(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, epsilon: float = 0.2
) -> Tensor:
    """(B, T) each -> (B, T) policy losses; moving the ratio beyond 1 +- epsilon gains nothing.

    >>> clipped_surrogate(torch.tensor([0.5]), torch.tensor([0.0]), torch.tensor([1.0]))
    tensor([-1.2000])
    """
    ratio = (log_probs - old_log_probs).exp()
    # the minimum leaves a ratio that moved the wrong way unclipped, so that it can come back
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, epsilon: float = 0.2) -> Tensor:
    """(B, T) each -> (B, T) losses of the critic, clipped like the policy's."""
    clipped = old_values + (values - old_values).clamp(-epsilon, epsilon)
    return 0.5 * torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)
