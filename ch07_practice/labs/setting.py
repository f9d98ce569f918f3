"""What every lab works with: the run's story model, its tuned model, and questions about unseen stories."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ch01_text.storyworld import Question, Story, stories
from ch01_text.storyworld.questions import MAIN_KINDS, UNKNOWN
from ch06_instruction.answering import Chat
from ch06_instruction.instructions import LEVELS
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
    """Questions of the kinds about the state at the end of each story, one a story, where there is one."""
    for story in told:
        asked = [question for question in story.questions if question.position == len(story.prose)
                 and question.kind in kinds and question.answer not in ("", UNKNOWN)]
        if asked:
            yield story, asked[story.events[-1].sentence % len(asked)]


def draw_pairs(n: int, seed: int, split: str = "test", kinds: Sequence[str] = MAIN_KINDS) -> list[Pair]:
    """`n` stories, each with a question about its end."""
    return list(islice(closing_pairs(stories(split=split, level=LEVELS["test"], seed=seed), kinds), n))


def user(*parts: str) -> list[dict[str, str]]:
    """A conversation of one message, its parts on lines of their own."""
    return [{"role": "user", "content": "\n".join(parts)}]
