"""Chapter 7's layout: what is installed, what imports the storyworld, and what an import loads."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHAPTER = ROOT / "ch07_practice"
PACKAGES = sorted(path.parent.name for path in CHAPTER.glob("*/__init__.py"))
FILES = sorted(CHAPTER.rglob("*.py"))


def run(script: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_a_sub_package_lists_its_modules(package):
    text = ast.get_docstring(ast.parse((CHAPTER / package / "__init__.py").read_text("utf-8")))
    listed = re.search(r"in the order in which to read them: ([^.]+)\.", text).group(1)
    modules = {path.stem for path in (CHAPTER / package).glob("*.py")} - {"__init__"}
    assert sorted(re.findall(r"\w+", listed)) == sorted(modules)


def test_every_package_and_data_file_is_installed():
    """Oracle: the folders and the files that are not Python."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    packages = ["ch07_practice", *(f"ch07_practice.{name}" for name in PACKAGES)]
    assert [name for name in settings["packages"] if name.startswith("ch07_practice")] == packages
    declared = {
        path
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    wanted = {path for kind in ("*.html", "*.json", "templates/*") for path in CHAPTER.rglob(kind)}
    assert {path for path in declared if path.is_relative_to(CHAPTER)} == wanted


def test_the_chat_page_is_found_as_package_data():
    from ch07_practice.serving.chat_page import chat_page

    page = files("ch07_practice.serving").joinpath("chat_page.html").read_text("utf-8")
    assert chat_page()[0] == page


def test_importing_the_chapter_loads_no_heavy_package():
    """A name of the chapter loads what it needs, and only then."""
    run(
        "import sys, ch07_practice\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'fastapi', 'ch03_gpt'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert ch07_practice.Engine.__module__ == 'ch07_practice.serving.engine'\n"
        "assert 'torch' in sys.modules and 'fastapi' not in sys.modules\n"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CHAPTER)))
def test_only_one_module_knows_the_storyworld(path):
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    knows = any(name.startswith("ch01_text.storyworld") for name in imported)
    assert knows == (path.name == "story_questions.py")


@pytest.mark.parametrize(
    "module",
    [
        "serving.engine",
        "serving.model_registry",
        "serving.openai_app",
        "evaluation.evaluation",
        "evaluation.likelihood",
        "evaluation.lm_eval_adapter",
        "decoding.completion",
    ],
)
def test_server_and_evaluation_work_without_the_storyworld(module):
    """Chapters 4 and 6 load what they need first; then the storyworld is taken away, and chapter 7's
    module must be importable without it.
    """
    if module == "serving.openai_app":
        pytest.importorskip("fastapi")
    run(
        "import importlib, sys\n"
        "import ch04_pretraining.story_corpus, ch06_instruction.answering, ch06_instruction.chat\n"
        "for name in [one for one in sys.modules if one.startswith('ch01_text.storyworld')]:\n"
        "    del sys.modules[name]\n"
        "sys.modules['ch01_text.storyworld'] = None  # an import of it raises ImportError\n"
        f"importlib.import_module('ch07_practice.{module}')\n"
        "assert 'ch07_practice.story_questions' not in sys.modules\n"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CHAPTER)))
def test_no_module_starts_a_command_as_a_process(path):
    """The functions behind a `main.py` are called; its name appears in docstrings at most."""
    tree = ast.parse(path.read_text("utf-8"))
    documentation = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
    }
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value not in documentation
    ]
    assert not [text for text in texts if "main.py" in text or text == "make"]
