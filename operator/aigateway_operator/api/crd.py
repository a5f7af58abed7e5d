"""The CustomResourceDefinitions of both kinds, made from the models.

Pure: returns plain mappings. Called by the command line, which writes `crds/` and the reference, and by tests.

Source: docs/cli.md#crds; docs/reference.md; Kubernetes `apiextensions.k8s.io/v1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aigateway_operator.api.conditions import ConditionType, Reason
from aigateway_operator.api.crd_rules import RuleSet, fields_required_by_rule, gateway_config_rules, virtual_model_rules
from aigateway_operator.api.crd_schema import VALIDATIONS, Schema, structural_schema
from aigateway_operator.api.fields import SpecModel
from aigateway_operator.api.gatewayconfig import GatewayConfigSpec
from aigateway_operator.api.meta import (
    CATEGORY,
    GATEWAY_CONFIG,
    GATEWAY_CONFIGS,
    GROUP,
    VERSION,
    VIRTUAL_MODEL,
    VIRTUAL_MODELS,
)
from aigateway_operator.api.status import GatewayConfigStatus, StatusModel, VirtualModelStatus
from aigateway_operator.api.virtualmodel import VirtualModelSpec

DEFAULT_STATUS: Final[Schema] = {
    "conditions": [
        {
            "type": ConditionType.READY.value,
            "status": "Unknown",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
            "reason": Reason.PENDING.value,
            "message": "Waiting for the operator.",
        }
    ]
}
"""What a fresh object says until the operator has seen it: never taken for done, and no write is needed for it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind as users see it: names, columns of `kubectl get`, selectable fields, models."""

    name: str
    plural: str
    short_name: str
    description: str
    spec: type[SpecModel]
    status: type[StatusModel]
    rules: RuleSet
    columns: tuple[Schema, ...]
    selectable: tuple[str, ...]


def _column(name: str, path: str, description: str, kind: str = "string", *, wide: bool = False) -> Schema:
    """Return a printer column; `wide` ones are shown by `kubectl get -o wide`."""
    column = {"name": name, "type": kind, "description": description, "jsonPath": path}
    return {**column, "priority": 1} if wide else column


def _condition(kind: ConditionType, part: str) -> str:
    return f'.status.conditions[?(@.type=="{kind.value}")].{part}'


_READY: Final = _column("Ready", _condition(ConditionType.READY, "status"), "Whether this generation is in force.")
_REASON: Final = _column("Reason", _condition(ConditionType.READY, "reason"), "Why Ready is as it is.", wide=True)
_AGE: Final = _column("Age", ".metadata.creationTimestamp", "Time since it was made.", "date")

KINDS: Final = (
    Kind(
        VIRTUAL_MODEL,
        VIRTUAL_MODELS,
        "vmodel",
        "A model that callers can ask for by one public name, and the named backends of which one answers.",
        VirtualModelSpec,
        VirtualModelStatus,
        virtual_model_rules(),
        (
            _column("Gateway", ".spec.gatewayRef.name", "GatewayConfig that serves it."),
            _column("Model", ".status.modelName", "Public name in force."),
            _column("Current", ".spec.current", "Live backend."),
            _column("Use", ".spec.use", "Whether it is switched on.", "boolean"),
            _READY,
            _REASON,
            _AGE,
        ),
        (".spec.gatewayRef.name", ".spec.modelName", ".spec.current", ".spec.use"),
    ),
    Kind(
        GATEWAY_CONFIG,
        GATEWAY_CONFIGS,
        "gwc",
        "The settings of one gateway. Its structure is fixed: values change, keys are neither added nor removed.",
        GatewayConfigSpec,
        GatewayConfigStatus,
        gateway_config_rules(),
        (
            _column("Revision", ".status.revision", "Revision of the rendered documents.", "integer"),
            _column("Pods", ".status.pods", "Pods that run this revision, of all."),
            _column("Datastores", _condition(ConditionType.DATASTORES_READY, "reason"), "The worst datastore's state."),
            _READY,
            _REASON,
            _AGE,
        ),
        (),
    ),
)


def custom_resource_definition(kind: Kind) -> Schema:
    """Return the CustomResourceDefinition of `kind`."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "preserveUnknownFields": False,
            "versions": [_version(kind)],
        },
    }


def _version(kind: Kind) -> dict[str, Any]:
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": list(kind.columns),
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    version["schema"] = {"openAPIV3Schema": root_schema(kind)}
    return version


def root_schema(kind: Kind) -> Schema:
    """Return the structural schema of a whole object of `kind`."""
    status = structural_schema(kind.status, "status", validations={}, preserve=False)
    return {
        "description": kind.description,
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{kind.name}."},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": structural_schema(
                kind.spec, "spec", validations=kind.rules, required_by_rule=fields_required_by_rule(kind.spec), preserve=True
            ),
            "status": {**status, "default": DEFAULT_STATUS},
        },
        VALIDATIONS: kind.rules[""],
    }
