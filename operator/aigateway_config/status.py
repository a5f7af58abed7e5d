"""What this process runs, told to whoever asks the pod: alone, or together with the other workers of the pod.

One process of a pod holds the status port and answers for the slowest living worker; the others try to take the port every
third of a second, so that it moves within a second of its holder's death. If the holder is frozen nobody answers, and the
operator calls the pod unreachable, which is true. Called by the reader, in its loop; decides nothing about documents.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from aigateway_config.documents import StatusAnswer
from aigateway_config.listener import Listener
from aigateway_config.slowest import NOTHING_YET, slowest
from aigateway_config.workers import WorkersFolder, default_folder

TAKE_OVER_SECONDS: Final = 0.3
"""How often a process without the port tries to get it."""
RETRY_SECONDS: Final = 1.0
"""Pause after a fault of the folder or of the address."""
GATHER_SECONDS: Final = 0.01
"""Pause before a change is written to the folder: a process that has just swapped leaves the processor to those that have not.
Meanwhile the folder holds an older answer, which claims less."""

logger = logging.getLogger("aigateway_config")


class Answering(Protocol):
    """What this needs of a `ConfigReader`."""

    def answer(self) -> StatusAnswer:
        """Return what this process runs now."""

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback()` in the loop whenever the answer may have changed; returns what ends that."""


class StatusReporter:
    """A service of the reader: keeps this worker's answer in the shared folder and answers at the port if it can have it.

    port: 0 for any free one, None to hold none and only write to the folder. host: None for all addresses. workers_dir:
    folder that all workers of the pod share; None: one in the temporary folder that belongs to this user and port, so that
    the workers of one container find each other without a setting.
    """

    name: Final = "status"

    def __init__(self, port: int | None, *, host: str | None = None, workers_dir: Path | str | None = None) -> None:
        self._host = host
        self._wanted_port = port
        path = default_folder(port or 0) if workers_dir is None else Path(workers_dir)
        self._folder = None if path is None else WorkersFolder(path)
        self._reader: Answering | None = None
        self._complaint = ""
        self.port: int | None = None
        """Port that this process holds; None: another one has it, or none yet."""

    async def run(self, reader: Answering) -> None:
        """Report until cancelled. Faults of the folder and of the port are logged once each, and tried again."""
        self._reader = reader
        async with asyncio.TaskGroup() as group:
            if self._folder is not None:
                group.create_task(self._keep_answer(self._folder, reader), name="config status of this worker")
            if self._wanted_port is not None:
                group.create_task(self._keep_port(self._wanted_port), name="config status port")

    async def answer(self) -> StatusAnswer:
        """Return the answer of the slowest living worker of the pod, this one included."""
        others = {} if self._folder is None else await asyncio.to_thread(self._folder.others)
        own = NOTHING_YET if self._reader is None else self._reader.answer()
        return slowest({**others, f"{os.getpid()}": own})

    async def _keep_answer(self, folder: WorkersFolder, reader: Answering) -> None:
        """Appear in the folder and write every change to it."""
        changed, written = asyncio.Event(), None
        unwatch = reader.watch(changed.set)
        try:
            while True:
                changed.clear()
                if (answer := reader.answer()) != written:
                    written = answer if await self._written(folder, answer) else None
                if written is None:
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    await changed.wait()
                    await asyncio.sleep(GATHER_SECONDS)
        finally:
            unwatch()
            folder.leave()

    async def _written(self, folder: WorkersFolder, answer: StatusAnswer) -> bool:
        try:
            await _to_the_end(folder.write if folder.joined else folder.join, answer)
        except OSError as error:
            self._complain(
                f"cannot write to the workers' folder {folder.path} ({error.strerror or error}); the operator does not see "
                "what this process runs. Name a folder that all workers of the pod can write to, such as an emptyDir"
            )
            return False
        return True

    async def _keep_port(self, port: int) -> None:
        """Hold the port as soon as it is free."""
        while True:
            listener = Listener(self.answer, host=self._host, port=port)
            try:
                self.port = await listener.start()
                await asyncio.get_running_loop().create_future()  # until cancelled
            except OSError as error:
                await asyncio.sleep(self._pause_for_port(port, error))
            finally:
                self.port = None
                await listener.stop()

    def _pause_for_port(self, port: int, error: OSError) -> float:
        if error.errno == errno.EADDRINUSE and self._folder is not None:
            return TAKE_OVER_SECONDS
        place = f"{self._host or '*'}:{port}"
        if error.errno == errno.EADDRINUSE:
            self._complain(
                f"another process has the config status port {place}; if it is a worker of this pod, name a workers' folder, "
                "or the operator does not see what this process runs"
            )
            return TAKE_OVER_SECONDS
        self._complain(f"cannot listen on the config status port {place} ({error.strerror or error}); name a free address")
        return RETRY_SECONDS

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            logger.warning("%s", text[0].upper() + text[1:])


async def _to_the_end(write: Callable[[StatusAnswer], None], answer: StatusAnswer) -> None:
    """Write in a thread. Cancelled, wait for it: what is written after the worker has left would stay for ever."""
    writing = asyncio.ensure_future(asyncio.to_thread(write, answer))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing}, timeout=RETRY_SECONDS)
        raise
