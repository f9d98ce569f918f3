"""From a pretrained model to a chat model (SFT), then to models that learned from preferences and
rewards.

Each stage is a checkpoint in the run folder. DPO, PPO and GRPO all start from the SFT model, so
that they can be compared. A missing SFT model is trained first.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ch01_text import Tokenizer
from ch03_gpt import GPTModel, Precision
from ch04_pretraining import (
    ensure_pretrained,
    find_checkpoint,
    from_pretrained,
    load_checkpoint,
    save_checkpoint,
    tokenizer_of,
)
from ch06_instruction.answering import Chat
from ch06_instruction.chat import (
    Conversation,
    EncodedChat,
    Prompt,
    chat_model,
    chat_tokenizer,
    encode_chat,
)
from ch06_instruction.chat_datasets import Preference
from ch06_instruction.config import DPOConfig, GRPOConfig, PPOConfig, RewardConfig, SFTConfig
from ch06_instruction.dpo import train_dpo
from ch06_instruction.grpo import train_grpo
from ch06_instruction.ppo import train_ppo
from ch06_instruction.preferences import encode_pairs
from ch06_instruction.reward_model import RewardModel, evaluate_reward_model, train_reward_model
from ch06_instruction.rewards import RewardFn
from ch06_instruction.rollouts import sample_pairs
from ch06_instruction.sft import train_sft

CONTEXT = 384  # at least, where positions are rotary


@dataclass(frozen=True)
class AlignmentData:
    """What the stages learn from; a stage needs only its own part."""

    conversations: Sequence[Conversation] = ()  # SFT
    validation: Sequence[Conversation] = ()
    # old data among the new, against forgetting: (tokenizer, context_length) -> rows
    replay: Callable[[Tokenizer, int], list[EncodedChat]] | None = None
    pairs: Sequence[Preference] = ()  # the reward model
    test_pairs: Sequence[Preference] = ()
    prompts: Sequence[Prompt] = ()  # DPO, PPO and GRPO sample responses to these
    reward_fn: RewardFn | None = None  # PPO and GRPO
    accuracy_fn: RewardFn | None = None  # DPO's pairs; logged by PPO and GRPO


@dataclass(frozen=True)
class AlignmentConfig:
    """The recipe of each stage."""

    sft: SFTConfig = field(default_factory=SFTConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    dpo: DPOConfig = field(default_factory=DPOConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    grpo: GRPOConfig = field(default_factory=GRPOConfig)


@dataclass(frozen=True)
class StageResult:
    """A finished stage."""

    chat: Chat
    seconds: float = 0.0
    log: list[dict] = field(default_factory=list)
    metrics: dict = field(default_factory=dict)


def base_chat(source: str, run: Path, precision: Precision) -> Chat:
    """The pretrained model with embeddings for the chat template.

    `source`: "pretrained" for the run's story model, or what `from_pretrained` takes.
    """
    checkpoint = ensure_pretrained(run) if source == "pretrained" else source
    tokenizer = chat_tokenizer(tokenizer_of(checkpoint))
    model = from_pretrained(checkpoint)
    rotary = model.config.position == "rope"
    context = max(CONTEXT, model.config.context_length) if rotary else None
    model = chat_model(model, tokenizer.n_vocab, context).to(precision.device)
    return Chat(model, tokenizer, precision)


def encode_all(chat: Chat, conversations: Sequence[Conversation]) -> list[EncodedChat]:
    """Conversations as ids that fit the model's context."""
    context = chat.model.config.context_length
    return [encode_chat(chat.tokenizer, messages, context) for messages in conversations]


def copy_of(chat: Chat) -> Chat:
    """The same with its own copy of the model."""
    model = GPTModel(chat.model.config)
    model.load_state_dict(chat.model.state_dict())
    return replace(chat, model=model.to(chat.precision.device))


