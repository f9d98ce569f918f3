"""Checks before a request reaches the application: host name, API key, size of the body."""

import hmac
from collections.abc import Callable, Collection

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ch07_practice.serving.openai_schemas import error_response

PUBLIC_PATHS = ("/", "/health")  # need no key


class GuardMiddleware:
    """An ASGI application around another one.

    `hosts` are the names that this server may be addressed by. Without the check, a page of another
    site could reach a server on loopback through a name of its own (DNS rebinding). `count` is
    called with the path and the status of every response.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        api_key: str | None,
        hosts: Collection[str] | None,
        count: Callable[[str, int], None],
    ):
        self.app = app
        self.max_bytes = max_bytes
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
            names = " or ".join(sorted(self.hosts))
            return error_response(403, f"this server only answers to the host name {names}")
        key = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        if (
            self.api_key
            and path not in PUBLIC_PATHS
            # takes the same time for every wrong key, so that timing reveals nothing
            and not hmac.compare_digest(key, self.api_key.encode())
        ):
            return error_response(
                401, "this server needs its key: Authorization: Bearer KEY", None, "invalid_api_key"
            )
        length = headers.get(b"content-length", b"0")
        return (
            error_response(413, self._too_large())
            if length.isdigit() and int(length) > self.max_bytes
            else None
        )

    def _too_large(self) -> str:
        return f"the body is too large; at most {self.max_bytes} bytes are accepted"

    def _bounded(self, receive: Receive) -> Receive:
        """Count the bytes of a body that comes in chunks and has no Content-Length."""
        n_bytes = 0

        async def bounded() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self.max_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return bounded
