"""Several worker processes behind one socket: started, watched, replaced when they die, ended together.

The parent reads the configuration once, for the address, and answers no request; it serves the metrics of all workers, which
prometheus-client keeps in files. Called by the entry points. Workers are spawned, not forked: the parent has threads.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from loguru import logger
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from aigateway_config import ConfigReader
from aigateway_gateway.serve import address, configure_logs, listen, run_one, sources
from aigateway_gateway.settings import GatewaySettings

_METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_LOOK_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_GRACE_SECONDS: Final = 5.0


def run_gateway(settings: GatewaySettings) -> None:
    """Run the gateway with as many workers as the settings say, until SIGTERM or SIGINT. Raises CannotListen."""
    configure_logs(settings)
    if settings.workers == 1:
        run_one(settings)
        return
    with tempfile.TemporaryDirectory(prefix="aigateway-gateway-") as folder:
        metrics = Path(folder) / "metrics"
        metrics.mkdir()
        os.environ[_METRICS_FOLDER] = str(metrics)  # read by the workers when they import prometheus_client
        with listen(*asyncio.run(_address(settings))) as sock, _metrics_of_all(settings, metrics):
            _Workers(settings, sock, settings.workers_dir or Path(folder) / "workers", metrics).run()


async def _address(settings: GatewaySettings) -> tuple[str, int]:
    async with ConfigReader(sources(settings)) as reader:
        return await address(settings, reader)


@contextmanager
def _metrics_of_all(settings: GatewaySettings, folder: Path) -> Iterator[None]:
    if settings.metrics_port is None:
        yield
        return
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]  # prometheus-client has no types there
    server, thread = start_http_server(settings.metrics_port, settings.metrics_host, registry)
    logger.info("Metrics at http://{}:{}/metrics", settings.metrics_host, server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Workers:
    """The workers of one pod."""

    def __init__(self, settings: GatewaySettings, sock: socket.socket, folder: Path, metrics: Path) -> None:
        self._settings, self._sock, self._folder, self._metrics = settings, sock, folder, metrics
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[BaseProcess] = []
        self._signals = 0
        self._pause_seconds = 0.0

    def run(self) -> None:
        """Run until a signal comes, then end every worker as gracefully as it ends itself."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        previous = {sig: signal.signal(sig, self._noticed) for sig in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._processes = [self._start() for _ in range(self._settings.workers)]
            while not self._signals:
                wait([process.sentinel for process in self._processes], timeout=_LOOK_SECONDS)
                self._replace_dead()
        finally:
            self._end()
            for sig, handler in previous.items():
                signal.signal(sig, handler)

    def _noticed(self, _sig: int, _frame: object) -> None:
        self._signals += 1

    def _start(self) -> BaseProcess:
        process = self._context.Process(target=_work, args=(self._settings, self._sock, self._folder), name="gateway worker")
        process.start()
        return process

    def _replace_dead(self) -> None:
        dead = [process for process in self._processes if not process.is_alive()]
        for process in dead:
            mark_process_dead(process.pid, str(self._metrics))  # type: ignore[no-untyped-call]  # as above
            logger.bind(exit_code=process.exitcode).error("Worker {} died; starting another", process.pid)
        if dead:
            self._pause()
        for process in dead:
            self._processes[self._processes.index(process)] = self._start()
        if not dead:
            self._pause_seconds = max(0.0, self._pause_seconds - _LOOK_SECONDS / 10)

    def _pause(self) -> None:
        """Wait longer each time workers die in a row, so that a fault of every start does not use up the machine."""
        until = time.monotonic() + self._pause_seconds
        while time.monotonic() < until and not self._signals:
            time.sleep(0.1)
        self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause_seconds + 0.5)

    def _end(self) -> None:
        settings = self._settings
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + settings.drain_seconds + settings.shutdown_seconds + _GRACE_SECONDS
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _work(settings: GatewaySettings, sock: socket.socket, folder: Path) -> None:
    """Be one worker. Ctrl-C reaches the whole group; the parent tells workers when to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logs(settings)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    run_one(settings, sock, folder)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
