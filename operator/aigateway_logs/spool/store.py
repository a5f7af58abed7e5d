"""The spool as one thing: this process's writer, the readers of what it and dead processes left, and what was lost of it.

`put` from any thread; everything else from the shipper's thread. Called by `dual` and `shipper`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aigateway_logs.settings import SpoolSettings
from aigateway_logs.spool import folder as folders
from aigateway_logs.spool.disk import Disk
from aigateway_logs.spool.drops import read_drops
from aigateway_logs.spool.folder import Adopted, Segment
from aigateway_logs.spool.reader import Loss, SpoolReader
from aigateway_logs.spool.writer import SpoolWriter

_TELL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class SpoolEvent:
    """Something about the spool that a record should tell: `event_type`, a sentence, and fields."""

    event_type: str
    message: str
    fields: dict[str, object]


class _Left:
    """Feed of a dead process's segments; nobody writes to them any more."""

    def __init__(self, disk: Disk, adopted: Adopted, removed: Callable[[int], None]) -> None:
        self.adopted = adopted
        self.boot = adopted.boot
        self._disk = disk
        self._left = list(adopted.segments)
        self._removed = removed

    def segments(self) -> Sequence[Segment]:
        return tuple(self._left)

    def remove(self, segment: Segment) -> None:
        self._disk.remove(segment.path)
        self._left.remove(segment)
        self._removed(segment.length)


class Spool:
    """See the module. `tell` gets events to be logged; `written` is called whenever there is something new to ship."""

    def __init__(
        self,
        settings: SpoolSettings,
        written: Callable[[], None],
        trouble: Callable[[str | None], None],
        tell: Callable[[SpoolEvent], None],
        disk: Disk | None = None,
    ) -> None:
        self.settings = settings
        self.lost: Counter[str] = Counter()
        """Records that were accepted and are gone: `damaged` and `missing`."""
        self._disk = disk or Disk()
        self._tell = tell
        self.boot = folders.new_boot(self._disk, settings.folder)
        self.writer = SpoolWriter(self._disk, self.boot, settings, written, trouble)
        self._own = SpoolReader(self._disk, self.writer, expected=1)
        self._left: dict[SpoolReader, _Left] = {}
        self._told_drops = 0
        self._told_at = -_TELL_SECONDS

    def readers(self) -> list[SpoolReader]:
        """This boot first, so that new records are not held up by old ones; then the dead ones, oldest first."""
        return [self._own, *self._left]

    def adopt(self) -> None:
        """Take over what dead processes left, if any. A folder that cannot be read is tried again next time."""
        try:
            found = folders.adopt(self._disk, self.settings.folder, self.boot)
        except OSError:
            return
        for adopted in found:
            self.writer.foreign_bytes += sum(segment.length for segment in adopted.segments)
            first = adopted.segments[0].first if adopted.segments else 1
            left = _Left(self._disk, adopted, self._forget_bytes)
            self._left[SpoolReader(self._disk, left, first)] = left
            drops = read_drops(self._disk, adopted.path / folders.DROPPED)
            if drops:
                self._tell(_drop_event(adopted.boot, drops))

    def leave_shipped(self) -> None:
        """Remove the folders of dead processes of which nothing is left."""
        for reader, left in list(self._left.items()):
            if not left.segments() and reader.trim_again():
                del self._left[reader]
                with suppress(OSError):
                    folders.abandon(self._disk, left.adopted.path, left.adopted.lock)

    def trim_again(self) -> None:
        """Try once more to remove what a read-only disk kept."""
        for reader in self.readers():
            reader.trim_again()

    def shipped_from_memory(self, first: int, last: int) -> None:
        """Records of this boot that the disk would not take are in MongoDB."""
        self.writer.shipped(last)
        self._own.shipped_elsewhere(first, last)

    def note(self, losses: Sequence[Loss]) -> None:
        """Count losses and tell of them; called once a batch that shows them was acknowledged."""
        for loss in losses:
            kind = "damaged" if loss.damaged else "missing"
            self.lost[kind] += loss.count
            fields: dict[str, object] = {"boot_id": loss.boot, "first": loss.first, "last": loss.last, "count": loss.count}
            remedy = "Check the disk." if loss.damaged else "Its file was removed or cut; leave the spool folder alone."
            self._tell(SpoolEvent(f"spool_records_{kind}", f"{loss.count} records of the spool are {kind}. {remedy}", fields))

    def tell_drops(self, *, now: bool = False) -> None:
        """Tell how many records of this boot found no room, if that has changed; every ten seconds, or `now`."""
        drops = self.writer.drops
        if drops.total != self._told_drops and (now or time.monotonic() - self._told_at > _TELL_SECONDS):
            self._told_drops, self._told_at = drops.total, time.monotonic()
            self._tell(_drop_event(self.boot, {key: count for key, count in drops.counts.items() if count}))

    def pending_bytes(self) -> int:
        """Bytes on disk that wait to be shipped."""
        return sum(reader.pending_bytes() for reader in self.readers())

    def empty(self) -> bool:
        """Whether nothing waits, neither on disk nor in memory."""
        return not self._left and self.writer.backlog().memory_bytes == 0 and self._own.pending_bytes() == 0

    def close_writer(self, within_seconds: float) -> None:
        """Commit what was accepted; nothing is accepted any more, and the last segment may be trimmed."""
        self.tell_drops(now=True)
        self.writer.close(within_seconds)
        self.writer.seal()

    def leave(self) -> None:
        """After the last batch: remove the folders of which everything was shipped, and unlock the others."""
        self._own.read(1)  # an own segment that was shipped to its end is trimmed by asking for more
        self.leave_shipped()
        for left in self._left.values():
            with suppress(OSError):
                self._disk.close(left.adopted.lock)
        self._left.clear()
        self.writer.leave_folder()

    def _forget_bytes(self, size: int) -> None:
        self.writer.foreign_bytes -= size


def _drop_event(boot: str, counts: dict[str, int]) -> SpoolEvent:
    total = sum(counts.values())
    message = (
        f"{total} records of one process have found no room in the spool so far. Give it more room, or bring MongoDB back."
    )
    return SpoolEvent("spool_records_dropped", message, {"boot_id": boot, "dropped_total": total, "dropped": counts})
