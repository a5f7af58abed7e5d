"""What is known of the referenced Secrets of one namespace, and as of which resourceVersion. Pure bookkeeping, no I/O.

Only values of referenced keys are kept; dropping a reference drops its value. Every piece of news carries the
resourceVersion as of which it is true, so that news may arrive in any order: older news never overwrites newer.
Called by `kube.secrets` only.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from aigateway_operator.kube.resources import JsonObject
from aigateway_operator.plan.secret_state import SecretState

REFUSED_TYPES: Final = ("helm.sh/release.v1", "kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token")
"""Types that are never read as references: whoever may edit a VirtualModel must not be able to send them to a backend."""
_NOTHING: Final[frozenset[str]] = frozenset()
_UNKNOWN: Final = SecretState(known=False, exists=False)


@dataclass(frozen=True, slots=True)
class SecretNews:
    """One Secret as it was at resourceVersion `version`, reduced to the keys `looked` at. type None: it was not there."""

    name: str
    version: int
    looked: frozenset[str]
    type: str | None
    values: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class _Entry:
    version: int
    looked: frozenset[str]
    gone: Mapping[str, float]
    state: SecretState
    checked_at: float


class SecretBook:
    """References of each caller, and the state of what they name."""

    def __init__(self) -> None:
        self._callers: dict[str, Mapping[str, frozenset[str]]] = {}
        self._wanted: dict[str, frozenset[str]] = {}
        self._entries: dict[str, _Entry] = {}
        self._lasting: Iterable[str] | None = None
        """The very names of which nothing had to be read, and nothing will have to be until something here changes."""

    def refer(self, caller: str, references: Mapping[str, frozenset[str]]) -> None:
        """Replace what `caller` needs: names of Secrets and their keys, in a mapping that is never changed."""
        before = self._callers.get(caller, {})
        if before is references or before == references:
            return
        self._lasting = None
        self._callers[caller] = references
        for name in before.keys() | references.keys():
            keys = _NOTHING.union(*(wanted[name] for wanted in self._callers.values() if name in wanted))
            if keys:
                self._wanted[name] = keys
                self._narrow(name, keys)
            else:
                self._wanted.pop(name, None)
                self._entries.pop(name, None)

    def wanted(self, name: str) -> frozenset[str]:
        """Return the keys of a Secret that anybody references; empty: nobody does."""
        return self._wanted.get(name, _NOTHING)

    def names(self) -> Iterable[str]:
        """Return the names of every referenced Secret."""
        return self._wanted.keys()

    def state(self, name: str) -> SecretState:
        """Return what is known; `known=False` for what nobody has asked for."""
        entry = self._entries.get(name)
        return _UNKNOWN if entry is None else entry.state

    def states(self, names: Iterable[str]) -> dict[str, SecretState]:
        """Return what is known of each, as `state` does: the very objects of before where nothing changed."""
        entries = self._entries
        return {name: entries[name].state if name in entries else _UNKNOWN for name in names}

    def unsettled(self, names: Iterable[str], refused_before: float) -> list[str]:
        """Return those whose state, or a referenced key's, has to be read; among them refused ones checked before that time.

        A refused Secret is not watched, so its deletion goes unseen. `names` must not change: the same object is taken for
        the same names, so that ten thousand are not gone through in each round.
        """
        if names is self._lasting:
            return []
        found = [name for name in names if not self._settled(name, refused_before)]
        refused = any(name in self._entries and self._entries[name].state.refused_type is not None for name in names)
        self._lasting = None if found or refused else names
        return found

    def learn(self, news: SecretNews, now: float) -> bool:
        """Take news in unless newer is known.

        Returns whether value, presence or type of a referenced key changed from what was known, or doubted, before; False
        for the first news of a Secret, which whoever asked for it reads itself.
        """
        wanted, old = self.wanted(news.name), self._entries.get(news.name)
        if not wanted or not wanted <= news.looked or (old is not None and old.version > news.version):
            return False
        refused = news.type if news.type in REFUSED_TYPES else None
        values = {} if refused else {key: value for key, value in news.values.items() if key in wanted}
        held: Mapping[str, bytes] = {} if old is None else old.state.values
        gone = {} if old is None else {key: since for key, since in old.gone.items() if key in wanted and key not in values}
        gone |= {key: now for key in held if key not in values}
        state = SecretState(
            known=True,
            exists=news.type is not None,
            refused_type=refused,
            values=values,
            gone_since=min(gone.values(), default=None),
        )
        self._entries[news.name] = _Entry(news.version, news.looked, gone, state, now)
        self._lasting = None
        return old is not None and replace(old.state, gone_since=None) != replace(state, gone_since=None)

    def absent(self, listed: Iterable[str], version: int, now: float) -> list[str]:
        """Take a complete list as of `version`: what is known as of before and not listed is gone. Returns what changed."""
        present = set(listed)
        lost = [name for name, entry in self._entries.items() if name not in present and 0 <= entry.version < version]
        return [
            name
            for name in lost
            if self._entries[name].state.refused_type is None
            and self.learn(SecretNews(name, version, self.wanted(name), None), now)
        ]

    def doubted(self, name: str) -> bool:
        """Return whether the last attempt to read it failed."""
        entry = self._entries.get(name)
        return entry is not None and not entry.state.known

    def doubt(self, names: Iterable[str], now: float) -> None:
        """Note that these could not be read: what is known of them stays, but they count as not known."""
        self._lasting = None
        for name in names:
            old = self._entries.get(name)
            if old is None:
                self._entries[name] = _Entry(-1, _NOTHING, {}, _UNKNOWN, now)
            else:
                self._entries[name] = replace(old, state=replace(old.state, known=False))

    def _settled(self, name: str, refused_before: float) -> bool:
        entry = self._entries.get(name)
        if entry is None or not entry.state.known or not self.wanted(name) <= entry.looked:
            return False
        return entry.state.refused_type is None or entry.checked_at >= refused_before

    def _narrow(self, name: str, keys: frozenset[str]) -> None:
        entry = self._entries.get(name)
        if entry is None:
            return
        values = {key: value for key, value in entry.state.values.items() if key in keys}
        gone = {key: since for key, since in entry.gone.items() if key in keys}
        state = replace(entry.state, values=values, gone_since=min(gone.values(), default=None))
        self._entries[name] = replace(entry, looked=entry.looked & keys, gone=gone, state=state)


def parse_secret(obj: JsonObject, wanted: frozenset[str], version: int) -> SecretNews:
    """Reduce a Secret object to the wanted keys; values of a refused type are not even decoded."""
    kind = str(obj.get("type") or "Opaque")
    data = obj.get("data") or {}
    values = {} if kind in REFUSED_TYPES else {key: base64.b64decode(data[key] or "") for key in wanted if key in data}
    return SecretNews(obj["metadata"]["name"], version, wanted, kind, values)
