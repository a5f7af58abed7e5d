"""From an edit into running pods: nothing is lacking at any moment, faster sources are faster, rights are enough."""

from __future__ import annotations

import json
import time
from collections import Counter
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from hack.stores import RedisServer
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World
from tests.delivery import Fleet, Pod, Record, api_reader, backends, furnish, wait_all_run
from tests.eventually import eventually
from tests.operators import USER, InProcess

pytestmark = pytest.mark.apiserver
LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def operator(start_operator: StartOperator) -> InProcess:
    """An operator that may connect to loopback, where the pods are."""
    return start_operator(allow_addresses=LOOPBACK)


def only(backend: str) -> dict[str, Any]:
    """Return the spec that makes a backend the live one and removes the other, in one edit."""
    return {"current": backend, "backends": [one for one in backends() if one["name"] == backend]}


def is_written(world: World, revision: int) -> None:
    """Assert that the document that is live has this revision."""
    assert world.manifest()["revision"] == revision


def flip_and_remove(world: World, revision: int, *, wait: bool) -> None:
    """Make the backend live that was not, and remove the other; `revision`: the one that this gives."""
    world.patch_spec("VirtualModel", "chat", **only(("small", "big")[revision % 2 == 0]))
    if wait:
        wait_all_run(world, 2, revision=revision)
    else:  # the next edit comes while pods are taking up this one
        eventually(lambda: is_written(world, revision), within_seconds=20, every_seconds=0.01)


def keys_are(world: World, *names: str) -> int:
    """Assert which credentials files there are, the caller's key and the manifest apart; return their revision."""
    values = world.values("main-credentials")
    assert set(values) - {"_manifest.json", "keys.proxy"} == set(names)
    revision: int = json.loads(values["_manifest.json"])["credentialsRevision"]
    return revision


def have_credentials(pods: list[Pod], revision: int) -> None:
    """Assert that every worker of every pod runs the credentials of this revision."""
    for pod in pods:
        assert [pod.now(pid)["credentials"] for pid in pod.workers] == [{"_manifest.json": revision}] * len(pod.workers)


def test_flip_and_removal_of_the_old_backend_in_one_edit_leave_no_request_without_its_key(
    world: World, operator: InProcess, told: Record, pods: Fleet, tmp_path: Path
) -> None:
    """Under load, by volume and by API watch, with four workers, and in a pod that is not ready and still serves.

    While that one is there, keys stay that no document names; afterwards they go when all pods have proved that they run the
    new documents, and come back with the next flip, before the document that names them.
    """
    furnish(world, pods.port)
    serving = [
        pods.start("volume", workers=4, load=True),
        pods.start("api", load=True, SOURCES="volume,api", **api_reader(world, tmp_path)),
    ]
    unready = pods.start("unready", load=True, ready=False)
    wait_all_run(world, 2)
    mark = world.plane.audit_mark()
    for revision in range(2, 8):
        flip_and_remove(world, revision, wait=revision % 3 != 0)
    wait_all_run(world, 2, revision=7)
    unready.runs(config=7)
    keys_are(world, "keys.big", "keys.small")
    unready.delete()
    for revision in range(8, 16):
        flip_and_remove(world, revision, wait=revision % 3 != 0)
        if revision % 4 == 0:
            left = eventually(lambda: keys_are(world, "keys.big"), within_seconds=20)
            eventually(partial(have_credentials, serving, left), within_seconds=20)
    wait_all_run(world, 2, revision=15)
    for pod in pods.pods:
        assert pod.lacks() == []
        assert pod.served() > 500, f"{pod.name} served too little for this to mean anything"
    assert told.assert_honest(pods.pods) >= 8
    # All of that with no more rights on pods than these, and none was lacking.
    mine = [one for one in world.plane.audit_since(mark, user=USER) if one.namespace == world.namespace]
    asked = Counter((one.verb, one.resource) for one in mine if one.resource.startswith("pods"))
    assert asked.keys() <= {("list", "pods"), ("watch", "pods"), ("patch", "pods/status")}, asked
    assert asked["patch", "pods/status"] >= 8
    assert [f"{one.verb} {one.uri}" for one in mine if one.denied] == []


def test_api_and_redis_bring_an_edit_while_the_volume_hangs(
    world: World, operator: InProcess, told: Record, pods: Fleet, tmp_path: Path, redis_server: RedisServer
) -> None:
    """The kubelet syncs nothing: two pods run the edit at once and say so, the third is the only straggler."""
    redis = {"storage": {"redis": {"host": redis_server.host, "port": redis_server.port}}}
    furnish(world, pods.port, spec=redis, redisNotify=True)
    by_api = pods.start("api", SOURCES="volume,api", **api_reader(world, tmp_path))
    by_redis = pods.start("redis", SOURCES="volume,redis", workers=2)
    by_volume = pods.start("volume")
    wait_all_run(world, 3)
    for pod in pods.pods:
        pods.kubelet.hold(pod.name)
    world.patch_spec("VirtualModel", "chat", current="big")
    began = time.monotonic()
    assert by_api.runs(config=2) - began < 1
    assert by_redis.runs(config=2) - began < 1

    def named() -> None:
        assert world.get("GatewayConfig", "main")["status"]["rollout"].get("stragglers") == ["volume"]

    eventually(named, within_seconds=20)
    assert by_volume.now()["documents"] == {"config.yml": 1}
    pods.kubelet.release("volume")
    wait_all_run(world, 3, revision=2)
    assert told.assert_honest(pods.pods) >= 1
