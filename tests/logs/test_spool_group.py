"""Records that come together: which of them share a sync, who waits for nobody, and in which order they are numbered."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from concurrent.futures import Future
from itertools import count
from pathlib import Path

import pytest

from aigateway_logs import DualLog, LogSettings, OperationRecord, SpoolSettings
from aigateway_logs.spool.disk import Disk
from aigateway_logs.spool.frames import Found, header_length, scan
from aigateway_logs.spool.store import Spool
from aigateway_logs.spool.syncer import QUICK_SECONDS
from aigateway_logs.spool.waiting import Waiter
from tests.eventually import eventually
from tests.logs.spooling import keep, payload

GATHER_SECONDS = 2.0
"""Far longer than in earnest, so that a busy machine cannot make the test say something else."""


class CountingDisk(Disk):
    """Counts syncs, and does none: a slow one would be shared whatever the spool does."""

    def __init__(self) -> None:
        self.syncs = 0

    def sync(self, handle: int) -> None:
        """Count."""
        self.syncs += 1


class HeldDisk(Disk):
    """Syncs nothing, at once or when it is let go. `by`: names of the threads that asked it to."""

    def __init__(self) -> None:
        self.go_on, self.held = threading.Event(), threading.Event()
        self.go_on.set()
        self.by: list[str] = []

    def sync(self, handle: int) -> None:
        """Wait while it is held."""
        self.by.append(threading.current_thread().name)
        if not self.go_on.is_set():
            self.held.set()
            assert self.go_on.wait(20)

    def hold(self) -> None:
        """Let the next sync wait."""
        self.held.clear()
        self.go_on.clear()

    def let_go(self) -> None:
        """Let it go on, after longer than a quick disk takes."""
        assert self.held.wait(20)
        time.sleep(2 * QUICK_SECONDS)
        self.go_on.set()


def written(spool: Spool, number: int) -> None:
    """Put a record as admission does; returns when it survives the process."""
    future: Future[bool] = Future()
    assert spool.writer.put(payload(number), "operation", 20, Waiter(future, when_written=True))
    assert future.result(20) is True


def test_written_records_share_a_sync_and_one_that_waits_for_the_disk_does_not_wait_for_them(tmp_path: Path) -> None:
    """A hundred decisions cost a sync or two; an operation right behind them is durable at once, and they with it."""
    disk = CountingDisk()
    settings = SpoolSettings(tmp_path, gather_seconds=GATHER_SECONDS)
    spool = Spool(settings, lambda: None, lambda _: None, lambda _: None, disk)
    spool.writer.start()
    try:
        assert keep(spool, 0).result(20)
        before = disk.syncs
        for number in range(1, 101):
            written(spool, number)
        assert disk.syncs - before <= 10, "each was synced by itself"
        eventually(lambda: assert_durable(spool, 101), within_seconds=GATHER_SECONDS + 10)
        written(spool, 101)
        began = time.monotonic()
        assert keep(spool, 102).result(20)
        assert time.monotonic() - began < GATHER_SECONDS / 2, "it waited for company"
        assert_durable(spool, 103)
    finally:
        spool.close_writer(5.0)
        spool.leave()


def test_a_disk_that_stalls_keeps_records_from_being_written_once(tmp_path: Path) -> None:
    """While it is quick the thread that writes syncs for who waits; after a stall another does, and records are written."""
    disk = HeldDisk()
    spool = Spool(SpoolSettings(tmp_path, gather_seconds=0.0), lambda: None, lambda _: None, lambda _: None, disk)
    spool.writer.start()
    numbers = count()

    def assert_quick() -> None:
        assert keep(spool, next(numbers)).result(20)
        assert disk.by[-1] == "log-spool-write", "two more threads were woken for it"

    try:
        eventually(assert_quick, within_seconds=20)
        disk.hold()
        stalled = keep(spool, next(numbers))
        disk.let_go()
        assert stalled.result(20)
        disk.hold()
        stalled = keep(spool, next(numbers))
        assert disk.held.wait(20)
        written(spool, next(numbers))
        assert not stalled.done()
        disk.let_go()
        assert stalled.result(20)
        eventually(assert_quick, within_seconds=20)
    finally:
        disk.go_on.set()
        spool.close_writer(5.0)
        spool.leave()


async def test_operations_that_wait_for_room_get_their_numbers_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room that comes between two looks goes to who came first: a ledger of a million records found one that overtook."""
    answers = iter([True, True])
    monkeypatch.setattr(DualLog, "_full", lambda _: next(answers, False))
    logs = DualLog(LogSettings(spool=SpoolSettings(tmp_path), stderr_level="ERROR"), io.StringIO())
    logs.start()
    records = [OperationRecord("render", str(number)) for number in range(4)]
    assert all(await asyncio.gather(*(logs.operation(record) for record in records)))
    await logs.stop(5)
    assert [message for message in messages(tmp_path) if message.isdigit()] == ["0", "1", "2", "3"]


def messages(spool: Path) -> list[str]:
    """What the records in the one segment of a spool say, in order."""
    (segment,) = spool.glob("*/*.seg")
    data = segment.read_bytes()
    return [json.loads(one.payload)["message"] for one in scan(data, header_length(data)) if isinstance(one, Found)]


def assert_durable(spool: Spool, count: int) -> None:
    """For `eventually`: so many are on disk."""
    assert spool.writer.backlog().durable == count, spool.writer.backlog()
