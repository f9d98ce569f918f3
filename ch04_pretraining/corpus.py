"""From the name of a text to training batches: tokenizer, token arrays, held-out split.

Storyworld's held-out text comes from its test worlds, which share no cast with the training worlds;
any other text is split by document, or its last tenth is held out (`ch01_text.split_documents`). A
folder, or a JSONL or parquet file, may be larger than memory: it is tokenized into memory-mapped
shards.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ch01_text import (
    BPETokenizer,
    CharTokenizer,
    corpus_files,
    document_starts,
    encode_documents,
    gpt2_tokenizer,
    load_documents,
    load_tokenizer,
    open_tokens,
    sample_texts,
    split_documents,
    tokenize_files,
)
from ch01_text.run import chapter_folder

TRAINING_STORIES, HELD_OUT_STORIES = 15_000, 500
# one story window in so many begins amid a text: a window never has to begin with <|endoftext|>
BEGIN_ANYWHERE = 8
TOKENIZERS = ("bpe", "char", "gpt2")
TOKENIZER_SAMPLE = 10_000_000  # characters of a large corpus that a tokenizer is learned from


@dataclass(frozen=True)
class Corpus:
    """A text ready for training: arrays of token ids, `<|endoftext|>` after every document."""

    name: str
    tokenizer: object
    train: list[np.ndarray]  # shards
    val: np.ndarray
    val_bytes: int  # UTF-8 length of the held-out text, for bits per byte
    starts: np.ndarray | None = None  # where training windows may begin; None: anywhere

    @property
    def n_train(self) -> int:
        return sum(map(len, self.train))


def story_documents(split: str, n: int, seed: int) -> list[str]:
    """The texts of `n` storyworld stories, questions and answers included."""
    from ch01_text.storyworld import stories

    written = (story.text for story in stories(n, split=split, seed=seed))
    return list(tqdm(written, "writing stories", n, disable=None))


def find_tokenizer(choice: str, data: str, documents: list[str], vocab_size: int, run: Path):
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


def window_starts(tokens: np.ndarray, eot_id: int, seed: int) -> np.ndarray:
    """Where windows may begin: at every document, and at some positions anywhere. From the first, a
    model learns how a document begins and how its facts add up; without the second it could not go
    on once the beginning has slid out of its context.
    """
    documents = document_starts(tokens, eot_id)
    anywhere = np.random.default_rng(seed).integers(
        len(tokens), size=len(documents) // (BEGIN_ANYWHERE - 1)
    )
    return np.sort(np.concatenate((documents, anywhere)))


def load_corpus(
    data: str, choice: str, vocab_size: int, run: Path, seed: int, tokenizer=None
) -> Corpus:
    """Load, split and encode the text `data`; `tokenizer`, where given, is used instead of
    `choice`.
    """
    if Path(data).is_dir() or Path(data).suffix in (".jsonl", ".parquet"):
        return _load_shards(data, choice, vocab_size, run, tokenizer)
    if data == "storyworld":
        return _load_stories(choice, vocab_size, run, seed, tokenizer)
    train, val = split_documents(load_documents(data))
    tokenizer = tokenizer or find_tokenizer(choice, data, train[:2000], vocab_size, run)
    return Corpus(
        data,
        tokenizer,
        [encode_documents(tokenizer, train)],
        encode_documents(tokenizer, val),
        n_bytes(val),
    )


def n_bytes(documents: list[str]) -> int:
    """UTF-8 length of all documents together."""
    return sum(len(text.encode()) for text in documents)


def _load_stories(choice: str, vocab_size: int, run: Path, seed: int, tokenizer) -> Corpus:
    """Stories to learn from, and held-out ones about pairs that no training story has."""
    train = story_documents("train", TRAINING_STORIES, seed)
    val = story_documents("test", HELD_OUT_STORIES, seed)
    tokenizer = tokenizer or find_tokenizer(choice, "storyworld", train[:2000], vocab_size, run)
    tokens = encode_documents(tokenizer, train)
    return Corpus(
        "storyworld",
        tokenizer,
        [tokens],
        encode_documents(tokenizer, val),
        n_bytes(val),
        window_starts(tokens, tokenizer.eot_id, seed),
    )


def _load_shards(data: str, choice: str, vocab_size: int, run: Path, tokenizer) -> Corpus:
    files = corpus_files(Path(data))
    tokenizer = tokenizer or find_tokenizer(
        choice, data, sample_texts(files, TOKENIZER_SAMPLE), vocab_size, run
    )
    folder = chapter_folder(run, "ch04_pretraining") / "tokens"
    index = tokenize_files(files, tokenizer, folder)
    val = np.concatenate([open_tokens(folder / name) for name in index["val"]])
    return Corpus(
        data,
        tokenizer,
        [open_tokens(folder / name) for name in index["train"]],
        val,
        index["val_bytes"],
    )
