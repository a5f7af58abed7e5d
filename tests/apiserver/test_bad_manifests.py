"""Wrong manifests against the API server alone: schema and CEL of crds/, with no webhook and no operator running.

Each row is refused with a message that names the field, nothing is stored, and where a text of ours is promised it is
word for word the one that the rules give. Beside each wrong value stands a legal one, so that a CRD that refuses
everything is noticed as well.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from aigateway_operator.rules import RuleContext, Violation, check_gateway_config, check_virtual_model
from hack.apiclient import Response
from hack.controlplane import ControlPlane

pytestmark = pytest.mark.apiserver

GROUP: Final = "/apis/ai-gateway.io/v1alpha1"
PLURAL: Final = {"VirtualModel": "virtualmodels", "GatewayConfig": "gatewayconfigs"}
GONE: Final = ...
"""In place of a value: the key is left out."""

Manifest = dict[str, Any]
Change = dict[str, Any]
"""Places (`spec.backends.0.name`) and what stands there."""


def virtual_model() -> Manifest:
    """A VirtualModel that sets everything."""
    spec = {
        "gatewayRef": {"name": "main"},
        "modelName": "chat",
        "use": True,
        "current": "small",
        "baseUrl": "https://api.example.com/v1",
        "proxyKeySecretRef": {"name": "chat-keys", "key": "proxy"},
        "backends": [
            {
                "name": "small",
                "model": "gpt-4o-mini",
                "baseUrl": "https://eu.example.com/v1",
                "apiKeySecretRef": {"name": "openai", "key": "api-key"},
                "parameters": {"temperature": 0.2},
            },
            {"name": "big", "model": "gpt-4o"},
        ],
        "probe": {"enabled": False},
    }
    return {"apiVersion": "ai-gateway.io/v1alpha1", "kind": "VirtualModel", "metadata": {"name": "chat"}, "spec": spec}


def gateway_config() -> Manifest:
    """A GatewayConfig that sets everything."""
    tls = {"enabled": True, "caSecretRef": {"name": "ca", "key": "ca.crt"}}
    stream = {"level": "INFO", "storage": {"sinks": ["mongodb", "file"], "path": "logs"}, "retentionDays": 30}
    spec = {
        "app": {"host": "0.0.0.0", "port": 8000, "debug": False},
        "storage": {
            "mongodb": {
                "enabled": True,
                "host": "mongodb.ai.svc",
                "port": 27017,
                "username": "gateway",
                "passwordSecretRef": {"name": "mongodb", "key": "password"},
                "database": "ai_gateway",
                "authSource": "admin",
                "tls": tls,
            },
            "redis": {
                "enabled": True,
                "host": "redis.ai.svc",
                "port": 6379,
                "passwordSecretRef": {"name": "redis", "key": "password"},
                "tls": tls,
            },
            "qdrant": {
                "enabled": True,
                "host": "qdrant.ai.svc",
                "port": 6333,
                "collection": "knowledge_base",
                "apiKeySecretRef": {"name": "qdrant", "key": "key"},
                "tls": tls,
            },
        },
        "webSearch": {
            "provider": "searxng",
            "baseUrl": "http://searxng.ai.svc:8080",
            "options": {"safe": True},
            "apiKeySecretRef": {"name": "search", "key": "key"},
        },
        "log": {"system": stream, "operation": stream},
        "delivery": {
            "podSelector": {
                "matchLabels": {"app": "gateway"},
                "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}],
            },
            "shards": 1,
            "statusPort": 8081,
            "poke": True,
            "redisNotify": False,
        },
        "probes": {"periodSeconds": 10, "timeoutSeconds": 2, "failureThreshold": 3},
    }
    manifest = {"apiVersion": "ai-gateway.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"name": "main"}, "spec": spec}
    whole: Manifest = json.loads(json.dumps(manifest))  # `tls` and `stream` stand in several places: no shared parts
    return whole


def changed(manifest: Manifest, change: Change) -> Manifest:
    """Return `manifest` with each place of `change` set, or left out for GONE."""
    result = copy.deepcopy(manifest)
    for place, value in change.items():
        *above, last = place.split(".")
        holder: Any = result
        for step in above:
            holder = holder[int(step)] if isinstance(holder, list) else holder[step]
        if value is GONE:
            del holder[last]
        else:
            holder[int(last) if isinstance(holder, list) else last] = value
    return result


@dataclass(frozen=True)
class Row:
    """A wrong change, the field that the answer must name, a legal change beside it; `ours`: the text is the rules'."""

    bad: Change
    field: str
    good: Change
    ours: bool = False


