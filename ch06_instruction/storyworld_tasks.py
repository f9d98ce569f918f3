"""The storyworld's side of this chapter, and the only module that knows it: instructions about
stories, how they are graded and rewarded, pairs of responses, and cheap baselines.

A question is first repeated in plain words and answered as in chapter 4's stories, which the model
has read by the thousand; the last line then has the form that was asked for (rephrase and respond,
Deng et al. 2023). What takes several look-ups is broken into small questions
(`ch01_text.storyworld.steps`; self-ask, Press et al. 2022). Every answer follows from the true
state of a story, so a program can check it. Test instructions use unseen casts and unseen wordings.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ch01_text import BPETokenizer
from ch01_text.storyworld import (
    UNKNOWN,
    Question,
    Story,
    fit_bag_of_words,
    fit_majority,
    question_lines,
    shortcut_answers,
    small_questions,
    stories,
)
from ch01_text.storyworld.words import PEOPLE, PLACES, PRONOUNS, THINGS, the
from ch01_text.storyworld.world import World
from ch04_pretraining.story_corpus import AnswerLoss, answer_mask, story_documents
from ch06_instruction.answering import Chat
from ch06_instruction.chat import EncodedChat, Message, Prompt
from ch06_instruction.chat_datasets import Preference
from ch06_instruction.evaluation import evaluate_base_model, evaluate_greedy
from ch06_instruction.grading import accuracy_with_ci, exact_match, final_answer
from ch06_instruction.rewards import RewardFn, match_reward, prompt_key

REFUSAL = "Sorry, the story does not say."
FORMS = ("phrase", "word", "sentence", "json")
LEVELS = {"train": "brief-steps-drill", "test": "brief"}
UNANSWERABLE_RATE = 0.12  # of questions, besides those about lost things and missing people
OTHER_RATE = 0.25  # of instructions that are not questions
TURNS = 6  # most questions about one story in a training conversation
FORM_REWARD = 0.1  # for a wrong answer in the form asked for; the right answer gets 1
KINDS = ("right", "honest", "brief", "polite")  # of preferences
RULES = ("last mentioned", "last mover", "first mention", "same sentence")  # cheap baselines
REPLAY_LEVEL = "short-steps-drill"
STRANGER_RATE = 0.3  # of replayed texts get a question about somebody they do not mention

# How a question is worded; the test's wordings are never seen in training.
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
RAMBLING = (
    "That is a good question.",
    "Let me think about it for a while.",
    "Everybody in the village knows that.",
    "It was a long day.",
    "I could tell you much more.",
    "As I said before, so it is.",
)
RUDE = ("Read it yourself.", "What a silly question.", "I will not tell you.", "Leave me alone.")
NUMBERS = ("none", "one", "two", "three")
REWRITES = (  # present, past, negated
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
    """A task and its right response."""

    messages: tuple[Message, ...]  # the prompt; ends with the user
    response: str  # the whole right response; the answer is its last line
    answer: str  # the last line
    task: str  # "question", "list", "retell", "rewrite", "repeat" or "continue"
    kind: str  # the kind of question, or the task again
    form: str = "phrase"  # the form asked for, one of FORMS
    hops: int = 1  # facts of the story to chain
    answerable: bool = True  # whether the story says it
    story: Story | None = None
    question: Question | None = None

    def conversation(self) -> list[Message]:
        """The prompt and the right response."""
        return [*self.messages, {"role": "assistant", "content": self.response}]


def sentence(question: Question, answer: str) -> str:
    """An answer as a full sentence.

    >>> sentence(Question("Where is Tom?", "the mill", "where-person", 1, 0, ("Tom",)), "the mill")
    'Tom is at the mill.'
    """
    about = question.about[0]
    who = about if about in PRONOUNS else the(about)
    place = answer.removeprefix("the ")
    where = f"{PLACES[place]} {answer}" if place in PLACES else answer
    text = {
        "where-person": f"{who} is {where}",
        "where-object": f"{who} is {where}",
        "before": f"{who} was {where} before",
        "who-has": f"{answer} has {who}",
        "what-has": f"{who} has {answer}",
        "with": f"{answer} is with {who}",
        "yes-no": answer,
        "count": f"{who} has {answer}",
        "feel": f"{who} is {answer}",
        "why": answer,
        "wants": f"{answer} wants {who}" if answer in PRONOUNS else f"{who} wants {answer}",
    }[question.kind]
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
    """The whole response to a question: small questions (`steps`) with their answers, then the
    question itself unless the last step answered it, then `reply` unless it is the plain answer.

    >>> lake = Question("Where is Tom?", "the lake", "where-person", 1, 0, ("Tom",))
    >>> in_plain_words(lake, "the lake", "the lake")
    'Q: Where is Tom?\\nA: the lake'
    >>> in_plain_words(lake, "the lake", "lake", [("Where did Tom go?", "the lake")])
    'Q: Where did Tom go?\\nA: the lake\\nA: lake'
    >>> alone = Question("Who is with Tom?", "nobody", "with", 2, 0, ("Tom",))
    >>> in_plain_words(alone, "nobody", "nobody", [("Where did Tom go?", "the lake")])
    'Q: Where did Tom go?\\nA: the lake\\nQ: Who is with Tom?\\nA: nobody'
    """
    plain = answer or UNKNOWN
    asked = [*steps] if steps and steps[-1][1] == plain else [*steps, (question.text, plain)]
    lines = "".join(question_lines(*one) for one in asked)
    return lines.rstrip() if reply == plain else f"{lines}A: {reply}"


def steps_to(question: Question, world: World) -> list[tuple[str, str]]:
    """The small questions that lead to the answer: chapter 4's, and, for a feeling, whose feelings
    the story tells.
    """
    if question.kind == "feel":
        felt = dict.fromkeys(event.actor for event in world.events if event.verb == "feel")
        return [("Who was happy or sad?", ", ".join(felt) or "nobody")]
    return small_questions(question.kind, question.about[0], world)


class Author:
    """Writes instructions about one story."""

    def __init__(self, rng: Random, split: str, story: Story):
        self.rng, self.split, self.story = rng, split, story

    def ask(self, question: Question, answer: str | None, first: bool = True) -> Instruction:
        """Word a question and ask for a form; `first` puts the story before it."""
        rng = self.rng
        forms = ("phrase", "sentence", "json") if question.kind == "why" else FORMS
        form = rng.choice(("phrase", *forms))
        words = (
            rng.choice(WRAPPINGS[self.split]).format(question.text),
            rng.choice(FORM_WORDS[form][self.split]),
        )
        text = " ".join(word for word in words if word)
        prose = f"{self.story.prose[: question.position]}\n" if first else ""
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
        """A question about somebody or something the story does not mention, or about a feeling
        that it does not tell.
        """
        rng, cast = self.rng, self.story.cast
        people = [one for one in PEOPLE if one not in self.story.prose]
        things = [one for one in THINGS if one not in self.story.prose]
        draw = rng.random()
        if draw < 0.4:
            return Question(
                f"Where is {(one := rng.choice(people))}?", "", "where-person", 1, position, (one,)
            )
        if draw < 0.6:
            return Question(
                f"Who has the {(one := rng.choice(things))}?", "", "who-has", 1, position, (one,)
            )
        if draw < 0.8:
            return Question(
                f"Where is the {(one := rng.choice(things))}?",
                "",
                "where-object",
                1,
                position,
                (one,),
            )
        told = {event.actor for event in self.story.events if event.verb == "feel"}
        calm = [one for one in cast.people if one not in told]
        one = rng.choice(calm or people)
        return Question(f"How does {one} feel?", "", "feel", 1, position, (one,))

    def questions(self, turns: int) -> list[Instruction]:
        """Up to `turns` questions about the same part of the story, which comes with the first."""
        rng = self.rng
        first = rng.choice(self.story.questions)
        same = [
            one
            for one in self.story.questions
            if one.position == first.position and one is not first
        ]
        exchanges = []
        for number, question in enumerate((first, *rng.sample(same, min(len(same), turns - 1)))):
            if rng.random() < UNANSWERABLE_RATE:
                question, answer = self.unanswerable(first.position), None
            elif question.kind == "unknown":
                kind = "where-person" if question.about[0] in PRONOUNS else "where-object"
                question, answer = (
                    Question(question.text, "", kind, 1, question.position, question.about),
                    None,
                )
            else:
                answer = question.answer
            exchanges.append(self.ask(question, answer, not number))
        return exchanges

    def other(self) -> Instruction:
        """A task that is not a question."""
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
        """Name all people, or all things, in the order of the story."""
        cast, prose = self.story.cast, self.story.prose
        what, all_of_them = self.rng.choice(
            (("people", (*cast.people, cast.missing)), ("things", (*cast.things, cast.container)))
        )
        named = sorted((one for one in all_of_them if one and one in prose), key=prose.index)
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
        """List the places somebody was at, in order."""
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
        """Put a sentence into the past tense, or negate it."""
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
        """Repeat sentences of the story, or questions, word for word: this trains copying from the
        context.
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
    """Yield `n` training conversations as lists of exchanges: several questions, or one other
    task.
    """
    for index, story in enumerate(stories(n, split="train", level=LEVELS["train"], seed=seed)):
        author = Author(Random(f"conversation/{seed}/{index}"), "train", story)
        asks = author.rng.random() >= OTHER_RATE
        yield author.questions(TURNS) if asks else [author.other()]


