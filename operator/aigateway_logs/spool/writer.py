"""The thread that writes: numbers records, appends them to segments, and has them synced in groups.

Callers hand over bytes and never touch the disk. A record that was accepted has a number and is kept in memory until it is
durable; whatever a file system call does meanwhile (no space, read-only, a file removed or cut under us), it is written
again, to a new segment, when that works. A record that comes to lie on disk twice has one `_id`.

Called by `store`; `syncer` calls back. Must not know what a payload says, nor MongoDB.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from aigateway_logs.settings import SpoolSettings
from aigateway_logs.spool import folder as folders
from aigateway_logs.spool.backlog import Backlog, Frame, Payload, number
from aigateway_logs.spool.disk import Disk
from aigateway_logs.spool.drops import Drops
from aigateway_logs.spool.folder import Segment
from aigateway_logs.spool.frames import HEAD_BYTES, header
from aigateway_logs.spool.policy import share
from aigateway_logs.spool.syncer import Haste, Job, Syncer, haste
from aigateway_logs.spool.waiting import Waiter, release

_CHUNK_BYTES: Final = 256 * 1024
_RETRY_SECONDS: Final = (0.05, 0.2, 0.5, 1.0)
_STALLED_SECONDS: Final = 1.0


class SpoolWriter:
    """Owns the segments of this boot. `put` may be called from any thread; everything else here runs in its own."""

    def __init__(
        self, disk: Disk, boot: str, settings: SpoolSettings, written: Callable[[], None], trouble: Callable[[str | None], None]
    ) -> None:
        """`written` is called after each write, `trouble` with a reason when the disk begins to fail then None."""
        self.boot = boot
        self.drops = Drops()
        self.foreign_bytes = 0
        """Bytes on disk that dead processes left; they count towards the bound."""
        self._disk = disk
        self._folder = settings.folder / boot
        self._settings = settings
        self._written = written
        self._trouble = trouble
        self._lock = threading.RLock()  # a finalizer may log while its thread holds it
        self._queue: list[Frame] = []
        self._unwritten: deque[Frame] = deque()
        self._unsynced: deque[Frame] = deque()
        self._segments: list[Segment] = []
        self._memory_bytes = self._disk_bytes = 0
        self._sequence = self._durable = 0
        self._generation = 1
        self._unsynced_since: float | None = None
        self._drops_saved = 0
        self._handle: int | None = None
        self._folder_lock: int | None = None
        self._attempt = 0
        self._failures = 0
        self._must_abandon = self._sync_doubtful = False
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._closing = threading.Event()
        self._syncer = Syncer(disk, settings.gather_seconds, self._synced, self._sync_failed)
        self._thread = threading.Thread(target=self._run, name="log-spool-write", daemon=True)

    def start(self) -> None:
        """Start both threads. A disk that fails is tried again; nothing raises."""
        self._syncer.start()
        self._thread.start()

    def put(self, payload: Payload, stream: str, level: int, waiter: Waiter | None = None, *, final: bool = True) -> bool:
        """Accept a record or say that there is no room; costs microseconds and never waits.

        With a waiter it is committed at once, else within `gather_seconds`. A refused record is counted if this was the
        `final` try. Records of `share` 1 are accepted until the bound.
        """
        with self._lock:
            if self._closing.is_set() or self._fullness(len(payload) + HEAD_BYTES) > share(stream, level):
                if final:
                    self.drops.count(stream, level)
                    self._wake.set()
                return False
            self._accept(payload, waiter)
        self._signal(urgent=waiter is not None)
        return True

    def put_report(self, payload: Payload) -> None:
        """Accept a record about records (drops, damage): few and small, so that the bound does not hold for them."""
        with self._lock:
            if not self._closing.is_set():
                self._accept(payload, None)
        self._signal(urgent=False)

    def waiting(self) -> int:
        """Accepted records that the thread has not taken up yet."""
        return len(self._queue)

    def full(self) -> bool:
        """Whether even an operation record would find no room."""
        with self._lock:
            return self._fullness(0) >= 1.0

    def waits_in_vain(self) -> bool:
        """Whether the disk fails or has not answered for a second: callers then go on at once."""
        since = self._unsynced_since
        return self._failures > 0 or (since is not None and time.monotonic() - since > _STALLED_SECONDS)

    def backlog(self) -> Backlog:
        """Sizes now."""
        with self._lock:
            return Backlog(self._disk_bytes, self._memory_bytes, self._sequence, self._durable)

    def segments(self) -> Sequence[Segment]:
        """Segments on disk, in order. `length` of the last one grows."""
        with self._lock:
            return tuple(self._segments)

    def remove(self, segment: Segment) -> None:
        """Trim a closed segment: all of it was shipped. Raises OSError."""
        self._disk.remove(segment.path)
        self._forget(segment)

    def held(self) -> list[tuple[int, bytes]]:
        """Numbered records that the failing disk would not take, to be shipped from memory; empty while it works."""
        with self._lock:
            return [(kept.sequence, bytes(kept.payload)) for kept in self._unwritten] if self._failures else []

    def shipped(self, sequence: int) -> None:
        """Forget held records up to `sequence`: they are in MongoDB."""
        with self._lock:
            done = []
            while self._unwritten and self._unwritten[0].sequence <= sequence:
                done.append(self._unwritten.popleft())
            self._memory_bytes -= sum(len(kept.data) for kept in done)
        release([kept.waiter for kept in done if kept.waiter is not None], True)

    def close(self, within_seconds: float) -> None:
        """Write and sync what was accepted, then end; a disk that hangs or fails is left behind."""
        deadline = time.monotonic() + within_seconds
        self._closing.set()
        self._signal(urgent=True)
        self._thread.join(max(within_seconds, 0.0))
        self._syncer.close(deadline - time.monotonic())

    def leave_folder(self) -> None:
        """After `close`: remove the folder if everything was shipped; else leave it to the next process."""
        self.drops.close(self._disk)
        lock, self._folder_lock = self._folder_lock, None
        if lock is None:
            return
        with suppress(OSError):
            if self._segments or self._memory_bytes:
                self._disk.close(lock)
            else:
                folders.abandon(self._disk, self._folder, lock)

    def seal(self) -> None:
        """After `close`: nothing will be appended any more, so the last segment may be trimmed as well."""
        with self._lock:
            for segment in self._segments:
                segment.closed = True

    def _run(self) -> None:
        while self._next():
            try:
                if self._must_abandon:
                    self._abandon()
                if not self._write() and self._failures:
                    self._probe()
            except OSError as error:
                self._failed(error)
            else:
                self._recovered()
            self._save_drops()
        self._save_drops()
        if self._handle is not None:
            self._syncer.submit(self._job(close=True))

    def _save_drops(self) -> None:
        if self.drops.total != self._drops_saved:
            self._drops_saved = self.drops.total
            self.drops.save(self._disk)

    def _next(self) -> bool:
        """Wait for work and number it; False when closing and nothing is left, or the disk will not take it."""
        if self._failures:
            self._wake.wait(_RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS)) - 1])
            if self._closing.is_set() and self._failures > 1:
                return False
        elif not self._closing.is_set():  # `close` may have signalled while the last records were written
            self._wake.wait()
            if not self._closing.is_set():
                self._urgent.wait(self._settings.gather_seconds)
        urgent = self._urgent.is_set()
        self._urgent.clear()
        with self._lock:
            closing = self._closing.is_set()  # what is put from now on is refused then
            queue, self._queue = self._queue, []
            if urgent or self._failures or not queue:
                self._wake.clear()  # else it looks once more by itself: while system records come nobody need wake it
        grown = number(queue, after=self._sequence)  # meanwhile callers can put more
        with self._lock:
            self._sequence += len(queue)
            self._memory_bytes += grown
            self._unwritten.extend(queue)
        return bool(not closing or self._unwritten or self._must_abandon)

    def _write(self) -> bool:
        """Write what waits; whether there was any."""
        wrote = False
        while (first := self._first_unwritten()) is not None:
            handle = self._open(first) if self._handle is None else self._handle
            segment = self._segments[-1]
            names, size = self._disk.state(handle)
            if names == 0 or size != segment.length:
                self._abandon()  # removed or cut by somebody: what is not durable goes to a new one
                continue
            how = self._append(handle, segment)
            if segment.length >= self._settings.segment_bytes:
                segment.closed = True
                self._syncer.submit(self._job(close=True))
                self._handle = None
            else:
                self._syncer.submit(self._job(how=how))
            self._written()
            wrote = True
        return wrote

    def _probe(self) -> None:
        """Begin a segment although nothing waits: raises OSError as long as the disk fails.

        What it would not take is shipped from memory, so an empty queue says nothing of the disk; and to say that it works
        is a record itself, which a full disk would refuse, and so on for ever.
        """
        if self._handle is not None:
            self._segments[-1].closed = True
            self._syncer.submit(self._job(close=True))
            self._handle = None
        self._open(self._sequence + 1)

    def _first_unwritten(self) -> int | None:
        with self._lock:
            return self._unwritten[0].sequence if self._unwritten else None

    def _append(self, handle: int, segment: Segment) -> Haste:
        """Write a chunk; returns what its sync may wait for."""
        chunk = self._take()
        data = b"".join(kept.data for kept in chunk)
        try:
            if self._disk.write(handle, data) != len(data):
                raise OSError(errno.ENOSPC, "only a part could be written")
        except OSError:
            with self._lock:
                self._unwritten.extendleft(reversed(chunk))
            self._disk.truncate(handle, segment.length)
            raise
        with self._lock:
            segment.length += len(data)
            self._disk_bytes += len(data)
            self._unsynced.extend(chunk)
            self._unsynced_since = self._unsynced_since or time.monotonic()
        waiters = [kept.waiter for kept in chunk]
        release([waiter for waiter in waiters if waiter is not None and waiter.when_written], True)
        return haste(waiters)

    def _take(self) -> list[Frame]:
        chunk: list[Frame] = []
        size = 0
        with self._lock:
            while self._unwritten and (not chunk or size + len(self._unwritten[0].data) <= _CHUNK_BYTES):
                chunk.append(self._unwritten.popleft())
                size += len(chunk[-1].data)
        return chunk

    def _open(self, first: int) -> int:
        """Begin a segment with the first unwritten record. Its name is synced with its first records."""
        if self._folder_lock is None or not self._disk.is_folder(self._folder):
            self._claim()
        path = self._folder / folders.segment_name(first, self._attempt % 1000)
        self._attempt += 1
        handle = self._disk.create(path)
        data = header(self.boot)
        try:
            if self._disk.write(handle, data) != len(data):
                raise OSError(errno.ENOSPC, "only a part could be written")
        except OSError:
            self._syncer.submit(Job(handle, self._generation, 0, close=True, sync=False))
            self._disk.remove(path)
            raise
        self._handle = handle
        with self._lock:
            self._segments.append(Segment(path, first, len(data)))
            self._disk_bytes += len(data)
        self._syncer.submit(Job(handle, self._generation, 0, folder=self._folder))
        return handle

    def _claim(self) -> None:
        """Make the folder and lock it, at the start and whenever somebody removed it."""
        if self._folder_lock is not None:
            self._disk.close(self._folder_lock)
            self._folder_lock = None
        self._folder_lock = folders.claim(self._disk, self._settings.folder, self.boot)
        if self._folder_lock is None:
            raise OSError(errno.EBUSY, "another process holds the folder")
        self.drops.close(self._disk)
        self.drops.open(self._disk, self._folder / folders.DROPPED)
        self._disk.sync_folder(self._settings.folder)

    def _abandon(self) -> None:
        """Trust the current segment no further; what it holds that is not durable will be written again."""
        with self._lock:
            self._must_abandon = False
            self._generation += 1
            self._unwritten.extendleft(reversed(self._unsynced))
            self._unsynced.clear()
            self._unsynced_since = None
            handle, self._handle = self._handle, None
            last = self._segments[-1] if handle is not None else None
            if last is not None:
                last.closed = True
        if handle is None or last is None:
            return
        self._syncer.submit(Job(handle, self._generation, 0, close=True, sync=False))
        if last.first > self._durable:  # it holds nothing that is not written again
            self._forget(last)
            self._disk.remove(last.path)

    def _failed(self, error: OSError) -> None:
        self._failures += 1
        with self._lock:
            stuck = [*self._unsynced, *self._unwritten]
            waiters = [kept.waiter for kept in stuck if kept.waiter is not None]
            for kept in stuck:
                kept.waiter = None
        release(waiters, False)
        self._written()  # the shipper may take what is held in memory
        if self._failures == 1:
            self._trouble(f"{error.strerror or type(error).__name__} ({errno.errorcode.get(error.errno or 0, '?')})")

    def _recovered(self) -> None:
        if self._failures and not self._unwritten and not self._sync_doubtful:
            self._failures = 0
            self._trouble(None)

    def _job(self, *, close: bool = False, how: Haste = Haste.GATHERED) -> Job:
        assert self._handle is not None  # noqa: S101 - only called with an open segment
        sequence = self._unsynced[-1].sequence if self._unsynced else 0
        return Job(self._handle, self._generation, sequence, close=close, haste=how)

    def _synced(self, generation: int, sequence: int) -> None:
        with self._lock:
            if generation != self._generation:
                return
            done: list[Frame] = []
            while self._unsynced and self._unsynced[0].sequence <= sequence:
                done.append(self._unsynced.popleft())
            self._durable = max(self._durable, sequence)
            self._memory_bytes -= sum(len(kept.data) for kept in done)
            self._unsynced_since = time.monotonic() if self._unsynced else None
            doubted, self._sync_doubtful = self._sync_doubtful, False
        if doubted:
            self._signal(urgent=True)
        release([kept.waiter for kept in done if kept.waiter is not None], True)

    def _sync_failed(self, generation: int, error: OSError) -> None:
        with self._lock:
            if generation != self._generation:
                return
            self._must_abandon = self._sync_doubtful = True
        self._failed(error)
        self._signal(urgent=True)

    def _accept(self, payload: Payload, waiter: Waiter | None) -> None:
        size = len(payload) + HEAD_BYTES
        self._queue.append(Frame(payload, waiter))
        self._memory_bytes += size

    def _fullness(self, size: int) -> float:
        on_disk = self._disk_bytes + self.foreign_bytes + self._memory_bytes + size
        in_memory = self._memory_bytes + size
        return max(on_disk / self._settings.max_bytes, in_memory / self._settings.memory_bytes)

    def _forget(self, segment: Segment) -> None:
        with self._lock:
            if segment in self._segments:
                self._segments.remove(segment)
                self._disk_bytes -= segment.length

    def _signal(self, *, urgent: bool) -> None:
        if urgent and not self._urgent.is_set():
            self._urgent.set()
        if not self._wake.is_set():
            self._wake.set()
