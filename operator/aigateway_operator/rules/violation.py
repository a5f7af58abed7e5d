"""What a broken rule looks like, and how places and texts inside a resource are written.

Pure values; no rule lives here. Every rule returns `Violation`s; admission turns them into causes of a 422, the
controller into the message of `Accepted=False`, the command line into lines. Field values are never shown unless they
are numbers, names that must be public, or hosts: a value may be a key somebody pasted into the wrong field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_VIOLATIONS: Final = 256
"""Violations listed in one answer; beyond it one more says how many are left out, so that answers stay readable."""
_MAX_SHOWN: Final = 80
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")


class FieldReason(StrEnum):
    """Why a field is refused. Values are Kubernetes' `CauseType`s (apimachinery) where there is one."""

    INVALID = "FieldValueInvalid"
    TYPE_INVALID = "FieldValueTypeInvalid"
    REQUIRED = "FieldValueRequired"
    NOT_SUPPORTED = "FieldValueNotSupported"
    FORBIDDEN = "FieldValueForbidden"
    DUPLICATE = "FieldValueDuplicate"
    TOO_LONG = "FieldValueTooLong"
    TOO_MANY = "FieldValueTooMany"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule at one place.

    `path` is written as the API server writes it (`spec.backends[1].baseUrl`); `message` is a sentence with the reason
    and the remedy, without a secret; `rule` is the number in docs/rules.md ("R4").
    """

    path: str
    reason: FieldReason
    message: str
    rule: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def at(path: str, key: str | int) -> str:
    """Return the path of `key` below `path`: `.name`, `[3]`, or `["odd key"]` (escaped, shortened) for others."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if _PLAIN_KEY.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f'{path}["{shown(key)}"]'


def shown(text: str) -> str:
    """Return `text` fit for a message: printable (anything else escaped) and at most 80 characters."""
    cut = text[:_MAX_SHOWN]
    if not cut.isprintable():
        cut = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)
    return cut if len(text) <= _MAX_SHOWN else f"{cut}…"


def in_order(violations: Iterable[Violation]) -> list[Violation]:
    """Return each violation once, sorted by path and rule; at most `MAX_VIOLATIONS`, then one that counts the rest."""
    ordered = sorted(set(violations), key=_order)
    if len(ordered) <= MAX_VIOLATIONS:
        return ordered
    left_out = len(ordered) - MAX_VIOLATIONS
    more = Violation("spec", FieldReason.INVALID, f"{left_out} more violations are not listed. Mend these first.", "R0")
    return sorted([*ordered[:MAX_VIOLATIONS], more], key=_order)


def _order(violation: Violation) -> tuple[str, str, str]:
    return violation.path, violation.rule, violation.message
