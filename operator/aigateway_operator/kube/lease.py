"""Leader election over one Lease, with a deadline on every call.

Leadership is a time, not a flag: it ends by our own clock, counted from before the renewal was *sent*, a margin before any
other replica may take over. So nothing has to happen for it to end: a process that was paused, or whose API server hangs,
finds itself no leader at its next look. Clocks of machines are never compared: another's renewals are timed by when we saw
them. The shipped election of the client package is not used: it leads on through a hang (docs/measured.md#leader-election).
Fulfils `Leadership` of `reconcile/ports.py`; `main` sets `client.fence = election.remaining_seconds` and runs it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Final

from loguru import logger

from aigateway_operator.errors import ClusterError, Conflict, NotFound
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.owner import Owner
from aigateway_operator.kube.resources import LEASES, JsonObject

LEASE_SECONDS: Final = 4
RENEW_SECONDS: Final = 1.0
MARGIN_PART: Final = 4
"""Leadership ends a quarter of the lease early: for writes under way and for clocks that run at different speeds."""
MAX_BACKOFF_SECONDS: Final = 4.0


def boot_seconds() -> float:
    """Return seconds that go on while the machine sleeps, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True, slots=True)
class _Observed:
    """A Lease as last seen, and since when (our clock) it has been like that."""

    body: JsonObject
    since: float

    @property
    def holder(self) -> str:
        return str((self.body.get("spec") or {}).get("holderIdentity") or "")

    @property
    def free_at(self) -> float:
        """When it may be taken, if it does not change before."""
        seconds = (self.body.get("spec") or {}).get("leaseDurationSeconds")
        return self.since + (float(seconds) if isinstance(seconds, int) and self.holder else 0.0)


