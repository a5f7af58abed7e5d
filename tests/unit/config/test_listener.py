"""The status port against whoever reaches it: strict, bounded, and never shut to the operator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aigateway_config.documents import STATUS_PATH, StatusAnswer
from aigateway_config.listener import MAX_CONNECTIONS, Listener
from aigateway_config.slowest import NOTHING_YET
from tests.eventually import eventually_async
from tests.unit.config.status_worker import running

GET = f"GET {STATUS_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def seven() -> StatusAnswer:
    """Answer of a process that runs revision 7."""
    return running(7)


@asynccontextmanager
async def listening(answer: Callable[[], Any] = seven, **options: Any) -> AsyncIterator[int]:
    """Listen on a free port of the loopback address and yield it."""
    listener = Listener(answer, **{"host": "127.0.0.1", "port": 0, **options})
    port = await listener.start()
    try:
        yield port
    finally:
        await listener.stop()


async def ask(port: int, request: bytes = GET, host: str = "127.0.0.1") -> tuple[int, dict[bytes, bytes], bytes]:
    """Send bytes; return status, headers and body. Status 0: the connection was closed without a word."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(request)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            received = b""
            with contextlib.suppress(ConnectionError):
                while chunk := await reader.read(65536):
                    received += chunk
        finally:
            writer.close()
    if not received:
        return 0, {}, b""
    head, _, body = received.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    fields = (header.partition(b": ") for header in headers)
    return int(line.split()[1]), {name.lower(): value for name, _, value in fields}, body


async def test_the_answer_is_json_by_its_published_names() -> None:
    """Revision and digest of every document, with a length, for one request a connection."""
    async with listening() as port:
        status, headers, body = await ask(port)
    assert status == 200
    assert json.loads(body)["documents"] == {"config.yml": {"revision": 7, "digest": f"{7:064x}"}}
    assert set(json.loads(body)) >= {"credentialsRevision", "loadedAt", "restartRequired"}
    assert StatusAnswer.model_validate_json(body) == running(7)
    assert headers[b"content-length"] == str(len(body)).encode()
    assert (headers[b"content-type"], headers[b"connection"]) == (b"application/json", b"close")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 404),
        (f"GET {STATUS_PATH}/ HTTP/1.1\r\n\r\n".encode(), 404),
        (f"GET /%61igateway/v1/config HTTP/1.1\r\n\r\n{STATUS_PATH}".encode(), 404),
        (f"GET http://x{STATUS_PATH} HTTP/1.1\r\n\r\n".encode(), 404),
        (f"POST {STATUS_PATH} HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode(), 405),
        (f"HEAD {STATUS_PATH} HTTP/1.1\r\n\r\n".encode(), 405),
        (f"GET {STATUS_PATH} HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde".encode(), 400),
        (f"GET {STATUS_PATH} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(), 400),
        (f"GET {STATUS_PATH} HTTP/2.0\r\n\r\n".encode(), 400),
        (f"GET {STATUS_PATH}\r\n\r\n".encode(), 400),
        (f"get {STATUS_PATH} HTTP/1.1\r\n\r\n".encode(), 400),
        (f"GET  {STATUS_PATH} HTTP/1.1\r\n\r\n".encode(), 400),
        (f"GET {STATUS_PATH} HTTP/1.1\r\nno header\r\n\r\n".encode(), 400),
        (f"GET {STATUS_PATH} HTTP/1.1\r\nHost : x\r\n\r\n".encode(), 400),
        (f"GET {STATUS_PATH} HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n".encode(), 400),
        (f"GET {STATUS_PATH} HTTP/1.1\r\nHost: x\nFoo: y\r\n\r\n".encode(), 400),
        (f"GET {STATUS_PATH} HTTP/1.1\r\nHost: \x00\r\n\r\n".encode(), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET " + b"/a" * 10_000 + b" HTTP/1.1\r\n\r\n", 431),
        (f"GET {STATUS_PATH} HTTP/1.1\r\n".encode() + b"X: y\r\n" * 5_000 + b"\r\n", 431),
        (b"\x00" * 100_000, 431),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else None,
)
async def test_everything_but_the_one_request_is_refused(request_: bytes, expected: int) -> None:
    """Each is answered at once, without what the pod runs, and the next client is served."""
    async with listening() as port:
        status, _, body = await ask(port, request_)
        assert status == expected
        assert b"config.yml" not in body
        assert (await ask(port))[0] == 200


async def test_a_query_is_ignored() -> None:
    """Proxies and browsers may add one."""
    async with listening() as port:
        assert (await ask(port, f"GET {STATUS_PATH}?x=1 HTTP/1.0\r\n\r\n".encode()))[0] == 200


async def test_a_client_that_sends_slowly_is_cut_off() -> None:
    """A byte now and then does not prolong the time that the whole request has."""
    async with listening(request_seconds=0.3) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        started = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionError):
            for byte in GET:
                writer.write(bytes([byte]))
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        if await reader.read(1) == b"":
                            break
        assert 0.2 < asyncio.get_running_loop().time() - started < 1.0
        writer.close()


async def test_clients_that_wait_give_way_to_one_that_asks() -> None:
    """Three times as many idle connections as are allowed do not shut out the operator."""
    async with listening(request_seconds=30) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * MAX_CONNECTIONS)]
        assert (await ask(port))[0] == 200
        cut = 0
        for reader, _ in idle[: 2 * MAX_CONNECTIONS]:
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(2):
                    cut += await reader.read(1) == b""
        for _, writer in idle:
            writer.close()
    assert cut > MAX_CONNECTIONS  # the others were reset, which is as good


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    """An answer that nobody takes holds no connection longer than the limit."""

    async def large() -> StatusAnswer:
        return NOTHING_YET.model_copy(update={"error": "e" * 20_000_000})

    async with listening(large, request_seconds=0.3) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(5)
            client.sendall(GET)

            async def is_served() -> None:
                assert select.select([client], [], [], 0)[0], "nothing was answered"

            async def is_cut() -> None:
                assert "config status request" not in {task.get_name() for task in asyncio.all_tasks()}

            await eventually_async(is_served, within_seconds=3, every_seconds=0.01)
            await eventually_async(is_cut, within_seconds=3)


