"""A file system that fails, is slow, or kills the process at a chosen system call of the spool."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aigateway_logs.spool.disk import Disk

CALLS = (
    "create", "open_or_create", "write", "write_at", "reserve", "sync", "sync_folder", "truncate", "state", "close", "read",
    "size", "remove", "make_folder", "remove_folder", "is_folder", "names", "lock",
)  # fmt: skip


class FaultyDisk(Disk):
    """Calls `before(name, number)` ahead of every call; what that raises is what the call raises. Numbers begin at 1."""

    def __init__(self, before: Callable[[str, int], None]) -> None:
        self.count = 0
        self._before = before
        self._lock = threading.Lock()

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CALLS:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.count += 1
                number = self.count
            self._before(name, number)
            return found(*args, **kwargs)

        return call


class KillingDisk(FaultyDisk):
    """Kills this process with SIGKILL at the `number`th call: before it, or, for a write, in its midst."""

    def __init__(self, number: int, *, amid: bool = False) -> None:
        super().__init__(self._kill)
        self._number = number
        self._amid = amid

    def write(self, handle: int, data: bytes) -> int:
        if self._amid and self.count == self._number:
            os.write(handle, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(handle, data)

    def _kill(self, name: str, number: int) -> None:
        if number == self._number and not (self._amid and name == "write"):
            os.kill(os.getpid(), signal.SIGKILL)


class Switch:
    """A fault that a test turns on and off: an error, or a delay, for some calls."""

    def __init__(self) -> None:
        self.error: int | None = None
        self.calls: frozenset[str] = frozenset()
        self.delay_seconds = 0.0
        self.hits = 0

    def __call__(self, name: str, number: int) -> None:
        if name in self.calls:
            if self.delay_seconds:
                time.sleep(self.delay_seconds)
            if self.error is not None:
                self.hits += 1
                raise OSError(self.error, os.strerror(self.error))

    def fail(self, code: int, *calls: str) -> None:
        """From now on these calls fail."""
        self.error, self.calls = code, frozenset(calls)

    def heal(self) -> None:
        """From now on nothing fails."""
        self.error, self.calls, self.delay_seconds = None, frozenset(), 0.0


FULL = errno.ENOSPC
READ_ONLY = errno.EROFS
BROKEN = errno.EIO


def left_in(folder: Path) -> list[str]:
    """Names of everything under a folder, for messages of failing tests."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
