"""Deterministic property tests; the real data set folder, where there is one."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("companion", derandomize=True, deadline=None)
settings.load_profile("companion")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mine", action="store_true", help="check exercises.py, what you wrote, instead of solutions.py")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder named by LLM_COMPANION_DATA; skips where it is not set."""
    folder = os.environ.get("LLM_COMPANION_DATA")
    if not folder:
        pytest.skip("LLM_COMPANION_DATA does not name a folder with the real data sets")
    return Path(folder)
