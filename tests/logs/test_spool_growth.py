"""Reading a segment while it is written: whatever the writer does between two steps of the reader, no record is passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aigateway_logs.spool.disk import Disk
from aigateway_logs.spool.folder import Segment
from aigateway_logs.spool.frames import frame, header
from aigateway_logs.spool.reader import SpoolReader

BOOT = "0" * 21
RECORDS = 5


class Growing:
    """A feed of one segment that begins with its header only; `finish` appends all records and closes it."""

    boot = BOOT

    def __init__(self, folder: Path) -> None:
        self.removed = False
        head = header(BOOT)
        self.segment = Segment(folder / "000000000001-000.seg", 1, len(head))
        self.segment.path.write_bytes(head)

    def segments(self) -> list[Segment]:
        return [] if self.removed else [self.segment]

    def remove(self, segment: Segment) -> None:
        self.removed = True

    def finish(self) -> None:
        data = b"".join(frame(number, b"{}") for number in range(1, RECORDS + 1))
        with self.segment.path.open("ab") as file:
            file.write(data)
        self.segment.length += len(data)
        self.segment.closed = True


class Interrupted(Disk):
    """A disk during whose first read, after it, something else happens."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile: Iterator[Callable[[], None]] = iter([meanwhile])

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Read, then let the other thread go on."""
        data = super().read(path, offset, size)
        next(self._meanwhile, lambda: None)()
        return data


@pytest.mark.parametrize("when", ["while it is read", "after it was read"])
def test_a_segment_that_is_filled_and_closed_meanwhile_is_read_to_its_end(tmp_path: Path, when: str) -> None:
    """A reader that saw the header only neither takes the closed segment for read, nor that header for all of it."""
    feed = Growing(tmp_path)
    reader = SpoolReader(Interrupted(feed.finish if when == "while it is read" else lambda: None), feed, expected=1)
    assert reader.read(10) is None, "nothing was there when it was read"
    assert not feed.removed, "what was written meanwhile was not read"
    if not feed.segment.closed:
        feed.finish()
    batch = reader.read(10)
    assert batch is not None
    assert [sequence for sequence, _ in batch.records] == list(range(1, RECORDS + 1))
    reader.acknowledge(batch)
    assert feed.removed
