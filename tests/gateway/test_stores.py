"""The gateway's datastores: real Redis and MongoDB wire servers, and an HTTP stand-in for Qdrant (no binary of it here).

Whatever a store does, requests go on; health tells.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from pydantic import SecretStr

from aigateway_config import documents
from aigateway_config.configuration import Configuration
from hack.process import free_ports
from hack.stores import MongoServer, RedisServer
from tests.conftest import require_binaries
from tests.eventually import eventually
from tests.gateway_runs import RunningGateway, make_backend, make_configuration, make_model
from tests.stub_upstream import StubUpstream

QUICK = {"store_check_seconds": 0.2, "store_timeout_seconds": 0.5}


def redis_at(port: int, password_ref: str | None = None) -> documents.Redis:
    """A Redis on this machine."""
    return documents.Redis(host="127.0.0.1", port=port, password_ref=password_ref, tls=None)


def mongodb_at(port: int) -> documents.MongoDB:
    """A MongoDB on this machine."""
    return documents.MongoDB(
        host="127.0.0.1", port=port, username=None, password_ref=None, database="gw", auth_source="admin", tls=None
    )


def qdrant_at(port: int) -> documents.Qdrant:
    """A Qdrant on this machine, with a key."""
    return documents.Qdrant(host="127.0.0.1", port=port, collection="kb", api_key_ref="q.key", tls=None)


def with_stores(upstream: str, revision: int = 1, secrets: dict[str, str] | None = None, **stores: Any) -> Configuration:
    """Return a configuration with one model and the given stores."""
    given = {"mongodb": None, "redis": None, "qdrant": None} | stores
    known = {name: SecretStr(value) for name, value in (secrets or {}).items()}
    model = make_model("chat", make_backend(upstream))
    return make_configuration(model, revision=revision, storage=documents.Storage(**given), secrets=known)


def expect(gateway: RunningGateway, within_seconds: float = 10, **services: str) -> None:
    """Wait until health says so of these stores; requests and readiness are fine all the while."""

    def check() -> None:
        body = httpx.get(f"{gateway.url}/api/v1/health").json()
        assert services.items() <= body["services"].items()
        assert body["status"] == ("degraded" if "unhealthy" in body["services"].values() else "healthy")
        assert httpx.get(f"{gateway.url}/api/v1/health/ready").status_code == 200
        asked = {"model": "chat", "messages": []}
        got = httpx.post(f"{gateway.url}/v1/chat/completions", headers={"Authorization": "Bearer key-chat"}, json=asked)
        assert got.status_code == 200

    eventually(check, within_seconds=within_seconds)


def up_series(gateway: RunningGateway) -> list[str]:
    """Return what metrics say of stores."""
    text = generate_latest(gateway.gateway.metrics.registry).decode()
    return [line for line in text.splitlines() if line.startswith("aigateway_gateway_store_up")]


def message(gateway: RunningGateway, store: str) -> str:
    """Return what health says of one store."""
    got = httpx.get(f"{gateway.url}/api/v1/health/{store}")
    assert got.status_code == 200
    return str(got.json()["message"])


class FakeQdrant(BaseHTTPRequestHandler):
    """As much of Qdrant's API as a collection needs."""

    protocol_version = "HTTP/1.1"
    collections: list[str]
    key = "q-key"

    def _answer(self, status: int, result: Any) -> None:
        body = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.headers.get("api-key") != self.key:
            self._answer(403, None)
        else:
            self._answer(200, {"exists": self.path.split("/")[2] in self.collections})

    def do_PUT(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert sent["vectors"] == {"size": 1536, "distance": "Cosine"}
        self.collections.append(self.path.split("/")[2].partition("?")[0])
        self._answer(200, True)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def fake_qdrant() -> Iterator[tuple[int, list[str]]]:
    """Serve a Qdrant without collections; yields its port and the collections."""
    collections: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (FakeQdrant,), {"collections": collections}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], collections
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def blackhole() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class SlowRelay:
    """Passes bytes on to a port of this machine, each of its answers after `delay_seconds`."""

    def __init__(self, target: int) -> None:
        self.delay_seconds = 0.0
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._server.accept()
                inner = socket.create_connection(("127.0.0.1", self._target))
                for source, sink, slow in ((caller, inner, False), (inner, caller, True)):
                    threading.Thread(target=self._pass_on, args=(source, sink, slow), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        with suppress(OSError), source:
            while data := source.recv(65536):
                if slow:
                    time.sleep(self.delay_seconds)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@contextmanager
def slow_relay(target: int) -> Iterator[SlowRelay]:
    """Relay to a port."""
    relay = SlowRelay(target)
    try:
        yield relay
    finally:
        relay.close()


def slowest_ms(gateway: RunningGateway) -> float:
    """Return how long the slowest of 20 requests took, but for two that the machine may have been busy elsewhere for."""
    taken = []
    with httpx.Client(headers={"Authorization": "Bearer key-chat"}) as client:
        for _ in range(20):
            began = time.perf_counter()
            asked = {"model": "chat", "messages": []}
            assert client.post(f"{gateway.url}/v1/chat/completions", json=asked).status_code == 200
            taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)[-3]


