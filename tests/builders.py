"""Manifests with overrides, and a cluster without a cluster: a plan's writes become live objects, and rounds go on from there.

`World` does what the reconciler does around `plan()`, with plain mappings in place of the API server, so that scenarios of
many rounds are pure. Not a test module; nothing here is imported by the operator.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid5

import orjson

from aigateway_operator.api import meta
from aigateway_operator.api.conditions import Verdict
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.plan import names
from aigateway_operator.plan.changes import Renewed, changed_keys
from aigateway_operator.plan.health import HealthOf
from aigateway_operator.plan.memo import Memo, referenced_secrets
from aigateway_operator.plan.packed import pack
from aigateway_operator.plan.planner import plan
from aigateway_operator.plan.proof import Proof
from aigateway_operator.plan.readback import read_live, read_served, values_of
from aigateway_operator.plan.result import Plan, StatusWrite, Write
from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.plan.snapshot import LiveObject, Served, Snapshot, Stored
from aigateway_operator.render.settings import Settings
from aigateway_operator.rules import RuleContext

Manifest = dict[str, Any]
NAMESPACE = "ai"
CONTEXT = RuleContext("")


def make_virtual_model(name: str = "chat", **overrides: Any) -> Manifest:
    """Return a valid VirtualModel manifest; keywords replace keys of its spec, `...` removes one."""
    spec = {
        "gatewayRef": {"name": "main"},
        "use": True,
        "current": "small",
        "baseUrl": "https://api.example.com/v1",
        "proxyKeySecretRef": {"name": "chat-keys", "key": "proxy"},
        "backends": [
            make_backend(apiKeySecretRef={"name": "openai", "key": "api-key"}, parameters={"temperature": 0.2}),
            make_backend("big", model="gpt-4o", baseUrl="https://eu.example.com/v1"),
        ],
    }
    return _manifest("VirtualModel", name, spec, overrides)


def make_backend(name: str = "small", **overrides: Any) -> Manifest:
    """Return a valid backend."""
    return _changed({"name": name, "model": "gpt-4o-mini"}, overrides)


def make_gateway_config(name: str = "main", **overrides: Any) -> Manifest:
    """Return a GatewayConfig manifest with nothing but defaults; keywords set keys of its spec."""
    return _manifest("GatewayConfig", name, {}, overrides)


def _manifest(kind: str, name: str, spec: Manifest, overrides: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": meta.API_VERSION, "kind": kind, "metadata": metadata, "spec": _changed(spec, overrides)}


def _changed(mapping: Manifest, overrides: Manifest) -> Manifest:
    return {key: value for key, value in {**mapping, **overrides}.items() if value is not ...}


def make_uid(text: str) -> str:
    """Return the uid that belongs to `text`: the same in every run, different in its first eight characters for another."""
    return str(uuid5(UUID(int=0), text))


def make_stored(
    manifest: Manifest,
    *,
    uid: str | None = None,
    generation: int = 1,
    created: str = "2026-01-01T00:00:00Z",
    deleting: bool = False,
    status: Manifest | None = None,
) -> Stored:
    """Return a manifest as the store would hold it."""
    metadata, spec = manifest["metadata"], manifest["spec"]
    ref = spec.get("gatewayRef") if isinstance(spec, dict) else None
    return Stored(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=uid or make_uid(f"{manifest['kind']}/{metadata['name']}"),
        generation=generation,
        resource_version=str(generation),
        created=created,
        deleting=deleting,
        gateway=ref["name"] if isinstance(ref, dict) else "",
        spec=pack(orjson.dumps(spec)),
        status=pack(orjson.dumps(status or {})),
    )


def make_secret_state(**values: str) -> SecretState:
    """Return an existing Secret with these values; `_` in a key stands for `-`."""
    return SecretState(True, True, values={key.replace("_", "-"): value.encode() for key, value in values.items()})


@dataclass
class Objects:
    """Generated objects of a namespace as the API server would have them: (kind, name) → object."""

    by_name: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    writes: int = 0

    def put(self, kind: str, name: str, values: Mapping[str, bytes], **metadata: Any) -> Manifest:
        """Create or replace an object; keywords go into its metadata."""
        self.writes += 1
        old = self.by_name.get((kind, name))
        uid = old["metadata"]["uid"] if old else make_uid(f"{kind}/{name}/{self.writes}")
        encoded = {
            key: base64.b64encode(value).decode() if kind == "Secret" else value.decode() for key, value in values.items()
        }
        own = {"name": name, "namespace": NAMESPACE, "uid": uid, "resourceVersion": str(self.writes)}
        made = {"apiVersion": "v1", "kind": kind, "metadata": {**own, **metadata}, "data": encoded}
        self.by_name[kind, name] = made
        return made

    def values(self, kind: str, name: str) -> dict[str, bytes]:
        """Return the values of an object."""
        return values_of(self.by_name[kind, name])

    def edit(self, kind: str, name: str) -> Manifest:
        """Return an object to be changed in place, with a new resourceVersion."""
        self.writes += 1
        obj = self.by_name[kind, name]
        obj["metadata"]["resourceVersion"] = str(self.writes)
        return obj


def apply_plan(objects: Objects, made: Plan, gateway: Stored) -> None:
    """Carry out a plan's writes, in order, as the reconciler does; asserts that the API server would take them."""
    for write in made.writes:
        _apply_write(objects, write, gateway)


