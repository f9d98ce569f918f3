"""Appendix B's engine: each operation's value and gradient on random shapes, against PyTorch and
finite differences.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes
from torch.nn import functional as F

from appendix_b import functions as ours
from appendix_b.finite_differences import numerical_gradient
from appendix_b.graph import draw_graph
from appendix_b.losses import binary_cross_entropy, cross_entropy, mean_squared_error
from appendix_b.tensor import Tensor, no_grad

SHAPES = array_shapes(min_dims=1, max_dims=3, max_side=4)
SEEDS = st.integers(0, 10_000)


def check(function, reference, *arrays: np.ndarray) -> None:
    """Value and gradients of `function` of Tensors equal those of `reference` of torch tensors and
    finite differences.

    The output is weighted by random numbers, so that no gradient is by chance the same everywhere.
    """
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    out = function(*tensors)
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = reference(*theirs)
    assert out.dtype == np.float64
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    weights = np.random.default_rng(0).normal(size=out.shape)
    out.backward(weights)
    expected.backward(torch.tensor(weights))
    for i, (tensor, other) in enumerate(zip(tensors, theirs, strict=True)):
        assert tensor.grad.shape == tensor.shape
        np.testing.assert_allclose(tensor.grad, other.grad.numpy(), rtol=1e-8, atol=1e-10)

        def loss(x: np.ndarray, i: int = i) -> float:
            moved = [Tensor(x if j == i else array) for j, array in enumerate(arrays)]
            return float((function(*moved).data * weights).sum())

        np.testing.assert_allclose(
            tensor.grad, numerical_gradient(loss, arrays[i]), rtol=1e-5, atol=1e-6
        )


def normal(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


BINARY = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / (b * b + 0.5),
    "numbers": lambda a, b: 2 - (3 * a + 1) / 4 + 1 / (b * b + 1),
    "twice the same": lambda a, b: a * a + b * a,
}


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=15)
@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), seed=SEEDS)
def test_arithmetic_with_broadcasting(name, shapes, seed):
    check(BINARY[name], BINARY[name], *normal(seed, *shapes.input_shapes))


UNARY = {
    "exp": (ours.exp, torch.exp),
    "log": (lambda x: ours.log(x * x + 0.1), lambda x: torch.log(x * x + 0.1)),
    "tanh": (ours.tanh, torch.tanh),
    "sigmoid": (ours.sigmoid, torch.sigmoid),
    "relu": (ours.relu, torch.relu),
    "gelu": (ours.gelu, lambda x: F.gelu(x, approximate="tanh")),
    "power": (lambda x: (x * x + 1) ** -0.5 + x**3, lambda x: (x * x + 1) ** -0.5 + x**3),
    "negative": (lambda x: -x, torch.neg),
}


@pytest.mark.parametrize("name", UNARY)
@settings(max_examples=10)
@given(shape=SHAPES, seed=SEEDS)
def test_elementwise_functions(name, shape, seed):
    check(*UNARY[name], *normal(seed, shape))


ALONG_AN_AXIS = {
    "softmax": (ours.softmax, torch.softmax),
    "log_softmax": (ours.log_softmax, torch.log_softmax),
    "logsumexp": (ours.logsumexp, torch.logsumexp),
    "sum": (lambda x, axis: x.sum(axis), torch.sum),
    "sum, kept": (
        lambda x, axis: x.sum(axis, keepdims=True),
        lambda x, dim: x.sum(dim, keepdim=True),
    ),
    "mean": (lambda x, axis: x.mean(axis), torch.mean),
    "max": (lambda x, axis: x.max(axis), torch.amax),
    "sum of all": (lambda x, axis: x.sum(), lambda x, dim: x.sum()),
    "mean of all": (lambda x, axis: x.mean(), lambda x, dim: x.mean()),
    "max of all": (lambda x, axis: x.max(), lambda x, dim: x.amax()),
}


@pytest.mark.parametrize("name", ALONG_AN_AXIS)
@settings(max_examples=15)
@given(shape=SHAPES, seed=SEEDS, draw=st.data())
def test_reductions_and_softmax(name, shape, seed, draw):
    axis = draw.draw(st.integers(-len(shape), len(shape) - 1))
    function, reference = ALONG_AN_AXIS[name]
    check(lambda x: function(x, axis), lambda x: reference(x, axis), *normal(seed, shape))


@pytest.mark.parametrize("function", [Tensor.sum, Tensor.mean, Tensor.max])
def test_reductions_over_several_axes(function):
    reference = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[function.__name__]
    check(lambda x: function(x, (0, 2)), lambda x: reference(x, (0, 2)), *normal(0, (2, 3, 4)))


def test_equal_maxima_share_the_gradient():
    """Oracle: torch.amax, which shares it too."""
    check_only_torch = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    x = Tensor(check_only_torch, requires_grad=True)
    other = torch.tensor(check_only_torch, requires_grad=True)
    x.max(axis=1).sum().backward()
    other.amax(1).sum().backward()
    np.testing.assert_allclose(x.grad, other.grad.numpy())


@settings(max_examples=25)
@given(
    batch=mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3),
    n=st.integers(1, 4),
    k=st.integers(1, 4),
    m=st.integers(1, 4),
    seed=SEEDS,
)
def test_matrix_products(batch, n, k, m, seed):
    left, right = batch.input_shapes
    check(lambda a, b: a @ b, lambda a, b: a @ b, *normal(seed, (*left, n, k), (*right, k, m)))


INDICES = {
    "row": 1,
    "column": (slice(None), 2),
    "slice": (slice(0, 3, 2), slice(1, None)),
    "backwards from the end": (Ellipsis, -1),
    "picked twice": (np.array([0, 2, 2, 1]),),
    "pairs": (np.array([0, 1, 0]), np.array([3, 3, 3])),
    "list": ([2, 0, 2],),
    "mask": np.arange(12).reshape(3, 4) % 5 == 0,
}


@pytest.mark.parametrize("name", INDICES)
def test_indexing(name):
    index = INDICES[name]
    check(
        lambda x: x[index] * x[index] + x.sum(),
        lambda x: x[index] * x[index] + x.sum(),
        *normal(3, (3, 4)),
    )


@settings(max_examples=15)
@given(shape=array_shapes(min_dims=2, max_dims=4, max_side=3), seed=SEEDS, draw=st.data())
def test_reshape_transpose_stack(shape, seed, draw):
    order = draw.draw(st.permutations(range(len(shape))))
    axis = draw.draw(st.integers(-len(shape), len(shape) - 1))
    arrays = normal(seed, shape, shape)
    check(lambda x: x.reshape(-1), lambda x: x.reshape(-1), arrays[0])
    check(lambda x: x.transpose(*order), lambda x: x.permute(*order), arrays[0])
    check(lambda a, b: ours.stack([a, b], axis), lambda a, b: torch.stack([a, b], axis), *arrays)


def test_transpose_without_axes_reverses_them():
    check(lambda x: x.transpose(), lambda x: x.permute(2, 1, 0), *normal(0, (2, 3, 4)))


@settings(max_examples=15)
@given(shape=array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=4), seed=SEEDS)
def test_layer_norm(shape, seed):
    """Also against its composition of single operations."""
    width = shape[-1:]
    arrays = normal(seed, shape, width, width)

    def composed(x, scale, shift):
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred * ((centred * centred).mean(-1, keepdims=True) + 1e-5) ** -0.5 * scale + shift
        )

    check(ours.layer_norm, lambda x, a, b: F.layer_norm(x, width, a, b), *arrays)
    np.testing.assert_allclose(
        composed(*map(Tensor, arrays)).data, ours.layer_norm(*map(Tensor, arrays)).data
    )


@settings(max_examples=15)
@given(shape=array_shapes(min_dims=1, max_dims=3, max_side=4), seed=SEEDS)
def test_embedding_lookup(shape, seed):
    ids = np.random.default_rng(seed).integers(0, 4, shape)
    check(
        lambda table: ours.embedding(table, ids),
        lambda table: F.embedding(torch.tensor(ids), table),
        *normal(seed, (6, 3)),
    )


@settings(max_examples=20)
@given(shape=array_shapes(min_dims=2, max_dims=3, max_side=4), seed=SEEDS)
def test_losses(shape, seed):
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=shape)
    labels = rng.integers(0, shape[-1], shape[:-1])
    bits = rng.integers(0, 2, shape)
    logits = 3 * rng.normal(size=shape)
    weights = rng.random(shape[:-1])
    flat = torch.tensor(labels.ravel())
    check(
        lambda x: mean_squared_error(x, targets),
        lambda x: F.mse_loss(x, torch.tensor(targets)),
        logits,
    )
    check(
        lambda x: binary_cross_entropy(x, bits),
        lambda x: F.binary_cross_entropy_with_logits(x, torch.tensor(bits, dtype=torch.float64)),
        logits,
    )
    check(
        lambda x: cross_entropy(x, labels),
        lambda x: F.cross_entropy(x.flatten(0, -2), flat),
        logits,
    )
    check(
        lambda x: cross_entropy(x, labels, weights),
        lambda x: (
            (
                F.cross_entropy(x.flatten(0, -2), flat, reduction="none")
                * torch.tensor(weights.ravel())
            ).sum()
            / weights.sum()
        ),
        logits,
    )


def test_nothing_overflows():
    """Oracle: the exact values at the ends of float32."""
    far = Tensor(np.array([[-1e4, 1e4]], dtype=np.float32), requires_grad=True)
    loss = cross_entropy(far, np.array([0]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert far.grad.tolist() == [[-1.0, 1.0]]
    assert ours.softmax(far).data.tolist() == [[0.0, 1.0]]
    assert ours.logsumexp(far).item() == 1e4
    assert ours.sigmoid(far).data.tolist() == [[0.0, 1.0]]
    assert binary_cross_entropy(far, np.array([[1, 0]])).item() == pytest.approx(1e4)


def test_gradients_add_up_and_stop():
    """Two backward passes double; what two leaves share stays whole; constants and no_grad learn
    nothing.
    """
    x, y = (Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    for _ in range(2):
        (x + y).sum().backward()
    assert x.grad.tolist() == y.grad.tolist() == [2.0, 2.0]
    constant = Tensor([5.0, 5.0])
    (x * constant).sum().backward()
    assert x.grad.tolist() == [7.0, 7.0]
    assert constant.grad is None
    with no_grad():
        assert not (x * y).requires_grad
    assert (x * y).requires_grad


def test_a_deep_graph_needs_no_recursion():
    x = Tensor([1.0], requires_grad=True)
    y = x
    for _ in range(5000):
        y = y * 1.001
    y.backward()
    assert x.grad.item() == pytest.approx(1.001**5000, rel=1e-3)


def test_retained_gradients_of_intermediate_results():
    """Oracle: torch's retain_grad."""
    a = Tensor(np.array([0.5, -1.0]), requires_grad=True)
    middle = a * a
    (ours.tanh(middle) + middle).sum().backward(retain_grads=True)
    b = torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)
    other = b * b
    other.retain_grad()
    (torch.tanh(other) + other).sum().backward()
    np.testing.assert_allclose(middle.grad, other.grad.numpy())


