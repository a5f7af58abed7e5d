"""The validity of a certificate, compared with what a complete reader of certificates says."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway_operator.admission.validity import validity_of

KEY = ec.generate_private_key(ec.SECP256R1())
MOMENTS = st.datetimes(datetime(1951, 1, 1), datetime(9990, 1, 1)).map(lambda moment: moment.replace(microsecond=0, tzinfo=UTC))  # noqa: DTZ001


def certificate(begins: datetime, ends: datetime, name: str = "x", serial: int = 7) -> bytes:
    """Return a self-signed certificate as DER."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(KEY.public_key())
    builder = builder.serial_number(serial).not_valid_before(begins).not_valid_after(ends)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


WHOLE = certificate(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


@settings(max_examples=100, deadline=None)
@given(MOMENTS, st.integers(0, 10**9), st.text("abc", min_size=1, max_size=60), st.integers(1, 2**158))
def test_it_is_what_a_complete_reader_says(begins: datetime, seconds: int, name: str, serial: int) -> None:
    """Both notations of time, all centuries, names and numbers of any length."""
    ends = min(begins + timedelta(seconds=seconds), datetime(9999, 1, 1, tzinfo=UTC))
    der = certificate(begins, ends, name, serial)
    read = x509.load_der_x509_certificate(der)
    assert validity_of(der) == (read.not_valid_before_utc, read.not_valid_after_utc) == (begins, ends)


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=60))
def test_anything_else_is_an_error_of_one_kind(end: int, garbage: bytes) -> None:
    """Cut off anywhere, garbage, empty: ValueError, and nothing read beyond the end."""
    with pytest.raises(ValueError, match="certificate"):
        validity_of(WHOLE[:end])
    with contextlib.suppress(ValueError):
        validity_of(garbage)
    with contextlib.suppress(ValueError):
        validity_of(WHOLE[:end] + garbage + WHOLE[end + len(garbage) :])
