"""ConfigMaps and Secrets in the API server's protobuf encoding, from the JSON objects of this room and back.

A document as JSON inside JSON is escaped, parsed and escaped again; in protobuf it is copied. Only the fields in the tables
below are known: an object to write that holds another one goes as JSON, and of an answer nothing else is read. Pure; called by
`client` and `answers`.
The wire format itself is `aigateway_config.protobuf`, which pods have too.
Source: generated.proto of k8s.io/api/core/v1 and of k8s.io/apimachinery/pkg/apis/meta/v1
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, Final

from aigateway_config.protobuf import BYTES, CONTENT_TYPE, MAGIC, MORE, VARINT, content, fields, unwrap
from aigateway_operator.kube.resources import JsonObject

__all__ = ["CONTENT_TYPE", "MAGIC", "decode", "encode"]


class _Kind(Enum):
    TEXT = auto()
    FLAG = auto()
    TIME = auto()
    TEXTS = auto()
    """A mapping of texts."""
    BINARIES = auto()
    """A mapping of bytes, which in JSON are base64."""
    METADATA = auto()
    OWNERS = auto()


_Table = Mapping[str, tuple[int, _Kind]]
"""Name in JSON → number in protobuf, and what it is."""

_OWNER: Final[_Table] = {
    "kind": (1, _Kind.TEXT),
    "name": (3, _Kind.TEXT),
    "uid": (4, _Kind.TEXT),
    "apiVersion": (5, _Kind.TEXT),
    "controller": (6, _Kind.FLAG),
    "blockOwnerDeletion": (7, _Kind.FLAG),
}
_METADATA: Final[_Table] = {
    "name": (1, _Kind.TEXT),
    "namespace": (3, _Kind.TEXT),
    "uid": (5, _Kind.TEXT),
    "resourceVersion": (6, _Kind.TEXT),
    "creationTimestamp": (8, _Kind.TIME),
    "labels": (11, _Kind.TEXTS),
    "annotations": (12, _Kind.TEXTS),
    "ownerReferences": (13, _Kind.OWNERS),
}
_OBJECTS: Final[Mapping[str, _Table]] = {
    "ConfigMap": {
        "metadata": (1, _Kind.METADATA),
        "data": (2, _Kind.TEXTS),
        "binaryData": (3, _Kind.BINARIES),
        "immutable": (4, _Kind.FLAG),
    },
    "Secret": {
        "metadata": (1, _Kind.METADATA),
        "data": (2, _Kind.BINARIES),
        "type": (3, _Kind.TEXT),
        "immutable": (5, _Kind.FLAG),
    },
    "Status": {"message": (3, _Kind.TEXT), "reason": (4, _Kind.TEXT)},
}


def encode(obj: JsonObject) -> bytes | None:
    """Return an object as a request's body; None: only JSON can say it, because of its kind, a field or a value."""
    kind = obj.get("kind")
    table = _OBJECTS.get(kind) if isinstance(kind, str) and obj.get("apiVersion") == "v1" else None
    if kind is None or table is None:
        return None
    try:
        raw = _encode(table, {name: value for name, value in obj.items() if name not in {"apiVersion", "kind"}})
    except (KeyError, AttributeError, TypeError, ValueError):
        return None
    return MAGIC + _field(1, _field(1, b"v1") + _field(2, kind.encode())) + _field(2, raw)


def decode(body: bytes) -> JsonObject:
    """Return the object of an answer that begins with `MAGIC`, as JSON would have it. Raises ValueError if it is broken."""
    version, kind, message = unwrap(body)
    return {"apiVersion": version, "kind": kind} | _decode(_OBJECTS.get(kind, {}), message)


def _encode(table: _Table, obj: Mapping[str, Any]) -> bytes:
    """Return a message. Raises an error of any of the kinds that `encode` knows for what is not in the table."""
    parts: list[bytes] = []
    for name, value in obj.items():
        number, kind = table[name]
        if kind is _Kind.TEXT:
            parts.append(_field(number, value.encode()))
        elif kind is _Kind.TEXTS:
            parts += (_field(number, _pair(key, text.encode())) for key, text in value.items())
        elif kind is _Kind.BINARIES:
            parts += (_field(number, _pair(key, base64.b64decode(text, validate=True))) for key, text in value.items())
        elif kind is _Kind.FLAG and isinstance(value, bool):
            parts += (_number(number << 3 | VARINT), _number(value))
        elif kind is _Kind.METADATA:
            parts.append(_field(number, _encode(_METADATA, value)))
        elif kind is _Kind.OWNERS:
            parts += (_field(number, _encode(_OWNER, one)) for one in value)
        else:
            raise TypeError
    return b"".join(parts)


def _field(number: int, value: bytes) -> bytes:
    return b"".join((_number(number << 3 | BYTES), _number(len(value)), value))


def _pair(key: str, value: bytes) -> bytes:
    return _field(1, key.encode()) + _field(2, value)


def _number(value: int) -> bytes:
    found = bytearray()
    while value >= MORE:
        found.append(value & 0x7F | MORE)
        value >>= 7
    found.append(value)
    return bytes(found)


def _decode(table: _Table, message: bytes) -> JsonObject:
    """Return what a message says of the table's fields. Empty texts are left out, as in JSON: the server writes all of them."""
    names = {number: (name, kind) for name, (number, kind) in table.items()}
    found: JsonObject = {}
    for number, value in fields(message):
        name, kind = names.get(number, ("", None))
        if kind is None:
            continue
        if kind is _Kind.FLAG:
            found[name] = bool(value)
        elif not (part := content(value)):
            continue
        elif kind is _Kind.TEXT:
            found[name] = part.decode(errors="replace")
        elif kind is _Kind.TIME:
            found[name] = _time(part)
        elif kind is _Kind.METADATA:
            found[name] = _decode(_METADATA, part)
        elif kind is _Kind.OWNERS:
            found.setdefault(name, []).append(_decode(_OWNER, part))
        else:
            key, inner = (content(dict(fields(part)).get(place, b"")) for place in (1, 2))
            text = base64.b64encode(inner).decode() if kind is _Kind.BINARIES else inner.decode(errors="replace")
            found.setdefault(name, {})[key.decode(errors="replace")] = text
    return found


def _time(message: bytes) -> str:
    seconds = dict(fields(message)).get(1, 0)
    if not isinstance(seconds, int):
        raise ValueError("a time without a number")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
