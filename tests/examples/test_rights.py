"""The rights of hack/manifests/operator.yaml are enough for the operator's work, and reach no further."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.controlplane import ControlPlane
from hack.operatorprocess import MANIFESTS, USER, OperatorProcess
from tests.eventually import eventually

pytestmark = pytest.mark.apiserver

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "01-quickstart"


@pytest.fixture
def operator(plane: ControlPlane) -> Iterator[OperatorProcess]:
    """The operator under its own ServiceAccount, for the whole cluster."""
    with OperatorProcess.start(plane) as started:
        yield started


def test_operator_is_refused_nothing_that_it_asks_for(plane: ControlPlane, operator: OperatorProcess, namespace: str) -> None:
    """From first apply over an edit and a mistake to deletion, the audit log shows writes by it and no denial."""
    mark = plane.audit_mark()
    for file in sorted(EXAMPLE.glob("*.yaml")):
        if "namespace" not in file.name:
            text = file.read_text().replace("namespace: ai\n", f"namespace: {namespace}\n")
            plane.kubectl("apply", "-f", "-", input=text, check=True)
    target = ("-n", namespace, "--timeout=20s")
    plane.kubectl("wait", "--for=condition=Ready", "gwc,vmodel", "--all", *target, check=True)
    mistake = '{"spec": {"baseUrl": "http://llm.example.com/v1"}}'
    plane.kubectl("patch", "vmodel", "chat", "-n", namespace, "--type=merge", "-p", mistake, check=True)
    plane.kubectl("wait", "--for=condition=Accepted=false", "vmodel/chat", *target, check=True)
    plane.kubectl("delete", "gwc", "internal", "-n", namespace, check=True)
    plane.kubectl("wait", "--for=condition=Accepted=false", "vmodel/code", *target, check=True)

    def says_so_in_events() -> None:
        assert plane.audit_since(mark, user=USER, resource="events", namespace=namespace)

    eventually(says_so_in_events, within_seconds=30)
    done = plane.audit_since(mark, user=USER)
    assert {"configmaps", "secrets", "virtualmodels/status", "gatewayconfigs/status"} <= {
        record.resource for record in done if record.verb in {"create", "patch"}
    }
    assert [f"{record.verb} {record.uri}" for record in done if record.denied] == []


@pytest.mark.parametrize(
    "asked",
    [
        "patch virtualmodels.ai-gateway.io -A",
        "update gatewayconfigs.ai-gateway.io -A",
        "delete virtualmodels.ai-gateway.io -A",
        "patch customresourcedefinitions.apiextensions.k8s.io",
        "get pods -A",
        "create pods -A",
        "patch pods -A",
        "update pods/status -A",
        "create pods/exec -A",
        "list nodes",
        "list namespaces",
        "create serviceaccounts/token -A",
        "create clusterrolebindings.rbac.authorization.k8s.io",
        "update leases.coordination.k8s.io -n kube-system",
        "delete leases.coordination.k8s.io -n aigateway-system",
        "list events.events.k8s.io -A",
        "deletecollection secrets -A",
        "create validatingwebhookconfigurations.admissionregistration.k8s.io",
        "update validatingwebhookconfigurations.admissionregistration.k8s.io/aigateway-operator",
        "delete validatingwebhookconfigurations.admissionregistration.k8s.io/aigateway-operator",
        "patch validatingwebhookconfigurations.admissionregistration.k8s.io/another",
        "list validatingwebhookconfigurations.admissionregistration.k8s.io",
    ],
)
def test_operator_may_do_nothing_beyond_its_work(plane: ControlPlane, asked: str) -> None:
    """The API server says no to what the controller has no use for."""
    plane.kubectl("apply", "-f", MANIFESTS, check=True)
    answer = plane.kubectl("auth", "can-i", *asked.split(), f"--as={USER}")
    assert answer.stdout.strip() == "no", answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("watch secrets/aigateway-webhook-certificates -n aigateway-system", "yes"),
        ("get secrets/another -n aigateway-system", "no"),
        ("list secrets -n aigateway-system", "no"),
        ("update secrets/aigateway-webhook-certificates -n aigateway-system", "no"),
        ("get virtualmodels.ai-gateway.io -A", "no"),
        ("get secrets/aigateway-webhook-certificates -n default", "no"),
    ],
)
def test_webhook_may_read_its_certificate_and_nothing_else(plane: ControlPlane, asked: str, answered: str) -> None:
    """A replica that is taken over gives away one key."""
    plane.kubectl("apply", "-f", MANIFESTS, check=True)
    user = "system:serviceaccount:aigateway-system:aigateway-webhook"
    answer = plane.kubectl("auth", "can-i", *asked.split(), f"--as={user}")
    assert answer.stdout.strip() == answered, answer.stdout + answer.stderr
