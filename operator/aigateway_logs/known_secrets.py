"""The secrets that this process has read, so that they can be taken out of whatever it logs, in any shape and place.

Values are kept in memory only, never shown. Finding them must stay cheap with 20,000 of them, since every record is
searched: few are searched one by one; of many, only those whose last characters stand somewhere (keys of one vendor begin
alike). Called by `redaction`, and by whoever reads a Secret (through `register_secret`).
"""

from __future__ import annotations

import base64
import threading
from typing import Final
from urllib.parse import quote

SHORTEST: Final = 8
"""Shorter values are not kept: they would mask ordinary words, and could be guessed from what is left."""
_FEW: Final = 24
_MOST: Final = 50_000


class KnownSecrets:
    """A set of values to look for. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, None] = {}
        self._by_end: dict[str, dict[str, None]] = {}

    def __repr__(self) -> str:
        return f"KnownSecrets({len(self._values)} values)"

    def add(self, value: str | bytes) -> None:
        """Remember a value, and the ways it is written in Secrets (base64) and URIs (percent-encoding).

        Beyond 50,000 forms the oldest is forgotten.
        """
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        if len(text.strip()) < SHORTEST:
            return
        text = text.strip()
        with self._lock:
            for form in {text, base64.b64encode(text.encode(errors="replace")).decode().rstrip("="), quote(text, safe="")}:
                self._remember(form)
            while len(self._values) > _MOST:
                self._forget(next(iter(self._values)))

    def mask(self, text: str, mask: str) -> str:
        """Return `text` with every known value replaced by `mask`."""
        if not self._values or len(text) < SHORTEST:
            return text
        for value in self._found(text):
            text = text.replace(value, mask)
        return text

    def _found(self, text: str) -> list[str]:
        """Values in `text`, the longest first: one may hold another."""
        values = self._values
        if len(values) <= _FEW:
            found = [value for value in tuple(values) if value in text]
        else:
            ends = self._by_end
            places = {text[at : at + SHORTEST] for at in range(len(text) - SHORTEST + 1)}
            found = [value for place in places & ends.keys() for value in tuple(ends[place]) if value in text]
        return sorted(found, key=len, reverse=True)

    def _remember(self, form: str) -> None:
        if form not in self._values:
            self._values[form] = None
            self._by_end.setdefault(form[-SHORTEST:], {})[form] = None

    def _forget(self, form: str) -> None:
        del self._values[form]
        alike = self._by_end[form[-SHORTEST:]]
        del alike[form]
        if not alike:
            del self._by_end[form[-SHORTEST:]]


KNOWN: Final = KnownSecrets()
"""Those of this process."""


def register_secret(value: str | bytes) -> None:
    """Keep `value` out of everything that this process logs from now on. Values shorter than 8 characters are ignored."""
    KNOWN.add(value)
