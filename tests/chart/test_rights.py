"""The rights of the chart: one source for tests and demo, and a comparison of granted and used that notices both faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hack.rights import MANIFESTS, manifests
from tests.conftest import require_binaries
from tests.rights import Right, Seen, compare, granted, read

OPERATOR = "system:serviceaccount:r1:r1-aigateway-operator"


def test_rights_of_demo_and_tests_are_those_of_the_chart() -> None:
    """hack/manifests/operator.yaml is what the chart renders; if this fails, run `python -m hack rights`."""
    assert MANIFESTS.read_text() == manifests(require_binaries(["helm"])["helm"])


def test_granted_rights_are_read_from_roles_by_who_is_bound_to_them() -> None:
    """Each verb on each resource counts by itself, subresources and groups as kubectl writes them."""
    given = granted(MANIFESTS.read_text())
    assert Right("operator", "patch", "virtualmodels.ai-gateway.io/status") in given
    assert Right("operator", "patch", "pods/status") in given
    assert Right("webhook", "watch", "secrets") in given
    assert {right.resource for right in given if right.part == "webhook"} == {"secrets"}


def test_an_audit_log_tells_what_was_used_and_what_was_refused(tmp_path: Path) -> None:
    """Refusals count until the release's bindings are taken away; other users, impersonation and broken lines do not."""
    lines = [
        entry("watch", "configmaps"),
        entry("patch", "virtualmodels", "ai-gateway.io", "status"),
        entry("delete", "pods", decision="forbid"),
        entry("list", "nodes", user="admin"),
        entry("list", "nodes") | {"impersonatedUser": {"username": "x"}},
        entry("delete", "rolebindings", "rbac.authorization.k8s.io", user="admin", name="r1-aigateway-operator-home"),
        entry("get", "secrets", decision="forbid"),
    ]
    log = tmp_path / "audit.log"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"verb": "get", "user": {"username": "' + OPERATOR)
    seen = read(log)
    assert seen.used == {
        Right("operator", "watch", "configmaps"),
        Right("operator", "patch", "virtualmodels.ai-gateway.io/status"),
    }
    assert seen.denied == {("operator", "delete", "/api/v1/x")}


def test_comparison_names_unused_rights_stale_reasons_and_refusals() -> None:
    """A right without use, a reason without need, and a request without right are each one line."""
    used, unused, excused = (Right("operator", verb, "pods") for verb in ("list", "delete", "get"))
    seen = [Seen({used}), Seen(denied={("webhook", "get", "/api/v1/pods")})]
    found = compare({used, unused, excused}, seen, {excused: "why", used: "stale"})
    assert found == [
        "operator delete pods: granted, and no test used it",
        "operator list pods: has a reason to be unused, and is used or not granted",
        "webhook get /api/v1/pods: refused",
    ]
    assert compare({used}, seen[:1], {}) == []


def entry(
    verb: str, resource: str, group: str = "", subresource: str = "", *, user: str = OPERATOR, decision: str = "allow",
    name: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Return a line of an audit log."""
    reference = {"resource": resource, "apiGroup": group, "subresource": subresource, "name": name}
    annotations = {"authorization.k8s.io/decision": decision}
    return {
        "verb": verb,
        "user": {"username": user},
        "objectRef": reference,
        "annotations": annotations,
        "requestURI": "/api/v1/x?a=b",
    }
