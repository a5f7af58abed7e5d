"""Write statuses: beside the rounds, at lower priority, a few at a time or one while rounds are due, and only what changed.

One entry per object waits here; a newer wish replaces an older one. A patch carries the resourceVersion it was made for, so
that neither a newer generation nor a new leader is overwritten; what the API server answers is put into the store, so that
our own write is not taken for news.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

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

That all pods have taken up a revision is told at once: people and pipelines wait for it, and it comes once a revision. So is
what has become of an edit, once a generation: models do not change that of their GatewayConfig.
"""
CONFLICT_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 2.0
"""First wait after a conflict (until the watch has told what changed) and after any other failure; both double each time."""
MAX_RETRY_SECONDS: Final = 60.0

RESOURCES: Final[dict[str, Resource]] = {meta.VIRTUAL_MODEL: VIRTUAL_MODELS, meta.GATEWAY_CONFIG: GATEWAY_CONFIGS}


_LAGGING: Final = frozenset({Reason.STRAGGLERS, Reason.UNREACHABLE})


class _Place(NamedTuple):
    """An object whose status is written."""

    resource: Resource
    namespace: str
    name: str

    @property
    def key(self) -> ObjectKey:
        """Its name as the store has it."""
        return ObjectKey(self.namespace, self.name)


@dataclass(slots=True, eq=False)
class _Wish:
    """A status that waits, as do thousands after a burst: 0.3 kB each. uid, packed: what its place does not say of it.

    Wishes are sorted by when they are due. Another time takes another wish, so that the one in the queue is passed over.
    """

    place: _Place
    uid: str
    packed: bytes
    not_before: float
    failures: int = 0

    def __lt__(self, other: _Wish) -> bool:
        return self.not_before < other.not_before


def _packed(write: StatusWrite) -> bytes:
    """Return it packed, in the words of a status, which `packed` knows by heart."""
    said = [
        {
            "message": verdict.message,
            "observedGeneration": write.generation,
            "reason": verdict.reason,
            "status": verdict.status,
            "type": verdict.type,
        }
        for verdict in write.verdicts
    ]
    whole = {"conditions": said, "fields": write.fields, "observedGeneration": write.generation}
    return pack(json.dumps(whole, separators=(",", ":")).encode())


