"""The optional ValidatingAdmissionPolicies on the real API server, with no webhook and no operator running.

They say what CEL in a CRD cannot: which keys are unknown. They are bound to the test's namespaces only. That no key is
removed, the CRDs say too, and first; so that part is tried on a control plane whose CRDs have lost their rules.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aigateway_operator.api.crd import KINDS, custom_resource_definition
from aigateway_operator.api.crd_schema import VALIDATIONS
from aigateway_operator.api.policy import admission_policies
from aigateway_operator.rules import RuleContext, check_edit
from hack.controlplane import NEEDED, ControlPlane
from tests.apiserver.edits import BAD, GATEWAY_CONFIG, GOOD, SCHEMA, VIRTUAL_MODEL, Edit, base
from tests.apiserver.test_bad_manifests import GONE, Manifest, changed
from tests.apiserver.ways import APPLIED, KUBECTL, WAYS, Answers, Table, storer_of
from tests.conftest import require_binaries
from tests.eventually import eventually

pytestmark = pytest.mark.apiserver
ROOT = "/apis/admissionregistration.k8s.io/v1"
PLURALS = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
MERGE = "application/merge-patch+json"


def rules_of(edit: Edit) -> dict[str, str]:
    """Return the text of each violation by rule and path."""
    before = base(edit.kind, "x")
    found = check_edit(edit.kind, changed(before, edit.change).get("spec"), before["spec"], RuleContext("x"))
    return {f"{violation.rule} {violation.path}": violation.message for violation in found.violations}


UNKNOWN = [edit for edit in BAD if f"R1 {edit.path}" in rules_of(edit)]
REMOVED = [edit for edit in BAD if edit.layer == SCHEMA and f"R2 {edit.path}" in rules_of(edit)]


def install(plane: ControlPlane, namespace: str) -> None:
    """Put the policies in force in one namespace, as they are printed but for the namespace."""
    for manifest in copy.deepcopy(admission_policies()):
        if manifest["kind"] == "ValidatingAdmissionPolicyBinding":
            labels = {"kubernetes.io/metadata.name": namespace}
            manifest["spec"]["matchResources"] = {"namespaceSelector": {"matchLabels": labels}}
        answer = plane.request("POST", f"{ROOT}/{PLURALS[manifest['kind']]}", manifest)
        assert answer.status == 201, answer.body


def uninstall(plane: ControlPlane) -> None:
    """Take them away."""
    for manifest in admission_policies():
        plane.request("DELETE", f"{ROOT}/{PLURALS[manifest['kind']]}/{manifest['metadata']['name']}")


def wait_in_force(plane: ControlPlane, namespace: str, *, in_force: bool = True) -> None:
    """Wait until an unknown key is refused in both kinds, three times in a row, or is not any more."""
    table = Table(plane, namespace, [])

    def check() -> None:
        for kind in (VIRTUAL_MODEL, GATEWAY_CONFIG):
            probe = changed(base(kind, "probe"), {"spec.bogus": 1})
            statuses = [plane.request("POST", f"{table.path(kind)}?dryRun=All", probe).status for _ in range(3)]
            assert statuses == [422 if in_force else 201] * 3

    eventually(check, within_seconds=20)


def make_namespace(plane: ControlPlane) -> str:
    """Make a namespace of one's own."""
    name = f"policy-{secrets.token_hex(3)}"
    made = plane.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert made.status == 201, made.body
    return name


@pytest.fixture(scope="module")
def home(plane: ControlPlane) -> Iterator[str]:
    """A namespace where the policies are in force; one object was stored before that."""
    name = make_namespace(plane)
    table = Table(plane, name, [])
    for kind in (VIRTUAL_MODEL, GATEWAY_CONFIG):
        old = changed(base(kind, "old"), {"spec.bogus": {"a": 1}})
        assert plane.request("POST", table.path(kind), old).status == 201
    install(plane, name)
    try:
        wait_in_force(plane, name)
        yield name
    finally:
        uninstall(plane)
        plane.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def unknown(plane: ControlPlane, home: str) -> Table:
    """Stored objects for every edit that adds an unknown key."""
    table = Table(plane, home, UNKNOWN)
    table.store(KUBECTL, APPLIED)
    return table


