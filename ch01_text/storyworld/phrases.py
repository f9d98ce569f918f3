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
    "lie": ("{x} was {at}.", "{x} lay {at}."),
    "own": ("{a} had {x}.", "{a} held {x}."),
    "wish": (
        "{a} wanted to bring something home.",
        "{a} had promised to bring something home.",
        "{a} hoped to go home with something nice.",
    ),
    "move": ("{a} went to {p}.", "{a} walked to {p}.", "{a} ran to {p}.", "{a} hurried to {p}."),
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
# Words that lead on after a question, to what happens and to what is so. A name then never begins a
# line: after a newline, byte-pair encoding would give it another token than after a space.
LINKS = ("Then ", "Soon ", "Later ", "After that ")
MEANWHILE = ("Meanwhile ", "That day ", "At that time ", "All the while ")
STATES = ("start", "own", "lie", "wish")


def tell(rng: Random, event: Event, link: bool = False) -> str:
    """Tell `event` in one sentence; with `link` it begins like "Then Tom went ...".

    >>> tell(Random(0), Event("give", "Tom", "kite", other="Mia"))
    'Tom handed Mia the kite.'
    """
    text = rng.choice(PHRASES[event.verb]).format(
        a=event.actor,
        b=event.other,
        x=the(event.thing),
        p=the(event.place),
        at=at(event.place) if event.place else "",
    )
    links = MEANWHILE if event.verb in STATES else LINKS
    return rng.choice(links) + text if link else text[0].upper() + text[1:]
