"""Storyworld against a witness that only reads its events, backwards, and against its own prose."""

import re
import subprocess
import sys
import zlib
from functools import cache
from itertools import combinations, pairwise, product

import pytest

from ch01_text.storyworld import (
    LEVELS,
    MAIN_KINDS,
    shortcut_answers,
    shortcut_table,
    stories,
    write_story,
)
from ch01_text.storyworld.moods import MOODS
from ch01_text.storyworld.phrases import EVENTS
from ch01_text.storyworld.scenery import WEATHERS
from ch01_text.storyworld.words import CONTAINERS, HE, PEOPLE, PLACES, THINGS

CASES = pytest.mark.parametrize(("level", "split"), [*product(LEVELS, ("train", "test"))])
NAMED = {*PEOPLE, *PLACES, *THINGS}


@cache
def some(level, split, n=200, seed=7):
    return tuple(stories(n, split=split, level=level, seed=seed))


words = re.compile(r"\w+").findall


class Witness:
    """Answers from the list of events alone: searches it backwards, and keeps no state."""

    def __init__(self, events):
        self.events = list(events)

    def newest(self, verbs, matches):
        index = max(i for i, e in enumerate(self.events) if e.verb in verbs.split() and matches(e))
        return self.events[index], Witness(self.events[:index])

    def located(self, one):
        """(where `one` is directly, how many told facts that rests on)."""
        if one in PEOPLE:
            event, before = self.newest("start move join missing", lambda e: e.actor == one)
        else:
            event, before = self.newest(
                "own lie take find drop put give lose", lambda e: e.object == one
            )
        if event.verb == "join" or (event.verb == "drop" and not event.place):
            at = event.other or event.actor
            return before.place(at), 1 + before.facts(at)
        if event.verb in ("start", "move", "lie", "drop"):
            return event.place, 1
        other = event.other if event.verb in ("put", "give") else event.actor
        return "" if event.verb in ("lose", "missing") else other, 1

    def place(self, one):
        return one if one in PLACES or not one else self.place(self.located(one)[0])

    def facts(self, one):
        return 0 if one in PLACES else self.located(one)[1] + self.facts(self.located(one)[0])

    def holder(self, thing):
        at = self.located(thing)[0]
        return at if at in PEOPLE else self.holder(at) if at in THINGS else "nobody"

    def at(self, spot, kind, but=""):
        named = {
            name for event in self.events for name in event[1:5] if name in kind and name != but
        }
        return [name for name in named if self.located(name)[0] == spot]

    def before(self, person, place):
        ends = [
            i
            for i, e in enumerate(self.events, 1)
            if e.actor == person and e.verb in "start move join"
        ]
        stops = [Witness(self.events[:end]).place(person) for end in ends]
        return only([one for one, following in pairwise(stops) if following == place])

    def feeling(self, person):
        stirring = "feel give take find lose meet refuse"  # all but the first end a feeling
        return self.newest(stirring, lambda e: person in (e.actor, e.other))[0]

    def reason(self, person):
        he, him = ("he", "him") if person in HE else ("she", "her")
        felt = self.feeling(person)
        verb, actor, thing, place, other, *_ = self.events[felt.cause]
        if verb == "wish":
            brought = "did not bring" if felt.feeling == "sad" else "brought"
            get = f"did not get the {thing}" if thing else f"did not meet {other}"
            return f"{he} {brought} the {thing} to the {place}" if place else f"{he} {get}"
        past = {"give": f"{actor} gave {him}", "refuse": f"{other} kept", "take": f"{he} got"}
        past |= {"lose": f"{he} lost", "find": f"{he} found", "meet": f"{he} met {other}"}
        return past[verb] + f" the {thing}" * (verb != "meet")

    def wish(self):
        return self.newest("wish", bool)[0]


def only(names, nobody=None):
    """The one name, `nobody` for none; several would make the question ambiguous."""
    [name] = names or [nobody]
    return name


