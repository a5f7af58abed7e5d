"""Names are looked up beside the loop, and a DNS server that does not answer costs one thread a name."""

from __future__ import annotations

import asyncio
import socket
import threading
from ipaddress import ip_address

import pytest

from aigateway_operator.datastores.resolving import MAX_THREADS, NameUnknownError, Resolver
from aigateway_operator.rules.ranges import Address
from tests.eventually import eventually_async


async def test_an_address_is_itself_and_asks_nobody() -> None:
    """No thread, no DNS."""

    def lookup(host: str) -> list[Address]:
        raise AssertionError(host)

    assert await Resolver(lookup).addresses("fd00::7") == [ip_address("fd00::7")]


async def test_a_name_that_is_not_known_is_told_as_such() -> None:
    """Also one that has no encoding, and one without any address."""

    def lookup(host: str) -> list[Address]:
        if host == "empty":
            return []
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    resolver = Resolver(lookup)
    for host in ("gone.ai.svc", "empty"):
        with pytest.raises(NameUnknownError):
            await resolver.addresses(host)
    with pytest.raises(NameUnknownError):
        await Resolver().addresses("a" * 70 + ".ai.svc")


async def test_a_lookup_that_hangs_is_shared_and_does_not_pile_up() -> None:
    """However often and by how many a name is asked for, one thread holds on to it; the loop goes on meanwhile."""
    begun: list[str] = []
    go = threading.Event()

    def lookup(host: str) -> list[Address]:
        begun.append(host)
        go.wait(30)
        return [ip_address("10.0.0.7")]

    resolver = Resolver(lookup)
    try:
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await resolver.addresses("slow.ai.svc")
        assert begun == ["slow.ai.svc"]
        names = [asyncio.ensure_future(resolver.addresses(f"slow{number}.ai.svc")) for number in range(2 * MAX_THREADS)]

        async def all_threads_are_taken() -> None:
            assert len(begun) == MAX_THREADS

        await eventually_async(all_threads_are_taken, within_seconds=20)
    finally:
        go.set()
    assert {tuple(found) for found in await asyncio.gather(*names)} == {(ip_address("10.0.0.7"),)}
    assert resolver.pending == 0


async def test_given_up_lookups_release_what_they_waited_for() -> None:
    """Callers that are cancelled while all threads are taken leave no trace."""
    go = threading.Event()

    def lookup(host: str) -> list[Address]:
        go.wait(30)
        return [ip_address("10.0.0.7")]

    resolver = Resolver(lookup)
    waiting = [asyncio.ensure_future(resolver.addresses(f"slow{number}.ai.svc")) for number in range(2 * MAX_THREADS)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    go.set()

    async def nothing_is_pending() -> None:
        assert resolver.pending == 0

    await eventually_async(nothing_is_pending, within_seconds=20)
    assert await resolver.addresses("again.ai.svc") == [ip_address("10.0.0.7")]
