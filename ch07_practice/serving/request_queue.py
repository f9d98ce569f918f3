"""Between requests on the event loop and the thread that steps the engines: a job is all texts
of one request.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from ch07_practice.api import ApiError
from ch07_practice.engine import Request
from ch07_practice.served import Models, ServedModel
from ch07_practice.worker import Worker, Written

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """What /metrics tells; a registry of its own, so that a process may hold several servers."""

    def __init__(self):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.responses = Counter(
            "llm_responses", "Answered HTTP requests.", ["path", "status"], registry=self.registry
        )
        self.tokens = Counter(
            "llm_tokens", "Tokens read and written.", ["model", "kind"], registry=self.registry
        )
        self.unfinished = Gauge(
            "llm_unfinished_texts", "Texts that wait or are written.", registry=self.registry
        )
        self.first = Histogram(
            "llm_first_token_seconds",
            "Until a request's first token.",
            ["model"],
            registry=self.registry,
            buckets=SECONDS,
        )
        self.whole = Histogram(
            "llm_request_seconds",
            "Until a request's last token.",
            ["model"],
            registry=self.registry,
            buckets=SECONDS,
        )


class Job:
    """The texts of one request while they are written. `close` it, whatever happened."""

    def __init__(self, service: "Service", served: ServedModel, requests: list[Request]):
        self.service, self.served, self.unfinished = service, served, dict.fromkeys(requests)
        self.queue: asyncio.Queue[Written] = asyncio.Queue()
        self.began = time.perf_counter()
        self.read = sum(len(request.prompt) for request in requests)
        self.first = True

    async def events(self) -> AsyncIterator[Written]:
        """What is written, of all texts in turn, until each has finished."""
        metrics, name = self.service.metrics, self.served.name
        while self.unfinished:
            event = await self.queue.get()
            if event.request not in self.unfinished:
                continue  # written after its stop string, before the worker knew
            if self.first:
                self.first = False
                metrics.first.labels(name).observe(time.perf_counter() - self.began)
                metrics.tokens.labels(name, "read").inc(self.read)
            metrics.tokens.labels(name, "written").inc(event.token is not None)
            if event.finish_reason:
                self._forget(event.request)
            yield event
        metrics.whole.labels(name).observe(time.perf_counter() - self.began)

    def finish(self, request: Request) -> None:
        """End one text early."""
        if request in self.unfinished:
            self.service.worker.cancel(self.served.engine, request)
            self._forget(request)

    def close(self) -> None:
        """End what is not finished."""
        for request in list(self.unfinished):
            self.finish(request)

    def _forget(self, request: Request) -> None:
        del self.unfinished[request], self.service.jobs[request]


class Service:
    """The models and the worker of one server. `limit`: texts that may wait or be written at a
    time.
    """

    def __init__(self, models: Models, limit: int):
        self.models, self.limit = models, limit
        self.metrics = Metrics()
        self.metrics.unfinished.set_function(lambda: len(self.jobs))
        # unfinished requests; only the event loop's thread looks
        self.jobs: dict[Request, Job] = {}
        self.worker: Worker | None = None

    def start(self) -> None:
        """To be called on the event loop that answers."""
        loop = asyncio.get_running_loop()
        self.worker = Worker(lambda events: loop.call_soon_threadsafe(self._hand_out, events))

    def begin(self, served: ServedModel, requests: list[Request]) -> Job:
        """Have texts written; ApiError 429 where there are too many already."""
        if len(self.jobs) + len(requests) > self.limit:
            raise ApiError(
                429,
                f"{len(self.jobs)} texts wait or are written already, at most {self.limit} may; try"
                " again later",
                code="queue_full",
            )
        job = Job(self, served, requests)
        for request in requests:
            self.jobs[request] = job
            self.worker.submit(served.engine, request)
        return job

    def _hand_out(self, events: list[Written]) -> None:
        for event in events:
            if job := self.jobs.get(event.request):
                job.queue.put_nowait(event)
