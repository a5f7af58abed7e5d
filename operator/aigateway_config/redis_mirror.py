"""Documents straight from Redis, a millisecond after the operator mirrored them; for gateways with `redisNotify`.

    ConfigReader([MountedVolume(config, credentials), RedisMirror()])

Brings documents only: the mounted volume decides the lineage, brings the credentials, and serves while Redis is away. Which
Redis, its password and the key that signs the mirror come from the configuration in force, so that this source begins to work
once there is one that names a Redis and has the key, and follows when they change. What is not signed by that key, or is of
another gateway or lineage, or older than what is in force, is ignored and counted. Never writes. Imports `redis` when used.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from aigateway_config import documents
from aigateway_config.addresses import Networks
from aigateway_config.errors import SourceFault
from aigateway_config.mirror import (
    CHANNEL,
    FIELDS,
    MANIFEST,
    SIGNATURE,
    Invalidation,
    RedisEndpoint,
    document_key,
    endpoint_of,
    is_signed,
)
from aigateway_config.redis_connection import CONNECT_SECONDS, raise_if_cancelled, reason_of, redis_client
from aigateway_config.resolving import checked_address
from aigateway_config.source import MemoryReading, Offer
from aigateway_config.verification import LIMIT_BYTES, manifest_of

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

    from aigateway_config.configuration import Configuration

PING_SECONDS: Final = 5.0
"""How often the subscription is asked whether it lives: a dead one is as silent as a quiet one (docs/redis-mirror.md)."""
WAKE_SECONDS: Final = 1.0
"""How often a quiet subscription looks whether Redis is another one by now."""
FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 10.0
MAX_DRAINED: Final = 256
"""Messages of a burst that are taken together."""
MAX_MESSAGE_BYTES: Final = 4096

log = logging.getLogger("aigateway_config")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the mirror of the configuration in force is, and what makes a document of it ours."""

    endpoint: RedisEndpoint
    key: bytes = field(repr=False)
    gateway: str
    lineage: str
    files: frozenset[str]
    missing: str | None = None
    """Credentials file that is needed to reach Redis and is not there."""


class _Silent(Exception):
    """The subscription gave no sign of life."""


