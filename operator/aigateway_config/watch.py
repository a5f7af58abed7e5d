"""Says when something changes in folders: inotify through watchfiles in a thread of its own, and a slow poll beside it.

Used by the sources that read files. It watches folders, never files: a kubelet replaces a symbolic link, after which a watch
on a file behind it hears no more. When folders cannot be watched (not there yet, no inotify left) the poll alone goes on.
The thread is not taken from a shared pool, which a busy program could exhaust.
Source: docs/measured.md#folders-and-yaml; watchfiles.watch.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from watchfiles import watch

log = logging.getLogger("aigateway_config")

STEP_MILLISECONDS: Final = 4
"""How often watchfiles looks whether something happened: latency against wake-ups when idle (0.5 % of a core, measured)."""
DEBOUNCE_MILLISECONDS: Final = 12
"""How long changes that follow each other are gathered at most: a kubelet's swap takes well under a millisecond."""
_CHECK_MILLISECONDS: Final = 1000
_END_SECONDS: Final = 2.0
_ABSENT_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 10.0
"""Pause before a watch that failed is tried again."""


class FolderWatch:
    """Wakes its user on changes in folders. Made by `watching`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._watched: tuple[int, ...] = ()
        self._try_again_at = 0.0

    async def changed(self, within_seconds: float) -> bool:
        """Wait for a change: True after one, False after `within_seconds` without. Changes meanwhile are remembered.

        While a folder is not there it looks every second.
        """
        await self._keep_watching()
        complete = len(self._watched) == len(self._folders)
        try:
            async with asyncio.timeout(within_seconds if complete else min(within_seconds, _ABSENT_SECONDS)):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    async def _keep_watching(self) -> None:
        """Start the thread, again if it ended or the folders are other ones now (removed and made anew)."""
        inodes = _inodes(self._folders)
        alive = self._thread is not None and self._thread.is_alive()
        if inodes == self._watched and (alive or not inodes or self._loop.time() < self._try_again_at):
            return
        await self.end()
        self._watched = inodes
        if not inodes:
            return
        self._try_again_at = self._loop.time() + _AGAIN_SECONDS
        self._stop, self._ended = threading.Event(), asyncio.Event()
        there = [folder for folder in self._folders if folder.is_dir()]
        work = _Work(self._loop, there, self._stop, self._changed, self._ended)
        self._thread = threading.Thread(target=work.run, name="aigateway-config-watch", daemon=True)
        self._thread.start()
        self._changed.set()  # these folders have not been read, if they are other ones

    async def end(self) -> None:
        """End the thread and wait for it; it looks at its stop event at every step."""
        if self._thread is None:
            return
        self._stop.set()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            log.warning("the watch on %s did not end in time and is left behind", ", ".join(map(str, self._folders)))
        self._thread = None


class _Work:
    """What the thread does, and the stop event of its watch, which asks for that at every step and first when it has begun."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        folders: Sequence[Path],
        stop: threading.Event,
        changed: asyncio.Event,
        ended: asyncio.Event,
    ) -> None:
        self._loop, self._folders, self._stop = loop, folders, stop
        self._changed, self._ended = changed, ended
        self._begun = False

    def is_set(self) -> bool:
        """Tell whether the watch is to end; the first question says that it has begun."""
        if not self._begun:
            self._begun = True
            self._tell(self._changed)  # something may have changed between the last reading and now
        return self._stop.is_set()

    def run(self) -> None:
        """Pass changes on until the stop event is set or the watch fails."""
        try:
            for _ in watch(
                *self._folders,
                watch_filter=None,
                debounce=DEBOUNCE_MILLISECONDS,
                step=STEP_MILLISECONDS,
                rust_timeout=_CHECK_MILLISECONDS,
                stop_event=self,
                raise_interrupt=False,
                recursive=False,
            ):
                self._tell(self._changed)
        except Exception as error:  # noqa: BLE001  the thread's edge: the poll goes on without it
            log.warning("folders cannot be watched, polling them instead: %s", error)
        finally:
            self._tell(self._ended)

    def _tell(self, event: asyncio.Event) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(event.set)


def _inodes(folders: Sequence[Path]) -> tuple[int, ...]:
    found = []
    for folder in folders:
        try:
            found.append(folder.stat().st_ino)
        except OSError:
            continue
    return tuple(found)


@asynccontextmanager
async def watching(folders: Sequence[Path]) -> AsyncIterator[FolderWatch]:
    """Watch folders as long as the context lasts."""
    watch_of = FolderWatch(folders)
    try:
        yield watch_of
    finally:
        await watch_of.end()
