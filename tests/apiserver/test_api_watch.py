"""Documents over the API: a pod's ServiceAccount on the real API server, through outages, rotation and missing rights."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aigateway_config import ConfigReader, MountedVolume, api_watch
from aigateway_config.api_access import ApiAccess
from aigateway_config.api_watch import ApiWatch
from aigateway_config.errors import SourceFault
from aigateway_config.source import Reading
from hack.controlplane import ControlPlane
from tests.apiserver.api_proxy import ApiProxy
from tests.apiserver.world import World
from tests.eventually import eventually, eventually_async
from tests.unit.config.writer import Writer, keyed_backend, make_mount, make_writer, swap

pytestmark = pytest.mark.apiserver

ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/{}"


class Seen:
    """Takes readings and keeps what they held."""

    def __init__(self) -> None:
        self.readings: list[dict[str, bytes]] = []

    async def offer(self, reading: Reading) -> None:
        assert reading.credentials is None
        self.readings.append({name: reading.read(name) or b"" for name in reading.names()})

    @property
    def last(self) -> dict[str, bytes]:
        assert self.readings, "nothing was offered"
        return self.readings[-1]

    async def wait(self, expected: Mapping[str, bytes], within_seconds: float = 20) -> None:
        """Wait until exactly these files are offered."""

        async def check() -> None:
            assert self.last == expected

        await eventually_async(check, within_seconds=within_seconds, every_seconds=0.01)


@asynccontextmanager
async def following(source: ApiWatch) -> AsyncIterator[Seen]:
    """Run a source; fails if it ends by itself."""
    seen = Seen()
    task = asyncio.create_task(source.run(seen.offer))
    try:
        yield seen
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def world(plane: ControlPlane, namespace: str) -> World:
    """A fresh namespace."""
    return World(plane, namespace)


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[ApiProxy]:
    """A proxy that misbehaves on demand."""
    with ApiProxy.start(plane) as started:
        yield started


def config_map(name: str, data: dict[str, str], *, labelled: bool = True) -> dict[str, Any]:
    """A ConfigMap with the gateway's label, or without."""
    labels = {"ai-gateway.io/gateway": "main"} if labelled else {}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}


