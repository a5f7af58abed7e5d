"""What pods are to prove after a round, and what the status says of it. Pure.

A proof is believed for its own target only. While pods are given their time nothing is written but the one sentence that says
so, and after a restart of the operator what the status says of the very same target stays until pods have been asked.
Source: docs/concepts.md#delivery-and-proof; docs/status.md#gatewayconfig.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aigateway_config import documents
from aigateway_operator.api.conditions import ConditionType, Reason, Verdict
from aigateway_operator.plan import names, verdicts
from aigateway_operator.plan.outcome import Outcome
from aigateway_operator.plan.proof import Phase, Proof, Target
from aigateway_operator.plan.snapshot import LiveObject, Snapshot, Stored
from aigateway_operator.plan.told import verdict_told
from aigateway_operator.plan.unit import Unit

MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Propagation:
    """What the status of a GatewayConfig says of its pods. `urgent`: it is newly true that all pods run it."""

    verdict: Verdict
    fields: Mapping[str, Any]
    urgent: bool = False


def is_proved(snapshot: Snapshot, units: list[Unit]) -> bool:
    """Tell whether every running pod runs the very documents that this round would write, none of which changes in it."""
    proof = snapshot.proof
    if proof is None or not (proof.complete and proof.everyone):
        return False
    live = {unit.document.file: _live_document(snapshot, unit) for unit in units}
    same = all(found is not None and found[1] == unit.document.digest for unit, found in zip(units, live.values(), strict=True))
    return same and live == proof.target.documents


def make_target(
    snapshot: Snapshot, outcome: Outcome, credentials: Mapping[int | None, int], *, housekeeping: bool, repeats: bool
) -> Target | None:
    """Return what pods should say after the writes; None without documents. `credentials`: shard → revision of its Secret."""
    assert snapshot.gateway is not None  # noqa: S101 - only called with a gateway
    if outcome.revision is None:
        return None
    told: dict[str, tuple[int, str]] = {}
    everything_lands = outcome.everything_lands
    for unit in outcome.units:
        made = unit.document
        if everything_lands or outcome.lands(unit):
            told[made.file] = outcome.revisions.get(unit.shard, 0), made.digest
        elif (document := _live_document(snapshot, unit)) is not None:
            told[made.file] = document
    revisions = {documents.credentials_manifest(shard): revision for shard, revision in credentials.items()}
    return Target(
        revision=outcome.revision,
        credentials_revision=max(revisions.values(), default=0),
        lineage=snapshot.gateway.uid,
        documents=told,
        credentials=revisions,
        housekeeping=housekeeping,
        repeats=repeats,
    )


def propagation(snapshot: Snapshot, outcome: Outcome) -> Propagation:
    """Return what the status says of pods."""
    stored, proof, target = snapshot.gateway, snapshot.proof, outcome.target
    assert stored is not None and outcome.gateway is not None  # noqa: S101, PT018 - only called with a gateway
    spec = outcome.gateway.spec
    if spec is not None and spec.delivery.pod_selector is None:
        return Propagation(verdicts.no_selector(), {})
    if target is None:
        return Propagation(verdicts.not_asked(), {})
    kept = _told(stored, target)
    if proof is not None and proof.blind:
        return _said(verdicts.blind(proof.blind), target, None, 0, 0)
    if proof is None or not _is_about(proof, target):
        if proof is None and kept is not None:
            return kept
        if proof is None and spec is None:
            return Propagation(verdicts.not_asked(), {})
        return _said(verdicts.progressing(), target, None if proof is None else proof.desired, 0, 0)
    if proof.phase is Phase.PROGRESSING and kept is not None and kept.verdict.status != "True":
        return kept
    fields = dict(_said(_verdict(proof), proof.target, proof.desired, proof.updated, proof.unknown).fields)
    return _with_details(stored, proof, fields)


def _is_about(proof: Proof, target: Target) -> bool:
    """Tell whether a proof still is what is to be said although this round may have changed the target."""
    if proof.speaks_of(target):
        return True
    return target.housekeeping and proof.complete and proof.target.documents == target.documents


def _with_details(stored: Stored, proof: Proof, fields: dict[str, Any]) -> Propagation:
    rollout = fields["rollout"]
    if proof.stragglers or proof.unreachable:
        rollout["stragglers"] = [*proof.stragglers, *proof.unreachable][:MAX_NAMED]
    if proof.restart_required:
        rollout["restartRequired"] = list(proof.restart_required)
    duration = proof.last_duration_milliseconds
    if duration is None:
        duration = stored.told("rollout", "lastDurationMilliseconds") or None
    if duration is not None:
        rollout["lastDurationMilliseconds"] = duration
    verdict = _verdict(proof)
    kept = _told(stored, proof.target)
    newly = verdict.status == "True" and (kept is None or kept.verdict.status != "True")
    return Propagation(verdict, fields, urgent=newly)


def _said(verdict: Verdict, target: Target, desired: int | None, updated: int, unknown: int) -> Propagation:
    """Return fields with the numbers; `desired` None: it is not known yet how many pods there are."""
    rollout: dict[str, Any] = {"revision": target.revision, "credentialsRevision": target.credentials_revision}
    if desired is None:
        return Propagation(verdict, {"rollout": rollout})
    rollout |= {"desired": desired, "updated": updated, "unknown": unknown}
    return Propagation(verdict, {"rollout": rollout, "pods": f"{updated}/{desired}"})


def _verdict(proof: Proof) -> Verdict:
    if proof.complete:
        return verdicts.propagated(proof.desired)
    if proof.phase is Phase.PROGRESSING:
        return verdicts.progressing()
    if proof.desired == 0:
        return verdicts.no_pods()
    wrong = [*proof.stragglers, *proof.unreachable]
    named = [f"{name} {proof.reasons[name]}" for name in wrong[:MAX_NAMED]]
    more = len(wrong) - len(named)
    if proof.stragglers:
        return verdicts.stragglers(named, more)
    return verdicts.unreachable(named, more)


def _told(stored: Stored, target: Target) -> Propagation | None:
    """Return what the status says of this very target, None if it speaks of another or of none."""
    status = stored.parse_status()
    rollout = status.get("rollout")
    if not isinstance(rollout, dict):
        return None
    if (rollout.get("revision"), rollout.get("credentialsRevision")) != (target.revision, target.credentials_revision):
        return None
    verdict = verdict_told(status, ConditionType.PROPAGATED)
    if verdict is None or verdict.reason not in _KEPT:
        return None
    pods = {"pods": status["pods"]} if isinstance(status.get("pods"), str) else {}
    return Propagation(verdict, {"rollout": rollout, **pods})


_KEPT = {Reason.PROPAGATED, Reason.PROGRESSING, Reason.STRAGGLERS, Reason.UNREACHABLE, Reason.NO_PODS}
"""What was found out by asking, or is about to be."""


def _live_document(snapshot: Snapshot, unit: Unit) -> tuple[int, str] | None:
    """Return (revision, SHA-256) of a unit's document as it is live, None if there is none of ours that verifies."""
    live: LiveObject | None = snapshot.config_maps.get(names.config_map_name(snapshot.key.name, unit.shard))
    if live is None or live.manifest is None or not (live.ours and live.verified):
        return None
    return live.manifest.revision, live.manifest.sha256
