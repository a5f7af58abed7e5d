"""Status never lies: what GatewayConfigs claim of pods, held against ledgers of what every worker process really ran."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_network
from random import Random
from typing import Any

import pytest

from tests.apiserver.conftest import StartOperator
from tests.apiserver.stub_pods import StubPod, free_port
from tests.apiserver.world import World
from tests.delivery import Fleet, Record, furnish, propagated, wait_all_run
from tests.eventually import eventually
from tests.operators import InProcess

pytestmark = pytest.mark.apiserver
LOOPBACK = (ip_network("127.0.0.0/8"),)
FLIPS = ("big", "small")


@pytest.fixture
def operator(start_operator: StartOperator) -> InProcess:
    """An operator that may connect to loopback, where the pods are."""
    return start_operator(allow_addresses=LOOPBACK)


def pause(seconds: float) -> None:
    """Let time pass between edits: their moments are what the test puts in; it waits for nothing."""
    time.sleep(seconds)


def flip(world: World, number: int) -> float:
    """Edit the model; return when."""
    world.patch_spec("VirtualModel", "chat", current=FLIPS[number % 2])
    return time.monotonic()


def test_status_is_true_of_every_worker_while_pods_come_go_and_hang(
    world: World, operator: InProcess, told: Record, pods: Fleet
) -> None:
    """Edits at random moments; a node that hangs, a worker that freezes, a pod that comes, one that goes, one that restarts."""
    furnish(world, pods.port)
    steady, many, leaving = pods.start("steady"), pods.start("many", workers=4), pods.start("leaving")
    wait_all_run(world, 3)
    dice, edits = Random(7), 0

    def edit_for(seconds: float) -> None:
        nonlocal edits
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            flip(world, edits)
            edits += 1
            pause(dice.uniform(0.05, 0.5))

    edit_for(1.5)
    pods.kubelet.hold("steady")
    edit_for(1.5)
    pods.kubelet.release("steady")
    frozen = next(pid for pid in many.workers if pid != many.holder(pods.port))
    many.freeze(frozen)
    edit_for(1.0)
    late = pods.start("late", ready=False)
    edit_for(0.5)
    late.set_ready(True)
    leaving.terminate()
    edit_for(1.0)
    many.thaw(frozen)
    steady.set_ready(False)
    edit_for(0.5)
    steady.set_ready(True)
    edit_for(1.0)
    world.wait_ready("chat")  # its last edit is in the documents; two that came close together may be one revision
    wait_all_run(world, 3, revision=world.manifest()["revision"])
    assert told.assert_honest(pods.pods) >= 2
    assert edits > 10


def test_frozen_worker_among_four_is_named_and_recovery_clears_it(
    world: World, operator: InProcess, told: Record, pods: Fleet
) -> None:
    """Stopped (SIGSTOP), it is as if it ran the old documents for ever; frozen with the port, nobody can be asked."""
    furnish(world, pods.port)
    pod = pods.start("four", workers=4)
    pods.start("other")
    wait_all_run(world, 2)
    holder = pod.holder(pods.port)
    frozen = next(pid for pid in pod.workers if pid != holder)
    pod.freeze(frozen)
    began = flip(world, 0)
    found = propagated(world, "False", "Stragglers", within_seconds=20)
    assert time.monotonic() - began < 5.5
    assert "four runs revision 1 of config.yml, not 2" in found["message"]
    assert world.get("GatewayConfig", "main")["status"]["rollout"]["stragglers"] == ["four"]
    pod.thaw(frozen)
    wait_all_run(world, 2, revision=2)
    pod.freeze(holder)
    began = flip(world, 1)
    found = propagated(world, "Unknown", "Unreachable", within_seconds=20)
    assert time.monotonic() - began < 5.5
    assert f"four gives no answer on port {pods.port}" in found["message"]
    pod.thaw(holder)
    wait_all_run(world, 2, revision=3)
    pod.freeze(holder)
    pod.kill(holder)
    flip(world, 2)
    wait_all_run(world, 2, revision=4)
    assert told.assert_honest(pods.pods) >= 3


@pytest.fixture
def stubs(world: World) -> Iterator[dict[str, StubPod]]:
    """Five pods that answer as they are bid; by name."""
    port = free_port()
    furnish(world, port)
    names = ("garbage", "good", "hanging", "lying", "redirecting")
    made = {name: StubPod(world, name, port) for name in names}
    yield made
    for pod in made.values():
        pod.stop()


def test_faults_of_pods_are_named_within_five_seconds_and_cleared_by_recovery(
    world: World, operator: InProcess, stubs: dict[str, StubPod]
) -> None:
    """A pod that hangs, garbage, a wrong digest, a redirect; each is named with its fault, and none twice."""
    wait_all_run(world, 5)
    stubs["hanging"].delay_seconds = 30
    stubs["garbage"].body = b"\x00\xff<html>"
    stubs["redirecting"].code, stubs["redirecting"].headers = 302, {"Location": "http://169.254.169.254/latest/meta-data"}
    stubs["lying"].lie = True
    began = flip(world, 0)
    found = propagated(world, "False", "Stragglers", within_seconds=20)
    seconds = time.monotonic() - began
    assert seconds < 5.5, f"named after {seconds:.1f} s"
    for text in (
        "garbage answers with something that is not a status answer",
        "hanging gives no answer on port",
        "redirecting answers 302 instead of 200",
    ):
        assert text in found["message"]
    assert "lying runs config.yml of revision" in found["message"]
    status = world.get("GatewayConfig", "main")["status"]
    assert status["rollout"]["stragglers"] == ["garbage", "lying", "redirecting", "hanging"]
    assert (status["pods"], status["rollout"]["unknown"]) == ("1/5", 1)
    assert world.condition("GatewayConfig", "main", "Ready")["status"] == "True"
    for pod in stubs.values():
        pod.delay_seconds, pod.body, pod.code, pod.headers, pod.lie = 0.0, None, 200, {}, False
        pod.load()
    rollout = wait_all_run(world, 5, within_seconds=12)
    assert "stragglers" not in rollout


def test_pod_that_turns_ready_later_is_checked(world: World, operator: InProcess, stubs: dict[str, StubPod]) -> None:
    """It was not ready at the edit and missed it: what was True for the others is so no more until it runs it too."""
    late = stubs["good"]
    wait_all_run(world, 5)
    late.set_ready(False)
    late.frozen = True
    flip(world, 0)
    wait_all_run(world, 4, revision=2)
    began = time.monotonic()
    late.set_ready(True)

    def ended() -> dict[str, Any]:
        condition = world.condition("GatewayConfig", "main", "Propagated")
        assert condition["status"] != "True", condition
        return condition

    eventually(ended, within_seconds=3, every_seconds=0.02)
    found = propagated(world, "False", "Stragglers", within_seconds=20)
    assert time.monotonic() - began < 5.5
    assert "good runs revision 1 of config.yml, not 2" in found["message"]
    late.frozen = False
    late.load()
    wait_all_run(world, 5, revision=2)
