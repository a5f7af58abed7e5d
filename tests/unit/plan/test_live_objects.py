"""What is in the cluster already: names that are taken, objects that were changed by hand, gateways that go or are invalid."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from aigateway_operator.plan import names
from aigateway_operator.plan.packed import pack
from aigateway_operator.plan.readback import read_live, read_served, values_of
from tests.builders import World, make_gateway_config, make_uid, make_virtual_model, make_world

OTHER_OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "other", "controller": True}


@pytest.mark.parametrize(("kind", "name"), [("ConfigMap", "main-config"), ("Secret", "main-credentials")])
@pytest.mark.parametrize("owners", [[], [OTHER_OWNER], [{**OTHER_OWNER, "controller": False}]])
def test_an_object_that_is_not_ours_is_never_touched(kind: str, name: str, owners: list[Any]) -> None:
    """Whoever made it may need it; status says what to do."""
    world = World()
    world.apply(make_gateway_config(), make_virtual_model())
    world.objects.put(kind, name, {"theirs": b"x"}, ownerReferences=owners)
    made = world.settle()
    assert made.writes == ()
    assert world.objects.values(kind, name) == {"theirs": b"x"}
    assert world.verdict("gateway/main", "Programmed") == ("False", "NameTaken")
    assert f"{kind} '{name}'" in world.condition("gateway/main", "Programmed").message
    assert world.verdict("gateway/main", "Accepted") == ("True", "Accepted")
    assert world.verdict("chat", "Programmed") == ("False", "Pending")


def test_objects_of_a_deleted_gateway_of_the_same_name_are_waited_for() -> None:
    """The garbage collector takes them; until then nothing is written, and it is nobody's fault."""
    world = make_world(make_virtual_model())
    assert world.gateway is not None
    world.gateway = replace(world.gateway, uid=make_uid("another"), status=pack(b"{}"))
    world.restart()
    made = world.settle()
    assert made.writes == ()
    assert world.verdict("gateway/main", "Programmed") == ("False", "Pending")
    assert "garbage-collected" in world.condition("gateway/main", "Programmed").message
    world.objects.by_name.clear()
    world.settle()
    assert world.manifest()["lineage"] == make_uid("another")
    assert world.manifest()["revision"] == 1


def test_a_shard_whose_name_is_taken_does_not_stop_the_others() -> None:
    """Only its models wait."""
    world = World()
    models = [make_virtual_model(f"m{number}") for number in range(12)]
    world.apply(make_gateway_config(delivery={"shards": 2}), *models)
    world.objects.put("ConfigMap", "main-models-01", {"x": b"y"})
    world.settle()
    inside = set(world.document(0)["ai-gateway"]["virtual_models"])
    assert 0 < len(inside) < 12
    for model in models:
        name = model["metadata"]["name"]
        expected = ("True", "Programmed") if name in inside else ("False", "Pending")
        assert world.verdict(name, "Programmed") == expected
    assert world.verdict("gateway/main", "Programmed") == ("False", "NameTaken")


def test_what_a_blocked_document_serves_stays_the_last_good() -> None:
    """The Secret's name is taken, the ConfigMap lives on: an invalid edit meanwhile must not end the model afterwards."""
    world = make_world(make_virtual_model())
    del world.objects.by_name["Secret", "main-credentials"]
    world.objects.put("Secret", "main-credentials", {"theirs": b"x"})
    world.settle()
    world.apply(make_virtual_model(current="nowhere"))
    world.settle()
    del world.objects.by_name["Secret", "main-credentials"]
    world.settle()
    assert set(world.entries()) == {"chat"}
    assert world.verdict("chat", "Programmed") == ("False", "KeptLastGood")


def test_a_blocked_shard_keeps_its_own_models_alone() -> None:
    """Models of the other shard that are deleted meanwhile are gone."""
    models = [make_virtual_model(f"m{number}") for number in range(8)]
    world = make_world(*models, delivery={"shards": 2})
    world.objects.edit("Secret", "main-credentials-01")["metadata"]["ownerReferences"] = []
    blocked = set(world.document(1)["ai-gateway"]["virtual_models"])
    for name in list(world.models):
        world.delete(name)
    made = world.settle()
    assert set(made.served) == set(world.entries()) == blocked


