"""Checks of the exercises, by chapter and name. Each calls the function that it is given, and says what went wrong
in terms of the input; oracles are scikit-learn, scipy, the shipped modules, or brute force."""

import math
from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, entropy
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.class_weight import compute_class_weight

from ch01_text import BPETokenizer
from ch01_text.storyworld.notes import Notebook, final_answer, write_notes
from ch01_text.storyworld.questions import MAIN_KINDS
from ch05_classification import calibration_error, story_task
from ch05_classification.lora import LinearWithLoRA
from ch06_instruction.advantages import generalized_advantages, group_advantages
from ch06_instruction.best_of_n import most_agreed
from ch06_instruction.book import custom_collate_fn
from ch06_instruction.chat import END, chat_tokenizer, encode_chat
from ch06_instruction.instructions import REFUSAL, Instruction, instructions
from ch06_instruction.policy_losses import clipped_surrogate
from ch06_instruction.preference_losses import PairLogProbs, dpo


def expect(what: str, got, expected, tolerance: float = 1e-5) -> None:
    """Fail with input, expected and got where they differ."""
    try:
        left, right = np.asarray(got, dtype=np.float64), np.asarray(expected, dtype=np.float64)
        same = left.shape == right.shape and np.allclose(left, right, atol=tolerance)
    except (TypeError, ValueError, RuntimeError):
        same = False
    if not same:
        pytest.fail(f"{what}\nexpected: {expected}\ngot:      {got}", pytrace=False)


def expect_same(what: str, got, expected) -> None:
    """The same for texts and for lists of numbers, to the letter."""
    if not isinstance(got, type(expected)) or got != expected:
        pytest.fail(f"{what}\nexpected: {expected!r}\ngot:      {got!r}", pytrace=False)


def last_real_token(function: Callable) -> None:
    hidden = torch.arange(24.0).view(2, 4, 3)
    lengths = torch.tensor([2, 4])
    expect(f"hidden {tuple(hidden.shape)} = arange(24), lengths {lengths.tolist()}", function(hidden, lengths),
           [[3, 4, 5], [21, 22, 23]])


def majority_accuracy(function: Callable) -> None:
    for train, test, expected in (([0, 0, 1], [0, 1, 1, 1], 0.25), ([2, 2, 2, 0, 1], [2, 2, 0, 1], 0.5)):
        expect(f"training labels {train}, test labels {test}", function(np.array(train), np.array(test)), expected)


def merged_weight(function: Callable) -> None:
    torch.manual_seed(0)
    layer = LinearWithLoRA(torch.nn.Linear(5, 3), rank=2, alpha=8.0)
    torch.nn.init.normal_(layer.lora.B)
    weight, A, B = (tensor.detach() for tensor in (layer.linear.weight, layer.lora.A, layer.lora.B))
    layer.merge()
    expect("a 3 x 5 matrix, rank 2, alpha 8", function(layer.base, A, B, 8.0), weight.tolist())


def balanced_weights(function: Callable) -> None:
    for labels in ([0, 0, 0, 1], [0, 1, 2, 2, 2, 2], [1, 0]):
        n = max(labels) + 1
        expect(f"labels {labels}", function(np.array(labels), n),
               compute_class_weight("balanced", classes=np.arange(n), y=labels).tolist())


def calibration_gap(function: Callable) -> None:
    expect("confidence [0.95, 0.95, 1.0], right [True, False, True]",
           function(np.array([0.95, 0.95, 1.0]), np.array([True, False, True])), 0.3)
    generator = np.random.default_rng(0)
    sure, right = generator.uniform(0.5, 1, 300), generator.random(300) < 0.7
    expected = calibration_error(np.stack([sure, 1 - sure], axis=1), np.where(right, 0, 1))
    expect("300 confidences between 0.5 and 1, 70 % right", function(sure, right), expected)


def bootstrap_interval(function: Callable) -> None:
    right = np.array([True, True, True, False])
    draws = np.random.default_rng(0).integers(4, size=(1000, 4))
    accuracies = sorted(np.mean([right[row] for row in draw]) for draw in draws)
    expect("right [True, True, True, False], 1,000 draws", function(right, draws),
           np.percentile(accuracies, (2.5, 97.5)).tolist())


def mcnemar_p(function: Callable) -> None:
    for pair in ((0, 0), (1, 0), (5, 5), (9, 2), (0, 12), (30, 18)):
        expected = binomtest(pair[0], sum(pair)).pvalue if sum(pair) else 1.0
        expect(f"only_first {pair[0]}, only_second {pair[1]}", function(*pair), expected, 1e-9)


