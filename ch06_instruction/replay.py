"""Replay: documents of pretraining among the conversations, so that tuning forgets less.

A network that learns something new forgets what it no longer sees (McCloskey and Cohen 1989);
mixing in some of the old data is called replay, or rehearsal (Robins 1995). Of each document only
the answers ("A: ...", to the end of the line) are learned, since nothing else in a story can be
predicted.
"""

from collections.abc import Iterable

import torch

from ch01_text import BPETokenizer
from ch04_pretraining.answer_loss import AnswerLoss, answer_mask
from ch06_instruction.chat import EncodedChat


def encode_replay(
    tokenizer: BPETokenizer, documents: Iterable[str], context_length: int
) -> list[EncodedChat]:
    """Documents as ids, cut at the end of the context; the mask marks their answers."""
    answers, rows = AnswerLoss(tokenizer), []
    for text in documents:
        whole = [tokenizer.eot_id, *tokenizer.encode(text)]
        ids = whole[: context_length + 1]
        predicts_answer = answer_mask(torch.tensor([ids]), answers.newline, answers.mark)[0]
        mask = [False, *predicts_answer[:-1].tolist()]  # from inputs to the ids that they predict
        rows.append(EncodedChat(ids, mask, len(whole) > len(ids)))
    return rows