def test_a_model_made_anew_in_a_blocked_document_is_told_nothing_of_its_predecessor() -> None:
    """What pods have under that name is not this model's."""
    world = make_world(make_virtual_model(modelName="before"))
    world.objects.edit("Secret", "main-credentials")["metadata"]["ownerReferences"] = []
    world.settle()
    assert world.statuses["chat"].fields == {"modelName": "before", "revision": 1}
    world.delete("chat")
    world.apply(make_virtual_model())
    world.settle()
    assert world.statuses["chat"].fields == {"modelName": "chat"}


def test_revisions_go_on_after_a_name_was_taken() -> None:
    """A number is never used twice within a lineage, so status keeps the highest while nothing can be written."""
    world = make_world(make_virtual_model())
    for port in (1, 2, 3):
        world.apply(make_gateway_config(app={"port": port}))
        world.settle()
    assert world.manifest()["revision"] == 4
    world.objects.by_name.clear()
    world.objects.put("ConfigMap", "main-config", {})
    world.settle()
    assert world.statuses["gateway/main"].fields["revision"] == 4
    world.objects.by_name.clear()
    world.settle()
    assert world.manifest()["revision"] == 5


@pytest.mark.parametrize(("kind", "name"), [("ConfigMap", "main-config"), ("Secret", "main-credentials")])
@pytest.mark.parametrize("key", ["added", "a.manifest.json", "_manifest-07.json", "_manifestly.json"])
def test_a_key_added_by_hand_goes_and_moves_no_revision(kind: str, name: str, key: str) -> None:
    """Our objects are written whole; what pods read did not change."""
    world = make_world(make_virtual_model())
    before = world.objects.values(kind, name)
    world.objects.edit(kind, name)["data"][key] = "eA=="
    made = world.settle()
    assert [write.name for write in made.writes] == [name]
    assert world.objects.values(kind, name) == before


@pytest.mark.parametrize(("kind", "name"), [("ConfigMap", "main-config"), ("Secret", "main-credentials")])
def test_a_stripped_label_is_put_back(kind: str, name: str) -> None:
    """Without it our watch would not see the object."""
    world = make_world(make_virtual_model())
    before = world.objects.values(kind, name)
    del world.objects.edit(kind, name)["metadata"]["labels"]["ai-gateway.io/gateway"]
    made = world.settle()
    assert [write.name for write in made.writes] == [name]
    assert world.objects.by_name[kind, name]["metadata"]["labels"]["ai-gateway.io/gateway"] == "main"
    assert world.objects.values(kind, name) == before


@pytest.mark.parametrize(("kind", "name"), [("ConfigMap", "main-config"), ("Secret", "main-credentials")])
def test_an_immutable_object_of_ours_is_replaced(kind: str, name: str) -> None:
    """Somebody set `immutable`; the API server refuses any other way."""
    world = make_world(make_virtual_model())
    world.objects.edit(kind, name)["immutable"] = True
    uid = world.objects.by_name[kind, name]["metadata"]["uid"]
    made = world.settle()
    assert [(write.name, write.live is not None and write.live.immutable) for write in made.writes] == [(name, True)]
    assert world.objects.by_name[kind, name]["metadata"]["uid"] != uid


def test_binary_data_added_by_hand_goes() -> None:
    """It counts against the limit and would be mounted beside the documents."""
    world = make_world(make_virtual_model())
    world.objects.edit("ConfigMap", "main-config")["binaryData"] = {"x": "eA=="}
    assert [write.name for write in world.settle().writes] == ["main-config"]


def test_a_document_changed_by_hand_is_written_again_under_a_new_revision() -> None:
    """Pods may have loaded the changed bytes; the same number must not stand for two contents."""
    world = make_world(make_virtual_model())
    expected = world.document()
    data = world.objects.edit("ConfigMap", "main-config")["data"]
    data["config.yml"] = data["config.yml"].replace("gpt-4o-mini", "else")
    world.settle()
    assert world.document() == expected
    assert world.manifest()["revision"] == 2


def test_a_deleted_document_is_written_again_under_a_new_revision() -> None:
    """Its number is known from the status."""
    world = make_world(make_virtual_model())
    del world.objects.by_name["ConfigMap", "main-config"]
    world.settle()
    assert set(world.entries()) == {"chat"}
    assert world.manifest()["revision"] == 2