def test_the_drawn_graph_is_the_graph():
    """Names, numbers and gradients by hand; an arrow for each use, from left to right; nothing
    lies on another.
    """
    a, b = (
        Tensor(np.array(value), requires_grad=True, name=name)
        for name, value in (("a", 2.0), ("b", -3.0))
    )
    product = a * b
    result = product * product + a * 10.0
    result.backward(retain_grads=True)
    axes = draw_graph(result).axes[0]
    nodes = [text for text in axes.texts if text.get_text()]
    assert sorted(text.get_text() for text in nodes) == sorted(
        [
            "a\n2\ngrad 46",
            "b\n-3\ngrad -24",
            "×\n-6\ngrad -12",
            "×\n36\ngrad 1",
            "constant\n10",
            "×\n20\ngrad 1",
            "+\n56\ngrad 1",
        ]
    )
    arrows = [text for text in axes.texts if not text.get_text()]
    assert len(arrows) == 8
    assert all(arrow.xyann[0] < arrow.xy[0] for arrow in arrows)
    assert len({text.get_position() for text in nodes}) == len(nodes)


def test_types_are_kept():
    """float32 stays float32 through plain numbers, whole numbers become float32, float64 stays."""
    assert (2.5 * Tensor([1, 2]) + np.float32(1)).dtype == np.float32
    assert (np.ones(2) * Tensor(np.ones(2))).dtype == np.float64
    x = Tensor(np.ones((3, 4), dtype=np.float32), requires_grad=True)
    ours.log_softmax(ours.gelu(ours.layer_norm(x, x[0], x[1])) @ x.transpose()).mean().backward()
    assert x.grad.dtype == np.float32


def test_refusals_name_the_remedy():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(ValueError, match=r"not from shape \(2, 3\); sum it"):
        x.backward()
    with pytest.raises(ValueError, match="add an axis"):
        x @ x[0]
    with pytest.raises(ValueError, match=r"predictions have shape \(2, 3\), targets \(2,\)"):
        mean_squared_error(x, np.ones(2))


def test_the_engine_needs_numpy_alone():
    """Importing the engine and the layers in a fresh process loads no framework."""
    script = (
        "import sys\nfrom appendix_b import gpt, convolution, recurrent, optimizers, schedules,"
        " losses\nsys.exit(' '.join({'torch', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules))"
        " or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr.strip()) == (0, "")
