"""What a process has accepted and not committed yet, record by record and in sum. Made and kept by `writer`."""

from __future__ import annotations

from dataclasses import dataclass

from aigateway_logs.spool.waiting import Waiter


@dataclass(slots=True)
class Frame:
    """A numbered record that is not durable yet."""

    sequence: int
    data: bytes
    payload: bytes
    waiter: Waiter | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """Sizes now: bytes on disk, bytes in memory; `sequence` is the last number given, `durable` the last one synced."""

    disk_bytes: int
    memory_bytes: int
    sequence: int
    durable: int
