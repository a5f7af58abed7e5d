"""The reader for programs without an event loop: `with open_volume("/etc/aigateway/config") as reader`.

Runs a `ConfigReader` in an event loop in a thread of its own. Start it in the process that uses it: threads do not survive a
fork, so in a prefork server after the fork.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from aigateway_config import documents
from aigateway_config.configuration import Configuration
from aigateway_config.reader import ConfigReader, Counters, Service, Unsubscribe
from aigateway_config.source import Source
from aigateway_config.subscribers import Callback
from aigateway_config.volume import POLL_SECONDS, MountedVolume

T = TypeVar("T")

READY_SECONDS: Final = 30.0
_CALL_SECONDS: Final = 10.0


class BlockingReader:
    """A `ConfigReader` in a thread. Entering waits up to `timeout_seconds` for the first configuration.

    All members may be used from any thread. Raises NotReady on entering when there is no configuration in time.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        services: Sequence[Service] = (),
        gateway: str | None = None,
        timeout_seconds: float = READY_SECONDS,
    ) -> None:
        self._reader = ConfigReader(sources, services=services, gateway=gateway)
        self._timeout_seconds = timeout_seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="aigateway-config-loop", daemon=True)

    def __enter__(self) -> Self:
        """Start and wait for the first configuration. Raises NotReady with the reason."""
        self._thread.start()
        try:
            self._call(self._reader.__aenter__(), _CALL_SECONDS)
            self._call(self._reader.wait_ready(self._timeout_seconds), self._timeout_seconds + _CALL_SECONDS)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything and end the thread."""
        self.close()

    def close(self) -> None:
        """Stop everything and end the thread; `current` stays. Safe to call twice."""
        if self._loop.is_closed():
            return
        try:
            self._call(self._reader.__aexit__(), _CALL_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CALL_SECONDS)
            if not self._thread.is_alive():
                self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, T], timeout_seconds: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_seconds)

    @property
    def current(self) -> Configuration | None:
        """The configuration in force."""
        return self._reader.current

    @property
    def error(self) -> str | None:
        """Why the newest documents are not in force; None when they are."""
        return self._reader.error

    @property
    def restart_required(self) -> tuple[str, ...]:
        """Changed values that this process cannot take up."""
        return self._reader.restart_required

    @property
    def counters(self) -> Counters:
        """What happened so far."""
        return self._reader.counters

    def answer(self) -> documents.StatusAnswer:
        """Return what this process runs, as pods answer it on their status port."""
        return self._reader.answer()

    def subscribe(self, callback: Callback) -> Unsubscribe:
        """Call `callback(new, old)` in a thread of its own for every new configuration; see `ConfigReader.subscribe`."""

        async def begin() -> Unsubscribe:
            return self._reader.subscribe(callback)

        end = self._call(begin(), _CALL_SECONDS)
        return lambda: self._end(end)

    def _end(self, end: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(end)


def open_volume(
    config_dir: Path | str,
    credentials_dir: Path | str | None = None,
    *,
    services: Sequence[Service] = (),
    gateway: str | None = None,
    timeout_seconds: float = READY_SECONDS,
    poll_seconds: float = POLL_SECONDS,
) -> BlockingReader:
    """Return a reader of mounted folders for `with`. Parameters as in `MountedVolume` and `ConfigReader`."""
    volume = MountedVolume(config_dir, credentials_dir, poll_seconds=poll_seconds)
    return BlockingReader([volume], services=services, gateway=gateway, timeout_seconds=timeout_seconds)
