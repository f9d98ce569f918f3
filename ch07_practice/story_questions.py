"""Questions about chapter 1's storyworld, as data for evaluation, labs, server and chat.

The only module of this chapter, besides `main`, that imports `ch01_text.storyworld`: the others
take prompts, conversations, answers and functions, so that they work for any text. A `Pair` is a
story with one question about it; its answer follows from the story's true state.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from random import Random

from ch01_text.storyworld import (
    KINDS,
    NOBODY,
    UNKNOWN,
    Question,
    Story,
    question_lines,
    stories,
    where_is,
    who_has,
)
from ch01_text.storyworld.phrases import PHRASES
from ch01_text.storyworld.words import PEOPLE, PLACES, the
from ch06_instruction.chat import Message
from ch06_instruction.grading import final_answer

Pair = tuple[Story, Question]


def user_message(*lines: str) -> list[Message]:
    """A conversation of one user message.

    >>> user_message("Tom left.", "Where is Tom?")
    [{'role': 'user', 'content': 'Tom left.\\nWhere is Tom?'}]
    """
    return [{"role": "user", "content": "\n".join(lines)}]


def ask(story: Story, question: Question) -> list[Message]:
    """The story up to the question, and the question, in one user message, as chapter 6 asks."""
    return user_message(story.told(question), question.text)


def story_prompt(messages: Sequence[Message]) -> str:
    """A conversation in the form of chapter 4's training texts, for a model without a chat
    template. The last line of a user's message is the question.

    >>> story_prompt([{"role": "user", "content": "Tom went to the mill.\\nWhere is Tom?"}])
    'Tom went to the mill.\\nQ: Where is Tom?\\nA:'
    """
    text = ""
    for message in messages:
        content = message["content"].strip()
        if message["role"] == "user":
            story, newline, question = content.rpartition("\n")
            text += story.rstrip() + newline + question_lines(question)
        elif message["role"] == "assistant":
            text += f" {final_answer(content)}\n"
        else:
            text += f"{content}\n"
    return text


def draw_stories(n: int, seed: int, split: str = "test") -> list[Story]:
    """`n` stories of a split."""
    return list(stories(n, split=split, seed=seed))


def answerable(story: Story, kinds: Sequence[str] = KINDS) -> list[Question]:
    """The questions of the given kinds that the story answers."""
    return [one for one in story.questions if one.kind in kinds and one.answer != UNKNOWN]


def draw_story(seed: int) -> dict[str, str]:
    """An unseen story up to a question that it answers, with the true answer."""
    endless = stories(split="test", seed=seed)
    story, candidates = next((one, found) for one in endless if (found := answerable(one)))
    question = Random(seed).choice(candidates)
    return {"story": story.told(question), "question": question.text, "answer": question.answer}


def closing_pairs(drawn: Iterable[Story], kinds: Sequence[str] = KINDS) -> Iterator[Pair]:
    """For each story that has one, the last answerable question of the given kinds about its
    end.
    """
    for story in drawn:
        for question in answerable(story, kinds)[-1:]:
            if question.position == len(story.sentences):
                yield story, question


def draw_pairs(n: int, seed: int, split: str = "test", kinds: Sequence[str] = KINDS) -> list[Pair]:
    """`n` stories, each with a question about its end."""
    return list(islice(closing_pairs(stories(split=split, seed=seed), kinds), n))


def draw_two_step_pairs(n: int, seed: int) -> list[Pair]:
    """`n` unseen stories, each with a question about the place of a thing that takes two facts:
    who has it, and where that person is.
    """
    pairs = (
        (story, question)
        for story in stories(split="test", seed=seed)
        for question in [one for one in story.questions if one.hops == 2][:1]
    )
    return list(islice(pairs, n))


def draw_short_pairs(tokenizer, split: str, n: int, seed: int, max_tokens: int) -> list[Pair]:
    """`n` questions, one per story, whose prompts have at most `max_tokens` tokens."""
    pairs = (
        (story, question)
        for story in stories(split=split, seed=seed)
        for question in [
            one
            for one in answerable(story)
            if len(tokenizer.encode(story.prompt(one))) <= max_tokens
        ][:1]
    )
    return list(islice(pairs, n))


def answer_choices(story: Story, question: Question) -> list[str]:
    """All people or places of the story that the question could be about, the right answer among
    them.
    """
    if question.kind == "who-has":
        return [*story.cast.people, NOBODY]
    return [the(place) for place in story.cast.places]


def known_answers(pair: Pair) -> dict[str, str]:
    """Every answerable question about a place or an owner, at the moment of the pair's question
    -> its answer.
    """
    world = pair[0].world(pair[1])
    places = {where_is(one): the(world.place(one)) for one in world.where}
    things = [one for one in world.where if one not in PEOPLE]
    return places | {who_has(thing): world.holder(thing) or NOBODY for thing in things}


def is_person(name: str) -> bool:
    return name in PEOPLE


def absent_place(pair: Pair) -> str:
    """A place that the story does not mention, with its article."""
    return the(next(place for place in PLACES if place not in pair[0].prose))


def main_cast(story: Story) -> tuple[str, ...]:
    """What a query calls a story by: its people and one of its things."""
    return (*story.cast.people, story.cast.things[0])


def named_question(pair: Pair) -> str:
    """A question that says which story it is about."""
    *people, thing = main_cast(pair[0])
    return f"In the story of {', '.join(people)} and {the(thing)}: {pair[1].text}"


def weather_sentences() -> list[str]:
    """Sentences that change nothing in a story."""
    return list(PHRASES["weather"])
