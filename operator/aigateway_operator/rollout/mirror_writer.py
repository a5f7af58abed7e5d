"""Keeps the Redis mirror of one gateway at its newest target: writes what differs, tells it on the channel, looks again.

What Redis holds is read by signatures, when a connection begins and every few seconds after: so a restart of the operator
writes nothing, and what was lost, evicted or overwritten comes back. Each document goes in one transaction with its message.
Only the newest target counts; nothing queues while Redis is away, and nobody waits for it. Where few documents differ, each is
published whole before it is written, for pods that need not fetch it then.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from aigateway_config.mirror import (
    DOCUMENT,
    MANIFEST,
    SIGNATURE,
    Invalidation,
    body_channel,
    document_key,
    join_body,
    possible_files,
    sign,
)
from aigateway_config.redis_connection import raise_if_cancelled, reason_of, redis_client
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.plan.mirroring import MirrorTarget
from aigateway_operator.plan.outcome import WrittenDocument
from aigateway_operator.rollout.mirror_health import MirrorHealth
from aigateway_operator.rollout.resolve import Unresolved

if TYPE_CHECKING:
    from redis.asyncio import Redis

LOOK_SECONDS: Final = 10.0
"""How often an idle mirror is looked at: that is how a Redis that went away is noticed without an edit."""
BACK_OFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits after failures in a row; the last one repeats. Half as much again is added at random."""
MAX_BODIES: Final = 4
"""Documents of one target that are published whole. Pods coalesce what they are told of and fetch; what is published, each of
them gets, as often as it changes: that is for edits, not for bursts or a Redis that has lost everything."""
STEP_SECONDS: Final = 10.0
"""Limit of one look or one write, whatever the driver's own limits make of it."""


@dataclass(frozen=True, slots=True)
class MirrorTools:
    """What writers work with.

    resolve: name → checked address, raises Unresolved. may_write: this process leads. on_change: what is said of a
    mirror is another than before. counts: documents written, failures, connections.
    """

    resolve: Callable[[str], Awaitable[str]]
    channel: str
    may_write: Callable[[], bool]
    on_change: Callable[[GatewayKey], None]
    clock: Callable[[], float]
    random: Random
    counts: Counter[str] = field(default_factory=Counter)


