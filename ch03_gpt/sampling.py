"""From logits to the next token: temperature, top-k, top-p, min-p, repetition penalty.

Filters work on a whole batch and set the logits of excluded tokens to -inf, in the order that
Transformers applies them. Sources: top-k (Fan et al. 2018), top-p (Holtzman et al. 2020), min-p
(Nguyen et al. 2024), repetition penalty (Keskar et al. 2019, section 4.1).
"""

import torch
from torch import Tensor

EXCLUDED = float("-inf")


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """(B, V), seen ids (B, S) -> (B, V): tokens already seen lose, whatever their logit's sign."""
    scores = logits.gather(1, seen)
    return logits.scatter(1, seen, torch.where(scores < 0, scores * penalty, scores / penalty))


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """(B, V) -> (B, V): keep the k largest logits of each row (all that tie with the k-th).

    >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0]]), 2)
    tensor([[-inf, 3., 2.]])
    """
    threshold = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < threshold, EXCLUDED)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """(B, V) -> (B, V): keep the fewest most likely tokens whose probabilities reach `p`.

    >>> keep_top_p(torch.log(torch.tensor([[0.5, 0.3, 0.2]])), 0.7).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    ascending, order = logits.sort(dim=-1)
    cumulative = ascending.softmax(dim=-1).cumsum(dim=-1)
    excluded = cumulative <= 1 - p
    excluded[:, -1] = False
    return logits.masked_fill(excluded.scatter(1, order, excluded), EXCLUDED)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """(B, V) -> (B, V): keep tokens at least `p` times as likely as the most likely one."""
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(dim=-1, keepdim=True), EXCLUDED)


def check_sampling(temperature: float, top_k: int | None, top_p: float | None, min_p: float | None,
                   repetition_penalty: float) -> None:
    """Raise ValueError where a sampling option is out of its range."""
    if temperature < 0:
        raise ValueError(f"temperature must be 0 (greedy) or more, not {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, not {top_k}; leave it out to keep every token")
    for name, value in (("top_p", top_p), ("min_p", min_p)):
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"{name} must be in (0, 1], not {value}; leave it out to switch it off")
    if repetition_penalty <= 0:
        raise ValueError(f"repetition_penalty must be positive, not {repetition_penalty}; 1 switches it off")


def filter_logits(logits: Tensor, *, seen: Tensor, temperature: float = 1.0, top_k: int | None = None,
                  top_p: float | None = None, min_p: float | None = None,
                  repetition_penalty: float = 1.0) -> Tensor:
    """(B, V) logits, seen ids (B, S) -> (B, V) float32 logits of the distribution to draw from."""
    logits = logits.float()
    if repetition_penalty != 1.0:
        logits = penalize_repetition(logits, seen, repetition_penalty)
    if temperature > 0:
        logits = logits / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None and top_p < 1:
        logits = keep_top_p(logits, top_p)
    if min_p is not None:
        logits = keep_min_p(logits, min_p)
    return logits


def sample(logits: Tensor, *, seen: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None,
           **filters) -> Tensor:
    """(B, V) logits -> (B, 1) int64 next tokens; `temperature=0` takes the most likely one."""
    logits = filter_logits(logits, seen=seen, temperature=temperature, **filters)
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    return torch.multinomial(logits.softmax(dim=-1), num_samples=1, generator=generator)
