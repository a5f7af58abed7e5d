"""Small valid manifests for the tests of this folder."""

from __future__ import annotations

import base64
from typing import Any

from aigateway_operator.api import meta
from aigateway_operator.plan.snapshot import Stored
from aigateway_operator.reconcile.ports import JsonObject
from aigateway_operator.reconcile.store import parse_stored


def model(name: str = "chat", gateway: str = "main", namespace: str = "ai", **spec: Any) -> JsonObject:
    """Return a valid VirtualModel; `spec` overrides fields of its spec."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.VIRTUAL_MODEL,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "gatewayRef": {"name": gateway},
            "use": True,
            "current": "small",
            "baseUrl": "https://api.example.com/v1",
            "proxyKeySecretRef": {"name": "keys", "key": "proxy"},
            "backends": [{"name": "small", "model": "gpt-4o-mini"}, {"name": "big", "model": "gpt-4o"}],
            **spec,
        },
    }


def gateway(name: str = "main", namespace: str = "ai", **spec: Any) -> JsonObject:
    """Return a valid GatewayConfig."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.GATEWAY_CONFIG,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def secret(name: str = "keys", namespace: str = "ai", **values: str) -> JsonObject:
    """Return a Secret; without values it has `proxy`."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in (values or {"proxy": "caller-key"}).items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def stored(
    manifest: JsonObject, *, version: int = 1, uid: str = "u1", generation: int = 1, status: JsonObject | None = None
) -> Stored:
    """Return a manifest as the API server would have it, reduced as the store keeps it."""
    metadata = {
        **manifest["metadata"],
        "uid": uid,
        "generation": generation,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return parse_stored({**manifest, "metadata": metadata, "status": status or {}})
