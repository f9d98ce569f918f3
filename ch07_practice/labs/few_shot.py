"""Few-shot prompting: does it help to show solved examples first (Brown et al. 2020)?

Large models learn from examples within the prompt; ours has never seen two stories side by side. So
examples may even distract it, which is measured in the form of its training texts, in a slightly
different one and in one it never saw. Examples with wrong answers say whether their answers are
read at all (Min et al. 2022). Left out: examples chosen to resemble the question, and more of them
than a context of 256 tokens holds.
"""

from random import Random

from ch01_text.storyworld import UNKNOWN, question_lines, stories
from ch03_gpt import document_start
from ch07_practice.harness import Finding, choices_of, share
from ch07_practice.labs.setting import Pair, Setting

SHOTS = (0, 1, 2)
PROMPT_TOKENS = 80  # of one example, at most: two and a question then fit 256


def without_q(question: str, answer: str | None = None) -> str:
    """The same without its first mark."""
    return question_lines(question, answer).removeprefix("Q: ")


def new_form(question: str, answer: str | None = None) -> str:
    """A form of no training text.

    >>> new_form("Where is Nora?", "the mill")
    'Where is Nora? => the mill\\n'
    """
    return f"{question} =>" + ("" if answer is None else f" {answer}\n")


FORMS = {"known form": question_lines, "without Q:": without_q, "new form": new_form}


def short_pairs(tokenizer, split: str, n: int, seed: int) -> list[Pair]:
    """`n` questions about beginnings of stories that are short enough."""
    found: list[Pair] = []
    for story in stories(split=split, seed=seed):
        short = [
            question
            for question in story.questions
            if question.answer != UNKNOWN
            and len(tokenizer.encode(story.prompt(question))) <= PROMPT_TOKENS
        ]
        found += [(story, question) for question in short[:1]]
        if len(found) == n:
            break
    return found


def few_shot_prompt(form, examples: list[tuple[Pair, str]], pair: Pair) -> str:
    """Solved examples, each with the answer given, and then the question."""
    solved = "".join(
        f"{story.told(question)}\n{form(question.text, answer)}\n"
        for (story, question), answer in examples
    )
    story, question = pair
    return f"{solved}{story.told(question)}\n{form(question.text)}"


def measure(setting: Setting) -> list[Finding]:
    """Greedy answers to the letter, by form and number of examples; two examples with wrong
    answers, too.
    """
    rng, tokenizer = Random(setting.seed), setting.base.tokenizer
    pairs = short_pairs(tokenizer, "test", 2 * setting.n, setting.seed)
    pool = short_pairs(tokenizer, "train", 50, setting.seed)
    shown = [rng.sample(pool, max(SHOTS)) for _ in pairs]
    wrong = [
        [
            (one, rng.choice([choice for choice in choices_of(*one) if choice != one[1].answer]))
            for one in few
        ]
        for few in shown
    ]
    right = [[(one, one[1].answer) for one in few] for few in shown]
    findings = []
    for name, form in FORMS.items():
        rows = [(f"{name}, {k} examples", [few[:k] for few in right]) for k in SHOTS]
        for label, examples in [*rows, (f"{name}, 2 examples, wrong", wrong)]:
            scored = [
                (
                    document_start(tokenizer, few_shot_prompt(form, few, pair)),
                    f" {pair[1].answer}\n",
                )
                for few, pair in zip(examples, pairs, strict=True)
            ]
            findings.append(
                share("few-shot", label, [greedy for _, greedy in setting.base.score(scored)])
            )
    return findings
