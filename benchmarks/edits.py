"""One edit until pods run it: by API watch, Redis mirror and mounted volume, quiet and among 20 other edits a second.

Everything is real but the kubelet, whose stand-in is timed as one was measured: API server, operator, Redis, and two pods a
source that are processes on the pod library with ledgers. An edit counts when the last pod runs it. The floor beside each size
is a PUT of a ConfigMap as large as a shard. All of it shares the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from aigateway_operator.kube.resources import VIRTUAL_MODELS
from benchmarks.book import Book
from benchmarks.floors import puts
from benchmarks.ledgers import Ledgers
from benchmarks.scene import CLIENTS, SPACE, Scene, model_id, scene, shards_for
from benchmarks.suite import Plan
from benchmarks.usage import rss_mb
from hack.kubelet import REAL
from hack.stores import RedisServer
from tests.apiserver.world import World
from tests.delivery import SELECTOR, Fleet, Pod, api_reader, fleet

PODS: Final = 2
PAUSE_SECONDS: Final = 0.1
VOLUME_PAUSE_SECONDS: Final = 2.5
"""Between quiet edits that volumes bring: the delays of a real kubelet were measured 2–3 s after its last sync; sooner, its
next relist is waited for, and a burst is what is measured."""
ANY_MOMENT_SECONDS: Final = REAL.relist_seconds
"""Up to so long between edits that volumes bring in a burst, each drawn. Pods have an edit right after a relist, and the next
is a second later: edits that come at one time after it would all wait equally long, and never the longest."""
EDITS_A_SECOND: Final = 20
"""Of other models of the same gateway, in the busy case."""
SHARD_MODELS: Final = 10_000 // 64
ENTRY_BYTES: Final = 455
"""What a model of the benchmarks takes in its document: a shard of ten thousand has 69.4 KiB."""


@dataclass(frozen=True, slots=True)
class Size:
    """A size to measure. `padding`: bytes more in each model. `ways`: source → edits when quiet and when busy."""

    models: int
    shards: int
    ways: dict[str, tuple[int, int]]
    padding: int = 0

    @property
    def name(self) -> str:
        """How figures call it."""
        return f"edit.{self.models}"


def sizes(plan: Plan) -> tuple[Size, ...]:
    """Return what is measured. Ten models are made as large as a shard of ten thousand, so that the two compare."""
    few, many, slow = plan.choose((20, 40, 5), (60, 100, 40), (200, 300, 60))
    padding = (SHARD_MODELS - 10) * ENTRY_BYTES // 10
    ten = Size(10, 1, {"api": (many, few)}, padding)
    if plan.quick:
        return ten, Size(200, 8, {"api": (many, few), "redis": (many, 0), "volume": (slow, 0)})
    return (
        ten,
        Size(1_000, shards_for(1_000), {"api": (many, few), "redis": (many, 0), "volume": (slow, slow)}),
        Size(10_000, shards_for(10_000), {"api": (many, few), "redis": (many, 0)}),
    )


async def measure(book: Book, plan: Plan, folder: Path) -> None:
    """Measure every size on a control plane of its own."""
    for size in sizes(plan):
        await one(book, size, folder / str(size.models))
    small, large = (book.figures.get(f"edit.{count}.api.quiet.p50") for count in (10, 10_000))
    if small is not None and large is not None:
        book.note("edit.flatness", large.middle / small.middle, "×")


async def one(book: Book, size: Size, folder: Path) -> None:
    """Measure one size."""
    async with scene("operator", folder) as stage:
        world = World(stage.plane, SPACE)
        with ExitStack() as stack:
            redis = stack.enter_context(RedisServer.start())
            pods = stack.enter_context(fleet(world, folder / "pods", shards=size.shards, timing=REAL))
            delivery = {"podSelector": SELECTOR, "statusPort": pods.port, "redisNotify": True}
            storage = {"redis": {"host": redis.host, "port": redis.port}}
            await stage.furnish(size.shards, storage=storage, delivery=delivery)
            empty = await asyncio.to_thread(pods.start, "empty")
            base_mb = rss_mb(empty.workers[0])
            empty.delete()
            await fill(stage, size)
            await stage.rest()
            access = await asyncio.to_thread(api_reader, world, folder)
            environment: dict[str, dict[str, Any]] = {
                "volume": {},
                "api": {"SOURCES": "volume,api", **access},
                "redis": {"SOURCES": "volume,redis"},
            }
            for way, (quiet, busy) in size.ways.items():
                several = [await asyncio.to_thread(pods.start, f"{way}-{number}", **environment[way]) for number in range(PODS)]
                if way == "api" and size.models >= 1000:
                    growth = max(rss_mb(pod.workers[0]) for pod in several) - base_mb
                    book.note(f"{size.name}.pod.growth", growth * 1000 / size.models, "MB per 1,000")
                await by(book, stage, pods, several, size, way, quiet, busy)
                for pod in several:
                    pod.delete()
            shard = max(stage.seen.sizes.values())
            book.note(f"{size.name}.shard", shard / 1024, "KiB")
            book.times(f"{size.name}.floor", await puts(stage, shard, max(20, size.ways["api"][0] // 2)))


async def by(book: Book, stage: Scene, pods: Fleet, several: list[Pod], size: Size, way: str, quiet: int, busy: int) -> None:
    """Measure one way into pods, quiet and busy."""
    if way != "volume":
        for pod in several:
            pods.kubelet.hold(pod.name)  # on a cluster the kubelet's work is on other machines, and later
    pause, busy_pause, spread = PAUSE_SECONDS, PAUSE_SECONDS, 0.0
    if way == "volume":
        pause, busy_pause, spread = VOLUME_PAUSE_SECONDS, 0.0, ANY_MOMENT_SECONDS
    await asyncio.sleep(2)
    with Ledgers(several) as ledgers:
        written, loaded = await edits(stage, ledgers, size, f"{way}-quiet", quiet, pause)
        book.times(f"{size.name}.{way}.quiet", loaded)
        book.times(f"{size.name}.{way}.written", written)
        if busy:
            async with others(stage, size):
                _, loaded = await edits(stage, ledgers, size, f"{way}-busy", busy, busy_pause, spread)
            book.times(f"{size.name}.{way}.busy", loaded)


async def fill(stage: Scene, size: Size) -> None:
    """Create the models and wait until all are served."""
    told = stage.seen.expect_models(size.models)
    if not size.padding:
        await stage.create(size.models)
    numbers = iter(range(size.models) if size.padding else ())

    async def work() -> None:
        for number in numbers:
            await stage.create_one(number, backends=padded("start", size.padding))

    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    await asyncio.wait_for(told, 600)


def padded(model: str, padding: int) -> list[dict[str, Any]]:
    """Return the backends of a model with so many bytes more than it needs."""
    return [{"name": "small", "model": model, **({"parameters": {"user": "x" * padding}} if padding else {})}]


async def edits(
    stage: Scene, ledgers: Ledgers | None, size: Size, marker: str, count: int, pause: float, spread: float = 0.0
) -> tuple[list[float], list[float]]:
    """Edit one model after the other; return the seconds from each answer until it was written, and until all pods ran it.

    The next one comes after `pause`, and up to `spread` seconds later.
    """
    dice = Random(1)
    written: list[float] = []
    loaded: list[float] = []
    for number in range(count):
        text = f"{marker}-{number:05d}"
        told = stage.seen.expect(f'"{text}"')
        spec = {"backends": padded(text, size.padding), "current": "small"}
        await stage.client.patch(VIRTUAL_MODELS, SPACE, model_id(dice.randrange(size.models // 2)), {"spec": spec})
        answered = asyncio.get_running_loop().time()
        sight = await asyncio.wait_for(told, 120)
        written.append(max(0.0, sight.at - answered))
        if ledgers is not None:
            loaded.append(max(0.0, await ledgers.loaded(sight) - answered))
        await asyncio.sleep(pause + dice.random() * spread)
    return written, loaded


@asynccontextmanager
async def others(stage: Scene, size: Size) -> AsyncIterator[None]:
    """Edit other models of the gateway, so many a second, for as long as the context lasts."""

    async def work() -> None:
        loop, half = asyncio.get_running_loop(), max(1, size.models // 2)
        began, number = loop.time(), 0
        while True:
            chosen = size.models - 1 - number % half
            spec = {"backends": padded(f"other-{number}", size.padding), "current": "small"}
            await stage.client.patch(VIRTUAL_MODELS, SPACE, model_id(chosen), {"spec": spec})
            number += 1
            await asyncio.sleep(max(0.0, began + number / EDITS_A_SECOND - loop.time()))

    task = asyncio.create_task(work())
    try:
        await asyncio.sleep(1)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def main(arguments: list[str]) -> int:
    """Measure chosen sizes by themselves, for work on the operator; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks delivery", description=__doc__)
    parser.add_argument("--models", default="1000,10000", help="sizes to measure, with commas (default: 1000,10000)")
    parser.add_argument("--edits", type=int, default=150, help="edits that are timed by API and Redis (default: 150)")
    chosen = parser.parse_args(arguments)
    for count in (int(text) for text in chosen.models.split(",") if text):
        book = Book()
        ways = {"api": (chosen.edits, 0), "redis": (chosen.edits, 0), "volume": (max(5, chosen.edits // 4), 0)}
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(one(book, Size(count, shards_for(count), ways), Path(folder)))
        print("\n".join(f"{name:<40} {figure}" for name, figure in book.figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
