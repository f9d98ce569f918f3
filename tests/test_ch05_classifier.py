"""The classifier: pooling, freezing, training, LoRA. Oracles: loops, finite sizes, scikit-learn,
self-consistency.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F

from ch01_text import CharTokenizer
from ch03_gpt import GPTModel, pick_precision, preset_config
from ch05_classification import (
    ClassifierConfig,
    GPTClassifier,
    LabelledTexts,
    LinearWithLoRA,
    LoRALayer,
    TokenizedDataset,
    batches,
    class_weights,
    classification_loss,
    collate,
    fit_temperature,
    freeze_except,
    load_adapter,
    make_task,
    merge_lora,
    predict_logits,
    replace_linear_with_lora,
    run_task,
    save_adapter,
    shuffled_batches,
    tokenize,
    train_classifier,
)
from ch05_classification.experiment import build_classifier
from ch07_practice.decoding.quantization import quantize

CPU = pick_precision(torch.device("cpu"), "float32")


def classifier(pooling: str = "last", seed: int = 0, **changes) -> GPTClassifier:
    torch.manual_seed(seed)
    model = GPTModel(preset_config("tiny", vocab_size=50, context_length=32, **changes))
    made = GPTClassifier(model, 3, pooling)
    nn.init.normal_(made.head.weight)
    return made.eval()


def rows_of(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(1, 50, n).tolist() for n in lengths]


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    pooling=st.sampled_from(["last", "mean", "max"]),
    extra=st.integers(0, 12),
    pad=st.integers(0, 49),
)
@settings(max_examples=40, deadline=None)
def test_padding_never_changes_a_logit(lengths, pooling, extra, pad):
    """Oracle: every text alone, without any padding."""
    model = classifier(pooling)
    rows = rows_of(lengths)
    ids, true_lengths, _ = collate(rows, torch.zeros(len(rows), dtype=torch.long), pad)
    ids = F.pad(ids, (0, extra), value=pad)
    with torch.inference_mode():
        together = model(ids, true_lengths)
        alone = torch.cat([model(torch.tensor([row]), torch.tensor([len(row)])) for row in rows])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_the_content_of_the_padding_changes_no_bit(pooling):
    model = classifier(pooling)
    rows = rows_of([3, 17, 9])
    made = [collate(rows, torch.zeros(3, dtype=torch.long), pad) for pad in (0, 49)]
    with torch.inference_mode():
        first, second = (model(ids, lengths) for ids, lengths, _ in made)
    assert torch.equal(first, second)


def test_pooling_at_the_end_of_the_row_reads_the_padding():
    model = classifier("padding")
    rows = rows_of([3, 17])
    with torch.inference_mode():
        first, second = (
            model(*collate(rows, torch.zeros(2, dtype=torch.long), pad)[:2]) for pad in (0, 49)
        )
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_only_the_first_token_decides_if_the_head_reads_it():
    model = classifier("first")
    ids = torch.tensor(rows_of([8, 8]))
    ids[1, 0] = ids[0, 0]
    with torch.inference_mode():
        logits = model(ids, torch.tensor([8, 8]))
    torch.testing.assert_close(logits[0], logits[1])


def test_the_head_starts_from_verbalizers():
    model = classifier()
    model.init_head_from_verbalizers([4, 9, 2])
    assert torch.equal(model.head.weight, model.model.tok_emb.weight[[4, 9, 2]])


@pytest.mark.parametrize(
    ("pooling", "n_classes", "words"),
    [
        ("middle", 2, "unknown pooling 'middle'; choose one of last"),
        ("last", 1, "at least 2 classes, not 1"),
    ],
)
def test_a_classifier_refuses(pooling, n_classes, words):
    with pytest.raises(ValueError, match=words):
        GPTClassifier(GPTModel(preset_config("tiny")), n_classes, pooling)


@pytest.mark.parametrize("trainable", ["all", "last-block", "head"])
def test_only_the_chosen_part_learns(trainable):
    """Oracle: which weights a step of training changes."""
    model = classifier(norm="rmsnorm")
    freeze_except(model, trainable)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    encoded = TokenizedDataset(rows_of([5, 6, 7, 8]), torch.tensor([0, 1, 2, 0]), 0)
    train_classifier(
        model, encoded, encoded, ClassifierConfig(epochs=2, batch_size=4, lr=1e-3), CPU, pad_id=0
    )
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    last = "trf_blocks.1."
    wanted = {
        "head": lambda name: "out_head" in name,
        "last-block": lambda name: "out_head" in name or last in name or "final_norm" in name,
        "all": lambda name: True,
    }[trainable]
    assert changed == {name for name in before if wanted(name)}
    with pytest.raises(ValueError, match="unknown part 'tail'"):
        freeze_except(model, "tail")


def test_class_weights_are_scikit_learns():
    labels = np.random.default_rng(0).choice(4, 200, p=[0.6, 0.2, 0.15, 0.05])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(class_weights(torch.from_numpy(labels), 4), expected, rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_a_mean_over_rows_however_they_are_batched(weighted):
    """Oracle: PyTorch's mean cross-entropy over all rows at once."""
    model = classifier()
    rows, labels = rows_of([4, 9, 2, 11, 6]), torch.tensor([0, 0, 0, 1, 2])
    weights = class_weights(labels, 3) if weighted else None
    loss_fn = classification_loss(weights)
    encoded = TokenizedDataset(rows, labels, 0)
    with torch.inference_mode():
        parts = [loss_fn(model, batch) for batch in batches(encoded, 2, 0)]
        ids, lengths, _ = collate(rows, labels, 0)
        expected = F.cross_entropy(model(ids, lengths), labels, weights)
    torch.testing.assert_close(
        sum(p[0] for p in parts) / sum(p[1] for p in parts), expected, rtol=1e-4, atol=1e-5
    )


