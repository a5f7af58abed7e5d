"""The two collections in MongoDB: documents, indexes, retention. PyMongo is imported when first used.

Every operation is idempotent, because nobody knows whether the last one arrived. Works with MongoDB, FerretDB (which has no
TTL index and no collMod) and compatible servers. Called by `shipper`; errors of the driver pass through to it, since it
alone decides what is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from aigateway_logs.encoding import decode, encode
from aigateway_logs.records import LogType
from aigateway_logs.settings import MongoSettings
from aigateway_logs.spool.folder import identifier

if TYPE_CHECKING:
    from pymongo import AsyncMongoClient
    from pymongo.asynchronous.collection import AsyncCollection

Document = dict[str, Any]
COLLECTIONS: Final[Mapping[LogType, str]] = {"system": "system_logs", "operation": "operation_logs"}
_INDEXED: Final[Mapping[LogType, Sequence[str]]] = {
    "system": ("level", "source", "trace_id"),
    "operation": ("level", "source", "trace_id", "operation", "resource_id", "user_id"),
}
_TTL: Final = "timestamp_ttl"
_PLAIN: Final = "timestamp"
_SECONDS_A_DAY: Final = 86_400
_DUPLICATE: Final = 11_000
_NOT_IMPLEMENTED: Final = frozenset({59, 238})  # CommandNotFound; FerretDB's NotImplemented
_INDEX_DIFFERS: Final = frozenset({85, 86})  # IndexOptionsConflict, IndexKeySpecsConflict
_FOR_GOOD: Final = frozenset({2, 9, 14, 16, 22, 39, 52, 56, 57, 121, 10_334, 17_280})
"""Codes that speak of the document itself (bad value, key, type, size, validation). Any other may pass: it is tried again."""
_OPEN: Final = ("metadata", "request_data", "response_data")


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that the server will not take, whatever is tried, and its reason."""

    identifier: str
    document: Document
    reason: str


def stored(boot: str, sequence: int, payload: bytes) -> tuple[LogType, Document]:
    """Return (stream, document) of a spooled record; raises ValueError for what is no record."""
    values = decode(payload)
    if not isinstance(values, dict) or values.get("log_type") not in COLLECTIONS:
        raise ValueError("not a log record")
    values["timestamp"] = datetime.fromisoformat(values["timestamp"])
    return values["log_type"], {"_id": identifier(boot, sequence), **values}


def plainer(document: Document) -> Document:
    """Return a document whose open maps are JSON text: for servers that refuse a key or a number in them."""
    return document | {name: {"json": encode(document[name]).decode()} for name in _OPEN if document.get(name)}


class LogStore:
    """One connection to the log collections."""

    def __init__(self, settings: MongoSettings) -> None:
        """Raises pymongo's ConfigurationError (a ValueError's cousin) for a URI that cannot be read."""
        from pymongo import AsyncMongoClient, WriteConcern
        from pymongo.driver_info import DriverInfo

        self._client: AsyncMongoClient[Document] = AsyncMongoClient(
            settings.uri,
            serverSelectionTimeoutMS=int(settings.select_within_seconds * 1000),
            connectTimeoutMS=int(settings.select_within_seconds * 1000),
            socketTimeoutMS=int(settings.answer_within_seconds * 1000),
            retryWrites=False,  # we retry whole batches ourselves; not every compatible server knows the driver's way
            maxPoolSize=4,
            tz_aware=True,
            driver=DriverInfo("aigateway-logs"),
        )
        database = self._client.get_database(settings.database)
        concern = WriteConcern(w="majority", j=True)
        self._streams: dict[LogType, AsyncCollection[Document]] = {
            stream: database.get_collection(name, write_concern=concern) for stream, name in COLLECTIONS.items()
        }
        self._indexes = settings.indexes
        self.deletes_by_age: set[LogType] = set()
        """Streams for which the server has no TTL index: the leader calls `delete_expired`."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def insert(self, stream: LogType, documents: Sequence[Document]) -> list[Refused]:
        """Insert documents; those that are there already are fine. Returns what the server refuses for good.

        Returns only when a majority has journaled the rest; raises pymongo's errors when that is not known.
        """
        from bson.errors import InvalidDocument
        from pymongo.errors import BulkWriteError, DocumentTooLarge

        try:
            await self._streams[stream].insert_many(documents, ordered=False)
        except BulkWriteError as error:
            return _refused(error, documents)
        except (InvalidDocument, DocumentTooLarge, OverflowError, UnicodeEncodeError) as error:
            if len(documents) == 1:
                return [Refused(documents[0]["_id"], documents[0], type(error).__name__)]
            refused: list[Refused] = []
            for document in documents:  # one of them cannot be sent at all: find it
                refused += await self.insert(stream, [document])
            return refused
        return []

    async def prepare(self, retention_days: Mapping[LogType, int]) -> None:
        """Make the indexes and set the retention; repeating it changes nothing."""
        for stream, collection in self._streams.items():
            await self._retain(stream, collection, retention_days[stream] * _SECONDS_A_DAY)
            for field in _INDEXED[stream] if self._indexes else ():
                await collection.create_index([(field, 1), ("timestamp", -1)], name=field)

    async def delete_expired(self, retention_days: Mapping[LogType, int], now: datetime | None = None) -> int:
        """Delete what is older than the retention where the server has no TTL index; returns how many documents."""
        deleted = 0
        for stream in self.deletes_by_age:
            limit = (now or datetime.now(UTC)) - timedelta(days=retention_days[stream])
            deleted += (await self._streams[stream].delete_many({"timestamp": {"$lt": limit}})).deleted_count
        return deleted

    async def _retain(self, stream: LogType, collection: AsyncCollection[Document], seconds: int) -> None:
        from pymongo.errors import OperationFailure

        try:
            await collection.create_index("timestamp", expireAfterSeconds=seconds, name=_TTL)
        except OperationFailure as error:
            if error.code in _INDEX_DIFFERS:
                await self._change_retention(collection, seconds)
            elif error.code in _NOT_IMPLEMENTED:
                await collection.create_index("timestamp", name=_PLAIN)
                self.deletes_by_age.add(stream)
            else:
                raise

    async def _change_retention(self, collection: AsyncCollection[Document], seconds: int) -> None:
        """Change the TTL of an index that is there; where that cannot be done, make it anew."""
        from pymongo.errors import OperationFailure

        try:
            change = {"keyPattern": {"timestamp": 1}, "expireAfterSeconds": seconds}
            await collection.database.command("collMod", collection.name, index=change)
        except OperationFailure as error:
            if error.code == 13:  # not allowed to: neither would dropping be
                raise
            for name, index in (await collection.index_information()).items():
                if [tuple(key) for key in index["key"]] == [("timestamp", 1)]:
                    await collection.drop_index(name)
            await collection.create_index("timestamp", expireAfterSeconds=seconds, name=_TTL)


def _refused(error: Any, documents: Sequence[Document]) -> list[Refused]:
    """Return what a bulk answer refuses for good; raises it again if it leaves open whether the rest is safe."""
    details = error.details or {}
    failed = [entry for entry in details.get("writeErrors", ()) if entry.get("code") != _DUPLICATE]
    if details.get("writeConcernErrors") or any(entry.get("code") not in _FOR_GOOD for entry in failed):
        raise error
    return [
        Refused(documents[entry["index"]]["_id"], documents[entry["index"]], f"code {entry.get('code')}") for entry in failed
    ]