def instructions(
    n: int, seed: int = 0, split: str = "test", level: str | None = None, only: str | None = None
) -> Iterator[Instruction]:
    """Yield `n` single instructions; `only` restricts them to one task."""
    made = 0
    for index, story in enumerate(stories(split=split, level=level or LEVELS["test"], seed=seed)):
        if made == n:
            return
        author = Author(Random(f"instruction/{split}/{seed}/{index}"), split, story)
        one = author.other() if author.rng.random() < OTHER_RATE else author.questions(1)[0]
        if only is None or one.task == only:
            made += 1
            yield one


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
        texts, answers = [pretraining_prompt(one) for one in asked], [*map(plain_answer, asked)]
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


def pretraining_prompt(one: Instruction) -> str:
    """An instruction as chapter 4's texts word it."""
    if one.question is None:
        return one.messages[-1]["content"]
    return f"{one.story.prose[: one.question.position]}\n{question_lines(one.question.text)}"


def plain_answer(one: Instruction) -> str:
    """The answer as chapter 4's texts give it."""
    return one.question.answer if one.question and one.answerable else one.answer


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
    hops = answerable["hops"]
    for name, part in (
        ("one_hop", answerable[hops == 1]),
        ("two_hop", answerable[hops == 2]),
        ("three_hop", answerable[hops > 2]),
    ):
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
    pairs = [(one.story, one.question) for one in asked if one.question and one.answerable]
    train = [
        (one.story, one.question)
        for one in instructions(fitted_on, seed, "train", only="question")
        if one.answerable
    ]
    majority = fit_majority(question for _, question in train)
    guesses: dict[str, list[str]] = {
        "majority": [majority.get(question.kind, "") for _, question in pairs],
        "bag of words": list(fit_bag_of_words(train)(pairs)),
        **{rule: [shortcut_answers(*pair)[rule] for pair in pairs] for rule in RULES},
    }
    right = [question.answer for _, question in pairs]
    return {
        name: float(np.mean([guess == answer for guess, answer in zip(found, right, strict=True)]))
        for name, found in guesses.items()
    }


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


