"""Carry out a plan's writes: whole objects, in order, each fenced by the resourceVersion it was planned against.

A Conflict means that somebody else wrote first: the object is read again and the round is repeated. An object that we do not
control is never written; an immutable one of ours is replaced by deleting that very object.
"""

from __future__ import annotations

import base64
from typing import Final

from aigateway_operator.api import meta
from aigateway_operator.errors import ClusterError, Conflict, NotFound
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, Resource
from aigateway_operator.plan.readback import values_of
from aigateway_operator.plan.result import Plan, Write
from aigateway_operator.plan.snapshot import LiveObject, Stored
from aigateway_operator.reconcile.gateway_state import GatewayState
from aigateway_operator.reconcile.ports import Cluster, JsonObject

RESOURCES: Final[dict[str, Resource]] = {kind.kind: kind for kind in (CONFIG_MAPS, SECRETS)}


class Actor:
    """Writes generated objects."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def carry_out(self, plan: Plan, gateway: Stored, state: GatewayState) -> int:
        """Do all writes in order and return how many there were. Raises errors.ClusterError at the first that fails."""
        for done, write in enumerate(plan.writes):
            try:
                await self._write(write, gateway, state)
            except ClusterError as error:
                # What landed is served although this plan is not adopted. Whether the failed write did land nobody knows,
                # unless the object has been looked at again.
                looked_at = isinstance(error, (Conflict, NotFound))
                for attempted in plan.writes[: done if looked_at else done + 1]:
                    if attempted.kind == CONFIG_MAPS.kind:
                        state.doubt(CONFIG_MAPS, attempted.name)
                raise
        return len(plan.writes)

    async def _write(self, write: Write, gateway: Stored, state: GatewayState) -> None:
        resource, namespace = RESOURCES[write.kind], gateway.namespace
        live = write.live
        try:
            values = {**write.values, **await self._carried_over(write, namespace, resource)}
            if live is not None and live.immutable:
                await self._cluster.delete(resource, namespace, live.name, uid=live.uid, resource_version=live.resource_version)
                state.forget(resource, live.name)
                live = None
            if live is None:
                obj = await self._cluster.create(resource, namespace, _body(write, values, gateway, None))
            else:
                obj = await self._cluster.replace(resource, namespace, live.name, _body(write, values, gateway, live))
        except (Conflict, NotFound):
            await self._look_again(resource, write.name, gateway, state)
            raise
        state.learn(resource, obj, gateway, written=write)

    async def _carried_over(self, write: Write, namespace: str, resource: Resource) -> dict[str, bytes]:
        """Return the values that stay as they are in the live Secret; Conflict if it changed since it was planned against."""
        if not write.keep or write.live is None:
            return {}
        obj = await self._cluster.get(resource, namespace, write.name)
        if obj["metadata"]["resourceVersion"] != write.live.resource_version:
            raise Conflict(f"{write.kind} '{write.name}' changed since it was read", status=409)
        values = values_of(obj)
        return {name: values[name] for name in write.keep if name in values}

    async def _look_again(self, resource: Resource, name: str, gateway: Stored, state: GatewayState) -> None:
        try:
            obj = await self._cluster.get(resource, gateway.namespace, name)
        except NotFound:
            state.forget(resource, name)
        else:
            state.learn(resource, obj, gateway)


def _body(write: Write, values: dict[str, bytes], gateway: Stored, live: LiveObject | None) -> JsonObject:
    """Return the whole object: nothing that others put into it survives. No finalizers, no copied labels."""
    owner = {
        "apiVersion": meta.API_VERSION,
        "kind": meta.GATEWAY_CONFIG,
        "name": gateway.name,
        "uid": gateway.uid,
        "controller": True,
    }
    metadata: JsonObject = {
        "name": write.name,
        "namespace": gateway.namespace,
        "labels": {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.GATEWAY_LABEL: gateway.name},
        "ownerReferences": [owner],
    }
    if live is not None:
        metadata["resourceVersion"] = live.resource_version
        metadata["uid"] = live.uid
    if write.kind == "Secret":
        encoded = {name: base64.b64encode(value).decode() for name, value in values.items()}
        return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": encoded}
    texts = {name: value.decode() for name, value in values.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": texts}