def _unpacked(wish: _Wish) -> StatusWrite:
    whole, place = json.loads(unpack(wish.packed)), wish.place
    said = tuple(
        Verdict(ConditionType(one["type"]), one["status"], Reason(one["reason"]), one["message"]) for one in whole["conditions"]
    )
    return StatusWrite(place.resource.kind, place.name, wish.uid, whole["observedGeneration"], said, whole["fields"])


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
        self._due: dict[Resource, list[_Wish]] = {GATEWAY_CONFIGS: [], VIRTUAL_MODELS: []}
        """Every wish, the one that is due first in front. Those that were moved, taken or dropped are passed over.

        GatewayConfigs come first: after a burst thousands of models wait, and pipelines for what sums them up.
        """
        self._changed = asyncio.Event()
        self.written = 0

    def wish(self, namespace: str, write: StatusWrite, *, after_seconds: float = 0.0) -> None:
        """Ask for a status, to be written not before `after_seconds`; nothing happens if the object has it already."""
        resource, key = RESOURCES[write.kind], ObjectKey(namespace, write.name)
        stored = self._store.get(resource, key)
        if stored is None or stored.uid != write.uid:
            return
        place = _Place(resource, stored.namespace, stored.name)
        urgent = write.urgent or (resource == GATEWAY_CONFIGS and stored.told("observedGeneration") != write.generation)
        not_before = self._clock() + after_seconds
        waiting = self._wishes.get(place)
        if waiting is not None:
            waiting.uid, waiting.packed = stored.uid, _packed(write)
            if urgent and not waiting.failures and not_before < waiting.not_before:
                self._queue(replace(waiting, not_before=not_before))
            return
        if place not in self._in_flight and not _changes(write, stored.parse_status(), datetime.now(UTC)):
            return
        if resource == GATEWAY_CONFIGS and not urgent:
            not_before = max(not_before, self._last.get(place, float("-inf")) + GATEWAY_INTERVAL_SECONDS)
        self._queue(_Wish(place, stored.uid, _packed(write), not_before))

    def in_flight(self, resource: Resource, key: ObjectKey) -> bool:
        """Tell whether a status of this object is being written: an event that changes nothing else is then our own."""
        return _Place(resource, *key) in self._in_flight

    def forget(self, resource: Resource, key: ObjectKey) -> None:
        """Drop what is remembered of an object that is gone."""
        place = _Place(resource, *key)
        self._wishes.pop(place, None)
        self._last.pop(place, None)
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
            wish = await self._take()
            place, began = wish.place, self._clock()
            try:
                await self._write(wish)
            except Exception:  # noqa: BLE001 - a fault of ours with one object must not stop the others
                logger.bind(kind=place.resource.kind, object=str(place.key)).exception("Writing a status broke")
                self._retry_later(wish, RETRY_SECONDS)
            finally:
                self._in_flight.discard(place)
                now = self._clock()
                self._room_until = now + min(ROOM_SECONDS, ROOM_FACTOR * (now - began))
                if (waiting := self._wishes.get(place)) is not None:
                    self._queue(waiting)  # it was passed over while this write was under way
                self._changed.set()

    async def _take(self) -> _Wish:
        """Wait for the wish that is due first and take it out, at a cost that hardly grows with those that wait."""
        while True:
            now = self._clock()
            pause = self._pause(now)
            taken = self._take_due(now) if not pause else None
            if taken is not None:
                return taken
            self._changed.clear()
            soonest = min((due[0].not_before for due in self._due.values() if due), default=None)
            await wait(self._changed, None if soonest is None else max(soonest - now, pause))

    def _pause(self, now: float) -> float:
        """Return the seconds for which nothing more is written, for the sake of documents; 0.0: no reason to wait."""
        if not self._busy():
            return 0.0
        return ROOM_SECONDS if self._in_flight else max(0.0, self._room_until - now)

    def _take_due(self, now: float) -> _Wish | None:
        for waiting in self._due.values():
            while waiting and waiting[0].not_before <= now:
                wish = heappop(waiting)
                if self._wishes.get(wish.place) is wish and wish.place not in self._in_flight:
                    del self._wishes[wish.place]
                    self._in_flight.add(wish.place)
                    if not self._wishes:
                        self._wishes = {}  # one that has held thousands keeps their room
                    return wish
        return None

    def _queue(self, wish: _Wish) -> None:
        """Let a wish wait, in place of the one that its object has, if any."""
        self._wishes[wish.place] = wish
        heappush(self._due[wish.place.resource], wish)
        self._changed.set()

    async def _write(self, wish: _Wish) -> None:
        resource, key, write = wish.place.resource, wish.place.key, _unpacked(wish)
        stored = self._store.get(resource, key)
        if stored is None or stored.uid != write.uid or stored.generation != write.generation:
            return
        if not self._leadership.is_leader:
            # Leadership may come back by an answer that was late; a real loss clears all wishes. No failure of the write's.
            self._wish_again(replace(wish, not_before=self._clock() + RETRY_SECONDS))
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
            self._retry_later(wish, CONFLICT_SECONDS)
            return
        except ClusterError as error:
            if isinstance(error, NotFound):
                self._on_missing()
            self._tell_failure(wish.place, error)
            self._retry_later(wish, RETRY_SECONDS, error.retry_after_seconds or 0.0)
            return
        self._failing = ""
        self.written += 1
        updated = parse_stored(answer)
        if resource == GATEWAY_CONFIGS:
            self._last[wish.place] = self._clock()
        self._store.put(resource, updated)
        latest = self._store.get(resource, key)
        if latest is None or latest.resource_version != updated.resource_version:
            # Changed again while we wrote; its event may have been taken for our own.
            self._mark(GatewayKey(key.namespace, key.name if resource == GATEWAY_CONFIGS else stored.gateway))
        self._announce(resource, stored, current, wanted)
        if resource == GATEWAY_CONFIGS:
            self._announce_propagation(stored, current, wanted)
            self._announce_datastores(stored, current, wanted)

    def _retry_later(self, wish: _Wish, first: float, at_least: float = 0.0) -> None:
        """Try again with growing back-off, unless something newer is wished for already."""
        delay = max(at_least, min(MAX_RETRY_SECONDS, first * 2.0 ** min(wish.failures, 16)))
        self._wish_again(replace(wish, not_before=self._clock() + delay, failures=wish.failures + 1))

    def _wish_again(self, wish: _Wish) -> None:
        if wish.place not in self._wishes:
            self._queue(wish)

    def _tell_failure(self, place: _Place, error: ClusterError) -> None:
        """Log a kind of failure once until a write succeeds again: in an outage every object fails the same way."""
        level = "DEBUG" if self._failing == type(error).__name__ else "WARNING"
        self._failing = type(error).__name__
        logger.bind(kind=place.resource.kind, namespace=place.namespace, name=place.name).log(
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
