"""Best of n: the baseline that learning from rewards must beat.

Sample n responses and return one: the one with the highest reward (Stiennon et al. 2020), or, with
no judge at all, one whose last line most responses share (self-consistency, Wang et al. 2022).
pass@n, whether any of the n is right, bounds what choosing can reach.
"""

from collections import Counter
from collections.abc import Sequence

import torch

from ch06_instruction.answering import Chat
from ch06_instruction.chat import Prompt
from ch06_instruction.grading import exact_match, final_answer
from ch06_instruction.rewards import RewardFn


def sample_responses(
    chat: Chat, prompts: Sequence[Prompt], n: int, seed: int, temperature: float = 1.0
) -> list[list[str]]:
    """`n` sampled responses to each prompt."""
    generator = torch.Generator(chat.precision.device).manual_seed(seed)
    responses = chat.respond(
        prompts, n, temperature, generator, description=f"sampling {n} responses"
    )
    return [responses[first : first + n] for first in range(0, len(responses), n)]


def majority_vote(responses: Sequence[str]) -> str:
    """The first response with the most frequent last line.

    >>> majority_vote(["a;\\nmill", "b;\\nlake", "c;\\nlake"])
    'b;\\nlake'
    """
    winner = Counter(map(final_answer, responses)).most_common(1)[0][0]
    return next(response for response in responses if final_answer(response) == winner)


def best_of_n(
    reward_fn: RewardFn, prompts: Sequence[Prompt], sampled: Sequence[Sequence[str]]
) -> list[str]:
    """The response to each prompt with the highest reward; of equal ones the first."""
    repeated = [prompt for prompt, group in zip(prompts, sampled, strict=True) for _ in group]
    rewards = iter(reward_fn(repeated, [text for group in sampled for text in group]).tolist())
    best = []
    for group in sampled:
        worth = [next(rewards) for _ in group]
        best.append(group[worth.index(max(worth))])
    return best


def pass_at_n(sampled: Sequence[Sequence[str]], answers: Sequence[str]) -> float:
    """The fraction of prompts with a right answer among their sampled responses."""
    return sum(
        any(exact_match(response, answer) for response in group)
        for group, answer in zip(sampled, answers, strict=True)
    ) / len(answers)
