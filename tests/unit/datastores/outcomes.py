"""Outcomes and targets for the tests of this folder."""

from __future__ import annotations

from aigateway_operator.datastores.probe import Denied, Down, NotReady, Up
from aigateway_operator.plan.health import HealthReason, StoreTarget

UP = Up("Redis is up.")
REFUSED = Down(HealthReason.REFUSED, "Redis refuses connections.")
TIMEOUT = Down(HealthReason.TIMEOUT, "Redis does not answer.")
DENIED = Denied(HealthReason.AUTHENTICATION_FAILED, "Redis refuses the password.")
LOADING = NotReady(HealthReason.LOADING, "Redis is loading.")


def redis(host: str = "redis.ai.svc", password: bytes | None = None) -> StoreTarget:
    """Return a target."""
    return StoreTarget("redis", host, 6379, password=password)
