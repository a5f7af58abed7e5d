"""Every system call the spool makes, in one place, so that a test can fail or kill at each of them. Holds no state.

Called by `folder`, `writer`, `syncer`, `reader` and `drops`; none of them touches the file system otherwise.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

_MODE: Final = 0o640


class Disk:
    """The real file system. Every method may raise OSError."""

    def create(self, path: Path) -> int:
        """Open a new file for appending; raises FileExistsError if it is there."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, _MODE)

    def open_or_create(self, path: Path) -> int:
        """Open a file for reading and writing in place."""
        return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, _MODE)

    def write(self, handle: int, data: bytes) -> int:
        """Append; returns the number of bytes written, which may be fewer than given."""
        return os.write(handle, data)

    def write_at(self, handle: int, data: bytes, offset: int) -> None:
        """Overwrite in place."""
        os.pwrite(handle, data, offset)

    def reserve(self, handle: int, size: int) -> None:
        """Make sure that `size` bytes can be written in place on a full disk."""
        os.posix_fallocate(handle, 0, size)

    def sync(self, handle: int) -> None:
        """Return when data and size have reached the disk."""
        os.fdatasync(handle)

    def sync_folder(self, path: Path) -> None:
        """Return when names made or removed in a folder have reached the disk."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def truncate(self, handle: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(handle, size)

    def state(self, handle: int) -> tuple[int, int]:
        """Return (names, size): no names once it was removed."""
        stat = os.fstat(handle)
        return stat.st_nlink, stat.st_size

    def close(self, handle: int) -> None:
        """Close a file."""
        os.close(handle)

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`."""
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(handle, size, offset)
        finally:
            os.close(handle)

    def size(self, path: Path) -> int:
        """Size of a file in bytes."""
        return path.stat().st_size

    def remove(self, path: Path) -> None:
        """Remove a file; one that is gone is fine."""
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents; one that is there is fine."""
        path.mkdir(parents=True, exist_ok=True, mode=0o750)

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def is_folder(self, path: Path) -> bool:
        """Whether a folder is there."""
        return path.is_dir()

    def names(self, path: Path) -> list[str]:
        """Names in a folder, sorted; none if it is not there."""
        try:
            return sorted(entry.name for entry in path.iterdir())
        except FileNotFoundError:
            return []

    def lock(self, path: Path, *, create: bool) -> int | None:
        """Take a lock that ends with this process; None when another process has it (or the file is not there)."""
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), _MODE)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        return handle
