"""One suite for the Protocols of `reconcile/ports.py`, passed by the fakes of the unit tests and by the real adapters.

What a unit test concludes from a fake is worth what this suite says: each test runs against `tests.fakes` and against
`kube` on a real API server.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from aigateway_operator.api import meta
from aigateway_operator.errors import ClusterError, Conflict, NotFound, Rejected
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.owned import OwnedWatch
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, VIRTUAL_MODELS, JsonObject, Resource
from aigateway_operator.kube.secrets import SecretWatch
from aigateway_operator.reconcile.ports import Cluster, Owned, Secrets
from tests.eventually import eventually_async
from tests.fake_cluster import FakeCluster
from tests.fakes import FakeOwned, FakeSecrets

pytestmark = [
    pytest.mark.parametrize("kind", ["fake", pytest.param("real", marks=pytest.mark.apiserver)]),
]
LABELS = {meta.MANAGED_BY_LABEL: meta.MANAGED_BY}


@dataclass
class Setting:
    """One cluster, the adapters over it, and what they told."""

    namespace: str
    cluster: Cluster
    secrets: Secrets
    owned: Owned
    changed: list[str] = field(default_factory=list)
    touched: list[tuple[str, str | None]] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)

    async def remove(self, resource: Resource, name: str) -> None:
        """Delete an object, whichever version it is in."""
        obj = await self.cluster.get(resource, self.namespace, name)
        await self.cluster.delete(resource, self.namespace, name, uid=obj["metadata"]["uid"])

    async def make(self, resource: Resource, name: str, **parts: Any) -> JsonObject:
        """Create an object."""
        labels = {"labels": parts.pop("labels")} if "labels" in parts else {}
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name, **labels}, **parts}
        return await self.cluster.create(resource, self.namespace, body)

    async def edit(self, resource: Resource, name: str, **parts: Any) -> JsonObject:
        """Replace parts of an object."""
        obj = await self.cluster.get(resource, self.namespace, name)
        metadata = obj["metadata"] | parts.pop("metadata", {})
        return await self.cluster.replace(resource, self.namespace, name, {**obj, **parts, "metadata": metadata})

    def note_change(self, namespace: str, name: str) -> None:
        self.changed.append(name)

    def note_touch(self, resource: Resource, namespace: str, name: str, version: str | None) -> None:
        self.touched.append((name, version))


Use = Callable[[], Any]


@pytest.fixture
def use(kind: str, request: pytest.FixtureRequest) -> Use:
    """A context manager that opens the setting: the control plane is started only for the real one."""
    if kind == "fake":
        return _fake
    plane, namespace = request.getfixturevalue("plane"), request.getfixturevalue("namespace")

    @asynccontextmanager
    async def real() -> AsyncIterator[Setting]:
        async with KubeClient.connect(plane.kubeconfig) as client:
            listed: list[str] = []
            changed: list[str] = []
            touched: list[tuple[str, str | None]] = []
            secrets = SecretWatch(client, on_change=lambda _, name: changed.append(name), on_listed=listed.append)
            owned = OwnedWatch(
                client, on_change=lambda _, __, name, version: touched.append((name, version)), on_listed=listed.append
            )
            try:
                yield Setting(namespace, client, secrets, owned, changed, touched, listed)
            finally:
                await secrets.stop()
                await owned.stop()

    return real


@asynccontextmanager
async def _fake() -> AsyncIterator[Setting]:
    cluster = FakeCluster(page_size=2)
    secrets, owned = FakeSecrets(cluster, time.monotonic), FakeOwned(cluster)
    setting = Setting("test", cluster, secrets, owned)
    secrets.on_change, owned.on_change = setting.note_change, setting.note_touch
    secrets.on_listed = owned.on_listed = setting.listed.append
    yield setting


def data(**values: str) -> JsonObject:
    """Return the data of a Secret."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def spec(**changes: Any) -> JsonObject:
    """Return the spec of a valid VirtualModel."""
    return {
        "gatewayRef": {"name": "main"},
        "use": True,
        "current": "small",
        "baseUrl": "https://api.example.com/v1",
        "proxyKeySecretRef": {"name": "keys", "key": "proxy"},
        "backends": [{"name": "small", "model": "m"}, {"name": "big", "model": "m"}],
        **changes,
    }


async def refused(call: Awaitable[Any], error: type[ClusterError], status: int) -> None:
    """Assert how a call is refused."""
    with pytest.raises(error) as caught:
        await call
    assert caught.value.status == status


