"""Two batches of a boot under way: nothing is trimmed before it was acknowledged, whatever becomes of the one before."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from aigateway_logs import DualLog, LogSettings, MongoSettings, OperationRecord, SpoolSettings
from aigateway_logs.mongodb import Document, LogStore, Refused
from aigateway_logs.records import LogType
from aigateway_logs.spool.disk import Disk
from aigateway_logs.spool.reader import Batch, SpoolReader
from aigateway_logs.spool.store import Spool
from benchmarks.quick_mongodb import quick_mongodb
from tests.eventually import eventually
from tests.logs.spooling import SMALL, keep, number_of, spooling

RECORDS = 60
SIZE = 300
"""Bytes of a record's padding: a dozen records fill a segment."""


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A spool that was ended with records in several segments."""
    with spooling(tmp_path) as (made, _):
        for number in range(RECORDS):
            assert keep(made, number, SIZE).result(5), "one by one, or they would all be one write to one segment"
        made.close_writer(5.0)
    assert len(made.writer.segments()) > 3
    return made


def read_on(reader: SpoolReader, most: int) -> list[Batch]:
    """All batches, each read behind the one before, none acknowledged."""
    batches: list[Batch] = []
    while (batch := reader.read(most, batches[-1] if batches else None)) is not None:
        batches.append(batch)
    return batches


def numbers(batches: Sequence[Batch]) -> list[int]:
    """What the records carry, in order."""
    return [number_of(data) for batch in batches for _, data in batch.records]


def test_what_is_read_ahead_is_whole_and_trimmed_only_once_acknowledged(spool: Spool) -> None:
    """Batches read behind one another, over segments, are all records once and in order; files go one by one after them."""
    reader = SpoolReader(Disk(), spool.writer, expected=1)
    whole = reader.pending_bytes()
    batches = read_on(reader, 7)
    assert numbers(batches) == list(range(RECORDS))
    assert reader.pending_bytes() == whole, "reading ahead moved the position"
    assert reader.pending_bytes(batches[-1]) == 0
    for at, batch in enumerate(batches):
        paths = {later.path for later in batches[at:]}
        assert all(path.exists() for path in paths), "a file went before it was acknowledged"
        reader.acknowledge(batch)
    assert reader.read(7) is None
    assert spool.writer.segments() == ()


def test_batches_that_were_read_ahead_and_failed_are_read_again(spool: Spool) -> None:
    """Of three under way, in two segments, the first was acknowledged: reading begins behind it."""
    reader = SpoolReader(Disk(), spool.writer, expected=1)
    first = reader.read(7)
    second = reader.read(7, first)
    third = reader.read(7, second)
    assert first is not None
    assert third is not None
    assert first.path != third.path
    reader.acknowledge(first)
    assert numbers(read_on(reader, 9)) == list(range(7, RECORDS))


def test_a_loss_between_two_batches_under_way_is_counted_once(spool: Spool) -> None:
    """The end of a segment is damaged: what follows tells it, and the damaged file goes when that is acknowledged."""
    reader = SpoolReader(Disk(), spool.writer, expected=1)
    first = spool.writer.segments()[0]
    first.path.write_bytes(first.path.read_bytes()[:-10] + b"\0" * 10)
    batches = read_on(reader, 7)
    losses = [loss for batch in batches for loss in batch.losses]
    assert sum(loss.count for loss in losses) == 1
    assert sorted([*numbers(batches), losses[0].first - 1]) == list(range(RECORDS))
    for batch in batches:
        reader.acknowledge(batch)
    assert not first.path.exists()
    assert spool.writer.segments() == ()


def test_a_segment_that_the_writer_gave_up_takes_no_other_with_it(spool: Spool) -> None:
    """Acknowledging a batch whose segment is no longer one of the writer's trims nothing."""
    reader = SpoolReader(Disk(), spool.writer, expected=1)
    batches = read_on(reader, 7)
    given_up = spool.writer.segments()[-1]
    spool.writer.remove(given_up)
    left = spool.writer.segments()
    gone = [batch for batch in batches if batch.path == given_up.path]
    for batch in gone:
        reader.acknowledge(batch)
    assert spool.writer.segments() == left
    assert numbers(read_on(reader, 7)) == sorted(set(range(RECORDS)) - set(numbers(gone)))


