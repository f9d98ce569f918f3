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

# Jordan's coefficients: any s in (0, 1] ends between about 0.7 and 1.2
A, B, C = 3.4445, -4.7750, 2.0315
ROUNDS = 5


def orthogonalize_reference(matrix: Tensor) -> Tensor:
    """(m, n) -> (m, n): the Newton-Schulz iteration as its authors write it, in the dtype of
    `matrix`.
    """
    # wide, so that x x^T is the small product
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)  # all singular values are at most 1
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
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
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
        return x
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
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, averages, momentum)  # Nesterov
        stacked = orthogonalize(torch.stack([full_tensor(a) for a in ahead]).to(self.dtype))
        updates = [
            shard_like(p, u)
            for p, u in zip(parameters, stacked.to(parameters[0].dtype), strict=True)
        ]
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        # a tall matrix's update is lengthened, as in its authors' code
        rows, columns = parameters[0].shape
        torch._foreach_add_(parameters, updates, alpha=-lr * math.sqrt(max(1, rows / columns)))
