"""Datastore health end to end: real API server, real Redis, a real MongoDB wire server, and what `kubectl get gwc` says."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from hack.stores import MongoServer, RedisServer
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.conftest import require_binaries
from tests.eventually import eventually
from tests.operators import InProcess

pytestmark = pytest.mark.apiserver

PROBES = {"periodSeconds": 2, "timeoutSeconds": 1, "failureThreshold": 3}
BOUND_SECONDS = 2 + 1 * 3 + 1.5
"""One period and the threshold of time limits; the rest is for the round and the write."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis with a password, of this test alone."""
    with RedisServer.start(password="first", binary=require_binaries(["redis-server"])["redis-server"]) as started:
        yield started


@pytest.fixture
def probing(start_operator: StartOperator) -> InProcess:
    """An operator that may connect to this machine."""
    return start_operator(allow_addresses=(ip_network("127.0.0.0/8"),))


def gateway(redis: RedisServer, mongo: MongoServer | None = None) -> dict[str, Any]:
    """Return a GatewayConfig with these stores."""
    password = {"name": "redis", "key": "password"}
    storage: dict[str, Any] = {"redis": {"host": redis.host, "port": redis.port, "passwordSecretRef": password}}
    if mongo is not None:
        storage["mongodb"] = {"host": "localhost", "port": mongo.port}
    return gateway_config(storage=storage, probes=PROBES)


def store(world: World, name: str, state: str, reason: str | None = None) -> dict[str, Any]:
    """Return what status says of a store; an AssertionError unless it is so."""
    stores = {one["name"]: one for one in (world.get("GatewayConfig", "main").get("status") or {}).get("datastores") or []}
    assert name in stores, stores
    assert stores[name]["state"] == state, stores[name]
    assert reason in (None, stores[name]["reason"]), stores[name]
    return dict(stores[name])


@pytest.mark.usefixtures("probing")
def test_a_store_that_goes_and_comes_back_is_told_in_time(world: World, redis: RedisServer, mongo_server: MongoServer) -> None:
    """Up; stopped (silent), killed (refused), back: state, reason, since; Ready and the other store never move."""
    world.create(secret("redis", password="first"), gateway(redis, mongo_server))
    world.wait_condition("GatewayConfig", "main", "DatastoresReady", "True", "Up")
    first = store(world, "redis", "Up")
    untouched = store(world, "mongodb", "Up")
    redis.pause()
    eventually(lambda: store(world, "redis", "Down", "Timeout"), within_seconds=BOUND_SECONDS)
    redis.resume()
    eventually(lambda: store(world, "redis", "Up"), within_seconds=2 + 1.5)
    redis.kill()
    down = eventually(lambda: store(world, "redis", "Down", "Refused"), within_seconds=BOUND_SECONDS)
    assert down["since"] > first["since"]
    condition = world.condition("GatewayConfig", "main", "DatastoresReady")
    assert (condition["status"], condition["reason"]) == ("False", "Down")
    assert f"redis is Down: Redis at 127.0.0.1:{redis.port} refuses connections." in condition["message"]
    world.wait_condition("GatewayConfig", "main", "Ready", "True")
    redis.restart()
    eventually(lambda: store(world, "redis", "Up"), within_seconds=3 * 2 + 1.5)  # twice lost: two good ones in a row
    assert store(world, "mongodb", "Up") == untouched
    columns = world.plane.kubectl("get", "gwc", "main", "-n", world.namespace).stdout
    assert "DATASTORES" in columns.upper()


@pytest.mark.usefixtures("probing")
def test_a_password_rotated_in_the_secret_is_used_at_once(world: World, redis: RedisServer) -> None:
    """A missing Secret, a wrong password, the right one: denied, denied, up, each as soon as the Secret changes."""
    world.create(gateway(redis))
    denied = eventually(lambda: store(world, "redis", "Denied", "CredentialsMissing"), within_seconds=BOUND_SECONDS)
    assert "Secret 'redis' does not exist" in denied["message"]
    world.create(secret("redis", password="wrong"))
    denied = eventually(lambda: store(world, "redis", "Denied", "AuthenticationFailed"), within_seconds=BOUND_SECONDS)
    assert "wrong" not in str(world.get("GatewayConfig", "main")["status"])
    world.patch("Secret", "redis", {"stringData": {"password": "first"}})
    eventually(lambda: store(world, "redis", "Up"), within_seconds=1.5)


