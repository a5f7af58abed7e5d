"""What nothing on this machine can be faster than, measured in the same run: the floors that figures are read against.

Empty creates a second by as many clients as bursts have, the same-size PUT until a watch shows it, fdatasync, and a Redis round
trip. Called by `__main__` first in each run, and the PUT by workloads beside each size.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from aigateway_operator.kube.resources import CONFIG_MAPS, JsonObject
from benchmarks.book import Book
from benchmarks.scene import CLIENTS, SPACE, Scene, scene
from benchmarks.suite import Plan
from hack.stores import RedisServer

FILE_BYTES: Final = 4096
PUTS: Final = 100


async def measure(book: Book, plan: Plan, folder: Path) -> None:
    """Note every floor."""
    for _ in range(plan.repeat):
        book.note("floor.fdatasync", fdatasync_ms(folder), "ms")
    await _redis(book, plan.repeat)
    async with scene("nobody", folder / "floors") as stage:
        creates = 200 if plan.quick else 1000
        for number in range(plan.repeat):
            book.note("floor.creates", await _creates(stage, number * creates, creates), "1/s")
        for kilobytes in (1, 64):
            book.times(f"floor.put.{kilobytes}KiB", await puts(stage, kilobytes * 1024, PUTS))


def fdatasync_ms(folder: Path, count: int = 50) -> float:
    """Return the milliseconds of writing a page and having it on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        began = time.perf_counter()
        for _ in range(count):
            file.write(b"x" * FILE_BYTES)
            os.fdatasync(file.fileno())
    return (time.perf_counter() - began) * 1000 / count


async def _redis(book: Book, repeat: int, count: int = 500) -> None:
    with RedisServer.start() as server:
        client = Redis(host=server.host, port=server.port)
        try:
            for _ in range(repeat):
                began = time.perf_counter()
                for _ in range(count):
                    await client.ping()
                book.note("floor.redis", (time.perf_counter() - began) * 1000 / count, "ms")
        finally:
            await client.aclose()


async def _creates(stage: Scene, first: int, count: int) -> float:
    """Return how many ConfigMaps without content are created a second."""
    numbers = iter(range(first, first + count))

    async def work() -> None:
        for number in numbers:
            await stage.client.create(CONFIG_MAPS, SPACE, {"metadata": {"name": f"empty-{number:05d}"}})

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    return count / (time.perf_counter() - began)


async def puts(stage: Scene, size: int, count: int) -> list[float]:
    """Return the seconds of each PUT of a ConfigMap of so many bytes, from just before it is sent until a watch shows it."""
    name = f"control-{size}"
    body: JsonObject = {"metadata": {"name": name}, "data": {"config.yml": "x" * size, "marker": "start"}}
    await stage.client.create(CONFIG_MAPS, SPACE, body)
    times: list[float] = []
    for number in range(count):
        marker = f"{name}-{number:05d}"
        told = stage.seen.expect(marker)
        body["data"]["marker"] = marker
        sent = time.monotonic()
        await stage.client.replace(CONFIG_MAPS, SPACE, name, body)
        times.append((await asyncio.wait_for(told, 60)).at - sent)
        await asyncio.sleep(0.05)
    return times