def backends(count: int) -> list[Manifest]:
    """Return `count` backends; the first is `small`."""
    return [{"name": "small" if number == 0 else f"b{number}", "model": "m"} for number in range(count)]


OURS: Final = True
BIG: Final[Change] = {"spec.backends.1.baseUrl": "https://api.example.com/v1"}
VIRTUAL_MODELS: Final = [
    Row({"spec": GONE}, "spec", {}, OURS),
    Row({"spec": {}}, "spec", {}, OURS),
    Row({"spec": "small"}, "spec", {}),
    Row({"spec.gatewayRef": GONE}, "spec", {"spec.gatewayRef": {"name": "other"}}, OURS),
    Row({"spec.gatewayRef": {}}, "spec", {"spec.gatewayRef": {"name": "a.b"}}, OURS),
    Row({"spec.gatewayRef": "main"}, "spec.gatewayRef", {"spec.gatewayRef.name": "m"}),
    Row({"spec.gatewayRef.name": "Main"}, "spec.gatewayRef.name", {"spec.gatewayRef.name": "main-2"}),
    Row({"spec.gatewayRef.name": "m" * 64}, "spec.gatewayRef.name", {"spec.gatewayRef.name": "m" * 63}),
    Row({"spec.use": GONE}, "spec", {"spec.use": False}, OURS),
    Row({"spec.use": "yes"}, "spec.use", {"spec.use": True}),
    Row({"spec.use": None}, "spec", {"spec.use": False}, OURS),
    Row({"spec.current": GONE}, "spec", {"spec.current": "big"}, OURS),
    Row({"spec.current": "tiny"}, "spec.current", {"spec.current": "big"}, OURS),
    Row({"spec.current": ""}, "spec.current", {"spec.current": "small"}),
    Row({"spec.proxyKeySecretRef": GONE}, "spec", {"spec.proxyKeySecretRef.name": "k"}, OURS),
    Row({"spec.proxyKeySecretRef.key": GONE}, "spec", {"spec.proxyKeySecretRef.key": "a.b_c-D"}, OURS),
    Row({"spec.proxyKeySecretRef.key": "a/b"}, "spec.proxyKeySecretRef.key", {"spec.proxyKeySecretRef.key": "ab"}),
    Row({"spec.proxyKeySecretRef.name": "K"}, "spec.proxyKeySecretRef.name", {"spec.proxyKeySecretRef.name": "k.k"}),
    Row({"spec.gatewayRef": GONE, "spec.use": GONE, "spec.backends.1.model": GONE}, "spec", {}, OURS),
    Row({"spec.backends": GONE}, "spec", {"spec.backends": backends(1)}, OURS),
    Row({"spec.backends": []}, "spec.backends", {"spec.backends": backends(2)}),
    Row({"spec.backends": "small"}, "spec.backends", {"spec.backends": backends(3)}),
    Row({"spec.backends": backends(33)}, "spec.backends", {"spec.backends": backends(32)}),
    Row({"spec.backends.1.name": "small"}, "spec.backends[1]", {"spec.backends.1.name": "small-2"}),
    Row({"spec.backends.1.name": GONE}, "spec.backends[1].name", {"spec.backends.1.name": "b"}),
    Row({"spec.backends.1.name": "use"}, "spec.backends[1].name", {"spec.backends.1.name": "use-1"}, OURS),
    Row({"spec.backends.1.name": "current"}, "spec.backends[1].name", {"spec.backends.1.name": "curren"}, OURS),
    Row({"spec.backends.1.name": "base_url"}, "spec.backends[1].name", {"spec.backends.1.name": "base-url"}),
    Row({"spec.backends.1.name": "b" * 64}, "spec.backends[1].name", {"spec.backends.1.name": "b" * 63}),
    Row({"spec.backends.1.model": GONE}, "spec", {"spec.backends.1.model": "org/m:7b"}, OURS),
    Row({"spec.backends.0.model": GONE, "spec.backends.1.model": GONE}, "spec", {}, OURS),
    Row({"spec.backends.1.model": ""}, "spec.backends[1].model", {"spec.backends.1.model": "m"}),
    Row({"spec.backends.1.model": 4}, "spec.backends[1].model", {"spec.backends.1.model": "4"}),
    Row({"spec.baseUrl": GONE}, "spec.baseUrl", {"spec.baseUrl": GONE, **BIG}, OURS),
    Row({"spec.baseUrl": "https://" + "a" * 2048}, "spec.baseUrl", {"spec.baseUrl": "https://example.com"}),
    Row(
        {"spec.backends.0.apiKeySecretRef.key": GONE},
        "spec.backends[0].apiKeySecretRef.key",
        {"spec.backends.0.apiKeySecretRef": GONE},
    ),
    Row({"spec.backends.0.parameters": [1]}, "spec.backends[0].parameters", {"spec.backends.0.parameters": {"a": [1]}}),
    Row(
        {"spec.backends.0.parameters": {f"k{n}": n for n in range(65)}},
        "spec.backends[0].parameters",
        {"spec.backends.0.parameters": {f"k{n}": n for n in range(64)}},
    ),
    Row({"spec.modelName": "two words"}, "spec.modelName", {"spec.modelName": "org/Chat_v2.1"}),
    Row({"spec.modelName": ""}, "spec.modelName", {"spec.modelName": GONE}),
    Row({"spec.modelName": "m" * 254}, "spec.modelName", {"spec.modelName": "m" * 253}),
    Row({"spec.probe.enabled": "on"}, "spec.probe.enabled", {"spec.probe.enabled": True}),
    Row({"spec.probe": True}, "spec.probe", {"spec.probe": {}}),
]

