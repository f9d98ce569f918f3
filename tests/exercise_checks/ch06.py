"""Chapter 6's checks: oracles are scipy, the shipped modules, and brute force."""

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from ch01_text import BPETokenizer
from ch06_instruction.advantages import generalized_advantages, group_advantages
from ch06_instruction.best_of_n import majority_vote
from ch06_instruction.book import custom_collate_fn
from ch06_instruction.chat import END, chat_tokenizer, encode_chat
from ch06_instruction.grading import final_answer
from ch06_instruction.policy_losses import clipped_surrogate
from ch06_instruction.preference_losses import PairLogProbs, dpo
from ch06_instruction.storyworld_tasks import instructions
from exercise_checks.expect import expect, expect_same


def loss_mask(function: Callable) -> None:
    tokenizer = chat_tokenizer(BPETokenizer.train("any text", 257))
    assistant, end = (tokenizer.special_tokens[token] for token in ("<|assistant|>", END))
    spoken = {"system": "Be brief.", "user": "Hi?", "assistant": "Yes."}
    for roles in (
        ["user", "assistant"],
        ["system", *["user", "assistant"] * 2],
        ["user", "assistant", "user"],
    ):
        chat = encode_chat(tokenizer, [{"role": role, "content": spoken[role]} for role in roles])
        expect(
            f"messages of {', '.join(roles)}: ids {chat.ids}, assistant_id {assistant}, end_id"
            f" {end}",
            function(list(chat.ids), assistant, end),
            chat.assistant_mask[1:],
        )


def padded_targets(function: Callable) -> None:
    for ids, length, pad in (([5, 6, 7], 3, 50_256), ([5, 6, 7], 4, 50_256), ([3], 6, 0)):
        _, targets = custom_collate_fn([ids, [1] * length], pad)
        expect(
            f"ids {ids}, length {length}, pad_id {pad}",
            function(list(ids), length, pad),
            targets[0].tolist(),
        )


def all_lists(rows) -> bool:
    return isinstance(rows, list) and all(isinstance(row, list) for row in rows)


def pack_lengths(function: Callable) -> None:
    for what, lengths in (
        ("lengths [200, 56, 100, 156]", [200, 56, 100, 156]),
        ("300 lengths from 20 to 199", np.random.default_rng(0).integers(20, 200, 300).tolist()),
    ):
        rows, least = function(list(lengths), 256), sum(lengths) / 256
        placed = sorted(number for row in rows for number in row) if all_lists(rows) else rows
        if placed != list(range(len(lengths))):
            pytest.fail(
                f"{what}, room 256\nexpected: rows with each of 0 ... {len(lengths) - 1} once\ngot:"
                f"      {placed}",
                pytrace=False,
            )
        longest = max(sum(lengths[number] for number in row) for row in rows)
        if longest > 256 or len(rows) > 1.05 * least:
            pytest.fail(
                f"{what}, room 256\nexpected: at most {1.05 * least:.0f} rows, the longest at most"
                f" 256\ngot:      {len(rows)} rows, the longest {longest}",
                pytrace=False,
            )


def plain_question(function: Callable) -> None:
    # in the wordings of training, which the docstring quotes, then in others
    for split in ("train", "test"):
        wrong = []
        for one in instructions(300, seed=6, split=split, only="question"):
            request = one.messages[0]["content"].splitlines()[-1]
            expected = (one.question.text, one.form)
            if (got := function(request)) != expected:
                wrong.append(
                    f"the first wrong one: {request}\nexpected: {expected}\ngot:      {got}"
                )
        if len(wrong) >= 6:
            pytest.fail(
                "300 requests in the wordings for"
                f" {'training' if split == 'train' else 'the test'}\nexpected: more than 98 %"
                f" right\ngot:      {1 - len(wrong) / 300:.1%}\n{wrong[0]}",
                pytrace=False,
            )


def bradley_terry(function: Callable) -> None:
    for better, worse in (
        ([1.0], [1.0]),
        ([2.0, -1.0, 0.5], [0.0, 3.0, 0.25]),
        ([-100.0, 300.0], [200.0, -100.0]),
    ):
        expect(
            f"chosen {better}, rejected {worse}",
            function(torch.tensor(better), torch.tensor(worse)),
            np.logaddexp(0, np.subtract(worse, better)).mean(),
        )


def dpo_gradient_weight(function: Callable) -> None:
    for beta in (0.1, 0.5):
        chosen = torch.tensor([0.0, 30.0, -4.0, 1.0])
        rejected = torch.tensor([0.0, -30.0, 5.0, -1.0])
        learned, zero = chosen.clone().requires_grad_(), torch.zeros(4)
        dpo(PairLogProbs(learned, rejected, zero, zero, zero, zero), beta).sum().backward()
        expect(
            f"chosen_logratios {chosen.tolist()}, rejected_logratios {rejected.tolist()}, beta {beta}",
            function(chosen, rejected, beta),
            -learned.grad / beta,
        )


