"""Reward functions: what a response is worth, by its text.

`reward_fn(prompts, responses)` takes n prompts (conversations that end with the user) and n texts
and returns n rewards as a tensor. Whatever can be written as such a function can be learned from.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ch06_instruction.answering import Chat
from ch06_instruction.chat import Prompt, encode_response
from ch06_instruction.grading import exact_match
from ch06_instruction.reward_model import RewardModel, score_chats

RewardFn = Callable[[Sequence[Prompt], Sequence[str]], Tensor]


def prompt_key(prompt: Prompt) -> tuple[tuple[str, str], ...]:
    """A prompt as a key for dictionaries."""
    return tuple((message["role"], message["content"]) for message in prompt)


def match_reward(prompts: Sequence[Prompt], answers: Sequence[str]) -> RewardFn:
    """Reward 1 for a response whose last line is the known answer to its prompt, 0 otherwise.

    >>> prompt = [{"role": "user", "content": "1 + 1 = ?"}]
    >>> match_reward([prompt], ["2"])([prompt, prompt], ["2", "3"])
    tensor([1., 0.])
    """
    known = {prompt_key(prompt): answer for prompt, answer in zip(prompts, answers, strict=True)}

    def reward_fn(prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        hits = [
            exact_match(response, known[prompt_key(prompt)])
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        return torch.tensor(hits, dtype=torch.float32)

    return reward_fn


def model_reward(model: RewardModel, chat: Chat) -> RewardFn:
    """The reward model's score, with the tokenizer, context and precision of `chat`."""
    # the score is read at the last token, which therefore needs a place in the context, too
    context_length = chat.model.config.context_length - 1

    def reward_fn(prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        chats = [
            encode_response(chat.tokenizer, prompt, response, context_length)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        scores = score_chats(model, chats, chat.tokenizer.eot_id, chat.precision)
        return torch.from_numpy(scores)

    return reward_fn
