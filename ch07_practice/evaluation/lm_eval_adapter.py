"""An adapter for the lm-evaluation-harness (Gao et al. 2021; pip install lm_eval).

    lm_eval.simple_evaluate(model=as_lm_eval_model(model, tokenizer), tasks=["lambada_openai"])

The harness brings tasks, prompts and metrics; `likelihood` and `complete` answer its three kinds of
requests. Left out: its command line, which would have to import this file, and chat templates.
"""

from collections.abc import Sequence

import torch

from ch03_gpt import GPTModel, Precision, complete, pick_precision
from ch07_practice.evaluation.likelihood import score_rows, text_windows

MAX_NEW_TOKENS = 128
BATCH = 32


class LMEvalModel:
    """Our model behind the harness's interface; a request has its arguments in `.args`."""

    def __init__(self, model: GPTModel, tokenizer, precision: Precision):
        super().__init__()
        self.model, self.tokenizer, self.precision = model, tokenizer, precision

    def encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Encode both as one text and split the ids. Spaces at the end of the context move to the
        continuation, because our tokens begin with their space.
        """
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        before, both = self.tokenizer.encode(context), self.tokenizer.encode(context + continuation)
        return [self.tokenizer.eot_id, *both[: len(before)]], both[len(before) :]

    def loglikelihood(self, requests: Sequence) -> list[tuple[float, bool]]:
        """(context, continuation) -> (log-probability, whether it is what greedy decoding
        writes).
        """
        return score_rows(
            self.model, [self.encode_pair(*request.args) for request in requests], self.precision
        )

    def loglikelihood_rolling(self, requests: Sequence) -> list[float]:
        """(text,) -> the log-probability of the whole text, in windows that overlap only at the
        end.
        """
        context = self.model.config.context_length
        rows = [
            list(
                text_windows(
                    self.tokenizer.encode(request.args[0]),
                    self.tokenizer.eot_id,
                    context,
                    overlap=1,
                )
            )
            for request in requests
        ]
        scores = iter(
            score_rows(self.model, [row for several in rows for row in several], self.precision)
        )
        return [sum(next(scores)[0] for _ in several) for several in rows]

    def generate_until(self, requests: Sequence) -> list[str]:
        """(context, {"until": stop strings, "max_gen_toks": ...}) -> the greedy continuation up to
        the first stop string.
        """
        texts = []
        for first in range(0, len(requests), BATCH):
            batch = [request.args for request in requests[first : first + BATCH]]
            new = max(options.get("max_gen_toks", MAX_NEW_TOKENS) for _, options in batch)
            if any(
                options.get("do_sample") and options.get("temperature", 1.0) > 0
                for _, options in batch
            ):
                raise ValueError(
                    "this adapter decodes greedily; set do_sample to false or temperature to 0"
                )
            room = max(1, self.model.config.context_length - new)
            prompts = [
                [self.tokenizer.eot_id, *self.tokenizer.encode(context)][-room:]
                for context, _ in batch
            ]
            with torch.inference_mode(), self.precision.autocast():
                completions = complete(self.model, prompts, new, stop_ids=(self.tokenizer.eot_id,))
            for (_, options), one in zip(batch, completions, strict=True):
                ids = one.ids[: options.get("max_gen_toks", MAX_NEW_TOKENS)]
                texts.append(until_stop(self.tokenizer.decode(ids), options.get("until") or []))
        return texts


def until_stop(text: str, stops: str | Sequence[str]) -> str:
    """The text up to the first of `stops`.

    >>> until_stop("the mill\\nQ: Why?", ["\\n", "Q:"])
    'the mill'
    """
    ends = [
        text.find(stop) for stop in ([stops] if isinstance(stops, str) else stops) if stop in text
    ]
    return text[: min(ends)] if ends else text


def as_lm_eval_model(model: GPTModel, tokenizer, precision: Precision | None = None):
    """An `lm_eval.api.model.LM` for `lm_eval.simple_evaluate`; ValueError if lm_eval is not
    installed.
    """
    try:
        from lm_eval.api.model import LM
    except ImportError as error:
        raise ValueError("the lm-evaluation-harness is missing: pip install lm_eval") from error
    cls = type("CompanionLM", (LMEvalModel, LM), {})
    return cls(model, tokenizer, precision or pick_precision(model.device))
