"""A label selector written as text → the object form that webhook configurations want. Pure.

The text is what `kubectl -l` and the API server's queries take; settings are checked with it before anything is asked.
Source: Kubernetes "Labels and Selectors", equality-based and set-based requirements.
"""

from __future__ import annotations

import re
from typing import Any, Final

_LABEL: Final = r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"
_VALUE: Final = r"(?:[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?)?"
_FORMS: Final = (
    (re.compile(rf"(?P<key>{_LABEL})\s*==?\s*(?P<values>{_VALUE})"), "In"),
    (re.compile(rf"(?P<key>{_LABEL})\s*!=\s*(?P<values>{_VALUE})"), "NotIn"),
    (re.compile(rf"(?P<key>{_LABEL})\s+in\s*\((?P<values>[^()]+)\)"), "In"),
    (re.compile(rf"(?P<key>{_LABEL})\s+notin\s*\((?P<values>[^()]+)\)"), "NotIn"),
    (re.compile(rf"(?P<key>{_LABEL})"), "Exists"),
    (re.compile(rf"!\s*(?P<key>{_LABEL})"), "DoesNotExist"),
)
_BETWEEN: Final = re.compile(r",(?![^(]*\))")
"""A comma that is not between the brackets of a set."""


def parse_label_selector(text: str) -> dict[str, Any]:
    """Return `{matchExpressions: […]}`, {} for "" (selects all). Raises ValueError naming each part that is none."""
    if not text.strip():
        return {}
    parts = [part.strip() for part in _BETWEEN.split(text)]
    expressions = [_expression(part) for part in parts]
    wrong = [part for part, expression in zip(parts, expressions, strict=True) if expression is None]
    if wrong:
        raise ValueError(
            f"no label selector: {', '.join(map(repr, wrong))}; parts are key=value, key!=value, key in (a, b), "
            "key notin (a, b), key, !key, with a comma between them"
        )
    return {"matchExpressions": expressions}


def _expression(part: str) -> dict[str, Any] | None:
    for form, operator in _FORMS:
        found = form.fullmatch(part)
        if found is None:
            continue
        expression: dict[str, Any] = {"key": found["key"], "operator": operator}
        if "values" in found.groupdict():
            values = [value.strip() for value in found["values"].split(",")]
            if not all(re.fullmatch(_VALUE, value) for value in values):
                return None
            expression["values"] = values
        return expression
    return None