def test_shuffled_batches_hold_every_row_once_per_epoch():
    encoded = TokenizedDataset(
        [[number] * (1 + number % 7) for number in range(50)], torch.arange(50), 0
    )
    supply = shuffled_batches(encoded, 8, 0, np.random.default_rng(0))
    for _ in range(2):
        seen = []
        while len(seen) < 50:
            ids, lengths, labels = next(supply)
            assert (ids[:, 0] == labels).all()
            assert lengths.tolist() == [1 + number % 7 for number in labels.tolist()]
            seen += labels.tolist()
        assert sorted(seen) == list(range(50))


def test_fitting_learns_order():
    """Whether "a" comes before "b" does not show in counts."""
    generator = np.random.default_rng(0)
    texts = ["".join(generator.permutation(list("abcde"))) for _ in range(400)]
    labels = np.array([text.index("a") < text.index("b") for text in texts]).astype(np.int64)
    tokenizer = CharTokenizer.train("abcde")
    torch.manual_seed(0)
    model = GPTClassifier(GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab)), 2)
    parts = [
        tokenize(tokenizer, LabelledTexts(texts[a:b], labels[a:b]), 64)
        for a, b in ((0, 300), (300, 400))
    ]
    config = ClassifierConfig(epochs=12, evals_per_epoch=1, patience=12, lr=1e-3)
    history = train_classifier(model, *parts, config, CPU, tokenizer.eot_id)
    logits = torch.from_numpy(predict_logits(model, parts[1], CPU))
    assert F.cross_entropy(logits, parts[1].labels).item() == pytest.approx(
        min(e["val_loss"] for e in history.log)
    )
    assert (logits.argmax(1) == parts[1].labels).double().mean() > 0.95


def test_fitting_stops_early_and_keeps_the_best_weights():
    """Labels without a rule: the validation loss soon rises."""
    generator = np.random.default_rng(0)
    encoded = TokenizedDataset(rows_of([6] * 64), torch.from_numpy(generator.integers(0, 3, 64)), 0)
    other = TokenizedDataset(
        rows_of([6] * 64, 1), torch.from_numpy(generator.integers(0, 3, 64)), 0
    )
    config = ClassifierConfig(epochs=100, evals_per_epoch=1, patience=2, lr=1e-3)
    model = classifier()
    history = train_classifier(model, encoded, other, config, CPU, 0)
    assert history.step < 100 * 4
    lowest = min(entry["val_loss"] for entry in history.log)
    assert history.log[-1]["val_loss"] > lowest
    logits = torch.from_numpy(predict_logits(model, other, CPU))
    assert F.cross_entropy(logits, other.labels).item() == pytest.approx(lowest)


def test_a_task_is_run_with_its_own_settings():
    """Oracle: the same steps by hand. Weights come from the training rows, the temperature from the
    validation rows, and the logits from the test rows.
    """
    texts = [f"{word} {number}" for word in ("aaa", "bbb") for number in range(40)]
    task = make_task("spelling", texts, ["a"] * 40 + ["b"] * 40, 0)
    tokenizer = CharTokenizer.train(texts)
    torch.manual_seed(0)
    model = GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab))
    before = copy.deepcopy(model.state_dict())
    config = ClassifierConfig(epochs=2, seed=3, lr=1e-3)
    result = run_task(task, model, tokenizer, config, CPU)
    parts = [tokenize(tokenizer, part, 64) for part in (task.train, task.val, task.test)]
    expected = build_classifier(model, tokenizer, task, config)
    train_classifier(expected, *parts[:2], config, CPU, tokenizer.eot_id)
    np.testing.assert_allclose(result.logits, predict_logits(expected, parts[2], CPU), atol=1e-4)
    val_logits = predict_logits(expected, parts[1], CPU)
    assert result.metadata.temperature == pytest.approx(
        fit_temperature(val_logits, task.val.labels), rel=1e-3
    )
    assert result.metadata.config == config
    short = replace(task, epochs=0.1)
    chosen = run_task(short, model, tokenizer, replace(config, epochs=None), CPU)
    assert chosen.metadata.config.epochs == 0.1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_with_lora_the_updates_and_the_head_learn():
    texts = [f"{word} {number}" for word in ("aaa", "bbb") for number in range(40)]
    task = make_task("spelling", texts, ["a"] * 40 + ["b"] * 40, 0)
    model = GPTModel(preset_config("tiny", vocab_size=50))
    tuned = build_classifier(model, None, task, ClassifierConfig(lora_rank=2))
    learns = {name for name, p in tuned.named_parameters() if p.requires_grad}
    assert learns == {
        name for name, _ in tuned.named_parameters() if ".lora." in name or "out_head" in name
    }
    assert len(learns) > 2


