"""What the processes of one pod run, in a folder they share: each writes its answer, whoever holds the port reads all.

A worker lives as long as its process holds the lock on its `.lock` file: the kernel drops it with the process, however that
dies, and keeps it while the process is frozen. So a frozen worker goes on answering with what it last had, and a dead one
is forgotten. Locks are POSIX record locks: unlike `flock`, children do not inherit them, so that an orphan cannot keep a
dead worker alive. Blocking file access; called by `status` in a thread.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from aigateway_config.documents import StatusAnswer
from aigateway_config.slowest import NOTHING_YET

_LOCK: Final = ".lock"
_ANSWER: Final = ".json"
_UNREADABLE: Final = NOTHING_YET.model_copy(update={"error": "what this worker runs cannot be read from the workers' folder"})

logger = logging.getLogger("aigateway_config")

_mine: set[tuple[int, Path]] = set()
"""Lock files of this process by its id. A process never conflicts with its own locks, and loses one by closing the file."""


def default_folder(port: int) -> Path | None:
    """Return a folder that the workers of one container share by default; None without a temporary folder or a fixed port."""
    if port == 0:
        return None
    try:
        return Path(tempfile.gettempdir()) / f"aigateway-workers-{os.getuid()}-{port}"
    except FileNotFoundError:
        return None


class WorkersFolder:
    """One worker's place in the folder. `join` before anything else, `leave` at the end; a killed process need not.

    Files are `<pid>-<random>.lock` and `.json`: containers that share the folder may have processes of the same number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self.worker = ""
        """Name of this worker in the folder; empty before `join`."""

    @property
    def joined(self) -> bool:
        """Whether others can see this worker."""
        return self._lock is not None

    def join(self, answer: StatusAnswer) -> None:
        """Appear in the folder with a first answer. Raises OSError if that cannot be; nothing is left behind then."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.worker = f"{os.getpid()}-{secrets.token_hex(4)}"
        lock_file = self._file(_LOCK)
        hidden = self.path / f".{self.worker}{_LOCK}"
        lock = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.write(answer)
            _mine.add((os.getpid(), lock_file))
            hidden.rename(lock_file)  # seen by others only once it is locked and has an answer
        except BaseException:
            os.close(lock)
            _mine.discard((os.getpid(), lock_file))
            for left in (hidden, lock_file, self._file(_ANSWER)):
                with suppress(OSError):
                    left.unlink()
            raise
        self._lock = lock

    def write(self, answer: StatusAnswer) -> None:
        """Replace this worker's answer, all at once. Raises OSError; the former answer stands then."""
        draft = self.path / f".{self.worker}{_ANSWER}"
        draft.write_bytes(answer.model_dump_json(by_alias=True).encode())
        draft.replace(self._file(_ANSWER))

    def others(self) -> dict[str, StatusAnswer]:
        """Return the answers of all other living workers, and remove what dead ones left. Raises OSError for the folder."""
        found = {}
        for name in self._names():
            worker = name.removesuffix(_LOCK)
            if worker == self.worker:
                continue
            if _lives(self.path / name):
                found[worker] = self._read(worker)
            else:
                self._remove(worker)
        return found

    def leave(self) -> None:
        """Vanish from the folder; idempotent."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        self._remove(self.worker)
        _mine.discard((os.getpid(), self._file(_LOCK)))
        os.close(lock)

    def _names(self) -> list[str]:
        try:
            return sorted(file.name for file in self.path.iterdir() if file.suffix == _LOCK and file.name[0] != ".")
        except FileNotFoundError:
            return []

    def _file(self, suffix: str) -> Path:
        return self.path / f"{self.worker}{suffix}"

    def _read(self, worker: str) -> StatusAnswer:
        try:
            return StatusAnswer.model_validate_json((self.path / f"{worker}{_ANSWER}").read_bytes())
        except (OSError, ValidationError):
            return _UNREADABLE

    def _remove(self, worker: str) -> None:
        # The lock goes last: without it nobody would look for the rest.
        for name in (f".{worker}{_ANSWER}", f"{worker}{_ANSWER}", f"{worker}{_LOCK}"):
            with suppress(OSError):
                (self.path / name).unlink()


def _lives(lock_file: Path) -> bool:
    """Tell whether a process holds the lock. In doubt it lives: a worker too many is named, one too few would be a lie."""
    if (os.getpid(), lock_file) in _mine:
        return True
    try:
        lock = os.open(lock_file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
