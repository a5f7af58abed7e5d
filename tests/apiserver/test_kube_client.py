"""The client adapter against the real API server: what it returns, which error each refusal becomes, what it never sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kubernetes.aio.config import incluster_config

from aigateway_operator.errors import ClusterError, Conflict, Forbidden, NotFound, Rejected, SettingsError, Unavailable
from aigateway_operator.kube.access import ClusterAccess
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, VIRTUAL_MODELS, JsonObject
from hack.controlplane import ControlPlane
from tests.apiserver.api_proxy import ApiProxy
from tests.apiserver.world import virtual_model
from tests.eventually import eventually

pytestmark = pytest.mark.apiserver


def config_map(name: str, **data: str) -> JsonObject:
    """A ConfigMap manifest."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@pytest.fixture
async def client(plane: ControlPlane) -> AsyncIterator[KubeClient]:
    """An admin's client."""
    async with KubeClient.connect(plane.kubeconfig) as connected:
        yield connected


async def test_stale_resource_version_is_a_conflict(client: KubeClient, namespace: str) -> None:
    """Who writes second from the same state is refused, and can tell."""
    made = await client.create(CONFIG_MAPS, namespace, config_map("a", x="1"))
    assert "managedFields" not in made["metadata"]
    first = await client.replace(CONFIG_MAPS, namespace, "a", {**made, "data": {"x": "2"}})
    with pytest.raises(Conflict) as refused:
        await client.replace(CONFIG_MAPS, namespace, "a", {**made, "data": {"x": "3"}})
    assert refused.value.status == 409
    assert (await client.get(CONFIG_MAPS, namespace, "a")) == first
    with pytest.raises(Conflict):
        await client.create(CONFIG_MAPS, namespace, config_map("a"))


async def test_delete_hits_only_the_object_that_was_meant(client: KubeClient, namespace: str) -> None:
    """An object made anew under the same name, or changed since, is not deleted."""
    made = await client.create(CONFIG_MAPS, namespace, config_map("a"))
    uid, version = made["metadata"]["uid"], made["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAPS, namespace, "a", uid="00000000-0000-0000-0000-000000000000")
    await client.replace(CONFIG_MAPS, namespace, "a", {**made, "data": {"x": "1"}})
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAPS, namespace, "a", uid=uid, resource_version=version)
    await client.delete(CONFIG_MAPS, namespace, "a", uid=uid)
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, namespace, "a")


async def test_status_patch_with_a_stale_version_is_a_conflict(client: KubeClient, namespace: str) -> None:
    """A status computed from an older object is not written."""
    made = await client.create(VIRTUAL_MODELS, namespace, virtual_model())
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "status": {"modelName": "x"}}
    patched = await client.patch_status(VIRTUAL_MODELS, namespace, "chat", stale)
    assert patched["status"]["modelName"] == "x"
    assert patched["metadata"]["generation"] == made["metadata"]["generation"]
    with pytest.raises(Conflict):
        await client.patch_status(VIRTUAL_MODELS, namespace, "chat", {**stale, "status": {"modelName": "y"}})


async def test_refusals_become_the_errors_they_are(
    plane: ControlPlane, client: KubeClient, namespace: str, tmp_path: Path
) -> None:
    """Forbidden, Rejected, and Unavailable with what the server asked for; each names place and reason."""
    nobody = plane.kubeconfig_for("nobody", plane.token_for_service_account(namespace, "default"), tmp_path / "nobody")
    async with KubeClient.connect(nobody) as other:
        with pytest.raises(Forbidden, match=r"configmaps.*403"):
            await other.list_all(CONFIG_MAPS, namespace)
        assert not await other.can_i("list", SECRETS, namespace)
    assert await client.can_i("list", SECRETS, namespace)
    with pytest.raises(Rejected, match="Invalid value"):
        await client.create(CONFIG_MAPS, namespace, config_map("NOT_A_NAME"))
    with ApiProxy.start(plane) as proxy:
        async with KubeClient.connect(plane.kubeconfig, server_override=proxy.url, deadline_seconds=0.5) as proxied:
            proxy.fail("GET", "configmaps", status=429, retry_after=7, times=1)
            with pytest.raises(Unavailable) as busy:
                await proxied.list_all(CONFIG_MAPS, namespace)
            assert (busy.value.status, busy.value.retry_after_seconds) == (429, 7.0)
            proxy.delay("GET", "configmaps", seconds=15, times=1)
            began = time.monotonic()
            with pytest.raises(Unavailable, match="not answered in time"):
                await proxied.get(CONFIG_MAPS, namespace, "a")
            assert time.monotonic() - began < 10
    async with KubeClient.connect(plane.kubeconfig, server_override="https://127.0.0.1:1") as nowhere:
        with pytest.raises(Unavailable, match="failed"):
            await nowhere.get(CONFIG_MAPS, namespace, "a")