def test_redis_and_mongodb_are_healthy_and_collections_made(
    stub: StubUpstream, redis_server: RedisServer, mongo_server: MongoServer
) -> None:
    """Both answer; the collections of logs are there afterwards; a store that is not named is disabled."""
    import pymongo

    configuration = with_stores(stub.base_url, redis=redis_at(redis_server.port), mongodb=mongodb_at(mongo_server.port))
    with RunningGateway(configuration, store_check_seconds=0.2) as gateway:
        expect(gateway, redis="healthy", mongodb="healthy", qdrant="disabled")
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient("127.0.0.1", mongo_server.port)
    with client:
        assert {"system_logs", "operation_logs"} <= set(client["gw"].list_collection_names())
        assert any("trace_id" in str(index) for index in client["gw"]["operation_logs"].list_indexes())
        client.drop_database("gw")


def test_collections_that_were_left_half_made_are_completed(stub: StubUpstream, own_mongodb: MongoServer) -> None:
    """A pod that ended while it made indexes leaves some out, and an administrator may have made one differently."""
    import pymongo

    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient("127.0.0.1", own_mongodb.port)
    with client:
        client["gw"].create_collection("system_logs")
        client["gw"]["operation_logs"].create_index([("level", 1)], name="level")
        with RunningGateway(
            with_stores(stub.base_url, mongodb=mongodb_at(own_mongodb.port)), store_check_seconds=0.2
        ) as gateway:
            expect(gateway, mongodb="healthy")
        made = {name: set(client["gw"][name].index_information()) for name in ("system_logs", "operation_logs")}
    assert made["system_logs"] == {"_id_", "level", "source", "trace_id"}
    assert made["operation_logs"] == {"_id_", "level", "source", "trace_id", "operation", "resource_id", "user_id"}


