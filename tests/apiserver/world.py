"""One namespace on the real API server as a test sees it: writes as a user would, reads what the operator made of it."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hack.audit import WRITES, AuditMark, AuditRecord
from hack.controlplane import ControlPlane
from tests.eventually import eventually
from tests.operators import USER

GROUP = "/apis/ai-gateway.io/v1alpha1"
PLURALS = {
    "VirtualModel": (GROUP, "virtualmodels"),
    "GatewayConfig": (GROUP, "gatewayconfigs"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Secret": ("/api/v1", "secrets"),
}
Manifest = dict[str, Any]


def gateway_config(name: str = "main", **spec: Any) -> Manifest:
    """Return a GatewayConfig manifest."""
    return {"apiVersion": "ai-gateway.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"name": name}, "spec": spec}


def virtual_model(name: str = "chat", gateway: str = "main", **spec: Any) -> Manifest:
    """Return a valid VirtualModel manifest; keywords replace keys of its spec, None removes one."""
    merged: dict[str, Any] = {
        "gatewayRef": {"name": gateway},
        "use": True,
        "current": "small",
        "baseUrl": "https://api.example.com/v1",
        "proxyKeySecretRef": {"name": "keys", "key": "proxy"},
        "backends": [
            {"name": "small", "model": "gpt-4o-mini", "apiKeySecretRef": {"name": "keys", "key": "openai"}},
            {"name": "big", "model": "gpt-4o", "parameters": {"temperature": 0.2}},
        ],
        **spec,
    }
    cleaned = {key: value for key, value in merged.items() if value is not None}
    return {"apiVersion": "ai-gateway.io/v1alpha1", "kind": "VirtualModel", "metadata": {"name": name}, "spec": cleaned}


def secret(name: str = "keys", kind: str = "Opaque", **values: str) -> Manifest:
    """Return a Secret manifest; by default with the keys that `virtual_model` refers to."""
    chosen = values or {"proxy": "caller-key", "openai": "backend-key"}
    data = {key: base64.b64encode(value.encode()).decode() for key, value in chosen.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": data}


@dataclass(frozen=True)
class World:
    """A namespace and the control plane it is in."""

    plane: ControlPlane
    namespace: str

    def path(self, kind: str, name: str = "", subresource: str = "") -> str:
        """Return the path of a collection, an object or a subresource."""
        root, plural = PLURALS[kind]
        parts = [root, "namespaces", self.namespace, plural, name, subresource]
        return "/".join(part for part in parts if part)

    def create(self, *manifests: Manifest) -> list[Manifest]:
        """Create objects; asserts that each is accepted."""
        created = []
        for manifest in manifests:
            answer = self.plane.request("POST", self.path(manifest["kind"]), manifest)
            assert answer.status == 201, answer.body
            created.append(answer.body)
        return created

    def get(self, kind: str, name: str) -> Manifest:
        """Return an object; an AssertionError if it is not there."""
        answer = self.plane.request("GET", self.path(kind, name))
        assert answer.status == 200, f"{kind} {name}: {answer.status}"
        return dict(answer.body)

    def exists(self, kind: str, name: str) -> bool:
        """Tell whether an object is there."""
        return self.plane.request("GET", self.path(kind, name)).status == 200

    def replace(self, kind: str, name: str, spec: Mapping[str, Any]) -> Manifest:
        """Replace the spec of an object."""
        obj = self.get(kind, name)
        obj["spec"] = dict(spec)
        answer = self.plane.request("PUT", self.path(kind, name), obj)
        assert answer.status == 200, answer.body
        return dict(answer.body)

    def patch(self, kind: str, name: str, body: Mapping[str, Any], subresource: str = "") -> Manifest:
        """Merge `body` into an object."""
        path = self.path(kind, name, subresource)
        answer = self.plane.request("PATCH", path, dict(body), content_type="application/merge-patch+json")
        assert answer.status == 200, answer.body
        return dict(answer.body)

    def patch_spec(self, kind: str, name: str, **spec: Any) -> Manifest:
        """Merge keys into the spec of an object."""
        return self.patch(kind, name, {"spec": spec})

    def delete(self, kind: str, name: str) -> None:
        """Delete an object."""
        answer = self.plane.request("DELETE", self.path(kind, name))
        assert answer.status in (200, 202), answer.body

    # -- what the operator made of it

    def data(self, name: str) -> dict[str, str]:
        """Return the data of a ConfigMap."""
        data: dict[str, str] = self.get("ConfigMap", name).get("data") or {}
        return data

    def values(self, name: str) -> dict[str, str]:
        """Return the values of a Secret as text."""
        data = self.get("Secret", name).get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def document(self, name: str = "main-config", file: str = "config.yml") -> dict[str, Any]:
        """Return a document as readers parse it; an AssertionError if it is not there."""
        data = self.data(name)
        assert file in data, f"{name} holds {sorted(data)}"
        document: dict[str, Any] = json.loads(data[file])
        return document

    def models(self, name: str = "main-config", file: str = "config.yml") -> dict[str, Any]:
        """Return the virtual models of a document."""
        models: dict[str, Any] = self.document(name, file)["ai-gateway"]["virtual_models"]
        return models

    def manifest(self, name: str = "main-config", file: str = "config.manifest.json") -> dict[str, Any]:
        """Return the manifest of a document."""
        manifest: dict[str, Any] = json.loads(self.data(name)[file])
        return manifest

    def condition(self, kind: str, name: str, condition: str) -> dict[str, Any]:
        """Return one condition; an AssertionError if it is not there."""
        status = self.get(kind, name).get("status") or {}
        found = [item for item in status.get("conditions") or [] if item["type"] == condition]
        assert found, f"{kind} {name} has no condition {condition}: {status}"
        return dict(found[0])

    def wait_condition(
        self, kind: str, name: str, condition: str, status: str, reason: str | None = None, within_seconds: float = 20.0
    ) -> dict[str, Any]:
        """Wait until a condition of the current generation has this status (and reason); return it."""

        def check() -> dict[str, Any]:
            obj = self.get(kind, name)
            found = self.condition(kind, name, condition)
            assert found["status"] == status, found
            assert reason is None or found["reason"] == reason, found
            assert found["observedGeneration"] == obj["metadata"]["generation"], found
            return found

        return eventually(check, within_seconds=within_seconds)

    def wait_ready(self, *models: str, gateway: str | None = "main", within_seconds: float = 20.0) -> None:
        """Wait until the named VirtualModels, and the gateway unless None, are Ready."""
        if gateway is not None:
            self.wait_condition("GatewayConfig", gateway, "Ready", "True", within_seconds=within_seconds)
        for name in models:
            self.wait_condition("VirtualModel", name, "Ready", "True", within_seconds=within_seconds)

    def wait_models(self, expected: set[str], name: str = "main-config", within_seconds: float = 20.0) -> dict[str, Any]:
        """Wait until exactly these public names are in `config.yml`; return the models."""

        def check() -> dict[str, Any]:
            assert self.exists("ConfigMap", name), f"no ConfigMap {name}"
            models = self.models(name)
            assert set(models) == expected, sorted(models)
            return models

        return eventually(check, within_seconds=within_seconds)

    def writes_since(self, mark: AuditMark) -> list[AuditRecord]:
        """Return the operator's writes in this namespace since `mark`, all kinds but Lease."""
        records = self.plane.audit_since(mark, user=USER, verbs=WRITES)
        mine = [record for record in records if record.namespace == self.namespace]
        return [record for record in mine if record.resource != "leases"]


def without_status(obj: Manifest) -> Manifest:
    """Return an object as a user would apply it again."""
    copied = copy.deepcopy(obj)
    copied.pop("status", None)
    copied["metadata"] = {"name": obj["metadata"]["name"], "namespace": obj["metadata"]["namespace"]}
    return copied
