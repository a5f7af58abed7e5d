"""Watches of Secrets and of generated objects on the real API server, through outages, re-lists and missing rights."""

from __future__ import annotations

import asyncio
import base64
import gc
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aigateway_operator.api.meta import MANAGED_BY, MANAGED_BY_LABEL
from aigateway_operator.errors import ClusterError, Forbidden
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.owned import OwnedWatch
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, JsonObject, Resource
from aigateway_operator.kube.secrets import SecretWatch
from aigateway_operator.kube.watching import Selection, Watcher
from hack.controlplane import ControlPlane
from tests.apiserver.api_proxy import ApiProxy
from tests.apiserver.world import World, secret
from tests.eventually import eventually_async

pytestmark = pytest.mark.apiserver

HELM = "helm.sh/release.v1"


def config_map(name: str, *, ours: bool = True, **data: str) -> JsonObject:
    """A ConfigMap manifest, with our label or without."""
    metadata: JsonObject = {"name": name, "labels": {MANAGED_BY_LABEL: MANAGED_BY} if ours else {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def keys(**names: str) -> dict[str, frozenset[str]]:
    """References: name of a Secret → its keys, separated by spaces."""
    return {name: frozenset(wanted.split()) for name, wanted in names.items()}


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[ApiProxy]:
    """A proxy that misbehaves on demand."""
    with ApiProxy.start(plane) as started:
        yield started


@pytest.fixture
async def client(plane: ControlPlane, proxy: ApiProxy) -> AsyncIterator[KubeClient]:
    """An admin's client through the proxy."""
    async with KubeClient.connect(plane.kubeconfig, server_override=proxy.url, deadline_seconds=3) as connected:
        yield connected


@pytest.fixture
def world(plane: ControlPlane, namespace: str) -> World:
    """A fresh namespace, past the proxy."""
    return World(plane, namespace)


@dataclass
class Followed:
    """What a Watcher told."""

    watcher: Watcher[JsonObject]
    lists: list[set[str]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    errors: list[ClusterError] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """The set as a receiver has it that drops what is absent from a complete list."""
        found = set(self.lists[-1]) if self.lists else set()
        for kind, name in self.events:
            (found.discard if kind == "DELETED" else found.add)(name)
        return found


def follow(client: KubeClient, namespace: str, **options: Any) -> Followed:
    """Follow ConfigMaps with our label."""

    def listed(items: list[JsonObject], _version: str) -> None:
        followed.events.clear()
        followed.lists.append({item["metadata"]["name"] for item in items})

    def event(kind: str, obj: JsonObject) -> None:
        followed.events.append((kind, obj["metadata"]["name"]))

    selection = Selection(CONFIG_MAPS, namespace, f"{MANAGED_BY_LABEL}={MANAGED_BY}")
    watcher: Watcher[JsonObject] = Watcher(
        client,
        selection,
        reduce=lambda obj: obj,
        on_listed=listed,
        on_event=event,
        on_error=lambda error: followed.errors.append(error),
        **options,
    )
    followed = Followed(watcher)
    watcher.start()
    return followed


async def expect_names(followed: Followed, expected: set[str], within_seconds: float = 20) -> None:
    """Wait until the receiver's set is this one."""

    async def check() -> None:
        assert followed.names == expected

    await eventually_async(check, within_seconds=within_seconds)


async def test_deletion_behind_a_410_is_found_by_the_next_list(
    client: KubeClient, proxy: ApiProxy, world: World, namespace: str
) -> None:
    """What was deleted while the watch was away is absent from the complete list that follows."""
    world.create(config_map("stays"), config_map("goes"))
    followed = follow(client, namespace)
    try:
        await expect_names(followed, {"stays", "goes"})
        await asyncio.to_thread(proxy.wait_watched, "configmaps")
        outage = proxy.fail("GET", "configmaps", watch=True)
        proxy.cut_watches("configmaps")
        world.delete("ConfigMap", "goes")
        proxy.fail("GET", "configmaps", status=410, watch=True, times=1)
        outage.lift()
        await expect_names(followed, {"stays"})
        assert len(followed.lists) == 2
        assert ("DELETED", "goes") not in followed.events
        world.create(config_map("later"))
        await expect_names(followed, {"stays", "later"})
    finally:
        await followed.watcher.stop()


async def test_a_cut_watch_goes_on_where_it_ended_without_a_list(
    client: KubeClient, proxy: ApiProxy, world: World, namespace: str
) -> None:
    """Six cuts, ever longer pauses, one list; nothing lost."""
    followed = follow(client, namespace)
    try:
        await expect_names(followed, set())
        for number in range(6):
            await asyncio.to_thread(proxy.wait_watched, "configmaps")
            assert proxy.cut_watches("configmaps") == 1
            world.create(config_map(f"cm-{number}"))
        await expect_names(followed, {f"cm-{number}" for number in range(6)}, within_seconds=20)
        assert len(followed.lists) == 1
        assert proxy.count("GET", "configmaps", watch=False) == 1
    finally:
        await followed.watcher.stop()


async def test_an_outage_neither_ends_the_watch_nor_empties_the_set(
    client: KubeClient, proxy: ApiProxy, world: World, namespace: str
) -> None:
    """Errors are reported and backed off from; what was known stays; it heals by itself."""
    world.create(config_map("a"))
    followed = follow(client, namespace)
    try:
        await expect_names(followed, {"a"})
        await asyncio.to_thread(proxy.wait_watched, "configmaps")
        outage = proxy.fail(None, "configmaps", status=503)
        began = proxy.count("GET", "configmaps")
        proxy.send_watch_error("configmaps", code=410)

        async def reported() -> None:
            assert len(followed.errors) >= 4

        await eventually_async(reported, within_seconds=30)
        assert proxy.count("GET", "configmaps") - began < 12, "that is no back-off"
        assert followed.watcher.healthy_since is None
        assert followed.names == {"a"}
        outage.lift()
        world.create(config_map("b"))
        await expect_names(followed, {"a", "b"}, within_seconds=30)

        async def healthy() -> None:
            assert followed.watcher.healthy_since is not None
            assert followed.watcher.last_error is None

        await eventually_async(healthy, within_seconds=20)
    finally:
        await followed.watcher.stop()


async def test_a_silent_watch_is_replaced(client: KubeClient, proxy: ApiProxy, world: World, namespace: str) -> None:
    """After the inactivity time-out it connects anew from where it was."""
    followed = follow(client, namespace, inactivity_seconds=0.4)
    try:
        await expect_names(followed, set())

        async def connected_again() -> None:
            assert proxy.count("GET", "configmaps", watch=True) >= 3

        await eventually_async(connected_again, within_seconds=30)
        assert len(followed.lists) == 1
        world.create(config_map("a"))
        await expect_names(followed, {"a"})
    finally:
        await followed.watcher.stop()


async def test_a_missing_right_is_reported_and_asked_for_slowly(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """403: not listed, an error to show, no hammering."""
    nobody = plane.kubeconfig_for("nobody", plane.token_for_service_account(namespace, "default"), tmp_path / "nobody")
    async with KubeClient.connect(nobody) as client:
        mark = plane.audit_mark()
        followed = follow(client, namespace)
        try:

            async def refused() -> None:
                assert isinstance(followed.watcher.last_error, Forbidden)

            await eventually_async(refused, within_seconds=20)
            await asyncio.sleep(1.5)
            assert not followed.watcher.listed
            assert (
                len(plane.audit_since(mark, namespace=namespace, resource="configmaps", user_agent="aigateway-operator")) <= 2
            )
        finally:
            await followed.watcher.stop()


@dataclass
class Secrets:
    """A SecretWatch and what it told."""

    watch: SecretWatch
    namespace: str
    changes: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)

    async def ensure(self, caller: str = "main", **names: str) -> None:
        """Refer to keys of Secrets."""
        await self.watch.ensure(self.namespace, keys(**names), caller=caller)

    def values(self, name: str) -> dict[str, bytes]:
        """What is held of a Secret."""
        return dict(self.watch.state(self.namespace, name).values)

    async def expect(self, name: str, **expected: str) -> None:
        """Wait until exactly these values are held."""

        async def check() -> None:
            assert self.values(name) == {key: value.encode() for key, value in expected.items()}

        await eventually_async(check, within_seconds=20)


@pytest.fixture
async def secrets(client: KubeClient, namespace: str) -> AsyncIterator[Secrets]:
    """A SecretWatch for the test's namespace that has listed it."""
    told: list[str] = []
    listed: list[str] = []
    watch = SecretWatch(client, on_change=lambda _, name: told.append(name), on_listed=listed.append)
    followed = Secrets(watch, namespace, told, listed)
    watch.watch(namespace)

    async def ready() -> None:
        assert watch.listed(namespace)

    await eventually_async(ready, within_seconds=20)
    yield followed
    await watch.stop()


async def test_rotation_of_a_referenced_key_is_told_and_nothing_else_is(secrets: Secrets, world: World) -> None:
    """Other keys, labels and Secrets that nobody references cause no call."""
    world.create(secret("openai", key="v1", other="x"), secret("foreign", key="y"))
    await secrets.ensure(openai="key")
    assert secrets.values("openai") == {"key": b"v1"}
    world.patch("Secret", "openai", {"metadata": {"labels": {"a": "b"}}, "data": {"other": base64.b64encode(b"z").decode()}})
    world.patch("Secret", "foreign", {"data": {"key": base64.b64encode(b"z").decode()}})
    world.patch("Secret", "openai", {"data": {"key": base64.b64encode(b"v2").decode()}})
    await secrets.expect("openai", key="v2")
    assert secrets.changes == ["openai"]
    assert secrets.listed == [secrets.namespace]


async def test_vanished_key_and_secret_are_told_with_the_moment_and_their_return(secrets: Secrets, world: World) -> None:
    """The plan revokes a few seconds after gone_since, unless it is back."""
    world.create(secret("openai", key="v1", second="s"))
    await secrets.ensure(openai="key second")
    began = time.monotonic()
    world.patch("Secret", "openai", {"data": {"key": None}})
    await secrets.expect("openai", second="s")
    state = secrets.watch.state(secrets.namespace, "openai")
    assert state.exists
    assert state.gone_since is not None
    assert began <= state.gone_since <= time.monotonic()
    world.delete("Secret", "openai")
    await secrets.expect("openai")
    assert not secrets.watch.state(secrets.namespace, "openai").exists
    world.create(secret("openai", key="v2", second="s"))
    await secrets.expect("openai", key="v2", second="s")
    assert secrets.watch.state(secrets.namespace, "openai").gone_since is None


async def test_missing_is_told_from_refused(secrets: Secrets, world: World, namespace: str) -> None:
    """A Helm release and a token are refused by name of their type; a Secret that is not there is missing; and it may come."""
    token = secret("token", "kubernetes.io/service-account-token", extra="t")
    token["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "default"}
    world.create(secret("release", HELM, release="hunter2"), token)
    for wanted in ({"release": "release"}, {"release": "release", "token": "token", "a": "k", "b": "k"}):
        await secrets.ensure(**wanted)
        state = secrets.watch.state(namespace, "release")
        assert (state.known, state.exists, state.refused_type, dict(state.values)) == (True, True, HELM, {})
    assert secrets.watch.state(namespace, "token").refused_type == "kubernetes.io/service-account-token"
    missing = secrets.watch.state(namespace, "a")
    assert (missing.known, missing.exists, missing.gone_since) == (True, False, None)
    world.create(secret("a", k="1"))
    await secrets.expect("a", k="1")
    assert secrets.changes == ["a"]


async def test_our_own_credentials_secrets_are_no_references(secrets: Secrets, world: World, namespace: str) -> None:
    """Otherwise a VirtualModel could name another gateway's credentials, and our own writes would wake us."""
    own = secret("main-credentials", key="x")
    own["metadata"]["labels"] = {MANAGED_BY_LABEL: MANAGED_BY}
    world.create(own)
    await secrets.ensure(**{"main-credentials": "key"})
    assert not secrets.watch.state(namespace, "main-credentials").exists


async def test_values_that_nobody_references_are_not_in_memory(secrets: Secrets, world: World) -> None:
    """Neither in the state nor in a frame, buffer or parsed object that lingers."""
    marker = "unreferenced-" + "value"
    release = "helm-" + "release-content"
    world.create(secret("openai", key="v1", other=f"{marker}-1"), secret("release", HELM, release=f"{release}-1"))
    await secrets.ensure(openai="key")
    world.create(secret("foreign", key=f"{marker}-2"))
    world.patch("Secret", "openai", {"data": {"key": base64.b64encode(b"v2").decode()}})
    await secrets.expect("openai", key="v2")
    encoded = {base64.b64encode(f"{text}-{number}".encode()).decode()[:16] for text in (marker, release) for number in (1, 2)}
    plain = {f"{text}-{number}" for text in (marker, release) for number in (1, 2)}
    held = _texts_reachable_from(secrets.watch)
    found = [text for text in held if any(piece in text for piece in encoded | plain)]
    assert found == []
    assert any("v2" in text for text in held), "the search itself finds nothing"


def _texts_reachable_from(root: object) -> list[str]:
    """Every string and bytes that the object graph of `root` and the frames of its tasks refer to."""
    seen: set[int] = set()
    texts: list[str] = []
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    todo: list[object] = [root, *tasks]
    while todo:
        item = todo.pop()
        if (
            id(item) in seen
            or isinstance(item, type)
            or type(item).__name__ in ("module", "function", "builtin_function_or_method")
        ):
            continue
        seen.add(id(item))
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, bytes | bytearray):
            texts.append(bytes(item).decode(errors="replace"))
        else:
            todo.extend(gc.get_referents(item))
            for attribute in ("cr_frame", "ag_frame", "gi_frame"):
                frame = getattr(item, attribute, None)
                todo.extend(frame.f_locals.values() if frame is not None else [])
    return texts


async def test_many_lacking_secrets_cost_one_list_and_few_cost_one_each(
    secrets: Secrets, proxy: ApiProxy, world: World
) -> None:
    """A gateway with fifty Secrets starts with a list, not with fifty reads; what is known costs nothing."""
    world.create(*(secret(f"s-{number}", k=str(number)) for number in range(10)))
    await secrets.ensure(**{"s-0": "k", "s-1": "k"})
    before = proxy.count("GET", "secrets", watch=False)
    await secrets.ensure(**{f"s-{number}": "k" for number in range(10)})
    assert proxy.count("GET", "secrets", watch=False) == before + 1
    assert [secrets.values(f"s-{number}") for number in range(10)] == [{"k": str(n).encode()} for n in range(10)]
    await secrets.ensure(**{f"s-{number}": "k" for number in range(10)})
    await secrets.ensure(caller="second", **{"s-3": "k"})
    assert proxy.count("GET", "secrets", watch=False) == before + 1


async def test_an_unreadable_secret_is_unknown_and_told_when_it_can_be_read(
    secrets: Secrets, proxy: ApiProxy, world: World, namespace: str
) -> None:
    """Unknown is not missing: what is live is kept; nobody has to ask again."""
    world.create(secret("openai", key="v1"), secret("fence", key="1"))
    await secrets.ensure(caller="other", fence="key")
    world.patch("Secret", "fence", {"data": {"key": base64.b64encode(b"2").decode()}})
    await secrets.expect("fence", key="2")  # so the watch is past the creation of the other
    secrets.changes.clear()
    outage = proxy.fail("GET", "secrets", status=403, watch=False)
    await secrets.ensure(openai="key")
    assert not secrets.watch.state(namespace, "openai").known
    sent = proxy.count("GET", "secrets", watch=False)
    await secrets.ensure(openai="key")
    assert proxy.count("GET", "secrets", watch=False) == sent, "an outage must not cost every round a request"
    outage.lift()
    await secrets.expect("openai", key="v1")
    assert secrets.changes == ["openai"]
    assert secrets.watch.state(namespace, "openai").known


async def test_changes_behind_a_410_are_found(secrets: Secrets, proxy: ApiProxy, world: World) -> None:
    """The complete list after it tells rotation and deletion alike."""
    world.create(secret("rotated", k="1"), secret("deleted", k="1"), secret("same", k="1"))
    await secrets.ensure(rotated="k", deleted="k", same="k")
    await asyncio.to_thread(proxy.wait_watched, "secrets")
    outage = proxy.fail("GET", "secrets", watch=True)
    proxy.cut_watches("secrets")
    world.patch("Secret", "rotated", {"data": {"k": base64.b64encode(b"2").decode()}})
    world.delete("Secret", "deleted")
    proxy.fail("GET", "secrets", status=410, watch=True, times=1)
    outage.lift()
    await secrets.expect("rotated", k="2")
    await secrets.expect("deleted")
    assert sorted(secrets.changes) == ["deleted", "rotated"]
    assert secrets.watch.state(secrets.namespace, "deleted").gone_since is not None


async def test_a_selector_narrows_what_exists(client: KubeClient, world: World, namespace: str) -> None:
    """A Secret without the label cannot be referenced, and its value is not read."""
    labelled = secret("labelled", k="1")
    labelled["metadata"]["labels"] = {"gateway": "yes"}
    world.create(labelled, secret("plain", k="1"))
    watch = SecretWatch(client, on_change=lambda *_: None, label_selector="gateway=yes")
    try:
        await watch.ensure(namespace, keys(labelled="k", plain="k"), caller="main")
        assert watch.state(namespace, "labelled").values == {"k": b"1"}
        assert not watch.state(namespace, "plain").exists
    finally:
        await watch.stop()


async def test_generated_objects_hand_edits_and_deletions_are_seen_by_metadata_alone(
    client: KubeClient, proxy: ApiProxy, world: World, namespace: str
) -> None:
    """Both kinds, only ours, also across a 410."""
    changes: list[tuple[str, str, bool]] = []
    listed: list[str] = []

    def changed(resource: Resource, _namespace: str, name: str, version: str | None) -> None:
        changes.append((resource.plural, name, version is not None))

    credentials = secret("main-credentials", key="hunter2")
    credentials["metadata"]["labels"] = {MANAGED_BY_LABEL: MANAGED_BY}
    made, _ = world.create(config_map("main-config", x="1"), credentials)
    world.create(config_map("foreign", ours=False))
    watch = OwnedWatch(client, on_change=changed, on_listed=listed.append)
    try:
        watch.watch(namespace)

        async def seen(names: dict[Resource, set[str]]) -> None:
            assert watch.listed(namespace)
            assert {resource: set(watch.names(namespace, resource)) for resource in names} == names

        await eventually_async(lambda: seen({CONFIG_MAPS: {"main-config"}, SECRETS: {"main-credentials"}}), within_seconds=20)
        assert watch.names(namespace, CONFIG_MAPS)["main-config"] == made["metadata"]["resourceVersion"]
        assert listed == [namespace]
        edited = world.patch("ConfigMap", "main-config", {"data": {"x": "by hand"}})

        async def sees_edit() -> None:
            assert watch.names(namespace, CONFIG_MAPS)["main-config"] == edited["metadata"]["resourceVersion"]

        await eventually_async(sees_edit, within_seconds=20)
        world.delete("Secret", "main-credentials")
        await eventually_async(lambda: seen({CONFIG_MAPS: {"main-config"}, SECRETS: set()}), within_seconds=20)
        await asyncio.to_thread(proxy.wait_watched, "configmaps")
        outage = proxy.fail("GET", "configmaps", watch=True)
        proxy.cut_watches("configmaps")
        world.delete("ConfigMap", "main-config")
        proxy.fail("GET", "configmaps", status=410, watch=True, times=1)
        outage.lift()
        await eventually_async(lambda: seen({CONFIG_MAPS: set(), SECRETS: set()}), within_seconds=20)
        assert changes == [
            *sorted([("configmaps", "main-config", True), ("secrets", "main-credentials", True)], key=changes.index),
            ("configmaps", "main-config", True),
            ("secrets", "main-credentials", False),
            ("configmaps", "main-config", False),
        ]
        assert not any("hunter2" in text for text in _texts_reachable_from(watch))
    finally:
        await watch.stop()


async def test_an_unwatched_namespace_is_forgotten_and_costs_nothing(secrets: Secrets, proxy: ApiProxy, world: World) -> None:
    """After the last gateway of a namespace is gone, no value of it stays and no watch is open."""
    world.create(secret("openai", key="v1"))
    await secrets.ensure(openai="key")
    secrets.watch.unwatch(secrets.namespace)
    assert not secrets.watch.state(secrets.namespace, "openai").known
    assert not secrets.watch.listed(secrets.namespace)

    async def closed() -> None:
        assert proxy.open_watches("secrets") == 0

    await eventually_async(closed, within_seconds=20)