def stratified_rows(function: Callable) -> None:
    labels = np.random.default_rng(0).permutation([0] * 50 + [1] * 20 + [2] * 10)
    rows = np.asarray(function(labels, 0.2, np.random.default_rng(1)))
    expect("labels with 50, 20 and 10 of each class, share 0.2: shape of the row numbers", list(rows.shape), [16])
    expect("labels with 50, 20 and 10 of each class, share 0.2: rows of each class", np.bincount(labels[rows]),
           [10, 4, 2])
    expect("the same: sorted, different row numbers", rows.tolist(), sorted(set(rows.tolist())))
    if np.array_equal(rows, function(labels, 0.2, np.random.default_rng(2))):
        pytest.fail("two generators, share 0.2\nexpected: two different draws\ngot:      the same rows", pytrace=False)


def order_features(function: Callable) -> None:
    task = story_task("ending", 0, 1000, 30, 500)
    scores = []
    for features in (str.split, function):
        counter = make_pipeline(CountVectorizer(analyzer=features), LogisticRegression(C=1.0, max_iter=1000))
        fitted = counter.fit(task.train.texts, task.train.labels)
        scores.append(fitted.score(task.test.texts, task.test.labels))
    if scores[1] <= 0.8:
        pytest.fail(f"logistic regression on your features, 500 unseen stories\nexpected: more than 80 % (plain words: "
                    f"{scores[0]:.1%})\ngot:      {scores[1]:.1%}", pytrace=False)


def loss_mask(function: Callable) -> None:
    tokenizer = chat_tokenizer(BPETokenizer.train("any text", 257))
    assistant, end = (tokenizer.special_tokens[token] for token in ("<|assistant|>", END))
    spoken = {"system": "Be brief.", "user": "Hi?", "assistant": "Yes."}
    for roles in (["user", "assistant"], ["system", *["user", "assistant"] * 2], ["user", "assistant", "user"]):
        chat = encode_chat(tokenizer, [{"role": role, "content": spoken[role]} for role in roles])
        expect(f"messages of {', '.join(roles)}: ids {chat.ids}, assistant_id {assistant}, end_id {end}",
               function(list(chat.ids), assistant, end), chat.said[1:])


def padded_targets(function: Callable) -> None:
    for ids, length, pad in (([5, 6, 7], 3, 50_256), ([5, 6, 7], 4, 50_256), ([3], 6, 0)):
        _, targets = custom_collate_fn([ids, [1] * length], pad)
        expect(f"ids {ids}, length {length}, pad_id {pad}", function(list(ids), length, pad), targets[0].tolist())


def all_lists(rows) -> bool:
    return isinstance(rows, list) and all(isinstance(row, list) for row in rows)


def pack_lengths(function: Callable) -> None:
    for what, lengths in (("lengths [200, 56, 100, 156]", [200, 56, 100, 156]),
                          ("300 lengths from 20 to 199", np.random.default_rng(0).integers(20, 200, 300).tolist())):
        rows, least = function(list(lengths), 256), sum(lengths) / 256
        placed = sorted(number for row in rows for number in row) if all_lists(rows) else rows
        if placed != list(range(len(lengths))):
            pytest.fail(f"{what}, room 256\nexpected: rows with each of 0 ... {len(lengths) - 1} once\ngot:      "
                        f"{placed}", pytrace=False)
        longest = max(sum(lengths[number] for number in row) for row in rows)
        if longest > 256 or len(rows) > 1.05 * least:
            pytest.fail(f"{what}, room 256\nexpected: at most {1.05 * least:.0f} rows, the longest at most 256\n"
                        f"got:      {len(rows)} rows, the longest {longest}", pytrace=False)


def bradley_terry(function: Callable) -> None:
    for better, worse in (([1.0], [1.0]), ([2.0, -1.0, 0.5], [0.0, 3.0, 0.25]), ([-100.0, 300.0], [200.0, -100.0])):
        expect(f"chosen {better}, rejected {worse}", function(torch.tensor(better), torch.tensor(worse)),
               np.logaddexp(0, np.subtract(worse, better)).mean())


