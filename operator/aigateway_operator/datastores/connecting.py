"""Connections to the very address that was checked: resolve, judge by the address rules, connect, and speak TLS if asked.

A name may resolve to something else a moment later, so what is connected to is an address, never a name; certificates are
checked against the name. Every error becomes an outcome with reason and remedy. Called by the probes of each store.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aigateway_operator.datastores.probe import Down, Failed, closed, place, settings_of
from aigateway_operator.datastores.resolving import NameUnknownError, Resolver
from aigateway_operator.datastores.trust import Trust
from aigateway_operator.plan.health import HealthReason, StoreTarget, Target
from aigateway_operator.rules import RuleContext
from aigateway_operator.rules.addresses import is_forbidden_address
from aigateway_operator.rules.ranges import Address

TLS_CLOSE_SECONDS: Final = 0.5
MAX_ADDRESSES: Final = 4
SECONDS_AN_ADDRESS: Final = 0.5
"""For an address that is not the last one: a second one that answers must still be found within the time limit."""
IPV4: Final = 4
READ_LIMIT_BYTES: Final = 64 * 1024
_NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EACCES, errno.EPERM}
)


@dataclass(frozen=True, slots=True)
class Stream:
    """An open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(slots=True)
class Stage:
    """How far one check has come, so that running out of time can be told apart. `what`: reads after "does not"."""

    reason: HealthReason = HealthReason.TIMEOUT
    what: str = "answer"


@dataclass(slots=True)
class Connector:
    """What all probes connect by. `context`: for the address rules, with the addresses allowed on purpose."""

    context: RuleContext
    resolver: Resolver = field(default_factory=Resolver)
    trust: Trust = field(default_factory=Trust)

    async def addresses(self, target: Target, stage: Stage) -> list[Address]:
        """Return the addresses that may be connected to, at most four. Raises Failed."""
        stage.reason, stage.what = HealthReason.NAME_NOT_RESOLVED, "have its name resolved by DNS"
        try:
            found = await self.resolver.addresses(target.host)
        except NameUnknownError:
            text = f"{place(target)}: DNS has no address for that name. Correct {_host_field(target)}, or create that Service."
            raise Failed(Down(HealthReason.NAME_NOT_RESOLVED, text)) from None
        judged = [(address, is_forbidden_address(address, self.context)) for address in found]
        allowed = [address for address, reason in judged if reason is None]
        if not allowed:
            address, reason = judged[0]
            where = "" if str(address) == target.host else f" leads to {address}, which"
            text = f"{place(target)}{where} is {reason}; nobody connects there. Correct {_host_field(target)}, or its DNS name."
            raise Failed(Down(HealthReason.ADDRESS_FORBIDDEN, text))
        stage.reason, stage.what = HealthReason.TIMEOUT, "accept a connection"
        return allowed[:MAX_ADDRESSES]

    async def tls(self, target: Target) -> ssl.SSLContext | None:
        """Return the context for a target that speaks TLS, None for another. Raises Failed where its CA is none."""
        if not target.tls:
            return None
        ca = target.ca if isinstance(target, StoreTarget) else None
        try:
            return await self.trust.context(ca)
        except (ssl.SSLError, ValueError):
            text = (
                f"{place(target)}: the CA in the Secret that {settings_of(target)}.tls.caSecretRef names is no PEM certificate."
            )
            raise Failed(Down(HealthReason.TLS_FAILED, f"{text} Put one there.")) from None

    @asynccontextmanager
    async def connect(self, target: Target, stage: Stage) -> AsyncIterator[Stream]:
        """Open a connection for as long as the context lasts. Raises Failed; the caller's time limit holds."""
        stream = await self._open(target, stage)
        try:
            stage.reason, stage.what = HealthReason.TIMEOUT, "answer"
            yield stream
        except (ConnectionError, asyncio.IncompleteReadError):
            raise closed(target) from None
        except ssl.SSLError as error:
            raise tls_failed(target, error) from None
        finally:
            stream.writer.close()

    async def _open(self, target: Target, stage: Stage) -> Stream:
        addresses = await self.addresses(target, stage)
        tls = await self.tls(target)
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(SECONDS_AN_ADDRESS):
                    return await self._open_one(target, address, tls, stage)
            except (Failed, TimeoutError):
                continue
        return await self._open_one(target, addresses[-1], tls, stage)

    async def _open_one(self, target: Target, address: Address, tls: ssl.SSLContext | None, stage: Stage) -> Stream:
        """Connect in two steps: a port that accepts and never speaks TLS is told from one that does not accept."""
        family = socket.AF_INET if address.version == IPV4 else socket.AF_INET6
        with ExitStack() as undo:
            sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(sock, (str(address), target.port))
                if tls is None:
                    reader, writer = await asyncio.open_connection(sock=sock, limit=READ_LIMIT_BYTES)
                else:
                    stage.reason, stage.what = HealthReason.TLS_FAILED, "answer in TLS"
                    reader, writer = await asyncio.open_connection(
                        sock=sock,
                        limit=READ_LIMIT_BYTES,
                        ssl=tls,
                        server_hostname=target.host,
                        ssl_shutdown_timeout=TLS_CLOSE_SECONDS,
                    )
            except ssl.SSLError as error:
                raise tls_failed(target, error) from None
            except TimeoutError as error:
                if error.errno is None:
                    raise  # the caller's time limit, not the kernel's
                raise not_connected(target, error) from None
            except OSError as error:
                raise not_connected(target, error) from None
            undo.pop_all()
        return Stream(reader, writer)


def not_connected(target: Target, error: OSError) -> Failed:
    """Return the failure that an error of `connect` stands for."""
    if isinstance(error, ConnectionRefusedError):
        text = f"{place(target)} refuses connections. Check that it runs, and host and port in {settings_of(target)}."
        return Failed(Down(HealthReason.REFUSED, text))
    if isinstance(error, ConnectionError):
        return closed(target)
    if error.errno in _NO_ROUTE:
        text = f"{place(target)} cannot be reached: the network has no way there. Check routes and NetworkPolicies."
        return Failed(Down(HealthReason.NO_ROUTE, text))
    return Failed(
        Down(HealthReason.TIMEOUT, f"{place(target)} does not accept a connection. Check NetworkPolicies and the host.")
    )


def tls_failed(target: Target, error: ssl.SSLError) -> Failed:
    """Return the failure that a TLS error stands for."""
    field_name = f"{settings_of(target)}.tls" if isinstance(target, StoreTarget) else "baseUrl"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = (error.verify_message or "not trusted").rstrip(".")
        text = f"{place(target)} has a certificate that is not accepted: {why}."
        remedy = f"Name its CA in {field_name}.caSecretRef, and its host as the certificate does."
        if not isinstance(target, StoreTarget):
            remedy = "Its certificate must be of a public CA and name the host of baseUrl."
        return Failed(Down(HealthReason.TLS_FAILED, f"{text} {remedy}"))
    reason = (error.reason or "").upper()
    if reason in (
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "PACKET_LENGTH_TOO_LONG",
        "HTTP_REQUEST",
        "UNEXPECTED_EOF_WHILE_READING",
    ):
        text = f"{place(target)} does not speak TLS on that port. Correct the port, or {field_name}."
        return Failed(Down(HealthReason.TLS_FAILED, text))
    text = (
        f"{place(target)} ends the TLS handshake ({reason or type(error).__name__}). Check its TLS settings and {field_name}."
    )
    return Failed(Down(HealthReason.TLS_FAILED, text))


def _host_field(target: Target) -> str:
    return f"{settings_of(target)}.host" if isinstance(target, StoreTarget) else settings_of(target)
