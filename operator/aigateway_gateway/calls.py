"""`/v1/chat/completions` and `/v1/embeddings`: one caller's request to the live backend of its model, and the answer back.

The hot path: raw ASGI inside the FastAPI application, no pydantic, no request or response objects. It reads from top to
bottom: who calls, what is asked, where to, the answer. Nothing a request holds is logged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

import aiohttp
from starlette.types import Receive, Scope, Send

from aigateway_gateway.access import CLIENT_GONE, Access
from aigateway_gateway.debugging import BackendSaid
from aigateway_gateway.incoming import CallerGone, WhileCallerWaits, encoded, parse_body, read_body
from aigateway_gateway.openai_errors import ApiError, Headers, Kind, backend_error, not_configured
from aigateway_gateway.relay import STREAM_HEADERS, check_json, is_stream, passed_on, relay_events
from aigateway_gateway.serving import Target
from aigateway_gateway.state import Gateway
from aigateway_gateway.trace import send_bytes
from aigateway_gateway.upstream import as_api_error, read_bounded

_JSON: Final = (b"content-type", b"application/json")
_LARGEST_ERROR_BYTES: Final = 65_536
_SHOWN_BYTES: Final = 500
_NOT_THE_CALLERS: Final[Mapping[int, tuple[Kind, str]]] = {
    401: (Kind.UPSTREAM_REFUSED_KEY, "The backend refused the gateway's key (401)."),
    403: (Kind.UPSTREAM_REFUSED_KEY, "The backend refused the gateway's key (403)."),
    404: (Kind.UPSTREAM_NOT_FOUND, "The backend does not know its model or this endpoint (404)."),
    407: (Kind.UPSTREAM_INVALID, "The backend asks for a proxy's credentials (407)."),
}
"""Answers of a backend that say something about the gateway's configuration, which callers neither caused nor can mend."""


