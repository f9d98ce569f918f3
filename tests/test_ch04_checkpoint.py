"""Checkpoints and GPT-2's weights: round trips, crashes, wrong folders, and transformers as the
oracle (more of it in test_hf_folders.py).
"""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ch01_text import CharTokenizer, RandomWindows
from ch03_gpt import GPTConfig, GPTModel
from ch04_pretraining import (
    PretrainConfig,
    TrainOptions,
    TrainState,
    fill_in,
    find_checkpoint,
    from_pretrained,
    load_checkpoint,
    load_weights_into_gpt,
    make_optimizers,
    next_token_loss,
    pretrain,
    save_checkpoint,
    save_pretrained,
    train,
)
from ch04_pretraining.checkpoint import read_training_state, restore_training_state, training_state
from ch04_pretraining.trainer import Trainer

TOKENIZER = CharTokenizer.train("abcdefghij ")
TINY = GPTConfig(
    vocab_size=TOKENIZER.n_vocab,
    context_length=12,
    emb_dim=16,
    n_heads=2,
    n_layers=2,
    drop_rate=0.1,
    qkv_bias=True,
    tie_embeddings=True,
)
TOKENS = np.random.default_rng(0).integers(0, TOKENIZER.n_vocab, 500).astype(np.uint16)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip_is_exact(tmp_path, tied):
    """Oracle: the model that was saved."""
    model = GPTModel(TINY.__class__(**TINY.to_dict() | {"tie_embeddings": tied}))
    save_checkpoint(tmp_path / "c", model, TOKENIZER)
    loaded, tokenizer = load_checkpoint(tmp_path / "c")
    assert loaded.config == model.config
    assert not loaded.training
    assert tokenizer.tokens == TOKENIZER.tokens
    pairs = zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert ("lm_head.weight" in load_file(tmp_path / "c" / "model.safetensors")) is not tied
    assert (loaded.out_head.weight is loaded.tok_emb.weight) is tied


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_an_incomplete_folder_is_refused(tmp_path, name):
    save_checkpoint(tmp_path / "c", GPTModel(TINY), TOKENIZER)
    (tmp_path / "c" / name).unlink()
    with pytest.raises(ValueError, match=f"incomplete: {name} is missing"):
        load_checkpoint(tmp_path / "c")


def test_damaged_and_foreign_files_are_refused(tmp_path):
    save_checkpoint(tmp_path / "c", GPTModel(TINY), TOKENIZER)
    CharTokenizer.train("xyz").save(tmp_path / "c")
    with pytest.raises(
        ValueError, match=f"a model of {TINY.vocab_size} tokens but a tokenizer of 5"
    ):
        load_checkpoint(tmp_path / "c")
    TOKENIZER.save(tmp_path / "c")
    weights = tmp_path / "c" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_checkpoint(tmp_path / "c")
    tensors = {"tok_emb.weight": torch.zeros(2, 2)}
    save_file(tensors, weights)
    with pytest.raises(ValueError, match=r"the tensor 'wte.weight' is missing"):
        load_checkpoint(tmp_path / "c")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "nowhere")


def test_a_crash_while_saving_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    """Oracle: the checkpoint before the crash, wherever the crash happens."""
    first, second = GPTModel(TINY), GPTModel(TINY)
    for broken in (
        "ch04_pretraining.hf_weights.save_file",
        "ch01_text.saving._flush",
        "ch01_text.saving._swap",
    ):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        save_checkpoint(tmp_path / "c", first, TOKENIZER)
        with monkeypatch.context() as patch:
            patch.setattr(
                broken, lambda *args, **kwargs: (_ for _ in ()).throw(OSError("disk full"))
            )
            with pytest.raises(OSError, match="disk full"):
                save_checkpoint(tmp_path / "c", second, TOKENIZER)
        assert torch.equal(load_checkpoint(tmp_path / "c")[0].tok_emb.weight, first.tok_emb.weight)
    (tmp_path / "c").rename(tmp_path / "c.old")  # what a crash between the two renames leaves
    assert find_checkpoint(tmp_path / "c") == tmp_path / "c.old"
    assert torch.equal(load_checkpoint(tmp_path / "c")[0].tok_emb.weight, first.tok_emb.weight)
    save_checkpoint(tmp_path / "c", second, TOKENIZER)
    assert torch.equal(load_checkpoint(tmp_path / "c")[0].tok_emb.weight, second.tok_emb.weight)


def test_a_train_state_that_would_execute_code_is_refused(tmp_path):
    """Oracle: a pickle that creates a file when it is loaded."""
    import pickle

    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "attacked"), "w"))

    save_checkpoint(tmp_path / "c", GPTModel(TINY), TOKENIZER, {"settings": {}})
    torch.save({"progress": Attack()}, tmp_path / "c" / "train_state.pt")
    with pytest.raises(pickle.UnpicklingError):
        read_training_state(tmp_path / "c")
    assert not (tmp_path / "attacked").exists()