class MirrorWriter:
    """Writes until it is stopped. `after`: to be waited for first."""

    def __init__(self, target: MirrorTarget, tools: MirrorTools, after: asyncio.Task[None] | None = None) -> None:
        self.health = MirrorHealth(tools.clock)
        self._target, self._tools = target, tools
        self._changed = asyncio.Event()
        self._failures = 0
        self._signed: dict[str, tuple[bytes, bytes, str]] = {}
        self._publishes = True
        self._log = logger.bind(namespace=target.gateway.namespace, gateway=target.gateway.name)
        self.task = asyncio.create_task(self._run(after), name=f"mirror of {target.gateway}")

    @property
    def target(self) -> MirrorTarget:
        """The newest target."""
        return self._target

    def aim(self, target: MirrorTarget) -> None:
        """Write this instead."""
        self._target = target
        self._changed.set()

    async def _run(self, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        while True:
            target = self._target
            try:
                await self._attach(target)
            except Unresolved as error:
                self._failed(target, str(error))
            except Exception as error:  # noqa: BLE001 - whatever the driver raises: the mirror must come back by itself
                reason = reason_of(error)
                self._failed(target, reason)
                self._log.debug("Redis mirror: {} ({})", reason, type(error).__name__)
            else:
                continue  # Redis has moved
            await self._back_off(target)

    async def _attach(self, target: MirrorTarget) -> None:
        """Keep one connection in use until the target is elsewhere."""
        if target.missing is not None:
            raise Unresolved(f"cannot be reached: credentials file '{target.missing}' has no value; see ResolvedRefs")
        address = await self._tools.resolve(target.endpoint.host)
        self._tools.counts["connections"] += 1
        self._publishes = True
        async with redis_client(target.endpoint, address=address) as redis:
            await self._keep(redis, target)

    async def _keep(self, redis: Redis, began: MirrorTarget) -> None:
        held: dict[str, str] | None = None
        while _same_place(self._target, began):
            self._changed.clear()
            target = self._target
            if not self._tools.may_write():
                held = None
            else:
                if held is None:
                    held = await self._look(redis, target)
                if await self._write(redis, target, held):
                    self._worked()
            if not await self._wait(LOOK_SECONDS):
                held = None

    async def _write(self, redis: Redis, target: MirrorTarget, held: dict[str, str]) -> bool:
        """Write what differs from `held`, signatures by file; return False if it was given up for a newer target."""
        behind = [
            (file, document, signature)
            for file, document in target.documents.items()
            if document is not None and held.get(file) != (signature := self._sign(file, document.manifest, target.key))
        ]
        for file, document, signature in behind:
            if self._target is not target or not self._tools.may_write():
                return False
            held.pop(file, None)
            async with asyncio.timeout(STEP_SECONDS):
                if len(behind) <= MAX_BODIES:
                    await self._publish(redis, target.gateway, document, signature)
                await self._put(redis, target.gateway, file, document, signature)
            held[file] = signature
        return True

    def _sign(self, file: str, manifest: bytes, key: bytes) -> str:
        """Return the signature of a manifest, computed anew only if manifest or key is another than last time."""
        known = self._signed.get(file)
        if known is None or known[:2] != (manifest, key):
            known = self._signed[file] = manifest, key, sign(manifest, key)
        return known[2]

    async def _publish(self, redis: Redis, gateway: GatewayKey, document: WrittenDocument, signature: str) -> None:
        """Publish a document for those that listen, before it is written; where that is not permitted they fetch it."""
        from redis.exceptions import NoPermissionError

        body = join_body(document.content, document.manifest, signature) if self._publishes else None
        if body is None:
            return
        channel = body_channel(self._tools.channel, str(gateway))
        try:
            await redis.publish(channel, body)
        except NoPermissionError:
            self._publishes = False
            self._log.info("Redis does not permit channel {}; pods fetch documents", channel)

    async def _put(self, redis: Redis, gateway: GatewayKey, file: str, document: WrittenDocument, signature: str) -> None:
        key = document_key(str(gateway), file)
        message = Invalidation(key=key, gateway=str(gateway), document=file, revision=document.revision)
        fields: Any = {DOCUMENT: document.content, MANIFEST: document.manifest, SIGNATURE: signature}
        async with redis.pipeline(transaction=True) as transaction:
            transaction.unlink(key)  # whatever somebody else has put there, of whatever type
            transaction.hset(key, mapping=fields)
            transaction.publish(self._tools.channel, message.model_dump_json())
            await transaction.execute()
        self._tools.counts["documents"] += 1

    async def _look(self, redis: Redis, target: MirrorTarget) -> dict[str, str]:
        """Return the signatures that are there, by file, and remove documents that this gateway does not have."""
        gateway, files = str(target.gateway), list(target.documents)
        strangers = [document_key(gateway, file) for file in possible_files() if file not in target.documents]
        async with asyncio.timeout(STEP_SECONDS), redis.pipeline(transaction=False) as pipeline:
            for file in files:
                pipeline.hget(document_key(gateway, file), SIGNATURE)
            if strangers:
                pipeline.unlink(*strangers)
            answers = await pipeline.execute(raise_on_error=False)
        for answer in answers[len(files) :]:
            if isinstance(answer, Exception):
                raise answer
        found = {file: answer for file, answer in zip(files, answers, strict=False) if isinstance(answer, bytes)}
        return {file: answer.decode(errors="replace") for file, answer in found.items()}

    async def _wait(self, seconds: float) -> bool:
        """Wait for a newer target; return False if there is none within `seconds`."""
        raise_if_cancelled()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        return self._changed.is_set()

    async def _back_off(self, failed: MirrorTarget) -> None:
        """Wait after a failure; another place of Redis or another password is tried at once."""
        step = BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS)) - 1]
        until = self._tools.clock() + step * (1 + self._tools.random.random() / 2)
        while _same_place(self._target, failed) and (left := until - self._tools.clock()) > 0:
            self._changed.clear()
            await self._wait(left)

    def _worked(self) -> None:
        self._failures = 0
        if self.health.worked():
            self._log.info("Redis mirror holds every document")
            self._tools.on_change(self._target.gateway)

    def _failed(self, target: MirrorTarget, reason: str) -> None:
        self._failures += 1
        self._tools.counts["failures"] += 1
        sentence = f"Redis at {target.endpoint.place} {reason}. Pods read the mounted volume meanwhile."
        if self.health.failed(sentence):
            self._log.warning("Redis mirror is behind: {}", sentence)
            self._tools.on_change(target.gateway)


async def clear(target: MirrorTarget, tools: MirrorTools) -> None:
    """Remove a gateway's documents from Redis, once and as well as it can be done; raises nothing."""
    try:
        async with asyncio.timeout(STEP_SECONDS):
            address = await tools.resolve(target.endpoint.host)
            async with redis_client(target.endpoint, address=address) as redis:
                await redis.unlink(*(document_key(str(target.gateway), file) for file in possible_files()))
    except Exception as error:  # noqa: BLE001 - what stays behind is ignored by readers: it gets no newer
        logger.bind(namespace=target.gateway.namespace, gateway=target.gateway.name).info(
            "Documents stay in Redis: it could not be reached ({})", type(error).__name__
        )


def _same_place(one: MirrorTarget, other: MirrorTarget) -> bool:
    return (one.endpoint, one.missing) == (other.endpoint, other.missing)
