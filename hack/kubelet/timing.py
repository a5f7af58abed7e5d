"""When a kubelet syncs the volumes of a pod: pure arithmetic on a clock that the caller reads.

A kubelet 1.36 with defaults (Watch strategy, sync every minute), as it was measured with two pods and as its source says:

- A pod whose annotations have changed is synced at once, and both pods have the new files 35–225 ms later.
- A pod is synced again only after a relist of the containers that began after its last sync; there is one a second. A poke
  that comes sooner waits for it: it is neither lost nor doubled, and several are one. So edits 0.1–0.9 s after pods had the
  last one were there after 0.9–0.1 s, a second after the last one was: of 360 among 20 a second none later than 1.01 s.
- Files hold what is known when they are written, so a poke before the write of a ConfigMap misses it.
- 30–75 s when nobody touches the pod.

One loop of the kubelet serves all pods of its node, so those that are poked together are synced together here; were each
given a delay of its own, the later of two would be later than any that was measured. Called by `hack.kubelet.volumes`.
Source: kubernetes v1.36.3, `podWorkerLoop` (pod_workers.go), `GetNewerThan` (container/cache.go), `Relist` (pleg/generic.go).
"""

from __future__ import annotations

import math
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
POKE_SECONDS: Final = 0.004
"""What a poke takes until the kubelet knows of it. It is in the measured delays, which begin with the answer to the write that
the poke follows at once; 1 KiB takes as long from a write to a watch (`python -m benchmarks delivery`, its floor)."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds from a cause to the sync that it leads to, each drawn from a range or as often as was measured."""

    poked_seconds: Delays = (0.035, 0.104, 0.181, 0.221, 0.225)
    """From the answer to a write that a change of the pod itself (its annotations) follows at once, until files are written."""
    unpoked_seconds: Range = (30.0, 75.0)
    """After a change of a ConfigMap or Secret that nothing else follows."""
    retry_seconds: Range = (0.5, 0.5)
    """Between attempts to mount the volumes of a new pod, as long as something it needs is missing."""
    relist_seconds: float = 1.01
    """From one relist to the next, between which a pod is synced once; 0: as often as it is poked."""


REAL: Final = Timing()
"""As measured."""
FAST: Final = Timing((0.02, 0.02), (0.5, 0.5), (0.05, 0.05), 0.0)
"""For tests that are not about time: fixed and short, and still slower without a poke than with one."""


class Loop:
    """What the pods of one node share: when the kubelet relists, and how far along its other loops it is at a sync."""

    def __init__(self, random: Random, relist_seconds: float = REAL.relist_seconds) -> None:
        self._random = random
        self._relist_seconds = relist_seconds
        self._phase = random.random() * relist_seconds
        self._drawn_at: float | None = None
        self._share = 0.0

    def relist_after(self, when: float) -> float:
        """Return when the first relist after `when` begins."""
        if not self._relist_seconds:
            return when
        return self._phase + (math.floor((when - self._phase) / self._relist_seconds) + 1) * self._relist_seconds

    def share(self, now: float, *, waited: bool) -> float:
        """Return the share of the measured delays that take no longer, for a sync; the same for pods that are poked together.

        One that `waited` for a relist takes as long as the last: a second later, loops of 100 ms are as far along as they were.
        """
        if not waited and (self._drawn_at is None or now - self._drawn_at >= TOGETHER_SECONDS):
            self._drawn_at, self._share = now, self._random.random()
        return self._share


class Schedule:
    """When one pod's files are to be written next. `now` is any monotonic clock in seconds, the same for all calls.

    loop: that of the pod's node; None: the pod is alone there.
    """

    def __init__(self, timing: Timing, random: Random, loop: Loop | None = None) -> None:
        self._timing = timing
        self._random = random
        self._loop = loop or Loop(random, timing.relist_seconds)
        self._began: float | None = None
        """When the last sync began, or the next one will: files follow it."""
        self._poke: float | None = None
        self._again = False
        self._periodic: float | None = None
        self._changed = -math.inf

    @property
    def due(self) -> float | None:
        """When to write files; None: nothing has happened since they were written."""
        return min((when for when in (self._poke, self._periodic) if when is not None), default=None)

    def poked(self, now: float) -> None:
        """The pod itself has changed. Several pokes before a sync begins are one; one that comes later is for the next."""
        if self._poke is None:
            self._sync(now)
        elif self._began is not None and now > self._began:
            self._again = True

    def changed(self, now: float) -> None:
        """A ConfigMap or Secret of the pod has changed: it is seen by the next sync, at the latest by the periodic one."""
        self._changed = now
        if self._periodic is None:
            self._periodic = now + self._draw(self._timing.unpoked_seconds)

    def failed(self, now: float) -> None:
        """The first mount of the pod was not possible."""
        self._poke, self._again, self._periodic = None, False, now + self._draw(self._timing.retry_seconds)

    def synced(self, now: float) -> None:
        """The volumes hold what was known at `now`."""
        if self._poke is None or self._began is None or self._began > now:
            self._began = now  # the periodic sync, which may come before a poke has its turn
        again, self._again = self._again, False
        self._poke = self._periodic = None
        if again:
            self._sync(now)

    def _sync(self, now: float) -> None:
        """Begin a sync now, or when the kubelet has relisted since the last one."""
        self._began = now if self._began is None else max(now, self._loop.relist_after(self._began))
        known = 0.0 if self._began > now else min(now - self._changed, POKE_SECONDS)  # has passed of the delay
        self._poke = self._began - known + quantile(self._timing.poked_seconds, self._loop.share(now, waited=self._began > now))

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
