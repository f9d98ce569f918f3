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
from ch04_pretraining import TrainState, load_checkpoint, save_checkpoint
from ch04_pretraining.story_corpus import story_documents
from ch06_instruction.config import GRPOConfig, PPOConfig, SFTConfig
from ch06_instruction.main import InstructionConfig, main
from ch06_instruction.pipeline import (
    AlignmentConfig,
    AlignmentData,
    AlignmentPipeline,
    base_chat,
    encode_all,
)
from ch06_instruction.storyworld_tasks import StoryworldData, conversations, encode_replay

ROOT = Path(__file__).parent.parent
FEW = dict(conversations=64, questions=12, pairs=16, prompts=8)
BRIEFLY = dict(ppo=PPOConfig(num_rollouts=1), grpo=GRPOConfig(num_rollouts=1))
CPU = pick_precision(torch.device("cpu"), "float32")


@pytest.fixture
def story_run(tmp_path) -> Path:
    """A run folder with an untrained story model."""
    tokenizer = BPETokenizer.train([story.text for story in stories(200)], 600)
    torch.manual_seed(0)
    model = GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab, conv_kernel=2))
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
        "ch06_instruction.rewards.exact_match", lambda text, answer: next(draws) % 3 == 0
    )
    metrics = main(InstructionConfig(**FEW), run=story_run, **BRIEFLY)
    folder = story_run / "ch06_instruction"
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(metrics)
    )
    for name in ("base", "sft", "best-of-8", "dpo", "ppo", "grpo"):
        assert {"exact_match", "ci95_low", "ci95_high", "seconds"} <= set(metrics[name])
        assert (
            metrics[name]["ci95_low"] <= metrics[name]["exact_match"] <= metrics[name]["ci95_high"]
        )
    assert metrics["sft"]["kl"] == pytest.approx(0, abs=0.05)
    assert 0 <= metrics["reward"]["ranking_accuracy"] <= 1
    # "same sentence" reads the name in the question, and is nearly the right rule for one step
    assert metrics["shortcuts"].pop("same sentence") <= 1
    assert max(metrics["shortcuts"].values()) < 0.8
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


def learned_text(tokenizer, chat) -> str:
    return tokenizer.decode(
        [token for token, learned in zip(chat.ids, chat.assistant_mask, strict=True) if learned]
    )


def test_the_assistants_words_are_learned(story_run):
    chat = base_chat("pretrained", story_run, CPU)
    chats = encode_all(chat, StoryworldData(60, 0, 0, 0, seed=3).conversations)
    said = [learned_text(chat.tokenizer, one).replace("<|end|>", "") for one in chats]
    whole = ["".join(one.response for one in several) for several in conversations(60, 3)]
    # long ones are cut
    assert all(expected.endswith(text) for expected, text in zip(whole, said, strict=True))
    assert {text.split()[0] for text in said} == {"Q:", "A:"}  # questions and lists


def test_of_replayed_texts_the_answers_are_learned(story_run):
    """Oracle: the lines of texts as chapter 4 reads them."""
    tokenizer = base_chat("pretrained", story_run, CPU).tokenizer
    documents = story_documents("train", 40, 3)
    for chat, text in zip(encode_replay(tokenizer, documents, 10_000), documents, strict=True):
        assert tokenizer.decode(chat.ids[1:]) == text
        answers = "".join(re.findall(r"^A:(.*\n)", text, re.MULTILINE))
        assert learned_text(tokenizer, chat) == answers != ""
    short, whole = (encode_replay(tokenizer, documents, context) for context in (60, 10_000))
    assert [(chat.ids[:61], chat.assistant_mask[:61], True) for chat in whole] == [
        (chat.ids, chat.assistant_mask, chat.truncated) for chat in short
    ]


