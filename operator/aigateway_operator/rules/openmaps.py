"""Open maps (`parameters`, `options`): any JSON, within limits that keep them renderable, readable and free of secrets.

Structure is the business of `structure`, which leaves the inside of open maps to this module. Called by the rules of
both kinds and by `entry`. Values are never repeated in messages; keys are, escaped.

Source: docs/concepts.md#two-resources (no field takes a key or password as text); RFC 8259 sections 6 and 7 (numbers, strings);
Kubernetes keeps whole numbers in 64 bits (apimachinery, `json.Unmarshal`); docs/rules.md#r13 to #r18.
"""

from __future__ import annotations

import math
import re
import unicodedata
from functools import lru_cache
from typing import Final

from aigateway_operator.api.fields import MAX_PROPERTIES
from aigateway_operator.rules.text import text_fault
from aigateway_operator.rules.violation import FieldReason, Violation, at, shown

MAX_DEPTH: Final = 32
"""Levels of mappings and lists, the open map being the first; parsers of gateways stay far from their limits."""
MAX_KEY: Final = 253
MAX_INTEGER: Final = 2**63 - 1
WRITTEN_OUT: Final = 1e21
"""Go writes floating-point numbers below this one, all whole from 2^53 on, without an exponent: 1e20 is stored as digits."""
GATEWAY_SETS: Final = frozenset({"model", "messages", "input", "stream"})
"""Keys of a request that belong to the gateway or the caller; as a default they would bypass the choice of backend."""

_SECRET_NAMES: Final = re.compile(
    "auth|authorization|bearer|cookie|jwt|proxyauthorization|pwd|secrets|setcookie|token|xauthtoken"
)
_SECRET_ENDINGS: Final = re.compile(
    ".*("
    "(api|access|account|auth|encryption|license|master|private|proxy|secret|service|shared|signing|ssh|subscription)key"
    "|(access|api|auth|bearer|bot|client|github|hf|id|oauth|refresh|sas|security|service|session|user)token"
    "|apikeys|accesskeyid|passwords?|passwd|passphrase|secret|credentials?|connectionstring"
    ")",
    re.DOTALL,
)
"""Compared with the key in lower case without separators. Plain `key` and other `…_key`, `…_token(s)` stay legal:
`prompt_cache_key`, `max_tokens`, `stop_token_ids`, `eos_token`."""
_SEPARATORS: Final = re.compile(r"[\W_]+")
_REFER: Final = "Keep it in a Secret; values that are no secret need another name."
_TOO_LARGE: Final = "is a whole number of more than 64 bits, which Kubernetes would round. Put it in quotes."
_NEVER_WRONG: Final = frozenset({bool, type(None)})


def check_open_map(value: object, path: str) -> list[Violation]:
    """Check every level of an open map. A value that is no mapping is left to `structure`: []. Raises nothing."""
    found: list[Violation] = []
    if isinstance(value, dict):
        _check_mapping(value, path, 1, found)
    return found


def check_parameters(value: object, path: str) -> list[Violation]:
    """Check the `parameters` of a backend: an open map without the keys that the gateway or the caller sets.

    Source: docs/rules.md#r14; the OpenAI API reference (chat completions, embeddings).
    """
    found = check_open_map(value, path)
    if isinstance(value, dict):
        for key in sorted(GATEWAY_SETS.intersection(value)):
            message = f"'{key}' is set by the caller or the gateway for each request. Remove it from parameters."
            found.append(Violation(at(path, key), FieldReason.FORBIDDEN, message, "R14"))
    return found


def _check_mapping(value: dict[object, object], path: str, depth: int, found: list[Violation], *, names: bool = False) -> None:
    """Check one level. `names`: its keys are names of JSON Schema properties, which hold no values."""
    if len(value) > MAX_PROPERTIES:
        message = f"has {len(value)} keys; at most {MAX_PROPERTIES} are allowed at one level. Use fewer, or nest them."
        found.append(Violation(path, FieldReason.TOO_MANY, message, "R16"))
    for key, inner in value.items():
        if not isinstance(key, str):
            message = "has a key that is not text. Put it in quotes."
            found.append(Violation(path, FieldReason.TYPE_INVALID, message, "R16"))
            continue
        fault = _key_fault(key)
        if fault is not None:
            found.append(Violation(at(path, key), FieldReason.INVALID, fault, "R16"))
        elif _is_secret(key) and not (names and isinstance(inner, dict | bool)):
            message = f"'{shown(key)}' looks like a secret, which everybody who may read this object would see. {_REFER}"
            found.append(Violation(at(path, key), FieldReason.FORBIDDEN, message, "R13"))
        if type(inner) not in _NEVER_WRONG:
            _check_value(inner, at(path, key), depth, found, schema_properties=key == "properties")


def _check_value(value: object, path: str, depth: int, found: list[Violation], *, schema_properties: bool = False) -> None:
    if isinstance(value, str):
        fault = text_fault(value, controls=True)
        if fault is not None:
            found.append(Violation(path, FieldReason.INVALID, fault, "R18"))
    elif isinstance(value, dict | list):
        _check_container(value, path, depth + 1, found, schema_properties=schema_properties)
    else:
        _check_number(value, path, found)


def _check_container(
    value: dict[object, object] | list[object],
    path: str,
    depth: int,
    found: list[Violation],
    *,
    schema_properties: bool,
) -> None:
    if depth > MAX_DEPTH:
        message = f"is nested more than {MAX_DEPTH} levels deep. Flatten it."
        found.append(Violation(path, FieldReason.INVALID, message, "R17"))
    elif isinstance(value, dict):
        _check_mapping(value, path, depth, found, names=schema_properties)
    else:
        for index, inner in enumerate(value):
            if type(inner) not in _NEVER_WRONG:
                _check_value(inner, at(path, index), depth, found)


def _check_number(value: object, path: str, found: list[Violation]) -> None:
    """Check what is neither text, mapping, list, truth value nor null: it must be a number that JSON can hold."""
    if isinstance(value, float):
        if not math.isfinite(value):
            message = "is not a finite number; JSON has no such value. Write a number."
            found.append(Violation(path, FieldReason.INVALID, message, "R15"))
        elif MAX_INTEGER < abs(value) < WRITTEN_OUT:
            found.append(Violation(path, FieldReason.INVALID, _TOO_LARGE, "R15"))
    elif not isinstance(value, int):
        message = f"is a {type(value).__name__}, which JSON does not have. Put it in quotes."
        found.append(Violation(path, FieldReason.TYPE_INVALID, message, "R15"))
    elif not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
        found.append(Violation(path, FieldReason.INVALID, _TOO_LARGE, "R15"))


def _key_fault(key: str) -> str | None:
    if len(key) > MAX_KEY:
        return f"the key has {len(key)} characters; at most {MAX_KEY} are allowed."
    return _short_key_fault(key)


@lru_cache(maxsize=4096)
def _short_key_fault(key: str) -> str | None:
    if not key:
        return "the key is empty. Name it."
    fault = text_fault(key)
    return None if fault is None else f"the key {fault}"


@lru_cache(maxsize=4096)
def _is_secret(key: str) -> bool:
    """Whether a key looks like a secret; `apiKey`, `api_key`, `API-KEY` and full-width letters are the same key."""
    compact = _SEPARATORS.sub("", unicodedata.normalize("NFKC", key).lower())
    return _SECRET_NAMES.fullmatch(compact) is not None or _SECRET_ENDINGS.fullmatch(compact) is not None
