"""The classifier: where it looks, what learns, LoRA. Oracles: loops, finite sizes, scikit-learn,
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
from ch02_attention import attention_reference
from ch03_gpt import GPTModel, pick_precision, preset_config
from ch05_classification import (
    Encoded,
    Examples,
    GPTClassifier,
    LinearWithLoRA,
    LoRALayer,
    Plan,
    Recipe,
    WholeText,
    batches,
    class_weights,
    classification_loss,
    collate,
    encode_examples,
    fit,
    load_adapter,
    make_task,
    merge_lora,
    predict_logits,
    replace_linear_with_lora,
    run_task,
    save_adapter,
    shuffled_batches,
    train_only,
)
from ch05_classification.experiment import build_classifier
from ch05_classification.saved import load_classifier, save_classifier
from ch05_classification.scores import softmax
from ch07_practice.quantization import quantize

CPU = pick_precision(torch.device("cpu"), "float32")


def classifier(
    pooling: str = "last", causal: bool = True, seed: int = 0, **changes
) -> GPTClassifier:
    torch.manual_seed(seed)
    model = GPTModel(preset_config("tiny", vocab_size=50, context_length=32, **changes))
    made = GPTClassifier(model, 3, pooling, causal)
    nn.init.normal_(made.head.weight)
    return made.eval()


def rows_of(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(1, 50, n).tolist() for n in lengths]


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    pooling=st.sampled_from(["last", "mean", "max"]),
    causal=st.booleans(),
    extra=st.integers(0, 12),
    pad=st.integers(0, 49),
)
@settings(max_examples=40, deadline=None)
def test_padding_never_changes_a_logit(lengths, pooling, causal, extra, pad):
    """Oracle: every text alone, without any filling."""
    model = classifier(pooling, causal)
    rows = rows_of(lengths)
    ids, true_lengths, _ = collate(rows, torch.zeros(len(rows), dtype=torch.long), pad)
    ids = F.pad(ids, (0, extra), value=pad)
    with torch.inference_mode():
        together = model(ids, true_lengths)
        alone = torch.cat([model(torch.tensor([row]), torch.tensor([len(row)])) for row in rows])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_what_the_filling_holds_changes_no_bit(pooling):
    model = classifier(pooling)
    rows = rows_of([3, 17, 9])
    made = [collate(rows, torch.zeros(3, dtype=torch.long), pad) for pad in (0, 49)]
    with torch.inference_mode():
        first, second = (model(ids, lengths) for ids, lengths, _ in made)
    assert torch.equal(first, second)


def test_pooling_at_the_end_of_the_row_reads_the_filling():
    model = classifier("padding")
    rows = rows_of([3, 17])
    with torch.inference_mode():
        first, second = (
            model(*collate(rows, torch.zeros(2, dtype=torch.long), pad)[:2]) for pad in (0, 49)
        )
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_only_the_first_token_decides_where_the_head_looks_there():
    model = classifier("first")
    ids = torch.tensor(rows_of([8, 8]))
    ids[1, 0] = ids[0, 0]
    with torch.inference_mode():
        logits = model(ids, torch.tensor([8, 8]))
    torch.testing.assert_close(logits[0], logits[1])


def test_without_the_mask_every_token_sees_the_whole_text():
    """Oracle: the reference attention without a mask, in the place of the layer's kernel, on one
    layer.
    """
    model = classifier(causal=False, n_layers=1, position="learned", qk_norm=False)
    ids = torch.tensor(rows_of([7]))
    block = model.model.trf_blocks[0]
    with torch.inference_mode():
        x = model.model.tok_emb(ids) + model.model.pos_emb.weight[:7]
        attention = block.att
        qkv = attention.qkv(block.norm1(x)).view(1, 7, 3, attention.num_heads, attention.head_dim)
        context, _ = attention_reference(*qkv.permute(2, 0, 3, 1, 4), causal=False)
        x = x + attention.out_proj(context.transpose(1, 2).flatten(2))
        expected = model.model.final_norm(x + block.ff(block.norm2(x)))
        found = model.model.hidden_states(ids, WholeText(torch.tensor([7])))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_head_can_begin_with_words():
    model = classifier()
    model.begin_with_words([4, 9, 2])
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


@pytest.mark.parametrize("part", ["all", "last-block", "head"])
def test_only_the_chosen_part_learns(part):
    """Oracle: which weights a step of training changes."""
    model = classifier(norm="rmsnorm")
    train_only(model, part)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    encoded = Encoded(rows_of([5, 6, 7, 8]), torch.tensor([0, 1, 2, 0]), 0)
    fit(model, encoded, encoded, Plan(epochs=2, batch_size=4), CPU, pad_id=0)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    last = "trf_blocks.1."
    wanted = {
        "head": lambda name: "out_head" in name,
        "last-block": lambda name: "out_head" in name or last in name or "final_norm" in name,
        "all": lambda name: True,
    }[part]
    assert changed == {name for name in before if wanted(name)}
    with pytest.raises(ValueError, match="unknown part 'tail'"):
        train_only(model, "tail")


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
    encoded = Encoded(rows, labels, 0)
    with torch.inference_mode():
        parts = [loss_fn(model, batch) for batch in batches(encoded, 2, 0)]
        ids, lengths, _ = collate(rows, labels, 0)
        expected = F.cross_entropy(model(ids, lengths), labels, weights)
    torch.testing.assert_close(
        sum(p[0] for p in parts) / sum(p[1] for p in parts), expected, rtol=1e-4, atol=1e-5
    )


def test_shuffled_batches_show_every_row_once_a_pass():
    encoded = Encoded([[number] * (1 + number % 7) for number in range(50)], torch.arange(50), 0)
    supply = shuffled_batches(encoded, 8, 0, np.random.default_rng(0))
    for _ in range(2):
        seen = []
        while len(seen) < 50:
            ids, lengths, labels = next(supply)
            assert (ids[:, 0] == labels).all()
            assert lengths.tolist() == [1 + number % 7 for number in labels.tolist()]
            seen += labels.tolist()
        assert sorted(seen) == list(range(50))


def test_fitting_learns_order_and_keeps_the_best_weights():
    """Whether "ab" or "ba" occurs cannot be told from counts; the weights kept are those of the
    lowest loss.
    """
    generator = np.random.default_rng(0)
    texts = ["".join(generator.permutation(list("abcde"))) for _ in range(400)]
    labels = np.array([text.index("a") < text.index("b") for text in texts]).astype(np.int64)
    tokenizer = CharTokenizer.train("abcde")
    torch.manual_seed(0)
    model = GPTClassifier(GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab)), 2)
    parts = [
        encode_examples(tokenizer, Examples(texts[a:b], labels[a:b]), 64)
        for a, b in ((0, 300), (300, 400))
    ]
    history = fit(model, *parts, Plan(epochs=12, patience=12), CPU, tokenizer.eot_id)
    logits = torch.from_numpy(predict_logits(model, parts[1], CPU))
    assert F.cross_entropy(logits, parts[1].labels).item() == pytest.approx(
        min(e["val_loss"] for e in history.log)
    )
    assert (logits.argmax(1) == parts[1].labels).double().mean() > 0.95


def test_fitting_stops_early():
    """Labels without a rule: validation soon gets worse."""
    generator = np.random.default_rng(0)
    encoded = Encoded(rows_of([6] * 64), torch.from_numpy(generator.integers(0, 3, 64)), 0)
    other = Encoded(rows_of([6] * 64, 1), torch.from_numpy(generator.integers(0, 3, 64)), 0)
    history = fit(classifier(), encoded, other, Plan(epochs=100, patience=2, batch_size=16), CPU, 0)
    assert history.steps < 100 * 4
    assert history.log[-1]["val_loss"] > min(entry["val_loss"] for entry in history.log)


def test_learning_once_more_from_the_validation_rows_too(tmp_path):
    """Oracle: fine-tuning by hand on the joined rows, with two seeds; the temperature is still the
    first classifier's. Two that vote say the mean of their log-probabilities, saved and loaded,
    too.
    """
    words = [f"{word} {number}" for word in ("aaa", "bbb") for number in range(40)]
    task = make_task("spelling", words, ["a"] * 40 + ["b"] * 40, 0)
    tokenizer = CharTokenizer.train(words)
    torch.manual_seed(0)
    model = GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab))
    precision, plan = pick_precision(torch.device("cpu"), "float32"), Plan(epochs=2, seed=3)
    once, again, voted = (
        run_task(task, model, tokenizer, Recipe(plan, refits=n), precision, 3) for n in (0, 1, 2)
    )
    parts = [encode_examples(tokenizer, part, 64) for part in (task.train, task.val, task.test)]
    expected = []
    for seed in (3, 4):
        one = build_classifier(model, tokenizer, task, Recipe(plan), seed)
        fit(one, parts[0] + parts[1], None, replace(plan, seed=seed), precision, tokenizer.eot_id)
        expected.append(predict_logits(one, parts[2], precision))
    np.testing.assert_allclose(again.logits, expected[0], atol=1e-4)
    mean = sum(np.log(softmax(logits)) for logits in expected) / 2
    np.testing.assert_allclose(voted.logits, mean, atol=1e-4)
    assert not np.allclose(expected[0], expected[1], atol=1e-3)
    assert once.choice.temperature == again.choice.temperature == voted.choice.temperature
    assert not np.allclose(again.logits, once.logits, atol=1e-3)
    for result, members in ((again, 1), (voted, 2)):
        save_classifier(tmp_path, result.classifier, tokenizer, result.choice)
        loaded, _, choice = load_classifier(tmp_path)
        assert choice == replace(result.choice, members=members)
        np.testing.assert_allclose(
            predict_logits(loaded, parts[2], precision), result.logits, atol=1e-4
        )


def test_a_correction_is_the_formula():
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
def test_every_matrix_of_a_block_is_corrected_and_merging_changes_nothing(changes):
    model = with_lora(**changes)
    corrected = {
        name for name, module in model.named_modules() if isinstance(module, LinearWithLoRA)
    }
    matrices = [
        name
        for name, p in classifier(**changes).model.trf_blocks.named_parameters()
        if p.dim() == 2
    ]
    assert len(corrected) == len(matrices)
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
    """The integers stay, the corrections learn, and merging is refused."""
    model = classifier(emb_dim=64)
    model.model = quantize(model.model, kind)
    model.model.float()
    replace_linear_with_lora(model.model.trf_blocks, rank=4, alpha=8.0)
    encoded = Encoded(rows_of([6] * 32), torch.arange(32) % 3, 0)
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
    with pytest.raises(ValueError, match="cannot take up its correction"):
        merge_lora(model)


def test_lora_refuses():
    with pytest.raises(ValueError, match="rank must be at least 1, not 0"):
        LoRALayer(4, 4, 0, 1.0)
    with pytest.raises(ValueError, match="no layer's name ends in nothing"):
        replace_linear_with_lora(copy.deepcopy(classifier()), 2, 2.0, targets=("nothing",))
