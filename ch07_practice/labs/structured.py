"""Structured output: how often is the answer valid JSON, if the prompt asks for it, and if
constrained decoding enforces it?

The tuned model knows one format, {"answer": ...}. It cannot follow a request for keys that it never
saw. The constraint makes every answer valid, which is not the same as right: the model still
chooses the values.
"""

import json
from collections.abc import Callable, Sequence

import torch

from ch06_instruction.answering import MAX_NEW_TOKENS, Chat
from ch06_instruction.chat import END
from ch06_instruction.grading import final_answer
from ch06_instruction.storyworld_tasks import FORM_WORDS
from ch07_practice.decoding.constrained import Pattern, RegexConstraint, Vocabulary
from ch07_practice.evaluation.evaluation import EvalResult, accuracy_result
from ch07_practice.labs.setting import Setting, continue_responses
from ch07_practice.story_questions import draw_pairs, user_message

EXCHANGE = r"(Q: [^\n]*\nA: [^\n]*\n)?"
# the model's own sub-questions, which may precede the answer
STEPS = EXCHANGE + EXCHANGE + r"(Q: [^\n]*\n)?(A: )?"
KNOWN = r'\{"answer": (null|"[A-Za-z ]+")\}'
UNSEEN = r'\{"who": "[A-Z][a-z]+", "where": "[a-z ]+"\}'
UNSEEN_REQUEST = "Answer in JSON with the keys who and where."


def constrained_answers(
    chat: Chat, conversations: Sequence, expression: str | None, **options
) -> list[str]:
    """Answers that match a regular expression; None: unconstrained."""
    prompts, constraints = [chat.prompt(messages) for messages in conversations], None
    if expression is not None:
        vocabulary = Vocabulary(chat.tokenizer, chat.tokenizer.special_tokens[END])
        pattern = Pattern(expression, vocabulary)
        constraints = [RegexConstraint(pattern, MAX_NEW_TOKENS) for _ in prompts]
    beginnings = [""] * len(prompts)
    return continue_responses(chat, prompts, beginnings, constraints=constraints, **options)


def parse_answer(response: str, *keys: str) -> dict | None:
    """The object on the last line of a response; None if it is invalid or has other keys.

    >>> parse_answer('A: {"answer": "the lake"}', "answer")
    {'answer': 'the lake'}
    """
    try:
        parsed = json.loads(final_answer(response))
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) and tuple(parsed) == keys else None


def measure(setting: Setting) -> list[EvalResult]:
    """The shares of valid and of right answers, unconstrained and constrained."""
    pairs = draw_pairs(setting.n, setting.seed + 2, kinds=("where-person",))
    known = [
        user_message(story.prose, f"{question.text} {FORM_WORDS['json']['test'][0]}")
        for story, question in pairs
    ]
    unseen = [
        user_message(story.prose, f"{question.text} {UNSEEN_REQUEST}") for story, question in pairs
    ]
    is_right: dict[str, Callable] = {
        KNOWN: lambda answer, question: answer == {"answer": question.answer},
        UNSEEN: (
            lambda answer, question: (
                answer["who"] == question.about
                and f"the {answer['where'].removeprefix('the ')}" == question.answer
            )
        ),
    }
    keys = {KNOWN: ("answer",), UNSEEN: ("who", "where")}
    results = []
    for name, conversations, expression, temperature in (
        ("known keys", known, KNOWN, 0.0),
        ("known keys, hot", known, KNOWN, 1.5),
        ("new keys", unseen, UNSEEN, 0.0),
    ):
        for mode, constraint in (("free", None), ("constrained", STEPS + expression)):
            generator = torch.Generator(setting.chat.precision.device).manual_seed(setting.seed)
            answers = constrained_answers(
                setting.chat,
                conversations,
                constraint,
                temperature=temperature,
                generator=generator,
            )
            objects = [parse_answer(answer, *keys[expression]) for answer in answers]
            valid = [one is not None for one in objects]
            right = [
                one is not None and is_right[expression](one, question)
                for one, (_, question) in zip(objects, pairs, strict=True)
            ]
            results += [
                accuracy_result("structured", f"{name}, {mode}: valid", valid),
                accuracy_result("structured", f"{name}, {mode}: right", right),
            ]
    return results
