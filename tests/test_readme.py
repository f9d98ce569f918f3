"""The README's commands run, in a reduced form; its chapter map and the packages' lists of
modules are true.
"""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()
]
CHAPTER_COMMANDS = [command for command in COMMANDS if command.startswith("python ch")]
MAKE_TARGETS = {word for command in COMMANDS for word in re.findall(r"^make (\w+)", command)}


def test_the_readme_has_commands():
    assert len(CHAPTER_COMMANDS) >= 5
    assert {"run", "test"} <= MAKE_TARGETS


def table_beside(text: str) -> str:
    """A table of two classes."""
    path = Path(text).with_name("table.csv")
    rows = [
        f"{'win a prize' if number % 2 else 'see you'} {number},{number % 2}\n"
        for number in range(60)
    ]
    path.write_text("text,label\n" + "".join(rows), encoding="utf-8")
    return str(path)


def reduced(words: list[str], text: str) -> list[str]:
    """The same command with a small text and a tiny model in the place of the README's."""
    script, given = words[1], words[2:]
    smaller = {
        "ch01_text/main.py": ["--data", text, "--vocab-size", "280"],
        "ch02_attention/main.py": [],
        "ch03_gpt/main.py": ["--preset", "tiny"],
        "ch05_classification/main.py": [
            "--task",
            table_beside(text),
            "--from",
            "scratch",
            "--epochs",
            "1",
        ],
        "ch07_practice/main.py": [],
        "ch04_pretraining/main.py": ["--data", text, "--preset", "tiny", "--tokenizer", "char"],
    }[script]
    for flag, number in (("--tokens", "4000"), ("--steps", "2")):
        if flag in given or (flag == "--steps" and "--recipe" in given):
            smaller += [flag, number]
    return [*given, *smaller]  # the last value of a flag counts


@pytest.mark.slow
@pytest.mark.parametrize("command", CHAPTER_COMMANDS)
def test_chapter_command_runs(command, tmp_path):
    """Oracle: exit code 0 and metrics or a report in a fresh run folder."""
    words = shlex.split(command)
    if "--init" in words:
        pytest.skip("downloads GPT-2's weights")
    if "bench" in words:
        pytest.skip(
            "all contenders take minutes; test_ch07_bench.py runs the command with two of them"
        )
    if {"serve", "chat", "load", "labs", "scaling"} & set(words):
        pytest.skip(
            "it never ends, or takes minutes; test_ch07_*.py run these commands on tiny models"
        )
    if "verify" in words:
        pytest.skip(
            "compares a whole `make run`; test_ch07_verify.py runs the command on made-up ones"
        )
    if words[1] == "ch06_instruction/main.py":
        pytest.skip("a story model takes minutes; test_ch06_main.py runs all stages on a tiny one")
    text = tmp_path / "text.txt"
    text.write_text(
        "It is a truth universally acknowledged, that tests want texts. " * 400, encoding="utf-8"
    )
    folder = ["--run", str(tmp_path / "run")]
    if {"--resume", "report", "complete", "evaluate"} & set(words):
        first = [
            "ch04_pretraining/main.py",
            "--data",
            str(text),
            "--preset",
            "tiny",
            "--tokenizer",
            "char",
        ]
        subprocess.run(
            [sys.executable, *first, "--steps", "3", *folder],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
    if "--classify" in words:
        first = ["ch05_classification/main.py", *reduced(words[:2], str(text))]
        subprocess.run([sys.executable, *first, *folder], cwd=ROOT, check=True, capture_output=True)
    result = subprocess.run(
        [sys.executable, words[1], *reduced(words, str(text)), *folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    written = {path.name for path in (tmp_path / "run").rglob("*.json")}
    assert "metrics.json" in written


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert targets >= MAKE_TARGETS


@pytest.mark.parametrize(
    "folder", sorted(path.name for one in ("ch0*", "appendix_*") for path in ROOT.glob(one))
)
def test_a_package_lists_its_modules(folder):
    """All of them, and no other."""
    text = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8")))
    listed = re.search(r"in the order in which to read them: ([^.]+)\.", text).group(1)
    modules = {path.stem for path in (ROOT / folder).glob("*.py")} - {
        "__init__",
        "main",
        "exercises",
        "solutions",
    }
    assert sorted(re.findall(r"\w+", listed)) == sorted(modules)
    assert f"| `{folder}` |" in README
