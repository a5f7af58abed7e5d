"""From `kubectl apply` to rendered documents: what each edit brings about, and what it must not touch."""

from __future__ import annotations

import itertools
import json
import time
from functools import partial
from hashlib import sha256

import pytest

from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.eventually import eventually
from tests.operators import InProcess
from tests.reference_renderer import reference_config_maps

pytestmark = pytest.mark.apiserver

STORAGE = {
    "mongodb": {"host": "mongodb.ai.svc", "passwordSecretRef": {"name": "keys", "key": "mongodb"}},
    "redis": {"host": "redis.ai.svc"},
}


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("order", list(itertools.permutations(["secret", "gateway", "model"])), ids="-".join)
def test_objects_may_come_in_any_order(world: World, order: tuple[str, ...]) -> None:
    """Whatever comes last completes the picture: documents, credentials and Ready."""
    manifests = {"secret": secret(), "gateway": gateway_config(), "model": virtual_model()}
    for kind in order:
        world.create(manifests[kind])
    world.wait_ready("chat")
    assert world.models()["chat"]["current"] == "small"
    assert world.values("main-credentials")["keys.openai"] == "backend-key"


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("order", list(itertools.permutations(["secret", "gateway", "model"])), ids="-".join)
def test_objects_may_go_in_any_order(world: World, order: tuple[str, ...]) -> None:
    """Deleting in any order ends with nothing left behind and truthful statuses on the way."""
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    objects = {"secret": ("Secret", "keys"), "gateway": ("GatewayConfig", "main"), "model": ("VirtualModel", "chat")}
    gone: set[str] = set()
    for kind in order:
        world.delete(*objects[kind])
        gone.add(kind)
        if kind == "gateway" and "model" not in gone:
            world.wait_condition("VirtualModel", "chat", "Accepted", "False", "GatewayNotFound")
        if kind == "secret" and not gone & {"model", "gateway"}:
            world.wait_condition("VirtualModel", "chat", "ResolvedRefs", "False", "SecretNotFound")
        if kind == "model" and "gateway" not in gone:
            world.wait_models(set())

    def check() -> None:
        assert not world.exists("ConfigMap", "main-config")
        assert not world.exists("Secret", "main-credentials")

    eventually(check, within_seconds=20)


@pytest.mark.usefixtures("operator")
def test_deleting_a_gateway_leaves_nothing_it_owned(world: World) -> None:
    """ConfigMaps and Secrets are controlled by the GatewayConfig, so that the garbage collector takes them."""
    world.create(secret(), gateway_config(delivery={"shards": 2}), virtual_model())
    world.wait_ready("chat")
    names = ["main-config", "main-models-00", "main-models-01"]
    assert all(world.exists("ConfigMap", name) for name in names)
    world.delete("GatewayConfig", "main")

    def check() -> None:
        left = [name for name in names if world.exists("ConfigMap", name)]
        left += [
            name for name in ("main-credentials", "main-credentials-00", "main-credentials-01") if world.exists("Secret", name)
        ]
        assert not left

    eventually(check, within_seconds=20)