def plain(text: str) -> str:
    """Return a text of the rules without the closest match, which CEL cannot look for."""
    return text.partition(" Did you mean")[0]


def faults_of(table: Table, answers: Answers, way: str, rule: str) -> list[str]:
    """Return a line for every edit whose answer lacks the text of the rule at its place."""
    faults = []
    for edit, name in zip(table.edits, table.names(storer_of(way)), strict=True):
        text = f"{edit.path}: {plain(rules_of(edit)[f'{rule} {edit.path}'])}"
        if text not in answers[name]:
            faults.append(f"{edit}: not «{text}» but «{answers[name][:600]}»")
    return faults


@pytest.mark.parametrize("way", WAYS)
def test_every_unknown_key_is_named_with_the_allowed_ones(unknown: Table, way: str) -> None:
    """At every level of both kinds and on every way, in the rules' words; nothing changes."""
    assert len(UNKNOWN) >= 60
    before = unknown.contents()
    faults = faults_of(unknown, WAYS[way](unknown, False), way, "R1")
    assert not faults, "\n".join(faults)
    assert unknown.contents() == before


@pytest.mark.parametrize("way", ["kubectl apply", "server-side apply", "PUT"])
def test_good_edits_pass(plane: ControlPlane, home: str, way: str) -> None:
    """The structure is fixed, not the values."""
    table = Table(plane, home, GOOD, first=500 + 100 * ["kubectl apply", "server-side apply", "PUT"].index(way))
    table.store(storer_of(way))
    assert {name: text for name, text in WAYS[way](table, True).items() if text} == {}


def test_kubectl_shows_all_violations_in_one_line(plane: ControlPlane, home: str) -> None:
    """The exact text. The API server reports one validation of a policy, so its message joins them all."""
    wrong = changed(
        base(GATEWAY_CONFIG, "new"),
        {"spec.app.prot": 1, "spec.storage.redis.tls.verify": False, "spec.delivery.podSelector.matchExpressions.0.vals": []},
    )
    shown = plane.kubectl("apply", "-n", home, "-f", "-", input=json.dumps(wrong))
    assert shown.returncode == 1
    assert shown.stderr.strip() == (
        "The gatewayconfigs \"new\" is invalid: : ValidatingAdmissionPolicy 'gatewayconfigs.ai-gateway.io' with binding "
        "'gatewayconfigs.ai-gateway.io' denied request: "
        "spec.app.prot: Cannot add new key 'prot' to fixed structure at spec.app. Allowed keys: host, port, debug. | "
        "spec.storage.redis.tls.verify: Cannot add new key 'verify' to fixed structure at spec.storage.redis.tls. "
        "Allowed keys: enabled, caSecretRef. | "
        "spec.delivery.podSelector.matchExpressions[0].vals: Cannot add new key 'vals' to fixed structure at "
        "spec.delivery.podSelector.matchExpressions[0]. Allowed keys: key, operator, values."
    )


def large_model(name: str, keys: int) -> Manifest:
    """Return a VirtualModel with as many backends as there may be, each with `keys` unknown keys."""
    first = base(VIRTUAL_MODEL, name)["spec"]["backends"][0]
    backends = [{**first, "name": "small" if number == 0 else f"b{number}"} for number in range(32)]
    for backend in backends:
        backend |= {f"key{number}": number for number in range(keys)}
    return changed(base(VIRTUAL_MODEL, name), {"spec.backends": backends})


@pytest.mark.parametrize(
    ("keys", "said", "ending"),
    [(1, "spec.backends[0].key0: Cannot add", "…"), (50, "spec.backends[0].key", "…"), (2000, "cost limit exceeded", "")],
    ids=["32 keys", "1600 keys", "beyond any budget"],
)
def test_largest_objects_stay_within_the_budget_or_are_refused(
    plane: ControlPlane, home: str, keys: int, said: str, ending: str
) -> None:
    """The largest legal object is accepted; with many unknown keys the text is cut before the API server drops it; beyond
    the API server's budget for expressions it is refused all the same.
    """
    path = Table(plane, home, []).path(VIRTUAL_MODEL)
    assert plane.request("POST", f"{path}?dryRun=All", large_model("large", 0)).status == 201
    answer = plane.request("POST", f"{path}?dryRun=All", large_model("large", keys))
    assert answer.status == 422, answer.body
    assert answer.body["message"].endswith(ending)
    assert said in answer.body["message"]


