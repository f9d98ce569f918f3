"""Muon (Jordan et al. 2024): momentum, then the nearest orthogonal matrix as the update.

The averaged gradient G = U S V^T of a weight matrix is usually dominated by a few large singular
values. Muon steps along U V^T instead, so that all directions are learned equally fast. The
Newton-Schulz iteration approximates U V^T by matrix products alone: each round applies the odd
polynomial p(s) = a s + b s^3 + c s^5 to every singular value s and leaves the singular vectors as
they are.
"""

import math
from collections import defaultdict

import torch
from torch import Tensor
from torch.optim import Optimizer

from ch04_pretraining.parallel import full_tensor, shard_like

# Jordan's coefficients do not converge to 1: five rounds take every s from 0.002 to 1 to between
# about 0.7 and 1.2, and a smaller s grows almost 500-fold. A steep slope at 0 (A) lifts small
# singular values in few rounds, and the update need not be exactly orthogonal.
A, B, C = 3.4445, -4.7750, 2.0315
ROUNDS = 5


def orthogonalize_reference(matrix: Tensor) -> Tensor:
    """(m, n) -> (m, n): the Newton-Schulz iteration as its authors write it, in the dtype of
    `matrix`.
    """
    # wide, so that x x^T is the small product
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)  # no singular value exceeds 1 now
    for _ in range(ROUNDS):
        gram = x @ x.T  # U S^2 U^T, (m, m)
        x = A * x + (B * gram + C * gram @ gram) @ x  # U p(S) V^T, (m, n)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def orthogonalize(matrices: Tensor) -> Tensor:
    """(k, m, n) -> (k, m, n): `orthogonalize_reference` of k matrices at once, in their dtype.

    Every round multiplies x from the left by a polynomial of x x^T. For matrices at least twice as
    wide as high it is cheaper to collect these (m, m) polynomials and to multiply x by their
    product once, at the end. That squares the singular values and needs twice the digits, so in
    bfloat16 x is multiplied in every round.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalize(matrices.mT).mT
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    if matrices.dtype == torch.bfloat16 or matrices.shape[2] < 2 * matrices.shape[1]:
        for _ in range(ROUNDS):
            gram = x @ x.mT  # (k, m, m)
            # A x + (B gram + C gram^2) x, because baddbmm(x, y, z, beta=b, alpha=a) computes b x +
            # a y z in one kernel
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
        return x
    # Each factor is a polynomial of the first x x^T, so all are symmetric and commute. The Gram
    # matrix of `factor @ x` is therefore `factor @ gram @ factor`.
    gram = x @ x.mT
    factor = product = _polynomial(gram)
    for _ in range(ROUNDS - 1):
        gram = factor @ gram @ factor  # of `product @ x`
        factor = _polynomial(gram)
        product = factor @ product
    return product @ x


def _polynomial(gram: Tensor) -> Tensor:
    """(k, m, m) -> A + B gram + C gram^2, what one round multiplies by."""
    factor = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
    factor.diagonal(dim1=1, dim2=2).add_(A)
    return factor


class Muon(Optimizer):
    """Muon for 2-D weights, with Nesterov momentum and decoupled weight decay as in
    `torch.optim.Muon`.

    Matrices of one shape are orthogonalised together, in `dtype`. ValueError for a parameter that
    is no matrix.
    """

    def __init__(
        self,
        params,
        lr: float = 2e-2,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.ndim != 2:
                raise ValueError(
                    f"Muon updates matrices, not a parameter of shape {tuple(p.shape)}; "
                    "leave embeddings and vectors to AdamW"
                )

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[tuple(p.shape)].append(p)
            # Blocks repeat a few shapes: one batched product takes the place of many small ones.
            for parameters in by_shape.values():
                self._step_together(
                    parameters, **{k: group[k] for k in ("lr", "momentum", "weight_decay")}
                )

    def _step_together(
        self, parameters: list[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        gradients = [p.grad for p in parameters if p.grad is not None]
        averages = [self.state[p]["momentum_buffer"] for p in parameters]
        # averages = momentum * averages + (1 - momentum) * gradients. Their scale has no effect,
        # because `orthogonalize` normalises its input.
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        # Nesterov's look-ahead: the newest gradient is averaged in once more
        ahead = torch._foreach_lerp(gradients, averages, momentum)
        # Singular values are those of the whole matrix: with FSDP it is gathered here and the
        # update cut into shards again.
        stacked = orthogonalize(torch.stack([full_tensor(a) for a in ahead]).to(self.dtype))
        updates = [
            shard_like(p, u)
            for p, u in zip(parameters, stacked.to(parameters[0].dtype), strict=True)
        ]
        # decoupled: the decay does not pass through momentum and orthogonalisation
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        # An orthogonal (rows, columns) matrix maps inputs of root mean square 1 to outputs of at
        # most sqrt(columns / rows). The factor makes up for that in tall matrices, as in Jordan's
        # code.
        rows, columns = parameters[0].shape
        torch._foreach_add_(parameters, updates, alpha=-lr * math.sqrt(max(1, rows / columns)))
