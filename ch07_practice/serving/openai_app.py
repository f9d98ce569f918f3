"""An OpenAI-compatible server on the engine: concurrent requests share its steps.

`create_app` builds it from a registry of models. It answers /v1/models, /v1/chat/completions and
/v1/completions, serves the chat page at / and example stories for it at /story, and reports at
/health and /metrics. It writes no files. Left out: users, TLS, and requests from other origins'
pages (CORS); put a proxy in front to reach it from other machines.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from random import randrange
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import Route

from ch03_gpt import document_start
from ch07_practice.decoding.constrained import RegexConstraint
from ch07_practice.serving import openai_schemas as schemas
from ch07_practice.serving.chat_page import chat_page
from ch07_practice.serving.engine import Request
from ch07_practice.serving.middleware import GuardMiddleware
from ch07_practice.serving.model_registry import ModelRegistry, ServedModel
from ch07_practice.serving.openai_responses import ChatFormat, CompletionFormat, ResponseBuilder
from ch07_practice.serving.request_queue import RequestHandle, RequestQueue

MAX_BYTES = 2**20  # of a request body

# seed -> {"story": ..., "question": ..., "answer": ...} for the chat page
DrawStory = Callable[[int], dict[str, str]]


class EventStream(StreamingResponse):
    """Server-sent events of a request. However the response ends, its engine rows are freed."""

    def __init__(self, handle: RequestHandle, events: AsyncIterator[str]):
        super().__init__(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
        self.handle = handle

    async def __call__(self, scope, receive, send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.handle.close()


async def stream_events(
    handle: RequestHandle, response: ResponseBuilder, with_usage: bool
) -> AsyncIterator[str]:
    """The response as server-sent events."""
    if openings := response.openings():
        yield response.chunk(openings)
    async for event in handle.events():
        if event.finish_reason == "error":
            yield f"data: {json.dumps(schemas.error_body(500, schemas.GENERATION_FAILED))}\n\n"
            return
        index, text, entries, finish_reason = response.add(event)
        if finish_reason:
            handle.finish(event.request)
        if text or entries or finish_reason:
            choice = response.format.chunk_choice(index, text, entries, finish_reason)
            yield response.chunk([choice])
    if with_usage:
        yield response.chunk([], usage=response.usage())
    yield "data: [DONE]\n\n"


async def collect(handle: RequestHandle, response: ResponseBuilder) -> dict[str, Any]:
    """The response as one object."""
    texts: list[list[str]] = [[] for _ in response.requests]
    logprobs: list[list[dict]] = [[] for _ in response.requests]
    async for event in handle.events():
        if event.finish_reason == "error":
            raise schemas.ApiError(500, schemas.GENERATION_FAILED)
        index, text, entries, finish_reason = response.add(event)
        texts[index].append(text)
        logprobs[index] += entries or []
        if finish_reason:
            handle.finish(event.request)
    return response.complete(
        [
            response.format.choice(
                i,
                "".join(texts[i]),
                None if request.top_logprobs is None else logprobs[i],
                text.finish_reason,
            )
            for i, (request, text) in enumerate(response.texts.items())
        ]
    )


async def unless_disconnected(http: HTTPRequest, work: Awaitable) -> Any:
    """The result of `work`; if the client disconnects first, `work` is cancelled and the result is
    None.
    """
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(http.receive())
    try:
        await asyncio.wait((task, disconnect), return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        task.cancel()
        disconnect.cancel()


def make_requests(
    served: ServedModel, body: schemas.Body, prompts: list[list[int]], top_logprobs: int | None
) -> list[Request]:
    """`n` engine requests for each prompt; ValueError if a prompt or an option is invalid.

    Text i is sampled with seed + i, and ends at the latest where the context is full.
    """
    if not 1 <= len(prompts) * body.n <= schemas.MAX_TEXTS:
        raise ValueError(
            f"{len(prompts)} prompts with n = {body.n} ask for {len(prompts) * body.n} texts;"
            f" ask for 1 to {schemas.MAX_TEXTS}"
        )
    schema = body.response_format.schema_text()
    requests: list[Request] = []
    for prompt in prompts:
        room = min(served.room(prompt), body.max_tokens or served.context_length)
        for _ in range(body.n):
            constraint = RegexConstraint(served.pattern(schema), room) if schema else None
            requests.append(
                Request(
                    prompt,
                    room,
                    body.sampling(),
                    served.stop_ids,
                    body.seed + len(requests),
                    constraint,
                    top_logprobs,
                )
            )
            served.engine.check(requests[-1])
    return requests


def prepare_chat(
    served: ServedModel, body: schemas.ChatBody
) -> tuple[list[Request], ResponseBuilder]:
    """The engine requests of a chat request, and the builder of its response."""
    body.max_tokens = body.max_completion_tokens or body.max_tokens
    prompt = served.chat_prompt([message.as_message() for message in body.messages])
    requests = make_requests(served, body, [prompt], body.top_logprobs if body.logprobs else None)
    return requests, ResponseBuilder(
        ChatFormat,
        served,
        requests,
        [*body.stops(), *served.chat_stops],
        len(prompt),
        strip_start=not served.has_template,
    )


def prepare_completion(
    served: ServedModel, body: schemas.CompletionBody
) -> tuple[list[Request], ResponseBuilder]:
    """The engine requests of a completion request, and the builder of its response."""
    prompts = [
        (
            document_start(served.tokenizer, prompt)
            if isinstance(prompt, str)
            else served.check_ids(prompt)
        )
        for prompt in body.prompts()
    ]
    requests = make_requests(served, body, prompts, body.logprobs)
    n_prompt_tokens = sum(map(len, prompts))
    return requests, ResponseBuilder(
        CompletionFormat, served, requests, body.stops(), n_prompt_tokens
    )


async def respond(
    queue: RequestQueue, http: HTTPRequest, body: schemas.Body, prepare: Callable
) -> Response:
    """Generate what a request asks for; answer as a stream or as one object."""
    if body.model not in queue.models.checkpoints:
        names = ", ".join(queue.models.checkpoints)
        raise schemas.ApiError(
            404,
            f"there is no model {body.model!r}; choose one of {names}",
            "model",
            "model_not_found",
        )
    served = await run_in_threadpool(queue.models.open, body.model)
    try:
        requests, response = await run_in_threadpool(prepare, served, body)
    except ValueError as error:
        raise schemas.ApiError(400, str(error)) from error
    handle = queue.submit(served, requests)
    if body.stream:
        events = stream_events(handle, response, body.stream_options.include_usage)
        return EventStream(handle, events)
    try:
        return JSONResponse(await unless_disconnected(http, collect(handle, response)))
    finally:
        handle.close()


def add_routes(app: FastAPI, queue: RequestQueue, draw_story: DrawStory) -> None:
    """Register the server's endpoints."""
    models = [
        {
            "id": name,
            "object": "model",
            "created": int(checkpoint.stat().st_mtime),
            "owned_by": "llm-companion",
        }
        for name, checkpoint in queue.models.checkpoints.items()
    ]
    page, page_headers = chat_page()

    @app.get("/v1/models")
    async def list_models() -> dict:
        return {"object": "list", "data": models}

    @app.get("/v1/models/{name}")
    async def one_model(name: str) -> dict:
        for model in models:
            if model["id"] == name:
                return model
        raise schemas.ApiError(404, f"there is no model {name!r}", "model", "model_not_found")

    @app.post("/v1/chat/completions")
    async def chat_completions(body: schemas.ChatBody, http: HTTPRequest) -> Response:
        return await respond(queue, http, body, prepare_chat)

    @app.post("/v1/completions")
    async def completions(body: schemas.CompletionBody, http: HTTPRequest) -> Response:
        return await respond(queue, http, body, prepare_completion)

    @app.get("/story")
    async def story(seed: int | None = None) -> dict:
        return draw_story(randrange(2**31) if seed is None else seed)

    @app.get("/health")
    async def health() -> dict:
        return {
            "status": "ok",
            "models": list(queue.models.checkpoints),
            "loaded": list(queue.models.loaded),
            "unfinished": len(queue.handles),
        }

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(queue.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/")
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=page_headers)


def create_app(
    models: ModelRegistry,
    draw_story: DrawStory,
    *,
    max_queue: int = 256,
    api_key: str | None = None,
    hosts: Collection[str] | None = None,
    max_bytes: int = MAX_BYTES,
) -> FastAPI:
    """The server. At most `max_queue` texts may be waiting or running; further requests receive
    429. `hosts` are the names it may be addressed by; None: any.
    """
    queue = RequestQueue(models, max_queue)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        queue.worker.close()

    app = FastAPI(
        title="llm-companion", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.queue = queue
    # Starlette's annotation wants handlers of every exception, not of the one they are added for
    app.add_exception_handler(schemas.ApiError, schemas.on_api_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, schemas.on_invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, schemas.on_http_error)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, schemas.on_failure)
    add_routes(app, queue, draw_story)
    known = {route.path for route in app.routes if isinstance(route, Route)}

    def count(path: str, status: int) -> None:
        queue.metrics.responses.labels(path if path in known else "other", status).inc()

    app.add_middleware(
        GuardMiddleware, max_bytes=max_bytes, api_key=api_key, hosts=hosts, count=count
    )
    return app
