"""The storyworld's side of this chapter, and the only module that knows it: instructions about
stories, how they are graded and rewarded, pairs of responses, and cheap baselines.

A response first repeats the question in the words of chapter 4's stories and answers it there, as
the model has learned to do; the last line then has the form that was asked for (rephrase and
respond, Deng et al. 2023). The place of a thing that somebody has takes two small questions
(self-ask, Press et al. 2022). Every answer follows from the true state of a story, so a program can
check it. Test instructions are about unseen pairs of people and things, in unseen wordings.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from random import Random

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ch01_text import Tokenizer
from ch01_text.storyworld import (
    UNKNOWN,
    Question,
    Story,
    all_shortcuts,
    draw_question,
    names_in,
    question_lines,
    small_questions,
    stories,
    where_is,
)
from ch01_text.storyworld.words import PEOPLE, at, the
from ch04_pretraining.story_corpus import LATE, AnswerLoss, answer_mask, story_documents
from ch06_instruction.answering import Chat
from ch06_instruction.chat import EncodedChat, Message, Prompt
from ch06_instruction.chat_datasets import Preference
from ch06_instruction.evaluation import evaluate_base_model, evaluate_greedy
from ch06_instruction.grading import accuracy_with_ci, exact_match, final_answer
from ch06_instruction.rewards import RewardFn, match_reward, prompt_key

REFUSAL = "Sorry, the story does not say."
PLAIN_RATE = 0.6  # of questions, at least, are worded as in the stories
UNANSWERABLE_RATE = 0.1  # of questions are about somebody whom the story does not mention
LIST_RATE = 0.15  # of instructions are not questions
TURNS = 4  # most questions about one story in a training conversation
FORM_REWARD = 0.1  # for a wrong answer in the form asked for; the right answer gets 1
KINDS = ("right", "honest", "brief", "polite")  # of preferences

# How else a question is worded, and how a form is asked for; the test's words are not in training.
BEFORE = ("", "Please tell me: ", "I wonder: ", "Can you help me? ", "Here is my question. ")
BEHIND = ("", " Tell me, please.", " Do you know?", " Thank you.", " Please answer.")
WRAPPINGS = {
    "train": tuple(f"{before}{{}}{behind}" for before in BEFORE for behind in BEHIND),
    "test": ("Now tell me: {}", "{} Please tell me.", "I have read the story. {}"),
}
FORM_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "phrase": {"train": ("",), "test": ("",)},
    "word": {
        "train": ("Answer in one word.", "One word only.", "Just one word, please."),
        "test": ("Answer in one word, please.", "In one word only."),
    },
    "sentence": {
        "train": (
            "Answer in a full sentence.",
            "Say it in a sentence.",
            "A full sentence, please.",
        ),
        "test": ("Answer in a full sentence, please.", "Say it in a full sentence."),
    },
    "json": {
        "train": ("Answer in JSON.", "Use JSON.", "JSON only, please."),
        "test": ("Answer in JSON, please.", "In JSON only."),
    },
}
LIST_WORDS = {
    "train": ("List the {} in the story.", "Name all {} in the story."),
    "test": ("List all {} in the story.",),
}
RAMBLING = (
    "That is a good question.",
    "Everybody in the village knows that.",
    "It was a long day.",
    "I could tell you much more.",
)
RUDE = ("Read it yourself.", "What a silly question.", "I will not tell you.", "Leave me alone.")


@dataclass(frozen=True)
class Instruction:
    """A task and its right response."""

    messages: tuple[Message, ...]  # the prompt; ends with the user
    response: str  # the whole right response; the answer is its last line
    answer: str  # the last line
    task: str  # "question" or "list"
    kind: str  # the kind of question, or the task again
    form: str = "phrase"  # the form asked for, one of FORM_WORDS
    hops: int = 1  # facts of the story to chain
    answerable: bool = True  # whether the story says it
    story: Story | None = None
    question: Question | None = None

    def conversation(self) -> list[Message]:
        """The prompt and the right response."""
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
    """The answer in the form asked for; None means that the story does not say."""
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
    """The whole response to a question: the small questions (`steps`) with their answers, or else
    the question itself with its plain answer; then `reply`, unless it is that answer.

    >>> ring = Question("Where is the ring?", "the lake", "where-thing", "ring", 2, 0)
    >>> in_plain_words(ring, "the lake", "lake")
    'Q: Where is the ring?\\nA: the lake\\nA: lake'
    >>> steps = [("Who has the ring?", "Tom"), ("Where is Tom?", "the lake")]
    >>> in_plain_words(ring, "the lake", "the lake", steps)
    'Q: Who has the ring?\\nA: Tom\\nQ: Where is Tom?\\nA: the lake'
    """
    plain = answer or UNKNOWN
    lines = "".join(question_lines(*one) for one in steps or [(question.text, plain)])
    return lines.rstrip() if reply == plain else f"{lines}A: {reply}"


class Author:
    """Writes instructions about one story."""

    def __init__(self, rng: Random, split: str, story: Story):
        self.rng, self.split, self.story = rng, split, story

    def ask(self, question: Question, first: bool = True) -> Instruction:
        """Word a question and ask for a form; `first` puts the story before it."""
        rng, story = self.rng, self.story
        answer = None if question.kind == "unknown" else question.answer
        form = rng.choice(("phrase", *FORM_WORDS))
        plain = rng.random() < PLAIN_RATE
        wrapping = "{}" if plain else rng.choice(WRAPPINGS[self.split])
        words = wrapping.format(question.text), rng.choice(FORM_WORDS[form][self.split])
        prose = f"{story.told(question)}\n" if first else ""
        reply = in_form(question, answer, form)
        steps: Sequence[tuple[str, str]] = ()
        if question.kind == "where-thing":
            steps = small_questions(question.about, story.world(question))
        return Instruction(
            ({"role": "user", "content": prose + " ".join(words).rstrip()},),
            in_plain_words(question, answer, reply, steps),
            reply,
            "question",
            question.kind,
            form,
            question.hops,
            answer is not None,
            story,
            question,
        )

    def unanswerable(self, position: int) -> Question:
        """A question about somebody whom the story does not mention."""
        stranger = self.story.cast.stranger
        return Question(where_is(stranger), UNKNOWN, "unknown", stranger, 1, position)

    def questions(self, turns: int) -> list[Instruction]:
        """Up to `turns` questions about the same part of the story, which comes with the first."""
        rng, story = self.rng, self.story
        first = rng.choice(story.questions[-LATE:])  # as chapter 4 measures
        world, position = story.world(first), first.position
        drawn = [
            first,
            *(draw_question(rng, story.cast, world, position) for _ in range(turns - 1)),
        ]
        drawn = [
            self.unanswerable(position) if rng.random() < UNANSWERABLE_RATE else question
            for question in drawn
        ]
        different = dict.fromkeys(drawn)
        return [self.ask(question, not number) for number, question in enumerate(different)]

    def list_names(self) -> Instruction:
        """Name all people, or all things, in the order of the story."""
        cast, prose = self.story.cast, self.story.prose
        what, members = self.rng.choice((("people", cast.people), ("things", cast.things)))
        named = ", ".join(dict.fromkeys(one for one in names_in(prose) if one in members))
        request = self.rng.choice(LIST_WORDS[self.split]).format(what)
        return Instruction(
            ({"role": "user", "content": f"{prose}\n{request}"},),
            f"A: {named}",
            named,
            "list",
            "list",
            story=self.story,
        )

    def write(self, turns: int) -> list[Instruction]:
        """A conversation: a list, or up to `turns` questions."""
        return [self.list_names()] if self.rng.random() < LIST_RATE else self.questions(turns)


def conversations(n: int, seed: int = 0) -> Iterator[list[Instruction]]:
    """Yield `n` training conversations as lists of exchanges."""
    for index, story in enumerate(stories(n, seed=seed)):
        yield Author(Random(f"conversation/{seed}/{index}"), "train", story).write(TURNS)


def instructions(
    n: int, seed: int = 0, split: str = "test", level: str = "base", only: str | None = None
) -> Iterator[Instruction]:
    """Yield `n` single instructions; `only` restricts them to one task."""
    drawn = (
        Author(Random(f"instruction/{split}/{seed}/{index}"), split, story).write(1)[0]
        for index, story in enumerate(stories(split=split, level=level, seed=seed))
    )
    return islice((one for one in drawn if only in (None, one.task)), n)


# Grading


def valid_form(response: str, form: str) -> bool:
    """Whether the last line has the form asked for: a JSON object with the key "answer", one word,
    or a sentence. A refusal is valid in every form but JSON.
    """
    answer = final_answer(response)
    if form == "json":
        try:
            found = json.loads(answer)
        except ValueError:
            return False
        return isinstance(found, dict) and list(found) == ["answer"]
    if answer == REFUSAL:
        return True
    if form == "word":
        return len(answer.split()) == 1
    if form == "sentence":
        return answer[:1].isupper() and answer.endswith(".")
    return bool(answer)


def refuses(response: str) -> bool:
    """Whether a response says that the story does not say."""
    return final_answer(response) in (REFUSAL, json.dumps({"answer": None}))


def evaluate_instructions(
    chat: Chat, asked: Sequence[Instruction], pretrained: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Grades of the greedy responses, one row each, and the responses.

    A `pretrained` model knows no chat template: it continues the story with a question in the form
    of chapter 4's texts, and its answer counts in whatever form it is.
    """
    if pretrained:
        texts = [
            one.story.prompt(one.question)
            if one.story and one.question
            else one.messages[-1]["content"]
            for one in asked
        ]
        answers = [one.question.answer if one.question else one.answer for one in asked]
        rows, responses = evaluate_base_model(chat, texts, answers)
    else:
        prompts, answers = [one.messages for one in asked], [one.answer for one in asked]
        rows, responses = evaluate_greedy(chat, prompts, answers)
    return with_details(rows, asked, responses), responses


