"""The objects as the API server has them, kept small, indexed by the gateway they name.

Fed by watch events and by complete LISTs; only a deletion event or absence from a complete LIST removes an object. What was
removed is remembered for a while, so that an older page or answer that arrives late does not bring it back.
Says which gateways a change concerns; never talks to the API server. Used from one event loop only.
Source: docs/measured.md#kopf (deletions are lost across a re-list); docs/concepts.md#what-is-never-done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from sys import intern
from types import MappingProxyType
from typing import Any, Final

import orjson

from aigateway_operator.api.meta import GatewayKey, ObjectKey
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS, Resource
from aigateway_operator.plan.changes import Renewed
from aigateway_operator.plan.packed import pack
from aigateway_operator.plan.snapshot import Stored

KINDS: Final = (GATEWAY_CONFIGS, VIRTUAL_MODELS)
"""In the order in which they are listed: where a gateway is, Secrets are listed while its thousands of models are."""
_NONE: Final[Mapping[str, Stored]] = MappingProxyType({})


def parse_stored(obj: Mapping[str, Any]) -> Stored:
    """Reduce an object to what decides anything. Nothing about its spec is taken for granted."""
    metadata, spec = obj["metadata"], obj.get("spec")
    gateway_ref = spec.get("gatewayRef") if isinstance(spec, dict) else None
    gateway = gateway_ref.get("name") if isinstance(gateway_ref, dict) else None
    return Stored(
        namespace=intern(metadata["namespace"]),
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata["resourceVersion"],
        created=intern(metadata["creationTimestamp"]),
        deleting="deletionTimestamp" in metadata,
        gateway=intern(gateway) if isinstance(gateway, str) else "",
        spec=pack(_text(spec)),
        status=_pack_status(orjson.dumps(obj.get("status") or {}, option=orjson.OPT_SORT_KEYS)),
    )


@lru_cache(maxsize=4)
def _pack_status(text: bytes) -> bytes:
    """Return it packed: once, and in one copy, for all new objects, whose status is the CRD's default."""
    return pack(text)


def _text(spec: Any) -> bytes:
    """Return JSON that reads as `spec`, whatever got past admission: numbers of any size, depths that rules refuse."""
    try:
        return orjson.dumps(spec)
    except orjson.JSONEncodeError:
        pass
    try:
        text = json.dumps(spec, separators=(",", ":")).encode()
        orjson.loads(text)  # which reads 1,024 levels; json writes ten thousand since Python 3.12
    except (RecursionError, ValueError):
        return b"null"
    return text


def _sharing(known: Stored, stored: Stored) -> Stored:
    """Return `stored` with what it says like `known` in one copy: keys of mappings and assessments hold on to the first."""
    spec = known.spec if known.spec == stored.spec else stored.spec
    uid = known.uid if known.uid == stored.uid else stored.uid
    return replace(stored, name=known.name, uid=uid, spec=spec)


def _same(known: Stored, stored: Stored) -> bool:
    """Tell whether nothing that decides anything differs."""
    return (known.uid, known.generation, known.deleting, known.gateway, known.status) == (
        stored.uid,
        stored.generation,
        stored.deleting,
        stored.gateway,
        stored.status,
    )


