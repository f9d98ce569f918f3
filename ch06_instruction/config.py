"""The recipe of each stage: what the command line sets, and what the training functions take."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from ch01_text.run import check_positive
from ch06_instruction.preference_losses import PREFERENCE_LOSSES


@dataclass(frozen=True)
class SFTConfig:
    """Instruction tuning (supervised fine-tuning)."""

    # Passes over the conversations.
    epochs: float = 1.0
    # Conversations per update.
    batch_size: int = 8
    # Peak learning rate of AdamW.
    lr: float = 3e-3
    # Rank of LoRA adapters, merged into the weights before saving; 0 trains all weights.
    lora_rank: int = 0

    _: KW_ONLY

    # Adapters are scaled by this over their rank.
    lora_alpha: float = 32.0
    # muon trains the matrices of the blocks with Muon, all else with AdamW; by default muon, or
    # adamw with LoRA.
    optimizer: Literal["adamw", "muon"] | None = None
    # Peak learning rate of Muon.
    muon_lr: float = 1e-2
    # Decoupled weight decay of the matrices.
    weight_decay: float = 0.1
    # Learn the user's words too, not only the assistant's.
    train_on_prompt: bool = False

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "batch_size", "lr", "lora_alpha", "muon_lr")
        if self.lora_rank < 0:
            raise ValueError(f"--lora-rank must be 0 (no LoRA) or more, not {self.lora_rank}")
        if self.lora_rank and self.optimizer == "muon":
            raise ValueError("LoRA adapters are trained with adamw; choose it, or --lora-rank 0")

    @property
    def chosen_optimizer(self) -> str:
        """`optimizer`, or the default for what is trained."""
        return self.optimizer or ("adamw" if self.lora_rank else "muon")


@dataclass(frozen=True)
class RewardConfig:
    """The reward model."""

    # Passes over the pairs.
    epochs: float = 1.0
    # Pairs per update.
    batch_size: int = 16
    # Peak learning rate.
    lr: float = 3e-4

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "batch_size", "lr")


@dataclass(frozen=True)
class DPOConfig:
    """Preference tuning: DPO and its relatives."""

    # Which loss to minimize over the pairs.
    loss: Literal["dpo", "ipo", "simpo", "orpo", "kto"] = "dpo"
    # Strength of the loss's beta; by default each loss's own.
    beta: float | None = None
    # Passes over the pairs.
    epochs: float = 10.0
    # Pairs per update.
    batch_size: int = 16
    # Peak learning rate.
    lr: float = 0.1
    # Parameters that learn: those whose names start with this, or all.
    trainable: str = "final_norm"
    # Responses sampled per prompt, among which a better and a worse one make a pair.
    num_generations: int = 8

    def __post_init__(self) -> None:
        if self.loss not in PREFERENCE_LOSSES:
            names = ", ".join(PREFERENCE_LOSSES)
            raise ValueError(f"unknown loss {self.loss!r}; choose one of {names}")
        check_positive(self, "epochs", "batch_size")
        if self.num_generations < 2:
            raise ValueError(
                f"a pair needs at least 2 responses; num_generations is {self.num_generations}"
            )


@dataclass(frozen=True)
class PolicyConfig:
    """What PPO and GRPO share."""

    # Rounds of sampling responses and learning from them.
    num_rollouts: int = 20
    # Prompts per rollout.
    prompts_per_step: int = 16
    # Responses sampled per prompt.
    num_generations: int = 8
    # Passes over the responses of a rollout.
    num_iterations: int = 1
    # Updates per pass.
    num_minibatches: int = 2
    # Peak learning rate.
    lr: float = 0.1
    # Clip the probability ratio to 1 +- epsilon.
    epsilon: float = 0.2
    # Weight of KL(policy || reference).
    beta: float = 0.02
    # Temperature of sampling.
    temperature: float = 1.0
    # Parameters that learn: those whose names start with this, or all.
    trainable: str = "final_norm"

    def __post_init__(self) -> None:
        check_positive(
            self,
            "num_rollouts",
            "prompts_per_step",
            "num_generations",
            "num_iterations",
            "epsilon",
            "temperature",
        )
        if not 1 <= self.num_minibatches <= self.batch_size:
            raise ValueError(
                f"the {self.batch_size} responses of a rollout cannot be divided into"
                f" {self.num_minibatches} minibatches; choose from 1 to {self.batch_size}"
            )

    @property
    def batch_size(self) -> int:
        """Responses per rollout."""
        return self.prompts_per_step * self.num_generations

    @property
    def steps(self) -> int:
        """Updates in all."""
        return self.num_rollouts * self.num_iterations * self.num_minibatches


@dataclass(frozen=True)
class PPOConfig(PolicyConfig):
    """PPO: advantages from a critic."""

    # Peak learning rate of the critic.
    critic_lr: float = 1e-3
    # Lambda of generalized advantage estimation.
    gae_lambda: float = 0.95


@dataclass(frozen=True)
class GRPOConfig(PolicyConfig):
    """GRPO: advantages from comparing the responses to one prompt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_generations < 2:
            raise ValueError(
                "GRPO compares the responses to one prompt: num_generations must be at least 2,"
                f" not {self.num_generations}"
            )
