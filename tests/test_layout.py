"""The shape of the project: what may import what, no second copies, and imports that do nothing."""

import ast
import doctest
import importlib
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
CHAPTERS = [
    "ch01_text",
    "ch02_attention",
    "ch03_gpt",
    "ch04_pretraining",
    "ch05_classification",
    "ch06_instruction",
    "ch07_practice",
]
APPENDICES = sorted(path.name for path in ROOT.glob("appendix_*"))
FILES = sorted(path for chapter in CHAPTERS + APPENDICES for path in (ROOT / chapter).rglob("*.py"))
BOOK_NAMES = {
    "ch01_text": "SimpleTokenizerV2 GPTDatasetV1 create_dataloader_v1",
    "ch02_attention": (
        "SelfAttention_v1 SelfAttention_v2 CausalAttention MultiHeadAttentionWrapper"
        " MultiHeadAttention"
    ),
    "ch03_gpt": (
        "LayerNorm GELU FeedForward TransformerBlock GPTModel GPT_CONFIG_124M generate_text_simple"
        " generate"
    ),
    "ch04_pretraining": (
        "generate text_to_token_ids token_ids_to_text calc_loss_batch calc_loss_loader "
        "train_model_simple plot_losses load_weights_into_gpt"
    ),
    "ch05_classification": (
        "create_balanced_dataset random_split SpamDataset calc_accuracy_loader classify_review "
        "train_classifier_simple plot_values LoRALayer LinearWithLoRA replace_linear_with_lora"
    ),
    "ch06_instruction": (
        "format_input InstructionDataset custom_collate_fn PreferenceDataset compute_dpo_loss "
        "compute_logprobs"
    ),
    "appendix_a": "NeuralNetwork ToyDataset prepare_dataset compute_accuracy ddp_setup",
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{path}: relative import; `python chXX/main.py` could not run it"
            )
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_to_earlier_chapters_only(path):
    """An appendix may import any chapter; nobody imports an appendix."""
    home = path.relative_to(ROOT).parts[0]
    chapter = CHAPTERS.index(home) if home in CHAPTERS else len(CHAPTERS)
    for name in imported_modules(path):
        package, _, rest = name.partition(".")
        if package in CHAPTERS:
            assert CHAPTERS.index(package) <= chapter, f"{path} imports the later chapter {name}"
        if package in CHAPTERS + APPENDICES:
            assert rest.split(".")[-1] != "main", f"{path} imports {name}, a command"
        assert package not in {"tests", "appendix_a", "appendix_b"} - {home}, (
            f"{path} imports {name}"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_hides_another_package(path):
    """`python chXX/main.py` puts its folder first on the path, so a file there must not be named
    like a library.
    """
    assert path.stem not in sys.stdlib_module_names
    assert path.stem not in {
        "tokenizers",
        "datasets",
        "evaluate",
        "transformers",
        "torch",
        "numpy",
        "regex",
    }
    assert path.stem not in {"util", "utils", "common", "helpers", "misc"}


def test_no_function_stands_twice():
    """Any two functions of four statements or more with the same body are a copy."""
    bodies = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.FunctionDef)
                and sum(isinstance(n, ast.stmt) for n in ast.walk(node)) > 4
            ):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                bodies["".join(ast.dump(statement) for statement in body)].append(
                    f"{path.name}:{node.name}"
                )
    assert [places for places in bodies.values() if len(places) > 1] == []


def test_importing_prints_nothing_and_touches_nothing():
    """Every module, imported in a fresh process that watches writes, sockets and subprocesses."""
    modules = [module_name(path) for path in FILES]
    script = (
        "import sys, importlib\nimport torch, matplotlib.figure, pandas, tqdm, tyro,"
        " safetensors.torch  # what they do is theirs\nseen = []\ndef watch(event, args):\n    if"
        " event in ('socket.connect', 'subprocess.Popen', 'os.mkdir', 'os.rename', 'os.remove'):\n"
        "        seen.append((event, str(args)))\n    if event == 'open' and isinstance(args[1],"
        " str) and set(args[1]) & set('wax+'):\n        seen.append((event,"
        " str(args)))\nsys.dont_write_bytecode = True\nsys.addaudithook(watch)\nfor name in"
        f" {modules!r}:\n    importlib.import_module(name)\nsys.exit(str(seen) if seen else 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("chapter", BOOK_NAMES)
def test_the_books_names_are_where_the_book_introduces_them(chapter):
    module = importlib.import_module(chapter)
    missing = [name for name in BOOK_NAMES[chapter].split() if not hasattr(module, name)]
    assert missing == []


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if ">>> " in path.read_text(encoding="utf-8")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_examples_in_docstrings_are_true(path):
    module = importlib.import_module(module_name(path))
    result = doctest.testmod(
        module, extraglobs={"torch": torch}, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("chapter", CHAPTERS + APPENDICES)
def test_the_public_face_only_re_exports(chapter):
    tree = ast.parse((ROOT / chapter / "__init__.py").read_text(encoding="utf-8"))
    # a module's __getattr__ imports the names on first use
    statements = [node for node in tree.body if getattr(node, "name", "") != "__getattr__"]
    assert {type(node) for node in statements} <= {ast.Expr, ast.ImportFrom, ast.Assign}
    module = importlib.import_module(chapter)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert all(hasattr(module, name) for name in module.__all__)
