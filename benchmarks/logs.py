"""Logs: what a record costs its caller, records a second end to end on one core, drain against a bare insert_many, and the
ledger with a million records through outages and kills. `python -m benchmarks logs [--records 1000000]`. Called by `__main__`.

What a record costs its caller is measured against a server that keeps nothing (`quick_mongodb`), since MongoDB has a disk and
processors of its own where it matters; of operations it is printed for one that shares them, too. For the rest the process
under measurement is kept on one core; the server has all. The bare insert is the control: the same documents, batches, number
of batches under way and write concern, in the same run, in turns with the drain. FerretDB over SQLite takes fewer records than
we make, so end to end is measured a second time against the server that keeps nothing: our own share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
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
from benchmarks.book import percentile
from benchmarks.quick_mongodb import quick_mongodb
from hack.stores import MongoServer
from tests.eventually import eventually, eventually_async
from tests.logs.test_ledger import Writer, assert_ledger, documents, drain, drop, has_done, has_kept
from tests.logs.writing import GROUP

DATABASE: Final = "bench"
BACKLOG: Final = 30_000
"""Records of one drain."""
RESTS: Final = {0.0005: "after 0.5 ms of rest", 0.0: "one right after the other"}
"""Seconds between two system records."""
SYSTEM_GOAL_US: Final = 50.0
OPERATION_GOAL_MS: Final = 1.0
GOALS: Final = (
    "goals: caller p99 ≤ 50 µs (system), ≤ 1 ms (operation); ≥ 10,000 records/s durable end to end; drain ≥ 0.8 × bare; 0 lost"
)


def main(arguments: list[str]) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks logs", description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="records of the ledger; 0 leaves it out (default: 100000)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of drain and control in turns (default: 4)")
    parser.add_argument("--ledger-only", action="store_true", help="leave out everything else")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args(arguments)
    figures: dict[str, list[float]] = {}
    shown = sys.stderr if options.output == "json" else sys.stdout
    with tempfile.TemporaryDirectory() as name, MongoServer.start() as server, contextlib.redirect_stdout(shown):
        if not options.ledger_only:
            figures |= measure(Path(name), server, options.rounds)
        if options.records:
            figures["records"] = [ledger(Path(name), server, options.records)]
        print(GOALS)
    if options.output == "json":
        print(json.dumps(figures))
    return 0


def measure(folder: Path, server: MongoServer, rounds: int) -> dict[str, list[float]]:
    """Everything but the ledger; returns the figures that are judged."""
    with quick_mongodb() as url:
        caller_cost(folder, url)
        asyncio.run(operation_cost(folder, url, "operation record, caller"))
    asyncio.run(operation_cost(folder, server.url, "operation record, caller, with FerretDB on the same disk"))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        rates = {indexes: [end_to_end(folder, server.url, indexes=indexes)] for indexes in (True, False)}
        own: list[float] = []
        for turn in range(rounds):
            with quick_mongodb() as url:
                own.append(end_to_end(folder / f"quick-{turn}", url, indexes=False, quick=True))
        bare = [best_bare_inserts(server, 20_000, indexes=indexes) for indexes in (True, False)]
        floors = {"own share": own, "bare": bare[1:]}
        return {
            "all fields": rates[True],
            "timestamp only": rates[False],
            **floors,
            "drain": drain_ratio(folder, server, rounds),
        }
    finally:
        os.sched_setaffinity(0, cores)


def started(folder: Path, url: str | None, *, indexes: bool = True) -> DualLog:
    """Logs to the spool and MongoDB only, as a control: files and standard error cost the same with any shipper."""
    mongodb = None if url is None else MongoSettings(url, DATABASE, indexes=indexes)
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


def caller_cost(folder: Path, url: str) -> None:
    """A system record while they are shipped, now and then (1,500 a second) and one right after the other; in turns with
    loguru and an empty sink, which shows what a caller pays for half a millisecond of rest, before our part begins.

    The time of the thread's own work is printed beside the clock's: on a busy machine the clock also counts other processes.
    """
    bound = logger.bind(component="reconcile", namespace="ai", name="main")

    def calls(rest_seconds: float) -> list[tuple[float, float]]:
        say = (partial(bound.info, "Planned {} models in {} documents", number, 3) for number in range(3000))
        return [timed(action, rest_seconds) for action in say]

    costs: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for turn in range(3):
        logs = started(folder / f"caller-{turn}", url)
        for rest in RESTS:
            costs.setdefault(("ours", rest), []).extend(calls(rest))
        logs.stop_blocking(20)
        logger.remove()
        logger.add(lambda _: None, level="INFO", format="{message}", backtrace=False, diagnose=False)
        for rest in RESTS:
            costs.setdefault(("bare", rest), []).extend(calls(rest))
        logger.remove()
    for rest, how in RESTS.items():
        for index, what in enumerate(("by the clock", "of its own processor time")):
            mine, floor = ([cost[index] for cost in costs[who, rest]] for who in ("ours", "bare"))
            show(f"system record, caller, {how}, {what}", mine, 1e6, "µs")
            show("  loguru with an empty sink, in turns", floor, 1e6, "µs")
            ratio(mine, floor)
            judge(mine, floor, SYSTEM_GOAL_US, 1e6, "µs")


def timed(action: Callable[[], None], rest_seconds: float) -> tuple[float, float]:
    """Seconds that `action` takes, by the clock and of this thread's processor time, after a rest."""
    if rest_seconds:
        time.sleep(rest_seconds)
    began, used = time.perf_counter(), time.thread_time()
    action()
    return time.perf_counter() - began, time.thread_time() - used


