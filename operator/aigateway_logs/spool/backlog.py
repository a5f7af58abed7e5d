"""What a process has accepted and not committed yet, record by record and in sum. Made and kept by `writer`."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Protocol, SupportsBytes

from aigateway_logs.spool.frames import frame
from aigateway_logs.spool.waiting import Waiter


class Payload(Sized, SupportsBytes, Protocol):
    """What a record says: bytes, or what makes them when it is asked to. Its length, which it has in memory, never changes."""


@dataclass(slots=True)
class Frame:
    """An accepted record that is not durable yet. The thread that writes gives it its number and makes its data."""

    payload: Payload
    waiter: Waiter | None
    sequence: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Sizes now: bytes on disk, bytes in memory; `sequence` is the last number given, `durable` the last one synced."""

    disk_bytes: int
    memory_bytes: int
    sequence: int
    durable: int


def number(accepted: Iterable[Frame], after: int) -> int:
    """Give each its number, from `after` on, and make its bytes. Returns by how many they are more than was counted."""
    grown = 0
    for sequence, kept in enumerate(accepted, after + 1):
        payload = bytes(kept.payload)
        grown += len(payload) - len(kept.payload)
        kept.sequence, kept.payload, kept.data = sequence, payload, frame(sequence, payload)
    return grown
