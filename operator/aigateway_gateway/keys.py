"""Which models a presented key opens, found without comparing keys byte by byte.

Keys are looked up by a digest under a random key of this process: how long a look-up takes says nothing about any key, and
10,000 models cost one look-up, not 10,000 comparisons. Pure but for that random key. Called by `serving`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable, Mapping
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
    """Digests of the proxy keys of one configuration; never changed once made, since requests go on with the one they took.

    previous, changed: an earlier one, and the names of the models that are other objects than there, those that are gone
    included; None: any may be. Models that did not change are not looked at.
    """

    __slots__ = ("by_digest", "known")

    def __init__(
        self, models: Mapping[str, Model], previous: Keyring | None = None, changed: Collection[str] | None = None
    ) -> None:
        self.known: dict[str, tuple[Model, bytes]] = {} if previous is None else previous.known.copy()
        self.by_digest: dict[bytes, list[str]] = {} if previous is None else previous.by_digest.copy()
        left: dict[bytes, set[str]] = {}
        entered: dict[bytes, list[str]] = {}
        for name in {**models, **self.known} if changed is None else changed:
            before, after = self._take(name, models.get(name))
            if before != after:
                left.setdefault(before, set()).add(name)
                entered.setdefault(after, []).append(name)
        for key in (left.keys() | entered.keys()) - {b""}:
            stay = [name for name in self.by_digest.pop(key, ()) if name not in left.get(key, ())]
            if opened := stay + entered.get(key, []):
                self.by_digest[key] = opened

    def _take(self, name: str, model: Model | None) -> tuple[bytes, bytes]:
        """Put a model in the place of the one of that name, None: there is none; return both digests."""
        known = self.known.get(name)
        before = b"" if known is None else known[1]
        if model is None:
            self.known.pop(name, None)
            return before, b""
        if known is None or known[0] is not model:
            self.known[name] = model, _digest_of(model)
        return before, self.known[name][1]

    def opens(self, presented: bytes) -> list[str]:
        """Return the names of the models whose key this is, those that came later at the end; [] if none. Read only."""
        return self.by_digest.get(digest(presented), [])

    def is_for(self, name: str, presented: bytes) -> bool:
        """Whether `presented` is the key of the model."""
        _, expected = self.known[name]
        return bool(expected) and secrets.compare_digest(expected, digest(presented))


def _digest_of(model: Model) -> bytes:
    """Return b"" where no key can match: the Secret is missing or blank. A key's line end is not part of it."""
    key = "" if model.proxy_key is None else model.proxy_key.get_secret_value().strip()
    return digest(key.encode()) if key else b""
