"""What a Deployment needs to read a gateway's documents: a patch of its pod template, and a NetworkPolicy. Pure.

Volumes are projected, one for documents and one for credentials, so that a kubelet swaps all shards at once; never `subPath`,
which is never updated. Every source is optional: a pod that is there first waits for its documents inside, where it can say
so, not in ContainerCreating. Called by `mount`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from aigateway_operator.api.gatewayconfig import Delivery
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.plan.names import config_map_name, credentials_name

CONFIG_VOLUME: Final = "aigateway-config"
CREDENTIALS_VOLUME: Final = "aigateway-credentials"
WORKERS_VOLUME: Final = "aigateway-workers"
FOLDERS: Final = {
    CONFIG_VOLUME: ("/etc/aigateway/config", "AIGATEWAY_CONFIG_DIR"),
    CREDENTIALS_VOLUME: ("/etc/aigateway/credentials", "AIGATEWAY_CREDENTIALS_DIR"),
    WORKERS_VOLUME: ("/run/aigateway", "AIGATEWAY_WORKERS_DIR"),
}
"""Volume → where it is mounted, and the variable that tells the program so."""
STATUS_PORT_NAME: Final = "config-status"
OPERATOR_LABELS: Final = {"app.kubernetes.io/name": "aigateway-operator"}
"""On the operator's pods; those of its chart have it."""
_NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
_LAST_PORT: Final = 65535


def deployment_patch(
    gateway: str, *, shards: int, status_port: int, labels: Mapping[str, str], container: str
) -> dict[str, Any]:
    """Return a strategic merge patch of a Deployment (StatefulSet, DaemonSet) that mounts everything of `gateway`.

    `labels`: those by which the gateway selects its pods; {} leaves the pods' labels alone. `container`: the one to patch.
    """
    mounts = [
        {"name": name, "mountPath": path, **({} if name == WORKERS_VOLUME else {"readOnly": True})}
        for name, (path, _) in FOLDERS.items()
    ]
    patched = {
        "name": container,
        "env": [{"name": variable, "value": path} for path, variable in FOLDERS.values()],
        "ports": [{"name": STATUS_PORT_NAME, "containerPort": status_port, "protocol": "TCP"}],
        "volumeMounts": mounts,
    }
    metadata = {"metadata": {"labels": dict(labels)}} if labels else {}
    return {"spec": {"template": {**metadata, "spec": {"containers": [patched], "volumes": _volumes(gateway, shards)}}}}


def _volumes(gateway: str, shards: int) -> list[dict[str, Any]]:
    parts = list(_shards(shards))
    config = [{"configMap": {"name": config_map_name(gateway, shard), "optional": True}} for shard in parts]
    credentials = [{"secret": {"name": credentials_name(gateway, shard), "optional": True}} for shard in parts]
    return [
        {"name": CONFIG_VOLUME, "projected": {"sources": config}},
        {"name": CREDENTIALS_VOLUME, "projected": {"sources": credentials}},
        {"name": WORKERS_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]


def _shards(shards: int) -> Iterator[int | None]:
    """Yield None for the gateway's own objects, then every shard, if there are several."""
    yield None
    yield from range(shards) if shards > 1 else ()


def network_policy(key: GatewayKey, delivery: Delivery, operator_namespace: str) -> dict[str, Any] | None:
    """Return a policy that lets only the operator reach the status port and changes nothing else; None without podSelector.

    A policy lists what is allowed, so every other port is allowed by ranges: policies that narrow those still do. One that
    opens the status port to others opens it, since policies are added up.
    """
    if delivery.pod_selector is None:
        return None
    operator = {
        "namespaceSelector": {"matchLabels": {_NAMESPACE_LABEL: operator_namespace}},
        "podSelector": {"matchLabels": OPERATOR_LABELS},
    }
    selector = delivery.pod_selector.model_dump(mode="json", exclude_defaults=True)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{key.name}-config-status", "namespace": key.namespace},
        "spec": {
            "podSelector": selector,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [operator], "ports": [{"protocol": "TCP", "port": delivery.status_port}]},
                {"ports": list(_all_ports_but(delivery.status_port))},
            ],
        },
    }


def _all_ports_but(port: int) -> Iterator[dict[str, Any]]:
    for first, last in ((1, port - 1), (port + 1, _LAST_PORT)):
        if first <= last:
            yield {"protocol": "TCP", "port": first, "endPort": last}
    yield {"protocol": "UDP", "port": 1, "endPort": _LAST_PORT}
    yield {"protocol": "SCTP", "port": 1, "endPort": _LAST_PORT}
