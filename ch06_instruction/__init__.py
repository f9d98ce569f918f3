"""Chapter 6: instruction tuning, reward model, DPO, PPO and GRPO, every stage measured.

Its modules, in the order in which to read them: chat, batches, conversations, instructions,
grading, leaks, log_probs, rehearsal, sft, reward_model, preferences, preference_losses, dpo,
advantages, policy_losses, rollouts, reinforcement, best_of_n, answering, evaluation, stages,
file_data, judge, plots, book.
"""

from ch06_instruction.advantages import (
    generalized_advantages,
    group_advantages,
    kl_estimate,
    whiten,
)
from ch06_instruction.answering import Chat, answered
from ch06_instruction.batches import IGNORED, chat_batches, collate, pack
from ch06_instruction.book import (
    InstructionDataset,
    PreferenceDataset,
    compute_dpo_loss,
    compute_logprobs,
    custom_collate_fn,
    format_input,
)
from ch06_instruction.chat import EncodedChat, chat_model, chat_tokenizer, encode_chat, prompt_ids
from ch06_instruction.conversations import (
    book_conversations,
    book_preferences,
    read_conversations,
    read_preferences,
)
from ch06_instruction.dpo import Preferring, prefer
from ch06_instruction.evaluation import examine, shortcut_scores
from ch06_instruction.grading import exact_match, grade_responses, summarize_answers, token_f1
from ch06_instruction.instructions import REFUSAL, Instruction, conversations, instructions
from ch06_instruction.log_probs import response_log_probs, token_log_probs
from ch06_instruction.policy_losses import clipped_surrogate, value_loss
from ch06_instruction.preference_losses import PREFERENCE_LOSSES, PairLogProbs
from ch06_instruction.preferences import drawn_pairs, story_pairs
from ch06_instruction.reinforcement import Reinforcing, grpo, ppo
from ch06_instruction.reward_model import Pair, ScoreModel, fit_reward_model, rank_pairs
from ch06_instruction.rollouts import program_reward, roll_out
from ch06_instruction.sft import Tuning, tune

__all__ = [
    "IGNORED",
    "PREFERENCE_LOSSES",
    "REFUSAL",
    "Chat",
    "EncodedChat",
    "Instruction",
    "InstructionDataset",
    "Pair",
    "PairLogProbs",
    "PreferenceDataset",
    "Preferring",
    "Reinforcing",
    "ScoreModel",
    "Tuning",
    "answered",
    "book_conversations",
    "book_preferences",
    "chat_batches",
    "chat_model",
    "chat_tokenizer",
    "clipped_surrogate",
    "collate",
    "compute_dpo_loss",
    "compute_logprobs",
    "conversations",
    "custom_collate_fn",
    "drawn_pairs",
    "encode_chat",
    "exact_match",
    "examine",
    "fit_reward_model",
    "format_input",
    "generalized_advantages",
    "grade_responses",
    "group_advantages",
    "grpo",
    "instructions",
    "kl_estimate",
    "pack",
    "ppo",
    "prefer",
    "program_reward",
    "prompt_ids",
    "rank_pairs",
    "read_conversations",
    "read_preferences",
    "response_log_probs",
    "roll_out",
    "shortcut_scores",
    "story_pairs",
    "summarize_answers",
    "token_f1",
    "token_log_probs",
    "tune",
    "value_loss",
    "whiten",
]
