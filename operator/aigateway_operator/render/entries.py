"""One VirtualModel → its entry in `ai-gateway.virtual_models`, as canonical text, with the references it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from aigateway_config import documents
from aigateway_operator.api.fields import SecretKeyRef
from aigateway_operator.api.virtualmodel import Backend, VirtualModelSpec
from aigateway_operator.render.canonical import encode
from aigateway_operator.render.references import SecretRef, credential_key, secret_of


@dataclass(frozen=True, slots=True)
class Entry:
    """A rendered model.

    `text` is the canonical JSON of the mapping under `model_name`. `credentials` maps the credentials files it names to the
    Secret and key behind them, None where the file name is hashed and was read back from a document.
    """

    model_name: str
    text: str
    use: bool
    credentials: Mapping[str, SecretRef | None]


def reference(ref: SecretKeyRef | None) -> str | None:
    """Return the credentials file of a reference; None for no reference."""
    return None if ref is None else credential_key(SecretRef(ref.name, ref.key))


def render_entry(spec: VirtualModelSpec, model_name: str) -> Entry:
    """Render an accepted spec. Defaults are applied here: a backend without a URL gets the model's."""
    refs = [spec.proxy_key_secret_ref, *(backend.api_key_secret_ref for backend in spec.backends)]
    secrets = tuple(SecretRef(ref.name, ref.key) for ref in refs if ref is not None)
    mapping: dict[str, Any] = {
        "use": spec.use,
        "current": spec.current,
        "base_url": spec.base_url,
        "proxy_key_ref": reference(spec.proxy_key_secret_ref),
    }
    mapping.update({backend.name: _render_backend(backend, spec) for backend in spec.backends})
    return Entry(model_name, encode(mapping), spec.use, _named(secrets))


@lru_cache(maxsize=1024)
def _named(refs: tuple[SecretRef, ...]) -> Mapping[str, SecretRef]:
    """Return the credentials files of references: one mapping for all models that name the same, since many do."""
    return {credential_key(ref): ref for ref in refs}


def _render_backend(backend: Backend, spec: VirtualModelSpec) -> dict[str, Any]:
    return {
        "model": backend.model,
        "base_url": backend.base_url if backend.base_url is not None else spec.base_url,
        "api_key_ref": reference(backend.api_key_secret_ref),
        "parameters": backend.parameters,
    }


def read_entry(model_name: str, mapping: Mapping[str, Any]) -> Entry:
    """Return the entry that `mapping`, read back from a document, stands for.

    Raises pydantic.ValidationError when it is not an entry of this schema major.
    """
    entry = documents.VirtualModelEntry.model_validate(dict(mapping))
    named = [entry.proxy_key_ref, *(backend.api_key_ref for backend in entry.backends.values())]
    return Entry(model_name, encode(dict(mapping)), entry.use, {name: secret_of(name) for name in named if name is not None})
