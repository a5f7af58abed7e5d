"""values.schema.json: what Helm accepts as values. Types come from the defaults in values.yaml, texts from its comments;
what a default cannot say (ranges, patterns, choices, shapes of open maps) stands in the table below. The gateway's own specs
come from the CRDs. Nothing that is not listed is accepted, so that a misspelt value is refused by its name.
"""

from __future__ import annotations

import copy
from fnmatch import fnmatchcase
from typing import Any, Final

import yaml

from hack.chart.values import CHART, Value

Schema = dict[str, Any]

_LABEL: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_NAME: Final = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$"
_QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?([EPTGM]i?|[kK]i?|m)?$"
_SIZE: Final = r"^[0-9]+(\.[0-9]+)?([EPTGMK]i?|k)?$"
_NETWORK: Final = r"^[0-9a-fA-F.:]+(/[0-9]{1,3})?$"
_TEXTS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
_OBJECTS: Final[Schema] = {"type": "array", "items": {"type": "object"}}
_PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65535}
_PORTS: Final[Schema] = {"type": "array", "items": _PORT, "minItems": 1, "uniqueItems": True}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_AMOUNTS: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "string", "pattern": _QUANTITY}, {"type": "number", "minimum": 0}]},
}
_SELECTOR: Final[Schema] = {
    "type": "object",
    "properties": {
        "matchLabels": _TEXTS,
        "matchExpressions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "key": {"type": "string", "minLength": 1},
                    "operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                    "values": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["key", "operator"],
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
_LEVEL: Final[Schema] = {"enum": ["DEBUG", "INFO", "WARNING", "ERROR"]}

REFINEMENTS: Final[tuple[tuple[str, Schema], ...]] = (
    ("fullnameOverride", {"type": "string", "pattern": r"^([a-z]([a-z0-9-]{0,38}[a-z0-9])?)?$"}),
    ("commonLabels", _TEXTS),
    ("*registry", {"type": "string", "pattern": r"^([A-Za-z0-9._:-]+(/[a-z0-9._-]+)*)?$"}),
    ("*repository", {"type": "string", "pattern": r"^[a-z0-9]+([._/-]+[a-z0-9]+)*$"}),
    ("*image.tag", {"type": "string", "pattern": r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$"}),
    ("*image.digest", {"type": "string", "pattern": r"^(sha256:[a-f0-9]{64})?$"}),
    ("image.pullPolicy", {"enum": ["Always", "IfNotPresent", "Never"]}),
    ("gateway.image.pullPolicy", {"enum": ["", "Always", "IfNotPresent", "Never"]}),
    (
        "imagePullSecrets",
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string", "minLength": 1}},
                "required": ["name"],
                "additionalProperties": False,
            },
        },
    ),
    ("watch.namespaces", {"type": "array", "items": {"type": "string", "pattern": _LABEL}, "uniqueItems": True}),
    ("watch.namespaceSelector", _SELECTOR),
    ("clusterDomain", {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"}),
    ("allowAddresses", {"type": "array", "items": {"type": "string", "pattern": _NETWORK}}),
    ("redisChannel", {"type": "string", "minLength": 1, "maxLength": 255}),
    ("*.replicas", _COUNT),
    ("revisionHistoryLimit", _COUNT),
    (
        "*.resources",
        {"type": "object", "properties": {"requests": _AMOUNTS, "limits": _AMOUNTS}, "additionalProperties": False},
    ),
    (
        "*.podDisruptionBudget.maxUnavailable",
        {"anyOf": [_COUNT, {"type": "string", "pattern": r"^[0-9]{1,3}%$"}]},
    ),
    ("*.serviceAccount.name", {"type": "string", "pattern": _NAME}),
    ("*existingSecret", {"type": "string", "pattern": _NAME}),
    ("*nnotations", _TEXTS),
    ("*podLabels", _TEXTS),
    ("metrics.*.labels", _TEXTS),
    ("*nodeSelector", _TEXTS),
    ("*affinity", {"type": "object"}),
    *((f"*.{name}", _OBJECTS) for name in ("tolerations", "topologySpreadConstraints", "extraVolumes", "extraVolumeMounts")),
    (
        "*.extraEnv",
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "value": {"type": "string"},
                    "valueFrom": {"type": "object"},
                },
                "required": ["name"],
                "additionalProperties": False,
            },
        },
    ),
    ("*terminationGracePeriodSeconds", _COUNT),
    ("webhook.mode", {"enum": ["separate", "controller", "none"]}),
    ("webhook.certificates", {"enum": ["self", "cert-manager"]}),
    ("webhook.certManager.issuerRef", _TEXTS),
    ("webhook.failurePolicy", {"enum": ["Fail", "Ignore"]}),
    ("webhook.timeoutSeconds", {"type": "integer", "minimum": 1, "maximum": 30}),
    ("webhook.drainSeconds", {"type": "integer", "minimum": 0, "maximum": 60}),
    ("*Ports", _PORTS),
    ("*.port", _PORT),
    ("logs*.level", _LEVEL),
    ("logs*.format", {"enum": ["json", "text"]}),
    ("logs.mongodb.key", {"type": "string", "minLength": 1}),
    ("logs.mongodb.database", {"type": "string", "pattern": r"^[A-Za-z0-9_-]{1,63}$"}),
    ("logs.mongodb.spoolMebibytes", {"type": "integer", "minimum": 4, "maximum": 1_048_576}),
    ("logs.*.retentionDays", {"type": "integer", "minimum": 1, "maximum": 36_500}),
    ("*logs*.size", {"type": "string", "pattern": _SIZE}),
    ("logs.volume.whenDeleted", {"enum": ["Delete", "Retain"]}),
    ("metrics.serviceMonitor.interval", {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$"}),
    ("networkPolicy.*From", _OBJECTS),
    ("networkPolicy.extraEgress", _OBJECTS),
    ("gateway.networkPolicy.egress", _OBJECTS),
    ("podSecurityContext", {"type": "object"}),
    ("securityContext", {"type": "object"}),
    ("gateway.name", {"type": "string", "pattern": _LABEL}),
    ("gateway.operatorNamespace", {"type": "string", "pattern": f"^({_LABEL[1:-1]})?$"}),
    ("gateway.apply", {"enum": ["job", "manifests"]}),
    ("gateway.workers", {"type": "integer", "minimum": 1, "maximum": 64}),
    ("gateway.service.type", {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}),
    ("gateway.adminKey.key", {"type": "string", "minLength": 1}),
    ("extraManifests", {"type": "array", "items": {"type": ["object", "string"]}}),
)
"""Pattern of a value's path, first match counts → what replaces the type of its default."""

_TYPES: Final = {bool: "boolean", int: "integer", str: "string", float: "number"}
_KEPT: Final = ("type", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "required")


class Unrefined(Exception):
    """A list or map of values.yaml of which the table above does not say what it may hold."""


def schema(values: list[Value]) -> Schema:
    """Return the whole schema. Raises Unrefined."""
    root = _section("Values of charts/aigateway: docs/chart-values.md. Made by `python -m hack.chart`.")
    for value in values:
        place = root
        for step in value.path[:-1]:
            place = place["properties"].setdefault(step, _section())
        place["properties"][value.path[-1]] = _of(value)
    root["properties"]["global"] = {"type": "object", "description": "What Helm hands to charts inside others; not read."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root}


def _section(text: str = "") -> Schema:
    return {**({"description": text} if text else {}), "type": "object", "additionalProperties": False, "properties": {}}


def _of(value: Value) -> Schema:
    text = {"description": value.text}
    if value.dotted in ("gateway.config", "gateway.models"):
        return text | _GATEWAY[value.dotted]()
    for pattern, refinement in REFINEMENTS:
        if fnmatchcase(value.dotted, pattern):
            return text | refinement
    if isinstance(value.default, dict | list):
        raise Unrefined(f"{value.dotted}: say in hack/chart/schema.py what it may hold")
    return text | {"type": _TYPES[type(value.default)]}


def _spec(plural: str) -> Schema:
    crd = yaml.safe_load((CHART.parents[1] / "crds" / f"{plural}.yaml").read_text(encoding="utf-8"))
    return _plain(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])


def _config() -> Schema:
    return _spec("gatewayconfigs")


def _models() -> Schema:
    """Return models by name; their gatewayRef is made by the chart."""
    model = _spec("virtualmodels")
    del model["properties"]["gatewayRef"]
    model["required"] = sorted({*model.get("required", []), "use", "current", "proxyKeySecretRef", "backends"} - {"gatewayRef"})
    return {"type": "object", "propertyNames": {"pattern": _NAME, "minLength": 1}, "additionalProperties": model}


def _plain(source: Schema) -> Schema:
    """Return a CRD's schema as plain JSON Schema; objects with declared keys accept no others."""
    found: Schema = {key: copy.deepcopy(source[key]) for key in _KEPT if key in source}
    if r"\p{" in found.get("pattern", ""):
        del found["pattern"]  # Unicode classes: not every editor's JSON Schema knows them, and the API server asks anyway
    if "items" in source:
        found["items"] = _plain(source["items"])
    if "properties" in source:
        found["properties"] = {key: _plain(inner) for key, inner in source["properties"].items()}
        found["additionalProperties"] = False
    elif isinstance(source.get("additionalProperties"), dict):
        found["additionalProperties"] = _plain(source["additionalProperties"])
    return found


_GATEWAY: Final = {"gateway.config": _config, "gateway.models": _models}