def allow(world: World, *names: str) -> None:
    """Let the default ServiceAccount list and watch ConfigMaps: those of these names, or all if none is given."""
    rule: dict[str, Any] = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}
    if names:
        rule["resourceNames"] = list(names)
    meta, api = {"name": "pods", "namespace": world.namespace}, "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": meta, "rules": [rule]}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": world.namespace}
    reference = {"apiGroup": api, "kind": "Role", "name": "pods"}
    binding = {**role, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
    del binding["rules"]
    for plural, body in (("roles", role), ("rolebindings", binding)):
        answer = world.plane.request("POST", ROLES.format(world.namespace, plural), body)
        assert answer.status == 201, answer.body
    token = world.plane.token_for_service_account(world.namespace, "default")

    def in_force() -> None:  # the authorizer learns of a Role by a watch of its own
        for name in names or ("",):
            query = f"?fieldSelector=metadata.name%3D{name}" if name else ""
            assert world.plane.request("GET", f"{world.path('ConfigMap')}{query}", token=token).status == 200

    eventually(in_force, within_seconds=10)


def pod(world: World, folder: Path) -> ApiAccess:
    """Access as a pod of this namespace has it."""
    (folder / "token").write_text(world.plane.token_for_service_account(world.namespace, "default") + "\n")
    return ApiAccess(world.plane.url, world.namespace, token_file=folder / "token", ca_file=world.plane.ca_file)


def admin(world: World, proxy: ApiProxy) -> ApiAccess:
    """Access through the proxy, past all rights."""
    return ApiAccess(proxy.url, world.namespace, token=world.plane.admin_token)


async def test_a_pod_that_may_list_and_watch_is_told_of_every_change(world: World, tmp_path: Path) -> None:
    """What is there, what comes, what changes and what goes, each as bytes by file name; nothing else it could see."""
    allow(world)
    world.create(
        config_map("main-config", {"config.yml": "{ü}", "config.manifest.json": "{}"}),
        config_map("other-config", {"config.yml": "other"}, labelled=False),
    )
    async with following(ApiWatch("main", access=pod(world, tmp_path))) as seen:
        first = {"config.yml": "{ü}".encode(), "config.manifest.json": b"{}"}
        await seen.wait(first)
        world.create(config_map("main-models-07", {"models-07.yml": "m", "models-07.manifest.json": "n"}))
        shard = {"models-07.yml": b"m", "models-07.manifest.json": b"n"}
        await seen.wait(first | shard)
        world.patch("ConfigMap", "main-config", {"data": {"config.yml": "{2}", "stray.yml": "x"}})
        await seen.wait(first | shard | {"config.yml": b"{2}"})
        world.delete("ConfigMap", "main-models-07")
        await seen.wait(first | {"config.yml": b"{2}"})


async def test_rights_on_names_alone_are_enough_for_those_names(world: World, tmp_path: Path) -> None:
    """A Role with resourceNames allows list and watch of single names; others are neither asked for nor seen."""
    allow(world, "main-config", "main-models-00")
    world.create(config_map("main-config", {"config.yml": "1"}), config_map("main-models-01", {"models-01.yml": "no"}))
    names = ["main-config", "main-models-00"]
    async with following(ApiWatch("main", access=pod(world, tmp_path), config_maps=names)) as seen:
        await seen.wait({"config.yml": b"1"})
        world.create(config_map("main-models-00", {"models-00.yml": "2"}))
        await seen.wait({"config.yml": b"1", "models-00.yml": b"2"})


async def test_a_label_on_a_foreign_config_map_brings_nothing(world: World, proxy: ApiProxy) -> None:
    """Anyone may put our label on anything; it is counted, and its files do not take the place of ours."""
    world.create(config_map("main-config", {"config.yml": "ours"}), config_map("intruder", {"config.yml": "theirs"}))
    source = ApiWatch("main", access=admin(world, proxy))
    async with following(source) as seen:
        await seen.wait({"config.yml": b"ours"})
        assert source.ignored == {"ForeignConfigMap": 1}


async def test_changes_of_metadata_are_not_offered(world: World, proxy: ApiProxy) -> None:
    """An annotation costs no reading; the next change of data does."""
    world.create(config_map("main-config", {"config.yml": "1"}))
    async with following(ApiWatch("main", access=admin(world, proxy))) as seen:
        await seen.wait({"config.yml": b"1"})
        world.patch("ConfigMap", "main-config", {"metadata": {"annotations": {"x": "y"}}})
        world.patch("ConfigMap", "main-config", {"data": {"config.yml": "2"}})
        await seen.wait({"config.yml": b"2"})
        assert len(seen.readings) == 2


async def test_a_deletion_behind_a_410_is_found_by_the_next_list(world: World, proxy: ApiProxy) -> None:
    """A version that the server has forgotten leads to a complete list, and the watch goes on from there."""
    world.create(config_map("main-config", {"config.yml": "1"}), config_map("main-models-00", {"models-00.yml": "2"}))
    async with following(ApiWatch("main", access=admin(world, proxy))) as seen:
        await seen.wait({"config.yml": b"1", "models-00.yml": b"2"})
        await asyncio.to_thread(proxy.wait_watched, "configmaps")
        away = proxy.fail("GET", "configmaps", status=503)
        proxy.cut_watches("configmaps")
        world.delete("ConfigMap", "main-models-00")
        forgotten = proxy.fail("GET", "configmaps", status=410, watch=True)
        away.lift()
        await seen.wait({"config.yml": b"1"})
        forgotten.lift()
        world.patch("ConfigMap", "main-config", {"data": {"config.yml": "3"}})
        await seen.wait({"config.yml": b"3"})


async def test_a_watch_that_is_cut_goes_on_where_it_was(world: World, proxy: ApiProxy) -> None:
    """No second list; what happened meanwhile is told; what is known is never withdrawn."""
    world.create(config_map("main-config", {"config.yml": "1"}))

    async def is_open() -> None:
        assert proxy.open_watches("configmaps") == 1

    async with following(ApiWatch("main", access=admin(world, proxy))) as seen:
        await seen.wait({"config.yml": b"1"})
        for value in range(2, 5):
            await eventually_async(is_open, within_seconds=20)
            fault = proxy.fail("GET", "configmaps", status=503, times=2)
            proxy.cut_watches("configmaps")
            world.patch("ConfigMap", "main-config", {"data": {"config.yml": str(value)}})
            await seen.wait({"config.yml": str(value).encode()})
            assert fault.hits == 2
        assert proxy.count("GET", "configmaps", watch=False) == 1
        assert all(reading for reading in seen.readings)


async def test_a_token_that_is_rotated_is_read_again(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A 401 is tried again with what the file says then; the token is in no log line."""
    allow(world)
    world.create(config_map("main-config", {"config.yml": "1"}))
    access = pod(world, tmp_path)
    valid = (tmp_path / "token").read_text()
    (tmp_path / "token").write_text("expired-token")
    async with following(ApiWatch("main", access=access)) as seen:

        async def refused() -> None:
            assert "answered 401" in caplog.text

        await eventually_async(refused, within_seconds=20)
        (tmp_path / "token").write_text(valid)
        await seen.wait({"config.yml": b"1"})
    assert "expired-token" not in caplog.text
    assert valid.strip() not in caplog.text


async def test_a_missing_right_is_named_and_followed_once_it_is_given(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log names the right, once; the volume goes on meanwhile."""
    monkeypatch.setattr(api_watch, "MAX_BACKOFF_SECONDS", 0.3)
    world.create(config_map("main-config", {"config.yml": "1"}))
    async with following(ApiWatch("main", access=pod(world, tmp_path))) as seen:

        async def named() -> None:
            assert 'cannot list resource "configmaps"' in caplog.text

        await eventually_async(named, within_seconds=20)
        await asyncio.to_thread(allow, world)
        await seen.wait({"config.yml": b"1"})
    assert caplog.text.count("the volume goes on") == 1


async def test_a_certificate_that_does_not_verify_ends_the_source_with_a_reason(world: World) -> None:
    """It is started again by the reader, and reads the CA file anew."""
    access = ApiAccess(world.plane.url, world.namespace, token="t")
    with pytest.raises(SourceFault, match="does not verify"):
        async with asyncio.timeout(10):
            await ApiWatch("main", access=access).run(Seen().offer)


async def test_a_change_is_offered_within_a_tenth_of_a_second(world: World, proxy: ApiProxy) -> None:
    """The median of twenty edits, from before the request to the offer; usually it is a few milliseconds."""
    world.create(config_map("main-config", {"config.yml": "0"}))
    took = []
    async with following(ApiWatch("main", access=admin(world, proxy))) as seen:
        await seen.wait({"config.yml": b"0"})
        for value in range(1, 21):
            began = time.monotonic()
            await asyncio.to_thread(world.patch, "ConfigMap", "main-config", {"data": {"config.yml": str(value)}})
            await seen.wait({"config.yml": str(value).encode()})
            took.append(time.monotonic() - began)
    assert statistics.median(took) < 0.1, took


def apply(world: World, writer: Writer) -> None:
    """Put the writer's documents into ConfigMaps as the operator does."""
    files = {name: content.decode() for name, content in writer.files.items()}
    if world.exists("ConfigMap", "main-config"):
        world.patch("ConfigMap", "main-config", {"data": files})
    else:
        world.create(config_map("main-config", files))


async def test_the_api_brings_documents_sooner_and_the_volume_credentials_and_lineage(
    world: World, proxy: ApiProxy, tmp_path: Path
) -> None:
    """A newer revision is taken from the API unless it names a key that the volume has not brought yet; nothing goes back."""
    writer, mount = make_writer(), make_mount(tmp_path)
    apply(world, writer)
    volume = MountedVolume(mount.config, mount.credentials, poll_seconds=0.5)
    async with ConfigReader([volume, ApiWatch("main", access=admin(world, proxy))]) as reader:

        async def at(revision: int) -> None:
            assert reader.current is not None, reader.error
            assert reader.current.revision == revision, reader.error

        mount.show(writer)
        await eventually_async(lambda: at(1), within_seconds=20)
        writer.put("second")
        apply(world, writer.write())
        await eventually_async(lambda: at(2), within_seconds=20, every_seconds=0.01)

        writer.values["late.api-key"] = "k"
        writer.put("third", backends=[keyed_backend("late")], current="small")
        apply(world, writer.write())

        async def waits() -> None:
            assert "CredentialsPending" in (reader.error or "")

        await eventually_async(waits, within_seconds=20)
        await at(2)
        swap(mount.credentials, writer.credentials)
        await eventually_async(lambda: at(3), within_seconds=20)

        async def told() -> None:
            assert reader.current is not None
            key = reader.current.models["third"].live.api_key
            assert key is not None
            assert key.get_secret_value() == "k"

        await told()
        proxy.fail("GET", "configmaps", status=503)
        proxy.cut_watches("configmaps")
        writer.put("fourth")
        mount.show(writer.write())
        await eventually_async(lambda: at(4), within_seconds=20)


async def test_a_volume_of_an_older_life_keeps_the_api_from_bringing_a_newer_one(
    world: World, proxy: ApiProxy, tmp_path: Path
) -> None:
    """Lineages cannot be compared by revision: the volume decides."""
    writer, mount, other = make_writer(), make_mount(tmp_path), make_writer(lineage="lineage-b", revision=50)
    apply(world, other)
    mount.show(writer)
    api = ApiWatch("main", access=admin(world, proxy))
    async with ConfigReader([MountedVolume(mount.config, mount.credentials), api]) as reader:

        async def counted() -> None:
            assert reader.counters.rejected.get("OtherLineage"), reader.counters
            assert reader.current is not None
            assert reader.current.lineage == writer.lineage

        await eventually_async(counted, within_seconds=20)
        mount.show(other)

        async def moved() -> None:
            assert reader.current is not None
            assert (reader.current.lineage, reader.current.revision) == ("lineage-b", 51)

        await eventually_async(moved, within_seconds=20)
