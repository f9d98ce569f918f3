"""PPO and GRPO. Oracles: the papers' sums written as loops, numpy, exact expectations, cases by
hand, a toy whose rewards must rise.
"""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ch01_text import IGNORE, BPETokenizer
from ch03_gpt import GPTModel, pick_precision, preset_config
from ch06_instruction import answering, rollouts
from ch06_instruction.advantages import (
    generalized_advantages,
    group_advantages,
    kl_estimate,
    whiten,
)
from ch06_instruction.answering import Chat
from ch06_instruction.chat import END, chat_model, chat_tokenizer, encode_chat, encode_response
from ch06_instruction.config import GRPOConfig, PPOConfig, SFTConfig
from ch06_instruction.grpo import grpo_batches, grpo_loss, train_grpo
from ch06_instruction.log_probs import token_log_probs
from ch06_instruction.policy_losses import clipped_surrogate, value_loss
from ch06_instruction.ppo import ActorCritic, ppo_batches, ppo_loss, token_rewards, train_ppo
from ch06_instruction.reward_model import RewardModel, score_chats
from ch06_instruction.rewards import match_reward, model_reward
from ch06_instruction.rollouts import Rollouts, minibatches, sample_pairs, sample_rollouts
from ch06_instruction.sft import train_sft
from ch06_instruction.storyworld_tasks import Instruction, instruction_reward

CPU = pick_precision(torch.device("cpu"), "float32")
TOKENIZER = chat_tokenizer(BPETokenizer.train("yes or no, is it so? the mill, the lake. " * 3, 270))
END_ID = TOKENIZER.special_tokens[END]
QUESTIONS = ("is it so?", "the mill?")


def instruction(question: str, answer: str = "no", form: str = "phrase") -> Instruction:
    return Instruction(
        ({"role": "user", "content": question},), answer, answer, "question", "yes-no", form
    )


PROMPTS = [instruction(question).messages for question in QUESTIONS]


@pytest.fixture(scope="module")
def taught() -> GPTModel:
    """A small model that says "yes", "no", "yes no" and the like, whatever it is asked."""
    torch.manual_seed(0)
    model = GPTModel(
        preset_config("tiny", vocab_size=TOKENIZER.n_vocab - 4, emb_dim=32, n_layers=1, n_heads=2)
    )
    model = chat_model(model, TOKENIZER.n_vocab)
    chats = [
        encode_chat(TOKENIZER, [*PROMPTS[row], {"role": "assistant", "content": answer}])
        for row in range(2)
        for answer in ("yes", "no", "yes no")
    ]
    config = SFTConfig(batch_size=12, epochs=2, lr=1e-2, optimizer="muon")
    train_sft(model, chats * 50, chats, config, TOKENIZER.eot_id, CPU)
    return model.eval()


@pytest.fixture(autouse=True)
def _short_answers(monkeypatch):
    monkeypatch.setattr(answering, "MAX_NEW_TOKENS", 4)


def chat_of(model: GPTModel) -> Chat:
    return Chat(copy.deepcopy(model), TOKENIZER, CPU)


