"""Keeps the newest good configuration of its sources and tells subscribers: what programs with an event loop use.

Runs sources and services, hands every reading to the state machine and swaps `current`. Files and large documents are read in
a thread of its own, so that they never block the event loop; a small document that is in memory is judged at once. Judges
nothing itself: see `state.py`. Programs without an event loop use `blocking.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol, Self

from aigateway_config import documents
from aigateway_config.configuration import Configuration
from aigateway_config.errors import NotReady
from aigateway_config.source import Follower, MemoryReading, Reading, Source
from aigateway_config.state import Outcome, State
from aigateway_config.subscribers import Callback, Subscriber
from aigateway_config.supervision import keep_running

log = logging.getLogger("aigateway_config")

SMALL_BYTES: Final = 128 * 1024
"""Documents up to this size are judged in the event loop: 1 ms, 6 if all of their models are new. A thread would hold the loop
up as long, since the interpreter goes on with one for 5 ms, and has to be woken first, which takes 1.5 ms on a busy machine."""

Unsubscribe = Callable[[], None]


class Service(Protocol):
    """Something that runs beside the reader, such as the listener on the status port."""

    @property
    def name(self) -> str:
        """Short name for logs."""

    async def run(self, reader: ConfigReader) -> None:
        """Run until cancelled; what it raises is logged, and it is run again with back-off."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What happened since the reader was made. For metrics; a snapshot."""

    reloads: int = 0
    """Configurations that came into force."""
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Files that did not, by `Reason`."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """What sources ignored before it was judged, as `source:reason`."""
    last_success: datetime | None = None
    """When the last reading without a fault was judged; None: never."""


class ConfigReader:
    """Follows sources as long as it is open: `async with ConfigReader([MountedVolume(…)]) as reader`.

    `gateway` (`namespace/name`), if given, is the only one whose documents are taken. All methods are for the event loop
    that opened it; `current` may be read from any thread.
    """

    def __init__(self, sources: Sequence[Source], *, services: Sequence[Service] = (), gateway: str | None = None) -> None:
        self._sources = tuple(sources)
        self._followers = [source for source in self._sources if isinstance(source, Follower)]
        self._services = tuple(services)
        self._state = State(gateway)
        self._current: Configuration | None = None
        self._first_app: documents.App | None = None
        self._error: str | None = "nothing has been read yet"
        self._reloads = 0
        self._rejected: Counter[str] = Counter()
        self._last_success: datetime | None = None
        self._subscribers: list[Subscriber] = []
        self._watchers: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._executor: ThreadPoolExecutor | None = None
        self._turn = asyncio.Lock()
        self._ready = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Start sources and services; does not wait for a configuration."""
        if self._executor is not None:
            raise RuntimeError("this reader is open already; make one reader for each use")
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="aigateway-config")
        for source in self._sources:
            run = partial(source.run, partial(self._judge, source.name))
            self._tasks.append(asyncio.create_task(keep_running(f"config source {source.name}", run)))
        for service in self._services:
            run = partial(service.run, self)
            self._tasks.append(asyncio.create_task(keep_running(f"config service {service.name}", run)))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop sources, services and subscribers. `current` stays."""
        tasks = [*self._tasks, *(subscriber.task for subscriber in self._subscribers)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._subscribers.clear()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    @property
    def current(self) -> Configuration | None:
        """The configuration in force; None before the first."""
        return self._current

    @property
    def error(self) -> str | None:
        """Why the newest documents are not in force, a line each; None when they are. Never holds a secret."""
        return self._error

    @property
    def restart_required(self) -> tuple[str, ...]:
        """Values that changed since this process loaded its first configuration and that it cannot take up, as paths."""
        if self._current is None or self._first_app is None:
            return ()
        first, now = self._first_app, self._current.app
        return tuple(f"app.{name}" for name in ("host", "port") if getattr(first, name) != getattr(now, name))

    @property
    def counters(self) -> Counters:
        """What happened so far."""
        ignored = {f"{source.name}:{reason}": count for source in self._sources for reason, count in source.ignored.items()}
        return Counters(self._reloads, dict(self._rejected), ignored, self._last_success)

    def answer(self) -> documents.StatusAnswer:
        """Return what this process runs, in the form that pods answer on their status port."""
        current = self._current
        return documents.StatusAnswer(
            lineage=None if current is None else current.lineage,
            documents={} if current is None else dict(current.documents),
            credentials={} if current is None else dict(current.credentials),
            credentials_revision=None if current is None else current.credentials_revision,
            loaded_at=None if current is None else current.loaded_at.isoformat(timespec="milliseconds"),
            restart_required=list(self.restart_required),
            error=self._error,
        )

    async def wait_ready(self, timeout_seconds: float) -> Configuration:
        """Return the configuration as soon as there is one. Raises NotReady, with the reason, after `timeout_seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._ready.wait()
        if self._current is None:
            raise NotReady(f"no configuration within {timeout_seconds:g} s: {self._error}")
        return self._current

    def subscribe(self, callback: Callback) -> Unsubscribe:
        """Call `callback(new, old)` for every new configuration, at once (with `old` None) if there is one already.

        A coroutine function is awaited in the loop; a plain function is called in a thread of its own, so that it may
        block. One that is still busy skips to the newest. Returns a function that ends the subscription.
        """
        subscriber = Subscriber(callback)
        self._subscribers.append(subscriber)
        if self._current is not None:
            subscriber.tell(self._current)

        def unsubscribe() -> None:
            subscriber.task.cancel()
            with suppress(ValueError):
                self._subscribers.remove(subscriber)

        return unsubscribe

    def watch(self, callback: Callable[[], None]) -> Unsubscribe:
        """Call `callback()` in the loop after every reading that was judged, so also when only `error` changed.

        For services; it must not block. Returns a function that ends it.
        """
        self._watchers.append(callback)

        def unwatch() -> None:
            with suppress(ValueError):
                self._watchers.remove(callback)

        return unwatch

    async def _judge(self, source: str, reading: Reading) -> None:
        if self._executor is None:
            raise RuntimeError("the reader is not open")
        async with self._turn:
            work = partial(self._state.take, source, reading, datetime.now(UTC))
            small = _is_small(reading)
            self._adopt(work() if small else await asyncio.get_running_loop().run_in_executor(self._executor, work))

    def _adopt(self, outcome: Outcome) -> None:
        self._rejected.update(outcome.rejected)
        error = "\n".join(map(str, outcome.faults)) or None
        if error is None:
            self._last_success = outcome.judged_at
        elif error != self._error:
            log.warning("newest configuration is not in force: %s", error)
        self._error = error
        new = outcome.configuration
        if new is not None and new is not self._current:
            self._swap(new)
        for watcher in tuple(self._watchers):
            try:
                watcher()
            except Exception:
                log.exception("a watcher of the configuration failed")

    def _swap(self, new: Configuration) -> None:
        self._current = new
        self._first_app = self._first_app or new.app
        self._reloads += 1
        self._ready.set()
        for source in self._followers:
            try:
                source.follow(new)
            except Exception:
                log.exception("config source %s could not follow the configuration", source.name)
        for subscriber in tuple(self._subscribers):
            subscriber.tell(new)
        log.info("configuration in force: revision %d, %d models", new.revision, len(new.models))


def _is_small(reading: Reading) -> bool:
    """Tell whether a reading is quick to judge: documents in memory, none or few of them; manifests are known or soon read."""
    if not isinstance(reading, MemoryReading) or reading.credentials is not None:
        return False
    return sum(len(content) for name, content in reading.files.items() if name.endswith(".yml")) <= SMALL_BYTES
