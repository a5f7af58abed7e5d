"""A small HTTP proxy in front of the API server that misbehaves on demand and counts requests.

    with ApiProxy.start(plane) as proxy:                  # point clients to proxy.url; tokens pass through as they are
        fault = proxy.fail("GET", "virtualmodels", status=503, watch=False)      # every LIST is answered 503 …
        fault.lift()                                      # … until now; or seconds=20, or times=3
        proxy.fail("GET", "secrets", status=410, watch=True, times=1)            # a watch gets an ERROR event, as for real
        proxy.delay("PUT", "leases", seconds=3)
        proxy.wait_watched("secrets")                     # a watch is open, or AssertionError
        proxy.cut_watches("secrets")                      # open watches end in the middle of their stream
        proxy.send_watch_error("virtualmodels", code=500) # open watches get an ERROR event, then end
        proxy.count("PATCH", "virtualmodels/status")      # how many have come in so far

Resources are plurals, with their subresource where there is one; None stands for any. It runs in a thread of its own, so
tests may be plain or async. A deletion behind a 410: let watches fail with 503 and cut them, delete, let the next watch
fail once with 410, lift the 503.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs

import aiohttp
from aiohttp import web
from yarl import URL

from aigateway_config.api_objects import cut_frames
from hack.controlplane import ControlPlane
from tests.eventually import eventually
from tests.kube_protobuf import CONTENT_TYPE, status, watch_event

T = TypeVar("T")
_HOP_BY_HOP = {"connection", "content-length", "host", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True)
class Proxied:
    """One request that came in."""

    method: str
    resource: str
    namespace: str | None
    name: str | None
    watch: bool
    query: dict[str, list[str]]
    user_agent: str
    time: float


@dataclass(eq=False)
class Fault:
    """What happens to requests that match, until it is lifted, its time is over or it has happened often enough."""

    method: str | None
    resource: str | None
    watch: bool | None
    status: int | None = None
    delay_seconds: float = 0.0
    retry_after: int | None = None
    until: float | None = None
    times: int | None = None
    hits: int = 0
    lifted: bool = False

    def lift(self) -> None:
        """Let requests through again."""
        self.lifted = True

    def takes(self, request: Proxied) -> bool:
        """Tell whether it applies to this request."""
        over = self.lifted or (self.until is not None and time.monotonic() >= self.until)
        if over or (self.times is not None and self.hits >= self.times):
            return False
        return _matches(self.method, self.resource, self.watch, request)


@dataclass(eq=False)
class _OpenWatch:
    request: Proxied
    task: asyncio.Task[Any]
    asked: web.Request
    error: int | None = None


class ApiProxy:
    """A running proxy. Made by `start`; ended by `stop` or by leaving a `with`."""

    def __init__(self, plane: ControlPlane) -> None:
        self.url = ""
        self._upstream = plane.url
        self._ca_file = plane.ca_file
        self._faults: list[Fault] = []
        self._requests: list[Proxied] = []
        self._watches: set[_OpenWatch] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api proxy", daemon=True)
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def start(cls, plane: ControlPlane) -> Self:
        """Start on a free port."""
        proxy = cls(plane)
        proxy._thread.start()
        proxy._call(proxy._serve())
        return proxy

    def stop(self) -> None:
        """End; open watches are cut."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def fail(
        self,
        method: str | None = None,
        resource: str | None = None,
        *,
        status: int = 503,
        watch: bool | None = None,
        seconds: float | None = None,
        times: int | None = None,
        retry_after: int | None = None,
    ) -> Fault:
        """Answer matching requests with `status`; a watch that fails with 410 gets it as an ERROR event."""
        until = None if seconds is None else time.monotonic() + seconds
        return self._add(Fault(method, resource, watch, status, retry_after=retry_after, until=until, times=times))

    def delay(
        self,
        method: str | None = None,
        resource: str | None = None,
        *,
        seconds: float,
        watch: bool | None = None,
        times: int | None = None,
    ) -> Fault:
        """Keep matching requests waiting before they are passed on."""
        return self._add(Fault(method, resource, watch, delay_seconds=seconds, times=times))

    def cut_watches(self, resource: str | None = None) -> int:
        """End open watches without a word; return how many."""
        return self._call(self._end_watches(resource, None))

    def send_watch_error(self, resource: str | None = None, *, code: int = 410) -> int:
        """Send an ERROR event into open watches and end them; return how many."""
        return self._call(self._end_watches(resource, code))

    def requests(self, method: str | None = None, resource: str | None = None, *, watch: bool | None = None) -> list[Proxied]:
        """Return matching requests that came in, failed ones too."""
        return [request for request in list(self._requests) if _matches(method, resource, watch, request)]

    def count(self, method: str | None = None, resource: str | None = None, *, watch: bool | None = None) -> int:
        """Return how many matching requests came in, failed ones too."""
        return len(self.requests(method, resource, watch=watch))

    def open_watches(self, resource: str | None = None) -> int:
        """Return how many watches are open now."""
        return sum(1 for watch in list(self._watches) if resource in (None, watch.request.resource))

    def wait_watched(self, resource: str, within_seconds: float = 20.0) -> None:
        """Wait until a watch of the resource is open: what is cut before that would end nothing.

        Raises:
            AssertionError: if none is open in time
        """
        eventually(partial(self._watched, resource), within_seconds=within_seconds)

    def _watched(self, resource: str) -> None:
        assert self.open_watches(resource) > 0, f"nobody watches {resource}"

    # In its own thread

    def _add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self) -> None:
        context = ssl.create_default_context(cafile=str(self._ca_file))
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=timeout)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def _close(self) -> None:
        await self._end_watches(None, None)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        await asyncio.sleep(0.1)  # closed connections tell their loop so a turn later

    async def _end_watches(self, resource: str | None, error: int | None) -> int:
        ending = [watch for watch in self._watches if resource in (None, watch.request.resource)]
        for watch in ending:
            watch.error = error
            watch.task.cancel()
        await asyncio.gather(*(asyncio.wait([watch.task]) for watch in ending))
        return len(ending)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        proxied = _parse(request)
        self._requests.append(proxied)
        for fault in [fault for fault in self._faults if fault.takes(proxied)]:
            fault.hits += 1
            await asyncio.sleep(fault.delay_seconds)
            if fault.status == 410 and proxied.watch:
                return web.Response(body=_error_event(410, request), content_type=_media_type(request))
            if fault.status is not None:
                retry_after = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
                body = _status(fault.status)
                return web.Response(status=fault.status, headers=retry_after, body=body, content_type="application/json")
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        url, body = URL(f"{self._upstream}{request.raw_path}", encoded=True), await request.read()
        try:
            async with self._session.request(
                request.method, url, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                return await self._pass_on(request, proxied, answer)
        except aiohttp.ClientConnectionError:
            # As a connection that is refused or breaks off: no answer at all.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)

    async def _pass_on(self, request: web.Request, proxied: Proxied, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        if not proxied.watch or answer.status != 200:
            return web.Response(status=answer.status, headers=headers, body=await answer.read())
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        watch = _OpenWatch(proxied, asyncio.ensure_future(self._stream(answer, response)), request)
        self._watches.add(watch)
        try:
            await asyncio.wait([watch.task])
        finally:
            watch.task.cancel()
            self._watches.discard(watch)
        if watch.task.cancelled():
            with suppress(aiohttp.ClientConnectionError):
                if watch.error is not None:
                    await response.write(_error_event(watch.error, watch.asked))
                await response.write_eof()
        return response

    @staticmethod
    async def _stream(answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        """Pass on whole events, so that an ERROR event can be put after any of them."""
        cut = _whole_frames if answer.content_type == CONTENT_TYPE else _whole_lines
        rest = b""
        async for chunk in answer.content.iter_any():
            whole, rest = cut(rest + chunk)
            if whole:
                await response.write(whole)


def _parse(request: web.Request) -> Proxied:
    parts = request.path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = None
    if len(rest) >= 3 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    query = parse_qs(request.query_string)
    resource = "/".join([rest[0], *rest[2:]]) if rest else ""
    return Proxied(
        method=request.method,
        resource=resource,
        namespace=namespace,
        name=rest[1] if len(rest) > 1 else None,
        watch=query.get("watch", ["false"])[0] in ("true", "1"),
        query=query,
        user_agent=request.headers.get("User-Agent", ""),
        time=time.monotonic(),
    )


def _matches(method: str | None, resource: str | None, watch: bool | None, request: Proxied) -> bool:
    return method in (None, request.method) and resource in (None, request.resource) and watch in (None, request.watch)


def _status(code: int) -> bytes:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "made to fail"}
    return json.dumps(status).encode()


def _media_type(request: web.Request) -> str:
    return CONTENT_TYPE if CONTENT_TYPE in request.headers.get("Accept", "") else "application/json"


def _error_event(code: int, request: web.Request) -> bytes:
    if _media_type(request) == CONTENT_TYPE:
        return watch_event("ERROR", status(code, "made to fail"))
    return b'{"type":"ERROR","object":' + _status(code) + b"}\n"


def _whole_lines(received: bytes) -> tuple[bytes, bytes]:
    whole, newline, rest = received.rpartition(b"\n")
    return whole + newline, rest


def _whole_frames(received: bytes) -> tuple[bytes, bytes]:
    rest = cut_frames(received, 2**30)[1]
    return received[: len(received) - len(rest)], rest
