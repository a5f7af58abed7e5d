"""Documents that come as messages: they spare the fetching, are believed no sooner than what is fetched, and may be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from redis.asyncio import Redis

from aigateway_config import Reading
from aigateway_config.mirror import CHANNEL, MAX_BODY_BYTES, Invalidation, body_channel, document_key, join_body, sign
from aigateway_config.redis_mirror import RedisMirror
from aigateway_operator.plan.outcome import WrittenDocument
from hack.stores import RedisServer
from tests.builders import make_uid
from tests.eventually import eventually_async
from tests.mirror.pair import (
    KEY,
    Gateway,
    Pod,
    altered,
    client,
    document_of,
    held,
    make_mirror_key,
    mirrored,
    mirroring,
    reading,
)

FILE = "config.yml"
BODIES = body_channel(CHANNEL, str(KEY))


def body_of(document: WrittenDocument, key: bytes | None = None, manifest: bytes | None = None) -> bytes:
    """Return the message that brings a document with this manifest, signed by this key."""
    text = document.manifest if manifest is None else manifest
    body = join_body(document.content, text, sign(text, key or make_mirror_key()))
    assert body is not None
    return body


async def tell(redis: Redis, revision: int) -> None:
    """Tell of a revision on the shared channel."""
    key = document_key(str(KEY), FILE)
    message = Invalidation(key=key, gateway=str(KEY), document=FILE, revision=revision)
    await redis.publish(CHANNEL, message.model_dump_json())


async def heard_all(redis: Redis, mirror: RedisMirror) -> None:
    """Wait until a source has heard everything that was published so far: a message of nobody's comes after it."""
    before = mirror.ignored.get("Malformed", 0)
    await redis.publish(CHANNEL, "mark")

    async def check() -> None:
        assert mirror.ignored.get("Malformed", 0) > before

    await eventually_async(check, within_seconds=10, every_seconds=0.002)


async def fetches(redis: Redis) -> int:
    """Return how often anybody fetched documents, or asked for their size, since the count was reset."""
    counts = await redis.info("commandstats")
    return sum(counts.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("hmget", "hstrlen"))


async def edited(redis: Redis, pod: Pod, revision: int) -> int:
    """Wait until a pod runs an edit and has heard all of it; return how many fetches that took."""
    await pod.runs(revision)
    await heard_all(redis, pod.mirror)
    return await fetches(redis)


async def test_an_edit_comes_without_a_fetch(redis_server: RedisServer, redis: Redis) -> None:
    """Neither the message that brings it nor the one that tells of it makes a pod ask for anything; the hash is there too."""
    gateway = Gateway(redis_server, *(f"m{number}" for number in range(12)), shards=4)
    first = gateway.target()
    async with mirroring() as operator, reading(gateway) as pod:
        operator.mirrors.set_target(KEY, first)
        await operator.holds_everything()
        await pod.connected()
        await redis.config_resetstat()
        for revision, current in ((2, "big"), (3, "small"), (4, "big")):
            operator.mirrors.set_target(KEY, target := gateway.flip(current, "m3"))
            assert await edited(redis, pod, revision) == 0
            await mirrored(redis, target)
        assert set(pod.mirror.ignored) == {"Malformed"}, "the marks"


