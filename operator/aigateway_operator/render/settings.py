"""A GatewayConfig's spec → the sections of `config.yml` that are not models, with defaults applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aigateway_config import documents
from aigateway_operator.api.fields import SecretKeyRef
from aigateway_operator.api.gatewayconfig import GatewayConfigSpec, LogStream, MongoDB, Qdrant, Redis, Tls, WebSearch
from aigateway_operator.render.canonical import encode
from aigateway_operator.render.entries import reference
from aigateway_operator.render.references import SecretRef, credential_key, secret_of

SECTIONS = ("app", "log", "storage", "web_search")


@dataclass(frozen=True, slots=True)
class Settings:
    """The rendered sections.

    `sections` maps each of `SECTIONS` to its canonical text. `credentials` as in `render.entries.Entry`.
    """

    sections: Mapping[str, str]
    credentials: Mapping[str, SecretRef | None]


def render_settings(spec: GatewayConfigSpec) -> Settings:
    """Render an accepted spec; stores that are off or never named become null."""
    mapping: dict[str, Any] = {
        "app": {"host": spec.app.host, "port": spec.app.port, "debug": spec.app.debug},
        "storage": {
            "mongodb": _mongodb(spec.storage.mongodb),
            "redis": _redis(spec.storage.redis),
            "qdrant": _qdrant(spec.storage.qdrant),
        },
        "web_search": _web_search(spec.web_search),
        "log": {"system": _log_stream(spec.log.system), "operation": _log_stream(spec.log.operation)},
    }
    refs = [SecretRef(ref.name, ref.key) for ref in referenced(spec)]
    return Settings({name: encode(mapping[name]) for name in SECTIONS}, {credential_key(ref): ref for ref in refs})


def referenced(spec: GatewayConfigSpec) -> list[SecretKeyRef]:
    """Return every reference of the spec that a document names: those of enabled stores and of web search."""
    refs: list[SecretKeyRef | None] = []
    for store in (spec.storage.mongodb, spec.storage.redis, spec.storage.qdrant):
        if store is None or not store.enabled:
            continue
        refs.append(store.api_key_secret_ref if isinstance(store, Qdrant) else store.password_secret_ref)
        refs.append(store.tls.ca_secret_ref if store.tls else None)
    refs.append(spec.web_search.api_key_secret_ref if spec.web_search else None)
    return [ref for ref in refs if ref is not None]


def read_settings(mapping: Mapping[str, Any]) -> Settings:
    """Return the settings that a whole `config.yml`, read back, stands for.

    Raises pydantic.ValidationError when it is not a document of this schema major.
    """
    document = documents.ConfigDocument.model_validate(dict(mapping))
    storage, web_search = document.storage, document.web_search
    named = [
        storage.mongodb.password_ref if storage.mongodb else None,
        storage.redis.password_ref if storage.redis else None,
        storage.qdrant.api_key_ref if storage.qdrant else None,
        web_search.api_key_ref if web_search else None,
        *(store.tls.ca_ref for store in (storage.mongodb, storage.redis, storage.qdrant) if store and store.tls),
    ]
    return Settings(
        {name: encode(mapping[name]) for name in SECTIONS}, {name: secret_of(name) for name in named if name is not None}
    )


def _tls(tls: Tls | None) -> dict[str, Any] | None:
    return None if tls is None else {"enabled": tls.enabled, "ca_ref": reference(tls.ca_secret_ref)}


def _mongodb(store: MongoDB | None) -> dict[str, Any] | None:
    if store is None or not store.enabled:
        return None
    return {
        "host": store.host,
        "port": store.port,
        "username": store.username,
        "password_ref": reference(store.password_secret_ref),
        "database": store.database,
        "auth_source": store.auth_source,
        "tls": _tls(store.tls),
    }


def _redis(store: Redis | None) -> dict[str, Any] | None:
    if store is None or not store.enabled:
        return None
    return {
        "host": store.host,
        "port": store.port,
        "password_ref": reference(store.password_secret_ref),
        "tls": _tls(store.tls),
    }


def _qdrant(store: Qdrant | None) -> dict[str, Any] | None:
    if store is None or not store.enabled:
        return None
    return {
        "host": store.host,
        "port": store.port,
        "collection": store.collection,
        "api_key_ref": reference(store.api_key_secret_ref),
        "tls": _tls(store.tls),
    }


def _web_search(search: WebSearch | None) -> dict[str, Any] | None:
    if search is None:
        return None
    return {
        "provider": search.provider,
        "base_url": search.base_url,
        "options": search.options,
        "api_key_ref": reference(search.api_key_secret_ref),
    }


def _log_stream(stream: LogStream) -> dict[str, Any]:
    return {
        "level": stream.level,
        "storage": {"sinks": sorted(stream.storage.sinks), "path": stream.storage.path},
        "retention": stream.retention_days,
    }
