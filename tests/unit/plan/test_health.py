"""What status says of datastores and backends, and what is to be probed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from aigateway_operator.plan.health import BackendTarget, Health, HealthOf, HealthReason, HealthState, StoreTarget
from aigateway_operator.plan.packed import pack
from aigateway_operator.plan.result import Plan
from aigateway_operator.plan.secret_state import SecretState
from tests.builders import World, make_backend, make_gateway_config, make_secret_state, make_virtual_model, make_world

REDIS = {"host": "redis.ai.svc", "passwordSecretRef": {"name": "redis", "key": "password"}}
UP = Health(HealthState.UP, HealthReason.ANSWERING, "Redis at redis.ai.svc:6379 is up.", "2026-01-01T00:00:00Z")
DOWN = Health(HealthState.DOWN, HealthReason.REFUSED, "Redis at redis.ai.svc:6379 refuses connections.", "2026-01-01T00:01:00Z")


def world_with(*manifests: dict[str, Any], **storage: Any) -> World:
    """Return a world whose gateway has these stores, and their Secret."""
    world = make_world(*manifests)
    world.secrets["redis"] = make_secret_state(password="sesame", ca="PEM")
    world.apply(make_gateway_config(storage=storage))
    world.round()
    return world


def probed(made: Plan) -> dict[str, StoreTarget]:
    """Return the stores that a plan says to probe."""
    assert made.probing is not None
    return {str(name): target for name, target in made.probing.stores.items()}


def tell(world: World, health: HealthOf) -> None:
    """Do a round in which this is held to be true."""
    world.health = health
    world.round()


def told(world: World) -> list[dict[str, Any]]:
    """Return `status.datastores`."""
    stores: list[dict[str, Any]] = world.statuses["gateway/main"].fields.get("datastores", [])
    return stores


def test_targets_carry_everything_that_the_spec_says() -> None:
    """A probe that leaves something out tells of another store than pods use."""
    tls = {"enabled": True, "caSecretRef": {"name": "redis", "key": "ca"}}
    password = {"name": "redis", "key": "password"}
    mongodb = {
        "host": "db.ai.svc",
        "username": "gw",
        "passwordSecretRef": password,
        "authSource": "users",
        "database": "d",
        "tls": tls,
    }
    world = world_with(
        mongodb=mongodb, redis={**REDIS, "tls": {"enabled": False}}, qdrant={"host": "q", "apiKeySecretRef": password}
    )
    assert probed(world.plan()) == {
        "mongodb": StoreTarget(
            "mongodb", "db.ai.svc", 27017, "gw", b"sesame", "users", "d", collection="", tls=True, ca=b"PEM"
        ),
        "redis": StoreTarget("redis", "redis.ai.svc", 6379, password=b"sesame"),
        "qdrant": StoreTarget("qdrant", "q", 6333, password=b"sesame", collection="knowledge_base"),
    }
    assert "sesame" not in repr(world.plan().probing)


def test_stores_that_are_off_or_never_named_are_not_probed_nor_told_of() -> None:
    """Nothing is probed that pods do not use."""
    world = world_with(redis={**REDIS, "enabled": False})
    assert probed(world.plan()) == {}
    assert told(world) == []
    assert world.verdict("gateway/main", "DatastoresReady") == ("True", "Up")


def test_a_missing_secret_is_told_to_the_probe_and_an_unreadable_one_leaves_it_out() -> None:
    """Missing: denied, with the name. Not readable now: nothing is concluded."""
    world = world_with(redis=REDIS)
    world.secrets["redis"] = SecretState(known=True, exists=False)
    assert probed(world.plan())["redis"].missing == ("Secret 'redis' does not exist",)
    world.secrets["redis"] = make_secret_state(other="x")
    assert probed(world.plan())["redis"].missing == ("Secret 'redis' has no key 'password'",)
    world.secrets["redis"] = SecretState(known=True, exists=True, refused_type="helm.sh/release.v1")
    assert probed(world.plan())["redis"].missing == ("Secret 'redis' is of a type that is never read",)
    world.secrets["redis"] = SecretState(known=False, exists=False)
    assert probed(world.plan()) == {}
    world.apply(make_gateway_config(storage={"mongodb": {"host": "db.ai.svc", "username": "gw"}}))
    assert "passwordSecretRef" in probed(world.plan())["mongodb"].missing[0]


def test_a_store_is_unknown_until_it_has_been_judged_and_ready_never_depends_on_it() -> None:
    """A new gateway is ready before the first probe, and stays so when every store is down."""
    world = world_with(redis=REDIS)
    assert [(entry["state"], entry["reason"]) for entry in told(world)] == [("Unknown", "NotProbed")]
    assert world.verdict("gateway/main", "DatastoresReady") == ("Unknown", "Unknown")
    tell(world, {probed(world.plan())["redis"]: DOWN})
    assert world.verdict("gateway/main", "DatastoresReady") == ("False", "Down")
    assert world.verdict("gateway/main", "Ready") == ("True", "Ready")


def test_the_worst_store_gives_the_reason_and_all_bad_ones_are_named() -> None:
    """Down before Denied before NotReady; those that are up are not in the message."""
    world = world_with(redis=REDIS, mongodb={"host": "db"}, qdrant={"host": "q"})
    stores = probed(world.plan())
    not_ready = Health(HealthState.NOT_READY, HealthReason.COLLECTION_MISSING, "Qdrant has no collection.", "x")
    tell(world, {stores["redis"]: DOWN, stores["mongodb"]: UP, stores["qdrant"]: not_ready})
    assert world.verdict("gateway/main", "DatastoresReady") == ("False", "Down")
    message = world.condition("gateway/main", "DatastoresReady").message
    assert message.startswith("redis is Down: ")
    assert "qdrant is NotReady: Qdrant has no collection." in message
    assert "mongodb" not in message
    assert [entry["name"] for entry in told(world)] == ["mongodb", "qdrant", "redis"]


@pytest.mark.parametrize("state", [HealthState.DENIED, HealthState.NOT_READY, HealthState.DOWN])
def test_the_condition_says_in_one_word_what_the_store_is(state: HealthState) -> None:
    """Down sends one to the network, Denied to a Secret: the wrong word costs an hour."""
    world = world_with(redis=REDIS)
    tell(world, {probed(world.plan())["redis"]: replace(DOWN, state=state)})
    assert world.verdict("gateway/main", "DatastoresReady") == ("False", state.value)


def test_a_restart_changes_nothing_until_something_else_is_true() -> None:
    """What status says stays while nobody has looked; `since` stays when the same is found again."""
    world = world_with(redis=REDIS)
    target = probed(world.plan())["redis"]
    tell(world, {target: DOWN})
    before = told(world)
    world.restart()
    tell(world, {})
    assert told(world) == before
    tell(world, {target: Health(DOWN.state, DOWN.reason, DOWN.message, "2026-09-09T00:00:00Z")})
    assert told(world) == before
    tell(world, {target: UP})
    assert [(entry["state"], entry["since"]) for entry in told(world)] == [("Up", UP.since)]


def test_a_broken_spec_keeps_what_is_told_and_what_is_probed() -> None:
    """Pods keep the last good settings, so their stores are still the ones."""
    world = world_with(redis=REDIS)
    tell(world, {probed(world.plan())["redis"]: DOWN})
    before = told(world)
    world.apply(make_gateway_config(storage={"redis": {"host": "http://nonsense"}}))
    assert world.plan().probing is None
    tell(world, {})
    assert told(world) == before
    assert world.verdict("gateway/main", "DatastoresReady") == ("False", "Down")


@pytest.mark.parametrize("garbage", [None, "x", [1, {"name": 3}, {"name": "redis", "state": "Odd", "message": "x"}]])
def test_a_status_that_others_wrote_is_not_believed(garbage: Any) -> None:
    """Whatever stands there, a round comes to an end and says what it knows."""
    world = world_with(redis=REDIS)
    assert world.gateway is not None
    world.gateway = replace(world.gateway, status=pack(orjson.dumps({"datastores": garbage})))
    world.round()
    assert [entry["state"] for entry in told(world)] == ["Unknown"]


def probing_model(**overrides: Any) -> dict[str, Any]:
    """Return a model that asks for probes of `small` (https) and `local` (http)."""
    backends = [make_backend(), make_backend("local", baseUrl="http://vllm.ai.svc:8000/v1")]
    return make_virtual_model("chat", backends=backends, probe={"enabled": True}, **overrides)


SMALL, LOCAL = BackendTarget("api.example.com", 443, tls=True), BackendTarget("vllm.ai.svc", 8000, tls=False)


def test_backends_are_probed_only_where_a_model_asks() -> None:
    """Host and port of each URL, those of the model where a backend has none."""
    world = make_world(probing_model(), make_virtual_model("other"))
    made = world.plan()
    assert made.probing is not None
    assert made.probing.backends == {SMALL, LOCAL}
    assert not any(verdict.type == "BackendsReachable" for verdict in world.statuses["other"].verdicts)


def test_backends_reachable_names_those_that_are_not() -> None:
    """Refused only if that is all that is wrong; Ready does not depend on it."""
    world = make_world(probing_model())
    refused = Health(HealthState.DOWN, HealthReason.REFUSED, "vllm.ai.svc:8000 refuses connections.", "x")
    slow = Health(HealthState.DOWN, HealthReason.TIMEOUT, "api.example.com:443 does not answer.", "x")
    assert world.verdict("chat", "BackendsReachable") == ("Unknown", "Pending")
    tell(world, {SMALL: UP})
    assert world.verdict("chat", "BackendsReachable") == ("Unknown", "Pending")
    tell(world, {SMALL: UP, LOCAL: UP})
    assert world.verdict("chat", "BackendsReachable") == ("True", "Reachable")
    tell(world, {SMALL: UP, LOCAL: refused})
    assert world.verdict("chat", "BackendsReachable") == ("False", "Refused")
    assert world.condition("chat", "BackendsReachable").message == "local: vllm.ai.svc:8000 refuses connections."
    tell(world, {SMALL: slow, LOCAL: refused})
    assert world.verdict("chat", "BackendsReachable") == ("False", "Unreachable")
    assert world.verdict("chat", "Ready") == ("True", "Ready")
    assert world.entries()["chat"]["use"] is True


def test_backends_that_are_not_asked_for_any_more_are_not_told_of() -> None:
    """The condition goes with the wish."""
    world = make_world(probing_model())
    world.apply(make_virtual_model("chat"))
    world.round()
    assert not any(verdict.type == "BackendsReachable" for verdict in world.statuses["chat"].verdicts)


@pytest.mark.parametrize(
    ("spoke_of", "reason", "expected"),
    [
        (1, "Refused", ("False", "Refused")),
        (0, "Refused", ("Unknown", "Pending")),
        pytest.param(1, "ReasonOfALaterVersion", ("Unknown", "Pending"), id="after a rollback of the operator"),
    ],
)
def test_what_was_told_of_backends_stays_after_a_restart_for_the_same_generation(
    spoke_of: int, reason: str, expected: tuple[str, str]
) -> None:
    """Nobody has looked yet: what is told of this very generation is kept, what was told of another says nothing."""
    world = make_world(probing_model())
    condition = {"type": "BackendsReachable", "status": "False", "reason": reason, "message": "small: it refuses."}
    status = {"conditions": [{"type": "Ready"}, {**condition, "observedGeneration": spoke_of}]}
    world.models["chat"] = replace(world.models["chat"], status=pack(orjson.dumps(status)))
    world.restart()
    tell(world, {})
    assert world.verdict("chat", "BackendsReachable") == expected


def test_a_message_without_end_is_cut() -> None:
    """Thirty-two backends with long names do not fill the status."""
    backends = [make_backend(f"b{number}", baseUrl=f"https://b{number}.example.com/v1") for number in range(32)]
    world = make_world(make_virtual_model("chat", current="b0", backends=backends, probe={"enabled": True}))
    made = world.plan()
    assert made.probing is not None
    long = Health(HealthState.DOWN, HealthReason.TIMEOUT, "x" * 200, "x")
    tell(world, dict.fromkeys(made.probing.backends, long))
    assert len(world.condition("chat", "BackendsReachable").message) <= 2048


def test_only_models_of_a_backend_that_changed_are_told_of_it() -> None:
    """With thousands of probed models one backend's fate must not make all their statuses."""
    other = make_virtual_model(
        "other", backends=[make_backend("small", baseUrl="https://eu.example.com/v1")], probe={"enabled": True}
    )
    world = make_world(probing_model(), other)
    world.round()
    tell(world, {SMALL: DOWN})
    world.health = {SMALL: UP}
    assert {status.name for status in world.plan().statuses if status.kind == "VirtualModel"} == {"chat"}
