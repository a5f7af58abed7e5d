"""A pydantic model → the structural OpenAPI v3 schema that Kubernetes accepts in a CustomResourceDefinition.

What pydantic writes is JSON Schema 2020-12, most of which the API server refuses: references, `anyOf` with null, numeric
`exclusiveMinimum`, `const`, `additionalProperties: false`. This module rewrites what has an equal, drops what only
decorates, and raises on everything else, so that nothing is lost unseen. It knows nothing of this project's kinds; rules
in CEL are handed in by path. Pure; called by `crd`.

Source: Kubernetes "Specifying a structural schema"; apiextensions `schema/structural`; docs/measured.md#what-a-crd-may-hold.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

Schema = dict[str, Any]

PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
VALIDATIONS: Final = "x-kubernetes-validations"
MAP_TYPE: Final = "x-kubernetes-map-type"

_DROPPED: Final = frozenset({"title", "default", "examples", "deprecated", "readOnly", "writeOnly"})
"""Decoration, and defaults: those are applied at render, or GitOps tools would see drift."""
_KEPT: Final = (
    "type",
    "format",
    "enum",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    MAP_TYPE,
)
_STRUCTURE: Final = frozenset({"description", "properties", "required", "items", "additionalProperties"})
_BOUND: Final = {"string": "maxLength", "array": "maxItems", "object": "maxProperties"}


def structural_schema(
    model: type[BaseModel],
    path: str,
    *,
    validations: Mapping[str, Sequence[Schema]],
    required_by_rule: Container[str] = (),
    preserve: bool,
) -> Schema:
    """Return the schema of `model`, which stands at `path` (`spec`) of the resource.

    `validations` holds `x-kubernetes-validations` by path; list items are written `spec.backends[]`. Fields whose path is
    in `required_by_rule` are left out of `required`, since a rule asks for them in a better text; their description says
    so. With `preserve` every declared object keeps unknown keys: admission must see them to name them. Raises TypeError
    naming the place for what has no structural equal or no upper bound (the API server estimates the cost of CEL by the
    bounds), and for validations of no place.
    """
    raw = model.model_json_schema(by_alias=True)
    converter = _Converter(raw.pop("$defs", {}), validations, required_by_rule, preserve)
    schema = converter.convert(raw, path, ())
    unused = {place for place in validations if place.startswith(path)} - converter.used
    if unused:
        raise TypeError(f"validations for places that {model.__name__} does not have: {', '.join(sorted(unused))}")
    return schema


@dataclass(frozen=True, slots=True)
class _Converter:
    definitions: Mapping[str, Schema]
    validations: Mapping[str, Sequence[Schema]]
    required_by_rule: Container[str]
    preserve: bool
    used: set[str] = field(default_factory=set)

    def convert(self, node: Schema, path: str, above: tuple[str, ...]) -> Schema:
        """Return the structural form of `node`; `above` names the definitions being expanded."""
        node, above = self._flatten(node, path, above)
        out: Schema = {"description": node["description"]} if "description" in node else {}
        out.update(_scalars(node, path))
        if node.get("type") == "array":
            out["items"] = self.convert(node["items"], f"{path}[]", above)
        elif "properties" in node:
            out.update(self._object(node, path, above))
        elif node.get("type") == "object":
            out.update(self._map(node, path, above))
        bound = _BOUND.get(out["type"])
        if bound is not None and out.keys().isdisjoint({bound, "enum", "properties"}):
            raise TypeError(f"{path}: {out['type']} without {bound}; CEL rules on it would cost too much")
        if path in self.validations:
            self.used.add(path)
            out[VALIDATIONS] = list(self.validations[path])
        return out

    def _flatten(self, node: Schema, path: str, above: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        """Inline references and collapse `X | None`; what stands beside them wins, such as a field's description."""
        while "$ref" in node or "anyOf" in node:
            rest = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
            if "$ref" in node:
                name = node["$ref"].rpartition("/")[2]
                if name in above:
                    raise TypeError(f"{path}: {name} contains itself; a structural schema cannot")
                above = (*above, name)
                node = {**self.definitions[name], **rest}
            else:
                choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
                if len(choices) != 1:
                    raise TypeError(f"{path}: a union has no structural equal")
                node = {**choices[0], **rest}
        return node, above

    def _object(self, node: Schema, path: str, above: tuple[str, ...]) -> Schema:
        needed = node.get("required", [])
        properties: Schema = {}
        for name, inner in node["properties"].items():
            properties[name] = self.convert(inner, f"{path}.{name}", above)
            if f"{path}.{name}" in self.required_by_rule:
                properties[name]["description"] = f"{properties[name].get('description', '')} Required.".strip()
        out: Schema = {"properties": properties}
        required = [name for name in needed if f"{path}.{name}" not in self.required_by_rule]
        if required:
            out["required"] = required
        if self.preserve:
            out[PRESERVE] = True
        return out

    def _map(self, node: Schema, path: str, above: tuple[str, ...]) -> Schema:
        values = node.get("additionalProperties", True)
        if isinstance(values, dict):
            values, _ = self._flatten(values, path, above)
        if values is True or values == {}:
            # Atomic, or emptying the map by server-side apply is refused: what is left of it would be null.
            return {PRESERVE: True, MAP_TYPE: "atomic"}
        if not isinstance(values, dict):
            raise TypeError(f"{path}: an object without properties holds nothing")
        return {"additionalProperties": self.convert(values, f"{path}{{}}", above)}


def _scalars(node: Schema, path: str) -> Schema:
    node = {key: value for key, value in node.items() if key not in _DROPPED}
    if "const" in node:
        node["enum"] = [node.pop("const")]
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in node:
            node[inclusive], node[exclusive] = node[exclusive], True
    if "type" not in node:
        raise TypeError(f"{path}: no type; a structural schema needs one")
    unknown = sorted(set(node) - set(_KEPT) - _STRUCTURE)
    if unknown:
        raise TypeError(f"{path}: no structural equal of {', '.join(unknown)}")
    return {key: node[key] for key in _KEPT if key in node}


def walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield (path, schema) of every place of a structural schema, parents first; items are `[]`, map values `{}`."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], f"{path}{{}}")