@pytest.mark.parametrize("value", ["not base64!", "", None])
def test_a_broken_credentials_value_is_mended(value: Any) -> None:
    """Whatever stands there, the next round brings back what the Secret says."""
    world = make_world(make_virtual_model())
    world.objects.edit("Secret", "main-credentials")["data"]["chat-keys.proxy"] = value
    world.settle()
    assert world.credentials() == {"chat-keys.proxy": b"caller", "openai.api-key": b"backend"}


def test_a_deleting_gateway_writes_nothing_more() -> None:
    """Its objects go with it; the models are told why nothing moves."""
    world = make_world(make_virtual_model())
    world.apply(make_gateway_config(app={"port": 1}), deleting=True)
    world.apply(make_virtual_model("new"))
    made = world.settle()
    assert made.writes == ()
    assert world.verdict("gateway/main", "Programmed") == ("False", "Pending")
    assert "being deleted" in world.condition("gateway/main", "Programmed").message
    assert "being deleted" in world.condition("new", "Programmed").message
    assert world.statuses["chat"].fields == {"modelName": "chat", "revision": 1}
    assert world.statuses["gateway/main"].fields["revision"] == 1


def test_a_revision_that_nobody_knows_is_not_told() -> None:
    """The status is gone, the operator was restarted, and nothing is written that would have a number."""
    world = make_world(make_virtual_model())
    world.apply(make_gateway_config(), deleting=True)
    world.models["chat"] = replace(world.models["chat"], status=pack(b"{}"))
    world.restart()
    world.round()
    assert world.statuses["chat"].fields == {"modelName": "chat"}


def test_an_invalid_gateway_keeps_its_settings_and_serves_models_as_usual() -> None:
    """An edit past the webhook does not take pods down, nor stop edits of models."""
    world = make_world(make_virtual_model(), app={"port": 9000})
    world.apply(make_gateway_config(app={"port": 0}), make_virtual_model("more"))
    world.settle()
    assert world.document()["app"]["port"] == 9000
    assert set(world.entries()) == {"chat", "more"}
    assert world.verdict("gateway/main", "Accepted") == ("False", "Invalid")
    assert world.verdict("gateway/main", "Programmed") == ("False", "KeptLastGood")
    assert world.verdict("gateway/main", "ResolvedRefs") == ("Unknown", "Pending")
    assert world.verdict("more", "Ready") == ("True", "Ready")


def test_a_gateway_that_was_never_valid_has_no_documents() -> None:
    """There are no settings to render."""
    world = World()
    world.apply(make_gateway_config(app={"port": 0}), make_virtual_model())
    made = world.settle()
    assert (made.writes, made.revision) == ((), None)
    assert world.verdict("gateway/main", "Programmed") == ("False", "Pending")
    assert "no documents yet" in world.condition("chat", "Programmed").message


def test_every_shard_is_written_even_empty_and_config_comes_last() -> None:
    """Readers count the shards that `config.yml` promises; credentials are there before documents name them."""
    world = make_world(delivery={"shards": 3})
    world.objects.by_name.clear()
    made = world.round()
    assert [write.name for write in made.writes] == [
        "main-credentials-00", "main-credentials-01", "main-credentials-02", "main-credentials",
        "main-models-00", "main-models-01", "main-models-02", "main-config",
    ]  # fmt: skip
    assert [world.manifest(shard)["shards"] for shard in (0, 1, 2, None)] == [3, 3, 3, 3]


@pytest.mark.parametrize("lost", [[], ["main-config"]])
def test_the_number_of_shards_is_fixed_by_what_is_live(lost: list[str]) -> None:
    """The field is immutable; past the API server's check, or with an invalid spec, models stay where pods look for them."""
    world = make_world(make_virtual_model(), delivery={"shards": 4})
    before = {shard: world.document(shard) for shard in range(4)}
    for name in lost:
        del world.objects.by_name["ConfigMap", name]
    world.apply(make_gateway_config(delivery={"shards": 2}))
    world.settle()
    world.apply(make_gateway_config(delivery={"shards": 0}))
    world.settle()
    assert {shard: world.document(shard) for shard in range(4)} == before
    assert world.manifest()["shards"] == 4


