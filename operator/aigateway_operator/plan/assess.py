"""One stored object → what can be said of it alone: its violations, and what it renders to when there are none.

Assessments depend on nothing but the object and the rule context, so they are kept as long as the object stays the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aigateway_operator.api.gatewayconfig import GatewayConfigSpec
from aigateway_operator.api.virtualmodel import VirtualModelSpec
from aigateway_operator.plan.probing import Backends, backends_of
from aigateway_operator.plan.snapshot import Stored
from aigateway_operator.render.entries import Entry, render_entry
from aigateway_operator.render.settings import Settings, render_settings
from aigateway_operator.rules import RuleContext, Violation, check_gateway_config, check_virtual_model, effective_model_name


@dataclass(frozen=True, slots=True)
class ModelAssessment:
    """What one VirtualModel says. `entry` is None exactly when there are violations; `model_name` is the name asked for.

    backends: those to probe, none unless `spec.probe` asks for it.
    """

    uid: str
    generation: int
    model_name: str
    entry: Entry | None
    violations: tuple[Violation, ...]
    backends: Backends = ()


@dataclass(frozen=True, slots=True)
class GatewayAssessment:
    """What one GatewayConfig says. `spec` and `settings` are None exactly when there are violations."""

    uid: str
    generation: int
    spec: GatewayConfigSpec | None
    settings: Settings | None
    violations: tuple[Violation, ...]


def assess_model(stored: Stored, context: RuleContext) -> ModelAssessment:
    """Check one VirtualModel by all rules and render it if none is broken."""
    raw = stored.parse_spec()
    violations = tuple(check_virtual_model(raw, replace(context, name=stored.name)))
    model_name = effective_model_name(raw, stored.name)
    if violations:
        return ModelAssessment(stored.uid, stored.generation, model_name, None, violations)
    spec = VirtualModelSpec.model_validate(raw)
    return ModelAssessment(
        stored.uid, stored.generation, model_name, render_entry(spec, model_name), violations, backends_of(spec)
    )


def assess_gateway(stored: Stored, context: RuleContext) -> GatewayAssessment:
    """Check one GatewayConfig by all rules and render its settings if none is broken."""
    raw = stored.parse_spec()
    violations = tuple(check_gateway_config(raw, replace(context, name=stored.name)))
    if violations:
        return GatewayAssessment(stored.uid, stored.generation, None, None, violations)
    spec = GatewayConfigSpec.model_validate(raw)
    return GatewayAssessment(stored.uid, stored.generation, spec, render_settings(spec), ())
