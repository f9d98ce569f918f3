"""Chapter 6: instruction tuning, reward model, DPO, PPO and GRPO, for any prompts and any reward
function.

Its modules, in the order in which to read them: chat, batches, log_probs, chat_datasets,
contamination, config, sft, grading, answering, evaluation, preferences, reward_model, rewards,
best_of_n, preference_losses, policy, dpo, rollouts, advantages, policy_losses, grpo, ppo, pipeline,
sft_from_file, judge, storyworld_tasks, plots, book. Only main imports storyworld_tasks, which
writes the instructions about stories.
"""

from ch06_instruction.advantages import (
    generalized_advantages,
    group_advantages,
    kl_estimate,
    whiten,
)
from ch06_instruction.answering import Chat
from ch06_instruction.batches import chat_batches, collate, pack
from ch06_instruction.best_of_n import best_of_n, majority_vote, pass_at_n, sample_responses
from ch06_instruction.book import (
    InstructionDataset,
    PreferenceDataset,
    compute_dpo_loss,
    compute_logprobs,
    custom_collate_fn,
    format_input,
)
from ch06_instruction.chat import (
    EncodedChat,
    chat_model,
    chat_tokenizer,
    encode_chat,
    prompt_ids,
    with_response,
)
from ch06_instruction.chat_datasets import (
    Preference,
    book_conversations,
    book_preferences,
    read_conversations,
    read_preferences,
)
from ch06_instruction.config import DPOConfig, GRPOConfig, PPOConfig, RewardConfig, SFTConfig
from ch06_instruction.dpo import train_dpo
from ch06_instruction.evaluation import evaluate_base_model, evaluate_greedy, evaluate_sampled
from ch06_instruction.grading import accuracy_with_ci, exact_match, grade, token_f1
from ch06_instruction.grpo import train_grpo
from ch06_instruction.log_probs import response_log_probs, token_log_probs
from ch06_instruction.policy_losses import clipped_surrogate, value_loss
from ch06_instruction.ppo import train_ppo
from ch06_instruction.preference_losses import PREFERENCE_LOSSES, PairLogProbs
from ch06_instruction.preferences import EncodedPair, encode_pairs
from ch06_instruction.reward_model import (
    RewardModel,
    ValueModel,
    evaluate_reward_model,
    train_reward_model,
)
from ch06_instruction.rewards import match_reward, model_reward
from ch06_instruction.rollouts import sample_pairs, sample_rollouts
from ch06_instruction.sft import train_sft

__all__ = [
    "PREFERENCE_LOSSES",
    "Chat",
    "DPOConfig",
    "EncodedChat",
    "EncodedPair",
    "GRPOConfig",
    "InstructionDataset",
    "PPOConfig",
    "PairLogProbs",
    "Preference",
    "PreferenceDataset",
    "RewardConfig",
    "RewardModel",
    "SFTConfig",
    "ValueModel",
    "accuracy_with_ci",
    "best_of_n",
    "book_conversations",
    "book_preferences",
    "chat_batches",
    "chat_model",
    "chat_tokenizer",
    "clipped_surrogate",
    "collate",
    "compute_dpo_loss",
    "compute_logprobs",
    "custom_collate_fn",
    "encode_chat",
    "encode_pairs",
    "evaluate_base_model",
    "evaluate_greedy",
    "evaluate_reward_model",
    "evaluate_sampled",
    "exact_match",
    "format_input",
    "generalized_advantages",
    "grade",
    "group_advantages",
    "kl_estimate",
    "majority_vote",
    "match_reward",
    "model_reward",
    "pack",
    "pass_at_n",
    "prompt_ids",
    "read_conversations",
    "read_preferences",
    "response_log_probs",
    "sample_pairs",
    "sample_responses",
    "sample_rollouts",
    "token_f1",
    "token_log_probs",
    "train_dpo",
    "train_grpo",
    "train_ppo",
    "train_reward_model",
    "train_sft",
    "value_loss",
    "whiten",
    "with_response",
]
