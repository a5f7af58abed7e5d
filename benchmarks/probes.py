"""What probing costs: CPU at idle with many gateways. What silent stores do to edits and reviews, `blackhole` asks.

`python -m benchmarks probes [--gateways 50] [--seconds 40] [-o json]`. Redis and the MongoDB wire server are real, Qdrant is a
small HTTP stand-in in a process of its own. Every gateway has targets of its own, so that nothing is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Self

from aiohttp import web
from loguru import logger

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.datastores.checking import make_checker
from aigateway_operator.datastores.connecting import Connector
from aigateway_operator.datastores.prober import HealthProber
from aigateway_operator.plan.health import Probing, Schedule, StoreName, StoreTarget
from aigateway_operator.rules import RuleContext
from hack.stores import MongoServer, RedisServer

HOST: Final = "127.0.0.1"
CPU_GOAL: Final = 0.01
PERIOD_SECONDS: Final = Schedule().period_seconds


def main(arguments: list[str]) -> int:
    """Measure and print; returns 0 whether goals are met or not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks probes", description=__doc__)
    parser.add_argument("--gateways", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=40.0, help="how long each figure is measured (default: 40)")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parsed = parser.parse_args(arguments)
    if parsed.seconds < PERIOD_SECONDS:
        parser.error(f"--seconds {parsed.seconds:g}: each store is checked every {PERIOD_SECONDS:g} s; give at least that")
    logger.remove()
    figures = asyncio.run(_measure(parsed.gateways, parsed.seconds))
    if parsed.output == "json":
        print(json.dumps(figures, indent=2))
        return 0
    for name, value in figures.items():
        print(f"{name:<58} {value}")
    print(f"goal: CPU at idle <= {CPU_GOAL:.0%} of a core")
    return 0


async def _measure(gateways: int, seconds: float) -> dict[str, Any]:
    context = RuleContext("", allow_addresses=(ip_network("127.0.0.0/8"),))
    load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    figures: dict[str, Any] = {"gateways x stores": f"{gateways} x 3", "load average before (figures grow with it)": load}
    with RedisServer.start() as redis, MongoServer.start() as mongo, Qdrant() as qdrant:
        ports: dict[StoreName, int] = {"redis": redis.port, "mongodb": mongo.port, "qdrant": qdrant.port}
        for label, host in (("by address", HOST), ("by name", "localhost")):
            figures |= await _idle(context, gateways, seconds, ports, host, label)
    return figures


async def _idle(
    context: RuleContext, gateways: int, seconds: float, ports: dict[StoreName, int], host: str, label: str
) -> dict[str, Any]:
    async with _probing(context, gateways, ports, host) as prober:
        await asyncio.sleep(12)  # every target has been checked once, and jitter has spread them
        states = {one.outcome.state.value for one in prober.observations()}
        assert states == {"Up"}, states
        latency = statistics.median(one.outcome.latency_seconds for one in prober.observations())
        checks, cpu, wall = sum(prober.checks.values()), time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        count = sum(prober.checks.values()) - checks
    share = cpu / wall
    return {
        f"CPU at idle, {label}": f"{share:.2%} of a core, {cpu / count * 1e3:.2f} ms a check ({_met(share <= CPU_GOAL)})",
        f"checks a second, {label}": f"{count / wall:.1f}",
        f"median latency of a check, {label}": f"{latency * 1e3:.2f} ms",
        f"RSS, {label}": f"{_rss_megabytes():.0f} MB",
    }


@asynccontextmanager
async def _probing(context: RuleContext, gateways: int, ports: dict[StoreName, int], host: str) -> AsyncIterator[HealthProber]:
    connector = Connector(context)
    prober = HealthProber(partial(make_checker, connector=connector), lambda _: None, clock=time.monotonic)
    for number in range(gateways):
        # The database is read by MongoDB alone, and by none of these checks: it only makes each target another one.
        targets = {
            name: replace(StoreTarget(name, host, port, collection="knowledge_base"), database=f"gateway_{number}")
            for name, port in ports.items()
        }
        prober.watch(GatewayKey("ai", f"gateway-{number}"), Probing(Schedule(), targets))
    try:
        yield prober
    finally:
        await prober.stop()


class Qdrant:
    """The stand-in in a process of its own, so that its CPU is not ours. `port` is where it listens on 127.0.0.1."""

    port = 0

    def __enter__(self) -> Self:
        here, there = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve_qdrant, args=(there,), daemon=True)
        self._process.start()
        self.port = here.recv()
        return self

    def pause(self) -> None:
        """SIGSTOP: it accepts connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.pid is not None:
            os.kill(self._process.pid, number)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join(5)


def _serve_qdrant(pipe: Connection) -> None:
    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="all shards are ready")

    async def collection(_: web.Request) -> web.Response:
        return web.json_response({"result": {"status": "green"}, "status": "ok", "time": 0.0})

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/readyz", readyz)
        app.router.add_get("/collections/{name}", collection)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())


def _rss_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _met(fine: bool) -> str:
    return "met" if fine else "missed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
