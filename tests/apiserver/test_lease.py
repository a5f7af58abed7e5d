"""Leader election on the real API server: one leader, quick fail-over, and no leadership that outlives the lease."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import pytest

from aigateway_operator.errors import Unavailable
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.lease import LeaderElection, boot_seconds
from aigateway_operator.kube.resources import CONFIG_MAPS, LEASES
from hack.controlplane import ControlPlane
from tests.apiserver.api_proxy import ApiProxy
from tests.eventually import eventually_async

pytestmark = pytest.mark.apiserver

LEASE = "aigateway"


@dataclass
class Contender:
    """One replica: an election, its task, and what it was told."""

    election: LeaderElection
    client: KubeClient
    proxy: ApiProxy
    told: list[tuple[str, float]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    skipped_seconds: float = 0.0

    def clock(self) -> float:
        """The replica's clock; tests let it jump, as it does for a process that was plane."""
        return boot_seconds() + self.skipped_seconds

    def die(self) -> None:
        """End as by SIGKILL: nothing is released."""
        assert self.task is not None
        self.task.cancel()


Contend = Callable[[str], Awaitable[Contender]]


@pytest.fixture
async def contend(plane: ControlPlane, namespace: str) -> AsyncIterator[Contend]:
    """Starts contenders, each behind a proxy of its own."""
    stack = AsyncExitStack()

    async def start(name: str) -> Contender:
        proxy = stack.enter_context(ApiProxy.start(plane))
        client = await stack.enter_async_context(KubeClient.connect(plane.kubeconfig, server_override=proxy.url))
        election = LeaderElection(
            client,
            namespace,
            LEASE,
            name,
            on_started=lambda: contender.told.append(("started", time.monotonic())),
            on_stopped=lambda: contender.told.append(("stopped", time.monotonic())),
            clock=lambda: contender.clock(),
        )
        contender = Contender(election, client, proxy)
        client.fence = election.remaining_seconds
        contender.task = asyncio.create_task(election.run())
        stack.push_async_callback(_end, contender.task)
        return contender

    async with stack:
        yield start


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def leads(contender: Contender, within_seconds: float) -> float:
    """Wait until it leads; return how long that took."""
    began = time.monotonic()

    async def check() -> None:
        assert contender.election.is_leader, contender.told

    await eventually_async(check, within_seconds=within_seconds, every_seconds=0.01)
    return time.monotonic() - began


async def sees(standby: Contender, holder: str) -> None:
    """Wait until a standby knows who leads: from then on it counts the lease."""

    async def check() -> None:
        assert standby.election.holder == holder

    await eventually_async(check, within_seconds=20, every_seconds=0.01)


async def test_of_two_contenders_one_leads_and_stays_leader(contend: Contend) -> None:
    """Two seconds of renewals, never two leaders at once."""
    first, second = await contend("first"), await contend("second")
    deadline = time.monotonic() + 8
    leading_since: float | None = None
    while leading_since is None or time.monotonic() - leading_since < 3:
        assert time.monotonic() < deadline
        leaders = [contender for contender in (first, second) if contender.election.is_leader]
        assert len(leaders) <= 1
        if leaders and leading_since is None:
            leading_since = time.monotonic()
        await asyncio.sleep(0.01)
    assert sum(len(contender.told) for contender in (first, second)) == 1
    assert first.election.holder == second.election.holder


async def test_a_clean_stop_hands_over_at_once(contend: Contend, namespace: str) -> None:
    """The Lease is released, so nobody waits for it to run out."""
    first = await contend("first")
    await leads(first, 5)
    second = await contend("second")
    await sees(second, "first")
    await first.election.stop()
    assert not first.election.is_leader
    assert [what for what, _ in first.told] == ["started", "stopped"]
    assert await leads(second, 5) < 1.5
    lease = await second.client.get(LEASES, namespace, LEASE)
    assert lease["spec"]["holderIdentity"] == "second"
    assert lease["spec"]["leaseTransitions"] == 1


async def test_a_killed_leader_is_followed_within_five_seconds(contend: Contend) -> None:
    """Nothing released, nothing said: the lease runs out by the standby's clock."""
    first = await contend("first")
    await leads(first, 5)
    second = await contend("second")
    await sees(second, "first")
    first.die()
    assert await leads(second, 6) <= 5.0


