"""Connections to Redis for the mirror: both its writer in the operator and its reader in pods.

No retries of the driver's own (docs/measured.md#time-outs-and-retries-of-drivers), a limit on every wait, RESP2 so that any
server since Redis 5 will do. `redis` is imported when a connection is made: pods without the mirror need not have it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from aigateway_config.mirror import RedisEndpoint
from aigateway_config.resolving import AddressRefused
from aigateway_config.tls import client_context

if TYPE_CHECKING:
    from redis.asyncio import Redis

CONNECT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
"""For one answer, which may be a document of 1 MiB."""


class NotACertificate(ValueError):
    """The CA of the endpoint is no certificate."""


@asynccontextmanager
async def redis_client(endpoint: RedisEndpoint, *, address: str | None = None) -> AsyncIterator[Redis]:
    """Open a client; it connects with its first command, and every connection it made is closed at the end.

    `address`: connect to this address, which the caller has resolved and checked; the certificate must still be for
    `endpoint.host`. Raises NotACertificate for an unusable `endpoint.ca`.
    """
    from redis.asyncio import Redis
    from redis.asyncio.connection import Connection, ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    context = _tls_context(endpoint)
    made: list[Connection] = []

    class OwnConnection(Connection):
        """TLS, if any, to the checked address with the certificate checked for the name; noted, so that it can be closed."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.append(self)

        def _connection_arguments(self) -> dict[str, Any]:
            tls = {} if context is None else {"ssl": context, "server_hostname": endpoint.host}
            return {**super()._connection_arguments(), **tls}

    pool = ConnectionPool(
        connection_class=OwnConnection,
        host=address or endpoint.host,
        port=endpoint.port,
        password=endpoint.password,
        protocol=2,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        max_connections=4,
    )
    try:
        yield Redis.from_pool(pool)
    finally:
        # Not by the pool: it loses sight of a connection that is being given back while the task is cancelled.
        for connection in made:
            with suppress(Exception):
                await connection.disconnect(nowait=True)
        await asyncio.sleep(0)  # transports close in the next turn of the loop, which may be the last one


def _tls_context(endpoint: RedisEndpoint) -> ssl.SSLContext | None:
    """Return the TLS settings, None for none. With a CA of its own the system's CAs are not trusted."""
    if not endpoint.tls:
        return None
    try:
        return client_context(ca=endpoint.ca)
    except (ssl.SSLError, ValueError):
        raise NotACertificate("the CA is no certificate in PEM form") from None


def raise_if_cancelled() -> None:
    """Raise CancelledError if this task was cancelled and the driver did not pass that on; call it before every long wait.

    It sends by `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes as the send completes (1 of 40
    here); a task that is to end would then run for ever, and whoever waits for its end as well.
    Source: https://github.com/python/cpython/issues/86296
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def reason_of(error: BaseException) -> str:
    """Say in words why Redis cannot be used; reads after "Redis at host:port". Never repeats what the server sent."""
    from redis import exceptions

    if isinstance(error, AddressRefused):
        return str(error)
    if isinstance(error, NotACertificate):
        return "cannot be reached: what spec.storage.redis.tls.caSecretRef names is no certificate in PEM form"
    if _caused_by(error, ssl.SSLCertVerificationError):
        return "presents a certificate that is not trusted; check spec.storage.redis.tls.caSecretRef"
    if _caused_by(error, ssl.SSLError):
        return "does not speak TLS as agreed; check spec.storage.redis.tls"
    for kind, text in (
        (exceptions.AuthenticationError, _denied(error)),
        (exceptions.NoPermissionError, "does not permit the commands that the mirror needs"),
        (exceptions.BusyLoadingError, "is loading its data"),
        (exceptions.ReadOnlyError, "is a read-only replica; name the primary in spec.storage.redis.host"),
        (exceptions.OutOfMemoryError, "is out of memory"),
        ((exceptions.TimeoutError, TimeoutError), "does not answer"),
        ((exceptions.ResponseError, exceptions.InvalidResponse), "answers with an error"),
    ):
        if isinstance(error, kind):
            return text
    return "cannot be reached"


def _denied(error: BaseException) -> str:
    text = "asks for a password" if getattr(error, "status_code", None) == "NOAUTH" else "refuses the password"
    return f"{text}; check spec.storage.redis.passwordSecretRef"


def _caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind) or any(isinstance(argument, kind) for argument in seen.args):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
