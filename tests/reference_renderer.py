"""The documents once more, in the plainest way: what tests compare the operator's bytes with.

Written from the design (docs/concepts.md, "What pods read") alone and sharing no code with the operator, so that a fault in
one of the two shows. Slow, without memory, for accepted manifests only. Not a test module.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

Manifest = Mapping[str, Any]

_STORES: dict[str, dict[str, Any]] = {
    "mongodb": {"port": 27017, "username": None, "database": "ai_gateway", "authSource": "admin"},
    "redis": {"port": 6379},
    "qdrant": {"port": 6333, "collection": "knowledge_base"},
}
_STORE_SECRETS = {
    "mongodb": ("passwordSecretRef", "password_ref"),
    "redis": ("passwordSecretRef", "password_ref"),
    "qdrant": ("apiKeySecretRef", "api_key_ref"),
}


def canonical(value: Any) -> str:
    """Return JSON on one line: keys sorted, no spaces, nothing in it that a YAML parser would refuse or read otherwise."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{canonical(key)}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    if isinstance(value, str):
        return "".join(_escaped(char) for char in json.dumps(value, ensure_ascii=False))
    text = json.dumps(value, allow_nan=False)
    if isinstance(value, float) and "e" in text:
        digits, exponent = text.split("e")
        return f"{digits if '.' in digits else digits + '.0'}e{int(exponent):+03d}"
    return text


def _escaped(char: str) -> str:
    code = ord(char)
    odd = 0x7F <= code <= 0x9F or code in (0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF) or 0xD800 <= code <= 0xDFFF
    return f"\\u{code:04x}" if odd else char


def credentials_file(ref: Manifest | None) -> str | None:
    """Return the name of the file in which pods find what a Secret reference means; None for none."""
    if not ref:
        return None
    secret, key = ref["name"], ref["key"]
    if "." in secret or len(secret) + 1 + len(key) > 253:
        return "_" + hashlib.sha256(f"{secret}/{key}".encode()).hexdigest()[:40]
    return f"{secret}.{key}"


def model_name(model: Manifest) -> str:
    """Return the public name of a VirtualModel."""
    return str(model["spec"].get("modelName") or model["metadata"]["name"])


def entry(model: Manifest) -> dict[str, Any]:
    """Return the mapping under a model's public name."""
    spec = model["spec"]
    made = {
        "use": spec["use"],
        "current": spec["current"],
        "base_url": spec.get("baseUrl"),
        "proxy_key_ref": credentials_file(spec["proxyKeySecretRef"]),
    }
    for backend in spec["backends"]:
        made[backend["name"]] = {
            "model": backend["model"],
            "base_url": backend.get("baseUrl", spec.get("baseUrl")),
            "api_key_ref": credentials_file(backend.get("apiKeySecretRef")),
            "parameters": backend.get("parameters", {}),
        }
    return made


def sections(gateway: Manifest) -> dict[str, Any]:
    """Return what a GatewayConfig alone decides: `app`, `storage`, `web_search`, `log`."""
    spec = gateway["spec"]
    search = spec.get("webSearch")
    return {
        "app": {"host": "0.0.0.0", "port": 8000, "debug": False, **spec.get("app", {})},
        "storage": {name: _store(name, spec.get("storage", {}).get(name)) for name in _STORES},
        "web_search": search
        and {
            "provider": search["provider"],
            "base_url": search["baseUrl"],
            "options": search.get("options", {}),
            "api_key_ref": credentials_file(search.get("apiKeySecretRef")),
        },
        "log": {name: _stream(spec.get("log", {}).get(name, {})) for name in ("system", "operation")},
    }


def _store(name: str, given: Manifest | None) -> dict[str, Any] | None:
    if given is None or not given.get("enabled", True):
        return None
    values = {**_STORES[name], **given}
    kept = {"auth_source" if key == "authSource" else key: values[key] for key in ("host", *_STORES[name])}
    source, target = _STORE_SECRETS[name]
    tls = given.get("tls")
    made_tls = (
        {"enabled": tls.get("enabled", False), "ca_ref": credentials_file(tls.get("caSecretRef"))} if tls is not None else None
    )
    return {**kept, target: credentials_file(given.get(source)), "tls": made_tls}


