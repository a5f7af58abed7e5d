"""What is the same for all stores: each way in which a server can be out of reach has its own state, reason and remedy.

Redis and the MongoDB wire server are real; Qdrant is a stand-in (`stand_ins.QdrantStandIn`).
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from aigateway_operator.plan.health import BackendTarget, StoreName
from aigateway_operator.rules import RuleContext
from aigateway_operator.rules.ranges import Address
from hack.process import free_ports
from hack.stores import MongoServer, RedisServer
from tests.datastores.checks import SECRET, check, said, store
from tests.datastores.stand_ins import (
    Authority,
    QdrantStandIn,
    drops_packets,
    forwards_to,
    hangs_up,
    listening,
    says,
    silent,
)
from tests.eventually import eventually_async

STORES: tuple[StoreName, ...] = ("redis", "mongodb", "qdrant")
each_store = pytest.mark.parametrize("name", STORES)


class Servers:
    """The plain port of a running store."""

    def __init__(self, redis: RedisServer, mongo: MongoServer) -> None:
        self._ports = {"redis": redis.port, "mongodb": mongo.port}

    @asynccontextmanager
    async def running(self, name: StoreName) -> AsyncIterator[int]:
        if name in self._ports:
            yield self._ports[name]
            return
        async with QdrantStandIn().running() as port:
            yield port


@pytest.fixture
def servers(redis_server: RedisServer, mongo_server: MongoServer) -> Servers:
    """Whatever store a test asks for."""
    return Servers(redis_server, mongo_server)


@each_store
async def test_up(name: StoreName, servers: Servers) -> None:
    """A store that works is up, by address and by name."""
    async with servers.running(name) as port:
        assert said(await check(store(name, port))) == ("Up", "Answering")
        assert said(await check(store(name, port, host="localhost"))) == ("Up", "Answering")


@each_store
async def test_refusing(name: StoreName) -> None:
    """Nothing listens: told at once, not when time is up."""
    outcome = await check(store(name, free_ports(1)[0]))
    assert said(outcome) == ("Down", "Refused")
    assert outcome.latency_seconds < 0.5
    assert f"spec.storage.{name}" in outcome.message


@each_store
async def test_blackholed_by_a_server_that_never_answers(name: StoreName) -> None:
    """It accepts and says nothing."""
    async with listening(silent) as port:
        outcome = await check(store(name, port, password=SECRET), timeout_seconds=0.4)
    assert said(outcome) == ("Down", "Timeout")
    assert "does not answer within 0.4 s" in outcome.message


@each_store
async def test_blackholed_by_dropped_packets(name: StoreName) -> None:
    """No packet comes back at all."""
    async with drops_packets() as port:
        outcome = await check(store(name, port), timeout_seconds=0.4)
    assert said(outcome) == ("Down", "Timeout")
    assert "does not accept a connection within 0.4 s" in outcome.message


@each_store
async def test_slow_by_five_seconds(name: StoreName, servers: Servers) -> None:
    """A store that answers after five seconds is down for whoever waits two."""
    async with servers.running(name) as port, listening(forwards_to(port, delay_seconds=5.0)) as slow:
        assert said(await check(store(name, slow), timeout_seconds=2.0)) == ("Down", "Timeout")


@each_store
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n" * 4,
        b"220 mail.example.com ESMTP\r\n" * 4,
        b"\x00\x00\x00\x00" * 16,
        b"\xff" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000,
    ],
    ids=["http", "ssh", "smtp", "zeros", "ones", "much"],
)
async def test_something_else_on_that_port(name: StoreName, answer: bytes) -> None:
    """It answers, but not as the store does: the message says so, at once."""
    async with listening(says(answer)) as port:
        outcome = await check(store(name, port, password=SECRET), timeout_seconds=1.0)
    assert said(outcome) == ("Down", "ProtocolError")
    assert "something else listens there" in outcome.message


@each_store
async def test_a_server_that_hangs_up(name: StoreName) -> None:
    """As a proxy without anything behind it does."""
    async with listening(hangs_up) as port:
        assert said(await check(store(name, port))) == ("Down", "ConnectionClosed")


@each_store
async def test_one_store_in_the_place_of_another(name: StoreName, servers: Servers) -> None:
    """Whatever answers, or does not, it is down, and within its time."""
    for other in STORES:
        if other != name:
            async with servers.running(other) as port:
                assert (await check(store(name, port), timeout_seconds=0.5)).state == "Down"


@each_store
async def test_dns_name_gone(name: StoreName) -> None:
    """A Service that was deleted has no address any more."""

    def lookup(host: str) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    for outcome in (
        await check(store(name, 6379, host="store.ai.svc"), lookup=lookup),
        await check(store(name, 6379, host="store.invalid")),
    ):
        assert said(outcome) == ("Down", "NameNotResolved")
        assert f"spec.storage.{name}.host" in outcome.message


@each_store
async def test_dns_that_does_not_answer(name: StoreName) -> None:
    """It is told from a store that does not answer."""
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def lookup(host: str) -> list[Address]:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
        return []

    try:
        outcome = await check(store(name, 6379, host="store.ai.svc"), lookup=lookup, timeout_seconds=0.3)
    finally:
        release.set()
    assert said(outcome) == ("Down", "NameNotResolved")
    assert "DNS" in outcome.message


@each_store
async def test_a_name_that_leads_to_a_forbidden_address_is_not_connected_to(name: StoreName, servers: Servers) -> None:
    """The rules judge what a name resolves to, at each check: metadata services and the operator's own pod are out of reach."""
    async with servers.running(name) as port:
        for address in ("127.0.0.1", "169.254.169.254"):

            def lookup(host: str, address: str = address) -> list[Address]:
                return [ip_address(address)]

            outcome = await check(store(name, port, host="store.ai.svc"), context=RuleContext(""), lookup=lookup)
            assert said(outcome) == ("Down", "AddressForbidden")
            assert address in outcome.message
        assert said(await check(store(name, port), context=RuleContext(""))) == ("Down", "AddressForbidden")


