"""The controller's half of the audit trail: what it saw stored, made of it, and proved; and who led meanwhile.

An edit is recorded once its round has judged it, by the leader alone: its record says that the API server has stored what
admission let in. Records of a revision list the traces of the edits in it. After a restart only what status has not
observed yet is told, so that nothing is told twice without need. Never waits and never raises: the log's spool is its own
affair. Called by `controller`, and by `main` about leadership.
Source: docs/audit.md#what-is-recorded, #what-cannot-be-relied-on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Final, Literal

from aigateway_logs import OperationRecord, trace_of_generation
from aigateway_operator.api.conditions import ConditionType
from aigateway_operator.api.meta import GATEWAY_CONFIG, GatewayKey
from aigateway_operator.audit import ChangeType, change_summary, field_changes, trace_of_revision
from aigateway_operator.kube.resources import Resource
from aigateway_operator.plan.health import BackendTarget, HealthOf, HealthState, Probing, Target
from aigateway_operator.plan.proof import Phase, Proof
from aigateway_operator.plan.result import Plan, StatusWrite
from aigateway_operator.plan.snapshot import Snapshot, Stored
from aigateway_operator.reconcile.ports import Recorder

SOURCE: Final = "controller"
MAX_TRACES: Final = 1000
"""Traces in one record; a burst of more gets several records of the same revision."""
_MAX_PODS: Final = 20
_Status = Literal["success", "failure"]


@dataclass(frozen=True, slots=True)
class _Edit:
    """One change that the watch has shown. `old`: what was known before; None: nothing."""

    kind: str
    old: Stored | None
    new: Stored
    change_type: ChangeType
    seen: datetime

    @property
    def trace(self) -> str:
        return trace_of_generation(self.new.uid, self.new.generation)


@dataclass(slots=True)
class _Told:
    """What has been told of one gateway. traces: of edits that no record of a revision names yet; unproved: of those whose
    revision no record of pods names yet; failed: of those that were named in a record of pods that do not run it, the latest
    `MAX_TRACES`. rollout, health: what the last record said.
    """

    edits: list[_Edit] = field(default_factory=list)
    traces: dict[str, None] = field(default_factory=dict)
    unproved: dict[str, None] = field(default_factory=dict)
    failed: dict[str, None] = field(default_factory=dict)
    rollout: tuple[object, ...] | None = None
    health: dict[str, HealthState] = field(default_factory=dict)
    failure: str = ""


class Journal:
    """Makes records. `recorder` None, or one that keeps none: nothing is made or remembered for them."""

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder
        self._told: dict[GatewayKey, _Told] = {}

    @property
    def keeps(self) -> bool:
        """Whether anybody keeps records now. Those of a burst's edits would be a third of what its rounds compute."""
        return self._recorder is not None and self._recorder.keeps_operations

    # -- what the watch shows

    def saw(self, resource: Resource, before: Stored | None, stored: Stored) -> None:
        """Take note of an object that was put into the store; only a generation that status does not know yet is an edit."""
        if not self.keeps:
            return
        same = before is not None and (before.uid, before.generation) == (stored.uid, stored.generation)
        if same or stored.told("observedGeneration") >= stored.generation:
            return
        change: ChangeType = "create" if stored.generation == 1 else "update"
        old = before if before is not None and before.uid == stored.uid else None
        self._keep(_Edit(resource.kind, old, stored, change, datetime.now(UTC)))

    def saw_gone(self, resource: Resource, stored: Stored) -> None:
        """Take note of a deletion."""
        if self.keeps:
            self._keep(_Edit(resource.kind, stored, stored, "delete", datetime.now(UTC)))

    def begin(self, resource: Resource, objects: Sequence[Stored]) -> None:
        """Begin to lead: edits that no leader has answered yet are told by us."""
        for stored in objects:
            self.saw(resource, None, stored)

    def stand_by(self) -> None:
        """Lead no more: another process tells the rest."""
        self._told.clear()

    def forget(self, key: GatewayKey) -> None:
        """Forget a gateway that nothing names any more."""
        self._told.pop(key, None)

    # -- what a round makes of it

    def round_done(self, key: GatewayKey, snapshot: Snapshot, made: Plan, writes: int, seconds: float) -> None:
        """Tell what a round has judged, written, and learned of pods and stores. `seconds`: how long it took."""
        if not self.keeps:
            return
        told = self._told.setdefault(key, _Told())
        told.failure = ""
        self._tell_edits(key, told, made)
        self._tell_render(key, told, snapshot, made, writes, seconds)
        self._tell_rollout(key, told, snapshot)
        self._tell_health(key, told, snapshot, made.probing, snapshot.health)

    def round_failed(self, key: GatewayKey, reason: str) -> None:
        """Tell that a round failed, once until another reason or a success."""
        if not self.keeps:
            return
        told = self._told.setdefault(key, _Told())
        kind = reason[:80]
        if told.failure == kind:
            return
        told.failure = kind
        traces = [*told.traces, *(edit.trace for edit in told.edits)][:MAX_TRACES]
        self._record(
            OperationRecord(
                "render",
                f"A round of gateway {key} failed; it is tried again",
                status="failure",
                level="WARNING",
                source=SOURCE,
                resource_type=GATEWAY_CONFIG,
                resource_id=str(key),
                metadata={"reason": reason, "traces": traces},
                trace_id=traces[0] if len(traces) == 1 else None,
            )
        )

    def leadership(self, identity: str, *, leads: bool) -> None:
        """Tell that this process leads from now on, or does not any more."""
        word = "leads" if leads else "does not lead any more"
        text = f"{identity} {word}"
        self._record(OperationRecord("leadership", text, source=SOURCE, user_id=identity, metadata={"leads": leads}))

    def _keep(self, edit: _Edit) -> None:
        """Let the rounds of every gateway concerned tell it; the one it names now first."""
        if edit.kind == GATEWAY_CONFIG:
            keys = [GatewayKey(edit.new.namespace, edit.new.name)]
        else:
            names = dict.fromkeys([edit.new.gateway, *([edit.old.gateway] if edit.old is not None else [])])
            keys = [GatewayKey(edit.new.namespace, name) for name in names]
        self._told.setdefault(keys[0], _Told()).edits.append(edit)
        for key in keys[1:]:
            self._told.setdefault(key, _Told()).traces[edit.trace] = None

    def _tell_edits(self, key: GatewayKey, told: _Told, made: Plan) -> None:
        judged = {(status.kind, status.name): status for status in made.statuses}
        edits, told.edits = told.edits, []
        for edit in edits:
            status = judged.get((edit.kind, edit.new.name)) if edit.change_type != "delete" else None
            current = status is not None and (status.uid, status.generation) == (edit.new.uid, edit.new.generation)
            self._record(_edit_record(edit, status if current else None, key))
            told.traces[edit.trace] = None

    def _tell_render(self, key: GatewayKey, told: _Told, snapshot: Snapshot, made: Plan, writes: int, seconds: float) -> None:
        traces, told.traces = told.traces, {}
        if not writes or snapshot.gateway is None or made.revision is None:
            return
        lineage = snapshot.gateway.uid
        for part in _parts(traces):
            self._record(
                OperationRecord(
                    "render",
                    f"Wrote revision {made.revision} of gateway {key}",
                    source=SOURCE,
                    resource_type=GATEWAY_CONFIG,
                    resource_id=str(key),
                    duration_ms=round(seconds * 1000, 3),
                    metadata={
                        "revision": made.revision,
                        "credentials_revision": made.credentials_revision,
                        "lineage": lineage,
                        "objects": [f"{write.kind}/{write.name}" for write in made.writes],
                        "models": len(made.served),
                        "traces": part,
                    },
                    trace_id=_trace(part, lineage, made.revision, made.credentials_revision),
                )
            )
        if made.delivery is not None and made.delivery.pod_selector is not None:
            told.unproved.update(traces)

    def _tell_rollout(self, key: GatewayKey, told: _Told, snapshot: Snapshot) -> None:
        proof = snapshot.proof
        if proof is None or snapshot.gateway is None or proof.desired == 0:
            return
        target = proof.target
        if not proof.complete and proof.phase is not Phase.SETTLED:
            return
        outcome = (target.revision, target.credentials_revision, proof.complete, proof.stragglers, proof.unreachable)
        first = told.rollout is None
        if outcome == told.rollout:
            return
        told.rollout = outcome
        if first and proof.complete and not told.unproved:
            return  # nothing but what was told by whoever led before
        # A trace is named once when pods fail and once when all run it: one pod that never does must not make every later
        # record name every edit since.
        named, told.unproved = told.unproved, {}
        if proof.complete:
            named, told.failed = told.failed | named, {}
        else:
            failed = [*told.failed, *named]
            told.failed = dict.fromkeys(failed[-MAX_TRACES:])
        for part in _parts(named):
            self._record(_rollout_record(key, proof, part, snapshot.gateway.uid))

    def _tell_health(self, key: GatewayKey, told: _Told, snapshot: Snapshot, probing: Probing | None, health: HealthOf) -> None:
        if probing is None or snapshot.gateway is None:
            return
        targets: dict[str, Target] = {}
        targets |= dict(probing.stores.items())
        targets |= {f"{backend.host}:{backend.port}": backend for backend in probing.backends}
        for name, target in targets.items():
            found = health.get(target)
            if found is None:
                continue
            before = told.health.get(name) or _status_says(snapshot.gateway, name, target)
            told.health[name] = found.state
            if before is found.state:
                continue
            up = found.state is HealthState.UP
            kind = "Backend" if isinstance(target, BackendTarget) else "Datastore"
            self._record(
                OperationRecord(
                    "health_change",
                    f"{name} of gateway {key} is {found.state}, was {before}: {found.message}",
                    status="success" if up else "failure",
                    level="INFO" if up else "WARNING",
                    source=SOURCE,
                    resource_type=kind,
                    resource_id=f"{key}/{name}",
                    metadata={
                        "gateway": str(key),
                        "previous_version": before,
                        "new_version": found.state,
                        "reason": found.reason,
                        "since": found.since,
                    },
                )
            )

    def _record(self, record: OperationRecord) -> None:
        if self._recorder is not None:
            self._recorder.operation_nowait(record)


