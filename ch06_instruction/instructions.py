"""What the story model is asked to do: questions in several forms, lists, retellings, rewriting,
repeating, going on.

A question is first put again in plain words and answered as in chapter 4's stories, which the model
has read by the thousand; a last line has the form that was asked for (rephrase and respond, Deng et
al. 2023). What takes several look-ups is asked in as many small questions (`small_questions`;
self-ask, Press et al. 2022). Every answer follows from the true state of a story, so that a program
can check it. Test instructions are about unseen casts (chapter 1) and in phrasings of their own.
Left out: how an answer is judged, which is `grading`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from ch01_text.storyworld import (
    UNKNOWN,
    Question,
    Story,
    World,
    draw_question,
    names_in,
    question_lines,
    small_questions,
    stories,
    where_is,
    who_has,
)
from ch01_text.storyworld.words import PEOPLE, THINGS, at, the
from ch06_instruction.chat import Message

REFUSAL = "Sorry, the story does not say."
FORMS = ("phrase", "word", "sentence", "json")
UNANSWERABLE_RATE = 0.12  # of questions
OTHER_RATE = 0.25  # of instructions that are no questions
TURNS = 6  # questions about one story in a training conversation, at most

# How a question is put; those for the test are never seen in training.
BEFORE = (
    "",
    "",
    "",
    "",
    "Please tell me: ",
    "I wonder: ",
    "Here is my question. ",
    "Can you help me? ",
    "Question: ",
    "You have read the story. ",
    "One question: ",
    "Tell me this: ",
    "I want to know: ",
    "Please, ",
)
BEHIND = (
    "",
    "",
    "",
    "",
    " Tell me, please.",
    " Thank you.",
    " I would like to know.",
    " Please answer.",
    " Do you know?",
    " What do you say?",
    " Please.",
)
WRAPPINGS = {
    "train": tuple(f"{before}{{}}{behind}" for before in BEFORE for behind in BEHIND),
    "test": (
        "{}",
        "Now tell me: {}",
        "{} Please tell me.",
        "Here is a question. {}",
        "I have read the story. {}",
    ),
}
FORM_WORDS = {
    "phrase": {"train": ("",), "test": ("",)},
    "word": {
        "train": (
            "Answer in one word.",
            "One word only.",
            "Say it in one word.",
            "Just one word, please.",
        ),
        "test": ("Answer in one word, please.", "In one word only."),
    },
    "sentence": {
        "train": (
            "Answer in a full sentence.",
            "Use a full sentence.",
            "Say it in a sentence.",
            "A full sentence, please.",
        ),
        "test": ("Answer in a full sentence, please.", "Say it in a full sentence."),
    },
    "json": {
        "train": ("Answer in JSON.", "Use JSON.", "Say it in JSON.", "JSON only, please."),
        "test": ("Answer in JSON, please.", "In JSON only."),
    },
}
REWRITES = (  # now, in the past, not
    ("goes to", "went to", "does not go to"),
    ("takes", "took", "does not take"),
    ("finds", "found", "does not find"),
    ("loses", "lost", "does not lose"),
    ("drops", "dropped", "does not drop"),
    ("has", "had", "does not have"),
    ("wants", "wanted", "does not want"),
    ("meets", "met", "does not meet"),
)


@dataclass(frozen=True)
class Instruction:
    """One thing to do, and how it is done rightly."""

    messages: tuple[Message, ...]  # what was said so far; ends with the user
    response: str  # what to say; the answer is on the last line
    answer: str  # the last line
    task: str  # "question", "list", "retell", "rewrite", "repeat" or "continue"
    kind: str  # of question, or the task once more
    form: str = "phrase"
    hops: int = 1  # told facts to chain
    answerable: bool = True
    story: Story | None = None
    question: Question | None = None  # for the shortcuts

    def conversation(self) -> list[Message]:
        """The messages with the right response."""
        return [*self.messages, {"role": "assistant", "content": self.response}]


def sentence(question: Question, answer: str) -> str:
    """An answer as a full sentence.

    >>> sentence(Question("Where is Tom?", "the mill", "where-person", "Tom", 1, 0), "the mill")
    'Tom is at the mill.'
    """
    about = question.about if question.about in PEOPLE else the(question.about)
    if question.kind == "who-has":
        text = f"{answer} has {about}"
    else:
        text = f"{about} is {at(answer.removeprefix('the '))}"
    return f"{text[0].upper()}{text[1:]}."


def in_form(question: Question, answer: str | None, form: str) -> str:
    """The answer in the form that was asked for; None: the story does not say."""
    if form == "json":
        return json.dumps({"answer": answer})
    if answer is None:
        return REFUSAL
    if form == "sentence":
        return sentence(question, answer)
    return answer.removeprefix("the ") if form == "word" else answer


def in_plain_words(
    question: Question, answer: str | None, reply: str, steps: Sequence[tuple[str, str]] = ()
) -> str:
    """The whole response to a question: `steps` to it, each asked and answered; the question
    plainly, if the last step has not answered it; and `reply` below, where that is not the same.

    >>> lake = Question("Where is the ring?", "the lake", "where-thing", "ring", 2, 0)
    >>> in_plain_words(lake, "the lake", "lake")
    'Q: Where is the ring?\\nA: the lake\\nA: lake'
    >>> steps = [("Who has the ring?", "Tom"), ("Where is Tom?", "the lake")]
    >>> in_plain_words(lake, "the lake", "the lake", steps)
    'Q: Who has the ring?\\nA: Tom\\nQ: Where is Tom?\\nA: the lake'
    """
    plain = answer or UNKNOWN
    asked = [*steps] if steps and steps[-1][1] == plain else [*steps, (question.text, plain)]
    lines = "".join(question_lines(*one) for one in asked)
    return lines.rstrip() if reply == plain else f"{lines}A: {reply}"


def steps_to(question: Question, world: World) -> list[tuple[str, str]]:
    """The small questions that lead to the answer: of a thing that somebody has, to its place."""
    known = question.kind == "where-thing" and question.about in world.where
    return small_questions(question.about, world) if known else []


class Author:
    """Draws instructions about one story."""

    def __init__(self, rng: Random, split: str, story: Story):
        self.rng, self.split, self.story = rng, split, story

    def ask(self, question: Question, answer: str | None, first: bool = True) -> Instruction:
        """Put a question in a form; `first`: the story comes before it."""
        rng = self.rng
        form = rng.choice(("phrase", *FORMS))
        words = (
            rng.choice(WRAPPINGS[self.split]).format(question.text),
            rng.choice(FORM_WORDS[form][self.split]),
        )
        text = " ".join(word for word in words if word)
        prose = f"{self.story.told(question)}\n" if first else ""
        reply = in_form(question, answer, form)
        response = in_plain_words(
            question, answer, reply, steps_to(question, self.story.world(question))
        )
        return Instruction(
            ({"role": "user", "content": prose + text},),
            response,
            reply,
            "question",
            question.kind,
            form,
            question.hops,
            answer is not None,
            self.story,
            question,
        )

    def unanswerable(self, position: int) -> Question:
        """A question about somebody or something that the story does not tell of."""
        rng, cast = self.rng, self.story.cast
        person = rng.choice([one for one in PEOPLE if one not in cast.people])
        thing = rng.choice([one for one in THINGS if one not in cast.things])
        kind, about = rng.choice(
            (
                ("where-person", person),
                ("where-person", person),
                ("who-has", thing),
                ("where-thing", thing),
            )
        )
        text = who_has(about) if kind == "who-has" else where_is(about)
        return Question(text, "", kind, about, 1, position)

    def questions(self, turns: int) -> list[Instruction]:
        """Up to `turns` questions about the same part of the story; the first comes with it."""
        rng, story = self.rng, self.story
        first = rng.choice(story.questions)
        world = story.world(first)
        several = [first] + [
            draw_question(rng, story.cast, world, first.position) for _ in range(turns - 1)
        ]
        exchanges = []
        for number, question in enumerate({one.text: one for one in several}.values()):
            unknown = question.kind == "unknown" or rng.random() < UNANSWERABLE_RATE
            if unknown:
                question = self.unanswerable(first.position)
            exchanges.append(self.ask(question, None if unknown else question.answer, not number))
        return exchanges

    def other(self) -> Instruction:
        """Something else than a question."""
        return self.rng.choice(
            (self.list, self.retell, self.rewrite, self.repeat, self.repeat, self.going_on)
        )()

    def _instruct(
        self, text: str, answer: str, task: str, prose: str = "", mark: str = ""
    ) -> Instruction:
        content = f"{prose}\n{text}" if prose else text
        return Instruction(
            ({"role": "user", "content": content},),
            mark + answer,
            answer,
            task,
            task,
            story=self.story,
        )

    def list(self) -> Instruction:
        """Name all people, or all things, in the order in which the story does."""
        cast, prose = self.story.cast, self.story.prose
        what, cast_of_them = self.rng.choice((("people", cast.people), ("things", cast.things)))
        named = [one for one in dict.fromkeys(names_in(prose)) if one in cast_of_them]
        request = {
            "train": (
                "List the {} in the story.",
                "Name all {} in the story.",
                "Which {} are in the story?",
            ),
            "test": ("List all {} in the story.",),
        }[self.split]
        return self._instruct(
            self.rng.choice(request).format(what), ", ".join(named), "list", prose, "A: "
        )

    def retell(self) -> Instruction:
        """Say in order where somebody was."""
        person = self.rng.choice(self.story.cast.people)
        visited = self.story.world().visited[person]
        request = {
            "train": (
                "Where was {} first, and then? Tell it in order.",
                "Retell in order where {} was.",
            ),
            "test": ("Tell in order where {} was.",),
        }[self.split]
        return self._instruct(
            self.rng.choice(request).format(person),
            ", ".join(visited),
            "retell",
            self.story.prose,
            "A: ",
        )

    def rewrite(self) -> Instruction:
        """Put a sentence into the past, or deny it."""
        rng, cast = self.rng, self.story.cast
        now, past, negative = rng.choice(REWRITES)
        what = {"goes to": the(rng.choice(cast.places)), "meets": rng.choice(cast.people[1:])}.get(
            now, the(rng.choice(cast.things))
        )
        request, verb = rng.choice(
            (("Put it into the past", past), ("Say that it is not so", negative))
        )
        end = {"train": (": {}", ", please: {}"), "test": (". {}",)}[self.split]
        text = (request + rng.choice(end)).format(f"{cast.people[0]} {now} {what}.")
        return self._instruct(text, f"{cast.people[0]} {verb} {what}.", "rewrite")

    def repeat(self) -> Instruction:
        """Say again, to the letter: sentences of the story, or questions. It trains looking
        back.
        """
        rng, story = self.rng, self.story
        lines = rng.choice((story.sentences, [question.text for question in story.questions]))
        first = rng.randrange(len(lines))
        text = " ".join(lines[first : first + rng.randint(1, 3)])
        request = {
            "train": ("Repeat: {}", "Say it again: {}", "Repeat after me: {}"),
            "test": ("Please repeat: {}",),
        }
        return self._instruct(rng.choice(request[self.split]).format(text), text, "repeat")

    def going_on(self) -> Instruction:
        """Write the next sentence of the story."""
        number = self.rng.randrange(2, len(self.story.sentences))
        request = {
            "train": ("Go on with the story.", "What comes next? Go on."),
            "test": ("Please go on with the story.",),
        }
        return self._instruct(
            self.rng.choice(request[self.split]),
            self.story.sentences[number],
            "continue",
            " ".join(self.story.sentences[:number]),
        )


def conversations(n: int, seed: int = 0) -> Iterator[list[Instruction]]:
    """Yield `n` training conversations, each a list of exchanges: one instruction, or several
    questions in turn.
    """
    for index, story in enumerate(stories(n, split="train", seed=seed)):
        author = Author(Random(f"conversation/{seed}/{index}"), "train", story)
        asks = author.rng.random() >= OTHER_RATE
        yield author.questions(TURNS) if asks else [author.other()]


def instructions(
    n: int, seed: int = 0, split: str = "test", level: str = "base", only: str | None = None
) -> Iterator[Instruction]:
    """Yield `n` single instructions; `only`: of this task."""
    made = 0
    for index, story in enumerate(stories(split=split, level=level, seed=seed)):
        if made == n:
            return
        author = Author(Random(f"instruction/{split}/{seed}/{index}"), split, story)
        one = author.other() if author.rng.random() < OTHER_RATE else author.questions(1)[0]
        if only is None or one.task == only:
            made += 1
            yield one
