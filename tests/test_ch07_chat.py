"""The terminal chat, with scripted input and in a real terminal. Oracles: `complete` on the expected
conversation, chapter 6's reader, exit codes.
"""

import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from serving_setup import make_run

from ch03_gpt import complete
from ch04_pretraining import load_checkpoint
from ch06_instruction.chat import prompt_ids
from ch06_instruction.chat_datasets import read_conversations
from ch07_practice.serving.terminal_chat import chat

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def sft(run_folder):
    return load_checkpoint(run_folder / "ch06_instruction" / "sft")


@pytest.fixture
def talk(run_folder, monkeypatch, capsys):
    """Types lines; returns the conversation and the output. A line that is an exception is raised."""

    def typed(*lines, **options) -> tuple[list[dict], str]:
        left = iter(lines)

        def read(prompt: str) -> str:
            line = next(left, EOFError)
            if not isinstance(line, str):
                raise line
            return line

        monkeypatch.setattr("builtins.input", read)
        found = chat(run=run_folder, weights="float32", **{"max_new_tokens": 12} | options)
        return found["messages"], capsys.readouterr().out

    return typed


def say(sft, *contents: str, system: str = "", tokens: int = 12) -> str:
    """The model's own answer to a conversation."""
    model, tokenizer = sft
    messages = [
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)
    ]
    messages = [{"role": "system", "content": system}] * bool(system) + messages
    (one,) = complete(
        model,
        [prompt_ids(tokenizer, messages)],
        tokens,
        stop_ids=(tokenizer.eot_id, tokenizer.special_tokens["<|end|>"]),
    )
    return tokenizer.decode(one.ids)


def test_the_whole_conversation_is_read(talk, sft):
    messages, printed = talk("Where is Tom?", "", "And Nora?")
    first = say(sft, "Where is Tom?")
    second = say(sft, "Where is Tom?", first, "And Nora?")
    assert [message["content"] for message in messages] == [
        "Where is Tom?",
        first,
        "And Nora?",
        second,
    ]
    assert first in printed and second in printed


def test_messages_of_several_lines(talk):
    messages, _ = talk("Tom went to the mill.\\", "Where is Tom?", '"""', "One.", "", "Two.", '"""')
    assert [message["content"] for message in messages[::2]] == [
        "Tom went to the mill.\nWhere is Tom?",
        "One.\n\nTwo.",
    ]


def test_reset_and_system(talk, sft):
    messages, _ = talk("Hello.", "/system Be brief.", "Where is Tom?", "/reset", "Where is Nora?")
    assert messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is Nora?"},
        {"role": "assistant", "content": say(sft, "Where is Nora?", system="Be brief.")},
    ]
    assert talk("Hello.", "/system", system="Be brief.")[0] == []


def test_a_saved_conversation_can_be_tuned_on(talk, tmp_path):
    """Oracle: chapter 6's reader."""
    messages, _ = talk("Where is Tom?", f"/save {tmp_path / 'said.json'}")
    assert list(read_conversations(tmp_path / "said.json")) == [messages]


def test_other_stages_and_stories(talk):
    messages, printed = talk("/model base", "/story", "/quit", "never read", temperature=1.2)
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert "\n" not in messages[1]["content"]
    assert re.search(r"\(the true answer: .+\)", printed)


def test_mistakes_are_reported_and_nothing_is_lost(talk, tmp_path):
    messages, printed = talk(
        "Where is Tom?",
        "/nonsense",
        "/model nope",
        "/save",
        f"/save {tmp_path}/no/where.json",
        "word " * 400,
        KeyboardInterrupt,
    )
    for words in (
        "no command /nonsense",
        "no model 'nope'",
        "name a file",
        "No such file",
        "holds 320",
        "/quit leaves",
    ):
        assert words in printed
    assert len(messages) == 2


def test_the_oldest_exchanges_are_dropped_if_there_is_no_room(talk, sft):
    """Oracle: how many of the newest exchanges fit."""
    messages, _ = talk(*(f"{i} " + "word " * 30 for i in range(12)), system="Be brief.")
    model, tokenizer = sft
    assert messages[0]["role"] == "system"
    assert messages[-2]["content"].startswith("11 ")
    room = model.config.context_length - 12
    assert len(prompt_ids(tokenizer, messages[:-1])) <= room
    first = int(messages[1]["content"].split()[0])
    older = [
        {"role": "user", "content": f"{first - 1} " + "word " * 30},
        {"role": "assistant", "content": "x"},
    ]
    assert len(prompt_ids(tokenizer, [messages[0], *older, *messages[1:-1]])) + 11 > room


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_stops_the_answer_only(tmp_path):
    """A real terminal: the answer ends early, the chat goes on, Ctrl-D ends it with 0. The model is
    so large that its answer takes seconds: it cannot be over before Ctrl-C comes.
    """
    run_folder = make_run(tmp_path, emb_dim=768, n_heads=12, n_layers=8)
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "ch07_practice/main.py",
            "chat",
            "--run",
            str(run_folder),
            "--max-new-tokens",
            "300",
            "--weights",
            "float32",
        ],
        cwd=ROOT,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        # shells ignore it in &
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(terminal)
    seen = b""

    def read() -> None:
        nonlocal seen
        assert select.select([master], [], [], 60)[0], f"nothing came behind {seen!r}"
        seen += os.read(master, 4096)

    def until_seen(words: bytes) -> None:
        nonlocal seen
        while words not in seen:
            read()
        seen = seen.partition(words)[2]

    until_seen(b"sft> ")
    os.write(master, b"Where is Tom?\n")
    while len(seen) < 60:
        read()
    process.send_signal(signal.SIGINT)
    until_seen(b"(stopped)")
    until_seen(b"sft> ")
    os.write(master, b"/save /dev/null/x\n")
    until_seen(b"error: ")
    until_seen(b"sft> ")
    os.write(master, b"\x04")
    assert process.wait(timeout=30) == 0
    os.close(master)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nope"], "there is no model 'nope'; choose one of base, sft"),
        (["--temperature", "-1"], "temperature must be 0"),
        (["--max-new-tokens", "0"], "--max-new-tokens must be at least 1"),
    ],
)
def test_wrong_options_are_refused_in_one_line(run_folder, arguments, words):
    result = subprocess.run(
        [sys.executable, "ch07_practice/main.py", "chat", "--run", str(run_folder), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 1
    assert (
        result.stderr.startswith("error: ")
        and words in result.stderr
        and result.stderr.count("\n") == 1
    )
