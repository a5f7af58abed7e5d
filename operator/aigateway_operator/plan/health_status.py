"""Health → what status says of datastores and backends. Pure.

What status says already is kept until the target has been judged, so that a restart of the operator, or of the leader,
writes nothing; and `since` moves only when the state does.
Source: docs/status.md#gatewayconfig; docs/health.md#when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aigateway_operator.api.conditions import ConditionType, Reason, Verdict
from aigateway_operator.plan.health import SEVERITY, Health, HealthOf, HealthReason, HealthState, Probing, Target
from aigateway_operator.plan.probing import Backends
from aigateway_operator.plan.snapshot import Stored
from aigateway_operator.plan.told import verdict_told

MAX_MESSAGE = 2048
_REASONS = {
    HealthState.UP: Reason.UP,
    HealthState.DOWN: Reason.DOWN,
    HealthState.DENIED: Reason.DENIED,
    HealthState.NOT_READY: Reason.NOT_READY,
    HealthState.UNKNOWN: Reason.UNKNOWN,
}
_NOT_PROBED = "Not probed yet."


def datastore_fields(stored: Stored, names: Iterable[str], probing: Probing, health: HealthOf) -> list[dict[str, Any]]:
    """Return `status.datastores` for the enabled stores `names`, in order of name."""
    told = _told(stored)
    targets: Mapping[Any, Target] = probing.stores
    return [_entry(name, health.get(targets[name]) if name in targets else None, told.get(name)) for name in sorted(names)]


def kept_datastores(stored: Stored) -> list[dict[str, Any]]:
    """Return `status.datastores` as it is: for a spec that breaks rules, whose stores nobody can tell."""
    return list(_told(stored).values())


def datastores_verdict(entries: list[dict[str, Any]]) -> Verdict:
    """Return DatastoresReady from `status.datastores`; without any store there is nothing that is not ready."""
    if not entries:
        return Verdict(ConditionType.DATASTORES_READY, "True", Reason.UP, "No datastore is enabled.")
    worst = max((HealthState(entry["state"]) for entry in entries), key=SEVERITY.__getitem__)
    if worst is HealthState.UP:
        message = f"Up: {', '.join(entry['name'] for entry in entries)}."
        return Verdict(ConditionType.DATASTORES_READY, "True", Reason.UP, message)
    bad = sorted((entry for entry in entries if entry["state"] != HealthState.UP), key=_by_severity)
    message = " ".join(f"{entry['name']} is {entry['state']}: {entry['message']}" for entry in bad)
    status = "Unknown" if worst is HealthState.UNKNOWN else "False"
    return Verdict(ConditionType.DATASTORES_READY, status, _REASONS[worst], message)  # type: ignore[arg-type]  # a Literal


def backends_verdict(stored: Stored, backends: Backends, health: HealthOf) -> Verdict | None:
    """Return BackendsReachable of a model, None unless it asks for probes."""
    if not backends:
        return None
    found = [(name, health.get(target)) for name, target in backends]
    judged = [(name, one) for name, one in found if one is not None]
    bad = [(name, one) for name, one in judged if one.state is not HealthState.UP]
    if not bad and len(judged) < len(found):
        told = verdict_told(stored.parse_status(), ConditionType.BACKENDS_REACHABLE, stored.generation)
        return told or _unknown_backends()
    if not bad:
        message = f"Reachable: {', '.join(name for name, _ in found)}."
        return Verdict(ConditionType.BACKENDS_REACHABLE, "True", Reason.REACHABLE, message)
    refused = all(one.reason is HealthReason.REFUSED for _, one in bad)
    message = " ".join(f"{name}: {one.message}" for name, one in bad)
    reason = Reason.REFUSED if refused else Reason.UNREACHABLE
    return Verdict(ConditionType.BACKENDS_REACHABLE, "False", reason, _cut(message))


def _entry(name: str, known: Health | None, told: dict[str, Any] | None) -> dict[str, Any]:
    if known is None:
        if told is not None:
            return told
        return {
            "name": name,
            "state": HealthState.UNKNOWN.value,
            "reason": HealthReason.NOT_PROBED.value,
            "message": _NOT_PROBED,
        }
    since = known.since
    if told is not None and told.get("state") == known.state:
        since = told.get("since") or since
    return {
        "name": name,
        "state": known.state.value,
        "reason": known.reason.value,
        "message": _cut(known.message),
        "since": since,
    }


def _told(stored: Stored) -> dict[str, dict[str, Any]]:
    """Return what status says, by name of the store; what is not of our form is left out."""
    entries = stored.parse_status().get("datastores")
    states = {state.value for state in HealthState}
    return {
        entry["name"]: entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and entry.get("state") in states
        and isinstance(entry.get("message"), str)
    }


def _unknown_backends() -> Verdict:
    return Verdict(ConditionType.BACKENDS_REACHABLE, "Unknown", Reason.PENDING, "Backends are not probed yet.")


def _by_severity(entry: dict[str, Any]) -> tuple[int, str]:
    return -SEVERITY[HealthState(entry["state"])], entry["name"]


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 1]}…"
