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


# Without the code points that no character has yet: there, libraries of unequal age disagree.
ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])


@settings(max_examples=200)
@given(st.text(ASSIGNED, max_size=60))
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


def test_special_ids_between_the_others(monkeypatch):
    """Oracle: tiktoken, for an encoding whose special tokens come first and in the middle."""
    import tiktoken

    words = [bytes([b]) for b in range(256)] + [b"ab", b"abc", b"cd"]
    ranks = {token: i + 1 + (i > 256) for i, token in enumerate(words)}
    special = {"<|endoftext|>": 0, "<|mid|>": 258}
    encoding = tiktoken.Encoding(
        "gapped", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special
    )
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: encoding)
    tokenizer = BPETokenizer.from_tiktoken("gapped")
    for text in ("abc", "abcd ab<|mid|>cd", "<|endoftext|>é"):
        expected = encoding.encode(text, allowed_special="all")
        assert tokenizer.encode(text, allowed_special="all") == expected
        assert tokenizer.encode_reference(text, set(special)) == expected
        assert tokenizer.decode(expected) == text


def test_the_longest_special_token_wins(tmp_path):
    """Oracle: Hugging Face's tokenizers, where one special token begins another."""
    from tokenizers import Tokenizer

    specials = ("<|endoftext|>", "<|a|>", "<|a|>b", "<|a|>bc")
    tokenizer = BPETokenizer.train("a bc", 256 + len(specials), special_tokens=specials)
    tokenizer.save(tmp_path)
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("<|a|>", "<|a|>b", "x<|a|>bcd", "<|a|>bb<|a|>bc"):
        ids = tokenizer.encode(text, allowed_special="all")
        assert ids == theirs.encode(text).ids
        assert tokenizer.encode_reference(text, set(specials)) == ids


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


def test_the_books_tokenizer_can_be_trained_and_loaded(tmp_path):
    trained = SimpleTokenizerV2.train("to be, or not to be")
    trained.save(tmp_path)
    for tokenizer in (trained, SimpleTokenizerV2.load(tmp_path)):
        assert tokenizer.decode(tokenizer.encode("not to be")) == "not to be"
        assert tokenizer.encode("<|endoftext|>") == [tokenizer.eot_id]
        assert tokenizer.eot_id not in tokenizer.encode("<|endoftext|>", frozenset())


def test_the_books_ids_survive_saving(tmp_path):
    """Ids may have gaps, and special tokens may stand between the others."""
    vocab = {"<|unk|>": 0, "be": 3, "to": 7, "<|endoftext|>": 9}
    SimpleTokenizerV2(vocab).save(tmp_path)
    loaded = SimpleTokenizerV2.load(tmp_path)
    assert loaded.ids == vocab
    assert loaded.encode("to be or <|endoftext|>") == [7, 3, 0, 9]
    assert loaded.decode([7, 3]) == "to be"


@pytest.mark.parametrize("kind", [BPETokenizer, CharTokenizer, WordTokenizer, SimpleTokenizerV2])
def test_a_special_token_that_the_tokenizer_lacks_is_plain_text(kind):
    vocab_size = (280,) if kind is BPETokenizer else ()
    tokenizer = kind.train("to be, or not to be <|user|> that is the question " * 9, *vocab_size)
    plain = tokenizer.encode("to be <|user|>", frozenset())
    assert tokenizer.encode("to be <|user|>", {"<|user|>"}) == plain


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


KINDS = [
    BPETokenizer.train(["to be, or not to be: that is the question"] * 2, 275),
    CharTokenizer.train("abc é\n,", metadata={"trained_on": "x"}),
    WordTokenizer.train("a b, c -- don't a. é"),
]
PIECES = ["<|endoftext|>", "<|unk|>", " ", "\n", "a", ", ", "--", "to be", "\x1c", "'", "1", "é"]