@pytest.mark.parametrize("reason", ["too large", "many", "an operator that publishes none"])
async def test_what_is_not_published_whole_is_fetched(
    redis_server: RedisServer, redis: Redis, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """The message that tells of it suffices, as it does for pods that know no other."""
    gateway = Gateway(redis_server)
    first = gateway.target()
    if reason == "too large":
        monkeypatch.setattr("aigateway_config.mirror.MAX_BODY_BYTES", len(document_of(first).content))
    else:
        monkeypatch.setattr("aigateway_operator.rollout.mirror_writer.MAX_BODIES", 0)
    async with mirroring() as operator, reading(gateway) as pod, redis.pubsub() as listener:
        await listener.subscribe(BODIES)
        assert (await listener.get_message(timeout=5) or {})["type"] == "subscribe"
        operator.mirrors.set_target(KEY, first)
        await operator.holds_everything()
        await pod.connected()
        await redis.config_resetstat()
        operator.mirrors.set_target(KEY, gateway.flip("big"))
        assert await edited(redis, pod, 2) > 0
        assert await listener.get_message(timeout=0.01) is None


async def test_pods_that_know_no_bodies_are_told_as_before(redis_server: RedisServer, redis: Redis) -> None:
    """One message for each edit on the shared channel, and when it comes the hash is there."""
    gateway = Gateway(redis_server)
    async with mirroring() as operator, redis.pubsub() as listener:
        operator.mirrors.set_target(KEY, gateway.target())
        await operator.holds_everything()
        await listener.subscribe(CHANNEL)
        assert (await listener.get_message(timeout=5) or {})["type"] == "subscribe"
        for revision, current in ((2, "big"), (3, "small")):
            operator.mirrors.set_target(KEY, target := gateway.flip(current))
            message = await listener.get_message(timeout=5)
            assert message is not None
            assert Invalidation.model_validate_json(message["data"]).revision == revision
            assert (await held(redis))["manifest"] == document_of(target).manifest


FORGERIES: list[tuple[str, Callable[[WrittenDocument], bytes]]] = [
    ("BadSignature", lambda d: body_of(d, key=make_mirror_key("b"))),
    ("BadSignature", lambda d: body_of(d).replace(d.manifest, altered(d, revision=9))),
    ("DigestMismatch", lambda d: body_of(d).replace(b"gpt-4o", b"gpt-5x")),
    ("DigestMismatch", lambda d: body_of(d)[:-1]),
    ("OtherLineage", lambda d: body_of(d, manifest=altered(d, lineage=make_uid("another life")))),
    ("OtherGateway", lambda d: body_of(d, manifest=altered(d, gateway="ai/other"))),
    ("OtherDocument", lambda d: body_of(d, manifest=altered(d, shard=3))),
    ("Stale", lambda d: body_of(d, manifest=altered(d, revision=0))),
    ("Malformed", lambda d: body_of(d, manifest=b"no manifest\n")),
    ("Malformed", lambda d: d.content),
    ("Malformed", lambda _: b""),
    ("TooLarge", lambda d: body_of(d) + b" " * MAX_BODY_BYTES),
]


@pytest.mark.parametrize(("reason", "forge"), FORGERIES)
async def test_a_forged_body_is_ignored_and_counted(
    redis_server: RedisServer, redis: Redis, reason: str, forge: Callable[[WrittenDocument], bytes]
) -> None:
    """It never comes into force, is no error of the pod, keeps no honest one away, and what is told of is fetched."""
    gateway = Gateway(redis_server)
    gateway.target()
    async with reading(gateway) as pod:
        await pod.connected()
        honest = document_of(gateway.flip("big"))
        await redis.publish(BODIES, forge(honest))
        await pod.ignored(reason)
        assert (pod.revision, pod.reader.error) == (1, None)
        assert pod.reader.counters.ignored == {f"redis:{reason}": 1}
        later = document_of(gateway.flip("small"))
        await redis.publish(BODIES, body_of(later))
        await pod.runs(3)


async def test_a_body_in_place_of_an_honest_one_delays_it_only(redis_server: RedisServer, redis: Redis) -> None:
    """Its manifest is the honest one, its document is not: what is in the hash comes into force all the same."""
    gateway = Gateway(redis_server)
    gateway.target()
    async with reading(gateway) as pod:
        await pod.connected()
        honest = document_of(gateway.flip("big"))
        fields: dict[str, str | bytes] = {
            "document": honest.content,
            "manifest": honest.manifest,
            "signature": sign(honest.manifest, make_mirror_key()),
        }
        await redis.hset(document_key(str(KEY), FILE), items=[part for item in fields.items() for part in item])
        async with redis.pipeline(transaction=True) as together:
            together.publish(BODIES, body_of(honest)[:-9] + b"elsewhere")
            together.publish(BODIES, body_of(honest))
            message = Invalidation(key=document_key(str(KEY), FILE), gateway=str(KEY), document=FILE, revision=2)
            together.publish(CHANNEL, message.model_dump_json())
            await together.execute()
        await pod.runs(2)
        assert pod.mirror.ignored["DigestMismatch"] == 1


async def test_a_body_of_a_revision_in_force_or_before_changes_nothing(redis_server: RedisServer, redis: Redis) -> None:
    """A replay is properly signed; only the older one is worth a count."""
    gateway = Gateway(redis_server)
    gateway.target()
    second, third = document_of(gateway.flip("big")), document_of(gateway.flip("small"))
    async with reading(gateway) as pod:
        await pod.connected()
        seen = len(pod.seen)
        await redis.publish(BODIES, body_of(third))
        await redis.publish(BODIES, body_of(second))
        await pod.ignored("Stale")
        assert (pod.revision, len(pod.seen)) == (3, seen)


@dataclass
class SlowReader:
    """Takes offers of a source, one at a time, and no sooner than it is let."""

    taken: list[list[bytes]] = field(default_factory=list)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def offer(self, reading: Reading) -> None:
        """Note which documents are offered."""
        self.taken.append([content for name in sorted(reading.names()) if (content := reading.read(name)) is not None])
        await self.may_go_on.wait()


async def test_of_bodies_that_come_meanwhile_the_newest_is_offered(redis_server: RedisServer, redis: Redis) -> None:
    """While one is judged, three more and what tells of them come in: one is offered then, and nothing is fetched."""
    gateway = Gateway(redis_server)
    gateway.target()
    async with reading(gateway) as pod:
        assert pod.reader.current is not None
        mirror, reader = RedisMirror(), SlowReader()
        mirror.follow(pod.reader.current)
        running = asyncio.create_task(mirror.run(reader.offer))
        try:
            await pod.connected()
            await replace(pod, mirror=mirror).connected()
            made = [document_of(gateway.flip(current)) for current in ("big", "small", "big", "small")]
            await redis.config_resetstat()
            for document in (made[0], made[1], made[3], made[2]):
                await redis.publish(BODIES, body_of(document))
                await tell(redis, document.revision)
                await heard_all(redis, mirror)
            assert reader.taken == [[made[0].manifest, made[0].content]]
            reader.may_go_on.set()

            async def offered() -> None:
                assert reader.taken[1:] == [[made[3].manifest, made[3].content]]

            await eventually_async(offered, within_seconds=10)
            await heard_all(redis, mirror)
            assert len(reader.taken) == 2
            assert await fetches(redis) == 0
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_redis_that_does_not_permit_the_channel_of_documents_serves_without(own_server: RedisServer) -> None:
    """As one does whose access list is older than that channel: nothing fails, and documents are fetched."""
    gateway = Gateway(own_server)
    first = gateway.target()
    async with Redis(host=own_server.host, port=own_server.port, password=own_server.password) as redis:
        permit = ("ACL", "SETUSER", "default", "resetchannels", f"&{CHANNEL}")
        await redis.execute_command(*permit)  # type: ignore[no-untyped-call]  # redis-py has no types for it
        async with mirroring() as operator, reading(gateway) as pod:
            operator.mirrors.set_target(KEY, first)
            await operator.holds_everything()
            await pod.connected()
            await redis.config_resetstat()
            operator.mirrors.set_target(KEY, gateway.flip("big"))
            assert await edited(redis, pod, 2) > 0
            assert operator.mirrors.counts["failures"] == 0
            assert operator.mirrors.counts["connections"] == 1


async def test_once_redis_is_back_documents_are_published_again(own_server: RedisServer) -> None:
    """Its access list was mended, or another has its place: what one connection was refused is no matter of the next one."""
    gateway = Gateway(own_server)
    async with client(own_server) as redis, mirroring() as operator:
        await redis.execute_command("ACL", "SETUSER", "default", "resetchannels", f"&{CHANNEL}")  # type: ignore[no-untyped-call]  # as above
        operator.mirrors.set_target(KEY, target := gateway.target())
        await mirrored(redis, target)
        own_server.kill()
        operator.mirrors.set_target(KEY, target := gateway.flip("big"))

        async def failed() -> None:
            assert operator.mirrors.counts["failures"] > 0

        await eventually_async(failed, within_seconds=20, every_seconds=0.01)
        own_server.restart()
        await redis.connection_pool.disconnect()
        await mirrored(redis, target)
        async with redis.pubsub() as listener:
            await listener.subscribe(BODIES)
            assert (await listener.get_message(timeout=5) or {})["type"] == "subscribe"
            operator.mirrors.set_target(KEY, target := gateway.flip("small"))
            message = await listener.get_message(timeout=10)
            assert message is not None
            assert message["data"] == body_of(document_of(target))
