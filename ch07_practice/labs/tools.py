"""Tool use: the model writes a call, a program answers it, and the result is fed back (Toolformer, Schick et al. 2023).

The tuned model begins a response by asking again in plain words: "Q: Where is Nora?". Here that line is a call. The
village's register, not the model, writes the line behind "A:", and the model goes on from there. So it need not track
anything, only ask the right question. Left out: a choice between several tools, and calls that follow from the result
of others; both need training on calls.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ch01_text.storyworld import UNKNOWN, question_lines
from ch06_instruction.answering import Chat
from ch06_instruction.grading import exact_match
from ch07_practice.harness import Finding, share
from ch07_practice.labs.setting import Setting, draw_pairs, go_on, register, user

Tool = Callable[[str], str | None]  # question -> answer; None: it does not know, or does not understand


@dataclass(frozen=True)
class Turn:
    """One response, and the question in it that the tool answered; None where there is no call."""

    text: str
    call: str | None = None


def called(line: str) -> str | None:
    """The question of a call.

    >>> called("Q: Where is Nora?"), called("A: the lake")
    ('Where is Nora?', None)
    """
    return line.removeprefix("Q: ") if line.startswith("Q: ") else None


def answer_with_tool(chat: Chat, conversations: Sequence, tools: Sequence[Tool]) -> list[Turn]:
    """Responses in which the call has been executed. A first line that is no call is the whole response."""
    prompts = [chat.prompt(messages) for messages in conversations]
    newline = chat.tokenizer.encode("\n")
    turns = [Turn(line, called(line)) for line in go_on(chat, prompts, [""] * len(prompts), stops=newline)]
    calls = [row for row, turn in enumerate(turns) if turn.call is not None]
    fed = [question_lines(turns[row].call, tools[row](turns[row].call) or UNKNOWN).rstrip() for row in calls]
    if calls:
        for row, text in zip(calls, go_on(chat, [prompts[row] for row in calls], fed), strict=True):
            turns[row] = Turn(text, turns[row].call)
    return turns


def measure(setting: Setting) -> list[Finding]:
    """Right answers without the story, with it, and without it but with the register."""
    pairs = draw_pairs(setting.n, setting.seed + 3, kinds=("where-person", "where-object", "who-has"))
    known = [register(pair) for pair in pairs]

    def right(answers: Sequence[str]) -> list[bool]:
        return [exact_match(answer, question.answer) for answer, (_, question) in zip(answers, pairs, strict=True)]

    bare = [user(question.text) for _, question in pairs]
    read = right(setting.chat.respond([user(story.prose, question.text) for story, question in pairs]))
    turns = answer_with_tool(setting.chat, bare, [answers.get for answers in known])
    helped = right([turn.text for turn in turns])
    understood = [turn.call in answers for turn, answers in zip(turns, known, strict=True) if turn.call is not None]
    failed = [hit for hit, alone in zip(helped, read, strict=True) if not alone]
    findings = [share("tools", "the question alone", right(setting.chat.respond(bare))),
                share("tools", "with the story", read), share("tools", "with the register", helped)]
    if failed:
        findings.append(share("tools", "with the register, where the story did not do", failed))
    return [*findings, *([share("tools", "calls that the register could answer", understood)] if understood else [])]
