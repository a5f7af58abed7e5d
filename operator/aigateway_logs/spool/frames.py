"""Format of a segment: how a record is framed, and how records are found again in damaged files. Pure.

A segment is a line that names format and boot, then frames: marker, length, CRC-32, sequence, payload. The checksum
covers length, sequence and payload, so that a frame is either whole or nothing. After damage the next whole frame is
searched by its marker; what lies between is reported once. Called by `writer` and `reader`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MARKER: Final = b"\xa5LOG"
_HEAD: Final = struct.Struct("<4sIIQ")
HEAD_BYTES: Final = _HEAD.size
"""What a frame adds to its payload."""
_SEALED: Final = struct.Struct("<IQ")
_FORMAT: Final = b"aigateway-spool 1 "
LONGEST_PAYLOAD: Final = 1024 * 1024
"""Longer ones are never written, so that a damaged length cannot make a reader skip far."""


@dataclass(frozen=True, slots=True)
class Found:
    """A whole record. `end` is the offset behind it."""

    sequence: int
    payload: bytes
    end: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no record. `end` is where the next whole frame begins, or the end of the data."""

    start: int
    end: int


def header(boot: str) -> bytes:
    """First line of a segment."""
    return _FORMAT + boot.encode() + b"\n"


def header_length(data: bytes) -> int:
    """Length of the first line; 0 when it is damaged, so that it is reported as damage."""
    return data.find(b"\n") + 1 if data.startswith(_FORMAT) else 0


def frame(sequence: int, payload: bytes) -> bytes:
    """Return one framed record; raises ValueError for a payload over `LONGEST_PAYLOAD`."""
    if len(payload) > LONGEST_PAYLOAD:
        raise ValueError(f"payload has {len(payload)} bytes; the longest allowed is {LONGEST_PAYLOAD}")
    return _HEAD.pack(_MARKER, len(payload), _checksum(sequence, payload), sequence) + payload


def scan(data: bytes, offset: int) -> Iterator[Found | Damage]:
    """Yield what `data` holds from `offset`, in order. An incomplete frame at the end is damage up to the end."""
    while offset < len(data):
        found = _frame_at(data, offset)
        if found is None:
            end = _next_frame(data, offset + 1)
            yield Damage(offset, end)
            offset = end
        else:
            yield found
            offset = found.end


def _frame_at(data: bytes, offset: int) -> Found | None:
    start = offset + _HEAD.size
    if start > len(data):
        return None
    marker, length, checksum, sequence = _HEAD.unpack_from(data, offset)
    if marker != _MARKER or length > LONGEST_PAYLOAD or start + length > len(data):
        return None
    payload = data[start : start + length]
    return Found(sequence, payload, start + length) if _checksum(sequence, payload) == checksum else None


def _next_frame(data: bytes, offset: int) -> int:
    while (offset := data.find(_MARKER, offset)) >= 0:
        if _frame_at(data, offset) is not None:
            return offset
        offset += 1
    return len(data)


def _checksum(sequence: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_SEALED.pack(len(payload), sequence)))
