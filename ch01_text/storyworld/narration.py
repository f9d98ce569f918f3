"""Turns events into sentences: phrasings, pronouns where they are clear, no sentence told twice.

Also keeps what a reader would remember who only looks at names (`Heard`): the question sampler uses
that to ask what cheap shortcuts get wrong. Left out: what happens (`plot`) and what it means (`world`).
"""

from random import Random

from ch01_text.storyworld.phrases import PHRASES, Phrase
from ch01_text.storyworld.words import APART, PLACES, PRONOUNS, indefinite, the

OPENERS = ("Then", "Soon", "After a while,", "A little later,", "Next,", "Meanwhile,")  # the last: not for "she"
# Sentences about somebody who may be far away: "she" would not mean that person next.
DISTANT = frozenset(("ask", "wish_meet"))
ADJECTIVE_RATE, OPENER_RATE, PRONOUN_RATE, OTHER_PRONOUN_RATE = 0.15, 0.2, 0.75, 0.5


class Heard:
    """The names in the order of their telling; `near[e]`: the newest (person, place, thing) when e was named."""

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
        return all(PRONOUNS[other][0] != he or other == person for other in self.recent + self.blocked)

    def choose(self, key: str) -> Phrase:
        """Draw a phrasing, with a second try for one that this story has not used."""
        choices = PHRASES[key]
        phrase = choices[int(self.random() * len(choices))]
        if phrase.text in self.told:
            phrase = choices[int(self.random() * len(choices))]
        return phrase

    def say(self, sentence: str) -> bool:
        """Append a sentence as it is; return False and do nothing where the story already has it."""
        if sentence in self.told:
            return False
        self.told.add(sentence)
        self.sentences.append(sentence)
        return True

    def thing(self, noun: str) -> str:
        """Name a thing already known, now and then with its adjective."""
        return f"the {self.adjectives[noun]} {noun}" if self.random() < ADJECTIVE_RATE else "the " + noun

    def tell(
        self, key: str, events: list, origin: str = "", because: str = "", fresh: bool = False, title: str = ""
    ) -> None:
        """Tell `events` in one sentence.

        `origin`: the place that is left; `because`: a cause in words; `fresh`: a new strand of the story
        begins, so that "Meanwhile," may come first; `title`: what follows the actor's name.
        """
        first = events[0]
        actor, thing, place, other = first[1:5]
        for event in events[1:]:
            thing, place = thing or event.object, place or event.place
            other = other or event.other or (event.actor if event.actor != actor else "")
        for _ in range(6):
            phrase = self.choose(key)
            sentence, names = self.fill(phrase, actor, thing, place, other, origin, because, fresh, title)
            if self.say(sentence):
                break
        else:
            self.sentences.append(sentence)
        self.told.add(phrase.text)
        self.heard.hear(names)
        distant = key in DISTANT
        others = (other,) if other in PRONOUNS else ()
        people = (actor,) if actor else ()
        self.recent, self.blocked = (people, others) if distant else (people + others, ())

    def fill(self, phrase, actor, thing, place, other, origin, because, fresh, title) -> tuple[str, list[str]]:
        """Fill the slots of `phrase`; return the sentence and the names in it, in order."""
        random = self.random
        he, him, his = PRONOUNS.get(actor, ("", "", ""))
        shown = he if self.recent and self.clear(actor) and random() < PRONOUN_RATE else actor
        values = {"a": shown + title, "A": actor, "he": he, "him": him, "his": his, "because": because}
        entities = {"a": actor if shown is actor else "", "A": actor, "x": thing, "p": place, "q": origin}
        if other in PRONOUNS:
            values["b"] = values["B"] = entities["b"] = entities["B"] = other
            _, values["b_him"], values["b_his"] = PRONOUNS[other]
            if self.recent and "B" not in phrase.slots and he != PRONOUNS[other][0] and self.clear(other) and random() < OTHER_PRONOUN_RATE:
                values["b"], entities["b"] = PRONOUNS[other][1], ""
        elif other:
            values["c"], entities["c"] = "the " + other, other
        if thing:
            values["x"] = self.thing(thing)
            values["ix"] = indefinite(f"{self.adjectives[thing]} {thing}")
        if place:
            values["p"], values["at"] = "the " + place, f"{PLACES[place]} the {place}"
        if origin:
            values["q"] = the(origin)
        sentence = phrase.text.format_map(values)
        if fresh and phrase.actor_first and random() < OPENER_RATE:
            choices = len(OPENERS) - (shown is he)
            sentence = f"{OPENERS[int(random() * choices)]} {sentence}"
        names = [entities[slot] for slot in phrase.slots if entities[slot]]
        if because:
            names += [word for word in because.split() if word in APART or word in PLACES]
        return sentence[0].upper() + sentence[1:], names
