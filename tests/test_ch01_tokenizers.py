"""Tokenizers against tiktoken, Hugging Face tokenizers, transformers and the paper's algorithm."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch01_text import (
    BPETokenizer,
    CharTokenizer,
    SimpleTokenizerV2,
    WordTokenizer,
    gpt2_tokenizer,
    load_text,
    load_tokenizer,
)
from ch01_text.bpe import GPT2_PATTERN, from_printable, printable_bytes, to_printable
from ch01_text.bpe_training import BYTES, count_words, train_merges, train_merges_reference

NASTY = [
    "",
    " ",
    "\n",
    "\t \n  x",
    "a\x00b",
    "naïve café",
    "e\u0301\u0302\u0303",
    "👩‍👩‍👧‍👦 family",
    "🇩🇪🏳️‍🌈",
    "שלום עולם",
    "مرحبا ١٢٣",
    "汉字かな交じり文",
    "   leading",
    "trailing   ",
    "a  b   c\n\n\nd",
    "it's we'll I'd they've",
    "\u200b\ufeff",
    "½ ² Ⅷ",
    "𝕌𝕟𝕚𝕔𝕠𝕕𝕖",
    "\u2028\u2029\x85",
    "<|endoftext|>",
    "x<|endoftext|>y",
    "\ud7ff\ue000",
    "ﬁ ǅ ẞ",
    "\r\n\r\n",
]


@pytest.fixture(scope="module")
def shakespeare() -> str:
    return load_text("shakespeare")[:120_000]


@pytest.fixture(scope="module")
def ours(shakespeare) -> BPETokenizer:
    return BPETokenizer.train(shakespeare, 700)


def hugging_face_merges(text: str, n: int) -> list[tuple[str, str]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=256 + n,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def printable_merges(tokenizer: BPETokenizer) -> list[tuple[str, str]]:
    return [(to_printable(left), to_printable(right)) for left, right in tokenizer.merges]


def test_merges_equal_hugging_faces(shakespeare, ours):
    """Oracle: Hugging Face's trainer in Rust, on the same text."""
    assert printable_merges(ours) == hugging_face_merges(shakespeare, 700 - 257)


@pytest.mark.slow
def test_4096_merges_of_a_megabyte_equal_hugging_faces(real_data):
    text = (real_data / "tinyshakespeare.txt").read_text(encoding="utf-8")
    assert printable_merges(BPETokenizer.train(text, 4096 + 257)) == hugging_face_merges(text, 4096)


@settings(max_examples=150)
@given(
    st.lists(st.text(alphabet="aab ", min_size=1, max_size=12), min_size=1, max_size=8),
    st.integers(1, 25),
)
def test_incremental_counts_equal_counting_anew(words, n):
    """Oracle: the paper's algorithm, which counts all pairs for every merge; runs of one letter
    included.
    """
    counts = count_words([" ".join(words)], GPT2_PATTERN)
    assert train_merges(counts, n)[1] == train_merges_reference(counts, n)


@pytest.mark.parametrize("text", NASTY)
def test_nasty_text_survives_and_equals_the_reference(ours, text):
    """Oracles: encode_reference, and the text itself."""
    ids = ours.encode(text)
    assert ids == ours.encode_reference(text)
    assert ours.decode(ids) == text
    assert ours.encode_batch([text]) == [ids]


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_text_survives_and_equals_the_reference(ours, text):
    ids = ours.encode(text)
    assert ids == ours.encode_reference(text)
    assert ours.decode_bytes(ids) == text.encode()


def test_half_a_character_does_not_raise(ours):
    """Oracle: Python's own replacement of invalid UTF-8."""
    euro = ours.encode("€")
    assert len(euro) > 1
    assert "\ufffd" in ours.decode(euro[:1])


