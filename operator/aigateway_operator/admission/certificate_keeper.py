"""The leader's loop around the webhook's certificates: observe, plan, write what differs, wait for the next time or change.

The Secret is always written before the `caBundle`: what is trusted must have its key stored. A standby observes too, so that it
knows since when an authority has been trusted when its turn comes. Writes to one object are a second apart at least: whoever
else insists on other content is answered, not raced. Joined by `main` to `kube.certificates.CertificateObjects`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

from loguru import logger

from aigateway_operator.admission.certificate_plan import (
    CertificatePlan,
    CertificateSettings,
    CertificateState,
    note_trust,
    plan_certificates,
)
from aigateway_operator.errors import ClusterError, Conflict

WRITE_APART_SECONDS: Final = 1.0
FIRST_BACKOFF_SECONDS: Final = 0.2
MAX_BACKOFF_SECONDS: Final = 10.0
Certificate = Literal["leaf", "authority"]

LONGEST_PAUSE_SECONDS: Final = 600.0
"""Wall clocks are set: a time that is far away is looked at again."""


class CertificateObjects(Protocol):
    """The Secret and the ValidatingWebhookConfiguration, as they are known without asking."""

    def start(self) -> None:
        """Begin to follow both."""
        ...

    async def stop(self) -> None:
        """Stop following."""
        ...

    @property
    def listed(self) -> bool:
        """Whether both have been looked for successfully once."""
        ...

    @property
    def secret(self) -> Mapping[str, bytes] | None:
        """Content of the Secret, None if it is not there."""
        ...

    @property
    def bundles(self) -> Mapping[str, bytes] | None:
        """Webhook name → its `caBundle` (b"" where it has none), None if the configuration is not there."""
        ...

    async def write_secret(self, content: Mapping[str, bytes]) -> None:
        """Make this the whole content. Raises ClusterError; Conflict if the Secret is not as it was known."""
        ...

    async def write_bundle(self, bundle: bytes) -> None:
        """Put this into every webhook's `caBundle` and touch nothing else. Raises as above."""
        ...


class CertificateKeeper:
    """Keeps both objects as planned while `is_leader()`; writes nothing otherwise, and nothing that is as it should be.

    clock: the wall clock, timezone-aware. monotonic: seconds, for pauses between writes.
    """

    def __init__(
        self,
        objects: CertificateObjects,
        is_leader: Callable[[], bool],
        settings: CertificateSettings,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._is_leader = is_leader
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._changed = asyncio.Event()
        self._trusted_since: dict[str, datetime] = {}
        self._written_at = {"secret": float("-inf"), "bundle": float("-inf")}
        self._failures = 0
        self.plan: CertificatePlan | None = None
        """What was planned last; None while this process has not led. For metrics."""
        self.writes = 0
        """Successful writes since start."""

    def wake(self) -> None:
        """Look again now: an object changed, or leadership did. Cheap; to be called in the loop of `run`."""
        self._changed.set()

    async def run(self) -> None:
        """Keep until cancelled."""
        self._objects.start()
        try:
            while True:
                self._changed.clear()
                pause = await self._turn()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._changed.wait()
        finally:
            await self._objects.stop()

    def expiry(self, certificate: Certificate) -> float:
        """Return when leaf or authority ends, in Unix time as planned last; NaN while that is not known."""
        plan = self.plan
        end = None if plan is None else plan.leaf_until if certificate == "leaf" else plan.authority_until
        return float("nan") if end is None else end.timestamp()

    async def _turn(self) -> float:
        """Do what is due; return the seconds until the next turn if nothing changes."""
        try:
            pause = await self._keep()
        except ClusterError as error:
            return self._back_off(error)
        except Exception as error:  # noqa: BLE001 - the edge of the loop: a fault must not end the keeping
            logger.opt(exception=error).error("Keeping the webhook's certificates broke and begins again")
            return MAX_BACKOFF_SECONDS
        self._failures = 0
        return pause

    async def _keep(self) -> float:
        objects, now = self._objects, self._clock()
        if not objects.listed:
            return LONGEST_PAUSE_SECONDS
        bundles = objects.bundles
        live = None if bundles is None else tuple(bundles.values())
        self._trusted_since = note_trust(self._trusted_since, live, now)
        if not self._is_leader():
            return LONGEST_PAUSE_SECONDS
        self.plan = plan = plan_certificates(CertificateState(objects.secret, live, self._trusted_since), now, self._settings)
        if plan.content is not None:
            content = plan.content
            return await self._write("secret", lambda: objects.write_secret(content), plan.reasons)
        if live is not None and any(bundle != plan.bundle for bundle in live):
            return await self._write("bundle", lambda: objects.write_bundle(plan.bundle), ("filled in caBundle",))
        return min(max(0.05, (plan.check_at - now).total_seconds()), LONGEST_PAUSE_SECONDS)

    async def _write(self, what: str, write: Callable[[], Awaitable[None]], reasons: tuple[str, ...]) -> float:
        """Write unless the last write of this object is too fresh; return 0, or the seconds to wait for it."""
        early = self._written_at[what] + WRITE_APART_SECONDS - self._monotonic()
        if early > 0:
            return early
        await write()
        self._written_at[what] = self._monotonic()
        self.writes += 1
        logger.info("Webhook certificates: {}", "; ".join(reasons) or "restored what had been changed")
        return 0.0

    def _back_off(self, error: ClusterError) -> float:
        self._failures += 1
        if self._failures == 1 and not isinstance(error, Conflict):
            logger.warning("The webhook's certificates could not be kept and will be tried again: {}", error)
        return min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 16))
