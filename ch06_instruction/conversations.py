"""Conversations and preferences from files: Alpaca entries, lists of messages, ShareGPT's turns;
JSON or JSON lines.

What comes out is checked (`chat.check_conversation`) and always has the same form, so that the rest
of the chapter does not ask where it came from. The book's two files are read the same way.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ch01_text import fetch
from ch01_text.text_datasets import read_text_file
from ch06_instruction.chat import Message, check_conversation

TEMPLATE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\n"
)
SPEAKERS = {"human": "user", "gpt": "assistant"}  # ShareGPT's names; its "system" is ours

Conversation = list[Message]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Preference:
    """A prompt, which ends with the user, and two responses to it, the better one first."""

    messages: tuple[Message, ...]
    chosen: str
    rejected: str


def require(value: Any, kind: type, what: str) -> None:
    """ValueError where a value of a file is none of `kind`, a list or text."""
    if not isinstance(value, kind):
        name = {list: "a list", dict: "an object", str: "text"}[kind]
        raise ValueError(f"{what} must be {name}, not {json.dumps(value)[:40]}")


def require_texts(entry: Mapping[str, Any], *names: str) -> None:
    """ValueError where one of the fields is missing, is no text, or is empty."""
    if missing := [name for name in names if name not in entry]:
        raise ValueError(
            f"there is no {' and no '.join(missing)}, but {', '.join(entry) or 'no field at all'}"
        )
    for name in names:
        require(entry[name], str, name)
        if not entry[name].strip():
            raise ValueError(f"{name} is empty; fill it in, or take the entry out")


def alpaca_prompt(entry: Mapping[str, Any]) -> str:
    """An instruction with its input, if any, as the book's prompt (Taori et al. 2023): what the
    user says.

    ValueError where the instruction is missing or empty, or the input is no text.

    >>> alpaca_prompt({"instruction": "Name the opposite.", "input": "hot"})[107:]
    '### Instruction:\\nName the opposite.\\n\\n### Input:\\nhot'
    """
    require_texts(entry, "instruction")
    more = entry.get("input") or ""
    require(more, str, "input")
    return TEMPLATE + entry["instruction"] + (f"\n\n### Input:\n{more}" if more.strip() else "")


def as_messages(turns: Any) -> Conversation:
    """A list of {"role", "content"} or ShareGPT's {"from", "value"} -> messages without other
    fields, checked.
    """
    require(turns, list, "the messages")
    messages = list(turns)
    for number, turn in enumerate(turns):
        for role, content in (("from", "value"), ("role", "content")):
            if isinstance(turn, dict) and {role, content} <= set(turn):
                messages[number] = {
                    "role": SPEAKERS.get(str(turn[role]), turn[role]),
                    "content": turn[content],
                }
    check_conversation(messages)
    return messages


def as_conversation(entry: Any) -> Conversation:
    """An entry of a file -> a conversation that ends with the assistant; ValueError says what is
    wrong with it.
    """
    if not isinstance(entry, list):
        require(entry, dict, "an entry")
        if name := next((name for name in ("messages", "conversations") if name in entry), None):
            entry = entry[name]
        else:
            require_texts(entry, "instruction", "output")
            entry = [
                {"from": "human", "value": alpaca_prompt(entry)},
                {"from": "gpt", "value": entry["output"]},
            ]
    messages = as_messages(entry)
    if messages[-1]["role"] != "assistant":
        raise ValueError(
            f"the last message is the {messages[-1]['role']}'s; end with the assistant's, to learn"
            " from"
        )
    return messages


def as_prompt(entry: Mapping[str, Any]) -> Conversation:
    """What both responses of an entry answer: its prompt, its messages, or its instruction; ends
    with the user.
    """
    name = next((name for name in ("prompt", "messages") if name in entry), None)
    turns = entry[name] if name else alpaca_prompt(entry)
    messages = as_messages(
        [{"role": "user", "content": turns}] if isinstance(turns, str) else turns
    )
    if messages[-1]["role"] != "user":
        raise ValueError(
            f"{name} ends with the {messages[-1]['role']}; a prompt ends with the user"
        )
    return messages


def as_response(entry: Mapping[str, Any], name: str, prompt: Conversation) -> str:
    """The text of `chosen` or `rejected`: itself, or the last of its messages, which may repeat
    the prompt.
    """
    if not isinstance(entry.get(name), list):
        require_texts(entry, name)
        return entry[name]
    messages = as_messages([*prompt, *entry[name]] if len(entry[name]) == 1 else entry[name])
    if messages[:-1] != prompt:
        raise ValueError(f"{name} is not the prompt and one more message, of the assistant")
    return messages[-1]["content"]


def as_preference(entry: Any, equal: bool) -> Preference:
    """An entry of a file -> a preference; ValueError says what is wrong with it; `equal`
    responses may be allowed.
    """
    require(entry, dict, "an entry")
    prompt = as_prompt(entry)
    chosen, rejected = (as_response(entry, name, prompt) for name in ("chosen", "rejected"))
    if chosen == rejected and not equal:
        raise ValueError(f"chosen and rejected are equal ({chosen[:40]!r}); take the entry out")
    return Preference(tuple(prompt), chosen, rejected)


def parse(text: str, path: Path, line: int = 1) -> Any:
    """JSON -> its value; ValueError names the file and the line, counted from `line`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line += getattr(error, "lineno", 1) - 1
        remedy = (
            "where each line is an entry, name it .jsonl"
            if "Extra data" in str(error)
            else "mend it there"
        )
        raise ValueError(
            f"{path}, line {line}: not JSON ({getattr(error, 'msg', error)}); {remedy}"
        ) from error


def entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield where each entry of a .json or .jsonl file is, and the entry."""
    if path.suffix not in (".json", ".jsonl"):
        raise ValueError(f"{path} is neither .json nor .jsonl; rename it, or convert it")
    text = read_text_file(path)
    if path.suffix == ".json":
        found = parse(text, path)
        require(found, list, f"{path}: the top level")
        yield from ((f"entry {number}", entry) for number, entry in enumerate(found, 1))
    else:  # splitlines would also cut at characters that JSON allows within a text
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        yield from ((f"line {number}", parse(line, path, number)) for number, line in lines)


def read_entries(path: Path, convert: Callable[[Any], Item]) -> list[Item]:
    """All entries of a file, converted; the errors of `convert` with the file and the place
    before them.
    """
    items = []
    for where, entry in entries(path):
        try:
            items.append(convert(entry))
        except ValueError as error:
            raise ValueError(f"{path}, {where}: {error}") from error
    if not items:
        raise ValueError(f"{path} holds an empty list; give it at least one entry")
    return items


def read_conversations(path: Path | str) -> list[Conversation]:
    """The conversations of a .json or .jsonl file (UTF-8), in its order.

    An entry is {"instruction", "input", "output"}, {"messages": [...]}, {"conversations": [...]} or
    a list of messages. ValueError, naming the file and the line or entry, where one is malformed,
    incomplete, or out of turn.
    """
    return read_entries(Path(path), as_conversation)


def read_preferences(path: Path | str, skip_equal: bool = False) -> list[Preference]:
    """The preferences of a .json or .jsonl file (UTF-8), in its order.

    An entry has "chosen" and "rejected", texts or messages, and "instruction" (and "input"),
    "prompt" or "messages". ValueError as `read_conversations`; where both responses are equal, too,
    unless such entries are to be skipped.
    """
    found = read_entries(Path(path), lambda entry: as_preference(entry, equal=skip_equal))
    return [one for one in found if one.chosen != one.rejected]


def book_conversations() -> list[Conversation]:
    """The book's 1,100 instructions; downloaded where they are not at hand."""
    return read_conversations(fetch("book-instructions"))


def book_preferences() -> list[Preference]:
    """The book's preferences about these: 1,094 of 1,100, since in six both responses are the
    same.
    """
    return read_preferences(fetch("book-preferences"), skip_equal=True)


def split_conversations(
    items: Sequence[Item], test: float = 0.1, val: float = 0.05
) -> tuple[list[Item], list[Item], list[Item]]:
    """Cut into (training, test, validation), in the order of the file, as the book does; nothing is
    shuffled.

    >>> [len(part) for part in split_conversations(range(1100))]
    [935, 110, 55]
    """
    first = int(len(items) * round(1 - test - val, 9))
    second = first + int(len(items) * test)
    if not 0 < first < second < len(items):
        raise ValueError(
            f"test {test} and val {val} of {len(items)} entries leave a part empty; choose others"
        )
    return list(items[:first]), list(items[first:second]), list(items[second:])
