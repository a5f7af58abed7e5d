"""What users of Flux see: the shipped expressions judge every recorded state as Argo CD's scripts do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest
import yaml

from hack.controlplane import ControlPlane
from tests.eventually import eventually
from tests.gitops.argolua import CUSTOMIZATIONS, Manifest
from tests.gitops.cluster import EXAMPLE, load

pytestmark = pytest.mark.apiserver

GROUP = "flux.gitops-tests.example"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
WORDS = {"Progressing": "inProgress", "Degraded": "failed", "Healthy": "current"}
[GATEWAY] = load(EXAMPLE / "flux" / "30-gateway.yaml")
EXPRESSIONS = {one["kind"]: one for one in GATEWAY["spec"]["healthCheckExprs"]}


@pytest.fixture(scope="module")
def judge(plane: ControlPlane) -> Iterator[None]:
    """A kind whose objects hold a recorded one, and for each of our kinds a policy that refuses with what Flux would say."""
    names = {"kind": "Recorded", "plural": "recorded", "singular": "recorded"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {"group": GROUP, "scope": "Cluster", "names": names, "versions": [version]}
    crd = {"kind": "CustomResourceDefinition", "metadata": {"name": f"recorded.{GROUP}"}, "spec": spec}
    made = [
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {"apiVersion": "apiextensions.k8s.io/v1", **crd}),
        *((path, obj) for kind in EXPRESSIONS for path, obj in _policy(kind)),
    ]
    for path, obj in made:
        answer = plane.request("POST", path, obj)
        assert answer.status == 201, answer.body
    yield
    for path, obj in made:
        plane.request("DELETE", f"{path}/{obj['metadata']['name']}")


def _policy(kind: str) -> Iterator[tuple[str, Manifest]]:
    name, told = f"flux-{kind.lower()}", []
    for word in WORDS.values():
        expression = re.sub(r"\b(status|metadata)\.(?=\w)", r"object.\1.", EXPRESSIONS[kind][word])
        told.append(f"(({expression}) ? '{word} ' : '')".replace("object.", "object.recorded."))
    rules = [{"apiGroups": [GROUP], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["recorded"]}]
    yield (
        POLICIES,
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": rules},
                "matchConditions": [{"name": "kind", "expression": f"object.recorded.kind == '{kind}'"}],
                "validations": [{"expression": "false", "messageExpression": f"'flux says: ' + {' + '.join(told)}"}],
            },
        },
    )
    yield (
        f"{POLICIES[:-3]}ybindings",
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    )


@pytest.mark.usefixtures("judge")
def test_flux_and_argo_cd_agree_on_every_recorded_state(plane: ControlPlane) -> None:
    """Healthy is current, Progressing in progress, Degraded failed; of what is being deleted kstatus itself says so."""
    compared = 0
    for kind in EXPRESSIONS:
        for case in yaml.safe_load((CUSTOMIZATIONS / kind / "health_test.yaml").read_text())["tests"]:
            recorded = yaml.safe_load((CUSTOMIZATIONS / kind / case["inputPath"]).read_text())
            if "deletionTimestamp" in recorded["metadata"]:
                continue
            first = eventually(partial(_said, plane, recorded), within_seconds=15).split()[0]
            assert first == WORDS[case["healthStatus"]["status"]], case["inputPath"]
            compared += 1
    assert compared > 15


def _said(plane: ControlPlane, recorded: Manifest) -> str:
    """Return which of Flux' expressions hold, in its order; the policies are heeded a moment after they are stored."""
    obj = {"apiVersion": f"{GROUP}/v1", "kind": "Recorded", "metadata": {"name": "x"}, "recorded": recorded}
    answer = plane.request("POST", f"/apis/{GROUP}/v1/recorded?dryRun=All", obj)
    assert answer.status in (403, 422), answer.body
    _, _, words = answer.body["message"].partition("flux says: ")
    assert words, answer.body
    return str(words)
