"""What a request must pass before it is read: a size limit, the key, where there is one, and the
right host name.
"""

import hmac
from collections.abc import Callable, Collection

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ch07_practice.api import error_response

OPEN = ("/", "/health")  # without a key


class Gate:
    """An ASGI application around another.

    `hosts`: names that this server may be called by; without it another site's page could reach a
    server on loopback through a name of its own (DNS rebinding). `count` is told the path and
    status of every answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        most_bytes: int,
        api_key: str | None,
        hosts: Collection[str] | None,
        count: Callable[[str, int], None],
    ):
        self.app = app
        self.most_bytes = most_bytes
        self.api_key = api_key
        self.hosts = hosts
        self.count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.count(scope["path"], message["status"])
            await send(message)

        if refusal := self._refusal(scope["path"], dict(scope["headers"])):
            await refusal(scope, receive, counted)
        else:
            await self.app(scope, self._bounded(receive), counted)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> Response | None:
        host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0]
        if self.hosts is not None and host not in self.hosts:
            return error_response(403, f"this server is called {' or '.join(sorted(self.hosts))}")
        given = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        if (
            self.api_key
            and path not in OPEN
            and not hmac.compare_digest(given, self.api_key.encode())
        ):
            return error_response(
                401, "this server wants its key: Authorization: Bearer KEY", None, "invalid_api_key"
            )
        length = headers.get(b"content-length", b"0")
        return (
            error_response(413, self._too_large())
            if length.isdigit() and int(length) > self.most_bytes
            else None
        )

    def _too_large(self) -> str:
        return f"the body is too large; at most {self.most_bytes} bytes are read"

    def _bounded(self, receive: Receive) -> Receive:
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return bounded
