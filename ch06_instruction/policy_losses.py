"""PPO's and GRPO's losses: make what went better than expected likelier, but not by much at a
time.
"""

import torch
from torch import Tensor


def clipped_surrogate(
    log_probs: Tensor, old: Tensor, advantages: Tensor, clip: float = 0.2
) -> Tensor:
    """(B, T) log-probabilities now and when the tokens were drawn, advantages -> (B, T) losses: the
    ratio of the probabilities times the advantage, but no gain from a ratio beyond 1 +- clip
    (Schulman et al. 2017, equation 7).

    >>> clipped_surrogate(torch.tensor([0.5]), torch.tensor([0.0]), torch.tensor([1.0]))
    tensor([-1.2000])
    """
    ratio = (log_probs - old).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float = 0.2) -> Tensor:
    """(B, T) values now and when the response was drawn, returns -> (B, T) losses: half the squared
    error, the larger of that and the one with the value held within old +- clip.
    """
    held = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (held - returns) ** 2)
