"""Numbers move only when content moves, and statuses only when truth does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from aigateway_operator.plan.packed import pack
from aigateway_operator.plan.planner import plan
from aigateway_operator.render.shards import shard_of
from tests.builders import World, make_backend, make_gateway_config, make_secret_state, make_virtual_model, make_world
from tests.reference_renderer import reference_config_maps, reference_credentials


def edited(name: str, model: str = "edited", **overrides: Any) -> dict[str, Any]:
    """Return a model with another upstream."""
    return make_virtual_model(name, backends=[make_backend(model=model)], **overrides)


def test_a_world_settles_to_the_reference() -> None:
    """Documents, manifests and credentials are those of the plainest program, sharded or not."""
    for shards in (1, 3):
        gateway = make_gateway_config(delivery={"shards": shards}, app={"port": 1})
        models = [make_virtual_model(f"m{number}") for number in range(9)]
        world = World(secrets={"chat-keys": make_secret_state(proxy="p"), "openai": make_secret_state(api_key="a")})
        world.apply(gateway, *models)
        world.settle()
        assert world.gateway is not None
        for manifest in (gateway, *models):
            stored = world.models.get(manifest["metadata"]["name"]) or world.gateway
            manifest["metadata"]["uid"] = stored.uid
        for name, data in reference_config_maps(gateway, models, revision=1).items():
            assert world.objects.by_name["ConfigMap", name]["data"] == data
        for name, files in reference_credentials(gateway, models).items():
            values = world.objects.values("Secret", name)
            assert {file for file in values if not file.startswith("_manifest")} == set(files)
            for file, (secret, key) in files.items():
                assert values[file] == world.secrets[secret].values[key]


def test_one_edit_moves_the_revision_of_one_shard() -> None:
    """Other documents keep theirs, and are not written."""
    world = make_world(*(make_virtual_model(f"m{number}") for number in range(8)), delivery={"shards": 4})
    world.apply(edited("m3"))
    made = world.settle()
    shard = shard_of("m3", 4)
    assert [write.name for write in made.writes if write.kind == "ConfigMap"] == [f"main-models-{shard:02d}"]
    assert {number: world.manifest(number)["revision"] for number in range(4)} == {
        number: 2 if number == shard else 1 for number in range(4)
    }
    assert made.revision == 2


def test_everything_changed_in_one_round_gets_the_same_number() -> None:
    """A revision is a moment of the gateway."""
    world = make_world(*(make_virtual_model(f"m{number}") for number in range(8)), delivery={"shards": 2})
    world.apply(make_gateway_config(delivery={"shards": 2}, app={"port": 1}), *(edited(f"m{number}") for number in range(8)))
    world.settle()
    assert [world.manifest(shard)["revision"] for shard in (0, 1, None)] == [2, 2, 2]


def test_a_change_that_pods_do_not_read_moves_nothing() -> None:
    """Probes and delivery are the operator's business; statuses still speak of the new generation."""
    world = make_world(make_virtual_model())
    world.apply(make_gateway_config(probes={"periodSeconds": 30}), make_virtual_model(probe={"enabled": False}))
    made = world.settle()
    assert made.writes == ()
    assert world.statuses["chat"].generation == 2
    assert world.statuses["chat"].fields["revision"] == 1


def test_a_model_made_anew_with_the_same_content_moves_no_revision() -> None:
    """Only the manifest says whose it is."""
    world = make_world(make_virtual_model())
    world.delete("chat")
    world.apply(make_virtual_model())
    made = world.settle()
    assert [write.name for write in made.writes] == ["main-config"]
    assert world.manifest()["revision"] == 1
    assert world.manifest()["sources"]["chat"] == world.models["chat"].source


