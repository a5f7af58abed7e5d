"""The Redis mirrors of all gateways: what the reconciler sees of them. Fulfils `Mirrors` of `reconcile/ports.py`.

A mirror is an accelerator: the mounted volume is the truth, and nothing here delays a round or makes one fail. Targets are
given after their documents have been written to the cluster, and only while this process leads.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from aigateway_config.mirror import CHANNEL
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.plan.mirroring import MirrorTarget
from aigateway_operator.rollout.mirror_writer import MirrorTools, MirrorWriter, clear


class RedisMirrors:
    """Keeps every gateway's mirror at its target.

    resolve: see `resolve.Resolver`. on_change(key): `trouble(key)` changed. may_write: this process leads. `clock`: monotonic
    seconds. Methods belong to one event loop.
    """

    def __init__(
        self,
        resolve: Callable[[str], Awaitable[str]],
        *,
        on_change: Callable[[GatewayKey], None],
        may_write: Callable[[], bool],
        clock: Callable[[], float],
        channel: str = CHANNEL,
        random: Random | None = None,
    ) -> None:
        chosen = random or Random()  # noqa: S311 - jitter, not a secret
        self._tools = MirrorTools(resolve, channel, may_write, on_change, clock, chosen)
        self._writers: dict[GatewayKey, MirrorWriter] = {}
        self._clearing: dict[GatewayKey, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def counts(self) -> Counter[str]:
        """Documents written, failures and connections since start."""
        return self._tools.counts

    def set_target(self, key: GatewayKey, target: MirrorTarget) -> None:
        """Mirror this from now on; the newest target wins. Never waits."""
        writer = self._writers.get(key)
        if writer is None:
            self._writers[key] = MirrorWriter(target, self._tools, after=self._clearing.get(key))
            return
        before = writer.target
        writer.aim(target)
        if (before.endpoint.host, before.endpoint.port) != (target.endpoint.host, target.endpoint.port):
            self._end(asyncio.create_task(clear(before, self._tools)))

    def drop(self, key: GatewayKey) -> None:
        """Mirror a gateway no more, and remove what is in Redis if that can be done. Never waits."""
        writer = self._writers.pop(key, None)
        if writer is None:
            return
        self._cancel(writer)
        task = asyncio.create_task(self._clear_after(writer))
        self._clearing[key] = task
        task.add_done_callback(lambda done: self._forget_clearing(key, done))
        self._end(task)

    def trouble(self, key: GatewayKey) -> str | None:
        """Return what is wrong with a mirror, as sentences; "" for nothing, None: not known (yet)."""
        writer = self._writers.get(key)
        return None if writer is None else writer.health.trouble

    def stand_by(self) -> None:
        """Write no more: another process leads. What is in Redis stays."""
        for writer in self._writers.values():
            self._cancel(writer)
        self._writers.clear()

    async def stop(self) -> None:
        """Stop for good; returns when nothing is under way, except that what is in Redis is not removed any more."""
        self.stand_by()
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _clear_after(self, writer: MirrorWriter) -> None:
        await asyncio.wait([writer.task])
        await clear(writer.target, self._tools)

    def _cancel(self, writer: MirrorWriter) -> None:
        writer.task.cancel()
        self._end(writer.task)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _forget_clearing(self, key: GatewayKey, task: asyncio.Task[None]) -> None:
        if self._clearing.get(key) is task:
            del self._clearing[key]
