"""Prompt chaining: is a question that takes two facts answered better if a program asks for one
after the other?

"Where is the book?" is asked at once, or in steps: "Who has the book?" and, if the answer is
"Nora", "Where is Nora?" (least-to-most prompting, Zhou et al. 2022; in self-ask, Press et al. 2022,
the model finds the sub-questions itself). Each sub-question is a conversation of its own about the
same story. A chain needs both links, so each link is measured as well. All answers are phrases.
"""

from collections.abc import Sequence

from ch03_gpt import document_start
from ch06_instruction.answering import Chat
from ch06_instruction.grading import exact_match, final_answer
from ch06_instruction.storyworld_tasks import REFUSAL
from ch07_practice.evaluation.evaluation import EvalResult, accuracy_result, evaluate_continuations
from ch07_practice.labs.setting import Setting
from ch07_practice.story_questions import (
    Pair,
    draw_two_step_pairs,
    is_person,
    known_answers,
    user_message,
    where_is,
    who_has,
)


def ask_each(chat: Chat, pairs: Sequence[Pair], questions: Sequence[str]) -> list[str]:
    """Responses to one question about each story, which ends where its pair's question is asked."""
    return chat.respond(
        [
            user_message(story.told(original), question)
            for (story, original), question in zip(pairs, questions, strict=True)
        ]
    )


def next_question(question: str, holder: str) -> str:
    """What to ask once the holder of a thing is known: where that person is. If nobody has it, ask
    for the thing itself.

    >>> next_question("Where is the book?", "Nora"), next_question("Where is the book?", "nobody")
    ('Where is Nora?', 'Where is the book?')
    """
    return where_is(holder) if is_person(holder) else question


def is_true(pair: Pair, question: str, response: str) -> bool:
    """Whether a response answers a sub-question correctly, even if it was the wrong one to ask."""
    return exact_match(response, known_answers(pair).get(question, REFUSAL))


def measure(setting: Setting) -> list[EvalResult]:
    """Right answers at once and in steps, and how often each sub-question is answered correctly."""
    pairs, base = draw_two_step_pairs(setting.n, setting.seed), setting.base
    whole = [question.text for _, question in pairs]
    first = [who_has(question.about) for _, question in pairs]
    at_once, holders = (ask_each(setting.chat, pairs, questions) for questions in (whole, first))
    second = [
        next_question(question, final_answer(holder))
        for question, holder in zip(whole, holders, strict=True)
    ]
    places = ask_each(setting.chat, pairs, second)
    strategies = {"tuned model, at once": at_once, "tuned model, in steps": places}
    links = {"first sub-question": (first, holders), "second sub-question": (second, places)}
    base_rows = [
        (document_start(base.tokenizer, story.prompt(question)), f" {question.answer}\n")
        for story, question in pairs
    ]
    return [
        *(
            accuracy_result(
                "steps",
                strategy,
                [
                    exact_match(answer, question.answer)
                    for answer, (_, question) in zip(answers, pairs, strict=True)
                ],
            )
            for strategy, answers in strategies.items()
        ),
        evaluate_continuations(base, "steps", "story model, at once", base_rows),
        *(
            accuracy_result("steps", f"{link} right", list(map(is_true, pairs, *exchange)))
            for link, exchange in links.items()
        ),
    ]
