"""Writes stories: the plot is told, questions are asked on the way.

Story i is a function of (split, level, seed, i) and of nothing else, so that any part of the
endless sequence can be made anywhere, in any order.
"""

from collections.abc import Iterator
from itertools import count
from random import Random

from ch01_text.storyworld.beats import Step
from ch01_text.storyworld.casting import draw_cast, pick
from ch01_text.storyworld.levels import LEVELS, Level
from ch01_text.storyworld.narration import Narrator
from ch01_text.storyworld.plot import Plot
from ch01_text.storyworld.questions import Interviewer, Question
from ch01_text.storyworld.scenery import WEATHERS
from ch01_text.storyworld.steps import draw_steps
from ch01_text.storyworld.story import Story, question_lines
from ch01_text.storyworld.words import APART, ROLES
from ch01_text.storyworld.world import World, because

SPLITS = ("train", "test")
# Chances: of scenery after a beat, of naming the hero's trade, of all questions at the end.
SCENE_RATE, ROLE_RATE, LATE_RATE = 0.06, 0.35, 0.3
CHANGES = frozenset(("move", "join", "take", "find", "drop", "put", "give", "lose"))
START_KEYS = ("start", "start_own")


class Writer:
    """Writes one story: tells steps, applies them to the world, asks on the way."""

    def __init__(self, rng: Random, level: Level, split: str):
        self.rng, self.random, self.level = rng, rng.random, level
        sizes = [self.between(pair) for pair in (level.people, level.things, level.places)]
        self.cast = draw_cast(rng, *sizes, level.container, split)
        self.world = World()
        self.plot = Plot(rng, self.cast, self.world)
        self.narrator = Narrator(rng, self.cast.adjectives)
        self.interviewer = Interviewer(rng, self.cast, self.world, self.narrator.heard, level)
        self.weather = pick(rng, WEATHERS)
        self.late = rng.random() < LATE_RATE  # all questions at the end
        self.due = rng.random()  # questions to ask
        self.chunks: list[str] = []  # the text so far
        self.flushed = 0  # how many sentences are in it
        self.length = -1  # their characters, with spaces between
        self.questions: list[Question] = []

    def between(self, pair: tuple[int, int]) -> int:
        return pair[0] + int(self.random() * (pair[1] - pair[0] + 1))

    def tell(self, step: Step, fresh: bool = False) -> None:
        """Tell one step and make it happen."""
        key, events = step
        world, first = self.world, events[0]
        origin = world.where[first.actor] if key == "move" else ""
        cause = first.cause % len(world.events) if first.verb == "feel" else -1
        reason = because(first, world.events[cause]) if key.endswith("_because") else ""
        title = ""
        if key in START_KEYS and first.actor == self.plot.hero and self.random() < ROLE_RATE:
            title = f" the {pick(self.rng, ROLES)}"
        number = len(self.narrator.sentences)
        self.narrator.tell(key, events, origin, reason, title, fresh)
        for event in events:
            world.apply(event._replace(sentence=number, cause=cause))
            self.plot.beats.note(event)

    def scene(self, sentences: tuple[str, ...]) -> None:
        """Tell a sentence in which nothing happens."""
        self.narrator.say(pick(self.rng, sentences))
        self.narrator.pause()

    def flush(self) -> None:
        """Move the sentences that wait into the text, as one line."""
        chunk = " ".join(self.narrator.sentences[self.flushed :])
        self.flushed = len(self.narrator.sentences)
        if chunk:
            self.chunks.append(chunk + "\n")
            self.length += len(chunk) + 1

    def ask(self, events: int) -> None:
        """Ask as many questions as are due after so many more events."""
        self.due += events * self.level.density
        if self.late or self.due < 1:
            return
        self.flush()
        while self.due >= 1:
            self.due -= 1
            question = self.interviewer.ask(self.length)
            if question:
                self.questions.append(question)
                if self.level.steps:
                    self.chunks.append(
                        draw_steps(self.random, question.kind, question.about[0], self.world)
                    )
                self.chunks.append(question_lines(question.text, question.answer))
                self.narrator.pause()

    def write(self) -> tuple[str, int]:
        """Write the story; return its ending and the characters of prose before the end is told."""
        plot, total = self.plot, self.between(self.level.events)
        self.scene(self.weather.openings)
        for step in plot.opening():
            self.tell(step)
        self.ask(1)
        done = 0
        while done < total or not self.world.wishes:
            steps = plot.beat(first=not done)
            for number, step in enumerate(steps):
                self.tell(step, fresh=not number and step[1][0].verb in CHANGES)
            changes = sum(event.verb in CHANGES for _, events in steps for event in events)
            done += changes
            self.ask(changes)
            if self.random() < SCENE_RATE:
                self.scene(self.weather.scenes)
        for step in plot.resolution():
            self.tell(step)
        self.ask(1)
        closing = sum(map(len, self.narrator.sentences)) + len(self.narrator.sentences) - 1
        for step in plot.closing():
            self.tell(step)
        self.scene(self.weather.closings)
        if self.late:
            self.late = False
            self.ask(0)
        self.flush()
        return plot.ending(), closing


def write_story(index: int, split: str = "train", level: str = "base", seed: int = 0) -> Story:
    """Write story number `index` of the endless sequence that (split, level, seed) names."""
    for attempt in count():
        writer = Writer(Random(f"{split}/{level}/{seed}/{index}/{attempt}"), LEVELS[level], split)
        ending, closing = writer.write()
        asked = {entity for question in writer.questions for entity in question.about}
        if writer.questions and (
            split == "train" or any(not APART[one].isdisjoint(asked) for one in asked)
        ):
            break
    sentences = tuple(writer.narrator.sentences)
    return Story(
        text="".join(writer.chunks),
        prose=" ".join(sentences),
        sentences=sentences,
        questions=tuple(writer.questions),
        events=tuple(writer.world.events),
        ending=ending,
        closing=closing,
        level=level,
        split=split,
        cast=writer.cast,
    )


def stories(
    n: int | None = None,
    *,
    split: str = "train",
    level: str = "base",
    seed: int = 0,
    start: int = 0,
) -> Iterator[Story]:
    """Yield `n` stories (None: without end) from number `start` on; the same seed gives the same
    stories.

    Training and test stories share no held-out pair of characters, or of a character and a thing
    (`held_out`): no training story has one, every test story asks about at least one. Raises
    ValueError for an unknown split or level.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    if level not in LEVELS:
        raise ValueError(f"unknown level {level!r}; choose one of {', '.join(LEVELS)}")
    for index in count(start) if n is None else range(start, start + n):
        yield write_story(index, split, level, seed)
