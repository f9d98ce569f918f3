"""The sizes that stories come in: "brief", "short" to begin with, "base", "long" (longer than
trained on), "hard"; "short-drill" and "base-drill" ask far more questions, and small ones that lead
to them; "brief-steps-drill" and "short-steps-drill" most of all about what takes two steps.
"""

from dataclasses import dataclass, replace


def _weighted(weights: str) -> tuple[str, ...]:
    """Repeat names by their weights: "why 2 feel 1" is ("why", "why", "feel")."""
    words = weights.split()
    return tuple(
        name for name, n in zip(words[::2], words[1::2], strict=True) for _ in range(int(n))
    )


# Weights of candidates; guessable ones are mostly dropped, so the mix that is asked differs.
KINDS = """where-person 15 where-object 60 who-has 60 what-has 12 before 4 with 4 yes-no 2 count 2
    feel 4
    why 4 wants 1 unknown 6"""
# For chapter 6 to learn from: more of what takes two steps, and of who has a thing.
TWO_STEP_KINDS = """where-person 12 where-object 160 who-has 100 what-has 6 before 16 with 8
    yes-no 1 count 1 feel 3
    why 2 wants 1 unknown 4"""


@dataclass(frozen=True)
class Level:
    """How big a story is; the pairs are (at least, at most)."""

    people: tuple[int, int]
    things: tuple[int, int]
    places: tuple[int, int]
    events: tuple[int, int]  # between the opening and the resolution
    container: bool = False
    kinds: tuple[str, ...] = _weighted(KINDS)  # of questions, each as often as its weight
    max_hops: int = 3
    density: float = 0.75  # questions an event
    lures: float = 1.0  # scales how often a guessable question is asked
    # whether where somebody is who just joined another counts as hard: two facts, no place told
    joined: bool = False
    steps: bool = False  # whether small questions lead to larger ones


LEVELS = {
    "brief": Level((3, 3), (2, 2), (4, 5), (1, 3), max_hops=2, density=0.9, lures=0.2, joined=True),
    "short": Level((3, 3), (2, 3), (4, 5), (2, 4), max_hops=2, density=0.9, lures=0.4),
    "base": Level((3, 4), (2, 3), (5, 6), (3, 6)),
    "long": Level((3, 4), (2, 3), (5, 6), (9, 13), lures=0.7),
    "hard": Level(
        (3, 4), (2, 3), (5, 6), (6, 9), True, _weighted(KINDS + " inside 8"), 4, lures=0.7
    ),
}
# The same stories with questions after almost every sentence: what a model learns from.
DRILL = {"density": 2.0, "steps": True}
LEVELS |= {f"{name}-drill": replace(LEVELS[name], **DRILL) for name in ("short", "base")}
LEVELS |= {
    f"{name}-steps-drill": replace(LEVELS[name], **DRILL, kinds=_weighted(TWO_STEP_KINDS))
    for name in ("brief", "short")
}
