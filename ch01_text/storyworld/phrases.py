"""How events are told: a few phrasings of each.

In braces: {a} the actor, {b} the other person, {x} the thing, {p} the place, {at} being there.
Every sentence names everybody and everything in it, and no phrase names anything of its own: what
is named is what happened. Whoever has a thing is named two or three words before it, so that a
small model needs one rule, not two, to find the holder.
"""

from random import Random

from ch01_text.storyworld.words import at, the
from ch01_text.storyworld.world import Event

PHRASES = {
    "start": ("{a} was {at}.", "{a} sat {at}.", "{a} stood {at}."),
    "start together": ("{a} and {b} were {at}.", "{a} and {b} sat {at}."),
    "lie": ("{x} was {at}.", "{x} lay {at}."),
    "own": ("{a} had {x}.", "{a} held {x}."),
    "wish": (
        "{a} wanted to take {x} home.",
        "{a} had promised to bring {x} home.",
        "{a} hoped to go home with {x}.",
    ),
    "move": ("{a} went to {p}.", "{a} walked to {p}.", "{a} ran to {p}.", "{a} hurried to {p}."),
    "move together": ("{a} and {b} went to {p}.", "{a} and {b} walked to {p}."),
    "take": ("{a} took {x}.", "{a} found {x}.", "{a} fetched {x}."),
    "give": ("{a} gave {b} {x}.", "{a} handed {b} {x}."),
    "drop": ("{a} left {x} {at}.", "{a} put {x} down {at}."),
    "happy": ("In the end {a} was happy.", "So {a} was very happy that evening."),
    "sad": ("In the end {a} was sad.", "So {a} was very sad that evening."),
    "weather": (
        "It was a sunny morning.",
        "It was a grey and windy day.",
        "Snow was falling softly.",
        "It had rained all night.",
        "The birds were singing.",
        "It was the first warm day of spring.",
        "The sky was full of clouds.",
        "A warm wind was blowing.",
    ),
}
# Words that lead on to what happens next.
LINKS = ("Then ", "Soon ", "Later ", "After that ")
LINK_RATE = 0.25
HAPPENINGS = ("move", "take", "give", "drop")


def tell(rng: Random, event: Event) -> str:
    """Tell `event` in one sentence.

    >>> tell(Random(0), Event("give", "Tom", "kite", other="Mia"))
    'Tom handed Mia the kite.'
    """
    together = event.other and event.verb in ("start", "move")
    text = rng.choice(PHRASES[f"{event.verb} together" if together else event.verb]).format(
        a=event.actor,
        b=event.other,
        x=the(event.thing),
        p=the(event.place),
        at=at(event.place) if event.place else "",
    )
    if event.verb in HAPPENINGS and rng.random() < LINK_RATE:
        return rng.choice(LINKS) + text
    return text[0].upper() + text[1:]