def _edit_record(edit: _Edit, status: StatusWrite | None, key: GatewayKey) -> OperationRecord:
    """Return the record of an edit; `status` None: a newer edit or a deletion was judged instead."""
    deleted = edit.change_type == "delete"
    old = edit.old.parse_spec() if edit.old is not None else None
    # Without the object before, as after a restart, what an update changed is not known; admission's record has it.
    known = edit.change_type == "create" or (edit.old is not None and not deleted)
    changes = field_changes(old, edit.new.parse_spec()) if known else []
    summary = change_summary(edit.change_type, changes) if known or deleted else "changed while nobody looked"
    refused = _not_accepted(status)
    name = f"{edit.new.namespace}/{edit.new.name}"
    outcome: _Status = "failure" if refused else "success"
    return OperationRecord(
        "config_update",
        f"{edit.kind} {name} was stored: {summary}" if not deleted else f"{edit.kind} {name} is gone",
        status=outcome,
        level="WARNING" if refused else "INFO",
        source=SOURCE,
        resource_type=edit.kind,
        resource_id=name,
        response_data=None if status is None else {"accepted": not refused, "message": refused},
        metadata={
            "change_type": edit.change_type,
            "change_summary": summary,
            "previous_version": edit.old.generation if edit.old is not None else edit.new.told("observedGeneration") or None,
            "new_version": None if deleted else edit.new.generation,
            "changed_by": None,  # the watch does not say; admission's record of this trace does
            "changes": changes,
            "gateway": str(key),
        },
        trace_id=edit.trace,
        timestamp=edit.seen,
    )


