"""Credentials from round to round: union before removal, late removal, revocation, what cannot be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aigateway_operator.plan.memo import Memo, referenced_secrets
from aigateway_operator.plan.secret_state import SecretState
from tests.builders import World, make_backend, make_gateway_config, make_secret_state, make_virtual_model, make_world

ABSENT = SecretState(known=True, exists=False)


def keyed(name: str = "chat", secret: str = "chat-keys", **overrides: Any) -> dict[str, Any]:
    """Return a model with a proxy key and no backend key."""
    return make_virtual_model(name, proxyKeySecretRef={"name": secret, "key": "proxy"}, backends=[make_backend()], **overrides)


def test_a_changed_secret_is_followed_at_once() -> None:
    """Only the credentials Secret moves, and only its revision."""
    world = make_world(keyed())
    world.secrets["chat-keys"] = make_secret_state(proxy="rotated")
    made = world.settle()
    assert [write.name for write in made.writes] == ["main-credentials"]
    assert world.credentials() == {"chat-keys.proxy": b"rotated"}
    assert (world.credentials_manifest()["credentialsRevision"], world.manifest()["revision"]) == (2, 1)
    assert made.credentials_revision == 2


def test_new_credentials_come_before_the_document_that_names_them() -> None:
    """A reader that sees the document finds its keys."""
    world = make_world(keyed())
    world.secrets["other"] = make_secret_state(proxy="x")
    world.apply(keyed(secret="other"))
    assert [write.kind for write in world.round().writes] == ["Secret", "ConfigMap"]


def test_a_key_no_longer_named_stays_for_two_minutes() -> None:
    """Running pods may still use it; the plan asks to be called again when it is due."""
    world = make_world(keyed())
    world.secrets["other"] = make_secret_state(proxy="x")
    world.apply(keyed(secret="other"))
    made = world.round()
    assert set(world.credentials()) == {"chat-keys.proxy", "other.proxy"}
    assert made.wake_after_seconds == 120
    world.now += 119
    assert world.round().writes == ()
    assert world.round().wake_after_seconds == 1
    world.now += 1
    made = world.round()
    assert set(world.credentials()) == {"other.proxy"}
    assert world.credentials_manifest()["keys"] == ["other.proxy"]
    assert (made.wake_after_seconds, dict(made.unreferenced_since)) == (None, {})
    assert [write.name for write in made.writes] == ["main-credentials"]


def test_a_key_named_again_in_time_stays() -> None:
    """Its clock starts anew the next time."""
    world = make_world(keyed())
    world.secrets["other"] = make_secret_state(proxy="x")
    world.apply(keyed(secret="other"))
    world.round()
    world.now += 100
    world.apply(keyed())
    world.round()
    world.apply(keyed(secret="other"))
    world.now += 100
    assert world.round().wake_after_seconds == 120
    assert "chat-keys.proxy" in world.credentials()


def test_a_restart_gives_unused_keys_their_two_minutes_again() -> None:
    """When they fell out of use is not known any more; too late is safe, too early is not."""
    world = make_world(keyed())
    world.secrets["other"] = make_secret_state(proxy="x")
    world.apply(keyed(secret="other"))
    world.round()
    world.now += 119
    world.restart()
    assert world.round().wake_after_seconds == 120
    assert "chat-keys.proxy" in world.credentials()


def test_a_secret_that_vanishes_is_revoked_after_five_seconds() -> None:
    """Controllers delete and recreate Secrets; the model stays rendered, callers are refused."""
    world = make_world(keyed())
    world.secrets["chat-keys"] = replace(ABSENT, gone_since=world.now)
    made = world.round()
    assert (made.writes, made.wake_after_seconds) == ((), 5)
    assert world.verdict("chat", "ResolvedRefs") == ("False", "SecretNotFound")
    world.now += 5
    made = world.settle()
    assert world.credentials() == {}
    assert world.credentials_manifest()["missing"] == ["chat-keys.proxy"]
    assert set(world.entries()) == {"chat"}
    assert world.verdict("chat", "Ready") == ("False", "SecretNotFound")
    assert world.verdict("chat", "Programmed") == ("True", "Programmed")


def test_a_secret_that_was_never_there_is_missing_at_once() -> None:
    """A reader waits for no key that is known to be missing."""
    world = make_world()
    world.apply(keyed(secret="nobody"))
    world.secrets["nobody"] = ABSENT
    world.settle()
    assert world.credentials_manifest() | {"lineage": ""} == {
        "schema": "1.0", "gateway": "ai/main", "lineage": "", "shard": None, "credentialsRevision": 2,
        "keys": [], "missing": ["nobody.proxy"],
    }  # fmt: skip


def test_a_secret_gone_while_nobody_watched_is_revoked() -> None:
    """After a restart there is nothing that was seen to vanish."""
    world = make_world(keyed())
    world.restart()
    world.secrets["chat-keys"] = ABSENT
    world.settle()
    assert world.credentials() == {}


@pytest.mark.parametrize("state", [SecretState(known=False, exists=False), None])
def test_a_secret_that_cannot_be_read_keeps_what_is_live(state: SecretState | None) -> None:
    """A 403 or 5xx concludes nothing."""
    world = make_world(keyed())
    world.restart()
    world.secrets.pop("chat-keys")
    if state is not None:
        world.secrets["chat-keys"] = state
    world.apply(keyed("more"))
    world.settle()
    assert world.credentials() == {"chat-keys.proxy": b"caller"}
    assert world.verdict("chat", "ResolvedRefs") == ("Unknown", "Pending")
    assert world.verdict("chat", "Ready") == ("Unknown", "Pending")


def test_a_secret_of_a_refused_type_is_never_copied() -> None:
    """Whoever may edit a VirtualModel must not send tokens to a backend."""
    world = make_world()
    world.apply(keyed(secret="token"))
    world.secrets["token"] = SecretState(True, True, refused_type="kubernetes.io/service-account-token")
    world.settle()
    assert world.credentials() == {}
    assert world.verdict("chat", "ResolvedRefs") == ("False", "SecretTypeRefused")
    assert "service-account-token" in world.condition("chat", "ResolvedRefs").message


def test_a_secret_without_the_key_is_named_with_the_key() -> None:
    """The message says which."""
    world = make_world()
    world.apply(keyed(secret="other"))
    world.secrets["other"] = make_secret_state(else_="x")
    world.settle()
    assert world.verdict("chat", "ResolvedRefs") == ("False", "SecretKeyNotFound")
    told = "Secret 'other' has no key 'proxy'. Add the key, or correct its name in the spec."
    assert world.condition("chat", "ResolvedRefs").message == told


def test_all_missing_references_are_named_and_the_gravest_is_the_reason() -> None:
    """One message, so that a user mends the lot at once."""
    world = make_world()
    world.secrets |= {"a": ABSENT, "b": make_secret_state(other="x"), "c": SecretState(True, True, refused_type="t")}
    backends = [make_backend(name, apiKeySecretRef={"name": name, "key": "k"}) for name in "bc"]
    world.apply(make_virtual_model(proxyKeySecretRef={"name": "a", "key": "k"}, current="b", backends=backends))
    world.settle()
    message = world.condition("chat", "ResolvedRefs").message
    assert world.verdict("chat", "ResolvedRefs") == ("False", "SecretTypeRefused")
    assert message == (
        "Secret 'a' does not exist; Secret 'b' has no key 'k'; Secret 'c' is of type t, which is never read. "
        "Put the value into a Secret of type Opaque. Create the Secret, or correct its name in the spec. "
        "Add the key, or correct its name in the spec."
    )


def test_the_values_of_secrets_are_in_no_text() -> None:
    """Not in statuses, documents, manifests, nor in what a plan shows of itself."""
    world = make_world(keyed())
    world.secrets["chat-keys"] = make_secret_state(proxy="s3cr3t-value")
    made = world.plan()
    assert made.writes
    assert "s3cr3t-value" not in f"{made}{world.snapshot()}"


def test_hashed_credentials_survive_a_restart_with_an_invalid_edit() -> None:
    """A hashed name cannot be led back to its Secret: the value that is live stays, and what is lost is known missing."""
    model = keyed(secret="dotted.name")
    world = make_world()
    world.secrets["dotted.name"] = make_secret_state(proxy="hashed")
    world.apply(model)
    world.settle()
    (file,) = world.credentials()
    assert file.startswith("_")
    world.restart()
    world.apply({**model, "spec": {**model["spec"], "current": "nowhere"}})
    world.settle()
    assert world.credentials() == {file: b"hashed"}
    del world.objects.by_name["Secret", "main-credentials"]
    world.settle()
    assert world.credentials_manifest()["missing"] == [file]


def test_a_key_added_by_hand_is_not_carried_over_as_ours() -> None:
    """Only files in our manifest are kept for pods."""
    world = make_world(keyed())
    world.objects.edit("Secret", "main-credentials")["data"]["theirs"] = "eA=="
    world.apply(keyed(secret="other"))
    world.secrets["other"] = make_secret_state(proxy="x")
    world.round()
    assert set(world.credentials()) == {"chat-keys.proxy", "other.proxy"}


def test_credentials_are_sharded_like_the_models_that_name_them() -> None:
    """Each shard's Secret holds what its document names, the gateway's own Secret what the settings name."""
    redis = {"host": "redis.ai.svc", "passwordSecretRef": {"name": "redis", "key": "password"}}
    world = make_world(*(keyed(f"m{number}") for number in range(8)), delivery={"shards": 2}, storage={"redis": redis})
    world.secrets["redis"] = make_secret_state(password="r")
    world.settle()
    assert world.credentials() == {"redis.password": b"r"}
    assert world.credentials(0) == world.credentials(1) == {"chat-keys.proxy": b"caller"}
    assert world.credentials_manifest(1)["shard"] == 1


def test_a_round_looks_at_the_secrets_of_specs_settings_and_of_the_last_good() -> None:
    """And at no others: invalid specs name nothing, hashed names of the last good are not known."""
    search: dict[str, Any] = {"provider": "s", "baseUrl": "http://s.ai.svc", "apiKeySecretRef": {"name": "search", "key": "k"}}
    world = make_world(keyed("a", "first"), keyed("b", "b-keys"), keyed("c", "dotted.name"), webSearch=search)
    world.restart()
    world.apply(keyed("a", "second"), keyed("b", "bad", current="nowhere"), keyed("c", "dotted.name", current="no"))
    assert referenced_secrets(world.snapshot(), Memo()) == {
        "first": {"proxy"}, "second": {"proxy"}, "b-keys": {"proxy"}, "search": {"k"},
    }  # fmt: skip
    world.gateway = None
    assert referenced_secrets(replace(world.snapshot(), settings=None), Memo()).keys() == {"first", "second", "b-keys"}


def test_an_invalid_gateway_looks_at_the_secrets_of_its_last_good_settings() -> None:
    """They are what pods have."""
    search: dict[str, Any] = {"provider": "s", "baseUrl": "http://s.ai.svc", "apiKeySecretRef": {"name": "search", "key": "k"}}
    world = make_world(webSearch=search)
    world.apply(make_gateway_config(webSearch={**search, "provider": "???"}))
    assert referenced_secrets(world.snapshot(), Memo()) == {"search": {"k"}}


def test_two_due_times_wake_at_the_nearer() -> None:
    """One wake is asked for; the next round asks for the rest."""
    world = World()
    world.secrets = {name: make_secret_state(proxy="x") for name in ("chat-keys", "other", "third")}
    world.apply(make_gateway_config(), keyed(), keyed("b", "other"))
    world.settle()
    world.apply(keyed(secret="third"))
    world.secrets["other"] = replace(ABSENT, gone_since=world.now)
    assert world.round().wake_after_seconds == 5
