"""Other operating systems, as far as Linux can play them: consoles that cannot show a text, modules
that are not there, files whose encoding nobody named, and workers that are started anew instead of
forked.
"""

import ast
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from ch01_text import BPETokenizer
from ch03_gpt import GPTModel, preset_config
from ch04_pretraining import save_checkpoint

ROOT = Path(__file__).parent.parent
CODE = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not {".venv", "build"} & set(path.relative_to(ROOT).parts)
)
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in CODE
    if path.relative_to(ROOT).parts[0].startswith(("ch0", "appendix_"))
]
TEXT = "Zoë drank a café crème at Łódź, said “Ωmega”, and laughed 😀. " * 200


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder with a text, a table, conversations, and an untrained model that knows their
    letters.
    """
    folder = tmp_path_factory.mktemp("run")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    moods = {"güt": "✓ lovely", "schlecht": "✗ awful"}
    rows = [(f"Zoë {word} à {i}", mood) for i in range(30) for mood, word in moods.items()]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / "moods.csv", index=False)
    chats = [{"instruction": f"Grüße {i}", "output": f"Señor {i} ✓"} for i in range(20)]
    (folder / "chats.jsonl").write_text(
        "".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8"
    )
    tokenizer = BPETokenizer.train(TEXT, 300)
    torch.manual_seed(0)
    save_checkpoint(
        folder / "ch04_pretraining" / "checkpoint",
        GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab, context_length=256)),
        tokenizer,
    )
    return folder


CH07 = "ch07_practice/main.py"
# {run}: the folder above; each begins with a copy of its model, and goes on with what the one
# before left
COMMANDS = {
    "ch01": ["ch01_text/main.py --data {run}/text.txt --vocab-size 290"],
    "ch02": ["ch02_attention/main.py --text Zoë_Łódź_Ωmega"],
    "ch03": ["ch03_gpt/main.py --preset tiny"],
    "ch04": [
        (
            "ch04_pretraining/main.py --data {run}/text.txt --tokenizer char --preset tiny --steps"
            " 2 --batch-size 2"
        ),
        f"{CH07} complete Zoë_Łódź --max-new-tokens 5",
        f"{CH07} chat --max-new-tokens 5",
        f"{CH07} report",
    ],
    "ch05": [
        (
            "ch05_classification/main.py --task {run}/moods.csv --from"
            " {run}/ch04_pretraining/checkpoint --epochs 1"
        ),
        "ch05_classification/main.py --classify ✓_Zoë",
    ],
    "ch06": ["ch06_instruction/main.py --stage sft --data {run}/chats.jsonl --epochs 1"],
    "appendix_a": ["appendix_a/main.py --points 64 --epochs 1"],
    "appendix_b": ["appendix_b/main.py --experiment text --text {run}/text.txt --steps 1"],
}


@pytest.fixture
def start(run, tmp_path, monkeypatch) -> Callable[[str], None]:
    """A function that runs a command in this process, as its script does."""
    shutil.copytree(run / "ch04_pretraining", tmp_path / "ch04_pretraining")

    def start(command: str) -> None:
        arguments = [
            part.format(run=run) if part.isascii() else part.replace("_", " ")
            for part in command.split()
        ]
        monkeypatch.setattr(sys, "argv", [*arguments, "--run", str(tmp_path)])
        runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")

    return start


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_console_that_cannot_show_a_text_ends_no_command(start, monkeypatch, name):
    """Every command that prints what users wrote, in an ASCII console."""
    for command in COMMANDS[name]:
        output = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii"))
        monkeypatch.setattr(sys, "stdin", io.StringIO("Zoë?\n/quit\n"))
        start(command)
        sys.stdout.flush()
        assert output.getvalue()


def test_a_pipe_in_ascii_shows_question_marks(run):
    """The whole process, as a user starts it."""
    command = [
        sys.executable,
        "ch07_practice/main.py",
        "complete",
        "Zoë",
        "--max-new-tokens",
        "1",
        "--run",
        str(run),
    ]
    result = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"Zo?")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_results_are_written_before_they_are_drawn(start, tmp_path, monkeypatch, name):
    """Oracle: metrics.json, where drawing the first plot fails."""

    def fail(*_, **__):
        raise OSError("no plot")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(SystemExit, match="no plot"):
        start(COMMANDS[name][0])
    folder = tmp_path / COMMANDS[name][0].partition("/")[0]
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


UNIX_ONLY = ("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "readline")
WITHOUT_UNIX = f"""
import builtins, importlib, os, sys

real = builtins.__import__

def without(name, globals=None, *rest):
    if name in {UNIX_ONLY!r} and (globals or {{}}).get("__file__", "").startswith({str(ROOT)!r}):
        raise ImportError(name)  # for our code; the libraries have other ways on other systems
    return real(name, globals, *rest)

builtins.__import__ = without
for name in {MODULES!r}:
    importlib.import_module(name)
for name in ("fork", "sched_getaffinity", "sysconf", "getuid", "uname"):
    delattr(os, name)
from ch03_gpt.main import fits_memory
from ch07_practice.benchmarks.machine import peak_memory
print(peak_memory(), fits_memory(1000), fits_memory(10**12))
"""


def test_every_module_is_imported_without_what_windows_lacks():
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_UNIX], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "None True False\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's peak memory from /proc")
def test_peak_memory_is_what_the_system_says():
    """Oracle: VmHWM, before and after."""
    from ch07_practice.benchmarks.machine import peak_memory

    def told() -> int:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    before = told()
    found = peak_memory()
    assert 0.9 * before <= found <= 1.1 * told()


def text_file_calls(path: Path):
    """Calls that open a text file, and whether they name its encoding."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        words = {word.arg for word in node.keywords}
        words_given = [str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
        modes = [word for word in words_given if set(word) <= set("rwxabt+")]
        binary = any("b" in mode for mode in modes)
        opens = (
            name == "open"
            and not binary
            and (isinstance(node.func, ast.Name) or not node.args or modes)
        )
        if name in ("read_text", "write_text", "NamedTemporaryFile") or opens:
            yield f"{path.relative_to(ROOT)}:{node.lineno}", "encoding" in words


def test_every_text_file_names_its_encoding():
    """The default is the system's, and Windows' is not UTF-8."""
    calls = [call for path in CODE for call in text_file_calls(path)]
    assert len(calls) > 100
    assert [place for place, named in calls if not named] == []


SPAWNING = """
import multiprocessing

import torch

from ch01_text import BPETokenizer, create_dataloader

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    tokenizer = BPETokenizer.train("a text of some words, " * 50, 270)
    alone, together = (create_dataloader("a text of some words, " * 50, tokenizer, 2, 8, 8, num_workers=workers,
                                         generator=torch.Generator().manual_seed(0)) for workers in (0, 2))
    pairs = list(zip(alone, together, strict=True))
    print(len(pairs) > 5, all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True)))
"""


@pytest.mark.slow
def test_data_loaders_work_in_spawned_processes(tmp_path):
    """As on Windows and macOS: a worker imports the script anew. Oracle: the loader without
    workers.
    """
    script = tmp_path / "script.py"
    script.write_text(SPAWNING, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (result.returncode, result.stdout) == (0, "True True\n"), result.stderr
