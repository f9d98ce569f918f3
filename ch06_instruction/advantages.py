"""Who deserves the credit: from rewards of whole responses to an advantage of every token."""

import torch
from torch import Tensor


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Rewards, values (B, T), which tokens count (B, T) -> advantages and returns (B, T), 0
    elsewhere.

    A[t] = delta[t] + gamma lam A[t + 1], delta[t] = r[t] + gamma V[t + 1] - V[t], and nothing after
    the last token that counts (Schulman et al. 2016, equation 16).

    >>> rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.2, 0.4, 0.8]])
    >>> generalized_advantages(rewards, values, torch.ones(1, 3, dtype=torch.bool), lam=1.0)[0]
    tensor([[0.8000, 0.6000, 0.2000]])
    """
    advantages = torch.zeros_like(values)
    following = torch.zeros_like(values[:, 0])
    next_value = torch.zeros_like(following)
    for t in range(values.shape[1] - 1, -1, -1):
        counts = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = torch.where(counts, delta + gamma * lam * following, following)
        next_value = torch.where(counts, values[:, t], next_value)
        advantages[:, t] = torch.where(counts, following, 0.0)
    return advantages, torch.where(mask, advantages + values, 0.0)


def group_advantages(rewards: Tensor, group: int, eps: float = 1e-4) -> Tensor:
    """(P * group,) rewards, `group` responses to a prompt side by side -> how much better than its
    group each is, in standard deviations (Shao et al. 2024, section 4.1.2). Where all of a group
    are as good, 0. ValueError where there is nothing to compare with.

    >>> group_advantages(torch.tensor([1.0, 0.0, 0.5, 0.5]), group=2)
    tensor([ 0.7070, -0.7070,  0.0000,  0.0000])
    """
    if group < 2:
        raise ValueError(
            f"a group needs at least 2 responses to compare, not {group}; draw more samples"
        )
    by_prompt = rewards.view(-1, group)
    return (
        (by_prompt - by_prompt.mean(dim=1, keepdim=True))
        / (by_prompt.std(dim=1, keepdim=True) + eps)
    ).flatten()


def whiten(advantages: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale the tokens that count to mean 0 and standard deviation 1."""
    counted = advantages[mask]
    return torch.where(mask, (advantages - counted.mean()) / (counted.std() + 1e-8), 0.0)


def kl_estimate(log_probs: Tensor, reference: Tensor) -> Tensor:
    """(B, T) log-probabilities of drawn tokens under the policy that drew them and under the
    reference -> an estimate of KL(policy || reference) for each that is unbiased and never
    negative: r - 1 - log r (Schulman 2020, "k3").
    """
    log_ratio = reference - log_probs
    return log_ratio.exp() - 1 - log_ratio