class RedisMirror:
    """A source, and a follower of the configuration in force.

    channel: as the operator's setting AIGATEWAY_REDIS_CHANNEL says. allowed: check the address that the name resolves to, and
    accept these networks although rules refuse them; None: connect to whatever it resolves to. Raises SourceFault if redis is
    not installed.
    """

    name: Final = "redis"

    def __init__(self, *, channel: str = CHANNEL, ping_seconds: float = PING_SECONDS, allowed: Networks | None = None) -> None:
        if find_spec("redis") is None:
            raise SourceFault("the Redis source needs redis: install it beside this package, or use the mounted volume alone")
        self._channel = channel
        self._ping_seconds = ping_seconds
        self._allowed = allowed
        self._ignored: Counter[str] = Counter()
        self._place: _Place | None = None
        self._revisions: Mapping[str, int] = {}
        self._moved = asyncio.Event()
        self._trouble: str | None = "is not connected yet"

    @property
    def ignored(self) -> Mapping[str, int]:
        """Messages and documents that were ignored, by reason."""
        return self._ignored

    @property
    def connected(self) -> bool:
        """Whether the subscription stands, as far as is known."""
        return self._trouble is None

    def follow(self, configuration: Configuration) -> None:
        """Take note of what is in force: revisions, the place of Redis, its password, the signing key."""
        self._revisions = {file: state.revision for file, state in configuration.documents.items()}
        place = _place_of(configuration)
        if place != self._place:
            self._place = place
            self._moved.set()

    async def run(self, offer: Offer) -> None:
        """Offer every document that Redis has newer, now and whenever one is told of, until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            self._moved.clear()
            place = self._place
            if place is None or place.missing is not None:
                self._note(place, f"is not read: credentials file {place.missing} is missing" if place else "is not named")
                await self._moved.wait()
                continue
            try:
                await self._serve(place, offer)
                pause = FIRST_PAUSE_SECONDS
                continue
            except _Silent:
                self._note(place, "does not answer any more")
            except Exception as error:  # whatever the driver raises: the source must come back by itself
                log.debug("Redis mirror failed", exc_info=True)
                if self.connected:
                    pause = FIRST_PAUSE_SECONDS
                self._note(place, reason_of(error))
            raise_if_cancelled()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.67, 1.33)):  # noqa: S311  spreads restarts, no secret
                    await self._moved.wait()
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _serve(self, place: _Place, offer: Offer) -> None:
        """Keep one subscription, until it breaks or the mirror is elsewhere."""
        where = place.endpoint
        address = None if self._allowed is None else await checked_address(where.host, where.port, self._allowed)
        async with redis_client(where, address=address) as redis:
            subscription = redis.pubsub()
            async with asyncio.timeout(2 * CONNECT_SECONDS):
                await subscription.subscribe(self._channel)
                while (answer := await subscription.get_message(timeout=WAKE_SECONDS)) is None:
                    pass
            if answer["type"] != "subscribe":
                raise _Silent
            # Only now can no change be missed: what came before the subscription is read, what comes after is told.
            await self._catch_up(redis, place, offer)
            raise_if_cancelled()
            self._note(place, None)
            await self._listen(redis, subscription, place, offer)

    async def _listen(self, redis: Redis, subscription: PubSub, place: _Place, offer: Offer) -> None:
        loop = asyncio.get_running_loop()
        heard = asked = loop.time()
        while self._place == place:
            raise_if_cancelled()
            message = await subscription.get_message(timeout=min(WAKE_SECONDS, self._ping_seconds / 2))
            if message is not None:
                files = await self._drain(subscription, message, place)
                await self._bring(redis, place, files, offer)
                heard = loop.time()
            if loop.time() - heard > 2 * self._ping_seconds:
                raise _Silent
            if loop.time() - asked >= self._ping_seconds:
                asked = loop.time()
                async with asyncio.timeout(CONNECT_SECONDS):
                    await subscription.ping()

    async def _drain(self, subscription: PubSub, first: dict[str, Any], place: _Place) -> set[str]:
        """Return the documents that the messages at hand speak of and that are newer than those in force."""
        files: set[str] = set()
        message: dict[str, Any] | None = first
        for _ in range(MAX_DRAINED):
            if message is None:
                break
            if message["type"] == "message":
                files.update(self._told(message["data"], place))
            message = await subscription.get_message(timeout=0)
        return files

    def _told(self, data: bytes, place: _Place) -> Iterable[str]:
        """Yield the document that a message speaks of, if it is one of ours that is to be looked at."""
        try:
            told = Invalidation.model_validate_json(data[:MAX_MESSAGE_BYTES])
        except ValidationError:
            self._ignore("Malformed")
            return
        if told.gateway != place.gateway:
            self._ignored["OtherGateway"] += 1  # as it should be, where gateways share a Redis
        elif told.document not in place.files or told.key != document_key(place.gateway, told.document):
            self._ignore("OtherDocument")
        elif told.revision < self._revisions.get(told.document, 0):
            self._ignore("Stale")
        elif told.revision > self._revisions.get(told.document, 0):
            yield told.document

    async def _catch_up(self, redis: Redis, place: _Place, offer: Offer) -> None:
        """Bring what is newer than what is in force; the documents of what is not are not even fetched."""
        present = await self._of_sane_size(redis, place, place.files)
        heads = await _hashes(redis, place, present, (MANIFEST, SIGNATURE))
        newer = [file for file, (manifest, signature) in heads.items() if self._judge(place, file, manifest, signature)]
        await self._bring(redis, place, newer, offer)

    async def _bring(self, redis: Redis, place: _Place, files: Iterable[str], offer: Offer) -> None:
        """Fetch, verify and offer the named documents."""
        brought: dict[str, bytes] = {}
        present = await self._of_sane_size(redis, place, files)
        for file, (document, manifest, signature) in (await _hashes(redis, place, present, FIELDS)).items():
            head = self._judge(place, file, manifest, signature)
            if head is None or manifest is None:
                continue
            if document is None or sha256(document).hexdigest() != head.sha256:
                self._ignore("DigestMismatch")
            else:
                brought |= {file: document, manifest_of(file): manifest}
        if brought and self._place == place:
            await offer(MemoryReading(brought))

    async def _of_sane_size(self, redis: Redis, place: _Place, files: Iterable[str]) -> list[str]:
        """Return those documents that are there and no larger than any ConfigMap: a forged one must not fill the memory."""
        named = sorted(files)
        if not named:
            return []
        async with redis.pipeline(transaction=False) as pipeline:
            for file in named:
                for part in FIELDS:
                    pipeline.hstrlen(document_key(place.gateway, file), part)
            answers = await pipeline.execute(raise_on_error=False)
        sane: list[str] = []
        for file, sizes in zip(named, zip(*[iter(answers)] * len(FIELDS), strict=True), strict=True):
            if any(isinstance(size, Exception) for size in sizes):
                self._ignore("Malformed")
            elif max(sizes) > LIMIT_BYTES:
                self._ignore("TooLarge")
            elif max(sizes) > 0:
                sane.append(file)
        return sane

    def _judge(self, place: _Place, file: str, manifest: bytes | None, signature: bytes | None) -> documents.Manifest | None:
        """Return the manifest if it is signed, ours, of this document, and newer than what is in force."""
        if manifest is None or signature is None or not is_signed(manifest, signature, place.key):
            self._ignore("BadSignature" if signature else "Unsigned")
            return None
        try:
            head = documents.Manifest.model_validate_json(manifest)
        except ValidationError:
            self._ignore("Malformed")
            return None
        in_force = self._revisions.get(file, 0)
        reason = None
        if head.gateway != place.gateway:
            reason = "OtherGateway"
        elif head.lineage != place.lineage:
            reason = "OtherLineage"
        elif file != (documents.CONFIG_FILE if head.shard is None else documents.models_file(head.shard)):
            reason = "OtherDocument"
        elif head.revision < in_force:
            reason = "Stale"
        if reason is not None:
            self._ignore(reason)
        return head if reason is None and head.revision > in_force else None

    def _ignore(self, reason: str) -> None:
        self._ignored[reason] += 1
        if self._ignored[reason] == 1:
            log.warning("Redis mirror: something is ignored (%s); from now on it is only counted", reason)

    def _note(self, place: _Place | None, trouble: str | None) -> None:
        """Remember what is wrong with Redis, None for nothing, and log it when that changes."""
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if place is None:
            log.info("no Redis mirror in the configuration; the mounted volume serves alone")
        elif trouble is not None:
            log.warning("Redis at %s %s; the mounted volume serves meanwhile", place.endpoint.place, trouble)
        else:
            log.info("Redis at %s brings documents", place.endpoint.place)


def _place_of(configuration: Configuration) -> _Place | None:
    """Return where the mirror is, None if there is none: no Redis, or no key to verify it with."""
    store, key = configuration.storage.redis, configuration.secret(documents.MIRROR_KEY)
    if store is None or key is None:
        return None

    def credential(file: str) -> str | None:
        value = configuration.secret(file)
        return None if value is None else value.get_secret_value()

    endpoint, missing = endpoint_of(store, credential)
    text = key.get_secret_value().encode()
    files = frozenset(configuration.documents)
    return _Place(endpoint, text, configuration.gateway, configuration.lineage, files, missing)


async def _hashes(
    redis: Redis, place: _Place, files: Iterable[str], fields: tuple[str, ...]
) -> dict[str, tuple[bytes | None, ...]]:
    """Return the named fields of each document, each document's of one moment."""
    named = list(files)
    if not named:
        return {}
    async with redis.pipeline(transaction=False) as pipeline:
        for file in named:
            pipeline.hmget(document_key(place.gateway, file), list(fields))
        answers = await pipeline.execute()
    return {file: tuple(answer) for file, answer in zip(named, answers, strict=True)}
