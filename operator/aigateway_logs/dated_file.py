"""One log file of today: `system/system_2026-11-21.log`, set aside by size, begun anew by day, and whatever others do to it.

Several processes may append to it: each write is one append, setting aside is done under a lock, and a file that was
renamed, removed or cut by somebody is noticed before the next write. Called by `files`, in its thread.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Final

NAME: Final = re.compile(r"(?P<stem>[a-z]+)_(?P<day>\d{4}-\d\d-\d\d)(?:\.(?P<number>\d+))?\.log(?P<packed>\.gz)?\Z")
LOCK: Final = ".lock"


class DatedFile:
    """Appends to the file of the day; every method may raise OSError, and may be called again after that."""

    def __init__(self, folder: Path, stem: str, max_bytes: int, files_a_day: int, today: Callable[[], date]) -> None:
        """`stem` is `system`, `operation` or `error`: the folder's name and the beginning of the file's."""
        self.folder = folder / stem
        self._stem = stem
        self._max_bytes = max_bytes
        self._files_a_day = files_a_day
        self._today = today
        self._handle: int | None = None
        self._day: date | None = None

    def append(self, data: bytes, *, sync: bool) -> int:
        """Write `data` (whole lines); returns how much was written. With `sync` it is on disk when this returns."""
        handle = self._current()
        written = os.write(handle, data)
        if sync and written == len(data):
            os.fdatasync(handle)
        return written

    def close(self) -> None:
        """Close it; the next append opens it again."""
        if self._handle is not None:
            with suppress(OSError):
                os.close(self._handle)
            self._handle = None

    def _current(self) -> int:
        path = self._path()
        if self._handle is None or not self._same(path):
            self.close()
            self._open(path)
        assert self._handle is not None  # noqa: S101 - opened above
        if os.fstat(self._handle).st_size >= self._max_bytes:
            self._set_aside(path)
            self.close()
            self._open(path)
        return self._handle

    def _path(self) -> Path:
        self._day = self._today()
        return self.folder / f"{self._stem}_{self._day.isoformat()}.log"

    def _same(self, path: Path) -> bool:
        """Whether the open file is still the one of that name."""
        assert self._handle is not None  # noqa: S101 - asked only while one is open
        try:
            there = path.stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._handle)
        return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)

    def _open(self, path: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def _set_aside(self, path: Path) -> None:
        """Rename the full file to the day's next number; the oldest of the day goes when there are too many."""
        with locked(self.folder / LOCK):
            try:
                if path.stat().st_size < self._max_bytes:
                    return  # another process was faster
            except FileNotFoundError:
                return
            earlier = sorted(self._set_aside_today())
            number = earlier[-1][0] + 1 if earlier else 1
            path.rename(self.folder / f"{path.stem}.{number}.log")
            for _, oldest in earlier[: max(len(earlier) + 2 - self._files_a_day, 0)]:
                oldest.unlink(missing_ok=True)

    def _set_aside_today(self) -> Iterator[tuple[int, Path]]:
        for path in self.folder.iterdir():
            found = NAME.match(path.name)
            if found and found["number"] and self._day is not None and found["day"] == self._day.isoformat():
                yield int(found["number"]), path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes heed."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
