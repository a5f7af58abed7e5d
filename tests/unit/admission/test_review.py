"""What a review decides: rules on what an edit changes, protection on deletion, warnings, and the shape of the answer."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import product
from typing import Any

import orjson
import pytest

from aigateway_operator.admission.advice import advice_stays, advise_spec
from aigateway_operator.admission.request import MalformedReview, parse_review
from aigateway_operator.admission.review import Policy, review
from aigateway_operator.admission.verdict import MAX_WARNINGS, allow, answer, answer_malformed
from tests.builders import make_backend, make_gateway_config, make_virtual_model
from tests.unit.admission.reviews import fields, judge, make_review, with_metadata

PROTECTED = "ai-gateway.io/protected"
ALLOW_DELETE = "ai-gateway.io/allow-delete"
SELECTED = {"podSelector": {"matchLabels": {"app": "gateway"}}}
KEYED = [make_backend(apiKeySecretRef={"name": "openai", "key": "api-key"})]


def quiet_model(**overrides: Any) -> dict[str, Any]:
    """Return a VirtualModel that nothing is to be said about."""
    return make_virtual_model(**{"backends": KEYED, **overrides})


@pytest.mark.parametrize("manifest", [quiet_model(), make_gateway_config(delivery=SELECTED)])
def test_valid_object_is_allowed_without_a_word(manifest: dict[str, Any]) -> None:
    """On CREATE, on an UPDATE from something else, and on DELETE."""
    other = {**manifest, "spec": {**manifest["spec"], **({"use": False} if "use" in manifest["spec"] else {"probes": {}})}}
    assert judge("CREATE", manifest) == allow()
    assert judge("UPDATE", manifest, other) == allow()
    assert judge("DELETE", None, manifest) == allow()


def test_refusal_names_every_violation_and_the_object() -> None:
    """Code, reason, causes with all places, and one text that names them too."""
    verdict = judge("CREATE", quiet_model(current="none", baseUrl="http://example.com", extra=1))
    assert verdict.status is not None
    assert (verdict.status["code"], verdict.status["reason"]) == (422, "Invalid")
    assert fields(verdict) == ["spec.baseUrl", "spec.current", "spec.extra"]
    details = verdict.status["details"]
    assert (details["group"], details["kind"], details["name"]) == ("ai-gateway.io", "VirtualModel", "chat")
    assert verdict.status["message"].startswith("VirtualModel 'chat' breaks 3 rules: spec.baseUrl: http is only for names")
    assert ".;" not in verdict.status["message"]
    assert verdict.outcome == "refused"


def test_missing_spec_is_judged_as_an_empty_one() -> None:
    """A VirtualModel lacks everything then; a GatewayConfig needs nothing."""
    model, gateway = make_virtual_model(), make_gateway_config()
    del model["spec"], gateway["spec"]
    assert fields(judge("CREATE", model))[0] == "spec"
    assert judge("CREATE", gateway).status is None


EDITS: dict[str, list[dict[str, Any]]] = {
    "VirtualModel": [
        *({"use": use} for use in (True, False)),
        *({"baseUrl": url} for url in ("https://api.example.com/v1", "http://llm.ai.svc/v1")),
        {"backends": [make_backend()]},
        {"backends": KEYED},
        {"current": "big"},
        {"modelName": "other"},
        {"probe": {"enabled": True}},
        {"proxyKeySecretRef": {"name": "other", "key": "proxy"}},
    ],
    "GatewayConfig": [
        *({"delivery": {**SELECTED, **more}} for more in ({}, {"podSelector": None}, {"poke": False}, {"redisNotify": True})),
        *({"app": {"debug": debug}} for debug in (True, False)),
        *({"storage": {"redis": {"host": "redis.ai.svc", "enabled": enabled}}} for enabled in (True, False)),
        {"log": {"system": {"level": "DEBUG"}}},
        {"probes": {"periodSeconds": 5}},
        {"webSearch": {"provider": "searxng", "baseUrl": "http://searxng.ai.svc:8080"}},
    ],
}


@pytest.mark.parametrize("kind", EDITS)
def test_advice_is_left_out_only_where_it_stays_the_same(kind: str) -> None:
    """Whatever an edit changes: where it is not asked for again, it would have said the same."""
    base: dict[str, Any] = (make_virtual_model() if kind == "VirtualModel" else make_gateway_config(delivery=SELECTED))["spec"]
    stays = 0
    for first, second, third in product(EDITS[kind], repeat=3):
        old = {**base, **first, **second}
        new = {**old, **third}
        if advice_stays(kind, new, old):
            stays += 1
            assert advise_spec(kind, new) == advise_spec(kind, old), f"{old} → {new}"
    assert stays > len(EDITS[kind]), "an edit of something else costs no advice"


def test_policy_of_the_administrator_reaches_the_rules() -> None:
    """Addresses and the cluster's domain are settings, and off by default."""
    request = parse_review(orjson.dumps(make_review("CREATE", quiet_model(baseUrl="http://127.0.0.1:9/v1"))))
    assert fields(review(request, Policy())) == ["spec.baseUrl"]
    assert review(request, Policy(allow_addresses=(ip_network("127.0.0.0/8"),))).status is None
    inside = parse_review(orjson.dumps(make_review("CREATE", quiet_model(baseUrl="http://a.ai.svc.corp.example/v1"))))
    assert fields(review(inside, Policy())) == ["spec.baseUrl"]
    assert review(inside, Policy(cluster_domain="corp.example")).status is None


