"""Writes stories: the plot is told, and questions are asked on the way.

Story i depends on (split, level, seed, i) alone, so any part of the endless sequence can be made
anywhere, in any order.
"""

from collections.abc import Iterator
from itertools import count
from random import Random

from ch01_text.storyworld.phrases import tell
from ch01_text.storyworld.plot import Plot, draw_cast
from ch01_text.storyworld.questions import Question, draw_question
from ch01_text.storyworld.story import Story
from ch01_text.storyworld.words import the
from ch01_text.storyworld.world import Event, World

SPLITS = ("train", "test")
# At least and at most so many events between the opening and the ending; "long" is longer than any
# training story.
LEVELS = {"base": (3, 6), "long": (11, 16)}
# Half of the stories are interrupted by questions; the others are told first, and then asked about.
# A model that will be asked about a bare story has to see the second kind, too.
INTERRUPTED_RATE = 0.5
QUESTION_RATE = 0.8  # chance of a question after a sentence of an interrupted story
CLOSING_QUESTIONS, ALL_QUESTIONS = 3, 8  # at most, at the end of an interrupted and another story
SILENT = ("weather", "happy", "sad")  # nothing is asked right after these


class Writer:
    """Writes one story."""

    def __init__(self, rng: Random, split: str):
        self.rng, self.world = rng, World()
        self.cast = draw_cast(rng, split)
        self.plot = Plot(rng, self.cast, self.world)
        self.sentences: list[str] = []
        self.events: list[Event] = []
        self.questions: list[Question] = []
        self.interrupted = rng.random() < INTERRUPTED_RATE

    def tell(self, event: Event) -> None:
        """Tell `event`, make it happen, and perhaps ask a question."""
        after_question = bool(self.questions) and self.questions[-1].position == len(self.events)
        link = after_question and event.verb not in SILENT
        self.sentences.append(tell(self.rng, event, link))
        self.plot.note(event)
        self.world.apply(event)
        self.events.append(event)
        if self.interrupted and event.verb not in SILENT and self.rng.random() < QUESTION_RATE:
            self.ask()

    def ask(self) -> None:
        """Ask one question about the present state; seldom a two-step one whose answer is the place
        named last, because guessing that takes no steps at all.
        """
        last = next(event.place for event in reversed(self.events) if event.place)
        question = self.draw()
        if question.hops == 2 and question.answer == the(last):
            question = self.draw()
        if question not in self.questions:
            self.questions.append(question)

    def draw(self) -> Question:
        return draw_question(self.rng, self.cast, self.world, len(self.events))

    def write(self, n_events: int) -> str:
        """Write the whole story and return its ending."""
        for event in self.plot.opening():
            self.tell(event)
        end = len(self.events) + n_events
        while len(self.events) < end:
            for event in self.plot.errand():
                self.tell(event)
        hero = self.cast.people[0]
        ending = "happy" if self.world.things(hero) else "sad"
        self.tell(Event(ending, hero))
        for _ in range(CLOSING_QUESTIONS if self.interrupted else ALL_QUESTIONS):
            self.ask()
        return ending


def write_story(index: int, split: str = "train", level: str = "base", seed: int = 0) -> Story:
    """Write story number `index` of the endless sequence that (split, level, seed) names."""
    rng = Random(f"{split}/{level}/{seed}/{index}")
    writer = Writer(rng, split)
    ending = writer.write(rng.randint(*LEVELS[level]))
    return Story(
        tuple(writer.sentences),
        tuple(writer.events),
        tuple(writer.questions),
        writer.cast,
        ending,
        level,
        split,
    )


def stories(
    n: int | None = None,
    *,
    split: str = "train",
    level: str = "base",
    seed: int = 0,
    start: int = 0,
) -> Iterator[Story]:
    """Yield `n` stories (None: endlessly) from number `start` on; one seed always gives the same.

    No training story has a held-out pair of a person and a thing; every test story has at least
    one. Raises ValueError for an unknown split or level.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    if level not in LEVELS:
        raise ValueError(f"unknown level {level!r}; choose one of {', '.join(LEVELS)}")
    for index in count(start) if n is None else range(start, start + n):
        yield write_story(index, split, level, seed)
