"""The book's names of its instruction chapter. Oracles: loops over its rules, its own package where
installed, plain Python's numbers.
"""

import json
import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ch03_gpt import GPTConfig, GPTModel
from ch04_pretraining import calc_loss_batch
from ch06_instruction.book import (
    InstructionDataset,
    PreferenceDataset,
    compute_dpo_loss,
    compute_logprobs,
    custom_collate_fn,
    format_input,
)
from ch06_instruction.preference_losses import PairLogProbs, dpo

PAD = 9
# a text may hold PAD
ROWS = st.lists(st.lists(st.integers(0, PAD), min_size=1, max_size=12), min_size=1, max_size=5)
ENTRY = {"instruction": "Name the opposite.", "input": "hot", "output": "cold"}


class Letters:
    """A tokenizer whose ids are the letters, so that ids can be read."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


@pytest.fixture(scope="module")
def theirs():
    """The book's own functions."""
    return pytest.importorskip(
        "llms_from_scratch.ch07",
        reason=(
            "the book's package is not installed (pip install --no-deps llms-from-scratch psutil)"
        ),
    )


def read(real_data, name: str) -> list[dict]:
    return json.loads((real_data / name).read_text(encoding="utf-8"))


# ids


def by_the_rule(rows: list[list[int]], ignored: int, most: int | None) -> tuple[list, list]:
    """Position by position: the input, its target, and whether padding was a target before."""
    longest = max(len(row) for row in rows)
    inputs, targets = [], []
    for row in rows:
        text = row + [PAD] * (longest + 1 - len(row))
        inputs.append([])
        targets.append([])
        learned_end = False
        for t in range(longest):
            if most is not None and t >= most:
                break
            inputs[-1].append(text[t])
            targets[-1].append(ignored if text[t + 1] == PAD and learned_end else text[t + 1])
            learned_end = learned_end or text[t + 1] == PAD
    return inputs, targets


@given(ROWS, st.sampled_from((-100, -1)), st.one_of(st.none(), st.integers(1, 15)))
def test_rows_are_filled_by_the_books_rule(rows, ignored, most):
    """Oracle: a loop over places; the rows stay as they are."""
    kept = [list(row) for row in rows]
    inputs, targets = custom_collate_fn(rows, PAD, ignored, most)
    assert (inputs.tolist(), targets.tolist()) == by_the_rule(rows, ignored, most)
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.is_contiguous() and targets.is_contiguous()
    assert rows == kept


@given(rows=ROWS, most=st.one_of(st.none(), st.integers(1, 15)))
def test_rows_are_padded_as_in_the_books_package(theirs, rows, most):
    """Oracle: the book's function; also without arguments, with GPT-2's padding."""
    for arguments in ({}, {"pad_token_id": PAD, "ignore_index": -1, "allowed_max_length": most}):
        for ours, expected in zip(
            custom_collate_fn(rows, **arguments),
            theirs.custom_collate_fn(rows, **arguments),
            strict=True,
        ):
            assert torch.equal(ours, expected)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(
        ValueError, match="there is no row to make a batch of; give at least one list of ids"
    ):
        custom_collate_fn([])


def test_the_books_way_to_a_loss():
    """Oracle: -log p of every character after the first and of one end, taken alone; padding
    changes nothing.
    """
    torch.manual_seed(0)
    model = GPTModel(
        GPTConfig(vocab_size=128, context_length=192, emb_dim=16, n_heads=2, n_layers=1)
    ).eval()
    data = InstructionDataset(
        [ENTRY, {**ENTRY, "input": "", "output": "a much longer answer"}], Letters()
    )
    collate = partial(custom_collate_fn, pad_token_id=0)
    [(inputs, targets)] = DataLoader(data, batch_size=2, collate_fn=collate)
    lost = []
    for ids in data:
        log_p = model(torch.tensor([ids]))[0].log_softmax(dim=-1)
        lost += [-log_p[t, token].item() for t, token in enumerate([*ids[1:], 0])]
    found = calc_loss_batch(inputs, targets, model, "cpu")
    assert found.item() == pytest.approx(sum(lost) / len(lost), rel=1e-5)


# entries


def test_entries_are_whole_texts():
    """Oracle: the texts, written out."""
    begin = (
        "Below is an instruction that describes a task. Write a response that appropriately"
        " completes the request.\n\n### Instruction:\nName the opposite."
    )
    letters = Letters()
    data = InstructionDataset([ENTRY, {**ENTRY, "input": ""}], letters)
    assert [letters.decode(ids) for ids in data] == [
        f"{begin}\n\n### Input:\nhot\n\n### Response:\ncold",
        f"{begin}\n\n### Response:\ncold",
    ]
    [pair] = PreferenceDataset([{**ENTRY, "chosen": "cold", "rejected": "Cold, you fool"}], letters)
    assert {name: letters.decode(ids) for name, ids in pair.items()} == {
        "prompt": f"{begin}\n\n### Input:\nhot",
        "chosen": f"{begin}\n\n### Input:\nhot\n\n### Response:\ncold",
        "rejected": f"{begin}\n\n### Input:\nhot\n\n### Response:\nCold, you fool",
    }


