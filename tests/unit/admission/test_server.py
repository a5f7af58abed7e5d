"""The server over real TLS: hostile requests get an answer in bounded time and never "allowed"; renewal drops no connection."""

from __future__ import annotations

import asyncio
import io
import resource
import ssl
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from aigateway_logs import OperationRecord
from aigateway_operator.admission import server as server_module
from aigateway_operator.admission.intake import Intake
from aigateway_operator.admission.review import Policy
from aigateway_operator.admission.server import MAX_BODY_BYTES, WebhookServer
from aigateway_operator.admission.serving_certificate import ServingCertificate
from aigateway_operator.errors import CertificateError, SettingsError
from tests.builders import make_backend, make_virtual_model
from tests.eventually import eventually_async
from tests.unit.admission.reviews import make_review
from tests.webhooks import Authority

AUTHORITY = Authority()
CLIENT = AUTHORITY.client_context()
GOOD = orjson.dumps(make_review("CREATE", make_virtual_model()))
BAD = orjson.dumps(make_review("CREATE", make_virtual_model(current="none")))
LARGE = orjson.dumps(make_review("CREATE", make_virtual_model(backends=[make_backend(parameters={"text": "x" * 100_000})])))
JSON = {"Content-Type": "application/json"}
HEAD = b"POST /validate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Asked:
    """A listening server and a client of it."""

    def __init__(self, server: WebhookServer, client: aiohttp.ClientSession) -> None:
        self.server, self.client = server, client
        self.base = f"https://127.0.0.1:{server.port}"

    async def post(self, body: bytes, path: str = "/validate", **options: Any) -> tuple[int, bytes]:
        """Post a body; returns status and answer."""
        options = {"method": "POST", "headers": JSON, **options}
        async with self.client.request(url=f"{self.base}{path}", data=io.BytesIO(body), ssl=CLIENT, **options) as answer:
            return answer.status, await answer.read()

    async def verdict(self, body: bytes) -> dict[str, Any]:
        """Post a review; returns the response of its answer."""
        status, answer = await self.post(body)
        assert status == 200, answer
        response: dict[str, Any] = orjson.loads(answer)["response"]
        return response

    def metrics(self) -> str:
        """Return what is counted, as text."""
        return generate_latest(self.server.registry).decode()


