"""One thread that steps the engines of all models in turn, for callers in other threads.

An engine is not made for several threads: whatever changes it, new requests and cancelled ones
included, is an order in the worker's inbox, taken between two steps. What a step has written goes
out at once.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from ch07_practice.engine import Engine, Request


@dataclass(frozen=True)
class Written:
    """What one step did for one request; of the request itself only the worker may read what
    changes.
    """

    request: Request
    token: int | None = None  # None where the text ended without one
    # log-probabilities, where they were asked for
    found: tuple[float, dict[int, float]] | None = None
    finish_reason: str | None = None  # as in the request, or "error"


class Worker:
    """Steps while there is something to write and sleeps otherwise; `deliver` is called in its
    thread after each step.

    A step that raises an error ends all the requests of its engine with "error"; later ones are
    served again.
    """

    def __init__(self, deliver: Callable[[list[Written]], None]):
        self.deliver = deliver
        self.inbox: SimpleQueue = SimpleQueue()
        self.engines: list[Engine] = []  # that were ever busy
        self.thread = threading.Thread(target=self._work, name="engines", daemon=True)
        self.thread.start()

    def submit(self, engine: Engine, request: Request) -> None:
        self.inbox.put((engine, Engine.submit, request))

    def cancel(self, engine: Engine, request: Request) -> None:
        """Free the request's row; nothing more is delivered of it, but for what was written
        before.
        """
        self.inbox.put((engine, Engine.cancel, request))

    def close(self) -> None:
        """End the thread after the step that it is at."""
        self.inbox.put(None)
        self.thread.join()

    def _work(self) -> None:
        while True:
            busy = [engine for engine in self.engines if engine.busy]
            while not busy or not self.inbox.empty():
                order = self.inbox.get()
                if order is None:
                    return
                self._obey(*order)
                busy = [engine for engine in self.engines if engine.busy]
            for engine in busy:
                self.deliver(self._step(engine))

    def _obey(self, engine: Engine, what: Callable, request: Request) -> None:
        if engine not in self.engines:
            self.engines.append(engine)
        try:
            what(engine, request)
        except ValueError:  # whoever submits has checked before, so this is a mistake of ours
            logging.exception("a request was refused")
            self.deliver([Written(request, finish_reason="error")])

    def _step(self, engine: Engine) -> list[Written]:
        try:
            return [self._written(request) for request in engine.step()]
        except Exception:  # one model's failure must not stop the others
            logging.exception("a step failed")
            failed = [*(row.request for row in engine.rows), *engine.waiting]
            engine.reset()
            return [Written(request, finish_reason="error") for request in failed]

    @staticmethod
    def _written(request: Request) -> Written:
        if request.finish_reason == "stop":
            return Written(request, finish_reason="stop")
        found = request.found[-1] if request.logprobs is not None else None
        return Written(request, request.ids[-1], found, request.finish_reason)