async def test_leadership_ends_before_the_lease_when_the_api_server_hangs(plane: ControlPlane, contend: Contend) -> None:
    """A hang gives no error, so the clock decides; the callback comes without any answer of the server."""
    contender = await contend("only")
    await leads(contender, 5)

    async def renewed() -> None:
        assert contender.proxy.count("PUT", "leases") >= 2

    await eventually_async(renewed, within_seconds=20)
    plane.pause_apiserver()
    began = time.monotonic()

    async def stopped() -> None:
        assert [what for what, _ in contender.told] == ["started", "stopped"]

    try:
        await eventually_async(stopped, within_seconds=6, every_seconds=0.01)
    finally:
        plane.resume_apiserver()
    renewals = [request.time for request in contender.proxy.requests("PUT", "leases") if request.time <= began]
    # Four seconds after the last renewal that was sent before the pause, another replica may lead.
    assert contender.told[-1][1] - renewals[-1] < 4.0 - 0.5
    await leads(contender, 10)


async def test_a_write_of_a_paused_and_resumed_leader_is_not_sent(contend: Contend, namespace: str) -> None:
    """After SIGSTOP beyond the lease the first look already says no, before any renewal was tried."""
    first = await contend("first")
    await leads(first, 5)
    first.skipped_seconds = 30.0  # no turn of the election between this and the write
    assert not first.election.is_leader
    sent = first.proxy.count("POST", "configmaps")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}}
    with pytest.raises(Unavailable, match="not the leader"):
        await first.client.create(CONFIG_MAPS, namespace, body)
    assert first.proxy.count("POST", "configmaps") == sent


async def test_a_leader_that_is_cut_off_is_followed_and_becomes_standby(contend: Contend) -> None:
    """There is never a second leader, also when the first comes back."""
    first = await contend("first")
    await leads(first, 5)
    second = await contend("second")
    await sees(second, "first")
    cut = first.proxy.fail(status=503)
    began = time.monotonic()
    while not second.election.is_leader:
        assert time.monotonic() - began < 6
        assert not (first.election.is_leader and second.election.is_leader)
        await asyncio.sleep(0.005)
    assert not first.election.is_leader
    cut.lift()
    await sees(first, "second")
    assert second.election.is_leader
    assert [what for what, _ in first.told] == ["started", "stopped"]


async def test_a_hiccup_shorter_than_the_lease_costs_no_leadership(contend: Contend) -> None:
    """A second of errors is retried at once; nobody is told."""
    contender = await contend("only")
    await leads(contender, 5)
    contender.proxy.fail("PUT", "leases", status=503, seconds=1.2)
    began = time.monotonic()
    while time.monotonic() - began < 3:
        assert contender.election.is_leader
        await asyncio.sleep(0.01)
    assert [what for what, _ in contender.told] == ["started"]


async def test_a_renewal_whose_answer_was_lost_costs_no_leadership(contend: Contend, namespace: str) -> None:
    """The Lease then has a version that we do not know; it still names us."""
    contender = await contend("only")
    await leads(contender, 5)
    touched = await contender.client.get(LEASES, namespace, LEASE)
    await contender.client.unfenced().replace(
        LEASES, namespace, LEASE, {**touched, "metadata": {**touched["metadata"], "labels": {"a": "b"}}}
    )
    began = time.monotonic()
    while time.monotonic() - began < 2.5:
        assert contender.election.is_leader
        await asyncio.sleep(0.01)
    assert [what for what, _ in contender.told] == ["started"]


async def test_another_holders_clock_is_not_believed(contend: Contend, namespace: str) -> None:
    """renewTime of a machine whose clock is an hour behind: its lease holds for as long as we see it renewed."""
    only = await contend("watcher")
    await leads(only, 5)
    lease = await only.client.get(LEASES, namespace, LEASE)
    only.die()
    spec = {**lease["spec"], "holderIdentity": "behind", "renewTime": "2020-01-01T00:00:00.000000Z"}
    lease = await only.client.unfenced().replace(LEASES, namespace, LEASE, {**lease, "spec": spec})
    second = await contend("second")
    began = time.monotonic()
    while time.monotonic() - began < 5:
        assert not second.election.is_leader
        spec = {
            **lease["spec"],
            "renewTime": "2020-01-01T00:00:01.000000Z",
            "leaseTransitions": int(time.monotonic() * 1000) % 10**6,
        }
        lease = await only.client.unfenced().replace(LEASES, namespace, LEASE, {**lease, "spec": spec})
        await asyncio.sleep(0.8)
    await leads(second, 6)