@pytest.mark.usefixtures("operator")
def test_a_document_holds_what_the_design_says(world: World) -> None:
    """Names, defaults and references of config.yml; no secret anywhere in it; the digest is that of the bytes."""
    world.create(secret(proxy="caller", openai="backend", mongodb="store"), gateway_config(storage=STORAGE), virtual_model())
    world.wait_ready("chat")
    text, manifest = world.data("main-config")["config.yml"], world.manifest()
    document = json.loads(text)
    assert sorted(document) == ["ai-gateway", "app", "log", "storage", "web_search"]
    assert document["app"] == {"host": "0.0.0.0", "port": 8000, "debug": False}
    assert document["storage"]["mongodb"]["password_ref"] == "keys.mongodb"
    assert document["storage"]["qdrant"] is None
    assert document["web_search"] is None
    assert document["log"]["operation"] == {
        "level": "INFO",
        "storage": {"sinks": ["file", "mongodb"], "path": "logs"},
        "retention": 30,
    }
    assert document["ai-gateway"]["virtual_models"]["chat"] == {
        "use": True,
        "current": "small",
        "base_url": "https://api.example.com/v1",
        "proxy_key_ref": "keys.proxy",
        "small": {
            "model": "gpt-4o-mini",
            "base_url": "https://api.example.com/v1",
            "api_key_ref": "keys.openai",
            "parameters": {},
        },
        "big": {
            "model": "gpt-4o",
            "base_url": "https://api.example.com/v1",
            "api_key_ref": None,
            "parameters": {"temperature": 0.2},
        },
    }
    for value in ("caller", "backend", "store"):
        assert value not in text
    gateway = world.get("GatewayConfig", "main")
    assert manifest["sha256"] == sha256(text.encode()).hexdigest()
    assert manifest["lineage"] == gateway["metadata"]["uid"]

    def is_told() -> None:  # the gateway's status is written at most once a second
        assert world.get("GatewayConfig", "main")["status"]["revision"] == manifest["revision"]

    eventually(is_told, within_seconds=20)
    owner = world.get("ConfigMap", "main-config")["metadata"]["ownerReferences"]
    assert [(item["uid"], item["controller"], "blockOwnerDeletion" in item) for item in owner] == [
        (gateway["metadata"]["uid"], True, False)
    ]


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("shards", [1, 16])
def test_documents_are_byte_equal_to_an_independent_renderer(world: World, shards: int) -> None:
    """What is in etcd is what a tiny renderer, written from the design alone, makes of the same objects."""
    world.create(secret(), gateway_config(delivery={"shards": shards}, storage=STORAGE, app={"port": 9000}))
    models = [
        virtual_model(f"model-{number}", use=number % 3 != 0, current="big" if number % 2 else "small") for number in range(12)
    ]
    models.append(virtual_model("odd", modelName="org/模型_v2.1", baseUrl="http://vllm.ai.svc:8000/v1"))
    world.create(*models)
    world.wait_ready(*(model["metadata"]["name"] for model in models), gateway=None)

    def check() -> None:
        gateway = world.get("GatewayConfig", "main")
        stored = [world.get("VirtualModel", model["metadata"]["name"]) for model in models]
        found = world.plane.request("GET", world.path("ConfigMap")).body["items"]
        mine = {item["metadata"]["name"]: item["data"] for item in found if item["metadata"]["name"].startswith("main-")}
        revisions = {
            name.replace(".manifest.json", ".yml"): json.loads(text)["revision"]
            for data in mine.values()
            for name, text in data.items()
            if name.endswith(".manifest.json")
        }
        assert mine == reference_config_maps(gateway, stored, revision=revisions)

    eventually(check, within_seconds=20)


@pytest.mark.usefixtures("operator")
def test_an_edit_of_current_is_what_documents_say_a_moment_later(world: World) -> None:
    """The switch between backends reaches the document; the model's revision follows, the other model's does not."""
    world.create(secret(), gateway_config(), virtual_model("chat"), virtual_model("other"))
    world.wait_ready("chat", "other")
    before = world.get("VirtualModel", "other")["status"]["revision"]
    world.patch_spec("VirtualModel", "chat", current="big")
    eventually(lambda: _assert_equal(world.models()["chat"]["current"], "big"), within_seconds=20)
    world.wait_ready("chat")
    assert world.get("VirtualModel", "chat")["status"]["revision"] == world.manifest()["revision"] > before
    assert world.get("VirtualModel", "other")["status"]["revision"] == before


