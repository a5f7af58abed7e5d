"""Where `aigateway audit` reads records: MongoDB, or the log files where it is away.

Records come as `aigateway_logs` wrote them, oldest first.
Reads only, and nothing but the audit trail's operations. PyMongo is imported when MongoDB is asked. Called by `cli.audit`.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from aigateway_logs.redaction import redact
from aigateway_operator.audit import AUDITED
from aigateway_operator.errors import SettingsError, Unavailable

Record = dict[str, Any]
MAX_RECORDS: Final = 20_000
"""Newest records that are read; a timeline of more is for a query of one's own."""
SELECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 30.0
_COLLECTION: Final = "operation_logs"
_DRIVERS_OWN: Final = re.compile(r" \(configured timeouts|, Timeout: |,? full error: ")
"""Where PyMongo goes on with its settings and its view of the servers, of no use to whoever asks."""
_FILE_DAY: Final = re.compile(r"operation_(?P<day>\d{4}-\d{2}-\d{2})")
_LINE: Final = re.compile(
    r"(?P<timestamp>\S+) \[(?P<level>\w+)\] \[(?P<source>[^\]]*)\] \[(?P<trace_id>[^\]]*)\] "
    r"(?P<message>.*?) \| (?P<fields>\{.*\})$"
)
_COLUMNS: Final = (
    "operation",
    "user_id",
    "resource_type",
    "resource_id",
    "status",
    "duration_ms",
    "request_data",
    "response_data",
)


def read_mongodb(uri: str, database: str, since: datetime) -> list[Record]:
    """Return the newest records since then, oldest first. Raises Unavailable, SettingsError; neither shows a password."""
    from pymongo import MongoClient
    from pymongo.errors import ConfigurationError, InvalidURI, PyMongoError

    options: dict[str, Any] = {
        "serverSelectionTimeoutMS": int(SELECT_SECONDS * 1000),
        "connectTimeoutMS": int(SELECT_SECONDS * 1000),
        "socketTimeoutMS": int(ANSWER_SECONDS * 1000),
    }
    wanted = {"operation": {"$in": list(AUDITED)}, "timestamp": {"$gte": since}}
    try:
        with MongoClient[Record](uri, tz_aware=True, **options) as client:
            found = client[database][_COLLECTION].find(wanted).sort("timestamp", -1).limit(MAX_RECORDS)
            return [_from_mongodb(document) for document in found][::-1]
    except (ConfigurationError, InvalidURI) as error:
        raise SettingsError(f"The MongoDB URI cannot be used: {redact(str(error))}") from None
    except PyMongoError as error:
        said = _DRIVERS_OWN.split(redact(str(error)).splitlines()[0])[0]
        raise Unavailable(f"MongoDB does not answer: {said[:200]}") from None


def read_files(folder: Path, since: datetime) -> list[Record]:
    """Return the newest records since then, oldest first, from a process's log folder. Raises SettingsError."""
    place = folder / "operation"
    if not place.is_dir():
        raise SettingsError(f"There are no operation logs in {folder}: name the folder that AIGATEWAY_LOG_DIR names.")
    records: list[Record] = []
    for path in sorted(place.iterdir()):
        day = _FILE_DAY.match(path.name)
        if day is None or day["day"] < since.astimezone(UTC).date().isoformat():
            continue
        records += (record for record in _records(path) if record["timestamp"] >= since and record["operation"] in AUDITED)
    records.sort(key=lambda record: record["timestamp"])
    return records[-MAX_RECORDS:]


def _records(path: Path) -> Iterator[Record]:
    """Yield the records of one file; lines that are none (cut off, of other programs) are left out."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        return  # rotated meanwhile: it is there under another name
    except (OSError, EOFError, zlib.error) as error:
        raise SettingsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    for line in raw.splitlines():
        record = parse_line(line)
        if record is not None:
            yield record


def parse_line(line: bytes) -> Record | None:
    """Return the record of one line of a file, JSON or text; None if it is none."""
    try:
        record = orjson.loads(line) if line.startswith(b"{") else _from_text(line.decode(errors="replace"))
        if not isinstance(record, dict) or not isinstance(record.get("operation"), str):
            return None
        return {**record, "timestamp": datetime.fromisoformat(record["timestamp"])}
    except (ValueError, KeyError, TypeError):
        return None


def _from_text(line: str) -> Record | None:
    match = _LINE.match(line)
    if match is None:
        return None
    fields = orjson.loads(match["fields"])
    record: Record = {name: match[name] for name in ("timestamp", "level", "source", "trace_id", "message")}
    record |= {name: fields.pop(name, None) for name in _COLUMNS}
    # A field of the metadata that is called like a column stands there with an underscore behind it.
    record["metadata"] = {name.removesuffix("_"): value for name, value in fields.items()}
    return record | ({"trace_id": None} if record["trace_id"] == "-" else {})


def _from_mongodb(document: Record) -> Record:
    """Undo what the shipper does to open maps that a server refuses as they are: there they are JSON as text."""
    for name in ("metadata", "request_data", "response_data"):
        value = document.get(name)
        if isinstance(value, dict) and value.keys() == {"json"}:
            document[name] = orjson.loads(value["json"])
    document.pop("_id", None)
    return document
