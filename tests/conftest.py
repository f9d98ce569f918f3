"""Deterministic property tests; the real data set folder, where there is one."""

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # each process of `make test` has a core of its own
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("companion", derandomize=True, deadline=None)
settings.load_profile("companion")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--mine",
        action="store_true",
        help="check exercises.py, what you wrote, instead of solutions.py",
    )


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder named by LLM_COMPANION_DATA; skips where it is not set."""
    folder = os.environ.get("LLM_COMPANION_DATA")
    if not folder:
        pytest.skip("LLM_COMPANION_DATA does not name a folder with the real data sets")
    return Path(folder)


@pytest.fixture
def refusal(monkeypatch) -> Callable[..., str]:
    """A function that runs a script with arguments it must refuse, and returns the line that it
    ends with: in this process, where all is imported already (test_ch05_main.py and
    test_ch06_main.py start one of its own).
    """

    def run(script: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(Path(__file__).parent.parent / script), run_name="__main__")
        # Python prints a text to stderr, without a traceback, and exits with 1
        message = end.value.code
        assert isinstance(message, str), message
        assert message.startswith("error: ")
        assert "\n" not in message
        return message

    return run
