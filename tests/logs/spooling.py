"""Spools for tests: one that is quick to rotate, and what a later process would find of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aigateway_logs.settings import SpoolSettings
from aigateway_logs.spool.disk import Disk
from aigateway_logs.spool.reader import Batch, Loss
from aigateway_logs.spool.store import Spool, SpoolEvent
from aigateway_logs.spool.waiting import Waiter

SMALL = 4096


@dataclass
class Heard:
    """What a spool said."""

    troubles: list[str | None] = field(default_factory=list)
    events: list[SpoolEvent] = field(default_factory=list)
    notices: int = 0

    def written(self) -> None:
        self.notices += 1


@contextmanager
def spooling(
    folder: Path, disk: Disk | None = None, *, max_bytes: int = 1024 * 1024, memory_bytes: int = 1024 * 1024
) -> Iterator[tuple[Spool, Heard]]:
    """A started spool with small segments; ended without shipping."""
    heard = Heard()
    settings = SpoolSettings(folder, max_bytes=max_bytes, segment_bytes=SMALL, memory_bytes=memory_bytes, gather_seconds=0.002)
    spool = Spool(settings, heard.written, heard.troubles.append, heard.events.append, disk)
    spool.writer.start()
    try:
        yield spool, heard
    finally:
        spool.close_writer(5.0)
        spool.leave()


def payload(number: int, size: int = 0) -> bytes:
    """A record that carries a number."""
    return json.dumps({"log_type": "operation", "n": number, "pad": "x" * size}).encode()


def number_of(data: bytes) -> int:
    """The number that `payload` put in."""
    number = json.loads(data)["n"]
    assert isinstance(number, int)
    return number


def keep(spool: Spool, number: int, size: int = 0) -> Future[bool]:
    """Put an operation record; the future says whether it is durable."""
    future: Future[bool] = Future()
    if not spool.writer.put(payload(number, size), "operation", 20, Waiter(future, when_written=False)):
        future.set_result(False)
    return future


@dataclass
class Found:
    """What was found in a spool, by number, and what was lost."""

    numbers: list[int] = field(default_factory=list)
    sequences: dict[str, list[int]] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)

    def once(self) -> set[int]:
        """Numbers, each of which has one identifier only (a record that lies on disk twice has one)."""
        ids = Counter(self.numbers)
        assert max(ids.values(), default=1) == 1, f"found under two identifiers: {[n for n, times in ids.items() if times > 1]}"
        return set(ids)


def drain(spool: Spool) -> Found:
    """Read and acknowledge everything there is, own and adopted, as a shipper would."""
    found = Found()
    seen: set[tuple[str, int]] = set()
    spool.adopt()
    for reader in spool.readers():
        while (batch := reader.read(7)) is not None:
            _take(batch, found, seen)
            reader.acknowledge(batch)
            spool.note(batch.losses)
    spool.leave_shipped()
    return found


def _take(batch: Batch, found: Found, seen: set[tuple[str, int]]) -> None:
    found.losses.extend(batch.losses)
    for sequence, data in batch.records:
        if (batch.boot, sequence) not in seen:
            seen.add((batch.boot, sequence))
            found.numbers.append(number_of(data))
            found.sequences.setdefault(batch.boot, []).append(sequence)


def find_left(folder: Path) -> Found:
    """What a new process finds of the dead ones, which it must leave nothing of."""
    with spooling(folder) as (spool, _):
        return drain(spool)
