"""Take secrets out of what is logged before it reaches any sink: credentials in URIs, bearer tokens, values of telling names.

A second line: the first is that nobody logs values. What the process itself has read from Secrets (`known_secrets`) is
taken out wherever it stands; of the rest, structured fields are redacted by their names, text by its shapes, all before
they are encoded, so that no mask can cut an escape sequence in two. Pure but for that set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from math import isfinite
from typing import Any, Final

from aigateway_logs.known_secrets import KNOWN

MASK: Final = "***"
_MAX_DEPTH: Final = 12

_TELLING: Final = r"(?:password|passwd|secret|token|api[_-]?key|proxy[_-]?key|private[_-]?key|credential|authorization)"
_TELLING_NAME: Final = re.compile(rf"(?i)(?:^|.*[\W_]|.*(?<=[a-z])(?=(?-i:[A-Z]))){_TELLING}\Z", re.DOTALL)
_URI_USERINFO: Final = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#'\"]*@|[^\s/?#'\"@:]*:[^\s'\"]*@)")
_BEARER: Final = re.compile(r"(?i)\b(?P<kind>bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_NAMED: Final = re.compile(
    rf"(?i)(?P<name>[\"']?\b[\w.-]*{_TELLING}\b(?:\\?[\"'])?\s*[=:]\s*)"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s\"',;}{&][^\s,;}{&]*)"
)
_KNOWN_SHAPES: Final = re.compile(
    r"\b(?:(?:sk|gsk|xai|pplx|r8|hf|ghp|gho|ghs|glpat)[-_][A-Za-z0-9_-]{8,}|AIza[A-Za-z0-9_-]{20,}|AKIA[A-Z0-9]{12,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*)"
)
_WORDS: Final = (
    *("passw", "secret", "token", "key", "credential", "authorization", "bearer", "basic", "://"),
    *("aiza", "akia", "eyj"),
)
_PREFIXES: Final = tuple(
    f"{prefix}{sign}" for prefix in ("sk", "xai", "pplx", "r8", "hf", "ghp", "gho", "ghs", "glpat") for sign in "-_"
)
"""A word or a prefix is in every text (lower case) that a pattern changes: most hold none, and plain searches are quick."""
_SHORT: Final = 64
"""Longest text of which it is remembered whether it holds one."""
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


def redact(text: str) -> str:
    """Return `text` with everything that looks like a secret replaced by `***`."""
    text = KNOWN.mask(text, MASK)
    if not (_suspicious_short(text) if len(text) <= _SHORT else _suspicious(text)):
        return text
    text = _PRIVATE_KEY.sub(MASK, text)
    text = _URI_USERINFO.sub(rf"\g<scheme>{MASK}@", text)
    text = _BEARER.sub(rf"\g<kind> {MASK}", text)
    text = _KNOWN_SHAPES.sub(MASK, text)
    return _NAMED.sub(_mask_named, text)


def redact_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields as JSON values: those of telling names masked whole, all text redacted, anything else as its text."""
    return {str(name): _redact_field(str(name), value, 0) for name, value in fields.items()}


def redact_field(name: str, value: Any) -> Any:
    """Return one such field's value."""
    return _redact_field(name, value, 0)


def _redact_field(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _is_telling(name):
        return MASK
    if type(value) is str:  # most are: asking whether it is a Mapping takes as long as all the rest
        return redact(value)
    if isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        return value
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {redact(str(key)): _redact_field(str(key), item, depth + 1) for key, item in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_redact_field("", item, depth + 1) for item in value]
    return redact(value if isinstance(value, str) else str(value))


def _suspicious(text: str) -> bool:
    holds = text.lower().__contains__
    return any(map(holds, _WORDS)) or ((holds("-") or holds("_")) and any(map(holds, _PREFIXES)))


_suspicious_short = lru_cache(maxsize=2048)(_suspicious)
"""Sources, components, users and names of objects come again and again."""


@lru_cache(maxsize=2048)
def _is_telling(name: str) -> bool:
    return _TELLING_NAME.match(name) is not None


def _mask_named(match: re.Match[str]) -> str:
    quote = match["value"][0] if match["value"][0] in "\"'" else ""
    return f"{match['name']}{quote}{MASK}{quote}"