SELECTOR: Final = "spec.delivery.podSelector"
EXPRESSION: Final = f"{SELECTOR}.matchExpressions.0"
GATEWAY_CONFIGS: Final = [
    Row({"metadata.name": "g" * 64}, "metadata.name", {"metadata.name": "g" * 63}, OURS),
    Row({"spec": [1]}, "spec", {"spec": {}}),
    Row({"spec.app": "0.0.0.0:80"}, "spec.app", {"spec": GONE}),
    Row({"spec.app.host": ""}, "spec.app.host", {"spec.app.host": "::"}),
    Row({"spec.app.port": 0}, "spec.app.port", {"spec.app.port": 1}),
    Row({"spec.app.port": 65536}, "spec.app.port", {"spec.app.port": 65535}),
    Row({"spec.app.port": "8000"}, "spec.app.port", {"spec.app.port": 8001}),
    Row({"spec.app.debug": "true"}, "spec.app.debug", {"spec.app.debug": True}),
    Row({"spec.storage": ["redis"]}, "spec.storage", {"spec.storage": {}}),
    Row({"spec.storage.mongodb.host": GONE}, "spec", {"spec.storage.mongodb": {"host": "m"}}, OURS),
    Row({"spec.storage.redis": {}, "spec.storage.qdrant": {}}, "spec", {"spec.storage.redis": GONE}, OURS),
    Row({"spec.storage.mongodb.database": "a/b"}, "spec.storage.mongodb.database", {"spec.storage.mongodb.database": "ab"}),
    Row({"spec.storage.mongodb.username": ""}, "spec.storage.mongodb.username", {"spec.storage.mongodb.username": GONE}),
    Row({"spec.storage.mongodb.passwordSecretRef.key": GONE}, "spec", {"spec.storage.mongodb.passwordSecretRef": GONE}, OURS),
    Row({"spec.storage.redis.enabled": 1}, "spec.storage.redis.enabled", {"spec.storage.redis.enabled": False}),
    Row({"spec.storage.redis.tls.enabled": "no"}, "spec.storage.redis.tls.enabled", {"spec.storage.redis.tls": {}}),
    Row({"spec.storage.redis.tls.caSecretRef": {}}, "spec", {"spec.storage.redis.tls.caSecretRef": GONE}, OURS),
    Row({"spec.storage.qdrant.collection": "a b"}, "spec.storage.qdrant.collection", {"spec.storage.qdrant.collection": "a"}),
    Row({"spec.webSearch": {}}, "spec", {"spec.webSearch": GONE}, OURS),
    Row({"spec.webSearch.baseUrl": GONE}, "spec", {"spec.webSearch.options": GONE}, OURS),
    Row({"spec.webSearch.provider": "Searx NG"}, "spec.webSearch.provider", {"spec.webSearch.provider": "brave"}),
    Row({"spec.webSearch.options": "safe"}, "spec.webSearch.options", {"spec.webSearch.options": {"a": None, "b": [{}]}}),
    Row({"spec.log.system.level": "TRACE"}, "spec.log.system.level", {"spec.log.system.level": "DEBUG"}),
    Row({"spec.log.operation.level": "info"}, "spec.log.operation.level", {"spec.log.operation.level": "ERROR"}),
    Row(
        {"spec.log.system.storage.sinks": ["kafka"]}, "spec.log.system.storage.sinks[0]", {"spec.log.system.storage.sinks": []}
    ),
    Row(
        {"spec.log.system.storage.sinks": ["file", "file"]},
        "spec.log.system.storage.sinks",
        {"spec.log.system.storage.sinks": ["file"]},
        OURS,
    ),
    Row({"spec.log.system.storage.path": "/var"}, "spec.log.system.storage.path", {"spec.log.system.storage.path": "a/b"}),
    Row(
        {"spec.log.system.storage.path": "a/../../b"},
        "spec.log.system.storage.path",
        {"spec.log.system.storage.path": "a..b/..c"},
        OURS,
    ),
    Row(
        {"spec.log.operation.storage.path": ".."},
        "spec.log.operation.storage.path",
        {"spec.log.operation.storage.path": "."},
        OURS,
    ),
    Row(
        {"spec.log.operation.storage.path": "a\\.."},
        "spec.log.operation.storage.path",
        {"spec.log.operation.storage.path": "..."},
        OURS,
    ),
    Row({"spec.log.operation.retentionDays": 0}, "spec.log.operation.retentionDays", {"spec.log.operation.retentionDays": 1}),
    Row({"spec.log.operation.retentionDays": "30 days"}, "spec.log.operation.retentionDays", {"spec.log.operation": {}}),
    Row({SELECTOR: {}}, SELECTOR, {SELECTOR: GONE}, OURS),
    Row({SELECTOR: {"matchLabels": {}}}, SELECTOR, {SELECTOR: {"matchLabels": {"a": ""}}}, OURS),
    Row({f"{SELECTOR}.matchLabels": {"app": "a b"}}, f"{SELECTOR}.matchLabels.app", {f"{SELECTOR}.matchLabels": GONE}),
    Row({f"{EXPRESSION}.operator": "Equals"}, f"{SELECTOR}.matchExpressions[0].operator", {f"{EXPRESSION}.operator": "NotIn"}),
    Row({f"{EXPRESSION}.key": GONE}, f"{SELECTOR}.matchExpressions[0].key", {f"{EXPRESSION}.key": "example.com/tier"}),
    Row(
        {f"{EXPRESSION}.values": GONE},
        f"{SELECTOR}.matchExpressions[0].values",
        {EXPRESSION: {"key": "a", "operator": "Exists"}},
        OURS,
    ),
    Row(
        {f"{EXPRESSION}.operator": "Exists"},
        f"{SELECTOR}.matchExpressions[0].values",
        {f"{EXPRESSION}.values": ["a", "b"]},
        OURS,
    ),
    Row({"spec.delivery.shards": 0}, "spec.delivery.shards", {"spec.delivery.shards": 2}),
    Row({"spec.delivery.shards": 65}, "spec.delivery.shards", {"spec.delivery.shards": 64}),
    Row({"spec.delivery.statusPort": 70000}, "spec.delivery.statusPort", {"spec.delivery.statusPort": 1024}),
    Row({"spec.delivery.poke": 1}, "spec.delivery.poke", {"spec.delivery.poke": False}),
    Row({"spec.probes.periodSeconds": 0}, "spec.probes.periodSeconds", {"spec.probes.periodSeconds": 1}),
    Row({"spec.probes.timeoutSeconds": 1.5}, "spec.probes.timeoutSeconds", {"spec.probes.timeoutSeconds": 3}),
    Row({"spec.probes.failureThreshold": 101}, "spec.probes.failureThreshold", {"spec.probes.failureThreshold": 100}),
]
TABLE: Final = [
    pytest.param(base, row, id=f"{base()['kind']}-{number}-{row.field}")
    for base, rows in ((virtual_model, VIRTUAL_MODELS), (gateway_config, GATEWAY_CONFIGS))
    for number, row in enumerate(rows)
]