def with_details(
    rows: pd.DataFrame, asked: Sequence[Instruction], responses: Sequence[str]
) -> pd.DataFrame:
    """Add to grades what was asked, and whether the response has the form asked for or refuses."""
    details = [
        {
            "task": one.task,
            "kind": one.kind,
            "form": one.form,
            "hops": one.hops,
            "answerable": one.answerable,
            "valid": valid_form(response, one.form),
            "refuses": refuses(response),
        }
        for one, response in zip(asked, responses, strict=True)
    ]
    return pd.DataFrame(details).join(rows)


def refusal_scores(rows: pd.DataFrame) -> dict:
    """Precision and recall of refusals; None where they are undefined."""
    refused, due = rows["refuses"], ~rows["answerable"]
    both = int((refused & due).sum())
    return {
        "refusal_precision": both / int(refused.sum()) if refused.any() else None,
        "refusal_recall": both / int(due.sum()) if due.any() else None,
    }


def summarize_answers(rows: pd.DataFrame) -> dict:
    """The metrics of one stage: accuracy on questions, by hops, form validity, refusals."""
    questions = rows[rows["task"] == "question"]
    answerable = questions[questions["answerable"]]
    summary = accuracy_with_ci(questions["exact_match"]) | {"f1": float(questions["f1"].mean())}
    for name, hops in (("one_hop", 1), ("two_hop", 2)):
        part = answerable[answerable["hops"] == hops]
        if len(part):
            summary[name] = accuracy_with_ci(part["exact_match"])
    return summary | {
        "valid_form": float(questions["valid"].mean()),
        "words": float(questions["words"].mean()),
        **refusal_scores(questions),
    }