def test_a_models_revision_stays_while_others_change() -> None:
    """`aigateway wait` compares it with what pods report."""
    world = make_world(make_virtual_model("a"), make_virtual_model("b"))
    world.apply(edited("b"))
    world.settle()
    assert world.statuses["a"].fields["revision"] == 1
    assert world.statuses["b"].fields["revision"] == 2
    assert world.statuses["gateway/main"].fields["revision"] == 2


def test_a_models_revision_does_not_wait_for_its_status_to_be_written() -> None:
    """Status writes lag behind rounds; what an older status says is not what was served last."""
    world = make_world(make_virtual_model("a"), make_virtual_model("b"))
    stale = world.models["a"].status
    world.apply(edited("a"))
    world.round()
    world.models["a"] = replace(world.models["a"], status=stale)
    world.apply(edited("b"))
    made = world.round()
    assert {status.name: status.fields["revision"] for status in made.statuses} == {"a": 2, "b": 3, "main": 3}


def test_after_a_restart_a_status_of_an_older_generation_is_not_believed() -> None:
    """It was written before the version that is served; the revision of the document is a safe bound."""
    world = make_world(make_virtual_model("a"), make_virtual_model("b"))
    stale = world.models["a"].status
    world.apply(edited("a"))
    world.round()
    world.models["a"] = replace(world.models["a"], status=stale)
    world.restart()
    world.round()
    assert world.statuses["a"].fields["revision"] == 2


@pytest.mark.parametrize("told", [{"revision": 99}, {"revision": "x"}, {"revision": -1}, {}, None, [], {"revision": None}])
def test_after_a_restart_a_status_that_cannot_be_true_is_not_believed(told: Any) -> None:
    """Somebody wrote it by hand."""
    world = make_world(make_virtual_model("a"))
    told = {**told, "observedGeneration": 1} if isinstance(told, dict) else told
    world.models["a"] = replace(world.models["a"], status=pack(orjson.dumps(told)))
    world.restart()
    world.round()
    assert world.statuses["a"].fields["revision"] == 1


@pytest.mark.parametrize("status", [{"revision": 41, "rollout": {"credentialsRevision": 17}}])
def test_numbers_go_on_from_what_the_status_says(status: dict[str, Any]) -> None:
    """Everything was deleted by hand; a number is never used twice within a lineage."""
    world = World()
    world.apply(make_gateway_config())
    assert world.gateway is not None
    world.gateway = replace(world.gateway, status=pack(orjson.dumps(status)))
    made = world.settle()
    assert (made.revision, made.credentials_revision) == (42, 18)


@pytest.mark.parametrize(
    "status", [{"revision": "7", "rollout": 3}, {"rollout": {"credentialsRevision": None}}, {"revision": 1.5}]
)
def test_a_status_of_any_shape_breaks_no_round(status: dict[str, Any]) -> None:
    """Files read without an API server may say anything."""
    world = World()
    world.apply(make_gateway_config())
    assert world.gateway is not None
    world.gateway = replace(world.gateway, status=pack(orjson.dumps(status)))
    assert world.settle().revision == 1


def test_a_model_that_is_off_is_programmed_and_says_so() -> None:
    """It stays rendered; callers get 404."""
    world = make_world(make_virtual_model("a", use=False), make_virtual_model("b"))
    assert world.condition("a", "Ready").message == "Served as 'a', switched off."
    assert world.statuses["gateway/main"].fields["models"] == {"accepted": 2, "rejected": 0, "off": 1}


def test_models_are_counted_by_what_became_of_them() -> None:
    """Invalid ones and losers of a conflict are rejected; only accepted ones count as off."""
    world = make_world(
        make_virtual_model("a"),
        make_virtual_model("b", modelName="a", use=False),
        make_virtual_model("c", current="nowhere"),
        make_virtual_model("d", use=False),
    )
    assert world.statuses["gateway/main"].fields["models"] == {"accepted": 2, "rejected": 2, "off": 1}


