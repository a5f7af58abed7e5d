"""From the spool to MongoDB: batches in order, acknowledged before anything is trimmed, for as long as it takes.

Runs in a thread and an event loop of its own, so that encoding and a silent server cost the process's loop nothing. A batch
whose answer was lost is sent again with the same `_id`s. Called by `dual`. Never raises; says once that MongoDB is away, and
once that it is back.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from aigateway_logs.mongodb import Document, LogStore, Refused, plainer, stored
from aigateway_logs.records import LogType
from aigateway_logs.settings import LogSettings, MongoSettings
from aigateway_logs.spool.reader import Batch, SpoolReader
from aigateway_logs.spool.store import Spool

_FIRST_RETRY_SECONDS: Final = 0.2
_LONGEST_RETRY_SECONDS: Final = 10.0
_LINGER_SECONDS: Final = 0.05
_COMPANY_SECONDS: Final = 0.25
_FEW_BYTES: Final = 32 * 1024
"""A batch costs as much as fifty records, and who logs meanwhile waits for the interpreter: fewer than that many bytes, when
they come all the time, wait for company.
"""
_IDLE_SECONDS: Final = 5.0
_ADOPT_SECONDS: Final = 30.0
_EXPIRE_SECONDS: Final = 3600.0
_SLACK_SECONDS: Final = 2.0
_BOOTS_AT_ONCE: Final = 4
_ROUND_SECONDS: Final = 1.0


class Shipper:
    """One thread. `settings` may be replaced while it runs; everything else is read by others only."""

    def __init__(
        self, settings: LogSettings, trouble: Callable[[str | None], None], refused: Callable[[Sequence[Refused]], None]
    ) -> None:
        """`trouble` gets a reason when MongoDB goes away and None when it is back; `refused` what no server would take."""
        self.shipped = 0
        self.refused = 0
        self.failures = 0
        self.last_ship_time: float | None = None
        """Unix time of the last acknowledged batch; None: none yet."""
        self.leads = False
        """Whether this process deletes by age where the server has no TTL index."""
        self._settings = settings
        self._trouble = trouble
        self._tell_refused = refused
        self._changed = True
        self._reachable = True
        self._loop = asyncio.new_event_loop()
        self._work = asyncio.Event()
        self._cut_short = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stop_at: float | None = None
        self._shipped_at: float | None = None
        self._spool: Spool | None = None
        self._signalled = False
        self._thread = threading.Thread(target=self._run, name="log-shipper", daemon=True)
        self._expired_at = 0.0

    def start(self, spool: Spool) -> None:
        """Start the thread."""
        self._spool = spool
        self._thread.start()

    def notify(self) -> None:
        """There is something to ship; costs nothing while a notice is under way. From any thread."""
        if not self._signalled:
            self._signalled = True
            self._call(self._work.set)

    def apply(self, settings: LogSettings) -> None:
        """Use other settings (URI, database, retention) from the next batch on."""
        self._settings, self._changed = settings, True
        self._call(self._wake)

    def making_progress(self) -> bool:
        """Whether a batch was acknowledged within the last five seconds, by a clock that nobody sets."""
        return self._shipped_at is not None and time.monotonic() - self._shipped_at < 5.0

    def stop(self, within_seconds: float) -> None:
        """Ship what is there until the deadline, then end. Blocks; the thread is left behind if the driver hangs."""
        self._stop_at = time.monotonic() + within_seconds
        self._call(self._wake)
        self._call(lambda: self._end_after(within_seconds))
        self._thread.join(within_seconds + _SLACK_SECONDS)

    def _end_after(self, seconds: float) -> None:
        """A silent server must not hold up the end: what is awaited then is given up (the next process sends it)."""
        if self._task is not None:
            self._loop.call_later(seconds, self._task.cancel)

    def _wake(self) -> None:
        self._work.set()
        self._cut_short.set()

    def _call(self, action: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: it ships no more
            self._loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            with suppress(asyncio.CancelledError):
                runner.run(self._ship_always())

    async def _ship_always(self) -> None:
        assert self._spool is not None  # noqa: S101 - set by `start`
        self._task = asyncio.current_task()
        while not self._must_stop():
            self._changed = False
            mongodb = self._settings.mongodb
            if mongodb is None:
                await self._rest(self._spool, _IDLE_SECONDS)
            else:
                await self._ship_to(self._spool, mongodb)
            if self._stop_at is not None and not self._changed:
                return

    async def _ship_to(self, spool: Spool, mongodb: MongoSettings) -> None:
        """Ship to one server until the settings change, or all is shipped after `stop`; the driver reconnects by itself."""
        store: LogStore | None = None
        failed_in_a_row = 0
        try:
            while not self._changed and not self._must_stop():
                try:
                    store = store or LogStore(mongodb)
                    await self._ship_with(spool, store, mongodb)
                except Exception as error:  # noqa: BLE001 - drivers raise many kinds; records wait, whatever it is
                    self.failures += 1
                    failed_in_a_row = 1 if self.making_progress() else failed_in_a_row + 1
                    self._away(error)
                    longest = min(_FIRST_RETRY_SECONDS * 2.0**failed_in_a_row, _LONGEST_RETRY_SECONDS)
                    await self._pause(random.uniform(longest / 2, longest))  # noqa: S311 - jitter, no secret
                else:
                    return
        finally:
            if store is not None:
                with suppress(Exception):
                    async with asyncio.timeout(_SLACK_SECONDS):
                        await store.close()

    async def _ship_with(self, spool: Spool, store: LogStore, mongodb: MongoSettings) -> None:
        """Ship until the settings change, or all is shipped after `stop`; raises what the driver raises."""
        async with asyncio.timeout(mongodb.answer_within_seconds):
            await self._prepare(store)
        adopt_at = 0.0
        while not self._changed and not self._must_stop():
            if time.monotonic() >= adopt_at:
                spool.adopt()
                adopt_at = time.monotonic() + _ADOPT_SECONDS
            if not await self._round(spool, store, mongodb):
                if self._stop_at is not None and spool.empty():
                    return
                await self._expire(store)
                await self._rest(spool, _IDLE_SECONDS if self._stop_at is None else _LINGER_SECONDS)
            elif self._stop_at is None and spool.pending_bytes() < _FEW_BYTES:
                await self._pause(_COMPANY_SECONDS)

    async def _round(self, spool: Spool, store: LogStore, mongodb: MongoSettings) -> bool:
        """Ship what each boot has, for about a second of it; whether there was any."""
        read = [(reader, self._batch(reader, mongodb.batch_records)) for reader in spool.readers()[:_BOOTS_AT_ONCE]]
        lanes = [(reader, batch) for reader, batch in read if batch is not None]
        async with asyncio.TaskGroup() as group:
            for reader, batch in lanes:
                group.create_task(self._ship_boot(spool, store, mongodb, reader, batch, ahead=len(lanes) == 1))
        some = bool(lanes)
        held = spool.writer.held()[: mongodb.batch_records]
        if held:
            await self._insert(store, mongodb, spool.boot, held)
            spool.shipped_from_memory(held[0][0], held[-1][0])
            some = True
        spool.leave_shipped()
        spool.tell_drops()
        return some

    async def _ship_boot(
        self, spool: Spool, store: LogStore, mongodb: MongoSettings, reader: SpoolReader, first: Batch, *, ahead: bool
    ) -> None:
        """Ship a boot from `first` on, acknowledged in order; `ahead`: of a backlog the next batch is on its way while the
        server works on this one. What was sent behind one that fails is sent again with it.
        """
        until = time.monotonic() + _ROUND_SECONDS
        async with asyncio.TaskGroup() as group:

            def send(batch: Batch) -> tuple[Batch, asyncio.Task[None]]:
                return batch, group.create_task(self._insert(store, mongodb, batch.boot, batch.records))

            under_way = [send(first)]
            while under_way:
                if ahead and not self._changed and not self._must_stop() and time.monotonic() < until:
                    following = self._behind(reader, under_way[-1][0], mongodb.batch_records)
                    under_way += [] if following is None else [send(following)]
                batch, sent = under_way.pop(0)
                await sent
                reader.acknowledge(batch)
                spool.note(batch.losses)

    def _batch(self, reader: SpoolReader, most: int, behind: Batch | None = None) -> Batch | None:
        """Return the next batch of a boot."""
        try:
            return reader.read(most, behind)
        except OSError:
            return None  # the disk fails: the writer says so

    def _behind(self, reader: SpoolReader, batch: Batch, most: int) -> Batch | None:
        """Return the batch behind one that is under way, if there is enough for one; a trickle waits for company."""
        return self._batch(reader, most, batch) if reader.pending_bytes(batch) >= _FEW_BYTES else None

    async def _insert(self, store: LogStore, mongodb: MongoSettings, boot: str, records: Sequence[tuple[int, bytes]]) -> None:
        streams: dict[LogType, list[Document]] = {}
        for sequence, payload in records:
            try:
                stream, document = stored(boot, sequence, payload)
            except ValueError:  # not written by this library: the checksum says that it is as it was written
                self.refused += 1
                continue
            streams.setdefault(stream, []).append(document)
        async with asyncio.timeout(mongodb.answer_within_seconds + _SLACK_SECONDS):
            for stream, documents in streams.items():
                refused = await store.insert(stream, documents)
                if refused:
                    self._give_up(await store.insert(stream, [plainer(entry.document) for entry in refused]))
        self.shipped += len(records)
        self.last_ship_time, self._shipped_at = time.time(), time.monotonic()
        self._back()

    def _give_up(self, refused: list[Refused]) -> None:
        if refused:
            self.refused += len(refused)
            self._tell_refused(refused)

    async def _prepare(self, store: LogStore) -> None:
        """Make indexes; a role that may only insert ships all the same, and says what it lacks."""
        from pymongo.errors import OperationFailure

        try:
            await store.prepare(self._retention())
        except OperationFailure as error:
            if error.code != 13:
                raise
            self._trouble("the MongoDB user may not make indexes, so nothing expires there (it needs the role readWrite)")

    async def _expire(self, store: LogStore) -> None:
        """Delete by age, once an hour, if this process leads."""
        if self.leads and store.deletes_by_age and time.monotonic() - self._expired_at > _EXPIRE_SECONDS:
            self._expired_at = time.monotonic()
            await store.delete_expired(self._retention())

    def _retention(self) -> Mapping[LogType, int]:
        return {"system": self._settings.system.retention_days, "operation": self._settings.operation.retention_days}

    async def _rest(self, spool: Spool, longest_seconds: float) -> None:
        """Wait for work, and a little longer for company."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_seconds):
                await self._work.wait()
        if self._stop_at is None:
            await asyncio.sleep(_LINGER_SECONDS)
        self._signalled = False
        self._work.clear()
        spool.trim_again()

    async def _pause(self, seconds: float) -> None:
        """Back off; other settings or the end cut it short."""
        self._cut_short.clear()
        if not self._changed and self._stop_at is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._cut_short.wait()
        else:
            await asyncio.sleep(min(seconds, _FIRST_RETRY_SECONDS))

    def _must_stop(self) -> bool:
        return self._stop_at is not None and time.monotonic() >= self._stop_at

    def _away(self, error: Exception) -> None:
        if self._reachable:
            self._reachable = False
            self._trouble(f"MongoDB does not take logs: {reason(error)}. They wait in the spool.")

    def _back(self) -> None:
        if not self._reachable:
            self._reachable = True
            self._trouble(None)


def reason(error: BaseException) -> str:
    """Say why, without what a driver puts into its texts (addresses, topology, the URI)."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    code: Any = getattr(error, "code", None)
    return f"{type(error).__name__}{f' (code {code})' if code else ''}"
