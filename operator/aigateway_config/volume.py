"""Reads what a kubelet mounts: a folder of documents and a folder of credentials beside it. The source that decides.

Every reading goes through one resolved `..data`, so that it is of one moment although the kubelet may swap at any time; when
a file vanishes because it did, the reading says so and a new one is taken. A plain folder without `..data` works too, for
development. Judges nothing. Used by the reader.
Source: Kubernetes `pkg/volume/util/atomic_writer.go`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from aigateway_config.errors import ReadingMoved
from aigateway_config.source import MemoryReading, Offer, Reading
from aigateway_config.verification import LIMIT_BYTES
from aigateway_config.watch import watching

log = logging.getLogger("aigateway_config")

POLL_SECONDS: Final = 10.0
"""How long a change may go unseen at most if the watch misses it."""
_MOVED_SECONDS: Final = 0.05
_TROUBLED_SECONDS: Final = 1.0
"""Pauses before a folder is read again that was swapped meanwhile, or of which a file could not be read."""
_LISTINGS: Final = 10
"""How often a folder is listed anew when it was swapped meanwhile; it would have to happen every time."""
_DATA: Final = "..data"

Signature = tuple[object, ...]


class FolderReading:
    """One moment of one folder. plain: it has no `..data`; troubled: a file could not be read."""

    credentials: Reading | None = None

    def __init__(self, folder: Path) -> None:
        self.troubled = False
        self._folder = folder
        self._target, self._names = _listed(folder)
        self.plain = not self._target
        self._root = folder / self._target if self._target else folder

    @property
    def signature(self) -> Signature:
        """What tells this moment from another: the target of `..data`, or names, sizes and times of a plain folder."""
        return (self._target, self._names) if self._target else (None, self._names, _stamps(self._root, self._names))

    def moved(self) -> bool:
        """Whether the folder was swapped since."""
        return _target(self._folder) != self._target

    def names(self) -> Collection[str]:
        """Return the names of the files that were there at the start of the reading."""
        return self._names

    def read(self, name: str) -> bytes | None:
        """Return a file, None if there is none. Raises OSError, and ReadingMoved if the folder was swapped meanwhile.

        Not more than one byte beyond the limit of a ConfigMap is read.
        """
        if name not in self._names:
            return None
        try:
            with (self._root / name).open("rb") as file:
                return file.read(LIMIT_BYTES + 1)
        except FileNotFoundError:
            if self.moved():
                raise ReadingMoved(f"{self._folder} was swapped while it was read") from None
            return None
        except OSError:
            self.troubled = True
            raise


def _absent(folders: Collection[Path]) -> list[Path]:
    return [folder for folder in folders if not folder.is_dir()]


def _target(folder: Path) -> str:
    """Return where `..data` points to, "" for a plain folder or one that is not there."""
    try:
        return str((folder / _DATA).readlink())
    except OSError:
        return ""


def _listed(folder: Path) -> tuple[str, frozenset[str]]:
    """Return where `..data` points to and the names there; of a folder that is removed meanwhile, names would be lacking."""
    target, names = "", frozenset[str]()
    for _ in range(_LISTINGS):
        target = _target(folder)
        names = _names(folder / target if target else folder)
        if _target(folder) == target:
            break
    return target, names


def _names(root: Path) -> frozenset[str]:
    try:
        return frozenset(entry.name for entry in root.iterdir() if not entry.name.startswith(".."))
    except OSError:
        return frozenset()


def _stamps(root: Path, names: Collection[str]) -> tuple[object, ...]:
    found: list[object] = []
    for name in sorted(names):
        try:
            stat = (root / name).stat()
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


class _Moment:
    """Both folders, as one reading."""

    def __init__(self, config: FolderReading | None, credentials: FolderReading | None) -> None:
        self._config: Reading = config or MemoryReading({})
        self.credentials: Reading = credentials or MemoryReading({})
        self._folders = [folder for folder in (config, credentials) if folder is not None]
        self.signature: Signature = tuple(folder.signature for folder in self._folders)

    @property
    def plain(self) -> bool:
        """Whether one of them is a plain folder, of which two moments may look the same from outside."""
        return any(folder.plain for folder in self._folders)

    @property
    def troubled(self) -> bool:
        """Whether a file could not be read, so that it is worth reading again without a change."""
        return any(folder.troubled for folder in self._folders)

    def names(self) -> Collection[str]:
        """Return the names of the documents and manifests."""
        return self._config.names()

    def read(self, name: str) -> bytes | None:
        """Return a document or manifest."""
        return self._config.read(name)


class MountedVolume:
    """The mounted folders of a pod.

    `config_dir` holds documents (None: they come from another source, and the credentials decide the lineage),
    `credentials_dir` the credentials (None: none are mounted). `poll_seconds` is how long a change may go unseen if the
    watch misses it. Folders may appear later.
    """

    name = "volume"

    def __init__(
        self,
        config_dir: Path | str | None,
        credentials_dir: Path | str | None = None,
        *,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._config = None if config_dir is None else Path(config_dir)
        self._credentials = None if credentials_dir is None else Path(credentials_dir)
        self._poll_seconds = poll_seconds
        self._known: dict[Path, FolderReading] = {}
        self.ignored: Mapping[str, int] = {}

    async def run(self, offer: Offer) -> None:
        """Offer the folders now and after every change, until cancelled."""
        folders = list(dict.fromkeys(folder for folder in (self._config, self._credentials) if folder is not None))
        executor = ThreadPoolExecutor(1, thread_name_prefix="aigateway-config-volume")
        offered: Signature | None = None
        woken = True
        try:
            for folder in await asyncio.get_running_loop().run_in_executor(executor, _absent, folders):
                log.warning("folder %s is not there; it is read when it appears", folder)
            async with watching(folders) as watch:
                while True:
                    moment = await asyncio.get_running_loop().run_in_executor(executor, self._moment)
                    pause = self._poll_seconds
                    if moment.signature != offered or (woken and moment.plain):
                        offered, pause = moment.signature, await self._offer(offer, moment)
                    if pause < self._poll_seconds:
                        offered = None
                    woken = await watch.changed(pause)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    def _moment(self) -> _Moment:
        return _Moment(self._folder(self._config), self._folder(self._credentials))

    def _folder(self, folder: Path | None) -> FolderReading | None:
        """Return a folder as it is now; the same object while `..data` points to the same place, which never changes."""
        if folder is None:
            return None
        known = self._known.get(folder)
        if known is None or known.plain or known.troubled or known.moved():
            known = self._known[folder] = FolderReading(folder)
        return known

    async def _offer(self, offer: Offer, moment: _Moment) -> float:
        """Offer a moment; return the seconds until the folders are looked at again, fewer than the poll to read again."""
        try:
            await offer(moment)
        except ReadingMoved:
            return min(_MOVED_SECONDS, self._poll_seconds / 2)
        return min(_TROUBLED_SECONDS, self._poll_seconds / 2) if moment.troubled else self._poll_seconds