def test_saved_tokenizers_come_back(tmp_path, ours):
    """Oracle: the tokenizer that was saved."""
    for tokenizer in (ours, *KINDS):
        tokenizer.save(tmp_path)
        loaded = load_tokenizer(tmp_path)
        assert type(loaded) is type(tokenizer)
        assert vars(loaded) == {k: v for k, v in vars(tokenizer).items() if k in vars(loaded)}
        assert (loaded.n_vocab, loaded.eot_id) == (tokenizer.n_vocab, tokenizer.eot_id)
        assert loaded.encode("a b c") == tokenizer.encode("a b c")
    with pytest.raises(ValueError, match="type 'words', not 'BPE'"):
        BPETokenizer.load(tmp_path)
    ours.save(tmp_path)
    with pytest.raises(ValueError, match="type 'BPE', not 'characters'"):
        CharTokenizer.load(tmp_path)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Each of KINDS with what `tokenizers` and `transformers` make of its folder."""
    reason = "the oracle of the file format"
    tokenizers = pytest.importorskip("tokenizers", reason=reason)
    transformers = pytest.importorskip("transformers", reason=reason)
    folder = tmp_path_factory.mktemp("saved")
    found = []
    for tokenizer in KINDS:
        tokenizer.save(folder)
        rust = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        found.append((tokenizer, rust, transformers.AutoTokenizer.from_pretrained(folder)))
    return found


@settings(max_examples=200)
@given(st.lists(st.text(ASSIGNED, max_size=20) | st.sampled_from(PIECES), max_size=8).map("".join))
def test_hugging_face_reads_any_text_as_we_do(opened, text):
    """Oracles: `tokenizers` and `AutoTokenizer` on our files, special tokens included."""
    for tokenizer, rust, auto in opened:
        ids = tokenizer.encode(text, allowed_special="all")
        assert rust.encode(text).ids == auto.encode(text) == ids
        assert auto.decode(ids) == tokenizer.decode(ids)


@settings(max_examples=50)
@given(st.lists(st.text(ASSIGNED, max_size=9) | st.sampled_from(PIECES), max_size=8).map("".join))
def test_hugging_face_reads_special_tokens_as_plain_text_where_asked_to(opened, text):
    """Oracle: `split_special_tokens`. Words are left out: there, a special token that is spelled
    out is a word of the vocabulary, and `tokenizers` finds it.
    """
    for tokenizer, _, auto in opened[:2]:
        assert auto.encode(text, split_special_tokens=True) == tokenizer.encode(text)


def test_auto_tokenizer_knows_the_special_tokens(opened):
    for tokenizer, _, auto in opened:
        assert len(auto) == tokenizer.n_vocab
        assert auto.eos_token_id == auto.bos_token_id == tokenizer.eot_id
        assert auto.unk_token_id == (
            None if isinstance(tokenizer, BPETokenizer) else tokenizer.ids["<|unk|>"]
        )


def their_tokenizer(pre_tokenizer, normalizer=None):
    """A byte-level BPE that Hugging Face trains, with the special tokens in front as usual there."""
    tokenizers = pytest.importorskip("tokenizers", reason="it makes the files that are read here")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer, tokenizer.normalizer = pre_tokenizer, normalizer
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|user|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["to be, or not to be in 1999 and 2000: that is a é"] * 3, trainer
    )
    return tokenizer


@pytest.mark.parametrize("name", ["gpt2", "single digits", "regex and NFC"])
def test_other_peoples_byte_level_tokenizers_are_read(tmp_path, name):
    """Oracle: the tokenizer of Hugging Face that wrote the file; and again after our `save`."""
    tokenizers = pytest.importorskip("tokenizers", reason="it makes the files that are read here")
    pre = tokenizers.pre_tokenizers
    byte_level = pre.ByteLevel(add_prefix_space=False, use_regex=name != "regex and NFC")
    split = pre.Split(tokenizers.Regex(r"\p{L}+|\s|[^\s\p{L}]+"), "isolated")
    theirs = their_tokenizer(
        *{
            "gpt2": [byte_level],
            "single digits": [pre.Sequence([pre.Digits(individual_digits=True), byte_level])],
            "regex and NFC": [pre.Sequence([split, byte_level]), tokenizers.normalizers.NFC()],
        }[name]
    )
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = BPETokenizer.load(tmp_path)
    ours.save(tmp_path)
    again = BPETokenizer.from_pretrained(tmp_path)
    assert (ours.n_vocab, ours.eot_id) == (theirs.get_vocab_size(), 0)
    for text in [*NASTY, "not 1999 <|user|> to be, e\u0301 1 2  345\n6"]:
        ids = theirs.encode(text).ids
        assert ours.encode(text, allowed_special="all") == ids
        assert again.encode(text, allowed_special="all") == ids
        assert ours.encode_reference(text, {"<|endoftext|>", "<|user|>"}) == ids
        assert ours.encode_batch([text]) == [ours.encode(text)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.update(pre_tokenizer={"type": "Metaspace"}),
            "pre-tokenizer is not byte-level",
        ),
        (lambda t: t.update(pre_tokenizer=None), "pre-tokenizer is not byte-level"),
        (lambda t: t.update(normalizer={"type": "Lowercase"}), "normalizer 'Lowercase' is unknown"),
        (lambda t: t["model"]["merges"].reverse(), "not in the order of its merges"),
        (lambda t: t["model"]["vocab"].pop("!"), "lack some of the 256 bytes"),
        (lambda t: t["model"]["merges"].append("x"), "cannot be used"),
    ],
)
def test_what_bpe_cannot_do_is_refused(tmp_path, change, words):
    KINDS[0].save(tmp_path)
    path = tmp_path / "tokenizer.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    change(saved)
    path.write_text(json.dumps(saved), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        load_tokenizer(tmp_path)


@settings(max_examples=50)
@given(st.text(alphabet="aab ", max_size=30))
def test_all_possible_merges_stand_in_for_the_learned_ones(tmp_path_factory, text):
    """Oracle: `tokenizers` on merges that are inferred from the tokens alone, as for a vocabulary
    that comes from tiktoken.
    """
    tokenizers = pytest.importorskip("tokenizers", reason="the oracle of the file format")
    learned = BPETokenizer.train("abaab aabab baa ababba aaab" * 2, 270)
    folder = tmp_path_factory.mktemp("inferred")
    BPETokenizer(learned.tokens, learned.special_tokens).save(folder)
    rust = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert rust.encode(text).ids == learned.encode(text)


def test_missing_damaged_old_and_unknown_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no tokenizer.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="is no folder, and no Hub repository"):
        BPETokenizer.from_pretrained(tmp_path / "none")
    for content, words in (
        ("{", "is damaged"),
        ('{"type": "bpe", "tokens": []}', "made by an earlier version; train the tokenizer again"),
        ("{}", "has no model"),
        ('{"model": {"type": "Unigram"}}', "unknown type 'Unigram'"),
        ("[]", "no object"),
    ):
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=words):
            load_tokenizer(tmp_path)