def test_without_anything_live_an_invalid_gateway_has_one_shard() -> None:
    """Settings are remembered, documents were deleted: something must be assumed."""
    world = make_world(make_virtual_model())
    world.objects.by_name.clear()
    world.apply(make_gateway_config(app={"port": 0}))
    world.round()
    assert world.manifest()["shards"] == 1


# -- reading back


def live_of(world: World, kind: str, name: str) -> Any:
    """Return the live object as plans see it."""
    assert world.gateway is not None
    return read_live(world.objects.by_name[kind, name], "main", world.gateway.uid)


def test_the_answer_to_a_write_is_hashed_where_it_differs_from_what_was_sent() -> None:
    """Digests of what came back as it was sent are known; what a mutating webhook changed or took away is noticed."""
    world = World()
    world.apply(make_gateway_config(), make_virtual_model())
    write = world.plan().writes[-1]
    world.settle()
    obj = world.objects.by_name["ConfigMap", "main-config"]
    assert world.gateway is not None
    assert write.digests == {file: sha256(value).hexdigest() for file, value in write.values.items()}
    assert read_live(obj, "main", world.gateway.uid, write) == live_of(world, "ConfigMap", "main-config")
    told = replace(write, digests=dict.fromkeys(write.values, "known"))
    assert read_live(obj, "main", world.gateway.uid, told).digests == told.digests
    changed = {**obj, "data": {**obj["data"], "config.yml": "x", "theirs": "y"}}
    found = read_live(changed, "main", world.gateway.uid, told)
    assert found.digests["config.yml"] == sha256(b"x").hexdigest()
    assert found.digests["theirs"] == sha256(b"y").hexdigest()
    assert not found.verified


def sealed(world: World, document: bytes, **manifest: Any) -> None:
    """Put a document with a matching manifest into `main-config`."""
    known = {**world.manifest(), "sha256": sha256(document).hexdigest(), **manifest}
    world.objects.edit("ConfigMap", "main-config")["data"].update(
        {"config.yml": document.decode(), "config.manifest.json": json.dumps(known)}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"lineage": "another"},
        {"shard": 0},
        {"shards": 0},
        {"shards": 65},
        {"revision": "x"},
        {"sha256": None},
    ],
)
def test_a_manifest_that_cannot_be_ours_counts_as_none(change: dict[str, Any]) -> None:
    """Of another lineage or object, or not of this shape: nothing in it is believed, and it is written again."""
    world = make_world(make_virtual_model())
    sealed(world, world.objects.values("ConfigMap", "main-config")["config.yml"], **change)
    live = live_of(world, "ConfigMap", "main-config")
    assert (live.manifest, live.verified) == (None, False)
    world.restart()
    assert world.served == {}
    world.settle()
    assert set(world.entries()) == {"chat"}


@pytest.mark.parametrize("change", [{"lineage": "another"}, {"shard": 3}, {"keys": 7}])
def test_a_credentials_manifest_that_cannot_be_ours_counts_as_none(change: dict[str, Any]) -> None:
    """As with documents; the Secret is written again."""
    world = make_world(make_virtual_model())
    before = world.credentials()
    data = world.objects.edit("Secret", "main-credentials")["data"]
    known = {**world.credentials_manifest(), **change}
    data["_manifest.json"] = b64encode(json.dumps(known).encode()).decode()
    assert live_of(world, "Secret", "main-credentials").credentials is None
    assert [write.name for write in world.settle().writes] == ["main-credentials"]
    assert world.credentials() == before


@pytest.mark.parametrize(
    "document", [b"", b"not json", b"[]", b"{}", b'{"ai-gateway":[]}', b'{"ai-gateway":{"virtual_models":[]}}', b"7"]
)
def test_a_verified_document_of_any_shape_breaks_no_round(document: bytes) -> None:
    """Somebody sealed nonsense with its digest: nothing is read back, and the next round mends it."""
    world = make_world(make_virtual_model())
    sealed(world, document)
    assert live_of(world, "ConfigMap", "main-config").verified
    world.restart()
    assert (world.served, world.settings) == ({}, None)
    world.settle()
    assert set(world.entries()) == {"chat"}


