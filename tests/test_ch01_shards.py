"""Corpora on disk: read, cut, tokenized and held out, against whole texts, loops and a limit on
memory.
"""

import json
import os
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ch01_text import (
    BPETokenizer,
    CharTokenizer,
    RandomWindows,
    open_tokens,
    sample_texts,
    text_files,
    token_shards,
)
from ch01_text.token_shards import cut, stream_pieces, tokenize_files

DOCUMENTS = [
    f"Document {i}.\nIt has {'very ' * (i % 7)}many lines.\n" * (1 + i % 5) for i in range(40)
]


@pytest.fixture
def small_pieces(monkeypatch):
    """Limits so small that every document is cut and there are many batches and shards."""
    monkeypatch.setattr(token_shards, "PIECE", 64)
    monkeypatch.setattr(token_shards, "BATCH", 200)
    monkeypatch.setattr(token_shards, "SHARD", 500)


@pytest.fixture
def corpus(tmp_path) -> Path:
    """The documents in two text files of a folder in a folder, a JSONL and a parquet file."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "corpus"
    (folder / "texts").mkdir(parents=True)
    for i in range(2):
        (folder / "texts" / f"{i}.txt").write_text(DOCUMENTS[i], encoding="utf-8")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS[2:20])
    (folder / "some.jsonl").write_text(lines, encoding="utf-8")
    parquet.write_table(pyarrow.table({"text": DOCUMENTS[20:]}), folder / "rest.parquet")
    (folder / "ignored.bin").write_bytes(b"\0")
    return folder


def documents_of(tokenizer, folder: Path, names: list[str]) -> list[str]:
    tokens = np.concatenate([open_tokens(folder / name) for name in names]).tolist()
    ends = [-1, *(i for i, token in enumerate(tokens) if token == tokenizer.eot_id)]
    assert ends[-1] == len(tokens) - 1
    return [tokenizer.decode(tokens[a + 1 : b]) for a, b in pairwise(ends)]


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_every_document_is_in_the_shards_once(small_pieces, corpus, tmp_path, kind):
    """Oracle: the documents themselves."""
    tokenizer = (
        BPETokenizer.train(DOCUMENTS, 300) if kind == "bpe" else CharTokenizer.train(DOCUMENTS)
    )
    index = tokenize_files(text_files(corpus), tokenizer, tmp_path / "tokens")
    train, val = (
        documents_of(tokenizer, tmp_path / "tokens", index[split]) for split in ("train", "val")
    )
    assert sorted(train + val) == sorted(DOCUMENTS)
    assert 0 < len(val) < 12
    assert len(index["train"]) > 2
    assert index["val_bytes"] == sum(len(text.encode()) for text in val)
    assert {path.name for path in (tmp_path / "tokens").iterdir()} == {
        *index["train"],
        *index["val"],
        "index.json",
        "tokenizer.json",
    }


def test_a_corpus_is_tokenized_once(corpus, tmp_path):
    tokenizer, folder = CharTokenizer.train(DOCUMENTS), tmp_path / "tokens"
    tokenize_files(text_files(corpus), tokenizer, folder)
    written = (folder / "index.json").stat().st_mtime_ns
    tokenize_files(text_files(corpus), tokenizer, folder)
    assert (folder / "index.json").stat().st_mtime_ns == written
    (corpus / "more.txt").write_text("Document more.", encoding="utf-8")
    index = tokenize_files(text_files(corpus), tokenizer, folder)
    both = index["train"] + index["val"]
    assert "Document more." in [
        text for name in both for text in documents_of(tokenizer, folder, [name])
    ]
    again = tokenize_files(text_files(corpus), CharTokenizer.train([*DOCUMENTS, "z"]), folder)
    assert again["fingerprint"] != index["fingerprint"]
    assert not folder.with_name("tokens.tmp").exists()


def test_few_documents_lose_their_last_tenth(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 900 + "b" * 100, encoding="utf-8")
    tokenizer = CharTokenizer.train("ab")
    index = tokenize_files(text_files(tmp_path), tokenizer, tmp_path / "tokens")
    train, val = (open_tokens(tmp_path / "tokens" / index[split][0]) for split in ("train", "val"))
    assert (len(train), len(val)) == (901, 100)
    assert (
        tokenizer.decode(train.tolist()) + tokenizer.decode(val.tolist())
        == "a" * 900 + "b" * 100 + "<|endoftext|>"
    )
    assert index["val_bytes"] == 99


@given(st.text(alphabet="ab\n", max_size=300))
def test_cut_pieces_are_the_text_and_end_at_lines(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_shards, "PIECE", 16)
        pieces = list(cut(text))
    assert "".join(pieces) == text
    assert all(len(piece) <= 16 for piece in pieces)
    assert all(piece.endswith("\n") for piece in pieces[:-1] if "\n" in piece)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"caf\xe9", "is not UTF-8 text"),
        ("a.txt", b"a\0b", "is a binary file"),
        ("a.txt", b"", "there is no text in the 1 files"),
        (
            "a.jsonl",
            b'{"text": "fine"}\nnonsense\n',
            'line 2: not a JSON object with a field "text"',
        ),
        ("a.jsonl", b'{"texts": "fine"}\n', 'line 1: not a JSON object with a field "text"'),
        ("a.jsonl", b'{"text": 3}\n', 'line 1: the field "text" is no string'),
        ("a.parquet", b"nonsense", "is no parquet file"),
        ("a.csv", b"a", r"holds no \.txt, \.md, \.jsonl or \.parquet"),
    ],
)
def test_wrong_files_are_refused(tmp_path, name, content, words):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        tokenize_files(text_files(tmp_path), CharTokenizer.train("abc"), tmp_path / "tokens")


def test_a_parquet_file_without_texts_is_refused(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"id": [1], "body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match='has no column "text"; it has id, body'):
        list(stream_pieces([tmp_path / "a.parquet"]))


def test_a_sample_takes_from_several_files(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text(f"{i}" * 1000, encoding="utf-8")
    texts = sample_texts(text_files(tmp_path), 10_000)
    assert {text[0] for text in texts} == set("01234")
    assert len(sample_texts(text_files(tmp_path), 100)) == 1


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=4).filter(lambda sizes: max(sizes) > 5),
    st.integers(0, 99),
)
def test_windows_over_shards_are_windows_of_one_shard_each(sizes, seed):
    """Oracle: the list of all windows, drawn from by the same generator."""
    arrays = np.split(np.arange(sum(sizes), dtype=np.uint16), np.cumsum(sizes)[:-1])
    windows = [array[i : i + 6] for array in arrays for i in range(len(array) - 5)]
    drawn = torch.randint(len(windows), (4,), generator=torch.Generator().manual_seed(seed))
    inputs, targets = next(RandomWindows(arrays, 5, 4, torch.Generator().manual_seed(seed)))
    assert inputs.tolist() == [windows[i][:-1].tolist() for i in drawn]
    assert targets.tolist() == [windows[i][1:].tolist() for i in drawn]


def test_processes_share_a_batch():
    """Oracle: the whole batch; parts are disjoint, in order, and advance together."""
    tokens = np.arange(100, dtype=np.uint16)

    def draw(rank, world_size):
        generator = torch.Generator().manual_seed(0)
        windows = RandomWindows(tokens, 5, 6, generator, rank=rank, world_size=world_size)
        return [next(windows)[0] for _ in range(3)]

    parts = zip(draw(0, 3), draw(1, 3), draw(2, 3), strict=True)
    for part, whole in zip(parts, draw(0, 1), strict=True):
        assert torch.equal(torch.cat(part), whole)
    with pytest.raises(ValueError, match="4 processes cannot share a batch of 6"):
        RandomWindows(tokens, 5, 6, torch.Generator(), world_size=4)


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the memory of a process from /proc"
)
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """A corpus ten times as large as the growth that is allowed: tokenized, mapped, and drawn from.

    Counted is memory of the process's own (RssAnon), every few milliseconds; pages of mapped files
    are the system's to drop.
    """
    allowed = 24 * 2**20
    line = json.dumps({"text": "".join(DOCUMENTS)}) + "\n"
    folder = tmp_path / "corpus"
    folder.mkdir()
    size = 0
    for number in range(4):
        with (folder / f"{number}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(10 * allowed // 4 // len(line) + 1):
                size += file.write(line)
    assert size >= 10 * allowed
    script = textwrap.dedent("""
        import os, re, sys, threading, time
        from pathlib import Path
        import torch
        from ch01_text import BPETokenizer, RandomWindows, text_files, open_tokens, sample_texts, tokenize_files

        def own_memory():
            return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

        files, folder = text_files(Path(sys.argv[1])), Path(sys.argv[2])
        tokenizer = BPETokenizer.train(sample_texts(files, 100_000), 290)
        tokenizer.encode_batch(["warm up"] * 8)
        before, peak, done = own_memory(), 0, False

        def watch():
            global peak
            while not done:
                peak = max(peak, own_memory())
                time.sleep(0.003)

        watcher = threading.Thread(target=watch)
        watcher.start()
        index = tokenize_files(files, tokenizer, folder)
        shards = [open_tokens(folder / name) for name in index["train"]]
        windows = RandomWindows(shards, 256, 16, torch.Generator().manual_seed(0))
        for _ in range(200):
            next(windows)
        done = True
        watcher.join()
        print(peak - before, sum(map(len, shards)))
    """)
    result = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(tmp_path / "tokens")],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"TQDM_DISABLE": "1"},
    )
    growth, n_tokens = map(int, result.stdout.split())
    assert n_tokens * 2 > 2 * allowed  # the tokens alone would not fit
    assert growth < allowed
