"""The ValidatingWebhookConfiguration that sends reviews here, as an object. The chart and `aigateway webhook` print this one.

Pure. It has no caBundle: the leader (or cert-manager) fills that in, and whoever applies this again must not take it away.
Called by `cli.webhook`, `cli.crds` (for the chart), tests and the demo.

Source: docs/admission.md#deletion; Kubernetes "Dynamic Admission Control"; docs/measured.md#conditions-of-webhooks-and-policies
(an absent key is an error, and an error a refusal, so every step is guarded; rules without /status are not asked about it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from aigateway_operator.admission.deletion import EXEMPT_USERS, YES
from aigateway_operator.admission.request import PATH, RESOURCES
from aigateway_operator.api.label_selector import parse_label_selector
from aigateway_operator.api.meta import (
    ALLOW_DELETE_ANNOTATION,
    GATEWAY_CONFIGS,
    GROUP,
    MANAGED_BY,
    PROTECTED_ANNOTATION,
    VERSION,
)

CONFIGURATION_NAME: Final = "aigateway-operator"
WEBHOOK_NAME: Final = f"validate.{GROUP}"
"""Name of the one webhook in it; users see it in messages."""
TIMEOUT_SECONDS: Final = 5
_SERVICE_PORT: Final = 443


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the API server finds the webhook: a Service, or for development a URL (without path) that it can reach."""

    service: str = "aigateway-webhook"
    namespace: str = "aigateway-system"
    port: int = _SERVICE_PORT
    url: str | None = None

    def client_config(self) -> dict[str, Any]:
        """Return the `clientConfig`, without a caBundle."""
        if self.url is not None:
            return {"url": f"{self.url.rstrip('/')}{PATH}"}
        return {"service": {"name": self.service, "namespace": self.namespace, "port": self.port, "path": PATH}}


def webhook_configuration(
    endpoint: Endpoint,
    *,
    name: str = CONFIGURATION_NAME,
    failure_policy: Literal["Fail", "Ignore"] = "Fail",
    timeout_seconds: int = TIMEOUT_SECONDS,
    namespaces: Sequence[str] = (),
    namespace_selector: str = "",
) -> dict[str, Any]:
    """Return the object. `namespaces`, or a label selector in their place: review only there; neither means everywhere."""
    webhook: dict[str, Any] = {
        "name": WEBHOOK_NAME,
        "admissionReviewVersions": ["v1"],
        "clientConfig": endpoint.client_config(),
        "failurePolicy": failure_policy,
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": timeout_seconds,
        "rules": [
            {
                "apiGroups": [GROUP],
                "apiVersions": [VERSION],
                "operations": ["CREATE", "UPDATE", "DELETE"],
                "resources": sorted(RESOURCES.values()),
                "scope": "Namespaced",
            }
        ],
        "matchConditions": match_conditions(),
    }
    if namespaces:
        chosen = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": sorted(namespaces)}
        webhook["namespaceSelector"] = {"matchExpressions": [chosen]}
    elif namespace_selector:
        webhook["namespaceSelector"] = parse_label_selector(namespace_selector)
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": MANAGED_BY}},
        "webhooks": [webhook],
    }


def match_conditions() -> list[dict[str, str]]:
    """Ask about deletions only where `deletion` could refuse: the same conditions, said in CEL."""
    exempt = ", ".join(f"'{user}'" for user in EXEMPT_USERS)
    in_use = f"({_serves_models()} && !{_annotated(ALLOW_DELETE_ANNOTATION)})"
    return [
        {
            "name": "deletions-by-people",
            "expression": f"request.operation != 'DELETE' || !(request.userInfo.username in [{exempt}])",
        },
        {
            "name": "deletions-of-guarded-objects",
            "expression": f"request.operation != 'DELETE' || {_annotated(PROTECTED_ANNOTATION)} || {in_use}",
        },
    ]


def _annotated(key: str) -> str:
    annotations = "oldObject.metadata.annotations"
    return f"(has({annotations}) && '{key}' in {annotations} && {annotations}['{key}'] == '{YES}')"


def _serves_models() -> str:
    steps = ("oldObject.status", "oldObject.status.models", "oldObject.status.models.accepted")
    has = " && ".join(f"has({step})" for step in steps)
    return f"request.resource.resource == '{GATEWAY_CONFIGS}' && {has} && {steps[-1]} > 0"
