"""Turns events into sentences: phrasings, pronouns where they are clear, no sentence told twice.

Also keeps what a reader would remember who only looks at names (`Heard`): the question sampler uses
that to ask what cheap shortcuts get wrong. Left out: what happens (`plot`) and what it means
(`world`).
"""

from random import Random
from typing import NamedTuple

from ch01_text.storyworld.phrases import PHRASES, Phrase
from ch01_text.storyworld.words import APART, PLACES, PRONOUNS, indefinite, the
from ch01_text.storyworld.world import Event

OPENERS = ("Then", "Soon", "After a while,", "A little later,", "Next,", "Meanwhile,")
# Sentences about somebody who may be far away: "she" would not mean that person next.
DISTANT = frozenset(("ask", "wish_meet"))
ADJECTIVE_RATE, OPENER_RATE, PRONOUN_RATE, OTHER_PRONOUN_RATE = 0.15, 0.2, 0.75, 0.5
TRIES = 6  # for a sentence that the story does not have yet


class Moment(NamedTuple):
    """What one sentence has to say; "" for nothing."""

    actor: str
    thing: str
    place: str
    other: str  # a person, or a container
    origin: str
    because: str
    title: str
    fresh: bool


class Heard:
    """The newest (person, place, thing) named: `last` of all, `near` and `first` when a name was
    told.
    """

    def __init__(self):
        self.last = ("", "", "")
        self.near: dict[str, tuple[str, str, str]] = {}
        self.first: dict[str, tuple[str, str, str]] = {}

    def hear(self, names: list[str]) -> None:
        """Take in the names of one sentence."""
        person, place, thing = self.last
        for name in names:
            if name in PRONOUNS:
                person = name
            elif name in PLACES:
                place = name
            else:
                thing = name
        self.last = last = (person, place, thing)
        for name in names:
            self.near[name] = last
            self.first.setdefault(name, last)


class Narrator:
    """Tells one story sentence by sentence."""

    def __init__(self, rng: Random, adjectives: dict[str, str]):
        self.random = rng.random
        self.adjectives = adjectives
        self.heard = Heard()
        self.sentences: list[str] = []
        self.told: set[str] = set()
        self.recent: tuple[str, ...] = ()  # the people of the sentence before, best pronoun first
        self.blocked: tuple[str, ...] = ()  # people of that sentence whom no pronoun may mean

    def pause(self) -> None:
        """Forget whom a pronoun could mean: a question comes between."""
        self.recent = ()

    def clear(self, person: str) -> bool:
        """Say whether a pronoun would mean `person` and nobody else of the sentence before."""
        if person not in self.recent:
            return False
        he = PRONOUNS[person][0]
        return all(
            PRONOUNS[other][0] != he or other == person for other in self.recent + self.blocked
        )

    def choose(self, key: str) -> Phrase:
        """Draw a phrasing, with a second try for one that this story has not used."""
        choices = PHRASES[key]
        phrase = choices[int(self.random() * len(choices))]
        if phrase.text in self.told:
            phrase = choices[int(self.random() * len(choices))]
        return phrase

    def say(self, sentence: str) -> bool:
        """Append a sentence as it is; return False and do nothing where the story already has
        it.
        """
        if sentence in self.told:
            return False
        self.told.add(sentence)
        self.sentences.append(sentence)
        return True

    def thing(self, noun: str) -> str:
        """Name a thing already known, now and then with its adjective."""
        return (
            f"the {self.adjectives[noun]} {noun}"
            if self.random() < ADJECTIVE_RATE
            else "the " + noun
        )

    def tell(
        self, key: str, events: list[Event], origin: str, because: str, title: str, fresh: bool
    ) -> None:
        """Tell `events` in one sentence.

        `origin`: the place that is left; `because`: a cause in words; `title`: what follows the
        actor's name; `fresh`: a new strand of the story begins, so that "Meanwhile," may come
        first.
        """
        actor, thing, place, other = events[0][1:5]
        for event in events[1:]:
            thing, place = thing or event.object, place or event.place
            other = other or event.other or (event.actor if event.actor != actor else "")
        moment = Moment(actor, thing, place, other, origin, because, title, fresh)
        for _ in range(TRIES):
            phrase = self.choose(key)
            sentence, names = self.fill(phrase, moment)
            if self.say(sentence):
                break
        else:
            self.sentences.append(sentence)
        self.told.add(phrase.text)
        self.heard.hear(names)
        people = (actor,) if actor else ()
        others = (other,) if other in PRONOUNS else ()
        self.recent, self.blocked = (people, others) if key in DISTANT else (people + others, ())

    def him(self, person: str, actor: str) -> str:
        """Return "him" or "her" where that is clear beside `actor`, else the name."""
        he, him, _ = PRONOUNS[person]
        clear = self.recent and he != PRONOUNS[actor][0] and self.clear(person)
        return him if clear and self.random() < OTHER_PRONOUN_RATE else person

    def fill(self, phrase: Phrase, moment: Moment) -> tuple[str, list[str]]:
        """Fill the slots of `phrase`; return the sentence and the names in it, in order."""
        actor, thing, place, other, origin, because, title, fresh = moment
        he, him, his = PRONOUNS.get(actor, ("", "", ""))
        shown = he if self.recent and self.clear(actor) and self.random() < PRONOUN_RATE else actor
        values = {
            "a": shown + title,
            "A": actor,
            "he": he,
            "him": him,
            "his": his,
            "because": because,
        }
        names = {
            "a": actor if shown is actor else "",
            "A": actor,
            "x": thing,
            "p": place,
            "q": origin,
        }
        if other in PRONOUNS:
            values["B"] = names["B"] = other
            values["b"] = self.him(other, actor) if "B" not in phrase.slots else other
            names["b"] = other if values["b"] is other else ""
            _, values["b_him"], values["b_his"] = PRONOUNS[other]
        elif other:
            values["c"], names["c"] = the(other), other
        if thing:
            values["x"] = self.thing(thing)
            values["ix"] = indefinite(f"{self.adjectives[thing]} {thing}")
        if place:
            values["p"], values["at"] = the(place), f"{PLACES[place]} the {place}"
        if origin:
            values["q"] = the(origin)
        sentence = phrase.text.format_map(values)
        if fresh and phrase.actor_first and self.random() < OPENER_RATE:
            choices = len(OPENERS) - (shown is he)  # no "Meanwhile, she"
            sentence = f"{OPENERS[int(self.random() * choices)]} {sentence}"
        named = [names[slot] for slot in phrase.slots if names[slot]]
        if because:
            named += [word for word in because.split() if word in APART or word in PLACES]
        return sentence[0].upper() + sentence[1:], named
