"""The reconciler: events in, rounds out. One round per gateway at a time: observe → plan → act → wish statuses.

Every event does the same one thing: it marks gateways. What a round does depends only on the whole snapshot, so lost, doubled
and reordered events cost at most a round. All methods run in one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import Final

from loguru import logger

from aigateway_operator.api.meta import GatewayKey, ObjectKey
from aigateway_operator.errors import ClusterError, Conflict, Forbidden, Rejected
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, Resource
from aigateway_operator.plan import names
from aigateway_operator.plan.memo import Memo
from aigateway_operator.plan.planner import plan
from aigateway_operator.plan.refusal import refused
from aigateway_operator.plan.result import Plan
from aigateway_operator.plan.snapshot import Snapshot, Stored
from aigateway_operator.reconcile.act import Actor
from aigateway_operator.reconcile.gateway_state import GatewayState
from aigateway_operator.reconcile.journal import Journal
from aigateway_operator.reconcile.observe import Observer
from aigateway_operator.reconcile.ports import (
    Announcer,
    Cluster,
    JsonObject,
    Leadership,
    Mirrors,
    Owned,
    Prober,
    Recorder,
    Rollouts,
    Secrets,
)
from aigateway_operator.reconcile.queue import CoalescingQueue
from aigateway_operator.reconcile.repair import Repairer
from aigateway_operator.reconcile.report import GatewayReport, report
from aigateway_operator.reconcile.status_writer import StatusWriter
from aigateway_operator.reconcile.store import KINDS, Store, parse_stored
from aigateway_operator.reconcile.telling import Done, Teller
from aigateway_operator.rules import RuleContext

WORKERS: Final = 4
"""Gateways that are reconciled at the same time."""
FOREIGN_SECONDS: Final = 15.0
"""How often a name that somebody else holds is looked at again; such objects carry no label of ours and are not watched."""

STANDBY_SECONDS: Final = 2.0
"""How often a standby looks whether it leads: a renewal whose answer was late brings leadership back without a call."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The adapters a controller works with."""

    cluster: Cluster
    secrets: Secrets
    owned: Owned
    leadership: Leadership
    announcer: Announcer
    rollouts: Rollouts
    mirrors: Mirrors
    prober: Prober