def test_replay_comes_with_the_conversations(story_run, monkeypatch):
    given = []

    def train_sft(model, chats, *_):
        given.extend(chats)
        return TrainState(log=[{"val_loss": 0.0}])

    monkeypatch.setattr("ch06_instruction.pipeline.train_sft", train_sft)
    chat = base_chat("pretrained", story_run, CPU)
    data = StoryworldData(30, 6, 0, 0, seed=5)
    done = AlignmentPipeline(story_run, lambda: chat, data, AlignmentConfig(), CPU).sft()
    exchanges = [
        [m for one in several for m in one.conversation()] for several in conversations(30, 5)
    ]
    assert given == encode_all(chat, exchanges) + encode_replay(
        chat.tokenizer, story_documents("train", 6, 8), chat.model.config.context_length
    )
    assert (done.metrics["conversations"], done.metrics["replayed"]) == (30, 6)


def test_a_stage_names_the_function_that_it_lacks(tmp_path):
    pipeline = AlignmentPipeline(tmp_path, lambda: None, AlignmentData(), AlignmentConfig(), CPU)
    with pytest.raises(ValueError, match="give it an accuracy_fn"):
        pipeline.dpo()
    for stage in (pipeline.ppo, pipeline.grpo):
        with pytest.raises(ValueError, match="give it a reward_fn"):
            stage()


@pytest.mark.slow
def test_what_is_done_is_kept_when_a_later_stage_is_interrupted(story_run, monkeypatch):
    """Oracle: the files, after a Ctrl-C during DPO."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ch06_instruction.pipeline.train_dpo", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(InstructionConfig(**FEW), run=story_run)
    folder = story_run / "ch06_instruction"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert {"shortcuts", "base", "sft", "reward", "best-of-8"} <= set(metrics)
    assert "dpo" not in metrics
    assert all((folder / name).is_file() for name in ("sft.png", "stages.png", "answers-sft.csv"))
    monkeypatch.undo()
    monkeypatch.setattr("ch06_instruction.answering.MAX_NEW_TOKENS", 24)
    later = main(InstructionConfig(stage="grpo", **FEW), run=story_run, **BRIEFLY)
    assert later["sft"] == metrics["sft"]
    assert "grpo" in later


@pytest.mark.slow
def test_a_model_tuned_with_lora_can_be_opened_and_aligned(story_run):
    """Oracle: the stages after it, which begin from its checkpoint."""
    main(InstructionConfig(stage="sft", **FEW), SFTConfig(lora_rank=4), run=story_run)
    model, _ = load_checkpoint(story_run / "ch06_instruction" / "sft")
    assert not any(".lora." in name for name, _ in model.named_parameters())
    assert "grpo" in main(InstructionConfig(stage="grpo", **FEW), run=story_run, **BRIEFLY)


@pytest.mark.slow
def test_a_stage_alone_makes_what_it_needs(story_run, capsys):
    metrics = main(InstructionConfig(stage="grpo", **FEW), run=story_run, **BRIEFLY)
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
    metrics = main(
        InstructionConfig(data=str(file)), SFTConfig(epochs=2, lora_rank=2), run=story_run
    )
    assert metrics["sft"]["train_loss"] < metrics["base"]["train_loss"]
    assert metrics["contamination"]["test_affected"] == 4
    assert len(pd.read_csv(story_run / "ch06_instruction" / "answers-file.csv")) == 4


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("LLM_COMPANION_DATA"),
    reason="LLM_COMPANION_DATA does not name the folder of instruction-data.json",
)
def test_the_books_instructions(story_run):
    metrics = main(InstructionConfig(data="book"), SFTConfig(epochs=0.2), run=story_run)
    assert metrics["sft"]["val_loss"] < metrics["base"]["val_loss"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(prompts=0), "--prompts must be a positive number, not 0"),
        (dict(replay=-0.1), "--replay must be 0"),
        (dict(data="nothing.json"), "nothing.json"),
        (dict(data="book", stage="grpo"), "needs answers that a program can check"),
    ],
)
def test_bad_input_is_refused(arguments, words, tmp_path):
    with pytest.raises((ValueError, OSError), match=words):
        main(InstructionConfig(**arguments), run=tmp_path)


def test_bad_input_ends_in_one_line(tmp_path):
    result = run("--data", "nothing.json", "--run", tmp_path)
    assert result.returncode == 1
    assert result.stderr == "error: nothing.json: No such file or directory\n"
