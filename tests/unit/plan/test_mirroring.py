"""The signing key of the Redis mirror from round to round, what is to be mirrored, and what the status says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aigateway_config import documents
from aigateway_operator.plan.secret_state import SecretState
from tests.builders import World, make_gateway_config, make_secret_state, make_virtual_model, make_world

KEY, OTHER = b"a" * 64, b"b" * 64
STORE: dict[str, Any] = {"host": "redis.ai.svc", "passwordSecretRef": {"name": "redis", "key": "password"}}


def gateway(*, on: bool = True, **delivery: Any) -> dict[str, Any]:
    """Return a GatewayConfig with a Redis, mirrored or not."""
    return make_gateway_config(storage={"redis": STORE}, delivery={"redisNotify": on, **delivery})


def mirrored(**delivery: Any) -> World:
    """Return a settled world with a mirror."""
    world = make_world(make_virtual_model())
    world.mirror_key, world.mirror_trouble = KEY, ""
    world.secrets["redis"] = make_secret_state(password="secret")
    world.apply(gateway(**delivery))
    world.settle()
    return world


def key_of(world: World) -> bytes | None:
    """Return the key in the credentials Secret, None if there is none."""
    return world.objects.values("Secret", "main-credentials").get(documents.MIRROR_KEY)


def test_without_redis_notify_there_is_neither_key_nor_target() -> None:
    """A key nobody needs would be one more secret to lose."""
    world = make_world(make_virtual_model())
    world.mirror_key = KEY
    world.secrets["redis"] = make_secret_state(password="secret")
    world.apply(gateway(on=False))
    assert world.settle().mirror is None
    assert key_of(world) is None


def test_the_key_is_a_listed_file_of_the_base_secret_alone() -> None:
    """Readers of every shard find it in the one volume; the revision says that it came."""
    world = mirrored()
    assert key_of(world) == KEY
    assert documents.MIRROR_KEY in world.credentials_manifest()["keys"]
    sharded = World(mirror_key=KEY, mirror_trouble="")
    sharded.secrets = {"redis": make_secret_state(password="secret"), "chat-keys": make_secret_state(proxy="x")}
    sharded.apply(gateway(shards=4), make_virtual_model())
    sharded.settle()
    held = [name for kind, name in sharded.objects.by_name if kind == "Secret"]
    assert [name for name in held if documents.MIRROR_KEY in sharded.objects.values("Secret", name)] == ["main-credentials"]


def test_the_key_changes_no_document() -> None:
    """Turning the mirror on is no new revision: nothing that pods serve is another."""
    world = mirrored()
    before = world.manifest()
    world.apply(gateway(on=False))
    world.settle()
    assert world.manifest() == before
    assert documents.MIRROR_KEY not in json.dumps(world.document())


def test_turned_off_the_key_stays_for_pods_that_use_it_and_then_goes() -> None:
    """As any key that no document names any more; turned on again in time it is the same."""
    world = mirrored()
    world.apply(gateway(on=False))
    made = world.round()
    assert (made.mirror, key_of(world), made.wake_after_seconds) == (None, KEY, 120)
    world.now += 60
    world.apply(gateway())
    assert world.round().mirror is not None
    assert key_of(world) == KEY
    world.apply(gateway(on=False))
    world.round()
    world.now += 120
    world.round()
    assert key_of(world) is None
    assert world.credentials_manifest()["keys"] == ["chat-keys.proxy", "openai.api-key", "redis.password"]


def test_where_nobody_can_make_a_key_the_one_that_is_there_stays() -> None:
    """`aigateway diff` plans without randomness and must not say that the key is to go."""
    world = mirrored()
    world.mirror_key = None
    made = world.round()
    assert (made.writes, made.mirror, key_of(world)) == ((), None, KEY)
    fresh = make_world(make_virtual_model())
    fresh.apply(gateway())
    fresh.settle()
    assert key_of(fresh) is None
    assert documents.MIRROR_KEY not in fresh.credentials_manifest()["missing"]


def test_an_invalid_edit_leaves_the_mirror_as_it_is() -> None:
    """What cannot be read says nothing about redisNotify; what pods have stays, and so does their fast path."""
    world = mirrored()
    world.apply(make_gateway_config(storage={"redis": STORE}, delivery={"redisNotify": "maybe"}))
    made = world.round()
    assert made.mirror is not None
    assert key_of(world) == KEY
    never = make_world(make_virtual_model())
    never.mirror_key = KEY
    never.apply(make_gateway_config(storage={"redis": STORE}, delivery={"redisNotify": "maybe"}))
    assert never.round().mirror is None
    assert key_of(never) is None


def test_the_target_is_what_is_live_after_the_round() -> None:
    """Every document with the very manifest that was written, the place of Redis, and the password of its Secret."""
    world = mirrored()
    made = world.plan()
    assert made.mirror is not None
    target = made.mirror
    assert (target.endpoint.host, target.endpoint.port, target.endpoint.password) == ("redis.ai.svc", 6379, "secret")
    assert (target.key, target.missing, list(target.documents)) == (KEY, None, ["config.yml"])
    document = target.documents["config.yml"]
    live = world.objects.values("ConfigMap", "main-config")
    assert document is not None
    assert (document.content, document.manifest) == (live["config.yml"], live["config.manifest.json"])
    assert document.revision == world.manifest()["revision"]
    assert "secret" not in repr(target)
    assert KEY.decode() not in repr(target)


def test_a_target_comes_with_the_round_that_writes_it() -> None:
    """The manifest of a plan is the one its own write brings, not that of the round before."""
    world = mirrored()
    world.apply(make_virtual_model(current="big"))
    made = world.round()
    assert made.mirror is not None
    document = made.mirror.documents["config.yml"]
    assert document is not None
    assert document.manifest == world.objects.values("ConfigMap", "main-config")["config.manifest.json"]


def test_a_document_that_cannot_be_written_is_left_as_it_is() -> None:
    """A shard whose ConfigMap belongs to somebody else is mirrored neither new nor empty."""
    world = World(mirror_key=KEY, mirror_trouble="")
    world.secrets = {"redis": make_secret_state(password="secret"), "chat-keys": make_secret_state(proxy="x")}
    world.apply(gateway(shards=2), make_virtual_model())
    world.settle()
    del world.objects.by_name["ConfigMap", "main-models-01"]
    world.objects.put("ConfigMap", "main-models-01", {"config.yml": b"somebody's"})
    made = world.round()
    assert made.mirror is not None
    assert made.mirror.documents["models-01.yml"] is None
    assert made.mirror.documents["models-00.yml"] is not None


@pytest.mark.parametrize(
    ("state", "missing", "password"),
    [
        (make_secret_state(password="x"), None, "x"),
        (SecretState(known=True, exists=False), "redis.password", None),
        (make_secret_state(other="x"), "redis.password", None),
    ],
)
def test_a_password_that_is_not_there_is_named(state: SecretState, missing: str | None, password: str | None) -> None:
    """Nobody connects without the password that the resource asks for."""
    world = mirrored()
    world.secrets["redis"] = state
    made = world.round()
    assert made.mirror is not None
    assert (made.mirror.missing, made.mirror.endpoint.password) == (missing, password)


def test_tls_comes_with_its_ca() -> None:
    """The CA is a credential like the others; TLS that is switched off asks for none."""
    world = mirrored()
    world.secrets["ca"] = make_secret_state(pem="PEM")
    for enabled in (True, False):
        tls = {"enabled": enabled, "caSecretRef": {"name": "ca", "key": "pem"}}
        world.apply(make_gateway_config(storage={"redis": {**STORE, "tls": tls}}, delivery={"redisNotify": True}))
        made = world.round()
        assert made.mirror is not None
        assert (made.mirror.endpoint.tls, made.mirror.endpoint.ca) == (enabled, "PEM" if enabled else None)


def test_a_gateway_that_goes_has_no_mirror() -> None:
    """What is in Redis is removed, not kept for nobody."""
    world = mirrored()
    world.apply(gateway(), deleting=True)
    assert world.round().mirror is None


def message(world: World) -> str:
    """Return what Propagated says."""
    return world.condition("gateway/main", "Propagated").message


def test_trouble_stands_at_the_end_of_what_is_said_of_pods_and_goes_again() -> None:
    """Redis away: the volume serves, and status says so, without touching status or reason."""
    world = mirrored()
    before = world.condition("gateway/main", "Propagated")
    world.mirror_trouble = "Redis at redis.ai.svc:6379 cannot be reached."
    world.settle()
    assert world.condition("gateway/main", "Propagated") == replace(
        before, message=f"{before.message} Redis mirror: Redis at redis.ai.svc:6379 cannot be reached."
    )
    world.mirror_trouble = ""
    world.settle()
    assert world.condition("gateway/main", "Propagated") == before


def test_what_is_not_known_yet_stays_as_it_was_told() -> None:
    """After a restart the status is not written twice to say the same."""
    world = mirrored()
    world.mirror_trouble = "Redis at redis.ai.svc:6379 cannot be reached."
    world.settle()
    before = message(world)
    world.mirror_trouble = None
    world.settle()
    assert message(world) == before
    world.apply(gateway(on=False))
    world.round()
    assert "Redis" not in message(world)


@pytest.mark.parametrize("storage", [{}, {"redis": {**STORE, "enabled": False}}])
def test_a_mirror_without_a_redis_is_told(storage: dict[str, Any]) -> None:
    """Otherwise redisNotify would be silently without effect."""
    world = make_world(make_virtual_model())
    world.mirror_key = KEY
    world.apply(make_gateway_config(storage=storage, delivery={"redisNotify": True}))
    assert world.settle().mirror is None
    assert message(world).endswith(
        " Redis mirror: spec.delivery.redisNotify is set, but spec.storage.redis is not set or not enabled."
    )
    assert key_of(world) is None