class AlignmentPipeline:
    """The stages of one run folder. `base` makes the model to start from."""

    def __init__(
        self,
        folder: Path,
        base: Callable[[], Chat],
        data: AlignmentData,
        config: AlignmentConfig,
        precision: Precision,
        seed: int = 0,
    ):
        self.folder, self.base, self.data = folder, base, data
        self.config, self.precision, self.seed = config, precision, seed

    def save(self, name: str, chat: Chat) -> None:
        """Write a stage's checkpoint."""
        save_checkpoint(self.folder / name, chat.model, chat.tokenizer)

    def sft_chat(self) -> Chat:
        """A fresh copy of the SFT model: from the run folder, or trained now."""
        if find_checkpoint(self.folder / "sft") is None:
            print(f"there is no tuned model in {self.folder} yet: instruction tuning comes first")
            return copy_of(self.sft().chat)
        model, tokenizer = load_checkpoint(self.folder / "sft", self.precision.device)
        return Chat(model, tokenizer, self.precision)

    def sft(self) -> StageResult:
        """Instruction tuning on the conversations, with replay among them."""
        chat = self.base()
        chats = encode_all(chat, self.data.conversations)
        replay = []
        if self.data.replay:
            replay = self.data.replay(chat.tokenizer, chat.model.config.context_length)
        validation = encode_all(chat, self.data.validation)
        began = time.perf_counter()
        progress = train_sft(
            chat.model,
            [*chats, *replay],
            validation,
            self.config.sft,
            chat.tokenizer.eot_id,
            self.precision,
            self.seed,
        )
        seconds = time.perf_counter() - began
        self.save("sft", chat)
        metrics = {
            "tokens": progress.tokens,
            "conversations": len(chats),
            "replayed": len(replay),
            "truncated": sum(one.truncated for one in chats),
            "val_loss": progress.log[-1]["val_loss"],
        }
        return StageResult(chat, seconds, progress.log, metrics)

    def reward_model(self) -> tuple[RewardModel, StageResult]:
        """Train the reward model on the pairs and evaluate it on the test pairs."""
        chat = self.sft_chat()
        pad_id = chat.tokenizer.eot_id
        # the score is read at the last token, which therefore needs a place in the context, too
        context = chat.model.config.context_length - 1
        pairs, test_pairs = (
            encode_pairs(chat.tokenizer, some, context)
            for some in (self.data.pairs, self.data.test_pairs)
        )
        began = time.perf_counter()
        model, progress = train_reward_model(
            chat.model, pairs, self.config.reward, pad_id, self.precision, self.seed
        )
        seconds = time.perf_counter() - began
        metrics = evaluate_reward_model(model, test_pairs, pad_id, self.precision)
        return model, StageResult(chat, seconds, progress.log, metrics)

    def dpo(self) -> StageResult:
        """Preference tuning on pairs of a right and a wrong response of the SFT model itself."""
        prompts, accuracy_fn, config = self.data.prompts, self.data.accuracy_fn, self.config.dpo
        if accuracy_fn is None:
            raise ValueError("DPO has to know which responses are right; give it an accuracy_fn")
        chat = self.sft_chat()
        began = time.perf_counter()
        generator = torch.Generator(self.precision.device).manual_seed(self.seed)
        pairs, accuracy = sample_pairs(
            chat, prompts, accuracy_fn, config.num_generations, generator
        )
        print(
            f"{len(pairs):,} of {len(prompts):,} prompts had right and wrong responses among"
            f" {config.num_generations}; {accuracy:.1%} of all responses are right"
        )
        progress = train_dpo(
            chat.model, pairs, config, chat.tokenizer.eot_id, self.precision, self.seed
        )
        seconds = time.perf_counter() - began
        self.save("dpo", chat)
        metrics = {"loss": config.loss, "pairs": len(pairs), "sampled_accuracy": accuracy}
        return StageResult(chat, seconds, progress.log, metrics)

    def ppo(self) -> StageResult:
        """PPO from the SFT model."""
        return self._reinforce("ppo", train_ppo, self.config.ppo)

    def grpo(self) -> StageResult:
        """GRPO from the SFT model."""
        return self._reinforce("grpo", train_grpo, self.config.grpo)

    def _reinforce(self, name: str, train: Callable, config: PPOConfig | GRPOConfig) -> StageResult:
        data = self.data
        if data.reward_fn is None:
            raise ValueError(f"{name.upper()} learns from rewards; give it a reward_fn")
        chat = self.sft_chat()
        began = time.perf_counter()
        done = train(
            chat, data.prompts, data.reward_fn, config, seed=self.seed, accuracy_fn=data.accuracy_fn
        )
        seconds = time.perf_counter() - began
        self.save(name, chat)
        return StageResult(chat, seconds, done.rollouts)
