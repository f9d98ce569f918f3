"""From tokens as they are written to what a client gets: OpenAI's objects, whole or as
server-sent events.
"""

import json
import time
import uuid
from typing import Any

from ch03_gpt import TextStream
from ch07_practice.engine import Request
from ch07_practice.served import ServedModel
from ch07_practice.worker import Written


class Text:
    """One text as it comes: pieces that are certain, and the log-probabilities of the tokens in
    them.

    `stops` end it and are no part of it. `bare`: white space at its beginning is left out.
    """

    def __init__(self, served: ServedModel, request: Request, stops: list[str], bare: bool):
        self.served, self.request, self.bare = served, request, bare
        self.stream = TextStream(served.tokenizer, stops)
        self.released = 0  # characters
        self.n_tokens = 0
        self.pending: list[tuple[int, dict]] = []  # where in the text a token begins, and its entry
        self.finish_reason: str | None = None

    def add(self, event: Written) -> tuple[str, list[dict]]:
        """What is certain since the last time; `finish_reason` is set where the text has ended."""
        piece = ""
        if event.token is not None:
            self.n_tokens += 1
            if event.found is not None:
                self.pending.append((self.released + len(self.stream.held), self._entry(event)))
            piece = self.stream.feed(event.token)
        self.finish_reason = "stop" if self.stream.stopped else event.finish_reason
        if self.finish_reason:
            piece += self.stream.finish()
        self.released += len(piece)
        whole = self.finish_reason and not self.stream.stopped
        entries = [entry for begin, entry in self.pending if whole or begin < self.released]
        self.pending = self.pending[len(entries) :]
        if self.bare:
            piece = piece.lstrip()
            self.bare = not piece
        return piece, entries

    def _entry(self, event: Written) -> dict[str, Any]:
        log_p, best = event.found
        return self._token(event.token, log_p) | {
            "top_logprobs": [self._token(token, other) for token, other in best.items()]
        }

    def _token(self, token: int, log_p: float) -> dict[str, Any]:
        written = self.served.token_bytes(token)
        return {
            "token": written.decode("utf-8", "replace"),
            "logprob": max(log_p, -9999.0),
            "bytes": list(written),
        }


ROLE = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}


class ChatShape:
    """The objects of /v1/chat/completions."""

    whole, part, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"
    opening = ROLE

    @staticmethod
    def piece(index: int, text: str, entries: list[dict] | None, finish_reason: str | None) -> dict:
        return {
            "index": index,
            "delta": {"content": text} if text else {},
            "logprobs": None if entries is None else {"content": entries, "refusal": None},
            "finish_reason": finish_reason,
        }

    @staticmethod
    def choice(index: int, text: str, entries: list[dict] | None, finish_reason: str) -> dict:
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None if entries is None else {"content": entries, "refusal": None},
            "finish_reason": finish_reason,
        }


class TextShape:
    """The objects of /v1/completions."""

    whole, part, prefix = "text_completion", "text_completion", "cmpl"
    opening = None  # nothing is said before the text

    @staticmethod
    def piece(index: int, text: str, entries: list[dict] | None, finish_reason: str | None) -> dict:
        found = (
            None
            if entries is None
            else {
                "tokens": [entry["token"] for entry in entries],
                "token_logprobs": [entry["logprob"] for entry in entries],
                "top_logprobs": [
                    {one["token"]: one["logprob"] for one in entry["top_logprobs"]}
                    for entry in entries
                ],
            }
        )
        return {"index": index, "text": text, "logprobs": found, "finish_reason": finish_reason}

    choice = piece


class Reply:
    """All texts of one request, in the shape that its endpoint has."""

    def __init__(
        self,
        shape,
        served: ServedModel,
        requests: list[Request],
        stops: list[str],
        n_prompt: int,
        bare: bool = False,
    ):
        self.shape, self.served, self.requests, self.n_prompt = shape, served, requests, n_prompt
        self.texts = {request: Text(served, request, stops, bare) for request in requests}
        self.head = {
            "id": f"{shape.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": served.name,
        }

    def add(self, event: Written) -> tuple[int, str, list[dict] | None, str | None]:
        """index, new text, entries (None: not asked for), finish reason"""
        text = self.texts[event.request]
        piece, entries = text.add(event)
        wanted = event.request.logprobs is not None
        return (
            self.requests.index(event.request),
            piece,
            entries if wanted else None,
            text.finish_reason,
        )

    def openings(self) -> list[dict]:
        """What is sent before anything is written."""
        return (
            [{"index": i} | self.shape.opening for i in range(len(self.requests))]
            if self.shape.opening
            else []
        )

    def usage(self) -> dict[str, int]:
        written = sum(text.n_tokens for text in self.texts.values())
        return {
            "prompt_tokens": self.n_prompt,
            "completion_tokens": written,
            "total_tokens": self.n_prompt + written,
        }

    def chunk(self, choices: list[dict], **more: Any) -> str:
        """One server-sent event."""
        content = self.head | {"object": self.shape.part, "choices": choices} | more
        return f"data: {json.dumps(content, allow_nan=False)}\n\n"

    def complete(self, choices: list[dict]) -> dict[str, Any]:
        return self.head | {"object": self.shape.whole, "choices": choices, "usage": self.usage()}
