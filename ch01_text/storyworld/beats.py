"""Small purposeful actions: fetch something, bring it to somebody, walk together, ask in vain.

A beat is one to three events by one person, proposed from the true state such that they can happen
and make sense: nobody walks straight back, drops a thing where it was taken, or returns a present.
"""

from random import Random

from ch01_text.storyworld.casting import Cast, pick
from ch01_text.storyworld.words import BULKY, CONTAINERS, PLACES
from ch01_text.storyworld.world import Event, World

Step = tuple[str, list[Event]]  # the key of the phrasings, and the events that one sentence tells

# Beats in proportion to how often they are tried.
BEATS = tuple(
    """fetch fetch fetch take_here take_go take_go deliver deliver deliver give_here give_here
    stash stash
    drop_here wander wander wander wander wander visit visit visit visit greet greet together
    together lose
    find find chatter chatter refuse take_out take_out""".split()
)
PACK_RATE = 0.5  # with a container in the story: how often packing something is tried first


class Beats:
    """Proposes steps; remembers (`note`) what would look silly next."""

    def __init__(self, rng: Random, cast: Cast, world: World):
        self.rng, self.random = rng, rng.random
        self.cast, self.world, self.where = cast, world, world.where
        self.things = (*cast.things, cast.container) if cast.container else cast.things
        self.idle: set[str] = set()  # who has done nothing since arriving
        self.got_at: dict[str, str] = {}  # where a thing came to its holder
        self.got_from: dict[str, str] = {}  # who had it last
        self.losses = 0

    def note(self, event: Event) -> None:
        """Take in what has just happened."""
        verb, actor, thing, _, other = event[:5]
        if verb in ("move", "join", "start"):
            self.idle.add(actor)
            return
        self.idle.discard(actor)
        self.idle.discard(other)
        if verb in ("take", "find", "give", "own", "drop"):
            self.got_at[thing] = self.where[actor]
            self.got_from[thing] = actor if verb in ("give", "drop") else ""
        self.losses += verb == "lose"

    def propose(self, actor: str) -> list[Step]:
        """Draw a beat; an empty list where it cannot happen."""
        if self.cast.container and self.random() < PACK_RATE:
            return self.put(actor)
        return getattr(self, pick(self.rng, BEATS))(actor)

    # What is around a person

    def held(self, person: str) -> list[str]:
        return [thing for thing in self.things if self.where[thing] == person]

    def lying(self, person: str, here: bool) -> list[str]:
        """Things on the ground here, or elsewhere, that `person` has not just left there."""
        where, place, back = self.where, self.where[person], self.back(person)
        return [
            thing
            for thing in self.things
            if where[thing] in PLACES
            and (where[thing] == place) is here
            and where[thing] != back
            and self.got_from.get(thing) != person
        ]

    def others(self, person: str, here: bool) -> list[str]:
        where, place, back = self.where, self.where[person], self.back(person)
        return [
            one
            for one in self.cast.people
            if one != person and (where[one] == place) is here and where[one] != back
        ]

    def back(self, person: str) -> str:
        """Return the place that it would be silly to go back to now, or ""."""
        visited = self.world.visited[person]
        return visited[-2] if person in self.idle and len(visited) > 1 else ""

    def destination(self, person: str) -> str:
        """Draw a place to go to."""
        avoid = (self.where[person], self.back(person))
        while True:
            place = pick(self.rng, self.cast.places)
            if place not in avoid:
                return place

    def approach(self, a: str, b: str) -> Step:
        """Bring `a` to `b`: by name of the person, or of the place."""
        if self.random() < 0.6:
            return "join", [Event("join", a, "", "", b)]
        return "move", [Event("move", a, "", self.where[b])]

    # Going somewhere

    def wander(self, a: str) -> list[Step]:
        place, held = self.destination(a), self.held(a)
        if held and self.random() < 0.15:
            return [("carry", [Event("move", a, pick(self.rng, held), place)])]
        return [("move", [Event("move", a, "", place)])]

    def visit(self, a: str) -> list[Step]:
        others = self.others(a, here=False)
        if not others:
            return []
        b = pick(self.rng, others)
        join = ("join", [Event("join", a, "", "", b)])
        return [join, ("meet", [Event("meet", a, "", "", b)])] if self.random() < 0.4 else [join]

    def together(self, a: str) -> list[Step]:
        others = self.others(a, here=True)
        if not others:
            return []
        place, b = self.destination(a), pick(self.rng, others)
        return [("together", [Event("move", a, "", place), Event("move", b, "", place)])]

    # Things change hands

    def fetch(self, a: str) -> list[Step]:
        things = self.lying(a, here=False)
        if not things:
            return []
        thing = pick(self.rng, things)
        go, take = Event("move", a, "", self.where[thing]), Event("take", a, thing)
        return (
            [("go_take", [go, take])]
            if self.random() < 0.35
            else [("move", [go]), ("take", [take])]
        )

    def take_here(self, a: str) -> list[Step]:
        things = self.lying(a, here=True)
        return [("take", [Event("take", a, pick(self.rng, things))])] if things else []

    def take_go(self, a: str) -> list[Step]:
        things = self.lying(a, here=True)
        if not things:
            return []
        take = Event("take", a, pick(self.rng, things))
        go = Event("move", a, "", self.destination(a))
        return [("take_go", [take, go])]

    def give_here(self, a: str) -> list[Step]:
        held, others = self.held(a), self.others(a, here=True)
        if not held or not others:
            return []
        thing, b = pick(self.rng, held), pick(self.rng, others)
        return [] if self.got_from.get(thing) == b else [("give", [Event("give", a, thing, "", b)])]

    def deliver(self, a: str) -> list[Step]:
        held, others = self.held(a), self.others(a, here=False)
        if not held or not others:
            return []
        thing, b = pick(self.rng, held), pick(self.rng, others)
        if self.got_from.get(thing) == b:
            return []
        return [self.approach(a, b), ("give", [Event("give", a, thing, "", b)])]

    def stash(self, a: str) -> list[Step]:
        held = self.held(a)
        if not held:
            return []
        thing, place = pick(self.rng, held), self.destination(a)
        go, drop = Event("move", a, "", place), Event("drop", a, thing, place)
        draw = self.random()
        if draw < 0.35:
            return [("go_drop", [go, drop])]
        return [
            ("move", [go]),
            ("drop_at", [drop]) if draw < 0.65 else ("drop", [drop._replace(place="")]),
        ]

    def drop_here(self, a: str) -> list[Step]:
        place = self.where[a]
        held = [thing for thing in self.held(a) if self.got_at.get(thing) != place]
        if not held:
            return []
        thing = pick(self.rng, held)
        if self.random() < 0.5:
            return [("drop", [Event("drop", a, thing)])]
        return [("drop_at", [Event("drop", a, thing, place)])]

    def lose(self, a: str) -> list[Step]:
        held = self.held(a)
        return (
            [("lose", [Event("lose", a, pick(self.rng, held))])] if held and not self.losses else []
        )

    def find(self, a: str) -> list[Step]:
        lost = [
            thing
            for thing in self.things
            if not self.where[thing] and self.got_from.get(thing) != a
        ]
        return [("find", [Event("find", a, pick(self.rng, lost), self.where[a])])] if lost else []

    # Containers

    def boxes(self, a: str) -> list[str]:
        """Containers in the hands of `a` or on the ground here."""
        spots = (a, self.where[a])
        return [
            thing for thing in self.things if thing in CONTAINERS and self.where[thing] in spots
        ]

    def put(self, a: str) -> list[Step]:
        boxes = self.boxes(a)
        held = [thing for thing in self.held(a) if thing not in CONTAINERS and thing not in BULKY]
        if not boxes or not held:
            return []
        return [("put", [Event("put", a, pick(self.rng, held), "", pick(self.rng, boxes))])]

    def take_out(self, a: str) -> list[Step]:
        boxes = self.boxes(a)
        things = [thing for box in boxes for thing in self.world.inside(box)]
        if not things:
            return []
        thing = pick(self.rng, things)
        return [("take_out", [Event("take", a, thing, "", self.where[thing])])]

    # Nothing changes

    def greet(self, a: str) -> list[Step]:
        others = self.others(a, here=True)
        return [("meet", [Event("meet", a, "", "", pick(self.rng, others))])] if others else []

    def refuse(self, a: str) -> list[Step]:
        offers = [(b, thing) for b in self.others(a, here=True) for thing in self.held(b)]
        if not offers:
            return []
        b, thing = pick(self.rng, offers)
        return [("refuse", [Event("refuse", a, thing, "", b)])]

    def chatter(self, a: str) -> list[Step]:
        """Talk or think of a place, a person or a thing elsewhere, or look at a thing here."""
        place, draw = self.where[a], self.random()
        if draw < 0.3:
            elsewhere = [one for one in self.cast.places if one != place]
            return [("mention", [Event("mention", a, "", pick(self.rng, elsewhere))])]
        if draw < 0.45:
            people = self.others(a, here=False)
            return [("ask", [Event("ask", a, "", "", pick(self.rng, people))])] if people else []
        thing = pick(self.rng, self.things)
        if self.where[thing] == a or self.where[thing] in CONTAINERS:
            return []
        verb = "admire" if self.world.place(thing) == place else "wonder"
        return [(verb, [Event(verb, a, thing)])]