async def test_a_fault_of_ours_is_a_500_that_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The text of an exception goes to the log, not to whoever asks."""

    async def broken() -> StatusAnswer:
        raise OSError("disk on fire")

    async with listening(broken) as port:
        status, _, body = await ask(port)
    assert (status, b"fire" in body) == (500, False)
    assert "disk on fire" in caplog.text


async def test_an_answer_that_takes_too_long_is_no_answer() -> None:
    """The operator calls the pod unreachable, not finished."""

    async def never() -> StatusAnswer:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async with listening(never, request_seconds=0.2) as port:
        assert (await ask(port))[0] == 0


async def test_only_one_process_can_have_the_port() -> None:
    """Two answers by turns would let a stale worker hide behind a fresh one."""
    async with listening() as port:
        with pytest.raises(OSError, match="in use"):
            await Listener(seven, host="127.0.0.1", port=port).start()
        with pytest.raises(OSError, match="in use"):
            await Listener(seven, host=None, port=port).start()


async def test_the_port_is_free_at_once_after_stop() -> None:
    """Connections that were open do not keep the next process waiting."""
    async with listening() as port:
        assert (await ask(port))[0] == 200
        _, held = await asyncio.open_connection("127.0.0.1", port)
    async with listening(port=port) as again:
        assert (await ask(again))[0] == 200
    held.close()


async def test_without_a_host_both_families_are_served() -> None:
    """Pods of a cluster with two families have addresses of both."""
    async with listening(host=None) as port:
        assert (await ask(port))[0] == 200
        if socket.has_dualstack_ipv6():
            assert (await ask(port, host="::1"))[0] == 200