def different(model: GPTModel, seed: int = 7) -> GPTModel:
    """The same model with other weights."""
    other = copy.deepcopy(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return other


def says_no(prompts, responses) -> torch.Tensor:
    """The reward of the toy: 1 for an answer that has "no" in it."""
    return torch.tensor([float("no" in text) for text in responses])


# advantages


@st.composite
def episodes(draw):
    """Rewards, values (B, T), and masks of one segment a row; what lies outside of it is large."""
    B, T = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = np.zeros((B, T), dtype=bool)
    for row in range(B):
        first, last = sorted(generator.integers(0, T + 1, 2))
        mask[row, first:last] = True
    rewards, values = (np.where(mask, generator.normal(size=(B, T)), 1e6) for _ in range(2))
    return [torch.from_numpy(array) for array in (rewards, values, mask)]


@given(episodes(), st.floats(0.5, 1.0), st.floats(0.0, 1.0))
def test_advantages_are_the_papers_double_sum(episode, gamma, lam):
    """Oracle: Schulman et al. 2016, equation 16: the sum over l of (gamma lam)^l delta[t + l],
    for every t.
    """
    rewards, values, mask = episode
    advantages, returns = generalized_advantages(rewards, values, mask, gamma, lam)
    for row in range(len(mask)):
        counted = mask[row].nonzero().flatten().tolist()
        delta = {
            t: (
                rewards[row, t]
                + gamma * (values[row, t + 1] if t + 1 in counted else 0.0)
                - values[row, t]
            )
            for t in counted
        }
        for t in range(mask.shape[1]):
            expected = (
                sum((gamma * lam) ** (s - t) * delta[s] for s in counted if s >= t)
                if t in counted
                else 0.0
            )
            assert advantages[row, t].item() == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
            wanted = float(expected + values[row, t]) if t in counted else 0.0
            assert returns[row, t].item() == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(episodes(), st.floats(0.5, 1.0))
def test_advantages_at_both_ends_of_lambda(episode, gamma):
    """Closed forms: lambda 1 gives all rewards to come less the value, lambda 0 the surprise of
    one step.
    """
    rewards, values, mask = episode
    to_come, one_step = torch.zeros_like(rewards), torch.zeros_like(rewards)
    for row, t in mask.nonzero().tolist():
        rest = rewards[row, t:][mask[row, t:]]
        to_come[row, t] = (gamma ** torch.arange(len(rest)) * rest).sum() - values[row, t]
        one_step[row, t] = (
            rewards[row, t] + gamma * (values[row, t + 1] if len(rest) > 1 else 0) - values[row, t]
        )
    torch.testing.assert_close(
        generalized_advantages(rewards, values, mask, gamma, 1.0)[0], to_come
    )
    torch.testing.assert_close(
        generalized_advantages(rewards, values, mask, gamma, 0.0)[0], one_step
    )


@given(st.integers(1, 5), st.integers(2, 6), st.integers(0, 1000))
def test_a_group_is_compared_with_itself(n_prompts, group, seed):
    """Oracle: numpy, one group after the other."""
    rewards = np.random.default_rng(seed).choice([0.0, 0.1, 1.0], (n_prompts, group))
    found = (
        group_advantages(torch.from_numpy(rewards).flatten(), group).view(n_prompts, group).numpy()
    )
    for row, expected in zip(found, rewards, strict=True):
        np.testing.assert_allclose(
            row, (expected - expected.mean()) / (expected.std(ddof=1) + 1e-4), atol=1e-10
        )


def test_a_group_needs_somebody_to_compare_with():
    assert group_advantages(torch.full((8,), 0.1), 4).abs().max() < 1e-3
    with pytest.raises(ValueError, match="at least 2 responses to compare, not 1"):
        group_advantages(torch.ones(8), 1)


def test_whitening_by_numpy():
    generator = torch.Generator().manual_seed(0)
    values = 5 + 3 * torch.randn(6, 9, generator=generator)
    mask = torch.rand(6, 9, generator=generator) < 0.5
    counted = values[mask].numpy()
    found = whiten(values, mask)
    np.testing.assert_allclose(
        found[mask], (counted - counted.mean()) / counted.std(ddof=1), atol=1e-5
    )
    assert (found[~mask] == 0).all()


LOGITS = st.lists(st.floats(-4, 4), min_size=5, max_size=5).map(
    lambda x: torch.tensor(x, dtype=torch.float64)
)


@given(LOGITS, LOGITS)
def test_the_estimate_of_kl_is_unbiased_and_never_negative(policy, reference):
    """Oracle: the exact expectation over five tokens, and the definition of KL."""
    log_p, log_q = policy.log_softmax(0), reference.log_softmax(0)
    estimates = kl_estimate(log_p, log_q)
    assert (estimates >= -1e-15).all()
    exact = sum(math.exp(p) * (p - q) for p, q in zip(log_p.tolist(), log_q.tolist(), strict=True))
    assert (log_p.exp() * estimates).sum().item() == pytest.approx(exact, abs=1e-9)


# losses


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),  # on the policy: the plain policy gradient
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),  # already much likelier: no more to gain
        (0.5, 2.0, -1.0, -1.0),  # gone the wrong way: it may come back
        (1.0, -2.0, 2.0, 2.0),
        (0.5, -2.0, 1.6, 0.0),
        (1.5, -2.0, 3.0, 3.0),
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_the_surrogate_by_hand(ratio, advantage, loss, slope):
    """Loss and its derivative by the new log-probability, which is -ratio x advantage where it
    is not clipped.
    """
    now = torch.tensor([-3.0 + math.log(ratio)], dtype=torch.float64, requires_grad=True)
    old = torch.tensor([-3.0], dtype=torch.float64)
    found = clipped_surrogate(now, old, torch.tensor([advantage], dtype=torch.float64), epsilon=0.2)
    found.sum().backward()
    assert found.item() == pytest.approx(loss)
    assert now.grad.item() == pytest.approx(slope)


