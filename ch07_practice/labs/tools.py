"""Tool use: the model writes a call, a program answers it, and the result is fed back (Toolformer,
Schick et al. 2023).

The tuned model begins a response by asking itself plainly: "Q: Who has the book?". Here that line
is a call. The village's register, not the model, writes the line behind "A:", and the model goes on
from there, perhaps with another call that follows from the answer ("Q: Who has the book?", "A:
Nora"). So it need not track anything, only ask the right questions. Left out: a choice between
several tools, which needs training on calls.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ch01_text.storyworld import UNKNOWN, question_lines
from ch06_instruction.answering import Chat
from ch06_instruction.grading import exact_match
from ch07_practice.harness import Finding, share
from ch07_practice.labs.setting import Setting, draw_pairs, go_on, register, user

MAX_CALLS = 4  # in one response
# question -> answer; None: it does not know, or does not understand
Tool = Callable[[str], str | None]


@dataclass(frozen=True)
class Turn:
    """One response, and the questions in it that the tool answered."""

    text: str
    calls: tuple[str, ...] = ()


def called(line: str) -> str | None:
    """The question of a call.

    >>> called("Q: Where is Nora?"), called("A: the lake")
    ('Where is Nora?', None)
    """
    return line.removeprefix("Q: ") if line.startswith("Q: ") else None


def answer_with_tool(chat: Chat, conversations: Sequence, tools: Sequence[Tool]) -> list[Turn]:
    """Responses in which the call has been executed. A first line that is no call is the whole
    response.
    """
    prompts = [chat.prompt(messages) for messages in conversations]
    turns, rows = [Turn("")] * len(prompts), list(range(len(prompts)))
    while rows:
        texts = go_on(chat, [prompts[row] for row in rows], [turns[row].text for row in rows])
        calling = []
        for row, text in zip(rows, texts, strict=True):
            so_far, calls = turns[row].text, turns[row].calls
            # the first one that the model wrote itself
            line = text[len(so_far) :].lstrip("\n").partition("\n")[0]
            call = called(line)
            if call is None or len(calls) == MAX_CALLS:
                turns[row] = Turn(text if calls else line, calls)
                continue
            fed = question_lines(call, tools[row](call) or UNKNOWN).rstrip()
            turns[row] = Turn(f"{so_far}\n{fed}" if so_far else fed, (*calls, call))
            calling.append(row)
        rows = calling
    return turns


def measure(setting: Setting) -> list[Finding]:
    """Right answers without the story, with it, and without it but with the register."""
    pairs = draw_pairs(
        setting.n, setting.seed + 3, kinds=("where-person", "where-thing", "who-has")
    )
    known = [register(pair) for pair in pairs]

    def right(answers: Sequence[str]) -> list[bool]:
        return [
            exact_match(answer, question.answer)
            for answer, (_, question) in zip(answers, pairs, strict=True)
        ]

    bare = [user(question.text) for _, question in pairs]
    read = right(
        setting.chat.respond([user(story.prose, question.text) for story, question in pairs])
    )
    turns = answer_with_tool(setting.chat, bare, [answers.get for answers in known])
    helped = right([turn.text for turn in turns])
    understood = [
        call in answers for turn, answers in zip(turns, known, strict=True) for call in turn.calls
    ]
    failed = [hit for hit, alone in zip(helped, read, strict=True) if not alone]
    findings = [
        share("tools", "the question alone", right(setting.chat.respond(bare))),
        share("tools", "with the story", read),
        share("tools", "with the register", helped),
    ]
    if failed:
        findings.append(share("tools", "with the register, where the story did not do", failed))
    return [
        *findings,
        *(
            [share("tools", "calls that the register could answer", understood)]
            if understood
            else []
        ),
    ]
