"""JSON of log records, fast where orjson is installed and the same bytes where it is not.

Pods install orjson only with the gateway's extra, so it must stay optional. Called by everything that turns records into bytes.
"""

from __future__ import annotations

import json
from typing import Any

try:
    import orjson

    _FAST = True
except ImportError:  # a pod with the base distribution only
    _FAST = False


def encode(value: Any) -> bytes:
    """Return compact UTF-8 JSON in one line; never raises for what `redact_fields` returns.

    Integers beyond 64 bits and lone surrogates, which orjson refuses, take the slower way.
    """
    if _FAST:
        try:
            return orjson.dumps(value)
        except TypeError:
            pass
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).encode(errors="backslashreplace")


def decode(data: bytes) -> Any:
    """Parse JSON; raises ValueError for what is none."""
    return orjson.loads(data) if _FAST else json.loads(data)