def dpo_gradient_weight(function: Callable) -> None:
    for beta in (0.1, 0.5):
        chosen, rejected = torch.tensor([0.0, 30.0, -4.0, 1.0]), torch.tensor([0.0, -30.0, 5.0, -1.0])
        learned, zero = chosen.clone().requires_grad_(), torch.zeros(4)
        dpo(PairLogProbs(learned, rejected, zero, zero, zero, zero), beta).sum().backward()
        expect(f"chosen_gain {chosen.tolist()}, rejected_gain {rejected.tolist()}, beta {beta}",
               function(chosen, rejected, beta), -learned.grad / beta)


def gae(function: Callable) -> None:
    for rewards, values, gamma, lam in (([0.0, 0.0, 1.0], [0.2, 0.4, 0.8], 1.0, 1.0), ([2.0], [0.5], 0.9, 0.5),
                                        ([0.5, -1.0, 0.0, 2.0], [0.3, 0.1, -0.7, 1.0], 0.9, 0.8)):
        one = torch.tensor([rewards]), torch.tensor([values]), torch.ones(1, len(rewards), dtype=torch.bool)
        expect(f"rewards {rewards}, values {values}, gamma {gamma}, lam {lam}",
               function(one[0][0], one[1][0], gamma, lam), generalized_advantages(*one, gamma, lam)[0][0])


def group_relative(function: Callable) -> None:
    rewards = [[1.0, 0.0, 0.0, 1.0], [5.0, 5.0, 5.0, 5.0], [0.0, 0.1, 0.2, 7.0]]
    expect(f"rewards {rewards}", function(torch.tensor(rewards)),
           group_advantages(torch.tensor(rewards).flatten(), 4).view(3, 4), 1e-3)


def clipped_objective(function: Callable) -> None:
    ratio, advantages = [1.5, 1.5, 0.5, 0.5, 1.1, 0.9], [1.0, -1.0, 1.0, -2.0, 3.0, -3.0]
    for clip in (0.2, 0.05):
        losses = clipped_surrogate(torch.tensor(ratio).log(), torch.zeros(6), torch.tensor(advantages), clip)
        expect(f"ratio {ratio}, advantages {advantages}, clip {clip}",
               function(torch.tensor(ratio), torch.tensor(advantages), clip), -losses)


def kl_estimate_better(function: Callable) -> None:
    """The mean and the deviation are exact: the estimate of every token of a vocabulary, weighted by p."""
    for distance in (0.05, 0.2, 0.5):
        logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        log_p, log_q = torch.stack((logits[0], logits[0] + distance * logits[1])).log_softmax(dim=1)
        p, found = log_p.exp().numpy(), np.asarray(function(log_p, log_q))
        what = f"a vocabulary of 50, logits of p and q about {distance} apart"
        expect(f"{what}: shape of the estimates", found.shape, [50])
        expect(f"{what}: the first ten tokens by themselves", function(log_p[:10], log_q[:10]), found[:10], 1e-9)
        expect(f"{what}: mean under p", (p * found).sum(), entropy(p, log_q.exp().numpy()), 1e-9)
        ours, plain = (math.sqrt((p * x**2).sum() - (p * x).sum() ** 2) for x in (found, (log_p - log_q).numpy()))
        if found.min() < -1e-12 or ours >= plain / 2:
            pytest.fail(f"{what}\nexpected: no estimate below 0, a standard deviation below {plain / 2:.2g}\ngot:      "
                        f"at least {found.min():.2g}, standard deviation {ours:.2g}", pytrace=False)


def pass_at_n(function: Callable) -> None:
    for drawn, right, n in ((5, 2, 1), (5, 2, 3), (8, 1, 4), (6, 4, 3), (4, 0, 2), (3, 3, 3)):
        choices = list(combinations([True] * right + [False] * (drawn - right), n))
        expect(f"drawn {drawn}, right {right}, n {n}", function(drawn, right, n), np.mean([*map(any, choices)]), 1e-9)


def self_consistency(function: Callable) -> None:
    for responses in (["Nora: mill;\nthe mill", "Nora: lake;\nthe lake", "the lake\n"], ["a\nb", "a\nc"], ["x"],
                      ["a;\nthe inn", "a;\nthe mill ", "b;\nthe mill", "a;\nthe inn", "a;\nthe hill"]):
        expect_same(f"responses {responses}", function(list(responses)), final_answer(most_agreed(responses)))


def asked_about_places_and_hands(n_each: int) -> Iterator[Instruction]:
    """Yield test questions, as many of each of four kinds."""
    left = dict.fromkeys(MAIN_KINDS, n_each)
    for one in instructions(10_000, seed=6, only="question"):
        if left.get(one.kind):
            left[one.kind] -= 1
            yield one
        if not any(left.values()):
            return