COUNTS = ("none", "one", "two", "three", "four")
ASKED = {  # the pattern of a question -> its answer, from the witness and what the pattern caught
    r"Where is (?:the )?(\w+)\?": lambda w, one: w.place(one) or "nobody knows",
    r"Who has the (\w+)\?": lambda w, thing: w.holder(thing),
    r"What does (\w+) have\?": lambda w, person: only(w.at(person, THINGS), "nothing"),
    r"What is in the (\w+)\?": lambda w, box: only(w.at(box, THINGS), "nothing"),
    r"Where was (\w+) before the (\w+)\?": lambda w, person, place: w.before(person, place),
    r"Who is with (\w+)\?": lambda w, person: only(w.at(w.place(person), PEOPLE, person), "nobody"),
    r"Is (\w+) (?:in|at|on|by) the (\w+)\?": lambda w, one, at: (
        "yes" if w.place(one) == at else "no"
    ),
    r"How many things does (\w+) have\?": lambda w, person: COUNTS[len(w.at(person, THINGS))],
    r"How does (\w+) feel\?": lambda w, person: w.feeling(person).feeling,
    r"Why is (\w+) (?:happy|sad)\?": lambda w, person: "because " + w.reason(person),
    r"What does (\w+) want\?": lambda w, person: only(
        [e.object for e in [w.wish()] if e.actor == person]
    ),
    r"Who wants the (\w+)\?": lambda w, thing: only(
        [e.actor for e in [w.wish()] if e.object == thing]
    ),
}


@CASES
def test_every_answer_follows_from_the_told_events(level, split):
    """Oracle: the backwards witness, on the events told before each question."""
    for story in some(level, split):
        for question in story.questions:
            witness = Witness(e for e in story.events if e.sentence < len(story.told(question)))
            [(rule, match)] = [
                (r, m) for p, r in ASKED.items() if (m := re.fullmatch(p, question.text))
            ]
            answer = rule(witness, *match.groups())
            assert question.answer == "the " * (answer in NAMED - {*PEOPLE}) + answer, story.text
            facts = (
                witness.facts(question.about[0])
                if question.kind.startswith("where-")
                else question.hops
            )
            assert question.hops == facts <= LEVELS[level].max_hops
    kinds = [question.kind for story in some(level, split) for question in story.questions]
    # little can be asked of brief stories that is not guessable
    least = 0.4 if level.startswith("brief") else 0.5
    assert sum(kind in MAIN_KINDS for kind in kinds) > least * len(kinds)


@CASES
def test_events_can_happen(level, split):
    """Oracle: the witness. Nobody takes what is elsewhere, gives what is not there, walks on the
    spot.
    """
    for story in some(level, split):
        for index, e in enumerate(story.events):
            w = Witness(story.events[:index])
            here = w.place(e.actor) if e.actor and e.verb not in ("start", "missing") else ""
            if e.verb in ("give", "drop", "lose", "put", "take", "refuse"):
                spot = {"take": e.other or here, "refuse": e.other}.get(e.verb, e.actor)
                assert w.located(e.object)[0] == spot, story.text
            assert e.other not in THINGS or w.located(e.other)[0] in (e.actor, here), story.text
            if e.verb in ("give", "meet", "refuse"):
                assert e.actor != e.other and here == w.place(e.other), story.text
            assert e.verb not in ("move", "join") or here != (e.place or w.place(e.other)), (
                story.text
            )
            assert e.verb not in ("drop", "find") or e.place in ("", here), story.text


@CASES
def test_sentences_name_what_their_events_say(level, split):
    """Oracle: the words; he or she only where the sentence before tells of one such person."""
    for story in some(level, split):
        people_of = [set() for _ in story.sentences]
        for e in story.events:
            people_of[e.sentence] |= {e.actor, e.other} & set(PEOPLE)
        for e in story.events:
            told = words(story.sentences[e.sentence])
            assert {e.object, e.place, e.other} - {"", *PEOPLE} <= set(told), (e, told)
            for person in {e.actor, e.other} & set(PEOPLE) - set(told):
                forms = {"he", "him", "his"} if person in HE else {"she", "her"}
                assert forms & {word.lower() for word in told}, (e, told)
                alike = {one for one in people_of[e.sentence - 1] if (one in HE) == (person in HE)}
                assert alike == {person}, story.prose


