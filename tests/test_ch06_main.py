"""Chapter 6's command: every stage on a tiny model, data from files, and what it refuses."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from ch01_text import BPETokenizer
from ch01_text.storyworld import stories
from ch03_gpt import GPTModel, pick_precision, preset_config
from ch04_pretraining import Progress, load_checkpoint, save_checkpoint
from ch04_pretraining.corpus import story_documents
from ch06_instruction.instructions import conversations
from ch06_instruction.main import main
from ch06_instruction.rehearsal import rehearsed_texts
from ch06_instruction.stages import Course, Plan, base_chat, story_chats

ROOT = Path(__file__).parent.parent
FEW = dict(conversations=64, pairs=16, prompts=8, rounds=1, questions=12)


@pytest.fixture
def story_run(tmp_path) -> Path:
    """A run folder with an untrained story model."""
    tokenizer = BPETokenizer.train([story.text for story in stories(200)], 600)
    torch.manual_seed(0)
    model = GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab, token_shift=1))
    (tmp_path / "ch04_pretraining").mkdir()
    save_checkpoint(tmp_path / "ch04_pretraining" / "checkpoint", model, tokenizer)
    return tmp_path


@pytest.fixture(autouse=True)
def short_answers(monkeypatch):
    monkeypatch.setattr("ch06_instruction.answering.MAX_NEW_TOKENS", 24)


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "ch06_instruction/main.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_all_stages_are_made_measured_and_kept(story_run, monkeypatch):
    draws = iter(range(10_000))
    monkeypatch.setattr(
        "ch06_instruction.preferences.exact_match", lambda text, answer: next(draws) % 3 == 0
    )
    metrics = main(run=story_run, **FEW)
    folder = story_run / "ch06_instruction"
    for name in ("base", "sft", "best-of-8", "dpo", "ppo", "grpo"):
        assert {"exact_match", "ci95_low", "ci95_high", "seconds"} <= set(metrics[name])
        assert (
            metrics[name]["ci95_low"] <= metrics[name]["exact_match"] <= metrics[name]["ci95_high"]
        )
    assert metrics["sft"]["kl"] == pytest.approx(0, abs=0.05)
    assert 0 <= metrics["reward"]["ranking_accuracy"] <= 1
    assert max(metrics["shortcuts"].values()) < 0.8
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(metrics)
    )
    for name in ("sft", "dpo", "ppo", "grpo"):
        _, tokenizer = load_checkpoint(folder / name)
        assert "<|assistant|>" in tokenizer.special_tokens
        assert len(pd.read_csv(folder / f"answers-{name}.csv")) == FEW["questions"]
    tuned = load_checkpoint(folder / "sft")[0].state_dict()
    for name in ("dpo", "ppo", "grpo"):
        aligned = load_checkpoint(folder / name)[0].state_dict()
        changed = [key for key in tuned if not torch.equal(tuned[key], aligned[key])]
        # no draw was right: no reward
        assert changed == ["final_norm.scale"] or (changed == [] and name != "dpo")
    for picture in ("sft", "rewards", "stages"):
        assert (folder / f"{picture}.png").stat().st_size > 5_000


def test_what_is_learned_is_what_the_assistant_says(story_run):
    chat = base_chat("pretrained", story_run, pick_precision(torch.device("cpu"), "float32"))
    chats = story_chats(chat, 60, 3)
    said = [
        chat.text([token for token, learned in zip(one.ids, one.said, strict=True) if learned])
        for one in chats
    ]
    whole = ["".join(one.response for one in several) for several in conversations(60, 3)]
    # long ones are cut
    assert all(expected.endswith(text) for expected, text in zip(whole, said, strict=True))
    assert len({text.split()[0] for text in said}) > 3  # questions, lists, sentences...


def test_of_rehearsed_texts_the_answers_are_learned(story_run):
    """Oracle: the lines of texts as chapter 4 reads them."""
    tokenizer = base_chat(
        "pretrained", story_run, pick_precision(torch.device("cpu"), "float32")
    ).tokenizer
    told = story_documents("train", 40, 3)
    for chat, text in zip(rehearsed_texts(tokenizer, 40, 10_000, 3), told, strict=True):
        assert tokenizer.decode(chat.ids[1:]) == text
        said = tokenizer.decode(
            [token for token, learned in zip(chat.ids, chat.said, strict=True) if learned]
        )
        assert said == "".join(re.findall(r"^A:(.*\n)", text, re.MULTILINE)) != ""
    short = rehearsed_texts(tokenizer, 40, 60, 3)
    whole = rehearsed_texts(tokenizer, 40, 10_000, 3)
    assert [(chat.ids[:61], chat.said[:61], True) for chat in whole] == [
        (chat.ids, chat.said, chat.truncated) for chat in short
    ]


def test_a_fifth_of_chapter_4s_texts_come_with_the_conversations(story_run, monkeypatch):
    given = []

    def tune(model, chats, *_):
        given.extend(chats)
        return Progress(log=[{"val_loss": 0.0}])

    monkeypatch.setattr("ch06_instruction.stages.tune", tune)
    precision = pick_precision(torch.device("cpu"), "float32")
    chat = base_chat("pretrained", story_run, precision)
    done = Course(story_run, lambda: chat, Plan(conversations=30), precision, seed=5).sft()
    assert given == story_chats(chat, 30, 5) + rehearsed_texts(
        chat.tokenizer, 6, chat.model.config.context_length, 8
    )
    assert (done.extra["conversations"], done.extra["rehearsed"]) == (30, 6)


def test_preferences_and_rewards_change_the_last_norms_scale_alone(story_run):
    precision = pick_precision(torch.device("cpu"), "float32")
    chat = base_chat("pretrained", story_run, precision)
    save_checkpoint(story_run / "sft", chat.model, chat.tokenizer)
    model = Course(story_run, None, Plan(), precision, seed=0).to_align().model
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        "final_norm.scale"
    ]


@pytest.mark.slow
def test_a_stage_alone_makes_what_it_needs(story_run, capsys):
    metrics = main(stage="grpo", run=story_run, **FEW)
    assert "instruction tuning comes first" in capsys.readouterr().out
    assert "grpo" in metrics
    assert "dpo" not in metrics


@pytest.mark.slow
def test_conversations_from_a_file(story_run, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(
        "".join(
            json.dumps({"instruction": f"Say {word}", "output": f"{word}!"}) + "\n"
            for word in ("yes", "no", "well", "so", "oh")
            for _ in range(8)
        ),
        encoding="utf-8",
    )
    metrics = main(data=str(file), run=story_run, epochs=2, lora_rank=2)
    assert metrics["sft"]["train_loss"] < metrics["base"]["train_loss"]
    assert metrics["leaks"]["test_affected"] == 4
    assert len(pd.read_csv(story_run / "ch06_instruction" / "answers-file.csv")) == 4


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("LLM_COMPANION_DATA"),
    reason="LLM_COMPANION_DATA does not name the folder of instruction-data.json",
)
def test_the_books_instructions(story_run):
    metrics = main(data="book", run=story_run, epochs=0.2)
    assert metrics["sft"]["val_loss"] < metrics["base"]["val_loss"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(rounds=0), "--rounds must be positive, not 0"),
        (dict(lora_rank=-1), "--lora-rank must be 0"),
        (dict(data="nothing.json"), "nothing.json"),
        (dict(data="book", stage="grpo"), "needs answers that a program can check"),
    ],
)
def test_bad_input_is_refused(arguments, words, tmp_path):
    with pytest.raises((ValueError, OSError), match=words):
        main(run=tmp_path, **arguments)


def test_bad_input_ends_in_one_line(tmp_path):
    result = run("--data", "nothing.json", "--run", tmp_path)
    assert result.returncode == 1
    assert result.stderr == "error: nothing.json: No such file or directory\n"
