"""Both ends of the mirror with a real Redis between them: plans made by the planner, a writer, and a `ConfigReader`.

`Gateway` is a world whose GatewayConfig has `redisNotify`; `mirroring()` is the operator's end, `reading()` a pod's. The volume
is a stand-in that offers what the test says, when it says so. Not a test module.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from random import Random
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aigateway_config import ConfigReader, Configuration, MemoryReading, Offer, documents
from aigateway_config.mirror import document_key
from aigateway_config.redis_mirror import RedisMirror
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.datastores.resolving import Resolver as Names
from aigateway_operator.plan import names
from aigateway_operator.plan.mirroring import MirrorTarget
from aigateway_operator.plan.outcome import WrittenDocument
from aigateway_operator.rollout.mirror import RedisMirrors
from aigateway_operator.rollout.resolve import Resolver
from aigateway_operator.rules import RuleContext
from hack.stores import RedisServer
from tests.builders import World, make_gateway_config, make_secret_state, make_virtual_model
from tests.eventually import eventually_async

LOOPBACK = (ip_network("127.0.0.0/8"),)
CONTEXT = RuleContext("", LOOPBACK)
KEY = GatewayKey("ai", "main")
CANARY = "canary-7f3a91"
"""Begins every secret value in these tests; it must be nowhere in Redis."""


def make_mirror_key(seed: str = "a") -> bytes:
    """Return a usable signing key."""
    return (seed * 64).encode()[:64]


class Gateway(World):
    """A world with one gateway that is mirrored to `server`."""

    def __init__(self, server: RedisServer, *models: str, shards: int = 1, key: bytes | None = None, **redis: Any) -> None:
        super().__init__(context=CONTEXT, mirror_key=key or make_mirror_key())
        self.secrets = {
            "chat-keys": make_secret_state(proxy=f"{CANARY}-proxy"),
            "openai": make_secret_state(api_key=f"{CANARY}-backend"),
            "redis": make_secret_state(password=server.password or f"{CANARY}-redis"),
        }
        self.store = {"host": server.host, "port": server.port, **redis}
        if server.password is not None:
            self.store["passwordSecretRef"] = {"name": "redis", "key": "password"}
        self.shards = shards
        self.notify()
        self.apply(*(make_virtual_model(name) for name in models or ("chat",)))

    def notify(self, *, on: bool = True, **redis: Any) -> None:
        """Switch `redisNotify`, or change `storage.redis`."""
        self.store |= redis
        delivery = {"redisNotify": on, "shards": self.shards}
        self.apply(make_gateway_config(storage={"redis": self.store}, delivery=delivery))

    def flip(self, current: str, name: str = "chat") -> MirrorTarget:
        """Change a model's live backend and return what is to be mirrored."""
        self.apply(make_virtual_model(name, current=current))
        return self.target()

    def target(self) -> MirrorTarget:
        """Do a round and return what is to be mirrored."""
        made = self.round()
        assert made.mirror is not None
        return made.mirror

    def files(self) -> dict[str, bytes]:
        """Return what a pod's volume of documents holds."""
        return self._values("ConfigMap")

    def credentials(self, shard: int | None = None) -> dict[str, bytes]:
        """Return what a pod's volume of credentials holds."""
        return self._values("Secret")

    def _values(self, kind: str) -> dict[str, bytes]:
        found = [name for found, name in self.objects.by_name if found == kind and names.belongs_to(name, self.name)]
        return {file: value for name in found for file, value in self.objects.values(kind, name).items()}


def document_of(target: MirrorTarget, file: str = documents.CONFIG_FILE) -> WrittenDocument:
    """Return a document of a target."""
    found = target.documents[file]
    assert found is not None
    return found


def altered(document: WrittenDocument, **changes: object) -> bytes:
    """Return the manifest of a document with other values, a line as it is."""
    return json.dumps({**json.loads(document.manifest), **changes}).encode() + b"\n"


@dataclass
class StandInVolume:
    """A source like the mounted volume; offers what `show` is given."""

    name: str = "volume"
    ignored: dict[str, int] = field(default_factory=dict)
    shown: asyncio.Queue[MemoryReading] = field(default_factory=asyncio.Queue)

    def show(self, gateway: Gateway, files: dict[str, bytes] | None = None) -> None:
        """Offer the gateway's ConfigMaps (or `files`, as they were once) and Secrets as they are now."""
        self.shown.put_nowait(MemoryReading(files or gateway.files(), MemoryReading(gateway.credentials())))

    async def run(self, offer: Offer) -> None:
        while True:
            await offer(await self.shown.get())


