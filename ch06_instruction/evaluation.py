"""How good is a model at its instructions: right answers by task, form and hops, beside what
guessing gives.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from ch01_text.storyworld import all_shortcuts
from ch03_gpt import GPTModel, complete
from ch06_instruction.answering import Chat, answered
from ch06_instruction.batches import collate
from ch06_instruction.grading import exact_match, grade_responses, share
from ch06_instruction.instructions import Instruction, instructions
from ch06_instruction.log_probs import token_log_probs


def examine(
    chat: Chat, asked: Sequence[Instruction], description: str = "answering"
) -> tuple[pd.DataFrame, list[str]]:
    """Grades of the greedy answers, a row each, and the answers."""
    answers = chat.respond([one.messages for one in asked], description=description)
    return grade_responses(asked, answers), answers


def grade_drawn(chat: Chat, asked: Sequence[Instruction], generator: torch.Generator) -> dict:
    """The share of right answers to the questions, with its interval, where each is drawn once at
    temperature 1, as a server does by default: how sure the model is of what it knows.
    """
    questions = [one for one in asked if one.task == "question"]
    answers = chat.respond(
        [one.messages for one in questions], 1, 1.0, generator, description="drawing"
    )
    return share(grade_responses(questions, answers)["exact_match"])


def ask_base(chat: Chat, asked: Sequence[Instruction]) -> tuple[pd.DataFrame, list[str]]:
    """The same for a model that was only pretrained: it is asked as in chapter 4's texts, "Q: ...
    A:", and an answer in any form counts, since it has never been told of forms.
    """
    newline = chat.tokenizer.encode("\n")[0]
    room = chat.model.config.context_length - 16
    answers: list[str] = []
    for first in range(0, len(asked), 64):
        prompts = [
            [chat.tokenizer.eot_id, *chat.tokenizer.encode(base_prompt(one))][-room:]
            for one in asked[first : first + 64]
        ]
        with torch.inference_mode(), chat.precision.autocast():
            drawn = complete(chat.model.eval(), prompts, 16, stop_ids=(newline,))
        answers += [chat.tokenizer.decode(one.ids).strip() for one in drawn]
    rows = grade_responses(asked, answers)
    plain = [
        one.question.answer if one.question and one.answerable else one.answer for one in asked
    ]
    rows["exact_match"] = [
        exact_match(answer, wanted) for answer, wanted in zip(answers, plain, strict=True)
    ]
    return rows, answers


def base_prompt(one: Instruction) -> str:
    """An instruction as chapter 4's texts put it."""
    if one.question is None:
        return one.messages[-1]["content"]
    return one.story.prompt(one.question)


def shortcut_scores(
    asked: Sequence[Instruction], seed: int = 0, fitted_on: int = 2000
) -> dict[str, float]:
    """Exact match of guessing without tracking anything, on the answerable questions; forms are
    forgiven.
    """
    pairs = [(one.story, one.question) for one in asked if one.question and one.answerable]
    train = [
        (one.story, one.question)
        for one in instructions(fitted_on, seed, "train", only="question")
        if one.answerable
    ]
    return {
        name: float(
            np.mean(
                [
                    guess == question.answer
                    for guess, (_, question) in zip(found, pairs, strict=True)
                ]
            )
        )
        for name, found in all_shortcuts(train, pairs).items()
    }


@torch.inference_mode()
def kl_from(
    reference: GPTModel, chat: Chat, asked: Sequence[Instruction], generator: torch.Generator
) -> float:
    """KL(model || reference) of a whole response, in nats: the mean over drawn responses, one to
    each instruction.
    """
    prompts = [chat.prompt(one.messages) for one in asked]
    drawn = chat.draw(prompts, temperature=1.0, generator=generator)
    inputs, targets = collate(
        [answered(prompt, ids) for prompt, ids in zip(prompts, drawn, strict=True)],
        chat.tokenizer.eot_id,
        chat.precision.device,
    )
    with chat.precision.autocast():
        own, other = (
            token_log_probs(model, inputs, targets).sum(dim=1) for model in (chat.model, reference)
        )
    return float((own - other).mean())
