"""An API server in memory, for unit tests of the reconciler: the `Cluster` of `reconcile/ports.py`.

It passes the same suite as the real adapter (`tests/contract/test_ports.py`). It behaves as the API server does
where the reconciler can tell: resourceVersions, generations, uids, preconditions, merge patches, pages. Beyond that it can
fail, hang, and count. Whatever users or other controllers do is a plain method without `await`; what happens is told to
`listeners` at once, as (resource, event, object).
"""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aigateway_operator.errors import ClusterError, Conflict, NotFound, Rejected
from aigateway_operator.kube.resources import (
    GATEWAY_CONFIGS,
    VIRTUAL_MODELS,
    JsonObject,
    Resource,
)

T = TypeVar("T")
Place = tuple[Resource, str, str]
Listener = Callable[[Resource, str, JsonObject], None]

CUSTOM = frozenset({VIRTUAL_MODELS, GATEWAY_CONFIGS})


def apply_merge(target: Any, patch: Any) -> Any:
    """Return what a JSON merge patch makes of `target`. Source: RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = apply_merge(merged.get(name), value)
    return merged


@dataclass(frozen=True, slots=True)
class Call:
    """One request, in order of arrival; `sent` is its body."""

    verb: str
    resource: Resource
    namespace: str | None
    name: str
    sent: JsonObject = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class _Fault:
    verb: str
    resource: Resource | None
    times: int
    error: ClusterError | None
    released: asyncio.Event | None
    after: bool


class FakeCluster:
    """An API server in memory; fulfils `Cluster`."""

    def __init__(self, *, page_size: int = 500) -> None:
        self.page_size = page_size
        self.calls: list[Call] = []
        self.most_in_flight: Counter[str] = Counter()
        self.listeners: list[Listener] = []
        self._objects: dict[Place, JsonObject] = {}
        self._version = 100
        self._uids = 0
        self._faults: list[_Fault] = []
        self._busy: Counter[str] = Counter()

    # -- what a test does to it

    def fail(
        self, verb: str, error: ClusterError, *, times: int = 1, resource: Resource | None = None, after: bool = False
    ) -> None:
        """Let the next calls of a verb fail. `after`: the write lands and only its answer is lost."""
        self._faults.append(_Fault(verb, resource, times, error, None, after))

    def hang(self, verb: str, *, times: int = 1, resource: Resource | None = None, after: bool = False) -> asyncio.Event:
        """Let the next calls of a verb wait until the returned event is set; `after`: once the write has landed."""
        released = asyncio.Event()
        self._faults.append(_Fault(verb, resource, times, None, released, after))
        return released

    def heal(self) -> None:
        """Take all faults away; what hangs goes on."""
        for fault in self._faults:
            if fault.released is not None:
                fault.released.set()
        self._faults.clear()

    def count(self, verb: str, resource: Resource | None = None) -> int:
        """Return how many requests of a verb there were."""
        return sum(call.verb == verb and resource in (None, call.resource) for call in self.calls)

    def writes(self) -> list[Call]:
        """Return every request that is not a read."""
        return [call for call in self.calls if call.verb not in {"get", "list"}]

    # -- what users and other controllers do

    def make(self, resource: Resource, manifest: JsonObject) -> JsonObject:
        """Create an object, as `kubectl create` does."""
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        if (resource, namespace, name) in self._objects:
            raise Conflict(f"{resource} '{name}' already exists", status=409)
        self._uids += 1
        obj = copy.deepcopy(manifest)
        obj["metadata"] |= {
            "uid": f"{self._uids:08x}-0000-4000-8000-000000000000",
            "creationTimestamp": f"2026-01-01T{self._uids // 3600:02d}:{self._uids // 60 % 60:02d}:{self._uids % 60:02d}Z",
        }
        if resource in CUSTOM:
            obj["metadata"]["generation"] = 1
        return self._store(resource, obj, "ADDED")

    def change(self, resource: Resource, namespace: str, name: str, **parts: Any) -> JsonObject:
        """Replace parts of an object, such as `spec`, `data` or `status`; a changed spec is a new generation."""
        obj = copy.deepcopy(self.read(resource, namespace, name))
        if "spec" in parts and parts["spec"] != obj.get("spec") and "generation" in obj["metadata"]:
            obj["metadata"]["generation"] += 1
        obj["metadata"] |= parts.pop("metadata", {})
        obj |= copy.deepcopy(parts)
        return self._store(resource, obj, "MODIFIED")

    def remove(self, resource: Resource, namespace: str, name: str, *, silently: bool = False) -> None:
        """Delete an object at once. `silently`: no watch will ever tell (a deletion behind a 410)."""
        obj = self._objects.pop((resource, namespace, name))
        self._version += 1
        gone = copy.deepcopy(obj)
        gone["metadata"]["resourceVersion"] = str(self._version)
        if not silently:
            self._tell(resource, "DELETED", gone)

    def collect_garbage(self) -> None:
        """Delete what is owned by something that is gone, as kube-controller-manager does."""
        alive = {obj["metadata"]["uid"] for obj in self._objects.values()}
        for resource, namespace, name in list(self._objects):
            owners = self._objects[resource, namespace, name]["metadata"].get("ownerReferences") or []
            if owners and not any(owner["uid"] in alive for owner in owners):
                self.remove(resource, namespace, name)

    def read(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        """Return an object as it is, uncounted; KeyError if it is not there."""
        return copy.deepcopy(self._objects[resource, namespace, name])

    def names(self, resource: Resource, namespace: str | None = None) -> list[str]:
        """Return the names of all objects of a kind, uncounted."""
        return sorted(name for kind, space, name in self._objects if kind == resource and namespace in (None, space))

    def objects(self, resource: Resource) -> list[JsonObject]:
        """Return all objects of a kind as they are, uncounted."""
        return [copy.deepcopy(obj) for (kind, _, _), obj in self._objects.items() if kind == resource]

    # -- the Protocol

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        return await self._call(Call("get", resource, namespace, name), lambda: self._existing(resource, namespace, name))

    async def create(self, resource: Resource, namespace: str, body: JsonObject) -> JsonObject:
        body = copy.deepcopy(body)
        body["metadata"].setdefault("namespace", namespace)
        call = Call("create", resource, namespace, body["metadata"]["name"], body)
        return await self._call(call, lambda: self.make(resource, body))

    async def replace(self, resource: Resource, namespace: str, name: str, body: JsonObject) -> JsonObject:
        body = copy.deepcopy(body)
        return await self._call(
            Call("replace", resource, namespace, name, body), lambda: self._replace(resource, namespace, name, body)
        )

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        await self._call(
            Call("delete", resource, namespace, name, {"uid": uid}),
            lambda: self._delete(resource, namespace, name, uid, resource_version),
        )

    async def patch_status(self, resource: Resource, namespace: str, name: str, body: JsonObject) -> JsonObject:
        body = copy.deepcopy(body)
        return await self._call(
            Call("patch_status", resource, namespace, name, body), lambda: self._patch_status(resource, namespace, name, body)
        )

    async def list_pages(
        self, resource: Resource, namespace: str | None, *, metadata_only: bool = False
    ) -> AsyncIterator[tuple[list[JsonObject], str]]:
        found: list[JsonObject] = []
        version = ""
        first = True
        while first or found:
            call = Call("list", resource, namespace, "", {"metadata_only": metadata_only, "first": first})
            if first:
                found, version = await self._call(call, lambda: self._all(resource, namespace))
            else:
                await self._call(call, lambda: None)
            page, found = found[: self.page_size], found[self.page_size :]
            first = False
            yield [_metadata_of(item) if metadata_only else item for item in page], version

    # -- inside

    async def _call(self, call: Call, act: Callable[[], T]) -> T:
        self.calls.append(call)
        self._busy[call.verb] += 1
        self.most_in_flight[call.verb] = max(self.most_in_flight[call.verb], self._busy[call.verb])
        try:
            await asyncio.sleep(0)
            fault = self._next_fault(call)
            if fault is not None and not fault.after:
                await _suffer(fault)
            answer = act()
            await asyncio.sleep(0)
            if fault is not None and fault.after:
                await _suffer(fault)
            return copy.deepcopy(answer)
        finally:
            self._busy[call.verb] -= 1

    def _next_fault(self, call: Call) -> _Fault | None:
        for fault in self._faults:
            if fault.times > 0 and fault.verb in (call.verb, "*") and fault.resource in (None, call.resource):
                fault.times -= 1
                return fault
        return None

    def _existing(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        obj = self._objects.get((resource, namespace, name))
        if obj is None:
            raise NotFound(f"{resource} '{name}' not found", status=404)
        return obj

    def _all(self, resource: Resource, namespace: str | None) -> tuple[list[JsonObject], str]:
        found = [
            obj
            for (kind, space, _), obj in sorted(self._objects.items(), key=lambda item: item[0][1:])
            if kind == resource and namespace in (None, space)
        ]
        return copy.deepcopy(found), str(self._version)

    def _store(self, resource: Resource, obj: JsonObject, event: str) -> JsonObject:
        metadata = obj["metadata"]
        place = (resource, metadata["namespace"], metadata["name"])
        before = self._objects.get(place)
        if before is not None and _without_version(before) == _without_version(obj):
            return before
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self._objects[place] = obj
        self._tell(resource, event, obj)
        return obj

    def _tell(self, resource: Resource, event: str, obj: JsonObject) -> None:
        for listener in self.listeners:
            listener(resource, event, copy.deepcopy(obj))

    def _check(self, live: JsonObject, uid: str | None, version: str | None) -> None:
        if version is not None and version != live["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified", status=409)
        if uid is not None and uid != live["metadata"]["uid"]:
            raise Conflict("the object is another one", status=409)

    def _replace(self, resource: Resource, namespace: str, name: str, body: JsonObject) -> JsonObject:
        live = self._existing(resource, namespace, name)
        self._check(live, body["metadata"].get("uid"), body["metadata"].get("resourceVersion"))
        if live.get("immutable") and (not body.get("immutable") or body.get("data") != live.get("data")):
            raise Rejected("data: Forbidden: field is immutable when `immutable` is set", status=422)
        kept = {part: live["metadata"][part] for part in ("uid", "creationTimestamp", "generation") if part in live["metadata"]}
        body["metadata"] |= kept | {"namespace": namespace}
        if "generation" in kept and body.get("spec") != live.get("spec"):
            body["metadata"]["generation"] += 1
        if resource in CUSTOM and "status" in live:
            body["status"] = copy.deepcopy(live["status"])
        return self._store(resource, body, "MODIFIED")

    def _delete(self, resource: Resource, namespace: str, name: str, uid: str, version: str | None) -> None:
        self._check(self._existing(resource, namespace, name), uid, version)
        self.remove(resource, namespace, name)

    def _patch_status(self, resource: Resource, namespace: str, name: str, body: JsonObject) -> JsonObject:
        live = self._existing(resource, namespace, name)
        self._check(live, None, (body.get("metadata") or {}).get("resourceVersion"))
        return self._store(
            resource, {**copy.deepcopy(live), "status": apply_merge(live.get("status"), body.get("status"))}, "MODIFIED"
        )


async def _suffer(fault: _Fault) -> None:
    if fault.released is not None:
        await fault.released.wait()
    if fault.error is not None:
        raise fault.error


def _without_version(obj: JsonObject) -> JsonObject:
    return {**obj, "metadata": {name: value for name, value in obj["metadata"].items() if name != "resourceVersion"}}


def _metadata_of(obj: JsonObject) -> JsonObject:
    return {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": obj["metadata"]}
