"""The coalescing queue: marks of gateways in, keys that are due out.

A key that has been quiet is due at once; while marks keep coming it waits for a quiet time, longer in a burst and after a long
round in it, at the latest for a maximum delay after its first mark. Patient marks that keep coming also wait for the rest that
follows an expensive round, so that rounds take a share of the time and not all of it. A mark during a round causes one more
round. Failures back off per key; a mark does not shorten that. Knows time only through the clock it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from random import Random
from typing import Final, Generic, TypeVar

from aigateway_operator.waiting import wait

QUIET_SECONDS: Final = 0.025
"""How long marks must pause before a round starts. A kubectl apply of several objects sends one every 10 to 20 ms."""
BURST_QUIET_SECONDS: Final = 0.05
"""The same in a burst: pauses of 25 ms come by themselves in thousands of creates, and each cost a write of every shard."""
QUIET_SHARE: Final = 0.12
"""In a burst marks also pause for this share of the last round: the writes of one make creates wait, which ends no burst."""
MAX_QUIET_SECONDS: Final = 0.12
"""Longest such pause: what the end of a burst costs its last objects."""
BURST_INTERVAL_SECONDS: Final = 0.008
"""Marks that come closer than this on average are a burst; commands of people, and what an edit causes itself, come slower."""
MAX_DELAY_SECONDS: Final = 1.0
"""A round starts at the latest this long after the first mark that is not patient: what a burst costs an edit in it."""
REST_FACTOR: Final = 20.0
"""Patient marks that never pause let a rest of so many times what the last round took go by before the next begins."""
MAX_REST_SECONDS: Final = 2.5
"""Longest rest: what a burst costs one of the objects that it creates, beside rounds."""
_LONGEST_INTERVAL_SECONDS: Final = 0.25
_INTERVAL_WEIGHT: Final = 0.1
"""Of the newest interval in their average: some thirty marks tell a burst from an edit that causes several."""
FIRST_BACKOFF_SECONDS: Final = 0.1
MAX_BACKOFF_SECONDS: Final = 30.0

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Pending:
    """Marks since a key was last taken. urgent: the first that is not patient, infinity while there is none."""

    first: float
    last: float
    hold_until: float
    urgent: float = float("inf")


@dataclass(frozen=True, slots=True)
class _Round:
    """The last round of a key that succeeded: when it ended, and how many seconds it took."""

    ended: float
    took: float


_NO_ROUND: Final = _Round(float("-inf"), 0.0)


class CoalescingQueue(Generic[K]):
    """Marks of one event loop. `take` waits for the next key that is due and not already taken."""

    def __init__(self, clock: Callable[[], float], random: Random | None = None) -> None:
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - jitter, not a secret
        self._pending: dict[K, _Pending] = {}
        self._taken: dict[K, float] = {}
        self._rounds: dict[K, _Round] = {}
        self._last_mark: dict[K, float] = {}
        self._interval: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._hold: dict[K, float] = {}
        self._later: dict[K, float] = {}
        self._changed = asyncio.Event()

    def mark(self, key: K, *, patient: bool = False) -> None:
        """Ask for a round of `key`. `patient`: among marks that never pause it may wait longer than others do."""
        now = self._clock()
        pending = self._pending.get(key)
        if pending is None:
            idle = key not in self._taken and now - self._last_mark.get(key, float("-inf")) >= QUIET_SECONDS
            last = float("-inf") if idle else now
            pending = self._pending[key] = _Pending(now, last, self._hold.get(key, float("-inf")))
            self._changed.set()
        else:
            pending.last = now  # nobody is woken: whoever waits looks again within the quiet time
        if not patient:
            pending.urgent = min(pending.urgent, now)
        since = min(now - self._last_mark.get(key, float("-inf")), _LONGEST_INTERVAL_SECONDS)
        average = self._interval.get(key, _LONGEST_INTERVAL_SECONDS)
        self._interval[key] = average + _INTERVAL_WEIGHT * (since - average)
        self._last_mark[key] = now

    def mark_later(self, key: K, seconds: float) -> None:
        """Ask for a round of `key` in `seconds`; it takes the place of the last such wish. A mark comes first anyway."""
        self._later[key] = self._clock() + seconds
        self._changed.set()

    async def take(self) -> K:
        """Wait for the next key that is due; it must be given back by `done` or `failed`."""
        while True:
            key, due = self._next()
            if key is not None and due <= self._clock():
                self._pending.pop(key, None)
                self._later.pop(key, None)
                self._taken[key] = self._clock()
                return key
            self._changed.clear()
            await wait(self._changed, None if key is None else max(0.0, due - self._clock()))

    def done(self, key: K) -> None:
        """Give a key back after a round that succeeded."""
        now = self._clock()
        took = now - self._taken.pop(key)
        if key in self._last_mark:  # not forgotten
            self._rounds[key] = _Round(now, took)
        self._failures.pop(key, None)
        self._hold.pop(key, None)
        self._changed.set()

    def failed(self, key: K, retry_after_seconds: float | None = None) -> float:
        """Give a key back after a round that failed; it is marked again after a back-off. Returns the seconds until then."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 16)) * (0.5 + self._random.random())
        delay = max(delay, retry_after_seconds or 0.0)
        self._taken.pop(key, None)
        self._hold[key] = self._clock() + delay
        pending = self._pending.get(key)
        if pending is not None:
            pending.hold_until = self._hold[key]
        else:
            self.mark(key)
        return delay

    def forget(self, key: K) -> None:
        """Drop what is remembered of a key that will not come back."""
        for memory in (self._pending, self._last_mark, self._interval, self._rounds, self._failures, self._hold, self._later):
            memory.pop(key, None)

    @property
    def idle(self) -> bool:
        """Whether nothing is marked or under way; what is only wished for later does not count."""
        return not self._pending and not self._taken

    @property
    def at_work(self) -> bool:
        """Whether a round is under way or about to be; one that is held back after a failure is not."""
        now = self._clock()
        return bool(self._taken) or any(pending.hold_until <= now for pending in self._pending.values())

    @property
    def waiting(self) -> int:
        """How many keys are marked or under way."""
        return len(self._pending.keys() | self._taken.keys())

    def _next(self) -> tuple[K | None, float]:
        """Return the key that is due first, and when; taken keys wait for their round to end."""
        best: K | None = None
        best_due = float("inf")
        for key, pending in self._pending.items():
            due = self._due(key, pending)
            if key not in self._taken and due < best_due:
                best, best_due = key, due
        for key, due in self._later.items():
            if key not in self._taken and key not in self._pending and due < best_due:
                best, best_due = key, due
        return best, best_due

    def _due(self, key: K, pending: _Pending) -> float:
        last_round = self._rounds.get(key, _NO_ROUND)
        quiet = pending.last + QUIET_SECONDS
        if self._interval[key] < BURST_INTERVAL_SECONDS:
            pause = max(BURST_QUIET_SECONDS, min(MAX_QUIET_SECONDS, QUIET_SHARE * last_round.took))
            # A round that ends with thousands of objects hears no marks for a while: those have to be heard out first.
            quiet = max(pending.last + pause, last_round.ended + QUIET_SECONDS)
        rested = last_round.ended + min(MAX_REST_SECONDS, REST_FACTOR * last_round.took)
        patient = max(pending.first + MAX_DELAY_SECONDS, rested)
        return max(pending.hold_until, min(quiet, patient, pending.urgent + MAX_DELAY_SECONDS))
