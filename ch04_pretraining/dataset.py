"""From the name of a text to token arrays: tokenizer, training part, held-out part.

A text is split by document, or its last tenth is held out (`ch01_text.split_documents`). A folder,
or a JSONL or parquet file, may be larger than memory: it is tokenized into memory-mapped shards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ch01_text import (
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    encode_documents,
    gpt2_tokenizer,
    load_documents,
    load_tokenizer,
    open_tokens,
    sample_texts,
    split_documents,
    text_files,
    tokenize_files,
)
from ch01_text.run import chapter_folder
from ch03_gpt import GPTModel, Precision
from ch04_pretraining.loss import LossFunction, next_token_loss

TOKENIZERS = ("bpe", "char", "gpt2")
TOKENIZER_SAMPLE = 10_000_000  # characters of a large data set that a tokenizer is trained on


@dataclass(frozen=True)
class TokenDataset:
    """A text ready for training: arrays of token ids, `<|endoftext|>` after every document."""

    name: str
    tokenizer: Tokenizer
    # Shards of the training part.
    train: list[np.ndarray]
    # The held-out part.
    val: np.ndarray
    # UTF-8 length of the held-out text, for bits per byte.
    val_bytes: int
    # Where training windows may begin; None: anywhere.
    starts: np.ndarray | None = None
    # What training minimizes; validation always uses the plain loss.
    loss_fn: LossFunction = next_token_loss
    # (model, precision) -> further metrics of the finished model.
    final_metrics: Callable[[GPTModel, Precision], dict] = lambda model, precision: {}

    @property
    def n_train(self) -> int:
        return sum(map(len, self.train))


def find_tokenizer(
    choice: str, data: str, documents: list[str], vocab_size: int, run: Path
) -> Tokenizer:
    """Return the tokenizer that `choice` names: bpe, char, gpt2 or a folder with a tokenizer.json.

    `bpe` takes chapter 1's from the run folder if it was trained on `data`, else trains one.
    """
    if choice == "char":
        return CharTokenizer.train(documents)
    if choice == "gpt2":
        return gpt2_tokenizer()
    if choice != "bpe":
        if not (Path(choice) / "tokenizer.json").is_file():
            raise ValueError(
                f"{choice} is no folder with a tokenizer.json; choose one or"
                f" {', '.join(TOKENIZERS)}"
            )
        return load_tokenizer(choice)
    folder = Path(run) / "ch01_text"
    if (folder / "tokenizer.json").is_file():
        tokenizer = load_tokenizer(folder)
        if tokenizer.metadata.get("trained_on") == data:
            print(f"using chapter 1's tokenizer in {folder} ({tokenizer.n_vocab} tokens)")
            return tokenizer
        print(
            f"chapter 1's tokenizer in {folder} was trained on"
            f" {tokenizer.metadata.get('trained_on')}"
        )
    print(f"training a byte-pair encoding of {vocab_size} tokens on {data}")
    return BPETokenizer.train(documents, vocab_size, metadata={"trained_on": data})


def n_bytes(documents: list[str]) -> int:
    """UTF-8 length of all documents together."""
    return sum(len(text.encode()) for text in documents)


def _load_shards(
    data: str, choice: str, vocab_size: int, run: Path, tokenizer: Tokenizer | None
) -> TokenDataset:
    files = text_files(Path(data))
    tokenizer = tokenizer or find_tokenizer(
        choice, data, sample_texts(files, TOKENIZER_SAMPLE), vocab_size, run
    )
    folder = chapter_folder(run, "ch04_pretraining") / "tokens"
    index = tokenize_files(files, tokenizer, folder)
    train, val = ([open_tokens(folder / name) for name in index[part]] for part in ("train", "val"))
    return TokenDataset(data, tokenizer, train, np.concatenate(val), index["val_bytes"])


def load_dataset(
    data: str,
    choice: str,
    vocab_size: int,
    run: Path,
    seed: int,
    tokenizer: Tokenizer | None = None,
) -> TokenDataset:
    """Load, split and encode the text `data`, with the tokenizer that `choice` names (see
    `find_tokenizer`) or, if given, with `tokenizer`.
    """
    if Path(data).is_dir() or Path(data).suffix in (".jsonl", ".parquet"):
        return _load_shards(data, choice, vocab_size, run, tokenizer)
    if data == "storyworld":
        from ch04_pretraining.story_corpus import load_stories  # no other text needs the stories

        return load_stories(choice, vocab_size, run, seed, tokenizer)
    train, val = split_documents(load_documents(data))
    tokenizer = tokenizer or find_tokenizer(choice, data, train[:2000], vocab_size, run)
    return TokenDataset(
        data,
        tokenizer,
        [encode_documents(tokenizer, train)],
        encode_documents(tokenizer, val),
        n_bytes(val),
    )
