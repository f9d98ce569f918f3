"""Checks of appendix B's exercises, against torch."""

import math
from collections.abc import Callable

import numpy as np
import torch

from exercise_checks.expect import expect


def torch_gradient(function: Callable, *arrays: np.ndarray) -> list[np.ndarray]:
    """The gradients of a scalar function of torch tensors with respect to all of them."""
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    function(*tensors).backward()
    return [tensor.grad.numpy() for tensor in tensors]


def central_difference(function: Callable) -> None:
    for name, f, x, slope in (
        ("sin", math.sin, 0.7, math.cos(0.7)),
        ("exp", math.exp, -1.0, math.exp(-1.0)),
        ("x ** 3", lambda x: x**3, 2.0, 12.0),
    ):
        expect(f"{name} at {x}, step 1e-5", function(f, x, 1e-5), slope, 1e-8)
    expect("x ** 3 at 2, step 0.5", function(lambda x: x**3, 2.0, 0.5), 12.25, 1e-9)


def unbroadcast_gradient(function: Callable) -> None:
    for shape, large in (
        ((3,), (2, 3)),
        ((2, 1), (2, 3)),
        ((), (2, 2)),
        ((1, 3), (4, 2, 3)),
        ((2, 3), (2, 3)),
    ):
        grad = np.arange(math.prod(large), dtype=float).reshape(large)
        expected, _ = torch_gradient(
            lambda x, g: (x.expand(g.shape) * g).sum(), np.zeros(shape), grad
        )
        expect(
            f"a gradient of shape {large}, the numbers from 0 up, and shape {shape}",
            function(grad, shape),
            expected,
        )


def normal_arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape) for shape in shapes]


def matmul_gradients(function: Callable) -> None:
    a, b, grad = normal_arrays((2, 3), (3, 4), (2, 4))
    expected = torch_gradient(lambda x, y: ((x @ y) * torch.tensor(grad)).sum(), a, b)
    got = function(a, b, grad)
    for i, name in enumerate("ab"):
        expect(
            f"a (2, 3), b (3, 4): gradient of {name}",
            got[i] if isinstance(got, tuple) else got,
            expected[i],
        )


def softmax_gradient(function: Callable) -> None:
    x, grad = normal_arrays((2, 5), (2, 5))
    (expected,) = torch_gradient(lambda t: (t.softmax(-1) * torch.tensor(grad)).sum(), x)
    p = torch.tensor(x).softmax(-1).numpy()
    expect(
        f"p = {p.round(3).tolist()}, grad = {grad.round(3).tolist()}", function(p, grad), expected
    )


def cross_entropy_gradient(function: Callable) -> None:
    logits, labels = normal_arrays((3, 4))[0] * [[1], [10], [1000]], np.array([0, 3, 1])
    (expected,) = torch_gradient(
        lambda t: torch.nn.functional.cross_entropy(t, torch.tensor(labels)), logits
    )
    expect(
        f"logits {logits.round(2).tolist()}, labels {labels.tolist()}",
        function(logits.copy(), labels),
        expected,
    )


def layer_norm_gradient(function: Callable) -> None:
    x, grad = normal_arrays((3, 4), (3, 4))
    for eps in (1e-5, 0.5):

        def loss(t: torch.Tensor, eps: float = eps) -> torch.Tensor:
            return (torch.nn.functional.layer_norm(t, (4,), eps=eps) * torch.tensor(grad)).sum()

        expect(
            f"x = {x.round(3).tolist()}, grad = {grad.round(3).tolist()}, eps {eps}",
            function(x, grad, eps),
            torch_gradient(loss, x)[0],
        )


def clip_by_norm(function: Callable) -> None:
    for grads, max_norm in (
        ([[3.0], [4.0]], 1.0),
        ([[3.0], [4.0]], 10.0),
        ([[1.0, 2.0, 2.0], [0.0]], 1.5),
    ):
        parameters = [torch.zeros(len(grad), dtype=torch.float64) for grad in grads]
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = torch.tensor(grad, dtype=torch.float64)
        torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        got = function([np.array(grad) for grad in grads], max_norm)
        expect(
            f"gradients {grads}, max_norm {max_norm}",
            np.concatenate(got) if isinstance(got, list) else got,
            torch.cat([parameter.grad for parameter in parameters]).numpy(),
        )


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
        expect(
            f"parameters of ones, gradients {gradients[:step].round(3).tolist()}, lr 0.1, betas"
            f" (0.8, 0.9), after step {step}",
            state[0],
            parameter.detach().numpy(),
        )


def dropout(function: Callable) -> None:
    x = np.random.default_rng(1).normal(size=(300, 400))
    for rate in (0.0, 0.25, 0.8):
        got = np.asarray(function(x, rate, np.random.default_rng(0)))
        expect(f"x of shape (300, 400), rate {rate}: shape", got.shape, x.shape)
        expect(
            f"x of shape (300, 400), rate {rate}: the fraction of zeros",
            (got == 0).mean(),
            rate,
            0.01,
        )
        expect(
            f"x of shape (300, 400), rate {rate}: what is left, divided by x",
            np.unique((got / x).round(6)),
            np.unique([0.0, round(1 / (1 - rate), 6)] if rate else [1.0]),
        )


def cross_correlate(function: Callable) -> None:
    for image, filter in (
        normal_arrays((4, 5), (2, 3)),
        normal_arrays((3, 3), (3, 3)),
        normal_arrays((2, 6), (1, 1)),
    ):
        expected = torch.nn.functional.conv2d(
            torch.tensor(image)[None, None], torch.tensor(filter)[None, None]
        )[0, 0]
        expect(
            f"image {image.round(2).tolist()}, filter {filter.round(2).tolist()}",
            function(image, filter),
            expected.numpy(),
        )


def lstm_step(function: Callable) -> None:
    x, h, c, *weights = normal_arrays((2, 3), (2, 4), (2, 4), (3, 16), (4, 16), (16,))
    cell = torch.nn.LSTMCell(3, 4, dtype=torch.float64)
    weight_ih, weight_hh, bias = (torch.tensor(weight) for weight in weights)
    state = {
        "weight_ih": weight_ih.T,
        "weight_hh": weight_hh.T,
        "bias_ih": bias,
        "bias_hh": torch.zeros_like(bias),
    }
    expected = torch.func.functional_call(
        cell, state, (torch.tensor(x), (torch.tensor(h), torch.tensor(c)))
    )
    got = function(x, h, c, *weights)
    for i, name in enumerate(("hidden state", "cell state")):
        expect(
            f"x (2, 3), width 4: the new {name}",
            got[i] if isinstance(got, tuple) else got,
            expected[i].detach(),
        )


def causal_attention(function: Callable) -> None:
    for T, D in ((1, 2), (4, 3)):
        arrays = normal_arrays((T, D), (T, D), (T, D))
        batch = [torch.tensor(array)[None] for array in arrays]
        expected = torch.nn.functional.scaled_dot_product_attention(*batch, is_causal=True)[0]
        expect(
            f"T {T}, D {D}, queries {arrays[0].round(2).tolist()}",
            function(*arrays),
            expected.numpy(),
        )


CHECKS = [
    central_difference,
    unbroadcast_gradient,
    matmul_gradients,
    softmax_gradient,
    cross_entropy_gradient,
    layer_norm_gradient,
    clip_by_norm,
    adam_step,
    dropout,
    cross_correlate,
    lstm_step,
    causal_attention,
]
