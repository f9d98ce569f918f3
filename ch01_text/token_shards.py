"""Data sets larger than memory: files are read piece by piece, tokenized once by several threads,
and kept as token files ("shards") that training maps into memory, page by page, as it draws
windows.

A document is a text file, or the field "text" of a line in a JSONL file or a row in a parquet file.
Long documents are cut at line ends, where hardly any token would have spanned the cut.
"""

import hashlib
import json
import random
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ch01_text.bpe import BPETokenizer
from ch01_text.saving import replacing
from ch01_text.text_datasets import TEXT_SUFFIXES
from ch01_text.tokenizer import FILE_NAME, Tokenizer

SUFFIXES = (*TEXT_SUFFIXES, ".jsonl", ".parquet")
PIECE = 2**15  # characters that a thread encodes at a time
BATCH = 2**18  # characters held in memory as text
SHARD = 2**22  # tokens per file

Piece = tuple[int, str]  # number of the document, text


def text_files(path: Path) -> list[Path]:
    """The text, JSONL and parquet files of a folder and its subfolders, sorted; ValueError if there
    is none. A file stands for itself.
    """
    files = (
        [path]
        if path.is_file()
        else sorted(f for f in path.rglob("*") if f.suffix in SUFFIXES and f.is_file())
    )
    if not files:
        raise ValueError(
            f"the folder {path} holds no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file"
        )
    return files


def _text_pieces(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        try:
            while piece := file.read(PIECE):
                piece += file.readline(PIECE)
                if "\0" in piece:
                    raise ValueError(
                        f"{path} is a binary file (it holds NUL characters); choose text files"
                    )
                yield piece
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is not UTF-8 text (byte {error.start}); convert it, or take it away"
            ) from error


def _json_texts(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f'{path}, line {number}: not a JSON object with a field "text"'
                ) from error
            if not isinstance(text, str):
                raise ValueError(f'{path}, line {number}: the field "text" is no string')
            yield text


def _parquet_texts(path: Path) -> Iterator[str]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"reading {path} needs pyarrow; pip install pyarrow") from error
    try:
        table = pyarrow.parquet.ParquetFile(path)
        if "text" not in table.schema_arrow.names:
            raise ValueError(
                f'{path} has no column "text"; it has {", ".join(table.schema_arrow.names)}'
            )
        for batch in table.iter_batches(batch_size=256, columns=["text"]):
            yield from (text for text in batch["text"].to_pylist() if text)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is no parquet file ({error})") from error


def cut(text: str) -> Iterator[str]:
    """Cut `text` into pieces of at most PIECE characters, at line ends if possible.

    >>> ["".join(cut(text)) == text for text in ("", "a", "a\\n" * 200_000)]
    [True, True, True]
    """
    start = 0
    while len(text) - start > PIECE:
        end = text.rfind("\n", start, start + PIECE) + 1 or start + PIECE
        yield text[start:end]
        start = end
    yield text[start:]


def stream_pieces(files: Iterable[Path]) -> Iterator[Piece]:
    """The documents of `files`, in order, as (document number, piece of the document)."""
    number = 0
    for path in files:
        if path.suffix in (".jsonl", ".parquet"):
            for text in (_json_texts if path.suffix == ".jsonl" else _parquet_texts)(path):
                yield from ((number, piece) for piece in cut(text))
                number += 1
        else:
            yield from ((number, piece) for piece in _text_pieces(path))
            number += 1


def _at_least(n: int, files: list[Path]) -> bool:
    """Do `files` hold at least `n` documents? Reads at most `n` documents, and no text file."""
    documents = chain.from_iterable(
        (
            _json_texts(path)
            if path.suffix == ".jsonl"
            else _parquet_texts(path)
            if path.suffix == ".parquet"
            else [path]
        )
        for path in files
    )
    return sum(1 for _ in islice(documents, n)) == n