class Controller:
    """Keeps every gateway's generated objects and statuses true.

    `context`: for the rules. `namespaces`: empty for the whole cluster. `clock`: monotonic seconds, the same that the
    Secrets adapter uses for `gone_since`. on_round: told the seconds of each round that came to its end.
    recorder: keeps the audit trail; None: nobody does. on_listed: called once, when all objects have been listed.
    """

    def __init__(
        self,
        ports: Ports,
        context: RuleContext,
        namespaces: tuple[str, ...],
        clock: Callable[[], float],
        on_round: Callable[[float], None] = lambda _: None,
        recorder: Recorder | None = None,
        on_listed: Callable[[], None] = lambda: None,
    ) -> None:
        self._ports = ports
        self.journal = Journal(recorder)
        self._on_round = on_round
        self._clock = clock
        self.store = Store()
        self.store.on_stored, self.store.on_removed = self._tell_stored, self._tell_removed
        self.queue: CoalescingQueue[GatewayKey] = CoalescingQueue(clock)
        self.repairer = Repairer(
            ports.cluster, self.store, namespaces, self.queue.mark, self._follow, clock, on_listed, self._on_page
        )
        self.statuses = StatusWriter(
            ports.cluster,
            self.store,
            ports.leadership,
            ports.announcer,
            self.queue.mark,
            clock,
            self.repairer.sign_of_relist,
            busy=lambda: self.queue.at_work,
        )
        self.rounds: Counter[str] = Counter()
        self._states: dict[GatewayKey, GatewayState] = {}
        self._teller = Teller(self.statuses, self.journal, clock, self._untold)
        self._observer = Observer(
            ports.cluster, ports.secrets, ports.owned, ports.rollouts, ports.mirrors, ports.prober, self.store, context, clock
        )
        self._actor = Actor(ports.cluster)

    # -- events in; each is cheap and never raises

    def on_object(self, resource: Resource, event: str | None, obj: JsonObject) -> None:
        """Take a watch event; `event` None: the object was listed (again)."""
        if event is None:
            self.repairer.sign_of_relist()
        metadata, patient = obj["metadata"], False
        key = ObjectKey(metadata["namespace"], metadata["name"])
        if event != "DELETED" and self.store.has_seen(resource, key, metadata["resourceVersion"]):
            return  # our own LIST has brought it, at a start that is all of them, or the answer to our own write has
        stored = parse_stored(obj)
        if event == "DELETED":
            marks = self.store.remove(resource, key, stored.resource_version)
            if self.store.get(resource, key) is None:  # else it was made again, and its status is wished for already
                self.statuses.forget(resource, key)
        else:
            before = self.store.get(resource, key)
            marks = self.store.put(resource, stored)
            same = before is not None and (before.uid, before.generation, before.deleting) == (
                stored.uid,
                stored.generation,
                stored.deleting,
            )
            if same and self.statuses.in_flight(resource, key):
                marks = frozenset()  # our own; the writer looks again if it was not
            patient = before is None  # what is served already, and changes, waits for less than what is new
        self._follow(resource, obj)
        for mark in marks:
            self.queue.mark(mark, patient=patient)

    def on_secret(self, namespace: str, name: str) -> None:
        """Take note that a referenced key of a Secret appeared, changed or vanished."""
        for key, state in self._states.items():
            if key.namespace == namespace and name in state.references:
                self.queue.mark(key)

    def on_owned(self, resource: Resource, namespace: str, name: str, resource_version: str | None) -> None:
        """Take note that a generated object changed; `resource_version` None: it is gone."""
        for key, state in self._states.items():
            if key.namespace != namespace or not names.belongs_to(name, key.name):
                continue
            live = state.live[resource].get(name)
            if resource_version is None:
                state.forget(resource, name)
            elif live is not None and int(live.resource_version) >= int(resource_version):
                continue
            self.queue.mark(key, patient=True)  # most are writes of ours whose answer is still to come

    def on_namespace_listed(self, namespace: str) -> None:
        """Take note that Secrets or generated objects of a namespace have been listed: its rounds may run."""
        for key in self.store.gateway_keys():
            if key.namespace == namespace:
                self.queue.mark(key)

    def on_rollout(self, key: GatewayKey) -> None:
        """Take note that pods of a gateway say something new."""
        self.queue.mark(key, patient=True)

    def on_mirror(self, key: GatewayKey) -> None:
        """Take note that something else than before is to be said of a gateway's Redis mirror."""
        self.queue.mark(key, patient=True)

    def on_health(self, key: GatewayKey) -> None:
        """Take note that a datastore or backend of a gateway is held to be something else than before."""
        self.queue.mark(key, patient=True)

    def on_leading(self) -> None:
        """Begin to lead: what another leader wrote meanwhile is read again, then every gateway gets a round."""
        self.statuses.forget_wishes()
        for resource in KINDS:
            self.journal.begin(resource, list(self.store.objects(resource).values()))
        for state in self._states.values():
            state.forget_cluster()
        for key in self.store.gateway_keys() | self._states.keys():
            self.queue.mark(key)

    def on_standby(self) -> None:
        """Stop leading: nothing that waits is written any more, nobody is asked, poked or probed."""
        self._teller.finish()
        self.statuses.forget_wishes()
        self.journal.stand_by()
        self._ports.rollouts.forget_all()
        self._ports.mirrors.stand_by()
        self._ports.prober.clear()

    @property
    def idle(self) -> bool:
        """Whether nothing is marked, under way or waiting to be written."""
        return self.queue.idle and self.statuses.idle and self._teller.idle

    def reports(self) -> Iterator[GatewayReport]:
        """Yield what the last round of each gateway said; nothing while another process leads."""
        if self._ports.leadership.is_leader:
            for key, state in self._states.items():
                yield report(key, state, self._ports.mirrors.trouble(key))

    # -- rounds out

    async def run(self) -> None:
        """Reconcile until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.statuses.run())
                tasks.create_task(self.repairer.run())
                for _ in range(WORKERS):
                    tasks.create_task(self._work())
        finally:
            self._teller.finish()

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            try:
                await self._round(key)
            except Conflict as error:
                self.rounds["conflict"] += 1
                delay = self.queue.failed(key)
                logger.bind(namespace=key.namespace, gateway=key.name).info(
                    "Somebody else wrote first, again in {:.1f} s: {}", delay, error
                )
            except ClusterError as error:
                self.rounds["error"] += 1
                delay = self.queue.failed(key, error.retry_after_seconds)
                self.journal.round_failed(key, str(error))
                logger.bind(namespace=key.namespace, gateway=key.name).warning(
                    "Round failed, again in {:.1f} s: {}", delay, error
                )
            except Exception:  # noqa: BLE001 - a fault of ours in one gateway's round must not stop the others
                self._note_fault(key)
                delay = self.queue.failed(key)
                logger.bind(namespace=key.namespace, gateway=key.name).exception("Round broke, again in {:.1f} s", delay)
            else:
                self.queue.done(key)

    def _note_fault(self, key: GatewayKey) -> None:
        self.rounds["fault"] += 1
        if (state := self._states.get(key)) is not None:
            state.memo = Memo()  # it may be torn; a fresh one gives the same plans

    def _untold(self, key: GatewayKey) -> None:
        self._note_fault(key)
        self.queue.mark(key)

    async def _round(self, key: GatewayKey) -> None:
        """One round: nothing is written unless this process leads and every input has been listed."""
        self._teller.catch_up(key)
        if not self._ports.leadership.is_leader:
            self._stay_warm(key)
            if key in self._states or self.store.gateway(key) is not None or self.store.models(key):
                self.queue.mark_later(key, STANDBY_SECONDS)
            return
        if not self._observer.ready(key):
            return
        state = self._states.setdefault(key, GatewayState())
        began = self._clock()
        snapshot = await self._observer.snapshot(key, self._states)
        now = self._clock()
        made = plan(snapshot, state.memo, now)
        self._probe(key, snapshot, made)
        writes = 0
        if snapshot.gateway is None:
            self._follow_namespace(key.namespace)
        else:
            try:
                writes = await self._actor.carry_out(made, snapshot.gateway, state)
            except (Forbidden, Rejected) as error:
                self._tell_refusal(key, snapshot, made, str(error))
                state.memo.forget_told()  # what a round that succeeds says has not been said
                raise
        state.adopt(made, now)
        self._mirror(key, made)
        self._aim(key, made, written=writes > 0)
        self.rounds["changed" if writes else "unchanged"] += 1
        ended = self._clock()
        self._on_round(ended - began)
        await self._teller.take(key, Done(state, snapshot, made, writes, ended - began, ended))
        self._look_ahead(key, state, made.wake_after_seconds)

    def _tell_refusal(self, key: GatewayKey, snapshot: Snapshot, made: Plan, text: str) -> None:
        """Let statuses say what stands in the way; who owns a quota or a policy does not read our log."""
        for status in refused(snapshot, made.statuses, text):
            self.statuses.wish(key.namespace, status)

    def _stay_warm(self, key: GatewayKey) -> None:
        """As standby, keep in mind what a gateway's objects say: ten thousand of them take a second to judge."""
        if self.store.gateway(key) is None:
            self._states.pop(key, None)
        elif self._observer.ready(key):
            self._warm_up(key)

    def _warm_up(self, key: GatewayKey) -> None:
        """Judge and render what is known of a gateway's objects and was not before."""
        self._states.setdefault(key, GatewayState())
        self._observer.warm_up(key, self._states)

    def _on_page(self, keys: Set[GatewayKey]) -> None:
        """Judge what a page of the first LIST has brought, while the API server makes the next.

        All at once are a second at ten thousand models, in which the loop hears nothing. Nothing is concluded from a part.
        """
        for key in keys:
            try:
                if self.store.gateway(key) is not None:
                    self._warm_up(key)
            except Exception:  # noqa: BLE001 - as in a round: a fault of ours in one gateway must not stop the others
                self._note_fault(key)
                logger.bind(namespace=key.namespace, gateway=key.name).exception("Judging what was listed broke")

    def _aim(self, key: GatewayKey, made: Plan, *, written: bool) -> None:
        """Let pods prove what the round has made true; never before it has, and only as long as this process leads."""
        if made.target is None or not self._ports.leadership.is_leader:
            self._ports.rollouts.forget(key)
        else:
            self._ports.rollouts.set_target(key, made.target, made.delivery, written=written)

    def _mirror(self, key: GatewayKey, made: Plan) -> None:
        """Let Redis hold what the round has made true, where that is asked for; nothing waits for it."""
        if not self._ports.leadership.is_leader:
            return
        if made.mirror is None:
            self._ports.mirrors.drop(key)
        else:
            self._ports.mirrors.set_target(key, made.mirror)

    def _probe(self, key: GatewayKey, snapshot: Snapshot, made: Plan) -> None:
        """Probe what the plan says, whatever becomes of its writes: health is told through an outage of the API server too."""
        if snapshot.gateway is None:
            self._ports.prober.forget(key)
        elif made.probing is not None and self._ports.leadership.is_leader:
            self._ports.prober.watch(key, made.probing)

    def _look_ahead(self, key: GatewayKey, state: GatewayState, wake_after_seconds: float | None) -> None:
        """Ask for the rounds that follow from this one."""
        waits = [wake_after_seconds] if wake_after_seconds is not None else []
        if any(state.foreign.values()):
            waits.append(FOREIGN_SECONDS)
        if waits:
            self.queue.mark_later(key, min(waits))
        if state.departed != state.told:
            for gateway in {*state.departed.values(), *state.told.values()}:
                self.queue.mark(GatewayKey(key.namespace, gateway))
            state.told = dict(state.departed)
        here = self.store.models(key)
        for other, theirs in self._states.items():
            if other.namespace != key.namespace:
                continue
            expected = {name for name, gateway in theirs.departed.items() if gateway == key.name}
            if any(name in state.served or name not in here for name in expected):
                self.queue.mark(other)  # what it keeps for us has arrived, moved on, or is gone
        if self.store.gateway(key) is None and not self.store.models(key):
            self._teller.catch_up(key)
            del self._states[key]
            self.queue.forget(key)
            self.journal.forget(key)

    def _tell_stored(self, resource: Resource, before: Stored | None, stored: Stored) -> None:
        if self._ports.leadership.is_leader:
            self.journal.saw(resource, before, stored)

    def _tell_removed(self, resource: Resource, stored: Stored) -> None:
        if self._ports.leadership.is_leader:
            self.journal.saw_gone(resource, stored)

    def _follow(self, resource: Resource, obj: JsonObject) -> None:
        """Follow Secrets and generated objects where a GatewayConfig is, and nowhere else."""
        if resource == GATEWAY_CONFIGS:
            self._follow_namespace(obj["metadata"]["namespace"])

    def _follow_namespace(self, namespace: str) -> None:
        if any(key.namespace == namespace for key in self.store.objects(GATEWAY_CONFIGS)):
            self._ports.secrets.watch(namespace)
            self._ports.owned.watch(namespace)
        else:
            self._ports.secrets.unwatch(namespace)
            self._ports.owned.unwatch(namespace)
