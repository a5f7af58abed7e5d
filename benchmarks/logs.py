"""Logs: what a record costs its caller, records a second end to end on one core, drain against a bare insert_many, and the
ledger with a million records through outages and kills. `python -m benchmarks logs [--records 1000000]`. Called by `__main__`.

The process under measurement is kept on one core; the server has all. The bare insert is the control: the same
documents, batches and write concern, in the same run, in turns with the drain.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from loguru import logger
from pymongo import AsyncMongoClient, WriteConcern

from aigateway_logs import DualLog, LogSettings, MongoSettings, OperationRecord, SpoolSettings
from aigateway_logs.mongodb import stored
from aigateway_logs.records import document, document_bytes
from hack.stores import MongoServer
from tests.eventually import eventually
from tests.logs.test_ledger import Writer, assert_ledger, documents, drain, drop, has_done, has_kept

DATABASE: Final = "bench"
GOALS: Final = (
    "goals: caller p99 ≤ 50 µs (system), ≤ 1 ms (operation); ≥ 10,000 records/s durable end to end; drain ≥ 0.8 × bare; 0 lost"
)


def main(arguments: list[str]) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks logs", description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="records of the ledger; 0 leaves it out (default: 100000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of drain and control in turns (default: 3)")
    parser.add_argument("--ledger-only", action="store_true", help="leave out everything else")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, MongoServer.start() as server:
        if not options.ledger_only:
            measure(Path(name), server, options.rounds)
        if options.records:
            ledger(Path(name), server, options.records)
    print(GOALS)
    return 0


def measure(folder: Path, server: MongoServer, rounds: int) -> None:
    """Everything but the ledger, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        caller_cost(folder, server)
        asyncio.run(operation_cost(folder, server))
        for indexes in (True, False):
            end_to_end(folder, server, indexes=indexes)
        drain_ratio(folder, server, rounds)
    finally:
        os.sched_setaffinity(0, cores)


def started(folder: Path, server: MongoServer | None, *, indexes: bool = True) -> DualLog:
    """Logs to the spool and MongoDB only, as a control: files and standard error cost the same with any shipper."""
    mongodb = None if server is None else MongoSettings(server.url, DATABASE, indexes=indexes)
    logs = DualLog(
        LogSettings(spool=SpoolSettings(folder / "spool", max_bytes=2**31), mongodb=mongodb, stderr_level="ERROR"),
        io.StringIO(),
    )
    logs.start()
    return logs


def record(number: int) -> OperationRecord:
    """A record as the gateway makes one for each call."""
    return OperationRecord(
        "model_call", "Called backend small of chat", user_id="team-a", resource_type="model", resource_id="chat",
        duration_ms=12.5, trace_id="0123456789abcdef" * 2,
        metadata={"n": number, "prompt_tokens": 120, "completion_tokens": 64},
    )  # fmt: skip


def caller_cost(folder: Path, server: MongoServer) -> None:
    """A system record now and then (1,500 a second) while they are shipped; loguru with a sink that does nothing beside it."""
    logs = started(folder, server)
    bound = logger.bind(component="reconcile", namespace="ai", name="main")
    ours = [timed(partial(bound.info, "Planned {} models in {} documents", number, 3)) for number in range(10_000)]
    logs.stop_blocking(20)
    logger.remove()
    logger.add(lambda _: None, level="INFO", format="{message}", backtrace=False, diagnose=False)
    bare = [timed(partial(bound.info, "Planned {} models in {} documents", number, 3)) for number in range(3000)]
    logger.remove()
    show("system record, caller", ours, 1e6, "µs")
    show("  loguru with an empty sink", bare, 1e6, "µs")


def timed(action: Callable[[], None]) -> float:
    """Seconds that `action` takes, after half a millisecond of something else."""
    time.sleep(0.0005)
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


