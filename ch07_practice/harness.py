"""One harness for every checkpoint: chapter 4's story questions, chapter 6's instructions, and any
text.

Each task is a function from a subject to findings, a value with its 95 % interval each, so that
models can be compared line by line. Left out: the shortcuts beside which the values count, which
chapters 4 and 6 report.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from ch01_text import load_documents, split_documents
from ch01_text.corpora import TEXT_NAMES
from ch01_text.storyworld import NOBODY, Question, Story, question_lines
from ch01_text.storyworld.words import the
from ch03_gpt import GPTModel, Precision, document_start
from ch04_pretraining import bits_per_byte
from ch04_pretraining.corpus import HELD_OUT_STORIES, story_documents
from ch04_pretraining.questions import TEST_SETS, confidence_interval, draw_questions, grade
from ch06_instruction.answering import Chat
from ch06_instruction.chat import SPECIALS, Message
from ch06_instruction.evaluation import ask_base, examine
from ch06_instruction.grading import exact_match, summarize_answers
from ch06_instruction.instructions import instructions
from ch07_practice.likelihood import ratio_interval, score_rows, text_windows


@dataclass(frozen=True)
class Subject:
    """A model to be examined."""

    name: str
    model: GPTModel
    tokenizer: object
    precision: Precision

    @property
    def chats(self) -> bool:
        """Whether it was taught to answer messages (chapter 6)."""
        return set(SPECIALS) <= set(self.tokenizer.special_tokens)

    @property
    def chat(self) -> Chat:
        return Chat(self.model, self.tokenizer, self.precision)

    def prompt(self, story: Story, question: Question) -> list[int]:
        """The ids after which the answer stands, as in chapter 4's texts: behind "Q: ... A:", where
        a chat model's own response to a message begins so.
        """
        if self.chats:
            begun = self.tokenizer.encode(question_lines(question.text))
            return [*self.chat.prompt([as_message(story, question)]), *begun]
        return document_start(self.tokenizer, story.prompt(question))

    def score(self, rows: Sequence[tuple[Sequence[int], str]]) -> list[tuple[float, bool]]:
        """(prompt ids, continuation text) -> (log-probability, whether greedy decoding would
        write it) for each.
        """
        return score_rows(
            self.model,
            [(prompt, self.tokenizer.encode(text)) for prompt, text in rows],
            self.precision,
        )


@dataclass(frozen=True)
class Size:
    """How much each task asks."""

    questions: int = 500
    tokens: int = 50_000  # of each text
    texts: tuple[str, ...] = ("storyworld",)
    seed: int = 1


@dataclass(frozen=True)
class Finding:
    """A value with its 95 % interval; `n`: questions or tokens."""

    task: str
    measure: str
    value: float
    ci95_low: float
    ci95_high: float
    n: int

    def __str__(self) -> str:
        if self.measure in ("perplexity", "bits per byte"):
            return f"{self.value:.3f} ({self.ci95_low:.3f}-{self.ci95_high:.3f})"
        if self.ci95_low == self.ci95_high:
            return f"{self.value:.1%}"
        return f"{self.value:.1%} ({self.ci95_low:.1%}-{self.ci95_high:.1%})"


def share(task: str, measure: str, hits: Sequence[bool]) -> Finding:
    """The share of hits, with Wilson's interval."""
    low, high = confidence_interval(sum(hits), len(hits))
    return Finding(task, measure, sum(hits) / len(hits), max(0.0, low), min(1.0, high), len(hits))


def as_message(story: Story, question: Question) -> Message:
    """A question and the story before it, as chapter 6 asks."""
    return {"role": "user", "content": f"{story.told(question)}\n{question.text}"}


def choices_of(story: Story, question: Question) -> list[str]:
    """All answers of the right kind in a story, the right one among them."""
    if question.kind == "who-has":
        return [*story.cast.people, NOBODY]
    return [the(place) for place in story.cast.places]


def choose(
    subject: Subject, items: Sequence[tuple[Sequence[int], Sequence[str]]]
) -> list[tuple[int, int]]:
    """(prompt ids, choices) -> the number of the likeliest choice, by its log-probability and by
    that a character: long choices lose by the first and not by the second (acc and acc_norm of Gao
    et al.'s lm-evaluation-harness).
    """
    scores = iter(
        subject.score([(prompt, choice) for prompt, choices in items for choice in choices])
    )
    picked = []
    for _, choices in items:
        log_p = [next(scores)[0] for _ in choices]
        normalised = [value / len(choice) for value, choice in zip(log_p, choices, strict=True)]
        picked.append((log_p.index(max(log_p)), normalised.index(max(normalised))))
    return picked


