"""Structured output: how often is the answer valid JSON, asked for kindly or held to it by
constrained decoding?

The tuned model knows one form, {"answer": ...}. Asked for keys that it never saw it cannot follow;
the constraint makes every answer valid, which is not the same as right: the model still has to fill
in the values.
"""

import json
from collections.abc import Callable, Sequence

import torch

from ch06_instruction.answering import MAX_NEW_TOKENS, Chat
from ch06_instruction.chat import END
from ch06_instruction.grading import final_answer
from ch06_instruction.instructions import FORM_WORDS
from ch07_practice.constrained import Pattern, RegexConstraint, Vocabulary
from ch07_practice.harness import Finding, share
from ch07_practice.labs.setting import Setting, draw_pairs, go_on, user

EXCHANGE = r"(Q: [^\n]*\nA: [^\n]*\n)?"
# what may stand before the answer: small questions
STEPS = EXCHANGE + EXCHANGE + r"(Q: [^\n]*\n)?(A: )?"
KNOWN = r'\{"answer": (null|"[A-Za-z ]+")\}'
UNSEEN = r'\{"who": "[A-Z][a-z]+", "where": "[a-z ]+"\}'
UNSEEN_WORDS = "Answer in JSON with the keys who and where."


def answer_within(
    chat: Chat, conversations: Sequence, expression: str | None, **options
) -> list[str]:
    """Answers, held to a regular expression where one is given."""
    prompts, constraints = [chat.prompt(messages) for messages in conversations], None
    if expression is not None:
        pattern = Pattern(
            expression, Vocabulary(chat.tokenizer, chat.tokenizer.special_tokens[END])
        )
        constraints = [RegexConstraint(pattern, MAX_NEW_TOKENS) for _ in prompts]
    return go_on(chat, prompts, [""] * len(prompts), constraints=constraints, **options)


def parsed(response: str, *keys: str) -> dict | None:
    """The object on the last line of a response; None where it is not valid or has other keys.

    >>> parsed('A: {"answer": "the lake"}', "answer")
    {'answer': 'the lake'}
    """
    try:
        found = json.loads(final_answer(response))
    except ValueError:
        return None
    return found if isinstance(found, dict) and tuple(found) == keys else None


def measure(setting: Setting) -> list[Finding]:
    """The share of valid and of right answers, free and constrained."""
    pairs = draw_pairs(setting.n, setting.seed + 2, kinds=("where-person",))
    known = [
        user(story.prose, f"{question.text} {FORM_WORDS['json']['test'][0]}")
        for story, question in pairs
    ]
    unseen = [user(story.prose, f"{question.text} {UNSEEN_WORDS}") for story, question in pairs]
    rights: dict[str, Callable] = {
        KNOWN: lambda found, question: found == {"answer": question.answer},
        UNSEEN: (
            lambda found, question: (
                found["who"] == question.about
                and f"the {found['where'].removeprefix('the ')}" == question.answer
            )
        ),
    }
    keys = {KNOWN: ("answer",), UNSEEN: ("who", "where")}
    findings = []
    for name, asked, form, temperature in (
        ("known keys", known, KNOWN, 0.0),
        ("known keys, hot", known, KNOWN, 1.5),
        ("new keys", unseen, UNSEEN, 0.0),
    ):
        for way, expression in (("free", None), ("constrained", STEPS + form)):
            generator = torch.Generator(setting.chat.precision.device).manual_seed(setting.seed)
            answers = answer_within(
                setting.chat, asked, expression, temperature=temperature, generator=generator
            )
            objects = [parsed(answer, *keys[form]) for answer in answers]
            right = [
                found is not None and rights[form](found, question)
                for found, (_, question) in zip(objects, pairs, strict=True)
            ]
            findings += [
                share(
                    "structured", f"{name}, {way}: valid", [found is not None for found in objects]
                ),
                share("structured", f"{name}, {way}: right", right),
            ]
    return findings