@given(st.floats(-3, 0), st.floats(-3, 0), st.floats(-3, 3), st.floats(0.05, 0.5))
def test_the_surrogate_case_by_case(now, old, advantage, epsilon):
    """Oracle: the same in cases instead of a minimum."""
    ratio = math.exp(now - old)
    bounded = min(ratio, 1 + epsilon) if advantage > 0 else max(ratio, 1 - epsilon)
    found = clipped_surrogate(
        *torch.tensor([[now], [old], [advantage]], dtype=torch.float64), epsilon
    )
    assert found.item() == pytest.approx(-bounded * advantage, abs=1e-12)


@pytest.mark.parametrize(
    ("value", "loss", "slope"),
    [
        (1.1, 0.5 * 0.9**2, -0.9),  # within old +- epsilon: the plain squared error
        (1.5, 0.5 * 0.8**2, 0.0),  # further towards the return: no more to gain
        (0.5, 0.5 * 1.5**2, -1.5),  # away from it
        (3.5, 0.5 * 1.5**2, 1.5),  # beyond it
    ],
)
def test_the_value_loss_by_hand(value, loss, slope):
    """The value was 1, its return is 2, and epsilon 0.2."""
    values = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    found = value_loss(values, torch.ones(1), torch.full((1,), 2.0), epsilon=0.2)
    found.sum().backward()
    assert found.item() == pytest.approx(loss)
    assert values.grad.item() == pytest.approx(slope)


# rollouts


class Recorder:
    """A reward that remembers what it was asked."""

    def __init__(self, rewards=lambda n: torch.ones(n)):
        self.rewards, self.calls = rewards, []

    def __call__(self, prompts, responses):
        self.calls.append((list(prompts), list(responses)))
        return self.rewards(len(responses))


def rolled(taught, reward_fn=says_no, n: int = 16) -> tuple[Chat, GPTModel, Rollouts]:
    chat, reference = chat_of(taught), different(taught)
    generator = torch.Generator().manual_seed(0)
    drawn = sample_rollouts(chat, reference, PROMPTS, reward_fn, n, generator)
    return chat, reference, drawn


def test_only_drawn_tokens_are_targets(taught):
    """Oracle: each row taken apart by hand: the prompt, then the response that the reward was
    asked about.
    """
    recorder = Recorder()
    chat, _, drawn = rolled(taught, recorder)
    ((prompts, texts),) = recorder.calls
    assert prompts == [PROMPTS[0]] * 16 + [PROMPTS[1]] * 16
    assert texts == drawn.texts
    for row in range(32):
        prompt = chat.prompt(prompts[row])
        response = drawn.targets[row][drawn.mask[row]].tolist()
        whole = prompt + response
        assert drawn.inputs[row].tolist() == whole[:-1] + [TOKENIZER.eot_id] * (
            drawn.inputs.shape[1] - len(whole) + 1
        )
        assert drawn.mask[row].nonzero().flatten().tolist() == list(
            range(len(prompt) - 1, len(whole) - 1)
        )
        assert (drawn.targets[row][~drawn.mask[row]] == IGNORE).all()
        assert TOKENIZER.decode(response).removesuffix(END) == texts[row]
        assert END_ID not in response[:-1]


