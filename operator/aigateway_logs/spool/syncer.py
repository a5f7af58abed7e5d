"""The thread that waits for the disk: fdatasync for everything written since the last one, then closes what is finished.

Beside the writer, so that records are written (and survive the process) while a slow disk still syncs the ones before.
It owns every descriptor it is given once told to close it. Called by `writer`. Must not know records.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aigateway_logs.spool.disk import Disk


@dataclass(frozen=True, slots=True)
class Job:
    """Sync `handle` (and `folder`, whose names changed); everything up to `sequence` of this `generation` is durable then."""

    handle: int
    generation: int
    sequence: int
    folder: Path | None = None
    close: bool = False
    sync: bool = True
    urgent: bool = True
    """Somebody waits for it, or it has waited already; False: it may wait for company."""


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
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log-spool-sync", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Add a job; returns at once."""
        with self._condition:
            self._jobs.append(job)
            self._hurry = self._hurry or job.urgent
            if job.urgent or len(self._jobs) == 1:
                self._condition.notify()

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
                jobs, self._jobs, self._hurry = self._jobs, [], self._closing
            if not jobs:
                return
            self._work(jobs)

    def _work(self, jobs: list[Job]) -> None:
        wanted = [job for job in jobs if job.sync]
        newest = max((job.generation for job in wanted), default=0)
        try:
            for handle in dict.fromkeys(job.handle for job in wanted if job.generation == newest):
                self._disk.sync(handle)
            for folder in dict.fromkeys(job.folder for job in wanted if job.folder is not None):
                self._disk.sync_folder(folder)
        except OSError as error:
            self._failed(newest, error)
        else:
            if wanted:
                self._done(newest, max(job.sequence for job in wanted if job.generation == newest))
        for handle in dict.fromkeys(job.handle for job in jobs if job.close):
            with suppress(OSError):
                self._disk.close(handle)
