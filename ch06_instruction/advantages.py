"""Advantages: how much better a response, or one of its tokens, was than expected.

    GAE    A_t = sum over l of (gamma lambda)^l delta_{t+l},
           delta_t = r_t + gamma V_{t+1} - V_t               (Schulman et al. 2016, equation 16)
    GRPO   A_i = (r_i - mean(r)) / std(r), within a group    (Shao et al. 2024, section 4.1.2)
    KL     k3 = p_ref / p - 1 - log(p_ref / p)               (Schulman 2020)

r is `rewards`, V `values`, gamma `gamma`, lambda `lam`; log p is `log_probs` and log p_ref
`ref_log_probs`.
"""

import torch
from torch import Tensor


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Rewards, values and mask of response tokens, all (B, T) -> advantages and returns (B, T).

    Both are 0 outside the mask. The value after the last token of a response is 0: it has ended.

    >>> rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.2, 0.4, 0.8]])
    >>> generalized_advantages(rewards, values, torch.ones(1, 3, dtype=torch.bool), lam=1.0)[0]
    tensor([[0.8000, 0.6000, 0.2000]])
    """
    advantages = torch.zeros_like(values)
    next_advantage = torch.zeros_like(values[:, 0])
    next_value = torch.zeros_like(next_advantage)
    for t in range(values.shape[1] - 1, -1, -1):  # A_t = delta_t + gamma lambda A_{t+1}
        inside = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = torch.where(inside, delta + gamma * lam * next_advantage, next_advantage)
        next_value = torch.where(inside, values[:, t], next_value)
        advantages[:, t] = torch.where(inside, next_advantage, 0.0)
    return advantages, torch.where(mask, advantages + values, 0.0)


def group_advantages(rewards: Tensor, num_generations: int, eps: float = 1e-4) -> Tensor:
    """(P * num_generations,) rewards, those of one prompt adjacent -> advantages, same shape.

    A group whose rewards are all equal has nothing to compare and gets zeros. ValueError if a group
    has fewer than two responses.

    >>> group_advantages(torch.tensor([1.0, 0.0, 0.5, 0.5]), num_generations=2)
    tensor([ 0.7070, -0.7070,  0.0000,  0.0000])
    """
    if num_generations < 2:
        raise ValueError(
            f"a group needs at least 2 responses to compare, not {num_generations}; sample more"
        )
    groups = rewards.view(-1, num_generations)
    centred = groups - groups.mean(dim=1, keepdim=True)
    return (centred / (groups.std(dim=1, keepdim=True) + eps)).flatten()


def whiten(advantages: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale the advantages inside the mask to mean 0 and standard deviation 1."""
    inside = advantages[mask]
    return torch.where(mask, (advantages - inside.mean()) / (inside.std() + 1e-8), 0.0)


def kl_estimate(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """Log-probabilities of sampled tokens under the policy and the reference, both (B, T) -> an
    unbiased, never negative estimate (B, T) of KL(policy || reference) from each token.
    """
    log_ratio = ref_log_probs - log_probs
    return log_ratio.exp() - 1 - log_ratio
