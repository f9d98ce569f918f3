"""The storyworld as chapter 4 uses it: texts to learn from, a loss that counts answers more, and
questions about unseen stories, beside every cheap shortcut.

No other module of this chapter knows the stories; `load_dataset("storyworld", ...)` comes here.
"""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ch01_text import (
    IGNORE,
    Tokenizer,
    batches_by_length,
    document_starts,
    encode_documents,
    right_pad,
)
from ch01_text.storyworld import UNKNOWN, Question, Story, all_shortcuts, stories
from ch03_gpt import GPTModel, Precision
from ch04_pretraining.dataset import TokenDataset, find_tokenizer, n_bytes
from ch04_pretraining.intervals import wilson_interval
from ch04_pretraining.loss import Batch, token_losses

TRAINING_STORIES, HELD_OUT_STORIES = 15_000, 500
# 1 in 8 windows starts mid-document, so the model also learns windows without a leading
# <|endoftext|>
BEGIN_ANYWHERE = 8
Pair = tuple[Story, Question]
LATE = 3  # a story's last questions, asked when most of it has been told
# name in the table -> level of the stories (see `stories`)
TEST_SETS = {"same length": "base", "longer than trained": "long"}


def story_documents(split: str, n: int, seed: int) -> list[str]:
    """The texts of `n` stories, questions and answers included."""
    texts = (story.text for story in stories(n, split=split, seed=seed))
    return list(tqdm(texts, "writing stories", n, disable=None))


def window_starts(tokens: np.ndarray, eot_id: int, seed: int) -> np.ndarray:
    """Where windows may begin: at every document, and at some positions anywhere. From the first, a
    model learns how a document begins and how its facts add up; without the second it could not go
    on once the beginning has slid out of its context.
    """
    documents = document_starts(tokens, eot_id)
    # n document starts and n / 7 others: the others are 1 in 8 of all
    anywhere = np.random.default_rng(seed).integers(
        len(tokens), size=len(documents) // (BEGIN_ANYWHERE - 1)
    )
    return np.sort(np.concatenate((documents, anywhere)))


def answer_mask(inputs: Tensor, newline: int, mark: tuple[int, int]) -> Tensor:
    """(B, T) ids -> (B, T) booleans: is the next token part of an answer, its final newline
    included?

    An answer begins behind the two tokens of `mark` ("A:") and ends with its line.

    >>> answer_mask(torch.tensor([[7, 8, 9, 5, 0, 8, 5]]), newline=0, mark=(8, 9)).int()
    tensor([[0, 0, 1, 1, 0, 0, 0]], dtype=torch.int32)
    """
    positions = torch.arange(inputs.shape[1], device=inputs.device)
    # True at the second token of each mark
    marked = torch.zeros_like(inputs, dtype=torch.bool)
    marked[:, 1:] = (inputs[:, :-1] == mark[0]) & (inputs[:, 1:] == mark[1])
    # At each position: where the latest mark and the latest newline stand, -1 if there is none. The
    # running maximum finds both without a loop over positions.
    last_mark = torch.where(marked, positions, -1).cummax(dim=1).values
    last_newline = torch.where(inputs == newline, positions, -1).cummax(dim=1).values
    # True from the ":", whose next token is the first of the answer, to the token before the
    # newline. A window that begins within an answer has no mark of it, so its rest is not in the
    # mask.
    return last_mark > last_newline


