"""Schemas for kubeconform, made offline: from what an API server says of its own kinds, and from our CRDs.

Written to a folder, a file a kind, as `LOCATION` names them. Nothing but fields and types: CEL rules and admission are for
tests with a server. Called by test_chart_scanners.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

LOCATION: Final = "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json"
"""kubeconform's template for a file; the group of core kinds is their version there."""
_METADATA: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_LOOSE: Final[Mapping[str, list[str]]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": ["string", "number"],
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": ["string", "integer"],
}
"""Definitions that OpenAPI 2 calls strings, for want of a word for either."""
Schema = dict[str, Any]
Kind = tuple[str, str]
"""apiVersion and kind."""


def write_schemas(openapi: Mapping[str, Any], crds: Path, kinds: set[Kind], folder: Path) -> None:
    """Write the schemas of `kinds`, out of `openapi` (the body of /openapi/v2) and the CRDs in the folder `crds`.

    A kind of a CRD has the schema of its file, whatever the server has installed. A kind that neither knows gets none, and
    kubeconform says so.
    """
    definitions = {name: _strict(schema) for name, schema in openapi["definitions"].items()}
    definitions |= {name: {"type": types} for name, types in _LOOSE.items()}
    known: dict[Kind, Schema] = {}
    for name, schema in openapi["definitions"].items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            group = f"{kind['group']}/" if kind["group"] else ""
            known[group + kind["version"], kind["kind"]] = {"$ref": f"#/definitions/{name}"}
    for path in sorted(crds.glob("*.yaml")):
        known |= _of_crd(yaml.safe_load(path.read_text())["spec"])
    for api_version, name in kinds & known.keys():
        group, _, version = api_version.rpartition("/")
        file = folder / f"{group or version}_{version}_{name.lower()}.json"
        file.write_text(json.dumps(_standing_alone(known[api_version, name], definitions)))


def _of_crd(spec: Mapping[str, Any]) -> dict[Kind, Schema]:
    schemas = {}
    for version in spec["versions"]:
        given = version["schema"]["openAPIV3Schema"]
        schema = _strict(given)
        own = given["properties"].get("metadata", {})
        schema["properties"]["metadata"] = {"allOf": [{"$ref": f"#/definitions/{_METADATA}"}, own]}
        schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return schemas


def _strict(schema: Schema) -> Schema:
    """Return the schema with every object that lists its fields closed.

    Our CRDs keep unknown fields so that admission can name them (api/crd_schema.py); here they are refused like others.
    allOf, anyOf and the like stay as they are: what they name is listed outside them as well (structural schemas).
    """
    strict = dict(schema)
    if "properties" in schema:
        strict["properties"] = {name: _strict(field) for name, field in schema["properties"].items()}
        strict.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            strict[key] = _strict(schema[key])
    return strict


def _standing_alone(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Return the schema with the definitions that it leads to, and no others: kubeconform reads every file anew."""
    needed: dict[str, Schema] = {}
    waiting = list(_references(schema))
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed[name] = definitions[name]
            waiting += _references(definitions[name])
    return {**schema, "definitions": needed}


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix("#/definitions/")
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