async def connect(asked: Asked) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a new connection that has asked nothing yet."""
    return await asyncio.open_connection("127.0.0.1", asked.server.port, ssl=CLIENT, server_hostname="127.0.0.1")


async def whole_answer(reader: asyncio.StreamReader) -> None:
    """Read an answer of 200 to its end."""
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert " 200 " in head.splitlines()[0], head
        await reader.readexactly(int(head.lower().partition("content-length:")[2].split()[0]))


@asynccontextmanager
async def listening(*, client_ca: Path | None = None, intake: Intake | None = None) -> AsyncIterator[Asked]:
    """Run a server with a certificate, and a client."""
    certificate = ServingCertificate(client_ca)
    certificate.use(*AUTHORITY.leaf())
    server = WebhookServer("127.0.0.1", 0, certificate, Policy(), CollectorRegistry(), intake or Intake())
    await server.start()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20), auto_decompress=False) as client:
        try:
            yield Asked(server, client)
        finally:
            await server.stop()


async def test_review_gets_its_verdict_and_is_counted() -> None:
    """Allowed and refused, by kind and operation, with the time it took."""
    async with listening() as asked:
        allowed = await asked.verdict(GOOD)
        refused = await asked.verdict(BAD)
        assert (allowed["allowed"], refused["allowed"]) == (True, False)
        assert refused["status"]["details"]["causes"][0]["field"] == "spec.current"
        text = asked.metrics()
        for verdict in ("warned", "refused"):
            labels = f'{{kind="VirtualModel",operation="CREATE",verdict="{verdict}"}}'
            assert f"aigateway_admission_reviews_total{labels} 1.0" in text
        assert 'aigateway_admission_review_seconds_count{kind="VirtualModel",operation="CREATE"} 2.0' in text


class _Keeper:
    """A journal that may keep records or not."""

    def __init__(self, *, keeps_operations: bool) -> None:
        self.keeps_operations = keeps_operations
        self.records: list[OperationRecord] = []

    async def operation_written(self, record: OperationRecord) -> bool:
        self.records.append(record)
        return True


@pytest.mark.parametrize("keeps", [True, False])
async def test_record_is_made_only_where_it_is_kept(*, keeps: bool) -> None:
    """What differs in two specs is worked out field by field: a tenth of a review, for nothing where nobody keeps it."""
    keeper = _Keeper(keeps_operations=keeps)
    async with listening() as asked:
        asked.server.journal = keeper
        await asked.verdict(GOOD)
        assert [record.operation for record in keeper.records] == ["admission"] * keeps


def _nested(depth: int) -> bytes:
    parameters = b'{"a":' * depth + b"1" + b"}" * depth
    return GOOD.replace(b'{"temperature":0.2}', parameters)


def _wide(count: int) -> bytes:
    model = make_virtual_model(backends=[make_backend(parameters={f"k{index}": index for index in range(count)})])
    return orjson.dumps(make_review("CREATE", model))


def _long_text(size: int) -> bytes:
    return orjson.dumps(make_review("CREATE", make_virtual_model(modelName="x" * size)))


HOSTILE = {
    "empty": b"",
    "not JSON": b"hello",
    "form": b"a=b",
    "cut off": GOOD[:-1],
    "twice": GOOD + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "broken UTF-8": GOOD.replace(b"gpt-4o", b"\xff\xfe"),
    "lone surrogate": GOOD.replace(b"gpt-4o", b"\\ud800"),
    "NaN": GOOD.replace(b"0.2", b"NaN"),
    "infinite number": GOOD.replace(b"0.2", b"1e999"),
    "number of a million digits": GOOD.replace(b"0.2", b"1" * 1_000_000),
    "duplicate key": GOOD.replace(b'"use":true', b'"use":false,"use":true'),
    "30 deep": _nested(33),
    "250 deep": _nested(250),
    "500 deep": _nested(500),
    "900 deep": _nested(900),
    "1000 deep": _nested(1000),
    "100000 deep": _nested(100_000),
    "million brackets": b"[" * 6_000_000,
    "100000 keys": _wide(100_000),
    "6 MiB text": _long_text(6 * 1024 * 1024),
    "6 MiB of keys": _wide(450_000),
    "wrong kind": GOOD.replace(b'"VirtualModel"', b'"Pod"'),
    "other review": GOOD.replace(b"admission.k8s.io/v1", b"admission.k8s.io/v2"),
    "conversion": orjson.dumps({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": {"uid": "a"}}),
    "no request": b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}',
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_body_is_answered_quickly_and_never_allowed(name: str) -> None:
    """No crash, no verdict in favour, no second lost; the next review is answered as ever, and memory stays."""
    async with listening() as asked:
        await asked.verdict(GOOD)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        status, answer = await asked.post(HOSTILE[name])
        seconds = time.perf_counter() - started
        grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert status in (200, 400, 413), answer
        assert status != 200 or orjson.loads(answer)["response"]["allowed"] is False
        assert len(answer) < 256 * 1024
        assert seconds < 4, f"took {seconds:.1f} s"
        assert grown_mib < 300, f"grew by {grown_mib:.0f} MiB"
        assert (await asked.verdict(GOOD))["allowed"] is True
        assert "aigateway_admission_turned_away_total{" in asked.metrics() or status == 200
        assert 'reason="fault"' not in asked.metrics()


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"path": "/"}, 404),
        ({"path": "/validate/"}, 404),
        ({"path": "/validate/x"}, 404),
        ({"path": "/nope"}, 404),
        ({"path": "/healthz"}, 404),
        ({"path": "/VALIDATE"}, 404),
        ({"method": "GET"}, 405),
        ({"method": "PUT"}, 405),
        ({"method": "DELETE"}, 405),
        ({"method": "OPTIONS"}, 405),
        ({"headers": {"Content-Type": "text/plain"}}, 415),
        ({"headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 415),
        ({"headers": {**JSON, "Content-Encoding": "gzip"}}, 415),
        ({"path": "/validate?timeout=5s"}, 200),
        ({"headers": {"Content-Type": "application/json; charset=utf-8"}}, 200),
    ],
)
async def test_anything_but_a_posted_json_review_is_turned_away(options: dict[str, Any], status: int) -> None:
    """A wrong path is an error, so that the API server refuses; a query (it adds a time-out) and a charset are usual."""
    async with listening() as asked:
        got, answer = await asked.post(GOOD, **options)
        assert got == status
        assert (b'"allowed":true' in answer) == (status == 200)


async def test_body_that_says_it_is_too_large_is_refused_before_it_is_sent() -> None:
    """413 by the head alone; and a body without a length, which could be endless, is not begun."""
    async with listening() as asked:
        for head, status in (
            (f"Content-Length: {MAX_BODY_BYTES + 1}", b"413"),
            ("Content-Length: 99999999999999999999", b"400"),
            ("Transfer-Encoding: chunked", b"411"),
        ):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", asked.server.port, ssl=CLIENT, server_hostname="127.0.0.1"
            )
            writer.write(f"POST /validate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{head}\r\n\r\n".encode())
            line = await asyncio.wait_for(reader.readline(), 20)
            assert status in line, line
            writer.transport.abort()


async def test_slow_sender_is_cut_off_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not come gives its room back; one that breaks off is no fault of the server's."""
    monkeypatch.setattr(server_module, "BODY_SECONDS", 0.2)
    async with listening() as asked:
        for end in (False, True):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", asked.server.port, ssl=CLIENT, server_hostname="127.0.0.1"
            )
            head = (
                f"POST /validate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(GOOD)}\r\n\r\n"
            )
            writer.write(head.encode() + GOOD[:100])
            if end:
                await writer.drain()
                writer.transport.abort()
            else:
                assert b"408" in await asyncio.wait_for(reader.readline(), 20)
                writer.transport.abort()
            assert (await asked.verdict(GOOD))["allowed"] is True

        async def check() -> None:
            assert asked.server.intake.used_bytes == 0

        await eventually_async(check, within_seconds=20)
        assert 'reason="fault"' not in asked.metrics()


