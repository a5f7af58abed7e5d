"""Kubernetes Events for transitions. They are a courtesy: posting never waits, never fails and never floods the API server.

Equal ones are posted once in ten minutes; bursts are cut by a token bucket and a bounded queue, and counted.
Fulfils `Announcer` of `reconcile/ports.py`; `main` stops it.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from loguru import logger

from aigateway_operator.api.meta import GROUP, ObjectKey
from aigateway_operator.errors import ClusterError
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import EVENTS, JsonObject, Resource

REPORTING_CONTROLLER: Final = f"{GROUP}/controller"
QUEUE_SIZE: Final = 500
BURST: Final = 50
PER_SECOND: Final = 1.0
"""Bucket of the whole process: ten thousand objects that turn Ready at once must not cost ten thousand requests."""
QUIET_SECONDS: Final = 600.0
REMEMBERED: Final = 2_000
MAX_NOTE_BYTES: Final = 1_024
"""events.k8s.io/v1 refuses more, and 128 characters for action and reason."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """One Event to be: what it is about, and the words."""

    resource: Resource
    key: ObjectKey
    uid: str
    warning: bool
    reason: str
    action: str
    note: str


class EventPoster:
    """Posts Events, from the first announcement until `stop`.

    `counts`: how many were posted, equal, dropped (queue or bucket) and failed. `waiting`: how many are none of these yet.
    instance: the pod's name; None: the host's.
    """

    def __init__(self, client: KubeClient, instance: str | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._instance = instance or socket.gethostname()
        self._clock = clock
        self._queue: asyncio.Queue[Announcement] = asyncio.Queue(QUEUE_SIZE)
        self._told: OrderedDict[Announcement, float] = OrderedDict()
        self._tokens = float(BURST)
        self._filled_at = clock()
        self._task: asyncio.Task[None] | None = None
        self.counts: Counter[str] = Counter()
        self.waiting = 0

    def announce(
        self, resource: Resource, key: ObjectKey, uid: str, *, warning: bool, reason: str, note: str, action: str = "Reconcile"
    ) -> None:
        """Announce one transition of an object; returns at once."""
        announcement = Announcement(resource, key, uid, warning, reason[:128], action[:128], _cut(note))
        if self._is_repeated(announcement):
            self.counts["equal"] += 1
            return
        if not self._take_token() or self._queue.full():
            self.counts["dropped"] += 1
            return
        self._queue.put_nowait(announcement)
        self.waiting += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._post(), name="events")

    async def stop(self) -> None:
        """Post no more; what still waits is dropped."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _post(self) -> None:
        while True:
            announcement = await self._queue.get()
            try:
                await self._client.create(EVENTS, announcement.key.namespace, self._body(announcement))
            except ClusterError as error:
                self.counts["failed"] += 1
                logger.bind(reason=announcement.reason, name=str(announcement.key)).info("Event was not posted: {}", error)
            else:
                self.counts["posted"] += 1
            finally:
                self.waiting -= 1

    def _is_repeated(self, announcement: Announcement) -> bool:
        now = self._clock()
        told = self._told.get(announcement)
        if told is not None and now - told < QUIET_SECONDS:
            return True
        self._told[announcement] = now
        self._told.move_to_end(announcement)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return False

    def _take_token(self) -> bool:
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._filled_at) * PER_SECOND)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _body(self, announcement: Announcement) -> JsonObject:
        resource, key = announcement.resource, announcement.key
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{key.name[:200]}.{secrets.token_hex(8)}", "namespace": key.namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": "Warning" if announcement.warning else "Normal",
            "reason": announcement.reason,
            "action": announcement.action,
            "note": announcement.note,
            "reportingController": REPORTING_CONTROLLER,
            "reportingInstance": self._instance[:128],
            "regarding": {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "namespace": key.namespace,
                "name": key.name,
                "uid": announcement.uid,
            },
        }


def _cut(note: str) -> str:
    """Return at most MAX_NOTE_BYTES of text, never half a character."""
    data = note.encode()
    return note if len(data) <= MAX_NOTE_BYTES else data[: MAX_NOTE_BYTES - 3].decode(errors="ignore") + "…"
