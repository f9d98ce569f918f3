"""Pairs of a better and a worse response: made from stories, where a program knows which is which,
or drawn from the model itself and judged.

Made pairs are of four kinds: right or wrong, honest ("the story does not say") or invented, brief
or rambling, polite or rude. They teach a reward model what people ask for; the drawn ones show a
model its own mistakes.
"""

from collections.abc import Sequence
from random import Random

import torch

from ch01_text import BPETokenizer
from ch01_text.storyworld.words import PLACES, the
from ch06_instruction.answering import Chat, answered
from ch06_instruction.chat import Message, encode_chat
from ch06_instruction.grading import exact_match
from ch06_instruction.instructions import REFUSAL, Instruction, in_form, instructions
from ch06_instruction.reward_model import Pair

KINDS = ("right", "honest", "brief", "polite")
RAMBLING = (
    "That is a good question.",
    "Let me think about it for a while.",
    "Everybody in the village knows that.",
    "It was a long day.",
    "I could tell you much more.",
    "As I said before, so it is.",
)
RUDE = ("Read it yourself.", "What a silly question.", "I will not tell you.", "Leave me alone.")


def another_answer(one: Instruction, rng: Random) -> str:
    """A wrong answer of the right kind and form, from the same story."""
    question, cast = one.question, one.story.cast
    choices = cast.people if question.kind == "who-has" else map(the, cast.places)
    others = [answer for answer in choices if answer != question.answer]
    return in_form(question, rng.choice(others), one.form)


def worse(one: Instruction, kind: str, rng: Random) -> str | None:
    """The last line of a worse response than the right one, in one respect; None where that does
    not apply.
    """
    if kind == "right":
        return another_answer(one, rng) if one.answerable else None
    if kind == "honest":
        if one.answerable:
            return None
        asks_who = one.question.kind == "who-has"
        invented = rng.choice(one.story.cast.people if asks_who else tuple(map(the, PLACES)))
        return in_form(one.question, invented, one.form)
    if one.form == "json":
        return None
    if kind == "brief":
        return " ".join((one.answer, *rng.sample(RAMBLING, rng.randint(1, 3))))
    return rng.choice(RUDE) if one.answer == REFUSAL else f"{rng.choice(RUDE)} {one.answer}"


def pair(
    tokenizer: BPETokenizer,
    messages: Sequence[Message],
    chosen: str,
    rejected: str,
    kind: str,
    context_length: int,
) -> Pair:
    """Two responses as ids; ValueError where they are equal."""
    if chosen == rejected:
        raise ValueError(f"the chosen and the rejected response are equal: {chosen[:60]!r}")
    encoded = [
        encode_chat(tokenizer, [*messages, {"role": "assistant", "content": text}], context_length)
        for text in (chosen, rejected)
    ]
    return Pair(*encoded, kind)


def story_pairs(
    tokenizer: BPETokenizer, n: int, context_length: int, seed: int = 0, split: str = "train"
) -> list[Pair]:
    """`n` made pairs, the four kinds in turn as far as they apply; both responses begin alike."""
    rng = Random(f"pairs/{split}/{seed}")
    pairs: list[Pair] = []
    for one in instructions(8 * n, seed, split, only="question"):
        kind = KINDS[len(pairs) % len(KINDS)]
        last_line = worse(one, kind, rng)
        if last_line is None or last_line == one.answer:
            continue
        beginning = one.response.removesuffix(one.answer)
        pairs.append(
            pair(tokenizer, one.messages, one.response, beginning + last_line, kind, context_length)
        )
        if len(pairs) == n:
            break
    return pairs


def drawn_pairs(
    chat: Chat,
    asked: Sequence[Instruction],
    samples: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    batch_size: int = 128,
) -> tuple[list[Pair], float]:
    """Pairs of a right and a wrong response that the model itself drew, one from each prompt that
    had both; and the share of right ones among all that were drawn.
    """
    pairs, right = [], 0
    at_once = max(1, batch_size // samples)
    for first in range(0, len(asked), at_once):
        several = asked[first : first + at_once]
        prompts = [chat.prompt(one.messages) for one in several]
        drawn = chat.draw(prompts, samples, temperature, generator)
        for number, one in enumerate(several):
            own = drawn[number * samples : (number + 1) * samples]
            hits = [exact_match(chat.text(ids), one.answer) for ids in own]
            right += sum(hits)
            if any(hits) and not all(hits):
                chosen, rejected = own[hits.index(True)], own[hits.index(False)]
                pairs.append(
                    Pair(
                        answered(prompts[number], chosen),
                        answered(prompts[number], rejected),
                        "drawn",
                    )
                )
    return pairs, right / (len(asked) * samples)
