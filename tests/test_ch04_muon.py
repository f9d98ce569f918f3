"""Muon against torch.optim.Muon in float64, against the iteration as its authors write it, and
against the SVD.
"""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ch04_pretraining.muon import Muon, orthogonalize, orthogonalize_reference

SIZES = st.integers(1, 24)


def matrices(k: int, rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(
        k, rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def with_singular_values(values: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """(1, rows, columns) in float64 with the given singular values."""
    left, _, right = torch.linalg.svd(matrices(1, rows, columns), full_matrices=False)
    return left * values.double() @ right


@settings(max_examples=40)
@given(
    st.integers(1, 3), SIZES, SIZES, st.floats(1e-3, 0.1), st.floats(0.0, 0.99), st.floats(0.0, 0.5)
)
def test_it_equals_torchs_muon(k, rows, columns, lr, momentum, weight_decay):
    """Oracle: `torch.optim.Muon`, whose iteration is kept in float64 here, for several steps of one
    rate and another; tall, wide and square matrices, of two shapes at once.
    """
    ours = [nn.Parameter(m) for shape in ((rows, columns), (5, 3)) for m in matrices(k, *shape)]
    theirs = copy.deepcopy(ours)
    settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "bfloat16", torch.Tensor.double)
        optimizers = (
            Muon(ours, dtype=torch.float64, **settings),
            torch.optim.Muon(theirs, **settings),
        )
        for step in range(3):
            for number, (p, q) in enumerate(zip(ours, theirs, strict=True)):
                p.grad = matrices(1, *p.shape, seed=10 * step + number)[0]
                q.grad = p.grad.clone()
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = lr / (step + 1)
                optimizer.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, atol=1e-10, rtol=1e-9)


@settings(max_examples=40)
@given(st.integers(1, 4), SIZES, SIZES)
def test_matrices_together_equal_each_alone(k, rows, columns):
    """Oracle: the authors' iteration, one matrix after the other, in float64."""
    batch = matrices(k, rows, columns)
    expected = torch.stack([orthogonalize_reference(matrix) for matrix in batch])
    torch.testing.assert_close(orthogonalize(batch), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("shape", [(24, 24), (24, 96), (96, 24)])
@pytest.mark.parametrize(
    "values",
    [torch.ones(24), torch.logspace(0, -6, 24), torch.arange(24) < 1.0],
    ids=["equal", "from 1 to a millionth", "rank one"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.25)])
def test_rounding_never_blows_up(shape, values, dtype, tolerance):
    """Oracle: the same matrix in float64. Faint directions grow five hundredfold, and so would
    rounding errors in them; nothing may exceed the largest value that the iteration allows, 1.21.
    """
    matrix = with_singular_values(values, *shape)
    result = orthogonalize(matrix.to(dtype)).double()
    assert torch.linalg.matrix_norm(result, 2).max() < 1.21 + tolerance
    loud = values > 0.1  # directions that the rounding of the matrix itself leaves alone
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found, expected = (
        left[0, :, :].T[loud[: left.shape[2]]] @ m[0] @ right[0, loud[: right.shape[1]]].T
        for m in (result, orthogonalize(matrix))
    )
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", [(24, 24), (24, 96), (96, 24)])
def test_singular_values_end_near_one(shape):
    """Oracle: the singular value decomposition: directions as before, all strengths between 0.67
    and 1.21.
    """
    matrix = matrices(1, *shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    strengths = left.mT @ orthogonalize(matrix) @ right.mT  # diagonal if the directions are kept
    values = strengths[0].diagonal()
    torch.testing.assert_close(strengths[0], torch.diag(values), atol=1e-9, rtol=0)
    assert values.max() < 1.21
    assert values[:-2].min() > 0.67  # of random square matrices the faintest are still growing


def test_a_matrix_without_a_gradient_stays():
    """Oracle: what it was; its neighbour of the same shape moves."""
    stays, moves = (nn.Parameter(torch.ones(3, 4)) for _ in range(2))
    moves.grad = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    Muon([stays, moves]).step()
    assert torch.equal(stays, torch.ones(3, 4))
    assert not torch.equal(moves, torch.ones(3, 4))


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"not a parameter of shape \(3,\)"):
        Muon([nn.Parameter(torch.ones(3))])
