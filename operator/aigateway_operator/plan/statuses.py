"""What the status of every object of a round should say, from what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from aigateway_operator.api import meta
from aigateway_operator.api.conditions import Reason, Verdict
from aigateway_operator.plan import verdicts
from aigateway_operator.plan.assess import ModelAssessment
from aigateway_operator.plan.health_status import backends_verdict, datastore_fields, datastores_verdict, kept_datastores
from aigateway_operator.plan.memo import Memo
from aigateway_operator.plan.mirroring import tell_of_mirror
from aigateway_operator.plan.news import references
from aigateway_operator.plan.outcome import Outcome
from aigateway_operator.plan.probing import enabled_stores
from aigateway_operator.plan.propagation import propagation
from aigateway_operator.plan.result import StatusWrite
from aigateway_operator.plan.snapshot import Snapshot, Stored
from aigateway_operator.plan.unit import Unit
from aigateway_operator.render.shards import shard_of


def statuses(snapshot: Snapshot, memo: Memo, outcome: Outcome) -> Iterator[StatusWrite]:
    """Yield the statuses that may differ from what was said with this memo before; models by name, then the GatewayConfig."""
    units = _placed(outcome)
    for name in sorted(memo.told.names(snapshot, memo.known, outcome)):
        stored, assessment = snapshot.models[name], outcome.assessments[name]
        write = _model_status(snapshot, outcome, stored, assessment, units(name))
        memo.told.note(write)
        yield write
    if snapshot.gateway is not None:
        yield gateway_status(snapshot, outcome)


def _placed(outcome: Outcome) -> Callable[[str], Unit | None]:
    """Return what tells the unit that a model is in, or held out of."""
    if any(unit.held_out for unit in outcome.units):
        found = {claim.owner: unit for unit in outcome.units for claim in unit.entries.values()}
        found.update({owner: unit for unit in outcome.units for owner in unit.held_out})
        return found.get
    units = {unit.shard: unit for unit in outcome.units}

    def unit_of(owner: str) -> Unit | None:
        claim = outcome.claims.places.get(owner)
        return units.get(shard_of(claim.name, outcome.shards) if outcome.shards > 1 else None) if claim is not None else None

    return unit_of


def _too_large_file(outcome: Outcome, assessment: ModelAssessment, unit: Unit | None) -> str | None:
    """Return a credentials file of the model whose value does not fit, None if all do."""
    left_out = outcome.too_large.get(unit.shard) if unit is not None else None
    if not left_out or assessment.entry is None:
        return None
    return min(left_out & assessment.entry.credentials.keys(), default=None)


def _model_status(
    snapshot: Snapshot, outcome: Outcome, stored: Stored, assessment: ModelAssessment, unit: Unit | None
) -> StatusWrite:
    accepted = _accepted(snapshot, outcome, stored, assessment)
    refs = verdicts.refs_not_checked()
    if assessment.entry is not None and snapshot.gateway is not None:
        refs = verdicts.resolved_refs(references(assessment), snapshot.secrets)
    programmed = _programmed(snapshot, outcome, stored, assessment, accepted, unit)
    parts = (accepted, refs, programmed)
    served = outcome.served.get(stored.name)
    fields: dict[str, Any] = {"modelName": assessment.model_name}
    if served is not None and served.source == stored.source:
        fields["modelName"] = served.entry.model_name
        revision = served.revision or stored.told("revision")
        if revision:
            fields["revision"] = revision
    summary = verdicts.ready(parts, programmed.message)
    reachable = backends_verdict(stored, assessment.backends, snapshot.health)
    conditions = (*parts, summary) if reachable is None else (*parts, summary, reachable)
    return StatusWrite(meta.VIRTUAL_MODEL, stored.name, stored.uid, stored.generation, conditions, fields)


def _accepted(snapshot: Snapshot, outcome: Outcome, stored: Stored, assessment: ModelAssessment) -> Verdict:
    if assessment.violations:
        return verdicts.invalid(assessment.violations)
    if snapshot.gateway is None:
        return verdicts.gateway_not_found(snapshot.key.namespace, snapshot.key.name)
    winner = outcome.claims.conflicts.get(stored.name)
    if winner is not None:
        return verdicts.conflict(assessment.model_name, winner)
    return verdicts.accepted()


def _programmed(
    snapshot: Snapshot, outcome: Outcome, stored: Stored, assessment: ModelAssessment, accepted: Verdict, unit: Unit | None
) -> Verdict:
    kept = outcome.claims.kept.get(stored.name)
    if unit is not None and unit.shard in outcome.blocked:
        return verdicts.programmed("False", Reason.PENDING, outcome.blocked[unit.shard])
    if accepted.status != "True":
        if kept is not None:
            message = f"The last valid version is still served as '{kept}'; this generation is not."
            return verdicts.programmed("False", Reason.KEPT_LAST_GOOD, message)
        if stored.name in snapshot.served_elsewhere:
            message = "The last valid version is still served by the gateway it was moved away from; this generation is not."
            return verdicts.programmed("False", Reason.KEPT_LAST_GOOD, message)
        return verdicts.programmed("False", Reason.PENDING, "Not served: the object is not accepted.")
    if unit is None:
        state = "is being deleted" if snapshot.gateway is not None and snapshot.gateway.deleting else "has no documents yet"
        message = f"This generation is not served: GatewayConfig '{snapshot.key.name}' {state}."
        return verdicts.programmed("False", Reason.PENDING, message)
    if stored.name in unit.held_out:
        message = verdicts.too_large(snapshot.key.name, unit.wanted_bytes, outcome.shards)
        return verdicts.programmed("False", Reason.TOO_LARGE, message)
    file = _too_large_file(outcome, assessment, unit)
    if file is not None:
        return verdicts.programmed("False", Reason.TOO_LARGE, verdicts.credentials_too_large(file))
    off = assessment.entry is not None and not assessment.entry.use
    message = f"Served as '{assessment.model_name}'{', switched off' if off else ''}."
    return verdicts.programmed("True", Reason.PROGRAMMED, message)


def gateway_status(snapshot: Snapshot, outcome: Outcome) -> StatusWrite:
    """Return the status of the GatewayConfig."""
    stored, assessment = snapshot.gateway, outcome.gateway
    assert stored is not None and assessment is not None  # noqa: S101, PT018 - only called with a gateway
    accepted = verdicts.invalid(assessment.violations) if assessment.violations else verdicts.accepted()
    refs = verdicts.refs_not_checked()
    if assessment.settings is not None:
        refs = verdicts.resolved_refs(
            [ref for ref in assessment.settings.credentials.values() if ref is not None], snapshot.secrets
        )
    programmed = _gateway_programmed(snapshot, outcome, accepted)
    parts = (accepted, refs, programmed)
    pods = propagation(snapshot, outcome)
    stores = _datastores(snapshot, outcome)
    conditions = (
        *parts,
        tell_of_mirror(pods.verdict, snapshot, outcome),
        datastores_verdict(stores),
        verdicts.ready(parts, programmed.message),
    )
    fields: dict[str, Any] = {"models": _counts(outcome), **pods.fields}
    if stores:
        fields["datastores"] = stores
    # Never lower than it was, even while documents are blocked: numbers are seeded from it.
    revision = max(outcome.revision or 0, stored.told("revision"))
    if revision:
        fields["revision"] = revision
    return StatusWrite(meta.GATEWAY_CONFIG, stored.name, stored.uid, stored.generation, conditions, fields, pods.urgent)


def _datastores(snapshot: Snapshot, outcome: Outcome) -> list[dict[str, Any]]:
    """Return what the status says of each enabled store."""
    stored, assessment = snapshot.gateway, outcome.gateway
    assert stored is not None and assessment is not None  # noqa: S101, PT018 - only called with a gateway
    if assessment.spec is None or outcome.probing is None:
        return kept_datastores(stored)
    return datastore_fields(stored, enabled_stores(assessment.spec), outcome.probing, snapshot.health)


def _counts(outcome: Outcome) -> dict[str, int]:
    """Return how many models are accepted, rejected, and switched off among the accepted."""
    losers = [outcome.assessments[name].entry for name in outcome.claims.conflicts]
    accepted = outcome.valid - len(losers)
    off = outcome.off - sum(entry is not None and not entry.use for entry in losers)
    return {"accepted": accepted, "rejected": len(outcome.assessments) - accepted, "off": off}


def _gateway_programmed(snapshot: Snapshot, outcome: Outcome, accepted: Verdict) -> Verdict:
    assert snapshot.gateway is not None  # noqa: S101 - only called with a gateway
    if snapshot.gateway.deleting:
        return verdicts.programmed("False", Reason.PENDING, "The GatewayConfig is being deleted.")
    if not outcome.units:
        return verdicts.programmed("False", Reason.PENDING, "Nothing is rendered: the object is not accepted.")
    if outcome.blocked:
        reason = Reason.NAME_TAKEN if outcome.taken else Reason.PENDING
        return verdicts.programmed("False", reason, " ".join(sorted(set(outcome.blocked.values()))))
    if accepted.status != "True":
        message = "Pods keep the last valid settings; this generation is not rendered. Models are served as usual."
        return verdicts.programmed("False", Reason.KEPT_LAST_GOOD, message)
    held_out = [unit for unit in outcome.units if unit.held_out or unit.settings_held_out or not unit.fits]
    if held_out:
        wanted_bytes = max(unit.wanted_bytes for unit in held_out)
        message = verdicts.too_large(snapshot.key.name, wanted_bytes, outcome.shards)
        return verdicts.programmed("False", Reason.TOO_LARGE, message)
    files = [file for left_out in outcome.too_large.values() for file in left_out]
    if files:
        return verdicts.programmed("False", Reason.TOO_LARGE, verdicts.credentials_too_large(min(files)))
    fullest = max(outcome.units, key=lambda unit: unit.size_bytes)
    warning = verdicts.nearly_full(fullest.document.file, fullest.size_bytes)
    count = len(outcome.units)
    return verdicts.programmed("True", Reason.PROGRAMMED, f"{count} document{'s' if count > 1 else ''} rendered.{warning}")
