"""The Redis mirror: from the operator's write to the swap in a pod, with the bare round trip of the same bytes beside it.

Writer, reader and a real Redis; planning is not in the figure, and neither is the API server (`benchmarks.delivery` has both).
The control is SET, PUBLISH, message, GET of a value of the document's size by two plain clients in the same run, edit by edit
in turns: what no mirror on this Redis can be faster than. Called by `__main__`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass
from typing import Final

from loguru import logger
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from aigateway_config.mirror import document_key
from aigateway_operator.plan.mirroring import MirrorTarget
from aigateway_operator.plan.outcome import WrittenDocument
from aigateway_operator.plan.planner import plan
from aigateway_operator.plan.result import Plan
from benchmarks.spread import Spread
from hack.stores import RedisServer
from tests.mirror.pair import KEY, Gateway, Operator, Pod, client, mirroring, reading

GOAL: Final = (
    "goal, with planning and the API server's write: p50 10 ms and p99 30 ms at 1,000 models in 8 shards, 15 and 50 at 10,000"
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one size gave; `swap` from the hand-over of a target to the swap, `floor` the control."""

    models: int
    shards: int
    document_bytes: int
    edits: int
    swap: Spread
    floor: Spread
    catch_up_ms: float
    restart_writes: int

    def as_text(self) -> str:
        """Return the figures for people."""
        return "\n".join(
            [
                f"{self.models} models, {self.shards} shard(s), {self.document_bytes} bytes a document, {self.edits} edits",
                f"  write → swap in the pod    {self.swap}",
                f"  control: SET+PUBLISH → GET {self.floor}   (ratio of p50: {self.swap.p50 / max(self.floor.p50, 0.1):.1f})",
                f"  a writer that starts over  {self.catch_up_ms:.0f} ms until it knows that, {self.restart_writes} writes",
            ]
        )


async def measure(server: RedisServer, models: int, shards: int, edits: int) -> Figures:
    """Measure one size."""
    names = [f"model-{number:05d}" for number in range(models)]
    gateway = _Gateway(server, *names, shards=shards)
    target = gateway.target()
    swaps: list[float] = []
    floors: list[float] = []
    async with client(server) as redis:
        await redis.flushall()
        async with mirroring() as operator, reading(gateway, ping_seconds=5) as pod, client(server) as other:
            subscription = other.pubsub()
            await subscription.subscribe("floor")
            await subscription.get_message(timeout=5)
            operator.mirrors.set_target(KEY, target)
            await operator.holds_everything(60)
            await pod.connected(60)
            first = [target := gateway.flip("big", name) for name in names[:7]]
            await _one_swap(operator, pod, first[-1])
            for number in range(edits):
                target = gateway.flip("small" if number // 7 % 2 == 0 else "big", names[number % 7])
                swaps.append(await _one_swap(operator, pod, target))
                floors.append(await _one_round_trip(redis, subscription, _changed(target).content))
        began = time.perf_counter()
        async with mirroring() as again:
            again.mirrors.set_target(KEY, target)
            await again.holds_everything(60)
            caught_up, writes = time.perf_counter() - began, again.mirrors.counts["documents"]
        assert await redis.exists(document_key(str(KEY), "config.yml"))
    size = len(_changed(target).content)
    return Figures(models, shards, size, edits, Spread.of(swaps), Spread.of(floors), caught_up * 1000, writes)


class _Gateway(Gateway):
    """Plans once where tests plan twice and compare."""

    def plan(self) -> Plan:
        return plan(self.snapshot(), self.memo, self.now)


def _changed(target: MirrorTarget) -> WrittenDocument:
    """Return the newest document of a target."""
    return max((document for document in target.documents.values() if document), key=lambda document: document.revision)


async def _one_swap(operator: Operator, pod: Pod, target: MirrorTarget) -> float:
    """Return the seconds from the hand-over of a target until it is in force."""
    wanted = _changed(target).revision
    pod.seen.clear()
    began = time.monotonic()
    operator.mirrors.set_target(KEY, target)
    await pod.runs(wanted, within_seconds=10)
    return next(at for at, configuration in pod.seen if configuration.revision == wanted) - began


async def _one_round_trip(redis: Redis, subscription: PubSub, content: bytes) -> float:
    """Return the seconds from a plain SET and PUBLISH until the subscriber has read the value."""

    async def receive() -> float:
        while (await subscription.get_message(ignore_subscribe_messages=True, timeout=5)) is None:
            pass
        assert await redis.get("floor") == content
        return time.perf_counter()

    receiving = asyncio.create_task(receive())
    await asyncio.sleep(0)
    began = time.perf_counter()
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.set("floor", content)
        pipeline.publish("floor", "x")
        await pipeline.execute()
    return await receiving - began


def main(arguments: list[str]) -> int:
    """Measure each size on a Redis of its own; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks mirror", description=__doc__)
    parser.add_argument("--models", default="10,1000,10000", help="sizes to measure, with commas (default: 10,1000,10000)")
    parser.add_argument("--edits", type=int, default=200, help="edits that are timed (default: 200)")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    chosen = parser.parse_args(arguments)
    logger.remove()
    results: list[Figures] = []
    for count in (int(text) for text in chosen.models.split(",")):
        with RedisServer.start() as server:
            shards = 1 if count < 1000 else 8 if count < 10_000 else 64
            results.append(asyncio.run(measure(server, count, shards, chosen.edits)))
    if chosen.output == "json":
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        print("\n".join([*(result.as_text() for result in results), GOAL]))
    return 0
