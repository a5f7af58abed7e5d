"""Conditions: what each object's status should say. Sentences name the reason and the remedy, never a secret's value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil

from aigateway_config import documents
from aigateway_operator.api.conditions import ConditionType, Reason, Status, Verdict
from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.render.files import LIMIT_BYTES
from aigateway_operator.render.references import SecretRef
from aigateway_operator.rules import Violation

MAX_LISTED = 10
WARN_FRACTION = 0.6
STEP_BYTES = 64 * 1024

# What most models are told is said in one copy: thousands of statuses wait at the same time to be written.
_ACCEPTED = Verdict(ConditionType.ACCEPTED, "True", Reason.ACCEPTED, "All rules hold.")
_RESOLVED = Verdict(ConditionType.RESOLVED_REFS, "True", Reason.RESOLVED_REFS, "Every referenced Secret and key is there.")
_REMEDIES = {
    Reason.SECRET_TYPE_REFUSED: "Put the value into a Secret of type Opaque.",
    Reason.SECRET_NOT_FOUND: "Create the Secret, or correct its name in the spec.",
    Reason.SECRET_KEY_NOT_FOUND: "Add the key, or correct its name in the spec.",
}


def accepted() -> Verdict:
    """Return Accepted=True."""
    return _ACCEPTED


def invalid(violations: tuple[Violation, ...]) -> Verdict:
    """Return Accepted=False with every violation, up to ten."""
    listed = "; ".join(map(str, violations[:MAX_LISTED]))
    more = f"; and {len(violations) - MAX_LISTED} more" if len(violations) > MAX_LISTED else ""
    return Verdict(ConditionType.ACCEPTED, "False", Reason.INVALID, f"{listed}{more}")


def gateway_not_found(namespace: str, gateway: str) -> Verdict:
    """Return Accepted=False for a reference to nothing."""
    message = (
        f"GatewayConfig '{gateway}' does not exist in namespace '{namespace}'. Create it, or correct spec.gatewayRef.name."
    )
    return Verdict(ConditionType.ACCEPTED, "False", Reason.GATEWAY_NOT_FOUND, message)


def conflict(model_name: str, winner: str) -> Verdict:
    """Return Accepted=False for a public name that an older model has."""
    message = f"Model name '{model_name}' is taken by the older VirtualModel '{winner}'. Choose another spec.modelName."
    return Verdict(ConditionType.ACCEPTED, "False", Reason.MODEL_NAME_CONFLICT, message)


def resolved_refs(refs: Iterable[SecretRef], secrets: Mapping[str, SecretState]) -> Verdict:
    """Return ResolvedRefs for the given references; the message lists every problem, the reason is the gravest."""
    problems: list[tuple[int, Reason, str]] = []
    unknown: list[str] = []
    for ref in sorted(set(refs)):
        state = secrets.get(ref.secret)
        if state is None or not state.known:
            unknown.append(f"Secret '{ref.secret}' could not be read yet")
        elif state.refused_type is not None:
            problems.append(
                (0, Reason.SECRET_TYPE_REFUSED, f"Secret '{ref.secret}' is of type {state.refused_type}, which is never read")
            )
        elif not state.exists:
            problems.append((1, Reason.SECRET_NOT_FOUND, f"Secret '{ref.secret}' does not exist"))
        elif ref.key not in state.values:
            problems.append((2, Reason.SECRET_KEY_NOT_FOUND, f"Secret '{ref.secret}' has no key '{ref.key}'"))
    if problems:
        texts = sorted({text for _, _, text in problems})
        remedies = [remedy for reason, remedy in _REMEDIES.items() if any(one[1] is reason for one in problems)]
        return Verdict(ConditionType.RESOLVED_REFS, "False", min(problems)[1], f"{'; '.join(texts)}. {' '.join(remedies)}")
    if unknown:
        return Verdict(ConditionType.RESOLVED_REFS, "Unknown", Reason.PENDING, "; ".join(sorted(set(unknown))) + ".")
    return _RESOLVED


def refs_not_checked() -> Verdict:
    """Return ResolvedRefs=Unknown for a spec that is not accepted."""
    return Verdict(
        ConditionType.RESOLVED_REFS, "Unknown", Reason.PENDING, "References are checked once the object is accepted."
    )


def programmed(status: Status, reason: Reason, message: str) -> Verdict:
    """Return Programmed."""
    return Verdict(ConditionType.PROGRAMMED, status, reason, message)


def ready(parts: Iterable[Verdict], message: str) -> Verdict:
    """Return the summary: True if all `parts` are, else status, reason and message of the first that is not."""
    for part in parts:
        if part.status != "True":
            return Verdict(ConditionType.READY, part.status, part.reason, part.message)
    return Verdict(ConditionType.READY, "True", Reason.READY, message)


def too_large(gateway: str, wanted_bytes: int, shards: int) -> str:
    """Return the sentence for a set that passes the limit of a ConfigMap or Secret, with the remedy.

    The size is told in steps of 64 KiB, so that the status of what does not fit does not follow every edit of others.
    """
    needed = min(documents.MAX_SHARDS, max(2, shards * 2, ceil(wanted_bytes * shards / (WARN_FRACTION * LIMIT_BYTES))))
    kibibytes = ceil(wanted_bytes / STEP_BYTES) * STEP_BYTES // 1024
    return (
        f"The document or its credentials would take up to {kibibytes} KiB, more than the "
        f"{LIMIT_BYTES // 1024} KiB of a ConfigMap or Secret; the last good set stays. Create GatewayConfig '{gateway}-2' with "
        f"spec.delivery.shards: {needed} and move gatewayRef of VirtualModels to it."
    )


def credentials_too_large(file: str) -> str:
    """Return the sentence for a credential whose value does not fit into the credentials Secret any more."""
    return (
        f"The value behind credentials file '{file}' does not fit into the {LIMIT_BYTES // 1024} KiB of the credentials "
        "Secret; the one before stays, if there was one. Make it smaller."
    )


def nearly_full(file: str, size: int) -> str:
    """Return a warning, in steps of ten per cent so that it does not change with every edit; "" below 60 %."""
    fraction = size / LIMIT_BYTES
    if fraction < WARN_FRACTION:
        return ""
    return f" {file} takes more than {int(fraction * 10) * 10} % of the limit of a ConfigMap."


def no_selector() -> Verdict:
    """Return Propagated=Unknown for a gateway whose pods are not known."""
    message = "spec.delivery.podSelector is not set: nobody is asked what they run."
    return Verdict(ConditionType.PROPAGATED, "Unknown", Reason.NO_SELECTOR, message)


def not_asked() -> Verdict:
    """Return Propagated=Unknown for a gateway that has nothing for its pods."""
    message = "Nobody is asked what they run: there are no documents, or the GatewayConfig is not accepted."
    return Verdict(ConditionType.PROPAGATED, "Unknown", Reason.NOT_ASKED, message)


def no_pods() -> Verdict:
    """Return Propagated=Unknown: there is nobody to prove anything."""
    message = "spec.delivery.podSelector selects no pod that is ready."
    return Verdict(ConditionType.PROPAGATED, "Unknown", Reason.NO_PODS, message)


def progressing() -> Verdict:
    """Return Propagated=Unknown while pods are given their time."""
    return Verdict(ConditionType.PROPAGATED, "Unknown", Reason.PROGRESSING, "Pods are taking up this revision.")


def propagated(pods: int) -> Verdict:
    """Return Propagated=True."""
    message = f"{'The one ready pod runs' if pods == 1 else f'All {pods} ready pods run'} this revision."
    return Verdict(ConditionType.PROPAGATED, "True", Reason.PROPAGATED, message)


def stragglers(named: Iterable[str], more: int) -> Verdict:
    """Return Propagated=False: somebody said that they run something else. `named`: pod and what is wrong with it."""
    message = f"Not every ready pod runs this revision: {_listed(named, more)}. Look at their logs and volumes."
    return Verdict(ConditionType.PROPAGATED, "False", Reason.STRAGGLERS, message)


def unreachable(named: Iterable[str], more: int) -> Verdict:
    """Return Propagated=Unknown: nobody said anything else, but some cannot be asked."""
    message = (
        f"Some ready pods cannot be asked what they run: {_listed(named, more)}. Check spec.delivery.statusPort, "
        "that NetworkPolicy lets the operator in, that a service mesh leaves the port alone, and that no pod uses hostNetwork."
    )
    return Verdict(ConditionType.PROPAGATED, "Unknown", Reason.UNREACHABLE, message)


def blind(why: str) -> Verdict:
    """Return Propagated=Unknown: it is not known which pods there are. `why`: a clause with the remedy."""
    return Verdict(ConditionType.PROPAGATED, "Unknown", Reason.UNREACHABLE, f"It is not known which pods there are: {why}.")


def _listed(named: Iterable[str], more: int) -> str:
    return "; ".join(named) + (f"; and {more} more" if more else "")
