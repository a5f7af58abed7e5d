"""Old log files: compressed once nobody writes to them, deleted when their days are over.

Goes by the dates in names, so that a clock that jumps or a copied file misleads it no further than that; names it does not
know are left alone. Safe beside other processes that do the same. Called by `files`, in a thread that may take its time.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from aigateway_logs.dated_file import NAME

_QUIET_SECONDS: Final = 120.0
"""A file that was written to more recently may still be open in another process."""
_LOCK: Final = ".housekeeping"
_DRAFT: Final = ".draft"


def tidy(folder: Path, retention_days: int, today: date, *, compress: bool, quiet_seconds: float = _QUIET_SECONDS) -> None:
    """Do both in one folder; skips what fails (it is tried again next time). A file of the last `retention_days` days stays."""
    with _alone(folder / _LOCK) as alone:
        if not alone:
            return
        for path in sorted(folder.iterdir()):
            with suppress(OSError):
                _tidy_one(path, today - timedelta(days=retention_days), today, compress=compress, quiet_seconds=quiet_seconds)


def _tidy_one(path: Path, oldest: date, today: date, *, compress: bool, quiet_seconds: float) -> None:
    if path.name.endswith(_DRAFT):
        path.unlink()  # left by a process that was killed
        return
    found = NAME.match(path.name)
    if found is None:
        return
    try:
        day = date.fromisoformat(found["day"])
    except ValueError:
        return
    if day < oldest:
        path.unlink()
    elif compress and not found["packed"] and (found["number"] or day < today) and _quiet_for(path) >= quiet_seconds:
        _compress(path)


def _quiet_for(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _compress(path: Path) -> None:
    """Replace a file by its compressed form, whole or not at all."""
    draft = path.with_name(f"{path.name}.gz{_DRAFT}")
    with path.open("rb") as source, draft.open("wb") as target:
        os.fchmod(target.fileno(), os.fstat(source.fileno()).st_mode & 0o777)  # who could not read it still cannot
        with gzip.GzipFile(filename="", fileobj=target, mode="wb", compresslevel=6) as packed:
            shutil.copyfileobj(source, packed, 256 * 1024)
        target.flush()
        os.fsync(target.fileno())
    draft.rename(path.with_name(f"{path.name}.gz"))
    path.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)