# -- UPDATE


def test_removed_key_of_a_fixed_section_is_refused_on_update_only() -> None:
    """The stored spec reaches the rule on removal."""
    old = make_gateway_config(app={"port": 9000, "debug": True}, delivery=SELECTED)
    new = make_gateway_config(app={"port": 9000}, delivery=SELECTED)
    assert fields(judge("UPDATE", new, old)) == ["spec.app.debug"]
    assert judge("CREATE", new).status is None


def test_equal_spec_is_allowed_however_wrong_it_is() -> None:
    """Labels, annotations and no-op writes of an object that was stored before a rule existed."""
    stored = quiet_model(baseUrl="http://example.com", extra=1)
    assert judge("UPDATE", with_metadata(stored, labels={"a": "b"}), stored) == allow()
    assert judge("UPDATE", make_gateway_config(app={"x": 1}), make_gateway_config(app={"x": 1})) == allow()


@pytest.mark.parametrize(("new", "old"), [(1, True), (0, False), (1.0, 1)])
def test_spec_is_equal_only_if_its_types_are(new: object, old: object) -> None:
    """Python takes 1 for true; JSON and the rules do not."""
    verdict = judge("UPDATE", quiet_model(use=new), quiet_model(use=old))
    assert fields(verdict) == ["spec.use"] or new == 1.0


def test_object_that_is_going_may_be_changed_in_any_way() -> None:
    """Others' finalizers must come off, even from an object that breaks every rule."""
    old = with_metadata(quiet_model(), deletionTimestamp="2026-01-01T00:00:00Z")
    assert judge("UPDATE", quiet_model(extra=1), old) == allow()
    forged = with_metadata(quiet_model(extra=1), deletionTimestamp="2026-01-01T00:00:00Z")
    assert fields(judge("UPDATE", forged, quiet_model())) == ["spec.extra"]


def test_stored_violations_become_warnings_and_new_ones_refuse() -> None:
    """An edit answers for what it changes; what was there is told."""
    old = quiet_model(baseUrl="http://example.com")
    verdict = judge("UPDATE", quiet_model(baseUrl="http://example.com", use=False), old)
    assert verdict.status is None
    assert verdict.warnings[0].startswith("stored before, still wrong: spec.baseUrl: http is only for names")
    worse = judge("UPDATE", quiet_model(baseUrl="http://example.com", extra=1), old)
    assert fields(worse) == ["spec.extra"]
    assert worse.warnings[0].startswith("stored before, still wrong: spec.baseUrl")
    assert verdict.outcome == "warned"


def test_stored_spec_of_any_shape_is_survived() -> None:
    """What was stored before the CRD had a schema may be anything; mending it is allowed."""
    shapes: tuple[Any, ...] = (
        None,
        [],
        "x",
        3,
        {"backends": 3},
        {"backends": [1, {"baseUrl": 5}], "baseUrl": []},
        {"delivery": 1, "probes": []},
    )
    for spec in shapes:
        assert judge("UPDATE", quiet_model(), {**quiet_model(), "spec": spec}).status is None
        assert judge("UPDATE", make_gateway_config(delivery=SELECTED), {**make_gateway_config(), "spec": spec}).status is None


