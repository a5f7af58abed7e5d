"""Liveness, readiness and metrics: what turns them red and what must not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from aigateway_operator import health
from aigateway_operator.errors import SettingsError
from aigateway_operator.health import OWED_LIMIT_SECONDS, HealthServer


class Patient:
    """What the server reports of."""

    def __init__(self) -> None:
        self.owed = 0.0
        self.reason: str | None = None
        self.registry = CollectorRegistry()
        self.server = HealthServer("127.0.0.1", 0, lambda: self.owed, lambda: self.reason, self.registry)

    async def ask(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as client:
            async with client.get(f"http://127.0.0.1:{self.server.port}{path}") as answer:
                return answer.status, await answer.text()


@asynccontextmanager
async def listening() -> AsyncIterator[Patient]:
    """Run a health server on a free port."""
    patient = Patient()
    assert await patient.server.start() == patient.server.port != 0
    try:
        yield patient
    finally:
        await patient.server.stop()


async def test_liveness_is_red_only_when_the_watch_owes_changes_for_long() -> None:
    """A minute exactly is still green; being not ready does not matter."""
    async with listening() as patient:
        patient.reason = "not listed"
        patient.owed = OWED_LIMIT_SECONDS
        assert await patient.ask("/healthz") == (200, "ok\n")
        patient.owed = OWED_LIMIT_SECONDS + 1
        status, text = await patient.ask("/healthz")
        assert (status, "61 s" in text) == (503, True)
        patient.owed = 0
        assert (await patient.ask("/healthz"))[0] == 200


async def test_readiness_says_why_not() -> None:
    """And has nothing to do with what the watch owes."""
    async with listening() as patient:
        patient.owed = 10**6
        assert await patient.ask("/readyz") == (200, "ok\n")
        patient.reason = "resources have not been listed completely yet"
        assert await patient.ask("/readyz") == (503, "resources have not been listed completely yet\n")


async def test_metrics_are_read_when_asked_for() -> None:
    """In the text format, with its version in the content type."""
    async with listening() as patient:
        Gauge("aigateway_watch_owed_seconds", "Test.", registry=patient.registry).set_function(lambda: patient.owed)
        patient.owed = 7
        status, text = await patient.ask("/metrics")
        assert status == 200
        assert "aigateway_watch_owed_seconds 7.0" in text
        assert (await patient.ask("/other"))[0] == 404


class Slow(Collector):
    """A collector that takes its time, and notes in which thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.threads: list[str] = []

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        self.threads.append(threading.current_thread().name)
        time.sleep(self.seconds)
        return ()


async def test_a_large_scrape_holds_up_nothing_else() -> None:
    """It is written in a thread of its own; what only the loop may read is noted in the loop before."""
    async with listening() as patient:
        slow, noted = Slow(1.0), []
        patient.registry.register(slow)
        patient.server.before_scrape = lambda: noted.append(threading.current_thread().name)
        scrape = asyncio.create_task(patient.ask("/metrics"))
        while not slow.threads:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        assert (await patient.ask("/healthz"))[0] == 200
        assert time.monotonic() - began < 0.5
        assert not scrape.done()
        assert (await scrape)[0] == 200
        assert noted == [threading.current_thread().name]
        assert slow.threads[0].startswith("metrics")


async def test_a_scrape_that_takes_too_long_is_told_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus has given up by then; the answer says why."""
    monkeypatch.setattr(health, "SCRAPE_SECONDS", 0.1)
    async with listening() as patient:
        patient.registry.register(Slow(0.5))
        status, text = await patient.ask("/metrics")
        assert (status, "could not be written within" in text) == (503, True)
        assert (await patient.ask("/healthz"))[0] == 200


async def test_beyond_the_limit_of_connections_the_oldest_idle_one_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds many costs neither memory nor a probe, nor a scrape under way; scrapes alone do not shut it either."""
    monkeypatch.setattr(health, "MAX_CONNECTIONS", 3)
    async with listening() as patient:
        slow = Slow(0.3)
        patient.registry.register(slow)
        scrape = asyncio.create_task(patient.ask("/metrics"))
        while not slow.threads:
            await asyncio.sleep(0.01)
        held = [await held_open(patient.server.port) for _ in range(3)]
        assert await asyncio.wait_for(held[0][0].read(), 5) == b"", "the oldest has ended"
        assert (await patient.ask("/healthz"))[0] == 200
        assert await asyncio.wait_for(held[1][0].read(), 5) == b""
        assert (await scrape)[0] == 200
        begun: list[None] = []
        patient.server.before_scrape = lambda: begun.append(None)
        scrapes = [asyncio.create_task(patient.ask("/metrics")) for _ in range(4)]
        while len(begun) < 4:
            await asyncio.sleep(0.01)
        assert (await patient.ask("/healthz"))[0] == 200
        await asyncio.gather(*scrapes, return_exceptions=True)
        for _, writer in held:
            writer.close()


async def held_open(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection that was used once and is kept."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"ok\n"), 5)).startswith(b"HTTP/1.1 200")
    return reader, writer


async def test_a_port_that_is_taken_is_told_with_the_variable_to_change() -> None:
    """Not with a traceback of asyncio."""
    async with listening() as patient:
        second = HealthServer("127.0.0.1", patient.server.port, lambda: 0.0, lambda: None, CollectorRegistry())
        with pytest.raises(SettingsError, match="AIGATEWAY_HEALTH_PORT"):
            await second.start()
        await second.stop()


async def test_a_server_that_was_never_started_can_be_stopped() -> None:
    """Stopping in order must not depend on how far starting came."""
    await HealthServer("127.0.0.1", 0, lambda: 0.0, lambda: None, CollectorRegistry()).stop()