def test_idle_and_restart_cost_no_write(
    world: World, redis: RedisServer, probing: InProcess, start_operator: StartOperator
) -> None:
    """Ten periods with a store that is down and one restart of the operator: nothing is written."""
    mongodb = {"host": "127.0.0.1", "port": 1}
    manifest = gateway(redis)
    manifest["spec"]["storage"]["mongodb"] = mongodb
    manifest["spec"]["probes"] = {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}
    world.create(secret("redis", password="first"), manifest)
    eventually(lambda: store(world, "mongodb", "Down", "Refused"), within_seconds=BOUND_SECONDS)
    eventually(lambda: store(world, "redis", "Up"), within_seconds=BOUND_SECONDS)
    eventually(probing.assert_idle, within_seconds=20)
    mark = world.plane.audit_mark()
    checks = _checks(probing)
    eventually(lambda: _has_checked(probing, checks + 20), within_seconds=30)
    assert world.writes_since(mark) == []
    probing.stop()
    again = start_operator(allow_addresses=(ip_network("127.0.0.0/8"),))
    eventually(lambda: _has_checked(again, 10), within_seconds=30)
    eventually(again.assert_idle, within_seconds=20)
    assert [record.resource for record in world.writes_since(mark)] == []
    store(world, "mongodb", "Down", "Refused")


def _checks(operator: InProcess) -> int:
    return int(operator.call(lambda it: sum(it.prober.checks.values())))


def _has_checked(operator: InProcess, count: int) -> None:
    assert _checks(operator) >= count


@pytest.mark.usefixtures("probing")
def test_backends_of_a_model_that_asks_are_told_of_and_never_in_the_way(world: World, redis: RedisServer) -> None:
    """The model is Ready and rendered while its backend refuses; the condition follows the backend."""
    port = redis.port
    world.create(secret(), gateway_config(probes=PROBES))
    redis.kill()
    world.create(virtual_model(baseUrl=f"http://127.0.0.1:{port}/v1", probe={"enabled": True}))
    world.wait_ready("chat")
    world.wait_condition("VirtualModel", "chat", "BackendsReachable", "False", "Refused", within_seconds=BOUND_SECONDS)
    world.wait_models({"chat"})
    redis.restart()
    world.wait_condition("VirtualModel", "chat", "BackendsReachable", "True", "Reachable", within_seconds=20)


def test_nothing_is_probed_any_more_once_the_gateway_is_gone(world: World, redis: RedisServer, probing: InProcess) -> None:
    """A store that is switched off is dropped, and so is everything of a deleted GatewayConfig."""
    world.create(secret("redis", password="first"), gateway(redis))
    eventually(lambda: store(world, "redis", "Up"), within_seconds=BOUND_SECONDS)
    assert probing.call(lambda it: it.prober.targets) == 1
    world.patch_spec("GatewayConfig", "main", storage={"redis": {"enabled": False}})
    eventually(lambda: _targets(probing, 0), within_seconds=20)
    world.wait_condition("GatewayConfig", "main", "DatastoresReady", "True", "Up")
    assert "datastores" not in world.get("GatewayConfig", "main")["status"]
    world.patch_spec("GatewayConfig", "main", storage={"redis": {"enabled": True}})
    eventually(lambda: _targets(probing, 1), within_seconds=20)
    world.delete("GatewayConfig", "main")
    eventually(lambda: _targets(probing, 0), within_seconds=20)


def _targets(operator: InProcess, count: int) -> None:
    assert operator.call(lambda it: it.prober.targets) == count
