"""Chapter 7: language models in practice."""

from ch07_practice.constrained import Pattern, RegexConstraint, Vocabulary, choice_expression, json_expression
from ch07_practice.engine import Engine, Request
from ch07_practice.quantization import Int8LayerCache, quantize
from ch07_practice.report import write_report
from ch07_practice.speculative import DraftModel, PromptLookup, Speculation

__all__ = [
    "DraftModel",
    "Engine",
    "Int8LayerCache",
    "Pattern",
    "PromptLookup",
    "RegexConstraint",
    "Request",
    "Speculation",
    "Vocabulary",
    "choice_expression",
    "json_expression",
    "quantize",
    "write_report",
]
