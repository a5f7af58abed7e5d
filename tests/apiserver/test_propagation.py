"""From an edit to Propagated, on the real API server with the operator's own rights: pods are poked, asked and told of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from tests.apiserver.conftest import StartOperator
from tests.apiserver.stub_pods import StubPod, free_port
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.eventually import eventually
from tests.operators import USER, InProcess

pytestmark = pytest.mark.apiserver
LOOPBACK = (ip_network("127.0.0.0/8"),)
StartPod = Callable[..., StubPod]


@pytest.fixture
def port() -> int:
    """The status port of every pod of the test."""
    return free_port()


@pytest.fixture
def start_pod(world: World, port: int) -> Iterator[StartPod]:
    """Starts stand-ins; all end with the test."""
    started: list[StubPod] = []

    def start(name: str, **more: Any) -> StubPod:
        pod = StubPod(world, name, port, **more)
        started.append(pod)
        return pod

    yield start
    for pod in started:
        pod.stop()


@pytest.fixture
def operator(start_operator: StartOperator) -> InProcess:
    """An operator that may connect to loopback, where the stand-ins are."""
    return start_operator(allow_addresses=LOOPBACK)


def furnish(world: World, port: int, **delivery: Any) -> None:
    """Create a gateway that selects pods, with a model and its Secret."""
    selector = {"matchLabels": {"app": "gateway"}}
    world.create(secret(), gateway_config(delivery={"podSelector": selector, "statusPort": port, **delivery}), virtual_model())


def propagated(world: World, status: str, reason: str, within_seconds: float = 20.0) -> dict[str, Any]:
    """Wait for a status and reason of Propagated."""
    return world.wait_condition("GatewayConfig", "main", "Propagated", status, reason, within_seconds=within_seconds)


def wait_revision(world: World, revision: int, within_seconds: float = 20.0) -> dict[str, Any]:
    """Wait until Propagated is True for a revision; return status.rollout."""

    def check() -> dict[str, Any]:
        status = world.get("GatewayConfig", "main")["status"]
        rollout: dict[str, Any] = status.get("rollout") or {}
        # Both from one answer: a second read may be of a later status.
        said = {condition["type"]: condition["status"] for condition in status.get("conditions") or []}
        assert (rollout.get("revision"), said.get("Propagated")) == (revision, "True")
        return rollout

    return eventually(check, within_seconds=within_seconds, every_seconds=0.02)


def test_edit_is_poked_proved_and_said_with_two_status_writes(
    world: World, operator: InProcess, start_pod: StartPod, port: int
) -> None:
    """Three pods: one poke each after the write, Propagated within a second of the edit, nothing refused."""
    pods = [start_pod(f"gateway-{number}") for number in range(3)]
    furnish(world, port)
    wait_revision(world, 1)
    eventually(operator.assert_idle, within_seconds=20)
    mark = world.plane.audit_mark()
    began = time.monotonic()
    world.patch_spec("VirtualModel", "chat", current="big")
    rollout = wait_revision(world, 2)
    seconds = time.monotonic() - began
    assert (rollout["desired"], rollout["updated"], rollout["unknown"]) == (3, 3, 0)
    assert world.get("GatewayConfig", "main")["status"]["pods"] == "3/3"
    assert 0 < rollout["lastDurationMilliseconds"] < 1500
    assert seconds < 2
    assert [pod.poked for pod in pods] == ["2.1.0"] * 3
    eventually(operator.assert_idle, within_seconds=20)
    writes = world.writes_since(mark)
    told = [record for record in writes if record.resource == "gatewayconfigs/status"]
    assert len(told) <= 2, told
    order = [record.resource for record in writes if record.resource in {"configmaps", "pods/status"}]
    assert order == ["configmaps", *["pods/status"] * 3]
    refused = [record for record in world.plane.audit_since(mark, user=USER) if record.code == 403]
    assert refused == []


def test_frozen_pod_is_named_within_five_seconds_and_recovery_clears_it(
    world: World, operator: InProcess, start_pod: StartPod, port: int
) -> None:
    """A pod that goes on with the old revision, then one that hangs; Ready is untouched, and Events say both."""
    start_pod("gateway-0")
    frozen = start_pod("gateway-1")
    furnish(world, port)
    wait_revision(world, 1)
    frozen.frozen = True
    world.patch_spec("VirtualModel", "chat", current="big")
    found = propagated(world, "False", "Stragglers", within_seconds=8)
    assert "gateway-1 runs revision 1 of config.yml, not 2" in found["message"]
    status = world.get("GatewayConfig", "main")["status"]
    assert status["rollout"]["stragglers"] == ["gateway-1"]
    assert status["pods"] == "1/2"
    assert world.condition("GatewayConfig", "main", "Ready")["status"] == "True"
    frozen.frozen = False
    frozen.load()
    wait_revision(world, 2)

    def told() -> None:
        events = world.plane.request("GET", f"/apis/events.k8s.io/v1/namespaces/{world.namespace}/events").body["items"]
        reasons = [event["reason"] for event in events if event["regarding"]["name"] == "main"]
        assert sorted(set(reasons) & {"Stragglers", "Propagated", "Progressing"}) == ["Propagated", "Stragglers"]

    eventually(told, within_seconds=20)


def test_nothing_is_written_by_a_restart_and_no_pod_is_poked(
    world: World, start_operator: StartOperator, start_pod: StartPod, port: int
) -> None:
    """A new leader asks every pod, and finds that the status says the truth."""
    pod = start_pod("gateway-0")
    furnish(world, port)
    first = start_operator(allow_addresses=LOOPBACK)
    wait_revision(world, 1)
    eventually(first.assert_idle, within_seconds=20)
    first.stop()
    mark, asked, poked = world.plane.audit_mark(), pod.asked, pod.poked
    second = start_operator(allow_addresses=LOOPBACK)

    def has_asked() -> None:
        assert pod.asked > asked

    eventually(has_asked, within_seconds=15)
    eventually(second.assert_idle, within_seconds=20)
    assert world.writes_since(mark) == []
    assert pod.poked == poked


def test_loopback_is_not_asked_unless_allowed_and_pods_come_and_go(
    world: World, start_operator: StartOperator, start_pod: StartPod, port: int
) -> None:
    """A pod's address is judged like any other; without ready pods nothing is claimed."""
    furnish(world, port)
    start_operator()
    propagated(world, "Unknown", "NoPods")
    pod = start_pod("gateway-0")
    found = propagated(world, "Unknown", "Unreachable")
    assert "loopback" in found["message"]
    assert pod.asked == 0
    pod.set_ready(False)
    propagated(world, "Unknown", "NoPods")
