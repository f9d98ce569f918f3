"""A finished story: its sentences, its events, and the questions about it."""

from dataclasses import dataclass

from ch01_text.storyworld.plot import Cast
from ch01_text.storyworld.questions import Question, question_lines
from ch01_text.storyworld.world import Event, World


@dataclass(frozen=True)
class Story:
    """One story. Sentence i tells event i.

    `ending` is "happy" if the hero has something in the end, else "sad". The last sentence
    tells it.
    """

    sentences: tuple[str, ...]
    events: tuple[Event, ...]
    questions: tuple[Question, ...]
    cast: Cast
    ending: str
    level: str
    split: str

    @property
    def prose(self) -> str:
        """The sentences alone, on one line."""
        return " ".join(self.sentences)

    @property
    def text(self) -> str:
        """The story with its questions and answers, each where it is asked."""
        chunks, told = [], 0
        for question in self.questions:
            if question.position > told:
                chunks.append(" ".join(self.sentences[told : question.position]) + "\n")
                told = question.position
            chunks.append(question_lines(question.text, question.answer))
        return "".join(chunks) + " ".join(self.sentences[told:])

    def told(self, question: Question) -> str:
        """Return the prose told before `question`."""
        return " ".join(self.sentences[: question.position])

    def prompt(self, question: Question) -> str:
        """Return the prose told before `question`, and the question, ready for the answer."""
        return f"{self.told(question)}\n{question_lines(question.text)}"

    def world(self, question: Question | None = None) -> World:
        """Return the true state where `question` is asked, or at the end."""
        world = World()
        for event in self.events[: question.position if question else None]:
            world.apply(event)
        return world