def examine_stories(subject: Subject, size: Size) -> list[Finding]:
    """Chapter 4's questions: the greedy answer, to the letter; a chat model may ask again before
    it.
    """
    findings = []
    for name, level in TEST_SETS.items():
        pairs = draw_questions("test", level, size.questions, size.seed)
        if subject.chats:
            said = subject.chat.respond([[as_message(*pair)] for pair in pairs])
            hits = [
                exact_match(text, question.answer)
                for text, (_, question) in zip(said, pairs, strict=True)
            ]
        else:
            hits = grade(subject.model, subject.tokenizer, pairs, subject.precision)
        findings.append(share("stories", f"exact match, {name}", hits))
    return findings


def examine_choices(subject: Subject, size: Size) -> list[Finding]:
    """The same questions as multiple choice: which of the story's places, people or things is
    likeliest?
    """
    pairs = draw_questions("test", "base", size.questions, size.seed)
    choices = [[f" {choice}" for choice in choices_of(*pair)] for pair in pairs]
    wanted = [
        several.index(f" {question.answer}")
        for several, (_, question) in zip(choices, pairs, strict=True)
    ]
    picked = choose(
        subject,
        [(subject.prompt(*pair), several) for pair, several in zip(pairs, choices, strict=True)],
    )
    by_chance = sum(1 / len(several) for several in choices) / len(choices)
    return [
        share(
            "choice",
            "likeliest",
            [plain == right for (plain, _), right in zip(picked, wanted, strict=True)],
        ),
        share(
            "choice",
            "likeliest a character",
            [normalised == right for (_, normalised), right in zip(picked, wanted, strict=True)],
        ),
        Finding("choice", "by chance", by_chance, by_chance, by_chance, len(choices)),
    ]


def examine_instructions(subject: Subject, size: Size) -> list[Finding]:
    """Chapter 6's questions, answered by writing; a model that cannot chat is asked in chapter
    4's form.
    """
    asked = list(instructions(size.questions, size.seed, only="question"))
    rows, _ = (examine if subject.chats else ask_base)(subject.chat, asked)
    summary = summarize_answers(rows)
    found = [
        ("exact match", summary),
        *(
            (name.replace("_", " "), summary[name])
            for name in ("one_hop", "two_hop")
            if name in summary
        ),
    ]
    return [
        Finding(
            "instructions", name, one["exact_match"], one["ci95_low"], one["ci95_high"], one["n"]
        )
        for name, one in found
    ]


def held_out(name: str, seed: int) -> list[str]:
    """The documents of a text by name that no training run of these chapters has seen, or all of
    a file or folder.
    """
    if name == "storyworld":
        return story_documents("test", HELD_OUT_STORIES, seed)
    documents = load_documents(name)
    return split_documents(documents)[1] if name in TEXT_NAMES else documents


def measure_text(
    subject: Subject, name: str, documents: Sequence[str], tokens: int
) -> list[Finding]:
    """Perplexity a token and bits a byte of documents, up to `tokens` of them, each read from
    its beginning.
    """
    context, encoded, n_bytes, room = subject.model.config.context_length, [], 0, tokens
    for document in documents:
        ids = subject.tokenizer.encode(document)
        n_bytes += len(
            (document if len(ids) <= room else subject.tokenizer.decode(ids[:room])).encode()
        )
        encoded.append(ids[:room])
        room -= len(encoded[-1])
        if not room:
            break
    rows = [
        row
        for ids in encoded
        for row in text_windows(
            ids, subject.tokenizer.eot_id, context, overlap=max(1, context // 2)
        )
    ]
    if not rows:
        raise ValueError(f"the text {name} has no token; choose a longer one")
    counts = [len(scored) for _, scored in rows]
    nats = [
        -log_p for log_p, _ in score_rows(subject.model, rows, subject.precision, f"reading {name}")
    ]
    losses, n = ratio_interval(nats, counts), sum(counts)
    return [
        Finding(name, "perplexity", *map(math.exp, losses), n),
        Finding(name, "bits per byte", *(bits_per_byte(loss, n, n_bytes) for loss in losses), n),
    ]


def examine_texts(subject: Subject, size: Size) -> list[Finding]:
    """Every text that was asked for."""
    return [
        finding
        for name in size.texts
        for finding in measure_text(subject, name, held_out(name, size.seed), size.tokens)
    ]


TASKS: dict[str, Callable[[Subject, Size], list[Finding]]] = {
    "stories": examine_stories,
    "choice": examine_choices,
    "instructions": examine_instructions,
    "text": examine_texts,
}


def examine_subject(subject: Subject, tasks: Sequence[str], size: Size) -> list[dict]:
    """All findings of the tasks, a row each."""
    return [
        {"model": subject.name, **asdict(finding), "shown": str(finding)}
        for task in tasks
        for finding in TASKS[task](subject, size)
    ]
