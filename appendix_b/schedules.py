"""The learning rate during training, as a function of the step number (0, 1, ...).

Chapter 4 has the same curve over progress instead of steps, because its runs may be limited by
time.
"""

import math
from collections.abc import Callable


def cosine(peak: float, steps: int, warmup: int = 0, final: float = 0.0) -> Callable[[int], float]:
    """A linear warm-up over `warmup` steps, then half a cosine from `peak` down to `final`
    (Loshchilov & Hutter 2017).

    >>> [round(cosine(1.0, steps=6, warmup=2)(step), 3) for step in range(7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return rate