def begin():
    torch.manual_seed(3)
    model = GPTModel(TINY)
    return (
        model,
        make_optimizers(model),
        RandomWindows(TOKENS, 12, 4, torch.Generator().manual_seed(5)),
    )


@pytest.mark.parametrize("cut", [1, 7, 12])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, cut):
    """Oracle: the run that was never interrupted, with dropout; stopped anywhere, also between
    two log entries.
    """
    model, optimizers, batches = begin()
    whole = train(
        model, batches, steps=20, optimizers=optimizers, options=TrainOptions(log_every=5)
    )

    first, optimizers, batches = begin()
    steps_done = []

    def save(progress):
        save_checkpoint(
            tmp_path / "c",
            first,
            TOKENIZER,
            training_state(optimizers, batches, progress, {"a": 1}),
        )

    train(
        first,
        batches,
        steps=20,
        optimizers=optimizers,
        options=TrainOptions(
            log_every=5,
            save=save,
            should_stop=lambda: steps_done.append(1) or len(steps_done) == cut,
        ),
    )

    torch.manual_seed(99)  # a new process would start elsewhere
    second, _ = load_checkpoint(tmp_path / "c")
    optimizers = make_optimizers(second)
    batches = RandomWindows(TOKENS, 12, 4, torch.Generator())
    state = read_training_state(tmp_path / "c")
    progress = restore_training_state(state, optimizers, batches)
    assert (progress.step, state["settings"]) == (cut, {"a": 1})
    resumed = train(
        second,
        batches,
        steps=20,
        optimizers=optimizers,
        state=progress,
        options=TrainOptions(log_every=5),
    )
    pairs = zip(model.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    exact = [{k: v for k, v in entry.items() if k != "seconds"} for entry in whole.log]
    assert [{k: v for k, v in entry.items() if k != "seconds"} for entry in resumed.log] == exact


NO_COPIES = {"copied_8grams": 0.0, "copied_8grams_held_out": 0.0}


def test_a_longer_plan_goes_on_reporting_and_saving(tmp_path, monkeypatch):
    """Resumed with a larger budget, a run validates in every tenth of the new plan, and the model
    on disk is the one that the metrics describe.
    """
    monkeypatch.setattr(Trainer, "sample", lambda self, model: "")  # takes longer than training
    monkeypatch.setattr(Trainer, "memorisation", lambda self, model: NO_COPIES)
    text = tmp_path / "text.txt"
    text.write_text("It is a truth universally acknowledged. " * 300, encoding="utf-8")
    for steps in (120, 300):
        settings = PretrainConfig(data=str(text), tokenizer="char", preset="tiny", steps=steps)
        metrics = pretrain(fill_in(settings), run=tmp_path, device="cpu", resume=steps > 120)
        assert (
            read_training_state(tmp_path / "ch04_pretraining/checkpoint")["progress"]["step"]
            == steps
        )
    log = (tmp_path / "ch04_pretraining/log.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in log]
    steps = [entry["step"] for entry in entries if "val_loss" in entry]
    assert {10 * step // 300 for step in steps if step > 120} == set(range(5, 11))
    assert metrics["best_val_loss"] == min(e["val_loss"] for e in entries if "val_loss" in e)


def test_only_validated_weights_become_the_best(tmp_path):
    """Ctrl-C a few steps past the best validation saves the run, but leaves `best` as it was."""
    trainer = Trainer.__new__(Trainer)  # `save` needs no more than this
    trainer.folder, trainer.dataset = tmp_path, SimpleNamespace(tokenizer=TOKENIZER)
    trainer.model, trainer.optimizers, trainer.batches = begin()
    trainer.config = PretrainConfig()
    for step, expected in ((10, 1.0), (13, 1.0), (20, 2.0)):
        torch.nn.init.constant_(trainer.model.tok_emb.weight, {10: 1.0, 13: 3.0, 20: 2.0}[step])
        log = [{"step": 10, "val_loss": 2.0}, {"step": 20, "val_loss": 1.0}][: step // 10]
        trainer.save(TrainState(step=step, log=log))
        best, latest = (load_checkpoint(tmp_path / name)[0] for name in ("best", "checkpoint"))
        assert (best.tok_emb.weight == expected).all()
        assert torch.equal(latest.tok_emb.weight, trainer.model.tok_emb.weight)


@pytest.fixture
def theirs(tmp_path):
    """A tiny random GPT-2 of transformers, saved to disk as the Hub would hold it."""
    import transformers

    torch.manual_seed(7)
    config = transformers.GPT2Config(vocab_size=40, n_positions=16, n_embd=24, n_head=4, n_layer=3)
    model = transformers.GPT2LMHeadModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "hub")
    return model, tmp_path / "hub"


def test_logits_equal_transformers(theirs):
    """Oracle: transformers' GPT-2, within 1e-4."""
    model, folder = theirs
    ours = from_pretrained(folder)
    ids = torch.randint(0, 40, (3, 16))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), model(ids).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("tied", "qkv_bias"), [(True, True), (False, True), (True, False)])
def test_transformers_loads_what_we_save(tmp_path, tied, qkv_bias):
    """Oracle: transformers' logits from our folder, and our own after the way back."""
    import transformers

    ours = GPTModel(
        GPTConfig(
            vocab_size=40,
            context_length=16,
            emb_dim=24,
            n_heads=4,
            n_layers=2,
            tie_embeddings=tied,
            qkv_bias=qkv_bias,
        )
    ).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_pretrained(ours, tmp_path)
    model, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.randint(0, 40, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids).logits, ours(ids), atol=1e-4, rtol=0)
        torch.testing.assert_close(from_pretrained(tmp_path)(ids), ours(ids), atol=1e-5, rtol=0)


