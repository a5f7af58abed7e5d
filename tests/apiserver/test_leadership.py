"""Several operators: one leads, another takes over, and a former leader lands no write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.audit import WRITES, AuditMark
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.eventually import eventually
from tests.operators import NAMESPACE, USER, Process

pytestmark = pytest.mark.apiserver


class Replicas:
    """Operator processes that contend for the Lease of the test's namespace."""

    def __init__(self, world: World, kubeconfig: Path, folder: Path) -> None:
        self.world, self._kubeconfig, self._folder = world, kubeconfig, folder
        self.running: dict[str, Process] = {}

    def start(self, identity: str) -> Process:
        """Start one; its user agent is that of all, its identity its own."""
        namespace = self.world.namespace
        self.running[identity] = Process.start(
            self._kubeconfig,
            self._folder / f"{identity}.log",
            namespaces=namespace,
            lease_namespace=NAMESPACE,
            lease_name=namespace,
            identity=identity,
        )
        return self.running[identity]

    def leader(self) -> str:
        """Return who holds the Lease."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{self.world.namespace}"
        answer = self.world.plane.request("GET", path)
        assert answer.status == 200, answer.body
        holder = answer.body["spec"].get("holderIdentity") or ""
        assert holder in self.running, f"holder {holder!r}"
        return str(holder)


@pytest.fixture
def replicas(world: World, kubeconfig: Path, tmp_path: Path) -> Iterator[Replicas]:
    """Replicas of the test's namespace; killed afterwards."""
    found = Replicas(world, kubeconfig, tmp_path)
    yield found
    for process in found.running.values():
        if process.process.poll() is None:
            process.kill()


def _current(world: World, wanted: str) -> None:
    assert world.models()["chat"]["current"] == wanted


def _prepare(replicas: Replicas) -> tuple[str, str]:
    """Start two, wait for documents; return (leader, standby)."""
    world, mark = replicas.world, replicas.world.plane.audit_mark()
    world.create(secret(), gateway_config(), virtual_model())
    replicas.start("one")
    replicas.start("two")
    world.wait_ready("chat", within_seconds=60)  # two processes start side by side
    eventually(lambda: _both_watch(world, mark), within_seconds=60)  # the standby may be the later one
    leader = replicas.leader()
    return leader, "two" if leader == "one" else "one"


def _both_watch(world: World, mark: AuditMark) -> None:
    """Assert that kopf has begun in both processes: one that still starts is no standby, and takes over when it is one."""
    plane, namespace = world.plane, world.namespace
    lists = plane.audit_since(mark, user_agent="kopf", verbs={"list"}, resource="virtualmodels", namespace=namespace)
    assert len(lists) >= 2, lists


def test_after_a_kill_of_the_leader_the_other_serves_within_five_seconds(replicas: Replicas) -> None:
    """From SIGKILL to the first edit rendered by the other process: at most 5 s."""
    leader, standby = _prepare(replicas)
    replicas.running[leader].kill()
    killed = time.monotonic()
    replicas.world.patch_spec("VirtualModel", "chat", current="big")
    eventually(lambda: _current(replicas.world, "big"), within_seconds=5)
    took = time.monotonic() - killed
    print(f"fail-over after SIGKILL: {took:.2f} s")
    assert took <= 5
    assert replicas.leader() == standby
    replicas.world.wait_ready("chat")


def test_after_a_clean_stop_the_other_leads_at_once(replicas: Replicas) -> None:
    """SIGTERM gives the Lease back: the gap is about a second, and the process ends with 0."""
    leader, standby = _prepare(replicas)
    assert replicas.running[leader].stop() == 0
    stopped = time.monotonic()
    replicas.world.patch_spec("VirtualModel", "chat", current="big")
    eventually(lambda: _current(replicas.world, "big"), within_seconds=3)
    print(f"fail-over after SIGTERM: {time.monotonic() - stopped:.2f} s")
    assert replicas.leader() == standby


def test_a_leader_paused_beyond_its_lease_lands_no_write(replicas: Replicas) -> None:
    """SIGSTOP, another leads and writes, SIGCONT: from then on nothing of the former leader changes anything."""
    world = replicas.world
    leader, standby = _prepare(replicas)
    replicas.running[leader].pause()
    try:
        world.patch_spec("VirtualModel", "chat", current="big")
        eventually(lambda: _current(world, "big"), within_seconds=20)
        world.wait_ready("chat")
        world.patch_spec("VirtualModel", "chat", current="small")
        eventually(lambda: _current(world, "small"), within_seconds=20)
        world.wait_ready("chat")
        assert replicas.leader() == standby
        versions = {name: world.get("ConfigMap", name)["metadata"]["resourceVersion"] for name in ("main-config",)}
        mark = world.plane.audit_mark()
    finally:
        replicas.running[leader].resume()

    def heard() -> None:
        assert "leads no more" in replicas.running[leader].output()

    eventually(heard, within_seconds=30)
    world.patch("VirtualModel", "chat", {"metadata": {"labels": {"touched": "yes"}}})
    records = world.plane.audit_since(mark, user=USER, verbs=WRITES)
    landed = [
        record
        for record in records
        if record.namespace == world.namespace and record.resource != "leases" and record.code < 300
    ]
    assert landed == []
    assert world.get("ConfigMap", "main-config")["metadata"]["resourceVersion"] == versions["main-config"]
    assert replicas.leader() == standby
