"""Records of requests and reloads: what they hold, what they never hold, and that `spec.log` is honoured while running."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aigateway_config import documents
from aigateway_config.configuration import Configuration
from aigateway_gateway import records as module
from aigateway_gateway.access import Access
from aigateway_gateway.records import Records
from aigateway_gateway.settings import GatewaySettings
from aigateway_logs import LogSettings
from tests.eventually import eventually_async
from tests.gateway_runs import LOOPBACK, make_configuration, make_model


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Leave logging as it was."""
    from loguru import logger

    yield
    logger.remove()


def stream(level: Any = "INFO", *sinks: Any, path: str = "logs") -> documents.LogStream:
    """Return one log stream of a configuration."""
    storage = documents.LogStorage(sinks=list(sinks or ("mongodb", "file")), path=path)
    return documents.LogStream(level=level, storage=storage, retention=7)


def configuration(revision: int = 1, operation: documents.LogStream | None = None, **values: Any) -> Configuration:
    """Return a configuration that logs so."""
    log = documents.Log(system=stream("ERROR"), operation=operation or stream())
    return make_configuration(make_model(), revision=revision, log=log, **values)


def access(**values: Any) -> Access:
    """Return a request that is over."""
    given: dict[str, Any] = {
        "endpoint": "chat",
        "trace_id": "t-1",
        "model": "chat",
        "backend": "small",
        "key_name": "chat.proxy",
        "status": 200,
        "duration_ms": 12.5,
        "first_byte_ms": 10.0,
        "prompt_tokens": 9,
        "completion_tokens": 21,
    }
    return Access(**given | values)


@asynccontextmanager
async def keeping(folder: Path, **settings: Any) -> AsyncIterator[Records]:
    """Keep records below a folder."""
    records = Records(GatewaySettings(log_dir=folder, allow_addresses=LOOPBACK, log_level="ERROR", **settings))
    try:
        yield records
    finally:
        await records.stop()


def written(folder: Path, operation: str) -> list[dict[str, Any]]:
    """Return the records of one operation in the files of a folder."""
    found = []
    for path in sorted(folder.glob("operation/operation_*.log")):
        for line in path.read_text().splitlines():
            tail = line.partition(" | ")[2] if not line.startswith("{") else line
            found.append(json.loads(tail))
    return [record for record in found if record["operation"] == operation]


async def test_a_request_becomes_a_record_with_model_caller_tokens_and_times(tmp_path: Path) -> None:
    """By the name of the caller's key; a refused one is http_error, an answer without a backend http_response."""
    async with keeping(tmp_path, log_format="json") as records:
        await records.follow(configuration(), None)
        records.put(access())
        records.put(access(model="", backend="", key_name="", status=401, error_code="invalid_api_key"))
        records.put(access(endpoint="models", model="", backend="", key_name=""))
    (call,) = written(tmp_path / "logs", "model_call")
    assert (call["user_id"], call["resource_id"], call["trace_id"], call["status"]) == ("chat.proxy", "chat", "t-1", "success")
    assert call["duration_ms"] == 12.5
    assert call["response_data"]["prompt_tokens"] == 9
    assert call["response_data"]["completion_tokens"] == 21
    assert [record["status"] for record in written(tmp_path / "logs", "http_error")] == ["failure"]
    assert len(written(tmp_path / "logs", "http_response")) == 1


