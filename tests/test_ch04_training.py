"""The training loop against closed forms, torch's own steps, bigger batches, and uninterrupted
runs.
"""

import itertools
import json
import math
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from ch01_text import IGNORE, CharTokenizer, RandomWindows, create_dataloader_v1
from ch03_gpt import GPTConfig, GPTModel, preset_config
from ch04_pretraining import (
    RECIPES,
    PretrainConfig,
    TrainOptions,
    TrainState,
    bits_per_byte,
    calc_loss_batch,
    calc_loss_loader,
    draw_losses,
    evaluate_loss,
    fill_in,
    generate,
    make_optimizers,
    next_token_loss,
    plot_losses,
    set_learning_rate,
    text_to_token_ids,
    token_ids_to_text,
    train,
    train_model_simple,
    training,
    warmup_cosine,
    warmup_stable_decay,
    wilson_interval,
)
from ch04_pretraining.layer_monitor import LayerMonitor
from ch04_pretraining.story_corpus import BEGIN_ANYWHERE, AnswerLoss, window_starts
from ch04_pretraining.training import average_and_clip_grads, train_step

TINY = GPTConfig(
    vocab_size=40, context_length=12, emb_dim=16, n_heads=2, n_layers=2, tie_embeddings=True
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def a_batch(rows: int = 4, T: int = 12):
    ids = torch.randint(0, 40, (rows, T + 1))
    return ids[:, :-1], ids[:, 1:]


def forever(*batches):
    while True:
        yield from batches


def test_some_windows_begin_amid_a_text():
    tokens = np.tile(np.arange(50), 2000)  # document after document of 50 tokens, 0 ends each
    starts = window_starts(tokens, 0, seed=1)
    anywhere = starts[tokens[starts] != 0]
    assert set(np.flatnonzero(tokens[:-1] == 0)) <= set(starts)
    assert len(anywhere) == pytest.approx(len(starts) / BEGIN_ANYWHERE, rel=0.1)
    assert len(set(tokens[anywhere])) == 49
    assert starts.tolist() == sorted(starts)


@given(st.floats(0.001, 1.0), st.floats(0.01, 0.4), st.floats(0, 0.9))
def test_cosine_schedule_equals_its_closed_form(progress, warmup, final):
    expected = (
        progress / warmup
        if progress < warmup
        else final + (1 - final) * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2
    )
    assert warmup_cosine(warmup, final)(progress) == pytest.approx(expected)


@given(st.floats(0.001, 1.0), st.floats(0.01, 0.4), st.floats(0.1, 0.5), st.floats(0, 0.9))
def test_warmup_stable_decay_equals_its_corners(progress, warmup, decay, final):
    """Oracle: straight lines between (0, 0), (warmup, 1), (where the fall begins, 1), (1,
    final).
    """
    import numpy as np

    # The fall passes through (1, final) with slope (1 - final) / decay, and the peak cuts it off.
    expected = min(
        np.interp(progress, [0, warmup], [0, 1]), np.interp(progress, [1 - decay, 1], [1, final])
    )
    assert warmup_stable_decay(warmup, decay, final)(progress) == pytest.approx(expected)


def test_every_parameter_has_exactly_one_optimizer_and_muon_gets_the_blocks_matrices():
    model = GPTModel(TINY)
    muon, adamw = make_optimizers(model, "muon")
    in_muon = [p for g in muon.param_groups for p in g["params"]]
    in_adamw = [p for g in adamw.param_groups for p in g["params"]]
    assert sorted(map(id, in_muon + in_adamw)) == sorted(map(id, model.parameters()))
    assert {id(p) for p in in_muon} == {
        id(p) for p in model.trf_blocks.parameters() if p.dim() == 2
    }
    decayed = {id(p) for g in adamw.param_groups if g["weight_decay"] for p in g["params"]}
    assert all(p.dim() >= 2 for p in in_adamw if id(p) in decayed)
    with pytest.raises(ValueError, match="muon or adamw"):
        make_optimizers(model, "sgd")


def test_a_step_equals_torchs_own():
    """Oracle: mean loss, clip_grad_norm_ and torch.optim.AdamW, written by hand."""
    ours, theirs = GPTModel(TINY), GPTModel(TINY)
    theirs.load_state_dict(ours.state_dict())
    batch = a_batch()
    train(
        ours,
        forever(batch),
        steps=3,
        optimizers=[torch.optim.AdamW(ours.parameters(), lr=0.01)],
        options=TrainOptions(max_norm=0.5, schedule=lambda progress: 1.0),
    )
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01)
    for _ in range(3):
        F.cross_entropy(theirs(batch[0]).flatten(0, 1), batch[1].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_accumulated_batches_equal_one_big_batch():
    """Oracle: the big batch, also where micro-batches hold different numbers of target tokens."""
    inputs, targets = a_batch(6)
    targets = targets.clone()
    targets[:2, 3:] = IGNORE
    small, big = GPTModel(TINY), GPTModel(TINY)
    big.load_state_dict(small.state_dict())
    parts = list(zip(inputs.split(2), targets.split(2), strict=True))
    logs = [
        train(
            small, forever(*parts), steps=4, options=TrainOptions(grad_accumulation=3, log_every=1)
        ).log,
        train(big, forever((inputs, targets)), steps=4, options=TrainOptions(log_every=1)).log,
    ]
    for a, b in zip(small.parameters(), big.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)
    assert [e["train_loss"] for e in logs[0]] == pytest.approx(
        [e["train_loss"] for e in logs[1]], abs=1e-3
    )


@pytest.mark.parametrize("max_norm", [0.1, 100.0, None])
def test_divide_and_clip_against_torch(max_norm):
    """Oracle: clip_grad_norm_ on the mean."""
    parameters = [torch.nn.Parameter(torch.randn(3, 4)), torch.nn.Parameter(torch.randn(5))]
    sums = [torch.randn(3, 4) * 7, torch.randn(5) * 7]
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = gradient.clone()
    norm = average_and_clip_grads(parameters, torch.tensor(7.0), max_norm)
    ours = [p.grad for p in parameters]
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = gradient / 7
    expected = torch.nn.utils.clip_grad_norm_(parameters, max_norm if max_norm else math.inf)
    torch.testing.assert_close(norm, expected)
    for a, p in zip(ours, parameters, strict=True):
        torch.testing.assert_close(a, p.grad)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_overfits_one_batch(optimizer):
    model, batch = GPTModel(TINY), a_batch()
    progress = train(
        model, forever(batch), steps=150, optimizers=make_optimizers(model, optimizer, lr=1e-2)
    )
    assert progress.log[-1]["train_loss"] < 0.05


def test_the_loss_equals_single_tokens_summed():
    """Oracle: a log-softmax per token; ignored targets count for nothing."""
    model = GPTModel(TINY)
    inputs, targets = a_batch()
    targets = targets.clone()
    targets[2, 2:7] = IGNORE
    log_p = model(inputs).log_softmax(dim=-1)
    expected = sum(
        -log_p[row, t, targets[row, t]]
        for row in range(4)
        for t in range(12)
        if targets[row, t] != IGNORE
    )
    total, count = next_token_loss(model, (inputs, targets))
    assert count == 48 - 5
    torch.testing.assert_close(total, expected)


def test_the_loss_in_bfloat16_is_close():
    """Oracle: the float32 loss."""
    model, batch = GPTModel(TINY), a_batch()
    exact = next_token_loss(model, batch)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close = next_token_loss(model, batch)[0]
    assert close.dtype == torch.float32
    torch.testing.assert_close(close, exact, rtol=0.01, atol=0.0)


def test_answers_count_more():
    """Oracle: cross-entropies of single tokens, weighted by hand."""
    text = "Tom ran.\nQ: Who ran?\nA: Tom\nHe sat.\nQ: Who?\nA: Tom\n"
    tokenizer = CharTokenizer.train(text)
    ids = torch.tensor([tokenizer.encode(text)])
    model = GPTModel({**TINY.to_dict(), "vocab_size": tokenizer.n_vocab, "context_length": 60})
    inputs, targets = ids[:, :-1], ids[:, 1:]
    total, count = AnswerLoss(tokenizer, weight=4.0)(model, (inputs, targets))
    losses = F.cross_entropy(model(inputs)[0], targets[0], reduction="none")
    answers = [
        i for match in re.finditer("A:( Tom\n)", text) for i in range(match.start(1), match.end(1))
    ]
    weights = torch.ones(len(text))
    weights[answers] = 5.0
    torch.testing.assert_close(total, (losses * weights[1:]).sum())
    assert count == weights[1:].sum()
    targets = targets.clone()
    targets[0, : answers[0]] = IGNORE  # everything before the first token of an answer but one
    assert (
        AnswerLoss(tokenizer, weight=4.0)(model, (inputs, targets))[1]
        == weights[answers[0] + 1 :].sum()
    )


def test_evaluation_sums_tokens_not_batches():
    """Oracle: a loop over single tokens."""
    model = GPTModel(TINY).train()
    batches = [a_batch(3, 12), a_batch(1, 2)]
    losses = [
        F.cross_entropy(model(x[row : row + 1])[0, t], y[row, t]).item()
        for x, y in batches
        for row in range(len(x))
        for t in range(x.shape[1])
    ]
    loss, count = evaluate_loss(model, batches)
    assert count == len(losses) == 38
    assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert model.training
    recorded = []
    evaluate_loss(
        model,
        batches,
        loss_fn=lambda *given: recorded.append(torch.is_grad_enabled()) or next_token_loss(*given),
    )
    assert recorded == [False, False]
    with pytest.raises(ValueError, match="no token"):
        evaluate_loss(model, [])


def test_bits_per_byte_of_a_coin():
    """Oracle: a fair coin written as one byte costs one bit."""
    assert bits_per_byte(math.log(2), 10, 10) == pytest.approx(1.0)


@pytest.mark.parametrize(("max_norm", "clipped"), [(1e-6, 1.0), (1e6, 0.0)])
def test_the_share_of_clipped_steps_is_counted(max_norm, clipped):
    options = TrainOptions(max_norm=max_norm)
    log = train(GPTModel(TINY), forever(a_batch()), steps=4, options=options).log
    assert log[-1]["clipped"] == clipped


def test_stopping_early_saves_and_says_where():
    saved = []
    progress = train(
        GPTModel(TINY),
        forever(a_batch()),
        steps=100,
        options=TrainOptions(should_stop=lambda: True, save=saved.append),
    )
    assert progress.step == 1
    assert saved == [progress]


def test_every_log_entry_is_passed_on_with_what_was_found():
    entries = []
    options = TrainOptions(
        log_every=2, on_log=entries.append, evaluate=lambda state: {"at": state.step}
    )
    log = train(GPTModel(TINY), forever(a_batch()), steps=3, options=options).log
    assert entries == log
    assert [(entry["step"], entry["at"]) for entry in log] == [(2, 2), (3, 3)]


def test_train_wants_a_plan():
    with pytest.raises(ValueError, match="steps, seconds, or both"):
        train(GPTModel(TINY), forever(a_batch()))
    with pytest.raises(ValueError, match="grad_accumulation"):
        TrainOptions(grad_accumulation=0)


def test_seconds_end_training_and_the_schedule():
    model = GPTModel(TINY)
    optimizers = make_optimizers(model)
    progress = train(model, forever(a_batch()), seconds=0.3, optimizers=optimizers)
    assert progress.seconds >= 0.3
    assert progress.share(None, 0.3) == 1.0


def test_learning_rates_keep_their_proportions():
    optimizers = make_optimizers(GPTModel(TINY), lr=0.1, muon_lr=0.2)
    for multiplier in (0.5, 0.25):
        set_learning_rate(optimizers, multiplier)
        assert optimizers[0].param_groups[0]["lr"] == pytest.approx(0.2 * multiplier)
        assert optimizers[1].param_groups[0]["lr"] == pytest.approx(0.1 * multiplier)


def test_a_step_reports_what_it_did():
    model, batch = GPTModel(TINY), a_batch()
    expected = next_token_loss(model, batch)[0].item()
    from ch03_gpt import pick_precision

    (loss, count, norm), n_inputs = train_step(
        model,
        forever(batch),
        next_token_loss,
        make_optimizers(model),
        pick_precision(torch.device("cpu"), "float32"),
        TrainOptions(grad_accumulation=2),
    )
    assert (count, n_inputs) == (96, 96)
    assert loss.item() == pytest.approx(2 * expected)
    assert norm > 0


def test_the_books_loop_and_losses(capsys):
    """Oracle: cross-entropy by hand; the book's call signatures as they stand in the book."""
    text = "the cat sat on the mat. " * 30
    tokenizer = CharTokenizer.train(text)
    loader = create_dataloader_v1(
        text,
        batch_size=2,
        max_length=12,
        stride=12,
        shuffle=False,
        drop_last=True,
        num_workers=0,
        tokenizer=tokenizer,
    )
    model = GPTModel(
        {
            "vocab_size": tokenizer.n_vocab,
            "context_length": 12,
            "emb_dim": 16,
            "n_heads": 2,
            "n_layers": 1,
            "drop_rate": 0.1,
            "qkv_bias": False,
        }
    )
    model.eval()
    x, y = next(iter(loader))
    expected = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    torch.testing.assert_close(calc_loss_batch(x, y, model, torch.device("cpu")), expected)
    mean = calc_loss_loader(loader, model, torch.device("cpu"), num_batches=1)
    assert mean == pytest.approx(expected.item(), rel=1e-5)
    assert math.isnan(calc_loss_loader([], model, torch.device("cpu")))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    train_losses, val_losses, tokens_seen = train_model_simple(
        model,
        loader,
        loader,
        optimizer,
        torch.device("cpu"),
        num_epochs=2,
        eval_freq=5,
        eval_iter=5,
        start_context="the cat",
        tokenizer=tokenizer,
    )
    assert len(train_losses) == len(val_losses) == len(tokens_seen) == -(-2 * len(loader) // 5)
    assert train_losses[-1] < train_losses[0]
    assert capsys.readouterr().out.count("the cat") >= 2
    epochs = torch.linspace(0, 2, len(train_losses)).tolist()
    assert len(plot_losses(epochs, tokens_seen, train_losses, val_losses).axes) == 2
    ids = generate(
        model=model,
        idx=text_to_token_ids("the cat", tokenizer),
        max_new_tokens=5,
        context_size=12,
        top_k=25,
        temperature=1.4,
    )
    assert token_ids_to_text(ids, tokenizer).startswith("the cat")
    assert ids.shape == (1, 12)


def test_the_books_generate_leaves_the_end_token_out():
    model = GPTModel(TINY)
    ids = torch.zeros(1, 1, dtype=torch.long)
    first = generate(model, ids, 1)[0, 1].item()
    assert generate(model, ids, 5, eos_id=first).tolist() == [[0]]


def test_draw_losses_draws_both_curves():
    log = [
        {"tokens": 1, "train_loss": 2.0, "lr": 0.1, "val_loss": 2.1},
        {"tokens": 2, "train_loss": 1.0, "lr": 0.2},
    ]
    lines = draw_losses(log).axes[0].get_lines()
    assert [list(line.get_ydata()) for line in lines] == [[2.0, 1.0], [2.1]]


@given(st.integers(1, 400), st.floats(0, 1))
def test_confidence_interval_against_scipy(n, share):
    """Oracle: scipy's Wilson interval."""
    from scipy.stats import binomtest

    hits = round(share * n)
    low, high = wilson_interval(hits, n, z=1.959963984540054)
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert (low, high) == (
        pytest.approx(theirs.low, abs=1e-9),
        pytest.approx(theirs.high, abs=1e-9),
    )


def test_an_interval_holds_its_share():
    for n in range(1, 400):
        for hits in (0, 1, n - 1, n):
            low, high = wilson_interval(hits, n)
            assert 0 <= low <= hits / n <= high <= 1


def test_recipes_give_way_to_what_is_asked_for():
    assert fill_in(PretrainConfig()) == RECIPES["storyworld"]
    assert fill_in(PretrainConfig("shakespeare")) == RECIPES["shakespeare"]
    other = fill_in(PretrainConfig("some/file.txt", steps=5, lr=6e-3))
    assert (other.data, other.steps, other.seconds) == ("some/file.txt", 5, None)
    assert other.muon_lr / other.lr == pytest.approx(
        RECIPES["shakespeare"].muon_lr / RECIPES["shakespeare"].lr
    )
    assert fill_in(PretrainConfig(lr=6e-3, muon_lr=0.5)).muon_lr == 0.5
    fast = fill_in(PretrainConfig("shakespeare", batch_size=3), "chars-500k")
    assert (fast.data, fast.tokenizer, fast.preset, fast.batch_size) == (
        "shakespeare",
        "char",
        "chars-3x128",
        3,
    )
    with pytest.raises(
        ValueError, match="unknown recipe 'cake'; choose one of storyworld, shakespeare, chars-500k"
    ):
        fill_in(PretrainConfig(), "cake")
    assert all(preset_config(recipe.preset) for recipe in RECIPES.values())


def test_nothing_is_left_open_that_a_run_needs():
    """What may stay None: the budgets that do not apply, and weights to begin with."""
    for config in (PretrainConfig(), PretrainConfig("some/file.txt")):
        left = {name for name, value in vars(fill_in(config)).items() if value is None}
        assert left == {"steps", "seconds", "init"}


def test_a_run_goes_on_only_with_its_own_settings():
    config = fill_in(PretrainConfig(Path("text.txt"), tokens=5))
    saved = json.loads(json.dumps(asdict(config)))
    replace(config, tokens=None, steps=9, compile=True, strategy="ddp").check_resumable(saved)
    for name, value, words in (
        ("seed", 7, "seed=1337, not 7"),
        ("lr", 1.0, "lr=0.003, not 1.0"),
        ("data", "other.txt", "data=text.txt, not other.txt"),
    ):
        with pytest.raises(ValueError, match=f"the checkpoint was begun with {words}"):
            replace(config, **{name: value}).check_resumable(saved)


@pytest.mark.parametrize(
    ("given", "steps", "seconds"),
    [
        ({}, round(2_100_000 / 4096), None),
        ({"tokens": 10_000}, 2, None),
        ({"tokens": 1}, 1, None),
        ({"steps": 7}, 7, None),
        ({"seconds": 9.5}, None, 9.5),
        ({"tokens": 40_960, "steps": 7}, 7, None),
        ({"tokens": 40_960, "steps": 70}, 10, None),
        ({"tokens": 40_960, "seconds": 9.5}, 10, 9.5),
    ],
)
def test_a_budget_replaces_the_recipes_and_several_all_hold(given, steps, seconds):
    """Oracle: counting, at 4,096 tokens a step."""
    config = fill_in(PretrainConfig(**given))
    assert (config.planned_steps(4096), config.seconds) == (steps, seconds)


def test_no_recipe_depends_on_the_clock():
    assert all(recipe.seconds is None and recipe.tokens for recipe in RECIPES.values())


def test_a_long_run_is_announced_with_its_time(monkeypatch, capsys):
    """Oracle: a clock that advances 2 s in every step."""
    now = itertools.count(step=1.0)
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(now) * 2)
    train(GPTModel(TINY), forever(a_batch()), steps=65, options=TrainOptions(description="drill"))
    assert "drill: about 2.0 minutes for 60 more steps (2.00 s each)" in capsys.readouterr().out
    train(GPTModel(TINY), forever(a_batch()), steps=6, options=TrainOptions(description="drill"))
    assert "minutes" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_learn_the_same():
    """Oracle: the same model uncompiled, in float32."""
    plain, compiled = GPTModel(TINY), GPTModel(TINY)
    compiled.load_state_dict(plain.state_dict())
    for block in compiled.trf_blocks:
        block.compile()
    batch = a_batch()
    losses = [
        [
            entry["train_loss"]
            for entry in train(
                model,
                forever(batch),
                next_token_loss,
                steps=4,
                optimizers=make_optimizers(model, "adamw"),
                options=TrainOptions(log_every=1, monitor=LayerMonitor(model)),
            ).log
        ]
        for model in (plain, compiled)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert list(plain.state_dict()) == list(compiled.state_dict())


def test_windows_feed_the_loop():
    """The fast path end to end: repeating text is learned."""
    import numpy as np

    tokens = np.tile(np.arange(10, dtype=np.uint16), 50)
    batches = RandomWindows(tokens, 12, 8, torch.Generator().manual_seed(0))
    progress = train(GPTModel(TINY), batches, next_token_loss, steps=200, state=TrainState())
    assert progress.log[-1]["train_loss"] < 0.1
    assert progress.tokens == 200 * 8 * 12


def test_only_one_module_of_the_chapter_knows_the_stories():
    folder = Path(training.__file__).parent
    knowing = {
        path.name
        for path in folder.glob("*.py")
        if "ch01_text.storyworld" in path.read_text(encoding="utf-8")
    }
    assert knowing == {"story_corpus.py"}