@each_store
async def test_a_second_address_is_tried_when_the_first_does_not_answer(name: StoreName, servers: Servers) -> None:
    """As clients do; a forbidden one among them is passed over."""

    def lookup(host: str) -> list[Address]:
        return [ip_address(text) for text in ("127.0.0.99", "169.254.169.254", "127.0.0.1")]

    async with servers.running(name) as port:
        assert said(await check(store(name, port, host="store.ai.svc"), lookup=lookup)) == ("Up", "Answering")


@each_store
async def test_tls_with_the_right_and_the_wrong_ca(name: StoreName, servers: Servers, tmp_path: Path) -> None:
    """The CA from the Secret decides; the system's CAs do not know it; a certificate for another host is refused."""
    right, wrong = Authority.make(tmp_path / "right"), Authority.make(tmp_path / "wrong")
    other_host = Authority.make(tmp_path / "other", address="10.9.9.9")
    async with servers.running(name) as plain, listening(forwards_to(plain), right.server) as port:
        assert said(await check(store(name, port, tls=True, ca=right.ca))) == ("Up", "Answering")
        for ca in (wrong.ca, None):
            outcome = await check(store(name, port, tls=True, ca=ca))
            assert said(outcome) == ("Down", "TlsFailed")
            assert f"spec.storage.{name}.tls.caSecretRef" in outcome.message
        outcome = await check(store(name, port, tls=True, ca=b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----"))
        assert said(outcome) == ("Down", "TlsFailed")
        assert "no PEM certificate" in outcome.message
        plain_text = await check(store(name, port), timeout_seconds=1.0)
        assert plain_text.state == "Down", "without TLS nobody gets in"
    async with servers.running(name) as plain, listening(forwards_to(plain), other_host.server) as port:
        assert said(await check(store(name, port, tls=True, ca=other_host.ca))) == ("Down", "TlsFailed")


@each_store
async def test_a_certificate_is_held_against_the_name_although_the_address_is_connected_to(
    name: StoreName, servers: Servers, tmp_path: Path
) -> None:
    """Its certificate names the host of the spec, and no address: up. For another name: down."""
    authority = Authority.make(tmp_path, address="10.9.9.9", name="store.ai.svc")

    def lookup(host: str) -> list[Address]:
        return [ip_address("127.0.0.1")]

    async with servers.running(name) as plain, listening(forwards_to(plain), authority.server) as port:
        for host, expected in (("store.ai.svc", ("Up", "Answering")), ("other.ai.svc", ("Down", "TlsFailed"))):
            target = store(name, port, host=host, tls=True, ca=authority.ca)
            assert said(await check(target, lookup=lookup)) == expected


@each_store
async def test_tls_where_none_is_spoken(name: StoreName, servers: Servers, tmp_path: Path) -> None:
    """The port answers in plain text, or not at all: the TLS settings are what the message speaks of."""
    ca = Authority.make(tmp_path).ca
    async with servers.running(name) as port:
        outcome = await check(store(name, port, tls=True, ca=ca), timeout_seconds=0.5)
    assert outcome.state == "Down"
    assert outcome.reason in ("TlsFailed", "Timeout", "ConnectionClosed")
    async with listening(says(b"-ERR unknown command\r\n")) as port:
        outcome = await check(store(name, port, tls=True, ca=ca), timeout_seconds=0.5)
    assert said(outcome) == ("Down", "TlsFailed")


@each_store
async def test_a_secret_that_is_not_there_is_told_without_connecting(name: StoreName) -> None:
    """Nothing is sent to a store whose password nobody has."""
    outcome = await check(store(name, 1, missing=("Secret 'store' has no key 'password'",)))
    assert said(outcome) == ("Denied", "CredentialsMissing")
    assert "Secret 'store' has no key 'password'" in outcome.message


async def test_backends_are_connected_to_and_asked_nothing(servers: Servers, tmp_path: Path) -> None:
    """TCP, and for https the handshake; a certificate must be trusted; not a byte of a request is sent."""
    received = bytearray()

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(100))

    async with listening(listens) as port:
        assert said(await check(BackendTarget("127.0.0.1", port, tls=False))) == ("Up", "Answering")
    assert not received
    async with listening(silent, Authority.make(tmp_path).server) as port:
        outcome = await check(BackendTarget("127.0.0.1", port, tls=True))
        assert said(outcome) == ("Down", "TlsFailed")
        assert "public CA" in outcome.message
    async with listening(silent) as port:
        outcome = await check(BackendTarget("127.0.0.1", port, tls=True), timeout_seconds=0.3)
        assert said(outcome) == ("Down", "TlsFailed")
    assert said(await check(BackendTarget("127.0.0.1", free_ports(1)[0], tls=True))) == ("Down", "Refused")


def open_files() -> int:
    """Return how many file descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_nothing_piles_up_over_many_checks_of_every_kind(servers: Servers, tmp_path: Path) -> None:
    """File descriptors and tasks are level over 300 checks that end in every way, time-outs included."""
    authority = Authority.make(tmp_path)
    async with (
        listening(silent) as mute,
        listening(hangs_up) as rude,
        servers.running("redis") as plain,
        listening(forwards_to(plain), authority.server) as tls,
    ):

        async def round_of_checks() -> None:
            for name in STORES:
                await check(store(name, mute), timeout_seconds=0.01)
                await check(store(name, rude))
                await check(store(name, free_ports(1)[0]))
                await check(store(name, mute, tls=True), timeout_seconds=0.02)
            await check(store("redis", tls, tls=True, ca=authority.ca))

        def level() -> tuple[int, int]:
            gc.collect()
            return open_files(), len(asyncio.all_tasks())

        async def settled() -> tuple[int, int]:
            await asyncio.sleep(0.8)  # a TLS connection may take half a second to say goodbye
            return level()

        async def is_level() -> None:
            after = level()
            assert after[0] <= before[0] + 2, f"file descriptors: {before[0]}, then {after[0]}"
            assert after[1] <= before[1] + 2, f"tasks: {before[1]}, then {after[1]}"

        for _ in range(3):
            await round_of_checks()
        before = await settled()
        for _ in range(20):
            await round_of_checks()
        await eventually_async(is_level, within_seconds=20)
