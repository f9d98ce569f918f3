"""Losses of preferred and rejected responses, and the reward model. Oracles: the papers' formulas
in plain Python, closed forms, finite differences, self-consistency.
"""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from ch01_text import IGNORE, BPETokenizer
from ch03_gpt import GPTModel, pick_precision, preset_config
from ch06_instruction.batches import collate
from ch06_instruction.chat import EncodedChat, chat_tokenizer, encode_chat
from ch06_instruction.chat_datasets import Preference
from ch06_instruction.config import DPOConfig, RewardConfig
from ch06_instruction.dpo import precompute_ref_log_probs, preference_loss, train_dpo
from ch06_instruction.log_probs import response_log_probs, token_log_probs
from ch06_instruction.preference_losses import (
    PREFERENCE_LOSSES,
    PairLogProbs,
    dpo,
    ipo,
    kto,
    orpo,
    simpo,
)
from ch06_instruction.preferences import EncodedPair, encode_pairs
from ch06_instruction.reward_model import (
    RewardModel,
    bradley_terry_loss,
    evaluate_reward_model,
    pad_chats,
    score_chats,
    train_reward_model,
)
from ch06_instruction.sft import response_loss

CPU = pick_precision(torch.device("cpu"), "float32")
PAD = 0


def gpt(seed: int = 0, std: float = 0.2, **changes) -> GPTModel:
    torch.manual_seed(seed)
    model = GPTModel(
        preset_config("tiny", **{"vocab_size": 40, "emb_dim": 32, "n_heads": 2} | changes)
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model.eval()


def response(prompt: list[int], answer: list[int]) -> EncodedChat:
    return EncodedChat(prompt + answer, [False] * len(prompt) + [True] * len(answer))


def random_pairs(n: int, seed: int = 0) -> list[EncodedPair]:
    """Prompts and responses of random lengths and tokens."""
    generator = np.random.default_rng(seed)

    def draw(low: int, high: int) -> list[int]:
        return generator.integers(1, 40, generator.integers(low, high)).tolist()

    prompts = [draw(2, 9) for _ in range(n)]
    return [
        EncodedPair(response(prompt, draw(1, 8)), response(prompt, draw(1, 8)))
        for prompt in prompts
    ]


def toy_pairs(n: int, seed: int = 0) -> list[EncodedPair]:
    """Responses of random tokens below 30; the better one has token 7 somewhere, the worse one
    token 8.
    """
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(n):
        prompt = generator.integers(9, 30, 4).tolist()
        answers = generator.integers(9, 30, (2, 5))
        answers[[0, 1], generator.integers(0, 5, 2)] = 7, 8
        pairs.append(EncodedPair(*(response(prompt, answer.tolist()) for answer in answers)))
    return pairs


# log-probabilities


def test_the_log_probability_of_a_response_is_a_sum_over_its_tokens():
    """Oracle: each conversation alone, a softmax over the whole vocabulary at every position."""
    model = gpt()
    chats = [pair.chosen for pair in random_pairs(6)]
    inputs, targets = collate(chats, PAD)
    with torch.inference_mode():
        found = token_log_probs(model, inputs, targets)
        sums = response_log_probs(model, inputs, targets)
        for row, chat in enumerate(chats):
            log_p = model(torch.tensor([chat.ids[:-1]]))[0].log_softmax(dim=-1)
            expected = [
                log_p[t, chat.ids[t + 1]].item() if said else 0.0
                for t, said in enumerate(chat.assistant_mask[1:])
            ]
            expected += [0.0] * (inputs.shape[1] - len(expected))
            assert found[row].tolist() == pytest.approx(expected, rel=1e-5)
            assert sums[row].item() == pytest.approx(sum(expected), rel=1e-5)
    assert ((found == 0) == (targets == IGNORE)).all()


@pytest.mark.parametrize("loss", ["sft", *PREFERENCE_LOSSES])
def test_no_gradient_reaches_the_last_layer_but_where_a_response_is(loss):
    """Oracle: autograd on hidden states given from outside; the prompt's and the padding's are
    exactly 0.
    """
    model = gpt()
    pairs = random_pairs(5)
    inputs, targets = collate(
        [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], PAD
    )
    hidden = torch.randn(
        *inputs.shape, 32, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    model.hidden_states = lambda ids: hidden
    if loss == "sft":
        total, _ = response_loss(model, (inputs, targets))
    else:
        total, _ = preference_loss(DPOConfig(loss))(
            model, (inputs, targets, torch.full((10,), -20.0))
        )
    total.backward()
    reached = (hidden.grad != 0).any(dim=2)
    assert torch.equal(reached, targets != IGNORE)


# the losses


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_the_papers(name: str, rows: list[tuple], beta: float) -> list[float]:
    """Each loss for plain numbers (chosen, rejected, the reference's chosen and rejected, lengths),
    one pair after the other, from probabilities rather than logarithms of them where the paper
    writes so.
    """
    gains = [c - rc for c, _, rc, *_ in rows] + [r - rr for _, r, _, rr, *_ in rows]
    shift = max(0.0, sum(gains) / len(gains))
    found = []
    for c, r, rc, rr, nc, nr in rows:
        p, q = math.exp(c / nc), math.exp(r / nr)  # geometric means of the tokens' probabilities
        found.append(
            {
                "dpo": lambda c=c, r=r, rc=rc, rr=rr: (
                    -math.log(sigmoid(beta * (c - rc) - beta * (r - rr)))
                ),
                "ipo": (
                    lambda c=c, r=r, rc=rc, rr=rr, nc=nc, nr=nr: (
                        ((c - rc) / nc - (r - rr) / nr - 1 / (2 * beta)) ** 2
                    )
                ),
                "simpo": lambda p=p, q=q: (
                    -math.log(sigmoid(beta * math.log(p) - beta * math.log(q) - 1.0))
                ),
                "orpo": (
                    lambda p=p, q=q: (
                        -math.log(p)
                        - beta * math.log(sigmoid(math.log((p / (1 - p)) / (q / (1 - q)))))
                    )
                ),
                "kto": (
                    lambda c=c, r=r, rc=rc, rr=rr: (
                        (
                            1
                            - sigmoid(beta * (c - rc - shift))
                            + 1
                            - sigmoid(beta * (shift - (r - rr)))
                        )
                        / 2
                    )
                ),
            }[name]()
        )
    return found


LOG_P = st.floats(-30, -0.05)
ROWS = st.lists(
    st.tuples(LOG_P, LOG_P, LOG_P, LOG_P, st.integers(1, 20), st.integers(1, 20)),
    min_size=1,
    max_size=6,
)


def as_tensors(rows: list[tuple]) -> PairLogProbs:
    return PairLogProbs(
        *(torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    )


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
@given(rows=ROWS, beta=st.floats(0.01, 0.5))
def test_a_loss_is_its_papers_formula(name, rows, beta):
    """Oracle: plain Python's numbers."""
    found = PREFERENCE_LOSSES[name](as_tensors(rows), beta=beta)
    assert found.tolist() == pytest.approx(by_the_papers(name, rows, beta), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_gradients_are_finite_differences(name):
    """KTO's shift is 0 here, since the policy has moved away from all responses; see the test of
    the shift.
    """
    torch.manual_seed(0)
    learned = [(-6 - 5 * torch.rand(4, dtype=torch.float64)).requires_grad_() for _ in range(2)]
    constants = [-5 * torch.rand(4, dtype=torch.float64) for _ in range(2)] + [
        torch.tensor([3, 1, 5, 2])
    ] * 2
    loss = PREFERENCE_LOSSES[name]
    assert torch.autograd.gradcheck(lambda c, r: loss(PairLogProbs(c, r, *constants)), learned)


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0])
def test_dpo_begins_at_log_2(beta):
    """Oracle: closed form; sigmoid(0) = 1/2 where the policy is the reference, and the gradient
    is +- beta / 2.
    """
    chosen = torch.tensor([-3.0, -8.0], requires_grad=True)
    rejected = torch.tensor([-5.0, -1.0], requires_grad=True)
    pairs = PairLogProbs(chosen, rejected, chosen.detach(), rejected.detach(), *[torch.ones(2)] * 2)
    losses = dpo(pairs, beta)
    losses.sum().backward()
    torch.testing.assert_close(losses.detach(), torch.full((2,), math.log(2)))
    torch.testing.assert_close(chosen.grad, torch.full((2,), -beta / 2))
    torch.testing.assert_close(rejected.grad, torch.full((2,), beta / 2))


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_ipo_wants_a_margin_of_1_over_2_beta_and_no_more(beta):
    """Oracle: a grid of margins; a response of 4 tokens against one of 2."""
    margins = torch.linspace(-20, 20, 401, dtype=torch.float64)
    zero = torch.zeros_like(margins)
    losses = ipo(PairLogProbs(4 * margins, zero, zero, zero, 4 + zero, 2 + zero), beta)
    assert margins[losses.argmin()].item() == pytest.approx(1 / (2 * beta))
    assert losses.min().item() == pytest.approx(0, abs=1e-20)
    assert losses[-1] > losses.min()


def test_orpo_with_odds_by_hand():
    """p = 1/2 has odds 1, q = 1/5 has odds 1/4, so the ratio is 4 and -log sigmoid(log 4) = log
    5/4.
    """
    log_p, log_q = math.log(1 / 2), math.log(1 / 5)
    found = orpo(as_tensors([(3 * log_p, 2 * log_q, 0.0, 0.0, 3, 2)]), beta=0.1)
    assert found.item() == pytest.approx(math.log(2) + 0.1 * math.log(5 / 4))


@pytest.mark.parametrize("certain", [0.0, -1e-9, -1e-7])
def test_orpo_stands_a_certain_response(certain):
    """In float32 the probability is 1, the odds infinite; the loss is 0 and all gradients are
    finite.
    """
    chosen, rejected = (torch.tensor([x], requires_grad=True) for x in (certain, -2.0))
    ones = torch.ones(1)
    for one, other in ((chosen, rejected), (rejected, chosen)):
        loss = orpo(PairLogProbs(one, other, ones, ones, ones, ones))
        loss.sum().backward()
        assert torch.isfinite(loss).all()
        assert torch.isfinite(chosen.grad).all() and torch.isfinite(rejected.grad).all()
        assert one is rejected or loss.item() == pytest.approx(0, abs=1e-5)


def test_simpo_needs_no_reference_and_keeps_its_distance():
    """Oracle: closed form; at a margin of gamma / beta a token the loss is log 2, whatever a
    reference says.
    """
    rows = [(-3 * 1.0, -2 * 1.5, reference, -reference, 3, 2) for reference in (0.0, 9.0)]
    found = simpo(as_tensors(rows), beta=2.0, gamma=1.0)
    assert found.tolist() == pytest.approx([math.log(2)] * 2)


def test_no_gradient_goes_through_ktos_shift():
    """Oracle: the derivatives of 1 - sigmoid with the shift held, which is positive here."""
    beta = 0.3
    gains = torch.tensor([[2.0, 3.0], [1.0, 0.5]], dtype=torch.float64)
    chosen, rejected = (row.clone().requires_grad_() for row in gains)
    zero = torch.zeros(2)
    kto(PairLogProbs(chosen, rejected, zero, zero, zero, zero), beta).sum().backward()
    shift = gains.mean()
    assert shift > 0
    for found, distance, sign in (
        (chosen.grad, gains[0] - shift, -1),
        (rejected.grad, shift - gains[1], 1),
    ):
        values = torch.sigmoid(beta * distance)
        torch.testing.assert_close(found, sign * values * (1 - values) * beta / 2)


# learning from pairs


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_pairs_of_tokens_become_the_formulas_numbers(name):
    """Oracle: the same plain formulas, with every response asked about alone and its tokens
    counted.
    """
    policy, reference, pairs = gpt(0), gpt(1), random_pairs(6)
    asked = [
        precompute_ref_log_probs(model, pairs, PAD, CPU, batch_size=1).tolist()
        for model in (policy, reference)
    ]
    rows = [
        (*log_p, *before, sum(pair.chosen.assistant_mask), sum(pair.rejected.assistant_mask))
        for log_p, before, pair in zip(*asked, pairs, strict=True)
    ]
    inputs, targets = collate([one.chosen for one in pairs] + [one.rejected for one in pairs], PAD)
    before = torch.tensor(asked[1]).T.flatten()
    with torch.inference_mode():
        total, count = preference_loss(DPOConfig(name, beta=0.3))(policy, (inputs, targets, before))
    assert count == 6
    assert total.item() == pytest.approx(sum(by_the_papers(name, rows, 0.3)), rel=1e-4)


def test_the_reference_of_every_pair_is_found_again_after_shuffling():
    """Oracle: while nothing is learned, policy and reference are one, so that DPO's loss is log 2
    at every step; each response of a batch gets its own reference, however long it is.
    """
    model = gpt()
    before = copy.deepcopy(model.state_dict())
    config = DPOConfig(lr=0.0, beta=1.0, epochs=3, batch_size=6)
    progress = train_dpo(model, random_pairs(40), config, PAD, CPU)
    assert progress.step == 20
    assert [entry["train_loss"] for entry in progress.log] == pytest.approx(
        [math.log(2)] * 20, abs=1e-5
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_reference_is_asked_in_batches():
    """Oracle: every response alone."""
    model, pairs = gpt(), random_pairs(7)
    found = precompute_ref_log_probs(model, pairs, PAD, CPU, batch_size=3)
    with torch.inference_mode():
        expected = [
            [
                response_log_probs(model, *collate([chat], PAD)).item()
                for chat in (pair.chosen, pair.rejected)
            ]
            for pair in pairs
        ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", PREFERENCE_LOSSES)
def test_training_raises_the_margin(loss):
    """Oracle: the model before, asked about the pairs once more, and about others of the same
    rule.
    """
    model, pairs, others = gpt(std=0.05), toy_pairs(64), toy_pairs(64, seed=1)
    kept = copy.deepcopy(model)
    config = DPOConfig(loss, epochs=6, batch_size=16, lr=1e-2, trainable="all")
    progress = train_dpo(model, pairs, config, PAD, CPU)
    assert progress.step == 24
    for some in (pairs, others):
        before, after = (precompute_ref_log_probs(one, some, PAD, CPU) for one in (kept, model))
        margins = (after - before).diff(dim=1).neg().flatten()
        assert margins.mean() > 1
        assert (margins > 0).double().mean() > 0.9


def test_by_default_only_the_last_norm_learns():
    """Oracle: which weights training changes."""
    model = gpt()
    before = copy.deepcopy(model.state_dict())
    train_dpo(model, toy_pairs(8), DPOConfig(epochs=4, batch_size=4), PAD, CPU)
    after = model.state_dict()
    assert [name for name in before if not torch.equal(after[name], before[name])] == [
        "final_norm.scale"
    ]


def test_equal_responses_make_no_pair():
    tokenizer = chat_tokenizer(BPETokenizer.train("any text", 257))
    messages = ({"role": "user", "content": "Hi?"},)
    (pair,) = encode_pairs(tokenizer, [Preference(messages, "Hello.", "Go.", "polite")])
    for chat, text in ((pair.chosen, "Hello."), (pair.rejected, "Go.")):
        expected = [*messages, {"role": "assistant", "content": text}]
        assert chat == encode_chat(tokenizer, expected)
    assert pair.kind == "polite"
    with pytest.raises(ValueError, match=r"the rejected response are equal: 'Go\.'"):
        encode_pairs(tokenizer, [Preference(messages, "Go.", "Go.")])


def test_dpo_refuses():
    with pytest.raises(
        ValueError, match="unknown loss 'best'; choose one of dpo, ipo, simpo, orpo, kto"
    ):
        DPOConfig("best")
    with pytest.raises(ValueError, match="at least 2 responses; num_generations is 1"):
        DPOConfig(num_generations=1)
    with pytest.raises(ValueError, match="name starts with 'nothing'; choose all or tok_emb, "):
        train_dpo(gpt(), random_pairs(1), DPOConfig(trainable="nothing"), PAD, CPU)
    with pytest.raises(ValueError, match="there is no pair of a better and a worse response"):
        train_dpo(gpt(), [], DPOConfig(), PAD, CPU)


# the reward model


def scorer_of(seed: int = 0) -> RewardModel:
    scorer = RewardModel(gpt(seed))
    nn.init.normal_(scorer.body.out_head.weight)
    return scorer.eval()


@given(st.lists(st.integers(2, 20), min_size=1, max_size=6), st.integers(0, 39))
@settings(max_examples=25)
def test_padding_never_changes_a_score(lengths, pad):
    """Oracle: every conversation alone, by the score of its last position."""
    scorer = scorer_of()
    generator = np.random.default_rng(0)
    chats = [response(generator.integers(0, 40, n).tolist(), []) for n in lengths]
    with torch.inference_mode():
        alone = [scorer(torch.tensor([chat.ids]))[0, -1].item() for chat in chats]
        together = scorer.score(pad_chats(chats, pad))
        same = scorer.score(pad_chats(chats, (pad + 1) % 40))
    assert together.tolist() == pytest.approx(alone, abs=1e-4, rel=1e-4)
    assert torch.equal(together, same)
    assert score_chats(scorer, chats, pad, CPU, batch_size=2).tolist() == pytest.approx(
        alone, abs=1e-4, rel=1e-4
    )


def test_the_reward_model_is_a_copy_that_begins_without_an_opinion():
    """Oracle: the language model's last hidden states; with a head of zeros all scores are 0 and
    the loss is log 2.
    """
    model = gpt()
    before = copy.deepcopy(model.state_dict())
    scorer = RewardModel(model).eval()
    rows = pad_chats(
        [chat for pair in random_pairs(4) for chat in (pair.chosen, pair.rejected)], PAD
    )
    assert scorer.score(rows).tolist() == [0] * 8
    total, count = bradley_terry_loss(scorer, rows)
    assert (total / count).item() == pytest.approx(math.log(2))
    nn.init.normal_(scorer.body.out_head.weight)
    expected = F.linear(model.hidden_states(rows[0]), scorer.body.out_head.weight).squeeze(2)
    torch.testing.assert_close(scorer(rows[0]), expected)
    nn.init.zeros_(scorer.body.tok_emb.weight)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_bradley_terry_loss_is_its_closed_form():
    """Oracle: log(1 + exp(worse - better)), pair by pair."""
    scorer, pairs = scorer_of(), random_pairs(5)
    rows = pad_chats([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], PAD)
    with torch.inference_mode():
        total, count = bradley_terry_loss(scorer, rows)
    better, worse = (
        score_chats(scorer, chats, PAD, CPU)
        for chats in zip(*((one.chosen, one.rejected) for one in pairs), strict=True)
    )
    assert count == 5
    assert total.item() == pytest.approx(np.log1p(np.exp(worse - better)).sum(), rel=1e-5)


def test_a_reward_model_learns_what_is_preferred():
    """Oracle: the rule that the pairs were made by, on unseen pairs; and the language model
    stays.
    """
    model = gpt(std=0.05)
    before = copy.deepcopy(model.state_dict())
    config = RewardConfig(epochs=2, lr=3e-3)
    scorer, progress = train_reward_model(model, toy_pairs(256), config, PAD, CPU)
    found = evaluate_reward_model(scorer, toy_pairs(100, seed=1), PAD, CPU)
    assert progress.step == 32
    assert found["ranking_accuracy"] == 1.0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Prejudice(nn.Module):
    """Scores a conversation by its first id alone."""

    def __init__(self, table: dict[int, float]):
        super().__init__()
        self.table = table

    def score(self, rows):
        return torch.tensor([self.table[i] for i in rows[0][:, 0].tolist()])


@pytest.mark.parametrize(
    ("n_right", "accuracy", "error"), [(15, 0.75, 0.0), (20, 1.0, 0.25), (10, 0.5, 0.25)]
)
def test_ranking_is_counted_by_kind_and_calibration_by_sides(n_right, accuracy, error):
    """Oracle: closed form. A margin of log 3 says three to one; it is calibrated where three of
    four pairs are right, in whatever order the right ones come.
    """
    better, worse = response([1, 5], [2]), response([3], [4, 4])
    pairs = [EncodedPair(better, worse, "a")] * n_right + [EncodedPair(worse, better, "b")] * (
        20 - n_right
    )
    found = evaluate_reward_model(Prejudice({1: 0.5 + math.log(3), 3: 0.5}), pairs, PAD, CPU)
    assert found["ranking_accuracy"] == accuracy
    assert found["n_pairs"] == 20
    assert found["by_kind"] == ({"a": 1.0, "b": 0.0} if n_right < 20 else {"a": 1.0})
    assert found["calibration_error"] == pytest.approx(error, abs=1e-6)
