"""Suites that have a report of their own, joined to the frame: admission, gateway, logs and idle.

Each runs as a process of its own, so that what it starts, logs and uses does not touch other figures; its JSON is noted here.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.book import Book
from benchmarks.suite import Plan

ROOT = Path(__file__).resolve().parent.parent


async def admission(book: Book, plan: Plan, _folder: Path) -> None:
    """Note what a review costs beside the bare server, what the webhook adds to an edit, and its memory."""
    reviews, edits, each = plan.choose((500, 40, 200), (10_000, 400, 2_000), (100_000, 1_000, 4_000))
    options = ("--reviews", reviews, "--edits", edits, "--each", each, "--stored", plan.choose(20, 300, 1_000))
    found = await _own("admission", *options)
    for ratio in found["ratios"]:
        book.note("admission.ratio", ratio, "× bare")
    book.note("admission.cpu", found["cpu_ms"], "ms")
    book.note("admission.bare", found["bare_cpu_ms"], "ms")
    book.note("admission.added.p50", found["added_p50_ms"], "ms")
    book.note("admission.added.p99", found["added_p99_ms"], "ms")
    book.note("admission.bare.added.p50", found["bare_added_p50_ms"], "ms")
    book.note("admission.bare.added.p99", found["bare_added_p99_ms"], "ms")
    book.note("admission.without.p50", found["without_webhook"]["p50"], "ms")
    book.note("admission.without.p99", found["without_webhook"]["p99"], "ms")
    book.note("admission.rss", found["rss_mb"], "MB")


async def gateway(book: Book, plan: Plan, _folder: Path) -> None:
    """Note what the gateway costs a request beside a bare pass-through; LiteLLM only in full, since it has to be installed."""
    more = () if plan.full else ("--no-litellm",)
    found = await _own("gateway", "--seconds", plan.choose(0.5, 1.5, 4), "--rounds", plan.choose(1, 3, 5), *more, codes=(0, 1))
    rows = {row["name"]: row for row in found["servers"]}
    for name, row in rows.items():
        book.note(f"gateway.{name}.cpu", row["cpu_ms_per_request"], "ms a request")
        book.note(f"gateway.{name}.rate", row["per_core_second"], "1/s on a core")
        book.note(f"gateway.{name}.rss", row["memory_mb"], "MB")
    book.note("gateway.ratio", rows["gateway"]["cpu_ms_per_request"] / rows["control"]["cpu_ms_per_request"], "× bare")


async def logs(book: Book, plan: Plan, _folder: Path) -> None:
    """Note the ledger, records a second end to end, and the drain beside a bare insert_many."""
    found = await _own("logs", "--records", plan.choose(4_000, 8_000, 1_000_000), "--rounds", plan.choose(1, 3, 5))
    book.note("logs.ledger", found["records"][0], "records")
    book.note("logs.lost", 0, "records")  # a lost or doubled one ends the process, and so this suite, with an error
    names = {"rate": "timestamp only", "indexed": "all fields", "own": "own share", "bare": "bare"}
    for name, key in names.items():
        for value in found[key]:
            book.note(f"logs.{name}", value, "records/s")
    for ratio in found["drain"]:
        book.note("logs.drain", ratio, "× bare")


async def idle(book: Book, plan: Plan, _folder: Path) -> None:
    """Note what an operator with nothing to do writes and uses."""
    seconds = plan.choose(10, 30, 600)
    found = await _own("idle", "--seconds", seconds, "--models", plan.choose(20, 100, 1_000))
    book.note("idle.seconds", found["seconds"], "s")
    book.note("idle.writes", found["writes but Lease"], "writes")
    book.note("idle.leases", found["Lease renewals"] * 60 / found["seconds"], "per minute")
    book.note("idle.cpu", float(found["CPU of the operator"].split("%")[0]), "% of a core")
    book.note("idle.red", found["liveness red, of all asked"], "times")


async def _own(name: str, *options: object, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """Run a suite's own command; return the JSON it prints. RuntimeError with the end of its errors when it fails."""
    command = [sys.executable, "-m", "benchmarks", name, *map(str, options), "-o", "json"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env=environment, cwd=ROOT, stdout=pipe, stderr=pipe)
    output, errors = await process.communicate()
    if process.returncode not in codes:
        raise RuntimeError(f"{' '.join(command[2:])} ended with {process.returncode}: {errors.decode()[-600:]}")
    return dict(json.loads(output))
