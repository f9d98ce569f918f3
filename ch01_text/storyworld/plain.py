"""Plain texts to begin with: who is where, who has what, and every question about it.

Short sentences with all names in them, no wish, no feeling, and guessable questions, too: from these a model soon
learns to look up where somebody is. The stories, whose guessable questions are mostly dropped, teach that slowly
alone. Left out: what takes two steps, such as the place of a thing in somebody's hands.
"""

from collections.abc import Iterator
from random import Random

from ch01_text.storyworld.casting import Cast, draw_cast
from ch01_text.storyworld.phrases import PHRASES
from ch01_text.storyworld.story import question_lines
from ch01_text.storyworld.words import PLACES, indefinite, the
from ch01_text.storyworld.world import Event, World

MOVE_RATE = 0.6  # of what happens; the rest is giving
SLOTS = ("{a}", "{b}", "{x}", "{ix}", "{p}", "{at}")
PLAIN = {key: [text for text, *_ in PHRASES[key] if sum(text.count(slot) for slot in SLOTS) == text.count("{")]
         for key in ("start", "own", "move", "give")}  # without pronouns, and without the place that is left


def sentence(rng: Random, key: str, event: Event) -> str:
    """Tell an event with the name of everybody and everything in it."""
    _, actor, thing, place, other, *_ = event
    spot = f"{PLACES.get(place, '')} {the(place)}"
    text = rng.choice(PLAIN[key]).format(a=actor, b=other, x=the(thing), ix=indefinite(thing) if thing else "",
                                         p=the(place), at=spot)
    return text[0].upper() + text[1:]


def all_questions(world: World, cast: Cast) -> Iterator[tuple[str, str]]:
    """Yield all questions about places and hands, each with its answer."""
    for person in cast.people:
        yield f"Where is {person}?", the(world.place(person))
        if len(things := world.inside(person)) == 1:
            yield f"What does {person} have?", the(things[0])
    for thing in cast.things:
        yield f"Who has the {thing}?", world.holder(thing)


def plain_text(rng: Random) -> str:
    """Write one text about a cast of the training worlds, with its questions and answers below."""
    cast = draw_cast(rng, rng.randint(2, 4), rng.randint(1, 2), rng.randint(3, 5), False, "train")
    world, told = World(), []

    def tell(key: str, event: Event) -> None:
        world.apply(event)
        told.append(sentence(rng, key, event))

    for person in cast.people:
        tell("start", Event("start", person, "", rng.choice(cast.places)))
    for thing in cast.things:
        tell("own", Event("own", rng.choice(cast.people), thing))
    rng.shuffle(told)
    for _ in range(rng.randint(0, 4)):
        person, thing = rng.choice(cast.people), rng.choice(cast.things)
        if rng.random() < MOVE_RATE:
            elsewhere = [place for place in cast.places if place != world.where[person]]
            tell("move", Event("move", person, "", rng.choice(elsewhere)))
        else:
            giver = world.holder(thing)
            others = [one for one in cast.people if one != giver]
            tell("give", Event("give", giver, thing, "", rng.choice(others)))
    questions = list(all_questions(world, cast))
    rng.shuffle(questions)
    return " ".join(told) + "\n" + "".join(question_lines(*one) for one in questions)


def plain_texts(n: int, seed: int = 0) -> Iterator[str]:
    """Yield `n` texts; the same seed gives the same ones."""
    for index in range(n):
        yield plain_text(Random(f"plain/{seed}/{index}"))
