"""What differs between two mappings, told by identity: the cheapest question that ten thousand objects can be asked.

Values are never changed once made, so the same object means the same content; another object with equal content merely costs
a look. A mapping that was made from another one says itself what it changed (`Renewed`), and shares the rest with it. Called
by the parts of `plan` that remember something from round to round, and by `reconcile`, which makes the mappings.
"""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Iterator, Mapping, Set, ValuesView
from operator import is_
from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

LEAST_OWN: Final = 64
OWN_SHARE: Final = 64
"""A mapping holds so many keys of its own beside the content it shares, or one in so many of all; with more it gets a content
of its own. So an edit among ten thousand copies 150 keys at most, and all of them once in 150 edits."""


class Renewed(Mapping[K, V]):
    """A mapping, never changed once made, that shares its content with the one it was made from and knows what differs.

    `before`: what it is made from; it is not kept alive. `changes`: every key whose value is another object now, None: it is
    gone. No value is None. `shared`: what it has in common with that one; `own`: what differs from it, None: it is gone. A
    look-up is Python instead of C, so whoever goes through all of them does it by `items` or `values`.
    """

    __slots__ = ("_base", "_changed", "_length", "mark", "own", "shared")

    def __init__(self, before: Mapping[K, V], changes: Mapping[K, V | None]) -> None:
        self.mark = object()
        """What stands for this mapping once it is gone."""
        self._base = before.mark if isinstance(before, Renewed) else None
        self._changed: Set[K] = frozenset() if self._base is None else changes.keys()
        self._length = len(before) + sum((value is not None) - (key in before) for key, value in changes.items())
        self.shared: Mapping[K, V] = before.shared if isinstance(before, Renewed) else before
        self.own: dict[K, V | None] = {**before.own, **changes} if isinstance(before, Renewed) else dict(changes)
        if self._base is None or len(self.own) > max(LEAST_OWN, len(self.shared) // OWN_SHARE):
            self.shared, self.own = self._merged(), {}

    def changed_from(self, before: Mapping[K, V]) -> Set[K] | None:
        """Return the keys that differ from `before`; None if it was made from another mapping."""
        return self._changed if isinstance(before, Renewed) and before.mark is self._base else None

    def whole(self) -> Mapping[K, V]:
        """Return all of it as a plain dict, not to be changed: a copy where it has keys of its own."""
        return self._merged() if self.own else self.shared

    def __getitem__(self, key: K) -> V:
        value = self.own[key] if key in self.own else self.shared[key]
        if value is None:
            raise KeyError(key)
        return value

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[K]:
        return iter(self.whole())

    def items(self) -> ItemsView[K, V]:
        """Return what a dict does: all at once, and not by one look-up each."""
        return self.whole().items()

    def values(self) -> ValuesView[V]:
        """Return what a dict does, as `items`."""
        return self.whole().values()

    def _merged(self) -> dict[K, V]:
        merged = dict(self.shared)
        for key, value in self.own.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = value
        return merged


def changed_keys(before: Mapping[K, V], now: Mapping[K, V]) -> set[K]:
    """Return the keys whose value is another object, that are new, or that are gone."""
    if before is now:
        return set()
    told = now.changed_from(before) if isinstance(now, Renewed) else None
    if told is not None:
        return set(told)
    before, now = _plain(before), _plain(now)
    get = before.get
    changed = {key for key, value in now.items() if get(key) is not value}
    if len(before) != len(now) or any(key not in before for key in changed):
        changed |= before.keys() - now.keys()
    return changed


def identical(before: Collection[object], now: Collection[object]) -> bool:
    """Tell whether these are the very same objects, in the same order."""
    return len(before) == len(now) and all(map(is_, before, now))


def _plain(mapping: Mapping[K, V]) -> Mapping[K, V]:
    return mapping.whole() if isinstance(mapping, Renewed) else mapping
