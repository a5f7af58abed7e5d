"""What is still to be shipped of one boot: batches in order, trimmed once acknowledged, with losses counted exactly.

Reads only what the writer says is whole; of a dead process's last segment, what the checksums say is whole. Sequences tell
how many records damage or a removed file has cost. Called by `store` and, through it, by the shipper, in one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aigateway_logs.spool.disk import Disk
from aigateway_logs.spool.folder import Segment
from aigateway_logs.spool.frames import Damage, header_length, scan


class Feed(Protocol):
    """Where segments come from: the writer, or what a dead process left."""

    @property
    def boot(self) -> str:
        """Boot id of the records."""
        ...

    def segments(self) -> Sequence[Segment]:
        """Segments in order; the last one may grow until it is closed."""
        ...

    def remove(self, segment: Segment) -> None:
        """Trim one of which all was acknowledged. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Loss:
    """Records `first`..`last` of a boot are not there. `damaged`: their bytes are, and are no records."""

    boot: str
    first: int
    last: int
    damaged: bool

    @property
    def count(self) -> int:
        """How many."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to ship, in order, and where the next one begins."""

    boot: str
    records: tuple[tuple[int, bytes], ...]
    losses: tuple[Loss, ...]
    path: Path
    end: int
    expected: int


class SpoolReader:
    """A position in the records of one boot. Reading does not move it; `acknowledge` does, batch by batch in order."""

    def __init__(self, disk: Disk, feed: Feed, expected: int) -> None:
        """`expected` is the sequence of the first record that can be there."""
        self.boot = feed.boot
        self._disk = disk
        self._feed = feed
        self._expected = expected
        self._path: Path | None = None
        self._offset = 0
        self._data = b""
        self._data_path: Path | None = None
        self._data_start = 0
        self._elsewhere: list[tuple[int, int]] = []
        self._finished: set[Path] = set()

    def read(self, most: int, behind: Batch | None = None) -> Batch | None:
        """Return up to `most` records behind the position, or behind a batch that is not acknowledged yet; None when nothing
        is there now. Raises OSError.
        """
        for segment in self._waiting(behind):
            closed = segment.closed  # asked before reading: the writer may append and close it meanwhile
            batch = self._read_segment(segment, most, behind)
            if batch.records:
                return batch
            if not closed:
                return None
            if behind is None:  # else what lies before it is under way, and it is trimmed with that
                self._finish(segment)
        return None

    def acknowledge(self, batch: Batch) -> None:
        """Move behind `batch`, the first that is not acknowledged; trims what lies before, and its segment if it ends there."""
        segments = self._waiting()
        if batch.path not in [segment.path for segment in segments]:
            return  # given up by the writer meanwhile: what it held is written, and sent, again
        self._path, self._offset, self._expected = batch.path, batch.end, batch.expected
        for segment in segments:
            if segment.path != batch.path:
                self._finish(segment)  # its rest was read, and held nothing
                continue
            if segment.closed and self._offset >= segment.length:
                self._finish(segment)
            return

    def trim_again(self) -> bool:
        """Try once more what could not be removed; whether nothing is left of that."""
        for segment in self._feed.segments():
            if segment.path in self._finished:
                self._finish(segment)
        return not self._finished

    def shipped_elsewhere(self, first: int, last: int) -> None:
        """Records `first`..`last` were shipped from memory: they may never come to lie on disk."""
        self._elsewhere.append((first, last))

    def pending_bytes(self, behind: Batch | None = None) -> int:
        """Bytes on disk behind the position, or behind a batch that is not acknowledged yet."""
        return sum(max(segment.length - self._start(segment, behind), 0) for segment in self._waiting(behind))

    def _waiting(self, behind: Batch | None = None) -> list[Segment]:
        """Segments that are not finished, from that of `behind` on (all of them once that is gone)."""
        left = [segment for segment in self._feed.segments() if segment.path not in self._finished]
        at = next((at for at, segment in enumerate(left) if behind is not None and segment.path == behind.path), 0)
        return left[at:]

    def _start(self, segment: Segment, behind: Batch | None) -> int:
        """Offset in `segment` from which on nothing was read: 0 in one that comes after the position."""
        path, offset = (self._path, self._offset) if behind is None else (behind.path, behind.end)
        return offset if segment.path == path else 0

    def _finish(self, segment: Segment) -> None:
        """Trim; what a read-only disk keeps is skipped, and tried again by `trim_again`."""
        try:
            self._feed.remove(segment)
        except OSError:
            self._finished.add(segment.path)
        else:
            self._finished.discard(segment.path)

    def _read_segment(self, segment: Segment, most: int, behind: Batch | None) -> Batch:
        """Return what lies behind the position: no records when the file is gone, cut, or holds no more."""
        offset = self._start(segment, behind)
        data = self._bytes(segment, offset)
        start = offset - self._data_start or (header_length(data) if offset == 0 else 0)
        records: list[tuple[int, bytes]] = []
        losses: list[Loss] = []
        expected, damaged, end = self._expected if behind is None else behind.expected, False, start
        for found in scan(data, start):
            if isinstance(found, Damage):
                damaged = True
                if found.end == len(data):
                    self._data = b""  # torn or cut, or the file has grown since: the sequences of what follows will tell
                continue
            if found.sequence > expected:
                losses.extend(self._losses(expected, found.sequence - 1, damaged=damaged))
            expected, damaged, end = max(expected, found.sequence + 1), False, found.end
            records.append((found.sequence, found.payload))
            if len(records) >= most:
                break
        if not records:
            self._data = b""  # the file may grow: what was read of it, a header say, must not stand for all of it
        return Batch(self.boot, tuple(records), tuple(losses), segment.path, self._data_start + end, expected)

    def _bytes(self, segment: Segment, offset: int) -> bytes:
        """Bytes around `offset`, kept between batches; from the beginning of the file where the offset is 0."""
        if self._data_path != segment.path or not self._data_start <= offset < self._data_start + len(self._data):
            self._data_path, self._data_start = segment.path, offset
            try:
                self._data = self._disk.read(segment.path, offset, max(segment.length - offset, 0))
            except FileNotFoundError:
                self._data = b""
        return self._data

    def _losses(self, first: int, last: int, *, damaged: bool) -> list[Loss]:
        """What is missing of `first`..`last`, without what was shipped from memory."""
        found: list[Loss] = []
        for begin, end in sorted(self._elsewhere):
            if end < first or begin > last:
                continue
            if begin > first:
                found.append(Loss(self.boot, first, begin - 1, damaged))
            first = end + 1
        if first <= last:
            found.append(Loss(self.boot, first, last, damaged))
        return found