@pytest.fixture(scope="module")
def home(plane: ControlPlane) -> Iterator[str]:
    """A namespace for the whole table: rows that are refused leave nothing behind, the others take names of their own."""
    name = f"bad-manifests-{secrets.token_hex(3)}"
    made = plane.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert made.status == 201, made.body
    yield name
    plane.request("DELETE", f"/api/v1/namespaces/{name}")


def path_of(home: str, manifest: Manifest, name: str = "") -> str:
    """Return the path of the manifest's collection, or of an object in it."""
    return f"{GROUP}/namespaces/{home}/{PLURAL[manifest['kind']]}{f'/{name}' if name else ''}"


def create(plane: ControlPlane, home: str, manifest: Manifest) -> Response:
    """Send the manifest as kubectl does, with strict field validation."""
    return plane.request("POST", f"{path_of(home, manifest)}?fieldValidation=Strict", manifest)


def violations(manifest: Manifest, old: Manifest | None = None) -> list[Violation]:
    """Return what the rules say of a manifest."""
    context = RuleContext(manifest["metadata"]["name"])
    if manifest["kind"] == "VirtualModel":
        return check_virtual_model(manifest.get("spec"), context)
    return check_gateway_config(manifest.get("spec"), context, old_spec=old["spec"] if old else None)


