"""Labs about prompting and building with a language model, each measured beside a baseline."""

from ch07_practice.labs import (
    context,
    few_shot,
    injection,
    retrieval,
    self_consistency,
    steps,
    structured,
    tools,
)
from ch07_practice.labs.setting import Setting

__all__ = [
    "Setting",
    "context",
    "few_shot",
    "injection",
    "retrieval",
    "self_consistency",
    "steps",
    "structured",
    "tools",
]
