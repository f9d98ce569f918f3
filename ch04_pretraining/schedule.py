"""Learning-rate schedules: a multiplier of the peak rate as a function of progress in [0, 1].

Progress is the share of the planned steps (or seconds) that will be over after the coming step, so
that the first step already learns and the last one ends at the final rate. In a plan of seconds
alone nobody knows how long the coming step takes; its progress is that of the steps before it.
"""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def warmup_cosine(warmup: float = 0.05, final: float = 0.1) -> Schedule:
    """Rise linearly for the first `warmup` share, then fall along half a cosine to `final`
    (Loshchilov & Hutter 2017).

    >>> schedule = warmup_cosine(warmup=0.1, final=0.0)
    >>> [round(schedule(p), 3) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """

    def multiplier(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        fallen = (progress - warmup) / (1 - warmup)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(fallen, 1.0)))

    return multiplier


def warmup_stable_decay(warmup: float = 0.05, decay: float = 0.7, final: float = 0.0) -> Schedule:
    """Rise linearly, stay at the peak, fall linearly to `final` over the last `decay` share (WSD:
    Hu et al. 2024, MiniCPM, section 4).

    >>> schedule = warmup_stable_decay(warmup=0.1, decay=0.5)
    >>> [schedule(p) for p in (0.05, 0.3, 0.75, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """

    def multiplier(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        return min(1.0, final + (1 - final) * max(0.0, 1 - progress) / decay)

    return multiplier


SCHEDULES: dict[str, Callable[[], Schedule]] = {"wsd": warmup_stable_decay, "cosine": warmup_cosine}
