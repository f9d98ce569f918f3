"""Rollouts: responses sampled from the policy, with their rewards and log-probabilities."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import torch
from torch import Tensor

from ch01_text import IGNORE
from ch03_gpt import GPTModel
from ch04_pretraining import TrainState
from ch06_instruction.answering import Chat
from ch06_instruction.batches import collate
from ch06_instruction.chat import END, Prompt, with_response
from ch06_instruction.config import PolicyConfig
from ch06_instruction.log_probs import token_log_probs
from ch06_instruction.preferences import EncodedPair
from ch06_instruction.rewards import RewardFn


@dataclass(frozen=True)
class Rollouts:
    """N sampled responses as tensors; log-probabilities are 0 outside the responses."""

    inputs: Tensor  # (N, T) int64
    targets: Tensor  # (N, T) int64, IGNORE except for the response
    log_probs: Tensor  # (N, T) under the policy that sampled
    ref_log_probs: Tensor  # (N, T) under the reference
    rewards: Tensor  # (N,)
    texts: list[str]

    @property
    def mask(self) -> Tensor:
        """(N, T) booleans: the sampled tokens."""
        return self.targets != IGNORE

    @property
    def kl(self) -> float:
        """Mean over responses of log pi - log pi_ref, an estimate of KL(policy || reference)."""
        return float((self.log_probs - self.ref_log_probs).sum(dim=1).mean())


@dataclass(frozen=True)
class PolicyTraining:
    """What happened: the training loop's progress and a summary of each rollout."""

    progress: TrainState
    rollouts: list[dict]  # reward, kl, words and, if asked for, accuracy


def sample_rollouts(
    chat: Chat,
    reference: GPTModel,
    prompts: Sequence[Prompt],
    reward_fn: RewardFn,
    num_generations: int,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
) -> Rollouts:
    """Sample `num_generations` responses to each prompt; one that does not end is worth 0.

    Log-probabilities are computed again by a training forward pass: those of cached decoding differ
    in their last bits, and the first ratio of new to old probability must be exactly 1.
    """
    ids = [chat.prompt(messages) for messages in prompts]
    sampled = chat.sample(ids, num_generations, temperature, generator)
    texts = [chat.text(response) for response in sampled]
    repeated = [prompt for prompt in prompts for _ in range(num_generations)]
    end = chat.tokenizer.special_tokens[END]
    ended = torch.tensor([response[-1:] == [end] for response in sampled])
    rewards = torch.where(ended, reward_fn(repeated, texts), 0.0)
    chats = [
        with_response(ids[row // num_generations], response) for row, response in enumerate(sampled)
    ]
    inputs, targets = collate(chats, chat.tokenizer.eot_id, chat.precision.device)
    with torch.no_grad(), chat.precision.autocast():
        log_probs, ref_log_probs = (
            token_log_probs(model, inputs, targets) for model in (chat.model, reference)
        )
    return Rollouts(inputs, targets, log_probs, ref_log_probs, rewards.to(inputs.device), texts)


def rollout_steps(
    chat: Chat,
    reference: GPTModel,
    prompts: Sequence[Prompt],
    reward_fn: RewardFn,
    config: PolicyConfig,
    *,
    seed: int,
    log: list[dict],
    accuracy_fn: RewardFn | None = None,
) -> Iterator[Rollouts]:
    """Yield rollouts of the policy as it is at that moment, and append a summary of each to `log`.

    Prompts are taken in turn from one shuffled order. `accuracy_fn`, a second reward function, is
    only logged.
    """
    generator = torch.Generator(chat.model.device).manual_seed(seed)
    order = cycle(np.random.default_rng(seed).permutation(len(prompts)))
    while True:
        batch = [prompts[next(order)] for _ in range(config.prompts_per_step)]
        rollouts = sample_rollouts(
            chat,
            reference,
            batch,
            reward_fn,
            config.num_generations,
            generator,
            temperature=config.temperature,
        )
        entry = {
            "reward": float(rollouts.rewards.mean()),
            "kl": rollouts.kl,
            "words": float(np.mean([len(text.split()) for text in rollouts.texts])),
        }
        if accuracy_fn:
            repeated = [prompt for prompt in batch for _ in range(config.num_generations)]
            entry["accuracy"] = float(accuracy_fn(repeated, rollouts.texts).mean())
        log.append(entry)
        chat.model.train()
        yield rollouts


def minibatches(n: int, config: PolicyConfig, generator: np.random.Generator) -> Iterator[Tensor]:
    """Yield the rows of each minibatch, for all passes over n responses."""
    for _ in range(config.num_iterations):
        rows = torch.from_numpy(generator.permutation(n))
        yield from rows.tensor_split(config.num_minibatches)


def sample_pairs(
    chat: Chat,
    prompts: Sequence[Prompt],
    reward_fn: RewardFn,
    num_generations: int,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
    batch_size: int = 128,
) -> tuple[list[EncodedPair], float]:
    """Pairs for DPO: of the responses sampled to a prompt, the best and the worst by reward.

    Returns a pair for each prompt whose rewards differ, and the mean reward of all responses.
    """
    pairs, total = [], 0.0
    prompts_per_batch = max(1, batch_size // num_generations)
    for first in range(0, len(prompts), prompts_per_batch):
        batch = prompts[first : first + prompts_per_batch]
        ids = [chat.prompt(messages) for messages in batch]
        sampled = chat.sample(ids, num_generations, temperature, generator)
        repeated = [prompt for prompt in batch for _ in range(num_generations)]
        rewards = reward_fn(repeated, [chat.text(response) for response in sampled]).tolist()
        total += sum(rewards)
        for row, prompt in enumerate(ids):
            group = slice(row * num_generations, (row + 1) * num_generations)
            worth, responses = rewards[group], sampled[group]
            best, worst = worth.index(max(worth)), worth.index(min(worth))
            if worth[best] > worth[worst]:
                chosen, rejected = (with_response(prompt, responses[i]) for i in (best, worst))
                pairs.append(EncodedPair(chosen, rejected, "sampled"))
    return pairs, total / (len(prompts) * num_generations)
