"""The datastores behave as tests of outages rely on, and leave nothing."""

import re
import time
from pathlib import Path

import pymongo
import pytest
import redis
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError
from redis.backoff import NoBackoff
from redis.retry import Retry

from hack.process import ServerError
from hack.stores import MongoServer, RedisServer
from tests.conftest import require_binaries

pytestmark = pytest.mark.apiserver


def client_of(server: RedisServer) -> "redis.Redis":
    """A client that fails at once."""
    return redis.Redis.from_url(server.url, socket_timeout=0.3, retry=Retry(NoBackoff(), 0))


def test_redis_keeps_data_over_a_kill(redis_server: RedisServer) -> None:
    """Killed right after a write: it is there again, on the same port; in between connections are refused."""
    with client_of(redis_server) as client:
        client.set("key", "value")
        redis_server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("key")
        redis_server.restart()
        assert client.get("key") == b"value"


def test_redis_with_a_password_refuses_whoever_has_none() -> None:
    """The URL has it; no command line shows it."""
    with RedisServer.start(password="s3cret", binary=require_binaries(["redis-server"])["redis-server"]) as server:
        with client_of(server) as client:
            assert client.ping()
        with redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        assert "s3cret" not in Path(f"/proc/{server.pid}/cmdline").read_text()


def test_a_paused_redis_hangs_and_goes_on(redis_server: RedisServer) -> None:
    """What a hung server looks like."""
    with client_of(redis_server) as client:
        redis_server.pause()
        try:
            with pytest.raises(redis.TimeoutError):
                client.ping()
        finally:
            redis_server.resume()
    with client_of(redis_server) as client:
        assert client.ping()


def test_mongodb_keeps_data_over_a_kill(mongo_server: MongoServer) -> None:
    """Killed right after a write: it is there again, on the same port."""
    with pymongo.MongoClient[dict[str, object]](mongo_server.url, serverSelectionTimeoutMS=300) as client:
        client.test.things.insert_one({"_id": 1, "a": "b"})
        mongo_server.kill()
        with pytest.raises((AutoReconnect, ServerSelectionTimeoutError)):
            client.test.things.find_one({"_id": 1})
        mongo_server.restart()
        assert client.test.things.find_one({"_id": 1}) == {"_id": 1, "a": "b"}


def test_mongodb_logs_what_it_does_and_no_statement(mongo_server: MongoServer) -> None:
    """Its log has levels, and the part that speaks; what is written stays out of it, as DEBUG is off."""
    with pymongo.MongoClient[dict[str, object]](mongo_server.url) as client:
        client.test.told.insert_many([{"_id": number, "a": "text"} for number in range(10)])
    said = (mongo_server.directory / "mongowire.log").read_text()
    assert re.search(r'level=INFO msg="Listening on TCP .*" name=listener', said)
    assert "level=DEBUG" not in said
    assert "INSERT INTO" not in said


def test_stop_leaves_no_process_and_no_folder() -> None:
    """Also when called twice."""
    server = MongoServer.start(binary=require_binaries(["mongowire"])["mongowire"])
    pid = server.pid
    assert pid is not None
    server.stop()
    server.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not server.directory.exists()


def test_a_store_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    """With the end of its log, at once."""
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'cannot map memory'; exit 7\n")
    broken.chmod(0o755)
    started = time.monotonic()
    with pytest.raises(ServerError, match=r"(?s)redis-server ended with exit code 7 .*cannot map memory"):
        RedisServer.start(binary=broken)
    assert time.monotonic() - started < 8, "it waited for a server that had ended"