async def test_a_refused_secret_is_not_quoted(client: KubeClient, namespace: str) -> None:
    """Texts of errors end in logs and statuses."""
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": {"x": "hunter2 hunter2"}}}
    with pytest.raises(Rejected) as refused:
        await client.create(SECRETS, namespace, body)
    assert "Invalid" in str(refused.value)
    assert "hunter2" not in str(refused.value)


async def test_pages_are_one_consistent_list(client: KubeClient, namespace: str) -> None:
    """What is written between two pages is not in the list; all pages carry the same resourceVersion."""
    for number in range(7):
        await client.create(CONFIG_MAPS, namespace, config_map(f"cm-{number}"))
    names: list[str] = []
    versions: set[str] = set()
    async for items, version in client.list_pages(CONFIG_MAPS, namespace, metadata_only=True, limit=3):
        assert len(items) <= 3
        assert all("data" not in item and "managedFields" not in item["metadata"] for item in items)
        if not names:
            await client.create(CONFIG_MAPS, namespace, config_map("zz-late"))
        names += [item["metadata"]["name"] for item in items]
        versions.add(version)
    assert [name for name in names if name != "kube-root-ca.crt"] == [f"cm-{number}" for number in range(7)]
    assert len(versions) == 1


async def test_the_next_page_is_made_while_the_caller_goes_through_one(plane: ControlPlane, namespace: str) -> None:
    """One page ahead and no more; a list that is left early leaves no request behind."""
    with ApiProxy.start(plane) as proxy:
        async with KubeClient.connect(plane.kubeconfig, server_override=proxy.url) as client:
            for number in range(6):
                await client.create(CONFIG_MAPS, namespace, config_map(f"cm-{number}"))
            tasks = asyncio.all_tasks()
            pages = client.list_pages(CONFIG_MAPS, namespace, limit=2)
            assert isinstance(pages, AsyncGenerator)
            assert len((await anext(pages))[0]) == 2

            def asked() -> None:
                assert proxy.count("GET", "configmaps") == 2

            eventually(asked, within_seconds=10)  # without a turn of this loop, as a caller that computes
            assert len((await anext(pages))[0]) == 2
            await pages.aclose()
            assert asyncio.all_tasks() == tasks


async def test_a_list_that_is_forgotten_midway_is_never_taken_for_complete(plane: ControlPlane, namespace: str) -> None:
    """list_pages says so, list_all begins anew and returns the whole."""
    with ApiProxy.start(plane) as proxy:
        async with KubeClient.connect(plane.kubeconfig, server_override=proxy.url) as client:
            for number in range(4):
                await client.create(CONFIG_MAPS, namespace, config_map(f"cm-{number}"))
            pages = client.list_pages(CONFIG_MAPS, namespace, limit=2)
            await anext(pages)
            proxy.fail("GET", "configmaps", status=410, times=1)
            with pytest.raises(Unavailable, match="begin anew"):
                async for _ in pages:  # one more may have been asked for already
                    pass

            before = proxy.count("GET", "configmaps")
            listing = asyncio.create_task(client.list_all(CONFIG_MAPS, namespace, limit=2))
            while proxy.count("GET", "configmaps") == before:
                await asyncio.sleep(0)
            proxy.fail("GET", "configmaps", status=410, times=1)
            items, _ = await listing
            assert {f"cm-{number}" for number in range(4)} <= {item["metadata"]["name"] for item in items}
            assert len(items) == len({item["metadata"]["name"] for item in items})


async def test_watch_tells_every_change_after_a_version(client: KubeClient, namespace: str) -> None:
    """In order, and nothing from before."""
    old = await client.create(CONFIG_MAPS, namespace, config_map("old"))
    _, version = await client.list_all(CONFIG_MAPS, namespace)
    await client.create(CONFIG_MAPS, namespace, config_map("new", x="ü" * 300_000))
    await client.delete(CONFIG_MAPS, namespace, "old", uid=old["metadata"]["uid"])
    seen = []
    async with asyncio.timeout(10), aclosing(client.watch(CONFIG_MAPS, namespace, resource_version=version)) as events:
        async for kind, obj in events:
            seen.append((kind, obj["metadata"]["name"], len(obj.get("data", {}).get("x", ""))))
            if kind == "DELETED":
                break
    assert seen == [("ADDED", "new", 300_000), ("DELETED", "old", 0)]


@pytest.mark.parametrize(("code", "kind"), [(410, Rejected), (500, Unavailable), (403, Forbidden)])
async def test_an_error_event_of_a_watch_becomes_the_error_it_is(
    plane: ControlPlane, namespace: str, code: int, kind: type[ClusterError]
) -> None:
    """A watch is answered 200 and breaks off later; 410 means that its version is forgotten."""
    with ApiProxy.start(plane) as proxy:
        async with KubeClient.connect(plane.kubeconfig, server_override=proxy.url) as client:
            _, version = await client.list_all(CONFIG_MAPS, namespace)
            opened = asyncio.Event()
            events = client.watch(CONFIG_MAPS, namespace, resource_version=version, on_open=opened.set)
            waiting = asyncio.create_task(anext(events))
            await opened.wait()
            await asyncio.to_thread(proxy.send_watch_error, "configmaps", code=code)
            with pytest.raises(kind) as broken:
                await waiting
            assert broken.value.status == code


