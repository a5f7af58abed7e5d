"""What stores that answer nothing do to edits and reviews: `python -m benchmarks blackhole [--gateways 50] [--pairs 8]`.

One operator process with the webhook in it, on a real control plane; gateways with a MongoDB, a Redis and a Qdrant each. The
MongoDB wire server and Redis are real, Qdrant is an HTTP stand-in; they go silent when their processes are stopped (SIGSTOP):
connections are taken and nothing is answered. Equal targets are probed once, so all gateways share one probe of Redis.

Spells with answering and with silent stores take turns in the order a b b a, so that what drifts meets both alike; each is
timed after the stores have been told as what they are. The ratio of the medians is given with the interval that holds nine of
ten when pairs are drawn again: only where all of it lies on one side of the goal is anything settled.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import ssl
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import orjson

from aigateway_operator.kube.resources import GATEWAY_CONFIGS
from benchmarks.admission import review_body
from benchmarks.audit import GOAL, Round, interval, times
from benchmarks.edits import PAUSE_SECONDS, Size, edits, fill
from benchmarks.many import name_of
from benchmarks.probes import Qdrant
from benchmarks.scene import SPACE, Scene, scene
from benchmarks.usage import cpu_seconds
from hack.process import free_ports
from hack.stores import MongoServer, RedisServer
from tests.apiserver.world import gateway_config

MODELS: Final = 100
EDITS: Final = 20
REVIEWS: Final = 200
REVIEW_PAUSE_SECONDS: Final = 0.005
SETTLE_SECONDS: Final = 32.0
"""Three periods of ten seconds and a time-out: by then every store is told as what it is, and nothing is written any more."""


def main(arguments: list[str]) -> int:
    """Measure and print; returns 0 whether the goal is met or not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks blackhole", description=__doc__)
    parser.add_argument("--gateways", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=8, help="pairs of spells (default: 8, about seven minutes)")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(options.gateways, options.pairs, Path(folder)))
    print(json.dumps(figures, indent=2) if options.output == "json" else "\n".join(f"{k:<52} {v}" for k, v in figures.items()))
    return 0


async def measure(gateways: int, pairs: int, folder: Path) -> dict[str, str]:
    """Measure on a control plane of its own; returns lines for people."""
    port = free_ports(1)[0]
    webhook = {"with_webhook": "true", "webhook_host": "127.0.0.1", "webhook_port": str(port), "webhook_names": "127.0.0.1"}
    answering: tuple[list[Round], list[Round]] = [], []
    silent: tuple[list[Round], list[Round]] = [], []
    levels: list[int] = []
    with MongoServer.start() as mongo, RedisServer.start() as redis, Qdrant() as qdrant:
        async with scene("operator", folder, **webhook) as stage:
            await stage.furnish(1)
            for number in range(gateways):
                storage = {
                    "mongodb": {"host": mongo.host, "port": mongo.port, "database": f"gateway_{number}"},
                    "redis": {"host": redis.host, "port": redis.port},
                    "qdrant": {"host": "127.0.0.1", "port": qdrant.port, "collection": f"gateway_{number}"},
                }
                await stage.client.create(GATEWAY_CONFIGS, SPACE, gateway_config(name_of(number), storage=storage))
            size = Size(MODELS, 1, {})
            await fill(stage, size)
            await stage.rest()
            paused = False
            try:
                for number in range(2 * pairs):
                    wanted = number % 4 in (1, 2)
                    if wanted != paused or number == 0:
                        for store in (mongo, redis, qdrant):
                            (store.pause if wanted else store.resume)()
                        paused = wanted
                        await asyncio.sleep(SETTLE_SECONDS)
                    into = silent if paused else answering
                    into[0].append(await _edits(stage, size, f"spell-{number}"))
                    into[1].append(await asyncio.to_thread(_reviews, port, stage.subject.pid))
                    if paused:
                        levels.append(len(os.listdir(f"/proc/{stage.subject.pid}/fd")))  # noqa: PTH208
            finally:
                for store in (mongo, redis, qdrant):
                    store.resume()
    return {
        "gateways, pairs": f"{gateways}, {pairs}; load {os.getloadavg()[0]:.1f}",
        **_compared("edit → ConfigMap seen", answering[0], silent[0]),
        **_compared("review", answering[1], silent[1]),
        "open files while silent, checks under way included": ", ".join(map(str, levels)),
    }


async def _edits(stage: Scene, size: Size, name: str) -> Round:
    before = cpu_seconds(stage.subject.pid)
    written, _ = await edits(stage, None, size, name, EDITS, PAUSE_SECONDS)
    return Round(written, (cpu_seconds(stage.subject.pid) - before) / EDITS)


def _reviews(port: int, pid: int) -> Round:
    """Time reviews over one connection. The certificate is the operator's own, made a moment ago: not looked at here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    body, before, found = review_body(), cpu_seconds(pid), list[float]()
    for _ in range(REVIEWS):
        time.sleep(REVIEW_PAUSE_SECONDS)
        began = time.perf_counter()
        connection.request("POST", "/validate", body, {"Content-Type": "application/json"})
        answer = orjson.loads(connection.getresponse().read())
        found.append(time.perf_counter() - began)
        assert answer["response"]["allowed"], answer
    connection.close()
    return Round(found, (cpu_seconds(pid) - before) / REVIEWS)


def _compared(what: str, answering: Sequence[Round], silent: Sequence[Round]) -> dict[str, str]:
    least, most = interval(answering, silent)
    verdict = "not settled" if least <= GOAL < most else "settled: met" if most <= GOAL else "settled: MISSED"
    before, after = median(times(answering)), median(times(silent))
    return {
        f"{what}, stores answering, median": f"{before * 1e3:.2f} ms",
        f"{what}, stores silent, median": f"{after * 1e3:.2f} ms",
        f"{what}, silent / answering": f"{after / before:.3f}, {least:.3f} to {most:.3f} (goal {GOAL}: {verdict})",
    }
