"""The true state of a story: who is where, and who has what.

A world knows events and their consequences only. `plot` decides which events happen, and `phrases`
how they are told. One dictionary holds all positions: a person is at a place, and a thing is at a
place or with a person.
"""

from typing import NamedTuple

from ch01_text.storyworld.words import PEOPLE, PLACES


class Event(NamedTuple):
    """What one sentence of a story tells.

    start(actor, place): the actor is there to begin with; lie(thing, place); own(actor, thing);
    move(actor, place); take(actor, thing): it lies where the actor is; give(actor, thing, other);
    drop(actor, thing, place): the actor leaves it there.
    These change nothing: wish(actor); weather(); happy(actor) and sad(actor) at the end.
    """

    verb: str
    actor: str = ""
    thing: str = ""
    place: str = ""
    other: str = ""


class World:
    """The positions of everybody and everything, changed only by `apply`.

    >>> world = World()
    >>> for event in (Event("start", "Tom", place="mill"), Event("own", "Tom", "kite"),
    ...               Event("move", "Tom", place="lake")):
    ...     world.apply(event)
    >>> world.holder("kite"), world.place("kite"), world.hops("kite")
    ('Tom', 'lake', 2)
    """

    def __init__(self):
        self.where: dict[str, str] = {}

    def apply(self, event: Event) -> None:
        """Make `event` happen. The caller ensures that it can."""
        verb, actor, thing, place, other = event
        if verb in ("start", "move"):
            self.where[actor] = place
        elif verb in ("lie", "drop"):
            self.where[thing] = place
        elif verb in ("own", "take"):
            self.where[thing] = actor
        elif verb == "give":
            self.where[thing] = other

    def place(self, one: str) -> str:
        """Return the place of a person or a thing."""
        at = self.where[one]
        return at if at in PLACES else self.where[at]

    def holder(self, thing: str) -> str:
        """Return who has `thing`, or "" if it lies somewhere."""
        at = self.where[thing]
        return at if at in PEOPLE else ""

    def hops(self, one: str) -> int:
        """Return how many facts lead to the place of `one`: 2 for a thing that somebody has."""
        return 1 if self.where[one] in PLACES else 2

    def people(self, place: str) -> list[str]:
        """List who is at `place`."""
        return [one for one, spot in self.where.items() if spot == place and one in PEOPLE]

    def things(self, spot: str) -> list[str]:
        """List what lies at the place `spot`, or what the person `spot` has."""
        return [one for one, at in self.where.items() if at == spot and one not in PEOPLE]
