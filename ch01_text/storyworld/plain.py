"""Plain texts to begin with: who is where, who has what, every question about it, and one without
an answer.

Short sentences with all names in them, no wish, no feeling, and guessable questions, too: from
these a model soon learns to look up places and owners. The stories, whose guessable questions are
mostly dropped, teach that slowly alone, and so do harder plain texts. There are several things, so
that guessing their owner does not pay. Before some questions stand the small ones that lead to
them. Left out: where a thing in somebody's hands is.
"""

from collections.abc import Iterator
from random import Random

from ch01_text.storyworld.casting import PLAIN_THINGS, Cast, draw_cast, pick_apart
from ch01_text.storyworld.phrases import PHRASES
from ch01_text.storyworld.questions import UNKNOWN
from ch01_text.storyworld.steps import draw_steps
from ch01_text.storyworld.story import question_lines
from ch01_text.storyworld.words import PEOPLE, PLACES, indefinite, the
from ch01_text.storyworld.world import Event, World

HAPPENS = ("join", "move", "move", "give", "give")
SLOTS = ("{a}", "{b}", "{x}", "{ix}", "{p}", "{at}", "{q}")
PLAIN = {
    key: [
        text
        for text, *_ in PHRASES[key]
        if sum(text.count(slot) for slot in SLOTS) == text.count("{")
    ]
    for key in ("start", "own", "move", "join", "give")
}  # without pronouns


def sentence(rng: Random, key: str, event: Event, origin: str) -> str:
    """Tell an event with the name of everybody and everything in it; `origin`: the place that is
    left.
    """
    _, actor, thing, place, other, *_ = event
    spot = f"{PLACES.get(place, '')} {the(place)}"
    text = rng.choice(PLAIN[key]).format(
        a=actor,
        b=other,
        x=the(thing),
        ix=indefinite(thing) if thing else "",
        p=the(place),
        at=spot,
        q=the(origin),
    )
    return text[0].upper() + text[1:]


def all_questions(rng: Random, world: World, cast: Cast) -> Iterator[str]:
    """Yield the lines of all questions about places and hands, before some of them those of the
    steps to it.
    """
    for person in cast.people:
        steps = draw_steps(rng.random, "where-person", person, world)
        yield steps + question_lines(f"Where is {person}?", the(world.place(person)))
        if len(things := world.inside(person)) == 1:
            yield question_lines(f"What does {person} have?", the(things[0]))
    for thing in cast.things:
        yield question_lines(f"Who has the {thing}?", world.holder(thing))


def untold(rng: Random, cast: Cast) -> str:
    """Ask about somebody or something that the text does not tell of."""
    told = [*cast.people, *cast.things]
    if rng.random() < 0.5:
        return question_lines(f"Where is {pick_apart(rng, PEOPLE, told, True)}?", UNKNOWN)
    return question_lines(f"Who has the {pick_apart(rng, PLAIN_THINGS, told, True)}?", UNKNOWN)


def plain_text(rng: Random) -> str:
    """Write one text about a cast of the training worlds, with its questions and answers below."""
    cast = draw_cast(rng, rng.randint(3, 4), rng.randint(2, 4), rng.randint(3, 5), False, "train")
    world, told = World(), []

    def tell(key: str, event: Event) -> None:
        told.append(sentence(rng, key, event, world.where.get(event.actor, "")))
        world.apply(event)

    for person in cast.people:
        tell("start", Event("start", person, "", rng.choice(cast.places)))
    for thing in cast.things:
        tell("own", Event("own", rng.choice(cast.people), thing))
    rng.shuffle(told)
    for _ in range(rng.randint(0, 4)):
        key, person, thing = rng.choice(HAPPENS), rng.choice(cast.people), rng.choice(cast.things)
        apart = [one for one in cast.people if world.where[one] != world.where[person]]
        if key == "join" and apart:
            tell(key, Event("join", person, "", "", rng.choice(apart)))
        elif key == "give":
            giver = world.holder(thing)
            tell(
                key,
                Event(
                    "give",
                    giver,
                    thing,
                    "",
                    rng.choice([one for one in cast.people if one != giver]),
                ),
            )
        else:
            elsewhere = [place for place in cast.places if place != world.where[person]]
            tell("move", Event("move", person, "", rng.choice(elsewhere)))
    questions = [*all_questions(rng, world, cast), untold(rng, cast)]
    rng.shuffle(questions)
    return " ".join(told) + "\n" + "".join(questions)


def plain_texts(n: int, seed: int = 0) -> Iterator[str]:
    """Yield `n` texts; the same seed gives the same ones."""
    for index in range(n):
        yield plain_text(Random(f"plain/{seed}/{index}"))
