"""Stand-ins for the Protocols of `reconcile/ports.py` beside `FakeCluster`: Secrets, generated objects, leadership, Events.

They pass the same suite as the real adapters (`tests/contract/test_ports.py`) and follow a `FakeCluster`.
"""

from __future__ import annotations

import asyncio
import base64
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from aigateway_operator.api import meta
from aigateway_operator.api.meta import GatewayKey, ObjectKey
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, JsonObject, Resource
from aigateway_operator.plan.health import Health, HealthOf, Probing, Target
from aigateway_operator.plan.mirroring import MirrorTarget
from aigateway_operator.plan.outcome import WrittenDocument
from aigateway_operator.plan.secret_state import SecretState
from tests.fake_cluster import FakeCluster

REFUSED_TYPES = frozenset({"helm.sh/release.v1", "kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})


class FakeSecrets:
    """Secrets of a `FakeCluster`; fulfils `Secrets`. `hold`: namespaces are listed only when `list_now` is called."""

    def __init__(self, cluster: FakeCluster, clock: Callable[[], float], *, hold: bool = False) -> None:
        self.on_change: Callable[[str, str], None] = lambda namespace, name: None
        self.on_listed: Callable[[str], None] = lambda namespace: None
        self.watched: set[str] = set()
        self.unreadable: set[tuple[str, str]] = set()
        self.ensured: dict[str, Mapping[str, frozenset[str]]] = {}
        self.ensure_takes_seconds = 0.0
        self._cluster = cluster
        self._clock = clock
        self._hold = hold
        self._listed: set[str] = set()
        self._seen: dict[tuple[str, str], SecretState] = {}
        cluster.listeners.append(self._event)

    def watch(self, namespace: str) -> None:
        if namespace not in self.watched:
            self.watched.add(namespace)
            if not self._hold:
                asyncio.get_running_loop().call_soon(self.list_now, namespace)

    def list_now(self, namespace: str) -> None:
        """Let the first complete LIST of a namespace arrive."""
        if namespace in self.watched and namespace not in self._listed:
            self._listed.add(namespace)
            self.on_listed(namespace)

    def unwatch(self, namespace: str) -> None:
        self.watched.discard(namespace)
        self._listed.discard(namespace)
        self._seen = {place: state for place, state in self._seen.items() if place[0] != namespace}

    def listed(self, namespace: str) -> bool:
        return namespace in self._listed

    async def ensure(self, namespace: str, references: Mapping[str, frozenset[str]], *, caller: str) -> None:
        self.watch(namespace)
        self.ensured[caller] = dict(references)
        if any((namespace, name) not in self._seen for name in references):
            await asyncio.sleep(self.ensure_takes_seconds)
        for name in references:
            self._look(namespace, name)

    def state(self, namespace: str, name: str) -> SecretState:
        return self._seen.get((namespace, name), SecretState(known=False, exists=False))

    def states(self, namespace: str, names: Iterable[str]) -> dict[str, SecretState]:
        return {name: self.state(namespace, name) for name in names}

    async def stop(self) -> None:
        self.watched.clear()
        self._listed.clear()

    def _keys(self, namespace: str, name: str) -> frozenset[str]:
        named = (refs.get(name, frozenset()) for caller, refs in self.ensured.items() if caller.startswith(f"{namespace}/"))
        return frozenset().union(*named)

    def _event(self, resource: Resource, event: str, obj: JsonObject) -> None:
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        if resource == SECRETS and namespace in self.watched and self._keys(namespace, name) and self._look(namespace, name):
            asyncio.get_running_loop().call_soon(self.on_change, namespace, name)

    def _look(self, namespace: str, name: str) -> bool:
        """Bring one state up to date; tells whether anything of it changed."""
        before = self._seen.get((namespace, name))
        state = self._read(namespace, name)
        if before is not None and before.values.keys() - state.values.keys() and state.known:
            state = SecretState(state.known, state.exists, state.refused_type, state.values, self._clock())
        elif before is not None and before.gone_since is not None and self._keys(namespace, name) - state.values.keys():
            state = SecretState(state.known, state.exists, state.refused_type, state.values, before.gone_since)
        self._seen[namespace, name] = state
        return state != before

    def _read(self, namespace: str, name: str) -> SecretState:
        if (namespace, name) in self.unreadable:
            return SecretState(known=False, exists=False)
        if name not in self._cluster.names(SECRETS, namespace):
            return SecretState(known=True, exists=False)
        obj = self._cluster.read(SECRETS, namespace, name)
        if obj.get("type") in REFUSED_TYPES:
            return SecretState(known=True, exists=True, refused_type=obj["type"])
        wanted = self._keys(namespace, name)
        values = {key: base64.b64decode(text) for key, text in (obj.get("data") or {}).items() if key in wanted}
        return SecretState(known=True, exists=True, values=values)


class FakeOwned:
    """Generated objects of a `FakeCluster` by metadata; fulfils `Owned`. `hold` as in `FakeSecrets`."""

    def __init__(self, cluster: FakeCluster, *, hold: bool = False) -> None:
        self.on_change: Callable[[Resource, str, str, str | None], None] = lambda resource, namespace, name, version: None
        self.on_listed: Callable[[str], None] = lambda namespace: None
        self.watched: set[str] = set()
        self._cluster = cluster
        self._hold = hold
        self._listed: set[str] = set()
        self._known: dict[tuple[str, Resource], dict[str, str]] = defaultdict(dict)
        cluster.listeners.append(self._event)

    def watch(self, namespace: str) -> None:
        if namespace not in self.watched:
            self.watched.add(namespace)
            if not self._hold:
                asyncio.get_running_loop().call_soon(self.list_now, namespace)

    def list_now(self, namespace: str) -> None:
        """Let the first complete LISTs of a namespace arrive."""
        if namespace not in self.watched or namespace in self._listed:
            return
        for resource in (CONFIG_MAPS, SECRETS):
            for name in self._cluster.names(resource, namespace):
                self._note(resource, self._cluster.read(resource, namespace, name))
        self._listed.add(namespace)
        self.on_listed(namespace)

    def unwatch(self, namespace: str) -> None:
        self.watched.discard(namespace)
        self._listed.discard(namespace)
        for place in [place for place in self._known if place[0] == namespace]:
            del self._known[place]

    def listed(self, namespace: str) -> bool:
        return namespace in self._listed

    def names(self, namespace: str, resource: Resource) -> Mapping[str, str]:
        return self._known[namespace, resource]

    async def stop(self) -> None:
        self.watched.clear()
        self._listed.clear()

    def _event(self, resource: Resource, event: str, obj: JsonObject) -> None:
        if resource in (CONFIG_MAPS, SECRETS) and obj["metadata"]["namespace"] in self._listed:
            asyncio.get_running_loop().call_soon(self._deliver, resource, event, obj)

    def _deliver(self, resource: Resource, event: str, obj: JsonObject) -> None:
        metadata = obj["metadata"]
        known = self._known[metadata["namespace"], resource]
        if event != "DELETED" and self._note(resource, obj):
            self.on_change(resource, metadata["namespace"], metadata["name"], metadata["resourceVersion"])
        elif known.pop(metadata["name"], None) is not None:
            self.on_change(resource, metadata["namespace"], metadata["name"], None)

    def _note(self, resource: Resource, obj: JsonObject) -> bool:
        metadata = obj["metadata"]
        if (metadata.get("labels") or {}).get(meta.MANAGED_BY_LABEL) != meta.MANAGED_BY:
            return False
        self._known[metadata["namespace"], resource][metadata["name"]] = metadata["resourceVersion"]
        return True


@dataclass(slots=True)
class FakeLeadership:
    """Fulfils `Leadership`; a test says who leads."""

    is_leader: bool = True


@dataclass(frozen=True, slots=True)
class Announcement:
    """One Event that would have been posted."""

    kind: str
    key: ObjectKey
    uid: str
    warning: bool
    reason: str
    note: str


@dataclass(slots=True)
class RecordingAnnouncer:
    """Fulfils `Announcer`; keeps what was announced."""

    announced: list[Announcement] = field(default_factory=list)

    def announce(self, resource: Resource, key: ObjectKey, uid: str, *, warning: bool, reason: str, note: str) -> None:
        self.announced.append(Announcement(resource.kind, key, uid, warning, reason, note))

    async def stop(self) -> None:
        """Nothing is held."""


class FakeMirrors:
    """A Redis that takes everything at once; fulfils `Mirrors`. `fail`: from now on nothing is taken, and that is told."""

    def __init__(self) -> None:
        self.on_change: Callable[[GatewayKey], None] = lambda key: None
        self.targets: dict[GatewayKey, MirrorTarget] = {}
        self.held: dict[GatewayKey, dict[str, WrittenDocument]] = {}
        self.failing = ""
        self._troubles: dict[GatewayKey, str] = {}

    def fail(self, reason: str) -> None:
        """Take nothing any more for `reason`, or again for ""."""
        self.failing = reason
        for key in list(self.targets):
            self._take(key)

    def set_target(self, key: GatewayKey, target: MirrorTarget) -> None:
        self.targets[key] = target
        self._take(key)

    def drop(self, key: GatewayKey) -> None:
        self.targets.pop(key, None)
        self._troubles.pop(key, None)
        self.held.pop(key, None)

    def trouble(self, key: GatewayKey) -> str | None:
        return self._troubles.get(key)

    def stand_by(self) -> None:
        self.targets.clear()
        self._troubles.clear()

    async def stop(self) -> None:
        self.stand_by()

    def _take(self, key: GatewayKey) -> None:
        documents = self.targets[key].documents
        if not self.failing:
            held = {file: document for file, document in self.held.get(key, {}).items() if file in documents}
            self.held[key] = held | {file: document for file, document in documents.items() if document is not None}
        if self._troubles.get(key) != self.failing:
            self._troubles[key] = self.failing
            asyncio.get_running_loop().call_soon(self.on_change, key)


class FakeProber:
    """Fulfils `Prober`; a test says what is held to be true."""

    def __init__(self) -> None:
        self.on_change: Callable[[GatewayKey], None] = lambda key: None
        self.watched: dict[GatewayKey, Probing] = {}
        self._judged: dict[GatewayKey, dict[Target, Health]] = {}

    def watch(self, key: GatewayKey, probing: Probing) -> None:
        self.watched[key] = probing

    def forget(self, key: GatewayKey) -> None:
        self.watched.pop(key, None)
        self._judged.pop(key, None)

    def clear(self) -> None:
        self.watched.clear()
        self._judged.clear()

    def health(self, key: GatewayKey) -> HealthOf:
        targets = self.watched[key].targets if key in self.watched else frozenset()
        return {target: health for target, health in self._judged.get(key, {}).items() if target in targets}

    def judge(self, key: GatewayKey, target: Target, health: Health) -> None:
        """Hold this to be true from now on, and say so."""
        self._judged.setdefault(key, {})[target] = health
        self.on_change(key)

    async def stop(self) -> None:
        self.clear()