def causes(answer: Response) -> dict[str, str]:
    """Return message by field of a refusal; asserts that it is one, in the form that kubectl shows line by line."""
    assert answer.status == 422, f"{answer.status}: {answer.body}"
    assert answer.body["reason"] == "Invalid"
    found: dict[str, str] = {}
    for cause in answer.body["details"]["causes"]:
        found[cause["field"]] = f"{found.get(cause['field'], '')} {cause['message']}".strip()
    return found


@pytest.mark.parametrize(("base", "row"), TABLE)
def test_wrong_manifest_is_refused_by_field_and_nothing_is_created(plane: ControlPlane, home: str, base: Any, row: Row) -> None:
    """Schema and CEL refuse it and name the field; a text of ours is the rules' own; no object is there afterwards."""
    manifest = changed(base(), row.bad)
    found = causes(create(plane, home, manifest))
    assert row.field in found, found
    if row.ours:
        texts = [violation.message for violation in violations(manifest) if violation.path == row.field]
        assert texts, f"the rules say nothing of {row.field}"
        assert [text for text in texts if text not in found[row.field]] == [], found
    listed = plane.request("GET", path_of(home, manifest)).body["items"]
    assert manifest["metadata"]["name"] not in [item["metadata"]["name"] for item in listed]


@pytest.mark.parametrize(("base", "row"), TABLE)
def test_legal_value_beside_each_wrong_one_is_accepted(plane: ControlPlane, home: str, base: Any, row: Row) -> None:
    """A rule that refuses too much is a fault as well. The rules agree."""
    manifest = changed(base(), row.good)
    assert violations(manifest) == []
    if len(manifest["metadata"]["name"]) < 60:
        manifest["metadata"]["name"] += f"-{secrets.token_hex(4)}"
    answer = create(plane, home, manifest)
    assert answer.status == 201, answer.body
    assert plane.request("DELETE", path_of(home, manifest, manifest["metadata"]["name"])).status == 200


