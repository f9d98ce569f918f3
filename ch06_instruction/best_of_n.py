"""The baseline that learning from rewards must beat: draw several answers and give the best one.

Chosen by a reward model (Stiennon et al. 2020), or without one: the last line that most draws agree
on (self-consistency, Wang et al. 2022). The best there was says how much choosing could give at
most.
"""

from collections import Counter
from collections.abc import Sequence

import torch

from ch06_instruction.answering import Chat
from ch06_instruction.chat import encode_chat
from ch06_instruction.grading import exact_match, final_answer
from ch06_instruction.instructions import Instruction
from ch06_instruction.reward_model import ScoreModel, scores


def draw_answers(
    chat: Chat, asked: Sequence[Instruction], n: int, seed: int, temperature: float = 1.0
) -> list[list[str]]:
    """`n` answers to each instruction."""
    generator = torch.Generator(chat.precision.device).manual_seed(seed)
    drawn = chat.respond(
        [one.messages for one in asked],
        n,
        temperature,
        generator,
        description=f"drawing {n} answers",
    )
    return [drawn[first : first + n] for first in range(0, len(drawn), n)]


def most_agreed(answers: Sequence[str]) -> str:
    """The first answer with the most frequent last line.

    >>> most_agreed(["a;\\nmill", "b;\\nlake", "c;\\nlake"])
    'b;\\nlake'
    """
    winner = Counter(map(final_answer, answers)).most_common(1)[0][0]
    return next(answer for answer in answers if final_answer(answer) == winner)


def best_scored(
    scorer: ScoreModel, chat: Chat, asked: Sequence[Instruction], drawn: Sequence[Sequence[str]]
) -> list[str]:
    """The answer to each instruction that the reward model likes best."""
    context = chat.model.config.context_length - 1
    chats = [
        (
            encode_chat(
                chat.tokenizer, [*one.messages, {"role": "assistant", "content": answer}], context
            )
            if answer.strip()
            else None
        )
        for one, answers in zip(asked, drawn, strict=True)
        for answer in answers
    ]
    liked = iter(
        scores(scorer, [one for one in chats if one], chat.tokenizer.eot_id, chat.precision)
    )
    every = [next(liked) if one else float("-inf") for one in chats]
    n = len(drawn[0])
    return [
        max(zip(every[row * n : (row + 1) * n], answers, strict=True))[1]
        for row, answers in enumerate(drawn)
    ]


def best_there_was(asked: Sequence[Instruction], drawn: Sequence[Sequence[str]]) -> float:
    """The share of instructions with a right answer among those drawn (pass@n)."""
    return sum(
        any(exact_match(answer, one.answer) for answer in answers)
        for one, answers in zip(asked, drawn, strict=True)
    ) / len(asked)
