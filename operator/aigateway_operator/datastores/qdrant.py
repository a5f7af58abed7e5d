"""Qdrant by HTTP: `/readyz`, then the collection with the API key, since health paths ask for no key.

Qdrant's own client costs 79 MB and 1.5 s to import (docs/measured.md#what-imports-cost). One session a target,
closed with it; its connections go to addresses that were checked. Called by `checking`.
Source: Qdrant's REST reference ("Readiness", "Collection details").
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from aigateway_operator.datastores.connecting import IPV4, Connector, Stage, not_connected, tls_failed
from aigateway_operator.datastores.probe import (
    Denied,
    Failed,
    NotReady,
    closed,
    credential_field,
    credentials_refused,
    credentials_required,
    place,
    protocol_error,
)
from aigateway_operator.plan.health import HealthReason, StoreTarget
from aigateway_operator.rules.ranges import Address

MAX_BODY_BYTES: Final = 64 * 1024
KEEP_SECONDS: Final = 60.0
"""The key is sent with each request, so a connection that is kept hides nothing; aiohttp opens another if it has gone stale."""
_HEADER_VALUE: Final = re.compile(rb"[\x21-\x7e\x80-\xff]([\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
_OK: Final = 200
_NOT_FOUND: Final = 404
_UNAVAILABLE: Final = 503
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_REFUSED: Final = frozenset({401, 403})


class _Checked(AbstractResolver):
    """Answers with the addresses that were checked in this very round and with no others."""

    def __init__(self) -> None:
        self.addresses: list[Address] = []

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:  # noqa: ARG002 - aiohttp names it
        """Return the checked addresses, whatever `family` is asked for."""
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == IPV4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class QdrantProbe:
    """Checks one Qdrant and the collection that the gateway uses."""

    target: StoreTarget
    connector: Connector
    stage: Stage
    _resolver: _Checked = field(default_factory=_Checked)
    _session: aiohttp.ClientSession | None = None

    async def __call__(self) -> None:
        """Return if Qdrant is ready and has the collection. Raises Failed."""
        if self.target.password is not None and not _HEADER_VALUE.fullmatch(self.target.password):
            text = f"The API key in the Secret that {credential_field(self.target)} names holds a line break."
            raise Failed(Denied(HealthReason.AUTHENTICATION_FAILED, f"{text} Store it without them."))
        addresses = await self.connector.addresses(self.target, self.stage)
        if addresses != self._resolver.addresses:
            await self.close()  # what is kept leads to where the name led before
            self._resolver.addresses = addresses
        tls = await self.connector.tls(self.target)
        try:
            await self._check(self._open(), tls or True)
        except aiohttp.ClientError as error:
            raise self._failed(error) from None
        except (ConnectionError, asyncio.IncompleteReadError):
            raise closed(self.target) from None

    async def close(self) -> None:
        """Close the session; another check opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _check(self, session: aiohttp.ClientSession, tls: ssl.SSLContext | bool) -> None:
        status, _ = await self._get(session, tls, "/readyz")
        if status == _UNAVAILABLE:
            text = f"{place(self.target)} is starting or recovering shards. Wait; if it stays, look at its log."
            raise Failed(NotReady(HealthReason.LOADING, text))
        self._judge(status)
        collection = self.target.collection
        status, body = await self._get(session, tls, f"/collections/{quote(collection, safe='')}")
        if status == _NOT_FOUND and _is_answer(body):
            text = (
                f"{place(self.target)} has no collection '{collection}'. Create it, or correct spec.storage.qdrant.collection."
            )
            raise Failed(NotReady(HealthReason.COLLECTION_MISSING, text))
        self._judge(status)
        if status != _OK or not _is_answer(body):
            raise self._not_qdrant()

    def _judge(self, status: int) -> None:
        """Raise Failed for what any path may answer."""
        if status in _REFUSED:
            raise credentials_required(self.target) if self.target.password is None else credentials_refused(self.target)
        if status == _TOO_MANY or status >= _SERVER_ERROR:
            reason = HealthReason.SERVER_ERROR if status >= _SERVER_ERROR else HealthReason.OVERLOADED
            raise Failed(NotReady(reason, f"{place(self.target)} answers with HTTP {status}. Look at its log."))
        if status not in (_OK, _NOT_FOUND):
            raise self._not_qdrant()

    async def _get(self, session: aiohttp.ClientSession, tls: ssl.SSLContext | bool, path: str) -> tuple[int, bytes]:
        host = f"[{self.target.host}]" if ":" in self.target.host else self.target.host
        scheme = "https" if self.target.tls else "http"
        url = URL(f"{scheme}://{host}:{self.target.port}{path}", encoded=True)
        headers = {} if self.target.password is None else {"api-key": self.target.password.decode("latin-1")}
        async with session.get(url, headers=headers, ssl=tls, allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise self._not_qdrant()
            return response.status, bytes(body)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            tracing = aiohttp.TraceConfig()
            tracing.on_connection_create_end.append(self._connected)
            tracing.on_connection_reuseconn.append(self._connected)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False, keepalive_timeout=KEEP_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                trace_configs=[tracing],
                auto_decompress=False,
                headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "aigateway-operator"},
            )
        return self._session

    async def _connected(self, *_: object) -> None:
        """Take note that a connection stands: what is waited for from now on is an answer."""
        self.stage.reason, self.stage.what = HealthReason.TIMEOUT, "answer"

    def _failed(self, error: aiohttp.ClientError) -> Failed:
        """Return the failure that an error of aiohttp stands for."""
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            inner = error.certificate_error
            return tls_failed(self.target, inner if isinstance(inner, ssl.SSLError) else ssl.SSLError(str(inner)))
        if isinstance(error, aiohttp.ClientConnectorError):
            inner = error.os_error
            return tls_failed(self.target, inner) if isinstance(inner, ssl.SSLError) else not_connected(self.target, inner)
        if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError)):
            return closed(self.target)
        if isinstance(error, aiohttp.ClientOSError):
            return not_connected(self.target, error)
        return self._not_qdrant()

    def _not_qdrant(self) -> Failed:
        return protocol_error(self.target, "does not answer as Qdrant does")


def _is_answer(body: bytes) -> bool:
    """Tell whether this is the form of all of Qdrant's answers: an object with `status` and `time`."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(answer, dict) and "status" in answer and "time" in answer
