"""Questions whose answers follow from what has been told.

Everybody and everything in a story is asked about alike, so that a rule that does not read the name
in the question (the last place mentioned, the most frequent answer) is mostly wrong.
"""

from dataclasses import dataclass
from random import Random

from ch01_text.storyworld.plot import Cast
from ch01_text.storyworld.words import PEOPLE, the
from ch01_text.storyworld.world import World

KINDS = ("where-person", "who-has", "where-thing", "unknown")
RATES = (0.32, 0.37, 0.28, 0.03)  # how often each kind is asked
NOBODY_RATE = 0.1  # how often "Who has ...?" is asked about a thing that nobody has
UNKNOWN, NOBODY = "nobody knows", "nobody"


@dataclass(frozen=True)
class Question:
    """A question with its only right answer.

    `about`: the person or thing in the question; `hops`: how many facts lead to the answer;
    `position`: how many sentences were told before it is asked.
    """

    text: str
    answer: str
    kind: str
    about: str
    hops: int
    position: int


def question_lines(question: str, answer: str | None = None) -> str:
    """Format a question as the stories do; without an answer it ends in "A:".

    >>> question_lines("Where is Tom?", "the mill")
    'Q: Where is Tom?\\nA: the mill\\n'
    """
    return f"Q: {question}\nA:" + ("" if answer is None else f" {answer}\n")


def where_is(one: str) -> str:
    """Ask for the place of a person or a thing.

    >>> where_is("Tom"), where_is("kite")
    ('Where is Tom?', 'Where is the kite?')
    """
    return f"Where is {one if one in PEOPLE else the(one)}?"


def who_has(thing: str) -> str:
    """Ask for the holder of a thing."""
    return f"Who has {the(thing)}?"


def small_questions(thing: str, world: World) -> list[tuple[str, str]]:
    """The one-step questions, each with its answer, that lead to the place of a thing that somebody
    has (self-ask, Press et al. 2022); none if it lies somewhere.

    >>> from ch01_text.storyworld.world import Event
    >>> world = World()
    >>> world.apply(Event("start", "Tom", place="mill"))
    >>> world.apply(Event("own", "Tom", "kite"))
    >>> small_questions("kite", world)
    [('Who has the kite?', 'Tom'), ('Where is Tom?', 'the mill')]
    """
    holder = world.holder(thing)
    if not holder:
        return []
    return [(who_has(thing), holder), (where_is(holder), the(world.place(holder)))]


def draw_question(rng: Random, cast: Cast, world: World, position: int) -> Question:
    """Draw a question about the present state of the world, or about somebody it does not know."""
    people = sorted(one for one in world.where if one in PEOPLE)
    held: list[str] = []
    lying: list[str] = []
    for one, spot in sorted(world.where.items()):
        if one not in PEOPLE:
            (held if spot in PEOPLE else lying).append(one)
    kind = rng.choices(KINDS, RATES)[0]
    if kind == "unknown":
        return Question(where_is(cast.stranger), UNKNOWN, kind, cast.stranger, 1, position)
    things = held + lying
    if kind == "who-has":
        things = lying if rng.random() < NOBODY_RATE else held
    if kind == "where-person" or not things:
        one = rng.choice(people)
        return Question(where_is(one), the(world.place(one)), "where-person", one, 1, position)
    one = rng.choice(things)
    if kind == "who-has":
        return Question(who_has(one), world.holder(one) or NOBODY, kind, one, 1, position)
    return Question(where_is(one), the(world.place(one)), kind, one, world.hops(one), position)