def test_a_response_that_does_not_end_is_worth_nothing(taught):
    _, _, drawn = rolled(taught, Recorder(lambda n: 2 + torch.arange(float(n))))
    last = drawn.mask.sum(dim=1)
    ended = torch.tensor([END_ID in row.tolist() for row in drawn.targets])
    assert 0 < ended.sum() < 32
    assert (last[~ended] == 4).all()
    assert drawn.rewards.tolist() == [2.0 + row if ended[row] else 0.0 for row in range(32)]


def test_log_probabilities_are_those_of_the_drawn_tokens(taught):
    """Oracle: each row's tokens looked up in a softmax over the whole vocabulary, by policy and
    reference.
    """
    chat, reference, drawn = rolled(taught)
    for model, found in ((chat.model, drawn.log_probs), (reference, drawn.ref_log_probs)):
        with torch.inference_mode():
            log_p = model(drawn.inputs).log_softmax(dim=-1)
        expected = log_p.gather(2, drawn.targets.clamp(min=0).unsqueeze(2)).squeeze(2)
        torch.testing.assert_close(
            found, torch.where(drawn.mask, expected, 0.0), rtol=1e-5, atol=1e-5
        )
    kl = [
        (drawn.log_probs - drawn.ref_log_probs)[row][drawn.mask[row]].sum().item()
        for row in range(32)
    ]
    assert drawn.kl == pytest.approx(np.mean(kl), abs=1e-5)


def test_the_first_ratio_is_1(taught):
    """The training step finds the very log-probabilities of the rollout, to the last bit, before
    it changes them.
    """
    chat, _, drawn = rolled(taught)
    chat.model.train()
    now = token_log_probs(chat.model, drawn.inputs, drawn.targets)
    assert now.requires_grad
    assert torch.equal(now, drawn.log_probs)


def test_rollouts_draw_from_the_policy(taught):
    """Oracle: the policy's exact probabilities of a first token; 4,000 draws, four standard
    errors.
    """
    chat = chat_of(taught)
    drawn = sample_rollouts(
        chat, taught, PROMPTS[:1], says_no, 4000, torch.Generator().manual_seed(0)
    )
    prompt = chat.prompt(PROMPTS[0])
    with torch.inference_mode():
        p = taught(torch.tensor([prompt]))[0, -1].softmax(0)
    share = torch.bincount(drawn.targets[:, len(prompt) - 1], minlength=TOKENIZER.n_vocab) / 4000
    likely = p > 0.01
    assert 2 <= likely.sum() < 20
    assert ((share - p).abs() < 4 * (p * (1 - p) / 4000).sqrt())[likely].all()


def test_a_program_rewards_the_right_answer_and_a_little_the_right_form():
    cases = [
        ("no", "phrase", "no", 1.0),
        ("so\nno", "phrase", "no", 1.0),
        ("yes", "phrase", "no", 0.1),
        ("", "phrase", "no", 0.0),
        ("the mill", "word", "mill", 0.0),
        ("lake", "word", "mill", 0.1),
        ('{"answer": "lake"}', "json", '{"answer": "mill"}', 0.1),
        ("mill", "json", '{"answer": "mill"}', 0.0),
    ]
    asked = [instruction(f"{i}?", answer, form) for i, (_, form, answer, _) in enumerate(cases)]
    found = instruction_reward(asked)([one.messages for one in asked], [case[0] for case in cases])
    assert found.tolist() == pytest.approx([case[3] for case in cases])


def test_a_match_is_worth_1():
    reward_fn = match_reward(PROMPTS, ["no", "the mill"])
    responses = ["no", "the mill", "so\nno", "the mill", "", "lake"]
    assert reward_fn(PROMPTS * 3, responses).tolist() == [1, 1, 1, 1, 0, 0]


