"""ConfigMaps and Secrets in the API server's protobuf encoding, from the JSON objects of this room and back.

A document as JSON inside JSON is escaped, parsed and escaped again; in protobuf it is copied. Only the fields in the tables
below are known: an object to write that holds another one goes as JSON, and of an answer nothing else is read. Pure; called by
`client` and `answers`.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#kubernetes-protobuf-encoding, generated.proto of
k8s.io/api/core/v1, of k8s.io/apimachinery/pkg/apis/meta/v1 and pkg/runtime, https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, Final

from aigateway_operator.kube.resources import JsonObject

CONTENT_TYPE: Final = "application/vnd.kubernetes.protobuf"
MAGIC: Final = b"k8s\0"
"""What every body begins with."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MORE: Final = 0x80
"""Bit of a byte of a number that says that another byte follows."""


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
    envelope = dict(_fields(body[len(MAGIC) :]))
    if not envelope.keys() >= {1, 2}:
        raise ValueError("an envelope that is cut short")
    about = dict(_fields(_bytes(envelope[1])))
    version, kind = (_bytes(about.get(number, b"")).decode() for number in (1, 2))
    return {"apiVersion": version, "kind": kind} | _decode(_OBJECTS.get(kind, {}), _bytes(envelope[2]))


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
            parts += (_number(number << 3 | _VARINT), _number(value))
        elif kind is _Kind.METADATA:
            parts.append(_field(number, _encode(_METADATA, value)))
        elif kind is _Kind.OWNERS:
            parts += (_field(number, _encode(_OWNER, one)) for one in value)
        else:
            raise TypeError
    return b"".join(parts)


def _field(number: int, content: bytes) -> bytes:
    return b"".join((_number(number << 3 | _BYTES), _number(len(content)), content))


def _pair(key: str, value: bytes) -> bytes:
    return _field(1, key.encode()) + _field(2, value)


def _number(value: int) -> bytes:
    found = bytearray()
    while value >= _MORE:
        found.append(value & 0x7F | _MORE)
        value >>= 7
    found.append(value)
    return bytes(found)


def _decode(table: _Table, message: bytes) -> JsonObject:
    """Return what a message says of the table's fields. Empty texts are left out, as in JSON: the server writes all of them."""
    names = {number: (name, kind) for name, (number, kind) in table.items()}
    found: JsonObject = {}
    for number, value in _fields(message):
        name, kind = names.get(number, ("", None))
        if kind is None:
            continue
        if kind is _Kind.FLAG:
            found[name] = bool(value)
        elif not (content := _bytes(value)):
            continue
        elif kind is _Kind.TEXT:
            found[name] = content.decode(errors="replace")
        elif kind is _Kind.TIME:
            found[name] = _time(content)
        elif kind is _Kind.METADATA:
            found[name] = _decode(_METADATA, content)
        elif kind is _Kind.OWNERS:
            found.setdefault(name, []).append(_decode(_OWNER, content))
        else:
            key, inner = (_bytes(dict(_fields(content)).get(part, b"")) for part in (1, 2))
            text = base64.b64encode(inner).decode() if kind is _Kind.BINARIES else inner.decode(errors="replace")
            found.setdefault(name, {})[key.decode(errors="replace")] = text
    return found


def _time(content: bytes) -> str:
    seconds = dict(_fields(content)).get(1, 0)
    if not isinstance(seconds, int):
        raise ValueError("a time without a number")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where text was expected")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field. Raises ValueError for a message that is cut short."""
    at = 0
    while at < len(message):
        tag, at = _read_number(message, at)
        wire, number = tag & 7, tag >> 3
        if wire == _VARINT:
            value, at = _read_number(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _read_number(message, at)
        else:
            length = {_FIXED64: 8, _FIXED32: 4}.get(wire, len(message))
        begin, at = at, at + length
        if at > len(message):
            raise ValueError("a field that is cut short")
        yield number, message[begin:at]


def _read_number(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < _MORE:
            return value, at
    raise ValueError("a number that is cut short")
