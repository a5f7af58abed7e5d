"""The API server's protobuf, as far as both sides of a document need it: fields of a message, and the envelope of an object.

A document as JSON inside JSON is escaped by the server and parsed by every pod; in protobuf it is copied. Pure; called by
`api_objects`, and by the operator for what it writes. Nothing is generated and nothing installed: that would cost a pod more
memory than the documents do.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#kubernetes-protobuf-encoding, generated.proto of
k8s.io/apimachinery/pkg/runtime, https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

Part = TypeVar("Part", bytes, memoryview)
"""Bytes, of which each part is a copy, or a view of them, of which no part is."""

CONTENT_TYPE: Final = "application/vnd.kubernetes.protobuf"
MAGIC: Final = b"k8s\0"
"""What every object begins with."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of fields on the wire."""
MORE: Final = 0x80
"""Bit of a byte of a number that says that another byte follows."""


def unwrap(body: Part) -> tuple[str, str, Part]:
    """Return apiVersion, kind and message of an object that begins with `MAGIC`. Raises ValueError if it is broken."""
    if body[: len(MAGIC)] != MAGIC:
        raise ValueError("no Kubernetes object in protobuf: does a proxy answer in place of the API server?")
    envelope = dict(fields(body[len(MAGIC) :]))
    if not envelope.keys() >= {1, 2}:
        raise ValueError("an envelope that is cut short")
    about = dict(fields(content(envelope[1])))
    return text(about, 1), text(about, 2), content(envelope[2])


def content(value: int | Part) -> Part:
    """Return the bytes of a field. Raises ValueError if it is a number."""
    if isinstance(value, int):
        raise ValueError("a number where text was expected")
    return value


def text(message: Mapping[int, int | Part], number: int) -> str:
    """Return a field that is a text, "" if it is not there. Raises ValueError for anything else."""
    value = message.get(number)
    return "" if value is None else str(content(value), "utf-8")


def fields(message: Part) -> Iterator[tuple[int, int | Part]]:
    """Yield number and value of each field. Raises ValueError for a message that is cut short."""
    at = 0
    while at < len(message):
        tag, at = _read_number(message, at)
        wire, number = tag & 7, tag >> 3
        if wire == VARINT:
            value, at = _read_number(message, at)
            yield number, value
            continue
        if wire == BYTES:
            length, at = _read_number(message, at)
        else:
            length = {FIXED64: 8, FIXED32: 4}.get(wire, len(message))
        begin, at = at, at + length
        if at > len(message):
            raise ValueError("a field that is cut short")
        yield number, message[begin:at]


def _read_number(message: Part, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < MORE:
            return value, at
    raise ValueError("a number that is cut short")
