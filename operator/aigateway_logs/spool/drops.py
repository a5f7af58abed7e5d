"""Exact counts of records that found no room, kept where a full disk can still take them.

One small file of fixed size, its blocks reserved at the start and overwritten in place, so that counts survive SIGKILL and
a full disk. They only grow during a boot, and reports carry the totals: a report that is made twice adds nothing.
Called by `writer` (which counts under its lock and saves in its own thread) and by `store` for what dead processes left.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from aigateway_logs.settings import LEVEL_NUMBERS
from aigateway_logs.spool.disk import Disk

_STREAMS: Final = ("system", "operation")
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
KEYS: Final = tuple(f"{stream}.{level}" for stream in _STREAMS for level in _LEVELS)
_TABLE: Final = struct.Struct(f"<{len(KEYS)}Q")
_RESERVED: Final = 512


class Drops:
    """Counts by stream and level. Not safe for several threads: its owner locks."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(KEYS, 0)
        self._handle: int | None = None

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    def count(self, stream: str, level: int) -> None:
        """Add one record of that level (number)."""
        name = next(name for name in reversed(_LEVELS) if level >= LEVEL_NUMBERS[name] or name == "DEBUG")
        self.counts[f"{stream}.{name}"] += 1

    def open(self, disk: Disk, path: Path) -> None:
        """Reserve the file. If there is no room even for that, counts live in memory only."""
        try:
            handle = disk.open_or_create(path)
        except OSError:
            return
        try:
            disk.reserve(handle, _RESERVED)
            disk.write_at(handle, _TABLE.pack(*self.counts.values()), 0)
        except OSError:
            disk.close(handle)
            return
        self._handle = handle

    def save(self, disk: Disk) -> None:
        """Write the counts down; they survive this process at once, and a power cut with the next sync."""
        if self._handle is not None:
            try:
                disk.write_at(self._handle, _TABLE.pack(*self.counts.values()), 0)
            except OSError:
                return  # the next save tries again

    def close(self, disk: Disk) -> None:
        """Close the file."""
        if self._handle is not None:
            disk.close(self._handle)
            self._handle = None


def read_drops(disk: Disk, path: Path) -> dict[str, int]:
    """Counts that a dead process left, without zeros; empty when there are none or they cannot be read."""
    try:
        data = disk.read(path, 0, _TABLE.size)
    except OSError:
        return {}
    if len(data) < _TABLE.size:
        return {}
    return {key: count for key, count in zip(KEYS, _TABLE.unpack(data), strict=True) if count}
