"""Condition types and reasons, each with its meaning, and the one function that moves a condition.

Conditions are plain mappings in the order and with the fields of `metav1.Condition`; what is written to the API server is
exactly what is compared with what is there. Source: Kubernetes API conventions, "Typical status properties".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

MAX_MESSAGE: Final = 32768
"""Longest message of metav1.Condition, in characters: the API server refuses a status with a longer one."""

Status = Literal["True", "False", "Unknown"]


class ConditionType(StrEnum):
    """What a condition is about. The list is closed: it stands in docs/status.md."""

    ACCEPTED = "Accepted"
    RESOLVED_REFS = "ResolvedRefs"
    PROGRAMMED = "Programmed"
    READY = "Ready"
    BACKENDS_REACHABLE = "BackendsReachable"
    PROPAGATED = "Propagated"
    DATASTORES_READY = "DatastoresReady"


class Reason(StrEnum):
    """One CamelCase word for why a condition is as it is."""

    # Accepted
    ACCEPTED = "Accepted"  # passes all rules
    INVALID = "Invalid"  # breaks rules; the message lists all of them
    GATEWAY_NOT_FOUND = "GatewayNotFound"  # gatewayRef names no GatewayConfig in the namespace
    MODEL_NAME_CONFLICT = "ModelNameConflict"  # an older VirtualModel of the gateway has this public name
    # ResolvedRefs
    RESOLVED_REFS = "ResolvedRefs"  # every Secret and key is there
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_KEY_NOT_FOUND = "SecretKeyNotFound"
    SECRET_TYPE_REFUSED = "SecretTypeRefused"
    # Programmed
    PROGRAMMED = "Programmed"  # this generation is in the rendered documents
    PENDING = "Pending"  # not yet rendered
    TOO_LARGE = "TooLarge"  # the document would pass the limit of a ConfigMap
    KEPT_LAST_GOOD = "KeptLastGood"  # what is served is the last valid version
    NAME_TAKEN = "NameTaken"  # a ConfigMap or Secret of that name belongs to somebody else
    WRITE_REFUSED = "WriteRefused"  # the API server refuses the documents: a quota, a policy, a missing right
    # Ready
    READY = "Ready"
    # Propagated
    PROPAGATED = "Propagated"  # every ready pod reports this revision
    NO_SELECTOR = "NoSelector"  # spec.delivery.podSelector is not set: nothing is asked
    NO_PODS = "NoPods"  # the selector selects no running pod
    PROGRESSING = "Progressing"  # written, pods are taking it up
    STRAGGLERS = "Stragglers"  # some pods run something else
    UNREACHABLE = "Unreachable"  # some pods (or backends) cannot be asked
    NOT_ASKED = "NotAsked"  # there is nothing that pods could be asked about
    # BackendsReachable
    REACHABLE = "Reachable"
    REFUSED = "Refused"
    # DatastoresReady
    UP = "Up"
    DOWN = "Down"
    DENIED = "Denied"
    NOT_READY = "NotReady"
    UNKNOWN = "Unknown"


REASONS: Final[frozenset[str]] = frozenset(Reason)
"""Every reason of this version; a stored status may hold one of another."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a condition should say now; when it last moved is not its business."""

    type: ConditionType
    status: Status
    reason: Reason
    message: str


ConditionObject = Mapping[str, Any]


def merge_conditions(
    current: Iterable[ConditionObject], verdicts: Iterable[Verdict], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Return the condition list to store: each verdict, with `lastTransitionTime` kept unless `status` moved.

    Conditions that no verdict names are dropped: the verdicts are the whole truth. `now` is used only where a status moved
    and is written with a resolution of one second, as metav1.Time is.
    Source: Kubernetes API conventions (lastTransitionTime); cert-manager `SetCertificateCondition`.
    """
    known = {condition.get("type"): condition for condition in current}
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    merged: list[dict[str, Any]] = []
    for verdict in verdicts:
        before = known.get(verdict.type.value)
        moved = before is None or before.get("status") != verdict.status
        merged.append(
            {
                "type": verdict.type.value,
                "status": verdict.status,
                "observedGeneration": generation,
                "lastTransitionTime": stamp if moved or before is None else before.get("lastTransitionTime", stamp),
                "reason": verdict.reason.value,
                "message": _fitting(verdict.message),
            }
        )
    return merged


def _fitting(message: str) -> str:
    """Return a message that the API server accepts: what is too long ends with how much was left out, and who shows it."""
    if len(message) <= MAX_MESSAGE:
        return message
    end = f"… ({len(message):,} characters in all: `aigateway check` shows them)"
    return message[: MAX_MESSAGE - len(end)] + end
