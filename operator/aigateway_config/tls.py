"""TLS of clients: which certificates are believed, the same in every Python and as kubectl, curl and Go programs believe them.

Since Python 3.13 its contexts are strict: a chain without key identifiers or key usage, which RFC 5280 wants and nobody else
insists on, is refused. API servers of EKS and MicroK8s have such, and so have many CAs that people make for a Redis.
Names, dates and signatures are checked as ever. A leaf, called by whoever makes a context or is handed one by a library.
Source: https://github.com/kubernetes-client/python/issues/2394, https://github.com/canonical/microk8s/pull/5537
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

STRICT: Final = ssl.VERIFY_X509_STRICT
"""For libraries that make contexts themselves and take flags to leave out."""
PARTIAL: Final = ssl.VERIFY_X509_PARTIAL_CHAIN
"""For such, to put in: an intermediate CA that is trusted is enough, without its root."""


def client_context(ca_file: Path | str | None = None, ca: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts the CAs of a file, or those in `ca` (PEM); None for both: the system's.

    Raises OSError or ValueError (ssl.SSLError is both) where they cannot be used. Reads files: not for an event loop.
    """
    return as_others_verify(ssl.create_default_context(cafile=ca_file, cadata=ca))


def as_others_verify(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return a context of somebody else's making, no stricter than it is with Python 3.12."""
    context.verify_flags = (context.verify_flags & ~STRICT) | PARTIAL
    return context
