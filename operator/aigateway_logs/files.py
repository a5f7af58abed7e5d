"""Log files: a thread that appends lines to `system`, `operation` and `error`, and keeps them tidy.

Callers hand over lines and go on. A disk that is full, slow or read-only costs memory up to a bound, then lines, which are
counted; it is said once, and once that it is over. Called by `dual`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Literal

from aigateway_logs.dated_file import DatedFile
from aigateway_logs.housekeeping import tidy
from aigateway_logs.settings import FileSettings, LogSettings
from aigateway_logs.spool.backlog import Payload
from aigateway_logs.spool.waiting import Waiter, release

Stem = Literal["system", "operation", "error"]
STEMS: Final[tuple[Stem, ...]] = ("system", "operation", "error")
_MEMORY_BYTES: Final = 8 * 1024 * 1024
_GATHER_SECONDS: Final = 0.015
_RETRY_SECONDS: Final = 1.0
_TIDY_SECONDS: Final = 600.0
_BATCH_LINES: Final = 2000


@dataclass(frozen=True, slots=True)
class _Line:
    stems: tuple[Stem, ...]
    data: Payload
    waiter: Waiter | None


def _today() -> date:
    return datetime.now(UTC).date()


class LogFiles:
    """The three files. `write` from any thread; never raises."""

    def __init__(
        self,
        settings: LogSettings,
        files: FileSettings,
        trouble: Callable[[str | None], None],
        today: Callable[[], date] = _today,
    ) -> None:
        """`trouble` gets a reason when writing begins to fail, and None when it works again."""
        self.dropped = 0
        self._settings = settings
        self._compress = files.compress
        self._trouble = trouble
        self._today = today
        self._files = {stem: DatedFile(files.folder, stem, files.max_bytes, files.files_a_day, today) for stem in STEMS}
        self._pending: dict[Stem, bytearray] = {stem: bytearray() for stem in STEMS}
        self._lock = threading.RLock()  # a finalizer may log while its thread holds it
        self._queue: deque[_Line] = deque()
        self._queued_bytes = 0
        self._failing = False
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-files", daemon=True)
        self._tidier: threading.Thread | None = None
        self._tidy_at = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def apply(self, settings: LogSettings) -> None:
        """Use other retention days from the next tidying on."""
        self._settings = settings
        self._tidy_at = 0.0

    def write(self, stems: tuple[Stem, ...], line: Payload, waiter: Waiter | None = None) -> None:
        """Append `line` (no newline at its end) to each of `stems`. A waiter is answered when it is on disk, or at once if
        the disk fails.
        """
        size = len(line) + 1
        with self._lock:
            refused = self._queued_bytes + size > _MEMORY_BYTES
            if refused:
                self.dropped += 1
            else:
                self._queue.append(_Line(stems, line, None if self._failing else waiter))
                self._queued_bytes += size
        if waiter is not None:
            if refused or self._failing:
                release([waiter], False)
            self._urgent.set()
        if not self._wake.is_set():
            self._wake.set()

    def waiting(self) -> int:
        """Lines that the thread has not taken up yet."""
        return len(self._queue)

    def close(self, within_seconds: float) -> None:
        """Write what is there and end; a disk that hangs is left behind."""
        self._closing.set()
        self._urgent.set()
        self._wake.set()
        self._thread.join(max(within_seconds, 0.0))
        for file in self._files.values():
            file.close()

    def _run(self) -> None:
        while True:
            self._wake.wait(_RETRY_SECONDS if self._failing else _TIDY_SECONDS)
            if not self._closing.is_set():
                self._urgent.wait(_GATHER_SECONDS if not self._failing else _RETRY_SECONDS)
            urgent = self._urgent.is_set()
            self._urgent.clear()
            with self._lock:
                if urgent or self._failing or not self._queue:
                    self._wake.clear()  # else it looks once more by itself: while lines come nobody need wake it
            closing = self._closing.is_set()
            self._write_queue()
            if closing and (self._failing or not self._queue):
                return
            self._tidy()

    def _write_queue(self) -> None:
        while self._queue or any(self._pending.values()):
            lines = self._take()
            waiters = [line.waiter for line in lines if line.waiter is not None]
            try:
                for stem in STEMS:
                    self._flush(stem, sync=bool(waiters))
            except OSError as error:
                release(waiters, False)
                if not self._failing:
                    self._failing = True
                    self._trouble(error.strerror or type(error).__name__)
                return
            with self._lock:
                self._queued_bytes -= sum(len(line.data) + 1 for line in lines)
            release(waiters, True)
            if self._failing:
                self._failing = False
                with self._lock:
                    self._queued_bytes = sum(len(line.data) + 1 for line in self._queue)
                self._trouble(None)

    def _take(self) -> list[_Line]:
        """Move lines from the queue to what is pending for each file; none while an earlier batch is not written."""
        if any(self._pending.values()):
            return []
        lines: list[_Line] = []
        with self._lock:
            while self._queue and len(lines) < _BATCH_LINES:
                lines.append(self._queue.popleft())
        for line in lines:
            data = bytes(line.data) + b"\n"
            for stem in line.stems:
                self._pending[stem] += data
        return lines

    def _flush(self, stem: Stem, *, sync: bool) -> None:
        pending = self._pending[stem]
        while pending:
            written = self._files[stem].append(bytes(pending), sync=sync)
            del pending[:written]

    def _tidy(self) -> None:
        """Every ten minutes, in a thread of its own: compressing takes longer than a record may wait."""
        if time.monotonic() < self._tidy_at or (self._tidier is not None and self._tidier.is_alive()):
            return
        self._tidy_at = time.monotonic() + _TIDY_SECONDS
        self._tidier = threading.Thread(target=self._tidy_all, name="log-tidy", daemon=True)
        self._tidier.start()

    def _tidy_all(self) -> None:
        days = {"system": self._settings.system.retention_days, "operation": self._settings.operation.retention_days}
        for stem, file in self._files.items():
            if file.folder.is_dir():
                tidy(file.folder, days.get(stem, max(days.values())), self._today(), compress=self._compress)


__all__ = ["LogFiles", "Stem"]
