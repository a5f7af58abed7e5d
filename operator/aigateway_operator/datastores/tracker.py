"""What one gateway holds to be true of one target, from one outcome after another: a state machine that does not flap.

- A bad state counts after `failure_threshold` outcomes in a row that are not Up; it is that of the last of them.
- Up counts at the first outcome. But each time it is lost within ten minutes of being found, the next Up takes twice as many
  in a row (2, 4, 8), so that a target that comes and goes is told as bad, and costs few status writes. Ten minutes without
  coming and going are forgiven.
- Another bad state, or another reason for the same one, counts as a bad state does.

Pure: no clock, no I/O. Called by `prober`.
Source: docs/health.md#when; the kubelet's failureThreshold and successThreshold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from aigateway_operator.datastores.probe import Outcome
from aigateway_operator.plan.health import Health, HealthReason, HealthState, Schedule

FLAP_SECONDS: Final = 600.0
MAX_SUCCESSES: Final = 8


@dataclass(slots=True)
class Tracker:
    """The judgement of one gateway. `health`: None until there is one."""

    schedule: Schedule
    health: Health | None = None
    _kind: tuple[HealthState, HealthReason] | None = None
    _streak: int = 0
    _candidate: tuple[HealthState, HealthReason] | None = None
    _up_since: float | None = field(default=None)
    _lost_at: float = float("-inf")
    _successes_needed: int = 1

    @property
    def wavering(self) -> bool:
        """Whether a bad outcome waits to be confirmed: the next check comes soon. A good one waits a whole period."""
        up_in_doubt = self._kind is None or self._kind[0] is HealthState.UP
        return up_in_doubt and self._candidate is not None

    def take(self, outcome: Outcome, now: float, stamp: str) -> bool:
        """Take one outcome; tell whether `health` is another now. `now`: seconds; `stamp`: the same moment, RFC 3339."""
        kind = (outcome.state, outcome.reason)
        if kind == self._kind:
            if self._candidate is not None and self._candidate[0] is HealthState.UP:
                self._lost_at = now  # it came and went, and was never told as up
            self._candidate, self._streak = None, 0
            return False
        same = self._candidate is not None and self._counts_on(self._candidate, kind)
        self._streak = self._streak + 1 if same else 1
        self._candidate = kind
        if self._streak < self._needed(kind, now):
            return False
        self._adopt(outcome, kind, now, stamp)
        return True

    def _counts_on(self, before: tuple[HealthState, HealthReason], kind: tuple[HealthState, HealthReason]) -> bool:
        """Tell whether an outcome continues a streak. While Up is in doubt, any bad one counts; otherwise only its like."""
        if (before[0] is HealthState.UP) != (kind[0] is HealthState.UP):
            return False
        return before == kind or self._kind is None or self._kind[0] is HealthState.UP

    def _needed(self, kind: tuple[HealthState, HealthReason], now: float) -> int:
        if kind[0] is not HealthState.UP:
            bad_already = self._kind is not None and self._kind[0] is not HealthState.UP
            return max(self.schedule.failure_threshold, self._successes_needed if bad_already else 1)
        if now - self._lost_at > FLAP_SECONDS:
            self._successes_needed = 1
        return self._successes_needed

    def _adopt(self, outcome: Outcome, kind: tuple[HealthState, HealthReason], now: float, stamp: str) -> None:
        moved = self.health is None or self.health.state is not outcome.state
        since = stamp if moved or self.health is None else self.health.since
        if kind[0] is HealthState.UP:
            self._up_since = now
        elif self._kind is not None and self._kind[0] is HealthState.UP and self._up_since is not None:
            short = now - self._up_since <= FLAP_SECONDS and self._lost_at > float("-inf")
            self._successes_needed = min(MAX_SUCCESSES, self._successes_needed * 2) if short else 1
            self._lost_at = now
        self._kind, self._candidate, self._streak = kind, None, 0
        self.health = Health(outcome.state, outcome.reason, outcome.message, since)
