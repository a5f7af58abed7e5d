"""What lies on disk: a folder per process that wrote (a *boot*), locked while it lives, adopted by another when it is dead.

    <spool>/<boot id>/lock                     held (flock) by the process that may ship and trim this folder
    <spool>/<boot id>/000000000001-000.seg     first sequence and attempt; names sort in the order of records
    <spool>/<boot id>/dropped                  counts of what found no room (`drops`)

A boot id is time first, then random, and later than any that is there: identifiers sort by time of the process' start even
if the clock went back. Called by `store`. Must not read records.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aigateway_logs.spool.disk import Disk

LOCK: Final = "lock"
DROPPED: Final = "dropped"
_BOOT: Final = re.compile(r"(?P<milliseconds>[0-9a-f]{12})-[0-9a-f]{8}\Z")
_SEGMENT: Final = re.compile(r"(?P<first>[0-9]{12})-(?P<attempt>[0-9]{3})\.seg\Z")


@dataclass(slots=True)
class Segment:
    """One file of records. `length` grows while it is written to; `closed` once it is not."""

    path: Path
    first: int
    length: int
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a dead process left: nobody writes to it any more."""

    boot: str
    path: Path
    segments: tuple[Segment, ...]
    lock: int


def identifier(boot: str, sequence: int) -> str:
    """`_id` of a record: sorts by boot, then by sequence."""
    return f"{boot}-{sequence:012d}"


def segment_name(first: int, attempt: int) -> str:
    """Name of the segment that begins with sequence `first`."""
    return f"{first:012d}-{attempt:03d}.seg"


def new_boot(disk: Disk, spool: Path, clock: Callable[[], float] = time.time) -> str:
    """Return a boot id later than any in `spool`; an unreadable folder counts as empty."""
    try:
        known = [int(found["milliseconds"], 16) for name in disk.names(spool) if (found := _BOOT.match(name))]
    except OSError:
        known = []
    now = max(int(clock() * 1000), *(milliseconds + 1 for milliseconds in known), 0)
    return f"{now:012x}-{secrets.token_hex(4)}"


def claim(disk: Disk, spool: Path, boot: str) -> int | None:
    """Make this process's own folder and lock it. Returns the lock; raises OSError if that cannot be."""
    disk.make_folder(spool / boot)
    return disk.lock(spool / boot / LOCK, create=True)


def adopt(disk: Disk, spool: Path, own: str) -> list[Adopted]:
    """Take over the folders of dead processes, oldest first. Those of live ones, and what is no boot, are left alone."""
    taken: list[Adopted] = []
    for name in disk.names(spool):
        if name == own or _BOOT.match(name) is None:
            continue
        lock = disk.lock(spool / name / LOCK, create=False)
        if lock is None:
            _remove_if_empty(disk, spool / name)
            continue
        taken.append(Adopted(name, spool / name, tuple(_segments(disk, spool / name)), lock))
    return taken


def abandon(disk: Disk, path: Path, lock: int) -> None:
    """Remove a folder of which everything was shipped. What is still in it stays; raises OSError then."""
    disk.remove(path / DROPPED)
    disk.remove(path / LOCK)
    disk.close(lock)
    disk.remove_folder(path)


def _segments(disk: Disk, folder: Path) -> list[Segment]:
    found: list[Segment] = []
    for name in disk.names(folder):
        match = _SEGMENT.match(name)
        if match is not None:
            found.append(Segment(folder / name, int(match["first"]), disk.size(folder / name), closed=True))
    return found


def _remove_if_empty(disk: Disk, path: Path) -> None:
    """A process was killed between removing its lock and its folder (or between making them: then it is dead, or soon has its
    folder made again by `claim`'s caller).
    """
    try:
        if not disk.names(path):
            disk.remove_folder(path)
    except OSError:
        return  # another process was faster, or it is not empty after all
