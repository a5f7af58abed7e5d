"""What rounds have to say: statuses to be written and records of the audit trail, after documents had their head start.

Making both takes a millisecond of processor time, just when Redis, watchers and pods want to take up a document. So what an
edit's round has to say waits until that time is over, or until the next round of the same gateway begins: statuses of a plan
can be made only before the next plan is. Called by `controller`, in its event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from loguru import logger

from aigateway_operator.api.meta import GATEWAY_CONFIG, GatewayKey
from aigateway_operator.plan.result import Plan
from aigateway_operator.plan.snapshot import Snapshot
from aigateway_operator.reconcile.gateway_state import GatewayState
from aigateway_operator.reconcile.journal import Journal
from aigateway_operator.reconcile.status_writer import StatusWriter

HEAD_START_SECONDS: Final = 0.01
"""How long after documents statuses are written: until then the API server, Redis and pods are busy with the documents."""
FEW_WRITES: Final = 2
"""A round of so many writes is an edit that somebody waits for. A larger one belongs to a burst, and is to count whole."""


@dataclass(frozen=True, slots=True)
class Done:
    """A round that succeeded. seconds: how long it took; at: clock at its end."""

    state: GatewayState
    snapshot: Snapshot
    plan: Plan
    writes: int
    seconds: float
    at: float


class Teller:
    """Tells of rounds. on_fault: what a round found could not be told, so another one is due, with a fresh memo."""

    def __init__(
        self, statuses: StatusWriter, journal: Journal, clock: Callable[[], float], on_fault: Callable[[GatewayKey], None]
    ) -> None:
        self._statuses = statuses
        self._journal = journal
        self._clock = clock
        self._on_fault = on_fault
        self._waiting: dict[GatewayKey, Done] = {}

    @property
    def idle(self) -> bool:
        """Whether everything has been told."""
        return not self._waiting

    async def take(self, key: GatewayKey, done: Done) -> None:
        """Tell of a round, now or in a moment. Raises what the making of statuses raises."""
        if 0 < done.writes <= FEW_WRITES:
            self._waiting[key] = done
            asyncio.get_running_loop().call_later(HEAD_START_SECONDS, self._tell_late, key, done)
            return
        if done.writes:
            await asyncio.sleep(0)  # pokes and the mirror are on their way before statuses are made
        self._tell(key, done)

    def catch_up(self, key: GatewayKey) -> None:
        """Tell what waits of a gateway; to be called before the next plan is made. Raises as `take` does."""
        done = self._waiting.pop(key, None)
        if done is not None:
            self._tell(key, done)

    def finish(self) -> None:
        """Tell everything that waits: this process stops, or leads no more. Raises nothing."""
        for key, done in list(self._waiting.items()):
            self._tell_late(key, done)

    def _tell_late(self, key: GatewayKey, done: Done) -> None:
        if self._waiting.get(key) is not done:
            return  # the next round has told it
        try:
            self.catch_up(key)
        except Exception:  # noqa: BLE001 - the edge of a callback: a fault of ours with one gateway must not stop the others
            self._on_fault(key)
            logger.bind(namespace=key.namespace, gateway=key.name).exception("Telling of a round broke, another is due")

    def _tell(self, key: GatewayKey, done: Done) -> None:
        made, state = done.plan, done.state
        state.status = None
        pause = max(0.0, done.at + HEAD_START_SECONDS - self._clock()) if done.writes else 0.0
        # One by one where nobody needs them again: those of a burst's round are 0.7 kB each.
        for status in made.statuses if self._journal.keeps else made.make_statuses():
            self._statuses.wish(key.namespace, status, after_seconds=pause)
            state.status = status if status.kind == GATEWAY_CONFIG else None
        self._journal.round_done(key, done.snapshot, made, done.writes, done.seconds)
        if done.writes:
            logger.bind(namespace=key.namespace, gateway=key.name, revision=made.revision, writes=done.writes).info(
                "Documents were written"
            )