def another_answer(one: Instruction, rng: Random) -> str | None:
    """A wrong answer of the right kind and form from the same story, or None if it has no other."""
    question, cast = one.question, one.story.cast
    right = question.answer
    kinds = {
        "where-person": cast.places,
        "where-object": cast.places,
        "before": cast.places,
        "who-has": cast.people,
        "with": cast.people,
        "what-has": cast.things,
        "count": NUMBERS,
        "yes-no": ("yes", "no"),
        "feel": ("happy", "sad"),
    }
    if question.kind not in kinds:
        return None
    named = [
        word if word in PRONOUNS or question.kind in ("count", "yes-no", "feel") else the(word)
        for word in kinds[question.kind]
        if word
    ]
    others = [
        answer for answer in named if answer != right and answer.removeprefix("the ") != right
    ]
    return in_form(question, rng.choice(others), one.form) if others else None


def worse_answer(one: Instruction, kind: str, rng: Random) -> str | None:
    """A last line that is worse than the right one in one respect, or None if that does not apply.

    "right": a wrong answer; "honest": an invented one; "brief": a rambling one; "polite": a rude
    one.
    """
    if kind == "right":
        return another_answer(one, rng) if one.answerable else None
    if kind == "honest":
        if one.answerable:
            return None
        invented = (
            "happy"
            if one.question.kind == "feel"
            else (
                rng.choice(one.story.cast.people)
                if one.question.kind == "who-has"
                else the(rng.choice(tuple(PLACES)))
            )
        )
        return in_form(one.question, invented, one.form)
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
        if last_line is None or last_line == one.answer:
            continue
        beginning = one.response.removesuffix(one.answer)
        pairs.append(Preference(one.messages, one.response, beginning + last_line, kind))
        if len(pairs) == n:
            break
    return pairs


# Replay


def ask_about_a_stranger(rng: Random, text: str) -> str:
    """`text` with a question about somebody it does not mention, after one of its lines."""
    lines = text.splitlines(keepends=True)
    told = rng.choice([number for number, line in enumerate(lines, 1) if not line.startswith("Q:")])
    stranger = rng.choice([one for one in PEOPLE if one not in text])
    return "".join(
        (*lines[:told], question_lines(f"Where did {stranger} go?", UNKNOWN), *lines[told:])
    )


def replay_documents(n: int, seed: int) -> list[str]:
    """`n` texts like chapter 4's, half of them plain and half stories.

    A network that learns something new forgets what it no longer sees (McCloskey and Cohen 1989);
    mixing in some of the old data is called replay, or rehearsal (Robins 1995). These texts ask
    more often what chapter 4 asks seldom: what takes two steps, and about strangers.
    """
    rng = Random(f"rehearsal/{seed}")
    return [
        ask_about_a_stranger(rng, text) if rng.random() < STRANGER_RATE else text
        for text in story_documents("train", {"plain": n // 2, REPLAY_LEVEL: n - n // 2}, seed)
    ]


def encode_replay(
    tokenizer: BPETokenizer, documents: Iterable[str], context_length: int
) -> list[EncodedChat]:
    """Documents as ids, cut at the end of the context.

    Only the answers ("A: ...", to the end of the line) are learned: nothing else in a story can be
    predicted.
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

    def replay(self, tokenizer: BPETokenizer, context_length: int) -> list[EncodedChat]:
        documents = replay_documents(self.n_replay, self.seed + 3)
        return encode_replay(tokenizer, documents, context_length)

    @cached_property
    def pairs(self) -> list[Preference]:
        return preferences(self.n_pairs, self.seed)

    @cached_property
    def test_pairs(self) -> list[Preference]:
        """Pairs about unseen casts."""
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
