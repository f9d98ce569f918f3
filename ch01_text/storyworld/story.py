"""A finished story, and the format of its questions."""

from dataclasses import dataclass

from ch01_text.storyworld.casting import Cast
from ch01_text.storyworld.questions import Question
from ch01_text.storyworld.world import Event, World


def question_lines(question: str, answer: str | None = None) -> str:
    """Format a question; without an answer it ends in "A:", and the answer is to start with a
    space.
    """
    return f"Q: {question}\nA:" + ("" if answer is None else f" {answer}\n")


@dataclass(frozen=True)
class Story:
    """One story, what truly happens in it, and questions about it.

    `text`: the prose with the questions where they are asked, for pretraining; `prose`: the
    sentences alone, on one line; `closing`: the characters of prose before the end is told, so that
    `prose[:closing]` decides the `ending` ("happy" or "sad") by what happened, not by how it is
    said.
    """

    text: str
    prose: str
    sentences: tuple[str, ...]
    questions: tuple[Question, ...]
    events: tuple[Event, ...]
    ending: str
    closing: int
    level: str
    split: str
    cast: Cast

    def prompt(self, question: Question) -> str:
        """Return the prose told up to `question` and the question, ready for the answer (after
        "A:").
        """
        return f"{self.prose[: question.position]}\n{question_lines(question.text)}"

    def told(self, question: Question) -> tuple[str, ...]:
        """Return the sentences told before `question`."""
        end = 0
        for number, sentence in enumerate(self.sentences):
            if end >= question.position:
                return self.sentences[:number]
            end += len(sentence) + (number > 0)
        return self.sentences

    def world(self, question: Question | None = None) -> World:
        """Return the true state where `question` is asked, or at the end."""
        told, world = len(self.told(question) if question else self.sentences), World()
        for event in self.events:
            if event.sentence < told:
                world.apply(event)
        return world
