"""PPO and GRPO: draw responses, judge them, make the better ones likelier; chapter 4's loop does
the steps.

Both ask a program or a reward model what a response is worth, and are held near the reference by
KL(policy || reference). PPO (Schulman et al. 2017; for language Ouyang et al. 2022) learns a value
of every position and takes the KL off the reward of each token; GRPO (Shao et al. 2024) compares
each response with others to the same prompt, needs no values, and puts the KL into the loss.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
import torch
from torch import Tensor, nn

from ch03_gpt import GPTModel
from ch04_pretraining import SCHEDULES, TrainState, make_optimizers, train
from ch06_instruction.advantages import (
    generalized_advantages,
    group_advantages,
    kl_estimate,
    whiten,
)
from ch06_instruction.answering import Chat
from ch06_instruction.instructions import Instruction
from ch06_instruction.log_probs import token_log_probs
from ch06_instruction.policy_losses import clipped_surrogate, value_loss
from ch06_instruction.reward_model import ScoreModel
from ch06_instruction.rollouts import Reward, Rollouts, roll_out


@dataclass(frozen=True)
class Reinforcing:
    """How a policy learns from rewards. A round draws prompts x samples responses; each is used
    `passes` times.
    """

    rounds: int = 15
    prompts: int = 16
    samples: int = 8  # responses to a prompt
    passes: int = 1
    minibatches: int = 2  # of a round: that many updates a pass
    lr: float = 1e-4
    clip: float = 0.2
    beta: float = 0.02  # weight of the KL to the reference
    temperature: float = 1.0
    value_lr: float = 1e-3  # PPO: of the critic
    lam: float = 0.95  # PPO: GAE's lambda
    seed: int = 0

    def __post_init__(self):
        if not 1 <= self.minibatches <= self.prompts * self.samples:
            raise ValueError(
                f"{self.prompts * self.samples} responses a round cannot be divided into "
                f"{self.minibatches} minibatches; choose fewer"
            )


@dataclass
class Reinforced:
    """What happened, round by round."""

    progress: TrainState
    rounds: list[dict] = field(default_factory=list)  # reward, right, kl, words


def rounds(
    chat: Chat,
    reference: GPTModel,
    asked: Sequence[Instruction],
    plan: Reinforcing,
    reward: Reward,
    log: list[dict],
) -> Iterator[Rollouts]:
    """Draw with the policy as it is then, round after round."""
    generator = torch.Generator(chat.model.device).manual_seed(plan.seed)
    order = cycle(np.random.default_rng(plan.seed).permutation(len(asked)))
    while True:
        drawn = roll_out(
            chat,
            reference,
            [asked[next(order)] for _ in range(plan.prompts)],
            plan.samples,
            reward,
            generator,
            plan.temperature,
        )
        log.append(
            {
                "reward": float(drawn.rewards.mean()),
                "right": drawn.right,
                "kl": drawn.kl,
                "words": drawn.words,
            }
        )
        chat.model.train()
        yield drawn


def parts(n: int, plan: Reinforcing, generator: np.random.Generator) -> Iterator[Tensor]:
    """Row numbers of the minibatches of all passes over n responses."""
    for _ in range(plan.passes):
        yield from torch.from_numpy(generator.permutation(n)).tensor_split(plan.minibatches)


# GRPO


def grpo_batches(drawn: Iterator[Rollouts], plan: Reinforcing) -> Iterator[tuple[Tensor, ...]]:
    """Minibatches (inputs, targets, old log-probabilities, reference's, advantages (B, 1))."""
    generator = np.random.default_rng(plan.seed)
    for one in drawn:
        advantages = group_advantages(one.rewards, plan.samples).unsqueeze(1)
        for rows in parts(len(one.rewards), plan, generator):
            yield (
                one.inputs[rows],
                one.targets[rows],
                one.log_probs[rows],
                one.reference[rows],
                advantages[rows],
            )


def grpo_loss(plan: Reinforcing):
    """A loss function for `train`: over all drawn tokens (not first over each response, so that
    long ones count no less; Yu et al. 2025, section 3.3), surrogate plus beta times KL.
    """

    def loss(model: GPTModel, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        inputs, targets, old, reference, advantages = batch
        mask = targets >= 0
        now = token_log_probs(model, inputs, targets)
        losses = clipped_surrogate(now, old, advantages, plan.clip) + plan.beta * kl_estimate(
            now, reference
        )
        return losses[mask].sum(), mask.sum()

    return loss


def grpo(chat: Chat, asked: Sequence[Instruction], plan: Reinforcing, reward: Reward) -> Reinforced:
    """Train `chat.model` in place; what it is at first is the reference."""
    reference, log = copy.deepcopy(chat.model).eval().requires_grad_(False), []
    batches = grpo_batches(rounds(chat, reference, asked, plan, reward, log), plan)
    progress = train(
        chat.model,
        batches,
        grpo_loss(plan),
        steps=plan.rounds * plan.passes * plan.minibatches,
        log_every=plan.passes * plan.minibatches,
        precision=chat.precision,
        description="grpo",
        optimizers=make_optimizers(chat.model, "adamw", plan.lr, weight_decay=0.0),
        schedule=SCHEDULES["wsd"](),
    )
    return Reinforced(progress, log)


# PPO


class ActorCritic(nn.Module):
    """The policy, and a model of what its responses will be worth."""

    def __init__(self, policy: GPTModel):
        super().__init__()
        self.policy, self.critic = policy, ScoreModel(policy)


def token_rewards(drawn: Rollouts, beta: float) -> Tensor:
    """(N, T): at the last token what the response is worth, and at every token less beta times
    its KL.
    """
    rewards = -beta * (drawn.log_probs - drawn.reference)
    last = drawn.mask.long().cumsum(dim=1).argmax(dim=1)
    rewards[torch.arange(len(rewards)), last] += drawn.rewards
    return torch.where(drawn.mask, rewards, 0.0)


def ppo_batches(
    both: ActorCritic, drawn: Iterator[Rollouts], plan: Reinforcing, chat: Chat
) -> Iterator[tuple]:
    """Minibatches (inputs, targets, old log-probabilities, advantages, old values, returns)."""
    generator = np.random.default_rng(plan.seed)
    for one in drawn:
        with torch.no_grad(), chat.precision.autocast():
            values = torch.where(one.mask, both.critic(one.inputs), 0.0)
        advantages, returns = generalized_advantages(
            token_rewards(one, plan.beta), values, one.mask, lam=plan.lam
        )
        advantages = whiten(advantages, one.mask)
        for rows in parts(len(one.rewards), plan, generator):
            yield (
                one.inputs[rows],
                one.targets[rows],
                one.log_probs[rows],
                advantages[rows],
                values[rows],
                returns[rows],
            )


def ppo_loss(plan: Reinforcing):
    """A loss function for `train`: surrogate and value loss over all drawn tokens."""

    def loss(both: ActorCritic, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        inputs, targets, old, advantages, old_values, returns = batch
        mask = targets >= 0
        surrogate = clipped_surrogate(
            token_log_probs(both.policy, inputs, targets), old, advantages, plan.clip
        )
        values = value_loss(both.critic(inputs), old_values, returns, plan.clip)
        return (surrogate + values)[mask].sum(), mask.sum()

    return loss


def ppo(chat: Chat, asked: Sequence[Instruction], plan: Reinforcing, reward: Reward) -> Reinforced:
    """Train `chat.model` in place; what it is at first is the reference, and the critic's
    beginning.
    """
    reference, log = copy.deepcopy(chat.model).eval().requires_grad_(False), []
    both = ActorCritic(chat.model).to(chat.precision.device)
    batches = ppo_batches(both, rounds(chat, reference, asked, plan, reward, log), plan, chat)
    optimizers = [
        *make_optimizers(both.policy, "adamw", plan.lr, weight_decay=0.0),
        *make_optimizers(both.critic, "adamw", plan.value_lr, weight_decay=0.0),
    ]
    progress = train(
        both,
        batches,
        ppo_loss(plan),
        steps=plan.rounds * plan.passes * plan.minibatches,
        log_every=plan.passes * plan.minibatches,
        precision=chat.precision,
        description="ppo",
        optimizers=optimizers,
        schedule=SCHEDULES["wsd"](),
    )
    return Reinforced(progress, log)
