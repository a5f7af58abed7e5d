"""The Deployment (or StatefulSet) that the operator runs as: what it makes for itself goes with that, and is no residue.

Known by kind and name, since a manifest cannot say its own uid; looked up when the Lease or the webhook's Secret is made, and
nothing is made when it is not there: it has just been deleted, and this process with it. Its role may go a moment before the
process does, so a refusal counts only when it lasts. Used by `lease` and `certificates`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from loguru import logger

from aigateway_operator.errors import Forbidden
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import JsonObject, Resource

WORKLOADS: Final = {
    "Deployment": Resource("apps", "v1", "deployments", "Deployment"),
    "StatefulSet": Resource("apps", "v1", "statefulsets", "StatefulSet"),
}
PATIENCE_SECONDS: Final = 5.0
"""How long we must have been refused before we do without; the end of a process takes less from the loss of its role on."""


class Owner:
    """One workload. `text` is `KIND/NAME`, as AIGATEWAY_OWNER is."""

    def __init__(self, client: KubeClient, namespace: str, text: str, clock: Callable[[], float] = time.monotonic) -> None:
        kind, _, self._name = text.partition("/")
        self._client = client
        self._namespace = namespace
        self._resource = WORKLOADS[kind]
        self._clock = clock
        self._refused_since: float | None = None
        self._warned = False

    async def references(self, *, deadline_seconds: float | None = None) -> list[JsonObject]:
        """Return the owner references of an object in its namespace; [] where we may never look, which is warned of once.

        Raises NotFound when it is not there, Forbidden while that is new, and other ClusterErrors: nothing must be made then.
        """
        resource = self._resource
        try:
            found = await self._client.get(
                resource, self._namespace, self._name, metadata_only=True, deadline_seconds=deadline_seconds
            )
        except Forbidden as error:
            now = self._clock()
            if self._refused_since is None:
                self._refused_since = now
            if now - self._refused_since < PATIENCE_SECONDS:
                raise
            if not self._warned:
                self._warned = True
                logger.warning(
                    "AIGATEWAY_OWNER cannot be looked up, so the Lease and the webhook's Secret stay when {} {} is deleted. "
                    "Grant get on it: {}",
                    resource.kind,
                    self._name,
                    error,
                )
            return []
        self._refused_since = None
        uid = found["metadata"]["uid"]
        return [{"apiVersion": resource.api_version, "kind": resource.kind, "name": self._name, "uid": uid}]