async def test_when_there_is_no_room_the_caller_is_told_to_come_again() -> None:
    """503 with Retry-After, at once or after a bounded wait, and counted."""
    intake = Intake(wait_seconds=0.05)
    async with listening(intake=intake) as asked:
        intake.used_bytes = intake.total_bytes
        async with asked.client.post(f"{asked.base}/validate", data=LARGE, ssl=CLIENT, headers=JSON) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await asked.verdict(GOOD))["allowed"] is True, "what is small finds room always"
        intake.used_bytes = 0
        assert (await asked.verdict(LARGE))["allowed"] is True
        assert 'aigateway_admission_turned_away_total{reason="busy"} 1.0' in asked.metrics()


async def test_fault_of_ours_is_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """500, which failurePolicy Fail turns into a refusal; the connection and the server live on."""

    def broken(*_: object) -> None:
        raise KeyError("a fault")

    async with listening() as asked:
        monkeypatch.setattr(server_module, "review", broken)
        status, answer = await asked.post(GOOD)
        assert (status, b"KeyError" in answer) == (500, False)
        monkeypatch.undo()
        assert (await asked.verdict(GOOD))["allowed"] is True


async def test_who_announces_much_and_sends_nothing_takes_no_room() -> None:
    """Whoever reaches the port could otherwise keep everybody from editing with five connections and a few hundred bytes."""
    async with listening() as asked:
        writers = []
        for _ in range(20):
            _, writer = await connect(asked)
            writer.write(HEAD % MAX_BODY_BYTES)
            await writer.drain()
            writers.append(writer)
        verdicts = await asyncio.gather(*(asked.verdict(body) for body in (GOOD, LARGE) * 10))
        assert all(verdict["allowed"] for verdict in verdicts)
        for writer in writers:
            writer.transport.abort()


async def test_of_too_many_connections_those_give_way_that_never_asked_and_then_the_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand sockets that send nothing, or headers alone, must not keep API servers out, nor cut theirs."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    async with listening() as asked:
        connections = [await connect(asked) for _ in range(3)]
        (_, headers), (first, one), (second, two) = connections
        headers.write(HEAD % len(GOOD) + GOOD[:100])
        for reader, writer in ((first, one), (second, two), (first, one)):
            writer.write(HEAD % len(GOOD) + GOOD)
            await whole_answer(reader)
        later = [await connect(asked)]
        later[0][1].write(HEAD % len(GOOD) + GOOD)
        await whole_answer(later[0][0])
        assert await asyncio.wait_for(connections[0][0].read(), 20) == b"", "headers alone are the first to go"
        later.append(await connect(asked))
        assert await asyncio.wait_for(second.read(), 20) == b"", "of those that asked, the one idle for longest"
        one.write(HEAD % len(GOOD) + GOOD)
        await whole_answer(first)
        for _, writer in (*connections, *later):
            writer.transport.abort()


async def test_where_all_are_at_work_a_new_connection_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No review that has come whole is given up for what may be nothing."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 1)
    disk, waits = asyncio.Event(), asyncio.Event()

    class Slow:
        keeps_operations = True

        async def operation_written(self, _: OperationRecord) -> bool:
            waits.set()
            await disk.wait()
            return True

    async with listening() as asked:
        asked.server.journal = Slow()
        asking, sends = await connect(asked)
        sends.write(HEAD % len(GOOD) + GOOD)
        await asyncio.wait_for(waits.wait(), 20)
        late, writer = await connect(asked)
        assert await asyncio.wait_for(late.read(), 20) == b""
        disk.set()
        await whole_answer(asking)
        for one in (sends, writer):
            one.transport.abort()


