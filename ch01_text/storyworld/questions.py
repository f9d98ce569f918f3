"""Questions whose answers follow from what has been told, drawn such that cheap shortcuts fail.

A candidate whose answer a reader could guess from the names alone (the last-mentioned place, the
last mover, the names next to the asked name) is kept only now and then, as is a question asked
before whose answer has not changed. Left out: measuring that, which `shortcuts` does from the
finished text.
"""

from dataclasses import dataclass
from random import Random

from ch01_text.storyworld.casting import Cast, pick
from ch01_text.storyworld.levels import Level
from ch01_text.storyworld.narration import Heard
from ch01_text.storyworld.words import CONTAINERS, KIND, PLACES, PRONOUNS, the
from ch01_text.storyworld.world import World

MAIN_KINDS = ("where-person", "where-object", "who-has", "what-has")
KINDS = (
    *MAIN_KINDS,
    "before",
    "with",
    "yes-no",
    "count",
    "feel",
    "why",
    "wants",
    "inside",
    "unknown",
)
UNKNOWN = "nobody knows"
NUMBERS = ("none", "one", "two", "three", "four", "five")
# How often a candidate is kept whose answer a shortcut gives, has not changed, or is
# "nobody"/"nothing".
LURE_RATES = {
    "where-person": 0.2,
    "where-object": 0.06,
    "who-has": 0.035,
    "what-has": 0.25,
    "before": 0.2,
}
LURE_RATE, SAME_AGAIN_RATE, NOBODY_RATE = 0.2, 0.05, 0.04
TRIES, TRIES_A_KIND = 40, 8
PERSON, PLACE, THING = 0, 1, 2  # what `Heard` holds at each index
ANSWER_TYPE = {
    "where-person": PLACE,
    "where-object": PLACE,
    "before": PLACE,
    "who-has": PERSON,
    "with": PERSON,
    "what-has": THING,
    "inside": THING,
}


@dataclass(frozen=True)
class Question:
    """A question with its only right answer.

    `hops`: the told facts to chain; `position`: the characters of the story's prose told before it
    is asked; `about`: the people and things that it asks about.
    """

    text: str
    answer: str
    kind: str
    hops: int
    position: int
    about: tuple[str, ...]


# text, answer (nouns without "the"), hops, whom or what it is about
Draft = tuple[str, str, int, str]


