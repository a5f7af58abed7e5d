"""One connection pool to the API server: bytes out, bytes in, the client's credentials, a time-out on everything.

Built on the REST client of the official package (TLS, proxies, session), of which only documented extension points are
used; its request method would serialize with `json` and its models are never touched. A 401 or a certificate that no
longer verifies makes it load the credentials again, once, before the caller hears of it. Used by `kube.client` only.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from kubernetes.aio.client.rest import RESTClientObject
from loguru import logger
from yarl import URL

from aigateway_operator.errors import SettingsError, Unavailable
from aigateway_operator.kube.access import ClusterAccess, authorization
from aigateway_operator.kube.answers import parse_error

RENEWAL_PAUSE_SECONDS: Final = 5.0
"""At least this long between two loads of the credentials: a wrong token must not start an exec plugin for every call."""
CONNECT_SECONDS: Final = 5.0
CLOSING_SECONDS: Final = 0.05
"""TLS connections that are closed need some turns of the loop to end; a loop that ends before leaves sockets open."""
READ_BYTES: Final = 2**16
PIECE_BYTES: Final = 2**14
"""What a connection is given to send at once: a record of TLS. OpenSSL keeps room for the most that ever waited to be sent, for
as long as the connection lasts, and documents come by all of them in turn."""

Query = Mapping[str, str]


class _Rest(RESTClientObject):
    """The official REST client with its session open from the start."""

    def open(self) -> aiohttp.ClientSession:
        """Return the session, made on first use inside the running loop."""
        if self.pool_manager is None:
            self.pool_manager = self._create_pool_manager()
        return self.pool_manager


class _Body(aiohttp.BytesPayload):
    """A body that is sent piece by piece; like any bytes it can be sent again."""

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write it, no more than `content_length` bytes where that is not None."""
        whole = self._value[:content_length]
        for start in range(0, len(whole), PIECE_BYTES):
            await writer.write(whole[start : start + PIECE_BYTES])


class Transport:
    """Sends requests. Open it with `async with`."""

    def __init__(self, access: ClusterAccess, user_agent: str) -> None:
        self._access = access
        # Compression would cost both sides CPU to spare a network that is local.
        self._headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
        self._configuration: Any = None
        self._rest: _Rest | None = None
        self._renewing = asyncio.Lock()
        self._renewed_at = float("-inf")

    async def __aenter__(self) -> Transport:
        self._configuration = await self._access.load()
        self._rest = self._make_rest(self._configuration)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._rest is not None:
            await self._rest.close()
            self._rest = None
            await asyncio.sleep(CLOSING_SECONDS)

    @property
    def server(self) -> str:
        """Address of the API server."""
        return str(self._configuration.host)

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float,
    ) -> bytes:
        """Return the body of the answer. Raises errors.ClusterError; nothing later than `timeout_seconds`."""
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=min(timeout_seconds, CONNECT_SECONDS))
        async with self.stream(method, path, query=query, body=body, headers=headers, timeout=timeout) as response:
            try:
                return await response.read()
            except (aiohttp.ClientError, OSError) as error:
                raise _unreachable(f"{method} {path}", error) from error

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp enforces it
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield an answer below 300 whose body is not read yet. Raises errors.ClusterError."""
        what = f"{method} {path}"
        response = await self._request(what, method, path, query, body, headers, timeout)
        try:
            if response.status >= 300:
                try:
                    text = await response.read()
                except (aiohttp.ClientError, OSError) as error:
                    raise _unreachable(what, error) from error
                raise parse_error(what, response.status, response.headers, text)
            yield response
        finally:
            response.release()

    async def _request(
        self,
        what: str,
        method: str,
        path: str,
        query: Query | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp enforces it
    ) -> aiohttp.ClientResponse:
        """Send once, and once more if new credentials may help: an answer of 401 means that nothing was done."""
        for attempt in (1, 2):
            token = await authorization(self._configuration)
            rest = self._rest  # nothing is awaited from here to the request: a renewal closes the session before
            if rest is None:
                raise Unavailable(f"{what} was not sent: the client is closed")
            sent = {**self._headers, **(headers or {})} | ({"Authorization": token} if token else {})
            url = URL(self.server + path + (f"?{urlencode(query)}" if query else ""), encoded=True)
            data = None if body is None else _Body(body)
            extra = {"proxy": rest.proxy, "proxy_headers": rest.proxy_headers}
            if self._configuration.tls_server_name:
                extra["server_hostname"] = self._configuration.tls_server_name
            try:
                response = await rest.open().request(
                    method, url, data=data, headers=sent, timeout=timeout, allow_redirects=False, **extra
                )
            except (aiohttp.ClientError, OSError) as error:
                stale = isinstance(error, aiohttp.ClientConnectorCertificateError) and attempt == 1
                if stale and await self._renew(token, certificates=True):
                    continue
                raise _unreachable(what, error) from error
            if response.status != 401 or attempt == 2 or not await self._renew(token, certificates=False):
                return response
            response.release()
        raise AssertionError("both attempts return or raise")

    async def _renew(self, stale: str | None, *, certificates: bool) -> bool:
        """Load the credentials again; return whether there is anything new to try."""
        async with self._renewing:
            if not certificates and await authorization(self._configuration) != stale:
                return True
            now = time.monotonic()
            if now - self._renewed_at < RENEWAL_PAUSE_SECONDS:
                return False
            self._renewed_at = now
            try:
                configuration = await self._access.load()
            except SettingsError as error:
                logger.warning("Credentials could not be loaded again: {}", error)
                return False
            same = await authorization(configuration) == stale and configuration.cert_file == self._configuration.cert_file
            if same and not certificates:
                return False
            old, self._rest = self._rest, self._make_rest(configuration)
            self._configuration = configuration
            if old is not None:
                await old.close()
            return True

    @staticmethod
    def _make_rest(configuration: Any) -> _Rest:
        try:
            return _Rest(configuration)
        except OSError as error:
            raise SettingsError(f"certificates for {configuration.host} cannot be used: {error}") from error


def _unreachable(what: str, error: BaseException) -> Unavailable:
    """Return the error for an answer that did not come or broke off, in words that are not the library's where it has ours."""
    if isinstance(error, TimeoutError):
        return Unavailable(f"{what} was not answered in time")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        return Unavailable(f"{what} failed: the certificate of {error.host}:{error.port} is not trusted: {why}")
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        number = error.os_error.errno or 0
        why = os.strerror(number) if number > 0 else error.os_error.strerror or error.os_error
        return Unavailable(f"{what} failed: cannot connect to {error.host}:{error.port}: {why}")
    return Unavailable(f"{what} failed: {type(error).__name__} {error}".rstrip())
