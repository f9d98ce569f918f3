"""The `verify` command: do the figures of a run agree with the published ones, and if not, what is
the likely cause?

`published.json` holds each figure once: where a run stores it, and its mean and band for each kind
of device. `publish` writes the bands from several runs, and the README's table is generated from
the file. Times differ between machines and are not compared.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ch01_text.run import write_atomically
from ch07_practice.benchmarks.machine import describe_machine
from ch07_practice.report import Stage, as_markdown, find_stages

PUBLISHED = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Band:
    """The results of several runs on one kind of device."""

    value: float  # the mean
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Figure:
    """One published figure, and where a run folder stores it."""

    name: str
    chapter: str
    run: str  # "" for the main run, or the name of a run inside it
    path: tuple[str | int, ...]  # keys into the chapter's metrics.json
    # metrics that must be equal for figures to be comparable
    budget: dict[str, int | float | str]
    share: bool  # formatted in per cent
    bands: dict[str, Band]  # by kind of device, such as "cpu, float32"

    def formatted(self, value: float) -> str:
        return f"{value:.1%}" if self.share else f"{value:.3f}"


def load_published(path: Path = PUBLISHED) -> tuple[dict, list[Figure]]:
    """(the machine and versions of the published runs, the figures)."""
    data = json.loads(path.read_text(encoding="utf-8"))
    figures = [
        Figure(
            **one
            | {"path": tuple(one["path"]), "bands": {k: Band(**b) for k, b in one["bands"].items()}}
        )
        for one in data["figures"]
    ]
    return data["machine"], figures


def value_at(metrics: dict, path: tuple[str | int, ...]) -> float:
    """The number at `path` in nested lists and dicts; KeyError if there is none."""
    found: Any = metrics
    for key in path:
        try:
            found = found[key]
        except (IndexError, TypeError) as error:
            raise KeyError(key) from error
    return found


def kind_of_device(stages: list[Stage]) -> str:
    """The device and number format that chapter 4 used, such as "cpu, float32"."""
    kinds = [
        f"{stage.metrics['device'].partition(':')[0]}, {stage.metrics['dtype']}"
        for stage in stages
        if "dtype" in stage.metrics
    ]
    return kinds[0] if kinds else "unknown"


def likely_cause(figure: Figure, metrics: dict, kind: str, here: dict, there: dict) -> str:
    """Why a figure may differ: the most important difference between this run and the published
    ones.
    """
    for name, published in figure.budget.items():
        try:
            found = value_at(metrics, tuple(name.split(".")))
        except KeyError:
            return f"the run does not record its {name}, so an older version may have made it"
        if found != published:
            counts = all(isinstance(number, int) for number in (found, published))
            words = (
                f"{found:,} instead of {published:,}"
                if counts
                else f"{found} instead of {published}"
            )
            return f"{name.rpartition('.')[2]} {words}"
    if kind not in figure.bands:
        return f"no figure is published for {kind}; compared with {next(iter(figure.bands))}"
    known = {
        name: str(here.get(name)).partition("+")[0]
        for name in ("PyTorch", "instruction set", "threads")
    }
    differences = [
        f"{name} {value} instead of {there[name]}"
        for name, value in known.items()
        if value != there[name]
    ]
    return "; ".join(differences) or "unknown; please report it with report.json"


def compare(run: Path, published: Path = PUBLISHED) -> pd.DataFrame:
    """One row per published figure: its band, the run's value, whether they agree, and if not, the
    likely cause.

    FileNotFoundError if there are no results in `run`.
    """
    there, figures = load_published(published)
    stages = find_stages(run)
    report = run / "report.json"
    here = (
        json.loads(report.read_text(encoding="utf-8"))["machine"]
        if report.is_file()
        else describe_machine()
    )
    kind, rows = kind_of_device(stages), []
    for figure in figures:
        band = figure.bands.get(kind) or next(iter(figure.bands.values()))
        row = {
            "figure": figure.name,
            "published": f"{figure.formatted(band.low)} to {figure.formatted(band.high)}",
        }
        metrics: dict = next(
            (s.metrics for s in stages if (s.chapter, s.run) == (figure.chapter, figure.run)), {}
        )
        try:
            value = value_at(metrics, figure.path)
        except KeyError:
            cause = f"{figure.chapter} has no such result"
            rows.append(row | {"here": "", "verdict": "not run", "likely cause": cause})
            continue
        agrees = band.low <= value <= band.high
        cause = "" if agrees else likely_cause(figure, metrics, kind, here, there)
        rows.append(
            row
            | {
                "here": figure.formatted(value),
                "verdict": "agrees" if agrees else "DIFFERS",
                "likely cause": cause,
            }
        )
    return pd.DataFrame(rows)


def verify(run: Path = Path("runs/default")) -> dict:
    """Compare the figures of a `make run` with the published ones. The exit code is 1 if a figure
    differs or is missing.

    Args:
        run: Folder of the run.
    """
    table = compare(run)
    print(table.to_string(index=False))
    wrong = table[table["verdict"] != "agrees"]
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} of {len(table)} figures do not agree; likely cause: "
            + "; ".join(dict.fromkeys(wrong["likely cause"]))
        )
    print(f"all {len(table)} figures agree with the published ones")
    return {"figures": table.to_dict("records")}


def publish(runs: Sequence[Path], path: Path = PUBLISHED) -> None:
    """Write the bands of the published figures anew, for the kind of device that made `runs`.

    The runs differ in their seeds alone. A band holds one more run's result with a probability of
    95 %, if results are normally distributed: mean ± t s √(1 + 1/n), with the standard deviation s
    of n results and Student's t of n - 1 degrees of freedom. Budgets and machine are those of the
    first run. KeyError if a run lacks a figure, ValueError if there are fewer than two runs.
    """
    from scipy.stats import t

    if len(runs) < 2:
        raise ValueError(f"a band takes at least two runs, not {len(runs)}")
    data = json.loads(path.read_text(encoding="utf-8"))
    found = [find_stages(Path(run)) for run in runs]
    for figure in data["figures"]:
        key = figure["chapter"], figure["run"]
        metrics = [
            stage.metrics for some in found for stage in some if key == (stage.chapter, stage.run)
        ]
        values = np.array([value_at(one, tuple(figure["path"])) for one in metrics])
        if len(values) < len(runs):
            raise KeyError(f"{figure['name']} is missing in {len(runs) - len(values)} runs")
        n = len(values)
        margin = t.ppf(0.975, n - 1) * values.std(ddof=1) * (1 + 1 / n) ** 0.5
        # the runs' own results are inside: rounding of the mean could leave equal ones out
        low = min(values.mean() - margin, values.min())
        high = max(values.mean() + margin, values.max())
        if figure["share"]:
            low, high = max(low, 0.0), min(high, 1.0)
        band = Band(values.mean(), low, high, n)
        figure["bands"][kind_of_device(found[0])] = asdict(band)
        figure["budget"] = {
            name: value_at(metrics[0], tuple(name.split("."))) for name in figure["budget"]
        }
    machine = describe_machine()
    data["machine"] = {name: machine[name].partition("+")[0] for name in data["machine"]}
    write_atomically(path, json.dumps(data, indent=2) + "\n")


def published_table(path: Path = PUBLISHED) -> str:
    """The README's table of what `make run` reaches: mean and band for each kind of device."""
    _, figures = load_published(path)
    kinds = list(dict.fromkeys(kind for figure in figures for kind in figure.bands))
    rows = [
        {"figure": figure.name}
        | {kind: "" if kind not in figure.bands else _mean_and_band(figure, kind) for kind in kinds}
        for figure in figures
    ]
    return as_markdown(pd.DataFrame(rows))


def _mean_and_band(figure: Figure, kind: str) -> str:
    band = figure.bands[kind]
    seeds = f"{band.seeds} seed" + "s" * (band.seeds > 1)
    mean, low, high = map(figure.formatted, (band.value, band.low, band.high))
    return f"{mean} ({low} to {high}, {seeds})"