async def operation_cost(folder: Path, server: MongoServer) -> None:
    """One operation record at a time, durable when it returns, at 200 a second; a bare fdatasync in turns with it."""
    logs = started(folder, server)
    costs, floor = [], []
    handle = os.open(folder / "probe", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for number in range(2000):
        began = time.perf_counter()
        assert await logs.operation(record(number))
        costs.append(time.perf_counter() - began)
        await asyncio.sleep(0.0025)
        os.write(handle, b"x" * 500)
        began = time.perf_counter()
        os.fdatasync(handle)
        floor.append(time.perf_counter() - began)
        await asyncio.sleep(0.0025)
    os.close(handle)
    await logs.stop(20)
    show("operation record, caller", costs, 1e3, "ms")
    show("  bare fdatasync in turns", floor, 1e3, "ms")


def end_to_end(folder: Path, server: MongoServer, count: int = 40_000, *, indexes: bool) -> None:
    """Made, durable on disk, in MongoDB and acknowledged, in one process on one core; FerretDB pays dearly for indexes."""
    logs = started(folder, server, indexes=indexes)
    cpu, began = time.process_time(), time.perf_counter()
    for number in range(count):
        logs.operation_nowait(record(number))
        while logs._spool is not None and logs._spool.writer.full():  # noqa: SLF001 - nothing may be dropped here
            time.sleep(0.001)
    eventually(lambda: at_least(logs, count), within_seconds=120, every_seconds=0.01)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    logs.stop_blocking(20)
    what = "all fields" if indexes else "timestamp only"
    print(f"end to end, {what} indexed: {count / took:,.0f} records/s (CPU {cpu / count * 1e6:.0f} µs a record)")
    asyncio.run(drop(server, DATABASE))


def drain_ratio(folder: Path, server: MongoServer, rounds: int, count: int = 30_000) -> None:
    """The drain of a backlog against a loop of insert_many over ready documents, in turns."""
    ratios = []
    for turn in range(rounds):
        logs = started(folder, None)
        for number in range(count):
            logs.operation_nowait(record(number))
        logs.stop_blocking(10)
        began = time.perf_counter()
        logs = started(folder, server)
        eventually(partial(at_least, logs, count), within_seconds=120, every_seconds=0.01)
        ours = count / (time.perf_counter() - began)
        logs.stop_blocking(20)
        asyncio.run(drop(server, DATABASE))
        bare = asyncio.run(bare_inserts(server, count))
        asyncio.run(drop(server, DATABASE))
        ratios.append(ours / bare)
        print(f"drain {turn + 1}: {ours:,.0f} records/s, bare insert_many {bare:,.0f}/s, ratio {ours / bare:.2f}")
    print(f"drain: median ratio {median(ratios):.2f}")


async def bare_inserts(server: MongoServer, count: int) -> float:
    """Documents a second of insert_many over documents that are ready."""
    ready = [stored("0" * 21, number, document_bytes(document(record(number))))[1] for number in range(count)]
    async with AsyncMongoClient[dict[str, Any]](server.url) as client:
        collection = client[DATABASE].get_collection("operation_logs", write_concern=WriteConcern(w="majority", j=True))
        for field in ("timestamp", "level", "source", "trace_id", "operation", "resource_id", "user_id"):
            await collection.create_index([(field, 1), *([] if field == "timestamp" else [("timestamp", -1)])])
        began = time.perf_counter()
        for start in range(0, count, 500):
            await collection.insert_many(ready[start : start + 500], ordered=False)
        return count / (time.perf_counter() - began)


def ledger(folder: Path, server: MongoServer, records: int) -> None:
    """Pairs of writers on one spool; the server is up, silent, away and back in turns, and a writer is killed each time."""
    chance, spool, kept = random.Random(1), folder / "ledger-spool", set[int]()
    each, began, first, kills = max(records // 20, 1000), time.perf_counter(), 0, 0
    while len(kept) < records:
        server_is = ("up", "silent", "away", "back")[(first // each // 2) % 4]
        pair = [Writer(spool, server, DATABASE, first + index * each, each) for index in range(2)]
        first += 2 * each
        eventually(partial(has_kept, pair[0], 100), within_seconds=30)
        {"silent": server.pause, "away": server.kill, "back": server.restart}.get(server_is, lambda: None)()
        time.sleep(chance.uniform(0.0, each / 8000))
        pair[0].kill()
        kills += 1
        eventually(partial(has_done, pair[1]), within_seconds=600)
        if server_is == "silent":
            server.resume()
        pair[1].process.wait(60)
        kept |= pair[0].kept | pair[1].kept
        print(f"  {server_is}: {len(kept):,} kept so far", file=sys.stderr, flush=True)
    server.restart()
    while spool.exists() and any(spool.iterdir()):
        try:
            drain(spool, server, DATABASE)
        except AssertionError:
            continue
    shipped = time.perf_counter() - began
    stored_documents = asyncio.run(documents(server, DATABASE))
    assert_ledger(stored_documents, kept)
    total = sum(len(found) for found in stored_documents.values())
    print(
        f"ledger: {len(kept):,} acknowledged, {total:,} documents, 0 lost, 0 doubled, no gap; {kills} SIGKILLs; {shipped:.0f} s"
    )


def show(what: str, seconds: list[float], factor: float, unit: str) -> None:
    """Print p50, p99 and maximum."""
    costs = sorted(cost * factor for cost in seconds)
    middle, late = costs[len(costs) // 2], costs[int(len(costs) * 0.99)]
    print(f"{what}: p50 {middle:.2f} {unit}, p99 {late:.2f} {unit}, max {costs[-1]:.2f} {unit}")


def at_least(logs: DualLog, count: int) -> None:
    """For `eventually`."""
    assert logs.counters().shipped >= count, logs.counters()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
