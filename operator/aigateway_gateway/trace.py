"""Trace ids: one a request, taken from the caller if it sent a usable one, and sent back as X-Trace-ID with every answer.

The outermost of our middlewares, and a pure ASGI one. It also keeps exceptions inside: an answer never holds a stack trace,
and the log holds where it happened but not what the exception says, which may be anything, a prompt among it.
Source: docs/gateway.md#traces-logs-metrics (X-Trace-ID, form of ids), #errors.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from traceback import extract_tb
from typing import Final

from loguru import logger
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aigateway_gateway.envelope import failure
from aigateway_gateway.openai_errors import ApiError, Kind

_ID: Final = re.compile(rb"[A-Za-z0-9-]{1,64}")
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def trace_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the caller's X-Trace-ID if it is well formed, else the id of its traceparent, else a new one (32 hex digits)."""
    parent = None
    for name, value in headers:
        if name == b"x-trace-id" and _ID.fullmatch(value):
            return value.decode()
        if name == b"traceparent":
            parent = _TRACEPARENT.fullmatch(value) or parent
    return parent[1].decode() if parent is not None else f"{random.getrandbits(128):032x}"


class TraceMiddleware:
    """Puts the id into `scope["trace_id"]` and into every answer; turns what nobody caught into a 500."""

    def __init__(self, app: ASGIApp, explain: Callable[[BaseException], str | None]) -> None:
        """`explain`: what `app.debug` adds to an error, None for nothing."""
        self._app = app
        self._explain = explain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = trace_id(scope["headers"])
        scope["trace_id"] = trace
        header = (b"x-trace-id", trace.encode())
        started = False

        async def send_traced(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            await self._app(scope, receive, send_traced)
        except Exception as error:  # noqa: BLE001 - the edge: what nobody caught is logged here and told to no caller
            logger.bind(trace_id=trace, path=scope["path"], places=_places(error)).error(
                "A request failed: {}", type(error).__name__
            )
            if started:
                raise HalfAnAnswer from None  # the server closes the connection, and logs this instead of the error
            await _send_failure(scope, trace, send_traced, self._explain(error))


class HalfAnAnswer(Exception):
    """A request failed when the beginning of its answer was out already; the log has the fault right before."""


def _places(error: BaseException) -> list[str]:
    """Return where an error came from, the innermost last, without what it says."""
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)]


async def _send_failure(scope: Scope, trace: str, send: Send, debug: str | None) -> None:
    text = "An internal error occurred. The gateway's log has it under this trace id."
    if scope["path"].startswith("/v1/"):
        error = ApiError(Kind.INTERNAL, text)
        error.debug = debug
        await send_bytes(send, 500, error.headers, error.body)
    else:
        await send_bytes(
            send, 500, [(b"content-type", b"application/json")], failure(text, "internal_error", trace, debug=debug)
        )


async def send_bytes(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Send a whole answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
