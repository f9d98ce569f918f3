"""Text to token ids the simple ways: one id per character, or one id per word.

All tokenizers share `train`, `load`, `save`, `encode`, `decode`, `n_vocab` and `eot_id`. A special
token in a text counts as one only if `allowed_special` names it. Otherwise it is ordinary text, so
that nobody can smuggle one in. They are saved as Hugging Face's `tokenizer.json` and
`tokenizer_config.json`, which `tokenizers` and `AutoTokenizer` open and read into the same ids.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol, Self, runtime_checkable

from ch01_text.run import write_atomically

END_OF_TEXT = "<|endoftext|>"
# the book's token for words, and here also characters, that are not in the vocabulary
UNKNOWN = "<|unk|>"
FILE_NAME = "tokenizer.json"
CONFIG_NAME = "tokenizer_config.json"


def as_documents(text: str | Iterable[str]) -> Iterable[str]:
    """A single text counts as one document."""
    return [text] if isinstance(text, str) else text


# A class need not inherit from a Protocol, only have its methods. `isinstance` compares their
# names, not their parameters.
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
    def special_tokens(self) -> Mapping[str, int]: ...

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
    # re takes the first alternative that fits, so a token must stand before any of its prefixes
    longest_first = sorted(specials, key=lambda token: (-len(token), token))
    # the parentheses make re.split return the special tokens, too
    pattern = "(" + "|".join(map(re.escape, longest_first)) + ")"
    return [piece for piece in re.split(pattern, text) if piece]


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); train the tokenizer again") from error
    return content


def read_tokenizer_files(folder: str | Path) -> tuple[dict, dict]:
    """The contents of a folder's `tokenizer.json` and `tokenizer_config.json` ({} if the second is
    missing). Errors are one line: the file is missing, damaged, or of our former format.
    """
    path, config_path = Path(folder) / FILE_NAME, Path(folder) / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {FILE_NAME} in {folder}; train a tokenizer with ch01_text/main.py"
        )
    saved = _read_json(path)
    if "type" in saved:
        raise ValueError(f"{path} was made by an earlier version; train the tokenizer again")
    if not isinstance(saved.get("model"), dict):
        raise ValueError(f"{path} is damaged (it has no model); train the tokenizer again")
    return saved, _read_json(config_path) if config_path.is_file() else {}


def tokenizer_kind(saved: dict) -> str:
    """What a `tokenizer.json` holds: "BPE", "characters", "words", or the name of another model."""
    for kind in (CharTokenizer, WordTokenizer):
        # both are "WordLevel" in Hugging Face's format; only how they cut a text differs
        if saved["model"].get("type") == "WordLevel" and saved["pre_tokenizer"] == kind.SPLIT:
            return kind.kind
    return saved["model"].get("type")


def check_kind(saved: dict, folder: str | Path, kind: str) -> None:
    """ValueError if `tokenizer.json` holds another kind of tokenizer."""
    if tokenizer_kind(saved) != kind:
        raise ValueError(
            f"{Path(folder) / FILE_NAME} holds a tokenizer of type {tokenizer_kind(saved)!r}, not"
            f" {kind!r}"
        )


def write_tokenizer_files(
    folder: str | Path, special_tokens: Mapping[str, int], parts: dict, config: dict
) -> None:
    """Write `tokenizer.json`, made of its `parts`, and `tokenizer_config.json` into `folder`."""
    added_tokens = [
        {"id": i, "content": token, "special": True}
        # matched exactly as written: inside words too, without the spaces around, and in the text
        # as it is before normalization
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for token, i in special_tokens.items()
    ]
    # null: a step that is left out
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor"))
    saved = {"version": "1.0", "added_tokens": added_tokens} | empty | parts
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,  # decoding must not change the text
    } | config
    # `ensure_ascii=False` writes an "é" as it is; the other way would be \u00e9
    for name, content in ((FILE_NAME, saved), (CONFIG_NAME, config)):
        write_atomically(
            Path(folder) / name, json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        )


class VocabularyTokenizer:
    """What character and word tokenizers share: a list of tokens, the special ones last.

    A subclass says how `split(text)` cuts a text into tokens, and what `tokenizer.json` calls this
    cut and its inverse.
    """

    kind: str
    SPLIT: ClassVar[dict]
    JOIN: ClassVar[dict]
    joiner = ""

    @classmethod
    def split(cls, text: str) -> Iterable[str]:
        """The tokens of a text that contains no special ones."""
        raise NotImplementedError

    def __init__(
        self, tokens: list[str], special_tokens: tuple[str, ...], metadata: dict | None = None
    ):
        # for decoding, a list: its index is the id; for encoding, a dictionary
        self.tokens = [*tokens, *special_tokens]
        self.metadata = metadata or {}
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.special_tokens = {token: self.ids[token] for token in special_tokens}
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

        `vocab_size` keeps only the most frequent tokens and counts the special ones, too.
        ValueError if the text is empty or the size leaves no room for a token.
        """
        # as in a set, every token once, but in the given order
        special_tokens = tuple(dict.fromkeys((*special_tokens, UNKNOWN)))
        counts: Counter[str] = Counter()
        for document in as_documents(text):
            counts.update(cls.split(document))
        # In a training text, "<|endoftext|>" is a word like any other to `WordTokenizer.split`. It
        # would enter the vocabulary a second time.
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
        # the alphabet decides between equal counts, so that the result is reproducible
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

    @property
    def stop_ids(self) -> list[int]:
        """The ids that end a text."""
        return [self.eot_id]

    def encode(self, text: str, allowed_special: Collection[str] | str = frozenset()) -> list[int]:
        """Text -> ids. Unknown pieces become `<|unk|>`; no text raises an error."""
        special = set(self.special_tokens)
        allowed = special if allowed_special == "all" else special & set(allowed_special)
        unknown = self.ids[UNKNOWN]
        ids = []
        # a special token that is not allowed is not cut out, and goes through `split` like any word
        for piece in split_at_specials(text, allowed):
            if piece in allowed:
                ids.append(self.ids[piece])
            else:
                ids += [
                    # `ids` knows special tokens as well, but here they are not allowed
                    unknown if token in self.special_tokens else self.ids.get(token, unknown)
                    for token in self.split(piece)
                ]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text."""
        return self.joiner.join(self.tokens[i] for i in ids)

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` into `folder`."""
        parts = {
            "pre_tokenizer": self.SPLIT,
            "decoder": self.JOIN,
            # a plain table: whatever SPLIT cuts out is looked up, and is unknown if it is not there
            "model": {"type": "WordLevel", "vocab": self.ids, "unk_token": UNKNOWN},
        }
        write_tokenizer_files(
            folder,
            self.special_tokens,
            parts,
            {
                "unk_token": UNKNOWN,
                "bos_token": END_OF_TEXT,
                "eos_token": END_OF_TEXT,
                "metadata": self.metadata,
            },
        )

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; ValueError if it is of another kind."""
        saved, config = read_tokenizer_files(folder)
        check_kind(saved, folder, cls.kind)
        ids = saved["model"]["vocab"]
        special_tokens = tuple(token["content"] for token in saved["added_tokens"])
        # the constructor appends the special tokens, which `vocab` contains already
        tokens = [token for token in sorted(ids, key=ids.get) if token not in special_tokens]
        return cls(tokens, special_tokens, config.get("metadata"))


class CharTokenizer(VocabularyTokenizer):
    """One id per character.

    >>> tokenizer = CharTokenizer.train("hello")
    >>> tokenizer.encode("hole"), tokenizer.decode([1, 0, 2, 2, 3])
    ([1, 3, 2, 0], 'hello')
    """

    kind = "characters"
    # [\s\S] is any character at all; a dot would leave out line ends
    SPLIT: ClassVar = {
        "type": "Split",
        "pattern": {"Regex": r"[\s\S]"},
        "behavior": "Isolated",
        "invert": False,
    }
    JOIN: ClassVar = {"type": "Fuse"}  # joins without spaces

    @classmethod
    def split(cls, text: str) -> Iterable[str]:
        return text


class WordTokenizer(VocabularyTokenizer):
    """One id per word or punctuation mark, cut as by the book's SimpleTokenizer; spacing is lost.

    >>> tokenizer = WordTokenizer.train("Hello, world. Hello!")
    >>> tokenizer.decode(tokenizer.encode("Hello, world!"))
    'Hello, world!'
    """

    kind = "words"
    joiner = " "
    # A double dash, a single mark, or a run of anything else but white space. (?!--) ends a word
    # before a double dash ("so--then"), though not before a hyphen ("well-known").
    # \x1c to \x1f are spaces to Python, but not to the regular expressions of `tokenizers`
    PIECES = re.compile(r"""--|[,.:;?_!"()']|(?:(?!--)[^\s\x1c-\x1f,.:;?_!"()'])+""")
    # `invert` keeps the matches and removes what lies between them
    SPLIT: ClassVar = {
        "type": "Split",
        "pattern": {"Regex": PIECES.pattern},
        "behavior": "Removed",
        "invert": True,
    }
    # a space before each token but punctuation, then no space at the beginning of the text
    JOIN: ClassVar = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"Regex": r"""\A(?![,.:;?!"()'])"""}, "content": " "},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }

    @classmethod
    def split(cls, text: str) -> Iterable[str]:
        return cls.PIECES.findall(text)

    def decode(self, ids: Iterable[int]) -> str:
        # The book's rule, no space before a mark, cannot tell opening quotation marks and brackets
        # from closing ones: `say "hi"` comes back as `say" hi"`.
        return re.sub(r"""\s+([,.:;?!"()'])""", r"\1", super().decode(ids))


class SimpleTokenizerV2(WordTokenizer):
    """The book's name: a WordTokenizer of a given vocabulary {token: id}; special tokens in a text
    count as such.
    """

    def __init__(self, vocab: Mapping[str, int]):
        self.ids = dict(vocab)
        self.tokens = {i: token for token, i in vocab.items()}  # type: ignore[assignment]  # ids may have gaps
        self.special_tokens = {
            token: vocab[token] for token in (END_OF_TEXT, UNKNOWN) if token in vocab
        }
        self.metadata = {}

    @classmethod
    def train(cls, *arguments, **settings) -> Self:
        """`WordTokenizer.train`."""
        return cls(WordTokenizer.train(*arguments, **settings).ids)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, with the same ids, also where they have gaps."""
        saved, _ = read_tokenizer_files(folder)
        check_kind(saved, folder, cls.kind)
        return cls(saved["model"]["vocab"])

    def encode(self, text: str, allowed_special: Collection[str] | str = "all") -> list[int]:
        return super().encode(text, allowed_special)