@CASES
def test_the_ending_is_what_became_of_the_wish(level, split):
    """Oracle: the witness at the end of the story."""
    for story in some(level, split):
        witness = Witness(story.events)
        wish = witness.wish()
        met = witness.place(wish.actor) == witness.place(wish.other)
        granted = (
            met if wish.other else witness.located(wish.object)[0] == (wish.place or wish.actor)
        )
        assert story.ending == ("happy" if granted else "sad"), story.text
        assert story.prose[story.closing] == " "
    assert 0.35 < sum(story.ending == "happy" for story in some(level, split)) / 200 < 0.65


def test_training_stories_have_no_held_out_pair_and_test_questions_always_one():
    """Oracle: the hash, computed here, over all names in the training text and in the test
    questions.
    """

    def pairs(names):
        both = [pair for pair in combinations(sorted(names), 2) if {*pair} & {*PEOPLE}]
        return [pair for pair in both if zlib.crc32("+".join(pair).encode()) % 10 == 0]

    for level in LEVELS:
        assert not any(
            pairs({*words(story.text)} & {*PEOPLE, *THINGS}) for story in some(level, "train")
        )
        for story in some(level, "test"):
            assert pairs({name for q in story.questions for name in q.about}), story.text
            assert all(set(q.about) <= set(words(q.text)) for q in story.questions)


def test_vocabulary_is_large_and_test_stories_add_no_word():
    """Oracle: the words of 4,000 training stories against those of 1,000 test stories."""
    trained = {word for story in stories(4000) for word in words(story.text)}
    assert {word for story in stories(1000, split="test") for word in words(story.text)} <= trained
    assert NAMED - set(CONTAINERS) <= trained
    assert len({word.lower() for word in trained}) >= 1000


def test_a_story_depends_on_its_number_alone():
    """Oracle: the same story alone, in a sequence, and in another process with another hash
    seed.
    """
    sequence = some("hard", "test", 6, 3)
    assert [*stories(2, level="hard", split="test", seed=3, start=4)] == [*sequence[4:]]
    assert write_story(0, "test", "hard", 4) != sequence[0]
    code = (
        "import sys; from ch01_text.storyworld import write_story; assert 'sklearn' not in"
        " sys.modules;print(write_story(5, 'test', 'hard', 3).text, end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "12345"},
    )
    assert (done.stdout, done.stderr) == (sequence[5].text, "")


def steps_to(story, question):
    """The small questions before one, and their answers, from the backwards witness."""
    witness = Witness(e for e in story.events if e.sentence < len(story.told(question)))
    one, lines = question.about[0], []
    if question.kind == "where-object" or (question.kind == "unknown" and one in THINGS):
        lines = [f"Q: Who has the {one}?", f"A: {witness.holder(one)}"]
        one = witness.holder(one)
    elif question.kind not in ("where-person", "with", "yes-no", "unknown"):
        return []
    if one == "nobody":
        return lines
    event, _ = witness.newest("start move join missing", lambda e: e.actor == one)
    place = f"the {witness.place(one)}" if witness.place(one) else "nobody knows"
    lines += [f"Q: Where did {one} go?", f"A: {event.other if event.verb == 'join' else place}"]
    return (
        [*lines, f"Q: Where was {event.other} then?", f"A: {place}"]
        if event.verb == "join"
        else lines
    )


