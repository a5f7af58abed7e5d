"""Certificates of the webhook: an authority of our own and the leaf it signs, made and read. Pure but for fresh keys.

Nothing here knows when something is due (`certificate_plan.py`) or where it is kept. EC P-256 throughout: small and quick, and
known to every API server. Keys never appear in a repr. Whatever cannot be read, or does not fit, is None or left out, never an
error: the content of a Secret is anybody's. Called by `certificate_plan.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ORGANIZATION: Final = "ai-gateway.io"
"""Marks authorities of ours: others that stand in a `caBundle` are never taken over."""
BACKDATE: Final = timedelta(minutes=5)
"""Certificates are valid from this long before they were made: clocks of API servers are not ours."""

_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for content that is no certificate or key of a kind we make."""
_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Leaf:
    """The serving certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


def make_authority(now: datetime, life: timedelta) -> Authority:
    """Return a new self-signed authority, valid from BACKDATE before `now` to `life` after it; it signs leaves only."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            # A name of its own: clients that look for the issuer by name find the right one of two.
            x509.NameAttribute(NameOID.COMMON_NAME, f"webhook authority {serial:x}"[:64]),
        ]
    )
    usage = _usage(signs_certificates=True)
    builder = _builder(name, name, key, serial, now, now + life)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def issue_leaf(authority: Authority, names: Sequence[str], now: datetime, life: timedelta) -> Leaf:
    """Return a leaf for DNS names and addresses, valid from BACKDATE before `now`, never longer than its authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "aigateway-webhook")])
    until = min(now + life, authority.certificate.not_valid_after_utc)
    builder = _builder(subject, authority.certificate.subject, key, x509.random_serial_number(), now, until)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(issuer_key, critical=False)
    return Leaf(builder.sign(authority.key, hashes.SHA256()), key)


def parse_certificates(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PEM bundle in their order; blocks that are none, and text between them, are left out."""
    found = []
    for block in _BLOCK.findall(pem):
        try:
            found.append(x509.load_pem_x509_certificate(block))
        except _UNREADABLE:
            continue
    return found


def parse_key(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    """Return an unencrypted EC key; None for anything else."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except _UNREADABLE:
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def parse_leaf(chain_pem: bytes, key_pem: bytes, now: datetime) -> Leaf | None:
    """Return the leaf of a chain; None if it cannot be read, its key does not fit, or it is not valid now."""
    certificates, key = parse_certificates(chain_pem), parse_key(key_pem)
    if not certificates or key is None or not _fits(certificates[0], key) or not is_valid(certificates[0], now):
        return None
    return Leaf(certificates[0], key)


def parse_authorities(pem: bytes, now: datetime) -> dict[str, x509.Certificate]:
    """Return fingerprint → certificate of the authorities of ours that are valid now."""
    return {fingerprint(one): one for one in parse_certificates(pem) if _is_ours(one) and is_valid(one, now)}


def find_authority(key_pem: bytes, certificates: Iterable[x509.Certificate]) -> Authority | None:
    """Return the authority that this key belongs to; None if the key cannot be read or belongs to none of them."""
    key = parse_key(key_pem)
    if key is None:
        return None
    return next((Authority(one, key) for one in certificates if _fits(one, key)), None)


def find_issuer(leaf: x509.Certificate, certificates: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """Return the authority that signed the leaf, None if it is none of them."""
    return next((one for one in certificates if _signed(leaf, one)), None)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return what tells certificates apart: SHA-256 in hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether `now` is within its life."""
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def covers(certificate: x509.Certificate, names: Iterable[str]) -> bool:
    """Tell whether a leaf is for all of these DNS names and addresses."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except _UNREADABLE:
        return False
    return set(map(_general_name, names)) <= set(alternatives)


def render_certificates(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return certificates as one PEM bundle, the same bytes whatever their order: oldest first."""
    ordered = sorted(certificates, key=lambda one: (one.not_valid_before_utc, fingerprint(one)))
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in ordered)


def render_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as unencrypted PKCS #8 PEM; always the same bytes for the same key."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    serial: int,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), serial)
    builder = builder.not_valid_before(now - BACKDATE).not_valid_after(until)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _fits(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except _UNREADABLE:
        return False


def _signed(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except _UNREADABLE:
        return False
    return True


def _is_ours(certificate: x509.Certificate) -> bool:
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except _UNREADABLE:
        return False
    return constraints.ca and [name.value for name in names] == [ORGANIZATION]
