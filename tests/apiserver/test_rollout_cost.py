"""What the proof costs: writes, questions and processor time, with two hundred pods and with nothing to do."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from ipaddress import ip_network

import pytest

from aigateway_operator.rollout import cadence
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World
from tests.crowd import Crowd, crowd
from tests.delivery import furnish, record, wait_all_run
from tests.eventually import eventually
from tests.operators import USER, InProcess

pytestmark = [pytest.mark.apiserver, pytest.mark.alone]
LOOPBACK = (ip_network("127.0.0.0/8"),)
PODS = 200


def cpu_seconds(operator: InProcess) -> float:
    """Return the processor time of the operator's loop so far."""
    used: float = operator.call(lambda _: time.thread_time())
    return used


def no_poke_is_answered(pods: Crowd) -> None:
    """For `eventually`: no pod takes up anything any more, since one that does so later needs no poke for what comes next."""
    assert time.monotonic() - pods.poked_at > 1.0


def test_two_hundred_pods_cost_two_statuses_and_a_poke_each(
    world: World, start_operator: StartOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit is proved in about two seconds here, where API server and pods share two cores; then nothing is written.

    Asked again (every minute, here every second) they cost no write at all, and neither does a restart.
    """
    monkeypatch.setattr(cadence, "ASK_AGAIN_SECONDS", (0.8, 1.2))
    operator = start_operator(allow_addresses=LOOPBACK)
    with crowd(world, PODS) as pods:
        furnish(world, pods.port)
        wait_all_run(world, PODS, within_seconds=30, revision=1)
        eventually(partial(no_poke_is_answered, pods), within_seconds=20)
        eventually(operator.assert_idle, within_seconds=20)
        with record(world) as told:
            mark, pokes = world.plane.audit_mark(), pods.pokes
            world.patch_spec("VirtualModel", "chat", current="big")
            rollout = wait_all_run(world, PODS, within_seconds=20, revision=2)
            eventually(operator.assert_idle, within_seconds=20)

            def each_was_poked() -> None:  # a poke works before it is answered: the last ones may still be under way
                writes = Counter(one.resource for one in world.writes_since(mark) if one.verb != "create")
                assert writes["gatewayconfigs/status"] <= 2, writes
                assert PODS <= writes["pods/status"] <= 1.2 * PODS, writes
                assert PODS <= pods.pokes - pokes <= 1.2 * PODS

            eventually(each_was_poked, within_seconds=20)
            assert rollout["lastDurationMilliseconds"] < 8000

            def both_were_heard() -> None:  # by a watch of the test's own, which may be a moment behind
                assert [said.propagated[1] for said in told.said[1:]] == ["Progressing", "Propagated"]

            eventually(both_were_heard, within_seconds=20)
        mark, asked, used, began = world.plane.audit_mark(), pods.asked, cpu_seconds(operator), time.monotonic()

        def asked_again() -> None:
            assert pods.asked >= asked + 3 * PODS

        eventually(asked_again, within_seconds=15)
        each = (cpu_seconds(operator) - used) / (pods.asked - asked)
        assert each < 0.005, f"{each * 1000:.1f} ms of processor time a question, {time.monotonic() - began:.1f} s"
        assert world.writes_since(mark) == []
        operator.stop()
        second = start_operator(allow_addresses=LOOPBACK)
        asked = pods.asked
        eventually(asked_again, within_seconds=15)
        eventually(second.assert_idle, within_seconds=20)
        assert world.writes_since(mark) == []
        assert [one.uri for one in world.plane.audit_since(mark, user=USER) if one.denied] == []