# -- TLS


async def test_certificate_is_replaced_under_load_and_no_connection_is_dropped() -> None:
    """8 callers with connections of their own, 20 replacements: each review answered on the first connection it had."""
    async with listening() as asked:
        done, stop = [0] * 8, asyncio.Event()
        opened: list[object] = []

        async def note(*arguments: object) -> None:
            opened.append(arguments)

        async def call(number: int) -> None:
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_end.append(note)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1), trace_configs=[trace]) as client:
                while not stop.is_set():
                    async with client.post(f"{asked.base}/validate", data=GOOD, ssl=CLIENT, headers=JSON) as answer:
                        assert answer.status == 200
                        await answer.read()
                        done[number] += 1

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(call(number))
            serials = set()
            for _ in range(20):
                before = min(done)
                asked.server.certificate.use(*AUTHORITY.leaf())
                serials.add(await _serial(asked.server.port))
                while min(done) <= before:
                    await asyncio.sleep(0.005)
            stop.set()
        assert len(opened) == 8, "connections were dropped"
        assert len(serials) == 20, "new connections see the new certificate at once"


async def test_pair_that_does_not_fit_leaves_the_served_one_in_the_live_context() -> None:
    """Half of a pair in the context would end every later handshake: the old certificate is presented as before."""
    async with listening() as asked:
        before = await _serial(asked.server.port)
        chain, _ = AUTHORITY.leaf()
        _, key = AUTHORITY.leaf()
        with pytest.raises(CertificateError):
            asked.server.certificate.use(chain, key)
        assert await _serial(asked.server.port) == before
        assert (await asked.verdict(GOOD))["allowed"] is True


async def _serial(port: int) -> bytes:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=CLIENT, server_hostname="127.0.0.1")
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return bytes(certificate)


async def test_without_certificate_it_listens_and_is_not_ready() -> None:
    """A handshake fails, so nothing is answered; with the first certificate it works, with no restart."""
    server = WebhookServer("127.0.0.1", 0, ServingCertificate(), Policy(), CollectorRegistry())
    assert server.why_not_ready() == "the webhook does not listen yet"
    await server.start()
    try:
        assert server.why_not_ready() == "no serving certificate yet"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await _serial(server.port)
        server.certificate.use(*AUTHORITY.leaf())
        assert server.why_not_ready() is None
        assert await _serial(server.port)
    finally:
        await server.stop()
    assert server.why_not_ready() == "the webhook is stopping"


async def test_old_tls_is_not_spoken() -> None:
    """TLS 1.2 at least."""
    old = AUTHORITY.client_context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with listening() as asked:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", asked.server.port, ssl=old, server_hostname="127.0.0.1")


async def test_with_a_client_ca_only_its_certificates_get_in(tmp_path: Path) -> None:
    """A stranger, with no certificate or one of another authority, does not get as far as a review."""
    callers, strangers = Authority("callers"), Authority("strangers")
    (tmp_path / "ca.pem").write_bytes(callers.pem)
    async with listening(client_ca=tmp_path / "ca.pem") as asked:
        for authority, welcome in ((callers, True), (strangers, False), (None, False)):
            context = AUTHORITY.client_context()
            if authority is not None:
                chain, key = authority.leaf()
                (tmp_path / "client.pem").write_bytes(chain + key)
                context.load_cert_chain(tmp_path / "client.pem")
            request = asked.client.post(f"{asked.base}/validate", data=GOOD, ssl=context, headers=JSON)
            if welcome:
                async with request as answer:
                    assert answer.status == 200
            else:
                with pytest.raises(aiohttp.ClientError):
                    await request


# -- beginning and end


async def test_taken_port_is_named() -> None:
    """The error says which setting to change."""
    async with listening() as asked:
        second = WebhookServer("127.0.0.1", asked.server.port, ServingCertificate(), Policy(), CollectorRegistry())
        with pytest.raises(SettingsError, match="AIGATEWAY_WEBHOOK_PORT"):
            await second.start()


async def test_stopping_server_answers_and_sends_callers_elsewhere() -> None:
    """While it drains: red readiness, answers that close their connection; what is under way is finished."""
    async with listening() as asked:
        await asked.verdict(GOOD)
        stopping = asyncio.create_task(asked.server.stop(drain_seconds=0.5))
        await asyncio.sleep(0)
        assert asked.server.why_not_ready() == "the webhook is stopping"
        async with asked.client.post(f"{asked.base}/validate", data=GOOD, ssl=CLIENT, headers=JSON) as answer:
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
        await stopping
        with pytest.raises(aiohttp.ClientConnectorError):
            await asked.post(GOOD)