async def until(check: Callable[[], None]) -> None:
    """Wait for an assertion to hold."""

    async def look() -> None:
        check()

    await eventually_async(look, within_seconds=10)


# Cluster


async def test_what_is_created_is_what_is_got(use: Use, kind: str) -> None:
    """With uid, resourceVersion, creationTimestamp, kind and namespace; a second creation conflicts."""
    async with use() as at:
        made = await at.make(CONFIG_MAPS, "c", data={"a": "1"}, labels={"x": "y"})
        assert made == await at.cluster.get(CONFIG_MAPS, at.namespace, "c")
        assert (made["kind"], made["data"]) == ("ConfigMap", {"a": "1"})
        assert made["metadata"]["namespace"] == at.namespace
        assert made["metadata"].keys() >= {"uid", "resourceVersion", "creationTimestamp", "labels"}
        assert int(made["metadata"]["resourceVersion"]) > 0
        assert "managedFields" not in made["metadata"]
        await refused(at.make(CONFIG_MAPS, "c", data={"a": "2"}), Conflict, 409)
        await refused(at.cluster.get(CONFIG_MAPS, at.namespace, "other"), NotFound, 404)


async def test_a_replacement_is_whole_and_fenced_by_version_and_uid(use: Use, kind: str) -> None:
    """What the body does not name is gone; a stale version or another uid conflicts; equal content is no change."""
    async with use() as at:
        made = await at.make(CONFIG_MAPS, "c", data={"a": "1", "b": "1"}, labels={"x": "y"})
        fence = {name: made["metadata"][name] for name in ("name", "uid", "resourceVersion")}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": fence, "data": {"a": "2"}}
        changed = await at.cluster.replace(CONFIG_MAPS, at.namespace, "c", body)
        assert changed["data"] == {"a": "2"}
        assert "labels" not in changed["metadata"]
        assert changed["metadata"]["uid"] == made["metadata"]["uid"]
        assert int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        await refused(at.cluster.replace(CONFIG_MAPS, at.namespace, "c", body), Conflict, 409)
        fresh = {**fence, "resourceVersion": changed["metadata"]["resourceVersion"]}
        current = {**body, "metadata": fresh}
        other = {**body, "metadata": {**fresh, "uid": "00000000-0000-0000-0000-000000000000"}}
        await refused(at.cluster.replace(CONFIG_MAPS, at.namespace, "c", other), Conflict, 409)
        assert await at.cluster.replace(CONFIG_MAPS, at.namespace, "c", current) == changed
        await at.remove(CONFIG_MAPS, "c")
        await refused(at.cluster.replace(CONFIG_MAPS, at.namespace, "c", current), NotFound, 404)


async def test_an_immutable_object_can_only_be_deleted(use: Use, kind: str) -> None:
    """Neither its data nor the mark itself can be changed."""
    async with use() as at:
        made = await at.make(CONFIG_MAPS, "c", data={"a": "1"}, immutable=True)
        await refused(at.edit(CONFIG_MAPS, "c", data={"a": "2"}), Rejected, 422)
        await refused(at.edit(CONFIG_MAPS, "c", immutable=False), Rejected, 422)
        metadata = made["metadata"]
        await at.cluster.delete(
            CONFIG_MAPS, at.namespace, "c", uid=metadata["uid"], resource_version=metadata["resourceVersion"]
        )
        await refused(at.cluster.get(CONFIG_MAPS, at.namespace, "c"), NotFound, 404)


async def test_a_deletion_meets_that_very_object_only(use: Use, kind: str) -> None:
    """Another uid and a stale version conflict; what is gone is not found."""
    async with use() as at:
        made = await at.make(CONFIG_MAPS, "c", data={"a": "1"})
        uid, version = made["metadata"]["uid"], made["metadata"]["resourceVersion"]
        await at.edit(CONFIG_MAPS, "c", data={"a": "2"})
        stale = at.cluster.delete(CONFIG_MAPS, at.namespace, "c", uid=uid, resource_version=version)
        await refused(stale, Conflict, 409)
        other = at.cluster.delete(CONFIG_MAPS, at.namespace, "c", uid="00000000-0000-0000-0000-000000000000")
        await refused(other, Conflict, 409)
        await at.cluster.delete(CONFIG_MAPS, at.namespace, "c", uid=uid)
        await refused(at.cluster.delete(CONFIG_MAPS, at.namespace, "c", uid=uid), NotFound, 404)