def _stream(given: Manifest) -> dict[str, Any]:
    storage = given.get("storage", {})
    return {
        "level": given.get("level", "INFO"),
        "storage": {"sinks": sorted(storage.get("sinks", ["mongodb", "file"])), "path": storage.get("path", "logs")},
        "retention": given.get("retentionDays", 30),
    }


def shard(name: str, shards: int) -> int:
    """Return the shard of a public name."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) % shards


def reference_config_maps(
    gateway: Manifest, models: Iterable[Manifest], *, revision: int | Mapping[str, int] = 1
) -> dict[str, dict[str, str]]:
    """Return the data of every ConfigMap of a gateway by its name.

    Manifests are accepted ones as the API server returns them, with `metadata.uid`; all of `models` are served. `revision`:
    of every document, or by document file.
    """
    name, shards = gateway["metadata"]["name"], _shards(gateway)
    placed = {model_name(model): model for model in models}
    in_config = placed if shards == 1 else {}
    parts = {**{key: canonical(value) for key, value in sections(gateway).items()}, "ai-gateway": _models(in_config)}
    text = "{" + ",\n".join(f'"{key}":{parts[key]}' for key in sorted(parts)) + "}\n"
    made = {f"{name}-config": _with_manifest("config", text, gateway, None, in_config, revision)}
    for number in range(shards) if shards > 1 else ():
        own = {public: model for public, model in placed.items() if shard(public, shards) == number}
        text = f'{{"ai-gateway":{_models(own)}}}\n'
        made[f"{name}-models-{number:02d}"] = _with_manifest(f"models-{number:02d}", text, gateway, number, own, revision)
    return made


def _shards(gateway: Manifest) -> int:
    return int(gateway["spec"].get("delivery", {}).get("shards", 1))


def _models(models: Mapping[str, Manifest]) -> str:
    lines = ",\n".join(f"{canonical(public)}:{canonical(entry(models[public]))}" for public in sorted(models))
    return '{"virtual_models":{' + (f"\n{lines}\n" if lines else "") + "}}"


def _with_manifest(
    stem: str,
    text: str,
    gateway: Manifest,
    number: int | None,
    models: Mapping[str, Manifest],
    revision: int | Mapping[str, int],
) -> dict[str, str]:
    metadata = gateway["metadata"]
    manifest = {
        "schema": "1.0",
        "gateway": f"{metadata['namespace']}/{metadata['name']}",
        "lineage": metadata["uid"],
        "shards": _shards(gateway),
        "shard": number,
        "revision": revision if isinstance(revision, int) else revision[f"{stem}.yml"],
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "sources": {public: f"{model['metadata']['name']}/{model['metadata']['uid'][:8]}" for public, model in models.items()},
    }
    return {f"{stem}.yml": text, f"{stem}.manifest.json": canonical(manifest) + "\n"}


def reference_credentials(gateway: Manifest, models: Iterable[Manifest]) -> dict[str, dict[str, tuple[str, str]]]:
    """Return for each credentials Secret, by name, its files with the Secret and key each is copied from."""
    name, shards = gateway["metadata"]["name"], _shards(gateway)
    made: dict[str, dict[str, tuple[str, str]]] = {f"{name}-credentials": _files(_gateway_refs(gateway))}
    for number in range(shards) if shards > 1 else ():
        made[f"{name}-credentials-{number:02d}"] = {}
    for model in models:
        target = f"{name}-credentials" + (f"-{shard(model_name(model), shards):02d}" if shards > 1 else "")
        spec = model["spec"]
        refs = [spec["proxyKeySecretRef"], *(backend.get("apiKeySecretRef") for backend in spec["backends"])]
        made[target] |= _files(refs)
    return made


def _gateway_refs(gateway: Manifest) -> list[Manifest | None]:
    spec = gateway["spec"]
    refs = [spec.get("webSearch", {}).get("apiKeySecretRef")]
    for name, (source, _) in _STORE_SECRETS.items():
        given = spec.get("storage", {}).get(name, {"enabled": False})
        if given.get("enabled", True):
            refs += [given.get(source), given.get("tls", {}).get("caSecretRef")]
    return refs


def _files(refs: Iterable[Manifest | None]) -> dict[str, tuple[str, str]]:
    return {file: (ref["name"], ref["key"]) for ref in refs if ref and (file := credentials_file(ref)) is not None}