def test_the_lora_update_is_the_formula():
    """Oracle: W x + b + alpha / rank B A x, spelled out."""
    torch.manual_seed(0)
    layer = LinearWithLoRA(nn.Linear(6, 4), rank=2, alpha=3.0)
    x = torch.randn(5, 6)
    torch.testing.assert_close(layer(x), layer.linear(x))
    nn.init.normal_(layer.lora.B)
    weight = layer.linear.weight + 1.5 * layer.lora.B @ layer.lora.A
    torch.testing.assert_close(layer(x), x @ weight.T + layer.linear.bias)


def with_lora(seed: int = 0, **changes) -> GPTClassifier:
    model = classifier(**changes)
    torch.manual_seed(seed + 1)
    replace_linear_with_lora(model.model.trf_blocks, rank=3, alpha=6.0)
    for module in model.modules():
        if isinstance(module, LoRALayer):
            nn.init.normal_(module.B, std=0.1)
    return model


@pytest.mark.parametrize("changes", [{}, {"ffn": "swiglu", "n_kv_heads": 2}])
def test_every_matrix_of_a_block_gets_an_update_and_merging_changes_nothing(changes):
    model = with_lora(**changes)
    updated = {name for name, module in model.named_modules() if isinstance(module, LinearWithLoRA)}
    matrices = [
        name
        for name, p in classifier(**changes).model.trf_blocks.named_parameters()
        if p.dim() == 2
    ]
    assert len(updated) == len(matrices)
    ids, lengths = torch.tensor(rows_of([9, 9])), torch.tensor([9, 9])
    with torch.inference_mode():
        before = model(ids, lengths)
        merge_lora(model)
        after = model(ids, lengths)
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)
    assert not any(isinstance(module, LinearWithLoRA) for module in model.modules())


def test_unmerging_brings_back_every_bit():
    layer = LinearWithLoRA(nn.Linear(64, 64), rank=4, alpha=8.0)
    nn.init.normal_(layer.lora.B)
    before = layer.linear.weight.clone()
    x = torch.randn(3, 64)
    apart = layer(x)
    layer.merge()
    assert not torch.equal(layer.linear.weight, before)
    torch.testing.assert_close(layer(x), apart, atol=1e-4, rtol=1e-4)
    layer.merge()  # a second time adds nothing
    layer.unmerge()
    assert torch.equal(layer.linear.weight, before)


def test_an_adapter_alone_carries_what_was_learned(tmp_path):
    model, other = with_lora(), with_lora(seed=5)
    save_adapter(model, tmp_path / "adapter.safetensors")
    whole = sum(p.numel() * 4 for p in classifier().parameters())
    assert (tmp_path / "adapter.safetensors").stat().st_size < whole / 4
    ids, lengths = torch.tensor(rows_of([9])), torch.tensor([9])
    with torch.inference_mode():
        assert not torch.equal(model(ids, lengths), other(ids, lengths))
        load_adapter(other, tmp_path / "adapter.safetensors")
        assert torch.equal(model(ids, lengths), other(ids, lengths))
    wrong = classifier()
    replace_linear_with_lora(wrong.model.trf_blocks, rank=2, alpha=6.0)
    with pytest.raises(ValueError, match="belongs to other layers or another rank"):
        load_adapter(wrong, tmp_path / "adapter.safetensors")


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_lora_learns_on_a_quantized_base(kind):
    """The integers stay, the updates learn, and merging is refused."""
    model = classifier(emb_dim=64)
    model.model = quantize(model.model, kind)
    model.model.float()
    replace_linear_with_lora(model.model.trf_blocks, rank=4, alpha=8.0)
    encoded = TokenizedDataset(rows_of([6] * 32), torch.arange(32) % 3, 0)
    integers = {
        name: b.clone() for name, b in model.named_buffers() if b.dtype in (torch.int8, torch.uint8)
    }
    loss = classification_loss()
    batch = next(batches(encoded, 32, 0))
    with torch.no_grad():
        before = loss(model, batch)[0].item()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss(model, batch)[0].backward()
        optimizer.step()
    with torch.no_grad():
        assert loss(model, batch)[0].item() < 0.9 * before
    assert integers
    assert all(
        torch.equal(b, integers[name]) for name, b in model.named_buffers() if name in integers
    )
    with pytest.raises(ValueError, match="cannot be merged"):
        merge_lora(model)


def test_lora_refuses():
    with pytest.raises(ValueError, match="rank must be at least 1, not 0"):
        LoRALayer(4, 4, 0, 1.0)
    with pytest.raises(ValueError, match="no layer's name ends in nothing"):
        replace_linear_with_lora(copy.deepcopy(classifier()), 2, 2.0, targets=("nothing",))
