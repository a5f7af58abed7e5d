"""The operator's end: only what differs is written, the newest target wins, and every outage ends by itself."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from random import Random

import pytest
from redis.asyncio import Redis

from aigateway_config.mirror import document_key, is_signed, sign
from aigateway_operator.datastores.resolving import Resolver as Names
from aigateway_operator.rollout import mirror_health
from aigateway_operator.rollout.resolve import Resolver
from aigateway_operator.rules import RuleContext
from aigateway_operator.rules.ranges import Address
from hack.stores import RedisServer
from tests.builders import make_secret_state
from tests.eventually import eventually_async
from tests.mirror.pair import CONTEXT, KEY, Gateway, Operator, client, held, keys, make_mirror_key, mirrored, mirroring


@pytest.fixture
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Troubles are told, and over, without the wait that keeps statuses from flapping."""
    monkeypatch.setattr(mirror_health, "SHOW_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(mirror_health, "CLEAR_AFTER_SECONDS", 0.0)


async def says(operator: Operator, text: str, within_seconds: float = 10) -> None:
    """Wait until the trouble holds a text."""

    async def check() -> None:
        assert text in (operator.mirrors.trouble(KEY) or ""), operator.mirrors.trouble(KEY)

    await eventually_async(check, within_seconds=within_seconds, every_seconds=0.01)


async def test_each_document_is_signed_with_the_key_of_the_credentials(redis_server: RedisServer, redis: Redis) -> None:
    """Document, manifest and signature are what the planner made, under the documented key."""
    gateway = Gateway(redis_server, "a", "b", shards=2)
    target = gateway.target()
    async with mirroring() as operator:
        operator.mirrors.set_target(KEY, target)
        await mirrored(redis, target)
        await operator.holds_everything()
    for file in ("config.yml", "models-00.yml", "models-01.yml"):
        fields = await held(redis, file)
        assert fields.keys() == {"document", "manifest", "signature"}
        assert is_signed(fields["manifest"], fields["signature"], gateway.credentials()["_mirror.key"])
    assert document_key("ai/main", "config.yml") == "aigateway:ai:main:config.yml"
    assert await keys(redis) == sorted(document_key("ai/main", file) for file in target.documents)


async def test_a_gateway_of_the_most_shards_is_mirrored(redis_server: RedisServer, redis: Redis) -> None:
    """There is no name left that could be a stranger's."""
    gateway = Gateway(redis_server, *(f"m{number}" for number in range(8)), shards=64)
    target = gateway.target()
    async with mirroring() as operator:
        operator.mirrors.set_target(KEY, target)
        await operator.holds_everything()
        await mirrored(redis, target)
        assert operator.mirrors.counts["failures"] == 0
        assert len(await keys(redis)) == 65


async def test_a_restart_writes_nothing(redis_server: RedisServer, redis: Redis) -> None:
    """What is there is recognised by its signatures; so it is after a change of leader."""
    gateway = Gateway(redis_server, *"abcdef", shards=4)
    target = gateway.target()
    async with mirroring() as operator:
        operator.mirrors.set_target(KEY, target)
        await operator.holds_everything()
        assert operator.mirrors.counts["documents"] == 5
    async with mirroring() as operator:
        operator.mirrors.set_target(KEY, target)
        await operator.holds_everything()
        assert operator.mirrors.counts["documents"] == 0
        operator.mirrors.set_target(KEY, gateway.flip("big", "c"))
        await mirrored(redis, gateway.target())
        assert operator.mirrors.counts["documents"] == 1


async def test_only_the_newest_target_counts_after_an_outage(own_server: RedisServer) -> None:
    """A hundred edits while Redis is away are one write when it is back, and nobody waits for any of it."""
    gateway = Gateway(own_server)
    async with mirroring() as operator:
        operator.mirrors.set_target(KEY, gateway.target())
        await operator.holds_everything()
        own_server.kill()
        began = asyncio.get_running_loop().time()
        for number in range(100):
            operator.mirrors.set_target(KEY, gateway.flip("big" if number % 2 == 0 else "small"))
            if number % 10 == 0:
                await asyncio.sleep(0)
        newest = gateway.flip("big")
        operator.mirrors.set_target(KEY, newest)
        assert asyncio.get_running_loop().time() - began < 5, "planning took all of it"
        before = operator.mirrors.counts["documents"]
        own_server.restart()
        async with client(own_server) as redis:
            await mirrored(redis, newest, within_seconds=20)
        assert operator.mirrors.counts["documents"] == before + 1


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_redis_away_is_told_and_over_when_it_is_back(own_server: RedisServer, told_at_once: None, fault: str) -> None:
    """A killed one refuses, a frozen one does not answer; an edit meanwhile arrives afterwards."""
    gateway = Gateway(own_server)
    async with mirroring() as operator:
        operator.mirrors.set_target(KEY, gateway.target())
        await operator.holds_everything()
        getattr(own_server, fault)()
        edited = gateway.flip("big")
        operator.mirrors.set_target(KEY, edited)
        await says(operator, "cannot be reached" if fault == "kill" else "does not answer", within_seconds=20)
        assert "Pods read the mounted volume meanwhile." in (operator.mirrors.trouble(KEY) or "")
        own_server.resume() if fault == "pause" else own_server.restart()
        await operator.holds_everything(within_seconds=20)
        async with client(own_server) as redis:
            await mirrored(redis, edited)
    assert operator.told[:3] == [KEY] * 3, "up, away, up"


async def test_a_rotated_password_is_followed(own_server: RedisServer, told_at_once: None) -> None:
    """The old password is refused and that is told; the new one of the Secret works at once, without waiting for a back-off."""
    gateway = Gateway(own_server)
    async with mirroring() as operator, client(own_server) as redis:
        operator.mirrors.set_target(KEY, gateway.target())
        await operator.holds_everything()
        await redis.config_set("requirepass", "second")
        await redis.client_kill_filter(_type="normal", skipme=True)
        operator.mirrors.set_target(KEY, gateway.flip("big"))
        await says(operator, "refuses the password")
        assert "first" not in (operator.mirrors.trouble(KEY) or "")
        gateway.secrets["redis"] = make_secret_state(password="second")
        target = gateway.target()
        operator.mirrors.set_target(KEY, target)
        await operator.holds_everything(within_seconds=2)
        await mirrored(redis, target)


async def test_a_missing_password_is_told_and_nothing_is_tried(own_server: RedisServer, told_at_once: None) -> None:
    """Without its Secret the mirror says which file is missing; it comes up when the Secret does."""
    gateway = Gateway(own_server)
    del gateway.secrets["redis"]
    async with mirroring() as operator:
        operator.mirrors.set_target(KEY, gateway.target())
        await says(operator, "credentials file 'redis.password' has no value")
        assert operator.mirrors.counts["connections"] == 0
        gateway.secrets["redis"] = make_secret_state(password="first")
        operator.mirrors.set_target(KEY, gateway.target())
        await operator.holds_everything()


async def test_what_somebody_else_did_to_the_mirror_is_mended(
    redis_server: RedisServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted, of another type, overwritten by a former leader: one look mends it all, and no stranger stays."""
    monkeypatch.setattr("aigateway_operator.rollout.mirror_writer.LOOK_SECONDS", 0.1)
    gateway = Gateway(redis_server, *"abcd", shards=3)
    old = gateway.target()
    target = gateway.flip("big", "a")
    async with mirroring() as operator:
        operator.mirrors.set_target(KEY, target)
        await mirrored(redis, target)
        key = document_key("ai/main", "models-00.yml")
        await redis.delete(key)
        await redis.delete(document_key("ai/main", "models-01.yml"))
        await redis.set(document_key("ai/main", "models-01.yml"), "no hash")
        stale = old.documents["models-02.yml"]
        assert stale is not None
        await redis.hset(
            document_key("ai/main", "models-02.yml"),
            mapping={"document": stale.content, "manifest": b"older", "signature": sign(b"older", make_mirror_key())},
        )
        await redis.hset(document_key("ai/main", "models-63.yml"), mapping={"document": "of a former gateway"})
        await redis.set("aigateway:ai:main2:config.yml", "another gateway's")

        async def settled() -> None:
            for file in target.documents:
                assert await redis.type(document_key("ai/main", file)) == b"hash", file
            assert not await redis.exists(document_key("ai/main", "models-63.yml"))

        await eventually_async(settled, within_seconds=20)
        await mirrored(redis, target)
        assert await redis.get("aigateway:ai:main2:config.yml") == b"another gateway's"


async def test_a_document_that_the_round_leaves_alone_is_left_alone(redis_server: RedisServer, redis: Redis) -> None:
    """One that is blocked in the cluster stays in Redis as it is, and is not taken for a stranger."""
    gateway = Gateway(redis_server, *"ab", shards=2)
    target = gateway.target()
    async with mirroring() as operator:
        operator.mirrors.set_target(KEY, target)
        await mirrored(redis, target)
        await operator.holds_everything()
        before = await held(redis, "models-00.yml")
        operator.mirrors.stand_by()
        operator.mirrors.set_target(KEY, replace(target, documents={**target.documents, "models-00.yml": None}))
        await operator.holds_everything()
        assert await held(redis, "models-00.yml") == before


async def test_a_dropped_mirror_is_removed_and_can_come_back_at_once(redis_server: RedisServer, redis: Redis) -> None:
    """Off and on in a row: the removal does not take what was written after it."""
    gateway = Gateway(redis_server, *"ab", shards=2)
    target = gateway.target()
    async with mirroring() as operator:
        operator.mirrors.set_target(KEY, target)
        await mirrored(redis, target)
        operator.mirrors.drop(KEY)

        async def gone() -> None:
            assert await keys(redis) == []

        await eventually_async(gone, within_seconds=20)
        assert operator.mirrors.trouble(KEY) is None
        for _ in range(5):
            operator.mirrors.set_target(KEY, target)
            await mirrored(redis, target)
            operator.mirrors.drop(KEY)
            operator.mirrors.set_target(KEY, target)
            await operator.holds_everything()
            await mirrored(redis, target)


async def test_a_removal_that_takes_long_is_waited_for(redis_server: RedisServer, redis: Redis) -> None:
    """Off and on again while Redis is hard to reach: what is written is written after the removal, not before."""
    gateway = Gateway(redis_server)
    target = gateway.target()
    gate, calls = asyncio.Event(), 0

    async def resolve(host: str) -> str:
        nonlocal calls
        calls += 1
        if calls == 2:
            await gate.wait()
        return host

    async def asked_twice() -> None:
        assert calls == 2

    async with mirroring(resolve=resolve) as operator:
        operator.mirrors.set_target(KEY, target)
        await operator.holds_everything()
        operator.mirrors.drop(KEY)
        await eventually_async(asked_twice, within_seconds=20)
        operator.mirrors.set_target(KEY, target)
        asyncio.get_running_loop().call_later(0.2, gate.set)
        await operator.holds_everything()
        assert gate.is_set(), "it was written before the removal"
        await mirrored(redis, target, within_seconds=20)


async def test_a_writer_ends_whenever_it_is_told_to(redis_server: RedisServer, redis: Redis) -> None:
    """At any moment of a connection or a write: one that went on would write beside its successor. (It did: one in forty.)"""
    gateway = Gateway(redis_server, *"ab", shards=2)
    targets = [gateway.target(), gateway.flip("big", "a")]
    random = Random(7)
    for number in range(150):
        async with mirroring() as operator, asyncio.timeout(3):
            operator.mirrors.set_target(KEY, targets[number % 2])
            await asyncio.sleep(random.random() * 0.01)  # not to wait for something: any moment will do
            await operator.mirrors.stop()


async def test_a_standby_writes_nothing_and_removes_nothing(redis_server: RedisServer, redis: Redis) -> None:
    """Neither after it was told, nor before, when its lease has run out while it was frozen."""
    gateway = Gateway(redis_server)
    target = gateway.target()
    async with mirroring() as operator:
        operator.mirrors.set_target(KEY, target)
        await mirrored(redis, target)
        await operator.holds_everything()
        operator.leads = False
        asked, written = operator.asked, operator.mirrors.counts["documents"]
        operator.mirrors.set_target(KEY, gateway.flip("big"))

        async def thought_of() -> None:
            assert operator.asked > asked

        await eventually_async(thought_of, within_seconds=20)
        operator.mirrors.stand_by()

        async def let_go() -> None:
            assert len(await redis.client_list()) == 1

        await eventually_async(let_go, within_seconds=20)
        assert operator.mirrors.counts["documents"] == written
        await mirrored(redis, target)


async def test_a_mirror_that_moves_is_removed_where_it_was(
    redis_server: RedisServer, redis: Redis, own_server: RedisServer
) -> None:
    """Pods follow by config.yml; nothing is left behind in the Redis that is used no more."""
    gateway = Gateway(redis_server)
    async with mirroring() as operator, client(own_server) as other:
        first = gateway.target()
        operator.mirrors.set_target(KEY, first)
        await mirrored(redis, first)
        gateway.secrets["redis"] = make_secret_state(password="first")
        gateway.notify(port=own_server.port, passwordSecretRef={"name": "redis", "key": "password"})
        moved = gateway.target()
        operator.mirrors.set_target(KEY, moved)
        await mirrored(other, moved)

        async def gone() -> None:
            assert await keys(redis) == []

        await eventually_async(gone, within_seconds=20)


async def test_a_refused_address_is_never_connected_to(redis_server: RedisServer, redis: Redis, told_at_once: None) -> None:
    """Without the allowance loopback is refused when it is resolved, whatever admission let through."""
    gateway = Gateway(redis_server)
    target = gateway.target()
    async with mirroring(RuleContext("")) as operator:
        operator.mirrors.set_target(KEY, target)
        await says(operator, "resolves to 127.0.0.1, a loopback address")
        named = replace(target, endpoint=replace(target.endpoint, host="localhost"))
        operator.mirrors.set_target(KEY, named)
        await says(operator, "which is refused; AIGATEWAY_ALLOW_ADDRESSES can allow it")
        assert operator.mirrors.counts["connections"] == 0
        nowhere = replace(target, endpoint=replace(target.endpoint, host="no-such-name.invalid"))
        operator.mirrors.set_target(KEY, nowhere)
        await says(operator, "has a name that does not resolve")


async def test_something_else_on_the_port_is_told(told_at_once: None, redis_server: RedisServer) -> None:
    """A server that talks HTTP is no Redis; the writer neither hangs nor dies."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, mirroring() as operator:
        gateway = Gateway(redis_server, port=server.sockets[0].getsockname()[1])
        operator.mirrors.set_target(KEY, gateway.target())
        await says(operator, "Redis at 127.0.0.1")


async def test_a_silent_dns_holds_nobody_elses_threads_up() -> None:
    """Ten mirrors whose zone is dead: the process's own threads, which log in to MongoDB and read CAs, stay free."""
    silence = threading.Event()

    def lookup(_host: str) -> list[Address]:
        silence.wait(30)
        raise OSError

    resolver = Resolver(CONTEXT, Random(1), Names(lookup).addresses)
    try:
        asked = [asyncio.create_task(resolver(f"redis-{number}.dead.example")) for number in range(10)]
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "free") == "free"
            told = await asyncio.gather(*asked, return_exceptions=True)
        assert {str(one) for one in told} == {"has a name for which DNS gives no answer"}
    finally:
        silence.set()
