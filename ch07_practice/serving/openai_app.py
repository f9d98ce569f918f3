"""An OpenAI-compatible server on the engine: requests that come at the same time share its steps.

`create_app` makes it from a run's models; `serving` starts it. It answers /v1/models,
/v1/chat/completions and /v1/completions, draws stories for the chat page at /, says how it is at
/health and what it did at /metrics, and writes nothing. Left out: users, TLS, other origins' pages
(no CORS); put a proxy before it to be reached from elsewhere.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager
from random import randrange
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from ch03_gpt import document_start
from ch07_practice import api
from ch07_practice.chat_page import chat_page
from ch07_practice.constrained import RegexConstraint
from ch07_practice.engine import Request as Writing
from ch07_practice.gate import Gate
from ch07_practice.replies import ChatShape, Reply, TextShape
from ch07_practice.served import Models, ServedModel, draw_story
from ch07_practice.service import Job, Service

MOST_BYTES = 2**20


class EventStream(StreamingResponse):
    """Server-sent events of a job; whatever ends the response, the job gives its rows back."""

    def __init__(self, job: Job, events: AsyncIterator[str]):
        super().__init__(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
        self.job = job

    async def __call__(self, scope, receive, send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.job.close()


async def stream_events(job: Job, reply: Reply, with_usage: bool) -> AsyncIterator[str]:
    """A reply piece by piece."""
    if openings := reply.openings():
        yield reply.chunk(openings)
    async for event in job.events():
        if event.finish_reason == "error":
            yield f"data: {json.dumps(api.error_body(500, api.FAILED))}\n\n"
            return
        index, text, entries, finish_reason = reply.add(event)
        if finish_reason:
            job.finish(event.request)
        if text or entries or finish_reason:
            yield reply.chunk([reply.shape.piece(index, text, entries, finish_reason)])
    if with_usage:
        yield reply.chunk([], usage=reply.usage())
    yield "data: [DONE]\n\n"


async def collect(job: Job, reply: Reply) -> dict[str, Any]:
    """A reply as a whole."""
    texts: list[list[str]] = [[] for _ in reply.requests]
    found: list[list[dict]] = [[] for _ in reply.requests]
    async for event in job.events():
        if event.finish_reason == "error":
            raise api.ApiError(500, api.FAILED)
        index, text, entries, finish_reason = reply.add(event)
        texts[index].append(text)
        found[index] += entries or []
        if finish_reason:
            job.finish(event.request)
    return reply.complete(
        [
            reply.shape.choice(
                i,
                "".join(texts[i]),
                None if request.logprobs is None else found[i],
                text.finish_reason,
            )
            for i, (request, text) in enumerate(reply.texts.items())
        ]
    )


async def unless_gone(http: Request, work: Awaitable) -> Any:
    """The result of `work`; it is cancelled, with None as the result, where the client hangs up
    before.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(http.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        task.cancel()
        gone.cancel()


def prepare(
    served: ServedModel, body: api.Body, prompts: list[list[int]], logprobs: int | None
) -> list[Writing]:
    """The texts to write, `n` for each prompt side by side; ValueError where a prompt or an option
    will not do.

    Text i is drawn with the seed + i. What would exceed the context is not written.
    """
    if not 1 <= len(prompts) * body.n <= api.MOST_TEXTS:
        raise ValueError(
            f"{len(prompts)} prompts and n = {body.n} make no text or more than {api.MOST_TEXTS}"
        )
    schema = body.response_format.schema_text()
    requests = []
    for prompt in prompts:
        room = min(served.room(prompt), body.max_tokens or served.context_length)
        for _ in range(body.n):
            constraint = RegexConstraint(served.pattern(schema), room) if schema else None
            requests.append(
                Writing(
                    prompt,
                    room,
                    body.sampling(),
                    served.stop_ids,
                    body.seed + len(requests),
                    constraint,
                    logprobs,
                )
            )
            served.engine.check(requests[-1])
    return requests


def prepare_chat(served: ServedModel, body: api.ChatBody) -> tuple[list[Writing], Reply]:
    """The texts that a chat request asks for, and the reply to fill."""
    body.max_tokens = body.max_completion_tokens or body.max_tokens
    prompt = served.chat_prompt([message.plain() for message in body.messages])
    requests = prepare(served, body, [prompt], body.top_logprobs if body.logprobs else None)
    return requests, Reply(
        ChatShape,
        served,
        requests,
        [*body.stops(), *served.chat_stops],
        len(prompt),
        bare=not served.has_template,
    )


def prepare_completion(
    served: ServedModel, body: api.CompletionBody
) -> tuple[list[Writing], Reply]:
    """The same for a completion request."""
    prompts = [
        (
            document_start(served.tokenizer, prompt)
            if isinstance(prompt, str)
            else served.check_ids(prompt)
        )
        for prompt in body.prompts()
    ]
    requests = prepare(served, body, prompts, body.logprobs)
    return requests, Reply(TextShape, served, requests, body.stops(), sum(map(len, prompts)))


async def answer(service: Service, http: Request, body: api.Body, prepare_body) -> Response:
    """Write what a request asks for, as a stream or whole."""
    if body.model not in service.models.folders:
        raise api.ApiError(
            404,
            f"there is no model {body.model!r}; choose one of {', '.join(service.models.folders)}",
            "model",
            "model_not_found",
        )
    served = await run_in_threadpool(service.models.open, body.model)
    try:
        requests, reply = await run_in_threadpool(prepare_body, served, body)
    except ValueError as error:
        raise api.ApiError(400, str(error)) from error
    job = service.begin(served, requests)
    if body.stream:
        return EventStream(job, stream_events(job, reply, body.stream_options.include_usage))
    try:
        return JSONResponse(await unless_gone(http, collect(job, reply)))
    finally:
        job.close()


def add_routes(app: FastAPI, service: Service) -> None:
    """The addresses that the server answers."""
    models = [
        {
            "id": name,
            "object": "model",
            "created": int(folder.stat().st_mtime),
            "owned_by": "llm-companion",
        }
        for name, folder in service.models.folders.items()
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
        raise api.ApiError(404, f"there is no model {name!r}", "model", "model_not_found")

    @app.post("/v1/chat/completions")
    async def chat_completions(body: api.ChatBody, http: Request) -> Response:
        return await answer(service, http, body, prepare_chat)

    @app.post("/v1/completions")
    async def completions(body: api.CompletionBody, http: Request) -> Response:
        return await answer(service, http, body, prepare_completion)

    @app.get("/story")
    async def story(seed: int | None = None) -> dict:
        return draw_story(randrange(2**31) if seed is None else seed)

    @app.get("/health")
    async def health() -> dict:
        return {
            "status": "ok",
            "models": list(service.models.folders),
            "loaded": list(service.models.loaded),
            "unfinished": len(service.jobs),
        }

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/")
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=page_headers)


def create_app(
    models: Models,
    *,
    queue: int = 256,
    api_key: str | None = None,
    hosts: Collection[str] | None = None,
    most_bytes: int = MOST_BYTES,
) -> FastAPI:
    """The server. `queue`: texts that may wait or be written at a time; more requests are answered
    with 429.
    `hosts`: the names it may be called by; None: any.
    """
    service = Service(models, queue)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.worker.close()

    app = FastAPI(
        title="llm-companion", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.service = service
    app.add_exception_handler(api.ApiError, api.on_api_error)
    app.add_exception_handler(RequestValidationError, api.on_invalid)
    app.add_exception_handler(HTTPException, api.on_http_error)
    app.add_exception_handler(Exception, api.on_failure)
    add_routes(app, service)
    known = {route.path for route in app.routes}

    def count(path: str, status: int) -> None:
        service.metrics.responses.labels(path if path in known else "other", status).inc()

    app.add_middleware(Gate, most_bytes=most_bytes, api_key=api_key, hosts=hosts, count=count)
    return app
