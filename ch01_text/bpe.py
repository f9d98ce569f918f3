"""Byte-pair encoding: merge the most frequent pair of neighbours, again and again (Sennrich et al.
2016), on bytes and within GPT-2's word-like chunks (Radford et al. 2019).

Training is ours. Encoding runs in tiktoken on our tokens; `encode_reference` spells it out.
"""

import json
import os
from collections.abc import Collection, Iterable
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Self

import regex

from ch01_text.bpe_training import BYTES, count_words, train_merges
from ch01_text.run import write_atomically
from ch01_text.tokenizer import (
    END_OF_TEXT,
    FILE_NAME,
    CharTokenizer,
    WordTokenizer,
    as_documents,
    read_tokenizer_file,
    split_at_specials,
)

GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


@cache
def printable_bytes() -> tuple[str, ...]:
    """GPT-2's printable stand-in for each of the 256 bytes: itself where visible, else U+0100
    and up.
    """
    visible = {b for span in (range(33, 127), range(161, 173), range(174, 256)) for b in span}
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


class BPETokenizer:
    """`tokens[i]` are the bytes of id i, in the order in which they were learned; specials come
    after.
    """

    def __init__(
        self,
        tokens: list[bytes],
        special_tokens: dict[str, int],
        pattern: str = GPT2_PATTERN,
        merges: list[tuple[bytes, bytes]] | None = None,
        metadata: dict | None = None,
    ):
        self.tokens, self.special_tokens, self.pattern = tokens, special_tokens, pattern
        self.merges = merges or []  # what training merged, in order
        self.metadata = metadata or {}

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

        Ties go to the pair whose tokens were learned first. ValueError where `vocab_size` is below
        the byte alphabet or above what the text supports.
        """
        smallest = 256 + len(special_tokens)
        if vocab_size < smallest:
            raise ValueError(
                f"vocab_size {vocab_size} is below the 256 bytes and {len(special_tokens)} special "
                f"tokens; choose at least {smallest}"
            )
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
        if len(tokens) < vocab_size - len(special_tokens):
            raise ValueError(
                f"vocab_size {vocab_size} is above what this text supports: nothing is left to"
                f" merge after {len(tokens) + len(special_tokens)} tokens; choose at most that, or"
                " a longer text"
            )
        specials = {token: len(tokens) + i for i, token in enumerate(special_tokens)}
        return cls(tokens, specials, merges=merges, metadata=metadata)

    @classmethod
    def from_tiktoken(cls, name: str = "gpt2") -> Self:
        """Take over an encoding of tiktoken's, which downloads it once; OSError where it cannot."""
        import tiktoken

        try:
            encoding = tiktoken.get_encoding(name)
        except OSError as error:
            raise OSError(
                f"tiktoken cannot download {name!r} ({type(error).__name__}); connect once, or put"
                " GPT-2's vocab.bpe and encoder.json into the folder gpt2 of LLM_COMPANION_DATA,"
                " or train a tokenizer with ch01_text/main.py"
            ) from error
        tokens = sorted(encoding._mergeable_ranks, key=encoding._mergeable_ranks.get)
        return cls(tokens, dict(encoding._special_tokens), encoding._pat_str)

    @classmethod
    def from_gpt2_files(cls, vocab_bpe: str | Path, encoder_json: str | Path) -> Self:
        """Build GPT-2's tokenizer from its two published files; ValueError where they disagree."""
        lines = Path(vocab_bpe).read_text(encoding="utf-8").split("\n")[1:]
        merges = [tuple(from_printable(part) for part in line.split()) for line in lines if line]
        ids = json.loads(Path(encoder_json).read_text(encoding="utf-8"))
        tokens = [bytes([b]) for b in BYTES] + [left + right for left, right in merges]
        special_ids = {token: i for token, i in ids.items() if i >= len(tokens)}
        if ids != {to_printable(token): i for i, token in enumerate(tokens)} | special_ids:
            raise ValueError(
                f"{vocab_bpe} and {encoder_json} do not belong together: their token ids differ"
            )
        return cls(tokens, special_ids, merges=merges)

    @property
    def n_vocab(self) -> int:
        """Number of token ids, special tokens included."""
        return max([len(self.tokens), *(i + 1 for i in self.special_tokens.values())])

    @property
    def eot_id(self) -> int:
        """The id of `<|endoftext|>`."""
        return self.special_tokens[END_OF_TEXT]

    @cached_property
    def ranks(self) -> dict[bytes, int]:
        """Token -> id."""
        return {token: i for i, token in enumerate(self.tokens)}

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
        """Text -> ids; special tokens count as such only where allowed (a set of them, or
        "all").
        """
        allowed = (
            allowed_special
            if allowed_special == "all"
            else set(allowed_special) & set(self.special_tokens)
        )
        return self._encoding.encode(text, allowed_special=allowed, disallowed_special=())

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Many texts -> ids, in parallel threads, without special tokens."""
        return self._encoding.encode_ordinary_batch(texts, num_threads=os.cpu_count() or 1)

    def encode_reference(
        self, text: str, allowed_special: Collection[str] = frozenset()
    ) -> list[int]:
        """`encode`, spelled out: within each chunk, join the neighbours whose union was learned
        first.
        """
        ids = []
        for piece in split_at_specials(text, allowed_special):
            if piece in allowed_special:
                ids.append(self.special_tokens[piece])
                continue
            for chunk in regex.findall(self.pattern, piece):
                parts = [bytes([b]) for b in chunk.encode("utf-8")]
                while len(parts) > 1:
                    ranks = [
                        self.ranks.get(left + right, len(self.ranks))
                        for left, right in pairwise(parts)
                    ]
                    first = min(range(len(ranks)), key=ranks.__getitem__)
                    if ranks[first] == len(self.ranks):
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
        """Write `tokenizer.json`: pattern, special tokens, and the tokens in GPT-2's printable
        bytes.
        """
        write_atomically(
            Path(folder) / FILE_NAME,
            json.dumps(
                {
                    "type": "bpe",
                    "pattern": self.pattern,
                    "special_tokens": self.special_tokens,
                    "metadata": self.metadata,
                    "tokens": [to_printable(token) for token in self.tokens],
                    "merges": [
                        [to_printable(left), to_printable(right)] for left, right in self.merges
                    ],
                },
                ensure_ascii=False,
                indent=0,
            ),
        )

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; ValueError where it is of another kind."""
        saved = read_tokenizer_file(folder, "bpe")
        merges = [(from_printable(left), from_printable(right)) for left, right in saved["merges"]]
        return cls(
            [from_printable(token) for token in saved["tokens"]],
            saved["special_tokens"],
            saved["pattern"],
            merges,
            saved["metadata"],
        )


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
    kinds = {"bpe": BPETokenizer, "char": CharTokenizer, "word": WordTokenizer}
    kind = read_tokenizer_file(folder).get("type")
    if kind not in kinds:
        raise ValueError(
            f"{Path(folder) / FILE_NAME} is of an unknown type {kind!r}; known: {', '.join(kinds)}"
        )
    return kinds[kind].load(folder)
