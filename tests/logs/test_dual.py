"""All of it together, with a real MongoDB wire server: what reaches which sink, and what happens when one of them fails."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from pymongo import AsyncMongoClient

from aigateway_logs import (
    DualLog,
    FileSettings,
    LogSettings,
    MongoSettings,
    OperationRecord,
    SpoolSettings,
    StreamSettings,
    register_secret,
    tracing,
)
from hack.stores import MongoServer
from tests.eventually import eventually_async
from tests.logs.faulty_disk import FULL, READ_ONLY, FaultyDisk, Switch, left_in

DATABASE = "dual"


@pytest.fixture
async def database(mongo_server: MongoServer) -> AsyncIterator[Any]:
    """An empty database."""
    async with AsyncMongoClient[dict[str, Any]](mongo_server.url, tz_aware=True) as client:
        await client.drop_database(DATABASE)
        yield client[DATABASE]
        await client.drop_database(DATABASE)


def settings(folder: Path, server: MongoServer, **changes: Any) -> LogSettings:
    """Everything switched on."""
    mongodb = MongoSettings(server.url, DATABASE, select_within_seconds=0.5, answer_within_seconds=2.0)
    return replace(
        LogSettings(files=FileSettings(folder / "logs"), spool=SpoolSettings(folder / "spool"), mongodb=mongodb), **changes
    )


def lines(folder: Path, stem: str) -> list[dict[str, Any]]:
    """What is in a file of today."""
    return [json.loads(line) for path in (folder / "logs" / stem).glob("*.log") for line in path.read_text().splitlines()]


def without_id(document: dict[str, Any]) -> dict[str, Any]:
    """A document as a file has it."""
    stamp = document["timestamp"].isoformat(timespec="milliseconds")
    return {name: value for name, value in document.items() if name != "_id"} | {"timestamp": stamp}


def to_milliseconds(line: dict[str, Any]) -> dict[str, Any]:
    """A line with the precision that BSON has."""
    return line | {"timestamp": f"{line['timestamp'][:23]}+00:00"}


async def test_both_streams_hold_exactly_the_fields_that_are_promised_in_files_and_mongodb(
    tmp_path: Path, mongo_server: MongoServer, database: Any
) -> None:
    """The same record in both, with the trace id of the context, and standard `logging` named as itself."""
    logs = DualLog(settings(tmp_path, mongo_server), stream=io.StringIO())
    logs.start()
    with tracing("t" * 32):
        logger.bind(component="reconcile", event_type="round", namespace="ai").info("Planned {} models", 3)
        logging.getLogger("kopf.objects").error("Handler failed", extra={"k8s_ref": {"kind": "VirtualModel", "name": "chat"}})
        assert await logs.operation(
            OperationRecord(
                "config_update",
                "Changed chat",
                user_id="jane",
                resource_type="VirtualModel",
                resource_id="ai/chat",
                duration_ms=1.5,
                request_data={"old": 1},
                response_data={"new": 2},
                metadata={"change_type": "update"},
                status="pending",
            )
        )
    await logs.stop(10)
    shared = {
        "log_type", "timestamp", "level", "message", "source", "metadata", "trace_id", "logger", "module", "function", "line",
    }  # fmt: skip
    (planned, failed) = await database.system_logs.find().sort("_id").to_list()
    assert set(planned) - {"_id"} == shared | {"component", "event_type"}
    assert (planned["component"], planned["event_type"], planned["metadata"]) == ("reconcile", "round", {"namespace": "ai"})
    assert planned["message"] == "Planned 3 models"
    assert planned["trace_id"] == failed["trace_id"] == "t" * 32
    assert failed["source"] == failed["logger"] == "kopf.objects"
    assert failed["function"].startswith("test_both_streams")
    (changed,) = await database.operation_logs.find().to_list()
    assert set(changed) - {"_id"} == shared | {
        "operation", "user_id", "resource_type", "resource_id", "status", "duration_ms", "request_data", "response_data",
    }  # fmt: skip
    assert (changed["operation"], changed["status"], changed["user_id"]) == ("config_update", "pending", "jane")
    assert [to_milliseconds(line) for line in lines(tmp_path, "system")] == [without_id(planned), without_id(failed)]
    assert [to_milliseconds(line) for line in lines(tmp_path, "operation")] == [without_id(changed)]
    assert [line["message"] for line in lines(tmp_path, "error")] == ["Handler failed"]
    assert left_in(tmp_path / "spool") == []


async def test_settings_choose_levels_and_sinks_and_errors_reach_the_error_file_all_the_same(
    tmp_path: Path, mongo_server: MongoServer, database: Any
) -> None:
    """Also when they change while the process runs."""
    nowhere = StreamSettings(level="ERROR", sinks=frozenset())
    before = settings(tmp_path, mongo_server, system=nowhere, operation=nowhere)
    logs = DualLog(before, stream=io.StringIO())
    logs.start()
    logger.warning("unheard")
    logger.error("always")
    assert await logs.operation(OperationRecord("render", "unheard")), "kept nowhere: nothing to wait for"
    assert await logs.operation(OperationRecord("render", "always", level="ERROR", status="failure"))
    both = StreamSettings(level="DEBUG", sinks=frozenset({"mongodb"}))
    logs.apply(replace(before, system=both, operation=both))
    logger.debug("heard")
    logging.getLogger("some.library").debug("heard of a library")
    assert await logs.operation(OperationRecord("render", "heard"))
    await logs.stop(10)
    assert [line["message"] for line in lines(tmp_path, "error")] == ["always", "always"]
    assert not (tmp_path / "logs" / "system").exists()
    messages = [document["message"] for document in await database.system_logs.find().sort("_id").to_list()]
    assert [message for message in messages if "heard" in message] == ["heard", "heard of a library"]
    assert await database.operation_logs.distinct("message") == ["heard"]


async def test_a_server_that_is_silent_or_away_costs_its_callers_nothing_and_is_named_once(
    tmp_path: Path, mongo_server: MongoServer, database: Any
) -> None:
    """Records wait on disk; the end comes by the deadline; the next process ships them."""
    stream = io.StringIO()
    logs = DualLog(settings(tmp_path, mongo_server), stream=stream)
    logs.start()
    assert await logs.operation(OperationRecord("render", "before"))
    await eventually_async(lambda: shipped(logs, 1), within_seconds=10)
    mongo_server.pause()
    try:
        started = time.monotonic()
        for _ in range(50):
            assert await logs.operation(OperationRecord("render", "meanwhile"))
        assert time.monotonic() - started < 10.0, "the disk takes milliseconds each; the server would take half a second"
        await eventually_async(lambda: says(stream, "MongoDB does not take logs"), within_seconds=10)
        await eventually_async(lambda: failures(logs, 2), within_seconds=15)
        assert stream.getvalue().count("MongoDB does not take logs") == 1
        started = time.monotonic()
        await logs.stop(1.0)
        assert time.monotonic() - started < 3.0
    finally:
        mongo_server.resume()
    after = DualLog(settings(tmp_path, mongo_server), stream=stream)
    after.start()
    await after.stop(20)
    assert await database.operation_logs.count_documents({}) == 51


async def test_a_full_spool_disk_does_not_stop_shipping(tmp_path: Path, mongo_server: MongoServer, database: Any) -> None:
    """Records go to MongoDB from memory, and none of them is missed or doubled when the disk works again."""
    switch, stream = Switch(), io.StringIO()
    logs = DualLog(settings(tmp_path, mongo_server), stream=stream, disk=FaultyDisk(switch))
    logs.start()
    assert await logs.operation(OperationRecord("render", "0"))
    switch.fail(FULL, "write", "create")
    started = time.monotonic()
    answers = [await logs.operation(OperationRecord("render", str(number))) for number in range(1, 30)]
    assert not all(answers)
    assert time.monotonic() - started < 10.0, "a disk that fails is not waited for; half a second each would be too long"
    await eventually_async(lambda: shipped(logs, 30), within_seconds=10)
    refused = switch.hits
    await eventually_async(lambda: hit(switch, more_than=refused + 2), within_seconds=10)
    assert "works again" not in stream.getvalue(), "that nothing waits is no sign of a disk that works"
    switch.heal()
    await eventually_async(lambda: says(stream, "works again"), within_seconds=10)
    assert await logs.operation(OperationRecord("render", "30"))
    await logs.stop(10)
    assert logs.counters().missing == 0
    stored = [document["message"] for document in await database.operation_logs.find().sort("_id").to_list()]
    assert stored == [str(number) for number in range(31)]
    assert stream.getvalue().count("The disk takes no records") == 1


async def test_what_a_read_only_disk_kept_is_removed_once_it_can_be(
    tmp_path: Path, mongo_server: MongoServer, database: Any
) -> None:
    """Records that were shipped do not fill the disk for ever, and are not shipped twice, because removing them failed once."""
    switch = Switch()
    spool = SpoolSettings(tmp_path / "spool", segment_bytes=4096)
    logs = DualLog(settings(tmp_path, mongo_server, spool=spool), disk=FaultyDisk(switch))
    logs.start()
    switch.fail(READ_ONLY, "remove")
    for number in range(40):
        assert await logs.operation(OperationRecord("render", str(number), request_data={"pad": "x" * 500}))
    await eventually_async(lambda: shipped(logs, 40), within_seconds=10)
    await eventually_async(lambda: hit(switch), within_seconds=20)
    await segments_between(tmp_path, 2, 40)
    switch.heal()
    await eventually_async(lambda: segments_between(tmp_path, 0, 1), within_seconds=15)  # it looks again every 5 s
    await logs.stop(10)
    assert await database.operation_logs.count_documents({}) == 40


async def test_what_a_server_refuses_is_kept_another_way_and_never_blocks_the_rest(
    tmp_path: Path, mongo_server: MongoServer, database: Any
) -> None:
    """Keys and numbers that no document may hold come as JSON text."""
    logs = DualLog(settings(tmp_path, mongo_server), stream=io.StringIO())
    logs.start()
    strange = {"$set": 1, "a.b": 2, "nul\x00": 3, "": 4, "huge": 2**80}
    for number in range(5):
        assert await logs.operation(OperationRecord("render", str(number), metadata=strange if number == 2 else {"n": number}))
    await logs.stop(10)
    stored = {document["message"]: document["metadata"] for document in await database.operation_logs.find().to_list()}
    assert sorted(stored) == ["0", "1", "2", "3", "4"]
    assert json.loads(stored["2"]["json"]) == strange
    assert logs.counters().refused == 0


async def test_without_ttl_the_leader_deletes_by_age_and_nobody_else(
    tmp_path: Path, mongo_server: MongoServer, database: Any
) -> None:
    """This server has no TTL index (code 238)."""
    old = {"_id": "old", "timestamp": __import__("datetime").datetime(2020, 1, 1)}
    await database.operation_logs.insert_one(old)
    logs = DualLog(settings(tmp_path, mongo_server), stream=io.StringIO())
    logs.start()
    assert await logs.operation(OperationRecord("render", "new"))
    await eventually_async(lambda: shipped(logs, 1), within_seconds=10)
    assert await database.operation_logs.count_documents({"_id": "old"}) == 1
    logs.lead(True)
    logs.apply(settings(tmp_path, mongo_server))  # wakes it
    await eventually_async(lambda: count(database.operation_logs, 1), within_seconds=15)
    await logs.stop(10)
    assert (await database.operation_logs.find().to_list())[0]["message"] == "new"


async def test_planted_secrets_are_in_no_file_no_document_and_no_line(
    tmp_path: Path, mongo_server: MongoServer, database: Any
) -> None:
    """Known values in any shape and place, unknown ones by name, shape or URI; also in what drivers say of the log store."""
    canary, shaped = "Zq7-canary value+of/a Secret", "sk-Qw8canary0123456789"
    register_secret(canary)
    for number in range(100):  # many known secrets are searched for in another way than few
        register_secret(f"other-secret-{number:04d}")
    stream = io.StringIO()
    secret_uri = f"mongodb://user:{shaped}@127.0.0.1:1/?directConnection=true"
    logs = DualLog(settings(tmp_path, mongo_server), stream=stream)
    logs.start()
    logger.info("text {} text", canary)
    logger.bind(nested=[{"deep": {"a": f"x{canary}y"}}], api_key=shaped).warning("Fields")
    try:
        raise ValueError(f"refused {canary} at {secret_uri}")
    except ValueError:
        logger.exception("It failed")
    logging.getLogger("driver").error("cannot reach %s", secret_uri)
    await logs.operation(
        OperationRecord(
            "admission",
            f"Changed by {canary}",
            user_id=canary,
            resource_id=f"ai/{canary}",
            request_data={"headers": [canary]},
            response_data={"Authorization": f"Bearer {shaped}"},
            metadata={"old": {canary: secret_uri}},
        )
    )
    logs.apply(
        replace(settings(tmp_path, mongo_server), mongodb=MongoSettings(secret_uri, DATABASE, select_within_seconds=0.1))
    )
    await eventually_async(lambda: failures(logs, 1), within_seconds=10)
    await eventually_async(lambda: says(stream, "MongoDB does not take logs"), within_seconds=20)
    spooled = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    logs.apply(settings(tmp_path, mongo_server))
    await logs.stop(10)
    files = b"".join(path.read_bytes() for path in (tmp_path / "logs").rglob("*") if path.is_file())
    stored = repr(await database.system_logs.find().to_list()) + repr(await database.operation_logs.find().to_list())
    everything = (
        files.decode() + spooled.decode(errors="replace") + stored + stream.getvalue() + repr(logs.__dict__["_settings"])
    )
    assert "It failed" in everything
    assert stored.count("_id") >= 6
    for planted in (canary, "Zq7-canary", "Qw8canary"):
        assert planted not in everything


async def test_an_object_that_cannot_be_shown_hurts_nobody(tmp_path: Path, mongo_server: MongoServer, database: Any) -> None:
    """A record stands for it that says so."""

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    logs = DualLog(settings(tmp_path, mongo_server), stream=io.StringIO())
    logs.start()
    logger.bind(field=Hostile()).info("Hostile")
    assert await logs.operation(OperationRecord("render", "Hostile", metadata={"field": Hostile()})) is False
    await logs.stop(10)
    messages = await database.system_logs.distinct("message")
    assert any("could not be kept" in message for message in messages)


async def test_an_operation_without_mongodb_is_on_disk_before_its_caller_goes_on(tmp_path: Path) -> None:
    """The file is what is durable then."""
    stream = StreamSettings(sinks=frozenset({"file"}))
    logs = DualLog(LogSettings(stream, stream, FileSettings(tmp_path / "logs", log_format="text")), stream=io.StringIO())
    logs.start()
    for number in range(5):
        assert await logs.operation(OperationRecord("render", f"Rendered {number}", trace_id="abc", metadata={"a": 1}))
        (file,) = (tmp_path / "logs" / "operation").glob("*.log")
        assert (
            file.read_text()
            .splitlines()[-1]
            .endswith(f'[INFO] [system] [abc] Rendered {number} | {{"operation":"render","status":"success","a":1}}')
        )
    assert await asyncio.to_thread(logs.operation_blocking, OperationRecord("render", "from a thread"))
    await logs.stop(5)


async def shipped(logs: DualLog, number: int) -> None:
    """For `eventually`."""
    assert logs.counters().shipped >= number, logs.counters()


async def failures(logs: DualLog, number: int) -> None:
    """For `eventually`."""
    assert logs.counters().ship_failures >= number, logs.counters()


async def says(stream: io.StringIO, text: str) -> None:
    """For `eventually`."""
    assert text in stream.getvalue()


async def count(collection: Any, number: int) -> None:
    """For `eventually`."""
    assert await collection.count_documents({}) == number


async def segments_between(folder: Path, fewest: int, most: int) -> None:
    """For `eventually`."""
    there = [name for name in left_in(folder / "spool") if name.endswith(".seg")]
    assert fewest <= len(there) <= most, there


async def hit(switch: Switch, more_than: int = 0) -> None:
    """For `eventually`."""
    assert switch.hits > more_than, "nothing was tried"