def _not_accepted(status: StatusWrite | None) -> str:
    """Return why an object is not accepted, "" if it is."""
    for verdict in status.verdicts if status is not None else ():
        if verdict.type == ConditionType.ACCEPTED and verdict.status != "True":
            return f"{verdict.reason}: {verdict.message}"
    return ""


def _rollout_record(key: GatewayKey, proof: Proof, traces: list[str], lineage: str) -> OperationRecord:
    target, done = proof.target, proof.complete
    behind = proof.blind or ", ".join([*proof.stragglers, *proof.unreachable][:_MAX_PODS])
    message = (
        f"{proof.updated} of {proof.desired} pods of gateway {key} run revision {target.revision}"
        if done
        else f"{proof.updated} of {proof.desired} pods of gateway {key} run revision {target.revision}; not: {behind}"
    )
    return OperationRecord(
        "rollout",
        message,
        status="success" if done else "failure",
        level="INFO" if done else "WARNING",
        source=SOURCE,
        resource_type=GATEWAY_CONFIG,
        resource_id=str(key),
        duration_ms=proof.last_duration_milliseconds if done else None,
        metadata={
            "revision": target.revision,
            "credentials_revision": target.credentials_revision,
            "lineage": lineage,
            "desired": proof.desired,
            "updated": proof.updated,
            "stragglers": list(proof.stragglers[:_MAX_PODS]),
            "unreachable": list(proof.unreachable[:_MAX_PODS]),
            "restart_required": list(proof.restart_required),
            "traces": traces,
        },
        trace_id=_trace(traces, lineage, target.revision, target.credentials_revision),
    )


def _parts(traces: Mapping[str, None]) -> Iterator[list[str]]:
    """Yield traces in pieces that fit a record; one empty piece where there are none."""
    rest = iter(traces)
    yield list(islice(rest, MAX_TRACES))
    while part := list(islice(rest, MAX_TRACES)):
        yield part


def _trace(traces: Sequence[str], lineage: str, revision: int, credentials_revision: int | None) -> str:
    return traces[0] if len(traces) == 1 else trace_of_revision(lineage, revision, credentials_revision or 0)


def _status_says(gateway: Stored, name: str, target: Target) -> HealthState:
    """Return what status says of a store, so that a restart tells nothing anew; a backend counts as up until it is not."""
    if isinstance(target, BackendTarget):
        return HealthState.UP
    entries = gateway.parse_status().get("datastores")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name and entry.get("state") in set(HealthState):
            return HealthState(str(entry["state"]))
    return HealthState.UNKNOWN
