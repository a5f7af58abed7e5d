"""Write statuses: beside the rounds, at lower priority, a few at a time or one while rounds are due, and only what changed.

One entry per object waits here; a newer wish replaces an older one. A patch carries the resourceVersion it was made for, so
that neither a newer generation nor a new leader is overwritten; what the API server answers is put into the store, so that
our own write is not taken for news.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

from loguru import logger

from aigateway_operator.api import meta
from aigateway_operator.api.conditions import ConditionType, Reason, Verdict, merge_conditions
from aigateway_operator.api.meta import GatewayKey, ObjectKey
from aigateway_operator.errors import ClusterError, Conflict, NotFound
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS, Resource
from aigateway_operator.plan.packed import pack, unpack
from aigateway_operator.plan.result import StatusWrite
from aigateway_operator.plan.snapshot import Stored
from aigateway_operator.reconcile.ports import Announcer, Cluster, JsonObject, Leadership
from aigateway_operator.reconcile.store import Store, parse_stored
from aigateway_operator.waiting import wait

MAX_IN_FLIGHT: Final = 4
"""More take the API server's time from documents (docs/decisions.md, "Bursts"). While a round is due or under way it is one."""
ROOM_FACTOR: Final = 3.0
"""While a round is due or under way, a pause of so many times what the last write took follows it: a quarter of the time."""
ROOM_SECONDS: Final = 0.1
"""Longest such pause, and how long the others wait before they look again whether rounds are done."""
GATEWAY_INTERVAL_SECONDS: Final = 1.0
"""Least time between two status writes of one GatewayConfig: its counts move with every model of a burst.

That all pods have taken up a revision is told at once: people and pipelines wait for it, and it comes once a revision.
"""
CONFLICT_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 2.0
"""First wait after a conflict (until the watch has told what changed) and after any other failure; both double each time."""
MAX_RETRY_SECONDS: Final = 60.0

RESOURCES: Final[dict[str, Resource]] = {meta.VIRTUAL_MODEL: VIRTUAL_MODELS, meta.GATEWAY_CONFIG: GATEWAY_CONFIGS}


_LAGGING: Final = frozenset({Reason.STRAGGLERS, Reason.UNREACHABLE})


_Place = tuple[Resource, ObjectKey]


@dataclass(slots=True)
class _Wish:
    """A status that waits. packed: a StatusWrite; after a burst thousands wait, and unpacked each is four times as large."""

    packed: bytes
    not_before: float
    failures: int = 0


def _packed(write: StatusWrite) -> bytes:
    verdicts = [(verdict.type, verdict.status, verdict.reason, verdict.message) for verdict in write.verdicts]
    whole = (write.kind, write.name, write.uid, write.generation, verdicts, write.fields, write.urgent)
    return pack(json.dumps(whole).encode())


def _unpacked(packed: bytes) -> StatusWrite:
    kind, name, uid, generation, verdicts, fields, urgent = json.loads(unpack(packed))
    said = tuple(Verdict(ConditionType(what), status, Reason(reason), text) for what, status, reason, text in verdicts)
    return StatusWrite(kind, name, uid, generation, said, fields, urgent)