def test_printable_bytes_equal_gpt2s():
    """Oracle: the table in the code that GPT-2 was released with, as transformers carries it."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    assert dict(enumerate(printable_bytes())) == bytes_to_unicode()
    assert list(bytes_to_unicode()) == BYTES
    assert from_printable(to_printable(bytes(range(256)))) == bytes(range(256))


@pytest.fixture(scope="module")
def gpt2(real_data) -> BPETokenizer:
    return BPETokenizer.from_gpt2_files(
        real_data / "gpt2" / "vocab.bpe", real_data / "gpt2" / "encoder.json"
    )


def test_gpt2_ids_equal_tiktokens_and_tokenizers(real_data, gpt2):
    """Oracles: tiktoken's own loader and encoding, and Hugging Face's tokenizer, on the same
    files.
    """
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks
    from tokenizers import ByteLevelBPETokenizer

    files = [str(real_data / "gpt2" / name) for name in ("vocab.bpe", "encoder.json")]
    theirs = tiktoken.Encoding(
        "gpt2",
        pat_str=GPT2_PATTERN,
        mergeable_ranks=data_gym_to_mergeable_bpe_ranks(*files),
        special_tokens={"<|endoftext|>": 50256},
        explicit_n_vocab=50257,
    )
    rust = ByteLevelBPETokenizer(files[1], files[0])
    for text in NASTY:
        ids = gpt2.encode(text)
        assert ids == theirs.encode(text, disallowed_special=())
        assert ids == gpt2.encode_reference(text)
        assert ids == rust.encode(text).ids
    assert (gpt2.n_vocab, gpt2.eot_id) == (50257, 50256)
    assert gpt2.encode("a<|endoftext|>", allowed_special={"<|endoftext|>"})[-1] == 50256


def test_files_that_do_not_belong_together_are_refused(real_data, tmp_path):
    ids = json.loads((real_data / "gpt2" / "encoder.json").read_text(encoding="utf-8"))
    ids["!"], ids["a"] = ids["a"], ids["!"]
    (tmp_path / "encoder.json").write_text(json.dumps(ids), encoding="utf-8")
    with pytest.raises(ValueError, match="do not belong together"):
        BPETokenizer.from_gpt2_files(real_data / "gpt2" / "vocab.bpe", tmp_path / "encoder.json")


def test_gpt2_is_found_in_the_data_folder(real_data, gpt2):
    assert gpt2_tokenizer().tokens == gpt2.tokens


def test_tiktoken_offline_is_one_clear_error(monkeypatch, tmp_path):
    import requests

    def no_network(*args, **kwargs):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "get", no_network)
    monkeypatch.setattr(requests.Session, "request", no_network)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(OSError, match=r"cannot download 'gpt2'.*LLM_COMPANION_DATA"):
        BPETokenizer.from_tiktoken("gpt2")


def test_vocabulary_sizes_are_exact_and_their_limits_are_told():
    """Oracle: the size that the message names works, one more does not."""
    text = "abcd abcd ab"
    with pytest.raises(
        ValueError, match="below the 256 bytes and 1 special tokens; choose at least 257"
    ):
        BPETokenizer.train(text, 256)
    with pytest.raises(ValueError, match="nothing is left to merge after") as error:
        BPETokenizer.train(text, 1000)
    largest = int(str(error.value).split("after ")[1].split()[0])
    assert BPETokenizer.train(text, largest).n_vocab == largest
    assert BPETokenizer.train(text, 257).n_vocab == 257
    with pytest.raises(ValueError, match="is above what this text supports"):
        BPETokenizer.train(text, largest + 1)
    with pytest.raises(ValueError, match="empty"):
        BPETokenizer.train("", 300)


def test_special_tokens_are_never_merged_nor_smuggled_in():
    text = "<|endoftext|>" * 50 + "and and and"
    tokenizer = BPETokenizer.train([text], 260, special_tokens=("<|endoftext|>", "<|user|>"))
    assert not any(b"<|" in token for token in tokenizer.tokens)
    assert tokenizer.encode("<|user|>", allowed_special="all") == [
        tokenizer.special_tokens["<|user|>"]
    ]
    assert tokenizer.eot_id not in tokenizer.encode("<|endoftext|>")
    assert tokenizer.encode_reference("a<|user|>", {"<|user|>"}) == tokenizer.encode(
        "a<|user|>", {"<|user|>"}
    )


@pytest.mark.parametrize("kind", [CharTokenizer, WordTokenizer])
def test_simple_tokenizers(kind):
    tokenizer = kind.train("to be, or not to be")
    assert tokenizer.decode(tokenizer.encode("not to be, or be")) == "not to be, or be"
    assert tokenizer.tokens[tokenizer.encode("Ω")[0]] == "<|unk|>"
    unknown, special = tokenizer.ids["<|unk|>"], tokenizer.eot_id
    assert special not in tokenizer.encode("<|endoftext|>")
    assert unknown in tokenizer.encode("<|endoftext|>")
    assert tokenizer.encode("be<|endoftext|>be", allowed_special="all").count(special) == 1
    assert kind.train("to be, or not to be", vocab_size=4).n_vocab == 4
    with pytest.raises(ValueError, match="leaves no room"):
        kind.train("abc", vocab_size=2)
    with pytest.raises(ValueError, match="empty"):
        kind.train("")


def test_the_books_tokenizer_of_a_given_vocabulary():
    """Oracle: ids looked up by hand."""
    vocab = {"Hello": 7, ",": 3, "world": 5, "'": 2, "s": 1, "<|endoftext|>": 9, "<|unk|>": 4}
    tokenizer = SimpleTokenizerV2(vocab)
    assert tokenizer.encode("Hello, world's end <|endoftext|> Hello") == [7, 3, 5, 2, 1, 4, 9, 7]
    assert tokenizer.decode([7, 3, 5]) == "Hello, world"


def test_saved_tokenizers_come_back(tmp_path, ours):
    for tokenizer in (
        ours,
        CharTokenizer.train("abc", metadata={"trained_on": "x"}),
        WordTokenizer.train("a b c"),
    ):
        tokenizer.save(tmp_path)
        loaded = load_tokenizer(tmp_path)
        assert type(loaded) is type(tokenizer)
        assert vars(loaded).keys() >= {"tokens", "special_tokens", "metadata"}
        for name in ("tokens", "special_tokens", "metadata", "n_vocab", "eot_id"):
            assert getattr(loaded, name) == getattr(tokenizer, name)
        assert loaded.encode("a b c") == tokenizer.encode("a b c")
    with pytest.raises(ValueError, match="type 'word', not 'bpe'"):
        BPETokenizer.load(tmp_path)


def test_missing_damaged_and_unknown_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no tokenizer.json"):
        load_tokenizer(tmp_path)
    for content, words in (
        ("{", "is damaged"),
        ('{"type": "magic"}', "unknown type 'magic'"),
        ("[]", "no object"),
    ):
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=words):
            load_tokenizer(tmp_path)
