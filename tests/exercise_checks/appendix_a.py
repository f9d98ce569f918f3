"""Appendix A's checks: oracle is torch itself, doing the same in its own way."""

import io
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from exercise_checks.expect import expect, expect_same


def plain(value):
    """Tensors, also within tuples, as lists."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return [plain(part) for part in value] if isinstance(value, tuple) else value


def flat(tensors):
    """All numbers of a list of tensors in one row; anything else as it is."""
    return torch.cat([one.flatten() for one in tensors]) if isinstance(tensors, list) else tensors


def contiguous_strides(function: Callable) -> None:
    for shape in ((4,), (2, 3), (5, 1, 7), (2, 3, 4, 5)):
        expect_same(f"shape {shape}", function(shape), torch.empty(shape).stride())


def overlapping_windows(function: Callable) -> None:
    for x, size, step in (
        (torch.arange(7.0), 3, 2),
        (torch.arange(20.0)[1::2], 4, 1),
        (torch.arange(5.0), 5, 9),
    ):
        what = f"x {x.tolist()} of stride {x.stride(0)}, size {size}, step {step}"
        got = function(x, size, step)
        expect(what, got, x.unfold(0, size, step).tolist())
        if (
            got.data_ptr() != x.data_ptr()
            or got.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
        ):
            pytest.fail(f"{what}\nexpected: a view of x\ngot:      a copy", pytrace=False)


def broadcast_shape(function: Callable) -> None:
    for a, b in (((3, 1), (4,)), ((2, 1, 5), (7, 1)), ((), (2, 2)), ((6,), (1,)), ((0, 1), (1, 3))):
        expect_same(f"shapes {a} and {b}", function(a, b), tuple(torch.broadcast_shapes(a, b)))
    for a, b in (((3,), (4,)), ((2, 3), (3, 2))):
        try:
            got = function(a, b)
        except ValueError:
            continue
        pytest.fail(f"shapes {a} and {b}\nexpected: a ValueError\ngot:      {got}", pytrace=False)


def squared_distances(function: Callable) -> None:
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    b = torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    expect(f"a {a.tolist()}, b {b.tolist()}", function(a, b), [[1, 9], [18, 16], [1, 5]])
    a, b = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), torch.ones(4, 5)
    expect("a (6, 5) random, b (4, 5) of ones", function(a, b), torch.cdist(a, b).square(), 1e-4)


def round_to_bfloat16(function: Callable) -> None:
    ties = torch.tensor([0x3F808000, 0x3F818000, 0x3F808001, 0x3FFF8000], dtype=torch.int32).view(
        torch.float32
    )
    many = torch.randn(200, generator=torch.Generator().manual_seed(0)) * torch.logspace(
        -30, 30, 200
    )
    for what, x in (
        ("0, 1, -2, 0.1, -1000.5", torch.tensor([0.0, 1.0, -2.0, 0.1, -1000.5])),
        ("half way between two neighbours", ties),
        ("200 numbers from 1e-30 to 1e30", many),
    ):
        got = function(x.clone())
        expect(
            f"{what}: share of numbers with the right bits",
            (got == x.bfloat16().float()).float().mean() if isinstance(got, torch.Tensor) else got,
            1.0,
            0,
        )


def mean_gradient(function: Callable) -> None:
    torch.manual_seed(0)
    network, features, labels = nn.Linear(3, 4), torch.randn(9, 3), torch.arange(9) % 4
    expected = torch.autograd.grad(
        F.cross_entropy(network(features), labels), list(network.parameters())
    )
    for sizes in ([9], [5, 4], [1, 6, 2]):
        batches = list(zip(features.split(sizes), labels.split(sizes), strict=True))
        F.cross_entropy(network(features), labels).backward()  # what an earlier step left behind
        expect(
            f"nn.Linear(3, 4), batches of {sizes} rows, gradients of an earlier step in .grad",
            flat(function(network, F.cross_entropy, batches)),
            flat(list(expected)),
        )


def straight_through_round(function: Callable) -> None:
    x = torch.tensor([-1.6, 0.2, 0.5, 2.7], requires_grad=True)
    rounded = function(x)
    expect(
        f"x {x.tolist()}: the value",
        rounded.detach() if isinstance(rounded, torch.Tensor) else rounded,
        x.detach().round().tolist(),
    )
    (slope,) = torch.autograd.grad((3 * rounded**2).sum(), x)
    expect(f"x {x.tolist()}: the gradient of 3 round(x)²", slope, (6 * x.detach().round()).tolist())


def second_derivative(function: Callable) -> None:
    x = torch.tensor([-1.0, 0.5, 2.0])
    for name, one, expected in (
        ("x³", lambda x: x**3, 6 * x),
        ("sin x", torch.sin, -x.sin()),
        ("log(1 + eˣ)", F.softplus, x.sigmoid() * (1 - x.sigmoid())),
    ):
        expect(f"{name} at {x.tolist()}", function(one, x.clone()), expected)


def decay_groups(function: Callable) -> None:
    network = nn.Sequential(
        nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 5, bias=False)
    )
    network[3].weight = network[0].weight
    network[2].bias.requires_grad_(False)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    got = function(network, 0.1)
    if isinstance(got, list):
        got = [
            (group["weight_decay"], sorted(names[id(one)] for one in group["params"]))
            for group in got
        ]
    expect_same(
        "Embedding(5, 4), LayerNorm(4), Linear(4, 4) with a frozen bias, a last layer that shares"
        " the first matrix",
        got,
        [(0.1, ["0.weight", "2.weight"]), (0.0, ["1.bias", "1.weight"])],
    )


def momentum_step(function: Callable) -> None:
    for nesterov in (False, True):
        weights = [torch.tensor([1.0, -2.0, 3.0], requires_grad=True) for _ in range(2)]
        optimizer = torch.optim.SGD([weights[0]], lr=0.1, momentum=0.9, nesterov=nesterov)
        velocity = torch.zeros(3)
        for step in range(4):
            weights[0].grad = torch.tensor([0.5, step, -1.0])
            optimizer.step()
            function(weights[1], weights[0].grad.clone(), velocity, 0.1, 0.9, nesterov)
            expect(
                f"weight [1, -2, 3], lr 0.1, momentum 0.9, nesterov {nesterov}: weight after step"
                f" {step + 1}",
                weights[1].detach(),
                weights[0].detach().tolist(),
            )


def pad_and_collate(function: Callable) -> None:
    for pad in (0, 9):
        batch = [(torch.tensor([5, 6, 7]), 1), (torch.tensor([8]), 0), (torch.tensor([1, 2]), 3)]
        expected = nn.utils.rnn.pad_sequence(
            [ids for ids, _ in batch], batch_first=True, padding_value=pad
        ).tolist()
        expect_same(
            f"ids [5, 6, 7], [8], [1, 2] of classes 1, 0, 3, pad {pad}",
            plain(function(batch, pad)),
            [expected, [3, 1, 2], [1, 0, 3]],
        )


def slim_state(function: Callable) -> None:
    large = torch.randn(500, 400, generator=torch.Generator().manual_seed(0))
    state = {"rows": large[:2], "columns": large[:, :3], "whole": torch.ones(2, 2)}
    slim = function(dict(state))
    same = (
        isinstance(slim, dict)
        and list(slim) == list(state)
        and all(torch.equal(slim[name], state[name]) for name in state)
    )
    if not same:
        pytest.fail(
            "two views of a (500, 400) tensor\nexpected: the same names and numbers\ngot:     "
            f" {slim}",
            pytrace=False,
        )
    torch.save(slim, file := io.BytesIO())
    if file.tell() > 15_000:
        pytest.fail(
            "2,304 numbers in views of a tensor of 200,000\nexpected: a file below 15 kB\ngot:    "
            f"  {file.tell():,} bytes",
            pytrace=False,
        )


def combine_gradients(function: Callable) -> None:
    weight = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
    rows = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))

    def gradient(part: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad((part @ weight).square().mean(), weight)[0]

    for sizes in ([5, 5], [7, 3], [1, 2, 7]):
        expect(
            f"parts of {sizes} rows",
            function([gradient(part) for part in rows.split(sizes)], sizes),
            gradient(rows).tolist(),
        )


CHECKS = [
    contiguous_strides,
    overlapping_windows,
    broadcast_shape,
    squared_distances,
    round_to_bfloat16,
    mean_gradient,
    straight_through_round,
    second_derivative,
    decay_groups,
    momentum_step,
    pad_and_collate,
    slim_state,
    combine_gradients,
]
