"""The models of a run: each is loaded on first use and gets an engine of its own.

A tuned model reads messages through chapter 6's chat template. The base model knows no template, so
the caller passes `base_prompt`, which writes a conversation as plain text that the model continues;
its answer ends with the line. Left out: HTTP, and the thread that steps the engines.
"""

import json
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import torch

from ch01_text import BPETokenizer
from ch03_gpt import GPTModel, document_start
from ch06_instruction.chat import END, SPECIALS, Message, check_conversation, prompt_ids
from ch07_practice.decoding.constrained import Pattern, Vocabulary, json_expression
from ch07_practice.load_model import find_checkpoints, open_model
from ch07_practice.serving.engine import Engine

SCHEMA_SECONDS = 10.0  # limit for compiling a client's JSON schema

BasePrompt = Callable[[Sequence[Message]], str]


class ServedModel:
    """A model with its tokenizer, its way to read a conversation, and an engine."""

    def __init__(
        self, name: str, model: GPTModel, tokenizer, base_prompt: BasePrompt, max_num_seqs: int
    ):
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.base_prompt = base_prompt
        self.context_length = model.config.context_length
        self.engine = Engine(model, max_num_seqs)
        special = tokenizer.special_tokens
        self.has_template = isinstance(tokenizer, BPETokenizer) and set(SPECIALS) <= set(special)
        self.end_id = special[END] if self.has_template else tokenizer.eot_id
        self.stop_ids = (self.end_id, tokenizer.eot_id)
        self.chat_stops = () if self.has_template else ("\n",)
        self.lock = threading.Lock()
        self.pattern = lru_cache(maxsize=16)(self._compile_schema)

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        """A conversation whose last message is the user's -> prompt ids. ValueError if it is not
        a valid conversation.
        """
        check_conversation(messages)
        if self.has_template:
            return prompt_ids(self.tokenizer, messages)
        if messages[-1]["role"] != "user":
            raise ValueError("the last message must be the user's")
        return document_start(self.tokenizer, self.base_prompt(messages))

    def room(self, prompt: Sequence[int]) -> int:
        """How many tokens fit behind `prompt`; ValueError if none does."""
        if len(prompt) >= self.context_length:
            raise ValueError(
                f"the prompt has {len(prompt)} tokens, and the context of {self.name} holds"
                f" {self.context_length}, including the answer; shorten it"
            )
        return self.context_length - len(prompt)

    def check_ids(self, ids: Sequence[int]) -> list[int]:
        """A prompt given as ids; ValueError if one is not in the vocabulary."""
        if unknown := [i for i in ids if not 0 <= i < self.tokenizer.n_vocab]:
            raise ValueError(
                f"there is no token {unknown[0]}; ids go from 0 to {self.tokenizer.n_vocab - 1}"
            )
        return list(ids)

    def _compile_schema(self, schema: str) -> Pattern:
        # one schema at a time: compiling is pure Python, so parallel threads would only compete
        with self.lock:
            try:
                vocabulary = Vocabulary(self.tokenizer, self.end_id)
                pattern = Pattern(json_expression(json.loads(schema)), vocabulary, SCHEMA_SECONDS)
                pattern.distance(pattern.start)
                return pattern
            except RecursionError as error:
                raise ValueError("this JSON schema is nested too deeply") from error

    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes of a token."""
        if isinstance(self.tokenizer, BPETokenizer):
            return self.tokenizer.decode_bytes([token])
        return self.tokenizer.decode([token]).encode()


class ModelRegistry:
    """The models of a run by name: "base" and chapter 6's stages."""

    def __init__(
        self,
        run: Path,
        base_prompt: BasePrompt,
        weights: str = "auto",
        device: torch.device | None = None,
        max_num_seqs: int = 32,
    ):
        self.run = run
        self.checkpoints = find_checkpoints(run)
        self.base_prompt = base_prompt
        self.weights = weights
        self.device = device or torch.device("cpu")
        self.max_num_seqs = max_num_seqs
        self.loaded: dict[str, ServedModel] = {}
        self.lock = threading.Lock()

    def open(self, name: str) -> ServedModel:
        """ValueError if there is no such model or its checkpoint is damaged."""
        if name not in self.checkpoints:
            names = ", ".join(self.checkpoints)
            raise ValueError(f"there is no model {name!r}; choose one of {names}")
        with self.lock:
            if name not in self.loaded:
                parts = open_model(self.run, self.checkpoints[name], self.weights, self.device)
                self.loaded[name] = ServedModel(name, *parts, self.base_prompt, self.max_num_seqs)
            return self.loaded[name]
