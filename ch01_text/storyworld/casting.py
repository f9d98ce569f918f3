"""Who and what a story is about, drawn such that training and test stories share no held-out
pair.
"""

from dataclasses import dataclass
from random import Random

from ch01_text.storyworld.words import (
    ADJECTIVES,
    APART,
    CONTAINERS,
    KIND,
    PEOPLE,
    PLACE_NAMES,
    STARTS,
    THINGS,
)

PLAIN_THINGS = tuple(thing for thing in THINGS if KIND[thing] != "container")
MISSING_RATE = 0.04
CAN_BE_MISSED = tuple(name for name in PEOPLE if APART[name])


@dataclass(frozen=True)
class Cast:
    """The people (the hero first), the things with their adjectives and home places, the places."""

    people: tuple[str, ...]
    missing: str  # somebody of whom only the absence is told, or ""
    things: tuple[str, ...]
    container: str  # one more thing, or ""
    adjectives: dict[str, str]
    homes: dict[str, str]  # where a thing lies at the start, if nobody has it
    places: tuple[str, ...]


def pick(rng: Random, choices):
    """Draw one of `choices`, a sequence; several times as fast as `rng.choice`."""
    return choices[int(rng.random() * len(choices))]


def pick_apart(rng: Random, choices: tuple[str, ...], chosen: list[str], apart: bool) -> str:
    """Draw one of `choices` not in `chosen`, and, with `apart`, with no held-out partner there."""
    while True:
        one = pick(rng, choices)
        if one not in chosen and not (apart and not APART[one].isdisjoint(chosen)):
            return one


def draw_cast(
    rng: Random, n_people: int, n_things: int, n_places: int, container: bool, split: str
) -> Cast:
    """Draw a cast; "train": without any held-out pair, "test": with at least one."""
    train = split == "train"
    people: list[str] = []
    things: list[str] = []
    if not train:
        hero = pick(rng, PEOPLE)
        partner = pick(rng, tuple(sorted(APART[hero] - set(CONTAINERS))))
        people.append(hero)
        (things if partner in KIND else people).append(partner)
    while len(people) < n_people:
        people.append(pick_apart(rng, PEOPLE, people + things, train))
    while len(things) < n_things:
        things.append(pick_apart(rng, PLAIN_THINGS, people + things, train))
    missing = pick_apart(rng, PEOPLE, people + things, train) if rng.random() < MISSING_RATE else ""
    known = [*people, *things, missing]
    box = pick_apart(rng, CONTAINERS, known, train) if container else ""
    every_thing = (*things, box) if box else tuple(things)
    homes = {thing: pick(rng, STARTS[thing]) for thing in every_thing}
    places = list(dict.fromkeys(homes.values()))[: n_places - 1]
    while len(places) < n_places:
        place = pick(rng, PLACE_NAMES)
        if place not in places:
            places.append(place)
    rng.shuffle(things)
    adjectives = {thing: pick(rng, ADJECTIVES[thing]) for thing in every_thing}
    return Cast(tuple(people), missing, tuple(things), box, adjectives, homes, tuple(places))
