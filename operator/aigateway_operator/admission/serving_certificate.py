"""The certificate that the webhook serves, replaced in a live TLS context: connections in use are not touched by it.

Each new pair is tried in a context of its own first, since a context keeps half of a pair that does not fit. Keys are handed
to OpenSSL through a file in memory; nothing is written to a disk. Called by `server`; certificates come through
`ports.CertificateSource`.

Source: Python's `ssl.SSLContext.load_cert_chain` (files only); docs/measured.md#admission-servers (kopf restarts its listener
instead, and refuses connections meanwhile).
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aigateway_operator.admission.validity import validity_of
from aigateway_operator.errors import CertificateError, SettingsError

_CERTIFICATE: Final = re.compile(b"-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----")


def now_utc() -> datetime:
    """Return the time by the clock of this machine."""
    return datetime.now(UTC)


@dataclass(slots=True)
class ServingCertificate:
    """The TLS context of the server, and what is known of the certificate in it."""

    client_ca: Path | None = None
    """Bundle that callers' certificates must be signed by; None: callers need none."""
    now: Callable[[], datetime] = now_utc
    context: ssl.SSLContext = field(init=False)
    not_before: datetime | None = field(default=None, init=False)
    not_after: datetime | None = field(default=None, init=False)
    replaced: int = field(default=0, init=False)
    """How often a pair was taken into use."""
    _pair: tuple[bytes, bytes] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.context = _context()
        if self.client_ca is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
            try:
                self.context.load_verify_locations(cafile=str(self.client_ca))
            except OSError as error:  # ssl.SSLError is one
                raise SettingsError(
                    f"The client CA {self.client_ca} cannot be read ({error.strerror or error}). "
                    "Set AIGATEWAY_WEBHOOK_CLIENT_CA to a file of PEM certificates, or leave it out."
                ) from error

    def use(self, chain: bytes, key: bytes) -> None:
        """Serve this pair from the next handshake on. Raises CertificateError and keeps what is served if it does not fit."""
        if self._pair == (chain, key):
            return
        not_before, not_after = _validity(chain)
        with _as_file(chain + b"\n" + key) as path:
            _load(_context(), path)
            _load(self.context, path)
        self.not_before, self.not_after = not_before, not_after
        self._pair = (chain, key)
        self.replaced += 1

    def why_not_ready(self) -> str | None:
        """Return why the server cannot be trusted now: no certificate yet, or not valid at this time; None if it can."""
        if self.not_before is None or self.not_after is None:
            return "no serving certificate yet"
        now = self.now()
        if now < self.not_before:
            return f"the serving certificate is valid only from {self.not_before:%Y-%m-%dT%H:%M:%SZ}"
        if now >= self.not_after:
            return f"the serving certificate has expired at {self.not_after:%Y-%m-%dT%H:%M:%SZ}"
        return None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _validity(chain: bytes) -> tuple[datetime, datetime]:
    """Return when the first certificate of a chain, the one that is served, is valid."""
    found = _CERTIFICATE.search(chain)
    try:
        if found is None:
            raise ValueError("no PEM")
        return validity_of(base64.b64decode(found[1]))
    except ValueError as error:
        raise CertificateError("tls.crt holds no PEM certificate") from error


def _load(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_cert_chain(path, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else None
        raise CertificateError(f"certificate and key cannot be served: {reason or 'unreadable, or of two pairs'}") from None


def _no_password() -> str:
    """Refuse an encrypted key: without this OpenSSL would ask at the terminal, and wait."""
    raise ValueError("the key is encrypted")


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Give `content` a path for as long as needed: in memory on Linux, else a private file that is removed at once."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("aigateway-tls", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
