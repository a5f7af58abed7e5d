"""What differs between two mappings, told by identity: the cheapest question that ten thousand objects can be asked.

Values are never changed once made, so the same object means the same content; another object with equal content merely costs
a look. A mapping that was made from another one says itself what it changed (`Renewed`). Called by the parts of `plan` that
remember something from round to round, and by `reconcile`, which makes the mappings.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Renewed(dict[K, V]):
    """A mapping, never changed once made, that knows which keys differ from the one it was made from.

    `content`: all of it. `base`: the mapping of before, None for nobody's; it is not kept alive. `changed`: every key whose
    value is another object there, that is new, or that is gone.
    """

    __slots__ = ("_base", "_changed", "mark")

    def __init__(self, content: Mapping[K, V], base: Mapping[K, V] | None, changed: Set[K]) -> None:
        super().__init__(content)
        self.mark = object()
        """What stands for this mapping once it is gone."""
        self._base = base.mark if isinstance(base, Renewed) else None
        self._changed = changed

    def changed_from(self, before: Mapping[K, V]) -> Set[K] | None:
        """Return the keys that differ from `before`; None if it was made from another mapping."""
        return self._changed if isinstance(before, Renewed) and before.mark is self._base else None


def changed_keys(before: Mapping[K, V], now: Mapping[K, V]) -> set[K]:
    """Return the keys whose value is another object, that are new, or that are gone."""
    if before is now:
        return set()
    told = now.changed_from(before) if isinstance(now, Renewed) else None
    if told is not None:
        return set(told)
    get = before.get
    changed = {key for key, value in now.items() if get(key) is not value}
    if len(before) != len(now) or any(key not in before for key in changed):
        changed |= before.keys() - now.keys()
    return changed