class Store:
    """All VirtualModels and GatewayConfigs that have been seen."""

    def __init__(self) -> None:
        self._objects: dict[Resource, dict[str, dict[str, Stored]]] = {kind: {} for kind in KINDS}
        """By kind, namespace and name: a key of both would be one more object for each of ten thousand."""
        self._models: dict[GatewayKey, dict[str, Stored]] = {}
        self._told: dict[GatewayKey, Renewed[str, Stored]] = {}
        self._touched: dict[GatewayKey, set[str]] = {}
        """What `models_now` returned last, and the models that were put or dropped since."""
        self._listed_at: dict[Resource, int] = {}
        self._removed: dict[Resource, dict[ObjectKey, int]] = {kind: {} for kind in KINDS}
        self.changes = 0
        """Counts the changes that concern a gateway: what was read before it moved is old."""
        self.on_stored: Callable[[Resource, Stored | None, Stored], None] | None = None
        self.on_removed: Callable[[Resource, Stored], None] | None = None
        """Told of every object that is put, beside what was known of it, and of every one that is dropped."""

    @property
    def listed(self) -> bool:
        """Whether every kind has been listed completely once; before that nothing may be concluded from absence."""
        return len(self._listed_at) == len(KINDS)

    def listed_at(self, resource: Resource) -> int:
        """Return the resourceVersion of the last complete LIST of a kind, -1 if there was none."""
        return self._listed_at.get(resource, -1)

    def has_listed(self, resource: Resource) -> bool:
        """Whether this kind has been listed completely once."""
        return resource in self._listed_at

    def get(self, resource: Resource, key: ObjectKey) -> Stored | None:
        """Return an object, None if it is not there."""
        return self._objects[resource].get(key.namespace, _NONE).get(key.name)

    def objects(self, resource: Resource) -> dict[ObjectKey, Stored]:
        """Return all objects of a kind as they are now."""
        spaces = self._objects[resource].items()
        return {ObjectKey(namespace, name): stored for namespace, named in spaces for name, stored in named.items()}

    def gateway(self, key: GatewayKey) -> Stored | None:
        """Return the GatewayConfig of that name, None if there is none."""
        return self.get(GATEWAY_CONFIGS, ObjectKey(*key))

    def models(self, key: GatewayKey) -> Mapping[str, Stored]:
        """Return the VirtualModels that name this gateway, as a view by object name."""
        models = self._models.get(key)
        return _NONE if models is None else MappingProxyType(models)

    def models_now(self, key: GatewayKey) -> Renewed[str, Stored]:
        """Return the VirtualModels that name this gateway as they are now, by object name.

        It shares its content with what was returned before, and knows which of them are others.
        """
        models = self._models.get(key, {})
        before, touched = self._told.pop(key, None), self._touched.pop(key, set())
        if before is None:
            now = Renewed(models, {})
        else:
            now = Renewed(before, {name: models.get(name) for name in touched if before.get(name) is not models.get(name)})
        if models:
            self._told[key], self._touched[key] = now, set()
        return now

    def gateway_keys(self) -> set[GatewayKey]:
        """Return every gateway that exists or is named."""
        return {GatewayKey(*key) for key in self.objects(GATEWAY_CONFIGS)} | set(self._models)

    def put(self, resource: Resource, stored: Stored) -> frozenset[GatewayKey]:
        """Keep an object unless a newer version of it is known; return the gateways its change concerns.

        A change of labels or annotations concerns nobody.
        """
        key = ObjectKey(stored.namespace, stored.name)
        if self.has_seen(resource, key, stored.resource_version):
            return frozenset()
        known = self.get(resource, key)
        stored = stored if known is None else _sharing(known, stored)
        if self.on_stored is not None:
            self.on_stored(resource, known, stored)
        self._removed[resource].pop(key, None)
        self._objects[resource].setdefault(stored.namespace, {})[stored.name] = stored
        if known is not None and _same(known, stored):
            if resource == VIRTUAL_MODELS:
                self._link(stored)
            return frozenset()
        self.changes += 1
        if resource != VIRTUAL_MODELS:
            return frozenset({GatewayKey(*key)})
        marks = {GatewayKey(stored.namespace, stored.gateway)}
        if known is not None and known.gateway != stored.gateway:
            marks |= self._unlink(known)
        self._link(stored)
        return frozenset(marks)

    def has_seen(self, resource: Resource, key: ObjectKey, resource_version: str) -> bool:
        """Tell whether this version of an object, or a later one, or its deletion has been seen."""
        known = self.get(resource, key)
        seen = int(known.resource_version) if known is not None else self._removed[resource].get(key, -1)
        return seen >= int(resource_version)

    def remove(self, resource: Resource, key: ObjectKey, resource_version: str) -> frozenset[GatewayKey]:
        """Forget an object, unless it was made again since `resource_version`; return the gateways this concerns."""
        known = self.get(resource, key)
        if known is not None and int(known.resource_version) > int(resource_version):
            return frozenset()
        self._removed[resource][key] = max(int(resource_version), self._removed[resource].get(key, -1))
        if known is None:
            return frozenset()
        self.changes += 1
        if self.on_removed is not None:
            self.on_removed(resource, known)
        del self._objects[resource][key.namespace][key.name]
        if not self._objects[resource][key.namespace]:
            del self._objects[resource][key.namespace]
        return frozenset({GatewayKey(*key)}) if resource != VIRTUAL_MODELS else self._unlink(known)

    def settle(self, resource: Resource, listed: Iterable[ObjectKey], resource_version: str) -> frozenset[GatewayKey]:
        """Take a complete LIST: drop what is absent from it and older than it. Returns the gateways this concerns."""
        present = set(listed)
        before = self._listed_at.get(resource, -1)
        self._listed_at[resource] = int(resource_version)
        removed = self._removed[resource]
        self._removed[resource] = {key: version for key, version in removed.items() if version >= before}
        marks: set[GatewayKey] = set()
        for key in [key for key in self.objects(resource) if key not in present]:
            marks |= self.remove(resource, key, resource_version)
        return frozenset(marks)

    def _link(self, stored: Stored) -> None:
        key = GatewayKey(stored.namespace, stored.gateway)
        self._models.setdefault(key, {})[stored.name] = stored
        self._touch(key, stored.name)

    def _touch(self, key: GatewayKey, name: str) -> None:
        if key in self._touched:
            self._touched[key].add(name)

    def _unlink(self, stored: Stored) -> frozenset[GatewayKey]:
        key = GatewayKey(stored.namespace, stored.gateway)
        models = self._models.get(key)
        self._touch(key, stored.name)
        if models is not None:
            models.pop(stored.name, None)
            if not models:
                del self._models[key]
        return frozenset({key})