class ModelCall:
    """One endpoint. An instance is an ASGI application."""

    def __init__(self, gateway: Gateway, endpoint: Literal["chat", "embeddings"]) -> None:
        self._gateway = gateway
        self._endpoint: Literal["chat", "embeddings"] = endpoint
        self._settings = gateway.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        access = Access(self._endpoint, scope["trace_id"])
        began = time.perf_counter()
        answer = _Answer(send, access, began, closing=self._gateway.draining)
        try:
            with self._gateway.one_more():
                await self._run(scope, receive, answer)
        except ApiError as error:
            error.debug = self._gateway.explain(error, answer.where)
            await answer.refuse(error)
        except CallerGone:
            access.status = CLIENT_GONE
        except Exception:
            access.status, access.error_code = 500, Kind.INTERNAL.value.code
            raise
        finally:
            access.duration_ms = (time.perf_counter() - began) * 1000
            self._gateway.access.record(access)

    async def _run(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        serving = self._gateway.serving
        if serving is None:
            raise not_configured()
        headers, settings = scope["headers"], self._settings
        presented = serving.authenticate(headers)
        raw = await read_body(headers, receive, settings.max_request_bytes, settings.body_timeout_seconds)
        body, name = parse_body(raw)
        target = serving.target(name, presented)
        answer.access.model, answer.access.backend = name, target.backend.name
        answer.access.key_name = target.model.proxy_key_ref
        answer.target = target
        async with WhileCallerWaits(receive) as waiting:
            answer.waiting = waiting
            async with target.gate:
                await self._forward(target, encoded(merge(body, target)), answer)

    async def _forward(self, target: Target, body: bytes, answer: _Answer) -> None:
        url = target.chat if self._endpoint == "chat" else target.embeddings
        settings = self._settings
        headers = {**target.headers, "X-Trace-ID": answer.access.trace_id}
        try:
            async with asyncio.timeout(settings.first_byte_timeout_seconds) as deadline:
                async with self._gateway.upstream.post(url, headers, body) as response:
                    answer.head_arrived()
                    deadline.reschedule(asyncio.get_running_loop().time() + settings.idle_timeout_seconds)
                    if 200 <= response.status < 300 and is_stream(response):
                        await self._stream(response, answer, deadline)
                    else:
                        await self._whole(response, answer, deadline, target)
        except TimeoutError:
            raise ApiError(Kind.UPSTREAM_TIMEOUT, "The backend did not answer in time.") from None

    async def _stream(self, response: aiohttp.ClientResponse, answer: _Answer, deadline: asyncio.Timeout) -> None:
        answer.access.stream = True
        await answer.begin([*STREAM_HEADERS, *passed_on(response)])
        rest = await relay_events(response, answer.send, deadline, self._settings.idle_timeout_seconds, answer.access)
        await answer.end(rest)

    async def _whole(
        self, response: aiohttp.ClientResponse, answer: _Answer, deadline: asyncio.Timeout, target: Target
    ) -> None:
        good = 200 <= response.status < 300
        if not good and not 400 <= response.status < 600:
            kind = Kind.UPSTREAM_REDIRECT if 300 <= response.status < 400 else Kind.UPSTREAM_INVALID
            raise ApiError(kind, f"The backend answered {response.status}, which is neither an answer nor an error.")
        if response.status in _NOT_THE_CALLERS:
            raise ApiError(*_NOT_THE_CALLERS[response.status]) from await self._said(response)
        limit = self._settings.max_response_bytes if good else _LARGEST_ERROR_BYTES
        try:
            body = await read_bounded(response, limit, deadline, self._settings.idle_timeout_seconds)
        except aiohttp.ClientError as error:
            raise as_api_error(error) from error
        if good:
            check_json(body)
            answer.access.count_tokens(body[-4096:])
        else:
            body = backend_error(response.status, body, target.secrets)
            answer.access.error_code = "upstream_error"
        await answer.whole(response.status, [_JSON, *passed_on(response)], body)

    async def _said(self, response: aiohttp.ClientResponse) -> BackendSaid | None:
        """Return the words of a backend whose answer is not passed on; None unless `app.debug` asks for them."""
        if not self._gateway.debug:
            return None
        try:
            return BackendSaid((await response.content.read(_SHOWN_BYTES)).decode(errors="replace"))
        except aiohttp.ClientError as error:
            return BackendSaid(type(error).__name__)


def merge(body: dict[str, Any], target: Target) -> dict[str, Any]:
    """Return the request as the backend gets it: `parameters` where the caller says nothing, and the backend's model."""
    merged = {**target.parameters, **body} if target.parameters else body
    merged["model"] = target.backend.model
    return merged


class _Answer:
    """The answer to one request: what of it is out already decides how an error is told."""

    __slots__ = ("_began", "_closing", "_started", "access", "send", "target", "waiting")

    def __init__(self, send: Send, access: Access, began: float, *, closing: bool) -> None:
        self.send, self.access, self._began, self._closing = send, access, began, closing
        self.waiting: WhileCallerWaits | None = None
        self.target: Target | None = None
        self._started = False

    @property
    def where(self) -> str:
        """Name and URL of the backend that was asked, "" before it is known."""
        backend = None if self.target is None else self.target.backend
        return "" if backend is None else f"{backend.name} at {backend.base_url}"

    def head_arrived(self) -> None:
        self.access.first_byte_ms = (time.perf_counter() - self._began) * 1000

    async def begin(self, headers: Headers) -> None:
        self._started, self.access.status = True, 200
        await self.send({"type": "http.response.start", "status": 200, "headers": self._with_closing(headers)})

    async def end(self, rest: bytes) -> None:
        self._complete()
        await self.send({"type": "http.response.body", "body": rest})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        self.access.status = status
        self._complete()
        await send_bytes(self.send, status, self._with_closing(headers), body)

    async def refuse(self, error: ApiError) -> None:
        self.access.status, self.access.error_code = error.shape.status, error.shape.code
        if self._started:
            await self.send({"type": "http.response.body", "body": error.event})
        else:
            await send_bytes(self.send, error.shape.status, self._with_closing(error.headers), error.body)

    def _complete(self) -> None:
        if self.waiting is not None:
            self.waiting.complete = True

    def _with_closing(self, headers: Headers) -> Headers:
        """While the gateway stops, callers are asked to open their next connection elsewhere."""
        return [*headers, (b"connection", b"close")] if self._closing else headers
