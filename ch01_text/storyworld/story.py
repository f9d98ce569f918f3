"""A finished story, the sizes that stories come in, and the format of a question."""

from dataclasses import dataclass

from ch01_text.storyworld.casting import Cast
from ch01_text.storyworld.questions import Question
from ch01_text.storyworld.world import Event


def _weighted(weights: str) -> tuple[str, ...]:
    """Repeat names by their weights: "why 2 feel 1" is ("why", "why", "feel")."""
    words = weights.split()
    return tuple(name for name, n in zip(words[::2], words[1::2], strict=True) for _ in range(int(n)))


KINDS = """where-person 22 where-object 44 who-has 40 what-has 12 before 6 with 5 yes-no 3 count 3 feel 4 why 5
    wants 1 unknown 6"""


@dataclass(frozen=True)
class Level:
    """How big a story is; the pairs are (at least, at most)."""

    people: tuple[int, int]
    things: tuple[int, int]
    places: tuple[int, int]
    events: tuple[int, int]  # between the opening and the resolution
    container: bool = False
    kinds: tuple[str, ...] = _weighted(KINDS)  # of questions, each as often as its weight
    max_hops: int = 3
    density: float = 0.6  # questions an event


LEVELS = {
    "short": Level((2, 3), (1, 2), (4, 5), (2, 4), max_hops=2, density=0.8),
    "base": Level((3, 4), (2, 3), (5, 6), (4, 6)),
    "long": Level((3, 4), (2, 3), (5, 6), (9, 13)),
    "hard": Level((3, 4), (2, 3), (5, 6), (6, 9), container=True, kinds=_weighted(KINDS + " inside 8"), max_hops=4),
}


def question_lines(question: str, answer: str | None = None) -> str:
    """Format a question; without an answer it ends in "A:", and the answer is to start with a space."""
    return f"Q: {question}\nA:" + ("" if answer is None else f" {answer}\n")


@dataclass(frozen=True)
class Story:
    """One story, what truly happens in it, and questions about it.

    `text`: the prose with the questions where they are asked, for pretraining; `prose`: the sentences
    alone, on one line; `closing`: the characters of prose before the end is told, so that
    `prose[:closing]` decides the `ending` ("happy" or "sad") by what happened, not by how it is said.
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
        """Return the prose told up to `question` and the question, ready for the answer (after "A:")."""
        return f"{self.prose[: question.position]}\n{question_lines(question.text)}"

    def told(self, question: Question) -> tuple[str, ...]:
        """Return the sentences told before `question`."""
        end = 0
        for number, sentence in enumerate(self.sentences):
            if end >= question.position:
                return self.sentences[:number]
            end += len(sentence) + (number > 0)
        return self.sentences
