"""One check of one target with its time limit: whatever happens, an outcome comes out of it. Called by `prober`.

The only place where an error of a probe that nobody thought of is caught: it is logged once a kind and counts as Down.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from loguru import logger

from aigateway_operator.datastores.backend import BackendProbe
from aigateway_operator.datastores.connecting import Connector, Stage
from aigateway_operator.datastores.mongodb import MongoProbe
from aigateway_operator.datastores.probe import Denied, Down, Failed, Outcome, Probe, Up, place, settings_of
from aigateway_operator.datastores.qdrant import QdrantProbe
from aigateway_operator.datastores.redis import RedisProbe
from aigateway_operator.plan.health import BackendTarget, HealthReason, StoreTarget, Target

_REMEDIES = {
    HealthReason.NAME_NOT_RESOLVED: "Check the cluster's DNS, and the host in {}.",
    HealthReason.TLS_FAILED: "Check that TLS is spoken on that port, and {}.",
}
_STORES = {"mongodb": MongoProbe, "redis": RedisProbe, "qdrant": QdrantProbe}


@dataclass(slots=True)
class Checker:
    """Checks one target as often as asked, one check at a time. Never raises, but for cancellation."""

    target: Target
    probe: Probe
    stage: Stage
    clock: Callable[[], float] = time.monotonic
    _told: set[str] = field(default_factory=set)

    async def check(self, timeout_seconds: float) -> Outcome:
        """Return what one check brought, with its latency; it takes `timeout_seconds` at most."""
        started = self.clock()
        outcome = await self._check(timeout_seconds)
        return replace(outcome, latency_seconds=self.clock() - started)

    async def close(self) -> None:
        """Release what the probe holds."""
        await self.probe.close()

    async def _check(self, timeout_seconds: float) -> Outcome:
        if isinstance(self.target, StoreTarget) and self.target.missing:
            return missing_credentials(self.target)
        self.stage.reason, self.stage.what = HealthReason.TIMEOUT, "answer"
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.probe()
        except Failed as error:
            return error.outcome
        except TimeoutError:
            return too_slow(self.target, timeout_seconds, self.stage.reason, self.stage.what)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end the checks of this target
            if type(error).__name__ not in self._told:
                self._told.add(type(error).__name__)
                logger.bind(target=place(self.target)).exception("A probe broke")
            text = f"{place(self.target)} could not be checked ({type(error).__name__}): a fault of the operator, see its log."
            return Down(HealthReason.PROBE_FAULT, text)
        return Up(
            f"{place(self.target)} is up." if isinstance(self.target, StoreTarget) else f"{place(self.target)} is reachable."
        )


def make_checker(target: Target, connector: Connector) -> Checker:
    """Return the checker of a target."""
    stage = Stage()
    if isinstance(target, BackendTarget):
        return Checker(target, BackendProbe(target, connector, stage), stage)
    return Checker(target, _STORES[target.store](target, connector, stage), stage)


def too_slow(target: Target, timeout_seconds: float, reason: HealthReason = HealthReason.TIMEOUT, what: str = "answer") -> Down:
    """Return the outcome of a check that took longer than it may; `what`: what it was waiting for."""
    remedy = _REMEDIES.get(reason, "Check the server's load, NetworkPolicies, and host and port in {}.").format(
        settings_of(target)
    )
    text = f"{place(target)} does not {what} within {timeout_seconds:g} s. {remedy}"
    return Down(reason, text)


def missing_credentials(target: StoreTarget) -> Denied:
    """Return the outcome for a store whose Secrets are not there; it is not connected to."""
    what = "; ".join(target.missing)
    text = f"{place(target)} is not connected to: {what}. Create it, or correct spec.storage.{target.store}."
    return Denied(HealthReason.CREDENTIALS_MISSING, text)
