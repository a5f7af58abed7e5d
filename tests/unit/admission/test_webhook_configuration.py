"""The webhook's configuration: what it asks about, and that its CEL says the same as the code about deletions."""

from __future__ import annotations

from aigateway_operator.admission.deletion import EXEMPT_USERS
from aigateway_operator.admission.webhook_configuration import Endpoint, webhook_configuration


def test_it_fails_closed_and_asks_about_our_kinds_only() -> None:
    """No status, no other group, nothing at cluster scope; Fail, no side effects, a short time-out, no caBundle."""
    configuration = webhook_configuration(Endpoint())
    assert (configuration["kind"], configuration["metadata"]["name"]) == (
        "ValidatingWebhookConfiguration",
        "aigateway-operator",
    )
    (webhook,) = configuration["webhooks"]
    assert webhook["rules"] == [
        {
            "apiGroups": ["ai-gateway.io"],
            "apiVersions": ["v1alpha1"],
            "operations": ["CREATE", "UPDATE", "DELETE"],
            "resources": ["gatewayconfigs", "virtualmodels"],
            "scope": "Namespaced",
        }
    ]
    assert (webhook["failurePolicy"], webhook["matchPolicy"], webhook["sideEffects"]) == ("Fail", "Equivalent", "None")
    assert (webhook["timeoutSeconds"], webhook["admissionReviewVersions"]) == (5, ["v1"])
    service = {"name": "aigateway-webhook", "namespace": "aigateway-system", "port": 443, "path": "/validate"}
    assert webhook["clientConfig"] == {"service": service}
    assert "namespaceSelector" not in webhook


def test_endpoint_name_policy_and_namespaces_are_choices() -> None:
    """For tests, for namespaced installations, and for those who would rather fail open."""
    configuration = webhook_configuration(
        Endpoint(url="https://127.0.0.1:9443/"), name="mine", failure_policy="Ignore", timeout_seconds=2, namespaces=["b", "a"]
    )
    (webhook,) = configuration["webhooks"]
    assert webhook["clientConfig"] == {"url": "https://127.0.0.1:9443/validate"}
    assert (configuration["metadata"]["name"], webhook["failurePolicy"], webhook["timeoutSeconds"]) == ("mine", "Ignore", 2)
    selected = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]}
    assert webhook["namespaceSelector"] == {"matchExpressions": [selected]}


def test_conditions_concern_deletions_only_and_guard_every_step() -> None:
    """An absent key would be an error, and an error a refusal; who is exempt in the code is exempt here."""
    people, guarded = (item["expression"] for item in webhook_configuration(Endpoint())["webhooks"][0]["matchConditions"])
    assert people.startswith("request.operation != 'DELETE' || ")
    assert guarded.startswith("request.operation != 'DELETE' || ")
    assert all(f"'{user}'" in people for user in EXEMPT_USERS)
    for step in (
        "oldObject.status",
        "oldObject.status.models",
        "oldObject.status.models.accepted",
        "oldObject.metadata.annotations",
    ):
        assert f"has({step})" in guarded
