"""Which models a presented key opens, found without comparing keys byte by byte.

Keys are looked up by a digest under a random key of this process: how long a look-up takes says nothing about any key, and
10,000 models cost one look-up, not 10,000 comparisons. Pure but for that random key. Called by `serving`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Final

from aigateway_config.model import Model

_PROCESS_KEY: Final = secrets.token_bytes(32)


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the bearer token of a request; None: there is none."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            token = token.strip()
            return token if scheme.lower() == b"bearer" and token else None
    return None


def digest(key: bytes) -> bytes:
    """Return a digest that only this process can compute."""
    return hashlib.blake2b(key, key=_PROCESS_KEY, digest_size=16).digest()


class Keyring:
    """Digests of the proxy keys of one configuration. A model that is the same object as before is not digested again."""

    __slots__ = ("_opens", "known")

    def __init__(self, models: Mapping[str, Model], previous: Keyring | None = None) -> None:
        known = {} if previous is None else previous.known
        self.known: dict[str, tuple[Model, bytes | None]] = {}
        self._opens: dict[bytes, list[str]] = {}
        for name, model in models.items():
            entry = known.get(name)
            if entry is None or entry[0] is not model:
                entry = model, _digest_of(model)
            self.known[name] = entry
            if entry[1] is not None:
                self._opens.setdefault(entry[1], []).append(name)

    def opens(self, presented: bytes) -> list[str]:
        """Return the names of the models whose key this is, in the order of the configuration; [] if none."""
        return self._opens.get(digest(presented), [])

    def is_for(self, name: str, presented: bytes) -> bool:
        """Whether `presented` is the key of the model."""
        _, expected = self.known[name]
        return expected is not None and secrets.compare_digest(expected, digest(presented))


def _digest_of(model: Model) -> bytes | None:
    """Return None where no key can match: the Secret is missing or blank. A key's line end is not part of it."""
    key = "" if model.proxy_key is None else model.proxy_key.get_secret_value().strip()
    return digest(key.encode()) if key else None
