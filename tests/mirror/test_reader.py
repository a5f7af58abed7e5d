"""A pod's end: what is not signed, not ours or not newer is ignored and counted; Redis may vanish, freeze, move or lie."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from random import Random

import pytest
from redis.asyncio import Redis

from aigateway_config import ConfigReader
from aigateway_config.mirror import CHANNEL, Invalidation, document_key, sign
from aigateway_config.redis_mirror import RedisMirror
from aigateway_config.verification import LIMIT_BYTES
from aigateway_operator.plan.outcome import WrittenDocument
from hack.stores import RedisServer
from tests.builders import make_secret_state, make_uid
from tests.eventually import eventually_async
from tests.mirror.pair import (
    KEY,
    LOOPBACK,
    Gateway,
    StandInVolume,
    altered,
    client,
    document_of,
    make_mirror_key,
    mirrored,
    mirroring,
    reading,
)
from tests.mirror.relay import Relay

FILE = "config.yml"
NOTHING: Mapping[str, str] = {}


async def put(redis: Redis, fields: Mapping[str, str | bytes], revision: int, message: Mapping[str, str] = NOTHING) -> None:
    """Put a document into Redis as anybody could who has its password, and tell of it; `message`: what is told otherwise."""
    key = document_key(str(KEY), FILE)
    told = {**Invalidation(key=key, gateway=str(KEY), document=FILE, revision=revision).model_dump(), **message}
    async with redis.pipeline(transaction=True) as pipe:
        pipe.delete(key)
        pipe.hset(key, items=[part for item in fields.items() for part in item])
        pipe.publish(CHANNEL, json.dumps(told))
        await pipe.execute()


def signed(document: WrittenDocument, manifest: bytes | None = None, key: bytes | None = None) -> dict[str, str | bytes]:
    """Return the hash of a document with this manifest, signed by this key."""
    text = document.manifest if manifest is None else manifest
    return {"document": document.content, "manifest": text, "signature": sign(text, key or make_mirror_key())}


@pytest.mark.parametrize(
    ("reason", "forge"),
    [
        ("BadSignature", lambda d: signed(d, key=make_mirror_key("b"))),
        ("BadSignature", lambda d: {**signed(d), "manifest": altered(d, revision=9)}),
        ("BadSignature", lambda d: {**signed(d), "signature": sha256(d.manifest).hexdigest()}),
        ("BadSignature", lambda d: {**signed(d), "signature": signed(d)["signature"][:63]}),
        ("Unsigned", lambda d: {name: value for name, value in signed(d).items() if name != "signature"}),
        ("Unsigned", lambda d: {**signed(d), "signature": ""}),
        ("DigestMismatch", lambda d: {**signed(d), "document": d.content.replace(b"gpt-4o", b"gpt-5x")}),
        ("DigestMismatch", lambda d: {name: value for name, value in signed(d).items() if name != "document"}),
        ("OtherLineage", lambda d: signed(d, altered(d, lineage=make_uid("another life")))),
        ("OtherGateway", lambda d: signed(d, altered(d, gateway="ai/other"))),
        ("OtherDocument", lambda d: signed(d, altered(d, shard=3))),
        ("Malformed", lambda d: signed(d, b"no manifest")),
        ("TooLarge", lambda d: {**signed(d), "document": b"x" * (LIMIT_BYTES + 1)}),
    ],
)  # fmt: skip
async def test_a_forged_document_is_ignored_and_counted(
    redis_server: RedisServer, redis: Redis, reason: str, forge: object
) -> None:
    """It never comes into force, is no error of the pod, and the next honest one is taken."""
    gateway = Gateway(redis_server)
    gateway.target()
    async with reading(gateway) as pod:
        await pod.connected()
        honest = document_of(gateway.flip("big"))
        await put(redis, forge(honest), revision=2)  # type: ignore[operator]
        await pod.ignored(reason)
        assert pod.revision == 1
        assert pod.reader.error is None
        assert pod.reader.counters.ignored[f"redis:{reason}"] == 1
        await put(redis, signed(honest), revision=2)
        await pod.runs(2)


async def test_forgeries_that_lie_there_from_before_are_ignored_too(redis_server: RedisServer, redis: Redis) -> None:
    """Catching up judges as listening does."""
    gateway = Gateway(redis_server)
    gateway.target()
    ahead = Gateway(redis_server)
    ahead.target()
    forged = document_of(ahead.flip("big"))
    await put(redis, signed(forged, key=make_mirror_key("b")), revision=2)
    async with reading(gateway) as pod:
        await pod.connected()
        assert dict(pod.mirror.ignored) == {"BadSignature": 1}
        assert pod.revision == 1


async def test_an_older_signed_document_is_not_brought_back(redis_server: RedisServer, redis: Redis) -> None:
    """A replay is properly signed; its revision gives it away, whatever the message claims."""
    gateway = Gateway(redis_server)
    first = document_of(gateway.target())
    second = document_of(gateway.flip("big"))
    third = document_of(gateway.flip("small"))
    async with reading(gateway) as pod:
        await pod.connected()
        assert pod.revision == 3
        await put(redis, signed(second), revision=2)
        await pod.ignored("Stale", 1)
        await put(redis, signed(first), revision=99)
        await pod.ignored("Stale", 2)
        await put(redis, signed(third), revision=3)
        later = document_of(gateway.flip("big"))
        await put(redis, signed(later), revision=4)
        await pod.runs(4)
        assert [configuration.revision for _, configuration in pod.seen] == sorted(
            configuration.revision for _, configuration in pod.seen
        )


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Malformed", {"type": "cache"}),
        ("Malformed", {"revision": "two"}),
        ("OtherGateway", {"gateway": "ai/other"}),
        ("OtherDocument", {"document": "models-07.yml"}),
        ("OtherDocument", {"key": "aigateway:ai:main:../config.yml"}),
        ("OtherDocument", {"document": "x" * 2000}),
    ],
)
async def test_messages_of_others_on_the_channel_are_ignored(
    redis_server: RedisServer, redis: Redis, reason: str, message: dict[str, str]
) -> None:
    """Gateways share a Redis, and anybody can publish."""
    gateway = Gateway(redis_server)
    gateway.target()
    async with reading(gateway) as pod:
        await pod.connected()
        later = document_of(gateway.flip("big"))
        await put(redis, signed(later), 2, message)
        await pod.ignored(reason)
        assert pod.revision == 1
        for noise in ("", "null", "[]", "\x00", "{" * 5000):
            await redis.publish(CHANNEL, noise)
        await put(redis, signed(later), revision=2)
        await pod.runs(2)


@pytest.mark.parametrize("fault", ["kill", "pause", "clients"])
async def test_a_pod_survives_the_loss_of_redis_and_catches_up(own_server: RedisServer, fault: str) -> None:
    """Killed, frozen, or with its connections cut: the volume serves meanwhile, and what was missed is read afterwards."""
    gateway = Gateway(own_server)
    target = gateway.target()
    async with mirroring() as operator, reading(gateway) as pod:
        operator.mirrors.set_target(KEY, target)
        await pod.connected()
        if fault == "clients":
            async with client(own_server) as redis:
                await redis.client_kill_filter(_type="pubsub")
        else:
            getattr(own_server, fault)()

            async def noticed() -> None:
                assert not pod.mirror.connected

            await eventually_async(noticed, within_seconds=20)
            gateway.flip("big")
            pod.volume.show(gateway)
            await pod.runs(2, within_seconds=20)
            own_server.resume() if fault == "pause" else own_server.restart()
        target = gateway.flip("small")
        operator.mirrors.set_target(KEY, target)
        await pod.runs(document_of(target).revision, within_seconds=20)


async def test_a_subscription_that_died_in_silence_is_noticed(redis_server: RedisServer, redis: Redis) -> None:
    """A path that swallows everything, as after a lost NAT entry: no error ever comes, only our own ping tells."""
    async with Relay.to(redis_server) as relay:
        gateway = Gateway(redis_server, port=relay.port)
        gateway.target()
        async with reading(gateway, ping_seconds=0.3) as pod:
            await pod.connected()
            relay.swallow()
            await put(redis, signed(document_of(gateway.flip("big"))), revision=2)
            await pod.runs(2, within_seconds=20)
            assert len(relay.connections) > relay.swallowed, "it must have connected anew"


async def test_a_pod_ends_whenever_it_is_told_to(redis_server: RedisServer, redis: Redis) -> None:
    """At any moment of a subscription or a catching up: closing a reader must not wait for ever."""
    gateway = Gateway(redis_server)
    gateway.target()
    random = Random(7)
    for _ in range(100):
        async with asyncio.timeout(3), reading(gateway, ping_seconds=0.01):
            await asyncio.sleep(random.random() * 0.02)  # not to wait for something: any moment will do


async def test_another_key_of_the_credentials_is_used_at_once(redis_server: RedisServer, redis: Redis) -> None:
    """After a rotation what the old key signed is forged, and what the new one signed is read, without an event from Redis."""
    gateway = Gateway(redis_server)
    gateway.target()
    async with reading(gateway) as pod:
        await pod.connected()
        gateway.mirror_key = make_mirror_key("c")
        rotated = gateway.round()
        assert [write.name for write in rotated.writes] == ["main-credentials"]
        files = gateway.files()
        ahead = document_of(gateway.flip("big"))
        await put(redis, signed(ahead, key=make_mirror_key("c")), revision=2)
        await pod.ignored("BadSignature")
        pod.volume.show(gateway, files)
        await pod.runs(2)
        later = document_of(gateway.flip("small"))
        await put(redis, signed(later), revision=3)
        await pod.ignored("BadSignature", 2)
        await put(redis, signed(later, key=make_mirror_key("c")), revision=3)
        await pod.runs(3)


async def test_a_rotated_password_of_redis_is_followed(own_server: RedisServer) -> None:
    """The mount brings the new one; until then the volume serves."""
    gateway = Gateway(own_server)
    gateway.target()
    async with reading(gateway) as pod, client(own_server) as redis:
        await pod.connected()
        await redis.config_set("requirepass", "second")
        await redis.client_kill_filter(_type="pubsub")

        async def refused() -> None:
            assert not pod.mirror.connected

        await eventually_async(refused, within_seconds=20)
        gateway.secrets["redis"] = make_secret_state(password="second")
        gateway.target()
        pod.volume.show(gateway)
        await pod.connected(within_seconds=20)
        await put(redis, signed(document_of(gateway.flip("big"))), revision=2)
        await pod.runs(2)


async def test_without_a_key_or_a_redis_the_source_rests(redis_server: RedisServer, redis: Redis) -> None:
    """redisNotify off: no connection is made; switched on, it works without a restart of the pod."""
    gateway = Gateway(redis_server)
    gateway.notify(on=False)
    assert gateway.round().mirror is None
    async with reading(gateway) as pod, mirroring() as operator:
        assert len(await redis.client_list()) == 1
        gateway.notify()
        target = gateway.target()
        operator.mirrors.set_target(KEY, target)
        await mirrored(redis, target)
        pod.volume.show(gateway)
        await pod.connected()
        operator.mirrors.set_target(KEY, gateway.flip("big"))
        await pod.runs(2)


async def test_another_life_of_the_gateway_is_taken_only_when_the_volume_says_so(
    redis_server: RedisServer, redis: Redis
) -> None:
    """Deleted and made again: Redis has the new lineage first, the pod waits for the mount, then both agree."""
    gateway = Gateway(redis_server)
    gateway.target()
    reborn = Gateway(redis_server)
    assert reborn.gateway is not None
    reborn.gateway = replace(reborn.gateway, uid=make_uid("second life"))
    target = reborn.target()
    async with reading(gateway) as pod:
        await pod.connected()
        await put(redis, signed(document_of(target)), revision=9)
        await pod.ignored("OtherLineage")
        assert pod.reader.current is not None
        lineage = pod.reader.current.lineage
        pod.volume.show(reborn)

        async def second_life() -> None:
            assert pod.reader.current is not None
            assert pod.reader.current.lineage == make_uid("second life") != lineage

        await eventually_async(second_life, within_seconds=20)
        await pod.connected()
        await put(redis, signed(document_of(reborn.flip("big"))), revision=2)
        await pod.runs(2)


async def test_a_redis_at_an_address_that_rules_refuse_is_never_connected_to(own_server: RedisServer) -> None:
    """A pod that checks addresses: loopback is not allowed here, so the volume serves alone; allowed, it is subscribed."""
    gateway = Gateway(own_server)
    gateway.target()
    for allowed, connected in (((), False), (LOOPBACK, True)):
        volume, mirror = StandInVolume(), RedisMirror(ping_seconds=0.4, allowed=allowed)
        volume.show(gateway)
        async with ConfigReader([volume, mirror]) as reader, client(own_server) as redis:
            await reader.wait_ready(5)

            async def settled(mirror: RedisMirror = mirror, expected: bool = connected) -> None:
                trouble = mirror._trouble or ""
                assert mirror.connected if expected else "loopback address" in trouble, trouble

            await eventually_async(settled, within_seconds=20)
            assert (len(await redis.client_list()) > 1) is connected
