"""Tool use: the model writes a call, a program answers it, and the result is fed back (Toolformer,
Schick et al. 2023).

The tuned model begins a response with a plain question to itself: "Q: Where is Nora?". In this
lab, that line is a call. The village's register, not the model, writes the line behind "A:", and
the model continues from there, perhaps with another call that builds on the answer ("Q: Who has the
book?", "A: Nora"). So the model need not track anything; it only has to ask the right questions.
Left out: a choice between several tools, which needs training on calls.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ch06_instruction.answering import Chat
from ch06_instruction.grading import exact_match
from ch07_practice.evaluation.evaluation import EvalResult, accuracy_result
from ch07_practice.labs.setting import Setting, continue_responses
from ch07_practice.story_questions import (
    UNKNOWN,
    draw_pairs,
    known_answers,
    question_lines,
    user_message,
)

MAX_CALLS = 4  # per response
# question -> answer; None if the tool does not know or does not understand
Tool = Callable[[str], str | None]


@dataclass(frozen=True)
class Turn:
    """One response, and the questions in it that the tool answered."""

    text: str
    calls: tuple[str, ...] = ()


def parse_call(line: str) -> str | None:
    """The question of a call; None if the line is not a call.

    >>> parse_call("Q: Where is Nora?"), parse_call("A: the lake")
    ('Where is Nora?', None)
    """
    return line.removeprefix("Q: ") if line.startswith("Q: ") else None


def answer_with_tool(chat: Chat, conversations: Sequence, tools: Sequence[Tool]) -> list[Turn]:
    """Responses in which every call was executed. If the first line is not a call, it is the whole
    response.
    """
    prompts = [chat.prompt(messages) for messages in conversations]
    turns, rows = [Turn("")] * len(prompts), list(range(len(prompts)))
    while rows:
        texts = continue_responses(
            chat, [prompts[row] for row in rows], [turns[row].text for row in rows]
        )
        calling = []
        for row, text in zip(rows, texts, strict=True):
            so_far, calls = turns[row].text, turns[row].calls
            # the first line that the model wrote itself; it invents the tool's answer behind it
            line = text[len(so_far) :].lstrip("\n").partition("\n")[0]
            call = parse_call(line)
            if call is None or len(calls) == MAX_CALLS:
                turns[row] = Turn(text if calls else line, calls)
                continue
            exchange = question_lines(call, tools[row](call) or UNKNOWN).rstrip()
            turns[row] = Turn(f"{so_far}\n{exchange}" if so_far else exchange, (*calls, call))
            calling.append(row)
        rows = calling
    return turns


def measure(setting: Setting) -> list[EvalResult]:
    """Right answers from the question alone, with the story, and with the register instead of the
    story.
    """
    pairs = draw_pairs(setting.n, setting.seed + 3)
    registers = [known_answers(pair) for pair in pairs]

    def right(answers: Sequence[str]) -> list[bool]:
        return [
            exact_match(answer, question.answer)
            for answer, (_, question) in zip(answers, pairs, strict=True)
        ]

    alone = [user_message(question.text) for _, question in pairs]
    told = [user_message(story.prose, question.text) for story, question in pairs]
    with_story = right(setting.chat.respond(told))
    turns = answer_with_tool(setting.chat, alone, [register.get for register in registers])
    with_register = right([turn.text for turn in turns])
    understood = [
        call in register
        for turn, register in zip(turns, registers, strict=True)
        for call in turn.calls
    ]
    after_failure = [hit for hit, read in zip(with_register, with_story, strict=True) if not read]
    optional = {
        "with the register, where the story failed": after_failure,
        "calls that the register could answer": understood,
    }
    return [
        accuracy_result("tools", "the question alone", right(setting.chat.respond(alone))),
        accuracy_result("tools", "with the story", with_story),
        accuracy_result("tools", "with the register", with_register),
        *(accuracy_result("tools", name, hits) for name, hits in optional.items() if hits),
    ]