def ratio(ours: list[float], floor: list[float]) -> None:
    """Print p50 and p99 as multiples of the floor's."""
    times = [percentile(ours, part) / percentile(floor, part) for part in (0.5, 0.99)]
    print(f"  ratio to that: p50 {times[0]:.1f}, p99 {times[1]:.1f}")


def judge(ours: list[float], floor: list[float], goal: float, factor: float, unit: str) -> None:
    """Print whether the goal for p99 is met, and whether the floor alone meets it: if not, no code of ours can."""
    mine, alone = (percentile(costs, 0.99) * factor for costs in (ours, floor))
    told = "met" if mine <= goal else "missed" if alone <= goal else "missed, and by the floor alone too"
    print(f"  goal p99 ≤ {goal:g} {unit}: {told} ({mine:.2f} {unit}; floor {alone:.2f} {unit})")


async def operation_cost(folder: Path, url: str, what: str) -> None:
    """One operation record at a time, durable when it returns, at 200 a second; a bare fdatasync in turns with it.

    Once the first was shipped: the driver is imported in a thread of ours, a fifth of a second at the start of a process.
    """
    logs = started(folder, url)
    await logs.operation(record(-1))
    await eventually_async(partial(shipped_one, logs), within_seconds=20)
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
    show(what, costs, 1e3, "ms")
    show("  bare fdatasync in turns", floor, 1e3, "ms")
    ratio(costs, floor)
    judge(costs, floor, OPERATION_GOAL_MS, 1e3, "ms")


def end_to_end(folder: Path, url: str, count: int = 40_000, *, indexes: bool, quick: bool = False) -> float:
    """Made, durable on disk, in MongoDB and acknowledged, in one process on one core; FerretDB pays dearly for indexes.

    `quick`: the server keeps nothing; it must have taken each record.
    """
    logs = started(folder, url, indexes=indexes)
    cpu, began = time.process_time(), time.perf_counter()
    for number in range(count):
        logs.operation_nowait(record(number))
        while logs._spool is not None and logs._spool.writer.full():  # noqa: SLF001 - nothing may be dropped here
            time.sleep(0.001)
    eventually(lambda: at_least(logs, count), within_seconds=120, every_seconds=0.01)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    logs.stop_blocking(20)
    what = "a server that keeps nothing" if quick else "all fields indexed" if indexes else "timestamp only indexed"
    print(
        f"end to end, {what}: {count / took:,.0f} records/s; CPU {cpu / count * 1e6:.0f} µs a record, "
        f"so {count / cpu:,.0f} a second of one core; it had {cpu / took:.0%} of it"
    )
    asyncio.run(gone(url, count if quick else None))
    return count / took


async def gone(url: str, taken: int | None) -> None:
    """Drop what was written; of a server that keeps nothing, ask whether it took that many."""
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        if taken is None:
            await client.drop_database(DATABASE)
            return
        told = (await client[DATABASE].command("count", "operation_logs"))["n"]
        assert told == taken, f"the server took {told} of {taken} records"


