"""PPO (Schulman et al. 2017; for language models Ouyang et al. 2022): advantages from a critic.

    r_t = -beta (log pi(y_t) - log pi_ref(y_t)), plus the reward at the last token of a response
    L   = mean over tokens of  policy loss + value loss

The KL to the reference is part of the reward here, not of the loss as in GRPO. Advantages are those
of `advantages.generalized_advantages`, whitened; both losses are those of `policy_losses`.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ch01_text import IGNORE
from ch03_gpt import GPTModel, Precision
from ch04_pretraining import SCHEDULES, TrainOptions, make_optimizers, train
from ch06_instruction.advantages import generalized_advantages, whiten
from ch06_instruction.answering import Chat
from ch06_instruction.chat import Prompt
from ch06_instruction.config import PPOConfig
from ch06_instruction.log_probs import token_log_probs
from ch06_instruction.policy import frozen_copy, set_trainable
from ch06_instruction.policy_losses import clipped_surrogate, value_loss
from ch06_instruction.reward_model import ValueModel
from ch06_instruction.rewards import RewardFn
from ch06_instruction.rollouts import PolicyTraining, Rollouts, minibatches, rollout_steps

# inputs, targets, old log-probabilities, advantages, old values and returns, all (B, T)
Batch = tuple[Tensor, ...]


class ActorCritic(nn.Module):
    """The policy, and a critic that predicts the rewards to come.

    The critic starts as a copy of the policy: the same parameters learn, and its scalar head.
    """

    def __init__(self, policy: GPTModel):
        super().__init__()
        self.policy, self.critic = policy, ValueModel(policy)


def token_rewards(rollouts: Rollouts, beta: float) -> Tensor:
    """(N, T) rewards: the KL penalty of each token, and the response's reward at its last token."""
    rewards = -beta * (rollouts.log_probs - rollouts.ref_log_probs)  # (N, T)
    # The cumulative sum stops growing at the last response token; argmax returns the first of equal
    # maxima.
    last = rollouts.mask.long().cumsum(dim=1).argmax(dim=1)  # (N,)
    rewards[torch.arange(len(rewards)), last] += rollouts.rewards
    return torch.where(rollouts.mask, rewards, 0.0)


def ppo_batches(
    critic: ValueModel,
    rollouts: Iterator[Rollouts],
    config: PPOConfig,
    precision: Precision,
    generator: np.random.Generator,
) -> Iterator[Batch]:
    """Yield the minibatches of each rollout, with the critic's values as they were before it."""
    # `rollouts` samples only when this loop asks for the next one: after the updates on all
    # minibatches of the one before, so from the policy as it is by then.
    for one in rollouts:
        with torch.no_grad(), precision.autocast():
            # At position t the critic has read the prompt and y_<t. Its value is what it expects
            # before y_t is chosen.
            values = torch.where(one.mask, critic(one.inputs), 0.0)
        advantages, returns = generalized_advantages(
            token_rewards(one, config.beta), values, one.mask, lam=config.gae_lambda
        )
        # over the whole rollout, before it is divided; the returns keep the scale of the rewards
        advantages = whiten(advantages, one.mask)
        tensors = (one.inputs, one.targets, one.log_probs, advantages, values, returns)
        for rows in minibatches(len(one.rewards), config, generator):
            yield tuple(tensor[rows] for tensor in tensors)


def ppo_loss(config: PPOConfig) -> Callable[[ActorCritic, Batch], tuple[Tensor, Tensor]]:
    """A loss function for `train`: sum of policy and value losses, and number of sampled tokens."""

    def loss(model: ActorCritic, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs, targets, old_log_probs, advantages, old_values, returns = batch
        mask = targets != IGNORE  # the sampled tokens, (B, T)
        log_probs = token_log_probs(model.policy, inputs, targets)
        surrogate = clipped_surrogate(log_probs, old_log_probs, advantages, config.epsilon)
        values = value_loss(model.critic(inputs), old_values, returns, config.epsilon)
        # Policy and critic share no parameter, so each loss has a gradient for one of them alone.
        return (surrogate + values)[mask].sum(), mask.sum()

    return loss


def train_ppo(
    chat: Chat,
    prompts: Sequence[Prompt],
    reward_fn: RewardFn,
    config: PPOConfig,
    *,
    seed: int = 0,
    accuracy_fn: RewardFn | None = None,
) -> PolicyTraining:
    """Train `chat.model` in place; its weights at the start are the reference and the critic's.

    `accuracy_fn`, a second reward function, is logged for each rollout but not learned from.
    """
    set_trainable(chat.model, config.trainable)
    # after `set_trainable`: the critic's copy freezes the same parameters; its new head learns
    model = ActorCritic(chat.model).to(chat.precision.device)
    log: list[dict] = []
    rollouts = rollout_steps(
        chat,
        frozen_copy(chat.model),
        prompts,
        reward_fn,
        config,
        seed=seed,
        log=log,
        accuracy_fn=accuracy_fn,
    )
    progress = train(
        model,
        ppo_batches(model.critic, rollouts, config, chat.precision, np.random.default_rng(seed)),
        ppo_loss(config),
        steps=config.steps,
        precision=chat.precision,
        optimizers=[
            *make_optimizers(model.policy, "adamw", config.lr, weight_decay=0.0),
            *make_optimizers(model.critic, "adamw", config.critic_lr, weight_decay=0.0),
        ],
        options=TrainOptions(
            log_every=config.num_iterations * config.num_minibatches,  # once per rollout
            description="ppo",
            schedule=SCHEDULES["wsd"](),
        ),
    )
    return PolicyTraining(progress, log)
