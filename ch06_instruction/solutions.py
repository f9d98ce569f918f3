"""Solutions to the exercises of chapter 6, one way of many."""

import math
import re
from collections import Counter

import torch
from torch import Tensor
from torch.nn import functional as F


def loss_mask(ids: list[int], assistant_id: int, end_id: int) -> list[bool]:
    learned, speaking = [], False
    for token in ids:
        learned.append(speaking)
        speaking = token == assistant_id or (speaking and token != end_id)
    return learned[1:]


def padded_targets(ids: list[int], length: int, pad_id: int = 50_256) -> list[int]:
    return [*ids[1:], pad_id, *[-100] * (length - len(ids))]


def pack_lengths(lengths: list[int], room: int) -> list[list[int]]:
    rows: list[list[int]] = []
    left: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        row = next((row for row in range(len(rows)) if left[row] >= lengths[number]), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(room)
        rows[row].append(number)
        left[row] -= lengths[number]
    return rows


def plain_question(request: str) -> tuple[str, str]:
    # "Can you help me?" and "Do you know?" are questions, too, but they address you; all wordings
    # of a form share one word
    questions = [one for one in re.findall(r"[A-Z][^.?:,]*\?", request) if " you" not in one]
    return questions[-1], next(
        (form for form in ("word", "sentence", "json") if form in request.lower()), "phrase"
    )


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    return F.softplus(rejected - chosen).mean()


def dpo_gradient_weight(
    chosen_logratios: Tensor, rejected_logratios: Tensor, beta: float
) -> Tensor:
    return torch.sigmoid(-beta * (chosen_logratios - rejected_logratios))


def gae(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    advantages = torch.zeros_like(values)
    next_advantage = next_value = torch.zeros(())
    for t in reversed(range(len(values))):
        delta = rewards[t] + gamma * next_value - values[t]
        next_advantage = delta + gamma * lam * next_advantage
        next_value = values[t]
        advantages[t] = next_advantage
    return advantages


def group_relative(rewards: Tensor) -> Tensor:
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (rewards.std(dim=1, keepdim=True) + 1e-4)


def clipped_objective(ratio: Tensor, advantages: Tensor, epsilon: float = 0.2) -> Tensor:
    return torch.minimum(ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages)


def kl_estimate_better(log_p: Tensor, log_q: Tensor) -> Tensor:
    return torch.expm1(log_q - log_p) - (log_q - log_p)


def pass_at_n(sampled: int, right: int, n: int) -> float:
    return 1 - math.comb(sampled - right, n) / math.comb(sampled, n)


def self_consistency(responses: list[str]) -> str:
    last_lines = [response.strip().rpartition("\n")[2].strip() for response in responses]
    return Counter(last_lines).most_common(1)[0][0]
