"""Of which models a round has to say a status: those of which something changed that a status is made from.

The others were said before, by the same memo. What is the same for all models, or changes rarely, is compared as a whole, and
another one means that all are said again. Called by `statuses`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aigateway_operator.api.conditions import ConditionType
from aigateway_operator.plan.assess import ModelAssessment
from aigateway_operator.plan.changes import changed_keys
from aigateway_operator.plan.health import HealthOf
from aigateway_operator.plan.known import Known
from aigateway_operator.plan.outcome import Outcome
from aigateway_operator.plan.result import StatusWrite
from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.plan.snapshot import Snapshot
from aigateway_operator.plan.unit import Unit
from aigateway_operator.render.references import SecretRef


@dataclass(frozen=True, slots=True)
class Standing:
    """What metrics tell of one model. reachable: status of BackendsReachable, None unless it asks for probes."""

    status: str
    reason: str
    reachable: str | None


READY = Standing("True", "Ready", None)


@dataclass(frozen=True, slots=True)
class _Common:
    """What every model's status depends on. exceptions: some models are not in the unit that their claim says."""

    gateway: bool
    deleting: bool
    shards: int
    documents: bool
    exceptions: bool


@dataclass(frozen=True, slots=True)
class _Particular:
    """What statuses depend on that few models have, or that changes rarely."""

    conflicts: Mapping[str, str]
    kept: Mapping[str, str]
    served_elsewhere: Mapping[str, bool]
    blocked: Mapping[int | None, str]
    too_large: Mapping[int | None, frozenset[str]]
    secrets: Mapping[str, SecretState]
    health: HealthOf


@dataclass(slots=True)
class Told:
    """What the last statuses were made from. standings: of models that are not just ready; counted: of all of them."""

    standings: dict[str, Standing] = field(default_factory=dict)
    models: int = 0
    _common: _Common | None = None
    _particular: _Particular | None = None

    def names(self, snapshot: Snapshot, known: Known, outcome: Outcome) -> set[str]:
        """Return the models of which something has to be said, and take note that it is."""
        common, now, before = _common(snapshot, outcome), _particular(snapshot, outcome), self._particular
        if before is None or common != self._common or common.exceptions:
            names = set(snapshot.models)
        else:
            names = known.untold | changed_keys(snapshot.served, outcome.served)
            names |= changed_keys(before.conflicts, now.conflicts) | changed_keys(before.kept, now.kept)
            names |= before.served_elsewhere.keys() ^ now.served_elsewhere.keys()
            names |= set(_of_shards(outcome, before, now))
            names |= set(_of_secrets(known, before.secrets, now.secrets)) | set(_of_health(known, before.health, now.health))
        known.untold.clear()
        self._common, self._particular = common, now
        for name in names:
            if name not in snapshot.models:  # not by difference, which would go through all models
                self.standings.pop(name, None)
        self.models = len(snapshot.models)
        return {name for name in names if name in snapshot.models}

    def note(self, write: StatusWrite) -> None:
        """Take note of what is said of one model."""
        standing = _standing(write)
        if standing == READY:
            self.standings.pop(write.name, None)
        else:
            self.standings[write.name] = standing

    def count(self) -> Counter[Standing]:
        """Return how many models are how."""
        counts = Counter(self.standings.values())
        counts[READY] = self.models - len(self.standings)
        return +counts


def _standing(write: StatusWrite) -> Standing:
    found = {verdict.type: verdict for verdict in write.verdicts}
    ready, reachable = found[ConditionType.READY], found.get(ConditionType.BACKENDS_REACHABLE)
    return Standing(ready.status, ready.reason.value, reachable.status if reachable is not None else None)


def _common(snapshot: Snapshot, outcome: Outcome) -> _Common:
    gateway = snapshot.gateway
    exceptions = any(unit.held_out for unit in outcome.units)
    return _Common(
        gateway is not None, gateway is not None and gateway.deleting, outcome.shards, bool(outcome.units), exceptions
    )


def _particular(snapshot: Snapshot, outcome: Outcome) -> _Particular:
    return _Particular(
        dict(outcome.claims.conflicts),
        dict(outcome.claims.kept),
        dict.fromkeys(snapshot.served_elsewhere, True),
        outcome.blocked,
        outcome.too_large,
        snapshot.secrets,
        snapshot.health,
    )


def _of_shards(outcome: Outcome, before: _Particular, now: _Particular) -> Iterator[str]:
    """Yield the models of units that something is the matter with, or was."""
    units: dict[int | None, Unit] = {unit.shard: unit for unit in outcome.units}
    for shard in now.blocked.keys() | before.blocked.keys() | now.too_large.keys() | before.too_large.keys():
        entries = units[shard].entries if shard in units else {}
        yield from (claim.owner for claim in entries.values())


def _of_secrets(known: Known, before: Mapping[str, SecretState], now: Mapping[str, SecretState]) -> Iterator[str]:
    """Yield the models that name a Secret of which another thing is to be said; another value is not."""
    changed = {name for name in changed_keys(before, now) if _shape(before.get(name)) != _shape(now.get(name))}
    if not changed:
        return
    for name, assessment in known.assessments.items():
        if any(ref.secret in changed for ref in references(assessment)):
            yield name


def _shape(state: SecretState | None) -> tuple[object, ...] | None:
    return None if state is None else (state.known, state.exists, state.refused_type, state.values.keys())


def _of_health(known: Known, before: HealthOf, now: HealthOf) -> Iterator[str]:
    """Yield the models one of whose backends is another way."""
    changed = {target for target in before.keys() | now.keys() if before.get(target) != now.get(target)}
    for name, backends in known.probed.items() if changed else ():
        if any(target in changed for _, target in backends):
            yield name


def references(assessment: ModelAssessment) -> list[SecretRef]:
    """Return what an accepted model names; nothing of one that is not."""
    return [] if assessment.entry is None else [ref for ref in assessment.entry.credentials.values() if ref is not None]
