"""The true state of the village: who is where, who has what, who feels what, and why.

The world knows events and their consequences only; which events happen is decided in `plot`, how
they sound in `phrases`. One dictionary, `where`, holds all positions: a person is at a place; a
thing is at a place, with a person or in a container; "" is a position that the story does not tell.
"""

from typing import NamedTuple

from ch01_text.storyworld.words import PLACES, PRONOUNS, the

# old feelings end with these
STIRRING = frozenset(("give", "take", "find", "lose", "meet", "refuse"))
PAST = {"take": "got", "find": "found", "lose": "lost"}


class Event(NamedTuple):
    """Something that the story tells, in the sentence with number `sentence`.

    Verbs and their fields; what is told but not a field follows from earlier events:
    start(actor, place), own(actor, object), lie(object, place), missing(actor);
    move(actor, place[, object carried]), join(actor, other): actor goes to wherever other is;
    take(actor, object[, place][, other: the container it was in]), find(actor, object, place);
    drop(actor, object[, place]), put(actor, object, other: the container);
    give(actor, object, other), lose(actor, object); wish(actor, object | other | object and place);
    feel(actor, feeling, cause: index of an event); and what changes nothing: meet(actor, other),
    refuse(actor asks other in vain for object), ask(actor, other), wonder(actor, object),
    admire(actor, object), mention(actor, place).
    """

    verb: str
    actor: str = ""
    object: str = ""
    place: str = ""
    other: str = ""
    feeling: str = ""
    cause: int = -1
    sentence: int = -1


class World:
    """All positions, feelings and wishes, changed by `apply` and nothing else."""

    def __init__(self):
        self.where: dict[str, str] = {}
        self.links: dict[str, int] = {}  # how many told facts one step of `where` rests on
        self.visited: dict[str, list[str]] = {}
        self.feels: dict[str, Event] = {}
        self.wishes: dict[str, Event] = {}
        self.newest_move = ("", "")  # who went where
        self.newest_told_move = ("", "")  # the newest that names the place
        self.events: list[Event] = []

    def place(self, entity: str) -> str:
        """Follow holders and containers to a place; "" where the story does not tell it."""
        while entity and entity not in PLACES:
            entity = self.where.get(entity, "")
        return entity

    def holder(self, thing: str) -> str:
        """Return the person who has `thing`, in the hands or in a container; "" for nobody."""
        while thing and thing not in PRONOUNS and thing not in PLACES:
            thing = self.where.get(thing, "")
        return thing if thing in PRONOUNS else ""

    def inside(self, spot: str) -> list[str]:
        """List the things directly with the person, in the container or at the place `spot`."""
        return [
            entity for entity, at in self.where.items() if at == spot and entity not in PRONOUNS
        ]

    def people(self, place: str) -> list[str]:
        """List who is at `place`."""
        return [entity for entity, at in self.where.items() if at == place and entity in PRONOUNS]

    def hops(self, entity: str) -> int:
        """Count the told facts that must be chained to know the place of `entity`."""
        count = 0
        while entity and entity not in PLACES:
            count += self.links[entity]
            entity = self.where[entity]
        return count

    def _put(self, entity: str, spot: str, links: int = 1) -> None:
        self.where[entity], self.links[entity] = spot, links
        if entity in PRONOUNS:
            self.visited.setdefault(entity, []).append(spot)

    def apply(self, event: Event) -> None:
        """Make `event` happen. The caller sees to it that it can."""
        verb, actor, thing, place, other = event[:5]
        self.events.append(event)
        if verb in ("start", "move"):
            self._put(actor, place)
            if verb == "move":
                self.newest_move = self.newest_told_move = (actor, place)
        elif verb == "join":
            self._put(actor, self.where[other], 1 + self.hops(other))
            self.newest_move = (actor, self.where[other])
        elif verb in ("own", "take", "find"):
            self._put(thing, actor)
        elif verb == "lie":
            self._put(thing, place)
        elif verb == "drop":
            self._put(thing, self.where[actor], 1 if place else 1 + self.hops(actor))
        elif verb in ("give", "put"):
            self._put(thing, other)
        elif verb == "missing":
            self._put(actor, "")
        elif verb == "lose":
            self._put(thing, "")
        if verb in STIRRING:
            self.feels.pop(actor, None)
            self.feels.pop(other, None)
        elif verb == "feel":
            self.feels[actor] = event
        elif verb == "wish":
            self.wishes[actor] = event

    def reason(self, person: str) -> str:
        """Say why `person` feels so, as an answer: "because he lost the kite"."""
        felt = self.feels[person]
        return because(felt, self.events[felt.cause])


def because(felt: Event, cause: Event) -> str:
    """Say, about whoever feels so, that `cause` happened; a wish: that it came true, or did not."""
    person = felt.actor
    he, him, _ = PRONOUNS[person]
    verb, actor, thing, place, other = cause[:5]
    x = the(thing)
    if verb == "wish" and felt.feeling == "happy":
        return f"because {he} brought {x} to {the(place)}"
    if verb == "wish":
        missed = f"meet {other}" if other else f"bring {x} to {the(place)}" if place else f"get {x}"
        return f"because {he} did not {missed}"
    if verb == "give":
        return f"because {actor} gave {him} {x}"
    if verb == "refuse":
        return f"because {other} kept {x}"
    if verb == "meet":
        return f"because {he} met {other if person == actor else actor}"
    return f"because {he} {PAST[verb]} {x}"
