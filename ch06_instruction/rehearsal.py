"""Texts like chapter 4's among the conversations, so that tuning does not make the model forget how
it looks things up.

A network that learns something new forgets what it is no longer shown (McCloskey and Cohen 1989);
going over some of the old meanwhile is called rehearsal, or replay (Robins 1995). Such a text also
asks more questions in the same time than a conversation does. Only its answers are learned: nobody
has to foresee prose here.
"""

import torch

from ch01_text import BPETokenizer
from ch04_pretraining.answer_loss import AnswerLoss, answer_mask
from ch04_pretraining.corpus import story_documents
from ch06_instruction.chat import EncodedChat


def rehearsed_texts(
    tokenizer: BPETokenizer, n: int, context_length: int, seed: int
) -> list[EncodedChat]:
    """`n` stories to learn from, cut where the context ends; "said" are the answers."""
    answers, chats = AnswerLoss(tokenizer), []
    for text in story_documents("train", n, seed):
        whole = [tokenizer.eot_id, *tokenizer.encode(text)]
        ids = whole[: context_length + 1]
        comes_next = answer_mask(torch.tensor([ids]), answers.newline, answers.mark)[0].tolist()
        chats.append(EncodedChat(ids, [False, *comes_next[:-1]], len(whole) > len(ids)))
    return chats
