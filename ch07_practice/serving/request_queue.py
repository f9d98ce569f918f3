"""Between HTTP requests on the event loop and the thread that steps the engines.

An engine is not thread-safe. Every change to it, a new or a cancelled request, is therefore a
command in the worker's inbox, executed between two steps; the tokens of a step travel back to the
event loop at once. A `RequestHandle` stands for all texts of one HTTP request.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from queue import SimpleQueue

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from ch07_practice.serving.engine import Engine, Request
from ch07_practice.serving.model_registry import ModelRegistry, ServedModel
from ch07_practice.serving.openai_schemas import ApiError

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # seconds


@dataclass(frozen=True)
class TokenEvent:
    """One token event. The mutable fields of `request` belong to the worker thread: read the
    results here.
    """

    request: Request
    token: int | None = None  # None if the text ended without a new token
    logprobs: tuple[float, dict[int, float]] | None = None  # as in `Request.logprobs`, if requested
    finish_reason: str | None = None  # as in `Request`, or "error"


class Worker:
    """A thread that steps all busy engines in turn and sleeps when none is busy. It calls
    `deliver` with the events of each step.

    A step that raises ends all requests of its engine with "error"; later requests are served
    again.
    """

    def __init__(self, deliver: Callable[[list[TokenEvent]], object]):
        self.deliver = deliver
        self.inbox: SimpleQueue = SimpleQueue()
        self.engines: list[Engine] = []  # all that ever received a request
        self.thread = threading.Thread(target=self._run, name="engines", daemon=True)
        self.thread.start()

    def submit(self, engine: Engine, request: Request) -> None:
        self.inbox.put((engine, Engine.submit, request))

    def cancel(self, engine: Engine, request: Request) -> None:
        """Free the request's row. Events of earlier steps may still arrive."""
        self.inbox.put((engine, Engine.cancel, request))

    def close(self) -> None:
        """Finish the current step, then end the thread."""
        self.inbox.put(None)
        self.thread.join()

    def _run(self) -> None:
        while True:
            busy = [engine for engine in self.engines if engine.busy]
            while not busy or not self.inbox.empty():
                command = self.inbox.get()
                if command is None:
                    return
                self._execute(*command)
                busy = [engine for engine in self.engines if engine.busy]
            for engine in busy:
                self.deliver(self._step(engine))

    def _execute(self, engine: Engine, method: Callable, request: Request) -> None:
        if engine not in self.engines:
            self.engines.append(engine)
        try:
            method(engine, request)
        except ValueError:  # requests are checked before they are submitted, so this is our bug
            logging.exception("the engine refused a request")
            self.deliver([TokenEvent(request, finish_reason="error")])

    def _step(self, engine: Engine) -> list[TokenEvent]:
        try:
            return [self._event(request) for request in engine.step()]
        except Exception:  # one model's failure must not stop the others
            logging.exception("a step failed")
            failed = [*(sequence.request for sequence in engine.running), *engine.waiting]
            engine.reset()
            return [TokenEvent(request, finish_reason="error") for request in failed]

    @staticmethod
    def _event(request: Request) -> TokenEvent:
        if request.finish_reason == "stop":
            return TokenEvent(request, finish_reason="stop")
        logprobs = request.logprobs[-1] if request.top_logprobs is not None else None
        return TokenEvent(request, request.ids[-1], logprobs, request.finish_reason)


class Metrics:
    """What /metrics reports. The registry is our own, so that one process can hold several
    servers.
    """

    def __init__(self):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.responses = Counter(
            "llm_responses", "HTTP responses.", ["path", "status"], registry=self.registry
        )
        self.tokens = Counter(
            "llm_tokens",
            "Tokens, by kind: prompt or generated.",
            ["model", "kind"],
            registry=self.registry,
        )
        self.unfinished = Gauge(
            "llm_unfinished_texts", "Waiting and running texts.", registry=self.registry
        )
        self.first_token = Histogram(
            "llm_first_token_seconds",
            "Time to a request's first token.",
            ["model"],
            registry=self.registry,
            buckets=LATENCY_BUCKETS,
        )
        self.whole_request = Histogram(
            "llm_request_seconds",
            "Time to a request's last token.",
            ["model"],
            registry=self.registry,
            buckets=LATENCY_BUCKETS,
        )


class RequestHandle:
    """The texts of one HTTP request while they are generated. Always `close` it."""

    def __init__(self, queue: "RequestQueue", served: ServedModel, requests: list[Request]):
        self.queue, self.served, self.unfinished = queue, served, dict.fromkeys(requests)
        self.inbox: asyncio.Queue[TokenEvent] = asyncio.Queue()
        self.began = time.perf_counter()
        self.n_prompt_tokens = sum(len(request.prompt) for request in requests)
        self.is_first = True

    async def events(self) -> AsyncIterator[TokenEvent]:
        """The token events of all texts, interleaved, until every text is finished."""
        metrics, name = self.queue.metrics, self.served.name
        while self.unfinished:
            event = await self.inbox.get()
            if event.request not in self.unfinished:
                continue  # sent after its stop string, before the worker learned of it
            if self.is_first:
                self.is_first = False
                metrics.first_token.labels(name).observe(time.perf_counter() - self.began)
                metrics.tokens.labels(name, "prompt").inc(self.n_prompt_tokens)
            metrics.tokens.labels(name, "generated").inc(event.token is not None)
            if event.finish_reason:
                self._forget(event.request)
            yield event
        metrics.whole_request.labels(name).observe(time.perf_counter() - self.began)

    def finish(self, request: Request) -> None:
        """End one text early, for example at a stop string."""
        if request in self.unfinished:
            self.queue.worker.cancel(self.served.engine, request)
            self._forget(request)

    def close(self) -> None:
        """Cancel whatever is unfinished."""
        for request in list(self.unfinished):
            self.finish(request)

    def _forget(self, request: Request) -> None:
        del self.unfinished[request], self.queue.handles[request]


class RequestQueue:
    """The models and the worker of one server, with at most `limit` texts waiting or running."""

    def __init__(self, models: ModelRegistry, limit: int):
        self.models, self.limit = models, limit
        self.metrics = Metrics()
        self.metrics.unfinished.set_function(lambda: len(self.handles))
        # the handle of each unfinished request; only the event loop's thread touches it
        self.handles: dict[Request, RequestHandle] = {}
        self.worker: Worker  # from `start` on

    def start(self) -> None:
        """Start the worker; call it on the event loop that answers."""
        loop = asyncio.get_running_loop()
        self.worker = Worker(lambda events: loop.call_soon_threadsafe(self._dispatch, events))

    def submit(self, served: ServedModel, requests: list[Request]) -> RequestHandle:
        """Queue requests; ApiError 429 if the queue is full."""
        if len(self.handles) + len(requests) > self.limit:
            raise ApiError(
                429,
                f"{len(self.handles)} texts are waiting or running and at most {self.limit} are"
                " allowed; try again later",
                code="queue_full",
            )
        handle = RequestHandle(self, served, requests)
        for request in requests:
            self.handles[request] = handle
            self.worker.submit(served.engine, request)
        return handle

    def _dispatch(self, events: list[TokenEvent]) -> None:
        for event in events:
            if handle := self.handles.get(event.request):
                handle.inbox.put_nowait(event)
