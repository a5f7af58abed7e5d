"""When a kubelet syncs the volumes of a pod: pure arithmetic on a clock that the caller reads.

The figures are those of a kubelet 1.36 with defaults (Watch strategy, sync every minute): 35–225 ms after the pod's
annotations change, up to 0.9 s when the last sync was less than a second ago, 30–75 s when nobody touches the pod. A sync
mounts what is known at that moment, so a poke before the write misses it. Called by `hack.kubelet.volumes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

Range = tuple[float, float]
"""Least and most seconds; both alike: no chance is involved."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds from a cause to the sync that it leads to, each drawn evenly from a range."""

    poked_seconds: Range = (0.035, 0.225)
    """After a change of the pod itself (its annotations)."""
    crowded_seconds: Range = (0.1, 0.9)
    """The same, when the last sync was less than `quiet_seconds` ago: the next relist of the kubelet."""
    unpoked_seconds: Range = (30.0, 75.0)
    """After a change of a ConfigMap or Secret that nothing else follows."""
    retry_seconds: Range = (0.5, 0.5)
    """Between attempts to mount the volumes of a new pod, as long as something it needs is missing."""
    quiet_seconds: float = 1.0
    """How long after a sync a poke counts as crowded."""


REAL: Final = Timing()
"""As measured."""
FAST: Final = Timing((0.02, 0.02), (0.02, 0.02), (0.5, 0.5), (0.05, 0.05), 0.0)
"""For tests that are not about time: fixed and short, and still slower without a poke than with one."""


class Schedule:
    """When one pod is to be synced next. `now` is any monotonic clock in seconds, the same for all calls."""

    def __init__(self, timing: Timing, random: Random) -> None:
        self._timing = timing
        self._random = random
        self._last_sync: float | None = None
        self._poke: float | None = None
        self._periodic: float | None = None

    @property
    def due(self) -> float | None:
        """When to sync; None: nothing has happened since the last sync."""
        return min((when for when in (self._poke, self._periodic) if when is not None), default=None)

    def poked(self, now: float) -> None:
        """The pod itself has changed. Several pokes before the sync are one."""
        crowded = self._last_sync is not None and now - self._last_sync < self._timing.quiet_seconds
        when = now + self._draw(self._timing.crowded_seconds if crowded else self._timing.poked_seconds)
        self._poke = when if self._poke is None else min(self._poke, when)

    def changed(self, now: float) -> None:
        """A ConfigMap or Secret of the pod has changed: it is seen by the next sync, at the latest by the periodic one."""
        if self._periodic is None:
            self._periodic = now + self._draw(self._timing.unpoked_seconds)

    def failed(self, now: float) -> None:
        """The first mount of the pod was not possible."""
        self._poke, self._periodic = None, now + self._draw(self._timing.retry_seconds)

    def synced(self, now: float) -> None:
        """The volumes hold what was known at `now`."""
        self._last_sync, self._poke, self._periodic = now, None, None

    def _draw(self, span: Range) -> float:
        return span[0] if span[0] == span[1] else self._random.uniform(*span)
