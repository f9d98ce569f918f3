"""The report card: one file that needs no other, with every stage, its plots and the way to its
notebook.
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from ch07_practice.report import ROOT, find_stages, write_report

PRETRAINING = {
    "n_params": 1000,
    "tokens": 2000,
    "seconds": 3.0,
    "val_loss": 1.5,
    "val_bits_per_byte": 0.5,
    "tokens_per_s": 700.0,
    "mfu": 0.25,
    "wall_seconds": 4.0,
    "settings": {"data": "<stories & plays>"},
    "samples": [{"step": 7, "text": "once </pre><script>alert(1)</script>"}],
}


class Tags(HTMLParser):
    """All tags of a page with their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with two pretraining stages, one of them inside, and a plot of chapter 7."""
    for name in ("", "plays"):
        folder = tmp_path / name / "ch04_pretraining"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(PRETRAINING), encoding="utf-8")
        Figure().savefig(folder / "losses.png")
    (tmp_path / "ch07_practice").mkdir()
    for name in ("scaling_shakespeare.png", "something_else.png"):
        Figure().savefig(tmp_path / "ch07_practice" / name)
    return tmp_path


def test_the_page_needs_no_other_file_and_runs_nothing(run):
    write_report(run)
    tags = Tags((run / "report.html").read_text(encoding="utf-8")).found
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}
    pictures = [attributes for tag, attributes in tags if tag == "img"]
    assert len(pictures) == 3  # two losses and the scaling law
    assert all(
        picture["src"].startswith("data:image/png;base64,") and picture["alt"]
        for picture in pictures
    )


def test_both_forms_lead_to_the_notebooks(run):
    write_report(run)
    tags = Tags((run / "report.html").read_text(encoding="utf-8")).found
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    links += re.findall(r"[^!]\[.*?\]\((.*?)\)", (run / "report.md").read_text(encoding="utf-8"))
    assert {(run / link).resolve() for link in links} == {
        ROOT / "ch04_pretraining" / "ch04.ipynb",
        ROOT / "ch07_practice" / "ch07.ipynb",
    }
    assert len(links) == 6  # in each form: two trainings and the scaling law


def test_markdown_shows_pictures_that_are_there(run):
    write_report(run)
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", (run / "report.md").read_text(encoding="utf-8"))
    assert len(pictures) == 3 and all((run / picture).is_file() for picture in pictures)


def test_the_summary_has_every_stage(run):
    summary = write_report(run)
    assert summary == json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert [(stage["chapter"], stage["run"]) for stage in summary["stages"]] == [
        ("ch04_pretraining", ""),
        ("ch04_pretraining", "plays"),
    ]
    assert "held-out loss 1.500" in summary["stages"][0]["result"]


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the chapters first"):
        find_stages(tmp_path)


def test_responses_are_shown_stage_by_stage(tmp_path):
    """Two stages of three are there; a story stands before the instruction and is left out."""
    folder = tmp_path / "ch06_instruction"
    folder.mkdir()
    scores = {"exact_match": 0.5, "ci95_low": 0.4, "ci95_high": 0.6}
    metrics = {"base": scores, "sft": scores, "wall_seconds": 1.0}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    for name, response in (("base", "A: lake"), ("sft", "Q: Where is Tom?\nA: the mill")):
        pd.DataFrame(
            {
                "prompt": ["Tom went to the mill.\nWhere is Tom?"] * 9,
                "wanted": "the mill",
                "response": response,
            }
        ).to_csv(folder / f"answers-{name}.csv", index=False)
    report = write_report(tmp_path)
    assert report["stages"][0]["result"] == "right answers on unseen stories: base 50.0%, sft 50.0%"
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| instruction | wanted | base | sft |" in text
    assert (
        text.count("| Where is Tom? | the mill | A: lake | Q: Where is Tom? / A: the mill |") == 6
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<td>Q: Where is Tom? / A: the mill</td>") == 6
    assert "python ch07_practice/main.py scaling" in page
    drawn = tmp_path / "ch07_practice"
    drawn.mkdir()
    (drawn / "scaling_storyworld.png").write_bytes(b"a picture")
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "main.py scaling" not in page
    assert "main.py labs" in page
