"""Chapter 2: climb the ladder, draw attention maps, and measure what the fused kernel saves."""

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ch01_text.run import chapter_folder, command_line, write_metrics
from ch02_attention import (
    AttentionOptions,
    CausalAttention,
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    SelfAttention_v1,
    SelfAttention_v2,
    attention_lists,
    attention_maps,
    attention_reference,
    copy_heads,
    copy_matrices,
    draw_attention,
    pick_device,
)
from ch02_attention.ladder import project_lists

CHAPTER = "ch02_attention"
WIDTH, HEADS = 16, 4
LENGTHS = (64, 128, 256, 512, 1024, 2048)


def climb_ladder(x: Tensor) -> pd.DataFrame:
    """Compute the context vectors of x (T, C) on every rung; the largest difference between two
    neighbouring rungs.
    """
    T, C = x.shape
    v1, v2 = SelfAttention_v1(C, C), SelfAttention_v2(C, C)
    copy_matrices(v1, v2)
    causal = CausalAttention(C, C, T, 0.0)
    copy_matrices(v1, causal)
    wrapper = MultiHeadAttentionWrapper(C, C // HEADS, T, 0.0, HEADS)
    fused = MultiHeadAttention(C, C, T, 0.0, HEADS)
    copy_heads(wrapper, fused)
    queries, keys, values = (
        project_lists(x.tolist(), w.tolist()) for w in (v1.W_query, v1.W_key, v1.W_value)
    )
    batch = x.unsqueeze(0)
    pairs = [
        (
            "plain Python, SelfAttention_v1",
            torch.tensor(attention_lists(queries, keys, values)[0]),
            v1(x),
        ),
        ("SelfAttention_v1, SelfAttention_v2", v1(x), v2(x)),
        (
            "plain Python with a mask, CausalAttention",
            torch.tensor(attention_lists(queries, keys, values, causal=True)[0]),
            causal(batch)[0],
        ),
        ("MultiHeadAttentionWrapper, MultiHeadAttention", wrapper(batch), fused(batch)),
    ]
    return pd.DataFrame(
        [
            {"rungs compared": names, "max abs difference": (a - b).abs().max().item()}
            for names, a, b in pairs
        ]
    )


def best_seconds(repeats: int, function: Callable[..., Tensor], *inputs: Tensor) -> float:
    """The fastest of several calls of `function(*inputs)`, after one to warm up."""
    function(*inputs)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function(*inputs).flatten()[0].item()  # waits for the device
        times.append(time.perf_counter() - started)
    return min(times)


def compare_with_reference(device: torch.device) -> pd.DataFrame:
    """Time the forward pass of softmax(QK'/sqrt(D))V written out and of the fused kernel, 6 heads
    of 64, and count the T x T weights that only the former writes to memory.
    """
    rows = []
    for T in tqdm(LENGTHS, desc="timing attention", disable=None):
        q, k, v = torch.randn(3, 1, 6, T, 64, device=device)
        repeats = max(3, min(30, 200_000 // T**2 * 4 + 3))
        with torch.inference_mode():
            written_out = best_seconds(repeats, lambda *qkv: attention_reference(*qkv)[0], q, k, v)
            fused = best_seconds(
                repeats, partial(F.scaled_dot_product_attention, is_causal=True), q, k, v
            )
        rows.append(
            {
                "T": T,
                "reference ms": 1e3 * written_out,
                "fused ms": 1e3 * fused,
                "speedup": written_out / fused,
                "T x T weights MiB": 6 * T * T * 4 / 2**20,
            }
        )
    return pd.DataFrame(rows)


def draw_comparison(table: pd.DataFrame) -> Figure:
    """Time and memory against the number of tokens, on logarithmic axes."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(table["T"], table["reference ms"], "s--", label="reference")
    left.loglog(table["T"], table["fused ms"], "o-", label="fused kernel")
    left.set(
        xlabel="T, tokens", ylabel="milliseconds", title="time of one forward pass, 6 heads of 64"
    )
    left.legend()
    right.loglog(
        table["T"], table["T x T weights MiB"], "s--", label="T × T weights of the reference"
    )
    right.loglog(table["T"], 6 * table["T"] * 64 * 4 / 2**20, "o-", label="context vectors (both)")
    right.set(xlabel="T, tokens", ylabel="MiB, float32", title="memory written")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
    return figure


def main(
    text: str = "the cat sat on the mat because the mat was warm",
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Prove the attention classes equal, draw attention maps of a text, and time the fused kernel.

    Args:
        text: Two to 40 words to draw the attention maps of; the layer is untrained.
        run: Folder of the run; results go to RUN/ch02_attention.
        seed: Of the random weights and embeddings.
        device: Where to time; auto prefers a GPU.
    """
    began = time.perf_counter()
    where = pick_device(device)
    words = re.findall(r"\w+|[^\w\s]", text)
    if not 2 <= len(words) <= 40:
        raise ValueError(
            f"the text has {len(words)} words and punctuation marks; give 2 to 40, to keep a map"
            " readable"
        )
    torch.manual_seed(seed)
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    embedding = torch.nn.Embedding(len(vocabulary), WIDTH)
    x = embedding(torch.tensor([vocabulary[word] for word in words])).detach()  # (T, C)

    folder = chapter_folder(run, CHAPTER)
    ladder, timing = climb_ladder(x), compare_with_reference(where)
    metrics = write_metrics(
        folder,
        {
            "max_abs_diff": ladder["max abs difference"].max(),
            "speedup_at_1024": timing.set_index("T")["speedup"][1024],
            "device": str(where),
            "timing": timing.to_dict("records"),
            "wall_seconds": time.perf_counter() - began,
        },
    )
    print(ladder.to_string(index=False, float_format="%.1e"))
    options = AttentionOptions(rope_base=10_000.0)
    layer = MultiHeadAttention(WIDTH, WIDTH, len(words), 0.0, HEADS, options=options)
    weights = attention_maps(layer, x.unsqueeze(0))[0]
    figure = draw_attention(
        weights,
        words,
        "an untrained layer: no word attends to later ones; nothing else is learned yet",
    )
    figure.savefig(folder / "attention_maps.png", dpi=110)
    print("\n" + timing.to_string(index=False, float_format="%.2f"))
    draw_comparison(timing).savefig(folder / "time_and_memory.png", dpi=120)
    return metrics


if __name__ == "__main__":
    command_line(main)
