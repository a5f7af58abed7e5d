"""One pydantic error → one violation in words of ours: type, range, pattern, choice, length.

Pure; called by `structure` for every error that is neither an unknown key nor an absent field. Values are shown only if
they are numbers of ordinary size: any text may be a key that was pasted into the wrong field.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pydantic_core import ErrorDetails

from aigateway_operator.api.fields import DNS_LABEL, DNS_SUBDOMAIN, MODEL_NAME, RELATIVE_PATH, SECRET_KEY
from aigateway_operator.rules.violation import FieldReason, Violation

_LARGEST_SHOWN: Final = 10**15
_LONGEST_GUESS: Final = 32
_LOWER_CASE: Final = "lower-case letters, digits and '-', beginning and ending with a letter or digit"
_PATTERN_TEXTS: Final = {
    DNS_LABEL: f"must be a DNS label: {_LOWER_CASE}.",
    DNS_SUBDOMAIN: f"must be a name of Kubernetes: {_LOWER_CASE}; dots between such parts.",
    SECRET_KEY: "must be a key of a Secret: letters, digits, '-', '_' and '.'.",
    MODEL_NAME: "must be printable and without spaces.",
    RELATIVE_PATH: "must be a relative path without control characters: no '/' at its beginning.",
}
_EXPECTED: Final = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
}
_KINDS: Final = {
    dict: "a mapping",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}
_Text = tuple[FieldReason, str, str]


def misfit(error: ErrorDetails, path: str, keys: Sequence[str] = ()) -> Violation:
    """Return the violation for one pydantic error at `path`. An error type without a text of ours keeps pydantic's.

    keys: of the reference that belongs there, for those who wrote a name in its place.
    """
    kind = error["type"]
    if kind in _EXPECTED:
        reason, text, rule = _wrong_type(kind, error["input"])
        if keys and isinstance(error["input"], str):
            text += f" Write {{{', '.join(f'{key}: …' for key in keys)}}}."
    elif kind in _DESCRIBE:
        reason, text, rule = _DESCRIBE[kind](error.get("ctx", {}), error["input"])
    else:
        reason, text, rule = FieldReason.INVALID, f"is not valid: {error['msg']}.", "R5"
    return Violation(path, reason, text, rule)


def _wrong_type(kind: str, value: object) -> _Text:
    got = _KINDS.get(type(value), type(value).__name__)
    return FieldReason.TYPE_INVALID, f"must be {_EXPECTED[kind]}, not {got}.", "R5"


def _at_least(context: Mapping[str, object], value: object) -> _Text:
    return FieldReason.INVALID, f"must be at least {context['ge']}{_got(value)}.", "R5"


def _at_most(context: Mapping[str, object], value: object) -> _Text:
    return FieldReason.INVALID, f"must be at most {context['le']}{_got(value)}.", "R5"


def _too_short_text(_context: Mapping[str, object], _value: object) -> _Text:
    return FieldReason.INVALID, "must not be empty.", "R5"


def _too_long_text(context: Mapping[str, object], value: object) -> _Text:
    return FieldReason.TOO_LONG, f"has {len(str(value))} characters; at most {context['max_length']} are allowed.", "R5"


def _too_short_list(_context: Mapping[str, object], _value: object) -> _Text:
    return FieldReason.REQUIRED, "must have at least one item.", "R5"


def _too_long_list(context: Mapping[str, object], _value: object) -> _Text:
    count = context.get("actual_length") or "more"
    return FieldReason.TOO_MANY, f"has {count} items; at most {context['max_length']} are allowed.", "R5"


def _pattern(context: Mapping[str, object], _value: object) -> _Text:
    pattern = str(context["pattern"])
    return FieldReason.INVALID, _PATTERN_TEXTS.get(pattern, f"must match {pattern}."), "R5"


def _choice(context: Mapping[str, object], value: object) -> _Text:
    expected = str(context["expected"]).replace("'", "")
    choices = expected.replace(" or ", ", ").split(", ")
    text = value if isinstance(value, str) and len(value) <= _LONGEST_GUESS else ""
    close = [choice for choice in choices if choice.casefold() == text.casefold()] or difflib.get_close_matches(
        text, choices, 1
    )
    hint = f" Did you mean {close[0]}?" if close else ""
    return FieldReason.NOT_SUPPORTED, f"must be one of {expected}.{hint}", "R5"


def _surrogate(_context: Mapping[str, object], _value: object) -> _Text:
    return (
        FieldReason.INVALID,
        "holds half a surrogate pair, which is not a character. Write the whole character.",
        "R18",
    )


def _got(value: object) -> str:
    """Show a number of ordinary size; a huge one says nothing, and Python refuses to print the hugest."""
    return f", not {value}" if isinstance(value, int) and abs(value) < _LARGEST_SHOWN else ""


_DESCRIBE: Final[Mapping[str, Callable[[Mapping[str, object], object], _Text]]] = {
    "greater_than_equal": _at_least,
    "less_than_equal": _at_most,
    "string_too_short": _too_short_text,
    "string_too_long": _too_long_text,
    "too_short": _too_short_list,
    "too_long": _too_long_list,
    "string_pattern_mismatch": _pattern,
    "literal_error": _choice,
    "string_unicode": _surrogate,
}
