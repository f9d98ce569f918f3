"""A chain of small steps, or the answer at once (scratchpads, Nye et al. 2021; chain of thought, Wei et al. 2022)?

The same questions are put to the tuned model three ways: as it likes to answer, with its notes begun for it, and with
the request to answer at once. Beside it stands the story model, which always answers at once.
"""

from collections.abc import Sequence
from itertools import islice

import torch

from ch01_text.storyworld.notes import NOTES
from ch03_gpt import complete
from ch06_instruction.answering import MAX_NEW_TOKENS, Chat
from ch06_instruction.chat import END
from ch06_instruction.evaluation import ask_base
from ch06_instruction.grading import exact_match
from ch06_instruction.instructions import AT_ONCE, Instruction, instructions
from ch07_practice.harness import Finding, share
from ch07_practice.labs.setting import Setting

HOPS = {1: "one step", 2: "two steps"}


def draw_questions(n: int, seed: int, hops: int) -> list[Instruction]:
    """`n` answerable questions that chain so many facts, none of which ask to be answered at once."""
    every = instructions(10**9, seed, only="question", steps=True)
    return list(islice((one for one in every if one.answerable and one.hops == hops), n))


def at_once(one: Instruction) -> list[dict[str, str]]:
    """The same question with the request to answer at once."""
    *before, last = one.messages
    return [*before, {**last, "content": f"{last['content']} {AT_ONCE['test'][0]}"}]


def go_on(chat: Chat, prompts: Sequence[Sequence[int]], beginning: str, **options) -> list[str]:
    """What the model makes of responses that begin so, the beginning included."""
    begun = chat.tokenizer.encode(beginning)
    room = chat.model.config.context_length - len(begun)
    with torch.inference_mode(), chat.precision.autocast():
        written = complete(chat.model, [[*prompt[-room:], *begun] for prompt in prompts], MAX_NEW_TOKENS,
                           stop_ids=(chat.tokenizer.special_tokens[END],), **options)
    return [beginning + chat.text(one.ids) for one in written]


def measure(setting: Setting) -> list[Finding]:
    """Right answers by way and number of steps."""
    chat, findings = setting.chat, []
    for hops, name in HOPS.items():
        asked = draw_questions(setting.n, setting.seed, hops)
        ways = {"as it likes": chat.respond([one.messages for one in asked]),
                "notes begun": go_on(chat, [chat.prompt(one.messages) for one in asked], NOTES),
                "at once": chat.respond([at_once(one) for one in asked])}
        for way, answers in ways.items():
            hits = [exact_match(answer, one.answer) for answer, one in zip(answers, asked, strict=True)]
            findings.append(share("steps", f"{name}, {way}", hits))
        rows, _ = ask_base(setting.base.chat, asked)
        findings.append(share("steps", f"{name}, story model at once", list(rows["exact_match"])))
    return findings
