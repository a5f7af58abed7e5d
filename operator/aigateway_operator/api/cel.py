"""Pieces of CEL for the validation rules of our CRDs: one rule, texts with expressions inside, the list of missing fields.

Pure text work; which rules there are is the business of `crd_rules`, its only caller. What these expressions may use is
what Kubernetes 1.32 knows.

Source: Kubernetes "Common Expression Language" and "Validation rules" of CustomResourceDefinitions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from aigateway_operator.api.declared import fields_of, max_items, model_below
from aigateway_operator.api.fields import SpecModel

Keys = tuple[str, ...]
"""A place below `spec`, key by key as on the wire."""
CelReason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"]

OLD: Final = "oldSelf.value()"
"""The stored object in a rule with `optional_old_self`; guard it with `oldSelf.hasValue()`."""
_HOLE: Final = re.compile("⟦(.*?)⟧", re.DOTALL)
_RESERVED: Final = frozenset(
    {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let"}
    | {"loop", "package", "namespace", "return", "var", "void", "while"}
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `x-kubernetes-validations`.

    `text` may hold expressions, see `hole`. `field_path` is where the violation is reported, relative to the place of
    the rule (`.current`); '' for the place itself. `optional_old_self`: also runs when there is no stored object.
    """

    rule: str
    text: str
    field_path: str = ""
    reason: CelReason = "FieldValueInvalid"
    optional_old_self: bool = False

    def schema(self) -> dict[str, Any]:
        """Return the rule as it stands in a CRD."""
        entry: dict[str, Any] = {"rule": self.rule, "message": _HOLE.sub("…", self.text)}
        if _HOLE.search(self.text):
            entry["messageExpression"] = _text_expression(self.text)
        if self.field_path:
            entry["fieldPath"] = self.field_path
        entry["reason"] = self.reason
        if self.optional_old_self:
            entry["optionalOldSelf"] = True
        return entry


def hole(expression: str) -> str:
    """Return a mark to hand to a function of `texts` in place of a value: the value of `expression` will stand there."""
    return f"⟦{expression}⟧"


def has_path(start: str, *keys: str) -> str:
    """Return an expression that is true when every step of `start.a.b.c` is there."""
    if reserved := _RESERVED.intersection(keys):
        raise TypeError(f"CEL cannot name the field {', '.join(reserved)} without escaping it; call it otherwise")
    return " && ".join(f"has({'.'.join((start, *keys[:count]))})" for count in range(1, len(keys) + 1))


def joined_where(terms: Iterable[tuple[str, str]]) -> str:
    """Return an expression for a text: of each (condition, text expression) whose condition holds, the text; with commas.

    Written out term by term: `join` and comprehensions would be shorter, but the API server estimates their cost as
    unbounded and refuses the CRD.
    """
    parts = " + ".join(f"({condition} ? ', ' + {text} : '')" for condition, text in terms)
    return f"({parts}).substring(2)"


def required_fields(model: type[SpecModel], above: Keys = ()) -> Iterator[Keys]:
    """Yield the place of every required field of `model` and of objects in it, in order of declaration; no lists."""
    for key, info in fields_of(model).items():
        if info.is_required():
            yield (*above, key)
        below = model_below(model, key)
        if below is not None and not max_items(model, key):
            yield from required_fields(below, (*above, key))


@dataclass(frozen=True, slots=True)
class NamedList:
    """A list-map: where it is below `spec`, its longest length, and the required fields of its items but for the keys."""

    keys: Keys
    max_items: int
    required: Keys


def named_lists(model: type[SpecModel]) -> Iterator[NamedList]:
    """Yield every list-map that is a field of `model` itself."""
    for key, info in fields_of(model).items():
        below = model_below(model, key)
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        map_keys = extra.get("x-kubernetes-list-map-keys")
        if below is not None and isinstance(map_keys, list):
            required = (name for name, inner in fields_of(below).items() if inner.is_required() and name not in map_keys)
            yield NamedList((key,), max_items(model, key), tuple(required))


def _text_expression(text: str) -> str:
    """Return a CEL expression that makes `text`, with the expressions of its holes evaluated."""
    parts = _HOLE.split(text)
    return " + ".join(part if index % 2 else json.dumps(part, ensure_ascii=False) for index, part in enumerate(parts) if part)
