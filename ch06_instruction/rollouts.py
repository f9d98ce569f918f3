"""Responses that the model draws itself, and what they are worth: what reinforcement learning
learns from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ch03_gpt import GPTModel, Precision
from ch06_instruction.answering import Chat, answered
from ch06_instruction.batches import collate
from ch06_instruction.chat import END, EncodedChat
from ch06_instruction.grading import exact_match, valid_form
from ch06_instruction.instructions import Instruction
from ch06_instruction.log_probs import token_log_probs
from ch06_instruction.reward_model import ScoreModel, scores

Reward = Callable[[Sequence[Instruction], Sequence[str], Sequence[EncodedChat]], Tensor]
FORM_REWARD = 0.1  # for the form that was asked for; 1 for the right answer


def program_reward(
    asked: Sequence[Instruction], texts: Sequence[str], chats: Sequence[EncodedChat]
) -> Tensor:
    """(n,) rewards that a program can check: 1 for the right answer, a tenth for the right form
    at least.
    """
    return torch.tensor(
        [
            float(exact_match(text, one.answer)) or FORM_REWARD * valid_form(text, one.form)
            for one, text in zip(asked, texts, strict=True)
        ]
    )


def learned_reward(scorer: ScoreModel, pad_id: int, precision: Precision) -> Reward:
    """Rewards from a reward model: what people would prefer, as far as it knows."""

    def reward(
        asked: Sequence[Instruction], texts: Sequence[str], chats: Sequence[EncodedChat]
    ) -> Tensor:
        return torch.from_numpy(scores(scorer, chats, pad_id, precision))

    return reward


@dataclass(frozen=True)
class Rollouts:
    """N drawn responses as tensors."""

    inputs: Tensor  # (N, T) int64
    targets: Tensor  # (N, T) int64, IGNORED but for the response
    log_probs: Tensor  # (N, T) under the policy that drew them, 0 elsewhere
    reference: Tensor  # (N, T) under the reference
    rewards: Tensor  # (N,)
    right: float  # share of exact matches
    words: float  # on average

    @property
    def mask(self) -> Tensor:
        """(N, T) booleans: the tokens that were drawn."""
        return self.targets >= 0

    @property
    def kl(self) -> float:
        """KL(policy || reference) of a whole response on average, estimated by the drawn tokens
        themselves.
        """
        return float((self.log_probs - self.reference).sum(dim=1).mean())


def roll_out(
    chat: Chat,
    reference: GPTModel,
    asked: Sequence[Instruction],
    samples: int,
    reward: Reward,
    generator: torch.Generator,
    temperature: float = 1.0,
) -> Rollouts:
    """Draw `samples` responses to each instruction and judge them. One that does not end in time
    gets no reward.

    The log-probabilities are those of the training kernels, not of the cached ones that drew, so
    that the first ratio of new to old is 1 to the last bit.
    """
    prompts = [chat.prompt(one.messages) for one in asked]
    drawn = chat.draw(prompts, samples, temperature, generator)
    every = [one for one in asked for _ in range(samples)]
    chats = [answered(prompts[row // samples], ids) for row, ids in enumerate(drawn)]
    texts = [chat.text(ids) for ids in drawn]
    end = chat.tokenizer.special_tokens[END]
    ended = torch.tensor([ids[-1:] == [end] for ids in drawn])
    rewards = torch.where(ended, reward(every, texts, chats), 0.0)
    inputs, targets = collate(chats, chat.tokenizer.eot_id, chat.precision.device)
    with torch.no_grad(), chat.precision.autocast():
        log_probs, before = (
            token_log_probs(model, inputs, targets) for model in (chat.model, reference)
        )
    hits = sum(exact_match(text, one.answer) for one, text in zip(every, texts, strict=True))
    return Rollouts(
        inputs,
        targets,
        log_probs,
        before,
        rewards.to(inputs.device),
        hits / len(texts),
        sum(len(text.split()) for text in texts) / len(texts),
    )