def answer_from_notes(function: Callable) -> None:
    wrong = []
    for one in asked_about_places_and_hands(75):
        notes = write_notes(Notebook(one.story, one.question).notes)
        expected = one.question.answer if one.answerable else REFUSAL
        if (got := function(notes, one.question.text)) != expected:
            wrong.append(f"the first wrong one: {notes} {one.question.text}\nexpected: {expected}\ngot:      {got}")
    if len(wrong) >= 6:
        pytest.fail(f"300 questions\nexpected: more than 98 % right\ngot:      {1 - len(wrong) / 300:.1%}\n{wrong[0]}",
                    pytrace=False)


def torch_gradient(function: Callable, *arrays: np.ndarray) -> list[np.ndarray]:
    """The gradients of a scalar function of torch tensors with respect to all of them."""
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    function(*tensors).backward()
    return [tensor.grad.numpy() for tensor in tensors]


def central_difference(function: Callable) -> None:
    for name, f, x, slope in (("sin", math.sin, 0.7, math.cos(0.7)), ("exp", math.exp, -1.0, math.exp(-1.0)),
                              ("x ** 3", lambda x: x**3, 2.0, 12.0)):
        expect(f"{name} at {x}, step 1e-5", function(f, x, 1e-5), slope, 1e-8)
    expect("x ** 3 at 2, step 0.5", function(lambda x: x**3, 2.0, 0.5), 12.25, 1e-9)


def unbroadcast_gradient(function: Callable) -> None:
    for shape, large in (((3,), (2, 3)), ((2, 1), (2, 3)), ((), (2, 2)), ((1, 3), (4, 2, 3)), ((2, 3), (2, 3))):
        grad = np.arange(math.prod(large), dtype=float).reshape(large)
        wanted, _ = torch_gradient(lambda x, g: (x.expand(g.shape) * g).sum(), np.zeros(shape), grad)
        expect(f"a gradient of shape {large}, the numbers from 0 up, and shape {shape}", function(grad, shape), wanted)


def normal_arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape) for shape in shapes]


def matmul_gradients(function: Callable) -> None:
    a, b, grad = normal_arrays((2, 3), (3, 4), (2, 4))
    wanted = torch_gradient(lambda x, y: ((x @ y) * torch.tensor(grad)).sum(), a, b)
    got = function(a, b, grad)
    for i, name in enumerate("ab"):
        expect(f"a (2, 3), b (3, 4): gradient of {name}", got[i] if isinstance(got, tuple) else got, wanted[i])


def softmax_gradient(function: Callable) -> None:
    x, grad = normal_arrays((2, 5), (2, 5))
    wanted, = torch_gradient(lambda t: (t.softmax(-1) * torch.tensor(grad)).sum(), x)
    p = torch.tensor(x).softmax(-1).numpy()
    expect(f"p = {p.round(3).tolist()}, grad = {grad.round(3).tolist()}", function(p, grad), wanted)


def cross_entropy_gradient(function: Callable) -> None:
    logits, labels = normal_arrays((3, 4))[0] * [[1], [10], [1000]], np.array([0, 3, 1])
    wanted, = torch_gradient(lambda t: torch.nn.functional.cross_entropy(t, torch.tensor(labels)), logits)
    expect(f"logits {logits.round(2).tolist()}, labels {labels.tolist()}", function(logits.copy(), labels), wanted)


def layer_norm_gradient(function: Callable) -> None:
    x, grad = normal_arrays((3, 4), (3, 4))
    for eps in (1e-5, 0.5):
        def loss(t: torch.Tensor, eps: float = eps) -> torch.Tensor:
            return (torch.nn.functional.layer_norm(t, (4,), eps=eps) * torch.tensor(grad)).sum()

        expect(f"x = {x.round(3).tolist()}, grad = {grad.round(3).tolist()}, eps {eps}", function(x, grad, eps),
               torch_gradient(loss, x)[0])


def clip_by_norm(function: Callable) -> None:
    for grads, max_norm in (([[3.0], [4.0]], 1.0), ([[3.0], [4.0]], 10.0), ([[1.0, 2.0, 2.0], [0.0]], 1.5)):
        parameters = [torch.zeros(len(grad), dtype=torch.float64) for grad in grads]
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = torch.tensor(grad, dtype=torch.float64)
        torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        got = function([np.array(grad) for grad in grads], max_norm)
        expect(f"gradients {grads}, max_norm {max_norm}", np.concatenate(got) if isinstance(got, list) else got,
               torch.cat([parameter.grad for parameter in parameters]).numpy())


