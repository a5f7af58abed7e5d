"""Configure loguru and route standard `logging` into it. Called once, by the composition root of a process.

Two formats: JSON lines for machines, and text for people (`TIME [LEVEL] [source] message | {fields}`), with colour only on a
terminal. Messages are passed as arguments, never formatted again, so that braces in them are harmless. `dual` adds files
and MongoDB.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from loguru import logger

from aigateway_logs.records import Origin, SystemRecord
from aigateway_logs.redaction import redact, redact_fields
from aigateway_logs.settings import LogFormat

if TYPE_CHECKING:
    from loguru import Message, Record

LIBRARY_LEVELS: Final[Mapping[str, int]] = {
    "kopf": logging.WARNING,
    "aiohttp.access": logging.ERROR,
    "asyncio": logging.WARNING,
    "pymongo": logging.WARNING,
    "urllib3": logging.WARNING,
}
"""Lowest level kept per library. kopf's DEBUG and INFO hold whole objects and a line per handler; probes fill access logs."""

REPORT: Final = "_report"
"""Field that marks a record about records; it is not kept."""
_COLOURS: Final = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31;1m"}


class InterceptHandler(logging.Handler):
    """Hands records of standard `logging` to loguru, with the logger's name as source and kopf's object reference as fields."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on; an unknown level is passed by its number."""
        level: str | int = record.levelno
        if record.levelname in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
            level = record.levelname
        fields: dict[str, Any] = {"source": record.name}
        reference = getattr(record, "k8s_ref", None)
        if isinstance(reference, Mapping):
            fields.update({name: reference.get(name) for name in ("kind", "namespace", "name")})

        def place(made: Record) -> None:
            made["name"], made["module"], made["function"], made["line"] = (
                record.name,
                record.module,
                record.funcName,
                record.lineno,
            )

        logger.bind(**fields).patch(place).opt(exception=record.exc_info).log(level, "{}", _message(record))


def _message(record: logging.LogRecord) -> str:
    """Return a record's text; a call whose arguments do not fit its format loses them, not the record."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments may be any objects, and a log call must not break its caller
        return str(record.msg)


class StreamSink:
    """Writes redacted records to one stream; never raises into the caller."""

    def __init__(self, stream: TextIO, log_format: LogFormat) -> None:
        self._stream = stream
        self._render = _render_json if log_format == "json" else _render_text
        self._colour = log_format == "text" and stream.isatty()

    def __call__(self, message: Message) -> None:
        """Write one record."""
        record = message.record
        try:
            line = self._render(record)
        except Exception as error:  # noqa: BLE001 - loguru would print the record to standard error, unredacted
            line = f"A record of {record['name']} could not be rendered: {type(error).__name__}"
        colour = _COLOURS.get(record["level"].name) if self._colour else None
        with suppress(OSError, ValueError):  # the reader of a pipe is gone, or the stream is closed
            self._stream.write(f"{colour}{line}\x1b[0m\n" if colour else f"{line}\n")
            self._stream.flush()


def configure(
    level: str = "INFO",
    log_format: LogFormat = "text",
    stream: TextIO | None = None,
    lowest: str | None = None,
    keep: int | None = None,
) -> None:
    """Send everything at `level` and above to `stream` (None: standard error); replaces what was configured before.

    `lowest` is the level down to which standard `logging` is passed on, for other sinks; None: `level`.
    `keep` is a sink that stays. The new one is there before the old ones go: what is logged meanwhile may be there twice on
    standard error, but is not lost.
    """
    before = [handler for handler in logger._core.handlers if handler != keep]  # type: ignore[attr-defined]  # noqa: SLF001
    logger.add(StreamSink(stream or sys.stderr, log_format), level=level, format="{message}", backtrace=False, diagnose=False)
    for handler in before:
        with suppress(ValueError):  # somebody else has just removed it
            logger.remove(handler)
    root = logging.getLogger()
    root.handlers = [InterceptHandler()]
    root.setLevel(lowest or level)
    for name, quietest in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(quietest, logging.getLevelName(lowest or level)))


def system_record(record: Record) -> SystemRecord:
    """Return what loguru made as a record of the system stream. Raises what the `str` of an object in it raises."""
    extra, trace = record["extra"], _traceback(record)
    origin = Origin(record["name"], record["module"], record["function"], record["line"])
    fields = extra if trace is None else extra | {"traceback": trace}
    return system_record_of(record["message"], record["level"].name, fields, record["time"], origin, None)


def system_record_of(
    message: str, level: str, extra: Mapping[str, Any], time: datetime, origin: Origin, trace_id: str | None
) -> SystemRecord:
    """Return a record: known fields in their places, all others as metadata. `trace_id`: where the fields name none."""
    fields = dict(extra)
    fields.pop(REPORT, None)
    known = {name: _optional(fields.pop(name, None)) for name in ("source", "component", "event_type", "trace_id")}
    return SystemRecord(
        message,
        level,
        known["source"] or origin.logger or "system",
        known["component"],
        known["event_type"],
        fields,
        known["trace_id"] or trace_id,
        time,
        origin,
    )


def stand_in(name: str | None) -> SystemRecord:
    """Return a record in place of one that could not be made, naming nothing of what was in it."""
    return SystemRecord(f"A record of {name} could not be kept", "ERROR", component="logs")


def _optional(value: object) -> str | None:
    return None if value is None else str(value)


def _fields(record: Record) -> dict[str, Any]:
    return redact_fields({name: value for name, value in record["extra"].items() if name not in {"source", REPORT}})


def _source(record: Record) -> str:
    return str(record["extra"].get("source") or record["name"] or "system")


def _traceback(record: Record) -> str | None:
    if record["exception"] is None:
        return None
    kind, value, traceback = record["exception"]
    if kind is None or value is None:
        return None
    return redact(logging.Formatter().formatException((kind, value, traceback)))


def _render_json(record: Record) -> str:
    entry: dict[str, Any] = {
        "timestamp": record["time"].isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        "source": _source(record),
        "message": redact(record["message"]),
    }
    # A field never takes the place of what every record has.
    entry.update({f"{name}_" if name in entry else name: value for name, value in _fields(record).items()})
    trace = _traceback(record)
    if trace is not None:
        entry["traceback"] = trace
    return _encode(entry)


def _encode(value: dict[str, Any]) -> str:
    """Return JSON that any stream takes: a lone surrogate cannot be written as UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()


def _render_text(record: Record) -> str:
    fields = _fields(record)
    tail = f" | {_encode(fields)}" if fields else ""
    trace = _traceback(record)
    time = record["time"].isoformat(sep=" ", timespec="milliseconds")
    message = redact(record["message"])
    return f"{time} [{record['level'].name}] [{_source(record)}] {message}{tail}" + (f"\n{trace}" if trace else "")
