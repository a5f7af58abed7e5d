"""Names of credentials files: one per referenced key of a Secret, injective.

`<secret>.<key>` where that is unambiguous and short enough, else `_` and 40 hex digits. Documents name these files;
credentials Secrets hold them.
"""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

MAX_KEY = 253
"""Length of a key of a ConfigMap or Secret. Source: Kubernetes, `IsConfigMapKey`."""


class SecretRef(NamedTuple):
    """One key of a Secret in the gateway's namespace."""

    secret: str
    key: str


def credential_key(ref: SecretRef) -> str:
    """Return the file name under which the value of `ref` is mounted.

    Injective: a Secret's name without a dot ends at the first dot of the result, and no Secret's name starts with `_`.
    """
    plain = f"{ref.secret}.{ref.key}"
    if "." not in ref.secret and len(plain) <= MAX_KEY:
        return plain
    digest = sha256(f"{ref.secret}/{ref.key}".encode()).hexdigest()
    return f"_{digest[:40]}"


def secret_of(credential: str) -> SecretRef | None:
    """Return what a credentials file name stands for; None when it is hashed and cannot be read back."""
    if credential.startswith("_"):
        return None
    secret, _, key = credential.partition(".")
    return SecretRef(secret, key)
