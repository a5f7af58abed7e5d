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
from aigateway_config.source import MemoryReading, Reading
from aigateway_config.state import State
from aigateway_config.volume import FolderReading, MountedVolume
from tests.unit.config.writer import Mount, Writer, keyed_backend, make_mount, swap

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


def first_load(mount: Mount, count: int) -> tuple[State, float, float]:
    """Return a state that has loaded the folders, the milliseconds it took, and megabytes per 1,000 models."""
    state = State()
    gc.collect()
    before = resident_bytes()
    took = take(state, "volume", volume_reading(mount, FolderReading(mount.credentials)))
    gc.collect()
    return state, took, (resident_bytes() - before) / 1e6 / (count / 1000)


def take(state: State, source: str, reading: Reading) -> float:
    """Let a state take a reading; return the milliseconds of processor time."""
    started = time.thread_time()
    outcome = state.take(source, reading, NOW)
    assert outcome.faults == (), outcome.faults[:3]
    return (time.thread_time() - started) * 1000


def volume_reading(mount: Mount, credentials: FolderReading) -> FolderReading:
    """Return what a mounted volume offers. `credentials`: the same as long as its `..data` stays, as in MountedVolume."""
    reading = FolderReading(mount.config)
    reading.credentials = credentials
    return reading


def reload_times(writer: Writer, mount: Mount, state: State, edits: int) -> dict[str, list[float]]:
    """Return by source the milliseconds of processor time of each reload of one shard.

    Redis brings the document that changed, the API all of them, the volume all of them in files.
    """
    by_memory = {"api": State(), "redis": State()}
    for source, other in by_memory.items():
        take(other, "volume", writer.reading())
        take(other, source, writer.reading(documents_only=True))
    credentials = FolderReading(mount.credentials)
    found: dict[str, list[float]] = {source: [] for source in ("api", "redis", "volume")}
    name = next(iter(writer.models))
    for number in range(edits):
        before = dict(writer.files)
        writer.models[name]["current"] = ("big", "small")[number % 2]
        writer.write()
        changed = {file: content for file, content in writer.files.items() if before[file] is not content}
        swap(mount.config, writer.files)
        found["api"].append(take(by_memory["api"], "api", writer.reading(documents_only=True)))
        found["redis"].append(take(by_memory["redis"], "redis", MemoryReading(changed)))
        found["volume"].append(take(state, "volume", volume_reading(mount, credentials)))
    return found


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
        writer, mount = written(given.models, given.shards), make_mount(Path(folder))
        mount.show(writer)
        state, first, memory = first_load(mount, given.models)
        reloads = reload_times(writer, mount, state, given.edits)
    with tempfile.TemporaryDirectory() as folder:
        swaps, idle = asyncio.run(latencies(Path(folder), given.swaps, 5))
    figures = {
        "models": given.models,
        "shards": given.shards,
        "first load CPU ms": round(first, 1),
        "MB per 1,000 models": round(memory, 2),
        **{f"one shard reloaded by {source}, CPU ms": round(median(times), 2) for source, times in reloads.items()},
        "swap to subscriber ms, p50": round(median(swaps), 1),
        "swap to subscriber ms, p99": round(sorted(swaps)[int(len(swaps) * 0.99)], 1),
        "idle CPU, % of a core": round(idle * 100, 2),
    }
    if given.output == "json":
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:<38}{value:>10}")
        print(GOALS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
