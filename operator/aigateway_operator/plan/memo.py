"""What one gateway's rounds remember, so that a round costs what changed and not what exists. It never changes a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aigateway_operator.plan.assess import GatewayAssessment, ModelAssessment, assess_gateway, assess_model
from aigateway_operator.plan.result import StatusWrite
from aigateway_operator.plan.snapshot import Snapshot, Stored
from aigateway_operator.plan.units import Renderings
from aigateway_operator.rules import RuleContext


@dataclass(slots=True)
class Memo:
    """Assessments by object, renderings by shard, and the status each model was last found to need, with its inputs."""

    models: dict[str, ModelAssessment] = field(default_factory=dict)
    gateway: GatewayAssessment | None = None
    renderings: Renderings = field(default_factory=Renderings)
    statuses: dict[str, tuple[tuple[Any, ...], StatusWrite]] = field(default_factory=dict)

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
        return assessed

    def assess_gateway(self, stored: Stored, context: RuleContext) -> GatewayAssessment:
        """Return the assessment of the GatewayConfig, made anew only if it changed."""
        found = self.gateway
        if found is None or found.generation != stored.generation or found.uid != stored.uid:
            found = self.gateway = assess_gateway(stored, replace(context, name=stored.name))
        return found


def referenced_secrets(snapshot: Snapshot, memo: Memo) -> dict[str, frozenset[str]]:
    """Return every Secret and the keys that this gateway's round needs to know: of accepted specs and of the last good."""
    keys: dict[str, set[str]] = {}
    named = [
        assessment.entry.credentials
        for assessment in memo.assess_models(snapshot.models, snapshot.context).values()
        if assessment.entry
    ]
    named.extend(served.entry.credentials for served in snapshot.served.values())
    if snapshot.settings is not None:
        named.append(snapshot.settings.credentials)
    if snapshot.gateway is not None:
        settings = memo.assess_gateway(snapshot.gateway, snapshot.context).settings
        named.extend([settings.credentials] if settings else [])
    for credentials in named:
        for ref in credentials.values():
            if ref is not None:
                keys.setdefault(ref.secret, set()).add(ref.key)
    return {secret: frozenset(names) for secret, names in keys.items()}
