"""Retention on servers that answer differently: a new TTL, one that is there with another time, and none at all.

The answers are those of MongoDB 7's documentation and of FerretDB 1.24 (measured); no MongoDB is to be had here.
"""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import BulkWriteError, OperationFailure

from aigateway_logs.mongodb import LogStore, _refused, plainer
from aigateway_logs.settings import MongoSettings


class Server:
    """A collection (and its database) that keeps indexes, as MongoDB does; `refuses` maps a command to an error code."""

    name = "system_logs"

    def __init__(self, **refuses: int) -> None:
        self.indexes: dict[str, dict[str, Any]] = {"_id_": {"key": [("_id", 1)]}}
        self._refuses = refuses

    @property
    def database(self) -> Server:
        return self

    async def create_index(self, keys: Any, name: str, expireAfterSeconds: int | None = None) -> None:  # noqa: N803 - PyMongo's
        if expireAfterSeconds is not None and "ttl" in self._refuses:
            raise OperationFailure("no TTL", self._refuses["ttl"])
        key = [(keys, 1)] if isinstance(keys, str) else list(keys)
        wanted = {"key": key} | ({} if expireAfterSeconds is None else {"expireAfterSeconds": expireAfterSeconds})
        if any(index["key"] == key and index != wanted for index in self.indexes.values()):
            raise OperationFailure("differs", 85)
        self.indexes[name] = wanted

    async def command(self, name: str, collection: str, index: dict[str, Any]) -> None:
        assert (name, collection) == ("collMod", self.name)
        if "collMod" in self._refuses:
            raise OperationFailure("no collMod", self._refuses["collMod"])
        for there in self.indexes.values():
            if there["key"] == [("timestamp", 1)]:
                there["expireAfterSeconds"] = index["expireAfterSeconds"]

    async def drop_index(self, name: str) -> None:
        del self.indexes[name]

    async def index_information(self) -> dict[str, dict[str, Any]]:
        return dict(self.indexes)


async def retention(server: Server, *days: int) -> set[str]:
    """Prepare with each retention in turn; returns the streams that are deleted by age."""
    store = LogStore(MongoSettings("mongodb://127.0.0.1:1/?directConnection=true"))
    try:
        store._streams = {"system": server}  # type: ignore[dict-item]  # the part of a collection that is used
        for count in days:
            await store.prepare({"system": count, "operation": count})
        return set(store.deletes_by_age)
    finally:
        await store.close()


@pytest.mark.parametrize("refuses", [{}, {"collMod": 59}, {"collMod": 238}, {"collMod": 27}])
async def test_a_changed_retention_is_applied_whichever_way_the_server_knows(refuses: dict[str, int]) -> None:
    """By collMod, or by making the index anew; repeating it changes nothing."""
    server = Server(**refuses)
    assert await retention(server, 30, 30, 7, 7) == set()
    expiring = [index for index in server.indexes.values() if "expireAfterSeconds" in index]
    assert expiring == [{"key": [("timestamp", 1)], "expireAfterSeconds": 7 * 86_400}]
    assert {"level", "source", "trace_id"} < set(server.indexes)


async def test_without_ttl_the_stream_is_deleted_by_age_and_indexed_all_the_same() -> None:
    """FerretDB 1 answers 238."""
    server = Server(ttl=238)
    assert await retention(server, 30, 7) == {"system"}
    assert server.indexes["timestamp"] == {"key": [("timestamp", 1)]}


async def test_a_user_who_may_not_make_indexes_is_told_so() -> None:
    """The shipper says what is missing; it is not taken for a server without TTL."""
    with pytest.raises(OperationFailure) as raised:
        await retention(Server(ttl=13), 30)
    assert raised.value.code == 13


def test_only_what_speaks_of_the_document_is_given_up() -> None:
    """Duplicates are there already; a server that steps down, or has not replicated, is asked again."""
    documents = [{"_id": str(number), "metadata": {"a": 1}} for number in range(3)]

    def answer(*codes: int, **more: Any) -> BulkWriteError:
        return BulkWriteError({"writeErrors": [{"index": index, "code": code} for index, code in enumerate(codes)], **more})

    assert _refused(answer(11_000, 11_000), documents) == []
    (refused,) = _refused(answer(11_000, 121), documents)
    assert (refused.identifier, refused.reason) == ("1", "code 121")
    assert plainer(refused.document)["metadata"] == {"json": '{"a":1}'}
    for error in (answer(189), answer(11_000, writeConcernErrors=[{"code": 64}])):
        with pytest.raises(BulkWriteError):
            _refused(error, documents)
