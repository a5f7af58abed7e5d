"""Streams through a gateway process: nothing is held back, nothing is collected, and a caller that leaves ends it all."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.eventually import eventually_async
from tests.gateway.programs import Program, Volume, gateway_program
from tests.stub_upstream import Behaviour, StubUpstream

STREAMS: Final = 500


@pytest.fixture
def program(volume: Volume, tmp_path: Path) -> Iterator[Program]:
    """A gateway process whose live backend is the stub's `up-a`."""
    with gateway_program(tmp_path) as running:
        assert running.url
        yield running


def request_to(url: str, model: str) -> bytes:
    """Return a request for a stream as it goes over the wire."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "go"}], "stream": True}).encode()
    where = urlsplit(url)
    head = (
        f"POST {where.path.rstrip('/')}/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer key-chat\r\n"
    )
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def open_stream(url: str, model: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request on a connection of its own."""
    where = urlsplit(url)
    assert where.hostname is not None
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(request_to(url, model))
    return reader, writer


def memory_mb(program: Program) -> float:
    """Return the resident memory of a gateway."""
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def first_byte_ms(connection: socket.socket, url: str, model: str) -> float:
    """Ask for a stream and return the milliseconds until the first of it is there; the rest is read, too."""
    began = time.perf_counter()
    connection.sendall(request_to(url, model))
    text, taken = b"", 0.0
    while b"data: [DONE]\n\n" not in text:
        piece = connection.recv(65536)
        assert piece, text
        text += piece
        if not taken and b"data: " in text:
            taken = (time.perf_counter() - began) * 1000
    if not text.endswith(b"0\r\n\r\n"):
        connection.recv(65536)
    return taken


def connect(url: str) -> socket.socket:
    """Return a connection that does not wait to fill packets."""
    where = urlsplit(url)
    connection = socket.create_connection((where.hostname, where.port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def test_the_first_byte_comes_at_most_five_milliseconds_later_than_without_a_gateway(
    program: Program, stub: StubUpstream
) -> None:
    """Asked in turns, directly and through the gateway, while each next event is a while away: the medians are compared."""
    stub.behaviours["up-a"] = Behaviour(events=2, event_delay_seconds=0.02)
    ways = {"direct": (stub.base_url, "up-a"), "gateway": (f"{program.url}/v1", "chat")}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    connections = {way: connect(url) for way, (url, _) in ways.items()}
    for _ in range(40):
        for way, (url, model) in ways.items():
            taken[way].append(first_byte_ms(connections[way], url, model))
    for connection in connections.values():
        connection.close()
    added = median(taken["gateway"][5:]) - median(taken["direct"][5:])
    assert median(taken["direct"]) >= 20
    assert added <= 5, f"{added:.1f} ms added"


@pytest.mark.parametrize("when", ["before the head", "in the stream"])
async def test_a_caller_that_goes_away_stops_the_request_upstream(program: Program, stub: StubUpstream, when: str) -> None:
    """Within a second the backend sees the connection close, be it thinking or talking; the gateway keeps nothing."""
    delay = 30.0 if when == "before the head" else 0.0
    stub.behaviours["up-a"] = Behaviour(delay_seconds=delay, events=10_000, event_delay_seconds=0.02)
    reader, writer = await open_stream(f"{program.url}/v1", "chat")
    if not delay:
        await reader.readuntil(b"piece3")

    async def is_asked() -> None:
        assert len(stub.requests) == 1

    await eventually_async(is_asked, within_seconds=20)
    assert stub.left == 0
    writer.close()

    async def has_left() -> None:
        assert stub.left == 1

    await eventually_async(has_left, within_seconds=1)
    assert stub.events_made < 1000


async def test_a_caller_that_does_not_read_holds_the_backend_up_and_not_the_gateways_memory(
    program: Program, stub: StubUpstream
) -> None:
    """A gigabyte is to come; the backend gets no further than what sockets hold, and the gateway does not grow."""
    stub.behaviours["up-a"] = Behaviour(events=100_000, padding="x" * 10_000)
    before = memory_mb(program)
    reader, writer = await open_stream(f"{program.url}/v1", "chat")
    await reader.readuntil(b"piece0")
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport is a ReadTransport

    made: list[int] = []

    async def is_held_up() -> None:
        made.append(stub.events_made)
        assert len(made) > 10
        assert made[-1] == made[-10], "the backend still talks"

    await eventually_async(is_held_up, within_seconds=30)
    assert memory_mb(program) - before < 10
    assert made[-1] < 5000
    writer.close()

    async def has_left() -> None:
        assert stub.left == 1

    await eventually_async(has_left, within_seconds=20)


async def test_five_hundred_streams_at_once_are_complete_and_memory_stays_level(program: Program, stub: StubUpstream) -> None:
    """While all of them talk, memory does not climb; a second wave needs no more than the first one did."""
    stub.behaviours["up-a"] = Behaviour(events=12, event_delay_seconds=0.3)
    seen: list[list[float]] = []
    for _ in range(2):
        opened = await asyncio.gather(*(open_stream(f"{program.url}/v1", "chat") for _ in range(STREAMS)))
        reading = asyncio.gather(*(reader.readuntil(b"0\r\n\r\n") for reader, _ in opened))
        seen.append([])
        while not reading.done():
            await asyncio.wait([reading], timeout=0.3)
            if stub.events_made >= 3 * STREAMS:  # all are under way
                seen[-1].append(memory_mb(program))
        answers = await reading
        for _, writer in opened:
            writer.close()
        assert [answer.count(b"data: ") for answer in answers] == [14] * STREAMS
        assert all(answer.startswith(b"HTTP/1.1 200") and b"data: [DONE]" in answer for answer in answers)
        stub.events_made = 0
    first, second = seen
    assert len(first) >= 5
    assert max(first) - first[0] < 3, first
    assert max(second) - max(first) < 5, seen
