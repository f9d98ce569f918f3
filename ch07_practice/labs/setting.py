"""What every lab works with: the run's story model, its tuned model, and questions about unseen
stories.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from ch01_text.storyworld import KINDS, NOBODY, UNKNOWN, Question, Story, stories, where_is, who_has
from ch01_text.storyworld.words import PEOPLE, the
from ch03_gpt import complete
from ch06_instruction.answering import MAX_NEW_TOKENS, Chat
from ch06_instruction.chat import END
from ch07_practice.harness import Subject

Pair = tuple[Story, Question]


@dataclass(frozen=True)
class Setting:
    """Two models of one run, and how much a lab asks."""

    base: Subject  # chapter 4's
    chat: Chat  # chapter 6's
    n: int = 80  # questions in each row of a lab
    seed: int = 1


def closing_pairs(told: Iterable[Story], kinds: Sequence[str] = KINDS) -> Iterator[Pair]:
    """Questions of the kinds about the state at the end of each story, one a story, where there
    is one.
    """
    for story in told:
        asked = [
            question
            for question in story.questions
            if question.position == len(story.sentences)
            and question.kind in kinds
            and question.answer != UNKNOWN
        ]
        if asked:
            yield story, asked[-1]


def draw_pairs(n: int, seed: int, split: str = "test", kinds: Sequence[str] = KINDS) -> list[Pair]:
    """`n` stories, each with a question about its end."""
    return list(islice(closing_pairs(stories(split=split, seed=seed), kinds), n))


def user(*parts: str) -> list[dict[str, str]]:
    """A conversation of one message, its parts on lines of their own."""
    return [{"role": "user", "content": "\n".join(parts)}]


def register(pair: Pair) -> dict[str, str]:
    """Every question about a place or an owner that has an answer where the pair's question is
    asked -> its answer.
    """
    world = pair[0].world(pair[1])
    places = {where_is(one): the(world.place(one)) for one in world.where}
    things = [one for one in world.where if one not in PEOPLE]
    return places | {who_has(thing): world.holder(thing) or NOBODY for thing in things}


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
