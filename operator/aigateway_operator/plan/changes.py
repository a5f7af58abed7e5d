"""What differs between two mappings, told by identity: the cheapest question that ten thousand objects can be asked.

Values are never changed once made, so the same object means the same content; another object with equal content merely costs
a look. Called by the parts of `plan` that remember something from round to round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def changed_keys(before: Mapping[K, V], now: Mapping[K, V]) -> set[K]:
    """Return the keys whose value is another object, that are new, or that are gone."""
    if before is now:
        return set()
    get = before.get
    changed = {key for key, value in now.items() if get(key) is not value}
    if len(before) != len(now) or any(key not in before for key in changed):
        changed |= before.keys() - now.keys()
    return changed