@pytest.mark.parametrize("name", ["instruction", "output"])
def test_an_incomplete_entry_is_refused(name):
    entry = {key: value for key, value in ENTRY.items() if key != name}
    with pytest.raises(ValueError, match=f"there is no {name}, but"):
        InstructionDataset([entry], Letters())
    with pytest.raises(ValueError, match="rejected is empty; fill it in"):
        PreferenceDataset([{**ENTRY, "chosen": "cold", "rejected": ""}], Letters())


def test_the_books_entries_are_encoded_as_in_its_package(theirs, real_data):
    """Oracle: the book's prompt and data set, on its own 1,100 entries."""
    entries = read(real_data, "instruction-data.json")
    assert [format_input(entry) for entry in entries] == [
        theirs.format_input(entry) for entry in entries
    ]
    ours, expected = (
        kind(entries, Letters()) for kind in (InstructionDataset, theirs.InstructionDataset)
    )
    assert len(ours) == len(expected) == 1100
    assert all(ours[row] == expected[row] for row in range(1100))


def test_the_books_preferences_share_their_prompt(real_data):
    """Oracle: the file's own texts, which follow the prompt and the heading."""
    entries = read(real_data, "instruction-data-with-preference.json")
    letters = Letters()
    data = PreferenceDataset(entries, letters)
    assert len(data) == len(entries) == 1100
    for entry, item in zip(entries, data, strict=True):
        for name in ("chosen", "rejected"):
            assert item[name][: len(item["prompt"])] == item["prompt"]
            assert (
                letters.decode(item[name][len(item["prompt"]) :])
                == f"\n\n### Response:\n{entry[name]}"
            )


# log-probabilities and DPO


@given(st.integers(1, 4), st.integers(2, 8), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_log_probabilities_are_means_over_what_is_selected(b, t, v, seed):
    """Oracle: plain Python's softmax, token by token, from the logits one place before."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(b, t, v, generator=generator, dtype=torch.float64)
    labels = torch.randint(v, (b, t), generator=generator)
    mask = torch.randint(2, (b, t), generator=generator).bool()
    mask[:, -1] = True
    for selected, given_mask in ((mask, mask), (mask, mask.int()), (torch.ones_like(mask), None)):
        expected = []
        for row in range(b):
            chosen = []
            for place in range(1, t):
                weights = [math.exp(logit) for logit in logits[row, place - 1].tolist()]
                if selected[row, place]:
                    chosen.append(math.log(weights[labels[row, place]] / sum(weights)))
            expected.append(sum(chosen) / len(chosen))
        assert compute_logprobs(logits, labels, given_mask).tolist() == pytest.approx(
            expected, rel=1e-9
        )


LOG_P = st.floats(-20, -0.05)


@given(st.lists(st.tuples(LOG_P, LOG_P, LOG_P, LOG_P), min_size=1, max_size=5), st.floats(0.01, 1))
def test_the_books_dpo_is_ours_and_the_formula(rows, beta):
    """Oracle: `preference_losses.dpo`, and plain Python's numbers."""
    columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)]
    loss, chosen, rejected = (value.item() for value in compute_dpo_loss(*columns, beta))
    lengths = torch.ones(len(rows))
    assert loss == dpo(PairLogProbs(*columns, lengths, lengths), beta).mean().item()
    n = len(rows)
    assert loss == pytest.approx(
        sum(math.log1p(math.exp(-beta * ((c - rc) - (r - rr)))) for c, r, rc, rr in rows) / n
    )
    assert chosen == pytest.approx(sum(c - rc for c, _, rc, _ in rows) / n)
    assert rejected == pytest.approx(sum(r - rr for _, r, _, rr in rows) / n)


def test_only_the_loss_has_a_gradient():
    """Oracle: closed form; where the model is the reference it is -+ beta / 2 for either
    response, beta 0.1.
    """
    learned = [torch.tensor([-3.0], requires_grad=True), torch.tensor([-5.0], requires_grad=True)]
    loss, *rewards = compute_dpo_loss(*learned, torch.tensor([-3.0]), torch.tensor([-5.0]))
    loss.backward()
    assert [one.grad.item() for one in learned] == pytest.approx([-0.05, 0.05])
    assert not any(reward.requires_grad for reward in rewards)
