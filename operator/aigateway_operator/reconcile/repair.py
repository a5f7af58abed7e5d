"""Complete LISTs that repair the store: what watch events never tell.

Deletions behind a 410 are never reported, and absence may be concluded only from a complete list. The first LIST fills the
store and opens the gate for rounds; later ones read metadata alone, every two minutes and after every sign of a re-list. A
LIST that shows changes which the watch has not delivered for long is the sign of a dead watch (liveness).
Source: docs/measured.md#kopf; docs/concepts.md#what-is-never-done; docs/operations.md#health.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from random import Random
from typing import Final

from loguru import logger

from aigateway_operator.api.meta import GatewayKey, ObjectKey
from aigateway_operator.errors import AigatewayError, ClusterError, NotFound
from aigateway_operator.kube.resources import Resource
from aigateway_operator.reconcile.ports import Cluster, JsonObject
from aigateway_operator.reconcile.store import KINDS, Store, parse_stored
from aigateway_operator.waiting import wait

PERIOD_SECONDS: Final = 120.0
SETTLE_SECONDS: Final = 1.0
"""Quiet time after the last object of a re-list before the LIST that repairs."""
RECHECK_SECONDS: Final = 10.0
"""Until the next LIST when the watch has owed a change for that long."""
MAX_BACKOFF_SECONDS: Final = 10.0
UNKNOWN_KIND_SECONDS: Final = 2.0
"""Until the next LIST of a kind that the API server does not know: CRDs that come late, or that were deleted and come back."""


class HistoryWentBack(AigatewayError):
    """LISTs are older than they were: every event would be taken for one that has been seen. Only a new start helps."""


class Repairer:
    """Lists both kinds in all watched namespaces (`namespaces` empty: the whole cluster).

    on_page: told, after each page of the first LISTs, which gateways it concerns. on_listed: called once, when the store has
    been filled; the watch begins then, since its own LIST would take as much of the API server's time as ours, and rounds wait
    for ours.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        namespaces: tuple[str, ...],
        mark: Callable[[GatewayKey], None],
        on_stored: Callable[[Resource, JsonObject], None],
        clock: Callable[[], float],
        on_listed: Callable[[], None] = lambda: None,
        on_page: Callable[[Set[GatewayKey]], None] = lambda _: None,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._on_listed = on_listed
        self._on_page = on_page
        self._scopes: tuple[str | None, ...] = namespaces or (None,)
        self._mark = mark
        self._on_stored = on_stored
        self._clock = clock
        self._random = Random()  # noqa: S311 - jitter, not a secret
        self._signed_at: float | None = None
        self._signed = asyncio.Event()
        self._owed: dict[tuple[Resource, ObjectKey], tuple[float, str]] = {}
        """Object → since when the watch owes it, and the version that a LIST showed."""
        self._unknown_kinds = False
        self._kinds_came_back = False

    def sign_of_relist(self) -> None:
        """Take note that the event source lists again; a LIST of ours follows when it is done."""
        self._signed_at = self._clock()
        self._signed.set()

    def owed_seconds(self) -> float:
        """Return for how long the watch has owed a change that a LIST showed; 0 if it owes nothing."""
        for place, (_, version) in list(self._owed.items()):
            if self._store.has_seen(*place, version):
                del self._owed[place]
        return max((self._clock() - since for since, _ in self._owed.values()), default=0.0)

    def take_kinds_came_back(self) -> bool:
        """Return, once, whether kinds are known again that the API server did not know: a watch made before never sees them."""
        came_back, self._kinds_came_back = self._kinds_came_back, False
        return came_back

    async def run(self) -> None:
        """List until cancelled; never gives up."""
        failures = 0
        while True:
            try:
                for resource in KINDS:
                    await self._list(resource)
            except ClusterError as error:
                failures += 1
                delay = min(MAX_BACKOFF_SECONDS, 0.25 * 2 ** min(failures, 10)) * (0.5 + self._random.random())
                logger.warning("Objects could not be listed, nothing is removed meanwhile: {}", str(error).strip())
                if isinstance(error, NotFound):
                    self._unknown_kinds, delay = True, min(delay, UNKNOWN_KIND_SECONDS)
                await asyncio.sleep(max(delay, error.retry_after_seconds or 0.0))
            else:
                failures = 0
                self._kinds_came_back |= self._unknown_kinds
                self._unknown_kinds = False
                await self._wait()

    async def _wait(self) -> None:
        """Wait for the next time a LIST is due."""
        began = self._clock()
        while (left := self._due(began) - self._clock()) > 0:
            self._signed.clear()
            await wait(self._signed, min(left, RECHECK_SECONDS))
        self._signed_at = None

    def _due(self, began: float) -> float:
        """Return when the next LIST is due; a watch that is only a moment behind is no reason for one."""
        latest = began + PERIOD_SECONDS
        if self._signed_at is not None:
            return min(latest, self._signed_at + SETTLE_SECONDS)
        return began + RECHECK_SECONDS if self.owed_seconds() > 0 else latest

    async def _list(self, resource: Resource) -> None:
        """List one kind completely, then drop what is absent and older than the list."""
        first = not self._store.has_listed(resource)
        present: set[ObjectKey] = set()
        versions: list[str] = []
        for scope in self._scopes:
            async for items, version in self._cluster.list_pages(resource, scope, metadata_only=not first):
                if int(version) < self._store.listed_at(resource):
                    raise HistoryWentBack(
                        f"The API server's resourceVersions went back from {self._store.listed_at(resource)} to {version}, as "
                        "after a restore of etcd: what is known here is of no use any more. This process ends, to begin anew."
                    )
                if first:
                    self._keep(resource, items)
                else:
                    self._compare(resource, items)
                present.update(map(_key_of, items))
                versions.append(version)
        for place in [place for place in self._owed if place[0] == resource and place[1] not in present]:
            del self._owed[place]
        for key in self._store.settle(resource, present, min(versions, key=int)):
            self._mark(key)
        if first and self._store.listed:
            self._on_listed()
            for key in self._store.gateway_keys():
                self._mark(key)

    def _keep(self, resource: Resource, items: list[JsonObject]) -> None:
        """Take a page of a first LIST into the store."""
        marks: set[GatewayKey] = set()
        for item in items:
            marks |= self._store.put(resource, parse_stored(item))
            self._on_stored(resource, item)
        for key in marks:
            self._mark(key)
        self._on_page(marks)

    def _compare(self, resource: Resource, items: list[JsonObject]) -> None:
        """Note what a page of a later LIST shows and the watch has not delivered."""
        for item in items:
            key, version = _key_of(item), item["metadata"]["resourceVersion"]
            if not self._store.has_seen(resource, key, version):
                since, _ = self._owed.get((resource, key), (self._clock(), version))
                self._owed[resource, key] = (since, version)


def _key_of(item: JsonObject) -> ObjectKey:
    return ObjectKey(item["metadata"]["namespace"], item["metadata"]["name"])
