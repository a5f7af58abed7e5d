"""What befalls a large gateway: filled, a shared Secret rotated, applied again, restarted, its leader killed, emptied.

One control plane and one operator after the other; every figure is of shipped defaults. The checker looks after each stage that
may have broken something. Times end when a watch shows the effect.
"""

from __future__ import annotations

import asyncio
import base64
import statistics
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from aigateway_operator.kube.resources import SECRETS, VIRTUAL_MODELS
from benchmarks.book import Book
from benchmarks.bursts import burst, wall_ratio
from benchmarks.checker import NotCounted
from benchmarks.scene import CLIENTS, SPACE, Scene, model_id, scene, shards_for
from benchmarks.subjects import Running
from benchmarks.suite import Plan
from benchmarks.usage import cpu_seconds, peak_mb, rss_mb
from tests.apiserver.world import virtual_model

WAIT_SECONDS = 120


async def measure(book: Book, plan: Plan, folder: Path) -> None:
    """Run the whole life, once; restarts and fail-overs are repeated in it."""
    count = plan.choose(200, 10_000, 10_000)
    again = plan.choose(1, 1, plan.repeat)
    async with scene("operator", folder / "life") as stage:
        await stage.furnish(shards_for(count))
        await stage.rest()
        try:
            await burst(book, stage, count)
            wall_ratio(book, count)
            await rotation(book, stage, count)
            await applied_again(book, stage, min(count, 200))
            for _ in range(again):
                await cold_start(book, stage, count)
            for number in range(again):
                await fail_over(book, stage, count, number)
            await stage.settled()
            await emptied(book, stage, count)
        except NotCounted as error:
            book.fault("life", str(error))


async def rotation(book: Book, stage: Scene, count: int) -> None:
    """Change the Secret that every model refers to, until the last credentials of pods have the new value."""
    value = base64.b64encode(f"rotated-{time.monotonic()}".encode()).decode()
    changed, wanted = set[str](), 1 + (shards_for(count) if shards_for(count) > 1 else 0)
    # With shards, `main-credentials` has only what the gateway itself refers to, which is nothing here.
    wanted -= shards_for(count) > 1
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def follow() -> None:
        async for _kind, obj in stage.client.watch(SECRETS, SPACE, resource_version="0"):
            name = obj["metadata"].get("name", "")
            if name.startswith("main-credentials") and (obj.get("data") or {}).get("keys.proxy") == value:
                changed.add(name)
                if len(changed) == wanted and not done.done():
                    done.set_result(time.monotonic())

    follower, mark = asyncio.create_task(follow()), stage.mark()
    try:
        await stage.client.patch(SECRETS, SPACE, "keys", {"data": {"proxy": value}})
        answered = time.monotonic()
        at = await asyncio.wait_for(done, WAIT_SECONDS)
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
    await stage.rest()
    book.note(f"rotation.{count}", at - answered, "s")
    book.note(f"rotation.{count}.writes", stage.writes(mark), "writes")


async def applied_again(book: Book, stage: Scene, count: int) -> None:
    """Apply models as they are: nothing may be written."""
    mark = stage.mark()
    for number in range(count):
        body = {"spec": virtual_model(model_id(number))["spec"]}
        await stage.client.patch(VIRTUAL_MODELS, SPACE, model_id(number), body)
    await stage.rest()
    book.note("noop.writes", stage.writes(mark), "writes")


async def cold_start(book: Book, stage: Scene, count: int) -> None:
    """Start with nothing changed: until it leads, has listed everything and ended its first round; then count its writes."""
    await asyncio.to_thread(stage.subject.stop)
    mark, began = stage.mark(), time.monotonic()
    subject = stage.start("operator")
    await at_work(subject)
    book.note(f"cold.{count}.seconds", time.monotonic() - began, "s")
    await stage.rest()
    book.note(f"cold.{count}.cpu", cpu_seconds(subject.pid), "s")
    book.note(f"cold.{count}.writes", stage.writes(mark), "writes")
    book.note(f"cold.{count}.peak", peak_mb(subject.pid), "MB")
    book.note(f"cold.{count}.rss", rss_mb(subject.pid), "MB")
    rest = book.figures.get("rest.operator.rss")
    if rest is not None and count >= 1000:
        book.note(f"cold.{count}.growth", (rss_mb(subject.pid) - rest.middle) * 1000 / count, "MB per 1,000")


async def fail_over(book: Book, stage: Scene, count: int, number: int) -> None:
    """Kill the leader beside a standby and edit at once, until the edit is written."""
    leader = stage.subject
    standby = stage.start("operator")
    await listed(standby)
    await stage.rest()
    leader.kill()
    began, marker = time.monotonic(), f"after-{number}"
    told = stage.seen.expect(f'"{marker}"')
    await stage.edit(number, marker)
    sight = await asyncio.wait_for(told, WAIT_SECONDS)
    book.note(f"failover.{count}", sight.at - began, "s")


async def emptied(book: Book, stage: Scene, count: int) -> None:
    """Delete every model by several clients, until no document has one."""
    mark, told, numbers = stage.mark(), stage.seen.expect_models(0), iter(range(count))

    async def work() -> None:
        for number in numbers:
            await stage.delete_one(number)

    began = time.monotonic()
    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    answered = time.monotonic()
    at = await asyncio.wait_for(told, WAIT_SECONDS)
    await stage.rest()
    book.note(f"delete.{count}.deleted", answered - began, "s")
    book.note(f"delete.{count}.lag", max(0.0, at - answered), "s")
    book.note(f"delete.{count}.requests", sum(stage.requests(mark).values()) / count, "per object")
    book.note(f"delete.{count}.rss", rss_mb(stage.subject.pid), "MB")


async def listed(subject: Running) -> None:
    """Wait until it is ready: everything has been listed."""
    await _until(subject, "readyz", lambda _text: True)


async def at_work(subject: Running) -> None:
    """Wait until it is ready, leads, and has ended a round."""
    await listed(subject)

    def rounds(text: str) -> bool:
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return (
            float(lines.get("aigateway_leader", 0)) == 1 and float(lines.get("aigateway_reconcile_round_seconds_count", 0)) > 0
        )

    await _until(subject, "metrics", rounds)


async def _until(subject: Running, path: str, holds: Any) -> None:
    url = f"http://127.0.0.1:{subject.metrics}/{path}"
    async with asyncio.timeout(WAIT_SECONDS), aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientError, OSError):
                async with session.get(url) as answer:
                    if answer.status == 200 and holds(await answer.text()):
                        return
            subject.check_alive()
            await asyncio.sleep(0.05)


def level(points: list[tuple[float, float]]) -> float:
    """Return by how much the last quarter of a series lies above its second: the first is for warming up."""
    quarter = max(1, len(points) // 4)
    early, late = points[quarter : 2 * quarter] or points[:1], points[-quarter:]
    return statistics.median(value for _, value in late) - statistics.median(value for _, value in early)
