"""The Redis mirror on the real API server with the operator's own rights: edits reach a pod, status tells, nothing leaks."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from aigateway_config import ConfigReader
from aigateway_config.mirror import document_key, is_signed
from aigateway_config.redis_mirror import RedisMirror
from aigateway_config.source import MemoryReading, Offer
from aigateway_operator.rollout import mirror_health, mirror_writer
from hack.stores import RedisServer
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.conftest import require_binaries
from tests.eventually import eventually, eventually_async
from tests.mirror.pair import as_bytes, client
from tests.operators import InProcess

pytestmark = pytest.mark.apiserver
LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def store() -> Iterator[RedisServer]:
    """A Redis with a password."""
    with RedisServer.start(password="canary-redis", binary=require_binaries(["redis-server"])["redis-server"]) as started:
        yield started


@pytest.fixture
def operator(start_operator: StartOperator) -> InProcess:
    """An operator that may connect to loopback, where Redis is."""
    return start_operator(allow_addresses=LOOPBACK)


def furnish(world: World, store: RedisServer) -> None:
    """Create a mirrored gateway with one model."""
    redis = {"host": store.host, "port": store.port, "passwordSecretRef": {"name": "redis", "key": "password"}}
    gateway = gateway_config(storage={"redis": redis}, delivery={"redisNotify": True})
    world.create(secret(), secret("redis", password="canary-redis"), gateway, virtual_model())


def mounted(world: World) -> MemoryReading:
    """Return what a pod's volumes hold."""
    files = {name: text.encode() for name, text in world.data("main-config").items()}
    values = world.get("Secret", "main-credentials")["data"]
    return MemoryReading(files, MemoryReading({name: base64.b64decode(text) for name, text in values.items()}))


class Volume:
    """A source that offers one reading and nothing after it."""

    name = "volume"

    def __init__(self, reading: MemoryReading) -> None:
        self.ignored: dict[str, int] = {}
        self._reading: MemoryReading | None = reading

    async def run(self, offer: Offer) -> None:
        if self._reading is not None:
            await offer(self._reading)
        await asyncio.Event().wait()


async def test_an_edit_reaches_a_pod_by_redis_and_the_key_is_in_the_secret_alone(
    world: World, operator: InProcess, store: RedisServer
) -> None:
    """The pod's volume never moves; what arrives is signed by the key that only the credentials hold."""
    furnish(world, store)
    world.wait_condition("GatewayConfig", "main", "Programmed", "True", "Programmed")
    gateway = f"{world.namespace}/main"
    source = RedisMirror()
    async with ConfigReader([Volume(mounted(world)), source]) as reader, client(store) as redis:
        before = await reader.wait_ready(10)

        async def connected() -> None:
            assert source.connected

        await eventually_async(connected, within_seconds=30)
        began = time.monotonic()
        world.patch_spec("VirtualModel", "chat", current="big")

        async def swapped() -> None:
            assert reader.current is not None
            assert reader.current.models["chat"].current == "big", dict(source.ignored)

        await eventually_async(swapped, within_seconds=20, every_seconds=0.002)
        assert time.monotonic() - began < 2
        assert reader.current is not None
        assert reader.current.revision == before.revision + 1
        found = await redis.hgetall(document_key(gateway, "config.yml"))
        fields = {as_bytes(name).decode(): as_bytes(value) for name, value in found.items()}
        key = base64.b64decode(world.get("Secret", "main-credentials")["data"]["_mirror.key"])
        assert is_signed(fields["manifest"], fields["signature"], key)
        for needle in (key, b"canary-redis", b"caller-key", b"backend-key"):
            assert not any(needle in value for value in fields.values())
            assert needle.decode() not in str(world.data("main-config"))


def test_redis_away_is_said_in_status_and_holds_nothing_up(
    world: World, operator: InProcess, store: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edits go on as without it, and Ready never moves. The waits of seconds are shortened; `mirror_health` tests them."""
    monkeypatch.setattr(mirror_writer, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(mirror_health, "SHOW_AFTER_SECONDS", 0.5)
    monkeypatch.setattr(mirror_health, "CLEAR_AFTER_SECONDS", 0.5)
    furnish(world, store)
    world.wait_condition("GatewayConfig", "main", "Programmed", "True", "Programmed")
    store.kill()

    def told() -> None:
        assert "Redis mirror: Redis at 127.0.0.1" in message(world)

    eventually(told, within_seconds=40, every_seconds=0.2)
    assert "canary" not in str(world.get("GatewayConfig", "main")["status"])
    began = time.monotonic()
    world.patch_spec("VirtualModel", "chat", current="big")

    def served() -> None:
        assert '"current":"big"' in world.data("main-config")["config.yml"]

    eventually(served, within_seconds=20, every_seconds=0.01)
    assert time.monotonic() - began < 2
    world.wait_condition("GatewayConfig", "main", "Ready", "True", "Ready")
    store.restart()

    def over() -> None:
        assert "Redis" not in message(world)

    eventually(over, within_seconds=20, every_seconds=0.1)


def message(world: World) -> str:
    """Return what Propagated says."""
    conditions = world.get("GatewayConfig", "main")["status"]["conditions"]
    return str(next(one["message"] for one in conditions if one["type"] == "Propagated"))
