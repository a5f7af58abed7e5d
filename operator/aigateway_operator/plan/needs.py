"""Which keys of which Secrets a gateway's rounds need to know, kept true by what comes and goes.

Counts the uses of each reference, so that a change costs what changed and not what exists. Called by `known`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from aigateway_operator.render.references import SecretRef

Credentials = Mapping[str, SecretRef | None]
_NO_CREDENTIALS: Credentials = {}


class Needs:
    """References with the number of their uses."""

    def __init__(self) -> None:
        self._uses: dict[str, Counter[str]] = {}
        self._stale: set[str] = set()
        self._keys: dict[str, frozenset[str]] = {}

    def swap(self, before: Credentials | None, now: Credentials | None) -> None:
        """Take what something names instead of what it named; None: nothing."""
        if before is now or before == now:
            return
        for ref in (now or _NO_CREDENTIALS).values():
            if ref is not None:
                self._use(ref, 1)
        for ref in (before or _NO_CREDENTIALS).values():
            if ref is not None:
                self._use(ref, -1)

    def keys(self) -> Mapping[str, frozenset[str]]:
        """Return every Secret with the keys that are used; the very mapping of before where nothing has changed."""
        renewed = {secret: frozenset(self._uses.get(secret, ())) for secret in self._stale}
        self._stale.clear()
        if any(self._keys.get(secret, frozenset()) != keys for secret, keys in renewed.items()):
            self._keys = {secret: keys for secret, keys in {**self._keys, **renewed}.items() if keys}
        return self._keys

    def _use(self, ref: SecretRef, times: int) -> None:
        uses = self._uses.setdefault(ref.secret, Counter())
        uses[ref.key] += times
        if uses[ref.key] == 0:
            del uses[ref.key]
            if not uses:
                del self._uses[ref.secret]
            self._stale.add(ref.secret)
        elif times > 0 and uses[ref.key] == times:
            self._stale.add(ref.secret)