class AnswerLoss:
    """A loss function for `train`: the weighted mean over tokens; an answer's tokens count
    `1 + weight` times.

    Most tokens of a story cannot be predicted. The few that answer a question can, and only they
    show whether the model tracks the state, so the weight points the gradient at them.
    """

    def __init__(self, tokenizer: Tokenizer, weight: float = 15.0):
        self.weight = weight
        self.newline = tokenizer.encode("\n")[0]
        # Tokenizers that separate letters from punctuation, GPT-2's among them, cut the mark like
        # this wherever it stands, so two comparisons find it.
        mark = tokenizer.encode("A:")
        if len(mark) != 2:
            raise ValueError(
                f"the tokenizer cuts 'A:' into {len(mark)} tokens, not 2; train it on more text"
            )
        self.mark = (mark[0], mark[1])

    def __call__(self, model: GPTModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """(inputs (B, T), targets (B, T)) -> (weighted sum of losses, sum of weights)."""
        inputs, targets = batch
        losses = token_losses(model, batch)  # (B, T)
        in_answer = answer_mask(inputs, self.newline, self.mark)
        # (B, T): 1, in answers 1 + weight, and 0 for padding. Their sum stands in for the number of
        # tokens, so that `train` divides by it.
        weights = (1 + self.weight * in_answer) * (targets != IGNORE)
        return (losses * weights).sum(), weights.sum()


def draw_questions(split: str, level: str, n: int, seed: int) -> list[Pair]:
    """`n` questions with their stories: the last few of each, except those that nobody can
    answer.
    """
    pairs = (
        (story, question)
        for story in stories(split=split, level=level, seed=seed)  # endless; islice ends it
        for question in story.questions[-LATE:]
        if question.answer != UNKNOWN
    )
    return list(islice(pairs, n))


def grade(
    model: GPTModel,
    tokenizer: Tokenizer,
    pairs: Sequence[Pair],
    precision: Precision,
    batch_size: int = 64,
) -> list[bool]:
    """Whether the model's greedy answer to each question is the right one, word for word.

    Greedy decoding writes an answer exactly if each of its tokens is the most likely one after
    those before it, so one forward pass over prompt and answer decides. A prompt beyond the context
    loses its beginning.
    """
    rows = []
    for story, question in pairs:
        # The prompt ends in "A:", and a text goes on with a space. The newline belongs to the
        # answer: "the mill house" would be wrong where "the mill" is right.
        answer = tokenizer.encode(f" {question.answer}\n")
        prompt = [tokenizer.eot_id, *tokenizer.encode(story.prompt(question))]
        room = model.config.context_length + 1 - len(answer)  # the last token is not read
        rows.append((prompt[-room:] + answer, len(answer)))
    correct = [False] * len(rows)
    for batch in batches_by_length([len(ids) for ids, _ in rows], batch_size):
        # padding on the right changes no prediction: tokens attend only to earlier ones
        ids = right_pad([rows[row][0] for row in batch], device=model.device)
        with torch.inference_mode(), precision.autocast():
            likeliest = model(ids[:, :-1]).argmax(dim=-1).tolist()  # (B, T)
        for predicted, row in zip(likeliest, batch, strict=True):
            tokens, n_answer = rows[row]
            last = len(tokens) - 1  # the prediction for the last token stands one before it
            correct[row] = predicted[last - n_answer : last] == tokens[-n_answer:]
    return correct


def guess(fitted_on: Sequence[Pair], pairs: Sequence[Pair]) -> pd.DataFrame:
    """Whether each shortcut happens to give the right answer: one row per question, one column
    per shortcut.
    """
    right = [question.answer for _, question in pairs]
    answers = all_shortcuts(fitted_on, pairs)
    return pd.DataFrame({name: np.equal(guesses, right) for name, guesses in answers.items()})


def measure_understanding(
    model: GPTModel, tokenizer: Tokenizer, precision: Precision, n: int = 1000, seed: int = 1
) -> pd.DataFrame:
    """Accuracy on held-out worlds by test set, kind of question and hops, with its 95 % interval,
    beside the accuracy of each shortcut on the same questions; the rows "all" are over all kinds.
    """
    # two of the shortcuts, the majority and the bag of words, learn from training stories
    fitted_on = draw_questions("train", "base", 4 * n, seed)
    rows = []
    for test_set, level in TEST_SETS.items():
        pairs = draw_questions("test", level, n, seed)
        table = guess(fitted_on, pairs)  # (n, shortcuts) booleans
        table.insert(0, "model", grade(model, tokenizer, pairs, precision))
        kinds, hops = zip(*((one.kind, str(one.hops)) for _, one in pairs), strict=True)
        # one part for each kind and number of hops, one for each number of hops, and one for all
        parts = [
            *table.groupby([list(kinds), list(hops)]),
            *((("all", number), part) for number, part in table.groupby(list(hops))),
            (("all", "all"), table),
        ]
        for (group, hops), part in parts:
            low, high = wilson_interval(int(part["model"].sum()), len(part))
            rows.append(
                {
                    "test set": test_set,
                    "questions": group,
                    "hops": hops,
                    "n": len(part),
                    "ci95_low": low,
                    "ci95_high": high,
                }
                | part.mean().to_dict()  # of booleans: accuracies
            )
    return pd.DataFrame(rows)


def question_metrics(tokenizer: Tokenizer, model: GPTModel, precision: Precision) -> dict:
    """Ask the finished model questions, print the table, and return it for metrics.json."""
    print("asking questions about unseen stories")
    table = measure_understanding(model, tokenizer, precision)
    print(table.to_string(index=False, float_format="{:.1%}".format) + "\n")
    return {"questions": table.to_dict("records")}


def load_stories(
    choice: str, vocab_size: int, run: Path, seed: int, tokenizer: Tokenizer | None = None
) -> TokenDataset:
    """Write and encode the stories. The held-out ones contain pairs of people and things that no
    training story has.
    """
    train = story_documents("train", TRAINING_STORIES, seed)
    val = story_documents("test", HELD_OUT_STORIES, seed)
    tokenizer = tokenizer or find_tokenizer(choice, "storyworld", train[:2000], vocab_size, run)
    tokens = encode_documents(tokenizer, train)
    return TokenDataset(
        "storyworld",
        tokenizer,
        [tokens],
        encode_documents(tokenizer, val),
        n_bytes(val),
        window_starts(tokens, tokenizer.eot_id, seed),
        loss_fn=AnswerLoss(tokenizer),
        final_metrics=partial(question_metrics, tokenizer),
    )