def sample_texts(files: list[Path], n_chars: int, seed: int = 0) -> list[str]:
    """About `n_chars` characters from the beginnings of `files`, to train a tokenizer on."""
    share = max(PIECE, n_chars // len(files))
    texts, total = [], 0
    for path in random.Random(seed).sample(files, len(files)):
        of_file = 0
        for _, piece in stream_pieces([path]):
            texts.append(piece)
            of_file += len(piece)
            if of_file >= share:
                break
        total += of_file
        if total >= n_chars:
            break
    return texts


class _Shards:
    """Writes tokens to numbered files `<split>-00000.npy` of SHARD tokens each; the last one holds
    the rest.
    """

    def __init__(self, folder: Path, split: str, dtype: type):
        self.folder, self.split = folder, split
        self.waiting: np.ndarray = np.empty(SHARD, dtype)
        self.names: list[str] = []
        self.n_waiting = self.n_bytes = self.n_tokens = 0

    def add(self, ids: Iterable[int], n_bytes: int) -> None:
        tokens = np.fromiter(ids, self.waiting.dtype)
        self.n_tokens += len(tokens)
        self.n_bytes += n_bytes
        while len(tokens):
            part, tokens = np.split(tokens, [SHARD - self.n_waiting])
            self.waiting[self.n_waiting : self.n_waiting + len(part)] = part
            self.n_waiting += len(part)
            if self.n_waiting == SHARD:
                self.flush()

    def flush(self) -> None:
        if self.n_waiting:
            self.names.append(f"{self.split}-{len(self.names):05}.npy")
            np.save(self.folder / self.names[-1], self.waiting[: self.n_waiting])
            self.n_waiting = 0


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch, size = [], 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece[1])
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _fingerprint(files: list[Path], tokenizer_file: Path) -> str:
    """A hash of the files' names, sizes and times and of the tokenizer."""
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(stats).encode() + tokenizer_file.read_bytes()).hexdigest()


def _hold_out_tail(folder: Path, train: _Shards, tokenizer: Tokenizer) -> tuple[str, int]:
    """Move the last tenth of the last full shard to a held-out file: (its name, UTF-8 bytes of its
    text).
    """
    name = train.names[-2] if len(train.names) > 1 else train.names[-1]
    tokens = np.load(folder / name)
    cut_at = len(tokens) - max(2, len(tokens) // 10)
    np.save(folder / name, tokens[:cut_at])
    np.save(folder / "val-00000.npy", tokens[cut_at:])
    text = tokenizer.decode([i for i in tokens[cut_at:].tolist() if i != tokenizer.eot_id])
    return "val-00000.npy", len(text.encode())


def tokenize_files(
    files: list[Path],
    tokenizer: Tokenizer,
    folder: str | Path,
    val_fraction: float = 0.1,
    seed: int = 0,
) -> dict:
    """Tokenize `files` into shards under `folder`, unless they are there already; return its index.

    Every document ends with `<|endoftext|>`. A `val_fraction` of the documents, drawn by `seed`, is
    held out until they fill one shard; of fewer than ten documents, the end of the text. The index
    has the file names of the parts "train" and "val", and "val_bytes", the UTF-8 length of the
    held-out text. Memory use does not grow with the data set.
    """
    with tempfile.TemporaryDirectory() as place:
        tokenizer.save(place)
        fingerprint = _fingerprint(files, Path(place) / FILE_NAME)
    index_file = Path(folder) / "index.json"
    if index_file.is_file():
        index = json.loads(index_file.read_text(encoding="utf-8"))
        if index["fingerprint"] == fingerprint:
            return index
    with replacing(folder) as new:
        new.mkdir(parents=True)
        tokenizer.save(new)
        index = {"fingerprint": fingerprint} | _write_shards(
            files, tokenizer, new, val_fraction, seed
        )
        (new / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return index


def _write_shards(
    files: list[Path], tokenizer: Tokenizer, folder: Path, val_fraction: float, seed: int
) -> dict:
    dtype = np.uint16 if tokenizer.n_vocab <= 2**16 else np.uint32
    train, val = _Shards(folder, "train", dtype), _Shards(folder, "val", dtype)
    many, draw = _at_least(10, files), random.Random(seed)
    current, shards = 0, train
    with tqdm(desc="tokenizing", unit="B", unit_scale=True, disable=None) as bar:
        for batch in _batches(stream_pieces(files)):
            texts = [text for _, text in batch]
            encoded = (
                tokenizer.encode_batch(texts)
                if isinstance(tokenizer, BPETokenizer)
                else map(tokenizer.encode, texts)
            )
            for (number, text), ids in zip(batch, encoded, strict=True):
                enough = val.n_tokens >= SHARD
                if number != current or (shards is val and enough):
                    shards.add([tokenizer.eot_id], 0)
                    current = number
                    shards = val if many and not enough and draw.random() < val_fraction else train
                n_bytes = len(text.encode())
                shards.add(ids, n_bytes)
                bar.update(n_bytes)
    shards.add([tokenizer.eot_id], 0)
    if not train.n_bytes + val.n_bytes:
        raise ValueError(f"there is no text in the {len(files)} files; give others")
    train.flush()
    val.flush()
    names, val_bytes = val.names, val.n_bytes
    if not names:
        name, val_bytes = _hold_out_tail(folder, train, tokenizer)
        names = [name]
    return {"train": train.names, "val": names, "val_bytes": val_bytes}
