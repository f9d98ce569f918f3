"""Evaluating a chat model on prompts whose right answers are known."""

from collections.abc import Sequence

import pandas as pd
import torch

from ch03_gpt import GPTModel, complete
from ch06_instruction.answering import Chat
from ch06_instruction.batches import collate
from ch06_instruction.chat import Prompt, with_response
from ch06_instruction.grading import accuracy_with_ci, grade
from ch06_instruction.log_probs import token_log_probs


def evaluate_greedy(
    chat: Chat, prompts: Sequence[Prompt], answers: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Grades of the greedy responses, one row each, and the responses."""
    responses = chat.respond(prompts)
    return grade(responses, answers), responses


def evaluate_sampled(
    chat: Chat, prompts: Sequence[Prompt], answers: Sequence[str], generator: torch.Generator
) -> dict:
    """Accuracy with its interval of one response per prompt, sampled at temperature 1.

    Unlike greedy accuracy it shows how sure the model is; a server samples by default.
    """
    responses = chat.respond(prompts, 1, 1.0, generator, description="sampling")
    return accuracy_with_ci(grade(responses, answers)["exact_match"])


def evaluate_base_model(
    chat: Chat, texts: Sequence[str], answers: Sequence[str], max_new_tokens: int = 16
) -> tuple[pd.DataFrame, list[str]]:
    """`evaluate_greedy` for a model without a chat template: it continues each text to the end of
    the line.
    """
    newline = chat.tokenizer.encode("\n")[:1]  # a word tokenizer knows none
    room = chat.model.config.context_length - max_new_tokens
    responses: list[str] = []
    for first in range(0, len(texts), 64):
        prompts = [
            [chat.tokenizer.eot_id, *chat.tokenizer.encode(text)][-room:]
            for text in texts[first : first + 64]
        ]
        with torch.inference_mode(), chat.precision.autocast():
            completions = complete(chat.model.eval(), prompts, max_new_tokens, stop_ids=newline)
        responses += [chat.tokenizer.decode(one.ids).strip() for one in completions]
    return grade(responses, answers), responses


@torch.inference_mode()
def sampled_kl(
    reference: GPTModel, chat: Chat, prompts: Sequence[Prompt], generator: torch.Generator
) -> float:
    """KL(model || reference) in nats per response, estimated from one sample per prompt."""
    ids = [chat.prompt(messages) for messages in prompts]
    sampled = chat.sample(ids, temperature=1.0, generator=generator)
    inputs, targets = collate(
        [with_response(prompt, response) for prompt, response in zip(ids, sampled, strict=True)],
        chat.tokenizer.eot_id,
        chat.precision.device,
    )
    with chat.precision.autocast():
        log_probs, ref_log_probs = (
            token_log_probs(model, inputs, targets).sum(dim=1) for model in (chat.model, reference)
        )
    return float((log_probs - ref_log_probs).mean())
