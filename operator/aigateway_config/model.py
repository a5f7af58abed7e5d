"""A virtual model and its backends as a gateway uses them: frozen, small, with credentials in place.

Made by the state machine from verified documents; no I/O, no parsing. A model that is the same in two configurations is the
same object, so that comparing configurations is cheap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

from pydantic import JsonValue, SecretStr
from pydantic_core import to_json

from aigateway_config import documents
from aigateway_config.layout import parse_object

_EMPTY: Final[Mapping[str, JsonValue]] = MappingProxyType({})
_FIXED: Final = frozenset(documents.VirtualModelEntry.model_fields)


@dataclass(frozen=True, slots=True, eq=False)
class Backend:
    """One upstream of a model."""

    name: str
    """Name of the backend inside the model."""
    model: str
    """Name of the model as the upstream knows it."""
    base_url: str
    """OpenAI-compatible base URL: the backend's own or, where it names none, the model's."""
    api_key_ref: str | None
    """Credentials file of the key; None: send no Authorization header."""
    api_key: SecretStr | None = field(repr=False)
    """Key to present; None with an `api_key_ref`: the Secret is missing, answer 503."""
    parameters: Mapping[str, JsonValue] = field(repr=False)
    """Request defaults to merge in. Read only: copy before changing."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One virtual model. Compare by identity: unchanged between two configurations, it is the same object."""

    name: str
    """Public name."""
    use: bool
    """False: switched off; callers get 404 model_not_found."""
    current: str
    """Name of the live backend."""
    base_url: str | None
    """Base URL as the document gives it for backends that name none."""
    proxy_key_ref: str
    """Credentials file of the key callers must present."""
    proxy_key: SecretStr | None = field(repr=False)
    """Key callers must present; None: the Secret is missing, answer 401."""
    backends: Mapping[str, Backend] = field(repr=False)
    """Backends by name. Read only."""
    fingerprint: bytes = field(repr=False)
    """Stands for name and entry as the document has them, credentials aside."""

    @property
    def live(self) -> Backend:
        """The backend that `current` names."""
        return self.backends[self.current]

    def refs(self) -> set[str]:
        """Return the credentials files that the model names."""
        return {self.proxy_key_ref, *(backend.api_key_ref for backend in self.backends.values() if backend.api_key_ref)}

    def bound(self, secrets: Mapping[str, SecretStr], renewed: dict[int, Mapping[str, Backend]] | None = None) -> Model:
        """Return the model with the credentials of now; itself when none of them differs.

        renewed: what became of the backends of other models, by the id of those of before, which are still there: models that
        shared them go on sharing. None: of no other model.
        """
        proxy_key = secrets.get(self.proxy_key_ref)
        keys = {
            name: secrets.get(backend.api_key_ref) if backend.api_key_ref else None for name, backend in self.backends.items()
        }
        if proxy_key is self.proxy_key and all(keys[name] is backend.api_key for name, backend in self.backends.items()):
            return self
        backends = None if renewed is None else renewed.get(id(self.backends))
        if backends is None:
            backends = MappingProxyType({name: replace(one, api_key=keys[name]) for name, one in self.backends.items()})
            if renewed is not None:
                renewed[id(self.backends)] = backends
        return replace(self, proxy_key=proxy_key, backends=backends)


class _Shared:
    """What models of one document say alike, in one copy: texts, parameters, backends. Nothing of it is ever changed."""

    def __init__(self, secrets: Mapping[str, SecretStr]) -> None:
        self._secrets = secrets
        self._texts: dict[str, str] = {}
        self._parameters: dict[bytes, Mapping[str, JsonValue]] = {b"{}": _EMPTY}
        self._backends: dict[tuple[object, ...], Backend] = {}
        self._mappings: dict[tuple[Backend, ...], Mapping[str, Backend]] = {}

    def text(self, text: str) -> str:
        """Return a text that is equal."""
        return self._texts.setdefault(text, text)

    def maybe(self, text: str | None) -> str | None:
        """Return a text that is equal, None for none."""
        return None if text is None else self.text(text)

    def secret(self, ref: str | None) -> SecretStr | None:
        """Return a credential, None where it is not there."""
        return None if ref is None else self._secrets.get(ref)

    def backends(self, entries: Mapping[str, documents.Backend]) -> Mapping[str, Backend]:
        """Return the backends of an entry."""
        found = tuple(self._backend(name, entry) for name, entry in entries.items())
        mapping = self._mappings.get(found)
        if mapping is None:
            mapping = self._mappings[found] = MappingProxyType({backend.name: backend for backend in found})
        return mapping

    def _backend(self, name: str, entry: documents.Backend) -> Backend:
        # By their JSON, since 1, 1.0 and true are equal in Python and not the same to an upstream.
        parameters = to_json(entry.parameters)
        key = (name, entry.model, entry.base_url, entry.api_key_ref, parameters)
        known = self._backends.get(key)
        if known is None:
            known = self._backends[key] = Backend(
                name=self.text(name),
                model=self.text(entry.model),
                base_url=self.text(entry.base_url),
                api_key_ref=self.maybe(entry.api_key_ref),
                api_key=self.secret(entry.api_key_ref),
                parameters=self._parameters.setdefault(parameters, MappingProxyType(entry.parameters)),
            )
        return known


def parse_models(pieces: Iterable[bytes], known: Mapping[str, Model], secrets: Mapping[str, SecretStr]) -> dict[str, Model]:
    """Return the models of a document by name, those of `known` that are the same as they are, credentials included.

    pieces: a member `"name":{…}` of the mapping of models each. secrets: credentials for new models, as far as they are there.
    Raises ValueError for a piece that is none, pydantic.ValidationError (a ValueError too) for an entry that is none.
    """
    same = {model.fingerprint: model for model in known.values()}
    shared = _Shared(secrets)
    models: dict[str, Model] = {}
    for piece in pieces:
        fingerprint = blake2b(piece, digest_size=16).digest()
        model = same.get(fingerprint) or _parse_model(piece, fingerprint, shared)
        models[model.name] = model
    return models


def _parse_model(piece: bytes, fingerprint: bytes, shared: _Shared) -> Model:
    [(name, entry)] = parse_object(b"{%b}" % piece).items()
    # A later minor may add fixed keys; a backend is a mapping, so anything else beside the keys of today is one of those.
    if isinstance(entry, dict):
        entry = {key: value for key, value in entry.items() if key in _FIXED or isinstance(value, dict)}
    parsed = documents.VirtualModelEntry.model_validate(entry)
    return Model(
        name=name,
        use=parsed.use,
        current=shared.text(parsed.current),
        base_url=shared.maybe(parsed.base_url),
        proxy_key_ref=shared.text(parsed.proxy_key_ref),
        proxy_key=shared.secret(parsed.proxy_key_ref),
        backends=shared.backends(parsed.backends),
        fingerprint=fingerprint,
    )
