"""The two kinds of log records and the documents they become: the same fields in files, spool and MongoDB.

`system` says how the process works, `operation` what it did and for whom. A document is redacted here, before any sink
sees it, and bounded in size. Pure but for the clock's default. Called by `dual` (operation) and `front` (system).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal

from aigateway_logs.encoding import encode
from aigateway_logs.redaction import redact, redact_fields
from aigateway_logs.tracing import current_trace

LogType = Literal["system", "operation"]
Status = Literal["success", "failure", "pending"]
Operation = Literal[
    "config_update",
    "admission",
    "render",
    "rollout",
    "health_change",
    "leadership",
    "model_call",
    "http_request",
    "http_response",
    "http_error",
]

MAX_RECORD_BYTES: Final = 128 * 1024
"""Longest document as JSON. MongoDB takes 16 MB, but one record must not fill the memory that the spool is allowed."""
_MAX_TEXT: Final = 8 * 1024
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OPEN: Final = ("metadata", "request_data", "response_data")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where in the code a record was made; None: not known."""

    logger: str | None = None
    module: str | None = None
    function: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """Something that was done. Changes carry `change_type, change_summary, previous_version, new_version, changed_by`,
    old and new values in `metadata`.
    """

    operation: Operation
    message: str
    status: Status = "success"
    level: str = "INFO"
    source: str = "system"
    user_id: str | None = None
    """Who: a user name of the cluster, or the name of a caller's key; never the key."""
    resource_type: str | None = None
    resource_id: str | None = None
    """What: `namespace/name`, or a model's public name."""
    duration_ms: float | None = None
    request_data: Mapping[str, Any] | None = None
    response_data: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    trace_id: str | None = None
    """None: the current one (`tracing`)."""
    timestamp: datetime | None = None
    """None: now."""
    origin: Origin = Origin()


@dataclass(frozen=True, slots=True)
class SystemRecord:
    """How the process works. `component` and `event_type` are for filters; None: not said."""

    message: str
    level: str = "INFO"
    source: str = "system"
    component: str | None = None
    event_type: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    trace_id: str | None = None
    """None: the current one (`tracing`)."""
    timestamp: datetime | None = None
    """None: now."""
    origin: Origin = Origin()


def document(record: SystemRecord | OperationRecord) -> dict[str, Any]:
    """Return what is stored, redacted, with JSON values only; `timestamp` is ISO 8601 in UTC with microseconds."""
    values = _shared("operation" if isinstance(record, OperationRecord) else "system", record)
    if isinstance(record, SystemRecord):
        values["component"] = _text(record.component)
        values["event_type"] = _text(record.event_type)
        return values
    values["operation"] = record.operation
    values["user_id"] = _text(record.user_id)
    values["resource_type"] = _text(record.resource_type)
    values["resource_id"] = _text(record.resource_id)
    values["status"] = record.status
    values["duration_ms"] = record.duration_ms
    values["request_data"] = None if record.request_data is None else redact_fields(record.request_data)
    values["response_data"] = None if record.response_data is None else redact_fields(record.response_data)
    return values


def document_bytes(values: dict[str, Any]) -> bytes:
    """Return a document as one line of JSON of at most `MAX_RECORD_BYTES`; what does not fit is cut, and says so."""
    data = encode(values)
    if len(data) <= MAX_RECORD_BYTES:
        return data
    for name in _OPEN:
        if values.get(name):
            values = values | {name: {"cut": True, "bytes": len(encode(values[name]))}}
    values["message"] = values["message"][:_MAX_TEXT] + f" … (cut: the record had {len(data)} bytes)"
    return encode({name: value[: _MAX_TEXT + 256] if isinstance(value, str) else value for name, value in values.items()})


def _shared(log_type: LogType, record: SystemRecord | OperationRecord) -> dict[str, Any]:
    return {
        "log_type": log_type,
        "timestamp": _instant(record.timestamp or datetime.now(UTC)),
        "level": record.level,
        "message": redact(record.message),
        "source": _text(record.source) or "system",
        "metadata": redact_fields(record.metadata),
        "trace_id": _text(record.trace_id or current_trace()),
        "logger": record.origin.logger,
        "module": record.origin.module,
        "function": record.origin.function,
        "line": record.origin.line,
    }


def _instant(moment: datetime) -> str:
    """Return a moment in UTC with microseconds; a naive one is local time. `isoformat` of it takes three times as long."""
    past = (moment if moment.tzinfo is not None else moment.astimezone()) - _EPOCH
    return f"{_second(past.days * 86_400 + past.seconds)}.{past.microseconds:06d}+00:00"


@lru_cache(maxsize=64)
def _second(since_epoch: int) -> str:
    return datetime.fromtimestamp(since_epoch, UTC).isoformat()[:19]


def _text(value: str | None) -> str | None:
    return None if value is None else redact(value)