def test_a_store_that_is_away_or_hangs_degrades_health_and_nothing_else(stub: StubUpstream) -> None:
    """Refused, silent, and a name that does not exist: unhealthy within the time-out, with a reason and no secret."""
    closed = free_ports(1)[0]
    with blackhole() as silent:
        secrets = {"r.p": "redis-password", "q.key": "q-key"}
        nowhere = mongodb_at(27017).model_copy(update={"host": "no-such-name.invalid"})
        stores: dict[str, Any] = {"redis": redis_at(closed, "r.p"), "qdrant": qdrant_at(silent), "mongodb": nowhere}
        with RunningGateway(with_stores(stub.base_url, secrets=secrets, **stores), **QUICK) as gateway:
            expect(gateway, redis="unhealthy", qdrant="unhealthy", mongodb="unhealthy")
            assert message(gateway, "redis") == "It does not answer as it should: ConnectionError."
            assert message(gateway, "qdrant") == "No answer within 0.5 seconds."
            assert "redis-password" not in httpx.get(f"{gateway.url}/api/v1/health/redis").text


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of this test alone, with a password."""
    with RedisServer.start(password="redis-password", binary=require_binaries(["redis-server"])["redis-server"]) as started:
        yield started


@pytest.fixture
def own_mongodb() -> Iterator[MongoServer]:
    """A MongoDB wire server of this test alone."""
    with MongoServer.start(binary=require_binaries(["mongowire"])["mongowire"]) as started:
        yield started


def test_stores_that_are_stopped_or_frozen_are_told_of_and_come_back_by_themselves(
    stub: StubUpstream, own_redis: RedisServer, own_mongodb: MongoServer
) -> None:
    """Killed and started again, then frozen and thawed: requests are answered all the while, as quickly as ever."""
    stores: dict[str, Any] = {"redis": redis_at(own_redis.port, "r.p"), "mongodb": mongodb_at(own_mongodb.port)}
    configuration = with_stores(stub.base_url, secrets={"r.p": "redis-password"}, **stores)
    with RunningGateway(configuration, **QUICK) as gateway:
        expect(gateway, redis="healthy", mongodb="healthy")
        for store in (own_redis, own_mongodb):
            store.kill()
        expect(gateway, redis="unhealthy", mongodb="unhealthy")
        assert slowest_ms(gateway) < 250
        for store in (own_redis, own_mongodb):
            store.restart()
        expect(gateway, redis="healthy", mongodb="healthy")
        for store in (own_redis, own_mongodb):
            store.pause()
        expect(gateway, redis="unhealthy", mongodb="unhealthy")
        assert slowest_ms(gateway) < 250
        for store in (own_redis, own_mongodb):
            store.resume()
        expect(gateway, redis="healthy", mongodb="healthy")


def test_a_slow_store_is_healthy_as_long_as_it_is_in_time_and_slows_nobody_down(
    stub: StubUpstream, own_redis: RedisServer
) -> None:
    """Each answer takes a while; within the time-out that is fine, beyond it the message says how long was waited."""
    with slow_relay(own_redis.port) as relay:
        stores: dict[str, Any] = {"redis": redis_at(relay.port, "r.p")}
        configuration = with_stores(stub.base_url, secrets={"r.p": "redis-password"}, **stores)
        with RunningGateway(configuration, store_check_seconds=0.2, store_timeout_seconds=1) as gateway:
            relay.delay_seconds = 0.1
            expect(gateway, redis="healthy")
            relay.delay_seconds = 3.0
            expect(gateway, redis="unhealthy")
            assert message(gateway, "redis") == "No answer within 1 seconds."
            assert slowest_ms(gateway) < 250
            relay.delay_seconds = 0.0
            expect(gateway, redis="healthy")


def test_a_wrong_redis_password_degrades_health_until_the_secret_is_right(stub: StubUpstream, own_redis: RedisServer) -> None:
    """Requests go on, the message names what is wrong, and neither password is in it."""
    stores: dict[str, Any] = {"redis": redis_at(own_redis.port, "r.p")}
    with RunningGateway(with_stores(stub.base_url, secrets={"r.p": "wrong-password"}, **stores), **QUICK) as gateway:
        expect(gateway, redis="unhealthy")
        said = message(gateway, "redis")
        assert "password" in said
        assert not [word for word in ("wrong-password", "redis-password", "127.0.0.1") if word in said]
        gateway.configure(with_stores(stub.base_url, 2, secrets={"r.p": "redis-password"}, **stores))
        expect(gateway, redis="healthy")


def test_a_wrong_mongodb_password_degrades_health(stub: StubUpstream, own_mongodb: MongoServer) -> None:
    """A user that the server does not know is refused; requests go on, and the message holds no password."""
    settings = mongodb_at(own_mongodb.port).model_copy(update={"username": "gateway", "password_ref": "m.p"})
    configuration = with_stores(stub.base_url, secrets={"m.p": "mongo-password"}, mongodb=settings)
    with RunningGateway(configuration, **QUICK) as gateway:
        expect(gateway, mongodb="unhealthy")
        said = message(gateway, "mongodb")
        assert "password" in said
        assert "mongo-password" not in said
        gateway.configure(with_stores(stub.base_url, 2, mongodb=mongodb_at(own_mongodb.port)))
        expect(gateway, mongodb="healthy")


def test_a_store_of_a_new_configuration_is_taken_up(stub: StubUpstream, redis_server: RedisServer) -> None:
    """`storage` changes: the old client goes, the new one is asked; a store that is named no more is disabled."""
    with blackhole() as silent, RunningGateway(with_stores(stub.base_url, redis=redis_at(silent)), **QUICK) as gateway:
        expect(gateway, redis="unhealthy")
        gateway.configure(with_stores(stub.base_url, 2, redis=redis_at(redis_server.port)))
        expect(gateway, redis="healthy")
        assert up_series(gateway) == ['aigateway_gateway_store_up{store="redis"} 1.0']
        gateway.configure(with_stores(stub.base_url, 3))
        expect(gateway, redis="disabled")
        assert up_series(gateway) == [], "an alert on a store that is down must not go on for one that is no more"


def test_a_wrong_password_is_unhealthy_until_the_secret_is_right(stub: StubUpstream) -> None:
    """A rotated Secret makes a new client; the stand-in for Qdrant gets the collection that was absent, once."""
    with fake_qdrant() as (port, collections):
        stores: dict[str, Any] = {"qdrant": qdrant_at(port)}
        wrong = with_stores(stub.base_url, secrets={"q.key": "wrong"}, **stores)
        with RunningGateway(wrong, store_check_seconds=0.2, store_timeout_seconds=5) as gateway:
            expect(gateway, qdrant="unhealthy", within_seconds=20)
            gateway.configure(with_stores(stub.base_url, 2, secrets={"q.key": "q-key\n"}, **stores))
            expect(gateway, qdrant="healthy")
            expect(gateway, qdrant="healthy")
        assert collections == ["kb"]


def test_a_forbidden_address_is_never_connected_to(stub: StubUpstream) -> None:
    """The metadata service as a datastore: refused before a packet is sent."""
    forbidden = redis_at(80).model_copy(update={"host": "169.254.169.254"})
    with RunningGateway(with_stores(stub.base_url, redis=forbidden), **QUICK) as gateway:
        expect(gateway, redis="unhealthy")
        assert message(gateway, "redis").startswith("It is not connected to: the address is a cloud metadata service")


@pytest.mark.parametrize("store", ["nothing", "mongodb/x"])
def test_unknown_stores_are_404(gateway: RunningGateway, store: str) -> None:
    """Only the three stores have a health."""
    assert httpx.get(f"{gateway.url}/api/v1/health/{store}").json()["error_code"] == "not_found"