def shortcut_scores(
    asked: Sequence[Instruction], seed: int = 0, fitted_on: int = 2000
) -> dict[str, float]:
    """Exact match, on the answerable questions, of rules that track no state; forms are ignored."""
    train, pairs = (
        [(one.story, one.question) for one in some if one.story and one.question and one.answerable]
        for some in (instructions(fitted_on, seed, "train", only="question"), asked)
    )
    right = [question.answer for _, question in pairs]
    guesses = all_shortcuts(train, pairs)
    return {name: float(np.mean(np.equal(found, right))) for name, found in guesses.items()}


# Rewards and preferences


def instruction_reward(asked: Sequence[Instruction]) -> RewardFn:
    """Reward 1 for the right answer, a tenth for a wrong one in the form asked for, else 0."""
    by_prompt = {prompt_key(one.messages): one for one in asked}

    def reward_fn(prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        rewards = []
        for prompt, response in zip(prompts, responses, strict=True):
            one = by_prompt[prompt_key(prompt)]
            right = exact_match(response, one.answer)
            rewards.append(1.0 if right else FORM_REWARD * valid_form(response, one.form))
        return torch.tensor(rewards)

    return reward_fn


def worse_answer(one: Instruction, kind: str, rng: Random) -> str | None:
    """A last line that is worse than the right one in one respect, or None if that does not apply.

    "right": a wrong answer; "honest": an invented one; "brief": a rambling one; "polite": a rude
    one.
    """
    if kind in ("right", "honest"):
        if one.answerable == (kind == "honest"):
            return None
        assert one.story and one.question
        cast = one.story.cast
        names = cast.people if one.kind == "who-has" else [*map(the, cast.places)]
        others = [name for name in names if name != one.question.answer]
        return in_form(one.question, rng.choice(others), one.form)
    if one.form == "json":
        return None
    if kind == "brief":
        return " ".join((one.answer, *rng.sample(RAMBLING, rng.randint(1, 3))))
    return rng.choice(RUDE) if one.answer == REFUSAL else f"{rng.choice(RUDE)} {one.answer}"


def preferences(n: int, seed: int = 0, split: str = "train") -> list[Preference]:
    """Up to `n` preferences of the four kinds in turn; both responses differ in the last line only.

    They teach a reward model what people ask for; their wrong answers are not a model's own.
    """
    rng = Random(f"pairs/{split}/{seed}")
    pairs: list[Preference] = []
    for one in instructions(8 * n, seed, split, only="question"):
        kind = KINDS[len(pairs) % len(KINDS)]
        last_line = worse_answer(one, kind, rng)
        if last_line is None:
            continue
        beginning = one.response.removesuffix(one.answer)
        pairs.append(Preference(one.messages, one.response, beginning + last_line, kind))
        if len(pairs) == n:
            break
    return pairs


# Replay


def encode_replay(
    tokenizer: Tokenizer, documents: Iterable[str], context_length: int
) -> list[EncodedChat]:
    """Texts of chapter 4 as ids, cut at the end of the context.

    A network that learns something new forgets what it no longer sees (McCloskey and Cohen 1989);
    mixing in some of the old data is called replay, or rehearsal (Robins 1995). Only the answers
    ("A: ...", to the end of the line) are learned: nothing else in a story can be predicted.
    """
    answers, rows = AnswerLoss(tokenizer), []
    for text in documents:
        whole = [tokenizer.eot_id, *tokenizer.encode(text)]
        ids = whole[: context_length + 1]
        predicts_answer = answer_mask(torch.tensor([ids]), answers.newline, answers.mark)[0]
        mask = [False, *predicts_answer[:-1].tolist()]  # from inputs to the ids that they predict
        rows.append(EncodedChat(ids, mask, len(whole) > len(ids)))
    return rows


# Everything for the pipeline


@dataclass
class StoryworldData:
    """The storyworld's `pipeline.AlignmentData`: each part is written when it is first needed."""

    n_conversations: int = 30_000
    n_replay: int = 6000
    n_pairs: int = 1200
    n_prompts: int = 1000
    seed: int = 1337

    @cached_property
    def conversations(self) -> list[list[Message]]:
        return _as_messages(conversations(self.n_conversations, self.seed))

    @cached_property
    def validation(self) -> list[list[Message]]:
        return _as_messages(conversations(200, self.seed + 1))

    def replay(self, tokenizer: Tokenizer, context_length: int) -> list[EncodedChat]:
        documents = story_documents("train", self.n_replay, self.seed + 3)
        return encode_replay(tokenizer, documents, context_length)

    @cached_property
    def pairs(self) -> list[Preference]:
        return preferences(self.n_pairs, self.seed)

    @cached_property
    def test_pairs(self) -> list[Preference]:
        """Pairs about unseen people and things."""
        return preferences(600, self.seed, "test")

    @cached_property
    def questions(self) -> list[Instruction]:
        """Training questions about other stories than those of `conversations`."""
        return list(instructions(self.n_prompts, self.seed + 2, "train", only="question"))

    @cached_property
    def prompts(self) -> list[Prompt]:
        return [one.messages for one in self.questions]

    @cached_property
    def reward_fn(self) -> RewardFn:
        return instruction_reward(self.questions)

    @cached_property
    def accuracy_fn(self) -> RewardFn:
        return match_reward(self.prompts, [one.answer for one in self.questions])


def _as_messages(exchanges: Iterator[list[Instruction]]) -> list[list[Message]]:
    """Lists of exchanges -> conversations."""
    return [[message for one in several for message in one.conversation()] for several in exchanges]