def test_table_is_wide_enough() -> None:
    """Both kinds are covered, at least 40 rows together, a good part of them in texts of ours."""
    assert len(VIRTUAL_MODELS) >= 20
    assert len(GATEWAY_CONFIGS) >= 20
    assert sum(row.ours for row in [*VIRTUAL_MODELS, *GATEWAY_CONFIGS]) >= 20


def test_required_fields_are_named_all_at_once(plane: ControlPlane, home: str) -> None:
    """The phrase users know, with the object's name and every missing field in the order of the reference."""
    found = causes(create(plane, home, changed(virtual_model(), {"spec": {"backends": [{"name": "small"}], "probe": {}}})))
    expected = "Virtual model 'chat' missing required fields: gatewayRef, use, current, proxyKeySecretRef, backends[0].model"
    assert expected in found["spec"]
    assert "Virtual model 'chat' missing required fields: baseUrl" in found["spec.baseUrl"]


def test_a_model_without_backends_is_told_that_alone(plane: ControlPlane, home: str) -> None:
    """And not that its `current` names none of them."""
    assert causes(create(plane, home, changed(virtual_model(), {"spec.backends": []}))).keys() == {"spec.backends"}


def test_last_of_many_backends_is_named(plane: ControlPlane, home: str) -> None:
    """Texts are written out place by place: the last place counts as much as the first."""
    wrong = changed(virtual_model(), {"spec.backends": backends(32), "spec.current": "none"})
    del wrong["spec"]["backends"][31]["model"]
    found = causes(create(plane, home, wrong))
    assert found["spec"].endswith("missing required fields: backends[31].model")
    assert "small, b1, b2" in found["spec.current"]
    assert ", b30, b31. Set current to one of them" in found["spec.current"]


def test_kubectl_shows_each_violation_on_its_own_line(plane: ControlPlane, home: str) -> None:
    """What a person sees at the terminal."""
    wrong = changed(virtual_model(), {"spec.current": "tiny", "spec.use": GONE})
    shown = plane.kubectl("apply", "-n", home, "-f", "-", input=json.dumps(wrong))
    assert shown.returncode == 1
    assert "* spec: Required value: Virtual model 'chat' missing required fields: use\n" in shown.stderr
    assert "* spec.current: Invalid value: 'tiny' names no backend. Backends: small, big. Set current" in shown.stderr


@pytest.fixture(scope="module")
def stored(plane: ControlPlane, home: str) -> Manifest:
    """A stored GatewayConfig that sets everything; tests must leave it as it is."""
    answer = create(plane, home, changed(gateway_config(), {"metadata.name": "stored"}))
    assert answer.status == 201, answer.body
    return dict(answer.body)


def places(value: Any, path: str) -> Iterator[str]:
    """Yield every key below `path`, in objects only."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from places(inner, f"{path}.{key}")


EVERY_KEY: Final = [place for place in places(gateway_config()["spec"], "spec") if "options." not in place]


@pytest.mark.parametrize("place", ["spec", *EVERY_KEY])
def test_removal_of_a_key_is_refused_exactly_where_the_rules_refuse_it(
    plane: ControlPlane, home: str, stored: Manifest, place: str
) -> None:
    """Every key of a full GatewayConfig is removed in turn. Texts are the rules'; the stored object stays untouched."""
    wanted = changed(stored, {place: GONE})
    old_spec = stored["spec"]
    expected = check_gateway_config(wanted.get("spec"), RuleContext("stored"), old_spec=old_spec)
    answer = plane.request("PUT", f"{path_of(home, stored, 'stored')}?dryRun=All", wanted)
    if expected:
        found = causes(answer)
        assert [violation for violation in expected if violation.message not in found.get(violation.path, "")] == [], found
        assert set(found) == {violation.path for violation in expected} or "matchExpressions" in place, found
    else:
        assert answer.status == 200, answer.body
    assert plane.request("GET", path_of(home, stored, "stored")).body == stored


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/merge-patch+json", {"spec": {"app": {"port": None}}}),
        ("application/json-patch+json", [{"op": "remove", "path": "/spec/app/port"}]),
    ],
)
def test_key_cannot_be_removed_by_a_patch(
    plane: ControlPlane, home: str, stored: Manifest, content_type: str, body: Any
) -> None:
    """The remedy names the default."""
    found = causes(plane.request("PATCH", path_of(home, stored, "stored"), body, content_type=content_type))
    assert found["spec.app.port"].endswith(
        "Cannot delete key 'port' from spec.app. Structure is fixed. To go back, set it to its default 8000."
    )
    assert plane.request("GET", path_of(home, stored, "stored")).body == stored