# -- DELETE


@pytest.mark.parametrize("kind", ["VirtualModel", "GatewayConfig"])
@pytest.mark.parametrize("value", ["true", "True", "false", "yes", ""])
def test_only_true_protects(kind: str, value: str) -> None:
    """An annotation with any other value protects nothing; a warning says so when it is set."""
    manifest = quiet_model() if kind == "VirtualModel" else make_gateway_config(delivery=SELECTED)
    marked = with_metadata(manifest, annotations={PROTECTED: value})
    assert fields(judge("DELETE", None, marked)) == ([f"metadata.annotations[{PROTECTED}]"] if value == "true" else [])
    said = () if value == "true" else (f'metadata.annotations[{PROTECTED}]: only "true" has an effect',)
    assert judge("CREATE", marked).warnings == judge("UPDATE", marked, manifest).warnings == said
    assert judge("UPDATE", marked, marked).warnings == ()


@pytest.mark.parametrize(
    ("status", "annotations", "refused"),
    [
        ({"models": {"accepted": 1}}, {}, True),
        ({"models": {"accepted": 7}}, {ALLOW_DELETE: "no"}, True),
        ({"models": {"accepted": 7}}, {ALLOW_DELETE: "true"}, False),
        ({"models": {"accepted": 0}}, {}, False),
        ({"models": {}}, {}, False),
        ({"models": None}, None, False),
        ({}, {}, False),
        (None, {}, False),
        ({"models": {"accepted": "7"}}, {}, False),
    ],
)
def test_gateway_in_use_is_deleted_only_on_purpose(status: Any, annotations: Any, refused: bool) -> None:
    """Its own status says how many models it serves."""
    gateway = with_metadata(make_gateway_config(), annotations=annotations) | {"status": status}
    verdict = judge("DELETE", None, gateway)
    assert fields(verdict) == (["status.models.accepted"] if refused else [])
    model = with_metadata(quiet_model(), annotations=annotations) | {"status": status}
    assert judge("DELETE", None, model).status is None


def test_refused_deletion_says_all_reasons_and_how_to_lift_them() -> None:
    """403 with one text, since kubectl prints the message of it and no causes; each remedy is a command."""
    gateway = with_metadata(make_gateway_config(), annotations={PROTECTED: "true"}) | {"status": {"models": {"accepted": 1}}}
    verdict = judge("DELETE", None, gateway)
    assert verdict.status is not None
    assert (verdict.status["code"], verdict.status["reason"]) == (403, "Forbidden")
    assert verdict.status["message"] == (
        "GatewayConfig 'main' is protected by annotation ai-gateway.io/protected. To delete it all the same, run first: "
        "kubectl annotate -n ai gatewayconfigs main ai-gateway.io/protected- "
        "GatewayConfig 'main' serves 1 accepted model, which would be gone for callers. Move or delete these first, or run: "
        "kubectl annotate -n ai gatewayconfigs main ai-gateway.io/allow-delete=true"
    )


@pytest.mark.parametrize(
    "name",
    [
        "system:serviceaccount:kube-system:generic-garbage-collector",
        "system:serviceaccount:kube-system:namespace-controller",
        "system:kube-controller-manager",
    ],
)
def test_whoever_empties_a_namespace_is_not_stopped(name: str) -> None:
    """Or the namespace would hang in Terminating for ever. Nobody else of a similar name is let through."""
    gateway = with_metadata(make_gateway_config(), annotations={PROTECTED: "true"}) | {"status": {"models": {"accepted": 1}}}
    assert judge("DELETE", None, gateway, userInfo={"username": name}).status is None
    for other in (f"system:serviceaccount:ai:{name.rpartition(':')[2]}", f"{name}x", name.upper(), "system:admin"):
        assert judge("DELETE", None, gateway, userInfo={"username": other}).status is not None


