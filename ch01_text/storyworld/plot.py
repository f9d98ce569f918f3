"""What happens in a story: an opening with a wish, a chain of small errands, and an ending.

The hero wants to bring something home. Meanwhile everybody walks about, fetches things, shares them
and leaves them lying. The ending is happy if the hero has something when the story ends. An errand
is one or two events of one person that can happen and make sense: nobody walks straight back, gives
a present back at once, or leaves a thing where it was just taken.
"""

from dataclasses import dataclass
from random import Random

from ch01_text.storyworld.words import HELD_OUT_PAIRS, PEOPLE, PLACES, THINGS, held_out
from ch01_text.storyworld.world import Event, World

PEOPLE_IN_A_STORY, THINGS_IN_A_STORY = (2, 4), (1, 3)  # at least and at most
N_PLACES = 5
OWNED_RATE = 0.65  # chance that somebody has a thing at the start; otherwise it lies somewhere
TOGETHER_RATE = 0.8  # chance that the first two people start at the same place
# How often each errand is tried.
ERRANDS = {"wander": 3, "fetch": 4, "pick_up": 3, "deliver": 4, "hand_over": 3, "leave": 2}


@dataclass(frozen=True)
class Cast:
    """Who and what a story is about. The first person is the hero."""

    people: tuple[str, ...]
    stranger: str  # somebody who is asked about and never mentioned
    things: tuple[str, ...]
    places: tuple[str, ...]


def draw_cast(rng: Random, split: str) -> Cast:
    """Draw a cast without any held-out pair ("train"), or one whose hero and thing are such a pair
    ("test").
    """
    n_people, n_things = rng.randint(*PEOPLE_IN_A_STORY), rng.randint(*THINGS_IN_A_STORY)
    places = tuple(rng.sample(tuple(PLACES), N_PLACES))
    while True:
        people, things = rng.sample(PEOPLE, n_people + 1), rng.sample(THINGS, n_things)
        if split == "test":
            people[0], things[0] = rng.choice(HELD_OUT_PAIRS)
            fits = len({*people}) > n_people and len({*things}) == n_things
        else:
            fits = not any(held_out(person, thing) for person in people for thing in things)
        if fits:
            return Cast(tuple(people[:-1]), people[-1], tuple(things), places)


class Plot:
    """Proposes events that suit the state of `world`; the caller applies them one by one."""

    def __init__(self, rng: Random, cast: Cast, world: World):
        self.rng, self.cast, self.world = rng, cast, world
        # the place that it would be silly to go back to, and the person or place a thing came from
        self.came_from = dict.fromkeys(cast.people, "")
        self.got_from = dict.fromkeys(cast.things, "")

    def opening(self) -> list[Event]:
        """Say where everybody and everything is, and what the hero wishes."""
        rng, cast = self.rng, self.cast
        places = rng.sample(cast.places, len(cast.people))
        if rng.random() < TOGETHER_RATE:
            places[1] = places[0]
        starts = [
            Event("start", person, place=place)
            for person, place in zip(cast.people, places, strict=True)
        ]
        things = [
            Event("own", rng.choice(cast.people), thing)
            if rng.random() < OWNED_RATE
            else Event("lie", "", thing, rng.choice(cast.places))
            for thing in cast.things
        ]
        return [
            Event("weather"),
            *rng.sample(starts, len(starts)),
            *rng.sample(things, len(things)),
            Event("wish", cast.people[0]),
        ]

    def errand(self) -> list[Event]:
        """Draw what happens next."""
        names, weights = tuple(ERRANDS), tuple(ERRANDS.values())
        while True:
            name = self.rng.choices(names, weights)[0]
            if events := getattr(self, name)(self.rng.choice(self.cast.people)):
                return events

    def note(self, event: Event) -> None:
        """Remember, before `event` is applied, what would look silly next."""
        verb, actor, thing, _, other = event
        for person in filter(None, (actor, other)):
            self.came_from[person] = self.world.where.get(person, "") if verb == "move" else ""
        if verb == "take":
            self.got_from[thing] = self.world.where[thing]
        elif verb in ("give", "drop"):
            self.got_from[thing] = actor

    # What is around a person

    def held(self, person: str) -> list[str]:
        return self.world.things(person)

    def lying(self, person: str) -> list[str]:
        """List the things that lie somewhere and were not left there by `person`."""
        return [
            thing
            for thing in self.cast.things
            if not self.world.holder(thing) and self.got_from[thing] != person
        ]

    def walk(self, person: str, place: str) -> Event:
        return Event("move", person, place=place)

    def approach(self, giver: str, taker: str) -> list[Event]:
        """Bring `giver` to `taker`, if they are not at the same place."""
        place = self.world.where[taker]
        return [] if self.world.where[giver] == place else [self.walk(giver, place)]

    def destination(self, person: str) -> str:
        """Draw a place where `person` neither is nor has just been."""
        avoided = (self.world.where[person], self.came_from[person])
        return self.rng.choice([place for place in self.cast.places if place not in avoided])

    # The errands; an empty list where one is impossible

    def wander(self, person: str) -> list[Event]:
        return [self.walk(person, self.destination(person))]

    def fetch(self, person: str) -> list[Event]:
        where = self.world.where
        avoided = (where[person], self.came_from[person])
        things = [thing for thing in self.lying(person) if where[thing] not in avoided]
        if not things:
            return []
        thing = self.rng.choice(things)
        return [self.walk(person, where[thing]), Event("take", person, thing)]

    def pick_up(self, person: str) -> list[Event]:
        where = self.world.where
        things = [thing for thing in self.lying(person) if where[thing] == where[person]]
        return [Event("take", person, self.rng.choice(things))] if things else []

    def deliver(self, person: str) -> list[Event]:
        avoided = (self.world.where[person], self.came_from[person])
        return self.give(
            person, [p for p in self.cast.people if self.world.where[p] not in avoided]
        )

    def hand_over(self, person: str) -> list[Event]:
        return self.give(person, self.world.people(self.world.where[person]))

    def give(self, person: str, people: list[str]) -> list[Event]:
        """Let `person` bring something to one of `people`, but not back to the giver."""
        pairs = [
            (thing, taker)
            for thing in self.held(person)
            for taker in people
            if taker not in (person, self.got_from[thing])
        ]
        if not pairs:
            return []
        thing, taker = self.rng.choice(pairs)
        return [*self.approach(person, taker), Event("give", person, thing, "", taker)]

    def leave(self, person: str) -> list[Event]:
        """Let `person` leave a thing somewhere else than where it was taken."""
        here = self.world.where[person]
        things = [thing for thing in self.held(person) if self.got_from[thing] != here]
        return [Event("drop", person, self.rng.choice(things), here)] if things else []