def test_odd_keys_cannot_hide_the_text(plane: ControlPlane, home: str) -> None:
    """A message with a line break is dropped by the API server, and a long key would push the others out."""
    wrong = changed(base(VIRTUAL_MODEL, "odd"), {"spec.probe.a\nb": 1, f"spec.{'k' * 5000}": 1})
    answer = plane.request("POST", f"{Table(plane, home, []).path(VIRTUAL_MODEL)}?dryRun=All", wrong)
    assert answer.status == 422
    assert "spec.probe.a b: Cannot add new key 'a b'" in answer.body["message"]
    assert f"spec.{'k' * 80}…: Cannot add new key" in answer.body["message"]


@pytest.mark.parametrize("kind", [VIRTUAL_MODEL, GATEWAY_CONFIG])
def test_what_was_stored_before_does_not_stand_in_the_way(plane: ControlPlane, home: str, kind: str) -> None:
    """As for the rules: an edit answers for what it changes. The stored unknown key may stay or go, not change."""
    path = f"{Table(plane, home, []).path(kind, 'old')}?dryRun=All"

    def patch(body: dict[str, Any]) -> int:
        return plane.request("PATCH", path, body, content_type=MERGE).status

    assert patch({"metadata": {"labels": {"a": "b"}}}) == 200
    assert patch({"spec": {"use": False} if kind == VIRTUAL_MODEL else {"app": {"port": 9000}}}) == 200
    assert patch({"spec": {"bogus": None}}) == 200
    assert patch({"spec": {"bogus": {"a": 2}}}) == 422
    assert patch({"spec": {"more": 1}}) == 422


def test_type_checking_has_nothing_to_say(plane: ControlPlane, home: str) -> None:
    """The controller manager checks expressions against the CRDs' schemas; a warning there would be shown to administrators."""
    for manifest in admission_policies():
        if manifest["kind"] == "ValidatingAdmissionPolicy":
            path = f"{ROOT}/{PLURALS[manifest['kind']]}/{manifest['metadata']['name']}"

            def checked(path: str = path) -> dict[str, Any]:
                status = plane.request("GET", path).body.get("status") or {}
                assert "typeChecking" in status, status
                return dict(status["typeChecking"])

            assert eventually(checked, within_seconds=30) == {}


def without_rules(schema: Any) -> Any:
    """Return a schema without its rules in CEL."""
    if isinstance(schema, dict):
        return {key: without_rules(value) for key, value in schema.items() if key != VALIDATIONS}
    return [without_rules(item) for item in schema] if isinstance(schema, list) else schema


def test_removed_keys_are_refused_by_the_policy_alone(tmp_path: Path) -> None:
    """In the rules' words, for CRDs that do not say it themselves; on PUT, which alone removes what nobody owns."""
    crds = [without_rules(custom_resource_definition(kind)) for kind in KINDS]
    (tmp_path / "crds.yaml").write_text(yaml.safe_dump_all(crds))
    assert len(REMOVED) >= 30
    with ControlPlane.start(binaries=require_binaries(NEEDED), crds=[tmp_path / "crds.yaml"]) as plane:
        namespace = make_namespace(plane)
        install(plane, namespace)
        wait_in_force(plane, namespace)
        table = Table(plane, namespace, REMOVED)
        table.store(APPLIED)
        before = table.contents()
        faults = faults_of(table, WAYS["PUT"](table, False), "PUT", "R2")
        assert not faults, "\n".join(faults)
        assert table.contents() == before
        going_is_free(table)


def going_is_free(table: Table) -> None:
    """An object that is being deleted takes its last writes as it is."""
    manifest = changed(base(GATEWAY_CONFIG, "going"), {"metadata.finalizers": ["example.com/wait"]})
    path = table.path(GATEWAY_CONFIG, "going")
    request: Callable[..., Any] = table.plane.request
    assert request("POST", table.path(GATEWAY_CONFIG), manifest).status == 201
    assert request("DELETE", path).status == 200
    last = changed(request("GET", path).body, {"spec.app": GONE, "metadata.finalizers": []})
    assert request("PUT", path, last).status == 200
