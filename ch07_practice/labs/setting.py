"""What every lab works with: the run's story model, its tuned model, and how much to ask."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ch03_gpt import complete
from ch06_instruction.answering import MAX_NEW_TOKENS, Chat
from ch06_instruction.chat import END
from ch07_practice.evaluation.evaluation import EvalModel


@dataclass(frozen=True)
class Setting:
    """Two models of one run, the number of questions and the seed."""

    base: EvalModel  # chapter 4's
    chat: Chat  # chapter 6's
    n: int = 80  # questions per row of a lab's table
    seed: int = 1


def continue_responses(
    chat: Chat,
    prompts: Sequence[Sequence[int]],
    beginnings: Sequence[str],
    stops: Sequence[int] = (),
    **options,
) -> list[str]:
    """Let the model continue responses that begin with the given text, up to the end of the message
    or one of `stops`; returns them with their beginnings.
    """
    encoded = [chat.tokenizer.encode(beginning) for beginning in beginnings]
    context = chat.model.config.context_length
    rows = [[*prompt, *ids][-context:] for prompt, ids in zip(prompts, encoded, strict=True)]
    with torch.inference_mode(), chat.precision.autocast():
        completions = complete(
            chat.model,
            rows,
            MAX_NEW_TOKENS,
            stop_ids=(chat.tokenizer.special_tokens[END], *stops),
            **options,
        )
    return [
        beginning + chat.text(one.ids)
        for beginning, one in zip(beginnings, completions, strict=True)
    ]
