"""What is said of a mirror that works and fails in turns: a sentence that comes late, stays for a while, and seldom changes.

A Redis that is restarted, or that comes and goes, must not make a status flap. Pure but for the clock it is handed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SHOW_AFTER_SECONDS: Final = 5.0
"""Failing for so long without a success in between is told: a restart of Redis takes less."""
CLEAR_AFTER_SECONDS: Final = 30.0
"""Working for so long without a failure in between ends it; another reason is told after as long."""


class MirrorHealth:
    """Follows one mirror. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.trouble: str | None = None
        """What is wrong, "" for nothing, None: not known yet."""
        self._clock = clock
        self._working_since: float | None = None
        self._failing_since: float | None = None
        self._reason, self._reason_since = "", 0.0

    def worked(self) -> bool:
        """Note that the mirror holds what it should; return whether `trouble` changed."""
        now = self._clock()
        self._failing_since = None
        if self._working_since is None:
            self._working_since = now
        if self.trouble == "" or (self.trouble and now - self._working_since < CLEAR_AFTER_SECONDS):
            return False
        self.trouble = ""
        return True

    def failed(self, reason: str) -> bool:
        """Note a failure and why, as a sentence; return whether `trouble` changed."""
        now = self._clock()
        self._working_since = None
        if self._failing_since is None:
            self._failing_since = now
        if reason != self._reason or self._failing_since == now:
            self._reason, self._reason_since = reason, now
        wait = CLEAR_AFTER_SECONDS if self.trouble else SHOW_AFTER_SECONDS
        if reason == self.trouble or now - (self._reason_since if self.trouble else self._failing_since) < wait:
            return False
        self.trouble = reason
        return True
