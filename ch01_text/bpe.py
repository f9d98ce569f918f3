"""Byte-pair encoding: merge the most frequent pair of neighbours, again and again (Sennrich et al.
2016), on bytes and within GPT-2's word-like chunks (Radford et al. 2019).

Training is ours. Encoding runs in tiktoken on our tokens; `encode_reference` spells it out.
"""

import json
import os
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self, get_args

import regex

from ch01_text.bpe_training import BYTES, count_words, train_merges
from ch01_text.hub import hub_folder
from ch01_text.tokenizer import (
    END_OF_TEXT,
    FILE_NAME,
    CharTokenizer,
    WordTokenizer,
    as_documents,
    check_kind,
    read_tokenizer_files,
    split_at_specials,
    tokenizer_kind,
    write_tokenizer_files,
)

# Contractions; then, each with one space before it, runs of letters, of digits and of other marks;
# then white space. `\s+(?!\S)` leaves the last space of a run to the word after it, so that " word"
# is one chunk wherever it stands.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# GPT-2's, with every digit on its own. Digits take no space before them, so the lookahead treats
# one like the end of the text: white space before it stays whole.
SINGLE_DIGITS_PATTERN = (
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"""
)


@cache
def printable_bytes() -> tuple[str, ...]:
    """GPT-2's printable stand-in for each of the 256 bytes: itself if visible, else one from U+0100
    on.
    """
    visible = {b for span in (range(33, 127), range(161, 173), range(174, 256)) for b in span}
    # the space is byte 32, the 33rd of the hidden ones, and so becomes U+0120, "Ġ"
    hidden = iter(range(256, 512))
    return tuple(chr(b) if b in visible else chr(next(hidden)) for b in range(256))


def to_printable(token: bytes) -> str:
    """Write a token as GPT-2's files do: `b" the"` becomes `"Ġthe"`."""
    table = printable_bytes()
    return "".join(table[b] for b in token)


def from_printable(text: str) -> bytes:
    """The inverse of `to_printable`."""
    table = {char: b for b, char in enumerate(printable_bytes())}
    return bytes(table[char] for char in text)


def all_merges(tokens: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Every split of a token into two others, in the order of the tokens.

    >>> all_merges([b"a", b"b", b"ab", b"aba"])
    [(b'a', b'b'), (b'ab', b'a')]
    """
    # A list of tokens does not tell which two parts each was merged from. tiktoken merges any
    # neighbours whose union is a token, so every split into two tokens counts as a merge.
    known = set(tokens)
    return [
        (token[:i], token[i:])
        for token in tokens
        for i in range(1, len(token))
        if token[:i] in known and token[i:] in known
    ]


def _pattern_of(pre_tokenizer: Mapping | None) -> str:
    """The regular expression of a byte-level pre-tokenizer of Hugging Face's; ValueError if it
    has none.
    """
    # Only `add_prefix_space=False`: a pattern cuts a text, it cannot put a space before its first
    # word.
    match pre_tokenizer:
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, **rest},
            ],
        } if rest.get("use_regex", True):
            return SINGLE_DIGITS_PATTERN
        case {"type": "ByteLevel", "add_prefix_space": False, **rest} if rest.get(
            "use_regex", True
        ):
            return GPT2_PATTERN
        case {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": pattern},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return pattern
    raise ValueError("its pre-tokenizer is not byte-level with a single regular expression")


Normalization = Literal["NFC", "NFD", "NFKC", "NFKD"]


@dataclass(eq=False, repr=False)
class BPETokenizer:
    """Byte-level BPE: the bytes of every id, the special tokens, and how a text is cut before."""

    tokens: list[bytes]  # of id 0, 1, ... in the order of the merges; b"" for a special token's id
    special_tokens: dict[str, int]  # usually with the ids after all others
    pattern: str = GPT2_PATTERN  # merges stay within its matches
    merges: list[tuple[bytes, bytes]] | None = None  # in the order of training; None: all possible
    metadata: dict = field(default_factory=dict)  # where it comes from
    normalization: Normalization | None = None  # the Unicode form that texts are brought into
    eos_token: str = END_OF_TEXT  # what a chat model ends its messages with
    chat_template: str | None = None  # Jinja, as in tokenizer_config.json

    def __post_init__(self):
        if self.merges is None:
            self.merges = all_merges(self.tokens)

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int,
        special_tokens: tuple[str, ...] = (END_OF_TEXT,),
        metadata: dict | None = None,
    ) -> Self:
        """Learn `vocab_size` tokens (256 bytes and the specials included) from a text or from
        several.

        Ties go to the pair whose tokens were learned first. ValueError if `vocab_size` is below the
        byte alphabet or above what the text supports.
        """
        smallest = 256 + len(special_tokens)
        if vocab_size < smallest:
            raise ValueError(
                f"vocab_size {vocab_size} is below the 256 bytes and {len(special_tokens)} special "
                f"tokens; choose at least {smallest}"
            )
        # Special tokens are left out: their characters are no text to learn merges from.
        documents = (
            piece
            for document in as_documents(text)
            for piece in split_at_specials(document, special_tokens)
            if piece not in special_tokens
        )
        words = count_words(documents, GPT2_PATTERN)
        if not words:
            raise ValueError("the text to train a tokenizer on is empty")
        tokens, merges = train_merges(words, vocab_size - smallest)
        # every chunk has become a single token, so no pair is left
        if len(tokens) < vocab_size - len(special_tokens):
            raise ValueError(
                f"vocab_size {vocab_size} is above what this text supports: nothing is left to"
                f" merge after {len(tokens) + len(special_tokens)} tokens; choose at most that, or"
                " a longer text"
            )
        # behind all others, because the id of a learned token is the rank of its merge
        specials = {token: len(tokens) + i for i, token in enumerate(special_tokens)}
        return cls(tokens, specials, merges=merges, metadata=metadata or {})

    @classmethod
    def from_tiktoken(cls, name: str = "gpt2") -> Self:
        """Take over an encoding of tiktoken's, which downloads it once; OSError if it cannot."""
        import tiktoken

        try:
            encoding = tiktoken.get_encoding(name)
        except OSError as error:
            raise OSError(
                f"tiktoken cannot download {name!r} ({type(error).__name__}); connect once, or put"
                " GPT-2's vocab.bpe and encoder.json into the folder gpt2 of LLM_COMPANION_DATA,"
                " or train a tokenizer with ch01_text/main.py"
            ) from error
        ranks = encoding._mergeable_ranks
        tokens = [b""] * (max(ranks.values()) + 1)  # a special token may stand between the others
        for token, rank in ranks.items():
            tokens[rank] = token
        return cls(tokens, dict(encoding._special_tokens), encoding._pat_str)

    @classmethod
    def from_gpt2_files(cls, vocab_bpe: str | Path, encoder_json: str | Path) -> Self:
        """Build GPT-2's tokenizer from its two published files; ValueError if they disagree."""
        # the first line is "#version: 0.2"; every other one is a merge, such as "Ġ t"
        lines = Path(vocab_bpe).read_text(encoding="utf-8").split("\n")[1:]
        pairs = [line.split() for line in lines if line]
        merges = [(from_printable(left), from_printable(right)) for left, right in pairs]
        ids = json.loads(Path(encoder_json).read_text(encoding="utf-8"))
        tokens = [bytes([b]) for b in BYTES] + [left + right for left, right in merges]
        special_ids = {token: i for token, i in ids.items() if i >= len(tokens)}
        if ids != {to_printable(token): i for i, token in enumerate(tokens)} | special_ids:
            raise ValueError(
                f"{vocab_bpe} and {encoder_json} do not belong together: their token ids differ"
            )
        return cls(tokens, special_ids, merges=merges)

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path) -> Self:
        """The byte-level BPE of a folder or of a Hub repository such as `Qwen/Qwen2.5-0.5B`."""
        return cls.load(hub_folder(name_or_folder, ["tokenizer.json", "tokenizer_config.json"]))

    @property
    def n_vocab(self) -> int:
        """Number of token ids, special tokens included."""
        return max([len(self.tokens), *(i + 1 for i in self.special_tokens.values())])

    @property
    def eot_id(self) -> int:
        """The id of `<|endoftext|>`, or of the token that another tokenizer ends its texts with."""
        name = END_OF_TEXT if END_OF_TEXT in self.special_tokens else self.eos_token
        return self.special_tokens[name]

    @property
    def stop_ids(self) -> list[int]:
        """The ids that end a text, or a message of a chat model."""
        return sorted({self.eot_id, self.special_tokens.get(self.eos_token, self.eot_id)})

    @cached_property
    def ranks(self) -> dict[bytes, int]:
        """Token -> id, which is also its rank: among neighbours, the lowest union merges first."""
        # an empty entry is a special token's: it has no rank, since no merge may produce it
        return {token: i for i, token in enumerate(self.tokens) if token}

    def normalize(self, text: str) -> str:
        """`text` in the Unicode form that this tokenizer reads; usually as it is."""
        return unicodedata.normalize(self.normalization, text) if self.normalization else text

    @cached_property
    def _encoding(self):
        import tiktoken

        return tiktoken.Encoding(
            "companion",
            pat_str=self.pattern,
            mergeable_ranks=self.ranks,
            special_tokens=self.special_tokens,
        )

    def encode(self, text: str, allowed_special: Collection[str] | str = frozenset()) -> list[int]:
        """Text -> ids. Special tokens count as such only if allowed: a set of them, or "all"."""
        special = self.special_tokens
        allowed = set(special) if allowed_special == "all" else set(allowed_special) & set(special)
        ids: list[int] = []
        # tiktoken would find special tokens itself, but in no fixed order where one begins another
        for piece in split_at_specials(self.normalize(text), allowed):
            ids += [special[piece]] if piece in allowed else self._encoding.encode_ordinary(piece)
        return ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Many texts -> ids, in parallel threads, without special tokens."""
        # tiktoken is compiled and releases Python's lock, so that threads run side by side
        return self._encoding.encode_ordinary_batch(
            [self.normalize(text) for text in texts], num_threads=os.cpu_count() or 1
        )

    def encode_reference(
        self, text: str, allowed_special: Collection[str] = frozenset()
    ) -> list[int]:
        """`encode`, spelled out: within each chunk, join the neighbours whose union was learned
        first.
        """
        ids = []
        for piece in split_at_specials(self.normalize(text), allowed_special):
            if piece in allowed_special:
                ids.append(self.special_tokens[piece])
                continue
            for chunk in regex.findall(self.pattern, piece):
                parts = [bytes([b]) for b in chunk.encode("utf-8")]  # single bytes at first
                while len(parts) > 1:
                    ranks = [  # of every union; infinite: it is no token
                        self.ranks.get(left + right, float("inf"))
                        for left, right in pairwise(parts)
                    ]
                    # among equal ranks, min finds the leftmost pair
                    first = min(range(len(ranks)), key=ranks.__getitem__)
                    if ranks[first] == float("inf"):
                        break
                    parts[first : first + 2] = [parts[first] + parts[first + 1]]
                ids += [self.ranks[part] for part in parts]
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Ids -> the exact bytes."""
        return self._encoding.decode_bytes(list(ids))

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text; bytes that are not UTF-8 (half a character, say) become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` (tokens and merges in GPT-2's printable bytes) and
        `tokenizer_config.json` into `folder`.
        """
        cut = {
            "type": "Split",
            "pattern": {"Regex": self.pattern},
            "behavior": "Isolated",
            "invert": False,
        }
        # the regular expression has cut already, so ByteLevel only has to write bytes printably
        byte_level = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        }
        assert self.merges is not None  # __post_init__ filled them in
        parts = {
            "normalizer": {"type": self.normalization} if self.normalization else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, byte_level]},
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "vocab": {to_printable(token): i for token, i in self.ranks.items()},
                "merges": [f"{to_printable(a)} {to_printable(b)}" for a, b in self.merges],
            },
        }
        config = {"eos_token": self.eos_token, "metadata": self.metadata}
        # GPT-2's only special token separates texts; padding has to use it, too
        if END_OF_TEXT in self.special_tokens:
            config["bos_token"] = config["pad_token"] = END_OF_TEXT
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        write_tokenizer_files(folder, self.special_tokens, parts, config)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, or another byte-level BPE in Hugging Face's format.

        ValueError if it is of another kind, or if its texts are cut in a way that one regular
        expression cannot say.
        """
        saved, config = read_tokenizer_files(folder)
        check_kind(saved, folder, "BPE")
        eos_token = config.get("eos_token") or END_OF_TEXT
        try:
            return cls(
                **_vocabulary(saved),
                pattern=_pattern_of(saved["pre_tokenizer"]),
                metadata=config.get("metadata") or {},
                # some files hold an object here, with the string as its content
                eos_token=eos_token if isinstance(eos_token, str) else eos_token["content"],
                chat_template=config.get("chat_template"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{Path(folder) / FILE_NAME} cannot be used: {error}") from error


def _vocabulary(saved: dict) -> dict:
    """The tokens, special tokens, merges and normalization in the content of a `tokenizer.json`."""
    special_tokens = {token["content"]: token["id"] for token in saved["added_tokens"]}
    ids = {
        from_printable(token): i
        for token, i in saved["model"]["vocab"].items()
        if token not in special_tokens
    }
    # ids of special tokens between those of others stay empty
    tokens = [b""] * (max(ids.values()) + 1)
    for token, i in ids.items():
        tokens[i] = token
    # older files write "a b", newer ones ["a", "b"]
    pairs = [m.split(" ") if isinstance(m, str) else m for m in saved["model"]["merges"]]
    merges = [(from_printable(left), from_printable(right)) for left, right in pairs]
    # the ids in the order in which merges first produce them
    learned = list(dict.fromkeys(ids[left + right] for left, right in merges))
    if any(bytes([b]) not in ids for b in range(256)):
        raise ValueError("its tokens lack some of the 256 bytes")
    # Encoding takes a token's id for its rank. In another order of ids, it would merge in another
    # order than in training, and give ids that the model has never seen for this text.
    if learned != sorted(learned):
        raise ValueError("its ids are not in the order of its merges")
    normalizer = saved.get("normalizer") or {}
    if normalizer.get("type") not in (None, *get_args(Normalization)):
        raise ValueError(f"its normalizer {normalizer['type']!r} is unknown")
    return {
        "tokens": tokens,
        "special_tokens": special_tokens,
        "merges": merges,
        "normalization": normalizer.get("type"),
    }


def gpt2_tokenizer() -> BPETokenizer:
    """GPT-2's tokenizer: from the files in `LLM_COMPANION_DATA`/gpt2 if they are there, else by
    tiktoken.
    """
    folder = Path(os.environ.get("LLM_COMPANION_DATA", "")) / "gpt2"
    if os.environ.get("LLM_COMPANION_DATA") and (folder / "vocab.bpe").is_file():
        return BPETokenizer.from_gpt2_files(folder / "vocab.bpe", folder / "encoder.json")
    return BPETokenizer.from_tiktoken("gpt2")


def load_tokenizer(folder: str | Path) -> BPETokenizer | CharTokenizer | WordTokenizer:
    """Load whatever tokenizer was saved in `folder`."""
    kinds: dict[str, type[BPETokenizer | CharTokenizer | WordTokenizer]]
    kinds = {"BPE": BPETokenizer, "characters": CharTokenizer, "words": WordTokenizer}
    kind = tokenizer_kind(read_tokenizer_files(folder)[0])
    if kind not in kinds:
        raise ValueError(
            f"{Path(folder) / FILE_NAME} is of an unknown type {kind!r}; known: {', '.join(kinds)}"
        )
    return kinds[kind].load(folder)
