"""What an API server says of ConfigMaps in protobuf, for stand-ins of one. Numbers are those of generated.proto.

Objects are given as JSON would have them and are encoded by the operator's own encoder, which is held against a real server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aigateway_config.protobuf import CONTENT_TYPE, MAGIC, unwrap
from aigateway_operator.kube import protobuf

JsonObject = dict[str, Any]

__all__ = ["CONTENT_TYPE", "config_map_list", "status", "watch_event"]


def config_map_list(items: Sequence[JsonObject], version: str, following: str = "") -> bytes:
    """Return a page of a list; items without apiVersion and kind, as in a list."""
    about = _field(2, version.encode()) + (_field(3, following.encode()) if following else b"")
    return _wrap("ConfigMapList", _field(1, about) + b"".join(_field(2, unwrap(_encode(item))[2]) for item in items))


def watch_event(kind: str, obj: JsonObject | bytes) -> bytes:
    """Return an event of a watch with its length before it. obj: a ConfigMap, or bytes, as of `status`."""
    raw = obj if isinstance(obj, bytes) else _encode(obj)
    frame = _field(1, kind.encode()) + _field(2, _field(1, raw))
    return len(frame).to_bytes(4, "big") + frame


def status(code: int, message: str) -> bytes:
    """Return a Status of failure."""
    return _wrap("Status", _field(2, b"Failure") + _field(3, message.encode()) + b"\x30" + _number(code))


def _encode(obj: JsonObject) -> bytes:
    body = protobuf.encode({"apiVersion": "v1", "kind": "ConfigMap", **obj})
    assert body is not None, obj
    return body


def _wrap(kind: str, raw: bytes) -> bytes:
    return MAGIC + _field(1, _field(1, b"v1") + _field(2, kind.encode())) + _field(2, raw)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _number(len(content)) + content


def _number(value: int) -> bytes:
    low, high = value & 0x7F, value >> 7
    return bytes([low]) if not high else bytes([low | 0x80]) + _number(high)
