"""Liveness, readiness and metrics of one process over HTTP.

Liveness is red only if the event loop is stuck (no answer) or a successful LIST shows changes that the watch has not
delivered for a minute; an outage of the API server leaves it green, since a restart would not help. Readiness is the role:
a standby with a warm store is ready. Metrics are written in a thread of their own, so that a large scrape holds up neither
reviews nor rounds. Connections are bounded, and probes get through however many others hold. Called by `main` and `webhook`;
knows nothing of what it reports but functions it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from aigateway_operator.errors import SettingsError

OWED_LIMIT_SECONDS: Final = 60.0
SCRAPE_SECONDS: Final = 10.0
"""As long as Prometheus waits unless it is told otherwise."""
MAX_CONNECTIONS: Final = 100
"""Many times what probes and Prometheus need. Beyond that the oldest gives way, one without a scrape first; what the loop
accepts in one go (100) may come on top."""


def _nothing() -> None:
    """Note nothing before a scrape."""


@dataclass(slots=True)
class HealthServer:
    """One small server. `owed_seconds`: for how long the watch has owed changes; `ready`: None, or why not ready.

    `before_scrape`: called in the loop before `registry` is read in a thread, to note what only the loop may read.
    """

    host: str
    port: int
    owed_seconds: Callable[[], float]
    ready: Callable[[], str | None]
    registry: CollectorRegistry
    before_scrape: Callable[[], None] = _nothing
    _runner: web.AppRunner | None = field(default=None, init=False)
    _listener: asyncio.Server | None = field(default=None, init=False)
    _scraped: set[asyncio.Transport | None] = field(default_factory=set, init=False, repr=False)
    """Connections with a scrape under way. Probes are answered at once, so theirs are never at work."""
    _scraping: ThreadPoolExecutor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Prepare one thread: scrapes follow one another, and names that are resolved slowly in others do not delay them."""
        self._scraping = ThreadPoolExecutor(1, thread_name_prefix="metrics")

    async def start(self) -> int:
        """Listen, and return the port. Raises SettingsError if the address cannot be had."""
        app = web.Application()
        app.add_routes([web.get("/healthz", self._live), web.get("/readyz", self._ready), web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            self._listener = await asyncio.get_running_loop().create_server(self._accept, self.host, self.port)
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(
                f"Health and metrics cannot listen on {self.host}:{self.port} ({error.strerror or error}). "
                "Set AIGATEWAY_HEALTH_HOST and AIGATEWAY_HEALTH_PORT to a free address; port 0 takes any free one."
            ) from error
        self.port = self._listener.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self._scraping.shutdown(wait=False, cancel_futures=True)

    def _accept(self) -> asyncio.Protocol:
        """Return the protocol of a new connection, for which another gives way beyond the limit."""
        assert self._runner is not None and self._runner.server is not None  # noqa: S101, PT018 - set before the socket listens
        transports = [connection.transport for connection in self._runner.server.connections]  # in the order in which they came
        held = [transport for transport in transports if transport is not None and not transport.is_closing()]
        if len(held) >= MAX_CONNECTIONS:
            next((transport for transport in held if transport not in self._scraped), held[0]).abort()
        return self._runner.server()

    async def _live(self, _request: web.Request) -> web.Response:
        owed = self.owed_seconds()
        if owed > OWED_LIMIT_SECONDS:
            return web.Response(status=503, text=f"the watch has owed changes for {owed:.0f} s\n")
        return web.Response(text="ok\n")

    async def _ready(self, _request: web.Request) -> web.Response:
        reason = self.ready()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        self._scraped.add(transport := request.transport)
        try:
            return await self._scrape()
        finally:
            self._scraped.discard(transport)

    async def _scrape(self) -> web.Response:
        self.before_scrape()
        try:
            async with asyncio.timeout(SCRAPE_SECONDS):
                body = await asyncio.get_running_loop().run_in_executor(self._scraping, generate_latest, self.registry)
        except TimeoutError:
            return web.Response(status=503, text=f"metrics could not be written within {SCRAPE_SECONDS:.0f} s\n")
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
