"""Says when manifests in a folder change: a watch on the folders, a slow poll beside it, and a moment of quiet.

Only files that could be manifests count, so an editor's swap files and what is rendered inside the folder wake nobody.
Reads no file. Called by `aigateway local`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aigateway_config.watch import watching

POLL_SECONDS: Final = 5.0
"""How long a change may go unseen at most if the watch misses it, as on some network file systems."""
_QUIET_SECONDS: Final = 0.03
"""An editor writes a file in several steps, some by way of a file beside it."""
_LONGEST_QUIET_SECONDS: Final = 0.5

Signature = dict[str, tuple[int, int, int]]


def manifest_files(folder: Path, suffixes: Sequence[str], *, recursive: bool) -> list[str]:
    """Return the files of a folder that could be manifests, sorted; nothing hidden. Raises OSError."""
    found: list[str] = []
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        wanted = (name for name in files if name.endswith(tuple(suffixes)) and not name.startswith("."))
        found += [str(Path(place, name)) for name in wanted]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


class ManifestWatch:
    """Knows what the files of a folder looked like when they were last asked about."""

    def __init__(self, folder: Path, suffixes: Sequence[str], *, recursive: bool) -> None:
        self._folder = folder
        self._suffixes = suffixes
        self._recursive = recursive
        self._seen: Signature | None = None

    def note(self) -> None:
        """Take what is there now as seen; to be called before the files are read, so that no later change is lost."""
        self._seen = self._signature()

    async def changed(self, within_seconds: float | None = None) -> bool:
        """Wait until something differs from what was seen: True; False after `within_seconds` (None: never) without."""
        loop = asyncio.get_running_loop()
        deadline = None if within_seconds is None else loop.time() + within_seconds
        while True:
            async with watching(self._folders()) as watch:
                before = self._folders()
                while before == self._folders():
                    if self._signature() != self._seen:
                        await self._quiet()
                        return True
                    left = POLL_SECONDS if deadline is None else min(POLL_SECONDS, deadline - loop.time())
                    if left <= 0:
                        return False
                    await watch.changed(left)

    async def _quiet(self) -> None:
        """Wait until the files stand still for a moment."""
        waited, before = 0.0, self._signature()
        while waited < _LONGEST_QUIET_SECONDS:
            await asyncio.sleep(_QUIET_SECONDS)
            waited += _QUIET_SECONDS
            now = self._signature()
            if now == before:
                return
            before = now

    def _folders(self) -> list[Path]:
        if not self._recursive:
            return [self._folder]
        found = []
        for place, folders, _ in os.walk(self._folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            found.append(Path(place))
        return found or [self._folder]

    def _signature(self) -> Signature | None:
        """Return what tells the files from before; None where the folder cannot be listed."""
        try:
            files = manifest_files(self._folder, self._suffixes, recursive=self._recursive)
        except OSError:
            return None
        found: Signature = {}
        for file in files:
            try:
                stat = Path(file).stat()
                found[file] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            except OSError:
                found[file] = (0, 0, 0)
        return found
