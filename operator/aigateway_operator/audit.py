"""The words of the audit trail that webhook, controller and command line share: what changed, and which trace it belongs to.

Pure but for the redactor's set of known secrets. Values are redacted here already, by the name of the field they stand in: once
a field has become a path, the redactor of the logs could not tell any more. Must not know HTTP, kopf or MongoDB.
Source: docs/audit.md#what-is-recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import Any, Final, Literal

import orjson

from aigateway_logs.redaction import redact_field

ChangeType = Literal["create", "update", "delete"]
AUDITED: Final = ("admission", "config_update", "render", "rollout", "health_change", "leadership")
"""Operations that the audit trail is made of; the others are requests of callers."""
MAX_CHANGES: Final = 100
"""Fields of one change that are recorded; how many there are beyond that is not counted."""
MAX_TEXT: Final = 24 * 1024
"""Characters of paths and values of one change, together."""
_MAX_VALUE: Final = 1024
_MAX_SHOWN: Final = 40
_MAX_DEPTH: Final = 24
_MAX_ITEMS: Final = 64


def field_changes(old: object, new: object) -> list[dict[str, Any]]:
    """Return what differs between two specs, field by field: `{path, old, new}`, null where a field is not set.

    Entries of lists of named objects (`backends`) go by their name, others by their place. At most `MAX_CHANGES`; the last
    entry is `{path: "…"}` when there are more. Values are redacted, and those that are no scalars are JSON as text; of a change
    with much text each value keeps its beginning, so that a record stays whole, and small beside what others have to say.
    """
    found = [] if _same(old, new) else list(islice(_walk("spec", "spec", old, new, 0), MAX_CHANGES + 1))
    changes = [{"path": path, "old": _value(name, before), "new": _value(name, after)} for path, name, before, after in found]
    changes = changes if len(changes) <= MAX_CHANGES else [*changes[:MAX_CHANGES], {"path": "…", "old": None, "new": None}]
    return changes if sum(map(_length, changes)) <= MAX_TEXT else [_shortened(one, len(changes)) for one in changes]


def change_summary(change_type: ChangeType, changes: Sequence[Mapping[str, Any]]) -> str:
    """Return one line about a change, for people."""
    if change_type != "update":
        return {"create": "created", "delete": "deleted"}[change_type]
    if not changes:
        return "nothing in spec"
    if len(changes) == 1:
        (one,) = changes
        return f"{one['path']}: {_shown(one['old'])} → {_shown(one['new'])}"
    named = ", ".join(str(change["path"]) for change in changes[:3])
    return f"{len(changes)} fields: {named}" + (", …" if len(changes) > 3 else "")


def trace_of_revision(lineage: str, revision: int, credentials_revision: int) -> str:
    """Return the trace id of what belongs to no single edit: a revision that several edits, or a Secret, brought about."""
    return sha256(f"{lineage}/revision/{revision}.{credentials_revision}".encode()).hexdigest()[:32]


def _walk(path: str, name: str, old: object, new: object, depth: int) -> Iterator[tuple[str, str, object, object]]:
    """Yield (path, name of the field, old, new) of every leaf that differs, of two values that are not the same."""
    before, after = _fields(old), _fields(new)
    scalar = (before is None and old is not None) or (after is None and new is not None)
    before, after = before or {}, after or {}
    if depth >= _MAX_DEPTH or scalar or not (before or after):
        yield path, name, old, new
        return
    for key in [*before, *(key for key in after if key not in before)]:
        was, now = before.get(key), after.get(key)
        if _same(was, now):
            continue
        step = f"[{key[1:]}]" if key.startswith("\0") else f".{key}"
        leaf = name if key.startswith("\0") else key
        if isinstance(was, dict | list) or isinstance(now, dict | list):
            yield from _walk(path + step, leaf, was, now, depth + 1)
        else:
            yield path + step, leaf, was, now


def _same(old: object, new: object) -> bool:
    """Tell whether two values are the same JSON. Python alone takes 1, 1.0 and true for equal, inside of others too."""
    if type(old) is not type(new) or old != new:
        return False
    if not isinstance(old, dict | list):
        return True
    try:
        return orjson.dumps(old, option=orjson.OPT_SORT_KEYS) == orjson.dumps(new, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested too deeply to be written
        return False


def _fields(value: object) -> dict[str, object] | None:
    """Return the fields of a mapping, or of a list of mappings under keys that begin with NUL; None of anything else."""
    if isinstance(value, dict):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        names = [item.get("name") for item in value]
        unique = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
        return {f"\0{name if unique else index}": item for index, (name, item) in enumerate(zip(names, value, strict=True))}
    return None


def _value(name: str, value: object) -> Any:
    """Return a value as it may be recorded."""
    if value is None:
        return None
    redacted = redact_field(name, _pruned(value, 0))
    if isinstance(redacted, dict | list):
        redacted = orjson.dumps(redacted).decode()
    if isinstance(redacted, str) and len(redacted) > _MAX_VALUE:
        return f"{redacted[:_MAX_VALUE]}…"
    return redacted


def _length(change: Mapping[str, Any]) -> int:
    old, new = change["old"], change["new"]
    return len(change["path"]) + (len(old) if isinstance(old, str) else 0) + (len(new) if isinstance(new, str) else 0)


def _shortened(change: Mapping[str, Any], changes: int) -> dict[str, Any]:
    """Return one of so many changes with its share of the text: a third for the path, one for each value."""
    most = MAX_TEXT // changes // 3
    return {
        name: f"{value[:most]}…" if isinstance(value, str) and len(value) > most else value for name, value in change.items()
    }


def _pruned(value: object, depth: int) -> object:
    """Return as much of a value as may be shown, and some more: redacting megabytes would hold up everybody's reviews."""
    if isinstance(value, str):
        return value[: 2 * _MAX_VALUE]
    if isinstance(value, dict | list) and depth >= _MAX_DEPTH // 2:
        return "…"
    if isinstance(value, dict):
        return {str(key)[:_MAX_VALUE]: _pruned(item, depth + 1) for key, item in islice(value.items(), _MAX_ITEMS)}
    return [_pruned(item, depth + 1) for item in value[:_MAX_ITEMS]] if isinstance(value, list) else value


def _shown(value: object) -> str:
    if value is None:
        return "(not set)"
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
