"""Evaluation: likelihoods against transformers and a plain loop, intervals, the command, and the
lm-evaluation-harness.
"""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ch01_text import BPETokenizer
from ch01_text.storyworld import stories
from ch01_text.storyworld.words import PEOPLE, PLACES
from ch03_gpt import (
    PRESETS,
    GPTConfig,
    GPTModel,
    complete,
    flops_per_token,
    pick_precision,
    preset_config,
)
from ch03_gpt.flops import cache_bytes_per_token
from ch04_pretraining import evaluate_loss, save_checkpoint, save_pretrained
from ch04_pretraining.story_corpus import draw_questions, grade
from ch06_instruction.chat import chat_model, chat_tokenizer
from ch06_instruction.storyworld_tasks import instructions
from ch07_practice.evaluation.evaluate_command import (
    EvalSize,
    answer_prompt,
    evaluate,
    evaluate_stories,
)
from ch07_practice.evaluation.evaluation import EvalModel, choose, evaluate_choices, evaluate_text
from ch07_practice.evaluation.likelihood import ratio_interval, score_rows, text_windows
from ch07_practice.evaluation.lm_eval_adapter import LMEvalModel, as_lm_eval_model
from ch07_practice.story_questions import answer_choices, ask

ROOT = Path(__file__).parent.parent
FLOAT32 = pick_precision(torch.device("cpu"), "float32")
GPT2 = GPTConfig(
    vocab_size=60,
    context_length=12,
    emb_dim=32,
    n_heads=4,
    n_layers=2,
    qkv_bias=True,
    tie_embeddings=True,
)


def wild_model(config: GPTConfig) -> GPTModel:
    """An untrained model with clear preferences."""
    torch.manual_seed(3)
    model = GPTModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@torch.inference_mode()