def test_object_that_is_going_already_may_be_deleted_again() -> None:
    """A second DELETE changes nothing; refusing it would only puzzle."""
    going = with_metadata(quiet_model(), annotations={PROTECTED: "true"}, deletionTimestamp="2026-01-01T00:00:00Z")
    assert judge("DELETE", None, going).status is None


# -- warnings


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (quiet_model(use=False), "spec.use: the model is switched off"),
        (quiet_model(backends=[make_backend()]), "spec.backends[0]: no apiKeySecretRef; requests to 'small' carry no key"),
        (quiet_model(baseUrl="http://llm.ai.svc/v1"), "spec.backends[0]: http; its API key and all prompts travel unencrypted"),
        (make_gateway_config(), "spec.delivery.podSelector: not set; nothing proves"),
        (make_gateway_config(delivery=SELECTED, app={"debug": True}), "spec.app.debug: verbose logs"),
        (make_gateway_config(delivery={**SELECTED, "poke": False}), "spec.delivery.poke: off"),
        (make_gateway_config(delivery={**SELECTED, "redisNotify": True}), "spec.delivery.redisNotify: no effect"),
        (
            make_gateway_config(
                delivery={**SELECTED, "redisNotify": True}, storage={"redis": {"host": "redis.ai.svc", "enabled": False}}
            ),
            "spec.delivery.redisNotify: no effect",
        ),
        (
            quiet_model(backends=[{**KEYED[0], "parameters": {"a": "x" * 170_000}}]),
            "spec: about 166 KiB of the 256 KiB",
        ),
    ],
)
def test_legal_but_rarely_meant_is_said_once(manifest: dict[str, Any], said: str) -> None:
    """One warning each, at CREATE; an UPDATE that does not touch it is quiet."""
    verdict = judge("CREATE", manifest)
    assert verdict.status is None
    assert [text[: len(said)] for text in verdict.warnings] == [said]
    edited = {**manifest, "spec": {**manifest["spec"], "probe": {"enabled": True}, "probes": {"periodSeconds": 5}}}
    edited["spec"].pop("probe" if manifest["kind"] == "GatewayConfig" else "probes")
    assert judge("UPDATE", edited, manifest) == allow()


def test_keyless_server_in_the_cluster_is_nothing_to_warn_of() -> None:
    """http without a key is the usual thing inside."""
    assert judge("CREATE", quiet_model(baseUrl="http://llm.ai.svc/v1", backends=[make_backend()])) == allow()


def test_warnings_are_short_and_few() -> None:
    """Clients cut at 120 characters, and the API server drops all beyond 4 KiB."""
    backends = [make_backend(f"{'b' * 60}{index}") for index in range(32)]
    verdict = judge("CREATE", make_virtual_model(backends=backends, current=backends[0]["name"]))
    assert len(verdict.warnings) == MAX_WARNINGS
    assert max(map(len, verdict.warnings)) < 120
    long = quiet_model(baseUrl="http://example.com")
    assert max(map(len, judge("UPDATE", quiet_model(baseUrl="http://example.com", use=False), long).warnings)) < 120


# -- the answer


def test_answer_carries_the_uid_and_nothing_that_is_not_needed() -> None:
    """An allowed review is three words; a refusal has the status that the API server passes on."""
    assert orjson.loads(answer("u-1", allow())) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": True},
    }
    refused = orjson.loads(answer("u-2", judge("CREATE", quiet_model(extra=1))))["response"]
    assert (refused["uid"], refused["allowed"], refused["status"]["code"]) == ("u-2", False, 422)
    malformed = orjson.loads(answer_malformed("u-3", "why"))["response"]
    assert (malformed["allowed"], malformed["status"]["code"]) == (False, 400)
    assert "why" in malformed["status"]["message"]


def test_object_nested_beyond_any_reader_is_no_review() -> None:
    """Deeper than any Python compares: an error with the request's uid, not a crash and not a verdict."""
    request = parse_review(orjson.dumps(make_review("UPDATE", quiet_model(), quiet_model())))
    for obj, deep in ((request.new, [1]), (request.old, [2])):
        for _ in range(200_000):
            deep = [deep]  # type: ignore[list-item]  # the point of it
        obj["spec"] = {"a": deep}
    with pytest.raises(MalformedReview, match="nested too deeply") as caught:
        review(request, Policy())
    assert caught.value.uid == request.uid