def gae(function: Callable) -> None:
    for rewards, values, gamma, lam in (
        ([0.0, 0.0, 1.0], [0.2, 0.4, 0.8], 1.0, 1.0),
        ([2.0], [0.5], 0.9, 0.5),
        ([0.5, -1.0, 0.0, 2.0], [0.3, 0.1, -0.7, 1.0], 0.9, 0.8),
    ):
        one = (
            torch.tensor([rewards]),
            torch.tensor([values]),
            torch.ones(1, len(rewards), dtype=torch.bool),
        )
        expect(
            f"rewards {rewards}, values {values}, gamma {gamma}, lam {lam}",
            function(one[0][0], one[1][0], gamma, lam),
            generalized_advantages(*one, gamma, lam)[0][0],
        )


def group_relative(function: Callable) -> None:
    rewards = [[1.0, 0.0, 0.0, 1.0], [5.0, 5.0, 5.0, 5.0], [0.0, 0.1, 0.2, 7.0]]
    expect(
        f"rewards {rewards}",
        function(torch.tensor(rewards)),
        group_advantages(torch.tensor(rewards).flatten(), 4).view(3, 4),
        1e-3,
    )


def clipped_objective(function: Callable) -> None:
    ratio, advantages = [1.5, 1.5, 0.5, 0.5, 1.1, 0.9], [1.0, -1.0, 1.0, -2.0, 3.0, -3.0]
    for epsilon in (0.2, 0.05):
        losses = clipped_surrogate(
            torch.tensor(ratio).log(), torch.zeros(6), torch.tensor(advantages), epsilon
        )
        expect(
            f"ratio {ratio}, advantages {advantages}, epsilon {epsilon}",
            function(torch.tensor(ratio), torch.tensor(advantages), epsilon),
            -losses,
        )


def kl_estimate_better(function: Callable) -> None:
    """The mean and the deviation are exact: the estimate of every token of a vocabulary,
    weighted by p.
    """
    for distance in (0.05, 0.2, 0.5):
        logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        log_p, log_q = torch.stack((logits[0], logits[0] + distance * logits[1])).log_softmax(dim=1)
        p, found = log_p.exp().numpy(), np.asarray(function(log_p, log_q))
        what = f"a vocabulary of 50, logits of p and q about {distance} apart"
        expect(f"{what}: shape of the estimates", found.shape, [50])
        expect(
            f"{what}: the first ten tokens by themselves",
            function(log_p[:10], log_q[:10]),
            found[:10],
            1e-9,
        )
        expect(f"{what}: mean under p", (p * found).sum(), entropy(p, log_q.exp().numpy()), 1e-9)
        ours, plain = (
            math.sqrt((p * x**2).sum() - (p * x).sum() ** 2)
            for x in (found, (log_p - log_q).numpy())
        )
        if found.min() < -1e-12 or ours >= plain / 2:
            pytest.fail(
                f"{what}\nexpected: no estimate below 0, a standard deviation below"
                f" {plain / 2:.2g}\ngot:      at least {found.min():.2g}, standard deviation"
                f" {ours:.2g}",
                pytrace=False,
            )


def pass_at_n(function: Callable) -> None:
    for sampled, right, n in ((5, 2, 1), (5, 2, 3), (8, 1, 4), (6, 4, 3), (4, 0, 2), (3, 3, 3)):
        choices = list(combinations([True] * right + [False] * (sampled - right), n))
        expect(
            f"sampled {sampled}, right {right}, n {n}",
            function(sampled, right, n),
            np.mean([*map(any, choices)]),
            1e-9,
        )


def self_consistency(function: Callable) -> None:
    for responses in (
        ["Nora: mill;\nthe mill", "Nora: lake;\nthe lake", "the lake\n"],
        ["a\nb", "a\nc"],
        ["x"],
        ["a;\nthe inn", "a;\nthe mill ", "b;\nthe mill", "a;\nthe inn", "a;\nthe hill"],
    ):
        expect_same(
            f"responses {responses}",
            function(list(responses)),
            final_answer(majority_vote(responses)),
        )


CHECKS = [
    loss_mask,
    padded_targets,
    pack_lengths,
    plain_question,
    bradley_terry,
    dpo_gradient_weight,
    gae,
    group_relative,
    clipped_objective,
    kl_estimate_better,
    pass_at_n,
    self_consistency,
]
