"""What to probe for one gateway: from its spec, the state of its Secrets, and the backends of models that ask for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from aigateway_operator.api.fields import SecretKeyRef
from aigateway_operator.api.gatewayconfig import GatewayConfigSpec, MongoDB, Qdrant, Redis
from aigateway_operator.api.virtualmodel import VirtualModelSpec
from aigateway_operator.plan.health import BackendTarget, Probing, Schedule, StoreName, StoreTarget
from aigateway_operator.plan.secret_state import SecretState

Store = MongoDB | Redis | Qdrant
Backends = tuple[tuple[str, BackendTarget], ...]
"""Backend name → where it listens, in order of name."""

_PORTS = {"http": 80, "https": 443}


def enabled_stores(spec: GatewayConfigSpec) -> dict[StoreName, Store]:
    """Return the stores that are named and not switched off."""
    named: dict[StoreName, Store | None] = {
        "mongodb": spec.storage.mongodb,
        "redis": spec.storage.redis,
        "qdrant": spec.storage.qdrant,
    }
    return {name: store for name, store in named.items() if store is not None and store.enabled}


def probing_of(spec: GatewayConfigSpec, secrets: Mapping[str, SecretState], probed: Iterable[Backends]) -> Probing:
    """Return everything that is to be probed; a store whose Secrets could not be read yet is left out."""
    stores = {name: _target(name, store, secrets) for name, store in enabled_stores(spec).items()}
    probes = spec.probes
    return Probing(
        Schedule(float(probes.period_seconds), float(probes.timeout_seconds), probes.failure_threshold),
        {name: target for name, target in stores.items() if target is not None},
        frozenset(target for backends in probed for _, target in backends),
    )


def backends_of(spec: VirtualModelSpec) -> Backends:
    """Return where the backends of a model listen; empty unless the model asks for probes."""
    if not spec.probe.enabled:
        return ()
    urls = {backend.name: backend.base_url or spec.base_url for backend in spec.backends}
    return tuple(sorted((name, _backend(url)) for name, url in urls.items() if url is not None))


def _backend(url: str) -> BackendTarget:
    parts = urlsplit(url)
    return BackendTarget(parts.hostname or "", parts.port or _PORTS[parts.scheme], parts.scheme == "https")


def _target(name: StoreName, store: Store, secrets: Mapping[str, SecretState]) -> StoreTarget | None:
    """Return the target of one store, None while a Secret it needs could not be read."""
    credential = store.api_key_secret_ref if isinstance(store, Qdrant) else store.password_secret_ref
    tls = store.tls is not None and store.tls.enabled
    ca = store.tls.ca_secret_ref if store.tls is not None and tls else None
    refs = [ref for ref in (credential, ca) if ref is not None]
    if not all(_state(ref, secrets).known for ref in refs):
        return None
    missing = [text for ref in refs if (text := _missing(ref, secrets)) is not None]
    username = store.username if isinstance(store, MongoDB) else None
    if username is not None and credential is None:
        missing.append("username is set and passwordSecretRef is not")
    return StoreTarget(
        name,
        store.host,
        store.port,
        username=username,
        password=_value(credential, secrets),
        auth_source=store.auth_source if isinstance(store, MongoDB) else "",
        database=store.database if isinstance(store, MongoDB) else "",
        collection=store.collection if isinstance(store, Qdrant) else "",
        tls=tls,
        ca=_value(ca, secrets),
        missing=tuple(missing),
    )


def _state(ref: SecretKeyRef, secrets: Mapping[str, SecretState]) -> SecretState:
    return secrets.get(ref.name, SecretState(known=False, exists=False))


def _value(ref: SecretKeyRef | None, secrets: Mapping[str, SecretState]) -> bytes | None:
    return None if ref is None else _state(ref, secrets).values.get(ref.key)


def _missing(ref: SecretKeyRef, secrets: Mapping[str, SecretState]) -> str | None:
    """Say what is not there, None if it is."""
    state = _state(ref, secrets)
    if state.refused_type is not None:
        return f"Secret '{ref.name}' is of a type that is never read"
    if not state.exists:
        return f"Secret '{ref.name}' does not exist"
    return None if ref.key in state.values else f"Secret '{ref.name}' has no key '{ref.key}'"
