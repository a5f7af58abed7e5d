"""Figures about the logs themselves, as plain numbers: whoever exposes metrics reads them when asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Counters:
    """Since this process began, but for the sizes, which are of now."""

    spooled: int = 0
    """Records that were given a number: they are in the spool, or in memory until the disk takes them."""
    durable: int = 0
    """Highest number that is on disk."""
    shipped: int = 0
    """Records that MongoDB acknowledged, those of dead processes and those found to be there already included."""
    refused: int = 0
    """Records that MongoDB will never take; they are in the error file."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Records that found no room, by `stream.LEVEL`."""
    damaged: int = 0
    """Spooled records whose bytes were damaged."""
    missing: int = 0
    """Spooled records whose file was removed or cut."""
    ship_failures: int = 0
    """Attempts to ship that failed."""
    file_dropped: int = 0
    """Lines that the files' disk would not take."""
    backlog_bytes: int = 0
    """Bytes on disk that wait for MongoDB."""
    memory_bytes: int = 0
    """Bytes in memory that wait for the disk."""
    last_ship_time: float | None = None
    """Unix time of the last batch that MongoDB acknowledged; None: none yet."""