class LeaderElection:
    """Contends for a Lease until cancelled. A loser becomes standby and contends again.

    identity: unique to this process. lease_seconds: whole seconds, as the Lease holds them. on_started and on_stopped are
    plain functions, called in the loop; on_stopped at the latest when the first look finds leadership over. owner: of a
    Lease that is made here.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        lease_seconds: int = LEASE_SECONDS,
        renew_seconds: float = RENEW_SECONDS,
        on_started: Callable[[], None] | None = None,
        on_stopped: Callable[[], None] | None = None,
        owner: Owner | None = None,
        clock: Callable[[], float] = boot_seconds,
        random: Random | None = None,
    ) -> None:
        self._client = client.unfenced()
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._renew_seconds = renew_seconds
        self._on_started = on_started
        self._on_stopped = on_stopped
        self._owner = owner
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - jitter, not a secret
        self._until = float("-inf")
        self._leading = False
        self._observed: _Observed | None = None
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_leader(self) -> bool:
        """True while the lease certainly holds."""
        return self.remaining_seconds() > 0

    @property
    def holder(self) -> str:
        """Return who holds the Lease as last seen, "" when nobody does or nothing was seen."""
        return "" if self._observed is None else self._observed.holder

    def remaining_seconds(self) -> float:
        """Return for how long leadership certainly lasts; 0 when it does not. Does no I/O."""
        return max(0.0, self._until - self._clock())

    async def run(self) -> None:
        """Contend until cancelled or stopped. A cancelled run releases nothing: the Lease runs out by itself."""
        self._task = asyncio.current_task()
        try:
            while True:
                pause = await self._turn()
                await asyncio.sleep(pause)
        finally:
            self._step_down("the election has ended", "INFO")

    async def stop(self) -> None:
        """End the contest and release the Lease, so that another replica leads at once. Writes must have ended before."""
        was_leader, until = self.is_leader, self._until
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)
        if was_leader:
            try:
                async with asyncio.timeout(max(0.1, min(1.0, until - self._clock()))):
                    await self._release()
            except (ClusterError, TimeoutError) as error:
                logger.info("The lease was not released and runs out by itself: {}", str(error) or type(error).__name__)

    async def _release(self) -> None:
        """Empty the holder, which frees the Lease. It is read first: a renewal may have been cut off on its way."""
        await self._look()
        if self._observed is not None and self._observed.holder == self._identity:
            # A duration of one second is what client-go leaves behind too.
            body = self._body(self._observed.body, holder="", seconds=1)
            await self._client.replace(LEASES, self._namespace, self._name, body)

    async def _turn(self) -> float:
        """Renew, or look whether the Lease is free; return the seconds until the next turn."""
        began = self._clock()
        try:
            if self._leading:
                await self._renew()
            else:
                await self._contend()
        except ClusterError as error:
            return self._failed(error)
        self._failures = 0
        return self._next_turn(began)

    def _next_turn(self, began: float) -> float:
        now = self._clock()
        if self._leading:
            return max(0.0, began + self._renew_seconds - now)
        # Four times as often as renewals come, since the Lease runs out a while after its last renewal was seen, and at the
        # moment when it does: that decides how long a fail-over takes.
        pause = self._renew_seconds / 4 * (0.9 + 0.2 * self._random.random())
        if self._observed is not None and self._observed.holder:
            pause = min(pause, max(0.01, self._observed.free_at - now))
        return pause

    def _failed(self, error: ClusterError) -> float:
        self._failures += 1
        if self._leading:
            if self.is_leader:
                logger.warning("The lease was not renewed, {:.1f} s are left: {}", self.remaining_seconds(), error)
                return min(0.1, self.remaining_seconds())
            self._step_down(str(error))
        elif self._failures == 1:
            logger.warning("The lease cannot be read, this replica stays standby: {}", error)
        backoff = min(MAX_BACKOFF_SECONDS, self._renew_seconds / 2 * 2.0 ** min(self._failures - 1, 8))
        return backoff * (0.5 + self._random.random())

    async def _renew(self) -> None:
        """Renew what we hold. Raises ClusterError if that failed; afterwards we lead or have stepped down."""
        if not self.is_leader or self._observed is None:
            self._step_down("the lease ran out")
            return
        try:
            await self._put(self._observed.body, transition=False)
        except (Conflict, NotFound):
            # Somebody touched the Lease, or an earlier renewal landed though its answer was lost.
            await self._look()
            if self.holder != self._identity:
                self._step_down("somebody else holds the lease")
            elif self.is_leader:
                await self._put(self._observed.body, transition=False)

    async def _contend(self) -> None:
        """Take the Lease if it is free or has run out by our clock."""
        await self._look()
        observed = self._observed
        try:
            if observed is None:
                metadata: JsonObject = {"name": self._name, "namespace": self._namespace}
                if self._owner is not None:
                    metadata["ownerReferences"] = await self._owner.references(deadline_seconds=self._call_seconds())
                sent = self._clock()
                body = self._body({"metadata": metadata}, transition=True)
                made = await self._client.create(LEASES, self._namespace, body, deadline_seconds=self._call_seconds())
                self._lead(made, sent)
            elif observed.holder in ("", self._identity) or self._clock() >= observed.free_at:
                await self._put(observed.body, transition=observed.holder != self._identity)
        except Conflict:
            logger.debug("Another replica took the lease first")

    async def _look(self) -> None:
        """Read the Lease; what has not changed keeps its age."""
        try:
            body = await self._client.get(LEASES, self._namespace, self._name, deadline_seconds=self._call_seconds())
        except NotFound:
            self._observed = None
            return
        known = self._observed
        if known is None or known.body["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            self._observed = _Observed(body, self._clock())

    async def _put(self, current: JsonObject, *, transition: bool) -> None:
        sent = self._clock()
        body = self._body(current, transition=transition)
        made = await self._client.replace(LEASES, self._namespace, self._name, body, deadline_seconds=self._call_seconds())
        self._lead(made, sent)

    def _lead(self, body: JsonObject, sent: float) -> None:
        """Take note of a renewal that was sent at `sent` and is done."""
        self._observed = _Observed(body, self._clock())
        self._until = sent + self._lease_seconds * (1 - 1 / MARGIN_PART)
        if not self._leading and self.is_leader:
            self._leading = True
            logger.info("This replica leads now")
            if self._on_started is not None:
                self._on_started()

    def _step_down(self, why: str, level: str = "WARNING") -> None:
        self._until = float("-inf")
        if self._leading:
            self._leading = False
            logger.log(level, "This replica leads no more: {}", why)
            if self._on_stopped is not None:
                self._on_stopped()

    def _call_seconds(self) -> float:
        """Return how long a call may take: half a lease, and as leader no longer than leadership lasts."""
        seconds = self._lease_seconds / 2
        return max(0.05, min(seconds, self.remaining_seconds())) if self._leading else seconds

    def _body(
        self, current: JsonObject, *, holder: str | None = None, seconds: int | None = None, transition: bool = False
    ) -> JsonObject:
        """Return the Lease as we want it, with the resourceVersion of `current` as precondition."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: JsonObject = dict(current.get("spec") or {})
        if transition:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1 if "holderIdentity" in spec else 0
        spec["holderIdentity"] = self._identity if holder is None else holder
        spec["leaseDurationSeconds"] = self._lease_seconds if seconds is None else seconds
        spec["renewTime"] = now
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": dict(current["metadata"]), "spec": spec}