def rewrite(folder, change):
    """Apply `change` to the tensors of a folder."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("transformer.h.1.mlp.c_fc.bias"), "h.1.mlp.c_fc.bias' is missing"),
        (lambda t: t.update({"transformer.h.9.extra": torch.zeros(1)}), "does not have: h.9.extra"),
        (
            lambda t: t.update({"transformer.wpe.weight": torch.zeros(16, 23)}),
            r"pos_emb.weight is \(16, 23\)",
        ),
        (
            lambda t: t.update({"lm_head.weight": torch.zeros(40, 24)}),
            "differs from the token embedding",
        ),
    ],
)
def test_every_tensor_is_used_exactly_once(theirs, change, words):
    rewrite(theirs[1], change)
    with pytest.raises(ValueError, match=words):
        from_pretrained(theirs[1])


def test_old_files_constant_masks_are_dropped(theirs):
    rewrite(theirs[1], lambda t: t.update({"transformer.h.0.attn.bias": torch.ones(1, 1, 16, 16)}))
    from_pretrained(theirs[1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt_neox"}, "model_type 'gpt_neox' is unknown"),
        ({"activation_function": "relu"}, "activation_function='relu' is not supported"),
        (
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx=True is not supported",
        ),
    ],
)
def test_other_models_are_refused(theirs, changes, words):
    path = theirs[1] / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=words):
        from_pretrained(theirs[1])


def test_wrong_places_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="no folder, and no Hub repository"):
        from_pretrained(tmp_path / "nothing" / "here")
    with pytest.raises(ValueError, match=r"model.safetensors|config.json is missing"):
        from_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="cannot get 'openai-community/gpt2' from the Hugging Face Hub"
    ):
        from_pretrained("gpt2")


def test_our_checkpoints_are_pretrained_models_too(tmp_path):
    model = GPTModel(TINY).eval()
    save_checkpoint(tmp_path / "c", model, TOKENIZER)
    batch = torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long)
    assert (
        next_token_loss(from_pretrained(tmp_path / "c"), batch)[0]
        == next_token_loss(model, batch)[0]
    )


def test_the_books_dictionary_of_arrays(theirs):
    """Oracle: transformers' logits; the nested dictionary is built here as the book's loader
    builds it.
    """
    model, _ = theirs
    t = {
        name.removeprefix("transformer."): tensor.detach().numpy()
        for name, tensor in model.state_dict().items()
    }
    params = {
        "wte": t["wte.weight"],
        "wpe": t["wpe.weight"],
        "g": t["ln_f.weight"],
        "b": t["ln_f.bias"],
        "blocks": [
            {
                norm: {"g": t[f"h.{i}.{norm}.weight"], "b": t[f"h.{i}.{norm}.bias"]}
                for norm in ("ln_1", "ln_2")
            }
            | {
                part: {
                    layer: {
                        "w": t[f"h.{i}.{part}.{layer}.weight"],
                        "b": t[f"h.{i}.{part}.{layer}.bias"],
                    }
                    for layer in names
                }
                for part, names in (("attn", ("c_attn", "c_proj")), ("mlp", ("c_fc", "c_proj")))
            }
            for i in range(3)
        ],
    }
    ours = GPTModel(
        {
            "vocab_size": 40,
            "context_length": 16,
            "emb_dim": 24,
            "n_heads": 4,
            "n_layers": 3,
            "drop_rate": 0.1,
            "qkv_bias": True,
        }
    ).eval()
    load_weights_into_gpt(ours, params)
    ids = torch.randint(0, 40, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), model(ids).logits, atol=1e-4, rtol=0)
