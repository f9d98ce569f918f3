"""From the story model to one that follows instructions and then to ones that learned from
preferences and rewards.

Each stage is a checkpoint in the run folder; the later ones all begin as the tuned model ("sft"),
so that they can be compared. A stage that is needed and not there is made first.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

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
from ch06_instruction.chat import EncodedChat, chat_model, chat_tokenizer, encode_chat
from ch06_instruction.dpo import Preferring, prefer
from ch06_instruction.instructions import conversations, instructions
from ch06_instruction.preferences import drawn_pairs, story_pairs
from ch06_instruction.rehearsal import rehearsed_texts
from ch06_instruction.reinforcement import Reinforcing, grpo, ppo
from ch06_instruction.reward_model import ScoreModel, fit_reward_model, rank_pairs
from ch06_instruction.rollouts import program_reward
from ch06_instruction.sft import Tuning, tune

CONTEXT = 384
STORY_LR = 9e-4  # AdamW's
# all that preferences and rewards change: few judgements cannot tell many numbers apart
ALIGNED = "final_norm"


@dataclass(frozen=True)
class Plan:
    """How much each stage learns from."""

    conversations: int = 30_000
    rehearsed: float = 0.2  # of their number: texts like chapter 4's among them
    tuning: Tuning = field(default_factory=Tuning)
    pairs: int = 1200  # made ones, for the reward model
    prompts: int = 1000  # that DPO draws pairs from, and PPO and GRPO learn on
    samples: int = 8
    preferring: Preferring = field(default_factory=lambda: Preferring(epochs=10, lr=0.1))
    ppo: Reinforcing = field(default_factory=lambda: Reinforcing(rounds=20, lr=0.1))
    grpo: Reinforcing = field(default_factory=lambda: Reinforcing(rounds=20, lr=0.1))


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    chat: Chat
    seconds: float = 0.0
    log: list[dict] = field(default_factory=list)
    extra: dict = field(default_factory=dict)


def base_chat(source: str, run: Path, precision: Precision) -> Chat:
    """The model to begin with, with embeddings for the roles: the run's story model, or what
    `source` names.
    """
    checkpoint = ensure_pretrained(run) if source == "pretrained" else source
    tokenizer = chat_tokenizer(tokenizer_of(checkpoint))
    model = from_pretrained(checkpoint)
    context = max(CONTEXT, model.config.context_length) if model.config.position == "rope" else None
    return Chat(
        chat_model(model, tokenizer.n_vocab, context).to(precision.device), tokenizer, precision
    )


def story_chats(chat: Chat, n: int, seed: int) -> list[EncodedChat]:
    """`n` training conversations as ids."""
    context = chat.model.config.context_length
    return [
        encode_chat(
            chat.tokenizer, [message for one in several for message in one.conversation()], context
        )
        for several in conversations(n, seed)
    ]


def copied(chat: Chat) -> Chat:
    """The same with a model of its own."""
    model = GPTModel(chat.model.config)
    model.load_state_dict(chat.model.state_dict())
    return replace(chat, model=model.to(chat.precision.device))


class Course:
    """The stages of one run folder."""

    def __init__(
        self, folder: Path, base: Callable[[], Chat], plan: Plan, precision: Precision, seed: int
    ):
        self.folder = folder
        self.base = base
        self.plan = plan
        self.precision = precision
        self.seed = seed
        self.scorer: ScoreModel | None = None

    def start(self) -> Chat:
        """A copy of the tuned model: from this run folder, or made now."""
        if find_checkpoint(self.folder / "sft") is None:
            print(f"there is no tuned model in {self.folder} yet: instruction tuning comes first")
            return copied(self.sft().chat)
        model, tokenizer = load_checkpoint(self.folder / "sft", self.precision.device)
        return Chat(model, tokenizer, self.precision)

    def to_align(self) -> Chat:
        """The tuned model, where only the scale of the last norm will learn: 192 numbers instead
        of 1.7 million.
        """
        chat = self.start()
        for name, parameter in chat.model.named_parameters():
            parameter.requires_grad_(name.startswith(ALIGNED))
        return chat

    def keep(self, name: str, chat: Chat) -> None:
        save_checkpoint(self.folder / name, chat.model, chat.tokenizer)

    def sft(
        self, chats: list[EncodedChat] | None = None, validation: list[EncodedChat] | None = None
    ) -> Stage:
        """Instruction tuning, on stories or on the conversations given."""
        chat, tuning, rehearsed = self.base(), replace(self.plan.tuning, seed=self.seed), []
        if not chats:
            chats = story_chats(chat, self.plan.conversations, self.seed)
            rehearsed = rehearsed_texts(
                chat.tokenizer,
                round(self.plan.rehearsed * len(chats)),
                chat.model.config.context_length,
                self.seed + 3,
            )
            tuning = tuning if tuning.lora_rank else replace(tuning, optimizer="adamw", lr=STORY_LR)
        validation = validation or story_chats(chat, 200, self.seed + 1)
        began = time.perf_counter()
        progress = tune(
            chat.model,
            [*chats, *rehearsed],
            validation,
            tuning,
            chat.tokenizer.eot_id,
            self.precision,
        )
        seconds = time.perf_counter() - began
        self.keep("sft", chat)
        return Stage(
            chat,
            seconds,
            progress.log,
            {
                "tokens": progress.tokens,
                "conversations": len(chats),
                "rehearsed": len(rehearsed),
                "truncated": sum(one.truncated for one in chats),
                "val_loss": progress.log[-1]["val_loss"],
            },
        )

    def reward(self) -> Stage:
        """The reward model, on made pairs; judged on pairs about unseen casts."""
        chat = self.start()
        # the score is at the last token, which is read, too
        context = chat.model.config.context_length - 1
        pairs = story_pairs(chat.tokenizer, self.plan.pairs, context, self.seed)
        test = story_pairs(chat.tokenizer, 600, context, self.seed, "test")
        began = time.perf_counter()
        self.scorer, progress = fit_reward_model(
            chat.model, pairs, chat.tokenizer.eot_id, self.precision, seed=self.seed
        )
        seconds = time.perf_counter() - began
        return Stage(
            chat,
            seconds,
            progress.log,
            rank_pairs(self.scorer, test, chat.tokenizer.eot_id, self.precision),
        )

    def asked(self) -> list:
        """Training questions to draw answers to: other stories than those of the tuning."""
        return list(instructions(self.plan.prompts, self.seed + 2, "train", only="question"))

    def dpo(self) -> Stage:
        """Preference tuning on pairs of a right and a wrong answer that the tuned model drew
        itself.
        """
        chat, asked = self.to_align(), self.asked()
        began = time.perf_counter()
        generator = torch.Generator(self.precision.device).manual_seed(self.seed)
        pairs, right = drawn_pairs(chat, asked, self.plan.samples, generator)
        print(
            f"{len(pairs):,} of {len(asked):,} questions were answered rightly and wrongly in"
            f" {self.plan.samples} draws; {right:.1%} of the draws are right"
        )
        progress = prefer(
            chat.model,
            pairs,
            replace(self.plan.preferring, seed=self.seed),
            chat.tokenizer.eot_id,
            self.precision,
        )
        self.keep("dpo", chat)
        return Stage(
            chat,
            time.perf_counter() - began,
            progress.log,
            {"loss": self.plan.preferring.loss, "pairs": len(pairs), "drawn_right": right},
        )

    def reinforce(self, name: str, reward=program_reward) -> Stage:
        """PPO or GRPO on the same questions."""
        chat, asked = self.to_align(), self.asked()
        learn, plan = {"ppo": (ppo, self.plan.ppo), "grpo": (grpo, self.plan.grpo)}[name]
        began = time.perf_counter()
        done = learn(chat, asked, replace(plan, seed=self.seed), reward)
        self.keep(name, chat)
        return Stage(chat, time.perf_counter() - began, done.rounds)