def adam_step(function: Callable) -> None:
    gradients = normal_arrays((4, 3))[0]
    parameter = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], 0.1, betas=(0.8, 0.9))
    state = (np.ones(3), np.zeros(3), np.zeros(3))
    for step, grad in enumerate(gradients, 1):
        got = function(state[0], grad, state[1], state[2], step, 0.1, (0.8, 0.9))
        state = got if isinstance(got, tuple) else (got, *state[1:])
        parameter.grad = torch.tensor(grad)
        optimizer.step()
        expect(f"parameters of ones, gradients {gradients[:step].round(3).tolist()}, lr 0.1, betas (0.8, 0.9), after "
               f"step {step}", state[0], parameter.detach().numpy())


def dropout(function: Callable) -> None:
    x = np.random.default_rng(1).normal(size=(300, 400))
    for rate in (0.0, 0.25, 0.8):
        got = np.asarray(function(x, rate, np.random.default_rng(0)))
        expect(f"x of shape (300, 400), rate {rate}: shape", got.shape, x.shape)
        expect(f"x of shape (300, 400), rate {rate}: the share of zeros", (got == 0).mean(), rate, 0.01)
        expect(f"x of shape (300, 400), rate {rate}: what is left, divided by x", np.unique((got / x).round(6)),
               np.unique([0.0, round(1 / (1 - rate), 6)] if rate else [1.0]))


def cross_correlate(function: Callable) -> None:
    for image, filter in (normal_arrays((4, 5), (2, 3)), normal_arrays((3, 3), (3, 3)), normal_arrays((2, 6), (1, 1))):
        wanted = torch.nn.functional.conv2d(torch.tensor(image)[None, None], torch.tensor(filter)[None, None])[0, 0]
        expect(f"image {image.round(2).tolist()}, filter {filter.round(2).tolist()}", function(image, filter),
               wanted.numpy())


def lstm_step(function: Callable) -> None:
    x, h, c, *weights = normal_arrays((2, 3), (2, 4), (2, 4), (3, 16), (4, 16), (16,))
    cell = torch.nn.LSTMCell(3, 4, dtype=torch.float64)
    order = np.array([1, 0, 2, 3])  # PyTorch's gates are enter, forget, candidate, leave
    turned = [torch.tensor(w.reshape(*w.shape[:-1], 4, 4)[..., order, :].reshape(w.shape)) for w in weights]
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    made = dict(zip(names, (turned[0].T, turned[1].T, turned[2], torch.zeros(16, dtype=torch.float64)), strict=True))
    wanted = torch.func.functional_call(cell, made, (torch.tensor(x), (torch.tensor(h), torch.tensor(c))))
    got = function(x, h, c, *weights)
    for i, name in enumerate(("state", "cell")):
        expect(f"x (2, 3), width 4: the new {name}", got[i] if isinstance(got, tuple) else got, wanted[i].detach())


def causal_attention(function: Callable) -> None:
    for T, D in ((1, 2), (4, 3)):
        arrays = normal_arrays((T, D), (T, D), (T, D))
        batch = [torch.tensor(array)[None] for array in arrays]
        wanted = torch.nn.functional.scaled_dot_product_attention(*batch, is_causal=True)[0]
        expect(f"T {T}, D {D}, queries {arrays[0].round(2).tolist()}", function(*arrays), wanted.numpy())


CHECKS: dict[str, list[Callable[[Callable], None]]] = {
    "ch05_classification": [last_real_token, majority_accuracy, merged_weight, balanced_weights, calibration_gap,
                            bootstrap_interval, mcnemar_p, stratified_rows, order_features],
    "ch06_instruction": [loss_mask, padded_targets, pack_lengths, bradley_terry, dpo_gradient_weight, gae,
                         group_relative, clipped_objective, kl_estimate_better, pass_at_n, self_consistency,
                         answer_from_notes],
    "appendix_b": [central_difference, unbroadcast_gradient, matmul_gradients, softmax_gradient, cross_entropy_gradient,
                   layer_norm_gradient, clip_by_norm, adam_step, dropout, cross_correlate, lstm_step, causal_attention],
}