@pytest.mark.parametrize(
    "entry", [7, [], "x", {}, {"use": 1}, {"use": True, "current": "no", "base_url": None, "proxy_key_ref": "a.b"}]
)
def test_one_broken_entry_does_not_take_the_others_along(entry: Any) -> None:
    """Each entry is believed by itself."""
    world = make_world(make_virtual_model("a"), make_virtual_model("b"))
    document = world.document()
    document["ai-gateway"]["virtual_models"]["a"] = entry
    sealed(world, json.dumps(document).encode())
    world.restart()
    assert set(world.served) == {"b"}


def test_an_entry_without_a_source_belongs_to_nobody() -> None:
    """It cannot be anybody's last good."""
    world = make_world(make_virtual_model("a"), make_virtual_model("b"))
    sealed(
        world, world.objects.values("ConfigMap", "main-config")["config.yml"], sources={"b": world.manifest()["sources"]["b"]}
    )
    world.restart()
    assert set(world.served) == {"b"}


@pytest.mark.parametrize("schema", ["2.0", "x", "0.9"])
def test_a_document_of_another_schema_major_is_not_read_back(schema: str) -> None:
    """A reader of this major would misread it."""
    world = make_world(make_virtual_model())
    sealed(world, world.objects.values("ConfigMap", "main-config")["config.yml"], schema=schema)
    world.restart()
    assert (world.served, world.settings) == ({}, None)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_document_that_says_what_the_objects_say_is_not_parsed_and_read_the_same(shards: int) -> None:
    """The entries are those of the objects, not copies; everything else is read as without knowing them."""
    world = World()
    models = [make_virtual_model(f"m{number}") for number in range(6)]
    world.apply(make_gateway_config(delivery={"shards": shards}), *models)
    world.settle()
    world.apply(make_virtual_model("m0", current="big"))
    world.snapshot()
    world.memo.take(world.snapshot())
    known, same = world.memo.known, set[str]()
    for kind, name in [place for place in world.objects.by_name if place[0] == "ConfigMap"]:
        obj, live = world.objects.by_name[kind, name], live_of(world, kind, name)
        served, settings = read_served(obj, live, known)
        assert (served, settings) == read_served(obj, live)
        same |= {owner for owner, one in served.items() if one.entry is known.assessments[owner].entry}
        assert "m0" not in same, "pods do not have that edit yet"
    assert same == set() if shards == 1 else same


def test_the_document_of_a_gateway_that_is_invalid_now_is_parsed() -> None:
    """Its objects make no document any more that it could be compared with: settings and models are those that are live."""
    world = make_world(make_virtual_model(), app={"port": 9000})
    world.apply(make_gateway_config(app={"port": 0}))
    world.memo.take(world.snapshot())
    obj, live = world.objects.by_name["ConfigMap", "main-config"], live_of(world, "ConfigMap", "main-config")
    served, settings = read_served(obj, live, world.memo.known)
    assert (served, settings) == read_served(obj, live)
    assert settings is not None
    assert set(served) == {"chat"}


def test_nothing_is_read_back_from_a_foreign_object() -> None:
    """It may say anything."""
    world = make_world(make_virtual_model())
    obj = world.objects.edit("ConfigMap", "main-config")
    obj["metadata"]["ownerReferences"] = [OTHER_OWNER]
    assert read_served(obj, live_of(world, "ConfigMap", "main-config")) == ({}, None)


def test_values_are_bytes_whatever_the_kind() -> None:
    """ConfigMaps hold text, Secrets base64; both may have no data at all."""
    assert values_of({"kind": "ConfigMap", "data": {"a": "ü"}}) == {"a": "ü".encode()}
    assert values_of({"kind": "Secret", "data": {"a": "eA==", "b": "?"}}) == {"a": b"x"}
    assert values_of({"kind": "Secret"}) == values_of({"kind": "ConfigMap", "data": None}) == {}


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("main-config", True),
        ("main-credentials", True),
        ("main-models-07", True),
        ("main-credentials-63", True),
        ("main-models", False),
        ("main-models-7", False),
        ("main-config-07", False),
        ("main-other", False),
        ("other-config", False),
        ("main", False),
        ("main-models-config", False),
    ],
)
def test_generated_objects_are_known_by_name(name: str, ours: bool) -> None:
    """A gateway `main-models` has objects of its own, which are not those of `main`."""
    assert names.belongs_to(name, "main") is ours
