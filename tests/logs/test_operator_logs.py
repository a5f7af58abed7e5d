"""Settings of the operator → its logs: what is asked for is kept, a URI is never shown, and a changed one is taken up."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from pydantic import SecretStr

from aigateway_logs import OperationRecord
from aigateway_operator.cli.run import FLAGS
from aigateway_operator.errors import SettingsError
from aigateway_operator.logs import follow_uri, log_settings, logging_to, read_uri
from aigateway_operator.settings import Settings
from hack.stores import MongoServer
from tests.eventually import eventually_async

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "uri-canary-0123456789"


def test_nothing_is_kept_unless_a_place_is_named() -> None:
    """A process without settings logs to standard error alone."""
    settings = log_settings(Settings(), None)
    assert (settings.files, settings.spool, settings.mongodb) == (None, None, None)


def test_settings_reach_the_library(tmp_path: Path) -> None:
    """Folders, bounds, levels and days, stream by stream."""
    made = Settings(
        log_dir=tmp_path / "logs",
        log_files_format="text",
        log_spool_dir=tmp_path / "spool",
        log_spool_mebibytes=8,
        log_mongodb_database="trail",
        log_mongodb_indexes=False,
        log_operation_retention_days=400,
        log_system_level="WARNING",
    )
    settings = log_settings(made, "mongodb://db/")
    assert settings.files is not None
    assert settings.spool is not None
    assert settings.mongodb is not None
    assert (settings.files.folder, settings.files.log_format) == (tmp_path / "logs", "text")
    assert settings.spool.max_bytes == 8 * 1024 * 1024
    assert (settings.mongodb.database, settings.mongodb.indexes) == ("trail", False)
    assert (settings.operation.retention_days, settings.system.retention_days, settings.system.level) == (400, 30, "WARNING")


@pytest.mark.parametrize("uri", ["http://db", "db:27017", f"postgres://u:{PASSWORD}@db"])
def test_what_is_no_uri_is_refused_without_showing_it(uri: str) -> None:
    """It may be a password in the wrong place."""
    with pytest.raises(SettingsError, match="AIGATEWAY_LOG_MONGODB_URI") as caught:
        read_uri(Settings(log_mongodb_uri=SecretStr(uri)))
    assert uri not in str(caught.value)


def test_mongodb_without_a_spool_is_refused_with_the_remedy() -> None:
    """Records would be lost whenever it is away."""
    with pytest.raises(SettingsError, match="AIGATEWAY_LOG_SPOOL_DIR"):
        log_settings(Settings(), "mongodb://db/")


def test_the_uri_has_no_flag_and_is_not_printed() -> None:
    """Arguments of processes are for everybody to read."""
    assert "log_mongodb_uri" not in FLAGS
    assert "log_mongodb_uri_file" in FLAGS
    dumped = json.dumps(Settings(log_mongodb_uri=SecretStr(f"mongodb://u:{PASSWORD}@db")).model_dump(mode="json"))
    assert PASSWORD not in dumped


def test_a_process_never_shows_its_uri(tmp_path: Path) -> None:
    """Started for real, with a MongoDB that is not there: neither standard error nor any file has the password."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "operator"),
        "HOME": str(tmp_path),
        "AIGATEWAY_KUBECONFIG": str(tmp_path / "none"),
        "AIGATEWAY_LOG_MONGODB_URI": f"mongodb://user:{PASSWORD}@127.0.0.1:9/?serverSelectionTimeoutMS=100",
        "AIGATEWAY_LOG_DIR": str(tmp_path / "logs"),
        "AIGATEWAY_LOG_SPOOL_DIR": str(tmp_path / "spool"),
        "AIGATEWAY_LOG_LEVEL": "DEBUG",
    }
    command = [sys.executable, "-m", "aigateway_operator", "run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert "Settings" in done.stderr
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any("system_" in path.name for path in files)
    assert [path for path, data in files.items() if PASSWORD.encode() in data] == []
    assert PASSWORD not in done.stdout + done.stderr


async def test_another_uri_in_the_file_is_taken_up_while_running(tmp_path: Path, mongo_server: MongoServer) -> None:
    """A Secret that is mended or rotated needs no restart; one that is broken for a moment changes nothing."""
    uri = tmp_path / "uri"
    uri.write_text("mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=100")
    database = f"uri_{os.getpid()}"
    made = Settings(
        log_spool_dir=tmp_path / "spool",
        log_mongodb_uri_file=uri,
        log_mongodb_database=database,
        log_mongodb_indexes=False,
        log_level="ERROR",
    )
    with logging_to(made) as logs:
        following = asyncio.create_task(follow_uri(made, logs, every_seconds=0.05))
        await logs.operation(OperationRecord("leadership", "before"))
        said: list[str] = []
        logger.add(lambda text: said.append(str(text)), level="WARNING")
        uri.write_text("nonsense")

        async def refused() -> None:
            assert any("does not begin with mongodb" in text for text in said), said

        await eventually_async(refused, within_seconds=20)
        assert not following.done()
        uri.write_text(mongo_server.url)

        async def arrived() -> None:
            assert logs.counters().shipped >= 1

        await eventually_async(arrived, within_seconds=20)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    logger.remove()
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](mongo_server.url) as client:
        found = [one["message"] for one in client[database]["operation_logs"].find({})]
        client.drop_database(database)
    assert found == ["before"]


def test_no_line_is_lost_or_doubled_while_settings_are_applied(tmp_path: Path) -> None:
    """spec.log or the URI may change at any time, in the midst of other threads' records."""
    made = Settings(log_dir=tmp_path, log_level="ERROR")
    done = threading.Event()
    counts: list[int] = []

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            logger.bind(source="test").info("line {}", number)
        counts.append(number)

    with logging_to(made) as logs:
        writer = threading.Thread(target=write)
        writer.start()
        for turn in range(100):
            logs.apply(log_settings(made.model_copy(update={"log_system_retention_days": 10 + turn}), None))
        done.set()
        writer.join()
    logger.remove()
    lines = [json.loads(line) for path in tmp_path.glob("system/*.log*") for line in path.read_text().splitlines()]
    seen = [line["message"] for line in lines if line["source"] == "test"]
    assert sorted(seen) == sorted(f"line {number + 1}" for number in range(counts[0]))
