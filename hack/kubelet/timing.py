"""When a kubelet syncs the volumes of a pod: pure arithmetic on a clock that the caller reads.

The figures are those of a kubelet 1.36 with defaults (Watch strategy, sync every minute) and two pods, until **both** had a
change: 35–225 ms after the pods' annotations changed, up to 0.9 s when the last sync was less than a second ago, 30–75 s when
nobody touches the pods. One loop of the kubelet serves all pods of its node, so those that are poked together are synced
together here; were each given a delay of its own, the later of two would be later than any that was measured. A sync mounts
what is known at that moment, so a poke before the write misses it. Called by `hack.kubelet.volumes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

Range = tuple[float, float]
"""Least and most seconds; both alike: no chance is involved."""
Delays = Range | tuple[float, float, float, float, float]
"""A range, or the seconds that 0, 50, 90, 99 and 100 % of the delays do not exceed, as SHARES says."""
SHARES: Final = (0.0, 0.5, 0.9, 0.99, 1.0)
TOGETHER_SECONDS: Final = 0.05
"""Pods that are poked within this time are poked together: the operator's requests for one revision take less."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds from a cause to the sync that it leads to, each drawn from a range or as often as was measured."""

    poked_seconds: Delays = (0.035, 0.104, 0.181, 0.221, 0.225)
    """After a change of the pod itself (its annotations)."""
    crowded_seconds: Delays = (0.098, 0.508, 0.836, 0.890, 0.890)
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


class Loop:
    """What the pods of one node share: how far along its loop a kubelet is, 0 to 1, when pods are poked."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._drawn_at: float | None = None
        self._share = 0.0

    def share(self, now: float) -> float:
        """Return the share of the measured delays that take no longer; the same for pods that are poked together."""
        if self._drawn_at is None or now - self._drawn_at >= TOGETHER_SECONDS:
            self._drawn_at, self._share = now, self._random.random()
        return self._share


class Schedule:
    """When one pod is to be synced next. `now` is any monotonic clock in seconds, the same for all calls.

    loop: that of the pod's node; None: the pod is alone there.
    """

    def __init__(self, timing: Timing, random: Random, loop: Loop | None = None) -> None:
        self._timing = timing
        self._random = random
        self._loop = loop or Loop(random)
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
        delays = self._timing.crowded_seconds if crowded else self._timing.poked_seconds
        when = now + quantile(delays, self._loop.share(now))
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
        return quantile(span, self._random.random())


def quantile(delays: Delays, share: float) -> float:
    """Return the seconds that `share` (0 to 1) of the delays do not exceed; between two that are given, on the line between."""
    if len(delays) == 2:
        return delays[0] + (delays[1] - delays[0]) * share
    above = next(number for number, known in enumerate(SHARES) if known >= share)
    if above == 0:
        return delays[0]
    below = above - 1
    part = (share - SHARES[below]) / (SHARES[above] - SHARES[below])
    return delays[below] + (delays[above] - delays[below]) * part
