"""Conversations and preferences from JSON and JSON Lines files: Alpaca entries, lists of messages,
ShareGPT turns.

Whatever the format, the result is a checked list of messages (`chat.check_conversation`). The
book's two files are read the same way.
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
SPEAKERS = {"human": "user", "gpt": "assistant"}  # ShareGPT's names; "system" is the same

Messages = list[Message]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Preference:
    """A prompt and two responses to it; `kind` says what is better about the chosen one."""

    messages: tuple[Message, ...]  # ends with the user
    chosen: str
    rejected: str
    kind: str = "preference"


def require(value: Any, kind: type, what: str) -> None:
    """ValueError unless a value read from a file is of `kind`: a list, an object or text."""
    if not isinstance(value, kind):
        names: dict[type, str] = {list: "a list", dict: "an object", str: "text"}
        raise ValueError(f"{what} must be {names[kind]}, not {json.dumps(value)[:40]}")


def require_texts(entry: Mapping[str, Any], *names: str) -> None:
    """ValueError if one of the fields is missing, not text, or empty."""
    if missing := [name for name in names if name not in entry]:
        raise ValueError(
            f"there is no {' and no '.join(missing)}, but {', '.join(entry) or 'no field at all'}"
        )
    for name in names:
        require(entry[name], str, name)
        if not entry[name].strip():
            raise ValueError(f"{name} is empty; fill it in, or take the entry out")


def alpaca_prompt(entry: Mapping[str, Any]) -> str:
    """An instruction and its optional input as the book's prompt (Taori et al. 2023).

    ValueError if the instruction is missing or empty, or the input is not text.

    >>> alpaca_prompt({"instruction": "Name the opposite.", "input": "hot"})[107:]
    '### Instruction:\\nName the opposite.\\n\\n### Input:\\nhot'
    """
    require_texts(entry, "instruction")
    more = entry.get("input") or ""
    require(more, str, "input")
    return TEMPLATE + entry["instruction"] + (f"\n\n### Input:\n{more}" if more.strip() else "")


def as_messages(turns: Any) -> Messages:
    """A list of {"role", "content"} or ShareGPT's {"from", "value"} -> checked messages without
    other fields.
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


def as_conversation(entry: Any) -> Messages:
    """An entry of a file -> a conversation that ends with the assistant; ValueError otherwise."""
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
            f"the last message is from the {messages[-1]['role']}; a conversation to learn from"
            " ends with the assistant"
        )
    return messages


def as_prompt(entry: Mapping[str, Any]) -> Messages:
    """The prompt of an entry: its "prompt", "messages" or "instruction", ending with the user."""
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


def as_response(entry: Mapping[str, Any], name: str, prompt: Messages) -> str:
    """The text of `chosen` or `rejected`, which may also be a list of messages: the response alone,
    or the prompt and the response.
    """
    if not isinstance(entry.get(name), list):
        require_texts(entry, name)
        return entry[name]
    messages = as_messages([*prompt, *entry[name]] if len(entry[name]) == 1 else entry[name])
    if messages[:-1] != prompt:
        raise ValueError(f"{name} is not the prompt and one more message from the assistant")
    return messages[-1]["content"]


def as_preference(entry: Any, equal: bool) -> Preference:
    """An entry of a file -> a preference; ValueError for equal responses, unless `equal`."""
    require(entry, dict, "an entry")
    prompt = as_prompt(entry)
    chosen, rejected = (as_response(entry, name, prompt) for name in ("chosen", "rejected"))
    if chosen == rejected and not equal:
        raise ValueError(f"chosen and rejected are equal ({chosen[:40]!r}); take the entry out")
    return Preference(tuple(prompt), chosen, rejected)


def parse(text: str, path: Path, line: int = 1) -> Any:
    """Parse JSON; ValueError names the file and the line, counting from `line`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line += getattr(error, "lineno", 1) - 1
        remedy = (
            "if each line is an entry, name the file .jsonl"
            if "Extra data" in str(error)
            else "correct it there"
        )
        raise ValueError(
            f"{path}, line {line}: not JSON ({getattr(error, 'msg', error)}); {remedy}"
        ) from error


def entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each entry of a .json or .jsonl file."""
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
    """All entries of a file, converted; errors of `convert` get the file and the place in front."""
    items = []
    for where, entry in entries(path):
        try:
            items.append(convert(entry))
        except ValueError as error:
            raise ValueError(f"{path}, {where}: {error}") from error
    if not items:
        raise ValueError(f"{path} holds an empty list; give it at least one entry")
    return items


def read_conversations(path: Path | str) -> list[Messages]:
    """Read the conversations of a .json or .jsonl file (UTF-8).

    An entry is {"instruction", "input", "output"}, {"messages": [...]}, {"conversations": [...]} or
    a list of messages. ValueError, naming the file and the line or entry, if one is malformed,
    incomplete or out of turn.
    """
    return read_entries(Path(path), as_conversation)


def read_preferences(path: Path | str, skip_equal: bool = False) -> list[Preference]:
    """Read the preferences of a .json or .jsonl file (UTF-8).

    An entry has "chosen" and "rejected", texts or messages, and "instruction" (and "input"),
    "prompt" or "messages". ValueError as `read_conversations`, and for equal responses unless
    `skip_equal`.
    """
    found = read_entries(Path(path), lambda entry: as_preference(entry, equal=skip_equal))
    return [one for one in found if one.chosen != one.rejected]


def book_conversations() -> list[Messages]:
    """The book's 1,100 instructions, downloaded if necessary."""
    return read_conversations(fetch("book-instructions"))


def book_preferences() -> list[Preference]:
    """The book's preferences for them: 1,094 of 1,100, without the six of two equal responses."""
    return read_preferences(fetch("book-preferences"), skip_equal=True)


def split_conversations(
    items: Sequence[Item], test: float = 0.1, val: float = 0.05
) -> tuple[list[Item], list[Item], list[Item]]:
    """Split into (training, test, validation) without shuffling, as the book does.

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