@CASES
def test_text_prose_and_prompts_agree_and_are_well_formed(level, split):
    """Oracle: the text without its Q and A lines is the prose; a prompt has one question, no
    answer. Small questions stand before some of the others where much is asked, and nowhere else.
    """
    steps = []
    wrong = re.compile(r"  |[{}]|\b[Aa] [aeiou]|\b[Aa]n [^aeiou]|\b(\w+) \1\b")
    for story in some(level, split):
        asked = [line for line in story.text.splitlines() if line.startswith(("Q: ", "A: "))]
        prose = " ".join(line for line in story.text.splitlines() if line not in asked)
        assert prose == story.prose == " ".join(story.sentences) and story.text.endswith("\n")
        for q in story.questions:
            small, lines = steps_to(story, q), [f"Q: {q.text}", f"A: {q.answer}"]
            stepwise = asked[: len(small) + 2] == small + lines and level.endswith("drill")
            steps += [stepwise] * bool(small)
            taken = small + lines if stepwise else lines
            assert asked[: len(taken)] == taken, story.text
            asked = asked[len(taken) :]
            told = " ".join(story.told(q))
            assert (
                told == story.prose[: q.position] and story.prompt(q) == f"{told}\nQ: {q.text}\nA:"
            )
        assert len({(q.text, q.position) for q in story.questions}) == len(story.questions)
        assert all(re.fullmatch(r"\"?[A-Z].*[.!?\"]", sentence) for sentence in story.sentences)
        assert len(set(story.sentences)) == len(story.sentences) and not wrong.search(prose), prose
        assert not asked
    assert (0.3 < sum(steps) / len(steps) < 0.9) if level.endswith("drill") else not any(steps)


def test_scenery_and_phrases_name_nothing_of_the_world():
    """Oracle: word lists. A place in the scenery would be told as if it mattered."""
    scenery = [sentence for weather in WEATHERS for part in weather for sentence in part]
    assert not NAMED & set(words(" ".join([*EVENTS.values(), *MOODS.values(), *scenery])))
    frequent = (
        "start own lie move carry join together take drop drop_at give lose find put take_out"
    )
    assert all(len(EVENTS[key].strip().splitlines()) >= 6 for key in frequent.split())


@pytest.mark.parametrize("level", ["brief", "short", "base", "long", "hard"])
def test_cheap_shortcuts_stay_below_forty_percent(level):
    """Oracle: exact match of each shortcut on test stories, per main kind and overall."""
    train, test = (
        [(s, q) for s in some(level, x, 600, 1) for q in s.questions] for x in ("train", "test")
    )
    table = shortcut_table(train, test)
    # nearly the rule; too rare for kinds
    near, again = table.pop("same sentence"), table.pop("last answer")
    assert all(share < 0.4 for row in table.values() for share in row.values()), table
    assert max(near["who-has"], again["all"]) < 0.4
    carried = [pair for pair in test if pair[1].kind == "where-object" and pair[1].hops > 1]
    assert sum(shortcut_answers(s, q)["same sentence"] == q.answer for s, q in carried) < 0.4 * len(
        carried
    )


@pytest.mark.parametrize("level", ["brief", "short"])
def test_drills_in_steps_ask_more_of_two_steps_and_of_hands(level):
    """Oracle: the stories that they are drills of."""
    asked, drilled = (
        [q for s in some(name, "train") for q in s.questions]
        for name in (level, f"{level}-steps-drill")
    )
    kinds = ("who-has", "where-object")
    for harder in (lambda q: q.hops == 2, lambda q: q.kind in kinds, lambda q: q.kind == "before"):
        assert sum(map(harder, drilled)) / len(drilled) > 1.1 * sum(map(harder, asked)) / len(asked)


def test_long_stories_have_about_twice_the_changes():
    """Oracle: the events that change something, counted."""
    verbs = "move join take find drop give lose".split()
    base, long = (
        sum(e.verb in verbs for s in some(x, "train") for e in s.events) for x in ("base", "long")
    )
    assert 1.6 < long / base < 2.4


@pytest.mark.parametrize(
    ("wrong", "choices"), [("split", "train, test"), ("level", "short, base, long")]
)
def test_unknown_names_are_refused_with_the_choices(wrong, choices):
    """Oracle: the message."""
    with pytest.raises(ValueError, match=choices):
        next(stories(**{wrong: "huge"}))
