"""A system record as its caller leaves it: a snapshot of what loguru made, and no JSON yet. The thread that writes makes that.

A record with more in it than texts, numbers and truth values (an exception, a list, an object of somebody's) has no draft:
its caller makes it, since it may have changed when the thread looks. Redacted like any other, before any sink sees it.
Made by `dual`; `spool.writer` and `files` ask for the bytes.
"""

from __future__ import annotations

import marshal
from datetime import datetime
from types import NoneType
from typing import TYPE_CHECKING, Final

from aigateway_logs.front import stand_in, system_record_of
from aigateway_logs.records import Origin, document, document_bytes
from aigateway_logs.tracing import current_trace

if TYPE_CHECKING:
    from loguru import Record

_PLAIN: Final = frozenset({str, bool, int, float, NoneType})
_SHAPE_BYTES: Final = 256
"""What the JSON has besides: names of fields."""
_LONGEST_BYTES: Final = 8192
"""To redact more takes a thread long that others wait for."""


class Draft:
    """See the module. `len` is about that of the JSON and never changes; any thread may ask for the bytes."""

    __slots__ = ("_json", "_length", "_snapshot", "_time")

    def __init__(self, snapshot: bytes, time: datetime) -> None:
        """`snapshot`: one object for the collector of garbage to count, where a tuple and its dict are two and last as long."""
        self._snapshot = snapshot
        self._time = time
        self._length = _SHAPE_BYTES + len(snapshot)
        self._json: bytes | None = None

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        """Return the document as one line of JSON. Never raises: who writes must go on."""
        if self._json is None:
            message, level, extra, trace, *place = marshal.loads(self._snapshot)  # noqa: S302 - made below, in this process
            try:
                record = system_record_of(message, level, extra, self._time, Origin(*place), trace)
                self._json = document_bytes(document(record))
            except Exception:  # noqa: BLE001 - as for one that its caller makes: an integer of 5,000 digits is no JSON
                self._json = document_bytes(document(stand_in(place[0])))
        return self._json


def draft_of(record: Record) -> Draft | None:
    """Return a draft of what loguru made; None: it is to be made at once."""
    extra = record["extra"]
    if record["exception"] is not None or not _PLAIN.issuperset(map(type, extra.values())):
        return None
    place = record["name"], record["module"], record["function"], record["line"]
    try:
        snapshot = marshal.dumps((record["message"], record["level"].name, extra, current_trace(), *place))
    except ValueError:  # somebody's patch has put an object there
        return None
    return Draft(snapshot, record["time"]) if len(snapshot) <= _LONGEST_BYTES else None
