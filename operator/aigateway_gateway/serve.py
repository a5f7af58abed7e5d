"""Runs the gateway: one worker in this process, and what it needs around it. Composition root of this package.

Several workers are in `workers`. Called by `aigateway gateway`, by `python -m aigateway_gateway`, and by `aigateway local
--serve`; nothing else of this package knows uvicorn, settings from the environment, or where configurations come from.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from loguru import logger
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, start_http_server

from aigateway_config import ApiWatch, ConfigReader, Configuration, MountedVolume, PlainFile, RedisMirror
from aigateway_config.errors import NotReady
from aigateway_config.metrics import ConfigCollector
from aigateway_config.source import Source
from aigateway_config.status import StatusReporter
from aigateway_config.subscribers import Callback
from aigateway_gateway.app import create_app
from aigateway_gateway.metrics import Metrics
from aigateway_gateway.records import Records
from aigateway_gateway.settings import GatewaySettings
from aigateway_gateway.state import Gateway
from aigateway_logs import configure

FALLBACK: Final = ("0.0.0.0", 8000)  # noqa: S104 - what GatewayConfig's own defaults say
_BACKLOG: Final = 2048
_NEVER_BELOW_WARNING: Final = (
    *("httpx", "httpcore", "hpack", "uvicorn.access", "aiohttp", "redis", "qdrant_client"),
    *("asyncio", "watchfiles"),
)
"""Libraries whose finer logs hold headers, and with them keys; and two that have a line for every turn of a loop."""


class CannotListen(Exception):
    """The address cannot be had; the text says which and what to do."""


def configure_logs(settings: GatewaySettings, *, debug: bool = False) -> None:
    """Send logs to standard error; `debug` (spec.app.debug) makes them verbose."""
    configure("DEBUG" if debug else settings.log_level, settings.log_format)
    quieten()


def quieten() -> None:
    """Keep out what some libraries say below WARNING, whatever has been configured."""
    for name in _NEVER_BELOW_WARNING:
        logging.getLogger(name).setLevel(logging.WARNING)


def sources(settings: GatewaySettings) -> Sequence[Source]:
    """Return where configurations come from.

    The volume decides; the others bring newer documents earlier. The mirror rests as long as the configuration in force names
    no Redis or the credentials hold no key of the mirror, so it costs nothing where `redisNotify` is off.
    """
    if settings.config_file is not None:
        return [PlainFile(settings.config_file)]
    found: list[Source] = [
        MountedVolume(settings.config_dir, settings.credentials_dir),
        RedisMirror(channel=settings.redis_channel, allowed=settings.allow_addresses),
    ]
    return found if settings.api_watch is None else [*found, ApiWatch(settings.api_watch)]


async def address(settings: GatewaySettings, reader: ConfigReader) -> tuple[str, int]:
    """Return host and port to listen on; waits for the first configuration where settings leave them open."""
    host, port = settings.host, settings.port
    if host is not None and port is not None:
        return host, port
    missing: NotReady | None = None
    try:
        app = (await reader.wait_ready(settings.wait_seconds)).app
        named = app.host, app.port
    except NotReady as error:
        named, missing = FALLBACK, error
    chosen = named[0] if host is None else host, named[1] if port is None else port
    if missing is not None:
        logger.warning("No configuration within {:g} s, so {}:{} is taken. {}", settings.wait_seconds, *chosen, missing)
    return chosen


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; `::` takes IPv4 too. Raises CannotListen."""
    try:
        six = ":" in host
        both = six and ip_address(host).is_unspecified
        family = socket.AF_INET6 if six else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CannotListen(
            f"The gateway cannot listen on {host}:{port} ({reason}). "
            "Set AIGATEWAY_GATEWAY_HOST and AIGATEWAY_GATEWAY_PORT; port 0 takes any free one."
        ) from error


