"""Tool use: the model writes a call, a program answers it, and the result is fed back (Toolformer, Schick et al. 2023).

The village keeps a register of who and what is where. The tuned model thinks in lines such as "So: book: Nora; Nora:
lake;": here each "name:" that it writes is a call, and the register, not the model, writes what follows up to ";". The
model decides what to look up and when it knows enough. Only the beginning of the line is given. Left out: a choice
between several tools, and arguments beyond a name; both need training on calls.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ch01_text.storyworld import Notebook
from ch01_text.storyworld.notes import ANSWER, NOWHERE, THOUGHT, UNTOLD
from ch03_gpt import complete
from ch06_instruction.answering import Chat
from ch06_instruction.chat import END
from ch06_instruction.grading import exact_match
from ch07_practice.harness import Finding, share
from ch07_practice.labs.setting import Pair, Setting, draw_pairs, user

Tool = Callable[[str], str]
ROUND_TOKENS = 24  # written between two calls, at most
MAX_CALLS = 6


@dataclass
class Turn:
    """One response in the making."""

    ids: list[int]  # all that the model reads
    tool: Tool
    text: str = THOUGHT
    calls: list[str] = field(default_factory=list)
    answering: bool = False
    over: bool = False


def register(pair: Pair) -> Tool:
    """The look-up of a story's true state when the question is asked."""
    where = Notebook(*pair).world.where
    return lambda name: where.get(name, UNTOLD) or NOWHERE


def written_name(text: str) -> str:
    """The last name before the colon.

    >>> written_name("So: book: Nora; Nora")
    'Nora'
    """
    return text.replace("\n", ";").replace(THOUGHT, ";").rpartition(";")[2].strip()


def take_in(turn: Turn, written: Sequence[int], tokenizer) -> None:
    """What the model wrote up to a colon: an answer's mark, the end, or a call, which is executed."""
    end = tokenizer.special_tokens[END]
    turn.over = turn.answering or end in written or len(turn.calls) == MAX_CALLS or len(written) == ROUND_TOKENS
    said = tokenizer.decode(list(written)[: list(written).index(end)] if end in written else written)
    turn.text += said
    if turn.over:
        return
    name = written_name(turn.text)
    turn.answering = name == ANSWER.removesuffix(":")
    fed = ":" if turn.answering else f": {turn.tool(name)};"
    turn.text += fed
    turn.ids += [*written, *tokenizer.encode(fed)]
    if not turn.answering:
        turn.calls.append(name)


def answer_with_tool(chat: Chat, conversations: Sequence, tools: Sequence[Tool]) -> list[Turn]:
    """Responses in which every call has been executed; the loop ends with an answer, or after `MAX_CALLS`."""
    tokenizer = chat.tokenizer
    colon, end = tokenizer.encode(":")[0], tokenizer.special_tokens[END]
    turns = [Turn([*chat.prompt(messages), *tokenizer.encode(THOUGHT)], tool)
             for messages, tool in zip(conversations, tools, strict=True)]
    while active := [turn for turn in turns if not turn.over]:
        for answering in (False, True):  # an answer may have a colon, and runs to the end of the message
            batch = [turn for turn in active if turn.answering is answering]
            if batch:
                with torch.inference_mode(), chat.precision.autocast():
                    written = complete(chat.model, [turn.ids for turn in batch], ROUND_TOKENS,
                                       stop_ids=(end,) if answering else (colon,))
                for turn, one in zip(batch, written, strict=True):
                    take_in(turn, one.ids, tokenizer)
    return turns


def measure(setting: Setting) -> list[Finding]:
    """Right answers without the story, with it, and without it but with the register."""
    pairs = draw_pairs(setting.n, setting.seed + 3, kinds=("where-person", "where-object", "who-has"))
    wanted = [question.answer for _, question in pairs]

    def right(answers: Sequence[str]) -> list[bool]:
        return [exact_match(answer, one) for answer, one in zip(answers, wanted, strict=True)]

    bare = [user(question.text) for _, question in pairs]
    read = right(setting.chat.respond([user(story.prose, question.text) for story, question in pairs]))
    turns = answer_with_tool(setting.chat, bare, [register(pair) for pair in pairs])
    helped = right([turn.text for turn in turns])
    known = [Notebook(*pair).world.where for pair in pairs]
    calls = [name in where for turn, where in zip(turns, known, strict=True) for name in turn.calls]
    failed = [hit for hit, alone in zip(helped, read, strict=True) if not alone]
    findings = [share("tools", "the question alone", right(setting.chat.respond(bare))),
                share("tools", "with the story", read), share("tools", "with the register", helped)]
    if failed:
        findings.append(share("tools", "with the register, where the story did not do", failed))
    return [*findings, *([share("tools", "calls that name something known", calls)] if calls else [])]
