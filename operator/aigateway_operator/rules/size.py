"""How large a spec is, roughly, found in bounded time: the gate before all other rules.

Pure. Files may hold YAML aliases, so a small text can unfold into an endless tree; a walk that counts and gives up is
the only way to look at it at all. Called by the rules of both kinds and by `entry`, first.

Source: etcd's limit of 1.5 MiB for a request, ConfigMap's of 1 MiB (about 4 models of this size would fill one);
docs/rules.md#r23.
"""

from __future__ import annotations

from typing import Final

from aigateway_operator.rules.violation import FieldReason, Violation

MAX_BYTES: Final = 256 * 1024
GIVE_UP_BYTES: Final = 1024 * 1024
"""Beyond this nothing else is checked: the time that the other rules take would no longer be bounded."""
_CONTAINER: Final = 2
_SCALAR: Final = 8


def check_size(spec: object, path: str) -> tuple[list[Violation], bool]:
    """Check that `spec` is at most 256 KiB as JSON, by estimate. Returns violations, and whether to check more."""
    size = estimate_bytes(spec)
    if size <= MAX_BYTES:
        return [], True
    text = f"more than {GIVE_UP_BYTES // 1024}" if size > GIVE_UP_BYTES else f"about {size // 1024}"
    message = f"is {text} KiB large; at most {MAX_BYTES // 1024} KiB are allowed for one object. Remove what is not needed."
    return [Violation(path, FieldReason.TOO_LONG, message, "R23")], size <= GIVE_UP_BYTES


def estimate_bytes(value: object) -> int:
    """Return the length of `value` as JSON in UTF-8, roughly; the count stops soon after 1 MiB."""
    size = 0
    waiting = [value]
    while waiting and size <= GIVE_UP_BYTES:
        item = waiting.pop()
        if isinstance(item, str):
            size += _CONTAINER + (len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass")))
        elif isinstance(item, dict):
            size += _CONTAINER + 2 * len(item)
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            size += _CONTAINER + len(item)
            waiting.extend(item)
        else:
            size += _SCALAR
    return size
