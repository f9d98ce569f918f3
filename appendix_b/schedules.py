"""Learning rates that change while training: functions from the number of a step (0, 1, ...) to its
rate.

Chapter 4 has the same curves over progress instead of steps, because its runs may be limited by
time.
"""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(rate: float) -> Schedule:
    """The same rate always."""
    return lambda step: rate


def step_decay(rate: float, every: int, factor: float = 0.1) -> Schedule:
    """Times `factor` after each `every` steps.

    >>> [round(step_decay(1.0, every=2)(step), 3) for step in range(5)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    return lambda step: rate * factor ** (step // every)


def cosine(peak: float, steps: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """Up in a straight line over `warmup` steps, then down to `final` along half a cosine
    (Loshchilov & Hutter 2017).

    >>> [round(cosine(1.0, steps=6, warmup=2)(step), 3) for step in range(7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        fallen = min(1.0, (step - warmup) / max(1, steps - warmup))
        return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * fallen))

    return rate
