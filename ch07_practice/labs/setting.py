"""What every lab works with: the run's story model, its tuned model, and questions about unseen
stories.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from ch01_text.storyworld import MAIN_KINDS, UNKNOWN, Question, Story, small_questions, stories
from ch01_text.storyworld.words import PRONOUNS, the
from ch03_gpt import complete
from ch06_instruction.answering import MAX_NEW_TOKENS, Chat
from ch06_instruction.chat import END
from ch06_instruction.storyworld_tasks import LEVELS
from ch07_practice.harness import Subject

Pair = tuple[Story, Question]


@dataclass(frozen=True)
class Setting:
    """Two models of one run, and how much a lab asks."""

    base: Subject  # chapter 4's
    chat: Chat  # chapter 6's
    n: int = 80  # questions in each row of a lab
    seed: int = 1


def closing_pairs(told: Iterable[Story], kinds: Sequence[str] = MAIN_KINDS) -> Iterator[Pair]:
    """Questions of the kinds about the state at the end of each story, one a story, where there
    is one.
    """
    for story in told:
        asked = [
            question
            for question in story.questions
            if question.position == len(story.prose)
            and question.kind in kinds
            and question.answer not in ("", UNKNOWN)
        ]
        if asked:
            yield story, asked[story.events[-1].sentence % len(asked)]


def draw_pairs(
    n: int, seed: int, split: str = "test", kinds: Sequence[str] = MAIN_KINDS
) -> list[Pair]:
    """`n` stories, each with a question about its end."""
    return list(
        islice(closing_pairs(stories(split=split, level=LEVELS["test"], seed=seed), kinds), n)
    )


def user(*parts: str) -> list[dict[str, str]]:
    """A conversation of one message, its parts on lines of their own."""
    return [{"role": "user", "content": "\n".join(parts)}]


def register(pair: Pair) -> dict[str, str]:
    """Every question about a place or an owner that has an answer where the pair's question is
    asked -> its answer.
    """
    world, known = pair[0].world(pair[1]), {}
    for one in world.where:
        name = one if one in PRONOUNS else the(one)
        if place := world.place(one):
            known[f"Where is {name}?"] = the(place)
            known |= small_questions("where-person", one, world) if one in PRONOUNS else {}
        if one not in PRONOUNS:
            known[f"Who has {name}?"] = world.holder(one) or "nobody"
    return known


def go_on(
    chat: Chat,
    prompts: Sequence[Sequence[int]],
    beginnings: Sequence[str],
    stops: Sequence[int] = (),
    **options,
) -> list[str]:
    """What the model makes of responses that begin so, the beginnings included, up to their end
    or one of `stops`.
    """
    begun = [chat.tokenizer.encode(beginning) for beginning in beginnings]
    context = chat.model.config.context_length
    rows = [[*prompt, *ids][-context:] for prompt, ids in zip(prompts, begun, strict=True)]
    with torch.inference_mode(), chat.precision.autocast():
        written = complete(
            chat.model,
            rows,
            MAX_NEW_TOKENS,
            stop_ids=(chat.tokenizer.special_tokens[END], *stops),
            **options,
        )
    return [
        beginning + chat.text(one.ids) for beginning, one in zip(beginnings, written, strict=True)
    ]
