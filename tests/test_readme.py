"""The README's commands run, in a reduced form, and its file tree and chapter map are true."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
CHAPTER_COMMANDS = [command for command in COMMANDS if command.startswith("python ch")]
MAKE_TARGETS = {word for command in COMMANDS for word in re.findall(r"^make (\w+)", command)}


def test_the_readme_has_commands():
    assert len(CHAPTER_COMMANDS) >= 5
    assert {"run", "test"} <= MAKE_TARGETS


@pytest.mark.slow
@pytest.mark.parametrize("command", CHAPTER_COMMANDS)
def test_chapter_command_runs(command, tmp_path):
    """The same command on a tiny model, a small text and a fresh run folder ends well and leaves its metrics."""
    words = shlex.split(command)
    script, rest = words[1], words[2:]
    text = tmp_path / "text.txt"
    text.write_text("It is a truth universally acknowledged, that tests want texts. " * 400, encoding="utf-8")
    small = ["--run", str(tmp_path / "run")]
    if script.startswith("ch04"):
        subprocess.run([sys.executable, script, "--data", str(text), "--tokenizer", "char", "--preset", "tiny",
                        "--steps", "2", *small], cwd=ROOT, check=True, capture_output=True)
        if "--resume" in rest:
            rest = ["--data", str(text), "--tokenizer", "char", "--preset", "tiny", "--resume"]
        rest += ["--steps", "2"] if "--resume" not in rest else ["--steps", "4"]
        if "--init" in rest:
            pytest.skip("needs downloaded GPT-2 weights")
        if "--preset" not in rest:
            rest += ["--preset", "tiny"]
        if "storyworld" in rest or "--data" not in rest:
            rest = [*rest, "--data", str(text), "--tokenizer", "char"] if "--data" not in rest else \
                [str(text) if word == "storyworld" else word for word in rest] + ["--tokenizer", "char"]
    if script.startswith("ch01"):
        rest = [word for word in rest if word] or []
        rest += [] if "--data" in rest else ["--data", str(text)]
        rest += [] if "--vocab-size" in rest else ["--vocab-size", "280"]
    if script.startswith("ch03"):
        rest = ["--preset", "tiny"]
    if script.startswith("ch07"):
        subprocess.run([sys.executable, "ch04_pretraining/main.py", "--data", str(text), "--tokenizer", "char",
                        "--preset", "tiny", "--steps", "2", *small], cwd=ROOT, check=True, capture_output=True)
    result = subprocess.run([sys.executable, script, *rest, *small], cwd=ROOT, capture_output=True, text=True,
                            check=False)
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "run").rglob("metrics.json"))


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert targets >= MAKE_TARGETS


def test_the_file_tree_is_true():
    """Every path in the README's tree exists."""
    tree = re.search(r"```text\n(.*?)```", README, flags=re.DOTALL).group(1)
    names = [line.split()[0] for line in tree.splitlines() if line.strip() and not line.startswith("$")]
    folder = ""
    for line, name in zip([row for row in tree.splitlines() if row.strip()], names, strict=True):
        if name.endswith("/") and not line.startswith(" "):
            folder = name
            assert (ROOT / folder).is_dir(), folder
        else:
            path = ROOT / (folder if line.startswith(" ") else "") / name
            assert path.exists(), path
