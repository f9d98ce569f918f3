"""GRPO (Shao et al. 2024): PPO without a critic, by comparing responses to the same prompt.

    L = mean over tokens of  -min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A) + beta k3

rho, clip and epsilon are those of `policy_losses`, A (one per response) and k3 (an estimate of
KL(policy || reference)) those of `advantages`. The mean is over the tokens of all responses, so
that tokens of long responses count no less (Yu et al. 2025, section 3.3).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch import Tensor

from ch01_text import IGNORE
from ch03_gpt import GPTModel
from ch04_pretraining import SCHEDULES, TrainOptions, make_optimizers, train
from ch06_instruction.advantages import group_advantages, kl_estimate
from ch06_instruction.answering import Chat
from ch06_instruction.chat import Prompt
from ch06_instruction.config import GRPOConfig
from ch06_instruction.log_probs import token_log_probs
from ch06_instruction.policy import frozen_copy, set_trainable
from ch06_instruction.policy_losses import clipped_surrogate
from ch06_instruction.rewards import RewardFn
from ch06_instruction.rollouts import PolicyTraining, Rollouts, minibatches, rollout_steps

# inputs, targets, old log-probabilities, the reference's, all (B, T), and advantages (B, 1)
Batch = tuple[Tensor, ...]


def grpo_batches(
    rollouts: Iterator[Rollouts], config: GRPOConfig, generator: np.random.Generator
) -> Iterator[Batch]:
    """Yield the minibatches of each rollout."""
    # `rollouts` samples only when this loop asks for the next one: after the updates on all
    # minibatches of the one before, so from the policy as it is by then.
    for one in rollouts:
        # (N, 1): one for all tokens of a response, computed before shuffling takes groups apart
        advantages = group_advantages(one.rewards, config.num_generations).unsqueeze(1)
        tensors = (one.inputs, one.targets, one.log_probs, one.ref_log_probs, advantages)
        for rows in minibatches(len(one.rewards), config, generator):
            yield tuple(tensor[rows] for tensor in tensors)


def grpo_loss(config: GRPOConfig) -> Callable[[GPTModel, Batch], tuple[Tensor, Tensor]]:
    """A loss function for `train`: sum of losses and number of sampled tokens."""

    def loss(model: GPTModel, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs, targets, old_log_probs, ref_log_probs, advantages = batch
        mask = targets != IGNORE  # the sampled tokens, (B, T)
        log_probs = token_log_probs(model, inputs, targets)
        # Until the first update on a rollout the policy is the one that sampled it, and the ratio
        # is 1. Clipping matters from the second minibatch on.
        surrogate = clipped_surrogate(log_probs, old_log_probs, advantages, config.epsilon)
        losses = surrogate + config.beta * kl_estimate(log_probs, ref_log_probs)
        return losses[mask].sum(), mask.sum()

    return loss


def train_grpo(
    chat: Chat,
    prompts: Sequence[Prompt],
    reward_fn: RewardFn,
    config: GRPOConfig,
    *,
    seed: int = 0,
    accuracy_fn: RewardFn | None = None,
) -> PolicyTraining:
    """Train `chat.model` in place; its weights at the start are the reference.

    `accuracy_fn`, a second reward function, is logged for each rollout but not learned from.
    """
    set_trainable(chat.model, config.trainable)
    log: list[dict] = []
    rollouts = rollout_steps(
        chat,
        frozen_copy(chat.model),  # before the first update
        prompts,
        reward_fn,
        config,
        seed=seed,
        log=log,
        accuracy_fn=accuracy_fn,
    )
    progress = train(
        chat.model,
        grpo_batches(rollouts, config, np.random.default_rng(seed)),
        grpo_loss(config),
        steps=config.steps,
        precision=chat.precision,
        optimizers=make_optimizers(chat.model, "adamw", config.lr, weight_decay=0.0),
        options=TrainOptions(
            log_every=config.num_iterations * config.num_minibatches,  # once per rollout
            description="grpo",
            schedule=SCHEDULES["wsd"](),
        ),
    )
    return PolicyTraining(progress, log)
