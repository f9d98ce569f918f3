"""The models of a run as a server and a chat offer them: each is loaded when it is first asked for,
and has an engine.

A tuned model reads messages by chapter 6's template. The base model knows none: it reads a
conversation as chapter 4's texts put it, the story, then "Q: ..." and "A:", and its answer ends
with the line. Left out: HTTP, and who steps the engine.
"""

import json
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from random import Random

import torch

from ch01_text import BPETokenizer
from ch01_text.storyworld import MAIN_KINDS, question_lines, stories
from ch03_gpt import GPTModel, document_start
from ch04_pretraining import ensure_pretrained
from ch04_pretraining.checkpoint import find_checkpoint
from ch06_instruction.chat import END, SPECIALS, Message, check_conversation, prompt_ids
from ch06_instruction.grading import final_answer
from ch06_instruction.storyworld_tasks import LEVELS
from ch07_practice.constrained import Pattern, Vocabulary, json_expression
from ch07_practice.engine import Engine
from ch07_practice.models import open_model

PATTERN_SECONDS = 10.0  # that a client's JSON schema may take
TUNED = ("sft", "dpo", "ppo", "grpo")


def find_checkpoints(run: Path) -> dict[str, Path]:
    """Stage -> its checkpoint in the run. "base", the story model, comes first; chapter 4 makes it
    where there is none.
    """
    found = {"base": ensure_pretrained(run)}
    for stage in TUNED:
        if folder := find_checkpoint(run / "ch06_instruction" / stage):
            found[stage] = folder
    return found


def base_text(messages: Sequence[Message]) -> str:
    """A conversation as chapter 4's texts put it: of what a user says, the last line is the
    question.

    >>> base_text([{"role": "user", "content": "Tom went to the mill.\\nWhere is Tom?"}])
    'Tom went to the mill.\\nQ: Where is Tom?\\nA:'
    """
    text = ""
    for message in messages:
        words = message["content"].strip()
        if message["role"] == "user":
            story, newline, question = words.rpartition("\n")
            text += story.rstrip() + newline + question_lines(question)
        else:
            text += f" {final_answer(words)}\n" if message["role"] == "assistant" else f"{words}\n"
    return text


def draw_story(seed: int) -> dict[str, str]:
    """An unseen brief story up to where a question about a place or a possession is asked, with
    the true answer.
    """
    told = (
        (story, [one for one in story.questions if one.kind in MAIN_KINDS])
        for story in stories(split="test", level=LEVELS["test"], seed=seed)
    )
    story, asked = next((story, asked) for story, asked in told if asked)
    question = Random(seed).choice(asked)
    return {
        "story": story.prose[: question.position],
        "question": question.text,
        "answer": question.answer,
    }


class ServedModel:
    """A model with its tokenizer, the form in which it reads a conversation, and an engine of
    its own.
    """

    def __init__(self, name: str, model: GPTModel, tokenizer, rows: int):
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.context_length = model.config.context_length
        self.engine = Engine(model, rows)
        special = tokenizer.special_tokens
        self.has_template = isinstance(tokenizer, BPETokenizer) and set(SPECIALS) <= set(special)
        self.end_id = special[END] if self.has_template else tokenizer.eot_id
        self.stop_ids = (self.end_id, tokenizer.eot_id)
        self.chat_stops = () if self.has_template else ("\n",)
        self.lock = threading.Lock()
        self.pattern = lru_cache(maxsize=16)(self._pattern)

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        """A conversation that ends with the user -> what the model reads. ValueError where the
        messages are none.
        """
        check_conversation(messages)
        if self.has_template:
            return prompt_ids(self.tokenizer, messages)
        if messages[-1]["role"] != "user":
            raise ValueError("a prompt ends with a message of the user")
        return document_start(self.tokenizer, base_text(messages))

    def room(self, prompt: Sequence[int]) -> int:
        """How many tokens fit behind `prompt`; ValueError where none does."""
        if len(prompt) >= self.context_length:
            raise ValueError(
                f"the prompt has {len(prompt)} tokens, and {self.name} sees {self.context_length},"
                " the answer included; shorten it"
            )
        return self.context_length - len(prompt)

    def check_ids(self, ids: Sequence[int]) -> list[int]:
        """A prompt of ids; ValueError where one is none of the vocabulary's."""
        if beyond := [i for i in ids if not 0 <= i < self.tokenizer.n_vocab]:
            raise ValueError(
                f"there is no token {beyond[0]}; ids go from 0 to {self.tokenizer.n_vocab - 1}"
            )
        return list(ids)

    def _pattern(self, schema: str) -> Pattern:
        # one at a time: it is Python alone that is busy, and all others would be slower
        with self.lock:
            try:
                vocabulary = Vocabulary(self.tokenizer, self.end_id)
                pattern = Pattern(json_expression(json.loads(schema)), vocabulary, PATTERN_SECONDS)
                pattern.distance(pattern.start)
                return pattern
            except RecursionError as error:
                raise ValueError("this JSON schema is nested too deeply") from error

    def token_bytes(self, token: int) -> bytes:
        """What a token writes."""
        if isinstance(self.tokenizer, BPETokenizer):
            return self.tokenizer.decode_bytes([token])
        return self.tokenizer.decode([token]).encode()


class Models:
    """The models of a run by name, loaded when they are first asked for."""

    def __init__(
        self, run: Path, weights: str = "auto", device: torch.device | None = None, rows: int = 32
    ):
        self.folders = find_checkpoints(run)
        self.run = run
        self.weights = weights
        self.device = device or torch.device("cpu")
        self.rows = rows
        self.loaded: dict[str, ServedModel] = {}
        self.lock = threading.Lock()

    def open(self, name: str) -> ServedModel:
        """ValueError where there is no such model, or its checkpoint is damaged."""
        if name not in self.folders:
            raise ValueError(f"there is no model {name!r}; choose one of {', '.join(self.folders)}")
        with self.lock:
            if name not in self.loaded:
                parts = open_model(self.run, self.folders[name], self.weights, self.device)
                self.loaded[name] = ServedModel(name, *parts, self.rows)
            return self.loaded[name]
