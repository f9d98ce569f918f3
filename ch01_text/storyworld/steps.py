"""Small questions, each of one look-up, that lead to the answer of a larger one.

"Nora joined Tom." Where is she? Where did Nora go: Tom. Where was Tom then: the mill. Who asks so
(self-ask, Press et al. 2022) never has to find two things at once. Left out: the larger question
itself, which stands behind its steps.
"""

from collections.abc import Callable

from ch01_text.storyworld.questions import UNKNOWN
from ch01_text.storyworld.story import question_lines
from ch01_text.storyworld.words import PRONOUNS, the
from ch01_text.storyworld.world import World

PLACE_KINDS = ("where-person", "with", "yes-no")  # of questions that need the place of a person
# how often texts to learn from ask the small questions first
ONE_STEP_RATE, MORE_STEPS_RATE = 0.4, 0.8


def small_questions(kind: str, about: str, world: World) -> list[tuple[str, str]]:
    """The steps to what a question of `kind` asks about a person or thing, each with its answer;
    none for other kinds.

    >>> from ch01_text.storyworld.world import Event
    >>> world = World()
    >>> for event in (Event("start", "Tom", place="mill"), Event("start", "Nora", place="lake"),
    ...               Event("own", "Nora", "ring"), Event("join", "Nora", other="Tom")):
    ...     world.apply(event)
    >>> small_questions("where-person", "Nora", world)
    [('Where did Nora go?', 'Tom'), ('Where was Tom then?', 'the mill')]
    >>> small_questions("where-object", "ring", world)[0]
    ('Who has the ring?', 'Nora')
    """
    if kind == "unknown":
        kind = "where-person" if about in PRONOUNS else "where-object"
    if kind == "where-object":
        holder = world.holder(about)
        first = (
            f"Who has {the(about)}?",
            holder or ("nobody" if about in world.where else UNKNOWN),
        )
        return [first, *small_questions("where-person", holder, world)] if holder else [first]
    if kind not in PLACE_KINDS:
        return []
    place, asked = world.place(about), f"Where did {about} go?"
    if not place:
        return [(asked, UNKNOWN)]
    newest = next(
        event
        for event in reversed(world.events)
        if event.actor == about and event.verb in ("start", "move", "join")
    )
    if newest.verb != "join":
        return [(asked, the(place))]
    return [(asked, newest.other), (f"Where was {newest.other} then?", the(place))]


def draw_steps(random: Callable[[], float], kind: str, about: str, world: World) -> str:
    """The lines of the small questions, or sometimes none, so that a reader learns both ways."""
    steps = small_questions(kind, about, world)
    rate = MORE_STEPS_RATE if len(steps) > 1 else ONE_STEP_RATE
    return "".join(question_lines(*step) for step in steps) if random() < rate else ""
