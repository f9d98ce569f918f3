"""Chapter 6's methods take conversations, pairs, prompts and reward functions: they do not know
where these come from.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
KNOW_THE_STORYWORLD = {"storyworld_tasks", "main"}


def test_only_one_module_and_main_know_the_storyworld():
    """Oracle: what Python has loaded, in a fresh process, after importing everything else."""
    modules = [
        f"ch06_instruction.{path.stem}"
        for path in sorted((ROOT / "ch06_instruction").glob("*.py"))
        if path.stem not in KNOW_THE_STORYWORLD | {"__init__"}
    ]
    for name in ("sft", "dpo", "ppo", "grpo", "reward_model", "rollouts", "evaluation", "pipeline"):
        assert f"ch06_instruction.{name}" in modules
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "    loaded = [m for m in sys.modules if m.startswith('ch01_text.storyworld')]\n"
        "    sys.exit(f'{name} loads {loaded[0]}') if loaded else None\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