def test_violations_are_listed_up_to_ten() -> None:
    """A message that lists more is read by nobody."""
    backends = [make_backend(f"b{number}", apiKey="x") for number in range(12)]
    world = make_world(make_virtual_model("a", current="b0", backends=backends))
    message = world.condition("a", "Accepted").message
    assert message.count("spec.backends[") >= 10
    assert message.endswith("; and 2 more")


def test_a_gateway_says_what_nobody_has_proved() -> None:
    """Nobody takes an unasked question for an answer; Ready does not depend on it (more: test_propagation.py)."""
    world = make_world()
    assert world.verdict("gateway/main", "Propagated") == ("Unknown", "NoSelector")
    assert world.verdict("gateway/main", "DatastoresReady") == ("True", "Up"), "no store is enabled (more: test_health.py)"
    assert world.verdict("gateway/main", "Ready") == ("True", "Ready")
    world.apply(make_gateway_config(delivery={"podSelector": {"matchLabels": {"app": "gateway"}}}))
    world.settle()
    assert world.verdict("gateway/main", "Propagated") == ("Unknown", "Progressing")


def test_a_gateway_resolves_its_own_references() -> None:
    """A missing password makes the gateway not ready; its documents are written all the same."""
    redis = {"host": "redis.ai.svc", "passwordSecretRef": {"name": "redis", "key": "password"}}
    world = make_world(storage={"redis": redis})
    assert world.verdict("gateway/main", "ResolvedRefs") == ("Unknown", "Pending")
    world.secrets["redis"] = make_secret_state(other="x")
    world.settle()
    assert world.verdict("gateway/main", "Ready") == ("False", "SecretKeyNotFound")
    assert world.verdict("gateway/main", "Programmed") == ("True", "Programmed")


def test_a_gateway_says_how_many_documents_it_has() -> None:
    """One, or one a shard and the settings."""
    assert make_world().condition("gateway/main", "Programmed").message == "1 document rendered."
    assert make_world(delivery={"shards": 2}).condition("gateway/main", "Programmed").message == "3 documents rendered."


def test_statuses_come_in_order_with_the_gateway_last() -> None:
    """Whoever waits for the gateway finds the models told before."""
    world = make_world(make_virtual_model("b"), make_virtual_model("a"))
    assert [status.name for status in world.round().statuses] == ["a", "b", "main"]


def test_memory_does_not_grow_with_models_that_are_gone() -> None:
    """Ten thousand models may come and go."""
    world = make_world(*(make_virtual_model(f"m{number}") for number in range(5)))
    for number in range(4):
        world.delete(f"m{number}")
    world.settle()
    known, claims, told = world.memo.known, world.memo.claims, world.memo.told
    assert set(known.models) == set(known.assessments) == set(claims.places) == set(claims.winners) == {"m4"}
    assert not {*claims.moved, *told.standings, *known.untold, *known.unsettled}, "something waits when all is at rest"


def test_a_gateway_made_anew_begins_its_own_lineage() -> None:
    """Another uid, another count."""
    world = make_world(make_virtual_model())
    world.apply(edited("chat"))
    world.settle()
    world.objects.by_name.clear()
    world.gateway = None
    world.round()
    assert world.verdict("chat", "Accepted") == ("False", "GatewayNotFound")
    world.apply(make_gateway_config())
    world.settle()
    assert world.manifest()["revision"] == 1
    assert world.gateway is not None
    assert world.manifest()["lineage"] == world.gateway.uid  # type: ignore[unreachable]  # mypy does not see `apply` set it


def test_statuses_of_a_plan_that_is_no_longer_the_last_are_not_made() -> None:
    """They would mix what two rounds knew; asking for them late is a fault of the caller's."""
    world = make_world(make_virtual_model("chat"))
    snapshot = world.snapshot()
    old = plan(snapshot, world.memo, world.now)
    plan(snapshot, world.memo, world.now)
    with pytest.raises(RuntimeError, match="after the next plan"):
        _ = old.statuses
