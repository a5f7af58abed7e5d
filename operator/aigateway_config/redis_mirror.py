"""Documents straight from Redis, a millisecond after the operator mirrored them; for gateways with `redisNotify`.

    ConfigReader([MountedVolume(config, credentials), RedisMirror()])

Brings documents only: the mounted volume decides the lineage, brings the credentials, and serves while Redis is away. Which
Redis, its password and the key that signs the mirror come from the configuration in force, so that this source begins to work
once there is one that names a Redis and has the key, and follows when they change. A document comes as a message or is fetched
when a message tells of it; `mirror_judging` says which of it counts. Never writes. Imports `redis` when used.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from aigateway_config.addresses import Networks
from aigateway_config.errors import SourceFault
from aigateway_config.mirror import CHANNEL, FIELDS, MANIFEST, SIGNATURE, Body, body_channel, document_key
from aigateway_config.mirror_judging import Judge, Place, Signed, place_of
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

log = logging.getLogger("aigateway_config")


class _Silent(Exception):
    """The subscription gave no sign of life."""


@dataclass(slots=True)
class _News:
    """What a subscription has heard and nobody has taken up yet: of each document the newest alone.

    offered: revisions that came as a message and were offered; they need not be fetched, whether in force by now or not.
    """

    bodies: dict[str, tuple[Signed, Body]] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    offered: dict[str, int] = field(default_factory=dict)
    stirred: asyncio.Event = field(default_factory=asyncio.Event)

    def bring(self, head: Signed, body: Body) -> None:
        """Note a document."""
        known = self.bodies.get(head.file)
        if known is None or known[0].revision < head.revision:
            self.bodies[head.file] = head, body
            self.stirred.set()

    def tell(self, file: str, revision: int) -> None:
        """Note that there is a document to fetch."""
        self.told[file] = max(revision, self.told.get(file, 0))
        self.stirred.set()


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
        self._judge = Judge()
        self._place: Place | None = None
        self._moved = asyncio.Event()
        self._trouble: str | None = "is not connected yet"

    @property
    def ignored(self) -> Mapping[str, int]:
        """Messages and documents that were ignored, by reason."""
        return self._judge.ignored

    @property
    def connected(self) -> bool:
        """Whether the subscription stands, as far as is known."""
        return self._trouble is None

    def follow(self, configuration: Configuration) -> None:
        """Take note of what is in force: revisions, the place of Redis, its password, the signing key."""
        self._judge.revisions = {file: state.revision for file, state in configuration.documents.items()}
        place = place_of(configuration)
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

    async def _serve(self, place: Place, offer: Offer) -> None:
        """Keep one subscription, until it breaks or the mirror is elsewhere."""
        where = place.endpoint
        address = None if self._allowed is None else await checked_address(where.host, where.port, self._allowed)
        async with redis_client(where, address=address) as redis:
            subscription = redis.pubsub()
            async with asyncio.timeout(2 * CONNECT_SECONDS):
                await self._subscribe(subscription, place)
            # Only now can no change be missed: what came before the subscription is read, what comes after is told.
            await self._catch_up(redis, place, offer)
            raise_if_cancelled()
            self._note(place, None)
            await self._listen(redis, subscription, place, offer)

    async def _subscribe(self, subscription: PubSub, place: Place) -> None:
        """Subscribe to documents, where that is permitted, and to what tells of changes, without which nothing works."""
        from redis.exceptions import NoPermissionError

        bodies = body_channel(self._channel, place.gateway)
        await subscription.subscribe(bodies)
        try:
            await _subscribed(subscription, bodies)
        except NoPermissionError:
            log.warning("Redis at %s does not permit channel %s; documents are fetched", place.endpoint.place, bodies)
        await subscription.subscribe(self._channel)
        await _subscribed(subscription, self._channel)

    async def _listen(self, redis: Redis, subscription: PubSub, place: Place, offer: Offer) -> None:
        """Bring what is heard of. Messages are read while a document is judged, so that of many in a row few are judged."""
        news = _News()
        hearing = asyncio.create_task(self._hear(subscription, place, news))
        hearing.add_done_callback(lambda _: news.stirred.set())
        try:
            while not hearing.done():
                raise_if_cancelled()
                await news.stirred.wait()
                news.stirred.clear()
                await self._take_up(redis, place, news, offer)
            await hearing  # raises what ended it
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _hear(self, subscription: PubSub, place: Place, news: _News) -> None:
        """Read messages until the mirror is elsewhere. Raises _Silent, and what the driver raises."""
        loop = asyncio.get_running_loop()
        heard = asked = loop.time()
        bodies = body_channel(self._channel, place.gateway).encode()
        while self._place == place:
            raise_if_cancelled()
            message = await subscription.get_message(timeout=min(WAKE_SECONDS, self._ping_seconds / 2))
            if message is not None:
                heard = loop.time()
                if message["type"] == "message":
                    self._note_message(place, message["channel"] == bodies, message["data"], news)
            if loop.time() - heard > 2 * self._ping_seconds:
                raise _Silent
            if loop.time() - asked >= self._ping_seconds:
                asked = loop.time()
                async with asyncio.timeout(CONNECT_SECONDS):
                    await subscription.ping()

    def _note_message(self, place: Place, is_body: bool, data: bytes, news: _News) -> None:
        if is_body:
            if (brought := self._judge.body(place, data)) is not None:
                news.bring(*brought)
        elif (told := self._judge.told(place, data)) is not None:
            news.tell(*told)

    async def _take_up(self, redis: Redis, place: Place, news: _News, offer: Offer) -> None:
        """Offer documents that came whole, then fetch what was told of and did not come."""
        (bodies, news.bodies), (told, news.told) = (news.bodies, {}), (news.told, {})
        whole: dict[str, bytes] = {}
        for file, (head, body) in bodies.items():
            if self._judge.is_whole(head, document := body.document):
                whole |= {file: document, manifest_of(file): head.manifest}
                news.offered[file] = head.revision
        await self._offer(place, whole, offer)
        known = {file: max(self._judge.revisions.get(file, 0), news.offered.get(file, 0)) for file in told}
        await self._bring(redis, place, [file for file, revision in told.items() if revision > known[file]], offer)

    async def _catch_up(self, redis: Redis, place: Place, offer: Offer) -> None:
        """Bring what is newer than what is in force; the documents of what is not are not even fetched."""
        present = await self._of_sane_size(redis, place, place.files)
        heads = await _hashes(redis, place, present, (MANIFEST, SIGNATURE))
        newer = [file for file, (text, signature) in heads.items() if self._judge.manifest(place, text, signature, file)]
        await self._bring(redis, place, newer, offer)

    async def _bring(self, redis: Redis, place: Place, files: Iterable[str], offer: Offer) -> None:
        """Fetch, verify and offer the named documents."""
        brought: dict[str, bytes] = {}
        present = await self._of_sane_size(redis, place, files)
        for file, (document, manifest, signature) in (await _hashes(redis, place, present, FIELDS)).items():
            head = self._judge.manifest(place, manifest, signature, file)
            if head is not None and self._judge.is_whole(head, document) and document is not None:
                brought |= {file: document, manifest_of(file): head.manifest}
        await self._offer(place, brought, offer)

    async def _offer(self, place: Place, brought: Mapping[str, bytes], offer: Offer) -> None:
        if brought and self._place == place:
            await offer(MemoryReading(brought))

    async def _of_sane_size(self, redis: Redis, place: Place, files: Iterable[str]) -> list[str]:
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
                self._judge.ignore("Malformed")
            elif max(sizes) > LIMIT_BYTES:
                self._judge.ignore("TooLarge")
            elif max(sizes) > 0:
                sane.append(file)
        return sane

    def _note(self, place: Place | None, trouble: str | None) -> None:
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


async def _subscribed(subscription: PubSub, channel: str) -> None:
    """Wait until a subscription is confirmed. What is published meanwhile is passed over: the catching up brings it."""
    while (answer := await subscription.get_message(timeout=WAKE_SECONDS)) is None or answer["type"] == "message":
        pass
    if answer["type"] != "subscribe" or answer["channel"] != channel.encode():
        raise _Silent


async def _hashes(
    redis: Redis, place: Place, files: Iterable[str], fields: tuple[str, ...]
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
