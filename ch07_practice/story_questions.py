"""Questions about chapter 1's storyworld, as data for evaluation, labs, server and chat.

The only module of this chapter, besides `main`, that imports `ch01_text.storyworld`: the others
take prompts, conversations, answers and functions, so that they work for any text. A `Pair` is a
story with one question about it; its answer follows from the story's true state.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from random import Random

from ch01_text.storyworld.scenery import WEATHERS

from ch01_text.storyworld import (
    MAIN_KINDS,
    UNKNOWN,
    Question,
    Story,
    question_lines,
    small_questions,
    stories,
)
from ch01_text.storyworld.questions import ANSWER_TYPE, PERSON, PLACE
from ch01_text.storyworld.words import PLACES, PRONOUNS, the
from ch06_instruction.chat import Message
from ch06_instruction.grading import final_answer
from ch06_instruction.storyworld_tasks import LEVELS

Pair = tuple[Story, Question]


def user_message(*lines: str) -> list[Message]:
    """A conversation of one user message.

    >>> user_message("Tom left.", "Where is Tom?")
    [{'role': 'user', 'content': 'Tom left.\\nWhere is Tom?'}]
    """
    return [{"role": "user", "content": "\n".join(lines)}]


def ask(story: Story, question: Question) -> list[Message]:
    """The story up to the question, and the question, in one user message, as chapter 6 asks."""
    return user_message(story.prose[: question.position], question.text)


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
    """`n` brief stories of a split."""
    return list(stories(n, split=split, level=LEVELS["test"], seed=seed))


def draw_story(seed: int) -> dict[str, str]:
    """An unseen story up to a question about a place or a possession, with the true answer."""
    for story in stories(split="test", level=LEVELS["test"], seed=seed):
        if candidates := [one for one in story.questions if one.kind in MAIN_KINDS]:
            question = Random(seed).choice(candidates)
            return {
                "story": story.prose[: question.position],
                "question": question.text,
                "answer": question.answer,
            }


def closing_pairs(drawn: Iterable[Story], kinds: Sequence[str] = MAIN_KINDS) -> Iterator[Pair]:
    """For each story that has one, an answerable question of the given kinds about its end."""
    for story in drawn:
        candidates = [
            question
            for question in story.questions
            if question.position == len(story.prose)
            and question.kind in kinds
            and question.answer not in ("", UNKNOWN)
        ]
        if candidates:
            yield story, candidates[story.events[-1].sentence % len(candidates)]


def draw_pairs(
    n: int, seed: int, split: str = "test", kinds: Sequence[str] = MAIN_KINDS
) -> list[Pair]:
    """`n` stories, each with a question about its end."""
    drawn = stories(split=split, level=LEVELS["test"], seed=seed)
    return list(islice(closing_pairs(drawn, kinds), n))


def draw_two_step_pairs(n: int, seed: int) -> list[Pair]:
    """`n` unseen stories, each with a question about the place of a thing that takes two facts:
    who has it, and where that person is.
    """
    pairs = (
        (story, question)
        for story in stories(split="test", level=LEVELS["test"], seed=seed)
        for question in [
            one for one in story.questions if one.kind == "where-object" and one.hops == 2
        ][:1]
    )
    return list(islice(pairs, n))


def draw_short_pairs(tokenizer, split: str, n: int, seed: int, max_tokens: int) -> list[Pair]:
    """`n` questions, one per story, whose prompts have at most `max_tokens` tokens."""
    pairs = (
        (story, question)
        for story in stories(split=split, level=LEVELS["test"], seed=seed)
        for question in [
            one
            for one in story.questions
            if one.kind in MAIN_KINDS and len(tokenizer.encode(story.prompt(one))) <= max_tokens
        ][:1]
    )
    return list(islice(pairs, n))


def answer_choices(story: Story, question: Question) -> list[str]:
    """All people, places or things of the story that the question could be about, the right answer
    among them.
    """
    cast, kind = story.cast, ANSWER_TYPE[question.kind]
    if kind == PERSON:
        choices = [*cast.people, "nobody"]
    elif kind == PLACE:
        choices = [the(place) for place in cast.places]
    else:
        choices = [*map(the, (*cast.things, *filter(None, [cast.container]))), "nothing"]
    return list(dict.fromkeys([*choices, question.answer]))


def known_answers(pair: Pair) -> dict[str, str]:
    """Every answerable question about a place or an owner, at the moment of the pair's question
    -> its answer.
    """
    world, answers = pair[0].world(pair[1]), {}
    for one in world.where:
        name = one if one in PRONOUNS else the(one)
        if place := world.place(one):
            answers[f"Where is {name}?"] = the(place)
            answers |= small_questions("where-person", one, world) if one in PRONOUNS else {}
        if one not in PRONOUNS:
            answers[f"Who has {name}?"] = world.holder(one) or "nobody"
    return answers


def is_person(name: str) -> bool:
    return name in PRONOUNS


def absent_place(pair: Pair) -> str:
    """A place that the story does not mention, with its article."""
    return the(next(place for place in PLACES if place not in pair[0].prose))


def main_cast(story: Story) -> tuple[str, ...]:
    """By whom a reader would name a story: two people and the first thing."""
    cast = story.cast
    return (*cast.people[:2], cast.things[0])


def named_question(pair: Pair) -> str:
    """A question that says which story it is about."""
    first, second, thing = main_cast(pair[0])
    return f"In the story of {first}, {second} and {the(thing)}: {pair[1].text}"


def weather_sentences() -> list[str]:
    """Sentences that change nothing in a story."""
    return [scene for weather in WEATHERS for scene in weather.scenes]
