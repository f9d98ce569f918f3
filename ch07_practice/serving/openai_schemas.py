"""Request bodies and error objects of OpenAI's API, as pydantic models.

A field that this server does not support is rejected by name, never silently ignored. Left out:
tools, images, audio, echo, best_of. Added, as in other open servers: top_k, min_p and
repetition_penalty.
"""

import json
import random
from typing import Annotated, Any, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException

from ch03_gpt import SamplingParams

ANY_OBJECT = '{"type": "object"}'  # the schema behind response_format json_object
MAX_TEXTS = 128  # per request
GENERATION_FAILED = "generation failed; the server's log says why"
MAX_SEED = 2**63 - MAX_TEXTS  # text i uses seed + i


class ApiError(Exception):
    """An error that the client receives as OpenAI's error object."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


def error_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """OpenAI's error object. A lone surrogate, which UTF-8 cannot encode, becomes a
    question mark.
    """
    kind = {429: "rate_limit_error", 401: "authentication_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
    text = " ".join(message.split()).encode("utf-8", "replace").decode()
    return {"error": {"message": text, "type": kind, "param": param, "code": code}}


def error_response(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> JSONResponse:
    headers = {"Retry-After": "1"} if status == 429 else None
    return JSONResponse(error_body(status, message, param, code), status, headers)


async def on_api_error(_: Request, error: ApiError) -> JSONResponse:
    return error_response(error.status, str(error), error.param, error.code)


async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    """Report the first problem of a request body."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return error_response(
            400, f"the body is not valid JSON: {first['ctx']['error']}", None, "invalid_json"
        )
    where = ".".join(map(str, first["loc"][1:]))
    problem = first["msg"].removeprefix("Value error, ")
    return error_response(
        400, f"{where}: {problem}" if where else f"the body: {problem}", where or None
    )


async def on_http_error(_: Request, error: HTTPException) -> JSONResponse:
    return error_response(error.status_code, str(error.detail))


async def on_failure(_: Request, error: Exception) -> JSONResponse:
    return error_response(
        500, f"the server made an error ({type(error).__name__}); its log says more"
    )


class Strict(BaseModel):
    """Exact types and no unknown fields; null means the same as leaving a field out."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        return (
            {name: value for name, value in data.items() if value is not None}
            if isinstance(data, dict)
            else data
        )


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: bool = False  # accepted and without effect: chunks are never padded


class JsonSchema(Strict):
    name: str = "answer"
    description: str = ""
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool = True


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _check_schema(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("type json_schema and the field json_schema must come together")
        return self

    def schema_text(self) -> str | None:
        """The JSON schema that the text must satisfy, or None."""
        if self.type == "text":
            return None
        return ANY_OBJECT if self.json_schema is None else json.dumps(self.json_schema.schema_)


Stop = Annotated[str, Field(min_length=1, max_length=1000)]


class Body(Strict):
    """The fields that both endpoints share."""

    model: str
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    min_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    logit_bias: dict[
        Annotated[str, Field(pattern=r"^\d{1,9}$")], Annotated[float, Field(ge=-100, le=100)]
    ] = {}
    n: int = Field(1, ge=1, le=MAX_TEXTS)
    seed: int = Field(default_factory=lambda: random.randrange(2**31), ge=-MAX_SEED, le=MAX_SEED)
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] = []
    response_format: ResponseFormat = ResponseFormat(type="text")
    user: str = ""  # accepted and without effect

    def sampling(self) -> SamplingParams:
        """The sampling settings. Filters are dropped at temperature 0, where they change
        nothing.
        """
        filters: dict[str, Any] = {
            "top_k": self.top_k,
            "top_p": self.top_p if self.top_p < 1 else None,
            "min_p": self.min_p,
        }
        return SamplingParams(
            temperature=self.temperature,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias={int(token): bias for token, bias in self.logit_bias.items()},
            **(filters if self.temperature else {}),
        )

    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop


class TextPart(Strict):
    type: Literal["text"]
    text: str


class ChatMessage(Strict):
    # clients send earlier answers back with fields of their own, such as refusal
    model_config = ConfigDict(extra="ignore")

    role: str
    content: str | list[TextPart]

    def as_message(self) -> dict[str, str]:
        """The message with its parts joined to one string."""
        text = (
            self.content
            if isinstance(self.content, str)
            else "".join(part.text for part in self.content)
        )
        return {"role": self.role, "content": text}


class ChatBody(Body):
    """The body of POST /v1/chat/completions."""

    messages: list[ChatMessage]
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)

    @model_validator(mode="after")
    def _check_logprobs(self) -> "ChatBody":
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self


class CompletionBody(Body):
    """The body of POST /v1/completions. A prompt is a text or token ids, one or several."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=20)

    def prompts(self) -> list:
        """Texts, or lists of ids."""
        prompt = self.prompt
        if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)):
            return [prompt]
        return prompt
