"""Backends of models: TCP and, for https, the TLS handshake. No request is sent and no key is used.

Called by `checking`.
Source: docs/health.md#what-is-checked.
"""

from __future__ import annotations

from dataclasses import dataclass

from aigateway_operator.datastores.connecting import Connector, Stage
from aigateway_operator.plan.health import BackendTarget


@dataclass(slots=True)
class BackendProbe:
    """Checks whether one backend can be connected to."""

    target: BackendTarget
    connector: Connector
    stage: Stage

    async def __call__(self) -> None:
        """Return if the connection stands. Raises Failed."""
        async with self.connector.connect(self.target, self.stage):
            return

    async def close(self) -> None:
        """Nothing is held."""
