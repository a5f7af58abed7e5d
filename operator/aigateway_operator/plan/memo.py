"""What one gateway's rounds remember, so that a round costs what changed and not what exists. It never changes a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aigateway_operator.plan.assess import GatewayAssessment, ModelAssessment, assess_gateway, assess_model
from aigateway_operator.plan.claims import Claims, Settled, settle_claims, settled_claims
from aigateway_operator.plan.health import HealthOf
from aigateway_operator.plan.result import StatusWrite
from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.plan.snapshot import Served, Snapshot, Stored
from aigateway_operator.plan.units import Renderings
from aigateway_operator.render.entries import Entry
from aigateway_operator.render.references import SecretRef
from aigateway_operator.render.settings import Settings
from aigateway_operator.rules import RuleContext


@dataclass(frozen=True, slots=True)
class Quiet:
    """What models' statuses are made from beside the models themselves, in a round where nothing is out of the ordinary.

    Two rounds with equal ones give the same statuses to models that are the same. See `statuses`.
    """

    deleting: bool
    shards: int
    secrets: Mapping[str, SecretState]
    health: HealthOf


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model was in the last quiet round, to be compared by identity, and the status it was found to need."""

    stored: Stored
    served: Served | None
    placed: bool
    write: StatusWrite


@dataclass(frozen=True, slots=True)
class References:
    """Secrets and keys that a round needed, and what they were gathered from."""

    assessments: Mapping[str, ModelAssessment]
    served: Mapping[str, Served]
    settings: tuple[Settings | None, Settings | None]
    keys: dict[str, frozenset[str]]


@dataclass(slots=True)
class Memo:
    """Assessments by object, claims, renderings by shard, and the status each model was last found to need, with its inputs."""

    models: dict[str, ModelAssessment] = field(default_factory=dict)
    gateway: GatewayAssessment | None = None
    settled: Settled | None = None
    renderings: Renderings = field(default_factory=Renderings)
    statuses: dict[str, tuple[tuple[Any, ...], StatusWrite]] = field(default_factory=dict)
    quiet: Quiet | None = None
    seen: dict[str, Seen] = field(default_factory=dict)
    references: References | None = None

    def assess_models(self, models: Mapping[str, Stored], context: RuleContext) -> dict[str, ModelAssessment]:
        """Return the assessment of every model, made anew only for those that changed; forget models that are gone."""
        known = self.models
        assessed: dict[str, ModelAssessment] = {}
        for name, stored in models.items():
            found = known.get(name)
            if found is None or found.generation != stored.generation or found.uid != stored.uid:
                found = assess_model(stored, context)
            assessed[name] = found
        self.models = assessed
        if len(self.statuses) > len(assessed):
            self.statuses = {name: status for name, status in self.statuses.items() if name in assessed}
            self.seen = {name: seen for name, seen in self.seen.items() if name in assessed}
        return assessed

    def assess_gateway(self, stored: Stored, context: RuleContext) -> GatewayAssessment:
        """Return the assessment of the GatewayConfig, made anew only if it changed."""
        found = self.gateway
        if found is None or found.generation != stored.generation or found.uid != stored.uid:
            found = self.gateway = assess_gateway(stored, replace(context, name=stored.name))
        return found

    def settle_claims(self, snapshot: Snapshot, assessments: Mapping[str, ModelAssessment]) -> Claims:
        """Return who is served under which name, settled anew only as far as it has to be."""
        claims = settle_claims(snapshot, assessments, self.settled)
        self.settled = settled_claims(snapshot, assessments, claims)
        return claims


def referenced_secrets(snapshot: Snapshot, memo: Memo) -> dict[str, frozenset[str]]:
    """Return every Secret and the keys that this gateway's round needs to know: of accepted specs and of the last good."""
    assessments = memo.assess_models(snapshot.models, snapshot.context)
    accepted = memo.assess_gateway(snapshot.gateway, snapshot.context).settings if snapshot.gateway is not None else None
    settings = (snapshot.settings, accepted)
    known = memo.references
    keys = known.keys if known is not None and _same_references(known, assessments, snapshot.served, settings) else None
    if keys is None:
        keys = _gather_references(assessments, snapshot.served, settings)
    memo.references = References(assessments, snapshot.served, settings, keys)
    return dict(keys)


def _same_references(
    known: References,
    assessments: Mapping[str, ModelAssessment],
    served: Mapping[str, Served],
    settings: tuple[Settings | None, Settings | None],
) -> bool:
    """Tell whether nothing names another credential than before; most are the very objects of before."""
    if known.settings != settings or known.assessments.keys() != assessments.keys() or known.served.keys() != served.keys():
        return False
    for name, assessment in assessments.items():
        before = known.assessments[name]
        if before is not assessment and _credentials(before.entry) != _credentials(assessment.entry):
            return False
    for name, one in served.items():
        last = known.served[name]
        if last is not one and last.entry is not one.entry and last.entry.credentials != one.entry.credentials:
            return False
    return True


def _credentials(entry: Entry | None) -> Mapping[str, SecretRef | None]:
    return entry.credentials if entry is not None else {}


def _gather_references(
    assessments: Mapping[str, ModelAssessment],
    served: Mapping[str, Served],
    settings: tuple[Settings | None, Settings | None],
) -> dict[str, frozenset[str]]:
    keys: dict[str, set[str]] = {}
    named = [assessment.entry.credentials for assessment in assessments.values() if assessment.entry]
    named.extend(one.entry.credentials for one in served.values())
    named.extend(one.credentials for one in settings if one is not None)
    for credentials in named:
        for ref in credentials.values():
            if ref is not None:
                keys.setdefault(ref.secret, set()).add(ref.key)
    return {secret: frozenset(names) for secret, names in keys.items()}