def _apply_write(objects: Objects, write: Write, gateway: Stored) -> None:
    old = objects.by_name.get((write.kind, write.name))
    assert (write.live is None) == (old is None), f"{write.kind} {write.name} is planned against {write.live}, but is {old}"
    values = dict(write.values)
    if write.live is not None and old is not None:
        assert write.live.ours, f"{write.kind} {write.name} is somebody else's"
        assert write.live.resource_version == old["metadata"]["resourceVersion"], f"{write.name}: a conflict"
        values |= {key: value for key, value in values_of(old).items() if key in write.keep}
        if write.live.immutable:
            del objects.by_name[write.kind, write.name]
    assert write.keep <= values.keys(), f"{write.name} is to keep what it has not: {write.keep - values.keys()}"
    assert sum(map(len, values.values())) <= 1024 * 1024, f"{write.name} is too large"
    owner = {"apiVersion": meta.API_VERSION, "kind": "GatewayConfig", "name": gateway.name, "uid": gateway.uid}
    labels = {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.GATEWAY_LABEL: gateway.name}
    objects.put(write.kind, write.name, values, labels=labels, ownerReferences=[{**owner, "controller": True}])


@dataclass
class World:
    """One gateway from round to round. Change it by `apply`, `delete`, `secrets`, `now`, `objects`; then call `round`."""

    name: str = "main"
    context: RuleContext = CONTEXT
    now: float = 1000.0
    models: dict[str, Stored] = field(default_factory=dict)
    gateway: Stored | None = None
    secrets: dict[str, SecretState] = field(default_factory=dict)
    objects: Objects = field(default_factory=Objects)
    departed: dict[str, Stored] = field(default_factory=dict)
    served_elsewhere: frozenset[str] = frozenset()
    memo: Memo = field(default_factory=Memo)
    served: Mapping[str, Served] = field(default_factory=dict)
    settings: Settings | None = None
    unreferenced_since: Mapping[tuple[str, str], float] = field(default_factory=dict)
    statuses: dict[str, StatusWrite] = field(default_factory=dict)
    created: int = 0
    proof: Proof | None = None
    mirror_key: bytes | None = None
    mirror_trouble: str | None = None
    health: HealthOf = field(default_factory=dict)
    said: dict[tuple[str, str], StatusWrite] = field(default_factory=dict)
    _known: dict[tuple[str, ...], LiveObject] = field(default_factory=dict)
    _secrets: Mapping[str, SecretState] = field(default_factory=dict)
    _lives: dict[str, dict[str, LiveObject]] = field(default_factory=lambda: {"ConfigMap": {}, "Secret": {}})
    _models: Mapping[str, Stored] = field(default_factory=dict)

    def apply(self, *manifests: Manifest, created: str | None = None, deleting: bool = False) -> None:
        """Create or edit objects as `kubectl apply` would: a new generation when the spec differs, a new uid for a new one."""
        for manifest in manifests:
            name = manifest["metadata"]["name"]
            is_model = manifest["kind"] == "VirtualModel"
            old = self.models.get(name) if is_model else self.gateway
            self.created += 1
            stored = make_stored(copy.deepcopy(manifest), uid=make_uid(f"{manifest['kind']}/{name}/{self.created}"))
            if old is not None:
                generation = old.generation + (stored.spec != old.spec)
                stored = replace(stored, uid=old.uid, created=created or old.created, status=old.status, generation=generation)
            else:
                stored = replace(
                    stored,
                    created=created
                    or f"2026-01-01T{self.created // 3600:02}:{self.created // 60 % 60:02}:{self.created % 60:02}Z",
                )
            stored = replace(stored, deleting=deleting)
            if is_model:
                self.models[name] = stored
            else:
                self.gateway = stored

    def delete(self, name: str) -> None:
        """Delete a VirtualModel."""
        del self.models[name]

    def snapshot(self) -> Snapshot:
        """Return what the reconciler would observe now. What has not changed is the very object of before, as it is there."""
        live: dict[str, dict[str, LiveObject]] = {"ConfigMap": {}, "Secret": {}}
        if self.gateway is not None:
            for (kind, name), obj in self.objects.by_name.items():
                if names.belongs_to(name, self.name):
                    live[kind][name] = self._live(kind, obj, self.gateway.uid)
        self._lives = {kind: self._lives[kind] if self._lives[kind] == now else now for kind, now in live.items()}
        if changed := changed_keys(self._models, self.models):
            self._models = Renewed(self._models, {name: self.models.get(name) for name in changed})
        self._secrets = self._secrets if self._secrets == self.secrets else dict(self.secrets)
        return Snapshot(
            key=GatewayKey(NAMESPACE, self.name),
            gateway=self.gateway,
            models=self._models,
            context=self.context,
            departed=dict(self.departed),
            served_elsewhere=self.served_elsewhere,
            served=self.served,
            settings=self.settings,
            config_maps=self._lives["ConfigMap"],
            secrets_live=self._lives["Secret"],
            secrets=self._secrets,
            unreferenced_since=self.unreferenced_since,
            mirror_key=self.mirror_key,
            mirror_trouble=self.mirror_trouble,
            proof=self.proof,
            health=self.health,
        )

    def _live(self, kind: str, obj: Manifest, lineage: str) -> LiveObject:
        metadata = obj["metadata"]
        place = (kind, metadata["name"], metadata["uid"], metadata["resourceVersion"], lineage)
        if place not in self._known:
            self._known[place] = read_live(obj, self.name, lineage)
        return self._known[place]

    def plan(self) -> Plan:
        """Return the plan of now; asserts that a fresh memo gives the same one."""
        snapshot = self.snapshot()
        referenced = referenced_secrets(snapshot, self.memo)
        assert referenced == referenced_secrets(snapshot, Memo()), "a used memo names other Secrets than a fresh one"
        once = Memo()
        made, fresh = plan(snapshot, self.memo, self.now), plan(snapshot, once, self.now)
        assert made == fresh, "a used memo gives another plan than a fresh one"
        self._compare_statuses(made, fresh)
        assert self.memo.told.count() == once.told.count(), "a used memo counts other models than a fresh one"
        return made

    def _compare_statuses(self, made: Plan, fresh: Plan) -> None:
        """Assert that what a used memo has said until now is what a fresh one says at once."""
        wanted = {(status.kind, status.name): status for status in fresh.statuses}
        self.said |= {(status.kind, status.name): status for status in made.statuses}
        self.said = {place: status for place, status in self.said.items() if place in wanted}
        assert self.said == wanted, "statuses that a used memo has said are not those that a fresh one says"

    def round(self) -> Plan:
        """Plan, act, adopt and write the statuses; return the plan."""
        made = self.plan()
        if self.gateway is not None:
            apply_plan(self.objects, made, self.gateway)
        self.served, self.settings, self.unreferenced_since = made.served, made.settings, made.unreferenced_since
        for status in self.said.values():
            self._write_status(status)
        return made

    def settle(self) -> Plan:
        """Do a round and return its plan; assert that another, and one after a restart, write nothing."""
        first = self.round()
        assert not self.round().writes, "planning again after acting gives writes"
        before = dict(self.statuses)
        self.restart()
        assert not self.round().writes, "planning again after a restart gives writes"
        assert self.statuses == before, "a restart changes statuses"
        return first

    def restart(self) -> None:
        """Forget everything but what the cluster has; read the last good back."""
        self.memo = Memo()
        self.said.clear()
        self.recall()

    def recall(self) -> None:
        """Read the last good back, as at a change of leader or after a write that may have failed; the memo stays."""
        self.served, self.settings, self.unreferenced_since = {}, None, {}
        if self.gateway is None:
            return
        for (kind, name), obj in sorted(self.objects.by_name.items()):
            if kind == "ConfigMap" and names.belongs_to(name, self.name):
                served, settings = read_served(obj, read_live(obj, self.name, self.gateway.uid))
                self.served = {**self.served, **served}
                self.settings = settings or self.settings

    def _write_status(self, write: StatusWrite) -> None:
        self.statuses[write.name if write.kind == meta.VIRTUAL_MODEL else f"gateway/{write.name}"] = write
        conditions = [
            {"type": verdict.type, "status": verdict.status, "reason": verdict.reason, "message": verdict.message}
            for verdict in write.verdicts
        ]
        status = pack(orjson.dumps({"observedGeneration": write.generation, **write.fields, "conditions": conditions}))
        if write.kind == meta.VIRTUAL_MODEL:
            if self.models[write.name].status != status:  # as in the cluster, where nothing is written then
                self.models[write.name] = replace(self.models[write.name], status=status)
        elif self.gateway is not None:
            self.gateway = replace(self.gateway, status=status)

    # -- what came of it

    def document(self, shard: int | None = None) -> Any:
        """Return a document as JSON."""
        file = "config.yml" if shard is None else f"models-{shard:02d}.yml"
        return orjson.loads(self.objects.values("ConfigMap", names.config_map_name(self.name, shard))[file])

    def manifest(self, shard: int | None = None) -> Any:
        """Return a document's manifest as JSON."""
        file = "config.manifest.json" if shard is None else f"models-{shard:02d}.manifest.json"
        return orjson.loads(self.objects.values("ConfigMap", names.config_map_name(self.name, shard))[file])

    def credentials(self, shard: int | None = None) -> dict[str, bytes]:
        """Return the values of a credentials Secret, its manifest left out."""
        values = self.objects.values("Secret", names.credentials_name(self.name, shard))
        return {name: value for name, value in values.items() if not name.startswith("_manifest")}

    def credentials_manifest(self, shard: int | None = None) -> Any:
        """Return a credentials manifest as JSON."""
        file = "_manifest.json" if shard is None else f"_manifest-{shard:02d}.json"
        return orjson.loads(self.objects.values("Secret", names.credentials_name(self.name, shard))[file])

    def entries(self) -> dict[str, Any]:
        """Return every model of every document by public name; asserts that none is in two."""
        found: dict[str, Any] = {}
        for kind, name in self.objects.by_name:
            if kind != "ConfigMap" or not names.belongs_to(name, self.name):
                continue
            models = self.document(names.shard_in(name, self.name))["ai-gateway"]["virtual_models"]
            assert not found.keys() & models.keys()
            found |= models
        return found

    def condition(self, name: str, kind: str) -> Verdict:
        """Return one condition of a VirtualModel, or of the GatewayConfig as `gateway/<name>`, as last written."""
        return next(verdict for verdict in self.statuses[name].verdicts if verdict.type == kind)

    def verdict(self, name: str, kind: str) -> tuple[str, str]:
        """Return (status, reason) of one condition."""
        condition = self.condition(name, kind)
        return condition.status, condition.reason.value


def make_world(*manifests: Manifest, **gateway: Any) -> World:
    """Return a world with the Secrets that `make_virtual_model` names, a GatewayConfig and these VirtualModels, settled."""
    world = World()
    world.secrets = {"chat-keys": make_secret_state(proxy="caller"), "openai": make_secret_state(api_key="backend")}
    world.apply(make_gateway_config(**gateway), *manifests)
    world.settle()
    return world
