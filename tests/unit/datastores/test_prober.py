"""When targets are probed: once each, one check at a time, soon when in doubt, not at all when nobody asks. Virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from random import Random

import pytest

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.datastores.probe import Outcome
from aigateway_operator.datastores.prober import HealthProber
from aigateway_operator.plan.health import BackendTarget, Probing, Schedule, Target
from tests.unit.datastores.outcomes import REFUSED, TIMEOUT, UP, redis
from tests.virtual_time import now, virtual

MAIN, OTHER = GatewayKey("ai", "main"), GatewayKey("ai", "other")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


@dataclass
class Fake:
    """A target that answers as the test says. `takes`: seconds; more than the limit means a time-out."""

    answer: Callable[[], Outcome] = lambda: UP
    takes: float = 0.001
    started: list[float] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    closed: int = 0

    async def check(self, timeout_seconds: float) -> Outcome:
        self.started.append(now())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            outcome = self.answer()
            await asyncio.sleep(min(self.takes, timeout_seconds))
            return replace(
                TIMEOUT if self.takes > timeout_seconds else outcome, latency_seconds=min(self.takes, timeout_seconds)
            )
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        self.closed += 1


class World:
    """A prober over fakes. `changes`: what gateways were told, and when."""

    def __init__(self) -> None:
        self.fakes: dict[Target, Fake] = {}
        self.changes: list[tuple[float, GatewayKey]] = []
        self.prober = HealthProber(
            self.fake,
            lambda key: self.changes.append((now(), key)),
            clock=now,
            wall=lambda: datetime.fromtimestamp(EPOCH + now(), UTC),
            random=Random(7),
        )

    def fake(self, target: Target) -> Fake:
        return self.fakes.setdefault(target, Fake())

    def state(self, target: Target, key: GatewayKey = MAIN) -> str:
        health = self.prober.health(key).get(target)
        return "" if health is None else health.state


def wants(*targets: Target, **schedule: float) -> Probing:
    """Return what a gateway asks for."""
    made = Schedule(**schedule)  # type: ignore[arg-type]  # failure_threshold is an int
    backends = frozenset(target for target in targets if isinstance(target, BackendTarget))
    stores = [target for target in targets if not isinstance(target, BackendTarget)]
    names = ("redis", "mongodb", "qdrant")
    return Probing(made, dict(zip(names, stores, strict=False)), backends)  # type: ignore[arg-type]  # literals


@virtual
async def test_a_new_target_is_checked_at_once_and_then_every_period_shortened_by_up_to_a_tenth() -> None:
    """Never later than the period, and not in step with others."""
    world = World()
    world.prober.watch(MAIN, wants(redis()))
    await asyncio.sleep(0.1)
    assert world.state(redis()) == "Up"
    await asyncio.sleep(600)
    started = world.fakes[redis()].started
    gaps = [later - before for before, later in pairwise(started)]
    assert len(gaps) > 55
    assert 9 <= min(gaps) < max(gaps) <= 10.01
    assert max(gaps) - min(gaps) > 0.5
    await world.prober.stop()


@virtual
async def test_a_target_that_two_gateways_name_is_probed_once_at_the_shorter_period() -> None:
    """Fifty gateways on one Redis cost as much as one."""
    world = World()
    world.prober.watch(MAIN, wants(redis(), period_seconds=60))
    world.prober.watch(OTHER, wants(redis(), period_seconds=10))
    await asyncio.sleep(100)
    assert world.prober.targets == 1
    assert 10 <= len(world.fakes[redis()].started) <= 14
    assert world.state(redis(), MAIN) == world.state(redis(), OTHER) == "Up"
    world.prober.forget(OTHER)
    before = len(world.fakes[redis()].started)
    await asyncio.sleep(100)
    assert len(world.fakes[redis()].started) - before <= 3, "the longer period of the one that is left holds again"
    await world.prober.stop()


@virtual
async def test_each_gateway_judges_by_its_own_limits() -> None:
    """A store that takes 3 s is up for whom it may take 5 s, and down for whom 2 s are the limit."""
    world = World()
    world.fake(redis()).takes = 3.0
    world.prober.watch(MAIN, wants(redis(), timeout_seconds=2.0))
    world.prober.watch(OTHER, wants(redis(), timeout_seconds=5.0, failure_threshold=1))
    await asyncio.sleep(60)
    assert (world.state(redis(), MAIN), world.state(redis(), OTHER)) == ("Down", "Up")
    assert "within 2 s" in world.prober.health(MAIN)[redis()].message
    await world.prober.stop()


@pytest.mark.parametrize("takes", [0.001, 99.0], ids=["refused", "blackholed"])
def test_a_fault_is_told_within_one_period_and_the_threshold_of_time_limits(takes: float) -> None:
    """10 s and 3 × 2 s at most, whether connections are refused or nothing ever answers."""

    @virtual
    async def scenario() -> None:
        world = World()
        for offset in range(20):
            target = redis(f"redis-{offset}.ai.svc")
            world.prober.watch(GatewayKey("ai", str(offset)), wants(target))
        await asyncio.sleep(60)
        broken = now()
        for fake in world.fakes.values():
            fake.answer, fake.takes = lambda: REFUSED, takes
        world.changes.clear()
        await asyncio.sleep(17)
        assert len(world.changes) == 20
        assert max(at for at, _ in world.changes) - broken <= 16.1
        await world.prober.stop()

    scenario()


@virtual
async def test_one_check_at_a_time_even_when_targets_hang() -> None:
    """A period shorter than the time limit does not pile checks up."""
    world = World()
    world.fake(redis()).takes = 99.0
    world.prober.watch(MAIN, wants(redis(), period_seconds=1.0, timeout_seconds=5.0))
    await asyncio.sleep(120)
    fake = world.fakes[redis()]
    assert fake.most_in_flight == 1
    assert 20 <= len(fake.started) <= 26
    assert len(asyncio.all_tasks()) == 2
    await world.prober.stop()


@virtual
async def test_flapping_every_second_costs_few_changes() -> None:
    """Up for a second, down for a second, for an hour: it is told as down, and status is not written over and over."""
    world = World()
    world.fake(redis()).answer = lambda: UP if int(now()) % 2 else REFUSED
    world.prober.watch(MAIN, wants(redis()))
    await asyncio.sleep(3600)
    assert len(world.changes) <= 12
    late = [at for at, _ in world.changes if at > 1000 + 1800]
    assert len(late) <= 4
    world.fake(redis()).answer = lambda: UP
    await asyncio.sleep(100)
    assert world.state(redis()) == "Up"
    await world.prober.stop()


@virtual
async def test_a_rotated_password_is_another_target_that_is_checked_at_once() -> None:
    """What the old password brought says nothing of the new one; the old one is not used again."""
    world = World()
    old, new = redis(password=b"old"), redis(password=b"new")
    world.fake(old).answer = lambda: REFUSED
    world.prober.watch(MAIN, wants(old))
    await asyncio.sleep(60)
    assert world.state(old) == "Down"
    world.prober.watch(MAIN, wants(new))
    await asyncio.sleep(0.1)
    assert world.state(new) == "Up"
    used = len(world.fakes[old].started)
    await asyncio.sleep(60)
    assert len(world.fakes[old].started) == used
    assert world.fakes[old].closed == 1
    await world.prober.stop()


@virtual
async def test_asking_for_the_same_again_starts_nothing() -> None:
    """Every round asks; only what is new is checked at once."""
    world = World()
    for _ in range(50):
        world.prober.watch(MAIN, wants(redis()))
        await asyncio.sleep(0.01)
    assert len(world.fakes[redis()].started) == 1
    await world.prober.stop()


@virtual
async def test_nothing_is_probed_and_nothing_is_left_when_nobody_asks() -> None:
    """A deleted GatewayConfig, a store that is switched off, a lost leadership: checks end, also one that hangs."""
    world = World()
    backend = BackendTarget("api.example.com", 443, tls=True)
    world.fake(redis()).takes = 99.0
    world.prober.watch(MAIN, wants(redis(), backend))
    world.prober.watch(OTHER, wants(redis("b"), backend))
    await asyncio.sleep(1)
    world.prober.watch(MAIN, wants(backend))
    await asyncio.sleep(0)
    assert world.prober.targets == 2
    world.prober.forget(MAIN)
    assert world.prober.targets == 2, "the other gateway still names the backend"
    world.prober.clear()
    stopped = now()
    await world.prober.stop()
    assert now() - stopped < 0.1, "a check that hangs is not waited for"
    counts = [len(fake.started) for fake in world.fakes.values()]
    await asyncio.sleep(100)
    assert [len(fake.started) for fake in world.fakes.values()] == counts
    assert all(fake.closed == 1 for fake in world.fakes.values())
    assert len(asyncio.all_tasks()) == 1


@virtual
async def test_a_shorter_period_is_followed_at_once() -> None:
    """Whoever edits spec.probes does not wait for the old period to end."""
    world = World()
    world.prober.watch(MAIN, wants(redis(), period_seconds=3600.0))
    await asyncio.sleep(100)
    world.prober.watch(MAIN, wants(redis(), period_seconds=10.0))
    await asyncio.sleep(10)
    assert len(world.fakes[redis()].started) >= 2
    await world.prober.stop()


@virtual
async def test_very_many_backends_are_checked_less_often() -> None:
    """2,000 backends at a period of 10 s would be 200 TLS handshakes a second."""
    world = World()
    backends = [BackendTarget(f"b{number}.example.com", 443, tls=True) for number in range(2000)]
    world.prober.watch(MAIN, wants(*backends))
    await asyncio.sleep(200)
    first = sum(len(fake.started) for fake in world.fakes.values())
    await asyncio.sleep(200)
    assert sum(len(fake.started) for fake in world.fakes.values()) - first <= 200 * 20 * 1.3
    await world.prober.stop()


@virtual
async def test_a_check_that_does_not_keep_its_time_is_ended() -> None:
    """A fault of ours in one probe costs that target its truth for a while, and no more."""
    world = World()

    async def never(timeout_seconds: float) -> Outcome:
        await asyncio.sleep(timeout_seconds + 3600)
        return UP

    world.fake(redis()).check = never  # type: ignore[method-assign]
    world.prober.watch(MAIN, wants(redis()))
    await asyncio.sleep(30)
    assert world.state(redis()) == "Down"
    await world.prober.stop()


@virtual
async def test_metrics_see_the_last_outcome_of_each_target_once_and_count_checks() -> None:
    """Whoever exports them needs no second book."""
    world = World()
    backend = BackendTarget("api.example.com", 443, tls=True)
    world.fake(backend).answer = lambda: REFUSED
    for key in (OTHER, MAIN):
        world.prober.watch(key, wants(redis(), backend))
    await asyncio.sleep(1)
    seen = {one.target: one for one in world.prober.observations()}
    assert seen.keys() == {redis(), backend}
    assert seen[redis()].gateways == (MAIN, OTHER)
    assert seen[redis()].outcome.latency_seconds == pytest.approx(0.001, abs=1e-4)
    assert world.prober.checks == {("redis", "Up"): 1, ("backend", "Down"): 1}
    await world.prober.stop()
