"""A record as a line for people: `TIME [LEVEL] [source] [trace] message | {json}`. Pure. Called by `dual` for files."""

from __future__ import annotations

from typing import Any, Final

from aigateway_logs.encoding import encode

_IN_THE_LINE: Final = frozenset({"log_type", "timestamp", "level", "source", "trace_id", "message", "metadata"})
_CODE: Final = frozenset({"logger", "module", "function", "line"})


def text_line(values: dict[str, Any]) -> bytes:
    """Return a document (see `records.document`) as one line; a traceback follows on lines of its own."""
    fields = {name: value for name, value in values.items() if name not in _IN_THE_LINE | _CODE and value is not None}
    metadata = dict(values["metadata"])
    trace = metadata.pop("traceback", None)
    fields.update({f"{name}_" if name in fields else name: value for name, value in metadata.items()})
    tail = f" | {encode(fields).decode(errors='replace')}" if fields else ""
    message = str(values["message"]).replace("\n", "\\n")
    head = f"{values['timestamp']} [{values['level']}] [{values['source']}] [{values['trace_id'] or '-'}] {message}{tail}"
    return (f"{head}\n{trace}" if trace else head).encode(errors="backslashreplace")
