"""When a certificate is valid, read from its DER with no more than is needed for that.

`cryptography` would do it too, for 8 MB in every replica of a process that is to stay below 60. OpenSSL has accepted the
certificate before anything here looks at it. Pure; called by `serving_certificate`.

Source: RFC 5280 sections 4.1 and 4.1.2.5; X.690 (tags and lengths).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_FORMATS: Final = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
"""UTCTime and GeneralizedTime, both in UTC with seconds. RFC 5280 puts years from 50 on into the last century."""
_LONG: Final = 0x80


def validity_of(der: bytes) -> tuple[datetime, datetime]:
    """Return from when and until when a certificate is valid. Raises ValueError if this is no certificate."""
    try:
        _, start, _ = _element(der, 0, _SEQUENCE)
        _, at, _ = _element(der, start, _SEQUENCE)
        tag, _, end = _element(der, at)
        if tag == _VERSION:
            at = end
        for _ in range(3):  # serial number, algorithm of the signature, issuer
            _, _, at = _element(der, at)
        _, at, _ = _element(der, at, _SEQUENCE)
        begins, at = _time(der, at)
        ends, _ = _time(der, at)
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError("not a certificate") from error
    return begins, ends


def _element(der: bytes, at: int, expected: int | None = None) -> tuple[int, int, int]:
    """Return the tag at a place, and where its content begins and ends."""
    tag, length, start = der[at], der[at + 1], at + 2
    if expected is not None and tag != expected:
        raise ValueError("not a certificate")
    if length >= _LONG:
        count = length - _LONG
        length, start = int.from_bytes(der[start : start + count], "big"), start + count
    if start + length > len(der):
        raise ValueError("not a whole certificate")
    return tag, start, start + length


def _time(der: bytes, at: int) -> tuple[datetime, int]:
    tag, start, end = _element(der, at)
    moment = datetime.strptime(der[start:end].decode("ascii"), _FORMATS[tag]).replace(tzinfo=UTC)
    # strptime takes two digits below 69 for this century, RFC 5280 those below 50.
    return (moment.replace(year=moment.year - 100) if len(der[start:end]) == 13 and moment.year >= 2050 else moment), end
