"""The village's people, places and things, and which of them never share a training story.

Every name occurs in the training stories: a model trained from scratch has no embedding for a name
that it has never read. What is new in the test stories is the pairs. A stable hash keeps a tenth of
all pairs of a person and a thing out of the training stories.
"""

from zlib import crc32

PEOPLE = tuple(
    """Anna Emma Freya Ines Lucy Maya Mia Nora Priya Zara
    Ben Finn Hugo Jan Kofi Leo Omar Ravi Samuel Tom""".split()
)

# A place and the preposition that says being there: "at the mill".
PLACES = {
    place: preposition
    for preposition, places in {
        "in": "garden barn forest library tower",
        "at": "mill market school station",
        "by": "lake river",
        "on": "hill bridge beach",
    }.items()
    for place in places.split()
}

THINGS = tuple(
    "ball kite book lamp key drum ring apple scarf map bell flute coin pear doll basket".split()
)

HELD_OUT_ONE_IN = 10


def held_out(first: str, second: str) -> bool:
    """Return whether the training stories never contain both; the same on every machine.

    >>> held_out("Tom", "kite") == held_out("kite", "Tom")
    True
    """
    pair = f"{min(first, second)}+{max(first, second)}"
    return crc32(pair.encode()) % HELD_OUT_ONE_IN == 0


HELD_OUT_PAIRS = tuple(
    (person, thing) for person in PEOPLE for thing in THINGS if held_out(person, thing)
)


def the(noun: str) -> str:
    """Name a place or a thing: `the("mill")` is "the mill"."""
    return f"the {noun}"


def at(place: str) -> str:
    """Say being at a place: `at("mill")` is "at the mill"."""
    return f"{PLACES[place]} the {place}"
