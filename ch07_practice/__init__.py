"""Chapter 7: language models in practice.

Its modules, in the order in which to read them: models, completion, engine, speculative, regular,
constrained, quantization, fast_linear, machine, contest, quantization_table, nano_gpt, peers,
training_contenders, training_bench, decoding_contenders, decoding_bench, gpu_parts, gpu_bench,
bench_command, report, verify, served, worker, service, api, replies, gate, server, serving,
chat_page, terminal_chat, load_test, likelihood, harness, harness_adapter, evaluate_command, tuned,
retrieval, labs_command, scaling_law, scaling_lab. `labs/` measures what helps.
"""

from ch07_practice.constrained import (
    Pattern,
    RegexConstraint,
    Vocabulary,
    choice_expression,
    json_expression,
)
from ch07_practice.engine import Engine, Request
from ch07_practice.harness_adapter import as_harness_model
from ch07_practice.likelihood import score_rows
from ch07_practice.quantization import Int8LayerCache, quantize
from ch07_practice.report import write_report
from ch07_practice.retrieval import Bm25Index, TfidfIndex, VectorIndex, embed
from ch07_practice.scaling_law import ScalingLaw, fit_law
from ch07_practice.speculative import DraftModel, PromptLookup, Speculation

__all__ = [
    "Bm25Index",
    "DraftModel",
    "Engine",
    "Int8LayerCache",
    "Pattern",
    "PromptLookup",
    "RegexConstraint",
    "Request",
    "ScalingLaw",
    "Speculation",
    "TfidfIndex",
    "VectorIndex",
    "Vocabulary",
    "as_harness_model",
    "choice_expression",
    "embed",
    "fit_law",
    "json_expression",
    "quantize",
    "score_rows",
    "write_report",
]
