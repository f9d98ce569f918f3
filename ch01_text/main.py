"""Chapter 1: cut a text into characters, words and learned byte pairs, and compare."""

import time
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ch01_text import (
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    gpt2_tokenizer,
    load_documents,
    split_documents,
)
from ch01_text.bpe import to_printable
from ch01_text.run import chapter_folder, command_line, write_metrics
from ch01_text.tokenizer import UNKNOWN

CHAPTER = "ch01_text"
SPEED_SAMPLE = 2_000_000  # characters


def compare_one(name: str, tokenizer: Tokenizer, text: str) -> dict:
    """One row of the comparison: how `tokenizer` encodes a text that it was not trained on."""
    started = time.perf_counter()
    ids = tokenizer.encode(text)
    seconds = time.perf_counter() - started
    unknown = ids.count(tokenizer.ids[UNKNOWN]) if hasattr(tokenizer, "ids") else 0
    return {
        "tokenizer": name,
        "vocabulary": tokenizer.n_vocab,
        "tokens": len(ids),
        "characters/token": len(text) / len(ids),
        "tokens/word": len(ids) / len(text.split()),
        "unknown": unknown / len(ids),
        "MB/s": len(text.encode()) / 1e6 / seconds,
    }


def compare(tokenizers: dict[str, Tokenizer], text: str) -> pd.DataFrame:
    """One row per tokenizer, on the same text."""
    return pd.DataFrame(
        [compare_one(name, tokenizer, text) for name, tokenizer in tokenizers.items()]
    )


def compression_by_size(tokenizer: BPETokenizer, text: str) -> pd.DataFrame:
    """Characters per token with the first 256, 512, 1024, ... tokens of a trained encoding."""
    rows = []
    n = len(tokenizer.tokens)
    for size in [*(2**i for i in range(8, 16) if 2**i < n), n]:
        shorter = BPETokenizer(tokenizer.tokens[:size], {})
        rows.append({"vocabulary": size, "characters/token": len(text) / len(shorter.encode(text))})
    return pd.DataFrame(rows)


def draw_compression(sizes: pd.DataFrame, counts: Counter) -> Figure:
    """Left: compression against vocabulary. Right: how often the tokens occur, by rank (Zipf's
    law).
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogx(sizes["vocabulary"], sizes["characters/token"], "o-", base=2)
    left.set(
        xlabel="tokens in the vocabulary",
        ylabel="characters per token",
        title="held-out text",
        ylim=(0, None),
    )
    frequencies = np.array(sorted(counts.values(), reverse=True))
    right.loglog(np.arange(1, len(frequencies) + 1), frequencies)
    right.set(
        xlabel="rank of the token",
        ylabel="occurrences",
        title="few tokens are common, most are rare",
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def show_tokens(tokenizer: BPETokenizer, text: str) -> str:
    """The text with a bar between its tokens."""
    return "|".join(tokenizer.decode([i]) for i in tokenizer.encode(text))


def find_gpt2() -> BPETokenizer | None:
    """GPT-2's tokenizer, or None, with a printed reason, if it cannot be loaded."""
    try:
        return gpt2_tokenizer()
    except OSError as error:
        print(f"(GPT-2's vocabulary is left out: {error})")
        return None


def make_tokenizers(bpe: BPETokenizer, documents: list[str]) -> dict[str, Tokenizer]:
    """What `bpe` is compared with, by name, and itself."""
    tokenizers: dict[str, Tokenizer] = {
        "characters": CharTokenizer.train(documents),
        "words": WordTokenizer.train(documents),
        "bytes": BPETokenizer(bpe.tokens[:256], {}),
        "our BPE": bpe,
    }
    if gpt2 := find_gpt2():
        tokenizers["GPT-2's BPE"] = gpt2
    for tokenizer in tokenizers.values():
        tokenizer.encode("")  # builds the encoder, so that this is not timed
    return tokenizers


def print_report(bpe: BPETokenizer, table: pd.DataFrame, held_out: str) -> None:
    """The comparison, the first merges, and a sample cut into tokens."""
    print(
        table.to_string(
            index=False,
            formatters={
                "unknown": "{:.2%}".format,
                "vocabulary": "{:,}".format,
                "tokens": "{:,}".format,
            },
            float_format="%.2f",
        )
    )
    assert bpe.merges is not None
    first = ", ".join(f"{to_printable(a)}+{to_printable(b)}" for a, b in bpe.merges[:12])
    print(f"\nfirst merges (Ġ is a space): {first}")
    sample = " ".join(held_out[len(held_out) // 2 :].split()[1:20])
    print(f"held-out text in tokens: {show_tokens(bpe, sample)}\n")


def main(
    data: str = "shakespeare",
    vocab_size: int = 4096,
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Train a byte-pair encoding and compare it with characters, words and GPT-2's vocabulary.

    Args:
        data: shakespeare, storyworld, tinyshakespeare, the-verdict, or a UTF-8 file or folder.
        vocab_size: Number of tokens to learn, the 256 bytes and the end-of-text token included.
        run: Folder of the run; results and the tokenizer go to RUN/ch01_text.
        seed: Accepted as in every chapter; training an encoding draws no random numbers.
        device: Accepted as in every chapter; tokenizing runs on the CPU.
    """
    began, data = time.perf_counter(), str(data)  # a Path, too, is written to metrics.json
    documents = load_documents(data)
    n_chars = sum(map(len, documents))
    train_documents, held_out_documents = split_documents(documents)
    held_out = "\n\n".join(held_out_documents)
    if not held_out.strip():
        raise ValueError(f"the text {data!r} is too short to hold a part out: {n_chars} characters")
    started = time.perf_counter()
    bpe = BPETokenizer.train(train_documents, vocab_size, metadata={"trained_on": data})
    train_seconds = time.perf_counter() - started
    folder = chapter_folder(run, CHAPTER)
    bpe.save(folder)
    print(
        f"{data}: {n_chars:,} characters in {len(documents):,} documents; {vocab_size:,} tokens"
        f" learned in {train_seconds:.2f} s; measured on held-out text:\n"
    )

    held_out = held_out[:SPEED_SAMPLE]
    table = compare(make_tokenizers(bpe, train_documents), held_out)
    ours = table.set_index("tokenizer").loc["our BPE"]
    metrics = {
        "data": data,
        "n_chars": n_chars,
        "n_tokens": sum(map(len, bpe.encode_batch(documents))),
        "vocab_size": bpe.n_vocab,
        "chars_per_token": float(ours["characters/token"]),
        "train_seconds": train_seconds,
        "encode_mb_per_s": float(ours["MB/s"]),
        "comparison": table.to_dict("records"),
        "wall_seconds": time.perf_counter() - began,
    }
    write_metrics(folder, metrics)
    print_report(bpe, table, held_out)
    print(f"saved in {folder / 'tokenizer.json'}")
    counts = Counter(bpe.encode(held_out))
    figure = draw_compression(compression_by_size(bpe, held_out), counts)
    figure.savefig(folder / "compression.png", dpi=120)
    return metrics


if __name__ == "__main__":
    command_line(main)
