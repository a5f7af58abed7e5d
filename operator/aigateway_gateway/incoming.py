"""The caller's side of a request: its body, bounded in size and time, and its leaving. Raw ASGI; called by `calls`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import orjson
from starlette.types import Receive

from aigateway_gateway.openai_errors import ApiError, Kind


class CallerGone(Exception):
    """The caller closed its connection before the answer was complete."""


async def read_body(headers: Iterable[tuple[bytes, bytes]], receive: Receive, limit: int, seconds: float) -> bytes:
    """Return the body of a request. Raises ApiError (413, 408) or CallerGone."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise CallerGone
                piece = message.get("body", b"")
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                pieces.append(piece)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise ApiError(Kind.BODY_TIMEOUT, f"The request's body did not arrive within {seconds:g} seconds.") from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def parse_body(raw: bytes) -> tuple[dict[str, Any], str]:
    """Return a request as a dictionary, and the model it names; the rest is the backend's to judge. Raises ApiError (400)."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        text = f"We could not parse the JSON body of your request (line {error.lineno}, column {error.colno})."
        raise ApiError(Kind.INVALID_JSON, text) from None
    if not isinstance(body, dict):
        raise ApiError(Kind.INVALID_JSON, "The body of your request must be a JSON object.")
    name = body.get("model")
    if name is None:
        raise ApiError(Kind.MODEL_REQUIRED, "You must provide a model parameter.", param="model")
    if not isinstance(name, str) or not name:
        raise ApiError(Kind.MODEL_REQUIRED, "The model parameter must be a string that names a model.", param="model")
    return body, name


def encoded(body: Mapping[str, Any]) -> bytes:
    """Return a request as it is sent on. Raises ApiError (400) for what can be read, but not written: 255 levels and more."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise ApiError(Kind.INVALID_JSON, "The JSON body of your request is nested deeper than 254 levels.") from None


class WhileCallerWaits:
    """`async with`: work that is cancelled when the caller leaves; then CallerGone is raised.

    Set `complete` before the last piece of the answer is sent: afterwards the server reports the end as a disconnect.
    """

    __slots__ = ("_gone", "_receive", "_watch", "_worker", "complete")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False
        self.complete = False

    async def __aenter__(self) -> WhileCallerWaits:
        """Begin to watch."""
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - `async with` runs in a task
        self._worker = worker
        self._watch = asyncio.create_task(self._wait())
        return self

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.complete:
            self._gone = True
            self._worker.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _tb: TracebackType | None) -> None:
        """Stop watching."""
        self._watch.cancel()
        if self._gone and self._worker.uncancel() == 0 and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise CallerGone from error


def _too_large(limit: int) -> ApiError:
    return ApiError(Kind.BODY_TOO_LARGE, f"The request's body is larger than {limit} bytes.")
