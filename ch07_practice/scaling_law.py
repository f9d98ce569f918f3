"""A law for the loss of a model of N parameters that has seen D tokens: L(N, D) = E + A / N**a + B / D**b.

Hoffmann et al. 2022, equation 2: E is what no model can predict, the second term what a model this small cannot express,
the third what so few tokens cannot teach. Fitted as they do (section 3.3): a Huber loss on the logarithms, by L-BFGS
from a grid of starts, so that neither one bad run nor one bad start decides. Left out: the warm-up of the smallest runs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np

DELTA = 1e-3  # residuals beyond it count linearly
STARTS = {"a": (0.0, 0.5, 1.0), "b": (0.0, 0.5, 1.0), "log_E": (-1.0, 0.0, 1.0), "log_A": (0.0, 5.0, 10.0),
          "log_B": (0.0, 5.0, 10.0)}


@dataclass(frozen=True)
class ScalingLaw:
    """The five constants; losses in nats per token."""

    E: float
    A: float
    B: float
    a: float
    b: float

    def loss(self, n_params, n_tokens):
        """The predicted loss of a model of so many parameters after so many tokens.

        >>> round(ScalingLaw(E=1.69, A=406.4, B=410.7, a=0.34, b=0.28).loss(70e9, 1.4e12), 3)
        1.937
        """
        return self.E + self.A / np.power(n_params, self.a) + self.B / np.power(n_tokens, self.b)

    def best_size(self, flops: float) -> tuple[float, float]:
        """(parameters, tokens) that reach the lowest loss for so much training compute, at 6 operations for each
        parameter and token (their equation 4).

        >>> [f"{value:.1e}" for value in ScalingLaw(E=1.69, A=406.4, B=410.7, a=0.34, b=0.28).best_size(5.88e23)]
        ['3.2e+10', '3.0e+12']
        """
        ratio = (self.a * self.A / (self.b * self.B)) ** (1 / (self.a + self.b))
        n_params = ratio * (flops / 6) ** (self.b / (self.a + self.b))
        return n_params, flops / 6 / n_params


def _residuals(x: np.ndarray, log_n: np.ndarray, log_d: np.ndarray, log_loss: np.ndarray):
    """Predicted minus measured log-loss (M,), and the gradient of each by x = (log_A, log_B, log_E, a, b): (5, M)."""
    terms = np.stack([x[0] - x[3] * log_n, x[1] - x[4] * log_d, np.full_like(log_n, x[2])])  # (3, M)
    top = terms.max(axis=0)
    predicted = top + np.log(np.exp(terms - top).sum(axis=0))
    shares = np.exp(terms - predicted)
    return predicted - log_loss, np.concatenate([shares, [-shares[0] * log_n, -shares[1] * log_d]])


def objective(x: np.ndarray, log_n: np.ndarray, log_d: np.ndarray, log_loss: np.ndarray) -> tuple[float, np.ndarray]:
    """The Huber loss of all runs and its gradient by x."""
    r, gradient = _residuals(x, log_n, log_d, log_loss)
    huber = np.where(np.abs(r) <= DELTA, 0.5 * r * r, DELTA * (np.abs(r) - 0.5 * DELTA))
    return float(huber.sum() / DELTA**2), gradient @ np.clip(r, -DELTA, DELTA) / DELTA**2


def fit_law(n_params: Sequence[float], n_tokens: Sequence[float], losses: Sequence[float]) -> ScalingLaw:
    """The law that fits measured losses best. ValueError with fewer than 6 runs, or fewer than 3 different sizes or
    budgets: five constants need that much."""
    from scipy.optimize import minimize

    n, d, loss = (np.asarray(values, float) for values in (n_params, n_tokens, losses))
    if len(loss) < 6 or min(len(set(n_params)), len(set(n_tokens))) < 3:
        raise ValueError(f"{len(loss)} runs of {len(set(n_params))} sizes and {len(set(n_tokens))} budgets do not "
                         "determine five constants; train at least 6, of 3 sizes and 3 budgets")
    data = np.log(n), np.log(d), np.log(loss)
    best = None
    for a, b, log_e, log_a, log_b in product(*STARTS.values()):
        start = np.array([log_a, log_b, log_e, a, b])
        found = minimize(objective, start, args=data, jac=True, method="L-BFGS-B",
                         bounds=[(None, None)] * 3 + [(0, 3)] * 2, options={"maxiter": 2000, "ftol": 1e-13})
        if best is None or found.fun < best.fun:
            best = found
    log_a, log_b, log_e, a, b = best.x
    return ScalingLaw(*np.exp([log_e, log_a, log_b]).tolist(), float(a), float(b))


def prediction_range(n_params: Sequence[float], n_tokens: Sequence[float], losses: Sequence[float],
                     where: tuple[float, float]) -> tuple[float, float]:
    """The lowest and the highest prediction for (parameters, tokens) when any one run is left out of the fit: how much
    the prediction hangs on single runs. It is no confidence interval."""
    rows = list(zip(n_params, n_tokens, losses, strict=True))
    found = [fit_law(*zip(*(rows[:i] + rows[i + 1 :]), strict=True)).loss(*where) for i in range(len(rows))]
    return float(min(found)), float(max(found))


def as_numbers(law: ScalingLaw) -> dict[str, float]:
    """The constants for a JSON file."""
    return asdict(law)