async def test_a_silent_watch_ends(client: KubeClient, namespace: str) -> None:
    """A connection that is open and dead is noticed by our own time-out."""
    _, version = await client.list_all(CONFIG_MAPS, namespace)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="silent"):
        await anext(client.watch(CONFIG_MAPS, namespace, resource_version=version, inactivity_seconds=0.5))
    assert time.monotonic() - began < 5


async def test_nothing_is_written_behind_the_fence(plane: ControlPlane, client: KubeClient, namespace: str) -> None:
    """Without leadership no write is sent, reads are; with little of it left, the write is given up in time."""
    await client.create(CONFIG_MAPS, namespace, config_map("a"))
    client.fence = lambda: 0.0
    mark = plane.audit_mark()
    writes = [
        client.create(CONFIG_MAPS, namespace, config_map("b")),
        client.replace(CONFIG_MAPS, namespace, "a", config_map("a", x="1")),
        client.patch(CONFIG_MAPS, namespace, "a", {"data": {"x": "2"}}),
        client.patch_status(VIRTUAL_MODELS, namespace, "chat", {"status": {}}),
        client.delete(CONFIG_MAPS, namespace, "a", uid="u"),
    ]
    for write in writes:
        with pytest.raises(Unavailable, match="not the leader"):
            await write
    assert "data" not in await client.get(CONFIG_MAPS, namespace, "a")
    sent = [
        record
        for record in plane.audit_since(mark, namespace=namespace, user_agent="aigateway-operator")
        if record.verb != "get"
    ]
    assert sent == []
    await client.unfenced().create(CONFIG_MAPS, namespace, config_map("lease-like"))
    with ApiProxy.start(plane) as proxy:
        async with KubeClient.connect(plane.kubeconfig, server_override=proxy.url) as slow:
            proxy.delay("POST", "configmaps", seconds=15)
            slow.fence = lambda: 0.3
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await slow.create(CONFIG_MAPS, namespace, config_map("late"))
            assert time.monotonic() - began < 10


async def test_a_rotated_token_is_taken_up_at_the_first_401(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """The kubeconfig (or the pod's token file) is read again, and the call succeeds without the caller's help."""
    file = plane.kubeconfig_for("rotating", "expired", tmp_path / "rotating")
    async with KubeClient.connect(file) as client:
        plane.kubeconfig_for("rotating", plane.admin_token, file)
        await client.create(CONFIG_MAPS, namespace, config_map("a"))
    async with KubeClient.connect(plane.kubeconfig_for("wrong", "wrong", tmp_path / "wrong")) as client:
        with pytest.raises(Forbidden, match="401"):
            await client.get(CONFIG_MAPS, namespace, "a")


async def test_a_pod_uses_its_service_account_and_takes_up_a_new_token(
    plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Address from the environment, token and CA from files; the kubelet replaces the token while we run."""
    url = urlsplit(plane.url)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(url.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(url.port))
    token = tmp_path / "token"
    token.write_text("expired")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(plane.ca_file))
    async with KubeClient.connect() as client:
        token.write_text(plane.admin_token + "\n")
        await client.create(CONFIG_MAPS, namespace, config_map("a"))
    credentials = await ClusterAccess().credentials()
    assert credentials.server == plane.url
    assert credentials.authorization == f"bearer {plane.admin_token}"
    assert plane.admin_token not in repr(credentials)


async def test_missing_credentials_are_told_with_place_and_remedy(tmp_path: Path) -> None:
    """Neither a missing file nor a broken one gives a stack trace, and no value of the file is quoted."""
    with pytest.raises(SettingsError, match="not readable"):
        async with KubeClient.connect(tmp_path / "none"):
            pass
    (tmp_path / "broken").write_text("current-context: hunter2\ncontexts: []\nclusters: []\nusers: []\n")
    with pytest.raises(SettingsError, match="cannot load credentials") as refused:
        async with KubeClient.connect(tmp_path / "broken"):
            pass
    assert "hunter2" not in str(refused.value)


async def test_calls_from_many_tasks_do_not_wait_for_watches(client: KubeClient, namespace: str) -> None:
    """A pool with a limit would be used up by watches: 120 of them are open here."""
    _, version = await client.list_all(CONFIG_MAPS, namespace)
    opened = asyncio.Semaphore(0)

    async def follow() -> None:
        async with aclosing(
            client.watch(CONFIG_MAPS, namespace, resource_version=version, metadata_only=True, on_open=opened.release)
        ) as events:
            async for _ in events:
                pass

    tasks = [asyncio.create_task(follow()) for _ in range(120)]
    try:
        async with asyncio.timeout(30):
            for _ in tasks:
                await opened.acquire()
            assert isinstance(await client.get(CONFIG_MAPS, namespace, "kube-root-ca.crt"), dict)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [result for result in results if isinstance(result, ClusterError)]
