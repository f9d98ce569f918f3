"""A tiny GPT from the first letter to a conversation: tokenizer, pretraining on stories, tuning on
small talk, asking.

The stages of chapters 1, 4 and 6 with our own engine in the place of PyTorch; only the tokenizer
and the stories are chapter 1's. What it knows is measured on pairs that it was never told about.
"""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np

from appendix_b.gpt import GPT, Shape, write
from appendix_b.small_talk import ASSISTANT, KINDS, USER, Talk, prompt_ids, small_talk, talk_batch
from appendix_b.text_models import TextPlan, train_text, windows_of
from ch01_text import BPETokenizer
from ch01_text.storyworld import stories
from ch01_text.tokenizer import END_OF_TEXT

VOCABULARY = 600
FILE = "gpt.npz"


def story_ids(n: int, seed: int) -> tuple[BPETokenizer, np.ndarray, np.ndarray]:
    """A tokenizer trained on `n` stories, their ids, and those of a twentieth as many about
    unseen pairs.
    """
    parts = [
        [story.text for story in stories(count, split=split, seed=seed)]
        for split, count in (("train", n), ("test", max(20, n // 20)))
    ]
    tokenizer = BPETokenizer.train(
        parts[0][:1000], VOCABULARY, special_tokens=(END_OF_TEXT, USER, ASSISTANT)
    )
    return tokenizer, *(
        np.array([i for text in tokenizer.encode_batch(part) for i in (*text, tokenizer.eot_id)])
        for part in parts
    )


def pretrain(
    tokenizer: BPETokenizer,
    train: np.ndarray,
    held_out: np.ndarray,
    shape: Shape,
    plan: TextPlan,
    seed: int,
    batch_size: int = 16,
) -> tuple[GPT, list[dict]]:
    """A GPT trained on windows of the stories, and its log."""
    rng = np.random.default_rng(seed)
    model = GPT(shape, rng)
    val = windows_of(held_out, shape.context_length, 64)(np.random.default_rng(0))
    return model, train_text(
        model, windows_of(train, shape.context_length, batch_size), val, plan, rng, "stories"
    )


def tune(
    model: GPT, tokenizer: BPETokenizer, plan: TextPlan, seed: int, batch_size: int = 32
) -> list[dict]:
    """Teach `model` (in place) to answer; only the answers count in the loss. Returns its log."""
    talks = small_talk(np.random.default_rng(seed))
    val = talk_batch(list(islice(small_talk(np.random.default_rng(1), test=True), 200)), tokenizer)
    return train_text(
        model,
        lambda rng: talk_batch(list(islice(talks, batch_size)), tokenizer),
        val,
        plan,
        np.random.default_rng(seed),
        "small talk",
    )


def answers(
    model: GPT,
    tokenizer: BPETokenizer,
    said: list[str],
    rng: np.random.Generator,
    max_tokens: int = 40,
    **sampling,
) -> list[str]:
    """What the model says to each of `said`, up to its end of text; those of one length are
    answered together. ValueError where one fills the context.
    """
    prompts = [prompt_ids(tokenizer, one) for one in said]
    longest, context_length = max(map(len, prompts)), model.shape.context_length
    if longest >= context_length:
        raise ValueError(f"that has {longest} tokens, the context {context_length}; say less")
    found = [""] * len(said)
    for length in sorted(set(map(len, prompts))):
        rows = [row for row, prompt in enumerate(prompts) if len(prompt) == length]
        ids, written = np.array([prompts[row] for row in rows]), []
        ended = np.zeros(len(rows), dtype=bool)
        for following in islice(write(model, ids, context_length, rng, **sampling), max_tokens):
            written.append(following)
            ended |= following == tokenizer.eot_id
            if ended.all():
                break
        for row, spoken in zip(rows, np.stack(written, axis=1).tolist(), strict=True):
            spoken = (
                spoken[: spoken.index(tokenizer.eot_id)] if tokenizer.eot_id in spoken else spoken
            )
            found[row] = tokenizer.decode(spoken)
    return found


def exact_match(model: GPT, tokenizer: BPETokenizer, talks: list[Talk]) -> dict[str, float]:
    """The share of right answers (greedy, to the letter), in all and of each kind."""
    longest = max(len(tokenizer.encode(talk.answer)) for talk in talks)
    said = answers(
        model,
        tokenizer,
        [talk.said for talk in talks],
        np.random.default_rng(0),
        longest + 1,
        temperature=0.0,
    )
    right = [one == talk.answer for one, talk in zip(said, talks, strict=True)]
    kinds = {
        kind: [one for one, talk in zip(right, talks, strict=True) if talk.kind == kind]
        for kind in KINDS
    }
    return {"all": float(np.mean(right))} | {
        kind: float(np.mean(ones)) for kind, ones in kinds.items() if ones
    }


def same_answer(talks: list[Talk]) -> float:
    """The share of right answers of who always says the most frequent one: the baseline for
    `exact_match`.
    """
    return Counter(talk.answer for talk in talks).most_common(1)[0][1] / len(talks)


def save_chat(folder: Path, model: GPT, tokenizer: BPETokenizer) -> None:
    """Write gpt.npz and tokenizer.json into `folder`."""
    model.save(folder / FILE)
    tokenizer.save(folder)


def load_chat(folder: Path) -> tuple[GPT, BPETokenizer]:
    """Read what `save_chat` wrote; FileNotFoundError where nothing was trained yet."""
    return GPT.load(folder / FILE)[0], BPETokenizer.load(folder)
