"""Few-shot prompting: does it help to show solved examples first (Brown et al. 2020)?

Large models learn from examples in the prompt; ours has never seen two stories side by side, so
examples may even distract it. The lab tries the question format of its training texts, a slightly
different one, and one that it never saw. Examples with wrong answers show whether the model uses
the examples' answers at all (Min et al. 2022). Left out: examples similar to the question, and more
examples than a context of 256 tokens holds.
"""

from random import Random

from ch03_gpt import document_start
from ch07_practice.evaluation.evaluation import EvalResult, evaluate_continuations
from ch07_practice.labs.setting import Setting
from ch07_practice.story_questions import Pair, answer_choices, draw_short_pairs, question_lines

SHOTS = (0, 1, 2)
MAX_EXAMPLE_TOKENS = 80  # so that two examples and a question fit 256


def without_q(question: str, answer: str | None = None) -> str:
    """The training format without "Q: "."""
    return question_lines(question, answer).removeprefix("Q: ")


def unseen_format(question: str, answer: str | None = None) -> str:
    """A format of no training text.

    >>> unseen_format("Where is Nora?", "the mill")
    'Where is Nora? => the mill\\n'
    """
    return f"{question} =>" + ("" if answer is None else f" {answer}\n")


FORMATS = {"known format": question_lines, "without Q:": without_q, "unseen format": unseen_format}


def few_shot_prompt(form, examples: list[tuple[Pair, str]], pair: Pair) -> str:
    """Solved examples, each with the given answer, and then the question."""
    solved = "".join(
        f"{story.told(question)}\n{form(question.text, answer)}\n"
        for (story, question), answer in examples
    )
    story, question = pair
    return f"{solved}{story.told(question)}\n{form(question.text)}"


def measure(setting: Setting) -> list[EvalResult]:
    """Exact match of greedy answers by format and number of examples, and with two examples whose
    answers are wrong.
    """
    rng, tokenizer = Random(setting.seed), setting.base.tokenizer
    pairs, pool = (
        draw_short_pairs(tokenizer, split, n, setting.seed, MAX_EXAMPLE_TOKENS)
        for split, n in (("test", 2 * setting.n), ("train", 50))
    )
    shown = [rng.sample(pool, max(SHOTS)) for _ in pairs]
    wrong = [
        [
            (
                one,
                rng.choice([choice for choice in answer_choices(*one) if choice != one[1].answer]),
            )
            for one in few
        ]
        for few in shown
    ]
    right = [[(one, one[1].answer) for one in few] for few in shown]
    results = []
    for name, form in FORMATS.items():
        variants = [(f"{name}, {k} examples", [few[:k] for few in right]) for k in SHOTS]
        for label, examples in [*variants, (f"{name}, 2 examples, wrong", wrong)]:
            rows = [
                (
                    document_start(tokenizer, few_shot_prompt(form, few, pair)),
                    f" {pair[1].answer}\n",
                )
                for few, pair in zip(examples, pairs, strict=True)
            ]
            results.append(evaluate_continuations(setting.base, "few-shot", label, rows))
    return results
