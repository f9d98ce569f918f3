"""Chapter 7: language models in practice.

Its modules, in the order in which to read them: load_model, story_questions, report, verify.

Its packages: decoding (speculative, constrained and quantized decoding), serving (the batching
engine and an OpenAI-compatible server), evaluation (tasks with error bars, scaling laws), labs
(prompting, tools, retrieval) and benchmarks (speed beside other packages).

The names below are imported on first use, so that `import ch07_practice` itself loads nothing.
"""

_HOME = {
    "Bm25Index": "labs.search_index",
    "DraftModel": "decoding.speculative",
    "Engine": "serving.engine",
    "Int8LayerCache": "decoding.quantization",
    "Pattern": "decoding.constrained",
    "PromptLookup": "decoding.speculative",
    "RegexConstraint": "decoding.constrained",
    "Request": "serving.engine",
    "ScalingLaw": "evaluation.scaling_law",
    "SpeculativeDecoder": "decoding.speculative",
    "TfidfIndex": "labs.search_index",
    "VectorIndex": "labs.search_index",
    "Vocabulary": "decoding.constrained",
    "as_lm_eval_model": "evaluation.lm_eval_adapter",
    "choice_expression": "decoding.constrained",
    "embed": "labs.search_index",
    "fit_law": "evaluation.scaling_law",
    "json_expression": "decoding.constrained",
    "quantize": "decoding.quantization",
    "score_rows": "evaluation.likelihood",
    "write_report": "report",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
