"""What fewer bits cost: size, perplexity, right answers and speed of one trained model in every
number format.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ch01_text import encode_documents, load_documents, sequential_windows, split_documents
from ch03_gpt import GPTModel, generate, pick_precision
from ch04_pretraining import evaluate_loss, load_checkpoint, wilson_interval
from ch04_pretraining.story_corpus import HELD_OUT_STORIES, draw_questions, grade, story_documents
from ch07_practice.contest import Rows, native, print_table
from ch07_practice.fast_linear import CANDIDATES
from ch07_practice.machine import instruction_set
from ch07_practice.models import cast
from ch07_practice.quantization import KINDS, n_bytes, quantize

QUESTIONS = 500
TOKENS = 50_000  # of held-out text


def held_out_tokens(checkpoint: Path, tokenizer) -> tuple[str, np.ndarray]:
    """The name of the text that a run's model was trained on, and ids of what was held out of
    it.
    """
    settings = json.loads((checkpoint.parent / "metrics.json").read_text(encoding="utf-8"))[
        "settings"
    ]
    if settings["data"] == "storyworld":
        documents = story_documents("test", HELD_OUT_STORIES, settings["seed"])
    else:
        documents = split_documents(load_documents(settings["data"]))[1]
    return settings["data"], encode_documents(tokenizer, documents)[:TOKENS]


def tokens_per_second(model: GPTModel, n: int = 200) -> float:
    """Of one text, written greedily: the best of three."""
    n = min(n, model.config.context_length - 1)
    start = torch.zeros(1, 1, dtype=torch.long)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        generate(model, start, n)
        best = min(best, time.perf_counter() - began)
    return n / best


def quantization_table(
    checkpoint: Path,
    save: Callable[[Rows], None],
    n_questions: int = QUESTIONS,
    n_tokens: int = TOKENS,
) -> Rows:
    """A row a format, `save`d with those before it as soon as it is measured; "answers" only where
    the model was trained on storyworld, with the 95 % interval.
    """
    cpu = torch.device("cpu")
    trained, tokenizer = load_checkpoint(checkpoint)
    data, tokens = held_out_tokens(checkpoint, tokenizer)
    windows = list(
        sequential_windows(tokens[:n_tokens], trained.config.context_length, batch_size=16)
    )
    pairs = draw_questions("test", "base", n_questions, seed=1) if data == "storyworld" else []
    plain = pick_precision(cpu, "float32")  # the model's own format decides
    formats = ["float32", "bfloat16", *CANDIDATES, *(f"{kind}, readable" for kind in KINDS)]
    rows: Rows = []
    with tqdm(native(formats, cpu), desc="formats", disable=None) as bar:
        for kind in bar:
            bar.set_postfix_str(kind)
            model, (name, *readable) = load_checkpoint(checkpoint)[0], kind.split(", ")
            model = quantize(model, name) if readable else cast(model, name, cpu)
            row = {
                "weights": kind,
                "MiB": n_bytes(model) / 2**20,
                "tokens/s": tokens_per_second(model),
                "perplexity": math.exp(evaluate_loss(model, windows, plain)[0]),
            }
            if pairs:
                hits = sum(grade(model, tokenizer, pairs, plain))
                low, high = wilson_interval(hits, len(pairs))
                row |= {"answers": hits / len(pairs), "ci95_low": low, "ci95_high": high}
            rows.append(row | {"instruction set": instruction_set(cpu)})
            save(rows)
    print_table(rows)
    return rows