def drain_ratio(folder: Path, server: MongoServer, rounds: int) -> list[float]:
    """The drain of a backlog against a loop of insert_many over ready documents, in turns: a b b a, since who comes second
    meets a server that still tidies up after the first. As many are under way as the shipper has; one at a time is beside.
    """
    ratios = []
    for turn in range(rounds):
        rates: dict[str, float] = {}
        turns: dict[str, Callable[[], float]] = {
            "drain": partial(drained, folder, server),
            "bare": lambda: asyncio.run(bare_inserts(server.url, BACKLOG)),
            "in line": lambda: asyncio.run(bare_inserts(server.url, BACKLOG, at_once=1)),
        }
        for name in turns if turn % 2 == 0 else reversed(turns):
            rates[name] = turns[name]()
            asyncio.run(drop(server, DATABASE))
        ours, bare, line = rates["drain"], rates["bare"], rates["in line"]
        ratios.append(ours / max(bare, line))
        print(
            f"drain {turn + 1}: {ours:,.0f} records/s, bare insert_many {bare:,.0f}/s two at once and {line:,.0f}/s one at a "
            f"time, ratios {ours / bare:.2f} and {ours / line:.2f}"
        )
    print(f"drain: median ratio to the faster {median(ratios):.2f}")
    return ratios


def drained(folder: Path, server: MongoServer) -> float:
    """Records a second of a backlog, from the start of the process's logs to the last acknowledgement."""
    logs = started(folder, None)
    for number in range(BACKLOG):
        logs.operation_nowait(record(number))
    logs.stop_blocking(10)
    began = time.perf_counter()
    logs = started(folder, server.url)
    eventually(partial(at_least, logs, BACKLOG), within_seconds=120, every_seconds=0.01)
    rate = BACKLOG / (time.perf_counter() - began)
    logs.stop_blocking(20)
    return rate


def best_bare_inserts(server: MongoServer, count: int, *, indexes: bool) -> float:
    """Print what a bare insert_many reaches with other batches and one or two of them under way; return the best."""
    rates = {
        (batch, at_once): asyncio.run(bare_inserts(server.url, count, indexes=indexes, batch=batch, at_once=at_once))
        for batch, at_once in ((500, 1), (500, 2), (1000, 2))
    }
    asyncio.run(drop(server, DATABASE))
    said = ", ".join(f"{rate:,.0f} ({at_once} × {batch} under way)" for (batch, at_once), rate in rates.items())
    print(f"  bare insert_many, {'all fields' if indexes else 'timestamp only'} indexed, records/s: {said}")
    return max(rates.values())


async def bare_inserts(url: str, count: int, *, indexes: bool = True, batch: int = 500, at_once: int = 2) -> float:
    """Documents a second of insert_many over documents that are ready, `at_once` batches under way."""
    fields = ("level", "source", "trace_id", "operation", "resource_id", "user_id") if indexes else ()
    ready = [stored("0" * 21, number, document_bytes(document(record(number))))[1] for number in range(count)]
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        await client.drop_database(DATABASE)
        collection = client[DATABASE].get_collection("operation_logs", write_concern=WriteConcern(w="majority", j=True))
        for field in ("timestamp", *fields):
            await collection.create_index([(field, 1), *([] if field == "timestamp" else [("timestamp", -1)])])
        starts = iter(range(0, count, batch))

        async def insert() -> None:
            for start in starts:
                await collection.insert_many(ready[start : start + batch], ordered=False)

        began = time.perf_counter()
        await asyncio.gather(*(insert() for _ in range(at_once)))
        return count / (time.perf_counter() - began)


def ledger(folder: Path, server: MongoServer, records: int) -> int:
    """Return how many records were kept and found once each; AssertionError when one was lost or doubled.

    Pairs of writers on one spool; the server is up, silent, away and back in turns, and a writer is killed each time. Each
    has whole groups, or its last would have the first numbers of the next writer.
    """
    chance, spool, kept = random.Random(1), folder / "ledger-spool", set[int]()
    each, began, first, kills = max(records // 20 // GROUP, 25) * GROUP, time.perf_counter(), 0, 0
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
    return len(kept)


def show(what: str, seconds: list[float], factor: float, unit: str) -> None:
    """Print p50, p99 and maximum."""
    costs = sorted(cost * factor for cost in seconds)
    middle, late = costs[len(costs) // 2], costs[int(len(costs) * 0.99)]
    print(f"{what}: p50 {middle:.2f} {unit}, p99 {late:.2f} {unit}, max {costs[-1]:.2f} {unit}")


async def shipped_one(logs: DualLog) -> None:
    """For `eventually_async`."""
    at_least(logs, 1)


def at_least(logs: DualLog, count: int) -> None:
    """For `eventually`."""
    assert logs.counters().shipped >= count, logs.counters()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
