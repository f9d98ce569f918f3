"""Texts like chapter 4's among the conversations, so that tuning does not make the model forget how
it looks things up.

A network that learns something new forgets what it is no longer shown (McCloskey and Cohen 1989);
going over some of the old meanwhile is called rehearsal, or replay (Robins 1995). Such a text also
asks more questions in the same time than a conversation does. Only its answers are learned: nobody
has to foresee prose here. What chapter 4 asks seldom is asked more often: what takes two steps,
and, by the small question for places, for somebody unknown to the text.
"""

from random import Random

import torch

from ch01_text import BPETokenizer
from ch01_text.storyworld import UNKNOWN, question_lines
from ch01_text.storyworld.words import PEOPLE
from ch04_pretraining.story_corpus import AnswerLoss, answer_mask, story_documents
from ch06_instruction.chat import EncodedChat

STORIES = "short-steps-drill"  # their level
STRANGER_RATE = 0.3  # of texts that are asked for a stranger


def ask_for_a_stranger(rng: Random, text: str) -> str:
    """`text` with a question for somebody unknown to it, at the end or between two of its lines."""
    lines = text.splitlines(keepends=True)
    told = rng.choice([number for number, line in enumerate(lines, 1) if not line.startswith("Q:")])
    stranger = rng.choice([one for one in PEOPLE if one not in text])
    return "".join(
        (*lines[:told], question_lines(f"Where did {stranger} go?", UNKNOWN), *lines[told:])
    )


def rehearsed_texts(
    tokenizer: BPETokenizer, n: int, context_length: int, seed: int
) -> list[EncodedChat]:
    """`n` texts to learn from, half of them plain, half stories, cut where the context ends;
    "said" are the answers.
    """
    answers, rng, chats = AnswerLoss(tokenizer), Random(f"rehearsal/{seed}"), []
    for text in story_documents("train", {"plain": n // 2, STORIES: n - n // 2}, seed):
        asked = ask_for_a_stranger(rng, text) if rng.random() < STRANGER_RATE else text
        whole = [tokenizer.eot_id, *tokenizer.encode(asked)]
        ids = whole[: context_length + 1]
        comes_next = answer_mask(torch.tensor([ids]), answers.newline, answers.mark)[0].tolist()
        chats.append(EncodedChat(ids, [False, *comes_next[:-1]], len(whole) > len(ids)))
    return chats