@dataclass
class Pod:
    """A reader, its sources, and every configuration that came into force, with the time."""

    reader: ConfigReader
    volume: StandInVolume
    mirror: RedisMirror
    seen: list[tuple[float, Configuration]] = field(default_factory=list)

    @property
    def revision(self) -> int:
        """The revision in force."""
        assert self.reader.current is not None
        return self.reader.current.revision

    async def runs(self, revision: int, within_seconds: float = 10) -> None:
        """Wait until a revision is in force."""

        async def check() -> None:
            assert self.revision == revision, f"{self.revision}, ignored {dict(self.mirror.ignored)}, {self.reader.error}"

        await eventually_async(check, within_seconds=within_seconds, every_seconds=0.005)

    async def connected(self, within_seconds: float = 10) -> None:
        """Wait until the subscription stands."""

        async def check() -> None:
            assert self.mirror.connected

        await eventually_async(check, within_seconds=within_seconds, every_seconds=0.005)

    async def ignored(self, reason: str, count: int = 1) -> None:
        """Wait until something was ignored for a reason."""

        async def check() -> None:
            assert self.mirror.ignored.get(reason, 0) >= count, dict(self.mirror.ignored)

        await eventually_async(check, within_seconds=10, every_seconds=0.01)


@asynccontextmanager
async def reading(gateway: Gateway, *, ping_seconds: float = 0.4) -> AsyncIterator[Pod]:
    """Run a pod that has loaded the gateway's volume as it is now and is subscribed."""
    volume, mirror = StandInVolume(), RedisMirror(ping_seconds=ping_seconds)
    volume.show(gateway)
    async with ConfigReader([volume, mirror]) as reader:
        pod = Pod(reader, volume, mirror)
        reader.watch(lambda: pod.seen.append((time.monotonic(), reader.current)) if reader.current else None)
        await reader.wait_ready(5)
        yield pod


@dataclass
class Operator:
    """The operator's end, and which gateways it was told of."""

    mirrors: RedisMirrors
    told: list[GatewayKey] = field(default_factory=list)
    leads: bool = True
    asked: int = 0
    """How often it was asked whether it leads."""

    def may_write(self) -> bool:
        """Tell whether this operator leads."""
        self.asked += 1
        return self.leads

    async def holds_everything(self, within_seconds: float = 10) -> None:
        """Wait until the mirror is known to be in place."""

        async def check() -> None:
            assert self.mirrors.trouble(KEY) == "", self.mirrors.trouble(KEY)

        await eventually_async(check, within_seconds=within_seconds, every_seconds=0.005)


@asynccontextmanager
async def mirroring(
    context: RuleContext = CONTEXT, resolve: Callable[[str], Awaitable[str]] | None = None
) -> AsyncIterator[Operator]:
    """Run the operator's end. `resolve` stands in for DNS and the address rules."""
    loop = asyncio.get_running_loop()
    mirrors = RedisMirrors(
        resolve or Resolver(context, Random(1), Names().addresses),
        on_change=lambda key: operator.told.append(key),
        may_write=lambda: operator.may_write(),
        clock=loop.time,
        random=Random(1),
    )
    operator = Operator(mirrors)
    try:
        yield operator
    finally:
        await mirrors.stop()


@asynccontextmanager
async def client(server: RedisServer) -> AsyncIterator[Redis]:
    """A client of the test's own."""
    redis = Redis(host=server.host, port=server.port, password=server.password, socket_timeout=5, retry=Retry(NoBackoff(), 0))
    try:
        yield redis
    finally:
        await redis.aclose()


async def held(redis: Redis, file: str = "config.yml") -> dict[str, bytes]:
    """Return the hash of a document, {} if there is none."""
    found = await redis.hgetall(document_key(str(KEY), file))
    return {as_bytes(name).decode(): as_bytes(value) for name, value in found.items()}


async def keys(redis: Redis) -> list[str]:
    """Return all keys that begin as those of mirrors do, sorted."""
    return sorted(as_bytes(key).decode() for key in await redis.keys("aigateway:*"))


def as_bytes(value: bytes | str) -> bytes:
    """Return what a client that decodes nothing gave: bytes, whatever its types say."""
    assert isinstance(value, bytes)
    return value


async def mirrored(redis: Redis, target: MirrorTarget, within_seconds: float = 10) -> None:
    """Wait until Redis holds every document of a target."""

    async def check() -> None:
        for file, document in target.documents.items():
            assert document is not None
            fields = await held(redis, file)
            assert fields.get("manifest") == document.manifest, f"{file}: {fields.get('manifest')!r}"
            assert fields["document"] == document.content

    await eventually_async(check, within_seconds=within_seconds, every_seconds=0.005)
