"""The pod selector: it must select something on purpose, and be one that the API server takes.

Pure; called by the rules of GatewayConfig. Source: apimachinery `validation.ValidateLabelSelector`; docs/rules.md#r19,
#r25.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from aigateway_operator.api.texts import empty_selector, selector_needs_values, selector_takes_no_values
from aigateway_operator.rules.violation import FieldReason, Violation, at

_LABEL_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_MAX_PREFIX: Final = 253


def check_pod_selector(selector: object, path: str) -> Iterator[Violation]:
    """Refuse an empty selector, label keys that no label can have, and values that do not go with their operator."""
    if not isinstance(selector, dict):
        return
    labels, expressions = selector.get("matchLabels"), selector.get("matchExpressions")
    if not labels and not expressions:
        yield Violation(path, FieldReason.REQUIRED, empty_selector(), "R19")
    for key in labels if isinstance(labels, dict) else ():
        if isinstance(key, str) and not _is_label_key(key):
            yield Violation(at(f"{path}.matchLabels", key), FieldReason.INVALID, _BAD_KEY, "R25")
    for index, expression in enumerate(expressions if isinstance(expressions, list) else ()):
        if isinstance(expression, dict):
            yield from _check_expression(expression, f"{path}.matchExpressions[{index}]")


def _check_expression(expression: dict[str, object], path: str) -> Iterator[Violation]:
    key, operator, values = expression.get("key"), expression.get("operator"), expression.get("values")
    if isinstance(key, str) and not _is_label_key(key):
        yield Violation(f"{path}.key", FieldReason.INVALID, _BAD_KEY, "R25")
    if operator in ("In", "NotIn") and not values:
        yield Violation(f"{path}.values", FieldReason.REQUIRED, selector_needs_values(operator), "R25")
    if operator in ("Exists", "DoesNotExist") and values:
        yield Violation(f"{path}.values", FieldReason.FORBIDDEN, selector_takes_no_values(operator), "R25")


def _is_label_key(key: str) -> bool:
    return len(key.rpartition("/")[0]) <= _MAX_PREFIX and _LABEL_KEY.fullmatch(key) is not None


_BAD_KEY: Final = (
    "is not a label key: at most 63 letters, digits, '-', '_' and '.', after a DNS name and '/' if there is a prefix. "
    "Copy it from the pods' labels."
)
