"""What the pod library costs: memory per 1,000 models, reload of one shard among many, latency of a swap, idle CPU.

Run as `python -m benchmarks reader`. Documents are rendered by the operator's own code; nothing but folders is needed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from aigateway_config.configuration import Configuration
from aigateway_config.reader import ConfigReader
from aigateway_config.state import State
from aigateway_config.volume import FolderReading, MountedVolume
from tests.unit.config.writer import Writer, keyed_backend, make_mount, swap

GOALS = "goals: 3 MB a 1,000 models; one shard of 64 at 10,000 models in 20 ms; swap to subscriber in 20 ms"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def resident_bytes() -> int:
    """Return the resident set of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def written(count: int, shards: int) -> Writer:
    """Return a writer with that many models, each with two backends, keys of its own and parameters."""
    writer = Writer(shards=shards)
    for number in range(count):
        writer.values[f"keys-{number}.proxy"] = f"caller-{number:040d}"
        writer.values[f"up-{number}.api-key"] = f"sk-{number:040d}"
        writer.put(
            f"team-{number % 37}/model-{number:05d}",
            proxyKeySecretRef={"name": f"keys-{number}", "key": "proxy"},
            backends=[
                keyed_backend(f"up-{number}", parameters={"temperature": 0.2, "max_tokens": 4096}),
                keyed_backend(f"up-{number}", "big", model="gpt-4o", baseUrl="https://eu.example.com/v1"),
            ],
        )
    return writer.write()


def reload_times(writer: Writer, folder: Path, edits: int) -> tuple[list[float], float, float]:
    """Return milliseconds of each reload of one shard, of the first load, and megabytes per 1,000 models."""
    mount = make_mount(folder)
    mount.show(writer)
    state = State()
    credentials = FolderReading(mount.credentials)

    def take() -> float:
        started = time.perf_counter()
        reading = FolderReading(mount.config)
        reading.credentials = credentials  # the same as long as its `..data` stays, as in MountedVolume
        outcome = state.take("volume", reading, NOW)
        assert outcome.faults == (), outcome.faults[:3]
        return (time.perf_counter() - started) * 1000

    gc.collect()
    before = resident_bytes()
    first = take()
    gc.collect()
    memory = (resident_bytes() - before) / 1e6 / (len(writer.models) / 1000)
    found = []
    name = next(iter(writer.models))
    for number in range(edits):
        writer.models[name]["current"] = ("big", "small")[number % 2]
        swap(mount.config, writer.write().files)
        found.append(take())
    return found, first, memory


async def latencies(folder: Path, swaps: int, idle_seconds: float) -> tuple[list[float], float]:
    """Return milliseconds from a swap to a subscriber, and the share of a core that an idle reader takes."""
    writer, mount = Writer(), make_mount(folder)
    writer.put("chat")
    mount.show(writer.write())
    told: asyncio.Queue[float] = asyncio.Queue()

    async def note(_new: Configuration, _old: Configuration | None) -> None:
        await told.put(time.perf_counter())

    found = []
    async with ConfigReader([MountedVolume(mount.config, mount.credentials)]) as reader:
        reader.subscribe(note)
        await asyncio.wait_for(told.get(), 10)
        for number in range(swaps):
            writer.put("chat", current=("big", "small")[number % 2])
            writer.write()
            started = time.perf_counter()
            swap(mount.config, writer.files)
            found.append((await asyncio.wait_for(told.get(), 10) - started) * 1000)
        used = time.process_time()
        await asyncio.sleep(idle_seconds)
        idle = (time.process_time() - used) / idle_seconds
    return found, idle


def main(arguments: list[str]) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks reader", description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--edits", type=int, default=30)
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        reloads, first, memory = reload_times(written(given.models, given.shards), Path(folder), given.edits)
    with tempfile.TemporaryDirectory() as folder:
        swaps, idle = asyncio.run(latencies(Path(folder), given.swaps, 5))
    figures = {
        "models": given.models,
        "shards": given.shards,
        "first load ms": round(first, 1),
        "MB per 1,000 models": round(memory, 2),
        "one shard reloaded ms, p50": round(median(reloads), 1),
        "one shard reloaded ms, max": round(max(reloads), 1),
        "swap to subscriber ms, p50": round(median(swaps), 1),
        "swap to subscriber ms, p99": round(sorted(swaps)[int(len(swaps) * 0.99)], 1),
        "idle CPU, % of a core": round(idle * 100, 2),
    }
    if given.output == "json":
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:<28}{value:>10}")
        print(GOALS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
