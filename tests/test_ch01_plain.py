"""Plain texts: their answers are those of a reader who knows nothing but names, and the newest
sentence counts.
"""

import re

import pytest

from ch01_text.storyworld import held_out
from ch01_text.storyworld.plain import PLAIN, plain_texts
from ch01_text.storyworld.words import PEOPLE, PLACES, THINGS

TEXTS = list(plain_texts(400, seed=3))


def place_reached(line: str, places: list[str]) -> str:
    """Where a move ends: of two places, not the one behind "from", "of" or "left"."""
    left = re.search(r"(?:from|of|left) the (\w+)", line)
    return next(place for place in places if not (left and place == left[1]))


def read(prose: str) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Where everybody is, who has what and where, or to whom, everybody went: of two people in a
    sentence about a thing, one gave it to the other; without a thing or a place, the first went to
    the second.
    """
    where, owner, went = {}, {}, {}
    for line in prose.removesuffix(".").split(". "):
        words = re.findall(r"[a-zA-Z]+", line)
        people = [word for word in words if word in PEOPLE]
        places = [word for word in words if word in PLACES]
        things = [word for word in words if word in THINGS]
        if places:
            where[people[0]] = place_reached(line, places)
            went[people[0]] = f"the {where[people[0]]}"
        elif len(people) == 2 and not things:
            where[people[0]], went[people[0]] = where[people[1]], people[1]
        elif len(people) == 2:
            owner[things[0]] = next(one for one in people if one != owner[things[0]])
        else:
            owner[things[0]] = people[0]
    return where, owner, went


def answer(
    question: str, where: dict[str, str], owner: dict[str, str], went: dict[str, str]
) -> str:
    """What follows from that."""
    words = question.rstrip("?").split()
    if words[-1] == "go":
        return went[words[2]]
    if words[-1] not in {*where, *owner, "have"}:
        return "nobody knows"
    if words[0] == "Where":
        return f"the {where[words[-1]]}"
    if words[0] == "Who":
        return owner[words[-1]]
    return "the " + next(thing for thing, one in owner.items() if one == words[2])


def test_a_reader_of_names_finds_every_answer():
    asked = set()
    for text in TEXTS:
        prose, *lines = text.rstrip("\n").split("\n")
        state, guest = read(prose), ""
        for question, said in zip(lines[::2], lines[1::2], strict=True):
            question, said = question.removeprefix("Q: "), said.removeprefix("A: ")
            asked.add(" ".join(question.split()[:2]))
            if question.endswith("then?"):  # the host, where the guest still is
                assert (
                    question == f"Where was {state[2][guest]} then?"
                    and said == f"the {state[0][guest]}"
                ), text
            else:
                guest = question.split()[2]
                assert said == answer(question, *state), text
    assert asked == {"Where is", "Where did", "Where was", "Who has", "What does"}


def test_everybody_and_everything_is_asked_about():
    for text in TEXTS:
        prose, _, questions = text.partition("\n")
        where, owner, _ = read(prose)
        assert all(f"Where is {person}?" in questions for person in where)
        assert all(f"Who has the {thing}?" in questions for thing in owner)
        assert questions.count("nobody knows") == 1


def test_no_text_has_a_pair_of_the_test_worlds():
    for text in TEXTS:
        names = {
            word for word in re.findall(r"[a-zA-Z]+", text) if word in PEOPLE or word in THINGS
        }
        people = names & set(PEOPLE)
        assert not any(held_out(one, other) for one in people for other in names - {one})


def test_the_phrases_name_everything():
    assert min(map(len, PLAIN.values())) >= 4
    assert not re.search(
        r"\b(he|she|him|her|his|it)\b",
        " ".join(phrase for several in PLAIN.values() for phrase in several),
    )


@pytest.mark.parametrize("n", [0, 3])
def test_the_same_seed_gives_the_same_texts(n):
    assert list(plain_texts(n, seed=3)) == TEXTS[:n]
