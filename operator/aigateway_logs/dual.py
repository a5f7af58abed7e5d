"""Logs of a process, all of it: standard error, files, and MongoDB through the durable spool.

System records come from loguru (and standard `logging`, routed into it); operation records are handed in. What the settings
keep goes to the sinks they name; ERROR and above reach the error file whatever they say. No call raises, and only
`operation` and its kin wait: for the disk, never for the network.

Made, started and stopped by a composition root. Must not know the operator, the gateway or Kubernetes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TextIO

from loguru import logger

from aigateway_logs.counters import Counters
from aigateway_logs.draft import draft_of
from aigateway_logs.files import LogFiles, Stem
from aigateway_logs.front import REPORT, configure, stand_in, system_record
from aigateway_logs.mongodb import Refused
from aigateway_logs.records import LogType, OperationRecord, SystemRecord, document, document_bytes
from aigateway_logs.settings import LogSettings, StreamSettings, level_number
from aigateway_logs.shipper import Shipper
from aigateway_logs.spool.backlog import Payload
from aigateway_logs.spool.disk import Disk
from aigateway_logs.spool.store import Spool, SpoolEvent
from aigateway_logs.spool.waiting import Waiter
from aigateway_logs.text import text_line

if TYPE_CHECKING:
    from loguru import Record

_ERROR: Final = 40
_ROOM_SECONDS: Final = 1.0
_TAKEN: Final = "_taken"
_MOST_DRAFTS: Final = 200
"""Records that may wait for a thread to make them, milliseconds of its work. While there are as many callers make their own:
who logs 20,000 a second would otherwise wait 0.1 to 0.5 s until they are durable, since both want the interpreter.
"""


class DualLog:
    """See the module. Safe to use from every thread and loop between `start` and `stop`."""

    def __init__(self, settings: LogSettings, stream: TextIO | None = None, disk: Disk | None = None) -> None:
        """`stream` None is standard error; `disk` is for tests."""
        self._settings = settings
        self._stream = stream
        self._disk = disk
        self._files: LogFiles | None = None
        self._spool: Spool | None = None
        self._shipper: Shipper | None = None
        self._sink: int | None = None
        self._configured: tuple[str | None, ...] = ()
        self._stopping = False
        self._text_files = settings.files is not None and settings.files.log_format == "text"
        self._in_line: list[object] = []
        """Operations that wait for room."""

    @property
    def boot(self) -> str | None:
        """Boot id of this process, the first part of its records' `_id`; None without a spool."""
        return None if self._spool is None else self._spool.boot

    @property
    def keeps_operations(self) -> bool:
        """Whether operation records go anywhere; False: to make one is in vain."""
        return self._files is not None or (self._spool is not None and "mongodb" in self._settings.operation.sinks)

    def start(self) -> None:
        """Begin: threads, loguru's sinks, standard `logging`. A disk or server that is away is no error; it is said once."""
        settings = self._settings
        if settings.files is not None:
            self._files = LogFiles(settings, settings.files, _trouble("The disk takes no log files", "Log files"))
            self._files.start()
        if settings.spool is not None:
            shipper = Shipper(settings, _trouble("Logs are not shipped", "Shipping of logs"), self._refused)
            trouble = _trouble("The disk takes no records for the log spool", "The log spool")
            self._spool = Spool(settings.spool, shipper.notify, trouble, _tell, self._disk)
            self._shipper = shipper
        self._configure()
        if self._spool is not None and self._shipper is not None:
            self._spool.writer.start()
            self._shipper.start(self._spool)

    async def stop(self, within_seconds: float = 5.0) -> None:
        """Commit everything, ship what can be shipped until the deadline, and end. What is left waits on disk."""
        await asyncio.to_thread(self.stop_blocking, within_seconds)

    def stop_blocking(self, within_seconds: float = 5.0) -> None:
        """As `stop`, for programs without a loop. Records made afterwards reach standard error only."""
        deadline = time.monotonic() + within_seconds
        self._stopping = True
        if self._spool is not None and self._shipper is not None:
            self._spool.close_writer(within_seconds / 2)
            self._shipper.stop(max(deadline - time.monotonic(), 0.0))
            self._spool.leave()
        if self._files is not None:
            self._files.close(max(deadline - time.monotonic(), 0.5))
        if self._sink is not None:
            with suppress(ValueError):  # somebody configured loguru anew
                logger.remove(self._sink)
            self._sink = None

    def apply(self, settings: LogSettings) -> None:
        """Take up other levels, sinks, retention and MongoDB while running. Folders and formats stay as they were."""
        self._settings = settings
        if self._files is not None:
            self._files.apply(settings)
        if self._shipper is not None:
            self._shipper.apply(settings)
        self._configure()

    def lead(self, leads: bool) -> None:
        """Say whether this process deletes old documents where the server has no TTL index."""
        if self._shipper is not None:
            self._shipper.leads = leads

    async def operation(self, record: OperationRecord, within_seconds: float = 5.0) -> bool:
        """Keep a record; returns when it is durable.

        False: it is not (yet): the disk fails or is slower than `within_seconds`, which was said on standard error, or
        there was no room, which is counted. The caller goes on in any case. At the bound it waits up to a second for
        room, if MongoDB is taking records.
        """
        if self._in_line or self._full():
            await self._room(min(_ROOM_SECONDS, within_seconds))
        return await self._wait(record, within_seconds, when_written=False)

    async def operation_written(self, record: OperationRecord, within_seconds: float = 0.05) -> bool:
        """As `operation`, but returns as soon as the record survives this process (it is synced after), and never waits for
        room: for admission, which answers somebody who waits.
        """
        return await self._wait(record, within_seconds, when_written=True)

    def operation_blocking(self, record: OperationRecord, within_seconds: float = 5.0) -> bool:
        """As `operation`, for threads without a loop. Must not be called in a loop's thread."""
        future: Future[bool] = Future()
        if not self._keep(record, Waiter(future, when_written=False)):
            return False
        try:
            return future.result(within_seconds)
        except TimeoutError:
            return False

    def operation_nowait(self, record: OperationRecord) -> None:
        """Keep a record without waiting; it is durable within 50 ms."""
        self._keep(record, None)

    def counters(self) -> Counters:
        """Figures of now; cheap, but not free: for a scrape, not for every record."""
        files = 0 if self._files is None else self._files.dropped
        if self._spool is None or self._shipper is None:
            return Counters(file_dropped=files)
        backlog = self._spool.writer.backlog()
        return Counters(
            spooled=backlog.sequence,
            durable=backlog.durable,
            shipped=self._shipper.shipped,
            refused=self._shipper.refused,
            dropped=dict(self._spool.writer.drops.counts),
            damaged=self._spool.lost["damaged"],
            missing=self._spool.lost["missing"],
            ship_failures=self._shipper.failures,
            file_dropped=files,
            backlog_bytes=self._spool.pending_bytes(),
            memory_bytes=backlog.memory_bytes,
            last_ship_time=self._shipper.last_ship_time,
        )

    def _configure(self) -> None:
        settings = self._settings
        lowest = min(settings.stderr_level, settings.system.level, key=level_number)
        wanted = settings.system.level, settings.stderr_level, settings.stderr_format, lowest
        if wanted == self._configured:
            return  # sinks that stay lose no line
        self._configured = wanted
        self._sink = logger.add(
            _reached_by_none, level=settings.system.level, filter=self._take, backtrace=False, diagnose=False, catch=False
        )
        configure(settings.stderr_level, settings.stderr_format, self._stream, lowest, keep=self._sink)

    def _take(self, record: Record) -> bool:
        """Take a record and let none through: loguru asks a filter before it copies, formats and locks, which costs as much
        as all that is done here. Never raises, or the caller of a log line would.

        While levels change there are two of it for a moment; what one has taken the other leaves.
        """
        files, spool = self._files, self._spool
        taken: dict[str, Any] = record  # type: ignore[assignment]  # one dict a line, the same for all sinks
        if (files is None and spool is None) or taken.get(_TAKEN) is self:
            return False
        taken[_TAKEN] = self
        try:
            level, report = record["level"].no, bool(record["extra"].get(REPORT))
            draft = None if self._text_files or self._waiting() >= _MOST_DRAFTS else draft_of(record)
            if draft is None:
                self._send_made(level, system_record(record), report=report)
            else:
                self._send("system", level, draft, None, None, report=report)
        except Exception:  # noqa: BLE001 - a record of objects that cannot be shown must not hurt its maker
            self._send_made(_ERROR, stand_in(record["name"]))
        return False

    def _waiting(self) -> int:
        """Records that the slower of both threads has not taken up."""
        spooled = 0 if self._spool is None else self._spool.writer.waiting()
        return spooled if self._files is None else max(spooled, self._files.waiting())

    def _send_made(self, level: int, record: SystemRecord, *, report: bool = False) -> None:
        values = document(record)
        self._send("system", level, document_bytes(values), values, None, report=report)

    async def _room(self, within_seconds: float) -> None:
        """Wait for room in turn, so that numbers are in the order of calls."""
        ticket, deadline = object(), time.monotonic() + within_seconds
        self._in_line.append(ticket)
        try:
            while (self._in_line[0] is not ticket or self._full()) and time.monotonic() < deadline:  # noqa: ASYNC110 - see `_full`
                await asyncio.sleep(0.02)
        finally:
            self._in_line.remove(ticket)

    async def _wait(self, record: OperationRecord, within_seconds: float, *, when_written: bool) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self._keep(record, Waiter(future, when_written=when_written)):
            return False
        try:
            async with asyncio.timeout(within_seconds):
                return await future
        except TimeoutError:
            return False

    def _keep(self, record: OperationRecord, waiter: Waiter | None) -> bool:
        """Hand a record to its sinks. True: the waiter will be answered (at once if it is kept nowhere)."""
        if not self.keeps_operations:
            if waiter is not None:
                waiter.future.set_result(True)
            return True
        try:
            values = document(record)
        except Exception as error:  # noqa: BLE001 - see `_take`
            logger.error("A record of {} could not be kept: {}", record.operation, type(error).__name__)
            return False
        return self._send("operation", level_number(record.level), document_bytes(values), values, waiter)

    def _send(
        self,
        stream: LogType,
        level: int,
        payload: Payload,
        values: dict[str, Any] | None,
        waiter: Waiter | None,
        *,
        report: bool = False,
    ) -> bool:
        """Hand one to its sinks; whether its waiter will be answered. `values` None: files of text do not want it."""
        settings = self._stream_settings(stream)
        kept = level >= level_number(settings.level)
        spool = self._spool if kept and "mongodb" in settings.sinks and not self._stopping else None
        files = self._files
        stems: tuple[Stem, ...] = (stream,) if kept and "file" in settings.sinks else ()
        if level >= _ERROR:
            stems = (*stems, "error")
        waits = True
        if spool is not None:
            waits = self._spool_it(spool, payload, stream, level, waiter, report=report)
        if files is not None and stems:
            line = text_line(values) if self._text_files and values is not None else payload
            files.write(stems, line, waiter if spool is None else None)
        elif spool is None and waiter is not None:
            waiter.future.set_result(True)
        return waits

    def _spool_it(
        self, spool: Spool, payload: Payload, stream: LogType, level: int, waiter: Waiter | None, *, report: bool
    ) -> bool:
        """Put a record into the spool; whether its waiter will be answered."""
        if report:
            spool.writer.put_report(payload)
            return True
        vain = waiter is not None and spool.writer.waits_in_vain()
        return spool.writer.put(payload, stream, level, None if vain else waiter) and not vain

    def _full(self) -> bool:
        """Whether an operation would find no room now but soon: MongoDB takes records. Another thread makes it."""
        spool, shipper = self._spool, self._shipper
        return spool is not None and shipper is not None and spool.writer.full() and shipper.making_progress()

    def _stream_settings(self, stream: LogType) -> StreamSettings:
        return self._settings.operation if stream == "operation" else self._settings.system

    def _refused(self, refused: Sequence[Refused]) -> None:
        """Put what no server takes into the error file, whole, and say so."""
        for entry in refused:
            if self._files is not None:
                values = {name: value for name, value in entry.document.items() if name != "timestamp"}
                values["timestamp"] = entry.document["timestamp"].isoformat()
                self._files.write(("error",), document_bytes(values))
        reasons = sorted({entry.reason for entry in refused})
        logger.bind(component="logs", reasons=reasons, count=len(refused)).error(
            "MongoDB refuses log records for good; they are in the error file"
        )


def _reached_by_none(_: object) -> None:
    """Loguru's sink behind a filter that lets nothing through."""


def _trouble(what: str, over: str) -> Callable[[str | None], None]:
    """Return a callback that says once that something fails, and once that it works again."""

    def say(reason: str | None) -> None:
        bound = logger.bind(component="logs", source="logs", **{REPORT: True})
        if reason is None:
            bound.info("{} works again", over)
        else:
            bound.error("{}: {}. It is tried again until it works; this is said once", what, reason)

    return say


def _tell(event: SpoolEvent) -> None:
    bound = logger.bind(component="logs", source="logs", event_type=event.event_type, **{REPORT: True}, **event.fields)
    bound.warning("{}", event.message)