async def test_spec_log_is_honoured_while_running(tmp_path: Path) -> None:
    """Another level, another folder, no file at all: from the next request on, without a restart."""
    async with keeping(tmp_path, log_format="json") as records:
        first = configuration()
        await records.follow(first, None)
        records.put(access(trace_id="kept"))

        async def is_written() -> None:
            assert [one["trace_id"] for one in written(tmp_path / "logs", "model_call")] == ["kept"]

        await eventually_async(is_written, within_seconds=20)
        second = configuration(2, stream("WARNING"))
        await records.follow(second, first)
        records.put(access(trace_id="too fine"))
        records.put(access(trace_id="failed", status=502))

        async def failed() -> None:
            assert written(tmp_path / "logs", "model_call")[-1]["trace_id"] == "failed"

        await eventually_async(failed, within_seconds=20)
        third = configuration(3, stream("INFO", path="elsewhere"))
        await records.follow(third, second)
        records.put(access(trace_id="moved"))
    assert [one["trace_id"] for one in written(tmp_path / "logs", "model_call")] == ["kept", "failed"]
    assert [one["trace_id"] for one in written(tmp_path / "elsewhere", "model_call")] == ["moved"]
    reloads = written(tmp_path / "logs", "config_update") + written(tmp_path / "elsewhere", "config_update")
    assert [one["metadata"]["new_version"] for one in reloads] == [1, 3], "at WARNING a reload is not kept"


async def test_mongodb_is_that_of_the_configuration_and_its_password_is_never_shown(tmp_path: Path) -> None:
    """The URI is made of storage.mongodb and the credentials; without it nothing is spooled."""
    records = Records(GatewaySettings(log_spool_dir=tmp_path / "spool", allow_addresses=LOOPBACK))
    mongodb = documents.MongoDB(
        host="127.0.0.1", port=27017, username="gate way", password_ref="m.p", database="logs", auth_source="admin", tls=None
    )
    from pydantic import SecretStr

    storage = documents.Storage(mongodb=mongodb, redis=None, qdrant=None)
    made = replace(configuration(storage=storage), secrets={"m.p": SecretStr("pass/canary@word")})
    settings = records._log_settings(made, await records._uri(made))
    assert settings.mongodb is not None
    assert settings.mongodb.uri.startswith("mongodb://gate%20way:pass%2Fcanary%40word@127.0.0.1:27017/?")
    assert settings.mongodb.database == "logs"
    assert "canary" not in repr(settings)
    none: LogSettings = records._log_settings(configuration(), await records._uri(configuration()))
    assert none.mongodb is None
    assert none.operation.sinks == {"file"}
    await records.stop()


@pytest.mark.parametrize(("then", "reached"), [(None, True), (PermissionError("the address is link-local"), False)])
async def test_mongodb_is_connected_to_only_after_its_address_was_checked(
    then: Exception | None, reached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that does not resolve at the start may resolve to a forbidden address later; meanwhile records wait on disk."""
    answers: list[Exception | None] = [OSError("no such name"), OSError("no such name"), then]
    taken: list[LogSettings] = []

    async def check(*_: object) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(module, "check_host", check)
    monkeypatch.setattr(module, "_LOOK_AGAIN_SECONDS", 0.01)
    records = Records(GatewaySettings(log_spool_dir=tmp_path / "spool"))
    monkeypatch.setattr(records, "_take_up", taken.append)
    mongodb = documents.MongoDB(
        host="db.example", port=27017, username=None, password_ref=None, database="logs", auth_source="admin", tls=None
    )
    await records.follow(configuration(storage=documents.Storage(mongodb=mongodb, redis=None, qdrant=None)), None)
    assert [one.mongodb for one in taken] == [None]
    assert "mongodb" in taken[0].operation.sinks, "what is meant for it must wait in the spool"

    async def looked_again() -> None:
        assert len(taken) == 2

    await eventually_async(looked_again, within_seconds=20)
    assert (taken[1].mongodb is not None) is reached
    await records.stop()


async def test_keeping_a_request_costs_it_next_to_nothing(tmp_path: Path) -> None:
    """The record is made in another thread; a burst beyond what can wait gives up the oldest and never blocks."""
    records = Records(GatewaySettings(log_dir=tmp_path, log_level="ERROR"))
    for number in range(25_000):
        records.put(access(trace_id=str(number)))
    assert len(records._waiting) == 20_000
    assert records._waiting[0][0].trace_id == "5000"
    await records.stop()
