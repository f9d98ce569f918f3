"""How a check fails: with the input, what was expected, and what came."""

import numpy as np
import pytest


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