def test_the_reward_models_reward_is_its_score_of_the_response(taught):
    """Oracle: scores of conversations that are encoded here; a long prompt is cut, so that the
    model can read all of it, and a response may be empty.
    """
    model = RewardModel(taught)
    nn.init.normal_(model.body.out_head.weight)
    prompts = [*PROMPTS, instruction("yes " * 200).messages]
    responses = ["no", "", "yes yes"]
    found = model_reward(model, chat_of(taught))(prompts, responses)
    chats = [
        encode_response(TOKENIZER, prompt, response, taught.config.context_length - 1)
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    assert len(chats[2].ids) == taught.config.context_length
    expected = score_chats(model, chats, TOKENIZER.eot_id, CPU)
    assert found.tolist() == expected.tolist()
    assert len(set(found.tolist())) == 3


def test_pairs_are_the_best_and_the_worst_of_each_prompt(taught):
    """Oracle: the same responses sampled again in the same batches, and a search for the first
    best and the first worst.
    """
    table = {"no": 2.0, "yes": 1.0, "yes no": 0.5}

    def reward_fn(prompts, responses):
        return torch.tensor([table.get(text.strip(), 0.0) for text in responses])

    chat, prompts = chat_of(taught), PROMPTS * 3
    pairs, mean = sample_pairs(
        chat, prompts, reward_fn, 3, torch.Generator().manual_seed(0), batch_size=4
    )
    generator, expected, rewards = torch.Generator().manual_seed(0), [], []
    for prompt in prompts:
        ids = chat.prompt(prompt)
        sampled = chat.sample([ids], 3, 1.0, generator)
        worth = reward_fn([], [chat.text(response) for response in sampled]).tolist()
        rewards += worth
        best = max(range(3), key=lambda i, worth=worth: (worth[i], -i))
        worst = min(range(3), key=lambda i, worth=worth: (worth[i], i))
        if worth[best] > worth[worst]:
            expected.append((ids + sampled[best], ids + sampled[worst]))
    assert [(pair.chosen.ids, pair.rejected.ids) for pair in pairs] == expected
    assert len(expected) > 0
    assert mean == pytest.approx(np.mean(rewards))


def test_token_rewards_by_hand():
    """Two responses of 2 and 3 tokens with the rewards 1 and 0.5, at a beta of 0.1."""
    targets = torch.tensor([[IGNORE, 5, 6, IGNORE], [7, 8, 9, IGNORE]])
    log_probs = torch.tensor([[0.0, -1.0, -2.0, 0.0], [-1.0, -1.0, -3.0, 0.0]])
    ref_log_probs = torch.tensor([[0.0, -3.0, -1.0, 0.0], [-1.0, -2.0, -3.0, 0.0]])
    drawn = Rollouts(targets, targets, log_probs, ref_log_probs, torch.tensor([1.0, 0.5]), [])
    expected = torch.tensor([[0.0, -0.2, 0.1 + 1.0, 0.0], [0.0, -0.1, 0.5, 0.0]])
    torch.testing.assert_close(token_rewards(drawn, beta=0.1), expected)


# updates


@pytest.mark.parametrize(("n", "n_minibatches"), [(8, 2), (6, 4), (7, 7), (5, 1)])
def test_every_pass_uses_every_response_once(n, n_minibatches):
    config = PPOConfig(
        prompts_per_step=n, num_generations=1, num_iterations=3, num_minibatches=n_minibatches
    )
    groups = list(minibatches(n, config, np.random.default_rng(0)))
    assert len(groups) == 3 * n_minibatches
    for first in range(0, len(groups), n_minibatches):
        assert sorted(torch.cat(groups[first : first + n_minibatches]).tolist()) == list(range(n))


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (
            GRPOConfig,
            dict(prompts_per_step=3, num_generations=2, num_minibatches=7),
            "the 6 responses of a rollout cannot be divided into 7 minibatches",
        ),
        (GRPOConfig, dict(num_generations=1), "num_generations must be at least 2, not 1"),
        (PPOConfig, dict(epsilon=0.0), "--epsilon must be a positive number, not 0"),
        (SFTConfig, dict(lora_rank=-1), r"--lora-rank must be 0 \(no LoRA\) or more, not -1"),
        (SFTConfig, dict(lora_rank=2, optimizer="muon"), "trained with adamw"),
        (SFTConfig, dict(lr=-0.1), "--lr must be a positive number, not -0.1"),
    ],
)
def test_a_bad_recipe_is_refused(kind, settings, words):
    with pytest.raises(ValueError, match=words):
        kind(**settings)


