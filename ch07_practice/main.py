"""Chapter 7: use the model that the earlier chapters made."""

from pathlib import Path
from typing import Literal

from ch01_text.run import command_line
from ch07_practice.report import write_report


def report(run: Path = Path("runs/default"), seed: int = 1337,
           device: Literal["auto", "cpu", "cuda", "mps"] = "auto") -> dict:
    """Write the report card of a run: report.html, report.md and report.json.

    Args:
        run: Folder of the run.
        seed: Accepted as in every chapter; a report draws no random numbers.
        device: Accepted as in every chapter; a report computes nothing.
    """
    summary = write_report(run)
    print(f"the report card is in {run / 'report.html'} (and .md, .json)")
    return summary


if __name__ == "__main__":
    command_line({"report": report})
