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
    text = ast.get_docstring(
        ast.parse((CHAPTER / package / "__init__.py").read_text(encoding="utf-8"))
    )
    listed = re.search(r"in the order in which to read them: ([^.]+)\.", text).group(1)
    modules = {path.stem for path in (CHAPTER / package).glob("*.py")} - {"__init__"}
    assert sorted(re.findall(r"\w+", listed)) == sorted(modules)


def test_every_package_and_data_file_is_installed():
    """Oracle: the folders and the files that are not Python."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]
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

    page = files("ch07_practice.serving").joinpath("chat_page.html").read_text(encoding="utf-8")
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
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    knows = any(name.startswith("ch01_text.storyworld") for name in imported)
    assert knows == (path.name == "story_questions.py")


def test_server_and_evaluation_do_not_load_the_storyworld():
    """Oracle: what Python has loaded, in a fresh process, after importing them one after the other."""
    pytest.importorskip("fastapi")
    names = (
        "serving.engine serving.model_registry serving.openai_app evaluation.evaluation"
        " evaluation.likelihood evaluation.lm_eval_adapter decoding.completion"
    ).split()
    run(
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(f'ch07_practice.{name}')\n"
        "    loaded = [m for m in sys.modules if 'storyworld' in m or m.endswith('story_corpus')]\n"
        "    assert not loaded, (name, loaded)\n"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CHAPTER)))
def test_no_module_starts_a_command_as_a_process(path):
    """The functions behind a `main.py` are called; its name appears in docstrings at most."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
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