def plain_score(model: GPTModel, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """One token after the other, each with as much context as fits."""
    total, greedy = 0.0, True
    for i, token in enumerate(continuation):
        before = [*context, *continuation[:i]]
        fits = [*context, *continuation][-(model.config.context_length + 1) :]
        before = before[len(context) + len(continuation) - len(fits) :]
        logits = model(torch.tensor([before]))[0, -1]
        total += float(logits.log_softmax(0)[token])
        greedy = greedy and int(logits.argmax()) == token
    return total, greedy


@pytest.mark.parametrize("batch_tokens", [8, 10_000])
def test_scores_are_those_of_a_plain_loop_and_of_transformers(tmp_path, monkeypatch, batch_tokens):
    from transformers import GPT2LMHeadModel

    monkeypatch.setattr("ch07_practice.evaluation.likelihood.BATCH_TOKENS", batch_tokens)
    monkeypatch.setattr("ch07_practice.evaluation.likelihood.HEAD_ROWS", 3)
    model = wild_model(GPT2)
    save_pretrained(model, tmp_path)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    generator = torch.Generator().manual_seed(0)
    rows = [([1], [2]), ([5, 6, 7], []), ([4] * 9, [8] * 7), ([3], [9] * 12)]
    for length in (1, 4, 8):
        context = torch.randint(0, 60, (length,), generator=generator).tolist()
        # what it would write
        rows.append((context, model(torch.tensor([context]))[0, -1:].argmax(-1).tolist()))
        rows.append((context, torch.randint(0, 60, (3,), generator=generator).tolist()))
    found = score_rows(model, rows, FLOAT32)
    assert {greedy for _, greedy in found} == {True, False}
    for (context, continuation), (log_p, greedy) in zip(rows, found, strict=True):
        expected, would = plain_score(model, context, continuation)
        assert (log_p, greedy) == (pytest.approx(expected, abs=1e-4), would)
        text = torch.tensor([[*context, *continuation][-13:]])
        with torch.inference_mode():
            logits = theirs(text[:, :-1]).logits.log_softmax(-1)
        n = len(continuation)
        reference = (
            logits[0, text.shape[1] - 1 - n :].gather(1, text[0, text.shape[1] - n :, None]).sum()
        )
        assert log_p == pytest.approx(float(reference), abs=1e-4)


def test_what_cannot_be_scored_is_refused():
    model = wild_model(GPT2)
    with pytest.raises(ValueError, match="cannot score 13 tokens in a context of 12"):
        score_rows(model, [([1], [2] * 13)], FLOAT32)
    with pytest.raises(ValueError, match="the context is empty"):
        score_rows(model, [([], [2])], FLOAT32)


@pytest.mark.parametrize("overlap", [1, 5, 12])
@pytest.mark.parametrize("n", [0, 1, 12, 13, 40])
def test_windows_score_every_token_once_with_enough_before_it(n, overlap):
    ids = list(range(100, 100 + n))
    rows = list(text_windows(ids, 0, 12, overlap))
    assert [token for _, scored in rows for token in scored] == ids
    for number, (context, scored) in enumerate(rows):
        assert len(context) + len(scored) <= 13
        assert [*context, *scored] == [0, *ids][
            (at := ([0, *ids].index(context[0]))) : at + len(context) + len(scored)
        ]
        assert number == 0 or len(context) >= overlap


def story_model(chat: bool = False, context_length: int = 256) -> EvalModel:
    tokenizer = BPETokenizer.train([story.text for story in stories(100)], 500)
    config = preset_config("tiny", vocab_size=tokenizer.n_vocab, context_length=context_length)
    model = wild_model(config)
    if chat:
        tokenizer = chat_tokenizer(tokenizer)
        model = chat_model(model, tokenizer.n_vocab)
    return EvalModel("tiny", model.eval(), tokenizer, FLOAT32)


def test_choices_are_picked_by_their_likelihood():
    """Oracle: the plain loop over each choice; the right answer is always among them."""
    tiny = story_model()
    pairs = draw_questions("test", "base", 12, 1)
    items = [(answer_prompt(tiny, pair), answer_choices(*pair)) for pair in pairs]
    assert all(
        question.answer in choices for (_, question), (_, choices) in zip(pairs, items, strict=True)
    )
    assert all(3 <= len(choices) <= 8 for _, choices in items)
    picked = choose(tiny, items)
    assert any(plain != normalised for plain, normalised in picked)
    for (prompt, choices), (plain, normalised) in zip(items, picked, strict=True):
        scores = [
            plain_score(tiny.model, prompt, tiny.tokenizer.encode(choice))[0] for choice in choices
        ]
        assert plain == max(range(len(choices)), key=scores.__getitem__)
        assert normalised == max(range(len(choices)), key=lambda i: scores[i] / len(choices[i]))
    right = [
        choices.index(question.answer)
        for (_, question), (_, choices) in zip(pairs, items, strict=True)
    ]
    by_sum, by_mean, by_chance = evaluate_choices(tiny, "choice", items, right)
    for way, result in enumerate((by_sum, by_mean)):
        hits = sum(one[way] == wanted for one, wanted in zip(picked, right, strict=True))
        assert result.value == hits / len(pairs)
    assert by_chance.value == pytest.approx(
        sum(1 / len(choices) for _, choices in items) / len(pairs)
    )


def test_every_task_fits_both_kinds_of_model():
    """Oracles: chapter 4's own grades for a base model; chapter 6's training format for a chat
    model.
    """
    base, chat = story_model(), story_model(chat=True)
    assert (base.has_template, chat.has_template) == (False, True)
    found = evaluate_stories(base, EvalSize(questions=20))
    hits = sum(grade(base.model, base.tokenizer, draw_questions("test", "base", 20, 1), FLOAT32))
    assert (found[0].value, found[0].n) == (hits / 20, 20)
    story, question = draw_questions("test", "base", 1, 1)[0]
    text = chat.tokenizer.decode(answer_prompt(chat, (story, question)))
    assert text.endswith(f"\n{question.text}<|end|><|assistant|>Q: {question.text}\nA:")
    taught = next(
        one
        for one in instructions(200, 1, only="question")
        if one.form == "phrase" and one.kind == "who-has" and one.answerable
    )
    pair = taught.story, taught.question
    begun = answer_prompt(chat, pair)[len(chat.chat.prompt(ask(*pair))) :]
    assert [*begun, *chat.tokenizer.encode(f" {taught.answer}")] == chat.tokenizer.encode(
        taught.response
    )


def test_text_measures_are_chapter_fours_on_one_window():
    """Oracles: evaluate_loss, whose exponential is the perplexity, and the bytes of the text."""
    tiny = story_model()
    text = "Tom had a kite. Café!"
    ids = [tiny.tokenizer.eot_id, *tiny.tokenizer.encode(text)]
    batch = (torch.tensor([ids[:-1]]), torch.tensor([ids[1:]]))
    loss, n = evaluate_loss(tiny.model, [batch])
    perplexity, bits = evaluate_text(tiny, "mine", [text], 1000)
    assert perplexity.value == pytest.approx(math.exp(loss), rel=1e-4)
    assert bits.value == pytest.approx(loss * n / math.log(2) / len(text.encode()), rel=1e-4)
    assert (perplexity.n, math.isnan(bits.ci95_low)) == (n, True)
    both, _ = evaluate_text(tiny, "mine", [text, "She wept.", "He sang and sang."], 1000)
    assert both.ci95_low < both.value < both.ci95_high
    cut, _ = evaluate_text(tiny, "mine", [text, "She wept."], n + 1)
    assert cut.n == n + 1


def test_the_ratio_interval_covers_the_truth_as_often_as_it_says():
    """Oracle: 400 simulated samples of 60 parts of unequal size around a known ratio."""
    generator = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(400):
        counts = torch.randint(5, 50, (60,), generator=generator).double()
        totals = counts * (2 + 0.5 * torch.randn(60, generator=generator).double())
        _, low, high = ratio_interval(totals.tolist(), counts.tolist())
        inside += low <= 2 <= high
    assert 0.91 <= inside / 400 <= 0.98


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run with an untrained story model and an untrained chat model."""
    folder = tmp_path_factory.mktemp("run")
    for name, chat in (("ch04_pretraining/checkpoint", False), ("ch06_instruction/sft", True)):
        tiny = story_model(chat)
        save_checkpoint(folder / name, tiny.model, tiny.tokenizer)
    return folder


@pytest.mark.slow
def test_the_command_measures_all_models_of_a_run(run_folder, capsys, monkeypatch):
    monkeypatch.setattr("ch06_instruction.answering.MAX_NEW_TOKENS", 8)
    result = evaluate(
        run=run_folder, questions=4, tokens=600, text=("storyworld", str(ROOT / "README.md"))
    )
    saved = json.loads((run_folder / "ch07_practice" / "evaluate.json").read_text(encoding="utf-8"))
    assert saved == result
    rows = {(row["model"], row["task"], row["measure"]): row for row in saved["results"]}
    assert {model for model, _, _ in rows} == {"base", "sft"}
    assert {task for _, task, _ in rows} == {
        "stories",
        "choice",
        "instructions",
        "storyworld",
        str(ROOT / "README.md"),
    }
    assert all(row["ci95_low"] <= row["value"] <= row["ci95_high"] for row in saved["results"])
    assert "likeliest per character" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--questions", "0"], "--questions must be at least 1"),
        (["--text", "no such text"], "there is no text"),
        (["--model", "no such model"], "is no folder"),
    ],
)
def test_wrong_input_is_refused_in_one_line(run_folder, arguments, words):
    result = subprocess.run(
        [
            sys.executable,
            "ch07_practice/main.py",
            "evaluate",
            "--tasks",
            "text",
            "--run",
            str(run_folder),
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


class Request:
    """A request as the lm-evaluation-harness passes it."""

    def __init__(self, *args):
        self.args = args


def test_the_adapter_answers_the_three_requests():
    """Oracles: the plain loop, and text by text greedy decoding."""
    tiny = story_model(context_length=24)
    lm = LMEvalModel(tiny.model, tiny.tokenizer, FLOAT32)
    assert lm.encode_pair("Tom had ", "a kite") == lm.encode_pair("Tom had", " a kite")
    pairs = [("Tom had a", " kite"), ("", "She wept."), ("Maya ran. " * 20, "to the mill")]
    for pair, found in zip(
        pairs, lm.loglikelihood([Request(*pair) for pair in pairs]), strict=True
    ):
        context, continuation = lm.encode_pair(*pair)
        assert tiny.tokenizer.decode([*context[1:], *continuation]) == "".join(pair)
        log_p, greedy = plain_score(tiny.model, context, continuation)
        assert found == (pytest.approx(log_p, abs=1e-4), greedy)
    texts = ["She wept.", "Tom had a kite and Maya ran to the mill. " * 3, ""]
    rolled = lm.loglikelihood_rolling([Request(text) for text in texts])
    for text, found in zip(texts, rolled, strict=True):
        rows = text_windows(tiny.tokenizer.encode(text), tiny.tokenizer.eot_id, 24, 1)
        assert found == pytest.approx(
            sum(plain_score(tiny.model, *row)[0] for row in rows), abs=1e-3
        )
    whole = complete(tiny.model, [lm.encode_pair("Tom had", "")[0]], 6)[0].ids
    text = tiny.tokenizer.decode(whole)
    wishes = [{"until": [text[3]], "max_gen_toks": 6}, {"until": [], "max_gen_toks": 2}]
    assert lm.generate_until([Request("Tom had", wish) for wish in wishes]) == [
        text.split(text[3])[0],
        tiny.tokenizer.decode(whole[:2]),
    ]
    with pytest.raises(ValueError, match="greedily"):
        lm.generate_until([Request("Tom", {"do_sample": True})])


@pytest.mark.slow
def test_the_lm_evaluation_harness_agrees(tmp_path):
    """Oracle: lm_eval itself, on a task of our questions: its acc and acc_norm are our two ways
    of choosing.
    """
    lm_eval = pytest.importorskip(
        "lm_eval", reason="lm_eval is not installed (pip install lm_eval)"
    )
    from lm_eval.tasks import TaskManager

    tiny = story_model()
    pairs = draw_questions("test", "base", 20, 1)
    rows = [
        {
            "prompt": story.prompt(question),
            "choices": answer_choices(story, question),
            "answer": question.answer,
        }
        for story, question in pairs
    ]
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    (tmp_path / "task.yaml").write_text(
        "task: our_questions\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test:"
        f" {tmp_path / 'rows.jsonl'}\noutput_type: multiple_choice\ntest_split: test\ndoc_to_text:"
        ' "{{prompt}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target:'
        ' "{{choices.index(answer)}}"\nmetric_list:\n  - metric: acc\n  - metric:'
        " acc_norm\n",
        encoding="utf-8",
    )
    found = lm_eval.simple_evaluate(
        model=as_lm_eval_model(tiny.model, tiny.tokenizer, FLOAT32),
        tasks=["our_questions"],
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
    )
    picked = choose(
        tiny,
        [
            (answer_prompt(tiny, pair), [f" {choice}" for choice in answer_choices(*pair)])
            for pair in pairs
        ],
    )
    wanted = [answer_choices(*pair).index(pair[1].answer) for pair in pairs]
    shares = [
        sum(one[way] == right for one, right in zip(picked, wanted, strict=True)) / 20
        for way in (0, 1)
    ]
    results = found["results"]["our_questions"]
    assert [results["acc,none"], results["acc_norm,none"]] == pytest.approx(shares)


def test_the_numbers_in_model_families_and_limits_are_ours():
    """Every cell of its table is recomputed, and so are the village's people and places."""
    page = (ROOT / "ch07_practice" / "model_families_and_limits.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w.-]+) \|((?: [\d,.]+ \|)+)$", page, flags=re.MULTILINE)
    assert [name for name, _ in rows] == [
        "story",
        "gpt2-124m",
        "gpt2-1558m",
        "llama2-7b",
        "mistral-7b",
        "qwen2.5-0.5b",
    ]
    for name, cells in rows:
        config = PRESETS[name]
        with torch.device("meta"):
            n_parameters = GPTModel(config).n_parameters()
        cache = cache_bytes_per_token(config)
        kept = min(config.context_length, config.window or config.context_length)
        assert cells.replace(" ", "").split("|")[:-1] == [
            f"{n_parameters:,}",
            f"{cache:,}",
            f"{flops_per_token(config):,}",
            f"{config.context_length:,}",
            f"{cache * kept / 2**20:,.1f}",
        ], name
    assert f"{len(PEOPLE)} people, {len(PLACES)} places" in page
    qwen = PRESETS["qwen2.5-0.5b"]
    assert qwen.vocab_size * qwen.emb_dim > 0.25 * 494_032_768