async def test_a_status_is_merged_and_fenced_and_moves_no_generation(use: Use, kind: str) -> None:
    """null takes a field away, lists are replaced, an equal status is no change, a spec in the body is ignored."""
    async with use() as at:
        made = await at.make(VIRTUAL_MODELS, "chat", spec=spec())
        assert made["metadata"]["generation"] == 1

        async def patch(status: JsonObject, version: str | None = None, **parts: Any) -> JsonObject:
            metadata: JsonObject = {} if version is None else {"resourceVersion": version}
            body = {"metadata": metadata, "status": status, **parts}
            answer: JsonObject = await at.cluster.patch_status(VIRTUAL_MODELS, at.namespace, "chat", body)
            return answer

        first = await patch({"modelName": "chat", "revision": 3}, made["metadata"]["resourceVersion"], spec=spec(current="big"))
        assert first["spec"]["current"] == "small"
        assert (first["status"]["modelName"], first["status"]["revision"]) == ("chat", 3)
        assert first["metadata"]["generation"] == 1
        await refused(patch({"revision": 4}, made["metadata"]["resourceVersion"]), Conflict, 409)
        second = await patch({"revision": None})
        assert "revision" not in second["status"]
        assert second["status"]["modelName"] == "chat"
        again = await patch({"modelName": "chat"}, second["metadata"]["resourceVersion"])
        assert again["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
        edited = await at.edit(VIRTUAL_MODELS, "chat", spec=spec(current="big"), status={"modelName": "forged"})
        assert (edited["metadata"]["generation"], edited["status"]) == (2, second["status"])
        await at.remove(VIRTUAL_MODELS, "chat")
        await refused(patch({"revision": 5}), NotFound, 404)


async def test_a_list_is_complete_and_consistent(use: Use, kind: str) -> None:
    """Every page names the version of the whole; metadata alone if that is asked for; a namespace or all of them."""
    async with use() as at:
        for number in range(4):
            await at.make(CONFIG_MAPS, f"c{number}", data={"a": "1"}, labels=LABELS)
        made = await at.make(CONFIG_MAPS, "c4", data={"a": "1"}, labels=LABELS)
        for namespace in (at.namespace, None):
            for metadata_only in (False, True):
                found: dict[str, JsonObject] = {}
                versions = set()
                async for items, version in at.cluster.list_pages(CONFIG_MAPS, namespace, metadata_only=metadata_only):
                    found |= {item["metadata"]["name"]: item for item in items if item["metadata"]["namespace"] == at.namespace}
                    versions.add(version)
                assert {f"c{number}" for number in range(5)} <= found.keys()
                assert len(versions) == 1
                assert int(versions.pop()) >= int(made["metadata"]["resourceVersion"])
                assert found["c4"]["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
                assert ("data" in found["c4"]) is not metadata_only
        empty = [page async for page in at.cluster.list_pages(SECRETS, at.namespace)]
        assert [items for items, _ in empty] == [[]]
        assert int(empty[0][1]) > 0


# Secrets


async def test_a_secret_is_known_once_it_is_ensured(use: Use, kind: str) -> None:
    """Referenced keys only; what is missing is known to be missing; of a refused type nothing but the type is known."""
    async with use() as at:
        await at.make(SECRETS, "keys", data=data(a="1", b="2"), type="Opaque")
        await at.make(SECRETS, "release", data=data(release="x"), type="helm.sh/release.v1")
        assert not at.secrets.state(at.namespace, "keys").known
        at.secrets.watch(at.namespace)
        await until(lambda: _true(at.secrets.listed(at.namespace)))
        assert at.namespace in at.listed
        references = {"keys": frozenset({"a", "c"}), "gone": frozenset({"x"}), "release": frozenset({"release"})}
        await at.secrets.ensure(at.namespace, references, caller=f"{at.namespace}/main")
        keys, gone, release = (at.secrets.state(at.namespace, name) for name in ("keys", "gone", "release"))
        assert (keys.known, keys.exists, dict(keys.values), keys.gone_since) == (True, True, {"a": b"1"}, None)
        assert (gone.known, gone.exists, dict(gone.values)) == (True, False, {})
        assert (release.known, release.refused_type, dict(release.values)) == (True, "helm.sh/release.v1", {})
        assert at.secrets.states(at.namespace, references) == {"keys": keys, "gone": gone, "release": release}
        assert "b'1'" not in repr(keys)


async def test_changes_of_referenced_keys_are_told_and_no_others(use: Use, kind: str) -> None:
    """A new value, a key that appears, a Secret that vanishes (with the time) and comes back."""
    async with use() as at:
        await at.make(SECRETS, "keys", data=data(a="1"), type="Opaque")
        await at.secrets.ensure(at.namespace, {"keys": frozenset({"a", "c"})}, caller=f"{at.namespace}/main")
        await until(lambda: _true(at.secrets.listed(at.namespace)))
        at.changed.clear()
        await at.edit(SECRETS, "keys", data=data(a="1", b="unreferenced"), metadata={"labels": {"x": "y"}})
        await at.edit(SECRETS, "keys", data=data(a="2", b="unreferenced"))
        await until(lambda: _equal(dict(at.secrets.state(at.namespace, "keys").values), {"a": b"2"}))
        await until(lambda: _equal(at.changed, ["keys"]))
        await at.edit(SECRETS, "keys", data=data(a="2", c="3"))
        await until(lambda: _equal(dict(at.secrets.state(at.namespace, "keys").values), {"a": b"2", "c": b"3"}))
        await at.remove(SECRETS, "keys")
        await until(lambda: _true(not at.secrets.state(at.namespace, "keys").exists))
        assert at.secrets.state(at.namespace, "keys").gone_since is not None
        await until(lambda: _equal(at.changed, ["keys"] * 3))
        await at.make(SECRETS, "keys", data=data(a="1", c="3"), type="Opaque")
        await until(lambda: _equal(dict(at.secrets.state(at.namespace, "keys").values), {"a": b"1", "c": b"3"}))
        assert at.secrets.state(at.namespace, "keys").gone_since is None


async def test_a_namespace_that_is_left_is_forgotten(use: Use, kind: str) -> None:
    """No value stays behind, and nothing more is told of it."""
    async with use() as at:
        await at.make(SECRETS, "keys", data=data(a="1"), type="Opaque")
        await at.secrets.ensure(at.namespace, {"keys": frozenset({"a"})}, caller=f"{at.namespace}/main")
        at.secrets.unwatch(at.namespace)
        at.secrets.unwatch(at.namespace)
        assert not at.secrets.listed(at.namespace)
        assert not at.secrets.state(at.namespace, "keys").known


# Owned


async def test_generated_objects_are_followed_by_their_label(use: Use, kind: str) -> None:
    """What is there at the start, what comes, what changes, what goes, and what loses the label."""
    async with use() as at:
        first = await at.make(CONFIG_MAPS, "first", data={"a": "1"}, labels=LABELS)
        await at.make(CONFIG_MAPS, "foreign", data={"a": "1"})
        assert not at.owned.listed(at.namespace)
        at.owned.watch(at.namespace)
        at.owned.watch(at.namespace)
        await until(lambda: _true(at.owned.listed(at.namespace)))
        assert at.namespace in at.listed

        def version(obj: JsonObject) -> str:
            found: str = obj["metadata"]["resourceVersion"]
            return found

        names = at.owned.names
        assert dict(names(at.namespace, CONFIG_MAPS)) == {"first": version(first)}
        second = await at.make(SECRETS, "second", data=data(a="1"), type="Opaque", labels=LABELS)
        await until(lambda: _equal(dict(names(at.namespace, SECRETS)), {"second": version(second)}))
        changed = await at.edit(CONFIG_MAPS, "first", data={"a": "2"})
        await until(lambda: _equal(names(at.namespace, CONFIG_MAPS).get("first"), version(changed)))
        await at.edit(CONFIG_MAPS, "first", metadata={"labels": {}})
        await at.remove(SECRETS, "second")
        await until(lambda: _equal((dict(names(at.namespace, CONFIG_MAPS)), dict(names(at.namespace, SECRETS))), ({}, {})))
        told = [("second", version(second)), ("first", version(changed)), ("first", None), ("second", None)]
        await until(lambda: _equal(sorted(map(str, at.touched[-4:])), sorted(map(str, told))))
        at.owned.unwatch(at.namespace)
        assert not at.owned.listed(at.namespace)
        assert dict(names(at.namespace, CONFIG_MAPS)) == {}
        await asyncio.sleep(0)


def _true(value: bool) -> None:
    assert value


def _equal(value: object, wanted: object) -> None:
    assert value == wanted