def test_grpos_first_gradient_is_the_policy_gradient(taught):
    """Oracle: Williams' estimator from full softmaxes: the mean over all drawn tokens of
    -advantage x grad log p.
    """
    chat, _, drawn = rolled(taught)
    config = GRPOConfig(prompts_per_step=2, num_generations=16, num_minibatches=1, beta=0.0)
    batch = next(grpo_batches(iter([drawn]), config, np.random.default_rng(0)))
    total, count = grpo_loss(config)(chat.model, batch)
    (total / count).backward()
    found = [p.grad.clone() for p in chat.model.parameters()]
    chat.model.zero_grad()
    groups = drawn.rewards.view(2, 16)
    advantages = (
        (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
    ).flatten()
    log_p = chat.model(drawn.inputs).log_softmax(dim=-1)
    terms = [
        -advantages[row] * log_p[row, t, drawn.targets[row, t]]
        for row, t in drawn.mask.nonzero().tolist()
    ]
    torch.stack(terms).mean().backward()
    assert advantages.abs().max() > 0.1
    for gradient, parameter in zip(found, chat.model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-6)


def test_grpos_loss_token_by_token(taught):
    """Oracle: a loop over the drawn tokens with plain numbers; the policy has moved, at some
    tokens beyond the clip.
    """
    drawn = rolled(taught)[2]
    config = GRPOConfig(
        prompts_per_step=2, num_generations=16, num_minibatches=2, beta=0.3, epsilon=0.1
    )
    moved = different(taught, seed=3)
    clipped = seen = 0
    for batch in grpo_batches(iter([drawn]), config, np.random.default_rng(0)):
        total, count = grpo_loss(config)(moved, batch)
        inputs, targets, old, before, advantages = batch
        with torch.inference_mode():
            now = token_log_probs(moved, inputs, targets)
        losses = []
        for row, t in (targets >= 0).nonzero().tolist():
            ratio, advantage = math.exp(now[row, t] - old[row, t]), advantages[row, 0].item()
            bounded = min(max(ratio, 0.9), 1.1)
            clipped += bounded != ratio
            log_ratio = (before[row, t] - now[row, t]).item()
            losses.append(
                -min(ratio * advantage, bounded * advantage)
                + 0.3 * (math.exp(log_ratio) - log_ratio - 1)
            )
        assert count == len(losses)
        assert total.item() == pytest.approx(sum(losses), rel=1e-4)
        seen += len(inputs)
    assert seen == 32
    assert clipped > 10


def test_ppos_batches_begin_from_a_critic_without_an_opinion(taught):
    """Oracle: with all values 0 a token's advantage is the discounted sum of the rewards to
    come, whitened by numpy.
    """
    chat, _, drawn = rolled(taught)
    config = PPOConfig(
        prompts_per_step=2, num_generations=16, num_minibatches=1, beta=0.5, gae_lambda=0.9
    )
    critic = ActorCritic(chat.model).critic
    batch = next(ppo_batches(critic, iter([drawn]), config, CPU, np.random.default_rng(0)))
    inputs, targets, _, advantages, values, returns = batch
    assert (values == 0).all()
    rows = [drawn.inputs.tolist().index(row) for row in inputs.tolist()]
    rewards = token_rewards(drawn, 0.5)[rows]
    expected = np.zeros(targets.shape)
    for row, t in (targets >= 0).nonzero().tolist():
        expected[row, t] = sum(
            0.9**l * reward for l, reward in enumerate(rewards[row, t:].tolist())
        )
    mask = (targets >= 0).numpy()
    np.testing.assert_allclose(returns, expected, atol=1e-5)
    counted = expected[mask]
    np.testing.assert_allclose(
        advantages.numpy()[mask], (counted - counted.mean()) / counted.std(ddof=1), atol=1e-4
    )


def test_ppos_loss_token_by_token(taught):
    """Oracle: a loop over the drawn tokens with plain numbers; policy and critic have moved."""
    chat, _, drawn = rolled(taught)
    config = PPOConfig(prompts_per_step=2, num_generations=16, num_minibatches=1, epsilon=0.1)
    both = ActorCritic(chat.model)
    batch = next(ppo_batches(both.critic, iter([drawn]), config, CPU, np.random.default_rng(0)))
    both.policy = different(taught, seed=3)
    nn.init.normal_(both.critic.body.out_head.weight, std=0.1)
    inputs, targets, old, advantages, old_values, returns = batch
    total, count = ppo_loss(config)(both, batch)
    with torch.inference_mode():
        now, values = token_log_probs(both.policy, inputs, targets), both.critic(inputs)
    losses = []
    for row, t in (targets >= 0).nonzero().tolist():
        ratio, advantage = math.exp(now[row, t] - old[row, t]), advantages[row, t].item()
        value, before, wanted = (tensor[row, t].item() for tensor in (values, old_values, returns))
        held = min(max(value, before - 0.1), before + 0.1)
        losses.append(
            -min(ratio * advantage, min(max(ratio, 0.9), 1.1) * advantage)
            + max((value - wanted) ** 2, (held - wanted) ** 2) / 2
        )
    assert count == len(losses)
    assert total.item() == pytest.approx(sum(losses), rel=1e-4)


@pytest.mark.parametrize("loss", ["grpo", "ppo"])
def test_no_gradient_reaches_the_last_layer_but_where_a_token_was_drawn(taught, loss):
    """Oracle: autograd on hidden states given from outside; the prompt's and the padding's are
    exactly 0.
    """
    chat, _, drawn = rolled(taught)
    few = dict(prompts_per_step=2, num_generations=16, num_minibatches=1)
    both, generator = ActorCritic(chat.model), np.random.default_rng(0)
    if loss == "grpo":
        config, model = GRPOConfig(**few), chat.model
        batch, loss_fn = next(grpo_batches(iter([drawn]), config, generator)), grpo_loss(config)
    else:
        config, model = PPOConfig(**few), both
        batch = next(ppo_batches(both.critic, iter([drawn]), config, CPU, generator))
        loss_fn = ppo_loss(config)
    hidden = torch.randn(
        *drawn.inputs.shape, 32, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    nn.init.normal_(both.critic.body.out_head.weight)
    for body in (chat.model, both.critic.body):
        body.hidden_states = lambda ids, cache=None: hidden
    loss_fn(model, batch)[0].backward()
    reached = (hidden.grad != 0).any(dim=2)
    assert not reached[batch[1] == IGNORE].any()
    assert reached[batch[1] != IGNORE].double().mean() > 0.5  # the others' gain was clipped


SAYS_ONLY_NO = match_reward(PROMPTS, ["no"] * len(PROMPTS))


def learn(taught, monkeypatch, method, seed: int = 0, **changes):
    """A run on the toy, and the reference that it used."""
    references = []

    def watched(chat, reference, *rest, **options):
        references.append(reference)
        return sample_rollouts(chat, reference, *rest, **options)

    monkeypatch.setattr(rollouts, "sample_rollouts", watched)
    chat = chat_of(taught)
    settings = {
        "num_rollouts": 15,
        "prompts_per_step": 2,
        "num_generations": 16,
        "num_iterations": 2,
        "lr": 3e-3,
        "beta": 0.0,
        "trainable": "all",
    } | changes
    if method is train_ppo:
        config = PPOConfig(critic_lr=3e-3, **settings)
    else:
        config = GRPOConfig(**settings)
    found = method(chat, PROMPTS, says_no, config, seed=seed, accuracy_fn=SAYS_ONLY_NO)
    assert found.progress.step == config.num_rollouts * 2 * 2
    assert len(found.rollouts) == len(references) == config.num_rollouts
    assert len({id(reference) for reference in references}) == 1
    return chat, found.rollouts, references[0]


@pytest.mark.parametrize("method", [train_grpo, train_ppo])
def test_the_reward_rises_and_the_reference_stays(taught, monkeypatch, method):
    """Oracle: the toy's reward, counted once more on answers drawn afterwards; the reference is
    what the model was.
    """
    before = copy.deepcopy(taught.state_dict())
    chat, log, reference = learn(taught, monkeypatch, method)
    assert log[0]["kl"] == 0
    assert log[0]["reward"] < 0.75
    assert np.mean([entry["reward"] for entry in log[-5:]]) > 0.85
    answers = chat.respond(PROMPTS, 100, 1.0, torch.Generator().manual_seed(1))
    assert np.mean(["no" in answer for answer in answers]) > 0.9
    assert all(torch.equal(value, before[name]) for name, value in reference.state_dict().items())
    assert not any(
        torch.equal(value, before[name]) for name, value in chat.model.named_parameters()
    )
    assert not any(parameter.requires_grad for parameter in reference.parameters())
    assert not reference.training


def test_each_rollout_is_summarized(taught, monkeypatch):
    """Oracle: the texts of each rollout, counted by hand."""
    made = []

    def watched(*arguments, **options):
        made.append(sample_rollouts(*arguments, **options))
        return made[-1]

    chat = chat_of(taught)
    monkeypatch.setattr(rollouts, "sample_rollouts", watched)
    config = GRPOConfig(num_rollouts=2, prompts_per_step=2, num_generations=8, lr=0.0)
    log = train_grpo(chat, PROMPTS, says_no, config, accuracy_fn=SAYS_ONLY_NO).rollouts
    for entry, drawn in zip(log, made, strict=True):
        assert entry["accuracy"] == np.mean([text.strip() == "no" for text in drawn.texts])
        assert entry["words"] == np.mean([len(text.split()) for text in drawn.texts])
        assert entry["reward"] == pytest.approx(drawn.rewards.mean().item())
    assert 0 < log[0]["accuracy"] < 1
    unmeasured = train_grpo(chat, PROMPTS, says_no, config).rollouts
    assert all("accuracy" not in entry for entry in unmeasured)


@pytest.mark.parametrize("method", [train_grpo, train_ppo])
def test_the_same_seed_gives_the_same_rollouts(taught, monkeypatch, method):
    runs = [learn(taught, monkeypatch, method, num_rollouts=3, seed=seed)[1] for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("method", [train_grpo, train_ppo])
def test_a_larger_beta_keeps_the_model_near_the_reference(taught, monkeypatch, method):
    """Oracle: the same run without it."""
    far, near = (
        np.mean([entry["kl"] for entry in learn(taught, monkeypatch, method, beta=beta)[1][-5:]])
        for beta in (0.0, 1.0)
    )
    assert far > 0.5
    assert near < far / 2


def test_ppos_critic_learns_what_responses_are_worth(taught, monkeypatch):
    """Oracle: the mean of the rewards. Where the policy does not learn, the first value comes to
    be just that.
    """
    made = []

    class Kept(ActorCritic):
        def __init__(self, policy):
            super().__init__(policy)
            made.append(self)

    monkeypatch.setattr("ch06_instruction.ppo.ActorCritic", Kept)
    chat, log, _ = learn(
        taught, monkeypatch, train_ppo, lr=0.0, num_rollouts=25, num_generations=64
    )
    with torch.inference_mode():
        values = [
            made[0].critic(torch.tensor([chat.prompt(prompt)]))[0, -1].item() for prompt in PROMPTS
        ]
    reward = np.mean([entry["reward"] for entry in log])
    assert 0.2 < reward < 0.6
    assert np.mean(values) == pytest.approx(reward, abs=0.1)
