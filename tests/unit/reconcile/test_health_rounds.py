"""Rounds and health: what is probed, what is written of it and when, what is announced. Fakes at all ports, virtual time."""

from __future__ import annotations

import asyncio

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.kube.resources import CONFIG_MAPS, GATEWAY_CONFIGS, SECRETS
from aigateway_operator.plan.health import Health, HealthReason, HealthState, StoreTarget
from tests.fakes import Announcement
from tests.unit.reconcile.objects import gateway, model, secret
from tests.unit.reconcile.world import World, world
from tests.virtual_time import virtual

MAIN = GatewayKey("ai", "main")
REDIS = {"host": "redis.ai.svc", "passwordSecretRef": {"name": "redis", "key": "password"}}
UP = Health(HealthState.UP, HealthReason.ANSWERING, "Redis at redis.ai.svc:6379 is up.", "2026-01-01T00:00:00Z")
DOWN = Health(HealthState.DOWN, HealthReason.REFUSED, "Redis at redis.ai.svc:6379 refuses connections.", "2026-01-01T00:01:00Z")


async def furnish(at: World) -> None:
    """Make a gateway with a Redis and its Secret."""
    at.cluster.make(SECRETS, secret("redis", password="first"))
    at.cluster.make(GATEWAY_CONFIGS, gateway(storage={"redis": REDIS}))
    await at.settle()


def target(at: World) -> StoreTarget:
    """Return what is probed."""
    return at.prober.watched[MAIN].stores["redis"]


def events(at: World) -> list[Announcement]:
    """Return the Events about datastores."""
    return [one for one in at.announcer.announced if one.reason.startswith("Datastores")]


@virtual
async def test_a_change_of_health_costs_one_write_and_sameness_none() -> None:
    """Unknown, up, down, up: one status write each; the same again: none. The document is never touched."""
    async with world() as at:
        await furnish(at)
        document = at.cluster.read(CONFIG_MAPS, "ai", "main-config")
        for health, expected in ((UP, ("True", "Up")), (DOWN, ("False", "Down")), (UP, ("True", "Up"))):
            before = at.controller.statuses.written
            at.prober.judge(MAIN, target(at), health)
            await at.settle()
            at.prober.judge(MAIN, target(at), health)
            await at.settle()
            assert at.controller.statuses.written == before + 1
            assert at.condition("DatastoresReady", "main", GATEWAY_CONFIGS) == expected
            assert at.condition("Ready", "main", GATEWAY_CONFIGS) == ("True", "Ready")
        assert at.cluster.read(CONFIG_MAPS, "ai", "main-config") == document


@virtual
async def test_transitions_are_announced_and_the_first_good_news_is_not() -> None:
    """One Event when a store goes, one when it is back."""
    async with world() as at:
        await furnish(at)
        at.prober.judge(MAIN, target(at), UP)
        await at.settle()
        assert events(at) == []
        at.prober.judge(MAIN, target(at), DOWN)
        await at.settle()
        at.prober.judge(MAIN, target(at), UP)
        await at.settle()
        assert [(one.reason, one.warning) for one in events(at)] == [("DatastoresDown", True), ("DatastoresUp", False)]
        assert "refuses connections" in events(at)[0].note


@virtual
async def test_a_restart_with_stores_that_are_as_they_were_writes_nothing() -> None:
    """Neither before the first probe nor after it."""
    before = World()
    async with world(before) as at:
        await furnish(at)
        at.prober.judge(MAIN, target(at), DOWN)
        await at.settle()
    async with world(World(before.cluster)) as again:
        await again.settle()
        await asyncio.sleep(200)
        assert again.condition("DatastoresReady", "main", GATEWAY_CONFIGS) == ("False", "Down")
        later = Health(DOWN.state, DOWN.reason, DOWN.message, "2026-02-02T00:00:00Z")
        again.prober.judge(MAIN, target(again), later)
        await again.settle()
        assert again.controller.statuses.written == 0
        assert events(again) == []


@virtual
async def test_a_rotated_password_is_probed_with_from_the_next_round_on() -> None:
    """The Secret's change asks for a round; the round hands the new value to the prober."""
    async with world() as at:
        await furnish(at)
        assert target(at).password == b"first"
        at.cluster.change(SECRETS, "ai", "redis", data=secret("redis", password="second")["data"])
        await at.settle()
        assert target(at).password == b"second"


@virtual
async def test_nobody_is_probed_for_what_is_gone_or_by_who_does_not_lead() -> None:
    """A store that is switched off, a GatewayConfig that is deleted, a lost leadership."""
    async with world() as at:
        await furnish(at)
        at.cluster.change(GATEWAY_CONFIGS, "ai", "main", spec={"storage": {"redis": {**REDIS, "enabled": False}}})
        await at.settle()
        assert at.prober.watched[MAIN].stores == {}
        at.stand_by()
        assert at.prober.watched == {}
        await at.settle()
        assert at.prober.watched == {}, "no round of a standby begins it again"
        at.lead()
        await at.settle()
        assert MAIN in at.prober.watched
        at.cluster.remove(GATEWAY_CONFIGS, "ai", "main")
        await at.settle()
        assert at.prober.watched == {}


@virtual
async def test_a_round_that_leadership_is_lost_in_begins_no_probes() -> None:
    """The other leader probes now; what this round found out comes too late."""
    async with world() as at:
        await furnish(at)
        at.cluster.make(SECRETS, secret("other", password="x"))
        at.secrets.ensure_takes_seconds = 1.0
        other = {**REDIS, "passwordSecretRef": {"name": "other", "key": "password"}}
        at.cluster.change(GATEWAY_CONFIGS, "ai", "main", spec={"storage": {"redis": other}})
        await asyncio.sleep(0.5)
        assert not at.controller.idle, "the round is under way"
        at.stand_by()
        await asyncio.sleep(1.5)
        assert at.prober.watched == {}


@virtual
async def test_reachability_is_told_on_the_model_that_asks() -> None:
    """One write on that model, none on the others."""
    async with world() as at:
        at.furnish(model(probe={"enabled": True}), model("other"))
        await at.settle()
        (backend,) = at.prober.watched[MAIN].backends
        before = at.controller.statuses.written
        at.prober.judge(MAIN, backend, Health(HealthState.DOWN, HealthReason.REFUSED, "api.example.com:443 refuses.", "x"))
        await at.settle()
        assert at.controller.statuses.written == before + 1
        assert at.condition("BackendsReachable") == ("False", "Refused")
        assert at.condition("BackendsReachable", "other") == ("", "")
        assert set(at.served()) == {"chat", "other"}