class Server:
    """What takes the batches: one fails, slowly."""

    def __init__(self, failing: int) -> None:
        self.taken: set[str] = set()
        self.asked = 0
        self.failing = failing
        self.under_way = 0
        self.most_under_way = 0

    async def insert(self, _stream: LogType, documents: Sequence[Document]) -> list[Refused]:
        """In the place of the real one."""
        self.asked += 1
        fails = self.asked == self.failing
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0.1 if fails else 0.01)
        finally:
            self.under_way -= 1
        if fails:
            raise ConnectionError("the answer was lost")
        self.taken.update(document["_id"] for document in documents)
        return []


@pytest.mark.parametrize("failing", [1, 2])
def test_a_backlog_has_two_batches_under_way_and_a_failed_one_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """A batch fails while another is taken: all records arrive, and never are there three under way."""
    server = Server(failing)

    def settings(uri: str | None) -> LogSettings:
        mongodb = None if uri is None else MongoSettings(uri, batch_records=100)
        return LogSettings(spool=SpoolSettings(tmp_path), mongodb=mongodb, stderr_level="CRITICAL")

    monkeypatch.setattr(LogStore, "insert", lambda _, stream, documents: server.insert(stream, documents))
    with quick_mongodb() as url:
        logs = DualLog(settings(None), io.StringIO())
        logs.start()
        try:
            for number in range(1000):
                logs.operation_nowait(OperationRecord("admission", f"decision {number}"))
            eventually(lambda: assert_durable(logs, 1000), within_seconds=20)
            logs.apply(settings(url))
            eventually(lambda: assert_taken(server.taken, logs.boot, 1000), within_seconds=20)
            assert logs.counters().ship_failures == 1
            assert server.most_under_way == 2
        finally:
            logs.stop_blocking(5)
    assert not any(tmp_path.glob("*/*.seg")), "what was acknowledged was not trimmed"


def test_what_is_missing_in_a_backlog_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever ships what a dead process left, although a batch fails: each record has arrived or is counted as gone."""

    def settings(uri: str | None) -> LogSettings:
        mongodb = None if uri is None else MongoSettings(uri, batch_records=20)
        return LogSettings(spool=SpoolSettings(tmp_path, segment_bytes=SMALL), mongodb=mongodb, stderr_level="CRITICAL")

    dead = DualLog(settings(None), io.StringIO())
    dead.start()
    for number in range(100):
        dead.operation_nowait(OperationRecord("admission", f"decision {number}"))
        eventually(partial(assert_durable, dead, number + 1), within_seconds=20, every_seconds=0.001)
    dead.stop_blocking(5)
    left = sorted(tmp_path.glob("*/*.seg"))
    assert len(left) > 3
    left[1].unlink()
    server = Server(failing=1)
    monkeypatch.setattr(LogStore, "insert", lambda _, stream, documents: server.insert(stream, documents))
    with quick_mongodb() as url:
        logs = DualLog(settings(url), io.StringIO())
        logs.start()
        try:
            eventually(lambda: assert_gone(left), within_seconds=20)
        finally:
            logs.stop_blocking(5)
    arrived = sum(record.startswith(f"{dead.boot}-") for record in server.taken)
    assert arrived < dead.counters().spooled
    assert logs.counters().missing == dead.counters().spooled - arrived


def assert_gone(paths: Sequence[Path]) -> None:
    """For `eventually`: all was shipped and trimmed."""
    assert not any(path.exists() for path in paths)


def assert_durable(logs: DualLog, count: int) -> None:
    """For `eventually`: so many are on disk."""
    assert logs.counters().durable >= count, logs.counters()


def assert_taken(taken: set[str], boot: str | None, count: int) -> None:
    """For `eventually`: the server has the first `count` records."""
    missing = {f"{boot}-{number:012d}" for number in range(1, count + 1)} - taken
    assert not missing, f"{len(missing)} are missing"
