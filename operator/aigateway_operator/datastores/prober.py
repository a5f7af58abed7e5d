"""When what is probed: every target once, however many gateways name it, one check of it at a time, spread in time.

A target is checked at the shortest period and with the longest time limit that a gateway asks for; each gateway judges the
outcomes by its own limits (`tracker`). While a target is in doubt the next check begins one time limit after the last, so
that a state is told within one period and `failureThreshold` time limits. A rotated password is another target.
Fulfils `Prober` of `reconcile/ports.py`; wired by `main`. It reads and writes nothing but targets.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Final, Protocol

from loguru import logger

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.datastores.checking import too_slow
from aigateway_operator.datastores.probe import Outcome, place
from aigateway_operator.datastores.tracker import Tracker
from aigateway_operator.plan.health import BackendTarget, Health, HealthOf, HealthState, Probing, Target

MAX_IN_FLIGHT: Final = 256
"""Checks at the same time. With more targets that do not answer, checks come later than asked; nothing piles up."""
MAX_BACKENDS_PER_SECOND: Final = 20.0
"""Beyond this the period of backends is stretched: a TLS handshake costs a millisecond, and models may name thousands."""
JITTER: Final = 0.1
"""A period is shortened by up to this part, never lengthened."""


class Check(Protocol):
    """Checks one target; see `checking.Checker`."""

    async def check(self, timeout_seconds: float) -> Outcome:
        """Return what one check brought; never raises."""
        ...

    async def close(self) -> None:
        """Release what is held."""
        ...


@dataclass(frozen=True, slots=True)
class Observation:
    """The last outcome of one target, for metrics."""

    target: Target
    outcome: Outcome
    gateways: tuple[GatewayKey, ...]


@dataclass(slots=True)
class _Watched:
    target: Target
    checker: Check
    trackers: dict[GatewayKey, Tracker] = field(default_factory=dict)
    last: Outcome | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def period_seconds(self) -> float:
        return min(tracker.schedule.period_seconds for tracker in self.trackers.values())

    @property
    def timeout_seconds(self) -> float:
        return max(tracker.schedule.timeout_seconds for tracker in self.trackers.values())


class HealthProber:
    """Probes the targets of all gateways.

    make: what checks a target. on_change(key): something that this gateway's status says is another now. clock: seconds,
    monotonic. wall: for `since`. `checks`: how many checks there were, by kind of target and state.
    """

    def __init__(
        self,
        make: Callable[[Target], Check],
        on_change: Callable[[GatewayKey], None],
        *,
        clock: Callable[[], float],
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        random: Random | None = None,
    ) -> None:
        self._make = make
        self._on_change = on_change
        self._clock = clock
        self._wall = wall
        self._random = random or Random()  # noqa: S311 - jitter, not a secret
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._watched: dict[Target, _Watched] = {}
        self._wanted: dict[GatewayKey, Probing] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._backends = 0
        self.checks: Counter[tuple[str, HealthState]] = Counter()

    def watch(self, key: GatewayKey, probing: Probing) -> None:
        """Probe exactly this for a gateway from now on; idempotent and cheap when nothing changed. New targets at once."""
        before = self._wanted.get(key)
        if before == probing:
            return
        self._wanted[key] = probing
        wanted = probing.targets
        for target in before.targets - wanted if before is not None else ():
            self._drop(key, target)
        for target in wanted:
            self._add(key, target, probing)

    def forget(self, key: GatewayKey) -> None:
        """Probe nothing more for a gateway."""
        before = self._wanted.pop(key, None)
        for target in before.targets if before is not None else ():
            self._drop(key, target)

    def clear(self) -> None:
        """Probe nothing more for any gateway: another process leads now."""
        for key in list(self._wanted):
            self.forget(key)

    def health(self, key: GatewayKey) -> HealthOf:
        """Return what this gateway holds to be true of its targets; one not judged yet is left out."""
        wanted = self._wanted.get(key)
        found: dict[Target, Health] = {}
        for target in wanted.targets if wanted is not None else ():
            health = self._watched[target].trackers[key].health
            if health is not None:
                found[target] = health
        return found

    def observations(self) -> Iterator[Observation]:
        """Yield the last outcome of every target that has been checked, for metrics."""
        for watched in self._watched.values():
            if watched.last is not None:
                yield Observation(watched.target, watched.last, tuple(sorted(watched.trackers)))

    @property
    def targets(self) -> int:
        """How many targets are probed."""
        return len(self._watched)

    async def stop(self) -> None:
        """Stop for good; returns when every check has ended."""
        self.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _add(self, key: GatewayKey, target: Target, probing: Probing) -> None:
        watched = self._watched.get(target)
        if watched is None:
            watched = self._watched[target] = _Watched(target, self._make(target))
            self._backends += isinstance(target, BackendTarget)
        tracker = watched.trackers.get(key)
        if tracker is not None:
            tracker.schedule = probing.schedule
        else:
            watched.trackers[key] = tracker = Tracker(probing.schedule)
            if watched.last is not None:
                tracker.take(watched.last, self._clock(), self._stamp())
        watched.changed.set()
        if watched.task is None:
            watched.task = asyncio.create_task(self._run(watched), name=f"probe {place(target)}")

    def _drop(self, key: GatewayKey, target: Target) -> None:
        watched = self._watched[target]
        del watched.trackers[key]
        if watched.trackers:
            return
        del self._watched[target]
        self._backends -= isinstance(target, BackendTarget)
        if watched.task is not None:
            watched.task.cancel()
            self._ending.add(watched.task)
            watched.task.add_done_callback(self._ending.discard)

    async def _run(self, watched: _Watched) -> None:
        """Check one target until it is dropped."""
        try:
            while True:
                watched.changed.clear()
                async with self._room:
                    started, limit = self._clock(), watched.timeout_seconds
                    outcome = await self._check(watched, limit)
                self._spread(watched, outcome)
                await self._pause(watched, started)
        finally:
            await watched.checker.close()

    async def _check(self, watched: _Watched, limit_seconds: float) -> Outcome:
        """Check once; the checker keeps its time, and if a fault of ours kept it from that, this ends it."""
        try:
            async with asyncio.timeout(limit_seconds + 1.0):
                return await watched.checker.check(limit_seconds)
        except TimeoutError:
            logger.bind(target=place(watched.target)).error("A probe did not end in time")
            return too_slow(watched.target, limit_seconds)

    def _spread(self, watched: _Watched, outcome: Outcome) -> None:
        """Let each gateway judge an outcome by its own limits."""
        watched.last = outcome
        self.checks[_kind(watched.target), outcome.state] += 1
        now, stamp = self._clock(), self._stamp()
        for key, tracker in list(watched.trackers.items()):
            limit = tracker.schedule.timeout_seconds
            before = tracker.health
            judged = outcome if outcome.latency_seconds <= limit else too_slow(watched.target, limit)
            if tracker.take(judged, now, stamp):
                _tell(watched.target, key, before.state if before else None, judged)
                self._on_change(key)

    async def _pause(self, watched: _Watched, started: float) -> None:
        """Wait until the next check is due, which may change when gateways come, go, or ask otherwise."""
        jitter = 1.0 - JITTER * self._random.random()
        while (left := started + self._interval(watched, jitter) - self._clock()) > 0:
            try:
                async with asyncio.timeout(left):
                    await watched.changed.wait()
            except TimeoutError:
                return
            watched.changed.clear()

    def _interval(self, watched: _Watched, jitter: float) -> float:
        """Return the seconds between the beginnings of two checks."""
        period = watched.period_seconds
        if any(tracker.wavering for tracker in watched.trackers.values()):
            return min(period, watched.timeout_seconds)
        if isinstance(watched.target, BackendTarget):
            period = max(period, self._backends / MAX_BACKENDS_PER_SECOND)
        return period * jitter

    def _stamp(self) -> str:
        return self._wall().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _kind(target: Target) -> str:
    return "backend" if isinstance(target, BackendTarget) else target.store


def _tell(target: Target, key: GatewayKey, before: HealthState | None, outcome: Outcome) -> None:
    """Log a change of what is held to be true; the first good news is no news."""
    if before is None and outcome.state is HealthState.UP:
        return
    level = "INFO" if outcome.state is HealthState.UP else "WARNING"
    where = {"namespace": key.namespace, "gateway": key.name, "kind": _kind(target)}
    logger.bind(**where, state=outcome.state.value, reason=outcome.reason.value).log(
        level, "Health changed: {}", outcome.message
    )
