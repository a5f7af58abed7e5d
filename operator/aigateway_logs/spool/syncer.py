"""The thread that waits for the disk: fdatasync for everything written since the last one, then closes what is finished.

Beside the writer, so that records are written (and survive the process) while a slow disk still syncs the ones before. On
a disk that was quick the last time the writer syncs by itself what somebody waits for: to wake another thread takes half as
long as the sync. It owns every descriptor it is given once told to close it. Called by `writer`. Must not know records.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from aigateway_logs.spool.disk import Disk
from aigateway_logs.spool.waiting import Waiter

QUICK_SECONDS: Final = 0.005
"""A disk is quick that syncs within that time: who waits for records to be written (`Waiter.when_written`) may wait as long."""


class Haste(Enum):
    """What a sync may wait for."""

    NONE = "company"
    GATHERED = "nothing: its records have waited for company already"
    AWAITED = "nothing: somebody waits for it"


def haste(waiters: Iterable[Waiter | None]) -> Haste:
    """Return that of a group of records; None: nobody waits for that one, so that it has gathered company."""
    found = {None if waiter is None else waiter.when_written for waiter in waiters}
    return Haste.AWAITED if False in found else Haste.GATHERED if None in found else Haste.NONE


@dataclass(frozen=True, slots=True)
class Job:
    """Sync `handle` (and `folder`, whose names changed); everything up to `sequence` of this `generation` is durable then."""

    handle: int
    generation: int
    sequence: int
    folder: Path | None = None
    close: bool = False
    sync: bool = True
    haste: Haste = Haste.GATHERED


class Syncer:
    """Group commit: as many jobs as came while it was busy, or while none was urgent, are one sync."""

    def __init__(
        self, disk: Disk, gather_seconds: float, done: Callable[[int, int], None], failed: Callable[[int, OSError], None]
    ) -> None:
        """`done(generation, sequence)` and `failed(generation, error)` are called in the syncer's thread."""
        self._disk = disk
        self._gather_seconds = gather_seconds
        self._done = done
        self._failed = failed
        self._jobs: list[Job] = []
        self._condition = threading.Condition()
        self._hurry = False
        self._busy = False
        self._quick = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log-spool-sync", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Add a job; returns at once, or after the sync of a quick disk. Not from two threads at a time."""
        with self._condition:
            here = job.haste is Haste.AWAITED and self._quick and not self._busy and not self._jobs
            if not here:
                self._jobs.append(job)
                self._hurry = self._hurry or job.haste is not Haste.NONE
                if job.haste is not Haste.NONE or len(self._jobs) == 1:
                    self._condition.notify()
        if here:
            self._work([job])

    def close(self, within_seconds: float) -> None:
        """Do what is left and end; a disk that hangs is left behind."""
        with self._condition:
            self._closing = self._hurry = True
            self._condition.notify()
        self._thread.join(max(within_seconds, 0.0))

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._jobs and not self._closing:
                    self._condition.wait()
                self._condition.wait_for(lambda: self._hurry, self._gather_seconds)
                jobs, self._jobs, self._hurry, self._busy = self._jobs, [], self._closing, True
            if not jobs:
                return
            self._work(jobs)
            self._busy = False

    def _work(self, jobs: list[Job]) -> None:
        wanted = [job for job in jobs if job.sync]
        newest = max((job.generation for job in wanted), default=0)
        began = time.monotonic()
        try:
            for handle in dict.fromkeys(job.handle for job in wanted if job.generation == newest):
                self._disk.sync(handle)
            for folder in dict.fromkeys(job.folder for job in wanted if job.folder is not None):
                self._disk.sync_folder(folder)
        except OSError as error:
            self._quick = False
            self._failed(newest, error)
        else:
            if wanted:
                self._quick = time.monotonic() - began < QUICK_SECONDS
                self._done(newest, max(job.sequence for job in wanted if job.generation == newest))
        for handle in dict.fromkeys(job.handle for job in jobs if job.close):
            with suppress(OSError):
                self._disk.close(handle)
