"""Connections to backends: one pool per host, every address checked where it is connected to, no redirects, no proxies.

A policy by name cannot see what a name resolves to, and a name may resolve anew at any time: so the check sits in the one
place that every new connection passes, with the address it goes to. Called by `calls`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from ipaddress import ip_address
from typing import Any, Final

import aiohttp
from yarl import URL

from aigateway_config.addresses import Networks, refusal
from aigateway_gateway.openai_errors import ApiError, Kind

_DNS_CACHE_SECONDS: Final = 10
_POOL_IDLE_SECONDS: Final = 30.0
_STALE_SECONDS: Final = 0.25
"""A connection of the pool that was closed already says so within a round trip. Later, the backend may have worked on it."""


class _Attempt:
    """One request. `connected`: it opened a connection of its own, or tried to; otherwise it has one of the pool."""

    __slots__ = ("connected",)

    def __init__(self) -> None:
        self.connected = False


_attempt: ContextVar[_Attempt | None] = ContextVar("attempt", default=None)
"""The request that runs in this task. A task of aiohttp's that connects for it has a copy of the same object."""


class ForbiddenAddress(OSError):
    """The address a name resolved to is not one the gateway may talk to."""


class Upstream:
    """The HTTP client of one worker. Made inside its event loop; `close` ends every connection."""

    def __init__(self, allowed: Networks, connect_timeout_seconds: float, tls: ssl.SSLContext) -> None:
        """`tls`: which certificates of backends are believed."""
        self._allowed = allowed
        connector = aiohttp.TCPConnector(
            limit=0,  # gates limit, per backend; a limit of the pool would let one backend starve the others
            limit_per_host=0,
            keepalive_timeout=_POOL_IDLE_SECONDS,
            ttl_dns_cache=_DNS_CACHE_SECONDS,
            socket_factory=self._open_socket,
            ssl=tls,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout_seconds, sock_connect=connect_timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    async def close(self) -> None:
        """End every connection."""
        await self._session.close()

    @asynccontextmanager
    async def post(self, url: URL, headers: Mapping[str, str], body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; yields the answer once its head is there. Raises ApiError (502 or 504).

        A connection of the pool that the backend closed at the same moment is replaced once, when that shows at once. A
        request that the backend may have worked on is never sent twice: it costs tokens.
        """
        try:
            response = await self._send(url, headers, body)
        except TimeoutError as error:
            # aiohttp's own, about connecting: the deadline of the whole request is still a cancellation here.
            raise ApiError(Kind.UPSTREAM_TIMEOUT, "The backend could not be connected to in time.") from error
        except aiohttp.ClientError as error:
            raise as_api_error(error) from error
        async with response:
            yield response

    async def _send(self, url: URL, headers: Mapping[str, str], body: bytes) -> aiohttp.ClientResponse:
        attempt = _Attempt()
        _attempt.set(attempt)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await self._session.post(url, headers=headers, data=body, allow_redirects=False)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            stale = not attempt.connected and loop.time() - began < _STALE_SECONDS
            if not stale or isinstance(error, aiohttp.ClientConnectorError):
                raise
        return await self._session.post(url, headers=headers, data=body, allow_redirects=False)

    def _open_socket(self, address: tuple[Any, ...]) -> socket.socket:
        """Return a socket for an address that may be connected to. Raises ForbiddenAddress."""
        family, kind, protocol, _, destination = address
        reason = refusal(ip_address(str(destination[0]).partition("%")[0]), self._allowed)
        if reason is not None:
            raise ForbiddenAddress(errno.EACCES, f"the address is {reason}")
        attempt = _attempt.get()
        if attempt is not None:
            attempt.connected = True
        return socket.socket(family, kind, protocol)


def as_api_error(error: Exception) -> ApiError:
    """Return what a caller is told of an error of aiohttp. Addresses and names of hosts stay in the log."""
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ForbiddenAddress):
            return ApiError(Kind.UPSTREAM_FORBIDDEN, "The backend's address is one that the gateway may not connect to.")
        return ApiError(Kind.UPSTREAM_UNREACHABLE, f"The backend cannot be reached ({type(error).__name__}).")
    if isinstance(error, aiohttp.ClientConnectionError):
        return ApiError(Kind.UPSTREAM_DISCONNECTED, "The backend closed the connection before its answer was complete.")
    if isinstance(error, aiohttp.ClientPayloadError):
        return ApiError(Kind.UPSTREAM_DISCONNECTED, "The backend's answer ended before it was complete.")
    return ApiError(Kind.UPSTREAM_INVALID, "The backend's answer is not valid HTTP.")


async def read_bounded(response: aiohttp.ClientResponse, limit: int, deadline: asyncio.Timeout, idle_seconds: float) -> bytes:
    """Return the whole body of an answer. Raises ApiError when it is longer than `limit` bytes.

    `deadline` is moved on with every piece, so that a long answer may take its time and a silent one may not.
    """
    if (response.content_length or 0) > limit:
        raise _too_large(limit)
    loop = asyncio.get_running_loop()
    pieces: list[bytes] = []
    size = 0
    while piece := await response.content.readany():
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        pieces.append(piece)
        deadline.reschedule(loop.time() + idle_seconds)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(limit: int) -> ApiError:
    return ApiError(Kind.UPSTREAM_TOO_LARGE, f"The backend's answer is larger than {limit} bytes.")
