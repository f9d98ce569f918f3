"""The `report` command: the report card of a run on one page.

It reads the metrics and plots that the chapters left in a run folder and in runs inside it, and
writes `report.html` (self-contained), `report.md` and `report.json` beside them.
"""

import base64
import json
import os
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from ch01_text.run import write_atomically
from ch07_practice.benchmarks.machine import describe_machine

TITLES = {
    "ch01_text": "Text to tokens",
    "ch02_attention": "Attention",
    "ch03_gpt": "The GPT model",
    "ch04_pretraining": "Pretraining",
    "ch05_classification": "Classification",
    "ch06_instruction": "Instructions and feedback",
}
# chapter 7's commands that save plots, and the titles of these
PRACTICE = {"evaluate": "Evaluation", "labs": "Labs", "scaling": "Scaling law"}
STAGES = ("base", "sft", "dpo", "ppo", "grpo")  # chapter 6's, in the order of training
N_EXAMPLES = 6  # instructions whose responses are shown
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Stage:
    """One chapter's results: its folder, the run it belongs to, its metrics and its plots."""

    chapter: str
    run: str  # "" for the main run, else the name of the run inside it
    folder: Path
    metrics: dict

    @property
    def title(self) -> str:
        settings = self.metrics.get("settings", {})
        data = self.metrics.get("data") or settings.get("data") or settings.get("task")
        return TITLES[self.chapter] + (f" on {data}" if data else "")

    @property
    def plots(self) -> list[Path]:
        return sorted(self.folder.glob("*.png"))

    @property
    def notebook(self) -> Path:
        """The notebook that explains the chapter."""
        return ROOT / self.chapter / f"{self.chapter.partition('_')[0]}.ipynb"


def find_stages(run: Path) -> list[Stage]:
    """The stages of a run and of runs inside it, by chapter; FileNotFoundError if there
    are none.
    """
    stages = []
    for chapter in TITLES:
        for path in sorted(
            [*run.glob(f"{chapter}/metrics.json"), *run.glob(f"*/{chapter}/metrics.json")]
        ):
            inner = path.parent.parent
            name = "" if inner == run else inner.name
            stages.append(
                Stage(chapter, name, path.parent, json.loads(path.read_text(encoding="utf-8")))
            )
    if not stages:
        raise FileNotFoundError(
            f"there are no results in {run}; run the chapters first, or choose another --run"
        )
    return stages


def headline(stage: Stage) -> str:
    """A stage's result in one sentence."""
    m = stage.metrics
    if stage.chapter == "ch01_text":
        return (
            f"{m['n_chars']:,} characters become {m['n_tokens']:,} tokens from a vocabulary of"
            f" {m['vocab_size']:,} ({m['chars_per_token']:.2f} characters per token), trained in"
            f" {m['train_seconds']:.1f} s"
        )
    if stage.chapter == "ch02_attention":
        return (
            f"all implementations agree within {m['max_abs_diff']:.0e}; the fused kernel is "
            f"{m['speedup_at_1024']:.1f} times as fast at 1,024 tokens"
        )
    if stage.chapter == "ch03_gpt":
        speed = (
            f"; with the cache, decoding is {m['cached_speedup']:.1f} times as fast"
            if m["cached_speedup"]
            else ""
        )
        return (
            f"{m['preset']}: {m['n_params']:,} parameters, {m['flops_per_token'] / 1e6:.1f} MFLOP"
            f" per token{speed}"
        )
    if stage.chapter == "ch05_classification":
        rules = (
            f", best shortcut {m['shortcut_accuracy']:.1%}"
            if m["shortcut_accuracy"] is not None
            else ""
        )
        interval = f"{m['ci95_low']:.1%} to {m['ci95_high']:.1%}"
        return (
            f"{m['accuracy']:.1%} of {m['n_test']:,} test rows right ({interval}); "
            f"best bag of words {m['baseline_accuracy']:.1%}{rules}"
        )
    if stage.chapter == "ch06_instruction":
        measured = [
            name for name in ("base", "sft", "best-of-8", "dpo", "ppo", "grpo") if name in m
        ]
        shares = ", ".join(
            f"{name} {m[name]['exact_match']:.1%}" for name in measured if "exact_match" in m[name]
        )
        return f"right answers on unseen stories: {shares}" if shares else f"tuned on {m['data']}"
    return (
        f"{m['n_params']:,} parameters, {m['tokens']:,} tokens in {m['seconds']:.0f} s: held-out"
        f" loss {m['val_loss']:.3f}, {m['val_bits_per_byte']:.3f} bits per byte;"
        f" {m['tokens_per_s']:,.0f} tokens/s, {m['mfu']:.0%} of the machine's matrix-product"
        " speed"
    )