@pytest.mark.usefixtures("operator")
def test_a_model_switched_off_stays_rendered_as_off(world: World) -> None:
    """`use: false` is told to pods, since a vanished model and one that is off are answered differently."""
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    world.patch_spec("VirtualModel", "chat", use=False)
    eventually(lambda: _assert_equal(world.models()["chat"]["use"], False), within_seconds=20)
    eventually(
        lambda: _assert_equal(world.get("GatewayConfig", "main")["status"]["models"], {"accepted": 1, "rejected": 0, "off": 1}),
        within_seconds=20,
    )


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("fault", ["edited", "added", "deleted", "emptied", "unlabelled", "immutable", "disowned"])
def test_a_config_map_changed_by_hand_is_restored_within_a_second(world: World, fault: str) -> None:
    """Whatever somebody does to a generated ConfigMap, its content is back within a second."""
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    wanted = world.data("main-config")["config.yml"]
    started = time.monotonic()
    match fault:
        case "edited":
            world.patch("ConfigMap", "main-config", {"data": {"config.yml": "{}"}})
        case "added":
            world.patch("ConfigMap", "main-config", {"data": {"extra.yml": "{}"}})
        case "deleted":
            world.delete("ConfigMap", "main-config")
        case "emptied":
            world.patch("ConfigMap", "main-config", {"data": None})
        case "unlabelled":
            world.patch("ConfigMap", "main-config", {"metadata": {"labels": None}, "data": {"config.yml": "{}"}})
        case "immutable":
            world.patch("ConfigMap", "main-config", {"immutable": True, "data": {"config.yml": "{}"}})
        case "disowned":
            world.patch("ConfigMap", "main-config", {"metadata": {"ownerReferences": None}})

    def check() -> None:
        assert world.exists("ConfigMap", "main-config")
        obj = world.get("ConfigMap", "main-config")
        data = obj.get("data") or {}
        assert sorted(data) == ["config.manifest.json", "config.yml"]
        assert data["config.yml"] == wanted
        assert obj["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "aigateway-operator"
        assert not obj.get("immutable")

    if fault == "disowned":  # an object without our owner reference is not ours: it is left alone and named
        world.wait_condition("GatewayConfig", "main", "Programmed", "False", "NameTaken")
        return
    eventually(check, within_seconds=1.5)
    assert time.monotonic() - started < 1.5


@pytest.mark.usefixtures("operator")
def test_a_credentials_secret_changed_by_hand_is_restored(world: World) -> None:
    """A key that somebody added goes, one that somebody changed or removed comes back."""
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    world.patch("Secret", "main-credentials", {"data": {"extra": "eA==", "keys.openai": "eA==", "keys.proxy": None}})

    def check() -> None:
        values = world.values("main-credentials")
        assert sorted(values) == ["_manifest.json", "keys.openai", "keys.proxy"]
        assert values["keys.openai"] == "backend-key"

    eventually(check, within_seconds=1.5)


@pytest.mark.usefixtures("operator")
def test_a_foreign_config_map_of_that_name_is_not_touched(world: World) -> None:
    """NameTaken names it; once it is gone the documents appear by themselves."""
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "main-config"}, "data": {"mine": "yes"}}
    (made,) = world.create(foreign)
    world.create(secret(), gateway_config(), virtual_model())
    condition = world.wait_condition("GatewayConfig", "main", "Programmed", "False", "NameTaken")
    assert "main-config" in condition["message"]
    world.wait_condition("VirtualModel", "chat", "Programmed", "False", "Pending")
    assert world.get("ConfigMap", "main-config")["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    world.delete("ConfigMap", "main-config")
    world.wait_models({"chat"}, within_seconds=20)
    world.wait_ready("chat")


@pytest.mark.usefixtures("operator")
def test_a_gateway_deleted_and_made_again_starts_a_new_lineage(world: World) -> None:
    """The new GatewayConfig of the same name has documents of its own: new lineage, revision from 1, nothing inherited."""
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    for current in ("big", "small", "big"):
        world.patch_spec("VirtualModel", "chat", current=current)
        eventually(partial(_assert_current, world, current), within_seconds=20)
    first = world.manifest()
    world.delete("GatewayConfig", "main")
    (made,) = world.create(gateway_config())

    def check() -> None:
        assert world.exists("ConfigMap", "main-config")
        assert world.manifest()["lineage"] == made["metadata"]["uid"] != first["lineage"]
        assert world.manifest()["revision"] < first["revision"]

    eventually(check, within_seconds=20)
    world.wait_ready("chat")


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("shards", [1, 16])
def test_one_edit_rewrites_one_document(world: World, shards: int) -> None:
    """With 1 and with 16 shards, an edit costs one write of a ConfigMap, and only that document's revision moves."""
    world.create(secret(), gateway_config(delivery={"shards": shards}))
    names = [f"model-{number}" for number in range(20)]
    world.create(*(virtual_model(name) for name in names))
    world.wait_ready(*names)
    documents = ["main-config"] if shards == 1 else ["main-config", *(f"main-models-{shard:02d}" for shard in range(shards))]
    before = {name: world.get("ConfigMap", name)["metadata"]["resourceVersion"] for name in documents}
    mark = world.plane.audit_mark()
    world.patch_spec("VirtualModel", "model-7", current="big")
    world.wait_ready("model-7")
    changed = [name for name in documents if world.get("ConfigMap", name)["metadata"]["resourceVersion"] != before[name]]
    assert len(changed) == 1
    writes = [record for record in world.writes_since(mark) if record.resource == "configmaps"]
    assert [record.name for record in writes] == changed
    found = {}
    for name in documents:
        file = "config.yml" if name == "main-config" else f"{name.removeprefix('main-')}.yml"
        found.update(world.models(name, file))
    assert set(found) == set(names)
    assert found["model-7"]["current"] == "big"


@pytest.mark.usefixtures("operator")
def test_one_invalid_model_leaves_the_others_served(world: World) -> None:
    """What passes schema and CEL but breaks a rule is named with path and reason; everybody else is served."""
    bad = virtual_model("bad", baseUrl="http://public.example.com/v1")
    world.create(secret(), gateway_config(), virtual_model("good"), bad)
    world.wait_ready("good")
    condition = world.wait_condition("VirtualModel", "bad", "Accepted", "False", "Invalid")
    assert "spec.baseUrl" in condition["message"]
    assert "https" in condition["message"]
    world.wait_models({"good"})
    assert world.condition("VirtualModel", "bad", "Ready")["reason"] == "Invalid"
    eventually(
        lambda: _assert_equal(world.get("GatewayConfig", "main")["status"]["models"], {"accepted": 1, "rejected": 1, "off": 0}),
        within_seconds=20,
    )


@pytest.mark.usefixtures("operator")
def test_the_older_of_two_models_with_one_name_wins(world: World) -> None:
    """The younger is refused with the older one's name, and takes over when that is gone."""
    world.create(secret(), gateway_config(), virtual_model("older", modelName="shared"))
    world.wait_ready("older")
    time.sleep(1.1)  # creationTimestamp has a resolution of one second; names decide only among equals
    world.create(virtual_model("a-younger", modelName="shared", current="big"))
    condition = world.wait_condition("VirtualModel", "a-younger", "Accepted", "False", "ModelNameConflict")
    assert "older" in condition["message"]
    assert world.models()["shared"]["current"] == "small"
    world.delete("VirtualModel", "older")
    world.wait_ready("a-younger")
    assert world.models()["shared"]["current"] == "big"


def test_two_gateways_do_not_mix(world: World, operator: InProcess) -> None:
    """Each gateway's documents hold its own models; a move takes a model along without a gap in either."""
    world.create(
        secret(), gateway_config("main"), gateway_config("edge"), virtual_model("a", "main"), virtual_model("b", "edge")
    )
    world.wait_models({"a"}, "main-config")
    world.wait_models({"b"}, "edge-config")
    world.patch_spec("VirtualModel", "a", gatewayRef={"name": "edge"})
    world.wait_models(set(), "main-config")
    world.wait_models({"a", "b"}, "edge-config")
    world.wait_ready("a", "b", gateway="edge")
    eventually(operator.assert_idle, within_seconds=20)


@pytest.mark.usefixtures("operator")
def test_a_move_to_a_missing_gateway_stays_served(world: World) -> None:
    """The model is refused with the reason, and pods keep it until the gateway it names is there."""
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    world.patch_spec("VirtualModel", "chat", gatewayRef={"name": "nowhere"}, current="big")
    world.wait_condition("VirtualModel", "chat", "Accepted", "False", "GatewayNotFound")
    world.wait_condition("VirtualModel", "chat", "Programmed", "False", "KeptLastGood")
    assert world.models()["chat"]["current"] == "small"
    world.create(gateway_config("nowhere"))
    world.wait_models({"chat"}, "nowhere-config")
    world.wait_models(set(), "main-config")
    world.wait_ready("chat", gateway="nowhere")


def test_names_and_text_of_any_script_survive(world: World, start_operator: StartOperator) -> None:
    """Public names and parameters in any unicode come out as they went in."""
    start_operator()
    tricky = {
        "stop": ["\u2028", "\x85", "日本", "\U0001f600", "\x1f", '"\\'],
        "note": "a: b #c",
        "big": 1e16,
        "small": 1e-7,
        "off": "no",
    }
    backends = [{"name": "small", "model": "模型", "parameters": tricky}]
    world.create(secret(), gateway_config(), virtual_model(modelName="org/模型_v2.1", backends=backends))
    world.wait_ready("chat")
    models = world.models()
    assert models["org/模型_v2.1"]["small"]["parameters"] == tricky
    assert world.manifest()["sources"]["org/模型_v2.1"].startswith("chat/")


def _assert_current(world: World, wanted: str) -> None:
    assert world.models()["chat"]["current"] == wanted


def _assert_equal(found: object, wanted: object) -> None:
    assert found == wanted
