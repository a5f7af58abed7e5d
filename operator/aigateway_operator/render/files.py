"""Entries and settings → whole documents, their manifests, and the manifests of credentials.

A document is canonical JSON with one model and one section a line, so that `kubectl get`, `diff` and a person at night can
read it: a model's line changes when the model does, and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from operator import attrgetter

from aigateway_config import documents
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.render.canonical import encode, encode_text, encode_texts
from aigateway_operator.render.entries import Entry
from aigateway_operator.render.settings import Settings

LIMIT_BYTES = 1024 * 1024
"""Bytes of all values of one ConfigMap or Secret. Source: Kubernetes `MaxSecretSize` and ConfigMap validation."""


@dataclass(slots=True)
class Document:
    """One document. `shard` is None for `config.yml`; `digest` is its SHA-256 in lower-case hex.

    What it says never changes; its bytes are let go once they are written, and rendered again for whoever asks after that.
    """

    shard: int | None
    digest: str
    size_bytes: int
    _render: Callable[[], str] = field(repr=False, compare=False)
    _content: bytes | None = field(repr=False, compare=False)

    @property
    def content(self) -> bytes:
        """The document as bytes."""
        return self._render().encode() if self._content is None else self._content

    @property
    def file(self) -> str:
        """Name of the file in the mounted volume."""
        return documents.document_file(self.shard)

    @property
    def manifest_file(self) -> str:
        """Name of its manifest's file."""
        return documents.document_manifest(self.shard)

    def let_go(self) -> None:
        """Keep the bytes no longer: they are as much again as all entries, and later rounds compare digests."""
        self._content = None


def _sorted(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=attrgetter("model_name")))


def _models(entries: Sequence[Entry]) -> str:
    names = encode_texts([entry.model_name for entry in entries])
    lines = [f"{name}:{entry.text}" for name, entry in zip(names, entries, strict=True)]
    body = "\n" + ",\n".join(lines) + "\n" if lines else ""
    return f'{{"virtual_models":{{{body}}}}}'


def _document(shard: int | None, render: Callable[[], str]) -> Document:
    content = render().encode()
    return Document(shard, sha256(content).hexdigest(), len(content), render, content)


def _config(settings: Settings, entries: Sequence[Entry]) -> str:
    sections = {"ai-gateway": _models(entries), **settings.sections}
    return "{" + ",\n".join(f"{encode_text(name)}:{sections[name]}" for name in sorted(sections)) + "}\n"


def render_config(settings: Settings, entries: Iterable[Entry]) -> Document:
    """Render `config.yml`; `entries` is empty when models are in shards of their own."""
    return _document(None, partial(_config, settings, _sorted(entries)))


def _shard(entries: Sequence[Entry]) -> str:
    return f'{{"ai-gateway":{_models(entries)}}}\n'


def render_models(shard: int, entries: Iterable[Entry]) -> Document:
    """Render `models-NN.yml`."""
    return _document(shard, partial(_shard, _sorted(entries)))


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
