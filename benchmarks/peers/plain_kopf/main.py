"""A twin of the operator as kopf's tutorials lead one to write it: an index, handlers on create, update and delete, a client.

Each handler renders the whole gateway and replaces what it finds changed. Nothing is coalesced, since handlers are called per
object; that is the point of the comparison. Only for benchmarks, and only at 1,000 models. Run by `benchmarks.subjects`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import UTC, datetime
from typing import Any

import kopf
import kubernetes

GROUP, VERSION = "ai-gateway.io", "v1alpha1"
TURN = threading.Lock()
"""Handlers run in threads: without it an older rendering could be written over a newer one."""


@kopf.on.startup()
def begin(**_: Any) -> None:
    """Connect as kopf does."""
    kubernetes.config.load_kube_config()


@kopf.index(GROUP, VERSION, "virtualmodels")
def models(namespace: str, name: str, uid: str, spec: kopf.Spec, **_: Any) -> Any:
    """Hold every model by its gateway."""
    return {(namespace, spec["gatewayRef"]["name"]): (name, uid, dict(spec))}


@kopf.on.create(GROUP, VERSION, "gatewayconfigs")
@kopf.on.update(GROUP, VERSION, "gatewayconfigs")
def gateway_changed(
    namespace: str, name: str, meta: kopf.Meta, patch: kopf.Patch, models: kopf.Index[Any, Any], **_: Any
) -> None:
    """Render a gateway."""
    revision = render(namespace, name, models)
    patch.status.update(status(meta, revision))


@kopf.on.create(GROUP, VERSION, "virtualmodels")
@kopf.on.update(GROUP, VERSION, "virtualmodels")
def model_changed(
    namespace: str, name: str, spec: kopf.Spec, meta: kopf.Meta, patch: kopf.Patch, models: kopf.Index[Any, Any], **_: Any
) -> None:
    """Render the gateway of a model."""
    revision = render(namespace, spec["gatewayRef"]["name"], models)
    patch.status.update({**status(meta, revision), "modelName": spec.get("modelName") or name})


@kopf.on.event(GROUP, VERSION, "virtualmodels")
def model_gone(event: kopf.RawEvent, namespace: str, spec: kopf.Spec, models: kopf.Index[Any, Any], **_: Any) -> None:
    """Render the gateway of a model that is gone."""
    if event["type"] == "DELETED":
        render(namespace, spec["gatewayRef"]["name"], models)


def status(meta: kopf.Meta, revision: int) -> dict[str, Any]:
    """Return a status that says all is well."""
    generation, now = meta["generation"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {
            "type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation,
            "lastTransitionTime": now,
        }
        for kind in ("Accepted", "ResolvedRefs", "Programmed", "Ready")
    ]  # fmt: skip
    return {"observedGeneration": generation, "revision": revision, "conditions": conditions}


def render(namespace: str, gateway: str, models: kopf.Index[Any, Any]) -> int:
    """Write the documents of a gateway; return its revision."""
    with TURN:
        objects, core = kubernetes.client.CustomObjectsApi(), kubernetes.client.CoreV1Api()
        owner = objects.get_namespaced_custom_object(GROUP, VERSION, namespace, "gatewayconfigs", gateway)
        shards = owner["spec"].get("delivery", {}).get("shards", 1)
        placed: list[list[Any]] = [[] for _ in range(shards)]
        for name, uid, spec in models.get((namespace, gateway), []):
            public = spec.get("modelName") or name
            number = int(hashlib.sha256(public.encode()).hexdigest()[:16], 16) % shards
            placed[number].append((public, name, uid, spec))
        found = core.list_namespaced_config_map(namespace).items
        held = {item.metadata.name: item for item in found if item.metadata.name.startswith(f"{gateway}-")}
        stems = ["config", *(f"models-{number:02d}" for number in range(shards) if shards > 1)]
        revisions = [json.loads(item.data[f"{name.removeprefix(f'{gateway}-')}.manifest.json"])["revision"]
                     for name, item in held.items()]  # fmt: skip
        revision = max(revisions, default=0)
        changed = False
        for number, stem in enumerate(stems, start=-1):
            own = placed[max(number, 0)] if number >= 0 or shards == 1 else []
            text = (settings if stem == "config" else models_only)(own)
            before = held.get(f"{gateway}-{stem}")
            if before is not None and before.data[f"{stem}.yml"] == text:
                continue
            changed = True
            body = config_map(owner, stem, text, None if stem == "config" else number, revision + 1, own)
            if before is None:
                core.create_namespaced_config_map(namespace, body)
            else:
                core.replace_namespaced_config_map(f"{gateway}-{stem}", namespace, body)
        return revision + changed


def canonical(value: Any) -> str:
    """Return JSON as documents have it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def reference(ref: dict[str, str] | None) -> str | None:
    """Return the credentials file of a Secret reference."""
    return f"{ref['name']}.{ref['key']}" if ref else None


def entry(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the mapping of a model."""
    base = spec.get("baseUrl")
    made = {
        "use": spec["use"],
        "current": spec["current"],
        "base_url": base,
        "proxy_key_ref": reference(spec["proxyKeySecretRef"]),
    }
    for backend in spec["backends"]:
        made[backend["name"]] = {
            "model": backend["model"],
            "base_url": backend.get("baseUrl", base),
            "api_key_ref": reference(backend.get("apiKeySecretRef")),
            "parameters": backend.get("parameters", {}),
        }
    return made


def section(own: list[Any]) -> str:
    """Return the models of a document, one a line."""
    lines = ",\n".join(
        f"{canonical(public)}:{canonical(entry(spec))}" for public, _, _, spec in sorted(own, key=lambda one: one[0])
    )
    return '{"virtual_models":{' + (f"\n{lines}\n" if lines else "") + "}}"


def models_only(own: list[Any]) -> str:
    """Return the document of a shard."""
    return f'{{"ai-gateway":{section(own)}}}\n'


def settings(own: list[Any]) -> str:
    """Return config.yml of a gateway that leaves everything at its default."""
    stream = {"level": "INFO", "storage": {"sinks": ["file", "mongodb"], "path": "logs"}, "retention": 30}
    parts = {
        "ai-gateway": section(own),
        "app": canonical({"host": "0.0.0.0", "port": 8000, "debug": False}),
        "log": canonical({"system": stream, "operation": stream}),
        "storage": canonical({"mongodb": None, "redis": None, "qdrant": None}),
        "web_search": "null",
    }
    return "{" + ",\n".join(f'"{key}":{parts[key]}' for key in sorted(parts)) + "}\n"


def config_map(owner: dict[str, Any], stem: str, text: str, shard: int | None, revision: int, own: list[Any]) -> dict[str, Any]:
    """Return a ConfigMap with a document and its manifest."""
    meta = owner["metadata"]
    manifest = {
        "schema": "1.0",
        "gateway": f"{meta['namespace']}/{meta['name']}",
        "lineage": meta["uid"],
        "shards": owner["spec"].get("delivery", {}).get("shards", 1),
        "shard": shard,
        "revision": revision,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "sources": {public: f"{name}/{uid[:8]}" for public, name, uid, _ in own},
    }
    reference = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "GatewayConfig",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }
    return {
        "metadata": {"name": f"{meta['name']}-{stem}", "ownerReferences": [reference]},
        "data": {f"{stem}.yml": text, f"{stem}.manifest.json": canonical(manifest) + "\n"},
    }
