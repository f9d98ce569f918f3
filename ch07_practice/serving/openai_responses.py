"""From token events to OpenAI's response objects, whole or as server-sent events."""

import json
import time
import uuid
from typing import Any

from ch03_gpt import TextStream
from ch07_practice.serving.engine import Request
from ch07_practice.serving.model_registry import ServedModel
from ch07_practice.serving.request_queue import TokenEvent


class GeneratedText:
    """One text as it grows: pieces that no later token can change, with the log-probabilities of
    their tokens.

    A stop string ends the text and is not part of it. `strip_start` removes leading white space.
    """

    def __init__(self, served: ServedModel, request: Request, stops: list[str], strip_start: bool):
        self.served, self.request, self.strip_start = served, request, strip_start
        self.stream = TextStream(served.tokenizer, stops)
        self.n_released = 0  # characters that were returned so far
        self.n_tokens = 0
        # log-probability entries with the character offset at which their token begins
        self.pending: list[tuple[int, dict]] = []
        self.finish_reason: str | None = None

    def add(self, event: TokenEvent) -> tuple[str, list[dict]]:
        """The text and the entries that became final; sets `finish_reason` when the text ends."""
        piece = ""
        if event.token is not None:
            self.n_tokens += 1
            if event.logprobs is not None:
                entry = self._entry(event.token, *event.logprobs)
                self.pending.append((self.n_released + len(self.stream.withheld), entry))
            piece = self.stream.push(event.token)
        self.finish_reason = "stop" if self.stream.stopped else event.finish_reason
        if self.finish_reason:
            piece += self.stream.finish()
        self.n_released += len(piece)
        # tokens behind a stop string are cut off with their text
        all_final = self.finish_reason and not self.stream.stopped
        entries = [entry for begin, entry in self.pending if all_final or begin < self.n_released]
        self.pending = self.pending[len(entries) :]
        if self.strip_start:
            piece = piece.lstrip()
            self.strip_start = not piece
        return piece, entries

    def _entry(self, token: int, log_p: float, best: dict[int, float]) -> dict[str, Any]:
        return self._token(token, log_p) | {
            "top_logprobs": [self._token(other, its_log_p) for other, its_log_p in best.items()]
        }

    def _token(self, token: int, log_p: float) -> dict[str, Any]:
        text = self.served.token_bytes(token)
        return {
            "token": text.decode("utf-8", "replace"),
            "logprob": max(log_p, -9999.0),  # JSON has no -Infinity
            "bytes": list(text),
        }


ROLE = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}


class ChatFormat:
    """The objects of /v1/chat/completions."""

    object_name, chunk_name, id_prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"
    opening = ROLE

    @staticmethod
    def chunk_choice(
        index: int, text: str, entries: list[dict] | None, finish_reason: str | None
    ) -> dict:
        return {
            "index": index,
            "delta": {"content": text} if text else {},
            "logprobs": None if entries is None else {"content": entries, "refusal": None},
            "finish_reason": finish_reason,
        }

    @staticmethod
    def choice(
        index: int, text: str, entries: list[dict] | None, finish_reason: str | None
    ) -> dict:
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None if entries is None else {"content": entries, "refusal": None},
            "finish_reason": finish_reason,
        }


class CompletionFormat:
    """The objects of /v1/completions."""

    object_name, chunk_name, id_prefix = "text_completion", "text_completion", "cmpl"
    opening = None  # a stream begins with its first text

    @staticmethod
    def choice(
        index: int, text: str, entries: list[dict] | None, finish_reason: str | None
    ) -> dict:
        logprobs = (
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
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}

    chunk_choice = choice


class ResponseBuilder:
    """Builds the response to one request, in the format of its endpoint."""

    def __init__(
        self,
        response_format: type[ChatFormat] | type[CompletionFormat],
        served: ServedModel,
        requests: list[Request],
        stops: list[str],
        n_prompt_tokens: int,
        strip_start: bool = False,
    ):
        self.format, self.requests = response_format, requests
        self.n_prompt_tokens = n_prompt_tokens
        self.texts = {
            request: GeneratedText(served, request, stops, strip_start) for request in requests
        }
        self.head = {
            "id": f"{response_format.id_prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": served.name,
        }

    def add(self, event: TokenEvent) -> tuple[int, str, list[dict] | None, str | None]:
        """Return (index, new text, entries or None if not requested, finish reason)."""
        text = self.texts[event.request]
        piece, entries = text.add(event)
        wanted = event.request.top_logprobs is not None
        return (
            self.requests.index(event.request),
            piece,
            entries if wanted else None,
            text.finish_reason,
        )

    def openings(self) -> list[dict]:
        """The choices that a stream sends before any text."""
        return (
            [{"index": i} | self.format.opening for i in range(len(self.requests))]
            if self.format.opening
            else []
        )

    def usage(self) -> dict[str, int]:
        n_generated = sum(text.n_tokens for text in self.texts.values())
        return {
            "prompt_tokens": self.n_prompt_tokens,
            "completion_tokens": n_generated,
            "total_tokens": self.n_prompt_tokens + n_generated,
        }

    def chunk(self, choices: list[dict], **more: Any) -> str:
        """One server-sent event."""
        content = self.head | {"object": self.format.chunk_name, "choices": choices} | more
        return f"data: {json.dumps(content, allow_nan=False)}\n\n"

    def complete(self, choices: list[dict]) -> dict[str, Any]:
        """The whole response."""
        head = self.head | {"object": self.format.object_name}
        return head | {"choices": choices, "usage": self.usage()}
