"""What happens: an opening with a wish, a chain of beats, a resolution.

Four arcs: to get a thing, to get a lost thing back, to meet somebody, to bring a thing to a place.
The wish stays open until the resolution, which grants it in half of the stories.
"""

from random import Random

from ch01_text.storyworld.beats import Beats, Step
from ch01_text.storyworld.casting import Cast, pick
from ch01_text.storyworld.words import BULKY, PLACES, PRONOUNS
from ch01_text.storyworld.world import Event, World

ARCS = ("want", "want", "lost", "meet", "errand")
# What moves people: the verb, the feeling, how often it is told.
FELT = {
    "give": ("happy", 0.2),
    "lose": ("sad", 0.5),
    "refuse": ("sad", 0.4),
    "find": ("happy", 0.3),
    "meet": ("happy", 0.15),
}
# Chances: of a feeling told with its cause, of the end told in words, that one person acts twice in
# a row, that somebody with empty hands is passed over (what is carried about unnoticed makes good
# questions).
BECAUSE_RATE, REVEAL_RATE, SAME_ACTOR_RATE, BUSY_RATE = 0.4, 0.65, 0.15, 0.5
OWN_RATE = 0.65
TRIES = 60


class Plot:
    """Proposes steps from the true state; the caller tells and applies them one by one."""

    def __init__(self, rng: Random, cast: Cast, world: World):
        self.rng, self.random = rng, rng.random
        self.cast, self.world, self.where = cast, world, world.where
        self.beats = Beats(rng, cast, world)
        self.happy = self.random() < 0.5
        self.arc = pick(rng, ARCS)
        self.hero, self.friend, self.goal = cast.people[0], cast.people[-1], cast.things[0]
        self.target = ""  # the place of an errand
        self.actor = ""  # of the newest beat

    # The opening

    def starts(self) -> dict[str, str]:
        """Draw where everybody is; the hero is not where the wish would come true at once."""
        places: dict[str, str] = {}
        goal_home = self.cast.homes[self.goal] if self.arc == "want" else ""
        for person in self.cast.people:
            apart = places.get(self.hero) if self.arc == "meet" and person == self.friend else ""
            taken = [place for place in places.values() if place != apart]
            if taken and self.random() < 0.25:
                places[person] = pick(self.rng, taken)
            else:
                unused = [
                    one
                    for one in self.cast.places
                    if one not in places.values() and one != goal_home
                ]
                places[person] = pick(self.rng, unused)
        return places

    def owners(self) -> dict[str, str]:
        """Draw who has what, one thing at most, and a container for it; the rest lies at its
        home.
        """
        hero, cast = self.hero, self.cast
        owners = {self.goal: hero} if self.arc in ("lost", "errand") else {}
        for thing in self.beats.things:
            homeless = cast.homes[thing] not in cast.places
            if thing not in owners and (homeless or self.random() < OWN_RATE):
                wished = self.arc == "want" and thing == self.goal
                others = [one for one in cast.people if not (wished and one == hero)]
                idle = [one for one in others if one not in owners.values()]
                packers = [
                    one for x, one in owners.items() if x not in BULKY and thing == cast.container
                ]
                owners[thing] = pick(self.rng, packers or idle or others)
        return owners

    def opening(self) -> list[Step]:
        """Tell where everybody and everything is, and the wish."""
        places, owners = self.starts(), self.owners()
        steps: list[Step] = []
        told: set[str] = set()
        for person, place in places.items():
            if person in told:
                continue
            start = Event("start", person, "", place)
            partner = next(
                (one for one in places if places[one] == place and one not in (person, *told)), ""
            )
            pair = (person, partner)
            told.update(pair)
            owns = [Event("own", owner, thing) for thing, owner in owners.items() if owner in pair]
            if partner:
                steps.append(("start_together", [start, Event("start", partner, "", place)]))
            elif owns and self.random() < 0.6:
                steps.append(("start_own", [start, owns.pop()]))
            else:
                steps.append(("start", [start]))
            steps += [("own", [own]) for own in owns]
        rest: list[Step] = (
            [("missing", [Event("missing", self.cast.missing)])] if self.cast.missing else []
        )
        for thing in self.beats.things:
            if thing not in owners:
                rest.append(("lie", [Event("lie", "", thing, self.cast.homes[thing])]))
        self.rng.shuffle(rest)
        return steps + rest + self.wish(places[self.hero])

    def wish(self, start: str) -> list[Step]:
        """Tell the hero's wish; nothing yet where the thing is still to be lost."""
        if self.arc == "want":
            return [("wish_thing", [Event("wish", self.hero, self.goal)])]
        if self.arc == "meet":
            return [("wish_meet", [Event("wish", self.hero, "", "", self.friend)])]
        if self.arc == "lost":
            return []
        self.target = pick(self.rng, [place for place in self.cast.places if place != start])
        return [("wish_bring", [Event("wish", self.hero, self.goal, self.target)])]

    # The middle

    def permits(self, event: Event) -> bool:
        """Say whether `event` leaves the hero's wish open."""
        verb, actor, thing, place, other = event[:5]
        if verb == "lose" and self.arc == "lost":
            return False
        if verb in ("move", "join"):
            place = place or self.where[other]
            if self.arc == "meet":
                counterpart = {self.hero: self.friend, self.friend: self.hero}.get(actor)
                return not counterpart or self.where[counterpart] != place
            return not (self.arc == "errand" and actor == self.hero and place == self.target)
        if thing != self.goal or self.arc == "meet" or verb in ("admire", "wonder", "refuse"):
            return True
        if verb == "lose":
            return self.hero in self.world.wishes and not (self.arc == "errand" and self.happy)
        at_target = self.arc == "errand" and self.where[actor] == self.target
        return self.hero not in (actor, other) and verb != "put" and not at_target

    def loss(self) -> list[Step]:
        """Let the hero lose the thing, and wish for it."""
        lose, wish = Event("lose", self.hero, self.goal), Event("wish", self.hero, self.goal)
        return [("lose", [lose]), *self.mood(self.hero, "sad"), ("wish_back", [wish])]

    def beat(self, first: bool) -> list[Step]:
        """Propose what happens next, with a feeling about it now and then."""
        if (
            self.arc == "lost"
            and self.hero not in self.world.wishes
            and (not first or self.random() < 0.5)
        ):
            return self.loss()
        for _ in range(TRIES):
            actor = pick(self.rng, self.cast.people)
            if actor == self.actor and self.random() > SAME_ACTOR_RATE:
                continue
            if self.random() < BUSY_RATE and actor not in self.where.values():
                continue
            steps = self.beats.propose(actor)
            if steps and all(self.permits(event) for _, events in steps for event in events):
                self.actor = actor
                return steps + self.feeling(steps[-1][1][-1])
        return []

    def feeling(self, event: Event) -> list[Step]:
        """Let whom `event` concerns feel happy or sad, now and then."""
        if event.verb not in FELT:
            return []
        feeling, rate = FELT[event.verb]
        person = event.other if event.verb == "give" else event.actor
        return self.mood(person, feeling) if self.random() < rate else []

    def mood(self, person: str, feeling: str, cause: int = -1) -> list[Step]:
        """Tell a feeling right after its cause (-1: the event before), with or without the cause
        in words.
        """
        key = f"{feeling}_because" if self.random() < BECAUSE_RATE else feeling
        return [(key, [Event("feel", person, feeling=feeling, cause=cause)])]

    # The end

    def resolution(self) -> list[Step]:
        """Make the wish come true, or bring what dashes the last hope."""
        hero, goal, where = self.hero, self.goal, self.where
        if self.arc == "meet":
            meet = ("meet", [Event("meet", hero, "", "", self.friend)])
            return [self.beats.approach(hero, self.friend), meet] if self.happy else []
        if self.arc == "errand":
            if self.happy:
                return self.delivery()
            lost = where[goal] == hero and self.random() < 0.5
            return [("lose", [Event("lose", hero, goal)])] if lost else []
        if not self.happy:
            holder = self.world.holder(goal)
            near = where[goal] == holder and holder and where[holder] == where[hero]
            return [("refuse", [Event("refuse", hero, goal, "", holder)])] if near else []
        if where[goal] in PLACES:
            take = ("take", [Event("take", hero, goal)])
            go = ("move", [Event("move", hero, "", where[goal])])
            return [take] if where[goal] == where[hero] else [go, take]
        if where[goal] in PRONOUNS:
            return self.handover(where[goal])
        finder = pick(self.rng, self.cast.people)
        find = ("find", [Event("find", finder, goal, where[finder])])
        return [find] if finder == hero else [find, *self.handover(finder)]

    def handover(self, giver: str) -> list[Step]:
        """Let `giver` come to the hero with the thing."""
        give = ("give", [Event("give", giver, self.goal, "", self.hero)])
        together = self.where[giver] == self.where[self.hero]
        return [give] if together else [self.beats.approach(giver, self.hero), give]

    def delivery(self) -> list[Step]:
        """Let the hero bring the thing to where it had to go."""
        go = Event("move", self.hero, "", self.target)
        drop = Event("drop", self.hero, self.goal, self.target)
        if self.random() < 0.4:
            return [("go_drop", [go, drop])]
        return [("carry", [go._replace(object=self.goal)]), ("arrive", [drop._replace(place="")])]

    def ending(self) -> str:
        """Say from the state alone whether the wish came true: "happy" or "sad"."""
        if self.arc == "meet":
            fulfilled = self.where[self.hero] == self.where[self.friend]
        else:
            fulfilled = self.where[self.goal] == (self.target or self.hero)
        return "happy" if fulfilled else "sad"

    def closing(self) -> list[Step]:
        """Tell how the hero feels in the end, mostly."""
        if self.random() > REVEAL_RATE:
            return []
        wish = self.world.events.index(self.world.wishes[self.hero])
        if self.ending() == "happy":
            return self.mood(self.hero, "happy", wish if self.arc == "errand" else -1)
        return [("sad_because", [Event("feel", self.hero, feeling="sad", cause=wish)])]
