"""Entries and settings → whole documents, their manifests, and the manifests of credentials.

A document is canonical JSON with one model and one section a line, so that `kubectl get`, `diff` and a person at night can
read it: a model's line changes when the model does, and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from aigateway_config import documents
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.render.canonical import encode, encode_text
from aigateway_operator.render.entries import Entry
from aigateway_operator.render.settings import Settings

LIMIT_BYTES = 1024 * 1024
"""Bytes of all values of one ConfigMap or Secret. Source: Kubernetes `MaxSecretSize` and ConfigMap validation."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document as bytes. `shard` is None for `config.yml`; `digest` is its SHA-256 in lower-case hex."""

    shard: int | None
    content: bytes
    digest: str

    @property
    def file(self) -> str:
        """Name of the file in the mounted volume."""
        return documents.CONFIG_FILE if self.shard is None else documents.models_file(self.shard)

    @property
    def manifest_file(self) -> str:
        """Name of its manifest's file."""
        return documents.CONFIG_MANIFEST if self.shard is None else documents.models_manifest(self.shard)


def _models(entries: Iterable[Entry]) -> str:
    lines = [f"{encode_text(entry.model_name)}:{entry.text}" for entry in sorted(entries, key=lambda entry: entry.model_name)]
    body = "\n" + ",\n".join(lines) + "\n" if lines else ""
    return f'{{"virtual_models":{{{body}}}}}'


def _document(shard: int | None, text: str) -> Document:
    content = text.encode()
    return Document(shard, content, sha256(content).hexdigest())


def render_config(settings: Settings, entries: Iterable[Entry]) -> Document:
    """Render `config.yml`; `entries` is empty when models are in shards of their own."""
    sections = {"ai-gateway": _models(entries), **settings.sections}
    return _document(None, "{" + ",\n".join(f"{encode_text(name)}:{sections[name]}" for name in sorted(sections)) + "}\n")


def render_models(shard: int, entries: Iterable[Entry]) -> Document:
    """Render `models-NN.yml`."""
    return _document(shard, f'{{"ai-gateway":{_models(entries)}}}\n')


def render_manifest(
    document: Document, *, gateway: GatewayKey, lineage: str, shards: int, revision: int, sources: Mapping[str, str]
) -> bytes:
    """Render the manifest of `document`. `sources` maps public model names to `name/uid8` of their VirtualModels."""
    mapping = {
        "schema": documents.SCHEMA,
        "gateway": str(gateway),
        "lineage": lineage,
        "shards": shards,
        "shard": document.shard,
        "revision": revision,
        "sha256": document.digest,
        "sources": dict(sources),
    }
    return f"{encode(mapping)}\n".encode()


def render_credentials_manifest(
    *, gateway: GatewayKey, lineage: str, shard: int | None, revision: int, keys: Iterable[str], missing: Iterable[str]
) -> bytes:
    """Render `_manifest.json` of a credentials Secret: names only, no values and no digests of values."""
    mapping = {
        "schema": documents.SCHEMA,
        "gateway": str(gateway),
        "lineage": lineage,
        "shard": shard,
        "credentialsRevision": revision,
        "keys": sorted(keys),
        "missing": sorted(missing),
    }
    return f"{encode(mapping)}\n".encode()
