"""Services and the pods behind them, as a node's kube-proxy sees them: late by a moment, ready and not terminating only.

Pure state that is told of objects. EndpointSlices are not used: the API server refuses addresses of this machine in them.
Called by `hack.node.node` (which tells) and `hack.node.proxy` (which asks).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hack.node.probes import port_of

JsonObject = Mapping[str, Any]
Address = tuple[str, int]
_READY: Final = "Ready"


class NoEndpoint(Exception):
    """Nothing answers at that address; the text says what is missing."""


class Services:
    """Which pods a Service leads to now. For use on one event loop."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, str], JsonObject] = {}
        self._pods: dict[tuple[str, str], JsonObject] = {}
        self._dice = random.SystemRandom()

    def set_services(self, services: Mapping[tuple[str, str], JsonObject]) -> None:
        """Replace all Services."""
        self._services = dict(services)

    def set_service(self, key: tuple[str, str], body: JsonObject | None) -> None:
        """Store a Service; None: it is gone."""
        if body is None:
            self._services.pop(key, None)
        else:
            self._services[key] = body

    def set_pod(self, key: tuple[str, str], body: JsonObject | None) -> None:
        """Store a pod as endpoints show it; None: it is gone."""
        if body is None:
            self._pods.pop(key, None)
        else:
            self._pods[key] = body

    def resolve(self, host: str, port: int) -> Address:
        """Return where a connection to `host`:`port` goes: any ready pod of the Service of that cluster IP or DNS name.

        An address that belongs to no Service is returned as it is. Raises NoEndpoint.
        """
        found = self._find(host)
        if found is None:
            return host, port
        (namespace, name), service = found
        ports = {one["port"]: one for one in service["spec"].get("ports") or []}
        if port not in ports:
            raise NoEndpoint(f"service {namespace}/{name} has no port {port}")
        return self.endpoint(namespace, name, ports[port].get("targetPort", port))

    def endpoint(self, namespace: str, name: str, target: int | str) -> Address:
        """Return a ready pod's address for a target port (number or name). Raises NoEndpoint."""
        service = self._services.get((namespace, name))
        endpoints = [] if service is None else list(self._endpoints(namespace, service, target))
        if not endpoints:
            raise NoEndpoint(f"service {namespace}/{name} has no ready endpoint")
        return self._dice.choice(endpoints)

    def target_port(self, namespace: str, name: str, port: int | str) -> int | str:
        """Return the target port behind a Service's port, given by number or name. Raises NoEndpoint."""
        service = self._services.get((namespace, name))
        for one in [] if service is None else service["spec"].get("ports") or []:
            if port in (one["port"], one.get("name")):
                target: int | str = one.get("targetPort", one["port"])
                return target
        raise NoEndpoint(f"there is no service {namespace}/{name} with port {port}")

    def _find(self, host: str) -> tuple[tuple[str, str], JsonObject] | None:
        labels = host.rstrip(".").split(".")
        if len(labels) >= 3 and labels[2] == "svc":
            key = (labels[1], labels[0])
            if key not in self._services:
                raise NoEndpoint(f"there is no service {key[0]}/{key[1]}")
            return key, self._services[key]
        return next((item for item in self._services.items() if item[1]["spec"].get("clusterIP") == host), None)

    def _endpoints(self, namespace: str, service: JsonObject, target: int | str) -> Iterator[Address]:
        selector = service["spec"].get("selector")
        for (pod_namespace, _), pod in self._pods.items():
            labels = pod["metadata"].get("labels") or {}
            if pod_namespace != namespace or not selector or not selector.items() <= labels.items() or not serves(pod):
                continue
            for container in pod["spec"]["containers"]:
                try:
                    yield pod["status"]["podIP"], port_of(container, target)
                except KeyError:
                    continue
                break


def serves(pod: JsonObject) -> bool:
    """Tell whether a pod is a ready endpoint: it has an address, is ready and is not being deleted."""
    status = pod.get("status") or {}
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or []}
    return bool(status.get("podIP")) and conditions.get(_READY) == "True" and "deletionTimestamp" not in pod["metadata"]
