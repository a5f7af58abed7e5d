"""From the operator's write to the pod's swap through a real Redis: what arrives, and that nothing secret is on the way."""

from __future__ import annotations

import asyncio
from hashlib import sha256

from redis.asyncio import Redis

from aigateway_config.mirror import CHANNEL, body_channel
from hack.stores import RedisServer
from tests.builders import make_secret_state, make_virtual_model
from tests.eventually import eventually_async
from tests.mirror.pair import CANARY, KEY, Gateway, as_bytes, client, held, make_mirror_key, mirrored, mirroring, reading


async def test_an_edit_reaches_a_pod_whose_volume_has_not_moved(redis_server: RedisServer, redis: Redis) -> None:
    """The volume brought revision 1 and nothing else; the flip comes by Redis alone."""
    gateway = Gateway(redis_server)
    first = gateway.target()
    async with mirroring() as operator, reading(gateway) as pod:
        operator.mirrors.set_target(KEY, first)
        await operator.holds_everything()
        await pod.connected()
        operator.mirrors.set_target(KEY, gateway.flip("big"))
        await pod.runs(2)
        assert pod.reader.current is not None
        assert pod.reader.current.models["chat"].live.name == "big"
        assert pod.reader.error is None
        assert not pod.mirror.ignored


async def test_a_pod_that_subscribes_late_catches_up(redis_server: RedisServer, redis: Redis) -> None:
    """What was published before the subscription is read after it, from every shard that is newer and no other."""
    gateway = Gateway(redis_server, *(f"m{number}" for number in range(12)), shards=4)
    gateway.target()
    async with mirroring() as operator, reading(gateway) as early:
        await early.connected()
        target = gateway.flip("big", "m3")
        operator.mirrors.set_target(KEY, target)
        await operator.holds_everything()
        await early.runs(2)
        behind = Gateway(redis_server, *(f"m{number}" for number in range(12)), shards=4)
        behind.target()
        async with reading(behind) as late:
            await late.runs(2)
            assert late.reader.current is not None
            moved = [file for file, state in late.reader.current.documents.items() if state.revision == 2]
            assert moved == [file for file, document in target.documents.items() if document and document.revision == 2]
            assert late.reader.current.models["m3"].live.name == "big"


async def test_a_document_waits_for_credentials_that_the_volume_has_not_brought(
    redis_server: RedisServer, redis: Redis
) -> None:
    """Redis is faster than the volume, and brings no credentials; the old document serves until they are there."""
    gateway = Gateway(redis_server)
    first = gateway.target()
    async with mirroring() as operator, reading(gateway) as pod:
        operator.mirrors.set_target(KEY, first)
        await pod.connected()
        gateway.secrets["new-keys"] = make_secret_state(proxy=f"{CANARY}-new")
        gateway.apply(make_virtual_model(proxyKeySecretRef={"name": "new-keys", "key": "proxy"}))
        operator.mirrors.set_target(KEY, gateway.target())

        async def waits() -> None:
            assert "CredentialsPending" in (pod.reader.error or ""), pod.reader.error

        await eventually_async(waits, within_seconds=20)
        assert pod.revision == 1
        pod.volume.show(gateway)
        await pod.runs(2)
        assert pod.reader.error is None


async def test_nothing_secret_and_no_digest_of_it_is_in_redis(redis_server: RedisServer, redis: Redis) -> None:
    """Keys, fields, messages: neither values nor their SHA-256, nor the signing key."""
    gateway = Gateway(redis_server)
    secrets = [f"{CANARY}-{name}".encode() for name in ("proxy", "backend", "redis")]
    secrets.append(make_mirror_key())
    needles = [CANARY.encode(), *secrets]
    needles += [text for secret in secrets for text in (sha256(secret).hexdigest().encode(), sha256(secret).digest())]
    heard: list[bytes] = []
    async with mirroring() as operator, redis.monitor() as monitor:

        async def listen() -> None:
            while True:
                heard.append(repr(await monitor.next_command()).encode())

        listening = asyncio.create_task(listen())
        target = gateway.target()
        operator.mirrors.set_target(KEY, target)
        await mirrored(redis, target)
        later = gateway.flip("big")
        operator.mirrors.set_target(KEY, later)
        await mirrored(redis, later)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    dump = b""
    for key in await redis.keys("*"):
        fields = await redis.hgetall(key)
        dump += as_bytes(key) + b"".join(as_bytes(part) for item in fields.items() for part in item)
    assert b"chat-keys.proxy" in dump, "the document names credentials"
    assert any(b"PUBLISH" in command.upper() for command in heard)
    for needle in needles:
        assert needle not in dump
        assert not any(needle in command for command in heard)


async def test_document_and_message_come_in_one_transaction(redis_server: RedisServer, redis: Redis) -> None:
    """No reader can see a document without its manifest and signature, and none is told of what is not there."""
    gateway = Gateway(redis_server)
    target = gateway.target()
    torn: list[dict[str, bytes]] = []
    done = asyncio.Event()

    async def look() -> None:
        async with client(redis_server) as own:
            while not done.is_set():
                fields = await held(own)
                if fields and sha256(fields["document"]).hexdigest().encode() not in fields["manifest"]:
                    torn.append(fields)

    async with mirroring() as operator, redis.monitor() as monitor:
        commands: list[str] = []

        async def listen() -> None:
            while True:
                command = str((await monitor.next_command())["command"])
                is_body = command.startswith(f"PUBLISH {body_channel(CHANNEL, str(KEY))} ")
                commands.append("BODY" if is_body else command.split(" ")[0].upper())

        listening, looking = asyncio.create_task(listen()), asyncio.create_task(look())
        operator.mirrors.set_target(KEY, target)
        for number in range(20):
            target = gateway.flip("big" if number % 2 == 0 else "small")
            operator.mirrors.set_target(KEY, target)
            await mirrored(redis, target)
        done.set()
        await looking
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    assert not torn
    writes = [command for command in commands if command in {"BODY", "MULTI", "UNLINK", "HSET", "PUBLISH", "EXEC"}]
    begin = writes.index("BODY")
    assert writes[begin : begin + 6] == ["BODY", "MULTI", "UNLINK", "HSET", "PUBLISH", "EXEC"]
    assert writes.count("HSET") == writes.count("PUBLISH") == writes.count("MULTI")