class Interviewer:
    """Asks about one world while it changes."""

    def __init__(self, rng: Random, cast: Cast, world: World, heard: Heard, level: Level):
        self.rng, self.random = rng, rng.random
        self.cast, self.world, self.where, self.heard = cast, world, world.where, heard
        self.things = (*cast.things, cast.container) if cast.container else cast.things
        self.level = level
        # the newest answer to a question, and where it was
        self.asked: dict[str, tuple[str, int]] = {}
        self.drafts = {kind: getattr(self, "draft_" + kind.replace("-", "_")) for kind in KINDS}

    def ask(self, position: int) -> Question | None:
        """Draw a question; None where none of several candidates will do."""
        rejected: set[str] = set()
        for attempt in range(TRIES):
            if attempt % TRIES_A_KIND == 0:
                kind = pick(self.rng, self.level.kinds)
            draft = self.drafts[kind]()
            if draft is None or draft[0] in rejected:
                continue
            text, answer, hops, about = draft
            known, when = self.asked.get(text, ("", -1))
            keeps = when < position and self.random() < self.chance(
                kind, answer, about, answer == known
            )
            if hops > self.level.max_hops or not keeps:
                rejected.add(text)
                continue
            self.asked[text] = answer, position
            phrase = the(answer) if answer in PLACES or answer in KIND else answer
            return Question(text, phrase, kind, hops, position, (about,))
        return None

    def chance(self, kind: str, answer: str, about: str, again: bool) -> float:
        """Return how often such a candidate is asked; `again`: it was, with the same answer."""
        rate = SAME_AGAIN_RATE if again else 1.0
        if answer in ("nobody", "nothing"):
            rate *= NOBODY_RATE * self.level.lures
        if kind in ANSWER_TYPE and answer in self.lures(kind, about):
            rate *= LURE_RATES.get(kind, LURE_RATE) * self.level.lures
        return rate

    def lures(self, kind: str, about: str) -> tuple[str, ...]:
        """List the answers that shortcuts would give."""
        wanted, heard = ANSWER_TYPE[kind], self.heard
        mover, destination = (
            self.world.newest_told_move if self.level.joined else self.world.newest_move
        )
        lures = (heard.last[wanted], heard.first[about][wanted], (mover, destination, "")[wanted])
        return lures if kind == "where-person" else (*lures, heard.near[about][wanted])

    # The kinds: each drafts one candidate, or None where it would not have exactly one right answer

    def person(self) -> str:
        return pick(self.rng, self.cast.people)

    def thing(self) -> str:
        return pick(self.rng, self.things)

    def draft_where_person(self) -> Draft | None:
        person = self.person()
        return f"Where is {person}?", self.where[person], self.world.hops(person), person

    def draft_where_object(self) -> Draft | None:
        thing = self.thing()
        place = self.world.place(thing)
        return (f"Where is the {thing}?", place, self.world.hops(thing), thing) if place else None

    def draft_who_has(self) -> Draft | None:
        thing = self.thing()
        at = self.where[thing]
        holder = self.world.holder(thing)
        return (
            f"Who has the {thing}?",
            holder or "nobody",
            2 if at in CONTAINERS and holder else 1,
            thing,
        )

    def draft_what_has(self) -> Draft | None:
        person = self.person()
        things = self.world.inside(person)
        if len(things) > 1 or any(self.world.inside(thing) for thing in things):
            return None
        return f"What does {person} have?", things[0] if things else "nothing", 1, person

    def draft_before(self) -> Draft | None:
        person = self.person()
        visited = self.world.visited[person]
        if len(visited) < 2:
            return None
        index = 1 + int(self.random() * (len(visited) - 1))
        if visited.count(visited[index]) > 1:
            return None
        return f"Where was {person} before {the(visited[index])}?", visited[index - 1], 2, person

    def draft_with(self) -> Draft | None:
        person = self.person()
        others = [one for one in self.world.people(self.where[person]) if one != person]
        if len(others) > 1 or self.cast.missing:
            return None
        return f"Who is with {person}?", others[0] if others else "nobody", 2, person

    def draft_yes_no(self) -> Draft | None:
        person = self.person()
        place, visited = self.where[person], self.world.visited[person]
        right = self.random() < 0.5
        asked = (
            place if right else pick(self.rng, visited if self.random() < 0.5 else self.cast.places)
        )
        if (asked == place) is not right:
            return None
        text = f"Is {person} {PLACES[asked]} the {asked}?"
        return text, "yes" if right else "no", self.world.hops(person), person

    def draft_count(self) -> Draft | None:
        person = self.person()
        things = self.world.inside(person)
        if any(self.world.inside(thing) for thing in things) or (
            not things and self.random() < 0.7
        ):
            return None
        return (
            f"How many things does {person} have?",
            NUMBERS[len(things)],
            max(1, len(things)),
            person,
        )

    def draft_feel(self) -> Draft | None:
        person = self.person()
        felt = self.world.feels.get(person)
        return (f"How does {person} feel?", felt.feeling, 1, person) if felt else None

    def draft_why(self) -> Draft | None:
        person = self.person()
        felt = self.world.feels.get(person)
        return (
            (f"Why is {person} {felt.feeling}?", self.world.reason(person), 1, person)
            if felt
            else None
        )

    def draft_wants(self) -> Draft | None:
        person = self.cast.people[0]
        wish = self.world.wishes.get(person)
        if not wish or not wish.object or wish.place:
            return None
        if self.random() < 0.5:
            return f"What does {person} want?", wish.object, 1, person
        return f"Who wants the {wish.object}?", person, 1, wish.object

    def draft_inside(self) -> Draft | None:
        box = self.cast.container
        things = self.world.inside(box) if box else []
        if not box or len(things) > 1:
            return None
        return f"What is in the {box}?", things[0] if things else "nothing", 1, box

    def draft_unknown(self) -> Draft | None:
        entity = self.cast.missing if self.cast.missing and self.random() < 0.5 else self.thing()
        if self.world.place(entity):
            return None
        return f"Where is {entity if entity in PRONOUNS else the(entity)}?", UNKNOWN, 1, entity
