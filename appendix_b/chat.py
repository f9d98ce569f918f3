"""A tiny chat model from start to finish: tokenizer, pretraining on stories, fine-tuning on small
talk, answering.

These are the stages of chapters 1, 4 and 6 with our own engine in place of PyTorch; only the
tokenizer and the stories come from chapter 1. The model is tested on pairs of people and things
that never occurred together in training.
"""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np

from appendix_b.gpt import GPT, GPTConfig, generate
from appendix_b.small_talk import (
    ASSISTANT,
    KINDS,
    USER,
    Conversation,
    collate,
    conversations,
    prompt_ids,
)
from appendix_b.text_models import TextTrainConfig, random_windows, train_language_model
from ch01_text import BPETokenizer
from ch01_text.storyworld import stories
from ch01_text.tokenizer import END_OF_TEXT

VOCAB_SIZE = 512
FILE = "gpt.npz"


def prepare_stories(n: int, seed: int) -> tuple[BPETokenizer, np.ndarray, np.ndarray]:
    """A tokenizer trained on `n` stories, the ids of these stories, and the ids of n / 20 stories
    about held-out pairs.
    """
    texts, held_out = (
        [story.text for story in stories(count, split=split, seed=seed)]
        for split, count in (("train", n), ("test", max(20, n // 20)))
    )
    tokenizer = BPETokenizer.train(
        texts[:1000], VOCAB_SIZE, special_tokens=(END_OF_TEXT, USER, ASSISTANT)
    )
    train, test = (
        np.array([i for ids in tokenizer.encode_batch(part) for i in (*ids, tokenizer.eot_id)])
        for part in (texts, held_out)
    )
    return tokenizer, train, test


def pretrain(
    train: np.ndarray,
    held_out: np.ndarray,
    model_config: GPTConfig,
    train_config: TextTrainConfig,
    seed: int,
    batch_size: int = 16,
) -> tuple[GPT, list[dict]]:
    """A GPT trained on random windows of story ids, and its log."""
    rng = np.random.default_rng(seed)
    model = GPT(model_config, rng)
    T = model_config.context_length
    val = random_windows(held_out, T, 64)(np.random.default_rng(0))
    sample_batch = random_windows(train, T, batch_size)
    return model, train_language_model(model, sample_batch, val, train_config, rng, "stories")


def fine_tune(
    model: GPT, tokenizer: BPETokenizer, config: TextTrainConfig, seed: int, batch_size: int = 32
) -> list[dict]:
    """Train `model` in place to answer prompts; returns its log."""
    training = conversations(np.random.default_rng(seed))
    test = conversations(np.random.default_rng(1), split="test")
    return train_language_model(
        model,
        lambda rng: collate(list(islice(training, batch_size)), tokenizer),
        collate(list(islice(test, 200)), tokenizer),
        config,
        np.random.default_rng(seed),
        "small talk",
    )


def answer_prompts(
    model: GPT,
    tokenizer: BPETokenizer,
    prompts: list[str],
    rng: np.random.Generator,
    max_tokens: int = 40,
    **sampling,
) -> list[str]:
    """The model's answer to each prompt, up to its end-of-text token. ValueError if a prompt fills
    the context.
    """
    encoded = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    longest, context_length = max(map(len, encoded)), model.config.context_length
    if longest >= context_length:
        raise ValueError(
            f"the prompt has {longest} tokens, the context {context_length}; shorten the prompt"
        )
    answers = [""] * len(prompts)
    # Prompts of equal length form a batch; padding would need a mask that `GPT` does not have.
    for length in sorted(set(map(len, encoded))):
        rows = [row for row, ids in enumerate(encoded) if len(ids) == length]
        ids = np.array([encoded[row] for row in rows])
        steps = generate(model, ids, context_length, rng, **sampling)
        generated, ended = [], np.zeros(len(rows), dtype=bool)
        for next_ids in islice(steps, max_tokens):
            generated.append(next_ids)
            ended |= next_ids == tokenizer.eot_id
            if ended.all():
                break
        for row, answer in zip(rows, np.stack(generated, axis=1).tolist(), strict=True):
            end = answer.index(tokenizer.eot_id) if tokenizer.eot_id in answer else len(answer)
            answers[row] = tokenizer.decode(answer[:end])
    return answers


def exact_match(model: GPT, tokenizer: BPETokenizer, test: list[Conversation]) -> dict[str, float]:
    """The fraction of greedy answers that equal the correct one: overall and for each kind."""
    longest = max(len(tokenizer.encode(one.answer)) for one in test)
    answers = answer_prompts(
        model,
        tokenizer,
        [one.prompt for one in test],
        np.random.default_rng(0),
        longest + 1,
        temperature=0.0,
    )
    correct = np.array([answer == one.answer for answer, one in zip(answers, test, strict=True)])
    kinds = np.array([one.kind for one in test])
    by_kind = {kind: float(correct[kinds == kind].mean()) for kind in KINDS if kind in kinds}
    return {"all": float(correct.mean())} | by_kind


def majority_baseline(test: list[Conversation]) -> float:
    """The exact match of always giving the most frequent answer."""
    return Counter(one.answer for one in test).most_common(1)[0][1] / len(test)


def save_chat(folder: Path, model: GPT, tokenizer: BPETokenizer) -> None:
    """Write gpt.npz and tokenizer.json into `folder`."""
    model.save(folder / FILE)
    tokenizer.save(folder)


def load_chat(folder: Path) -> tuple[GPT, BPETokenizer]:
    """Read what `save_chat` wrote; FileNotFoundError if nothing has been trained yet."""
    return GPT.load(folder / FILE)[0], BPETokenizer.load(folder)
