"""The small HTTP server at which a pod says what it runs: one path, one method, nothing else.

Written on asyncio alone, so that the mounted-volume flavour needs no web framework. Strict and bounded, since anyone who
reaches the port may send anything: 8 KiB a request, two seconds for all of it, 32 connections of which the oldest gives way
to the next. Knows nothing of what it answers but the function it is given. Called by `status`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final
from weakref import WeakSet

from aigateway_config.documents import STATUS_PATH, StatusAnswer

MAX_REQUEST_BYTES: Final = 8 * 1024
MAX_CONNECTIONS: Final = 32
REQUEST_SECONDS: Final = 2.0
"""From the first byte awaited to the last one sent."""

_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,2048}) HTTP/1\.[01]")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_BODY_HEADERS: Final = (b"content-length", b"transfer-encoding")

logger = logging.getLogger("aigateway_config")

_listening: WeakSet[socket.socket] = WeakSet()


def _close_in_child() -> None:
    """Keep a forked child from holding the port open after its parent has died."""
    for sock in list(_listening):
        if (number := sock.detach()) >= 0:  # not `close`: an event loop may hold references that put it off
            os.close(number)


os.register_at_fork(after_in_child=_close_in_child)


class Refused(Exception):
    """A request that is answered with an error; the status is the first argument."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


class Listener:
    """Answers `GET STATUS_PATH`. Start and stop it in one event loop.

    answer: gives what to say; awaited within the time limit of the request. host: address to listen on, None: all of
    both families. port 0: any free one.
    """

    def __init__(
        self,
        answer: Callable[[], Awaitable[StatusAnswer]],
        *,
        host: str | None,
        port: int,
        request_seconds: float = REQUEST_SECONDS,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._answer = answer
        self._host = host
        self._port = port
        self._request_seconds = request_seconds
        self._max_connections = max_connections
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self) -> int:
        """Listen and return the port. Raises OSError if the address cannot be had (EADDRINUSE: somebody else has it)."""
        sock = _listening_socket(self._host, self._port)
        try:
            self._server = await asyncio.start_server(self._connected, sock=sock, limit=MAX_REQUEST_BYTES)
        except BaseException:
            sock.close()
            raise
        _listening.add(sock)
        return int(sock.getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and break off what is open; idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task, writer in list(self._open.items()):
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*self._open, return_exceptions=True)
        await server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection. Whoever waits longest gives way, so that slow clients cannot shut out the operator."""
        while len(self._open) >= self._max_connections:
            oldest = next(iter(self._open))
            self._open.pop(oldest).transport.abort()
            oldest.cancel()
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="config status request")
        self._open[task] = writer
        task.add_done_callback(lambda done: self._open.pop(done, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._request_seconds):
                writer.write(await self._respond(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            logger.debug("A client of the config status went away or was too slow")
        finally:
            writer.transport.abort()

    async def _respond(self, reader: asyncio.StreamReader) -> bytes:
        """Return the whole response; a connection that ends before its request gets none."""
        try:
            parse_request(await reader.readuntil(b"\r\n\r\n"))
            body = (await self._answer()).model_dump_json(by_alias=True).encode()
        except asyncio.IncompleteReadError as error:
            return b"" if not error.partial else _response(HTTPStatus.BAD_REQUEST)
        except asyncio.LimitOverrunError:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except Refused as refused:
            return _response(refused.status)
        except Exception:  # the edge of the loop: a fault of ours must not look like silence
            logger.exception("The config status could not be put together")
            return _response(HTTPStatus.INTERNAL_SERVER_ERROR)
        return _response(HTTPStatus.OK, body)


def parse_request(head: bytes) -> None:
    """Check a request up to its empty line. Raises Refused unless it is a GET of STATUS_PATH without a body."""
    line, *headers = head[: -len(b"\r\n\r\n")].split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    if request is None:
        raise Refused(HTTPStatus.BAD_REQUEST)
    for header in headers:
        parsed = _HEADER.fullmatch(header)
        if parsed is None or (parsed[1].lower() in _BODY_HEADERS and parsed[2].strip() != b"0"):
            raise Refused(HTTPStatus.BAD_REQUEST)
    if request[2].partition(b"?")[0] != STATUS_PATH.encode():
        raise Refused(HTTPStatus.NOT_FOUND)
    if request[1] != b"GET":
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED)


def _response(status: HTTPStatus, body: bytes = b"") -> bytes:
    content = body or (f'{{"error":"{status.phrase}"}}'.encode())
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def _listening_socket(host: str | None, port: int) -> socket.socket:
    """Return a listening socket: SO_REUSEADDR for a quick restart, never SO_REUSEPORT, which would let two processes answer."""
    if host is not None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    if socket.has_dualstack_ipv6():
        with suppress(OSError):  # IPv6 compiled in and switched off; a port that is taken is found so once more below
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
