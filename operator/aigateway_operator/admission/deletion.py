"""What must not be deleted by accident: objects marked as protected, and a GatewayConfig that still serves models.

Pure. Called by `review` on DELETE. Whoever empties a namespace has decided already: the namespace controller and the garbage
collector are never stopped, or a namespace would hang in Terminating for ever.

Source: docs/admission.md#deletion; the same conditions stand in `webhook_configuration` as CEL, so that other deletions are not
even asked about and go on while the webhook is down.
"""

from __future__ import annotations

from typing import Any, Final

from aigateway_operator.admission.request import RESOURCES, ReviewRequest
from aigateway_operator.api.meta import ALLOW_DELETE_ANNOTATION, GATEWAY_CONFIG, PROTECTED_ANNOTATION
from aigateway_operator.rules import FieldReason, Violation
from aigateway_operator.rules.violation import shown

EXEMPT_USERS: Final = (
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:kube-controller-manager",
)
"""The last is both, where controllers have no ServiceAccounts of their own (`--use-service-account-credentials=false`). Whoever
has its certificate may make tokens of every ServiceAccount, the other two included, so it opens nothing more."""
YES: Final = "true"


def check_deletion(request: ReviewRequest) -> list[Violation]:
    """Return why the object must not be deleted now; [] if it may. `path` is the annotation or status that says so."""
    metadata: dict[str, Any] = request.old["metadata"]
    if request.username in EXEMPT_USERS or metadata.get("deletionTimestamp"):
        return []
    annotations = metadata.get("annotations") or {}
    found = []
    if annotations.get(PROTECTED_ANNOTATION) == YES:
        found.append(_protected(request))
    models = accepted_models(request.old)
    if request.kind == GATEWAY_CONFIG and models > 0 and annotations.get(ALLOW_DELETE_ANNOTATION) != YES:
        found.append(_in_use(request, models))
    return found


def accepted_models(gateway: dict[str, Any]) -> int:
    """Return how many models a GatewayConfig serves by its own status; 0 where it says nothing (yet)."""
    status = gateway.get("status")
    models = status.get("models") if isinstance(status, dict) else None
    accepted = models.get("accepted") if isinstance(models, dict) else None
    return accepted if isinstance(accepted, int) else 0


def _protected(request: ReviewRequest) -> Violation:
    message = (
        f"{request.kind} '{shown(request.name)}' is protected by annotation {PROTECTED_ANNOTATION}. "
        f"To delete it all the same, run first: {_annotate(request)} {PROTECTED_ANNOTATION}-"
    )
    return Violation(_annotation(PROTECTED_ANNOTATION), FieldReason.FORBIDDEN, message, "D1")


def _in_use(request: ReviewRequest, models: int) -> Violation:
    served = "1 accepted model" if models == 1 else f"{models} accepted models"
    message = (
        f"{request.kind} '{shown(request.name)}' serves {served}, which would be gone for callers. "
        f"Move or delete these first, or run: {_annotate(request)} {ALLOW_DELETE_ANNOTATION}={YES}"
    )
    return Violation("status.models.accepted", FieldReason.FORBIDDEN, message, "D2")


def _annotate(request: ReviewRequest) -> str:
    return f"kubectl annotate -n {shown(request.namespace)} {RESOURCES[request.kind]} {shown(request.name)}"


def _annotation(key: str) -> str:
    return f"metadata.annotations[{key}]"
