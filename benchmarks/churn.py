"""No growth: creates, edits, deletions and Secret changes without pause, while memory, descriptors and tasks are watched.

An hour in which one thing changes a second is 3,600 changes; the default run makes as many in 45 seconds. The checker looks at
the end. Series go to the plots of the page.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from aigateway_operator.kube.resources import GATEWAY_CONFIGS, SECRETS
from benchmarks.book import Book
from benchmarks.checker import NotCounted
from benchmarks.life import level
from benchmarks.scene import CLIENTS, SPACE, Scene, scene, shards_for
from benchmarks.suite import Plan
from benchmarks.usage import cpu_seconds, descriptors, rss_mb

WARM_SECONDS = 5
CHANGES_A_SECOND = 80
"""3,600 in 45 seconds: what an hour has at one a second."""


async def measure(book: Book, plan: Plan, folder: Path) -> None:
    """Change things for a time on one control plane."""
    seconds, models = plan.choose((15, 100), (45, 500), (600, 1000))
    async with scene("operator", folder / "churn") as stage:
        await stage.furnish(shards_for(models))
        told = stage.seen.expect_models(models)
        await stage.create(models)
        await asyncio.wait_for(told, 120)
        await stage.rest()
        mark, etcd, used = stage.mark(), stage.etcd_bytes(), cpu_seconds(stage.subject.pid)
        changes = Changes(stage, models)
        watch = asyncio.create_task(watched(stage, book))
        await changes.run(seconds)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await stage.rest()
        cpu = cpu_seconds(stage.subject.pid) - used
        book.note("churn.changes", changes.made, "changes")
        book.note("churn.rate", changes.made / seconds, "1/s")
        book.note("churn.cpu", cpu * 1000 / changes.made, "ms per change")
        book.note("churn.requests", sum(stage.requests(mark).values()) / changes.made, "per change")
        book.note("churn.etcd", (stage.etcd_bytes() - etcd) / changes.made / 1000, "kB per change")
        for what in ("rss", "descriptors", "tasks"):
            unit = "MB" if what == "rss" else ""
            book.note(f"churn.{what}.growth", level(book.series[f"churn.{what}"]), unit)
        try:
            await stage.settled()
        except NotCounted as error:
            book.fault("churn", str(error))


async def watched(stage: Scene, book: Book) -> None:
    """Sample the operator every second until cancelled."""
    began = time.monotonic()
    while True:
        at, pid = round(time.monotonic() - began, 1), stage.subject.pid
        values = {"rss": rss_mb(pid), "descriptors": descriptors(pid), "tasks": await stage.subject.tasks()}
        for what, value in values.items():
            book.series.setdefault(f"churn.{what}", []).append((at, round(value, 1)))
        await asyncio.sleep(1)


class Changes:
    """What a busy namespace sees. `made`: changes so far. Of twenty: 12 edits, 3 creates, 3 deletions, a Secret, a setting."""

    def __init__(self, stage: Scene, models: int) -> None:
        self._stage, self._models = stage, models
        self._alive, self._next = list(range(models)), models
        self._dice = Random(1)
        self.made = 0

    async def run(self, seconds: float) -> None:
        """Change things at a steady rate for so long; each client waits for its answers."""
        begins = self._beats(seconds)
        await asyncio.gather(*(self._client(begins) for _ in range(CLIENTS)))

    def _beats(self, seconds: float) -> Iterator[float]:
        began = time.monotonic()
        return (began + number / CHANGES_A_SECOND for number in range(int(seconds * CHANGES_A_SECOND)))

    async def _client(self, begins: Iterator[float]) -> None:
        for begin in begins:
            await asyncio.sleep(max(0.0, begin - time.monotonic()))
            await self._change()
            self.made += 1

    async def _change(self) -> None:
        client, chance = self._stage.client, self._dice.randrange(20)
        if chance < 12:
            await self._stage.edit(self._dice.choice(self._alive), f"edited-{self.made}")
        elif chance < 15:
            self._next += 1
            number = self._next - 1
            await self._stage.create_one(number)
            self._alive.append(number)
        elif chance < 18:
            number = self._alive.pop(self._dice.randrange(len(self._alive)))
            await self._stage.delete_one(number)
        elif chance == 18:
            value = base64.b64encode(f"value-{self.made}".encode()).decode()
            await client.patch(SECRETS, SPACE, "keys", {"data": {"proxy": value}})
        else:
            await client.patch(GATEWAY_CONFIGS, SPACE, "main", {"spec": {"app": {"port": 8000 + self.made % 100}}})
