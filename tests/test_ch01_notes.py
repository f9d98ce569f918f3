"""Notes on stories: they say what the questions' true answers say, which come from elsewhere (`Interviewer`)."""

import pytest

from ch01_text.storyworld import Notebook, final_answer, reasoning, stories, write_notes
from ch01_text.storyworld.notes import NOTES, UNNOTED
from ch01_text.storyworld.questions import NUMBERS
from ch01_text.storyworld.words import PLACES, PRONOUNS, the

LEVELS = ("brief", "short", "base", "long", "hard")


def answer_by_rule(kind: str, chain: list[tuple[str, str]], text: str, about: str) -> str:
    """The answer that follows from the notes that matter, and nothing else."""
    spots = [spot for _, spot in chain]
    held = [thing for thing, holder in chain if holder == about]
    if kind in ("where-person", "where-object", "unknown"):
        return the(spots[-1]) if spots[-1] in PLACES else "nobody knows"
    if kind == "before":
        return the(spots[-2])
    if kind == "yes-no":
        return "yes" if text.rstrip("?").split()[-1] == spots[0] else "no"
    if kind == "count":
        return NUMBERS[len(held)]
    if kind in ("what-has", "inside"):
        return the(held[0]) if held else "nothing"
    if kind == "with":
        return next((one for one, place in chain if one != about and place == dict(chain)[about]), "nobody")
    if kind == "feel":
        return spots[0]
    holder = next((spot for spot in spots if spot in PRONOUNS), "nobody")
    return holder


@pytest.mark.parametrize("level", LEVELS)
def test_every_answer_follows_from_the_notes_that_are_picked(level):
    """Oracle: the answers that the interviewer took from the true state."""
    seen = set()
    for story in stories(150, level=level, seed=4):
        for question in story.questions:
            if question.kind in UNNOTED:
                continue
            chain = Notebook(story, question).chain(question)
            answer = answer_by_rule(question.kind, chain, question.text, question.about[0])
            assert answer == question.answer, (story.prose, question)
            seen.add(question.kind)
    assert {"where-person", "where-object", "who-has", "what-has", "before", "with", "yes-no", "count"} <= seen


def test_the_newest_note_is_the_state():
    """Oracle: the chain's notes, looked up in the line of all notes as a reader would, from its end."""
    for story in stories(200, level="short", seed=5):
        for question in story.questions:
            notebook = Notebook(story, question)
            newest = dict(note for note in notebook.notes if note[1] not in ("happy", "sad"))
            if question.kind in ("where-person", "where-object", "who-has", "yes-no", "count", "what-has", "with"):
                assert all(newest[entity] == spot for entity, spot in notebook.chain(question))


def test_reasoning_ends_where_the_answer_begins():
    story = next(stories(1, level="short", seed=7))
    question = story.questions[0]
    notes, thought = reasoning(story, question)
    assert notes == f"{NOTES} {write_notes(Notebook(story, question).notes)}\n"
    assert final_answer(notes + thought + "the mill") == "the mill"
