"""A loss surface of two parameters, on which the path of an optimizer can be drawn."""

from collections.abc import Callable

import torch
from torch import Tensor

from appendix_a.training import OptimizerName, make_optimizer

START = (-4.0, 0.8)
LEARNING_RATES: dict[OptimizerName, float] = {"sgd": 0.018, "momentum": 0.01, "adam": 0.2}


def valley(x: Tensor, y: Tensor) -> Tensor:
    """A narrow valley, (x² + 100 y²) / 2: its curvature is 100 times larger across than along.

    >>> valley(torch.tensor(2.0), torch.tensor(1.0)).item()
    52.0
    """
    return (x**2 + 100 * y**2) / 2


def optimizer_path(
    name: OptimizerName,
    lr: float,
    steps: int,
    surface: Callable[[Tensor, Tensor], Tensor] = valley,
    start: tuple[float, float] = START,
) -> Tensor:
    """The points (steps + 1, 2) that an optimizer visits on a surface, including the start."""
    point = torch.tensor(start, requires_grad=True)
    optimizer = make_optimizer(name, [point], lr)
    visited = [point.detach().clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        surface(*point).backward()
        optimizer.step()
        visited.append(point.detach().clone())
    return torch.stack(visited)
