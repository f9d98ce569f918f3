"""The scaling law L(N, D) = E + A / N**a + B / D**b for the loss of a model with N parameters after
D training tokens (Hoffmann et al. 2022, equation 2).

E is the irreducible loss, the second term the cost of a small model, the third the cost of little
data. The fit follows the paper (section 3.3): a Huber loss on the logarithms, minimized by L-BFGS
from a grid of starting points, so that neither one bad run nor one bad start decides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

DELTA = 1e-3  # the Huber loss is linear beyond this residual
# starting values of log A, log B, log E, a, b
STARTS = ((0.0, 4.0, 8.0), (0.0, 4.0, 8.0), (-1.0, 0.0, 1.0), (0.2, 0.6), (0.2, 0.6))


@dataclass(frozen=True)
class ScalingLaw:
    """The five constants, for losses in nats per token."""

    E: float
    A: float
    B: float
    a: float
    b: float

    def loss(self, n_params, n_tokens):
        """The predicted loss of a model with `n_params` parameters after `n_tokens` tokens.

        >>> round(ScalingLaw(E=1.69, A=406.4, B=410.7, a=0.34, b=0.28).loss(70e9, 1.4e12), 3)
        1.937
        """
        return self.E + self.A / n_params**self.a + self.B / n_tokens**self.b

    def best_size(self, flops: float) -> tuple[float, float]:
        """(parameters, tokens) with the lowest loss for a training budget of `flops`, at 6
        operations per parameter and token (equation 4 of the paper).

        >>> law = ScalingLaw(E=1.69, A=406.4, B=410.7, a=0.34, b=0.28)
        >>> [f"{value:.1e}" for value in law.best_size(5.88e23)]
        ['3.2e+10', '3.0e+12']
        """
        ratio = (self.a * self.A / (self.b * self.B)) ** (1 / (self.a + self.b))
        n_params = ratio * (flops / 6) ** (self.b / (self.a + self.b))
        return n_params, flops / 6 / n_params


def _residuals(x: np.ndarray, log_n: np.ndarray, log_d: np.ndarray, log_loss: np.ndarray):
    """Predicted minus measured log-loss of M runs: (M,), and its gradient with respect to
    x = (log_A, log_B, log_E, a, b): (5, M).
    """
    # (3, M)
    terms = np.stack([x[0] - x[3] * log_n, x[1] - x[4] * log_d, np.full_like(log_n, x[2])])
    top = terms.max(axis=0)
    predicted = top + np.log(np.exp(terms - top).sum(axis=0))
    shares = np.exp(terms - predicted)
    return predicted - log_loss, np.concatenate([shares, [-shares[0] * log_n, -shares[1] * log_d]])


def objective(
    x: np.ndarray, log_n: np.ndarray, log_d: np.ndarray, log_loss: np.ndarray
) -> tuple[float, np.ndarray]:
    """The total Huber loss of all runs, and its gradient with respect to x."""
    r, gradient = _residuals(x, log_n, log_d, log_loss)
    huber = np.where(np.abs(r) <= DELTA, 0.5 * r * r, DELTA * (np.abs(r) - 0.5 * DELTA))
    return float(huber.sum() / DELTA**2), gradient @ np.clip(r, -DELTA, DELTA) / DELTA**2


def fit_law(
    n_params: Sequence[float],
    n_tokens: Sequence[float],
    losses: Sequence[float],
    start: ScalingLaw | None = None,
) -> ScalingLaw:
    """The law that fits the measured losses best. `start` replaces the grid of starting points.
    ValueError with fewer than 6 runs, or fewer than 3 different sizes or budgets: five constants
    need that much data.
    """
    from scipy.optimize import minimize

    n, d, loss = (np.asarray(values, float) for values in (n_params, n_tokens, losses))
    sizes, budgets = len(set(n.tolist())), len(set(d.tolist()))
    if len(loss) < 6 or min(sizes, budgets) < 3:
        raise ValueError(
            f"{len(loss)} runs of {sizes} sizes and {budgets} budgets do not determine five"
            " constants; train at least 6, of 3 sizes and 3 budgets"
        )
    data = np.log(n), np.log(d), np.log(loss)
    starts = (
        product(*STARTS)
        if start is None
        else [(*np.log([start.A, start.B, start.E]), start.a, start.b)]
    )
    fits = [
        minimize(
            objective,
            np.array(x),
            args=data,
            jac=True,
            method="L-BFGS-B",
            bounds=[(-20, 40), (-20, 40), (-20, 5), (0, 3), (0, 3)],
            options={"maxiter": 2000, "ftol": 1e-13},
        )
        for x in starts
    ]
    log_a, log_b, log_e, a, b = min(fits, key=lambda fit: fit.fun).x.tolist()
    return ScalingLaw(math.exp(log_e), math.exp(log_a), math.exp(log_b), a, b)


def prediction_range(
    law: ScalingLaw,
    n_params: Sequence[float],
    n_tokens: Sequence[float],
    losses: Sequence[float],
    target: tuple[float, float],
) -> tuple[float, float]:
    """The lowest and the highest prediction at (parameters, tokens) if any one run is left out of
    the fit (jackknife). It shows how much the prediction depends on single runs, and is not a
    confidence interval.
    """
    rows = list(zip(n_params, n_tokens, losses, strict=True))
    predictions = []
    for i in range(len(rows)):
        n, d, loss = zip(*(rows[:i] + rows[i + 1 :]), strict=True)
        predictions.append(fit_law(n, d, loss, start=law).loss(*target))
    return min(predictions), max(predictions)