def desired_status(write: StatusWrite, current: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the whole status an object should have; equal to `current` when nothing is to be written."""
    conditions = merge_conditions(current.get("conditions") or [], write.verdicts, write.generation, now)
    return {"observedGeneration": write.generation, **write.fields, "conditions": conditions}


def merge_patch(current: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the merge patch that turns one status into the other; fields that vanish become null, at every level."""
    patch: dict[str, Any] = {name: None for name in current if name not in wanted}
    for name, value in wanted.items():
        before = current.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            value = merge_patch(before, value)
            if value:
                patch[name] = value
        elif before != value or name not in current:
            patch[name] = value
    return patch


def _changes(write: StatusWrite, current: dict[str, Any], now: datetime) -> bool:
    """Tell whether a status is not yet as it should be."""
    return bool(merge_patch(current, desired_status(write, current, now)))


class StatusWriter:
    """The queue of statuses to write and the workers that write them.

    mark: asks for a round. on_missing: called when an object that the store has is not there (its deletion was never told).
    busy: tells whether a round is due or under way, which statuses leave room for.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        leadership: Leadership,
        announcer: Announcer,
        mark: Callable[[GatewayKey], None],
        clock: Callable[[], float],
        on_missing: Callable[[], None],
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._leadership = leadership
        self._announcer = announcer
        self._mark = mark
        self._clock = clock
        self._on_missing = on_missing
        self._busy = busy
        self._failing = ""
        self._wishes: dict[_Place, _Wish] = {}
        self._last: dict[_Place, float] = {}
        self._in_flight: set[_Place] = set()
        self._room_until = float("-inf")
        self._lagging: dict[ObjectKey, str] = {}
        self._due: dict[Resource, list[tuple[float, int, _Place]]] = {GATEWAY_CONFIGS: [], VIRTUAL_MODELS: []}
        """When each wish is due, soonest first. Entries of wishes that were moved, taken or dropped are passed over.

        GatewayConfigs come first: after a burst thousands of models wait, and pipelines for what sums them up.
        """
        self._numbers = count()
        self._changed = asyncio.Event()
        self.written = 0

    def wish(self, namespace: str, write: StatusWrite, *, after_seconds: float = 0.0) -> None:
        """Ask for a status, to be written not before `after_seconds`; nothing happens if the object has it already."""
        resource, key = RESOURCES[write.kind], ObjectKey(namespace, write.name)
        stored = self._store.get(resource, key)
        place = (resource, key)
        if stored is None or stored.uid != write.uid:
            return
        waiting = self._wishes.get(place)
        if waiting is not None:
            waiting.packed = _packed(write)
            if write.urgent and not waiting.failures:
                self._queue(place, waiting, self._clock())
            return
        if place not in self._in_flight and not _changes(write, stored.parse_status(), datetime.now(UTC)):
            return
        not_before = self._clock() + after_seconds
        if resource == GATEWAY_CONFIGS and not write.urgent:
            not_before = max(not_before, self._last.get(place, float("-inf")) + GATEWAY_INTERVAL_SECONDS)
        self._wishes[place] = wish = _Wish(_packed(write), not_before)
        self._queue(place, wish, not_before)

    def in_flight(self, resource: Resource, key: ObjectKey) -> bool:
        """Tell whether a status of this object is being written: an event that changes nothing else is then our own."""
        return (resource, key) in self._in_flight

    def forget(self, resource: Resource, key: ObjectKey) -> None:
        """Drop what is remembered of an object that is gone."""
        self._wishes.pop((resource, key), None)
        self._last.pop((resource, key), None)
        if resource == GATEWAY_CONFIGS:
            self._lagging.pop(key, None)

    def forget_wishes(self) -> None:
        """Drop everything that waits: another process leads now."""
        self._wishes.clear()
        for due in self._due.values():
            due.clear()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._wishes and not self._in_flight

    @property
    def waiting(self) -> int:
        """How many objects wait for a status or have one under way."""
        return len(self._wishes.keys() | self._in_flight)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(MAX_IN_FLIGHT):
                workers.create_task(self._work())

    async def _work(self) -> None:
        while True:
            place, wish = await self._take()
            began = self._clock()
            try:
                await self._write(place, wish)
            except Exception:  # noqa: BLE001 - a fault of ours with one object must not stop the others
                logger.bind(kind=place[0].kind, object=str(place[1])).exception("Writing a status broke")
                self._retry_later(place, wish, RETRY_SECONDS)
            finally:
                self._in_flight.discard(place)
                now = self._clock()
                self._room_until = now + min(ROOM_SECONDS, ROOM_FACTOR * (now - began))
                if (waiting := self._wishes.get(place)) is not None:
                    self._queue(place, waiting, waiting.not_before)  # it was passed over while this write was under way
                self._changed.set()

    async def _take(self) -> tuple[_Place, _Wish]:
        """Wait for the wish that is due first and take it out, at a cost that hardly grows with those that wait."""
        while True:
            now = self._clock()
            pause = self._pause(now)
            taken = self._take_due(now) if not pause else None
            if taken is not None:
                return taken
            self._changed.clear()
            soonest = min((due[0][0] for due in self._due.values() if due), default=None)
            await wait(self._changed, None if soonest is None else max(soonest - now, pause))

    def _pause(self, now: float) -> float:
        """Return the seconds for which nothing more is written, for the sake of documents; 0.0: no reason to wait."""
        if not self._busy():
            return 0.0
        return ROOM_SECONDS if self._in_flight else max(0.0, self._room_until - now)

    def _take_due(self, now: float) -> tuple[_Place, _Wish] | None:
        for waiting in self._due.values():
            while waiting and waiting[0][0] <= now:
                due, _, place = heappop(waiting)
                wish = self._wishes.get(place)
                if wish is not None and wish.not_before == due and place not in self._in_flight:
                    del self._wishes[place]
                    self._in_flight.add(place)
                    return place, wish
        return None

    def _queue(self, place: _Place, wish: _Wish, not_before: float) -> None:
        wish.not_before = not_before
        heappush(self._due[place[0]], (not_before, next(self._numbers), place))
        self._changed.set()

    async def _write(self, place: _Place, wish: _Wish) -> None:
        (resource, key), write = place, _unpacked(wish.packed)
        stored = self._store.get(resource, key)
        if stored is None or stored.uid != write.uid or stored.generation != write.generation:
            return
        if not self._leadership.is_leader:
            # Leadership may come back by an answer that was late; a real loss clears all wishes. No failure of the write's.
            self._wish_again(place, _Wish(wish.packed, self._clock() + RETRY_SECONDS, wish.failures))
            return
        current = stored.parse_status()
        wanted = desired_status(write, current, datetime.now(UTC))
        patch = merge_patch(current, wanted)
        if not patch:
            return
        body: JsonObject = {"metadata": {"resourceVersion": stored.resource_version}, "status": patch}
        try:
            answer = await self._cluster.patch_status(resource, key.namespace, key.name, body)
        except Conflict:
            self._retry_later(place, wish, CONFLICT_SECONDS)
            return
        except ClusterError as error:
            if isinstance(error, NotFound):
                self._on_missing()
            self._tell_failure(place, error)
            self._retry_later(place, wish, RETRY_SECONDS, error.retry_after_seconds or 0.0)
            return
        self._failing = ""
        self.written += 1
        updated = parse_stored(answer)
        if resource == GATEWAY_CONFIGS:
            self._last[place] = self._clock()
        self._store.put(resource, updated)
        latest = self._store.get(resource, key)
        if latest is None or latest.resource_version != updated.resource_version:
            # Changed again while we wrote; its event may have been taken for our own.
            self._mark(GatewayKey(key.namespace, key.name if resource == GATEWAY_CONFIGS else stored.gateway))
        self._announce(resource, stored, current, wanted)
        if resource == GATEWAY_CONFIGS:
            self._announce_propagation(stored, current, wanted)
            self._announce_datastores(stored, current, wanted)

    def _retry_later(self, place: _Place, wish: _Wish, first: float, at_least: float = 0.0) -> None:
        """Try again with growing back-off, unless something newer is wished for already."""
        delay = max(at_least, min(MAX_RETRY_SECONDS, first * 2.0 ** min(wish.failures, 16)))
        self._wish_again(place, _Wish(wish.packed, self._clock() + delay, wish.failures + 1))

    def _wish_again(self, place: _Place, wish: _Wish) -> None:
        if place not in self._wishes:
            self._wishes[place] = wish
            self._queue(place, wish, wish.not_before)

    def _tell_failure(self, place: _Place, error: ClusterError) -> None:
        """Log a kind of failure once until a write succeeds again: in an outage every object fails the same way."""
        level = "DEBUG" if self._failing == type(error).__name__ else "WARNING"
        self._failing = type(error).__name__
        logger.bind(kind=place[0].kind, namespace=place[1].namespace, name=place[1].name).log(
            level, "Status was not written, trying again with growing pauses: {}", error
        )

    def _announce(self, resource: Resource, stored: Stored, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Announce that Ready became False, why it is False now, or that it is True again; a first success is no news.

        Ready sums the others up, so that one mistake, which moves several conditions, is told once.
        """
        old, new = _condition(before, ConditionType.READY), _condition(after, ConditionType.READY)
        was_false, is_false = old.get("status") == "False", new.get("status") == "False"
        if is_false == was_false and (not is_false or old.get("reason") == new.get("reason")):
            return
        if not is_false and new.get("status") != "True":
            return
        key = ObjectKey(stored.namespace, stored.name)
        self._announcer.announce(resource, key, stored.uid, warning=is_false, reason=new["reason"], note=new["message"])

    def _announce_propagation(self, stored: Stored, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Announce that pods are behind or out of reach, and that all run the revision again; progress is no news."""
        key = ObjectKey(stored.namespace, stored.name)
        old, new = _condition(before, ConditionType.PROPAGATED), _condition(after, ConditionType.PROPAGATED)
        if old.get("reason") in _LAGGING:
            self._lagging.setdefault(key, old["reason"])
        if new.get("reason") in _LAGGING:
            if self._lagging.get(key) == new["reason"]:
                return
            self._lagging[key] = new["reason"]
        elif new.get("status") != "True" or self._lagging.pop(key, None) is None:
            return
        warning = new["status"] != "True"
        self._announcer.announce(GATEWAY_CONFIGS, key, stored.uid, warning=warning, reason=new["reason"], note=new["message"])

    def _announce_datastores(self, stored: Stored, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Announce that a datastore is bad, or that all are up again; the first good news is none."""
        old, new = _condition(before, ConditionType.DATASTORES_READY), _condition(after, ConditionType.DATASTORES_READY)
        was_false, is_false = old.get("status") == "False", new.get("status") == "False"
        same = is_false == was_false and (not is_false or old.get("message") == new.get("message"))
        if same or not (is_false or new.get("status") == "True"):
            return
        key, reason = ObjectKey(stored.namespace, stored.name), f"Datastores{new['reason']}"
        self._announcer.announce(GATEWAY_CONFIGS, key, stored.uid, warning=is_false, reason=reason, note=new["message"])


def _condition(status: dict[str, Any], kind: ConditionType) -> dict[str, Any]:
    for condition in status.get("conditions") or []:
        if condition["type"] == kind:
            return dict(condition)
    return {}
