"""The webhook's server: POST /validate over TLS, one AdmissionReview in, one out. Nothing else is ever answered with a verdict.

Whatever is not a well-formed review of ours gets an HTTP error or a refusal, never "allowed". A handler asks nobody: a review
is computed between two awaits. A record of it is kept before the answer, but no answer waits for long, or is changed, because
a disk is slow or full. Bodies are bounded one by one and together, and room is given to what has begun to arrive, not to what
was announced: whoever reaches the port may announce anything. Slow senders are cut off, and of too many connections the one
that has been idle for longest gives way. Liveness, readiness and metrics are on the health port (`health`), not here. Called
by `webhook`, which brings settings and the certificate's source.

Source: docs/admission.md#limits; docs/measured.md#admission-servers (a router and a framework on top: three times the CPU).
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from aiohttp import ClientError, web
from aiohttp.http import HttpProcessingError
from loguru import logger
from prometheus_client import CollectorRegistry

from aigateway_logs import OperationRecord
from aigateway_operator.admission.intake import LEAST_BYTES, Busy, Intake
from aigateway_operator.admission.metrics import AdmissionMetrics
from aigateway_operator.admission.ports import Journal
from aigateway_operator.admission.records import admission_record
from aigateway_operator.admission.request import PATH, MalformedReview, ReviewRequest, parse_review
from aigateway_operator.admission.review import Policy, review
from aigateway_operator.admission.serving_certificate import ServingCertificate
from aigateway_operator.admission.verdict import MALFORMED, Verdict, answer, answer_malformed
from aigateway_operator.errors import SettingsError

MAX_BODY_BYTES: Final = 6_815_744
"""6.5 MiB: an UPDATE carries an object twice, each at most 3 MiB (the API server's own limit for a request)."""
BODY_SECONDS: Final = 3.0
"""How long a body may take to arrive; less than the webhook's timeoutSeconds."""
HANDSHAKE_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 180.0
"""Idle connections are closed by the caller first: the API server's client does so after 90 s."""
LINGER_SECONDS: Final = 1.0
"""How long what is left of a refused body is read away, so that the caller sees the answer and no broken connection."""
MAX_CONNECTIONS: Final = 1024
"""Of one listener. Beyond that one gives way: of those that never sent a whole review, or else have been idle, the oldest."""
STOP_SECONDS: Final = 5.0
GOODBYE_SECONDS: Final = 0.05
"""How long callers have to read the last answer and take leave, before connections are cut."""
_JSON: Final = "application/json"
_QUIET: Final = logging.getLogger("aigateway.webhook.http")
"""aiohttp would log a traceback for each request that is no HTTP, so for whatever anyone cares to send."""
_QUIET.setLevel(logging.CRITICAL)


class _TurnedAway(Exception):
    """A request gets this HTTP answer and no verdict."""

    def __init__(self, status: int, reason: str, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.reason, self.headers = status, reason, headers or {}


@dataclass(slots=True)
class WebhookServer:
    """One listening socket. `port` 0 takes any free one; `start` tells which."""

    host: str
    port: int
    certificate: ServingCertificate
    policy: Policy
    registry: CollectorRegistry
    intake: Intake = field(default_factory=Intake)
    journal: Journal | None = None
    """Keeps a record of every decision; None: nobody does."""
    draining: bool = field(default=False, init=False)
    """Set before the end: every answer closes its connection, so that callers go to other replicas."""
    _metrics: AdmissionMetrics = field(init=False)
    _http: web.Server | None = field(default=None, init=False)
    _listener: asyncio.Server | None = field(default=None, init=False)
    _asked: dict[web.RequestHandler, bool] = field(default_factory=dict, init=False)
    """Connections over which a whole review has come, the latest last, and whether it is at work. Others may be anybody's."""

    def __post_init__(self) -> None:
        self._metrics = AdmissionMetrics(self.registry)

    async def start(self) -> int:
        """Listen, and return the port; handshakes fail until there is a certificate. Raises SettingsError."""
        # Without a router: one path, and its matching would cost more than what is done here. Bodies are never inflated.
        self._http = web.Server(
            self._handle,
            access_log=None,
            logger=_QUIET,
            auto_decompress=False,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
        )
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._accept,
                self.host,
                self.port,
                ssl=self.certificate.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                backlog=MAX_CONNECTIONS,
            )
        except OSError as error:
            raise SettingsError(
                f"The webhook cannot listen on {self.host}:{self.port} ({error.strerror or error}). "
                "Set AIGATEWAY_WEBHOOK_HOST and AIGATEWAY_WEBHOOK_PORT to a free address."
            ) from error
        self.port = self._listener.sockets[0].getsockname()[1]
        return self.port

    async def stop(self, drain_seconds: float = 0.0) -> None:
        """Answer for `drain_seconds` more (unless it drains already), then stop listening, finish what is under way, close."""
        if not self.draining:
            self.draining = True
            await asyncio.sleep(drain_seconds)
        if self._listener is not None:
            self._listener.close()
        if self._http is not None:
            transports = [connection.transport for connection in self._http.connections]
            self._http.pre_shutdown()  # idle connections end now
            await self._http.shutdown(STOP_SECONDS)
            await asyncio.sleep(GOODBYE_SECONDS)
            for transport in transports:
                if transport is not None:
                    transport.abort()  # the caller did not answer the goodbye of TLS; without this the socket stays open
            await asyncio.sleep(0)

    def why_not_ready(self) -> str | None:
        """Return why no review should come here, None if they may."""
        if self._listener is None:
            return "the webhook does not listen yet"
        return "the webhook is stopping" if self.draining else self.certificate.why_not_ready()

    def _accept(self) -> asyncio.Protocol:
        """Return the protocol of a new connection; beyond the limit an idle one ends, or this one."""
        assert self._http is not None  # noqa: S101 - set before the socket listens
        connections = self._http.connections
        if len(connections) < MAX_CONNECTIONS:
            return self._http()
        silent = (connection for connection in connections if connection not in self._asked)
        idle = (connection for connection, at_work in self._asked.items() if not at_work)
        for connection in chain(silent, idle):
            if connection.transport is not None and not connection.transport.is_closing():
                connection.transport.abort()
                return self._http()
        return _Refusal()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except _TurnedAway as refusal:
            self._metrics.turned_away(refusal.reason)
            response = web.Response(status=refusal.status, text=f"{refusal}\n", headers=refusal.headers)
            response.force_close()  # what is left of the body is not waited for
        except Exception:  # noqa: BLE001 - the edge: a fault of ours must not end the connection without an answer
            self._metrics.turned_away("fault")
            logger.exception("A review failed by a fault of the webhook itself")
            response = web.Response(status=500, text="the webhook failed; its log has the reason\n")
        if self.draining:
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        length = _accepted_length(request)
        if length <= LEAST_BYTES:  # nearly every review; the number of connections bounds these
            return await self._reviewed(request, await _read(request, length))
        body, began = bytearray(), time.monotonic()
        await _read_more(request, body, LEAST_BYTES, BODY_SECONDS)
        left = BODY_SECONDS - (time.monotonic() - began)
        try:
            async with self.intake.room_for(length):
                await _read_more(request, body, length, left)
                return await self._reviewed(request, bytes(body))
        except Busy:
            headers = {"Retry-After": "1"}
            raise _TurnedAway(503, "busy", "too many reviews at once: try again", headers) from None

    async def _reviewed(self, request: web.BaseRequest, body: bytes) -> web.Response:
        answered, record = self._decide(body)
        self._asked.pop(request.protocol, None)
        if len(self._asked) > MAX_CONNECTIONS:
            self._asked = {one: at_work for one, at_work in self._asked.items() if one.transport is not None}
        self._asked[request.protocol] = True
        try:
            if record is not None and self.journal is not None and not await self.journal.operation_written(record):
                self._metrics.unrecorded()
        finally:
            self._asked[request.protocol] = False
        return web.Response(body=answered, content_type=_JSON)

    def _decide(self, body: bytes) -> tuple[bytes, OperationRecord | None]:
        """Judge one body; return the answer and its record. Not a coroutine: nothing is awaited from here to the verdict."""
        started = time.perf_counter()
        try:
            asked = parse_review(body)
            verdict = review(asked, self.policy)
        except MalformedReview as error:
            if error.uid is None:
                raise _TurnedAway(400, MALFORMED, f"not a review: {error}") from None
            self._metrics.turned_away(MALFORMED)
            return answer_malformed(error.uid, str(error)), None
        seconds = time.perf_counter() - started
        self._metrics.decided(asked.kind, asked.operation, verdict.outcome, seconds)
        return answer(asked.uid, verdict), self._record(asked, verdict, seconds)

    def _record(self, asked: ReviewRequest, verdict: Verdict, seconds: float) -> OperationRecord | None:
        """Return the record of a decision; None where nobody keeps it, or where it cannot be made."""
        if self.journal is None or not self.journal.keeps_operations:
            return None
        try:
            return admission_record(asked, verdict, seconds * 1000)
        except Exception:  # noqa: BLE001 - whatever an object holds, its review is answered
            self._metrics.unrecorded()
            logger.exception("A decision could not be made a record of")
            return None


def _accepted_length(request: web.BaseRequest) -> int:
    """Return the length of the body that may be read. Raises _TurnedAway for what is no review by its head alone."""
    if request.path != PATH:
        raise _TurnedAway(404, "not_found", f"only {PATH} is served here")
    if request.method != "POST":
        raise _TurnedAway(405, "method", "only POST is answered", {"Allow": "POST"})
    headers = request.headers
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() != _JSON or "Content-Encoding" in headers:
        raise _TurnedAway(415, "content_type", f"only plain {_JSON} is read")
    length = request.content_length
    if length is None:
        raise _TurnedAway(411, "too_large", "a Content-Length is needed")
    if length > MAX_BODY_BYTES:
        raise _TurnedAway(413, "too_large", f"a review may have {MAX_BODY_BYTES} bytes at most")
    return length


async def _read(request: web.BaseRequest, length: int) -> bytes:
    """Return the whole body. Its length is known to be bounded; the HTTP parser holds the sender to it."""
    if request.content.is_eof():  # all of it came with the head, as is usual: nothing to wait for
        return request.content.read_nowait()
    body = bytearray()
    await _read_more(request, body, length, BODY_SECONDS)
    return bytes(body)


async def _read_more(request: web.BaseRequest, body: bytearray, length: int, seconds: float) -> None:
    """Add to `body` what comes, until it has `length` bytes at least. Raises _TurnedAway when it has not in `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while len(body) < length:
                piece = await request.content.readany()
                if not piece:
                    raise _TurnedAway(400, MALFORMED, "the body is shorter than it said")
                body += piece
    except TimeoutError:
        raise _TurnedAway(408, "slow", "the body took too long") from None
    except (ClientError, HttpProcessingError, ConnectionError):
        raise _TurnedAway(400, MALFORMED, "the body ended early or is no HTTP") from None


class _Refusal(asyncio.Protocol):
    """A connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close at once."""
        transport.close()