def test_key_cannot_be_removed_by_server_side_apply(plane: ControlPlane, home: str) -> None:
    """An applier that leaves out what it owns removes it; refused like any other removal."""
    manifest = changed(gateway_config(), {"metadata.name": "applied"})
    path = f"{path_of(home, manifest, 'applied')}?fieldManager=test"

    def apply(body: Manifest) -> Response:
        return plane.request("PATCH", path, body, content_type="application/apply-patch+yaml")

    assert apply(manifest).status == 201
    found = causes(apply(changed(manifest, {"spec.storage.redis": GONE})))
    assert "keep its keys and set enabled: false" in found["spec.storage.redis"]
    switched_off = apply(changed(manifest, {"spec.storage.redis.enabled": False, "spec.storage.mongodb.username": GONE}))
    assert switched_off.status == 200, switched_off.body


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"spec.delivery.shards": 2}, "spec.delivery.shards"),
        ({"spec.app.port": 99999}, "spec.app.port"),
        ({"spec.storage.qdrant": {"host": "q"}}, "spec.storage.qdrant.port"),
        ({"spec.delivery.podSelector": {}}, "spec.delivery.podSelector"),
    ],
)
def test_wrong_edit_leaves_the_stored_object_as_it_was(
    plane: ControlPlane, home: str, stored: Manifest, change: Change, field: str
) -> None:
    """An edit is held to the same rules as a new object, and to those on transitions."""
    wanted = changed(stored, change)
    found = causes(plane.request("PUT", path_of(home, stored, "stored"), wanted))
    expected = [v.message for v in violations(wanted, stored) if v.path == field and v.rule != "R5"]
    assert field in found
    assert [text for text in expected if text not in found[field]] == []
    assert plane.request("GET", path_of(home, stored, "stored")).body == stored


@pytest.mark.parametrize(
    "change",
    [
        {"spec.app.port": 9000, "spec.log.system.level": "ERROR"},
        {"spec.storage.redis.enabled": False},
        {"spec.delivery": GONE},
        {"spec.delivery.podSelector": {"matchLabels": {"other": "x"}}},
        {"spec.webSearch.options": {}},
    ],
)
def test_values_may_change(plane: ControlPlane, home: str, stored: Manifest, change: Change) -> None:
    """The structure is fixed, not the values; delivery is not part of what pods read."""
    answer = plane.request("PUT", f"{path_of(home, stored, 'stored')}?dryRun=All", changed(stored, change))
    assert answer.status == 200, answer.body


def test_unset_key_may_be_set_and_status_may_be_written(plane: ControlPlane, home: str) -> None:
    """A GatewayConfig may begin empty and grow; rules at the root do not stand in the way of status writes."""
    manifest = changed(gateway_config(), {"metadata.name": "grows", "spec": GONE})
    assert create(plane, home, manifest).status == 201
    path = path_of(home, manifest, "grows")
    merge = "application/merge-patch+json"
    assert plane.request("PATCH", f"{path}/status", {"status": {"revision": 1}}, content_type=merge).status == 200
    grown = plane.request("PATCH", path, {"spec": gateway_config()["spec"]}, content_type=merge)
    assert grown.status == 200, grown.body
    assert plane.request("PATCH", f"{path}/status", {"status": {"revision": 2}}, content_type=merge).status == 200
