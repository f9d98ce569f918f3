"""Text to token ids the simple ways: one id a character, or one id a word.

All tokenizers share `train`, `load`, `save`, `encode`, `decode`, `n_vocab`, `eot_id`. A special
token that occurs in a text is only treated as one where `allowed_special` names it; elsewhere it is
ordinary text, so that a text cannot smuggle one in.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from ch01_text.run import write_atomically

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<|unk|>"
FILE_NAME = "tokenizer.json"


def as_documents(text: str | Iterable[str]) -> Iterable[str]:
    """A single text counts as one document."""
    return [text] if isinstance(text, str) else text


@runtime_checkable
class Tokenizer(Protocol):
    """What every tokenizer of this project can do; code that takes one needs no more."""

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int,
        special_tokens: tuple[str, ...] = (END_OF_TEXT,),
    ) -> Self: ...

    @classmethod
    def load(cls, folder: str | Path) -> Self: ...

    def save(self, folder: str | Path) -> None: ...

    def encode(
        self, text: str, allowed_special: Collection[str] | str = frozenset()
    ) -> list[int]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    @property
    def n_vocab(self) -> int: ...

    @property
    def eot_id(self) -> int: ...


def split_at_specials(text: str, specials: Collection[str]) -> list[str]:
    """Cut `text` so that every occurrence of a special token is a piece of its own.

    >>> split_at_specials("a<|endoftext|>b", {"<|endoftext|>"})
    ['a', '<|endoftext|>', 'b']
    """
    if not specials:
        return [text]
    return [
        piece
        for piece in re.split("(" + "|".join(map(re.escape, sorted(specials))) + ")", text)
        if piece
    ]


def read_tokenizer_file(folder: str | Path, kind: str | None = None) -> dict:
    """Return the content of a folder's `tokenizer.json`; one-line errors where it is missing or
    damaged.
    """
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {FILE_NAME} in {folder}; train a tokenizer with ch01_text/main.py"
        )
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(saved, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); train the tokenizer again") from error
    if kind is not None and saved.get("type") != kind:
        raise ValueError(f"{path} holds a tokenizer of type {saved.get('type')!r}, not {kind!r}")
    return saved


class VocabularyTokenizer:
    """What character and word tokenizers share: a list of tokens, the special ones last.

    A subclass says how `split(text)` cuts a text into tokens, and its `kind` in the file.
    """

    kind: str
    joiner = ""

    def __init__(
        self, tokens: list[str], special_tokens: tuple[str, ...], metadata: dict | None = None
    ):
        self.tokens = [*tokens, *special_tokens]
        self.special_tokens = special_tokens
        self.metadata = metadata or {}
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            raise ValueError("a token occurs twice in the vocabulary")

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int | None = None,
        special_tokens: tuple[str, ...] = (END_OF_TEXT,),
        metadata: dict | None = None,
    ) -> Self:
        """Collect the vocabulary of a text or of several; `<|unk|>` is added for everything else.

        `vocab_size` keeps the most frequent tokens only, the specials included. ValueError where
        the text is empty or the size leaves no room for a token.
        """
        special_tokens = tuple(dict.fromkeys((*special_tokens, UNKNOWN)))
        counts = Counter()
        for document in as_documents(text):
            counts.update(cls.split(document))
        for special in special_tokens:
            counts.pop(special, None)
        if not counts:
            raise ValueError("the text to train a tokenizer on is empty")
        kept = len(counts) if vocab_size is None else vocab_size - len(special_tokens)
        if kept < 1:
            raise ValueError(
                f"vocab_size {vocab_size} leaves no room beside {len(special_tokens)} special"
                f" tokens; choose at least {len(special_tokens) + 1}"
            )
        frequent = sorted(counts, key=lambda token: (-counts[token], token))[:kept]
        return cls(sorted(frequent), special_tokens, metadata)

    @property
    def n_vocab(self) -> int:
        """Number of token ids, special tokens included."""
        return len(self.tokens)

    @property
    def eot_id(self) -> int:
        """The id of `<|endoftext|>`."""
        return self.ids[END_OF_TEXT]

    def encode(self, text: str, allowed_special: Collection[str] | str = frozenset()) -> list[int]:
        """Text -> ids. Unknown pieces become `<|unk|>`; no text raises an error."""
        allowed = set(self.special_tokens) if allowed_special == "all" else set(allowed_special)
        unknown = self.ids[UNKNOWN]
        ids = []
        for piece in split_at_specials(text, allowed & set(self.special_tokens)):
            if piece in allowed:
                ids.append(self.ids[piece])
            else:
                ids += [
                    unknown if token in self.special_tokens else self.ids.get(token, unknown)
                    for token in self.split(piece)
                ]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text."""
        return self.joiner.join(self.tokens[i] for i in ids)

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` into `folder`."""
        plain = self.tokens[: len(self.tokens) - len(self.special_tokens)]
        write_atomically(
            Path(folder) / FILE_NAME,
            json.dumps(
                {
                    "type": self.kind,
                    "special_tokens": self.special_tokens,
                    "metadata": self.metadata,
                    "tokens": plain,
                },
                ensure_ascii=False,
                indent=0,
            ),
        )

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; ValueError where it is of another kind."""
        saved = read_tokenizer_file(folder, cls.kind)
        return cls(saved["tokens"], tuple(saved["special_tokens"]), saved["metadata"])


class CharTokenizer(VocabularyTokenizer):
    """One id a character.

    >>> tokenizer = CharTokenizer.train("hello")
    >>> tokenizer.encode("hole"), tokenizer.decode([1, 0, 2, 2, 3])
    ([1, 3, 2, 0], 'hello')
    """

    kind = "char"

    @classmethod
    def split(cls, text: str) -> Iterable[str]:
        return text


class WordTokenizer(VocabularyTokenizer):
    """One id a word or punctuation mark, as the book's SimpleTokenizer cuts them; spacing is lost.

    >>> tokenizer = WordTokenizer.train("Hello, world. Hello!")
    >>> tokenizer.decode(tokenizer.encode("Hello, world!"))
    'Hello, world!'
    """

    kind = "word"
    joiner = " "
    PIECES = re.compile(r"""--|[,.:;?_!"()']|(?:(?!--)[^\s,.:;?_!"()'])+""")

    @classmethod
    def split(cls, text: str) -> Iterable[str]:
        return cls.PIECES.findall(text)

    def decode(self, ids: Iterable[int]) -> str:
        return re.sub(r"""\s+([,.:;?!"()'])""", r"\1", super().decode(ids))


class SimpleTokenizerV2(WordTokenizer):
    """The book's name: a WordTokenizer of a given vocabulary {token: id}; specials in a text
    count.
    """

    def __init__(self, vocab: Mapping[str, int]):
        self.ids = dict(vocab)
        self.tokens = {i: token for token, i in vocab.items()}
        self.special_tokens = tuple(token for token in (END_OF_TEXT, UNKNOWN) if token in vocab)
        self.metadata = {}

    def encode(self, text: str) -> list[int]:
        return super().encode(text, allowed_special="all")