class _Server(uvicorn.Server):
    """Drains before it stops: a Service goes on sending requests for a moment after SIGTERM."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self.up.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; SIGINT, or a second signal, stops at once, a third even cuts off what runs."""
        del frame
        if self.should_exit:
            self.force_exit = True
        elif self._gateway.draining or sig == signal.SIGINT:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Answer for some time yet, but not ready any more, then stop. In the event loop."""
        if not self._gateway.draining:
            self._gateway.draining = True
            self._loop.call_later(self._gateway.settings.drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


async def serve(
    settings: GatewaySettings,
    *,
    sock: socket.socket | None = None,
    workers_folder: Path | None = None,
    started: Callable[[str, int], None] = lambda _host, _port: None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`. Raises CannotListen.

    `sock`: None, or a socket that listens already. `workers_folder`: shared with the other workers of the pod; None: this is
    the only one. `started` is called with the address once requests are answered.
    """
    alone = workers_folder is None
    async with _status(settings, workers_folder) as status, ConfigReader(sources(settings), services=[status]) as reader:
        if sock is None:
            sock = listen(*await address(settings, reader))
        else:
            # The socket brings callers as soon as we accept: other workers have made the pod ready long ago.
            with suppress(NotReady):
                await reader.wait_ready(settings.wait_seconds)
        registry = CollectorRegistry()
        gateway = Gateway(settings, reader, Metrics(registry))
        records = Records(settings, quieten) if Records.wanted(settings) else None
        gateway.access.records = records
        unsubscribe = reader.subscribe(_follow_debug(settings) if records is None else records.follow)
        server = _Server(_uvicorn_config(settings, gateway), gateway)
        async with _metrics(settings, registry, reader, alone=alone), _noticing(server, sock, started, stop):
            try:
                await server.serve(sockets=[sock])
            finally:
                unsubscribe()
                sock.close()
                if records is not None:
                    await records.stop()


@asynccontextmanager
async def _status(settings: GatewaySettings, workers_folder: Path | None) -> AsyncIterator[StatusReporter]:
    """Yield what answers on the status port. A worker that is alone has a folder of its own.

    By default the library takes one that all processes of this user share by port: right for the workers of a container,
    wrong for two gateways on one machine, each of which would answer for both.
    """
    port, host = settings.status_port, settings.status_host
    if workers_folder is not None or settings.workers_dir is not None:
        yield StatusReporter(port, host=host, workers_dir=workers_folder or settings.workers_dir)
        return
    with tempfile.TemporaryDirectory(prefix="aigateway-worker-") as folder:
        yield StatusReporter(port, host=host, workers_dir=folder)


def _follow_debug(settings: GatewaySettings) -> Callback:
    async def follow(new: Configuration, old: Configuration | None) -> None:
        if old is None or old.app.debug != new.app.debug:
            configure_logs(settings, debug=new.app.debug)

    return follow


def _uvicorn_config(settings: GatewaySettings, gateway: Gateway) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(gateway),
        http="auto",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )


@asynccontextmanager
async def _metrics(
    settings: GatewaySettings, registry: CollectorRegistry, reader: ConfigReader, *, alone: bool
) -> AsyncIterator[None]:
    """Serve /metrics in a thread, so that a scrape never waits for requests; with several workers `workers` does it."""
    if settings.metrics_port is None or not alone:
        yield
        return
    for collector in (ConfigCollector(reader), PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    server, thread = start_http_server(settings.metrics_port, settings.metrics_host, registry)
    logger.info("Metrics at http://{}:{}/metrics", settings.metrics_host, server.server_port)
    try:
        yield
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()


@asynccontextmanager
async def _noticing(
    server: _Server, sock: socket.socket, started: Callable[[str, int], None], stop: asyncio.Event | None
) -> AsyncIterator[None]:
    """Say when the server is up, and stop it when `stop` is set."""

    async def notice() -> None:
        await server.up.wait()
        host, port = sock.getsockname()[:2]
        logger.info("The gateway serves at http://{}:{}", f"[{host}]" if ":" in host else host, port)
        started(host, port)
        if stop is not None:
            await stop.wait()
            server.drain()

    task = asyncio.create_task(notice())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def run_one(settings: GatewaySettings, sock: socket.socket | None = None, workers_folder: Path | None = None) -> None:
    """Run one worker in this thread, on uvloop where there is one. Raises CannotListen."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(settings, sock=sock, workers_folder=workers_folder))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop  # not on every platform
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop
