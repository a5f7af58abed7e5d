"""What is told again: rounds say of every model what a round that remembers nothing would say (`World.plan` compares)."""

from __future__ import annotations

from itertools import permutations

import pytest

from aigateway_operator.plan.health import BackendTarget, Health, HealthReason, HealthState
from aigateway_operator.plan.news import READY, Standing
from aigateway_operator.plan.secret_state import SecretState
from tests.builders import World, make_backend, make_gateway_config, make_secret_state, make_virtual_model, make_world

STATES = {
    "there": make_secret_state(proxy="caller"),
    "of another value": make_secret_state(proxy="rotated"),
    "without the key": make_secret_state(other="x"),
    "without any key": SecretState(known=True, exists=True),
    "missing": SecretState(known=True, exists=False),
    "vanished": SecretState(known=True, exists=False, gone_since=990.0),
    "unreadable": SecretState(known=False, exists=False),
    "unreadable since": SecretState(known=False, exists=True, values={"proxy": b"caller"}),
    "of a refused type": SecretState(known=True, exists=True, refused_type="helm.sh/release.v1"),
    "too large": SecretState(known=True, exists=True, values={"proxy": b"x" * 1024 * 1024}),
}


def at_rest(world: World) -> World:
    """Do rounds until statuses are said and written, so that nothing but what follows leads to another."""
    for _ in range(3):
        world.round()
    return world


@pytest.mark.parametrize(("before", "after"), list(permutations(STATES, 2)))
def test_whatever_becomes_of_a_secret_is_told_of_the_models_that_name_it(before: str, after: str) -> None:
    """No object changed, and what pods are served need not either."""
    world = make_world(make_virtual_model("chat"), make_virtual_model("other", proxyKeySecretRef={"name": "mine", "key": "k"}))
    world.secrets = {**world.secrets, "chat-keys": STATES[before], "mine": make_secret_state(k="v")}
    at_rest(world)
    world.secrets = {**world.secrets, "chat-keys": STATES[after]}
    at_rest(world)
    assert world.verdict("other", "Ready") == ("True", "Ready")


def test_credentials_that_somebody_else_takes_over_are_told_of_every_model_and_so_is_their_return() -> None:
    """Documents stay as they are, so that nothing else tells that an edit would not land any more."""
    world = at_rest(make_world(make_virtual_model("chat"), make_virtual_model("other")))
    owners = world.objects.by_name["Secret", "main-credentials"]["metadata"]["ownerReferences"]
    world.objects.edit("Secret", "main-credentials")["metadata"]["ownerReferences"] = []
    at_rest(world)
    assert world.verdict("chat", "Programmed") == world.verdict("other", "Programmed") == ("False", "Pending")
    world.objects.edit("Secret", "main-credentials")["metadata"]["ownerReferences"] = owners
    at_rest(world)
    assert world.verdict("chat", "Programmed") == world.verdict("other", "Programmed") == ("True", "Programmed")


def test_models_are_told_of_each_stage_of_a_gateway_that_never_served_them() -> None:
    """Nothing is rendered at any of them, so that what is served is always the same: nothing."""
    world = World(secrets={"chat-keys": make_secret_state(proxy="caller"), "openai": make_secret_state(api_key="backend")})
    world.apply(make_virtual_model("chat"))
    at_rest(world)
    assert world.verdict("chat", "Ready") == ("False", "GatewayNotFound")
    invalid = make_gateway_config(storage={"redis": {"host": "http://redis"}})
    world.apply(invalid)
    at_rest(world)
    assert "has no documents yet" in world.condition("chat", "Programmed").message
    world.apply(invalid, deleting=True)
    at_rest(world)
    assert "is being deleted" in world.condition("chat", "Programmed").message
    world.gateway = None
    at_rest(world)
    assert world.verdict("chat", "Ready") == ("False", "GatewayNotFound")


def test_whatever_becomes_of_a_backend_is_told_of_the_models_that_probe_it() -> None:
    """Every change of it, and not only that it became known."""
    probed = make_virtual_model("chat", current="small", backends=[make_backend("small")], probe={"enabled": True})
    world = make_world(probed, make_virtual_model("other"))
    target = BackendTarget("api.example.com", 443, tls=True)
    for state, status in ((HealthState.UP, "True"), (HealthState.DOWN, "False"), (HealthState.UP, "True")):
        world.health = {target: Health(state, HealthReason.TIMEOUT, "A sentence.", "2026-01-01T00:00:00Z")}
        at_rest(world)
        assert world.condition("chat", "BackendsReachable").status == status


def test_models_are_counted_by_how_they_stand_and_counted_anew_when_that_changes() -> None:
    """Metrics show these numbers: who watches for `Invalid` must see it come and go."""
    lost = make_virtual_model("lost", proxyKeySecretRef={"name": "nobody", "key": "k"})
    world = make_world(make_virtual_model("a"), make_virtual_model("b"), make_virtual_model("wrong", current="nowhere"), lost)
    world.secrets = {**world.secrets, "nobody": STATES["missing"]}
    invalid, missing = Standing("False", "Invalid", None), Standing("False", "SecretNotFound", None)
    assert at_rest(world).memo.told.count() == {READY: 2, invalid: 1, missing: 1}
    world.apply(make_virtual_model("wrong"), make_virtual_model("a", current="nowhere"))
    world.delete("lost")
    assert at_rest(world).memo.told.count() == {READY: 2, invalid: 1}
    world.delete("a")
    assert at_rest(world).memo.told.count() == {READY: 2}
