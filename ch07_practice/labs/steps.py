"""Prompt chaining: is a question that takes two facts answered better when a program asks for one
after the other?

"Where is the book?" is put at once, or in small questions: "Who has the book?" and, told "Nora",
"Where is Nora?" (least-to-most prompting, Zhou et al. 2022; self-ask, Press et al. 2022). There the
model finds the small ones, here a program does. Each is a conversation of its own below the same
story, and the second is about whomever the first answer names. A chain needs both links, so each is
measured, too. Asked for are phrases only.
"""

from collections.abc import Sequence
from itertools import islice

from ch01_text.storyworld import Question, stories, where_is, who_has
from ch01_text.storyworld.words import PEOPLE
from ch04_pretraining.questions import grade
from ch06_instruction.answering import Chat
from ch06_instruction.grading import exact_match, final_answer
from ch06_instruction.instructions import REFUSAL
from ch07_practice.harness import Finding, share
from ch07_practice.labs.setting import Pair, Setting, register, user


def draw_two_step(n: int, seed: int) -> list[Pair]:
    """`n` unseen stories, each with a question about the place of a thing that takes two told
    facts.
    """
    asked = (
        (story, next((one for one in story.questions if one.hops == 2), None))
        for story in stories(split="test", seed=seed)
    )
    return list(islice((pair for pair in asked if pair[1]), n))


def ask(chat: Chat, pairs: Sequence[Pair], questions: Sequence[str]) -> list[str]:
    """Responses to one question about each story, told as far as its pair's question knows it."""
    return chat.respond(
        [
            user(story.told(known), question)
            for (story, known), question in zip(pairs, questions, strict=True)
        ]
    )


def next_question(question: Question, holder: str) -> str:
    """What to ask when told who has a thing: where that person is, or, of anybody else, where the
    thing itself is.

    >>> book = Question("Where is the book?", "the lake", "where-thing", "book", 2, 0)
    >>> next_question(book, "Nora"), next_question(book, "nobody")
    ('Where is Nora?', 'Where is the book?')
    """
    return where_is(holder) if holder in PEOPLE else question.text


def is_true(pair: Pair, question: str, response: str) -> bool:
    """Whether a response answers a small question rightly, be it the wrong question to ask."""
    return exact_match(response, register(pair).get(question, REFUSAL))


def measure(setting: Setting) -> list[Finding]:
    """Right answers by way; and how often each small question is answered rightly."""
    pairs, base = draw_two_step(setting.n, setting.seed), setting.base
    whole = [question.text for _, question in pairs]
    first = [who_has(question.about) for _, question in pairs]
    likes, holders = (ask(setting.chat, pairs, questions) for questions in (whole, first))
    second = [
        next_question(question, final_answer(holder))
        for (_, question), holder in zip(pairs, holders, strict=True)
    ]
    places = ask(setting.chat, pairs, second)
    ways = {"tuned model, as it likes": likes, "tuned model, small questions": places}
    links = {"first small question": (first, holders), "second small question": (second, places)}
    return [
        *(
            share(
                "steps",
                way,
                [
                    exact_match(answer, question.answer)
                    for answer, (_, question) in zip(answers, pairs, strict=True)
                ],
            )
            for way, answers in ways.items()
        ),
        share(
            "steps",
            "story model, at once",
            grade(base.model, base.tokenizer, pairs, base.precision),
        ),
        *(
            share("steps", f"{link} right", list(map(is_true, pairs, *exchange)))
            for link, exchange in links.items()
        ),
    ]