def stage_table(stages: list[Stage]) -> pd.DataFrame:
    """One row per stage: its result, and how long its command took."""
    return pd.DataFrame(
        [
            {
                "stage": stage.title,
                "result": headline(stage),
                "seconds": round(stage.metrics["wall_seconds"], 1),
            }
            for stage in stages
        ]
    )


def question_table(stage: Stage) -> pd.DataFrame | None:
    """A story model's accuracy beside the shortcuts', in per cent; None if it was not tested."""
    if "questions" not in stage.metrics:
        return None
    table = pd.DataFrame(stage.metrics["questions"])
    shares = [column for column in table if column not in ("test set", "questions", "hops", "n")]
    table[shares] = table[shares].map("{:.1%}".format)
    return table


def response_table(stage: Stage) -> pd.DataFrame | None:
    """A few test instructions with the response of each of chapter 6's stages; None for other
    chapters.
    """
    paths = {
        name: path for name in STAGES if (path := stage.folder / f"answers-{name}.csv").is_file()
    }
    if not paths:
        return None
    answers = {
        name: pd.read_csv(path, keep_default_na=False, dtype=str).head(N_EXAMPLES)
        for name, path in paths.items()
    }
    first = next(iter(answers.values()))
    table = pd.DataFrame(
        {"instruction": first["prompt"].str.rpartition("\n")[2], "wanted": first["wanted"]}
    )
    return table.assign(
        **{name: rows["response"].str.replace("\n", " / ") for name, rows in answers.items()}
    )


def missing_commands(run: Path) -> list[str]:
    """Commands of chapter 7 that have saved no plot in the run yet."""
    drawn = {title for title, _ in practice_plots(run)}
    return [name for name, title in PRACTICE.items() if title not in drawn]


def practice_plots(run: Path) -> list[tuple[str, Path]]:
    """The plots of chapter 7's commands in a run, with their titles."""
    paths = sorted((run / "ch07_practice").glob("*.png"))
    return [
        (title, path)
        for name, title in PRACTICE.items()
        for path in paths
        if path.stem.startswith(name)
    ]


def as_markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def render(stages: list[Stage], run: Path, template: str, embed: bool) -> str:
    """Render the HTML or Markdown template, with plots embedded or linked."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("ch07_practice", "templates"),
        autoescape=embed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        stages=stages,
        machine=describe_machine(),
        stage_table=stage_table(stages),
        question_table=question_table,
        response_table=response_table,
        missing=missing_commands(run),
        as_markdown=as_markdown,
        practice=practice_plots(run),
        total=sum(stage.metrics["wall_seconds"] for stage in stages),
        link=lambda path: Path(os.path.relpath(path, run)).as_posix(),
        practice_notebook=ROOT / "ch07_practice" / "ch07.ipynb",
        image=_embedded if embed else lambda path: path.relative_to(run).as_posix(),
    )


def write_report(run: Path) -> dict:
    """Write report.html, report.md and report.json into `run`; returns the content of the last."""
    stages = find_stages(run)
    summary = {
        "machine": describe_machine(),
        "stages": [
            {
                "chapter": s.chapter,
                "run": s.run,
                "title": s.title,
                "result": headline(s),
                "metrics": s.metrics,
            }
            for s in stages
        ],
    }
    write_atomically(run / "report.html", render(stages, run, "report.html", embed=True))
    write_atomically(run / "report.md", render(stages, run, "report.md", embed=False))
    write_atomically(run / "report.json", json.dumps(summary, indent=2) + "\n")
    return summary


def report(
    run: Path = Path("runs/default"),
    open: bool = False,
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Write the report card of a run: report.html, report.md and report.json.

    Args:
        run: Folder of the run.
        open: Open it in the browser.
        seed: Accepted as in every chapter; the report uses no random numbers.
        device: Accepted as in every chapter; the report computes nothing.
    """
    summary = write_report(run)
    if open:
        webbrowser.open((run / "report.html").resolve().as_uri())
    print(f"the report card is in {run / 'report.html'} (and .md, .json)")
    return summary
